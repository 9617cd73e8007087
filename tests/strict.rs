//! What is malformed or ambiguous is refused: by the client's request, and by the target's response.
//!
//! The vectors are the hazards of RFC 9112 section 11.2 (request smuggling) and its relatives. A refused request is
//! answered once, the connection is closed, and no origin sees any of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, Wire, eventually, free_address, get, send_raw};

struct Edge {
    origin: Origin,
    _ringgate: Ringgate,
    listen: SocketAddr,
}

fn edge() -> Edge {
    let origin = Origin::saying("reached");
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    Edge { origin, _ringgate, listen }
}

/// All answers in `bytes`.
fn answers(bytes: Vec<u8>) -> Vec<Message> {
    struct Replay(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Replay {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buf)
        }
    }
    impl std::io::Write for Replay {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Ok(0)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut wire = Wire::new(Replay(std::io::Cursor::new(bytes)));
    let mut all = Vec::new();
    while let Ok(Some(answer)) = wire.response("GET") {
        all.push(answer);
    }
    all
}

/// Sends each request, followed by a good one on the same connection, and expects one refusal with one of `statuses`
/// and the end of the connection.
#[track_caller]
fn refused(statuses: &[u16], requests: &[&str]) {
    let bytes: Vec<&[u8]> = requests.iter().map(|r| r.as_bytes()).collect();
    refused_bytes(statuses, &bytes);
}

#[track_caller]
fn refused_bytes(statuses: &[u16], requests: &[&[u8]]) {
    let edge = edge();
    let mut wrong = Vec::new();
    for request in requests {
        let mut bytes = request.to_vec();
        bytes.extend_from_slice(b"GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let got = answers(send_raw(edge.listen, &bytes));
        let shown = String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
        match got.as_slice() {
            [one] if statuses.contains(&one.status()) && one.reason() != "-" => {}
            other => {
                let starts: Vec<_> =
                    other.iter().map(|a| format!("{} ({})", a.start, a.reason())).collect();
                wrong.push(format!("{shown:?}\n   got {starts:?}"));
            }
        }
        let seen: Vec<_> = edge.origin.requests().iter().map(|r| r.start.clone()).collect();
        if !seen.is_empty() && !wrong.iter().any(|w| w.contains("origin saw")) {
            wrong.push(format!("{shown:?}\n   the origin saw {seen:?}"));
        }
    }
    assert!(wrong.is_empty(), "wanted one of {statuses:?}, then the end:\n{}", wrong.join("\n"));
}

/// A POST with these field lines and a body that would be a request if framing were misread.
fn post(fields: &str) -> String {
    format!(
        "POST /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
    )
}

fn with_field(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n")
}

fn with_target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

#[track_caller]
fn refuses_each(statuses: &[u16], make: impl Fn(&str) -> String, inputs: &[&str]) {
    let requests: Vec<String> = inputs.iter().map(|i| make(i)).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    refused(statuses, &requests);
}

// ---------------------------------------------------------------- framing of requests

#[test]
fn refuses_both_lengths() {
    refuses_each(
        &[400],
        post,
        &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "content-length: 0\r\ntransfer-encoding: chunked",
            "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\nZ: w",
        ],
    );
}

#[test]
fn refuses_obscure_transfer_codings() {
    refuses_each(
        &[400, 501],
        post,
        &[
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: chunked;p=1",
            "Transfer-Encoding: chunked\u{b}",
            "Transfer-Encoding: \u{a0}chunked",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: chunked,",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Transfer-Encoding: chun\0ked",
            "Transfer-Encoding:\r\n chunked",
            "Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?=",
            "Transfer-Encoding: chunked\r\n ",
            "Transfer-Encoding: ch\u{131}nked",
        ],
    );
}

#[test]
fn refuses_obscure_lengths() {
    refuses_each(
        &[400],
        post,
        &[
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: 5,",
            "Content-Length:",
            "Content-Length: \r\nContent-Length: 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: 5 5",
            "Content-Length: 5e0",
            "Content-Length: 5.0",
            "Content-Length: 1_0",
            "Content-Length: \"5\"",
            "Content-Length: 5\u{a0}",
            "Content-Length: 18446744073709551616",
            "Content-Length: 99999999999999999999999",
            "Content-Length : 5",
            "Content-Length: 5\r\n\tX: y",
        ],
    );
}

