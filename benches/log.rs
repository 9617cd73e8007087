//! What writing one access record costs, in each format.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate::observe::{Clock, Format, Record};
use std::hint::black_box;
use std::time::Duration;

fn record() -> Record<'static> {
    Record {
        wall_micros: 1_783_030_980_186_641,
        request_id: b"0192f3a1b4c57d22a1b2c3d4e5f60718",
        client: [192, 0, 2, 7].into(),
        peer: Some(([192, 0, 2, 7], 2817).into()),
        listener: "web",
        rule: "api",
        rule_priority: Some(10),
        group: "api",
        target: Some("10.0.0.1:8080"),
        method: b"GET",
        host: b"api.example.com",
        path: b"/v1/customers/81f3/orders?from=2026-01-01&limit=50",
        version: "HTTP/1.1",
        status: 200,
        target_status: Some(200),
        bytes_in: 812,
        bytes_out: 3661,
        body_out: 3312,
        request_time: Some(Duration::from_micros(120)),
        connect_time: Some(Duration::ZERO),
        response_time: Some(Duration::from_micros(48_250)),
        total: Some(Duration::from_micros(50_000)),
        user_agent: Some(
            b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0",
        ),
        referer: Some(b"https://shop.example.com/account/orders"),
        generation: 3,
        reused: true,
        action: "forward",
        ..Record::default()
    }
}

fn formats(c: &mut Criterion) {
    let template = "$time $client \"$method $path\" $status $bytes_out $total_ms";
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    for (name, text) in
        [("json", "json"), ("combined", "combined"), ("alb", "alb"), ("template", template)]
    {
        let Ok(format) = Format::parse(text) else { continue };
        let (mut clock, mut out) = (Clock::default(), Vec::with_capacity(4096));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                format.write(black_box(&record()), &mut clock, &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, formats);
criterion_main!(benches);
