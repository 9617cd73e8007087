//! What a request head may and may not be.

use super::*;

fn parse(head: &str) -> Result<RequestHead, Fault> {
    parse_bytes(head.as_bytes())
}

fn parse_bytes(head: &[u8]) -> Result<RequestHead, Fault> {
    let mut parsed = RequestHead::default();
    parsed.parse(head, PathPolicy::default()).map(|()| parsed)
}

fn refuses(head: &str, fault: Fault) {
    assert_eq!(parse(head).map(|_| ()), Err(fault), "{head:?}");
}

fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[test]
fn reads_a_plain_request() {
    let text = "GET /a/b?c=d HTTP/1.1\r\nHost: Example.com:8080\r\nX-A:  b \r\n\r\n";
    let head = parse(text).unwrap();
    let buf = text.as_bytes();
    let view = head.view(buf, [127, 0, 0, 1].into());
    assert_eq!(
        (view.method, view.host, view.path),
        (&b"GET"[..], &b"example.com"[..], &b"/a/b"[..])
    );
    assert_eq!(view.query, Some(&b"c=d"[..]));
    assert_eq!(view.fields.first("x-a"), Some(&b"b"[..]));
    assert_eq!(head.authority.of(buf), b"Example.com:8080");
    assert_eq!((head.port, head.keep_alive, head.framing), (Some(8080), true, Framing::None));
}

