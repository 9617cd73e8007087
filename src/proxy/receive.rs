//! The response: its head from the target, its interim responses, its body to the client.
//!
//! What follows a response on the connection answers nothing that was asked: the connection is then not used again.

use crate::base::Tick;
use crate::http::desync::Closes;
use crate::http::grpc::{self, Call};
use crate::http::lines::{self, Body, ListLimits};
use crate::http::scan::Scan;
use crate::http::{Fault, Framing, Known, Method, Version, write};
use crate::net::h2::Stream;
use crate::net::h2::stream::Head as received;
use crate::net::{Buf, Side, Sock};
use crate::proxy::body::{Reader, Relay, Writer};
use crate::proxy::forward::Failure;
use crate::proxy::pace::{Limit, Pace, Quiet};
use crate::proxy::recode::{self, Recode};
use crate::proxy::shape::{self, Shape};
use crate::proxy::stages::Stages;
use crate::proxy::throttle::{self, Throttle};
use crate::proxy::trailers::Barred;
use crate::proxy::{Exchange, cached, call, guard, multiplex, policies, retry, steer, upgrade};
use crate::snapshot::Listener;
use std::cell::RefCell;
use std::io;
use std::time::Duration;

/// A final response head has been parsed into the scratch; this many octets of the buffer are it.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    len: usize,
}

impl Head {
    /// Of a response that no target has sent: its parsed head is in the scratch.
    pub(super) fn of(x: &Exchange<'_>) -> Head {
        Head { len: x.scratch.response.len }
    }
}

// A body of up to this many octets is put behind its head: gathering two parts costs the kernel more than that copy.
const SMALL_BODY: usize = 1024;
// Interim responses passed on for one request, and those taken at all.
const MOST_INTERIM: u32 = 8;
const TOO_MANY_INTERIM: u32 = 100;

/// Waits for the final response head; interim responses (1xx) go to the client on the way.
///
/// # Errors
/// [`Failure::Dead`] when the connection ends before its first octet, [`Failure::Final`] for the rest.
pub async fn head(x: &mut Exchange<'_>, sock: &Sock, up: &mut Buf) -> Result<Head, Failure> {
    loop {
        if let Some(head) = next_head(x, sock, up).await? {
            return Ok(head);
        }
    }
}

/// As [`head`], but ends with `None` at the first 100.
///
/// # Errors
/// As [`head`].
pub async fn head_or_continue(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
) -> Result<Option<Head>, Failure> {
    loop {
        match next_head(x, sock, up).await? {
            None if x.scratch.response.status != 100 => {}
            ended => return Ok(ended),
        }
    }
}

// One head; `None` when it was an interim one, which has been passed on.
async fn next_head(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
) -> Result<Option<Head>, Failure> {
    let len = match sock.stream() {
        Some(stream) => stream_head(x, sock, stream, up).await?,
        None => read_head(x, sock, up, x.scratch.trace.interim == 0).await?,
    };
    if x.scratch.response.status == 101 && upgrade::is_offered(x) {
        let head = up.filled().get(..len).unwrap_or_default();
        upgrade::judge(x, head).map_err(Failure::Final)?;
    } else if upgrade::is_connect(x) && matches!(x.scratch.response.status, 200..300) {
        return Err(Failure::Final(Fault::BadUpgrade));
    } else if x.scratch.response.is_interim() {
        x.scratch.trace.interim += 1;
        if !x.scratch.response.keep_alive && x.scratch.request.closes == Closes::Neither {
            // The final response need not say so again.
            x.scratch.request.closes = Closes::Target;
        }
        Box::pin(pass_interim(x, up, len)).await.map_err(Failure::Final)?;
        return Ok(None);
    }
    x.scratch.trace.answered = Some(Tick::now());
    x.scratch.trace.target_status = Some(x.scratch.response.status);
    if x.scratch.trace.call != Call::No {
        call_head(x, sock, up.filled().get(..len).unwrap_or_default());
    }
    if x.scratch.response.status >= 400 || x.scratch.trace.trial.is_some() {
        guard::headed(x, up.filled().get(..len).unwrap_or_default());
    }
    if x.scratch.trace.repeats > 0
        && retry::is_unwanted(x, up.filled().get(..len).unwrap_or_default())
    {
        return Err(Failure::Unwanted);
    }
    Ok(Some(Head { len }))
}

