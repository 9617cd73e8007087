//! Messages: what is HTTP over HTTP/2, and what must not become HTTP/1.1 (RFC 9113 section 8).

use super::Expect::*;
use super::support::h2raw::*;
use super::{Section, post};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];

/// Section 8.1.
#[test]
fn exchanges() {
    let mut s = Section::start();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "OWN"] {
        s.case(method, Status(200), |h2| h2.head(1, WHOLE, &request(method, "/")));
    }
    s.case("POST with trailers", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, 0, 1, b"test");
        h2.head(1, WHOLE, &[("x-test", "ok")]);
    });
    s.case("POST with trailers only", Status(200), |h2| {
        post(h2);
        h2.head(1, WHOLE, &[("x-test", "ok")]);
    });
    s.case("trailers that do not end the stream", Stream(PROTOCOL), |h2| {
        post(h2);
        h2.frame(DATA, 0, 1, b"test");
        h2.head(1, END_HEADERS, &[("x-test", "ok")]);
    });
    s.case("a second head", Stream(PROTOCOL), |h2| {
        post(h2);
        post(h2);
    });
    s.case("te: trailers", Status(200), |h2| {
        h2.head(1, WHOLE, &request_with("GET", "/", &[("te", "trailers")]));
    });
    s.case("OPTIONS *", Status(200), |h2| h2.head(1, WHOLE, &request("OPTIONS", "*")));
    s.case("https without TLS", Status(200), |h2| {
        let mut fields = request("GET", "/");
        fields[1].1 = "https";
        h2.head(1, WHOLE, &fields);
    });
    s.case("TRACE", Status(405), |h2| h2.head(1, WHOLE, &request("TRACE", "/")));
    s.case("PUSH_PROMISE", Connection(PROTOCOL), |h2| {
        post(h2);
        let block = [&[0, 0, 0, 2][..], &super::support::hpack::literals(&request("GET", "/"))];
        h2.frame(PUSH_PROMISE, END_HEADERS, 1, block.concat());
    });
    s.end();
}

