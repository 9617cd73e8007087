//! What is counted of the requests of one rule that stores: one padded cell a worker, one writer, readers sum.

use crate::base::meters::{Counter, SPARE};
use crossbeam::utils::CachePadded;

/// What became of requests, by worker.
#[derive(Debug)]
pub struct Meters(Box<[CachePadded<Cell>]>);

/// What one worker has counted.
#[derive(Debug, Default)]
pub struct Cell {
    /// Answered from the store, fresh.
    pub hits: Counter,
    /// Answered from the store, stale.
    pub stale: Counter,
    /// Answered from the store after its target has confirmed it.
    pub revalidated: Counter,
    /// Sent on: nothing was stored, or nothing that would do.
    pub misses: Counter,
    /// Sent on: nothing for the cache.
    pub bypasses: Counter,
    /// Responses stored.
    pub stores: Counter,
    /// Requests that have waited for another's response.
    pub waits: Counter,
    /// Stale answers in the place of a target's failure.
    pub saved: Counter,
}

/// The sums over all workers. Fields as in [`Cell`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the same fields as Cell")]
pub struct Totals {
    pub hits: u64,
    pub stale: u64,
    pub revalidated: u64,
    pub misses: u64,
    pub bypasses: u64,
    pub stores: u64,
    pub waits: u64,
    pub saved: u64,
}

impl Meters {
    /// Meters for so many workers, and for those that take the place of others.
    pub fn new(workers: usize) -> Meters {
        Meters((0..workers.max(1) + SPARE).map(|_| CachePadded::default()).collect())
    }

    /// The cell of one worker; a number beyond the last shares the last cell.
    #[inline]
    pub fn cell(&self, worker: usize) -> Option<&Cell> {
        self.0.get(worker).or(self.0.last()).map(|cell| &**cell)
    }

    /// The sum over all workers.
    pub fn sum(&self) -> Totals {
        let sum = |of: fn(&Cell) -> &Counter| self.0.iter().map(|cell| of(cell).value()).sum();
        Totals {
            hits: sum(|cell| &cell.hits),
            stale: sum(|cell| &cell.stale),
            revalidated: sum(|cell| &cell.revalidated),
            misses: sum(|cell| &cell.misses),
            bypasses: sum(|cell| &cell.bypasses),
            stores: sum(|cell| &cell.stores),
            waits: sum(|cell| &cell.waits),
            saved: sum(|cell| &cell.saved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_counts_in_a_cell_of_its_own() {
        let meters = Meters::new(2);
        for worker in 0..2 + SPARE {
            meters.cell(worker).unwrap().hits.add(1);
            meters.cell(worker).unwrap().waits.add(2);
        }
        let workers = 2 + SPARE as u64;
        let totals = Totals { hits: workers, waits: 2 * workers, ..Totals::default() };
        assert_eq!(meters.sum(), totals);
        meters.cell(99).unwrap().hits.add(1);
        assert_eq!(meters.sum().hits, workers + 1);
    }
}
