//! Takes connections from one listening socket and starts a task for each, unless it hands it to another worker (`handover`).
//!
//! Under pressure (no descriptors, no memory) it leaves the queue alone until the next sweep rather than spin; at
//! `max_connections` it takes connections only to say 503 and close them, so that their clients learn at once.

use crate::base::Tick;
use crate::base::meters::Meters;
use crate::http::Fault;
use crate::net::listen::{self, Acceptor};
use crate::net::runtime;
use crate::net::{SWEEP, Sock};
use crate::proxy::Client;
use crate::serve::handover::Peers;
use crate::serve::{h1, relayed};
use crate::shard::{Admitted, Epoch, Passed, Shard};
use crate::snapshot::Listener;
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One listening socket as a worker serves it.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub acceptor: Acceptor,
    /// [`crate::snapshot::Listener::id`]
    pub listener: u32,
    /// The port it is bound to.
    pub port: u16,
    /// Set to stop, by who empties the queue then; the task ends.
    pub closing: Cell<bool>,
    /// Who might serve a connection instead.
    pub peers: Rc<Peers>,
}

fn no_room(fault: Fault) -> &'static [u8] {
    match fault {
        Fault::TooManyFromClient => {
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
            x-ringgate-reason: too_many_connections\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
        _ => {
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
            x-ringgate-reason: overloaded\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
    }
}

// Connections taken before other tasks get their turn.
const BURST: usize = 64;

/// Serves a door until it closes, in a task of its own. A listener must not fall silent (hazard RT-02): neither a panic nor an
/// error of the driver ends it.
pub fn begin_at(door: Rc<Door>, shard: Rc<Shard>) {
    take_up(door, shard, false);
}

fn take_up(door: Rc<Door>, shard: Rc<Shard>, again: bool) {
    let next = (Rc::clone(&door), Rc::clone(&shard));
    let serve = async move {
        if again {
            // What panics at once would keep everybody else from their turn.
            pause(&shard).await;
        }
        serve(&door, &shard).await;
    };
    runtime::spawn(serve, move || {
        let (door, shard) = next;
        shard.pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(worker = shard.worker, "the accept task panicked; starting it again");
        take_up(door, shard, true);
    });
}

async fn serve(door: &Rc<Door>, shard: &Rc<Shard>) {
    while !door.closing.get() {
        let ready = door.acceptor.ready().await;
        // A door that closes has been emptied, and its socket shut down to end the wait here.
        if door.closing.get() || door.acceptor.is_retired() {
            break;
        }
        if let Err(error) = ready {
            tracing::warn!(worker = shard.worker, %error, "cannot wait for connections; trying again");
            pause(shard).await;
        } else if take_queued(door, shard, BURST).is_err() {
            tracing::warn!(worker = shard.worker, "cannot accept: out of descriptors or memory");
            pause(shard).await;
        }
    }
}

/// Takes what is queued, at most `most` connections: to serve them, or to hand them to a worker that is less busy.
///
/// # Errors
/// When the process lacks what a connection needs.
pub fn take_queued(door: &Rc<Door>, shard: &Rc<Shard>, most: usize) -> std::io::Result<()> {
    let epoch = shard.epoch();
    let listener = epoch.snapshot.listener(door.listener);
    // A door that closes may do so since all do: what is queued then is served here.
    let spread = !door.closing.get() && listener.is_some_and(|l| l.hand_over);
    for _ in 0..most {
        let Some((socket, peer)) = door.acceptor.accept()? else {
            return Ok(());
        };
        let passed = Passed { socket, peer, listener: door.listener, port: door.port };
        let kept = if spread { door.peers.give(shard, passed) } else { Err(passed) };
        if let Err(passed) = kept {
            begin(shard, &epoch, passed)?;
        }
    }
    Ok(())
}

/// Serves a connection that another worker has accepted, as if it had been accepted here.
pub fn take_handed(shard: &Rc<Shard>, passed: Passed) {
    if let Err(error) = begin(shard, &shard.epoch(), passed) {
        tracing::warn!(worker = shard.worker, %error, "cannot serve a connection handed over");
    }
}

// Counts a connection in and starts its task, or turns it away.
fn begin(shard: &Rc<Shard>, epoch: &Rc<Epoch>, passed: Passed) -> std::io::Result<()> {
    let Passed { socket, peer, listener, port } = passed;
    let relays = epoch.snapshot.listener(listener).is_some_and(|l| l.protocol.is_relayed());
    let admitted = match shard.admit(peer.ip()) {
        Ok(admitted) => admitted,
        Err(fault) => {
            // Who does not speak HTTP is told nothing.
            listen::turn_away(socket, if relays { b"" } else { no_room(fault) });
            shard.pulse.faults.add(fault);
            return Ok(());
        }
    };
    let sock = match Sock::adopt(socket, &shard.timers) {
        Ok(sock) => sock,
        Err(error) => {
            shard.leave(peer.ip(), admitted);
            return Err(error);
        }
    };
    let client = Client { sock, peer, port, listener, passed: None, tls: None };
    let open = Open { shard: Rc::clone(shard), client: peer.ip(), admitted };
    let pulse = Arc::clone(&shard.pulse);
    let on_panic = move || {
        pulse.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a connection's task panicked; only that connection is lost");
    };
    if relays {
        runtime::spawn(relayed::serve(client, open, Rc::clone(epoch)), on_panic);
    } else {
        runtime::spawn(h1::serve(client, open, Rc::clone(epoch)), on_panic);
    }
    Ok(())
}

/// A client connection that is counted, and counted out when this is dropped.
pub struct Open {
    /// Whose it is.
    pub shard: Rc<Shard>,
    /// Its peer.
    pub client: IpAddr,
    /// How it was counted in.
    pub admitted: Admitted,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shard.leave(self.client, self.admitted);
    }
}

/// A connection in its listener's gauge, until it is dropped.
pub struct Counted {
    meters: Arc<Meters>,
    worker: usize,
}

impl Counted {
    /// Counts one in.
    pub fn new(listener: &Listener, worker: usize) -> Counted {
        let meters = Arc::clone(&listener.meters);
        meters.cell(worker).connects.add(1);
        meters.cell(worker).connections.add(1);
        Counted { meters, worker }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.meters.cell(self.worker).connections.sub(1);
    }
}

// Until the next sweep, with no descriptor of its own: they may be what has run out.
async fn pause(shard: &Shard) {
    let timer = shard.timers.register();
    shard.delays.until(Tick::now().after(SWEEP), timer.slot()).await;
}
