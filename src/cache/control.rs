//! `Cache-Control`, of requests and responses (RFC 9111 section 5.2, RFC 5861, RFC 8246).
//!
//! Read strictly: what is said twice holds in its more restrictive form, a number that is
//! none is zero, and what cannot be told apart at all makes the response not storable. Called by `ask` and `storable`.

use crate::http::request::is_token;
use std::borrow::Cow;
use std::time::Duration;

/// What is said, together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the directive of that name")]
pub struct Directives<'a> {
    pub max_age: Option<Duration>,
    pub s_maxage: Option<Duration>,
    pub no_store: bool,
    /// Without field names.
    pub no_cache: bool,
    /// Lists of field names that `no-cache` has: these are not given again before a validation.
    pub withheld: Vec<Cow<'a, [u8]>>,
    /// With or without field names.
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
    pub stale_while_revalidate: Option<Duration>,
    pub stale_if_error: Option<Duration>,
    pub only_if_cached: bool,
    pub min_fresh: Option<Duration>,
    pub max_stale: Option<MaxStale>,
    /// Something cannot be told apart.
    pub malformed: bool,
}

/// How stale a response may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// However stale.
    Any,
    /// So long past its freshness.
    For(Duration),
}

/// What is more than it can say is this (RFC 9111 section 1.2.2), in seconds.
pub const MOST_SECONDS: u64 = 1 << 31;

/// The value of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// There is none.
    None,
    /// Plain.
    Token(&'a [u8]),
    /// What stands between the quotes, as it stands there.
    Quoted(&'a [u8]),
    /// A number of a structured field.
    Seconds(u64),
    /// Something of a structured field that no directive takes.
    Wrong,
}

impl<'a> Directives<'a> {
    /// What the field lines say.
    pub fn of(lines: impl Iterator<Item = &'a [u8]>) -> Directives<'a> {
        let mut said = Directives::default();
        for line in lines {
            let mut rest = line;
            while let Some(more) = said.member(rest) {
                rest = more;
            }
        }
        said
    }

    /// Takes up one directive.
    pub fn take(&mut self, name: &[u8], value: Value<'a>) {
        let mut lower = [0; 24];
        let Some(room) = lower.get_mut(..name.len()) else { return };
        room.copy_from_slice(name);
        room.make_ascii_lowercase();
        match &*room {
            b"max-age" => least(&mut self.max_age, value.seconds()),
            b"s-maxage" => least(&mut self.s_maxage, value.seconds()),
            b"no-store" => self.no_store = true,
            b"no-cache" => match value {
                Value::Quoted(names) if !names.trim_ascii().is_empty() => {
                    self.withheld.push(Cow::Borrowed(names));
                }
                _ => self.no_cache = true,
            },
            b"private" => self.private = true,
            b"public" => self.public = true,
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable = true,
            b"stale-while-revalidate" => least(&mut self.stale_while_revalidate, value.seconds()),
            b"stale-if-error" => least(&mut self.stale_if_error, value.seconds()),
            b"only-if-cached" => self.only_if_cached = true,
            b"min-fresh" => {
                let more = self.min_fresh.map_or(value.seconds(), |had| had.max(value.seconds()));
                self.min_fresh = Some(more);
            }
            b"max-stale" => {
                let new = match value {
                    Value::None => None,
                    _ => Some(value.seconds()),
                };
                self.max_stale = Some(match (self.max_stale, new) {
                    (None | Some(MaxStale::Any), None) => MaxStale::Any,
                    (None | Some(MaxStale::Any), Some(new)) => MaxStale::For(new),
                    (Some(MaxStale::For(had)), new) => {
                        MaxStale::For(new.map_or(had, |new| new.min(had)))
                    }
                });
            }
            _ => {}
        }
    }

    // Reads one member of a list; yields what stands behind it.
    fn member(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let text = text.trim_ascii_start();
        let first = *text.first()?;
        if first == b',' {
            return text.get(1..);
        }
        let end = text.iter().position(|b| matches!(b, b'=' | b',')).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let mut rest = rest;
        let mut value = Value::None;
        if let [b'=', b'"', quoted @ ..] = rest {
            let Some(end) = quoted_end(quoted) else {
                self.malformed = true;
                return None;
            };
            value = Value::Quoted(quoted.get(..end).unwrap_or_default());
            rest = quoted.get(end + 1..).unwrap_or_default().trim_ascii_start();
            if !matches!(rest.first(), None | Some(b',')) {
                self.malformed = true;
                rest = after_comma(rest);
            }
        } else if let [b'=', plain @ ..] = rest {
            let end = memchr::memchr(b',', plain).unwrap_or(plain.len());
            let (token, more) = plain.split_at(end);
            value = Value::Token(token.trim_ascii_end());
            rest = more;
        }
        let name = name.trim_ascii_end();
        let plain = !matches!(value, Value::Token(token) if !token.is_empty() && !is_token(token));
        if is_token(name) && plain {
            self.take(name, value);
        } else {
            self.malformed = true;
        }
        Some(rest)
    }
}

impl Value<'_> {
    /// Delta-seconds (RFC 9111 section 1.2.2), quoted or not; zero for what is none.
    pub fn seconds(self) -> Duration {
        let digits = match self {
            Value::None | Value::Wrong => return Duration::ZERO,
            Value::Seconds(number) => return Duration::from_secs(number.min(MOST_SECONDS)),
            Value::Token(text) | Value::Quoted(text) => text,
        };
        Duration::from_secs(seconds(digits).unwrap_or_default())
    }
}

/// Delta-seconds (RFC 9111 section 1.2.2): digits only, at most [`MOST_SECONDS`].
pub fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(MOST_SECONDS);
    Some(digits.iter().fold(0, add))
}

