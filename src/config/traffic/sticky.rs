//! `sticky` of a rule and of a group, and `canary` of a rule: who stays where.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
