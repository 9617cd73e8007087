//! HTTP/2 clients that keep ringgate busy, each cut off at the cost that the hazards catalogue states (H2-05 to H2-10, H2-14,
//! yardstick G6): what reaches a target is bounded, so is memory, and others are served meanwhile.
//!
//! Every flood has a bystander: HTTP/1.1 clients on the same listener that must not lose one request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]
#![allow(clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::h2raw::*;
use support::hpack::{integer, literals, text};
use support::ringgate::forwarding;
use support::{Load, Origin, Ringgate, eventually, free_address};

/// What a flood may add to the memory of the process.
const MEMORY: u64 = 32 << 20;
/// A flood that is not cut off after so many frames never is.
const MANY: u32 = 20_000;

/// ringgate before an origin that answers at once, but for `/hold`, which waits until it is given up, and `/big`.
struct Site {
    ringgate: Ringgate,
    address: SocketAddr,
    /// Requests that have reached the origin.
    begun: Arc<AtomicUsize>,
    /// Those of `/hold` that are under way.
    held: Arc<AtomicUsize>,
    bystander: Option<Load>,
    memory: u64,
    _origin: Origin,
}

impl Site {
    fn start(more: &str) -> Site {
        let begun = Arc::new(AtomicUsize::new(0));
        let held = Arc::new(AtomicUsize::new(0));
        let origin = origin(Arc::clone(&begun), Arc::clone(&held));
        let address = free_address();
        let ringgate = Ringgate::start(&(forwarding(address, &[origin.address], "") + more));
        let bystander = Load::start(address, 2, |answer| answer.status() == 200);
        eventually("the bystander is served", || bystander.answered() > 50);
        let memory = resident(&ringgate);
        Site { ringgate, address, begun, held, bystander: Some(bystander), memory, _origin: origin }
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Fails if others noticed, if memory has grown too much or if work for nobody is still under way.
    #[track_caller]
    fn end(mut self) {
        let grown = resident(&self.ringgate).saturating_sub(self.memory);
        assert!(grown <= MEMORY, "{} KiB more", grown >> 10);
        let bystander = self.bystander.take().unwrap();
        let before = bystander.answered();
        eventually("the bystander is served on", || bystander.answered() > before + 50);
        let (_, failed) = bystander.stop();
        if !failed.is_empty() {
            let metrics = self.ringgate.metrics();
            let faults =
                metrics.lines().filter(|l| l.contains("_faults_total{") && !l.ends_with(" 0"));
            let faults: Vec<_> = faults.collect();
            panic!("the bystander failed: {failed:?}; faults: {faults:#?}");
        }
        eventually("the target is left alone", || self.held.load(Ordering::SeqCst) == 0);
        self.ringgate.assert_alive();
        assert_eq!(self.ringgate.metric("ringgate_panics_total").unwrap_or(0.0), 0.0);
        assert_eq!(H2::open(self.address).fetch(1, "/").status(), 200);
    }
}

fn origin(begun: Arc<AtomicUsize>, held: Arc<AtomicUsize>) -> Origin {
    let big = vec![b'x'; 4 << 20];
    Origin::script(move |conn| {
        while let Some(request) = conn.wire.request()? {
            match request.target() {
                "/load" => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
                "/hold" => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    held.fetch_add(1, Ordering::SeqCst);
                    let _ = conn.wire.rest();
                    held.fetch_sub(1, Ordering::SeqCst);
                    return Ok(());
                }
                "/big" => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", big.len()))?;
                    conn.send(&big)?;
                }
                "/short" => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let body = "x".repeat(4000);
                    conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{body}"))?;
                }
                _ => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
            }
        }
        Ok(())
    })
}

