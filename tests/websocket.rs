//! Requests that switch protocols: which of them are passed on, which 101 is taken, and that what comes then is a tunnel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use rustix::process::Signal;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::authority::Authority;
use support::origin::Conn;
use support::ringgate::forwarding;
use support::tls_client::{connect, trusting};
use support::{Client, Message, Origin, PATIENCE, Ringgate, eventually, free_address, program};

// RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn handshake(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

fn accepted() -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

/// Switches for whoever asks, and sends back what it reads then; others get 200.
fn switching() -> Origin {
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            if request.header("upgrade").is_some() {
                conn.send(accepted())?;
                return echo(conn);
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain")?;
        }
        Ok(())
    })
}

fn echo(conn: &mut Conn) -> io::Result<()> {
    let early = conn.wire.pending();
    conn.send(early)?;
    let mut stream = conn.wire.stream.try_clone()?;
    io::copy(&mut conn.wire.stream, &mut stream)?;
    Ok(())
}

fn before(origin: &Origin, more: &str) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    (Ringgate::start(&(forwarding(listen, &[origin.address], "") + more)), listen)
}

#[track_caller]
fn open(to: SocketAddr) -> Client {
    let mut client = Client::connect(to);
    let answer = client.send(handshake("/ws")).response();
    assert_eq!(answer.status(), 101, "{answer:?}");
    client
}

#[track_caller]
fn expect_echo(client: &mut Client, octets: &[u8]) {
    client.send(octets);
    assert!(client.wire.exactly(octets.len()).unwrap() == octets, "the echo differs");
}

fn is_over(client: &mut Client) -> bool {
    matches!(client.wire.stream.read(&mut [0]), Ok(0))
}

#[test]
fn a_handshake_goes_through_with_its_fields_and_octets_that_came_early() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        // Behind the 101, in the same segment.
        conn.send(accepted() + "early")?;
        echo(conn)
    });
    let (ringgate, listen) = before(&origin, "\n[log]\naccess = \"./access.log\"\n");
    let mut client = Client::connect(listen);
    // So is this behind the request; nobody sees it before the 101.
    client.send(handshake("/ws?x=1") + "hasty");
    let answer = client.response();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.header("upgrade"), Some("WebSocket"));
    assert!(answer.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(client.wire.exactly(10).unwrap(), b"earlyhasty");
    expect_echo(&mut client, b"and more");
    let seen = origin.last();
    assert_eq!(seen.header("upgrade"), Some("WebSocket"));
    assert_eq!(seen.header("connection"), Some("upgrade"));
    assert_eq!(seen.header("sec-websocket-key"), Some(KEY));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    let gauge = "ringgate_open_tunnels{listener=\"web\"}";
    assert_eq!(ringgate.metric(gauge), Some(1.0));
    client.half_close();
    assert!(is_over(&mut client));
    eventually("the gauge falls", || ringgate.metric(gauge) == Some(0.0));
    let path = ringgate.dir.path().join("access.log");
    eventually("it is logged", || std::fs::read_to_string(&path).unwrap().lines().count() == 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["status"], &record["path"]), (&101.into(), &"/ws?x=1".into()));
    assert_eq!((&record["body_in"], &record["body_out"]), (&13.into(), &18.into()));
    assert!(record["reason"].is_null(), "{record}");
    assert_eq!(record["target"], origin.address.to_string());
    assert_eq!(
        ringgate.metric("ringgate_requests_total{listener=\"web\",class=\"1xx\"}"),
        Some(1.0)
    );
}