#[test]
fn refuses_http_1_0_with_a_transfer_coding() {
    refused(
        &[400],
        &["POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    );
}

#[test]
fn refuses_malformed_chunks() {
    // The head has been forwarded by then: the origin may see a beginning, never a whole request.
    let edge = edge();
    for bad in [
        "\r\n",
        "0x3\r\nabc\r\n",
        "+3\r\nabc\r\n",
        "-1\r\n",
        " 3\r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3\r\nabc0\r\n\r\n",
        "1_0\r\n",
        "g\r\n",
        "ffffffffffffffffff\r\n",
        "10000000000000000\r\nx",
        "3;a\nb\r\nabc\r\n",
        "3;a\rb\r\nabc\r\n",
        "3;a\0\r\nabc\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: x\r\n\r\n",
        "0\r\nX: a\nY: b\r\n\r\n",
        "0\r\n X: a\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
    ] {
        let request = format!(
            "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{bad}GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n"
        );
        let got = answers(send_raw(edge.listen, request));
        assert_eq!(got.iter().map(Message::status).collect::<Vec<_>>(), [400], "{bad:?}");
        assert_eq!(edge.origin.requests().len(), 0, "{bad:?}");
    }
    let long = format!(
        "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n",
        "e".repeat(64 << 10)
    );
    let got = answers(send_raw(edge.listen, long));
    assert_eq!(
        got.iter().map(Message::status).collect::<Vec<_>>(),
        [400],
        "a chunk extension of 64 KiB"
    );
}

// ---------------------------------------------------------------- lines and fields

#[test]
fn refuses_bare_line_ends_and_controls() {
    refused(
        &[400],
        &[
            "GET / HTTP/1.1\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n\n",
            "GET / HTTP/1.1\nHost: a.test\n\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\nY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rY: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\rHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\u{1}b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\u{7f}b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX\0: ab\r\n\r\n",
        ],
    );
}

#[test]
fn refuses_folded_and_broken_fields() {
    refuses_each(
        &[400],
        with_field,
        &[
            "X: a\r\n b",
            "X: a\r\n\tb",
            "X : a",
            "X\t: a",
            ": a",
            "X",
            "X Y: a",
            "(X): a",
            "X\u{e9}: a",
            "X[: a",
            "Connection: Content-Length",
            "Connection: Transfer-Encoding",
            "Connection: Host",
            "Connection: X-Forwarded-For",
            "Connection: Authorization",
            "Connection: cookie",
            "Connection: \"x\"",
            "Authorization: a\r\nAuthorization: b",
            "Content-Type: a/b\r\nContent-Type: c/d",
        ],
    );
    refused(
        &[400],
        &[
            "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\n\tX: y\r\nHost: a.test\r\n\r\n",
        ],
    );
}

#[test]
fn refuses_missing_repeated_and_broken_hosts() {
    let hosts = [
        "a.test\r\nHost: a.test",
        "a.test\r\nHost: b.test",
        "",
        "a.test, b.test",
        "user@a.test",
        "a.test/path",
        "a.test:0",
        "a.test:65536",
        "a.test:80:80",
        "a.test:",
        "a.test:8x",
        "[::1",
        "::1",
        "a b",
        "a\\b",
        "a%2fb",
        "a..b",
        "\u{e9}.test",
        "a.test?x",
        "a.test#x",
    ];
    refuses_each(&[400], |host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &hosts);
    refused(
        &[400],
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET http://a.test/ HTTP/1.1\r\n\r\n",
            "GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n",
            "GET http://a.test:81/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://user@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET ftp://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ],
    );
}

#[test]
fn refuses_broken_request_lines() {
    refused(
        &[400, 405, 501, 505],
        &[
            "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n",
            "GET /\r\nHost: a.test\r\n\r\n",
            "GET HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET / http/1.1\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/0.9\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/11\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1x\r\nHost: a.test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "AVERYLONGMETHODTHATNOBODYHASEVERHEARDOF / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}hello\r\n\r\n",
        ],
    );
}

#[test]
fn unserved_versions_and_methods_have_their_own_codes() {
    refused(
        &[505],
        &["GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n"],
    );
    refused(
        &[405],
        &[
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ],
    );
    refused(&[501], &["POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip\r\n\r\n"]);
    refused(
        &[417],
        &["POST / HTTP/1.1\r\nHost: a.test\r\nExpect: y\r\nContent-Length: 1\r\n\r\nx"],
    );
}

#[test]
fn refuses_broken_targets() {
    refuses_each(
        &[400],
        with_target,
        &[
            "/a#b",
            "/a\\b",
            "/a\"b",
            "/a<b",
            "/a>b",
            "/\u{e9}",
            "/a%",
            "/a%2",
            "/a%zz",
            "*",
            "a.test:80",
            "x",
            "/%00",
            "/a%2fb",
            "/a%5cb",
            "/..",
            "/../x",
            "/a/../../x",
            "/%2e%2e/x",
            "/a?\u{7f}",
            "/a?b#c",
            "http://a.test/%2e%2e/x",
        ],
    );
}

#[test]
fn refuses_what_is_too_large() {
    let edge = edge();
    let long = "x".repeat(20 << 10);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let large: String = (0..10).map(|n| format!("X-{n}: {}\r\n", "y".repeat(10 << 10))).collect();
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a.test\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\n{large}\r\n"), 431),
    ] {
        let got = answers(send_raw(edge.listen, &request));
        assert_eq!(
            got.iter().map(Message::status).collect::<Vec<_>>(),
            [status],
            "{:?}",
            &request[..60]
        );
    }
    assert!(edge.origin.requests().is_empty());
}

