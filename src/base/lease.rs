//! A machine-wide budget that cores use without touching a shared line for every unit.
//!
//! A worker takes units from one atomic in blocks and spends them locally; it gives surplus blocks back.
//! The total handed out never exceeds the budget. Up to `2 x block` units per worker can be held unused, so a
//! worker may be refused while the others still hold as many; a block is at most an eighth of a worker's even share, so that
//! this is never more than a quarter of the budget. Small budgets are shared unit by unit, exactly.

use crossbeam::utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The shared part: units that no worker holds. Below zero after it was made smaller, until enough came back.
#[derive(Debug)]
pub struct Budget {
    free: CachePadded<AtomicI64>,
    total: CachePadded<AtomicI64>,
}

impl Budget {
    /// A budget of `units` for all workers together.
    pub fn new(units: u64) -> Arc<Budget> {
        let units = signed(units);
        Arc::new(Budget {
            free: CachePadded::new(AtomicI64::new(units)),
            total: CachePadded::new(AtomicI64::new(units)),
        })
    }

    /// Changes the budget; what is in use beyond it stays in use. Only control calls this.
    pub fn resize(&self, units: u64) {
        let units = signed(units);
        let before = self.total.swap(units, Ordering::Relaxed);
        self.free.fetch_add(units - before, Ordering::Relaxed);
    }

    /// The units that a worker may take at a time when there are `workers`, and at most `most`.
    pub fn block(&self, workers: usize, most: u64) -> u64 {
        let total = self.total.load(Ordering::Relaxed).unsigned_abs();
        (total / (8 * workers.max(1) as u64)).clamp(1, most.max(1))
    }

    // Up to `wanted`, as long as `spared` stay free.
    fn take(&self, wanted: i64, spared: i64) -> i64 {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let got = (free - spared).min(wanted);
            if got <= 0 {
                return 0;
            }
            let left = free - got;
            match self.free.compare_exchange_weak(free, left, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return got,
                Err(now) => free = now,
            }
        }
    }

    // Rounded down: of a small budget nothing is kept back.
    fn part(&self, thousandths: u64) -> i64 {
        let total = self.total.load(Ordering::Relaxed);
        let thousandths = i64::try_from(thousandths).unwrap_or(0);
        total / 1000 * thousandths + total % 1000 * thousandths / 1000
    }

    fn give(&self, units: i64) {
        self.free.fetch_add(units, Ordering::Relaxed);
    }
}

fn signed(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX >> 1).min(i64::MAX >> 1)
}

/// One worker's part of a [`Budget`].
#[derive(Debug)]
pub struct Lease {
    budget: Arc<Budget>,
    block: i64,
    held: i64,
    used: i64,
}

impl Lease {
    /// A lease that takes and returns `block` units at a time (at least 1).
    pub fn new(budget: Arc<Budget>, block: u64) -> Lease {
        Lease { budget, block: signed(block.max(1)), held: 0, used: 0 }
    }

    /// Takes one unit; false if the machine-wide budget is used up.
    #[inline]
    #[must_use]
    pub fn acquire(&mut self) -> bool {
        if self.used >= self.held {
            self.held += self.budget.take(self.used - self.held + self.block, 0);
        }
        if self.used >= self.held {
            return false;
        }
        self.used += 1;
        true
    }

    /// Takes one unit, if so many thousandths of the budget are free beyond what workers hold: for who gives way to others. What
    /// a worker holds unused counts as in use, so that this may refuse early, never late.
    #[inline]
    #[must_use]
    pub fn acquire_sparing(&mut self, thousandths: u64) -> bool {
        if thousandths == 0 {
            return self.acquire();
        }
        let spared = self.budget.part(thousandths);
        if self.used >= self.held {
            self.held += self.budget.take(self.used - self.held + self.block, spared);
            if self.used >= self.held {
                return false;
            }
        } else if self.budget.free.load(Ordering::Relaxed) < spared {
            return false;
        }
        self.used += 1;
        true
    }

    /// Whether so many thousandths of the budget are free beyond what workers hold.
    #[inline]
    pub fn spares(&self, thousandths: u64) -> bool {
        thousandths == 0
            || self.budget.free.load(Ordering::Relaxed) >= self.budget.part(thousandths)
    }

    /// Takes `units` even beyond the budget: for who cannot do without. [`Lease::is_over`] tells.
    #[inline]
    pub fn overdraw(&mut self, units: u64) {
        self.used += signed(units);
        if self.used > self.held {
            self.held += self.budget.take(self.used - self.held + self.block, 0);
        }
    }

    /// Whether more is in use than the budget has for this worker.
    #[inline]
    pub fn is_over(&mut self) -> bool {
        if self.used > self.held {
            self.held += self.budget.take(self.used - self.held, 0);
        }
        self.used > self.held
    }

