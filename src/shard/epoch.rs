//! A snapshot bound to one core: groups with this worker's plans and this worker's targets.
//!
//! Binding takes over the targets of the epoch before by identity, so pools survive a reload. A request clones the `Rc`;
//! the snapshot's own `Arc` is touched once an epoch. The last holder hands the snapshot to control to be freed:
//! freeing ten thousand rules would stall a worker.

use crate::balance::{self, Chosen, Member, Pick, Plan, Settings, Standing};
use crate::base::{Rng, Tick};
use crate::health;
use crate::policy;
use crate::protect::retry::Budget;
use crate::shard::target::TargetCore;
use crate::snapshot::{Group, GroupLive, Policy, Snapshot, Target, TargetLive};
use crossbeam::channel::Sender;
use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One configuration as one worker runs it.
#[derive(Debug)]
pub struct Epoch {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// Indexed as [`Snapshot::groups`].
    pub groups: Vec<GroupCore>,
    /// Indexed as [`Snapshot::policies`].
    pub policies: Vec<Rc<PolicyCore>>,
    /// How many workers share what is machine-wide.
    pub workers: usize,
    graveyard: Sender<Arc<Snapshot>>,
}

/// One worker's side of a policy.
#[derive(Debug)]
pub struct PolicyCore {
    /// The policy as run.
    pub policy: Arc<Policy>,
    /// What this worker remembers for it.
    pub core: policy::Core,
}

/// One worker's side of a group.
#[derive(Debug)]
pub struct GroupCore {
    /// The group as run.
    pub group: Arc<Group>,
    /// Indexed as [`Group::targets`].
    pub targets: Vec<Rc<TargetCore>>,
    /// Idle connections that this worker may keep to each target: its share of the machine's.
    pub idle_share: usize,
    /// What this worker may spend on second attempts; a reload does not fill it.
    pub budget: Rc<Budget>,
    planned: RefCell<Option<Planned>>,
}

#[derive(Debug)]
struct Planned {
    version: u64,
    // When a weight that grows has grown.
    again: Tick,
    plan: Plan,
    // What the plan's candidates are among the targets.
    eligible: Vec<usize>,
    // Where clients stay with a target: the hashes of those that are eligible, in order, and their places among the targets.
    known: Box<[(u64, usize)]>,
}

impl Epoch {
    /// Binds a snapshot to this worker. Retired snapshots go to `graveyard`.
    pub fn bind(
        snapshot: Arc<Snapshot>,
        old: Option<&Epoch>,
        workers: usize,
        graveyard: Sender<Arc<Snapshot>>,
    ) -> Rc<Epoch> {
        let known: HashMap<*const TargetLive, &Rc<TargetCore>> = old
            .map(|old| old.groups.iter().flat_map(|g| &g.targets))
            .into_iter()
            .flatten()
            .map(|t| (Arc::as_ptr(&t.live), t))
            .collect();
        let budgets: HashMap<*const GroupLive, &Rc<Budget>> = old
            .map(|old| old.groups.iter().map(|g| (Arc::as_ptr(&g.group.live), &g.budget)).collect())
            .unwrap_or_default();
        let groups = snapshot.groups.iter().map(|group| GroupCore {
            group: Arc::clone(group),
            targets: group
                .targets
                .iter()
                .map(|t| match known.get(&Arc::as_ptr(&t.live)) {
                    Some(core) => Rc::clone(core),
                    None => TargetCore::new(Arc::clone(&t.live)),
                })
                .collect(),
            idle_share: share(group.max_idle, workers),
            budget: budgets
                .get(&Arc::as_ptr(&group.live))
                .map_or_else(Rc::default, |b| Rc::clone(b)),
            planned: RefCell::new(None),
        });
        let groups: Vec<GroupCore> = groups.collect();
        groups.iter().for_each(GroupCore::bound);
        let policies = policies(&snapshot, old);
        Rc::new(Epoch { snapshot, groups, policies, workers, graveyard })
    }

    /// The targets that `newer` has no longer, with their groups. One pass over each: a worker does this between two
    /// requests, and ten thousand targets are not rare.
    pub fn gone<'a>(
        &'a self,
        newer: &Epoch,
    ) -> impl Iterator<Item = (&'a GroupCore, &'a Rc<TargetCore>)> + use<'a> {
        let kept: HashSet<*const TargetCore> =
            newer.groups.iter().flat_map(|g| &g.targets).map(Rc::as_ptr).collect();
        let all = self.groups.iter().flat_map(|g| g.targets.iter().map(move |t| (g, t)));
        all.filter(move |(_, target)| !kept.contains(&Rc::as_ptr(target)))
    }
}

// What a reload has left as it was stays the very same; what has changed is told what was remembered.
fn policies(snapshot: &Snapshot, old: Option<&Epoch>) -> Vec<Rc<PolicyCore>> {
    let known: HashMap<&str, &Rc<PolicyCore>> = old
        .map(|old| old.policies.iter().map(|p| (&*p.policy.name, p)).collect())
        .unwrap_or_default();
    let bind = |policy: &Arc<Policy>| match known.get(&*policy.name) {
        Some(before) if Arc::ptr_eq(&before.policy, policy) => Rc::clone(before),
        before => {
            let core = policy::Core::bind(&policy.kind, before.map(|b| &b.core));
            Rc::new(PolicyCore { policy: Arc::clone(policy), core })
        }
    };
    snapshot.policies.iter().map(bind).collect()
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // When control has gone, the process is ending and the worker may free it.
        let _ = self.graveyard.send(Arc::clone(&self.snapshot));
    }
}

