//! Heads however they arrive: the verdict on a head does not depend on where the network cuts it, nothing that arrives
//! makes a parser panic, and what was let through says the same when it is written anew.

use crate::http::path::PathPolicy;
use crate::http::request::is_token_octet;
use crate::http::scan::{Scan, SectionLimits};
use crate::http::{Fault, Framing, Method, RequestHead, ResponseHead, write};
use proptest::prelude::*;

/// Empty lines before a request that are skipped, as `serve` does (RFC 9112 section 2.2).
const EMPTY_LINES: usize = 2;
const WIDE: SectionLimits = SectionLimits { size: 4096, line: 512, fields: 16, bare_lf: false };

const HEADS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a//b/../%41?x=%zz&y HTTP/1.1\r\nHost: Example.COM.:8080\r\nX-A: \t b \t\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
    "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "GET /\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /../a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /%2f HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/x?y HTTP/1.1\r\nHost: A:80\r\n\r\n",
    "GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "VERYLONGMETHODTHATNOBODYHASREGISTERED / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2\r\nCookie: c=\u{e9}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: \u{e9}\r\n\r\n",
    "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}",
    "GET / HTTP/1.1\r\nHost: a\r\n",
    "G",
    "",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\n\r\n",
    "HTTP/1.1 304\r\nContent-Length : 3\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
];

/// What is said of the octets at the front of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// A head, shown with all its parts.
    Head(String),
    Refused(Fault),
    /// Nothing yet.
    More,
}

/// Takes octets that arrive until each of `ends`, as `serve` does.
fn receive(input: &[u8], ends: impl Iterator<Item = usize>, limits: &SectionLimits) -> Verdict {
    let (mut scan, mut start, mut empty_lines) = (Scan::default(), 0, 0);
    for end in ends {
        while empty_lines < EMPTY_LINES && input[start..end].starts_with(b"\r\n") {
            start += 2;
            empty_lines += 1;
        }
        let arrived = &input[start..end];
        match arrived {
            [] | [b'\r'] => continue,
            [b'\n', ..] => return Verdict::Refused(Fault::BareLf),
            [first, ..] if !is_token_octet(*first) => return Verdict::Refused(Fault::RequestLine),
            _ => {}
        }
        match scan.find_end(arrived, limits) {
            Ok(None) => {}
            Ok(Some(len)) => {
                let mut head = RequestHead::default();
                return match head.parse(&arrived[..len], PathPolicy::default()) {
                    Ok(()) => Verdict::Head(format!("{start} {head:?}")),
                    Err(fault) => Verdict::Refused(fault),
                };
            }
            Err(fault) => return Verdict::Refused(fault),
        }
    }
    Verdict::More
}

/// Every single cut, and octet by octet, must agree with the whole.
fn agrees(input: &[u8], limits: &SectionLimits) {
    let text = String::from_utf8_lossy(input);
    let whole = receive(input, [input.len()].into_iter(), limits);
    for cut in 0..input.len() {
        let cut_once = receive(input, [cut, input.len()].into_iter(), limits);
        assert_eq!(cut_once, whole, "cut at {cut} of {text:?} with {limits:?}");
    }
    let slow = receive(input, 1..=input.len(), limits);
    assert_eq!(slow, whole, "octet by octet: {text:?} with {limits:?}");
}

/// Where to change a head, how, and with what.
fn changes() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    let octet = prop_oneof![
        prop::sample::select(b"\r\n\t :;,%/?#*.@[]\"\\0159aHTP\x00\x7f\x80\xff".as_slice()),
        any::<u8>(),
    ];
    prop::collection::vec((any::<usize>(), 0..4u8, octet), 0..6)
}

