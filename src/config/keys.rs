//! Every key of the file, as data: what a table may hold, and so what is unknown in it.
//!
//! Readers take their lists from here; a key that is read without being listed fails an assertion, and a test finds a
//! key that is listed without being read. `config/reference.toml` is held against [`known_keys`].

/// The keys of one table.
pub(super) type Keys = &'static [&'static str];

pub(super) const ROOT: Keys = &[
    "include", "server", "timeouts", "limits", "admin", "acme", "usage", "log", "listener", "rule",
    "group", "policy", "expect", "cache",
];
pub(super) const SERVER: Keys = &[
    "workers",
    "pin",
    "hand_over",
    "driver",
    "drain",
    "max_connections",
    "trusted_proxies",
    "via",
    "forwarded",
    "merge_slashes",
    "encoded_separators",
    "secrets",
    "user",
    "group",
    "sandbox",
    "watch_certificates",
    "zone",
];
pub(super) const TIMEOUTS: Keys =
    &["handshake", "header", "body", "keep_alive", "connect", "response", "idle"];
pub(super) const LIMITS: Keys = &[
    "head",
    "headers",
    "line",
    "body",
    "response_head",
    "requests",
    "pipeline",
    "client_connections",
    "in_flight",
    "handshakes",
    "tunnels",
    "memory",
    "min_rate",
    "http2",
];
pub(super) const HTTP2_LIMITS: Keys = &[
    "streams",
    "window",
    "connection_window",
    "header_list",
    "send_buffer",
    "requests",
    "resets",
    "resets_per_second",
    "local_resets",
    "continuations",
    "control_frames",
];
pub(super) const ADMIN: Keys = &["bind"];
pub(super) const ACME: Keys =
    &["directory", "contact", "storage", "ca", "terms_agreed", "renew_before", "eab"];
pub(super) const ACME_EAB: Keys = &["kid", "hmac"];
pub(super) const LISTENER_TLS: Keys =
    &["certificates", "policy", "min", "client_ca", "client_crl", "client_auth", "alpn", "acme"];
pub(super) const CERTIFICATE: Keys = &["cert", "key", "ocsp"];
pub(super) const LISTENER_ACME: Keys = &["names", "challenge"];
pub(super) const USAGE: Keys = &["folder", "flush", "fsync", "keep"];
pub(super) const LOG: Keys = &["access", "format"];
pub(super) const LISTENER: Keys = &[
    "name",
    "bind",
    "protocol",
    "proxy_protocol",
    "desync",
    "http2",
    "steer",
    "backlog",
    "hsts",
    "redirect_https",
    "timeouts",
    "default",
    "policy",
    "tls",
    "errors",
    "compress",
];
pub(super) const LISTENER_TIMEOUTS: Keys = &["handshake", "header", "body", "keep_alive", "idle"];
pub(super) const HSTS: Keys = &["max_age", "include_subdomains", "preload"];
pub(super) const ACTION: Keys = &["forward", "redirect", "respond", "aggregate"];
pub(super) const FORWARD: Keys = &["group", "weight"];
pub(super) const REDIRECT: Keys = &["scheme", "host", "port", "path", "query", "status"];
pub(super) const RESPOND: Keys = &["status", "content_type", "body", "headers", "file"];
pub(super) const RULE: Keys = &[
    "name",
    "listener",
    "priority",
    "when",
    "forward",
    "redirect",
    "respond",
    "timeouts",
    "limits",
    "upgrade",
    "origins",
    "policy",
    "sticky",
    "canary",
    "retry",
    "importance",
    "request",
    "response",
    "errors",
    "compress",
    "bandwidth",
    "mirror",
    "inject",
    "cache",
    "aggregate",
];
pub(super) const POLICY: Keys = &[
    "api_key",
    "basic",
    "block",
    "concurrency",
    "cors",
    "forward_auth",
    "headers",
    "hmac",
    "introspect",
    "ip",
    "jwt",
    "oidc",
    "rate",
    "validate",
    "window",
    "dry_run",
    "answer",
];
pub(super) const POLICY_ANSWER: Keys = &["status", "content_type", "body"];
pub(super) const WHEN: Keys =
    &["host", "path", "path_regex", "method", "header", "query", "cookie", "source"];
pub(super) const RULE_TIMEOUTS: Keys = &["body", "response", "idle", "total"];
pub(super) const RULE_LIMITS: Keys = &["body"];
pub(super) const GROUP: Keys = &[
    "targets",
    "algorithm",
    "hash",
    "health",
    "drain",
    "retries",
    "pool",
    "fail_open",
    "proxy_protocol",
    "tls",
    "timeouts",
    "protocol",
    "sticky",
    "slow_start",
    "zones",
    "outlier",
    "breaker",
    "bounds",
    "retry",
];
pub(super) const TARGET_TLS: Keys =
    &["verify", "ca", "server_name", "client_cert", "client_key", "min"];
