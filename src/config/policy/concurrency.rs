//! `concurrency` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::Item;
use crate::config::keys::Keys;
use crate::config::policy::{key, rate};
use crate::policy::concurrency::Settings;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.concurrency", KEYS)];

const KEYS: Keys = &["limit", "key", "ipv6_prefix", "scope", "keys"];

const MOST: u64 = 1_000_000;

/// `concurrency = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let (key, keys) = (key::key(&table), key::keys(&table));
    let scope = rate::scope(&table).unwrap_or_default();
    let limit = table.need("limit", "a whole number from 1 to 1000000")?.integer(1..=MOST)?;
    Some(Settings { limit: u32::try_from(limit).unwrap_or(u32::MAX), key, scope, keys })
}
