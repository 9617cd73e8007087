//! What keeps targets from harm, over real sockets: bounds that hold for the machine, their queue, ejection of outliers,
//! breakers, and who is shed first.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::h2raw::{H2, RST_STREAM};
use support::ringgate::ask;
use support::{Client, H2Origin, Load, Origin, PATIENCE, Ringgate, eventually, free_address, get};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn config(listen: SocketAddr, workers: usize, targets: &[SocketAddr], group: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    let targets = targets.join(", ");
    format!(
        "[server]\nworkers = {workers}\npin = false\n\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n\
         [[rule]]\nname = \"high\"\nwhen = {{ path = \"/high*\" }}\nforward = \"g\"\nimportance = \"high\"\n\n\
         [[rule]]\nname = \"low\"\nwhen = {{ path = \"/low*\" }}\nforward = \"g\"\nimportance = \"low\"\n\n\
         [[rule]]\nname = \"all\"\nforward = \"g\"\n\n\
         [group.g]\ntargets = [{targets}]\nhealth = {{ type = \"off\" }}\n{group}\n"
    )
}

fn start(workers: usize, targets: &[&Origin], group: &str) -> (Ringgate, SocketAddr) {
    let targets: Vec<SocketAddr> = targets.iter().map(|origin| origin.address).collect();
    let listen = free_address();
    (Ringgate::start(&config(listen, workers, &targets, group)), listen)
}

// An origin that counts how many requests it has at the same time.
struct Counting {
    origin: Origin,
    most: Arc<AtomicUsize>,
}

fn counting(takes: Duration) -> Counting {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let highest = Arc::clone(&most);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            highest.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::sleep(takes);
            // Before the answer: once it is there, the next may be, too.
            now.fetch_sub(1, SeqCst);
            conn.send(OK)?;
        }
        Ok(())
    });
    Counting { origin, most }
}

// An origin that answers each request once it is let go on, and remembers in which order they came.
struct Held {
    origin: Origin,
    release: mpsc::Sender<()>,
}

fn held() -> Held {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            conn.send(OK)?;
        }
        Ok(())
    });
    Held { origin, release }
}

impl Held {
    fn paths(&self) -> Vec<String> {
        self.origin.requests().iter().map(|request| request.target().to_owned()).collect()
    }
}

fn asking(listen: SocketAddr, path: &str) -> Client {
    let mut client = Client::connect(listen);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    client
}

fn queued(ringgate: &Ringgate) -> f64 {
    ringgate.metric("ringgate_queue_length{group=\"g\"}").unwrap_or(-1.0)
}

