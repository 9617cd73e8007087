//! Sends a request to a target: pick, connect or reuse, send, receive; once more where that is sound.
//!
//! A request is sent again only if no octet of a response has reached the client, the method is idempotent and the body is here
//! whole (RFC 9110 section 9.2.2): once where a connection died, and as often as `retry` says. A connection that cannot be
//! opened has carried nothing: the next target is tried for every method.

use crate::base::Tick;
use crate::http::desync::Closes;
use crate::http::grpc::Call;
use crate::http::{Fault, Framing};
use crate::net::{Buf, Side, Sock};
use crate::proxy::attempts::{Walk, choose, hash_key};
use crate::proxy::body::{Broken, Reader, Relay, Writer};
use crate::proxy::load::Load;
use crate::proxy::pace::Pace;
use crate::proxy::receive::{self, Head};
use crate::proxy::stages::Stages;
use crate::proxy::throttle::Throttle;
use crate::proxy::trailers::Barred;
use crate::proxy::{
    Exchange, call, guard, hedge, multiplex, proxied, retry, steer, upgrade, upstream_head,
};
use crate::shard::epoch::GroupCore;
use crate::shard::{TargetConn, TargetCore};
use crate::{tls, upstream};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What the rule says about forwarding.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Index into the snapshot's groups.
    pub group: usize,
    /// Overrides the group's response timeout.
    pub response: Option<Duration>,
    /// How long a body may make no progress.
    pub body: Duration,
    /// Octets that the request's body may have.
    pub body_limit: Option<u64>,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection died before the first octet of a response.
    Dead(Fault),
    /// The target goes away and has said that it did not begin to process it: sending it again is sound for every method, also to
    /// the same one over another connection.
    Unprocessed(Fault),
    /// The target has said that it did not begin to process it, since it takes no more for now: as sound, and better elsewhere.
    Refused(Fault),
    /// Sending it again would not be sound, or not help.
    Final(Fault),
    /// The response is one that another attempt is made for, which is paid for already.
    Unwanted,
}

impl Failure {
    /// What the target has failed with; `None` where it has answered.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Failure::Dead(fault)
            | Failure::Unprocessed(fault)
            | Failure::Refused(fault)
            | Failure::Final(fault) => Some(fault),
            Failure::Unwanted => None,
        }
    }
}

// How long a client that waits for 100 waits for the target to say it; then ringgate does (RFC 9110 section 10.1.1).
pub(super) const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Takes the request to a target and its response to the client.
///
/// # Errors
/// What the client is told, unless it has been sent a response already.
pub async fn forward(x: &mut Exchange<'_>, terms: &Terms) -> Result<(), Fault> {
    let epoch = Rc::clone(x.epoch);
    let group = epoch.groups.get(terms.group).ok_or(Fault::Internal)?;
    x.scratch.trace.group = Some(terms.group);
    let retry = retry::settings(&epoch, x.scratch.trace.rule, group);
    if let Some(retry) = retry {
        let repeats = retry::is_repeatable(x) && !x.scratch.trace.once;
        x.scratch.trace.repeats = if repeats { retry.attempts } else { 0 };
        if let Some(after) = retry.hedge
            && hedge::fits(x, group)
        {
            return Box::pin(hedge::forward(x, group, terms, retry, after)).await;
        }
        // What is sent once may be a second attempt itself.
        if !x.scratch.trace.once {
            group.budget.deposit(retry);
        }
    }
    guard::enter(x, group)?;
    let key = hash_key(x, &group.group.key);
    let mut walk = Walk::default();
    walk.avoid(x.scratch.trace.avoid);
    loop {
        let picked = choose(x, group, key, &walk).ok_or(walk.last.unwrap_or(Fault::NoTarget))?;
        if x.client.sock.is_gone() {
            return Err(Fault::ClientGone);
        }
        if is_late(x) {
            return Err(Fault::DeadlineExceeded);
        }
        // One that was full when it was to be dialled may look free again, which would be tried for ever.
        let admitted = match walk.crowded {
            true => None,
            false => guard::admit(x, group, picked, walk.tried()),
        };
        let (place, held) = match admitted {
            Some(admitted) => admitted,
            None => Box::pin(guard::queue(x, group, walk.tried())).await?,
        };
        if place != picked {
            steer::was_full(x, group, picked);
        }
        walk.crowded = false;
        let target = group.targets.get(place).ok_or(Fault::Internal)?;
        walk.enter(place);
        x.scratch.trace.target = Some(place);
        if let Some(picked) = &x.scratch.trace.picked {
            picked.set(Some(place));
        }
        let load = Load::count(x.shard.worker, group, target);
        let mut conn = match open(x, group, target, walk.resent).await {
            Ok(conn) => conn,
            Err(Fault::Shed) => return Err(Fault::Shed),
            Err(Fault::TargetFull) => {
                walk.crowded(place);
                continue;
            }
            Err(fault) => {
                x.scratch.trace.queued = None;
                load.not_opened(fault);
                note_failure(x, fault, target.unshaken());
                guard::settle(x, group, place, Some(fault));
                walk.last = Some(fault);
                if !walk.dials_again(x, group, retry) {
                    return Err(fault);
                }
                continue;
            }
        };
        conn.held = held;
        // Another attempt waits anew, for as long.
        x.scratch.trace.queued = None;
        let ended = attempt(x, group, &conn, terms, &load).await;
        match ended.map_err(|failure| why(x, group, &conn, terms, failure)) {
            Ok(reusable) => {
                guard::settle(x, group, place, None);
                // A connection that begins with one client's PROXY header is not for another.
                if reusable && group.group.proxy_protocol.is_none() {
                    let now = x.scratch.trace.answered.unwrap_or_else(Tick::now);
                    TargetCore::keep(conn, now, group.idle_share);
                } else {
                    upgrade::hold(x, conn);
                }
                return Ok(());
            }
            Err(failure) => {
                // Who says that it has not begun has not failed.
                if !matches!(failure, Failure::Unprocessed(_) | Failure::Refused(_)) {
                    guard::settle(x, group, place, failure.fault());
                }
                load.failed(x, failure, conn.reused);
                drop((load, conn));
                if walk.goes_on(x, group, retry, failure)? {
                    Box::pin(retry::back_off(x, retry)).await?;
                }
            }
        }
    }
}