async fn read_head(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    first: bool,
) -> Result<usize, Failure> {
    let limits = x.epoch.snapshot.response_limits();
    let mut scan = Scan::default();
    let len = loop {
        match scan.find_end(up.filled(), &limits) {
            Ok(Some(len)) => break len,
            Ok(None) => {}
            Err(Fault::BareLf) => return Err(Failure::Final(Fault::ResponseHead)),
            Err(_) => return Err(Failure::Final(Fault::ResponseTooLarge)),
        }
        // What cannot become a response is not waited for.
        let start = up.filled().iter().zip(b"HTTP/1.");
        if start.into_iter().any(|(got, wanted)| got != wanted) {
            return Err(Failure::Final(Fault::ResponseHead));
        }
        if up.capacity() > 0 && up.spare().is_empty() && !up.grow(limits.size) {
            return Err(Failure::Final(Fault::ResponseTooLarge));
        }
        let nothing_yet = first && up.is_empty();
        read_some(x, sock, up).await.map_err(|fault| match fault {
            Fault::ResponseTimeout => Failure::Final(fault),
            _ if nothing_yet => Failure::Dead(fault),
            _ => Failure::Final(Fault::TargetClosed),
        })?;
    };
    let section = up.filled().get(..len).unwrap_or_default();
    x.scratch.response.parse(section, x.scratch.request.method).map_err(Failure::Final)?;
    Ok(len)
}

// A head that comes as one of HTTP/2: as lines in `up`, and as much of a short body as is there and announced.
async fn stream_head(
    x: &mut Exchange<'_>,
    sock: &Sock,
    stream: &Stream,
    up: &mut Buf,
) -> Result<usize, Failure> {
    let received = sock.head().await.map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => Failure::Final(Fault::ResponseTimeout),
        _ => multiplex::failure_of(&e, Fault::TargetReset),
    })?;
    let limits = x.epoch.snapshot.response_limits();
    let list = ListLimits { size: limits.size, fields: limits.fields, line: limits.line };
    let method = x.scratch.request.method;
    let (head, body) = match received {
        received::Interim(head) => (head.into_parts().0, Body::Unknown),
        received::Final(head) if stream.ends_with_head() && method != Method::Head => {
            (head, Body::None)
        }
        received::Final(head) => (head, Body::Unknown),
    };
    let mut out = std::mem::take(&mut x.scratch.reply);
    out.clear();
    let written = lines::response_lines(&head, body, &list, &mut out);
    let parsed = written.and_then(|()| {
        if up.capacity() == 0 {
            *up = x.shard.buffers.small();
        }
        while up.spare().len() < out.len() {
            if !up.grow(limits.size * 2) {
                return Err(Fault::ResponseTooLarge);
            }
        }
        up.append(&out);
        x.scratch.response.parse(up.filled(), method)
    });
    let len = out.len();
    x.scratch.reply = out;
    parsed.map_err(Failure::Final)?;
    if let Framing::Length(length @ 1..) = x.scratch.response.framing
        && length <= up.spare().len() as u64
        && stream.is_here(up.spare().len())
    {
        // All of it goes out in one piece then. What is missing shows when it is read on.
        while let Ok(n @ 1..) = stream.try_read(up.spare()) {
            up.fill(n);
        }
    }
    Ok(len)
}

// What the head of a response says of a call: its status where nothing more follows, and what its body is to become.
fn call_head(x: &mut Exchange<'_>, sock: &Sock, head: &[u8]) {
    let trace = &mut x.scratch.trace;
    let status = x.scratch.response.view(head).first("grpc-status").and_then(grpc::status);
    trace.grpc_status = status;
    if trace.call.is_web() && sock.stream().is_some() {
        let request = x.scratch.request.view(x.buf.filled(), x.client.peer.ip());
        let form = recode::form_wanted(trace.call, request.fields.all("accept"));
        trace.form = recode::prepare(&mut x.scratch.response, head, form);
    }
}

async fn read_some(x: &Exchange<'_>, sock: &Sock, up: &mut Buf) -> Result<(), Fault> {
    loop {
        // The answer takes a while: waiting first saves a read that would find nothing.
        if let Err(e) = sock.readable().await {
            return Err(read_fault(&e));
        }
        if up.capacity() == 0 {
            // Leased only now: a target that takes its time costs no block.
            *up = x.shard.buffers.small();
        }
        match sock.try_read(up.spare()) {
            Ok(0) => return Err(Fault::TargetClosed),
            Ok(n) => {
                up.fill(n);
                return Ok(());
            }
            Err(e) if is_not_yet(&e) => {}
            Err(e) => return Err(read_fault(&e)),
        }
    }
}

// TLS: what came was no octet of the response.
fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn read_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::ResponseTimeout,
        // TLS: the end of the connection without the end of the session (RFC 8446 section 6.1), and an alert or a broken record.
        io::ErrorKind::UnexpectedEof => Fault::TargetClosed,
        io::ErrorKind::InvalidData => Fault::TargetTlsFailed,
        _ => Fault::TargetReset,
    }
}

