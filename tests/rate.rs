//! Limits by rate and by window, over real sockets: exact for the machine, told to clients, carried over reloads, delayed on time.
//!
//! Upper bounds hold for whatever time a run takes: they are computed from the time that it took. Lower bounds are computed
//! from buckets that are too large to be full again before the run is over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::h2raw::{H2, RST_STREAM};
use support::message::Wire;
use support::{
    Client, Message, Origin, PATIENCE, Ringgate, connect_from, eventually, free_address,
};

const FIXED: &str = "respond = { status = 200, content_type = \"text/plain\", body = \"ok\" }";

// A listener whose one rule has the policy `p`.
fn config(listen: SocketAddr, policy: &str, action: &str, workers: usize) -> String {
    format!(
        "[server]\nworkers = {workers}\npin = false\n\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n\
         [[rule]]\nname = \"all\"\npolicy = [\"p\"]\n{action}\n\n[policy.p]\n{policy}\n"
    )
}

fn start(policy: &str, workers: usize) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&config(listen, policy, FIXED, workers)), listen)
}

fn before(origin: &Origin, policy: &str, more: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    let config = config(listen, policy, "forward = \"back\"", 2);
    let group = format!(
        "\n[group.back]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n{more}\n",
        origin.address
    );
    (Ringgate::start(&(config + &group)), listen)
}

fn decided(ringgate: &Ringgate, decision: &str, reason: &str) -> f64 {
    let decision = format!("decision=\"{decision}\"");
    ringgate.sum("ringgate_policy_decisions_total", &["policy=\"p\"", &decision, reason])
}

fn request(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")
}

// Statuses of requests that `connections` ask for as fast as they can, while `more` runs.
struct Flood {
    passed: u64,
    refused: u64,
    // At least and at most how long requests came.
    inner: Duration,
    outer: Duration,
}

