//! Which target a request goes to: a plan made once for a set of candidates, asked once a request.
//!
//! Every worker makes the same plan from the same candidates and hands in the same machine-wide cursor and counts, so that
//! round robin is round over all workers. Whose health lets it take part is decided before (`health`), which of those do
//! and with what weight in [`choose`], what is done with the target afterwards in `proxy`. Nothing is allocated by a pick.

mod bound;
mod ewma;
mod maglev;
mod members;
mod ring;
mod smooth;
#[cfg(test)]
mod tests;
mod weighted;

pub use bound::Bound;
pub use ewma::{PeakEwma, Sample};
pub use members::{Chosen, Member, Settings, Standing, Zones, choose, last_resort, may_keep};
pub use weighted::Weighted;

use crate::base::Rng;
use maglev::Table;
use ring::Ring;

/// How a target is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The fewest requests in flight for the weight.
    LeastRequests,
    /// The least square of the time to answer, times requests in flight, for the weight.
    LeastTime,
    /// Weighted random.
    Random,
    /// The better of two random ones.
    PowerOfTwo,
    /// Consistent by a ring, by the pick's key; weighted random without one.
    Hash,
    /// Consistent by a table (Eisenbud et al., NSDI 2016), by the pick's key; weighted random without one.
    Maglev,
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
    /// For [`Algorithm::Hash`] and [`Algorithm::Maglev`]: the hash of the part of the request that decides.
    pub key: Option<u64>,
    /// The worker's randomness.
    pub rng: &'a mut Rng,
    /// Requests in flight on a candidate, by its index.
    pub load: &'a dyn Fn(usize) -> u32,
    /// Requests in flight on all of them; asked only where there is a [`Bound`].
    pub total: &'a dyn Fn() -> u32,
    /// How long a candidate takes to answer, as [`PeakEwma::read`] has it; `None` while that is unknown. Asked only for
    /// [`Algorithm::LeastTime`].
    pub time: &'a dyn Fn(usize) -> Option<u32>,
    /// Candidates, by index, that were tried already.
    pub skip: &'a [usize],
}

/// How to pick among a fixed list of candidates.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Indexed as the candidates are.
    weights: Weighted,
    kind: Kind,
    bound: Option<Bound>,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Candidates in the order of their turns.
    RoundRobin(Box<[u32]>),
    LeastRequests,
    LeastTime,
    Random,
    PowerOfTwo,
    Hash(Ring),
    Maglev(Table),
}

/// Up to so many candidates are all compared by the time that they take; of more, two random ones.
const FEW: usize = 8;
/// Points of a ring, or entries of a table, that are looked at for a candidate below its bound.
const MOST_LOOKS: usize = 1_024;

