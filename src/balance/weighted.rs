//! Random choice by weight. Called for rules that spread over several groups, and by plans.

use crate::base::Rng;

/// Weights, and where each one's share ends on a line as long as their sum.
#[derive(Clone, Debug)]
pub struct Weighted {
    weights: Box<[u32]>,
    ends: Box<[u64]>,
}

impl Weighted {
    /// Takes the weights; 0 is never picked.
    pub fn new(weights: &[u32]) -> Weighted {
        let mut sum = 0;
        let end = |weight: &u32| {
            sum += u64::from(*weight);
            sum
        };
        let ends = weights.iter().map(end).collect();
        Weighted { weights: weights.into(), ends }
    }

    /// The index of one, each as often as its weight says; `None` when there is no weight.
    pub fn pick(&self, rng: &mut Rng) -> Option<usize> {
        let sum = self.ends.last().copied().filter(|sum| *sum > 0)?;
        let point = rng.u64(0..sum);
        Some(self.ends.partition_point(|end| *end <= point))
    }

    /// As [`Weighted::pick`] among those that are not `out`. When the first choice is one of those, the rest is summed
    /// up anew, which keeps the weights exact.
    pub(super) fn pick_except(&self, rng: &mut Rng, out: impl Fn(usize) -> bool) -> Option<usize> {
        let first = self.pick(rng)?;
        if !out(first) {
            return Some(first);
        }
        let left = || self.weights.iter().enumerate().filter(|(at, _)| !out(*at));
        let sum: u64 = left().map(|(_, weight)| u64::from(*weight)).sum();
        let mut point = if sum > 0 { rng.u64(0..sum) } else { return None };
        for (at, weight) in left() {
            match point.checked_sub(u64::from(*weight)) {
                Some(further) => point = further,
                None => return Some(at),
            }
        }
        None
    }

    /// How many there are, those without weight included.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The sum of the weights.
    pub(super) fn sum(&self) -> u64 {
        self.ends.last().copied().unwrap_or_default()
    }

    pub(super) fn weight(&self, at: usize) -> u32 {
        self.weights.get(at).copied().unwrap_or_default()
    }
}
