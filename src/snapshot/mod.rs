//! The file as run: everything that a request needs, compiled once, immutable, shared by all workers.
//!
//! What an unchanged object had learnt (health, counters, cursors) lives in small shared parts (`live`) that a new
//! snapshot takes over from the old one by name. All that can fail, fails in [`compile`], before anything is published.

pub mod compile;
pub mod expect;
pub mod guard;
pub mod live;
pub mod mirrors;
pub mod page;
pub mod policies;
pub mod redirect;
pub mod seals;
pub mod secure;
pub mod traffic;
pub mod upgrades;

pub use compile::compile;
pub use live::{Address, GroupLive, Opening, TargetLive};
pub use mirrors::{Inject, Mirror};
pub use policies::{Chain, Policy};
pub use seals::Seals;
pub use secure::Secure;
pub use traffic::{Aggregate, GroupTraffic, RuleTraffic};
pub use upgrades::Upgrades;

use crate::balance;
use crate::base::meters::Meters;
use crate::config::{HashKey, Limits, Protocol, TargetProtocol};
use crate::http::desync;
use crate::http::path::PathPolicy;
use crate::http::proxy_protocol::{Version, Versions};
use crate::http::scan::SectionLimits;
use crate::policy::Consumed;
use crate::route;
use crate::transform::Captures;
use crate::transform::compress::Settings;
use crate::transform::page::ErrorPage;
use ipnet::IpNet;
use redirect::RedirectTemplate;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// One configuration as it is run.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts published snapshots, from 1.
    pub generation: u64,
    /// Peers whose forwarding fields are believed.
    pub trusted: Vec<IpNet>,
    /// The pseudonym in `Via`, with the version before it: `1.1 ringgate`.
    pub via: Vec<u8>,
    /// Whether `Forwarded` is written too.
    pub forwarded: bool,
    /// How paths are made canonical.
    pub paths: PathPolicy,
    /// Sizes.
    pub limits: Limits,
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// Finds the rule for a request.
    pub routes: route::Table,
    /// In the order of the file; a [`route::RuleId`] is an index.
    pub rules: Vec<Rule>,
    /// In the order of the file.
    pub policies: Vec<Arc<Policy>>,
    /// Parameters of queries that are nothing for logs, of all policies: of a request that no rule has taken nobody knows for
    /// which it was meant.
    pub hides: Vec<Consumed>,
    /// Fields (lower-case) that clients cannot send to targets, whichever rule takes the request.
    pub owned: Vec<Box<str>>,
    /// In the order of the file.
    pub groups: Vec<Arc<Group>>,
    /// Whether any rule says whose requests are shed first; else all are alike.
    pub ranked: bool,
    /// Whether any listener asks clients for certificates, so that hosts must not be reached by another.
    pub guarded: bool,
    /// What cookies that keep clients where they are are sealed with.
    pub seals: Seals,
    /// Answers to an ACME authority; the same in every snapshot of a process.
    pub challenges: Arc<crate::tls::Challenges>,
    /// What the rules that store responses go by, each once: where responses lie that a request may make invalid.
    pub stores: Vec<crate::cache::KeySettings>,
}

impl Snapshot {
    /// Whether forwarding fields from `peer` are believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && {
            let peer = peer.to_canonical();
            self.trusted.iter().any(|net| net.contains(&peer))
        }
    }

    /// How many connections a client may have; `None` for no limit. Trusted proxies and this machine itself speak for others.
    pub fn client_cap(&self, client: IpAddr) -> Option<u32> {
        let cap = self.limits.client_connections?;
        let exempt = client.to_canonical().is_loopback() || self.trusts(client);
        (!exempt).then_some(cap)
    }

    /// The bounds of a request head.
    pub fn head_limits(&self) -> SectionLimits {
        SectionLimits {
            size: usize::try_from(self.limits.head).unwrap_or(usize::MAX),
            line: usize::try_from(self.limits.line).unwrap_or(usize::MAX),
            fields: self.limits.headers,
            bare_lf: false,
        }
    }

    /// The bounds of a response head.
    pub fn response_limits(&self) -> SectionLimits {
        let size = usize::try_from(self.limits.response_head).unwrap_or(usize::MAX);
        let fields = crate::http::request::MAX_FIELDS;
        SectionLimits { size, line: size, fields, bare_lf: false }
    }

    /// The listener with a stable id; `None` once a reload has removed it.
    pub fn listener(&self, id: u32) -> Option<&Listener> {
        self.listeners.iter().find(|l| l.id == id)
    }
}

