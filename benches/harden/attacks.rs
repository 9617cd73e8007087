//! Attacks on CPU time, one function each: they run for a while and say what they sent.

use crate::support::connect_from;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Where attacks go.
pub struct Site {
    /// Forwards to a plain origin.
    pub web: SocketAddr,
    /// Forwards to a target that sends a hundred interim responses for each request.
    pub flood: SocketAddr,
    /// Octets of one answer of that target.
    pub flood_octets: u64,
    /// Forwards to a plain origin, over TLS.
    pub tls: SocketAddr,
    pub time: Duration,
}

/// What an attacker has spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Octets above TCP.
    pub payload: u64,
    /// Octets with what each segment and each connection costs a sender on Ethernet.
    pub wire: u64,
    pub connections: u64,
    /// From one connection to the next: zero is as fast as it goes.
    pub gap: Duration,
}

/// Ethernet, IP and TCP with timestamps.
const SEGMENT: u64 = 66;
const SEGMENT_PAYLOAD: u64 = 1448;
/// What a client sends to open and close a connection: SYN, three ACKs, FIN.
const CONNECTION: u64 = 5 * SEGMENT;

impl Sent {
    pub fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)?;
        self.count(bytes.len() as u64);
        Ok(())
    }

    pub fn count(&mut self, octets: u64) {
        self.payload += octets;
        self.wire += octets + SEGMENT * octets.div_ceil(SEGMENT_PAYLOAD);
    }

    pub fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        std::thread::sleep(self.gap);
        let from = Ipv4Addr::new(127, 4, fastrand::u8(..), fastrand::u8(1..255));
        let stream = connect_from(from, to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        self.wire += CONNECTION;
        self.connections += 1;
        Ok(stream)
    }
}

/// An attack: it runs for the site's time.
pub type Attack = fn(&Site, &mut Sent) -> io::Result<()>;

pub const ATTACKS: &[(&str, Attack)] = &[
    ("head, byte by byte", |site, sent| drip(site, sent, &normal(), 0)),
    ("body, byte by byte", |site, sent| drip(site, sent, &post(&"x".repeat(300)), post("").len())),
    ("chunks, byte by byte", |site, sent| {
        drip(site, sent, &chunked(&"1\r\na\r\n".repeat(50)), chunked("").len() - 5)
    }),
    ("tiny chunks", |site, sent| repeat(site, sent, &chunked(&"1\r\na\r\n".repeat(9000)))),
    ("tiny chunks, long extensions", |site, sent| {
        repeat(site, sent, &chunked(&format!("1;{}\r\na\r\n", "e".repeat(200)).repeat(20)))
    }),
    ("heads of 60 KiB", |site, sent| {
        repeat(site, sent, &with(&format!("X-A: {}\r\n", "y".repeat(15_000)).repeat(4)))
    }),
    ("126 tiny fields", |site, sent| repeat(site, sent, &with(&"a:\r\n".repeat(125)))),
    ("32 nominations, 90 fields", |site, sent| repeat(site, sent, &with(&nominations()))),
    ("cookies of 15 KiB", |site, sent| {
        repeat(site, sent, &with(&format!("Cookie: {}\r\n", "a=b; ".repeat(3000))))
    }),
    ("X-Forwarded-For of 15 KiB", |site, sent| {
        repeat(site, sent, &with(&format!("X-Forwarded-For: {}1\r\n", "1.2.3.4, ".repeat(1600))))
    }),
    ("escaped paths", |site, sent| repeat(site, sent, &get(&"/%41%42".repeat(2000)))),
    ("dot segments", |site, sent| repeat(site, sent, &get(&"/a/..".repeat(3000)))),
    ("pipelined GETs, forwarded", |site, sent| {
        pipeline(site, sent, "GET / HTTP/1.1\r\nHost:a\r\n\r\n")
    }),
    ("pipelined GETs, answered here", |site, sent| {
        pipeline(site, sent, "GET /local HTTP/1.1\r\nHost:a\r\n\r\n")
    }),
    ("1 MB of empty lines", |site, sent| refuse(site, sent, &"\r\n".repeat(1 << 19))),
    ("1,000 fields", |site, sent| refuse(site, sent, &with(&"X-A: b\r\n".repeat(1000)))),
    ("a field without end", |site, sent| {
        refuse(site, sent, &with(&format!("X-A: {}\r\n", "y".repeat(1 << 20))))
    }),
    ("trailers without end", |site, sent| {
        let start = chunked("");
        refuse(site, sent, &format!("{}\r\n{}", start.trim_end(), "X-A: b\r\n".repeat(20_000)))
    }),
    ("bad requests, a connection each", |site, sent| refuse(site, sent, "GET\r\n\r\n")),
    ("connections without a word", |site, sent| refuse(site, sent, "")),
    ("half a head, then the end", |site, sent| refuse(site, sent, "GET / HTTP/1.1\r\nHost: a.te")),
    ("requests that are abandoned", abandoned),
    ("1xx floods from a target", flood),
];

