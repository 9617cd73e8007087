//! Puts a response into the store while it passes.
//!
//! It is stored only when its framing says that all of it was there, and not after its length became more than may be stored
//! (hazard CACHE-07). A body that ends with its connection is never known to be whole. Called by `shape` for every response to a
//! rule that stores.

use super::{changed, landed};
use crate::cache::{Ask, Key, Meta, Meters, Seen, Times, Why, lines, storable};
use crate::http::{Framing, write};
use crate::proxy::Exchange;
use crate::snapshot::traffic::Caching;
use crate::store::{Claim, Entry, Errand, Landing, Put, Room, Stamp, Store};
use std::sync::Arc;

/// A response that is being stored as it passes. Dropped before its end it is forgotten (hazard CACHE-07).
#[derive(Debug)]
pub struct Filling {
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    store: Arc<Store>,
    claim: Option<Claim>,
    old: Option<Arc<Entry>>,
    stamp: Stamp,
    key: Key,
    variant: Box<[u8]>,
    rule: Arc<str>,
    meta: Meta,
    section: Vec<u8>,
    hidden: Option<String>,
    body: Vec<u8>,
    // Where it is announced.
    length: Option<u64>,
    most: u64,
    room: Room,
    meters: Arc<Meters>,
    worker: usize,
}

// Bodies that are announced are given their room at once, up to this; it is not to be had for an announcement alone.
const AT_ONCE: u64 = 1 << 20;

impl Filling {
    /// Keeps octets of the body.
    pub fn data(&mut self, octets: &[u8]) {
        let Some(open) = &mut self.open else { return };
        let length = (open.body.len() + octets.len()) as u64;
        if length > open.most || !open.room.grow(length) {
            self.give_up();
            return;
        }
        open.body.extend_from_slice(octets);
    }

    /// The body is whole: the response may be given to others.
    pub fn end(&mut self) {
        self.store();
    }

    /// All of the body is this, which is here already: no room is asked for it. What is given to this request, stored or not.
    pub(super) fn whole(mut self, body: Vec<u8>) -> Option<(Arc<Entry>, Landing)> {
        self.open.as_mut()?.body = body;
        self.store()
    }

    fn store(&mut self) -> Option<(Arc<Entry>, Landing)> {
        let mut open = self.open.take()?;
        let length = open.body.len() as u64;
        if open.length.is_some_and(|announced| announced != length) {
            return None;
        }
        let body = Arc::new(open.body.into_boxed_slice());
        let hidden = open.hidden.as_deref();
        let entry =
            Entry::new(open.key, open.variant, open.rule, open.meta, open.section, hidden, body);
        let entry = Arc::new(entry);
        let landing = match open.store.put(&entry, open.stamp) {
            Put::Stored => {
                if let Some(cell) = open.meters.cell(open.worker) {
                    cell.stores.add(1);
                }
                Landing::Stored
            }
            Put::NoRoom => {
                supersede(&open.store, open.old);
                Landing::Uncacheable
            }
            Put::Outdated => Landing::Abandoned,
        };
        if let Some(claim) = open.claim.take() {
            claim.land(landed(landing, &entry));
        }
        Some((entry, landing))
    }

    fn give_up(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        supersede(&open.store, open.old.take());
        if let Some(claim) = open.claim.take() {
            claim.land(Landing::Uncacheable);
        }
    }
}

// What a response was to take the place of is outdated all the same.
fn supersede(store: &Store, old: Option<Arc<Entry>>) {
    if let Some(old) = old {
        store.forget(&old);
    }
}

/// Whether a whole response of this status says what there is now, in the place of what is stored.
pub(super) fn supersedes(status: u16) -> bool {
    matches!(status, 200..400 | 404 | 410) && !matches!(status, 206 | 304)
}

/// Begins to store the parsed response, whose head is `head`, where it may be.
pub fn fill(x: &mut Exchange<'_>, head: &[u8]) -> Option<Filling> {
    let errand = x.scratch.errand.take()?;
    let epoch = x.epoch;
    let rule = x.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at))?;
    let caching = rule.traffic.cache.as_deref()?;
    if errand.ask.is_some_and(|ask| ask.head) {
        changed::compare(x, &errand.key, head);
    }
    let (errand, meta) = judge(x, caching, errand, head);
    let mut status = errand.status;
    status.stored = meta.is_some();
    status.answered = x.scratch.trace.target_status;
    let filling = meta.and_then(|meta| begin(x, caching, &rule.name, *errand, meta, head));
    if caching.settings.status {
        status.write(&mut x.scratch.added);
    }
    hide_tags(x, caching, head);
    filling
}

