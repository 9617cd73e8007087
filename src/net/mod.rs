//! The runtime, and only here: sockets, readiness, deadlines, buffers, listeners.
//!
//! The ring is asked for one thing only: to say when a socket is ready. Octets move by direct `recv(2)` and
//! `sendmsg(2)` into borrowed slices. Measured, this costs the same as ring reads and writes, and it removes a class of
//! hazards: a wait can be dropped at any time without losing a byte, no buffer is ever owned by the kernel, and an
//! idle connection holds none. Everything above this layer would run on another runtime unchanged.

pub mod buf;
pub mod delay;
pub mod h2;
pub mod listen;
pub mod local;
pub mod memory;
pub mod pipe;
pub mod runtime;
pub mod sock;
mod sys;
pub mod timer;
pub mod tls;

pub use buf::{Buf, Buffers};
pub use delay::{Delays, Waited};
pub use pipe::{Pipe, Pipes};
pub use sock::Sock;
pub use timer::{SWEEP, Side, Timers};

use crate::base::Tick;
use crate::snapshot::Address;
use std::io;
use std::rc::Rc;

/// What a worker's targets are dialled through.
#[derive(Debug, Default)]
pub enum Network {
    /// The kernel's sockets.
    #[default]
    Kernel,
    /// Connections in memory, which a simulation answers.
    Memory(Rc<memory::Dialled>),
}

impl Network {
    /// Opens a connection to a target, for the client whose slot this is.
    ///
    /// # Errors
    /// Those of `connect(2)`; `TimedOut` at `deadline`.
    pub async fn connect(
        &self,
        to: &Address,
        slot: Rc<timer::Slot>,
        deadline: Tick,
    ) -> io::Result<Sock> {
        match (self, to) {
            (Network::Kernel, Address::Tcp(to)) => Sock::connect_tcp(*to, slot, deadline).await,
            (Network::Kernel, Address::Unix(to)) => Sock::connect_unix(to, slot, deadline).await,
            (Network::Memory(dialled), to) => {
                Sock::connect_memory(dialled, to.to_string(), slot, deadline).await
            }
        }
    }
}
