//! Under which name a response is stored: everything that a target is sent and that may change its answer (hazards CACHE-01, -02).
//!
//! A key begins with the URL, which purging goes by; what follows is written with its lengths, so that no two requests of
//! different meaning share one. `HEAD` shares that of `GET`. What `Vary` adds is a key below this one (`vary`). Called for each
//! request of a rule that stores.

use crate::cache::ask::Request;
use crate::cache::settings::{KeySettings, Query};
use crate::http::path::{self, PathPolicy};
use crate::http::{Fields, host, write};

/// The name of what is stored: compared whole, never by a hash alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Vec<u8>);

/// A resource, as a change of it is told: without what a rule makes of its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// `scheme://host:port/path`
    pub base: Vec<u8>,
    /// The query as sent.
    pub query: Option<Vec<u8>>,
}

// Two lengths stand before the URL: of the URL, and of its part before the query.
const LENGTHS: usize = 8;

// What a trusted peer says of the request that it was sent, and targets are told.
const TOLD: [&str; 8] = [
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-path",
    "x-forwarded-uri",
    "x-forwarded-method",
    "x-forwarded-server",
];

impl Key {
    /// Of a request that the rule called `rule` takes.
    pub fn of(settings: &KeySettings, request: &Request<'_>, rule: &str) -> Key {
        let mut key = Key(Vec::with_capacity(256));
        key.set(settings, request, rule);
        key
    }

    /// [`Key::of`] in the room of this one.
    pub fn set(&mut self, settings: &KeySettings, request: &Request<'_>, rule: &str) {
        let out = &mut self.0;
        out.clear();
        out.extend_from_slice(&[0; LENGTHS]);
        let view = &request.view;
        base(out, request.scheme, view.host, request.port, view.path);
        let base = out.len();
        let exact = query(out, &settings.query, request);
        let url = out.len();
        patch(out, 0, url - LENGTHS);
        patch(out, 4, base - LENGTHS);
        out.push(u8::from(exact));
        part(out, rule.as_bytes());
        part(out, request.group.as_bytes());
        out.extend_from_slice(&request.local_port.to_be_bytes());
        // Targets are sent it as it was spelled, and may write it into what they answer. Most clients spell it as the URL has it.
        if request.authority != view.host {
            out.push(1);
            part(out, request.authority);
        }
        out.push(0);
        for name in &settings.headers {
            part(out, name.as_bytes());
            values(out, view.fields.all(name));
        }
        out.push(0);
        for name in &settings.cookies {
            part(out, name.as_bytes());
            let named = view.fields.cookies().filter(|(n, _)| *n == name.as_bytes());
            values(out, named.map(|(_, value)| value));
        }
        if request.trusted {
            told(out, view.fields);
        }
    }

    /// All of it.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// `scheme://host:port/path?query`, the query as far as it is a part of the key.
    pub fn url(&self) -> &[u8] {
        self.0.get(LENGTHS..LENGTHS + self.length(0)).unwrap_or_default()
    }

    /// `scheme://host:port/path`; responses that a change of their resource ends have it in common.
    pub fn base(&self) -> &[u8] {
        self.0.get(LENGTHS..LENGTHS + self.length(4)).unwrap_or_default()
    }

    /// Whether a change of `origin` changes what is stored here. Where the key holds a part of the query only, any query does.
    pub fn is_of(&self, origin: &Origin) -> bool {
        if self.base() != origin.base {
            return false;
        }
        let exact = self.0.get(LENGTHS + self.length(0)) == Some(&1);
        let query = self.url().get(self.base().len()..).unwrap_or_default();
        !exact || query.strip_prefix(b"?") == origin.query.as_deref()
    }

    fn length(&self, at: usize) -> usize {
        let octets = self.0.get(at..at + 4).and_then(|four| four.try_into().ok());
        octets.map_or(0, |four| u32::from_be_bytes(four) as usize)
    }
}

impl Origin {
    /// What a request is about.
    pub fn of(request: &Request<'_>) -> Origin {
        let view = &request.view;
        let mut base = Vec::new();
        self::base(&mut base, request.scheme, view.host, request.port, view.path);
        Origin { base, query: view.query.map(<[u8]>::to_vec) }
    }

