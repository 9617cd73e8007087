//! A request that ringgate sends by itself on behalf of another: a copy, a part, a second attempt, a stored answer's renewal.
//!
//! It goes the way of every request, from the choice of a target on, with a connection in memory as its client. Whoever has sent it
//! reads the response at the other end, as the target has sent it: what rules and policies say of responses is for the client's.
//! Dropping that end breaks it off at once, wherever it is. It is counted for its group and target, neither routed nor judged anew,
//! nor logged. Called by `mirror`, `aggregate`, `cached`, `hedge`.

use crate::base::Tick;
use crate::http::scan::Scan;
use crate::http::{Fault, Framing, Method, ResponseHead, Version};
use crate::net::memory::{Shape, pair};
use crate::net::runtime::spawn;
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side, Sock};
use crate::proxy::body::{Broken, Reader, Relay, Writer};
use crate::proxy::collect::{Gap, gather};
use crate::proxy::pace::Pace;
use crate::proxy::trailers::Barred;
use crate::proxy::{Client, Exchange, finish, forward};
use crate::shard::{Sent, Shard, Trace};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

/// What is sent.
#[derive(Debug)]
pub struct Order {
    /// Index into the snapshot's groups.
    pub group: usize,
    /// How it differs from the client's head.
    pub sent: Sent,
    /// The body; `None` for the client's, where that is here whole.
    pub body: Option<Vec<u8>>,
    /// How long the target may take for its response head; `None` for the group's timeout.
    pub response: Option<Duration>,
    /// A target that is passed over: an index into the group's.
    pub avoid: Option<usize>,
    /// Whether it is tried again as the rule or the group say.
    pub repeats: bool,
}

/// A request that is on its way.
#[derive(Debug)]
pub struct Inner {
    /// Where the response arrives, as HTTP/1.1. A response head that does not arrive is explained by [`Inner::fault`].
    pub sock: Sock,
    ended: Rc<Cell<Option<Ended>>>,
    picked: Rc<Cell<Option<usize>>>,
}

/// How it ended, as far as its target is concerned.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// Why there is no whole response.
    pub fault: Option<Fault>,
    /// The target: an index into the group's.
    pub target: Option<usize>,
}

/// A response that was read whole.
#[derive(Debug, Default)]
pub struct Received {
    /// Its parsed head; what its spans lie in is `section`.
    pub head: ResponseHead,
    /// The octets of the head.
    pub section: Vec<u8>,
    /// When it was here.
    pub answered: Option<Tick>,
    /// The body.
    pub body: Vec<u8>,
}

impl Inner {
    /// Why there is no whole response; `None` while it is on its way, and where there is one.
    pub fn fault(&self) -> Option<Fault> {
        self.ended.get().and_then(|ended| ended.fault)
    }

    /// The target that it was sent to last: an index into the group's.
    pub fn target(&self) -> Option<usize> {
        self.picked.get()
    }

    /// How it ended; `None` while it is on its way.
    pub fn ended(&self) -> Option<Ended> {
        self.ended.get()
    }
}

/// Sends a request on behalf of `x`, whose body must be here whole unless the order has its own.
pub fn send(x: &Exchange<'_>, order: Order) -> Inner {
    sent(x, order, true)
}

/// As [`send`], for requests that have a bound of their own: they take no place among those in flight, so that they cannot be why
/// a client's request is shed.
pub fn send_aside(x: &Exchange<'_>, order: Order) -> Inner {
    sent(x, order, false)
}

