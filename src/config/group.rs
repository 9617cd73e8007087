//! `[group.NAME]`: targets, how one is chosen, and how their health is known.
//!
//! Names of targets are not looked up here. Called by `read`.

use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::{GROUP, GROUP_TIMEOUTS, HEALTH, POOL, TARGET};
use crate::config::problem::Wrong;
use crate::config::sections::{self, DRAIN, WAIT};
use crate::config::traffic::{self, balancing};
use crate::config::{Group, Health, HealthKind, Target, TargetProtocol, syntax, target_tls};
use crate::http::proxy_protocol::Version;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The most targets that one group lists.
const MOST_TARGETS: usize = 10_000;
const WEIGHT: RangeInclusive<u64> = 0..=999;
const INTERVAL: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// One group; `item.path` is `group.NAME`.
pub(super) fn group(name: &str, item: &Item<'_>, seen: &mut Seen) -> Option<Group> {
    let table = item.table(GROUP)?;
    let (targets, protocol) = (targets(&table), protocol(&table));
    let (algorithm, bound) = balancing::algorithm(&table);
    let mut group = Group {
        name: name.to_owned(),
        tls: target_tls::target_tls(&table, protocol, &targets),
        targets,
        algorithm,
        health: table.item("health").and_then(|item| health(&item)).unwrap_or_default(),
        drain: Duration::from_secs(300),
        retries: 2,
        max_idle: 1024,
        idle_timeout: Duration::from_secs(50),
        fail_open: true,
        proxy_protocol: None,
        protocol,
        traffic: traffic::of_group(&table, seen),
        timeouts: sections::overrides(&table, GROUP_TIMEOUTS),
        place: item.place(),
    };
    group.traffic.balance.bound = bound;
    set(&mut group.drain, table.item("drain").and_then(|item| item.duration(DRAIN)));
    let retries = table.item("retries").and_then(|item| item.integer(0..=10));
    set(&mut group.retries, retries.and_then(|retries| u32::try_from(retries).ok()));
    set(&mut group.fail_open, table.item("fail_open").and_then(|item| item.boolean()));
    let versions = [("off", None), ("v1", Some(Version::V1)), ("v2", Some(Version::V2))];
    let version = table.item("proxy_protocol").and_then(|item| item.choice(&versions));
    set(&mut group.proxy_protocol, version);
    if let Some(pool) = table.item("pool").and_then(|item| item.table(POOL)) {
        let max_idle = pool.item("max_idle").and_then(|item| item.integer(0..=1_000_000));
        set(&mut group.max_idle, max_idle);
        let idle = pool.item("idle_timeout").and_then(|item| item.duration(WAIT));
        set(&mut group.idle_timeout, idle);
    }
    Some(group)
}

fn targets(table: &Table<'_>) -> Vec<Target> {
    let Some(item) = table.need("targets", "a list of targets") else { return Vec::new() };
    let items = item.array("a list of targets");
    if items.len() > MOST_TARGETS {
        let found = format!("{} targets", items.len());
        item.problem(found, format!("at most {MOST_TARGETS}"), None);
        return Vec::new();
    }
    let mut addresses = HashSet::new();
    let mut targets = Vec::new();
    for item in &items {
        let Some(target) = target(item) else { continue };
        if !addresses.insert(target.address.clone()) {
            let hint = Some("for more requests give it a weight".to_owned());
            item.problem("the same target again", "each target once", hint);
        }
        targets.push(target);
    }
    let all_read = targets.len() == items.len() && !targets.is_empty();
    if all_read && targets.iter().all(|target| target.weight == 0) {
        let hint = Some("targets = [] answers 503".to_owned());
        item.problem("no weight above 0", "at least one target that takes requests", hint);
    }
    targets
}

fn target(item: &Item<'_>) -> Option<Target> {
    if !item.is_table() {
        let address = item.parsed(syntax::TARGET, syntax::target)?;
        return Some(Target { address, weight: 1, zone: None, tier: 0, place: item.place() });
    }
    let table = item.table(TARGET)?;
    let weight = table.item("weight").map_or(Some(1), |item| item.integer(WEIGHT));
    let zone = table.item("zone").and_then(|item| item.parsed(syntax::NAME, syntax::name));
    let tier = balancing::tier(&table);
    let address = table.need("address", syntax::TARGET);
    let address = address.and_then(|item| item.parsed(syntax::TARGET, syntax::target));
    let weight = u32::try_from(weight?).ok()?;
    Some(Target { address: address?, weight, zone, tier, place: item.place() })
}

