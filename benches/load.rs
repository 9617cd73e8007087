//! An open-loop generator: requests at a fixed rate, whatever the answers do, and the latency from when each was due.
//!
//! wrk sends the next request when the last was answered, and so measures a slow server gently. Here a request
//! that has to wait for a connection has its waiting counted. One thread, keep-alive connections, one target, plain
//! GETs; prints one line of JSON. `scripts/bench --latency` starts it:
//!
//! `load --to 127.0.0.1:9100 --rate 20000 --connections 64 --secs 5`
#![allow(missing_docs)]
#![expect(
    clippy::disallowed_methods,
    reason = "no part of the data path: it may block and read the clock"
)]

use rustix::event::{Timespec, epoll};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n";
/// Latencies are counted in microseconds up to this; what is above counts as this.
const LONGEST_US: usize = 2_000_000;

struct Connection {
    stream: TcpStream,
    due: Instant,
    received: Vec<u8>,
}

struct Tally {
    by_us: Vec<u32>,
    done: u64,
    failed: u64,
}

fn main() -> io::Result<()> {
    let Some((to, rate, connections, time)) = arguments() else {
        println!(
            "load: the generator of scripts/bench --latency; to run it: --to ADDRESS --rate N --connections N --secs N"
        );
        return Ok(());
    };
    // The kernel may otherwise wake a sleeper 50 microseconds late.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let tally = generate(to, rate, connections, time)?;
    let at = |share: f64| tally.quantile(share);
    println!(
        "{{\"done\":{},\"failed\":{},\"achieved\":{:.0},\"p50\":{},\"p90\":{},\"p99\":{},\"p999\":{},\"max\":{}}}",
        tally.done,
        tally.failed,
        tally.done as f64 / time.as_secs_f64(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
}

fn arguments() -> Option<(SocketAddr, u64, usize, Duration)> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|a| *a != name).nth(1);
    Some((
        value("--to")?.parse().ok()?,
        value("--rate")?.parse().ok().filter(|rate| *rate > 0)?,
        value("--connections")?.parse().ok()?,
        Duration::from_secs(value("--secs")?.parse().ok()?),
    ))
}

fn generate(to: SocketAddr, rate: u64, connections: usize, time: Duration) -> io::Result<Tally> {
    let ring = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut all = Vec::with_capacity(connections);
    for n in 0..connections {
        let stream = TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&ring, &stream, epoll::EventData::new_u64(n as u64), flags)?;
        all.push(Connection { stream, due: Instant::now(), received: Vec::with_capacity(4096) });
    }
    let mut idle: VecDeque<usize> = (0..connections).collect();
    let mut tally = Tally { by_us: vec![0; LONGEST_US + 1], done: 0, failed: 0 };
    let (start, total) = (Instant::now(), rate * time.as_secs());
    let due_at = |n: u64| start + Duration::from_nanos(n * 1_000_000_000 / rate);
    let (mut sent, mut events) = (0, Vec::with_capacity(connections));
    loop {
        let now = Instant::now();
        while sent < total && due_at(sent) <= now {
            let Some(n) = idle.pop_front() else { break };
            all[n].due = due_at(sent);
            all[n].stream.write_all(REQUEST)?;
            sent += 1;
        }
        if (sent == total && idle.len() == connections)
            || now > due_at(total) + Duration::from_secs(2)
        {
            break;
        }
        let wait = if sent < total && !idle.is_empty() {
            due_at(sent).saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(100)
        };
        let wait =
            Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        events.clear();
        epoll::wait(&ring, rustix::buffer::spare_capacity(&mut events), Some(&wait))?;
        for event in &events {
            let n = event.data.u64() as usize;
            if let Some(ok) = answered(&mut all[n])? {
                tally.count(all[n].due, ok);
                idle.push_back(n);
            }
        }
    }
    // What was due and has no answer by now failed.
    tally.failed += total - tally.done.min(total);
    Ok(tally)
}

/// Reads what is there; says whether the answer is whole, and good.
fn answered(connection: &mut Connection) -> io::Result<Option<bool>> {
    let mut chunk = [0; 4096];
    loop {
        match connection.stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => connection.received.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    let received = &connection.received;
    let Some(head) = memchr::memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1).and_then(|v| v.split("\r\n").next());
    let length: usize = length.and_then(|v| v.trim().parse().ok()).unwrap_or(0);
    if received.len() < head + 4 + length {
        return Ok(None);
    }
    let good = text.starts_with("http/1.1 200");
    connection.received.clear();
    Ok(Some(good))
}

impl Tally {
    fn count(&mut self, due: Instant, good: bool) {
        let us = usize::try_from(due.elapsed().as_micros()).unwrap_or(LONGEST_US);
        self.by_us[us.min(LONGEST_US)] += 1;
        if good {
            self.done += 1;
        }
    }

    /// The latency in microseconds that this share of the answers did not exceed.
    fn quantile(&self, share: f64) -> usize {
        let all: u64 = self.by_us.iter().map(|n| u64::from(*n)).sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (us, n) in self.by_us.iter().enumerate() {
            seen += u64::from(*n);
            if seen >= wanted {
                return us;
            }
        }
        LONGEST_US
    }
}
