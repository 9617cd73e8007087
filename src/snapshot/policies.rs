//! Policies as run: compiled, listed by listeners and rules, counted; what a policy of the same name had learnt goes on.

use crate::base::meters::{Counter, SPARE};
use crate::config::{self, Config};
use crate::http::{Fault, write};
use crate::policy::{Answer, Consumed, Kind, Wrong};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::Context;
use crossbeam::utils::CachePadded;
use std::collections::HashMap;
use std::sync::Arc;

/// A policy as run.
#[derive(Debug)]
pub struct Policy {
    /// From the file.
    pub name: Arc<str>,
    /// What it decides.
    pub kind: Kind,
    /// Whether it only counts what it would refuse.
    pub dry_run: bool,
    /// What a client is told when it refuses, instead of the usual problem.
    pub answer: Option<PolicyAnswer>,
    /// What is counted.
    pub meters: Arc<PolicyMeters>,
    // What it was made of: a policy that a reload has left as it was is the same one.
    written: config::Policy,
}

/// What a client is told when a policy refuses.
#[derive(Debug)]
pub struct PolicyAnswer {
    /// Instead of the fault's own.
    pub status: Option<u16>,
    /// `Content-Type` and the body, where the usual problem is not wanted.
    pub body: Option<Answer>,
}

/// The policies of a listener or a rule, and what all of them together do to heads.
#[derive(Debug, Default)]
pub struct Chain {
    /// Indices into [`Snapshot::policies`], in the order in which they are applied.
    pub policies: Vec<usize>,
    /// What of a request is not sent on.
    pub consumes: Vec<Consumed>,
    /// Parameters of queries that are nothing for logs.
    pub hides: Vec<Consumed>,
    /// Fields (lower-case) of responses that targets cannot send to clients.
    pub replaces: Vec<Box<str>>,
    /// Fields (lower-case names) of responses that have none of that name.
    pub defaults: Vec<(Box<str>, Box<[u8]>)>,
    /// Whether one of them answers preflights.
    pub cors: bool,
}

impl Chain {
    /// Whether there is no policy.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The chain of the policies with these names.
    pub(super) fn new(names: &[String], policies: &[Arc<Policy>]) -> Chain {
        let mut chain = Chain::default();
        for name in names {
            let Some(at) = policies.iter().position(|p| *p.name == **name) else { continue };
            let Some(policy) = policies.get(at) else { continue };
            chain.policies.push(at);
            chain.hides.extend(policy.kind.hides());
            if !policy.dry_run {
                chain.consumes.extend(policy.kind.consumes());
                chain.replaces.extend(policy.kind.replaces());
                chain.defaults.extend(policy.kind.defaults());
                chain.cors |= matches!(policy.kind, Kind::Cors(_));
            }
        }
        chain
    }
}