/// A listener as run.
#[derive(Debug)]
pub struct Listener {
    /// Stays the same over reloads, for as long as the listener has its name.
    pub id: u32,
    /// From the file.
    pub name: Arc<str>,
    /// Its addresses.
    pub bind: Vec<SocketAddr>,
    /// Which number the route table knows it by.
    pub route: route::ListenerId,
    /// What is spoken on its connections.
    pub protocol: Protocol,
    /// TLS; with protocol https, and only with it.
    pub secure: Option<Arc<Secure>>,
    /// What is done when no rule matches.
    pub default: Action,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// For the whole request head.
    pub header: Duration,
    /// For each step of a body.
    pub body: Duration,
    /// For an idle connection.
    pub keep_alive: Duration,
    /// For a tunnel without an octet either way.
    pub idle: Duration,
    /// Whether clients of HTTP/2 are told that they may ask for WebSocket (RFC 8441): where anything is forwarded that may be.
    pub websocket: bool,
    /// Which PROXY headers connections begin with; `None` for none.
    pub proxy_protocol: Option<Versions>,
    /// Whether HTTP/2 is spoken, too.
    pub http2: bool,
    /// Whether connections may be served by another worker than the one that accepts them.
    pub hand_over: bool,
    /// What every request must pass, before its rule's.
    pub policies: Chain,
    /// What is done with requests that deviate.
    pub desync: desync::Mode,
    /// Error pages, where a rule has none.
    pub errors: Vec<ErrorPage>,
    /// The value of `Strict-Transport-Security`, which every response carries that has none of its target.
    pub hsts: Option<Box<[u8]>>,
    /// Where every request is sent instead of being served: GET and HEAD by the first, other methods by the second.
    pub redirect_https: Option<Box<[RedirectTemplate; 2]>>,
    /// What is compressed, of rules that say nothing of it.
    pub compress: Option<Box<Settings>>,
    /// What is counted.
    pub meters: Arc<Meters>,
}

/// A rule as run.
#[derive(Debug)]
pub struct Rule {
    /// From the file.
    pub name: Arc<str>,
    /// From the file.
    pub priority: Option<u32>,
    /// What is done.
    pub action: Action,
    /// Overrides the listener's.
    pub body: Option<Duration>,
    /// Overrides the group's.
    pub response: Option<Duration>,
    /// Overrides the listener's.
    pub idle: Option<Duration>,
    /// From a request's first octet to the response head, all attempts together.
    pub total: Option<Duration>,
    /// What requests may switch to.
    pub upgrades: Upgrades,
    /// Octets of a request body; `None` for no limit.
    pub body_limit: Option<u64>,
    /// What its requests must pass, after the listener's.
    pub policies: Chain,
    /// What is done with its requests and responses beside sending them on.
    pub traffic: RuleTraffic,
    /// What its patterns catch, where anything asks for it.
    pub captures: Option<Box<Captures>>,
    /// What is counted.
    pub meters: Arc<Meters>,
}

