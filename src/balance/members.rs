//! Which members of a group take part, and with what weight: health, tiers, zones, slow start, in this order.
//!
//! A function of what all workers see, so that they come to the same plan; weights of slow start grow in steps for the same
//! reason. What makes a target healthy is decided before. Called by `shard::epoch` when it plans, not for each request.

use super::{Bound, Candidate};
use crate::base::Tick;
use std::time::Duration;

/// Slow start grows a weight in so many steps. A power of two: a hash ring then keeps the points that it has.
const STEPS: u32 = 16;
/// Weights that zones have made larger are scaled down to this.
const MOST_WEIGHT: u128 = 1 << 20;

/// What a group says about balancing beside its algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How many times the average a target may have in flight, where a hash decides.
    pub bound: Option<Bound>,
    /// How long the weight of a target grows that comes to others.
    pub slow_start: Option<Duration>,
    /// Whether the zone of a target matters.
    pub zones: Zones,
}

/// Whether the zone of a target matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zones {
    /// It does not.
    #[default]
    Off,
    /// Targets of the own zone take all requests as long as this many per cent of them, by weight, are healthy.
    Prefer {
        /// From 1 to 100.
        enough: u32,
    },
    /// Targets of other zones take none.
    Only,
}

/// What a target's health lets it do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Take requests.
    Usable,
    /// Take requests where there is no other.
    Unhealthy,
    /// Take none.
    Out,
}

/// A target of the group, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// From the file.
    pub weight: u32,
    /// See [`Candidate::hash`].
    pub hash: u64,
    /// From the file: the lowest first.
    pub tier: u8,
    /// Whether it is in the own zone.
    pub local: bool,
    /// What its health lets it do.
    pub standing: Standing,
    /// Since when it takes requests: since it was added, or is healthy again. [`Tick::ZERO`] for always.
    pub since: Tick,
}

/// Who takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Indices of members.
    pub members: Vec<usize>,
    /// The same as candidates.
    pub candidates: Vec<Candidate>,
    /// None was usable, so that unhealthy ones are used.
    pub failed_open: bool,
    /// When weights are to be made anew, though nothing has changed; [`Tick::NEVER`] usually.
    pub again: Tick,
}

/// Chooses who takes part. Those without weight never do.
///
/// The usable members of the lowest tier that has any; where no tier has, and with `fail_open`, the unhealthy ones of the
/// lowest tier that has any. Among them a member that came after another grows for [`Settings::slow_start`], from a
/// sixteenth of its weight. Then the own zone gets as many of `enough` as it has.
pub fn choose(members: &[Member], settings: &Settings, fail_open: bool, now: Tick) -> Chosen {
    let (chosen, failed_open) = match lowest(members, settings, Standing::Usable) {
        chosen if !chosen.is_empty() || !fail_open => (chosen, false),
        _ => {
            let chosen = lowest(members, settings, Standing::Unhealthy);
            let failed_open = !chosen.is_empty();
            (chosen, failed_open)
        }
    };
    let Some((_, first)) = chosen.first() else {
        return Chosen { again: Tick::NEVER, ..Chosen::default() };
    };
    let tier = first.tier;
    let (mut shares, again) = ramp(&chosen, settings.slow_start, now);
    if let Zones::Prefer { enough } = settings.zones {
        let scale = if again == Tick::NEVER { 1 } else { STEPS };
        let here = |m: &&Member| m.tier == tier && m.local && m.standing != Standing::Out;
        let own = members.iter().filter(here).map(|m| u128::from(m.weight)).sum::<u128>();
        prefer(&mut shares, own * u128::from(scale), enough);
    }
    reduce(&mut shares);
    let kept = shares.iter().filter(|share| share.weight > 0);
    let (members, candidates) = kept
        .map(|share| {
            let weight = u32::try_from(share.weight).unwrap_or(u32::MAX);
            (share.at, Candidate { weight, hash: share.hash })
        })
        .unzip();
    Chosen { members, candidates, failed_open, again }
}

/// The next member for a request that all who were chosen have refused: one of a higher tier or another zone, then, with
/// `fail_open`, one that is unhealthy, which may have come back since. The lowest tier first, the own zone first.
pub fn last_resort(
    members: impl Iterator<Item = Member>,
    settings: &Settings,
    fail_open: bool,
    tried: &[usize],
) -> Option<usize> {
    let may = |(at, m): &(usize, Member)| {
        let stands = match m.standing {
            Standing::Usable => true,
            Standing::Unhealthy => fail_open,
            Standing::Out => false,
        };
        stands && in_reach(m, settings) && !tried.contains(at)
    };
    let all = members.enumerate().filter(may);
    let first = all.min_by_key(|(_, m)| {
        let elsewhere = settings.zones != Zones::Off && !m.local;
        (m.standing == Standing::Unhealthy, m.tier, elsewhere)
    });
    first.map(|(at, _)| at)
}

