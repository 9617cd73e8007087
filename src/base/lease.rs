//! A machine-wide budget that cores use without touching a shared line for every unit.
//!
//! A worker takes units from one atomic in blocks and spends them locally; it gives surplus blocks back.
//! The total handed out never exceeds the budget. Up to `block` units per worker can be held unused, so a
//! worker may be refused while another still holds as many: the bound is `workers x 2 x block`. Near the end of the
//! budget a block shrinks to what is left.

use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The shared part: units that no worker holds.
#[derive(Debug)]
pub struct Budget {
    free: CachePadded<AtomicU64>,
}

impl Budget {
    /// A budget of `units` for all workers together.
    pub fn new(units: u64) -> Arc<Budget> {
        Arc::new(Budget { free: CachePadded::new(AtomicU64::new(units)) })
    }

    fn take(&self, wanted: u64) -> u64 {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let got = free.min(wanted);
            if got == 0 {
                return 0;
            }
            match self.free.compare_exchange_weak(
                free,
                free - got,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return got,
                Err(now) => free = now,
            }
        }
    }

    fn give(&self, units: u64) {
        self.free.fetch_add(units, Ordering::Relaxed);
    }
}

/// One worker's part of a [`Budget`].
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    block: u64,
    held: u64,
    used: u64,
}

impl Lease {
    /// A lease that takes and returns `block` units at a time (at least 1).
    pub fn new(budget: Arc<Budget>, block: u64) -> Lease {
        Lease { budget, block: block.max(1), held: 0, used: 0 }
    }

    /// Takes one unit; false if the machine-wide budget is used up.
    #[must_use]
    pub fn acquire(&mut self) -> bool {
        if self.used == self.held {
            self.held += self.budget.take(self.block);
        }
        if self.used == self.held {
            return false;
        }
        self.used += 1;
        true
    }

    /// Returns one unit taken by [`Lease::acquire`].
    pub fn release(&mut self) {
        debug_assert!(self.used > 0, "released more than was acquired");
        self.used = self.used.saturating_sub(1);
        let unused = self.held - self.used;
        if unused >= 2 * self.block {
            self.held -= self.block;
            self.budget.give(self.block);
        }
    }

    /// Units in use by this worker.
    pub fn used(&self) -> u64 {
        self.used
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_hands_out_more_than_the_budget() {
        let budget = Budget::new(100);
        let mut leases: Vec<Lease> = (0..3).map(|_| Lease::new(Arc::clone(&budget), 16)).collect();
        let mut got = 0;
        for round in 0..200 {
            if leases[round % 3].acquire() {
                got += 1;
            }
        }
        assert_eq!(got, 100, "three workers asking in turn get exactly the budget");
        for _ in 0..leases[0].used() {
            leases[0].release();
        }
        assert!(leases[1].acquire(), "what one worker gives back another may take");
    }

    #[test]
    fn a_dropped_lease_returns_its_units() {
        let budget = Budget::new(4);
        {
            let mut lease = Lease::new(Arc::clone(&budget), 16);
            assert!(lease.acquire());
        }
        let mut lease = Lease::new(budget, 16);
        assert_eq!((0..5).filter(|_| lease.acquire()).count(), 4);
    }
}
