//! Origins as they are written in lists and in requests, and whether one is on a list (RFC 6454, the HTML standard).
//!
//! Browsers send an origin in one form only: lower-case, without the scheme's own port. So what is compared is octets, never a
//! part of them: `https://evil-example.com` is not `https://example.com` (hazard AUTH-19). Called by `policy::cors` and by the
//! reader of its keys.

use std::net::Ipv6Addr;

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// `*`: every origin.
    Any,
    /// `null`: pages without an origin of their own, such as files and sandboxed frames. Anybody can make one.
    Null,
    /// One origin.
    Exact(String),
    /// `https://*.example.com:8443`: what stands before the `*`, and after it. The `*` is one label.
    Wild(String, String),
}

/// The origins of a list.
#[derive(Debug, Default)]
pub struct Origins {
    /// Whether every origin is on it.
    pub any: bool,
    null: bool,
    // In order.
    exact: Box<[Box<[u8]>]>,
    wild: Box<[Around]>,
}

// What stands before a wildcard, and after it.
type Around = (Box<[u8]>, Box<[u8]>);

/// What [`Pattern::parse`] accepts.
pub const KIND: &str =
    "an origin such as \"https://app.example.com\" or \"https://*.example.com\", \"*\" or \"null\"";

impl Pattern {
    /// Reads an entry.
    ///
    /// # Errors
    /// What may be meant, if that can be told.
    pub fn parse(text: &str) -> Result<Pattern, Option<String>> {
        match text {
            "*" => return Ok(Pattern::Any),
            "null" => return Ok(Pattern::Null),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            let named = is_name(text.trim_start_matches("*.").split(':').next().unwrap_or(text));
            return Err(named.then(|| format!("did you mean \"https://{text}\"?")));
        };
        let scheme = scheme.to_ascii_lowercase();
        if let Some((authority, _)) = rest.split_once('/') {
            return Err(Some(format!(
                "an origin has no path: did you mean \"{scheme}://{authority}\"?"
            )));
        }
        let (host, port) = split_port(rest).ok_or(None)?;
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = match port {
            Some(port) if Some(port) != default => format!(":{port}"),
            _ => String::new(),
        };
        if !is_scheme(&scheme) {
            return Err(None);
        }
        if let Some(above) = host.strip_prefix("*.") {
            // Below one label only, everybody may have a name: *.com.
            let fits = is_name(above) && above.contains('.');
            let below = || Some("a * is the first label, with at least two after it".to_owned());
            let wild = || Pattern::Wild(format!("{scheme}://"), format!(".{above}{port}"));
            return if fits { Ok(wild()) } else { Err(below()) };
        }
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match literal.map(str::parse::<Ipv6Addr>) {
            Some(Ok(address)) => format!("[{address}]"),
            None if is_name(&host) => host,
            _ => return Err(None),
        };
        Ok(Pattern::Exact(format!("{scheme}://{host}{port}")))
    }
}

impl Origins {
    /// The list of these entries.
    pub fn new(patterns: &[Pattern]) -> Origins {
        let (mut exact, mut wild): (Vec<Box<[u8]>>, Vec<_>) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern {
                Pattern::Exact(origin) => exact.push(origin.as_bytes().into()),
                Pattern::Wild(before, after) => {
                    wild.push((before.as_bytes().into(), after.as_bytes().into()));
                }
                Pattern::Any | Pattern::Null => {}
            }
        }
        exact.sort_unstable();
        wild.sort_unstable();
        Origins {
            any: patterns.contains(&Pattern::Any),
            null: patterns.contains(&Pattern::Null),
            exact: exact.into(),
            wild: wild.into(),
        }
    }

    /// Whether an origin, as a request has it, is on the list.
    pub fn admit(&self, origin: &[u8]) -> bool {
        if origin == b"null" {
            return self.null || self.any;
        }
        self.any
            || self.exact.binary_search_by(|one| (**one).cmp(origin)).is_ok()
            || (!self.wild.is_empty() && self.admit_wild(origin))
    }

    fn admit_wild(&self, origin: &[u8]) -> bool {
        // The scheme, which no list has otherwise: the search below compares it whole.
        let slashes = memchr::memchr(b':', origin).and_then(|at| origin.split_at_checked(at + 3));
        let Some((before, rest)) = slashes else { return false };
        let Some(dot) = memchr::memchr(b'.', rest) else { return false };
        let (label, after) = rest.split_at(dot);
        let of_a_label =
            |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        !label.is_empty()
            && label.iter().all(of_a_label)
            && self.wild.binary_search_by(|(b, a)| (&**b, &**a).cmp(&(before, after))).is_ok()
    }
}

/// RFC 3986 section 3.1.
fn is_scheme(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(allowed)
}

/// Labels of letters, digits, `-` and `_`.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed)
    };
    text.len() <= 253 && text.split('.').all(label)
}

