//! What all workers together have a budget of: client connections, requests in flight, memory; and a worker's shares of it.
//!
//! Made by control, which follows the file with it; each worker leases from it, so that a limit means what the file says for the
//! whole machine, whatever the number of workers.

use crate::base::clients::Clients;
use crate::base::lease::{Budget, Lease};
use crate::config::Limits;
use crate::net::buf::SMALL;
use crate::shard::{Message, Post};
use crate::store::Store;
use std::sync::Arc;

/// The budgets of the machine.
#[derive(Debug)]
pub struct Machine {
    /// Client connections.
    pub connections: Arc<Budget>,
    /// Requests that are being forwarded.
    pub requests: Arc<Budget>,
    /// Tunnels: upgraded requests, and connections that are relayed.
    pub tunnels: Arc<Budget>,
    /// Buffers, in units of a small block.
    pub memory: Arc<Budget>,
    /// Connections of each client address.
    pub clients: Arc<Clients>,
    /// Stored responses.
    pub store: Arc<Store>,
    /// How workers are told something.
    pub post: Post,
}

/// One worker's shares.
#[derive(Debug)]
pub struct Shares {
    /// Of client connections.
    pub connections: Lease,
    /// Of requests that are being forwarded.
    pub requests: Lease,
    /// Of tunnels.
    pub tunnels: Lease,
    /// Of buffers.
    pub memory: Lease,
    /// All of it.
    pub clients: Arc<Clients>,
    /// All of it.
    pub store: Arc<Store>,
    /// How other workers are told something.
    pub post: Post,
}

// What a worker leases at a time, at most.
const CONNECTIONS: u64 = 32;
const REQUESTS: u64 = 64;
const BLOCKS: u64 = 64;

impl Machine {
    /// What the file gives; of client connections as many as the process can have.
    pub fn new(max_connections: u64, limits: &Limits) -> Machine {
        let (store, post) = (Arc::new(Store::default()), Post::default());
        let mail = post.clone();
        store.on_landing(move |worker, tickets| {
            mail.tell(worker, Message::Landed(tickets));
        });
        Machine {
            connections: Budget::new(max_connections),
            requests: Budget::new(limits.in_flight),
            tunnels: Budget::new(limits.tunnels),
            memory: Budget::new(blocks(limits)),
            clients: Arc::default(),
            store,
            post,
        }
    }

    /// Follows a file that was read again.
    pub fn follow(&self, max_connections: u64, limits: &Limits) {
        self.connections.resize(max_connections);
        self.requests.resize(limits.in_flight);
        self.tunnels.resize(limits.tunnels);
        self.memory.resize(blocks(limits));
    }

    /// The shares of one of so many workers.
    pub fn shares(&self, workers: usize) -> Shares {
        let lease = |budget: &Arc<Budget>, most| {
            Lease::new(Arc::clone(budget), budget.block(workers, most))
        };
        Shares {
            connections: lease(&self.connections, CONNECTIONS),
            requests: lease(&self.requests, REQUESTS),
            tunnels: lease(&self.tunnels, REQUESTS),
            memory: lease(&self.memory, BLOCKS),
            clients: Arc::clone(&self.clients),
            store: Arc::clone(&self.store),
            post: self.post.clone(),
        }
    }
}

fn blocks(limits: &Limits) -> u64 {
    limits.memory.map_or(u64::MAX, |octets| octets / SMALL as u64)
}
