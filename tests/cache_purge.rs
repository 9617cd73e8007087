//! Purges by the admin listener: by URL, prefix and tag, hard and soft; and who may not ask for one (hazard CACHE-13).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{Client, Message, Origin, Ringgate, free_address};

/// Tags each answer with the parts of its path, and numbers them.
fn tagging() -> Origin {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let count = COUNT.fetch_add(1, Ordering::SeqCst);
            let tags = request.target().replace('/', " ");
            let body = format!("answer {count}");
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: {tags}\r\n\
                 ETag: \"{count}\"\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))?;
        }
        Ok(())
    })
}

fn start(origin: &Origin, cache: &str) -> (Ringgate, SocketAddr) {
    let web = free_address();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
         [[rule]]\nname = \"r\"\nwhen = {{ path = [\"/*\"] }}\nforward = \"all\"\ncache = {cache}\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
        origin.address
    );
    (Ringgate::start(&text), web)
}

fn post(admin: SocketAddr, lines: &str, body: &str) -> Message {
    let length = body.len();
    Client::connect(admin)
        .send(format!(
            "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        ))
        .response_to("POST")
}

const JSON: &str = "Content-Type: application/json\r\n";

fn get(web: SocketAddr, host: &str, path: &str) -> Message {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    Client::connect(web).send(request).response()
}

#[test]
fn purges_what_is_named_and_says_how_much() {
    let origin = tagging();
    let (ringgate, web) = start(&origin, "true");
    let port = web.port();
    let all = [("a.test", "/x/1"), ("a.test", "/x/2"), ("a.test", "/y"), ("b.test", "/x/1")];
    let hosts = all.map(|(host, path)| (format!("{host}:{port}"), path));
    for (purge, gone) in [
        (format!("{{\"url\": \"http://a.test:{port}/x/1\"}}"), "0"),
        (format!("{{\"prefix\": \"http://a.test:{port}/x/\"}}"), "01"),
        (format!("{{\"prefix\": \"http://a.test:{port}\"}}"), "012"),
        ("{\"prefix\": \"http://a.test\"}".to_owned(), ""),
        ("{\"tag\": \"x\"}".to_owned(), "013"),
        ("{\"tag\": \"x\", \"rule\": \"s\"}".to_owned(), ""),
        ("{\"all\": true}".to_owned(), "0123"),
    ] {
        let answers = || hosts.each_ref().map(|(host, path)| get(web, host, path));
        let before = answers();
        assert!(before.iter().all(|answer| answer.all("cache-tag").is_empty()));
        let answer = post(ringgate.admin(), JSON, &purge);
        assert_eq!(answer.status(), 200, "{purge}: {}", answer.text());
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(page["removed"].as_u64(), Some(gone.len() as u64), "{purge}");
        let changed: String = (0..4)
            .zip(before.iter().zip(answers()))
            .filter(|(_, (before, after))| before.body != after.body)
            .map(|(at, _): (u32, _)| at.to_string())
            .collect();
        assert_eq!(changed, gone, "{purge}");
    }
    assert_eq!(ringgate.sum("ringgate_cache_removed_total", &["purged"]), 13.0);
}

#[test]
fn a_soft_purge_has_it_validated() {
    let origin = tagging();
    let (ringgate, web) = start(&origin, "true");
    let first = get(web, "a.test", "/x");
    let answer = post(ringgate.admin(), JSON, "{\"tag\": \"x\", \"soft\": true}");
    assert!(answer.text().contains("\"stale\": 1"), "{}", answer.text());
    let second = get(web, "a.test", "/x");
    assert_eq!(origin.last().header("if-none-match"), first.header("etag"));
    assert_ne!(second.body, first.body);
    let third = get(web, "a.test", "/x");
    assert_eq!((&third.body, origin.requests().len()), (&second.body, 2));
}

#[test]
fn urls_are_read_as_those_of_requests_are() {
    for merge in [true, false] {
        let origin = tagging();
        let web = free_address();
        let ringgate = Ringgate::start(&format!(
            "[server]\nmerge_slashes = {merge}\n[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
             [[rule]]\nname = \"r\"\nforward = \"all\"\ncache = true\n\
             [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            origin.address
        ));
        let answers = || ["/a//b", "/a/b"].map(|path| get(web, "a.test", path).body);
        let before = answers();
        let url = "{\"url\": \"http://a.test/a//b\"}";
        assert_eq!(post(ringgate.admin(), JSON, url).status(), 200);
        let after = answers();
        let gone = [before[0] != after[0], before[1] != after[1]];
        assert_eq!(gone, [true, merge], "merge_slashes = {merge}");
    }
}

#[test]
fn nobody_purges_by_accident_or_from_a_page_elsewhere() {
    let origin = tagging();
    let (ringgate, web) = start(&origin, "true");
    let first = get(web, "a.test", "/x").body;
    let admin = ringgate.admin();
    for (lines, body, status) in [
        ("", "{\"all\": true}", 400),
        ("Content-Type: text/plain\r\n", "{\"all\": true}", 400),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "all=true", 400),
        (JSON, "{}", 400),
        (JSON, "{\"all\": true, \"tag\": \"x\"}", 400),
        (JSON, "{\"url\": \"/x\"}", 400),
        (JSON, "{\"every\": true}", 400),
        (JSON, "", 400),
    ] {
        let answer = post(admin, lines, body);
        assert_eq!(answer.status(), status, "{lines}{body}: {}", answer.text());
    }
    let request = "GET /cache/purge HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(Client::connect(admin).send(request).response().status(), 405);
    let rebound = "POST /cache/purge HTTP/1.1\r\nHost: evil.test\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"all\": true}";
    assert_eq!(Client::connect(admin).send(rebound).response_to("POST").status(), 421);
    assert_eq!(get(web, "a.test", "/x").body, first);
}
