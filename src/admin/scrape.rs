//! Everything that the admin endpoints show, as plain data that control fills in for one request.
//!
//! Names in it come from the configuration alone, never from a request, so the number of series has a bound.

use crate::admin::{AskStat, CacheStat, CodingStat, StreamStat, TlsStat};
use crate::base::meters::Totals;
use crate::http::path::PathPolicy;
use crate::snapshot::mirrors::MirrorTotals;
use crate::snapshot::policies::Decisions;
use crate::store::{Purge, Purged};

/// Where the admin endpoints get what they show.
pub trait Source: Send + Sync + 'static {
    /// The state at this moment.
    fn scrape(&self) -> Scrape;

    /// Whether every worker accepts connections on the configuration that was loaded.
    ///
    /// # Errors
    /// When not; the sentence says what is missing.
    fn ready(&self) -> Result<(), String>;

    /// What would be done with a request that `question` describes in JSON, as text for people or as JSON.
    ///
    /// # Errors
    /// What is wrong with the question.
    fn explain(&self, question: &[u8], json: bool) -> Result<String, String>;
    /// How paths of requests are made canonical now.
    fn paths(&self) -> PathPolicy;

    /// Forgets stored responses.
    fn purge(&self, purge: &Purge) -> Purged;
}

/// The state of the process at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The version of ringgate.
    pub version: &'static str,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
    /// The number of the running snapshot.
    pub generation: u64,
    /// When the process started, in seconds since 1970.
    pub started_unix: u64,
    /// Each worker.
    pub workers: Vec<WorkerStat>,
    /// Each listener by name.
    pub listeners: Vec<(String, Totals)>,
    /// Each rule by name.
    pub rules: Vec<(String, Totals)>,
    /// Each group by name.
    pub groups: Vec<(String, Totals)>,
    /// Each target of each group.
    pub targets: Vec<TargetStat>,
    /// Changes of certificates that were taken up.
    pub takings_ok: u64,
    /// Changes of certificates that were of no use; those of before stay.
    pub takings_failed: u64,
    /// Reloads that were accepted.
    pub reloads_ok: u64,
    /// Reloads that were refused; the configuration stayed as it was.
    pub reloads_failed: u64,
    /// Whether the last reload (or the start) was accepted.
    pub last_reload_ok: bool,
    /// When that was, in seconds since 1970.
    pub last_reload_unix: u64,
    /// Access records that were lost.
    pub log_dropped: u64,
    /// Bytes of access log written.
    pub log_written_bytes: u64,
    /// Tasks of workers that panicked; each cost one connection.
    pub task_panics: u64,
    /// Workers that were replaced.
    pub worker_restarts: u64,
    /// Workers that hang now, replaced or not.
    pub workers_stuck: u64,
    /// Client connections that are taken at most.
    pub max_connections: u64,
    /// Answers that ringgate made because something failed, by reason code.
    pub faults: Vec<(&'static str, u64)>,
    /// What is counted of TLS.
    pub tls: TlsStat,
    /// HTTP/2 of clients.
    pub streams: StreamStat,
    /// Each name that certificates are obtained for by ACME.
    pub acme: Vec<AcmeStat>,
    /// Each place where keys of issuers are fetched.
    pub jwks: Vec<JwksStat>,
    /// What policies have asked beside the data path.
    pub asks: AskStat,
    /// What keeps each group's targets from harm.
    pub guards: Vec<GuardStat>,
    /// Requests that were shed, by importance.
    pub shed: Vec<(&'static str, u64)>,
    /// Content codings.
    pub codings: CodingStat,
    /// What each policy has decided, by name.
    pub policies: Vec<(String, Decisions)>,
    /// The usage ledger, where there is one.
    pub usage: Option<UsageStat>,
    /// Requests that were not compliant, by class and reason.
    pub deviations: Vec<(&'static str, &'static str, u64)>,
    /// Each rule's mirror, by the rule's name and that of the mirror's group.
    pub mirrors: Vec<(String, String, MirrorTotals)>,
    /// Answers made of parts, of rules and listeners.
    pub aggregates: Vec<AggregateStat>,
    /// Faults that rules have made on purpose, by the rule's name and what they were.
    pub injected: Vec<(String, &'static str, u64)>,
    /// Calls of gRPC by the name of their status.
    pub calls: Vec<(&'static str, u64)>,
    /// Bodies that rules should have changed and could not, by reason.
    pub unmapped: Vec<(&'static str, u64)>,
    /// Stored responses.
    pub cache: CacheStat,
}

/// Answers made of parts.
#[derive(Clone, Debug, Default)]
pub struct AggregateStat {
    /// The rule's name; empty for a listener's default.
    pub rule: String,
    /// The listener's name; empty for a rule's.
    pub listener: String,
    /// Answers: `whole`, `partial`, `failed`.
    pub answers: Vec<(&'static str, u64)>,
    /// How often each part was missing, by its name.
    pub missing: Vec<(String, u64)>,
}

/// One place where keys of an issuer are fetched.
#[derive(Clone, Debug, Default)]
pub struct JwksStat {
    /// The first policy that needs them.
    pub policy: String,
    /// What is asked, without its query.
    pub url: String,
    /// Keys that tokens are verified with now; 0 where none are.
    pub keys: u64,
    /// Fetches that brought keys.
    pub successes: u64,
    /// Fetches that did not.
    pub failures: u64,
    /// Whether the last one did.
    pub last_ok: bool,
    /// When keys were fetched last, in seconds since 1970; 0 for not yet.
    pub last_success_unix: u64,
}

/// One name that certificates are obtained for.
#[derive(Clone, Debug, Default)]
pub struct AcmeStat {
    /// The name.
    pub name: String,
    /// When a certificate was obtained last, in seconds since 1970; 0 for not yet, since the start.
    pub last_success_unix: u64,
    /// When the one that is kept ends, in seconds since 1970; 0 without one.
    pub not_after_unix: u64,
    /// Certificates obtained.
    pub successes: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// The usage ledger.
#[derive(Clone, Debug, Default)]
pub struct UsageStat {
    /// Counts written.
    pub written: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Counts that are not on disk as they are.
    pub unwritten: u64,
    /// Octets on disk.
    pub octets: u64,
    /// When the last write succeeded, in seconds since 1970; 0 for not yet.
    pub flushed_unix: u64,
}

/// One worker.
#[derive(Clone, Debug, Default)]
pub struct WorkerStat {
    /// Its number.
    pub id: usize,
    /// Whether it has ended for good; then only what it has counted is of interest.
    pub gone: bool,
    /// Whether it gave a sign of life lately.
    pub alive: bool,
    /// Client connections it has open.
    pub connections: u64,
    /// How much of the last half second its thread ran, in thousandths.
    pub busy: u64,
    /// Connections that it accepted and handed to others.
    pub handed_over: u64,
    /// Requests it has finished.
    pub requests: u64,
}

/// One target of one group.
#[derive(Clone, Debug, Default)]
pub struct TargetStat {
    /// The group's name.
    pub group: String,
    /// The address.
    pub target: String,
    /// `zone` of the file.
    pub zone: Option<String>,
    /// `weight` of the file.
    pub weight: u32,
    /// `initial`, `healthy`, `unhealthy`, `unused`, `draining` or `unavailable`.
    pub state: &'static str,
    /// Why it is in this state, as a stable code.
    pub reason: Option<String>,
    /// Why, as a sentence.
    pub description: Option<String>,
    /// The text of the last error.
    pub last_error: Option<String>,
    /// For how long it has been in this state.
    pub since_seconds: u64,
    /// What was counted for it.
    pub totals: Totals,
    /// Idle connections kept to it.
    pub idle_connections: u64,
    /// Why, and for how long, it is taken out; `None` while it is not.
    pub out: Option<OutStat>,
    /// How often it was taken out, by reason; empty where nothing watches it.
    pub ejections: Vec<(&'static str, u64)>,
    /// Requests that it has in flight; `None` where they are not bounded.
    pub in_flight: Option<u64>,
    /// Connections to it that are open or being opened; `None` where they are not bounded.
    pub opened: Option<u64>,
}

/// Why a target is taken out.
#[derive(Clone, Debug, Default)]
pub struct OutStat {
    /// A stable code.
    pub reason: &'static str,
    /// A sentence.
    pub description: &'static str,
    /// For how long it has been out.
    pub since_seconds: u64,
    /// For how long it will be.
    pub left_seconds: u64,
}

/// What keeps the targets of a group from harm.
#[derive(Clone, Debug, Default)]
pub struct GuardStat {
    /// The group's name.
    pub group: String,
    /// Targets that are taken out; `None` where nothing watches them.
    pub ejected: Option<u64>,
    /// Its breaker, if it has one.
    pub breaker: Option<BreakerStat>,
    /// Its queue, if it has bounds.
    pub queue: Option<QueueStat>,
}

/// The breaker of a group.
#[derive(Clone, Debug, Default)]
pub struct BreakerStat {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// For how long.
    pub since_seconds: u64,
    /// How often it has become so, by state.
    pub changes: Vec<(&'static str, u64)>,
    /// Requests that it did not let in.
    pub refused: u64,
}

/// The queue of a group.
#[derive(Clone, Debug, Default)]
pub struct QueueStat {
    /// Requests that wait.
    pub length: u64,
    /// Requests that have waited.
    pub waited: u64,
    /// For how long, all together, in microseconds.
    pub waited_us: u64,
    /// Of these, those that waited too long.
    pub late: u64,
    /// Requests that found it full.
    pub refused: u64,
}