fn least(slot: &mut Option<Duration>, value: Duration) {
    *slot = Some(slot.map_or(value, |had| had.min(value)));
}

// Where the quote is that ends a quoted string.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|b| {
        let end = *b == b'"' && !escaped;
        escaped = *b == b'\\' && !escaped;
        end
    })
}

fn after_comma(text: &[u8]) -> &[u8] {
    memchr::memchr(b',', text).and_then(|at| text.get(at..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&'static str]) -> Directives<'static> {
        Directives::of(lines.iter().map(|line| line.as_bytes()))
    }

    fn max_age(line: &'static str) -> Option<u64> {
        of(&[line]).max_age.map(|age| age.as_secs())
    }

    #[test]
    fn reads_delta_seconds_rfc9111_1_2_2() {
        for (line, expected) in [
            ("max-age=3600", Some(3600)),
            ("Max-Age=3600", Some(3600)),
            ("max-age=0003600", Some(3600)),
            ("max-age=\"3600\"", Some(3600)),
            ("a=b , max-age=1", Some(1)),
            ("max-age=2147483648", Some(1 << 31)),
            ("max-age=2147483649", Some(1 << 31)),
            ("max-age=99999999999999999999999999", Some(1 << 31)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age=-1", Some(0)),
            ("max-age=1.5", Some(0)),
            ("max-age='3600'", Some(0)),
            ("max-age=3600s", Some(0)),
            ("max-age=+3600", Some(0)),
            ("max-age=\"36 00\"", Some(0)),
            ("xmax-age=1", None),
            ("max-agex=1", None),
            ("a=\"max-age=1\"", None),
            ("a=\"b\\\", max-age=1\"", None),
            ("", None),
            (",,,", None),
        ] {
            assert_eq!(max_age(line), expected, "{line}");
            assert!(!of(&[line]).malformed, "{line}");
        }
    }

    #[test]
    fn the_more_restrictive_of_several_holds_rfc9111_4_2_1() {
        assert_eq!(max_age("max-age=10, max-age=5"), Some(5));
        assert_eq!(max_age("max-age=5, max-age=10"), Some(5));
        assert_eq!(max_age("max-age=5, max-age=x"), Some(0));
        let both = of(&["max-age=10, public", "private", "max-age=20"]);
        assert!(both.public && both.private);
        assert_eq!(both.max_age, Some(Duration::from_secs(10)));
        let fresh = of(&["min-fresh=10, min-fresh=20"]).min_fresh;
        assert_eq!(fresh, Some(Duration::from_secs(20)));
        for (line, expected) in [
            ("max-stale", MaxStale::Any),
            ("max-stale=5", MaxStale::For(Duration::from_secs(5))),
            ("max-stale, max-stale=5", MaxStale::For(Duration::from_secs(5))),
            ("max-stale=5, max-stale", MaxStale::For(Duration::from_secs(5))),
            ("max-stale=5, max-stale=3", MaxStale::For(Duration::from_secs(3))),
            ("max-stale=x", MaxStale::For(Duration::ZERO)),
        ] {
            assert_eq!(of(&[line]).max_stale, Some(expected), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_told_apart_is_malformed() {
        for line in [
            "max-age=5; private",
            "private; max-age=5",
            "max-age 5",
            "max-age= 5",
            "max-age=5 private",
            "a=\"b, private",
            "a=\"b\" private",
            "=5",
            "max-age=5,(x)",
        ] {
            assert!(of(&[line]).malformed, "{line}");
        }
        assert!(of(&["a=\"b\" x, private"]).private);
    }

    #[test]
    fn no_cache_withholds_the_fields_that_it_names_rfc9111_5_2_2_4() {
        let named = of(&["no-cache=\"a, b\", no-cache=\"c\""]);
        assert!(!named.no_cache);
        assert_eq!(named.withheld, [&b"a, b"[..], b"c"]);
        for line in ["no-cache", "no-cache=\"\"", "no-cache=a", "no-cache=\"a\", no-cache"] {
            assert!(of(&[line]).no_cache, "{line}");
        }
        assert!(of(&["private=\"a\""]).private);
    }
}
