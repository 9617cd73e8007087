//! A worker that hangs: it is noticed, another one serves in its place, and nobody else comes to harm.
//!
//! One thread of the process is stopped as a debugger does it (ptrace(2)), by a script; where that is not allowed, the tests
//! say so and pass.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::ringgate::{ask, forwarding};
use support::stopped::{Stopped, threads};
use support::{Client, Load, Origin, Ringgate, eventually, free_address};

fn connections(ringgate: &Ringgate, worker: usize) -> f64 {
    ringgate.metric(&format!("ringgate_worker_connections{{worker=\"{worker}\"}}")).unwrap_or(0.0)
}

/// Idle connections, by the worker that has them, until each of two has `each`.
fn connected(ringgate: &Ringgate, listen: SocketAddr, each: usize) -> [Vec<Client>; 2] {
    let mut by_worker = [Vec::new(), Vec::new()];
    while by_worker.iter().any(|clients| clients.len() < each) {
        let before = [0, 1].map(|worker| connections(ringgate, worker));
        let mut client = Client::connect(listen);
        assert_eq!(client.get("/").text(), "ok");
        let mut whose = None;
        eventually("the connection is counted", || {
            whose = (0..2).find(|worker| connections(ringgate, *worker) > before[*worker]);
            whose.is_some()
        });
        by_worker[whose.unwrap()].push(client);
    }
    by_worker
}

// Hazard RT-02. With two workers and SO_REUSEPORT, one that hangs would otherwise swallow half of all new connections.
#[test]
fn a_worker_that_hangs_is_replaced() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let [hanging, mut others] = connected(&ringgate, listen, 3);
    let thread = threads(&ringgate, "worker-0")[0];
    let Some(stopped) = Stopped::stop(thread) else { return };
    let began = Instant::now();

    eventually("it is seen", || ringgate.metric("ringgate_workers_stuck") == Some(1.0));
    println!("seen after {:?}", began.elapsed());
    eventually("it is told", || ringgate.output().contains("a worker is stuck"));
    let line = ringgate.output().lines().find(|l| l.contains("is stuck")).unwrap().to_owned();
    for part in ["ERROR", "worker=0", "silence=", "doing="] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    for client in &mut others {
        assert_eq!(client.get("/").text(), "ok", "the other worker's connections are unharmed");
    }
    eventually("another one serves in its place", || {
        ringgate.metric("ringgate_worker_alive{worker=\"2\"}") == Some(1.0)
            && ask(ringgate.admin(), "/readyz").status() == 200
    });
    // Every new connection is answered, whatever socket the kernel chooses; 40 would miss a dead half once in 10^12.
    for _ in 0..40 {
        assert_eq!(support::get(listen, "/").text(), "ok");
    }
    println!("served again after {:?} at most", began.elapsed());
    assert_eq!(connections(&ringgate, 0), hanging.len() as f64, "what it holds stays counted");
    assert_eq!(ringgate.metric("ringgate_worker_restarts_total"), Some(1.0));
    assert_eq!(ringgate.metric("ringgate_workers_stuck"), Some(1.0));
    // A reload does not wait for it.
    ringgate.reload(&forwarding(listen, &[origin.address], "retries = 1\n"));

    drop(stopped);
    eventually("it wakes and ends", || threads(&ringgate, "worker-0").is_empty());
    eventually("nothing is stuck", || ringgate.metric("ringgate_workers_stuck") == Some(0.0));
    eventually("its gauges are gone", || {
        ringgate.metric("ringgate_worker_alive{worker=\"0\"}").is_none()
            && ringgate.metric("ringgate_connections{listener=\"web\"}")
                == Some(connections(&ringgate, 1) + connections(&ringgate, 2))
    });
    for mut client in hanging {
        client.expect_closed();
    }
    for client in &mut others {
        assert_eq!(client.get("/").text(), "ok");
    }
    for _ in 0..40 {
        assert_eq!(support::get(listen, "/").text(), "ok");
    }
    assert_eq!(
        ringgate.metric("ringgate_worker_restarts_total"),
        Some(1.0),
        "and it stays at that"
    );
    ringgate.signal(Signal::TERM);
    assert_eq!(ringgate.wait_exit().code(), Some(0), "{}", ringgate.output());
}

#[test]
fn a_request_that_was_in_flight_is_finished_when_the_worker_wakes() {
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            if request.target() == "/slow" {
                let _ = wait.lock().unwrap().recv_timeout(support::PATIENCE);
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let [mut hanging, _others] = connected(&ringgate, listen, 1);
    let mut busy = hanging.pop().unwrap();
    let before = origin.requests().len();
    busy.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is at the origin", || origin.requests().len() == before + 1);
    let Some(stopped) = Stopped::stop(threads(&ringgate, "worker-0")[0]) else { return };
    eventually("another one serves in its place", || {
        ringgate.metric("ringgate_worker_alive{worker=\"2\"}") == Some(1.0)
    });
    drop(stopped);
    eventually("it is awake", || ringgate.output().contains("a worker that was replaced is awake"));
    assert!(!threads(&ringgate, "worker-0").is_empty(), "it has a request yet");
    release.send(()).unwrap();
    let answer = busy.response();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.header("connection"), Some("close"), "the client is sent to the successor");
    eventually("then it ends", || threads(&ringgate, "worker-0").is_empty());
}

#[test]
fn a_pause_that_ends_by_itself_costs_no_worker() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let [mut hanging, _others] = connected(&ringgate, listen, 1);
    let Some(stopped) = Stopped::stop(threads(&ringgate, "worker-0")[0]) else { return };
    eventually("it is seen", || {
        ringgate.metric("ringgate_workers_stuck") == Some(1.0)
            || threads(&ringgate, "worker-2").len() == 1
    });
    let unready = ask(ringgate.admin(), "/readyz");
    drop(stopped);
    if threads(&ringgate, "worker-2").len() == 1 {
        println!("this machine was too slow to end the pause in time: not tested");
        return;
    }
    assert_eq!(unready.status(), 503, "{}", unready.text());
    assert!(unready.text().contains("worker 0 is stuck"), "{}", unready.text());
    eventually("it goes on", || ringgate.output().contains("a worker that was stuck goes on"));
    eventually("it is ready", || ask(ringgate.admin(), "/readyz").status() == 200);
    assert_eq!(hanging[0].get("/").text(), "ok", "its connections have waited, no more");
    assert_eq!(ringgate.metric("ringgate_worker_restarts_total"), Some(0.0));
    assert_eq!(ringgate.metric("ringgate_workers_stuck"), Some(0.0));
}

// Hazard OPS-13: what stops is the whole process, or the machine under it.
#[test]
fn a_process_that_was_stopped_goes_on_as_if_nothing_had_been() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let load = Load::start(listen, 6, |answer| answer.text() == "ok");
    eventually("there is load", || load.answered() > 200);
    for _ in 0..2 {
        ringgate.signal(Signal::STOP);
        std::thread::sleep(Duration::from_secs(3));
        ringgate.signal(Signal::CONT);
        let before = load.answered();
        eventually("it goes on", || load.answered() > before + 200);
        // A false alarm would come within a second.
        std::thread::sleep(Duration::from_millis(1200));
    }
    load.stop_without_failures();
    ringgate.assert_alive();
    assert_eq!(ringgate.metric("ringgate_worker_restarts_total"), Some(0.0));
    assert!(!ringgate.output().contains("stuck"), "{}", ringgate.output());
}
