//! Who takes part, by tables: health, tiers, zones and slow start, alone and together.

use super::Standing::{Out, Unhealthy, Usable};
use super::*;
use crate::balance::{Algorithm, Pick, Plan};
use crate::base::Rng;
use proptest::prelude::*;

const NOW: Tick = Tick::from_nanos(1_000_000_000_000);
const PREFER: Settings =
    Settings { bound: None, slow_start: None, zones: Zones::Prefer { enough: 70 } };
const ONLY: Settings = Settings { bound: None, slow_start: None, zones: Zones::Only };
const SLOW: Settings =
    Settings { bound: None, slow_start: Some(Duration::from_secs(16)), zones: Zones::Off };

fn member(standing: Standing, tier: u8, local: bool, weight: u32) -> Member {
    Member { weight, hash: 7, tier, local, standing, since: Tick::ZERO }
}

/// Began so many milliseconds before now.
fn began(mut member: Member, ms: u64) -> Member {
    member.since = Tick::from_nanos(NOW.nanos() - ms * 1_000_000);
    member
}

#[track_caller]
fn check(members: &[Member], settings: &Settings, fail_open: bool, expected: &[(usize, u32)]) {
    let chosen = choose(members, settings, fail_open, NOW);
    let weights = chosen.candidates.iter().map(|c| c.weight);
    let found: Vec<_> = chosen.members.iter().copied().zip(weights).collect();
    assert_eq!(found, expected, "{settings:?}");
}

fn all(standings: &[Standing]) -> Vec<Member> {
    standings.iter().map(|standing| member(*standing, 0, false, 1)).collect()
}

#[test]
fn the_usable_ones_take_part_and_without_any_the_unhealthy_ones() {
    let plain = Settings::default();
    check(&[], &plain, true, &[]);
    check(&all(&[Usable, Unhealthy, Usable, Out]), &plain, true, &[(0, 1), (2, 1)]);
    check(&all(&[Unhealthy, Out, Unhealthy]), &plain, true, &[(0, 1), (2, 1)]);
    check(&all(&[Unhealthy, Out, Unhealthy]), &plain, false, &[]);
    check(&all(&[Out, Out]), &plain, true, &[]);
    let mut weightless = all(&[Usable, Unhealthy]);
    weightless[0].weight = 0;
    check(&weightless, &plain, true, &[(1, 1)]);
    assert!(choose(&weightless, &plain, true, NOW).failed_open);
    assert!(!choose(&all(&[Usable]), &plain, true, NOW).failed_open);
    assert!(!choose(&[], &plain, true, NOW).failed_open);
}

#[test]
fn who_may_keep_its_clients() {
    let plain = Settings::default();
    for (standing, tier, weight, settings, failed_open, expected) in [
        (Usable, 0, 1, &plain, false, true),
        (Usable, 9, 1, &plain, false, true),
        (Usable, 0, 0, &plain, false, true),
        (Unhealthy, 0, 1, &plain, false, false),
        (Unhealthy, 0, 1, &plain, true, true),
        (Out, 0, 1, &plain, true, false),
        (Usable, 0, 1, &PREFER, false, true),
        (Usable, 0, 1, &ONLY, false, false),
    ] {
        let member = member(standing, tier, false, weight);
        let found = may_keep(&member, settings, failed_open);
        assert_eq!(found, expected, "{member:?} {failed_open}");
    }
    assert!(may_keep(&member(Usable, 0, true, 1), &ONLY, false));
}

#[test]
fn the_lowest_tier_that_has_a_usable_one_takes_all() {
    let plain = Settings::default();
    let of = |standings: [Standing; 4]| -> Vec<Member> {
        let tiers = [0, 0, 1, 9];
        tiers.iter().zip(standings).map(|(t, s)| member(s, *t, false, 1)).collect()
    };
    check(&of([Usable, Unhealthy, Usable, Usable]), &plain, true, &[(0, 1)]);
    check(&of([Unhealthy, Unhealthy, Usable, Usable]), &plain, true, &[(2, 1)]);
    check(&of([Unhealthy, Out, Out, Usable]), &plain, true, &[(3, 1)]);
    // Open only for the lowest tier that has anybody.
    check(&of([Unhealthy, Unhealthy, Unhealthy, Unhealthy]), &plain, true, &[(0, 1), (1, 1)]);
    check(&of([Out, Out, Unhealthy, Unhealthy]), &plain, true, &[(2, 1)]);
    check(&of([Unhealthy; 4]), &plain, false, &[]);
    let mut weightless = of([Usable; 4]);
    (weightless[0].weight, weightless[1].weight) = (0, 0);
    check(&weightless, &plain, true, &[(2, 1)]);
}

