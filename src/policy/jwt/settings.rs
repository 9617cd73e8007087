//! `jwt` as written: issuers, where the token is, and what it must say. Filled in by the reader of the file; compiled by the policy.

use crate::policy::Consumed;
use crate::policy::jwt::algorithm::Algorithms;
use crate::policy::jwt::source::Location;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whose tokens are taken; no `iss` stands in two of them.
    pub issuers: Vec<Issuer>,
    /// Where the token is, in the order in which it is looked for.
    pub carriers: Vec<Carrier>,
    /// Claims that it must have, each with one of these texts.
    pub claims: Vec<(Box<str>, Vec<Box<str>>)>,
    /// Scopes of which it must have one; empty for none.
    pub scopes: Vec<Box<str>>,
    /// Fields (lower-case) that targets are sent, each with the claim that it holds.
    pub claims_to_headers: Vec<(Box<str>, Box<str>)>,
    /// The claim that says who the sender is.
    pub consumer: Box<str>,
    /// What `typ` may be; empty for anything.
    pub types: Vec<Box<str>>,
    /// Whether a request without a token passes.
    pub optional: bool,
    /// Whether targets are sent the token.
    pub forward: bool,
    /// Whether a token must have an `exp`.
    pub require_exp: bool,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// How long after `iat` a token is taken.
    pub max_age: Option<Duration>,
    /// How many tokens a core remembers.
    pub remember: usize,
    /// For how long.
    pub remember_for: Duration,
    /// How many wrong signatures of one client a core verifies in 10 s; 0 for any number.
    pub failures: u32,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// What `iss` may be.
    pub names: Vec<Box<str>>,
    /// What `aud` (or `client_id`) may be; empty for anything.
    pub audience: Vec<Box<str>>,
    /// What `alg` may be.
    pub algorithms: Algorithms,
    /// What it signs with.
    pub keys: Keys,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq)]
pub enum Keys {
    /// Fetched by control.
    Fetched {
        /// From there.
        location: Location,
        /// Who may vouch for the server, in a PEM file.
        ca: Option<PathBuf>,
        /// Whether plain HTTP will do anywhere.
        allow_http: bool,
        /// How often.
        refresh: Duration,
        /// How long they are used that could not be fetched again.
        max_stale: Duration,
    },
    /// In a file: a JWK Set, or PEM.
    File(PathBuf),
    /// A JWK Set.
    Inline(Box<str>),
    /// A secret.
    Secret(Hidden),
    /// A secret in a file; a line's end at its end does not count.
    SecretFile(PathBuf),
}

/// Octets that are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Box<[u8]>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// Where a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A field.
    Header {
        /// Lower-case.
        name: Box<str>,
        /// What stands before the token, without regard to case; empty for nothing.
        scheme: Box<str>,
    },
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
}

impl Carrier {
    /// What of a request it is. Where a request may come without a token, credentials of another scheme are for the target.
    pub fn consumed(&self, optional: bool) -> Consumed {
        match self.clone() {
            Carrier::Header { name, scheme } if optional && !scheme.is_empty() => {
                Consumed::Scheme { name, scheme }
            }
            Carrier::Header { name, .. } => Consumed::Field(name),
            Carrier::Cookie(name) => Consumed::Cookie(name),
            Carrier::Query(name) => Consumed::Query(name),
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let of_keys = |keys: &Keys| match keys {
            Keys::Fetched { ca, .. } => ca.clone(),
            Keys::File(path) | Keys::SecretFile(path) => Some(path.clone()),
            Keys::Inline(_) | Keys::Secret(_) => None,
        };
        let mut files: Vec<PathBuf> =
            self.issuers.iter().filter_map(|i| of_keys(&i.keys)).collect();
        files.sort_unstable();
        files.dedup();
        files
    }
}
