//! The arithmetic of a token bucket in one word: the time at which it would be full again (GCRA, "theoretical arrival time").
//!
//! A bucket holds `burst` tokens and gets one every `interval`. The word is that time in nanoseconds since the process began, or
//! in a power of two of their fractions where nanoseconds would round the interval by more than a ten-thousandth; it is rounded
//! up, so that never more passes than is allowed. A word in the past is a full bucket. Everything saturates: a clock that jumps
//! gives at most one burst, or nothing (hazard RL-06). Pure; called by `rate`.

use crate::base::Tick;
use crate::policy::key::table::BUSY;
use std::time::Duration;

/// How fast, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    // Fractions of a nanosecond, as bits.
    shift: u32,
    // Of the clock, between tokens.
    interval: u64,
    burst: u64,
    // Requests that may wait for their token.
    queue: u64,
}

/// What became of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It passes, and so may as many more as this less one.
    Tokens(u64),
    /// It passes then.
    At(Tick),
    /// It does not.
    None,
}

/// The highest rate, per second.
pub const FASTEST: u64 = 10_000_000;

// An interval of so many units is rounded by less than a ten-thousandth.
const FINE: u64 = 8192;
// The longest time in which a bucket fills, and in which a queue empties: 36 years.
const LONGEST: u64 = 1 << 60;

impl Bucket {
    /// `count` tokens in `period`, at most `burst` of them at once. `None` where that is slower than a bucket can be: `burst` of
    /// them would take more than 36 years.
    pub fn new(count: u64, period: Duration, burst: u64) -> Option<Bucket> {
        let (count, burst) = (count.max(1), burst.max(1));
        let period = u64::try_from(period.as_nanos()).ok()?;
        let exact = period.is_multiple_of(count);
        let shift = (0..16).find(|shift| exact || (period << shift) / count >= FINE)?;
        let interval = (period << shift).div_ceil(count);
        let fits = interval.checked_mul(burst).is_some_and(|whole| whole <= LONGEST);
        fits.then_some(Bucket { shift, interval, burst, queue: 0 })
    }

    /// With a queue of `waiting` requests, none of which waits longer than `longest`.
    pub fn with_queue(self, waiting: u64, longest: Duration) -> Bucket {
        let longest = self.clock(Tick::ZERO.after(longest)).min(LONGEST);
        Bucket { queue: waiting.min(longest / self.interval.max(1)), ..self }
    }

    /// With so many tokens fewer at once, which others hold.
    pub fn less(self, tokens: u64) -> Bucket {
        Bucket { burst: self.burst.saturating_sub(tokens).max(1), ..self }
    }

    /// The most tokens.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Requests that may wait.
    pub fn queue(&self) -> u64 {
        self.queue
    }

    /// Whether words mean the same in both.
    pub fn same_words(&self, other: &Bucket) -> bool {
        (self.shift, self.interval) == (other.shift, other.interval)
    }

    /// What the clock of the words says.
    #[inline]
    pub fn clock(&self, now: Tick) -> u64 {
        now.nanos().saturating_mul(1 << self.shift)
    }

    /// Takes up to `most` tokens, or a place in the queue; the new word unless nothing changes.
    #[inline]
    pub fn take(&self, word: u64, clock: u64, most: u64) -> (Option<u64>, Taken) {
        let base = word.max(clock);
        let end = clock.saturating_add(self.interval.saturating_mul(self.burst));
        let tokens = match end.saturating_sub(base) {
            room if room < self.interval => 0,
            _ if most == 1 => 1,
            room => (room / self.interval).min(most),
        };
        let wanted = tokens.max(1).saturating_mul(self.interval);
        let new = base.saturating_add(wanted);
        if new == BUSY {
            return (None, Taken::None);
        }
        if tokens > 0 {
            return (Some(new), Taken::Tokens(tokens));
        }
        // Its token is there when `new` is no more than a burst ahead.
        let wait = new.saturating_sub(end);
        if wait > self.interval.saturating_mul(self.queue) {
            return (None, Taken::None);
        }
        let at = clock.saturating_add(wait).div_ceil(1 << self.shift);
        (Some(new), Taken::At(Tick::from_nanos(at)))
    }

