//! What is checked after every step, and what must be left in the end: nothing.

use crate::ledger::{Ledger, Totals};
use crate::settings;
use crate::world::{CLIENT, World};
use ringgate::base::clients::Clients;
use ringgate::base::lease::{Budget, Lease};
use ringgate::config::Config;
use ringgate::http::Fault;
use ringgate::shard::machine::Shares;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

// Units that the shard leases at a time.
const BLOCK: u64 = 4;
// Blocks that one connection leases at most: what it reads, an upload, an answer, and one that moves into a larger.
const MOST_BLOCKS: usize = 4;

/// What the machine has a budget of, as `shard::machine` has it, with a table of clients that all runs of a thread use.
pub struct Budgets {
    pub connections: Arc<Budget>,
    pub requests: Arc<Budget>,
    pub memory: Arc<Budget>,
    pub tunnels: Arc<Budget>,
    pub clients: Arc<Clients>,
}

thread_local! {
    static CLIENTS: Arc<Clients> = Arc::default();
}

impl Budgets {
    pub fn new(config: &Config) -> Budgets {
        let budgets = Budgets {
            connections: Budget::new(settings::CONNECTIONS),
            requests: Budget::new(0),
            memory: Budget::new(0),
            tunnels: Budget::new(settings::CONNECTIONS),
            clients: CLIENTS.with(Arc::clone),
        };
        budgets.resize(config);
        budgets
    }

    pub fn resize(&self, config: &Config) {
        self.requests.resize(config.limits.in_flight);
        self.memory.resize(settings::blocks(config));
    }

    pub fn shares(&self) -> Shares {
        let lease = |budget: &Arc<Budget>| Lease::new(Arc::clone(budget), BLOCK);
        Shares {
            store: Arc::default(),
            post: ringgate::shard::Post::default(),
            connections: lease(&self.connections),
            requests: lease(&self.requests),
            memory: lease(&self.memory),
            tunnels: lease(&self.tunnels),
            clients: Arc::clone(&self.clients),
        }
    }
}

impl World {
    /// Holds in every moment between two polls.
    pub fn check(&mut self) {
        let tasks = self.executor.live() as u64;
        let epoch = self.shard.epoch();
        let mut wrong = Vec::new();
        let mut at_most = |what: &str, value: u64, most: u64| {
            if value > most {
                wrong.push(format!("{what} is {value}, with {tasks} connections"));
            }
        };
        for listener in &epoch.snapshot.listeners {
            let now = listener.meters.sum();
            at_most("active", now.active, tasks);
            at_most("connections", now.connections, tasks);
        }
        for target in epoch.snapshot.groups.iter().flat_map(|g| &g.targets) {
            at_most("load", target.live.load.load(Ordering::Relaxed).into(), tasks);
        }
        at_most("leased", self.shard.buffers.leased() as u64, tasks * MOST_BLOCKS as u64);
        at_most("the lease", self.shard.connections(), tasks);
        at_most("the pulse", self.shard.pulse.connections.load(Ordering::Relaxed), tasks);
        if self.shard.connections() != tasks {
            wrong.push(format!("{} admitted, {tasks} served", self.shard.connections()));
        }
        wrong.into_iter().for_each(|what| self.ledger.violation(what));
    }

    /// At the end: everything came back, and what was counted is on record.
    pub fn count_up(&mut self) {
        self.pass(crate::world::LONGEST.as_nanos() as u64);
        self.check();
        self.read_records();
        let tasks = self.executor.live();
        if tasks > 0 {
            self.ledger.violation(format!("{tasks} connections outlive drain and cut"));
        }
        self.nothing_is_left();
        self.take_totals();
        self.close_pools();
    }

