//! `hmac` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::policy::hmac::{Algorithm, KeySettings, Nonce, Secret, Settings, component};
use std::path::Path;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.hmac", KEYS), ("policy.*.hmac.keys", KEY)];

const KEYS: Keys = &[
    "keys", "file", "label", "tag", "require", "digest", "max_age", "skew", "nonce", "nonces",
    "limit", "header",
];
const KEY: Keys = &["id", "algorithm", "secret", "public_key", "consumer"];

const NONCE: &[(&str, Nonce)] =
    &[("optional", Nonce::Optional), ("required", Nonce::Required), ("ignored", Nonce::Ignored)];

/// `hmac = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let mut settings = Settings::default();
    if let Some(keys) = table.item("keys") {
        let kind = "tables of id, algorithm, secret or public_key, and consumer";
        settings.keys = keys.array(kind).iter().filter_map(key).collect();
    }
    settings.file = table.item("file").and_then(|item| {
        let path = item.parsed("the path of a file of keys", |text| {
            let fits = !text.is_empty() && !text.contains('\0');
            if fits { Ok(text.to_owned()) } else { Wrong::plain() }
        })?;
        let place = item.place();
        Some(Path::new(&*place.file).parent().unwrap_or(Path::new("")).join(path))
    });
    if table.item("keys").is_none() && table.item("file").is_none() {
        item.problem("no keys", "keys, or a file with them", None);
    }
    settings.label = table.item("label").and_then(|item| {
        item.parsed("a label such as \"sig1\"", |text| {
            let plain =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b);
            let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'*');
            if first && text.bytes().all(plain) { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    settings.tag = table.item("tag").and_then(|item| id(&item, "the tag of signatures"));
    settings.require = table.item("require").map(|item| required(&item));
    set(&mut settings.digest, table.item("digest").and_then(|item| item.boolean()));
    let times = Duration::from_secs(1)..=Duration::from_secs(86_400);
    set(&mut settings.max_age, duration(&table, "max_age", times));
    let times = Duration::ZERO..=Duration::from_secs(600);
    set(&mut settings.skew, duration(&table, "skew", times));
    set(&mut settings.nonce, table.item("nonce").and_then(|item| item.choice(NONCE)));
    let nonces = table.item("nonces").and_then(|item| item.integer(1..=100_000_000));
    set(&mut settings.nonces, nonces);
    set(&mut settings.limit, table.item("limit").and_then(|item| item.size(1..=64 << 20)));
    settings.header = table.item("header").and_then(|item| {
        item.parsed("the name of a field", |text| {
            if syntax::is_token(text) { Ok(text.to_ascii_lowercase()) } else { Wrong::plain() }
        })
    });
    Some(settings)
}

fn key(item: &Item<'_>) -> Option<KeySettings> {
    let table = item.table(KEY)?;
    let text = |key: &str, kind: &str| {
        let text = table.item(key).and_then(|item| item.text(kind));
        text.map(|text| text.into_owned())
    };
    let name = "a short text of printable ASCII";
    let key_id = table.need("id", "keyid of signatures").and_then(|item| id(&item, name));
    let algorithm = table.need("algorithm", "what the key is for");
    let algorithm = algorithm.and_then(|item| item.choice(Algorithm::WORDS));
    let secret = text("secret", "a secret in base64").map(Secret);
    let public_key = text("public_key", "a public key in PEM");
    let consumer = table.item("consumer").and_then(|item| id(&item, name));
    let algorithm = algorithm?;
    let (wanted, other) = match algorithm {
        Algorithm::HmacSha256 => ("secret", "public_key"),
        _ => ("public_key", "secret"),
    };
    if table.item(wanted).is_none() || table.item(other).is_some() {
        let found = format!("{:?} without {wanted}, or with {other}", algorithm.name());
        item.problem(found, format!("{wanted} and no {other}"), None);
    }
    Some(KeySettings { id: key_id?, algorithm, secret, public_key, consumer })
}

fn id(item: &Item<'_>, kind: &str) -> Option<String> {
    item.parsed(kind, |text| {
        let plain = |b: u8| (b' '..0x7f).contains(&b) && !b"\"\\".contains(&b);
        let fits = !text.is_empty() && text.len() <= 256 && text.bytes().all(plain);
        if fits { Ok(text.to_owned()) } else { Wrong::plain() }
    })
}

fn required(item: &Item<'_>) -> Vec<String> {
    let kind = "components such as \"@method\", \"content-type\" or '@query-param;name=\"a\"'";
    let items = item.array(kind);
    let read = |text: &str| component(text).ok_or_else(Wrong::default);
    items.iter().filter_map(|item| item.parsed(kind, read)).collect()
}

fn duration(
    table: &Table<'_>,
    key: &str,
    range: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    table.item(key).and_then(|item| item.duration(range))
}
