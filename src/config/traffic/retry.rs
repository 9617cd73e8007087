//! `retry` of a rule or a group.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