// So many clients, each on connections of its own, that ask so often; every status that is not 200.
fn hurry(listen: SocketAddr, clients: usize, times: usize) -> Vec<u16> {
    std::thread::scope(|scope| {
        let ask = || -> Vec<u16> {
            let mut client = Client::connect(listen);
            (0..times).map(|_| client.get("/").status()).filter(|status| *status != 200).collect()
        };
        let asked: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().flat_map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn never_one_request_more_than_a_target_may_have_and_nobody_starves() {
    for workers in [1, 2, 4] {
        let target = counting(Duration::from_millis(2));
        let bounds = "bounds = { max_requests = 10, queue_timeout = \"10s\" }";
        let (ringgate, listen) = start(workers, &[&target.origin], bounds);
        // More than once on a machine where one place or the other is always on its way between workers.
        for _ in 0..4 {
            assert_eq!(hurry(listen, 32, 25), [] as [u16; 0], "{workers} workers");
            if target.most.load(SeqCst) >= 10 {
                break;
            }
        }
        let most = target.most.load(SeqCst);
        assert_eq!(most, 10, "{workers} workers");
        assert!(ringgate.metric("ringgate_queue_waits_total{group=\"g\"}").unwrap() > 0.0);
        assert_eq!(queued(&ringgate), 0.0);
        let left = || ringgate.sum("ringgate_target_in_flight_requests", &[]);
        eventually("every place has come back", || left() == 0.0);
    }
}

#[test]
fn a_full_target_is_passed_over() {
    let (full, free) = (held(), counting(Duration::ZERO));
    let (_ringgate, listen) =
        start(2, &[&full.origin, &free.origin], "bounds = { max_requests = 1 }");
    // Whichever gets it, one of two goes to the one that does not answer.
    let waiting: Vec<Client> = (0..2).map(|_| asking(listen, "/")).collect();
    eventually("it is busy", || full.origin.requests().len() == 1);
    for _ in 0..10 {
        assert_eq!(get(listen, "/").status(), 200);
    }
    assert_eq!(full.origin.requests().len(), 1);
    full.release.send(()).unwrap();
    waiting.into_iter().for_each(|mut client| assert_eq!(client.response().status(), 200));
}

#[test]
fn who_waits_is_bounded_in_number_and_time_and_may_leave() {
    let target = held();
    let bounds = "bounds = { max_requests = 1, queue = 2, queue_timeout = \"700ms\" }";
    let (ringgate, listen) = start(2, &[&target.origin], bounds);
    let mut first = asking(listen, "/first");
    eventually("the target is busy", || target.origin.requests().len() == 1);
    let mut late = asking(listen, "/late");
    eventually("it waits", || queued(&ringgate) == 1.0);
    let began = Instant::now();
    // One leaves by closing its connection, and one by resetting its stream.
    let leaving = asking(listen, "/leaving");
    eventually("two wait", || queued(&ringgate) == 2.0);
    let refused = get(listen, "/refused");
    assert_eq!((refused.status(), refused.reason()), (503, "queue_full"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(leaving);
    let answer = late.response();
    assert_eq!((answer.status(), answer.reason()), (503, "queue_timeout"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(began.elapsed() < PATIENCE);
    eventually("nobody waits", || queued(&ringgate) == 0.0);
    let mut h2 = H2::open(listen);
    h2.get(1, "/stream");
    eventually("the stream waits", || queued(&ringgate) == 1.0);
    h2.frame(RST_STREAM, 0, 1, 8_u32.to_be_bytes());
    eventually("it has left", || queued(&ringgate) == 0.0);
    let mut last = asking(listen, "/last");
    eventually("another waits", || queued(&ringgate) == 1.0);
    (0..2).for_each(|_| target.release.send(()).unwrap());
    assert_eq!((first.response().status(), last.response().status()), (200, 200));
    assert_eq!(target.paths(), ["/first", "/last"]);
    assert_eq!(ringgate.metric("ringgate_queue_timeouts_total{group=\"g\"}"), Some(1.0));
    assert_eq!(ringgate.metric("ringgate_queue_refusals_total{group=\"g\"}"), Some(1.0));
}

#[test]
fn the_more_important_go_first_and_then_who_came_first() {
    let target = held();
    let bounds = "bounds = { max_requests = 1, queue_timeout = \"10s\" }";
    let (ringgate, listen) = start(1, &[&target.origin], bounds);
    let order = ["/first", "/low/1", "/2", "/high/3", "/low/4", "/5", "/high/6"];
    let mut clients = Vec::new();
    for (n, path) in order.iter().enumerate() {
        clients.push(asking(listen, path));
        eventually("it is there", || {
            target.origin.requests().len() == 1 && queued(&ringgate) == n as f64
        });
    }
    order.iter().for_each(|_| target.release.send(()).unwrap());
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(target.paths(), ["/first", "/high/3", "/high/6", "/2", "/5", "/low/1", "/low/4"]);
}

// Idle connections of one worker are closed for requests of another; whoever asks gets one in the end.
#[test]
fn never_one_connection_more_than_a_target_may_have() {
    for workers in [1, 4] {
        let target = connections();
        let bounds = "bounds = { max_connections = 3, queue_timeout = \"10s\" }";
        let (ringgate, listen) = start(workers, &[&target.origin], bounds);
        for _ in 0..12 {
            // One after the other, on whichever worker: all but its own connections are idle.
            assert_eq!(get(listen, "/").status(), 200);
        }
        assert_eq!(hurry(listen, 16, 12), [] as [u16; 0], "{workers} workers");
        let most = target.most.load(SeqCst);
        assert!((2..=3).contains(&most), "{most} with {workers} workers");
        let open = ringgate.sum("ringgate_target_opened_connections", &[]);
        assert!(open <= 3.0, "{open}");
    }
}

// An origin that looks, at each connection, how many others are not closed by its peer.
fn connections() -> Counting {
    let most = Arc::new(AtomicUsize::new(0));
    let (highest, open) = (Arc::clone(&most), Mutex::new(Vec::new()));
    let origin = Origin::script(move |conn| {
        let stream = conn.wire.stream.try_clone()?;
        {
            let mut open = open.lock().unwrap();
            open.push(stream);
            open.retain(|stream: &std::net::TcpStream| {
                use rustix::net::RecvFlags;
                let mut octet = [0];
                let seen = rustix::net::recv(
                    stream,
                    &mut octet[..],
                    RecvFlags::DONTWAIT | RecvFlags::PEEK,
                );
                !matches!(seen, Ok((0, _)))
            });
            highest.fetch_max(open.len(), SeqCst);
        }
        while conn.request()?.is_some() {
            std::thread::sleep(Duration::from_millis(2));
            conn.send(OK)?;
        }
        Ok(())
    });
    Counting { origin, most }
}

// Over HTTP/2 a request is a stream.
#[test]
fn streams_are_requests_and_their_connections_connections() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let target = H2Origin::script(&[], move |conn| {
        while let Some((stream, request)) = conn.request() {
            if request.header(":path") == Some("/held") {
                let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            }
            conn.answer(stream, &[], b"ok");
        }
    });
    let listen = free_address();
    let bounds = "protocol = \"h2c\"\nbounds = { max_requests = 1, queue = 0 }";
    let ringgate = Ringgate::start(&config(listen, 4, &[target.address], bounds));
    let mut held = asking(listen, "/held");
    eventually("the stream is open", || target.requests().len() == 1);
    for _ in 0..8 {
        assert_eq!(get(listen, "/").reason(), "queue_full");
    }
    release.send(()).unwrap();
    assert_eq!(held.response().status(), 200);
    eventually("its place is free", || get(listen, "/").status() == 200);
    drop(ringgate);
    let bounds = "protocol = \"h2c\"\nbounds = { max_connections = 1, queue_timeout = \"10s\" }";
    let ringgate = Ringgate::start(&config(listen, 4, &[target.address], bounds));
    for _ in 0..16 {
        assert_eq!(get(listen, "/").status(), 200);
        let open = ringgate.sum("ringgate_target_opened_connections", &[]);
        assert!(open <= 1.0, "{open}");
    }
}

// One connection with one stream: whoever waits is called in vain, and must neither keep the worker busy nor be forgotten.
#[test]
fn who_waits_for_a_stream_keeps_nobody_waiting() {
    const MAX_STREAMS: u16 = 3;
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let target = H2Origin::script(&[(MAX_STREAMS, 1)], move |conn| {
        while let Some((stream, _)) = conn.request() {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            conn.answer(stream, &[], b"ok");
        }
    });
    let listen = free_address();
    let bounds = "protocol = \"h2c\"\nbounds = { max_connections = 1, queue_timeout = \"600ms\" }\n\n\
                  [[rule]]\nname = \"own\"\nwhen = { path = \"/own\" }\nrespond = { status = 204 }";
    let ringgate = Ringgate::start(&config(listen, 1, &[target.address], bounds));
    // Together at first: they wait for the same connection to open, and one of them gets its stream.
    let mut asked: Vec<Client> = (0..3).map(|n| asking(listen, &format!("/{n}"))).collect();
    eventually("two wait", || target.requests().len() == 1 && queued(&ringgate) == 2.0);
    assert_eq!(get(listen, "/own").status(), 204, "the worker has time for others");
    // Whoever has the stream is not answered yet.
    let first: usize = target.requests()[0].header(":path").unwrap()[1..].parse().unwrap();
    let mut first = asked.remove(first);
    for late in &mut asked {
        assert_eq!(late.response().reason(), "queue_timeout");
    }
    // Nobody was told of room again and again that is none.
    let waits = ringgate.metric("ringgate_queue_waits_total{group=\"g\"}").unwrap();
    assert!(waits < 20.0, "{waits} for two");
    let mut next = asking(listen, "/next");
    eventually("another waits", || queued(&ringgate) == 1.0);
    release.send(()).unwrap();
    assert_eq!(first.response().status(), 200);
    release.send(()).unwrap();
    assert_eq!(next.response().status(), 200, "and is served by the same connection");
    assert_eq!(target.connections(), 1);
}

// An origin that answers what it is told: a status, after a word to go on.
fn told(status: u16) -> Held {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
            conn.send(format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n"))?;
        }
        Ok(())
    });
    Held { origin, release }
}

#[test]
fn a_second_attempt_waits_for_whom_the_first_was_not_with() {
    let (bad, good) = (moody("bad"), held());
    let group = "bounds = { max_requests = 1, queue_timeout = \"10s\" }\n\
                 retry = { attempts = 1, on = [\"500\"], budget = \"100%\", reserve = 10 }";
    let (ringgate, listen) = start(1, &[&bad.origin, &good.origin], group);
    // One of two goes to the one that does not answer; the other fails, and can only wait for that one.
    let mut asked: Vec<Client> = (0..2).map(|_| asking(listen, "/")).collect();
    eventually("one of them waits", || queued(&ringgate) == 1.0);
    assert_eq!((bad.origin.requests().len(), good.origin.requests().len()), (1, 1));
    // Who stands behind it need not wait as well.
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(Client::connect(listen).send(post).response().status(), 500);
    assert_eq!((queued(&ringgate), good.origin.requests().len()), (1.0, 1));
    (0..2).for_each(|_| good.release.send(()).unwrap());
    asked.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert_eq!(bad.origin.requests().len(), 2);
}

#[test]
fn a_second_attempt_has_a_time_of_its_own_to_wait() {
    let target = told(503);
    let group = "bounds = { max_requests = 1, queue_timeout = \"800ms\" }\n\
                 retry = { attempts = 1, on = [\"503\"], budget = \"100%\", reserve = 10, back_off = \"0ms\" }";
    let (ringgate, listen) = start(1, &[&target.origin], group);
    let post = "POST /first HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n";
    let mut first = Client::connect(listen);
    first.send(post);
    eventually("the target is busy", || target.origin.requests().len() == 1);
    let mut twice = asking(listen, "/twice");
    eventually("it waits", || queued(&ringgate) == 1.0);
    target.release.send(()).unwrap();
    assert_eq!(first.response().status(), 503);
    eventually("it has its turn", || target.origin.requests().len() == 2);
    // Longer than any may wait, from when it began to.
    std::thread::sleep(Duration::from_millis(800));
    let mut other = Client::connect(listen);
    other.send(post.replace("first", "other"));
    eventually("another waits", || queued(&ringgate) == 1.0);
    target.release.send(()).unwrap();
    eventually("the other has its turn", || target.origin.requests().len() == 3);
    eventually("the first waits again", || queued(&ringgate) == 1.0);
    (0..2).for_each(|_| target.release.send(()).unwrap());
    assert_eq!(other.response().status(), 503);
    let answer = twice.response();
    assert_eq!(answer.reason(), "-", "the target's own answer");
    assert_eq!(target.paths(), ["/first", "/twice", "/other", "/twice"]);
}

#[test]
fn a_tunnel_keeps_its_place() {
    let target = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if request.header("upgrade").is_none() {
                conn.send(OK)?;
                continue;
            }
            conn.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            )?;
            let _ = std::io::Read::read(&mut conn.wire.stream, &mut [0]);
            return Ok(());
        }
        Ok(())
    });
    let (_ringgate, listen) = start(2, &[&target], "bounds = { max_requests = 1, queue = 0 }");
    let mut tunnel = Client::connect(listen);
    tunnel.send(
        "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.response().status(), 101);
    assert_eq!(get(listen, "/").reason(), "queue_full");
    drop(tunnel);
    eventually("its place is free", || get(listen, "/").status() == 200);
}

// ---------------------------------------------------------------- outliers

// A target whose behaviour can be changed: "good", "bad", "hang", "later".
struct Moody {
    origin: Origin,
    mood: Arc<Mutex<&'static str>>,
}

fn moody(mood: &'static str) -> Moody {
    let mood = Arc::new(Mutex::new(mood));
    let its = Arc::clone(&mood);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let mood = *its.lock().unwrap();
            match mood {
                "bad" => conn.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?,
                "later" => {
                    conn.send("HTTP/1.1 503 Later\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")?
                }
                "hang" => drop(conn.request()?),
                _ => conn.send(OK)?,
            }
        }
        Ok(())
    });
    Moody { origin, mood }
}

