//! Mirrors and answers made of parts: what they have counted, as metrics, and where answers differ, as a page.
//!
//! Samples hold names, pointers and, where the file says so, short pieces of answers: what is private was left out when they
//! were made. They reach JSON strings only. Called by `metrics` and `serve`.

use crate::admin::metrics::{Labels, family};
use crate::admin::scrape::{AggregateStat, Scrape};
use crate::base::meters::{BOUNDS, Totals};
use crate::observe::time::Clock;
use crate::snapshot::mirrors::{MirrorTotals, Sample};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Writes the families of mirrors and of injected faults; nothing where there are none.
pub(super) fn families(
    mirrors: &[(String, String, MirrorTotals)],
    injected: &[(String, &'static str, u64)],
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    if !injected.is_empty() {
        family(
            encoder,
            MetricType::Counter,
            "injected_faults",
            "Requests that were made to go wrong on purpose, by rule and by what they met.",
            injected.iter().map(|(rule, kind, count)| {
                (vec![("rule", rule.as_str()), ("kind", *kind)], *count)
            }),
        )?;
    }
    if mirrors.is_empty() {
        return Ok(());
    }
    let mut counts = |name: &str, help: &str, label: &'static str, of: Counts| {
        let series = mirrors.iter().flat_map(|(rule, _, totals)| {
            let labels = move |value| -> Labels<'_> { vec![("rule", rule), (label, value)] };
            of(totals).into_iter().map(move |(name, count)| (labels(name), count))
        });
        family(encoder, MetricType::Counter, name, help, series)
    };
    let help = "Requests that were to be copied, by what has become of them.";
    counts("mirror_requests", help, "result", |totals| totals.copied.clone())?;
    let help = "Pairs of a real answer and one to a copy, by whether they are the same.";
    counts("mirror_compared", help, "result", |totals| {
        let skipped = totals.skipped.iter().map(|(_, count)| count).sum();
        vec![("equal", totals.equal), ("different", totals.different), ("not_compared", skipped)]
    })?;
    let help = "Pairs of answers that differ, by what they differ in.";
    counts("mirror_differences", help, "kind", |totals| totals.kinds.clone())?;
    let help = "Pairs of answers that were not compared, or not whole, by why.";
    counts("mirror_not_compared", help, "reason", |totals| totals.skipped.clone())?;
    latencies(mirrors, encoder)
}

/// Writes the families of answers made of parts; nothing where there are none.
pub(super) fn aggregates(all: &[AggregateStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    let answers = all.iter().flat_map(|one| {
        let named = |name| -> Labels<'_> {
            vec![("rule", &one.rule), ("listener", &one.listener), ("result", name)]
        };
        one.answers.iter().map(move |(result, count)| (named(*result), *count))
    });
    let help = "Answers made of parts, by whether every part was there.";
    family(encoder, MetricType::Counter, "aggregate_answers", help, answers)?;
    let missing = all.iter().flat_map(|one| {
        let named = |name| -> Labels<'_> {
            vec![("rule", &one.rule), ("listener", &one.listener), ("part", name)]
        };
        one.missing.iter().map(move |(part, count)| (named(part.as_str()), *count))
    });
    let help = "Answers that a part was missing in, or was why there was none.";
    family(encoder, MetricType::Counter, "aggregate_missing_parts", help, missing)
}

type Counts = fn(&MirrorTotals) -> Vec<(&'static str, u64)>;

fn latencies(
    mirrors: &[(String, String, MirrorTotals)],
    encoder: &mut DescriptorEncoder,
) -> fmt::Result {
    let help = "How long answers that were compared took to begin, by whose they are.";
    let name = "mirror_latency_seconds";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (rule, _, totals) in mirrors {
        for (side, of) in [("real", &totals.real), ("mirror", &totals.other)] {
            // The encoder makes the buckets cumulative.
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(of.buckets).collect();
            let labels: Labels<'_> = vec![("rule", rule), ("side", side)];
            let seconds = Duration::from_micros(of.latency_us).as_secs_f64();
            metric.encode_family(&labels.as_slice())?.encode_histogram::<NoLabelSet>(
                seconds,
                of.buckets.iter().sum(),
                &buckets,
                None,
            )?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Page<'a> {
    generation: u64,
    mirrors: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    rule: &'a str,
    group: &'a str,
    requests: BTreeMap<&'static str, u64>,
    equal: u64,
    different: u64,
    differences: BTreeMap<&'static str, u64>,
    not_compared: BTreeMap<&'static str, u64>,
    mean_ms: Mean,
    samples: Vec<SampleView<'a>>,
}

// Each over all pairs; `null` where there was none.
#[derive(Serialize)]
struct Mean {
    real: Option<f64>,
    mirror: Option<f64>,
}

#[derive(Serialize)]
struct SampleView<'a> {
    time: String,
    request_id: &'a str,
    method: &'a str,
    path: &'a str,
    status: Pair<u16>,
    latency_ms: Pair<f64>,
    differences: Vec<DifferenceView<'a>>,
}

#[derive(Serialize)]
struct Pair<T> {
    real: T,
    mirror: T,
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    kind: &'static str,
    at: &'a str,
    real: Option<&'a str>,
    mirror: Option<&'a str>,
}

/// The page at `/mirrors`: every mirror with its counts and the last pairs that differ, newest first.
pub(super) fn page(scrape: &Scrape) -> String {
    let mirrors = scrape.mirrors.iter().map(|(rule, group, totals)| View {
        rule,
        group,
        requests: totals.copied.iter().copied().collect(),
        equal: totals.equal,
        different: totals.different,
        differences: totals.kinds.iter().copied().collect(),
        not_compared: totals.skipped.iter().copied().collect(),
        mean_ms: Mean { real: mean(&totals.real), mirror: mean(&totals.other) },
        samples: totals.samples.iter().rev().map(|sample| view(sample)).collect(),
    });
    let page = Page { generation: scrape.generation, mirrors: mirrors.collect() };
    let mut text = serde_json::to_string_pretty(&page).unwrap_or_default();
    text.push('\n');
    text
}

#[expect(clippy::cast_precision_loss, reason = "a mean need not be exact")]
fn mean(totals: &Totals) -> Option<f64> {
    let count: u64 = totals.buckets.iter().sum();
    (count > 0).then(|| (totals.latency_us as f64 / count as f64).round() / 1000.0)
}

fn view(sample: &Sample) -> SampleView<'_> {
    let mut time = Vec::new();
    Clock::default().iso(sample.wall_micros, &mut time);
    let [real, mirror] = sample.latency.map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3);
    let differences = sample.differences.iter().map(|difference| {
        let [real, mirror] = &difference.excerpts;
        DifferenceView {
            kind: difference.kind.name(),
            at: &difference.at,
            real: real.as_deref(),
            mirror: mirror.as_deref(),
        }
    });
    SampleView {
        time: String::from_utf8_lossy(&time).into_owned(),
        request_id: &sample.request_id,
        method: &sample.method,
        path: &sample.path,
        status: Pair { real: sample.status[0], mirror: sample.status[1] },
        latency_ms: Pair { real, mirror },
        differences: differences.collect(),
    }
}
