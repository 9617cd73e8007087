//! gRPC and gRPC-Web through ringgate: calls of every shape with Python's grpcio on both sides, deadlines, cancellation,
//! own answers, health checks, and browsers' form of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::authority::Authority;
use support::h2origin::H2Origin;
use support::h2raw::{CANCEL, DATA, END_HEADERS, END_STREAM, H2, request_with};
use support::ringgate::forwarding;
use support::{Client, Message, PATIENCE, Ringgate, eventually, free_address};

/// The interpreter for which scripts/test has installed grpcio.
fn python() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let own = cache.unwrap_or_default().join("ringgate/python/bin/python");
    let can = |python: &PathBuf| {
        let tried = Command::new(python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    [own, "python3".into()]
        .into_iter()
        .find(can)
        .expect("Python's grpcio is needed by this test: scripts/test installs it")
}

fn script(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "grpc", name].iter().collect()
}

/// A server of Python's grpcio; it ends when this is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Server {
    #[track_caller]
    fn start() -> Server {
        Server::start_with(&[])
    }

    #[track_caller]
    fn start_with(options: &[&str]) -> Server {
        let mut child = Command::new(python())
            .arg(script("origin.py"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().and_then(Result::ok).and_then(|line| line.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("the server says its port")));
        let said = Arc::new(Mutex::new(Vec::new()));
        let saying = Arc::clone(&said);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| saying.lock().unwrap().push(line));
        });
        Server { child, address, said }
    }

    fn has_said(&self, what: &str) -> bool {
        self.said.lock().unwrap().iter().any(|line| line.starts_with(what))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn call(listen: SocketAddr, scenario: &str) {
    let done = Command::new(python())
        .arg(script("client.py"))
        .args([&listen.to_string(), scenario])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{scenario}: {said}");
}

fn h2c(listen: SocketAddr, target: SocketAddr, more: &str) -> String {
    forwarding(listen, &[target], &format!("protocol = \"h2c\"\n{more}"))
}

#[track_caller]
fn before(target: SocketAddr, more: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&h2c(listen, target, more)), listen)
}

#[test]
fn calls_of_every_shape_pass_with_their_metadata_and_statuses() {
    let server = Server::start();
    let (ringgate, listen) = before(server.address, "");
    for scenario in ["unary", "statuses", "streams", "ping_pong", "many"] {
        call(listen, scenario);
    }
    let calls = |status: &str| {
        ringgate.sum("ringgate_grpc_calls_total", &[&format!("status=\"{status}\"")])
    };
    assert!(calls("OK") >= 300.0);
    for status in ["CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "UNAUTHENTICATED"] {
        eventually(status, || calls(status) == 1.0);
    }
}

#[test]
fn streams_may_pause_for_as_long_as_either_side_says_something() {
    let server = Server::start();
    let listen = free_address();
    let times = "[timeouts]\nbody = \"1s\"\nidle = \"3s\"\n\n";
    let _ringgate = Ringgate::start(&format!("{times}{}", h2c(listen, server.address, "")));
    call(listen, "pauses");
    call(listen, "idle");
    let listen = free_address();
    let rule = "[[rule]]\nname = \"calls\"\nforward = \"all\"\ntimeouts = { idle = \"2s\" }\n\n";
    let _own = Ringgate::start(&format!("{rule}{}", h2c(listen, server.address, "")));
    call(listen, "idle");
}

#[test]
fn deadlines_go_on_to_the_target_and_end_there_too() {
    let server = Server::start();
    let (_ringgate, listen) = before(server.address, "");
    call(listen, "deadline");
    eventually("the call ends at the target", || server.has_said("ended"));
    let said = server.said.lock().unwrap().clone();
    let left: f64 = said[0].strip_prefix("slow ").unwrap().parse().unwrap();
    assert!(left > 0.0 && left <= 1.0, "{left} s were left at the target");
}

#[test]
fn a_cancelled_call_ends_at_the_target() {
    let server = Server::start();
    let (ringgate, listen) = before(server.address, "");
    call(listen, "cancel");
    eventually("the call ends at the target", || server.has_said("ended"));
    let cancelled = || ringgate.sum("ringgate_grpc_calls_total", &["status=\"CANCELLED\""]);
    eventually("it is counted", || cancelled() == 1.0);
}

