//! The rules of a shared cache: what may be stored, for how long, for whom, and what is answered from it (RFC 9111).
//!
//! Pure decisions over heads and times: nothing here holds an octet of a body, or knows where responses lie. A request is judged
//! by [`Ask::of`] and named by [`Key::of`]; a stored response is chosen by [`Vary`], judged by [`judge`], turned into an answer by
//! [`given`]. A response is judged by [`storable`] and kept as the lines of [`lines::kept`]; a 304 renews it ([`update`]), a change
//! of its resource ends it ([`invalidate`]). The octets lie in `store`, the walk is `proxy::cached`'s.

pub mod age;
pub mod ask;
pub mod conditional;
pub mod control;
pub mod date;
pub mod invalidate;
pub mod key;
pub mod lines;
pub mod meters;
pub mod range;
pub mod seen;
pub mod settings;
pub mod status;
pub mod storable;
pub mod targeted;
pub mod update;
pub mod vary;

pub use age::{Meta, Times, Verdict, judge, stale_if_error};
pub use ask::{Ask, Bypass, Request};
pub use conditional::{Given, given};
pub use key::{Key, Origin};
pub use meters::Meters;
pub use seen::Seen;
pub use settings::{Global, KeySettings, Query, Settings};
pub use status::{Forwarded, Status};
pub use storable::{Why, storable};
pub use vary::Vary;

#[cfg(test)]
mod tests;
