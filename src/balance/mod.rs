//! Which target a request goes to: a plan made once for a set of candidates, asked once a request.
//!
//! Every worker makes the same plan from the same candidates and hands in the same machine-wide cursor, so that round
//! robin is round over all workers. Who is a candidate is decided before (`health`), what is done with the target
//! afterwards (`proxy`). Nothing is allocated by a pick.

mod ring;
mod smooth;
#[cfg(test)]
mod tests;
mod weighted;

pub use weighted::Weighted;

use crate::base::Rng;
use ring::Ring;

/// How a target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The fewest requests in flight for the weight.
    LeastRequests,
    /// Weighted random.
    Random,
    /// The better of two random ones.
    PowerOfTwo,
    /// Consistent, by the pick's key; weighted random without one.
    Hash,
}

/// A target that may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its share of the traffic relative to the others'; 0 for none.
    pub weight: u32,
    /// What it is, whatever its place in the list: places it on the hash ring. See [`hash_key`].
    pub hash: u64,
}

/// What one pick depends on.
pub struct Pick<'a> {
    /// The next value of the counter that all workers share.
    pub cursor: u64,
    /// For [`Algorithm::Hash`]: the hash of the part of the request that decides.
    pub key: Option<u64>,
    /// The worker's randomness.
    pub rng: &'a mut Rng,
    /// Requests in flight on a candidate, by its index.
    pub load: &'a dyn Fn(usize) -> u32,
    /// Candidates, by index, that were tried already.
    pub skip: &'a [usize],
}

/// How to pick among a fixed list of candidates.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Indexed as the candidates are.
    weights: Weighted,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Candidates in the order of their turns.
    RoundRobin(Box<[u32]>),
    LeastRequests,
    Random,
    PowerOfTwo,
    Hash(Ring),
}

impl Plan {
    /// Makes the plan. The same candidates in the same order give the same plan. Round robin and hash plans take at
    /// most some milliseconds for a thousand candidates and hold at most 65,536 entries (more only for more candidates).
    pub fn build(algorithm: Algorithm, candidates: &[Candidate]) -> Plan {
        let weights: Vec<u32> = candidates.iter().map(|c| c.weight).collect();
        let kind = match algorithm {
            Algorithm::RoundRobin => Kind::RoundRobin(smooth::sequence(&weights)),
            Algorithm::LeastRequests => Kind::LeastRequests,
            Algorithm::Random => Kind::Random,
            Algorithm::PowerOfTwo => Kind::PowerOfTwo,
            Algorithm::Hash => Kind::Hash(Ring::new(candidates)),
        };
        Plan { weights: Weighted::new(&weights), kind }
    }

    /// The index of a candidate that has weight and is not to be skipped, or `None` if there is none.
    pub fn pick(&self, pick: Pick<'_>) -> Option<usize> {
        let skipped = |at: usize| pick.skip.contains(&at);
        match (&self.kind, pick.key) {
            (Kind::RoundRobin(turns), _) => {
                let turn = from_cursor(pick.cursor, turns.len())?;
                let (before, after) = turns.split_at_checked(turn)?;
                let mut turns = after.iter().chain(before).map(|at| *at as usize);
                turns.find(|at| !skipped(*at))
            }
            (Kind::LeastRequests, _) => self.least(&pick),
            (Kind::PowerOfTwo, _) => {
                let first = self.weights.pick_except(pick.rng, skipped)?;
                let other = |at: usize| at == first || pick.skip.contains(&at);
                let Some(second) = self.weights.pick_except(pick.rng, other) else {
                    return Some(first);
                };
                let better = self.lighter(second, (pick.load)(second), first, (pick.load)(first));
                Some(if better { second } else { first })
            }
            (Kind::Hash(ring), Some(key)) => ring.find(key, skipped),
            (Kind::Random | Kind::Hash(_), _) => self.weights.pick_except(pick.rng, skipped),
        }
    }

    /// The least load for its weight. Equal ones take turns: the search begins at the cursor.
    fn least(&self, pick: &Pick<'_>) -> Option<usize> {
        let count = self.weights.len();
        let start = from_cursor(pick.cursor, count)?;
        let mut best: Option<(usize, u32)> = None;
        for at in (start..count).chain(0..start) {
            if self.weights.weight(at) == 0 || pick.skip.contains(&at) {
                continue;
            }
            let load = (pick.load)(at);
            if best.is_none_or(|(other, least)| self.lighter(at, load, other, least)) {
                best = Some((at, load));
            }
        }
        best.map(|(at, _)| at)
    }

    /// `(load + 1) / weight` is less, so that an idle pair is compared by weight.
    fn lighter(&self, a: usize, load_a: u32, b: usize, load_b: u32) -> bool {
        let cost = |load: u32, weight: u32| (u64::from(load) + 1) * u64::from(weight);
        cost(load_a, self.weights.weight(b)) < cost(load_b, self.weights.weight(a))
    }
}

/// A hash that is the same in every process and version: FNV-1a (64 bits), then the finaliser of splitmix64, since the
/// high bits of FNV alone are poor for short keys. Not keyed: a client that chooses its key can choose its target.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// The finaliser of splitmix64 (Steele, Lea, Flood 2014; constants of Stafford's variant 13).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn from_cursor(cursor: u64, len: usize) -> Option<usize> {
    usize::try_from(cursor.checked_rem(u64::try_from(len).ok()?)?).ok()
}
