//! Who may be sent another request, and what is learnt from how it ended: bounds with their queue, breakers, outliers.
//!
//! What follows from it is decided in `protect`. Called by `forward` around every attempt.

use crate::http::Fault;
use crate::proxy::Exchange;
use crate::shard::epoch::GroupCore;

/// A request that a target has in flight, until this is dropped.
#[derive(Debug, Default)]
pub struct Held {}

/// Admits a request to the target that was picked, or to another one that was not tried where that one has as many as it may.
/// `None`: all of them have.
#[inline]
pub fn admit(
    _x: &Exchange<'_>,
    _group: &GroupCore,
    place: usize,
    _tried: &[usize],
) -> Option<(usize, Held)> {
    Some((place, Held {}))
}

/// Waits until any target of the group may be sent another request.
///
/// # Errors
/// [`Fault::Shed`] when that takes too long, or too many wait already.
pub async fn queue(_x: &Exchange<'_>, _group: &GroupCore) -> Result<(), Fault> {
    Err(Fault::Shed)
}

/// Whether the group is given a rest.
///
/// # Errors
/// The fault that says so.
#[inline]
pub fn enter(_x: &Exchange<'_>, _group: &GroupCore) -> Result<(), Fault> {
    Ok(())
}

/// An attempt has ended: with an answer (`None`; its status is in the trace), or with a fault.
#[inline]
pub fn settle(_x: &Exchange<'_>, _group: &GroupCore, _place: usize, _fault: Option<Fault>) {}