// Hazards WS-01, H1-20 and H1-21.
#[test]
fn what_is_no_valid_handshake_is_served_as_if_nothing_had_been_asked() {
    let origin = switching();
    let (_ringgate, listen) = before(&origin, "");
    let valid = handshake("/ws");
    for (from, to) in [
        ("GET ", "POST "),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Version: 13", "Version: 12"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13"),
        ("Sec-WebSocket-Key: ", "X-Key: "),
        (KEY, "dGhlIHNhbXBsZSBub25jZQ"),
        (KEY, "c2hvcnQ="),
        ("Sec-WebSocket-Key: ", &format!("Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Key: ")),
        ("keep-alive, Upgrade", "keep-alive"),
        ("Upgrade: WebSocket", "Upgrade: h2c"),
        ("Upgrade: WebSocket", "Upgrade: WebSocket, h2c"),
        ("Upgrade: WebSocket", "Upgrade: h2c\r\nUpgrade: WebSocket"),
        ("Upgrade: WebSocket", "Upgrade: other"),
        ("Upgrade: WebSocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    ] {
        assert!(valid.contains(from), "{from}");
        let mut client = Client::connect(listen);
        let asked = valid.replacen(from, to, 1);
        let answer = client.send(&asked).response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "plain"), "{asked}");
        let seen = origin.last();
        assert!(seen.header("upgrade").is_none(), "{asked}\n{seen:?}");
        assert!(seen.header("http2-settings").is_none());
    }
    // With a body, and with another request behind it.
    let with_body = valid.replacen("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello", 1);
    let mut client = Client::connect(listen);
    client.send(with_body + "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((client.response().status(), client.response().status()), (200, 200));
    assert_eq!(origin.last().target(), "/next");
}

// Hazards WS-01 and H1-20.
#[test]
fn a_refusal_is_an_ordinary_answer_and_what_follows_is_the_next_request() {
    for status in ["200 OK", "403 Forbidden", "426 Upgrade Required"] {
        let origin = Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                let body = request.target().to_owned();
                let length = body.len();
                conn.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"))?;
            }
            Ok(())
        });
        let (_ringgate, listen) = before(&origin, "");
        let mut client = Client::connect(listen);
        client.send(handshake("/ws") + "GET /admin HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let answer = client.response();
        assert!(answer.start.contains(status), "{answer:?}");
        assert_eq!(client.response().text(), "/admin");
        let requests = origin.requests();
        assert_eq!(requests.len(), 2);
        // Judged and written anew, as any request.
        assert!(requests[1].header("x-request-id").is_some(), "{requests:?}");
    }
}

// Hazard WS-01.
#[test]
fn a_101_that_does_not_answer_the_handshake_is_refused() {
    for (from, to) in [
        (ACCEPT, "s3pPLMBiTxaQ9kYGzzhZRbK+xOp="),
        ("Sec-WebSocket-Accept", "X-Accept"),
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Upgrade: websocket", "Upgrade: websocket, h2c"),
        ("Upgrade: websocket", "Upgrade: websocket\r\nUpgrade: h2c"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("HTTP/1.1 101", "HTTP/1.0 101"),
    ] {
        let valid = accepted();
        assert!(valid.contains(from), "{from}");
        let answer = valid.replacen(from, to, 1);
        let origin = Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                match request.header("upgrade") {
                    Some(_) => conn.send(answer.clone() + "secret")?,
                    None => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?,
                }
            }
            Ok(())
        });
        let (ringgate, listen) = before(&origin, "");
        let mut client = Client::connect(listen);
        let refused = client.send(handshake("/ws")).response();
        assert_eq!((refused.status(), refused.reason()), (502, "bad_upgrade"), "{from} -> {to}");
        assert_eq!(client.get("/").status(), 200, "the client's connection goes on");
        assert_eq!(origin.connections(), 2, "the target's does not");
        assert_eq!(ringgate.sum("ringgate_tunnels_total", &["listener"]), 0.0);
    }
    let origin = Origin::answering(accepted());
    let (_ringgate, listen) = before(&origin, "");
    let refused = Client::connect(listen).get("/");
    assert_eq!((refused.status(), refused.reason()), (502, "unasked_upgrade"));
}

