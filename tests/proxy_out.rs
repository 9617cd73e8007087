//! Connections to targets that begin with a PROXY header: what real servers make of it, what stands in it octet for octet,
//! and that such a connection never speaks for a second client (TLS-09, HDR-07).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use support::authority::Authority;
use support::origin::Conn;
use support::process::Process;
use support::ringgate::forwarding;
use support::{
    Client, Message, Origin, Ringgate, Wire, connect_from, eventually, free_address, program,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const TRUSTING: &str = "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: A.test:8080\r\n\r\n";

/// A version 2 header as the test reads it: its octets, and where its type-length-values begin.
#[derive(Clone, Debug)]
struct V2 {
    octets: Vec<u8>,
    tlvs: usize,
}

impl V2 {
    /// Every value of a type.
    fn all(&self, kind: u8) -> Vec<Vec<u8>> {
        values(&self.octets[self.tlvs..], kind)
    }

    #[track_caller]
    fn text(&self, kind: u8) -> String {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "type {kind:#x} in {self:?}");
        String::from_utf8(all[0].clone()).unwrap()
    }

    #[track_caller]
    fn assert_sealed(&self) {
        let all = self.all(3);
        let (wanted, mut zeroed) = (all[0].clone(), self.octets.clone());
        assert_eq!(all.len(), 1);
        let at = zeroed.len() - 4;
        assert_eq!(&zeroed[at..], wanted, "the checksum stands last");
        zeroed[at..].fill(0);
        assert_eq!(crc32c(&zeroed).to_be_bytes(), wanted[..]);
    }
}

fn values(mut tlvs: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let [this, high, low, rest @ ..] = tlvs {
        let (value, next) = rest.split_at(usize::from(*high) * 256 + usize::from(*low));
        if *this == kind {
            found.push(value.to_vec());
        }
        tlvs = next;
    }
    assert!(tlvs.is_empty());
    found
}

/// Bit by bit: another implementation than ringgate's.
fn crc32c(octets: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for octet in octets {
        for bit in 0..8 {
            let out = (register ^ u32::from(octet >> bit)) & 1;
            register = (register >> 1) ^ if out == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !register
}

fn read_v2(conn: &mut Conn) -> io::Result<V2> {
    let mut octets = conn.wire.exactly(16)?;
    assert_eq!(&octets[..12], SIGNATURE);
    let length = usize::from(octets[14]) * 256 + usize::from(octets[15]);
    octets.extend(conn.wire.exactly(length)?);
    let addresses = match (octets[12], octets[13]) {
        (0x20, 0x00) => 0,
        (0x21, 0x11) => 12,
        (0x21, 0x21) => 36,
        other => panic!("{other:x?}"),
    };
    Ok(V2 { octets, tlvs: 16 + addresses })
}

/// An origin that reads a header with `read`, then serves the connection for as long as it is asked.
fn expecting<H: Clone + Send + Sync + 'static>(
    read: impl Fn(&mut Conn) -> io::Result<H> + Send + Sync + 'static,
) -> (Origin, Arc<Mutex<Vec<H>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&seen);
    let origin = Origin::script(move |conn| {
        let header = read(conn)?;
        its.lock().unwrap().push(header);
        while conn.request()?.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (origin, seen)
}

fn line(conn: &mut Conn) -> io::Result<String> {
    conn.wire.line()
}

fn sending(listen: SocketAddr, target: SocketAddr, version: &str, more: &str) -> String {
    forwarding(listen, &[target], &format!("proxy_protocol = \"{version}\"\n{more}"))
}

fn from(address: Ipv4Addr, to: SocketAddr) -> (Client, SocketAddr) {
    let stream = connect_from(address, to).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let own = stream.local_addr().unwrap();
    (Client { wire: Wire::new(stream) }, own)
}

#[test]
fn real_servers_learn_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let (nginx, haproxy) = (free_address(), free_address());
    let _nginx = Process::nginx(
        dir.path(),
        nginx,
        &format!(
            "server {{ listen {nginx} proxy_protocol; location / {{ return 200 \
             '$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port'; }} }}"
        ),
    );
    let _haproxy = Process::haproxy(
        dir.path(),
        haproxy,
        &format!(
            "frontend all\n  bind {haproxy} accept-proxy\n  http-request return status 200 content-type text/plain \
             lf-string '%[src] %[src_port] %[dst] %[dst_port]'"
        ),
    );
    for (target, version) in [(nginx, "v1"), (nginx, "v2"), (haproxy, "v1"), (haproxy, "v2")] {
        let listen = free_address();
        let _ringgate = Ringgate::start(&sending(listen, target, version, ""));
        for client in [Ipv4Addr::new(127, 0, 0, 7), Ipv4Addr::new(127, 0, 0, 9)] {
            let (mut client, own) = from(client, listen);
            let expected = format!("{} {} {} {}", own.ip(), own.port(), listen.ip(), listen.port());
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), expected, "{target} {version}");
            }
        }
    }
}

