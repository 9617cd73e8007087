//! What a cache goes by: Cache-Control against a reading octet by octet, keys that are the same only for the same request, ages and
//! ranges that stay within their bounds, and no way to store what says that it is private.
//!
//! Each line of the input is one value of `Cache-Control`, and a part of two requests.

use ringgate::base::Tick;
use ringgate::cache::control::Directives;
use ringgate::cache::range::{self, Slice};
use ringgate::cache::{
    Ask, Key, KeySettings, Origin, Query, Request, Settings, Times, Verdict, judge, storable,
};
use ringgate::http::path::PathPolicy;
use ringgate::http::{Field, Fields, Known, RequestView, Span};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const MOST: u64 = 1 << 31;

/// See the module's documentation.
pub fn caching(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
    directives(&lines);
    keys(&lines);
    stored(&lines);
    for line in &lines {
        ranges(line);
        let _ = Origin::parse(line, PathPolicy::default());
    }
}

fn directives(lines: &[&[u8]]) {
    let read = Directives::of(lines.iter().copied());
    let slow = Slow::of(lines);
    let shown = || lines.iter().map(|line| line.escape_ascii().to_string()).collect::<Vec<_>>();
    assert_eq!(read.malformed, slow.malformed, "{:?}", shown());
    for (name, fast) in [
        ("no-store", read.no_store),
        ("private", read.private),
        ("public", read.public),
        ("must-revalidate", read.must_revalidate),
        ("proxy-revalidate", read.proxy_revalidate),
        ("only-if-cached", read.only_if_cached),
    ] {
        assert_eq!(fast, slow.values(name).next().is_some(), "{name} in {:?}", shown());
    }
    for (name, fast) in [("max-age", read.max_age), ("s-maxage", read.s_maxage)] {
        let least = slow.values(name).map(seconds).min();
        assert_eq!(fast.map(|time| time.as_secs()), least, "{name} in {:?}", shown());
    }
    // In whatever order lines come, the same is allowed.
    let turned = Directives::of(lines.iter().rev().copied());
    assert_eq!(
        (turned.max_age, turned.no_cache, turned.max_stale, turned.min_fresh),
        (read.max_age, read.no_cache, read.max_stale, read.min_fresh)
    );
}

/// Names in lower case with their values, quotes and escapes as they came.
#[derive(Default)]
struct Slow {
    members: Vec<(String, Option<Vec<u8>>)>,
    malformed: bool,
}

impl Slow {
    fn of(lines: &[&[u8]]) -> Slow {
        let mut slow = Slow::default();
        for line in lines {
            let mut member = Vec::new();
            let (mut quoted, mut escaped) = (false, false);
            for octet in line.iter().copied() {
                match octet {
                    b',' if !quoted => slow.add(&std::mem::take(&mut member)),
                    _ => {
                        // Only behind the first `=` is a quote the begin of a string.
                        let begins = octet == b'"' && !quoted && {
                            let ends = member.ends_with(b"=");
                            ends && member.iter().filter(|b| **b == b'=').count() == 1
                        };
                        if begins {
                            quoted = true;
                            escaped = false;
                        } else if quoted {
                            if octet == b'"' && !escaped {
                                quoted = false;
                            }
                            escaped = octet == b'\\' && !escaped;
                        }
                        member.push(octet);
                    }
                }
            }
            if quoted {
                slow.malformed = true;
            } else {
                slow.add(&member);
            }
        }
        slow
    }

    fn add(&mut self, member: &[u8]) {
        let member = member.trim_ascii();
        if member.is_empty() {
            return;
        }
        let (name, value) = match member.iter().position(|b| *b == b'=') {
            Some(at) => (&member[..at], Some(member[at + 1..].to_vec())),
            None => (member, None),
        };
        let name = name.trim_ascii_end();
        let fits = match &value {
            None => true,
            Some(value) if value.is_empty() => true,
            Some(value) if value[0] == b'"' => {
                // One string, and nothing behind it.
                let mut escaped = false;
                let end = value.iter().skip(1).position(|b| {
                    let end = *b == b'"' && !escaped;
                    escaped = *b == b'\\' && !escaped;
                    end
                });
                end.is_some_and(|end| end + 2 == value.len())
            }
            Some(value) => token(value),
        };
        // A string with something behind it is told as malformed, and heeded still.
        let heeded = fits || value.as_ref().is_some_and(|value| value.first() == Some(&b'"'));
        self.malformed |= !fits || !token(name);
        if heeded && token(name) {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            self.members.push((name, value.map(unquoted)));
        }
    }

    fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = Option<&'s [u8]>> {
        let same = move |(n, _): &&(String, Option<Vec<u8>>)| n == name;
        self.members.iter().filter(same).map(|(_, value)| value.as_deref())
    }
}

fn token(text: &[u8]) -> bool {
    let marks = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || marks.contains(b))
}

fn unquoted(value: Vec<u8>) -> Vec<u8> {
    let Some(inner) = value.strip_prefix(b"\"") else { return value };
    let mut escaped = false;
    let end = inner.iter().position(|b| {
        let end = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        end
    });
    inner[..end.unwrap_or(inner.len())].to_vec()
}

fn seconds(value: Option<&[u8]>) -> u64 {
    let text = value.and_then(|value| std::str::from_utf8(value).ok()).unwrap_or("x");
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    text.trim_start_matches('0').parse::<u128>().map_or_else(
        |_| if text.bytes().all(|b| b == b'0') { 0 } else { MOST },
        |number| u64::try_from(number).unwrap_or(MOST).min(MOST),
    )
}