// Hazard WS-05.
#[test]
fn a_rule_says_what_may_be_switched_to_and_by_whose_pages() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            match request.header("upgrade") {
                Some("foo/2") => conn.send(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo/2\r\nConnection: upgrade\r\n\r\n",
                )?,
                Some(_) => conn.send(accepted())?,
                None => {
                    conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                    continue;
                }
            }
            return echo(conn);
        }
        Ok(())
    });
    let rule = |name: &str, more: &str| {
        format!(
            "\n[[rule]]\nname = \"{name}\"\nforward = \"all\"\n{more}\n[rule.when]\npath = \"/{name}\"\n"
        )
    };
    let more = rule("plain", "upgrade = []")
        + &rule("other", "upgrade = [\"foo/2\"]")
        + &rule("mine", "origins = [\"https://*.a.test\", \"https://a.test\"]");
    let (ringgate, listen) = before(&origin, &more);
    let ask = |request: &str| Client::connect(listen).send(request).response();
    assert_eq!(ask(&handshake("/plain")).status(), 200);
    assert_eq!(ask(&handshake("/other")).status(), 200);
    let other =
        "POST /other HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n\r\n";
    let mut client = Client::connect(listen);
    assert_eq!(client.send(other).response().status(), 101);
    expect_echo(&mut client, b"anything");
    let from = |origin: &str| {
        handshake("/mine").replacen("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"), 1)
    };
    assert_eq!(ask(&from("https://a.test")).status(), 101);
    assert_eq!(ask(&from("https://chat.a.test")).status(), 101);
    assert_eq!(ask(&handshake("/mine")).status(), 101, "from no page");
    for bad in ["https://evil.test", "http://a.test", "null", "https://a.test.evil.test"] {
        let refused = ask(&from(bad));
        assert_eq!((refused.status(), refused.reason()), (403, "origin_refused"), "{bad}");
    }
    eventually("all are counted", || {
        ringgate.metric("ringgate_faults_total{reason=\"origin_refused\"}") == Some(4.0)
    });
}

// Hazard WS-04.
#[test]
fn each_side_ends_for_itself() {
    let (heard, hears) = mpsc::channel();
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(accepted() + "bye")?;
        conn.wire.stream.shutdown(Shutdown::Write)?;
        heard.send(conn.wire.rest()?).unwrap();
        Ok(())
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut client = open(listen);
    assert_eq!(client.wire.rest().unwrap(), b"bye");
    client.send("still here");
    client.half_close();
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), b"still here");
}

// Hazard WS-04.
#[test]
fn who_does_not_read_stops_the_sender_and_not_the_other_direction() {
    const MUCH: usize = 32 << 20;
    let (done, went) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let goes = std::sync::Mutex::new(goes);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        conn.send(accepted())?;
        let mut stream = conn.wire.stream.try_clone()?;
        let writing = std::thread::spawn(move || stream.write_all(&vec![7; MUCH]));
        goes.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        done.send(conn.wire.exactly(MUCH)?.iter().all(|o| *o == 8)).unwrap();
        writing.join().unwrap()
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut client = open(listen);
    // The target does not read: the client is stopped, and reads all the same.
    let mut stream = client.wire.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || stream.write_all(&vec![8; MUCH]));
    assert!(client.wire.exactly(MUCH / 2).unwrap().iter().all(|o| *o == 7));
    assert!(!writing.is_finished(), "32 MiB do not fit into the queues on the way");
    // Now the client does not read: the target is not kept from reading.
    go.send(()).unwrap();
    assert!(went.recv_timeout(PATIENCE).unwrap());
    writing.join().unwrap().unwrap();
    assert!(client.wire.exactly(MUCH / 2).unwrap().iter().all(|o| *o == 7));
}

// Hazard WS-02.
#[test]
fn an_idle_tunnel_ends_and_the_number_of_tunnels_is_limited() {
    let origin = switching();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "").replacen(
        "default =",
        "timeouts = { idle = \"400ms\" }\ndefault =",
        1,
    ) + "\n[limits]\ntunnels = 2\n[server]\nworkers = 1\n";
    let ringgate = Ringgate::start(&config);
    let (mut one, mut two) = (open(listen), open(listen));
    let mut third = Client::connect(listen);
    let refused = third.send(handshake("/ws")).response();
    assert_eq!((refused.status(), refused.reason()), (503, "too_many_tunnels"));
    assert_eq!(third.get("/").status(), 200, "requests go on");
    let began = Instant::now();
    // One octet now and then keeps it.
    while began.elapsed() < Duration::from_millis(900) {
        expect_echo(&mut one, b"x");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(is_over(&mut two));
    expect_echo(&mut one, b"x");
    eventually("it is counted", || {
        ringgate.metric("ringgate_faults_total{reason=\"tunnel_idle\"}") == Some(1.0)
    });
    let mut again = open(listen);
    expect_echo(&mut again, b"x");
}

