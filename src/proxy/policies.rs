//! The policy stage of a request: the listener's policies, then the rule's, in the order written.
//!
//! [`run`] is all of it for a request on which policies can decide at once, without a wait; what takes time (a body, a question to
//! control, a place in a queue) goes through [`slow`]. What policies decide by stands in `crate::policy`. Called by `exchange`,
//! and by those who write heads, for what policies change in them.

use crate::base::Tick;
use crate::http::request::is_token;
use crate::http::{Fault, Framing, Method, write};
use crate::net::{Side, Waited};
use crate::policy::{Answer, Consumed, Findings, Question, Reply, Subject, Verdict};
use crate::proxy::{Exchange, coding, collect, reply};
use crate::shard::Scratch;
use crate::shard::asks::LONGEST;
use crate::shard::epoch::PolicyCore;
use crate::snapshot::{Chain, FixedResponse, Rule, Snapshot};
use crate::transform::compress::Flaw;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Where among its policies a request is.
#[derive(Debug, Default)]
pub struct Cursor {
    // Counts policies of the listener, then of the rule.
    next: usize,
    // How often the policy at `next` has asked control for this request.
    rounds: u32,
    // The body was collected.
    body: bool,
    // What its content codings hold, as soon as a policy must read that.
    content: Option<Result<Vec<u8>, Flaw>>,
    preflight: bool,
}

/// What there is to do.
#[derive(Debug)]
pub enum Step {
    /// The request may go on to its action.
    Pass,
    /// It ends here.
    Refuse(Fault),
    /// It ends here with the policy's answer.
    Answer(Box<Answer>),
    /// A policy must see the body, of at most so many octets.
    Body(u64),
    /// A policy must see what the content codings of the body hold, at most so many octets.
    Content(u64),
    /// A policy asks control.
    Ask(Box<Question>),
    /// It goes on then.
    Wait(Tick),
}

// A policy that asks for ever would hold its request for ever.
const MOST_ROUNDS: u32 = 4;

/// Whether the request meets any policy. `rule` is the one that has taken it.
#[inline]
pub fn any(x: &Exchange<'_>, rule: Option<&Rule>) -> bool {
    !x.listener.policies.is_empty() || rule.is_some_and(|rule| !rule.policies.is_empty())
}

/// Whether it is a preflight of CORS that a policy of the listener or of `rule` answers.
pub fn is_preflight(x: &Exchange<'_>, rule: Option<&Rule>) -> bool {
    x.scratch.request.method == Method::Options
        && (x.listener.policies.cors || rule.is_some_and(|rule| rule.policies.cors))
        && requested_method(x).is_some()
}

/// The method that a preflight asks for; `None` for any other request.
pub fn requested_method<'x>(x: &'x Exchange<'_>) -> Option<&'x [u8]> {
    if x.scratch.request.method != Method::Options {
        return None;
    }
    let fields = x.view().fields;
    fields.first("origin")?;
    fields.first("access-control-request-method").filter(|method| !method.is_empty())
}

/// Begins the walk along the policies.
pub fn begin(x: &mut Exchange<'_>, rule: Option<&Rule>) -> Cursor {
    Cursor { preflight: is_preflight(x, rule), ..Cursor::default() }
}

