//! One stream socket, TCP or Unix: waits through the ring (or epoll), reads and writes by direct system calls. In a
//! simulation it is the end of a connection in memory instead (`memory`), which costs the kernel's path one branch; and one
//! stream of an HTTP/2 connection is a socket, too (`h2::Stream`): whoever relays a body need not know what carries it.
//!
//! All methods take `&self`, so that both directions of a body can be relayed at once. A wait may be dropped at any
//! time. Waits end with `TimedOut` when their deadline passes (`timer`).

use crate::base::Tick;
use crate::net::h2::Stream;
use crate::net::h2::stream::Head;
use crate::net::memory::{Dialled, End};
use crate::net::pipe::Pipe;
use crate::net::runtime::wake_last;
use crate::net::sys::{Handle, fd};
use crate::net::timer::{Expiry, Role, Side, Slot, Timer, Timers};
use crate::net::tls::Tls;
use crate::tls::{Facts, Failure};
use h2::Reason;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A non-blocking stream socket of this worker.
#[derive(Debug)]
pub struct Sock {
    io: Io,
    // The TLS session on it, once there is one.
    pub(super) tls: Option<Box<Tls>>,
    role: Role,
    // The client's own, or that of the client that a target's connection serves now.
    slot: RefCell<Rc<Slot>>,
    // Keeps a client's slot among those that are swept.
    _timer: Option<Timer>,
}

// What carries the octets.
#[derive(Debug)]
enum Io {
    Kernel(Handle),
    Memory(End),
    // Thick, and not every connection's.
    Stream(Box<Stream>),
}

impl Sock {
    /// Adopts the non-blocking descriptor of a client's connection.
    ///
    /// # Errors
    /// When the driver cannot register it.
    pub fn adopt(descriptor: OwnedFd, timers: &Rc<Timers>) -> io::Result<Sock> {
        let io = Handle::from_std(UnixStream::from(descriptor))?;
        Ok(Sock::of_client(Io::Kernel(io), timers))
    }

    /// Adopts the end of a client's connection in memory.
    pub fn in_memory(end: End, timers: &Rc<Timers>) -> Sock {
        Sock::of_client(Io::Memory(end), timers)
    }

    /// Takes a request on an HTTP/2 connection of a client for a connection of its own.
    pub fn of_stream(stream: Stream, timers: &Rc<Timers>) -> Sock {
        Sock::of_client(Io::Stream(Box::new(stream)), timers)
    }

    /// Takes a request on an HTTP/2 connection to a target for a connection of its own, for the client whose slot this is.
    pub fn of_target_stream(stream: Stream, slot: Rc<Slot>) -> Sock {
        let io = Io::Stream(Box::new(stream));
        Sock { io, tls: None, role: Role::Target, slot: RefCell::new(slot), _timer: None }
    }

    /// The stream of an HTTP/2 connection, if it is one: heads and trailers go by its own calls.
    #[inline]
    pub fn stream(&self) -> Option<&Stream> {
        match &self.io {
            Io::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether nobody is left to read what would be written, as far as that is known.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.stream().is_some_and(Stream::is_gone)
    }

    /// Ready once the other end of a connection in memory was dropped; never for any other.
    pub fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        match &self.io {
            Io::Memory(end) => end.poll_abandoned(cx),
            Io::Kernel(_) | Io::Stream(_) => Poll::Pending,
        }
    }

    /// Whether the peer has ended its side, as far as can be seen without reading: it may still read, but who waits for long
    /// hardly does.
    pub fn has_left(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let Io::Kernel(io) = &self.io else { return self.is_gone() };
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let descriptor = fd(io);
        let mut asked = [PollFd::new(&descriptor, PollFlags::RDHUP)];
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let seen = poll(&mut asked, Some(&at_once));
        seen.is_ok() && asked.iter().any(|one| one.revents().intersects(ended))
    }

    fn of_client(io: Io, timers: &Rc<Timers>) -> Sock {
        let timer = timers.register();
        let slot = RefCell::new(Rc::clone(timer.slot()));
        Sock { io, tls: None, role: Role::Client, slot, _timer: Some(timer) }
    }

