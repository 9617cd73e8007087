//! One client connection that speaks HTTP/2: its streams, each of them one exchange, and what the whole of it may do.
//!
//! Frames, compression and flow control are the h2 crate's; here are its limits, set explicitly (RFC 9113 section 10.5), the
//! deadlines, and the end: GOAWAY where it drains, has been idle, or where the client misbehaves. A request's head becomes
//! lines and is judged as one of HTTP/1.1; its stream is a socket of its own (`net::h2`).

use crate::base::Tick;
use crate::config::Http2Limits;
use crate::http::lines::{self, Body, ListLimits};
use crate::http::{Fault, Version};
use crate::net::h2::wire::{Ends, SMALL_FRAMES};
use crate::net::h2::{Expired, Stream, Wire, drive};
use crate::net::{Buf, Side, Sock, runtime};
use crate::proxy::exchange::exchange;
use crate::proxy::finish::{self, Unread};
use crate::proxy::tunnel::Tunnel;
use crate::proxy::{Client, Exchange, Passed};
use crate::serve::refuse::{self, refuse};
use crate::shard::{Epoch, Scratch, Shard, Trace};
use crate::snapshot::Listener;
use crate::snapshot::secure::is_outdated;
use crate::tls::Facts;
use ::http::Method;
use ::http::request::Parts;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::{Connection, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a client with prior knowledge sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// A request body of up to this many octets that has arrived with its head is taken as a whole: it can be sent again.
const HERE: usize = 8 << 10;
// How long a connection without streams may take to end, once it has been told to.
const PARTING: Duration = Duration::from_secs(5);
// At the end of a drain: how long answers that say so may take to be made and written, less than the process waits for them.
const LAST_WORDS: Duration = Duration::from_millis(500);
// Behind FIN: how long the client may be silent, and how long it may talk on.
const QUIET: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(30);
// Streams that are remembered, and for how long, once ringgate has reset them: what the client has sent of them is on its way for
// as long as a window takes it (RFC 9113 section 5.1), and breaks the rules once a stream is forgotten. Each holds some 400 octets.
const REMEMBERED: usize = 1000;
const REMEMBERED_FOR: Duration = Duration::from_secs(10);

/// Serves a client that has begun to speak HTTP/2: `first` is what was read of it. `epoch` is the configuration that it was
/// accepted under.
pub async fn serve(shard: &Rc<Shard>, epoch: Rc<Epoch>, client: Client, first: Option<Buf>) {
    let Some(listener) = epoch.snapshot.listener(client.listener) else {
        return;
    };
    let limits = epoch.snapshot.limits.http2;
    let websocket = listener.websocket;
    let times =
        Times { header: listener.header, keep_alive: listener.keep_alive, stall: listener.body };
    let Client { sock, peer, port, listener, passed, tls } = client;
    // A stream has no address: what targets may be told of the connection is kept for all of them.
    let passed = passed
        .unwrap_or_else(|| Rc::new(Passed { destination: sock.local_addr(), ..Passed::default() }));
    let wire = Wire::of_client(Rc::new(sock), first, limits.budgets(), &shard.buffers);
    let conn = Rc::new(Conn {
        shard: Rc::clone(shard),
        wire: Rc::clone(&wire),
        peer,
        port,
        listener,
        passed,
        tls,
        active: Cell::new(0),
        since: Cell::new(Tick::now()),
        served: Cell::new(0),
    });
    shard.pulse.streams.connections.add(1);
    let handshake = builder(&limits, websocket).handshake(Ends(Rc::clone(&wire)));
    let mut session = Session {
        conn: Rc::clone(&conn),
        phase: Phase::Opening(Box::new(handshake)),
        limits,
        times,
        // None yet: the socket may still have that of who has read the first octets.
        armed: Tick::ZERO,
        parting: None,
        moved: Tick::ZERO,
        cut: None,
        stalled: false,
        fault: None,
    };
    // A removed listener's connections say goodbye at their next request; until then they hold no configuration.
    drop(epoch);
    drive(&wire, times.stall, |cx, expired| session.poll(cx, expired)).await;
    session.close().await;
}

fn builder(limits: &Http2Limits, websocket: bool) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(limits.window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(16 << 10)
        .max_header_list_size(limits.header_list)
        .max_send_buffer_size(limits.send_buffer as usize)
        .data_frame_budget(SMALL_FRAMES)
        .max_concurrent_reset_streams(REMEMBERED)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_pending_accept_reset_streams(limits.resets as usize)
        .max_local_error_reset_streams(Some(limits.local_resets as usize));
    if websocket {
        builder.enable_connect_protocol();
    }
    builder
}

#[derive(Clone, Copy)]
struct Times {
    header: Duration,
    keep_alive: Duration,
    stall: Duration,
}

// What the streams of a connection share.
struct Conn {
    shard: Rc<Shard>,
    wire: Rc<Wire>,
    peer: std::net::SocketAddr,
    port: u16,
    listener: u32,
    passed: Rc<Passed>,
    tls: Option<Rc<Facts>>,
    // Requests that are being served, those included whose client has reset them.
    active: Cell<u32>,
    // When the last one ended, or the connection began.
    since: Cell<Tick>,
    served: Cell<u64>,
}

struct Session {
    conn: Rc<Conn>,
    phase: Phase,
    limits: Http2Limits,
    times: Times,
    armed: Tick,
    // Since when it has been told to end.
    parting: Option<Tick>,
    // When octets were written last, as far as that was looked at.
    moved: Tick,
    // Until when it may write its last words, once all waits were cut.
    cut: Option<Tick>,
    // The client has made no room for too long.
    stalled: bool,
    fault: Option<Fault>,
}

enum Phase {
    Opening(Box<Handshake<Ends, Bytes>>),
    Open(Box<Connection<Ends, Bytes>>),
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>, expired: Expired) -> Poll<()> {
        if let Phase::Opening(handshake) = &mut self.phase {
            match Pin::new(&mut **handshake).poll(cx) {
                Poll::Ready(Ok(open)) => {
                    self.phase = Phase::Open(Box::new(open));
                    // From now on there is something to say goodbye with.
                    self.conn.wire.sock().set_idle(true);
                }
                Poll::Ready(Err(error)) => return self.broken(&error),
                Poll::Pending if expired.read || expired.write => return Poll::Ready(()),
                Poll::Pending => {
                    self.arm(self.conn.since.get().after(self.times.header));
                    return Poll::Pending;
                }
            }
        }
        let cut = self.conn.wire.sock().is_cut();
        self.stalled = expired.write && !cut;
        if self.stalled || ((expired.read || cut) && self.is_over(Tick::now(), cut)) {
            return Poll::Ready(());
        }
        self.judge();
        loop {
            let Phase::Open(open) = &mut self.phase else { return Poll::Ready(()) };
            match open.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if !self.conn.begin(&self.limits, request, respond) {
                        self.part();
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.broken(&error),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if self.conn.wire.has_written() {
            self.moved = Tick::now();
        }
        self.arm(self.deadline());
        Poll::Pending
    }

    // A deadline has passed, or somebody wants this to end: whether it ends now.
    fn is_over(&mut self, now: Tick, cut: bool) -> bool {
        // Whatever ended the wait, the next one is armed anew.
        let due = now >= std::mem::replace(&mut self.armed, Tick::ZERO);
        if cut {
            return self.is_over_at_last(now);
        }
        if due && self.parting.is_some() {
            return true;
        }
        if !due {
            // A drain has begun: what is under way goes on.
            self.part();
            return false;
        }
        if self.conn.wire.open_since().is_some_and(|since| since.after(self.times.header) <= now) {
            self.calm(Fault::HeaderTimeout);
        } else {
            self.part();
        }
        false
    }

    // The time to drain is over: its streams are told so, and tell their clients.
    fn is_over_at_last(&mut self, now: Tick) -> bool {
        let until = *self.cut.get_or_insert(now.after(LAST_WORDS));
        self.conn.wire.sock().slot().renew();
        if now >= until || !self.is_busy() {
            return true;
        }
        self.part();
        false
    }

    // Whether requests are being served, or answers wait to be written.
    fn is_busy(&self) -> bool {
        self.conn.active.get() > 0 || self.conn.wire.is_blocked(Side::Write)
    }

    fn judge(&mut self) {
        if self.fault.is_some() {
            return;
        }
        if let Some(excess) = self.conn.wire.excess() {
            tracing::debug!(client = %self.conn.peer, excess = excess.code(), "GOAWAY");
            self.calm(Fault::Http2Excess);
        } else if self.conn.shard.is_draining() {
            self.part();
        }
    }

    // Ends it now, with a word of why.
    fn calm(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.parting = Some(Tick::now());
        if let Phase::Open(open) = &mut self.phase {
            open.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    // Takes no more streams, and ends with the last one (RFC 9113 section 6.8).
    fn part(&mut self) {
        if self.parting.is_some() {
            return;
        }
        self.parting = Some(Tick::now());
        self.conn.wire.sock().set_idle(false);
        if let Phase::Open(open) = &mut self.phase {
            open.graceful_shutdown();
        }
    }

    fn deadline(&self) -> Tick {
        if let Some(until) = self.cut {
            return until;
        }
        let idle = self.conn.active.get() == 0;
        match self.parting {
            Some(_) if !idle => Tick::NEVER,
            // What is served is not delivered yet: a client that makes no room has its own time.
            Some(_) if self.fault.is_none() && self.is_busy() => Tick::NEVER,
            Some(since) => since.max(self.conn.since.get()).max(self.moved).after(PARTING),
            None if let Some(since) = self.conn.wire.open_since() => since.after(self.times.header),
            None if idle && self.conn.served.get() == 0 => {
                self.conn.since.get().after(self.times.header)
            }
            None if idle => self.conn.since.get().after(self.times.keep_alive),
            _ => Tick::NEVER,
        }
    }

    // Arming forgets that somebody else has ended the wait: only what is new is armed.
    fn arm(&mut self, deadline: Tick) {
        if deadline != self.armed {
            self.armed = deadline;
            self.conn.wire.sock().arm(Side::Read, deadline);
        }
    }

    fn broken(&mut self, error: &h2::Error) -> Poll<()> {
        if !error.is_io() && self.fault.is_none() {
            let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM);
            let fault = if calm { Fault::Http2Excess } else { Fault::Http2Error };
            // What the client says of itself is no fault of its connection.
            self.fault = Some(fault).filter(|_| !error.is_remote());
        }
        Poll::Ready(())
    }

    // Counts what was wrong, and lets the last word arrive: a close while octets are unread could overtake it.
    async fn close(self) {
        let conn = self.conn;
        let open = matches!(self.phase, Phase::Open(_));
        drop(self.phase);
        let Some(fault) = self.fault else {
            if open && !self.stalled {
                part_from(&conn, self.cut.unwrap_or_else(|| Tick::now().after(LINGER))).await;
            }
            return;
        };
        let epoch = conn.shard.epoch();
        if let Some(listener) = epoch.snapshot.listener(conn.listener) {
            conn.unread(&epoch, listener, conn.since.get(), fault);
        }
        refuse::linger(conn.wire.sock(), &mut conn.shard.buffers.small()).await;
    }
}

// Reads on until the client has ended its side, is silent or `until` has come: what it still sends (WINDOW_UPDATE for what it
// reads, PING) would make a reset of the close, which throws away whatever of the answers has not left yet.
async fn part_from(conn: &Conn, until: Tick) {
    let sock = conn.wire.sock();
    sock.finish_writing();
    sock.set_idle(false);
    sock.slot().renew();
    loop {
        sock.arm(Side::Read, until.min(Tick::now().after(QUIET)));
        if sock.readable().await.is_err() {
            return;
        }
        // Who is silent holds no block.
        let mut buf = conn.shard.buffers.small();
        match sock.try_read(buf.spare()) {
            Ok(0) => return,
            Ok(_) if Tick::now() >= until || sock.is_cut() => return,
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

impl Conn {
    // Begins to serve a request; false if it is the connection's last one, or the first one too many.
    fn begin(
        self: &Rc<Conn>,
        limits: &Http2Limits,
        request: ::http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> bool {
        let epoch = self.shard.epoch();
        let listener = epoch.snapshot.listener(self.listener);
        let known = listener.is_some();
        let outdated =
            listener.zip(self.tls.as_deref()).is_some_and(|(l, facts)| is_outdated(l, facts));
        if !known || self.active.get() >= limits.streams {
            respond.send_reset(Reason::REFUSED_STREAM);
            return known;
        }
        self.served.set(self.served.get() + 1);
        let (head, body) = request.into_parts();
        let active = Active::new(Rc::clone(self));
        let stream = Stream::of_client(&self.wire, respond, body);
        let pulse = Arc::clone(&self.shard.pulse);
        runtime::spawn(serve_request(active, epoch, head, stream), move || {
            pulse.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a stream's task panicked; only that request is lost");
        });
        !outdated && limits.requests.is_none_or(|most| self.served.get() < most)
    }

    // The client of one stream.
    fn client(&self, sock: Sock) -> Client {
        let passed = Some(Rc::clone(&self.passed));
        let tls = self.tls.clone();
        Client { sock, peer: self.peer, port: self.port, listener: self.listener, passed, tls }
    }

    fn unread(&self, epoch: &Epoch, listener: &Listener, began: Tick, fault: Fault) {
        finish::unread(
            &self.shard,
            &Unread {
                listener,
                peer: self.peer,
                began,
                fault,
                deviation: None,
                status: 0,
                bytes_in: 0,
                bytes_out: 0,
                request_id: b"",
                generation: epoch.snapshot.generation,
            },
        );
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.shard.pulse.streams.connections.sub(1);
    }
}

// A request that is counted as being served until this is dropped.
struct Active(Rc<Conn>);

impl Active {
    fn new(conn: Rc<Conn>) -> Active {
        conn.active.set(conn.active.get() + 1);
        conn.shard.pulse.streams.begun.add(1);
        conn.shard.pulse.streams.open.add(1);
        Active(conn)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let conn = &self.0;
        conn.active.set(conn.active.get() - 1);
        conn.shard.pulse.streams.open.sub(1);
        if conn.active.get() == 0 {
            conn.since.set(Tick::now());
            // Its deadline begins.
            conn.wire.wake();
        }
    }
}

#[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
fn serve_request(
    active: Active,
    epoch: Rc<Epoch>,
    head: Parts,
    stream: Stream,
) -> impl Future<Output = ()> + 'static {
    async move {
        let conn = &active.0;
        let sock = Sock::of_stream(stream, &conn.shard.timers);
        let client = conn.client(sock);
        let mut scratch = conn.shard.scratch();
        {
            let mut work = pin!(async {
                let tunnel = answer(conn, &epoch, &client, head, &mut scratch).await;
                // A tunnel may outlive many configurations.
                drop(epoch);
                if let Some(tunnel) = tunnel {
                    Box::pin(tunnel.run(&conn.shard, &client.sock)).await;
                }
            });
            let mut gone = false;
            poll_fn(|cx| {
                if !gone
                    && let Some(stream) = client.sock.stream()
                    && stream.poll_gone(cx).is_ready()
                {
                    // Frees what the target does for it, too (hazard H2-05).
                    gone = true;
                    if !stream.has_answered() {
                        conn.wire.cancelled();
                        conn.shard.pulse.streams.cancelled.add(1);
                    }
                    client.sock.slot().abandon();
                }
                let polled = work.as_mut().poll(cx);
                if polled.is_pending()
                    && let Some(stream) = client.sock.stream()
                {
                    stream.absorb(cx);
                }
                polled
            })
            .await;
        }
        conn.shard.give_back(scratch);
    }
}

async fn answer(
    conn: &Conn,
    epoch: &Rc<Epoch>,
    client: &Client,
    head: Parts,
    scratch: &mut Scratch,
) -> Option<Box<Tunnel>> {
    let (shard, began) = (&conn.shard, Tick::now());
    let listener = epoch.snapshot.listener(conn.listener)?;
    scratch.request_id.clear();
    scratch.trace = Trace { began, ..Trace::default() };
    let mut buf = shard.buffers.small();
    match read(epoch, client, head, &mut buf, scratch) {
        Ok(()) => {
            let buf = &mut buf;
            let mut x = Exchange {
                shard,
                epoch,
                listener,
                client,
                buf,
                next: None,
                upgrade: None,
                scratch,
                keep: true,
            };
            exchange(&mut x).await;
            if x.scratch.trace.fault.is_none() {
                conn.wire.answered();
            }
            return x.upgrade.take().and_then(|upgrade| upgrade.into_tunnel());
        }
        // Malformed: an error of the stream (RFC 9113 section 8.1.1). What is only too large is told so.
        Err(fault) if fault.status() == 400 && scratch.request.len == 0 => {
            if let Some(stream) = client.sock.stream() {
                stream.reset(Reason::PROTOCOL_ERROR);
            }
            conn.wire.cancelled();
            conn.unread(epoch, listener, began, fault);
        }
        Err(Fault::ClientGone) => conn.unread(epoch, listener, began, Fault::ClientGone),
        Err(fault) => refuse(shard, epoch, listener, client, scratch, began, fault).await,
    }
    None
}

// Puts a request's head as lines into `buf`, with its body where that is here and short, and judges it.
fn read(
    epoch: &Epoch,
    client: &Client,
    head: Parts,
    buf: &mut Buf,
    scratch: &mut Scratch,
) -> Result<(), Fault> {
    scratch.request.len = 0;
    scratch.request.deviation = None;
    // Whether an answer to what cannot be read has a body depends on it.
    let to_head = head.method == Method::HEAD;
    scratch.request.method = if to_head { crate::http::Method::Head } else { Default::default() };
    let stream = client.sock.stream().ok_or(Fault::Internal)?;
    let connect = head.extensions.get::<Protocol>().filter(|_| head.method == Method::CONNECT);
    let body = if stream.ends_with_head() || connect.is_some() {
        Body::None
    } else if stream.is_here(HERE) {
        Body::Length(stream.buffered() as u64)
    } else {
        Body::Unknown
    };
    let limits = epoch.snapshot.head_limits();
    let list = ListLimits {
        size: epoch.snapshot.limits.http2.header_list as usize,
        fields: limits.fields,
        line: limits.line,
    };
    let mut out = std::mem::take(&mut scratch.upstream);
    out.clear();
    let written = match connect {
        Some(protocol) => lines::upgrade_lines(&head, protocol.as_str(), &list, &mut out),
        None => lines::request_lines(&head, body, &list, &mut out),
    };
    if written.is_ok() {
        // The list's limit bounds the head, and the body is short.
        let behind = if let Body::Length(length) = body { length as usize } else { 0 };
        buf.reserve(out.len() + behind);
        buf.append(&out);
    }
    scratch.upstream = out;
    written?;
    scratch.request.parse(buf.filled(), epoch.snapshot.paths)?;
    scratch.request.version = Version::Http2;
    if let Body::Length(length) = body {
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        while left > 0 {
            let n = stream.try_read(buf.spare()).map_err(|_| Fault::ClientGone)?;
            if n == 0 {
                return Err(Fault::ClientGone);
            }
            buf.fill(n);
            left = left.saturating_sub(n);
        }
    }
    Ok(())
}