/// What is kept of a response that may be stored. Where it may not, whoever waits is told at once.
pub(super) fn judge(
    x: &Exchange<'_>,
    caching: &Caching,
    mut errand: Box<Errand>,
    head: &[u8],
) -> (Box<Errand>, Option<Meta>) {
    let Some(ask) = &errand.ask else { return (errand, None) };
    match judged(x, caching, &errand, ask, head) {
        Ok(meta) => {
            errand.status.ttl = Some(meta.ttl(meta.received));
            (errand, Some(meta))
        }
        Err(why) => {
            let status = x.scratch.trace.target_status;
            if let Some(old) = errand.old.take()
                && !why.is_of_request()
                && status.is_some_and(supersedes)
            {
                x.shard.store.forget(&old);
            }
            errand.status.detail = Some(why.detail());
            errand.ask = None;
            if let Some(claim) = errand.claim.take() {
                claim.land(Landing::Uncacheable);
            }
            (errand, None)
        }
    }
}

fn judged(
    x: &Exchange<'_>,
    caching: &Caching,
    errand: &Errand,
    ask: &Ask,
    head: &[u8],
) -> Result<Meta, Why> {
    let response = &x.scratch.response;
    let received = x.scratch.trace.answered.unwrap_or(errand.asked);
    let times = Times { asked: errand.asked, received, unix: x.shard.unix() };
    let fields = response.view(head);
    let meta = storable(&caching.settings, ask, response.status, fields, times)?;
    let meta = if meta.vary.is_empty() { meta } else { seen(x).judge(meta)? };
    // An error that is given as something else would be kept as something else (hazard CACHE-05).
    if x.scratch.trace.target_status != Some(response.status) {
        return Err(Why::Replaced);
    }
    match response.framing {
        Framing::Length(length) if length > caching.settings.max_object => Err(Why::TooLarge),
        Framing::Close => Err(Why::Unframed),
        _ => Ok(meta),
    }
}

/// What the target sees of the request.
pub(super) fn seen(x: &Exchange<'_>) -> Seen {
    let (snapshot, scratch) = (&x.epoch.snapshot, &*x.scratch);
    let mut seen = Seen::new(scratch.sent.holds(b"accept-encoding"));
    // A rule's field counts also where it has come out empty for this request.
    let rule = scratch.trace.rule.and_then(|at| snapshot.rules.get(at));
    let changes = rule.and_then(|rule| rule.traffic.request.as_deref());
    let given = changes.into_iter().flat_map(|changes| changes.headers.given());
    given.for_each(|name| seen.other(name.as_bytes()));
    snapshot.owned.iter().for_each(|name| seen.other(name.as_bytes()));
    seen.lines(&scratch.findings.upstream);
    seen.lines(&scratch.sent.fields);
    // What a client has called a matter of its connection does not go on.
    let buf = x.buf.filled();
    scratch.request.nominated.iter().for_each(|name| seen.other(name.of(buf)));
    seen
}

/// The response with this head as it is kept, without its body yet.
pub(super) fn begin(
    x: &Exchange<'_>,
    caching: &Caching,
    rule: &Arc<str>,
    errand: Errand,
    meta: Meta,
    head: &[u8],
) -> Option<Filling> {
    let response = &x.scratch.response;
    let named =
        |name: &[u8]| response.nominated.iter().any(|one| one.of(head).eq_ignore_ascii_case(name));
    let mut section = Vec::with_capacity(head.len() + 64);
    lines::kept(response.view(head), named, &mut section);
    // What another body has brought along.
    section.extend_from_slice(&x.scratch.added);
    if !response.has_date {
        x.shard.with_date(|date| write::field(&mut section, b"date", date));
    }
    let length = match response.framing {
        Framing::Length(length) => Some(length),
        Framing::None => Some(0),
        Framing::Chunked | Framing::Close => None,
    };
    let store = Arc::clone(&x.shard.store);
    let mut room = store.room();
    let at_once = length.unwrap_or(0).min(AT_ONCE);
    let open = Open {
        claim: errand.claim,
        old: errand.old,
        stamp: errand.stamp,
        key: errand.key,
        variant: meta.vary.key(x.view().fields),
        rule: Arc::clone(rule),
        meta,
        section,
        hidden: caching.settings.tags.clone(),
        body: match room.grow(at_once) {
            true => Vec::with_capacity(usize::try_from(at_once).unwrap_or(0)),
            false => Vec::new(),
        },
        length,
        most: caching.settings.max_object,
        room,
        meters: Arc::clone(&caching.meters),
        worker: x.shard.worker,
        store,
    };
    let mut filling = Filling { open: Some(Box::new(open)) };
    if response.framing == Framing::None {
        // There is no body that could end.
        filling.end();
        return None;
    }
    Some(filling)
}

// Tags are between the target and its cache.
fn hide_tags(x: &mut Exchange<'_>, caching: &Caching, head: &[u8]) {
    let Some(name) = &caching.settings.tags else { return };
    let name = name.as_bytes();
    x.scratch.response.fields.retain(|field| !field.name.of(head).eq_ignore_ascii_case(name));
}
