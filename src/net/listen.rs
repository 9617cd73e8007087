//! Listening sockets: one a worker in a SO_REUSEPORT group, owned by control, served through a duplicate.
//!
//! A worker that dies takes no queued connection with it: control still holds the queue. Options are set on the
//! listening socket and inherited by what it accepts, so that accepting costs one system call a connection.

use crate::net::runtime::Delay;
use crate::net::sys::{Handle, fd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Binds one socket of a group. `cpu` sets SO_INCOMING_CPU.
///
/// # Errors
/// Those of `socket(2)`, `bind(2)` and `listen(2)`.
pub fn bind(address: SocketAddr, backlog: u32, cpu: Option<u32>) -> io::Result<OwnedFd> {
    let socket = socket_for(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(cpu) = cpu {
        sockopt::set_socket_incoming_cpu(&socket, cpu)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Whether another process listens on `address` already. A SO_REUSEPORT bind would silently share its connections,
/// so this is asked first, without that option.
///
/// # Errors
/// `AddrInUse` if so; any other reason why the address cannot be bound.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = socket_for(address)?;
    rustix::net::bind(&socket, &address)?;
    Ok(())
}

fn socket_for(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// A worker's duplicate of a listening socket.
#[derive(Debug)]
pub struct Acceptor {
    io: Handle,
    retired: Arc<AtomicBool>,
    // After a failure for want of something, the queue is left alone for a moment: it stays ready all the while.
    delay: Delay,
    wanting: Cell<bool>,
}

impl Acceptor {
    /// Adopts a non-blocking listening descriptor. Once `retired` is set, by whatever thread, nothing is accepted here
    /// any more: the queue belongs to a successor.
    ///
    /// # Errors
    /// When the driver cannot register it.
    pub fn adopt(descriptor: OwnedFd, retired: Arc<AtomicBool>) -> io::Result<Acceptor> {
        let io = Handle::from_std(UnixStream::from(descriptor))?;
        Ok(Acceptor { io, retired, delay: Delay::new()?, wanting: Cell::new(false) })
    }

    /// Waits until a connection is queued; longer, where the last [`Acceptor::accept`] failed. May be dropped at any time:
    /// nothing is accepted here.
    ///
    /// # Errors
    /// Those of the driver; `BrokenPipe` once retired.
    pub async fn ready(&self) -> io::Result<()> {
        if self.wanting.take() {
            self.delay.wait().await?;
        }
        self.io.readable(false).await?;
        if self.is_retired() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Whether a successor has taken over, and the queue with it.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Stops listening, for every holder of this socket; [`Acceptor::ready`] ends. Empty the queue first: what is in it
    /// is reset.
    pub fn stop(&self) {
        let _ = rustix::net::shutdown(fd(&self.io), rustix::net::Shutdown::Read);
    }

    /// Takes one connection from the queue, non-blocking, with its peer's address; `None` when the queue is empty, or no longer ours.
    ///
    /// # Errors
    /// Those of `accept4(2)` that are not about a single connection: descriptors or memory have run out.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, SocketAddr)>> {
        if self.is_retired() {
            return Ok(None);
        }
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(fd(&self.io), flags) {
                Ok((socket, peer)) => {
                    let peer = peer.and_then(|p| SocketAddr::try_from(p).ok());
                    let peer = peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
                    return Ok(Some((socket, peer)));
                }
                Err(Errno::AGAIN) => return Ok(None),
                // The connection died in the queue, or a signal came: the next one may be there.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::HOSTUNREACH) => {}
                Err(error) => {
                    self.wanting.set(true);
                    return Err(error.into());
                }
            }
        }
    }
}

/// Tells a client that was just accepted to go: as much of `octets` as fits at once, then its descriptor is closed, at once
/// too. The driver would close it a turn later, and a flood of clients would hold a descriptor each until then.
pub fn turn_away(client: OwnedFd, octets: &[u8]) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = rustix::net::send(&client, octets, flags);
}

/// The address that a socket is bound to.
///
/// # Errors
/// Those of `getsockname(2)`.
pub fn address_of(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(address).map_err(|_| io::ErrorKind::Unsupported.into())
}
