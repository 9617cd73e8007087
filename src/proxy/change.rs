//! What rules change in requests and responses: written into what is sent, when it is known.
//!
//! How it is changed is decided in `transform`. Called by `staged` for requests, by `shape` and `receive` for responses.

use crate::http::Fault;
use crate::net::{Buf, Sock};
use crate::proxy::Exchange;
use crate::snapshot::Rule;
use std::time::Duration;

/// Sets what the target is sent instead of what the client has sent, body included.
///
/// # Errors
/// What goes wrong with the body while it is collected, or with what it should become.
pub async fn request(_x: &mut Exchange<'_>, _rule: &Rule) -> Result<(), Fault> {
    Ok(())
}

/// Replaces or maps the body of the parsed response, whose head is the first `head` octets of `up`: it is behind the head then, with
/// its length. Whether what it became depends on the request.
///
/// # Errors
/// What goes wrong while it is collected.
pub async fn body(
    _x: &mut Exchange<'_>,
    _sock: &Sock,
    _up: &mut Buf,
    _head: usize,
    _stall: Duration,
) -> Result<bool, Fault> {
    Ok(false)
}

/// Changes the status and the fields of the parsed response, whose head is `head`.
pub fn dress(_x: &mut Exchange<'_>, _head: &[u8]) {}
