//! Whom a group's requests go to beside plain turns: time, bounds, slow start, zones, tiers, and weights that are changed.
//!
//! What follows from which numbers is tested with `balance`; here it is seen that the numbers are those of the machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use support::{Client, Origin, Ringgate, eventually, free_address, get};

/// One group with these targets and further lines, in a process of zone a.
fn file(listen: SocketAddr, targets: &[String], group: &str) -> String {
    let health = if group.contains("health") { "" } else { "health = { type = \"off\" }\n" };
    format!(
        "[server]\nzone = \"a\"\n\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [{}]\n{health}{group}\n",
        targets.join(", ")
    )
}

/// A target with further keys.
fn at(origin: &Origin, keys: &str) -> String {
    format!("{{ address = \"{}\"{keys} }}", origin.address)
}

/// Who answers so many requests of one client.
fn tally(listen: SocketAddr, requests: usize) -> HashMap<String, usize> {
    let mut client = Client::connect(listen);
    let mut counts = HashMap::new();
    for _ in 0..requests {
        *counts.entry(client.get("/").text()).or_default() += 1;
    }
    counts
}

fn names(listen: SocketAddr, requests: usize) -> Vec<String> {
    let mut names: Vec<String> = tally(listen, requests).into_keys().collect();
    names.sort();
    names
}

/// An origin whose probes succeed while it is well; its name is what it says.
fn checked(name: &'static str) -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let is_well = Arc::clone(&well);
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            let ill = request.target() == "/health" && !is_well.load(Ordering::SeqCst);
            let status = if ill { 503 } else { 200 };
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}", name.len());
            conn.send(format!("{head}\r\n\r\n{name}"))?;
        }
        Ok(())
    });
    (origin, well)
}

/// Two failures, since a machine that is busy answers late now and then.
const PROBES: &str = "health = { type = \"http\", path = \"/health\", interval = \"250ms\", timeout = \"250ms\", \
                      healthy = 1, unhealthy = 2 }\n";
/// One failure, and then none for as long as a test takes.
const ONE_PROBE: &str = "health = { type = \"http\", path = \"/health\", interval = \"300s\", timeout = \"5s\", \
                         unhealthy = 1 }\n";

// ---------------------------------------------------------------- tiers

#[test]
fn a_spare_is_used_only_while_nobody_of_the_first_tier_is_healthy() {
    let ((a, a_well), (b, b_well), (spare, spare_well)) =
        (checked("a"), checked("b"), checked("spare"));
    let targets = [at(&spare, ", tier = 1"), at(&a, ""), at(&b, "")];
    let listen = free_address();
    let _ringgate = Ringgate::start(&file(listen, &targets, PROBES));
    assert_eq!(names(listen, 12), ["a", "b"]);
    a_well.store(false, Ordering::SeqCst);
    eventually("b takes all", || names(listen, 6) == ["b"]);
    b_well.store(false, Ordering::SeqCst);
    eventually("the spare takes all", || names(listen, 6) == ["spare"]);
    // UP-11: open for the first tier only, so that a spare is not asked to do what nobody can.
    spare_well.store(false, Ordering::SeqCst);
    eventually("the first tier takes all", || names(listen, 6) == ["a", "b"]);
    b_well.store(true, Ordering::SeqCst);
    eventually("b takes all again", || names(listen, 6) == ["b"]);
}

#[test]
fn a_request_that_the_first_tier_refuses_is_tried_on_the_spare() {
    let spare = Origin::saying("spare");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let targets = [format!("\"{nobody}\""), at(&spare, ", tier = 3")];
    let listen = free_address();
    let _ringgate = Ringgate::start(&file(listen, &targets, "fail_open = false\n"));
    assert_eq!(names(listen, 5), ["spare"]);
}

// ---------------------------------------------------------------- zones

