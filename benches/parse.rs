//! What reading a message costs: heads of requests and responses (scan and parse, as `serve` and `upstream` do), the
//! chunk decoder, and making a path canonical.

#![expect(clippy::expect_used, reason = "a benchmark of heads that do not parse is no benchmark")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::base::tick::Tick;
use ringgate::config::Http2Limits;
use ringgate::http::chunk::{Chunks, Piece, chunk_line};
use ringgate::http::frames::Gauge;
use ringgate::http::path::{self, PathPolicy};
use ringgate::http::scan::{Scan, SectionLimits};
use ringgate::http::{Method, RequestHead, ResponseHead};
use std::hint::black_box;

const LIMITS: SectionLimits =
    SectionLimits { size: 64 << 10, line: 16 << 10, fields: 128, bare_lf: false };

const WRK: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &str = "GET /shop/items/4711?from=search&page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
    image/webp,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Referer: https://www.example.com/shop/search?q=ring\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nUpgrade-Insecure-Requests: 1\r\nCookie: session=0123456789abcdef; theme=dark\r\n\r\n";
const SMALL_RESPONSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/plain\r\n\r\n";
const APP_RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.27.0\r\nDate: Mon, 06 Jul 2026 09:20:13 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\nContent-Length: 3312\r\nConnection: keep-alive\r\n\
    Vary: Accept-Encoding\r\nCache-Control: private, max-age=0\r\nETag: W/\"cf0-0123456789abcdef\"\r\n\
    X-Content-Type-Options: nosniff\r\nStrict-Transport-Security: max-age=31536000\r\n\
    Set-Cookie: session=0123456789abcdef; Path=/; Secure; HttpOnly; SameSite=Lax\r\n\r\n";

/// The browser's head with 1 KiB of cookies.
fn cookies() -> String {
    let cookies: Vec<String> =
        (0..24).map(|i| format!("cookie_{i:02}={:032x}", i * 7919)).collect();
    BROWSER.replace("theme=dark", &cookies.join("; "))
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse/request");
    for (name, text) in [("wrk", WRK), ("browser", BROWSER), ("cookies_1k", &cookies())] {
        let octets = text.as_bytes();
        let mut head = RequestHead::default();
        head.parse(octets, PathPolicy::default()).expect("this head is sound");
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), octets, |b, octets| {
            b.iter(|| {
                let octets = black_box(octets);
                let end = Scan::default().find_end(octets, &LIMITS);
                black_box((end, head.parse(octets, PathPolicy::default()))).0
            });
        });
    }
    group.finish();
}

fn responses(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse/response");
    for (name, text) in [("small", SMALL_RESPONSE), ("app", APP_RESPONSE)] {
        let octets = text.as_bytes();
        let mut head = ResponseHead::default();
        head.parse(octets, Method::Get).expect("this head is sound");
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), octets, |b, octets| {
            b.iter(|| {
                let octets = black_box(octets);
                let end = Scan::default().find_end(octets, &LIMITS);
                black_box((end, head.parse(octets, Method::Get))).0
            });
        });
    }
    group.finish();
}

/// 64 KiB of data in chunks of one size.
fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse/chunks");
    for size in [64, 4096, 16384] {
        let mut body = Vec::new();
        for _ in 0..(64 << 10) / size {
            body.extend_from_slice(chunk_line(size, &mut [0; 18]));
            body.resize(body.len() + size, b'x');
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\n");
        assert_eq!(decode(&body), 64 << 10);
        group.throughput(Throughput::Bytes(64 << 10));
        group.bench_with_input(BenchmarkId::from_parameter(size), &body, |b, body| {
            b.iter(|| decode(black_box(body)));
        });
    }
    group.finish();
}

fn decode(mut body: &[u8]) -> usize {
    let (mut chunks, mut data) = (Chunks::default(), 0);
    while let Ok((taken, piece)) = chunks.next(body) {
        body = body.get(taken..).unwrap_or_default();
        match piece {
            Piece::Data(span) => data += span.len(),
            Piece::More | Piece::Last => break,
        }
    }
    data
}

fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse/path");
    let mut out = Vec::with_capacity(256);
    for (name, path) in [
        ("plain", "/api/v1/customers/81f3/orders/2026-01-01"),
        ("escaped", "/api/v1/caf%C3%A9/a%20b/%7Euser/orders/4711"),
        ("dots", "/api//v1/./customers/../orders/%2e%2e/x"),
    ] {
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), path, |b, path| {
            b.iter(|| {
                out.clear();
                black_box(path::canonical(
                    black_box(path.as_bytes()),
                    PathPolicy::default(),
                    &mut out,
                ))
            });
        });
    }
    group.finish();
}

/// What h2load sends: requests of 20 octets and a window update now and then; and the DATA of an upload.
fn frames(c: &mut Criterion) {
    let frame = |kind: u8, len: u16| {
        let [high, low] = len.to_be_bytes();
        let mut octets = vec![0, high, low, kind, 4, 0, 0, 0, 1];
        octets.resize(9 + usize::from(len), b'x');
        octets
    };
    let mut requests = frame(1, 20).repeat(100);
    requests.extend(frame(8, 4));
    let upload = frame(0, 16384).repeat(4);
    let mut group = c.benchmark_group("parse/frames");
    let budgets = Http2Limits::default().budgets();
    for (name, octets, count) in [("requests", requests, 101), ("upload", upload, 4)] {
        let mut gauge = Gauge::of_server(Tick::ZERO);
        group.throughput(Throughput::Elements(count));
        group.bench_with_input(BenchmarkId::from_parameter(name), &octets, |b, octets| {
            b.iter(|| {
                gauge.sent(1 << 20);
                gauge.feed(black_box(octets), Tick::ZERO, &budgets).expect("nothing in excess");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, requests, responses, chunks, paths, frames);
criterion_main!(benches);