// With TLS 1.3 a target refuses our certificate when the request is on its way already: the alert says so, and the reset that
// may follow it does not.
fn why(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    conn: &TargetConn,
    terms: &Terms,
    failure: Failure,
) -> Failure {
    if failure == Failure::Final(Fault::ResponseTimeout) && is_late(x) {
        x.scratch.trace.overdue = had_its_time(x, patience(x, group, terms));
        return Failure::Final(Fault::DeadlineExceeded);
    }
    let Some(sock) = conn.sock().filter(|sock| sock.tls().is_some()) else { return failure };
    let failure = match failure {
        Failure::Dead(Fault::TargetReset) if sock.has_news() && sock.tls_failure().is_some() => {
            Failure::Dead(Fault::TargetTlsFailed)
        }
        failure => failure,
    };
    if let Failure::Dead(fault) | Failure::Final(fault) = failure {
        note_failure(x, fault, sock.tls_failure());
    }
    failure
}

#[inline]
fn is_late(x: &Exchange<'_>) -> bool {
    x.scratch.trace.deadline.is_some_and(|deadline| deadline <= Tick::now())
}

// Whether the target has kept a request waiting for as long as it may, though its deadline came first: for all of its patience, or
// for most of the time that the rule gives. A client that gives little has chosen so itself, and what others have used up, as the
// queue and earlier attempts, is not the target's either.
fn had_its_time(x: &Exchange<'_>, patience: Duration) -> bool {
    let trace = &x.scratch.trace;
    let whole = trace.deadline.filter(|_| trace.call == Call::No).map(|end| end.since(trace.began));
    let most = whole.map_or(patience, |whole| patience.min(whole / 2));
    trace.sent.is_some_and(|sent| Tick::now().since(sent) >= most)
}

// Keeps for the log what TLS with a target failed of. The codes of certificates are named after clients, whose they are
// elsewhere.
fn note_failure(x: &mut Exchange<'_>, fault: Fault, why: Option<tls::Failure>) {
    if fault == Fault::TargetTlsFailed {
        let said = |why: tls::Failure| why.to_string().replacen("_client_cert", "_cert", 1).into();
        x.scratch.trace.detail = why.map(said);
    }
}

