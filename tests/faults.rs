//! Back ends that die and come back, and clients that behave badly, under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::ringgate::{ask, forwarding};
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

// ---------------------------------------------------------------- descriptors

/// Clock ticks of CPU time that ringgate has used (proc_pid_stat(5), fields 14 and 15; 100 a second).
fn cpu_ticks(ringgate: &Ringgate) -> u64 {
    let path = format!("/proc/{}/stat", ringgate.pid().as_raw_nonzero());
    let stat = std::fs::read_to_string(path).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    after_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Fails when ringgate uses more than half of a core for a second, with nothing to do.
#[track_caller]
fn assert_calm(ringgate: &Ringgate) {
    let before = cpu_ticks(ringgate);
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_ticks(ringgate) - before;
    assert!(used < 50, "{used} % of a core with nothing to do");
}

/// As many descriptors for this test as it may have.
fn raise_own_limit() {
    let own = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: own.maximum, ..own });
}

// Hazard RES-05.
#[test]
fn a_small_limit_of_descriptors_leaves_room_for_everything_else() {
    raise_own_limit();
    let origin = Origin::saying("ok");
    let listen = free_address();
    let limited = ["sh", "-c", "ulimit -Sn 256 && ulimit -Hn 256 && exec \"$@\"", "sh"];
    let config = forwarding(listen, &[origin.address], "");
    let mut ringgate = Ringgate::start_under(&limited, tempfile::tempdir().unwrap(), &config);
    let most = ringgate.metric("ringgate_max_connections").unwrap();
    assert!((16.0..128.0).contains(&most), "{most} connections of 256 descriptors");
    let told = "does not fit into 256 open files";
    eventually("that is told", || ringgate.output().contains(told));

    // Those that have a place keep it, with a connection to the target each.
    let mut served: Vec<Client> = (0..8).map(|_| Client::connect(listen)).collect();
    for client in &mut served {
        assert_eq!(client.get("/").text(), "ok");
    }
    let flood: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(listen).ok()).collect();
    assert_eq!(flood.len(), 1000);
    eventually("all places are taken", || {
        let open: f64 = ringgate.sum("ringgate_worker_connections", &[]);
        // Leases are taken in blocks; a worker may be refused while the other holds some unused.
        open >= most / 4.0
    });
    assert_calm(&ringgate);
    for _ in 0..10 {
        assert_eq!(ask(ringgate.admin(), "/healthz").status(), 200);
        for client in &mut served {
            assert_eq!(client.get("/").text(), "ok");
        }
    }
    assert!(!ringgate.output().contains("cannot accept"), "{}", ringgate.output());
    drop(flood);
    eventually("there is room again", || {
        let mut client = Client::connect(listen);
        client.wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
            && matches!(client.wire.response("GET"), Ok(Some(answer)) if answer.text() == "ok")
    });
    ringgate.assert_alive();
}

// Hazard RES-05: where the reserve was not enough after all.
#[test]
fn running_out_of_descriptors_spins_no_core() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut before = Client::connect(listen);
    assert_eq!(before.get("/").text(), "ok");
    let limit = |most| {
        let all = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(most), maximum: all };
        prlimit(Some(ringgate.pid()), Resource::Nofile, limit).unwrap().current
    };
    // Three: less than it has open, so that every new descriptor is refused.
    let usual = limit(3).unwrap();
    let waiting: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(listen).unwrap()).collect();
    eventually("it has noticed", || ringgate.output().contains("cannot accept"));
    assert_calm(&ringgate);
    assert_eq!(before.get("/").text(), "ok", "what is open is served");
    limit(usual);
    for stream in waiting {
        let mut client = Client { wire: support::Wire::new(stream) };
        client.wire.stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        assert_eq!(client.get("/").text(), "ok", "who waited in the queue is served");
    }
    ringgate.assert_alive();
}
