//! The few shared atomics: what groups and targets learn, carried by name from one snapshot to the next.
//!
//! Control writes health, workers write load; both read relaxed. Reasons and error texts stay with control.

use crate::balance::PeakEwma;
use crate::base::Tick;
use crate::base::meters::Meters;
use crate::health::{self, State};
use crate::http::proxy_protocol::Version;
use crate::protect::retry::Reserve;
use crate::protect::{Breaker, Line, TargetGuard};
use crate::tls::client::Dial;
use crossbeam::utils::CachePadded;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What a group has learnt.
#[derive(Debug)]
pub struct GroupLive {
    /// Counts round robin over all workers.
    pub cursor: CachePadded<AtomicU64>,
    /// Grows whenever the health of a target changes: workers then plan anew.
    pub version: AtomicU64,
    /// Second attempts that are always paid for.
    pub reserve: Reserve,
    /// Requests and tunnels in flight on all its targets, all workers together; of requests, only where a bound asks for it.
    pub load: CachePadded<AtomicU32>,
    /// Whether it is given a rest.
    pub breaker: Breaker,
    /// Who waits for one of its targets.
    pub line: Line,
    /// What is counted.
    pub meters: Meters,
}

impl GroupLive {
    /// A group of which nothing is known.
    pub fn new(workers: usize) -> Arc<GroupLive> {
        Arc::new(GroupLive {
            cursor: CachePadded::default(),
            version: AtomicU64::new(0),
            reserve: Reserve::default(),
            load: CachePadded::default(),
            breaker: Breaker::default(),
            line: Line::new(workers),
            meters: Meters::new(workers),
        })
    }
}

/// How a connection to a target begins. What was opened in one way is never used in another (hazard TLS-09), so that a
/// target keeps what it has learnt over a reload, its connections included, only while this stays the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Opening {
    /// The PROXY header that comes first.
    pub proxy_protocol: Option<Version>,
    /// TLS, and whom the target must prove to be.
    pub tls: Option<(Arc<Dial>, ServerName<'static>)>,
}

/// What a target has learnt.
#[derive(Debug)]
pub struct TargetLive {
    /// Where it is.
    pub address: Address,
    /// How connections to it begin.
    pub opening: Opening,
    /// The address as text.
    pub name: Arc<str>,
    /// A stable hash of the address, for consistent hashing.
    pub hash: u64,
    health: AtomicU8,
    // Since when it takes requests, in nanoseconds of a tick.
    since: AtomicU64,
    /// How long it takes to answer, all workers together; noted only for algorithms that ask for it.
    pub time: CachePadded<PeakEwma>,
    /// Requests in flight, all workers together; kept only for algorithms that ask for it.
    pub load: CachePadded<AtomicU32>,
    /// What keeps it from harm.
    pub guard: Arc<TargetGuard>,
    /// The group that it is a target of.
    pub group: Arc<GroupLive>,
    /// What is counted.
    pub meters: Arc<Meters>,
}

impl TargetLive {
    pub(super) fn new(
        address: Address,
        opening: Opening,
        state: State,
        since: Tick,
        group: &Arc<GroupLive>,
        workers: usize,
    ) -> Arc<TargetLive> {
        let name = address.to_string();
        Arc::new(TargetLive {
            hash: crate::balance::hash_key(name.as_bytes()),
            name: Arc::from(name),
            address,
            opening,
            health: AtomicU8::new(code(state)),
            since: AtomicU64::new(since.nanos()),
            time: CachePadded::default(),
            load: CachePadded::default(),
            guard: Arc::default(),
            group: Arc::clone(group),
            meters: Arc::new(Meters::new(workers)),
        })
    }

    /// The same target, reached in another way: its counters and its health go on, its connections do not.
    pub(super) fn reopened(&self, opening: Opening) -> Arc<TargetLive> {
        Arc::new(TargetLive {
            address: self.address.clone(),
            opening,
            name: Arc::clone(&self.name),
            hash: self.hash,
            health: AtomicU8::new(self.health.load(Ordering::Relaxed)),
            since: AtomicU64::new(self.since.load(Ordering::Relaxed)),
            time: CachePadded::default(),
            load: CachePadded::default(),
            guard: Arc::clone(&self.guard),
            group: Arc::clone(&self.group),
            meters: Arc::clone(&self.meters),
        })
    }

    /// The state of its health.
    pub fn health(&self) -> State {
        STATES.get(self.health.load(Ordering::Acquire) as usize).copied().unwrap_or(State::Initial)
    }

    /// The state that decides whether it is used: one that was taken out counts as unhealthy.
    pub fn state(&self) -> State {
        match self.health() {
            state if health::usable(state) && self.guard.watch.is_out() => State::Unhealthy,
            state => state,
        }
    }

    /// Control alone sets it, and then grows the group's version.
    pub fn set_health(&self, state: State) {
        let before = self.health();
        // First, so that no worker sees it healthy and thinks that it has been for long.
        if health::usable(state) && !health::usable(before) {
            self.returned(Tick::now());
        }
        self.health.store(code(state), Ordering::Release);
    }

    /// Since when it takes requests: since it was added to a group, or returned. [`Tick::ZERO`] for always.
    pub fn since(&self) -> Tick {
        Tick::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// It takes requests again, from now on: its slow start begins. Whoever says so grows the group's version then.
    pub fn returned(&self, now: Tick) {
        self.since.store(now.nanos(), Ordering::Relaxed);
    }
}

const STATES: [State; 6] = [
    State::Initial,
    State::Healthy,
    State::Unhealthy,
    State::Unused,
    State::Draining,
    State::Unavailable,
];

fn code(state: State) -> u8 {
    STATES.iter().position(|s| *s == state).and_then(|i| u8::try_from(i).ok()).unwrap_or(0)
}
