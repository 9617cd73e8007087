//! Places that requests and connections have with a target, and the requests of this worker that wait for one.
//!
//! The counts are the machine's (`protect::bounds`); who waits here is called in the order of importance, then of arrival. A
//! place that becomes free is offered to the worker whose turn it is, by a message if that is another one; who is called and
//! has left meanwhile passes the call on. A sweep calls the first of each line again, so that nothing depends on a worker that
//! hangs. Called by `proxy::guard` and `upstream`.

use crate::protect::Importance;
use crate::shard::{Message, Post, TargetCore};
use crate::snapshot::{GroupLive, TargetLive};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

/// The lines of one worker.
#[derive(Debug)]
pub struct Lines {
    worker: usize,
    post: Post,
    // By what they are for; only those in which somebody stands.
    lines: RefCell<HashMap<*const GroupLive, Here>>,
}

#[derive(Debug)]
struct Here {
    // Its address is the key for as long as this is here.
    _live: Arc<GroupLive>,
    // By importance.
    waiters: [VecDeque<Rc<Waiter>>; 3],
}

#[derive(Debug, Default)]
struct Waiter {
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A request that a target has in flight, until this is dropped.
#[derive(Debug, Default)]
pub struct Held(Option<(Rc<TargetCore>, Rc<Lines>)>);

impl Drop for Held {
    fn drop(&mut self) {
        let Some((target, lines)) = self.0.take() else { return };
        let live = &target.live;
        live.guard.requests.leave();
        if live.group.line.is_empty() {
            return;
        }
        // Asked once: each time it is another one's turn.
        let Some(next) = live.group.line.next() else { return };
        // An idle connection here is of no use to another worker.
        if next != lines.worker && live.guard.connections.value() >= target.most.get() {
            target.spare();
        }
        lines.call_worker(next, &live.group);
    }
}

/// A connection to a target that is open or being opened, until this is dropped.
#[derive(Debug)]
pub struct Opened {
    live: Arc<TargetLive>,
    lines: Rc<Lines>,
    bounded: bool,
}

impl Opened {
    /// Whether the target may have so many and no more.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.live.guard.connections.leave();
        if !self.live.group.line.is_empty() {
            self.lines.call(&self.live.group);
        }
    }
}

/// A request that waits, until this is dropped.
#[derive(Debug)]
pub struct Standing {
    lines: Rc<Lines>,
    live: Arc<GroupLive>,
    importance: Importance,
    waiter: Rc<Waiter>,
    /// Whether nobody waited when it began to, on any worker: a place that became free before was offered to nobody.
    pub was_alone: bool,
}

impl Lines {
    /// Nobody waits. `post` reaches the other workers.
    pub fn new(worker: usize, post: Post) -> Lines {
        Lines { worker, post, lines: RefCell::default() }
    }

    /// Takes a place for a request, if the target has fewer than `most` in flight.
    #[inline]
    pub fn hold(self: &Rc<Lines>, target: &Rc<TargetCore>, most: u32) -> Option<Held> {
        let taken = target.live.guard.requests.enter(most);
        taken.then(|| Held(Some((Rc::clone(target), Rc::clone(self)))))
    }

    /// Takes a place for a connection, if the target has fewer open than it may. An idle one of this worker makes room.
    pub fn open(self: &Rc<Lines>, target: &TargetCore) -> Option<Opened> {
        while !target.live.guard.connections.enter(target.most.get()) {
            if !target.spare() {
                return None;
            }
        }
        let bounded = target.most.get() != u32::MAX;
        Some(Opened { live: Arc::clone(&target.live), lines: Rc::clone(self), bounded })
    }

    /// Begins to wait, behind those of the same importance, or `first` of them; `None` where `most` wait already.
    pub fn stand(
        self: &Rc<Lines>,
        live: &Arc<GroupLive>,
        importance: Importance,
        most: u32,
        first: bool,
    ) -> Option<Standing> {
        let was_alone = live.line.enter(self.worker, importance, most)? == 0;
        let waiter = Rc::<Waiter>::default();
        let mut all = self.lines.borrow_mut();
        let here = all
            .entry(Arc::as_ptr(live))
            .or_insert_with(|| Here { _live: Arc::clone(live), waiters: Default::default() });
        if let Some(line) = here.waiters.get_mut(importance.index()) {
            if first {
                line.push_front(Rc::clone(&waiter));
            } else {
                line.push_back(Rc::clone(&waiter));
            }
        }
        let (lines, live) = (Rc::clone(self), Arc::clone(live));
        Some(Standing { lines, live, importance, waiter, was_alone })
    }

