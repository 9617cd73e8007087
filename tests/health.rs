//! Active health checks, as seen by requests and by the metrics.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use support::ringgate::forwarding;
use support::{Origin, Ringgate, eventually, free_address, get};

/// An origin that says `name`, and whose `/health` answers with a status that can be changed.
fn checked(name: &'static str) -> (Origin, Arc<AtomicU16>, Arc<AtomicUsize>) {
    let (status, probes) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
    let (its_status, its_probes) = (Arc::clone(&status), Arc::clone(&probes));
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            if request.target() == "/health" {
                its_probes.fetch_add(1, Ordering::SeqCst);
                let status = its_status.load(Ordering::SeqCst);
                conn.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))?;
            } else {
                conn.send(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}",
                    name.len()
                ))?;
            }
        }
        Ok(())
    });
    (origin, status, probes)
}

const HTTP: &str = "health = { type = \"http\", path = \"/health\", interval = \"200ms\", timeout = \"200ms\", \
                    healthy = 2, unhealthy = 2, expect = \"200-299\" }\n";

fn answers(listen: SocketAddr, n: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..n).map(|_| get(listen, "/").text()).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn an_unhealthy_target_gets_nothing_until_it_is_healthy_again() {
    let ((a, a_status, probes), (b, ..)) = (checked("a"), checked("b"));
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[a.address, b.address], HTTP));
    eventually("both get requests", || answers(listen, 6) == ["a", "b"]);
    a_status.store(500, Ordering::SeqCst);
    eventually("only b gets requests", || answers(listen, 6) == ["b"]);
    assert_eq!(unhealthy(&ringgate), 1);
    let states = ringgate.target_states();
    assert!(states.contains(&"unhealthy Target.ResponseCodeMismatch".to_owned()), "{states:?}");
    // It stays out while it keeps failing.
    let seen = probes.load(Ordering::SeqCst);
    eventually("more probes have failed", || probes.load(Ordering::SeqCst) >= seen + 3);
    assert_eq!(answers(listen, 6), ["b"]);
    a_status.store(204, Ordering::SeqCst);
    eventually("both get requests again", || answers(listen, 6) == ["a", "b"]);
}

fn unhealthy(ringgate: &Ringgate) -> usize {
    ringgate.target_states().iter().filter(|state| state.starts_with("unhealthy")).count()
}

#[test]
fn the_first_probe_comes_at_once() {
    // With five minutes between two probes, only the first probe can have taken the dead target out.
    let (b, ..) = checked("b");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let group = "retries = 0\nhealth = { type = \"tcp\", interval = \"300s\", timeout = \"1s\", unhealthy = 1 }\n";
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[dead, b.address], group));
    eventually("only the live target gets requests", || answers(listen, 6) == ["b"]);
}

#[test]
fn all_unhealthy_fails_open_unless_told_otherwise() {
    let (a, status, _) = checked("a");
    status.store(503, Ordering::SeqCst);
    let listen = free_address();
    let open = Ringgate::start(&forwarding(listen, &[a.address], HTTP));
    eventually("the target is unhealthy", || unhealthy(&open) == 1);
    assert_eq!(get(listen, "/").text(), "a");

    let listen = free_address();
    let closed =
        Ringgate::start(&forwarding(listen, &[a.address], &format!("{HTTP}fail_open = false\n")));
    eventually("the target is unhealthy", || unhealthy(&closed) == 1);
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (503, "no_target"));
    status.store(200, Ordering::SeqCst);
    eventually("the target is healthy", || get(listen, "/").text() == "a");
}

#[test]
fn what_was_learnt_survives_a_reload() {
    let ((a, a_status, _), (b, ..)) = (checked("a"), checked("b"));
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[a.address, b.address], HTTP));
    a_status.store(500, Ordering::SeqCst);
    eventually("only b gets requests", || answers(listen, 6) == ["b"]);
    // A reload that changes something else must not send requests to a again.
    ringgate.reload(&format!("{}retries = 2\n", forwarding(listen, &[a.address, b.address], HTTP)));
    assert_eq!(answers(listen, 10), ["b"]);
}

#[test]
fn probes_say_who_they_are() {
    let (a, _, probes) = checked("a");
    let group = "health = { type = \"http\", path = \"/health\", interval = \"100ms\", host = \"check.test\" }\n";
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[a.address], group));
    eventually("a probe came", || probes.load(Ordering::SeqCst) > 0);
    let probe = a.requests().into_iter().find(|r| r.target() == "/health").unwrap();
    assert_eq!((probe.method(), probe.header("host")), ("GET", Some("check.test")));
    assert!(
        probe.header("user-agent").is_some_and(|u| u.to_lowercase().contains("ringgate")),
        "{:?}",
        probe.headers
    );
}
