//! What is made to go wrong on purpose, for testing clients: answers that come late, answers that are errors.
//!
//! Who meets it is decided in `fanout`. Called by `staged`.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::snapshot::Rule;

/// Delays the request, or answers it (`true`).
///
/// # Errors
/// The fault that was asked for; what ends a wait.
pub async fn inject(_x: &mut Exchange<'_>, _rule: &Rule) -> Result<bool, Fault> {
    Ok(false)
}