#[test]
fn haproxy_verifies_checksum_and_reads_what_is_said() {
    let (dir, address, listen) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    let _haproxy = Process::haproxy(
        dir.path(),
        address,
        &format!(
            "frontend all\n  bind {address} accept-proxy\n  http-request return status 200 content-type text/plain \
             lf-string '%[fc_pp_authority] %[fc_pp_unique_id] %[req.hdr(x-request-id)]'"
        ),
    );
    let _ringgate = Ringgate::start(&sending(listen, address, "v2", ""));
    let answer = Client::connect(listen).send(GET).response().text();
    let words: Vec<&str> = answer.split(' ').collect();
    assert_eq!(words.len(), 3, "{answer}");
    assert_eq!(words[0], "a.test");
    assert_eq!((words[1].len(), words[1]), (32, words[2]), "{answer}");
}

#[test]
fn version_1_is_one_line() {
    let (origin, seen) = expecting(line);
    let listen = free_address();
    let _ringgate = Ringgate::start(&sending(listen, origin.address, "v1", ""));
    let (mut client, own) = from(Ipv4Addr::new(127, 0, 0, 7), listen);
    assert_eq!(client.send(GET).response().text(), "ok");
    let expected = format!("PROXY TCP4 127.0.0.7 127.0.0.1 {} {}", own.port(), listen.port());
    assert_eq!(*seen.lock().unwrap(), [expected]);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("127.0.0.7"));
}

#[test]
fn version_2_is_binary_and_sealed() {
    let (origin, seen) = expecting(read_v2);
    let listen = free_address();
    let _ringgate = Ringgate::start(&sending(listen, origin.address, "v2", ""));
    let (mut client, own) = from(Ipv4Addr::new(127, 0, 0, 7), listen);
    assert_eq!(client.send(GET).response().text(), "ok");
    let header = seen.lock().unwrap()[0].clone();
    let (from, to) = (own.port().to_be_bytes(), listen.port().to_be_bytes());
    let addresses = [&[127, 0, 0, 7, 127, 0, 0, 1], &from[..], &to[..]].concat();
    assert_eq!(header.octets[12..14], [0x21, 0x11]);
    assert_eq!(header.octets[16..28], addresses);
    header.assert_sealed();
    assert_eq!(header.text(2), "a.test", "the host, as nothing else is known");
    assert_eq!(Some(header.text(5).as_str()), origin.last().header("x-request-id"));
    assert!(header.all(1).is_empty() && header.all(0x20).is_empty(), "no TLS, no ALPN");
}