#[test]
fn own_answers_are_statuses() {
    let listen = free_address();
    let log = "[log]\naccess = \"./access.log\"\n\n";
    let ringgate = Ringgate::start(&format!("{log}{}", h2c(listen, free_address(), "")));
    call(listen, "unavailable");
    let path = ringgate.dir.path().join("access.log");
    let line = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("the call is logged", || line().contains("\n"));
    let record: serde_json::Value = serde_json::from_str(line().lines().next().unwrap()).unwrap();
    assert_eq!((&record["status"], &record["grpc_status"]), (&200.into(), &14.into()));
    assert_eq!(record["reason"], "connect_failed");
    let nowhere = format!("[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n");
    ringgate.reload(&nowhere);
    call(listen, "no_route");
}

/// A call whose client says how long it waits, over HTTP/1.1, where nothing of the client's own ends it.
#[track_caller]
fn call_over_http1(listen: SocketAddr, fields: &str, body: &[u8]) -> Message {
    let head = format!(
        "POST /test.Echo/Unary HTTP/1.1\r\nHost: a.test\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Client::connect(listen).send([head.as_bytes(), body].concat()).response_to("POST")
}

#[test]
fn a_deadline_that_passes_is_answered_here_and_resets_the_stream() {
    let (said, heard) = mpsc::channel();
    let said = Mutex::new(said);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, request)) = conn.request() {
            let left = request.header("grpc-timeout").unwrap_or("none").to_owned();
            let code = conn.await_reset(stream);
            said.lock().unwrap().send((left, code)).unwrap();
        }
    });
    let (ringgate, listen) = before(origin.address, "");
    let kind = "Content-Type: application/grpc+proto\r\n";
    let began = Instant::now();
    let answer = call_over_http1(listen, &format!("{kind}grpc-timeout: 400m\r\n"), b"\0\0\0\0\0");
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert_eq!((answer.status(), answer.reason()), (200, "deadline_exceeded"));
    assert_eq!(answer.header("grpc-status"), Some("4"));
    assert_eq!(answer.header("content-type"), Some("application/grpc+proto"));
    let (left, code) = heard.recv_timeout(PATIENCE).unwrap();
    let micros: u64 = left
        .strip_suffix('n')
        .map(|n| n.parse::<u64>().unwrap() / 1000)
        .or_else(|| left.strip_suffix('u').map(|n| n.parse().unwrap()))
        .unwrap_or_else(|| panic!("{left} is given on"));
    assert!((1..=400_000).contains(&micros), "{left}");
    assert_eq!(code, Some(CANCEL));
    let answer = call_over_http1(listen, &format!("{kind}grpc-timeout: 0n\r\n"), b"\0\0\0\0\0");
    assert_eq!(answer.header("grpc-status"), Some("4"));
    // What is no timeout is none, and the group's patience counts.
    ringgate.reload(&h2c(listen, origin.address, "timeouts = { response = \"300ms\" }"));
    let answer = call_over_http1(listen, &format!("{kind}grpc-timeout: soon\r\n"), b"\0\0\0\0\0");
    assert_eq!((answer.header("grpc-status"), answer.reason()), (Some("14"), "response_timeout"));
    assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), ("soon".to_owned(), Some(CANCEL)));
}

#[test]
fn health_is_asked_of_the_service() {
    let server = Server::start();
    let listen = free_address();
    let probing = |service: &str| {
        let probe = "interval = \"100ms\", timeout = \"100ms\", healthy = 1, unhealthy = 1";
        let health = format!("health = {{ type = \"grpc\", service = \"{service}\", {probe} }}");
        h2c(listen, server.address, &health)
    };
    let ringgate = Ringgate::start(&probing("up"));
    let state = |wanted: &str| {
        eventually(wanted, || ringgate.target_states() == [wanted]);
    };
    state("healthy -");
    ringgate.reload(&probing("down"));
    state("unhealthy Target.FailedHealthChecks");
    ringgate.reload(&probing("nobody"));
    state("unhealthy Target.FailedHealthChecks");
    ringgate.reload(&probing(""));
    state("healthy -");
    // The server as a whole goes down, and comes back.
    for (status, wanted) in [(2, "unhealthy Target.FailedHealthChecks"), (1, "healthy -")] {
        let message = format!(" {status}");
        let mut h2 = H2::open(server.address);
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        h2.head(1, END_HEADERS, &request_with("POST", "/test.Echo/Turn", &fields));
        h2.frame(DATA, END_STREAM, 1, frame(message.as_bytes()));
        assert_eq!(h2.outcome(1).status(), 200);
        state(wanted);
    }
}

