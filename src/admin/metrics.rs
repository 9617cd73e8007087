//! The metrics: which families there are, what they are called, and which labels they carry.
//!
//! Labels come from the configuration, never from a request. prometheus-client writes them in the OpenMetrics
//! text format; `text` turns that into the classic one for those who do not ask for OpenMetrics.

use crate::admin::scrape::{AcmeStat, Scrape, TargetStat};
use crate::admin::{guards, jwks, mirrors, policies, tls};
use crate::base::meters::{BOUNDS, Totals};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

/// All metrics of `scrape` in the OpenMetrics 1.0.0 text format.
pub fn open_metrics(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("ringgate");
    registry.register_collector(Box::new(Families(scrape)));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Families(Scrape);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let s = &self.0;
        process(s, &mut encoder)?;
        workers(s, &mut encoder)?;
        objects(&Scope::listeners(s), &mut encoder)?;
        objects(&Scope::rules(s), &mut encoder)?;
        objects(&Scope::groups(s), &mut encoder)?;
        objects(&Scope::targets(s), &mut encoder)?;
        targets(&s.targets, &mut encoder)?;
        guards::families(s, &mut encoder)?;
        tls::families(&s.tls, &mut encoder)?;
        tls::streams(&s.streams, &mut encoder)?;
        policies::families(&s.policies, &mut encoder)?;
        crate::admin::asks::families(&s.asks, &mut encoder)?;
        crate::admin::changes::families(&s.unmapped, &mut encoder)?;
        crate::admin::codings::families(&s.codings, &mut encoder)?;
        mirrors::families(&s.mirrors, &s.injected, &mut encoder)?;
        mirrors::aggregates(&s.aggregates, &mut encoder)?;
        policies::usage(s.usage.as_ref(), &mut encoder)?;
        jwks::families(&s.jwks, &mut encoder)?;
        crate::admin::cache::families(&s.cache, &mut encoder)?;
        acme(&s.acme, &mut encoder)
    }
}

/// Label names and values of one series.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes one family: its description, then one sample for each series.
pub(super) fn family<'a>(
    encoder: &mut DescriptorEncoder,
    kind: MetricType,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> fmt::Result {
    let gauge = matches!(kind, MetricType::Gauge);
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in series {
        if labels.is_empty() {
            if gauge { metric.encode_gauge(&value)? } else { count(&mut metric, value)? }
        } else {
            let labels = labels.as_slice();
            let mut metric = metric.encode_family(&labels)?;
            if gauge { metric.encode_gauge(&value)? } else { count(&mut metric, value)? }
        }
    }
    Ok(())
}

