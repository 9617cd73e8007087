//! Fetches what is stored and stale, in a way that what comes of it can still be chosen: the stored response where the target
//! confirms it or fails, the target's elsewhere.
//!
//! The request goes as one of ringgate's own (`inner`), with the conditions of the stored response in the place of the client's;
//! those are judged here, on what is given in the end. Behind the back of a client that was given a stale response the same is
//! done by a task of its own.

use super::{Asked, Given, fill, is_of_target, landed, serve};
use crate::base::Tick;
use crate::cache::age::is_failure;
use crate::cache::{Ask, Meta, Seen, Times, Why, stale_if_error, storable, update};
use crate::http::{Fault, Fields, Framing, Method, ResponseHead};
use crate::net::runtime::spawn;
use crate::net::{Buf, Side};
use crate::proxy::forward::Failure;
use crate::proxy::inner::{self, Inner, Order, Received};
use crate::proxy::receive::Head;
use crate::proxy::{Exchange, change, dress, receive, steer};
use crate::shard::{Epoch, Shard};
use crate::store::{Claim, Entry, Errand, Landing, Put, Stamp};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

// How long a target that has failed is not asked again for what may be given stale.
const FAILING_FOR: Duration = Duration::from_secs(2);
// How long a response may take that nobody waits for.
const LONGEST_REFRESH: Duration = Duration::from_secs(60);
// What the client has asked of its own copy, and of a part: nothing for who fetches the whole.
const HELD: [&[u8]; 4] = [b"if-none-match", b"if-modified-since", b"if-range", b"range"];

/// Fetches, and answers with what comes of it.
///
/// # Errors
/// Why there is no response to be given.
pub(super) async fn fetch(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    mut errand: Box<Errand>,
    mut old: Option<Arc<Entry>>,
) -> Result<(), Fault> {
    if asked.rule.traffic.request.is_some() || asked.rule.traffic.reads_response {
        change::request(x, asked.rule).await?;
    }
    loop {
        let inner = begin(x, asked, old.as_deref())?;
        let mut up = x.shard.buffers.none();
        let head = head_of(x, &inner, &mut up).await;
        let status = x.scratch.response.status;
        let now = Tick::now();
        let saves = |entry: &Entry| stale_if_error(&entry.meta(), asked.ask, now);
        match (&old, head) {
            (Some(entry), Err(fault)) if is_of_target(fault) && saves(entry) => {
                return save(x, asked, errand, entry, None).await;
            }
            (Some(entry), Ok(_)) if is_failure(status) && saves(entry) => {
                drop(inner);
                return save(x, asked, errand, entry, Some(status)).await;
            }
            (_, Err(fault)) => {
                if let Some(claim) = errand.claim.take() {
                    let failed = is_of_target(fault);
                    claim.land(if failed { Landing::Failed } else { Landing::Abandoned });
                }
                return Err(fault);
            }
            (Some(entry), Ok(_)) if status == 304 => {
                let Some(renewed) = renew(x, asked, &errand, entry, &up) else {
                    // It speaks of another response: only a whole one will do.
                    old = None;
                    continue;
                };
                errand.status.answered = Some(304);
                if let Some(claim) = errand.claim.take() {
                    claim.land(landed(renewed.1, &renewed.0));
                }
                errand.status.stored = renewed.1 == Landing::Stored;
                errand.status.ttl = Some(renewed.0.stored.ttl(now));
                return serve::give(x, asked, &renewed.0, Given::Confirmed, errand.status).await;
            }
            (_, Ok(head)) => return take(x, asked, errand, (&inner, up, head)).await,
        }
    }
}