fn sent(x: &Exchange<'_>, order: Order, placed: bool) -> Inner {
    let (shard, epoch) = (Rc::clone(x.shard), Rc::clone(x.epoch));
    let (ours, theirs) = pair(Shape::default(), [None, None]);
    let sock = Sock::in_memory(ours, &shard.timers);
    let ended = Rc::new(Cell::new(None));
    let client = Client {
        sock: Sock::in_memory(theirs, &shard.timers),
        peer: x.client.peer,
        port: x.client.port,
        listener: x.client.listener,
        passed: x.client.passed.clone(),
        tls: x.client.tls.clone(),
    };
    let mut scratch = shard.scratch();
    scratch.request.clone_from(&x.scratch.request);
    let head = x.buf.filled().get(..scratch.request.len).unwrap_or_default();
    let body = order.body.as_deref().unwrap_or(x.body_here());
    let mut buf = shard.buffers.none();
    buf.reserve(head.len() + body.len());
    buf.append(head);
    buf.append(body);
    scratch.request.framing = match (body.len() as u64, order.body.is_some()) {
        (0, true) => Framing::None,
        (0, false) if scratch.request.framing == Framing::None => Framing::None,
        (length, _) => Framing::Length(length),
    };
    scratch.request.version = Version::Http11;
    scratch.request.expects_continue = false;
    scratch.request_id.clone_from(&x.scratch.request_id);
    scratch.findings.upstream.clone_from(&x.scratch.findings.upstream);
    scratch.sent = order.sent;
    if !scratch.sent.method.is_empty() {
        scratch.request.method = Method::of(&scratch.sent.method);
    }
    let picked = Rc::new(Cell::new(None));
    scratch.trace = Trace {
        began: Tick::now(),
        rule: x.scratch.trace.rule,
        deadline: x.scratch.trace.deadline,
        inner: true,
        once: !order.repeats,
        avoid: order.avoid,
        picked: Some(Rc::clone(&picked)),
        ..Trace::default()
    };
    let terms = forward::Terms {
        group: order.group,
        response: order.response,
        body: x.listener.body,
        body_limit: None,
    };
    let told = Rc::clone(&ended);
    let pulse = std::sync::Arc::clone(&shard.pulse);
    let task = async move {
        let ended = {
            let Some(listener) = epoch.snapshot.listener(client.listener) else { return };
            let mut inner = Exchange {
                shard: &shard,
                epoch: &epoch,
                listener,
                client: &client,
                buf: &mut buf,
                next: None,
                upgrade: None,
                scratch: &mut scratch,
                keep: true,
            };
            let rule = inner.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
            let place = if placed { shard.place(&epoch.snapshot, rule) } else { None };
            let shed = if placed { place.is_none() } else { shard.buffers.is_short() };
            let fault = if shed {
                Some(Fault::Shed)
            } else {
                unless_left(&client.sock, forward::forward(&mut inner, &terms)).await.err()
            };
            drop(place);
            inner.scratch.trace.fault = fault;
            finish::inner(&inner);
            if fault.is_some() && inner.scratch.trace.status != 0 {
                // What has begun must not look whole.
                client.sock.reset_on_close();
            }
            Ended { fault, target: inner.scratch.trace.target }
        };
        told.set(Some(ended));
        drop(client);
        shard.give_back(scratch);
    };
    spawn(task, move || {
        pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a request of ringgate's own panicked");
    });
    Inner { sock, ended, picked }
}

// Runs it for as long as anybody is left who would read the answer. Nobody sends anything on that connection.
async fn unless_left(
    client: &Sock,
    forwarding: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    let mut forwarding = pin!(forwarding);
    poll_fn(|cx| match forwarding.as_mut().poll(cx) {
        Poll::Pending => client.poll_abandoned(cx).map(|()| Err(Fault::ClientGone)),
        ended => ended,
    })
    .await
}

/// Reads the whole response to a request with this method: at most `limit` octets of body, until `deadline`.
///
/// # Errors
/// Why there is none; [`Fault::BodyTooLarge`] for one that is too large, [`Fault::DeadlineExceeded`].
pub async fn collect(
    shard: &Shard,
    inner: &Inner,
    method: Method,
    limit: u64,
    deadline: Tick,
) -> Result<Received, Fault> {
    let mut received = Received::default();
    collect_into(&mut received, shard, inner, method, limit, deadline).await.map(|()| received)
}

/// As [`collect`]; whatever goes wrong, the head is there that was read before.
///
/// # Errors
/// As [`collect`].
pub async fn collect_into(
    received: &mut Received,
    shard: &Shard,
    inner: &Inner,
    method: Method,
    limit: u64,
    deadline: Tick,
) -> Result<(), Fault> {
    let mut up = shard.buffers.small();
    let len = head(shard, inner, &mut up, deadline).await?;
    received.section.extend_from_slice(up.filled().get(..len).unwrap_or_default());
    received.head.parse(&received.section, method)?;
    received.answered = Some(Tick::now());
    if let Framing::Length(length) = received.head.framing
        && length > limit
    {
        return Err(Fault::BodyTooLarge);
    }
    up.consume(len);
    let how = (limit, Pace::until(deadline), Fault::DeadlineExceeded);
    received.body = gathered(shard, inner, &mut up, received.head.framing, how).await?;
    Ok(())
}