    /// Opens a TCP connection to a target, with TCP_NODELAY, for the client whose slot this is.
    ///
    /// # Errors
    /// Those of `connect(2)`; `TimedOut` at `deadline`.
    pub async fn connect_tcp(to: SocketAddr, slot: Rc<Slot>, deadline: Tick) -> io::Result<Sock> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = stream_socket(family)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let started = rustix::net::connect(&socket, &to);
        Sock::finish_connect(socket, started, slot, deadline).await
    }

    /// Opens a connection to a target's Unix stream socket.
    ///
    /// # Errors
    /// Those of `connect(2)`; `TimedOut` at `deadline`.
    pub async fn connect_unix(path: &Path, slot: Rc<Slot>, deadline: Tick) -> io::Result<Sock> {
        let to = rustix::net::SocketAddrUnix::new(path)?;
        let socket = stream_socket(AddressFamily::UNIX)?;
        let started = rustix::net::connect(&socket, &to);
        Sock::finish_connect(socket, started, slot, deadline).await
    }

    /// Opens a connection to a target in memory.
    ///
    /// # Errors
    /// As [`Sock::connect_tcp`].
    pub async fn connect_memory(
        network: &Dialled,
        to: String,
        slot: Rc<Slot>,
        deadline: Tick,
    ) -> io::Result<Sock> {
        let attempt = network.dial(to);
        slot.arm(Role::Target, Side::Write, deadline);
        let end = poll_fn(|cx| {
            poll_until_expired(&slot, Role::Target, Side::Write, cx, |cx| {
                attempt.poll(cx).map_err(io::Error::from)
            })
        });
        let io = Io::Memory(end.await?);
        Ok(Sock { io, tls: None, role: Role::Target, slot: RefCell::new(slot), _timer: None })
    }

    async fn finish_connect(
        socket: OwnedFd,
        started: Result<(), Errno>,
        slot: Rc<Slot>,
        deadline: Tick,
    ) -> io::Result<Sock> {
        let pending = match started {
            Ok(()) => false,
            Err(Errno::INPROGRESS) => true,
            Err(error) => return Err(error.into()),
        };
        let io = Io::Kernel(Handle::from_std(UnixStream::from(socket))?);
        let sock =
            Sock { io, tls: None, role: Role::Target, slot: RefCell::new(slot), _timer: None };
        if pending {
            sock.arm(Side::Write, deadline);
            sock.writable().await?;
            if let Io::Kernel(io) = &sock.io {
                sockopt::socket_error(fd(io))??;
            }
        }
        Ok(sock)
    }

    /// What was agreed on in the TLS handshake; `None` where there was none.
    #[inline]
    pub fn tls(&self) -> Option<&Rc<Facts>> {
        self.tls.as_ref().map(|tls| tls.facts())
    }

    /// What ended the TLS session, if that was an alert of the peer or what TLS forbids.
    pub fn tls_failure(&self) -> Option<Failure> {
        self.tls.as_ref().and_then(|tls| tls.failure())
    }

    /// The deadlines that waits on this socket obey.
    #[inline]
    pub fn slot(&self) -> Rc<Slot> {
        Rc::clone(&self.slot.borrow())
    }

    /// From now on this target's connection serves the client whose slot this is.
    #[inline]
    pub fn join(&self, slot: Rc<Slot>) {
        self.slot.replace(slot);
    }

    /// Ends waits on `side` with `TimedOut` once `deadline` has passed; forgets an earlier one.
    #[inline]
    pub fn arm(&self, side: Side, deadline: Tick) {
        self.slot.borrow().arm(self.role, side, deadline);
    }

    /// Marks the connection as idle: a drain may end its wait at once.
    #[inline]
    pub fn set_idle(&self, idle: bool) {
        self.slot.borrow().set_idle(idle);
    }

    /// Waits until a read would not block.
    ///
    /// # Errors
    /// `TimedOut` when the read deadline passes.
    #[inline]
    pub async fn readable(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            if tls.is_weary() {
                return Box::pin(self.readable_after_others(tls)).await;
            }
            if tls.is_readable() {
                return self.unless_cut_on(Side::Read);
            }
            if tls.is_pending() {
                // Rare: kept out of the future of every other wait.
                return Box::pin(self.readable_when_flushed(tls)).await;
            }
        }
        self.carrier_readable().await
    }

    // Lets the worker's other connections have their turn first. A deadline that has passed ends it, though the peer may be
    // sending: it may be sending nothing that is ever read.
    async fn readable_after_others(&self, tls: &Tls) -> io::Result<()> {
        to_the_end_of_the_queue().await;
        tls.rest();
        if tls.is_readable() {
            return self.unless_cut_on(Side::Read);
        }
        if self.slot.borrow().expiry(self.role, Side::Read) != Expiry::Not {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.readable_when_flushed(tls).await
    }

    // Waits until there is something to read, and sends meanwhile what the session owes its peer.
    async fn readable_when_flushed(&self, tls: &Tls) -> io::Result<()> {
        while tls.is_pending() {
            if self.readable_or_writable().await? {
                return Ok(());
            }
            tls.flush(self)?;
        }
        self.carrier_readable().await
    }

    // Waits until a read would not block (true) or a write would not (false), until the deadline for reads.
    pub(super) async fn readable_or_writable(&self) -> io::Result<bool> {
        let mut readable = pin!(self.carrier_readable());
        let mut writable = pin!(self.carrier_writable());
        poll_fn(|cx| match readable.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| true)),
            Poll::Pending => writable.as_mut().poll(cx).map(|done| done.map(|()| false)),
        })
        .await
    }

    async fn carrier_readable(&self) -> io::Result<()> {
        match &self.io {
            Io::Kernel(io) => {
                // Pinned where it is made: handed to a function it would lie in every connection's future twice.
                let mut ready = pin!(io.readable(false));
                poll_fn(|cx| self.until_expired(Side::Read, cx, |cx| ready.as_mut().poll(cx))).await
            }
            Io::Memory(end) => {
                poll_fn(|cx| self.until_expired(Side::Read, cx, |cx| end.poll_readable(cx).map(Ok)))
                    .await
            }
            Io::Stream(stream) => {
                poll_fn(|cx| self.until_expired(Side::Read, cx, |cx| stream.poll_readable(cx)))
                    .await
            }
        }
    }

    /// Waits until a write would not block.
    ///
    /// # Errors
    /// `TimedOut` when the write deadline passes.
    #[inline]
    pub async fn writable(&self) -> io::Result<()> {
        self.carrier_writable().await
    }

    async fn carrier_writable(&self) -> io::Result<()> {
        match &self.io {
            Io::Kernel(io) => {
                let mut ready = pin!(io.writable(false));
                poll_fn(|cx| self.until_expired(Side::Write, cx, |cx| ready.as_mut().poll(cx)))
                    .await
            }
            Io::Memory(end) => {
                poll_fn(|cx| {
                    self.until_expired(Side::Write, cx, |cx| end.poll_writable(cx).map(Ok))
                })
                .await
            }
            Io::Stream(stream) => {
                poll_fn(|cx| self.until_expired(Side::Write, cx, |cx| stream.poll_writable(cx)))
                    .await
            }
        }
    }

    fn unless_cut_on(&self, side: Side) -> io::Result<()> {
        match self.slot.borrow().expiry(self.role, side) {
            Expiry::Cut => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    #[inline]
    fn until_expired(
        &self,
        side: Side,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        poll_until_expired(&self.slot.borrow(), self.role, side, cx, poll)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is; those of `recv(2)`.
    #[inline]
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.receive(into),
            Some(tls) => tls.try_read(self, into),
        }
    }

    // As it comes, below TLS.
    #[inline]
    pub(super) fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        match &self.io {
            Io::Kernel(io) => {
                let (n, _) = rustix::net::recv(fd(io), into, RecvFlags::DONTWAIT)?;
                Ok(n)
            }
            Io::Memory(end) => Ok(end.read(into)?),
            Io::Stream(stream) => stream.try_read(into),
        }
    }

    /// Reads at least one octet, waiting for it; 0 at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut` when the read deadline passes; those of `recv(2)`.
    #[inline]
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Whether the peer has sent something or closed: an idle connection to a target must have neither.
    pub fn has_news(&self) -> bool {
        if let Some(tls) = &self.tls {
            return tls.has_news(self);
        }
        let io = match &self.io {
            Io::Kernel(io) => io,
            Io::Memory(end) => return end.has_news(),
            Io::Stream(_) => return false,
        };
        let mut octet = [0];
        let peeked =
            rustix::net::recv(fd(io), &mut octet[..], RecvFlags::DONTWAIT | RecvFlags::PEEK);
        !matches!(peeked, Err(Errno::AGAIN))
    }

    /// Writes all of `octets`, waiting up to `stall` for each bit of room.
    ///
    /// # Errors
    /// `TimedOut` when the peer makes no room for `stall`; those of `send(2)`.
    #[inline]
    pub async fn write_all(&self, mut octets: &[u8], stall: Duration) -> io::Result<()> {
        while !octets.is_empty() {
            let sent = match &self.tls {
                None => self.send(octets),
                Some(tls) => tls.try_write(self, &[IoSlice::new(octets)]),
            };
            match sent {
                Ok(n) => octets = octets.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A peer that makes no room is rare; every connection would be larger for it.
                    Box::pin(self.wait_for_room(stall)).await?
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    // As it is, below TLS.
    #[inline]
    pub(super) fn send(&self, octets: &[u8]) -> io::Result<usize> {
        match &self.io {
            Io::Kernel(io) => Ok(rustix::net::send(fd(io), octets, FLAGS)?),
            Io::Memory(end) => Ok(end.write(&[IoSlice::new(octets)])?),
            Io::Stream(stream) => stream.try_write(&[IoSlice::new(octets)], false),
        }
    }

    /// Writes what there is room for of `parts`, in order. What was offered and not taken must be offered again before
    /// anything else: with TLS it may be encrypted already.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; those of `sendmsg(2)`.
    #[inline]
    pub fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.try_write(self, parts);
        }
        match &self.io {
            Io::Kernel(io) => {
                let mut no_control = rustix::net::SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(fd(io), parts, &mut no_control, FLAGS)?)
            }
            Io::Memory(end) => Ok(end.write(parts)?),
            Io::Stream(stream) => stream.try_write(parts, false),
        }
    }

    /// As [`Sock::try_write`]; if that was all of `parts` and `end` is set, a stream of HTTP/2 ends with it.
    ///
    /// # Errors
    /// As [`Sock::try_write`].
    #[inline]
    pub fn try_write_end(&self, parts: &[IoSlice<'_>], end: bool) -> io::Result<usize> {
        match &self.io {
            Io::Stream(stream) => stream.try_write(parts, end),
            _ => self.try_write(parts),
        }
    }

    /// Writes all of `first` and `second` in order, as [`Sock::write_all`].
    ///
    /// # Errors
    /// As [`Sock::write_all`], with how many octets were taken before.
    #[inline]
    pub async fn write_two(
        &self,
        first: &[u8],
        second: &[u8],
        stall: Duration,
    ) -> Result<(), (io::Error, usize)> {
        let mut written = 0;
        while written < first.len() + second.len() {
            let head = first.get(written.min(first.len())..).unwrap_or_default();
            let tail = second.get(written.saturating_sub(first.len())..).unwrap_or_default();
            match self.try_write(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(n) => written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A peer that makes no room is rare; every connection would be larger for it.
                    Box::pin(self.wait_for_room(stall)).await.map_err(|e| (e, written))?
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((e, written)),
            }
        }
        Ok(())
    }

    /// Waits until the peer makes room, up to `stall`.
    ///
    /// # Errors
    /// `TimedOut`.
    #[cold]
    pub async fn wait_for_room(&self, stall: Duration) -> io::Result<()> {
        self.arm(Side::Write, Tick::now().after(stall));
        self.writable().await?;
        self.arm(Side::Write, Tick::NEVER);
        Ok(())
    }

    /// Lets the worker's other connections have a turn, however ready this one is. A task that only woke itself would come
    /// back before the ring has been looked at, so the kernel is waited for, too.
    ///
    /// # Errors
    /// As [`Sock::wait_for_room`].
    pub async fn give_way(&self, stall: Duration) -> io::Result<()> {
        to_the_end_of_the_queue().await;
        self.wait_for_room(stall).await
    }

    /// Sends FIN, after close_notify where there is TLS: the peer sees the end of the stream; reading goes on.
    pub fn finish_writing(&self) {
        match &self.tls {
            None => self.finish(),
            Some(tls) => tls.finish_writing(self),
        }
    }

    // FIN alone.
    pub(super) fn finish(&self) {
        match &self.io {
            // A peer that is gone already needs no FIN.
            Io::Kernel(io) => drop(rustix::net::shutdown(fd(io), Shutdown::Write)),
            Io::Memory(end) => end.finish_writing(),
            // A stream that the peer has reset needs no end.
            Io::Stream(stream) => drop(stream.end(None)),
        }
    }

    /// Makes the close a reset, so that the peer cannot take what it has for the whole.
    pub fn reset_on_close(&self) {
        if let Some(tls) = &self.tls {
            tls.keep_silent();
        }
        match &self.io {
            Io::Kernel(io) => drop(sockopt::set_socket_linger(fd(io), Some(Duration::ZERO))),
            Io::Memory(end) => end.reset_on_close(),
            Io::Stream(stream) => stream.reset(Reason::INTERNAL_ERROR),
        }
    }

    /// Whether the waits of this socket were ended for good: by the end of a drain, or since its target was removed.
    pub fn is_cut(&self) -> bool {
        self.slot.borrow().is_cut()
    }

    /// Moves what is there into an empty pipe, without copying it; 0 at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; `Unsupported` where octets have to be looked at on their way, as by TLS; those of
    /// `splice(2)`.
    pub fn splice_into(&self, pipe: &mut Pipe) -> io::Result<usize> {
        match &self.io {
            Io::Kernel(io) if self.tls.is_none() => pipe.fill_from(fd(io)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Writes what a pipe holds, as far as there is room.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; otherwise as [`Sock::splice_into`].
    pub fn splice_from(&self, pipe: &mut Pipe) -> io::Result<usize> {
        match &self.io {
            Io::Kernel(io) if self.tls.is_none() => pipe.empty_into(fd(io)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether octets can be moved from and to it by [`Sock::splice_into`] and [`Sock::splice_from`].
    pub fn can_splice(&self) -> bool {
        self.tls.is_none() && matches!(self.io, Io::Kernel(_))
    }

    /// Waits for the response head on a stream to a target.
    ///
    /// # Errors
    /// `TimedOut` when the read deadline passes; when the stream was reset, or its connection has ended.
    pub async fn head(&self) -> io::Result<Head> {
        let Io::Stream(stream) = &self.io else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        poll_fn(|cx| {
            let slot = self.slot.borrow();
            poll_until_expired(&slot, self.role, Side::Read, cx, |cx| stream.poll_head(cx))
        })
        .await
    }

    /// Waits for something that is neither read nor written here, before there is a target's connection.
    ///
    /// # Errors
    /// `TimedOut` when this socket's waits are ended meanwhile: its client has left, or the time to drain is over.
    pub async fn unless_cut<T>(&self, other: impl Future<Output = T>) -> io::Result<T> {
        self.until(Tick::NEVER, other).await
    }

    /// As [`Sock::unless_cut`], until `deadline`.
    ///
    /// # Errors
    /// `TimedOut` then, too.
    pub async fn until<T>(&self, deadline: Tick, other: impl Future<Output = T>) -> io::Result<T> {
        let slot = self.slot();
        slot.arm(Role::Target, Side::Read, deadline);
        let mut other = pin!(other);
        poll_fn(|cx| {
            poll_until_expired(&slot, Role::Target, Side::Read, cx, |cx| {
                other.as_mut().poll(cx).map(Ok)
            })
        })
        .await
    }

    /// The address on this side; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.io {
            Io::Kernel(io) => SocketAddr::try_from(rustix::net::getsockname(fd(io)).ok()?).ok(),
            Io::Memory(end) => end.local_addr(),
            Io::Stream(_) => None,
        }
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        // A peer that is not told takes what it has for cut off (RFC 8446 section 6.1).
        if let Some(tls) = self.tls.take() {
            tls.say_goodbye(self);
        }
    }
}

/// Lets tasks that are ready run before this one goes on; only half of [`Sock::give_way`].
pub async fn to_the_end_of_the_queue() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        wake_last(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

fn stream_socket(family: AddressFamily) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

// Polls once. What is there counts before a deadline that has passed, but not before a cut. The slot remembers whom to wake.
#[inline]
fn poll_until_expired<T>(
    slot: &Slot,
    role: Role,
    side: Side,
    cx: &mut Context<'_>,
    poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
) -> Poll<io::Result<T>> {
    let expiry = slot.expiry(role, side);
    if expiry != Expiry::Cut
        && let Poll::Ready(done) = poll(cx)
    {
        return Poll::Ready(done);
    }
    if expiry != Expiry::Not {
        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
    }
    slot.watch(cx.waker());
    Poll::Pending
}
