//! A worker's thread is stopped from outside while clients are served: when it is noticed, when all are served again.
#![allow(unsafe_code)]

use crate::clients::ask_on;
use crate::process::threads;
use crate::support::ringgate::forwarding;
use crate::support::{Origin, Ringgate, Wire, connect_from, free_address};
use crate::{Options, Row};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
/// An answer that takes longer was not served.
const SERVED: Duration = Duration::from_millis(500);

/// A thread stopped by ptrace; it runs on when this is dropped. All calls come from one thread, as ptrace wants it.
struct Stopped(i32);

impl Stopped {
    fn stop(thread: i32) -> io::Result<Stopped> {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests read and write no memory of ours.
        let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread, null, null) };
        if seized != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        if unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, thread, null, null) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut status = 0;
        // SAFETY: `status` lives until the call returns.
        let waited = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        if waited == thread { Ok(Stopped(thread)) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: the request touches no memory of ours.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, null, null) };
    }
}

/// One new connection: when it was opened and how long its answer took.
type Attempt = (Duration, Option<Duration>);

#[derive(Default)]
struct Observed {
    attempts: Mutex<Vec<Attempt>>,
    others: AtomicUsize,
    other_errors: Mutex<Vec<String>>,
    over: AtomicBool,
}

pub fn measure(options: &Options) -> Vec<Row> {
    let watched = Duration::from_secs(options.of(8, 6));
    let origin = Origin::saying("ok");
    let listen = free_address();
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.json");
    let config = forwarding(listen, &[origin.address], "");
    let config = format!("[log]\naccess = \"{}\"\nformat = \"json\"\n\n{config}", log.display());
    let ringgate = Ringgate::start_in(dir, &config);
    let others = connections_of(&log, listen, 1);
    let Some((thread, _)) = threads(&ringgate, "worker-0").first().cloned() else {
        return vec![Row::new("a stuck worker", "seen <= 1 s", "no thread called worker-0", false)];
    };
    let observed = Observed::default();
    let stopped = match Stopped::stop(thread) {
        Ok(stopped) => stopped,
        Err(e) => {
            return vec![Row::without_goal(
                "a stuck worker",
                format!("not measured: ptrace: {e} (it may need root)"),
            )];
        }
    };
    let began = Instant::now();
    let mut noticed = None;
    std::thread::scope(|scope| {
        scope.spawn(|| serve_on(others, listen, &observed));
        let mut next = Instant::now();
        while began.elapsed() < watched {
            if noticed.is_none() && is_noticed(&ringgate) {
                noticed = Some(began.elapsed());
            }
            if Instant::now() >= next {
                next += Duration::from_millis(25);
                scope.spawn(|| new_connection(listen, began, &observed));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        observed.over.store(true, Ordering::SeqCst);
    });
    drop(stopped);
    rows(noticed, &observed, watched)
}

/// The watchdog's line or gauge. The admin listener belongs to the control thread, so it answers.
fn is_noticed(ringgate: &Ringgate) -> bool {
    ringgate.output().contains("a worker is stuck")
        || ringgate.sum("ringgate_workers_stuck", &[]) > 0.0
}

fn rows(noticed: Option<Duration>, observed: &Observed, watched: Duration) -> Vec<Row> {
    let attempts = observed.attempts.lock().unwrap();
    let bad = |a: &&Attempt| a.1.is_none_or(|took| took > SERVED);
    let late = attempts.iter().filter(bad).count();
    // All connections that were opened later than the last bad one were served.
    let again = attempts.iter().filter(bad).map(|(at, _)| *at).max().unwrap_or_default();
    let lost = attempts.iter().filter(|a| a.1.is_none()).count();
    let seen =
        noticed.map_or("not noticed".to_owned(), |at| format!("after {:.2} s", at.as_secs_f64()));
    let last_second = watched - Duration::from_secs(1);
    let served = if again > last_second {
        "not within the watch".to_owned()
    } else {
        format!("after {:.2} s", again.as_secs_f64())
    };
    let served =
        format!("{served}; {late} of {} new connections waited, {lost} unanswered", attempts.len());
    let errors = observed.other_errors.lock().unwrap();
    for error in errors.iter().take(5) {
        eprintln!("stuck: {error}");
    }
    let others = observed.others.load(Ordering::Relaxed);
    vec![
        Row::new(
            "a stuck worker is noticed",
            "<= 1 s",
            seen,
            noticed.is_some_and(|at| at <= Duration::from_secs(1)),
        ),
        Row::new(
            "new connections are served again",
            "<= 4 s",
            served,
            again <= Duration::from_secs(4) && !attempts.is_empty(),
        ),
        Row::new(
            "the other worker's connections",
            "0 errors",
            format!("{} errors in {others} requests", errors.len()),
            errors.is_empty() && others > 0,
        ),
    ]
}

/// Keep-alive connections that are on `worker`: the access log says which worker answered whom.
fn connections_of(log: &std::path::Path, to: SocketAddr, worker: u64) -> Vec<Wire<TcpStream>> {
    let mut all = Vec::new();
    for n in 0..40 {
        let stream = connect_from(Ipv4Addr::new(127, 5, 0, n + 1), to).expect("ringgate accepts");
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let local = stream.local_addr().unwrap().to_string();
        let mut kept = Some(Wire::new(stream));
        ask_on(&mut kept, to, REQUEST).expect("an answer");
        all.extend(kept.map(|wire| (local, wire)));
    }
    let mut of = Vec::new();
    crate::support::eventually("all are logged", || {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        of = lines
            .filter_map(|l| Some((l["peer"].as_str()?.to_owned(), l["worker"].as_u64()?)))
            .collect();
        of.len() >= all.len()
    });
    let on = |local: &str| of.iter().any(|(peer, w)| peer == local && *w == worker);
    all.into_iter().filter(|(local, _)| on(local)).map(|(_, wire)| wire).collect()
}

fn serve_on(wires: Vec<Wire<TcpStream>>, to: SocketAddr, observed: &Observed) {
    let mut wires: Vec<Option<Wire<TcpStream>>> = wires.into_iter().map(Some).collect();
    while !observed.over.load(Ordering::SeqCst) {
        for wire in wires.iter_mut().filter(|w| w.is_some()) {
            observed.others.fetch_add(1, Ordering::Relaxed);
            match ask_on(wire, to, REQUEST) {
                Ok(answer) if answer.status() == 200 => {}
                Ok(answer) => observed.other_errors.lock().unwrap().push(answer.start),
                Err(e) => observed.other_errors.lock().unwrap().push(e.to_string()),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn new_connection(to: SocketAddr, began: Instant, observed: &Observed) {
    let at = began.elapsed();
    let asked = Instant::now();
    let mut kept = None;
    let answer = ask_on(&mut kept, to, REQUEST);
    let took = answer.ok().filter(|a| a.status() == 200).map(|_| asked.elapsed());
    observed.attempts.lock().unwrap().push((at, took));
}