pub(super) const TARGET: Keys = &["address", "weight", "zone", "tier"];
pub(super) const HASH: Keys = &["header", "cookie", "query", "bound"];
pub(super) const HEALTH: Keys = &[
    "type",
    "path",
    "interval",
    "timeout",
    "healthy",
    "unhealthy",
    "expect",
    "host",
    "port",
    "service",
];
pub(super) const POOL: Keys = &["max_idle", "idle_timeout"];
pub(super) const GROUP_TIMEOUTS: Keys = &["connect", "response"];
pub(super) const EXPECT: Keys = &[
    "request", "rule", "listener", "headers", "body", "source", "group", "status", "response",
    "sent", "answer",
];
pub(super) const EXPECT_SENT: Keys = &["target", "host", "headers"];
pub(super) const EXPECT_ANSWER: Keys = &["status", "headers", "body"];

/// Each table with its keys; `*` stands for a name that the file chooses.
const TABLES: &[(&str, Keys)] = &[
    ("", ROOT),
    ("server", SERVER),
    ("timeouts", TIMEOUTS),
    ("limits", LIMITS),
    ("limits.http2", HTTP2_LIMITS),
    ("admin", ADMIN),
    ("acme", ACME),
    ("acme.eab", ACME_EAB),
    ("usage", USAGE),
    ("log", LOG),
    ("listener", LISTENER),
    ("listener.hsts", HSTS),
    ("listener.timeouts", LISTENER_TIMEOUTS),
    ("listener.tls", LISTENER_TLS),
    ("listener.tls.certificates", CERTIFICATE),
    ("listener.tls.acme", LISTENER_ACME),
    ("listener.default", ACTION),
    ("listener.default.forward", FORWARD),
    ("listener.default.redirect", REDIRECT),
    ("listener.default.respond", RESPOND),
    ("rule", RULE),
    ("rule.when", WHEN),
    ("rule.forward", FORWARD),
    ("rule.redirect", REDIRECT),
    ("rule.respond", RESPOND),
    ("rule.timeouts", RULE_TIMEOUTS),
    ("rule.limits", RULE_LIMITS),
    ("group.*", GROUP),
    ("group.*.targets", TARGET),
    ("group.*.tls", TARGET_TLS),
    ("group.*.hash", HASH),
    ("group.*.health", HEALTH),
    ("group.*.pool", POOL),
    ("group.*.timeouts", GROUP_TIMEOUTS),
    ("policy.*", POLICY),
    ("policy.*.answer", POLICY_ANSWER),
    ("expect", EXPECT),
    ("expect.sent", EXPECT_SENT),
    ("expect.answer", EXPECT_ANSWER),
];

/// Every key that the file may hold, dotted, as `server.workers`, `rule.when.host` and `group.*.health.path`: an
/// array of tables has no index, `*` is a name that the file chooses.
pub fn known_keys() -> Vec<String> {
    let dotted = |table: &str, key: &str| match table {
        "" => key.to_owned(),
        table => format!("{table}.{key}"),
    };
    let all = TABLES.iter().chain(crate::config::policy::tables());
    let all = all.chain(crate::config::traffic::tables());
    all.flat_map(|(table, keys)| keys.iter().map(move |key| dotted(table, key))).collect()
}

/// Where a key of a `timeouts` table may stand, for one that stands in the wrong table.
pub(super) fn where_timeout_belongs(key: &str) -> Option<String> {
    let places: Vec<&str> = [
        ("a listener's timeouts", LISTENER_TIMEOUTS),
        ("a rule's timeouts", RULE_TIMEOUTS),
        ("a group's timeouts", GROUP_TIMEOUTS),
        ("[timeouts]", TIMEOUTS),
    ]
    .into_iter()
    .filter(|(_, keys)| keys.contains(&key))
    .map(|(place, _)| place)
    .collect();
    (!places.is_empty()).then(|| format!("{key:?} belongs in {}", places.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keys_with_their_tables() {
        let keys = known_keys();
        for key in ["include", "server.workers", "rule.when.host", "group.*.health.path"] {
            assert!(keys.iter().any(|known| known == key), "{key}");
        }
    }

    #[test]
    fn says_where_a_timeout_belongs() {
        let says = |key| where_timeout_belongs(key).unwrap_or_default();
        assert_eq!(
            says("idle"),
            "\"idle\" belongs in a listener's timeouts or a rule's timeouts or [timeouts]"
        );
        assert_eq!(says("connect"), "\"connect\" belongs in a group's timeouts or [timeouts]");
        assert_eq!(says("other"), "");
    }
}
