//! `basic` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{syntax, target_tls};
use crate::policy::basic::{Settings, hash};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.basic", KEYS)];

const KEYS: Keys =
    &["realm", "users", "files", "remember", "failures", "failure_window", "forward", "header"];

/// `basic = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let text = |text: &str| {
        if syntax::is_field_value(text) { Ok(text.to_owned()) } else { Wrong::plain() }
    };
    let realm =
        table.item("realm").and_then(|item| item.parsed("a text without control characters", text));
    let files =
        table.item("files").map(|item| item.one_or_more("the path of a file")).unwrap_or_default();
    let header = table.item("header").and_then(|item| super::basic::header(&item));
    let users = users(&table);
    if table.item("users").is_none() && files.is_empty() {
        let expected = "users = { NAME = HASH }, files = [\"users.htpasswd\"], or both";
        table.problem(item.path.clone(), "no users", expected);
    }
    let duration = |key: &str, default: u64, range: std::ops::RangeInclusive<u64>| {
        let range = Duration::from_secs(*range.start())..=Duration::from_secs(*range.end());
        let given = table.item(key).and_then(|item| item.duration(range));
        given.unwrap_or(Duration::from_secs(default))
    };
    Some(Settings {
        realm: realm.unwrap_or_else(|| "restricted".to_owned()),
        users,
        files: files.iter().filter_map(target_tls::material).map(|m| m.path).collect(),
        remember: duration("remember", 300, 1..=86_400),
        failures: table.item("failures").and_then(|item| item.integer(1..=1000)).unwrap_or(20),
        window: duration("failure_window", 60, 1..=86_400),
        forward: table.item("forward").and_then(|item| item.boolean()).unwrap_or(false),
        header,
    })
}

fn users(table: &Table<'_>) -> Vec<(String, String)> {
    let Some(item) = table.item("users") else { return Vec::new() };
    let entries = item.entries("a table of names and hashes").into_iter();
    let users = entries.filter_map(|(name, item)| {
        let hash = item.text("a hash of bcrypt or argon2")?;
        if let Err(found) = hash::judge(&hash) {
            item.problem(found, "a hash of bcrypt or argon2", None);
            return None;
        }
        Some((name.to_owned(), hash.into_owned()))
    });
    users.collect()
}

/// The name of a field that targets are told something in.
pub(super) fn header(item: &Item<'_>) -> Option<String> {
    item.parsed("the name of a field, such as \"x-user\"", |text| {
        let name = text.to_ascii_lowercase();
        let known = crate::http::Known::of(name.as_bytes());
        match (syntax::is_token(text), known == crate::http::Known::Other) {
            (true, true) => Ok(name),
            (true, false) => Wrong::hint("it means something of its own"),
            _ => Wrong::plain(),
        }
    })
}
