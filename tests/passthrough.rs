//! Listeners of protocol tls: connections go where their ClientHello wants, unopened, and the octets are the client's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::{Client, Origin, Ringgate, eventually, free_address, program};

/// `openssl s_server` with a certificate for `name`; it answers every request with a page of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(dir: &Path, name: &str) -> Server {
        let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        let made = Command::new(program("openssl", "openssl"))
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "2", "-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-out")
            .arg(&cert)
            .arg("-keyout")
            .arg(&key)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let address = free_address();
        let child = Command::new(program("openssl", "openssl"))
            .args(["s_server", "-quiet", "-www", "-accept", &address.to_string(), "-cert"])
            .arg(&cert)
            .arg("-key")
            .arg(&key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server { child, address };
        eventually("the server listens", || TcpStream::connect(address).is_ok());
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(listen: SocketAddr, default: Option<SocketAddr>, rules: &[(&str, SocketAddr)]) -> String {
    let mut text = format!(
        "[[listener]]\nname = \"web\"\nbind = \"{listen}\"\nprotocol = \"tls\"\ntimeouts = {{ header = \"1s\" }}\n"
    );
    if default.is_some() {
        text += "default = { forward = \"default\" }\n";
    }
    for (at, (host, _)) in rules.iter().enumerate() {
        text += &format!(
            "[[rule]]\nname = \"r{at}\"\nlistener = \"web\"\nforward = \"g{at}\"\nwhen = {{ host = \"{host}\" }}\n"
        );
    }
    let groups = rules.iter().enumerate().map(|(at, (_, to))| (format!("g{at}"), *to));
    for (name, to) in groups.chain(default.map(|to| ("default".to_owned(), to))) {
        text += &format!("[group.{name}]\ntargets = [\"{to}\"]\nhealth = {{ type = \"off\" }}\n");
    }
    text + "[log]\naccess = \"./access.log\"\n"
}

/// A ClientHello as rustls sends it, in one record.
fn hello(name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
    let roots = rustls::RootCertStore::empty();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
    config.enable_sni = name.is_some();
    let name = name.unwrap_or("nobody.test").to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut octets = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut octets).unwrap();
    }
    octets
}

