//! Trailer sections: which of their fields may go on.
//!
//! Some servers put trailer fields among those of the head: what a head may not say, or what ringgate says in it itself, no trailer
//! section may say either (RFC 9110 section 6.5.1, hazard H1-28). Called by `body` and `collect`, which read them.

use crate::http::{Known, write};
use crate::proxy::Exchange;
use crate::proxy::body::Broken;
use crate::proxy::policies::Chains;
use crate::proxy::upstream_head::is_ours;
use crate::transform::fields::FieldChanges;

/// What policies and the rule change in the head before a trailer section: nothing of that is said in it again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Barred<'a> {
    chains: Chains<'a>,
    changes: Option<&'a FieldChanges>,
}

impl<'a> Barred<'a> {
    /// Of a request.
    pub fn of_request(x: &Exchange<'a>) -> Barred<'a> {
        let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
        let settings = rule.and_then(|rule| rule.traffic.request.as_deref());
        Barred { chains: Chains::of(x), changes: settings.map(|settings| &settings.headers) }
    }

    /// Of a response. What ringgate has asked for itself it is told as it is.
    pub fn of_response(x: &Exchange<'a>) -> Barred<'a> {
        if x.scratch.trace.inner {
            return Barred::default();
        }
        let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
        let settings = rule.and_then(|rule| rule.traffic.response.as_deref());
        Barred { chains: Chains::of(x), changes: settings.map(|settings| &settings.headers) }
    }

    fn has(&self, name: &[u8], value: &[u8], to_client: bool) -> bool {
        let said = match to_client {
            true => self.chains.replace(name),
            false => is_ours(name) || self.chains.hold_back(name, value),
        };
        said || self.changes.is_some_and(|changes| changes.names(name))
    }
}

/// The trailer fields that may go on (RFC 9110 section 6.5.1): none that frames, routes, authenticates, or that
/// decides how the content is read. Names that some servers take for others (hazard H1-15) harm no client, and gRPC's metadata
/// may have them. Nobody may tell a target there who he is.
///
/// # Errors
/// [`Broken::BadTrailers`]
pub fn filtered(section: &[u8], to_client: bool, barred: Barred<'_>) -> Result<Vec<u8>, Broken> {
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut slots)
    else {
        return Err(Broken::BadTrailers);
    };
    let mut out = Vec::new();
    for one in fields {
        let name = one.name.as_bytes();
        let meaningful = Known::of(name) != Known::Other
            || (name.contains(&b'_') && !to_client)
            || FORBIDDEN.iter().any(|f| name.eq_ignore_ascii_case(f))
            || name.get(..8).is_some_and(|n| n.eq_ignore_ascii_case(b"content-"))
            || barred.has(name, one.value.trim_ascii(), to_client);
        if !meaningful {
            write::field(&mut out, name, one.value.trim_ascii());
        }
    }
    Ok(out)
}

const FORBIDDEN: [&[u8]; 16] = [
    b"age",
    b"allow",
    b"cache-control",
    b"expires",
    b"location",
    b"pragma",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"te",
    b"vary",
    b"warning",
    b"www-authenticate",
    b"if-match",
    b"if-none-match",
    b"accept-encoding",
];

#[cfg(test)]
mod tests {
    use super::*;

    const SECTION: &[u8] =
        b"X-Sum: 1\r\nX-Gone: 2\r\nx-old: 3\r\nX-New: 4\r\nx-set: 5\r\nx-tag: 6\r\n\
        X-RingGate-Attempt: 7\r\nHost: a\r\nContent-Type: b\r\nif-match: c\r\nx_y: d\r\n\r\n";

    #[track_caller]
    fn check(changes: Option<&FieldChanges>, to_client: bool, expected: &[u8]) {
        let barred = Barred { changes, ..Barred::default() };
        let got = filtered(SECTION, to_client, barred).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(expected));
    }

    /// Hazard H1-28: what a rule takes out of a head, or sets in it, comes no other way.
    #[test]
    fn what_a_head_may_not_say_no_trailer_says() {
        let text = |text: &str| text.to_owned();
        let value = || crate::transform::Template::literal("v");
        let changes = FieldChanges {
            rename: vec![(text("x-old"), text("x-new"))],
            remove: vec![text("x-gone")],
            set: vec![(text("x-set"), value())],
            add: vec![(text("x-tag"), value())],
        };
        let plain = b"X-Sum: 1\r\nX-Gone: 2\r\nx-old: 3\r\nX-New: 4\r\nx-set: 5\r\nx-tag: 6\r\n";
        check(None, false, plain);
        let to_client = [&plain[..], b"X-RingGate-Attempt: 7\r\nx_y: d\r\n"].concat();
        check(None, true, &to_client);
        check(Some(&changes), false, b"X-Sum: 1\r\n");
        check(Some(&changes), true, b"X-Sum: 1\r\nX-RingGate-Attempt: 7\r\nx_y: d\r\n");
    }

    #[test]
    fn a_section_that_is_none_is_malformed() {
        assert_eq!(filtered(b"a b: c\r\n\r\n", false, Barred::default()), Err(Broken::BadTrailers));
        assert_eq!(filtered(b"\r\n", false, Barred::default()), Ok(vec![]));
    }
}
