//! How many connections each client address has, for the whole machine, in a table of fixed size without locks.
//!
//! A count-min sketch of two rows: each address is counted in one cell of either row, and has the smaller of the two. Counts
//! are exact for an address that shares a cell with nobody in at least one row, and never too low: a cap is never exceeded, and
//! an address is refused early only if both of its cells are shared with busy ones. The rows are hashed with random keys,
//! so that nobody can choose to share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

// Cells of a row: 64 Ki, so that the table measures 512 KiB.
const CELLS: usize = 1 << 16;

/// The table.
#[derive(Debug)]
pub struct Clients {
    rows: [Box<[AtomicU32]>; 2],
    keys: [RandomState; 2],
}

impl Default for Clients {
    fn default() -> Clients {
        let row = || (0..CELLS).map(|_| AtomicU32::new(0)).collect();
        Clients { rows: [row(), row()], keys: [RandomState::new(), RandomState::new()] }
    }
}

impl Clients {
    /// Counts a connection in; false, and not counted, when the address has `most` already.
    #[must_use]
    pub fn enter(&self, client: IpAddr, most: u32) -> bool {
        let [one, two] = self.cells(client);
        let before = [one, two].map(|cell| cell.fetch_add(1, Ordering::Relaxed));
        let admitted = before.iter().min().is_some_and(|has| *has < most);
        if !admitted {
            self.leave(client);
        }
        admitted
    }

    /// Counts a connection out that [`Clients::enter`] has counted in.
    pub fn leave(&self, client: IpAddr) {
        for cell in self.cells(client) {
            cell.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Connections of an address; may be too high, never too low.
    pub fn count(&self, client: IpAddr) -> u32 {
        self.cells(client).map(|cell| cell.load(Ordering::Relaxed)).into_iter().min().unwrap_or(0)
    }

    fn cells(&self, client: IpAddr) -> [&AtomicU32; 2] {
        let key = key(client);
        [0, 1].map(|row| {
            let cell = self.keys[row].hash_one(key) as usize % CELLS;
            &self.rows[row][cell]
        })
    }
}

/// What a client is known by: an IPv6 client has a whole /64 to call from.
pub fn key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn caps_each_address_for_itself() {
        let clients = Clients::default();
        let (one, two) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert!((0..3).all(|_| clients.enter(one, 3)));
        assert!(!clients.enter(one, 3) && !clients.enter(one, 3));
        assert_eq!(clients.count(one), 3, "a refusal does not count");
        assert!(clients.enter(two, 3));
        clients.leave(one);
        assert!(clients.enter(one, 3));
    }

    #[test]
    fn an_ipv6_client_is_its_network_and_a_mapped_one_is_ipv4() {
        let clients = Clients::default();
        assert!(clients.enter(ip("2001:db8::1"), 1));
        assert!(!clients.enter(ip("2001:db8::ffff:2"), 1));
        assert!(clients.enter(ip("2001:db8:0:1::1"), 1));
        assert!(clients.enter(ip("192.0.2.7"), 1));
        assert!(!clients.enter(ip("::ffff:192.0.2.7"), 1));
    }

    #[test]
    fn ends_at_zero_however_threads_interleave() {
        let clients = Clients::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let clients = &clients;
                scope.spawn(move || {
                    for i in 0..2000_u32 {
                        let from = IpAddr::from([10, 0, thread % 2, (i % 7) as u8]);
                        if clients.enter(from, 2) {
                            clients.leave(from);
                        }
                    }
                });
            }
        });
        assert!(clients.rows.iter().flatten().all(|cell| cell.load(Ordering::Relaxed) == 0));
    }
}
