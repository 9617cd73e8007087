//! How many client connections the limit of open files leaves room for.
//!
//! Running out of descriptors hurts everything at once: targets, logs, probes, the admin endpoints. So what these need is set
//! aside at the start, and clients get the rest: beyond it they are turned away with an answer, as beyond `max_connections`.
//! Looks at the limit as it is; raising it is the start's business. Called by `service`.

use crate::config::Config;
use crate::snapshot::Snapshot;
use rustix::process::{Resource, getrlimit};

/// A worker's ring, timer and doorbell, and what its runtime keeps.
const WORKER: u64 = 8;
/// The admin endpoints' connections, of which there may be 64 where descriptors abound.
const ADMIN: u64 = 64;
/// Files of the configuration, name servers, the log's old and new file.
const SUNDRY: u64 = 24;
/// Targets that are probed at the same moment.
const PROBES: u64 = 256;

/// What the process has, and what it needs beside its clients.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Descriptors it may have.
    pub limit: u64,
    /// Descriptors it has now, or will have when all is started.
    pub own: u64,
    /// Descriptors it may need at any time.
    pub reserve: u64,
}

impl Needs {
    /// Of this process, when it has opened its files but not its sockets yet. `None` without a limit.
    pub fn now(config: &Config, snapshot: &Snapshot, workers: usize) -> Option<Needs> {
        let limit = getrlimit(Resource::Nofile).current?;
        let workers = workers as u64;
        let addresses: usize = snapshot.listeners.iter().map(|l| l.bind.len()).sum();
        // Control's descriptor, the worker's and its timer.
        let sockets = addresses as u64 * workers * 3;
        let targets: usize = config.groups.iter().map(|g| g.targets.len()).sum();
        let probes = (targets as u64).min(PROBES).min(limit / 8);
        let pipes = (crate::net::pipe::most(limit) * 2 * workers).min(limit / 8);
        let own = open_now() + workers * WORKER + sockets + pipes;
        Some(Needs { limit, own, reserve: probes + ADMIN.min(limit / 8) + SUNDRY })
    }

    /// How many of `wanted` connections fit. A quarter of what is left is for connections to targets: few clients have a request
    /// in flight at the same time; where more have, those beyond are shed (`upstream`).
    pub fn room(self, wanted: u64) -> u64 {
        let left = self.limit.saturating_sub(self.own + self.reserve) / 4 * 3;
        // With next to nothing left, it serves all the same, as well as it can.
        wanted.min(left.max(self.limit / 16).max(1))
    }
}

// Descriptors that are open. Without /proc, what a process usually begins with.
fn open_now() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(16, |all| all.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Hazard RES-05.
    #[test]
    fn clients_get_what_is_left() {
        for (limit, own, reserve, wanted, room) in [
            (1 << 20, 50, 100, 100_000, 100_000),
            (1024, 50, 100, 100_000, 654),
            (1024, 50, 100, 64, 64),
            (256, 40, 80, 100_000, 102),
            (256, 40, 214, 100_000, 16),
            (256, 400, 80, 100_000, 16),
            (8, 400, 80, 100_000, 1),
            (0, 0, 0, 100_000, 1),
        ] {
            let got = Needs { limit, own, reserve }.room(wanted);
            assert_eq!(got, room, "{limit} descriptors, {own} own, {reserve} in reserve");
        }
    }

    #[test]
    fn a_process_has_something_open() {
        assert!(open_now() > 2);
    }
}
