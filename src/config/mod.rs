//! The file as written: plain types with defaults filled in, and nothing resolved, compiled or opened.
//!
//! [`load`] reads a file with its includes and returns either a whole [`Config`] or every problem at once.
//! Names, units and defaults are documented in `config/reference.toml`. Compiling is `snapshot`'s work.

mod acme;
mod action;
mod check;
mod dead;
mod doubts;
mod expand;
mod file;
mod group;
mod hsts;
mod http2;
mod item;
mod keys;
mod listener;
mod listener_tls;
mod pages;
mod policy;
mod problem;
mod read;
mod relayed;
mod rule;
mod secrets;
mod sections;
mod server;
mod syntax;
mod target_tls;
mod template;
mod traffic;
mod units;
mod usage;

pub use acme::{Acme, Challenge, ExternalAccount, ListenerAcme};
pub use action::{Redirect, Respond};
pub use doubts::doubts;
pub use hsts::Hsts;
pub use http2::Http2Limits;
pub use keys::known_keys;
pub use listener_tls::{CertificateFiles, ClientAuth, ListenerTls};
pub use pages::{pages, read_pages};
pub use policy::{Policy, PolicyAnswer, materials};
pub use problem::{Problem, Problems};
pub use read::{load, parse};
pub use server::{Account, Driver, Sandbox, Server};
pub use target_tls::{Material, TargetTls};
pub use traffic::aggregate::Aggregate;
pub use traffic::balancing::{Algorithm, HashKey};
pub use traffic::sticky::is_sealed_alone;
pub use traffic::{GroupTraffic, RuleTraffic};
pub use usage::Usage;

use crate::http::desync;
use crate::http::proxy_protocol::{Version, Versions};
use crate::transform::compress;
use crate::transform::page::ErrorPage;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that one configuration file (with its includes) says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[limits]`
    pub limits: Limits,
    /// `[admin]`; without the table there is no admin listener.
    pub admin: Option<Admin>,
    /// `[acme]`; without the table no certificates are obtained.
    pub acme: Option<Acme>,
    /// `[usage]`
    pub usage: Usage,
    /// `[log]`
    pub log: Log,
    /// `[cache]`
    pub cache: crate::cache::Global,
    /// `[[listener]]`, in the order of the file.
    pub listeners: Vec<Listener>,
    /// `[[rule]]`, in the order of the file.
    pub rules: Vec<Rule>,
    /// `[group.NAME]`, in the order of the file.
    pub groups: Vec<Group>,
    /// `[policy.NAME]`, in the order of the file.
    pub policies: Vec<Policy>,
    /// `[[expect]]`, in the order of the file.
    pub expects: Vec<Expect>,
    /// The file and all that it includes.
    pub files: BTreeSet<PathBuf>,
    /// Their folders, also those of patterns that match nothing yet.
    pub folders: BTreeSet<PathBuf>,
}

/// Where something stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// 1-based; 0 where there is no line to name.
    pub line: u32,
    /// 1-based column in characters; 0 where there is none.
    pub column: u32,
}

impl Default for Place {
    fn default() -> Place {
        Place { file: Arc::from(""), line: 0, column: 0 }
    }
}

/// `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TLS handshake, from the connection's first octet on; absolute.
    pub handshake: Duration,
    /// For the whole request head, from its first byte; absolute.
    pub header: Duration,
    /// For each step of a body, either way: no byte for this long ends the exchange.
    pub body: Duration,
    /// How long an idle client connection is kept.
    pub keep_alive: Duration,
    /// For a connection to a target.
    pub connect: Duration,
    /// From the request's last byte to the response head.
    pub response: Duration,
    /// Tunnels and streams: no byte either way.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(300),
        }
    }
}

/// `timeouts = { ... }` of a listener, rule or group: what is given overrides `[timeouts]`.
/// A listener may set handshake, header, body, keep_alive, idle; a rule body, response, idle, total; a group connect, response.
/// `total` is a rule's alone: from the request's first octet to the response head, all attempts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the same fields as Timeouts")]
pub struct TimeoutOverrides {
    pub handshake: Option<Duration>,
    pub header: Option<Duration>,
    pub body: Option<Duration>,
    pub keep_alive: Option<Duration>,
    pub connect: Option<Duration>,
    pub response: Option<Duration>,
    pub idle: Option<Duration>,
    pub total: Option<Duration>,
}