#[test]
fn whom_a_trusted_proxy_names_goes_on() {
    let (origin, seen) = expecting(line);
    let listen = free_address();
    let config = sending(listen, origin.address, "v1", "");
    let _ringgate = Ringgate::start(&format!("{TRUSTING}{config}"));
    for (named, expected) in [
        ("203.0.113.5", format!("PROXY TCP4 203.0.113.5 127.0.0.1 0 {}", listen.port())),
        ("2001:db8::5", format!("PROXY TCP6 2001:db8::5 ::ffff:127.0.0.1 0 {}", listen.port())),
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {named}\r\n\r\n");
        assert_eq!(Client::connect(listen).send(head).response().text(), "ok");
        assert_eq!(seen.lock().unwrap().last(), Some(&expected));
    }
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
}

/// A header of a balancer in front: 203.0.113.9:40000 to 198.51.100.1:443.
fn in_front(tlvs: &[u8]) -> Vec<u8> {
    let addresses = [203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb];
    let length = u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x21, 0x11], &length[..], &addresses, tlvs].concat()
}

fn by_tls(client: u8, verify: u8) -> Vec<u8> {
    let more = [tlv(0x21, b"TLSv1.3"), tlv(0x22, b"alice"), tlv(0x23, b"TLS_AES_128_GCM_SHA256")];
    tlv(0x20, &[&[client, 0, 0, 0, verify][..], &more.concat()].concat())
}

fn behind_a_balancer(listen: SocketAddr, target: SocketAddr) -> Ringgate {
    let config = sending(listen, target, "v2", "")
        .replace("name = \"web\"", "name = \"web\"\nproxy_protocol = \"v2\"");
    let log = "\n[log]\naccess = \"stdout\"\nformat = \"log $scheme $client $tls_version $tls_cipher $sni $alpn $proxied_id\"\n";
    Ringgate::start(&format!("{TRUSTING}{config}{log}"))
}

#[test]
fn what_the_balancer_in_front_says_is_believed_and_goes_on() {
    let (origin, seen) = expecting(read_v2);
    let listen = free_address();
    let ringgate = behind_a_balancer(listen, origin.address);
    let said =
        [tlv(1, b"h2"), tlv(2, b"sni.test"), tlv(5, b"one of theirs"), by_tls(0x01 | 0x02, 0)];
    let mut client = Client::connect(listen);
    client.send([in_front(&said.concat()), GET.to_vec()].concat());
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.get("/again").text(), "ok");
    for (request, header) in origin.requests().iter().zip(seen.lock().unwrap().iter()) {
        assert_eq!(request.header("x-forwarded-for"), Some("203.0.113.9"));
        assert_eq!(request.header("x-forwarded-proto"), Some("https"));
        assert_eq!(request.header("x-forwarded-port"), Some("443"));
        assert!(request.header("forwarded").unwrap().contains("proto=https"));
        assert_eq!(header.octets[16..28], [203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb]);
        header.assert_sealed();
        assert_eq!((header.text(1), header.text(2)), ("h2".to_owned(), "sni.test".to_owned()));
        assert_eq!(Some(header.text(5).as_str()), request.header("x-request-id"));
        let tls = &header.all(0x20)[0];
        assert_eq!(tls[1..5], [0; 4], "its certificate was verified");
        assert_eq!(tls[0] & 0x03, 0x03);
        assert_eq!(values(&tls[5..], 0x21), [b"TLSv1.3"]);
        assert_eq!(values(&tls[5..], 0x22), [b"alice"]);
        assert_eq!(values(&tls[5..], 0x23), [b"TLS_AES_128_GCM_SHA256"]);
    }
    assert_eq!((origin.requests().len(), origin.connections()), (2, 2));
    const LOGGED: &str =
        "log https 203.0.113.9 TLSv1.3 TLS_AES_128_GCM_SHA256 sni.test h2 one\\x20of\\x20theirs";
    eventually("it is logged", || ringgate.output().matches(LOGGED).count() == 2);
}

