//! Tokens that one core has taken ahead, so that a busy bucket's word is not fought over for every request.
//!
//! The bucket that all cores share is kept smaller by what all of them together may hold unused ([`Leasing::reserve`]): whatever
//! they hold and however they spend it, no more passes than the bucket allows. What is unused goes back with the next sweep.
//! Buckets that are slow or small are not worth it: there a lease would be one token. Called by `rate`.

use crate::policy::rate::bucket::Bucket;
use crate::policy::rate::shared::Shared;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How much cores may take ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leasing {
    // Tokens that come in 10 ms, all cores together.
    ahead: u64,
    /// The most that all cores together hold; zero where nothing is leased.
    pub reserve: u64,
}

// The most that one core takes.
const MOST: u64 = 64;
// The part of a bucket that may be out.
const PART: u64 = 128;

impl Leasing {
    /// For a bucket that gets `count` tokens in `seconds`.
    pub fn new(count: u64, seconds: u64, bucket: &Bucket) -> Leasing {
        let ahead = count / seconds.max(1) / 100;
        let reserve = (bucket.burst() / PART).min(ahead);
        if reserve < 2 { Leasing::default() } else { Leasing { ahead, reserve } }
    }

    /// The tokens that one of `cores` takes at a time.
    #[inline]
    fn block(&self, cores: u32) -> u64 {
        let cores = u64::from(cores.max(1));
        (self.ahead / cores).min(self.reserve / cores).clamp(1, MOST)
    }
}

/// What one core holds.
#[derive(Debug)]
pub struct Leases {
    shared: Arc<Shared>,
    worth: u64,
    held: RefCell<[Held; PLACES]>,
    // For how many cores the tokens held were meant.
    cores: Cell<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    key: u64,
    left: u64,
    word: u64,
}

// Keys for which a core holds tokens at the same time.
const PLACES: usize = 64;

impl Leases {
    /// Counts this core in; `bucket` is the policy's.
    pub fn new(shared: &Arc<Shared>, bucket: &Bucket) -> Leases {
        shared.cores.fetch_add(1, Ordering::SeqCst);
        let held = RefCell::new([Held::default(); PLACES]);
        Leases { shared: Arc::clone(shared), worth: bucket.worth(1), held, cores: Cell::new(0) }
    }

    /// Whether these are leases of this table.
    pub fn are_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Spends a token that is held for this key: the bucket's word when it was taken, and the tokens left here.
    #[inline]
    pub fn spend(&self, key: u64) -> Option<(u64, u64)> {
        // Tokens that were meant for fewer cores are too many for more.
        if self.cores.get() != self.shared.cores.load(Ordering::SeqCst) {
            self.give_back();
            return None;
        }
        let mut held = self.held.borrow_mut();
        let held = held.get_mut(place(key)).filter(|held| held.key == key && held.left > 0)?;
        held.left -= 1;
        Some((held.word, held.left))
    }

    /// The tokens to take at a time.
    #[inline]
    pub fn block(&self, leasing: &Leasing) -> u64 {
        leasing.block(self.cores.get())
    }

    /// Holds tokens for this key. Another key's that are in their place go back.
    pub fn hold(&self, key: u64, left: u64, word: u64) {
        let mut held = self.held.borrow_mut();
        let Some(place) = held.get_mut(place(key)) else { return };
        self.give(std::mem::replace(place, Held { key, left, word }));
    }

    /// Gives back all that is unused.
    pub fn give_back(&self) {
        let mut held = self.held.borrow_mut();
        held.iter_mut().for_each(|held| self.give(std::mem::take(held)));
        self.cores.set(self.shared.cores.load(Ordering::SeqCst));
    }

    fn give(&self, held: Held) {
        if held.left > 0 {
            let back = held.left.saturating_mul(self.worth);
            self.shared.table.change_known(held.key, |word| word.saturating_sub(back));
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.give_back();
        self.shared.cores.fetch_sub(1, Ordering::SeqCst);
    }
}

#[inline]
fn place(key: u64) -> usize {
    key as usize % PLACES
}
