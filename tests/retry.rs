//! Second attempts: on what, where it is sound, how many, and what they may cost targets that all fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::h2raw::H2;
use support::ringgate::forwarding;
use support::{Client, Load, Origin, Ringgate, free_address, get};

const FAILS: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nbad";

fn start(origins: &[&Origin], group: &str) -> (SocketAddr, Ringgate) {
    let listen = free_address();
    let addresses: Vec<SocketAddr> = origins.iter().map(|origin| origin.address).collect();
    let ringgate = Ringgate::start(&forwarding(listen, &addresses, group));
    (listen, ringgate)
}

/// An origin that never answers.
fn mute() -> Origin {
    Origin::script(|conn| {
        while conn.request()?.is_some() {}
        Ok(())
    })
}

#[test]
fn a_bad_answer_of_one_target_is_another_ones_work() {
    let (bad, good) = (Origin::answering(FAILS), Origin::saying("good"));
    let group = "retry = { on = ['503'], budget = '100%', reserve = 10 }\n";
    let (listen, _ringgate) = start(&[&bad, &good], group);
    let mut client = Client::connect(listen);
    for _ in 0..20 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "good"));
    }
    let again =
        good.requests().iter().filter(|r| r.header("x-ringgate-attempt") == Some("2")).count();
    assert_eq!(again, bad.requests().len(), "those that the other one failed");
    assert!(!bad.requests().is_empty());
    let mut h2 = H2::open(listen);
    for stream in [1, 3, 5, 7] {
        assert_eq!(h2.fetch(stream, "/").status(), 200);
    }
}

#[test]
fn what_may_not_be_repeated_is_not() {
    let bad = Origin::answering(FAILS);
    let group = "retry = { on = ['503', 'reset', 'timeout'], budget = '100%', reserve = 10, per_try = '300ms' }\n";
    let (listen, _ringgate) = start(&[&bad], group);
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(Client::connect(listen).send(post).response().status(), 503);
    assert_eq!(bad.requests().len(), 1, "no method that is not idempotent (UP-01)");
    let put =
        "PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    assert_eq!(Client::connect(listen).send(put).response().status(), 503);
    assert_eq!(bad.requests().len(), 2, "no body that has been passed on");
    let whole = "PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(Client::connect(listen).send(whole).response().status(), 503);
    assert_eq!(bad.requests().len(), 5, "an idempotent one with its body here: twice again");
    assert!(bad.requests().iter().skip(2).all(|request| request.body == b"hi"));
}

#[test]
fn who_says_when_to_come_again_is_not_asked_before() {
    let later = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
    let (bad, good) = (Origin::answering(later), Origin::saying("good"));
    let (listen, _ringgate) = start(&[&bad, &good], "retry = { budget = '100%' }\n");
    let answers: Vec<_> = (0..10).map(|_| get(listen, "/")).collect();
    let refused: Vec<_> = answers.iter().filter(|a| a.status() == 503).collect();
    assert_eq!(refused.len(), bad.requests().len());
    assert!(refused.iter().all(|a| a.header("retry-after") == Some("7")));
    assert!(good.requests().iter().all(|r| r.header("x-ringgate-attempt").is_none()));
}

#[test]
fn a_target_that_hangs_is_passed_over_after_its_time() {
    let (hangs, good) = (mute(), Origin::saying("good"));
    let group = "retry = { per_try = '200ms', budget = '100%', reserve = 10 }\n";
    let (listen, _ringgate) = start(&[&hangs, &good], group);
    let mut client = Client::connect(listen);
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(!hangs.requests().is_empty());
}

#[test]
fn the_whole_has_a_deadline_of_its_own() {
    let hangs = mute();
    let listen = free_address();
    let group = "retry = { per_try = '300ms', attempts = 5, budget = '100%', reserve = 10 }\n";
    let rule = "\n[[rule]]\nname = \"r\"\nforward = \"all\"\ntimeouts = { total = \"700ms\" }\n";
    let file = forwarding(listen, &[hangs.address], group) + rule;
    let _ringgate = Ringgate::start(&file);
    let began = Instant::now();
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (504, "deadline_exceeded"));
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!((2..=4).contains(&hangs.requests().len()), "{}", hangs.requests().len());
}

