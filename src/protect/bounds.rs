//! What a target may have in flight, all workers together, and the line of those who wait for it.
//!
//! A place is taken by compare-and-swap, so that there is never one too many, however workers interleave. Who waits stands
//! in the line of a worker (`shard::lines`); this knows how many wait where, and whose turn it is: the more important first,
//! then workers in turn, so that none starves. Every order is sequentially consistent: who gives a place back sees who waits,
//! or who waits sees the place.

use crate::base::meters::SPARE;
use crate::protect::Importance;
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// What a target may have in flight, all workers together.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundSettings {
    /// Open connections, idle ones included; `None` for any number.
    pub max_connections: Option<u32>,
    /// Requests in flight, streams of HTTP/2 as well; `None` for any number.
    pub max_requests: Option<u32>,
    /// Requests that may wait, of the whole group.
    pub queue: u32,
    /// How long each may wait; `None` for the group's connect timeout.
    pub queue_timeout: Option<Duration>,
}

impl Default for BoundSettings {
    fn default() -> BoundSettings {
        BoundSettings {
            max_connections: None,
            max_requests: None,
            queue: 1024,
            queue_timeout: None,
        }
    }
}

/// A count that does not pass its bound.
#[derive(Debug, Default)]
pub struct Count(AtomicU32);

