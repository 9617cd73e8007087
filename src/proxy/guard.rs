//! Who may be sent another request, and what is learnt from how it ended: bounds with their queue, breakers, outliers.
//!
//! What follows from it is decided in `protect`; whoever brings a change about logs it, once. Called by `forward` around every
//! attempt, and by `receive` for responses that are no success.

use crate::base::Tick;
use crate::config::TargetProtocol;
use crate::http::Fault;
use crate::http::grpc::Call;
use crate::net::Side;
use crate::policy::rate::fields;
use crate::protect::blame::{self, Cause};
use crate::protect::breaker::{Entry, State};
use crate::protect::outlier::Reason;
use crate::protect::{BoundSettings, BreakerSettings, Importance, Outcome, OutlierSettings};
use crate::proxy::{Exchange, policies};
use crate::shard::epoch::GroupCore;
use crate::shard::lines::{Standing, waited};
use crate::shard::{Held, Message, Shard, TargetCore, Trial};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Whether the group is given a rest.
///
/// # Errors
/// [`Fault::BreakerOpen`]
#[inline]
pub fn enter(x: &mut Exchange<'_>, group: &GroupCore) -> Result<(), Fault> {
    let Some(settings) = group.group.traffic.breaker.as_deref() else { return Ok(()) };
    let live = &group.group.live;
    match live.breaker.enter(settings, Tick::now) {
        Entry::Free => Ok(()),
        Entry::Trial { phase, first } => {
            if first {
                changed(group, State::HalfOpen, settings);
            }
            x.scratch.trace.trial = Some(Trial::new(live, phase));
            Ok(())
        }
        Entry::Refused(left) => {
            fields::retry_after(&mut x.scratch.findings.response, left);
            Err(Fault::BreakerOpen)
        }
    }
}

/// Admits a request to the target that was picked, or to another one that was not tried where that one has as many as it may.
/// `None`: all of them have, or others wait already.
#[inline]
pub fn admit(
    x: &Exchange<'_>,
    group: &GroupCore,
    place: usize,
    tried: &[usize],
) -> Option<(usize, Held)> {
    match group.group.traffic.bounds.as_deref() {
        None => Some((place, Held::default())),
        Some(bounds) => bounded(x.shard, group, bounds, place, tried),
    }
}

fn bounded(
    shard: &Shard,
    group: &GroupCore,
    bounds: &BoundSettings,
    place: usize,
    tried: &[usize],
) -> Option<(usize, Held)> {
    if !group.group.live.line.is_empty() {
        return None;
    }
    let held = take(shard, group, bounds, place).map(|held| (place, held));
    held.or_else(|| any(shard, group, bounds, tried))
}

fn take(shard: &Shard, group: &GroupCore, bounds: &BoundSettings, place: usize) -> Option<Held> {
    let streams = group.group.protocol.is_h2();
    let target = group.targets.get(place).filter(|target| target.has_room(streams))?;
    shard.lines.hold(target, bounds.max_requests.unwrap_or(u32::MAX))
}

// A place with the target that has the fewest requests in flight; with whichever has one at all, if others are quicker.
fn any(
    shard: &Shard,
    group: &GroupCore,
    bounds: &BoundSettings,
    tried: &[usize],
) -> Option<(usize, Held)> {
    let weight = |at: usize| group.group.targets.get(at).map_or(0, |target| target.weight);
    let load = |at: usize| {
        group.targets.get(at).map_or(u32::MAX, |target| target.live.guard.requests.value())
    };
    let fits = |at: &usize| weight(*at) > 0 && !tried.contains(at);
    group.with_eligible(|eligible| {
        // Of several with equally few, whichever chance has first.
        let start = shard.with_rng(|rng| rng.usize(0..eligible.len().max(1)));
        let (before, after) = eligible.split_at(start.min(eligible.len()));
        let all = || after.iter().chain(before).copied().filter(fits);
        let hold = |at: usize| take(shard, group, bounds, at).map(|held| (at, held));
        all().min_by_key(|at| load(*at)).and_then(hold).or_else(|| all().find_map(hold))
    })
}

// How often a request that waits looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(250);

