//! HTTP/2 where it touches its neighbours: many short messages, heads that barely fit, and moments at which a client or the
//! process leaves.
//!
//! Both sides are played frame by frame. What each rule of the protocol forbids is `h2_strict`'s, what an attack costs `h2_floods`'s.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use rustix::process::Signal;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use support::h2origin::H2Origin;
use support::h2raw::*;
use support::hpack::literals;
use support::ringgate::forwarding;
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address, get};

fn one_worker(listen: SocketAddr, target: SocketAddr, group: &str, more: &str) -> String {
    format!("[server]\nworkers = 1\n{more}\n\n{}", forwarding(listen, &[target], group))
}

/// ringgate with one worker before a target that speaks HTTP/2, and its address.
#[track_caller]
fn before(origin: &H2Origin) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    let config = one_worker(listen, origin.address, "protocol = \"h2c\"", "");
    (Ringgate::start(&config), listen)
}

/// A head in as many frames as it needs.
fn long_head(stream: u32, end: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = literals(fields);
    let mut parts = block.chunks(16384).peekable();
    let (mut kind, mut out, mut end) = (HEADERS, Vec::new(), end);
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        out.extend(frame(kind, last | end, stream, part));
        (kind, end) = (CONTINUATION, 0);
    }
    out
}

/// H2-13, H2-14: a client that calls with short messages, faster than the target takes them, is no attacker.
#[test]
fn short_messages_wait_for_a_target_that_reads_slowly() {
    const STREAMS: u32 = 10;
    const MESSAGES: usize = 5000;
    let (open, opened) = mpsc::channel();
    let opened = Mutex::new(opened);
    // Streams have no window until the test says so.
    let origin = H2Origin::script(&[(4, 0)], move |conn| {
        let streams: Vec<_> = (0..STREAMS).map(|_| conn.head().unwrap().0).collect();
        opened.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        conn.h2.frame(WINDOW_UPDATE, 0, 0, (1u32 << 20).to_be_bytes());
        for stream in &streams {
            conn.h2.frame(WINDOW_UPDATE, 0, *stream, (1u32 << 20).to_be_bytes());
        }
        for _ in streams {
            let Some((stream, request)) = conn.request() else { return };
            conn.answer(stream, &[], request.body.len().to_string().as_bytes());
        }
        conn.await_end();
    });
    let (_ringgate, listen) = before(&origin);
    let mut h2 = H2::open(listen);
    assert!(h2.settled());
    let of = |n: u32| 2 * n + 1;
    for n in 0..STREAMS {
        h2.head(of(n), END_HEADERS, &request("POST", "/"));
        h2.send(frame(DATA, 0, of(n), b"0123456789").repeat(MESSAGES));
    }
    assert!(h2.settled(), "{:?}", h2.goaway);
    open.send(()).unwrap();
    for n in 0..STREAMS {
        h2.frame(DATA, END_STREAM, of(n), []);
    }
    for n in 0..STREAMS {
        let answer = h2.outcome(of(n)).answer();
        assert_eq!((answer.status(), answer.text()), (200, (10 * MESSAGES).to_string()));
    }
}

/// H2-13: short messages for clients that do not read them cost nobody else the target's connection.
#[test]
fn short_messages_wait_for_clients_that_read_slowly() {
    const SLEEPERS: u32 = 10;
    const MESSAGES: usize = 4000;
    let (sent, was_sent) = mpsc::channel();
    let sent = Mutex::new(sent);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, request)) = conn.request() {
            if request.header(":path") != Some("/messages") {
                conn.answer(stream, &[], b"ok");
                continue;
            }
            conn.respond(stream, 0, "200", &[]);
            conn.h2.send(frame(DATA, 0, stream, b"0123456789abcde").repeat(MESSAGES));
            conn.trailers(stream, &[("x-sum", "1")]);
            sent.lock().unwrap().send(()).unwrap();
        }
    });
    let (_ringgate, listen) = before(&origin);
    let mut sleepers = H2::open_with(listen, &[(4, 0)]);
    let of = |n: u32| 2 * n + 1;
    for n in 0..SLEEPERS {
        sleepers.get(of(n), "/messages");
    }
    for _ in 0..SLEEPERS {
        was_sent.recv_timeout(PATIENCE).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(get(listen, "/").text(), "ok");
    }
    assert_eq!(origin.connections(), 1);
    for n in 0..SLEEPERS {
        sleepers.frame(WINDOW_UPDATE, 0, of(n), (1u32 << 20).to_be_bytes());
    }
    for n in 0..SLEEPERS {
        let answer = sleepers.outcome(of(n)).answer();
        assert_eq!((answer.body.len(), answer.trailers.len()), (15 * MESSAGES, 1));
    }
    assert_eq!(origin.connections(), 1);
}

