//! HTTP/2 to targets: what a request and a response become, which connections carry them, and what one stream may cost
//! the others.
//!
//! The origins are scripted frame by frame, so that each hazard is what it says; real servers come last.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::authority::Authority;
use support::h2origin::H2Origin;
use support::h2raw::{
    CANCEL, END_STREAM, Event, H2, INTERNAL_ERROR, NO_ERROR, Outcome, PING, REFUSED_STREAM,
    request_with,
};
use support::process::Process;
use support::ringgate::forwarding;
use support::tls_origin::{TlsOrigin, server};
use support::{Client, Message, Origin, Ringgate, eventually, free_address, get, program};

const MAX_STREAMS: u16 = 3;

fn one_worker(listen: SocketAddr, target: SocketAddr, more: &str) -> String {
    let group = format!("protocol = \"h2c\"\n{more}");
    format!("[server]\nworkers = 1\n\n{}", forwarding(listen, &[target], &group))
}

/// ringgate with one worker before `origin`, and its address. `more` stands in the group.
#[track_caller]
fn before(origin: &H2Origin, more: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&one_worker(listen, origin.address, more)), listen)
}

fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    let mut all = fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let first = all.next();
    assert_eq!(all.next(), None, "{name} came twice");
    first
}

/// Sends one request on a connection of its own; its answer.
#[track_caller]
fn post(to: SocketAddr, path: &str, body: &str) -> Message {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    Client::connect(to).send(head + body).response_to("POST")
}

#[test]
fn requests_become_fields_and_nothing_of_a_connection() {
    let origin = H2Origin::echo(&[]);
    let (_ringgate, listen) = before(&origin, "");
    let request = "GET /a%20b?c=d HTTP/1.1\r\nHost: A.test:8080\r\nX-Mixed: Case\r\nTE: trailers, gzip\r\n\
                   Connection: keep-alive, x-private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n\
                   Cookie: a=1; b=2\r\n\r\n";
    let answer = Client::connect(listen).send(request).response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "/a%20b?c=d"));
    let fields = &origin.requests()[0].fields;
    let pseudo: Vec<&str> =
        fields.iter().map(|(n, _)| n.as_str()).take_while(|n| n.starts_with(':')).collect();
    assert_eq!(pseudo.len(), 4, "pseudo-header fields come first: {fields:?}");
    for (name, value) in [
        (":method", Some("GET")),
        (":scheme", Some("http")),
        (":path", Some("/a%20b?c=d")),
        (":authority", Some("A.test:8080")),
        ("x-mixed", Some("Case")),
        ("te", Some("trailers")),
        ("cookie", Some("a=1; b=2")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("via", Some("1.1 ringgate")),
        ("host", None),
        ("connection", None),
        ("keep-alive", None),
        ("x-private", None),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(field(fields, name), value, "{name}");
    }
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            conn.respond(stream, 0, "201", &[("x-a", "b"), ("trailer", "x-sum")]);
            conn.data(stream, 0, &request.body);
            conn.data(stream, 0, b"");
            let sum = request.trailers.iter().find(|(n, _)| n == "x-sum");
            let sum = sum.map_or("none", |(_, v)| v.as_str());
            conn.trailers(stream, &[("x-sum", sum), ("content-length", "7")]);
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut client = Client::connect(listen);
    let chunked = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\nHost: x\r\n\r\n";
    let answer = client.send(chunked).response_to("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (201, "hello world"));
    assert!(answer.start.starts_with("HTTP/1.1 201 Created"), "{}", answer.start);
    assert_eq!(answer.header("x-a"), Some("b"));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "11".to_owned())], "and no other");
    let answer = post(listen, "/", "plain");
    assert_eq!((answer.text().as_str(), answer.trailers.len()), ("plain", 1));
    let requests = origin.requests();
    assert_eq!(field(&requests[0].fields, "content-length"), None);
    assert_eq!(field(&requests[1].fields, "content-length"), Some("5"));
    assert_eq!(requests[0].trailers, [("x-sum".to_owned(), "11".to_owned())]);
}