#[test]
fn the_own_zone_is_preferred_and_the_others_help_out() {
    let ((a1, _), (a2, a2_well), (b, _)) = (checked("a1"), checked("a2"), checked("b"));
    let targets = [at(&a1, ", zone = \"a\""), at(&a2, ", zone = \"a\""), at(&b, ", zone = \"b\"")];
    let listen = free_address();
    let ringgate =
        Ringgate::start(&file(listen, &targets, &format!("{PROBES}zones = \"prefer\"\n")));
    assert_eq!(names(listen, 12), ["a1", "a2"]);
    a2_well.store(false, Ordering::SeqCst);
    eventually("a2 is out", || !names(listen, 12).contains(&"a2".to_owned()));
    // Half of the zone is left, of which 70 % would be enough: 5 of 7 requests stay.
    let counts = tally(listen, 70);
    assert_eq!((counts["a1"], counts["b"]), (50, 20), "{counts:?}");
    ringgate.reload(&file(listen, &targets, &format!("{PROBES}zones = \"only\"\n")));
    eventually("b gets nothing", || names(listen, 12) == ["a1"]);
    ringgate.reload(&file(listen, &targets, PROBES));
    eventually("zones do not matter", || names(listen, 12) == ["a1", "b"]);
}

#[test]
fn a_group_without_the_own_zone_answers_503_where_it_is_the_only_one() {
    let b = Origin::saying("b");
    let listen = free_address();
    let targets = [at(&b, ", zone = \"b\"")];
    let ringgate = Ringgate::start(&file(listen, &targets, "zones = \"only\"\n"));
    let answer = get(listen, "/");
    assert_eq!((answer.status(), answer.reason()), (503, "no_target"));
    ringgate.reload(&file(listen, &targets, "zones = \"prefer\"\n"));
    eventually("it is better than none", || get(listen, "/").text() == "b");
}

// ---------------------------------------------------------------- slow start

#[test]
fn a_target_that_returns_to_others_begins_slowly() {
    // UP-10, UP-14.
    let ((a, _), (b, b_well)) = (checked("a"), checked("b"));
    let listen = free_address();
    let targets = [at(&a, ""), at(&b, "")];
    let slow = format!("{PROBES}slow_start = \"1h\"\n");
    let ringgate = Ringgate::start(&file(listen, &targets, &slow));
    let counts = tally(listen, 34);
    assert_eq!((counts["a"], counts["b"]), (17, 17), "a group that begins waits for nobody");
    b_well.store(false, Ordering::SeqCst);
    eventually("b is out", || names(listen, 6) == ["a"]);
    b_well.store(true, Ordering::SeqCst);
    eventually("b is back", || names(listen, 17).len() == 2);
    let counts = tally(listen, 170);
    assert_eq!((counts["a"], counts["b"]), (160, 10), "a sixteenth of its weight");
    // A reload does not begin anew, and does not end it.
    ringgate.reload(&file(listen, &targets, &format!("{slow}retries = 1\n")));
    let counts = tally(listen, 170);
    assert_eq!((counts["a"], counts["b"]), (160, 10));
    // One that is added begins slowly, too.
    let c = Origin::saying("c");
    let more = [at(&a, ""), at(&b, ""), at(&c, "")];
    ringgate.reload(&file(listen, &more, &slow));
    eventually("c is there", || names(listen, 36).len() == 3);
    let counts = tally(listen, 180);
    assert_eq!((counts["a"], counts["b"], counts["c"]), (160, 10, 10), "{counts:?}");
    // A group of which all is new waits for nobody.
    let (d, e) = (Origin::saying("d"), Origin::saying("e"));
    ringgate.reload(&file(listen, &[at(&d, ""), at(&e, "")], &slow));
    eventually("d and e are there", || names(listen, 2) == ["d", "e"]);
    let counts = tally(listen, 40);
    assert_eq!((counts["d"], counts["e"]), (20, 20));
}

#[test]
fn a_slow_start_ends_by_itself() {
    let a = Origin::saying("a");
    let (b, listen) = (Origin::saying("b"), free_address());
    let slow = "slow_start = \"600ms\"\n";
    let ringgate = Ringgate::start(&file(listen, &[at(&a, "")], slow));
    assert_eq!(names(listen, 3), ["a"]);
    ringgate.reload(&file(listen, &[at(&a, ""), at(&b, "")], slow));
    // Every worker plans anew without being told.
    for _ in 0..4 {
        eventually("both get the same", || {
            let counts = tally(listen, 40);
            counts.get("b") == Some(&20)
        });
    }
}

// ---------------------------------------------------------------- weights

