//! Tests of the endpoints over a real socket.

use super::*;
use crate::admin::scrape::{Scrape, TargetStat, WorkerStat};
use crate::base::meters::Meters;
use crate::http::path::PathPolicy;
use crate::store::{Purge, Purged, Target};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

struct Fake {
    ready: Result<(), String>,
}

impl Source for Fake {
    fn explain(&self, question: &[u8], json: bool) -> Result<String, String> {
        match question {
            b"bad" => Err("no".to_owned()),
            _ => Ok(if json { "{}" } else { "text" }.to_owned()),
        }
    }

    fn scrape(&self) -> Scrape {
        let meters = Meters::new(2);
        meters.cell(0).status[2].add(3);
        meters.cell(1).status[5].add(1);
        for us in [400, 800, 90_000_000, 2_000] {
            meters.cell(1).latency.record(Duration::from_micros(us));
        }
        let totals = meters.sum();
        Scrape {
            version: "0.1.0",
            driver: "io_uring",
            generation: 4,
            workers: vec![WorkerStat {
                id: 0,
                alive: true,
                connections: 7,
                requests: 4,
                ..WorkerStat::default()
            }],
            listeners: vec![("web".to_owned(), totals.clone())],
            rules: vec![
                ("api\"\\\n{}".to_owned(), totals.clone()),
                ("unused".to_owned(), Meters::new(1).sum()),
            ],
            groups: vec![("api".to_owned(), totals.clone()), ("empty".to_owned(), totals.clone())],
            targets: vec![TargetStat {
                group: "api".to_owned(),
                target: "10.0.0.1:8080".to_owned(),
                state: "unhealthy",
                reason: Some("Target.Timeout".to_owned()),
                last_error: Some("<script>\"\n".to_owned()),
                totals,
                ..TargetStat::default()
            }],
            faults: vec![("no_target", 2)],
            deviations: vec![("Ambiguous", "BothTeClPresent", 3)],
            ..Scrape::default()
        }
    }

    fn paths(&self) -> PathPolicy {
        PathPolicy::default()
    }

    fn purge(&self, purge: &Purge) -> Purged {
        Purged { removed: u64::from(purge.target == Target::All), stale: 0 }
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }
}

/// A server on a thread of its own; it ends with the test's process.
fn start(ready: Result<(), String>) -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, Arc::new(Fake { ready })).await;
        });
    });
    receiver.recv().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "a test may block")]
fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(addr: SocketAddr, path: &str) -> String {
    get_with(addr, path, "")
}

fn get_with(addr: SocketAddr, path: &str, fields: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{fields}\r\n");
    exchange(addr, &request)
}

#[test]
fn metrics_are_served_in_the_format_that_is_asked_for() {
    let addr = start(Ok(()));
    let classic = get(addr, "/metrics");
    assert!(classic.starts_with("HTTP/1.1 200 OK\r\n"), "{classic}");
    for want in [
        "content-type: text/plain; version=0.0.4; charset=utf-8\r\n",
        "cache-control: no-store\r\n",
        "# TYPE ringgate_requests_total counter\n",
        "ringgate_requests_total{listener=\"web\",class=\"2xx\"} 3\n",
        "ringgate_request_duration_seconds_bucket{le=\"0.001\",listener=\"web\"} 2\n",
        "ringgate_request_duration_seconds_bucket{le=\"+Inf\",listener=\"web\"} 4\n",
        "ringgate_request_duration_seconds_count{listener=\"web\"} 4\n",
        "ringgate_rule_requests_total{rule=\"api\\\"\\\\\\n{}\",class=\"5xx\"} 1\n",
        "ringgate_group_requests_total{group=\"api\",class=\"2xx\"} 3\n",
        "ringgate_target_healthy{group=\"api\",target=\"10.0.0.1:8080\"} 0\n",
        "ringgate_faults_total{reason=\"no_target\"} 2\n",
        "ringgate_desync_requests_total{class=\"Ambiguous\",reason=\"BothTeClPresent\"} 3\n",
        "ringgate_config_reloads_total{result=\"failed\"} 0\n",
        "ringgate_build_info{version=\"0.1.0\",driver=\"io_uring\"} 1\n",
        "ringgate_worker_connections{worker=\"0\"} 7\n",
    ] {
        assert!(classic.contains(want), "no {want:?} in\n{classic}");
    }
    assert!(!classic.contains("unused") && !classic.contains("# EOF"));

    let open = get_with(addr, "/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(open.contains("# TYPE ringgate_requests counter\n") && open.ends_with("# EOF\n"));
}

#[test]
fn health_and_readiness_tell_the_truth() {
    let addr = start(Err("worker 1 does not accept".to_owned()));
    let healthz = get(addr, "/healthz");
    assert!(healthz.starts_with("HTTP/1.1 200 ") && healthz.ends_with("\r\n\r\nok\n"), "{healthz}");
    let readyz = get(addr, "/readyz");
    assert!(readyz.starts_with("HTTP/1.1 503 "), "{readyz}");
    assert!(readyz.ends_with("\r\n\r\nworker 1 does not accept\n"), "{readyz}");
    assert!(get(start(Ok(())), "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn targets_say_why() {
    let answer = get(start(Ok(())), "/targets");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"));
    let page: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(page["groups"][0]["targets"][0]["reason"], "Target.Timeout");
    assert_eq!(page["groups"][0]["targets"][0]["last_error"], "<script>\"\n");
    assert_eq!(page["groups"][1]["targets"].as_array().map(Vec::len), Some(0));
}

#[test]
fn unknown_pages_other_methods_and_rebound_names_are_refused() {
    let addr = start(Ok(()));
    let check = |request: String, want: &str| {
        let answer = exchange(addr, &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{request:?}: {answer}");
    };
    let close = "Connection: close\r\n\r\n";
    check(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{close}"), "200");
    check(format!("GET /x HTTP/1.1\r\nHost: {addr}\r\n{close}"), "404");
    check(format!("POST /metrics HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 0\r\n{close}"), "405");
    check(format!("GET /metrics HTTP/1.1\r\nHost: evil.example:9901\r\n{close}"), "421");
    check(format!("GET /x HTTP/1.1\r\nHost: evil.example\r\n{close}"), "421");
    check(format!("GET http://evil.example/ HTTP/1.1\r\nHost: {addr}\r\n{close}"), "421");
    check(format!("GET / HTTP/1.1\r\nHost: {addr}\r\nHost: evil.example\r\n{close}"), "421");
    let old = exchange(addr, "GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
}

#[test]
fn ten_thousand_rules_can_be_scraped() {
    let totals = Fake { ready: Ok(()) }.scrape().listeners.remove(0).1;
    let idle = Meters::new(1).sum();
    let rule = |n: usize| (format!("rule-{n}"), if n < 10 { totals.clone() } else { idle.clone() });
    let scrape = Scrape { rules: (0..10_000).map(rule).collect(), ..Scrape::default() };
    let text = metrics::open_metrics(scrape);
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
    assert!(text.contains("rules that have had no request are left out"));
}
