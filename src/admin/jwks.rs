//! The metrics of issuers' keys: how many there are, how fetching them goes, and how old they are. Called by `metrics`.

use crate::admin::JwksStat;
use crate::admin::metrics::{Labels, family};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use std::fmt;

/// Writes them, where keys are fetched at all.
pub(super) fn families(places: &[JwksStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    if places.is_empty() {
        return Ok(());
    }
    family(
        encoder,
        Counter,
        "jwks_fetches",
        "Fetches of an issuer's keys, by whether they brought keys of use.",
        places.iter().flat_map(|place| {
            [("ok", place.successes), ("failed", place.failures)].map(|(result, count)| {
                let mut labels = labels(place);
                labels.push(("result", result));
                (labels, count)
            })
        }),
    )?;
    let mut gauge = |name, help, value: &dyn Fn(&JwksStat) -> u64| {
        let series = places.iter().map(|place| (labels(place), value(place)));
        family(encoder, Gauge, name, help, series)
    };
    let help = "Keys that tokens are verified with; 0 means that none is taken.";
    gauge("jwks_keys", help, &|place| place.keys)?;
    let help = "Whether the last fetch brought keys.";
    gauge("jwks_last_fetch_success", help, &|place| u64::from(place.last_ok))?;
    let help = "When keys were fetched last, since 1970; 0 for not yet.";
    gauge("jwks_last_success_timestamp_seconds", help, &|place| place.last_success_unix)
}

fn labels(place: &JwksStat) -> Labels<'_> {
    vec![("policy", place.policy.as_str()), ("url", place.url.as_str())]
}