/// `[limits]`: sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A whole request head, or a request's trailer section.
    pub head: u64,
    /// Fields in a request head.
    pub headers: usize,
    /// The request line, and each field line.
    pub line: u64,
    /// A request body; `None` for no limit.
    pub body: Option<u64>,
    /// A whole response head, or a response's trailer section.
    pub response_head: u64,
    /// Requests on one client connection before it is closed; `None` for no limit.
    pub requests: Option<u64>,
    /// Requests answered on one connection in a row without waiting for the client: then it is closed.
    pub pipeline: u64,
    /// Connections of one client address, all workers together; `None` for no limit.
    pub client_connections: Option<u32>,
    /// Requests forwarded at the same time, all workers together; beyond it they are shed.
    pub in_flight: u64,
    /// TLS handshakes of clients in progress at the same time, on each worker; beyond it connections are closed.
    pub handshakes: usize,
    /// Tunnels open at the same time, all workers together: upgraded requests, and connections of protocol tcp and tls.
    pub tunnels: u64,
    /// Octets of buffers in use, all workers together; beyond it requests are shed. `None` for no limit.
    pub memory: Option<u64>,
    /// Octets a second that a client must send or read on average while it is waited for; `None` for no limit.
    pub min_rate: Option<u64>,
    /// What one HTTP/2 connection may do.
    pub http2: Http2Limits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head: 64 << 10,
            headers: 128,
            line: 16 << 10,
            body: None,
            response_head: 64 << 10,
            requests: Some(100_000),
            pipeline: 10_000,
            client_connections: Some(2048),
            in_flight: 50_000,
            handshakes: 1000,
            tunnels: 50_000,
            memory: Some(1 << 30),
            min_rate: Some(240),
            http2: Http2Limits::default(),
        }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where `/metrics`, `/healthz` and `/readyz` are served; 127.0.0.1:9901.
    pub bind: SocketAddr,
    /// Where `bind` stands in the file.
    pub place: Place,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where access records go.
    pub access: AccessLog,
    /// `json`, `combined`, `alb` or a template.
    pub format: String,
    /// Where `format` stands in the file.
    pub place: Place,
}

impl Default for Log {
    fn default() -> Log {
        Log { access: AccessLog::Stdout, format: "json".to_owned(), place: Place::default() }
    }
}

/// `access` of `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// `"off"`
    Off,
    /// `"stdout"`
    Stdout,
    /// A path: appended to, created when missing, reopened on USR1.
    File(PathBuf),
}

/// `[[listener]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique.
    pub name: String,
    /// Addresses; at least one.
    pub bind: Vec<SocketAddr>,
    /// What is spoken on its connections.
    pub protocol: Protocol,
    /// What is done when no rule matches.
    pub default: Action,
    /// `steer = "cpu"` sets SO_INCOMING_CPU on each worker's socket.
    pub steer: Steer,
    /// The length of each worker's accept queue.
    pub backlog: u32,
    /// Which PROXY headers connections begin with; `None` for none.
    pub proxy_protocol: Option<Versions>,
    /// What is done with requests that deviate from the protocol.
    pub desync: desync::Mode,
    /// Whether HTTP/2 is spoken, too.
    pub http2: bool,
    /// Error pages, where a rule has none.
    pub errors: Vec<ErrorPage>,
    /// `Strict-Transport-Security` of every response.
    pub hsts: Option<Hsts>,
    /// The port of https that every request is sent to.
    pub redirect_https: Option<u16>,
    /// `timeouts`
    pub timeouts: TimeoutOverrides,
    /// Names of policies, applied in this order before a rule's.
    pub policies: Vec<String>,
    /// `tls`; with protocol https, and only with it.
    pub tls: Option<ListenerTls>,
    /// `compress`, for rules that say nothing of it.
    pub compress: Option<compress::Settings>,
    /// Where it stands in the file.
    pub place: Place,
}

/// `protocol` of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP
    #[default]
    Http,
    /// HTTP over TLS
    Https,
    /// Whatever it is: connections are relayed as they are.
    Tcp,
    /// TLS that is not ended here: relayed as it is, to where its ClientHello wants.
    Tls,
}

