//! The one exit: every exchange is counted and logged here, once, however it ended.

use crate::base::meters::{Cell, Meters};
use crate::base::{Tick, tick};
use crate::http::Fault;
use crate::http::desync::Reason;
use crate::observe::Record;
use crate::observe::kept::Kept;
use crate::proxy::{Exchange, call, upgrade};
use crate::shard::Shard;
use crate::snapshot::{Group, Rule, Target};
use crate::sticky::Outcome;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// What is counted as active, with its listener, rule, group or target, until this is dropped, however it ends.
pub struct Active<'a>(&'a Cell);

impl<'a> Active<'a> {
    /// Counts one in.
    #[inline]
    pub fn begin(cell: &'a Cell) -> Active<'a> {
        cell.active.add(1);
        Active(cell)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.sub(1);
    }
}

/// Counts an exchange out and writes its record. Returns when that was.
pub fn finish(x: &mut Exchange<'_>) -> Tick {
    let now = Tick::now();
    let epoch = x.epoch;
    let snapshot = &epoch.snapshot;
    let worker = x.shard.worker;
    let rule = x.scratch.trace.rule.and_then(|at| snapshot.rules.get(at));
    let group = x.scratch.trace.group.and_then(|at| snapshot.groups.get(at)).map(|g| &**g);
    let target = group.and_then(|g| g.targets.get(x.scratch.trace.target?));
    count(x, now, x.listener.meters.cell(worker));
    let own = !x.scratch.trace.counted;
    let further: [Option<&Meters>; 3] = [
        rule.map(|r| &*r.meters),
        group.map(|g| &g.live.meters).filter(|_| own),
        target.map(|t| &*t.live.meters).filter(|_| own),
    ];
    for meters in further.into_iter().flatten() {
        count(x, now, meters.cell(worker));
    }
    let pulse = &x.shard.pulse;
    pulse.requests.store(pulse.requests.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    if let Some(fault) = x.scratch.trace.fault {
        pulse.faults.add(fault);
    }
    let grpc_status = call::status(x);
    if let Some(status) = grpc_status {
        pulse.calls.add(status);
    }
    if let Some(reason) = x.scratch.request.deviation {
        pulse.deviations.add(reason);
    }
    let logs = x.shard.logs();
    if upgrade::has_switched(x) {
        let kept = logs.then(|| with_record(x, now, rule, group, target, grpc_status, Kept::of));
        upgrade::depart(x, rule, group, target, kept);
    } else if logs {
        with_record(x, now, rule, group, target, grpc_status, |record| x.shard.record(record));
    }
    count_dry_runs(x);
    x.scratch.findings.clear();
    now
}

/// Counts a request that ringgate has sent by itself: for its group and its target.
pub fn inner(x: &Exchange<'_>) {
    let now = Tick::now();
    let group = x.scratch.trace.group.and_then(|at| x.epoch.snapshot.groups.get(at));
    let target = group.and_then(|g| g.targets.get(x.scratch.trace.target?));
    let meters = [group.map(|g| &g.live.meters), target.map(|t| &*t.live.meters)];
    for meters in meters.into_iter().flatten() {
        count(x, now, meters.cell(x.shard.worker));
    }
}

fn count_dry_runs(x: &Exchange<'_>) {
    for (at, fault) in &x.scratch.findings.dry {
        let policy = x.epoch.snapshot.policies.get(*at);
        if let Some(cell) = policy.and_then(|p| p.meters.cell(x.shard.worker)) {
            cell.refuse(*fault, true);
        }
    }
}

fn count(x: &Exchange<'_>, now: Tick, cell: &Cell) {
    let trace = &x.scratch.trace;
    if let Some(class) = cell.status.get(usize::from(trace.status / 100).min(5)) {
        class.add(1);
    }
    cell.bytes_in.add(trace.bytes_in);
    cell.bytes_out.add(trace.bytes_out);
    cell.latency.record(now.since(trace.began));
    if trace.fault.is_some() {
        cell.faults.add(1);
    }
    if trace.retries > 0 {
        cell.retries.add(u64::from(trace.retries));
    }
}

fn with_record<R>(
    x: &Exchange<'_>,
    now: Tick,
    rule: Option<&Rule>,
    group: Option<&Group>,
    target: Option<&Target>,
    grpc_status: Option<u16>,
    take: impl FnOnce(&Record<'_>) -> R,
) -> R {
    let view = x.view();
    let trace = &x.scratch.trace;
    let reached = trace.sent.or(trace.answered);
    let sent_as = x.canonical_target();
    let findings = &x.scratch.findings;
    let dry_run = dry_run(x);
    let blocked = trace.fault.is_none_or(|fault| fault == Fault::PatternBlocked);
    let noted = given(&findings.note).filter(|_| blocked);
    let received = x.scratch.request.target.of(x.buf.filled());
    take(&Record {
        wall_micros: tick::wall_micros(),
        request_id: &x.scratch.request_id,
        client: x.client_ip(),
        peer: Some(x.client.peer),
        listener: &x.listener.name,
        rule: rule.map_or("", |r| &r.name),
        rule_priority: rule.and_then(|r| r.priority),
        group: group.map_or("", |g| &g.name),
        target: target.map(|t| &*t.live.name),
        method: view.method,
        scheme: x.client.scheme(),
        host: view.host,
        path: sent_as.as_deref().unwrap_or(received),
        received: sent_as.is_some().then_some(received),
        version: x.scratch.request.version.text(),
        stream: x.client.sock.stream().map(|stream| stream.id()),
        status: trace.status,
        target_status: trace.target_status,
        bytes_in: trace.bytes_in,
        bytes_out: trace.bytes_out,
        body_in: trace.bytes_in.saturating_sub(x.scratch.request.len as u64),
        body_out: trace.body_out,
        request_time: reached.map(|at| at.since(trace.began)),
        connect_time: trace.connect,
        response_time: trace.answered.zip(reached).map(|(a, s)| a.since(s)),
        total: Some(now.since(trace.began)),
        user_agent: view.fields.first("user-agent"),
        referer: view.fields.first("referer"),
        trace_id: view.fields.first("x-amzn-trace-id"),
        redirect_url: None,
        reason: trace.fault.map(Fault::code),
        reason_text: noted.or_else(|| {
            trace.fault.map(|fault| match (fault, &trace.detail) {
                (Fault::TargetTlsFailed, Some(detail)) => &**detail,
                (fault, _) if speaks_for_itself(fault) && !findings.detail.is_empty() => {
                    &findings.detail
                }
                _ => fault.sentence(),
            })
        }),
        retries: trace.retries,
        reused: trace.reused,
        generation: x.epoch.snapshot.generation,
        worker: x.shard.worker,
        action: if trace.action.is_empty() { "none" } else { trace.action },
        grpc_status,
        policy: trace.policy.and_then(|at| x.epoch.snapshot.policies.get(at)).map(|p| &*p.name),
        consumer: given(&findings.identity.consumer),
        plan: given(&findings.identity.plan),
        dry_run: dry_run.as_deref(),
        tls: x.client.tls.as_deref(),
        passed: x.client.passed.as_ref().map_or(&[], |p| &p.tlvs),
        deviation: x.scratch.request.deviation,
        sticky: trace.steer.outcome.map(Outcome::name),
        cache: given(trace.cache),
        injected: Some(trace.injected).filter(|what| !what.is_empty()),
    })
}

// Whether what was found says more than the fault's own sentence.
fn speaks_for_itself(fault: Fault) -> bool {
    fault.policy_index().is_some() || matches!(fault, Fault::PartFailed | Fault::PartTimeout)
}

fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

// Rare: policies that only count are for a while.
fn dry_run(x: &Exchange<'_>) -> Option<String> {
    let said = x.scratch.findings.dry.iter().filter_map(|(at, fault)| {
        let policy = x.epoch.snapshot.policies.get(*at)?;
        Some(format!("{}:{}", policy.name, fault.code()))
    });
    let said = said.collect::<Vec<_>>().join(",");
    (!said.is_empty()).then_some(said)
}

/// A request that could not even be read: counted and logged with what is known of it.
pub struct Unread<'a> {
    /// Where it came in.
    pub listener: &'a crate::snapshot::Listener,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The port it came to.
    pub began: Tick,
    /// What is wrong with it.
    pub fault: Fault,
    /// What of it is not compliant.
    pub deviation: Option<Reason>,
    /// The status that was sent; 0 for none.
    pub status: u16,
    /// Octets read.
    pub bytes_in: u64,
    /// Octets written.
    pub bytes_out: u64,
    /// The id in the answer.
    pub request_id: &'a [u8],
    /// The configuration's generation.
    pub generation: u64,
}

/// Counts and logs a request that could not be read.
pub fn unread(shard: &Shard, unread: &Unread<'_>) {
    let now = Tick::now();
    let cell = unread.listener.meters.cell(shard.worker);
    if let Some(class) = cell.status.get(usize::from(unread.status / 100).min(5)) {
        class.add(1);
    }
    cell.faults.add(1);
    cell.bytes_in.add(unread.bytes_in);
    cell.bytes_out.add(unread.bytes_out);
    cell.latency.record(now.since(unread.began));
    shard.pulse.faults.add(unread.fault);
    if let Some(reason) = unread.deviation {
        shard.pulse.deviations.add(reason);
    }
    if !shard.logs() {
        return;
    }
    shard.record(&Record {
        wall_micros: tick::wall_micros(),
        request_id: unread.request_id,
        client: unread.peer.ip(),
        peer: Some(unread.peer),
        listener: &unread.listener.name,
        status: unread.status,
        bytes_in: unread.bytes_in,
        bytes_out: unread.bytes_out,
        total: Some(now.since(unread.began)),
        reason: Some(unread.fault.code()),
        reason_text: Some(unread.fault.sentence()),
        generation: unread.generation,
        worker: shard.worker,
        action: "none",
        deviation: unread.deviation,
        scheme: if unread.listener.secure.is_some() { "https" } else { "http" },
        ..Record::default()
    });
}