fn count(metric: &mut prometheus_client::encoding::MetricEncoder, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

fn process(s: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    let one = |value: u64| [(Labels::new(), value)];
    family(
        encoder,
        Gauge,
        "build_info",
        "Always 1; the labels say which version runs on which driver.",
        [(vec![("version", s.version), ("driver", s.driver)], 1)],
    )?;
    let gauges = [
        ("start_time_seconds", "When the process started, since 1970.", s.started_unix),
        ("config_generation", "The number of the configuration that runs.", s.generation),
        (
            "config_last_reload_success",
            "Whether the last reload was accepted.",
            u64::from(s.last_reload_ok),
        ),
        (
            "config_last_reload_timestamp_seconds",
            "When the last reload was tried, since 1970.",
            s.last_reload_unix,
        ),
        (
            "max_connections",
            "Client connections taken at most: as configured, or as open files allow.",
            s.max_connections,
        ),
        ("workers_stuck", "Workers that give no sign of life.", s.workers_stuck),
    ];
    for (name, help, value) in gauges {
        family(encoder, Gauge, name, help, one(value))?;
    }
    let counters = [
        ("log_dropped_records", "Access records that were lost.", s.log_dropped),
        ("log_written_bytes", "Bytes of access log written.", s.log_written_bytes),
        ("task_panics", "Tasks that panicked; each cost one connection.", s.task_panics),
        ("worker_restarts", "Workers that were replaced.", s.worker_restarts),
    ];
    for (name, help, value) in counters {
        family(encoder, Counter, name, help, one(value))?;
    }
    family(
        encoder,
        Counter,
        "config_reloads",
        "Reloads, by whether the configuration was accepted.",
        [("ok", s.reloads_ok), ("failed", s.reloads_failed)]
            .map(|(result, value)| (vec![("result", result)], value)),
    )?;
    family(
        encoder,
        Counter,
        "certificate_changes",
        "Changes of the files of certificates, by whether they were taken up.",
        [("ok", s.takings_ok), ("failed", s.takings_failed)]
            .map(|(result, value)| (vec![("result", result)], value)),
    )?;
    family(
        encoder,
        Counter,
        "faults",
        "Answers that ringgate made because something failed, by reason code.",
        s.faults.iter().map(|(reason, value)| (vec![("reason", *reason)], *value)),
    )?;
    family(
        encoder,
        Counter,
        "desync_requests",
        "Requests that deviate from the protocol, by class and reason as AWS ALB names them.",
        s.deviations
            .iter()
            .map(|(class, reason, value)| (vec![("class", *class), ("reason", *reason)], *value)),
    )?;
    family(
        encoder,
        Counter,
        "grpc_calls",
        "Calls of gRPC and gRPC-Web that ended, by status.",
        s.calls.iter().map(|(status, value)| (vec![("status", *status)], *value)),
    )
}

fn workers(s: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    let ids: Vec<String> = s.workers.iter().map(|worker| worker.id.to_string()).collect();
    let label = |id| vec![("worker", id)];
    let each = || ids.iter().map(String::as_str).zip(&s.workers);
    let here = || each().filter(|(_, worker)| !worker.gone);
    family(
        encoder,
        Gauge,
        "worker_alive",
        "Whether the worker gave a sign of life lately.",
        here().map(|(id, worker)| (label(id), u64::from(worker.alive))),
    )?;
    family(
        encoder,
        Gauge,
        "worker_connections",
        "Client connections that the worker has open.",
        here().map(|(id, worker)| (label(id), worker.connections)),
    )?;
    family(
        encoder,
        Gauge,
        "worker_busy_permille",
        "How much of the last half second the worker's thread ran, in thousandths.",
        here().map(|(id, worker)| (label(id), worker.busy)),
    )?;
    family(
        encoder,
        Counter,
        "connections_handed_over",
        "Connections that the worker accepted and handed to one that was less busy.",
        each().map(|(id, worker)| (label(id), worker.handed_over)),
    )?;
    family(
        encoder,
        Counter,
        "worker_requests",
        "Requests that the worker finished.",
        each().map(|(id, worker)| (label(id), worker.requests)),
    )
}

/// The objects of one kind, all of which have the same families.
struct Scope<'a> {
    /// What the families' names begin with.
    prefix: &'static str,
    /// One of these objects, in a sentence.
    of: &'static str,
    /// Whether connections are counted for it, and what opening one is.
    opens: Option<&'static str>,
    /// Whether it can fail and be tried again. Listeners' faults are counted by reason.
    fails: bool,
    series: Vec<(Labels<'a>, &'a Totals)>,
}

