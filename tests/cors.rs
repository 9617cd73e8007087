//! What pages of other origins are told, over real sockets: preflights, answers of targets and of ringgate itself. Hazard AUTH-19.
//! What a browser makes of it is in `tests/browsers/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, free_address};

fn with(listen: SocketAddr, target: SocketAddr, lines: &str, rest: &str) -> String {
    let name = "name = \"web\"\n";
    forwarding(listen, &[target], "").replace(name, &format!("{name}{lines}\n")) + rest
}

#[track_caller]
fn ask(listen: SocketAddr, start: &str, fields: &str) -> Message {
    let (method, _) = start.split_once(' ').unwrap();
    let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
    let head = format!("{start} HTTP/1.1\r\nHost: a.test\r\n{length}{fields}\r\n");
    Client::connect(listen).send(head).response_to(method)
}

#[track_caller]
fn preflight(listen: SocketAddr, path: &str, origin: &str, method: &str) -> Message {
    let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n");
    ask(listen, &format!("OPTIONS {path}"), &fields)
}

/// The fields of CORS, without `access-control-`, in order.
fn told(answer: &Message) -> Vec<String> {
    let fields = answer.headers.iter().filter_map(|(name, value)| {
        let name = name.to_ascii_lowercase();
        Some(format!("{}: {value}", name.strip_prefix("access-control-")?))
    });
    let mut fields: Vec<String> = fields.collect();
    fields.sort();
    fields
}

/// A target that lets everybody in.
fn careless() -> Origin {
    Origin::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nACCESS-CONTROL-ALLOW-CREDENTIALS: true\r\n\
         Access-Control-Allow-Methods: *\r\nAccess-Control-Allow-Headers: *\r\nAccess-Control-Expose-Headers: *\r\n\
         Access-Control-Max-Age: 86400\r\nVary: Accept-Encoding\r\nContent-Length: 2\r\n\r\nok",
    )
}

const POLICY: &str = "
[policy.cors.cors]
origins = ['https://app.test', 'https://*.wild.test']
methods = ['GET', 'PUT']
headers = ['Content-Type', 'X-A']
expose = ['X-Total', 'Grpc-Status']
credentials = true
max_age = '5m'
";

#[test]
fn only_listed_origins_may_read() {
    let (origin, listen) = (careless(), free_address());
    let ringgate = Ringgate::start(&with(listen, origin.address, "policy = 'cors'", POLICY));
    for (from, admitted) in [
        ("https://app.test", true),
        ("https://x.wild.test", true),
        ("https://x.y.wild.test", false),
        ("https://wild.test", false),
        ("https://evilwild.test", false),
        ("https://evil-app.test", false),
        ("https://app.test.evil.test", false),
        ("https://app.test:8443", false),
        ("http://app.test", false),
        ("https://app.test/", false),
        ("https://app.test, https://evil.test", false),
        ("null", false),
        ("*", false),
    ] {
        let answer = ask(listen, "GET /", &format!("Origin: {from}\r\n"));
        let expected = match admitted {
            true => vec![
                "allow-credentials: true".to_owned(),
                format!("allow-origin: {from}"),
                "expose-headers: x-total, grpc-status".to_owned(),
            ],
            false => Vec::new(),
        };
        assert_eq!((answer.status(), told(&answer)), (200, expected), "{from}");
        assert_eq!(answer.all("vary"), ["Accept-Encoding", "Origin"], "{from}");
        let answer = preflight(listen, "/", from, "PUT");
        let expected = match admitted {
            true => vec![
                "allow-credentials: true".to_owned(),
                "allow-headers: content-type, x-a".to_owned(),
                "allow-methods: GET, PUT".to_owned(),
                format!("allow-origin: {from}"),
                "max-age: 300".to_owned(),
            ],
            false => Vec::new(),
        };
        assert_eq!((answer.status(), told(&answer)), (204, expected), "{from}");
        assert_eq!(answer.header("vary"), Some("Origin, Access-Control-Request-Method"));
        assert_eq!(answer.header("content-length"), None);
    }
    // Without an origin, too: a cache must keep the answers apart.
    let answer = ask(listen, "GET /", "");
    assert_eq!(
        (answer.all("vary"), told(&answer)),
        (vec!["Accept-Encoding", "Origin"], Vec::new())
    );
    assert!(origin.requests().iter().all(|request| request.method() == "GET"));
    let answered = ringgate.sum("ringgate_policy_decisions_total", &["cors", "\"answer\""]);
    assert_eq!(answered, 13.0, "{}", ringgate.metrics());
}