/// Sections 8.2, 8.3; hazards H2-03 and H2-04: none of these reaches a target.
#[test]
fn malformed_heads() {
    let mut s = Section::start();
    let (m, sc, p, a) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test"));
    let host = ("host", "a.test");
    let long: &[(&str, &[(&str, &str)])] = &[
        ("upper case in a name", &[m, sc, p, a, ("X-Test", "ok")]),
        ("an empty name", &[m, sc, p, a, ("", "ok")]),
        ("a colon in a name", &[m, sc, p, a, ("x:y", "ok")]),
        ("a quotation mark in a name", &[m, sc, p, a, ("x\"y", "ok")]),
        ("a blank in a name", &[m, sc, p, a, ("x y", "ok")]),
        ("a blank before a value", &[m, sc, p, a, ("x", " y")]),
        ("a blank after a value", &[m, sc, p, a, ("x", "y ")]),
        ("a tab after a value", &[m, sc, p, a, ("x", "y\t")]),
        ("an unknown pseudo-header field", &[m, sc, p, a, (":test", "ok")]),
        ("one of a response", &[m, sc, p, a, (":status", "200")]),
        ("only of a response", &[(":status", "200")]),
        ("one after a field", &[m, sc, p, ("x", "y"), a]),
        ("an empty path", &[m, sc, (":path", ""), a]),
        ("no method", &[sc, p, a]),
        ("no scheme", &[m, p, a]),
        ("no path", &[m, sc, a]),
        ("no path, with host", &[m, sc, host]),
        ("two methods", &[m, m, sc, p, a]),
        ("two schemes", &[m, sc, sc, p, a]),
        ("two paths", &[m, sc, p, p, a]),
        ("two authorities", &[m, sc, p, a, a]),
        ("nothing at all", &[]),
        ("only fields", &[("x", "y")]),
        ("no authority and no host", &[m, sc, p]),
        ("an empty authority", &[m, sc, p, (":authority", "")]),
        ("user information", &[m, sc, p, (":authority", "u:p@a.test")]),
        ("a host that differs", &[m, sc, p, a, ("host", "b.test")]),
        ("a host with another port", &[m, sc, p, a, ("host", "a.test:81")]),
        ("an empty host", &[m, sc, p, a, ("host", "")]),
        ("two hosts", &[m, sc, p, a, host, host]),
        ("two hosts and no authority", &[m, sc, p, host, host]),
        ("a path that is none", &[m, sc, (":path", "x"), a]),
        ("only a query", &[m, sc, (":path", "?x"), a]),
        ("an absolute path", &[m, sc, (":path", "http://a.test/"), a]),
        ("* for GET", &[m, sc, (":path", "*"), a]),
        ("a blank in the path", &[m, sc, (":path", "/ HTTP/1.1"), a]),
        ("another scheme", &[m, (":scheme", "ftp"), p, a]),
        ("a blank in the method", &[(":method", "GET /x"), sc, p, a]),
        ("an empty method", &[(":method", ""), sc, p, a]),
        ("connection", &[m, sc, p, a, ("connection", "keep-alive")]),
        ("keep-alive", &[m, sc, p, a, ("keep-alive", "1")]),
        ("proxy-connection", &[m, sc, p, a, ("proxy-connection", "close")]),
        ("transfer-encoding", &[m, sc, p, a, ("transfer-encoding", "chunked")]),
        ("upgrade", &[m, sc, p, a, ("upgrade", "h2c")]),
        ("http2-settings", &[m, sc, p, a, ("http2-settings", "AAMAAABk")]),
        ("te: gzip", &[m, sc, p, a, ("te", "gzip")]),
        ("te: trailers, gzip", &[m, sc, p, a, ("te", "trailers, gzip")]),
        ("CONNECT with a path", &[(":method", "CONNECT"), sc, p, a]),
        ("protocol without CONNECT", &[m, sc, p, a, (":protocol", "websocket")]),
        ("two lengths", &[m, sc, p, a, ("content-length", "0"), ("content-length", "0")]),
        ("a length that is none", &[m, sc, p, a, ("content-length", "+0")]),
    ];
    let before = s.received();
    for (name, fields) in long {
        s.case(name, Stream(PROTOCOL), |h2| h2.head(1, WHOLE, fields));
    }
    for (name, trailer) in [
        ("an unknown pseudo-header field", (":test", "ok")),
        (":method", (":method", "PUT")),
        (":path", (":path", "/other")),
        (":authority", (":authority", "b.test")),
        (":status", (":status", "200")),
        (":protocol", (":protocol", "websocket")),
        ("transfer-encoding", ("transfer-encoding", "chunked")),
        ("connection", ("connection", "close")),
        ("upper case", ("X-Test", "ok")),
    ] {
        s.case(&format!("{name} in trailers"), Stream(PROTOCOL), |h2| {
            post(h2);
            h2.frame(DATA, 0, 1, b"test");
            h2.head(1, WHOLE, &[trailer]);
        });
    }
    if s.received() != before {
        s.fail(format!("{} reached the target", s.received() - before));
    }
    s.end();
}

/// Section 8.1: however a pseudo-header field is said in trailers, they are malformed; and what only resembles one is none.
#[test]
fn pseudo_header_fields_in_trailers() {
    let mut s = Section::start();
    let before = s.received();
    // :method POST, :scheme http, then :path /x and x-sum: 1 as newest entries of the dynamic table.
    let head = b"\x83\x86\x44\x02/x\x01\x06a.test\x40\x05x-sum\x011";
    let trailers: [(&str, &[&[u8]], bool); 9] = [
        ("a static index", &[b"\x82"], true),
        ("a static name", &[b"\x04\x02/y"], true),
        ("an index of the dynamic table", &[b"\xbf"], true),
        ("a name of the dynamic table", &[b"\x0f\x30\x02/y"], true),
        ("Huffman", &[b"\x00\x84\xb9\x58\xd3\x3f\x02/y"], true),
        ("after others", &[b"\xbe\x82"], true),
        ("in fragments", &[b"\xbe\x00\x05:", b"", b"path\x02/y"], true),
        ("others, of the dynamic table", &[b"\xbe"], false),
        ("a colon elsewhere", &[b"\x00\x03x-a\x02:y"], false),
    ];
    for padding in [0, 5] {
        for (name, fragments, malformed) in &trailers {
            let expect = if *malformed { Stream(PROTOCOL) } else { Status(200) };
            s.case(&format!("{name}, {padding} octets of padding"), expect, |h2| {
                h2.frame(HEADERS, END_HEADERS, 1, head);
                h2.frame(DATA, 0, 1, b"test");
                let (first, more) = fragments.split_first().unwrap();
                let end = if more.is_empty() { END_HEADERS } else { 0 };
                let padded = [&[padding], *first, &vec![0; padding.into()]].concat();
                h2.frame(HEADERS, END_STREAM | PADDED | end, 1, padded);
                for (at, fragment) in more.iter().enumerate() {
                    let end = if at + 1 == more.len() { END_HEADERS } else { 0 };
                    h2.frame(CONTINUATION, end, 1, fragment);
                }
            });
        }
    }
    let whole = s.received() - before;
    if whole != 4 {
        s.fail(format!("{whole} reached the target, of 4"));
    }
    s.end();
}

