//! Lists of addresses over real sockets: whose address counts, files that change, paths that lead nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::{IpAddr, SocketAddr};
use support::ringgate::{command, forwarding};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

/// A listener with `lines` of its own before the target, and the policies.
fn with(listen: SocketAddr, target: SocketAddr, lines: &str, policies: &str) -> String {
    let name = "name = \"web\"\n";
    forwarding(listen, &[target], "").replace(name, &format!("{name}{lines}\n")) + policies
}

#[track_caller]
fn ask(listen: SocketAddr, path: &str, fields: &str) -> Message {
    let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    Client::connect(listen).send(head).response()
}

#[track_caller]
fn refused(answer: &Message) -> bool {
    match answer.status() {
        200 => false,
        403 => {
            assert_eq!(answer.reason(), "address_denied");
            true
        }
        other => panic!("{other}: {}", answer.text()),
    }
}

/// A client that comes from this address of the loopback network.
fn from(source: IpAddr, to: SocketAddr) -> Message {
    use std::io::Write;
    let socket = std::net::TcpStream::from(socket_from(source, to));
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut wire = support::Wire::new(socket);
    wire.stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    wire.response("GET").unwrap().unwrap()
}

fn socket_from(source: IpAddr, to: SocketAddr) -> std::os::fd::OwnedFd {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(source, 0)).unwrap();
    connect(&socket, &to).unwrap();
    socket
}

#[test]
fn deny_goes_before_allow() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let policy = "[policy.lan]\nip = { allow = '127.0.0.0/24', deny = ['127.0.0.9', '::1'] }\n";
    let ringgate = Ringgate::start(&with(listen, origin.address, "policy = 'lan'", policy));
    for (source, denied) in [("127.0.0.1", false), ("127.0.0.9", true), ("127.0.1.1", true)] {
        assert_eq!(refused(&from(source.parse().unwrap(), listen)), denied, "{source}");
    }
    assert_eq!(origin.requests().len(), 1);
    let counted = ringgate.sum("ringgate_policy_decisions_total", &["lan", "address_denied"]);
    assert_eq!(counted, 2.0, "{}", ringgate.metrics());
}

// Hazard HDR-01: a field is believed only from a trusted proxy, and then for the client alone.
#[test]
fn a_field_is_nobodys_address() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let config = |of: &str| {
        let policy = format!("[policy.list]\nip = {{ deny = '192.0.2.0/24', of = '{of}' }}\n");
        with(listen, origin.address, "policy = 'list'", &policy)
    };
    let claims = ["192.0.2.1", "::ffff:192.0.2.1", "198.51.100.1"];
    let denied = |claim: &str| {
        let fields =
            format!("X-Forwarded-For: {claim}\r\nForwarded: for={claim}\r\nX-Real-IP: {claim}\r\n");
        refused(&ask(listen, "/", &fields))
    };
    let ringgate = Ringgate::start(&config("client"));
    assert_eq!(claims.map(denied), [false; 3], "anyone can say so");
    let trusting =
        |of: &str| format!("[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n\n{}", config(of));
    ringgate.reload(&trusting("client"));
    assert_eq!(claims.map(denied), [true, true, false]);
    ringgate.reload(&trusting("peer"));
    assert_eq!(claims.map(denied), [false; 3]);
    ringgate.reload(&config("peer").replace("192.0.2.0/24", "127.0.0.0/8"));
    assert!(denied("198.51.100.1"));
}

#[test]
fn files_are_read_again_when_they_change() {
    let (origin, listen, dir) =
        (Origin::saying("served"), free_address(), tempfile::tempdir().unwrap());
    let file = dir.path().join("deny.txt");
    std::fs::write(&file, "# nobody\n").unwrap();
    let write = |text: &str| {
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(&fresh, &file).unwrap();
    };
    let policy = "[policy.list]\nip = { deny_file = 'deny.txt' }\n";
    let config = with(listen, origin.address, "policy = 'list'", policy);
    let ringgate = Ringgate::start_in(dir, &config);
    let denied = || refused(&ask(listen, "/", ""));
    assert!(!denied());
    // By HUP.
    write("10.0.0.0/8\n127.0.0.1 # this machine\n");
    ringgate.reload(&config);
    assert!(denied());
    // A list that is wrong changes nothing, and says where.
    write("10.0.0.0/8\n127.0.0.300\n");
    let failed = ringgate.reloads("failed");
    ringgate.signal(Signal::HUP);
    eventually("the reload is refused", || ringgate.reloads("failed") > failed);
    assert!(denied(), "the old list holds");
    eventually("the line is named", || ringgate.output().contains("deny.txt:2"));
    // By itself.
    write("10.0.0.0/8\n");
    eventually("the file is watched", || !denied());
    write("127.0.0.0/8\n");
    eventually("the file is watched, still", denied);
}

#[test]
fn a_wrong_list_is_told_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ringgate.toml");
    let policy = "[policy.list]\nip = { allow_file = ['allow.txt', 'lost.txt'] }\n";
    let config = with(free_address(), free_address(), "policy = 'list'", policy);
    std::fs::write(&path, &config).unwrap();
    std::fs::write(dir.path().join("allow.txt"), "192.0.2.1\n\nexample.com\n").unwrap();
    let check = || command(&["check", "-c", path.to_str().unwrap()]);
    let (code, said) = check();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("lost.txt"), "{said}");
    std::fs::write(dir.path().join("lost.txt"), "").unwrap();
    let (code, said) = check();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("allow.txt:3: policy.list.ip: found \"example.com\""), "{said}");
}

// Hazards URI-01 to URI-05: however the path is written, the rule that it meets has its list.
#[test]
fn no_way_of_writing_a_path_gets_round_a_list() {
    let (origin, listen) = (Origin::saying("served"), free_address());
    let rest = "[policy.nobody]\nip = { deny = ['0.0.0.0/0', '::/0'] }\n\
                [[rule]]\nname = 'admin'\nwhen = { path = ['/admin', '/admin/*'] }\nforward = 'all'\npolicy = 'nobody'\n";
    let _ringgate = Ringgate::start(&with(listen, origin.address, "", rest));
    for path in [
        "/admin",
        "/admin/",
        "/%61dmin/x",
        "/%61%64%6D%69%6e",
        "//admin/x",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E./admin/y",
        "/admin/../admin/z",
        "/admin?x=1",
        "http://a.test/admin",
        "http://a.test//admin/x",
    ] {
        assert!(refused(&ask(listen, path, "")), "{path}");
    }
    for path in ["/x%2fadmin", "/admin%2fx", "/admin%00", "/admin%5c", "/..%2fadmin", "/admin%3bx"]
    {
        assert_eq!(ask(listen, path, "").status(), 400, "{path}");
    }
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"] {
        let head = format!("{method} /admin HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n");
        let answer = Client::connect(listen).send(head).response_to(method);
        assert_eq!(answer.reason(), "address_denied", "{method}");
    }
    assert!(origin.requests().is_empty());
    // The rest is served, as what it is.
    assert!(!refused(&ask(listen, "/administrator", "")));
    assert!(!refused(&ask(listen, "/admin/../x", "")));
}
