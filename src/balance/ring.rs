//! A consistent hash ring: each candidate owns points in proportion to its weight, a key belongs to the next point.
//!
//! Where a candidate's points lie depends on its own hash alone. So when one comes or goes, only its keys move.

use super::{Candidate, mix};

/// How many points each candidate of average weight owns at most; at least half as many.
const POINTS_EACH: u64 = 256;
/// How many points there are at most, unless there are more candidates.
const MOST_POINTS: u64 = 65_536;

/// The points in order, and whose each one is.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) points: Box<[u64]>,
    owners: Box<[u32]>,
}

impl Ring {
    pub(super) fn new(candidates: &[Candidate]) -> Ring {
        let scale = Scale::of(candidates);
        let mut points = Vec::new();
        for (at, candidate) in (0u32..).zip(candidates) {
            for nth in 0..scale.points(candidate.weight) {
                // The golden ratio's multiples are spread before they are mixed (splitmix64's own sequence).
                let seed = candidate.hash.wrapping_add(nth.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                // By identity, not by index: the order of the list must not decide between equal points.
                points.push((mix(mix(seed)), candidate.hash, at));
            }
        }
        points.sort_unstable();
        Ring {
            points: points.iter().map(|(point, _, _)| *point).collect(),
            owners: points.iter().map(|(_, _, at)| *at).collect(),
        }
    }

    /// Whose `key` is, and whose it would be without the ones before: a candidate as often as it has points.
    pub(super) fn owners(&self, key: u64) -> impl Iterator<Item = usize> {
        let at = self.points.partition_point(|point| *point < key);
        let (before, after) = self.owners.split_at_checked(at).unwrap_or_default();
        after.iter().chain(before).map(|owner| *owner as usize)
    }
}

/// Points for a weight, as a power of two: that seldom changes with the set, and when it does, every point that is
/// still there stays in its place.
#[derive(Clone, Copy, Debug)]
struct Scale {
    shift: i32,
}

impl Scale {
    fn of(candidates: &[Candidate]) -> Scale {
        let (mut count, mut sum) = (0u64, 0u64);
        for candidate in candidates.iter().filter(|c| c.weight > 0) {
            count += 1;
            sum += u64::from(candidate.weight);
        }
        let most = (count * POINTS_EACH).min(MOST_POINTS);
        let mut shift = 0;
        while shift < 8 && (sum << (shift + 1)) <= most {
            shift += 1;
        }
        while shift > -32 && shifted(sum, shift) > most {
            shift -= 1;
        }
        Scale { shift }
    }

    fn points(self, weight: u32) -> u64 {
        match weight {
            0 => 0,
            weight => shifted(u64::from(weight), self.shift).max(1),
        }
    }
}

fn shifted(value: u64, shift: i32) -> u64 {
    if shift < 0 { value >> shift.unsigned_abs() } else { value << shift }
}