/// Walks on along the policies until all have let the request pass, or one of them has another idea. `reply` is for the policy at
/// which the walk has stopped.
pub fn run(
    x: &mut Exchange<'_>,
    rule: Option<&Rule>,
    cursor: &mut Cursor,
    mut reply: Option<Reply>,
) -> Step {
    let epoch = x.epoch;
    let client = x.client_ip();
    let (now, unix) = (Tick::now(), x.shard.unix());
    let chains = [Some(&x.listener.policies), rule.map(|rule| &rule.policies)];
    let indices = chains.into_iter().flatten().flat_map(|chain| &chain.policies);
    let mut ended = None;
    for at in indices.skip(cursor.next) {
        let Some(core) = epoch.policies.get(*at) else {
            return Step::Refuse(Fault::PolicyUnavailable);
        };
        // It is decided; what is left are fields of the answer, which a page could not read without.
        if ended.is_some() && (cursor.preflight || !core.policy.kind.dresses()) {
            continue;
        }
        if cursor.preflight && core.policy.kind.identifies() {
            cursor.next += 1;
            continue;
        }
        let scheme = x.client.scheme();
        let port = x.scratch.request.port.unwrap_or(x.client.port);
        let body = cursor.body.then(|| x.body_here());
        let buf = x.buf.filled();
        // A body lies in the exchange's buffer, what was found in its scratch: they do not meet.
        let body = body.map(<[u8]>::len).map(|len| {
            let behind = buf.get(x.scratch.request.len..).unwrap_or_default();
            behind.get(..len).unwrap_or_default()
        });
        let decoded = match &cursor.content {
            Some(Ok(content)) if core.policy.kind.reads_content() => Some(&**content),
            _ => None,
        };
        let Scratch { request, findings, trace, .. } = &mut *x.scratch;
        let announced = match request.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let subject = Subject {
            view: request.view(buf, x.client.peer.ip()),
            client,
            scheme,
            port,
            listener: &x.listener.name,
            rule: rule.map_or("", |rule| &rule.name),
            tls: x.client.tls.as_deref(),
            body: decoded.or(body),
            decoded: decoded.is_some(),
            preflight: cursor.preflight,
            now,
            unix,
        };
        if body.is_none()
            && let Some(limit) = core.policy.kind.body_limit(&subject)
        {
            if !core.policy.dry_run || announced.is_some_and(|length| length <= limit) {
                return Step::Body(limit);
            }
            // Who only counts must not end the request: what may become too large is not collected.
            if announced.is_some() {
                findings.dry.push((*at, Fault::BodyTooLarge));
            }
            cursor.next += 1;
            continue;
        }
        if body.is_some_and(|body| !body.is_empty())
            && cursor.content.is_none()
            && core.policy.kind.reads_content()
            && subject.view.fields.first("content-encoding").is_some()
            && let Some(limit) = core.policy.kind.body_limit(&subject)
        {
            return Step::Content(limit);
        }
        let swollen = matches!(cursor.content, Some(Err(Flaw::TooLarge)));
        let verdict = match swollen && core.policy.kind.reads_content() {
            true if core.policy.dry_run => {
                findings.dry.push((*at, Fault::BodyTooLarge));
                Verdict::Pass
            }
            true => Verdict::Refuse(Fault::BodyTooLarge),
            false => decide(core, *at, &subject, findings, reply.take()),
        };
        if ended.is_some() {
            continue;
        }
        count(core, x.shard.worker, &verdict);
        match verdict {
            Verdict::Pass => {}
            Verdict::Refuse(fault) => {
                trace.policy = Some(*at);
                ended = Some(Step::Refuse(fault));
                continue;
            }
            Verdict::Answer(answer) => {
                trace.policy = Some(*at);
                ended = Some(Step::Answer(answer));
                continue;
            }
            Verdict::Ask(question) => {
                cursor.rounds += 1;
                if cursor.rounds <= MOST_ROUNDS {
                    return Step::Ask(question);
                }
                if !core.policy.dry_run {
                    trace.policy = Some(*at);
                    return Step::Refuse(Fault::PolicyUnavailable);
                }
                findings.dry.push((*at, Fault::PolicyUnavailable));
            }
            Verdict::Wait(until) => {
                (cursor.next, cursor.rounds) = (cursor.next + 1, 0);
                return Step::Wait(until);
            }
        }
        (cursor.next, cursor.rounds) = (cursor.next + 1, 0);
    }
    if let Some(step) = ended {
        return step;
    }
    // Policies that ask who the sender is have not been asked: nothing but an answer may come of it (hazard AUTH-12).
    if cursor.preflight { Step::Refuse(Fault::OriginNotAllowed) } else { Step::Pass }
}

