//! The limiter as a whole: simulated cores against an exact reference, real threads, floods of keys, reloads.

use super::*;
use crate::http::fields::OwnedFields;
use crate::policy::key::tests::subject;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

const SECOND: u64 = 1_000_000_000;

fn build(settings: &Settings, old: Option<&Policy>) -> Policy {
    Policy::build(settings, &|_| None, old).unwrap()
}

fn settings(count: u64, burst: u64) -> Settings {
    Settings { count, burst: Some(burst), keys: 64, fields: Style::None, ..Settings::default() }
}

fn cores(policy: &Policy, n: usize) -> Vec<Core> {
    (0..n).map(|_| Core::bind(policy, None)).collect()
}

// What the policy says of a request of this client.
fn verdict(policy: &Policy, core: &Core, client: &str, now: u64) -> (Verdict, String) {
    let (none, mut findings) = (OwnedFields::default(), Findings::default());
    let now = Tick::from_nanos(now);
    let verdict = policy.check(core, &subject(&none, client, now), &mut findings, None);
    (verdict, String::from_utf8(findings.response).unwrap())
}

fn passes(policy: &Policy, core: &Core, client: &str, now: u64) -> bool {
    match verdict(policy, core, client, now).0 {
        Verdict::Pass => true,
        Verdict::Refuse(Fault::RateLimited) => false,
        other => panic!("{other:?}"),
    }
}

fn burst(policy: &Policy, core: &Core, client: &str, now: u64) -> usize {
    (0..10_000).take_while(|_| passes(policy, core, client, now)).count()
}

// The token bucket itself, in whole numbers: nanoseconds times tokens a period.
struct Exact {
    level: u128,
    most: u128,
    token: u128,
    count: u128,
    last: u64,
}

impl Exact {
    fn new(settings: &Settings) -> Exact {
        let token = u128::from(settings.seconds) * u128::from(SECOND);
        let most = token * u128::from(settings.burst());
        Exact { level: most, most, token, count: u128::from(settings.count), last: 0 }
    }

    // Whether this may pass: false for a limiter that lets too much through, in whatever stretch of time.
    fn admits(&mut self, now: u64) -> bool {
        let came = u128::from(now - self.last) * self.count;
        self.level = (self.level + came).min(self.most);
        self.last = now;
        let fits = self.level >= self.token;
        self.level = self.level.saturating_sub(self.token);
        fits
    }
}

fn any_limit() -> impl Strategy<Value = Settings> {
    let counts = prop_oneof![1..50_u64, 100..5000_u64, 10_000..3_000_000_u64];
    let bursts = prop_oneof![1..20_u64, 200..20_000_u64];
    (counts, bursts, prop_oneof![Just(1), Just(60)])
        .prop_map(|(count, burst, seconds)| Settings { seconds, ..settings(count, burst) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // Hazard RL-01: whatever the cores do, and whenever they sweep, never more passes than from one bucket.
    #[test]
    fn never_more_passes_than_is_allowed(
        settings in any_limit(),
        n in 1..9_usize,
        steps in prop::collection::vec((0..9_usize, 0..400_u32, 0..40_usize, 0..12_u8), 1..400),
    ) {
        let mut policy = build(&settings, None);
        let mut cores = cores(&policy, n);
        let mut exact = Exact::new(&settings);
        let mut now = 0;
        for (core, tokens, requests, event) in steps {
            // Time passes in parts of a token's.
            now += u64::from(tokens) * settings.seconds * SECOND / settings.count / 37;
            let at = core % cores.len();
            match event {
                0 => cores[at].sweep(&policy, Tick::from_nanos(now)),
                // A reload, of which one core hears later; a worker that is replaced.
                1 => {
                    policy = build(&settings, Some(&policy));
                    cores[at] = Core::bind(&policy, Some(&cores[at]));
                }
                2 => cores[at] = Core::bind(&policy, None),
                3 => cores.push(Core::bind(&policy, None)),
                _ => {}
            }
            for _ in 0..requests {
                if passes(&policy, &cores[at], "192.0.2.1", now) {
                    prop_assert!(exact.admits(now), "at {} ns", now);
                }
            }
        }
    }

    // The goal: over ten seconds of too many requests, no more than a hundredth is lost, on one worker or spread evenly.
    #[test]
    fn little_is_lost_when_too_many_come(
        count in prop_oneof![50..200_u64, 1000..20_000_u64],
        part in 1..40_u64,
        n in prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)],
        spread in any::<bool>(),
    ) {
        let settings = settings(count, (count * part / 20).max(1));
        let policy = build(&settings, None);
        let cores = cores(&policy, n);
        let mut exact = Exact::new(&settings);
        let (mut passed, mut sweep, mut turn) = (0_u64, 0, 0);
        let every = SECOND / count / 2;
        for now in (0..10 * SECOND).step_by(usize::try_from(every).unwrap()) {
            if now >= sweep {
                sweep = now + SECOND / 10;
                cores.iter().for_each(|core| core.sweep(&policy, Tick::from_nanos(now)));
            }
            turn += 1;
            let core = &cores[if spread { turn % n } else { 0 }];
            if passes(&policy, core, "192.0.2.1", now) {
                passed += 1;
                prop_assert!(exact.admits(now));
            }
        }
        let allowed = count * 10 + settings.burst();
        prop_assert!(passed * 100 >= allowed * 99, "{} of {}", passed, allowed);
        prop_assert!(passed <= allowed, "{} of {}", passed, allowed);
    }
}

