//! Back ends that die and come back, and clients that behave badly, under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::ringgate::{ask, forwarding};
use support::{
    Client, Load, Message, Origin, PATIENCE, Ringgate, Wire, eventually, free_address, get,
};

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

// ---------------------------------------------------------------- targets that fail in every way (hazards UP-01 to UP-08, UP-16, UP-17, UP-23)

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It goes on.
    Open,
    /// Nothing more is said, and nothing closed.
    Hang,
    Fin,
    Reset,
}

/// A target that says a part of an answer and then fails, as its script has it for each request target. What has been
/// asked of it is counted, by method and target.
struct Failing {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

type Script = dyn Fn(&Message) -> (Vec<u8>, End) + Send + Sync;

impl Failing {
    fn start(script: impl Fn(&Message) -> (Vec<u8>, End) + Send + Sync + 'static) -> Failing {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let (counts, script) = (Arc::clone(&asked), Arc::new(script) as Arc<Script>);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counts, script) = (Arc::clone(&counts), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &counts, &*script));
            }
        });
        Failing { address, asked }
    }

    fn asked(&self, request: &str) -> usize {
        self.asked.lock().unwrap().get(request).copied().unwrap_or(0)
    }
}

fn serve(stream: TcpStream, counts: &Mutex<HashMap<String, usize>>, script: &Script) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire::new(stream);
    while let Ok(Some(request)) = wire.request() {
        let name = format!("{} {}", request.method(), request.target());
        *counts.lock().unwrap().entry(name).or_default() += 1;
        let (said, end) = script(&request);
        if wire.send(&said).is_err() {
            return;
        }
        match end {
            End::Open => {}
            End::Fin => return,
            End::Hang => {
                let _ = wire.rest();
                return;
            }
            End::Reset => {
                // Let what was said arrive: a reset takes back what has not been read.
                std::thread::sleep(Duration::from_millis(20));
                reset_on_close(&wire.stream);
                return;
            }
        }
    }
}

fn reset_on_close(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// What a client sees of a target's failure.
enum Seen {
    /// An answer of ringgate's.
    Answer(u16, &'static [&'static str]),
    /// A 200 that breaks off.
    Broken,
}

