//! Connections out: opening them, within a deadline, and saying what went wrong.
//!
//! Addresses only: names are resolved by control. Pools live with the target (`shard::target`).

use crate::base::Tick;
use crate::http::Fault;
use crate::net::Sock;
use crate::shard::{Shard, TargetConn, TargetCore};
use rustix::io::Errno;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// Opens a connection to `target` for a client. `header` is written before all else: the PROXY header, where there is one.
///
/// # Errors
/// [`Fault::ConnectTimeout`], [`Fault::ConnectFailed`].
pub async fn connect(
    shard: &Shard,
    client: &Sock,
    target: &Rc<TargetCore>,
    timeout: Duration,
    header: &[u8],
) -> Result<TargetConn, Fault> {
    let deadline = Tick::now().after(timeout);
    let meters = target.live.meters.cell(shard.worker);
    let opened = shard.network.connect(&target.live.address, client.slot(), deadline).await;
    let opened = match opened {
        // A fresh connection has room for it: nothing is waited for but an error.
        Ok(sock) if !header.is_empty() => sock.write_all(header, timeout).await.map(|()| sock),
        opened => opened,
    };
    match opened {
        Ok(sock) => {
            meters.connects.add(1);
            Ok(target.opened(sock))
        }
        Err(error) => {
            meters.connect_errors.add(1);
            Err(match Errno::from_io_error(&error) {
                // It is not the target's fault, and another target would not help.
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Fault::Shed,
                _ if error.kind() == io::ErrorKind::TimedOut => Fault::ConnectTimeout,
                _ => Fault::ConnectFailed,
            })
        }
    }
}
