//! Slow clients by the thousand: heads that drip, bodies that drip, answers that nobody reads,
//! handshakes that stop.
//!
//! What matters is what they hold (memory), what others feel (the 99th percentile), and when they are gone.

use crate::clients::{latency, median};
use crate::frames::HELLO;
use crate::hostile::origins::Server;
use crate::process::{files, forget_peak, mib, peak, resident};
use crate::support::{Ringgate, connect_with, free_address};
use crate::tls::Certificate;
use crate::{Options, Row};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Attackers from one address: below any sensible limit of connections for each client.
const FROM_ONE_ADDRESS: usize = 200;
/// Requests a second of the others.
const RATE: u32 = 1000;
/// How long a handshake may take. More of them are let in than the default allows: this is about what they hold.
const HANDSHAKE: Duration = Duration::from_secs(15);

/// One kind of slow client.
struct Kind {
    name: &'static str,
    count: usize,
    /// Whether it comes to the listener that speaks TLS.
    tls: bool,
    /// What it sends first.
    first: Vec<u8>,
    /// What it sends every two seconds.
    drip: &'static [u8],
    /// When it should be gone, if there is a deadline that says so.
    deadline: Option<Duration>,
    /// Whether it asks for much and reads nothing.
    deaf: bool,
    goal_mib: Option<f64>,
}

struct Attacker {
    stream: TcpStream,
    opened: Instant,
    gone: Option<Duration>,
}

pub fn measure(options: &Options) -> Vec<Row> {
    let room = files().saturating_sub(1000);
    let many = options.of(10_000, 1000).min(room);
    let kinds = [
        Kind {
            name: "slow heads",
            count: many,
            tls: false,
            first: b"GET /slow HTTP/1.1\r\nHost: a.test\r\n".to_vec(),
            drip: b"X-A: b\r\n",
            deadline: Some(Duration::from_secs(20)),
            deaf: false,
            goal_mib: Some(150.0),
        },
        Kind {
            name: "slow bodies",
            count: options.of(2000, 200),
            tls: false,
            first: b"POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nabc"
                .to_vec(),
            drip: b"x",
            deadline: None,
            deaf: false,
            goal_mib: None,
        },
        Kind {
            name: "slow readers",
            count: options.of(1000, 100),
            tls: false,
            first: b"GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
            drip: b"",
            deadline: Some(Duration::from_secs(20)),
            deaf: true,
            goal_mib: None,
        },
        Kind {
            name: "TLS handshakes that never begin",
            count: many,
            tls: true,
            first: Vec::new(),
            drip: b"",
            deadline: Some(HANDSHAKE),
            deaf: false,
            goal_mib: Some(150.0),
        },
        Kind {
            name: "ClientHellos that drip",
            count: many,
            tls: true,
            first: HELLO[..HELLO.len() / 2].to_vec(),
            drip: &[0],
            deadline: Some(HANDSHAKE),
            deaf: false,
            goal_mib: Some(150.0),
        },
    ];
    kinds.iter().flat_map(|kind| one(options, kind)).collect()
}

fn one(options: &Options, kind: &Kind) -> Vec<Row> {
    // nginx would answer without waiting for the body; Node waits.
    let origin = if kind.first.starts_with(b"POST") { "node" } else { "nginx" };
    let origin = Server::start(origin).expect("nginx and Node are needed");
    let (listen, tls) = (free_address(), free_address());
    let certificate = Certificate::make("a.test");
    let ringgate = Ringgate::start(&format!(
        "[timeouts]\nheader = \"20s\"\nbody = \"20s\"\nhandshake = \"15s\"\n\n[limits]\nhandshakes = 20000\n\n\
         [[listener]]\nname = \"tls\"\nbind = [\"{tls}\"]\ndefault = {{ forward = \"all\" }}\n{}\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
         default = {{ forward = \"all\" }}\n\n[group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        certificate.listener(),
        origin.address
    ));
    let (rounds, secs) = options.of((3, 3), (1, 2));
    let round = || latency(options, listen, RATE, secs);
    round();
    let calm = median((0..rounds).map(|_| round().0).collect());
    forget_peak(&ringgate);
    let before = resident(&ringgate);
    let attackers = open(kind, if kind.tls { tls } else { listen });
    let crowd = Crowd {
        attackers: Mutex::new(attackers),
        drip: kind.drip,
        stopping: AtomicBool::new(false),
    };
    let (mut under, mut failed) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| crowd.work());
        let (quiet, unread) = settle(listen);
        for _ in 0..rounds {
            let (p99, lost) = round();
            under.push(p99);
            failed += lost;
        }
        let memory = mib(peak(&ringgate).saturating_sub(before));
        let felt = Felt { calm, under: median(under), failed, unread };
        crowd.held_until(kind, &ringgate, quiet, memory, felt)
    })
}

/// The attackers and the thread that keeps them slow.
struct Crowd {
    attackers: Mutex<Vec<Attacker>>,
    drip: &'static [u8],
    stopping: AtomicBool,
}