    /// There may be a place: whoever's turn it is looks for it.
    pub fn call(&self, live: &Arc<GroupLive>) {
        if let Some(next) = live.line.next() {
            self.call_worker(next, live);
        }
    }

    /// It is the turn of somebody who waits here, or was when another worker said so.
    pub fn called(&self, live: &Arc<GroupLive>) {
        if self.call_here(live) {
            return;
        }
        if let Some(next) = live.line.next().filter(|next| *next != self.worker) {
            self.call_worker(next, live);
        }
    }

    /// Calls the first of each line, whether there is a place or not.
    pub fn sweep(&self) {
        let lines = self.lines.borrow();
        lines.values().filter_map(|here| here.all().next()).for_each(|waiter| waiter.call());
    }

    // It is the turn of this worker.
    fn call_worker(&self, worker: usize, live: &Arc<GroupLive>) {
        if worker == self.worker {
            self.call_here(live);
        } else {
            self.post.tell(worker, Message::Room(Arc::clone(live)));
        }
    }

    // Whether anybody waits here. Who was called and has not looked yet is not called again.
    fn call_here(&self, live: &Arc<GroupLive>) -> bool {
        let lines = self.lines.borrow();
        let Some(here) = lines.get(&Arc::as_ptr(live)) else { return false };
        if let Some(waiter) = here.all().find(|waiter| !waiter.called.get()) {
            waiter.call();
        }
        true
    }
}

impl Here {
    // The more important first.
    fn all(&self) -> impl Iterator<Item = &Rc<Waiter>> {
        self.waiters.iter().rev().flatten()
    }
}