/// What a browser sends.
pub fn normal() -> String {
    "GET /index.html?a=b HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 \
     Firefox/128.0\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
     Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n\r\n"
        .to_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

fn post(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n")
}

fn nominations() -> String {
    let names: Vec<String> = (0..32).map(|n| format!("x-{n}")).collect();
    let fields: String = (0..90).map(|n| format!("y-{n}: z\r\n")).collect();
    format!("Connection: {}\r\n{fields}", names.join(","))
}

/// A request on a kept connection, again and again.
pub fn repeat(site: &Site, sent: &mut Sent, request: &str) -> io::Result<()> {
    let began = Instant::now();
    let mut stream = sent.connect(site.web)?;
    while began.elapsed() < site.time {
        sent.write(&mut stream, request.as_bytes())?;
        if !answer(&mut stream)? {
            stream = sent.connect(site.web)?;
        }
    }
    Ok(())
}

/// The same, but from the octet `from` on each octet is a segment of its own.
fn drip(site: &Site, sent: &mut Sent, request: &str, from: usize) -> io::Result<()> {
    let began = Instant::now();
    let mut stream = sent.connect(site.web)?;
    let (start, rest) = request.as_bytes().split_at(from);
    while began.elapsed() < site.time {
        if !start.is_empty() {
            sent.write(&mut stream, start)?;
        }
        for octet in rest {
            sent.write(&mut stream, std::slice::from_ref(octet))?;
            // Time for the other side to wake up for this one alone.
            std::thread::sleep(Duration::from_micros(20));
        }
        if !answer(&mut stream)? {
            stream = sent.connect(site.web)?;
        }
    }
    Ok(())
}

/// Reads one answer with a length; whether the connection stays.
fn answer(stream: &mut TcpStream) -> io::Result<bool> {
    let mut received = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        let n = stream.read(&mut chunk)?;
        received.extend_from_slice(&chunk[..n]);
        if let Some(end) = memchr::memmem::find(&received, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|v| v.lines().next());
            let length: usize = length.and_then(|v| v.trim().parse().ok()).unwrap_or(0);
            if received.len() >= end + 4 + length {
                return Ok(n > 0 && !head.contains("connection: close"));
            }
        }
        if n == 0 {
            return Ok(false);
        }
    }
}

/// A hundred thousand requests at once, whose answers are read as they come.
fn pipeline(site: &Site, sent: &mut Sent, request: &str) -> io::Result<()> {
    let began = Instant::now();
    let thousand = request.repeat(1000);
    let mut stream = sent.connect(site.web)?;
    let mut reading = stream.try_clone()?;
    let reader = std::thread::spawn(move || io::copy(&mut reading, &mut io::sink()));
    for _ in 0..100 {
        if began.elapsed() > site.time {
            break;
        }
        sent.write(&mut stream, thousand.as_bytes())?;
    }
    stream.shutdown(Shutdown::Write)?;
    let _ = reader.join();
    Ok(())
}

fn refuse(site: &Site, sent: &mut Sent, bytes: &str) -> io::Result<()> {
    refused(site.web, site.time, sent, bytes.as_bytes())
}

/// Something that ends its connection, again and again.
pub fn refused(to: SocketAddr, time: Duration, sent: &mut Sent, bytes: &[u8]) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        let mut stream = sent.connect(to)?;
        let mut left = bytes;
        // Only what was taken counts: a write fails when the other side has had enough.
        while let Some(piece) = left.get(..left.len().min(16 << 10)).filter(|p| !p.is_empty()) {
            if sent.write(&mut stream, piece).is_err() {
                break;
            }
            left = &left[piece.len()..];
        }
        let _ = stream.shutdown(Shutdown::Write);
        let _ = io::copy(&mut stream, &mut io::sink());
    }
    Ok(())
}

fn abandoned(site: &Site, sent: &mut Sent) -> io::Result<()> {
    let began = Instant::now();
    while began.elapsed() < site.time {
        let mut stream = sent.connect(site.web)?;
        sent.write(&mut stream, get("/").as_bytes())?;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(())
}

fn flood(site: &Site, sent: &mut Sent) -> io::Result<()> {
    let began = Instant::now();
    let request = get("/");
    let mut stream = sent.connect(site.flood)?;
    while began.elapsed() < site.time {
        sent.write(&mut stream, request.as_bytes())?;
        // What counts is what the target sends, and it may send it in one piece.
        sent.count(site.flood_octets);
        let mut received = Vec::new();
        let mut chunk = [0; 16 << 10];
        while memchr::memmem::find(&received, b"\r\n\r\ndone").is_none() {
            let n = stream.read(&mut chunk)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            received.extend_from_slice(&chunk[..n]);
        }
    }
    Ok(())
}
