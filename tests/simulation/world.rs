//! One run: a shard built from a real snapshot, clients and targets around it, a clock that a script advances.
//!
//! Everything that happens follows from the seed: who acts next, how far, and when.

use crate::answers::Kind;
use crate::behaviour;
use crate::client::{Client, Script};
use crate::executor::Executor;
use crate::gauges::Budgets;
use crate::ledger::{self, Ledger};
use crate::plan::{Plan, nature, shape};
use crate::settings;
use crate::target::{Conn, Nature};
use crossbeam::channel::{Receiver, Sender, unbounded};
use fastrand::Rng;
use ringgate::base::{Tick, tick};
use ringgate::health::State;
use ringgate::net::memory::{self, Attempt, Dialled};
use ringgate::net::{Network, Sock, Timers};
use ringgate::observe::{self, Format};
use ringgate::proxy;
use ringgate::serve::{accept::Open, h1};
use ringgate::shard::{AccessLog, Epoch, Pulse, Shard};
use ringgate::snapshot::{Snapshot, compile, compile::Context};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const MS: u64 = 1_000_000;
const SWEEP: u64 = 100 * MS;
// Rounds of a run; one that needs more does not come to an end.
const MOST_ROUNDS: usize = 6000;
/// The address of all clients; their ports tell them apart.
pub const CLIENT: [u8; 4] = [192, 0, 2, 7];

pub struct World {
    pub ledger: Ledger,
    rng: Rng,
    now: u64,
    next_sweep: u64,
    pub executor: Executor,
    pub shard: Rc<Shard>,
    budgets: Budgets,
    // Grows by one from a run to the next of the same test.
    turn: usize,
    // Which settings are in force.
    variant: usize,
    dialled: Rc<Dialled>,
    batches: Receiver<Vec<u8>>,
    graveyard: (Sender<Arc<Snapshot>>, Receiver<Arc<Snapshot>>),
    clients: Vec<Client>,
    pub conns: Vec<Conn>,
    opened: usize,
    natures: Vec<Nature>,
    // Attempts to connect that are answered later, and when; some never are.
    pending: Vec<(u64, Attempt)>,
    script: Plan,
}

/// Runs one seed; what happened.
pub fn run(seed: u64, print: bool) -> Ledger {
    // The shard's own randomness comes from here.
    fastrand::seed(seed);
    let mut world = World::new(Rng::with_seed(seed ^ 0x51b0_11ed), print);
    world.turn = usize::try_from(seed / crate::PARTS).unwrap_or(0);
    world.play();
    if world.script.settles {
        world.settle();
    }
    world.drain();
    world.count_up();
    let World { mut ledger, shard, budgets, variant, executor, .. } = world;
    drop((shard, executor));
    World::budgets_are_whole(&mut ledger, &budgets, settings::variant(variant));
    tick::script(None);
    ledger
}

impl World {
    fn new(mut rng: Rng, print: bool) -> World {
        let now = 1000 * MS;
        tick::script(Some(Tick::from_nanos(now)));
        let graveyard = unbounded();
        let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
        let variant = rng.usize(..settings::VARIANTS);
        let budgets = Budgets::new(settings::variant(variant));
        let snapshot = Arc::new(compile(settings::variant(variant), context).unwrap());
        let epoch = Epoch::bind(snapshot, None, 1, graveyard.0.clone());
        let (sink, batches) = observe::in_process();
        let format = Arc::new(Format::parse(ledger::Record::TEMPLATE).unwrap());
        let dialled = Rc::new(Dialled::default());
        let shard = Shard::within(
            Network::Memory(Rc::clone(&dialled)),
            0,
            epoch,
            Rc::new(Timers::default()),
            AccessLog { sink: Some(sink), format },
            budgets.shares(),
            Arc::new(Pulse::default()),
        );
        let natures = (0..settings::TARGETS).map(|_| nature(&mut rng)).collect();
        let script = Plan::new(&mut rng);
        let mut ledger = Ledger::default();
        ledger.log.print = print;
        World {
            ledger,
            rng,
            now,
            next_sweep: now + SWEEP,
            executor: Executor::default(),
            shard,
            budgets,
            turn: 0,
            variant,
            dialled,
            batches,
            graveyard,
            clients: Vec::new(),
            conns: Vec::new(),
            opened: 0,
            natures,
            pending: Vec::new(),
            script,
        }
    }

    // Until every client has had what it wanted.
    fn play(&mut self) {
        for round in 0..MOST_ROUNDS {
            self.happen(round);
            let did = self.act(7);
            let polls = self.polls();
            let polled = self.executor.run(polls, &mut self.rng);
            self.check();
            let all_came = self.clients.len() == self.script.clients || self.shard.is_draining();
            if round == self.script.stop_at {
                return;
            }
            if all_came && self.clients.iter().all(Client::is_done) && self.executor.live() == 0 {
                return;
            }
            self.advance(did || polled > 0);
        }
        self.ledger.violation("the run does not come to an end".to_owned());
    }

