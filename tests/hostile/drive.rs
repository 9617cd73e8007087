//! Sends inputs, each on a connection of its own followed by a probe, and collects all that comes back.
//!
//! A connection ends with our half of it closed, so that an input that is incomplete is so at once and nobody waits for
//! a deadline; a few stay open and run into the deadlines on purpose.

use super::{Template, token};
use std::collections::HashSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How an input is put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Input and probe in one write, then the end.
    Whole,
    /// The input; when it was answered, or after a while, the probe.
    Paced,
    /// Cut in two, with a pause.
    Split,
    /// As `Whole`, but the connection stays open until the peer ends it.
    Open,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    Reset,
    /// Not within [`LONGEST`].
    Never,
}

/// One input on one lane, and what came of it.
#[derive(Clone, Debug)]
pub struct Case {
    pub number: usize,
    pub lane: usize,
    pub manner: Manner,
    /// Our address: ringgate logs it as the peer.
    pub local: String,
    pub received: Vec<u8>,
    pub end: End,
}

/// Longer than any deadline that ringgate is configured with here.
pub const LONGEST: Duration = Duration::from_secs(10);
const THREADS: usize = 16;

/// Sends `templates`, numbered from `first`, to every lane. Which client address a case has is decided by its number,
/// so that no pair of addresses is used twice within minutes.
pub fn send(templates: &[Template], first: usize, lanes: &[SocketAddr], seed: u64) -> Vec<Case> {
    let next = AtomicUsize::new(0);
    let cases = Mutex::new(Vec::with_capacity(templates.len() * lanes.len()));
    let used = Mutex::new(HashSet::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (index, lane) = (at / lanes.len(), at % lanes.len());
            let Some(template) = templates.get(index) else { return };
            let number = first + index;
            let case = one(template, number, lane, lanes[lane], seed, &used);
            cases.lock().unwrap().push(case);
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    cases.into_inner().unwrap()
}

fn one(
    template: &Template,
    number: usize,
    lane: usize,
    to: SocketAddr,
    seed: u64,
    used: &Mutex<HashSet<String>>,
) -> Case {
    let mut rng = fastrand::Rng::with_seed(seed ^ (number as u64) << 8 ^ lane as u64);
    let manner = match rng.u16(..1000) {
        0..5 => Manner::Open,
        5..200 => Manner::Paced,
        200..400 => Manner::Split,
        _ => Manner::Whole,
    };
    let input = template.with_token(number);
    let stream = loop {
        let stream = connect(number, to);
        if used.lock().unwrap().insert(stream.local_addr().unwrap().to_string()) {
            break stream;
        }
    };
    let local = stream.local_addr().unwrap().to_string();
    let mut case = Case { number, lane, manner, local, received: Vec::new(), end: End::Never };
    // The peer may refuse and close before it has read everything.
    let _ = converse(&stream, &input, &mut rng, &mut case);
    case.end = read_all(&stream, &mut case.received);
    case
}

fn connect(number: usize, to: SocketAddr) -> TcpStream {
    let from = Ipv4Addr::new(127, 1, (number >> 8) as u8, number as u8 | 1);
    let stream = crate::support::connect_from(from, to).expect("ringgate accepts");
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(LONGEST)).unwrap();
    stream
}

fn converse(
    mut stream: &TcpStream,
    input: &[u8],
    rng: &mut fastrand::Rng,
    case: &mut Case,
) -> std::io::Result<()> {
    let close = if case.manner == Manner::Open { "Connection: close\r\n" } else { "" };
    let probe =
        format!("GET /probe-{} HTTP/1.1\r\nHost: a.test\r\n{close}\r\n", token(case.number));
    let probe = probe.as_bytes();
    match case.manner {
        Manner::Whole | Manner::Open => stream.write_all(&[input, probe].concat())?,
        Manner::Paced => {
            stream.write_all(input)?;
            stream.set_read_timeout(Some(Duration::from_millis(10)))?;
            let mut chunk = [0; 16 << 10];
            if let Ok(n) = stream.read(&mut chunk) {
                case.received.extend_from_slice(&chunk[..n]);
            }
            stream.write_all(probe)?;
        }
        Manner::Split => {
            let cut = rng.usize(..=input.len());
            stream.write_all(&input[..cut])?;
            std::thread::sleep(Duration::from_millis(2));
            stream.write_all(&[&input[cut..], probe].concat())?;
        }
    }
    if case.manner != Manner::Open {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

fn read_all(mut stream: &TcpStream, into: &mut Vec<u8>) -> End {
    let deadline = Instant::now() + LONGEST;
    let mut chunk = [0; 16 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return End::Never;
        }
        match stream.read(&mut chunk) {
            Ok(0) => return End::Closed,
            Ok(n) => into.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return End::Never;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return End::Reset,
        }
    }
}