/// Waits until any target of the group may be sent another request, and takes a place with it: one that was not tried, where
/// there is any.
///
/// # Errors
/// [`Fault::QueueFull`], [`Fault::QueueTimeout`], [`Fault::DeadlineExceeded`], [`Fault::ClientGone`].
pub async fn queue(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    tried: &[usize],
) -> Result<(usize, Held), Fault> {
    let bounds = group.group.traffic.bounds.as_deref().ok_or(Fault::Shed)?;
    let live = &group.group.live;
    let now = Tick::now();
    // One that comes again, since it found no room after all, goes on waiting where it was.
    let again = x.scratch.trace.queued.is_some();
    let began = *x.scratch.trace.queued.get_or_insert(now);
    let until = began.after(bounds.queue_timeout.unwrap_or(group.group.connect));
    let queue = Queue { group, bounds, tried, until, again };
    let importance = importance(x);
    let Some(standing) = x.shard.lines.stand(live, importance, bounds.queue, again) else {
        live.line.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        fields::retry_after(&mut x.scratch.findings.response, Duration::from_secs(1));
        return Err(Fault::QueueFull);
    };
    let ended = wait(x, &queue, &standing).await;
    x.client.sock.arm(Side::Read, Tick::NEVER);
    let micros = u64::try_from(Tick::now().since(now).as_micros()).unwrap_or(u64::MAX);
    waited(live, micros, ended.as_ref().is_err_and(|fault| *fault == Fault::QueueTimeout));
    drop(standing);
    if ended.is_err() {
        fields::retry_after(&mut x.scratch.findings.response, Duration::from_secs(1));
    } else if !live.line.is_empty() && has_room(group, bounds) {
        x.shard.lines.call(live);
    }
    ended
}

// What is waited for, until when.
struct Queue<'q> {
    group: &'q GroupCore,
    bounds: &'q BoundSettings,
    tried: &'q [usize],
    until: Tick,
    again: bool,
}

async fn wait(
    x: &Exchange<'_>,
    queue: &Queue<'_>,
    standing: &Standing,
) -> Result<(usize, Held), Fault> {
    let deadline = x.scratch.trace.deadline.unwrap_or(Tick::NEVER);
    let until = queue.until.min(deadline);
    let mut called = standing.was_alone;
    let (mut asked, mut next) = (false, Tick::now());
    loop {
        // One that comes again was called in vain, which must not go on for ever.
        if queue.again {
            queue.go_on(x, deadline)?;
        }
        if called {
            if let Some(found) = queue.find(x.shard) {
                return Ok(found);
            }
            // What was tried already is of no use here, but to others.
            if !queue.tried.is_empty() && has_room(queue.group, queue.bounds) {
                standing.pass_on();
            }
        }
        let now = queue.go_on(x, deadline)?;
        // However often it is called in vain.
        if now >= next {
            if standing.is_first() {
                ask_for_connections(x.shard, queue.group, queue.bounds, asked);
                asked = true;
            }
            next = now.after(LOOK);
        }
        called = step(x, standing, next.min(until)).await?;
    }
}

impl Queue<'_> {
    fn find(&self, shard: &Shard) -> Option<(usize, Held)> {
        let tried = |at: &usize| self.tried.contains(at);
        let none_left = self.group.with_eligible(|eligible| eligible.iter().all(tried));
        any(shard, self.group, self.bounds, if none_left { &[] } else { self.tried })
    }

    // The time, unless it is over.
    fn go_on(&self, x: &Exchange<'_>, deadline: Tick) -> Result<Tick, Fault> {
        let now = Tick::now();
        if now >= self.until.min(deadline) {
            let own = self.until <= deadline;
            return Err(if own { Fault::QueueTimeout } else { Fault::DeadlineExceeded });
        }
        if x.client.sock.has_left() { Err(Fault::ClientGone) } else { Ok(now) }
    }
}

// Whether it is called before this time.
async fn step(x: &Exchange<'_>, standing: &Standing, until: Tick) -> Result<bool, Fault> {
    let mut due = pin!(policies::wait(x, until));
    poll_fn(|cx| {
        if standing.poll_called(cx).is_ready() {
            return Poll::Ready(Ok(true));
        }
        due.as_mut().poll(cx).map(|due| due.map(|()| false))
    })
    .await
}

fn has_room(group: &GroupCore, bounds: &BoundSettings) -> bool {
    let (most, streams) = (bounds.max_requests.unwrap_or(u32::MAX), group.group.protocol.is_h2());
    let free = |at: &usize| {
        let target = group.targets.get(*at);
        target.is_some_and(|t| t.has_room(streams) && t.live.guard.requests.value() < most)
    };
    group.with_eligible(|eligible| eligible.iter().any(free))
}

