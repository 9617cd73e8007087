//! What rules and groups do with traffic, as run: compiled of what the file says, by the modules that decide.
//!
//! Most rules say nothing of it: [`RuleTraffic::staged`] and [`RuleTraffic::shaped`] are what a request of those costs.

use crate::balance::hash_key;
use crate::config;
use crate::fanout::AggregateSettings;
use crate::protect::{BoundSettings, BreakerSettings, Importance, OutlierSettings, Retry};
use crate::snapshot::mirrors::{AggregateLive, Inject, Mirror, MirrorLive};
use crate::snapshot::{Rule, Seals, Snapshot};
use crate::transform::bandwidth::{Bandwidth, Settings};
use crate::transform::{Template, compress};
use crate::{cache, sticky, transform};
use std::collections::HashMap;
use std::sync::Arc;

/// What a rule does with traffic.
#[derive(Debug, Default)]
pub struct RuleTraffic {
    /// Whether anything is done before the request is sent on that takes more than a look: faults, stored answers, copies, bodies.
    pub staged: bool,
    /// Whether anything is done to responses: fields, bodies, codings, storing.
    pub shaped: bool,
    /// Whether which group takes a request is told by more than weights.
    pub steered: bool,
    /// How clients stay with one group.
    pub sticky: Option<Box<sticky::GroupStick>>,
    /// Which clients try another group.
    pub canary: Option<Box<sticky::Canary>>,
    /// When a request is tried again; `None` for the group's.
    pub retry: Option<Box<Retry>>,
    /// Whose requests are shed first.
    pub importance: Importance,
    /// What is changed before a target gets it.
    pub request: Option<Box<transform::RequestSettings>>,
    /// What is changed before a client gets it.
    pub response: Option<Box<transform::ResponseSettings>>,
    /// Whether the body of responses is read.
    pub reads_response: bool,
    /// What is compressed.
    pub compress: compress::Choice,
    /// Whether anything is, by the rule or a listener of it.
    pub compresses: bool,
    /// How fast bodies may move.
    pub bandwidth: Option<Box<Bandwidth>>,
    /// Where copies go.
    pub mirror: Option<Box<Mirror>>,
    /// What is made to go wrong.
    pub inject: Option<Box<Inject>>,
    /// What is stored.
    pub cache: Option<Box<Caching>>,
}

/// How a rule stores responses.
#[derive(Debug)]
pub struct Caching {
    /// As written.
    pub settings: cache::Settings,
    /// What is counted.
    pub meters: Arc<cache::Meters>,
}

/// What a group does with traffic.
#[derive(Debug, Default)]
pub struct GroupTraffic {
    /// Who takes part, and with what weight.
    pub balance: crate::balance::Settings,
    /// How clients stay with one target.
    pub sticky: Option<Box<sticky::TargetStick>>,
    /// When a target is taken out.
    pub outlier: Option<Box<OutlierSettings>>,
    /// When the group is given a rest.
    pub breaker: Option<Box<BreakerSettings>>,
    /// What a target may have in flight.
    pub bounds: Option<Box<BoundSettings>>,
    /// When a request is tried again.
    pub retry: Option<Box<Retry>>,
}

/// The parts that one answer is made of.
#[derive(Debug)]
pub struct Aggregate {
    /// As written.
    pub settings: AggregateSettings,
    /// How each of them is asked.
    pub asked: Vec<Asked>,
    /// What it has counted.
    pub live: Arc<AggregateLive>,
}

/// How a part is asked.
#[derive(Debug)]
pub struct Asked {
    /// Index into the snapshot's groups.
    pub group: usize,
    /// The path.
    pub path: Template,
    /// The query, where there is one.
    pub query: Option<Template>,
}

impl Aggregate {
    /// Compiles it; `old` is what stood there before. The file's check has found the groups.
    pub fn new(
        said: &config::Aggregate,
        groups: &HashMap<&str, usize>,
        old: Option<&Aggregate>,
    ) -> Aggregate {
        let asked = said.settings.parts.iter().zip(&said.targets).map(|(part, target)| Asked {
            group: groups.get(part.group.as_str()).copied().unwrap_or(usize::MAX),
            path: target.0.clone(),
            query: target.1.clone(),
        });
        let parts = &said.settings.parts;
        let same = |old: &&Aggregate| {
            let before = old.settings.parts.iter().map(|part| &part.name);
            before.eq(parts.iter().map(|part| &part.name))
        };
        let live = match old.filter(same) {
            Some(old) => Arc::clone(&old.live),
            None => AggregateLive::new(parts.len()),
        };
        Aggregate { settings: said.settings.clone(), asked: asked.collect(), live }
    }
}

/// What a rule's traffic is compiled with besides the rule.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// What it was before a reload.
    pub old: Option<&'a RuleTraffic>,
    /// Whether a listener of the rule says that responses are compressed.
    pub compressed: bool,
    /// Groups by their names.
    pub groups: &'a HashMap<&'a str, usize>,
    /// How many workers there are meters for.
    pub workers: usize,
    /// What cookies are sealed with.
    pub seals: &'a Seals,
}

