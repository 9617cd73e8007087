//! Limits on what clients take, and shedding when there is too much: over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use support::ringgate::forwarding;
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address, get};

fn limited(listen: SocketAddr, origin: &Origin, limits: &str, more: &str) -> Ringgate {
    let config = forwarding(listen, &[origin.address], "");
    Ringgate::start(&format!("{config}\n{more}\n[limits]\n{limits}\n"))
}

// A target that answers only once it is told to.
fn held() -> (Origin, std::sync::mpsc::Sender<()>) {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            if request.target().starts_with("/held") {
                let _ = held.lock().unwrap().recv_timeout(PATIENCE);
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (origin, release)
}

// Hazard RES-08.
#[test]
fn beyond_the_requests_in_flight_they_are_shed_and_it_recovers() {
    let (origin, release) = held();
    let listen = free_address();
    let fixed = "[[rule]]\nname = \"fixed\"\nwhen = { path = [\"/fixed\"] }\n\
                 respond = { status = 200, content_type = \"text/plain\", body = \"here\" }\n";
    let ringgate = limited(listen, &origin, "in_flight = 3", fixed);
    let mut waiting: Vec<Client> = (0..3)
        .map(|n| {
            let mut client = Client::connect(listen);
            client.send(format!("GET /held/{n} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            client
        })
        .collect();
    eventually("three requests are in flight", || origin.requests().len() >= 3);
    let mut shed = Client::connect(listen);
    for _ in 0..2 {
        let answer = shed.get("/more");
        assert_eq!((answer.status(), answer.reason()), (503, "shed"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(get(listen, "/fixed").text(), "here", "what costs no target goes on");
    let health = support::ringgate::ask(ringgate.admin(), "/healthz");
    assert_eq!(health.status(), 200);
    (0..3).for_each(|_| release.send(()).unwrap());
    assert!(waiting.iter_mut().all(|client| client.response().status() == 200));
    assert_eq!(ringgate.metric("ringgate_faults_total{reason=\"shed\"}"), Some(2.0));
    // An answer may be there a moment before its place is free.
    eventually("the same connection is served again", || shed.get("/more").status() == 200);
}

// Hazard RES-07: bodies that pile up in buffers end in shedding, not in a larger process.
#[test]
fn beyond_the_memory_for_buffers_requests_are_shed() {
    let (origin, release) = held();
    let listen = free_address();
    let _ringgate = limited(listen, &origin, "memory = \"1MiB\"", "");
    // Each holds a block of 16 KiB while its request is with the target.
    let mut waiting: Vec<Client> = Vec::new();
    let mut shed = 0;
    for n in 0..80 {
        let mut client = Client::connect(listen);
        client.send(format!("GET /held/{n} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        waiting.push(client);
    }
    eventually("those that fit are with the target", || origin.requests().len() >= 60);
    for client in &waiting {
        client.wire.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut octet = [0];
        shed += usize::from(client.wire.stream.peek(&mut octet).is_ok());
    }
    assert!(shed >= 10, "80 blocks of 16 KiB are more than 1 MiB, and {shed} were shed");
    (0..80).for_each(|_| release.send(()).unwrap());
    let mut answered = 0;
    for mut client in waiting {
        client.wire.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        answered += usize::from(client.response().status() == 200);
    }
    assert_eq!(answered + shed, 80);
    assert_eq!(get(listen, "/after").status(), 200, "memory came back");
}

#[test]
fn a_pipeline_is_cut_after_its_limit() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let _ringgate = limited(listen, &origin, "pipeline = 5", "");
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(50));
    let answers: Vec<_> = (0..6).map(|_| client.response()).collect();
    assert!(answers[..5].iter().all(|a| a.header("connection").is_none()));
    assert_eq!(
        answers[5].header("connection"),
        Some("close"),
        "the one that was waited for, and 5"
    );
    client.expect_closed();
    assert_eq!(origin.requests().len(), 6);
}

#[test]
fn a_connection_carries_so_many_requests() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let _ringgate = limited(listen, &origin, "requests = 3", "");
    let mut client = Client::connect(listen);
    let closes: Vec<_> =
        (0..3).map(|_| client.get("/").header("connection").map(str::to_owned)).collect();
    assert_eq!(closes, [None, None, Some("close".to_owned())]);
    client.expect_closed();
}

// This machine's address on a network, if it has one: connections to it come from it.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // No packet is sent: this only asks for the route (RFC 5737: an address for documentation).
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback())
}

// Hazard RES-06. Loopback is exempt, so this needs another address of the machine.
#[test]
fn a_client_address_has_so_many_connections_on_all_workers_together() {
    let Some(own) = own_address() else {
        eprintln!("this machine has no address but loopback: nothing to try");
        return;
    };
    let origin = Origin::saying("ok");
    let listen = SocketAddr::from((own, free_address().port()));
    let ringgate = limited(listen, &origin, "client_connections = 4", "");
    let mut open: Vec<Client> = (0..4).map(|_| Client::connect(listen)).collect();
    assert!(open.iter_mut().all(|client| client.get("/").status() == 200));
    for _ in 0..6 {
        let answer = Client::connect(listen).response();
        assert_eq!((answer.status(), answer.reason()), (503, "too_many_connections"));
    }
    open.pop();
    eventually("a place is free again", || {
        let mut client = Client::connect(listen);
        let _ = client.wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        matches!(client.wire.response("GET"), Ok(Some(answer)) if answer.status() == 200)
    });
    assert!(ringgate.sum("ringgate_faults_total", &["too_many_connections"]) >= 6.0);
}

// Hazards RES-03 and RES-04: each pause is short, and still the whole takes too long. Both at once, since the grace is 20 s.
#[test]
fn a_body_that_drips_and_an_answer_that_is_not_read_are_ended() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if request.target() == "/large" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
                let block = vec![b'x'; 1 << 20];
                (0..1000).try_for_each(|_| conn.send(&block))?;
            }
        }
        Ok(())
    });
    let listen = free_address();
    let ringgate = limited(listen, &origin, "min_rate = \"4MiB\"", "");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut client = Client::connect(listen);
        client.send("GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let mut some = vec![0; 4096];
        while stopped.recv_timeout(Duration::from_millis(200)).is_err() {
            let _ = client.wire.stream.read(&mut some);
        }
    });
    let mut client = Client::connect(listen);
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n");
    let mut stream: TcpStream = client.wire.stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    client.wire.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let answer = client.response();
    assert_eq!((answer.status(), answer.reason()), (408, "body_too_slow"));
    drop(client);
    dripping.join().unwrap();
    // What the kernel holds already can still be read: ringgate's own word counts.
    let deadline = Instant::now() + Duration::from_secs(60);
    while ringgate.metric("ringgate_faults_total{reason=\"read_too_slow\"}") != Some(1.0) {
        assert!(Instant::now() < deadline, "an answer that is hardly read goes on");
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.send(()).unwrap();
    reader.join().unwrap();
}

#[test]
fn the_budgets_follow_a_reload() {
    let (origin, release) = held();
    let listen = free_address();
    let ringgate = limited(listen, &origin, "in_flight = 1", "");
    let mut one = Client::connect(listen);
    one.send("GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("it is in flight", || origin.requests().len() == 1);
    assert_eq!(get(listen, "/").status(), 503);
    let config = forwarding(listen, &[origin.address], "");
    ringgate.reload(&format!("{config}\n[limits]\nin_flight = 2\n"));
    eventually("there is room for one more", || get(listen, "/").status() == 200);
    release.send(()).unwrap();
    assert_eq!(one.response().status(), 200);
}
