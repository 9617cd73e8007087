//! Lends a socket to the h2 crate, and runs one connection over it.
//!
//! The crate polls for octets; our sockets wait by futures of their own. [`Wire`] therefore only tries: what would block is
//! noted, and [`drive`] waits for it, with the same two futures for as long as the connection lasts; until then nothing is tried
//! again, however often a stream wakes the connection. Octets come by way of a block of the pool: the crate's own room would have to
//! be cleared each time, which costs more than to copy what has come. What the peer sends is watched by a gauge of its frames.

use crate::base::Tick;
use crate::http::frames::{Budgets, Excess, Gauge};
use crate::net::buf::{LARGE, SMALL};
use crate::net::runtime::wake_last;
use crate::net::{Buf, Buffers, Side, Sock};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

// Octets read before other connections get their turn (hazard RT-15).
const TURN: usize = 256 << 10;

/// What the crate charges for frames that are read in one turn, if each is of one octet: it ends a connection on which more
/// small frames than it is allowed wait to be taken off it. Streams take what is theirs each turn ([`Stream::absorb`]), so that
/// short messages sent in a row (as gRPC's are), to whoever takes them slowly, are no attack.
///
/// [`Stream::absorb`]: crate::net::h2::Stream::absorb
pub const SMALL_FRAMES: usize = (TURN + LARGE) / 10 * 256;

/// The octets of one connection, as the crate reads and writes them.
#[derive(Debug)]
pub struct Wire {
    sock: Rc<Sock>,
    // What was read before the protocol was known.
    first: RefCell<Option<Buf>>,
    gauge: RefCell<Gauge>,
    budgets: Budgets,
    excess: Cell<Option<Excess>>,
    blocked: [Cell<bool>; 2],
    pool: Rc<Buffers>,
    read: Cell<usize>,
    written: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Which of the socket's deadlines has passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expired {
    /// That of [`Side::Read`].
    pub read: bool,
    /// That of [`Side::Write`].
    pub write: bool,
}

impl Wire {
    /// Lends a client's `sock`, on which `first` has been read already. What arrives is held against `budgets`.
    pub fn of_client(
        sock: Rc<Sock>,
        first: Option<Buf>,
        budgets: Budgets,
        pool: &Rc<Buffers>,
    ) -> Rc<Wire> {
        let first = first.filter(|buf| !buf.is_empty());
        Rc::new(Wire::new(sock, first, Gauge::of_client(Tick::now()), budgets, pool))
    }

    /// Lends a target's `sock`.
    pub fn of_target(sock: Rc<Sock>, pool: &Rc<Buffers>) -> Rc<Wire> {
        let gauge = Gauge::of_server(Tick::now());
        Rc::new(Wire::new(sock, None, gauge, Budgets::UNLIMITED, pool))
    }

