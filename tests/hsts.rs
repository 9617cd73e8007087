//! How clients are brought to https and kept there: `redirect_https` and `Strict-Transport-Security`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::process::Command;
use support::authority::Authority;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, Wire, free_address, program, tls};

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

/// A listener that speaks TLS with these lines, and a group with the target; the authority of its certificate.
fn secure(listen: SocketAddr, target: SocketAddr, lines: &str, rest: &str) -> (Authority, String) {
    let authority = Authority::new("ca");
    let issued = authority.issue(&["a.test"]);
    let tls = format!(
        "protocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}]{rest} }}\n{lines}",
        issued.cert.display(),
        issued.key.display()
    );
    (authority, with(listen, target, &tls))
}

/// A request over TLS on a connection of its own.
fn ask(to: SocketAddr, request: &str) -> Message {
    let mut wire = Wire::new(tls::connect(to, "a.test", &["http/1.1"]).unwrap().0);
    wire.send(request.as_bytes()).unwrap();
    wire.response(request.split(' ').next().unwrap()).unwrap().unwrap()
}

#[test]
fn every_response_says_that_https_is_to_be_used() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let own = match request.target() {
                "/own" => "Strict-Transport-Security: max-age=7\r\n",
                "/odd" => "STRICT-transport-security: max-age=8\r\n",
                _ => "X-Strict-Transport-Security: no\r\n",
            };
            let interim = if request.target() == "/interim" {
                "HTTP/1.1 103 Early Hints\r\n\r\n"
            } else {
                ""
            };
            conn.send(format!("{interim}HTTP/1.1 200 OK\r\n{own}Content-Length: 2\r\n\r\nok"))?;
        }
        Ok(())
    });
    let listen = free_address();
    let hsts = "hsts = { max_age = \"365d\", include_subdomains = true, preload = true }\n";
    let (_authority, config) = secure(listen, origin.address, hsts, "");
    let rules = "[[rule]]\nname = \"fixed\"\nwhen = { path = [\"/fixed\"] }\nrespond = { status = 200, body = \"x\" }\n\
                 [[rule]]\nname = \"set\"\nwhen = { path = [\"/set\"] }\n\
                 respond = { status = 200, body = \"x\", headers = { Strict-Transport-Security = \"max-age=9\" } }\n\
                 [[rule]]\nname = \"away\"\nwhen = { path = [\"/away\"] }\nredirect = { host = \"b.test\" }\n\
                 [[rule]]\nname = \"dead\"\nwhen = { path = [\"/dead\"] }\nforward = \"dead\"\n\
                 [group.dead]\ntargets = []\n";
    let _ringgate = Ringgate::start(&format!("{config}{rules}"));
    const WHOLE: &str = "max-age=31536000; includeSubDomains; preload";
    for (request, status, expected) in [
        ("GET /", 200, WHOLE),
        ("HEAD /", 200, WHOLE),
        ("GET /interim", 103, ""),
        ("GET /own", 200, "max-age=7"),
        ("GET /odd", 200, "max-age=8"),
        ("GET /fixed", 200, WHOLE),
        ("GET /set", 200, "max-age=9"),
        ("GET /away", 302, WHOLE),
        ("GET /dead", 503, WHOLE),
        ("TRACE /", 405, WHOLE),
        ("GET /%00", 400, WHOLE),
        ("BAD", 400, WHOLE),
    ] {
        let answer = ask(listen, &format!("{request} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        assert_eq!(answer.status(), status, "{request}");
        let said = answer.header("strict-transport-security").unwrap_or_default();
        assert_eq!(said, expected, "{request}");
    }
}

#[test]
fn without_the_key_nothing_is_promised() {
    let (origin, listen) = (Origin::saying("ok"), free_address());
    let (_authority, config) = secure(listen, origin.address, "", "");
    let _ringgate = Ringgate::start(&config);
    let answer = ask(listen, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((answer.status(), answer.header("strict-transport-security")), (200, None));
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn curl_is_brought_to_https() {
    let (origin, plain, listen) = (Origin::saying("ok"), free_address(), free_address());
    let (authority, config) = secure(listen, origin.address, "hsts = { max_age = 60 }\n", "");
    let more = format!(
        "[[listener]]\nname = \"plain\"\nbind = [\"{plain}\"]\nredirect_https = {}\n",
        listen.port()
    );
    let _ringgate = Ringgate::start(&format!("{config}{more}"));
    let to = |address: SocketAddr| format!("a.test:{}:{}", address.port(), address.ip());
    let done = Command::new(program("curl", "curl"))
        .args(["-sSiL", "--max-time", "10", "--resolve", &to(plain), "--resolve", &to(listen)])
        .arg("--cacert")
        .arg(&authority.file)
        .args(["-d", "posted", &format!("http://a.test:{}/form?x=1", plain.port())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).to_ascii_lowercase();
    assert!(said.contains(" 308 ") && said.contains(" 200"), "{said}");
    assert!(said.contains(&format!("location: https://a.test:{}/form?x=1\r\n", listen.port())));
    assert!(said.contains("strict-transport-security: max-age=60\r\n"), "{said}");
    assert_eq!((origin.last().method(), origin.last().text().as_str()), ("POST", "posted"));
}
