//! Counters and histograms: one padded cell a worker, one writer, readers sum.
//!
//! A cell is written only by its worker, so adding is a relaxed load and a relaxed store: no locked
//! instruction, no shared line. Readers (metrics, the dashboard) may see a sum that is a moment old.

use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Workers beyond the usual number that may exist at once: successors of those that hang.
pub const SPARE: usize = 8;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owner of the cell may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n`, for gauges; never goes below zero.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_sub(n), Ordering::Relaxed);
    }

    /// Replaces the value, for gauges that are read off now and then.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value as a reader sees it.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the latency buckets, in seconds; a last bucket holds everything above.
pub const BOUNDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];
const BOUNDS_US: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// A latency histogram with one writer.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; 17],
    sum_us: Counter,
}

impl Histogram {
    /// Records one latency.
    #[inline]
    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(16);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.add(1);
        }
        self.sum_us.add(us);
    }
}

/// What is counted for each listener, rule, group and target.
#[derive(Debug, Default)]
pub struct Cell {
    /// Requests that ended, by class of the answer: index 1 is 1xx ... 5 is 5xx; 0 is no answer sent.
    pub status: [Counter; 6],
    /// Requests begun and not yet ended (a gauge).
    pub active: Counter,
    /// Bytes of request heads and bodies read from clients.
    pub bytes_in: Counter,
    /// Bytes of response heads and bodies written to clients.
    pub bytes_out: Counter,
    /// Answers that ringgate made itself because something failed.
    pub faults: Counter,
    /// Requests sent again on another connection.
    pub retries: Counter,
    /// Connections opened: accepted on a listener, dialled to a target.
    pub connects: Counter,
    /// Connections that could not be opened.
    pub connect_errors: Counter,
    /// Connections open now (a gauge).
    pub connections: Counter,
    /// Of these, idle ones that are kept for reuse (a gauge; targets only).
    pub idle: Counter,
    /// Tunnels opened: upgraded requests, and connections that are relayed.
    pub tunnels: Counter,
    /// Tunnels open now (a gauge).
    pub open_tunnels: Counter,
    /// From the request's first byte to the answer's last.
    pub latency: Histogram,
}

/// The meters of one named object: one [`Cell`] a worker. Carried over reloads by name.
#[derive(Debug)]
pub struct Meters {
    cells: Box<[CachePadded<Cell>]>,
    // A worker that hangs may still write when it wakes, so its successor writes elsewhere. Made when first needed: ten
    // thousand rules would pay 30 MB for it.
    spare: OnceLock<Box<[CachePadded<Cell>]>>,
}

impl Meters {
    /// Meters for `workers` workers.
    pub fn new(workers: usize) -> Meters {
        let cells = (0..workers.max(1)).map(|_| CachePadded::default()).collect();
        Meters { cells, spare: OnceLock::new() }
    }

    /// The cell of one worker. There are [`SPARE`] more than asked for; a number beyond the last shares the last cell.
    #[inline]
    pub fn cell(&self, worker: usize) -> &Cell {
        match self.cells.get(worker) {
            Some(cell) => cell,
            None => self.spare(worker - self.cells.len()),
        }
    }

    #[cold]
    fn spare(&self, at: usize) -> &Cell {
        let spare = self.spare.get_or_init(|| (0..SPARE).map(|_| CachePadded::default()).collect());
        &spare[at.min(SPARE - 1)]
    }

    /// Sets the gauges of a worker to nothing. Only for a worker whose thread has ended.
    pub fn vacate(&self, worker: usize) {
        let spare = worker >= self.cells.len();
        if spare && self.spare.get().is_none() {
            return;
        }
        let cell = self.cell(worker);
        for gauge in [&cell.active, &cell.connections, &cell.idle, &cell.open_tunnels] {
            gauge.set(0);
        }
    }

    /// The sum over all workers.
    pub fn sum(&self) -> Totals {
        let mut total = Totals::default();
        let spare = self.spare.get().map(|spare| spare.iter()).into_iter().flatten();
        for cell in self.cells.iter().chain(spare) {
            for (sum, class) in total.status.iter_mut().zip(&cell.status) {
                *sum += class.value();
            }
            for (sum, bucket) in total.buckets.iter_mut().zip(&cell.latency.buckets) {
                *sum += bucket.value();
            }
            total.latency_us += cell.latency.sum_us.value();
            total.active += cell.active.value();
            total.bytes_in += cell.bytes_in.value();
            total.bytes_out += cell.bytes_out.value();
            total.faults += cell.faults.value();
            total.retries += cell.retries.value();
            total.connects += cell.connects.value();
            total.connect_errors += cell.connect_errors.value();
            total.connections += cell.connections.value();
            total.idle += cell.idle.value();
            total.tunnels += cell.tunnels.value();
            total.open_tunnels += cell.open_tunnels.value();
        }
        total
    }
}

/// The sum of a [`Meters`] over all workers. Fields as in [`Cell`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the same fields as Cell")]
pub struct Totals {
    pub status: [u64; 6],
    pub active: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub faults: u64,
    pub retries: u64,
    pub connects: u64,
    pub connect_errors: u64,
    pub connections: u64,
    pub idle: u64,
    pub tunnels: u64,
    pub open_tunnels: u64,
    /// Requests per latency bucket, not cumulative; the bounds are [`BOUNDS`].
    pub buckets: [u64; 17],
    /// The sum of all latencies, in microseconds.
    pub latency_us: u64,
}

impl Totals {
    /// Requests that ended.
    pub fn requests(&self) -> u64 {
        self.status.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_workers() {
        let meters = Meters::new(2);
        meters.cell(0).status[2].add(3);
        meters.cell(1).status[2].add(4);
        meters.cell(1).latency.record(Duration::from_micros(500));
        meters.cell(7).latency.record(Duration::from_secs(100));
        let total = meters.sum();
        assert_eq!(total.requests(), 7);
        assert_eq!((total.buckets[0], total.buckets[16]), (1, 1));
    }

    #[test]
    fn every_worker_has_a_cell_of_its_own_and_leaves_no_gauge_behind() {
        let meters = Meters::new(2);
        meters.vacate(5);
        assert!(meters.spare.get().is_none(), "what nobody used is not made");
        for worker in 0..2 + SPARE {
            meters.cell(worker).connections.add(1);
            meters.cell(worker).connects.add(1);
        }
        let own = |w: usize| meters.cell(w).connections.value() == 1;
        assert!((0..2 + SPARE).all(own));
        for worker in [1, 2, 1 + SPARE] {
            meters.vacate(worker);
        }
        let total = meters.sum();
        assert_eq!((total.connections, total.connects), (SPARE as u64 - 1, SPARE as u64 + 2));
    }
}
