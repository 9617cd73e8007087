//! Which group takes a request, and which target it should go to: weights, canaries, and whom a client stays with.
//!
//! What cookies say and what is believed of them is decided in `sticky`. Called by `exchange`, `forward` and `receive`.

use crate::proxy::Exchange;
use crate::proxy::exchange::Way;
use crate::shard::epoch::GroupCore;

/// The group that takes the request, as an index into the snapshot's; `None` where no group has weight.
pub fn group(x: &mut Exchange<'_>, way: &Way<'_>) -> Option<usize> {
    match way.groups {
        [only] => Some(*only),
        several => {
            let at = x.shard.with_rng(|rng| way.weights.pick(rng))?;
            several.get(at).copied()
        }
    }
}

/// The target that the client should stay with, as an index into the group's.
#[inline]
pub fn target(_x: &Exchange<'_>, group: &GroupCore) -> Option<usize> {
    group.group.traffic.sticky.as_ref()?;
    None
}

/// A target has answered: tells the client to stay with it, where it should. `head` is what was parsed.
#[inline]
pub fn settled(_x: &mut Exchange<'_>, _head: &[u8]) {}
