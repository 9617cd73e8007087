//! `[server]` as written: the process, whom it becomes and how it waits.
//!
//! Read by `sections`.

use crate::base::sealed::Secret;
use crate::config::Place;
use crate::http::path::PathPolicy;
use ipnet::IpNet;
use std::time::Duration;

/// `[server]`: the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads; `None` for one per CPU of the affinity mask.
    pub workers: Option<usize>,
    /// Pin each worker to its CPU.
    pub pin: bool,
    /// Connections may be served by another worker than the one that accepts them.
    pub hand_over: bool,
    /// How workers wait for the kernel.
    pub driver: Driver,
    /// How long requests in flight get when the process is told to stop.
    pub drain: Duration,
    /// Client connections of the machine, all workers together.
    pub max_connections: u64,
    /// Peers whose `X-Forwarded-*`, `Forwarded` and request id are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The pseudonym in `Via` (RFC 9110 section 7.6.3).
    pub via: String,
    /// Also write `Forwarded` (RFC 7239) beside `X-Forwarded-*`.
    pub forwarded: bool,
    /// How paths are made canonical.
    pub paths: PathPolicy,
    /// What cookies that keep clients where they are are sealed with, the first, and opened with, all; none for a key of
    /// this process.
    pub secrets: Vec<Secret>,
    /// Whom the process becomes after it has read the file as root.
    pub user: Option<Account>,
    /// Its group instead of the one that the user belongs to.
    pub group: Option<Account>,
    /// Whether the process gives up what it does not need.
    pub sandbox: Sandbox,
    /// Whether files of certificates are looked at, and taken up when they change.
    pub watch_certificates: bool,
    /// The zone that this process runs in.
    pub zone: Option<String>,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            workers: None,
            pin: true,
            hand_over: true,
            driver: Driver::Auto,
            drain: Duration::from_secs(30),
            max_connections: 100_000,
            trusted_proxies: Vec::new(),
            via: "ringgate".to_owned(),
            forwarded: true,
            paths: PathPolicy::default(),
            secrets: Vec::new(),
            user: None,
            group: None,
            sandbox: Sandbox::Auto,
            watch_certificates: true,
            zone: None,
        }
    }
}

impl Server {
    /// `user`, `group` and `sandbox` as written: what a process cannot take on twice.
    pub fn identity(&self) -> (Option<&str>, Option<&str>, Sandbox) {
        let [user, group] = [&self.user, &self.group].map(|a| a.as_ref().map(|a| a.name.as_str()));
        (user, group, self.sandbox)
    }
}

/// `user` or `group`: a name of this system, or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As it is written.
    pub name: String,
    /// Where it stands in the file.
    pub place: Place,
}

/// `sandbox`: capabilities, Landlock, system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// On when started as root, with what the kernel has; else off.
    Auto,
    /// On; a start without it is refused.
    On,
    /// Off.
    Off,
}

/// `driver`: how workers wait for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, or epoll with a warning where io_uring is refused.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}
