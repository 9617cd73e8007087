//! Which group takes a request, and which target it should go to: weights, canaries, and whom a client stays with.
//!
//! What cookies say and what is believed of them is decided in `sticky`. A client is told to stay when somebody has answered it: with
//! whom that was, after however many attempts. What ringgate sends by itself goes where its client would, and tells nobody anything.
//! Called by `exchange`, `forward`, `receive`, and by `upstream_head` for what only ringgate reads.

use crate::http::write;
use crate::proxy::exchange::Way;
use crate::proxy::{Exchange, policies};
use crate::shard::epoch::GroupCore;
use crate::snapshot::Rule;
use crate::sticky::canary::Decided;
use crate::sticky::{Canary, Cookie, GroupStick, Outcome, TargetStick, Token};

/// The group that takes the request, as an index into the snapshot's; `None` where no group has weight.
#[inline]
pub fn group(x: &mut Exchange<'_>, way: &Way<'_>) -> Option<usize> {
    match way.rule {
        Some(rule) if rule.traffic.steered => steered(x, way, rule),
        _ => way.groups.get(by_weight(x, way)?).copied(),
    }
}

fn by_weight(x: &Exchange<'_>, way: &Way<'_>) -> Option<usize> {
    match way.groups {
        [_] => Some(0),
        _ => x.shard.with_rng(|rng| way.weights.pick(rng)),
    }
}

#[inline(never)]
fn steered(x: &mut Exchange<'_>, way: &Way<'_>, rule: &Rule) -> Option<usize> {
    if x.scratch.trace.steer.chosen.is_none() {
        x.scratch.trace.steer.chosen = chosen(x, way, rule);
    }
    x.scratch.trace.steer.chosen
}

fn chosen(x: &mut Exchange<'_>, way: &Way<'_>, rule: &Rule) -> Option<usize> {
    let traffic = &rule.traffic;
    if let Some(canary) = &traffic.canary
        && is_in(x, canary)
    {
        return Some(canary.group);
    }
    let at = match &traffic.sticky {
        Some(stick) => stays(x, way, stick)?,
        None => by_weight(x, way)?,
    };
    way.groups.get(at).copied()
}

fn is_in(x: &mut Exchange<'_>, canary: &Canary) -> bool {
    let decided = canary.decide(x.view().fields, || x.client_ip());
    let Some(cookie) = &canary.cookie else { return decided == Decided::In(true) };
    match decided {
        Decided::In(forced) => forced,
        // It has no cookies, and is for a request that has.
        Decided::ByCookie if is_preflight(x) => false,
        Decided::ByCookie => {
            let heard = read(x, cookie);
            let drawn = || x.shard.with_rng(|rng| rng.u64(..));
            let number = heard.map_or_else(drawn, |token| token.about);
            x.scratch.trace.steer.canary = Some((heard, number));
            canary.takes(number)
        }
    }
}

fn stays(x: &mut Exchange<'_>, way: &Way<'_>, stick: &GroupStick) -> Option<usize> {
    let heard = read(x, &stick.cookie);
    let kept = heard.and_then(|token| stick.place(token.about));
    let at = kept.or_else(|| by_weight(x, way))?;
    x.scratch.trace.steer.group = Some((heard, stick.about(at)?));
    Some(at)
}

/// The target that the client should stay with, as an index into the group's.
#[inline]
pub fn target(x: &mut Exchange<'_>, group: &GroupCore) -> Option<usize> {
    let stick = group.group.traffic.sticky.as_deref()?;
    let heard = hear(x, stick)?;
    group.stays(heard.about)
}

/// The target that was picked takes no more for now, so that another one gets the request. A client that stays with it goes on to.
#[cold]
pub fn was_full(x: &mut Exchange<'_>, group: &GroupCore, picked: usize) {
    if target(x, group) == Some(picked) {
        x.scratch.trace.steer.full = true;
    }
}

// What the client's cookie says of a target, read once.
fn hear(x: &mut Exchange<'_>, stick: &TargetStick) -> Option<Token> {
    if let Some(heard) = x.scratch.trace.steer.target {
        return heard;
    }
    let heard = {
        let memory = &mut *x.shard.sticky.borrow_mut();
        stick.hear(memory, x.view().fields, x.shard.unix())
    };
    x.scratch.trace.steer.target = Some(heard);
    heard
}

fn read(x: &Exchange<'_>, cookie: &Cookie) -> Option<Token> {
    let memory = &mut *x.shard.sticky.borrow_mut();
    cookie.read(memory, x.view().fields, x.shard.unix())
}