#[test]
fn responses_without_a_body_end_where_they_end() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            match request.header(":path").unwrap_or_default() {
                "/head" => conn.respond(stream, END_STREAM, "200", &[("content-length", "5")]),
                "/204" => conn.respond(stream, END_STREAM, "204", &[]),
                "/304" => conn.respond(stream, END_STREAM, "304", &[("content-length", "9")]),
                "/empty" => conn.respond(stream, END_STREAM, "200", &[]),
                _ => {
                    conn.respond(stream, 0, "103", &[("link", "</a>")]);
                    conn.respond(stream, 0, "200", &[("content-length", "2")]);
                    conn.data(stream, END_STREAM, b"ok");
                }
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut client = Client::connect(listen);
    let mut ask = |method: &str, path: &str| {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).response_to(method)
    };
    assert_eq!(ask("HEAD", "/head").header("content-length"), Some("5"));
    assert_eq!(ask("GET", "/204").status(), 204);
    assert_eq!(ask("GET", "/304").status(), 304);
    assert_eq!(ask("GET", "/empty").header("content-length"), Some("0"));
    let hint = ask("GET", "/early");
    assert_eq!((hint.status(), hint.header("link")), (103, Some("</a>")));
    let answer = client.wire.response("GET").unwrap().unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_body_waits_until_the_target_wants_it() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, fields)) = conn.head() {
            assert_eq!(field(&fields, "expect"), Some("100-continue"));
            if field(&fields, ":path") == Some("/no") {
                conn.respond(stream, END_STREAM, "403", &[]);
                continue;
            }
            conn.respond(stream, 0, "100", &[]);
            let (stream, request) = conn.request().unwrap();
            conn.answer(stream, &[], &request.body);
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let head = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        )
    };
    let mut client = Client::connect(listen);
    assert_eq!(client.send(head("/yes")).response_to("PUT").status(), 100);
    assert_eq!(client.send("body").response_to("PUT").text(), "body");
    assert_eq!(client.send(head("/no")).response_to("PUT").status(), 403);
}

#[test]
fn one_connection_carries_many_streams_and_another_opens_when_it_is_full() {
    // The answers come only when all requests are there: as many streams at a time.
    const CLIENTS: usize = 24;
    let origin = |settings: &'static [(u16, u32)], streams: usize| {
        let there = Arc::new(AtomicUsize::new(0));
        H2Origin::script(settings, move |conn| {
            let mut mine = Vec::new();
            while mine.len() < streams
                && let Some((stream, _)) = conn.request()
            {
                mine.push(stream);
                there.fetch_add(1, Ordering::SeqCst);
            }
            while there.load(Ordering::SeqCst) < CLIENTS {
                std::thread::sleep(Duration::from_millis(2));
            }
            mine.iter().for_each(|stream| conn.answer(*stream, &[], b"ok"));
            while let Some((stream, _)) = conn.request() {
                conn.answer(stream, &[], b"more");
            }
        })
    };
    let run = |origin: &H2Origin| {
        let (ringgate, listen) = before(origin, "");
        // The settings are known from the first answer on.
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| std::thread::spawn(move || get(listen, "/").status())).collect();
        clients.into_iter().for_each(|client| assert_eq!(client.join().unwrap(), 200));
        ringgate.sum("ringgate_target_connects_total", &[])
    };
    let roomy = origin(&[], CLIENTS);
    assert_eq!((run(&roomy) as usize, roomy.connections()), (1, 1));
    let narrow = origin(&[(MAX_STREAMS, 8)], 8);
    let opened = run(&narrow) as usize;
    assert!((3..=6).contains(&opened), "{opened} connections for {CLIENTS} streams, 8 on each");
}

#[test]
fn h2_15_what_goaway_left_unprocessed_is_sent_again_whatever_it_is() {
    let origin = H2Origin::script(&[], |conn| {
        if conn.number > 0 {
            while let Some((stream, request)) = conn.request() {
                conn.answer(stream, &[], &request.body);
            }
            return;
        }
        // Two are here; the second one was not begun. First the warning, then the last word (RFC 9113 section 6.8).
        let (first, request) = conn.request().unwrap();
        let (_second, _) = conn.request().unwrap();
        conn.go_away(0x7fff_ffff, NO_ERROR);
        std::thread::sleep(Duration::from_millis(50));
        conn.go_away(first, NO_ERROR);
        std::thread::sleep(Duration::from_millis(50));
        conn.answer(first, &[], &request.body);
        conn.await_end();
    });
    let (ringgate, listen) = before(&origin, "");
    let clients: Vec<_> = ["one", "two"]
        .map(|body| {
            let client = std::thread::spawn(move || post(listen, "/", body).text() == body);
            std::thread::sleep(Duration::from_millis(100));
            client
        })
        .into();
    assert!(clients.into_iter().all(|client| client.join().unwrap()));
    assert_eq!(post(listen, "/", "three").text(), "three");
    assert_eq!((origin.connections(), origin.requests().len()), (2, 4));
    assert_eq!(ringgate.sum("ringgate_target_retries_total", &[]), 1.0);
}