impl Protocol {
    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
        }
    }

    /// Whether connections are relayed as they are, so that there are no requests.
    pub fn is_relayed(self) -> bool {
        matches!(self, Protocol::Tcp | Protocol::Tls)
    }
}

impl Listener {
    /// What certificates are obtained for it.
    pub fn acme(&self) -> Option<&ListenerAcme> {
        self.tls.as_ref()?.acme.as_ref()
    }
}

/// `steer` of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// The kernel spreads connections over the workers by a hash.
    Off,
    /// A connection goes to the worker of the CPU that took its packets in.
    Cpu,
}

/// `[[rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique.
    pub name: String,
    /// Names of listeners; empty for all.
    pub listeners: Vec<String>,
    /// Lowest first; rules without one come after, most specific first.
    pub priority: Option<u32>,
    /// All that are given must hold.
    pub when: When,
    /// Exactly one of `forward`, `redirect`, `respond`.
    pub action: Action,
    /// `timeouts`
    pub timeouts: TimeoutOverrides,
    /// Protocols that requests may switch to, lower-case.
    pub upgrade: Vec<String>,
    /// Origins whose requests may switch protocols, lower-case; empty for all.
    pub origins: Vec<String>,
    /// `limits = { body = ... }`: overrides `[limits]`. `Some(None)` for `"none"`.
    pub body_limit: Option<Option<u64>>,
    /// Names of policies, applied in this order after the listener's.
    pub policies: Vec<String>,
    /// Steering, protecting, changing, storing.
    pub traffic: RuleTraffic,
    /// Where it stands in the file.
    pub place: Place,
}

/// `[rule.when]`: every list that is not empty must hold; of its values one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// Host patterns, case-insensitive; `*` any run of octets, `?` any one.
    pub host: Vec<String>,
    /// Path patterns, case-sensitive; `*` and `?` as above.
    pub path: Vec<String>,
    /// Regular expressions over the path, unanchored.
    pub path_regex: Vec<String>,
    /// Methods, exact.
    pub method: Vec<String>,
    /// Field name to value patterns, case-insensitive. Every name must hold.
    pub header: Vec<(String, Vec<String>)>,
    /// Query key to value patterns, case-insensitive; the key `*` is any key. Every key must hold.
    pub query: Vec<(String, Vec<String>)>,
    /// Cookie name (case-sensitive) to value patterns (case-sensitive). Every name must hold.
    pub cookie: Vec<(String, Vec<String>)>,
    /// Ranges of the peer's address, never of X-Forwarded-For.
    pub source: Vec<IpNet>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `forward`
    Forward(Vec<WeightedGroup>),
    /// `redirect`
    Redirect(Redirect),
    /// `respond`
    Respond(Respond),
    /// `aggregate`
    Aggregate(Aggregate),
}

/// One of the groups that a rule spreads over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedGroup {
    /// The name of a `[group.NAME]`.
    pub group: String,
    /// 0 to 999; 0 takes no traffic.
    pub weight: u32,
    /// Where it stands in the file.
    pub place: Place,
}

/// `[group.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Unique.
    pub name: String,
    /// Where requests can go; may be empty (503).
    pub targets: Vec<Target>,
    /// How a target is chosen.
    pub algorithm: Algorithm,
    /// Active health checks.
    pub health: Health,
    /// Deregistration delay: how long requests in flight to a removed target get.
    pub drain: Duration,
    /// Further attempts on other targets when a connection cannot be used.
    pub retries: u32,
    /// Idle connections kept to each target, all workers together.
    pub max_idle: u64,
    /// How long an idle connection to a target is kept.
    pub idle_timeout: Duration,
    /// When no target is healthy: use all of them (as ALB does) rather than answer 503.
    pub fail_open: bool,
    /// The version of the PROXY header that connections to targets begin with; `None` for none.
    pub proxy_protocol: Option<Version>,
    /// How targets are spoken to by TLS; `None` for plain TCP.
    pub tls: Option<TargetTls>,
    /// What is spoken with the targets.
    pub protocol: TargetProtocol,
    /// Staying, protecting.
    pub traffic: GroupTraffic,
    /// `timeouts`
    pub timeouts: TimeoutOverrides,
    /// Where it stands in the file.
    pub place: Place,
}