// What one policy says. One that only counts leaves nothing behind but who the sender is.
fn decide(
    core: &PolicyCore,
    at: usize,
    subject: &Subject<'_>,
    findings: &mut Findings,
    reply: Option<Reply>,
) -> Verdict {
    let policy = &core.policy;
    if !policy.dry_run {
        return policy.kind.check(&core.core, subject, findings, reply);
    }
    let (upstream, response) = (findings.upstream.len(), findings.response.len());
    let detail = findings.detail.len();
    let verdict = policy.kind.check(&core.core, subject, findings, reply);
    findings.upstream.truncate(upstream);
    findings.response.truncate(response);
    findings.detail.truncate(detail);
    let fault = match verdict {
        Verdict::Ask(question) => return Verdict::Ask(question),
        Verdict::Pass | Verdict::Wait(_) => return Verdict::Pass,
        Verdict::Refuse(fault) => fault,
        Verdict::Answer(answer) if answer.status < 300 => return Verdict::Pass,
        Verdict::Answer(_) => Fault::LoginRequired,
    };
    findings.dry.push((at, fault));
    Verdict::Pass
}

fn count(core: &PolicyCore, worker: usize, verdict: &Verdict) {
    let Some(cell) = core.policy.meters.cell(worker) else { return };
    match verdict {
        Verdict::Pass => cell.passed.add(1),
        Verdict::Refuse(fault) => cell.refuse(*fault, false),
        Verdict::Answer(_) => cell.answered.add(1),
        Verdict::Wait(_) => cell.delayed.add(1),
        Verdict::Ask(_) => {}
    }
}

/// Does what a policy has stopped for, and goes on, until the request may pass (`true`) or was answered.
///
/// # Errors
/// The policy's refusal, or what ended the request while it waited.
pub async fn slow(
    x: &mut Exchange<'_>,
    rule: Option<&Rule>,
    mut cursor: Cursor,
    mut step: Step,
) -> Result<bool, Fault> {
    loop {
        let reply = match step {
            Step::Pass => return Ok(true),
            Step::Refuse(fault) => return Err(fault),
            Step::Answer(answer) => return send(x, *answer).await.map(|()| false),
            Step::Body(limit) => {
                collect::body(x, limit).await?;
                cursor.body = true;
                None
            }
            Step::Content(limit) => {
                cursor.content = Some(coding::content(x, limit).await);
                None
            }
            Step::Ask(question) => Some(ask(x, question).await?),
            Step::Wait(until) => {
                wait(x, until).await?;
                None
            }
        };
        step = run(x, rule, &mut cursor, reply);
    }
}

async fn send(x: &mut Exchange<'_>, answer: Answer) -> Result<(), Fault> {
    let Answer { status, fields, body } = answer;
    x.scratch.trace.action = "policy";
    reply::fixed(x, &FixedResponse { status, fields, body }).await
}

/// What the client is told instead of the usual problem, where a policy has refused and its `answer` says so: the status, and
/// the fields and the body where they differ, too.
pub fn answer_of(
    snapshot: &Snapshot,
    policy: Option<usize>,
    fault: Fault,
) -> (u16, Option<&Answer>) {
    let of_policy = policy.and_then(|at| snapshot.policies.get(at));
    let told = of_policy.filter(|_| fault.policy_index().is_some()).and_then(|p| p.answer.as_ref());
    match told {
        Some(told) => (told.status.unwrap_or(fault.status()), told.body.as_ref()),
        None => (fault.status(), None),
    }
}

/// Whether a policy that every request to this rule has to pass asks who sends it.
pub fn identify(x: &Exchange<'_>) -> bool {
    let snapshot = &x.epoch.snapshot;
    let rule = x.scratch.trace.rule.and_then(|at| snapshot.rules.get(at));
    let chains = [Some(&x.listener.policies), rule.map(|rule| &rule.policies)];
    let mut policies = chains.into_iter().flatten().flat_map(|chain| &chain.policies);
    policies.any(|at| {
        let policy = snapshot.policies.get(*at);
        policy.is_some_and(|policy| !policy.dry_run && policy.kind.identifies())
    })
}

/// What the policies that a request has met change in heads. Looked up once a head, since most requests meet none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chains<'c> {
    chains: [Option<&'c Chain>; 2],
    owned: &'c [Box<str>],
}

