//! `forward_auth` of a policy: its keys, and what may be written there. Called by the policies' reader.

use super::jwt;
use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::policy::forward_auth::{Settings, is_ours};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.forward_auth", KEYS)];

const KEYS: Keys = &[
    "url",
    "ca",
    "send",
    "headers_to_target",
    "headers_to_client",
    "answer_headers",
    "consumer",
    "answer_limit",
    "timeout",
    "cache",
    "on_failure",
];

const URL: &str = "an http or https URL without a user and a fragment";
const FIELDS: &str = "names of fields that no hop and no framing depends on";
const SEND: &[&str] = &["authorization", "cookie"];
const ANSWER: &[&str] = &[
    "www-authenticate",
    "location",
    "set-cookie",
    "content-type",
    "content-encoding",
    "cache-control",
    "retry-after",
];

/// `forward_auth = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let url = table.need("url", URL);
    let url = url.and_then(|item| item.parsed(URL, |text| jwt::url(text, true)));
    let headers_to_target = fields(&table, "headers_to_target", &[]);
    let sent = |name: &str| match name {
        // Credentials, which the service may exchange for others.
        "cookie" | "authorization" => Ok(name.into()),
        _ if is_ours(name) => Wrong::hint("ringgate sends that itself"),
        _ if headers_to_target.iter().any(|field| **field == *name) => {
            Wrong::hint("what targets are told by the service, no client may tell the service")
        }
        _ => jwt::field(name),
    };
    let allow =
        table.item("on_failure").and_then(|i| i.choice(&[("deny", false), ("allow", true)]));
    let mut settings = Settings {
        url: url?,
        ca: table.item("ca").and_then(|item| jwt::path(&item)),
        send: names(&table, "send", SEND, &sent),
        headers_to_target,
        headers_to_client: fields(&table, "headers_to_client", &[]),
        answer_headers: fields(&table, "answer_headers", ANSWER),
        consumer: table.item("consumer").and_then(|item| item.parsed(jwt::FIELD, jwt::field)),
        answer_limit: 64 << 10,
        timeout: Duration::from_secs(5),
        cache: Duration::ZERO,
        allow_on_failure: allow.unwrap_or(false),
    };
    let duration = |key: &str, from: u64, to: u64| {
        let range = Duration::from_millis(from)..=Duration::from_millis(to);
        table.item(key).and_then(|item| item.duration(range))
    };
    set(&mut settings.answer_limit, table.item("answer_limit").and_then(|i| i.size(0..=1 << 20)));
    set(&mut settings.timeout, duration("timeout", 10, 60_000));
    set(&mut settings.cache, duration("cache", 0, 3_600_000));
    Some(settings)
}

fn fields(table: &Table<'_>, key: &str, default: &[&str]) -> Vec<Box<str>> {
    names(table, key, default, &jwt::field)
}

/// Names of fields, in lower case and each once; the list may be empty.
fn names(
    table: &Table<'_>,
    key: &str,
    default: &[&str],
    fits: &dyn Fn(&str) -> Result<Box<str>, Wrong>,
) -> Vec<Box<str>> {
    let Some(item) = table.item(key) else {
        return default.iter().map(|name| Box::from(*name)).collect();
    };
    let mut names: Vec<Box<str>> = Vec::new();
    for item in item.array(FIELDS) {
        let name = item.parsed(jwt::FIELD, |text| fits(&text.to_ascii_lowercase()));
        let Some(name) = name else { continue };
        if names.contains(&name) {
            item.problem(format!("{name:?} twice"), "each field once", None);
        }
        names.push(name);
    }
    names
}
