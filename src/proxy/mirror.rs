//! Copies of requests for another group, and what their answers differ in. The real answer never waits for them.
//!
//! Which requests are copied and how answers are compared is decided in `fanout`. Called by `staged`.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::snapshot::Rule;

/// Sends a copy, where the rule's share says so.
///
/// # Errors
/// What goes wrong with the request's body while it is collected.
pub async fn copy(_x: &mut Exchange<'_>, _rule: &Rule) -> Result<(), Fault> {
    Ok(())
}