impl<'c> Chains<'c> {
    /// The chains of the request.
    #[inline]
    pub fn of(x: &Exchange<'c>) -> Chains<'c> {
        let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
        let chains = [Some(&x.listener.policies), rule.map(|rule| &rule.policies)];
        let chains = chains.map(|chain| chain.filter(|chain| !chain.is_empty()));
        Chains { chains, owned: &x.epoch.snapshot.owned }
    }

    /// Whether a field of the client's is not sent on: only ringgate may say it, or only ringgate may read it.
    #[inline]
    pub fn hold_back(&self, name: &[u8], value: &[u8]) -> bool {
        let is = |held: &str| held.as_bytes().eq_ignore_ascii_case(name);
        let consumes = |one: &Consumed| match one {
            Consumed::Field(held) => is(held),
            Consumed::Scheme { name, scheme } => is(name) && !is_of_another(value, scheme),
            _ => false,
        };
        self.owned.iter().any(|held| is(held))
            || self.each().any(|chain| chain.consumes.iter().any(consumes))
    }

    /// Whether a field of the target's is not passed on.
    #[inline]
    pub fn replace(&self, name: &[u8]) -> bool {
        let is = |held: &str| held.as_bytes().eq_ignore_ascii_case(name);
        self.each().any(|chain| chain.replaces.iter().any(|held| is(held)))
    }

    /// Appends the fields that a response gets where it has none of that name; a rule's before its listener's.
    #[inline]
    pub fn defaults(&self, out: &mut Vec<u8>) {
        for (name, value) in self.each().rev().flat_map(|chain| &chain.defaults) {
            write::field_unless_given(out, name.as_bytes(), value);
        }
    }

    /// Whether any cookie may have to be held back.
    pub fn read_cookies(&self) -> bool {
        let cookies =
            |one: &Consumed| matches!(one, Consumed::Cookie(_) | Consumed::CookiePrefix(_));
        self.each().any(|chain| chain.consumes.iter().any(cookies))
    }

    /// Appends the client's cookies but those that are for policies alone, or that are `held` by others; nothing where none is left.
    pub fn cookie_field(&self, value: &[u8], held: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
        let kept = value.split(|b| *b == b';').filter(|pair| {
            let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
            !held(name) && !self.each().any(|chain| holds_back_cookie(chain, name))
        });
        let mut any = false;
        for pair in kept.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            out.extend_from_slice(if any { b"; " } else { b"cookie: " });
            out.extend_from_slice(pair);
            any = true;
        }
        if any {
            out.extend_from_slice(b"\r\n");
        }
    }

    fn each(self) -> impl DoubleEndedIterator<Item = &'c Chain> {
        self.chains.into_iter().flatten()
    }
}

fn holds_back_cookie(chain: &Chain, name: &[u8]) -> bool {
    chain.consumes.iter().any(|one| match one {
        Consumed::Cookie(held) => held.as_bytes() == name,
        Consumed::CookiePrefix(prefix) => name.starts_with(prefix.as_bytes()),
        _ => false,
    })
}

// Whether credentials are plainly of another scheme (RFC 9110 section 11.4): what somebody could take for this one is not.
fn is_of_another(value: &[u8], scheme: &str) -> bool {
    let Some(end) = memchr::memchr(b' ', value) else { return false };
    let named = value.get(..end).unwrap_or_default();
    is_token(named) && !named.eq_ignore_ascii_case(scheme.as_bytes())
}

/// Takes parameters that are for policies alone out of the query, so that neither targets nor logs see them. The request's
/// head in the buffer is changed: whoever reads it afterwards reads it without them.
pub fn hide_parameters(x: &mut Exchange<'_>) {
    let chains = Chains::of(x);
    take_out(x, || chains.each().flat_map(|chain| &chain.consumes));
}

