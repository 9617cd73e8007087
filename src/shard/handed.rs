//! Connections that another worker has accepted and this one is to serve: a bounded queue beside the pulse.
//!
//! It belongs to the number, not to the thread: what waits here when a thread ends or hangs is taken by whoever looks next, its
//! successor or any other worker. So no descriptor is lost, and none is served twice. Filled and emptied by `serve::handover`.

use crossbeam::queue::ArrayQueue;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Connections that wait at most; beyond it the worker that accepted one keeps it.
pub const MOST: usize = 64;

/// A connection of which nothing has been read.
#[derive(Debug)]
pub struct Passed {
    /// Its socket.
    pub socket: OwnedFd,
    /// Its peer.
    pub peer: SocketAddr,
    /// [`crate::snapshot::Listener::id`]
    pub listener: u32,
    /// The port that it came to.
    pub port: u16,
}

/// What waits for one worker.
#[derive(Debug)]
pub struct Handed(ArrayQueue<Passed>);

impl Default for Handed {
    fn default() -> Handed {
        Handed(ArrayQueue::new(MOST))
    }
}

impl Handed {
    /// Adds one.
    ///
    /// # Errors
    /// When the queue is full: the connection again.
    pub fn push(&self, passed: Passed) -> Result<(), Passed> {
        self.0.push(passed)
    }

    /// Takes the one that has waited longest.
    pub fn pop(&self) -> Option<Passed> {
        self.0.pop()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
