//! HTTP/2 over a [`Sock`](crate::net::Sock), by the h2 crate: what frames, compresses and controls flow is the crate's.
//!
//! `wire` lends a socket to the crate and runs one connection; `stream` makes one stream of it a `Sock` again, so that
//! whoever relays bodies need not know which protocol carries them. Heads come and go as lines (`http::lines`). Limits are
//! set by who opens a connection: `serve::h2` for clients, `upstream::h2` for targets.

pub mod stream;
pub mod wire;

pub use stream::Stream;
pub use wire::{Expired, Wire, drive};

use std::io;

/// What an error of the crate means to who reads or writes a stream.
pub fn io_error(error: h2::Error) -> io::Error {
    let kind = match error.get_io() {
        Some(error) => error.kind(),
        None if error.is_remote() => io::ErrorKind::ConnectionReset,
        None => io::ErrorKind::ConnectionAborted,
    };
    io::Error::new(kind, error)
}
