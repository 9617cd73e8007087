//! Which target gets a request, and what happens when one cannot be used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::ringgate::forwarding;
use support::{Client, Origin, Ringgate, free_address, get};

/// Three origins that say their own name, behind one group with these further lines.
fn three(group: &str) -> (Vec<Origin>, Ringgate, SocketAddr) {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::saying(name)).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(|o| o.address).collect();
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &addresses, group));
    (origins, ringgate, listen)
}

fn counted(answers: impl Iterator<Item = String>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for answer in answers {
        *counts.entry(answer).or_default() += 1;
    }
    counts
}

/// A request on a connection of its own, with further field lines.
fn with_fields(listen: SocketAddr, fields: &str) -> String {
    let mut client = Client::connect(listen);
    client.send(format!("GET /?u=1 HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).response().text()
}

#[test]
fn three_requests_hit_three_targets_once_each() {
    // Whatever worker takes a connection: the round is the machine's, not the worker's.
    let (_origins, _ringgate, listen) = three("");
    for round in 0..20 {
        let seen: HashSet<String> = (0..3).map(|_| get(listen, "/").text()).collect();
        assert_eq!(seen.len(), 3, "round {round} reached only {seen:?}");
    }
}

#[test]
fn weights_are_kept_smoothly() {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::saying(name)).collect();
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n[group.all]\n\
         targets = [{{ address = \"{}\", weight = 3 }}, {{ address = \"{}\", weight = 1 }}, {{ address = \"{}\", weight = 0 }}]\n\
         health = {{ type = \"off\" }}\n",
        origins[0].address, origins[1].address, origins[2].address
    ));
    let mut client = Client::connect(listen);
    for _ in 0..5 {
        let counts = counted((0..40).map(|_| client.get("/").text()));
        assert_eq!(
            (counts.get("a"), counts.get("b"), counts.get("c")),
            (Some(&30), Some(&10), None)
        );
    }
}

#[test]
fn random_and_p2c_reach_everybody() {
    for algorithm in ["random", "p2c"] {
        let (_origins, _ringgate, listen) = three(&format!("algorithm = \"{algorithm}\"\n"));
        let mut client = Client::connect(listen);
        let counts = counted((0..300).map(|_| client.get("/").text()));
        assert!(counts.len() == 3 && counts.values().all(|n| *n > 40), "{algorithm}: {counts:?}");
    }
}

#[test]
fn least_requests_avoids_a_busy_target() {
    for algorithm in ["least_requests", "p2c"] {
        // The first origin holds its request until it is released; everything else must go to the other.
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let slow = Origin::script(move |conn| {
            while conn.request()?.is_some() {
                let _ = wait.lock().unwrap().recv_timeout(support::PATIENCE);
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")?;
            }
            Ok(())
        });
        let quick = Origin::saying("quick");
        let listen = free_address();
        let group = format!("algorithm = \"{algorithm}\"\n");
        let config = forwarding(listen, &[slow.address, quick.address], &group);
        let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
        let mut waiting = Vec::new();
        while slow.requests().is_empty() {
            let mut client = Client::connect(listen);
            client.send("GET /wait HTTP/1.1\r\nHost: a.test\r\n\r\n");
            waiting.push(client);
            support::eventually("the request has reached a target", || {
                slow.requests().len() + quick.requests().len() == waiting.len()
            });
            assert!(waiting.len() < 50, "{algorithm} never used the first target");
        }
        let mut client = Client::connect(listen);
        for _ in 0..20 {
            assert_eq!(client.get("/").text(), "quick", "{algorithm}");
        }
        drop(release);
    }
}

#[test]
fn hashes_stay_with_their_target() {
    let key = |n: usize| format!("X-User: user-{n}\r\nCookie: sid=user-{n}\r\n");
    for hash in ["hash = { header = \"X-User\" }", "hash = { cookie = \"sid\" }"] {
        let (_origins, _ringgate, listen) = three(&format!("algorithm = \"hash\"\n{hash}\n"));
        let first: Vec<String> = (0..60).map(|n| with_fields(listen, &key(n))).collect();
        let second: Vec<String> = (0..60).map(|n| with_fields(listen, &key(n))).collect();
        assert_eq!(first, second, "{hash}");
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "{hash}");
    }
    let (_origins, _ringgate, listen) = three("algorithm = \"hash\"\nhash = { query = \"u\" }\n");
    let seen: HashSet<String> = (0..10).map(|_| with_fields(listen, "")).collect();
    assert_eq!(seen.len(), 1, "the query's u is always 1");
    let (_origins, _ringgate, listen) = three("algorithm = \"ip_hash\"\n");
    let seen: HashSet<String> = (0..10).map(|_| get(listen, "/").text()).collect();
    assert_eq!(seen.len(), 1, "the address is always the same");
}

#[test]
fn a_hash_moves_only_what_it_must() {
    let (origins, ringgate, listen) =
        three("algorithm = \"hash\"\nhash = { header = \"X-User\" }\n");
    let key = |n: usize| format!("X-User: user-{n}\r\n");
    let before: Vec<String> = (0..100).map(|n| with_fields(listen, &key(n))).collect();
    let left = [origins[0].address, origins[1].address];
    ringgate.reload(&forwarding(
        listen,
        &left,
        "algorithm = \"hash\"\nhash = { header = \"X-User\" }\n",
    ));
    let moved = before.iter().position(|owner| owner == "c").expect("c had something");
    support::eventually("c gets nothing more", || with_fields(listen, &key(moved)) != "c");
    for (n, owner) in before.iter().enumerate() {
        let now = with_fields(listen, &key(n));
        assert!(owner == "c" || now == *owner, "user-{n} moved from {owner} to {now} without need");
    }
}

// ---------------------------------------------------------------- targets that cannot be used

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    let origin = Origin::saying("alive");
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[nobody(), origin.address], ""));
    let mut client = Client::connect(listen);
    for method in ["GET", "POST", "PUT"] {
        for _ in 0..4 {
            client.send(format!(
                "{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
            ));
            assert_eq!(client.response().text(), "alive", "{method}");
            assert_eq!(origin.last().text(), "abc");
        }
    }
}

