//! An HTTP/2 client that sends any frame, right or wrong, and tells what came back.
//!
//! Frames are written as octets; what arrives is read by a reader that knows no state machine, so that a test sees what was
//! really sent. It shares no code with what it tests. Over plain TCP with prior knowledge, or over any stream.

use super::PATIENCE;
use super::hpack::{self, Field, literals};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;
/// A whole head and nothing after it.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

pub const NO_ERROR: u32 = 0;
pub const PROTOCOL_ERROR: u32 = 1;
pub const INTERNAL_ERROR: u32 = 2;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// A stream in both directions.
pub trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Head {
        stream: u32,
        fields: Vec<Field>,
        end: bool,
    },
    Data {
        stream: u32,
        octets: Vec<u8>,
        end: bool,
    },
    Reset {
        stream: u32,
        code: u32,
    },
    GoAway {
        last: u32,
        code: u32,
        debug: String,
    },
    Settings(Vec<(u16, u32)>),
    SettingsAck,
    Ping {
        ack: bool,
        octets: Vec<u8>,
    },
    Window {
        stream: u32,
        increment: u32,
    },
    Other {
        kind: u8,
    },
    /// The connection ended.
    Closed,
    /// Nothing came in the time given.
    Silence,
}

/// What became of a stream, or of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answer(Answer),
    Reset(u32),
    GoAway(u32),
    Closed,
    Silence,
}

/// A whole response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
    /// Statuses of interim responses.
    pub interim: Vec<u16>,
}

/// Type, flags, stream and payload of a frame as it came.
type RawFrame = (u8, u8, u32, Vec<u8>);