/// Of a rule.
pub fn of_rule(rule: &config::Rule, around: &Around<'_>) -> RuleTraffic {
    let &Around { old, compressed, groups, seals, .. } = around;
    let said = &rule.traffic;
    let bandwidth = |said: &Settings| {
        let old = old.and_then(|old| old.bandwidth.as_deref());
        Box::new(Bandwidth::new(said, old))
    };
    let mut traffic = RuleTraffic {
        steered: said.sticky.is_some() || said.canary.is_some(),
        sticky: said.sticky.as_ref().map(|said| Box::new(group_stick(said, rule, seals))),
        canary: said.canary.as_ref().and_then(|said| {
            let group = *groups.get(said.group.as_str())?;
            Some(Box::new(sticky::Canary::new(said, &rule.name, group, &seals.ring)))
        }),
        retry: said.retry.clone().map(Box::new),
        importance: said.importance,
        request: said.request.clone().map(Box::new),
        response: said.response.clone().map(Box::new),
        compress: said.compress.clone(),
        compresses: false,
        bandwidth: said.bandwidth.as_ref().map(bandwidth),
        mirror: mirror(said, around).map(Box::new),
        inject: inject(said, old).map(Box::new),
        cache: said.cache.clone().map(caching),
        reads_response: false,
        staged: false,
        shaped: false,
    };
    traffic.staged =
        traffic.inject.is_some() || traffic.cache.is_some() || traffic.mirror.is_some();
    // Bodies that are read must come whole, and uncoded.
    traffic.reads_response =
        traffic.response.as_ref().is_some_and(|response| response.reads_body());
    traffic.staged |= traffic.request.is_some() || traffic.reads_response;
    traffic.staged |= traffic.bandwidth.is_some();
    traffic.shaped = traffic.response.is_some();
    traffic.shaped |= traffic.cache.is_some() || traffic.bandwidth.is_some();
    let compresses = match traffic.compress {
        compress::Choice::Listeners => compressed,
        compress::Choice::Off => false,
        compress::Choice::On(_) => true,
    };
    traffic.compresses = compresses;
    traffic.staged |= compresses;
    traffic.shaped |= compresses;
    traffic.shaped |= traffic.mirror.as_ref().is_some_and(|m| m.settings.compare.is_some());
    traffic
}

// Groups are known by their names: an index is another group's after a reload.
fn group_stick(
    said: &sticky::GroupSettings,
    rule: &config::Rule,
    seals: &Seals,
) -> sticky::GroupStick {
    let groups = match &rule.action {
        config::Action::Forward(groups) => groups.as_slice(),
        _ => &[],
    };
    let groups = groups.iter().map(|g| (hash_key(g.group.as_bytes()), g.weight));
    sticky::GroupStick::new(said, &rule.name, groups, &seals.ring)
}

/// Gives rules that store what their earlier selves have counted.
pub fn carry(rules: &mut [Rule], old: Option<&Snapshot>, workers: usize) {
    let storing = |rule: &'_ Rule| rule.traffic.cache.is_some();
    let known = old.map(|old| old.rules.iter().filter(|rule| storing(rule)));
    let known: HashMap<&str, &Rule> =
        known.into_iter().flatten().map(|rule| (&*rule.name, rule)).collect();
    for rule in rules {
        let before = known.get(&*rule.name).and_then(|rule| rule.traffic.cache.as_deref());
        if let Some(caching) = &mut rule.traffic.cache {
            caching.meters = match before {
                Some(before) => Arc::clone(&before.meters),
                None => Arc::new(cache::Meters::new(workers)),
            };
        }
    }
}

// Its meters come with `carry`.
fn caching(settings: cache::Settings) -> Box<Caching> {
    Box::new(Caching { settings, meters: Arc::new(cache::Meters::new(1)) })
}

// The file's check has found the group.
fn mirror(said: &config::RuleTraffic, around: &Around<'_>) -> Option<Mirror> {
    let settings = said.mirror.clone()?;
    let group = *around.groups.get(settings.group.as_str())?;
    let before = around.old.and_then(|old| old.mirror.as_ref()).map(|old| Arc::clone(&old.live));
    let live = before.unwrap_or_else(|| MirrorLive::new(around.workers));
    Some(Mirror { settings, group, live })
}

fn inject(said: &config::RuleTraffic, old: Option<&RuleTraffic>) -> Option<Inject> {
    let settings = said.inject.clone()?;
    let before = old.and_then(|old| old.inject.as_ref()).map(|old| Arc::clone(&old.live));
    Some(Inject { settings, live: before.unwrap_or_default() })
}

/// What the rules that store go by, as far as it decides where a response lies: the query alone.
pub fn stores(config: &config::Config) -> Vec<cache::KeySettings> {
    let mut all: Vec<cache::KeySettings> = Vec::new();
    for settings in config.rules.iter().filter_map(|rule| rule.traffic.cache.as_ref()) {
        let query = settings.key.query.clone();
        if all.iter().all(|known| known.query != query) {
            all.push(cache::KeySettings { query, ..cache::KeySettings::default() });
        }
    }
    all
}

/// Of a group.
pub fn of_group(group: &config::Group, seals: &Seals) -> GroupTraffic {
    let said = &group.traffic;
    let stick = |said| sticky::TargetStick::new(said, &group.name, &seals.ring);
    GroupTraffic {
        balance: said.balance,
        sticky: said.sticky.as_ref().map(stick).map(Box::new),
        outlier: said.outlier.clone().map(Box::new),
        breaker: said.breaker.clone().map(Box::new),
        bounds: said.bounds.clone().map(Box::new),
        retry: said.retry.clone().map(Box::new),
    }
}
