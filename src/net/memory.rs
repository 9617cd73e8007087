//! A connection in memory: two bounded pipes that answer as a TCP connection does, and a network made of them.
//!
//! For simulations: the code above `net` runs on it unchanged, without a kernel socket or a runtime. One thread; an
//! end is held by a `Sock` or used directly by whoever plays the peer. It models what `recv(2)` and `send(2)` show:
//! short reads and writes, no room, FIN, half-close, reset, data lost to a reset. It models no latency: who wants
//! octets late writes them late.

use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How a connection in memory behaves.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Octets that may lie unread in each direction: those written by the first end, those by the second.
    pub capacity: [usize; 2],
    /// Octets that one write takes at most, at least 1. A read takes all that is there, as `recv(2)` does.
    pub most: usize,
    /// Whether a reset overtakes what was sent before it, so that the peer never sees that.
    pub reset_overtakes: bool,
}

impl Default for Shape {
    /// Room as a kernel has it, and writes that take all they can.
    fn default() -> Shape {
        Shape { capacity: [1 << 16; 2], most: usize::MAX, reset_overtakes: true }
    }
}

/// One end of a connection; dropping it closes the connection.
#[derive(Debug)]
pub struct End(Box<Inner>);

// Boxed, so that a `Sock` is one word larger for it and no more.
#[derive(Debug)]
struct Inner {
    link: Rc<RefCell<Link>>,
    side: usize,
    address: Option<SocketAddr>,
    reset_on_close: Cell<bool>,
}

#[derive(Debug)]
struct Link {
    halves: [Half; 2],
    most: usize,
    reset_overtakes: bool,
}

// What one end has done, and what it has heard.
#[derive(Debug, Default)]
struct Half {
    // Written by this end; the other has read the first `taken` octets of it.
    sent: Vec<u8>,
    taken: usize,
    capacity: usize,
    finished: bool,
    closed: bool,
    was_reset: bool,
    // Who waits to read, and to write.
    waiting: [Option<Waker>; 2],
}

const TO_READ: usize = 0;
const TO_WRITE: usize = 1;

/// A connection; `addresses` are what each end calls its own.
pub fn pair(shape: Shape, addresses: [Option<SocketAddr>; 2]) -> (End, End) {
    let halves =
        shape.capacity.map(|capacity| Half { capacity: capacity.max(1), ..Half::default() });
    let (most, reset_overtakes) = (shape.most.max(1), shape.reset_overtakes);
    let link = Rc::new(RefCell::new(Link { halves, most, reset_overtakes }));
    let [first, second] = addresses;
    let end = |side, address| {
        let link = Rc::clone(&link);
        End(Box::new(Inner { link, side, address, reset_on_close: Cell::new(false) }))
    };
    (end(0, first), end(1, second))
}