    /// What `tokens` add to a word.
    #[inline]
    pub fn worth(&self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.interval)
    }

    /// How long it takes at most until nothing that was counted matters any more.
    pub fn memory(&self) -> Duration {
        let units = self.interval.saturating_mul(self.burst.saturating_add(self.queue));
        Duration::from_nanos(units >> self.shift)
    }

    /// Whole tokens in the bucket.
    #[inline]
    pub fn left(&self, word: u64, clock: u64) -> u64 {
        let missing = word.saturating_sub(clock).div_ceil(self.interval.max(1));
        self.burst.saturating_sub(missing)
    }

    /// How long until it is full again.
    pub fn until_full(&self, word: u64, clock: u64) -> Duration {
        Duration::from_nanos(word.saturating_sub(clock) >> self.shift)
    }

    /// How long until the next request passes at once.
    pub fn until_next(&self, word: u64, clock: u64) -> Duration {
        let end = clock.saturating_add(self.interval.saturating_mul(self.burst));
        let next = word.max(clock).saturating_add(self.interval);
        Duration::from_nanos(next.saturating_sub(end) >> self.shift)
    }

    /// What the word of another bucket is here: as many tokens are missing, and never more than all. `None` for a full one.
    pub fn convert(&self, other: &Bucket, word: u64, now: Tick) -> Option<u64> {
        let missing = word.saturating_sub(other.clock(now)).div_ceil(other.interval.max(1));
        let missing = missing.min(self.burst).saturating_mul(self.interval);
        (missing > 0).then(|| self.clock(now).saturating_add(missing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: Duration = Duration::from_secs(86_400);

    fn bucket(count: u64, seconds: u64, burst: u64) -> Bucket {
        Bucket::new(count, Duration::from_secs(seconds), burst).unwrap()
    }

    // How many pass when one asks every `every` nanoseconds until `end`.
    fn pass(bucket: &Bucket, every: u64, end: u64) -> u64 {
        let (mut word, mut passed) = (0, 0);
        for now in (0..=end).step_by(usize::try_from(every).unwrap()) {
            let (new, taken) = bucket.take(word, bucket.clock(Tick::from_nanos(now)), 1);
            word = new.unwrap_or(word);
            passed += u64::from(taken == Taken::Tokens(1));
        }
        passed
    }

    #[test]
    fn admits_exactly_what_is_allowed_whatever_the_rate() {
        for (count, seconds, burst, every, end) in [
            (100, 1, 20, 100_000, 10 * SECOND),
            (3, 1, 1, 1_000_000, 10 * SECOND),
            (20, 60, 5, SECOND / 10, 600 * SECOND),
            (1, 86_400, 1, 3600 * SECOND, 10 * 86_400 * SECOND),
            // Above a million a second, where nanoseconds are too coarse.
            (7_000_000, 1, 8, 50, SECOND / 100),
            (9_999_991, 1, 64, 50, SECOND / 100),
        ] {
            let passed = pass(&bucket(count, seconds, burst), every, end);
            let exact = u128::from(count) * u128::from(end) / u128::from(seconds * SECOND)
                + u128::from(burst);
            let exact = u64::try_from(exact).unwrap();
            let least = exact - exact / 5000 - 1;
            assert!(
                (least..=exact).contains(&passed),
                "{count}/{seconds}s + {burst}: {passed}, exactly {exact}"
            );
        }
    }

    #[test]
    fn what_no_word_can_hold_is_refused() {
        assert!(Bucket::new(1, DAY, 13_000).is_some());
        assert!(Bucket::new(1, DAY, 14_000).is_none(), "more than 36 years");
        assert!(Bucket::new(FASTEST, Duration::from_secs(1), 1_000_000_000).is_some());
    }

    // Hazard RL-06.
    #[test]
    fn a_clock_that_jumps_gives_at_most_one_burst() {
        let bucket = bucket(10, 1, 5);
        let at = |seconds: u64| bucket.clock(Tick::from_nanos(seconds * SECOND));
        let mut word = 0;
        let mut burst = |clock| {
            let take = |_: &u32| {
                let (new, taken) = bucket.take(word, clock, 1);
                word = new.unwrap_or(word);
                taken == Taken::Tokens(1)
            };
            (0..20).filter(take).count()
        };
        assert_eq!(burst(at(4000)), 5);
        assert_eq!(burst(at(4000 - 3600)), 0, "an hour back");
        assert_eq!(burst(at(4001)), 5);
        assert_eq!(burst(at(4001 + 3600)), 5, "an hour ahead");
        assert_eq!(burst(bucket.clock(Tick::NEVER)), 0, "the end of time");
    }

    #[test]
    fn a_queue_gives_each_its_time_and_has_an_end() {
        let ms = |ms: u64| Tick::from_nanos(ms * 1_000_000);
        let queued = bucket(100, 1, 2).with_queue(3, Duration::from_secs(1));
        let mut word = 0;
        for expected in [
            Taken::Tokens(1),
            Taken::Tokens(1),
            Taken::At(ms(1010)),
            Taken::At(ms(1020)),
            Taken::At(ms(1030)),
            Taken::None,
        ] {
            let (new, taken) = queued.take(word, queued.clock(ms(1000)), 8);
            // Of two tokens at most two can be taken.
            let taken = if taken == Taken::Tokens(2) { Taken::Tokens(1) } else { taken };
            word = match (new, taken) {
                (Some(_), Taken::Tokens(_)) => word.max(queued.clock(ms(1000))) + queued.worth(1),
                (new, _) => new.unwrap_or(word),
            };
            assert_eq!(taken, expected);
        }
        assert_eq!(bucket(100, 1, 2).with_queue(50, Duration::from_millis(45)).queue(), 4);
        assert_eq!(bucket(1, 60, 2).with_queue(50, Duration::from_secs(10)).queue(), 0);
    }

    #[test]
    fn says_how_many_are_left_and_how_long_it_takes() {
        let bucket = bucket(10, 1, 5);
        let clock = bucket.clock(Tick::from_nanos(SECOND));
        let word = clock + bucket.worth(5);
        let ms = Duration::from_millis;
        assert_eq!((bucket.left(word, clock), bucket.left(word - 1, clock)), (0, 0));
        assert_eq!((bucket.left(clock, clock), bucket.left(0, clock)), (5, 5));
        assert_eq!(bucket.until_next(word, clock), ms(100));
        assert_eq!(bucket.until_next(clock, clock), ms(0));
        assert_eq!(bucket.until_full(word, clock), ms(500));
        assert_eq!(bucket.until_full(0, clock), ms(0));
    }

    // Hazard RL-02.
    #[test]
    fn tokens_that_are_missing_are_missing_in_another_bucket() {
        let (old, new) = (bucket(10, 1, 100), bucket(60, 60, 50));
        let now = Tick::from_nanos(100 * SECOND);
        for (missing, expected) in [(0, None), (1, Some(1)), (30, Some(30)), (100, Some(50))] {
            let word = old.clock(now) + old.worth(missing);
            let there = new.convert(&old, word, now);
            assert_eq!(there, expected.map(|n| new.clock(now) + new.worth(n)), "{missing}");
        }
    }
}
