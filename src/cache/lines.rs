//! The head of a stored response as it is kept: field lines, without what belongs to one connection or one exchange.
//!
//! Kept out are fields of the hop (RFC 9111 section 3.1), the framing, which is always ours, `Age`, which is computed, and what
//! `no-cache` withholds by name. Called when a response is stored and when one is renewed.

use crate::cache::control::Directives;
use crate::cache::targeted;
use crate::http::{Field, Fields, Known, Span, write};

/// Appends the lines of a response's head that are kept. `nominated`: the names in its `Connection`.
pub fn kept<'a>(fields: Fields<'a>, nominated: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) {
    let (said, _) = targeted::effective(fields);
    for (name, value) in fields.iter() {
        if is_kept(name) && !nominated(name) && !is_withheld(&said, name) {
            write::field(out, name, value);
        }
    }
}

/// The fields of kept lines, whose spans point into them.
pub fn fields(lines: &[u8]) -> Vec<Field> {
    let mut list = Vec::new();
    let mut start = 0;
    while let Some(len) = memchr::memmem::find(lines.get(start..).unwrap_or_default(), b"\r\n") {
        let line = lines.get(start..start + len).unwrap_or_default();
        if let Some(colon) = memchr::memchr(b':', line) {
            let (name, value) = line.split_at(colon);
            let value = value.get(1..).unwrap_or_default();
            let (lead, tail) = (value.trim_ascii_start().len(), value.trim_ascii().len());
            let first = start + len - lead;
            list.push(Field {
                name: span(start, start + colon),
                value: span(first, first + tail),
                known: Known::of(name),
            });
        }
        start += len + 2;
    }
    list
}

fn is_kept(name: &[u8]) -> bool {
    match Known::of(name) {
        Known::Connection
        | Known::ContentLength
        | Known::TransferEncoding
        | Known::Te
        | Known::Trailer
        | Known::Upgrade
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::ProxyAuthorization
        | Known::ProxyAuthenticate
        | Known::Proxy
        | Known::XRequestId
        | Known::XRinggateReason => false,
        _ => !OTHERS.iter().any(|other| name.eq_ignore_ascii_case(other)),
    }
}

const OTHERS: [&[u8]; 4] = [b"age", b"set-cookie", b"set-cookie2", b"proxy-authentication-info"];

// Whether a directive `no-cache` with field names holds this one back.
fn is_withheld(said: &Directives<'_>, name: &[u8]) -> bool {
    let mut names = said.withheld.iter().flat_map(|list| list.split(|b| *b == b','));
    names.any(|held| held.trim_ascii().eq_ignore_ascii_case(name))
}

fn span(start: usize, end: usize) -> Span {
    let at = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    Span { start: at(start), end: at(end) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    fn kept_of(pairs: &[(&str, &str)], nominated: &[u8]) -> String {
        let fields: OwnedFields = pairs.iter().copied().collect();
        let mut out = Vec::new();
        kept(fields.view(), |name| name.eq_ignore_ascii_case(nominated), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keeps_what_belongs_to_the_response_rfc9111_3_1() {
        let pairs = [
            ("Content-Type", "text/plain"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Trailer", "x"),
            ("Upgrade", "h2c"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("Age", "5"),
            ("Set-Cookie", "a=b"),
            ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("X-Empty", ""),
            ("Cache-Control", "max-age=5, no-cache=\"x-held, X-Too\""),
            ("X-Held", "1"),
            ("x-too", "1"),
            ("X-Twice", "1"),
            ("X-Twice", "2"),
        ];
        let lines = kept_of(&pairs, b"x-hop");
        let wanted = "Content-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Empty: \r\n\
             Cache-Control: max-age=5, no-cache=\"x-held, X-Too\"\r\nX-Twice: 1\r\nX-Twice: 2\r\n";
        assert_eq!(lines, wanted);
        let list = fields(lines.as_bytes());
        let again = kept_again(Fields::new(lines.as_bytes(), &list));
        assert_eq!(again, lines);
        assert_eq!(list.first().map(|field| field.known), Some(Known::ContentType));
    }

    fn kept_again(fields: Fields<'_>) -> String {
        let mut out = Vec::new();
        kept(fields, |_| false, &mut out);
        String::from_utf8(out).unwrap()
    }
}
