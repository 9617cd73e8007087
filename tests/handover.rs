//! Connections that pile up on one worker are handed to others when they are accepted, and none is lost on the way.
//!
//! Where the kernel puts a connection is chance; so the first ones are opened without handing over, and only those are kept that
//! came to worker 0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::SocketAddr;
use support::ringgate::ask;
use support::stopped::{Stopped, threads};
use support::{Client, Ringgate, eventually, free_address};

/// Connections of worker 0 to begin with. It hands over until another worker has eight fewer.
const PILE: usize = 24;

fn config(listen: SocketAddr, workers: usize, hand_over: bool, more: &str) -> String {
    format!(
        "[server]\nworkers = {workers}\npin = false\nhand_over = {hand_over}\n\n\
         [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
         default = {{ respond = {{ status = 200, body = \"ok\" }} }}\n{more}"
    )
}

fn of_worker(ringgate: &Ringgate, name: &str, worker: usize) -> usize {
    let series = format!("ringgate_{name}{{worker=\"{worker}\"}}");
    ringgate.metric(&series).unwrap_or(0.0) as usize
}

fn connections(ringgate: &Ringgate, workers: usize) -> Vec<usize> {
    (0..workers).map(|worker| of_worker(ringgate, "worker_connections", worker)).collect()
}

fn handed_over(ringgate: &Ringgate) -> f64 {
    ringgate.sum("ringgate_connections_handed_over_total", &[])
}

/// A process that hands over from now on, whose worker 0 has [`PILE`] connections and whose others have none.
fn piled(listen: SocketAddr, workers: usize, more: &str) -> (Ringgate, Vec<Client>) {
    let ringgate = Ringgate::start(&config(listen, workers, false, more));
    let mut pile = Vec::new();
    while pile.len() < PILE {
        let mut client = Client::connect(listen);
        assert_eq!(client.get("/").text(), "ok");
        if of_worker(&ringgate, "worker_connections", 0) > pile.len() {
            pile.push(client);
        } else {
            drop(client);
        }
    }
    let mut wanted = vec![0; workers];
    wanted[0] = PILE;
    eventually("only the pile is left", || connections(&ringgate, workers) == wanted);
    assert_eq!(handed_over(&ringgate), 0.0, "nothing is handed over unless asked for");
    ringgate.reload(&config(listen, workers, true, more));
    eventually("all workers have the new file", || {
        ask(ringgate.admin(), "/readyz").status() == 200
    });
    (ringgate, pile)
}

// Hazard RT-21.
#[test]
fn what_piles_up_on_one_worker_is_evened_out_by_new_connections() {
    for workers in [2, 3, 4] {
        let listen = free_address();
        let (ringgate, pile) = piled(listen, workers, "");
        // Until each of the others has eight fewer than worker 0, it keeps none, whatever the kernel chooses.
        let new = (PILE - 8) * (workers - 1);
        let mut clients: Vec<Client> = (0..new).map(|_| Client::connect(listen)).collect();
        let sum = PILE + new;
        eventually("all are served", || {
            connections(&ringgate, workers).iter().sum::<usize>() == sum
        });
        let spread = connections(&ringgate, workers);
        println!("{workers} workers: {spread:?}, handed over: {}", handed_over(&ringgate));
        assert_eq!(spread[0], PILE, "{spread:?}");
        assert!(handed_over(&ringgate) > 0.0, "2^-16 that the kernel gave none to worker 0");
        clients.extend(pile);
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "ok");
        }
        let of_listener = ringgate.sum("ringgate_connections", &["listener=\"web\""]);
        assert_eq!(of_listener as usize, sum, "counted once, by whoever serves");
        drop(clients);
        eventually("all are counted out", || {
            connections(&ringgate, workers).iter().sum::<usize>() == 0
        });
    }
}

#[test]
fn a_listener_that_is_steered_by_cpu_keeps_its_connections() {
    let listen = free_address();
    let text = config(listen, 2, true, "");
    let ringgate = Ringgate::start(&text.replace("default =", "steer = \"cpu\"\ndefault ="));
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(listen)).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "ok"));
    assert_eq!(handed_over(&ringgate), 0.0);
}

#[test]
fn reloads_and_a_drain_lose_no_connection_that_is_handed_over() {
    let (listen, other) = (free_address(), free_address());
    let (mut ringgate, pile) = piled(listen, 2, "");
    let more = format!(
        "[[listener]]\nname = \"other\"\nbind = [\"{other}\"]\n\
         default = {{ respond = {{ status = 200, body = \"ok\" }} }}\n"
    );
    let load = support::Load::start(listen, 4, |answer| answer.text() == "ok");
    for round in 0..6 {
        ringgate.reload(&config(listen, 2, true, if round % 2 == 0 { &more } else { "" }));
    }
    load.stop_without_failures();
    let before = handed_over(&ringgate);
    let mut clients: Vec<Client> = (0..PILE).map(|_| Client::connect(listen)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    ringgate.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    println!("handed over before the drain: {before}");
    drop(pile);
    assert!(ringgate.wait_exit().success());
}

// Hazard RT-02: what was handed to a worker that hangs is taken back.
#[test]
fn a_worker_that_hangs_keeps_nothing_that_was_handed_to_it() {
    let listen = free_address();
    let (ringgate, pile) = piled(listen, 2, "");
    let Some(stopped) = Stopped::stop(threads(&ringgate, "worker-1")[0]) else { return };
    let mut clients: Vec<Client> = (0..PILE).map(|_| Client::connect(listen)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    assert!(
        handed_over(&ringgate) > 0.0,
        "some were handed to the worker before it was silent for long"
    );
    drop((stopped, pile));
}