    /// What an absolute URL names, made canonical as a request's, whose paths are read as `paths` says; `None` for what no request
    /// could name.
    pub fn parse(url: &[u8], paths: PathPolicy) -> Option<Origin> {
        let url = url.split(|b| *b == b'#').next()?;
        let at = memchr::memmem::find(url, b"://")?;
        let (scheme, rest) = (url.get(..at)?, url.get(at + 3..)?);
        let scheme = match () {
            () if scheme.eq_ignore_ascii_case(b"http") => "http",
            () if scheme.eq_ignore_ascii_case(b"https") => "https",
            () => return None,
        };
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let mut name = Vec::new();
        let port = host::canonical(authority, &mut name).ok()?;
        let (way, query) = match memchr::memchr(b'?', rest) {
            Some(at) => (rest.get(..at)?, rest.get(at + 1..)),
            None => (rest, None),
        };
        let way = if way.is_empty() { b"/" } else { way };
        let mut canonical = Vec::new();
        let keep = PathPolicy { keep_separators: true, ..paths };
        let rewritten = path::canonical(way, keep, &mut canonical).ok()?;
        let way = if rewritten { canonical.as_slice() } else { way };
        let mut base = Vec::new();
        self::base(&mut base, scheme, &name, port, way);
        Some(Origin { base, query: query.map(<[u8]>::to_vec) })
    }

    /// `scheme://host:port`: what the origin of both has to be for one to say that the other has changed.
    pub fn authority(&self) -> &[u8] {
        let start = memchr::memmem::find(&self.base, b"://").map_or(0, |at| at + 3);
        let rest = self.base.get(start..).unwrap_or_default();
        let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
        self.base.get(..start + end).unwrap_or_default()
    }
}

fn base(out: &mut Vec<u8>, scheme: &str, host: &[u8], port: Option<u16>, path: &[u8]) {
    let usual = if scheme == "https" { 443 } else { 80 };
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    out.extend_from_slice(host);
    out.push(b':');
    write::number(out, u64::from(port.unwrap_or(usual)));
    out.extend_from_slice(path);
}

// The part of the query that counts, and whether that is all of it.
fn query(out: &mut Vec<u8>, settings: &Query, request: &Request<'_>) -> bool {
    let Some(sent) = request.view.query else { return matches!(settings, Query::All) };
    let chosen: &dyn Fn(&[u8]) -> bool = match settings {
        Query::None => return false,
        // A target that splits at `;` too reads a parameter where none was seen here: then all of it counts.
        _ if sent.contains(&b';') => &|_| true,
        Query::All => &|_| true,
        Query::Only(names) => &|name| is_named(names, name),
        Query::Except(names) => &|name| !is_named(names, name),
    };
    if matches!(settings, Query::All) || sent.contains(&b';') {
        out.push(b'?');
        out.extend_from_slice(sent);
        return matches!(settings, Query::All);
    }
    let mut before = b'?';
    for pair in sent.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
        if chosen(name) {
            out.push(before);
            out.extend_from_slice(pair);
            before = b'&';
        }
    }
    false
}

// Targets read `%61` as `a`: so does whoever decides whether it counts.
fn is_named(names: &[String], sent: &[u8]) -> bool {
    let plain: Vec<u8> = sent.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let decoded: Vec<u8> = percent_encoding::percent_decode(&plain).collect();
    names.iter().any(|name| name.as_bytes() == decoded)
}

fn told(out: &mut Vec<u8>, fields: Fields<'_>) {
    for (at, name) in (1_u8..).zip(TOLD) {
        for value in fields.all(name) {
            out.push(at);
            part(out, value);
        }
    }
    // Who is asked for differs with every client; host and protocol do not (RFC 7239 section 5).
    let pairs = fields.all("forwarded").flat_map(|line| line.split(|b| matches!(b, b',' | b';')));
    for pair in pairs.map(<[u8]>::trim_ascii) {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"for") && !name.eq_ignore_ascii_case(b"by") {
            out.push(u8::MAX);
            part(out, pair);
        }
    }
}

fn values<'a>(out: &mut Vec<u8>, values: impl Iterator<Item = &'a [u8]>) {
    for value in values {
        out.push(1);
        part(out, value);
    }
    out.push(0);
}