#[test]
fn no_attempt_begins_or_is_opened_behind_the_deadline() {
    // It takes connections, and never says what a session begins with.
    let silent = Origin::script(|conn| {
        let _ = conn.wire.rest();
        Ok(())
    });
    let failing = Origin::answering(FAILS);
    for (target, group) in [
        (&silent, "protocol = \"h2c\""),
        (&silent, "tls = { verify = false }"),
        (&silent, "retry = { per_try = '10s', budget = '100%' }\nprotocol = \"h2c\""),
        (&failing, "retry = { back_off = '30s', attempts = 5, budget = '100%', reserve = 10 }"),
    ] {
        let listen = free_address();
        let group = format!("{group}\ntimeouts = {{ connect = \"60s\" }}\n");
        let rule =
            "\n[[rule]]\nname = \"r\"\nforward = \"all\"\ntimeouts = { total = \"500ms\" }\n";
        let file = forwarding(listen, &[target.address], &group) + rule;
        let ringgate = Ringgate::start(&file);
        let answer = get(listen, "/");
        assert_eq!((answer.status(), answer.reason()), (504, "deadline_exceeded"), "{group}");
        assert!(failing.requests().len() <= 3, "{}", failing.requests().len());
        drop(ringgate);
    }
}

// A connection that was fresh has not died of old age.
#[test]
fn what_fails_at_once_is_repeated_at_the_cost_of_the_budget() {
    let dying = Origin::script(|conn| conn.request().map(drop));
    let nothing = "retry = { budget = '0%', reserve = 0 }\n";
    let (listen, ringgate) = start(&[&dying], nothing);
    (0..5).for_each(|_| assert_eq!(get(listen, "/").status(), 502));
    assert_eq!(dying.requests().len(), 5, "nobody pays");
    drop(ringgate);
    let (listen, ringgate) = start(&[&dying], "");
    assert_eq!(get(listen, "/").status(), 502);
    assert_eq!(dying.requests().len(), 7, "once more where nothing is said");
    drop(ringgate);
    // Nobody listens there.
    let gone: Vec<SocketAddr> = (0..5).map(|_| free_address()).collect();
    let group = "retries = 4\nretry = { attempts = 1, budget = '100%', reserve = 10 }\n";
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &gone, group));
    let dialled = || ringgate.sum("ringgate_target_connect_errors_total", &[]);
    assert_eq!((get(listen, "/").reason(), dialled()), ("connect_failed", 2.0));
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(Client::connect(listen).send(post).response().reason(), "connect_failed");
    assert_eq!(dialled(), 7.0, "what may not be repeated is dialled as without it");
}

#[test]
fn hedges_fill_the_budget_once() {
    let slow = || {
        Origin::script(|conn| {
            while conn.request()?.is_some() {
                std::thread::sleep(Duration::from_millis(5));
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")?;
            }
            Ok(())
        })
    };
    let (one, two) = (slow(), slow());
    let group = "retry = { hedge = '1ms', budget = '20%', reserve = 0 }\n";
    let (listen, _ringgate) = start(&[&one, &two], group);
    let mut client = Client::connect(listen);
    (0..200).for_each(|_| assert_eq!(client.get("/").text(), "slow"));
    let sent = one.requests().len() + two.requests().len();
    assert!((220..=240).contains(&sent), "{sent} for 200");
}

#[test]
fn a_hedge_takes_one_place_and_says_when_to_come_again() {
    let (one, two) = (Origin::saying("one"), Origin::answering(FAILS));
    let listen = free_address();
    let group = "retry = { hedge = '5s', attempts = 0 }\nbreaker = { requests = 1, failure_share = '1%', open = '30s' }\n";
    let file = forwarding(listen, &[one.address, two.address], group);
    let _ringgate =
        Ringgate::start(&format!("[server]\nworkers = 1\n\n{file}\n[limits]\nin_flight = 1\n"));
    let answers: Vec<_> = (0..3).map(|_| get(listen, "/")).collect();
    assert!(answers.iter().all(|answer| answer.reason() != "shed"), "{answers:?}");
    assert!(answers.iter().any(|answer| answer.text() == "bad"), "{answers:?}");
    let refused = get(listen, "/");
    assert_eq!((refused.status(), refused.reason()), (503, "breaker_open"));
    let again: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((2..=30).contains(&again), "{again}");
}