#[test]
fn no_tls_in_front_is_http_and_no_proof_of_a_certificate_is_none() {
    let (origin, seen) = expecting(read_v2);
    let listen = free_address();
    let _ringgate = behind_a_balancer(listen, origin.address);
    for (tlvs, proto, proof) in [
        (tlv(1, b"http/1.1"), "http", None),
        (by_tls(0, 0), "http", None),
        (by_tls(1, 0), "https", Some(false)),
        (by_tls(3, 20), "https", Some(false)),
        (by_tls(5, 0), "https", Some(true)),
    ] {
        let mut client = Client::connect(listen);
        client.send([in_front(&tlvs), GET.to_vec()].concat());
        assert_eq!(client.response().text(), "ok");
        assert_eq!(origin.last().header("x-forwarded-proto"), Some(proto));
        let header = seen.lock().unwrap().last().unwrap().clone();
        let verified = header.all(0x20).first().map(|tls| tls[1..5] == [0; 4]);
        assert_eq!(verified, proof, "{tlvs:?}");
    }
}

#[test]
fn tls_09_a_connection_speaks_for_one_client_only() {
    let (origin, seen) = expecting(line);
    let listen = free_address();
    let on = sending(listen, origin.address, "v1", "");
    let off = forwarding(listen, &[origin.address], "");
    let ringgate = Ringgate::start(&on);
    let clients: Vec<Ipv4Addr> = (10..18).map(|n| Ipv4Addr::new(127, 0, 0, n)).collect();
    for round in 0..3 {
        for address in &clients {
            let (mut client, own) = from(*address, listen);
            for _ in 0..2 {
                assert_eq!(client.get("/").text(), "ok");
                let line = seen.lock().unwrap().last().unwrap().clone();
                let expected = format!("PROXY TCP4 {address} 127.0.0.1 {}", own.port());
                assert!(line.starts_with(&expected), "{round}: {line} for {own}");
            }
        }
    }
    assert_eq!(origin.connections(), clients.len() * 6);
    assert_eq!(ringgate.sum("ringgate_target_idle_connections", &[]), 0.0);
    drop(ringgate);

    // A pool that was filled without headers is not used with them, and the other way round.
    let plain = Origin::script(|conn| {
        let mut first = true;
        while let Some(mut request) = conn.wire.head()? {
            if request.start.starts_with("PROXY ") {
                assert!(first, "a header in the middle of a connection");
            }
            first = false;
            conn.wire.framed_body(&mut request)?;
            conn.remember(&request);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let listen = free_address();
    let (on, off) = (
        on.replace(&origin.address.to_string(), &plain.address.to_string()),
        off.replace(&origin.address.to_string(), &plain.address.to_string()),
    );
    let move_to = |text: &str| {
        let bind = text.lines().find(|l| l.starts_with("bind")).unwrap().to_owned();
        text.replace(&bind, &format!("bind = [\"{listen}\"]"))
    };
    let ringgate = Ringgate::start(&move_to(&off));
    let mut client = Client::connect(listen);
    for (config, starts) in [(&on, "PROXY TCP4 "), (&off, "GET /"), (&on, "PROXY TCP4 ")] {
        assert_eq!(client.get("/").text(), "ok");
        ringgate.reload(&move_to(config));
        for _ in 0..2 {
            assert_eq!(client.get("/").text(), "ok");
            let start = plain.last().start;
            assert!(start.starts_with(starts), "{start}");
        }
    }
}

#[test]
fn probes_say_that_they_are_no_clients() {
    const PROBED: &str = "health = { type = \"KIND\", interval = \"50ms\", timeout = \"50ms\" }\n";
    for kind in ["http", "tcp"] {
        let health = PROBED.replace("KIND", kind);
        let (origin, seen) = expecting(line);
        let _ringgate = Ringgate::start(&sending(free_address(), origin.address, "v1", &health));
        eventually("three probes", || seen.lock().unwrap().len() >= 3);
        assert!(seen.lock().unwrap().iter().all(|line| line == "PROXY UNKNOWN"));

        let (origin, seen) = expecting(read_v2);
        let ringgate = Ringgate::start(&sending(free_address(), origin.address, "v2", &health));
        eventually("three probes", || seen.lock().unwrap().len() >= 3);
        for header in seen.lock().unwrap().iter() {
            assert_eq!(header.octets[12..14], [0x20, 0x00]);
            header.assert_sealed();
        }
        assert!(origin.requests().iter().all(|r: &Message| r.method() == "GET"));
        eventually("it is healthy", || ringgate.target_states() == ["healthy -"]);
    }
}

#[test]
fn a_request_that_is_sent_again_brings_its_header_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = Arc::clone(&seen);
    let origin = Origin::script(move |conn| {
        its.lock().unwrap().push(conn.wire.line()?);
        conn.request()?;
        if conn.number == 0 {
            return Ok(());
        }
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&sending(listen, origin.address, "v1", ""));
    assert_eq!(Client::connect(listen).get("/").text(), "ok");
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), &seen[0]), (2, &seen[1]));
}

