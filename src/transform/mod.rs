//! What is changed on the way: targets, fields, cookies, bodies and content codings.
//!
//! Pure; `proxy` applies it to heads and bodies. One template language (`template`) is used wherever text is made of a request.

pub mod compress;

/// What of a request is changed before a target gets it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestSettings {}

/// What of a response is changed before a client gets it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResponseSettings {}
