//! `cache` of a rule, and `[cache]`.
//!
//! Called by the readers of rules, and of the tables that there are once. What the settings mean is `cache`'s.

use crate::cache::{Global, KeySettings, Query, Settings};
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::http::request::is_token;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.cache", KEYS),
    ("rule.cache.key", KEY),
    ("rule.cache.key.query", QUERY),
    ("cache", GLOBAL),
];

const KEYS: Keys = &[
    "default_ttl",
    "heuristic",
    "max_ttl",
    "negative",
    "key",
    "stale_while_revalidate",
    "stale_if_error",
    "authorization",
    "ignore_cookies",
    "honour_request",
    "tags",
    "max_object",
    "status",
    "lock",
];
const KEY: Keys = &["query", "headers", "cookies"];
const QUERY: Keys = &["except"];
/// The keys of `[cache]`.
pub(in crate::config) const GLOBAL: Keys = &["size"];

const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const LONGEST_LOCK: Duration = Duration::from_secs(300);
const SHORTEST: Duration = Duration::from_millis(1);
const SMALLEST_STORE: u64 = 1 << 20;
const LARGEST_STORE: u64 = 1 << 40;
const LARGEST_OBJECT: u64 = 1 << 32;
const MOST_NAMES: usize = 64;

/// `[cache]`
pub(in crate::config) fn global(table: &Table<'_>, cache: &mut Global) {
    let size = table.item("size");
    set(&mut cache.size, size.and_then(|item| item.size(SMALLEST_STORE..=LARGEST_STORE)));
}

/// `cache = true`, `false` or `{ ... }`
pub(super) fn rule(table: &Table<'_>) -> Option<Settings> {
    let item = table.item("cache")?;
    if !item.is_table() {
        return item
            .boolean_or("true, false or a table")
            .filter(|on| *on)
            .map(|_| Settings::default());
    }
    let table = item.table(KEYS)?;
    let mut settings = Settings::default();
    let time = |key: &str, from: Duration, to: Duration| {
        table.item(key).and_then(|item| item.duration(from..=to))
    };
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean());
    set(&mut settings.default_ttl, time("default_ttl", Duration::ZERO, LONGEST));
    set(&mut settings.max_ttl, time("max_ttl", SHORTEST, LONGEST));
    let stale = time("stale_while_revalidate", Duration::ZERO, LONGEST);
    set(&mut settings.stale_while_revalidate, stale);
    set(&mut settings.stale_if_error, time("stale_if_error", Duration::ZERO, LONGEST));
    set(&mut settings.lock, time("lock", Duration::ZERO, LONGEST_LOCK));
    set(&mut settings.heuristic, flag("heuristic"));
    set(&mut settings.authorization, flag("authorization"));
    set(&mut settings.ignore_cookies, flag("ignore_cookies"));
    set(&mut settings.honour_request, flag("honour_request"));
    set(&mut settings.status, flag("status"));
    let object = table.item("max_object");
    set(&mut settings.max_object, object.and_then(|item| item.size(1..=LARGEST_OBJECT)));
    set(&mut settings.tags, table.item("tags").and_then(|item| tags(&item)));
    if let Some(item) = table.item("negative") {
        settings.negative = negative(&item);
    }
    if let Some(table) = table.item("key").and_then(|item| item.table(KEY)) {
        settings.key = key(&table);
    }
    if settings.default_ttl > settings.max_ttl
        && let Some(item) = table.item("default_ttl")
    {
        item.problem("a default_ttl above max_ttl", "one of at most max_ttl", None);
    }
    Some(settings)
}

const TAGS: &str = "the name of a field, or \"none\"";

fn tags(item: &Item<'_>) -> Option<Option<String>> {
    item.parsed(TAGS, |text| match text {
        "none" => Ok(None),
        name if is_token(name.as_bytes()) => Ok(Some(name.to_ascii_lowercase())),
        _ => Wrong::plain(),
    })
}

// `{ "404" = "10s" }`
fn negative(item: &Item<'_>) -> Vec<(u16, Duration)> {
    let mut all = Vec::new();
    for (status, item) in item.entries("a table of statuses and times") {
        let code = status.parse().ok().filter(|code| (400..=599).contains(code));
        match code {
            Some(code) => {
                let time = item.duration(SHORTEST..=LONGEST);
                all.extend(time.map(|time| (code, time)));
            }
            None => item.problem(format!("{status:?}"), "a status from 400 to 599", None),
        }
    }
    all
}

fn key(table: &Table<'_>) -> KeySettings {
    let mut key = KeySettings::default();
    set(&mut key.query, table.item("query").and_then(|item| query(&item)));
    let field = "the name of a field";
    let is_field = |name: &str| is_token(name.as_bytes());
    key.headers =
        table.item("headers").map(|item| names(&item, field, is_field)).unwrap_or_default();
    for name in &mut key.headers {
        name.make_ascii_lowercase();
    }
    let cookies = table.item("cookies");
    key.cookies =
        cookies.map(|item| names(&item, "the name of a cookie", is_field)).unwrap_or_default();
    key
}

const QUERIES: &str = "\"all\", \"none\", a list of names, or { except = [names] }";

fn query(item: &Item<'_>) -> Option<Query> {
    let parameter = "the name of a parameter";
    let is_parameter = |name: &str| !name.is_empty();
    if item.is_array() {
        return Some(Query::Only(names(item, parameter, is_parameter)));
    }
    if item.is_table() {
        let except = item.table(QUERY)?.need("except", "a list of names")?;
        return Some(Query::Except(names(&except, parameter, is_parameter)));
    }
    item.parsed(QUERIES, |text| match text {
        "all" => Ok(Query::All),
        "none" => Ok(Query::None),
        _ => Wrong::plain(),
    })
}

fn names(item: &Item<'_>, kind: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
    let items = item.one_or_more(kind);
    if items.len() > MOST_NAMES {
        item.problem(format!("{} names", items.len()), format!("at most {MOST_NAMES}"), None);
    }
    let name = |item: &Item<'_>| {
        item.parsed(kind, |text| if is(text) { Ok(text.to_owned()) } else { Wrong::plain() })
    };
    items.iter().filter_map(name).collect()
}