impl Count {
    /// Takes a place, if fewer than `most` are taken.
    #[inline]
    #[must_use]
    pub fn enter(&self, most: u32) -> bool {
        self.0.fetch_update(SeqCst, Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
    }

    /// Gives one back.
    #[inline]
    pub fn leave(&self) {
        let before = self.0.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a place is given back once");
    }

    /// Places that are taken.
    #[inline]
    pub fn value(&self) -> u32 {
        self.0.load(SeqCst)
    }
}

/// Who waits for a target of a group.
#[derive(Debug)]
pub struct Line {
    total: CachePadded<AtomicU32>,
    turn: AtomicU32,
    /// Workers of the machine, without those that may be started in their stead.
    pub workers: usize,
    // Made when somebody waits for the first time.
    places: OnceLock<Box<[CachePadded<[AtomicU32; 3]>]>>,
    /// Requests that have waited.
    pub waited: AtomicU64,
    /// For how long, all together, in microseconds.
    pub waited_us: AtomicU64,
    /// Of these, those that waited too long.
    pub late: AtomicU64,
    /// Requests that found the line full.
    pub refused: AtomicU64,
}

impl Line {
    /// A line of so many workers, and those that may be started in their stead.
    pub fn new(workers: usize) -> Line {
        Line {
            total: CachePadded::default(),
            turn: AtomicU32::new(0),
            workers,
            places: OnceLock::new(),
            waited: AtomicU64::new(0),
            waited_us: AtomicU64::new(0),
            late: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// How many wait.
    #[inline]
    pub fn len(&self) -> u32 {
        self.total.load(SeqCst)
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Somebody of a worker begins to wait; how many did before, or `None` where `most` do already. Whoever is told 0 may have
    /// missed a place that became free before.
    #[must_use]
    pub fn enter(&self, worker: usize, importance: Importance, most: u32) -> Option<u32> {
        let entered = self.total.fetch_update(SeqCst, Relaxed, |n| (n < most).then_some(n + 1));
        let before = entered.ok()?;
        if let Some(place) = self.place(worker, importance) {
            place.fetch_add(1, SeqCst);
        }
        Some(before)
    }

    /// Somebody waits no longer. Whom [`Line::vacate`] has counted out is not counted again.
    pub fn leave(&self, worker: usize, importance: Importance) {
        let Some(place) = self.place(worker, importance) else { return };
        if place.fetch_update(SeqCst, Relaxed, |n| n.checked_sub(1)).is_ok() {
            self.total.fetch_sub(1, SeqCst);
        }
    }

    /// Nobody of a worker waits any more that counts: it is gone, or hangs, and looks for no place.
    pub fn vacate(&self, worker: usize) {
        let Some(places) = self.places.get().and_then(|places| places.get(worker)) else { return };
        for place in places.iter() {
            self.total.fetch_sub(place.swap(0, SeqCst), SeqCst);
        }
    }

    /// The worker whose turn it is; `None` where nobody waits.
    pub fn next(&self) -> Option<usize> {
        let places = self.places.get()?;
        let start = self.turn.load(Relaxed) as usize % places.len();
        for importance in Importance::ALL.into_iter().rev() {
            let (before, after) = places.split_at(start);
            let mut all = after.iter().chain(before).enumerate();
            let waits = |place: &CachePadded<[AtomicU32; 3]>| {
                place.get(importance.index()).is_some_and(|n| n.load(SeqCst) > 0)
            };
            if let Some((at, _)) = all.find(|(_, place)| waits(place)) {
                let worker = (start + at) % places.len();
                // The next turn begins behind it.
                self.turn.store(u32::try_from(worker + 1).unwrap_or(0), Relaxed);
                return Some(worker);
            }
        }
        None
    }

    fn place(&self, worker: usize, importance: Importance) -> Option<&AtomicU32> {
        let make = || (0..self.workers + SPARE).map(|_| CachePadded::default()).collect();
        let places = self.places.get_or_init(make);
        places.get(worker).or(places.last())?.get(importance.index())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

    #[test]
    fn never_one_too_many_however_workers_interleave() {
        for most in [1, 3, 10] {
            let (count, inside) = (Count::default(), AtomicI64::new(0));
            std::thread::scope(|scope| {
                for seed in 0..4 {
                    let (count, inside) = (&count, &inside);
                    scope.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed);
                        let mut mine = 0;
                        for _ in 0..20_000 {
                            if rng.bool() && count.enter(most) {
                                mine += 1;
                                let now = inside.fetch_add(1, SeqCst) + 1;
                                assert!(now <= i64::from(most), "{now} of {most}, seed {seed}");
                            } else if mine > 0 {
                                mine -= 1;
                                inside.fetch_sub(1, SeqCst);
                                count.leave();
                            }
                        }
                        for _ in 0..mine {
                            inside.fetch_sub(1, SeqCst);
                            count.leave();
                        }
                    });
                }
            });
            assert_eq!(count.value(), 0, "nothing is lost");
        }
    }

    #[test]
    fn the_line_has_a_bound() {
        let line = Line::new(2);
        assert_eq!(line.enter(0, Importance::Normal, 2), Some(0));
        assert_eq!(line.enter(1, Importance::High, 2), Some(1), "the other one has looked");
        assert_eq!(line.enter(0, Importance::High, 2), None, "whoever it is");
        line.leave(0, Importance::Normal);
        assert_eq!(line.enter(0, Importance::Low, 2), Some(1));
        assert_eq!(Line::new(1).enter(0, Importance::High, 0), None);
    }

    // Hazard RT-02: it may wake after all, with those that waited.
    #[test]
    fn a_worker_that_hangs_leaves_nobody_in_the_line() {
        let line = Line::new(2);
        for importance in Importance::ALL {
            assert!(
                line.enter(0, importance, 9).is_some() && line.enter(1, importance, 9).is_some()
            );
        }
        line.vacate(0);
        line.vacate(99);
        assert_eq!((line.len(), line.next(), line.next()), (3, Some(1), Some(1)));
        line.leave(0, Importance::High);
        assert_eq!(line.len(), 3, "it was counted out already");
        Importance::ALL.into_iter().for_each(|importance| line.leave(1, importance));
        assert!(line.is_empty() && line.next().is_none());
        line.vacate(1);
        assert_eq!(line.enter(0, Importance::Normal, 9), Some(0), "and it may begin anew");
        assert_eq!(line.next(), Some(0));
    }

    #[test]
    fn the_more_important_first_then_workers_in_turn() {
        let line = Line::new(3);
        assert_eq!(line.next(), None);
        let waiting = [
            (0, Importance::Normal, 100),
            (2, Importance::Normal, 1),
            (1, Importance::Low, 1),
            (1, Importance::High, 1),
        ];
        for (worker, importance, n) in waiting {
            (0..n).for_each(|_| assert!(line.enter(worker, importance, 1000).is_some()));
        }
        assert_eq!(line.next(), Some(1));
        line.leave(1, Importance::High);
        // One with many waiting does not keep another from its turn.
        let turns = [line.next(), line.next()];
        assert!(turns.contains(&Some(0)) && turns.contains(&Some(2)), "{turns:?}");
        line.leave(2, Importance::Normal);
        assert_eq!((line.next(), line.next()), (Some(0), Some(0)));
        (0..100).for_each(|_| line.leave(0, Importance::Normal));
        assert_eq!((line.next(), line.len()), (Some(1), 1));
        line.leave(1, Importance::Low);
        assert_eq!((line.next(), line.is_empty()), (None, true));
    }

    #[test]
    fn a_worker_that_was_started_in_anothers_stead_has_a_place() {
        let line = Line::new(1);
        for worker in 0..=1 + SPARE {
            assert!(line.enter(worker, Importance::Normal, 100).is_some());
        }
        for worker in 0..=1 + SPARE {
            line.leave(worker, Importance::Normal);
        }
        assert!(line.is_empty() && line.next().is_none());
    }
}