impl Waiter {
    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Standing {
    /// Waits to be called. There need not be a place then.
    pub fn poll_called(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiter.called.take() {
            return Poll::Ready(());
        }
        self.waiter.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Whether nobody stands before it, in the line of this worker.
    pub fn is_first(&self) -> bool {
        let lines = self.lines.lines.borrow();
        let first = lines.get(&Arc::as_ptr(&self.live)).and_then(|here| here.all().next());
        first.is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }

    /// It was called and cannot use what there is: whoever stands next behind it here may.
    pub fn pass_on(&self) {
        let lines = self.lines.lines.borrow();
        let Some(here) = lines.get(&Arc::as_ptr(&self.live)) else { return };
        let from = here.all().skip_while(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(next) = from.skip(1).find(|waiter| !waiter.called.get()) {
            next.call();
        }
    }

    fn step_out(&self) {
        let mut lines = self.lines.lines.borrow_mut();
        let key = Arc::as_ptr(&self.live);
        let Some(here) = lines.get_mut(&key) else { return };
        if let Some(line) = here.waiters.get_mut(self.importance.index())
            && let Some(at) = line.iter().position(|waiter| Rc::ptr_eq(waiter, &self.waiter))
        {
            line.remove(at);
        }
        if here.waiters.iter().all(VecDeque::is_empty) {
            lines.remove(&key);
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.step_out();
        self.live.line.leave(self.lines.worker, self.importance);
        // Whoever comes next gets what this one was called for.
        if self.waiter.called.get() && !self.live.line.is_empty() {
            self.lines.call(&self.live);
        }
    }
}

/// A request that a breaker has let in as a trial: unless it is told what came of it, another may be let in in its place.
#[derive(Debug)]
pub struct Trial {
    live: Arc<GroupLive>,
    phase: Option<u32>,
}

impl Trial {
    /// A trial of this phase.
    pub fn new(live: &Arc<GroupLive>, phase: u32) -> Trial {
        Trial { live: Arc::clone(live), phase: Some(phase) }
    }

    /// Its phase: what came of it is told.
    pub fn end(mut self) -> Option<u32> {
        self.phase.take()
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(phase) = self.phase {
            self.live.breaker.give_back(phase);
        }
    }
}

/// Counts how long somebody has waited.
pub fn waited(live: &GroupLive, micros: u64, late: bool) {
    let line = &live.line;
    line.waited.fetch_add(1, Ordering::Relaxed);
    line.waited_us.fetch_add(micros, Ordering::Relaxed);
    if late {
        line.late.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(standing: &Standing) -> bool {
        standing.poll_called(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn lines() -> (Rc<Lines>, Arc<GroupLive>) {
        (Rc::new(Lines::new(0, Post::default())), GroupLive::new(2))
    }

    #[test]
    fn each_place_is_one_turn_and_no_worker_is_left_out() {
        let lines = Rc::new(Lines::new(0, Post::default()));
        let target = crate::shard::target::tests::sample();
        let live = Arc::clone(&target.live.group);
        let here = lines.stand(&live, Importance::Normal, 9, false).unwrap();
        assert!(live.line.enter(1, Importance::Normal, 9).is_some(), "one of another worker");
        let mut called = 0;
        for _ in 0..10 {
            drop(lines.hold(&target, 1).unwrap());
            called += u32::from(poll(&here));
        }
        assert_eq!(called, 5);
        // Nor where a message comes for somebody who has left.
        drop(here);
        let third = Lines::new(2, Post::default());
        let (_first, other) = (live.line.enter(0, Importance::Normal, 9), live.line.next());
        third.called(&live);
        assert_eq!(live.line.next(), other, "one of two turns was passed on");
    }

    #[test]
    fn who_came_first_is_called_first_and_the_more_important_before() {
        use Importance::{High, Low, Normal};
        let (lines, live) = lines();
        let stand = |importance| lines.stand(&live, importance, 9, false).unwrap();
        let (low, one, two, high) = (stand(Low), stand(Normal), stand(Normal), stand(High));
        let again = lines.stand(&live, Normal, 9, true).unwrap();
        let mut order = Vec::new();
        for _ in 0..5 {
            lines.call(&live);
            let all = [&low, &one, &two, &high, &again];
            let called = all.iter().position(|standing| standing.waiter.called.get());
            order.push(called.unwrap());
            // Called, it looks, and is called no more.
            all[called.unwrap()].waiter.called.set(true);
            lines.call(&live);
            let next = all.iter().filter(|standing| standing.waiter.called.get()).count();
            assert!(next <= 2);
            all.iter().for_each(|standing| _ = poll(standing));
        }
        assert_eq!(order, [3; 5], "while it stands");
        drop(high);
        lines.call(&live);
        assert!(poll(&again) && !poll(&one));
        drop(again);
        lines.call(&live);
        assert!(poll(&one) && !poll(&two) && !poll(&low));
        drop((one, two));
        lines.call(&live);
        assert!(low.is_first() && poll(&low));
        drop(low);
        assert!(live.line.is_empty() && lines.lines.borrow().is_empty());
    }

    #[test]
    fn who_is_called_and_leaves_passes_it_on() {
        let (lines, live) = lines();
        let stand = || lines.stand(&live, Importance::Normal, 9, false).unwrap();
        let (one, two, three) = (stand(), stand(), stand());
        lines.call(&live);
        lines.call(&live);
        drop(one);
        assert!(poll(&two) && poll(&three), "two places, and two are left");
        drop(two);
        assert!(!poll(&three), "it has used what it was called for");
    }

    #[test]
    fn who_cannot_use_a_place_passes_it_to_those_behind() {
        let (lines, live) = lines();
        let stand = |importance| lines.stand(&live, importance, 9, false).unwrap();
        let (one, two) = (stand(Importance::Normal), stand(Importance::Normal));
        let (low, high) = (stand(Importance::Low), stand(Importance::High));
        one.pass_on();
        assert!(poll(&two) && !poll(&one) && !poll(&high) && !poll(&low));
        two.pass_on();
        assert!(poll(&low), "the next behind it");
        low.pass_on();
        assert!(![&one, &two, &low, &high].into_iter().any(poll), "nobody is");
    }

    #[test]
    fn a_line_has_its_bound_and_a_sweep_calls_its_first() {
        let (lines, live) = lines();
        let stand = || lines.stand(&live, Importance::Normal, 2, false);
        let (one, two) = (stand().unwrap(), stand().unwrap());
        assert!(one.was_alone && !two.was_alone, "one of both looks for what was free before");
        assert!(stand().is_none());
        lines.sweep();
        assert!(poll(&one) && !poll(&two));
        drop(one);
        assert!(stand().is_some());
    }
}