/// Takes parameters that are nothing for logs out of the query of a request that is over: what targets were sent, and what
/// was not looked at since the request has ended before (hazard AUTH-14).
pub fn hide_from_logs(x: &mut Exchange<'_>) {
    if x.scratch.request.query.is_none() {
        return;
    }
    let chains = Chains::of(x);
    let epoch = x.epoch;
    // It may have been meant for any of them.
    let all = if x.scratch.trace.rule.is_none() { epoch.snapshot.hides.as_slice() } else { &[] };
    take_out(x, || chains.each().flat_map(|chain| &chain.hides).chain(all));
}

fn take_out<'c, I: Iterator<Item = &'c Consumed>>(x: &mut Exchange<'_>, listed: impl Fn() -> I) {
    let here = x.view().path;
    let holds_back = |pair: &&[u8]| {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
        let is = |one: &Consumed| match one {
            Consumed::Query(held) => is_named(name, held),
            Consumed::QueryOf { path, name: held } => {
                path.as_bytes() == here && is_named(name, held)
            }
            _ => false,
        };
        listed().any(is)
    };
    let Some(query) = x.scratch.request.query else { return };
    let octets = query.of(x.buf.filled());
    let pairs = || octets.split(|b| *b == b'&');
    // Most requests have none of them: nothing is allocated for those.
    if !pairs().any(|pair| holds_back(&pair)) {
        return;
    }
    let kept = pairs().filter(|pair| !holds_back(pair)).collect::<Vec<_>>().join(&b'&');
    x.scratch.request.replace_query(x.buf.filled_mut(), &kept);
}

/// Whether a name as it is written in a query, percent-encoded perhaps, is `name`.
fn is_named(written: &[u8], name: &str) -> bool {
    written == name.as_bytes()
        || percent_encoding::percent_decode(written).eq(name.as_bytes().iter().copied())
}

/// Waits, unless the client goes away.
///
/// # Errors
/// [`Fault::ClientGone`]
pub async fn wait(x: &Exchange<'_>, until: Tick) -> Result<(), Fault> {
    let slot = x.client.sock.slot();
    let waited = x.shard.delays.until(until, &slot).await;
    x.client.sock.arm(Side::Read, Tick::NEVER);
    match waited {
        Waited::Due if !x.client.sock.is_gone() => Ok(()),
        Waited::Due | Waited::Cut => Err(Fault::ClientGone),
    }
}

// Whoever waits for a reply can be cut off as one who waits for its time.
async fn ask(x: &Exchange<'_>, question: Box<Question>) -> Result<Reply, Fault> {
    let now = Tick::now();
    let mut asked = pin!(x.shard.asks.ask(question, now));
    let mut waited = pin!(wait(x, now.after(LONGEST)));
    poll_fn(|context| {
        if let Poll::Ready(reply) = asked.as_mut().poll(context) {
            return Poll::Ready(Ok(reply));
        }
        let late = || Reply::Failed(Arc::from("no reply in time"));
        waited.as_mut().poll(context).map(|waited| waited.map(|()| late()))
    })
    .await
    .inspect(|_| x.client.sock.arm(Side::Read, Tick::NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_token_is_held_back_and_other_credentials_are_not() {
        let scheme = |name: &str| Consumed::Scheme { name: name.into(), scheme: "Bearer".into() };
        let chain = Chain {
            consumes: vec![scheme("authorization"), Consumed::Field("x-token".into())],
            ..Chain::default()
        };
        let owned = ["x-user".into()];
        let chains = Chains { chains: [None, Some(&chain)], owned: &owned };
        for (name, value, expected) in [
            ("X-USER", "", true),
            ("x-users", "", false),
            ("x-Token", "Basic x", true),
            ("Authorization", "Basic eDp5", false),
            ("Authorization", "Digest username=\"x\", realm=\"y\"", false),
            ("Authorization", "Bearer x", true),
            ("Authorization", "bEARER  x", true),
            ("Authorization", "Bearer", true),
            ("Authorization", "Bearer\tx", true),
            ("Authorization", "Bearer\tx y", true),
            ("Authorization", "Bearer, x", true),
            ("Authorization", " Bearer x", true),
            ("Authorization", "x.y.z", true),
            ("Authorization", "", true),
        ] {
            assert_eq!(chains.hold_back(name.as_bytes(), value.as_bytes()), expected, "{value}");
        }
    }
}
