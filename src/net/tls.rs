//! A TLS session over a socket, either side: plaintext in and out, records below.
//!
//! rustls decides everything; its buffers are ours (`rustls::unbuffered`), leased from the worker's pool and given back as soon as they are
//! empty, so that an idle session holds none. Records are shown to rustls one at a time: no more is decrypted than the
//! caller has room for, and writing never reads.
//!
//! A write is taken when the kernel has taken the whole record that holds it. What is sealed already but not sent yet is
//! promised: it is offered again by the caller, and not sealed again. So nothing is ever left behind that nobody waits for,
//! except what the session itself owes its peer (tickets, answers to key updates), which reads and writes send on.

mod gather;
mod step;

use crate::base::Tick;
use crate::net::buf::{LARGE, SMALL, WIDE};
use crate::net::{Buf, Buffers, Side, Sock};
use crate::tls::facts::{self, Facts, Heard};
use crate::tls::{Failure, Reason};
use gather::{Parts, Promised, RECORDS};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, Error, ServerConfig};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use step::{Session, Step, Want};

// Plaintext of a full record (RFC 8446 section 5.1).
const RECORD: usize = 16 << 10;
// What the header, the tag and an explicit nonce add to it at most, and more.
const OVERHEAD: usize = 64;
const HEADER: usize = 5;
// Records that are longer are refused by their header (RFC 5246 section 6.2.3).
const LONGEST: usize = RECORD + 2048;
// Plaintext that is sealed at once: a large block with a head and the lines of a chunk around it.
const AT_ONCE: usize = LARGE + (2 << 10);
const _: () = assert!(AT_ONCE.div_ceil(RECORD) <= RECORDS);
// Records in a row after which other connections get their turn (hazard RT-15): each costs about the same however little it
// holds, and a key update a hundred times as much as the octets that it takes.
const TURN: u32 = 1024;
// Of a message in parts, the most that is kept until it is whole: rustls takes 64 KiB, but not so many parts that their
// headers are more than that.
const LONGEST_MESSAGE: usize = WIDE;
// Part of a record that is kept outside of a block while the rest is waited for.
const STASH: usize = 4 << 10;

/// A TLS session whose handshake is complete.
pub struct Tls {
    core: RefCell<Core>,
    facts: Rc<Facts>,
}

struct Core {
    session: Session,
    pool: Rc<Buffers>,
    // Ciphertext that came. rustls has been shown the first `seen` octets and needs them still: parts of a message.
    incoming: Buf,
    seen: usize,
    // The same, while it is too little to deserve a block.
    stash: Vec<u8>,
    // Decrypted, and not read yet.
    plain: Buf,
    // Ciphertext that is to be sent.
    outgoing: Buf,
    // Of that, what holds the caller's octets.
    promised: Promised,
    // Records taken since the socket was empty.
    in_a_row: u32,
    end: End,
    // Whether the peer is told of the end when the socket is dropped.
    silent: bool,
    // What ended the session, if that was an alert or what TLS forbids.
    failure: Option<Box<Failure>>,
}

// How the stream from the peer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    // The peer has said that this was all.
    Closed,
    Failed(ErrorKind),
}

impl Sock {
    /// Makes this client's connection a TLS connection; `first` is what was read of it already.
    ///
    /// # Errors
    /// Why there was no handshake before `deadline`. The client has been sent an alert if there is one for it; the
    /// connection is of no use any more.
    pub async fn accept_tls(
        &mut self,
        config: &Arc<ServerConfig>,
        pool: &Rc<Buffers>,
        first: Option<Buf>,
        deadline: Tick,
    ) -> Result<(), Failure> {
        let session = UnbufferedServerConnection::new(Arc::clone(config))?;
        let mut core = Core::new(Session::Server(session), pool);
        core.incoming = first.unwrap_or_else(|| pool.none());
        self.start_tls(core, Heard::default(), deadline).await
    }

