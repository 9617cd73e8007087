//! Answers from the store, and what is put into it.
//!
//! What may be stored and given is decided in `cache`, the octets lie in `store`. A request is looked up after its policies have let
//! it pass (hazard CACHE-04): answered (`serve`), sent on with an errand that says what becomes of its response (`fill`), held
//! until another one has fetched the same, or fetched in a way that a failure can be answered with what was stored
//! (`revalidate`). Called by `staged` before a request is sent on and after, and by `shape` for its response.

mod changed;
mod fill;
mod revalidate;
mod serve;

pub use changed::{forget, may_change};
pub use fill::{Filling, fill};

use crate::base::Tick;
use crate::cache::{self, Ask, Bypass, Forwarded, Key, Request, Status, Verdict, stale_if_error};
use crate::http::{Fault, Fields, Framing};
use crate::net::{Side, Waited};
use crate::proxy::exchange::Way;
use crate::proxy::{Exchange, dress, policies, steer};
use crate::snapshot::traffic::Caching;
use crate::snapshot::{Rule, Snapshot};
use crate::store::{Claim, Claimed, Entry, Errand, Flight, Landing, Stamp};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

// Flights that one request waits for, one after the other; then it fetches for itself.
const MOST_ROUNDS: u32 = 4;
// Looks that others' changes to the same place have made void; then it fetches for itself.
const MOST_LOOKS: u32 = 64;

/// What a request is about, for as long as it is looked up.
#[derive(Clone, Copy)]
struct Asked<'a> {
    way: &'a Way<'a>,
    rule: &'a Rule,
    caching: &'a Caching,
    ask: &'a Ask,
    key: &'a Key,
}

// What is to be done about a request.
enum Found {
    Give { entry: Arc<Entry>, how: Given, refresh: Option<Claim> },
    Wait(Arc<Flight>),
    Fetch { claim: Option<Claim>, stamp: Stamp, old: Option<Arc<Entry>>, why: Forwarded },
    Again,
    Nothing,
}

/// How a stored response comes to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Fresh,
    Stale,
    // In the place of its target's failure.
    Saved,
    // As the target has said a moment ago.
    Confirmed,
    // It was fetched for this request.
    Fetched,
}

/// Answers from the store, where it can (`true`). Where it cannot, the exchange has an errand.
///
/// # Errors
/// Those of sending an answer, and of fetching one.
pub async fn answer(x: &mut Exchange<'_>, way: &Way<'_>, rule: &Rule) -> Result<bool, Fault> {
    let Some(caching) = rule.traffic.cache.as_deref() else { return Ok(false) };
    x.scratch.errand = None;
    // What one group answers is not given to clients of another.
    let group = if rule.traffic.steered { steer::group(x, way) } else { None };
    let group = group.and_then(|at| x.epoch.snapshot.groups.get(at));
    let mut key = std::mem::take(&mut x.scratch.key);
    let request = Request { group: group.map_or("", |group| &group.name), ..request_of(x) };
    key.set(&caching.settings.key, &request, &rule.name);
    let done = match Ask::of(&caching.settings, &request) {
        Ok(ask) => look(x, Asked { way, rule, caching, ask: &ask, key: &key }).await,
        Err(why) => {
            pass_by(x, caching, why);
            Ok(false)
        }
    };
    x.scratch.key = key;
    done
}

/// Lets go of what an exchange was to do for the store, once its request has ended: others need not wait for it.
pub fn after(x: &mut Exchange<'_>, ended: Result<(), Fault>) {
    let Some(mut errand) = x.scratch.errand.take() else { return };
    if let Some(old) = &errand.old
        && ended.is_ok()
        && x.scratch.trace.target_status.is_some_and(fill::supersedes)
    {
        x.shard.store.forget(old);
    }
    let Some(claim) = errand.claim.take() else { return };
    claim.land(match ended {
        // What was made of it is for nobody else.
        Ok(()) => Landing::Uncacheable,
        Err(fault) if is_of_target(fault) => Landing::Failed,
        Err(_) => Landing::Abandoned,
    });
}

