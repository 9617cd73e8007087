//! The metrics of policies: what each has decided, and why it refused.
//!
//! Names come from the file and reasons from the program, so that the number of series has a bound. Called by `metrics`.

use crate::admin::metrics::{Labels, family};
use crate::admin::scrape::UsageStat;
use crate::snapshot::policies::Decisions;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

/// Writes the families of policies; nothing where there are none.
pub(super) fn families(
    policies: &[(String, Decisions)],
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    if policies.is_empty() {
        return Ok(());
    }
    family(
        encoder,
        MetricType::Counter,
        "policy_decisions",
        "Requests by what a policy has decided: pass, answer, delay, refuse, or would_refuse with dry_run.",
        policies.iter().flat_map(|(name, decisions)| series(name, decisions)),
    )
}

/// Writes what is known of the usage ledger; nothing where there is none.
pub(super) fn usage(usage: Option<&UsageStat>, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    let Some(usage) = usage else { return Ok(()) };
    let families = [
        (Counter, "usage_ledger_records", "Counts written to the usage ledger.", usage.written),
        (Counter, "usage_ledger_failures", "Writes to the usage ledger that failed.", usage.failed),
        (
            Gauge,
            "usage_ledger_unwritten",
            "Counts of consumers that are not on disk as they are.",
            usage.unwritten,
        ),
        (Gauge, "usage_ledger_bytes", "Bytes of the usage ledger on disk.", usage.octets),
        (
            Gauge,
            "usage_ledger_flushed_timestamp_seconds",
            "When the usage ledger was last written, since 1970; 0 for not yet.",
            usage.flushed_unix,
        ),
    ];
    for (kind, name, help, value) in families {
        family(encoder, kind, name, help, [(Labels::new(), value)])?;
    }
    Ok(())
}

fn series<'a>(name: &'a str, decisions: &'a Decisions) -> impl Iterator<Item = (Labels<'a>, u64)> {
    let labels = move |decision, reason| -> Labels<'a> {
        vec![("policy", name), ("decision", decision), ("reason", reason)]
    };
    let plain =
        [("pass", decisions.passed), ("answer", decisions.answered), ("delay", decisions.delayed)];
    let reasons = |decision, list: &'a [(&'static str, u64)]| {
        list.iter().map(move |(reason, count)| (labels(decision, reason), *count))
    };
    let plain = plain.into_iter().map(move |(decision, count)| (labels(decision, ""), count));
    plain
        .chain(reasons("refuse", &decisions.refused))
        .chain(reasons("would_refuse", &decisions.dry))
}
