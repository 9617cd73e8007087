//! What the admin endpoints show of what keeps targets from harm: who is out and why, breakers, queues.
//!
//! Read from the atomics that workers share. Called by `source`.

use crate::admin::{BreakerStat, GuardStat, OutStat, QueueStat};
use crate::base::Tick;
use crate::protect::breaker::State;
use crate::protect::outlier::Reason;
use crate::snapshot::{Group, Snapshot, TargetLive};
use std::sync::atomic::Ordering;

/// Of each group that has any of it.
pub fn stats(snapshot: &Snapshot, now: Tick) -> Vec<GuardStat> {
    let any = |group: &Group| {
        let traffic = &group.traffic;
        traffic.outlier.is_some() || traffic.breaker.is_some() || traffic.bounds.is_some()
    };
    snapshot.groups.iter().filter(|group| any(group)).map(|group| stat(group, now)).collect()
}

fn stat(group: &Group, now: Tick) -> GuardStat {
    let traffic = &group.traffic;
    GuardStat {
        group: group.name.to_string(),
        ejected: traffic.outlier.is_some().then(|| group.ejected() as u64),
        breaker: traffic.breaker.is_some().then(|| breaker(group, now)),
        queue: traffic.bounds.is_some().then(|| queue(group)),
    }
}

fn breaker(group: &Group, now: Tick) -> BreakerStat {
    let breaker = &group.live.breaker;
    let (state, since) = breaker.state();
    BreakerStat {
        state: state.name(),
        since_seconds: now.since(since).as_secs(),
        changes: State::ALL.map(|state| (state.name(), breaker.changes(state))).to_vec(),
        refused: breaker.refused(),
    }
}

fn queue(group: &Group) -> QueueStat {
    let line = &group.live.line;
    QueueStat {
        length: line.len().into(),
        waited: line.waited.load(Ordering::Relaxed),
        waited_us: line.waited_us.load(Ordering::Relaxed),
        late: line.late.load(Ordering::Relaxed),
        refused: line.refused.load(Ordering::Relaxed),
    }
}

/// Why a target is out; `None` while it is not.
pub fn out(target: &TargetLive, now: Tick) -> Option<OutStat> {
    let out = target.guard.watch.out()?;
    Some(OutStat {
        reason: out.reason.code(),
        description: out.reason.sentence(),
        since_seconds: now.since(out.since).as_secs(),
        left_seconds: out.until.since(now).as_secs(),
    })
}

/// How often a target was taken out, by reason; empty where nothing watches it.
pub fn ejections(group: &Group, target: &TargetLive) -> Vec<(&'static str, u64)> {
    let watch = &target.guard.watch;
    let watched = Reason::ALL.into_iter().filter(|_| group.traffic.outlier.is_some());
    watched.map(|reason| (reason.code(), watch.ejections(reason))).collect()
}

/// Requests that a target has in flight; `None` where they are not bounded.
pub fn in_flight(group: &Group, target: &TargetLive) -> Option<u64> {
    group.traffic.bounds.as_ref().map(|_| target.guard.requests.value().into())
}

/// Connections to a target; `None` where they are not bounded.
pub fn opened(group: &Group, target: &TargetLive) -> Option<u64> {
    let bounds = group.traffic.bounds.as_ref();
    bounds.and_then(|b| b.max_connections).map(|_| target.guard.connections.value().into())
}