fn change(text: &str, changes: &[(usize, u8, u8)]) -> Vec<u8> {
    let mut octets = text.as_bytes().to_vec();
    for (at, how, octet) in changes {
        let at = at % (octets.len() + 1);
        match how {
            0 => octets.insert(at, *octet),
            1 if at < octets.len() => octets[at] = *octet,
            2 if at < octets.len() => drop(octets.remove(at)),
            // Once more from here to the next line end: repeated fields, merged lines.
            3 => {
                let rest = &octets[at..];
                let end = rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |lf| lf + 1);
                let line = rest[..end].to_vec();
                octets.splice(at..at, line);
            }
            _ => {}
        }
    }
    octets
}

/// Parses a whole section; what was let through must keep what the rest relies on.
fn judge_request(section: &[u8]) {
    let mut head = RequestHead::default();
    if head.parse(section, PathPolicy::default()).is_err() {
        return;
    }
    let peer = [127, 0, 0, 1].into();
    let view = head.view(section, peer);
    for (name, value) in view.fields.iter() {
        assert!(!name.is_empty() && name.iter().all(|b| is_token_octet(*b)), "{name:?}");
        assert!(value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)), "{value:?}");
    }
    let mut anew = Vec::new();
    write::request_line(&mut anew, view.method, view.path, view.query);
    let host = head.authority.of(section);
    write::field(&mut anew, b"host", if host.is_empty() { b"a" } else { host });
    if let Framing::Length(length) = head.framing {
        write::content_length(&mut anew, length);
    }
    anew.extend_from_slice(b"\r\n");
    let mut again = RequestHead::default();
    assert_eq!(again.parse(&anew, PathPolicy::default()), Ok(()), "{:?}", anew.escape_ascii());
    let second = again.view(&anew, peer);
    assert_eq!((second.method, second.path), (view.method, view.path));
    assert_eq!(second.query, view.query);
    assert!(host.is_empty() || second.host == view.host);
}

fn judge_response(section: &[u8]) {
    for method in [Method::Get, Method::Head, Method::Post, Method::Options, Method::Other] {
        let mut head = ResponseHead::default();
        if head.parse(section, method).is_ok() {
            assert!((100..=599).contains(&head.status));
            for (_, value) in head.view(section).iter() {
                assert!(value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f)));
            }
        }
    }
}

#[test]
fn every_cut_agrees_with_the_whole() {
    for head in HEADS {
        agrees(head.as_bytes(), &WIDE);
        // Whichever bound is met first is met first however the octets arrive.
        for limits in [(24, 24, 1), (64, 16, 1), (40, 32, 2), (27, 27, 16), (64, 10, 16)] {
            let (size, line, fields) = limits;
            agrees(head.as_bytes(), &SectionLimits { size, line, fields, bare_lf: false });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2048,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_changed_head_is_judged_alike_however_it_is_cut(
        head in prop::sample::select(HEADS),
        changes in changes(),
        line in 4..80usize,
        more in 0..80usize,
        fields in 0..4usize,
    ) {
        let octets = change(head, &changes);
        agrees(&octets, &WIDE);
        agrees(&octets, &SectionLimits { size: line + more, line, fields, bare_lf: false });
    }

    #[test]
    fn what_is_let_through_says_the_same_when_written_anew(
        head in prop::sample::select(HEADS),
        changes in changes(),
    ) {
        let octets = change(head, &changes);
        judge_request(&octets);
        if let Ok(Some(len)) = Scan::default().find_end(&octets, &WIDE) {
            judge_request(&octets[..len]);
        }
    }

    #[test]
    fn no_response_head_makes_the_parser_panic(
        head in prop::sample::select(RESPONSES),
        changes in changes(),
    ) {
        judge_response(&change(head, &changes));
    }

    #[test]
    fn no_octets_make_a_parser_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        judge_request(&octets);
        judge_response(&octets);
        judge_request(&[b"GET / HTTP/1.1\r\nHost: a\r\n".as_slice(), &octets].concat());
        judge_response(&[b"HTTP/1.1 200 OK\r\n".as_slice(), &octets].concat());
    }
}