    /// Returns units taken before.
    #[inline]
    pub fn release(&mut self, units: u64) {
        let units = signed(units);
        debug_assert!(self.used >= units, "released more than was acquired");
        self.used = (self.used - units).max(0);
        let unused = self.held - self.used;
        if unused >= 2 * self.block {
            // All but one block, which the next ones take; all of it where the budget was made smaller.
            let owed = self.budget.free.load(Ordering::Relaxed) < 0;
            let back = if owed { unused } else { unused - self.block };
            self.held -= back;
            self.budget.give(back);
        }
    }

    /// Gives back what is held unused where the budget was made smaller than what is held; done every sweep, since a worker
    /// that returns less than two blocks keeps them.
    pub fn settle(&mut self) {
        let unused = self.held - self.used;
        if unused > 0 && self.budget.free.load(Ordering::Relaxed) < 0 {
            self.held -= unused;
            self.budget.give(unused);
        }
    }

    /// Units in use by this worker.
    #[inline]
    pub fn used(&self) -> u64 {
        self.used.unsigned_abs()
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
            leases[0].release(1);
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

    #[test]
    fn what_cannot_wait_is_overdrawn_and_seen() {
        let budget = Budget::new(8);
        let (mut one, mut two) = (Lease::new(Arc::clone(&budget), 1), Lease::new(budget, 1));
        one.overdraw(6);
        assert!(!one.is_over());
        two.overdraw(5);
        assert!(two.is_over() && !two.acquire());
        one.release(6);
        assert!(!two.is_over(), "what the other gave back covers it");
    }

    #[test]
    fn a_budget_can_be_changed_while_it_is_used() {
        let budget = Budget::new(4);
        let mut lease = Lease::new(Arc::clone(&budget), 1);
        assert_eq!((0..9).filter(|_| lease.acquire()).count(), 4);
        budget.resize(6);
        assert_eq!((0..9).filter(|_| lease.acquire()).count(), 2);
        budget.resize(1);
        lease.release(5);
        assert!(!lease.acquire(), "one is still in use");
        lease.release(1);
        assert!(lease.acquire() && !lease.acquire());
    }

    #[test]
    fn who_gives_way_leaves_a_part_to_others() {
        let budget = Budget::new(100);
        let mut lease = Lease::new(Arc::clone(&budget), 1);
        let took =
            |lease: &mut Lease, spared| (0..200).filter(|_| lease.acquire_sparing(spared)).count();
        assert_eq!([took(&mut lease, 200), took(&mut lease, 50), took(&mut lease, 0)], [80, 15, 5]);
        lease.release(10);
        assert_eq!((took(&mut lease, 50), lease.spares(50)), (5, true));
        assert!(lease.acquire() && !lease.spares(50) && lease.spares(0));
        // Of a small budget nothing is kept back.
        let mut small = Lease::new(Budget::new(3), 1);
        assert_eq!(took(&mut small, 200), 3);
        let mut none = Lease::new(Budget::new(u64::MAX), 64);
        assert!(none.acquire_sparing(200) && none.spares(200));
    }

    // However blocks lie with workers, what gives way is never let in beyond its part.
    #[test]
    fn whoever_holds_the_blocks_no_more_give_way_than_may() {
        for (seed, block) in (0..50).zip([1, 4, 16].into_iter().cycle()) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let budget = Budget::new(200);
            let mut leases: Vec<Lease> =
                (0..3).map(|_| Lease::new(Arc::clone(&budget), block)).collect();
            let mut used = [0_u64; 3];
            for _ in 0..5_000 {
                let at = rng.usize(..3);
                if used[at] > 0 && rng.u8(..5) < 2 {
                    leases[at].release(1);
                    used[at] -= 1;
                    continue;
                }
                let spared = [0, 50, 200][rng.usize(..3)];
                if leases[at].acquire_sparing(spared) {
                    used[at] += 1;
                    let total: u64 = used.iter().sum();
                    assert!(total <= 200 - 200 * spared / 1000, "{total}, {spared}, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn what_is_owed_is_given_back_at_the_next_sweep() {
        let budget = Budget::new(8);
        let mut lease = Lease::new(Arc::clone(&budget), 4);
        assert!(lease.acquire(), "four are held, one is used");
        budget.resize(2);
        lease.settle();
        assert_eq!((0..9).filter(|_| lease.acquire()).count(), 1, "two in all");
    }

    #[test]
    fn blocks_leave_room_for_every_worker() {
        for (units, workers, expected) in [(100_000, 2, 32), (10, 2, 1), (512, 4, 16), (0, 1, 1)] {
            assert_eq!(Budget::new(units).block(workers, 32), expected);
        }
    }
}