#[test]
fn h2_15_a_drain_under_load_loses_nothing() {
    // Each connection is sent away after ten requests, with more in flight.
    let origin = H2Origin::script(&[], |conn| {
        let mut last = 0;
        for _ in 0..10 {
            let Some((stream, request)) = conn.request() else { return };
            last = last.max(stream);
            conn.answer(stream, &[], &request.body);
        }
        conn.go_away(last, NO_ERROR);
        // What was begun before is answered; what comes after the last word is not looked at.
        conn.await_end();
    });
    let (_ringgate, listen) = before(&origin, "");
    let clients: Vec<_> = (0..6)
        .map(|client| {
            std::thread::spawn(move || {
                for at in 0..40 {
                    let body = format!("{client}-{at}");
                    let answer = post(listen, "/", &body);
                    assert_eq!((answer.status(), answer.text()), (200, body));
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!(origin.connections() >= 20, "{}", origin.connections());
}

#[test]
fn what_the_target_may_have_begun_is_not_sent_again() {
    // The stream is not above the last one of GOAWAY; then the connection ends.
    let origin = H2Origin::script(&[], |conn| {
        if let Some((stream, _)) = conn.request() {
            conn.go_away(stream, NO_ERROR);
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let answer = post(listen, "/", "x");
    assert_eq!((answer.status(), origin.requests().len()), (502, 1), "{}", answer.reason());
    // What is idempotent may be, once, as over HTTP/1.1.
    assert_eq!(get(listen, "/").status(), 502);
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a_refused_stream_is_sent_again_and_one_that_failed_is_not() {
    let origin = H2Origin::script(&[], |conn| {
        let mut refused = 0;
        while let Some((stream, request)) = conn.request() {
            match request.header(":path").unwrap_or_default() {
                "/refused" if refused < 3 => {
                    refused += 1;
                    conn.reset(stream, REFUSED_STREAM);
                }
                "/always" => conn.reset(stream, REFUSED_STREAM),
                "/failed" => conn.reset(stream, INTERNAL_ERROR),
                _ => conn.answer(stream, &[], b"at last"),
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    assert_eq!(post(listen, "/refused", "x").text(), "at last");
    assert_eq!(origin.requests().len(), 4);
    let answer = post(listen, "/failed", "x");
    assert_eq!((answer.status(), answer.reason()), (502, "target_reset"));
    assert_eq!(origin.requests().len(), 5);
    let answer = post(listen, "/always", "x");
    assert_eq!((answer.status(), answer.reason()), (502, "target_reset"));
    assert!(origin.requests().len() < 20, "tried without end");
    assert_eq!(origin.connections(), 1, "an error of a stream costs no connection");
}

// Another target is asked before the same one is again.
#[test]
fn a_refused_stream_is_sent_elsewhere() {
    let refusing = H2Origin::script(&[], |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.reset(stream, REFUSED_STREAM);
        }
    });
    let taking = H2Origin::echo(&[]);
    let listen = free_address();
    let group = "protocol = \"h2c\"\nalgorithm = \"hash\"\nhash = { query = \"k\" }\n";
    let targets = [refusing.address, taking.address];
    let _ringgate = Ringgate::start(&forwarding(listen, &targets, group));
    for key in 0..32 {
        let path = format!("/?k={key}");
        assert_eq!(post(listen, &path, "").text(), path);
    }
    let (refused, taken) = (refusing.requests().len(), taking.requests().len());
    assert!(taken == 32 && (1..32).contains(&refused), "{refused} and {taken}");
}

/// RFC 9113 section 8.1: a response whose trailers have a pseudo-header field is malformed, and does not look whole.
#[test]
fn trailers_with_pseudo_header_fields_end_the_response() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            if request.header(":path") == Some("/204") {
                conn.respond(stream, END_STREAM, "204", &[]);
                continue;
            }
            conn.respond(stream, 0, "200", &[]);
            conn.data(stream, 0, b"whole?");
            match request.header(":path") {
                Some("/bad") => conn.trailers(stream, &[(":status", "200"), ("x-sum", "1")]),
                Some("/only") => conn.trailers(stream, &[(":path", "/")]),
                _ => conn.trailers(stream, &[("x-sum", "1")]),
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut h2 = H2::open(listen);
    let mut stream = 1;
    for _ in 0..3 {
        for (path, bad) in [("/fine", false), ("/204", false), ("/bad", true), ("/only", true)] {
            h2.get(stream, path);
            match (h2.outcome(stream), bad) {
                (Outcome::Answer(_), false) | (Outcome::Reset(_), true) => {}
                (outcome, _) => panic!("{path}: {outcome:?}"),
            }
            stream += 2;
        }
    }
    for path in ["/bad", "/only"] {
        let octets =
            support::send_raw(listen, format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let text = String::from_utf8_lossy(&octets);
        assert!(text.contains("whole?") && !text.ends_with("0\r\n\r\n"), "{text}");
    }
    assert_eq!(get(listen, "/fine").text(), "whole?");
}

#[test]
fn h2_13_a_malformed_response_costs_its_own_stream_only() {
    let bad: &[&[(&str, &str)]] = &[
        &[(":status", "200"), ("te", "trailers")],
        &[(":status", "200"), ("connection", "close")],
        &[(":status", "200"), ("transfer-encoding", "chunked")],
        &[(":status", "200"), ("x", " a")],
        &[(":status", "200"), (":status", "200")],
        &[("x", "a"), (":status", "200")],
        &[(":status", "200"), ("content-length", "1"), ("content-length", "2")],
        &[(":status", "200"), ("content-length", "+1")],
        &[],
        &[(":status", "101")],
    ];
    let origin = H2Origin::script(&[], |conn| {
        let mut waiting = None;
        while let Some((stream, request)) = conn.request() {
            let path = request.header(":path").unwrap_or_default();
            match path.strip_prefix("/bad/") {
                Some(at) => {
                    let fields = bad[at.parse::<usize>().unwrap()];
                    conn.h2.head(stream, support::h2raw::END_HEADERS, fields);
                    if !fields.contains(&(":status", "101")) {
                        conn.data(stream, END_STREAM, b"x");
                    }
                }
                None if path == "/wait" => waiting = Some(stream),
                None => {
                    conn.answer(waiting.take().unwrap(), &[], b"waited");
                    conn.answer(stream, &[], b"released");
                }
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let bystander = std::thread::spawn(move || post(listen, "/wait", "x").text());
    eventually("the bystander waits", || origin.requests().len() == 1);
    for (at, fields) in bad.iter().enumerate() {
        let answer = post(listen, &format!("/bad/{at}"), "x");
        assert_eq!(answer.status(), 502, "{:?}: {}", fields, answer.reason());
        assert_ne!(answer.reason(), "-", "{:?}", fields);
    }
    assert_eq!(get(listen, "/release").text(), "released");
    assert_eq!(bystander.join().unwrap(), "waited");
    assert_eq!(origin.connections(), 1);
}

/// What cannot be decompressed ends the connection (RFC 9113 section 4.3), and h2 says so of more: each of its streams is
/// told, and the next request finds another connection.
#[test]
fn h2_13_what_cannot_be_decompressed_fails_its_connection_with_faults() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            match request.header(":path").unwrap_or_default() {
                "/wait" => {}
                "/bad" => conn.respond(stream, 0, "200", &[("x", "a\r\nb: c")]),
                _ => conn.answer(stream, &[], b"ok"),
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let bystander = std::thread::spawn(move || post(listen, "/wait", "x").status());
    eventually("the bystander waits", || origin.requests().len() == 1);
    assert_eq!(post(listen, "/bad", "x").reason(), "target_protocol");
    assert_eq!(bystander.join().unwrap(), 502);
    assert_eq!(get(listen, "/").text(), "ok");
    assert_eq!(origin.connections(), 2);
}

#[test]
fn bodies_that_differ_from_their_length_are_broken_off() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            let path = request.header(":path").unwrap_or_default();
            let (length, body) = match path {
                "/short" => ("70000", &[b'x'; 40_000][..]),
                "/long" => ("39000", &[b'x'; 40_000][..]),
                _ => ("2", &b"ok"[..]),
            };
            conn.respond(stream, 0, "200", &[("content-length", length)]);
            conn.data(stream, END_STREAM, body);
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    for path in ["/short", "/long"] {
        let mut client = Client::connect(listen);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        // It may fail before anything was passed on.
        if let Ok(Some(answer)) = client.wire.response("GET") {
            assert_eq!(answer.status(), 502, "{path}");
        }
        let mut h2 = H2::open(listen);
        h2.get(1, path);
        let outcome = h2.outcome(1);
        assert!(matches!(outcome, Outcome::Reset(_)) || outcome.status() == 502, "{path}");
    }
    assert_eq!(get(listen, "/").text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn h2_14_a_client_that_reads_nothing_keeps_no_other_waiting() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            let size = if request.header(":path") == Some("/large") { 60_000 } else { 100 };
            conn.answer(stream, &[], &vec![b'x'; size]);
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    // Forty answers that nobody reads: more than a connection's window of the usual size.
    let mut sleepers = H2::open_with(listen, &[(4, 1)]);
    for at in 0..40 {
        sleepers.get(1 + 2 * at, "/large");
    }
    eventually("all were sent", || origin.requests().len() == 40);
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(get(listen, "/").text().len(), 100);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(origin.connections(), 1);
    // Whoever leaves gives back what was waiting for it.
    sleepers.close();
    for _ in 0..200 {
        assert_eq!(get(listen, "/large").text().len(), 60_000);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_leaves_frees_the_target() {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, _)) = conn.head() {
            if conn.h2.done(stream).is_none() {
                // Also where the request is not whole.
                conn.respond(stream, 0, "200", &[]);
            }
            let code = conn.await_reset(stream);
            said.lock().unwrap().send(code).unwrap();
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut h2 = H2::open(listen);
    for stream in [1, 3, 5] {
        let method = if stream == 5 { "POST" } else { "GET" };
        let flags = if stream == 5 { support::h2raw::END_HEADERS } else { support::h2raw::WHOLE };
        h2.head(stream, flags, &request_with(method, "/", &[]));
        std::thread::sleep(Duration::from_millis(100));
        h2.frame(support::h2raw::RST_STREAM, 0, stream, CANCEL.to_be_bytes());
        let code = heard.recv_timeout(support::PATIENCE).unwrap();
        assert_eq!(code, Some(CANCEL), "stream {stream}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn connections_end_when_nobody_uses_them() {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.answer(stream, &[], b"ok");
        }
        said.lock().unwrap().send(conn.h2.goaway.map(|(_, code)| code)).unwrap();
    });
    let listen = free_address();
    let idle = "pool = { idle_timeout = \"300ms\" }";
    let ringgate = Ringgate::start(&one_worker(listen, origin.address, idle));
    assert_eq!(get(listen, "/").text(), "ok");
    assert_eq!(heard.recv_timeout(support::PATIENCE), Ok(Some(NO_ERROR)), "idle");
    // A target that is removed.
    ringgate.reload(&one_worker(listen, origin.address, ""));
    assert_eq!(get(listen, "/").text(), "ok");
    let open = || ringgate.sum("ringgate_target_connections", &[]);
    eventually("the connection is counted", || open() == 1.0);
    ringgate.reload(&one_worker(listen, free_address(), ""));
    assert_eq!(heard.recv_timeout(support::PATIENCE), Ok(Some(NO_ERROR)), "removed");
}

#[test]
fn streams_of_a_removed_target_finish() {
    let release = Arc::new(Barrier::new(2));
    let wait = Arc::clone(&release);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, _)) = conn.request() {
            wait.wait();
            conn.answer(stream, &[], b"finished");
        }
    });
    let (ringgate, listen) = before(&origin, "");
    let client = std::thread::spawn(move || get(listen, "/").text());
    eventually("the request is there", || origin.requests().len() == 1);
    ringgate.reload(&one_worker(listen, free_address(), ""));
    release.wait();
    assert_eq!(client.join().unwrap(), "finished");
}

#[test]
fn a_target_that_does_not_speak_http_2_is_told_apart() {
    let origin = Origin::saying("hello");
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, origin.address, ""));
    let answer = post(listen, "/", "x");
    assert_eq!((answer.status(), answer.reason()), (502, "target_protocol"));
    let nobody = free_address();
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, nobody, ""));
    assert_eq!(get(listen, "/").reason(), "connect_failed");
}

#[test]
fn a_target_that_does_not_even_answer_a_ping_is_gone() {
    let origin = H2Origin::script(&[], |conn| {
        if conn.number > 0 {
            while let Some((stream, _)) = conn.request() {
                conn.answer(stream, &[], b"here");
            }
            return;
        }
        conn.h2.polite = false;
        while !matches!(conn.h2.event(), Event::Closed | Event::Silence) {}
    });
    let (_ringgate, listen) = before(&origin, "timeouts = { response = \"1s\" }");
    let bystander = std::thread::spawn(move || get(listen, "/").reason().to_owned());
    assert_eq!(post(listen, "/", "x").status(), 504);
    bystander.join().unwrap();
    eventually("another connection is used", || get(listen, "/").status() == 200);
}

#[test]
fn limits_are_announced() {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let origin = H2Origin::script(&[], move |conn| {
        let mut all = Vec::new();
        loop {
            match conn.h2.event() {
                Event::Settings(settings) => all.extend(settings),
                Event::Head { stream, .. } => {
                    said.lock().unwrap().send(all.clone()).unwrap();
                    conn.answer(stream, &[], b"ok");
                }
                Event::Closed | Event::Silence => return,
                _ => {}
            }
        }
    });
    let (_ringgate, listen) = before(&origin, "");
    assert_eq!(get(listen, "/").status(), 200);
    let settings = heard.recv_timeout(support::PATIENCE).unwrap();
    for wanted in [(2, 0), (4, 64 << 10), (5, 16 << 10), (6, 64 << 10)] {
        assert!(settings.contains(&wanted), "{wanted:?} is not in {settings:?}");
    }
}

#[test]
fn a_ping_of_the_target_is_answered() {
    let origin = H2Origin::script(&[], |conn| {
        let (stream, _) = conn.request().unwrap();
        conn.h2.frame(PING, 0, 0, b"are-you?");
        loop {
            match conn.h2.event() {
                Event::Ping { ack: true, octets } if octets == b"are-you?" => break,
                Event::Closed | Event::Silence => return,
                _ => {}
            }
        }
        conn.answer(stream, &[], b"answered");
        conn.await_end();
    });
    let (_ringgate, listen) = before(&origin, "");
    assert_eq!(get(listen, "/").text(), "answered");
}

#[test]
fn large_bodies_pass_both_ways_over_real_servers() {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(dir.path().join("large"), &large).unwrap();
    let address = free_address();
    let mut nghttpd = Command::new(program("nghttpd", "nghttp2-server"));
    nghttpd.arg("--no-tls").arg("-d").arg(dir.path()).args(["--echo-upload", "-a", "127.0.0.1"]);
    nghttpd.arg(address.port().to_string());
    let _nghttpd = Process::start(nghttpd, dir.path(), address);
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, address, ""));
    assert!(get(listen, "/large").body == large);
    let head =
        format!("POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", large.len());
    let mut client = Client::connect(listen);
    let mut writer = client.wire.stream.try_clone().unwrap();
    let upload = large.clone();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        writer.write_all(head.as_bytes()).unwrap();
        writer.write_all(&upload).unwrap();
    });
    let answer = client.response_to("POST");
    sending.join().unwrap();
    assert!(answer.status() == 200 && answer.body == large);
    let curl = Command::new(program("curl", "curl"))
        .args(["-sS", "--http2-prior-knowledge"])
        .arg(format!("http://{listen}/large"))
        .output()
        .unwrap();
    assert!(curl.stdout == large, "{}", String::from_utf8_lossy(&curl.stderr));
}

/// It answers before the body is there, so that streams end here while h2 still counts them: the next ones wait, and must
/// be woken.
#[test]
fn streams_that_wait_for_others_are_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "answer").unwrap();
    let address = free_address();
    let mut nghttpd = Command::new(program("nghttpd", "nghttp2-server"));
    nghttpd.arg("--no-tls").arg("-d").arg(dir.path()).args(["-a", "127.0.0.1", "-m", "8"]);
    nghttpd.arg(address.port().to_string());
    let _nghttpd = Process::start(nghttpd, dir.path(), address);
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, address, ""));
    let done = Command::new(program("h2load", "nghttp2-client"))
        .args(["-c8", "-m32", "-n8000", "-d"])
        .arg(dir.path().join("file"))
        .arg(format!("http://{listen}/file"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(said.contains(" 8000 succeeded"), "{said}");
    // Whoever is forgotten is looked at again when its time is over, which is after 30 s.
    let slowest = said.lines().find(|line| line.starts_with("time for request:")).unwrap();
    let slowest = slowest.split_whitespace().nth(4).unwrap();
    let seconds: f64 = match slowest.strip_suffix("ms") {
        Some(ms) => ms.parse::<f64>().unwrap() / 1000.0,
        None if slowest.ends_with("us") => 0.0,
        None => slowest.trim_end_matches('s').parse().unwrap(),
    };
    assert!(seconds < 20.0, "{said}");
}

#[test]
fn over_tls_the_target_chooses_http_2_or_is_not_used() {
    let (authority, dir) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let issued = authority.issue(&["127.0.0.1"]);
    std::fs::write(dir.path().join("file"), "over TLS").unwrap();
    let address = free_address();
    let mut nghttpd = Command::new(program("nghttpd", "nghttp2-server"));
    nghttpd.arg("-d").arg(dir.path()).args(["-a", "127.0.0.1"]).arg(address.port().to_string());
    nghttpd.arg(&issued.key).arg(&issued.cert);
    let _nghttpd = Process::start(nghttpd, dir.path(), address);
    let group = |target: SocketAddr, listen: SocketAddr| {
        let tls = format!("protocol = \"h2\"\ntls = {{ ca = \"{}\" }}\n", authority.file.display());
        forwarding(listen, &[target], &tls)
    };
    let listen = free_address();
    let ringgate = Ringgate::start(&group(address, listen));
    for _ in 0..20 {
        assert_eq!(get(listen, "/file").text(), "over TLS");
    }
    assert!(ringgate.sum("ringgate_target_connects_total", &[]) <= 2.0, "one a worker");
    // One that has TLS, and nothing but HTTP/1.1 to say over it.
    let other = TlsOrigin::saying(server(&issued), "no HTTP/2");
    ringgate.reload(&group(other.address, listen));
    let answer = post(listen, "/", "x");
    assert_eq!(answer.status(), 502);
    assert!(
        ["target_tls_failed", "target_protocol"].contains(&answer.reason()),
        "{}",
        answer.reason()
    );
}

#[test]
fn node_takes_and_gives_what_http_2_can_say() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let server = dir.path().join("server.mjs");
    std::fs::write(&server, NODE.replace("PORT", &address.port().to_string())).unwrap();
    let mut node = Command::new(program("node", "nodejs"));
    node.arg(&server);
    let _node = Process::start(node, dir.path(), address);
    let listen = free_address();
    let _ringgate = Ringgate::start(&one_worker(listen, address, ""));
    let mut client = Client::connect(listen);
    let answer = client
        .send("POST /x?y HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .response_to("POST");
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(said["body"], "hello");
    assert_eq!(said["head"][":path"], "/x?y");
    assert_eq!(said["head"][":authority"], "a.test");
    assert_eq!(said["head"]["te"], "trailers");
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(answer.trailers, [("x-end".to_owned(), "yes".to_owned())]);
}

const NODE: &str = r#"
import http2 from "node:http2";
const server = http2.createServer();
server.on("stream", (stream, head) => {
  let body = "";
  stream.on("data", (piece) => (body += piece));
  stream.on("end", () => {
    stream.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-end": "yes" }));
    stream.end(JSON.stringify({ head, body }));
  });
});
server.listen(PORT, "127.0.0.1");
"#;

#[test]
fn what_a_file_says_of_http_2_to_targets_is_checked() {
    let group = |lines: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:1\"]\ndefault = {{ forward = \"all\" }}\n\n\
             [group.all]\ntargets = [\"127.0.0.1:2\"]\n{lines}\n"
        )
    };
    for (lines, wanted) in [
        ("protocol = \"h2\"\ntls = false", "for HTTP/2 without TLS"),
        ("protocol = \"h2c\"\ntls = true", "for HTTP/2 over TLS"),
        ("protocol = \"h2c\"\nproxy_protocol = \"v2\"", "serves many clients"),
        ("protocol = \"h3\"", "one of http1, h2, h2c"),
        ("health = { type = \"grpc\", path = \"/\" }", "a key of other probes in a gRPC probe"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, group(lines)).unwrap();
        let (code, said) =
            support::ringgate::command(&["check", "-c", &file.display().to_string()]);
        assert!(code == 2 && said.contains(wanted), "{lines}: {said}");
    }
}
