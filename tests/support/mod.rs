//! What integration tests stand on: ringgate as a process, origins and clients over real sockets.
//!
//! Plain threads and blocking sockets with deadlines; nothing here shares code with what it tests.
//! [`Ringgate`] runs the binary on the driver named by `RINGGATE_TEST_DRIVER` (`auto` when unset), [`Origin`] is a
//! back end that does exactly what a test says, [`Client`] sends bytes as they are and reads answers by their framing.

#![allow(dead_code, missing_docs, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

pub mod authority;
pub mod h2origin;
pub mod h2raw;
pub mod hpack;
pub mod load;
pub mod message;
pub mod origin;
pub mod process;
pub mod ringgate;
pub mod stopped;
pub mod tls;
pub mod tls_client;
pub mod tls_origin;

pub use h2origin::H2Origin;
pub use load::Load;
pub use message::{Message, Wire};
pub use origin::Origin;
pub use ringgate::Ringgate;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Polls until `done` holds; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A free loopback address below the ephemeral range, so that no outgoing connection takes it meanwhile. No test that runs at the
/// same time is given it, too, in whatever process: a socket in the abstract namespace says that it is taken until this one ends.
pub fn free_address() -> SocketAddr {
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    loop {
        let port = fastrand::u16(10_000..32_000);
        let name = UnixAddress::from_abstract_name(format!("ringgate-test-{port}")).unwrap();
        let Ok(sign) = UnixListener::bind_addr(&name) else { continue };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            TAKEN.lock().unwrap().push(sign);
            return address;
        }
    }
}

/// One client connection.
pub struct Client {
    pub wire: Wire<TcpStream>,
}

impl Client {
    #[track_caller]
    pub fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { wire: Wire::new(stream) }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        self.wire.send(bytes.as_ref()).expect("the connection takes the request");
        self
    }

    /// The next response, interim ones included; `method` decides whether it has a body.
    #[track_caller]
    pub fn response_to(&mut self, method: &str) -> Message {
        match self.wire.response(method) {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the connection was closed before a response"),
            Err(error) => panic!("no whole response: {error}; so far: {}", self.wire.pending()),
        }
    }

    /// The next response to a GET.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        self.response_to("GET")
    }

    /// Sends `GET path` and reads its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Message {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).response()
    }

    /// Whether the peer closes without sending anything more.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        match self.wire.rest() {
            Ok(rest) => assert!(rest.is_empty(), "unexpected: {}", String::from_utf8_lossy(&rest)),
            // A reset also ends a connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }

    pub fn half_close(&mut self) {
        self.wire.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn get(to: SocketAddr, path: &str) -> Message {
    Client::connect(to).get(path)
}

/// Sends bytes on a connection of its own and reads all that comes back until the peer closes.
#[track_caller]
pub fn send_raw(to: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut client = Client::connect(to);
    // The peer may refuse and close before it has read everything.
    let _ = client.wire.send(bytes.as_ref());
    let mut all = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client.wire.stream, &mut all);
    all
}

/// Connects from an address of this machine, such as any in 127.0.0.0/8: where each client needs its own.
pub fn connect_from(from: std::net::Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    connect_with(from, to, None)
}

/// The same, with a receive buffer of so many octets, which decides how much the peer may send unread.
pub fn connect_with(
    from: std::net::Ipv4Addr,
    to: SocketAddr,
    receive: Option<usize>,
) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    if let Some(octets) = receive {
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, octets)?;
    }
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// The path of an installed program; says how to install it otherwise.
#[track_caller]
pub fn program(name: &str, package: &str) -> std::path::PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is needed by this test: sudo apt-get install {package} (scripts/test does it)"
        )
    })
}
