//! How the members of a group are chosen beside its algorithm: slow start, zones, tiers.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
