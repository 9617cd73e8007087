//! The metrics of policies: what each has decided, and why it refused.
//!
//! Names come from the file and reasons from the program, so that the number of series has a bound. Called by `metrics`.

use crate::admin::metrics::{Labels, family};
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
