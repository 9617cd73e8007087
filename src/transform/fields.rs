//! What becomes of field lines: renamed, removed, set, added, in this order; framing and what ringgate says itself stay its own.
//!
//! Which names may be changed at all is decided here, too, and asked when the file is read. Called by `proxy::change` for heads on
//! their way either way.

use crate::http::{Known, write};
use crate::transform::escape::Place;
use crate::transform::template::{Facts, Template};

/// As written; names are lower-case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldChanges {
    /// These get another name.
    pub rename: Vec<(String, String)>,
    /// These go.
    pub remove: Vec<String>,
    /// These get this value, in place of those they have.
    pub set: Vec<(String, Template)>,
    /// These come beside those that are there.
    pub add: Vec<(String, Template)>,
}

impl FieldChanges {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == FieldChanges::default()
    }

    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().chain(&self.add).map(|(_, value)| value)
    }

    /// The names that are given.
    pub fn given(&self) -> impl Iterator<Item = &str> {
        let named = self.set.iter().chain(&self.add).map(|(name, _)| name.as_str());
        named.chain(self.rename.iter().map(|(_, new)| new.as_str()))
    }

    /// Whether it speaks of this name at all.
    pub fn names(&self, name: &[u8]) -> bool {
        let is = |other: &str| other.as_bytes().eq_ignore_ascii_case(name);
        self.remove.iter().any(|n| is(n))
            || self.rename.iter().any(|(old, _)| is(old))
            || self.given().any(is)
    }

    /// Whether a line of this name does not stay as it is. `has` says whether there is any of a name.
    pub fn takes(&self, name: &[u8], has: impl Fn(&str) -> bool) -> bool {
        let is = |other: &str| other.as_bytes().eq_ignore_ascii_case(name);
        self.remove.iter().any(|n| is(n))
            || self.set.iter().any(|(n, _)| is(n))
            // A line that takes a name over from another is the only one of it.
            || self.rename.iter().any(|(old, new)| is(old) || (is(new) && has(old)))
    }

    /// Appends what comes instead, and beside, of every name that `may` come. `values` are those of a name before.
    pub fn lines<'v, V: Iterator<Item = &'v [u8]>>(
        &self,
        facts: &Facts<'_>,
        values: impl Fn(&str) -> V,
        may: impl Fn(&str) -> bool,
        out: &mut Vec<u8>,
    ) {
        for (old, new) in &self.rename {
            let gone = self.remove.contains(new) || self.set.iter().any(|(n, _)| n == new);
            if !gone && may(new) {
                values(old).for_each(|value| write::field(out, new.as_bytes(), value));
            }
        }
        for (name, value) in self.set.iter().chain(&self.add).filter(|(name, _)| may(name)) {
            let value = value.text(facts, Place::Field);
            let value = value.trim_ascii();
            // A field without a value says nothing that its absence would not.
            if !value.is_empty() {
                write::built_field(out, name.as_bytes(), value);
            }
        }
    }

    /// Changes lines that were written: those of an answer of ringgate's own, which knows the type of its body.
    pub fn rewrite(&self, facts: &Facts<'_>, lines: &mut Vec<u8>) {
        let may = |name: &str| name != "content-type";
        let before = std::mem::take(lines);
        let split = |line: &'_ [u8]| -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
            let colon = memchr::memchr(b':', line)?;
            let end =
                line.len() - line.iter().rev().take_while(|b| b.is_ascii_whitespace()).count();
            let blanks = line.get(colon + 1..end)?.iter().take_while(|b| **b == b' ').count();
            Some((0..colon, colon + 1 + blanks..end))
        };
        let pairs: Vec<(&[u8], &[u8], &[u8])> = before
            .split_inclusive(|b| *b == b'\n')
            .filter_map(|line| {
                let (name, value) = split(line)?;
                Some((line, line.get(name)?, line.get(value)?))
            })
            .collect();
        let of = |name: &str| {
            let name = name.as_bytes().to_vec();
            pairs.iter().filter(move |(_, n, _)| n.eq_ignore_ascii_case(&name)).map(|(.., v)| *v)
        };
        for (line, name, _) in &pairs {
            let typed = name.eq_ignore_ascii_case(b"content-type");
            if typed || !self.takes(name, |other| of(other).next().is_some()) {
                lines.extend_from_slice(line);
            }
        }
        self.lines(facts, of, may, lines);
    }
}

/// What may be done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// `set`.
    Set,
    /// `add`.
    Add,
    /// `remove`, and the old name of `rename`.
    Take,
}

const CONNECTION: &str = "no field of framing or of the connection";

fn is_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthorization
            | Known::Proxy
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Http2Settings
            | Known::Expect
    )
}

/// Why a field of a request cannot be changed; `None` where it can. `name` is lower-case.
pub fn refused_in_request(name: &str) -> Option<&'static str> {
    match Known::of(name.as_bytes()) {
        known if is_of_connection(known) => Some(CONNECTION),
        Known::Host => Some("request.host instead"),
        Known::MaxForwards => Some("no field that ringgate counts down"),
        Known::Via
        | Known::Forwarded
        | Known::XForwardedFor
        | Known::XForwardedProto
        | Known::XForwardedPort
        | Known::XForwardedHost
        | Known::XForwardedServer
        | Known::XForwardedPrefix
        | Known::XForwardedPath
        | Known::XForwardedUri
        | Known::XForwardedMethod
        | Known::XRequestId
        | Known::XRinggateReason => Some("no field that ringgate writes itself"),
        Known::ClientCert | Known::XForwardedClientCert => {
            Some("no field that says who a client has proven to be")
        }
        _ if name.starts_with("sec-websocket-") => Some("no field of a handshake"),
        _ if name == "content-encoding" || name == "content-range" => {
            Some("no field without which the body means something else")
        }
        _ => None,
    }
}

