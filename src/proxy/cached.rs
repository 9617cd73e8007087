//! Answers from the store, and what is put into it.
//!
//! What may be stored and given is decided in `cache`, the octets lie in `store`. Called by `staged` before a request is sent on,
//! and by `shape` for its response.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::snapshot::Rule;

/// A response that is being stored as it passes. Dropped before its end it is forgotten (hazard CACHE-07).
#[derive(Debug, Default)]
pub struct Filling {}

impl Filling {
    /// Keeps octets of the body.
    pub fn data(&mut self, _octets: &[u8]) {}

    /// The body is whole: the response may be given to others.
    pub fn end(&mut self) {}
}

/// Begins to store the parsed response, whose head is `head`, where it may be.
pub fn fill(_x: &mut Exchange<'_>, _head: &[u8]) -> Option<Filling> {
    None
}

/// Answers from the store, where it can (`true`).
///
/// # Errors
/// Those of sending an answer.
pub async fn answer(_x: &mut Exchange<'_>, _rule: &Rule) -> Result<bool, Fault> {
    Ok(false)
}
