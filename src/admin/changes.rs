//! The metrics of what rules change. Called by `metrics`.

use crate::admin::metrics::family;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::Counter;
use std::fmt;

/// Writes the families: bodies that should have been changed and were not, by reason.
pub(super) fn families(
    unmapped: &[(&'static str, u64)],
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    if unmapped.is_empty() {
        return Ok(());
    }
    let help =
        "Bodies of responses that a rule's json should have changed and could not, by reason.";
    let series = unmapped.iter().map(|(reason, value)| (vec![("reason", *reason)], *value));
    family(encoder, Counter, "unmapped_bodies", help, series)
}