impl Plan {
    /// Makes the plan. The same candidates in the same order give the same plan. `of` is how many targets there would be if
    /// all took part, which decides the size of a table. Plans of round robin and hashes take at most some milliseconds for
    /// a thousand candidates; rings hold at most 65,536 points (more only for more candidates), tables 65,537 entries
    /// (262,139 for more than 3,276 targets).
    pub fn build(
        algorithm: Algorithm,
        bound: Option<Bound>,
        candidates: &[Candidate],
        of: usize,
    ) -> Plan {
        let weights: Vec<u32> = candidates.iter().map(|c| c.weight).collect();
        let kind = match algorithm {
            Algorithm::RoundRobin => Kind::RoundRobin(smooth::sequence(&weights)),
            Algorithm::LeastRequests => Kind::LeastRequests,
            Algorithm::LeastTime => Kind::LeastTime,
            Algorithm::Random => Kind::Random,
            Algorithm::PowerOfTwo => Kind::PowerOfTwo,
            Algorithm::Hash => Kind::Hash(Ring::new(candidates)),
            Algorithm::Maglev => Kind::Maglev(Table::new(candidates, of)),
        };
        Plan { weights: Weighted::new(&weights), kind, bound }
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
            (Kind::LeastRequests, _) => self.least(&pick, |at| (pick.load)(at).into()),
            (Kind::LeastTime, _) if self.weights.len() <= FEW => {
                self.least(&pick, |at| busy_time(&pick, at))
            }
            (Kind::LeastTime, _) => self.better_of_two(pick, busy_time),
            (Kind::PowerOfTwo, _) => self.better_of_two(pick, |pick, at| (pick.load)(at).into()),
            (Kind::Hash(ring), Some(key)) => self.consistent(ring.owners(key), pick),
            (Kind::Maglev(table), Some(key)) => self.consistent(table.owners(key), pick),
            (Kind::Random | Kind::Hash(_) | Kind::Maglev(_), _) => {
                self.weights.pick_except(pick.rng, skipped)
            }
        }
    }

    /// The first of `owners` that is not to be skipped and, with a bound, not full.
    fn consistent(&self, mut owners: impl Iterator<Item = usize>, pick: Pick<'_>) -> Option<usize> {
        let skipped = |at: usize| pick.skip.contains(&at);
        let found = match self.bound {
            None => owners.find(|at| !skipped(*at)),
            Some(bound) => {
                let total = (pick.total)();
                let has_room = |at: usize| {
                    let (weight, sum) = (self.weights.weight(at), self.weights.sum());
                    u64::from((pick.load)(at)) < bound.capacity(total, weight, sum)
                };
                let near = owners.take(MOST_LOOKS).find(|at| !skipped(*at) && has_room(*at));
                // Counts that other workers change meanwhile, or few that may be picked.
                near.or_else(|| self.least(&pick, |at| (pick.load)(at).into()))
            }
        };
        // One with too little weight for a point or an entry of its own.
        found.or_else(|| self.weights.pick_except(pick.rng, skipped))
    }

    fn better_of_two(&self, pick: Pick<'_>, cost: fn(&Pick<'_>, usize) -> u128) -> Option<usize> {
        let first = self.weights.pick_except(pick.rng, |at| pick.skip.contains(&at))?;
        let other = |at: usize| at == first || pick.skip.contains(&at);
        let Some(second) = self.weights.pick_except(pick.rng, other) else { return Some(first) };
        let better = self.lighter(second, cost(&pick, second), first, cost(&pick, first));
        Some(if better { second } else { first })
    }

    /// The least cost for its weight. Equal ones take turns: the search begins at the cursor.
    fn least(&self, pick: &Pick<'_>, cost: impl Fn(usize) -> u128) -> Option<usize> {
        let count = self.weights.len();
        let start = from_cursor(pick.cursor, count)?;
        let mut best: Option<(usize, u128)> = None;
        for at in (start..count).chain(0..start) {
            if self.weights.weight(at) == 0 || pick.skip.contains(&at) {
                continue;
            }
            let cost = cost(at);
            if best.is_none_or(|(other, least)| self.lighter(at, cost, other, least)) {
                best = Some((at, cost));
            }
        }
        best.map(|(at, _)| at)
    }

    /// `(cost + 1) / weight` is less, so that an idle pair is compared by weight.
    fn lighter(&self, a: usize, cost_a: u128, b: usize, cost_b: u128) -> bool {
        let scaled =
            |cost: u128, weight: u32| cost.saturating_add(1).saturating_mul(u128::from(weight));
        scaled(cost_a, self.weights.weight(b)) < scaled(cost_b, self.weights.weight(a))
    }
}

/// The square of the time that a candidate takes, for each request that it would have in flight. By the time alone one that takes
/// ten times as long as three others got up to a hundredth of all requests where many are in flight, and so showed in the
/// 99th percentile. One that nobody knows yet is tried at once by one request, and by no other until that has been
/// answered, unless there is no better.
fn busy_time(pick: &Pick<'_>, at: usize) -> u128 {
    let load = (pick.load)(at);
    let time = match (pick.time)(at) {
        Some(time) => u128::from(time),
        None if load == 0 => return 0,
        None => u128::from(u32::MAX),
    };
    time * time * (u128::from(load) + 1)
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
