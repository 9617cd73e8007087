//! One answer made of the answers of several groups, which are asked at the same time.
//!
//! Each part is a request of ringgate's own (`inner`). What of the client's request parts see is what a target would, but for
//! what speaks of one representation: conditions, ranges, codings. Nothing of the parts' heads goes on but how long they may be kept.
//! How parts are merged, and what becomes of those that fail, is decided in `fanout`. Called by `exchange`.

use crate::base::Tick;
use crate::fanout::PartSettings;
use crate::fanout::freshness::{Freshness, Said};
use crate::fanout::merge::{self, Missing};
use crate::http::{Fault, Method, write};
use crate::net::buf::Charge;
use crate::proxy::inner::{self, Inner, Order, Received};
use crate::proxy::{Exchange, coding, collect, facts, inject, reply, upgrade};
use crate::shard::{Sent, Shard};
use crate::snapshot::traffic::Asked;
use crate::snapshot::{Aggregate, Rule};
use crate::transform::Place;
use crate::transform::compress::{self, Limit};
use crate::transform::rewrite::settled;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// Asks all parts and answers.
///
/// # Errors
/// [`Fault::PartFailed`] and [`Fault::PartTimeout`] for a part that must not fail; those of sending an answer.
pub async fn answer(
    x: &mut Exchange<'_>,
    rule: Option<&Rule>,
    aggregate: &Aggregate,
) -> Result<(), Fault> {
    if let Some(rule) = rule.filter(|rule| rule.traffic.inject.is_some()) {
        inject::inject(x, rule).await?;
    }
    if upgrade::is_connect(x) {
        return Err(Fault::UpgradeRefused);
    }
    let settings = &aggregate.settings;
    if settings.parts.iter().any(takes_body) {
        collect::body(x, settings.body).await?;
    }
    // Before it costs a target anything; the parts take places of their own.
    let shard: &Shard = x.shard;
    let _place = shard.place(&x.epoch.snapshot, rule).ok_or(Fault::Shed)?;
    // What waits for parts waits on connections of theirs: it ends with the client's all the same (hazard H2-05).
    let asked = x.client.sock.unless_cut(ask(x, aggregate)).await;
    let asked = asked.map_err(|_| Fault::ClientGone)?;
    let merged = asked.and_then(|parts| {
        let texts: Vec<_> = parts
            .iter()
            .map(|part| part.as_ref().map(|part| part.text.as_str()).map_err(|why| *why))
            .collect();
        let whole = merge::merge(settings, &texts)?;
        // Until the last of it is sent, however slowly the client takes it.
        let charge = shard.buffers.charge(whole.body.len());
        Ok((whole, freshness(&parts), charge))
    });
    let (whole, freshness, _charge) = merged.map_err(|(at, why)| {
        let name = settings.parts.get(at).map_or("", |part| &part.name);
        x.scratch.findings.detail = format!("The part {name:?} {why}.");
        aggregate.live.failed.fetch_add(1, Ordering::Relaxed);
        aggregate.live.missed(at);
        if why == Missing::Late { Fault::PartTimeout } else { Fault::PartFailed }
    })?;
    let complete = whole.missing.is_empty();
    let count = if complete { &aggregate.live.whole } else { &aggregate.live.partial };
    count.fetch_add(1, Ordering::Relaxed);
    for (at, part) in settings.parts.iter().enumerate() {
        if whole.missing.contains(&part.name) {
            aggregate.live.missed(at);
        }
    }
    let status = if complete { settings.status } else { settings.partial_status };
    let mut out = reply::begin(x, status);
    write::field(&mut out, b"content-type", b"application/json");
    write::field(&mut out, b"cache-control", freshness.cache_control().as_bytes());
    let vary = freshness.vary_names();
    if !vary.is_empty() {
        write::built_field(&mut out, b"vary", vary.as_bytes());
    }
    if !complete {
        let names: Vec<String> = whole.missing.iter().map(|name| listed(name)).collect();
        write::built_field(&mut out, b"x-ringgate-partial", names.join(", ").as_bytes());
    }
    reply::send(x, out, status, &whole.body).await
}

// A name as a member of a list (RFC 9110 section 5.6.1): what could be taken for something else is percent-encoded.
fn listed(name: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    percent_encoding::utf8_percent_encode(name, KEPT).to_string()
}

// A part that is there, and what it takes of the machine's memory until all are.
struct Part {
    text: String,
    received: Received,
    _charge: Charge,
}

type Outcome = Result<Part, Missing>;

