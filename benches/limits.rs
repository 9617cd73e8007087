//! What a limit costs a request: one key and 100,000 keys; one core, and two cores that share a key, with and without leases.
//!
//! The memory of a table is printed first, for each key that it is meant to remember.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::base::Tick;
use ringgate::http::RequestView;
use ringgate::http::fields::OwnedFields;
use ringgate::policy::rate::fields::Style;
use ringgate::policy::{Findings, Subject, concurrency, rate, window};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

const KEYS: u32 = 100_000;

fn subject(fields: &OwnedFields, client: u32, now: u64) -> Subject<'_> {
    let client = IpAddr::V4(Ipv4Addr::from(client));
    let view = RequestView {
        method: b"GET",
        host: b"api.example.com",
        path: b"/v1/things",
        query: None,
        fields: fields.view(),
        peer: client,
    };
    Subject {
        view,
        client,
        scheme: "http",
        port: 80,
        listener: "web",
        rule: "api",
        tls: None,
        body: None,
        decoded: false,
        preflight: false,
        now: Tick::from_nanos(now),
        unix: 1_800_000_000,
    }
}

fn limited(count: u64, burst: u64, fields: Style) -> rate::Policy {
    let settings = rate::Settings {
        name: "per-client".to_owned(),
        count,
        burst: Some(burst),
        fields,
        keys: KEYS as usize,
        ..rate::Settings::default()
    };
    rate::Policy::build(&settings, &|_| None, None).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

// Keys in an order in which no two that follow each other lie together.
fn key(n: u32, keys: u32) -> u32 {
    n.wrapping_mul(2_654_435_761) % keys
}

fn one_core(c: &mut Criterion) {
    let memory = limited(100, 100, Style::None).octets() as f64 / f64::from(KEYS);
    println!("{memory:.1} octets for each of {KEYS} keys");
    let none = OwnedFields::default();
    let mut group = c.benchmark_group("limits");
    group.throughput(Throughput::Elements(1));
    for (name, count, burst, style) in [
        ("rate, passes", 1_000_000, 100, Style::Standard),
        ("rate, passes, no fields", 1_000_000, 100, Style::None),
        ("rate, refuses", 1, 1, Style::Standard),
    ] {
        for keys in [1, KEYS] {
            let policy = limited(count, burst, style);
            let core = rate::Core::bind(&policy, None);
            let (mut findings, mut n, mut now) = (Findings::default(), 0, 0);
            group.bench_function(BenchmarkId::new(name, keys), |b| {
                b.iter(|| {
                    (n, now) = (n + 1, now + 2000);
                    findings.response.clear();
                    let subject = subject(&none, key(n, keys), now);
                    black_box(policy.check(&core, &subject, &mut findings, None))
                });
            });
        }
    }
    for keys in [1, KEYS] {
        let settings =
            concurrency::Settings { limit: 100, keys: KEYS as usize, ..Default::default() };
        let policy = concurrency::Policy::build(&settings, &|_| None, None);
        let policy = policy.unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let core = concurrency::Core::bind(&policy, None);
        let (mut findings, mut n) = (Findings::default(), 0);
        group.bench_function(BenchmarkId::new("concurrency, in and out", keys), |b| {
            b.iter(|| {
                n += 1;
                let subject = subject(&none, key(n, keys), 0);
                black_box(policy.check(&core, &subject, &mut findings, None));
                findings.held.clear();
            });
        });
        let settings = window::Settings { keys: KEYS as usize, ..Default::default() };
        let policy = window::Policy::build(&settings, &|_| None, None);
        let policy = policy.unwrap_or_else(|wrong| panic!("{wrong:?}"));
        let core = window::Core::bind(&policy, None);
        group.bench_function(BenchmarkId::new("window", keys), |b| {
            b.iter(|| {
                n += 1;
                let subject = subject(&none, key(n, keys), 1);
                black_box(policy.check(&core, &subject, &mut findings, None))
            });
        });
    }
    group.finish();
}

// Another core asks for the same key all the time.
fn two_cores(c: &mut Criterion) {
    let none = OwnedFields::default();
    let mut group = c.benchmark_group("limits/two cores, one key");
    group.throughput(Throughput::Elements(1));
    for (name, burst) in [("each request by itself", 100), ("leased", 1_000_000)] {
        let policy = limited(10_000_000, burst, Style::None);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (none, core) = (OwnedFields::default(), rate::Core::bind(&policy, None));
                let mut findings = Findings::default();
                while !over.load(Ordering::Relaxed) {
                    let now = Tick::now().nanos();
                    let _ = policy.check(&core, &subject(&none, 1, now), &mut findings, None);
                }
            });
            let core = rate::Core::bind(&policy, None);
            let mut findings = Findings::default();
            group.bench_function(name, |b| {
                b.iter(|| {
                    let now = Tick::now().nanos();
                    black_box(policy.check(&core, &subject(&none, 1, now), &mut findings, None))
                });
            });
            over.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group!(benches, one_core, two_cores);
criterion_main!(benches);