async fn open(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    target: &Rc<TargetCore>,
    fresh: bool,
) -> Result<TargetConn, Fault> {
    if group.group.protocol.is_h2() {
        return place(x, group, target).await;
    }
    let header = group.group.proxy_protocol.map(|v| proxied::header(x, v)).unwrap_or_default();
    // A connection that begins with a header is not kept: after a reload the pool may still hold others.
    if !fresh
        && header.is_empty()
        && let Some(conn) = target.take(&x.client.sock)
    {
        x.scratch.trace.reused = true;
        return Ok(conn);
    }
    x.scratch.trace.reused = false;
    let began = Tick::now();
    let left = time_left(x, group, began);
    // Opening a connection allocates anyway; its future would make every idle connection larger.
    let opening = upstream::connect(x.shard, &x.client.sock, target, left, &header);
    let conn = Box::pin(opening).await.map_err(|fault| cut_short(x, group, left, fault))?;
    x.scratch.trace.connect = Some(Tick::now().since(began));
    Ok(conn)
}

// A place for a stream, on a connection that others use, too.
async fn place(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    target: &Rc<TargetCore>,
) -> Result<TargetConn, Fault> {
    if let Some(conn) = upstream::h2::open_place(&x.client.sock, target) {
        x.scratch.trace.reused = true;
        return Ok(conn);
    }
    let began = Tick::now();
    let left = time_left(x, group, began);
    let opening = upstream::h2::place(x.shard, &x.client.sock, &group.group, target, left);
    let conn = Box::pin(opening).await.map_err(|fault| cut_short(x, group, left, fault))?;
    x.scratch.trace.reused = false;
    x.scratch.trace.connect = Some(Tick::now().since(began));
    Ok(conn)
}

// How long a connection may take to open: no longer than its request is of use.
fn time_left(x: &Exchange<'_>, group: &GroupCore, now: Tick) -> Duration {
    let connect = group.group.connect;
    x.scratch.trace.deadline.map_or(connect, |deadline| connect.min(deadline.since(now)))
}

fn cut_short(x: &Exchange<'_>, group: &GroupCore, left: Duration, fault: Fault) -> Fault {
    let short = fault == Fault::ConnectTimeout && left < group.group.connect;
    if short && is_late(x) { Fault::DeadlineExceeded } else { fault }
}

// Whether the connection may carry another request.
async fn attempt(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    conn: &TargetConn,
    terms: &Terms,
    load: &Load<'_>,
) -> Result<bool, Failure> {
    if let Some(channel) = conn.channel() {
        // Every stream allocates anyway.
        Box::pin(multiplex::attempt(x, group, conn, channel, terms, load)).await?;
        return Ok(false);
    }
    let target = conn.target();
    let sock = conn.sock().ok_or(Failure::Final(Fault::Internal))?;
    let wait = patience(x, group, terms);
    upstream_head::render(x, target.live.name.as_bytes());
    let mut up = x.shard.buffers.none();
    let reusable = if x.body_is_here() {
        match send_whole(x, sock, terms.body).await {
            Ok(sent) => {
                sock.arm(Side::Read, until(x, sent.after(wait)));
                let head = receive::head(x, sock, &mut up).await?;
                load.answered(x);
                receive::deliver(x, sock, &mut up, head, terms.body)
                    .await
                    .map_err(Failure::Final)?
            }
            Err(unsent) => {
                Box::pin(last_word(x, sock, &mut up, unsent, terms)).await?;
                false
            }
        }
    } else {
        // Rare and large: kept out of the future of every other request.
        Box::pin(stream(x, sock, &mut up, wait, terms)).await?
    };
    // A read that filled its block cannot tell whether there are octets that answer nothing.
    let nothing_follows = up.is_empty() && !(up.is_brimful() && sock.has_news());
    Ok(reusable && nothing_follows && x.scratch.request.closes == Closes::Neither)
}

/// How long a target may take for its response head.
pub(super) fn patience(x: &Exchange<'_>, group: &GroupCore, terms: &Terms) -> Duration {
    let wait = terms.response.unwrap_or(group.group.response);
    let retry = retry::settings(x.epoch, x.scratch.trace.rule, group);
    retry.and_then(|retry| retry.per_try).map_or(wait, |per_try| per_try.min(wait))
}

/// A deadline, or the one of the whole request where that comes first.
pub(super) fn until(x: &Exchange<'_>, deadline: Tick) -> Tick {
    x.scratch.trace.deadline.map_or(deadline, |whole| whole.min(deadline))
}

