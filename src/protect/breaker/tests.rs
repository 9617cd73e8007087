//! When a breaker opens, whom it lets in then, and when it closes.

use super::*;
use crate::protect::Cause;

const BAD: Outcome = Outcome::Bad(Cause::Status);
const GOOD: Outcome = Outcome::Good;

fn at(millis: u64) -> Tick {
    Tick::from_nanos(1_000_000_000_000 + millis * 1_000_000)
}

fn settings() -> BreakerSettings {
    BreakerSettings { requests: 10, trials: 2, ..BreakerSettings::default() }
}

fn ends(breaker: &Breaker, settings: &BreakerSettings, outcomes: &[(Outcome, usize)]) -> bool {
    let mut opened = false;
    for (outcome, times) in outcomes {
        for n in 0..*times {
            opened |= breaker.ended(settings, *outcome, at(0), (n % 3, 3));
        }
    }
    opened
}

fn open(breaker: &Breaker, settings: &BreakerSettings) {
    assert!(ends(breaker, settings, &[(BAD, 10)]));
    assert_eq!(breaker.state(), (State::Open, at(0)));
}

// Hazard UP-18: three workers, none of which has seen enough by itself.
#[test]
fn a_share_of_failures_opens_it_whichever_workers_saw_them() {
    let share = settings();
    assert!(!ends(&Breaker::default(), &share, &[(BAD, 9)]), "too few to judge");
    assert!(ends(&Breaker::default(), &share, &[(GOOD, 5), (BAD, 5)]));
    assert!(!ends(&Breaker::default(), &share, &[(GOOD, 6), (BAD, 5)]));
    assert!(!ends(&Breaker::default(), &share, &[(Outcome::Silent, 100)]));
    let none = BreakerSettings { failure_share: None, ..share.clone() };
    assert!(!ends(&Breaker::default(), &none, &[(BAD, 100)]));
    let row = BreakerSettings { consecutive: Some(4), ..none };
    assert!(!ends(&Breaker::default(), &row, &[(BAD, 3), (GOOD, 1), (BAD, 3)]));
    assert!(ends(&Breaker::default(), &row, &[(BAD, 4)]));
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let (breaker, settings) = (Breaker::default(), settings());
    assert!(!ends(&breaker, &settings, &[(BAD, 9)]));
    assert!(!breaker.ended(&settings, BAD, at(10_001), (0, 3)), "one in ten seconds");
    let (breaker, mut opened) = (Breaker::default(), 0);
    for n in 0..10 {
        opened += u32::from(breaker.ended(&settings, BAD, at(n * 900), (0, 3)));
    }
    assert_eq!(opened, 1, "ten in nine seconds");
}

#[test]
fn trials_are_let_in_and_must_all_go_well() {
    let (breaker, settings) = (Breaker::default(), settings());
    assert_eq!(breaker.enter(&settings, || at(0)), Entry::Free);
    open(&breaker, &settings);
    let left = Duration::from_millis(9_900);
    assert_eq!(breaker.enter(&settings, || at(100)), Entry::Refused(left));
    let Entry::Trial { phase, first: true } = breaker.enter(&settings, || at(10_000)) else {
        panic!("{breaker:?}");
    };
    let second = breaker.enter(&settings, || at(10_000));
    assert_eq!(second, Entry::Trial { phase, first: false });
    let one_second = Entry::Refused(Duration::from_secs(1));
    assert_eq!(breaker.enter(&settings, || at(10_001)), one_second);
    assert!(!breaker.ended(&settings, BAD, at(10_001), (0, 3)), "it began before");
    assert_eq!(breaker.tried(&settings, phase, GOOD, at(10_002)), None);
    // A client that has left says nothing: another may try.
    assert_eq!(breaker.tried(&settings, phase, Outcome::Silent, at(10_002)), None);
    assert!(matches!(breaker.enter(&settings, || at(10_003)), Entry::Trial { .. }));
    assert_eq!(breaker.tried(&settings, phase, GOOD, at(10_004)), Some(State::Closed));
    assert_eq!(breaker.enter(&settings, || at(10_005)), Entry::Free);
    // What was counted before it opened is forgotten.
    assert!(!breaker.ended(&settings, BAD, at(10_005), (0, 3)));
    assert_eq!(State::ALL.map(|state| breaker.changes(state)), [1, 1, 1]);
    assert_eq!(breaker.refused(), 2);
}

#[test]
fn a_trial_that_fails_opens_it_again() {
    let (breaker, settings) = (Breaker::default(), settings());
    open(&breaker, &settings);
    let Entry::Trial { phase, .. } = breaker.enter(&settings, || at(10_000)) else {
        panic!("{breaker:?}");
    };
    assert_eq!(breaker.tried(&settings, phase, BAD, at(10_500)), Some(State::Open));
    assert_eq!(breaker.tried(&settings, phase, GOOD, at(10_600)), None, "its phase is over");
    let left = Duration::from_millis(9_900);
    assert_eq!(breaker.enter(&settings, || at(10_600)), Entry::Refused(left));
}

// Answers that never end, and a reload that asks for fewer trials than have gone well.
#[test]
fn trials_that_say_nothing_are_given_up() {
    let (breaker, settings) = (Breaker::default(), settings());
    open(&breaker, &settings);
    let trial = |settings: &BreakerSettings, ms| match breaker.enter(settings, || at(ms)) {
        Entry::Trial { phase, first } => Some((phase, first)),
        _ => None,
    };
    let (lost, _) = trial(&settings, 10_000).unwrap();
    assert_eq!(trial(&settings, 10_000), Some((lost, false)));
    assert_eq!(trial(&settings, 19_999), None, "they may end yet");
    let (phase, first) = trial(&settings, 20_000).unwrap();
    assert!(phase != lost && !first, "half open as before");
    assert_eq!(breaker.tried(&settings, lost, BAD, at(20_001)), None, "too late to count");
    assert_eq!(breaker.tried(&settings, lost, GOOD, at(20_001)), None);
    breaker.give_back(lost);
    assert_eq!(trial(&settings, 20_002), Some((phase, false)));
    assert_eq!(trial(&settings, 20_003), None);
    assert_eq!(breaker.tried(&settings, phase, GOOD, at(20_004)), None);
    let fewer = BreakerSettings { trials: 1, ..settings.clone() };
    assert_eq!(breaker.enter(&fewer, || at(20_005)), Entry::Refused(Duration::from_secs(1)));
    assert_eq!(breaker.rest(at(29_500)), Duration::from_millis(500));
    let (phase, _) = trial(&fewer, 30_000).unwrap();
    assert_eq!(breaker.tried(&fewer, phase, GOOD, at(30_001)), Some(State::Closed));
    assert_eq!(State::ALL.map(|state| breaker.changes(state)), [1, 1, 1]);
}

#[test]
fn never_more_trials_than_the_file_says_however_workers_interleave() {
    let settings = BreakerSettings { trials: 7, ..settings() };
    for _ in 0..200 {
        let breaker = Breaker::default();
        open(&breaker, &settings);
        let enter = || matches!(breaker.enter(&settings, || at(20_000)), Entry::Trial { .. });
        let entered: usize = std::thread::scope(|scope| {
            let asked: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..20).filter(|_| enter()).count())).collect();
            asked.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(entered, 7);
    }
}
