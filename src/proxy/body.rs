//! Relays a body from one socket to another, in either direction, with back-pressure and without copying it.
//!
//! Reading stops while the other side makes no room, so a body never piles up: one block is all it takes. Framing is decoded
//! and written anew; chunk extensions end here; a trailer section is parsed and filtered.

use crate::base::Tick;
use crate::http::chunk::{Chunks, Piece, chunk_line};
use crate::http::scan::{Scan, SectionLimits};
use crate::http::{Fault, Framing, Span};
use crate::net::buf::LARGE;
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side, Sock};
use crate::proxy::pace::{Limit, Pace, Quiet};
use crate::proxy::stages::Stages;
use crate::proxy::trailers::{Barred, filtered};
use crate::shard::Shard;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;

/// How a body that is being read goes on.
#[derive(Debug)]
pub struct Reader {
    pub(super) state: State,
    /// Octets of the body so far.
    pub total: u64,
}

#[derive(Debug)]
pub(super) enum State {
    Length(u64),
    Close,
    Chunks(Chunks),
    Trailers(Scan),
    Done,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// As it is: its length was announced, or the connection closes after it.
    Plain,
    /// In chunks.
    Chunked,
    /// As DATA of HTTP/2, which has an end of its own.
    Stream,
}

/// Why a body was not relayed to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The sender closed or reset the connection.
    SourceGone,
    /// The sender sent nothing for too long.
    SourceStalled,
    /// The sender sent too little for too long.
    SourceSlow,
    /// What the sender sent is no body.
    SourceMalformed,
    /// The trailer section is malformed or too large.
    BadTrailers,
    /// Text of gRPC-Web is no base64.
    BadText,
    /// It is no content of its coding.
    BadCoding,
    /// It becomes much more than it is.
    Swollen,
    /// The body is larger than it may be.
    TooLarge,
    /// The receiver closed or reset the connection.
    SinkGone,
    /// The receiver made no room for too long.
    SinkStalled,
    /// The receiver made too little room for too long.
    SinkSlow,
}

/// One direction of a body.
pub struct Relay<'a> {
    /// The worker.
    pub shard: &'a Shard,
    /// Who sends it.
    pub from: &'a Sock,
    /// Who receives it.
    pub to: &'a Sock,
    /// How long either may make no progress, and how slow the client may be.
    pub pace: Pace,
    /// Which of them is the client.
    pub client: Side,
    /// Octets that it may have.
    pub limit: Option<u64>,
    /// How it is written.
    pub writer: Writer,
    /// Whether `from` may go on to send another message behind it: then nothing beyond the body's length is read.
    pub stop_at_end: bool,
    /// Whether anything was written, of what stands before it or of itself.
    pub began: Cell<bool>,
    /// What its octets become.
    pub stages: Option<RefCell<Stages>>,
    /// Where pauses of the sender are none of its own: it may wait for the other side.
    pub quiet: Option<Quiet>,
    /// What its trailer section may not say either.
    pub barred: Barred<'a>,
}

// Pieces of data written at once; one block rarely holds more.
pub(super) const PIECES: usize = 8;
// Octets after which other connections get their turn (hazard RT-15): two sides that are always ready would keep the worker.
pub(super) const TURN: usize = 1 << 20;
const TRAILERS: SectionLimits =
    SectionLimits { size: 16 << 10, line: 8 << 10, fields: 64, bare_lf: false };

impl Reader {
    /// The body of a message with this framing, as `sock` carries it.
    pub fn on(sock: &Sock, framing: Framing) -> Reader {
        match framing {
            // Counting is done already (RFC 9113 section 8.1.1), and the end is the stream's.
            Framing::Length(1..) | Framing::Chunked if sock.stream().is_some() => {
                Reader::new(Framing::Close)
            }
            framing => Reader::new(framing),
        }
    }

