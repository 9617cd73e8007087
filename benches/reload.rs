//! What a reload of 10,000 rules costs: reading the text, compiling it beside the snapshot in use, and the tests and
//! warnings that come before it is published.
//!
//! The goal: compiled and published within 250 ms. Publishing is one swap of a pointer for each worker.

#![expect(clippy::expect_used, reason = "a benchmark of a file that is refused is no benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate::config::{self, Config};
use ringgate::snapshot::compile::Context;
use ringgate::snapshot::{Snapshot, compile, expect};
use std::fmt::Write;
use std::hint::black_box;

const RULES: usize = 10_000;
/// Each with three targets.
const GROUPS: usize = 1_000;
const EXPECTS: usize = 100;

fn text() -> String {
    let mut text = String::new();
    let mut line = |args: std::fmt::Arguments<'_>| {
        text.write_fmt(args).expect("writing to a text cannot fail");
    };
    for (name, port) in [("web", 8080), ("internal", 8081)] {
        line(format_args!("[[listener]]\nname = {name:?}\nbind = [\"127.0.0.1:{port}\"]\n"));
    }
    for rule in 0..RULES {
        let (tenant, group) = (rule / 10, rule % GROUPS);
        line(format_args!(
            "[[rule]]\nname = \"rule-{rule}\"\nlistener = [\"web\"]\nforward = \"group-{group}\"\n\
             when = {{ host = [\"tenant-{tenant}.example.com\"], path = [\"/v1/r{}/*\"], method = [\"GET\", \"POST\"] }}\n",
            rule % 10,
        ));
    }
    for group in 0..GROUPS {
        let (a, b) = (group / 250, group % 250);
        line(format_args!(
            "[group.group-{group}]\ntargets = [\"10.{a}.{b}.1:80\", \"10.{a}.{b}.2:80\", \"10.{a}.{b}.3:80\"]\n"
        ));
    }
    for expect in 0..EXPECTS {
        let rule = expect * (RULES / EXPECTS);
        line(format_args!(
            "[[expect]]\nrequest = \"GET http://tenant-{}.example.com/v1/r{}/x\"\nrule = \"rule-{rule}\"\n",
            rule / 10,
            rule % 10,
        ));
    }
    text
}

fn parse(text: &str) -> Config {
    config::parse(text, "bench.toml", &|_| None).expect("this file is sound")
}

fn run(config: &Config, old: Option<&Snapshot>) -> Snapshot {
    let context = Context { generation: 2, workers: 2, old, resolve: &|_| Vec::new() };
    compile(config, context).expect("these rules compile")
}

fn reload(c: &mut Criterion) {
    let text = text();
    let config = parse(&text);
    let old = run(&config, None);
    assert_eq!(expect::unmet(&old, &config), []);
    assert_eq!(expect::hidden(&old, &config), []);

    let mut group = c.benchmark_group("reload");
    group.sample_size(10);
    group.throughput(Throughput::Elements(RULES as u64));
    group.bench_function("load", |b| b.iter(|| parse(black_box(&text))));
    group.bench_function("compile/first", |b| b.iter(|| run(black_box(&config), None)));
    group.bench_function("compile/again", |b| b.iter(|| run(black_box(&config), Some(&old))));
    group.bench_function("expect", |b| b.iter(|| expect::unmet(&old, black_box(&config))));
    group.bench_function("hidden", |b| b.iter(|| expect::hidden(&old, black_box(&config))));
    group.bench_function("whole", |b| {
        b.iter(|| {
            let config = parse(black_box(&text));
            let snapshot = run(&config, Some(&old));
            let problems = expect::unmet(&snapshot, &config);
            black_box((problems, expect::hidden(&snapshot, &config)));
            snapshot
        });
    });
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
