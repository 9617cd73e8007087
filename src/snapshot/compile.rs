//! From the file as written to the file as run: names become indices, patterns a table, defaults values.
//!
//! `old` lends what unchanged objects had learnt; `resolve` lends the addresses of names. Nothing here waits or opens.

use super::*;
use crate::base::{Tick, tick};
use crate::config::{self, Config, TargetAddress};
use crate::health::State;
use crate::policy::Wrong;
use crate::protect::Importance;
use crate::tls::{Challenges, Clients};
use crate::transform::{Captures, Template};
use std::collections::{HashMap, HashSet};

/// What compiling needs besides the file.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The number of the snapshot.
    pub generation: u64,
    /// How many workers there are meters for.
    pub workers: usize,
    /// The snapshot in use, whose state is carried over.
    pub old: Option<&'a Snapshot>,
    /// The addresses of a DNS name; empty while it is not resolved.
    pub resolve: &'a dyn Fn(&str) -> Vec<IpAddr>,
}

/// Why a file cannot be compiled.
#[derive(Debug)]
pub enum NotCompiled {
    /// The table of routes.
    Routes(route::CompileError),
    /// A policy, by its position in the file.
    Policy {
        /// Which.
        policy: usize,
        /// What is wrong.
        wrong: Wrong,
    },
    /// There are no keys: the system has no randomness.
    Seals,
}

impl std::fmt::Display for NotCompiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotCompiled::Routes(error) => error.fmt(f),
            NotCompiled::Policy { wrong: Wrong { file: Some(file), found }, .. } => {
                write!(f, "{}: {found}", file.display())
            }
            NotCompiled::Policy { wrong, .. } => f.write_str(&wrong.found),
            NotCompiled::Seals => f.write_str("no randomness from the system"),
        }
    }
}

/// Compiles a checked file.
///
/// # Errors
/// When the routes or a policy cannot be compiled.
pub fn compile(config: &Config, context: Context<'_>) -> Result<Snapshot, NotCompiled> {
    let policies = policies::compile(config, context)
        .map_err(|(policy, wrong)| NotCompiled::Policy { policy, wrong })?;
    let seals = Seals::new(&config.server.secrets, context.old.map(|old| &old.seals));
    let seals = seals.ok_or(NotCompiled::Seals)?;
    let group_ids: HashMap<&str, usize> =
        config.groups.iter().enumerate().map(|(i, g)| (g.name.as_str(), i)).collect();
    let listener_ids: HashMap<&str, route::ListenerId> = (0..)
        .zip(&config.listeners)
        .map(|(id, l)| (l.name.as_str(), route::ListenerId(id)))
        .collect();
    let specs: Vec<route::RuleSpec> = config.rules.iter().map(|r| spec(r, &listener_ids)).collect();
    let routes = route::Table::compile(&specs).map_err(NotCompiled::Routes)?;
    let old_rules: HashMap<&str, &Rule> = context
        .old
        .map(|old| old.rules.iter().map(|r| (&*r.name, r)).collect())
        .unwrap_or_default();
    let old_groups: HashMap<&str, &Group> = context
        .old
        .map(|old| old.groups.iter().map(|g| (&*g.name, &**g)).collect())
        .unwrap_or_default();
    let groups: Vec<Arc<Group>> = config
        .groups
        .iter()
        .map(|group| {
            let old = old_groups.get(group.name.as_str()).copied();
            Arc::new(compile_group(group, old, config, context, &seals))
        })
        .collect();
    let fresh = || Arc::new(Meters::new(context.workers));
    let rules = config.rules.iter().map(|rule| Rule {
        name: Arc::from(rule.name.as_str()),
        priority: rule.priority,
        action: action(
            &rule.action,
            &group_ids,
            old_rules.get(rule.name.as_str()).map(|old| &old.action),
        ),
        body: rule.timeouts.body,
        response: rule.timeouts.response,
        idle: rule.timeouts.idle,
        total: rule.timeouts.total,
        upgrades: Upgrades::new(&rule.upgrade, &rule.origins),
        body_limit: rule.body_limit.unwrap_or(config.limits.body),
        policies: Chain::new(&rule.policies, &policies),
        traffic: {
            let serves = |l: &&config::Listener| {
                rule.listeners.is_empty() || rule.listeners.contains(&l.name)
            };
            let around = traffic::Around {
                old: old_rules.get(rule.name.as_str()).map(|old| &old.traffic),
                compressed: config.listeners.iter().filter(serves).any(|l| l.compress.is_some()),
                groups: &group_ids,
                workers: context.workers,
                seals: &seals,
            };
            traffic::of_rule(rule, &around)
        },
        captures: captures(rule),
        meters: old_rules.get(rule.name.as_str()).map_or_else(fresh, |old| Arc::clone(&old.meters)),
    });
    let challenges: Arc<Challenges> =
        context.old.map_or_else(Arc::default, |old| Arc::clone(&old.challenges));
    let listeners = listeners(config, &group_ids, &policies, context, &challenges);
    let mut rules: Vec<Rule> = rules.collect();
    traffic::carry(&mut rules, context.old, context.workers);
    Ok(Snapshot {
        generation: context.generation,
        trusted: config.server.trusted_proxies.clone(),
        via: format!("1.1 {}", config.server.via).into_bytes(),
        forwarded: config.server.forwarded,
        paths: config.server.paths,
        limits: config.limits,
        ranked: config.rules.iter().any(|r| r.traffic.importance != Importance::default()),
        guarded: listeners
            .iter()
            .any(|l| l.secure.as_ref().is_some_and(|s| s.terms.clients != Clients::Unasked)),
        listeners,
        routes,
        rules,
        hides: policies.iter().flat_map(|policy| policy.kind.hides()).collect(),
        owned: policies::owned(&policies),
        policies,
        groups,
        seals,
        challenges,
        stores: traffic::stores(config),
    })
}