    fn new(
        sock: Rc<Sock>,
        first: Option<Buf>,
        gauge: Gauge,
        budgets: Budgets,
        pool: &Rc<Buffers>,
    ) -> Wire {
        Wire {
            sock,
            first: RefCell::new(first),
            gauge: RefCell::new(gauge),
            budgets,
            excess: Cell::new(None),
            blocked: Default::default(),
            pool: Rc::clone(pool),
            read: Cell::new(0),
            written: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    /// The socket.
    pub fn sock(&self) -> &Rc<Sock> {
        &self.sock
    }

    /// What the peer has sent too much of.
    pub fn excess(&self) -> Option<Excess> {
        self.excess.get()
    }

    /// Since when something is being received that is no DATA and not complete.
    pub fn open_since(&self) -> Option<Tick> {
        self.gauge.borrow().open_since()
    }

    /// Whether the trailers of `stream`, which has some, had pseudo-header fields, which the crate takes out of them.
    pub fn is_flawed(&self, stream: u32) -> bool {
        self.gauge.borrow().is_flawed(stream)
    }

    /// Counts a request that was answered to its end.
    pub fn answered(&self) {
        self.gauge.borrow_mut().answered();
    }

    /// Counts a request that was reset before (hazards H2-05 and H2-06).
    pub fn cancelled(&self) {
        if let Err(excess) = self.gauge.borrow_mut().cancelled(Tick::now(), &self.budgets) {
            self.excess.set(Some(excess));
            self.wake();
        }
    }

    /// Lets the connection's task run, from a task of one of its streams.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn try_read(&self, into: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut first = self.first.borrow_mut();
        let mut buf = match first.take() {
            Some(buf) => buf,
            None => {
                let mut buf =
                    if into.remaining() > SMALL { self.pool.large() } else { self.pool.small() };
                let most = into.remaining().min(buf.capacity());
                let n = self.sock.try_read(buf.spare().get_mut(..most).unwrap_or_default())?;
                buf.fill(n);
                buf
            }
        };
        let n = buf.len().min(into.remaining());
        let octets = buf.filled().get(..n).unwrap_or_default();
        let fed = self.gauge.borrow_mut().feed(octets, Tick::now(), &self.budgets);
        if let Err(excess) = fed {
            self.excess.set(Some(excess));
            self.wake();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into.put_slice(octets);
        buf.consume(n);
        if !buf.is_empty() {
            *first = Some(buf);
        }
        Ok(n)
    }

    fn block(&self, side: Side) {
        self.blocked[side as usize].set(true);
    }

    fn unblock(&self, side: Side) {
        self.blocked[side as usize].set(false);
    }

    /// Whether octets were written since this was asked last.
    pub fn has_written(&self) -> bool {
        self.written.take()
    }

    /// Whether the last try on `side` had to wait for the socket.
    pub fn is_blocked(&self, side: Side) -> bool {
        self.blocked[side as usize].get()
    }
}

/// What the crate holds: the wire, as tokio's traits.
#[derive(Debug)]
pub struct Ends(pub Rc<Wire>);

impl AsyncRead for Ends {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &self.0;
        if wire.excess.get().is_some() || wire.is_blocked(Side::Read) {
            return Poll::Pending;
        }
        if wire.read.get() > TURN {
            wake_last(cx.waker().clone());
            return Poll::Pending;
        }
        match wire.try_read(into) {
            Ok(n) => {
                wire.read.set(wire.read.get() + n);
                Poll::Ready(Ok(()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                wire.block(Side::Read);
                Poll::Pending
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl AsyncWrite for Ends {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wire = &self.0;
        if wire.is_blocked(Side::Write) {
            return Poll::Pending;
        }
        match wire.sock.try_write(parts) {
            Ok(n) => {
                wire.written.set(true);
                wire.gauge.borrow_mut().sent(n);
                Poll::Ready(Ok(n))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                wire.block(Side::Write);
                Poll::Pending
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.sock.finish_writing();
        Poll::Ready(Ok(()))
    }
}

/// Polls a connection until `poll` says that it has ended, waiting for its socket in between. The peer may make no room for
/// `stall`; `poll` is told of deadlines that have passed, and arms the one for reading itself.
pub async fn drive(
    wire: &Wire,
    stall: Duration,
    mut poll: impl FnMut(&mut Context<'_>, Expired) -> Poll<()>,
) {
    let sock = &wire.sock;
    let (mut reading, mut writing) = (pin!(None), pin!(None));
    let mut expired = Expired::default();
    let mut patience = Tick::NEVER;
    poll_fn(|cx| {
        let mut waker = wire.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        wire.read.set(0);
        loop {
            if poll(cx, std::mem::take(&mut expired)).is_ready() {
                return Poll::Ready(());
            }
            if reading.is_none() && wire.is_blocked(Side::Read) {
                reading.set(Some(sock.readable()));
            }
            if writing.is_none() && wire.is_blocked(Side::Write) {
                patience = Tick::now().after(stall);
                sock.arm(Side::Write, patience);
                writing.set(Some(sock.writable()));
            }
            let mut again = false;
            if let Some(wait) = reading.as_mut().as_pin_mut()
                && let Poll::Ready(ended) = wait.poll(cx)
            {
                reading.set(None);
                wire.unblock(Side::Read);
                expired.read = ended.is_err();
                again = true;
            }
            if let Some(wait) = writing.as_mut().as_pin_mut()
                && let Poll::Ready(ended) = wait.poll(cx)
            {
                writing.set(None);
                wire.unblock(Side::Write);
                // A drain ends waits, too: what is being written goes on.
                expired.write = ended.is_err() && (sock.is_cut() || Tick::now() >= patience);
                sock.arm(Side::Write, Tick::NEVER);
                again = true;
            }
            if !again {
                return Poll::Pending;
            }
            if wire.read.get() > TURN {
                // What it had waited for will not wake it again.
                wake_last(cx.waker().clone());
                return Poll::Pending;
            }
        }
    })
    .await;
}
