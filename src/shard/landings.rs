//! Requests of one worker that wait for what another request fetches, on this worker or another.
//!
//! Whoever waits gives the flight a ticket; whoever ends the flight has every worker told of its tickets, through its mailbox. A
//! request that goes away takes its place along, and a ticket whose place was given to somebody else is passed over.

use crate::store::Flight;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// The places of those who wait.
#[derive(Debug)]
pub struct Landings {
    open: RefCell<Slab<Open>>,
    number: Cell<u32>,
}

#[derive(Debug)]
struct Open {
    // Tells this wait from an earlier one in the same place.
    number: u32,
    landed: bool,
    waker: Option<Waker>,
}

impl Landings {
    /// No place is taken.
    #[expect(clippy::new_without_default, reason = "two are not the same")]
    pub fn new() -> Landings {
        // A worker that follows another of its number is not taken for it.
        Landings { open: RefCell::default(), number: Cell::new(fastrand::u32(..)) }
    }

    /// Waits for the end of `flight`; how it ended, it says itself. Dropping the wait is sound.
    pub async fn wait(&self, worker: usize, flight: &Flight) {
        let place = self.take_place();
        let waiting = Waiting { landings: self, place };
        let number = u64::from(self.number.get());
        let ticket = number << 32 | u64::try_from(place).unwrap_or(u64::MAX >> 32);
        if !flight.join(worker, ticket) {
            return;
        }
        poll_fn(|context| waiting.poll(context.waker())).await;
    }

    /// What these tickets wait for has ended.
    pub fn land(&self, tickets: &[u64]) {
        let mut open = self.open.borrow_mut();
        for ticket in tickets {
            let place = usize::try_from(ticket & u64::from(u32::MAX)).unwrap_or(usize::MAX);
            let one = open.get_mut(place).filter(|one| u64::from(one.number) == ticket >> 32);
            let Some(one) = one else { continue };
            one.landed = true;
            if let Some(waker) = one.waker.take() {
                waker.wake();
            }
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    // As many as there are requests in flight, which have a bound of their own.
    fn take_place(&self) -> usize {
        self.number.set(self.number.get().wrapping_add(1));
        let one = Open { number: self.number.get(), landed: false, waker: None };
        self.open.borrow_mut().insert(one)
    }
}

struct Waiting<'a> {
    landings: &'a Landings,
    place: usize,
}

impl Waiting<'_> {
    fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut open = self.landings.open.borrow_mut();
        let Some(one) = open.get_mut(self.place) else { return Poll::Ready(()) };
        if one.landed {
            return Poll::Ready(());
        }
        if !one.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            one.waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.landings.open.borrow_mut().try_remove(self.place);
    }
}
