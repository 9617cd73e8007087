//! How long it takes to find a rule, by the number of rules and by what distinguishes them; and to compile them.
//!
//! The goal: at most 300 ns among 10,000 rules, and at most twice the time among 10.

#![expect(clippy::expect_used, reason = "a benchmark of rules that do not compile is no benchmark")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::http::fields::{OwnedFields, RequestView};
use ringgate::route::{ListenerId, RuleSpec, Table};
use std::hint::black_box;
use std::net::IpAddr;

const WEB: ListenerId = ListenerId(0);
/// Requests that one iteration looks up, spread over the rules.
const REQUESTS: usize = 256;

/// Rules, and one request (host and path) for each.
struct Case {
    rules: Vec<RuleSpec>,
    requests: Vec<(String, String)>,
}

fn case(count: usize, one: impl Fn(usize) -> (String, String, String, String)) -> Case {
    let (mut rules, mut requests) = (Vec::new(), Vec::new());
    for at in 0..count {
        let (host_pattern, path_pattern, host, path) = one(at);
        rules.push(RuleSpec {
            listeners: vec![WEB],
            host: vec![host_pattern],
            path: vec![path_pattern],
            ..RuleSpec::default()
        });
        requests.push((host, path));
    }
    Case { rules, requests }
}

const SERVICES: [&str; 20] = [
    "users", "orders", "carts", "items", "search", "login", "logout", "billing", "invoices",
    "teams", "events", "metrics", "images", "static", "docs", "admin", "reports", "webhooks",
    "tokens", "export",
];

/// 20 paths below each host.
fn hosts_and_paths(count: usize) -> Case {
    case(count, |at| {
        let service = SERVICES[at % 20];
        let host = format!("tenant-{}.apps.example.com", at / 20);
        let path = format!("/api/v1/{service}/4711/details");
        (host.clone(), format!("/api/v1/{service}/*"), host, path)
    })
}

fn one_host(count: usize) -> Case {
    case(count, |at| {
        let host = "api.example.com".to_owned();
        let prefix = format!("/v{}/{}/r{at}", at % 3, SERVICES[at % 20]);
        (host.clone(), format!("{prefix}/*"), host, format!("{prefix}/items/4711"))
    })
}

fn wildcard_hosts(count: usize) -> Case {
    case(count, |at| {
        let name = format!("tenant-{at}.example.com");
        (format!("*.{name}"), "/*".to_owned(), format!("www.{name}"), "/index.html".to_owned())
    })
}

/// A way to make rules.
type Make = fn(usize) -> Case;
const CASES: [(&str, Make); 3] = [
    ("hosts_and_paths", hosts_and_paths),
    ("one_host", one_host),
    ("wildcard_hosts", wildcard_hosts),
];

fn find(c: &mut Criterion) {
    let fields: OwnedFields = [
        ("Host", "api.example.com"),
        ("User-Agent", "curl/8.9.1"),
        ("Accept", "*/*"),
        ("Cookie", "session=0123456789abcdef"),
    ]
    .into_iter()
    .collect();
    let mut group = c.benchmark_group("route/find");
    group.throughput(Throughput::Elements(REQUESTS as u64));
    for (name, make) in CASES {
        for count in [10, 1_000, 10_000] {
            let case = make(count);
            let table = Table::compile(&case.rules).expect("these rules are sound");
            // A stride that is prime to the counts visits rules from everywhere.
            let views: Vec<RequestView<'_>> = (0..REQUESTS)
                .map(|at| &case.requests[at * 7_919 % count])
                .map(|(host, path)| RequestView {
                    method: b"GET",
                    host: host.as_bytes(),
                    path: path.as_bytes(),
                    query: None,
                    fields: fields.view(),
                    peer: IpAddr::from([192, 0, 2, 1]),
                })
                .collect();
            assert!(views.iter().all(|view| table.find(WEB, view).is_some()));
            group.bench_with_input(BenchmarkId::new(name, count), &views, |b, views| {
                b.iter(|| {
                    for view in views {
                        black_box(table.find(WEB, black_box(view)));
                    }
                });
            });
        }
    }
    group.finish();
}

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/build");
    group.sample_size(20);
    for (name, make) in CASES {
        let case = make(10_000);
        group.throughput(Throughput::Elements(case.rules.len() as u64));
        group.bench_function(format!("compile/{name}"), |b| b.iter(|| Table::compile(&case.rules)));
        let table = Table::compile(&case.rules).expect("these rules are sound");
        group.bench_function(format!("hidden/{name}"), |b| b.iter(|| table.hidden()));
    }
    group.finish();
}

criterion_group!(benches, find, compile);
criterion_main!(benches);
