//! `desync`: AWS ALB's classes of deviating requests, over real sockets, in each mode (hazards H1-01 to H1-13).
//!
//! What each head means is the unit tests' matter; here it is seen what reaches the target, what closes, and what is logged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use support::ringgate::forwarding;
use support::{Client, Message, Origin, Ringgate, eventually, free_address, send_raw};

struct Edge {
    ringgate: Ringgate,
    listen: SocketAddr,
    log: PathBuf,
    origin: Origin,
}

fn edge(mode: &str, format: &str) -> Edge {
    let origin = Origin::saying("ok");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "")
        .replace("name = \"web\"", &format!("name = \"web\"\ndesync = \"{mode}\""));
    assert!(config.contains("desync"), "{config}");
    // One worker: its log is in the order of the requests.
    let section = format!(
        "\n[server]\nworkers = 1\n[log]\naccess = \"{}\"\nformat = '{format}'\n",
        log.display()
    );
    Edge { ringgate: Ringgate::start_in(dir, &(config + &section)), listen, log, origin }
}

const CLASSIFIED: &str = "$classification/$classification_reason";

impl Edge {
    // The log's lines, once there are `n`.
    #[track_caller]
    fn lines(&self, n: usize) -> Vec<String> {
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        eventually("the log has its lines", || read().lines().count() >= n);
        read().lines().map(str::to_owned).collect()
    }
}

// What is sent, what it is called, and what of it reaches the target when it is let pass: a line of the head and the body.
const CASES: [(&str, &str, &str, &str); 18] = [
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Ambiguous/BothTeClPresent",
        "transfer-encoding: chunked",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Ambiguous/DuplicateContentLength",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        "Ambiguous/SuspiciousHeader",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\nContent-Length: 3\r\n\r\nabc",
        "Ambiguous/SuspiciousHeader",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 9\r\nContent-Length: 3\r\n\r\nabc",
        "Severe/MultipleContentLength",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n\0Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        "Severe/BadHeader",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Severe/BadTransferEncoding",
        "transfer-encoding: chunked",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Ambiguous/UndefinedTransferEncodingSemantics",
        "transfer-encoding: chunked",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n: empty\r\n\r\nabc",
        "Ambiguous/EmptyHeader",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
        "Ambiguous/MultilineHeader",
        "X-A: b c",
        "abc",
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Ambiguous/UndefinedTransferEncodingSemantics",
        "transfer-encoding: chunked",
        "abc",
    ),
    (
        "GET /?a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
        "Ambiguous/AmbiguousUri",
        "GET /?a%09b HTTP/1.1",
        "",
    ),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "Acceptable/SpaceInUri", "GET /a%20b HTTP/1.1", ""),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        "Acceptable/NonCompliantHeader",
        "host: a",
        "",
    ),
    ("GET / HTTP/1.4\r\nHost: a\r\n\r\n", "Acceptable/NonCompliantVersion", "GET / HTTP/1.1", ""),
    ("GET / HTTP/1.1\nHost: a\n\n", "Acceptable/NonCrLfLineTermination", "host: a", ""),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc",
        "Severe/MultipleContentLength",
        "content-length: 3",
        "abc",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX: a\0b\r\n\r\nabc",
        "Severe/BadHeader",
        "X: a b",
        "abc",
    ),
];

fn class(called: &str) -> &str {
    called.split('/').next().unwrap_or_default()
}

// All that came back; the next request, pipelined, is answered only where the connection stays.
fn answers(to: SocketAddr, request: &str) -> (usize, String) {
    let next = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let all = String::from_utf8_lossy(&send_raw(to, format!("{request}{next}"))).into_owned();
    let heads = ["HTTP/1.1 2", "HTTP/1.1 4", "HTTP/1.1 5"];
    (heads.iter().map(|head| all.matches(head).count()).sum(), all)
}