#[test]
fn refuses_a_body_over_its_limit() {
    let origin = Origin::saying("reached");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[limits]\nbody = \"1KiB\"\n\n{config}"));
    let declared = answers(send_raw(
        listen,
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2000\r\n\r\n{}",
            "x".repeat(2000)
        ),
    ));
    assert_eq!(declared.iter().map(Message::status).collect::<Vec<_>>(), [413]);
    let chunks = format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(3);
    let chunked = answers(send_raw(
        listen,
        format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ),
    ));
    assert_eq!(chunked.iter().map(Message::status).collect::<Vec<_>>(), [413]);
    assert!(origin.requests().is_empty());
    let mut client = Client::connect(listen);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    ));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_good_request_before_a_bad_one_is_answered() {
    let edge = edge();
    let good = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let got =
        answers(send_raw(edge.listen, format!("{good}GET / HTTP/1.1\r\nHost: a b\r\n\r\n{good}")));
    assert_eq!(got.iter().map(Message::status).collect::<Vec<_>>(), [200, 400]);
    assert_eq!(edge.origin.requests().len(), 1);
}

#[test]
fn takes_one_empty_line_before_a_request_but_not_many() {
    let edge = edge();
    let mut client = Client::connect(edge.listen);
    assert_eq!(client.send("\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n").response().status(), 200);
    let got = answers(send_raw(edge.listen, "\r\n".repeat(500_000)));
    assert!(got.len() <= 1, "{} answers to empty lines", got.len());
}

// RFC 9110 section 9.3.2: a client that asked with HEAD would take content for the next answer.
#[test]
fn a_refused_head_is_answered_without_content() {
    let edge = edge();
    let long = format!("HEAD /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "a".repeat(70_000));
    let large = format!("HEAD / HTTP/1.1\r\nHost: a.test\r\n{}", "X: y\r\n".repeat(200));
    for (request, status) in [
        ("HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
        ("HEAD / HTTP/1.1\nHost: a\n\n", 400),
        ("HEAD / HTTP/3.1\r\nHost: a\r\n\r\n", 505),
        (&long, 414),
        (&large, 431),
    ] {
        let answer = String::from_utf8_lossy(&send_raw(edge.listen, request)).into_owned();
        let shown = &request[..request.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{shown:?} got content: {answer}");
    }
}

// Some clients send an empty line behind a body (RFC 9112 section 2.2), which is not the beginning of a request.
#[test]
fn an_empty_line_behind_a_body_is_owed_no_answer() {
    let origin = Origin::saying("reached");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[timeouts]\nheader = \"200ms\"\n\n{config}"));
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx";
    let mut client = Client::connect(listen);
    for lines in ["\r\n", "\r\n\r\n"] {
        assert_eq!(client.send(format!("{post}{lines}")).response().status(), 200);
        // Longer than a head may take, and less than a connection may rest.
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(client.wire.pending(), "");
    }
    assert_eq!(client.get("/").status(), 200);
    // Not even when nothing follows, or half of one more.
    client.send(format!("{post}\r\n\r"));
    assert_eq!(client.response().status(), 200);
    client.expect_closed();
}

#[test]
fn an_incomplete_head_times_out() {
    let origin = Origin::saying("reached");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[timeouts]\nheader = \"300ms\"\n\n{config}"));
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.t");
    let answer = client.response();
    assert_eq!((answer.status(), answer.reason()), (408, "header_timeout"));
    client.expect_closed();
    // A connection that never said anything is closed without an answer, or with one.
    let mut silent = Client::connect(listen);
    silent.send("G");
    assert_eq!(silent.response().status(), 408);
}

// ---------------------------------------------------------------- responses