impl End {
    /// Reads what is there, as `recv(2)`; 0 at the end of the stream.
    ///
    /// # Errors
    /// `AGAIN` when nothing is there yet; `CONNRESET`.
    pub fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        let link = &mut *self.0.link.borrow_mut();
        let (me, peer) = link.halves(self.0.side);
        if peer.unread().is_empty() {
            return me.nothing_to_read(peer);
        }
        let n = into.len().min(peer.unread().len());
        if let (Some(to), Some(from)) = (into.get_mut(..n), peer.unread().get(..n)) {
            to.copy_from_slice(from);
        }
        peer.take(n);
        peer.wake(TO_WRITE);
        Ok(n)
    }

    /// Writes what there is room for, as `sendmsg(2)`. To a peer that has closed, the first write succeeds and is answered
    /// by a reset.
    ///
    /// # Errors
    /// `AGAIN` when there is no room; `PIPE` after a reset or [`End::finish_writing`].
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        let link = &mut *self.0.link.borrow_mut();
        let (mut most, overtakes) = (link.most, link.reset_overtakes);
        let (me, peer) = link.halves(self.0.side);
        if me.finished || me.was_reset {
            return Err(Errno::PIPE);
        }
        if peer.closed {
            me.hear_reset(peer, overtakes);
            return Ok(most.min(parts.iter().map(|p| p.len()).sum()));
        }
        most = most.min(me.capacity - me.unread().len());
        if most == 0 {
            return Err(Errno::AGAIN);
        }
        let mut written = 0;
        for part in parts {
            let n = part.len().min(most - written);
            me.sent.extend_from_slice(part.get(..n).unwrap_or_default());
            written += n;
        }
        peer.wake(TO_READ);
        Ok(written)
    }

    /// Sends FIN, as `shutdown(2)`.
    pub fn finish_writing(&self) {
        let link = &mut *self.0.link.borrow_mut();
        let (me, peer) = link.halves(self.0.side);
        me.finished = true;
        peer.wake(TO_READ);
    }

    /// Makes the close a reset, as SO_LINGER with 0.
    pub fn reset_on_close(&self) {
        self.0.reset_on_close.set(true);
    }

    /// Whether a read would do anything but wait.
    pub fn has_news(&self) -> bool {
        let link = &mut *self.0.link.borrow_mut();
        let (me, peer) = link.halves(self.0.side);
        !peer.unread().is_empty() || me.nothing_to_read(peer) != Err(Errno::AGAIN)
    }

    /// Octets that were written here and that the peer has not read.
    pub fn unread_by_peer(&self) -> usize {
        self.0.link.borrow_mut().halves(self.0.side).0.unread().len()
    }

    /// Whether the peer has dropped its end.
    pub fn is_abandoned(&self) -> bool {
        self.0.link.borrow_mut().halves(self.0.side).1.closed
    }

    /// What this end calls its own address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// Ready once a read would not wait.
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_news() {
            return Poll::Ready(());
        }
        self.0.link.borrow_mut().halves(self.0.side).0.wait(TO_READ, cx)
    }

    /// Ready once the peer has dropped its end. Takes the place of whoever waits to read here.
    pub fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        let link = &mut *self.0.link.borrow_mut();
        let (me, peer) = link.halves(self.0.side);
        if peer.closed { Poll::Ready(()) } else { me.wait(TO_READ, cx) }
    }

    /// Ready once a write would not wait.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let link = &mut *self.0.link.borrow_mut();
        let (me, peer) = link.halves(self.0.side);
        let room = me.unread().len() < me.capacity;
        if room || me.finished || me.was_reset || peer.closed {
            return Poll::Ready(());
        }
        me.wait(TO_WRITE, cx)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let link = &mut *self.0.link.borrow_mut();
        let overtakes = link.reset_overtakes;
        let (me, peer) = link.halves(self.0.side);
        me.closed = true;
        // RFC 9293 section 3.6.1: a close with data unread is a reset.
        if self.0.reset_on_close.get() || !peer.unread().is_empty() {
            peer.hear_reset(me, overtakes);
        } else {
            me.finished = true;
        }
        peer.lose();
        peer.wake(TO_READ);
        peer.wake(TO_WRITE);
    }
}

impl Link {
    // This side's half and the other's.
    fn halves(&mut self, side: usize) -> (&mut Half, &mut Half) {
        let [first, second] = &mut self.halves;
        if side == 0 { (first, second) } else { (second, first) }
    }
}

impl Half {
    fn unread(&self) -> &[u8] {
        self.sent.get(self.taken..).unwrap_or_default()
    }

    // The other end has read `n` octets more.
    fn take(&mut self, n: usize) {
        self.taken += n;
        if self.unread().is_empty() {
            self.lose();
        } else if self.taken > self.sent.len() / 2 {
            self.sent.drain(..self.taken);
            self.taken = 0;
        }
    }

    // Nobody will read what is unread.
    fn lose(&mut self) {
        self.sent.clear();
        self.taken = 0;
    }

    fn nothing_to_read(&self, peer: &Half) -> Result<usize, Errno> {
        if self.was_reset {
            Err(Errno::CONNRESET)
        } else if peer.finished {
            Ok(0)
        } else {
            Err(Errno::AGAIN)
        }
    }

    // A reset from `peer` arrives.
    fn hear_reset(&mut self, peer: &mut Half, overtakes: bool) {
        self.was_reset = true;
        if overtakes {
            peer.lose();
        }
        self.wake(TO_READ);
        self.wake(TO_WRITE);
    }