/// A target has answered: tells the client to stay with it, where it should. `head` is what was parsed.
#[inline]
pub fn settled(x: &mut Exchange<'_>, head: &[u8]) {
    let epoch = x.epoch;
    let rule = x.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
    let rule = rule.filter(|rule| rule.traffic.steered);
    let group = x.scratch.trace.group.and_then(|at| epoch.groups.get(at));
    let stick = group.and_then(|group| Some((group, group.group.traffic.sticky.as_deref()?)));
    if rule.is_some() || stick.is_some() {
        settle(x, head, rule, stick);
    }
}

#[inline(never)]
fn settle(
    x: &mut Exchange<'_>,
    head: &[u8],
    rule: Option<&Rule>,
    stick: Option<(&GroupCore, &TargetStick)>,
) {
    // Browsers keep nothing that comes with the answer to a preflight.
    if x.scratch.trace.inner || is_preflight(x) {
        return;
    }
    let mut told = Told::default();
    if let Some(traffic) = rule.map(|rule| &rule.traffic) {
        let canary = traffic.canary.as_ref().and_then(|canary| canary.cookie.as_ref());
        if let (Some(cookie), Some((heard, number))) = (canary, x.scratch.trace.steer.canary) {
            told.tell(x, cookie, heard, number);
        }
        if let (Some(stick), Some((heard, about))) = (&traffic.sticky, x.scratch.trace.steer.group)
        {
            let outcome = told.tell(x, &stick.cookie, heard, about);
            x.scratch.trace.steer.outcome = Some(outcome);
        }
    }
    if let Some((group, stick)) = stick
        && let Some(target) = x.scratch.trace.target.and_then(|at| group.targets.get(at))
    {
        let heard = hear(x, stick);
        let elsewhere = heard.is_some_and(|token| token.about != target.live.hash);
        let fields = x.scratch.response.view(head);
        let stays = elsewhere && x.scratch.trace.steer.full && !stick.begins_by_itself(fields);
        if !stays && (heard.is_some() || stick.begins(fields)) {
            let outcome = told.tell(x, &stick.cookie, heard, target.live.hash);
            x.scratch.trace.steer.outcome = Some(outcome);
        }
    }
    // A cache between here and the client would give one client's cookie to another.
    if told.uncached && !is_private(x, head) {
        write::field(&mut x.scratch.findings.response, b"cache-control", b"private");
    }
}

// What clients are told.
#[derive(Default)]
struct Told {
    // Something is, that shared caches must not have.
    uncached: bool,
}

impl Told {
    // Writes a cookie, where it says something new or is due.
    fn tell(
        &mut self,
        x: &mut Exchange<'_>,
        cookie: &Cookie,
        heard: Option<Token>,
        about: u64,
    ) -> Outcome {
        let now = x.shard.unix();
        let outcome = Outcome::of(heard, about);
        let due = heard.is_none_or(|token| cookie.is_due(token, now));
        if outcome != Outcome::Kept || due {
            let secure = x.came_by_tls();
            let written = cookie.write(&mut x.scratch.findings.response, about, now, secure);
            self.uncached |= written && cookie.nocache;
        }
        outcome
    }
}

fn is_private(x: &Exchange<'_>, head: &[u8]) -> bool {
    let directive = |one: &[u8]| {
        let one = one.trim_ascii();
        one.eq_ignore_ascii_case(b"private") || one.eq_ignore_ascii_case(b"no-store")
    };
    let fields = x.scratch.response.view(head);
    fields.all("cache-control").any(|value| value.split(|b| *b == b',').any(directive))
}

fn is_preflight(x: &Exchange<'_>) -> bool {
    policies::requested_method(x).is_some()
}

/// The cookies of a request that only ringgate reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'c>([Option<&'c Cookie>; 3]);

impl<'c> Held<'c> {
    /// Those of the request's rule and group.
    #[inline]
    pub fn of(x: &Exchange<'c>) -> Held<'c> {
        let (trace, epoch) = (&x.scratch.trace, x.epoch);
        let group = trace.group.and_then(|at| epoch.groups.get(at));
        let target = group.and_then(|group| group.group.traffic.sticky.as_deref());
        let rule = trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
        let traffic = rule.map(|rule| &rule.traffic).filter(|traffic| traffic.steered);
        let group = traffic.and_then(|traffic| traffic.sticky.as_deref());
        let canary = traffic.and_then(|traffic| traffic.canary.as_deref()?.cookie.as_ref());
        Held([target.map(|stick| &stick.cookie), group.map(|stick| &stick.cookie), canary])
    }

    /// Whether there is any.
    #[inline]
    pub fn any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// Whether a cookie of this name is one.
    #[inline]
    pub fn holds(&self, name: &[u8]) -> bool {
        self.0.iter().flatten().any(|cookie| cookie.is_named(name))
    }
}
