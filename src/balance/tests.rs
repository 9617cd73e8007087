//! Turns, shares and stability, with seeded randomness.

use super::*;
use crate::base::Rng;
use proptest::prelude::*;

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let one = |(at, weight): (usize, &u32)| Candidate {
        weight: *weight,
        hash: hash_key(format!("10.0.0.{at}:80").as_bytes()),
    };
    weights.iter().enumerate().map(one).collect()
}

fn planned(algorithm: Algorithm, weights: &[u32]) -> Plan {
    Plan::build(algorithm, None, &candidates(weights), weights.len())
}

/// A pick where nothing is in flight, and all are equally fast.
fn idle(rng: &mut Rng) -> Pick<'_> {
    let (load, total, time) = (&|_| 0, &|| 0, &|_| Some(1));
    Pick { cursor: 0, key: None, rng, load, total, time, skip: &[] }
}

/// Picks once for each cursor and counts.
fn counts(algorithm: Algorithm, weights: &[u32], picks: u64, skip: &[usize]) -> Vec<u64> {
    let plan = planned(algorithm, weights);
    let mut rng = Rng::with_seed(7);
    let mut counts = vec![0; weights.len()];
    for cursor in 0..picks {
        let key = Some(hash_key(&cursor.to_le_bytes()));
        let idle = idle(&mut rng);
        if let Some(at) = plan.pick(Pick { cursor, key, skip, ..idle }) {
            counts[at] += 1;
        }
    }
    counts
}

fn turns(weights: &[u32]) -> Vec<u32> {
    smooth::sequence(weights).into()
}

fn pick(plan: &Plan, cursor: u64, load: &dyn Fn(usize) -> u32, skip: &[usize]) -> Option<usize> {
    plan.pick(Pick { cursor, load, skip, ..idle(&mut Rng::with_seed(cursor)) })
}

const ALL: [Algorithm; 7] = [
    Algorithm::RoundRobin,
    Algorithm::LeastRequests,
    Algorithm::LeastTime,
    Algorithm::Random,
    Algorithm::PowerOfTwo,
    Algorithm::Hash,
    Algorithm::Maglev,
];

#[test]
fn turns_are_those_of_nginx() {
    assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
    assert_eq!(turns(&[30, 0, 30]), [0, 2]);
    assert_eq!(turns(&[2, 4]), [1, 0, 1]);
    assert_eq!(turns(&[]), Vec::<u32>::new());
    assert_eq!(turns(&[0]), Vec::<u32>::new());
}

#[test]
fn a_long_period_is_scaled_down_and_keeps_everyone() {
    let turns = turns(&[999, 998, 997, 1, 991, 983, 977]);
    assert!(turns.len() <= 4_100, "{}", turns.len());
    assert!((0..7).all(|at| turns.contains(&at)));
    assert_eq!(smooth::sequence(&[u32::MAX, u32::MAX - 1]).len(), 4_095);
    assert_eq!(smooth::sequence(&vec![3; 5_000]).len(), 5_000);
}

#[test]
fn three_picks_hit_three_equal_targets_from_any_cursor() {
    let plan = planned(Algorithm::RoundRobin, &[1, 1, 1]);
    for start in (0..100).chain([u64::MAX - 3, 1 << 40]) {
        let mut hit: Vec<_> =
            (start..start + 3).filter_map(|cursor| pick(&plan, cursor, &|_| 0, &[])).collect();
        hit.sort_unstable();
        assert_eq!(hit, [0, 1, 2], "from {start}");
    }
}

#[test]
fn shares_follow_weights() {
    let weights = [1, 2, 3, 4, 0];
    use Algorithm::{Hash, Maglev, Random, RoundRobin};
    for algorithm in [RoundRobin, Random, Hash, Maglev] {
        let counts = counts(algorithm, &weights, 100_000, &[]);
        for (count, weight) in counts.iter().zip(weights) {
            let expected = 10_000.0 * f64::from(weight);
            let off = (*count as f64 - expected).abs();
            // A ring of about 200 points each is fair within some 10 %; the others within a few deviations.
            let allowed = if algorithm == Algorithm::Hash { expected * 0.2 } else { 500.0 };
            assert!(off <= allowed, "{algorithm:?}: {counts:?}");
        }
    }
}

