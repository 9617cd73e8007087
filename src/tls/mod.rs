//! TLS, as far as it can be decided without a socket: what a handshake agreed on, and what it failed of.
//!
//! The handshake itself and the records are rustls'; driving it over a socket is `net::tls`.

pub mod client;
pub mod facts;
pub mod failure;

pub use facts::Facts;
pub use failure::{Failure, Reason};
