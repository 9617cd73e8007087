//! The listening sockets: control owns them, workers serve duplicates.
//!
//! A reload binds what is new before anything is published, keeps what stays, and closes what goes only after its queues were
//! emptied. A worker that dies leaves its queue here for its successor.

use crate::config::Steer;
use crate::control::crew::Crew;
use crate::net::listen;
use crate::shard::Message;
use crate::snapshot::Snapshot;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// One bound address: a socket a worker.
#[derive(Debug)]
pub struct Bound {
    /// [`crate::snapshot::Listener::id`]
    pub listener: u32,
    /// As the file has it; a port of 0 is chosen by the kernel.
    pub asked: SocketAddr,
    /// As it is.
    pub address: SocketAddr,
    /// Indexed by worker.
    pub sockets: Vec<OwnedFd>,
    /// Names it towards workers.
    pub token: u64,
}

/// All bound addresses.
#[derive(Debug, Default)]
pub struct Sockets {
    /// In the order of binding.
    pub bound: Vec<Bound>,
    next_token: u64,
    // Workers, and tokens of what they should serve and could not be given, for want of descriptors.
    owed: Vec<(usize, u64)>,
}

/// What a new snapshot wants of the sockets. Nothing is changed until it is carried out.
#[derive(Debug, Default)]
pub struct Change {
    /// Bound already, not yet served.
    pub added: Vec<Bound>,
    /// Tokens of those no longer wanted.
    pub removed: Vec<u64>,
}

/// Why an address could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// The listener's name.
    pub listener: String,
    /// The address.
    pub address: SocketAddr,
    /// The reason.
    pub error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hint = match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there; stop it or choose another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
            _ => "the kernel refused",
        };
        write!(
            f,
            "listener {:?}: cannot bind {}: {} ({hint})",
            self.listener, self.address, self.error
        )
    }
}

impl Bound {
    // Tells the worker of `place` to serve it.
    fn offer(&self, place: usize, crew: &Crew) -> io::Result<()> {
        let Some(socket) = self.sockets.get(place) else { return Ok(()) };
        let (listener, port, token) = (self.listener, self.address.port(), self.token);
        crew.tell(place, Message::Listen { listener, port, socket: socket.try_clone()?, token });
        Ok(())
    }
}

impl Sockets {
    /// Has all workers serve what was bound.
    pub fn serve(&mut self, bound: Bound, crew: &Crew) {
        for place in 0..bound.sockets.len() {
            offer(&bound, place, crew, &mut self.owed);
        }
        self.bound.push(bound);
    }

    /// Has a worker that was just started serve what its predecessor did.
    pub fn offer_all(&mut self, place: usize, crew: &Crew) {
        self.owed.retain(|(to, _)| *to != place);
        for bound in &self.bound {
            offer(bound, place, crew, &mut self.owed);
        }
    }

    /// Tries again what failed; called every now and then.
    pub fn offer_again(&mut self, crew: &Crew) {
        let bound = &self.bound;
        self.owed.retain(|(place, token)| {
            let owed = bound.iter().find(|bound| bound.token == *token);
            owed.is_some_and(|bound| bound.offer(*place, crew).is_err())
        });
    }

    /// Binds what `snapshot` wants and is not bound yet, all or nothing.
    ///
    /// # Errors
    /// Every address that cannot be bound; nothing is bound then.
    pub fn plan(
        &mut self,
        snapshot: &Snapshot,
        steer: &dyn Fn(&str) -> (Steer, u32),
        cpus: &[Option<usize>],
    ) -> Result<Change, Vec<BindError>> {
        let mut change = Change::default();
        let mut errors = Vec::new();
        let mut kept = Vec::new();
        for listener in &snapshot.listeners {
            for asked in &listener.bind {
                let same = |b: &&Bound| {
                    b.listener == listener.id && b.asked == *asked && !kept.contains(&b.token)
                };
                if let Some(bound) = self.bound.iter().find(same) {
                    kept.push(bound.token);
                    continue;
                }
                let (steer, backlog) = steer(&listener.name);
                let moved = self.bound.iter().any(|b| b.asked == *asked && asked.port() != 0);
                match bind_group(*asked, backlog, steer, cpus, moved) {
                    Ok((address, sockets)) => {
                        self.next_token += 1;
                        let token = self.next_token;
                        let listener = listener.id;
                        change.added.push(Bound {
                            listener,
                            asked: *asked,
                            address,
                            sockets,
                            token,
                        });
                    }
                    Err(error) => errors.push(BindError {
                        listener: listener.name.to_string(),
                        address: *asked,
                        error,
                    }),
                }
            }
        }
        let gone = self.bound.iter().filter(|b| !kept.contains(&b.token));
        change.removed = gone.map(|b| b.token).collect();
        if errors.is_empty() { Ok(change) } else { Err(errors) }
    }
}

fn offer(bound: &Bound, place: usize, crew: &Crew, owed: &mut Vec<(usize, u64)>) {
    if let Err(error) = bound.offer(place, crew) {
        tracing::error!(place, %error, "a worker gets no listening socket yet; trying again");
        owed.push((place, bound.token));
    }
}

// `moved`: the address goes from one listener of ours to another; the old sockets share it for a moment.
fn bind_group(
    asked: SocketAddr,
    backlog: u32,
    steer: Steer,
    cpus: &[Option<usize>],
    moved: bool,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    if !moved {
        listen::probe(asked)?;
    }
    let mut address = asked;
    let mut sockets = Vec::new();
    for cpu in cpus {
        let cpu = cpu.filter(|_| steer == Steer::Cpu).and_then(|c| u32::try_from(c).ok());
        let socket = listen::bind(address, backlog, cpu)?;
        if address.port() == 0 {
            address = listen::address_of(&socket)?;
        }
        sockets.push(socket);
    }
    Ok((address, sockets))
}
