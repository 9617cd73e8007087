//! What is changed on the way: targets, fields, cookies, bodies and content codings.
//!
//! Pure; `proxy` applies it to heads and bodies. One template language (`template`) is used wherever text is made of a request.

pub mod bandwidth;
pub mod captures;
pub mod compress;
pub mod cookies;
pub mod escape;
pub mod fields;
pub mod json;
pub mod page;
pub mod query;
pub mod rewrite;
pub mod template;

pub use captures::Captures;
pub use escape::Place;
pub use page::ResponseSettings;
pub use rewrite::RequestSettings;
pub use template::{Facts, Scope, Template};