#[test]
fn each_way_to_fail_has_its_answer_and_hurts_no_other_request() {
    use End::{Fin, Hang, Reset};
    const CLOSED: &[&str] = &["target_closed", "target_reset"];
    const HEAD: &[&str] = &["bad_response_head", "target_closed", "target_reset"];
    const LATE: &[&str] = &["response_timeout"];
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (half, half_chunk) = (format!("{LENGTH}hello"), format!("{CHUNKS}a\r\nhello"));
    let no_end = format!("{CHUNKS}5\r\nhello\r\n");
    let cases: Vec<(&str, &[u8], End, Seen)> = vec![
        ("silence", b"", Hang, Seen::Answer(504, LATE)),
        ("close", b"", Fin, Seen::Answer(502, CLOSED)),
        ("reset", b"", Reset, Seen::Answer(502, CLOSED)),
        ("half-a-head", b"HTTP/1.1 200 OK\r\nContent-Le", Fin, Seen::Answer(502, HEAD)),
        ("half-a-head-reset", b"HTTP/1.1 200 OK\r\nCon", Reset, Seen::Answer(502, HEAD)),
        ("half-a-head-silence", b"HTTP/1.1 200 OK\r\nA: b", Hang, Seen::Answer(504, LATE)),
        ("one-octet", b"H", Hang, Seen::Answer(504, LATE)),
        ("garbage", b"\x16\x03\x01\x02\x00 garbage\r\n\r\n", Hang, Seen::Answer(502, HEAD)),
        ("words", b"I am not a server\r\n\r\n", Fin, Seen::Answer(502, HEAD)),
        ("h2", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64", Fin, Seen::Answer(502, HEAD)),
        ("no-colon", b"HTTP/1.1 200 OK\r\nnocolon\r\n\r\n", Hang, Seen::Answer(502, HEAD)),
        ("bad-status", b"HTTP/1.1 2000 OK\r\n\r\n", Hang, Seen::Answer(502, HEAD)),
        ("half-a-body", half.as_bytes(), Fin, Seen::Broken),
        ("half-a-body-reset", half.as_bytes(), Reset, Seen::Broken),
        ("half-a-body-silence", half.as_bytes(), Hang, Seen::Broken),
        ("no-body", LENGTH.as_bytes(), Fin, Seen::Broken),
        ("half-a-chunk", half_chunk.as_bytes(), Fin, Seen::Broken),
        ("half-a-chunk-reset", half_chunk.as_bytes(), Reset, Seen::Broken),
        ("half-a-chunk-silence", half_chunk.as_bytes(), Hang, Seen::Broken),
        ("no-last-chunk", no_end.as_bytes(), Fin, Seen::Broken),
    ];
    let scripts: HashMap<String, (Vec<u8>, End)> = cases
        .iter()
        .map(|(name, said, end, _)| (format!("/{name}"), (said.to_vec(), *end)))
        .collect();
    let target = Failing::start(move |request| {
        scripts.get(request.target()).cloned().unwrap_or((FINE.to_vec(), End::Open))
    });
    let listen = free_address();
    let group = "timeouts = { response = \"400ms\", connect = \"400ms\" }\n";
    let config = forwarding(listen, &[target.address], group);
    let mut ringgate = Ringgate::start(&format!("{config}\n[timeouts]\nbody = \"400ms\"\n"));
    for (name, _, _, seen) in &cases {
        for method in ["GET", "POST"] {
            let mut client = Client::connect(listen);
            client.send(format!(
                "{method} /{name} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
            ));
            match (client.wire.response(method), seen) {
                (Ok(Some(answer)), Seen::Answer(status, reasons)) => {
                    let reason = answer.reason();
                    let right = answer.status() == *status && reasons.contains(&reason);
                    assert!(right, "{method} {name}: {} {reason}", answer.start);
                    assert_eq!(client.get("/fine").text(), "fine", "after {method} {name}");
                }
                (Err(_), Seen::Broken) => {}
                (Ok(None), _) => panic!("{method} {name}: no answer"),
                (Ok(Some(answer)), Seen::Broken) => {
                    panic!("{method} {name}: whole: {} {:?}", answer.start, answer.text())
                }
                (Err(error), _) => panic!("{method} {name}: {error}"),
            }
            assert_eq!(get(listen, "/fine").text(), "fine", "after {method} {name}");
        }
        assert_eq!(target.asked(&format!("POST /{name}")), 1, "a POST was sent twice: {name}");
        assert!(target.asked(&format!("GET /{name}")) <= 2, "{name}");
    }
    ringgate.assert_alive();
}

/// A listening socket whose queue is full: whoever connects now waits. The sockets must be kept.
fn black_hole() -> (SocketAddr, std::os::fd::OwnedFd, Vec<TcpStream>) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let hole = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&hole, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&hole, 0).unwrap();
    let address = SocketAddr::try_from(getsockname(&hole).unwrap()).unwrap();
    let wait = Duration::from_millis(300);
    let connect = || TcpStream::connect_timeout(&address, wait).ok();
    let queued: Vec<TcpStream> = std::iter::from_fn(connect).take(64).collect();
    assert!(queued.len() < 64, "the queue takes everything");
    (address, hole, queued)
}

#[test]
fn connections_that_are_never_answered_time_out_and_are_tried_elsewhere() {
    let (hole, _socket, _queued) = black_hole();
    let target = Failing::start(|_| (FINE.to_vec(), End::Open));
    let post = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    for method in ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", post] {
        let listen = free_address();
        let group = "timeouts = { connect = \"300ms\" }\n";
        let _alone = Ringgate::start(&forwarding(listen, &[hole], group));
        let mut client = Client::connect(listen);
        let answer = client.send(method).response();
        assert_eq!((answer.status(), answer.reason()), (504, "connect_timeout"), "{method}");

        let listen = free_address();
        let _both = Ringgate::start(&forwarding(listen, &[hole, target.address], group));
        let mut client = Client::connect(listen);
        for _ in 0..4 {
            assert_eq!(client.send(method).response().text(), "fine", "{method}");
        }
    }
}

