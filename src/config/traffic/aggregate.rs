//! `aggregate`, an action of a rule.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