fn spec(rule: &config::Rule, listener_ids: &HashMap<&str, route::ListenerId>) -> route::RuleSpec {
    let listeners = rule.listeners.iter().filter_map(|name| listener_ids.get(name.as_str()));
    route::RuleSpec {
        priority: rule.priority,
        listeners: listeners.copied().collect(),
        host: rule.when.host.clone(),
        path: rule.when.path.clone(),
        path_regex: rule.when.path_regex.clone(),
        method: rule.when.method.clone(),
        header: rule.when.header.clone(),
        query: rule.when.query.clone(),
        cookie: rule.when.cookie.clone(),
        source: rule.when.source.clone(),
    }
}

fn listeners(
    config: &Config,
    group_ids: &HashMap<&str, usize>,
    policies: &[Arc<Policy>],
    context: Context<'_>,
    challenges: &Arc<Challenges>,
) -> Vec<Listener> {
    let old = context.old.map(|o| o.listeners.as_slice()).unwrap_or_default();
    let mut next_id = old.iter().map(|l| l.id + 1).max().unwrap_or(0);
    // An id is never given to another name while its connections may live: ids only grow.
    next_id =
        next_id.max(u32::try_from(context.generation).unwrap_or(u32::MAX).saturating_mul(1000));
    let mut listeners = Vec::new();
    for (route, listener) in config.listeners.iter().enumerate() {
        let before = old.iter().find(|l| *l.name == *listener.name);
        let id = before.map_or(next_id, |b| b.id);
        next_id += u32::from(before.is_none());
        listeners.push(Listener {
            id,
            name: Arc::from(listener.name.as_str()),
            bind: listener.bind.clone(),
            route: route::ListenerId(u32::try_from(route).unwrap_or(u32::MAX)),
            protocol: listener.protocol,
            secure: listener.tls.as_ref().and_then(|tls| {
                let now = tick::wall_micros() / 1_000_000;
                Secure::new(&listener.name, tls, context.old, challenges, now)
            }),
            default: action(&listener.default, group_ids, before.map(|before| &before.default)),
            handshake: listener.timeouts.handshake.unwrap_or(config.timeouts.handshake),
            header: listener.timeouts.header.unwrap_or(config.timeouts.header),
            body: listener.timeouts.body.unwrap_or(config.timeouts.body),
            keep_alive: listener.timeouts.keep_alive.unwrap_or(config.timeouts.keep_alive),
            idle: listener.timeouts.idle.unwrap_or(config.timeouts.idle),
            websocket: offers_websocket(listener, config),
            proxy_protocol: listener.proxy_protocol,
            http2: listener.http2,
            hand_over: config.server.hand_over && listener.steer == config::Steer::Off,
            policies: Chain::new(&listener.policies, policies),
            desync: listener.desync,
            errors: listener.errors.clone(),
            hsts: listener.hsts.as_ref().map(hsts),
            redirect_https: listener.redirect_https.map(redirect_https),
            compress: listener.compress.clone().map(Box::new),
            meters: match before {
                Some(before) => Arc::clone(&before.meters),
                None => Arc::new(Meters::new(context.workers)),
            },
        });
    }
    listeners
}

