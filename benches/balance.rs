//! How long a pick takes, by algorithm and number of targets; and to make a plan.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::balance::{Algorithm, Candidate, Pick, Plan, hash_key};
use ringgate::base::Rng;
use std::hint::black_box;

const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("round_robin", Algorithm::RoundRobin),
    ("least_requests", Algorithm::LeastRequests),
    ("random", Algorithm::Random),
    ("p2c", Algorithm::PowerOfTwo),
    ("hash", Algorithm::Hash),
];

fn candidates(count: usize) -> Vec<Candidate> {
    let weights = (1..=3u32).cycle();
    let one =
        |(at, weight)| Candidate { weight, hash: hash_key(format!("target-{at}").as_bytes()) };
    (0..count).zip(weights).map(one).collect()
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance/pick");
    group.throughput(Throughput::Elements(1));
    for (name, algorithm) in ALGORITHMS {
        for count in [3, 30, 300] {
            let plan = Plan::build(algorithm, &candidates(count));
            let loads: Vec<u32> = (0u32..).map(|at| at * 7 % 5).take(count).collect();
            let (mut cursor, mut rng) = (0u64, Rng::with_seed(1));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| {
                    cursor += 1;
                    let key = Some(cursor.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let load = |at: usize| loads[at];
                    black_box(plan.pick(Pick {
                        cursor,
                        key,
                        rng: &mut rng,
                        load: &load,
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
    for (name, algorithm) in ALGORITHMS {
        let candidates = candidates(300);
        group.throughput(Throughput::Elements(300));
        group.bench_function(name, |b| b.iter(|| Plan::build(algorithm, black_box(&candidates))));
    }
    group.finish();
}

criterion_group!(benches, pick, build);
criterion_main!(benches);