#[test]
fn calls_and_probes_go_over_tls() {
    let authority = Authority::new("ca");
    let issued = authority.issue(&["127.0.0.1"]);
    let (cert, key) = (issued.cert.to_str().unwrap(), issued.key.to_str().unwrap());
    let server = Server::start_with(&["--tls", cert, key]);
    let listen = free_address();
    let probe = "interval = \"100ms\", timeout = \"100ms\", healthy = 1, unhealthy = 1";
    let group = format!(
        "protocol = \"h2\"\ntls = {{ ca = \"{}\" }}\nhealth = {{ service = \"up\", {probe} }}",
        authority.file.display()
    );
    let ringgate = Ringgate::start(&forwarding(listen, &[server.address], &group));
    eventually("the probe passes", || ringgate.target_states() == ["healthy -"]);
    for scenario in ["unary", "streams"] {
        call(listen, scenario);
    }
}

/// A message as gRPC frames it.
fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The messages of a body of gRPC-Web, and its trailers.
#[track_caller]
fn unframe(mut body: &[u8]) -> (Vec<Vec<u8>>, String) {
    let mut messages = Vec::new();
    while let [flags, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let (message, after) = rest.split_at(length);
        if *flags == 0x80 {
            assert!(after.is_empty(), "something follows the trailers");
            return (messages, String::from_utf8(message.to_vec()).unwrap());
        }
        messages.push(message.to_vec());
        body = after;
    }
    panic!("no trailers: {body:?}");
}

/// Base64 of whole groups, padded wherever the sender liked.
fn decode(text: &[u8]) -> Vec<u8> {
    use base64::Engine;
    let decoder = base64::engine::general_purpose::STANDARD;
    text.chunks(4).flat_map(|group| decoder.decode(group).unwrap()).collect()
}

fn encode(octets: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(octets)
}

#[test]
fn browsers_call_over_http_1() {
    let server = Server::start();
    let (ringgate, listen) = before(server.address, "");
    let binary = "Content-Type: application/grpc-web+proto\r\nX-Grpc-Web: 1\r\n";
    let answer = call_over_http1(listen, &format!("{binary}X-Sent: me\r\n"), &frame(b"hello"));
    assert_eq!(answer.status(), 200);
    // The target says application/grpc, without the format.
    assert_eq!(answer.header("content-type"), Some("application/grpc-web"));
    assert_eq!(answer.header("x-initial"), Some("yes"));
    let (messages, trailers) = unframe(&answer.body);
    assert_eq!(messages, [b"hello"]);
    assert!(trailers.contains("grpc-status: 0\r\n") && trailers.contains("x-got: me\r\n"));
    assert!(answer.trailers.is_empty());
    let text = "Content-Type: application/grpc-web-text\r\nAccept: application/grpc-web-text\r\n";
    for message in [&b""[..], b"a", b"ab", b"abc", &[b'x'; 50_000]] {
        let answer = call_over_http1(listen, text, encode(&frame(message)).as_bytes());
        assert_eq!(answer.header("content-type"), Some("application/grpc-web-text"));
        let (messages, trailers) = unframe(&decode(&answer.body));
        assert_eq!(messages, [message]);
        assert!(trailers.contains("grpc-status: 0\r\n"), "{trailers}");
    }
    // Either form may be asked for.
    let mixed = "Content-Type: application/grpc-web-text\r\nAccept: application/grpc-web\r\n";
    let answer = call_over_http1(listen, mixed, encode(&frame(b"hello")).as_bytes());
    assert_eq!(unframe(&answer.body).0, [b"hello"]);
    let answer = call_over_http1(listen, text, b"no base64!");
    assert_eq!((answer.header("grpc-status"), answer.reason()), (Some("13"), "bad_grpc_web_text"));
    assert_eq!(answer.header("content-type"), Some("application/grpc-web-text"));
    let answer = call_over_http1(listen, binary, &frame(b"fail 5 nothing"));
    let status = match answer.header("grpc-status") {
        Some(status) => status.to_owned(),
        None => unframe(&answer.body).1,
    };
    assert!(status.contains('5'), "{status}");
    let calls = |status: &str| {
        ringgate.sum("ringgate_grpc_calls_total", &[&format!("status=\"{status}\"")])
    };
    let counted = || (calls("OK"), calls("NOT_FOUND"), calls("INTERNAL"));
    eventually("all are counted", || counted() == (7.0, 1.0, 1.0));
}

