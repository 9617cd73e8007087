//! Which content codings are taken off a response's body and put on it.
//!
//! Decided in `transform::compress`; fields that change with the coding are changed here. Called by `shape`.

use crate::proxy::Exchange;
use crate::transform::compress::{Decoder, Encoder};

/// What takes the coding off the body, where it must be read. `head` is what was parsed.
pub fn decode(_x: &mut Exchange<'_>, _head: &[u8]) -> Option<Box<Decoder>> {
    None
}

/// What puts a coding on the body. `head` is what was parsed.
pub fn encode(_x: &mut Exchange<'_>, _head: &[u8]) -> Option<Box<Encoder>> {
    None
}
