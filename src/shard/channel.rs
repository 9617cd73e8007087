//! HTTP/2 connections to one target, as one worker knows them: which are open, and how many streams each carries.
//!
//! They are few, shared by many exchanges, and never taken out: an exchange has a place on one. Opening and running them
//! is `upstream::h2`'s; whoever runs one holds none of this, so that letting go of a target ends its connections.

use crate::base::Tick;
use crate::http::Fault;
use crate::net::h2::{Stream, Wire};
use ::http::Request;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The most streams on one connection at a time, whatever the target allows: what ends a connection fails as many
/// exchanges (hazard H2-13).
pub const MOST_STREAMS: usize = 100;

/// All connections of this kind to one target.
#[derive(Debug, Default)]
pub struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    opening: RefCell<Option<Rc<Opening>>>,
}

/// One connection.
pub struct Channel {
    // `None` once it takes no more streams; without it, the connection ends with its last stream.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    wire: Rc<Wire>,
    streams: Cell<usize>,
    since: Cell<Tick>,
    suspected: Cell<bool>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("streams", &self.streams.get()).finish_non_exhaustive()
    }
}

/// A connection that is being opened, for all who wait for one.
#[derive(Debug, Default)]
pub struct Opening {
    ended: Cell<Option<Result<(), Fault>>>,
    waiting: RefCell<Vec<Waker>>,
}

enum Room {
    Free,
    Full,
    Closed,
}

impl Channels {
    /// The first connection that takes another stream. Those that have ended are forgotten.
    pub fn pick(&self) -> Option<Rc<Channel>> {
        let mut open = self.open.borrow_mut();
        let mut at = 0;
        while let Some(channel) = open.get(at) {
            match channel.room() {
                Room::Free => return Some(Rc::clone(channel)),
                Room::Full => at += 1,
                // What is in flight on it has a hold of its own.
                Room::Closed => drop(open.remove(at)),
            }
        }
        None
    }

    /// Whether one takes another stream now, or is being opened and may.
    pub fn has_room(&self) -> bool {
        let free = |channel: &Rc<Channel>| matches!(channel.room(), Room::Free);
        self.opening.borrow().is_some() || self.open.borrow().iter().any(free)
    }

    /// The one that is being opened; if there is none, `begin` is called with a new one.
    pub fn opening(&self, begin: impl FnOnce(Rc<Opening>)) -> Rc<Opening> {
        if let Some(opening) = self.opening.borrow().as_ref() {
            return Rc::clone(opening);
        }
        let opening = Rc::new(Opening::default());
        self.opening.replace(Some(Rc::clone(&opening)));
        begin(Rc::clone(&opening));
        opening
    }

    /// Ends an opening with a connection.
    pub fn opened(&self, opening: &Opening, channel: Rc<Channel>) {
        self.opening.replace(None);
        self.open.borrow_mut().push(channel);
        opening.end(Ok(()));
    }

    /// Ends an opening without one.
    pub fn failed(&self, opening: &Opening, fault: Fault) {
        self.opening.replace(None);
        opening.end(Err(fault));
    }

    /// Closes connections that have had no stream for `oldest`.
    pub fn sweep(&self, now: Tick, oldest: Duration) {
        self.open.borrow_mut().retain(|channel| {
            let over = channel.streams.get() == 0 && now.since(channel.since.get()) >= oldest;
            !over && !matches!(channel.room(), Room::Closed)
        });
    }

    /// Closes one that has no stream, if there is one.
    pub fn spare(&self) {
        let mut open = self.open.borrow_mut();
        if let Some(at) = open.iter().position(|channel| channel.streams.get() == 0) {
            open.remove(at).close();
        }
    }

    /// Lets all of them go: each ends with its last stream.
    pub fn close(&self) {
        for channel in self.open.take() {
            channel.close();
        }
    }

    /// Connections, and how many of them have no stream.
    pub fn count(&self) -> (usize, usize) {
        let open = self.open.borrow();
        (open.len(), open.iter().filter(|channel| channel.streams.get() == 0).count())
    }

    /// Whether there is none, nor one to come.
    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty() && self.opening.borrow().is_none()
    }
}

impl Channel {
    /// A connection that takes streams by `sender`.
    pub fn new(sender: SendRequest<Bytes>, wire: Rc<Wire>) -> Channel {
        Channel {
            sender: RefCell::new(Some(sender)),
            wire,
            streams: Cell::new(0),
            since: Cell::new(Tick::now()),
            suspected: Cell::new(false),
        }
    }

    fn room(&self) -> Room {
        let mut sender = self.sender.borrow_mut();
        let Some(open) = sender.as_mut() else { return Room::Closed };
        match open.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                let most = open.current_max_send_streams().min(MOST_STREAMS);
                if self.streams.get() < most { Room::Free } else { Room::Full }
            }
            Poll::Ready(Err(_)) => {
                *sender = None;
                Room::Closed
            }
            // It waits for no stream, so this does not happen.
            Poll::Pending => Room::Full,
        }
    }

    /// Sends a request's head; `end` if it has no body.
    ///
    /// # Errors
    /// When the connection has ended, or the head is none that HTTP/2 can say.
    pub fn send(&self, request: Request<()>, end: bool) -> Result<Stream, h2::Error> {
        let mut sender = self.sender.borrow_mut();
        let Some(open) = sender.as_mut() else {
            return Err(h2::Reason::REFUSED_STREAM.into());
        };
        // A sender remembers a stream that could not begin at once, and whoever then asks it for room takes that stream's
        // place as the one to be woken. A clone is forgotten instead.
        let (response, body) = open.clone().send_request(request, end)?;
        Ok(Stream::of_target(&self.wire, response, body))
    }

    /// Takes no more streams.
    pub fn close(&self) {
        self.sender.replace(None);
    }

    /// An answer is overdue: whoever runs the connection asks whether the target is there at all.
    pub fn suspect(&self) {
        self.suspected.set(true);
        self.wire.wake();
    }

    pub(super) fn enter(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get() - 1);
        if self.streams.get() == 0 {
            self.since.set(Tick::now());
        }
    }

    /// Streams on it.
    pub fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Whether [`Channel::suspect`] was called since [`Channel::settle`] was.
    pub fn is_suspected(&self) -> bool {
        self.suspected.get()
    }

    /// The target has been asked.
    pub fn settle(&self) {
        self.suspected.set(false);
    }
}

impl Opening {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    fn end(&self, outcome: Result<(), Fault>) {
        self.ended.set(Some(outcome));
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits for the end of it. It comes: opening has a deadline.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn wait(&self) -> Result<(), Fault> {
        poll_fn(|cx| {
            if let Some(ended) = self.ended.get() {
                return Poll::Ready(ended);
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
