//! Back ends that do exactly what a test says, one thread a connection, and remember what they received.

use super::{Message, PATIENCE, Wire};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A listening back end; it and its connections end when it is dropped.
pub struct Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<Message>>,
    open: Mutex<Vec<TcpStream>>,
}

/// One connection as its script sees it.
pub struct Conn {
    pub wire: Wire<TcpStream>,
    /// The number of this connection, from 0.
    pub number: usize,
    shared: Arc<Shared>,
}

type Script = dyn Fn(&mut Conn) -> io::Result<()> + Send + Sync;

impl Origin {
    /// Runs `script` on every connection; the connection is closed when it returns.
    pub fn script(script: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static) -> Origin {
        Origin::script_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    pub fn script_at(
        address: SocketAddr,
        script: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Origin {
        let mut listener = TcpListener::bind(address);
        for _ in 0..200 {
            if listener.is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            listener = TcpListener::bind(address);
        }
        let listener = listener.expect("the origin's address is free");
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (shared, script) = (Arc::clone(&shared), Arc::new(script) as Arc<Script>);
            std::thread::spawn(move || accept(&listener, &shared, &script))
        };
        Origin { address, shared, accepting: Some(accepting) }
    }

    /// Answers every request with 200 and `body`, keeping connections.
    pub fn saying(body: &str) -> Origin {
        Origin::saying_at(SocketAddr::from(([127, 0, 0, 1], 0)), body)
    }

    pub fn saying_at(address: SocketAddr, body: &str) -> Origin {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Origin::answering_at(address, answer.as_bytes())
    }

    /// Answers every request with the same bytes, keeping connections.
    pub fn answering(answer: impl Into<Vec<u8>>) -> Origin {
        Origin::answering_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    fn answering_at(address: SocketAddr, answer: impl Into<Vec<u8>>) -> Origin {
        let answer = answer.into();
        Origin::script_at(address, move |conn| {
            while conn.request()?.is_some() {
                conn.send(&answer)?;
            }
            Ok(())
        })
    }

    /// Answers with the received head, an empty line and the received body.
    pub fn echo() -> Origin {
        Origin::script(|conn| {
            while let Some(request) = conn.request()? {
                let mut body = request.head.clone();
                body.extend_from_slice(&request.body);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                conn.send(
                    [head.as_bytes(), if request.method() == "HEAD" { b"" } else { &body }]
                        .concat(),
                )?;
            }
            Ok(())
        })
    }

    /// Every request that was received whole.
    pub fn requests(&self) -> Vec<Message> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn last(&self) -> Message {
        self.requests().pop().expect("the origin received a request")
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Closes the listening socket and every connection.
    pub fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, script: &Arc<Script>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_read_timeout(Some(PATIENCE * 4)).unwrap();
        stream.set_nodelay(true).unwrap();
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let (shared, script) = (Arc::clone(shared), Arc::clone(script));
        std::thread::spawn(move || {
            let mut conn = Conn { wire: Wire::new(stream), number, shared };
            let _ = script(&mut conn);
            let _ = conn.wire.stream.shutdown(Shutdown::Both);
        });
    }
}

impl Conn {
    /// The next request, which the origin remembers; `None` when the peer has closed.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        let message = self.wire.request()?;
        if let Some(message) = &message {
            self.remember(message);
        }
        Ok(message)
    }

    pub fn remember(&self, message: &Message) {
        self.shared.requests.lock().unwrap().push(message.clone());
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes.as_ref())
    }
}

/// A back end on a Unix socket that says `body` to every request.
pub fn unix_origin(path: &std::path::Path, body: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            std::thread::spawn(move || {
                let mut wire = Wire::<UnixStream>::new(stream);
                let answer =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                while let Ok(Some(_)) = wire.request() {
                    if wire.send(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}
