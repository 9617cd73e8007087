//! A request that is sent to a second target when the first takes long: the first good answer goes to the client.
//!
//! Both go as requests of ringgate's own (`inner`), so that either can be broken off without a trace. Only what may be repeated
//! comes here, and the second one is paid for by the budget for second attempts. Called by `forward`.

use crate::base::Tick;
use crate::http::grpc::Call;
use crate::http::{Fault, Method};
use crate::net::Buf;
use crate::net::Side;
use crate::protect::Retry;
use crate::proxy::forward::{Failure, Terms, patience, until};
use crate::proxy::inner::{Inner, Order, send, send_aside};
use crate::proxy::receive::Head;
use crate::proxy::{Exchange, guard, receive, retry, upgrade};
use crate::shard::Sent;
use crate::shard::epoch::GroupCore;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Whether a second target may be asked, too: only for what changes nothing (RFC 9110 section 9.2.1), since the one that loses may
/// still be at it when the client goes on.
pub fn fits(x: &Exchange<'_>, group: &GroupCore) -> bool {
    let plain = !x.scratch.trace.inner && x.scratch.trace.call == Call::No;
    let safe = matches!(x.scratch.request.method, Method::Get | Method::Head | Method::Options);
    plain && safe && group.targets.len() > 1 && x.body_is_here() && !upgrade::is_offered(x)
}

/// As [`crate::proxy::forward::forward`], with another target that is asked `after` the first.
///
/// # Errors
/// As that.
pub async fn forward(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    terms: &Terms,
    retry: &Retry,
    after: Duration,
) -> Result<(), Fault> {
    let client = &x.client.sock;
    // What waits for either waits on a connection of its own: it ends with the client's all the same (hazard H2-05).
    let ended = client.unless_cut(both(x, group, terms, retry, after)).await;
    let ended = ended.unwrap_or(Err(Fault::ClientGone));
    // What was said to the one that was refused is not heard by its client.
    ended.inspect_err(|fault| guard::say_when(x, group, *fault))
}

async fn both(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    terms: &Terms,
    retry: &Retry,
    after: Duration,
) -> Result<(), Fault> {
    let deadline = until(x, Tick::now().after(patience(x, group, terms)));
    // What fails before the second is asked is tried again as any other. Its client has a place for it among those in flight.
    let first = send_aside(x, Order { repeats: true, ..order(x, terms) });
    first.sock.arm(Side::Read, deadline);
    x.scratch.trace.counted = true;
    x.scratch.trace.sent = Some(Tick::now());
    x.scratch.trace.target = first.target();
    let (answers, mut second) = (wait(x, &first, after).await?, None);
    if !answers && retry::pay(x, group, retry) {
        x.scratch.trace.retries += 1;
        let other = send(x, Order { avoid: first.target(), ..order(x, terms) });
        other.sock.arm(Side::Read, deadline);
        second = Some(other);
    }
    let Some(second) = second else { return take(x, &first, terms).await };
    let first_is_ahead = race(&first, &second).await;
    let (ahead, behind) = if first_is_ahead { (first, second) } else { (second, first) };
    let mut up = x.shard.buffers.none();
    let head = head_of(x, &ahead, &mut up).await;
    // A bad answer is not taken while another may come.
    let good = head.is_ok() && !retry.takes(x.scratch.response.status);
    match (good, head) {
        (true, Ok(head)) => {
            drop(behind);
            deliver(x, &ahead, up, head, terms).await
        }
        _ => {
            drop(ahead);
            take(x, &behind, terms).await
        }
    }
}

fn order(x: &Exchange<'_>, terms: &Terms) -> Order {
    Order {
        group: terms.group,
        sent: Sent::clone(&x.scratch.sent),
        body: None,
        response: terms.response,
        avoid: None,
        repeats: false,
    }
}

async fn take(x: &mut Exchange<'_>, inner: &Inner, terms: &Terms) -> Result<(), Fault> {
    let mut up = x.shard.buffers.none();
    let head = head_of(x, inner, &mut up).await?;
    deliver(x, inner, up, head, terms).await
}

async fn head_of(x: &mut Exchange<'_>, inner: &Inner, up: &mut Buf) -> Result<Head, Fault> {
    x.scratch.trace.target = inner.target();
    // It has been judged once: no further attempt comes of its status here.
    let left = std::mem::take(&mut x.scratch.trace.repeats);
    let head = receive::head(x, &inner.sock, up).await;
    x.scratch.trace.repeats = left;
    x.scratch.trace.target = inner.target();
    head.map_err(|failure| match (inner.fault(), failure) {
        (Some(fault), _) => fault,
        (None, failure) => Failure::fault(failure).unwrap_or(Fault::Internal),
    })
}

async fn deliver(
    x: &mut Exchange<'_>,
    inner: &Inner,
    mut up: Buf,
    head: Head,
    terms: &Terms,
) -> Result<(), Fault> {
    let delivered = receive::deliver(x, &inner.sock, &mut up, head, terms.body).await;
    delivered.map(|_| ()).map_err(|fault| match fault {
        // What broke off the inner one is what there is to be told.
        Fault::TruncatedBody => inner.fault().unwrap_or(fault),
        fault => fault,
    })
}

// Whether it answers, or fails, within this time.
async fn wait(x: &Exchange<'_>, inner: &Inner, after: Duration) -> Result<bool, Fault> {
    let mut answer = pin!(inner.sock.readable());
    let mut pause = pin!(retry::pause(x, after));
    let waited = poll_fn(|cx| {
        if answer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(true));
        }
        pause.as_mut().poll(cx).map(|waited| waited.map(|()| false))
    })
    .await;
    // A pause that was cut short has left its end as the deadline of the client's reads.
    x.client.sock.arm(Side::Read, Tick::NEVER);
    waited
}

// Whether the first one answers, or fails, before the second.
async fn race(first: &Inner, second: &Inner) -> bool {
    let (mut one, mut other) = (pin!(first.sock.readable()), pin!(second.sock.readable()));
    poll_fn(|cx| {
        if one.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        other.as_mut().poll(cx).map(|_| false)
    })
    .await
}