#[test]
fn answers_cut_at_any_byte_are_never_whole() {
    const ANSWERS: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    ];
    // /answer/cut/r: with a reset.
    let target = Failing::start(|request| {
        let mut parts = request.target().split('/').skip(1);
        let mut number = || parts.next().and_then(|p| p.parse::<usize>().ok());
        let (Some(answer), Some(cut)) = (number(), number()) else {
            return (FINE.to_vec(), End::Open);
        };
        let end = if request.target().ends_with('r') { End::Reset } else { End::Fin };
        (ANSWERS[answer][..cut].to_vec(), end)
    });
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[target.address], ""));
    for (number, answer) in ANSWERS.iter().enumerate() {
        for cut in 0..=answer.len() {
            // A reset waits for its octets to arrive: every third will do.
            for how in ["f", "r"].iter().take(if cut % 3 == 0 { 2 } else { 1 }) {
                let mut client = Client::connect(listen);
                let path = format!("/{number}/{cut}/{how}");
                client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
                match client.wire.response("GET") {
                    Ok(Some(got)) if got.status() == 200 => {
                        let whole = cut == answer.len() && got.text() == "hello";
                        assert!(whole, "{path}: taken for whole: {:?}", got.text());
                    }
                    Ok(Some(got)) => assert_eq!(got.status(), 502, "{path}: {}", got.reason()),
                    Ok(None) | Err(_) => assert!(cut > 30, "{path}: no answer at all"),
                }
            }
        }
        assert_eq!(get(listen, "/fine").text(), "fine");
    }
    ringgate.assert_alive();
}

#[test]
fn an_answer_whose_end_is_a_close_is_not_whole_where_its_request_broke_off() {
    let origin = Origin::script(|conn| {
        conn.wire.head()?;
        conn.send("HTTP/1.1 200 OK\r\n\r\n")?;
        // Not what is late.
        while conn.send("x").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let listen = free_address();
    let more = "[timeouts]\nbody = \"500ms\"\n";
    let _ringgate = Ringgate::start(&(forwarding(listen, &[origin.address], "") + more));
    let mut client = Client::connect(listen);
    client.send("POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 9\r\n\r\n1");
    let answer = client.wire.response("POST").map(|answer| answer.map(|a| a.text()));
    let reset = answer.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset);
    assert!(reset, "taken for whole: {answer:?}");
}

#[test]
fn idle_connections_that_close_just_then_cost_no_get_and_double_no_post() {
    // Each connection is closed at a random moment after its first answer, just when the next request may come.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
    let counts = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || answer_and_leave(stream, &counts));
        }
    });
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[address], ""));
    let clients: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(number);
                let mut posts = Vec::new();
                let mut client = Client::connect(listen);
                for n in 0..300 {
                    std::thread::sleep(Duration::from_micros(rng.u64(..3000)));
                    let (method, path) = (["GET", "POST"][n % 2], format!("/{number}-{n}"));
                    client.send(format!(
                        "{method} {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"
                    ));
                    let status = client.response().status();
                    assert!(
                        status == 200 || (method == "POST" && status == 502),
                        "{path}: {status}"
                    );
                    if method == "POST" {
                        posts.push((format!("POST {path}"), status));
                    }
                }
                posts
            })
        })
        .collect();
    let posts: Vec<(String, u16)> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    let asked = asked.lock().unwrap();
    for (post, status) in &posts {
        let times = asked.get(post).copied().unwrap_or(0);
        assert!(times <= 1, "{post} was carried out {times} times");
        assert!(times == 1 || *status == 502, "{post}: 200, and never carried out");
    }
    let lost = posts.iter().filter(|(_, status)| *status == 502).count();
    println!("{} POST, {lost} of them not answered", posts.len());
    assert!(lost > 0, "no close has crossed a request: nothing was tested");
    ringgate.assert_alive();
}

fn answer_and_leave(stream: TcpStream, counts: &Mutex<HashMap<String, usize>>) {
    let mut rng = fastrand::Rng::new();
    let mut wire = Wire::new(stream);
    let mut first = true;
    loop {
        let patience = if first { PATIENCE } else { Duration::from_micros(rng.u64(1..3000)) };
        wire.stream.set_read_timeout(Some(patience)).unwrap();
        // The close crosses a request on its way: what has come is never read.
        let crossed = !first && wire.stream.peek(&mut [0]).is_ok_and(|n| n > 0) && rng.u8(..3) == 0;
        if crossed {
            return;
        }
        let request: io::Result<Option<Message>> = wire.request();
        let Ok(Some(request)) = request else { return };
        let name = format!("{} {}", request.method(), request.target());
        *counts.lock().unwrap().entry(name).or_default() += 1;
        if wire.send(FINE).is_err() {
            return;
        }
        first = false;
    }
}