// Hazards WS-02, WS-03 and OPS-11.
#[test]
fn a_thousand_idle_tunnels_cost_little_and_outlive_reloads() {
    const TUNNELS: usize = 1000;
    let origin = switching();
    let listen = free_address();
    let server = "\n[server]\ndrain = \"1s\"\n";
    let config = forwarding(listen, &[origin.address], "drain = \"1s\"") + server;
    let mut ringgate = Ringgate::start(&config);
    let memory = || {
        let path = format!("/proc/{}/status", ringgate.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    // What is allocated once is there.
    (0..20).for_each(|_| drop(open(listen)));
    eventually("they have ended", || ringgate.sum("ringgate_open_tunnels", &["listener"]) == 0.0);
    let before = memory();
    let mut tunnels: Vec<Client> = (0..TUNNELS).map(|_| open(listen)).collect();
    tunnels.iter_mut().for_each(|client| expect_echo(client, b"hello"));
    let each = memory().saturating_sub(before) / TUNNELS as u64;
    // No block of 16 KiB is held. Debug builds have larger futures.
    assert!(each < 14 << 10, "{each} octets of memory for an idle tunnel");
    assert_eq!(ringgate.sum("ringgate_open_tunnels", &["listener"]), TUNNELS as f64);
    for _ in 0..3 {
        ringgate.reload(&config);
    }
    tunnels.iter_mut().for_each(|client| expect_echo(client, b"again"));
    // A request in flight keeps its configuration; a tunnel keeps none.
    let other = switching();
    ringgate.reload(&config.replace(&origin.address.to_string(), &other.address.to_string()));
    expect_echo(&mut tunnels[0], b"in time");
    eventually("those of the removed target end", || {
        ringgate.sum("ringgate_open_tunnels", &["listener"]) == 0.0
    });
    assert!(tunnels.iter_mut().all(is_over));
    // A stop waits for them, up to the time to drain.
    let mut last = open(listen);
    let began = Instant::now();
    ringgate.signal(Signal::TERM);
    expect_echo(&mut last, b"still");
    assert!(is_over(&mut last));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert!(ringgate.wait_exit().success());
}

/// A Python that has the module websockets, which scripts/test installs.
fn python() -> Command {
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let own = std::path::PathBuf::from(cache).join("ringgate/python/bin/python");
    let python = if own.exists() { own } else { program("python3", "python3") };
    let has = Command::new(&python).args(["-c", "import websockets.sync.client"]).output().unwrap();
    assert!(
        has.status.success(),
        "this test needs Python's websockets: pip install websockets (scripts/test does it)"
    );
    Command::new(python)
}

struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SERVER: &str = r#"
import asyncio, sys, websockets
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, subprotocols=["chat"]):
        await asyncio.Future()
asyncio.run(main())
"#;

const CLIENT: &str = r#"
import sys
from websockets.sync.client import connect
with connect("ws://" + sys.argv[1] + "/ws", max_size=None, subprotocols=["chat"]) as ws:
    assert ws.subprotocol == "chat", ws.subprotocol
    for size in (0, 1, 125, 126, 65535, 65536, 1 << 20, 8 << 20):
        message = bytes(i * 7 & 255 for i in range(256)) * (size // 256 + 1)
        message = message[:size]
        ws.send(message)
        assert ws.recv() == message, size
    ws.send("h\u00e9llo")
    assert ws.recv() == "h\u00e9llo"
    pong = ws.ping()
    assert pong.wait(10)
print("done", ws.close_code)
"#;

fn python_server() -> (Ended, SocketAddr) {
    let address = free_address();
    let child = python()
        .args(["-c", SERVER, &address.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Ended(child);
    eventually("the server listens", || TcpStream::connect(address).is_ok());
    (server, address)
}

#[test]
fn python_talks_to_python() {
    let (_server, address) = python_server();
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[address], ""));
    let done = python().args(["-c", CLIENT, &listen.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(said.trim(), "done 1000", "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn python_talks_to_python_over_tls() {
    let (_server, address) = python_server();
    let (listen, dir) = (free_address(), tempfile::tempdir().unwrap());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "name = \"web\"\nprotocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        cert.display(),
        key.display()
    );
    let config = forwarding(listen, &[address], "").replace("name = \"web\"\n", &tls);
    let ringgate = Ringgate::start_in(dir, &config);
    let client = CLIENT
        .replace("\"ws://\"", "\"wss://\"")
        .replace("max_size=None", "max_size=None, ssl=trusting, server_hostname=\"localhost\"")
        .replace(
            "import sys\n",
            "import ssl, sys\ntrusting = ssl.create_default_context(cafile=sys.argv[2])\n",
        );
    let cert = ringgate.dir.path().join("cert.pem");
    let done = python().args(["-c", &client, &listen.to_string()]).arg(cert).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(said.trim(), "done 1000", "{}", String::from_utf8_lossy(&done.stderr));
}

const NODE: &str = r#"
const { WebSocket } = require("ws");
const ws = new WebSocket("ws://" + process.argv[1] + "/ws", "chat");
const sizes = [1, 125, 126, 65536, 1 << 20];
const next = () => { const size = sizes.shift(); if (size) ws.send(Buffer.alloc(size, 7)); else ws.close(1000); };
ws.on("open", next);
ws.on("message", data => { if (!data.every(o => o === 7)) process.exit(3); next(); });
ws.on("close", code => { console.log("done", code); });
ws.on("error", error => { console.error(error); process.exit(2); });
"#;

#[test]
fn node_talks_to_python() {
    let (_server, address) = python_server();
    let listen = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[address], ""));
    let home = std::env::var("HOME").unwrap_or_default();
    let cache = std::env::var("XDG_CACHE_HOME").unwrap_or_else(|_| format!("{home}/.cache"));
    let modules = format!("{cache}/ringgate/node/node_modules:/usr/share/nodejs");
    let done = Command::new(program("node", "nodejs"))
        .env("NODE_PATH", modules)
        .args(["-e", NODE, &listen.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(said.trim(), "done 1000", "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn an_answer_after_the_early_hint_is_taken_too() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")?;
        conn.send(accepted())?;
        echo(conn)
    });
    let (_ringgate, listen) = before(&origin, "");
    let mut client = Client::connect(listen);
    let hint: Message = client.send(handshake("/ws")).response();
    assert_eq!((hint.status(), client.response().status()), (103, 101));
    expect_echo(&mut client, b"x");
}

// Hazard WS-04: what TLS carries cannot be spliced.
#[test]
fn large_messages_pass_through_tls_both_ways() {
    let origin = switching();
    let (listen, ca) = (free_address(), Authority::new("servers"));
    let own = ca.issue(&["a.test"]);
    let tls = format!(
        "name = \"web\"\nprotocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        own.cert.display(),
        own.key.display()
    );
    let config = forwarding(listen, &[origin.address], "").replace("name = \"web\"\n", &tls);
    let _ringgate = Ringgate::start(&config);
    let mut client = connect(&Arc::new(trusting(&ca)), listen, "a.test").unwrap();
    client.send(handshake("/ws").as_bytes()).unwrap();
    assert_eq!(client.response("GET").unwrap().unwrap().status(), 101);
    for round in 0..64_u8 {
        // Less than what buffers on the way hold: nobody reads meanwhile.
        let message: Vec<u8> = (0..16 << 10).map(|i: u32| (i % 251) as u8 ^ round).collect();
        client.send(&message).unwrap();
        assert!(client.exactly(message.len()).unwrap() == message, "{round}: the echo differs");
    }
}