#[test]
fn weights_change_at_the_next_request_and_nothing_is_forgotten() {
    let ((a, _), (b, b_well), (c, _)) = (checked("a"), checked("b"), checked("c"));
    let of = |weights: [u32; 3]| {
        let one = |(origin, weight): (&Origin, u32)| at(origin, &format!(", weight = {weight}"));
        [&a, &b, &c].into_iter().zip(weights).map(one).collect::<Vec<_>>()
    };
    let listen = free_address();
    b_well.store(false, Ordering::SeqCst);
    let ringgate = Ringgate::start(&file(listen, &of([1, 1, 1]), ONE_PROBE));
    eventually("b is out", || names(listen, 6) == ["a", "c"]);
    b_well.store(true, Ordering::SeqCst);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(listen)).collect();
    // Each client meets every target, so that each worker has its connections.
    let mut ask = |n: usize| clients[n / 2 % 4].get("/").text();
    (0..16).for_each(|n| drop(ask(n)));
    let connections = (a.connections(), c.connections());
    for weights in [[3, 9, 1], [1, 1, 4], [0, 5, 1], [2, 1, 2]] {
        ringgate.reload(&file(listen, &of(weights), ONE_PROBE));
        // Whatever worker a client is with: the round is the machine's.
        let mut counts: HashMap<String, u32> = HashMap::new();
        for n in 0..20 {
            *counts.entry(ask(n)).or_default() += 1;
        }
        let sum = weights[0] + weights[2];
        let share = |at: usize| 20 * weights[at] / sum;
        let got = |name: &str| counts.get(name).copied().unwrap_or_default();
        assert_eq!((got("a"), got("b"), got("c")), (share(0), 0, share(2)), "{weights:?}");
    }
    assert_eq!((a.connections(), c.connections()), connections, "connections were kept");
}

// ---------------------------------------------------------------- maglev and bounds

/// A gate at which requests wait.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    inside: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let shut = self.open.lock().unwrap();
        drop(self.opened.wait_timeout_while(shut, support::PATIENCE, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Origins that hold each request at the gate, and what each holds.
fn holding(count: usize, gate: &Arc<Gate>) -> (Vec<Origin>, Vec<Arc<AtomicUsize>>) {
    let held: Vec<Arc<AtomicUsize>> = (0..count).map(|_| Arc::default()).collect();
    let one = |held: &Arc<AtomicUsize>| {
        let (held, gate) = (Arc::clone(held), Arc::clone(gate));
        Origin::script(move |conn| {
            while conn.request()?.is_some() {
                held.fetch_add(1, Ordering::SeqCst);
                gate.pass();
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                held.fetch_sub(1, Ordering::SeqCst);
            }
            Ok(())
        })
    };
    (held.iter().map(one).collect(), held)
}

#[test]
fn one_key_spreads_when_its_target_is_full_and_returns_when_it_is_not() {
    for algorithm in [
        "algorithm = \"hash\"\nhash = { header = \"x-key\", bound = 1.5 }\n",
        "algorithm = \"maglev\"\nhash = { header = \"x-key\", bound = 1.5 }\n",
        "algorithm = \"ip_hash\"\nhash = { bound = 1.5 }\n",
    ] {
        let gate = Arc::new(Gate::default());
        let (origins, held) = holding(4, &gate);
        let targets: Vec<String> = origins.iter().map(|o| at(o, "")).collect();
        let listen = free_address();
        let ringgate = Ringgate::start(&file(listen, &targets, algorithm));
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Key: popular\r\n\r\n";
        let mut clients = Vec::new();
        for n in 1..=16 {
            let mut client = Client::connect(listen);
            client.send(request);
            clients.push(client);
            eventually("it is held", || gate.inside.load(Ordering::SeqCst) == n);
            // 1.5 of the average, all workers together: sent one by one there is no overshoot.
            let most = (1.5 * n as f64 / 4.0).ceil() as usize;
            let now: Vec<usize> = held.iter().map(|h| h.load(Ordering::SeqCst)).collect();
            assert!(now.iter().all(|h| *h <= most), "{algorithm}: {now:?} of {n}");
        }
        let busy = held.iter().filter(|h| h.load(Ordering::SeqCst) > 0).count();
        assert_eq!(busy, 3, "{algorithm}: no further than it must");
        gate.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
        drop(clients);
        // Who has the answer does not know yet that its place was given back.
        let active = || ringgate.sum("ringgate_group_active_requests", &[]);
        eventually("all have given their places back", || active() == 0.0);
        let before: Vec<usize> = origins.iter().map(|o| o.requests().len()).collect();
        let mut client = Client::connect(listen);
        for _ in 0..8 {
            assert_eq!(client.send(request).response().status(), 200);
        }
        let after = origins.iter().map(|o| o.requests().len());
        let fresh: Vec<usize> = after.zip(before).map(|(a, b)| a - b).collect();
        assert!(fresh.contains(&8), "{algorithm}: {fresh:?}");
    }
}

#[test]
fn maglev_keeps_keys_and_moves_few() {
    let origins: Vec<Origin> = ["a", "b", "c", "d"].iter().map(|n| Origin::saying(n)).collect();
    let targets: Vec<String> = origins.iter().map(|o| at(o, "")).collect();
    let maglev = "algorithm = \"maglev\"\nhash = { query = \"u\" }\n";
    let listen = free_address();
    let ringgate = Ringgate::start(&file(listen, &targets, maglev));
    let owners = || -> Vec<String> {
        let mut client = Client::connect(listen);
        (0..200).map(|n| client.get(&format!("/?u=user-{n}")).text()).collect()
    };
    let before = owners();
    assert_eq!(before, owners(), "the same on every connection");
    assert_eq!(before.iter().collect::<HashSet<_>>().len(), 4);
    ringgate.reload(&file(listen, &targets[..3], maglev));
    eventually("d gets nothing", || !owners().contains(&"d".to_owned()));
    let moved = before.iter().zip(owners()).filter(|(b, now)| *b != "d" && **b != *now).count();
    assert!(moved <= 20, "{moved} of 200 keys moved without need");
    // Without a hash it goes by the client's address.
    ringgate.reload(&file(listen, &targets, "algorithm = \"maglev\"\n"));
    eventually("one takes all of one address", || {
        let first = get(listen, "/").text();
        (0..10).all(|_| get(listen, "/").text() == first)
    });
}

// ---------------------------------------------------------------- least time

/// An origin that takes so many milliseconds to answer.
fn taking(name: &'static str, ms: u64) -> Origin {
    Origin::script(move |conn| {
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(ms));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", name.len());
            conn.send(format!("{head}\r\n\r\n{name}"))?;
        }
        Ok(())
    })
}