    fn polls(&mut self) -> usize {
        if self.rng.u8(..4) == 0 { usize::MAX } else { self.script.polls }
    }

    fn happen(&mut self, round: usize) {
        let due = self.clients.len() < self.script.clients && !self.shard.is_draining();
        if due && round.is_multiple_of(self.script.connect_every) {
            self.connect();
        }
        if self.script.reload_at.contains(&round) {
            self.reload();
        }
        if self.script.flip_at.contains(&round) {
            self.flip_health();
        }
        if round == self.script.drain_at {
            self.begin_drain();
        }
    }

    // A client connects: what `serve::accept` does with a socket.
    fn connect(&mut self) {
        let id = self.clients.len();
        // Every other run begins with the next hostile client, so that each of them has its turn.
        let forced = (id == 0 && self.turn.is_multiple_of(2)).then_some(&behaviour::HOSTILE);
        let (name, _, write) = forced.unwrap_or_else(|| behaviour::pick(&mut self.rng));
        let mut script = Script { turn: self.turn / 2 + id * 17, ..Script::default() };
        write(&mut script, id, &mut self.rng);
        self.ledger.count(&format!("client: {name}"));
        self.ledger.note(self.now, format_args!("client {id} connects: {name}"));
        let facts = ledger::Client {
            behaviour: name,
            asked: script.asked,
            connected_at: self.now,
            ..ledger::Client::default()
        };
        self.ledger.clients.push(facts);
        let peer = SocketAddr::from((CLIENT, 10_000 + u16::try_from(id).unwrap()));
        let local = SocketAddr::from(([127, 0, 0, 1], 8080));
        let (ours, theirs) = memory::pair(shape(&mut self.rng), [Some(peer), Some(local)]);
        self.clients.push(Client::new(id, ours, script.ops));
        let admitted = self.shard.admit(peer.ip()).unwrap();
        let epoch = self.shard.epoch();
        let listener = epoch.snapshot.listeners[0].id;
        let sock = Sock::in_memory(theirs, &self.shard.timers);
        let client = proxy::Client { sock, peer, port: 8080, listener, passed: None, tls: None };
        let open = Open { shard: Rc::clone(&self.shard), client: peer.ip(), admitted };
        self.executor.spawn(h1::serve(client, open, epoch));
    }

    // What a worker does with a new snapshot.
    fn reload(&mut self) {
        let old = self.shard.epoch();
        let generation = old.snapshot.generation + 1;
        let context =
            Context { generation, workers: 1, old: Some(&old.snapshot), resolve: &|_| Vec::new() };
        let variant = self.rng.usize(..settings::VARIANTS);
        let snapshot = Arc::new(compile(settings::variant(variant), context).unwrap());
        self.variant = variant;
        self.budgets.resize(settings::variant(variant));
        let epoch = Epoch::bind(snapshot, Some(&old), 1, self.graveyard.0.clone());
        self.shard.adopt(epoch, Tick::now());
        drop(old);
        self.graveyard.1.try_iter().for_each(drop);
        self.ledger.count("world: reload");
        self.ledger.note(self.now, format_args!("reload to variant {variant}"));
    }

    // What control does when probes say so.
    fn flip_health(&mut self) {
        let epoch = self.shard.epoch();
        for group in &epoch.snapshot.groups {
            for target in &group.targets {
                let state = if self.rng.bool() { State::Unhealthy } else { State::Healthy };
                target.live.set_health(state);
            }
            group.live.version.fetch_add(1, Ordering::Release);
        }
        self.ledger.count("world: health");
        self.ledger.note(self.now, format_args!("healths change"));
    }

    // Everyone gets a turn, `of_ten` times out of ten. Whether anything happened.
    fn act(&mut self, of_ten: u8) -> bool {
        let mut did = self.answer_dials();
        for client in &mut self.clients {
            if self.rng.u8(..10) < of_ten {
                did |= client.act(self.now, &mut self.rng, &mut self.ledger);
            }
        }
        for conn in &mut self.conns {
            if self.rng.u8(..10) < of_ten {
                let nature = &self.natures[conn.target];
                did |= conn.act(self.now, nature, &mut self.rng, &mut self.ledger);
            }
        }
        self.conns.retain(|conn| !conn.is_closed());
        did
    }