#[test]
fn the_own_zone_takes_all_while_enough_of_it_is_healthy() {
    let of = |own: &[Standing], others: &[Standing]| -> Vec<Member> {
        let own = own.iter().map(|s| member(*s, 0, true, 1));
        own.chain(others.iter().map(|s| member(*s, 0, false, 1))).collect()
    };
    check(&of(&[Usable; 3], &[Usable; 2]), &PREFER, true, &[(0, 1), (1, 1), (2, 1)]);
    // 3 of 4 are 75 %.
    let most = [Usable, Usable, Usable, Unhealthy];
    check(&of(&most, &[Usable]), &PREFER, true, &[(0, 1), (1, 1), (2, 1)]);
    check(&of(&[Unhealthy; 2], &[Usable; 2]), &PREFER, true, &[(2, 1), (3, 1)]);
    check(&of(&[Usable, Unhealthy], &[Unhealthy]), &PREFER, true, &[(0, 1)]);
    check(&of(&[Usable], &[]), &PREFER, true, &[(0, 1)]);
    // One that is leaving is not missed.
    check(&of(&[Usable, Out], &[Usable]), &PREFER, true, &[(0, 1)]);
    check(&of(&[Usable, Unhealthy], &[Usable]), &ONLY, true, &[(0, 1)]);
    check(&of(&[Unhealthy], &[Usable]), &ONLY, true, &[(0, 1)]);
    check(&of(&[Unhealthy], &[Usable]), &ONLY, false, &[]);
    check(&of(&[], &[Usable]), &ONLY, true, &[]);
}

#[test]
fn what_the_own_zone_lacks_goes_to_the_others() {
    // Own weight that is healthy and that is not, weight of others; the share of requests that stays.
    for (healthy, ill, others, stays) in [
        (&[1][..], &[1][..], &[1, 1][..], 0.5 / 0.7),
        (&[1], &[3], &[1], 0.25 / 0.7),
        (&[5, 5], &[90], &[999, 1], 0.1 / 0.7),
        (&[1, 2], &[3], &[7, 7, 7], 0.5 / 0.7),
        (&[699], &[301], &[1], 0.699 / 0.7),
    ] {
        let of = |weights: &[u32], standing, local| -> Vec<Member> {
            weights.iter().map(|w| member(standing, 0, local, *w)).collect()
        };
        let members =
            [of(healthy, Usable, true), of(ill, Unhealthy, true), of(others, Usable, false)]
                .concat();
        let chosen = choose(&members, &PREFER, true, NOW);
        let weight = |local| -> f64 {
            let both = chosen.members.iter().zip(&chosen.candidates);
            let those = both.filter(|(at, _)| members[**at].local == local);
            those.map(|(_, c)| f64::from(c.weight)).sum()
        };
        let found = weight(true) / (weight(true) + weight(false));
        assert!((found - stays).abs() < 0.001, "{healthy:?} {ill:?} {others:?}: {found}");
        // Within a side shares go by weight.
        let first = chosen.members.iter().zip(&chosen.candidates).next().unwrap();
        let part = f64::from(first.1.weight) / weight(true);
        let sum: u32 = healthy.iter().sum();
        assert!((part - f64::from(healthy[0]) / f64::from(sum)).abs() < 0.001);
    }
}

#[test]
fn a_weight_grows_from_a_sixteenth_in_sixteen_steps() {
    let old = member(Usable, 0, false, 3);
    for (ms, weight, next_ms) in [
        (0, 3, 1_000),
        (999, 3, 1_000),
        (1_001, 3, 2_000),
        (2_001, 6, 3_000),
        (8_500, 24, 9_000),
        (15_500, 45, 16_000),
    ] {
        let members = [old, began(member(Usable, 0, false, 3), ms)];
        check(&members, &SLOW, true, &[(0, 48), (1, weight)]);
        let again = choose(&members, &SLOW, true, NOW).again;
        let due = members[1].since.after(Duration::from_millis(next_ms));
        assert!(again > due && again.since(due) < Duration::from_micros(1), "{ms}");
    }
    let grown = [old, began(old, 16_001)];
    check(&grown, &SLOW, true, &[(0, 3), (1, 3)]);
    assert_eq!(choose(&grown, &SLOW, true, NOW).again, Tick::NEVER);
    check(&[old, began(old, 0)], &Settings::default(), true, &[(0, 3), (1, 3)]);
}

#[test]
fn nobody_waits_for_a_group_that_begins_or_is_new_as_a_whole() {
    let one = member(Usable, 0, false, 1);
    check(&[began(one, 5)], &SLOW, true, &[(0, 1)]);
    check(&[began(one, 5), began(one, 5)], &SLOW, true, &[(0, 1), (1, 1)]);
    // The first that came back takes all; the next grows beside it.
    check(&[began(one, 2_000), began(one, 0)], &SLOW, true, &[(0, 16), (1, 1)]);
    // Who is ill is not waited for.
    let ill = member(Unhealthy, 0, false, 1);
    check(&[ill, began(one, 5)], &SLOW, true, &[(1, 1)]);
    // A tier that takes over does so at once.
    let spare = member(Usable, 1, false, 1);
    check(&[ill, began(spare, 5), began(spare, 5)], &SLOW, true, &[(1, 1), (2, 1)]);
}