// A request that could not be sent to its end.
struct Unsent {
    failure: Failure,
    // Whether the target has some of it: what it says then may be the answer.
    began: bool,
}

// The head, and the body when there is one: all of it is here.
async fn send_whole(x: &mut Exchange<'_>, sock: &Sock, stall: Duration) -> Result<Tick, Unsent> {
    let body = x.body_here();
    let head = x.scratch.upstream.as_slice();
    let sent = if body.is_empty() {
        sock.write_all(head, stall).await.map_err(|e| (e, 0))
    } else {
        sock.write_two(head, body, stall).await
    };
    let body_octets = body.len() as u64;
    sent.map_err(|(e, written)| {
        let failure = match e.kind() {
            io::ErrorKind::TimedOut => Failure::Final(Fault::BodyStalled),
            _ => Failure::Dead(Fault::TargetReset),
        };
        Unsent { failure, began: written > 0 }
    })?;
    x.scratch.trace.count_body(body_octets);
    let now = Tick::now();
    x.scratch.trace.sent = Some(now);
    Ok(now)
}

// A target that reads no further may have answered before (hazard UP-06): that is what its client is told then.
async fn last_word(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    unsent: Unsent,
    terms: &Terms,
) -> Result<(), Failure> {
    if !unsent.began || !sock.has_news() || sock.is_cut() {
        return Err(unsent.failure);
    }
    x.scratch.trace.sent = Some(Tick::now());
    sock.arm(Side::Read, until(x, Tick::now().after(terms.body)));
    match receive::head(x, sock, up).await {
        Ok(head) => {
            x.scratch.trace.count_body(x.body_here().len() as u64);
            receive::deliver(x, sock, up, head, terms.body).await.map_err(Failure::Final)?;
            Ok(())
        }
        Err(Failure::Dead(_)) => Err(unsent.failure),
        Err(failure) => Err(failure),
    }
}

// A body that is still arriving: both directions at once, so that a target may answer early.
async fn stream(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    wait: Duration,
    terms: &Terms,
) -> Result<bool, Failure> {
    let body = arrived(x);
    let mut prefix = std::mem::take(&mut x.scratch.upstream);
    let mut early = None;
    if x.scratch.request.expects_continue && body.is_empty() {
        upstream_head::add_expect(&mut prefix);
        sock.write_all(&prefix, terms.body)
            .await
            .map_err(|_| Failure::Final(Fault::TargetReset))?;
        early = await_continue(x, sock, up).await?;
        prefix.clear();
    }
    if let Some(head) = early {
        // The target has decided without the body: the client need not send it, and may have begun to.
        x.scratch.upstream = prefix;
        x.keep = false;
        receive::deliver(x, sock, up, head, terms.body).await.map_err(Failure::Final)?;
        return Ok(false);
    }
    let chunked = x.scratch.request.framing == Framing::Chunked;
    let writer = if chunked { Writer::Chunked } else { Writer::Plain };
    let sending = Sending { prefix: &prefix, writer, stages: None };
    let until = until(x, Tick::NEVER);
    let answer = Answer { x, sock, up, wait, until, terms };
    let ended = upload(body, sending, answer).await;
    x.scratch.upstream = prefix;
    ended
}

/// What has arrived of a body, in a block that the rest can stream through.
pub(super) fn arrived(x: &Exchange<'_>) -> Buf {
    let here = x.buf.filled().get(x.scratch.request.len..).unwrap_or_default();
    let mut body = x.shard.buffers.large();
    // Where heads may be large, more has come behind one than a large block holds.
    body.reserve(here.len());
    let taken = body.append(here);
    debug_assert_eq!(taken, here.len(), "octets of a body were left behind");
    body
}

/// How a body is sent on.
pub(super) struct Sending<'p> {
    /// Octets before it.
    pub(super) prefix: &'p [u8],
    pub(super) writer: Writer,
    pub(super) stages: Option<RefCell<Stages>>,
}