// Asks all parts, and waits until all have answered; or until one has failed that must not, which it then says. Those that have
// not answered by then are broken off.
async fn ask(x: &Exchange<'_>, aggregate: &Aggregate) -> Result<Vec<Outcome>, (usize, Missing)> {
    let settings = &aggregate.settings;
    let now = Tick::now();
    let over = now.after(settings.timeout);
    let mut waiting: Vec<Option<Pin<Box<dyn Future<Output = Outcome> + '_>>>> = Vec::new();
    for (part, asked) in settings.parts.iter().zip(&aggregate.asked) {
        let deadline = part.timeout.map_or(over, |timeout| now.after(timeout).min(over));
        let sent = order(x, part, asked, deadline.since(now)).map(|order| inner::send(x, order));
        let shard: &Shard = x.shard;
        waiting.push(Some(Box::pin(async move {
            take(shard, part, sent?, settings.limit, deadline).await
        })));
    }
    let mut got: Vec<Outcome> = waiting.iter().map(|_| Err(Missing::Late)).collect();
    poll_fn(|cx| {
        let mut left = false;
        let all = got.iter_mut().zip(&mut waiting).zip(&settings.parts);
        for (at, ((slot, future), part)) in all.enumerate() {
            let Some(polled) = future else { continue };
            let Poll::Ready(outcome) = polled.as_mut().poll(cx) else {
                left = true;
                continue;
            };
            if let (Err(why), true) = (&outcome, part.required) {
                return Poll::Ready(Err((at, *why)));
            }
            (*slot, *future) = (outcome, None);
        }
        if left { Poll::Pending } else { Poll::Ready(Ok(())) }
    })
    .await?;
    Ok(got)
}

async fn take(
    shard: &Shard,
    part: &PartSettings,
    inner: Inner,
    limit: u64,
    deadline: Tick,
) -> Outcome {
    let method = Method::of(part.method.as_bytes());
    let received = inner::collect(shard, &inner, method, limit, deadline).await;
    let mut received = received.map_err(missing)?;
    let arrived = shard.buffers.charge(received.body.len());
    let text = {
        let fields = received.head.view(&received.section);
        let kind = fields.first("content-type").unwrap_or_default();
        // It was asked for none.
        let codings = compress::codings(fields.all("content-encoding"));
        let decoded = match codings.as_deref() {
            Some(codings @ [_, ..]) => {
                let limit = Limit::of(limit);
                coding::decode_whole(&shard.buffers, &received.body, codings, limit).await.ok()
            }
            _ => None,
        };
        let coded = codings.is_none_or(|codings| !codings.is_empty()) && decoded.is_none();
        let body = decoded.as_deref().unwrap_or(&received.body);
        merge::judge(part, received.head.status, kind, coded, body)?.to_owned()
    };
    received.body = Vec::new();
    let charge = shard.buffers.charge(text.len() + received.section.len());
    drop(arrived);
    // Counted as it arrived, it is counted as long as it is here.
    if shard.buffers.is_short() {
        return Err(missing(Fault::Shed));
    }
    Ok(Part { text, received, _charge: charge })
}

fn missing(fault: Fault) -> Missing {
    match fault {
        Fault::DeadlineExceeded
        | Fault::ResponseTimeout
        | Fault::ConnectTimeout
        | Fault::BodyStalled => Missing::Late,
        Fault::BodyTooLarge => Missing::TooLarge,
        fault => Missing::Failed(fault.code()),
    }
}

// Fields of the client's that speak of a representation that no part is.
const HELD: [&str; 8] = [
    "accept",
    "accept-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];
// Those that speak of its body.
const OF_BODY: [&str; 4] =
    ["content-type", "content-encoding", "content-language", "content-location"];

fn takes_body(part: &PartSettings) -> bool {
    !matches!(part.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE")
}

fn order(
    x: &Exchange<'_>,
    part: &PartSettings,
    asked: &Asked,
    patience: std::time::Duration,
) -> Result<Order, Missing> {
    let paths = x.epoch.snapshot.paths;
    let (path, query) = facts::with(x, |facts| {
        let query = asked.query.as_ref().map(|query| query.text(facts, Place::Query));
        (asked.path.text(facts, Place::Path), query)
    });
    let mut target = settled(path, paths).map_err(|_| Missing::Path)?;
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(&query);
    }
    let body = takes_body(part);
    let held = HELD.iter().chain(OF_BODY.iter().filter(|_| !body));
    let mut sent = Sent { any: true, target, ..Sent::default() };
    sent.method = part.method.clone().into_bytes();
    sent.held = held.map(|name| name.as_bytes().into()).collect();
    write::field(&mut sent.fields, b"accept", b"application/json");
    write::field(&mut sent.fields, b"accept-encoding", b"identity");
    Ok(Order {
        group: asked.group,
        sent,
        body: if body { None } else { Some(Vec::new()) },
        response: Some(patience),
        avoid: None,
        repeats: true,
    })
}

fn freshness(parts: &[Outcome]) -> Freshness {
    let mut whole = Freshness::default();
    for part in parts {
        let Ok(Part { received, .. }) = part else {
            whole.add_missing();
            continue;
        };
        let fields = received.head.view(&received.section);
        whole.add(&Said {
            cache_control: &fields.all("cache-control").collect::<Vec<_>>(),
            age: fields.first("age"),
            expires: fields.first("expires"),
            date: fields.first("date"),
            vary: &fields.all("vary").collect::<Vec<_>>(),
        });
    }
    whole
}
