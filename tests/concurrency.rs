//! Caps of what is in flight, over real sockets: exact for the machine, given back by whatever ends a request.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use support::h2raw::{H2, RST_STREAM};
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address};

fn before(origin: &Origin, policy: &str, workers: usize) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    let config = config(listen, origin.address, policy, workers);
    (Ringgate::start(&config), listen)
}

fn config(listen: SocketAddr, origin: SocketAddr, policy: &str, workers: usize) -> String {
    format!(
        "[server]\nworkers = {workers}\npin = false\n\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n\
         [[rule]]\nname = \"all\"\npolicy = [\"p\"]\nforward = \"back\"\n\n[policy.p]\n{policy}\n\n\
         [group.back]\ntargets = [\"{origin}\"]\nhealth = {{ type = \"off\" }}\n"
    )
}

// A target that answers `/held` only once it is told to.
fn held() -> (Origin, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            if request.target() == "/held" {
                let _ = held.lock().unwrap().recv_timeout(PATIENCE);
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (origin, release)
}

fn hold(listen: SocketAddr) -> Client {
    let mut client = Client::connect(listen);
    client.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client
}

#[track_caller]
fn free_again(listen: SocketAddr) {
    eventually("the place is free again", || support::get(listen, "/").status() == 200);
}

#[test]
fn a_cap_is_the_machines_and_places_come_back() {
    let (origin, release) = held();
    let (ringgate, listen) = before(&origin, "concurrency = { limit = 3 }", 4);
    let mut waiting: Vec<Client> = (0..3).map(|_| hold(listen)).collect();
    eventually("three are in flight", || origin.requests().len() >= 3);
    let mut refused = Client::connect(listen);
    for _ in 0..2 {
        let answer = refused.get("/");
        assert_eq!((answer.status(), answer.reason()), (429, "too_many_in_flight"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    release.send(()).unwrap();
    eventually("one is answered", || {
        let over = |client: &mut Client| {
            let stream = &client.wire.stream;
            stream.set_nonblocking(true).unwrap();
            let ready = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).unwrap();
            ready
        };
        waiting.iter_mut().any(over)
    });
    free_again(listen);
    // An answer may be there a moment before its place is free.
    eventually("also on the connection that was refused", || refused.get("/").status() == 200);
    (0..2).for_each(|_| release.send(()).unwrap());
    assert!(waiting.iter_mut().all(|client| client.response().status() == 200));
    let refusals =
        ringgate.sum("ringgate_policy_decisions_total", &["refuse", "too_many_in_flight"]);
    assert!(refusals >= 2.0, "{refusals}");
}

#[test]
fn no_more_reach_the_target_however_many_ask() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (flying, highest) = (Arc::clone(&now), Arc::clone(&most));
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let n = flying.fetch_add(1, Ordering::SeqCst) + 1;
            highest.fetch_max(n, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            // Before the answer: once it is there, the next may be, too.
            flying.fetch_sub(1, Ordering::SeqCst);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let (_ringgate, listen) = before(&origin, "concurrency = { limit = 5, key = \"host\" }", 8);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || -> Vec<u16> {
            let mut client = Client::connect(listen);
            (0..60).map(|_| client.get("/").status()).collect()
        };
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(passed > 5 && statuses.contains(&429), "{passed} of {}", statuses.len());
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 5, "{most} were in flight");
}

#[test]
fn whatever_ends_a_request_gives_its_place_back() {
    let (origin, release) = held();
    let (_ringgate, listen) = before(&origin, "concurrency = { limit = 1 }", 2);
    // A stream that is reset.
    let mut h2 = H2::open(listen);
    h2.get(1, "/held");
    eventually("it is in flight", || origin.requests().len() == 1);
    assert_eq!(support::get(listen, "/").status(), 429);
    h2.frame(RST_STREAM, 0, 1, 8_u32.to_be_bytes());
    free_again(listen);
    let _ = release.send(());
    // A request for which there is no target any more.
    let (origin, _release) = held();
    let (ringgate, listen) = before(&origin, "concurrency = { limit = 1 }", 2);
    let nowhere = free_address();
    ringgate.reload(&config(listen, nowhere, "concurrency = { limit = 1 }", 2));
    let mut client = Client::connect(listen);
    assert!((0..3).all(|_| client.get("/").status() == 502), "none keeps its place");
}

#[test]
fn a_tunnel_keeps_its_place_until_it_is_closed() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if request.header("upgrade").is_none() {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                continue;
            }
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
            let _ = conn.wire.stream.read(&mut [0]);
            return Ok(());
        }
        Ok(())
    });
    let (ringgate, listen) = before(&origin, "concurrency = { limit = 1 }", 2);
    let mut tunnel = Client::connect(listen);
    tunnel.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.response().status(), 101);
    assert_eq!(support::get(listen, "/").status(), 429);
    // Hazard RL-02: a reload forgets nobody who is in flight, whatever the limit is then.
    ringgate.reload(&config(listen, origin.address, "concurrency = { limit = 2 }", 2));
    eventually("there is room for one more", || support::get(listen, "/").status() == 200);
    ringgate.reload(&config(listen, origin.address, "concurrency = { limit = 1 }", 2));
    eventually("there is none", || support::get(listen, "/").status() == 429);
    drop(tunnel);
    free_again(listen);
}
