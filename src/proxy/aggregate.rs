//! One answer made of the answers of several groups, which are asked at the same time.
//!
//! How parts are merged, and what becomes of those that fail, is decided in `fanout`. Called by `exchange`.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::snapshot::{Aggregate, Rule};

/// Asks all parts and answers.
///
/// # Errors
/// The fault of a part that must not fail; those of sending an answer.
pub async fn answer(
    _x: &mut Exchange<'_>,
    _rule: Option<&Rule>,
    _parts: &Aggregate,
) -> Result<(), Fault> {
    Err(Fault::Internal)
}