#[test]
fn what_is_skipped_is_never_picked_and_its_share_is_spread() {
    for algorithm in ALL {
        let got = counts(algorithm, &[1, 1, 1, 1], 4_000, &[1, 2]);
        assert_eq!((got[1], got[2]), (0, 0), "{algorithm:?}: {got:?}");
        assert_eq!(got[0] + got[3], 4_000, "{algorithm:?}: {got:?}");
        assert!(got[0] > 400 && got[3] > 400, "{algorithm:?}: {got:?}");
        assert_eq!(counts(algorithm, &[1, 1], 10, &[0, 1]), [0, 0], "{algorithm:?}");
    }
}

#[test]
fn nothing_is_picked_from_nothing() {
    for algorithm in ALL {
        assert_eq!(counts(algorithm, &[], 10, &[]), [0; 0], "{algorithm:?}");
        assert_eq!(counts(algorithm, &[0, 0], 10, &[]), [0, 0], "{algorithm:?}");
        assert_eq!(counts(algorithm, &[0, 5], 10, &[]), [0, 10], "{algorithm:?}");
    }
    assert_eq!(Weighted::new(&[0]).pick(&mut Rng::with_seed(1)), None);
}

#[test]
fn least_requests_takes_the_least_for_the_weight_and_ties_go_round() {
    let plan = planned(Algorithm::LeastRequests, &[1, 1, 4]);
    let loads: &[(&[u32], usize)] =
        &[(&[0, 1, 8], 0), (&[3, 1, 8], 1), (&[3, 3, 8], 2), (&[u32::MAX, 2, u32::MAX], 1)];
    for (loads, expected) in loads {
        assert_eq!(pick(&plan, 1, &|at| loads[at], &[]), Some(*expected), "{loads:?}");
    }
    let plan = planned(Algorithm::LeastRequests, &[1, 1, 1]);
    let got: Vec<_> = (0..4).filter_map(|cursor| pick(&plan, cursor, &|_| 5, &[])).collect();
    assert_eq!(got, [0, 1, 2, 0]);
}

#[test]
fn power_of_two_never_takes_the_worst_and_compares_distinct_ones() {
    let plan = planned(Algorithm::PowerOfTwo, &[1, 1, 1]);
    let loads = [1, 9, 1];
    for cursor in 0..1_000 {
        assert_ne!(pick(&plan, cursor, &|at| loads[at], &[]), Some(1));
    }
    let one = planned(Algorithm::PowerOfTwo, &[0, 7]);
    assert_eq!(pick(&one, 0, &|_| 3, &[]), Some(1));
}

#[test]
fn only_the_keys_of_a_removed_target_move() {
    let keys = 20_000u64;
    for count in [2usize, 3, 10, 100] {
        let all = candidates(&vec![1; count]);
        let gone = count / 2;
        let mut fewer = all.clone();
        fewer.remove(gone);
        let (all, fewer) = (Ring::new(&all), Ring::new(&fewer));
        let mut moved = 0;
        for key in 0..keys {
            let key = hash_key(&key.to_be_bytes());
            let before = all.owners(key).next().unwrap();
            let after = fewer.owners(key).next().unwrap();
            let after = if after >= gone { after + 1 } else { after };
            moved += u64::from(before != after);
            assert!(before == after || before == gone, "a key of {before} moved to {after}");
            let skipped = all.owners(key).find(|at| *at != gone).unwrap();
            assert_eq!(skipped, after, "skipping and removing agree");
        }
        let allowed = keys as f64 / count as f64 * 1.3;
        assert!((moved as f64) < allowed, "{moved} of {keys} keys moved, {count} targets");
    }
}

#[test]
fn rings_are_bounded() {
    assert_eq!(Ring::new(&candidates(&[1, 1, 1])).points.len(), 3 * 256);
    assert_eq!(Ring::new(&candidates(&[999; 4])).points.len(), 4 * 249);
    assert_eq!(Ring::new(&candidates(&vec![1; 1_000])).points.len(), 64_000);
    assert!(Ring::new(&candidates(&vec![999; 1_000])).points.len() <= 65_536);
    assert!(Ring::new(&candidates(&[u32::MAX, u32::MAX, 1])).points.len() <= 3 * 256 + 3);
}

