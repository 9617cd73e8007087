//! One fetch for all who miss the same key, on whichever worker: who leads, who waits, and how it ended.
//!
//! Whoever waits is woken, never asks; whoever leads ends the flight by landing it or by being dropped, so that nobody waits for
//! one who is gone. A flight whose response was not to be stored leaves a mark for a while, so that requests for its key do not wait
//! for each other (hazard CACHE-08).

use crate::base::Tick;
use crate::cache::Key;
use crate::store::{Stamp, Store};
use crossbeam::queue::SegQueue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How a flight ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The response is stored.
    Stored,
    /// It is not to be stored: everybody goes alone.
    Uncacheable,
    /// There is none: nobody who waits is better off by trying after the other.
    Failed,
    /// Whoever led is gone before all of it was there: somebody else may lead.
    Abandoned,
}

/// A fetch that is on its way, or was.
#[derive(Debug)]
pub struct Flight {
    pub(super) key: Key,
    // Of what varies, as far as that is known: others wait for theirs.
    variant: Box<[u8]>,
    pub(super) personal: bool,
    state: AtomicU8,
    waiting: SegQueue<(usize, u64)>,
}

/// That the holder fetches for all who wait.
#[derive(Debug)]
pub struct Claim {
    store: Arc<Store>,
    flight: Option<Arc<Flight>>,
    stamp: Stamp,
}

/// Who may wait for one flight; whoever comes beyond goes alone.
const MOST_WAITING: usize = 1 << 16;
const FLYING: u8 = 0;

impl Flight {
    pub(super) fn new(key: Key, variant: Box<[u8]>, personal: bool) -> Flight {
        let state = AtomicU8::new(FLYING);
        Flight { key, variant, personal, state, waiting: SegQueue::new() }
    }

    pub(super) fn is_for(&self, key: &Key, variant: &[u8], personal: bool) -> bool {
        self.personal == personal && *self.variant == *variant && self.key == *key
    }

    /// How it has ended; `None` while it is on its way.
    pub fn landed(&self) -> Option<Landing> {
        match self.state.load(Ordering::SeqCst) {
            FLYING => None,
            1 => Some(Landing::Stored),
            2 => Some(Landing::Uncacheable),
            3 => Some(Landing::Failed),
            _ => Some(Landing::Abandoned),
        }
    }

    /// Has this ticket of a worker told of the end. False if it has ended, or too many wait: then nobody is told.
    pub fn join(&self, worker: usize, ticket: u64) -> bool {
        if self.waiting.len() >= MOST_WAITING {
            return false;
        }
        self.waiting.push((worker, ticket));
        // Whoever ends it says so first and looks at who waits then.
        self.landed().is_none()
    }

    // The tickets to be told, by worker.
    pub(super) fn land(&self, landing: Landing) -> BTreeMap<usize, Vec<u64>> {
        let state = match landing {
            Landing::Stored => 1,
            Landing::Uncacheable => 2,
            Landing::Failed => 3,
            Landing::Abandoned => 4,
        };
        self.state.store(state, Ordering::SeqCst);
        let mut tickets: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        while let Some((worker, ticket)) = self.waiting.pop() {
            tickets.entry(worker).or_default().push(ticket);
        }
        tickets
    }
}

/// A key whose response was not to be stored.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) key: Key,
    pub(super) personal: bool,
    pub(super) until: Tick,
}

// Counts, the slot in its bucket, and the allocator's share.
const BESIDE: usize = 64;

impl Mark {
    /// Octets that it takes.
    pub(super) fn charge(&self) -> u64 {
        (size_of::<Mark>() + self.key.octets().len() + BESIDE) as u64
    }
}

impl Claim {
    pub(super) fn new(store: Arc<Store>, flight: Arc<Flight>, stamp: Stamp) -> Claim {
        Claim { store, flight: Some(flight), stamp }
    }

    /// What the store looked like when it was claimed.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Ends the flight: whoever waits is told.
    pub fn land(mut self, landing: Landing) {
        self.end(landing);
    }

    fn end(&mut self, landing: Landing) {
        if let Some(flight) = self.flight.take() {
            self.store.landed(&flight, landing, Tick::now());
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end(Landing::Abandoned);
    }
}