    /// Makes this connection to a target a TLS connection, with the target that has this name.
    ///
    /// # Errors
    /// Why there was no handshake before `deadline`.
    pub async fn connect_tls(
        &mut self,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        pool: &Rc<Buffers>,
        deadline: Tick,
    ) -> Result<(), Failure> {
        let heard = Heard { name: Some(name.to_str().into()), certificate: None };
        let session = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        self.start_tls(Core::new(Session::Client(session), pool), heard, deadline).await
    }

    async fn start_tls(
        &mut self,
        mut core: Core,
        mut heard: Heard,
        deadline: Tick,
    ) -> Result<(), Failure> {
        self.arm(Side::Read, deadline);
        self.arm(Side::Write, deadline);
        let shaken = core.shake_hands(self, &mut heard).await;
        if let Err(failure) = shaken {
            core.sound_alert();
            let _ = core.flush(self);
            return Err(failure);
        }
        self.arm(Side::Read, Tick::NEVER);
        self.arm(Side::Write, Tick::NEVER);
        core.put_aside();
        let facts = Rc::new(Facts::of(core.session.common(), heard));
        self.tls = Some(Box::new(Tls { core: RefCell::new(core), facts }));
        Ok(())
    }
}

impl Tls {
    /// What ended the session, if that was an alert or what TLS forbids.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.core.borrow().failure.as_deref().cloned()
    }

    pub(super) fn facts(&self) -> &Rc<Facts> {
        &self.facts
    }

    /// Whether a read would not block, whatever the socket has.
    pub(super) fn is_readable(&self) -> bool {
        let core = self.core.borrow();
        !core.plain.is_empty() || core.end != End::Open || core.next_record().is_some()
    }

    /// Whether it has taken so many records that other connections come first: until [`Tls::rest`] it reads no more.
    #[inline]
    pub(super) fn is_weary(&self) -> bool {
        self.core.borrow().in_a_row >= TURN
    }

    /// The others have had their turn.
    pub(super) fn rest(&self) {
        self.core.borrow_mut().in_a_row = 0;
    }

    /// Whether there is something to be sent that nobody else waits for.
    pub(super) fn is_pending(&self) -> bool {
        let core = self.core.borrow();
        !core.outgoing.is_empty() && core.promised.is_empty()
    }

    /// Sends what is to be sent, as far as there is room.
    pub(super) fn flush(&self, sock: &Sock) -> io::Result<()> {
        self.core.borrow_mut().flush(sock)
    }

    pub(super) fn try_read(&self, sock: &Sock, into: &mut [u8]) -> io::Result<usize> {
        self.core.borrow_mut().read(sock, into)
    }

    pub(super) fn try_write(&self, sock: &Sock, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.core.borrow_mut().write(sock, parts)
    }

    /// Whether the peer has sent plaintext or an end. Tickets and key updates are taken in and are no news.
    pub(super) fn has_news(&self, sock: &Sock) -> bool {
        self.core.borrow_mut().has_news(sock)
    }

    pub(super) fn finish_writing(&self, sock: &Sock) {
        let core = &mut *self.core.borrow_mut();
        core.close_notify();
        let _ = core.flush(sock);
        // Where there is no room for it, FIN has to do; so it does where the peer reads nothing.
        sock.finish();
    }

    /// From now on the peer is told nothing: what it has is not the whole.
    pub(super) fn keep_silent(&self) {
        self.core.borrow_mut().silent = true;
    }

    /// Tells the peer that this was all, if it was.
    pub(super) fn say_goodbye(&self, sock: &Sock) {
        let core = &mut *self.core.borrow_mut();
        if !std::thread::panicking() {
            core.close_notify();
            let _ = core.flush(sock);
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Core {
    fn new(session: Session, pool: &Rc<Buffers>) -> Core {
        Core {
            session,
            pool: Rc::clone(pool),
            incoming: pool.none(),
            seen: 0,
            stash: Vec::new(),
            plain: pool.none(),
            outgoing: pool.none(),
            promised: Promised::default(),
            in_a_row: 0,
            end: End::Open,
            silent: false,
            failure: None,
        }
    }

    // ------------------------------------------------------------ the handshake

    async fn shake_hands(&mut self, sock: &Sock, heard: &mut Heard) -> Result<(), Failure> {
        loop {
            let done = self.advance();
            if let Some(now) = facts::heard() {
                *heard = now;
            }
            let done = done?;
            // All that a server of TLS 1.3 still has to say are tickets.
            let only_tickets = done && self.session.is_server_of_13();
            if only_tickets && self.next_record().is_some() {
                // The first request is here: the tickets go with its answer.
                return Ok(());
            }
            // Also at its end: a client whose last octets nothing acknowledges may hold its request back for 40 ms.
            self.flush(sock).map_err(|e| closed(&e))?;
            if only_tickets {
                // A ticket that there is no room for waits for the next read or write.
                return Ok(());
            }
            while done && !self.outgoing.is_empty() {
                sock.writable().await.map_err(|e| closed(&e))?;
                self.flush(sock).map_err(|e| closed(&e))?;
            }
            if done {
                return Ok(());
            }
            self.receive_more(sock).await?;
        }
    }

    // Waits for more, and sends meanwhile what had no room: a peer that is sending itself may make none.
    async fn receive_more(&mut self, sock: &Sock) -> Result<(), Failure> {
        loop {
            match self.receive(sock, SMALL) {
                Ok(0) => return Err(Failure::new(Reason::Closed)),
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => return Err(closed(&e)),
            }
            self.put_aside();
            if self.outgoing.is_empty() {
                sock.readable().await.map_err(|e| closed(&e))?;
            } else if !sock.readable_or_writable().await.map_err(|e| closed(&e))? {
                self.flush(sock).map_err(|e| closed(&e))?;
            }
        }
    }

    // As far as what has come allows. Whether the handshake is complete.
    fn advance(&mut self) -> Result<bool, Error> {
        loop {
            match self.process(Want::Nothing, &mut [])?.0 {
                Step::Again => {}
                Step::Closed => return Err(Error::HandshakeNotComplete),
                Step::Blocked | Step::Done => {
                    if !self.session.common().is_handshaking() {
                        return Ok(true);
                    }
                    let Some(record) = self.next_record() else { return Ok(false) };
                    self.seen += record;
                }
            }
        }
    }

    // Gathers the alert that rustls has ready after an error.
    fn sound_alert(&mut self) {
        while self.session.common().wants_write() {
            if !matches!(self.process(Want::Nothing, &mut []), Ok((Step::Again, _))) {
                return;
            }
        }
    }

    // ------------------------------------------------------------ reading

    fn read(&mut self, sock: &Sock, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut read = self.take_plain(into);
        loop {
            let room = into.get_mut(read..).unwrap_or_default();
            match self.next_record() {
                Some(record) if read == 0 || record <= room.len() => {
                    read += self.open(record, room);
                    continue;
                }
                _ if read > 0 => break,
                _ => {}
            }
            match self.end {
                End::Open => {}
                End::Closed => break,
                End::Failed(kind) => {
                    // The peer is told what was wrong with what it sent.
                    self.tidy(sock);
                    return Err(kind.into());
                }
            }
            if self.in_a_row >= TURN {
                self.tidy(sock);
                return Err(ErrorKind::WouldBlock.into());
            }
            match self.receive(sock, room.len()) {
                Ok(0) => self.end = End::Failed(ErrorKind::UnexpectedEof),
                Ok(_) => {}
                Err(e) => {
                    if e.kind() == ErrorKind::WouldBlock {
                        self.in_a_row = 0;
                        self.tidy(sock);
                    }
                    return Err(e);
                }
            }
        }
        self.tidy(sock);
        Ok(read)
    }

    fn has_news(&mut self, sock: &Sock) -> bool {
        loop {
            if !self.plain.is_empty() || self.end != End::Open {
                return true;
            }
            if let Some(record) = self.next_record() {
                self.open(record, &mut []);
                continue;
            }
            if self.in_a_row >= TURN {
                // Whoever sends so much that is nothing is not at rest.
                return true;
            }
            match self.receive(sock, SMALL) {
                Ok(0) => self.end = End::Failed(ErrorKind::UnexpectedEof),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.in_a_row = 0;
                    self.tidy(sock);
                    return false;
                }
                Err(e) => self.end = End::Failed(e.kind()),
            }
        }
    }

    // The length of the first record that rustls has not been shown: when all of it is here, or when its header alone
    // will be refused.
    fn next_record(&self) -> Option<usize> {
        if self.end != End::Open {
            return None;
        }
        let unseen = self.incoming.filled().get(self.seen..)?;
        let [kind, major, _, high, low] = *unseen.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let record = HEADER + length;
        let refused = !(20..=24).contains(&kind) || major != 3 || length >= LONGEST;
        if refused {
            return Some(unseen.len().min(record));
        }
        (unseen.len() >= record).then_some(record)
    }

    // Shows rustls the next record. Its plaintext goes into `into`, and into `plain` what does not fit there. What fails
    // is seen at the next look at `end`.
    fn open(&mut self, record: usize, into: &mut [u8]) -> usize {
        self.seen += record;
        self.in_a_row = self.in_a_row.saturating_add(1);
        let mut read = 0;
        loop {
            let room = into.get_mut(read..).unwrap_or_default();
            match self.process(Want::Nothing, room) {
                Ok((Step::Again, n)) => read += n,
                Ok((Step::Blocked | Step::Done, _)) => return read,
                Ok((Step::Closed, _)) => {
                    self.end = End::Closed;
                    return read;
                }
                Err(error) => {
                    self.fail(error);
                    self.sound_alert();
                    return read;
                }
            }
        }
    }

    fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let n = copy(self.plain.filled(), into);
        self.plain.consume(n);
        if self.plain.is_empty() && self.plain.capacity() > 0 {
            self.plain = self.pool.none();
        }
        n
    }

    // Reads ciphertext, as much as the caller can use at once.
    fn receive(&mut self, sock: &Sock, wanted: usize) -> io::Result<usize> {
        if self.seen > LONGEST_MESSAGE {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.incoming.capacity() == 0 {
            self.incoming = if wanted > SMALL { self.pool.large() } else { self.pool.small() };
            self.incoming.append(&self.stash);
            self.stash = Vec::new();
        }
        if !self.incoming.is_empty() {
            self.incoming.compact();
            let unseen = self.incoming.filled().get(self.seen..).unwrap_or_default();
            let record = match unseen.first_chunk::<HEADER>() {
                Some([.., high, low]) => {
                    HEADER + usize::from(u16::from_be_bytes([*high, *low])).min(LONGEST)
                }
                None => HEADER,
            };
            self.incoming.reserve(record.saturating_sub(unseen.len()).max(1));
        }
        loop {
            match sock.receive(self.incoming.spare()) {
                Ok(n) => {
                    self.incoming.fill(n);
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    // After a read: sends what the session has to say to what came, and keeps no block without need.
    fn tidy(&mut self, sock: &Sock) {
        if !self.outgoing.is_empty() && self.promised.is_empty() {
            // An error will be met by whoever reads or writes next.
            let _ = self.flush(sock);
        }
        self.put_aside();
    }

    fn put_aside(&mut self) {
        if self.incoming.capacity() == 0 || self.next_record().is_some() {
            return;
        }
        if self.end != End::Open {
            self.incoming = self.pool.none();
        } else if self.incoming.len() <= STASH {
            self.stash = self.incoming.filled().to_vec();
            self.incoming = self.pool.none();
        }
    }

    // ------------------------------------------------------------ writing

    fn write(&mut self, sock: &Sock, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let End::Failed(kind) = self.end
            && kind != ErrorKind::UnexpectedEof
        {
            return Err(kind.into());
        }
        let offered: usize = parts.iter().map(|p| p.len()).sum();
        if self.promised.is_empty() {
            self.seal(parts, offered.min(AT_ONCE)).map_err(|e| self.fail(e))?;
        }
        self.flush(sock)?;
        let taken = self.promised.take_sent();
        if taken > offered {
            // Not what was offered before: the stream would lose octets.
            return Err(ErrorKind::InvalidInput.into());
        }
        if taken == 0 && offered > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    // Puts the first `most` octets into records: as few as will hold them.
    fn seal(&mut self, parts: &[IoSlice<'_>], most: usize) -> Result<(), Error> {
        self.outgoing.reserve(most + (most.div_ceil(RECORD) + 1) * OVERHEAD);
        self.promised = Promised::default();
        let mut parts = Parts::new(parts);
        let mut left = most;
        while left > 0 {
            let length = left.min(RECORD);
            if let Some(octets) = parts.slice(length) {
                self.seal_one(octets)?;
            } else {
                let mut gathered = self.pool.small();
                parts.gather(length, &mut gathered);
                self.seal_one(gathered.filled())?;
            }
            self.promised.push(self.outgoing.len(), length);
            left -= length;
        }
        Ok(())
    }

    fn seal_one(&mut self, octets: &[u8]) -> Result<(), Error> {
        loop {
            match self.process(Want::Seal(octets), &mut [])?.0 {
                Step::Again => {}
                Step::Done => return Ok(()),
                Step::Blocked | Step::Closed => return Err(Error::HandshakeNotComplete),
            }
        }
    }

    fn close_notify(&mut self) {
        let whole = self.promised.is_empty() && !self.silent;
        if !whole || matches!(self.end, End::Failed(kind) if kind != ErrorKind::UnexpectedEof) {
            return;
        }
        self.silent = true;
        while matches!(self.process(Want::CloseNotify, &mut []), Ok((Step::Again, _))) {}
    }

    fn flush(&mut self, sock: &Sock) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match sock.send(self.outgoing.filled()) {
                Ok(n) => {
                    self.outgoing.consume(n);
                    self.promised.sent += n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.outgoing.capacity() > 0 {
            self.outgoing = self.pool.none();
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> io::Error {
        self.failure = Some(Box::new(error.into()));
        self.end = End::Failed(ErrorKind::InvalidData);
        ErrorKind::InvalidData.into()
    }

    // ------------------------------------------------------------ rustls

    // One step of rustls, over what it has been shown. Returns also how many octets went into `into`.
    fn process(&mut self, want: Want<'_>, into: &mut [u8]) -> Result<(Step, usize), Error> {
        let shown = self.incoming.filled_mut().get_mut(..self.seen).unwrap_or_default();
        let (out, plain, mut read) = (&mut self.outgoing, &mut self.plain, 0);
        let mut sink = |octets: &[u8]| {
            let n = copy(octets, into.get_mut(read..).unwrap_or_default());
            read += n;
            let rest = octets.get(n..).unwrap_or_default();
            if !rest.is_empty() {
                plain.reserve(rest.len());
                plain.append(rest);
            }
        };
        let (discard, step) = self.session.step(shown, want, out, &mut sink);
        self.incoming.consume(discard);
        self.seen -= discard.min(self.seen);
        Ok((step?, read))
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let n = from.len().min(into.len());
    if let (Some(from), Some(into)) = (from.get(..n), into.get_mut(..n)) {
        into.copy_from_slice(from);
    }
    n
}

fn closed(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::new(Reason::Timeout),
        ErrorKind::InvalidData => Failure::new(Reason::Malformed),
        _ => Failure::new(Reason::Closed),
    }
}

#[cfg(test)]
mod tests;
