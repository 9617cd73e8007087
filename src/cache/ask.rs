//! What a request asks of the cache, and which requests it has nothing to do with (RFC 9111 sections 4, 5.2.1 and 5.4).
//!
//! What spares the target always holds: `only-if-cached`, `max-stale`, `stale-if-error`; so does `no-store`. What costs it a
//! request (`no-cache`, `max-age`, `min-fresh`, `Pragma`) holds only where the rule says so: otherwise every client could send
//! all of its requests past the cache. RFC 9111 section 5.2.1 leaves both open.

use crate::cache::control::{Directives, MaxStale};
use crate::cache::settings::Settings;
use crate::http::{Fields, RequestView};
use std::time::Duration;

/// What is known of a request when the cache is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its head.
    pub view: RequestView<'a>,
    /// `http` or `https`: what the client has used.
    pub scheme: &'a str,
    /// The port in its authority.
    pub port: Option<u16>,
    /// Its authority as it is sent on: however the client has spelled it.
    pub authority: &'a [u8],
    /// The port that the client has connected to.
    pub local_port: u16,
    /// The group that takes it, where more than its weight tells which; empty elsewhere.
    pub group: &'a str,
    /// Whether targets are sent what the peer says in `X-Forwarded-*`.
    pub trusted: bool,
    /// Whether targets are told who sends it: by a policy, or by the client's certificate.
    pub identified: bool,
    /// Whether it has a body.
    pub has_body: bool,
}

/// What a request asks of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ask {
    /// `HEAD`: answered from what `GET` has stored, and stores nothing itself.
    pub head: bool,
    /// Nothing of this exchange may be stored.
    pub no_store: bool,
    /// What is stored must be validated first.
    pub no_cache: bool,
    /// The oldest response that will do.
    pub max_age: Option<Duration>,
    /// How long the response must remain fresh.
    pub min_fresh: Duration,
    /// How stale a response may be.
    pub max_stale: Option<MaxStale>,
    /// How stale it may be when the target fails.
    pub stale_if_error: Duration,
    /// Rather 504 than a request to the target.
    pub only_if_cached: bool,
    /// Whether it says who sends it.
    pub identified: bool,
    /// Whether it has cookies that are not a part of the key.
    pub cookies: bool,
    /// Whether it has a precondition that a cache evaluates. Without a stored response it is held back from the target, so that
    /// there will be one.
    pub conditional: bool,
    /// Whether it asks for a part only. Without a stored response it is passed on, and the part is not stored.
    pub range: bool,
}

/// Why a request has nothing to do with the cache: it is passed on, and its response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Neither `GET` nor `HEAD`.
    Method,
    /// `GET` with a body, which the key does not hold (hazard CACHE-10).
    Body,
    /// It says who sends it, and the rule does not take such.
    Authorization,
    /// A precondition that only the target can judge (RFC 9111 section 4.3.2): `If-Match`, `If-Unmodified-Since`.
    Precondition,
    /// It asks for another protocol.
    Upgrade,
}

impl Ask {
    /// What a request asks.
    ///
    /// # Errors
    /// Why the cache has nothing to do with it.
    pub fn of(settings: &Settings, request: &Request<'_>) -> Result<Ask, Bypass> {
        let fields = request.view.fields;
        let head = match request.view.method {
            b"GET" => false,
            b"HEAD" => true,
            _ => return Err(Bypass::Method),
        };
        let mut ask = Ask { head, identified: request.identified, ..Ask::default() };
        let (mut control, mut pragma) = (false, false);
        for (name, value) in fields.iter() {
            // By length first: most fields are none of these.
            match name.len() {
                5 if name.eq_ignore_ascii_case(b"range") => ask.range = true,
                6 if name.eq_ignore_ascii_case(b"pragma") => pragma |= has(value, b"no-cache"),
                6 if name.eq_ignore_ascii_case(b"cookie") => ask.cookies = true,
                7 if name.eq_ignore_ascii_case(b"upgrade") => return Err(Bypass::Upgrade),
                8 if name.eq_ignore_ascii_case(b"if-match") => return Err(Bypass::Precondition),
                13 if name.eq_ignore_ascii_case(b"cache-control") => control = true,
                13 if name.eq_ignore_ascii_case(b"if-none-match") => ask.conditional = true,
                13 if name.eq_ignore_ascii_case(b"authorization") => ask.identified = true,
                17 if name.eq_ignore_ascii_case(b"if-modified-since") => ask.conditional = true,
                19 if name.eq_ignore_ascii_case(b"if-unmodified-since") => {
                    return Err(Bypass::Precondition);
                }
                // From others it does not reach targets.
                23 if name.eq_ignore_ascii_case(b"x-forwarded-client-cert") => {
                    ask.identified |= request.trusted;
                }
                _ => {}
            }
        }
        if request.has_body {
            return Err(Bypass::Body);
        }
        if ask.identified && !settings.authorization {
            return Err(Bypass::Authorization);
        }
        if ask.cookies {
            ask.cookies = !settings.ignore_cookies && has_others(fields, &settings.key.cookies);
        }
        if control {
            ask.directives(settings, &Directives::of(fields.all("cache-control")));
        } else if pragma && settings.honour_request {
            ask.no_cache = true;
        }
        Ok(ask)
    }

    fn directives(&mut self, settings: &Settings, asked: &Directives<'_>) {
        self.no_store = asked.no_store;
        self.only_if_cached = asked.only_if_cached;
        self.max_stale = asked.max_stale;
        self.stale_if_error = asked.stale_if_error.unwrap_or_default();
        if settings.honour_request {
            self.no_cache = asked.no_cache;
            self.max_age = asked.max_age;
            self.min_fresh = asked.min_fresh.unwrap_or_default();
        }
    }
}

