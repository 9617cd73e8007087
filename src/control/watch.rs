//! Watches the world for the workers: probes every target, re-resolves every name, and says what changed.
//!
//! One tokio task a target and a name. What a tracker has learnt survives a reload, by group and address.

use crate::base::{Rng, Tick};
use crate::config::{Config, Health, TargetAddress};
use crate::control::probe::{Check, ProbeTarget, probe};
use crate::control::protect::Guardian;
use crate::control::resolve::{Known, Resolver};
use crate::health::{self, Thresholds, Tracker};
use crate::snapshot::{Address, GroupLive, Snapshot, TargetLive};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

type Key = (Arc<str>, Arc<str>);

/// The trackers of all targets, by group and address.
#[derive(Clone, Debug, Default)]
pub struct Healths(Arc<Mutex<HashMap<Key, Tracker>>>);

impl Healths {
    /// What is known of one target.
    pub fn of(&self, group: &Arc<str>, target: &Arc<str>) -> Option<Tracker> {
        self.with(|all| all.get(&(Arc::clone(group), Arc::clone(target))).cloned())
    }

    fn with<R>(&self, f: impl FnOnce(&mut HashMap<Key, Tracker>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The probing tasks.
#[derive(Debug, Default)]
pub struct Probes {
    /// What they know.
    pub healths: Healths,
    guardian: Guardian,
    tasks: HashMap<Key, Probing>,
}

#[derive(Debug)]
struct Probing {
    task: JoinHandle<()>,
    health: Health,
    live: Arc<TargetLive>,
}

impl Probes {
    /// Probes the targets of `snapshot`, and no others. Those already probed in the same way are left alone.
    pub fn follow(&mut self, config: &Config, snapshot: &Snapshot) {
        let mut tasks = HashMap::new();
        for (group, written) in snapshot.groups.iter().zip(&config.groups) {
            for target in &group.targets {
                let key = (Arc::clone(&group.name), Arc::clone(&target.live.name));
                let running = self.tasks.remove(&key);
                let same =
                    |p: &Probing| p.health == written.health && Arc::ptr_eq(&p.live, &target.live);
                let probing = match running {
                    Some(probing) if same(&probing) => probing,
                    before => {
                        if let Some(before) = before {
                            before.task.abort();
                        }
                        self.start(&key, &written.health, &group.live, &target.live)
                    }
                };
                tasks.insert(key, probing);
            }
        }
        for (key, gone) in std::mem::replace(&mut self.tasks, tasks) {
            gone.task.abort();
            self.healths.with(|all| all.remove(&key));
        }
    }

    /// Takes out targets whose answers are bad, and takes back those whose time is over; done ten times a second.
    pub fn guard(&mut self, snapshot: &Snapshot) {
        self.guardian.look(snapshot, Tick::now());
    }

    fn start(
        &self,
        key: &Key,
        health: &Health,
        group: &Arc<GroupLive>,
        live: &Arc<TargetLive>,
    ) -> Probing {
        let now = Tick::now();
        let check = Check::of(health, &live.opening);
        let thresholds = Thresholds { healthy: health.healthy, unhealthy: health.unhealthy };
        let state = self.healths.with(|all| {
            let tracker = match (all.get(key), &check) {
                (_, None) => Tracker::unchecked(now),
                (Some(before), Some(_)) => before.inherit(thresholds, now),
                (None, Some(_)) => Tracker::new(thresholds, now),
            };
            let state = tracker.state();
            all.insert(key.clone(), tracker);
            state
        });
        live.set_health(state);
        group.version.fetch_add(1, Ordering::Release);
        let task = match check {
            None => tokio::spawn(async {}),
            Some(check) => tokio::spawn(keep_probing(
                self.healths.clone(),
                key.clone(),
                check,
                health.interval,
                Arc::clone(group),
                Arc::clone(live),
            )),
        };
        Probing { task, health: health.clone(), live: Arc::clone(live) }
    }
}

async fn keep_probing(
    healths: Healths,
    key: Key,
    check: Check,
    interval: Duration,
    group: Arc<GroupLive>,
    live: Arc<TargetLive>,
) {
    let target = match &live.address {
        Address::Tcp(address) => ProbeTarget::Ip(*address),
        Address::Unix(path) => ProbeTarget::Unix(path.clone()),
    };
    let mut rng = Rng::new();
    loop {
        let started = Tick::now();
        let outcome = probe(&target, &check).await;
        let now = Tick::now();
        let transition =
            healths.with(|all| all.get_mut(&key).and_then(|t| t.observe(&outcome, now)));
        if let Some(change) = transition {
            live.set_health(change.to);
            group.version.fetch_add(1, Ordering::Release);
            tracing::info!(
                group = &*key.0,
                target = &*key.1,
                from = change.from.name(),
                to = change.to.name(),
                reason = change.reason.map_or("", |r| r.code()),
                "target health: {outcome}"
            );
        }
        let next = health::next_probe(started, interval, &mut rng);
        tokio::time::sleep(next.since(Tick::now())).await;
    }
}

/// A name resolves to other addresses than before.
#[derive(Debug)]
pub struct NameChanged;

/// The resolving tasks, and what they know.
pub struct Names {
    resolver: Arc<Resolver>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    tasks: HashMap<String, JoinHandle<()>>,
    changed: UnboundedSender<NameChanged>,
}

// How long a start or a reload waits for names it has not met before.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

impl Names {
    /// Nothing to resolve yet. Changes are announced to `changed`.
    pub fn new(changed: UnboundedSender<NameChanged>) -> Names {
        Names {
            resolver: Arc::new(Resolver::system()),
            known: Arc::default(),
            tasks: HashMap::new(),
            changed,
        }
    }

    /// Resolves the names that `config` uses for the first time; a name that does not answer in time is left to its task.
    pub async fn meet(&self, config: &Config) {
        let mut asking = tokio::task::JoinSet::new();
        for name in names(config) {
            if self.lookup(&name).is_empty() {
                let (resolver, known) = (Arc::clone(&self.resolver), Arc::clone(&self.known));
                asking.spawn(async move {
                    let answer = resolver.resolve(&name).await;
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.entry(name).or_default().update(answer, Tick::now(), &mut Rng::new());
                });
            }
        }
        let all = async { while asking.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FIRST_ANSWER, all).await;
    }

    /// The addresses of a name; empty while it is not known.
    pub fn lookup(&self, name: &str) -> Vec<IpAddr> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|k| k.last_good.clone()).unwrap_or_default()
    }

    /// Keeps the names of `config` fresh, and no others.
    pub fn follow(&mut self, config: &Config) {
        let wanted = names(config);
        self.tasks.retain(|name, task| {
            let kept = wanted.contains(name);
            if !kept {
                task.abort();
            }
            kept
        });
        for name in wanted {
            if !self.tasks.contains_key(&name) {
                let task = keep_resolving(
                    name.clone(),
                    Arc::clone(&self.resolver),
                    Arc::clone(&self.known),
                    self.changed.clone(),
                );
                self.tasks.insert(name, tokio::spawn(task));
            }
        }
    }
}

fn names(config: &Config) -> BTreeSet<String> {
    let targets = config.groups.iter().flat_map(|g| &g.targets);
    targets
        .filter_map(|t| match &t.address {
            TargetAddress::Name(name, _) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

async fn keep_resolving(
    name: String,
    resolver: Arc<Resolver>,
    known: Arc<Mutex<HashMap<String, Known>>>,
    changed: UnboundedSender<NameChanged>,
) {
    let mut rng = Rng::new();
    loop {
        let next = {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&name).map_or(Tick::ZERO, |k| k.next_at)
        };
        tokio::time::sleep(next.since(Tick::now())).await;
        let answer = resolver.resolve(&name).await;
        if let Err(error) = &answer {
            tracing::warn!(name, %error, "a target's name does not resolve; the last good addresses stay");
        }
        let is_new = {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(name.clone()).or_default().update(answer, Tick::now(), &mut rng)
        };
        if is_new && changed.send(NameChanged).is_err() {
            return;
        }
    }
}
