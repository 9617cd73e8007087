//! Deadlines: four per client connection, checked by one sweep a worker, with no timer per request and nothing cancelled.
//!
//! An exchange is one task, so its client's slot serves both of its sockets: the target's joins it for the time of the
//! exchange, and one waker per connection is kept instead of one per wait. Arming a deadline stores a number. A sweep every [`SWEEP`] looks at all slots of the worker and wakes the tasks whose
//! deadline has passed; their waits then end with `TimedOut`. A deadline may fire up to one sweep late, never early.

use crate::base::Tick;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

/// How often deadlines are looked at.
pub const SWEEP: Duration = Duration::from_millis(100);

/// Which wait a deadline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Waiting until there is something to read.
    Read = 0,
    /// Waiting until there is room to write.
    Write = 1,
}

/// Which of an exchange's sockets waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The client's.
    Client = 0,
    /// The target's.
    Target = 2,
}

/// All deadlines of one worker.
#[derive(Debug, Default)]
pub struct Timers {
    slots: RefCell<Slab<Rc<Slot>>>,
}

/// Whether a wait is over before what it waits for has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It goes on.
    #[default]
    Not,
    /// Its deadline has passed: it ends, unless what it waits for is there. A worker that was held up, or a connection that
    /// is let go while idle, loses no request that had arrived.
    Passed,
    /// It ends in any case.
    Cut,
}

/// The deadlines of one client connection and of the target's connection that serves it.
#[derive(Debug)]
pub struct Slot {
    deadlines: [Cell<Tick>; 4],
    expired: [Cell<Expiry>; 4],
    idle: Cell<bool>,
    abandoned: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    /// Ends waits on `side` with `TimedOut` once `deadline` has passed; forgets an earlier one.
    #[inline]
    pub(super) fn arm(&self, role: Role, side: Side, deadline: Tick) {
        let at = role as usize | side as usize;
        self.deadlines[at].set(deadline);
        self.expired[at].set(if self.abandoned.get() { Expiry::Cut } else { Expiry::Not });
    }

    /// Marks the socket as idle: a drain may end its wait at once.
    #[inline]
    pub fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Ends the waits of this socket now.
    pub fn expire(&self) {
        self.end_waits(Expiry::Cut);
    }