impl<'a> Scope<'a> {
    fn listeners(s: &'a Scrape) -> Scope<'a> {
        let series = named("listener", &s.listeners).collect();
        let opens = Some("accepted on a listener");
        Scope { prefix: "", of: "a listener", opens, fails: false, series }
    }

    fn rules(s: &'a Scrape) -> Scope<'a> {
        // With ten thousand rules, a page of zeros would be most of what is scraped.
        let series = named("rule", &s.rules)
            .filter(|(_, totals)| totals.requests() + totals.tunnels + totals.active > 0)
            .collect();
        let of = "a rule; rules that have had no request are left out";
        Scope { prefix: "rule_", of, opens: None, fails: true, series }
    }

    fn groups(s: &'a Scrape) -> Scope<'a> {
        let series = named("group", &s.groups).collect();
        Scope { prefix: "group_", of: "a group", opens: None, fails: true, series }
    }

    fn targets(s: &'a Scrape) -> Scope<'a> {
        let series =
            s.targets.iter().map(|target| (target_labels(target), &target.totals)).collect();
        let opens = Some("opened to a target");
        Scope { prefix: "target_", of: "a target", opens, fails: true, series }
    }

    fn write(
        &self,
        encoder: &mut DescriptorEncoder,
        kind: MetricType,
        name: &str,
        help: &str,
        value: impl Fn(&Totals) -> u64,
    ) -> fmt::Result {
        let series = self.series.iter().map(|(labels, totals)| (labels.clone(), value(totals)));
        family(encoder, kind, &format!("{}{name}", self.prefix), help, series)
    }
}

fn named<'a>(
    label: &'static str,
    objects: &'a [(String, Totals)],
) -> impl Iterator<Item = (Labels<'a>, &'a Totals)> {
    objects.iter().map(move |(name, totals)| (vec![(label, name.as_str())], totals))
}

pub(super) fn target_labels(target: &TargetStat) -> Labels<'_> {
    vec![("group", target.group.as_str()), ("target", target.target.as_str())]
}

fn objects(scope: &Scope<'_>, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    let of = scope.of;
    requests(scope, encoder)?;
    scope.write(
        encoder,
        Gauge,
        "active_requests",
        &format!("Requests in progress of {of}."),
        |t| t.active,
    )?;
    let help = format!("Bytes read from clients for {of}.");
    scope.write(encoder, Counter, "received_bytes", &help, |t| t.bytes_in)?;
    let help = format!("Bytes written to clients for {of}.");
    scope.write(encoder, Counter, "sent_bytes", &help, |t| t.bytes_out)?;
    if scope.fails {
        let help = format!("Answers that ringgate made because something failed, of {of}.");
        scope.write(encoder, Counter, "faults", &help, |t| t.faults)?;
        let help = format!("Requests sent again on another connection, of {of}.");
        scope.write(encoder, Counter, "retries", &help, |t| t.retries)?;
    }
    let help = format!("Tunnels opened, of {of}: upgraded requests, and relayed connections.");
    scope.write(encoder, Counter, "tunnels", &help, |t| t.tunnels)?;
    let help = format!("Tunnels open now, of {of}.");
    scope.write(encoder, Gauge, "open_tunnels", &help, |t| t.open_tunnels)?;
    if let Some(opens) = scope.opens {
        let help = format!("Connections {opens}.");
        scope.write(encoder, Counter, "connects", &help, |t| t.connects)?;
        let help = format!("Connections that could not be {opens}.");
        scope.write(encoder, Counter, "connect_errors", &help, |t| t.connect_errors)?;
        let help = format!("Connections open now, {opens}.");
        scope.write(encoder, Gauge, "connections", &help, |t| t.connections)?;
    }
    durations(scope, encoder)
}

/// `none` is a client that left before an answer began.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn requests(scope: &Scope<'_>, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let help = format!("Requests that ended, by class of the answer, of {}.", scope.of);
    let series = scope.series.iter().flat_map(|(labels, totals)| {
        CLASSES.iter().zip(&totals.status).map(|(class, value)| {
            let mut labels = labels.clone();
            labels.push(("class", class));
            (labels, *value)
        })
    });
    let name = format!("{}requests", scope.prefix);
    family(encoder, MetricType::Counter, &name, &help, series)
}

fn durations(scope: &Scope<'_>, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let name = format!("{}request_duration_seconds", scope.prefix);
    let help = format!("From the request's first byte to the answer's last, of {}.", scope.of);
    let mut metric = encoder.encode_descriptor(&name, &help, None, MetricType::Histogram)?;
    for (labels, totals) in &scope.series {
        // The encoder makes the buckets cumulative.
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(totals.buckets).collect();
        let count = totals.buckets.iter().sum();
        let seconds = std::time::Duration::from_micros(totals.latency_us).as_secs_f64();
        metric
            .encode_family(&labels.as_slice())?
            .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
    }
    Ok(())
}

fn acme(names: &[AcmeStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    if names.is_empty() {
        return Ok(());
    }
    family(
        encoder,
        Counter,
        "acme_attempts",
        "Attempts to obtain a certificate by ACME, by whether there is one.",
        names.iter().flat_map(|n| {
            [("ok", n.successes), ("failed", n.failures)]
                .map(|(result, count)| (vec![("name", n.name.as_str()), ("result", result)], count))
        }),
    )?;
    family(
        encoder,
        Gauge,
        "acme_last_success_timestamp_seconds",
        "When a certificate was obtained last, since 1970; 0 for not since the start.",
        names.iter().map(|n| (vec![("name", n.name.as_str())], n.last_success_unix)),
    )?;
    family(
        encoder,
        Gauge,
        "acme_certificate_not_after_seconds",
        "When the certificate that is kept for a name ends, since 1970; 0 without one.",
        names.iter().map(|n| (vec![("name", n.name.as_str())], n.not_after_unix)),
    )
}

fn targets(targets: &[TargetStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let gauge = MetricType::Gauge;
    let healthy = |target: &TargetStat| u64::from(target.state == "healthy");
    family(
        encoder,
        gauge,
        "target_healthy",
        "Whether the target is healthy; /targets says why not.",
        targets.iter().map(|target| (target_labels(target), healthy(target))),
    )?;
    family(
        encoder,
        gauge,
        "target_weight",
        "The target's weight; 0 takes no traffic.",
        targets.iter().map(|target| (target_labels(target), u64::from(target.weight))),
    )?;
    family(
        encoder,
        gauge,
        "target_idle_connections",
        "Idle connections kept to the target.",
        targets.iter().map(|target| (target_labels(target), target.idle_connections)),
    )
}