/// Every answer of a target on a connection of its own: what the client gets, and that the connection is not used again.
#[track_caller]
fn bad_gateway(answers: &'static [&'static [u8]]) {
    let mut wrong = Vec::new();
    for answer in answers {
        let origin = Origin::script(move |conn| {
            if conn.number > 0 {
                while conn.request()?.is_some() {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")?;
                }
                return Ok(());
            }
            conn.request()?;
            conn.send(answer)?;
            // Stays open, so that only ringgate can decide not to use it again.
            conn.request().map(|_| ())
        });
        let listen = free_address();
        let config = forwarding(
            listen,
            &[origin.address],
            "retries = 0\ntimeouts = { response = \"2s\" }\n",
        );
        let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
        let first = get(listen, "/");
        if first.status() != 502 || first.reason() == "-" {
            wrong.push(format!(
                "{:?}: got {} ({})",
                String::from_utf8_lossy(answer),
                first.start,
                first.reason()
            ));
        }
        let second = get(listen, "/");
        if second.text() != "good" || origin.connections() != 2 {
            let again = format!(
                "then {} {} on connection {}",
                second.start,
                second.text(),
                origin.connections()
            );
            wrong.push(format!("{:?}: {again}", String::from_utf8_lossy(answer)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn refuses_ambiguous_response_framing() {
    bad_gateway(&[
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn refuses_malformed_response_heads() {
    bad_gateway(&[
        b"garbage\r\n\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        b"HTTP/1.1 200 OK\r\nX\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]);
}

#[test]
fn refuses_a_response_head_that_is_too_large() {
    let origin = Origin::answering(format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "y".repeat(100 << 10)
    ));
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (502, "response_head_too_large"));
}

#[test]
fn unasked_bytes_after_a_response_end_the_connection() {
    // The second response belongs to nobody: the next user must not get it.
    let origin = Origin::script(|conn| {
        while conn.request()?.is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            )?;
        }
        Ok(())
    });
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    for n in 1..=5 {
        assert_eq!(get(listen, "/").text(), "mine");
        assert_eq!(origin.connections(), n, "a connection with unasked bytes was used again");
    }
}

// RFC 9110 section 8.6: if it sends the content after all, that must not answer what is asked next.
#[test]
fn content_announced_where_none_can_be_ends_the_connection() {
    for answer in [
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let origin = Origin::script(move |conn| {
            while conn.request()?.is_some() {
                conn.send(answer)?;
            }
            Ok(())
        });
        let listen = free_address();
        let config = forwarding(listen, &[origin.address], "");
        let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
        let mut client = Client::connect(listen);
        for n in 1..=3 {
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            let mut got = client.response().status();
            if got == 103 {
                got = client.response().status();
            }
            assert_eq!((got, origin.connections()), (204, n), "{answer:?}");
        }
    }
}

#[test]
fn bytes_on_an_idle_connection_end_it() {
    let origin = Origin::script(|conn| {
        let number = conn.number;
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")?;
        if number == 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
            conn.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 6\r\n\r\npoison")?;
            conn.remember(&Message { start: "poisoned".to_owned(), ..Message::default() });
        }
        while conn.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine")?;
        }
        Ok(())
    });
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    assert_eq!(get(listen, "/").text(), "mine");
    eventually("the idle connection has unasked bytes", || {
        origin.requests().iter().any(|r| r.start == "poisoned")
    });
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "mine"));
}

#[test]
fn a_truncated_body_never_ends_cleanly() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
    ] {
        let origin = Origin::script(move |conn| {
            conn.request()?;
            conn.send(answer)
        });
        let listen = free_address();
        let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
        let mut client = Client::connect(listen);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let got = client.wire.response("GET");
        // Either an error of ours before the head went out, or a body that visibly breaks off.
        let whole = matches!(&got, Ok(Some(message)) if message.status() == 200);
        assert!(!whole, "{:?} was delivered as whole: {got:?}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn a_truncated_body_is_a_reset_for_http_1_0() {
    // For such a client the end of the connection is the end of the body: only a reset says that it was not.
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n")
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let got = client.wire.response("GET");
    let whole = matches!(&got, Ok(Some(message)) if message.status() == 200);
    assert!(!whole, "delivered as whole: {got:?}");
}

#[test]
fn an_abandoned_response_is_never_given_to_the_next_client() {
    // The first client leaves in the middle of a body; its rest must not reach anybody.
    let body = "secret!!".repeat(512 << 10);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            if request.target() == "/secret" {
                conn.send(&answer)?;
            } else {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npublic")?;
            }
        }
        Ok(())
    });
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    for _ in 0..10 {
        let mut client = Client::connect(listen);
        client.send("GET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.wire.exactly(1000).unwrap();
        drop(client);
        assert_eq!(get(listen, "/").text(), "public");
    }
}
