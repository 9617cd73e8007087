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
