//! An external service decides, over real sockets: what it is sent, what comes of each answer, and what comes of none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use support::h2raw::{H2, WHOLE, request_with};
use support::process::Process;
use support::{Client, Message, Origin, Ringgate, eventually, free_address, program};

/// A site with a login: who has no session is sent to it; who has one is let in, or not, by what they want.
const LOGIN: &str = r#"
const http = require("http");
http.createServer((request, response) => {
  const { cookie = "", "x-forwarded-uri": uri, "x-forwarded-method": method } = request.headers;
  const session = /(?:^|; )session=(\w+)/.exec(cookie);
  if (!session) {
    const back = request.headers["x-original-url"];
    response.writeHead(302, {
      Location: "https://login.test/?back=" + encodeURIComponent(back),
      "Set-Cookie": ["state=s1; HttpOnly", "seen=1"],
      "Content-Type": "text/html",
      "X-Inner": "no",
    });
    return response.end("<a>login</a>");
  }
  if (uri.startsWith("/admin") && session[1] !== "root") {
    response.writeHead(403, { "Content-Type": "text/plain" });
    return response.end("not for " + session[1] + " by " + method);
  }
  response.writeHead(200, { "X-User": session[1], "X-Role": ["a", "b"], "Set-Cookie": "renewed=1" });
  response.end("a page that nobody sees");
}).listen(process.argv[2], "127.0.0.1");
"#;

struct World {
    web: SocketAddr,
    origin: Origin,
}

impl World {
    fn new() -> World {
        World { web: free_address(), origin: Origin::echo() }
    }

    fn config(&self, url: &str, more: &str) -> String {
        format!(
            "[log]\naccess = \"./access.log\"\n[[listener]]\nname = \"web\"\nbind = [\"{}\"]\n\
             [[rule]]\nname = \"free\"\npriority = 1\nforward = \"app\"\nwhen = {{ path = [\"/free\"] }}\n\
             [[rule]]\nname = \"app\"\npriority = 2\npolicy = [\"site\"]\nforward = \"app\"\n\
             [policy.site.forward_auth]\nurl = \"{url}\"\n{more}\n\
             [group.app]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            self.web, self.origin.address
        )
    }

    fn start(&self, service: &Origin, more: &str) -> Ringgate {
        Ringgate::start(&self.config(&format!("http://{}/check", service.address), more))
    }

    fn ask(&self, lines: &str) -> Message {
        Client::connect(self.web).send(head("GET", "/x", lines)).response()
    }
}

fn head(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: A.test\r\n{lines}\r\n")
}

fn ok(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n")
}

