//! What the file says of storing: `cache` of a rule, and `[cache]`.
//!
//! Values with their defaults; read by `config::traffic::cache`, carried by the rules of a snapshot.

use std::time::Duration;

/// What a rule says about storing responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long responses are fresh that say nothing of it; zero: they are not stored.
    pub default_ttl: Duration,
    /// Whether `Last-Modified` may say it instead (RFC 9111 section 4.2.2): a tenth of the age, a day at most.
    pub heuristic: bool,
    /// The longest time for which a response is fresh, whatever it says.
    pub max_ttl: Duration,
    /// Statuses from 400 on that are stored, and for how long at most.
    pub negative: Vec<(u16, Duration)>,
    /// What tells responses apart, besides scheme, host, port, path and rule.
    pub key: KeySettings,
    /// How long a stale response is given while it is fetched anew; for responses that do not say (RFC 5861 section 3).
    pub stale_while_revalidate: Duration,
    /// How long a stale response is given when the target fails; for responses that do not say (RFC 5861 section 4).
    pub stale_if_error: Duration,
    /// Whether requests of identified senders take part, within RFC 9111 section 3.5.
    pub authorization: bool,
    /// Whether cookies that are not in the key make no difference to responses.
    pub ignore_cookies: bool,
    /// Whether clients may ask for a response that is newer than what is stored.
    pub honour_request: bool,
    /// The field whose values are tags to purge by.
    pub tags: Option<String>,
    /// The largest body that is stored, in octets.
    pub max_object: u64,
    /// Whether answers say what became of them (RFC 9211).
    pub status: bool,
    /// How long a request waits for another one that fetches the same.
    pub lock: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            default_ttl: Duration::ZERO,
            heuristic: false,
            max_ttl: Duration::from_secs(86_400),
            negative: Vec::new(),
            key: KeySettings::default(),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            authorization: false,
            ignore_cookies: false,
            honour_request: false,
            tags: Some("cache-tag".to_owned()),
            max_object: 8 << 20,
            status: true,
            lock: Duration::from_secs(5),
        }
    }
}

/// What tells responses apart, besides scheme, host, port, path and rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeySettings {
    /// Of the query.
    pub query: Query,
    /// Field names, in lower case.
    pub headers: Vec<String>,
    /// Names of cookies.
    pub cookies: Vec<String>,
}

/// Which part of a query tells responses apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Query {
    /// All of it, exactly as sent.
    #[default]
    All,
    /// Nothing.
    None,
    /// Parameters of these names.
    Only(Vec<String>),
    /// Parameters of all other names.
    Except(Vec<String>),
}

/// `[cache]`: the store that all rules and workers share.
#[derive(Clone, Debug, PartialEq)]
pub struct Global {
    /// Octets that it may hold: bodies, heads, keys and what finds them.
    pub size: u64,
}

impl Default for Global {
    fn default() -> Global {
        Global { size: 256 << 20 }
    }
}