#[track_caller]
fn check(edge: &Edge, passes: &dyn Fn(&str) -> bool, closes: &dyn Fn(&str) -> bool) {
    let mut logged = Vec::new();
    for (request, called, line, body) in CASES {
        let before = edge.origin.requests().len();
        let (count, all) = answers(edge.listen, request);
        logged.push(called.to_owned());
        let seen: Vec<Message> = edge.origin.requests().split_off(before);
        if !passes(class(called)) {
            assert!(
                all.starts_with("HTTP/1.1 4") || all.starts_with("HTTP/1.1 505"),
                "{request:?}: {all}"
            );
            assert_eq!((count, seen.len()), (1, 0), "{request:?} was refused and went on: {all}");
            continue;
        }
        assert!(all.starts_with("HTTP/1.1 200"), "{request:?}: {all}");
        let head = String::from_utf8_lossy(&seen[0].head).into_owned();
        assert!(head.contains(line), "{request:?}: {line} is not in {head}");
        assert_eq!(seen[0].text(), body, "{request:?}");
        let http10 = request.contains("HTTP/1.0");
        let stays = !closes(class(called)) && !http10;
        assert_eq!((count, seen.len()), if stays { (2, 2) } else { (1, 1) }, "{request:?}: {all}");
        if stays {
            logged.push("-/-".to_owned());
        }
    }
    assert_eq!(edge.lines(logged.len()), logged);
    for (_, called, ..) in CASES {
        let (class, reason) = called.split_once('/').unwrap();
        let series =
            format!("ringgate_desync_requests_total{{class=\"{class}\",reason=\"{reason}\"}}");
        assert!(edge.ringgate.metric(&series).is_some_and(|n| n >= 1.0), "{series}");
    }
}

#[test]
fn strict_refuses_and_names_every_class() {
    check(&edge("strict", CLASSIFIED), &|_| false, &|_| true);
}

#[test]
fn defensive_mends_what_has_one_meaning_and_closes_after_ambiguity() {
    check(&edge("defensive", CLASSIFIED), &|class| class != "Severe", &|class| {
        class != "Acceptable"
    });
}

#[test]
fn monitor_lets_pass_and_closes_only_after_what_is_severe() {
    check(&edge("monitor", CLASSIFIED), &|_| true, &|class| class == "Severe");
}

// What cannot be written anew is refused in every mode: there is nothing that could be sent on.
#[test]
fn what_has_no_meaning_is_refused_in_every_mode() {
    for mode in ["strict", "defensive", "monitor"] {
        let edge = edge(mode, CLASSIFIED);
        let cases = [
            ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", "Severe/BadMethod"),
            ("GET / HTTPX/1.1\r\nHost: a\r\n\r\n", "Severe/BadVersion"),
            ("GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", "Severe/BadUri"),
            ("GET HTTP/1.1\r\nHost: a\r\n\r\n", "Severe/MissingUri"),
        ];
        for (request, _) in cases {
            let (count, all) = answers(edge.listen, request);
            assert!(count == 1 && all.starts_with("HTTP/1.1 400"), "{mode} {request:?}: {all}");
        }
        assert_eq!(edge.lines(cases.len()), cases.map(|(_, called)| called));
        assert!(edge.origin.requests().is_empty(), "{mode}");
    }
}

// RFC 9110 section 9.3.1, hazard H1-17: well-formed, so passed on; the target's connection is not trusted after it.
#[test]
fn get_with_content_passes_and_its_target_connection_closes() {
    let edge = edge("strict", CLASSIFIED);
    let mut client = Client::connect(edge.listen);
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response().status(), 200);
        assert_eq!(edge.origin.last().text(), "abc");
    }
    assert_eq!(edge.origin.connections(), 3, "a connection carried another request");
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response_to("HEAD");
    assert_eq!(
        edge.lines(4),
        [
            "Ambiguous/UndefinedContentLengthSemantics",
            "Ambiguous/UndefinedContentLengthSemantics",
            "Ambiguous/UndefinedContentLengthSemantics",
            "Acceptable/GetHeadZeroContentLength"
        ]
    );
}

#[test]
fn alb_and_json_lines_carry_class_and_reason() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc";
    let alb = edge("defensive", "alb");
    answers(alb.listen, request);
    let line = alb.lines(1).remove(0);
    assert!(line.ends_with(" \"Ambiguous\" \"DuplicateContentLength\""), "{line}");
    let json = edge("defensive", "json");
    answers(json.listen, request);
    let line: serde_json::Value = serde_json::from_str(&json.lines(1)[0]).unwrap();
    assert_eq!(line["classification"], "Ambiguous");
    assert_eq!(line["classification_reason"], "DuplicateContentLength");
}

// Hazard URI-01: the log shows what was routed and sent, and what was received beside it.
#[test]
fn the_log_has_the_canonical_path() {
    let edge = edge("strict", "$path $received");
    let mut client = Client::connect(edge.listen);
    client.get("/a/../%62//c?d=%2e");
    assert_eq!(edge.origin.last().target(), "/b/c?d=%2e");
    client.get("/plain");
    assert_eq!(edge.lines(2), ["/b/c?d=%2e /a/../%62//c?d=%2e", "/plain -"]);
}