impl Crowd {
    // Each attacker once in two seconds, evenly spread: in waves they would be a flood, not slow.
    fn work(&self) {
        const TURNS: usize = 200;
        let mut turn = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            let began = Instant::now();
            let mut attackers = self.attackers.lock().unwrap();
            for attacker in attackers.iter_mut().skip(turn % TURNS).step_by(TURNS) {
                if attacker.gone.is_none() && !self.drip.is_empty() {
                    let _ = attacker.stream.write_all(self.drip);
                }
            }
            drop(attackers);
            turn += 1;
            std::thread::sleep(Duration::from_millis(10).saturating_sub(began.elapsed()));
        }
    }

    fn held_until(
        &self,
        kind: &Kind,
        ringgate: &Ringgate,
        quiet: Instant,
        memory: f64,
        felt: Felt,
    ) -> Vec<Row> {
        let held = self.look();
        let patience = kind.deadline.unwrap_or(Duration::from_secs(25)) + Duration::from_secs(3);
        // Deaf ones see their end only behind all that the kernel holds for them: metrics say when they are gone.
        let connections = || ringgate.sum("ringgate_worker_connections", &[]) as usize;
        let (mut left, mut gone) = (held, Duration::ZERO);
        while left > 0 && quiet.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(50));
            left = if kind.deaf { connections() } else { self.look() };
            gone = quiet.elapsed();
        }
        self.stopping.store(true, Ordering::SeqCst);
        if !kind.deaf {
            // From when each was opened.
            let all = self.attackers.lock().unwrap();
            gone = all.iter().filter_map(|a| a.gone).max().unwrap_or_default();
        }
        rows(kind, &Outcome { held, memory, felt, left, gone })
    }

    /// Notes who has been closed by now; how many have not.
    fn look(&self) -> usize {
        let mut left = 0;
        for attacker in self.attackers.lock().unwrap().iter_mut().filter(|a| a.gone.is_none()) {
            let ended = match attacker.stream.read(&mut [0; 512]) {
                Ok(0) => true,
                // The refusal; the end comes behind it.
                Ok(_) => false,
                Err(e) => e.kind() != ErrorKind::WouldBlock,
            };
            match ended {
                true => attacker.gone = Some(attacker.opened.elapsed()),
                false => left += 1,
            }
        }
        left
    }
}

struct Outcome {
    held: usize,
    memory: f64,
    felt: Felt,
    left: usize,
    gone: Duration,
}

/// What others felt: the 99th percentile in microseconds without and with the slow ones, and how many requests failed.
struct Felt {
    calm: f64,
    under: f64,
    failed: u64,
    /// Octets that the kernel held for those who do not read.
    unread: u64,
}

/// Waits until nothing moves any more: whoever reads nothing is slow only when all buffers between are full. Since
/// when that is so, and what ringgate's side of the connections then holds in the kernel.
fn settle(listen: SocketAddr) -> (Instant, u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut since, mut last) = (Instant::now(), unsent(listen));
    // The kernel probes closed windows after 0.2, 0.4, 0.8 ... seconds, and then may make more room.
    while since.elapsed() < Duration::from_secs(2) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        let now = unsent(listen);
        if now != last {
            (since, last) = (Instant::now(), now);
        }
    }
    (since, last)
}

/// Octets in the send queues of all connections of a listening address.
fn unsent(listen: SocketAddr) -> u64 {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", listen.port());
    let queue = |line: &str| {
        let mut parts = line.split_whitespace().skip(1);
        let local = parts.next()?.ends_with(&port);
        let queues = parts.nth(2)?.split(':').next()?;
        local.then(|| u64::from_str_radix(queues, 16).ok())?
    };
    text.lines().filter_map(queue).sum()
}

fn rows(kind: &Kind, o: &Outcome) -> Vec<Row> {
    let name = format!("{} {}", o.held, kind.name);
    let each = o.memory * 1024.0 / o.held.max(1) as f64;
    let mut memory = format!("{:.1} MiB more ({each:.1} KiB each)", o.memory);
    if kind.deaf {
        memory += &format!(", and {:.0} MiB unread in the kernel", mib(o.felt.unread));
    }
    let others = format!(
        "p99 {:.0} -> {:.0} us at {RATE}/s, {} failed",
        o.felt.calm, o.felt.under, o.felt.failed
    );
    let gone = match kind.deadline {
        Some(deadline) => format!(
            "deadline {} s: last gone after {:.1} s, {} left",
            deadline.as_secs(),
            o.gone.as_secs_f64(),
            o.left
        ),
        None => {
            format!("{} left after 28 s, last gone after {:.1} s", o.left, o.gone.as_secs_f64())
        }
    };
    let mut rows = Vec::new();
    let held = o.held == kind.count;
    rows.push(match kind.goal_mib {
        Some(most) => {
            Row::new(name.clone(), "10,000 held in <= 150 MiB", memory, held && o.memory <= most)
        }
        None => Row::without_goal(name.clone(), memory),
    });
    // On a calm machine the percentile is a few hundred microseconds: what a scheduler does then is no doubling.
    let doubled = o.felt.under > 2.0 * o.felt.calm.max(250.0);
    rows.push(Row::new(
        format!("others beside {name}"),
        "p99 at most doubles",
        others,
        !doubled && o.felt.failed == 0,
    ));
    rows.push(match kind.deadline {
        Some(deadline) => {
            let soon = o.left == 0 && o.gone <= deadline + Duration::from_secs(1);
            Row::new(format!("end of {name}"), "by the deadline + 1 s", gone, soon)
        }
        None => Row::without_goal(format!("end of {name}"), gone),
    });
    rows
}

fn open(kind: &Kind, to: SocketAddr) -> Vec<Attacker> {
    (0..kind.count)
        .map(|n| {
            let host = n / FROM_ONE_ADDRESS;
            let from = Ipv4Addr::new(127, 3, (host / 250) as u8, (host % 250 + 1) as u8);
            let receive = kind.deaf.then_some(4096);
            let mut stream = connect_with(from, to, receive).expect("ringgate accepts");
            let opened = Instant::now();
            let _ = stream.write_all(&kind.first);
            stream.set_nonblocking(true).unwrap();
            Attacker { stream, opened, gone: None }
        })
        .collect()
}
