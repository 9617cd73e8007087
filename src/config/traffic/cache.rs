//! `cache` of a rule, and `[cache]`.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
