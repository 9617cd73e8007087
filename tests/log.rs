//! The access log: one line a request, whatever a client sends; metrics that agree with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use support::ringgate::forwarding;
use support::{Client, Origin, Ringgate, eventually, free_address, get, send_raw};

/// ringgate that logs to a file in `format`.
fn logging(origin: &Origin, format: &str) -> (Ringgate, SocketAddr, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let log = format!("\n[log]\naccess = \"{}\"\nformat = '{format}'\n", path.display());
    (Ringgate::start_in(dir, &(config + &log)), listen, path)
}

/// The lines of a log, once there are `n`.
#[track_caller]
fn lines(path: &PathBuf, n: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually(&format!("{n} lines are in the log"), || read().lines().count() >= n);
    let all: Vec<String> = read().lines().map(str::to_owned).collect();
    assert_eq!(all.len(), n, "{all:?}");
    all
}

#[test]
fn json_lines_say_what_happened() {
    let origin = Origin::saying("hello");
    let (_ringgate, listen, path) = logging(&origin, "json");
    let mut client = Client::connect(listen);
    client.send("GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nUser-Agent: \"quoted\"\r\n\r\n").response();
    client.send("POST /b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc").response();
    let all = lines(&path, 2);
    let first: serde_json::Value = serde_json::from_str(&all[0]).unwrap();
    let text = first.to_string();
    for part in
        ["\"GET\"", "/a", "a.test", "200", "127.0.0.1", "quoted", &origin.address.to_string()]
    {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn every_format_writes_one_line_a_request() {
    for format in ["json", "combined", "alb"] {
        let origin = Origin::saying("hello");
        let (_ringgate, listen, path) = logging(&origin, format);
        let mut client = Client::connect(listen);
        for n in 0..50 {
            client.get(&format!("/{n}"));
        }
        let all = lines(&path, 50);
        for (n, line) in all.iter().enumerate() {
            assert!(line.contains(&format!("/{n}")) && line.contains("200"), "{format}: {line}");
        }
    }
}

#[test]
fn refused_requests_are_logged_with_their_reason() {
    let origin = Origin::saying("hello");
    let (_ringgate, listen, path) = logging(&origin, "json");
    send_raw(listen, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    let all = lines(&path, 1);
    assert!(all[0].contains("400") && all[0].contains("host_invalid"), "{}", all[0]);
}

#[test]
fn nothing_a_client_sends_makes_a_line_of_its_own() {
    for format in ["json", "combined", "alb"] {
        let origin = Origin::saying("hello");
        let (_ringgate, listen, path) = logging(&origin, format);
        let mut client = Client::connect(listen);
        for evil in
            ["\"} {\"x\": \"", "\u{9b}31m", "\u{2028}", "\" 200 1 \"x\" \"y", "\\\" \\n", "%0a%0d"]
        {
            client.send(format!("GET /?q=%0a HTTP/1.1\r\nHost: a.test\r\nUser-Agent: {evil}\r\nReferer: {evil}\r\n\r\n"));
            assert_eq!(client.response().status(), 200);
        }
        for line in lines(&path, 6) {
            assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
            if format == "json" {
                serde_json::from_str::<serde_json::Value>(&line)
                    .unwrap_or_else(|e| panic!("{e}: {line}"));
            }
        }
    }
}

#[test]
fn the_client_is_whom_the_nearest_hop_names() {
    // Read from the right, over all field lines: what stands further left is anybody's claim.
    let origin = Origin::saying("hello");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let log = format!("\n[log]\naccess = \"{}\"\nformat = \"json\"\n", path.display());
    let server = "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n\n";
    let _ringgate = Ringgate::start_in(dir, &format!("{server}{config}{log}"));
    let mut client = Client::connect(listen);
    let mut sent = 0;
    for lines in [1, 2, 16, 17, 40] {
        let claims = "X-Forwarded-For: 6.6.6.6\r\n".repeat(lines - 1);
        let last = "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3\r\n";
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{claims}{last}\r\n"));
        assert_eq!(client.response().status(), 200);
        sent += 1;
        let line = self::lines(&path, sent).pop().unwrap();
        let record: serde_json::Value = serde_json::from_str(&line).unwrap();
        let named = record["client"].as_str();
        assert_eq!(named, Some("203.0.113.9"), "with {lines} lines: {line}");
    }
}

#[test]
fn usr1_reopens_the_log() {
    let origin = Origin::saying("hello");
    let (ringgate, listen, path) = logging(&origin, "combined");
    get(listen, "/before");
    lines(&path, 1);
    let moved = path.with_extension("1");
    std::fs::rename(&path, &moved).unwrap();
    ringgate.signal(Signal::USR1);
    eventually("there is a new log", || path.exists());
    get(listen, "/after");
    assert!(lines(&path, 1)[0].contains("/after"));
    assert!(lines(&moved, 1)[0].contains("/before"));
}

#[test]
fn nothing_is_lost_when_it_stops() {
    let origin = Origin::saying("hello");
    let (mut ringgate, listen, path) = logging(&origin, "combined");
    let mut client = Client::connect(listen);
    for n in 0..100 {
        client.get(&format!("/{n}"));
    }
    ringgate.signal(Signal::TERM);
    ringgate.wait_exit();
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 100);
}

#[test]
fn the_log_goes_to_standard_output_by_default() {
    let origin = Origin::saying("hello");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let ringgate = Ringgate::start(&format!("{config}\n[log]\nformat = \"json\"\n"));
    get(listen, "/to-standard-output");
    eventually("the line is printed", || ringgate.output().contains("/to-standard-output"));
}

#[test]
fn metrics_count_what_clients_saw() {
    let origin = Origin::saying("hello");
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    for _ in 0..30 {
        assert_eq!(get(listen, "/").status(), 200);
    }
    send_raw(listen, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    let metrics = ringgate.metrics();
    assert!(metrics.contains("# TYPE"), "{metrics}");
    let requests = |labels: &[&str]| ringgate.sum("ringgate_requests_total", labels);
    eventually("30 requests are counted on the listener", || {
        requests(&["listener=\"web\""]) >= 30.0
    });
    assert!(ringgate.metrics().contains("host_invalid"), "{}", ringgate.metrics());
    for part in ["_bucket{", "group=\"all\"", &format!("target=\"{}\"", origin.address)] {
        assert!(ringgate.metrics().contains(part), "{part} is missing:\n{}", ringgate.metrics());
    }
}