impl Bypass {
    /// In a few words, for `Cache-Status` and people.
    pub fn detail(self) -> &'static str {
        match self {
            Bypass::Method => "method",
            Bypass::Body => "request-body",
            Bypass::Authorization => "authorization",
            Bypass::Precondition => "precondition",
            Bypass::Upgrade => "upgrade",
        }
    }
}

// Whether there are cookies of other names. Some clients send values without a name, and some targets read them.
fn has_others(fields: Fields<'_>, named: &[String]) -> bool {
    let pairs = fields.all("cookie").flat_map(|line| line.split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()).any(|pair| {
        let name = memchr::memchr(b'=', pair).and_then(|at| pair.get(..at)).map(<[u8]>::trim_ascii);
        !name.is_some_and(|name| named.iter().any(|one| one.as_bytes() == name))
    })
}

fn has(list: &[u8], wanted: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::KeySettings;
    use crate::http::fields::OwnedFields;
    use std::net::{IpAddr, Ipv4Addr};

    fn ask(
        settings: &Settings,
        method: &str,
        fields: &[(&str, &str)],
        has_body: bool,
    ) -> Result<Ask, Bypass> {
        let fields: OwnedFields = fields.iter().copied().collect();
        let view = RequestView {
            method: method.as_bytes(),
            host: b"a.test",
            path: b"/",
            query: None,
            fields: fields.view(),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let request = Request {
            view,
            scheme: "http",
            port: None,
            authority: b"a.test",
            local_port: 443,
            group: "",
            trusted: false,
            identified: false,
            has_body,
        };
        Ask::of(settings, &request)
    }

    fn get(settings: &Settings, fields: &[(&str, &str)]) -> Result<Ask, Bypass> {
        ask(settings, "GET", fields, false)
    }

    #[test]
    fn what_the_cache_has_nothing_to_do_with() {
        let usual = Settings::default();
        for (method, bypass) in [("GET", None), ("HEAD", None), ("POST", Some(Bypass::Method))] {
            assert_eq!(ask(&usual, method, &[], false).err(), bypass, "{method}");
        }
        // Hazard CACHE-10: a body is no part of the key.
        assert_eq!(ask(&usual, "GET", &[], true), Err(Bypass::Body));
        for (name, bypass) in [
            ("Authorization", Bypass::Authorization),
            ("If-Match", Bypass::Precondition),
            ("If-Unmodified-Since", Bypass::Precondition),
            ("Upgrade", Bypass::Upgrade),
        ] {
            assert_eq!(get(&usual, &[(name, "x")]), Err(bypass), "{name}");
        }
        let open = Settings { authorization: true, ..Settings::default() };
        assert!(get(&open, &[("Authorization", "x")]).unwrap().identified);
    }

    #[test]
    fn what_costs_the_target_is_heeded_where_the_rule_says_so_rfc9111_5_2_1() {
        let (usual, open) =
            (Settings::default(), Settings { honour_request: true, ..Settings::default() });
        let said = "no-cache, max-age=5, min-fresh=6, max-stale=7, no-store, only-if-cached, \
                    stale-if-error=8";
        let spared = Ask {
            no_store: true,
            only_if_cached: true,
            max_stale: Some(MaxStale::For(Duration::from_secs(7))),
            stale_if_error: Duration::from_secs(8),
            ..Ask::default()
        };
        assert_eq!(get(&usual, &[("Cache-Control", said)]), Ok(spared));
        let all = Ask {
            no_cache: true,
            max_age: Some(Duration::from_secs(5)),
            min_fresh: Duration::from_secs(6),
            ..spared
        };
        assert_eq!(get(&open, &[("Cache-Control", said)]), Ok(all));
    }

    #[test]
    fn pragma_counts_only_without_cache_control_rfc9111_5_4() {
        let open = Settings { honour_request: true, ..Settings::default() };
        for (fields, no_cache) in [
            (&[("Pragma", "no-cache")][..], true),
            (&[("Pragma", "x, No-Cache")], true),
            (&[("Pragma", "no-cachex")], false),
            (&[("Pragma", "no-cache"), ("Cache-Control", "max-stale")], false),
        ] {
            assert_eq!(get(&open, fields).map(|ask| ask.no_cache), Ok(no_cache), "{fields:?}");
        }
        let usual = Settings::default();
        assert_eq!(get(&usual, &[("Pragma", "no-cache")]), Ok(Ask::default()));
    }

    #[test]
    fn cookies_count_unless_they_are_a_part_of_the_key() {
        let named = KeySettings { cookies: vec!["a".to_owned()], ..KeySettings::default() };
        let keyed = Settings { key: named, ..Settings::default() };
        let ignoring = Settings { ignore_cookies: true, ..Settings::default() };
        for (settings, cookie, expected) in [
            (&Settings::default(), "a=1", true),
            (&keyed, "a=1", false),
            (&keyed, "a=1; b=2", true),
            (&keyed, "a=1; ; ", false),
            // Without a name it is in no key.
            (&Settings::default(), "secret", true),
            (&keyed, "a=1; secret", true),
            (&keyed, "a", true),
            (&keyed, "=1", true),
            (&Settings::default(), " ; ", false),
            (&ignoring, "a=1; b=2", false),
        ] {
            let got = get(settings, &[("Cookie", cookie)]).map(|ask| ask.cookies);
            assert_eq!(got, Ok(expected), "{cookie}");
        }
    }
}