fn flood(listen: SocketAddr, connections: usize, during: impl FnOnce()) -> Flood {
    let (over, passed, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let began = Instant::now();
    let inner = std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = Client::connect(listen);
                while !over.load(Ordering::SeqCst) {
                    let answer = client.get("/");
                    match (answer.status(), answer.reason()) {
                        (200, _) => passed.fetch_add(1, Ordering::SeqCst),
                        (429, "rate_limited") => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
        eventually("the flood is on", || refused.load(Ordering::SeqCst) > 0);
        let on = Instant::now();
        during();
        over.store(true, Ordering::SeqCst);
        on.elapsed()
    });
    let (passed, refused) = (passed.into_inner(), refused.into_inner());
    Flood { passed, refused, inner, outer: began.elapsed() }
}

// Hazard RL-01: the limit is the machine's, whatever the number of workers and connections.
#[test]
fn a_rate_is_exact_however_many_workers_and_connections_there_are() {
    for (workers, connections) in [(1, 1), (2, 1), (2, 16), (4, 16), (8, 1), (8, 16)] {
        let (_ringgate, listen) =
            start("rate = { limit = \"200/s\", burst = 400, key = \"client_ip\" }", workers);
        let flood = flood(listen, connections, || std::thread::sleep(Duration::from_millis(1500)));
        let most = 400.0 + 200.0 * flood.outer.as_secs_f64();
        // The bucket is empty when the flood is on, and is never full again.
        let least = 0.99 * (400.0 + 200.0 * flood.inner.as_secs_f64()) - 1.0;
        let passed = flood.passed as f64;
        assert!(
            (least..=most).contains(&passed),
            "{workers} workers, {connections} connections: {passed} is not within {least} and {most}"
        );
        assert!(flood.refused > flood.passed / 10, "too little came to say anything");
    }
}

// Hazard RL-02.
#[test]
fn reloads_during_a_flood_refill_nothing() {
    let listen = free_address();
    let limited = |limit: u64, more: &str| {
        let policy = format!("rate = {{ limit = \"{limit}/s\", burst = 300{more} }}");
        config(listen, &policy, FIXED, 2)
    };
    let ringgate = Ringgate::start(&limited(50, ""));
    let flood = flood(listen, 4, || {
        for n in 0..8 {
            // The limit stays while other things change, and changes itself now and then.
            ringgate.reload(&limited(50, if n % 2 == 0 { ", fields = \"none\"" } else { "" }));
            ringgate.reload(&limited(49 + n % 3, ""));
        }
    });
    // Workers take up a configuration one after the other: a moment each in which both limits hold, longer on a busy machine.
    // Buckets that were refilled would let through 300 each time.
    let most = 300.0 + 51.0 * flood.outer.as_secs_f64() + 150.0;
    assert!(flood.passed as f64 <= most, "{} of at most {most}", flood.passed);
}

#[test]
fn clients_are_told_what_is_left_and_when_to_come_again() {
    let (ringgate, listen) =
        start("rate = { limit = \"2/m\", burst = 2, key = \"machine\", fields = \"both\" }", 2);
    let mut client = Client::connect(listen);
    let first = client.get("/");
    assert_eq!(first.header("ratelimit-policy"), Some("\"p\";q=2;w=60"));
    assert_eq!(first.header("ratelimit"), Some("\"p\";r=1;t=30"));
    assert_eq!(first.header("ratelimit-limit"), Some("2"));
    assert_eq!(first.header("ratelimit-remaining"), Some("1"));
    assert_eq!((first.status(), first.header("retry-after")), (200, None));
    client.get("/");
    let refused = client.get("/");
    assert_eq!((refused.status(), refused.reason()), (429, "rate_limited"));
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((15..=30).contains(&after), "{after}");
    eventually("it is counted", || decided(&ringgate, "refuse", "rate_limited") == 1.0);
}

// Hazard RL-04 and RL-03's IPv4 half: which requests share a bucket.
#[test]
fn what_a_request_leaves_out_counts_as_its_address() {
    let policy =
        "rate = { limit = \"1/h\", burst = 2, key = \"header:X-Tenant\", fields = \"none\" }";
    let (_ringgate, listen) = start(policy, 2);
    let ask = |from: u8, fields: &str| {
        let stream = connect_from(Ipv4Addr::new(127, 0, 0, from), listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Wire::new(stream);
        wire.send(request(fields).as_bytes()).unwrap();
        wire.response("GET").unwrap().unwrap().status()
    };
    let passes = |from: u8, fields: &str| ask(from, fields) == 200;
    assert!(passes(2, "X-Tenant: a\r\n") && passes(3, "x-tenant: a\r\n"), "one tenant");
    assert!(!passes(4, "X-TENANT:  a \r\n"));
    assert!(passes(2, "") && passes(2, "X-Tenant:\r\n"));
    assert!(!passes(2, "X-Tenant: b\r\nX-Tenant: c\r\n"), "twice is as good as not at all");
    assert!(passes(3, ""), "another address without it has its own bucket");
    assert!(passes(2, "X-Tenant: A\r\n"), "values are compared as they are");
}

#[test]
fn who_may_wait_goes_on_at_its_time() {
    let origin = Origin::saying("ok");
    let policy = "rate = { limit = \"50/s\", burst = 1, queue = 10 }";
    let (ringgate, listen) = before(&origin, policy, "");
    let began = Instant::now();
    let answers: Vec<(u16, Duration)> = std::thread::scope(|scope| {
        let ask = || (support::get(listen, "/").status(), began.elapsed());
        let asked: Vec<_> = (0..11).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let last = answers.iter().map(|(_, at)| *at).max().unwrap();
    assert!(last >= Duration::from_millis(200), "the last waits for ten tokens: {last:?}");
    for n in 1..=10_u64 {
        let early = answers.iter().filter(|(_, at)| *at < Duration::from_millis(20 * n)).count();
        assert!(early as u64 <= n, "{early} came within {} ms", 20 * n);
    }
    eventually("they are counted", || decided(&ringgate, "delay", "") == 10.0);
}

#[test]
fn a_queue_has_an_end_and_who_leaves_it_is_not_sent_on() {
    let origin = Origin::saying("ok");
    let policy = "rate = { limit = \"2/s\", burst = 1, queue = 3, key = \"machine\" }";
    let (_ringgate, listen) = before(&origin, policy, "");
    let mut h2 = H2::open(listen);
    for stream in [1, 3, 5, 7, 9] {
        h2.get(stream, "/");
    }
    assert_eq!(h2.outcome(9).status(), 429, "three wait already");
    h2.frame(RST_STREAM, 0, 5, 8_u32.to_be_bytes());
    assert_eq!(h2.outcome(1).status(), 200);
    assert_eq!(h2.outcome(3).status(), 200);
    assert_eq!(h2.outcome(7).status(), 200);
    assert_eq!(origin.requests().len(), 3, "the stream that was reset asked for nothing");
    // None that would wait too long begins to.
    let policy = "rate = { limit = \"1/m\", burst = 1, queue = 3, longest_wait = \"1s\" }";
    let (_ringgate, listen) = before(&origin, policy, "");
    assert_eq!(support::get(listen, "/").status(), 200);
    assert_eq!(support::get(listen, "/").status(), 429);
}

// Hazard RL-08: each request once, whatever carries it.
#[test]
fn streams_pipelines_tunnels_and_retries_count_once() {
    let policy = "rate = { limit = \"1/h\", burst = 4, key = \"machine\", fields = \"legacy\" }";
    let left = |answer: Option<&str>| answer.unwrap().parse::<u64>().unwrap();
    let (_ringgate, listen) = start(policy, 2);
    let mut h2 = H2::open(listen);
    assert_eq!(left(h2.fetch(1, "/").header("ratelimit-remaining")), 3);
    let mut client = Client::connect(listen);
    client.send(request("").repeat(3));
    let answers: Vec<Message> = (0..3).map(|_| client.response()).collect();
    assert_eq!(left(answers[2].header("ratelimit-remaining")), 0);
    assert_eq!(h2.fetch(3, "/").status(), 429);

    // The first attempt dies with its kept connection, and is repeated.
    let origin = Origin::script(|conn| {
        let Some(_) = conn.request()? else { return Ok(()) };
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let (_ringgate, listen) = before(&origin, policy, "");
    let mut client = Client::connect(listen);
    assert_eq!(left(client.get("/").header("ratelimit-remaining")), 3);
    let again = client.get("/");
    assert_eq!((again.status(), left(again.header("ratelimit-remaining"))), (200, 2));
    assert!(origin.connections() >= 2);
}

// Hazard RL-09: what follows a refusal is neither taken for a request nor read for ever.
#[test]
fn the_body_of_a_refused_request_is_no_request() {
    let origin = Origin::saying("ok");
    let (_ringgate, listen) = before(&origin, "rate = { limit = \"1/h\", burst = 1 }", "");
    assert_eq!(support::get(listen, "/").status(), 200);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut client = Client::connect(listen);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{hidden}",
        hidden.len()
    ));
    assert_eq!(client.response_to("POST").status(), 429);
    // Either the connection goes on behind the body, or it is closed.
    let _ = client.wire.send(request("").as_bytes());
    if let Ok(Some(answer)) = client.wire.response("GET") {
        assert_eq!(answer.status(), 429);
    }
    // One that promises more than it sends is not waited for beyond the time to drain.
    let mut slow = Client::connect(listen);
    slow.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
    assert_eq!(slow.response_to("POST").status(), 429);
    slow.expect_closed();
    assert!(origin.requests().iter().all(|request| request.target() == "/"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_window_blocks_and_may_only_count() {
    let window = |more: &str| format!("window = {{ requests = 3, window = \"1h\"{more} }}");
    let (ringgate, listen) = start(&window(""), 4);
    let mut client = Client::connect(listen);
    let statuses: Vec<u16> = (0..5).map(|_| client.get("/").status()).collect();
    assert_eq!(statuses, [200, 200, 200, 403, 403]);
    assert_eq!(client.get("/").reason(), "window_exceeded");
    eventually("they are counted", || decided(&ringgate, "refuse", "window_exceeded") == 3.0);

    let (ringgate, listen) = start(&window(", action = \"count\""), 4);
    let mut client = Client::connect(listen);
    assert!((0..5).all(|_| client.get("/").status() == 200));
    let counted = || decided(&ringgate, "would_refuse", "window_exceeded");
    eventually("they are counted", || counted() == 2.0);
}