// Where a target may have no further connection and none is idle here, another worker that has an idle one is to close it. What
// is known of the others may be a sweep old: where that did not help, `all` of them are asked.
fn ask_for_connections(shard: &Shard, group: &GroupCore, bounds: &BoundSettings, all: bool) {
    if bounds.max_connections.is_none() {
        return;
    }
    let (most, streams) = (bounds.max_requests.unwrap_or(u32::MAX), group.group.protocol.is_h2());
    let full: Vec<_> = group.with_eligible(|eligible| {
        let targets = eligible.iter().filter_map(|at| group.targets.get(*at));
        let has_place = |t: &TargetCore| t.live.guard.requests.value() < most;
        let full = targets.filter(|target| !target.has_room(streams) && has_place(target));
        full.map(|target| Arc::clone(&target.live)).collect()
    });
    for live in full {
        let others = || shard.post.numbers().into_iter().filter(|other| *other != shard.worker);
        let has_idle = |other: &usize| live.meters.cell(*other).idle.value() > 0;
        let idle = others().find(has_idle).filter(|_| !all);
        let asked: Vec<usize> = idle.map_or_else(|| others().collect(), |other| vec![other]);
        for other in asked {
            shard.post.tell(other, Message::Spare(Arc::clone(&live)));
        }
    }
}

/// Says when to come again, where that was said of a request of ringgate's own.
pub fn say_when(x: &mut Exchange<'_>, group: &GroupCore, fault: Fault) {
    let wait = match fault {
        Fault::BreakerOpen => group.group.live.breaker.rest(Tick::now()),
        Fault::QueueFull | Fault::QueueTimeout => Duration::from_secs(1),
        _ => return,
    };
    fields::retry_after(&mut x.scratch.findings.response, wait);
}

fn importance(x: &Exchange<'_>) -> Importance {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    rule.map_or(Importance::Normal, |rule| rule.traffic.importance)
}

/// An attempt has ended: with an answer (`None`; its status is in the trace), or with a fault.
#[inline]
pub fn settle(x: &mut Exchange<'_>, group: &GroupCore, place: usize, fault: Option<Fault>) {
    let traffic = &group.group.traffic;
    if traffic.outlier.is_some() || traffic.breaker.is_some() {
        let judged = std::mem::take(&mut x.scratch.trace.judged);
        if !judged || fault.is_some() {
            learn(x, group, place, fault);
        }
    }
}

/// The head of an answer with a status of 400 or more was parsed, or of one to a breaker's trial: what follows from it is learnt
/// before the client sees it, so that its next request finds it done, and others need not wait for an answer that may never end.
/// Of a call the end has to be waited for.
pub fn headed(x: &mut Exchange<'_>, head: &[u8]) {
    if matches!(x.scratch.response.status, 429 | 503) {
        note_retry_after(x, head);
    }
    let (epoch, trace) = (x.epoch, &x.scratch.trace);
    let group = trace.group.and_then(|at| epoch.groups.get(at));
    let (Some(group), Some(place)) = (group, trace.target) else { return };
    // What one of ringgate's own requests got, that one has settled.
    if trace.counted || trace.call != Call::No {
        return;
    }
    settle(x, group, place, None);
    x.scratch.trace.judged = true;
}

fn learn(x: &mut Exchange<'_>, group: &GroupCore, place: usize, fault: Option<Fault>) {
    let silent = fault.is_some_and(|fault| is_silent(x, group, fault));
    let status = status(x);
    // An answer has its time already.
    let now = x.scratch.trace.answered.filter(|_| fault.is_none()).unwrap_or_else(Tick::now);
    if let Some(settings) = group.group.traffic.breaker.as_deref() {
        let outcome = if silent { Outcome::Silent } else { settings.blame.judge(fault, status) };
        judge_group(x, group, settings, outcome, now);
    }
    if let Some(settings) = group.group.traffic.outlier.as_deref() {
        let outcome = if silent { Outcome::Silent } else { settings.blame.judge(fault, status) };
        judge_target(x, group, place, settings, outcome, now);
    }
}

// Whether a fault says nothing of the target, whatever it looks like.
fn is_silent(x: &Exchange<'_>, group: &GroupCore, fault: Fault) -> bool {
    let trace = &x.scratch.trace;
    match blame::cause(fault) {
        // A client that has left ends the waits for it, and one that gives no time gets none.
        Some(Cause::Timeout | Cause::Connect) if x.client.sock.is_gone() => true,
        Some(Cause::Timeout) if x.client.sock.is_cut() => true,
        Some(Cause::Timeout) => fault == Fault::DeadlineExceeded && !trace.overdue,
        // It was closed as it was used again (hazard UP-02).
        Some(Cause::Reset) => {
            let http1 = group.group.protocol == TargetProtocol::Http1;
            http1 && trace.reused && fault != Fault::TruncatedBody
        }
        _ => false,
    }
}

