//! Metrics and health of ringgate itself, over HTTP, on the control thread: never on a worker.
//!
//! Nearly every endpoint is a GET and shows something; what changes something takes a body that no page elsewhere can send. It serves
//! what its [`Source`] says at that moment and keeps nothing. Control implements the source and calls [`serve`].

pub mod asks;
pub mod cache;
mod changes;
pub mod codings;
mod guards;
pub mod host;
mod jwks;
pub mod metrics;
mod mirrors;
pub mod pages;
mod policies;
pub mod scrape;
pub mod serve;
pub mod text;
pub mod tls;

pub use asks::AskStat;
pub use cache::CacheStat;
pub use codings::CodingStat;
pub use scrape::{
    AcmeStat, AggregateStat, BreakerStat, GuardStat, JwksStat, OutStat, QueueStat, Scrape, Source,
    TargetStat, UsageStat, WorkerStat,
};
pub use serve::serve;
pub use tls::{StreamStat, TlsStat};