// Two requests of the lines: their keys are the same if all of their parts are.
fn keys(lines: &[&[u8]]) {
    let half = lines.len() / 2;
    let (a, b) = (Parts::of(&lines[..half]), Parts::of(&lines[half..]));
    let settings = KeySettings {
        query: Query::All,
        headers: vec!["x".to_owned(), "y".to_owned()],
        cookies: Vec::new(),
    };
    let (one, other) = (a.key(&settings), b.key(&settings));
    assert_eq!(one == other, a == b, "{a:?} {b:?}");
    assert_eq!(one.url(), [one.base(), a.tail().as_slice()].concat());
    assert!(one.is_of(&a.with(Origin::of)) && (one.base() != other.base() || a.path == b.path));
    for query in
        [Query::None, Query::Only(vec!["a".to_owned()]), Query::Except(vec!["a".to_owned()])]
    {
        let partly = a.key(&KeySettings { query, ..settings.clone() });
        assert!(partly.is_of(&a.with(Origin::of)) && one.url().starts_with(partly.base()));
    }
}

#[derive(Debug, PartialEq)]
struct Parts {
    path: Vec<u8>,
    query: Option<Vec<u8>>,
    x: Vec<Vec<u8>>,
    y: Vec<Vec<u8>>,
}

impl Parts {
    // A path has no `?`: the head parser sees to it.
    fn of(lines: &[&[u8]]) -> Parts {
        let path: Vec<u8> = lines.first().copied().unwrap_or_default().to_vec();
        let path = path.into_iter().filter(|b| *b != b'?').collect();
        let query = lines.get(1).filter(|line| !line.is_empty()).map(|line| line.to_vec());
        let mut parts = Parts { path, query, x: Vec::new(), y: Vec::new() };
        for line in lines.iter().skip(2) {
            match line.split_first() {
                Some((b'x', rest)) => parts.x.push(rest.to_vec()),
                Some((b'y', rest)) => parts.y.push(rest.to_vec()),
                _ => {}
            }
        }
        parts
    }

    fn tail(&self) -> Vec<u8> {
        self.query.as_ref().map(|query| [b"?", query.as_slice()].concat()).unwrap_or_default()
    }

    fn key(&self, settings: &KeySettings) -> Key {
        self.with(|request| Key::of(settings, request, "rule"))
    }

    fn with<T>(&self, act: impl FnOnce(&Request<'_>) -> T) -> T {
        let named = |name, values: &[Vec<u8>]| -> Vec<(&'static str, Vec<u8>)> {
            values.iter().map(|value| (name, value.clone())).collect()
        };
        let (buf, list) = head(&[named("x", &self.x), named("Y", &self.y)].concat());
        let view = RequestView {
            method: b"GET",
            host: b"a.test",
            path: &self.path,
            query: self.query.as_deref(),
            fields: Fields::new(&buf, &list),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        act(&Request {
            view,
            scheme: "https",
            port: None,
            authority: b"a.test",
            local_port: 443,
            group: "",
            trusted: false,
            identified: false,
            has_body: false,
        })
    }
}

fn head(pairs: &[(&'static str, Vec<u8>)]) -> (Vec<u8>, Vec<Field>) {
    let (mut buf, mut list) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        let mut add = |octets: &[u8]| {
            let start = buf.len() as u32;
            buf.extend_from_slice(octets);
            Span { start, end: buf.len() as u32 }
        };
        let (name_span, value_span) = (add(name.as_bytes()), add(value));
        let known = Known::of(name.as_bytes());
        list.push(Field { name: name_span, value: value_span, known });
    }
    (buf, list)
}

fn stored(lines: &[&[u8]]) {
    let mut pairs: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for line in lines {
        let name = match line.first() {
            Some(b'0') => "age",
            Some(b'1') => "date",
            Some(b'2') => "expires",
            Some(b'3') => "vary",
            Some(b'4') => "cdn-cache-control",
            _ => "cache-control",
        };
        let value = if name == "cache-control" { *line } else { &line[1..] };
        pairs.push((name, value.to_vec()));
    }
    let (buf, list) = head(&pairs);
    let fields = Fields::new(&buf, &list);
    let settings = Settings { max_ttl: Duration::from_secs(500), ..Settings::default() };
    let now = Tick::ZERO.after(Duration::from_secs(1000));
    let times = Times { asked: now, received: now, unix: 1_000_000_000 };
    let Ok(meta) = storable(&settings, &Ask::default(), 200, fields, times) else { return };
    let general = pairs.iter().all(|(name, _)| *name != "cdn-cache-control");
    let said = Slow::of(&lines.iter().filter(|l| !is_other(l)).copied().collect::<Vec<_>>());
    if general {
        let must_understand = said.values("must-understand").next().is_some();
        assert!(said.values("private").next().is_none() && !said.malformed);
        assert!(said.values("no-store").next().is_none() || must_understand);
    }
    assert!(meta.age.as_secs() <= MOST + MOST && meta.ttl(now) <= 500);
    // Fresh it is for as long as the rule allows, and never again.
    let later = now.after(Duration::from_secs(500));
    assert_ne!(judge(&meta, &Ask::default(), later), Verdict::Fresh);
}

fn is_other(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'0'..=b'4'))
}

fn ranges(line: &[u8]) {
    for length in [0, 1, 10, u64::MAX] {
        match range::of(line, length) {
            Slice::Part(part) => assert!(part.start < part.end && part.end <= length),
            Slice::Unsatisfiable | Slice::Whole => {}
        }
    }
}