/// Why a field of a response cannot be changed; `None` where it can. `name` is lower-case.
pub fn refused_in_response(name: &str, usage: Use) -> Option<&'static str> {
    match Known::of(name.as_bytes()) {
        known if is_of_connection(known) => return Some(CONNECTION),
        Known::Date | Known::Via | Known::XRinggateReason | Known::XRequestId => {
            return Some("no field that ringgate writes itself");
        }
        Known::ContentType if usage != Use::Set => {
            return Some("content-type only in set: a body has one type");
        }
        _ => {}
    }
    match name {
        "content-encoding" | "content-range" => {
            Some("no field without which the body means something else")
        }
        "vary" if usage != Use::Add => Some("vary only in add: without it caches mix up answers"),
        "strict-transport-security" if usage != Use::Take => Some("hsts of the listener instead"),
        "grpc-status" | "grpc-message" => Some("no field that ends a call"),
        name if name.starts_with("sec-websocket-") => Some("no field of a handshake"),
        name if name.starts_with("access-control-") && usage != Use::Take => {
            Some("a policy of kind cors instead")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use crate::transform::template::Scope;

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, Template)> {
        let value = |text: &str| Template::parse(text, Scope::RESPONSE).unwrap();
        pairs.iter().map(|(n, v)| ((*n).to_owned(), value(v))).collect()
    }

    #[track_caller]
    fn check(changes: &FieldChanges, before: &str, after: &str) {
        let fields: OwnedFields = [("x-evil", "a\u{7f}b"), ("x-blank", "")].into_iter().collect();
        let view = RequestView {
            method: b"GET",
            host: b"a.test",
            path: b"/",
            query: Some(b"q=1%0d%0aset-cookie:%20a=b"),
            fields: fields.view(),
            peer: [127, 0, 0, 1].into(),
        };
        let mut lines = before.as_bytes().to_vec();
        changes.rewrite(&Facts { status: 201, ..Facts::of(view) }, &mut lines);
        assert_eq!(String::from_utf8(lines).unwrap(), after);
    }

    #[test]
    fn lines_are_renamed_removed_set_and_added() {
        let before = "server: x\r\nX-A: 1\r\nx-a:2\r\nx-b:  3 \r\n";
        check(&FieldChanges::default(), before, before);
        let remove =
            FieldChanges { remove: vec!["x-a".into(), "none".into()], ..Default::default() };
        check(&remove, before, "server: x\r\nx-b:  3 \r\n");
        let set = FieldChanges {
            set: values(&[("x-a", "#{status}"), ("new", "v")]),
            ..Default::default()
        };
        check(&set, before, "server: x\r\nx-b:  3 \r\nx-a: 201\r\nnew: v\r\n");
        let add = FieldChanges { add: values(&[("x-b", "4")]), ..Default::default() };
        check(&add, before, &format!("{before}x-b: 4\r\n"));
        let rename = |old: &str, new: &str| FieldChanges {
            rename: vec![(old.to_owned(), new.to_owned())],
            ..Default::default()
        };
        check(&rename("x-a", "x-b"), before, "server: x\r\nx-b: 1\r\nx-b: 2\r\n");
        check(&rename("x-c", "x-b"), before, before);
    }

    /// Hazard H1-33.
    #[test]
    fn a_value_cannot_begin_a_line() {
        let set = FieldChanges {
            set: values(&[("a", "#{query.q}"), ("b", "#{header.x-evil}")]),
            ..Default::default()
        };
        check(&set, "", "a: 1%0D%0Aset-cookie: a=b\r\nb: a%7Fb\r\n");
    }

    #[test]
    fn nothing_is_set_to_nothing() {
        let set = FieldChanges {
            set: values(&[("a", "#{header.x-none}"), ("b", "#{header.x-blank:-none}")]),
            ..Default::default()
        };
        check(&set, "a: 1\r\n", "b: none\r\n");
    }

    #[test]
    fn framing_and_what_ringgate_says_is_refused() {
        for (name, request, response) in [
            ("content-length", false, false),
            ("transfer-encoding", false, false),
            ("connection", false, false),
            ("te", false, false),
            ("upgrade", false, false),
            ("host", false, true),
            ("via", false, false),
            ("x-forwarded-for", false, true),
            ("x-forwarded-prefix", false, true),
            ("forwarded", false, true),
            ("x-request-id", false, false),
            ("client-cert", false, true),
            ("x-amzn-mtls-clientcert-leaf", false, true),
            ("content-encoding", false, false),
            ("sec-websocket-key", false, false),
            ("authorization", true, true),
            ("cookie", true, true),
            ("content-type", true, true),
            ("vary", true, false),
            ("strict-transport-security", true, false),
            ("access-control-allow-origin", true, false),
            ("x-any", true, true),
        ] {
            assert_eq!(refused_in_request(name).is_none(), request, "request {name}");
            assert_eq!(refused_in_response(name, Use::Set).is_none(), response, "response {name}");
        }
        assert_eq!(refused_in_response("vary", Use::Add), None);
        assert!(refused_in_response("vary", Use::Take).is_some());
        assert_eq!(refused_in_response("access-control-allow-origin", Use::Take), None);
    }
}