#[test]
fn uploads_in_pieces_follow_their_header() {
    let (origin, seen) = expecting(line);
    let listen = free_address();
    let _ringgate = Ringgate::start(&sending(listen, origin.address, "v1", ""));
    let mut client = Client::connect(listen);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..3 {
        client.send("5\r\nhello\r\n");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(client.send("0\r\n\r\n").response_to("POST").text(), "ok");
    assert_eq!(origin.last().text(), "hellohellohello");
    assert_eq!((seen.lock().unwrap().len(), origin.connections()), (1, 1));
}

#[test]
fn what_was_agreed_on_here_is_told_to_targets() {
    let (authority, clients) = (Authority::new("ca"), Authority::new("clients"));
    let (issued, alice) = (authority.issue(&["a.test"]), clients.issue(&["alice"]));
    let (origin, seen) = expecting(read_v2);
    for (auth, verified) in [
        (format!(", client_ca = \"{}\"", clients.file.display()), true),
        (format!(", client_ca = \"{}\", client_auth = \"optional\"", clients.file.display()), true),
        (", client_auth = \"passthrough\"".to_owned(), false),
        (String::new(), false),
    ] {
        let listen = free_address();
        let tls = format!(
            "protocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}]{auth} }}",
            issued.cert.display(),
            issued.key.display()
        );
        let config = sending(listen, origin.address, "v2", "")
            .replace("name = \"web\"", &format!("name = \"web\"\n{tls}"));
        let _ringgate = Ringgate::start(&config);
        let done = Command::new(program("curl", "curl"))
            .args(["-sS", "--max-time", "10", "--tlsv1.3", "--cacert"])
            .arg(&authority.file)
            .arg("--cert")
            .arg(&alice.cert)
            .arg("--key")
            .arg(&alice.key)
            .args(["--http1.1", "--resolve"])
            .arg(format!("a.test:{}:{}", listen.port(), listen.ip()))
            .arg(format!("https://a.test:{}/", listen.port()))
            .output()
            .unwrap();
        assert_eq!(done.stdout, b"ok", "{auth}: {}", String::from_utf8_lossy(&done.stderr));
        let header = seen.lock().unwrap().last().unwrap().clone();
        header.assert_sealed();
        assert_eq!((header.text(1), header.text(2)), ("http/1.1".to_owned(), "a.test".to_owned()));
        let tls = header.all(0x20)[0].clone();
        assert_eq!(tls[0], if verified { 0x07 } else { 0x01 }, "{auth}");
        assert_eq!(tls[1..5] == [0; 4], verified, "{auth}");
        assert_eq!(values(&tls[5..], 0x21), [b"TLSv1.3"]);
        let name: &[&[u8]] = if verified { &[b"alice"] } else { &[] };
        assert_eq!(values(&tls[5..], 0x22), name, "{auth}");
        assert!(values(&tls[5..], 0x23)[0].starts_with(b"TLS_"));
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    }
}
