//! Which failures are tried again, when, and how much of the traffic may be second attempts.
//!
//! A request is repeated only where that is sound (RFC 9110 section 9.2.2), which the walk of attempts knows (`proxy::forward`).
//! Second attempts are paid from a budget that first ones fill, so that a target that fails is not sent a multiple of what
//! was asked for (hazard UP-09). Pure: time and randomness come in.

use crate::base::{Rng, Tick};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When a request is tried again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    /// Attempts after the first.
    pub attempts: u32,
    /// What is worth another attempt.
    pub on: On,
    /// Second attempts in ten-thousandths of the first ones.
    pub budget: u32,
    /// Second attempts a second that are always paid for, all workers together.
    pub reserve: u32,
    /// The wait before the second attempt, at most; it doubles up to the second of the two.
    pub back_off: (Duration, Duration),
    /// How long one attempt may wait for its response head; `None` for the response timeout.
    pub per_try: Option<Duration>,
    /// After how long without a response head another target is asked, too.
    pub hedge: Option<Duration>,
}

/// What is worth another attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct On {
    /// A connection that cannot be opened.
    pub connect: bool,
    /// A connection that ends before the first octet of a response.
    pub reset: bool,
    /// A response head that does not come in time.
    pub timeout: bool,
    /// These statuses, where the response does not say when to come again.
    pub statuses: Vec<RangeInclusive<u16>>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 2,
            on: On { connect: true, reset: true, timeout: true, statuses: vec![502..=504] },
            budget: 2000,
            reserve: 3,
            back_off: (Duration::from_millis(25), Duration::from_millis(250)),
            per_try: None,
            hedge: None,
        }
    }
}

impl Retry {
    /// Whether a response with this status is worth another attempt.
    pub fn takes(&self, status: u16) -> bool {
        self.on.statuses.iter().any(|range| range.contains(&status))
    }

    /// How long to wait before the attempt after `attempts` others: any time up to a bound that doubles, so that those who
    /// failed together do not come again together.
    pub fn wait(&self, attempts: u32, rng: &mut Rng) -> Duration {
        let (first, most) = self.back_off;
        let bound = first.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(most);
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(0..=nanos))
    }
}

/// One worker's part of a group's budget for second attempts: what its first attempts have paid in. It holds no more than
/// [`BURST`], so that a quiet hour does not pay for a storm.
#[derive(Debug, Default)]
pub struct Budget {
    // In ten-thousandths of an attempt.
    saved: Cell<u64>,
}

/// Second attempts that one worker's budget can hold.
pub const BURST: u64 = 100;
const ONE: u64 = 10_000;

impl Budget {
    /// A first attempt is made.
    #[inline]
    pub fn deposit(&self, retry: &Retry) {
        self.saved.set((self.saved.get() + u64::from(retry.budget)).min(BURST * ONE));
    }

    /// Pays for a second attempt, from what was saved or else from the reserve; false where there is nothing to pay with.
    pub fn withdraw(&self, retry: &Retry, reserve: &Reserve, now: Tick) -> bool {
        let saved = self.saved.get();
        if saved >= ONE {
            self.saved.set(saved - ONE);
            return true;
        }
        reserve.take(retry.reserve, now)
    }
}

/// Second attempts that are always paid for: so many a second, all workers together. It is touched only when attempts fail.
#[derive(Debug, Default)]
pub struct Reserve {
    // When all that was taken will have been earned, in nanoseconds of a tick.
    earned: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;

impl Reserve {
    /// Takes one of `per_second`; false if the last second's are used up.
    pub fn take(&self, per_second: u32, now: Tick) -> bool {
        let Some(each) = SECOND.checked_div(u64::from(per_second)) else { return false };
        let took = self.earned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |earned| {
            let next = earned.max(now.nanos()) + each;
            (next <= now.nanos() + SECOND).then_some(next)
        });
        took.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(SECOND * 100 + millis * 1_000_000)
    }

    fn of(budget: u32, reserve: u32) -> Retry {
        Retry { budget, reserve, ..Retry::default() }
    }

    #[test]
    fn second_attempts_are_a_share_of_the_first() {
        let (budget, reserve, retry) = (Budget::default(), Reserve::default(), of(2000, 0));
        let mut second = 0;
        for _ in 0..10_000 {
            budget.deposit(&retry);
            while budget.withdraw(&retry, &reserve, at(0)) {
                second += 1;
            }
        }
        assert_eq!(second, 2000);
    }

    #[test]
    fn a_quiet_time_saves_no_more_than_a_burst() {
        let (budget, reserve, retry) = (Budget::default(), Reserve::default(), of(10_000, 0));
        (0..100_000).for_each(|_| budget.deposit(&retry));
        let spent = (0..1000).filter(|_| budget.withdraw(&retry, &reserve, at(0))).count();
        assert_eq!(spent, 100);
    }

    #[test]
    fn the_reserve_is_there_every_second_for_all_workers_together() {
        let (one, other, reserve) = (Budget::default(), Budget::default(), Reserve::default());
        let retry = of(0, 4);
        let mut paid = 0;
        for ms in 0..10_000 {
            paid += u32::from(one.withdraw(&retry, &reserve, at(ms)));
            paid += u32::from(other.withdraw(&retry, &reserve, at(ms)));
        }
        assert!((40..=44).contains(&paid), "{paid}");
        let at_once = (0..100).filter(|_| one.withdraw(&retry, &reserve, at(3_600_000))).count();
        assert_eq!(at_once, 4, "an hour without any earns one second's");
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let retry = Retry::default();
        let mut rng = Rng::with_seed(7);
        for (attempts, most) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
            let longest = (0..1000).map(|_| retry.wait(attempts, &mut rng)).max().unwrap();
            assert!(longest <= Duration::from_millis(most), "{attempts}: {longest:?}");
            assert!(longest > Duration::from_millis(most * 9 / 10), "{attempts}: {longest:?}");
        }
    }

    #[test]
    fn statuses_are_ranges() {
        let retry = Retry::default();
        let taken: Vec<u16> = (200..600).filter(|status| retry.takes(*status)).collect();
        assert_eq!(taken, [502, 503, 504]);
    }
}
