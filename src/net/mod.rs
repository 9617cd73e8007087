//! The runtime, and only here: sockets, readiness, deadlines, buffers, listeners.
//!
//! The ring is asked for one thing only: to say when a socket is ready. Octets move by direct `recv(2)` and
//! `sendmsg(2)` into borrowed slices. Measured, this costs the same as ring reads and writes, and it removes a class of
//! hazards: a wait can be dropped at any time without losing a byte, no buffer is ever owned by the kernel, and an
//! idle connection holds none. Everything above this layer would run on another runtime unchanged.

pub mod buf;
pub mod listen;
pub mod runtime;
pub mod sock;
mod sys;
pub mod timer;

pub use buf::{Buf, Buffers};
pub use sock::Sock;
pub use timer::{Side, Timers};