#[test]
fn browsers_are_streamed_to_without_delay() {
    let server = Server::start();
    let (_ringgate, listen) = before(server.address, "");
    // In chunks that cut groups of four anywhere.
    let text = encode(&frame(b"5:1000"));
    let chunks: String = text
        .as_bytes()
        .chunks(3)
        .map(|c| format!("{:x}\r\n{}\r\n", c.len(), std::str::from_utf8(c).unwrap()))
        .collect();
    let request = format!(
        "POST /test.Echo/ServerStream HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc-web-text\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let answer = Client::connect(listen).send(request).response_to("POST");
    let (messages, trailers) = unframe(&decode(&answer.body));
    assert_eq!(messages.len(), 5);
    assert!(messages[4].starts_with(b"4:x") && trailers.contains("grpc-status: 0\r\n"));
    // A message is passed on while the next one is not there yet.
    let next = Arc::new(std::sync::Barrier::new(2));
    let wait = Arc::clone(&next);
    let origin = H2Origin::script(&[], move |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.respond(stream, 0, "200", &[("content-type", "application/grpc")]);
            conn.data(stream, 0, &frame(b"first"));
            wait.wait();
            conn.data(stream, 0, &frame(b"second"));
            conn.trailers(stream, &[("grpc-status", "0"), ("grpc-message", "fine")]);
        }
    });
    let (_second, listen) = before(origin.address, "");
    let mut client = Client::connect(listen);
    let body = encode(&frame(b""));
    client.send(format!(
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc-web-text\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let head = client.wire.head().unwrap().unwrap();
    assert_eq!(head.status(), 200);
    let size = usize::from_str_radix(&client.wire.line().unwrap(), 16).unwrap();
    assert_eq!(decode(&client.wire.exactly(size).unwrap()), frame(b"first"));
    next.wait();
    client.wire.line().unwrap();
    let mut rest = Vec::new();
    loop {
        let size = usize::from_str_radix(&client.wire.line().unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        rest.extend(decode(&client.wire.exactly(size).unwrap()));
        client.wire.line().unwrap();
    }
    let (messages, trailers) = unframe(&rest);
    assert_eq!(messages, [b"second"]);
    assert_eq!(trailers, "grpc-status: 0\r\ngrpc-message: fine\r\n");
}

#[test]
fn browsers_call_over_http_2() {
    let server = Server::start();
    let (_ringgate, listen) = before(server.address, "");
    let mut h2 = H2::open(listen);
    let body = frame(b"hello");
    for (stream, kind, body) in [
        (1, "application/grpc-web", body.clone()),
        (3, "application/grpc-web-text+proto", encode(&body).into_bytes()),
    ] {
        let fields = [("content-type", kind), ("x-grpc-web", "1")];
        h2.head(stream, END_HEADERS, &request_with("POST", "/test.Echo/Unary", &fields));
        // The end of the body comes by itself.
        h2.frame(DATA, 0, stream, &body[..3]);
        h2.frame(DATA, 0, stream, &body[3..]);
        h2.frame(DATA, END_STREAM, stream, []);
        let answer = h2.outcome(stream).answer();
        let wanted = kind.strip_suffix("+proto").unwrap_or(kind);
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some(wanted)));
        let octets = if kind.contains("text") { decode(&answer.body) } else { answer.body };
        let (messages, trailers) = unframe(&octets);
        assert_eq!(messages, [b"hello"]);
        assert!(trailers.contains("grpc-status: 0\r\n") && answer.trailers.is_empty());
    }
}

#[test]
fn what_is_no_answer_of_grpc_reaches_a_browser_as_it_is() {
    let origin = H2Origin::script(&[], |conn| {
        while let Some((stream, request)) = conn.request() {
            assert_eq!(request.header("content-type"), Some("application/grpc"));
            assert_eq!(request.header("te"), Some("trailers"));
            assert_eq!(request.header("x-grpc-web"), None);
            conn.respond(stream, 0, "503", &[("content-type", "text/plain")]);
            conn.data(stream, END_STREAM, b"closed for today");
        }
    });
    let (ringgate, listen) = before(origin.address, "");
    let fields = "Content-Type: application/grpc-web\r\nX-Grpc-Web: 1\r\n";
    let answer = call_over_http1(listen, fields, &frame(b"x"));
    assert_eq!((answer.status(), answer.text().as_str()), (503, "closed for today"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let calls = || ringgate.sum("ringgate_grpc_calls_total", &["status=\"UNAVAILABLE\""]);
    eventually("it is counted", || calls() == 1.0);
}
