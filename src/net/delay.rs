//! Waits of a request that is held back on purpose: precise to about a millisecond, never early.
//!
//! Deadlines ([`crate::net::Timers`]) fire up to a sweep late, which is fine for what is over by then; a request that a limit
//! delays is to go on at its time. One timerfd a worker stands at the earliest wait. It is a refinement: a wait also stands
//! in its client's slot, so that the sweep ends it where there is no timerfd, or more waits than [`MOST`], and so that a drain,
//! a reset stream and a lost connection end it at once. Called by `proxy::policies`; started by `worker`.

use crate::base::Tick;
use crate::net::runtime;
use crate::net::sys::{Handle, fd};
use crate::net::timer::{Expiry, Role, Side, Slot};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Waits of one worker that the timerfd knows of; those beyond are ended by the sweep.
pub const MOST: usize = 1 << 16;

// Waits that end within the same millisecond end together: at most a thousand wake-ups a second.
const GRAIN: u64 = 1_000_000;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Its time has come.
    Due,
    /// Nobody is left for whom to go on: the stream was reset, or the process stops.
    Cut,
}

/// The waits of one worker.
#[derive(Debug, Default)]
pub struct Delays {
    // By their end; the number tells those with the same end apart.
    waits: RefCell<BTreeMap<(Tick, u64), Waker>>,
    next: Cell<u64>,
    alarm: RefCell<Option<Rc<Handle>>>,
}

