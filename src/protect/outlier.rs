//! When a target is taken out for a while, since its answers are worse than they should be.
//!
//! Workers count failures in a row, which all of them see, and take a target out at once; control looks at shares and at
//! latencies over an interval ([`judge`]), and takes targets back. How long one stays out grows with how often it was. Nothing
//! here is logged or replanned: `snapshot::guard` acts on it.

use crate::base::meters::{Counter, SPARE};
use crate::base::{Rng, Tick};
use crate::protect::Blame;
use crossbeam::utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When a target is taken out for a while since its answers are bad.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierSettings {
    /// What counts as a failure.
    pub blame: Blame,
    /// Failures in a row; `None` for not looking at it.
    pub consecutive: Option<u32>,
    /// How long shares and latencies are gathered before they are looked at.
    pub interval: Duration,
    /// A target with fewer requests in an interval is not judged by it.
    pub requests: u32,
    /// Failures among its requests in ten-thousandths; `None` for not looking at it.
    pub failure_share: Option<u32>,
    /// Thousandths of a standard deviation that its share of good answers may lie below the mean of all; `None` for not looking
    /// at it.
    pub deviations: Option<u32>,
    /// So many targets must have enough requests for them to be compared.
    pub targets: u32,
    /// Thousandths of the others' median time to a response head; `None` for not looking at it.
    pub slower: Option<u32>,
    /// The first ejection; each further one takes longer by as much.
    pub ejection: Duration,
    /// The longest one.
    pub longest: Duration,
    /// Targets out at the same time in ten-thousandths of the group's; at least one.
    pub max_ejected: u32,
    /// Whether a target that says when to come again is left alone until then, and for how long at most.
    pub retry_after: Option<Duration>,
}

impl Default for OutlierSettings {
    fn default() -> OutlierSettings {
        OutlierSettings {
            blame: Blame::default(),
            consecutive: Some(5),
            interval: Duration::from_secs(10),
            requests: 50,
            failure_share: Some(5000),
            deviations: Some(1900),
            targets: 5,
            slower: None,
            ejection: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            max_ejected: 5000,
            retry_after: Some(Duration::from_secs(60)),
        }
    }
}

impl OutlierSettings {
    /// How long a target stays out that was out so many times lately: longer by as much each time, and by up to a tenth at
    /// random, so that those that went together do not come together.
    pub fn lasts(&self, times: u32, rng: &mut Rng) -> Duration {
        let lasts = self.ejection.saturating_mul(times.saturating_add(1)).min(self.longest);
        let tenth = u64::try_from(lasts.as_nanos() / 10).unwrap_or(u64::MAX);
        lasts.saturating_add(Duration::from_nanos(rng.u64(0..=tenth)))
    }

    /// How many of so many targets may be out at the same time: never all of them.
    pub fn most_of(&self, targets: usize) -> usize {
        let share = targets as u64 * u64::from(self.max_ejected) / 10_000;
        usize::try_from(share).unwrap_or(usize::MAX).max(1).min(targets.saturating_sub(1))
    }
}

/// Why a target was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has failed too often in a row.
    Consecutive,
    /// Too many of its answers were failures.
    FailureShare,
    /// Fewer of its answers were good than those of the others.
    SuccessRate,
    /// It takes much longer than the others.
    Slow,
    /// It has said when to come again.
    RetryAfter,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 5] = [
        Reason::Consecutive,
        Reason::FailureShare,
        Reason::SuccessRate,
        Reason::Slow,
        Reason::RetryAfter,
    ];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Consecutive => "consecutive_failures",
            Reason::FailureShare => "failure_share",
            Reason::SuccessRate => "success_rate",
            Reason::Slow => "slow",
            Reason::RetryAfter => "retry_after",
        }
    }

    /// One plain sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Consecutive => "It failed several times in a row.",
            Reason::FailureShare => "Too many of its answers were failures.",
            Reason::SuccessRate => "Fewer of its answers were good than those of the others.",
            Reason::Slow => "It takes much longer than the others.",
            Reason::RetryAfter => "It said when to come again.",
        }
    }
}