/// So many clients at the same time, each with so many requests, one after the other.
fn ask_together(listen: SocketAddr, clients: usize, requests: usize) {
    let one = move || {
        let mut client = Client::connect(listen);
        (0..requests).for_each(|_| assert_eq!(client.get("/").status(), 200));
    };
    let threads: Vec<_> = (0..clients).map(|_| std::thread::spawn(one)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn least_time_leaves_a_slow_target_alone() {
    let quick: Vec<_> = ["a", "b", "c"].iter().map(|name| taking(name, 5)).collect();
    let slow = taking("slow", 300);
    let mut targets: Vec<String> = quick.iter().map(|origin| at(origin, "")).collect();
    targets.push(at(&slow, ""));
    let listen = free_address();
    let _ringgate = Ringgate::start(&file(listen, &targets, "algorithm = \"least_time\"\n"));
    ask_together(listen, 8, 100);
    // What it takes depends on who else uses this machine; who gets it hardly does.
    let got = slow.requests().len();
    assert!(got >= 1, "a target that nobody knows is tried");
    assert!(got <= 80, "{got} of 800 went to the slow one");
}

#[test]
fn least_time_does_not_take_failing_fast_for_being_fast() {
    let good: Vec<_> = ["a", "b"].iter().map(|name| taking(name, 5)).collect();
    let broken = Origin::answering("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    let deaf = Origin::script(|conn| conn.request().map(|_| ()));
    let mut targets: Vec<String> = good.iter().map(|origin| at(origin, "")).collect();
    targets.extend([at(&broken, ""), at(&deaf, "")]);
    let listen = free_address();
    let _ringgate = Ringgate::start(&file(listen, &targets, "algorithm = \"least_time\"\n"));
    let mut client = Client::connect(listen);
    let mut failed = 0;
    for _ in 0..200 {
        if client.get("/").status() != 200 {
            failed += 1;
            client = Client::connect(listen);
        }
    }
    assert!(failed <= 20, "{failed} of 200 requests failed");
    assert!(!broken.requests().is_empty() && !deaf.requests().is_empty(), "each was tried");
}
