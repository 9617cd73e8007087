//! What one consumer has used of its quota: exact for the machine, without a lock.
//!
//! One word holds the period's number and the count in it, so that a request that finds a new period begins it and is counted
//! in it in one step. Two words, by the period's last bit, keep the period before until the ledger has read it. The words of
//! a consumer are shared by the workers that serve it at this moment, and by nobody else.

use crate::policy::api_key::period::Period;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The highest count; a quota is at most this.
pub const MOST: u64 = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 40;
const PERIOD_MASK: u32 = (1 << (64 - COUNT_BITS)) - 1;

/// The counters of one consumer.
#[derive(Debug)]
pub struct Meter {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The consumer's name.
    pub consumer: Arc<str>,
    /// What its count is of.
    pub period: Period,
    words: Words,
}

// A line of its own: neighbours are other consumers'.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Words([AtomicU64; 2]);

/// What was taken in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The period's number.
    pub number: u32,
    /// How much.
    pub count: u64,
}

impl Taken {
    fn of(word: u64) -> Taken {
        Taken { number: (word >> COUNT_BITS) as u32, count: word & MOST }
    }

    fn word(self) -> u64 {
        u64::from(self.number & PERIOD_MASK) << COUNT_BITS | self.count.min(MOST)
    }
}

impl Meter {
    /// A meter at zero.
    pub fn new(policy: Arc<str>, consumer: Arc<str>, period: Period) -> Meter {
        Meter { policy, consumer, period, words: Words::default() }
    }

    /// Takes one in the period `number`, if less than `limit` was taken in it; what was taken then.
    ///
    /// # Errors
    /// What was taken, where that is all.
    #[inline]
    pub fn take(&self, number: u32, limit: u64) -> Result<u64, u64> {
        let limit = limit.min(MOST);
        let word = self.word(number);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let before = in_period(Taken::of(seen), number);
            if before.count >= limit {
                return Err(before.count);
            }
            let after = Taken { count: before.count + 1, ..before };
            match word.compare_exchange_weak(
                seen,
                after.word(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(after.count),
                Err(now) => seen = now,
            }
        }
    }

    /// Counts what was taken before, as the ledger has it. Whether it is of use: a later period may have begun.
    pub fn add(&self, number: u32, count: u64) -> bool {
        let add = |seen: u64| {
            let before = in_period(Taken::of(seen), number);
            let after = Taken { count: before.count.saturating_add(count), ..before };
            (before.number == number).then(|| after.word())
        };
        self.word(number).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// What was taken in the last two periods in which anything was.
    pub fn taken(&self) -> [Taken; 2] {
        let [even, odd] = &self.words.0;
        [even, odd].map(|word| Taken::of(word.load(Ordering::Relaxed)))
    }

    fn word(&self, number: u32) -> &AtomicU64 {
        let [even, odd] = &self.words.0;
        if number & 1 == 0 { even } else { odd }
    }
}

// A new period begins at zero. A clock that was set back counts on in the period that there was.
fn in_period(seen: Taken, number: u32) -> Taken {
    if seen.number < number { Taken { number, count: 0 } } else { seen }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::api_key::period::Every;

    fn meter() -> Meter {
        let period = Period { every: Every::Day, offset: 0 };
        Meter::new("keys".into(), "acme".into(), period)
    }

    #[test]
    fn takes_up_to_the_limit_of_each_period() {
        let meter = meter();
        assert_eq!([1, 2, 3].map(|_| meter.take(7, 2)), [Ok(1), Ok(2), Err(2)]);
        assert_eq!([1, 2, 3].map(|_| meter.take(8, 2)), [Ok(1), Ok(2), Err(2)]);
        let counts = meter.taken().map(|t| (t.number, t.count));
        assert_eq!(counts, [(8, 2), (7, 2)], "the period before is there to be read");
        assert_eq!(meter.take(9, 2), Ok(1));
        assert_eq!(meter.take(7, 2), Ok(2), "a clock that was set back does not refill");
        assert_eq!(meter.take(7, 2), Err(2));
        assert_eq!(meter.take(9, 0), Err(2));
    }

    #[test]
    fn what_was_taken_before_is_added_once_its_period_is_current() {
        let meter = meter();
        assert!(meter.add(4, 10));
        assert_eq!(meter.take(4, 11), Ok(11));
        assert!(meter.add(4, 5) && meter.take(4, 16) == Err(16));
        assert!(!meter.add(2, 5), "a period that is over");
        assert!(meter.add(4, u64::MAX) && meter.take(4, u64::MAX) == Err(MOST), "no overflow");
    }

    // RL-01: exact for the machine.
    #[test]
    fn two_threads_together_take_exactly_the_limit() {
        let meter = meter();
        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let take = || (0..30_000).filter(|_| meter.take(3, 40_000).is_ok()).count();
                    scope.spawn(move || take() as u64)
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 40_000);
        assert_eq!(meter.taken()[1], Taken { number: 3, count: 40_000 });
    }

    #[test]
    fn a_meter_is_two_lines() {
        assert_eq!(size_of::<Meter>(), 128);
    }
}
