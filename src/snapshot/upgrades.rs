//! What a rule lets requests switch to (RFC 9110 section 7.8), and whose pages may ask for it.
//!
//! Whether a request is a valid handshake is not known here. Called by `proxy::upgrade`.

/// The protocols and origins of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrades {
    // Lower-case.
    protocols: Vec<String>,
    // Empty for all.
    origins: Vec<Origin>,
}

// An origin up to its wildcard, and what follows that; one without wildcard has nothing to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    prefix: String,
    suffix: Option<String>,
}

impl Default for Upgrades {
    /// WebSocket, from anywhere.
    fn default() -> Upgrades {
        Upgrades::new(&["websocket".to_owned()], &[])
    }
}

impl Upgrades {
    /// From the file; both lower-case.
    pub fn new(protocols: &[String], origins: &[String]) -> Upgrades {
        let origin = |text: &String| match text.split_once('*') {
            Some((prefix, suffix)) => {
                Origin { prefix: prefix.to_owned(), suffix: Some(suffix.to_owned()) }
            }
            None => Origin { prefix: text.clone(), suffix: None },
        };
        Upgrades { protocols: protocols.to_vec(), origins: origins.iter().map(origin).collect() }
    }

    /// The protocol as the file has it, if requests may switch to it.
    pub fn find(&self, protocol: &[u8]) -> Option<&str> {
        let mut all = self.protocols.iter();
        all.find(|one| protocol.eq_ignore_ascii_case(one.as_bytes())).map(String::as_str)
    }

    /// Whether pages of this origin may ask. A request without an origin comes from no page.
    pub fn admits(&self, origin: Option<&[u8]>) -> bool {
        let Some(origin) = origin.filter(|_| !self.origins.is_empty()) else { return true };
        let origin = origin.to_ascii_lowercase();
        self.origins.iter().any(|one| one.is(&origin))
    }
}

impl Origin {
    fn is(&self, origin: &[u8]) -> bool {
        let Some(suffix) = &self.suffix else { return origin == self.prefix.as_bytes() };
        let rest = origin.strip_prefix(self.prefix.as_bytes());
        let middle = rest.and_then(|rest| rest.strip_suffix(suffix.as_bytes())).unwrap_or_default();
        let of_a_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        !middle.is_empty() && middle.iter().all(of_a_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrades(protocols: &[&str], origins: &[&str]) -> Upgrades {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        Upgrades::new(&owned(protocols), &owned(origins))
    }

    #[test]
    fn finds_protocols_in_any_case() {
        let two = upgrades(&["websocket", "foo/2"], &[]);
        assert_eq!(two.find(b"WebSocket"), Some("websocket"));
        assert_eq!(two.find(b"foo/2"), Some("foo/2"));
        assert_eq!(two.find(b"h2c"), None);
        assert_eq!(upgrades(&[], &[]).find(b"websocket"), None);
    }

    // Hazard WS-05.
    #[test]
    fn admits_only_origins_of_the_list() {
        let some = upgrades(&[], &["https://a.test", "https://*.b.test", "http://*.c.test:81"]);
        for (origin, expected) in [
            ("https://a.test", true),
            ("HTTPS://A.test", true),
            ("http://a.test", false),
            ("https://a.test:8443", false),
            ("https://evil-a.test", false),
            ("https://x.b.test", true),
            ("https://x.y.b.test", true),
            ("https://b.test", false),
            ("https://.b.test", false),
            ("https://xb.test", false),
            ("https://evil.test/.b.test", false),
            ("https://evil.test:1@x.b.test", false),
            ("http://x.c.test:81", true),
            ("http://x.c.test", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(some.admits(Some(origin.as_bytes())), expected, "{origin}");
        }
        assert!(some.admits(None), "not from a page");
        assert!(upgrades(&[], &[]).admits(Some(b"https://x.test")));
    }
}