/// Reads the body of a response whose head was read and parsed: at most `limit` octets, which come without a pause of `stall`.
/// `up` holds what has arrived of it.
///
/// # Errors
/// Why there is no whole body; [`Fault::BodyTooLarge`] for one that is too large.
pub async fn body(
    shard: &Shard,
    inner: &Inner,
    up: &mut Buf,
    framing: Framing,
    limit: u64,
    stall: Duration,
) -> Result<Vec<u8>, Fault> {
    let how = (limit, Pace::new(stall, None), Fault::BodyStalled);
    gathered(shard, inner, up, framing, how).await
}

async fn gathered(
    shard: &Shard,
    inner: &Inner,
    up: &mut Buf,
    framing: Framing,
    (limit, pace, late): (u64, Pace, Fault),
) -> Result<Vec<u8>, Fault> {
    let source = Relay {
        shard,
        from: &inner.sock,
        // Nothing is written.
        to: &inner.sock,
        pace,
        client: Side::Read,
        limit: Some(limit),
        writer: Writer::Plain,
        stop_at_end: true,
        began: false.into(),
        stages: None,
        quiet: None,
        barred: Barred::default(),
    };
    let mut body = shard.buffers.none();
    let mut reader = Reader::on(&inner.sock, framing);
    let gathered = gather(&source, up, &mut reader, &mut body).await;
    gathered.map_err(|gap| match gap {
        Gap::NoMemory => Fault::Shed,
        Gap::Broken(_) if reader.total > limit => Fault::BodyTooLarge,
        Gap::Broken(Broken::SourceStalled) => late,
        Gap::Broken(broken) => inner.fault().unwrap_or(broken.of_response()),
    })?;
    Ok(body.filled().to_vec())
}

/// Reads the response and keeps nothing of it: at most `limit` octets, until `deadline`. Nobody is told of what is left.
///
/// # Errors
/// Why there is no whole one; [`Fault::DeadlineExceeded`].
pub async fn discard(
    shard: &Shard,
    inner: &Inner,
    limit: u64,
    deadline: Tick,
) -> Result<(), Fault> {
    let mut buf = shard.buffers.small();
    let mut read = 0;
    inner.sock.arm(Side::Read, deadline);
    while read < limit {
        match inner.sock.read(buf.spare()).await {
            Ok(0) => return inner.fault().map_or(Ok(()), Err),
            Ok(n) => read += n as u64,
            Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                return Err(Fault::DeadlineExceeded);
            }
            Err(_) => return Err(inner.fault().unwrap_or(Fault::TargetClosed)),
        }
        if Tick::now() >= deadline {
            return Err(Fault::DeadlineExceeded);
        }
        // A target that never ends must not keep the worker.
        to_the_end_of_the_queue().await;
    }
    Ok(())
}

// Reads until there is a final response head; how long it is.
async fn head(shard: &Shard, inner: &Inner, up: &mut Buf, deadline: Tick) -> Result<usize, Fault> {
    let mut limits = shard.epoch().snapshot.response_limits();
    // What was let through is written anew, and may have become longer by what is added.
    limits.size = limits.size.saturating_mul(2);
    loop {
        let mut scan = Scan::default();
        let len = loop {
            let found = scan.find_end(up.filled(), &limits);
            if let Some(len) = found.map_err(|_| Fault::ResponseTooLarge)? {
                break len;
            }
            if up.spare().is_empty() && !up.grow(limits.size) {
                return Err(Fault::ResponseTooLarge);
            }
            inner.sock.arm(Side::Read, deadline);
            let room = up.spare();
            match inner.sock.read(room).await {
                Ok(n @ 1..) => up.fill(n),
                Err(e) if e.kind() == std::io::ErrorKind::TimedOut => {
                    return Err(Fault::DeadlineExceeded);
                }
                _ => return Err(inner.fault().unwrap_or(Fault::TargetClosed)),
            }
        };
        // HTTP/1.1 1xx: the final one follows.
        if up.filled().get(9) != Some(&b'1') {
            return Ok(len);
        }
        up.consume(len);
    }
}
