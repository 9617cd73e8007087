//! `introspect` of a policy: its keys, and what may be written there. Called by the policies' reader.
//!
//! Where the token is and what it must say is written as for `jwt`, and read by the same functions.

use super::jwt;
use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::policy::introspect::{Credentials, Settings};
use crate::policy::jwt::Hidden;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.introspect", KEYS)];

const KEYS: Keys = &[
    "endpoint",
    "client_id",
    "client_secret",
    "bearer",
    "ca",
    "allow_http",
    "timeout",
    "cache",
    "cache_inactive",
    "header",
    "scheme",
    "cookie",
    "query",
    "issuer",
    "audience",
    "claims",
    "scopes",
    "claims_to_headers",
    "consumer",
    "optional",
    "forward",
    "failures",
];

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// `introspect = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean()).unwrap_or(false);
    let allow_http = flag("allow_http");
    let endpoint = table.need("endpoint", jwt::URL);
    let endpoint = endpoint.and_then(|i| i.parsed(jwt::URL, |text| jwt::url(text, allow_http)));
    let credentials = credentials(&table);
    let any = |text: &str| !text.is_empty();
    let mut settings = Settings {
        endpoint: endpoint?,
        credentials: credentials?,
        ca: table.item("ca").and_then(|item| jwt::path(&item)),
        timeout: 2 * SECOND,
        cache: 60 * SECOND,
        cache_inactive: 10 * SECOND,
        carriers: jwt::carriers(&table),
        issuer: jwt::texts(&table, "issuer", "what `iss` of its tokens is", any),
        audience: jwt::texts(&table, "audience", "whom tokens are for, such as \"api\"", any),
        claims: jwt::claims(&table),
        scopes: jwt::texts(&table, "scopes", jwt::SCOPE, jwt::is_scope),
        claims_to_headers: jwt::claims_to_headers(&table),
        consumer: "sub".into(),
        optional: flag("optional"),
        forward: flag("forward"),
        failures: 120,
    };
    let duration = |key: &str, from, to| table.item(key).and_then(|item| item.duration(from..=to));
    set(&mut settings.timeout, duration("timeout", 10 * MILLISECOND, 60 * SECOND));
    set(&mut settings.cache, duration("cache", Duration::ZERO, 3600 * SECOND));
    set(&mut settings.cache_inactive, duration("cache_inactive", Duration::ZERO, 3600 * SECOND));
    set(&mut settings.consumer, table.item("consumer").and_then(|item| jwt::claim_name(&item)));
    set(&mut settings.failures, table.item("failures").and_then(|i| i.integer(0..=60_000)));
    Some(settings)
}

fn credentials(table: &Table<'_>) -> Option<Credentials> {
    let hidden = |text: &str| Hidden(text.as_bytes().into());
    let (id, secret) = (table.item("client_id"), table.item("client_secret"));
    match (id, secret, table.item("bearer")) {
        (None, None, None) => Some(Credentials::None),
        (Some(id), Some(secret), None) => {
            let id = id.text("the client that ringgate is to the issuer")?;
            let secret = secret.text("the client's secret")?;
            Some(Credentials::Client((*id).into(), hidden(&secret)))
        }
        (None, None, Some(bearer)) => {
            let token = bearer.text("a token that the endpoint takes")?;
            if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
                bearer.problem(
                    "characters that no token has",
                    "a token that the endpoint takes",
                    None,
                );
                return None;
            }
            Some(Credentials::Bearer(hidden(&token)))
        }
        (id, secret, bearer) => {
            let expected = "client_id with client_secret, or bearer, or neither";
            for one in [id, secret, bearer].into_iter().flatten() {
                one.problem("credentials that do not go together", expected, None);
            }
            None
        }
    }
}