#[test]
fn a_storm_is_bounded_by_the_budget() {
    let seen = Arc::new(AtomicUsize::new(0));
    let failing = || {
        let seen = Arc::clone(&seen);
        Origin::script(move |conn| {
            while conn.wire.request()?.is_some() {
                seen.fetch_add(1, Ordering::Relaxed);
                conn.send(FAILS)?;
            }
            Ok(())
        })
    };
    let (one, two) = (failing(), failing());
    let group = "retry = { attempts = 3, budget = '20%', reserve = 0, back_off = '0ms' }\n";
    let (listen, _ringgate) = start(&[&one, &two], group);
    let load = Load::start(listen, 8, |answer| answer.status() == 503);
    support::eventually("some thousands of requests", || load.answered() > 4000);
    let offered = load.stop_without_failures();
    let sent = seen.load(Ordering::Relaxed);
    // Requests on their way when the load stops are one for each connection.
    assert!(sent <= offered + offered / 5 + 8 * 2, "{sent} for {offered}");
    assert!(sent >= offered + offered / 6, "the budget is used: {sent} for {offered}");
}

#[test]
fn a_slow_target_is_hedged_and_the_first_good_answer_counts() {
    let slow = Origin::script(|conn| {
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(1500));
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")?;
        }
        Ok(())
    });
    let fast = Origin::saying("fast");
    let group = "retry = { hedge = '100ms', budget = '100%', reserve = 10 }\n";
    let (listen, ringgate) = start(&[&slow, &fast], group);
    let mut client = Client::connect(listen);
    for _ in 0..6 {
        let began = Instant::now();
        assert_eq!(client.get("/").text(), "fast");
        assert!(began.elapsed() < Duration::from_millis(1400), "{:?}", began.elapsed());
    }
    assert!(!slow.requests().is_empty(), "half of them began there");
    for method in ["POST", "PUT", "DELETE"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi");
        let before = slow.requests().len() + fast.requests().len();
        client.send(request).response();
        let after = slow.requests().len() + fast.requests().len();
        assert_eq!(after, before + 1, "{method} changes something");
    }
    drop(ringgate);
}

/// Hazard H2-05: nobody works for a stream that was reset, on either connection.
#[test]
fn a_hedge_ends_with_the_stream_that_asked_for_it() {
    let gone = Arc::new(AtomicUsize::new(0));
    let slow = || {
        let counting = Arc::clone(&gone);
        Origin::script(move |conn| {
            while conn.request()?.is_some() {}
            counting.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let (one, other) = (slow(), slow());
    let group = "retry = { hedge = '50ms', budget = '100%', reserve = 10 }\n";
    let (listen, _ringgate) = start(&[&one, &other], group);
    let mut h2 = H2::open(listen);
    h2.get(1, "/");
    let asked = || one.requests().len() + other.requests().len();
    support::eventually("both are asked", || asked() == 2);
    // RST_STREAM with CANCEL.
    h2.frame(3, 0, 1, 8_u32.to_be_bytes());
    support::eventually("both are broken off", || gone.load(Ordering::SeqCst) == 2);
}

#[test]
fn what_fails_before_a_hedge_is_tried_again() {
    let (bad, good) = (Origin::answering(FAILS), Origin::saying("good"));
    let group = "retry = { hedge = '5s', budget = '100%', reserve = 10 }\n";
    let (listen, _ringgate) = start(&[&bad, &good], group);
    let mut client = Client::connect(listen);
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(!bad.requests().is_empty());
}

#[test]
fn a_hedge_carries_long_answers_and_bad_ones_lose() {
    let large = "x".repeat(300_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{large}", large.len());
    let good = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(250));
            conn.send(&head)?;
        }
        Ok(())
    });
    let bad = Origin::script(|conn| {
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(150));
            conn.send(FAILS)?;
        }
        Ok(())
    });
    let group = "retry = { hedge = '50ms', budget = '100%', reserve = 10 }\n";
    let (listen, _ringgate) = start(&[&bad, &good], group);
    let mut client = Client::connect(listen);
    for _ in 0..4 {
        let answer = client.get("/x");
        assert_eq!((answer.status(), answer.body.len()), (200, large.len()));
    }
    let mut h2 = H2::open(listen);
    let answer = h2.fetch(1, "/");
    assert_eq!((answer.status(), answer.body.len()), (200, large.len()));
}