/// Whether a member may get the requests of clients that stay with it: also without weight, which says that nobody new comes, and in
/// any tier.
pub fn may_keep(member: &Member, settings: &Settings, failed_open: bool) -> bool {
    let stands = match member.standing {
        Standing::Usable => true,
        Standing::Unhealthy => failed_open,
        Standing::Out => false,
    };
    stands && (member.local || settings.zones != Zones::Only)
}

fn in_reach(member: &Member, settings: &Settings) -> bool {
    member.weight > 0 && (member.local || settings.zones != Zones::Only)
}

fn lowest<'m>(
    members: &'m [Member],
    settings: &Settings,
    standing: Standing,
) -> Vec<(usize, &'m Member)> {
    let all = || {
        let all = members.iter().enumerate();
        all.filter(|(_, m)| m.standing == standing && in_reach(m, settings))
    };
    let Some(tier) = all().map(|(_, m)| m.tier).min() else { return Vec::new() };
    all().filter(|(_, m)| m.tier == tier).collect()
}

/// What one member gets.
struct Share {
    at: usize,
    hash: u64,
    local: bool,
    weight: u128,
}

/// Weights, and when they change next. Whoever began first takes part with all of its weight: when a group begins, or all of
/// it is new, there is nobody to wait for.
fn ramp(
    chosen: &[(usize, &Member)],
    slow_start: Option<Duration>,
    now: Tick,
) -> (Vec<Share>, Tick) {
    let first = chosen.iter().map(|(_, m)| m.since).min().unwrap_or_default();
    let step = |m: &Member| {
        let slow = slow_start.filter(|_| m.since > first)?.as_nanos().max(1);
        let step = now.since(m.since).as_nanos() * u128::from(STEPS) / slow;
        let step = u32::try_from(step).ok().filter(|step| *step < STEPS)?;
        let next = slow * u128::from(step + 1) / u128::from(STEPS);
        let next = Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX));
        // Rounded down, a step could be due before it is there.
        Some((step.max(1), m.since.after(next).after(Duration::from_nanos(1))))
    };
    let steps: Vec<_> = chosen.iter().map(|(_, m)| step(m)).collect();
    let again = steps.iter().flatten().map(|(_, next)| *next).min().unwrap_or(Tick::NEVER);
    let full = if again == Tick::NEVER { 1 } else { STEPS };
    let share = |((at, m), step): (&(usize, &Member), &Option<(u32, Tick)>)| {
        let part = step.map_or(full, |(step, _)| step);
        let weight = u128::from(m.weight) * u128::from(part);
        Share { at: *at, hash: m.hash, local: m.local, weight }
    };
    (chosen.iter().zip(&steps).map(share).collect(), again)
}

/// Gives the own zone all requests if what it can take is `enough` per cent of `own`, all that it has; otherwise as large a part
/// of them as it has of that. Where only one side is left, it takes all.
fn prefer(shares: &mut [Share], own: u128, enough: u32) {
    let sum = |local: bool| shares.iter().filter(|s| s.local == local).map(|s| s.weight).sum();
    let (here, elsewhere): (u128, u128) = (sum(true), sum(false));
    if here == 0 || elsewhere == 0 {
        return;
    }
    // here / own / enough of all, of which the others get the rest; both sides multiplied alike.
    let wanted = own * u128::from(enough);
    let (local, other) = match wanted.saturating_sub(100 * here) {
        0 => (1, 0),
        other => (100 * elsewhere, other),
    };
    for share in shares {
        share.weight *= if share.local { local } else { other };
    }
}

/// The same proportions in numbers that a plan takes; nobody who has a share is left without. Plain weights stay as written.
fn reduce(shares: &mut [Share]) {
    if shares.iter().all(|share| share.weight <= MOST_WEIGHT) {
        return;
    }
    let divisor = shares.iter().fold(0, |divisor, share| gcd(share.weight, divisor)).max(1);
    let most = shares.iter().map(|share| share.weight / divisor).max().unwrap_or_default();
    for share in shares.iter_mut().filter(|share| share.weight > 0) {
        share.weight /= divisor;
        if most > MOST_WEIGHT {
            share.weight = (share.weight * MOST_WEIGHT / most).max(1);
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
