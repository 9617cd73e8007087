//! Tables for both directions, every octet in every place, and round trips of generated heads.

use super::*;
use crate::http::path::PathPolicy;
use crate::http::{Framing, RequestHead, ResponseHead};
use ::http::{Request, Response, Uri};
use proptest::prelude::*;

const LIMITS: ListLimits = ListLimits { size: 32 << 10, fields: 128, line: 16 << 10 };

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn lines(head: &request::Parts, body: Body) -> Result<String, Fault> {
    let mut out = Vec::new();
    request_lines(head, body, &LIMITS, &mut out)?;
    let mut parsed = RequestHead::default();
    parsed.parse(&out, PathPolicy::default())?;
    Ok(String::from_utf8(out).unwrap())
}

fn check(method: &str, uri: &str, fields: &[(&str, &str)], body: Body, expected: &str) {
    let got = lines(&request(method, uri, fields), body);
    assert_eq!(got.as_deref(), Ok(expected), "{method} {uri} {fields:?}");
}

fn refuses(method: &str, uri: &str, fields: &[(&str, &str)], body: Body, fault: Fault) {
    let got = lines(&request(method, uri, fields), body);
    assert_eq!(got, Err(fault), "{method} {uri} {fields:?} {body:?}");
}

#[test]
fn writes_a_request_as_http1_lines() {
    check(
        "GET",
        "https://a.example/x?y=1",
        &[("accept", "*/*")],
        Body::None,
        "GET /x?y=1 HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\n\r\n",
    );
    check(
        "POST",
        "http://a:81/",
        &[("content-length", "5")],
        Body::Unknown,
        "POST / HTTP/1.1\r\nhost: a:81\r\ncontent-length: 5\r\n\r\n",
    );
    check(
        "POST",
        "http://a/",
        &[],
        Body::Unknown,
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    check(
        "PUT",
        "http://a/",
        &[],
        Body::Length(7),
        "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\n",
    );
    check(
        "POST",
        "http://a/",
        &[("content-length", "0")],
        Body::None,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
    );
    check(
        "POST",
        "http://a/",
        &[("te", "trailers")],
        Body::Unknown,
        "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let mut options = request("OPTIONS", "http://a/", &[]);
    let mut parts = ::http::uri::Parts::default();
    parts.scheme = Some(::http::uri::Scheme::HTTP);
    parts.authority = Some("a".parse().unwrap());
    parts.path_and_query = Some("*".parse().unwrap());
    options.uri = Uri::from_parts(parts).unwrap();
    assert_eq!(lines(&options, Body::None).as_deref(), Ok("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"));
    options.method = Method::GET;
    assert_eq!(lines(&options, Body::None), Err(Fault::Target));
}

/// H2-04.
#[test]
fn host_must_agree_with_authority_or_stand_in_for_it() {
    let same = "GET / HTTP/1.1\r\nhost: A.example\r\n\r\n";
    check("GET", "http://A.example/", &[("host", "a.EXAMPLE:80")], Body::None, same);
    check("GET", "http://A.example/", &[("host", "A.example")], Body::None, same);
    check("GET", "/", &[("host", "A.example")], Body::None, same);
    check(
        "GET",
        "https://a/",
        &[("host", "a:443")],
        Body::None,
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    refuses("GET", "https://a/", &[("host", "a:80")], Body::None, Fault::HostMismatch);
    refuses("GET", "http://a/", &[("host", "b")], Body::None, Fault::HostMismatch);
    refuses("GET", "http://a/", &[("host", "a:81")], Body::None, Fault::HostMismatch);
    refuses("GET", "http://a/", &[("host", "")], Body::None, Fault::HostInvalid);
    refuses("GET", "/", &[("host", "")], Body::None, Fault::HostInvalid);
    refuses("GET", "/", &[], Body::None, Fault::HostMissing);
    refuses("GET", "/", &[("host", "a"), ("host", "a")], Body::None, Fault::HostMissing);
    refuses("GET", "http://a/", &[("host", "a"), ("host", "a")], Body::None, Fault::HostMissing);
    refuses("GET", "http://u@a/", &[], Body::None, Fault::HostInvalid);
    refuses("GET", "http://u:p@a/", &[], Body::None, Fault::HostInvalid);
    refuses("GET", "/", &[("host", "u@a")], Body::None, Fault::HostInvalid);
    refuses("GET", "/", &[("host", "a/b")], Body::None, Fault::HostInvalid);
}

#[test]
fn refuses_targets_that_are_no_path() {
    refuses("GET", "ftp://a/", &[], Body::None, Fault::Target);
    refuses("CONNECT", "a:443", &[], Body::None, Fault::MethodRefused);
    refuses("TRACE", "http://a/", &[], Body::None, Fault::MethodRefused);
    let mut head = request("GET", "/?x", &[("host", "a")]);
    assert!(lines(&head, Body::None).is_ok());
    let mut parts = ::http::uri::Parts::default();
    parts.path_and_query = Some("?x".parse().unwrap());
    head.uri = Uri::from_parts(parts).unwrap();
    assert_eq!(lines(&head, Body::None), Err(Fault::Target));
    head.uri = Uri::from_parts(::http::uri::Parts::default()).unwrap();
    assert_eq!(lines(&head, Body::None), Err(Fault::Target));
}

/// H2-03.
#[test]
fn refuses_fields_of_the_connection() {
    for (name, value) in [
        ("connection", "close"),
        ("connection", ""),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", ""),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "Trailers"),
        ("te", ""),
    ] {
        refuses("GET", "http://a/", &[(name, value)], Body::None, Fault::ConnectionField);
        let head = Response::builder().header(name, value).body(()).unwrap().into_parts().0;
        let mut out = Vec::new();
        let got = response_lines(&head, Body::None, &LIMITS, &mut out);
        assert_eq!(got, Err(Fault::ResponseHead), "{name}");
        let got = trailer_lines(&head.headers, &LIMITS, &mut out);
        assert_eq!(got, Err(Fault::Trailers), "{name}");
    }
}

/// H2-02.
#[test]
fn refuses_lengths_that_disagree() {
    let fault = Fault::ContentLength;
    refuses("POST", "http://a/", &[("content-length", "5")], Body::None, fault);
    refuses("POST", "http://a/", &[("content-length", "5")], Body::Length(4), fault);
    for bad in ["", "+5", "5,5", "0x5", "5 5", "1e3", "9999999999999999999"] {
        refuses("POST", "http://a/", &[("content-length", bad)], Body::Unknown, fault);
    }
    let twice = [("content-length", "5"), ("content-length", "5")];
    refuses("POST", "http://a/", &twice, Body::Unknown, fault);
    refuses("POST", "http://a/", &twice, Body::Length(5), fault);
}

/// H2-19.
#[test]
fn joins_crumbs_into_one_cookie() {
    check(
        "GET",
        "http://a/",
        &[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "")],
        Body::None,
        "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2; c=3\r\n\r\n",
    );
}

/// H2-08.
#[test]
fn counts_fields_crumbs_and_sizes() {
    let crumbs = |n| vec![("cookie", "a"); n];
    assert!(lines(&request("GET", "http://a/", &crumbs(128)), Body::None).is_ok());
    refuses("GET", "http://a/", &crumbs(129), Body::None, Fault::TooManyFields);
    let long = "v".repeat(16 << 10);
    refuses("GET", "http://a/", &[("x", &long)], Body::None, Fault::HeadTooLarge);
    let halves = "v".repeat(15 << 10);
    let three = [("x", &halves[..]), ("y", &halves[..]), ("z", &halves[..])];
    refuses("GET", "http://a/", &three, Body::None, Fault::HeadTooLarge);
    let crumbs = [("cookie", &halves[..]), ("cookie", &halves[..])];
    refuses("GET", "http://a/", &crumbs, Body::None, Fault::HeadTooLarge);
    refuses("GET", &format!("http://a/{long}"), &[], Body::None, Fault::LineTooLong);
    // Thirty-two octets for each field: 100 empty ones are 3,300 octets and the pseudo-header fields.
    let small = ListLimits { size: 3300, ..LIMITS };
    let head = request("GET", "http://a/", &vec![("x", ""); 100]);
    assert_eq!(request_lines(&head, Body::None, &small, &mut Vec::new()), Err(Fault::HeadTooLarge));
}

/// H2-01: every octet in every place that can hold one, as a value and as a name.
#[test]
fn no_octet_begins_a_line_of_its_own() {
    for octet in 0..=255u8 {
        let text = [b'a', octet, b'a'];
        let value = HeaderValue::from_bytes(&text);
        let clean = octet >= b' ' && octet != 0x7f || octet == b'\t';
        assert_eq!(value.is_ok(), clean, "value {octet:#x}");
        let name = HeaderName::from_lowercase(&text);
        let token = crate::http::request::is_token_octet(octet) && !octet.is_ascii_uppercase();
        // What the crate takes for a name and HTTP/1.1 does not, is refused here.
        if let Ok(name) = name {
            let mut head = request("GET", "http://a/", &[]);
            head.headers.insert(name, HeaderValue::from_static("a"));
            let got = request_lines(&head, Body::None, &LIMITS, &mut Vec::new());
            assert_eq!(got, if token { Ok(()) } else { Err(Fault::FieldLine) }, "name {octet:#x}");
        }
        assert_eq!(Method::from_bytes(&text).is_ok(), crate::http::request::is_token_octet(octet));
        let mut parts = ::http::uri::Parts::default();
        let path = [b'/', octet, b'a'];
        if let Ok(path) = ::http::uri::PathAndQuery::try_from(&path[..]) {
            parts.path_and_query = Some(path);
            let mut head = request("GET", "/", &[("host", "a")]);
            head.uri = Uri::from_parts(parts).unwrap();
            let mut out = Vec::new();
            request_lines(&head, Body::None, &LIMITS, &mut out).unwrap();
            let line = out.split(|b| *b == b'\n').next().unwrap();
            assert_eq!(line.iter().filter(|b| **b == b' ').count(), 2, "path {octet:#x}");
            assert!(!line[..line.len() - 1].iter().any(|b| *b < b' ' || *b == 0x7f));
        }
        if let Ok(authority) = ::http::uri::Authority::try_from(&text[..]) {
            assert!(!authority.as_str().bytes().any(|b| b <= b' ' || b >= 0x7f), "{octet:#x}");
        }
    }
    for blank in [" a", "a ", "\ta", "a\t", " "] {
        refuses("GET", "http://a/", &[("x", blank)], Body::None, Fault::FieldLine);
    }
}

#[test]
fn an_extended_connect_becomes_an_upgrade() {
    let head = request("CONNECT", "https://a/chat", &[("sec-websocket-version", "13")]);
    let mut out = Vec::new();
    upgrade_lines(&head, "websocket", &LIMITS, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\n\r\n"
    );
    let got = |head: &request::Parts, protocol| {
        upgrade_lines(head, protocol, &LIMITS, &mut Vec::new()).err()
    };
    assert_eq!(got(&head, "a b"), Some(Fault::FieldLine));
    assert_eq!(got(&head, ""), Some(Fault::FieldLine));
    assert_eq!(got(&request("GET", "https://a/", &[]), "websocket"), Some(Fault::MethodRefused));
    let sized = request("CONNECT", "https://a/", &[("content-length", "0")]);
    assert_eq!(got(&sized, "websocket"), Some(Fault::MethodRefused));
}

fn response(status: u16, fields: &[(&str, &str)], body: Body) -> Result<(String, Framing), Fault> {
    let mut builder = Response::builder().status(status);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    let mut out = Vec::new();
    response_lines(&builder.body(()).unwrap().into_parts().0, body, &LIMITS, &mut out)?;
    let mut parsed = ResponseHead::default();
    parsed.parse(&out, crate::http::Method::Get)?;
    Ok((String::from_utf8(out).unwrap(), parsed.framing))
}

#[test]
fn writes_a_response_as_http1_lines() {
    let check = |status, fields: &[(&str, &str)], body, text: &str, framing| {
        let got = response(status, fields, body);
        assert_eq!(got, Ok((format!("HTTP/1.1 {status} \r\n{text}\r\n"), framing)));
    };
    check(
        200,
        &[("x", "y")],
        Body::Unknown,
        "x: y\r\ntransfer-encoding: chunked\r\n",
        Framing::Chunked,
    );
    check(
        200,
        &[("content-length", "5")],
        Body::Unknown,
        "content-length: 5\r\n",
        Framing::Length(5),
    );
    check(200, &[], Body::None, "content-length: 0\r\n", Framing::Length(0));
    check(200, &[], Body::Length(9), "content-length: 9\r\n", Framing::Length(9));
    check(204, &[], Body::None, "", Framing::None);
    check(304, &[("content-length", "5")], Body::None, "content-length: 5\r\n", Framing::None);
    check(103, &[("link", "</a>")], Body::Unknown, "link: </a>\r\n", Framing::None);
    assert_eq!(response(101, &[], Body::Unknown), Err(Fault::UnaskedUpgrade));
    assert_eq!(response(600, &[], Body::None), Err(Fault::ResponseHead));
    let fault = Err(Fault::ResponseFraming);
    assert_eq!(response(200, &[("content-length", "5")], Body::Length(4)), fault);
    assert_eq!(response(200, &[("content-length", "x")], Body::Unknown), fault);
    assert_eq!(
        response(200, &[("content-length", "5"), ("content-length", "5")], Body::None),
        fault
    );
    assert_eq!(response(200, &[("x", " y")], Body::None), Err(Fault::ResponseHead));
    assert_eq!(response(200, &vec![("x", "y"); 129], Body::None), Err(Fault::ResponseTooLarge));
}

#[test]
fn makes_heads_of_rendered_lines() {
    let head = response_of(
        b"HTTP/1.1 404 Not Found\r\nContent-Type:  a/b \r\nX-Own: 1\r\nConnection: close\r\nkeep-alive: x\r\n\
          Transfer-Encoding: chunked\r\nset-cookie: a\r\nset-cookie: b\r\nempty:\r\n\r\n",
    ).unwrap();
    assert_eq!(head.status(), 404);
    let got: Vec<_> =
        head.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    let want = [
        ("content-type", "a/b"),
        ("x-own", "1"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
        ("empty", ""),
    ];
    assert_eq!(got, want);
    assert_eq!(response_of(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap().status(), 100);
    let head = request_of(
        b"POST /x?y HTTP/1.1\r\nhost: a:81\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n",
        "https",
    ).unwrap();
    assert_eq!(head.uri(), "https://a:81/x?y");
    assert_eq!(head.method(), "POST");
    let got: Vec<_> =
        head.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(got, [("te", "trailers"), ("x", "y")]);
    let star = request_of(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "http").unwrap();
    assert_eq!(star.uri().path_and_query().unwrap(), "*");
    for lines in ["x: 1\r\n", "x: 1\r\n\r\n"] {
        assert_eq!(trailers_of(lines.as_bytes()).unwrap().get("x").unwrap(), "1");
    }
}

#[test]
fn makes_no_head_of_broken_lines() {
    for bad in [
        "",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a",
        "HTTP/1.1 200 OK\r\nx: a\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nx: y\r\n",
        "HTTP/1.1 200 OK\r\n:status: a\r\n\r\n",
    ] {
        assert!(response_of(bad.as_bytes()).is_none(), "{bad:?}");
    }
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: \r\n\r\n",
    ] {
        assert!(request_of(bad.as_bytes(), "http").is_none(), "{bad:?}");
    }
}

/// Whatever path and query the strict parser lets through, a target can be sent.
#[test]
fn every_octet_of_a_judged_target_can_go_on() {
    for octet in 0..=255u8 {
        for target in [[b'/', octet, b'a'].as_slice(), &[b'/', b'?', octet]] {
            let mut head = b"GET ".to_vec();
            head.extend_from_slice(target);
            head.extend_from_slice(b" HTTP/1.1\r\nhost: a\r\n\r\n");
            let mut parsed = RequestHead::default();
            if parsed.parse(&head, PathPolicy::default()).is_err() {
                continue;
            }
            let sent = request_of(&head, "http").unwrap_or_else(|| panic!("octet {octet:#x}"));
            assert_eq!(sent.uri().path_and_query().unwrap().as_str().as_bytes(), target);
        }
    }
}

fn field() -> impl Strategy<Value = (String, String)> {
    ("[a-z][a-z0-9-]{0,12}", "([!-~\u{a0}-\u{ff}]([ -~]{0,20}[!-~])?)?")
}

proptest! {
    #[test]
    fn requests_survive_the_way_there_and_back(
        path in "/[a-z0-9/._~-]{0,20}(\\?[a-z=&%+]{0,10})?",
        fields in prop::collection::vec(field(), 0..12),
    ) {
        let mut head = request("GET", &format!("http://a.example{path}"), &[]);
        for (name, value) in &fields {
            let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
            head.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let mut out = Vec::new();
        if request_lines(&head, Body::None, &LIMITS, &mut out).is_ok() {
            let text = out.strip_suffix(b"\r\n\r\n").unwrap();
            prop_assert!(!text.windows(4).any(|w| w == b"\r\n\r\n") && !text.contains(&0));
            let lone = text.iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(lone, text.windows(2).filter(|w| w == b"\r\n").count());
            let mut back = request_of(&out, "http").unwrap().into_parts().0;
            prop_assert_eq!(&back.uri, &head.uri);
            // Cookies are joined, lengths written last: compared is the set without them.
            for name in [COOKIE, CONTENT_LENGTH, HOST] {
                head.headers.remove(&name);
                back.headers.remove(&name);
            }
            prop_assert_eq!(back.headers, head.headers);
        }
    }

    #[test]
    fn octets_of_all_kinds_become_no_second_line(
        fields in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..12)), 0..6),
    ) {
        let mut head = request("GET", "http://a/", &[]);
        let mut taken = 1;
        for (name, value) in &fields {
            if let (Ok(name), Ok(value)) = (HeaderName::from_lowercase(name), HeaderValue::from_bytes(value)) {
                head.headers.append(name, value);
                taken += 1;
            }
        }
        let mut out = Vec::new();
        if request_lines(&head, Body::None, &LIMITS, &mut out).is_ok() {
            prop_assert!(out.iter().filter(|b| **b == b'\n').count() <= taken + 2);
            prop_assert!(!out.contains(&0));
            let mut parsed = RequestHead::default();
            if parsed.parse(&out, PathPolicy::default()).is_ok() {
                prop_assert!(parsed.fields.len() <= taken);
            }
        }
    }
}