#[test]
fn knows_the_forms_of_a_target() {
    let absolute = parse("GET http://A.b/x?y HTTP/1.1\r\nHost: a.B:80\r\n\r\n").unwrap();
    assert_eq!((absolute.form, absolute.host.as_slice()), (Form::Absolute, &b"a.b"[..]));
    let bare = parse("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(bare.canonical_path(b""), b"/");
    let star = parse("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(star.canonical_path(b""), b"*");
    refuses("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Fault::HostMismatch);
    refuses("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refuses("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Fault::HostInvalid);
    refuses("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Fault::HostInvalid);
    refuses("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refuses("GET a.b:80 HTTP/1.1\r\nHost: a\r\n\r\n", Fault::Target);
    refuses("CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\n\r\n", Fault::MethodRefused);
}

#[test]
fn refuses_octets_outside_the_grammar() {
    for bad in [
        "/a b", "/a#b", "/a\"b", "/<a>", "/a\\b", "/\u{e9}", "/?a b", "/?#", "/?\u{e9}", "/?a\"",
        "/a\tb",
    ] {
        assert!(parse(&format!("GET {bad} HTTP/1.1\r\nHost: a\r\n\r\n")).is_err(), "{bad}");
    }
    for octet in (0..=255u8).filter(|b| !matches!(b, b'\t' | b' '..=b'~' | 0x80..)) {
        let head =
            [b"GET / HTTP/1.1\r\nHost: a\r\nX: a".as_slice(), &[octet], b"b\r\n\r\n"].concat();
        assert!(parse_bytes(&head).is_err(), "octet {octet:#x} in a value");
        let head =
            [b"GET / HTTP/1.1\r\nHost: a\r\nX".as_slice(), &[octet], b": b\r\n\r\n"].concat();
        assert!(parse_bytes(&head).is_err(), "octet {octet:#x} in a name");
    }
    assert!(
        parse("GET /?a[]=1&b={}|^` HTTP/1.1\r\nHost: a\r\n\r\n").is_ok(),
        "browsers send these bare"
    );
}

#[test]
fn refuses_malformed_lines() {
    refuses("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Fault::RequestLine);
    for bad in [
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
    ] {
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
        refuses(&format!("GET / {version}\r\nHost: a\r\n\r\n"), Fault::VersionUnsupported);
    }
    refuses(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)), Fault::MethodTooLong);
}

#[test]
fn wants_exactly_one_host() {
    refuses("GET / HTTP/1.1\r\n\r\n", Fault::HostMissing);
    refuses("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Fault::HostMissing);
    refuses("GET / HTTP/1.1\r\nHost:\r\n\r\n", Fault::HostInvalid);
    refuses("GET http://a/ HTTP/1.1\r\n\r\n", Fault::HostMissing);
    assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
}

#[test]
fn content_length_is_one_plain_number() {
    for good in ["0", "5", "007", "999999999999999999"] {
        assert!(parse(&with(&format!("Content-Length: {good}"))).is_ok(), "{good}");
    }
    for bad in [
        "",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "5e0",
        "5.0",
        "1_0",
        "5,5",
        "5, 5",
        "1000000000000000000",
        "\u{a0}5",
        "5;",
    ] {
        assert!(parse(&with(&format!("Content-Length: {bad}"))).is_err(), "{bad}");
    }
    refuses(&with("Content-Length: 5\r\nContent-Length: 5"), Fault::ContentLength);
    refuses(&with("Content-Length: \r\nContent-Length: 5"), Fault::ContentLength);
}

#[test]
fn transfer_encoding_is_exactly_chunked() {
    for good in ["chunked", "Chunked", " chunked\t"] {
        let head = parse(&with(&format!("Transfer-Encoding: {good}"))).unwrap();
        assert_eq!(head.framing, Framing::Chunked);
    }
    for bad in [
        "xchunked",
        "\"chunked\"",
        "chunked;p=1",
        "identity",
        "chunked, identity",
        "identity, chunked",
        ",chunked",
        "chunked,",
        "",
        "chunked chunked",
        "c\u{131}unked",
        "=?UTF-8?B?Y2h1bmtlZA==?=",
        "gzip, chunked",
        "\u{a0}chunked",
    ] {
        assert!(parse(&with(&format!("Transfer-Encoding: {bad}"))).is_err(), "{bad}");
    }
    refuses(&with("Transfer-Encoding: gzip"), Fault::UnknownCoding);
    refuses(
        &with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        Fault::TransferEncoding,
    );
    refuses(&with("Transfer-Encoding: chunked\r\nContent-Length: 5"), Fault::BothLengths);
    refuses(&with("Content-Length: 5\r\nTransfer-Encoding: chunked"), Fault::BothLengths);
    refuses("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::TransferEncoding);
}

#[test]
fn connection_options_cannot_name_fields_for_everyone() {
    let head = parse(&with("Connection: close, X-Hop, keep-alive")).unwrap();
    assert_eq!((head.keep_alive, head.nominated.len()), (false, 1));
    assert!(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
    assert!(parse(&with("Connection: , close ,,")).is_ok());
    for bad in [
        "host",
        "Content-Length",
        "transfer-encoding",
        "X-Forwarded-For",
        "cookie",
        "authorization",
        "a b",
        "\u{e9}",
    ] {
        assert!(parse(&with(&format!("Connection: {bad}"))).is_err(), "{bad}");
    }
}

#[test]
fn nominated_fields_are_none_of_the_request() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Language: de\r\nX-Hop: 1\r\nX-Stays: 2\r\nRange: bytes=0-1\r\n\
                Connection: accept-language, X-HOP, range, x-none\r\nx-hop: 3\r\nTE: trailers\r\n\r\n";
    let head = parse(text).unwrap();
    let fields = head.view(text.as_bytes(), [127, 0, 0, 1].into()).fields;
    for (name, value) in [
        ("accept-language", None),
        ("x-hop", None),
        ("range", None),
        ("x-stays", Some("2")),
        ("host", Some("a")),
        ("te", Some("trailers")),
    ] {
        assert_eq!(fields.first(name), value.map(str::as_bytes), "{name}");
    }
    assert_eq!((head.nominated.len(), head.takes_trailers), (4, true));
}

#[test]
fn expectations_and_singletons() {
    let body = "Content-Length: 1\r\n";
    assert!(parse(&with(&format!("{body}Expect: 100-Continue"))).unwrap().expects_continue);
    assert!(!parse(&with("Expect: 100-continue")).unwrap().expects_continue);
    refuses(&with("Expect: y 100-continue"), Fault::ExpectationFailed);
    refuses(&with("Expect: 100-continue\r\nExpect: 100-continue"), Fault::ExpectationFailed);
    for name in ["Authorization", "Content-Type", "Origin"] {
        refuses(&with(&format!("{name}: a\r\n{name}: b")), Fault::RepeatedField);
    }
}

#[test]
fn a_reused_head_keeps_nothing() {
    let mut head = RequestHead::default();
    let first = b"POST //a?b HTTP/1.1\r\nHost: a:1\r\nConnection: close, x\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n";
    head.parse(first, PathPolicy::default()).unwrap();
    head.parse(b"GET / HTTP/1.0\r\n\r\n", PathPolicy::default()).unwrap();
    assert!(head.host.is_empty() && head.rewritten.is_empty() && head.nominated.is_empty());
    assert!(!head.takes_trailers && head.query.is_none() && head.framing == Framing::None);
}