/// What one worker has seen of a target.
#[derive(Debug, Default)]
pub struct Tally {
    good: Counter,
    bad: Counter,
    // Of good answers: from the request's last octet to the response head.
    micros: Counter,
}

/// How a target has answered lately, as all workers see it.
#[derive(Debug, Default)]
pub struct Watch {
    streak: AtomicU32,
    // Until when it is out, in nanoseconds of a tick; 0 for not.
    until: AtomicU64,
    since: AtomicU64,
    reason: AtomicU8,
    // Times that it was out lately.
    times: AtomicU32,
    counts: [AtomicU64; Reason::ALL.len()],
    // Made when first needed: most targets are not watched.
    tallies: OnceLock<Box<[CachePadded<Tally>]>>,
}

/// What is known of a target that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Tick,
    /// Until when.
    pub until: Tick,
}

/// What a target was seen doing in an interval, all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Good answers.
    pub good: u64,
    /// Failures.
    pub bad: u64,
    /// What good answers took, all together, in microseconds.
    pub micros: u64,
}

impl Watch {
    /// A good answer. A success ends a row of failures; where there is none, nothing that others read is written.
    #[inline]
    pub fn good(&self, worker: usize, workers: usize, took: Duration) {
        if self.streak.load(Relaxed) != 0 {
            self.streak.store(0, Relaxed);
        }
        if let Some(tally) = self.tally(worker, workers) {
            tally.good.add(1);
            tally.micros.add(u64::try_from(took.as_micros()).unwrap_or(0));
        }
    }