fn ejections(ringgate: &Ringgate, labels: &[&str]) -> f64 {
    ringgate.sum("ringgate_target_ejections_total", labels)
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

// Hazards RT-22, UP-18: four workers, none of which has seen enough by itself.
#[test]
fn failures_in_a_row_are_counted_by_all_workers_together() {
    let targets = [moody("good"), moody("bad"), moody("good")];
    let origins: Vec<&Origin> = targets.iter().map(|target| &target.origin).collect();
    let outlier = "outlier = { ejection = \"1s\", longest = \"1s\" }";
    let (ringgate, listen) = start(4, &origins, outlier);
    let statuses: Vec<u16> = (0..90).map(|_| get(listen, "/").status()).collect();
    let failed = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!((failed, targets[1].origin.requests().len()), (5, 5));
    let page: serde_json::Value =
        serde_json::from_slice(&ask(ringgate.admin(), "/targets").body).unwrap();
    let group = &page["groups"][0];
    assert_eq!(group["ejected"], 1, "{page:#}");
    let ejection = &group["targets"][1]["ejection"];
    assert_eq!(ejection["reason"], "consecutive_failures", "{page:#}");
    assert_eq!(ringgate.sum("ringgate_target_ejected", &[]), 1.0);
    // When it comes back and fails still, one failure is enough.
    eventually("it was tried again", || {
        let _ = get(listen, "/");
        ejections(&ringgate, &["consecutive_failures"]) == 2.0
    });
    assert_eq!(targets[1].origin.requests().len(), 6);
    *targets[1].mood.lock().unwrap() = "good";
    eventually("it is back for good", || {
        (0..3).for_each(|_| assert_ne!(get(listen, "/").status(), 503));
        targets[1].origin.requests().len() > 9
    });
    assert_eq!(ringgate.sum("ringgate_target_ejected", &[]), 0.0);
    let log = ringgate.output();
    assert_eq!(count(&log, "target taken out"), 2, "{log}");
    assert_eq!(count(&log, "target taken back"), 2, "{log}");
}

// Hazard UP-10
#[test]
fn where_all_are_bad_most_stay() {
    let targets = [moody("bad"), moody("bad"), moody("bad"), moody("bad")];
    let origins: Vec<&Origin> = targets.iter().map(|target| &target.origin).collect();
    let (ringgate, listen) = start(2, &origins, "outlier = true");
    for _ in 0..60 {
        assert_eq!(get(listen, "/").status(), 500, "there is always a target");
    }
    assert_eq!(ejections(&ringgate, &[]), 2.0);
    let (_ringgate, listen) = start(2, &origins[..1], "outlier = true");
    (0..20).for_each(|_| assert_eq!(get(listen, "/").status(), 500));
}

#[test]
fn who_says_when_to_come_again_is_left_alone_until_then() {
    let targets = [moody("good"), moody("later")];
    let origins: Vec<&Origin> = targets.iter().map(|target| &target.origin).collect();
    let (ringgate, listen) = start(2, &origins, "outlier = { failures = [] }");
    let began = Instant::now();
    let statuses: Vec<u16> = (0..40).map(|_| get(listen, "/").status()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 1);
    assert_eq!(ejections(&ringgate, &["retry_after"]), 1.0);
    *targets[1].mood.lock().unwrap() = "good";
    eventually("it is asked again", || {
        let _ = get(listen, "/");
        targets[1].origin.requests().len() > 1
    });
    assert!(began.elapsed() >= Duration::from_secs(2));
    // The last one is asked whatever it says.
    let (_ringgate, listen) = {
        *targets[1].mood.lock().unwrap() = "later";
        start(2, &origins[1..], "outlier = true")
    };
    (0..5).for_each(|_| assert_eq!(get(listen, "/").status(), 503));
}

// What the queue has used up of a request's time is not held against whoever gets it then.
#[test]
fn a_target_is_blamed_for_its_own_time_only() {
    let targets = [held(), held()];
    let group = "bounds = { max_requests = 1, queue_timeout = \"10s\" }\noutlier = { consecutive = 1, ejection = \"60s\" }\n\n\
                 [[rule]]\nname = \"short\"\nwhen = { path = \"/short\" }\nforward = \"g\"\ntimeouts = { total = \"1s\" }";
    let origins: Vec<&Origin> = targets.iter().map(|target| &target.origin).collect();
    let (ringgate, listen) = start(1, &origins, group);
    let asked = || targets.iter().map(|target| target.origin.requests().len()).sum::<usize>();
    let mut busy: Vec<Client> = (0..2).map(|_| asking(listen, "/")).collect();
    eventually("both are busy", || asked() == 2);
    let mut short = asking(listen, "/short");
    eventually("it waits", || queued(&ringgate) == 1.0);
    std::thread::sleep(Duration::from_millis(700));
    targets[0].release.send(()).unwrap();
    assert_eq!(short.response().reason(), "deadline_exceeded");
    assert_eq!(ejections(&ringgate, &[]), 0.0);
    // A target that has had nearly all of it has failed.
    targets[1].release.send(()).unwrap();
    busy.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    let answer = get(listen, "/short");
    assert_eq!(answer.reason(), "deadline_exceeded");
    eventually("it is out", || ejections(&ringgate, &["consecutive_failures"]) == 1.0);
}

// The share of errors that clients see while one of three targets fails, with second attempts.
fn share_of_errors(mood: &'static str, seconds: u64) -> (usize, usize) {
    let targets = [moody("good"), moody("good"), moody("good")];
    let origins: Vec<&Origin> = targets.iter().map(|target| &target.origin).collect();
    let group = "outlier = { ejection = \"1s\" }\n\
        retry = { on = [\"connect\", \"reset\", \"timeout\", \"500-504\"], per_try = \"300ms\" }";
    let (_ringgate, listen) = start(2, &origins, group);
    let after_a_second = Arc::new(AtomicBool::new(false));
    let (late, errors) = (Arc::clone(&after_a_second), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&errors);
    let answered = Arc::new(AtomicUsize::new(0));
    let all = Arc::clone(&answered);
    let load = Load::start(listen, 8, move |answer| {
        if late.load(SeqCst) {
            all.fetch_add(1, SeqCst);
            seen.fetch_add(usize::from(answer.status() != 200), SeqCst);
        }
        true
    });
    eventually("all is well", || load.answered() > 100);
    *targets[1].mood.lock().unwrap() = mood;
    std::thread::sleep(Duration::from_secs(1));
    after_a_second.store(true, SeqCst);
    std::thread::sleep(Duration::from_secs(seconds));
    let (_, failed) = load.stop();
    assert_eq!(failed, [] as [String; 0]);
    (errors.load(SeqCst), answered.load(SeqCst))
}

#[test]
fn clients_see_next_to_nothing_of_a_target_that_fails() {
    for mood in ["bad", "hang"] {
        let (errors, answered) = share_of_errors(mood, 2);
        eprintln!("{mood}: {errors} of {answered}");
        assert!(answered > 100, "{answered}");
        assert!(errors * 1000 <= answered, "{mood}: {errors} of {answered}");
    }
}

#[test]
#[ignore = "takes a minute: the figure itself"]
fn clients_see_next_to_nothing_of_a_target_that_fails_for_long() {
    for mood in ["bad", "hang"] {
        let (errors, answered) = share_of_errors(mood, 30);
        eprintln!("{mood}: {errors} of {answered}");
        assert!(errors * 1000 <= answered, "{mood}: {errors} of {answered}");
    }
}

// ---------------------------------------------------------------- breakers

#[test]
fn a_breaker_opens_lets_trials_in_and_closes() {
    let gate = Arc::new((Mutex::new("bad"), Condvar::new()));
    let its = Arc::clone(&gate);
    let trials = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&trials);
    let target = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let mut mood = its.0.lock().unwrap();
            if *mood == "held" {
                seen.fetch_add(1, SeqCst);
                while *mood == "held" {
                    mood = its.1.wait_timeout(mood, PATIENCE).unwrap().0;
                }
            }
            let bad = *mood == "bad";
            drop(mood);
            let answer = if bad { "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n" } else { OK };
            conn.send(answer)?;
        }
        Ok(())
    });
    let breaker = "breaker = { requests = 6, trials = 2, open = \"1s\" }";
    let (ringgate, listen) = start(4, &[&target], breaker);
    for _ in 0..6 {
        assert_eq!(get(listen, "/").status(), 500);
    }
    let refused = get(listen, "/");
    assert_eq!((refused.status(), refused.reason()), (503, "breaker_open"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(ringgate.metric("ringgate_breaker_state{group=\"g\",state=\"open\"}"), Some(1.0));
    let asked = target.requests().len();
    *gate.0.lock().unwrap() = "held";
    // However many ask, on whichever worker: two are let in.
    let mut clients: Vec<Client> = Vec::new();
    eventually("two trials are under way", || {
        clients.push(asking(listen, "/"));
        std::thread::sleep(Duration::from_millis(10));
        trials.load(SeqCst) == 2
    });
    for _ in 0..20 {
        assert_eq!(get(listen, "/").reason(), "breaker_open");
    }
    assert_eq!(target.requests().len(), asked + 2);
    let page = ask(ringgate.admin(), "/targets").text();
    assert!(page.contains("\"state\": \"half_open\""), "{page}");
    *gate.0.lock().unwrap() = "good";
    gate.1.notify_all();
    eventually("it is closed", || get(listen, "/").status() == 200);
    assert_eq!(hurry(listen, 4, 5), [] as [u16; 0]);
    for state in ["open", "half_open", "closed"] {
        let series = format!("ringgate_breaker_transitions_total{{group=\"g\",state=\"{state}\"}}");
        assert_eq!(ringgate.metric(&series), Some(1.0), "{state}");
    }
    let log = ringgate.output();
    for line in ["the breaker has opened", "the breaker lets trials in", "the breaker has closed"] {
        assert_eq!(count(&log, line), 1, "{log}");
    }
}

// An answer that has begun well says enough: it may go on for hours.
#[test]
fn a_trial_whose_answer_does_not_end_keeps_nobody_out() {
    let target = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            match request.target() {
                "/bad" => conn.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")?,
                "/events" => {
                    conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n:\r\n")?;
                }
                _ => conn.send(OK)?,
            }
        }
        Ok(())
    });
    let (_ringgate, listen) =
        start(1, &[&target], "breaker = { requests = 2, trials = 1, open = \"1s\" }");
    (0..2).for_each(|_| assert_eq!(get(listen, "/bad").status(), 500));
    assert_eq!(get(listen, "/").reason(), "breaker_open");
    let mut events = Client::connect(listen);
    eventually("it is let in", || {
        events = asking(listen, "/events");
        events.wire.head().unwrap().unwrap().status() == 200
    });
    assert_eq!(get(listen, "/").status(), 200);
}