// RFC 6797 section 6.1.
fn hsts(hsts: &config::Hsts) -> Box<[u8]> {
    let mut value = format!("max-age={}", hsts.max_age);
    if hsts.include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if hsts.preload {
        value.push_str("; preload");
    }
    value.into_bytes().into()
}

// 301 lets a client turn any method but GET and HEAD into GET; 308 does not (RFC 9110 section 15.4).
fn redirect_https(port: u16) -> Box<[RedirectTemplate; 2]> {
    let template = |status| {
        RedirectTemplate::new(&config::Redirect {
            scheme: Some("https".to_owned()),
            port: Some(Template::literal(&port.to_string())),
            status,
            ..config::Redirect::default()
        })
    };
    Box::new([template(301), template(308)])
}

fn offers_websocket(listener: &config::Listener, config: &Config) -> bool {
    let forwards = |action: &config::Action| matches!(action, config::Action::Forward(_));
    let served =
        |rule: &&config::Rule| rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
    let mut rules = config.rules.iter().filter(served);
    forwards(&listener.default)
        || rules.any(|r| forwards(&r.action) && r.upgrade.iter().any(|one| one == "websocket"))
}

fn action(
    action: &config::Action,
    group_ids: &HashMap<&str, usize>,
    old: Option<&Action>,
) -> Action {
    match action {
        config::Action::Forward(weighted) => {
            let groups = weighted.iter().filter_map(|w| group_ids.get(w.group.as_str()).copied());
            let weights: Vec<u32> = weighted.iter().map(|w| w.weight).collect();
            Action::Forward { groups: groups.collect(), weights: balance::Weighted::new(&weights) }
        }
        config::Action::Redirect(redirect) => Action::Redirect(RedirectTemplate::new(redirect)),
        // Without a body of its own, a 404 is ringgate's answer, which explains itself.
        config::Action::Respond(r) if *r == bare_not_found() => Action::NotFound,
        config::Action::Respond(respond) => match page::Page::of(respond) {
            Some(page) => Action::Page(Box::new(page)),
            None => Action::Respond(fixed(respond)),
        },
        config::Action::Aggregate(said) => {
            let old = match old {
                Some(Action::Aggregate(old)) => Some(&**old),
                _ => None,
            };
            Action::Aggregate(Box::new(Aggregate::new(said, group_ids, old)))
        }
    }
}

// What the rule's patterns catch, where anything asks for it: each pattern is compiled for that.
fn captures(rule: &config::Rule) -> Option<Box<Captures>> {
    let reads = rule.templates().any(Template::reads_captures);
    reads.then(|| Box::new(rule.captures()))
}

fn bare_not_found() -> config::Respond {
    config::Respond { status: 404, ..config::Respond::default() }
}

fn fixed(respond: &config::Respond) -> FixedResponse {
    let mut fields = Vec::new();
    if let Some(kind) = &respond.content_type {
        crate::http::write::built_field(&mut fields, b"content-type", kind.as_bytes());
    }
    for (name, value) in &respond.headers {
        let value = value.constant().unwrap_or_default();
        crate::http::write::built_field(&mut fields, name.as_bytes(), value.as_bytes());
    }
    let body = respond.body.constant().unwrap_or_default();
    FixedResponse { status: respond.status, fields, body: body.as_bytes().to_vec() }
}