    /// The body of a message with this framing.
    pub fn new(framing: Framing) -> Reader {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunks(Chunks::default()),
            Framing::Close => State::Close,
        };
        Reader { state, total: 0 }
    }

    /// Whether its end was read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    // Takes data from the front of `input`: spans of it, and how many octets of input they and their framing are.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        spans: &mut [Span; PIECES],
    ) -> Result<(usize, usize), Broken> {
        match &mut self.state {
            State::Length(left) => {
                let n = (*left).min(input.len() as u64);
                *left -= n;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(self.one(n as usize, spans))
            }
            State::Close => Ok(self.one(input.len(), spans)),
            State::Chunks(chunks) => {
                let (mut at, mut count) = (0, 0);
                while count < PIECES {
                    let rest = input.get(at..).unwrap_or_default();
                    let (n, piece) = chunks.next(rest).map_err(|_| Broken::SourceMalformed)?;
                    match piece {
                        Piece::Data(span) => {
                            let moved =
                                Span { start: span.start + at as u32, end: span.end + at as u32 };
                            if let Some(slot) = spans.get_mut(count) {
                                *slot = moved;
                            }
                            self.total += moved.len() as u64;
                            count += 1;
                            at += n;
                        }
                        Piece::More => {
                            at += n;
                            break;
                        }
                        Piece::Last => {
                            at += n;
                            self.state = State::Trailers(Scan::default());
                            break;
                        }
                    }
                }
                Ok((at, count))
            }
            State::Trailers(_) | State::Done => Ok((0, 0)),
        }
    }

    fn one(&mut self, n: usize, spans: &mut [Span; PIECES]) -> (usize, usize) {
        self.total += n as u64;
        if let Some(first) = spans.first_mut() {
            *first = Span { start: 0, end: n as u32 };
        }
        (n, usize::from(n > 0))
    }
}

