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

/// Picks once for each cursor and counts.
fn counts(algorithm: Algorithm, weights: &[u32], picks: u64, skip: &[usize]) -> Vec<u64> {
    let plan = Plan::build(algorithm, &candidates(weights));
    let mut rng = Rng::with_seed(7);
    let mut counts = vec![0; weights.len()];
    for cursor in 0..picks {
        let key = Some(hash_key(&cursor.to_le_bytes()));
        let pick = Pick { cursor, key, rng: &mut rng, load: &|_| 0, skip };
        if let Some(at) = plan.pick(pick) {
            counts[at] += 1;
        }
    }
    counts
}

fn turns(weights: &[u32]) -> Vec<u32> {
    smooth::sequence(weights).into()
}

fn pick(plan: &Plan, cursor: u64, load: &dyn Fn(usize) -> u32, skip: &[usize]) -> Option<usize> {
    plan.pick(Pick { cursor, key: None, rng: &mut Rng::with_seed(cursor), load, skip })
}

const ALL: [Algorithm; 5] = [
    Algorithm::RoundRobin,
    Algorithm::LeastRequests,
    Algorithm::Random,
    Algorithm::PowerOfTwo,
    Algorithm::Hash,
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
    let plan = Plan::build(Algorithm::RoundRobin, &candidates(&[1, 1, 1]));
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
    for algorithm in [Algorithm::RoundRobin, Algorithm::Random, Algorithm::Hash] {
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
    let plan = Plan::build(Algorithm::LeastRequests, &candidates(&[1, 1, 4]));
    let loads: &[(&[u32], usize)] =
        &[(&[0, 1, 8], 0), (&[3, 1, 8], 1), (&[3, 3, 8], 2), (&[u32::MAX, 2, u32::MAX], 1)];
    for (loads, expected) in loads {
        assert_eq!(pick(&plan, 1, &|at| loads[at], &[]), Some(*expected), "{loads:?}");
    }
    let plan = Plan::build(Algorithm::LeastRequests, &candidates(&[1, 1, 1]));
    let got: Vec<_> = (0..4).filter_map(|cursor| pick(&plan, cursor, &|_| 5, &[])).collect();
    assert_eq!(got, [0, 1, 2, 0]);
}

#[test]
fn power_of_two_never_takes_the_worst_and_compares_distinct_ones() {
    let plan = Plan::build(Algorithm::PowerOfTwo, &candidates(&[1, 1, 1]));
    let loads = [1, 9, 1];
    for cursor in 0..1_000 {
        assert_ne!(pick(&plan, cursor, &|at| loads[at], &[]), Some(1));
    }
    let one = Plan::build(Algorithm::PowerOfTwo, &candidates(&[0, 7]));
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
            let before = all.find(key, |_| false).unwrap();
            let after = fewer.find(key, |_| false).unwrap();
            let after = if after >= gone { after + 1 } else { after };
            moved += u64::from(before != after);
            assert!(before == after || before == gone, "a key of {before} moved to {after}");
            let skipped = all.find(key, |at| at == gone).unwrap();
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

proptest! {
    #[test]
    fn a_pick_has_weight_and_is_not_skipped_and_there_is_one_if_there_can_be(
        weights in proptest::collection::vec(prop_oneof![Just(0), 1u32..4, 1u32..1_000, any::<u32>()], 0..12),
        skip in proptest::collection::vec(0usize..14, 0..6),
        cursor: u64,
        key: Option<u64>,
        seed: u64,
        algorithm in proptest::sample::select(&ALL[..]),
    ) {
        let plan = Plan::build(algorithm, &candidates(&weights));
        let load = |at: usize| u32::try_from(seed.wrapping_mul(at as u64 + 1) >> 32).unwrap();
        let mut rng = Rng::with_seed(seed);
        let got = plan.pick(Pick { cursor, key, rng: &mut rng, load: &load, skip: &skip });
        let eligible = |at: usize| weights.get(at).is_some_and(|w| *w > 0) && !skip.contains(&at);
        match got {
            Some(at) => prop_assert!(eligible(at), "{at}"),
            None => prop_assert!(!(0..weights.len()).any(eligible)),
        }
    }
}