fn protocol(table: &Table<'_>) -> TargetProtocol {
    use TargetProtocol::{H2, H2c, Http1};
    let words = [("http1", Http1), ("h2", H2), ("h2c", H2c)];
    table.item("protocol").and_then(|item| item.choice(&words)).unwrap_or_default()
}

/// `health = { ... }`. Without `type` it is gRPC if a service is given, HTTP if something that only HTTP has, else TCP.
fn health(item: &Item<'_>) -> Option<Health> {
    let table = item.table(HEALTH)?;
    let mut health = Health::default();
    let kind = kind(&table);
    if let Some(kind) = kind {
        misplaced(&table, kind);
    }
    set(&mut health.kind, kind);
    let service = table.item("service").and_then(|item| {
        item.parsed("the name of a gRPC service, up to 256 visible characters", |text| {
            let fits = syntax::is_visible(text) && text.len() <= 256;
            if fits || text.is_empty() { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    set(&mut health.service, service);
    let path = table.item("path").and_then(|item| {
        item.parsed("a path that begins with \"/\", percent-encoded", |text| {
            let fits = text.starts_with('/') && syntax::is_visible(text) && !text.contains('#');
            if fits { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    set(&mut health.path, path);
    let count = |key: &str| table.item(key).and_then(|item| item.integer(1..=100));
    let count = |key: &str| count(key).and_then(|count| u32::try_from(count).ok());
    set(&mut health.healthy, count("healthy"));
    set(&mut health.unhealthy, count("unhealthy"));
    set(&mut health.expect, table.item("expect").map(|item| statuses(&item)));
    health.host = table.item("host").and_then(|item| item.parsed("a value of Host", host));
    let port = table.item("port").and_then(|item| item.integer(1..=65_535));
    health.port = port.and_then(|port| u16::try_from(port).ok());
    times(&table, &mut health);
    Some(health)
}

fn kind(table: &Table<'_>) -> Option<HealthKind> {
    use HealthKind::{Grpc, Http, Off, Tcp};
    let given = |key| table.item(key).is_some();
    let guess = if given("service") {
        Grpc
    } else if given("path") || given("expect") || given("host") {
        Http
    } else {
        Tcp
    };
    let kinds = [("http", Http), ("tcp", Tcp), ("grpc", Grpc), ("off", Off)];
    table.item("type").map_or(Some(guess), |item| item.choice(&kinds))
}

/// Notes keys that mean nothing to this kind of probe; one that is off may keep them for later.
fn misplaced(table: &Table<'_>, kind: HealthKind) {
    let (of, wrong): (_, &[&str]) = match kind {
        HealthKind::Http => ("an HTTP", &["service"]),
        HealthKind::Tcp => ("a TCP", &["path", "expect", "host", "service"]),
        HealthKind::Grpc => ("a gRPC", &["path", "expect"]),
        HealthKind::Off => return,
    };
    for item in wrong.iter().filter_map(|key| table.item(key)) {
        let expected =
            "path and expect with type = \"http\", service with \"grpc\", host with both";
        item.problem(format!("a key of other probes in {of} probe"), expected, None);
    }
}

/// A probe must end before the next one begins.
fn times(table: &Table<'_>, health: &mut Health) {
    set(&mut health.interval, table.item("interval").and_then(|item| item.duration(INTERVAL)));
    let Some(item) = table.item("timeout") else {
        health.timeout = health.timeout.min(health.interval);
        return;
    };
    let Some(timeout) = item.duration(WAIT) else { return };
    if timeout > health.interval {
        let interval = crate::config::units::show_duration(health.interval);
        item.wrong(format!("a timeout of at most the interval, which is {interval}"));
    }
    health.timeout = timeout;
}

fn statuses(item: &Item<'_>) -> Vec<RangeInclusive<u16>> {
    let read = |item: &Item<'_>| {
        if item.is_integer() {
            let status = item.integer_or(syntax::STATUSES, 200..=599)?;
            let status = u16::try_from(status).ok()?;
            return Some(status..=status);
        }
        item.parsed(syntax::STATUSES, syntax::statuses)
    };
    item.one_or_more(syntax::STATUSES).iter().filter_map(read).collect()
}

/// A host with or without port, as `Host` carries it (RFC 9110 section 7.2).
fn host(text: &str) -> Result<String, Wrong> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let fits = syntax::host_pattern(host).is_ok() && !host.contains(['*', '?']);
    if fits && port.is_none_or(|port| syntax::port(port).is_some()) {
        return Ok(text.to_owned());
    }
    Wrong::plain()
}
