//! How long cookies that keep clients where they are take: sealed, opened, found among those that were opened before.
//!
//! The goal: a client that stays costs its request well under a microsecond, so that stickiness stays within 5 % of plain forwarding.

#![expect(clippy::expect_used, reason = "a benchmark without a cookie is no benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringgate::base::Rng;
use ringgate::base::sealed::{Ring, Secret};
use ringgate::http::fields::OwnedFields;
use ringgate::sticky::{self, Cookie, CookieSettings, Kind, Memory, Token};
use std::hint::black_box;
use std::sync::Arc;

/// Requests of one iteration, each of another client.
const CLIENTS: usize = 256;
const NOW: u64 = 1_790_000_000;

fn cookie() -> Cookie {
    let ring = Ring::of(sticky::DOMAIN, &[Secret::new(&[7; 32])]).expect("keys");
    Cookie::new(&CookieSettings::default(), Kind::Target, "web", &Arc::new(ring))
}

// A request's fields as a browser sends them, the cookie among others.
fn requests(cookie: &Cookie) -> Vec<OwnedFields> {
    let mut rng = Rng::with_seed(3);
    let request = |_| {
        let mut line = Vec::new();
        assert!(cookie.write(&mut line, rng.u64(..), NOW, true));
        let line = String::from_utf8(line).expect("text");
        let pair = line.split([' ', ';']).nth(1).expect("a pair");
        let mut fields = OwnedFields::default();
        for (name, value) in [
            ("host", "www.example.com"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
            ("accept-language", "en-US,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("sec-fetch-mode", "navigate"),
            ("cookie", &format!("_ga=GA1.2.1234567890.1700000000; theme=dark; {pair}")),
        ] {
            fields.push(name, value);
        }
        fields
    };
    (0..CLIENTS).map(request).collect()
}

fn bench(c: &mut Criterion) {
    let cookie = cookie();
    let requests = requests(&cookie);
    let mut group = c.benchmark_group("sticky");
    group.throughput(Throughput::Elements(CLIENTS as u64));
    group.bench_function("seal", |b| {
        let mut out = Vec::with_capacity(256);
        b.iter(|| {
            for about in 0..CLIENTS as u64 {
                out.clear();
                black_box(cookie.write(&mut out, about, NOW, true));
            }
        });
    });
    group.bench_function("open", |b| {
        // Of a cookie that nobody has seen, as nothing but its token is asked.
        let ring = Ring::of(sticky::DOMAIN, &[Secret::new(&[7; 32])]).expect("keys");
        let token = Token { about: 1, sealed: 2 };
        let text = token.seal(&ring, b"tweb").expect("sealed");
        let text: &[u8; 60] = text.as_bytes().try_into().expect("of this length");
        b.iter(|| {
            for _ in 0..CLIENTS {
                black_box(Token::open(&ring, b"tweb", black_box(text)));
            }
        });
    });
    group.bench_function("remembered", |b| {
        let mut memory = Memory::default();
        b.iter(|| {
            for request in &requests {
                black_box(cookie.read(&mut memory, black_box(request.view()), NOW));
            }
        });
    });
    group.bench_function("no cookie", |b| {
        let (mut memory, none) = (Memory::default(), OwnedFields::default());
        b.iter(|| {
            for _ in 0..CLIENTS {
                black_box(cookie.read(&mut memory, black_box(none.view()), NOW));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
