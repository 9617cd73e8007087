//! One client connection that speaks HTTP/1: heads in, exchanges, heads out, in order.
//!
//! While it waits for a request it holds no buffer. Pipelined requests are served one after the other, up to a number of them in
//! a row. What cannot be parsed is answered once, and ends it. Reading a head is `head`, answering a bad one `refuse`.

use crate::base::Tick;
use crate::config::Protocol;
use crate::http::desync::Closes;
use crate::net::{Buf, Side};
use crate::proxy::exchange::exchange;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::{Client, Exchange};
use crate::serve::accept::{Counted, Open};
use crate::serve::h2;
use crate::serve::head::{self, Ended};
use crate::serve::proxied;
use crate::serve::refuse::{linger, refuse};
use crate::serve::secure::{self, Spoken};
use crate::shard::{Epoch, Scratch, Shard, Trace};
use crate::snapshot::Listener;
use crate::snapshot::secure::is_outdated;
use std::rc::Rc;
use std::time::Duration;

// Requests in a row after which other connections get their turn.
const TURN: u64 = 64;
const TURN_WAIT: Duration = Duration::from_secs(30);

/// Serves a client until one side has had enough. `accepted` is the configuration that it was accepted under.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice, in every connection"
)]
pub fn serve(
    mut client: Client,
    open: Open,
    accepted: Rc<Epoch>,
) -> impl Future<Output = ()> + 'static {
    async move {
        let shard = &open.shard;
        let Some(listener) = accepted.snapshot.listener(client.listener) else {
            return;
        };
        let _counted = Counted::new(listener, shard.worker);
        let mut rest = Rest::new(Rc::clone(&accepted));
        if listener.proxy_protocol.is_some() {
            // Rare: kept out of the future of every other connection.
            match Box::pin(proxied::read(shard, &accepted, listener, &mut client)).await {
                Ok(buf) => rest.buf = buf,
                Err(()) => return,
            }
        }
        if listener.protocol == Protocol::Https {
            let first = rest.buf.take();
            let shaken = secure::shake_hands(shard, &accepted, listener, &mut client, first);
            match Box::pin(shaken).await {
                Ok(Spoken::Http1) => {}
                Ok(Spoken::Http2) => {
                    return Box::pin(h2::serve(shard, accepted, client, None)).await;
                }
                Err(()) => return,
            }
        } else if listener.http2 && client.sock.stream().is_none() {
            // Whether it begins as HTTP/2 does is seen with its first octets.
            let first = first_octets(shard, &client, rest.buf.take(), listener.header);
            let Some(first) = Box::pin(first).await else {
                return;
            };
            if first.filled().starts_with(h2::PREFACE) {
                return Box::pin(h2::serve(shard, accepted, client, Some(first))).await;
            }
            rest.buf = Some(first);
        }
        drop(accepted);
        while step(shard, &client, &mut rest).await {
            rest.served += 1;
            // No idle connection keeps an old configuration alive.
            rest.accepted = None;
        }
        if let Some(tunnel) = rest.tunnel.take() {
            rest.accepted = None;
            Box::pin(tunnel.run(shard, &client.sock)).await;
        }
    }
}

// Waits for the first octets of a connection, for as many as tell whether they are HTTP/2's preface.
async fn first_octets(
    shard: &Rc<Shard>,
    client: &Client,
    read: Option<Buf>,
    patience: Duration,
) -> Option<Buf> {
    client.sock.arm(Side::Read, Tick::now().after(patience));
    let mut buf = match read {
        Some(buf) => buf,
        None => {
            client.sock.readable().await.ok()?;
            shard.buffers.small()
        }
    };
    loop {
        let have = buf.filled();
        let undecided = have.len() < h2::PREFACE.len() && h2::PREFACE.starts_with(have);
        if !undecided {
            return Some(buf);
        }
        match client.sock.read(buf.spare()).await {
            Ok(n) if n > 0 => buf.fill(n),
            // What has come is no request, which the reader of heads says.
            _ if buf.is_empty() => return None,
            _ => return Some(buf),
        }
    }
}

// What a connection remembers between requests.
struct Rest {
    // The beginning of the next request, where it came with the last one.
    buf: Option<Buf>,
    // Requests served.
    served: u64,
    // Of these, the last ones for which the client did not have to be waited for.
    in_a_row: u64,
    // When the last one ended, or the connection began.
    since: Tick,
    // Until the first request: a connection that waited in the queue of a listener that has been removed is still owed
    // an answer.
    accepted: Option<Rc<Epoch>>,
    // What the last request has become, if it switched protocols.
    tunnel: Option<Box<Tunnel>>,
}

impl Rest {
    fn new(accepted: Rc<Epoch>) -> Rest {
        let accepted = Some(accepted);
        Rest { buf: None, served: 0, in_a_row: 0, since: Tick::now(), accepted, tunnel: None }
    }

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
    // A removed target has cut the last one, not this one.
    client.sock.slot().renew();
    // Some clients send an empty line behind a body (RFC 9112 section 2.2): that begins no request.
    let behind = rest.buf.as_mut();
    let empty_lines = behind.map_or(0, |buf| head::pass_over_empty_lines(buf, 0));
    let buf = match rest.buf.take().filter(|buf| !buf.is_empty()) {
        Some(buf) => {
            rest.in_a_row += u64::from(rest.served > 0);
            if rest.in_a_row.is_multiple_of(TURN) {
                // The others' turn.
                if client.sock.give_way(TURN_WAIT).await.is_err() {
                    return false;
                }
            }
            buf
        }
        None => {
            rest.in_a_row = 0;
            match idle(shard, client, rest).await {
                Some(buf) => buf,
                None => return false,
            }
        }
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
    let head = head::read(shard, epoch, listener, client, buf, empty_lines, &mut scratch).await;
    client.sock.arm(Side::Read, Tick::NEVER);
    let stays = match head {
        Ok(mut buf) => {
            let limits = &epoch.snapshot.limits;
            let outdated = |facts| is_outdated(listener, facts);
            let last = last
                || client.tls.as_deref().is_some_and(outdated)
                || scratch.request.closes == Closes::Both
                || rest.in_a_row >= limits.pipeline
                || limits.requests.is_some_and(|limit| rest.served + 1 >= limit);
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
    // A request that has arrived is served, also while draining: nothing has told its client that it would not be.
    if shard.is_draining() && served > 0 && !client.sock.has_news() {
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
    let mut x = Exchange {
        shard,
        epoch,
        listener,
        client,
        buf: &mut *buf,
        next: None,
        upgrade: None,
        scratch,
        keep,
    };
    rest.since = exchange(&mut x).await;
    let keep = x.keep;
    let next = x.next.take();
    rest.tunnel = x.upgrade.take().and_then(|upgrade| upgrade.into_tunnel());
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
    if rest.tunnel.is_some() {
        return false;
    }
    // What has come since is still in the kernel: looked at once a connection, at its end.
    if answered && (unread || !buf.is_empty() || client.sock.has_news()) {
        linger(&client.sock, buf).await;
    }
    buf.consume(buf.len());
    false
}