async fn pass_interim(x: &mut Exchange<'_>, up: &mut Buf, len: usize) -> Result<(), Fault> {
    let seen = x.scratch.trace.interim;
    if x.scratch.response.status == 101 {
        return Err(Fault::UnaskedUpgrade);
    }
    if seen > TOO_MANY_INTERIM {
        return Err(Fault::TooManyInterim);
    }
    // RFC 9110 section 15.2: an HTTP/1.0 client must not be sent any.
    if seen <= MOST_INTERIM && x.scratch.request.version != Version::Http10 {
        let mut out = std::mem::take(&mut x.scratch.reply);
        out.clear();
        status_and_fields(x, up.filled(), &mut out);
        out.extend_from_slice(b"\r\n");
        let sent = interim(x, &out).await;
        x.scratch.reply = out;
        sent?;
    }
    up.consume(len);
    Ok(())
}

/// Sends an interim response to the client.
///
/// # Errors
/// [`Fault::ClientGone`], [`Fault::WriteTimeout`].
pub async fn interim(x: &mut Exchange<'_>, head: &[u8]) -> Result<(), Fault> {
    let client = &x.client.sock;
    let sent = match client.stream() {
        Some(stream) => stream.send_head(head, false),
        None => client.write_all(head, x.listener.body).await,
    };
    sent.map_err(|e| client_fault(&e))?;
    x.scratch.trace.bytes_out += head.len() as u64;
    Ok(())
}

/// What a failed write to the client means.
pub fn client_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::WriteTimeout,
        _ => Fault::ClientGone,
    }
}

/// Sends the parsed final response to the client, head and body. Returns whether the target's connection may carry another
/// request, as far as the response is concerned.
///
/// # Errors
/// What broke it off; the client has seen a part of it then.
pub async fn deliver(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    head: Head,
    stall: Duration,
) -> Result<bool, Fault> {
    steer::settled(x, up.filled().get(..head.len).unwrap_or_default());
    if x.scratch.response.status == 101 {
        Box::pin(upgrade::switch(x, up, head.len, stall)).await?;
        return Ok(false);
    }
    if cached::may_change(x) {
        cached::forget(x, up.filled().get(..head.len).unwrap_or_default());
    }
    let mut made = None;
    let mut stages = Stages::of(Recode::of_response(x.scratch.trace.form));
    let shaped = shape::wants(x);
    if shaped {
        // Rare, and large: kept out of the future of every other request.
        match Box::pin(shape::prepare(x, sock, up, head.len, stall)).await? {
            Shape::Pass(more) => stages = more.or(stages),
            Shape::Answered(reusable) => return Ok(reusable),
        }
    }
    // Another one may have taken the place of the target's body.
    let framing = x.scratch.response.framing;
    let here = whole_body(framing, up.len().saturating_sub(head.len));
    // What is held to a rate goes out in pieces.
    let at_once = !shaped || here.is_some_and(|length| throttle::covers(x, length));
    if let Some(stages) = &mut stages {
        // Of another length afterwards, which is known only where all of it is here.
        let body = up.filled().get(head.len..).unwrap_or_default();
        made = match here {
            Some(length @ 1..) if at_once && stages.at_once(length) => {
                let body = stages.whole(body.get(..length).unwrap_or_default());
                Some(body.map_err(|_| Fault::ResponseCoding)?)
            }
            _ => None,
        };
        match (&made, framing) {
            (Some(made), _) => x.scratch.response.framing = Framing::Length(made.len() as u64),
            (None, Framing::Length(1..)) if stages.keep_length() => {}
            (None, Framing::Length(1..)) => x.scratch.response.framing = Framing::Chunked,
            _ => {}
        }
    }
    let writer = render(x, up.filled());
    let mut out = std::mem::take(&mut x.scratch.reply);
    let quiet = match framing {
        Framing::Chunked | Framing::Close => call::pauses(x, up.filled()),
        Framing::None | Framing::Length(_) => call::quiet(x),
    };
    up.consume(head.len);
    x.scratch.trace.status = x.scratch.response.status;
    x.scratch.trace.bytes_out += out.len() as u64;
    let delivered = match here.filter(|length| {
        let as_read = stages.is_none() && at_once;
        // A body that was announced to have no octets must not become one of some behind that length.
        let recoded = stages.as_ref().is_some_and(Stages::takes_trailers);
        let silent = *length == 0 && (framing == Framing::None || recoded);
        as_read || made.is_some() || silent
    }) {
        // The usual case: all of it is here, and goes out in one piece.
        Some(length) => {
            let here = up.filled().get(..length).unwrap_or_default();
            let body = made.as_deref().unwrap_or(here);
            let octets = body.len();
            if shaped {
                throttle::count(x, octets);
            }
            let floor = x.epoch.snapshot.limits.min_rate;
            let sent = whole(&x.client.sock, &mut out, body, stall, floor).await;
            up.consume(length);
            x.scratch.trace.body_out += octets as u64;
            sent
        }
        // Its future would make every idle connection larger by half.
        None => {
            let as_written = (writer, quiet, stages);
            Box::pin(relay(x, sock, up, &out, framing, as_written, stall)).await
        }
    };
    out.clear();
    x.scratch.reply = out;
    x.scratch.trace.bytes_out += x.scratch.trace.body_out;
    if let Err(fault) = delivered {
        // As it was told: a length that stages have taken away is none for the client either.
        let told = x.scratch.response.framing;
        let unended = matches!(told, Framing::Close | Framing::Chunked);
        let begun = x.scratch.trace.status != 0;
        if begun && (writer == Writer::Stream || (writer == Writer::Plain && unended)) {
            // Nothing but a reset tells this client that there should have been more.
            x.client.sock.reset_on_close();
        }
        return Err(fault);
    }
    Ok(x.scratch.response.keep_alive && framing != Framing::Close)
}