#[test]
fn a_login_in_front_of_a_site() {
    let (world, work) = (World::new(), tempfile::tempdir().unwrap());
    let service = free_address();
    std::fs::write(work.path().join("login.js"), LOGIN).unwrap();
    let mut node = Command::new(program("node", "nodejs"));
    node.arg("login.js").arg(service.port().to_string());
    let _running = Process::start(node, work.path(), service);
    // By a name that only ringgate's own resolver knows (RFC 6761 section 6.3).
    let url = format!("http://login.localhost:{}/check", service.port());
    let more = "headers_to_target = [\"x-user\", \"x-role\"]\nheaders_to_client = [\"set-cookie\"]\n\
                consumer = \"x-user\"\ntimeout = \"10s\"";
    let ringgate = Ringgate::start(&world.config(&url, more));
    let mut client = Client::connect(world.web);
    let answer = client.send(head("GET", "/a?b=c", "X-User: admin\r\n")).response();
    assert_eq!(answer.status(), 302);
    let back = "https://login.test/?back=http%3A%2F%2Fa.test";
    assert!(
        answer.header("location").unwrap().starts_with(back),
        "{:?}",
        answer.header("location")
    );
    assert!(answer.header("location").unwrap().ends_with("%2Fa%3Fb%3Dc"));
    assert_eq!(answer.all("set-cookie"), ["state=s1; HttpOnly", "seen=1"]);
    assert_eq!((answer.header("x-inner"), answer.text().as_str()), (None, "<a>login</a>"));

    let lines = "Cookie: session=u1\r\nX-User: admin\r\nX-Role: root\r\n";
    let answer = client.send(head("GET", "/a", lines)).response();
    assert_eq!((answer.status(), answer.header("set-cookie")), (200, Some("renewed=1")));
    assert!(!answer.text().contains("nobody sees"));
    let seen = world.origin.last();
    assert_eq!((seen.all("x-user"), seen.all("x-role")), (vec!["u1"], vec!["a", "b"]));
    assert_eq!(seen.header("cookie"), Some("session=u1"));

    // A body is neither sent to the service nor lost on the way.
    let post =
        head("POST", "/a", "Cookie: session=u1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n");
    client.send(post);
    let interim = client.response_to("POST");
    let answer = if interim.status() == 100 {
        client.send("hello").response_to("POST")
    } else {
        panic!("{}", interim.start)
    };
    assert!(answer.status() == 200 && answer.text().ends_with("hello"), "{}", answer.text());

    let answer = client.send(head("DELETE", "/admin/x", "Cookie: session=u1\r\n")).response();
    assert_eq!((answer.status(), answer.text().as_str()), (403, "not for u1 by DELETE"));
    let answer =
        client.send(head("HEAD", "/admin/x", "Cookie: session=u1\r\n")).response_to("HEAD");
    assert_eq!(answer.status(), 403);
    let answer = client.send(head("GET", "/admin/x", "Cookie: session=root\r\n")).response();
    assert_eq!(answer.status(), 200);
    // A path that only looks like another one is judged as what is sent on.
    let answer = client.send(head("GET", "/a/../admin/x", "Cookie: session=u1\r\n")).response();
    assert_eq!(answer.status(), 403);
    let log =
        || std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap_or_default();
    eventually("the log has the user", || log().contains("\"u1\""));
    assert_eq!(ringgate.sum("ringgate_policy_decisions_total", &["decision=\"answer\""]), 4.0);
}

#[test]
fn the_service_is_sent_nothing_that_a_client_can_forge() {
    let world = World::new();
    let service = Origin::answering(ok("X-User: u1\r\n"));
    let _ringgate = world.start(&service, "headers_to_target = [\"x-user\"]");
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Uri: /free\r\nX-Forwarded-Method: OPTIONS\r\n\
                  X-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\nX-Original-URL: /free\r\n\
                  X-Original-Method: HEAD\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\
                  X-User: admin\r\nAuthorization: Bearer t\r\nCookie: a=1\r\nX-Other: 1\r\n\
                  Connection: X-Nominated\r\nX-Nominated: 1\r\n";
    assert_eq!(world.ask(forged).status(), 200);
    let seen = service.last();
    assert_eq!(seen.start, "GET /check HTTP/1.1");
    let port = world.web.port();
    for (name, expected) in [
        ("x-forwarded-for", Some("127.0.0.1".to_owned())),
        ("x-forwarded-uri", Some("/x".to_owned())),
        ("x-forwarded-method", Some("GET".to_owned())),
        ("x-forwarded-host", Some(format!("a.test:{port}"))),
        ("x-forwarded-proto", Some("http".to_owned())),
        ("x-forwarded-port", Some(port.to_string())),
        ("x-original-url", Some(format!("http://a.test:{port}/x"))),
        ("x-original-method", Some("GET".to_owned())),
        ("authorization", Some("Bearer t".to_owned())),
        ("cookie", Some("a=1".to_owned())),
        ("host", Some(service.address.to_string())),
        ("forwarded", None),
        ("x-real-ip", None),
        ("x-user", None),
        ("x-other", None),
        ("x-nominated", None),
    ] {
        assert_eq!(seen.header(name).map(str::to_owned), expected, "{name}");
    }
    assert_eq!(world.origin.last().all("x-user"), ["u1"]);
}

