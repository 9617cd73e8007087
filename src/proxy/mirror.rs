//! Copies of requests for another group, and what their answers differ in. The real answer never waits for them.
//!
//! A copy is a request of ringgate's own (`inner`) with a task of its own, within bounds of its own (`shard::copies`): it takes no
//! place among requests in flight, and where there is no room for it, it is not made. Its answer is read to its end and thrown
//! away, or compared with the real one, which is kept as it passes. Which requests are copied, and how answers are
//! compared, is decided in `fanout`. Called by `staged` and `shape`.

use crate::base::{Tick, tick};
use crate::fanout::Share;
use crate::fanout::compare::{CompareSettings, Outcome, Reason, Side, compare};
use crate::fanout::merge::is_json;
use crate::fanout::mirror::{Body, Choice};
use crate::http::grpc::Call;
use crate::http::{Fault, Framing, Known, Method, ResponseHead, write};
use crate::net::Buffers;
use crate::net::runtime::spawn;
use crate::net::sock::to_the_end_of_the_queue;
use crate::proxy::inner::{self, Inner, Order, Received};
use crate::proxy::{Exchange, coding, collect, dress, upgrade};
use crate::shard::copies::{Kept, Place};
use crate::shard::{Epoch, Sent, Shard, Tap};
use crate::snapshot::mirrors::{Copied, Sample};
use crate::snapshot::{Mirror, Rule};
use crate::transform::compress::{self, Flaw, Limit};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::Poll;

// What tells a target that nobody waits for its answer.
const MARK: &[u8] = b"x-ringgate-mirror";
// Octets of an answer that are read; a longer one is broken off.
const MOST_READ: u64 = 16 << 20;

/// Sends a copy, where the rule says so.
///
/// # Errors
/// What goes wrong with the request's body, where the rule lets it wait for that.
pub async fn copy(x: &mut Exchange<'_>, rule: &Rule) -> Result<(), Fault> {
    let Some(mirror) = &rule.traffic.mirror else { return Ok(()) };
    if is_copy(x) || upgrade::is_connect(x) || has(x, |known| known == Known::Upgrade) {
        return Ok(());
    }
    let drawn = x.shard.with_rng(|rng| rng.u32(..Share::WHOLE));
    match mirror.settings.choose(method(x), body(x), drawn) {
        Choice::None => return Ok(()),
        Choice::Skip => {
            mirror.live.copied(Copied::Body);
            return Ok(());
        }
        Choice::Copy => {}
        Choice::Collect => collect::body(x, mirror.settings.body).await?,
    }
    match x.shard.copies.begin(x.body_here().len()).filter(|_| !x.shard.buffers.is_short()) {
        Some(place) => send(x, mirror, place),
        None => mirror.live.copied(Copied::NoRoom),
    }
    Ok(())
}

// Whether it is a copy already, as a trusted peer says. What anybody else says of that no target hears.
fn is_copy(x: &mut Exchange<'_>) -> bool {
    let fields = &x.scratch.request.fields;
    let marked = fields.iter().any(|f| f.name.of(x.buf.filled()).eq_ignore_ascii_case(MARK));
    if !marked || x.epoch.snapshot.trusts(x.client.peer.ip()) {
        return marked;
    }
    x.scratch.sent.any = true;
    x.scratch.sent.held.push(MARK.into());
    false
}

fn has(x: &Exchange<'_>, is: impl Fn(Known) -> bool) -> bool {
    x.scratch.request.fields.iter().any(|field| is(field.known))
}

// As it is sent on.
fn method<'x>(x: &'x Exchange<'_>) -> &'x [u8] {
    match x.scratch.sent.method.as_slice() {
        [] => x.view().method,
        other => other,
    }
}

fn body(x: &Exchange<'_>) -> Body {
    match x.scratch.request.framing {
        _ if x.body_is_here() => Body::Here(x.body_here().len() as u64),
        Framing::Length(length) => Body::Announced(length),
        _ => Body::Unknown,
    }
}

