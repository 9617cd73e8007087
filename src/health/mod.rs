//! What is known of a target's health: ALB's states and reasons, driven by the outcomes of probes.
//!
//! Pure: it probes nothing and reads no clock. `control` probes and feeds a [`Tracker`] for each target of each group;
//! `snapshot` carries trackers over a reload; whom a group may use is chosen in `balance`, by what is [`usable`].

mod state;
mod tracker;

pub use state::{Outcome, Reason, State};
pub use tracker::{Thresholds, Tracker, Transition};

use crate::base::{Rng, Tick};
use std::time::Duration;

/// Whether requests may go to a target in this state while its group has not failed open. A target whose first probes
/// are still out is used; so is one that nobody probes.
pub fn usable(state: State) -> bool {
    match state {
        State::Initial | State::Healthy | State::Unavailable => true,
        State::Unhealthy | State::Unused | State::Draining => false,
    }
}

/// When the next probe starts, given when the last one did: one interval later, give or take a tenth, so that probes
/// of many targets do not fall into step. The first probe of a target starts at once. A probe that took longer than
/// the interval is followed at once by the next, which `control` sees by the tick lying in the past.
pub fn next_probe(started: Tick, interval: Duration, rng: &mut Rng) -> Tick {
    let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    let tenth = nanos / 10;
    let wait = (nanos - tenth).saturating_add(rng.u64(0..=tenth.saturating_mul(2)));
    started.after(Duration::from_nanos(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_spread_by_a_tenth_each_way() {
        let (started, interval) = (Tick::from_nanos(5), Duration::from_secs(10));
        let mut rng = Rng::with_seed(3);
        let waits: Vec<f64> = (0..1_000)
            .map(|_| next_probe(started, interval, &mut rng).since(started).as_secs_f64())
            .collect();
        assert!(waits.iter().all(|wait| (9.0..=11.0).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 9.2) && waits.iter().any(|wait| *wait > 10.8));
        assert_eq!(next_probe(started, Duration::ZERO, &mut rng), started);
        assert_eq!(next_probe(started, Duration::MAX, &mut rng), Tick::NEVER);
    }
}