/// Octets of memory that the process holds.
fn resident(ringgate: &Ringgate) -> u64 {
    let path = format!("/proc/{}/statm", ringgate.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Sends what `next` gives for each number until the connection is ended; returns how many it took.
#[track_caller]
fn flood(h2: &mut H2, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for n in 0..MANY {
        if h2.try_send(next(n)).is_err() {
            return n;
        }
    }
    MANY
}

#[track_caller]
fn calmed(h2: &mut H2) {
    let ended = h2.ending();
    assert!(matches!(ended, Outcome::GoAway(ENHANCE_YOUR_CALM)), "{ended:?}");
    // Not only told so.
    let start = Instant::now();
    while h2.event() != Event::Closed {
        assert!(start.elapsed() < Duration::from_secs(10), "GOAWAY, and then it goes on");
    }
}

fn head(stream: u32, flags: u8, method: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, flags, stream, &literals(&request(method, path)))
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// H2-05: as fast as it goes, on one connection after the other.
// The frames of one recipe, for a stream.
type Recipe = fn(u32) -> Vec<u8>;

#[test]
fn rapid_reset_is_cut_off() {
    let site = Site::start("");
    for round in 1..=10 {
        let before = site.begun();
        let mut h2 = H2::open(site.address);
        flood(&mut h2, |n| [head(2 * n + 1, WHOLE, "GET", "/hold"), cancel(2 * n + 1)].concat());
        calmed(&mut h2);
        let begun = site.begun() - before;
        assert!(begun <= 150, "{begun} requests reached the target in round {round}");
    }
    site.end();
}

/// H2-05: slowly enough that each request reaches the target.
#[test]
fn slow_resets_are_counted_for_life() {
    let site = Site::start("");
    let before = site.begun();
    let mut h2 = H2::open(site.address);
    let mut cut = false;
    for n in 0..60 {
        let begun = site.begun();
        h2.get(2 * n + 1, "/hold");
        eventually("it reaches the target", || {
            cut = !h2.settled();
            cut || site.begun() > begun
        });
        if cut {
            break;
        }
        h2.send(cancel(2 * n + 1));
    }
    let begun = site.begun() - before;
    assert!(cut && (50..=52).contains(&begun), "{begun} resets, cut off: {cut}");
    site.end();
}

/// Clients cancel requests, too: those that are answered pay for it, and an answer that has begun is one.
#[test]
fn resets_of_ordinary_clients_are_no_flood() {
    let site = Site::start("");
    let mut h2 = H2::open(site.address);
    let mut stream = 1;
    for _ in 0..120 {
        for _ in 0..2 {
            assert_eq!(h2.fetch(stream, "/").status(), 200);
            stream += 2;
        }
        h2.get(stream, "/hold");
        h2.send(cancel(stream));
        stream += 2;
        std::thread::sleep(Duration::from_millis(11));
    }
    assert!(h2.settled(), "cancelled after two answers each: {:?}", h2.goaway);
    let mut h2 = H2::open(site.address);
    for n in 0..80 {
        let stream = 2 * n + 1;
        h2.get(stream, "/big");
        loop {
            match h2.event() {
                Event::Data { stream: of, .. } if of == stream => break,
                Event::Closed | Event::Silence => panic!("after {n}: {:?}", h2.goaway),
                _ => {}
            }
        }
        h2.send(cancel(stream));
        std::thread::sleep(Duration::from_millis(15));
    }
    assert!(h2.settled(), "cancelled while the answer came: {:?}", h2.goaway);
    site.end();
}

/// H2-06, MadeYouReset (CVE-2025-8671): the client makes ringgate reset its requests.
#[test]
fn resets_that_the_client_provokes_are_bounded() {
    let site = Site::start("");
    let recipes: &[(&str, Recipe)] = &[
        ("WINDOW_UPDATE of zero", |id| {
            [head(id, WHOLE, "GET", "/hold"), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
        }),
        ("WINDOW_UPDATE beyond the largest", |id| {
            let most = frame(WINDOW_UPDATE, 0, id, &0x7fff_ffffu32.to_be_bytes());
            [head(id, WHOLE, "GET", "/hold"), most.clone(), most].concat()
        }),
        ("DATA after END_STREAM", |id| {
            [head(id, WHOLE, "GET", "/hold"), frame(DATA, END_STREAM, id, b"x")].concat()
        }),
        ("HEADERS after END_STREAM", |id| {
            [head(id, WHOLE, "GET", "/hold"), head(id, WHOLE, "GET", "/hold")].concat()
        }),
        ("PRIORITY of five octets too few", |id| {
            [head(id, WHOLE, "GET", "/hold"), frame(PRIORITY, 0, id, &[])].concat()
        }),
        ("PRIORITY that depends on itself", |id| {
            let payload = [&id.to_be_bytes()[..], &[16]].concat();
            [head(id, WHOLE, "GET", "/hold"), frame(PRIORITY, 0, id, &payload)].concat()
        }),
        ("more DATA than declared", |id| {
            let fields = request_with("POST", "/hold", &[("content-length", "1")]);
            let head = frame(HEADERS, END_HEADERS, id, &literals(&fields));
            [head, frame(DATA, 0, id, b"xx")].concat()
        }),
        ("a malformed head", |id| head(id, WHOLE, "GET", "")),
        ("a head with transfer-encoding", |id| {
            let fields = request_with("GET", "/hold", &[("transfer-encoding", "chunked")]);
            frame(HEADERS, WHOLE, id, &literals(&fields))
        }),
        ("a head that h2 lets pass", |id| {
            let fields = request_with("GET", "/hold", &[("x", " y")]);
            frame(HEADERS, WHOLE, id, &literals(&fields))
        }),
    ];
    for (name, recipe) in recipes {
        let before = site.begun();
        let mut h2 = H2::open(site.address);
        flood(&mut h2, |n| recipe(2 * n + 1));
        let ended = h2.ending();
        assert!(matches!(ended, Outcome::GoAway(_) | Outcome::Closed), "{name}: {ended:?}");
        let begun = site.begun() - before;
        assert!(begun <= 600, "{name}: {begun} requests reached the target");
    }
    site.end();
}

/// H2-07.
#[test]
fn endless_header_blocks_are_cut_off() {
    let site = Site::start("");
    for size in [0, 1, 100, 16384] {
        let mut h2 = H2::open(site.address);
        h2.frame(HEADERS, END_STREAM, 1, literals(&request("GET", "/")));
        let more = frame(CONTINUATION, 0, 1, &literals(&[("x", "v".repeat(size))]));
        let more = if size == 0 { frame(CONTINUATION, 0, 1, &[]) } else { more };
        let more = if more.len() > 16384 { frame(CONTINUATION, 0, 1, &[0; 16384]) } else { more };
        flood(&mut h2, |_| more.clone());
        let ended = h2.ending();
        let told = matches!(
            ended,
            Outcome::GoAway(ENHANCE_YOUR_CALM | COMPRESSION_ERROR | PROTOCOL_ERROR)
        );
        assert!(told, "CONTINUATION with {size} octets: {ended:?}");
    }
    site.end();
}

/// H2-07: a header block that is not finished in the time of a head.
#[test]
fn slow_header_blocks_are_ended() {
    let site = Site::start("\n[timeouts]\nheader = \"1s\"\n");
    let block = literals(&request("GET", "/"));
    for (name, pieces) in [
        (
            "CONTINUATION",
            block.chunks(4).map(|part| frame(CONTINUATION, 0, 1, part)).collect::<Vec<_>>(),
        ),
        ("octets", frame(CONTINUATION, 0, 1, &[0; 100]).iter().map(|b| vec![*b]).collect()),
    ] {
        let mut h2 = H2::open(site.address);
        assert_eq!(h2.fetch(1, "/").status(), 200);
        let began = Instant::now();
        h2.frame(HEADERS, END_STREAM, 3, []);
        for piece in pieces {
            if h2.try_send(piece).is_err() || began.elapsed() > Duration::from_secs(4) {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let ended = h2.ending();
        assert!(matches!(ended, Outcome::GoAway(_) | Outcome::Closed), "slow {name}: {ended:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "slow {name}: {:?}", began.elapsed());
    }
    // A preface that never ends, and a connection that says no more.
    let mut h2 = H2::raw(site.address);
    h2.send(&PREFACE[..20]);
    assert_eq!(h2.ending(), Outcome::Closed);
    let mut h2 = H2::open(site.address);
    assert!(matches!(h2.ending(), Outcome::Closed | Outcome::GoAway(_)));
    site.end();
}

/// H2-08: a field in the dynamic table, and references to it of one octet each.
#[test]
fn references_do_not_become_memory() {
    let site = Site::start("");
    let mut seed = literals(&request("GET", "/hold"));
    seed.push(0x40);
    text(&mut seed, b"x");
    text(&mut seed, "v".repeat(4000).as_bytes());
    let bomb = |references: usize| {
        [literals(&request("GET", "/hold")), vec![0x80 | 62; references]].concat()
    };
    // Four of them fit a list of 32 KiB, ten are answered with 431, and 10,000 end the connection.
    let mut h2 = H2::open_with(site.address, &[(4, 0)]);
    h2.frame(HEADERS, WHOLE, 1, &seed);
    h2.frame(HEADERS, WHOLE, 3, bomb(10));
    assert_eq!(headers_status(&mut h2, 3), 431);
    h2.frame(HEADERS, WHOLE, 5, bomb(10_000));
    calmed(&mut h2);
    // A hundred streams of the most that is let in, with a window of zero, and three such connections.
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut h2 = H2::open_with(site.address, &[(4, 0)]);
        h2.frame(HEADERS, WHOLE, 1, &seed);
        for n in 1..100 {
            h2.frame(HEADERS, WHOLE, 2 * n + 1, bomb(7));
        }
        assert!(h2.settled());
        held.push(h2);
    }
    let grown = resident(&site.ringgate).saturating_sub(site.memory);
    assert!(grown <= MEMORY, "{} KiB more", grown >> 10);
    drop(held);
    // Crumbs of one octet: `cookie` of the static table.
    let mut crumbs = literals(&request("GET", "/"));
    for _ in 0..10_000 {
        integer(&mut crumbs, 0x80, 7, 32);
    }
    let mut h2 = H2::open(site.address);
    h2.frame(HEADERS, WHOLE, 1, &crumbs);
    calmed(&mut h2);
    site.end();
}

fn headers_status(h2: &mut H2, wanted: u32) -> u16 {
    loop {
        match h2.event() {
            Event::Head { stream, fields, .. } if stream == wanted => {
                return fields[0].1.parse().unwrap();
            }
            Event::Closed | Event::Silence => panic!("no answer: {:?}", h2.goaway),
            _ => {}
        }
    }
}

/// H2-08, H2-10: answers that are not read wait at the target, not here, and not for ever.
#[test]
fn answers_that_are_not_read_are_ended() {
    let site = Site::start("\n[timeouts]\nbody = \"2s\"\n");
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut h2 = H2::open_with(site.address, &[(4, 0)]);
        h2.refills = false;
        for n in 0..50 {
            h2.get(2 * n + 1, "/big");
        }
        assert!(h2.settled());
        held.push(h2);
    }
    let grown = resident(&site.ringgate).saturating_sub(site.memory);
    assert!(grown <= MEMORY, "{} KiB more", grown >> 10);
    for h2 in &mut held {
        let began = Instant::now();
        for n in 0..50 {
            let outcome = h2.outcome(2 * n + 1);
            assert!(
                matches!(outcome, Outcome::Reset(_) | Outcome::GoAway(_) | Outcome::Closed),
                "{outcome:?}"
            );
            if !matches!(outcome, Outcome::Reset(_)) {
                break;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    }
    site.end();
}

/// Streams whose window is used up hold up nobody, as long as the connection's is not.
#[test]
fn streams_that_are_not_read_hold_up_no_others() {
    let site = Site::start("");
    for given_up in [false, true] {
        let mut h2 = H2::open(site.address);
        h2.refills = false;
        h2.patience = Duration::from_secs(5);
        h2.frame(WINDOW_UPDATE, 0, 0, (16u32 << 20).to_be_bytes());
        for n in 0..60 {
            let stream = 4 * n + 1;
            h2.get(stream, "/big");
            loop {
                match h2.event() {
                    Event::Data { stream: of, .. } if of == stream => break,
                    Event::Closed | Event::Silence => panic!("{n}: {:?}", h2.goaway),
                    _ => {}
                }
            }
            if given_up {
                h2.send(cancel(stream));
                std::thread::sleep(Duration::from_millis(11));
            }
            h2.get(stream + 2, "/");
            let outcome = h2.outcome(stream + 2);
            assert_eq!(
                outcome.status(),
                200,
                "beside {n} others, given up: {given_up}: {outcome:?}"
            );
        }
    }
    site.end();
}

/// H2-10: one octet now and then is no progress, neither in an answer that streams nor in one that ringgate has whole.
#[test]
fn a_window_that_drips_keeps_nothing_alive() {
    let site = Site::start("\n[timeouts]\nbody = \"2s\"\n");
    let mut h2 = H2::open_with(site.address, &[(4, 0)]);
    h2.refills = false;
    h2.patience = Duration::from_millis(500);
    h2.get(1, "/big");
    h2.get(3, "/short");
    let began = Instant::now();
    let mut open = vec![1, 3];
    while !open.is_empty() {
        for stream in &open {
            h2.frame(WINDOW_UPDATE, 0, *stream, [0, 0, 0, 1]);
        }
        match h2.event() {
            Event::Reset { stream, .. } => open.retain(|one| *one != stream),
            // Not because the time of a head is over: this connection has its requests.
            Event::GoAway { .. } | Event::Closed => panic!("ended after {:?}", began.elapsed()),
            // What came between is waited for, so that no more than some octets a second go.
            Event::Data { .. } => std::thread::sleep(Duration::from_millis(250)),
            _ => {}
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{} octets", h2.received);
    }
    let reason = "ringgate_faults_total{reason=\"read_too_slow\"}";
    assert_eq!(site.ringgate.metric(reason), Some(2.0));
    site.end();
}

/// H2-09: frames that say nothing, while what is answered is read.
#[test]
fn frames_without_a_message_are_cut_off() {
    let site = Site::start("");
    let kinds: &[(&str, Vec<u8>)] = &[
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING ACK", frame(PING, ACK, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        ("SETTINGS with entries", frame(SETTINGS, 0, 0, &settings_payload(&[(3, 1); 100]))),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("an unknown kind", frame(0x20, 0, 0, &[0; 8])),
        ("empty DATA", frame(DATA, 0, 1, &[])),
        ("DATA of padding", frame(DATA, PADDED, 1, &[3, 0, 0, 0])),
    ];
    for (name, one) in kinds {
        let mut h2 = H2::open(site.address);
        h2.head(1, END_HEADERS, &request("POST", "/hold"));
        let many = one.repeat(50);
        let sent = flood(&mut h2, |_| many.clone());
        let ended = h2.ending();
        let told = matches!(ended, Outcome::GoAway(ENHANCE_YOUR_CALM) | Outcome::Closed);
        assert!(told, "{name}: {ended:?} after {sent}");
    }
    site.end();
}

/// H2-09: the same of clients that never read what they are sent.
#[test]
fn acknowledgements_that_are_not_read_do_not_pile_up() {
    let site = Site::start("");
    for one in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[])] {
        let mut h2 = H2::open(site.address);
        h2.tcp.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let many = one.repeat(1000);
        let sent = flood(&mut h2, |_| many.clone());
        assert!(sent < MANY, "a flood was never cut off");
    }
    site.end();
}

/// H2-14: what cancelled uploads have used of the connection's window comes back.
#[test]
fn windows_come_back_from_cancelled_uploads() {
    let site = Site::start("\n[limits.http2]\nresets = 100000\nresets_per_second = 100000\n");
    let mut h2 = H2::open(site.address);
    h2.patience = Duration::from_secs(8);
    let mut window: i64 = 65535;
    let mut stream = 1;
    // Ten times the window of the connection, all of it cancelled, some of it padding, at different points.
    for n in 0..1300u32 {
        let mut upload = head(stream, END_HEADERS, "POST", "/hold");
        let (flags, payload) = match n % 3 {
            0 => (PADDED, [&[200][..], &[b'x'; 8000], &[0; 200]].concat()),
            _ => (0, vec![b'x'; 8192]),
        };
        upload.extend(frame(DATA, flags, stream, &payload));
        if n % 5 != 0 {
            upload.extend(cancel(stream));
        } else {
            upload.extend(frame(DATA, END_STREAM, stream, &[]));
        }
        while window < payload.len() as i64 {
            match h2.event() {
                Event::Window { stream: 0, increment } => window += i64::from(increment),
                Event::Closed | Event::Silence => {
                    panic!("upload {n}: the window does not come back: {window}, {:?}", h2.goaway)
                }
                _ => {}
            }
        }
        window -= payload.len() as i64;
        h2.send(upload);
        if n % 5 == 0 {
            // Ended whole, and then given up.
            h2.send(cancel(stream));
        }
        stream += 2;
    }
    assert!(h2.settled(), "{:?}", h2.goaway);
    site.end();
}