// The host in lower case, and the port.
fn split_port(authority: &str) -> Option<(String, Option<u16>)> {
    let lower = authority.to_ascii_lowercase();
    let after_literal = lower.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match lower.get(after_literal..)?.rfind(':') {
        Some(at) => (lower.get(..after_literal + at)?, lower.get(after_literal + at + 1..)),
        None => (lower.as_str(), None),
    };
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    match port {
        Some(port) => Some((host.to_owned(), Some(number(port)?))),
        None => Some((host.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Result<Pattern, Option<String>> {
        Ok(Pattern::Exact(text.to_owned()))
    }

    #[test]
    fn entries_are_read_as_browsers_write_origins() {
        let wild = |b: &str, a: &str| Ok(Pattern::Wild(b.to_owned(), a.to_owned()));
        for (text, expected) in [
            ("*", Ok(Pattern::Any)),
            ("null", Ok(Pattern::Null)),
            ("https://a.test", exact("https://a.test")),
            ("HTTPS://A.Test", exact("https://a.test")),
            ("https://a.test:443", exact("https://a.test")),
            ("http://a.test:80", exact("http://a.test")),
            ("http://a.test:443", exact("http://a.test:443")),
            ("http://localhost:5173", exact("http://localhost:5173")),
            ("http://127.0.0.1:3000", exact("http://127.0.0.1:3000")),
            ("http://[::1]:3000", exact("http://[::1]:3000")),
            ("http://[0:0::1]", exact("http://[::1]")),
            ("capacitor://localhost", exact("capacitor://localhost")),
            ("chrome-extension://abcdef", exact("chrome-extension://abcdef")),
            ("https://*.Example.com", wild("https://", ".example.com")),
            ("https://*.example.com:8443", wild("https://", ".example.com:8443")),
        ] {
            assert_eq!(Pattern::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for (text, hint) in [
            ("", ""),
            ("a.test", "\"https://a.test\""),
            ("*.a.test", "\"https://*.a.test\""),
            ("https://a.test/", "\"https://a.test\""),
            ("https://a.test/app", "no path"),
            ("https://", ""),
            ("https://*", ""),
            ("https://*.com", "two after it"),
            ("https://a.*.test", ""),
            ("https://*a.test", ""),
            ("https://a*.test", ""),
            ("https://*.*.test.x", ""),
            ("https://u@a.test", ""),
            ("https://a.test:0", ""),
            ("https://a.test:+1", ""),
            ("https://a.test:65536", ""),
            ("https://a.test:", ""),
            ("https://a..test", ""),
            ("https://a.test.", ""),
            ("https://ä.test", ""),
            ("https://[::1", ""),
            ("https://[x]", ""),
            ("1https://a.test", ""),
            ("https://a.test https://b.test", ""),
        ] {
            let hinted = Pattern::parse(text).expect_err(text).unwrap_or_default();
            assert!(hinted.contains(hint), "{text}: {hinted}");
        }
    }

    // Hazard AUTH-19.
    #[test]
    fn only_whole_origins_are_on_a_list() {
        let entries = [
            "https://example.com",
            "https://app.example.com:8443",
            "https://*.wild.test",
            "http://*.port.test:81",
        ];
        let origins = Origins::new(&entries.map(|e| Pattern::parse(e).unwrap()));
        for (origin, expected) in [
            ("https://example.com", true),
            ("https://app.example.com:8443", true),
            ("https://app.example.com", false),
            ("http://example.com", false),
            ("https://example.com:443", false),
            ("https://evil-example.com", false),
            ("https://evilexample.com", false),
            ("https://example.com.evil.test", false),
            ("https://example.co", false),
            ("https://sub.example.com", false),
            ("https://example.com/", false),
            ("https://example.com https://evil.test", false),
            ("HTTPS://example.com", false),
            ("https://x.wild.test", true),
            ("https://x-1_y.wild.test", true),
            ("https://x.y.wild.test", false),
            ("https://wild.test", false),
            ("https://.wild.test", false),
            ("https://evilwild.test", false),
            ("https://evil.test/.wild.test", false),
            ("https://evil.test?.wild.test", false),
            ("https://evil#.wild.test", false),
            ("https://u@.wild.test", false),
            ("https://x%2e.wild.test", false),
            ("https://x`.wild.test", false),
            ("https://x.wild.test:8443", false),
            ("https://x.wild.test.evil.test", false),
            ("http://x.wild.test", false),
            ("http://x.port.test:81", true),
            ("http://x.port.test", false),
            ("http://x.port.test:810", false),
            ("https://x.port.test:81", false),
            ("null", false),
            ("*", false),
            ("", false),
            ("https://*.wild.test", false),
        ] {
            assert_eq!(origins.admit(origin.as_bytes()), expected, "{origin}");
        }
        let null = Origins::new(&[Pattern::Null]);
        assert!(null.admit(b"null") && !null.admit(b"https://a.test") && !null.admit(b"Null"));
        assert!(Origins::new(&[Pattern::Any]).admit(b"https://a.test"));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_judged(origin in proptest::collection::vec(0..=255u8, 0..60)) {
            let origins = Origins::new(&[Pattern::parse("https://*.a.test").unwrap()]);
            proptest::prop_assert!(!origins.admit(&origin));
            let _ = Pattern::parse(&String::from_utf8_lossy(&origin));
        }
    }
}