// ---------------------------------------------------------------- importance

#[test]
fn the_less_important_are_shed_first() {
    for workers in [1, 3] {
        let target = held();
        let listen = free_address();
        let text = config(listen, workers, &[target.origin.address], "");
        let ringgate = Ringgate::start(&format!("{text}\n[limits]\nin_flight = 20\n"));
        let mut waiting: Vec<Client> = Vec::new();
        let mut refused = BTreeSet::new();
        // Until each is refused: how many were in flight then.
        for (path, most) in [("/low", 16), ("/", 19), ("/high", 20)] {
            // What a worker holds unused counts as in use: it may refuse as many early as there are others.
            let mut misses = 0;
            while misses < 12 && waiting.len() < 30 {
                let before = target.origin.requests().len();
                let mut client = asking(listen, path);
                let deadline = Instant::now() + PATIENCE;
                let got_in = loop {
                    if target.origin.requests().len() > before {
                        break true;
                    }
                    let stream = &client.wire.stream;
                    stream.set_nonblocking(true).unwrap();
                    let answered = stream.peek(&mut [0]).is_ok();
                    stream.set_nonblocking(false).unwrap();
                    if answered {
                        break false;
                    }
                    assert!(Instant::now() < deadline, "neither in nor out");
                    std::thread::sleep(Duration::from_millis(1));
                };
                if got_in {
                    waiting.push(client);
                } else {
                    let answer = client.response();
                    assert_eq!((answer.status(), answer.reason()), (503, "shed"));
                    refused.insert(path);
                    misses += 1;
                }
            }
            let flying = waiting.len();
            let fits = flying <= most && flying + workers > most;
            assert!(fits, "{flying} of {most} with {path} and {workers} workers");
        }
        assert_eq!(refused.len(), 3);
        for importance in ["low", "normal", "high"] {
            let series = format!("ringgate_shed_requests_total{{importance=\"{importance}\"}}");
            assert_eq!(ringgate.metric(&series), Some(12.0), "{importance}");
        }
        waiting.iter().for_each(|_| target.release.send(()).unwrap());
        waiting.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    }
}

// ---------------------------------------------------------------- the file

#[test]
fn the_reference_shows_the_defaults() {
    use ringgate::protect::{BreakerSettings, Importance, OutlierSettings};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml");
    let config = ringgate::config::load(std::path::Path::new(path), &|_| None).unwrap();
    let group = config.groups.iter().find(|group| group.name == "protected").unwrap();
    assert_eq!(group.traffic.outlier, Some(OutlierSettings::default()));
    assert_eq!(group.traffic.breaker, Some(BreakerSettings::default()));
    let bounds = group.traffic.bounds.as_ref().unwrap();
    assert_eq!((bounds.max_connections, bounds.max_requests), (Some(200), Some(100)));
    assert_eq!((bounds.queue, bounds.queue_timeout), (1024, Some(Duration::from_secs(5))));
    let rule = config.rules.iter().find(|rule| rule.name == "protected").unwrap();
    assert_eq!(rule.traffic.importance, Importance::High);
}