fn send(x: &mut Exchange<'_>, mirror: &Mirror, place: Rc<Place>) {
    let settings = &mirror.settings;
    let mut sent = Sent::clone(&x.scratch.sent);
    sent.any = true;
    write::field(&mut sent.fields, MARK, b"1");
    sent.held.push(MARK.into());
    let sends = Method::of(method(x));
    let began = Tick::now();
    let order = Order {
        group: mirror.group,
        sent,
        body: None,
        response: Some(settings.timeout),
        avoid: None,
        repeats: false,
    };
    let compared = settings.compare.as_ref().map(|compare| {
        let (tap, kept) = Tap::new(Rc::clone(&place), compare.limit, began);
        x.scratch.tap = Some(Box::new(tap));
        let view = x.view();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let (method, path) = (text(method(x)), text(view.path));
        Compared { kept, method, path, request_id: text(&x.scratch.request_id) }
    });
    let job = Job {
        shard: Rc::clone(x.shard),
        epoch: Rc::clone(x.epoch),
        rule: x.scratch.trace.rule,
        inner: inner::send_aside(x, order),
        method: sends,
        place,
        began,
        deadline: began.after(settings.timeout),
    };
    let pulse = std::sync::Arc::clone(&x.shard.pulse);
    spawn(job.run(compared), move || {
        pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a copy of a request panicked");
    });
}

// A copy on its way.
struct Job {
    shard: Rc<Shard>,
    epoch: Rc<Epoch>,
    rule: Option<usize>,
    inner: Inner,
    method: Method,
    place: Rc<Place>,
    began: Tick,
    deadline: Tick,
}

// What its answer is compared with, and what a sample says of the request.
struct Compared {
    kept: Rc<Kept>,
    method: String,
    path: String,
    request_id: String,
}

impl Job {
    async fn run(self, compared: Option<Compared>) {
        let epoch = Rc::clone(&self.epoch);
        let rule = self.rule.and_then(|at| epoch.snapshot.rules.get(at));
        let Some(mirror) = rule.and_then(|rule| rule.traffic.mirror.as_deref()) else { return };
        let answered = match (compared, &mirror.settings.compare) {
            (Some(compared), Some(settings)) => self.compare(mirror, settings, compared).await,
            _ => self.discard().await.is_ok(),
        };
        mirror.live.copied(if answered { Copied::Answered } else { Copied::Failed });
    }

    async fn discard(&self) -> Result<(), Fault> {
        inner::discard(&self.shard, &self.inner, MOST_READ, self.deadline).await
    }

    // Whether it was answered.
    async fn compare(
        &self,
        mirror: &Mirror,
        settings: &CompareSettings,
        compared: Compared,
    ) -> bool {
        let (mut other, answered) = self.other(settings).await;
        let mut real = match other.gap {
            // There is nothing to wait for.
            Some(Reason::MirrorFailed) => Side::default(),
            _ => self.real(&compared.kept).await,
        };
        // Each takes a while with large bodies: whoever else has something to do goes first.
        for side in [&mut real, &mut other] {
            to_the_end_of_the_queue().await;
            decode(&self.shard.buffers, side, settings.limit).await;
        }
        to_the_end_of_the_queue().await;
        let outcome = compare(settings, &real, &other);
        mirror.live.compared(&outcome);
        let both = [&real, &other];
        let begun = both.iter().all(|side| side.status != 0);
        if settings.latency && begun {
            let worker = self.shard.worker;
            mirror.live.real.cell(worker).latency.record(real.latency);
            mirror.live.other.cell(worker).latency.record(other.latency);
        }
        if !outcome.differences.is_empty() && settings.samples > 0 {
            mirror.live.keep(sample(compared, both, outcome), settings.samples);
        }
        answered
    }

