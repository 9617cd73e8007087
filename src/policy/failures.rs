//! How many wrong credentials came from whom lately, over all cores.
//!
//! A fixed number of counters in sets of four; each remembers whom it counts, and in which window of time. Where a set is full,
//! the counter that says least gives way, so that who tries most is never forgotten for those who try little (hazard
//! AUTH-21). Only requests whose credentials are not yet known touch it. Called by `basic` and `introspect`.

use crate::base::Tick;
use crate::policy::recall::Digest;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Sets of counters: 64 KiB in all.
const SETS: usize = 2048;
const WAYS: usize = 4;

/// The counters.
#[derive(Debug)]
pub struct Failures(Box<[AtomicU64]>);

/// What a counter holds: 24 bits of whom, 24 bits of the window, 16 bits of how many.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Count {
    whom: u64,
    window: u64,
    count: u64,
}

const FIELD: u64 = (1 << 24) - 1;
const MOST: u64 = (1 << 16) - 1;

impl Count {
    fn of(word: u64) -> Count {
        Count { whom: word >> 40, window: word >> 16 & FIELD, count: word & MOST }
    }

    fn word(self) -> u64 {
        self.whom << 40 | (self.window & FIELD) << 16 | self.count.min(MOST)
    }
}

impl Default for Failures {
    fn default() -> Failures {
        Failures((0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Failures {
    /// How many in this window; windows are numbered.
    pub fn count(&self, whom: &Digest, window: u64) -> u64 {
        let (set, whom) = place(whom);
        let mut counts = self.set(set).iter().map(|c| Count::of(c.load(Ordering::Relaxed)));
        let mine = counts.find(|c| c.whom == whom && c.window == window & FIELD);
        mine.map_or(0, |c| c.count)
    }

    /// Counts one more.
    pub fn add(&self, whom: &Digest, window: u64) {
        let (set, whom) = place(whom);
        let window = window & FIELD;
        // Others may count in the same set at the same time; after some attempts one count more or less does not matter.
        for _ in 0..8 {
            let words = self.set(set).iter().map(|c| (c, c.load(Ordering::Relaxed)));
            // A counter of an earlier window says nothing any more.
            let says = |word: u64| Some(Count::of(word)).filter(|c| c.window == window);
            let mine = |word: u64| says(word).is_some_and(|c| c.whom == whom);
            let best = words.min_by_key(|(_, word)| match says(*word) {
                _ if mine(*word) => 0,
                None => 1,
                Some(count) => 2 + count.count,
            });
            let Some((counter, word)) = best else { return };
            let count = if mine(word) { Count::of(word).count + 1 } else { 1 };
            let new = Count { whom, window, count }.word();
            let order = Ordering::Relaxed;
            if counter.compare_exchange(word, new, order, order).is_ok() {
                return;
            }
        }
    }

    fn set(&self, set: usize) -> &[AtomicU64] {
        self.0.get(set * WAYS..(set + 1) * WAYS).unwrap_or_default()
    }
}

/// The number of the window that now is in, and how much of it is left.
pub fn window(now: Tick, length: Duration) -> (u64, Duration) {
    let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX).max(1);
    let left = length - now.nanos() % length;
    // The first window is 1, since counters begin with 0.
    (now.nanos() / length + 1, Duration::from_nanos(left))
}

/// A client's address, or the /64 that it can choose addresses from: octets, and how many of them count.
pub fn network(client: IpAddr) -> ([u8; 8], usize) {
    match client {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            ([a, b, c, d, 0, 0, 0, 0], 4)
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            ([a, b, c, d, e, f, g, h], 8)
        }
    }
}

fn place(whom: &Digest) -> (usize, u64) {
    let [a, b, c, d, e, ..] = *whom;
    let set = usize::from(u16::from_le_bytes([a, b])) % SETS;
    (set, u64::from_le_bytes([c, d, e, 0, 0, 0, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::recall::Key;
    use std::sync::Arc;

    fn whom(number: u64) -> Digest {
        Key::new().unwrap().digest(&[&number.to_le_bytes()])
    }

    #[test]
    fn counts_by_whom_and_window() {
        let failures = Failures::default();
        let (a, b) = (whom(1), whom(2));
        (0..3).for_each(|_| failures.add(&a, 7));
        failures.add(&b, 7);
        for (whom, window, expected) in [(&a, 7, 3), (&b, 7, 1), (&a, 8, 0), (&a, 6, 0)] {
            assert_eq!(failures.count(whom, window), expected, "{window}");
        }
        failures.add(&a, 8);
        assert_eq!((failures.count(&a, 8), failures.count(&a, 7)), (1, 0));
    }

    #[test]
    fn auth_21_who_tries_most_is_not_pushed_out() {
        let failures = Failures::default();
        let worst = whom(0);
        (0..100).for_each(|_| failures.add(&worst, 1));
        (0..100_000).for_each(|number| failures.add(&whom(number), 1));
        assert_eq!(failures.count(&worst, 1), 100);
    }

    #[test]
    fn threads_lose_no_more_than_a_little() {
        let failures = Arc::new(Failures::default());
        let one = whom(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| failures.add(&one, 1)));
            }
        });
        let count = failures.count(&one, 1);
        assert!((3000..=4000).contains(&count), "{count}");
        (0..MOST + 9).for_each(|_| failures.add(&one, 1));
        assert_eq!(failures.count(&one, 1), MOST, "it does not begin again at 0");
    }
}
