//! How long a client may take over a body: no pause longer than the timeout, and no slower on average than a floor.
//!
//! Only time spent waiting for the client counts, so that a slow target is never held against it. After [`GRACE`] a client
//! must have moved the floor's octets for every further second that it was waited for. Pure: time comes in.

use crate::base::Tick;
use crate::proxy::throttle::Throttle;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// Waiting that is free: short bodies, and starts that are slow.
pub const GRACE: Duration = Duration::from_secs(20);

/// The patience with one body.
#[derive(Debug)]
pub struct Pace {
    /// How long no octet may come or go.
    pub stall: Duration,
    /// Octets a second; `None` where only the stall counts.
    pub floor: Option<u64>,
    // When all of it must have come or gone, whatever has moved.
    until: Tick,
    /// How fast the body may move at most; `None` for as fast as it can.
    pub throttle: Option<Throttle>,
    waited: Cell<Duration>,
}

/// The patience with two sides that may both pause: over only when neither has sent anything for so long.
#[derive(Clone, Debug)]
pub struct Quiet {
    idle: Duration,
    // When either sent something; both directions write it.
    last: Rc<Cell<Tick>>,
}

impl Quiet {
    /// Patience of `idle`; both directions share `last`.
    pub fn new(idle: Duration, last: Rc<Cell<Tick>>) -> Quiet {
        Quiet { idle, last }
    }

    /// Something was sent.
    pub fn moved(&self, now: Tick) {
        self.last.set(self.last.get().max(now));
    }

    /// When it will be over if nothing more is sent; waiting began at `since`.
    pub fn deadline(&self, since: Tick) -> Tick {
        self.last.get().max(since).after(self.idle)
    }
}

/// Which limit ends a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing moved.
    Stall,
    /// Too little moved.
    Floor,
}

impl Pace {
    /// Patience from now on.
    pub fn new(stall: Duration, floor: Option<u64>) -> Pace {
        Pace { stall, floor, throttle: None, until: Tick::NEVER, waited: Cell::new(Duration::ZERO) }
    }

    /// Patience that is over then, however much moves.
    pub fn until(until: Tick) -> Pace {
        Pace { until, ..Pace::new(Duration::MAX, None) }
    }

    /// The same patience with a body that may move only so fast.
    pub fn held_to(self, throttle: Option<Throttle>) -> Pace {
        Pace { throttle, ..self }
    }

    /// When a wait that begins `now` ends, and why, after `moved` octets.
    pub fn deadline(&self, now: Tick, moved: u64) -> (Tick, Limit) {
        let Some(floor) = self.floor else {
            return (now.after(self.stall).min(self.until), Limit::Stall);
        };
        let earned = Duration::from_secs(moved / floor.max(1));
        let left = GRACE.saturating_add(earned).saturating_sub(self.waited.get());
        if left < self.stall {
            (now.after(left), Limit::Floor)
        } else {
            (now.after(self.stall), Limit::Stall)
        }
    }

    /// A wait from `since` to `now` is over.
    pub fn waited(&self, since: Tick, now: Tick) {
        self.waited.set(self.waited.get().saturating_add(now.since(since)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * SECOND)
    }

    #[test]
    fn without_a_floor_only_pauses_count() {
        let pace = Pace::new(Duration::from_secs(30), None);
        pace.waited(at(0), at(1000));
        assert_eq!(pace.deadline(at(1000), 1), (at(1030), Limit::Stall));
    }

    #[test]
    fn what_has_an_end_ends_then_however_much_moves() {
        let pace = Pace::until(at(7));
        assert_eq!(pace.deadline(at(1), 0), (at(7), Limit::Stall));
        assert_eq!(pace.deadline(at(6), 1 << 30), (at(7), Limit::Stall));
    }

    #[test]
    fn either_side_keeps_both_open() {
        let last = Rc::new(Cell::new(at(0)));
        let one = Quiet::new(Duration::from_secs(300), Rc::clone(&last));
        let other = one.clone();
        assert_eq!(one.deadline(at(5)), at(305));
        other.moved(at(100));
        other.moved(at(90));
        assert_eq!(one.deadline(at(5)), at(400));
    }

    #[test]
    fn a_drip_ends_when_its_grace_is_used_up() {
        let pace = Pace::new(Duration::from_secs(30), Some(240));
        assert_eq!(pace.deadline(at(0), 0), (at(20), Limit::Floor));
        pace.waited(at(0), at(15));
        assert_eq!(pace.deadline(at(15), 1), (at(20), Limit::Floor));
        pace.waited(at(15), at(20));
        assert_eq!(pace.deadline(at(20), 2), (at(20), Limit::Floor), "no time left");
        assert_eq!(pace.deadline(at(20), 240 * 7), (at(27), Limit::Floor), "what moved earns time");
        assert_eq!(pace.deadline(at(20), 240 * 60), (at(50), Limit::Stall));
    }
}