    fn answer_dials(&mut self) -> bool {
        while let Some(attempt) = self.dialled.next() {
            let trouble = self.natures[settings::target_at(attempt.to())].trouble;
            let wrong = self.rng.u32(..160) < trouble;
            let (what, wait) = match self.rng.u8(..8) {
                0 | 1 if wrong => {
                    self.ledger.count("dial: refused");
                    attempt.answer(Err(Errno::CONNREFUSED));
                    continue;
                }
                2 if wrong => ("dial: never", u64::MAX),
                3 | 4 if wrong => ("dial: late", self.rng.u64(10..400) * MS),
                5 if wrong => ("dial: reset", 0),
                6 if wrong => ("dial: closed", 0),
                _ => ("dial: accepted", 0),
            };
            self.ledger.count(what);
            if what.ends_with("reset") || what.ends_with("closed") {
                let (ours, theirs) = memory::pair(shape(&mut self.rng), [None, None]);
                if what.ends_with("reset") {
                    ours.reset_on_close();
                }
                attempt.answer(Ok(theirs));
                continue;
            }
            self.pending.push((self.now.saturating_add(wait), attempt));
        }
        let now = self.now;
        let due = self.pending.iter().position(|(at, a)| *at <= now || a.is_abandoned());
        let Some(due) = due else { return false };
        let (_, attempt) = self.pending.swap_remove(due);
        self.accept(attempt);
        true
    }

    fn accept(&mut self, attempt: Attempt) {
        if attempt.is_abandoned() {
            return;
        }
        let (id, target) = (self.opened, settings::target_at(attempt.to()));
        self.opened += 1;
        let mut shape = shape(&mut self.rng);
        if self.natures[target].kinds.contains(&Kind::Early) {
            // Answers overtake what has no room.
            shape.capacity[1] = 900;
        }
        let (ours, theirs) = memory::pair(shape, [None, None]);
        self.ledger.note(self.now, format_args!("connection {id} to target {target}"));
        self.conns.push(Conn::new(id, target, ours));
        attempt.answer(Ok(theirs));
    }

    // Time passes: a little while there is something to do, to the next sweep when all wait.
    fn advance(&mut self, busy: bool) {
        let step = match self.rng.u8(..64) {
            0 => self.rng.u64(100 * MS..600 * MS),
            1..=5 => self.rng.u64(5 * MS..100 * MS),
            _ if busy => self.rng.u64(300_000..3 * MS),
            _ => self.next_sweep.saturating_sub(self.now).max(MS),
        };
        self.pass(step);
        if self.script.leap_at != usize::MAX && self.clients.len() == self.script.clients {
            // The machine was asleep.
            self.script.leap_at = usize::MAX;
            self.ledger.count("world: leap");
            self.pass(3600 * 1000 * MS);
        }
    }

    pub fn pass(&mut self, nanos: u64) {
        self.now += nanos;
        tick::script(Some(Tick::from_nanos(self.now)));
        if self.now >= self.next_sweep {
            self.next_sweep = self.now + SWEEP;
            self.shard.sweep(Tick::now());
            self.read_records();
        }
    }

    // No one begins anything; whatever waits is answered or runs into its deadline.
    fn settle(&mut self) {
        self.clients.iter_mut().for_each(Client::only_read);
        for _ in 0..80 {
            self.everyone();
            self.pass(SWEEP);
        }
        self.everyone();
        self.check();
        let leased = self.shard.buffers.leased();
        if leased > 0 {
            self.ledger.violation(format!("{leased} blocks are leased and nothing is in flight"));
        }
    }

    pub fn everyone(&mut self) {
        for _ in 0..MOST_ROUNDS {
            let did = self.act(10) | (self.executor.run(usize::MAX, &mut self.rng) > 0);
            if !did {
                return;
            }
        }
        self.ledger.violation("the peers do not come to rest".to_owned());
    }

    /// Requests that the settings in force allow at a time.
    pub fn most_in_flight(&self) -> u64 {
        settings::variant(self.variant).limits.in_flight
    }

    fn begin_drain(&mut self) {
        if self.ledger.drained.is_none() {
            self.ledger.count("world: drain in the middle");
            self.ledger.note(self.now, format_args!("drain"));
            self.ledger.drained = Some(self.now);
            self.shard.drain();
        }
    }

    // To the end of the worker: drained, then cut.
    fn drain(&mut self) {
        self.begin_drain();
        self.everyone();
        for _ in 0..self.script.drains {
            self.everyone();
            self.pass(SWEEP);
        }
        if self.executor.live() > 0 {
            self.ledger.count("world: cut");
            self.ledger.note(self.now, format_args!("cut"));
            self.ledger.cut = Some(self.now);
            self.shard.timers.expire_all();
            for _ in 0..30 {
                self.everyone();
                self.pass(SWEEP);
            }
        }
        self.clients.iter_mut().for_each(Client::only_read);
        self.everyone();
    }

    pub fn read_records(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            for line in String::from_utf8(batch).unwrap().lines() {
                self.ledger.note(self.now, format_args!("record {line}"));
                self.ledger.records.push(ledger::Record::parse(line));
            }
        }
    }
}

/// Longer than any duration of the settings.
pub const LONGEST: Duration = Duration::from_secs(6);
