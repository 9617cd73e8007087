//! Mirrors, injected faults and answers made of parts: what they count, and the differences that are kept to be looked at.
//!
//! Carried over reloads by the rule's name. Written by workers as they go, read by control; no worker waits for another. Called by
//! `proxy::mirror`, `proxy::inject` and `proxy::aggregate`.

use crate::base::meters::Meters;
use crate::fanout::compare::{Difference, Kind, Outcome, Reason};
use crate::fanout::{InjectSettings, MirrorSettings};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A rule's mirror.
#[derive(Debug)]
pub struct Mirror {
    /// As written.
    pub settings: MirrorSettings,
    /// Index into the snapshot's groups.
    pub group: usize,
    /// What it has counted.
    pub live: Arc<MirrorLive>,
}

/// What a rule makes go wrong.
#[derive(Debug)]
pub struct Inject {
    /// As written.
    pub settings: InjectSettings,
    /// What it has counted.
    pub live: Arc<InjectLive>,
}

/// What has become of a request that was to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// Its copy was answered.
    Answered,
    /// Its copy was not, or not whole, or not in time.
    Failed,
    /// It was not copied: too many are on their way.
    NoRoom,
    /// It was not copied: its body is too large, or was not here.
    Body,
}

impl Copied {
    /// All of them, in the order of their definition.
    pub const ALL: [Copied; 4] = [Copied::Answered, Copied::Failed, Copied::NoRoom, Copied::Body];

    /// As metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Copied::Answered => "answered",
            Copied::Failed => "failed",
            Copied::NoRoom => "no_room",
            Copied::Body => "body",
        }
    }
}

/// Two answers that differ.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When, in microseconds since 1970.
    pub wall_micros: u64,
    /// The request's id.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its path without its query.
    pub path: String,
    /// The statuses: of the real answer, of the other.
    pub status: [u16; 2],
    /// How long either took to begin.
    pub latency: [Duration; 2],
    /// What they differ in.
    pub differences: Vec<Difference>,
}

/// What a mirror has counted.
#[derive(Debug)]
pub struct MirrorLive {
    copied: [AtomicU64; Copied::ALL.len()],
    equal: AtomicU64,
    different: AtomicU64,
    kinds: [AtomicU64; Kind::ALL.len()],
    skipped: [AtomicU64; Reason::ALL.len()],
    /// How long real answers took to begin. Only the histogram is used.
    pub real: Meters,
    /// How long those to copies took.
    pub other: Meters,
    samples: ArcSwap<Vec<Arc<Sample>>>,
}

impl MirrorLive {
    pub(super) fn new(workers: usize) -> Arc<MirrorLive> {
        Arc::new(MirrorLive {
            copied: Default::default(),
            equal: AtomicU64::default(),
            different: AtomicU64::default(),
            kinds: Default::default(),
            skipped: Default::default(),
            real: Meters::new(workers),
            other: Meters::new(workers),
            samples: ArcSwap::default(),
        })
    }

    /// Counts what has become of a request.
    pub fn copied(&self, what: Copied) {
        add(&self.copied, what as usize);
    }

