//! What a target has in flight, and how long it takes: told to all workers, for algorithms that look at it.
//!
//! One [`Load`] an attempt, from when its target was picked (so that a connection that is slow to open counts, too) until it
//! has ended. What follows from it is decided in `balance`. Called by `forward` and `multiplex`; by `dial` for connections.

use crate::balance::Sample;
use crate::base::Tick;
use crate::http::Fault;
use crate::http::fault::Party;
use crate::proxy::Exchange;
use crate::proxy::finish::Active;
use crate::proxy::forward::Failure;
use crate::shard::TargetCore;
use crate::shard::epoch::GroupCore;
use crate::snapshot::{GroupLive, TargetLive};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A request in flight on a target, until it is dropped.
pub struct Load<'a> {
    _active: [Active<'a>; 2],
    counted: Option<&'a TargetLive>,
    total: Option<&'a GroupLive>,
    timed: Option<(&'a TargetLive, Tick)>,
}

impl<'a> Load<'a> {
    /// Counts one; for other workers, too, if the group's algorithm asks for that.
    #[inline]
    pub fn count(worker: usize, group: &'a GroupCore, target: &'a TargetCore) -> Load<'a> {
        let group = &*group.group;
        let live = &*target.live;
        let _active = [&group.live.meters, &live.meters].map(|m| Active::begin(m.cell(worker)));
        if !group.counts_load() {
            return Load { _active, counted: None, total: None, timed: None };
        }
        live.load.fetch_add(1, Ordering::Relaxed);
        let total = group.counts_total().then(|| &*group.live);
        if let Some(total) = total {
            total.load.fetch_add(1, Ordering::Relaxed);
        }
        let timed = group.notes_time().then(|| (live, Tick::now()));
        Load { _active, counted: Some(live), total, timed }
    }

    /// The head of a response is there, to a request that was sent whole.
    #[inline]
    pub fn answered(&self, x: &Exchange<'_>) {
        let Some((target, _)) = self.timed else { return };
        let trace = &x.scratch.trace;
        let (Some(sent), Some(answered)) = (trace.sent, trace.answered) else { return };
        let took = answered.since(sent);
        let refused = trace.target_status.is_some_and(|status| status >= 500);
        let sample = if refused { Sample::Refused(took) } else { Sample::Answered(took) };
        target.time.note(sample, answered);
    }

    /// The attempt has failed, or its answer is not wanted. A connection that was closed while it was idle says nothing about
    /// its target.
    pub fn failed(&self, x: &Exchange<'_>, failure: Failure, reused: bool) {
        match failure {
            Failure::Dead(_) if reused => {}
            Failure::Final(Fault::DeadlineExceeded) if x.scratch.trace.overdue => {
                self.note_failed()
            }
            Failure::Dead(fault) | Failure::Final(fault) => self.not_opened(fault),
            Failure::Unprocessed(_) | Failure::Refused(_) => {}
            Failure::Unwanted => self.answered(x),
        }
    }

    /// No connection could be opened. A deadline says nothing: others may have used up what there was of time.
    pub fn not_opened(&self, fault: Fault) {
        if fault.party() == Party::Target && fault != Fault::DeadlineExceeded {
            self.note_failed();
        }
    }

    fn note_failed(&self) {
        let Some((target, began)) = self.timed else { return };
        let now = Tick::now();
        target.time.note(Sample::Failed(now.since(began)), now);
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        if let Some(target) = self.counted {
            target.load.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(group) = self.total {
            group.load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Notes how long a connection took to open, or that it did not: of what is relayed nothing else is known.
pub fn dialled(group: &GroupCore, target: &TargetCore, took: Duration, fault: Option<Fault>) {
    if !group.group.notes_time() {
        return;
    }
    let sample = match fault {
        None => Sample::Answered(took),
        Some(fault) if fault.party() == Party::Target => Sample::Failed(took),
        Some(_) => return,
    };
    target.live.time.note(sample, Tick::now());
}
