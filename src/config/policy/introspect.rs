//! `introspect` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::Item;
use crate::config::keys::Keys;
use crate::policy::introspect::Settings;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.introspect", KEYS)];

const KEYS: Keys = &[];

/// `introspect = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let _table = item.table(KEYS)?;
    Some(Settings::default())
}
