//! The ledger of what consumers use, as the service keeps it: told of every configuration before a request is counted by it.
//!
//! Called at the start and at each change of what is served.

use super::Service;
use crate::config::Config;
use crate::control::ledger::Ledger;
use crate::policy::Kind;
use crate::policy::api_key::Meter;
use crate::snapshot::Snapshot;
use std::sync::Arc;

/// The ledger of the first configuration.
pub(super) fn begin(config: &Config, snapshot: &Snapshot) -> Ledger {
    let mut ledger = Ledger::default();
    follow(&mut ledger, config, snapshot);
    ledger
}

impl Service {
    /// Counts by `snapshot`, which is about to be published.
    pub(super) fn follow_usage(&mut self, config: &Config, snapshot: &Snapshot) {
        follow(&mut self.ledger, config, snapshot);
    }
}

fn follow(ledger: &mut Ledger, config: &Config, snapshot: &Snapshot) {
    let mut meters: Vec<Arc<Meter>> = Vec::new();
    for policy in &snapshot.policies {
        if let Kind::ApiKey(policy) = &policy.kind {
            meters.extend(policy.meters().cloned());
        }
    }
    for warning in ledger.follow(meters, &config.usage) {
        tracing::warn!("{warning}");
    }
}
