//! Copies of requests on one worker: how many are on their way, what their bodies take, and real answers kept beside them.
//!
//! All of it has bounds of its own, so that whatever the group of a mirror does costs clients nothing. Called by `proxy::mirror`.

use crate::base::Tick;
use crate::fanout::compare::{Reason, Side};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Copies on their way, on each worker; beyond it requests are not copied.
pub const MOST: usize = 256;
/// Octets of bodies that copies and comparisons hold, on each worker.
pub const MOST_OCTETS: usize = 32 << 20;

/// The copies of one worker.
#[derive(Debug, Default)]
pub struct Copies {
    count: Cell<usize>,
    octets: Cell<usize>,
}

/// A copy on its way, until this is dropped.
#[derive(Debug)]
pub struct Place {
    copies: Rc<Copies>,
    octets: Cell<usize>,
}

impl Copies {
    /// A place for a copy whose body has so many octets; `None` where there is no more room.
    pub fn begin(self: &Rc<Copies>, octets: usize) -> Option<Rc<Place>> {
        if self.count.get() >= MOST {
            return None;
        }
        let place = Place { copies: Rc::clone(self), octets: Cell::new(0) };
        self.count.set(self.count.get() + 1);
        place.grow(octets).then(|| Rc::new(place))
    }

    /// Copies on their way.
    pub fn count(&self) -> usize {
        self.count.get()
    }
}

impl Place {
    /// Room for so many octets more, until it is dropped; false where there is none.
    pub fn grow(&self, octets: usize) -> bool {
        let all = self.copies.octets.get().saturating_add(octets);
        if all > MOST_OCTETS {
            return false;
        }
        self.copies.octets.set(all);
        self.octets.set(self.octets.get() + octets);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.copies.count.set(self.copies.count.get() - 1);
        self.copies.octets.set(self.copies.octets.get() - self.octets.get());
    }
}

/// The real answer, for whoever compares it.
#[derive(Debug, Default)]
pub struct Kept {
    side: RefCell<Side>,
    ended: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Kept {
    /// Ready once it has ended, whole or not.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Side> {
        if self.ended.get() {
            return Poll::Ready(self.side.take());
        }
        self.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// Keeps the real answer as it passes. Dropped before its end it is none.
#[derive(Debug)]
pub struct Tap {
    kept: Rc<Kept>,
    place: Rc<Place>,
    // Octets of the body that are kept at most.
    limit: usize,
    began: Tick,
}

impl Tap {
    /// A tap, and what it fills: at most `limit` octets of a body.
    pub fn new(place: Rc<Place>, limit: u64, began: Tick) -> (Tap, Rc<Kept>) {
        let kept = Rc::<Kept>::default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        (Tap { kept: Rc::clone(&kept), place, limit, began }, kept)
    }

    /// When the request was ready to be sent.
    pub fn began(&self) -> Tick {
        self.began
    }

    /// The head is here.
    pub fn head(&self, side: Side) {
        self.kept.side.replace(side);
    }

    /// Octets of the body are.
    pub fn data(&self, octets: &[u8]) {
        let mut side = self.kept.side.borrow_mut();
        if side.gap.is_some() {
            return;
        }
        if side.body.len() + octets.len() > self.limit {
            side.gap = Some(Reason::TooLarge);
        } else if !self.place.grow(octets.len()) {
            side.gap = Some(Reason::NoRoom);
        } else {
            side.body.extend_from_slice(octets);
            return;
        }
        side.body = Vec::new();
        drop(side);
        // Nothing more is wanted of it, however long it goes on.
        self.end();
    }

    /// The body is not that of the target.
    pub fn without_body(&self, why: Reason) {
        self.kept.side.borrow_mut().gap = Some(why);
        self.end();
    }

    /// The answer is whole.
    pub fn end(&self) {
        self.kept.ended.set(true);
        if let Some(waker) = self.kept.waiting.take() {
            waker.wake();
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if !self.kept.ended.get() {
            self.kept.side.borrow_mut().gap = Some(Reason::RealFailed);
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(kept: &Kept) -> Option<Side> {
        match kept.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(side) => Some(side),
            Poll::Pending => None,
        }
    }

    #[test]
    fn copies_and_what_they_hold_have_bounds() {
        let copies = Rc::<Copies>::default();
        let mut places: Vec<_> = (0..MOST).map(|_| copies.begin(1).unwrap()).collect();
        assert!(copies.begin(0).is_none());
        places.pop();
        assert!(copies.begin(MOST_OCTETS).is_none(), "too large beside the others");
        assert_eq!(copies.count(), MOST - 1, "what was refused leaves nothing behind");
        let place = copies.begin(MOST_OCTETS - MOST + 1).unwrap();
        assert!(!place.grow(1));
        places.pop();
        assert!(place.grow(1));
        drop((places, place));
        assert_eq!((copies.count(), copies.octets.get()), (0, 0));
    }

    #[test]
    fn an_answer_is_kept_whole_or_not_at_all() {
        let copies = Rc::<Copies>::default();
        let tap = |limit| Tap::new(copies.begin(0).unwrap(), limit, Tick::ZERO);
        let (whole, kept) = tap(4);
        whole.head(Side { status: 200, ..Side::default() });
        whole.data(b"12");
        assert_eq!(taken(&kept), None);
        whole.data(b"34");
        whole.end();
        drop(whole);
        let side = taken(&kept).unwrap();
        assert_eq!((side.status, side.body.as_slice(), side.gap), (200, &b"1234"[..], None));

        let (large, kept) = tap(4);
        large.data(b"123");
        large.data(b"45");
        let side = taken(&kept).unwrap();
        assert_eq!((side.body.len(), side.gap), (0, Some(Reason::TooLarge)));
        large.data(b"6");

        let (broken, kept) = tap(4);
        broken.data(b"1");
        drop(broken);
        assert_eq!(taken(&kept).unwrap().gap, Some(Reason::RealFailed));

        let (crowded, kept) = tap(u64::MAX);
        let _other = copies.begin(MOST_OCTETS - 8).unwrap();
        crowded.data(b"123456789");
        assert_eq!(taken(&kept).unwrap().gap, Some(Reason::NoRoom));
    }
}