/// Fetches what was given stale, while nobody waits for it.
///
/// # Errors
/// Those of changing the request as the rule says.
pub(super) async fn refresh(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    old: Arc<Entry>,
    claim: Claim,
) -> Result<(), Fault> {
    if asked.rule.traffic.request.is_some() || asked.rule.traffic.reads_response {
        change::request(x, asked.rule).await?;
    }
    let stamp = claim.stamp();
    let seen = fill::seen(x);
    let begun = begin(x, asked, Some(&old));
    // It is not what the client is answered with.
    x.scratch.trace.group = None;
    let Ok(inner) = begun else { return Ok(()) };
    // What was set for that request is not for the client's.
    x.scratch.sent.clear();
    let task = Refresh {
        epoch: Rc::clone(x.epoch),
        listener: x.listener.id,
        rule: x.scratch.trace.rule,
        settings: asked.caching.settings.clone(),
        ask: Ask { head: false, conditional: false, range: false, ..*asked.ask },
        request: serve::Kept::of(x),
        seen,
        began: Tick::now(),
        old,
        stamp,
    };
    let (shard, meters) = (Rc::clone(x.shard), Arc::clone(&asked.caching.meters));
    let pulse = Arc::clone(&shard.pulse);
    let work = async move {
        let until = task.began.after(LONGEST_REFRESH);
        let limit = task.settings.max_object;
        let received = inner::collect(&shard, &inner, Method::Get, limit, until).await;
        let (entry, landing) = task.take_up(&shard, received);
        if landing == Landing::Stored
            && let Some(cell) = meters.cell(shard.worker)
        {
            cell.stores.add(1);
        }
        claim.land(entry.map_or(landing, |entry| landed(landing, &entry)));
    };
    spawn(work, move || {
        pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("the renewal of a stored response panicked");
    });
    Ok(())
}

// Sends the request with the conditions of `old` in the place of the client's.
fn begin(x: &mut Exchange<'_>, asked: Asked<'_>, old: Option<&Entry>) -> Result<Inner, Fault> {
    let group = steer::group(x, asked.way).ok_or(Fault::NoTarget)?;
    x.scratch.trace.group = Some(group);
    let mut sent = x.scratch.sent.clone();
    sent.any = true;
    sent.held.extend(HELD.map(Box::from));
    if let Some(entry) = old {
        entry.stored.preconditions(&mut sent.fields);
    }
    if asked.ask.head {
        sent.method = b"GET".to_vec();
    }
    if let Some(total) = asked.rule.total {
        let until = x.scratch.trace.began.after(total);
        let deadline = x.scratch.trace.deadline.map_or(until, |known| known.min(until));
        x.scratch.trace.deadline = Some(deadline);
    }
    let response = asked.rule.response;
    Ok(inner::send(x, Order { group, sent, body: None, response, avoid: None, repeats: true }))
}

async fn head_of(x: &mut Exchange<'_>, inner: &Inner, up: &mut Buf) -> Result<Head, Fault> {
    // Whoever it was sent to has its deadlines, and its end is the end of this.
    inner.sock.arm(Side::Read, Tick::NEVER);
    x.scratch.trace.sent = Some(Tick::now());
    let head = receive::head(x, &inner.sock, up).await;
    x.scratch.trace.counted = true;
    x.scratch.trace.target = inner.target();
    head.map_err(|failure| match (inner.fault(), failure) {
        (Some(fault), _) => fault,
        (None, failure) => Failure::fault(failure).unwrap_or(Fault::Internal),
    })
}

// Gives what is stored, since the target has failed.
async fn save(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    mut errand: Box<Errand>,
    entry: &Entry,
    answered: Option<u16>,
) -> Result<(), Fault> {
    let now = Tick::now();
    entry.note_failure(now.after(FAILING_FOR));
    if let Some(claim) = errand.claim.take() {
        claim.land(Landing::Failed);
    }
    // It was sent on (RFC 9211 section 2.1): no hit.
    let mut status = errand.status;
    status.answered = answered;
    status.ttl = Some(entry.meta().ttl(now));
    status.detail = Some("stale-if-error");
    serve::give(x, asked, entry, Given::Saved, status).await
}