    /// Ends the waits of this socket now, and whichever begin later: nobody is left for whom to wait.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        self.expire();
    }

    /// Forgets a cut, unless nobody is left: what was cut is over, and the connection goes on with something else, which may
    /// not arm all sides before it asks [`Slot::is_cut`].
    #[inline]
    pub fn renew(&self) {
        if self.abandoned.get() {
            return;
        }
        for expired in &self.expired {
            if expired.get() == Expiry::Cut {
                expired.set(Expiry::Not);
            }
        }
    }

    /// Whether [`Slot::expire`] was called, for any of its waits that was not armed since.
    pub(super) fn is_cut(&self) -> bool {
        self.expired.iter().any(|expired| expired.get() == Expiry::Cut)
    }

    fn end_waits(&self, how: Expiry) {
        self.expired.iter().for_each(|expired| expired.set(how));
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    #[inline]
    pub(super) fn expiry(&self, role: Role, side: Side) -> Expiry {
        self.expired[role as usize | side as usize].get()
    }

    #[inline]
    pub(super) fn watch(&self, waker: &Waker) {
        let mut watched = self.waker.borrow_mut();
        if !watched.as_ref().is_some_and(|w| w.will_wake(waker)) {
            *watched = Some(waker.clone());
        }
    }

    fn check(&self, now: Tick) {
        let mut wake = false;
        for (deadline, expired) in self.deadlines.iter().zip(&self.expired) {
            if deadline.get() <= now {
                deadline.set(Tick::NEVER);
                expired.set(Expiry::Passed);
                wake = true;
            }
        }
        if wake && let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// One socket's place among the [`Timers`]; leaves it when dropped.
#[derive(Debug)]
pub struct Timer {
    slot: Rc<Slot>,
    timers: Rc<Timers>,
    key: usize,
}

impl Timer {
    /// The deadlines themselves.
    #[inline]
    pub fn slot(&self) -> &Rc<Slot> {
        &self.slot
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut().try_remove(self.key);
    }
}

impl Timers {
    /// A place with no deadline armed.
    pub fn register(self: &Rc<Timers>) -> Timer {
        let slot = Rc::new(Slot {
            deadlines: std::array::from_fn(|_| Cell::new(Tick::NEVER)),
            expired: Default::default(),
            idle: Cell::new(false),
            abandoned: Cell::new(false),
            waker: RefCell::new(None),
        });
        let key = self.slots.borrow_mut().insert(Rc::clone(&slot));
        Timer { slot, timers: Rc::clone(self), key }
    }

    /// Wakes everything whose deadline has passed.
    pub fn sweep(&self, now: Tick) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.check(now);
        }
    }

    /// Ends the waits of all idle sockets on which nothing has arrived: what a drain does first.
    pub fn expire_idle(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            if slot.idle.get() {
                slot.end_waits(Expiry::Passed);
            }
        }
    }

    /// Ends the waits of all sockets: what a drain does last.
    pub fn expire_all(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.expire();
        }
    }

    /// Sockets of this worker.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether the worker has no socket.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fires_once_and_only_after_its_time() {
        let timers = Rc::new(Timers::default());
        let timer = timers.register();
        timer.slot().arm(Role::Client, Side::Read, Tick::from_nanos(10));
        timers.sweep(Tick::from_nanos(9));
        assert!(timer.slot().expiry(Role::Client, Side::Read) == Expiry::Not);
        timers.sweep(Tick::from_nanos(10));
        assert!(
            timer.slot().expiry(Role::Client, Side::Read) == Expiry::Passed
                && timer.slot().expiry(Role::Client, Side::Write) == Expiry::Not
        );
        timer.slot().arm(Role::Client, Side::Read, Tick::NEVER);
        timers.sweep(Tick::from_nanos(11));
        assert!(
            timer.slot().expiry(Role::Client, Side::Read) == Expiry::Not,
            "arming again forgets"
        );
        drop(timer);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_cut_is_forgotten_by_arming_unless_nobody_is_left() {
        let timers = Rc::new(Timers::default());
        let timer = timers.register();
        let slot = timer.slot();
        slot.expire();
        slot.arm(Role::Target, Side::Read, Tick::NEVER);
        assert!(slot.expiry(Role::Target, Side::Read) == Expiry::Not && slot.is_cut());
        slot.abandon();
        slot.arm(Role::Target, Side::Read, Tick::NEVER);
        assert!(slot.expiry(Role::Target, Side::Read) == Expiry::Cut);
    }

    #[test]
    fn a_cut_is_of_one_request_unless_nobody_is_left() {
        let timers = Rc::new(Timers::default());
        let timer = timers.register();
        let slot = timer.slot();
        slot.expire();
        slot.arm(Role::Client, Side::Read, Tick::NEVER);
        assert!(slot.is_cut());
        slot.renew();
        assert!(!slot.is_cut() && slot.expiry(Role::Target, Side::Write) == Expiry::Not);
        slot.arm(Role::Client, Side::Write, Tick::from_nanos(1));
        timers.sweep(Tick::from_nanos(1));
        slot.renew();
        assert!(slot.expiry(Role::Client, Side::Write) == Expiry::Passed, "only cuts");
        slot.abandon();
        slot.renew();
        assert!(slot.is_cut());
    }

    #[test]
    fn only_idle_sockets_are_let_go_first() {
        let timers = Rc::new(Timers::default());
        let (idle, busy) = (timers.register(), timers.register());
        idle.slot().set_idle(true);
        timers.expire_idle();
        assert!(
            idle.slot().expiry(Role::Client, Side::Read) == Expiry::Passed
                && busy.slot().expiry(Role::Client, Side::Read) == Expiry::Not
        );
        timers.expire_all();
        assert!(busy.slot().expiry(Role::Client, Side::Write) == Expiry::Cut);
    }
}