impl Relay<'_> {
    /// Relays the body that `reader` reads, of which `buf` holds the beginning, after `prefix`. Afterwards `buf` holds what
    /// follows the body.
    ///
    /// # Errors
    /// Why it did not come to its end. How much was written then is not known.
    pub async fn run(
        &self,
        prefix: &[u8],
        buf: &mut Buf,
        reader: &mut Reader,
    ) -> Result<(), Broken> {
        let mut prefix = prefix;
        let mut in_a_row = 0;
        loop {
            let mut spans = [Span::default(); PIECES];
            let (taken, count) = reader.take(buf.filled(), &mut spans)?;
            if self.limit.is_some_and(|limit| reader.total > limit) {
                return Err(Broken::TooLarge);
            }
            let spans = spans.get(..count).unwrap_or_default();
            let (end, moved) = (reader.is_done(), reader.total);
            prefix = self.pass(prefix, buf.filled(), spans, end, moved).await?;
            in_a_row += taken;
            if in_a_row >= TURN {
                in_a_row = 0;
                to_the_end_of_the_queue().await;
                self.wait(Side::Write, self.moved(reader.total)).await?;
            }
            let everything_taken = taken == buf.len();
            buf.consume(taken);
            match &mut reader.state {
                State::Done => return Ok(()),
                State::Trailers(scan) => {
                    let mut scan = *scan;
                    self.trailers(prefix, buf, &mut scan, moved).await?;
                    reader.state = State::Done;
                    return Ok(());
                }
                // More pieces than could be written at once are still here.
                State::Chunks(_) if !everything_taken => {}
                _ => {
                    let ended = match &self.stages {
                        None => self.fill(buf, reader).await?,
                        Some(stages) => {
                            Box::pin(self.fill_made(stages, &mut prefix, buf, reader)).await?
                        }
                    };
                    if ended {
                        reader.state = State::Done;
                        let section = match self.from.stream() {
                            Some(stream) => stream.take_trailers(),
                            None => Ok(None),
                        };
                        let section = section.map_err(|_| Broken::BadTrailers)?;
                        return self.end(prefix, section.as_deref(), moved).await;
                    }
                }
            }
        }
    }

    // Writes data as it is, or as what it becomes. Returns what of `prefix` has not been written.
    async fn pass<'p>(
        &self,
        prefix: &'p [u8],
        buf: &[u8],
        spans: &[Span],
        end: bool,
        moved: u64,
    ) -> Result<&'p [u8], Broken> {
        if self.stages.is_none() && self.pace.throttle.is_none() {
            return self.write(prefix, buf, spans, end, moved).await.map(|()| &[][..]);
        }
        Box::pin(self.pass_made(prefix, buf, spans, end, moved)).await
    }

    // Waits for the sender to send or the receiver to make room. A client's patience is what `pace` says.
    async fn wait(&self, side: Side, moved: u64) -> Result<(), Broken> {
        if let (Side::Read, Some(quiet)) = (side, &self.quiet) {
            return self.wait_quietly(quiet).await;
        }
        let now = Tick::now();
        let (deadline, limit) = if side == self.client {
            self.pace.deadline(now, moved)
        } else {
            (now.after(self.pace.stall), Limit::Stall)
        };
        let ended = match side {
            Side::Read => {
                self.from.arm(Side::Read, deadline);
                self.from.readable().await
            }
            Side::Write => {
                self.to.arm(Side::Write, deadline);
                let mut room = pin!(self.to.writable());
                let ended = poll_fn(|cx| {
                    if let Some(stream) = self.from.stream() {
                        stream.absorb(cx);
                    }
                    room.as_mut().poll(cx)
                });
                let ended = ended.await;
                self.to.arm(Side::Write, Tick::NEVER);
                ended
            }
        };
        if side == self.client && self.pace.floor.is_some() {
            self.pace.waited(now, Tick::now());
        }
        ended.map_err(|e| match (side, e.kind(), limit) {
            (Side::Read, io::ErrorKind::TimedOut, Limit::Stall) => Broken::SourceStalled,
            (Side::Read, io::ErrorKind::TimedOut, Limit::Floor) => Broken::SourceSlow,
            (Side::Write, io::ErrorKind::TimedOut, Limit::Stall) => Broken::SinkStalled,
            (Side::Write, io::ErrorKind::TimedOut, Limit::Floor) => Broken::SinkSlow,
            (Side::Read, ..) => Broken::SourceGone,
            (Side::Write, ..) => Broken::SinkGone,
        })
    }

    // Waits for the sender, for as long as it or the other side sends something now and then.
    async fn wait_quietly(&self, quiet: &Quiet) -> Result<(), Broken> {
        let since = Tick::now();
        loop {
            self.from.arm(Side::Read, quiet.deadline(since));
            match self.from.readable().await {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() != io::ErrorKind::TimedOut => return Err(Broken::SourceGone),
                // Also ended by who wants it to end.
                Err(_) if self.from.is_cut() || quiet.deadline(since) <= Tick::now() => {
                    return Err(Broken::SourceStalled);
                }
                Err(_) => {}
            }
        }
    }

    // True at the end of a body that the end of the connection ends.
    pub(super) async fn fill(&self, buf: &mut Buf, reader: &Reader) -> Result<bool, Broken> {
        if buf.is_empty() && buf.capacity() < LARGE {
            *buf = self.shard.buffers.large();
        }
        match self.read(buf, self.most(reader), reader.total).await? {
            0 if matches!(reader.state, State::Close) => Ok(true),
            0 => Err(Broken::SourceGone),
            _ => Ok(false),
        }
    }

    // Octets that may be read at once.
    pub(super) fn most(&self, reader: &Reader) -> usize {
        match &reader.state {
            State::Length(left) if self.stop_at_end => usize::try_from(*left).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }

    // 0 at the end of the connection; `moved` octets of the body have come before.
    async fn read(&self, buf: &mut Buf, most: usize, moved: u64) -> Result<usize, Broken> {
        loop {
            if buf.capacity() == 0 {
                *buf = self.shard.buffers.large();
            }
            let room = buf.spare();
            let most = most.min(room.len());
            match self.from.try_read(room.get_mut(..most).unwrap_or_default()) {
                Ok(n) => {
                    buf.fill(n);
                    if let Some(quiet) = &self.quiet {
                        quiet.moved(Tick::now());
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if buf.is_empty() {
                        // A stream that pauses holds no block.
                        *buf = self.shard.buffers.none();
                    }
                    self.wait(Side::Read, moved).await?;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::SourceGone),
            }
        }
    }

    // The parts are gathered anew for each attempt: kept across a wait they would lie in every connection's future.
    pub(super) async fn write(
        &self,
        prefix: &[u8],
        buf: &[u8],
        spans: &[Span],
        end: bool,
        moved: u64,
    ) -> Result<(), Broken> {
        let mut prefix = prefix;
        if self.writer == Writer::Stream {
            let nothing = spans.iter().all(|s| s.is_empty());
            if !prefix.is_empty() {
                self.send_head(prefix, nothing && end)?;
                prefix = &[];
            } else if nothing && end {
                return self.end_stream(None);
            }
            if nothing {
                return Ok(());
            }
        }
        let mut written = 0;
        loop {
            match self.gather_and_write(prefix, buf, spans, end, written) {
                Ok(None) => return Ok(()),
                Ok(Some(n)) => {
                    self.began.set(true);
                    written += n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // What was read, but is still here, the receiver has not earned (hazard H2-10).
                    let all = spans.iter().fold(prefix.len(), |sum, span| sum + span.len());
                    let left = all.saturating_sub(written) as u64;
                    self.wait(Side::Write, moved.saturating_sub(left)).await?;
                }
                Err(_) => return Err(Broken::SinkGone),
            }
        }
    }

    // Writes on from the octet after the first `skip`; `None` when there is none left.
    fn gather_and_write(
        &self,
        prefix: &[u8],
        buf: &[u8],
        spans: &[Span],
        end: bool,
        skip: usize,
    ) -> io::Result<Option<usize>> {
        let length: usize = spans.iter().map(|s| s.len()).sum();
        let mut line = [0; 18];
        let mut parts = [IoSlice::new(&[]); PIECES + 3];
        let mut count = 0;
        let mut push = |octets| {
            if let Some(slot) = parts.get_mut(count) {
                *slot = octets;
                count += 1;
            }
        };
        if !prefix.is_empty() {
            push(IoSlice::new(prefix));
        }
        let chunked = self.writer == Writer::Chunked;
        if chunked && length > 0 {
            push(IoSlice::new(chunk_line(length, &mut line)));
        }
        spans.iter().for_each(|s| push(IoSlice::new(s.of(buf))));
        match (chunked, length > 0, end) {
            (true, true, true) => push(IoSlice::new(b"\r\n0\r\n\r\n")),
            (true, true, false) => push(IoSlice::new(b"\r\n")),
            (true, false, true) => push(IoSlice::new(b"0\r\n\r\n")),
            _ => {}
        }
        let mut parts = parts.get_mut(..count).unwrap_or_default();
        if parts.iter().map(|p| p.len()).sum::<usize>() <= skip {
            return Ok(None);
        }
        IoSlice::advance_slices(&mut parts, skip);
        self.to.try_write_end(parts, end).map(Some)
    }

    fn send_head(&self, head: &[u8], end: bool) -> Result<(), Broken> {
        let stream = self.to.stream().ok_or(Broken::SinkGone)?;
        stream.send_head(head, end).map_err(|_| Broken::SinkGone)?;
        self.began.set(true);
        Ok(())
    }

    fn end_stream(&self, trailers: Option<&[u8]>) -> Result<(), Broken> {
        let stream = self.to.stream().ok_or(Broken::SinkGone)?;
        stream.end(trailers).map_err(|_| Broken::SinkGone)
    }

    async fn trailers(
        &self,
        prefix: &[u8],
        buf: &mut Buf,
        scan: &mut Scan,
        moved: u64,
    ) -> Result<(), Broken> {
        let len = self.section(buf, scan, moved).await?;
        let section = buf.filled().get(..len).unwrap_or_default();
        self.end(prefix, Some(section).filter(|section| *section != b"\r\n"), moved).await?;
        buf.consume(len);
        Ok(())
    }

    // Reads a trailer section to its end; returns how long it is.
    pub(super) async fn section(
        &self,
        buf: &mut Buf,
        scan: &mut Scan,
        moved: u64,
    ) -> Result<usize, Broken> {
        loop {
            match scan.find_end(buf.filled(), &TRAILERS) {
                Ok(Some(len)) => return Ok(len),
                Ok(None) => {}
                Err(_) => return Err(Broken::BadTrailers),
            }
            if buf.spare().is_empty() && !buf.grow(TRAILERS.size * 2) {
                return Err(Broken::BadTrailers);
            }
            if self.read(buf, usize::MAX, moved).await? == 0 {
                return Err(Broken::SourceGone);
            }
        }
    }

    // Ends the body, with what may go on of a trailer section where there is one. `prefix` is nothing but where there are stages.
    async fn end(&self, prefix: &[u8], section: Option<&[u8]>, moved: u64) -> Result<(), Broken> {
        let to_client = self.client == Side::Write;
        let fields = section.map(|s| filtered(s, to_client, self.barred)).transpose()?;
        let mut fields = fields.filter(|fields| !fields.is_empty());
        if let Some(stages) = &self.stages
            && Box::pin(self.end_made(stages, prefix, &mut fields, moved)).await?
        {
            return Ok(());
        }
        match (self.writer, fields) {
            (Writer::Stream, Some(mut fields)) => {
                fields.extend_from_slice(b"\r\n");
                self.end_stream(Some(&fields))
            }
            (Writer::Chunked, Some(fields)) => {
                let out = [b"0\r\n", fields.as_slice(), b"\r\n"].concat();
                self.to.write_all(&out, self.pace.stall).await.map_err(sink_error)
            }
            _ => self.write(&[], &[], &[], true, moved).await,
        }
    }
}

fn sink_error(error: io::Error) -> Broken {
    match error.kind() {
        io::ErrorKind::TimedOut => Broken::SinkStalled,
        _ => Broken::SinkGone,
    }
}

impl Broken {
    /// What it means when the client sends the body.
    pub fn of_request(self) -> Fault {
        match self {
            Broken::SourceGone => Fault::ClientGone,
            Broken::SourceStalled => Fault::BodyTimeout,
            Broken::SourceSlow => Fault::BodyTooSlow,
            // No coding is taken off a request on its way.
            Broken::SourceMalformed | Broken::BadCoding => Fault::Chunk,
            Broken::BadTrailers => Fault::Trailers,
            Broken::BadText => Fault::GrpcWebText,
            Broken::TooLarge | Broken::Swollen => Fault::BodyTooLarge,
            Broken::SinkGone => Fault::TargetReset,
            Broken::SinkStalled | Broken::SinkSlow => Fault::BodyStalled,
        }
    }

    /// What it means when the target sends the body.
    pub fn of_response(self) -> Fault {
        match self {
            Broken::SourceGone => Fault::TruncatedBody,
            Broken::SourceStalled | Broken::SourceSlow => Fault::BodyStalled,
            Broken::SourceMalformed | Broken::BadTrailers | Broken::BadText | Broken::TooLarge => {
                Fault::ResponseChunk
            }
            Broken::BadCoding | Broken::Swollen => Fault::ResponseCoding,
            Broken::SinkGone => Fault::ClientGone,
            Broken::SinkStalled => Fault::WriteTimeout,
            Broken::SinkSlow => Fault::ReadTooSlow,
        }
    }
}
