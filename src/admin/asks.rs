//! The metrics of what policies ask beside the data path: passwords, and calls of services.
//!
//! Whole numbers over all policies; what each policy has decided stands in `policies`. Called by `metrics`.

use crate::admin::metrics::{Labels, family};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;

/// What policies have asked since the start.
#[derive(Clone, Debug, Default)]
pub struct AskStat {
    /// Passwords asked about.
    pub passwords: u64,
    /// Of them, those that could not be checked.
    pub passwords_failed: u64,
    /// Calls asked for.
    pub calls: u64,
    /// Of them, those that got the answer of another one.
    pub calls_shared: u64,
    /// Calls that were made.
    pub calls_made: u64,
    /// Calls that got no answer.
    pub calls_failed: u64,
    /// How long calls that were made took, summed, in nanoseconds.
    pub call_nanos: u64,
    /// Questions that are open now.
    pub open: u64,
}

/// Writes the families; nothing where nothing was ever asked.
pub(super) fn families(s: &AskStat, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    if s.passwords + s.calls == 0 {
        return Ok(());
    }
    let one = |value: u64| [(Labels::new(), value)];
    let passwords = "Passwords that policies have asked about.";
    family(encoder, Counter, "policy_passwords", passwords, one(s.passwords))?;
    let failed = "Passwords that could not be checked: too many at the same time.";
    family(encoder, Counter, "policy_passwords_failed", failed, one(s.passwords_failed))?;
    let calls = "Calls of services that policies have asked for.";
    family(encoder, Counter, "policy_calls", calls, one(s.calls))?;
    let shared = "Calls that got the answer of one that was under way, or just over.";
    family(encoder, Counter, "policy_calls_shared", shared, one(s.calls_shared))?;
    let made = "Calls of services that were made.";
    family(encoder, Counter, "policy_calls_made", made, one(s.calls_made))?;
    let failed = "Calls without an answer: not reached, too slow, too large, or too many.";
    family(encoder, Counter, "policy_calls_failed", failed, one(s.calls_failed))?;
    let open = "Questions of policies that are open now.";
    family(encoder, Gauge, "policy_asks_open", open, one(s.open))?;
    let took = "How long the calls that were made took, summed.";
    let mut metric = encoder.encode_descriptor("policy_calls_seconds", took, None, Counter)?;
    let seconds = std::time::Duration::from_nanos(s.call_nanos).as_secs_f64();
    metric.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)
}
