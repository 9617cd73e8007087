//! Keys that are fetched: where from, what was found last, and how it went. Control writes, workers only read.
//!
//! A worker loads the set without a lock and compares a generation for what it remembers; when it meets a key that is not in
//! the set it raises a flag, and control decides whether to fetch (hazards AUTH-05, AUTH-09). Nothing is fetched here. A source is
//! shared by every policy that is built with the same one before it, and so outlives reloads.

use crate::policy::jwt::keys::KeySet;
use arc_swap::{ArcSwapOption, Guard};
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Where keys are fetched.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// What is asked first.
    pub location: Location,
    /// Who may vouch for the server, in PEM; left out, whom this system trusts.
    pub ca: Option<Arc<[u8]>>,
    /// Whether plain HTTP will do, on loopback addresses or anywhere.
    pub allow_http: bool,
    /// How often keys are fetched while all is well.
    pub refresh: Duration,
    /// How long keys are used that could not be fetched again.
    pub max_stale: Duration,
}

/// What is asked first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// A JWK Set.
    Keys(Box<str>),
    /// The issuer's metadata, which names the set (OpenID Connect Discovery 1.0 section 4).
    Issuer(Box<str>),
}

impl Location {
    /// The URL that is asked first.
    pub fn url(&self) -> String {
        match self {
            Location::Keys(url) => url.to_string(),
            Location::Issuer(issuer) => {
                format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
            }
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("location", &self.location).finish_non_exhaustive()
    }
}

/// Keys that are fetched.
#[derive(Debug)]
pub struct Source {
    /// Where.
    pub origin: Origin,
    keys: ArcSwapOption<KeySet>,
    metadata: ArcSwapOption<Map<String, Value>>,
    generation: AtomicU64,
    wanted: AtomicBool,
    /// How it went.
    pub stat: Stat,
}

/// How it went, for metrics and the log. Control alone writes.
#[derive(Debug, Default)]
pub struct Stat {
    /// Fetches that brought a set of use.
    pub successes: AtomicU64,
    /// Those that did not.
    pub failures: AtomicU64,
    /// Whether the last fetch did.
    pub last_ok: AtomicBool,
    /// When the last success was, in seconds since 1970; 0 for not yet.
    pub last_success_unix: AtomicU64,
}

impl Source {
    /// A source of which nothing is known yet.
    pub fn new(origin: Origin) -> Source {
        Source {
            origin,
            keys: ArcSwapOption::empty(),
            metadata: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            stat: Stat::default(),
        }
    }

    /// The keys; `None` while there are none that may be used.
    pub fn keys(&self) -> Guard<Option<Arc<KeySet>>> {
        self.keys.load()
    }

    /// The issuer's metadata, where it was asked for.
    pub fn metadata(&self) -> Guard<Option<Arc<Map<String, Value>>>> {
        self.metadata.load()
    }

    /// Counts changes of the keys: what was verified with those of another generation must be verified again. To be read
    /// before the keys are.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Asks for the keys to be fetched soon. Costs a load where that was asked already.
    pub fn want(&self) {
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether somebody has asked since this was asked last.
    pub fn is_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Puts other keys in place; `None` for keys that are too old to be used.
    pub fn publish(&self, keys: Option<Arc<KeySet>>) {
        self.keys.store(keys);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Puts the issuer's metadata in place.
    pub fn describe(&self, metadata: Arc<Map<String, Value>>) {
        self.metadata.store(Some(metadata));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_found_below_the_issuer() {
        for (issuer, expected) in [
            ("https://id.example.com", "https://id.example.com/.well-known/openid-configuration"),
            ("https://id.example.com/", "https://id.example.com/.well-known/openid-configuration"),
            ("https://h/realms/a", "https://h/realms/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(Location::Issuer(issuer.into()).url(), expected);
        }
    }

    #[test]
    fn a_generation_changes_with_the_keys_and_a_wish_is_taken_once() {
        let source = Source::new(Origin {
            location: Location::Keys("https://h/jwks".into()),
            ca: None,
            allow_http: false,
            refresh: Duration::from_secs(300),
            max_stale: Duration::from_secs(3600),
        });
        assert!(source.keys().is_none() && !source.is_wanted());
        source.publish(None);
        assert_eq!(source.generation(), 1);
        source.want();
        source.want();
        assert!(source.is_wanted() && !source.is_wanted());
    }
}