/// What the rules of caching need to know of the request.
fn request_of<'x>(x: &'x Exchange<'_>) -> Request<'x> {
    let snapshot: &Snapshot = &x.epoch.snapshot;
    let told = x.client.tls.as_ref().is_some_and(|tls| tls.told.is_some());
    let findings = &x.scratch.findings;
    let named = !findings.identity.consumer.is_empty() || findings.identity.claims.is_some();
    Request {
        view: x.view(),
        scheme: x.client.scheme(),
        port: x.scratch.request.port,
        authority: x.scratch.request.authority.of(x.buf.filled()),
        local_port: x.client.port,
        group: "",
        trusted: snapshot.trusts(x.client.peer.ip()),
        identified: told || named || !findings.upstream.is_empty() || policies::identify(x),
        has_body: x.scratch.request.framing != Framing::None,
    }
}

// How a flight has ended whose response is stored: those who wait for it are served only by what may be given as it is.
fn landed(stored: Landing, entry: &Entry) -> Landing {
    match stored {
        Landing::Stored if !entry.stored.is_for_others() => Landing::Uncacheable,
        stored => stored,
    }
}

// Whether it is the target that has failed, so that whoever tries next would meet the same.
fn is_of_target(fault: Fault) -> bool {
    fault.status() >= 500
}

fn pass_by(x: &mut Exchange<'_>, caching: &Caching, why: Bypass) {
    let forwarded = if why == Bypass::Method { Forwarded::Method } else { Forwarded::Bypass };
    let mut status = Status::forwarded(forwarded);
    status.detail = Some(why.detail()).filter(|_| why != Bypass::Method);
    x.scratch.errand = Some(Box::new(Errand {
        key: Key::default(),
        ask: None,
        claim: None,
        old: None,
        stamp: Stamp::default(),
        asked: Tick::ZERO,
        status,
    }));
    x.scratch.trace.cache = "bypass";
    if let Some(cell) = caching.meters.cell(x.shard.worker) {
        cell.bypasses.add(1);
    }
}

async fn look(x: &mut Exchange<'_>, asked: Asked<'_>) -> Result<bool, Fault> {
    let (mut rounds, mut looks, mut waited) = (0, 0, false);
    loop {
        let now = Tick::now();
        let alone = rounds >= MOST_ROUNDS || looks >= MOST_LOOKS;
        match find(x, asked, now, alone) {
            Found::Give { entry, how, refresh } => {
                if let Some(claim) = refresh {
                    // Rare, and large: kept out of the future of every hit.
                    Box::pin(revalidate::refresh(x, asked, Arc::clone(&entry), claim)).await?;
                }
                let mut status = Status::hit(entry.meta().ttl(now));
                if waited {
                    status.forwarded = Some(Forwarded::Miss);
                    status.collapsed = true;
                }
                serve::give(x, asked, &entry, how, status).await?;
                return Ok(true);
            }
            Found::Wait(flight) => {
                waited = true;
                rounds = match Box::pin(wait(x, &flight, asked.caching)).await? {
                    Some(Landing::Stored | Landing::Abandoned) => rounds + 1,
                    // Nobody who waits is helped by waiting for the next one, too (hazard CACHE-08).
                    Some(Landing::Uncacheable | Landing::Failed) | None => MOST_ROUNDS,
                };
            }
            Found::Again => looks += 1,
            Found::Nothing => return Err(Fault::NotCached),
            Found::Fetch { claim, stamp, old, why } => {
                let mut status = Status::forwarded(why);
                status.collapsed = waited;
                let errand = Errand {
                    key: asked.key.clone(),
                    ask: Some(*asked.ask),
                    claim,
                    old: old.clone(),
                    stamp,
                    asked: now,
                    status,
                };
                return fetch(x, asked, Box::new(errand), old).await;
            }
        }
    }
}

