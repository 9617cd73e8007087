//! The nonces that were used, for the whole machine: a table of fixed size that all cores share.
//!
//! An entry is one atomic word: 32 bits of the nonce's hash, and the second until which it counts. Its place follows from other
//! bits. Nothing is pushed out before its time: where the places of a nonce are all in use, the request is refused. Two
//! nonces are taken for one another once in some 10^8 requests. A restart forgets all of them; `max_age` bounds what that is
//! worth. Called by the policy.

use aws_lc_rs::digest::{Context, SHA256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The nonces that were used.
#[derive(Debug)]
pub(crate) struct Nonces {
    slots: Box<[AtomicU64]>,
    size: u64,
    // Those of a table of another size, from before a reload.
    before: Option<Arc<Nonces>>,
}

/// Whether a nonce was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// For the first time.
    First,
    /// It was used before.
    Again,
    /// There is no place for it.
    Full,
}

// The places in which one nonce may lie. With the table half full, more than these are wanted in one of 10^7 cases.
const WAY: usize = 64;

impl Nonces {
    /// Room for `size` of them and as many again. What `before` remembers goes on.
    pub(crate) fn new(size: u64, before: Option<&Arc<Nonces>>) -> Arc<Nonces> {
        if let Some(before) = before.filter(|before| before.size == size) {
            return Arc::clone(before);
        }
        let ways = size.saturating_mul(2).div_ceil(WAY as u64).max(1);
        let slots = (0..ways.saturating_mul(WAY as u64)).map(|_| AtomicU64::new(0)).collect();
        // Only the last one: whoever reloads twice within a signature's time with another size each loses the first.
        let before = before.map(|old| match &old.before {
            None => Arc::clone(old),
            Some(_) => Arc::new(Nonces { slots: copy(&old.slots), size: old.size, before: None }),
        });
        Arc::new(Nonces { slots, size, before })
    }

    /// Takes a nonce of a key, which counts until the second `until`.
    pub(crate) fn take(&self, key: &str, nonce: &str, now: u64, until: u64) -> Taken {
        let (mark, place) = hash(key, nonce);
        if self.before.as_ref().is_some_and(|before| before.has(mark, place, now)) {
            return Taken::Again;
        }
        let way = self.way(place);
        let entry = u64::from(mark) << 32 | until.min(u64::from(u32::MAX));
        loop {
            if holds(way, mark, now, None) {
                return Taken::Again;
            }
            let free = way.iter().enumerate().find_map(|(at, slot)| {
                let found = slot.load(Ordering::SeqCst);
                (!counts(found, now)).then_some((at, slot, found))
            });
            let Some((at, slot, found)) = free else { return Taken::Full };
            let swapped = slot.compare_exchange(found, entry, Ordering::SeqCst, Ordering::SeqCst);
            if swapped.is_err() {
                continue;
            }
            // Another core may have put the same nonce into another place meanwhile: at most one of the two may pass, and where
            // both have seen the other, none does.
            return if holds(way, mark, now, Some(at)) { Taken::Again } else { Taken::First };
        }
    }

    fn has(&self, mark: u32, place: u64, now: u64) -> bool {
        holds(self.way(place), mark, now, None)
    }

    fn way(&self, place: u64) -> &[AtomicU64] {
        let ways = (self.slots.len() / WAY).max(1) as u64;
        let start = usize::try_from(place % ways).unwrap_or_default() * WAY;
        self.slots.get(start..start + WAY).unwrap_or_default()
    }
}

fn copy(slots: &[AtomicU64]) -> Box<[AtomicU64]> {
    slots.iter().map(|slot| AtomicU64::new(slot.load(Ordering::SeqCst))).collect()
}

fn counts(entry: u64, now: u64) -> bool {
    entry != 0 && (entry & u64::from(u32::MAX)) >= now
}

fn holds(way: &[AtomicU64], mark: u32, now: u64, but: Option<usize>) -> bool {
    way.iter().enumerate().any(|(at, slot)| {
        let entry = slot.load(Ordering::SeqCst);
        Some(at) != but && entry >> 32 == u64::from(mark) && counts(entry, now)
    })
}

fn hash(key: &str, nonce: &str) -> (u32, u64) {
    let mut context = Context::new(&SHA256);
    context.update(&(key.len() as u64).to_be_bytes());
    context.update(key.as_bytes());
    context.update(nonce.as_bytes());
    let digest = context.finish();
    let number = |octets: &[u8]| octets.iter().fold(0_u64, |sum, b| sum << 8 | u64::from(*b));
    let octets = digest.as_ref();
    let mark = number(octets.get(..4).unwrap_or_default());
    (mark as u32, number(octets.get(8..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_while_it_counts() {
        let nonces = Nonces::new(1000, None);
        assert_eq!(nonces.take("k", "a", 100, 200), Taken::First);
        assert_eq!(nonces.take("k", "a", 100, 200), Taken::Again);
        assert_eq!(nonces.take("k", "a", 200, 300), Taken::Again, "until the very last second");
        assert_eq!(nonces.take("l", "a", 100, 200), Taken::First, "another key's");
        assert_eq!(nonces.take("k", "b", 100, 200), Taken::First);
        assert_eq!(nonces.take("ka", "", 100, 200), Taken::First, "no other cut of the same text");
        assert_eq!(nonces.take("k", "a", 201, 301), Taken::First);
    }

    #[test]
    fn what_counts_is_never_pushed_out() {
        let nonces = Nonces::new(1000, None);
        let mut taken = Vec::new();
        for n in 0..10_000 {
            match nonces.take("k", &n.to_string(), 100, 200) {
                Taken::First => taken.push(n),
                Taken::Full => {}
                Taken::Again => panic!("{n} was never used"),
            }
        }
        assert!(taken.len() >= 1000, "{}", taken.len());
        for n in &taken {
            assert_eq!(nonces.take("k", &n.to_string(), 150, 250), Taken::Again, "{n}");
        }
        assert_eq!(nonces.take("k", "fresh", 201, 300), Taken::First, "places are free again");
    }

    #[test]
    fn as_many_as_promised_fit() {
        let nonces = Nonces::new(100_000, None);
        let full =
            (0..100_000).filter(|n| nonces.take("k", &n.to_string(), 100, 200) == Taken::Full);
        assert_eq!(full.count(), 0);
    }

    #[test]
    fn reloads_forget_nothing() {
        let small = Nonces::new(1000, None);
        assert_eq!(small.take("k", "a", 100, 200), Taken::First);
        let same = Nonces::new(1000, Some(&small));
        assert!(Arc::ptr_eq(&small, &same));
        let large = Nonces::new(2000, Some(&same));
        assert_eq!(large.take("k", "a", 100, 200), Taken::Again);
        assert_eq!(large.take("k", "b", 100, 200), Taken::First);
        let back = Nonces::new(1000, Some(&large));
        assert_eq!(back.take("k", "b", 100, 200), Taken::Again);
    }

    #[test]
    fn of_many_cores_at_most_one_takes_it() {
        for round in 0..200 {
            let nonces = Nonces::new(64, None);
            let nonce = round.to_string();
            let taken: usize = std::thread::scope(|scope| {
                let all: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| nonces.take("k", &nonce, 100, 200) == Taken::First))
                    .collect();
                all.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
            });
            assert!(taken <= 1, "{taken} in round {round}");
            assert_eq!(nonces.take("k", &nonce, 100, 200), Taken::Again);
        }
    }
}
