//! Connections that begin with a PROXY header: whose they are, and who may say so (hazard HDR-07).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::io::Write;
use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Origin, Ringgate, free_address, send_raw};

fn behind(trusted: &str, versions: &str) -> (Origin, Ringgate, SocketAddr) {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "")
        .replace("name = \"web\"", &format!("name = \"web\"\nproxy_protocol = \"{versions}\""));
    let ringgate = Ringgate::start(&format!("[server]\ntrusted_proxies = [{trusted}]\n\n{config}"));
    (origin, ringgate, listen)
}

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const TRUSTED: &str = "\"127.0.0.0/8\"";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[
        0x21, 0x11, 0, 12, 203, 0, 113, 9, 198, 51, 100, 1, 0x9c, 0x40, 1, 0xbb,
    ]);
    header
}

#[test]
fn the_client_is_whom_the_header_names() {
    let (origin, _ringgate, listen) = behind(TRUSTED, "any");
    for (header, client) in [(V1.to_vec(), "203.0.113.7"), (v2(), "203.0.113.9")] {
        let mut wire = Client::connect(listen);
        wire.send([header.as_slice(), GET].concat());
        assert_eq!(wire.response().status(), 200);
        assert_eq!(origin.last().header("x-forwarded-for"), Some(client));
        assert_eq!(wire.get("/again").status(), 200, "and the connection goes on");
        assert_eq!(origin.last().header("x-forwarded-for"), Some(client));
    }
}

#[test]
fn it_may_arrive_octet_by_octet() {
    let (origin, _ringgate, listen) = behind(TRUSTED, "v2");
    let mut wire = Client::connect(listen);
    for octet in v2().iter().chain(GET) {
        wire.wire.stream.write_all(&[*octet]).unwrap();
    }
    assert_eq!(wire.response().status(), 200);
    assert_eq!(origin.last().header("x-forwarded-for"), Some("203.0.113.9"));
}

#[test]
fn nobody_else_is_believed_and_nothing_else_is_taken() {
    let whole = [V1, GET].concat();
    for (trusted, versions, sent) in [
        ("", "any", whole.clone()),
        ("\"192.0.2.0/24\"", "any", whole.clone()),
        (TRUSTED, "any", GET.to_vec()),
        (TRUSTED, "v2", whole.clone()),
        (TRUSTED, "any", b"PROXY TCP4 203.0.113.7 198.51.100.1 040000 443\r\n".to_vec()),
    ] {
        let (origin, ringgate, listen) = behind(trusted, versions);
        let answer = send_raw(listen, &sent);
        assert!(answer.is_empty(), "{:?}", String::from_utf8_lossy(&answer));
        assert!(origin.requests().is_empty());
        let counted = ringgate.metric("ringgate_faults_total{reason=\"bad_proxy_header\"}");
        assert_eq!(counted, Some(1.0), "{trusted} {versions}");
    }
}

#[test]
fn without_the_key_a_header_is_no_request() {
    let (origin, _ringgate, listen) = behind(TRUSTED, "off");
    let answer = send_raw(listen, [V1, GET].concat());
    assert!(answer.starts_with(b"HTTP/1.1 400"));
    assert!(origin.requests().is_empty());
}