/// What is done with a request.
#[derive(Debug)]
pub enum Action {
    /// Send it to a target of one of these groups (indices into [`Snapshot::groups`]).
    Forward {
        /// The groups.
        groups: Vec<usize>,
        /// Chooses one of them.
        weights: balance::Weighted,
    },
    /// Send the client elsewhere.
    Redirect(RedirectTemplate),
    /// A fixed answer.
    Respond(FixedResponse),
    /// An answer that is made of the request, or lies in a file.
    Page(Box<page::Page>),
    /// One answer made of several.
    Aggregate(Box<Aggregate>),
    /// No rule takes it: 404 with a reason.
    NotFound,
}

impl Action {
    /// As it is logged.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Forward { .. } => "forward",
            Action::Redirect(_) => "redirect",
            Action::Respond(_) | Action::Page(_) => "respond",
            Action::Aggregate(_) => "aggregate",
            Action::NotFound => "none",
        }
    }
}

/// A fixed answer, ready to be written.
#[derive(Debug)]
pub struct FixedResponse {
    /// The status.
    pub status: u16,
    /// `Content-Type` and the configured fields, as lines.
    pub fields: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl FixedResponse {
    /// The answer to a challenge (RFC 8555 section 8.3).
    pub fn acme(answer: Vec<u8>) -> FixedResponse {
        let fields =
            b"content-type: application/octet-stream\r\ncache-control: no-store\r\n".to_vec();
        FixedResponse { status: 200, fields, body: answer }
    }
}

/// A group as run.
#[derive(Debug)]
pub struct Group {
    /// From the file.
    pub name: Arc<str>,
    /// How a target is chosen.
    pub algorithm: balance::Algorithm,
    /// What a hash algorithm hashes.
    pub key: KeySource,
    /// Every address, names resolved.
    pub targets: Vec<Target>,
    /// Use unhealthy targets when no other is left.
    pub fail_open: bool,
    /// The PROXY header that a connection to a target begins with. Such a connection speaks for one client and is not
    /// used again.
    pub proxy_protocol: Option<Version>,
    /// For a connection to a target.
    pub connect: Duration,
    /// From the request's last octet to the response head.
    pub response: Duration,
    /// Further attempts when a connection cannot be used.
    pub retries: u32,
    /// What is spoken with the targets.
    pub protocol: TargetProtocol,
    /// Idle connections to each target, all workers together.
    pub max_idle: u64,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long requests in flight to a removed target get.
    pub drain: Duration,
    /// How clients stay, and how targets are protected.
    pub traffic: GroupTraffic,
    /// What it has learnt; shared with its earlier and later self.
    pub live: Arc<GroupLive>,
}

impl Group {
    /// Whether requests in flight on its targets are counted: where the algorithm looks at it.
    #[inline]
    pub fn counts_load(&self) -> bool {
        use balance::Algorithm::{LeastRequests, LeastTime, PowerOfTwo};
        matches!(self.algorithm, LeastRequests | LeastTime | PowerOfTwo) || self.counts_total()
    }

    /// Whether those of all its targets are counted together, too.
    #[inline]
    pub fn counts_total(&self) -> bool {
        self.traffic.balance.bound.is_some()
    }

    /// Whether it is noted how long its targets take to answer.
    #[inline]
    pub fn notes_time(&self) -> bool {
        self.algorithm == balance::Algorithm::LeastTime
    }
}

/// What a hash algorithm hashes.
#[derive(Debug)]
pub enum KeySource {
    /// Nothing: the algorithm does not hash.
    None,
    /// The client's address.
    Client,
    /// A part of the request.
    Request(HashKey),
}

/// A target as run.
#[derive(Debug)]
pub struct Target {
    /// 0 takes no traffic.
    pub weight: u32,
    /// A label.
    pub zone: Option<String>,
    /// Whether this process runs in its zone.
    pub local: bool,
    /// The lowest is used first.
    pub tier: u8,
    /// What it is called where requests name it: as written, with its port unless that is the usual one.
    pub host: Box<str>,
    /// What it has learnt; shared with its earlier and later self.
    pub live: Arc<TargetLive>,
}