/// Section 8.1.1; hazard H2-02: what is declared against what comes, and where the stream ends.
#[test]
fn lengths() {
    let mut s = Section::start();
    let with = |length: &'static str| request_with("POST", "/", &[("content-length", length)]);
    let before = s.received();
    for (length, expect) in [("0", Status(200)), ("1", Stream(PROTOCOL)), ("4", Stream(PROTOCOL))] {
        s.case(&format!("{length}, ended by the head"), expect, |h2| {
            h2.head(1, WHOLE, &with(length))
        });
    }
    for (length, fine) in [("3", false), ("4", true), ("5", false), ("0", false), ("400000", false)]
    {
        let expect = if fine { Status(200) } else { Stream(PROTOCOL) };
        s.case(&format!("{length} for 4, ended by DATA"), expect, |h2| {
            h2.head(1, END_HEADERS, &with(length));
            h2.frame(DATA, END_STREAM, 1, b"test");
        });
        s.case(&format!("{length} for 2 + 2, ended by DATA"), expect, |h2| {
            h2.head(1, END_HEADERS, &with(length));
            h2.frame(DATA, 0, 1, b"te");
            h2.frame(DATA, END_STREAM, 1, b"st");
        });
        s.case(&format!("{length} for 4, ended by an empty DATA"), expect, |h2| {
            h2.head(1, END_HEADERS, &with(length));
            h2.frame(DATA, 0, 1, b"test");
            h2.frame(DATA, END_STREAM, 1, b"");
        });
        s.case(&format!("{length} for 4, ended by trailers"), expect, |h2| {
            h2.head(1, END_HEADERS, &with(length));
            h2.frame(DATA, 0, 1, b"test");
            h2.head(1, WHOLE, &[("x-test", "ok")]);
        });
        s.case(&format!("{length} for 4 in padding"), expect, |h2| {
            h2.head(1, END_HEADERS, &with(length));
            h2.frame(DATA, END_STREAM | PADDED, 1, b"\x03test\0\0\0");
        });
    }
    // Those that fit: five ways of four, and none for nothing.
    let whole = s.received() - before;
    if whole != 6 {
        s.fail(format!("{whole} whole requests reached the target instead of 6"));
    }
    s.end();
}

/// Section 8.2.3; hazard H2-19.
#[test]
fn cookies_are_joined() {
    let mut s = Section::start();
    let mut h2 = H2::open(s.address);
    let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3; d=4")];
    h2.head(1, WHOLE, &request_with("GET", "/", &crumbs));
    let echoed = h2.outcome(1).answer().text();
    if !echoed.contains("\r\ncookie: a=1; b=2; c=3; d=4\r\n")
        || echoed.matches("cookie").count() != 1
    {
        s.fail(echoed);
    }
    s.end();
}

/// Hazard H2-08: sizes are those of the list, and are told as such.
#[test]
fn lists_that_are_too_large() {
    let mut s = Section::start();
    let many = |n: usize| [request("GET", "/"), vec![("x", "y"); n]].concat();
    // ringgate counts the fields of the request, not the pseudo-header fields.
    s.case("128 fields", Status(200), |h2| h2.head(1, WHOLE, &many(128)));
    s.case("129 fields", Status(431), |h2| h2.head(1, WHOLE, &many(129)));
    let crumbs = [request("GET", "/"), vec![("cookie", "a"); 129]].concat();
    s.case("129 crumbs", Status(431), |h2| h2.head(1, WHOLE, &crumbs));
    let long = "v".repeat(14000);
    let longs: Vec<_> = ["a", "b", "c"].map(|name| (name, &long[..])).to_vec();
    s.case("two long fields", Status(200), |h2| {
        send_long(h2, &[request("GET", "/"), longs[..2].to_vec()].concat());
    });
    s.case("three long fields", Status(431), |h2| {
        send_long(h2, &[request("GET", "/"), longs.clone()].concat());
    });
    let path = format!("/{}", "p".repeat(16 << 10));
    s.case("a long path", Status(414), |h2| send_long(h2, &request("GET", &path)));
    s.end();
}