// The status of the answer; of a call, what its own status means.
fn status(x: &Exchange<'_>) -> u16 {
    let trace = &x.scratch.trace;
    let status = trace.target_status.unwrap_or(0);
    match trace.grpc_status.filter(|_| trace.call != Call::No) {
        // UNKNOWN, INTERNAL, DATA_LOSS
        Some(2 | 13 | 15) => 500,
        // DEADLINE_EXCEEDED is the client's choice, UNAVAILABLE the target's.
        Some(14) => 503,
        _ => status,
    }
}

fn judge_group(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    settings: &BreakerSettings,
    outcome: Outcome,
    now: Tick,
) {
    let breaker = &group.group.live.breaker;
    if let Some(phase) = x.scratch.trace.trial.take().and_then(Trial::end) {
        if let Some(state) = breaker.tried(settings, phase, outcome, now) {
            changed(group, state, settings);
        }
        return;
    }
    let cell = (x.shard.worker, group.group.live.line.workers);
    if breaker.ended(settings, outcome, now, cell) {
        changed(group, State::Open, settings);
    }
}

fn changed(group: &GroupCore, state: State, settings: &BreakerSettings) {
    let group = &*group.group.name;
    match state {
        State::Open => {
            let seconds = settings.open.as_secs_f64();
            tracing::warn!(group, seconds, "the breaker has opened: too many failures");
        }
        State::HalfOpen => {
            tracing::info!(group, trials = settings.trials, "the breaker lets trials in");
        }
        State::Closed => tracing::info!(group, "the breaker has closed: all trials went well"),
    }
}

fn judge_target(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    place: usize,
    settings: &OutlierSettings,
    outcome: Outcome,
    now: Tick,
) {
    let trace = &mut x.scratch.trace;
    let took = trace.answered.zip(trace.sent).map(|(a, s)| a.since(s)).unwrap_or_default();
    let asked = trace.retry_after.take().filter(|asked| !asked.is_zero());
    watch(x.shard, group, place, settings, outcome, took, now);
    if let Some((asked, most)) = asked.zip(settings.retry_after) {
        eject(x.shard, group, place, settings, (Reason::RetryAfter, Some(asked.min(most))), now);
    }
}

/// A connection that is relayed was opened to a target, or could not be: of what goes over it nothing is known.
pub fn dialled(
    shard: &Shard,
    group: &GroupCore,
    place: usize,
    took: Duration,
    fault: Option<Fault>,
) {
    if let Some(settings) = group.group.traffic.outlier.as_deref() {
        let outcome = settings.blame.judge(fault, 0);
        watch(shard, group, place, settings, outcome, took, Tick::now());
    }
}

fn watch(
    shard: &Shard,
    group: &GroupCore,
    place: usize,
    settings: &OutlierSettings,
    outcome: Outcome,
    took: Duration,
    now: Tick,
) {
    let Some(target) = group.targets.get(place) else { return };
    let watch = &target.live.guard.watch;
    let (worker, workers) = (shard.worker, group.group.live.line.workers);
    match outcome {
        Outcome::Good => watch.good(worker, workers, took),
        Outcome::Bad(_) => {
            let streak = watch.bad(worker, workers);
            // Where it was one too many to be taken out, it is looked at again after as many more.
            if settings.consecutive.is_some_and(|most| streak.is_multiple_of(most.max(1))) {
                eject(shard, group, place, settings, (Reason::Consecutive, None), now);
            }
        }
        Outcome::Silent => {}
    }
}

fn eject(
    shard: &Shard,
    group: &GroupCore,
    place: usize,
    settings: &OutlierSettings,
    (reason, lasts): (Reason, Option<Duration>),
    now: Tick,
) {
    let group = &group.group;
    let lasts = shard.with_rng(|rng| group.eject(settings, place, reason, lasts, now, rng));
    let (Some(lasts), Some(target)) = (lasts, group.targets.get(place)) else { return };
    tracing::warn!(
        group = &*group.name,
        target = &*target.live.name,
        reason = reason.code(),
        seconds = lasts.as_secs_f64(),
        "target taken out: {}",
        reason.sentence()
    );
}

// When a target that answers 429 or 503 wants to be asked again (RFC 9110 section 10.2.3).
fn note_retry_after(x: &mut Exchange<'_>, head: &[u8]) {
    let value = x.scratch.response.view(head).first("retry-after");
    let text = value.and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    x.scratch.trace.retry_after = text.and_then(|text| {
        if let Ok(seconds) = text.parse::<u32>() {
            return Some(Duration::from_secs(seconds.into()));
        }
        let at = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH);
        Some(Duration::from_secs(at.ok()?.as_secs().saturating_sub(x.shard.unix())))
    });
}