#[test]
fn preflights_are_answered_for_listed_methods_and_nothing_else_is_a_preflight() {
    let (origin, listen) = (careless(), free_address());
    let _ringgate = Ringgate::start(&with(listen, origin.address, "policy = 'cors'", POLICY));
    for (method, admitted) in
        [("GET", true), ("PUT", true), ("POST", false), ("DELETE", false), ("put", false)]
    {
        let answer = preflight(listen, "/", "https://app.test", method);
        assert_eq!((answer.status(), !told(&answer).is_empty()), (204, admitted), "{method}");
    }
    assert!(origin.requests().is_empty());
    // Hazard AUTH-12: OPTIONS by itself is a request like any other.
    for fields in [
        "Origin: https://app.test\r\n",
        "Access-Control-Request-Method: PUT\r\n",
        "Origin: https://app.test\r\nAccess-Control-Request-Headers: x-a\r\n",
        "Origin: https://app.test\r\nAccess-Control-Request-Method:\r\n",
    ] {
        assert_eq!(ask(listen, "OPTIONS /", fields).text(), "ok", "{fields}");
    }
    let fields = "Origin: https://app.test\r\nAccess-Control-Request-Method: PUT\r\n";
    assert_eq!(ask(listen, "GET /", fields).text(), "ok");
    assert_eq!(origin.requests().len(), 5);
}

#[test]
fn a_preflight_needs_no_route_and_is_judged_as_what_it_asks_for() {
    let (origin, listen) = (careless(), free_address());
    let rest = format!(
        "{POLICY}
[policy.open]
cors = {{ origins = '*', methods = 'GET' }}
[[rule]]
name = 'write'
when = {{ path = '/items/*', method = 'PUT' }}
forward = 'all'
policy = 'cors'
[[rule]]
name = 'read'
when = {{ path = '/items/*', method = 'GET' }}
forward = 'all'
policy = 'open'
"
    );
    let config =
        with(listen, origin.address, "", &rest).replace("default = { forward = \"all\" }", "");
    let ringgate = Ringgate::start(&config);
    let allowed = |path: &str, method: &str| {
        let answer = preflight(listen, path, "https://app.test", method);
        (answer.status(), answer.header("access-control-allow-origin").map(str::to_owned))
    };
    assert_eq!(allowed("/items/1", "PUT"), (204, Some("https://app.test".to_owned())));
    assert_eq!(allowed("/items/1", "GET"), (204, Some("*".to_owned())));
    assert_eq!(allowed("/items/1", "DELETE"), (404, None));
    assert_eq!(allowed("/other", "GET"), (404, None));
    // On the listener, it holds for what no rule takes.
    ringgate.reload(
        &config
            .replace("name = \"web\"\n", "name = \"web\"\npolicy = 'cors'\n")
            .replace("policy = 'cors'\n[[rule]]", "[[rule]]")
            .replace("policy = 'open'\n", "")
            .replace("[policy.open]\ncors = { origins = '*', methods = 'GET' }\n", ""),
    );
    assert_eq!(allowed("/other", "GET"), (204, Some("https://app.test".to_owned())));
    let missing = ask(listen, "GET /other", "Origin: https://app.test\r\n");
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.header("access-control-allow-origin"), Some("https://app.test"));
    assert!(origin.requests().is_empty());
}

