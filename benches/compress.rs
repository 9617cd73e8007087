//! What compressing costs here over what it costs the libraries: 100 KiB of JSON through the stage of a response, in the pieces
//! in which it is read, beside the library that is given all of it at once.
//!
//! The goal: gzip at level 4 within 10 % of the library's own speed. The others are there to choose levels by.

#![expect(clippy::expect_used, reason = "a benchmark without an encoder is no benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compress, Compression, FlushCompress, Status};
use ringgate::transform::compress::{Accepted, Coding, Encoder, Limit, decode};
use std::hint::black_box;

const OCTETS: usize = 100 << 10;
/// What a large block of a connection holds.
const BLOCK: usize = 64 << 10;

fn json() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut text = b"[".to_vec();
    while text.len() < OCTETS {
        let (id, score, on) = (rng.u32(..), rng.f32(), rng.bool());
        let name: String = (0..rng.usize(4..12)).map(|_| rng.lowercase()).collect();
        let one = format!(
            "{{\"id\":{id},\"name\":\"{name}\",\"score\":{score},\"active\":{on},\
             \"tags\":[\"edge\",\"gateway\"],\"created_at\":\"2026-01-0{}T10:00:00Z\"}},",
            rng.u8(1..9)
        );
        text.extend_from_slice(one.as_bytes());
    }
    text.truncate(OCTETS);
    text
}

/// One response: what arrives in blocks goes through in turns, as `proxy::stages` does it.
fn stage(encoder: &mut Encoder, body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    for block in body.chunks(BLOCK) {
        for turn in block.chunks(encoder.turn()) {
            encoder.data(turn, out).expect("the library takes it");
        }
    }
    encoder.end(out).expect("the library takes it");
    encoder.reset();
}

fn library(gzip: &mut Compress, body: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(OCTETS);
    let status = gzip.compress_vec(body, out, FlushCompress::Finish);
    assert_eq!(status.expect("the library takes it"), Status::StreamEnd);
    gzip.reset();
}

fn encoders(criterion: &mut Criterion) {
    let body = json();
    let mut group = criterion.benchmark_group("compress");
    group.throughput(Throughput::Bytes(OCTETS as u64));
    for level in [4, 6] {
        let mut out = Vec::with_capacity(OCTETS);
        let mut gzip = Compress::new_gzip(Compression::new(level), 15);
        group.bench_function(format!("gzip {level}, the library"), |bencher| {
            bencher.iter(|| library(&mut gzip, black_box(&body), &mut out));
        });
        let mut encoder = Encoder::new(Coding::Gzip, level as u8).expect("an encoder");
        let mut out = Vec::new();
        group.bench_function(format!("gzip {level}, the stage"), |bencher| {
            bencher.iter(|| stage(&mut encoder, black_box(&body), &mut out));
        });
    }
    let mut encoder = Encoder::new(Coding::Zstd, 3).expect("an encoder");
    let mut out = Vec::new();
    group.bench_function("zstd 3, the stage", |bencher| {
        bencher.iter(|| stage(&mut encoder, black_box(&body), &mut out));
    });
    group.bench_function("br 4, the stage, made anew", |bencher| {
        bencher.iter(|| {
            let mut encoder = Encoder::new(Coding::Brotli, 4).expect("an encoder");
            stage(&mut encoder, black_box(&body), &mut out);
        });
    });
    group.finish();
}

fn decoders(criterion: &mut Criterion) {
    let body = json();
    let mut group = criterion.benchmark_group("decompress");
    group.throughput(Throughput::Bytes(OCTETS as u64));
    for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
        let mut encoder = Encoder::new(coding, 4).expect("an encoder");
        let mut octets = Vec::new();
        stage(&mut encoder, &body, &mut octets);
        group.bench_function(coding.name(), |bencher| {
            let limit = Limit::of(1 << 20);
            bencher.iter(|| decode(black_box(&octets), &[coding], limit).expect("it is sound"));
        });
    }
    group.finish();
}

fn negotiation(criterion: &mut Criterion) {
    let field: &[u8] = b"gzip, deflate, br, zstd";
    criterion.bench_function("negotiate, a browser", |bencher| {
        bencher.iter(|| {
            let accepted = Accepted::of(std::iter::once(black_box(field)));
            accepted.choose(&[Coding::Zstd, Coding::Brotli, Coding::Gzip])
        });
    });
}

criterion_group!(benches, encoders, decoders, negotiation);
criterion_main!(benches);
