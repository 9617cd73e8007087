//! One client connection that speaks HTTP/1: heads in, exchanges, heads out, in order.
//!
//! While it waits for a request it holds no buffer; a head that arrives in pieces is kept in just as many octets as have
//! come. Pipelined requests are served one after the other. What cannot be parsed is answered once, and ends it.

use crate::base::Tick;
use crate::base::meters::Meters;
use crate::http::problem::{self, Media};
use crate::http::request::Form;
use crate::http::scan::Scan;
use crate::http::{Fault, Fields, Framing, write};
use crate::net::{Buf, Side};
use crate::proxy::exchange::exchange;
use crate::proxy::finish::{self, Unread};
use crate::proxy::{Client, Exchange};
use crate::serve::accept::Open;
use crate::shard::{Epoch, Scratch, Shard, Trace};
use crate::snapshot::Listener;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

// Empty lines before a request line that are passed over (RFC 9112 section 2.2 asks for at least one).
const EMPTY_LINES: usize = 2;
// A head in pieces larger than this keeps its block rather than be copied out of it at every wait.
const STASH: usize = 4 << 10;
// After an answer that ends a connection: what is still read and thrown away, and for how long, so that the answer is
// not lost to a reset.
const LINGER_OCTETS: usize = 256 << 10;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Why no request came.
enum Ended {
    /// The client is done, or idle for too long, or gone.
    Quietly,
    /// What came is no request.
    With(Fault),
}

/// Serves a client until one side has had enough. `accepted` is the configuration that it was accepted under.
pub async fn serve(client: Client, open: Open, accepted: Rc<Epoch>) {
    let shard = &open.0;
    let Some(listener) = accepted.snapshot.listener(client.listener) else {
        return;
    };
    let _counted = Counted::new(listener, shard.worker);
    let mut rest = Rest { buf: None, served: 0, since: Tick::now(), accepted: Some(accepted) };
    while step(shard, &client, &mut rest).await {
        rest.served += 1;
        // No idle connection keeps an old configuration alive.
        rest.accepted = None;
    }
}

// A connection in its listener's gauge, until it is dropped.
struct Counted {
    meters: Arc<Meters>,
    worker: usize,
}

impl Counted {
    fn new(listener: &Listener, worker: usize) -> Counted {
        let meters = Arc::clone(&listener.meters);
        meters.cell(worker).connects.add(1);
        meters.cell(worker).connections.add(1);
        Counted { meters, worker }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meters.cell(self.worker).connections.sub(1);
    }
}

// What a connection remembers between requests.
struct Rest {
    // The beginning of the next request, where it came with the last one.
    buf: Option<Buf>,
    // Requests served.
    served: u64,
    // When the last one ended, or the connection began.
    since: Tick,
    // Until the first request: a connection that waited in the queue of a listener that has been removed is still owed
    // an answer.
    accepted: Option<Rc<Epoch>>,
}

impl Rest {
    // The newest configuration that knows the connection's listener, and whether this request is its last.
    fn epoch(&self, shard: &Shard, client: &Client) -> Option<(Rc<Epoch>, bool)> {
        let newest = shard.epoch();
        if newest.snapshot.listener(client.listener).is_some() {
            return Some((newest, false));
        }
        self.accepted.as_ref().map(|accepted| (Rc::clone(accepted), true))
    }
}

