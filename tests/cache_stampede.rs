//! One fetch for all who miss the same, on all workers (hazard CACHE-08); and nobody who waits for one who is gone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address};

struct Gate {
    open: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> Gate {
        Gate { open: Arc::default(), asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers with this head and body once the gate is open.
fn gated(head: &'static str, body: &'static str) -> (Origin, Gate) {
    let gate = Gate::new();
    let (open, asked) = (Arc::clone(&gate.open), Arc::clone(&gate.asked));
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            asked.fetch_add(1, Ordering::SeqCst);
            let deadline = Instant::now() + PATIENCE;
            while !open.load(Ordering::SeqCst) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
            let length = body.len();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{head}\r\n{body}"))?;
        }
        Ok(())
    });
    (origin, gate)
}

fn start(origin: &Origin, workers: usize, cache: &str) -> (Ringgate, SocketAddr) {
    let web = free_address();
    let text = format!(
        "[server]\nworkers = {workers}\n[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
         [[rule]]\nname = \"r\"\nwhen = {{ path = [\"/*\"] }}\nforward = \"all\"\ncache = {cache}\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    );
    (Ringgate::start(&text), web)
}

fn ask(web: SocketAddr) -> Client {
    let mut client = Client::connect(web);
    client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client
}

fn waits(ringgate: &Ringgate) -> f64 {
    ringgate.sum("ringgate_cache_waits_total", &[])
}

#[test]
fn a_thousand_misses_are_one_request_on_any_number_of_workers() {
    for workers in [1, 4] {
        let (origin, gate) = gated("Cache-Control: max-age=60\r\n", "one");
        let (ringgate, web) = start(&origin, workers, "{ lock = \"60s\" }");
        let start = Arc::new(Barrier::new(20));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let start = Arc::clone(&start);
                std::thread::spawn(move || {
                    start.wait();
                    let mut clients: Vec<_> = (0..50).map(|_| ask(web)).collect();
                    let all = clients.iter_mut().map(Client::response);
                    all.filter(|answer| answer.text() == "one").count()
                })
            })
            .collect();
        eventually("all others wait", || waits(&ringgate) == 999.0);
        gate.open.store(true, Ordering::SeqCst);
        let answered: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((answered, gate.asked()), (1000, 1), "{workers} workers");
        assert_eq!(ringgate.sum("ringgate_cache_requests_total", &["hit"]), 999.0);
    }
}

#[test]
fn when_the_leader_goes_away_another_one_leads() {
    let gate = Gate::new();
    let (open, asked) = (Arc::clone(&gate.open), Arc::clone(&gate.asked));
    // The first answer never ends.
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let first = asked.fetch_add(1, Ordering::SeqCst) == 0;
            let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\n";
            if !first {
                conn.send([head, "two"].concat())?;
                continue;
            }
            conn.send([head, "o"].concat())?;
            while !open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(2));
            }
            return Ok(());
        }
        Ok(())
    });
    let (ringgate, web) = start(&origin, 2, "{ lock = \"60s\" }");
    let leader = ask(web);
    eventually("the first one leads", || gate.asked() == 1);
    let mut others: Vec<_> = (0..20).map(|_| ask(web)).collect();
    eventually("all others wait", || waits(&ringgate) == 20.0);
    gate.open.store(true, Ordering::SeqCst);
    for other in &mut others {
        assert_eq!(other.response().text(), "two");
    }
    assert_eq!(gate.asked(), 2);
    drop(leader);
}

#[test]
fn what_is_not_to_be_stored_is_not_waited_for_one_after_the_other() {
    let (origin, gate) = gated("Cache-Control: private\r\n", "mine");
    let (ringgate, web) = start(&origin, 2, "{ lock = \"60s\" }");
    let mut clients: Vec<_> = (0..30).map(|_| ask(web)).collect();
    eventually("all others wait", || waits(&ringgate) == 29.0);
    eventually("one is asked for", || gate.asked() == 1);
    gate.open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().text(), "mine");
    }
    assert_eq!(gate.asked(), 30);
    // By now it is known: nobody waits.
    gate.open.store(false, Ordering::SeqCst);
    let mut clients: Vec<_> = (0..10).map(|_| ask(web)).collect();
    eventually("all are asked for at once", || gate.asked() == 40);
    gate.open.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(waits(&ringgate), 29.0);
}

#[test]
fn what_is_validated_for_each_request_is_not_waited_for_one_after_the_other() {
    let head = "Cache-Control: no-cache\r\nETag: \"a\"\r\n";
    let (origin, gate) = gated(head, "mine");
    let (ringgate, web) = start(&origin, 2, "{ lock = \"60s\" }");
    let mut clients: Vec<_> = (0..10).map(|_| ask(web)).collect();
    eventually("all others wait", || waits(&ringgate) == 9.0);
    gate.open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().text(), "mine");
    }
    assert_eq!((gate.asked(), waits(&ringgate)), (10, 9.0), "nobody waits twice");
}

#[test]
fn nobody_waits_for_another_variant_twice_cache_06() {
    let head = "Cache-Control: max-age=60\r\nVary: X-Each\r\n";
    let (origin, gate) = gated(head, "mine");
    let (ringgate, web) = start(&origin, 2, "{ lock = \"60s\" }");
    let ask = |each: usize| {
        let mut client = Client::connect(web);
        client.send(format!("GET /x HTTP/1.1\r\nHost: a.test\r\nX-Each: {each}\r\n\r\n"));
        client
    };
    let mut clients: Vec<_> = (0..10).map(ask).collect();
    eventually("all others wait", || waits(&ringgate) == 9.0);
    gate.open.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "mine"));
    assert_eq!((gate.asked(), waits(&ringgate)), (10, 9.0));
    // By now it is known what it varies by: those of one variant still wait for each other.
    gate.open.store(false, Ordering::SeqCst);
    let mut clients: Vec<_> = (20..24).flat_map(|each| [ask(each), ask(each)]).collect();
    eventually("one of each variant is asked for", || gate.asked() == 14);
    eventually("the others wait", || waits(&ringgate) == 13.0);
    gate.open.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "mine"));
    assert_eq!(gate.asked(), 14);
}

#[test]
fn nobody_waits_for_longer_than_the_rule_says() {
    let (origin, gate) = gated("Cache-Control: max-age=60\r\n", "one");
    let (_ringgate, web) = start(&origin, 2, "{ lock = \"100ms\" }");
    let mut clients = [ask(web), ask(web)];
    eventually("the second one fetches for itself", || gate.asked() == 2);
    gate.open.store(true, Ordering::SeqCst);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().text(), "one"));
}

#[test]
fn a_target_that_fails_is_asked_by_all_who_waited_at_once() {
    let gate = Gate::new();
    let failing = {
        let (open, asked) = (Arc::clone(&gate.open), Arc::clone(&gate.asked));
        Origin::script(move |conn| {
            if conn.request()?.is_some() {
                asked.fetch_add(1, Ordering::SeqCst);
                while !open.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                conn.send("nonsense\r\n\r\n")?;
            }
            Ok(())
        })
    };
    let (ringgate, web) = start(&failing, 2, "{ lock = \"60s\" }");
    let mut clients: Vec<_> = (0..10).map(|_| ask(web)).collect();
    eventually("all others wait", || waits(&ringgate) == 9.0);
    gate.open.store(true, Ordering::SeqCst);
    for client in &mut clients {
        assert_eq!(client.response().status(), 502);
    }
    assert_eq!(waits(&ringgate), 9.0, "nobody waits twice");
}
