//! How long the policies at the edge take for a request: lists of addresses by their number, patterns by theirs, origins.
//!
//! The goals: an address among 100,000 networks in well under a microsecond; a request before 1,000 patterns in about that.

#![expect(
    clippy::expect_used,
    reason = "a benchmark of policies that do not compile is no benchmark"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ringgate::base::{Rng, Tick};
use ringgate::http::fields::{OwnedFields, RequestView};
use ringgate::policy::block::pattern::{Case, Pattern};
use ringgate::policy::cors::origin;
use ringgate::policy::{Core, Findings, Kind, Settings, Subject, block, cors, ip};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that one iteration looks up.
const ADDRESSES: usize = 256;
const SEED: u64 = 7;

fn networks(count: usize, rng: &mut Rng) -> (Vec<IpNet>, Vec<IpNet>) {
    let v4 = |rng: &mut Rng| {
        let net = Ipv4Net::new(Ipv4Addr::from(rng.u32(..)), rng.u8(16..=32));
        IpNet::V4(net.expect("a prefix of IPv4").trunc())
    };
    let v6 = |rng: &mut Rng| {
        let net = Ipv6Net::new(Ipv6Addr::from(rng.u128(..)), rng.u8(32..=64));
        IpNet::V6(net.expect("a prefix of IPv6").trunc())
    };
    ((0..count).map(|_| v4(rng)).collect(), (0..count).map(|_| v6(rng)).collect())
}

fn addresses(networks: &[IpNet], rng: &mut Rng) -> Vec<IpAddr> {
    let any = |rng: &mut Rng, of: &IpNet| match of {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(rng.u32(..))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(rng.u128(..))),
    };
    // Half of them are on the list.
    (0..ADDRESSES)
        .filter_map(|at| {
            let one = rng.choice(networks)?;
            Some(if at % 2 == 0 { one.broadcast() } else { any(rng, one) })
        })
        .collect()
}

fn build(settings: Settings) -> (Kind, Core) {
    let kind = Kind::build(&settings, &|_| None, None).expect("these settings are sound");
    let core = Core::bind(&kind, None);
    (kind, core)
}

fn subject<'a>(path: &'a str, query: Option<&'a str>, fields: &'a OwnedFields) -> Subject<'a> {
    let address = IpAddr::from([192, 0, 2, 1]);
    Subject {
        view: RequestView {
            method: b"GET",
            host: b"api.example.com",
            path: path.as_bytes(),
            query: query.map(str::as_bytes),
            fields: fields.view(),
            peer: address,
        },
        client: address,
        scheme: "https",
        port: 443,
        listener: "web",
        rule: "api",
        tls: None,
        body: None,
        decoded: false,
        preflight: false,
        now: Tick::ZERO,
        unix: 0,
    }
}

fn fields(origin: &str) -> OwnedFields {
    [
        ("Host", "api.example.com"),
        (
            "User-Agent",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0",
        ),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Origin", origin),
        ("Referer", "https://app.example.com/orders/4711?tab=items"),
        ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark; consent=1"),
    ]
    .into_iter()
    .collect()
}

fn lists(c: &mut Criterion) {
    let mut group = c.benchmark_group("policies/ip");
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    for count in [10, 1_000, 100_000, 500_000] {
        let mut rng = Rng::with_seed(SEED);
        let (v4, v6) = networks(count, &mut rng);
        for (name, nets) in [("v4", v4), ("v6", v6)] {
            let asked = addresses(&nets, &mut rng);
            let deny = ip::List { networks: nets, files: Vec::new() };
            let settings = ip::Settings { deny, ..ip::Settings::default() };
            let (kind, core) = build(Settings::Ip(Box::new(settings)));
            let none = OwnedFields::default();
            let subjects: Vec<Subject<'_>> = asked
                .iter()
                .map(|at| Subject { client: *at, ..subject("/", None, &none) })
                .collect();
            let mut findings = Findings::default();
            group.bench_with_input(BenchmarkId::new(name, count), &subjects, |b, subjects| {
                b.iter(|| {
                    for subject in subjects {
                        black_box(kind.check(&core, black_box(subject), &mut findings, None));
                    }
                });
            });
        }
    }
    group.finish();
}

fn patterns(c: &mut Criterion) {
    let mut group = c.benchmark_group("policies/block");
    let fields = fields("https://app.example.com");
    let plain = |at: usize| Pattern::Plain(format!("/old-{}/admin{at}.php", at % 37));
    let regex = |at: usize| Pattern::Regex(format!("^/(tmp|var){at}/[a-z]+\\.(bak|sql|old)$"));
    let user = ["sqlmap", "nikto", "masscan", "zgrab"].map(|t| Pattern::Plain(t.to_owned()));
    for (name, count, one) in [
        ("plain", 10, &plain as &dyn Fn(usize) -> Pattern),
        ("plain", 1_000, &plain),
        ("regex", 10, &regex),
        ("regex", 1_000, &regex),
    ] {
        let list = || block::List { patterns: (0..count).map(one).collect(), files: Vec::new() };
        let settings = block::Settings {
            path: list(),
            query: list(),
            fields: vec![("user-agent".to_owned(), user.to_vec())],
            case: Case::Ignored,
            ..block::Settings::default()
        };
        let (kind, core) = build(Settings::Block(Box::new(settings)));
        for (request, path, query) in [
            ("short", "/v1/orders/4711", Some("page=2&sort=date")),
            ("encoded", "/v1/files/M%C3%BCller%20GmbH;v=2/x.pdf", Some("q=a%20b+c&f=%5B1%5D")),
        ] {
            let subject = subject(path, query, &fields);
            let mut findings = Findings::default();
            let id = BenchmarkId::new(format!("{name}-{request}"), count);
            group.bench_with_input(id, &subject, |b, subject| {
                b.iter(|| black_box(kind.check(&core, black_box(subject), &mut findings, None)));
            });
        }
    }
    group.finish();
}

fn origins(c: &mut Criterion) {
    let mut group = c.benchmark_group("policies/cors");
    let fields = fields("https://tenant-7.example.com");
    for count in [1, 1_000] {
        let origins = (0..count)
            .map(|at| format!("https://site-{at}.example.org"))
            .chain(["https://*.example.com".to_owned()])
            .filter_map(|text| origin::Pattern::parse(&text).ok());
        let settings = cors::Settings {
            origins: origins.collect(),
            credentials: true,
            ..cors::Settings::default()
        };
        let (kind, core) = build(Settings::Cors(Box::new(settings)));
        let subject = subject("/v1/orders", None, &fields);
        let mut findings = Findings::default();
        group.bench_with_input(BenchmarkId::new("admitted", count), &subject, |b, subject| {
            b.iter(|| {
                findings.response.clear();
                black_box(kind.check(&core, black_box(subject), &mut findings, None))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lists, patterns, origins);
criterion_main!(benches);