/// A head in as many frames as it needs.
fn send_long(h2: &mut H2, fields: &[(&str, &str)]) {
    let block = super::support::hpack::literals(fields);
    let mut parts = block.chunks(16384).peekable();
    let mut kind = HEADERS;
    while let Some(part) = parts.next() {
        let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
        let end = if kind == HEADERS { END_STREAM } else { 0 };
        h2.frame(kind, last | end, 1, part);
        kind = CONTINUATION;
    }
}

/// Hazard H2-01: every octet in every place that can hold one. What is taken arrives as it was sent, in one line.
#[test]
fn octets() {
    let mut s = Section::start();
    let mut h2 = H2::open(s.address);
    let mut stream = 1;
    for place in ["method", "path", "query", "authority", "name", "value", "cookie"] {
        for octet in 0..=255u8 {
            let with = |before: &[u8], after: &[u8]| [before, &[octet], after].concat();
            let mut fields: Vec<(Vec<u8>, Vec<u8>)> = request("GET", "/")
                .iter()
                .map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec()))
                .collect();
            match place {
                "method" => fields[0].1 = with(b"G", b"smuggled"),
                "path" => fields[2].1 = with(b"/a", b"smuggled: 1"),
                "query" => fields[2].1 = with(b"/?a", b"smuggled:1"),
                "authority" => fields[3].1 = with(b"a", b"smuggled"),
                "name" => fields.push((with(b"a", b"smuggled"), b"1".to_vec())),
                "value" => fields.push((b"x".to_vec(), with(b"a", b"smuggled: 1"))),
                _ => fields.push((b"cookie".to_vec(), with(b"a", b"smuggled: 1"))),
            }
            if h2.goaway.is_some() || !h2.settled() {
                h2 = H2::open(s.address);
                stream = 1;
            }
            h2.head(stream, WHOLE, &fields);
            let outcome = h2.outcome(stream);
            stream += 2;
            if let Some(wrong) = judge_octet(place, octet, &outcome) {
                s.fail(format!("{place} {octet:#04x}: {wrong}: {outcome:?}"));
            }
            if !matches!(outcome, Outcome::Answer(_) | Outcome::Reset(PROTOCOL_ERROR)) {
                h2 = H2::open(s.address);
                stream = 1;
            }
        }
    }
    s.end();
}

fn judge_octet(place: &str, octet: u8, outcome: &Outcome) -> Option<&'static str> {
    let token = octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    let text = octet >= b' ' && octet != 0x7f || octet == b'\t';
    let taken = match place {
        "method" => token,
        "name" => token && !octet.is_ascii_uppercase(),
        "authority" => octet.is_ascii_alphanumeric() || b"-._~".contains(&octet),
        "value" | "cookie" => text,
        // Blanks are not percent-encoded here, so no path with one is taken.
        _ => false,
    };
    let refused = match outcome {
        Outcome::Answer(answer) => answer.status() >= 400,
        Outcome::Reset(code) | Outcome::GoAway(code) => {
            *code == PROTOCOL_ERROR || *code == COMPRESSION_ERROR
        }
        _ => return Some("neither answered nor refused"),
    };
    if let Outcome::Answer(answer) = outcome
        && answer.status() == 200
    {
        let echoed = answer.text();
        let lines: Vec<&str> = echoed.split("\r\n").collect();
        let own = lines.iter().any(|line| line.starts_with("smuggled"));
        let start = lines[0].split(' ').count() == 3;
        if own || !start || echoed.contains('\0') {
            return Some("it began a line of its own");
        }
    }
    match place {
        "path" | "query" => {
            // Which octets a path may have is the path's own test; control characters and blanks it may not.
            let never = octet <= b' ' || octet >= 0x7f || place == "path";
            (never && !refused && octet != b'?' && octet != b'#').then_some("taken")
        }
        _ if taken == refused => Some(if taken { "refused" } else { "taken" }),
        _ => None,
    }
}