impl Answer {
    pub fn status(&self) -> u16 {
        status(&self.fields)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn status(fields: &[Field]) -> u16 {
    let status = fields.iter().find(|(name, _)| name == ":status");
    status.and_then(|(_, code)| code.parse().ok()).unwrap_or(0)
}

impl Outcome {
    /// The status of an answer; 0 for anything else.
    pub fn status(&self) -> u16 {
        match self {
            Outcome::Answer(answer) => answer.status(),
            _ => 0,
        }
    }

    #[track_caller]
    pub fn answer(self) -> Answer {
        match self {
            Outcome::Answer(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }
}

/// One connection.
pub struct H2 {
    wire: Box<dyn Duplex>,
    /// The socket below.
    pub tcp: TcpStream,
    buffer: Vec<u8>,
    hpack: hpack::Decoder,
    block: Option<(u32, u8, Vec<u8>)>,
    /// What the server announced.
    pub settings: Vec<(u16, u32)>,
    /// Whether SETTINGS and PING are acknowledged.
    pub polite: bool,
    /// Whether DATA is acknowledged with WINDOW_UPDATE.
    pub refills: bool,
    /// How long to wait for an event.
    pub patience: Duration,
    partial: HashMap<u32, Answer>,
    done: HashMap<u32, Outcome>,
    // What WINDOW_UPDATE has given and `upload` has used, of each stream; of the connection under 0.
    windows: HashMap<u32, i64>,
    /// The last GOAWAY: the last stream that is served, and the code.
    pub goaway: Option<(u32, u32)>,
    /// How many octets of DATA arrived.
    pub received: usize,
}

impl H2 {
    /// Connects; sends nothing.
    #[track_caller]
    pub fn raw(to: SocketAddr) -> H2 {
        let tcp = TcpStream::connect_timeout(&to, PATIENCE).expect("connects");
        H2::over_tcp(tcp)
    }

    pub fn over_tcp(tcp: TcpStream) -> H2 {
        tcp.set_nodelay(true).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let wire = Box::new(tcp.try_clone().unwrap());
        H2::over(tcp, wire)
    }

    /// Over a stream whose socket is `tcp`.
    pub fn over(tcp: TcpStream, wire: Box<dyn Duplex>) -> H2 {
        H2 {
            wire,
            tcp,
            buffer: Vec::new(),
            hpack: hpack::Decoder::default(),
            block: None,
            settings: Vec::new(),
            polite: true,
            refills: true,
            patience: PATIENCE,
            partial: HashMap::new(),
            done: HashMap::new(),
            windows: HashMap::new(),
            goaway: None,
            received: 0,
        }
    }

    /// Connects, sends the preface with empty SETTINGS and waits for the server's.
    #[track_caller]
    pub fn open(to: SocketAddr) -> H2 {
        H2::open_with(to, &[])
    }

    /// The same with settings of the client.
    #[track_caller]
    pub fn open_with(to: SocketAddr, settings: &[(u16, u32)]) -> H2 {
        let mut h2 = H2::raw(to);
        h2.shake_hands(settings);
        h2
    }

    /// Sends the preface and waits for the server's SETTINGS.
    #[track_caller]
    pub fn shake_hands(&mut self, settings: &[(u16, u32)]) {
        self.send(PREFACE);
        self.send(frame(SETTINGS, 0, 0, &settings_payload(settings)));
        loop {
            match self.event() {
                Event::Settings(settings) => {
                    self.settings = settings;
                    return;
                }
                Event::Closed | Event::Silence => panic!("the server sent no SETTINGS"),
                _ => {}
            }
        }
    }

    /// Sends octets; a connection that has ended is noticed by who reads.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.try_send(octets);
    }

    pub fn try_send(&mut self, octets: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.write_all(octets.as_ref())?;
        self.wire.flush()
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) {
        self.send(frame(kind, flags, stream, payload.as_ref()));
    }

    /// A head of literals.
    pub fn head<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        stream: u32,
        flags: u8,
        fields: &[(N, V)],
    ) {
        self.send(frame(HEADERS, flags, stream, &literals(fields)));
    }

    /// DATA in frames of at most `most` octets, as the windows of the server allow (RFC 9113, section 5.2), and no further when
    /// the stream or the connection has ended.
    pub fn upload(&mut self, stream: u32, body: impl AsRef<[u8]>, most: usize) {
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let initial = self.settings.iter().find(|(id, _)| *id == 4);
        let initial = initial.map_or(65_535, |(_, size)| i64::from(*size));
        for part in body.as_ref().chunks(most) {
            let len = part.len() as i64;
            let window = |h2: &H2, of, first| first + h2.windows.get(&of).copied().unwrap_or(0);
            while window(self, 0, 65_535) < len || window(self, stream, initial) < len {
                let ended = matches!(self.event(), Event::Closed | Event::Silence);
                if ended || self.done.contains_key(&stream) {
                    return;
                }
            }
            for of in [0, stream] {
                *self.windows.entry(of).or_default() -= len;
            }
            self.frame(DATA, 0, stream, part);
        }
    }

    /// A GET with END_STREAM.
    pub fn get(&mut self, stream: u32, path: &str) {
        self.head(stream, WHOLE, &request("GET", path));
    }

    /// The answer to a GET.
    #[track_caller]
    pub fn fetch(&mut self, stream: u32, path: &str) -> Answer {
        self.get(stream, path);
        self.outcome(stream).answer()
    }

    /// What becomes of `stream`.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            if let Some(outcome) = self.done.remove(&stream) {
                return outcome;
            }
            match self.event() {
                Event::GoAway { code, .. } if code != NO_ERROR => return Outcome::GoAway(code),
                Event::Closed => return Outcome::Closed,
                Event::Silence => return Outcome::Silence,
                _ => {}
            }
        }
    }

    /// How the connection ends: GOAWAY with an error, or closed; streams that end meanwhile are looked over.
    pub fn ending(&mut self) -> Outcome {
        loop {
            match self.event() {
                Event::GoAway { code, .. } if code != NO_ERROR => return Outcome::GoAway(code),
                Event::Closed => return Outcome::Closed,
                Event::Silence => return Outcome::Silence,
                _ => {}
            }
        }
    }

    /// Waits for the acknowledgement of a PING: all that was sent before has been looked at then. False if the connection
    /// ended instead.
    pub fn settled(&mut self) -> bool {
        let token = b"settled?";
        self.frame(PING, 0, 0, token);
        loop {
            match self.event() {
                Event::Ping { ack: true, octets } if octets == token => return true,
                Event::GoAway { code, .. } if code != NO_ERROR => return false,
                Event::Closed | Event::Silence => return false,
                _ => {}
            }
        }
    }

    /// What has become of `stream`, if anything.
    pub fn done(&mut self, stream: u32) -> Option<Outcome> {
        self.done.remove(&stream)
    }

    /// The next event, acknowledged where that is asked for.
    pub fn event(&mut self) -> Event {
        let deadline = Instant::now() + self.patience;
        loop {
            let (kind, flags, stream, payload) = match self.next_frame(deadline) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Event::Closed,
                Err(error) if is_silence(&error) => return Event::Silence,
                Err(_) => return Event::Closed,
            };
            if let Some(event) = self.understand(kind, flags, stream, payload) {
                self.keep(&event);
                return event;
            }
        }
    }

    fn understand(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Option<Event> {
        let number = |at: usize| {
            payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()))
        };
        Some(match kind {
            HEADERS => {
                self.block = Some((stream, flags, payload));
                return if flags & END_HEADERS != 0 { self.whole_head() } else { None };
            }
            CONTINUATION => {
                let (_, _, block) = self.block.as_mut().expect("CONTINUATION after HEADERS");
                block.extend(payload);
                return if flags & END_HEADERS != 0 { self.whole_head() } else { None };
            }
            DATA => {
                self.received += payload.len();
                if self.refills && !payload.is_empty() {
                    let increment = (payload.len() as u32).to_be_bytes();
                    let mut both = frame(WINDOW_UPDATE, 0, 0, &increment);
                    if flags & END_STREAM == 0 {
                        both.extend(frame(WINDOW_UPDATE, 0, stream, &increment));
                    }
                    self.send(both);
                }
                Event::Data { stream, octets: payload, end: flags & END_STREAM != 0 }
            }
            RST_STREAM => Event::Reset { stream, code: number(0) },
            GOAWAY => {
                let debug = payload.get(8..).unwrap_or_default();
                let debug = String::from_utf8_lossy(debug).into_owned();
                Event::GoAway { last: number(0) & 0x7fff_ffff, code: number(4), debug }
            }
            SETTINGS if flags & ACK != 0 => Event::SettingsAck,
            SETTINGS => {
                if self.polite {
                    self.frame(SETTINGS, ACK, 0, []);
                }
                let entry = |e: &[u8]| {
                    let id = u16::from_be_bytes([e[0], e[1]]);
                    (id, u32::from_be_bytes([e[2], e[3], e[4], e[5]]))
                };
                Event::Settings(payload.chunks_exact(6).map(entry).collect())
            }
            PING => {
                if self.polite && flags & ACK == 0 {
                    self.frame(PING, ACK, 0, &payload);
                }
                Event::Ping { ack: flags & ACK != 0, octets: payload }
            }
            WINDOW_UPDATE => Event::Window { stream, increment: number(0) },
            kind => Event::Other { kind },
        })
    }

    fn whole_head(&mut self) -> Option<Event> {
        let (stream, flags, block) = self.block.take()?;
        let fields = self.hpack.decode(&block).expect("a well-formed header block");
        Some(Event::Head { stream, fields, end: flags & END_STREAM != 0 })
    }

    // Puts answers together.
    fn keep(&mut self, event: &Event) {
        let (stream, end) = match event {
            Event::Head { stream, fields, end } => {
                let code = status(fields);
                let partial = self.partial.entry(*stream).or_default();
                match code {
                    100..=199 => partial.interim.push(code),
                    _ if partial.fields.is_empty() => partial.fields.clone_from(fields),
                    _ => partial.trailers.clone_from(fields),
                }
                (*stream, *end)
            }
            Event::Data { stream, octets, end } => {
                self.partial.entry(*stream).or_default().body.extend(octets);
                (*stream, *end)
            }
            Event::Reset { stream, code } => {
                // A reset after the whole answer takes nothing back.
                self.done.entry(*stream).or_insert(Outcome::Reset(*code));
                return;
            }
            Event::GoAway { last, code, .. } => {
                self.goaway = Some((*last, *code));
                return;
            }
            Event::Window { stream, increment } => {
                *self.windows.entry(*stream).or_default() += i64::from(*increment);
                return;
            }
            _ => return,
        };
        if end {
            let answer = self.partial.remove(&stream).unwrap_or_default();
            self.done.insert(stream, Outcome::Answer(answer));
        }
    }

    fn next_frame(&mut self, deadline: Instant) -> io::Result<Option<RawFrame>> {
        loop {
            if let Some([a, b, c, kind, flags, rest @ ..]) = self.buffer.first_chunk::<9>() {
                let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if self.buffer.len() >= 9 + len {
                    let (kind, flags) = (*kind, *flags);
                    let stream = u32::from_be_bytes(*rest) & 0x7fff_ffff;
                    let payload = self.buffer.drain(..9 + len).skip(9).collect();
                    return Ok(Some((kind, flags, stream, payload)));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.tcp.set_read_timeout(Some(left))?;
            let mut chunk = [0; 64 << 10];
            let n = self.wire.read(&mut chunk)?;
            if n == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&chunk[..n]);
        }
    }

    pub fn close(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A frame as octets.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut out = vec![a, b, c, kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// Entries of SETTINGS.
pub fn settings_payload(settings: &[(u16, u32)]) -> Vec<u8> {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    settings.iter().flat_map(entry).collect()
}

/// The pseudo-header fields of a request for `a.test`.
pub fn request<'r>(method: &'r str, path: &'r str) -> Vec<(&'r str, &'r str)> {
    vec![(":method", method), (":scheme", "http"), (":path", path), (":authority", "a.test")]
}

/// The same with further fields.
pub fn request_with<'r>(
    method: &'r str,
    path: &'r str,
    fields: &[(&'r str, &'r str)],
) -> Vec<(&'r str, &'r str)> {
    [request(method, path), fields.to_vec()].concat()
}
