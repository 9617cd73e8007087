//! `request`, `response` and `errors` of a rule: what is changed on the way.
//!
//! Called by the readers of rules and groups.

use crate::config::keys::Keys;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[];
