//! How clients are brought to https and kept there: `redirect_https` and `Strict-Transport-Security`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Origin, Ringgate, free_address};

/// A listener with these lines of its own.
fn with(listen: SocketAddr, target: SocketAddr, lines: &str) -> String {
    forwarding(listen, &[target], "").replace("name = \"web\"", &format!("name = \"web\"\n{lines}"))
}

#[test]
fn every_request_is_sent_to_https() {
    let origin = Origin::saying("served");
    for (value, port) in [("true", ""), ("443", ""), ("8443", ":8443")] {
        let listen = free_address();
        let _ringgate =
            Ringgate::start(&with(listen, origin.address, &format!("redirect_https = {value}")));
        for (head, status, location) in [
            ("GET /a%62?x=1&y#HOST a.test", 301, "https://a.test/ab?x=1&y"),
            ("GET /#HOST A.test:8080", 301, "https://a.test/"),
            ("HEAD /x#HOST a.test", 301, "https://a.test/x"),
            ("POST /form#HOST a.test", 308, "https://a.test/form"),
            ("DELETE /x?#HOST a.test", 308, "https://a.test/x"),
            ("GET /#HOST [2001:db8::1]:80", 301, "https://[2001:db8::1]/"),
            ("GET http://b.test/q#HOST b.test", 301, "https://b.test/q"),
            (
                "GET /.well-known/acme-challenges#HOST a.test",
                301,
                "https://a.test/.well-known/acme-challenges",
            ),
        ] {
            let (start, host) = head.split_once("#HOST ").unwrap();
            let method = start.split(' ').next().unwrap();
            let length = if method == "POST" { "Content-Length: 3\r\n" } else { "" };
            let body = if method == "POST" { "abc" } else { "" };
            let mut client = Client::connect(listen);
            client.send(format!("{start} HTTP/1.1\r\nHost: {host}\r\n{length}\r\n{body}"));
            let answer = client.response_to(method);
            let (before, path) = location
                .rsplit_once(".test/")
                .map_or(("https://[2001:db8::1]", ""), |(host, path)| {
                    (&location[..host.len() + 5], path)
                });
            assert_eq!(answer.status(), status, "{head}");
            assert_eq!(answer.header("location"), Some(format!("{before}{port}/{path}").as_str()));
            assert!(answer.header("strict-transport-security").is_none());
            // The body was taken off the connection, which goes on.
            assert_eq!(client.get("/").status(), 301);
        }
        assert!(origin.requests().is_empty());
    }
}

#[test]
fn challenges_of_acme_are_served() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let _ringgate = Ringgate::start(&with(listen, origin.address, "redirect_https = true"));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/.well-known/acme-challenge/token").text(), "served");
    // Another way to write it is routed as what it is.
    assert_eq!(client.get("/.well-known/x/../acme-challenge/token").text(), "served");
    assert_eq!(client.get("/.well-known/acme-challenge/../token").status(), 301);
}

#[test]
fn a_client_that_came_by_tls_to_a_trusted_proxy_is_served() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let config = with(listen, origin.address, "redirect_https = true");
    let ask = |proto: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
        Client::connect(listen).send(head).response().status()
    };
    let ringgate = Ringgate::start(&config);
    assert_eq!(ask("https"), 301, "anyone can say so");
    ringgate.reload(&format!("[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\n{config}"));
    assert_eq!((ask("https"), ask("HTTPS"), ask("http")), (200, 200, 301));
}

#[test]
fn without_a_host_it_is_not_known_where_to() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let _ringgate = Ringgate::start(&with(listen, origin.address, "redirect_https = true"));
    let answer = Client::connect(listen).send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!((answer.status(), answer.reason()), (400, "host_missing"));
    assert!(origin.requests().is_empty());
}
