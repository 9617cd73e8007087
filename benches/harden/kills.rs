//! Back ends that are killed and started again under load; they write down what they were asked to do.

use crate::clients::ask_on;
use crate::support::{Ringgate, eventually, free_address, program};
use crate::{Options, Row};
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A process that is killed with this.
struct BackEnd {
    address: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl BackEnd {
    fn start(address: SocketAddr, log: PathBuf) -> BackEnd {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/origins/ledger.js");
        let mut command = Command::new(program("node", "nodejs"));
        command.arg(script).arg(address.port().to_string()).arg(&log);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("node starts");
        eventually("the back end listens", || TcpStream::connect(address).is_ok());
        BackEnd { address, log, child }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Default)]
struct Tally {
    stopping: AtomicBool,
    gets: AtomicUsize,
    posts: AtomicUsize,
    failed_gets: Mutex<Vec<String>>,
    failed_posts: AtomicUsize,
}

pub fn measure(options: &Options) -> Vec<Row> {
    let kills = options.of(100, 9);
    let dir = tempfile::tempdir().unwrap();
    let mut back_ends: Vec<BackEnd> = (0..3)
        .map(|n| BackEnd::start(free_address(), dir.path().join(format!("{n}.log"))))
        .collect();
    let listen = free_address();
    let targets: Vec<String> = back_ends.iter().map(|b| format!("\"{}\"", b.address)).collect();
    let ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [{}]\nhealth = {{ type = \"tcp\", interval = \"200ms\", healthy = 1, unhealthy = 1 }}\n",
        targets.join(", ")
    ));
    let tally = Tally::default();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let tally = &tally;
            scope.spawn(move || work(listen, client, "GET", tally));
            if client < 2 {
                scope.spawn(move || work(listen, client, "POST", tally));
            }
        }
        for n in 0..kills {
            let slot = n % 3;
            let answered = || tally.gets.load(Ordering::Relaxed);
            let wait = |what: &str| {
                let before = answered();
                eventually(what, || answered() > before + 150);
            };
            back_ends[slot].kill();
            wait("requests are answered while one is down");
            let (address, log) = (back_ends[slot].address, back_ends[slot].log.clone());
            back_ends[slot] = BackEnd::start(address, log);
            wait("requests are answered after it is back");
        }
        tally.stopping.store(true, Ordering::SeqCst);
    });
    drop(ringgate);
    rows(kills, &tally, &back_ends)
}

fn rows(kills: usize, tally: &Tally, back_ends: &[BackEnd]) -> Vec<Row> {
    let mut times: HashMap<String, usize> = HashMap::new();
    for back_end in back_ends {
        let text = std::fs::read_to_string(&back_end.log).unwrap_or_default();
        for line in text.lines().filter(|l| l.starts_with("POST")) {
            *times.entry(line.to_owned()).or_default() += 1;
        }
    }
    let twice = times.values().filter(|n| **n > 1).count();
    let failed = tally.failed_gets.lock().unwrap();
    for failure in failed.iter().take(5) {
        eprintln!("kills: {failure}");
    }
    let (gets, posts) = (tally.gets.load(Ordering::Relaxed), tally.posts.load(Ordering::Relaxed));
    let lost = tally.failed_posts.load(Ordering::Relaxed);
    vec![
        Row::new(
            "GETs over kills of back ends",
            "100 kills: 0 failed",
            format!("{kills} kills: {} of {gets} failed", failed.len()),
            failed.is_empty() && gets > 0,
        ),
        Row::new(
            "POSTs over kills of back ends",
            "0 executed twice",
            format!(
                "{twice} of {} executed twice; {lost} of {posts} answered with an error",
                times.len()
            ),
            twice == 0 && !times.is_empty(),
        ),
    ]
}

/// One client, which renews its connection every 100 requests and whenever it ends.
fn work(to: SocketAddr, client: usize, method: &str, tally: &Tally) {
    let mut n = 0;
    let mut connection = None;
    while !tally.stopping.load(Ordering::SeqCst) {
        n += 1;
        let path = format!("/{method}-{client}-{n}");
        let body = if method == "POST" { "Content-Length: 5\r\n\r\nabcde" } else { "\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n{body}");
        let answer = ask_on(&mut connection, to, request.as_bytes());
        let right = answer.as_ref().is_ok_and(|a| a.status() == 200 && a.text() == path);
        if n % 100 == 0 || !right {
            connection = None;
        }
        if method == "POST" {
            tally.posts.fetch_add(1, Ordering::Relaxed);
            tally.failed_posts.fetch_add(usize::from(!right), Ordering::Relaxed);
            continue;
        }
        tally.gets.fetch_add(1, Ordering::Relaxed);
        if !right {
            let text =
                answer.map_or_else(|e| e.to_string(), |a| format!("{} {}", a.start, a.reason()));
            tally.failed_gets.lock().unwrap().push(format!("{path}: {text}"));
        }
    }
}
