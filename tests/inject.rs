//! Faults on purpose: who meets them, what they look like, and that nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::h2raw::{H2, Outcome, frame, request_with};
use support::{Client, Origin, Ringgate, eventually, free_address, get};

fn config(listen: SocketAddr, origin: &Origin, inject: &str) -> String {
    format!(
        "[server]\nworkers = 1\ndrain = \"300ms\"\n[[listener]]\nname = \"web\"\nbind = \"{listen}\"\n\
         [group.g]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
         [[rule]]\nname = \"r\"\nforward = \"g\"\n{inject}\n",
        origin.address
    )
}

fn start(inject: &str) -> (Origin, SocketAddr, Ringgate) {
    let (origin, listen) = (Origin::saying("real"), free_address());
    let ringgate = Ringgate::start(&config(listen, &origin, inject));
    (origin, listen, ringgate)
}

const FAULTY: &str = "GET /faulty HTTP/1.1\r\nHost: a.test\r\nX-Fault: on\r\n\r\n";

fn injected(ringgate: &Ringgate, kind: &str) -> f64 {
    let series = format!("ringgate_injected_faults_total{{rule=\"r\",kind=\"{kind}\"}}");
    ringgate.metric(&series).unwrap_or(-1.0)
}

#[test]
fn who_asks_for_it_gets_the_status_and_nobody_else() {
    let inject = "inject = { abort = 429, when = { header = { x-fault = 'o*' } } }\n[log]\naccess = \"./access.log\"\n";
    let (origin, listen, ringgate) = start(inject);
    let mut client = Client::connect(listen);
    let answer = client.send(FAULTY).response();
    assert_eq!((answer.status(), answer.reason()), (429, "injected"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&429.into(), &"injected".into()));
    let other = client.send(FAULTY.replace("on", "yes")).response();
    assert_eq!((other.status(), other.text().as_str()), (200, "real"));
    assert_eq!(client.get("/").status(), 200, "the connection goes on");
    let mut h2 = H2::open(listen);
    h2.head(1, 5, &request_with("GET", "/faulty", &[("x-fault", "on")]));
    assert_eq!(h2.outcome(1).status(), 429);
    assert_eq!(h2.fetch(3, "/").status(), 200);
    assert_eq!(origin.requests().len(), 3, "what fails costs no target anything");
    assert_eq!((injected(&ringgate, "abort"), injected(&ringgate, "delay")), (2.0, 0.0));
    assert_eq!(ringgate.metric("ringgate_faults_total{reason=\"injected\"}"), Some(2.0));
    let log =
        || std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap_or_default();
    eventually("five lines", || log().lines().count() == 5);
    let marked = log().lines().filter(|line| line.contains("\"injected\":\"abort\"")).count();
    assert_eq!((marked, log().matches("\"injected\":null").count()), (2, 3));
}

#[test]
fn a_delay_is_never_short_and_changes_nothing_else() {
    let inject = "inject = [{ delay = '120ms' }, { delay = { min = '30ms', max = '40ms' } }]";
    let (_origin, listen, ringgate) = start(inject);
    let mut client = Client::connect(listen);
    for _ in 0..3 {
        let began = Instant::now();
        let answer = client.send("POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(answer.response().text(), "real");
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    }
    assert_eq!(injected(&ringgate, "delay"), 3.0);
}

#[test]
fn a_reset_is_one_of_the_connection_or_the_stream() {
    let (origin, listen, ringgate) =
        start("inject = { abort = 'reset', when = { header = { x-fault = '*' } } }");
    let mut client = Client::connect(listen);
    client.send(FAULTY);
    let mut rest = Vec::new();
    let ended = client.wire.stream.read_to_end(&mut rest).unwrap_err();
    assert_eq!((ended.kind(), rest.len()), (std::io::ErrorKind::ConnectionReset, 0));
    let mut h2 = H2::open(listen);
    h2.head(1, 5, &request_with("GET", "/", &[("x-fault", "on")]));
    assert!(matches!(h2.outcome(1), Outcome::Reset(_)));
    assert_eq!(h2.fetch(3, "/").text(), "real", "the connection goes on");
    assert_eq!(get(listen, "/").text(), "real");
    assert_eq!((origin.requests().len(), injected(&ringgate, "reset")), (2, 2.0));
}

#[test]
fn a_share_is_a_share() {
    let (_origin, listen, ringgate) = start("inject = { abort = 503, share = '50%' }");
    let mut client = Client::connect(listen);
    let failed = (0..400).filter(|_| client.get("/").status() == 503).count();
    // Six standard deviations.
    assert!((140..=260).contains(&failed), "{failed} of 400");
    assert_eq!(injected(&ringgate, "abort"), failed as f64);
    let off = config(listen, &_origin, "inject = { abort = 503, share = '0%' }");
    ringgate.reload(&off);
    assert!((0..50).all(|_| client.get("/").status() == 200));
    assert_eq!(injected(&ringgate, "abort"), failed as f64, "counts outlast a reload");
}

#[test]
fn a_delay_ends_with_its_client_and_with_the_process() {
    let (origin, listen, mut ringgate) = start("inject = { delay = '60s' }");
    let active =
        |ringgate: &Ringgate| ringgate.metric("ringgate_active_requests{listener=\"web\"}");
    let mut h2 = H2::open(listen);
    h2.get(1, "/");
    eventually("it is held back", || active(&ringgate) == Some(1.0));
    h2.send(frame(3, 0, 1, &8_u32.to_be_bytes()));
    eventually("nobody waits any more", || active(&ringgate) == Some(0.0));
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("another is held back", || active(&ringgate) == Some(1.0));
    ringgate.signal(Signal::TERM);
    assert!(ringgate.wait_exit().success());
    assert!(origin.requests().is_empty());
}