/// Sends a message to a client of which all is here. `head` may be appended to.
///
/// # Errors
/// [`Fault::ClientGone`]; [`Fault::WriteTimeout`] when the client makes no room for `stall`, [`Fault::ReadTooSlow`] when it makes
/// less of it than `floor` octets a second.
pub async fn whole(
    sock: &Sock,
    head: &mut Vec<u8>,
    body: &[u8],
    stall: Duration,
    floor: Option<u64>,
) -> Result<(), Fault> {
    if let Some(stream) = sock.stream() {
        stream.send_head(head, body.is_empty()).map_err(|e| client_fault(&e))?;
        let sent = write_some(stream, body)?;
        let rest = body.get(sent..).unwrap_or_default();
        if !rest.is_empty() {
            Box::pin(write_rest(sock, stream, rest, Pace::new(stall, floor))).await?;
        }
        return Ok(());
    }
    let sent = if body.len() <= SMALL_BODY {
        head.extend_from_slice(body);
        sock.write_all(head, stall).await
    } else {
        sock.write_two(head, body, stall).await.map_err(|(e, _)| e)
    };
    sent.map_err(|e| client_fault(&e))
}

// What there is room for, with END_STREAM if that is all.
fn write_some(stream: &Stream, body: &[u8]) -> Result<usize, Fault> {
    let mut sent = 0;
    while let Some(rest @ [_, ..]) = body.get(sent..) {
        match stream.try_write(&[io::IoSlice::new(rest)], true) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(client_fault(&e)),
        }
    }
    Ok(sent)
}

// A window is opened by the client alone, an octet at a time if it likes: it is held to the same pace as with long bodies (hazard
// H2-10). What a kernel takes at once needs none.
async fn write_rest(sock: &Sock, stream: &Stream, body: &[u8], pace: Pace) -> Result<(), Fault> {
    let mut sent = 0;
    while sent < body.len() {
        let since = Tick::now();
        let (deadline, limit) = pace.deadline(since, sent as u64);
        sock.arm(Side::Write, deadline);
        sock.writable().await.map_err(|e| match (e.kind(), limit) {
            (io::ErrorKind::TimedOut, Limit::Floor) => Fault::ReadTooSlow,
            _ => client_fault(&e),
        })?;
        sock.arm(Side::Write, Tick::NEVER);
        pace.waited(since, Tick::now());
        sent += write_some(stream, body.get(sent..).unwrap_or_default())?;
    }
    Ok(())
}

fn whole_body(framing: Framing, here: usize) -> Option<usize> {
    match framing {
        Framing::None => Some(0),
        Framing::Length(length) => usize::try_from(length).ok().filter(|length| *length <= here),
        Framing::Chunked | Framing::Close => None,
    }
}