/// H2-05: a client that gives up while a connection to the target is being opened waits no longer, and is not served when
/// it is open.
#[test]
fn a_client_that_leaves_while_a_connection_opens_reaches_nobody() {
    let target = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = target.local_addr().unwrap();
    let (settle, settled) = mpsc::channel();
    let (reached, reaches) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = target.accept().unwrap();
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).unwrap();
        reached.send("the preface".to_owned()).unwrap();
        settled.recv_timeout(PATIENCE).unwrap();
        let mut h2 = H2::over_tcp(stream);
        h2.frame(SETTINGS, 0, 0, []);
        loop {
            match h2.event() {
                Event::Head { stream, fields, .. } => {
                    let path = fields.into_iter().find(|(name, _)| name == ":path").unwrap().1;
                    h2.head(stream, WHOLE, &[(":status", "204")]);
                    reached.send(path).unwrap();
                }
                Event::Closed | Event::Silence => return,
                _ => {}
            }
        }
    });
    let listen = free_address();
    let group = "protocol = \"h2c\"\ntimeouts = { connect = \"10s\" }";
    let ringgate = Ringgate::start(&one_worker(listen, address, group, ""));
    let mut h2 = H2::open(listen);
    h2.get(1, "/given-up");
    assert_eq!(reaches.recv_timeout(PATIENCE).unwrap(), "the preface");
    h2.frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes());
    let gone = "ringgate_faults_total{reason=\"client_gone\"}";
    let began = std::time::Instant::now();
    eventually("the request has ended", || ringgate.metric(gone) == Some(1.0));
    assert!(began.elapsed().as_secs() < 5, "it waited for the connection");
    settle.send(()).unwrap();
    assert_eq!(get(listen, "/wanted").status(), 204);
    assert_eq!(reaches.recv_timeout(PATIENCE).unwrap(), "/wanted");
    drop((h2, ringgate));
    thread.join().unwrap();
}

/// Who waits for a target that speaks HTTP/2 when the time to drain is over is told so, as over HTTP/1.1.
#[test]
fn the_end_of_a_drain_reaches_who_waits_for_a_target() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let origin = H2Origin::script(&[], move |conn| {
        while conn.head().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let listen = free_address();
    let config = one_worker(listen, origin.address, "protocol = \"h2c\"", "drain = \"1s\"");
    let mut ringgate = Ringgate::start(&config);
    // One came before the target's connection, one after it.
    let mut clients = Vec::new();
    for n in 1..=2 {
        let mut client = Client::connect(listen);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        clients.push(client);
        eventually("the request is under way", || begun.load(Ordering::SeqCst) == n);
    }
    ringgate.signal(Signal::TERM);
    for mut client in clients {
        let answer = client.response();
        assert_eq!((answer.status(), answer.header("connection")), (504, Some("close")));
    }
    assert!(ringgate.wait_exit().success());
}

/// A body that arrived with its head is taken with it, however long that is.
#[test]
fn a_long_head_leaves_room_for_its_body() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.wire.request()? {
            let body = request.body.len().to_string();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))?;
        }
        Ok(())
    });
    let value = "v".repeat(13_000);
    for (more, names) in [
        ("", &["a", "b"][..]),
        ("\n[limits.http2]\nheader_list = \"64KiB\"\n", &["a", "b", "c", "d"]),
    ] {
        let listen = free_address();
        let ringgate = Ringgate::start(&(one_worker(listen, origin.address, "", "") + more));
        let fields: Vec<_> = names.iter().map(|name| (*name, value.as_str())).collect();
        let mut h2 = H2::open(listen);
        for stream in [1, 3, 5] {
            let mut all = long_head(stream, 0, &request_with("POST", "/", &fields));
            all.extend(frame(DATA, END_STREAM, stream, &[b'x'; 8000]));
            h2.send(all);
            let answer = h2.outcome(stream).answer();
            assert_eq!((answer.status(), answer.text().as_str()), (200, "8000"), "{names:?}");
        }
        drop(ringgate);
    }
}