    fn wait(&mut self, what: usize, cx: &Context<'_>) -> Poll<()> {
        if let Some(waiting) = self.waiting.get_mut(what) {
            *waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake(&mut self, what: usize) {
        if let Some(waker) = self.waiting.get_mut(what).and_then(Option::take) {
            waker.wake();
        }
    }
}

/// Connections that were asked for and not answered yet.
#[derive(Debug, Default)]
pub struct Dialled {
    queue: RefCell<VecDeque<Attempt>>,
}

/// One connection that is asked for. Left unanswered, it stays pending until the caller's deadline.
#[derive(Clone, Debug)]
pub struct Attempt(Rc<Asked>);

#[derive(Debug)]
struct Asked {
    to: String,
    answer: RefCell<Option<Result<End, Errno>>>,
    waiting: RefCell<Option<Waker>>,
}

impl Dialled {
    /// The attempt that has waited longest. Whoever plays the targets answers it, now or later.
    pub fn next(&self) -> Option<Attempt> {
        self.queue.borrow_mut().pop_front()
    }

    pub(super) fn dial(&self, to: String) -> Attempt {
        let asked = Asked { to, answer: RefCell::default(), waiting: RefCell::default() };
        let attempt = Attempt(Rc::new(asked));
        self.queue.borrow_mut().push_back(attempt.clone());
        attempt
    }
}

impl Attempt {
    /// The target, as `address:port` or `unix:PATH`.
    pub fn to(&self) -> &str {
        &self.0.to
    }

    /// Whether the caller has given up.
    pub fn is_abandoned(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }

    /// Answers: with the caller's end of a connection, or with the error that `connect(2)` gives.
    pub fn answer(self, answer: Result<End, Errno>) {
        *self.0.answer.borrow_mut() = Some(answer);
        if let Some(waker) = self.0.waiting.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Result<End, Errno>> {
        if let Some(answer) = self.0.answer.borrow_mut().take() {
            return Poll::Ready(answer);
        }
        *self.0.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (End, End) {
        pair(Shape { capacity: [4, 4], most: 3, reset_overtakes: true }, [None, None])
    }

    fn write(end: &End, octets: &[u8]) -> Result<usize, Errno> {
        end.write(&[IoSlice::new(octets)])
    }

    fn read(end: &End) -> Result<Vec<u8>, Errno> {
        let mut into = [0; 16];
        end.read(&mut into).map(|n| into[..n].to_vec())
    }

    #[test]
    fn moves_octets_in_order_and_no_more_than_there_is_room_for() {
        let (a, b) = small();
        assert_eq!(read(&b), Err(Errno::AGAIN));
        assert_eq!(a.write(&[IoSlice::new(b"12"), IoSlice::new(b"34")]), Ok(3));
        assert_eq!(write(&a, b"456"), Ok(1), "four lie unread");
        assert_eq!(write(&a, b"56"), Err(Errno::AGAIN));
        assert!(b.has_news() && !a.has_news());
        let mut into = [0; 3];
        assert_eq!((b.read(&mut into), into), (Ok(3), *b"123"));
        assert_eq!(read(&b).unwrap(), b"4");
        assert_eq!(read(&b), Err(Errno::AGAIN));
    }

    #[test]
    fn a_half_close_ends_one_direction() {
        let (a, b) = small();
        write(&a, b"x").unwrap();
        a.finish_writing();
        assert_eq!(write(&a, b"y"), Err(Errno::PIPE));
        assert_eq!(read(&b).unwrap(), b"x");
        assert_eq!(read(&b).unwrap(), b"");
        assert_eq!(write(&b, b"z"), Ok(1));
        assert_eq!(read(&a).unwrap(), b"z");
    }

    #[test]
    fn a_close_is_a_fin_or_a_reset_if_something_was_unread() {
        let (a, b) = small();
        write(&a, b"x").unwrap();
        drop(a);
        assert_eq!(read(&b).unwrap(), b"x");
        assert_eq!(read(&b).unwrap(), b"");
        assert_eq!(write(&b, b"y"), Ok(1), "as TCP: the first write finds out");
        assert_eq!((write(&b, b"y"), read(&b)), (Err(Errno::PIPE), Err(Errno::CONNRESET)));

        let (a, b) = small();
        write(&a, b"x").unwrap();
        write(&b, b"y").unwrap();
        drop(a);
        assert_eq!(read(&b), Err(Errno::CONNRESET), "the reset overtook the data");

        let shape = Shape { reset_overtakes: false, ..Shape::default() };
        let (a, b) = pair(shape, [None, None]);
        write(&a, b"x").unwrap();
        a.reset_on_close();
        drop(a);
        assert_eq!(read(&b).unwrap(), b"x");
        assert_eq!(read(&b), Err(Errno::CONNRESET));
    }

    #[test]
    fn wakes_whoever_waits() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let check = |wanted| assert_eq!(count.0.load(Ordering::Relaxed), wanted);
        let (a, b) = small();
        assert!(b.poll_readable(&cx).is_pending());
        write(&a, b"123").unwrap();
        check(1);
        write(&a, b"4").unwrap();
        assert!(a.poll_writable(&cx).is_pending());
        read(&b).unwrap();
        check(2);
        assert!(a.poll_readable(&cx).is_pending());
        assert!(a.poll_abandoned(&cx).is_pending());
        drop(b);
        check(3);
        assert!(a.poll_writable(&cx).is_ready() && a.poll_abandoned(&cx).is_ready());

        let dialled = Dialled::default();
        let asked = dialled.dial("here".to_owned());
        assert!(asked.poll(&cx).is_pending());
        let answering = dialled.next().unwrap();
        assert!(!answering.is_abandoned());
        answering.answer(Err(Errno::CONNREFUSED));
        check(4);
        assert!(matches!(asked.poll(&cx), Poll::Ready(Err(Errno::CONNREFUSED))));
        drop(dialled.dial("there".to_owned()));
        assert!(dialled.next().unwrap().is_abandoned());
    }
}