#[test]
fn cookies_of_http2_are_sent_as_one() {
    let world = World::new();
    let service = Origin::answering(ok(""));
    let _ringgate = world.start(&service, "");
    let mut h2 = H2::open(world.web);
    h2.head(1, WHOLE, &request_with("GET", "/x", &[("cookie", "a=1"), ("cookie", "b=2")]));
    assert_eq!(h2.outcome(1).answer().status(), 200);
    assert_eq!(service.last().all("cookie"), ["a=1; b=2"]);
}

#[test]
fn no_answer_of_the_service_can_add_a_line() {
    let world = World::new();
    let evil = [
        "X-User: u1\rX-Admin: 1\r\n",
        "X-User: u1\0\r\n",
        "X-User: u1\r\n X-Admin: 1\r\n",
        "X-User: u1\nX-Admin: 1\r\n",
        "X-User: a\u{7f}b\r\n",
        "X-User : u1\r\n",
    ];
    let more =
        "headers_to_target = [\"x-user\"]\nheaders_to_client = [\"x-user\"]\ntimeout = \"10s\"";
    let first = Origin::answering(ok(""));
    let ringgate = world.start(&first, more);
    for line in evil {
        for status in ["200 OK", "403 No"] {
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: /\u{1}\r\n{line}\r\n");
            let service = Origin::answering(answer);
            ringgate.reload(&world.config(&format!("http://{}/", service.address), more));
            let answer = world.ask("");
            assert!([200, 403, 503].contains(&answer.status()), "{line:?}: {}", answer.start);
            assert_eq!(
                (answer.header("x-admin"), answer.header("location")),
                (None, None),
                "{line:?}"
            );
            if answer.status() == 200 {
                let seen = world.origin.last();
                assert_eq!(seen.header("x-admin"), None, "{line:?}");
                let value = seen.header("x-user").unwrap_or_default();
                assert!(value.chars().all(|c| !c.is_control()), "{line:?}: {value:?}");
            }
        }
    }
}

