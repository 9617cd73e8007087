//! What one core owns: its epoch, the connections it keeps to targets, its buffers, clocks and counters.
//!
//! Nothing here is shared with another worker but the few atomics of `snapshot::live`. A request clones the
//! `Rc<Epoch>` once and sees one configuration to its end; the next request on the same connection sees the newest.

pub mod asks;
pub mod channel;
pub mod coders;
pub mod copies;
pub mod epoch;
pub mod handed;
pub mod handshakes;
pub mod landings;
pub mod lines;
pub mod machine;
pub mod mailbox;
pub mod post;
pub mod scratch;
pub mod seat;
pub mod sent;
pub mod streams;
pub mod target;
pub mod trace;
pub mod unmapped;

pub use asks::{Ask, Asks};
pub use coders::{Coders, CodingCounts};
pub use copies::{Copies, Tap};
pub use epoch::Epoch;
pub use handed::{Handed, Passed};
pub use handshakes::{HandshakeCounts, Handshakes};
pub use landings::Landings;
pub use lines::{Held, Lines, Opened, Trial};
pub use machine::{Machine, Shares};
pub use mailbox::Message;
pub use post::Post;
pub use scratch::Scratch;
pub use seat::{Seat, SeatState};
pub use sent::Sent;
pub use streams::StreamCounts;
pub use target::{TargetConn, TargetCore};
pub use trace::Trace;
pub use unmapped::{Unmapped, UnmappedCounts};

use crate::base::clients::Clients;
use crate::base::lease::Lease;
use crate::base::{Rng, Tick, tick};
use crate::http::Fault;
use crate::http::desync::Reason;
use crate::http::grpc;
use crate::net::{Buffers, Delays, Network, Pipes, Timers};
use crate::observe::{Format, Record, Sink};
use crate::protect::Importance;
use crate::snapshot::{Rule, Snapshot, TargetLive};
use crate::sticky::Memory;
use crate::store::Store;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

/// One worker's state. Lives on its thread as `Rc<Shard>`.
#[derive(Debug)]
pub struct Shard {
    /// Which worker, from 0.
    pub worker: usize,
    /// Blocks for reading.
    pub buffers: Rc<Buffers>,
    /// Pipes for octets that need not be looked at.
    pub pipes: Rc<Pipes>,
    /// All deadlines.
    pub timers: Rc<Timers>,
    /// What targets are dialled through.
    pub network: Network,
    /// TLS handshakes of clients.
    pub handshakes: Rc<Handshakes>,
    /// Requests that are held back on purpose.
    pub delays: Rc<Delays>,
    /// What puts content codings on bodies, and takes them off.
    pub coders: Rc<Coders>,
    /// What policies have asked control.
    pub asks: Asks,
    /// Cookies that were opened, of clients that stay where they are.
    pub sticky: RefCell<Memory>,
    /// Copies of requests on their way.
    pub copies: Rc<Copies>,
    /// Stored responses, which all workers share.
    pub store: Arc<Store>,
    /// Requests that wait for what another one fetches.
    pub landings: Landings,
    /// How other workers are told something.
    pub post: Post,
    /// Requests that wait for a target.
    pub lines: Rc<Lines>,
    /// What others see of this worker.
    pub pulse: Arc<Pulse>,
    epoch: RefCell<Rc<Epoch>>,
    #[expect(
        clippy::vec_box,
        reason = "exchanges hold the box: a scratch by value would lie in their futures"
    )]
    scratches: RefCell<Vec<Box<Scratch>>>,
    rng: RefCell<Rng>,
    log: RefCell<AccessLog>,
    connections: RefCell<Lease>,
    requests: RefCell<Lease>,
    tunnels: RefCell<Lease>,
    clients: Arc<Clients>,
    date: RefCell<Date>,
    draining: Cell<bool>,
    retired: RefCell<Vec<(Tick, Rc<TargetCore>)>>,
}