    /// After the shard is gone: what it had leased is free again.
    pub fn budgets_are_whole(ledger: &mut Ledger, budgets: &Budgets, config: &Config) {
        let all = [
            ("connections", &budgets.connections, settings::CONNECTIONS),
            ("requests", &budgets.requests, config.limits.in_flight),
            ("memory", &budgets.memory, settings::blocks(config)),
        ];
        for (what, budget, total) in all {
            let mut lease = Lease::new(Arc::clone(budget), 1);
            let free = (0..=total).filter(|_| lease.acquire()).count() as u64;
            if free != total {
                ledger.violation(format!("{free} of {total} {what} came back"));
            }
        }
        let counted = budgets.clients.count(CLIENT.into());
        if counted > 0 {
            ledger.violation(format!("the clients' address still has {counted} connections"));
        }
    }

    fn nothing_is_left(&mut self) {
        let epoch = self.shard.epoch();
        let mut left = vec![
            ("leased blocks".to_owned(), self.shard.buffers.leased() as u64),
            ("admitted connections".to_owned(), self.shard.connections()),
            (
                "connections in the pulse".to_owned(),
                self.shard.pulse.connections.load(Ordering::Relaxed),
            ),
            ("deadlines".to_owned(), self.shard.timers.len() as u64),
        ];
        for listener in &epoch.snapshot.listeners {
            let now = listener.meters.sum();
            left.push((format!("active on {}", listener.name), now.active));
            left.push((format!("connections of {}", listener.name), now.connections));
        }
        for target in epoch.snapshot.groups.iter().flat_map(|g| &g.targets) {
            let load = target.live.load.load(Ordering::Relaxed);
            left.push((format!("load of {}", target.live.name), load.into()));
        }
        for target in epoch.groups.iter().flat_map(|g| &g.targets) {
            let now = target.live.meters.sum();
            if now.connections != now.idle || now.idle != target.idle() as u64 {
                left.push((format!("connections in use to {}", target.live.name), now.connections));
            }
        }
        // As many requests may be in flight as ever; after a reload that lowered the limit, as many more as a lease holds.
        let places: Vec<_> =
            std::iter::from_fn(|| self.shard.place(&epoch.snapshot, None)).take(1000).collect();
        let (most, free) = (self.most_in_flight(), places.len() as u64);
        drop(places);
        if free < most || free >= most + 2 * BLOCK {
            self.ledger.violation(format!("{free} of {most} requests may be in flight"));
        }
        for (what, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            self.ledger.violation(format!("at the end there are {count} {what}"));
        }
    }

    fn take_totals(&mut self) {
        let epoch = self.shard.epoch();
        let requests = epoch.snapshot.listeners.iter().map(|l| l.meters.sum().requests()).sum();
        let groups = epoch.snapshot.groups.iter();
        let by_group: BTreeMap<String, u64> = groups
            .map(|g| (g.name.to_string(), g.live.meters.sum().requests()))
            .filter(|(_, count)| *count > 0)
            .collect();
        let faults: BTreeMap<String, u64> = Fault::ALL
            .iter()
            .map(|f| (f.code().to_owned(), self.shard.pulse.faults.value(*f)))
            .filter(|(_, count)| *count > 0)
            .collect();
        for (fault, count) in &faults {
            for _ in 0..*count {
                self.ledger.count(&format!("fault: {fault}"));
            }
        }
        self.ledger.totals = Totals { requests, by_group, faults };
    }

    // Pools close with their targets: no connection outlives them.
    fn close_pools(&mut self) {
        let epoch = self.shard.epoch();
        epoch.groups.iter().flat_map(|g| &g.targets).for_each(|target| target.close_idle());
        let unused = epoch.groups.iter().flat_map(|g| &g.targets).all(|t| t.is_unused());
        if !unused {
            self.ledger.violation("a target has connections after its pool was closed".to_owned());
        }
        drop(epoch);
        self.everyone();
        let open = self.conns.iter().filter(|c| c.is_held_by_peer()).count();
        if open > 0 {
            self.ledger.violation(format!("{open} connections to targets are still held"));
        }
    }
}