    async fn other(&self, settings: &CompareSettings) -> (Side, bool) {
        let (shard, inner) = (&self.shard, &self.inner);
        let mut got = Received::default();
        let limit = if settings.body { settings.limit } else { 0 };
        let read =
            inner::collect_into(&mut got, shard, inner, self.method, limit, self.deadline).await;
        let latency = got.answered.map(|at| at.since(self.began)).unwrap_or_default();
        let mut side = side_of(settings, &got.head, &got.section);
        (side.latency, side.body) = (latency, got.body);
        let answered = match read {
            Ok(()) => true,
            Err(Fault::BodyTooLarge) => {
                side.gap = settings.body.then_some(Reason::TooLarge);
                // Read to its end all the same, so that the target is not broken off.
                self.discard().await.is_ok()
            }
            Err(Fault::Shed) => {
                side.gap = Some(Reason::NoRoom);
                false
            }
            Err(_) => {
                side.gap = Some(Reason::MirrorFailed);
                false
            }
        };
        if side.gap.is_none() && !self.place.grow(side.body.len()) {
            (side.gap, side.body) = (Some(Reason::NoRoom), Vec::new());
        }
        (side, answered)
    }

    // The real answer, once it has ended.
    async fn real(&self, kept: &Kept) -> Side {
        let slot = self.inner.sock.slot();
        let mut over = pin!(self.shard.delays.until(self.deadline, &slot));
        let late = || Side { gap: Some(Reason::Late), ..Side::default() };
        poll_fn(|cx| match kept.poll(cx) {
            Poll::Pending => over.as_mut().poll(cx).map(|_| late()),
            ended => ended,
        })
        .await
    }
}

// Takes the content codings off, where they are known; compared is what they hold.
async fn decode(buffers: &Rc<Buffers>, side: &mut Side, limit: u64) {
    let Some(coding) = side.coding.take_if(|_| side.gap.is_none() && !side.body.is_empty()) else {
        return;
    };
    let decoded = match compress::codings([coding.as_bytes()].into_iter()) {
        Some(codings) => {
            Some(coding::decode_whole(buffers, &side.body, &codings, Limit::of(limit)).await)
        }
        None => None,
    };
    match decoded {
        Some(Ok(body)) => side.body = body,
        Some(Err(Flaw::TooLarge)) => side.gap = Some(Reason::TooLarge),
        Some(Err(Flaw::Malformed)) | None => side.coding = Some(coding),
    }
}

fn sample(compared: Compared, [real, other]: [&Side; 2], outcome: Outcome) -> Sample {
    Sample {
        wall_micros: tick::wall_micros(),
        request_id: compared.request_id,
        method: compared.method,
        path: compared.path,
        status: [real.status, other.status],
        latency: [real.latency, other.latency],
        differences: outcome.differences,
    }
}

/// Begins to keep the parsed response, whose head is `section`, where it is compared: the stage that keeps its body, if that
/// has one.
pub fn tap(x: &mut Exchange<'_>, section: &[u8]) -> Option<Box<Tap>> {
    // What the store gives instead of what a target has said is no answer of a target.
    let tap = x.scratch.tap.take().filter(|_| !x.scratch.trace.stored)?;
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at))?;
    let settings = rule.traffic.mirror.as_ref()?.settings.compare.as_ref()?;
    let mut side = side_of(settings, &x.scratch.response, section);
    side.latency = x.scratch.trace.answered.unwrap_or_else(Tick::now).since(tap.began());
    tap.head(side);
    if x.scratch.trace.form != Call::No {
        tap.without_body(Reason::Coded);
        return None;
    }
    if settings.body && dress::changes_body(x) {
        tap.without_body(Reason::Changed);
        return None;
    }
    let none = matches!(x.scratch.response.framing, Framing::None | Framing::Length(0));
    if none || !settings.body {
        tap.end();
        return None;
    }
    Some(tap)
}

fn side_of(settings: &CompareSettings, head: &ResponseHead, section: &[u8]) -> Side {
    let fields = head.view(section);
    let list = |name: &str| fields.all(name).collect::<Vec<_>>().join(&b", "[..]);
    let coding = list("content-encoding");
    let coding = String::from_utf8_lossy(&coding).to_ascii_lowercase();
    Side {
        status: head.status,
        fields: settings.headers.iter().map(|name| list(name)).collect(),
        json: is_json(fields.first("content-type").unwrap_or_default()),
        coding: Some(coding)
            .filter(|c| !c.is_empty() && c != "identity")
            .map(String::into_boxed_str),
        ..Side::default()
    }
}
