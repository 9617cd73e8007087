//! Who is taken out, for how long, and how many at most.

use super::*;

fn seen(good: u64, bad: u64, millis: u64) -> Sums {
    Sums { good, bad, micros: good * millis * 1000 }
}

#[track_caller]
fn check(settings: &OutlierSettings, sums: &[Sums], expected: &[(usize, Reason)]) {
    assert_eq!(judge(settings, sums), expected, "{sums:?}");
}

#[test]
fn a_share_of_failures_is_too_large_with_enough_requests_only() {
    let settings = OutlierSettings { deviations: None, ..OutlierSettings::default() };
    let out = (1, Reason::FailureShare);
    check(&settings, &[seen(100, 0, 1), seen(50, 50, 1)], &[out]);
    check(&settings, &[seen(100, 0, 1), seen(51, 49, 1)], &[]);
    check(&settings, &[seen(100, 0, 1), seen(0, 49, 1)], &[]);
    check(&settings, &[seen(100, 0, 1), seen(0, 50, 1)], &[out]);
    check(&settings, &[], &[]);
    let none = OutlierSettings { failure_share: None, ..settings };
    check(&none, &[seen(100, 0, 1), seen(0, 500, 1)], &[]);
}

#[test]
fn the_worst_goes_first() {
    let settings = OutlierSettings::default();
    let all = [seen(40, 60, 1), seen(100, 0, 1), seen(0, 100, 1)];
    check(&settings, &all, &[(2, Reason::FailureShare), (0, Reason::FailureShare)]);
}

#[test]
fn a_success_rate_is_compared_with_that_of_enough_others() {
    let settings = OutlierSettings { failure_share: None, ..OutlierSettings::default() };
    let good = seen(100, 0, 1);
    let with = |others: usize, bad: Sums| {
        let mut all = vec![good; others];
        all.push(bad);
        all
    };
    // One that is worse than n others lies sqrt(n) deviations below their mean.
    check(&settings, &with(5, seen(80, 20, 1)), &[(5, Reason::SuccessRate)]);
    check(&settings, &with(3, seen(80, 20, 1)), &[]);
    check(&settings, &with(5, good), &[]);
    let few = OutlierSettings { targets: 7, ..settings.clone() };
    check(&few, &with(5, seen(80, 20, 1)), &[]);
    // One that had too few requests is no one to compare with.
    let mut all = with(5, seen(80, 20, 1));
    all.iter_mut().take(2).for_each(|sums| *sums = seen(10, 0, 1));
    check(&settings, &all, &[]);
    let none = OutlierSettings { deviations: None, ..settings };
    check(&none, &with(9, seen(1, 99, 1)), &[]);
}

#[test]
fn a_slow_one_is_out_only_where_that_is_asked_for() {
    let all = [seen(100, 0, 20), seen(100, 0, 22), seen(100, 0, 120)];
    check(&OutlierSettings::default(), &all, &[]);
    let settings = OutlierSettings { slower: Some(5000), ..OutlierSettings::default() };
    check(&settings, &all, &[(2, Reason::Slow)]);
    check(&settings, &[seen(100, 0, 20), seen(100, 0, 22), seen(100, 0, 90)], &[]);
    // Below ten milliseconds nobody minds.
    check(&settings, &[seen(100, 0, 1), seen(100, 0, 1), seen(100, 0, 9)], &[]);
    check(&settings, &[seen(100, 0, 100)], &[]);
}

#[test]
fn ejections_grow_up_to_the_longest() {
    let settings = OutlierSettings::default();
    let mut rng = Rng::with_seed(5);
    for (times, seconds) in [(0, 10), (1, 20), (9, 100), (29, 300), (500, 300), (u32::MAX, 300)] {
        let least = Duration::from_secs(seconds);
        let lasts: Vec<Duration> = (0..100).map(|_| settings.lasts(times, &mut rng)).collect();
        let within = |d: &Duration| (least..=least + least / 10).contains(d);
        assert!(lasts.iter().all(within), "{times}");
        assert!(lasts.iter().any(|d| *d != lasts[0]), "not all at once");
    }
}

#[test]
fn never_all_of_them() {
    let of = |max_ejected| OutlierSettings { max_ejected, ..OutlierSettings::default() };
    for (share, targets, most) in [
        (5000, 0, 0),
        (5000, 1, 0),
        (5000, 2, 1),
        (5000, 3, 1),
        (5000, 4, 2),
        (5000, 5, 2),
        (0, 3, 1),
        (1000, 5, 1),
        (10_000, 3, 2),
        (10_000, 1, 0),
    ] {
        assert_eq!(of(share).most_of(targets), most, "{share} of {targets}");
    }
}

#[test]
fn a_row_is_counted_by_all_workers_and_ended_by_any() {
    let watch = Watch::default();
    assert_eq!([0, 1, 0].map(|worker| watch.bad(worker, 2)), [1, 2, 3]);
    watch.good(1, 2, Duration::from_micros(7));
    assert_eq!((watch.streak(), watch.bad(1, 2)), (0, 1));
    assert_eq!(watch.sums(), Sums { good: 1, bad: 4, micros: 7 });
    let before = watch.sums();
    watch.good(0, 2, Duration::ZERO);
    assert_eq!(watch.sums().since(before), Sums { good: 1, bad: 0, micros: 0 });
}

#[test]
fn out_and_back() {
    let (watch, at) = (Watch::default(), Tick::from_nanos);
    assert!(watch.out().is_none());
    assert!(watch.eject(Reason::SuccessRate, at(5), at(50)));
    assert!(!watch.eject(Reason::Consecutive, at(6), at(60)), "it is out");
    let out = Out { reason: Reason::SuccessRate, since: at(5), until: at(50) };
    assert_eq!((watch.out(), watch.is_out()), (Some(out), true));
    watch.count(Reason::SuccessRate);
    watch.restore(Some(5));
    assert!(!watch.is_out());
    assert_eq!(watch.bad(0, 1), 5, "one failure is enough until it has answered well");
    watch.good(0, 1, Duration::ZERO);
    assert_eq!(watch.bad(0, 1), 1);
    assert_eq!((watch.times(), watch.ejections(Reason::SuccessRate)), (1, 1));
    watch.count(Reason::RetryAfter);
    assert_eq!(watch.times(), 1, "who asks for a pause is not punished");
    watch.forgive();
    watch.forgive();
    assert_eq!(watch.times(), 0);
}
