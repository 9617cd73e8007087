//! What keeps targets from harm, as metrics and on the page of targets: who is out, breakers, queues, what was shed.
//!
//! Names come from the file and reasons from the program, so that the number of series has a bound. Groups that say nothing
//! of it have no series. Called by `metrics` and `pages`.

use crate::admin::metrics::{Labels, family, target_labels};
use crate::admin::scrape::{BreakerStat, GuardStat, QueueStat, Scrape, TargetStat};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{self, Counter, Gauge};
use serde::Serialize;
use std::fmt;

/// What the page says of a group beside its targets.
#[derive(Debug, Default, Serialize)]
pub(super) struct GroupView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
}

#[derive(Debug, Serialize)]
struct BreakerView<'a> {
    state: &'a str,
    since_seconds: u64,
}

/// What the page says of a target beside its health.
#[derive(Debug, Serialize)]
pub(super) struct TargetView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ejection: Option<EjectionView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_connections: Option<u64>,
}

#[derive(Debug, Serialize)]
struct EjectionView<'a> {
    reason: &'a str,
    description: &'a str,
    since_seconds: u64,
    left_seconds: u64,
}

/// What the page says of this group.
pub(super) fn group_view<'a>(scrape: &'a Scrape, group: &str) -> GroupView<'a> {
    let Some(guard) = scrape.guards.iter().find(|guard| guard.group == group) else {
        return GroupView::default();
    };
    let breaker = guard.breaker.as_ref();
    GroupView {
        ejected: guard.ejected,
        breaker: breaker.map(|b| BreakerView { state: b.state, since_seconds: b.since_seconds }),
        queued: guard.queue.as_ref().map(|queue| queue.length),
    }
}

/// What the page says of this target.
pub(super) fn target_view(target: &TargetStat) -> TargetView<'_> {
    TargetView {
        ejection: target.out.as_ref().map(|out| EjectionView {
            reason: out.reason,
            description: out.description,
            since_seconds: out.since_seconds,
            left_seconds: out.left_seconds,
        }),
        in_flight: target.in_flight,
        opened_connections: target.opened,
    }
}

/// Writes the families.
pub(super) fn families(s: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    family(
        encoder,
        Counter,
        "shed_requests",
        "Requests that were shed for want of room, by the importance of their rule.",
        s.shed.iter().map(|(importance, count)| (vec![("importance", *importance)], *count)),
    )?;
    outliers(s, encoder)?;
    breakers(&s.guards, encoder)?;
    queues(&s.guards, encoder)?;
    let flying = |t: &TargetStat| Some((t.in_flight?, t.opened));
    let bounded = || s.targets.iter().filter_map(move |t| flying(t).map(|f| (t, f)));
    if bounded().next().is_none() {
        return Ok(());
    }
    family(
        encoder,
        Gauge,
        "target_in_flight_requests",
        "Requests that the target has in flight, where they are bounded.",
        bounded().map(|(target, (requests, _))| (target_labels(target), requests)),
    )?;
    family(
        encoder,
        Gauge,
        "target_opened_connections",
        "Connections to the target that are open or being opened, where they are bounded.",
        bounded().filter_map(|(target, (_, opened))| Some((target_labels(target), opened?))),
    )
}

fn outliers(s: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let watched = || s.targets.iter().filter(|target| !target.ejections.is_empty());
    if watched().next().is_none() {
        return Ok(());
    }
    family(
        encoder,
        Gauge,
        "target_ejected",
        "Whether the target is taken out since its answers were bad; /targets says why.",
        watched().map(|target| (target_labels(target), u64::from(target.out.is_some()))),
    )?;
    family(
        encoder,
        Counter,
        "target_ejections",
        "How often the target was taken out since its answers were bad, by reason.",
        watched().flat_map(|target| {
            target.ejections.iter().map(move |(reason, count)| {
                let mut labels = target_labels(target);
                labels.push(("reason", reason));
                (labels, *count)
            })
        }),
    )
}

fn breakers(guards: &[GuardStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let all: Vec<(&str, &BreakerStat)> =
        guards.iter().filter_map(|g| Some((g.group.as_str(), g.breaker.as_ref()?))).collect();
    if all.is_empty() {
        return Ok(());
    }
    let labels = |group, state| -> Labels<'_> { vec![("group", group), ("state", state)] };
    family(
        encoder,
        Gauge,
        "breaker_state",
        "1 for the state that the group's breaker is in.",
        all.iter().flat_map(|(group, breaker)| {
            let now = breaker.state;
            let states = breaker.changes.iter();
            states.map(move |(state, _)| (labels(group, state), u64::from(*state == now)))
        }),
    )?;
    family(
        encoder,
        Counter,
        "breaker_transitions",
        "How often the group's breaker has changed, by the state that began.",
        all.iter().flat_map(|(group, breaker)| {
            breaker.changes.iter().map(move |(state, count)| (labels(group, state), *count))
        }),
    )?;
    family(
        encoder,
        Counter,
        "breaker_refused_requests",
        "Requests that the group's breaker did not let in.",
        all.iter().map(|(group, breaker)| (vec![("group", *group)], breaker.refused)),
    )
}

fn queues(guards: &[GuardStat], encoder: &mut DescriptorEncoder) -> fmt::Result {
    let all: Vec<(&str, &QueueStat)> =
        guards.iter().filter_map(|g| Some((g.group.as_str(), g.queue.as_ref()?))).collect();
    if all.is_empty() {
        return Ok(());
    }
    type Of = fn(&QueueStat) -> u64;
    let families: [(MetricType, &str, &str, Of); 5] = [
        (Gauge, "queue_length", "Requests that wait for a target of the group.", |q| q.length),
        (Counter, "queue_waits", "Requests that have waited for a target.", |q| q.waited),
        (
            Counter,
            "queue_wait_microseconds",
            "How long requests have waited for a target, all together.",
            |q| q.waited_us,
        ),
        (Counter, "queue_timeouts", "Requests that waited too long for a target.", |q| q.late),
        (Counter, "queue_refusals", "Requests that found the queue full.", |q| q.refused),
    ];
    for (kind, name, help, value) in families {
        let series = all.iter().map(|(group, queue)| (vec![("group", *group)], value(queue)));
        family(encoder, kind, name, help, series)?;
    }
    Ok(())
}