/// What others see of a worker: written by it, read by control.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Who has it; control alone sets it.
    pub seat: SeatState,
    /// Whether the watchdog calls it stuck.
    pub stuck: AtomicBool,
    /// The kernel's number of its thread; 0 before it runs.
    pub thread: AtomicI32,
    /// When its sweep last ran, in nanoseconds of [`Tick`].
    pub beat: AtomicU64,
    /// Whether it accepts connections.
    pub accepting: AtomicBool,
    /// Client connections open now.
    pub connections: AtomicU64,
    /// How much of the last half second its thread ran, in thousandths.
    pub busy: AtomicU64,
    /// Connections that it accepted and handed to others.
    pub handed_over: AtomicU64,
    /// Connections that others accepted for it.
    pub handed: Handed,
    /// Requests that ended.
    pub requests: AtomicU64,
    /// Tasks that panicked.
    pub panics: AtomicU64,
    /// The generation it serves.
    pub generation: AtomicU64,
    /// Connections refused because the machine or the client has as many as allowed.
    pub refused: AtomicU64,
    /// Requests that were shed, by importance.
    pub shed: ShedCounts,
    /// Own answers, by [`Fault::index`].
    pub faults: FaultCounts,
    /// How TLS handshakes of clients ended.
    pub handshakes: HandshakeCounts,
    /// HTTP/2 of clients.
    pub streams: StreamCounts,
    /// Requests that were not compliant, by [`Reason::index`].
    pub deviations: DeviationCounts,
    /// Calls of gRPC by their status.
    pub calls: CallCounts,
    /// Bodies that rules should have changed and could not.
    pub unmapped: UnmappedCounts,
    /// Content codings.
    pub codings: CodingCounts,
}

/// Counts by [`Fault`].
#[derive(Debug)]
pub struct FaultCounts(Box<[AtomicU64]>);

