//! How long a pick takes, by algorithm and number of targets; and to make a plan.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::balance::{
    Algorithm, Bound, Candidate, Member, PeakEwma, Pick, Plan, Sample, Settings, Standing, Zones,
    choose, hash_key,
};
use ringgate::base::{Rng, Tick};
use std::hint::black_box;
use std::time::Duration;

/// Name, algorithm, and its bound in thousandths.
const ALGORITHMS: [(&str, Algorithm, Option<u32>); 9] = [
    ("round_robin", Algorithm::RoundRobin, None),
    ("least_requests", Algorithm::LeastRequests, None),
    ("least_time", Algorithm::LeastTime, None),
    ("random", Algorithm::Random, None),
    ("p2c", Algorithm::PowerOfTwo, None),
    ("hash", Algorithm::Hash, None),
    ("hash_bounded", Algorithm::Hash, Some(1_250)),
    ("maglev", Algorithm::Maglev, None),
    ("maglev_bounded", Algorithm::Maglev, Some(1_250)),
];

fn plan(algorithm: Algorithm, bound: Option<u32>, candidates: &[Candidate]) -> Plan {
    Plan::build(algorithm, bound.map(Bound::of_thousandths), candidates, candidates.len())
}

fn candidates(count: usize) -> Vec<Candidate> {
    let weights = (1..=3u32).cycle();
    let one =
        |(at, weight)| Candidate { weight, hash: hash_key(format!("target-{at}").as_bytes()) };
    (0..count).zip(weights).map(one).collect()
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/pick");
    group.throughput(Throughput::Elements(1));
    for (name, algorithm, bound) in ALGORITHMS {
        for count in [3, 30, 300] {
            let plan = plan(algorithm, bound, &candidates(count));
            let times: Vec<PeakEwma> = (0..count).map(|_| PeakEwma::default()).collect();
            for (at, time) in (0..).zip(&times) {
                time.note(Sample::Answered(Duration::from_millis(at % 50)), Tick::from_nanos(1));
            }
            let now = Tick::from_nanos(5_000_000_000);
            let loads: Vec<u32> = (0u32..).map(|at| at * 7 % 5).take(count).collect();
            let (mut cursor, mut rng) = (0u64, Rng::with_seed(1));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    cursor += 1;
                    let key = Some(cursor.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let load = |at: usize| loads[at];
                    // As much as the loads come to.
                    let total = || u32::try_from(count).unwrap_or(0) * 2;
                    let time = |at: usize| times[at].read(now);
                    black_box(plan.pick(Pick {
                        cursor,
                        key,
                        rng: &mut rng,
                        load: &load,
                        total: &total,
                        time: &time,
                        skip: &[],
                    }))
                });
            });
        }
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/build");
    group.sample_size(20);
    for (name, algorithm, bound) in ALGORITHMS {
        for count in [3, 1_000] {
            let candidates = candidates(count);
            group.throughput(Throughput::Elements(u64::try_from(count).unwrap_or(1)));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| plan(algorithm, bound, black_box(&candidates)));
            });
        }
    }
    group.finish();
}

/// Who takes part among a thousand in two zones, every tenth of them unhealthy, some in slow start.
fn choosing(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/choose");
    let now = Tick::from_nanos(100_000_000_000);
    let member = |at: u64| Member {
        weight: 1 + u32::try_from(at % 3).unwrap_or(0),
        hash: at,
        tier: 0,
        local: at.is_multiple_of(2),
        standing: if at.is_multiple_of(10) { Standing::Unhealthy } else { Standing::Usable },
        since: Tick::from_nanos(if at.is_multiple_of(7) { 95_000_000_000 } else { 0 }),
    };
    let members: Vec<Member> = (0..1_000).map(member).collect();
    let settings = Settings {
        bound: None,
        slow_start: Some(Duration::from_secs(30)),
        zones: Zones::Prefer { enough: 95 },
    };
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("1000", |b| b.iter(|| choose(black_box(&members), &settings, true, now)));
    group.finish();
}

/// What is noted of each answer, where time decides.
fn note(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/note");
    let (time, mut now) = (PeakEwma::default(), 0);
    group.throughput(Throughput::Elements(1));
    group.bench_function("peak_ewma", |b| {
        b.iter(|| {
            now += 100_000;
            let took = Duration::from_nanos(now % 7_000_000);
            time.note(Sample::Answered(black_box(took)), Tick::from_nanos(now));
        });
    });
    group.finish();
}

criterion_group!(benches, pick, build, choosing, note);
criterion_main!(benches);
