//! Server-sent events and other long streams: each piece arrives before the next one is sent, over every protocol.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;
use support::ringgate::forwarding;
use support::{Client, Origin, PATIENCE, Ringgate, free_address, program};

const EVENTS: usize = 20;

/// Sends an event each time it is told to, framed as `framing` says; then ends.
fn events(framing: &'static str) -> (Origin, Sender<()>) {
    let (go, goes) = mpsc::channel();
    let goes = std::sync::Mutex::new(goes);
    let origin = Origin::script(move |conn| {
        conn.request()?;
        let length = match framing {
            "length" => format!("Content-Length: {}\r\n", EVENTS * event(0).len()),
            "chunked" => "Transfer-Encoding: chunked\r\n".to_owned(),
            _ => "Connection: close\r\n".to_owned(),
        };
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n{length}\r\n"
        ))?;
        for n in 0..EVENTS {
            told(&goes.lock().unwrap());
            match framing {
                "chunked" => conn.send(format!("{:x}\r\n{}\r\n", event(n).len(), event(n)))?,
                _ => conn.send(event(n))?,
            }
        }
        if framing == "chunked" { conn.send("0\r\n\r\n") } else { Ok(()) }
    });
    (origin, go)
}

fn told(goes: &Receiver<()>) {
    let _ = goes.recv_timeout(PATIENCE);
}

fn event(n: usize) -> String {
    format!("id: {n:03}\ndata: x\n\n")
}

struct Curl(Child);

impl Drop for Curl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks with curl, and tells the origin to send an event only when the last one has arrived.
fn one_by_one(url: &str, arguments: &[&str], go: &Sender<()>) {
    let mut curl = Curl(
        Command::new(program("curl", "curl"))
            .args(["-sSN", "-m", "30"])
            .args(arguments)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let (sends, lines) = mpsc::channel();
    let output = BufReader::new(curl.0.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sends.send(line);
        }
    });
    for n in 0..EVENTS {
        go.send(()).unwrap();
        for expected in event(n).lines() {
            let got = lines.recv_timeout(PATIENCE);
            assert_eq!(got.as_deref(), Ok(expected), "{arguments:?}: event {n} arrives at once");
        }
    }
    assert!(curl.0.wait().unwrap().success(), "{arguments:?}: the stream ends well");
}

#[test]
fn each_event_arrives_at_once() {
    for framing in ["chunked", "length", "close"] {
        for arguments in [&["--http1.1"][..], &["--http1.0"], &["--http2-prior-knowledge"]] {
            let (origin, go) = events(framing);
            let listen = free_address();
            let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
            one_by_one(&format!("http://{listen}/events"), arguments, &go);
        }
    }
}

#[test]
fn each_event_arrives_at_once_through_relayed_connections() {
    let (origin, go) = events("chunked");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "")
        .replace("name = \"web\"\n", "name = \"web\"\nprotocol = \"tcp\"\n");
    let _ringgate = Ringgate::start(&config);
    one_by_one(&format!("http://{listen}/events"), &["--http1.1"], &go);
}

/// A listener of protocol https before `target`, with a certificate of its own in `dir`.
fn https(listen: SocketAddr, target: SocketAddr, dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(
        "name = \"web\"\nprotocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        cert.display(),
        key.display()
    );
    forwarding(listen, &[target], "").replace("name = \"web\"\n", &tls)
}

#[test]
fn each_event_arrives_at_once_over_tls() {
    for arguments in [&["-k", "--http1.1"][..], &["-k", "--http2"]] {
        let (origin, go) = events("chunked");
        let (listen, dir) = (free_address(), tempfile::tempdir().unwrap());
        let config = https(listen, origin.address, dir.path());
        let _ringgate = Ringgate::start_in(dir, &config);
        one_by_one(&format!("https://{listen}/events"), arguments, &go);
    }
}

// A pause longer than any other time-out that is short here: only `timeouts.idle` ends a stream of events that says nothing.
#[test]
fn events_may_pause_as_long_as_a_tunnel_may() {
    let (origin, go) = events("chunked");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "")
        + "\n[timeouts]\nheader = \"300ms\"\nresponse = \"300ms\"\nkeep_alive = \"300ms\"\nbody = \"300ms\"\n";
    let _ringgate = Ringgate::start(&config);
    let mut client = Client::connect(listen);
    client.send("GET /events HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.wire.head().unwrap().unwrap();
    for n in 0..3 {
        std::thread::sleep(Duration::from_millis(600));
        go.send(()).unwrap();
        let size = client.wire.line().unwrap();
        assert_eq!(size, format!("{:x}", event(n).len()));
        assert_eq!(client.wire.exactly(event(n).len()).unwrap(), event(n).as_bytes());
        client.wire.line().unwrap();
    }
}

#[test]
fn each_piece_of_an_upload_arrives_at_once() {
    let (heard, hears) = mpsc::channel();
    let origin = Origin::script(move |conn| {
        conn.wire.head()?;
        for _ in 0..EVENTS {
            let size = usize::from_str_radix(&conn.wire.line()?, 16).unwrap();
            heard.send(conn.wire.exactly(size)?).unwrap();
            conn.wire.line()?;
        }
        conn.wire.exactly(5)?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let listen: SocketAddr = free_address();
    let _ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut client = Client::connect(listen);
    client.send("POST /up HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let stream: &mut TcpStream = &mut client.wire.stream;
    for n in 0..EVENTS {
        write!(stream, "{:x}\r\n{}\r\n", event(n).len(), event(n)).unwrap();
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), event(n).as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
}
