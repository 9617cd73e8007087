//! When keys are fetched again, and how long those that are known may be used. Pure: it is given the time and the dice.
//!
//! While all is well, every `refresh`; after failures sooner, the wait doubled each time; on behalf of unknown keys in tokens at
//! most once a minute, so that nobody makes us hammer a provider with made-up names (hazard AUTH-05). Each wait is shortened or
//! stretched a little, so that many gateways do not ask at the same moment. Called by `jwks`.

use crate::base::Tick;
use std::time::Duration;

/// After the first failure; doubled with each further one.
const LEAST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait after failures.
const MOST_RETRY: Duration = Duration::from_secs(60);
/// Between two fetches on behalf of unknown keys.
pub const WISH_EVERY: Duration = Duration::from_secs(60);

/// When keys of one origin are fetched.
#[derive(Debug)]
pub struct Schedule {
    refresh: Duration,
    max_stale: Duration,
    next: Tick,
    failures: u32,
    wished: bool,
    last_wish: Option<Tick>,
    good_since: Option<Tick>,
}

impl Schedule {
    /// The first fetch is due at once.
    pub fn new(refresh: Duration, max_stale: Duration, now: Tick) -> Schedule {
        Schedule {
            refresh,
            max_stale,
            next: now,
            failures: 0,
            wished: false,
            last_wish: None,
            good_since: None,
        }
    }

    /// Notes that a worker has met a key that is not known. It is not forgotten before it was looked for.
    pub fn wish(&mut self) {
        self.wished = true;
    }

    /// Whether to fetch now; if so, that is taken as done.
    pub fn is_due(&mut self, now: Tick) -> bool {
        let free = self.last_wish.is_none_or(|last| now >= last.after(WISH_EVERY));
        let by_wish = self.wished && free;
        if by_wish {
            self.last_wish = Some(now);
        }
        let due = by_wish || now >= self.next;
        if due {
            self.wished = false;
        }
        due
    }

    /// A fetch brought keys. `dice` is between 0 and 1.
    pub fn succeeded(&mut self, now: Tick, dice: f64) {
        self.failures = 0;
        self.good_since = Some(now);
        self.next = now.after(self.refresh.mul_f64(0.9 + dice * 0.1));
    }

    /// A fetch brought none.
    pub fn failed(&mut self, now: Tick, dice: f64) {
        let wait = LEAST_RETRY.saturating_mul(1 << self.failures.min(10));
        let wait = wait.min(MOST_RETRY).min(self.refresh);
        self.failures = self.failures.saturating_add(1);
        self.next = now.after(wait.mul_f64(0.8 + dice * 0.4));
    }

    /// How many fetches have failed since the last that did not.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether keys that are known are too old to be used.
    pub fn is_stale(&self, now: Tick) -> bool {
        self.good_since.is_some_and(|since| now.since(since) > self.max_stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Tick {
        Tick::ZERO.after(Duration::from_secs_f64(seconds))
    }

    fn schedule() -> Schedule {
        Schedule::new(Duration::from_secs(300), Duration::from_secs(3600), at(0.0))
    }

    #[test]
    fn fetches_at_once_then_every_refresh() {
        let mut schedule = schedule();
        assert!(schedule.is_due(at(0.0)));
        schedule.succeeded(at(0.0), 1.0);
        assert!(!schedule.is_due(at(299.0)));
        assert!(schedule.is_due(at(300.0)));
        schedule.succeeded(at(300.0), 0.0);
        assert!(schedule.is_due(at(570.0)));
    }

    #[test]
    fn waits_longer_after_each_failure_within_bounds() {
        let (mut schedule, mut now) = (schedule(), 0.0);
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            schedule.failed(at(now), 0.5);
            assert!(!schedule.is_due(at(now + expected - 0.01)), "{expected}");
            now += expected;
            assert!(schedule.is_due(at(now)), "{expected}");
        }
        assert_eq!(schedule.failures(), 8);
        schedule.succeeded(at(now), 1.0);
        schedule.failed(at(now), 0.0);
        assert!(schedule.is_due(at(now + 0.8)) && schedule.failures() == 1);
    }

    #[test]
    fn unknown_keys_are_looked_for_at_most_once_a_minute() {
        let mut schedule = Schedule::new(Duration::from_secs(86_400), Duration::MAX, at(0.0));
        schedule.succeeded(at(0.0), 1.0);
        let mut fetched = Vec::new();
        for tenth in 0..3_000 {
            let now = at(f64::from(tenth) / 10.0);
            schedule.wish();
            if schedule.is_due(now) {
                fetched.push(tenth / 10);
                schedule.succeeded(now, 1.0);
            }
        }
        assert_eq!(fetched, [0, 60, 120, 180, 240]);
        // One that came too early is not forgotten.
        schedule.wish();
        assert!(!schedule.is_due(at(299.9)) && schedule.is_due(at(300.0)));
    }

    #[test]
    fn keys_become_stale_when_they_were_not_fetched_again() {
        let mut schedule = schedule();
        assert!(!schedule.is_stale(at(1e6)), "there are none");
        schedule.succeeded(at(0.0), 1.0);
        schedule.failed(at(300.0), 0.5);
        assert!(!schedule.is_stale(at(3600.0)));
        assert!(schedule.is_stale(at(3600.5)));
        schedule.succeeded(at(3601.0), 0.5);
        assert!(!schedule.is_stale(at(3602.0)));
    }
}
