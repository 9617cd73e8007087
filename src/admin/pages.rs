//! What the endpoints that people read say: the index, and the state of every target as JSON.
//!
//! Text from outside (a probe's last error) reaches JSON strings only, never HTML.

use crate::admin::guards;
use crate::admin::scrape::{Scrape, TargetStat};
use serde::Serialize;

/// The page at `/`.
pub const INDEX: &str = "ringgate admin\n\n\
    /metrics   counters and histograms for Prometheus\n\
    /targets   every target with its state and the reason, as JSON\n\
    /explain   POST: what would be done with a request, and why\n\
    /cache     what is stored, as JSON; POST /cache/purge with {\"url\": ...}, {\"prefix\": ...}, {\"tag\": ...} or {\"all\": true}\n\
    /mirrors   what mirrors have counted, and where their answers differ, as JSON\n\
    /healthz   200 while the control thread runs\n\
    /readyz    200 while every worker accepts connections, 503 with a sentence when not\n";

#[derive(Serialize)]
struct Page<'a> {
    generation: u64,
    groups: Vec<GroupView<'a>>,
}

#[derive(Serialize)]
struct GroupView<'a> {
    name: &'a str,
    healthy: usize,
    #[serde(flatten)]
    guard: guards::GroupView<'a>,
    targets: Vec<TargetView<'a>>,
}

#[derive(Serialize)]
struct TargetView<'a> {
    target: &'a str,
    zone: Option<&'a str>,
    weight: u32,
    state: &'static str,
    reason: Option<&'a str>,
    description: Option<&'a str>,
    last_error: Option<&'a str>,
    since_seconds: u64,
    requests: u64,
    active_requests: u64,
    connections: u64,
    idle_connections: u64,
    connect_errors: u64,
    #[serde(flatten)]
    guard: guards::TargetView<'a>,
}

/// The page at `/targets`: every group with its targets.
pub fn targets(scrape: &Scrape) -> String {
    let group = |name: &'_ str| -> Vec<&TargetStat> {
        scrape.targets.iter().filter(|target| target.group == name).collect()
    };
    let groups = scrape.groups.iter().map(|(name, _)| {
        let targets = group(name);
        GroupView {
            name,
            healthy: targets.iter().filter(|target| target.state == "healthy").count(),
            guard: guards::group_view(scrape, name),
            targets: targets.into_iter().map(view).collect(),
        }
    });
    let page = Page { generation: scrape.generation, groups: groups.collect() };
    let mut text = serde_json::to_string_pretty(&page).unwrap_or_default();
    text.push('\n');
    text
}

fn view(target: &TargetStat) -> TargetView<'_> {
    TargetView {
        target: &target.target,
        zone: target.zone.as_deref(),
        weight: target.weight,
        state: target.state,
        reason: target.reason.as_deref(),
        description: target.description.as_deref(),
        last_error: target.last_error.as_deref(),
        since_seconds: target.since_seconds,
        requests: target.totals.requests(),
        active_requests: target.totals.active,
        connections: target.totals.connections,
        idle_connections: target.idle_connections,
        connect_errors: target.totals.connect_errors,
        guard: guards::target_view(target),
    }
}
