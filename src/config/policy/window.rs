//! `window` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::Item;
use crate::config::keys::Keys;
use crate::config::policy::key;
use crate::config::units;
use crate::policy::window::{MOST, Settings};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.window", KEYS)];

const KEYS: Keys = &["requests", "window", "key", "ipv6_prefix", "action", "keys"];

/// `window = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let (key, keys) = (key::key(&table), key::keys(&table));
    let requests = table.need("requests", "a whole number from 1 to 1000000");
    let requests = requests.and_then(|item| item.integer(1..=u64::from(MOST)));
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let window = table.need("window", units::DURATION).and_then(|item| item.duration(range));
    let actions = [("block", true), ("count", false)];
    let blocks = table.item("action").and_then(|item| item.choice(&actions)).unwrap_or(true);
    let requests = u32::try_from(requests?).unwrap_or(MOST);
    Some(Settings { requests, window: window?, key, blocks, keys })
}