/// The same handshake message in records of `size` octets each.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let (header, message) = hello.split_at(5);
    let record = |part: &[u8]| {
        [&header[..3], &u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

/// Says its number and then what it has received.
fn numbered(number: u8) -> Origin {
    Origin::script(move |conn| {
        conn.send([number])?;
        let mut stream = conn.wire.stream.try_clone()?;
        std::io::copy(&mut conn.wire.stream, &mut stream)?;
        Ok(())
    })
}

/// What comes back: the number of the target, and whether all octets arrived there as they were sent.
fn taken_by(listen: SocketAddr, parts: &[&[u8]]) -> Option<u8> {
    let mut client = Client::connect(listen);
    for part in parts {
        if client.wire.stream.write_all(part).is_err() {
            return None;
        }
        // A moment for them to travel alone.
        std::thread::yield_now();
    }
    let sent = parts.concat();
    let mut got = vec![0; 1 + sent.len()];
    client.wire.stream.read_exact(&mut got).ok()?;
    assert!(got[1..] == sent, "the target received other octets than were sent");
    Some(got[0])
}

#[test]
fn openssl_and_curl_reach_the_server_that_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Server::start(dir.path(), "one.test"), Server::start(dir.path(), "two.test"));
    let listen = free_address();
    let rules = [("one.test", one.address), ("*.two.test", two.address)];
    let ringgate = Ringgate::start(&config(listen, Some(two.address), &rules));
    let port = listen.port();
    let page = |name: &str, ca: &str, version: &str| {
        let done = Command::new(program("curl", "curl"))
            .args(["-sS", "-m", "10", version, "--resolve", &format!("{name}:{port}:127.0.0.1")])
            .arg("--cacert")
            .arg(dir.path().join(ca))
            .arg(format!("https://{name}:{port}/"))
            .output()
            .unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned())
    };
    for version in ["--tlsv1.3", "--tls-max=1.2"] {
        let version = if version == "--tls-max=1.2" { "--tlsv1.2" } else { version };
        let (good, said) = page("one.test", "one.test.pem", version);
        assert!(good && said.contains("s_server"), "{said}");
        // The certificate is the target's own, so a wrong one would be noticed.
        assert!(!page("one.test", "two.test.pem", version).0);
        assert!(page("two.test", "two.test.pem", version).0, "by default");
    }
    let subject = |arguments: &[&str]| {
        let done = Command::new(program("openssl", "openssl"))
            .args(["s_client", "-connect", &listen.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let line = said.lines().find(|line| line.starts_with("subject="));
        line.unwrap_or_default().replace(' ', "")
    };
    assert_eq!(subject(&["-servername", "ONE.test"]), "subject=CN=one.test");
    assert_eq!(subject(&["-servername", "a.two.test"]), "subject=CN=two.test");
    assert_eq!(subject(&["-noservername"]), "subject=CN=two.test");
    assert_eq!(subject(&["-servername", "one.test", "-tls1_2"]), "subject=CN=one.test");
    assert!(ringgate.sum("ringgate_rule_tunnels_total", &["r0"]) >= 3.0);
}

#[test]
fn the_name_in_the_hello_decides() {
    let (exact, wild, default) = (numbered(1), numbered(2), numbered(3));
    let listen = free_address();
    let rules = [("a.test", exact.address), ("*.a.test", wild.address)];
    let ringgate = Ringgate::start(&config(listen, Some(default.address), &rules));
    for (name, expected) in [
        (Some("a.test"), 1),
        (Some("A.Test"), 1),
        (Some("b.a.test"), 2),
        (Some("c.b.a.test"), 2),
        (Some("other.test"), 3),
        (None, 3),
    ] {
        assert_eq!(taken_by(listen, &[&hello(name, &["h2"])]), Some(expected), "{name:?}");
    }
    let path = ringgate.dir.path().join("access.log");
    eventually("all are logged", || std::fs::read_to_string(&path).unwrap().lines().count() == 6);
    let text = std::fs::read_to_string(&path).unwrap();
    let records: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rule_of = |host: &str| {
        let record = records.iter().find(|r| r["host"] == host).unwrap();
        assert_eq!((&record["scheme"], &record["action"]), (&"tls".into(), &"forward".into()));
        assert_eq!((&record["sni"], &record["alpn"]), (&host.into(), &"h2".into()));
        assert!(record["tls_version"].is_null() && record["tls_cipher"].is_null(), "{record}");
        record["rule"].as_str().unwrap()
    };
    assert_eq!([rule_of("a.test"), rule_of("b.a.test"), rule_of("other.test")], ["r0", "r1", ""]);
}

#[test]
fn a_hello_may_come_in_any_pieces() {
    let (one, default) = (numbered(1), numbered(2));
    let listen = free_address();
    let config = config(listen, Some(default.address), &[("a.test", one.address)]);
    // However long a busy machine takes for hundreds of pieces.
    let _ringgate = Ringgate::start(&config.replace("header = \"1s\"", "header = \"15s\""));
    let hello = hello(Some("a.test"), &["h2", "http/1.1"]);
    // Every split, a few connections at a time.
    let splits: Vec<usize> = (1..hello.len()).collect();
    std::thread::scope(|scope| {
        for part in splits.chunks(splits.len().div_ceil(8)) {
            let hello = &hello;
            scope.spawn(move || {
                for at in part {
                    let (first, second) = hello.split_at(*at);
                    assert_eq!(taken_by(listen, &[first, second]), Some(1), "split at {at}");
                }
            });
        }
    });
    let octets: Vec<&[u8]> = hello.chunks(1).collect();
    assert_eq!(taken_by(listen, &octets), Some(1), "octet by octet");
    for size in [1, 2, 3, 50, 1000] {
        let records = in_records(&hello, size);
        assert_eq!(taken_by(listen, &[&records]), Some(1), "records of {size} octets");
    }
    // What follows the hello goes on, too.
    assert_eq!(taken_by(listen, &[&hello, b"and more"]), Some(1));
}

#[test]
fn what_is_no_hello_is_closed_and_counted() {
    let default = numbered(1);
    let listen = free_address();
    let ringgate = Ringgate::start(&config(listen, Some(default.address), &[]));
    let valid = hello(Some("a.test"), &[]);
    let changed = |at: usize, to: u8| {
        let mut octets = valid.clone();
        octets[at] = to;
        octets
    };
    let endless = {
        // A handshake message that claims 16 MiB, in full records.
        let mut octets = vec![22, 3, 1, 64, 0, 1, 255, 255, 255];
        octets.resize(5 + 16384, 0);
        octets.repeat(6)
    };
    let cases = [
        ("http", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(), false),
        ("ssh", b"SSH-2.0-x\r\n".to_vec(), false),
        ("zeros", vec![0; 64], false),
        ("SSL 2", vec![0x80, 0x2e, 1, 3, 1], false),
        ("another record", changed(0, 23), false),
        ("another version", changed(1, 9), false),
        ("another message", changed(5, 2), true),
        ("an empty record", vec![22, 3, 1, 0, 0], true),
        ("endless", endless, true),
        ("half of it", valid[..valid.len() / 2].to_vec(), false),
    ];
    for (refused, (what, octets, alert)) in (1..).zip(cases) {
        let mut client = Client::connect(listen);
        // Who is refused early may see the connection end while it is still sending.
        let _ = client.wire.stream.write_all(&octets);
        let _ = client.wire.stream.shutdown(std::net::Shutdown::Write);
        let mut got = Vec::new();
        let ended = client.wire.stream.read_to_end(&mut got);
        if alert && ended.is_ok() {
            assert_eq!((got.first(), got.get(5)), (Some(&21), Some(&2)), "{what}: {got:?}");
        } else if ended.is_ok() {
            assert!(got.is_empty(), "{what}: {got:?}");
        }
        eventually(what, || {
            ringgate.metric("ringgate_faults_total{reason=\"bad_client_hello\"}")
                == Some(f64::from(refused))
        });
    }
    assert_eq!(default.connections(), 0);
    // A look whether somebody listens is no fault.
    Client::connect(listen).half_close();
    // Each octet in turn is something else: nothing hangs, nothing panics.
    for (at, octet) in valid.iter().enumerate() {
        let mut client = Client::connect(listen);
        let _ = client.wire.stream.write_all(&changed(at, octet ^ 0x80));
        let _ = client.wire.stream.shutdown(std::net::Shutdown::Write);
        let _ = client.wire.stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(ringgate.sum("ringgate_task_panics_total", &[]), 0.0);
    assert_eq!(taken_by(listen, &[&valid]), Some(1));
}

#[test]
fn a_hello_has_its_time() {
    let default = numbered(1);
    let listen = free_address();
    let ringgate = Ringgate::start(&config(listen, Some(default.address), &[]));
    let valid = hello(Some("a.test"), &[]);
    let mut silent = Client::connect(listen);
    let mut slow = Client::connect(listen);
    let mut sent = 0;
    eventually("the slow one is closed", || {
        std::thread::sleep(Duration::from_millis(20));
        sent += 1;
        let end = sent.min(valid.len() - 1);
        slow.wire.stream.write_all(&valid[end - 1..end]).is_err()
    });
    silent.expect_closed();
    let counted = || ringgate.metric("ringgate_faults_total{reason=\"header_timeout\"}");
    eventually("both are counted", || counted() == Some(2.0));
    assert_eq!(default.connections(), 0);
}

#[test]
fn who_is_not_served_is_sent_an_alert() {
    let dead = free_address();
    let listen = free_address();
    let ringgate = Ringgate::start(&config(listen, None, &[("a.test", dead)]));
    let answer = |name| {
        let mut client = Client::connect(listen);
        client.send(hello(Some(name), &[]));
        let mut got = vec![0; 7];
        client.wire.stream.read_exact(&mut got).unwrap();
        got
    };
    assert_eq!(answer("b.test"), [21, 3, 3, 0, 2, 2, 112], "unrecognized_name");
    assert_eq!(answer("a.test"), [21, 3, 3, 0, 2, 2, 80], "internal_error");
    let faults = |reason: &str| {
        ringgate.metric(&format!("ringgate_faults_total{{reason=\"{reason}\"}}")).unwrap_or(0.0)
    };
    eventually("both are counted", || (faults("no_route"), faults("connect_failed")) == (1.0, 1.0));
}
