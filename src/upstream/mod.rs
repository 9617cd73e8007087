//! Connections out: opening them, within a deadline, and saying what went wrong.
//!
//! Addresses only: names are resolved by control. Pools live with the target (`shard::target`). A connection is handed out once
//! it is ready for a request: behind its PROXY header and its TLS handshake, where the group asks for them.

use crate::base::Tick;
use crate::http::Fault;
use crate::net::Sock;
use crate::net::timer::Slot;
use crate::shard::{Shard, TargetConn, TargetCore};
use crate::tls::{Failure, Reason};
use rustix::io::Errno;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub mod h2;

/// Opens a connection to `target` for a client. `header` is written before all else: the PROXY header, where there is one.
///
/// # Errors
/// [`Fault::ConnectTimeout`], [`Fault::ConnectFailed`], [`Fault::TargetTlsFailed`]; [`Fault::Shed`] for want of a descriptor,
/// [`Fault::TargetFull`] where the target has as many connections as it may.
pub async fn connect(
    shard: &Shard,
    client: &Sock,
    target: &Rc<TargetCore>,
    timeout: Duration,
    header: &[u8],
) -> Result<TargetConn, Fault> {
    let deadline = Tick::now().after(timeout);
    let place = shard.lines.open(target).ok_or(Fault::TargetFull)?;
    let opened = dial(shard, client.slot(), target, deadline, header).await;
    opened.map(|sock| target.opened(sock, place))
}

/// A connection for whoever's slot this is.
///
/// # Errors
/// As [`connect`].
pub async fn dial(
    shard: &Shard,
    slot: Rc<Slot>,
    target: &TargetCore,
    deadline: Tick,
    header: &[u8],
) -> Result<Sock, Fault> {
    let meters = target.live.meters.cell(shard.worker);
    let opened = open(shard, slot, target, deadline, header).await;
    match &opened {
        Ok(_) => meters.connects.add(1),
        Err(_) => meters.connect_errors.add(1),
    }
    opened
}

async fn open(
    shard: &Shard,
    slot: Rc<Slot>,
    target: &TargetCore,
    deadline: Tick,
    header: &[u8],
) -> Result<Sock, Fault> {
    let opened = shard.network.connect(&target.live.address, slot, deadline).await;
    let mut sock = opened.map_err(|error| match Errno::from_io_error(&error) {
        // It is not the target's fault, and another target would not help.
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Fault::Shed,
        _ => not_connected(&error),
    })?;
    if !header.is_empty() {
        // A fresh connection has room for it: nothing is waited for but an error.
        let left = deadline.since(Tick::now());
        sock.write_all(header, left).await.map_err(|error| not_connected(&error))?;
    }
    if let Some(tls) = target.tls() {
        let shaken = sock.connect_tls(&tls.config, tls.name.clone(), &shard.buffers, deadline);
        // It is large, and done once a connection.
        Box::pin(shaken).await.map_err(|failure| unshaken(target, failure))?;
        let chosen = sock.tls().and_then(|facts| facts.alpn.as_deref());
        if let Some((dial, _)) = &target.live.opening.tls
            && !dial.takes(chosen)
        {
            return Err(unshaken(target, Failure::new(Reason::NoSharedProtocol)));
        }
    }
    Ok(sock)
}

fn not_connected(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ => Fault::ConnectFailed,
    }
}

fn unshaken(target: &TargetCore, failure: Failure) -> Fault {
    let fault = match failure.reason {
        Reason::Timeout => Fault::ConnectTimeout,
        _ => Fault::TargetTlsFailed,
    };
    target.note_unshaken(failure);
    fault
}
