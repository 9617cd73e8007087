//! Back ends that die and come back, and clients that behave badly, under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::ringgate::forwarding;
use support::{Client, Load, Origin, Ringgate, eventually, free_address, get};

/// Kills and restarts three origins in turn for a while, under load; `settled` waits until the next one may die.
fn deaths(group: &str, settled: impl Fn(&Ringgate, bool)) {
    let names = ["aaa", "bbb", "ccc"];
    let mut origins: Vec<Origin> = names.iter().map(|name| Origin::saying(name)).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|o| o.address).collect();
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &addresses, group));
    let load = Load::start(listen, 6, |answer| answer.status() == 200 && answer.body.len() == 3);
    let until = Instant::now() + Duration::from_secs(8);
    let mut turn = 0;
    while Instant::now() < until {
        // One at a time dies with every connection it has; the other two carry on.
        let (slot, before) = (turn % 3, load.answered());
        origins[slot].stop();
        eventually("requests are answered while one is down", || load.answered() > before + 200);
        settled(&ringgate, false);
        origins[slot] = Origin::saying_at(addresses[slot], names[slot]);
        let before = load.answered();
        eventually("requests are answered after it is back", || load.answered() > before + 200);
        settled(&ringgate, true);
        turn += 1;
    }
    let answered = load.stop_without_failures();
    ringgate.assert_alive();
    println!("{answered} requests over {turn} deaths");
}

#[test]
fn origins_that_die_and_come_back_cost_no_get() {
    let group = "retries = 2\nhealth = { type = \"tcp\", interval = \"100ms\", healthy = 1, unhealthy = 1 }\n";
    deaths(group, |ringgate, all| {
        eventually("the probes have noticed", || {
            ringgate.target_states().iter().all(|state| state.starts_with("healthy")) == all
        });
    });
}

#[test]
fn deaths_that_no_probe_notices_cost_no_get() {
    deaths("retries = 2\n", |_, _| {});
}

#[test]
fn clients_that_leave_at_any_byte_hurt_nobody() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let request = b"POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for cut in 0..=request.len() {
        let mut stream = TcpStream::connect(listen).unwrap();
        stream.write_all(&request[..cut]).unwrap();
        drop(stream);
        if cut % 8 == 0 {
            assert_eq!(get(listen, "/").text(), "ok", "after a client left at byte {cut}");
        }
    }
    assert_eq!(get(listen, "/").text(), "ok");
    ringgate.assert_alive();
}

#[test]
fn origins_that_leave_at_any_byte_are_told_apart() {
    // The answer, cut at every byte: the client gets a whole answer, an error of ours, or a visible break.
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let cut = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let its_cut = std::sync::Arc::clone(&cut);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(&ANSWER[..its_cut.load(std::sync::atomic::Ordering::SeqCst)])
    });
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    for at in 0..=ANSWER.len() {
        cut.store(at, std::sync::atomic::Ordering::SeqCst);
        let mut client = Client::connect(listen);
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        match client.wire.response("GET") {
            Ok(Some(answer)) if answer.status() == 200 => {
                assert_eq!(
                    (at, answer.text().as_str()),
                    (ANSWER.len(), "hello"),
                    "a short answer was whole"
                );
            }
            Ok(Some(answer)) => {
                assert_eq!(answer.status(), 502, "cut at {at}: {}", answer.reason())
            }
            Ok(None) | Err(_) => assert!(at > 30, "cut at {at}: no answer at all"),
        }
    }
    ringgate.assert_alive();
}

#[test]
fn many_connections_beyond_the_limit_are_turned_away() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let mut ringgate = Ringgate::start(&format!("[server]\nmax_connections = 64\n\n{config}"));
    let held: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(listen).ok()).collect();
    ringgate.assert_alive();
    drop(held);
    eventually("there is room again", || {
        let mut client = Client::connect(listen);
        let sent = client.wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        sent.is_ok()
            && matches!(client.wire.response("GET"), Ok(Some(answer)) if answer.status() == 200)
    });
}

#[test]
fn a_pipelining_client_does_not_starve_others() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    let mut greedy = Client::connect(listen);
    let mut writer = greedy.wire.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let many = "GET /many HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(1000);
        for _ in 0..10 {
            if writer.write_all(many.as_bytes()).is_err() {
                return;
            }
        }
    });
    for n in 0..10_000 {
        assert_eq!(greedy.response().status(), 200);
        if n % 1000 == 500 {
            assert_eq!(get(listen, "/other").text(), "ok");
        }
    }
    sending.join().unwrap();
}