// What the stored response is after a 304 that speaks of it, and whether it is stored still.
fn renew(
    x: &Exchange<'_>,
    asked: Asked<'_>,
    errand: &Errand,
    old: &Arc<Entry>,
    up: &Buf,
) -> Option<(Arc<Entry>, Landing)> {
    let response = &x.scratch.response;
    let section = up.filled().get(..response.len).unwrap_or_default();
    let times = times(x.shard, errand.asked);
    let settings = &asked.caching.settings;
    let seen = fill::seen(x);
    let how = (settings, asked.ask, &seen, x.view().fields);
    renewed(x.shard, how, (old, errand.stamp), (response, section), times)
}

fn renewed(
    shard: &Shard,
    (settings, ask, seen, request): (&crate::cache::Settings, &Ask, &Seen, Fields<'_>),
    (old, stamp): (&Arc<Entry>, Stamp),
    (response, section): (&ResponseHead, &[u8]),
    times: Times,
) -> Option<(Arc<Entry>, Landing)> {
    let fresh = response.view(section);
    if !update::fits(&old.stored, fresh) {
        return None;
    }
    let named = |name: &[u8]| {
        response.nominated.iter().any(|one| one.of(section).eq_ignore_ascii_case(name))
    };
    let stored = (&old.stored, &*old.lines);
    let update::Renewed { lines, meta } = update::renew(settings, ask, stored, fresh, named, times);
    let meta = meta.and_then(|meta| seen.judge(meta));
    // That a client wants nothing of its exchange to be stored, or says who it is, says nothing of what is.
    let (keeps, forbids) = (meta.is_ok(), meta.as_ref().is_err_and(|why| !why.is_of_request()));
    // It may depend on more by now than it was known to.
    let variant = meta.as_ref().map_or_else(|_| old.variant.clone(), |m| m.vary.key(request));
    let meta = meta.unwrap_or_else(|_| Meta::clone(&old.stored));
    let entry = Arc::new(Entry::new(
        old.key.clone(),
        variant,
        Arc::clone(&old.rule),
        meta,
        lines,
        settings.tags.as_deref(),
        Arc::clone(&old.body),
    ));
    if !keeps {
        // It answers this request, and no other.
        if forbids {
            shard.store.forget(old);
        }
        return Some((entry, Landing::Uncacheable));
    }
    let renewed = shard.store.renew(old, &entry, stamp);
    Some((entry, if renewed { Landing::Stored } else { Landing::Abandoned }))
}

fn times(shard: &Shard, asked: Tick) -> Times {
    Times { asked, received: Tick::now(), unix: shard.unix() }
}

// A whole response: it goes to the client, and into the store where it may.
async fn take(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    errand: Box<Errand>,
    (inner, mut up, head): (&Inner, Buf, Head),
) -> Result<(), Fault> {
    let stall = asked.rule.body.unwrap_or(x.listener.body);
    let remade = dress::remakes(x.listener, asked.rule, x.scratch.response.status);
    let fits = matches!(x.scratch.response.framing, Framing::Length(1..)) && !remade;
    let mut errand = errand;
    if fits && (asked.ask.conditional || asked.ask.range) {
        let len = x.scratch.response.len;
        let section = up.filled().get(..len).unwrap_or_default();
        let (judged, meta) = fill::judge(x, asked.caching, errand, section);
        errand = judged;
        if let Some(meta) = meta {
            let mut status = errand.status;
            status.answered = Some(x.scratch.response.status);
            let filling = fill::begin(x, asked.caching, &asked.rule.name, *errand, meta, section);
            let filling = filling.ok_or(Fault::Internal)?;
            up.consume(len);
            let framing = x.scratch.response.framing;
            let limit = asked.caching.settings.max_object;
            let body = inner::body(x.shard, inner, &mut up, framing, limit, stall).await?;
            let (entry, landing) = filling.whole(body).ok_or(Fault::Internal)?;
            status.stored = landing == Landing::Stored;
            return serve::give(x, asked, &entry, Given::Fetched, status).await;
        }
    }
    x.scratch.errand = Some(errand);
    let delivered = receive::deliver(x, &inner.sock, &mut up, head, stall).await;
    let ended = delivered.map(|_| ()).map_err(|fault| match fault {
        // What broke off the inner one is what there is to be told.
        Fault::TruncatedBody => inner.fault().unwrap_or(fault),
        fault => fault,
    });
    super::after(x, ended);
    ended
}

// What a renewal needs that nobody waits for.
struct Refresh {
    epoch: Rc<Epoch>,
    listener: u32,
    rule: Option<usize>,
    settings: crate::cache::Settings,
    ask: Ask,
    request: serve::Kept,
    seen: Seen,
    began: Tick,
    old: Arc<Entry>,
    stamp: Stamp,
}

impl Refresh {
    fn is_remade(&self, status: u16) -> bool {
        let snapshot = &self.epoch.snapshot;
        let listener = snapshot.listener(self.listener);
        let rule = self.rule.and_then(|at| snapshot.rules.get(at));
        let (Some(listener), Some(rule)) = (listener, rule) else { return true };
        dress::remakes(listener, rule, status)
    }

    // What is stored then, and how that ended.
    fn take_up(
        &self,
        shard: &Shard,
        received: Result<Received, Fault>,
    ) -> (Option<Arc<Entry>>, Landing) {
        let now = Tick::now();
        let received = match received {
            Ok(received) if !is_failure(received.head.status) => received,
            Err(Fault::BodyTooLarge) => return (None, Landing::Uncacheable),
            _ => {
                self.old.note_failure(now.after(FAILING_FOR));
                return (None, Landing::Failed);
            }
        };
        let Received { head, section, body, .. } = received;
        let times = times(shard, self.began);
        if head.status == 304 {
            let parts = (&head, section.as_slice());
            let how = (&self.settings, &self.ask, &self.seen, self.request.view());
            let renewed = renewed(shard, how, (&self.old, self.stamp), parts, times);
            if let Some((entry, landing)) = renewed {
                return (Some(entry), landing);
            }
            // It speaks of another response: the next request fetches that.
            shard.store.forget(&self.old);
            return (None, Landing::Abandoned);
        }
        if self.is_remade(head.status) {
            // That is done for who asks for it.
            if fill::supersedes(head.status) {
                shard.store.forget(&self.old);
            }
            return (None, Landing::Abandoned);
        }
        let fields = head.view(&section);
        let meta = storable(&self.settings, &self.ask, head.status, fields, times);
        let meta = meta.and_then(|meta| self.seen.judge(meta));
        let framed = head.framing != Framing::Close;
        let meta = match meta.and_then(|meta| framed.then_some(meta).ok_or(Why::Unframed)) {
            Ok(meta) => meta,
            Err(why) => {
                if !why.is_of_request() && fill::supersedes(head.status) {
                    shard.store.forget(&self.old);
                }
                return (None, Landing::Uncacheable);
            }
        };
        let named = |name: &[u8]| {
            head.nominated.iter().any(|one| one.of(&section).eq_ignore_ascii_case(name))
        };
        let mut kept = Vec::with_capacity(section.len());
        crate::cache::lines::kept(fields, named, &mut kept);
        let entry = Arc::new(Entry::new(
            self.old.key.clone(),
            meta.vary.key(self.request.view()),
            Arc::clone(&self.old.rule),
            meta,
            kept,
            self.settings.tags.as_deref(),
            Arc::new(body.into_boxed_slice()),
        ));
        let landing = match shard.store.put(&entry, self.stamp) {
            Put::Stored => Landing::Stored,
            Put::NoRoom => {
                shard.store.forget(&self.old);
                Landing::Uncacheable
            }
            Put::Outdated => Landing::Abandoned,
        };
        (Some(entry), landing)
    }
}