/// What refuses a head that could not be read has a body unless that head was of HEAD, whatever came before it.
#[test]
fn refusals_have_the_body_that_they_announce() {
    let origin = Origin::script(|conn| {
        while conn.wire.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, origin.address, "", ""));
    let mut h2 = H2::open(listen);
    let many = vec![("x", "y"); 200];
    let mut stream = 1;
    for before in ["HEAD", "GET"] {
        for method in ["GET", "HEAD"] {
            h2.head(stream, WHOLE, &request(before, "/"));
            assert_eq!(h2.outcome(stream).status(), 200);
            h2.head(stream + 2, WHOLE, &request_with(method, "/", &many));
            let answer = h2.outcome(stream + 2).answer();
            assert_eq!(answer.status(), 431);
            let announced: usize = answer.header("content-length").unwrap().parse().unwrap();
            let expected = if method == "HEAD" { 0 } else { announced };
            assert!(announced > 0 && answer.body.len() == expected, "{method} after {before}");
            stream += 4;
        }
    }
}

/// Metadata of gRPC may have names with an underscore: they harm no client, but some servers take them for others (H1-15).
#[test]
fn trailers_with_an_underscore_reach_clients_and_no_target() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.respond(stream, 0, "200", &[]);
            conn.data(stream, 0, b"x");
            conn.trailers(stream, &[("error_code", "7"), ("x-sum", "1")]);
        }
    });
    let (_ringgate, listen) = before(&origin);
    let mut h2 = H2::open(listen);
    h2.head(1, END_HEADERS, &request("POST", "/"));
    h2.frame(DATA, 0, 1, b"x");
    h2.head(1, WHOLE, &[("a_b", "c"), ("x-sum", "2")]);
    let answer = h2.outcome(1).answer();
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(answer.trailers, [field("error_code", "7"), field("x-sum", "1")]);
    assert_eq!(origin.requests()[0].trailers, [field("x-sum", "2")]);
}

/// The same over HTTP/2: those who wait are told, those who are being answered that it is not the whole.
#[test]
fn the_end_of_a_drain_reaches_who_waits_over_http2() {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.wire.request()? {
            if request.target() == "/half" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let _ = conn.wire.rest();
        }
        Ok(())
    });
    let listen = free_address();
    let log = "\n[log]\naccess = \"./access.log\"\n";
    let config = one_worker(listen, origin.address, "", "drain = \"1s\"") + log;
    let mut ringgate = Ringgate::start(&config);
    let mut h2 = H2::open(listen);
    h2.get(1, "/half");
    h2.get(3, "/waits");
    eventually("both are under way", || begun.load(Ordering::SeqCst) == 2);
    ringgate.signal(Signal::TERM);
    assert_eq!(h2.outcome(3).status(), 504);
    assert!(matches!(h2.outcome(1), Outcome::Reset(_)));
    assert_eq!(h2.ending(), Outcome::Closed);
    assert_eq!(h2.goaway, Some((3, NO_ERROR)));
    assert!(ringgate.wait_exit().success());
    let log = std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap();
    assert!(log.lines().count() == 2 && !log.contains("client_gone"), "{log}");
}

/// What a client has sent of requests that were answered before their end, it may have sent before it knew of that
/// (RFC 9113 section 5.1); H2-06 bounds what it provokes.
#[test]
fn uploads_that_are_answered_early_end_no_connection() {
    let origin = Origin::script(|conn| {
        while conn.wire.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let listen = free_address();
    let config = one_worker(listen, origin.address, "", "");
    let page = "default = { respond = { status = 403 } }";
    let config = config.replace("default = { forward = \"all\" }", page);
    let _ringgate = Ringgate::start(&config);
    let mut h2 = H2::open(listen);
    for round in 0..8 {
        let streams: Vec<u32> = (0..100).map(|n| 2 * (100 * round + n) + 1).collect();
        for stream in &streams {
            h2.head(*stream, END_HEADERS, &request("POST", "/"));
        }
        for stream in &streams {
            assert_eq!(h2.outcome(*stream).status(), 403, "{:?}", h2.goaway);
        }
        for stream in &streams {
            h2.send(frame(DATA, 0, *stream, b"under way").repeat(3));
            h2.head(*stream, WHOLE, &[("x-sum", "1")]);
        }
        assert!(h2.settled(), "round {round}: {:?}", h2.goaway);
    }
    assert_eq!(h2.goaway, None);
}