    /// A failure; how many there were in a row.
    pub fn bad(&self, worker: usize, workers: usize) -> u32 {
        if let Some(tally) = self.tally(worker, workers) {
            tally.bad.add(1);
        }
        self.streak.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Whether it is out.
    #[inline]
    pub fn is_out(&self) -> bool {
        self.until.load(Relaxed) != 0
    }

    /// What is known of it while it is out.
    pub fn out(&self) -> Option<Out> {
        let until = self.until.load(Relaxed);
        let reason = Reason::ALL.get(usize::from(self.reason.load(Relaxed))).copied();
        (until != 0).then(|| Out {
            reason: reason.unwrap_or(Reason::Consecutive),
            since: Tick::from_nanos(self.since.load(Relaxed)),
            until: Tick::from_nanos(until),
        })
    }

    /// Takes it out; false where it is out already.
    pub fn eject(&self, reason: Reason, now: Tick, until: Tick) -> bool {
        let until = until.nanos().max(1);
        if self.until.compare_exchange(0, until, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.since.store(now.nanos(), Relaxed);
        self.reason.store(reason as u8, Relaxed);
        true
    }

    /// Counts an ejection that has become one. A target that only asked for a pause is not out longer the next time.
    pub fn count(&self, reason: Reason) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Relaxed);
        }
        if reason != Reason::RetryAfter {
            self.times.fetch_add(1, Relaxed);
        }
    }

    /// Takes it back. With `trusted_after` failures in a row being too many, one more is, until it has answered well.
    pub fn restore(&self, trusted_after: Option<u32>) {
        let streak = trusted_after.map_or(0, |n| n.saturating_sub(1));
        self.streak.store(streak, Relaxed);
        self.until.store(0, Relaxed);
    }

    /// Takes back an ejection that was one too many, as if it had not been.
    pub fn undo(&self) {
        self.until.store(0, Relaxed);
    }

    /// Times that it was out lately.
    pub fn times(&self) -> u32 {
        self.times.load(Relaxed)
    }

    /// It has been in for an interval: the next ejection is shorter.
    pub fn forgive(&self) {
        let _ = self.times.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1));
    }

    /// Failures in a row.
    pub fn streak(&self) -> u32 {
        self.streak.load(Relaxed)
    }

    /// How often it was taken out for a reason.
    pub fn ejections(&self, reason: Reason) -> u64 {
        self.counts.get(reason as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// What was seen of it since the start.
    pub fn sums(&self) -> Sums {
        let all = self.tallies.get().map(|all| all.iter()).into_iter().flatten();
        all.fold(Sums::default(), |sums, tally| Sums {
            good: sums.good + tally.good.value(),
            bad: sums.bad + tally.bad.value(),
            micros: sums.micros + tally.micros.value(),
        })
    }

    #[inline]
    fn tally(&self, worker: usize, workers: usize) -> Option<&Tally> {
        let make = || (0..workers + SPARE).map(|_| CachePadded::default()).collect();
        self.tallies.get_or_init(make).get(worker).map(|tally| &**tally)
    }
}

impl Sums {
    /// What came since `before`.
    pub fn since(self, before: Sums) -> Sums {
        Sums {
            good: self.good.saturating_sub(before.good),
            bad: self.bad.saturating_sub(before.bad),
            micros: self.micros.saturating_sub(before.micros),
        }
    }

    fn total(self) -> u64 {
        self.good + self.bad
    }

    // In ten-thousandths.
    fn bad_share(self) -> u64 {
        (self.bad * 10_000).checked_div(self.total()).unwrap_or(0)
    }

    // The mean of good answers, in microseconds.
    fn latency(self) -> Option<u64> {
        self.micros.checked_div(self.good)
    }
}

/// Who is to be taken out after an interval, worst first, and why. `seen` are the targets that are in.
pub fn judge(settings: &OutlierSettings, seen: &[Sums]) -> Vec<(usize, Reason)> {
    let enough = |sums: &Sums| sums.total() >= u64::from(settings.requests.max(1));
    let judged: Vec<(usize, Sums)> =
        seen.iter().copied().enumerate().filter(|(_, s)| enough(s)).collect();
    let floor = least_success(settings, &judged);
    let mut out: Vec<(usize, Reason, u64)> = Vec::new();
    for (at, sums) in &judged {
        let bad = sums.bad_share();
        let reason = if settings.failure_share.is_some_and(|most| bad >= u64::from(most.max(1))) {
            Some(Reason::FailureShare)
        } else if floor.is_some_and(|floor| ((10_000 - bad) as f64) < floor) {
            Some(Reason::SuccessRate)
        } else if is_slow(settings, *at, &judged) {
            Some(Reason::Slow)
        } else {
            None
        };
        out.extend(reason.map(|reason| (*at, reason, bad)));
    }
    out.sort_by_key(|(at, _, bad)| (std::cmp::Reverse(*bad), *at));
    out.into_iter().map(|(at, reason, _)| (at, reason)).collect()
}

// The share of good answers, in ten-thousandths, below which a target is an outlier: the mean of all less so many of their standard
// deviations (as Envoy's success rate).
fn least_success(settings: &OutlierSettings, judged: &[(usize, Sums)]) -> Option<f64> {
    let deviations = settings.deviations?;
    if judged.len() < settings.targets.max(2) as usize {
        return None;
    }
    let rates: Vec<f64> = judged.iter().map(|(_, s)| (10_000 - s.bad_share()) as f64).collect();
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(mean - variance.sqrt() * f64::from(deviations) / 1000.0)
}

// Latencies below this are no harm, however much shorter those of the others are.
const HARMLESS_US: u64 = 10_000;

fn is_slow(settings: &OutlierSettings, at: usize, judged: &[(usize, Sums)]) -> bool {
    let Some(slower) = settings.slower else { return false };
    let of = |other: &(usize, Sums)| other.1.latency();
    let mut others: Vec<u64> = judged.iter().filter(|o| o.0 != at).filter_map(of).collect();
    let own = judged.iter().find(|other| other.0 == at).and_then(of);
    others.sort_unstable();
    let (Some(median), Some(own)) = (others.get(others.len() / 2), own) else { return false };
    own >= HARMLESS_US && own.saturating_mul(1000) >= median.saturating_mul(u64::from(slower))
}

#[cfg(test)]
mod tests;
