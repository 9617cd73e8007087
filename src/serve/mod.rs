//! Connections in: taking them from the queues of this worker's listeners, and speaking their protocol.

pub mod accept;
pub mod h1;
pub mod h2;
pub mod handover;
mod head;
pub mod hello;
mod proxied;
mod refuse;
mod relayed;
mod secure;