// One request. Whether there may be another.
async fn step(shard: &Rc<Shard>, client: &Client, rest: &mut Rest) -> bool {
    let buf = match rest.buf.take() {
        Some(buf) => buf,
        None => match idle(shard, client, rest).await {
            Some(buf) => buf,
            None => return false,
        },
    };
    // The newest configuration counts from the first octet of each request.
    let Some((epoch, last)) = rest.epoch(shard, client) else {
        return false;
    };
    let epoch = &epoch;
    let Some(listener) = epoch.snapshot.listener(client.listener) else {
        return false;
    };
    let began = Tick::now();
    client.sock.arm(Side::Read, began.after(listener.header));
    let mut scratch = shard.scratch();
    let head = read_head(shard, epoch, client, buf, &mut scratch).await;
    client.sock.arm(Side::Read, Tick::NEVER);
    let stays = match head {
        Ok(mut buf) => {
            let limit = epoch.snapshot.limits.requests;
            let last = last || limit.is_some_and(|limit| rest.served + 1 >= limit);
            let stays =
                request(shard, epoch, listener, client, &mut buf, &mut scratch, began, last, rest)
                    .await;
            if !buf.is_empty() {
                rest.buf = Some(buf);
            }
            stays
        }
        Err(Ended::Quietly) => false,
        Err(Ended::With(fault)) => {
            refuse(shard, epoch, listener, client, &mut scratch, began, fault).await;
            false
        }
    };
    shard.give_back(scratch);
    stays
}

// Waits for the first octets of a request, holding nothing.
async fn idle(shard: &Rc<Shard>, client: &Client, rest: &Rest) -> Option<Buf> {
    let served = rest.served;
    {
        let (epoch, _) = rest.epoch(shard, client)?;
        let listener = epoch.snapshot.listener(client.listener)?;
        // A client that has just connected owes a head; one that has been served may rest.
        let patience = if served == 0 { listener.header } else { listener.keep_alive };
        client.sock.arm(Side::Read, rest.since.after(patience));
    }
    if shard.is_draining() && served > 0 {
        return None;
    }
    client.sock.set_idle(served > 0);
    let ready = client.sock.readable().await;
    client.sock.set_idle(false);
    ready.ok()?;
    let mut buf = shard.buffers.small();
    match client.sock.read(buf.spare()).await {
        Ok(n) if n > 0 => {
            buf.fill(n);
            Some(buf)
        }
        _ => None,
    }
}

async fn read_head(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    client: &Client,
    mut buf: Buf,
    scratch: &mut Scratch,
) -> Result<Buf, Ended> {
    let limits = epoch.snapshot.head_limits();
    let mut scan = Scan::default();
    let mut empty_lines = 0;
    loop {
        while empty_lines < EMPTY_LINES && buf.filled().starts_with(b"\r\n") {
            buf.consume(2);
            empty_lines += 1;
        }
        let nothing = matches!(buf.filled(), [] | [b'\r']);
        if !nothing {
            refuse_early(buf.filled())?;
            if let Some(len) = scan.find_end(buf.filled(), &limits).map_err(Ended::With)? {
                let head = buf.filled().get(..len).unwrap_or_default();
                scratch.request.parse(head, epoch.snapshot.paths).map_err(Ended::With)?;
                return Ok(buf);
            }
        }
        if buf.spare().is_empty() && !buf.grow(limits.size) {
            return Err(Ended::With(Fault::HeadTooLarge));
        }
        buf = more(shard, client, buf).await?;
    }
}

// What cannot become a request is not waited for: an empty line too many, a TLS hello, garbage.
fn refuse_early(start: &[u8]) -> Result<(), Ended> {
    match start.first() {
        Some(b) if crate::http::request::is_token_octet(*b) => Ok(()),
        Some(b'\n') => Err(Ended::With(Fault::BareLf)),
        _ => Err(Ended::With(Fault::RequestLine)),
    }
}