/// Sends on a body that is still arriving, while its answer is awaited. Whether the connection may carry another request.
pub(super) async fn upload(
    mut body: Buf,
    sending: Sending<'_>,
    answer: Answer<'_, '_, '_>,
) -> Result<bool, Failure> {
    let Answer { x, sock, up, wait, until, terms } = answer;
    let client = x.client;
    let relay = Relay {
        shard: x.shard,
        from: &client.sock,
        to: sock,
        pace: Pace::new(terms.body, x.epoch.snapshot.limits.min_rate)
            .held_to(Throttle::of_request(x)),
        client: Side::Read,
        limit: terms.body_limit,
        writer: sending.writer,
        stop_at_end: true,
        began: false.into(),
        stages: sending.stages,
        quiet: call::quiet(x),
        barred: Barred::of_request(x),
    };
    let mut reader = Reader::on(&client.sock, x.scratch.request.framing);
    let keep = std::mem::replace(&mut x.keep, false);
    let answer = Answer { x: &mut *x, sock, up, wait, until, terms };
    let ended = both(&relay, sending.prefix, &mut body, &mut reader, keep, answer).await;
    x.scratch.trace.bytes_in += reader.total;
    let reusable = ended?;
    if reader.is_done() {
        // What the client has sent behind the body is its next request.
        x.next = Some(body);
    } else {
        x.keep = false;
    }
    Ok(reusable && reader.is_done())
}

// Where the response comes from, and how long its head may take once the request has been sent, and in any case.
pub(super) struct Answer<'x, 'a, 's> {
    pub(super) x: &'x mut Exchange<'a>,
    pub(super) sock: &'s Sock,
    pub(super) up: &'x mut Buf,
    pub(super) wait: Duration,
    pub(super) until: Tick,
    pub(super) terms: &'x Terms,
}

// Ends when the response has ended, or when the upload has failed in a way that ends the exchange. Until the upload is
// whole, `keep` is held back: a response head that is written before says that the connection closes.
async fn both(
    relay: &Relay<'_>,
    prefix: &[u8],
    body: &mut Buf,
    reader: &mut Reader,
    keep: bool,
    answer: Answer<'_, '_, '_>,
) -> Result<bool, Failure> {
    let (whole, headed) = (Cell::new(false), Cell::new(false));
    let Answer { x, sock, up, wait, until, terms } = answer;
    // Before either runs: an upload that is here whole arms the answer's deadline at its first poll.
    sock.arm(Side::Read, until);
    let mut upload = pin!(relay.run(prefix, body, reader));
    let mut download = pin!(async {
        let head = receive::head(x, sock, up).await?;
        headed.set(true);
        x.keep = keep && whole.get();
        receive::deliver(x, sock, up, head, terms.body).await.map_err(Failure::Final)
    });
    let mut uploading = true;
    let mut refused = None;
    poll_fn(|cx| {
        if uploading && let Poll::Ready(done) = upload.as_mut().poll(cx) {
            uploading = false;
            // The body of an answer that has begun has a patience of its own.
            if !headed.get() {
                sock.arm(Side::Read, Tick::now().after(wait).min(until));
            }
            match done {
                Ok(()) => whole.set(true),
                // The target reads no further; its answer may be on the way.
                Err(Broken::SinkGone) => refused = Some(Fault::TargetReset),
                // The client need not send more once it is answered, nor the target read more (hazard UP-06).
                Err(Broken::SourceGone | Broken::SinkStalled | Broken::SinkSlow)
                    if headed.get() => {}
                Err(broken) => return Poll::Ready(Err(Failure::Final(broken.of_request()))),
            }
        }
        download.as_mut().poll(cx).map_err(|failure| match (failure, refused) {
            (Failure::Dead(_), Some(fault)) => Failure::Final(fault),
            (Failure::Dead(fault), None) => Failure::Final(fault),
            (failure, _) => failure,
        })
    })
    .await
    // A body that was read whole need not have been sent whole: the target would take the next request for the rest of it.
    .map(|reusable| reusable && whole.get())
}

// Waits for the target to let the client go on. `Some` is a final response: the body is not wanted.
async fn await_continue(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
) -> Result<Option<Head>, Failure> {
    sock.arm(Side::Read, Tick::now().after(CONTINUE_WAIT));
    match receive::head_or_continue(x, sock, up).await {
        Ok(head) => Ok(head),
        // What has come of a head by then stays in `up`, and is read on.
        Err(Failure::Final(Fault::ResponseTimeout)) if !sock.is_cut() => {
            let go_on = receive::interim(x, b"HTTP/1.1 100 Continue\r\n\r\n").await;
            go_on.map(|()| None).map_err(Failure::Final)
        }
        Err(failure) => Err(Failure::Final(failure.fault().unwrap_or(Fault::Internal))),
    }
}