fn compile_group(
    group: &config::Group,
    old: Option<&Group>,
    config: &Config,
    context: Context<'_>,
    seals: &Seals,
) -> Group {
    let known: HashMap<&Address, &Arc<TargetLive>> = old
        .map(|o| o.targets.iter().map(|t| (&t.live.address, &t.live)).collect())
        .unwrap_or_default();
    // What comes to others begins slowly; a group that begins has no others.
    let since = if old.is_some() { Tick::now() } else { Tick::ZERO };
    let state = match group.health.kind {
        config::HealthKind::Off => State::Unavailable,
        _ => State::Initial,
    };
    let live = old.map_or_else(|| GroupLive::new(context.workers), |o| Arc::clone(&o.live));
    let (mut targets, mut seen) = (Vec::new(), HashSet::new());
    for target in &group.targets {
        for address in addresses(&target.address, context) {
            // Two names for one address are one target.
            if !seen.insert(address.clone()) {
                continue;
            }
            // What says how to open a connection safely and could not be made use of must not be passed over.
            let Some(opening) = opening(group, &target.address) else { continue };
            let live = match known.get(&address) {
                Some(live) if live.opening == opening => Arc::clone(live),
                Some(live) => live.reopened(opening),
                None => TargetLive::new(address, opening, state, since, &live, context.workers),
            };
            let (weight, tier, zone) = (target.weight, target.tier, target.zone.clone());
            let local = zone.is_some() && zone == config.server.zone;
            let host = host_of(&target.address, group.tls.is_some());
            targets.push(Target { weight, zone, local, tier, host, live });
        }
    }
    let (algorithm, key) = algorithm(&group.algorithm);
    Group {
        name: Arc::from(group.name.as_str()),
        algorithm,
        key,
        targets,
        fail_open: group.fail_open,
        proxy_protocol: group.proxy_protocol,
        connect: group.timeouts.connect.unwrap_or(config.timeouts.connect),
        response: group.timeouts.response.unwrap_or(config.timeouts.response),
        retries: group.retries,
        protocol: group.protocol,
        max_idle: group.max_idle,
        idle_timeout: group.idle_timeout,
        drain: group.drain,
        traffic: traffic::of_group(group, seals),
        live,
    }
}

// What a target is called by those who ask it: its name as written, with a port that is not the usual one.
fn host_of(address: &TargetAddress, tls: bool) -> Box<str> {
    let usual = if tls { 443 } else { 80 };
    match address {
        TargetAddress::Name(name, port) if *port == usual => name.trim_end_matches('.').into(),
        TargetAddress::Name(name, port) => format!("{}:{port}", name.trim_end_matches('.')).into(),
        TargetAddress::Ip(address) if address.port() == usual && address.is_ipv4() => {
            address.ip().to_string().into()
        }
        TargetAddress::Ip(address) => address.to_string().into(),
        // The path of a Unix socket is no authority.
        TargetAddress::Unix(_) => "localhost".into(),
    }
}

// How connections to a target begin; `None` where it asks for TLS that control has not prepared.
fn opening(group: &config::Group, target: &TargetAddress) -> Option<Opening> {
    let proxy_protocol = group.proxy_protocol;
    let Some(tls) = &group.tls else { return Some(Opening { proxy_protocol, tls: None }) };
    let dial = tls.dial.as_ref()?;
    let name = match target {
        TargetAddress::Name(name, _) => dial.name_of(Some(name)),
        TargetAddress::Ip(address) => dial.name_of(Some(&address.ip().to_string())),
        TargetAddress::Unix(_) => dial.name_of(None),
    };
    Some(Opening { proxy_protocol, tls: Some((Arc::clone(dial), name?)) })
}

fn addresses(address: &TargetAddress, context: Context<'_>) -> Vec<Address> {
    match address {
        TargetAddress::Ip(address) => vec![Address::Tcp(*address)],
        TargetAddress::Unix(path) => vec![Address::Unix(path.clone())],
        TargetAddress::Name(name, port) => (context.resolve)(name)
            .into_iter()
            .map(|ip| Address::Tcp(SocketAddr::new(ip, *port)))
            .collect(),
    }
}

fn algorithm(algorithm: &config::Algorithm) -> (balance::Algorithm, KeySource) {
    match algorithm {
        config::Algorithm::RoundRobin => (balance::Algorithm::RoundRobin, KeySource::None),
        config::Algorithm::LeastRequests => (balance::Algorithm::LeastRequests, KeySource::None),
        config::Algorithm::LeastTime => (balance::Algorithm::LeastTime, KeySource::None),
        config::Algorithm::Random => (balance::Algorithm::Random, KeySource::None),
        config::Algorithm::PowerOfTwo => (balance::Algorithm::PowerOfTwo, KeySource::None),
        config::Algorithm::IpHash => (balance::Algorithm::Hash, KeySource::Client),
        config::Algorithm::Hash(key) => (balance::Algorithm::Hash, KeySource::Request(key.clone())),
        config::Algorithm::Maglev(None) => (balance::Algorithm::Maglev, KeySource::Client),
        config::Algorithm::Maglev(Some(key)) => {
            (balance::Algorithm::Maglev, KeySource::Request(key.clone()))
        }
    }
}
