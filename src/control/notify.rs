//! What a service manager is told: ready, reloading, stopping, and that all workers are alive (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent. Workers take no part: what their pulses show is judged
//! here. Called by the control loop.

use crate::base::Tick;
use crate::shard::{Pulse, Seat};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A worker whose sweep has not run for this long is not well, and the watchdog is not fed.
const FRESH: Duration = Duration::from_secs(2);

/// The way to the service manager.
#[derive(Debug, Default)]
pub struct Notify {
    /// How often the watchdog wants to be fed; `None` without one.
    every: Option<Duration>,
    fed: Tick,
    /// Readiness was told.
    ready: bool,
}

impl Notify {
    /// As the environment asks: the watchdog is fed twice as often as it must be.
    pub fn from_environment() -> Notify {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2);
        Notify { every, ..Notify::default() }
    }

    /// Looked at often: tells readiness once, and feeds the watchdog when it is due and `alive` holds.
    pub fn look(&mut self, now: Tick, ready: impl FnOnce() -> bool, alive: impl FnOnce() -> bool) {
        if !self.ready && ready() {
            self.ready = true;
            tell(&[NotifyState::Ready]);
        }
        let due = self.every.is_some_and(|every| now.since(self.fed) >= every);
        if due && alive() {
            self.fed = now;
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// A reload begins. [`Notify::reloaded`] must follow, however it ends.
    pub fn reloading(&self) {
        if let Ok(time) = NotifyState::monotonic_usec_now() {
            tell(&[NotifyState::Reloading, time]);
        }
    }

    /// The reload is over. A refused one ends here too: what was served before is served still.
    pub fn reloaded(&self, accepted: bool) {
        let status = if accepted { "serving" } else { "serving; the last reload was refused" };
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// No new connections from now on.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

/// Whether every worker that has a place has swept lately. One that hung and was replaced has none.
pub fn alive(pulses: &[Arc<Pulse>], now: Tick) -> bool {
    let mut placed =
        pulses.iter().filter(|p| !matches!(p.seat.get(), Seat::Vacant | Seat::Retired));
    placed.all(|pulse| {
        let beat = Tick::from_nanos(pulse.beat.load(Ordering::Relaxed));
        beat > Tick::ZERO && now.since(beat) < FRESH
    })
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told {state:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Hazard OPS-21.
    #[test]
    fn one_stale_worker_is_enough_to_starve_the_watchdog() {
        let pulses: Vec<Arc<Pulse>> = vec![Arc::default(), Arc::default()];
        pulses.iter().for_each(|p| p.seat.set(Seat::Serving));
        let at = |pulse: &Arc<Pulse>, tick: Tick| pulse.beat.store(tick.nanos(), Ordering::Relaxed);
        let now = Tick::from_nanos(10_000_000_000);
        assert!(!alive(&pulses, now), "no sweep yet");
        pulses.iter().for_each(|pulse| at(pulse, now));
        assert!(alive(&pulses, now));
        let later = now.after(FRESH);
        at(&pulses[0], later);
        assert!(!alive(&pulses, later), "the second has stood still");
        at(&pulses[1], later);
        assert!(alive(&pulses, later));
    }

    #[test]
    fn the_watchdog_is_asked_about_only_when_it_is_due() {
        let mut notify = Notify { every: Some(Duration::from_secs(1)), ..Notify::default() };
        let start = Tick::from_nanos(5_000_000_000);
        let mut asked = 0;
        for step in 0..40 {
            let now = start.after(Duration::from_millis(100 * step));
            notify.look(
                now,
                || true,
                || {
                    asked += 1;
                    true
                },
            );
        }
        assert_eq!(asked, 4);
        assert!(notify.ready);
    }
}