#[test]
fn threads_that_meet_at_new_keys_find_one_bucket() {
    // More keys than places, at times that let places change hands.
    for (keys, clients) in [(4000, 500), (20, 60)] {
        let settings = Settings { keys, ..settings(1, 2) };
        let policy = build(&settings, None);
        let counts: Vec<std::sync::atomic::AtomicU64> =
            (0..clients * 40).map(|_| 0.into()).collect();
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let core = Core::bind(&policy, None);
                    for round in 0..40 {
                        barrier.wait();
                        for client in 0..clients {
                            let address = format!("10.0.{}.{}", client / 250, client % 250);
                            // Two seconds later all buckets are full again.
                            let now = (round as u64 + 1) * 2 * SECOND + 1;
                            if passes(&policy, &core, &address, now) {
                                counts[round * clients + client].fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    }
                });
            }
        });
        let counts: Vec<u64> = counts.iter().map(|c| c.load(Ordering::SeqCst)).collect();
        assert!(counts.iter().all(|c| *c <= 2), "{:?}", counts.iter().max());
        if keys > clients {
            assert!(counts.iter().all(|c| *c == 2), "{:?}", counts.iter().min());
        }
    }
}

// Hazard RL-05.
#[test]
fn a_million_addresses_push_nobody_out() {
    let settings = Settings { seconds: 3600, keys: 10_000, ..settings(60, 3) };
    let policy = build(&settings, None);
    let core = Core::bind(&policy, None);
    assert_eq!(burst(&policy, &core, "192.0.2.1", SECOND), 3);
    let octets = policy.octets();
    let mut let_in = 0_u64;
    for n in 0..1_000_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let address = format!("10.{a}.{b}.{c}");
        let_in += u64::from(passes(&policy, &core, &address, SECOND + u64::from(n) * 1000));
        if n % 100_000 == 0 {
            assert!(!passes(&policy, &core, "192.0.2.1", 2 * SECOND), "its bucket is empty still");
        }
    }
    assert!(let_in > 10_000, "who came first had a bucket: {let_in}");
    assert!(let_in < 70_000, "the others shared what there was: {let_in}");
    assert!(passes(&policy, &core, "192.0.2.1", 62 * SECOND), "and it fills as it should");
    assert!(!passes(&policy, &core, "192.0.2.1", 62 * SECOND));
    assert_eq!(policy.octets(), octets, "the table does not grow");
    assert!(octets / settings.keys <= 64, "{} octets a key", octets / settings.keys);
}

#[test]
fn nearly_all_keys_have_a_place_of_their_own() {
    let settings = Settings { seconds: 3600, keys: 100_000, ..settings(60, 1) };
    let policy = build(&settings, None);
    let core = Core::bind(&policy, None);
    let own = (0..100_000_u32).filter(|n| {
        let [_, a, b, c] = n.to_be_bytes();
        passes(&policy, &core, &format!("10.{a}.{b}.{c}"), SECOND)
    });
    let own = own.count();
    assert!(own > 99_500, "{own}");
}

