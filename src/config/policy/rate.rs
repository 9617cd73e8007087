//! `rate` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::policy::key;
use crate::config::problem::Wrong;
use crate::policy::rate::fields::Style;
use crate::policy::rate::{Scope, Settings, bucket};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.rate", KEYS)];

const KEYS: Keys =
    &["limit", "burst", "key", "ipv6_prefix", "scope", "queue", "longest_wait", "fields", "keys"];

pub(super) const LIMIT: &str =
    "a rate such as \"100/s\", \"20/m\", \"1000/h\" or \"5000/d\", of at most 10000000 a second";
const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];

pub(super) const MOST_BURST: u64 = 1_000_000_000;
const MOST_QUEUE: u64 = 100_000;
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// `rate = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    // Names may hold dots.
    let name = item.path.strip_prefix("policy.").and_then(|path| path.strip_suffix(".rate"));
    let name = name.unwrap_or_default().to_owned();
    let mut settings =
        Settings { name, key: key::key(&table), keys: key::keys(&table), ..Settings::default() };
    let limit = table.need("limit", LIMIT).and_then(|item| item.parsed(LIMIT, limit));
    settings.burst = table.item("burst").and_then(|item| item.integer(1..=MOST_BURST));
    set(&mut settings.scope, scope(&table));
    set(&mut settings.queue, table.item("queue").and_then(|item| queue(&item)));
    let wait = table.item("longest_wait");
    if let (Some(item), 0) = (&wait, settings.queue) {
        item.problem("longest_wait without a queue", "queue = 20, or no longest_wait", None);
    }
    let wait = wait.and_then(|item| item.duration(Duration::from_millis(1)..=LONGEST_WAIT));
    set(&mut settings.longest_wait, wait);
    let styles = [
        ("standard", Style::Standard),
        ("legacy", Style::Legacy),
        ("both", Style::Both),
        ("none", Style::None),
    ];
    set(&mut settings.fields, table.item("fields").and_then(|item| item.choice(&styles)));
    (settings.count, settings.seconds) = limit?;
    Some(settings)
}

/// Whose limit it is.
pub(super) fn scope(table: &Table<'_>) -> Option<Scope> {
    let scopes = [("node", Scope::Node), ("core", Scope::Core)];
    table.item("scope").and_then(|item| item.choice(&scopes))
}

fn queue(item: &Item<'_>) -> Option<u64> {
    match item.peek_text() {
        Some("none") => Some(0),
        _ => {
            let kind = format!("\"none\" or a whole number from 1 to {MOST_QUEUE}");
            item.integer_or(&kind, 1..=MOST_QUEUE)
        }
    }
}

// So many in so many seconds.
pub(super) fn limit(text: &str) -> Result<(u64, u64), Wrong> {
    let Some((number, unit)) = text.split_once('/') else {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        return if digits {
            Wrong::hint(format!("did you mean \"{text}/s\"?"))
        } else {
            Wrong::plain()
        };
    };
    let meant = match unit {
        "sec" | "second" => "s",
        "min" | "minute" => "m",
        "hour" | "hr" => "h",
        "day" => "d",
        _ => "",
    };
    if !meant.is_empty() {
        return Wrong::hint(format!("did you mean \"{number}/{meant}\"?"));
    }
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let count = number.parse::<u64>().ok().filter(|_| digits);
    let (Some((_, seconds)), Some(count)) = (unit, count) else { return Wrong::plain() };
    let fits = count > 0 && count <= bucket::FASTEST * seconds;
    if fits { Ok((count, *seconds)) } else { Wrong::plain() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_rates() {
        for (text, expected) in [
            ("100/s", Some((100, 1))),
            ("20/m", Some((20, 60))),
            ("1000/h", Some((1000, 3600))),
            ("1/d", Some((1, 86_400))),
            ("10000000/s", Some((10_000_000, 1))),
            ("10000001/s", None),
            ("0/s", None),
            ("+1/s", None),
            ("1.5/s", None),
            ("100", None),
            ("100/", None),
            ("/s", None),
            ("100/w", None),
            ("100 / s", None),
        ] {
            assert_eq!(limit(text).ok(), expected, "{text}");
        }
        let hint = |text| limit(text).err().and_then(|wrong| wrong.hint).unwrap_or_default();
        assert_eq!(hint("100"), "did you mean \"100/s\"?");
        assert_eq!(hint("100/min"), "did you mean \"100/m\"?");
    }
}