#[test]
fn key_hashes_never_change() {
    // FNV-1a of "a" is 0xaf63_dc4c_8601_ec8c in its authors' test suite.
    assert_eq!(hash_key(b""), 0xf52a_15e9_a9b5_e89b);
    assert_eq!(hash_key(b"a"), 0x02c0_bdbf_4814_20f8);
}

// ---------------------------------------------------------------- maglev

/// Owners of all entries.
fn table(candidates: &[Candidate], of: usize) -> Vec<usize> {
    Table::new(candidates, of).owners(0).collect()
}

fn shares(owners: &[usize], count: usize) -> Vec<usize> {
    let mut shares = vec![0; count];
    owners.iter().for_each(|at| shares[*at] += 1);
    shares
}

#[test]
fn tables_are_full_and_even() {
    for count in [1_usize, 2, 3, 10, 100, 3_276] {
        let owners = table(&candidates(&vec![1; count]), count);
        assert_eq!(owners.len(), 65_537);
        let shares = shares(&owners, count);
        let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
        assert!(most - least <= 1, "{count}: {least} to {most}");
    }
    assert_eq!(table(&candidates(&[1; 3]), 3_277).len(), 262_139, "by all that there are");
    assert!(table(&candidates(&[0, 0]), 2).is_empty());
}

#[test]
fn entries_follow_weights() {
    for weights in [&[1_u32, 2, 3, 4, 0][..], &[999, 1], &[u32::MAX, 1, 1], &[16, 16, 1]] {
        let shares = shares(&table(&candidates(weights), weights.len()), weights.len());
        let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
        for (share, weight) in shares.iter().zip(weights) {
            let expected = 65_537.0 * f64::from(*weight) / sum as f64;
            assert!((*share as f64 - expected).abs() <= 2.0, "{weights:?}: {shares:?}");
        }
    }
}

#[test]
fn little_but_the_keys_of_a_removed_target_moves_in_a_table() {
    for (count, allowed) in [(2_usize, 0.0), (3, 0.02), (10, 0.03), (100, 0.02)] {
        let all = candidates(&vec![1; count]);
        let gone = count / 2;
        let mut fewer = all.clone();
        fewer.remove(gone);
        let (before, after) = (table(&all, count), table(&fewer, count));
        let index = |at: usize| if at >= gone { at + 1 } else { at };
        let kept = before.iter().zip(&after).filter(|(before, _)| **before != gone);
        let moved = kept.clone().filter(|(before, after)| **before != index(**after)).count();
        let moved = moved as f64 / before.len() as f64;
        assert!(moved <= allowed, "{count} targets: {moved} of the others' keys moved");
    }
}

#[test]
fn the_order_of_the_list_decides_nothing() {
    let forwards = candidates(&[1, 5, 1, 2]);
    let backwards: Vec<Candidate> = forwards.iter().rev().copied().collect();
    let mirrored: Vec<usize> = table(&backwards, 4).iter().map(|at| 3 - at).collect();
    assert_eq!(table(&forwards, 4), mirrored);
}

// ---------------------------------------------------------------- bounds

/// Sends so many requests that never end, all of one key or each of its own; who has how many.
fn filled(algorithm: Algorithm, thousandths: u32, weights: &[u32], one_key: bool) -> Vec<u32> {
    let bound = Some(Bound::of_thousandths(thousandths));
    let plan = Plan::build(algorithm, bound, &candidates(weights), weights.len());
    let mut rng = Rng::with_seed(9);
    let mut loads = vec![0_u32; weights.len()];
    for n in 0..1_000_u32 {
        let key = Some(mix(if one_key { 7 } else { n.into() }));
        let (load, total) = (|at: usize| loads[at], || n);
        let pick = Pick { key, load: &load, total: &total, cursor: n.into(), ..idle(&mut rng) };
        let at = plan.pick(pick).unwrap();
        loads[at] += 1;
        let sum: u32 = weights.iter().sum();
        let most = f64::from(n + 1) * f64::from(weights[at]) / f64::from(sum)
            * f64::from(thousandths)
            / 1_000.0;
        assert!(f64::from(loads[at]) <= most.ceil(), "{n}: {loads:?}");
    }
    loads
}

