//! HTTP/2 heads as HTTP/1.1 lines and back (hazards H2-01 to H2-04, H2-19): whatever a header list holds, the lines have one
//! meaning, and it is that of the list.
//!
//! The input is a header list in lines: method, target, then a name and a value in turn, then the octet that says how the
//! body ends. Lines end in LF; other octets are as they are.

use ::http::header::{HeaderName, HeaderValue};
use ::http::{Method, Request, Response, Uri};
use ringgate::http::lines::{
    Body, ListLimits, request_lines, request_of, response_lines, response_of, trailer_lines,
    trailers_of,
};
use ringgate::http::path::PathPolicy;
use ringgate::http::{Framing, Method as Known, RequestHead, ResponseHead};

const LIMITS: ListLimits = ListLimits { size: 4096, fields: 32, line: 1024 };

/// See the module's documentation.
pub fn lines(data: &[u8]) {
    let mut words = data.split(|b| *b == b'\n');
    let method = Method::from_bytes(words.next().unwrap_or_default());
    let target = Uri::try_from(words.next().unwrap_or_default());
    let mut request = Request::new(());
    let mut count = 0;
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let name = HeaderName::from_lowercase(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            request.headers_mut().append(name, value);
            count += 1;
        }
    }
    let body = match data.last() {
        Some(b'0') => Body::None,
        Some(b'5') => Body::Length(5),
        _ => Body::Unknown,
    };
    let mut response = Response::new(());
    *response.headers_mut() = request.headers().clone();
    if let (Ok(method), Ok(target)) = (method, target) {
        (*request.method_mut(), *request.uri_mut()) = (method, target);
        let mut out = Vec::new();
        let head = request.into_parts().0;
        if request_lines(&head, body, &LIMITS, &mut out).is_ok() {
            there_and_back(&head, body, count, &out);
        }
    }
    let mut out = Vec::new();
    if trailer_lines(response.headers(), &LIMITS, &mut out).is_ok() {
        assert!(one_section(&[&out[..], b"\r\n"].concat(), count + 1));
        assert_eq!(trailers_of(&out).as_ref(), Some(response.headers()));
    }
    out.clear();
    if response_lines(&response.into_parts().0, body, &LIMITS, &mut out).is_ok() {
        assert!(one_section(&out, count + 3), "{:?}", out.escape_ascii());
        let mut parsed = ResponseHead::default();
        if parsed.parse(&out, Known::Get).is_ok() {
            assert!(parsed.framing != Framing::Close && parsed.keep_alive);
            assert!(response_of(&out).is_some());
        }
    }
}

fn there_and_back(head: &::http::request::Parts, body: Body, count: usize, out: &[u8]) {
    // A host more than there were fields, and one for the framing.
    assert!(one_section(out, count + 4), "{:?}", out.escape_ascii());
    let mut parsed = RequestHead::default();
    if parsed.parse(out, PathPolicy::default()).is_err() {
        return;
    }
    assert!(parsed.fields.len() <= count + 2 && parsed.keep_alive);
    match body {
        Body::None => assert_eq!(parsed.framing, Framing::None),
        Body::Length(length) => assert_eq!(parsed.framing, Framing::Length(length)),
        Body::Unknown => {}
    }
    let back = request_of(out, "http").expect("what was judged can be sent");
    assert_eq!(back.method(), head.method);
    let path = |uri: &Uri| uri.path_and_query().map(|path| path.as_str().to_owned());
    assert_eq!(path(back.uri()), path(&head.uri));
    for name in head.headers.keys() {
        let folded = matches!(name.as_str(), "cookie" | "host" | "content-length");
        let all = |map: &::http::HeaderMap| map.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert!(folded || all(back.headers()) == all(&head.headers), "{name}");
    }
}

/// Whether these are lines that end in CRLF, at most `most`, with one empty line at the end.
fn one_section(out: &[u8], most: usize) -> bool {
    let lines = out.iter().filter(|b| **b == b'\n').count();
    let crlf = out.windows(2).filter(|w| w == b"\r\n").count();
    let cr = out.iter().filter(|b| **b == b'\r').count();
    let ends = out.windows(4).filter(|w| w == b"\r\n\r\n").count();
    let closed = out == b"\r\n" || (ends == 1 && out.ends_with(b"\r\n\r\n"));
    lines == crlf && cr == crlf && lines <= most && !out.contains(&0) && closed
}