    /// Counts what a comparison has come to.
    pub fn compared(&self, outcome: &Outcome) {
        for kind in Kind::ALL {
            if outcome.differences.iter().any(|difference| difference.kind == kind) {
                add(&self.kinds, kind as usize);
            }
        }
        if !outcome.differences.is_empty() {
            self.different.fetch_add(1, Ordering::Relaxed);
        } else if let Some(reason) = outcome.skipped {
            add(&self.skipped, reason as usize);
        } else {
            self.equal.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps a sample; of more than `most` the oldest goes.
    pub fn keep(&self, sample: Sample, most: usize) {
        let sample = Arc::new(sample);
        self.samples.rcu(|samples| {
            let old = samples.len().saturating_sub(most.saturating_sub(1));
            let kept = samples.iter().skip(old).map(Arc::clone);
            kept.chain([Arc::clone(&sample)]).take(most).collect::<Vec<_>>()
        });
    }

    /// All of it, as it is now.
    pub fn sum(&self) -> MirrorTotals {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let named = |names: &[&'static str], counts: &[AtomicU64]| {
            names.iter().copied().zip(counts.iter().map(value)).collect::<Vec<_>>()
        };
        MirrorTotals {
            copied: named(&Copied::ALL.map(Copied::name), &self.copied),
            equal: value(&self.equal),
            different: value(&self.different),
            kinds: named(&Kind::ALL.map(Kind::name), &self.kinds),
            skipped: named(&Reason::ALL.map(Reason::name), &self.skipped),
            real: self.real.sum(),
            other: self.other.sum(),
            samples: self.samples.load().iter().map(Arc::clone).collect(),
        }
    }
}

fn add(counts: &[AtomicU64], at: usize) {
    if let Some(count) = counts.get(at) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a mirror has counted, all workers together.
#[derive(Clone, Debug, Default)]
pub struct MirrorTotals {
    /// Requests that were to be copied, by what has become of them.
    pub copied: Vec<(&'static str, u64)>,
    /// Pairs of answers that were the same.
    pub equal: u64,
    /// Pairs that were not.
    pub different: u64,
    /// These by what they differ in; a pair may differ in several.
    pub kinds: Vec<(&'static str, u64)>,
    /// Pairs that were not compared, or not whole, by why.
    pub skipped: Vec<(&'static str, u64)>,
    /// How long real answers took to begin.
    pub real: crate::base::meters::Totals,
    /// How long those to copies took.
    pub other: crate::base::meters::Totals,
    /// The last pairs that differ, oldest first.
    pub samples: Vec<Arc<Sample>>,
}

/// What a rule's faults have counted.
#[derive(Debug, Default)]
pub struct InjectLive {
    /// Requests that were held back.
    pub delayed: AtomicU64,
    /// Requests that ended with a status.
    pub aborted: AtomicU64,
    /// Requests whose connection was reset.
    pub reset: AtomicU64,
}

/// What an answer made of parts has counted.
#[derive(Debug, Default)]
pub struct AggregateLive {
    /// Answers with every part.
    pub whole: AtomicU64,
    /// Answers without some of them.
    pub partial: AtomicU64,
    /// Requests that got none, since a part had failed.
    pub failed: AtomicU64,
    /// How often each part was missing in an answer, or why there was none; in the order of the file.
    pub missing: Box<[AtomicU64]>,
}

impl AggregateLive {
    pub(super) fn new(parts: usize) -> Arc<AggregateLive> {
        let missing = (0..parts).map(|_| AtomicU64::default()).collect();
        Arc::new(AggregateLive { missing, ..AggregateLive::default() })
    }

    /// Counts that a part was missing.
    pub fn missed(&self, part: usize) {
        add(&self.missing, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: usize) -> Sample {
        Sample {
            wall_micros: 0,
            request_id: id.to_string(),
            method: String::new(),
            path: String::new(),
            status: [200, 200],
            latency: [Duration::ZERO; 2],
            differences: Vec::new(),
        }
    }

    #[test]
    fn the_last_samples_are_kept_and_no_more() {
        let live = MirrorLive::new(1);
        let ids = || live.sum().samples.iter().map(|s| s.request_id.clone()).collect::<Vec<_>>();
        for id in 0..5 {
            live.keep(sample(id), 3);
        }
        assert_eq!(ids(), ["2", "3", "4"]);
        live.keep(sample(5), 1);
        assert_eq!(ids(), ["5"]);
        live.keep(sample(6), 0);
        assert!(ids().is_empty());
    }

    #[test]
    fn a_pair_is_counted_once_and_its_kinds_each() {
        let live = MirrorLive::new(1);
        let of = |kind| Difference { kind, at: String::new(), excerpts: [None, None] };
        let both = vec![of(Kind::Status), of(Kind::Body), of(Kind::Body)];
        live.compared(&Outcome { differences: both, skipped: None });
        live.compared(&Outcome {
            differences: vec![of(Kind::Status)],
            skipped: Some(Reason::Coded),
        });
        live.compared(&Outcome { differences: Vec::new(), skipped: Some(Reason::Coded) });
        live.compared(&Outcome { differences: Vec::new(), skipped: None });
        let sum = live.sum();
        assert_eq!((sum.equal, sum.different), (1, 2));
        assert_eq!(sum.kinds, [("status", 2), ("header", 0), ("body", 1)]);
        assert_eq!(sum.skipped.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>(), [&("coded", 1)]);
    }
}