impl Delays {
    /// Opens the timerfd and spawns the task that listens to it. Without it the sweep ends waits.
    ///
    /// # Errors
    /// Those of `timerfd_create(2)`.
    pub fn start(self: &Rc<Delays>) -> io::Result<()> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let alarm = Rc::new(Handle::from_std(UnixStream::from(timer))?);
        self.alarm.replace(Some(Rc::clone(&alarm)));
        let delays = Rc::clone(self);
        let listen = async move {
            while runtime::wait_for_timer(&alarm).await.is_ok() {
                delays.wake(Tick::now());
            }
        };
        runtime::spawn(listen, || {});
        Ok(())
    }

    /// Waits until `end`. `slot` is the client's: its deadline for reads is used for the wait, and has to be armed anew
    /// before the next read. Dropping the wait is sound.
    pub async fn until(&self, end: Tick, slot: &Slot) -> Waited {
        self.until_on(Side::Read, end, slot).await
    }

    /// As [`Delays::until`], with the deadline for `side`: the other one may be in use meanwhile.
    pub async fn until_on(&self, side: Side, end: Tick, slot: &Slot) -> Waited {
        slot.arm(Role::Client, side, end);
        let mut place = Place { delays: self, key: None };
        poll_fn(|cx| {
            if slot.expiry(Role::Client, side) == Expiry::Cut {
                return Poll::Ready(Waited::Cut);
            }
            if Tick::now() >= end {
                return Poll::Ready(Waited::Due);
            }
            // What expired without its time having come (an idle connection's drain) is armed again: the request goes on.
            if slot.expiry(Role::Client, side) == Expiry::Passed {
                slot.arm(Role::Client, side, end);
            }
            slot.watch(cx.waker());
            place.wait(end, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Waits that the timerfd knows of.
    pub fn len(&self) -> usize {
        self.waits.borrow().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // Wakes what is due, and sets the alarm for what is not.
    fn wake(&self, now: Tick) {
        let mut waits = self.waits.borrow_mut();
        while let Some(first) = waits.first_entry() {
            if first.key().0 > now {
                break;
            }
            first.remove().wake();
        }
        if let Some(((end, _), _)) = waits.first_key_value() {
            self.set_alarm(*end, now);
        }
    }

    fn set_alarm(&self, end: Tick, now: Tick) {
        let alarm = self.alarm.borrow();
        let Some(alarm) = alarm.as_ref() else { return };
        // Zero would disarm it.
        let left = end.since(now).max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let once = Timespec { tv_sec: seconds, tv_nsec: left.subsec_nanos().into() };
        let spec = Itimerspec { it_interval: never, it_value: once };
        // Where it fails, the sweep is late instead.
        let _ = rustix::time::timerfd_settime(fd(alarm), TimerfdTimerFlags::empty(), &spec);
    }
}

// One wait among the others; leaves them when dropped.
struct Place<'a> {
    delays: &'a Delays,
    key: Option<(Tick, u64)>,
}

impl Place<'_> {
    fn wait(&mut self, end: Tick, waker: &Waker) {
        let mut waits = self.delays.waits.borrow_mut();
        if let Some(known) = self.key.and_then(|key| waits.get_mut(&key)) {
            known.clone_from(waker);
            return;
        }
        if waits.len() >= MOST {
            return;
        }
        let end = Tick::from_nanos(end.nanos().div_ceil(GRAIN).saturating_mul(GRAIN));
        let number = self.delays.next.get();
        self.delays.next.set(number.wrapping_add(1));
        let earliest = waits.first_key_value().is_none_or(|((first, _), _)| end < *first);
        waits.insert((end, number), waker.clone());
        self.key = Some((end, number));
        if earliest {
            self.delays.set_alarm(end, Tick::now());
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.delays.waits.borrow_mut().remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tick;
    use crate::net::Timers;
    use crate::net::runtime::{Driver, probe_ring, run};
    use std::pin::pin;
    use std::task::Context;

    fn poll(wait: std::pin::Pin<&mut impl Future<Output = Waited>>) -> Poll<Waited> {
        wait.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn ends_at_its_time_or_when_cut_and_leaves_nothing() {
        let (delays, timers) = (Delays::default(), Rc::new(Timers::default()));
        let timer = timers.register();
        let end = Tick::from_nanos(5_500_000);
        tick::script(Some(Tick::ZERO));
        {
            let mut wait = pin!(delays.until(end, timer.slot()));
            assert_eq!(poll(wait.as_mut()), Poll::Pending);
            assert_eq!(poll(wait.as_mut()), Poll::Pending);
            assert_eq!(delays.len(), 1);
            tick::script(Some(Tick::from_nanos(5_499_999)));
            assert_eq!(poll(wait.as_mut()), Poll::Pending, "never early");
            tick::script(Some(end));
            assert_eq!(poll(wait.as_mut()), Poll::Ready(Waited::Due));
        }
        tick::script(Some(Tick::ZERO));
        {
            let mut wait = pin!(delays.until(end, timer.slot()));
            assert_eq!(poll(wait.as_mut()), Poll::Pending);
            timer.slot().set_idle(true);
            timers.expire_idle();
            assert_eq!(poll(wait.as_mut()), Poll::Pending, "a request goes on while others drain");
            timers.expire_all();
            assert_eq!(poll(wait.as_mut()), Poll::Ready(Waited::Cut));
        }
        {
            let mut wait = pin!(delays.until(end, timer.slot()));
            assert_eq!(poll(wait.as_mut()), Poll::Pending);
        }
        assert!(delays.is_empty(), "a dropped wait leaves nothing");
        tick::script(None);
    }

    #[test]
    fn the_timer_wakes_each_at_its_time() {
        for driver in [Driver::Epoll, Driver::IoUring] {
            if driver == Driver::IoUring && probe_ring().is_err() {
                continue;
            }
            let ended = Rc::new(RefCell::new(Vec::new()));
            let seen = Rc::clone(&ended);
            run(driver, || async move {
                let (delays, timers) = (Rc::new(Delays::default()), Rc::new(Timers::default()));
                delays.start().unwrap();
                let began = Tick::now();
                let begin = |ms: u64| {
                    let (delays, ended) = (Rc::clone(&delays), Rc::clone(&ended));
                    let timer = timers.register();
                    async move {
                        let end = began.after(Duration::from_millis(ms));
                        assert_eq!(delays.until(end, timer.slot()).await, Waited::Due);
                        assert!(Tick::now() >= end, "never early");
                        ended.borrow_mut().push(ms);
                    }
                };
                // The later ones first: each moves the alarm forward.
                for ms in [40, 30, 20, 10] {
                    runtime::spawn(begin(ms), || {});
                }
                // On a busy machine all may be due before the first of them gets its turn.
                let timer = timers.register();
                while ended.borrow().len() < 4 && Tick::now().since(began) < Duration::from_secs(20)
                {
                    let end = Tick::now().after(Duration::from_millis(10));
                    assert_eq!(delays.until(end, timer.slot()).await, Waited::Due);
                }
                assert!(delays.is_empty());
            })
            .unwrap();
            assert_eq!(*seen.borrow(), [10, 20, 30, 40], "{driver:?}");
        }
    }
}