#[test]
fn pages_can_read_what_ringgate_answers_itself() {
    let listen = free_address();
    let rest = format!(
        "{POLICY}
[policy.nobody]
ip = {{ deny = '127.0.0.0/8' }}
[policy.here]
cors = {{ origins = 'https://app.test' }}
[policy.users.basic]
users = {{ alice = '$2y$10$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui' }}
[[listener]]
name = 'other'
bind = ['OTHER']
[[rule]]
name = 'shut'
listener = 'web'
when = {{ path = '/shut' }}
forward = 'all'
policy = 'nobody'
[[rule]]
name = 'first'
listener = 'other'
when = {{ path = '/first' }}
forward = 'all'
policy = ['nobody', 'here']
[[rule]]
name = 'login'
listener = 'other'
when = {{ path = '/login' }}
forward = 'all'
policy = ['users', 'here']
[[rule]]
name = 'own'
listener = 'web'
when = {{ path = '/own' }}
respond = {{ status = 200, body = 'own' }}
"
    );
    let other = free_address();
    // Nobody listens there.
    let config = with(listen, free_address(), "policy = 'cors'", &rest);
    let _ringgate = Ringgate::start(&config.replace("OTHER", &other.to_string()));
    for (to, path, status) in [
        (listen, "/", 502),
        (listen, "/shut", 403),
        (listen, "/own", 200),
        // It was refused before the policy that knows who may read that.
        (other, "/first", 403),
        (other, "/login", 401),
    ] {
        let answer = ask(to, &format!("GET {path}"), "Origin: https://app.test\r\n");
        assert_eq!(answer.status(), status, "{path}");
        let allow = answer.header("access-control-allow-origin");
        assert_eq!(allow, Some("https://app.test"), "{path}: {:?}", answer.headers);
        assert_eq!(answer.header("vary"), Some("Origin"), "{path}");
        let answer = ask(to, &format!("GET {path}"), "Origin: https://evil.test\r\n");
        assert_eq!((answer.status(), told(&answer)), (status, Vec::new()), "{path}");
    }
    // A browser asks without the password that it will send.
    let answer = preflight(other, "/login", "https://app.test", "GET");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
    // Who may not come is not told by a preflight that others may.
    let answer = preflight(other, "/first", "https://app.test", "GET");
    assert_eq!((answer.reason(), told(&answer)), ("address_denied", Vec::new()));
}

#[test]
fn other_origins_are_refused_where_that_is_enforced() {
    let (origin, listen) = (careless(), free_address());
    let policy = POLICY.to_owned() + "enforce = true\n";
    let ringgate = Ringgate::start(&with(listen, origin.address, "policy = 'cors'", &policy));
    for (start, from, status) in [
        ("GET /", "https://app.test", 200),
        ("POST /", "https://app.test", 200),
        ("POST /", "http://a.test", 200),
        ("POST /", "http://a.test:81", 403),
        ("POST /", "https://a.test", 403),
        ("POST /", "https://evil.test", 403),
        ("GET /", "null", 403),
    ] {
        let answer = ask(listen, start, &format!("Origin: {from}\r\n"));
        assert_eq!(answer.status(), status, "{start} {from}");
        if status == 403 {
            assert_eq!((answer.reason(), told(&answer)), ("cors_origin_refused", Vec::new()));
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
    assert_eq!(ask(listen, "POST /", "").status(), 200, "not from a page");
    let answer = preflight(listen, "/", "https://evil.test", "PUT");
    assert_eq!((answer.status(), answer.reason()), (403, "cors_origin_refused"));
    assert_eq!(preflight(listen, "/", "https://app.test", "PUT").status(), 204);
    let refused = ringgate.sum("ringgate_policy_decisions_total", &["cors", "cors_origin_refused"]);
    assert_eq!(refused, 5.0, "{}", ringgate.metrics());
}

#[test]
fn what_everybody_may_read_says_so_to_everybody() {
    let (origin, listen) = (careless(), free_address());
    let policy = "\n[policy.cors]\ncors = { origins = '*', expose = '*' }\n";
    let _ringgate = Ringgate::start(&with(listen, origin.address, "policy = 'cors'", policy));
    for fields in ["", "Origin: https://a.test\r\n", "Origin: null\r\n"] {
        let answer = ask(listen, "GET /", fields);
        assert_eq!(told(&answer), ["allow-origin: *", "expose-headers: *"], "{fields}");
        assert_eq!(answer.all("vary"), ["Accept-Encoding"], "{fields}");
    }
}
