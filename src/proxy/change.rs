//! What rules change in requests and responses: written into what is sent, when it is known.
//!
//! How it is changed is decided in `transform`. Called by `staged` for requests, by `shape` and `receive` for responses.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::snapshot::Rule;

/// Sets what the target is sent instead of what the client has sent, body included.
///
/// # Errors
/// What goes wrong with the body while it is collected, or with what it should become.
pub async fn request(_x: &mut Exchange<'_>, _rule: &Rule) -> Result<(), Fault> {
    Ok(())
}