#[test]
fn nobody_to_connect_to_is_bad_gateway() {
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[nobody(), nobody()], ""));
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (502, "connect_failed"));
}

#[test]
fn a_group_without_targets_is_unavailable() {
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[], ""));
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (503, "no_target"));
}

#[test]
fn a_silent_target_times_out() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.request().map(|_| ())
    });
    let listen = free_address();
    let group = "timeouts = { response = \"300ms\" }\n";
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], group));
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (504, "response_timeout"));
    assert_eq!(
        origin.requests().len(),
        1,
        "a request that may have been carried out was sent again"
    );
}

#[test]
fn a_target_that_closes_without_a_word_is_bad_gateway() {
    let origin = Origin::script(|conn| conn.request().map(|_| ()));
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    for method in ["GET", "POST"] {
        let mut client = Client::connect(listen);
        client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"));
        let answer = client.response();
        assert_eq!(answer.status(), 502, "{method}");
        assert!(
            ["target_closed", "target_reset"].contains(&answer.reason()),
            "{}",
            answer.reason()
        );
    }
    let posts = origin.requests().iter().filter(|r| r.method() == "POST").count();
    assert_eq!(posts, 1, "a POST was sent twice");
}

/// An origin that answers the first request of each connection, and closes on the second without an answer.
fn closing_on_reuse() -> (Origin, Arc<AtomicUsize>) {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let origin = Origin::script(move |conn| {
        if conn.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        // Reads the head only: what it carries out is counted by `remember`, and here nothing is.
        if conn.wire.head()?.is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    (origin, dropped)
}

#[test]
fn a_reused_connection_that_dies_is_replaced_for_get() {
    let (origin, dropped) = closing_on_reuse();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    let mut client = Client::connect(listen);
    for n in 0..20 {
        let answer = client.get("/");
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, "ok"),
            "request {n}: {}",
            answer.reason()
        );
    }
    assert!(
        dropped.load(Ordering::SeqCst) > 0,
        "no connection was used again, so nothing was tested"
    );
}

#[test]
fn a_reused_connection_that_dies_is_not_replaced_for_post() {
    let (origin, dropped) = closing_on_reuse();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _ringgate = Ringgate::start(&format!("[server]\nworkers = 1\n\n{config}"));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/").status(), 200);
    let sent_before = origin.requests().len();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
    let answer = client.response();
    let executed = origin.requests().len() - sent_before + dropped.load(Ordering::SeqCst);
    assert_eq!(executed, 1, "the POST reached the origin {executed} times");
    assert!(answer.status() == 502 || answer.status() == 200, "{}", answer.start);
}

#[test]
fn an_idle_connection_that_was_closed_is_not_used() {
    // The origin closes after each answer without saying so: the next request must not notice.
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut client = Client::connect(listen);
    for n in 0..50 {
        assert_eq!(client.get("/").status(), 200, "request {n}");
    }
}

#[test]
fn requests_do_not_get_mixed_up() {
    // Every answer names its request; clients that leave early must not shift answers to others.
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let token = request.target().to_owned();
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}",
                token.len()
            ))?;
        }
        Ok(())
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                for n in 0..250 {
                    let path = format!("/{thread}-{n}");
                    let mut client = Client::connect(listen);
                    if n % 3 == 0 {
                        // Leaves without waiting.
                        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
                    } else {
                        assert_eq!(client.get(&path).text(), path);
                        assert_eq!(client.get(&format!("{path}b")).text(), format!("{path}b"));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_further_attempt_takes_nobodys_turn() {
    let good: Vec<Origin> = ["a", "b"].iter().map(|name| Origin::saying(name)).collect();
    let failed = Arc::new(AtomicUsize::new(0));
    let its = Arc::clone(&failed);
    let bad = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            its.fetch_add(1, Ordering::Relaxed);
            conn.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let listen = free_address();
    let group = "retry = { on = [\"500\"], budget = \"100%\" }";
    let targets = [bad.address, good[0].address, good[1].address];
    let _ringgate = Ringgate::start(&forwarding(listen, &targets, group));
    let mut client = Client::connect(listen);
    let counts = counted((0..60).map(|_| client.get("/").text()));
    // Each third request, and no more, comes to the one that fails.
    assert_eq!(failed.load(Ordering::Relaxed), 20);
    assert_eq!(counts.values().sum::<usize>(), 60);
    assert!(counts["a"] >= 22 && counts["b"] >= 22, "{counts:?}");
}

#[test]
fn what_is_in_flight_is_counted_with_rule_group_and_target() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let _ = released.lock().unwrap().recv_timeout(support::PATIENCE);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let listen = free_address();
    let rule = "[[rule]]\nname = \"all\"\nforward = \"all\"\n\n";
    let text = forwarding(listen, &[origin.address], "")
        .replace("[group.all]", &format!("{rule}[group.all]"));
    let ringgate = Ringgate::start(&text);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let active = |what: &str| ringgate.sum(&format!("ringgate_{what}active_requests"), &[]);
    for what in ["", "rule_", "group_", "target_"] {
        support::eventually(what, || active(what) == 1.0);
    }
    release.send(()).unwrap();
    assert_eq!(client.response().status(), 200);
    for what in ["", "rule_", "group_", "target_"] {
        support::eventually("it has ended", || active(what) == 0.0);
    }
}