/// Fields (lower-case) that only ringgate sends to targets. They hold for every rule: a target may be reached by one without
/// the policy, too, and would believe there what a client says. So do those of policies that only count.
pub fn owned(policies: &[Arc<Policy>]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = policies.iter().flat_map(|p| p.kind.owns()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What policies have decided, one padded cell a worker.
#[derive(Debug)]
pub struct PolicyMeters(Box<[CachePadded<PolicyCell>]>);

/// What one worker has counted for a policy.
#[derive(Debug)]
pub struct PolicyCell {
    /// Requests that passed.
    pub passed: Counter,
    /// Requests that it answered itself.
    pub answered: Counter,
    /// Requests that it delayed.
    pub delayed: Counter,
    refused: Box<[Counter]>,
    dry: Box<[Counter]>,
}

impl Default for PolicyCell {
    fn default() -> PolicyCell {
        let none = || Fault::of_policies().iter().map(|_| Counter::default()).collect();
        PolicyCell {
            passed: Counter::default(),
            answered: Counter::default(),
            delayed: Counter::default(),
            refused: none(),
            dry: none(),
        }
    }
}

impl PolicyCell {
    /// Counts a refusal, or one that there would have been.
    pub fn refuse(&self, fault: Fault, dry_run: bool) {
        let counters = if dry_run { &self.dry } else { &self.refused };
        // Other faults that end a request in a policy count as being unavailable.
        if let Some(counter) = counters.get(fault.policy_index().unwrap_or(0)) {
            counter.add(1);
        }
    }
}

/// What was decided, all workers together.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    /// Requests that passed.
    pub passed: u64,
    /// Requests that it answered itself.
    pub answered: u64,
    /// Requests that it delayed.
    pub delayed: u64,
    /// Requests that it refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Requests that it would have refused, by reason.
    pub dry: Vec<(&'static str, u64)>,
}

impl PolicyMeters {
    fn new(workers: usize) -> PolicyMeters {
        PolicyMeters((0..workers.max(1) + SPARE).map(|_| CachePadded::default()).collect())
    }

    /// The cell of one worker; `None` for a number beyond all.
    #[inline]
    pub fn cell(&self, worker: usize) -> Option<&PolicyCell> {
        self.0.get(worker).map(|cell| &**cell)
    }

    /// All workers together.
    pub fn sum(&self) -> Decisions {
        let all = |count: &dyn Fn(&PolicyCell) -> u64| self.0.iter().map(|c| count(c)).sum::<u64>();
        let by_reason = |of: &dyn Fn(&PolicyCell) -> &[Counter]| {
            let value = |cell: &PolicyCell, at: usize| of(cell).get(at).map_or(0, Counter::value);
            let reasons = Fault::of_policies().iter().enumerate();
            let counts = reasons.map(|(at, fault)| (fault.code(), all(&|c| value(c, at))));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        Decisions {
            passed: all(&|c| c.passed.value()),
            answered: all(&|c| c.answered.value()),
            delayed: all(&|c| c.delayed.value()),
            refused: by_reason(&|c| &c.refused),
            dry: by_reason(&|c| &c.dry),
        }
    }
}

/// Compiles the policies of a file.
///
/// # Errors
/// The first that cannot be, with the position it has in the file.
pub fn compile(config: &Config, context: Context<'_>) -> Result<Vec<Arc<Policy>>, (usize, Wrong)> {
    let old: HashMap<&str, &Arc<Policy>> = context
        .old
        .map(|old: &Snapshot| old.policies.iter().map(|p| (&*p.name, p)).collect())
        .unwrap_or_default();
    let policies = config.policies.iter().enumerate().map(|(at, written)| {
        let before = old.get(written.name.as_str()).copied();
        if let Some(before) = before.filter(|before| is_same(&before.written, written)) {
            return Ok(Arc::clone(before));
        }
        let files = |path: &std::path::Path| written.file(path);
        let kind = Kind::build(&written.settings, &files, before.map(|b| &b.kind));
        Ok(Arc::new(Policy {
            name: Arc::from(written.name.as_str()),
            kind: kind.map_err(|wrong| (at, wrong))?,
            dry_run: written.dry_run,
            answer: written.answer.as_ref().map(answer),
            meters: match before {
                Some(before) => Arc::clone(&before.meters),
                None => Arc::new(PolicyMeters::new(context.workers)),
            },
            written: written.clone(),
        }))
    });
    policies.collect()
}

/// The policy as compiled from the file, with the keys that control has fetched for the one that runs. What is counted is its own.
///
/// # Errors
/// What is wrong with it.
pub fn with_keys(policy: &Policy, running: &Policy) -> Result<Arc<Policy>, Wrong> {
    let written = &policy.written;
    let files = |path: &std::path::Path| written.file(path);
    Ok(Arc::new(Policy {
        name: Arc::clone(&policy.name),
        kind: Kind::build(&written.settings, &files, Some(&running.kind))?,
        dry_run: policy.dry_run,
        answer: written.answer.as_ref().map(answer),
        meters: Arc::clone(&policy.meters),
        written: written.clone(),
    }))
}

// Where it stands may have changed.
fn is_same(before: &config::Policy, now: &config::Policy) -> bool {
    before.settings == now.settings
        && before.octets == now.octets
        && (before.dry_run, &before.answer) == (now.dry_run, &now.answer)
}

fn answer(answer: &config::PolicyAnswer) -> PolicyAnswer {
    let body = answer.body.as_ref().map(|body| {
        let mut fields = Vec::new();
        let kind = answer.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
        write::built_field(&mut fields, b"content-type", kind.as_bytes());
        Answer { status: 0, fields, body: body.clone().into_bytes() }
    });
    PolicyAnswer { status: answer.status, body }
}