async fn more(shard: &Rc<Shard>, client: &Client, mut buf: Buf) -> Result<Buf, Ended> {
    loop {
        match client.sock.try_read(buf.spare()) {
            Ok(0) if buf.is_empty() => return Err(Ended::Quietly),
            // Half a request, and no more to come.
            Ok(0) => return Err(Ended::With(Fault::RequestLine)),
            Ok(n) => {
                buf.fill(n);
                return Ok(buf);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let waited = if buf.len() <= STASH {
                    let stash = buf.filled().to_vec();
                    drop(buf);
                    let waited = client.sock.readable().await;
                    buf = shard.buffers.small();
                    buf.append(&stash);
                    waited
                } else {
                    client.sock.readable().await
                };
                match waited {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                        return Err(Ended::With(Fault::HeaderTimeout));
                    }
                    Err(_) => return Err(Ended::Quietly),
                }
            }
            Err(_) => return Err(Ended::Quietly),
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one request's whole surroundings, used once")]
async fn request(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    client: &Client,
    buf: &mut Buf,
    scratch: &mut Scratch,
    began: Tick,
    last: bool,
    rest: &mut Rest,
) -> bool {
    scratch.request_id.clear();
    scratch.trace = Trace { began, ..Trace::default() };
    let keep = scratch.request.keep_alive && !last;
    let mut x =
        Exchange { shard, epoch, listener, client, buf: &mut *buf, next: None, scratch, keep };
    rest.since = exchange(&mut x).await;
    let keep = x.keep;
    let next = x.next.take();
    // Where nothing was sent, or an answer broke off, there is nothing that must still arrive.
    let answered = x.scratch.trace.status != 0 && !x.scratch.trace.broken_off;
    let taken = x.scratch.request.len + x.body_here().len();
    // Whether the client may still be sending something that was not taken off the connection.
    let unread = next.is_none() && !x.body_is_here();
    match next {
        Some(next) => *buf = next,
        None => buf.consume(taken),
    }
    if keep {
        return true;
    }
    if answered && (unread || !buf.is_empty()) {
        linger(client, buf).await;
    }
    buf.consume(buf.len());
    false
}

// Answers what could not be read, and makes sure that the answer arrives.
async fn refuse(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    client: &Client,
    scratch: &mut Scratch,
    began: Tick,
    fault: Fault,
) {
    scratch.request.framing = Framing::None;
    scratch.request.form = Form::Origin;
    let mut id = std::mem::take(&mut scratch.request_id);
    id.clear();
    let random = shard.with_rng(|rng| rng.u128(..));
    id.extend_from_slice(format!("{random:032x}").as_bytes());
    let mut body = Vec::new();
    let media = Media::preferred(Fields::new(&[], &[]));
    problem::body(&mut body, fault, &id, media);
    let mut out = std::mem::take(&mut scratch.reply);
    out.clear();
    write::status_line(&mut out, fault.status(), write::phrase(fault.status()).as_bytes());
    shard.with_date(|date| write::field(&mut out, b"date", date));
    write::field(&mut out, b"content-type", media.name().as_bytes());
    write::field(&mut out, b"x-ringgate-reason", fault.code().as_bytes());
    write::field(&mut out, b"x-request-id", &id);
    if fault == Fault::MethodRefused {
        write::field(&mut out, b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    }
    write::content_length(&mut out, body.len() as u64);
    out.extend_from_slice(b"connection: close\r\n\r\n");
    out.extend_from_slice(&body);
    let sent = client.sock.write_all(&out, listener.body).await;
    finish::unread(
        shard,
        &Unread {
            listener,
            peer: client.peer,
            began,
            fault,
            status: if sent.is_ok() { fault.status() } else { 0 },
            bytes_in: scratch.request.len as u64,
            bytes_out: out.len() as u64,
            request_id: &id,
            generation: epoch.snapshot.generation,
        },
    );
    out.clear();
    (scratch.reply, scratch.request_id) = (out, id);
    if sent.is_ok() {
        linger(client, &mut shard.buffers.small()).await;
    }
}

// A close while octets are unread would be a reset, and could overtake the answer (RFC 9112 section 9.6).
async fn linger(client: &Client, buf: &mut Buf) {
    client.sock.finish_writing();
    client.sock.arm(Side::Read, Tick::now().after(LINGER_TIME));
    let mut octets = 0;
    while octets < LINGER_OCTETS {
        buf.consume(buf.len());
        match client.sock.read(buf.spare()).await {
            Ok(n) if n > 0 => octets += n,
            _ => return,
        }
    }
}
