//! How things stand in the process that runs: a copy of its configuration is made to stand alike, and its targets are described.
//!
//! What lies in shared atomics can be copied: health, ejections, breakers, weights that grow, what limits have counted for one
//! client. What lies with the workers cannot, and is said to be left out. The running snapshot stays as it is. Called by `explain`.

use crate::balance::{Chosen, Zones};
use crate::base::Tick;
use crate::config::{self, Config};
use crate::control::explain::{GroupSaid, TargetSaid};
use crate::health::{self, State};
use crate::policy::key::Part;
use crate::policy::{Findings, Kind, Settings, Subject};
use crate::shard::epoch;
use crate::snapshot::{Address, Group, Snapshot, Target, policies};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The file as its running process has it: cookies that this one has sealed are believed.
pub fn as_running(config: &mut Config, running: &Snapshot) {
    config.server.secrets.push(running.seals.own().clone());
}

/// The addresses that the running process knows for a name.
pub fn resolved(running: &Snapshot, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let is = |target: &&Target| {
        let host = target.host.strip_prefix(name);
        host.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    };
    let targets = running.groups.iter().flat_map(|group| &group.targets).filter(is);
    let ip = |target: &Target| match &target.live.address {
        Address::Tcp(address) => Some(address.ip()),
        Address::Unix(_) => None,
    };
    let mut all: Vec<IpAddr> = targets.filter_map(ip).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Has a copy stand as the running snapshot does.
pub fn follow(snapshot: &mut Snapshot, running: &Snapshot) {
    for group in &snapshot.groups {
        let Some(known) = running.groups.iter().find(|g| g.name == group.name) else { continue };
        group.live.breaker.follow(&known.live.breaker);
        group.live.cursor.store(known.live.cursor.load(Relaxed), Relaxed);
        group.live.load.store(known.live.load.load(Relaxed), Relaxed);
        for target in &group.targets {
            let same = |t: &&Target| t.live.name == target.live.name;
            let Some(known) = known.targets.iter().find(same) else { continue };
            let (live, known) = (&target.live, &known.live);
            live.set_health(known.health());
            live.returned(known.since());
            live.load.store(known.load.load(Relaxed), Relaxed);
            if let Some(out) = known.guard.watch.out() {
                live.guard.watch.eject(out.reason, out.since, out.until);
            }
        }
    }
    for policy in &mut snapshot.policies {
        let known = running.policies.iter().find(|known| known.name == policy.name);
        let fetched = matches!(policy.kind, Kind::Jwt(_) | Kind::Oidc(_));
        if let Some(known) = known.filter(|_| fetched)
            && let Ok(with_keys) = policies::with_keys(policy, known)
        {
            *policy = with_keys;
        }
    }
}

/// Counts for the sender of a request what the running process has.
pub fn count(snapshot: &Snapshot, running: &Snapshot, subject: &Subject<'_>, findings: &Findings) {
    for policy in &snapshot.policies {
        if let Some(known) = running.policies.iter().find(|known| known.name == policy.name) {
            policy.kind.follow(&known.kind, subject, findings);
        }
    }
}

/// Whether a policy counts by what only a verified token says, which is not known here.
pub fn counts_by_claims(policy: &config::Policy) -> bool {
    let key = match &policy.settings {
        Settings::Rate(settings) => &settings.key,
        Settings::Concurrency(settings) => &settings.key,
        Settings::Window(settings) => &settings.key,
        _ => return false,
    };
    key.parts.iter().any(|part| matches!(part, Part::Claim(_)))
}

/// A group and its targets.
pub fn group(written: &config::Group, group: &Group, running: bool) -> GroupSaid {
    let now = Tick::now();
    let (_, chosen) = epoch::choose(group);
    let whole: u64 = chosen.candidates.iter().map(|one| u64::from(one.weight)).sum();
    let share = |at: usize| {
        let place = chosen.members.iter().position(|member| *member == at)?;
        let weight = u64::from(chosen.candidates.get(place)?.weight);
        Some(100.0 * weight as f64 / whole.max(1) as f64)
    };
    let targets = group.targets.iter().enumerate().map(|(at, target)| TargetSaid {
        target: target.live.name.to_string(),
        weight: target.weight,
        tier: target.tier,
        zone: target.zone.clone(),
        state: target.live.health().name(),
        candidate: share(at).is_some(),
        share: share(at).map(|share| (share * 10.0).round() / 10.0),
        why: share(at).is_none().then(|| barred(group, target, &chosen, now)),
        in_flight: target.live.meters.sum().active,
    });
    GroupSaid {
        name: written.name.clone(),
        algorithm: algorithm(&written.algorithm),
        failed_open: chosen.failed_open,
        breaker: group.traffic.breaker.as_ref().filter(|_| running).map(|_| breaker(group, now)),
        targets: targets.collect(),
    }
}

fn breaker(group: &Group, now: Tick) -> String {
    let (state, since) = group.live.breaker.state();
    match since {
        Tick::ZERO => state.name().to_owned(),
        since => format!("{} for {} s", state.name(), now.since(since).as_secs()),
    }
}

// Why a target takes nobody new.
fn barred(group: &Group, target: &Target, chosen: &Chosen, now: Tick) -> String {
    let health = target.live.health();
    if !health::usable(health) {
        return match health {
            State::Unhealthy => "its health checks fail",
            State::Draining => "it was removed, and drains",
            _ => "no rule leads to its group",
        }
        .to_owned();
    }
    if let Some(out) = target.live.guard.watch.out() {
        let left = out.until.since(now).as_secs();
        let why = out.reason.sentence().trim_end_matches('.');
        return format!("taken out ({}: {why}), back in {left} s", out.reason.code());
    }
    let balance = &group.traffic.balance;
    if target.weight == 0 {
        return "weight 0".to_owned();
    }
    if balance.zones == Zones::Only && !target.local {
        return "of another zone, and zones are \"only\"".to_owned();
    }
    let used = chosen.members.first().and_then(|at| group.targets.get(*at)).map(|t| t.tier);
    match used {
        Some(used) if used != target.tier => format!("tier {used} comes first"),
        _ => "of another zone: enough of the own are healthy".to_owned(),
    }
}

/// What of the running process is not looked at, of a request that this group takes, and what may end otherwise for that.
pub fn unseen(group: Option<&Group>) -> Vec<String> {
    let mut notes =
        vec!["limits of the whole machine (limits.in_flight, memory) are not looked at".to_owned()];
    let bounds = group.and_then(|group| Some((group, group.traffic.bounds.as_deref()?)));
    if let Some((group, bounds)) = bounds {
        let most = bounds.max_requests.unwrap_or(u32::MAX);
        let (_, chosen) = epoch::choose(group);
        let targets = chosen.members.iter().filter_map(|at| group.targets.get(*at));
        let full = targets.clone().all(|t| t.live.guard.requests.value() >= most);
        let waiting = group.live.line.len();
        if (full && targets.count() > 0) || waiting > 0 {
            notes.push(format!(
                "every target has as many requests in flight as it may, or others wait ({waiting} of {}): it would wait, too",
                bounds.queue
            ));
        }
    }
    notes
}

/// As the file writes it.
fn algorithm(algorithm: &config::Algorithm) -> String {
    let words = format!("{algorithm:?}");
    let word = words.split(['(', ' ', '{']).next().unwrap_or_default();
    let mut out = String::new();
    for c in word.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The group of this name, as it runs, or as the file has it.
pub fn group_of<'s>(
    snapshot: &'s Snapshot,
    running: Option<&'s Snapshot>,
    name: &str,
) -> Option<&'s Arc<Group>> {
    let of = |snapshot: &'s Snapshot| snapshot.groups.iter().find(|g| *g.name == *name);
    running.and_then(of).or_else(|| of(snapshot))
}
