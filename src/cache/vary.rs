//! Which fields of a request have chosen a response (RFC 9111 section 4.1), and the key that their values are.
//!
//! Values are compared as sent, but for what their syntax says to mean the same: the lines of one field are one list, and in the
//! four fields of negotiation case and white space do not count. Called by `storable`, and to choose among stored responses.

use crate::cache::key::part;
use crate::http::Fields;

/// The variants of one key that are stored at the same time: the oldest makes room (hazard CACHE-06).
pub const MOST_VARIANTS: usize = 64;

// A response that depends on more is not stored.
const MOST_NAMES: usize = 16;

/// The names of `Vary`: in lower case, each once, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vary(Vec<Box<str>>);

impl Vary {
    /// What a response depends on; `None` if on more than its request says (`*`), or on what cannot be told.
    pub fn of(fields: Fields<'_>) -> Option<Vary> {
        let mut names = Vec::new();
        let listed = fields.all("vary").flat_map(|line| line.split(|b| *b == b','));
        for name in listed.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            let wild = name == b"*";
            if wild || !crate::http::request::is_token(name) || names.len() > 4 * MOST_NAMES {
                return None;
            }
            names.push(String::from_utf8_lossy(name).to_ascii_lowercase().into_boxed_str());
        }
        names.sort_unstable();
        names.dedup();
        (names.len() <= MOST_NAMES).then_some(Vary(names))
    }

    /// The names.
    pub fn names(&self) -> &[Box<str>] {
        &self.0
    }

    /// Whether every request will do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it depends on the field of this name, in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|n| &**n == name)
    }

    /// It does not depend on the field of this name, in lower case, whatever it says.
    pub fn leave_out(&mut self, name: &str) {
        self.0.retain(|n| &**n != name);
    }

    /// Appends what a request's fields of these names say. A stored response answers a request whose key is the same.
    pub fn secondary(&self, request: Fields<'_>, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        for name in &self.0 {
            value.clear();
            let mut lines = 0;
            for line in request.all(name) {
                if lines > 0 {
                    value.extend_from_slice(b", ");
                }
                value.extend_from_slice(line);
                lines += 1;
            }
            // That there is none is not the same as that it is empty.
            out.push(u8::from(lines > 0));
            part(out, &normal(name, &value));
        }
    }

    /// [`Vary::secondary`] in octets of its own.
    pub fn key(&self, request: Fields<'_>) -> Box<[u8]> {
        let mut out = Vec::new();
        self.secondary(request, &mut out);
        out.into_boxed_slice()
    }
}

fn normal(name: &str, value: &[u8]) -> Vec<u8> {
    let negotiates =
        matches!(name, "accept" | "accept-encoding" | "accept-language" | "accept-charset");
    // A quoted string may hold anything.
    if !negotiates || value.contains(&b'"') {
        return value.to_vec();
    }
    let kept = value.iter().filter(|b| !matches!(b, b' ' | b'\t'));
    let plain: Vec<u8> = kept.map(u8::to_ascii_lowercase).collect();
    let mut items: Vec<&[u8]> = plain.split(|b| *b == b',').filter(|i| !i.is_empty()).collect();
    // Preference among codings is a matter of weights alone (RFC 9110 section 12.5.3).
    if name == "accept-encoding" {
        items.sort_unstable();
        items.dedup();
    }
    items.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    fn vary(lines: &[&str]) -> Option<Vary> {
        let fields: OwnedFields = lines.iter().map(|line| ("vary", *line)).collect();
        Vary::of(fields.view())
    }

    fn names(lines: &[&str]) -> Option<String> {
        vary(lines).map(|vary| vary.names().join(" "))
    }

    #[test]
    fn names_are_one_ordered_list_rfc9111_4_1() {
        for (lines, expected) in [
            (&[][..], Some("")),
            (&[""], Some("")),
            (&["Accept"], Some("accept")),
            (&["B, a", "A,c"], Some("a b c")),
            (&["a,,b"], Some("a b")),
            (&["*"], None),
            (&["a, *"], None),
            (&["a", "*"], None),
            (&["a b"], None),
            (&["a;b"], None),
        ] {
            assert_eq!(names(lines).as_deref(), expected, "{lines:?}");
        }
        let many: Vec<String> = (0..=MOST_NAMES).map(|n| format!("x{n}")).collect();
        assert_eq!(names(&[&many.join(",")]), None);
        assert!(names(&[&many[1..].join(",")]).is_some());
    }

    fn same(name: &str, a: &[&str], b: &[&str], expected: bool) {
        let fields = |values: &[&str]| -> OwnedFields {
            values.iter().map(|value| (name, *value)).collect()
        };
        let vary = vary(&[name]).unwrap();
        let (one, other) = (fields(a), fields(b));
        let equal = vary.key(one.view()) == vary.key(other.view());
        assert_eq!(equal, expected, "{name}: {a:?} {b:?}");
    }

    #[test]
    fn values_match_where_their_syntax_says_so() {
        for (name, a, b, expected) in [
            ("foo", &["1"][..], &["1"][..], true),
            ("foo", &["1"], &["2"], false),
            ("foo", &[], &[], true),
            ("foo", &[], &[""], false),
            ("foo", &["1", "2"], &["1, 2"], true),
            ("foo", &["1", "2"], &["2", "1"], false),
            ("foo", &["a"], &["A"], false),
            ("foo", &["a b"], &["a  b"], false),
            ("accept-encoding", &["gzip, br"], &["BR,gzip"], true),
            ("accept-encoding", &["gzip, br;q=0.5"], &["br; q=0.5, gzip"], true),
            ("accept-encoding", &["gzip"], &["br"], false),
            ("accept-encoding", &["gzip;q=0"], &["gzip"], false),
            ("accept-language", &["de, en"], &["DE,en"], true),
            ("accept-language", &["de, en"], &["en, de"], false),
            ("accept", &["a/b;c=\"X\""], &["a/b;c=\"x\""], false),
        ] {
            same(name, a, b, expected);
        }
    }

    #[test]
    fn values_of_different_fields_are_not_mixed_up() {
        let vary = vary(&["a, b"]).unwrap();
        let key = |pairs: &[(&str, &str)]| {
            let fields: OwnedFields = pairs.iter().copied().collect();
            vary.key(fields.view())
        };
        assert_ne!(key(&[("a", "xy"), ("b", "z")]), key(&[("a", "x"), ("b", "yz")]));
        assert_ne!(key(&[("a", "x")]), key(&[("b", "x")]));
    }
}