#[test]
fn without_a_decision_nobody_passes_unless_the_file_says_so() {
    let world = World::new();
    let inside = Origin::saying("inside");
    let big = format!("HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let endless = format!(
        "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(20)
    );
    let of_length_0 = |status: u16| format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
    // The last tells whether the service has failed, or a client could have brought it about.
    let cases: Vec<(&str, String, bool)> = vec![
        ("an error", of_length_0(500), true),
        ("not found", of_length_0(404), false),
        ("a head that it does not take", of_length_0(431), false),
        ("not modified", "HTTP/1.1 304 No\r\n\r\n".to_owned(), false),
        ("a page too large", big, false),
        ("a refusal without an end", endless, false),
        ("cut short", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx".to_owned(), true),
        ("no HTTP", "+OK\r\n".to_owned(), true),
        ("silence", String::new(), true),
    ];
    let down = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{down}/secret-path?secret=1");
    let ringgate = Ringgate::start(&world.config(&url, ""));
    let check = |name: &str, allow: bool| {
        let answer = world.ask("Cookie: canary=1\r\n");
        let expected = if allow { (200, "-") } else { (503, "authorization_unavailable") };
        assert_eq!((answer.status(), answer.reason()), expected, "{name}, allow: {allow}");
        assert_eq!(support::get(world.web, "/free").status(), 200, "{name}");
    };
    check("down", false);
    for (name, octets, failed) in cases {
        let service = Origin::script(move |conn| {
            if conn.request()?.is_some() {
                conn.send(&octets)?;
                if octets.is_empty() {
                    // Until ringgate gives up.
                    let _ = conn.wire.rest();
                }
            }
            Ok(())
        });
        for (allow, word) in [(false, "deny"), (true, "allow")] {
            let more = format!("timeout = \"1s\"\non_failure = \"{word}\"");
            ringgate
                .reload(&world.config(&format!("http://{}/secret-path", service.address), &more));
            check(name, allow && failed);
        }
    }
    assert_eq!(inside.requests().len(), 0);
    for secret in ["canary", "secret"] {
        assert!(!ringgate.output().contains(secret), "AUTH-14: {}", ringgate.output());
    }
}

// Hazard AUTH-22.
#[test]
fn auth_22_decisions_are_remembered_by_all_that_was_sent() {
    let world = World::new();
    let service = Origin::answering(ok(""));
    let ringgate = world.start(&service, "cache = \"1h\"");
    let mut client = Client::connect(world.web);
    let mut ask = |method: &str, path: &str, lines: &str| {
        let before = service.requests().len();
        let answer = client.send(head(method, path, lines)).response_to(method);
        assert_eq!(answer.status(), 200);
        service.requests().len() - before
    };
    let lines = "Authorization: Bearer a\r\nCookie: c=1\r\n";
    assert_eq!(ask("GET", "/x", lines), 1);
    for (method, path, lines, calls) in [
        ("GET", "/x", lines, 0),
        ("GET", "/x", "X-Other: 1\r\nCookie: c=1\r\nAuthorization: Bearer a\r\n", 0),
        ("GET", "/x", "Authorization: Bearer b\r\nCookie: c=1\r\n", 1),
        ("GET", "/x", "Authorization: Bearer a\r\nCookie: c=2\r\n", 1),
        ("GET", "/x", "Authorization: Bearer a\r\n", 1),
        ("GET", "/x", "", 1),
        ("HEAD", "/x", lines, 1),
        ("GET", "/X", lines, 1),
        ("GET", "/x?q", lines, 1),
        ("GET", "/x", lines, 0),
    ] {
        assert_eq!(ask(method, path, lines), calls, "{method} {path} {lines:?}");
    }
    // Another configuration decides anew.
    let url = format!("http://{}/check", service.address);
    ringgate.reload(&world.config(&url, "cache = \"30m\""));
    assert_eq!(ask("GET", "/x", lines), 1);
    ringgate.reload(&world.config(&url, "cache = \"30m\" # no change"));
    assert_eq!(ask("GET", "/x", lines), 0);
}

#[test]
fn many_requests_share_few_connections_and_a_closed_one_is_not_noticed() {
    let world = World::new();
    let service = Origin::answering(ok(""));
    let _ringgate = world.start(&service, "");
    let mut client = Client::connect(world.web);
    for _ in 0..200 {
        assert_eq!(client.get("/x").status(), 200);
    }
    assert!(service.connections() <= 4, "{} connections", service.connections());
    // A service that closes each connection after two requests.
    let closing = Origin::script(|conn| {
        for _ in 0..2 {
            if conn.request()?.is_some() {
                conn.send(ok(""))?;
            }
        }
        Ok(())
    });
    let world = World::new();
    let _ringgate = world.start(&closing, "");
    let mut client = Client::connect(world.web);
    for number in 0..200 {
        assert_eq!(client.get("/x").status(), 200, "request {number}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_its_place() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let file = dir.path().join("ringgate.toml");
    for (url, more, expected) in [
        ("http://127.0.0.1:9/x", "", ""),
        ("http://127.0.0.1:9/x", "send = []", ""),
        ("http://127.0.0.1:9/x", "headers_to_target = [\"authorization\"]", ""),
        ("ftp://a/x", "", "forward_auth.url"),
        ("http://u:p@a/x", "", "forward_auth.url"),
        ("http://a/x", "send = [\"X-Forwarded-For\"]", "ringgate sends that itself"),
        (
            "http://a/x",
            "send = [\"x-a\"]\nheaders_to_target = [\"X-A\"]",
            "no client may tell the service",
        ),
        ("http://a/x", "send = [\"host\"]", "forward_auth.send[0]"),
        ("http://a/x", "headers_to_client = [\"content-length\"]", "headers_to_client[0]"),
        ("http://a/x", "on_failure = \"pass\"", "one of deny, allow"),
        ("http://a/x", "ca = \"./none.pem\"", "a file that can be read"),
        ("http://a/x", "answer_limit = \"2MiB\"", "forward_auth.answer_limit"),
    ] {
        std::fs::write(&file, world.config(url, more)).unwrap();
        let (code, text) = support::ringgate::command(&["check", "-c", file.to_str().unwrap()]);
        assert_eq!(code, if expected.is_empty() { 0 } else { 2 }, "{url} {more}: {text}");
        assert!(text.contains(expected), "{text}");
    }
}
