//! A back end that speaks HTTP/2 frame by frame and does exactly what a test says.
//!
//! It stands on the reader and writer of [`H2`], seen from the other side: no state machine judges what a script sends.

use super::PATIENCE;
use super::h2raw::{Answer, DATA, END_HEADERS, END_STREAM, Event, GOAWAY, H2, PREFACE};
use super::h2raw::{RST_STREAM, SETTINGS, WHOLE, settings_payload};
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Script = dyn Fn(&mut H2Conn) + Send + Sync;

/// A running origin; it ends when this is dropped.
pub struct H2Origin {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<Answer>>,
    open: Mutex<Vec<TcpStream>>,
}

/// One connection, whose preface has been read and whose SETTINGS have been sent.
pub struct H2Conn {
    pub h2: H2,
    /// Counts connections from 0.
    pub number: usize,
    shared: Arc<Shared>,
}

impl H2Origin {
    /// Runs `script` on every connection, which begins with `settings` of the origin.
    pub fn script(
        settings: &[(u16, u32)],
        script: impl Fn(&mut H2Conn) + Send + Sync + 'static,
    ) -> H2Origin {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = {
            let (shared, script) = (Arc::clone(&shared), Arc::new(script) as Arc<Script>);
            let settings = settings.to_vec();
            std::thread::spawn(move || accept(&listener, &shared, &settings, &script))
        };
        H2Origin { address, shared, accepting: Some(accepting) }
    }

    /// Answers every request with 200, the path of the request, and its body.
    pub fn echo(settings: &[(u16, u32)]) -> H2Origin {
        H2Origin::script(settings, |conn| {
            while let Some((stream, request)) = conn.request() {
                let path = request.header(":path").unwrap_or_default().as_bytes().to_vec();
                conn.answer(stream, &[], &[path, request.body].concat());
            }
        })
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Every request that was received whole, by [`H2Conn::request`].
    pub fn requests(&self) -> Vec<Answer> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
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

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    settings: &[(u16, u32)],
    script: &Arc<Script>,
) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.lock().unwrap().push(stream.try_clone().unwrap());
        let (shared, script, settings) =
            (Arc::clone(shared), Arc::clone(script), settings.to_vec());
        std::thread::spawn(move || {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut preface = [0; PREFACE.len()];
            if stream.read_exact(&mut preface).is_err() || preface != PREFACE {
                return;
            }
            let mut h2 = H2::over_tcp(stream);
            h2.patience = PATIENCE * 4;
            h2.frame(SETTINGS, 0, 0, settings_payload(&settings));
            let mut conn = H2Conn { h2, number, shared };
            script(&mut conn);
            conn.h2.close();
        });
    }
}

impl H2Conn {
    /// The next request that is whole, with its stream; `None` when the connection has ended.
    pub fn request(&mut self) -> Option<(u32, Answer)> {
        loop {
            let stream = match self.h2.event() {
                Event::Head { stream, end: true, .. } | Event::Data { stream, end: true, .. } => {
                    stream
                }
                Event::Closed | Event::Silence => return None,
                _ => continue,
            };
            if let Some(outcome) = self.h2.done(stream) {
                let request = outcome.answer();
                self.shared.requests.lock().unwrap().push(request.clone());
                return Some((stream, request));
            }
        }
    }

    /// The next head, whether or not more follows it.
    pub fn head(&mut self) -> Option<(u32, Vec<(String, String)>)> {
        loop {
            match self.h2.event() {
                Event::Head { stream, fields, .. } => return Some((stream, fields)),
                Event::Closed | Event::Silence => return None,
                _ => {}
            }
        }
    }

    /// Sends a response head; `flags` are those beside END_HEADERS.
    pub fn respond(&mut self, stream: u32, flags: u8, status: &str, fields: &[(&str, &str)]) {
        let all = [&[(":status", status)], fields].concat();
        self.h2.head(stream, flags | END_HEADERS, &all);
    }

    /// Answers 200 with these fields and this body.
    pub fn answer(&mut self, stream: u32, fields: &[(&str, &str)], body: &[u8]) {
        self.respond(stream, 0, "200", fields);
        self.data(stream, END_STREAM, body);
    }

    pub fn data(&mut self, stream: u32, flags: u8, octets: &[u8]) {
        let mut pieces = octets.chunks(16 << 10).peekable();
        if pieces.peek().is_none() {
            self.h2.frame(DATA, flags, stream, []);
        }
        while let Some(piece) = pieces.next() {
            let last = pieces.peek().is_none();
            self.h2.frame(DATA, if last { flags } else { 0 }, stream, piece);
        }
    }

    pub fn trailers(&mut self, stream: u32, fields: &[(&str, &str)]) {
        self.h2.head(stream, WHOLE, fields);
    }

    pub fn reset(&mut self, stream: u32, code: u32) {
        self.h2.frame(RST_STREAM, 0, stream, code.to_be_bytes());
    }

    pub fn go_away(&mut self, last: u32, code: u32) {
        self.h2.frame(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat());
    }

    /// Waits until `stream` was reset by the other side; its code.
    pub fn await_reset(&mut self, stream: u32) -> Option<u32> {
        loop {
            match self.h2.event() {
                Event::Reset { stream: reset, code } if reset == stream => return Some(code),
                Event::Closed | Event::Silence => return None,
                _ => {}
            }
        }
    }

    /// Reads until the connection ends; the last GOAWAY's code, if one came.
    pub fn await_end(&mut self) -> Option<u32> {
        while !matches!(self.h2.event(), Event::Closed | Event::Silence) {}
        self.h2.goaway.map(|(_, code)| code)
    }
}