// A machine-wide number of idle connections, split evenly; 0 stays 0, anything else leaves each worker at least one.
fn share(of: u64, workers: usize) -> usize {
    let of = usize::try_from(of).unwrap_or(usize::MAX);
    if of == 0 { 0 } else { (of / workers.max(1)).max(1) }
}

impl GroupCore {
    // Tells the targets how many connections each may have.
    fn bound(&self) {
        let most = self.group.traffic.bounds.as_ref().and_then(|bounds| bounds.max_connections);
        self.targets.iter().for_each(|target| target.most.set(most.unwrap_or(u32::MAX)));
    }

    /// Picks a target by the group's algorithm, passing over `tried` (indices into [`GroupCore::targets`]); `None` if
    /// there is no other. `key` is the hash for algorithms that hash.
    pub fn pick(&self, key: Option<u64>, tried: &[usize], rng: &mut Rng) -> Option<usize> {
        let live = &self.group.live;
        let planned = self.planned();
        // Targets tried are few and known by their place in the group; the plan knows places among the eligible.
        let mut skip = [0; 8];
        let mut skipped = 0;
        for target in tried {
            let place = planned.eligible.iter().position(|e| e == target);
            if let (Some(place), Some(slot)) = (place, skip.get_mut(skipped)) {
                *slot = place;
                skipped += 1;
            }
        }
        let target = |place: usize| {
            let at = planned.eligible.get(place)?;
            self.targets.get(*at)
        };
        let load = |place| target(place).map_or(u32::MAX, |t| t.live.load.load(Ordering::Relaxed));
        let now = if self.group.notes_time() { Tick::now() } else { Tick::ZERO };
        // A further attempt takes nobody's turn: else those of one that fails would come to it again and again.
        let cursor = match tried {
            [] => live.cursor.fetch_add(1, Ordering::Relaxed),
            _ => rng.u64(..),
        };
        let place = planned.plan.pick(Pick {
            cursor,
            key,
            rng,
            load: &load,
            total: &|| live.load.load(Ordering::Relaxed),
            time: &|place| target(place)?.live.time.read(now),
            skip: skip.get(..skipped).unwrap_or_default(),
        })?;
        planned.eligible.get(place).copied()
    }

    /// The target whose address has this hash, where clients stay with theirs and requests may go to it. Its weight and
    /// its tier are for those who come new.
    pub fn stays(&self, hash: u64) -> Option<usize> {
        let planned = self.planned();
        let known = &planned.known;
        let at = known.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        known.get(at).map(|(_, place)| *place)
    }

    /// When every target that takes part has refused: one of another tier or zone, or one that probes call unhealthy, which
    /// may have come back since.
    pub fn last_resort(&self, tried: &[usize]) -> Option<usize> {
        let members = self.group.targets.iter().map(member);
        balance::last_resort(members, &self.group.traffic.balance, self.group.fail_open, tried)
    }

    /// Whom a request may be sent to now: indices into [`GroupCore::targets`].
    pub fn with_eligible<R>(&self, look: impl FnOnce(&[usize]) -> R) -> R {
        look(&self.planned().eligible)
    }

    // The plan, made anew where anything has changed that it was made of.
    fn planned(&self) -> RefMut<'_, Planned> {
        let version = self.group.live.version.load(Ordering::Acquire);
        let mut planned = self.planned.borrow_mut();
        if planned.as_ref().is_none_or(|planned| planned.version != version || planned.is_due()) {
            *planned = None;
        }
        RefMut::map(planned, |planned| planned.get_or_insert_with(|| self.plan(version)))
    }

    fn plan(&self, version: u64) -> Planned {
        let group = &self.group;
        let (members, chosen) = choose(group);
        let (candidates, all) = (&chosen.candidates, members.len());
        let plan = Plan::build(group.algorithm, group.traffic.balance.bound, candidates, all);
        let known = match &group.traffic.sticky {
            Some(_) => known(&members, &group.traffic.balance, chosen.failed_open),
            None => Box::default(),
        };
        Planned { version, again: chosen.again, plan, eligible: chosen.members, known }
    }
}

impl Planned {
    fn is_due(&self) -> bool {
        self.again != Tick::NEVER && Tick::now() >= self.again
    }
}

/// Every target of a group as balancing sees it now, and who takes part.
pub fn choose(group: &Group) -> (Vec<Member>, Chosen) {
    let members: Vec<Member> = group.targets.iter().map(member).collect();
    let chosen = balance::choose(&members, &group.traffic.balance, group.fail_open, Tick::now());
    (members, chosen)
}

// Whom clients may stay with.
fn known(members: &[Member], settings: &Settings, failed_open: bool) -> Box<[(u64, usize)]> {
    let may = |(_, member): &(usize, &Member)| balance::may_keep(member, settings, failed_open);
    let kept = members.iter().enumerate().filter(may);
    let mut known: Vec<(u64, usize)> = kept.map(|(at, member)| (member.hash, at)).collect();
    known.sort_unstable();
    known.into()
}

fn member(target: &Target) -> Member {
    let state = target.live.state();
    let standing = if health::usable(state) {
        Standing::Usable
    } else if state == health::State::Unhealthy {
        Standing::Unhealthy
    } else {
        Standing::Out
    };
    Member {
        weight: target.weight,
        hash: target.live.hash,
        tier: target.tier,
        local: target.local,
        standing,
        since: target.live.since(),
    }
}
