//! Cookies and query fields: split lazily by what decides, here against a walk over the octets one by one.
//!
//! Each line of the input is the value of one `Cookie` field; the whole is also read as a query.

use ringgate::http::path::PathPolicy;
use ringgate::http::{Field, Fields, Known, RequestHead, RequestView, Span};
use std::net::{IpAddr, Ipv4Addr};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// See the module's documentation.
pub fn cookies(data: &[u8]) {
    let mut buf = b"cookie".to_vec();
    let name = Span { start: 0, end: 6 };
    let mut list = Vec::new();
    for line in data.split(|b| *b == b'\n') {
        let start = buf.len() as u32;
        buf.extend_from_slice(line);
        let value = Span { start, end: buf.len() as u32 };
        list.push(Field { name, value, known: Known::Cookie });
    }
    let fields = Fields::new(&buf, &list);
    let read = owned(fields.cookies());
    assert_eq!(read, reference_cookies(data), "{:?}", data.escape_ascii());
    for (name, value) in &read {
        assert!(!name.iter().any(|b| matches!(b, b'=' | b';')) && !value.contains(&b';'));
    }
    in_a_head(data, &read);

    let view = RequestView {
        method: b"GET",
        host: b"",
        path: b"/",
        query: Some(data),
        fields,
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let pairs = owned(view.query_pairs());
    assert_eq!(pairs, reference_query(data), "{:?}", data.escape_ascii());
    assert_eq!(RequestView { query: None, ..view }.query_pairs().count(), 0);
}

/// The same lines in a request say the same, if a request may carry them.
fn in_a_head(data: &[u8], expected: &Pairs) {
    let mut text = b"GET / HTTP/1.1\r\nhost: a\r\n".to_vec();
    for line in data.split(|b| *b == b'\n') {
        text.extend_from_slice(b"Cookie: ");
        text.extend_from_slice(line);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let mut head = RequestHead::default();
    let is_text = data.iter().all(|b| *b == b'\n' || super::head::is_text(&[*b]));
    let few = list_len(data) < 900;
    match head.parse(&text, PathPolicy::default()) {
        Ok(()) => {
            assert!(is_text, "a control character in a cookie");
            let view = head.view(&text, IpAddr::V4(Ipv4Addr::LOCALHOST));
            assert_eq!(&owned(view.fields.cookies()), expected, "{:?}", data.escape_ascii());
        }
        Err(fault) => assert!(!is_text || !few, "{fault:?} for {:?}", data.escape_ascii()),
    }
}

fn list_len(data: &[u8]) -> usize {
    data.iter().filter(|b| **b == b'\n').count() + 1
}

fn owned<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Pairs {
    pairs.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Octet by octet: a name until `=`, a value until `;` or the end of the line; without `=` it is no cookie.
fn reference_cookies(data: &[u8]) -> Pairs {
    let (mut pairs, mut name, mut part) = (Vec::new(), None, Vec::new());
    for octet in data.iter().copied().chain([b'\n']) {
        match octet {
            b'=' if name.is_none() => name = Some(std::mem::take(&mut part)),
            b';' | b'\n' => {
                let value = std::mem::take(&mut part);
                if let Some(name) = name.take() {
                    pairs.push((blanks_off(name), blanks_off(value)));
                }
            }
            octet => part.push(octet),
        }
    }
    pairs
}

fn blanks_off(mut text: Vec<u8>) -> Vec<u8> {
    let blank = |b: &u8| b" \t\n\r\x0c".contains(b);
    while text.last().is_some_and(blank) {
        text.pop();
    }
    let start = text.iter().take_while(|b| blank(b)).count();
    text.split_off(start)
}

/// Octet by octet: a key until `=`, a value until `&`; what is empty is left out.
fn reference_query(data: &[u8]) -> Pairs {
    let (mut pairs, mut key, mut part, mut octets) = (Vec::new(), None, Vec::new(), 0);
    for octet in data.iter().copied().map(Some).chain([None]) {
        match octet {
            Some(b'=') if key.is_none() => key = Some(std::mem::take(&mut part)),
            Some(octet) if octet != b'&' => part.push(octet),
            _ => {
                let value = std::mem::take(&mut part);
                if octets > 0 {
                    pairs.push(match key.take() {
                        Some(key) => (key, value),
                        None => (value, Vec::new()),
                    });
                }
                octets = 0;
                continue;
            }
        }
        octets += 1;
    }
    pairs
}