async fn relay(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    out: &[u8],
    framing: Framing,
    (writer, quiet, stages): (Writer, Option<Quiet>, Option<Stages>),
    stall: Duration,
) -> Result<(), Fault> {
    let mut reader = Reader::on(sock, framing);
    let relay = Relay {
        shard: x.shard,
        from: sock,
        to: &x.client.sock,
        pace: Pace::new(stall, x.epoch.snapshot.limits.min_rate).held_to(Throttle::of_response(x)),
        client: Side::Write,
        limit: None,
        writer,
        stop_at_end: false,
        began: false.into(),
        stages: stages.map(RefCell::new),
        quiet,
        barred: Barred::of_response(x),
    };
    let ended = relay.run(out, up, &mut reader).await;
    if ended.is_err() && !relay.began.get() {
        // Not even the head has gone out: the client is told what was wrong instead.
        x.scratch.trace.status = 0;
        x.scratch.trace.bytes_out -= out.len() as u64;
        return ended.map_err(|broken| broken.of_response());
    }
    let octets = match &relay.stages {
        Some(stages) => stages.borrow().produced,
        None => reader.total,
    };
    x.scratch.trace.body_out += octets;
    ended.map_err(|broken| broken.of_response())
}

// Writes the response head into the scratch's reply; returns how the body is to be written.
pub(super) fn render(x: &mut Exchange<'_>, buf: &[u8]) -> Writer {
    let mut out = std::mem::take(&mut x.scratch.reply);
    out.clear();
    status_and_fields(x, buf, &mut out);
    let (request, response) = (&x.scratch.request, &x.scratch.response);
    let http11 = request.version == Version::Http11;
    let http2 = request.version == Version::Http2;
    let mut writer = if http2 { Writer::Stream } else { Writer::Plain };
    match (response.framing, response.declared) {
        (Framing::Length(length), _) | (Framing::None, Some(length)) => {
            write::content_length(&mut out, length);
        }
        (Framing::None, None) => {}
        (Framing::Chunked | Framing::Close, _) if http2 => {}
        // Whether it was whole is only known by how its connection has ended: that is what is told.
        (Framing::Close, _) if x.scratch.trace.inner => x.keep = false,
        (Framing::Chunked | Framing::Close, _) if http11 => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            writer = Writer::Chunked;
        }
        // An HTTP/1.0 client knows the end by the end of the connection.
        (Framing::Chunked | Framing::Close, _) => x.keep = false,
    }
    if !x.scratch.response.has_date {
        // RFC 9110 section 6.6.1: a response without Date gets the time it was received.
        x.shard.with_date(|date| write::field(&mut out, b"date", date));
    }
    if !x.scratch.trace.inner {
        out.extend_from_slice(&x.scratch.added);
        out.extend_from_slice(&x.scratch.findings.response);
        policies::Chains::of(x).defaults(&mut out);
        hsts(x.listener, &mut out);
    }
    connection_field(x, &mut out);
    out.extend_from_slice(b"\r\n");
    x.scratch.reply = out;
    writer
}

/// Appends `Strict-Transport-Security` where the listener promises it and the target says nothing of it.
pub fn hsts(listener: &Listener, out: &mut Vec<u8>) {
    if let Some(value) = &listener.hsts {
        write::field_unless_given(out, b"strict-transport-security", value);
    }
}

/// Appends the `Connection` field that the client needs to be told, if any.
pub fn connection_field(x: &mut Exchange<'_>, out: &mut Vec<u8>) {
    x.keep &= !x.shard.is_draining();
    if !x.keep {
        out.extend_from_slice(b"connection: close\r\n");
    } else if x.scratch.request.version == Version::Http10 {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
}

/// Writes the status line of the parsed response, and those of its fields that go on; `buf` is what was parsed.
pub fn status_and_fields(x: &Exchange<'_>, buf: &[u8], out: &mut Vec<u8>) {
    let response = &x.scratch.response;
    // HTTP/2 has no phrase.
    let reason = match response.reason.of(buf) {
        b"" => write::phrase(response.status).as_bytes(),
        reason => reason,
    };
    write::status_line(out, response.status, reason);
    let to_chunked = response.framing == Framing::Chunked;
    let form = x.scratch.trace.form;
    // What ringgate has asked for itself it is told as it is.
    let inner = x.scratch.trace.inner;
    let chains = if inner { policies::Chains::default() } else { policies::Chains::of(x) };
    for one in &response.fields {
        let kept = match one.known {
            Known::Connection
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Te
            | Known::Upgrade
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::Http2Settings
            | Known::XRinggateReason => false,
            Known::Trailer => to_chunked && form == Call::No,
            Known::ContentType if form != Call::No => {
                write::built_field(out, b"content-type", &form.media_type(one.value.of(buf)));
                false
            }
            _ => true,
        };
        let nominated = !response.nominated.is_empty()
            && response.nominated.iter().any(|n| n.of(buf).eq_ignore_ascii_case(one.name.of(buf)));
        if kept && !nominated && !chains.replace(one.name.of(buf)) {
            write::parsed_field(out, buf, one);
        }
    }
}
