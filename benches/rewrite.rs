//! What writing a head anew costs: a parsed request for a target, and a parsed response for a client; and an HTTP/2 head as
//! lines, and back.
//!
//! `proxy` writes them for a whole exchange, which has a socket; here are the same calls of `http::write` over the same
//! fields, without the choice of request ids and of what a trusted peer may say.

#![expect(clippy::expect_used, reason = "a benchmark of heads that do not parse is no benchmark")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::http::lines::{self, Body, ListLimits};
use ringgate::http::path::PathPolicy;
use ringgate::http::{Field, Known, Method, RequestHead, ResponseHead, write};
use std::hint::black_box;
use std::net::IpAddr;

const WRK: &str = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &str = "GET /shop//items/4711?from=search&page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    Connection: keep-alive\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.0.0 Safari/537.36\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
    image/webp,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Referer: https://www.example.com/shop/search?q=ring\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\nUpgrade-Insecure-Requests: 1\r\nCookie: session=0123456789abcdef; theme=dark\r\n\r\n";
const APP_RESPONSE: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.27.0\r\nDate: Mon, 06 Jul 2026 09:20:13 GMT\r\n\
    Content-Type: application/json; charset=utf-8\r\nContent-Length: 3312\r\nConnection: keep-alive\r\n\
    Vary: Accept-Encoding\r\nCache-Control: private, max-age=0\r\nETag: W/\"cf0-0123456789abcdef\"\r\n\
    X-Content-Type-Options: nosniff\r\nStrict-Transport-Security: max-age=31536000\r\n\
    Set-Cookie: session=0123456789abcdef; Path=/; Secure; HttpOnly; SameSite=Lax\r\n\r\n";
const ID: &[u8] = b"0192f3a1b4c57d22a1b2c3d4e5f60718";

fn request(c: &mut Criterion) {
    let peer = IpAddr::from([192, 0, 2, 7]);
    let mut group = c.benchmark_group("rewrite/request");
    for (name, text) in [("wrk", WRK), ("browser", BROWSER)] {
        let buf = text.as_bytes();
        let mut head = RequestHead::default();
        head.parse(buf, PathPolicy::default()).expect("this head is sound");
        let mut out = Vec::with_capacity(4096);
        group.throughput(Throughput::Bytes(buf.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &head, |b, head| {
            b.iter(|| {
                out.clear();
                to_target(black_box(head), buf, peer, &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

fn to_target(head: &RequestHead, buf: &[u8], peer: IpAddr, out: &mut Vec<u8>) {
    let query = head.query.map(|query| query.of(buf));
    let authority = head.authority.of(buf);
    write::request_line(out, head.method_span.of(buf), head.canonical_path(buf), query);
    write::field(out, b"host", authority);
    copy(&head.fields, buf, out);
    out.extend_from_slice(b"x-forwarded-for: ");
    write::address(out, peer);
    out.extend_from_slice(b"\r\nx-forwarded-proto: http\r\nx-forwarded-port: ");
    write::number(out, 8080);
    out.extend_from_slice(b"\r\n");
    write::field(out, b"x-forwarded-host", authority);
    out.extend_from_slice(b"forwarded: for=");
    write::address(out, peer);
    out.extend_from_slice(b";host=");
    out.extend_from_slice(authority);
    out.extend_from_slice(b";proto=http\r\n");
    write::field(out, b"x-request-id", ID);
    out.extend_from_slice(b"via: 1.1 ringgate\r\n\r\n");
}

fn response(c: &mut Criterion) {
    let buf = APP_RESPONSE.as_bytes();
    let mut head = ResponseHead::default();
    head.parse(buf, Method::Get).expect("this head is sound");
    let mut out = Vec::with_capacity(4096);
    let mut group = c.benchmark_group("rewrite/response");
    group.throughput(Throughput::Bytes(buf.len() as u64));
    group.bench_function("app", |b| {
        b.iter(|| {
            out.clear();
            let head = black_box(&head);
            write::status_line(&mut out, head.status, head.reason.of(buf));
            copy(&head.fields, buf, &mut out);
            write::content_length(&mut out, 3312);
            write::field(&mut out, b"x-request-id", ID);
            out.extend_from_slice(b"via: 1.1 ringgate\r\n\r\n");
            black_box(&out);
        });
    });
    group.finish();
}

/// What is not of this hop and not written by ringgate itself.
fn copy(fields: &[Field], buf: &[u8], out: &mut Vec<u8>) {
    for field in fields {
        let name = field.name.of(buf);
        match field.known {
            Known::Host | Known::Connection | Known::ContentLength | Known::TransferEncoding => {}
            _ if name.contains(&b'_') => {}
            _ => write::field(out, name, field.value.of(buf)),
        }
    }
}

const LIST: ListLimits = ListLimits { size: 32 << 10, fields: 128, line: 16 << 10 };

fn http2(c: &mut Criterion) {
    let mut group = c.benchmark_group("rewrite/http2");
    for (name, text) in [("wrk", WRK), ("browser", BROWSER)] {
        let text = text.replace("Connection: keep-alive\r\n", "").replace("//items", "/items");
        let head = lines::request_of(text.as_bytes(), "https").expect("this head is sound");
        let parts = head.into_parts().0;
        let mut out = Vec::with_capacity(4096);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("request_lines", name), &parts, |b, parts| {
            b.iter(|| {
                out.clear();
                lines::request_lines(black_box(parts), Body::None, &LIST, &mut out)
                    .expect("this head is sound");
                black_box(&out);
            });
        });
        group.bench_with_input(BenchmarkId::new("request_of", name), &text, |b, text| {
            b.iter(|| lines::request_of(black_box(text.as_bytes()), "https"));
        });
    }
    let response = lines::response_of(APP_RESPONSE.as_bytes()).expect("this head is sound");
    let parts = response.into_parts().0;
    let mut out = Vec::with_capacity(4096);
    group.throughput(Throughput::Bytes(APP_RESPONSE.len() as u64));
    group.bench_function("response_of", |b| {
        b.iter(|| lines::response_of(black_box(APP_RESPONSE.as_bytes())));
    });
    group.bench_function("response_lines", |b| {
        b.iter(|| {
            out.clear();
            lines::response_lines(black_box(&parts), Body::Unknown, &LIST, &mut out)
                .expect("this head is sound");
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(benches, request, response, http2);
criterion_main!(benches);
