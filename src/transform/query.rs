//! What becomes of a query: parameters kept, removed, renamed, set, added. Everything else stays as it was sent.
//!
//! Names are compared as they are meant, whatever of them the client has percent-encoded. Called by `rewrite`.

use crate::transform::escape::{self, Coded, Place};
use crate::transform::template::{Facts, Template};
use percent_encoding::percent_decode;

/// As written; applied in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryChanges {
    /// Only these stay; `None` for all.
    pub keep: Option<Vec<String>>,
    /// These go.
    pub remove: Vec<String>,
    /// These get another name.
    pub rename: Vec<(String, String)>,
    /// These get this value, in place of those they have.
    pub set: Vec<(String, Template)>,
    /// These come beside those that are there.
    pub add: Vec<(String, Template)>,
}

impl QueryChanges {
    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().chain(&self.add).map(|(_, value)| value)
    }

    /// Appends what the query becomes, without `?`.
    pub fn apply(&self, facts: &Facts<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        let taken = self.taken(facts);
        let pairs = facts.view.query.unwrap_or_default().split(|b| *b == b'&');
        for pair in pairs.filter(|pair| !pair.is_empty()) {
            let at = memchr::memchr(b'=', pair).unwrap_or(pair.len());
            let (name, value) = pair.split_at(at);
            let name = meant(name);
            let is = |other: &String| other.as_bytes() == name;
            let kept = self.keep.as_ref().is_none_or(|keep| keep.iter().any(is));
            if !kept || self.remove.iter().any(is) || self.set.iter().any(|(n, _)| is(n)) {
                continue;
            }
            match self.rename.iter().find(|(old, _)| is(old)) {
                // What is set has that value alone, under whatever name another came.
                Some((_, new)) if self.set.iter().any(|(set, _)| set == new) => {}
                Some((_, new)) => {
                    separate(start, out);
                    escape::write(new.as_bytes(), Coded::Plain, Place::Parameter, out);
                    out.extend_from_slice(value);
                }
                // A name that it takes over from another is not there twice.
                None if taken.iter().any(|new| is(new)) => {}
                None => {
                    separate(start, out);
                    out.extend_from_slice(pair);
                }
            }
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            separate(start, out);
            escape::write(name.as_bytes(), Coded::Plain, Place::Parameter, out);
            out.push(b'=');
            value.fill(facts, Place::Parameter, out);
        }
    }

    // The names that parameters take which are renamed. Looked up once a query: asked for each parameter, a query of thousands
    // would be read thousands of times (hazard RES-12).
    fn taken(&self, facts: &Facts<'_>) -> Vec<&String> {
        let is_there =
            |old: &str| facts.view.query_pairs().any(|(name, _)| meant(name) == old.as_bytes());
        self.rename.iter().filter(|(old, _)| is_there(old)).map(|(_, new)| new).collect()
    }
}

fn separate(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b'&');
    }
}

fn meant(written: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = written.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use crate::transform::template::Scope;

    #[track_caller]
    fn check(changes: &QueryChanges, query: Option<&str>, expected: &str) {
        let fields: OwnedFields = [("x-a", "a b&c=d\u{e4}")].into_iter().collect();
        let view = RequestView {
            method: b"GET",
            host: b"a.test",
            path: b"/x/y",
            query: query.map(str::as_bytes),
            fields: fields.view(),
            peer: [127, 0, 0, 1].into(),
        };
        let mut out = b"?".to_vec();
        changes.apply(&Facts::of(view), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("?{expected}"), "{query:?}");
    }

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    fn values(pairs: &[(&str, &str)]) -> Vec<(String, Template)> {
        let value = |text: &str| Template::parse(text, Scope::RULE).unwrap();
        pairs.iter().map(|(n, v)| ((*n).to_owned(), value(v))).collect()
    }

    #[test]
    fn parameters_are_kept_removed_renamed_set_and_added() {
        let none = QueryChanges::default;
        check(&none(), Some("a=1&&b&c=%20+"), "a=1&b&c=%20+");
        check(&none(), None, "");
        let remove = QueryChanges { remove: names(&["a", "x y"]), ..none() };
        check(&remove, Some("a=1&%61=2&b=3&x+y=4&x%20y=5&A=6"), "b=3&A=6");
        check(&remove, Some("a=1"), "");
        let keep = QueryChanges { keep: Some(names(&["a"])), ..none() };
        check(&keep, Some("b=1&a=2&c=3&%61=4"), "a=2&%61=4");
        let rename = QueryChanges { rename: vec![("a".to_owned(), "b c".to_owned())], ..none() };
        check(&rename, Some("a=1&x=2&a"), "b%20c=1&x=2&b%20c");
        check(&rename, Some("b+c=0&a=1"), "b%20c=1");
        check(&rename, Some("b+c=0"), "b+c=0");
        let set =
            QueryChanges { set: values(&[("a", "#{header.x-a}"), ("p", "#{path}")]), ..none() };
        check(&set, Some("a=1&b=2&a=3"), "b=2&a=a%20b%26c%3Dd%C3%A4&p=x/y");
        let nested = QueryChanges { set: values(&[("a", "#{query}")]), ..none() };
        check(&nested, Some("x=1&b=%20+"), "x=1&b=%20+&a=x%3D1%26b%3D%2520%2B");
        let add = QueryChanges { add: values(&[("a", "2")]), ..none() };
        check(&add, Some("a=1"), "a=1&a=2");
        check(&add, None, "a=2");
        let all = QueryChanges {
            keep: Some(names(&["a", "b"])),
            remove: names(&["b"]),
            rename: vec![("a".to_owned(), "c".to_owned())],
            set: values(&[("d", "1")]),
            add: values(&[("d", "2")]),
        };
        check(&all, Some("a=1&b=2&c=3&d=4"), "c=1&d=1&d=2");
    }

    #[test]
    fn nothing_comes_beside_a_value_that_is_set() {
        let changes = QueryChanges {
            rename: vec![("user".to_owned(), "uid".to_owned())],
            set: values(&[("uid", "#{header.x-a}")]),
            ..QueryChanges::default()
        };
        let expected = "x=1&uid=a%20b%26c%3Dd%C3%A4";
        for query in ["user=admin&x=1", "uid=admin&x=1", "user=a&uid=b&%75ser=c&x=1", "x=1"] {
            check(&changes, Some(query), expected);
        }
    }

    /// Hazards RES-12 and RT-15: what it costs grows with the query, not with its square. This one would take hours.
    #[test]
    fn a_query_of_very_many_parameters_is_read_few_times() {
        let changes = QueryChanges {
            rename: vec![("q".to_owned(), "s".to_owned())],
            ..QueryChanges::default()
        };
        let many = "s&".repeat(200_000);
        check(&changes, Some(&format!("{many}q=1")), "s=1");
        check(&changes, Some(many.trim_end_matches('&')), many.trim_end_matches('&'));
    }
}