#[test]
fn nobody_has_more_than_the_bound() {
    for algorithm in [Algorithm::Hash, Algorithm::Maglev] {
        for thousandths in [1_000, 1_250, 2_000] {
            for weights in [&[1_u32; 10][..], &[1, 2, 3, 4], &[1; 50]] {
                for one_key in [true, false] {
                    let loads = filled(algorithm, thousandths, weights, one_key);
                    assert_eq!(loads.iter().sum::<u32>(), 1_000, "{algorithm:?} {loads:?}");
                }
            }
        }
        // One popular key fills its target, then the next, no more than it must.
        let loads = filled(algorithm, 2_000, &[1; 10], true);
        assert_eq!(loads.iter().filter(|n| **n > 0).count(), 5, "{algorithm:?} {loads:?}");
    }
}

#[test]
fn a_key_stays_with_its_target_while_that_has_room() {
    let bound = Some(Bound::of_thousandths(1_250));
    for algorithm in [Algorithm::Hash, Algorithm::Maglev] {
        let (free, bounded) = (
            Plan::build(algorithm, None, &candidates(&[1; 5]), 5),
            Plan::build(algorithm, bound, &candidates(&[1; 5]), 5),
        );
        let mut rng = Rng::with_seed(3);
        for key in 0..1_000 {
            let key = Some(mix(key));
            let own = free.pick(Pick { key, ..idle(&mut rng) }).unwrap();
            // 10 in flight, so that each may have 3.
            let even = Pick { key, load: &|_| 2, total: &|| 10, ..idle(&mut rng) };
            assert_eq!(bounded.pick(even), Some(own));
            let full = |at: usize| if at == own { 3 } else { 2 };
            let next = bounded.pick(Pick { key, load: &full, total: &|| 11, ..idle(&mut rng) });
            let after = free.pick(Pick { key, skip: &[own], ..idle(&mut rng) });
            assert_eq!(next, after, "the next in line, as if the first were not there");
        }
        // Without a key there is nothing to be consistent with.
        assert!(bounded.pick(Pick { load: &|_| 9, ..idle(&mut rng) }).is_some());
    }
}

// ---------------------------------------------------------------- least time

#[test]
fn least_time_weighs_time_load_and_weight() {
    for (times, loads, weights, expected) in [
        (&[Some(10), Some(20), Some(30)], &[0, 0, 0], &[1, 1, 1], 0),
        (&[Some(10), Some(20), Some(30)], &[4, 0, 0], &[1, 1, 1], 1),
        (&[Some(10), Some(20), Some(30)], &[0, 0, 0], &[1, 1, 10], 2),
        (&[Some(10), Some(20), None], &[0, 0, 0], &[1, 1, 1], 2),
        (&[Some(10), Some(20), None], &[0, 0, 1], &[1, 1, 1], 0),
        (&[None, None, None], &[1, 2, 3], &[1, 9, 1], 1),
        (&[Some(u32::MAX), None, None], &[u32::MAX, 2, 3], &[1, 1, 0], 1),
    ] {
        let plan = planned(Algorithm::LeastTime, weights);
        let mut rng = Rng::with_seed(1);
        let (time, load) = (|at: usize| times[at], |at: usize| loads[at]);
        let pick = Pick { time: &time, load: &load, ..idle(&mut rng) };
        assert_eq!(plan.pick(pick), Some(expected), "{times:?} {loads:?} {weights:?}");
    }
    let plan = planned(Algorithm::LeastTime, &[1, 1, 1]);
    let got: Vec<_> = (0..4).filter_map(|cursor| pick(&plan, cursor, &|_| 5, &[])).collect();
    assert_eq!(got, [0, 1, 2, 0], "equal ones take turns");
}

#[test]
fn least_time_of_many_is_never_the_slowest() {
    let plan = planned(Algorithm::LeastTime, &[1; 30]);
    let mut rng = Rng::with_seed(5);
    for cursor in 0..2_000 {
        let time = |at: usize| Some(if at == 17 { 1_000 } else { 100 });
        assert_ne!(plan.pick(Pick { cursor, time: &time, ..idle(&mut rng) }), Some(17));
    }
}

/// One request of a simulated pool.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ending {
    at: u64,
    began: u64,
    target: usize,
}