// Hazard RL-02.
#[test]
fn a_reload_refills_nothing() {
    let first = settings(10, 100);
    for (changed, expected) in [
        (first.clone(), 0),
        (Settings { count: 20, ..first.clone() }, 0),
        (Settings { burst: Some(150), ..first.clone() }, 50),
        (Settings { burst: Some(30), ..first.clone() }, 0),
        (Settings { keys: 1000, ..first.clone() }, 0),
        (Settings { key: Key { ipv6_prefix: 48, ..Key::default() }, ..first.clone() }, 100),
    ] {
        let policy = build(&first, None);
        let core = Core::bind(&policy, None);
        assert_eq!(burst(&policy, &core, "192.0.2.1", SECOND), 100);
        core.sweep(&policy, Tick::from_nanos(SECOND));
        let policy = build(&changed, Some(&policy));
        let core = Core::bind(&policy, Some(&core));
        assert_eq!(burst(&policy, &core, "192.0.2.1", SECOND), expected, "{changed:?}");
        let whole = burst(&policy, &core, "192.0.2.1", 100 * SECOND);
        assert_eq!(whole as u64, changed.burst(), "{changed:?}");
    }
}

#[test]
fn leases_survive_a_reload_and_go_back_with_a_sweep() {
    let settings = settings(100_000, 100_000);
    let policy = build(&settings, None);
    assert!(policy.leasing.reserve > 0);
    let cores = cores(&policy, 2);
    assert!(passes(&policy, &cores[0], "192.0.2.1", SECOND));
    let again = build(&settings, Some(&policy));
    let rebound = Core::bind(&again, Some(&cores[0]));
    cores[1].sweep(&again, Tick::from_nanos(SECOND));
    rebound.sweep(&again, Tick::from_nanos(SECOND));
    let whole = policy.bucket.burst();
    let left: usize = burst_of(&again, &cores[1], whole as usize * 2);
    assert_eq!(left as u64, whole - 1, "but the one that was spent, all are there");
}

fn burst_of(policy: &Policy, core: &Core, most: usize) -> usize {
    (0..most).take_while(|_| passes(policy, core, "192.0.2.1", SECOND)).count()
}

#[test]
fn each_core_has_a_bucket_of_its_own_where_that_is_wanted() {
    let settings = Settings { scope: Scope::Core, ..settings(10, 5) };
    let policy = build(&settings, None);
    let cores = cores(&policy, 3);
    for core in &cores {
        assert_eq!(burst(&policy, core, "192.0.2.1", SECOND), 5);
    }
    let again = build(&settings, Some(&policy));
    let core = Core::bind(&again, Some(&cores[0]));
    assert_eq!(burst(&again, &core, "192.0.2.1", SECOND), 0);
}

#[test]
fn who_may_wait_waits_for_its_token() {
    let settings = Settings { queue: 2, ..settings(10, 1) };
    let policy = build(&settings, None);
    let cores = cores(&policy, 2);
    let at = |core: usize| match verdict(&policy, &cores[core], "192.0.2.1", SECOND).0 {
        Verdict::Pass => Some(0),
        Verdict::Wait(tick) => Some((tick.nanos() - SECOND) / 1_000_000),
        Verdict::Refuse(Fault::RateLimited) => None,
        other => panic!("{other:?}"),
    };
    assert_eq!([at(0), at(1), at(0), at(1)], [Some(0), Some(100), Some(200), None]);
}

#[test]
fn clients_are_told_what_is_left_and_when_to_come_again() {
    let settings =
        Settings { fields: Style::Both, seconds: 60, name: "a.b".into(), ..settings(30, 2) };
    let policy = build(&settings, None);
    let core = Core::bind(&policy, None);
    let policy_line = "ratelimit-policy: \"a.b\";q=30;w=60\r\n";
    for (left, seconds, after) in [(1, 2, ""), (0, 4, ""), (0, 4, "retry-after: 2\r\n")] {
        let (_, said) = verdict(&policy, &core, "192.0.2.1", SECOND);
        let expected = format!(
            "{policy_line}ratelimit: \"a.b\";r={left};t={seconds}\r\nratelimit-limit: 30\r\n\
             ratelimit-remaining: {left}\r\nratelimit-reset: {seconds}\r\n{after}"
        );
        assert_eq!(said, expected);
    }
}

#[test]
fn a_bucket_that_could_never_fill_is_not_compiled() {
    let settings = Settings { seconds: 86_400, ..settings(1, 1_000_000) };
    let wrong = Policy::build(&settings, &|_| None, None).unwrap_err();
    assert!(wrong.found.contains("36 years"), "{wrong:?}");
}