#[test]
fn a_zone_that_comes_back_slowly_gets_its_share_slowly() {
    let settings = Settings { zones: PREFER.zones, ..SLOW };
    let own = began(member(Usable, 0, true, 1), 8_100);
    let other = member(Usable, 0, false, 1);
    let chosen = choose(&[own, other], &settings, true, NOW);
    let weights: Vec<f64> = chosen.candidates.iter().map(|c| f64::from(c.weight)).collect();
    let share = weights[0] / (weights[0] + weights[1]);
    assert!((share - 0.5 / 0.7).abs() < 0.001, "{share}");
}

#[test]
fn the_last_resort_is_another_tier_then_who_is_ill() {
    let members = [
        member(Usable, 0, true, 1),
        member(Unhealthy, 0, true, 1),
        member(Usable, 0, false, 1),
        member(Usable, 1, true, 1),
        member(Out, 0, true, 1),
        member(Usable, 0, true, 0),
    ];
    let order = |settings: &Settings, fail_open| -> Vec<usize> {
        let mut tried = vec![0];
        while let Some(at) = last_resort(members.iter().copied(), settings, fail_open, &tried) {
            tried.push(at);
        }
        tried
    };
    assert_eq!(order(&PREFER, true), [0, 2, 3, 1]);
    assert_eq!(order(&ONLY, true), [0, 3, 1]);
    assert_eq!(order(&ONLY, false), [0, 3]);
}

fn some_member() -> impl Strategy<Value = Member> {
    let standing = prop_oneof![Just(Usable), Just(Usable), Just(Unhealthy), Just(Out)];
    let weight = prop_oneof![Just(0), Just(1), 1u32..1_000];
    (weight, any::<u64>(), 0u8..3, any::<bool>(), standing, 0u64..20_000).prop_map(
        |(weight, hash, tier, local, standing, ms)| {
            began(Member { weight, hash, tier, local, standing, since: NOW }, ms)
        },
    )
}

proptest! {
    /// What holds for every group: who takes part may, nobody is left out who should be in, and a plan finds them.
    #[test]
    fn who_takes_part_may_and_whoever_could_be_reached_is(
        members in proptest::collection::vec(some_member(), 0..12),
        zones in prop_oneof![
            Just(Zones::Off), Just(Zones::Only), (1u32..=100).prop_map(|enough| Zones::Prefer { enough })
        ],
        slow: bool,
        fail_open: bool,
        seed: u64,
    ) {
        let slow_start = slow.then_some(Duration::from_secs(16));
        let settings = Settings { bound: None, slow_start, zones };
        let chosen = choose(&members, &settings, fail_open, NOW);
        prop_assert_eq!(chosen.members.len(), chosen.candidates.len());
        prop_assert!(chosen.again > NOW);
        let may = |m: &Member| m.weight > 0 && (m.local || zones != Zones::Only);
        let usable = members.iter().any(|m| may(m) && m.standing == Usable);
        let wanted = if usable { Usable } else { Unhealthy };
        let those = |m: &&Member| may(m) && m.standing == wanted;
        let tier = members.iter().filter(those).map(|m| m.tier).min();
        prop_assert_eq!(chosen.members.is_empty(), tier.is_none() || !(usable || fail_open));
        for (at, candidate) in chosen.members.iter().zip(&chosen.candidates) {
            let m = &members[*at];
            prop_assert!(may(m) && m.standing == wanted && Some(m.tier) == tier);
            prop_assert!(candidate.weight > 0 && candidate.hash == m.hash);
            prop_assert!(candidate.weight <= 1 << 20);
        }
        let plan = Plan::build(Algorithm::RoundRobin, None, &chosen.candidates, members.len());
        let picked = plan.pick(Pick {
            cursor: seed,
            key: None,
            rng: &mut Rng::with_seed(seed),
            load: &|_| 0,
            total: &|| 0,
            time: &|_| None,
            skip: &[],
        });
        prop_assert_eq!(picked.is_none(), chosen.members.is_empty());
        // When everybody who was chosen has refused, the others come one by one, nobody twice.
        let mut tried = chosen.members.clone();
        while let Some(at) = last_resort(members.iter().copied(), &settings, fail_open, &tried) {
            prop_assert!(!tried.contains(&at) && may(&members[at]));
            tried.push(at);
        }
        let all = members.iter().filter(|m| may(m) && m.standing != Out);
        let all = all.filter(|m| fail_open || m.standing == Usable).count();
        prop_assert_eq!(tried.len(), all);
    }
}