// What is stored that answers the request, or who fetches it.
fn find(x: &Exchange<'_>, asked: Asked<'_>, now: Tick, alone: bool) -> Found {
    let Asked { ask, key, .. } = asked;
    let store = &x.shard.store;
    let Some(look) = store.look(key) else {
        let (stamp, why) = (Stamp::default(), Forwarded::Miss);
        return Found::Fetch { claim: None, stamp, old: None, why };
    };
    let personal = ask.identified || ask.cookies;
    let (fields, mut others) = (x.view().fields, false);
    let mut entries = look.entries(key).rev().inspect(|_| others = true);
    let entry = entries.find(|entry| answers(entry, fields)).map(Arc::clone);
    drop(entries);
    let mut verdict = None;
    if let Some(entry) = &entry {
        let meta = entry.meta();
        let judged = cache::judge(&meta, ask, now);
        verdict = Some(judged);
        let how = match judged {
            Verdict::Fresh => Some(Given::Fresh),
            // Bodies that are made anew are made for who asks for them.
            Verdict::Stale { refresh: true } if remakes_all(asked.rule) => None,
            Verdict::Stale { .. } => Some(Given::Stale),
            Verdict::Revalidate if entry.is_failing(now) && stale_if_error(&meta, ask, now) => {
                Some(Given::Saved)
            }
            Verdict::Revalidate | Verdict::Asked => None,
        };
        if let Some(how) = how {
            let wanted = judged == Verdict::Stale { refresh: true } && !ask.no_store;
            let claim = || store.claim(&look, key, &entry.variant, personal, now);
            let refresh = match wanted.then(claim) {
                Some(Claimed::Led(claim)) => Some(claim),
                // Somebody else does, or the next one will.
                _ => None,
            };
            return Found::Give { entry: Arc::clone(entry), how, refresh };
        }
    }
    if ask.only_if_cached {
        return Found::Nothing;
    }
    let why = match (&entry, verdict) {
        (Some(_), Some(Verdict::Asked)) => Forwarded::Request,
        (Some(_), _) => Forwarded::Stale,
        (None, _) if others => Forwarded::VaryMiss,
        (None, _) => Forwarded::UriMiss,
    };
    // What is asked for anew, in part or without its body would be of no use to those who wait.
    let shares = !ask.head && !ask.no_store && why != Forwarded::Request;
    let shares = shares && (!ask.range || entry.is_some());
    let stamp = look.stamp();
    if alone || !shares {
        return Found::Fetch { claim: None, stamp, old: entry.filter(|_| !ask.head), why };
    }
    // What the response will vary by is what the last one has, as far as can be known: it is of no use to those of another variant.
    let last = entry.as_ref().or_else(|| look.entries(key).next_back());
    let variant = last.map(|last| last.stored.vary.key(fields)).unwrap_or_default();
    let claimed = store.claim(&look, key, &variant, personal, now);
    // Without its body nothing is renewed.
    let old = entry.filter(|_| !ask.head);
    match claimed {
        Claimed::Led(claim) => Found::Fetch { claim: Some(claim), stamp, old, why },
        Claimed::Join(flight) => Found::Wait(flight),
        Claimed::Alone => Found::Fetch { claim: None, stamp, old, why },
        Claimed::Again => Found::Again,
    }
}

fn remakes_all(rule: &Rule) -> bool {
    rule.traffic.response.as_deref().is_some_and(dress::remakes_all)
}

// Whether the request says what the one has said that the response was for (RFC 9111 section 4.1).
fn answers(entry: &Entry, fields: Fields<'_>) -> bool {
    let vary = &entry.stored.vary;
    vary.is_empty() || *vary.key(fields) == *entry.variant
}

// Sends the request on, with what is to be done about its response.
async fn fetch(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    errand: Box<Errand>,
    old: Option<Arc<Entry>>,
) -> Result<bool, Fault> {
    let cell = asked.caching.meters.cell(x.shard.worker);
    if let Some(cell) = cell.filter(|_| old.is_none()) {
        cell.misses.add(1);
    }
    x.scratch.trace.cache = if old.is_some() { "expired" } else { "miss" };
    // A precondition would be answered by a target with a word that nobody else can use.
    if old.is_some() || (asked.ask.conditional && errand.claim.is_some()) {
        return Box::pin(revalidate::fetch(x, asked, errand, old)).await.map(|()| true);
    }
    x.scratch.errand = Some(errand);
    Ok(false)
}

// Waits for what somebody else fetches; `None` when that takes too long.
async fn wait(
    x: &mut Exchange<'_>,
    flight: &Flight,
    caching: &Caching,
) -> Result<Option<Landing>, Fault> {
    if let Some(cell) = caching.meters.cell(x.shard.worker) {
        cell.waits.add(1);
    }
    let slot = x.client.sock.slot();
    let until = Tick::now().after(caching.settings.lock);
    let waited = {
        let mut landed = pin!(x.shard.landings.wait(x.shard.worker, flight));
        let mut late = pin!(x.shard.delays.until(until, &slot));
        poll_fn(|cx| {
            if landed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Waited::Due);
            }
            late.as_mut().poll(cx)
        })
        .await
    };
    x.client.sock.arm(Side::Read, Tick::NEVER);
    match waited {
        Waited::Due if !x.client.sock.is_gone() => Ok(flight.landed()),
        Waited::Due | Waited::Cut => Err(Fault::ClientGone),
    }
}