/// `protocol` of a group: what is spoken with its targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetProtocol {
    /// HTTP/1.1, one request at a time on each connection.
    #[default]
    Http1,
    /// HTTP/2 over TLS; the target must choose it by ALPN.
    H2,
    /// HTTP/2 in clear text, by prior knowledge (RFC 9113 section 3.3).
    H2c,
}

impl TargetProtocol {
    /// Whether it is HTTP/2.
    pub fn is_h2(self) -> bool {
        self != TargetProtocol::Http1
    }
}

/// One of `targets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: TargetAddress,
    /// 0 to 999; 0 takes no traffic.
    pub weight: u32,
    /// A label for metrics, and what `zones` goes by.
    pub zone: Option<String>,
    /// 0 to 9; the lowest is used first.
    pub tier: u8,
    /// Where it stands in the file.
    pub place: Place,
}

/// `"10.0.0.1:80"`, `"[::1]:80"`, `"api.internal:80"` or `"unix:/run/app.sock"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// An address.
    Ip(SocketAddr),
    /// A DNS name (lower-case) and port: every address it resolves to is a target.
    Name(String, u16),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// `health`: ALB's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What a probe does.
    pub kind: HealthKind,
    /// The request target of an HTTP probe.
    pub path: String,
    /// From the start of one probe to the start of the next, jittered.
    pub interval: Duration,
    /// For the whole probe.
    pub timeout: Duration,
    /// Successes in a row after which an unhealthy target is healthy; a new target needs one.
    pub healthy: u32,
    /// Failures in a row after which a target is unhealthy.
    pub unhealthy: u32,
    /// Statuses that count as success.
    pub expect: Vec<RangeInclusive<u16>>,
    /// The `Host` of an HTTP probe and the `:authority` of a gRPC probe; the target's address when left out.
    pub host: Option<String>,
    /// The service that a gRPC probe asks for; empty for the server as a whole.
    pub service: String,
    /// A port to probe instead of the target's.
    pub port: Option<u16>,
}

impl Default for Health {
    fn default() -> Health {
        Health {
            kind: HealthKind::Tcp,
            path: "/".to_owned(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy: 5,
            unhealthy: 2,
            expect: vec![200..=200],
            host: None,
            service: String::new(),
            port: None,
        }
    }
}

/// `type` of `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthKind {
    /// A GET, judged by its status.
    Http,
    /// A connection that opens.
    Tcp,
    /// `grpc.health.v1.Health/Check` over HTTP/2, judged by the status in its answer.
    Grpc,
    /// No probes: always healthy.
    Off,
}

/// `[[expect]]`: a test inside the file, run by `check` and before every reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// `METHOD URL`, as `GET https://api.example.com/v1/x`.
    pub request: String,
    /// Who must take it.
    pub taker: Taker,
    /// The group that it must be sent to.
    pub group: Option<String>,
    /// The status that the client must be sent.
    pub status: Option<u16>,
    /// Fields of the answer, with patterns of their values.
    pub response: Vec<(String, String)>,
    /// What a target must be sent.
    pub sent: Option<ExpectSent>,
    /// The listener it arrives on; the first one that the rule serves when left out.
    pub listener: Option<String>,
    /// Fields of the request head.
    pub headers: Vec<(String, String)>,
    /// The request's body; its length is written.
    pub body: Option<String>,
    /// What targets answer; `None` for 200.
    pub answer: Option<ExpectAnswer>,
    /// The client's address; 192.0.2.1 when left out.
    pub source: Option<std::net::IpAddr>,
    /// Where it stands in the file.
    pub place: Place,
}

/// Who takes a request that an `[[expect]]` describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Taker {
    /// It does not matter.
    #[default]
    Anyone,
    /// No rule.
    Nobody,
    /// The rule of this name.
    Rule(String),
}

/// `sent` of an `[[expect]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectSent {
    /// The path and query, as a pattern.
    pub target: Option<String>,
    /// The host, as a pattern.
    pub host: Option<String>,
    /// Fields, with patterns of their values.
    pub headers: Vec<(String, String)>,
}

/// `answer` of an `[[expect]]`: what every target answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectAnswer {
    /// The status.
    pub status: u16,
    /// Fields; the length of the body is written.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Expect {
    /// Whether the request must be played through to know whether it is met.
    pub fn is_played(&self) -> bool {
        let asked = self.group.is_some() || self.status.is_some();
        asked || !self.response.is_empty() || self.sent.is_some()
    }
}