pub(super) fn part(out: &mut Vec<u8>, octets: &[u8]) {
    out.extend_from_slice(&u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(octets);
}

fn patch(out: &mut [u8], at: usize, value: usize) {
    if let Some(room) = out.get_mut(at..at + 4) {
        room.copy_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::RequestView;
    use crate::http::fields::OwnedFields;
    use std::net::{IpAddr, Ipv4Addr};

    #[derive(Clone)]
    struct Asked {
        settings: KeySettings,
        scheme: &'static str,
        host: &'static str,
        authority: &'static str,
        port: Option<u16>,
        local_port: u16,
        group: &'static str,
        path: &'static str,
        query: Option<&'static str>,
        fields: Vec<(&'static str, &'static str)>,
        trusted: bool,
        rule: &'static str,
    }

    fn asked() -> Asked {
        Asked {
            settings: KeySettings::default(),
            scheme: "http",
            host: "a.test",
            authority: "a.test",
            port: None,
            local_port: 80,
            group: "",
            path: "/x",
            query: None,
            fields: Vec::new(),
            trusted: false,
            rule: "r",
        }
    }

    fn with<T>(asked: &Asked, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let fields: OwnedFields = asked.fields.iter().copied().collect();
        let view = RequestView {
            method: b"GET",
            host: asked.host.as_bytes(),
            path: asked.path.as_bytes(),
            query: asked.query.map(str::as_bytes),
            fields: fields.view(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        act(&Request {
            view,
            scheme: asked.scheme,
            port: asked.port,
            authority: asked.authority.as_bytes(),
            local_port: asked.local_port,
            group: asked.group,
            trusted: asked.trusted,
            identified: false,
            has_body: false,
        })
    }

    fn key(asked: &Asked) -> Key {
        with(asked, |request| Key::of(&asked.settings, request, asked.rule))
    }

    fn url(asked: &Asked) -> String {
        String::from_utf8(key(asked).url().to_vec()).unwrap()
    }

    #[test]
    fn cache_01_scheme_host_port_path_query_and_rule_tell_apart() {
        let one = asked();
        let all = [
            one.clone(),
            Asked { scheme: "https", ..one.clone() },
            Asked { host: "b.test", ..one.clone() },
            Asked { port: Some(81), ..one.clone() },
            Asked { path: "/X", ..one.clone() },
            Asked { path: "/x/", ..one.clone() },
            Asked { query: Some(""), ..one.clone() },
            Asked { query: Some("a=1"), ..one.clone() },
            Asked { query: Some("a=1&b=2"), ..one.clone() },
            Asked { query: Some("b=2&a=1"), ..one.clone() },
            Asked { rule: "s", ..one.clone() },
            Asked { group: "g", ..one.clone() },
        ];
        for (at, a) in all.iter().enumerate() {
            for (other, b) in all.iter().enumerate() {
                assert_eq!(key(a) == key(b), at == other, "{at} {other}");
            }
        }
        assert_eq!(key(&one), key(&Asked { port: Some(80), ..one.clone() }));
        assert_eq!(url(&one), "http://a.test:80/x");
        assert_eq!(url(&Asked { query: Some(""), ..one }), "http://a.test:80/x?");
    }

    #[test]
    fn the_part_of_the_query_that_counts() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let check = |settings: Query, query: &'static str, expected: &str| {
            let settings = KeySettings { query: settings, ..KeySettings::default() };
            let asked = Asked { settings, query: Some(query), ..asked() };
            assert_eq!(url(&asked), format!("http://a.test:80/x{expected}"), "{query}");
        };
        let (only, except) = (Query::Only(names(&["a", "b c"])), Query::Except(names(&["a"])));
        for (query, all, some, others) in [
            ("a=1&z=2", "?a=1&z=2", "?a=1", "?z=2"),
            ("z=2&a=1&a=3", "?z=2&a=1&a=3", "?a=1&a=3", "?z=2"),
            ("%61=1", "?%61=1", "?%61=1", ""),
            ("b+c=1&b%20c", "?b+c=1&b%20c", "?b+c=1&b%20c", "?b+c=1&b%20c"),
            ("A=1", "?A=1", "", "?A=1"),
            ("", "?", "", ""),
            // Some targets split here too: nothing is left out then.
            ("a=1;z=2", "?a=1;z=2", "?a=1;z=2", "?a=1;z=2"),
        ] {
            check(Query::All, query, all);
            check(only.clone(), query, some);
            check(except.clone(), query, others);
            check(Query::None, query, "");
        }
        // What does not count may be left out, and its sign with it.
        for settings in [only, except] {
            let key = |query| {
                let settings = KeySettings { query: settings.clone(), ..KeySettings::default() };
                key(&Asked { settings, query, ..asked() })
            };
            let other = if matches!(settings, Query::Only(_)) { "z=1" } else { "a=1" };
            assert!([Some(""), Some(other)].iter().all(|query| key(*query) == key(None)));
        }
    }

    #[test]
    fn cache_02_chosen_fields_and_cookies_tell_apart() {
        let settings = KeySettings {
            headers: vec!["x-a".to_owned(), "x-b".to_owned()],
            cookies: vec!["c".to_owned()],
            ..KeySettings::default()
        };
        let of = |fields: &[(&'static str, &'static str)]| {
            let settings = settings.clone();
            key(&Asked { settings, fields: fields.to_vec(), ..asked() })
        };
        assert_eq!(of(&[("x-other", "1"), ("cookie", "d=1")]), of(&[]));
        assert_eq!(of(&[("X-A", "1")]), of(&[("x-a", "1"), ("x-c", "2")]));
        let apart = [
            of(&[]),
            of(&[("x-a", "")]),
            of(&[("x-a", "1")]),
            of(&[("x-b", "1")]),
            of(&[("x-a", "1"), ("x-a", "2")]),
            of(&[("x-a", "12")]),
            of(&[("x-a", "1"), ("x-b", "2")]),
            of(&[("cookie", "c=1")]),
            of(&[("cookie", "c=1; c=2")]),
            of(&[("cookie", "c=12")]),
        ];
        for (at, a) in apart.iter().enumerate() {
            for (other, b) in apart.iter().enumerate() {
                assert_eq!(a == b, at == other, "{at} {other}");
            }
        }
    }

    /// What is sent as `Host`, `X-Forwarded-Host` and `X-Forwarded-Port`: a target may answer with where it redirects to.
    #[test]
    fn cache_02_how_a_host_is_spelled_and_where_it_was_reached_tell_apart_under_one_url() {
        let one = asked();
        let apart = [
            one.clone(),
            Asked { authority: "A.test", ..one.clone() },
            Asked { authority: "a.test.", ..one.clone() },
            Asked { authority: "a.test:80", port: Some(80), ..one.clone() },
            Asked { local_port: 8080, ..one.clone() },
        ];
        for (at, a) in apart.iter().enumerate() {
            for (other, b) in apart.iter().enumerate() {
                assert_eq!(key(a) == key(b), at == other, "{at} {other}");
            }
            assert_eq!(url(a), "http://a.test:80/x");
            assert!(
                key(a).is_of(&Origin::parse(b"http://a.test/x", PathPolicy::default()).unwrap()),
                "{at}"
            );
        }
    }

    #[test]
    fn cache_02_every_line_of_what_trusted_peers_say_counts() {
        let of = |fields: &[(&'static str, &'static str)]| {
            key(&Asked { fields: fields.to_vec(), trusted: true, ..asked() })
        };
        for name in TOLD {
            let one = of(&[(name, "a")]);
            assert_ne!(of(&[(name, "a"), (name, "b")]), one, "{name}: all of them are sent on");
            assert_ne!(
                of(&[(name, ""), (name, "b")]),
                of(&[(name, "")]),
                "{name}: empty ones are not"
            );
        }
    }

    #[test]
    fn cache_02_what_trusted_peers_say_is_what_targets_see() {
        let told = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-prefix", "/p"),
            ("forwarded", "for=1.2.3.4;host=evil.test"),
        ];
        for pair in told {
            let plain = Asked { fields: vec![pair], ..asked() };
            assert_eq!(key(&plain), key(&asked()), "{pair:?}: held back from targets");
            let trusted = Asked { trusted: true, ..plain };
            assert_ne!(key(&trusted), key(&Asked { trusted: true, ..asked() }), "{pair:?}");
        }
        let client = Asked { fields: vec![("forwarded", "for=1.2.3.4")], trusted: true, ..asked() };
        assert_eq!(key(&client), key(&Asked { trusted: true, ..asked() }));
    }

    #[test]
    fn a_change_is_one_of_the_same_resource() {
        let mut exact = asked();
        exact.query = Some("a=1");
        let origin = |query| with(&Asked { query, ..asked() }, Origin::of);
        assert!(key(&exact).is_of(&origin(Some("a=1"))));
        for other in [None, Some(""), Some("a=2")] {
            assert!(!key(&exact).is_of(&origin(other)), "{other:?}");
        }
        let mut partly = exact.clone();
        partly.settings.query = Query::Except(vec!["z".to_owned()]);
        assert!(key(&partly).is_of(&origin(Some("a=2"))));
        assert!(!key(&partly).is_of(&with(&Asked { path: "/y", ..asked() }, Origin::of)));
        assert!(
            key(&asked())
                .is_of(&Origin::parse(b"http://A.test/x#f", PathPolicy::default()).unwrap())
        );
        assert!(
            !key(&asked())
                .is_of(&Origin::parse(b"https://a.test/x", PathPolicy::default()).unwrap())
        );
        let split = key(&Asked { path: "/a//b", ..asked() });
        for merge_slashes in [true, false] {
            let paths = PathPolicy { merge_slashes, ..PathPolicy::default() };
            let named = Origin::parse(b"http://a.test/a//b", paths).unwrap();
            assert_eq!(split.is_of(&named), !merge_slashes, "as the path of a request is read");
        }
    }
}