impl Default for FaultCounts {
    fn default() -> FaultCounts {
        FaultCounts(Fault::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl FaultCounts {
    /// Counts one.
    pub fn add(&self, fault: Fault) {
        if let Some(count) = self.0.get(fault.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often `fault` was counted.
    pub fn value(&self, fault: Fault) -> u64 {
        self.0.get(fault.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Counts by [`Reason`].
#[derive(Debug)]
pub struct DeviationCounts(Box<[AtomicU64]>);

impl Default for DeviationCounts {
    fn default() -> DeviationCounts {
        DeviationCounts(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl DeviationCounts {
    /// Counts one.
    pub fn add(&self, reason: Reason) {
        if let Some(count) = self.0.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often `reason` was counted.
    pub fn value(&self, reason: Reason) -> u64 {
        self.0.get(reason.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Counts by [`Importance`].
#[derive(Debug, Default)]
pub struct ShedCounts([AtomicU64; Importance::ALL.len()]);

impl ShedCounts {
    /// Counts one.
    pub fn add(&self, importance: Importance) {
        if let Some(count) = self.0.get(importance.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many of this importance were counted.
    pub fn value(&self, importance: Importance) -> u64 {
        self.0.get(importance.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Counts by status of gRPC.
#[derive(Debug, Default)]
pub struct CallCounts([AtomicU64; grpc::STATUSES.len()]);

impl CallCounts {
    /// Counts one; a number that no status has counts as UNKNOWN.
    pub fn add(&self, status: u16) {
        let known = self.0.get(usize::from(status)).or(self.0.get(usize::from(grpc::UNKNOWN)));
        if let Some(count) = known {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a status was counted.
    pub fn value(&self, status: usize) -> u64 {
        self.0.get(status).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// That a client connection was counted in, and where.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    counted: bool,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub struct Place<'a>(&'a Shard);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.requests.borrow_mut().release(1);
    }
}

/// A tunnel that is counted until this is dropped.
#[derive(Debug)]
pub struct TunnelPlace(Rc<Shard>);

impl Drop for TunnelPlace {
    fn drop(&mut self) {
        self.0.tunnels.borrow_mut().release(1);
    }
}

/// The worker's end of the access log.
#[derive(Debug)]
pub struct AccessLog {
    /// Where records go; `None` when the log is off.
    pub sink: Option<Sink>,
    /// How they are written.
    pub format: Arc<Format>,
}

#[derive(Debug)]
struct Date {
    text: [u8; 29],
    second: u64,
}

// Scratches that a worker keeps for reuse.
const KEEP_SCRATCHES: usize = 1024;

impl Shard {
    /// The state of a worker that begins with `epoch`.
    pub fn new(
        worker: usize,
        epoch: Rc<Epoch>,
        timers: Rc<Timers>,
        log: AccessLog,
        shares: Shares,
        pulse: Arc<Pulse>,
    ) -> Rc<Shard> {
        Shard::within(Network::Kernel, worker, epoch, timers, log, shares, pulse)
    }

    /// As [`Shard::new`], with targets that are dialled through `network`.
    pub fn within(
        network: Network,
        worker: usize,
        epoch: Rc<Epoch>,
        timers: Rc<Timers>,
        log: AccessLog,
        shares: Shares,
        pulse: Arc<Pulse>,
    ) -> Rc<Shard> {
        let shard = Shard {
            worker,
            buffers: Rc::new(Buffers::new(shares.memory)),
            pipes: Rc::default(),
            timers,
            network,
            handshakes: Rc::default(),
            delays: Rc::default(),
            coders: Rc::new(Coders::new(Arc::clone(&pulse))),
            asks: Asks::default(),
            sticky: RefCell::default(),
            copies: Rc::default(),
            store: shares.store,
            lines: Rc::new(Lines::new(worker, shares.post.clone())),
            landings: Landings::new(),
            post: shares.post,
            pulse,
            epoch: RefCell::new(epoch),
            scratches: RefCell::default(),
            rng: RefCell::new(Rng::new()),
            log: RefCell::new(log),
            connections: RefCell::new(shares.connections),
            requests: RefCell::new(shares.requests),
            tunnels: RefCell::new(shares.tunnels),
            clients: shares.clients,
            date: RefCell::new(Date { text: [b' '; 29], second: 0 }),
            draining: Cell::new(false),
            retired: RefCell::default(),
        };
        shard.refresh_date();
        shard.pulse.generation.store(shard.epoch().snapshot.generation, Ordering::Relaxed);
        Rc::new(shard)
    }

    /// The newest configuration, bound to this worker.
    #[inline]
    pub fn epoch(&self) -> Rc<Epoch> {
        Rc::clone(&self.epoch.borrow())
    }

    /// Takes up a new configuration. Targets that it no longer has keep their requests for the group's drain time.
    pub fn adopt(&self, epoch: Rc<Epoch>, now: Tick) {
        self.pulse.generation.store(epoch.snapshot.generation, Ordering::Relaxed);
        let old = self.epoch.replace(Rc::clone(&epoch));
        let mut retired = self.retired.borrow_mut();
        let gone = old.gone(&epoch);
        retired.extend(gone.map(|(group, t)| (now.after(group.group.drain), Rc::clone(t))));
        for (_, target) in retired.iter() {
            target.retire();
        }
    }

    /// Runs `f` with the worker's randomness.
    #[inline]
    pub fn with_rng<R>(&self, f: impl FnOnce(&mut Rng) -> R) -> R {
        f(&mut self.rng.borrow_mut())
    }

    /// A scratch for one exchange; give it back with [`Shard::give_back`].
    pub fn scratch(&self) -> Box<Scratch> {
        self.scratches.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes a scratch back for reuse.
    pub fn give_back(&self, mut scratch: Box<Scratch>) {
        let mut free = self.scratches.borrow_mut();
        if free.len() < KEEP_SCRATCHES {
            scratch.trim();
            free.push(scratch);
        }
    }

    /// Whether access records are wanted.
    #[inline]
    pub fn logs(&self) -> bool {
        self.log.borrow().sink.is_some()
    }

    /// Writes one access record.
    pub fn record(&self, record: &Record<'_>) {
        let log = &mut *self.log.borrow_mut();
        if let Some(sink) = &mut log.sink {
            sink.record(record, &log.format);
        }
    }

    /// Changes where and how access records are written.
    pub fn set_log(&self, log: AccessLog) {
        self.log.replace(log);
    }

    /// `Date` as it is written now (RFC 9110 section 6.6.1), at most a sweep old.
    #[inline]
    pub fn with_date<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(&self.date.borrow().text)
    }

    /// Seconds since 1970, at most a sweep old.
    #[inline]
    pub fn unix(&self) -> u64 {
        self.date.borrow().second
    }

    /// Counts a client connection in.
    ///
    /// # Errors
    /// [`Fault::Overloaded`] when the machine has as many as it may, [`Fault::TooManyFromClient`] when the client has;
    /// it is not counted then.
    pub fn admit(&self, client: IpAddr) -> Result<Admitted, Fault> {
        let counted = match self.epoch.borrow().snapshot.client_cap(client) {
            Some(most) if !self.clients.enter(client, most) => {
                self.pulse.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Fault::TooManyFromClient);
            }
            cap => cap.is_some(),
        };
        let mut lease = self.connections.borrow_mut();
        let admitted = lease.acquire();
        self.pulse.connections.store(lease.used(), Ordering::Relaxed);
        if admitted {
            return Ok(Admitted { counted });
        }
        self.pulse.refused.fetch_add(1, Ordering::Relaxed);
        if counted {
            self.clients.leave(client);
        }
        Err(Fault::Overloaded)
    }

    /// Counts a client connection out.
    pub fn leave(&self, client: IpAddr, admitted: Admitted) {
        if admitted.counted {
            self.clients.leave(client);
        }
        let mut lease = self.connections.borrow_mut();
        lease.release(1);
        self.pulse.connections.store(lease.used(), Ordering::Relaxed);
    }

    /// A place for a request that is forwarded; `None` when the machine has as many in flight, or as much memory in use, as
    /// a request of this rule leaves to others, which matters only where rules differ in that.
    #[inline]
    pub fn place(&self, snapshot: &Snapshot, rule: Option<&Rule>) -> Option<Place<'_>> {
        let importance = rule.map_or(Importance::Normal, |rule| rule.traffic.importance);
        let spared = if snapshot.ranked { importance.spares() } else { 0 };
        let admitted =
            !self.buffers.is_short_of(spared) && self.requests.borrow_mut().acquire_sparing(spared);
        if !admitted {
            self.pulse.shed.add(importance);
        }
        admitted.then(|| Place(self))
    }

    /// Closes an idle connection to a target, if there is one here: another worker wants to open one, and there are as many as
    /// may be.
    pub fn spare(&self, live: &TargetLive) {
        let epoch = self.epoch();
        let same = |target: &&Rc<TargetCore>| Arc::ptr_eq(&target.live.guard, &live.guard);
        let retired = self.retired.borrow();
        let all = epoch.groups.iter().flat_map(|group| &group.targets);
        let mut all = all.chain(retired.iter().map(|(_, target)| target)).filter(same);
        let _ = all.any(|target| target.spare());
    }

    /// A place for a tunnel; `None` when the machine has as many as `limits.tunnels`, or as much memory in use as it may.
    pub fn tunnel_place(self: &Rc<Shard>) -> Option<TunnelPlace> {
        let admitted = !self.buffers.is_short() && self.tunnels.borrow_mut().acquire();
        admitted.then(|| TunnelPlace(Rc::clone(self)))
    }

    /// Client connections of this worker.
    pub fn connections(&self) -> u64 {
        self.connections.borrow().used()
    }

    /// Whether the process is stopping.
    #[inline]
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Begins to drain: idle connections end now, busy ones after their answer.
    pub fn drain(&self) {
        self.draining.set(true);
        self.timers.expire_idle();
    }

    /// What has to be done every sweep: deadlines, idle connections, the date, the log.
    pub fn sweep(&self, now: Tick) {
        self.pulse.beat.store(now.nanos(), Ordering::Relaxed);
        self.timers.sweep(now);
        if self.draining.get() {
            self.timers.expire_idle();
        }
        self.connections.borrow_mut().settle();
        self.requests.borrow_mut().settle();
        self.tunnels.borrow_mut().settle();
        self.buffers.settle();
        self.refresh_date();
        self.asks.sweep(now);
        self.lines.sweep();
        self.store.sweep(now);
        let epoch = self.epoch();
        for group in &epoch.groups {
            let oldest = group.group.idle_timeout;
            group.targets.iter().for_each(|t| t.sweep(now, oldest, self.worker));
        }
        epoch.policies.iter().for_each(|p| p.core.sweep(&p.policy.kind, now));
        self.retired.borrow_mut().retain(|(cut, target)| {
            let over = target.is_unused() || *cut <= now;
            if over {
                target.cut();
            }
            !over
        });
        if let Some(sink) = &mut self.log.borrow_mut().sink {
            sink.flush();
        }
    }

    fn refresh_date(&self) {
        let second = tick::wall_micros() / 1_000_000;
        let mut date = self.date.borrow_mut();
        if date.second != second {
            let at = std::time::UNIX_EPOCH + Duration::from_secs(second);
            // Always 29 octets (RFC 9110 section 5.6.7), written in place.
            let _ = write!(date.text.as_mut_slice(), "{}", httpdate::HttpDate::from(at));
            date.second = second;
        }
    }
}