/// The 99th percentile of response times in ms: so many requests a second for 25 s, each of which takes its target's time give
/// or take a half, whatever else that does.
fn p99(algorithm: Algorithm, ms: &[u64], rate: u64, seed: u64) -> f64 {
    use std::cmp::Reverse;
    const WARM: u64 = 5_000_000_000;
    let plan = planned(algorithm, &vec![1; ms.len()]);
    let mut rng = Rng::with_seed(seed);
    let ewmas: Vec<PeakEwma> = ms.iter().map(|_| PeakEwma::default()).collect();
    let mut loads = vec![0_u32; ms.len()];
    let mut endings = std::collections::BinaryHeap::new();
    let mut took = Vec::new();
    let mut clock = 0_u64;
    for cursor in 0.. {
        // Arrivals of a Poisson process.
        let gap = -(rng.f64().max(1e-12)).ln() / rate as f64;
        clock += (gap * 1e9) as u64;
        if clock > 25_000_000_000 {
            break;
        }
        while let Some(Reverse(Ending { at, began, target })) = endings.pop() {
            if at > clock {
                endings.push(Reverse(Ending { at, began, target }));
                break;
            }
            loads[target] -= 1;
            let time = std::time::Duration::from_nanos(at - began);
            ewmas[target].note(Sample::Answered(time), crate::base::Tick::from_nanos(at));
            if began > WARM {
                took.push(at - began);
            }
        }
        let now = crate::base::Tick::from_nanos(clock);
        let (load, time) = (|at: usize| loads[at], |at: usize| ewmas[at].read(now));
        let pick = Pick { cursor, load: &load, time: &time, ..idle(&mut rng) };
        let target = plan.pick(pick).unwrap();
        loads[target] += 1;
        let time = ms[target] * 1_000_000 / 2 + rng.u64(0..ms[target] * 1_000_000);
        endings.push(Reverse(Ending { at: clock + time, began: clock, target }));
    }
    took.sort_unstable();
    took[took.len() * 99 / 100] as f64 / 1e6
}

#[test]
fn a_slow_target_does_not_show_in_the_99th_percentile_with_least_time() {
    for (fast, rate) in [(1, 1_000), (3, 50), (3, 1_000), (3, 6_000), (9, 100), (20, 1_000)] {
        for seed in 1..=2 {
            let mut ms = vec![10; fast];
            let without = p99(Algorithm::LeastTime, &ms, rate, seed);
            ms.push(100);
            let with = p99(Algorithm::LeastTime, &ms, rate, seed);
            assert!(with <= 1.5 * without, "{fast} and 1, {rate}/s, seed {seed}: {with} ms");
            let turns = p99(Algorithm::RoundRobin, &ms, rate, seed);
            assert!(turns > 5.0 * without, "round robin shows what is there: {turns} ms");
        }
    }
}

proptest! {
    #[test]
    fn a_pick_has_weight_and_is_not_skipped_and_there_is_one_if_there_can_be(
        weights in proptest::collection::vec(prop_oneof![Just(0), 1u32..4, 1u32..1_000, any::<u32>()], 0..12),
        skip in proptest::collection::vec(0usize..14, 0..6),
        cursor: u64,
        key: Option<u64>,
        bound: Option<u32>,
        total: u32,
        seed: u64,
        algorithm in proptest::sample::select(&ALL[..]),
    ) {
        let bound = bound.map(Bound::of_thousandths);
        let plan = Plan::build(algorithm, bound, &candidates(&weights), weights.len());
        let load = |at: usize| u32::try_from(seed.wrapping_mul(at as u64 + 1) >> 32).unwrap();
        let mut rng = Rng::with_seed(seed);
        let time = |at: usize| (load(at) % 3 != 0).then(|| load(at) >> 4);
        let (total, time) = (&|| total, &time);
        let pick = Pick { cursor, key, rng: &mut rng, load: &load, total, time, skip: &skip };
        let got = plan.pick(pick);
        let eligible = |at: usize| weights.get(at).is_some_and(|w| *w > 0) && !skip.contains(&at);
        match got {
            Some(at) => prop_assert!(eligible(at), "{at}"),
            None => prop_assert!(!(0..weights.len()).any(eligible)),
        }
    }
}
