//! Stored responses, by section of RFC 9111: what is stored, for whom, for how long, and what clients are told of it.
//!
//! The origin answers with the head that a request asks for in `X-Head`, which is no part of any key, and says in the body which
//! of its answers it is: two equal bodies are one answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::ringgate::ask;
use support::{Client, H2Origin, Message, Origin, Ringgate, eventually, free_address};

/// Answers as `X-Head` says: lines between `|`; `status: 404` among them is the status, `size: 9` the length of the body,
/// `cut: 3` where the connection ends, `close: 1` sends no length, `json: 1` makes it JSON.
fn origin() -> Origin {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let count = COUNT.fetch_add(1, Ordering::SeqCst);
            let asked = request.header("x-head").unwrap_or_default().to_owned();
            let (mut status, mut lines, mut size, mut cut) = ("200", String::new(), 0, None);
            let (mut close, mut json) = (false, false);
            for line in asked.split('|').filter(|line| !line.is_empty()) {
                let (name, value) = line.split_once(':').unwrap();
                match (name, value.trim()) {
                    ("status", value) => status = value.to_owned().leak(),
                    ("size", value) => size = value.parse().unwrap(),
                    ("cut", value) => cut = Some(value.parse::<usize>().unwrap()),
                    ("close", _) => close = true,
                    ("json", _) => json = true,
                    (name, value) => lines += &format!("{name}: {value}\r\n"),
                }
            }
            let validated = request.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("if-none-match") && lines.contains(value.as_str())
            });
            if validated {
                conn.send(format!("HTTP/1.1 304 Not Modified\r\n{lines}\r\n"))?;
                continue;
            }
            let mut body = match json {
                true => format!("{{\"n\":\"{count}\"}}"),
                false => format!("answer {count} {}", request.target()),
            };
            while body.len() < size {
                body.push('.');
            }
            let framing = match close {
                true => String::new(),
                false => format!("Content-Length: {}\r\n", body.len()),
            };
            let head = format!("HTTP/1.1 {status} X\r\n{framing}{lines}\r\n");
            let silent = request.method() == "HEAD" || status == "304" || status == "204";
            let body = if silent { "" } else { &body };
            let whole = [head.as_bytes(), body.as_bytes()].concat();
            match cut {
                Some(at) => {
                    conn.send(&whole[..head.len() + at])?;
                    return Ok(());
                }
                None => conn.send(&whole)?,
            }
            if close {
                return Ok(());
            }
        }
        Ok(())
    })
}

struct Edge {
    ringgate: Ringgate,
    web: SocketAddr,
    origin: Origin,
}

fn config(web: SocketAddr, targets: &str, cache: &str, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{web}\"]\n\
         [[rule]]\nname = \"r\"\nwhen = {{ path = [\"/*\"] }}\nforward = \"all\"\ncache = {cache}\n{more}\n\
         [group.all]\ntargets = [{targets}]\nhealth = {{ type = \"off\" }}\n"
    )
}

fn edge_with(cache: &str, more: &str) -> Edge {
    let (web, origin) = (free_address(), origin());
    let target = format!("\"{}\"", origin.address);
    let ringgate = Ringgate::start(&config(web, &target, cache, more));
    Edge { ringgate, web, origin }
}

fn edge(cache: &str) -> Edge {
    edge_with(cache, "")
}

impl Edge {
    #[track_caller]
    fn send(&self, method: &str, path: &str, head: &str, lines: &str) -> Message {
        let lines = lines.split('|').filter(|line| !line.is_empty());
        let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
        Client::connect(self.web)
            .send(format!(
                "{method} {path} HTTP/1.1\r\nHost: a.test\r\nX-Head: {head}\r\n{lines}\r\n"
            ))
            .response_to(method)
    }

    #[track_caller]
    fn get(&self, path: &str, head: &str) -> Message {
        self.send("GET", path, head, "")
    }

    fn count(&self) -> usize {
        self.origin.requests().len()
    }
}

fn status_of(message: &Message) -> String {
    message.all("cache-status").join(", ")
}

#[test]
fn what_is_stored_and_what_is_not_rfc_9111_section_3() {
    let edge = edge("{ default_ttl = \"0s\", negative = { \"404\" = \"10s\" } }");
    let fresh = "Cache-Control: max-age=60";
    for (number, (head, lines, stored)) in [
        (fresh, "", true),
        ("", "", false),
        ("Cache-Control: s-maxage=60", "", true),
        ("Cache-Control: max-age=0", "", false),
        ("Cache-Control: max-age=60, no-store", "", false),
        ("Cache-Control: max-age=60, private", "", false),
        ("Cache-Control: max-age=60, no-cache", "", false),
        ("Expires: Thu, 01 Jan 2099 00:00:00 GMT", "", true),
        ("Expires: 0", "", false),
        // CACHE-04: what is for one is for nobody else.
        ("Cache-Control: max-age=60|Set-Cookie: a=b", "", false),
        (fresh, "Authorization: Basic eDp5", false),
        ("Cache-Control: public, max-age=60", "Authorization: Basic eDp5", false),
        (fresh, "Cookie: session=1", false),
        ("Cache-Control: public, max-age=60", "Cookie: session=1", true),
        (fresh, "Cache-Control: no-store", false),
        // CACHE-05: an error is stored where the rule says so, and for so long.
        ("Cache-Control: max-age=60|status: 404", "", true),
        ("Cache-Control: max-age=60|status: 500", "", false),
        ("Cache-Control: max-age=60|status: 400", "", false),
        ("Cache-Control: max-age=60|status: 301|Location: /x", "", true),
        ("Cache-Control: max-age=60|status: 204", "", true),
        // CACHE-09: a part is not the whole.
        ("Cache-Control: max-age=60|status: 206|Content-Range: bytes 0-1/9", "", false),
        // CACHE-10: a body that the key does not hold.
        (fresh, "Content-Length: 0", true),
        ("Cache-Control: max-age=60|Vary: *", "", false),
        // CACHE-07: nothing says that this was all.
        ("Cache-Control: max-age=60|close: 1", "", false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/store/{number}");
        let first = edge.send("GET", &path, head, lines);
        let before = edge.count();
        let second = edge.send("GET", &path, head, lines);
        let hit = edge.count() == before;
        assert_eq!(
            hit,
            stored,
            "{head:?} {lines:?}: {} then {}",
            status_of(&first),
            status_of(&second)
        );
        let told = status_of(&second).contains("; hit");
        assert_eq!(told, stored, "{}", status_of(&second));
        if stored {
            assert_eq!((first.status(), &first.body), (second.status(), &second.body), "{head:?}");
        }
    }
}

#[test]
fn a_key_tells_apart_what_targets_can_tell_apart_cache_01() {
    let edge = edge("true");
    let head = "Cache-Control: max-age=60";
    let send = |path: &str, host: &str, lines: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Head: {head}\r\n{lines}\r\n");
        Client::connect(edge.web).send(request).response().text()
    };
    let first = send("/k", "a.test", "");
    for (path, host, same) in [
        ("/k", "a.test", true),
        ("/k", "A.TEST", false),
        ("/k", "b.test", false),
        ("/k", "a.test:8080", false),
        ("/K", "a.test", false),
        ("/k?", "a.test", false),
        ("/k?a=1", "a.test", false),
        ("/x/../k", "a.test", true),
    ] {
        assert_eq!(send(path, host, "") == first, same, "{path} {host}");
    }
    // CACHE-02: what is not in the key does not reach the target, or makes no difference.
    for lines in [
        "X-Forwarded-Host: evil.test\r\n",
        "X-Original-URL: /evil\r\n",
        "X-Forwarded-Proto: https\r\n",
    ] {
        assert_eq!(send("/k", "a.test", lines), first, "{lines}");
    }
    for request in edge.origin.requests() {
        assert!(request.all("x-original-url").is_empty());
        assert_ne!(request.header("x-forwarded-host"), Some("evil.test"));
    }
}

#[test]
fn keys_hold_what_the_rule_says() {
    let edge = edge(
        "{ default_ttl = \"60s\", key = { query = [\"q\"], headers = [\"x-tenant\"], cookies = [\"lang\"] } }",
    );
    let first = edge.get("/k?q=1&utm=2", "").text();
    assert_eq!(edge.get("/k?utm=3&q=1", "").text(), first);
    assert_ne!(edge.get("/k?q=2", "").text(), first);
    assert_ne!(edge.send("GET", "/k?q=1", "", "X-Tenant: a").text(), first);
    let de = edge.send("GET", "/k?q=1", "", "Cookie: lang=de").text();
    assert_ne!(de, first);
    assert_eq!(edge.send("GET", "/k?q=1", "", "Cookie: lang=de").text(), de);
}

#[test]
fn ages_and_says_so_section_5_1() {
    let edge = edge("{ default_ttl = \"60s\" }");
    edge.get("/age", "Age: 10");
    let hit = edge.get("/age", "");
    let age: u64 = hit.header("age").unwrap().parse().unwrap();
    assert!((10..=25).contains(&age), "{age}");
    let status = status_of(&hit);
    assert!(status.starts_with("ringgate; hit; ttl="), "{status}");
    let miss = status_of(&edge.get("/other", ""));
    assert!(
        miss.starts_with("ringgate; fwd=uri-miss; fwd-status=200") && miss.contains("; stored"),
        "{miss}"
    );
}

#[test]
fn variants_are_told_apart_section_4_1_cache_06() {
    let edge = edge("{ default_ttl = \"60s\" }");
    let send = |lines: &str| edge.send("GET", "/v", "Vary: Accept-Language", lines);
    let (de, en) = (send("Accept-Language: de"), send("Accept-Language: en"));
    assert_ne!(de.body, en.body);
    assert!(status_of(&en).contains("fwd=vary-miss"), "{}", status_of(&en));
    assert_eq!(send("Accept-Language: de").body, de.body);
    assert_eq!(send("Accept-Language: en").body, en.body);
    assert_eq!(send("accept-language:  DE").body, de.body, "case and blanks mean nothing there");
    assert_ne!(send("").body, de.body);
}

#[test]
fn head_and_preconditions_are_answered_here_section_4_3_2_cache_09() {
    let edge = edge("true");
    let head = "Cache-Control: max-age=60|ETag: \"e1\"|Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT|Content-Type: text/x";
    let whole = edge.get("/c", head);
    let before = edge.count();
    let silent = edge.send("HEAD", "/c", head, "");
    assert_eq!((silent.status(), silent.body.len()), (200, 0));
    assert_eq!(silent.header("content-length"), Some(whole.body.len().to_string().as_str()));
    for (lines, status) in [
        ("If-None-Match: \"e1\"", 304),
        ("If-None-Match: W/\"e1\"", 304),
        ("If-None-Match: \"x\", \"e1\"", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: \"x\"", 200),
        ("If-None-Match: \"x\"|If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", 200),
        ("If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", 304),
        ("If-Modified-Since: Sun, 31 Dec 2023 00:00:00 GMT", 200),
        ("If-Modified-Since: yesterday", 200),
    ] {
        let got = edge.send("GET", "/c", head, lines);
        assert_eq!(got.status(), status, "{lines}");
        assert_eq!(got.header("etag"), Some("\"e1\""));
        if status == 304 {
            assert!(got.body.is_empty() && got.header("content-type").is_none());
        }
    }
    assert_eq!(edge.count(), before);
    // A precondition where nothing is stored: the target is asked for the whole, and it is judged here.
    let got = edge.send("GET", "/c2", head, "If-None-Match: \"e1\"");
    assert_eq!(got.status(), 304);
    let asked = edge.origin.last();
    assert!(asked.header("if-none-match").is_none() && asked.target() == "/c2");
    assert_eq!(edge.get("/c2", head).status(), 200);
    assert_eq!(edge.count(), before + 1);
    // A HEAD stores nothing.
    edge.send("HEAD", "/c3", head, "");
    edge.get("/c3", head);
    assert_eq!(edge.count(), before + 3);
    // What only a target can judge goes to it.
    edge.send("GET", "/c", head, "If-Match: \"e1\"");
    assert_eq!(edge.count(), before + 4);
}

#[test]
fn ranges_are_cut_from_the_whole_res_16() {
    let edge = edge("true");
    let head = "Cache-Control: max-age=60|ETag: \"e1\"|size: 100";
    let whole = edge.get("/r", head).body;
    let before = edge.count();
    for (lines, status, range, body) in [
        ("Range: bytes=0-9", 206, Some("bytes 0-9/100"), &whole[..10]),
        ("Range: bytes=90-", 206, Some("bytes 90-99/100"), &whole[90..]),
        ("Range: bytes=-5", 206, Some("bytes 95-99/100"), &whole[95..]),
        ("Range: bytes=0-18446744073709551616", 206, Some("bytes 0-99/100"), &whole[..]),
        ("Range: bytes=100-", 416, Some("bytes */100"), &[]),
        ("Range: bytes=-0", 416, Some("bytes */100"), &[]),
        ("Range: bytes=", 200, None, &whole[..]),
        ("Range: bytes=9-1", 200, None, &whole[..]),
        ("Range: lines=1-2", 200, None, &whole[..]),
        ("Range: bytes=0-1,3-4", 200, None, &whole[..]),
        ("Range: bytes=0-9|If-Range: \"e1\"", 206, Some("bytes 0-9/100"), &whole[..10]),
        ("Range: bytes=0-9|If-Range: \"e2\"", 200, None, &whole[..]),
        ("Range: bytes=0-9|If-None-Match: \"e1\"", 304, None, &[]),
    ] {
        let got = edge.send("GET", "/r", head, lines);
        assert_eq!((got.status(), got.header("content-range")), (status, range), "{lines}");
        assert_eq!(got.body, body, "{lines}");
    }
    assert_eq!(edge.count(), before);
    // Nothing is stored of an answer that is only a part.
    let partial = "Cache-Control: max-age=60|status: 206|Content-Range: bytes 0-1/9";
    edge.send("GET", "/r2", partial, "Range: bytes=0-1");
    assert_eq!(edge.origin.last().header("range"), Some("bytes=0-1"));
    edge.get("/r2", head);
    assert_eq!(edge.count(), before + 2);
}

#[test]
fn what_is_stale_is_validated_section_4_3() {
    let edge = edge("true");
    let head = "Cache-Control: max-age=1|ETag: \"e1\"|X-Version: 1";
    let first = edge.get("/s", head);
    std::thread::sleep(Duration::from_millis(1100));
    // The target confirms it, and what it says is new is taken over.
    let second = edge.get("/s", "Cache-Control: max-age=60|ETag: \"e1\"|X-Version: 2");
    assert_eq!((second.status(), &second.body), (200, &first.body));
    assert_eq!(second.header("x-version"), Some("2"));
    assert_eq!(edge.origin.last().header("if-none-match"), Some("\"e1\""));
    let status = status_of(&second);
    assert!(status.contains("fwd=stale; fwd-status=304"), "{status}");
    let before = edge.count();
    let third = edge.send("GET", "/s", head, "If-None-Match: \"e1\"");
    assert_eq!((third.status(), edge.count()), (304, before));
    // The target has another by now.
    edge.get("/t", head);
    std::thread::sleep(Duration::from_millis(1100));
    let other = edge.send(
        "GET",
        "/t",
        "Cache-Control: max-age=60|ETag: \"e2\"|size: 50",
        "Range: bytes=0-3",
    );
    assert_eq!((other.status(), other.header("etag")), (206, Some("\"e2\"")));
    assert_eq!(other.body.len(), 4);
    let before = edge.count();
    assert_eq!((edge.get("/t", head).body.len(), edge.count()), (50, before));
}

#[test]
fn clients_get_what_is_stale_while_it_is_fetched_anew() {
    let edge = edge("{ stale_while_revalidate = \"60s\" }");
    let first = edge.get("/s", "Cache-Control: max-age=1");
    std::thread::sleep(Duration::from_millis(1100));
    let stale = edge.get("/s", "Cache-Control: max-age=60");
    assert_eq!(stale.body, first.body);
    assert!(
        status_of(&stale).contains("hit; ttl=-") || status_of(&stale).contains("hit; ttl=0"),
        "{}",
        status_of(&stale)
    );
    let mut fresh = first.body.clone();
    eventually("it is fetched anew", || {
        fresh = edge.get("/s", "Cache-Control: max-age=60").body;
        fresh != first.body
    });
    assert_eq!(edge.count(), 2, "by one request");
}

#[test]
fn clients_get_what_is_stale_when_the_target_fails() {
    let mut edge = edge("{ stale_if_error = \"60s\" }");
    let head = "Cache-Control: max-age=1";
    let first = edge.get("/s", head);
    std::thread::sleep(Duration::from_millis(1100));
    let saved = edge.get("/s", "status: 503");
    assert_eq!((saved.status(), &saved.body), (200, &first.body));
    assert!(status_of(&saved).contains("detail=stale-if-error"), "{}", status_of(&saved));
    // It is left alone for a moment.
    let before = edge.count();
    assert_eq!(edge.get("/s", "status: 503").body, first.body);
    assert_eq!(edge.count(), before);
    let other = edge.get("/none", "status: 503");
    assert_eq!(other.status(), 503);
    edge.origin.stop();
    std::thread::sleep(Duration::from_millis(2100));
    let saved = edge.get("/s", head);
    assert_eq!((saved.status(), &saved.body), (200, &first.body), "{}", status_of(&saved));
    let lost = edge.get("/none", head);
    assert!(lost.status() >= 502, "{}", lost.status());
    // Whoever must not give it stale does not.
    assert_eq!(edge.ringgate.sum("ringgate_cache_requests_total", &["stale_if_error"]), 3.0);
}

#[test]
fn a_request_that_changes_something_ends_what_is_stored_section_4_4() {
    let edge = edge("{ default_ttl = \"60s\" }");
    for (method, status, lines, gone) in [
        ("POST", "200", "", true),
        ("DELETE", "204", "", true),
        ("PATCH", "302", "", true),
        ("POST", "404", "", false),
        ("OPTIONS", "200", "", false),
    ] {
        let path = format!("/i/{method}/{status}");
        let first = edge.get(&path, "").body;
        edge.send(
            method,
            &path,
            &format!("status: {status}"),
            &format!("Content-Length: 0{lines}"),
        );
        assert_eq!(edge.get(&path, "").body != first, gone, "{method} {status}");
    }
    let (other, far) = (edge.get("/i/other", "").body, edge.get("/i/far", "").body);
    let head = "Location: /i/other|Content-Location: http://b.test/i/far";
    edge.send("POST", "/i/new", head, "Content-Length: 0");
    assert_ne!(edge.get("/i/other", "").body, other);
    assert_eq!(edge.get("/i/far", "").body, far, "another origin may not say so");
}

#[test]
fn only_if_cached_asks_no_target() {
    let edge = edge("{ default_ttl = \"60s\" }");
    let asked = edge.send("GET", "/o", "", "Cache-Control: only-if-cached");
    assert_eq!((asked.status(), asked.reason(), edge.count()), (504, "not_cached", 0));
    edge.get("/o", "");
    assert_eq!(edge.send("GET", "/o", "", "Cache-Control: only-if-cached").status(), 200);
}

#[test]
fn what_breaks_off_is_not_stored_cache_07() {
    let edge = edge("{ default_ttl = \"60s\" }");
    for at in [0, 1, 5, 9] {
        let path = format!("/cut/{at}");
        let head = format!("size: 10000|cut: {at}");
        let mut client = Client::connect(edge.web);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-Head: {head}\r\n\r\n"));
        let _ = client.wire.response("GET");
        let whole = edge.get(&path, "size: 10000");
        assert_eq!(whole.body.len(), 10_000);
        assert!(status_of(&whole).contains("fwd=uri-miss"), "{}", status_of(&whole));
        assert_eq!(edge.get(&path, "").body, whole.body);
    }
}

#[test]
fn large_bodies_pass_and_are_stored_up_to_the_bound_cache_11() {
    let edge = edge("{ default_ttl = \"60s\", max_object = \"256KiB\" }");
    for (size, stored) in
        [(100, true), (20_000, true), (262_144, true), (262_145, false), (3_000_000, false)]
    {
        let path = format!("/large/{size}");
        let first = edge.get(&path, &format!("size: {size}"));
        assert_eq!((first.body.len(), first.chunked), (size, false));
        let before = edge.count();
        assert_eq!(edge.get(&path, &format!("size: {size}")).body.len(), size);
        assert_eq!(edge.count() == before, stored, "{size}: {}", status_of(&first));
    }
    let page: serde_json::Value =
        serde_json::from_slice(&ask(edge.ringgate.admin(), "/cache").body).unwrap();
    assert_eq!((page["entries"].as_u64(), page["filling"].as_u64()), (Some(3), Some(0)), "{page}");
    assert!(page["octets"].as_u64().unwrap() > 282_244, "{page}");
}

#[test]
fn stored_answers_go_through_policies_and_what_rules_add_cache_04() {
    let more = "policy = [\"keys\", \"dress\"]\n\
        [policy.keys]\nrate = { limit = \"3/m\", burst = 3, key = \"header:x-user\" }\n\
        [policy.dress]\nheaders = { set = { x-frame-options = \"DENY\" } }";
    let (web, origin) = (free_address(), origin());
    let text = config(web, &format!("\"{}\"", origin.address), "{ default_ttl = \"60s\" }", "@");
    let (rule, rest) = text.split_once('@').unwrap();
    let (policy, policies) = more.split_once('\n').unwrap();
    let ringgate = Ringgate::start(&format!("{rule}{policy}{rest}\n{policies}\n"));
    let edge = Edge { ringgate, web, origin };
    for _ in 0..3 {
        let got = edge.send("GET", "/p", "", "X-User: a");
        assert_eq!((got.status(), got.header("x-frame-options")), (200, Some("DENY")));
    }
    assert_eq!(edge.send("GET", "/p", "", "X-User: a").status(), 429);
    assert_eq!(edge.count(), 1);
}

#[test]
fn a_body_behind_a_stored_answer_is_no_request_h1_18() {
    let edge = edge("{ default_ttl = \"60s\" }");
    edge.get("/h", "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut client = Client::connect(edge.web);
    client.send(format!(
        "GET /h HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{smuggled}GET /h HTTP/1.1\r\nHost: a.test\r\n\r\n",
        smuggled.len()
    ));
    let (first, second) = (client.response(), client.response());
    assert!(
        status_of(&first).contains("fwd=bypass; fwd-status=200; detail=request-body"),
        "{}",
        status_of(&first)
    );
    assert!(status_of(&second).contains("hit"), "{}", status_of(&second));
    assert!(edge.origin.requests().iter().all(|request| request.target() != "/smuggled"));
}

#[test]
fn stored_answers_reach_http_2_and_http_1_0_and_come_from_http_2() {
    let target = H2Origin::script(&[], |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.answer(stream, &[("cache-control", "max-age=60")], b"h2");
        }
    });
    let web = free_address();
    let text = config(web, &format!("\"{}\"", target.address), "true", "") + "protocol = \"h2c\"\n";
    let _ringgate = Ringgate::start(&text);
    let get = |version: &str| {
        let request = format!("GET /x HTTP/{version}\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        Client::connect(web).send(request).response()
    };
    assert!(status_of(&get("1.1")).contains("stored"));
    let old = get("1.0");
    assert_eq!((old.text().as_str(), status_of(&old).contains("hit")), ("h2", true));
}

#[test]
fn the_log_and_the_counts_say_what_became_of_a_request() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let (web, origin) = (free_address(), origin());
    let text = config(web, &format!("\"{}\"", origin.address), "{ default_ttl = \"60s\" }", "")
        + &format!("[log]\naccess = \"{}\"\nformat = \"$method $cache\"\n", log.display());
    let ringgate = Ringgate::start_in(dir, &text);
    let edge = Edge { ringgate, web, origin };
    edge.get("/l", "");
    edge.get("/l", "");
    edge.send("POST", "/l", "", "Content-Length: 0");
    edge.get("/l", "");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("all is logged", || lines().lines().count() == 4);
    // Workers write their records by themselves, in no order.
    let mut said: Vec<String> = lines().lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(said, ["GET hit", "GET miss", "GET miss", "POST bypass"]);
    let count = |result: &str| {
        edge.ringgate
            .sum("ringgate_cache_requests_total", &["rule=\"r\"", &format!("result=\"{result}\"")])
    };
    assert_eq!((count("hit"), count("miss"), count("bypass")), (1.0, 2.0, 1.0));
    assert_eq!(edge.ringgate.sum("ringgate_cache_removed_total", &["invalidated"]), 1.0);
    assert_eq!(edge.ringgate.metric("ringgate_cache_entries"), Some(1.0));
}

#[test]
fn what_is_stored_survives_a_reload_unless_its_rule_stores_otherwise() {
    let edge = edge("{ default_ttl = \"60s\" }");
    let target = format!("\"{}\"", edge.origin.address);
    let first = edge.get("/x", "").body;
    edge.ringgate.reload(&config(edge.web, &target, "{ default_ttl = \"60s\" }", "priority = 3"));
    assert_eq!(edge.get("/x", "").body, first);
    let keyed = "{ default_ttl = \"60s\", key = { cookies = [\"a\"] } }";
    edge.ringgate.reload(&config(edge.web, &target, keyed, ""));
    let second = edge.get("/x", "").body;
    assert_ne!(second, first);
    edge.ringgate.reload(&config(edge.web, &target, "false", ""));
    assert_ne!(edge.get("/x", "").body, second);
    edge.ringgate.reload(&config(edge.web, &target, keyed, ""));
    assert_ne!(edge.get("/x", "").body, second, "it was not kept for the time in between");
}

#[test]
fn stored_answers_are_dressed_as_targets_are_and_not_twice() {
    let more = "compress = { algorithms = [\"gzip\"], types = [\"text/*\"], min_size = \"1B\", decompress = true }\n\
        response = { headers = { set = { x-rule = \"yes\" } } }";
    let edge = edge_with("{ default_ttl = \"60s\" }", more);
    let head = "Content-Type: text/plain|ETag: \"e1\"|size: 200000";
    let first = edge.get("/d", head);
    for (lines, coded) in [("", false), ("Accept-Encoding: gzip", true), ("", false)] {
        let got = edge.send("GET", "/d", head, lines);
        assert_eq!((got.status(), got.header("x-rule")), (200, Some("yes")), "{lines}");
        assert_eq!(got.header("content-encoding") == Some("gzip"), coded, "{lines}");
        assert!(status_of(&got).contains("hit") && got.header("age").is_some());
        if !coded {
            assert_eq!(got.body, first.body);
        } else {
            assert!(got.body.len() < 10_000 && got.header("etag") == Some("W/\"e1\""));
        }
    }
    let silent = edge.send("HEAD", "/d", head, "");
    assert_eq!(
        (silent.header("content-length"), silent.header("x-rule")),
        (Some("200000"), Some("yes"))
    );
    let part = edge.send("GET", "/d", head, "Range: bytes=0-9");
    assert_eq!((part.status(), part.header("content-range")), (206, Some("bytes 0-9/200000")));
    assert_eq!(
        edge.send("GET", "/d", head, "If-None-Match: W/\"e1\"|Accept-Encoding: gzip").status(),
        304
    );
    assert_eq!(edge.count(), 1);
}

#[test]
fn what_rules_make_of_bodies_is_stored_as_they_made_it_and_no_error_as_something_else() {
    let more = "response = { json = { set = { was = \"#{body.n}\", n = \"new\" } }, status = { \"404\" = 200 } }";
    let edge = edge_with("{ default_ttl = \"60s\", negative = { \"404\" = \"60s\" } }", more);
    let head = "Content-Type: application/json|json: 1";
    let first = edge.get("/m", head);
    assert!(first.text().contains("\"n\":\"new\""), "{}", first.text());
    let second = edge.get("/m", head);
    assert_eq!((&second.body, edge.count()), (&first.body, 1), "not changed again");
    assert_eq!(second.header("content-type"), Some("application/json"));
}

#[test]
fn what_is_made_of_a_body_and_of_who_asks_is_for_nobody_else_cache_04() {
    let more = "response = { json = { set = { who = \"#{body.n} #{header.x-user}\" } } }";
    let edge = edge_with("{ default_ttl = \"60s\" }", more);
    let head = "Content-Type: application/json|json: 1";
    for user in ["alice", "bob"] {
        let got = edge.send("GET", "/m", head, &format!("X-User: {user}")).text();
        assert!(got.contains(user), "{user}: {got}");
    }
}

#[test]
fn what_was_fetched_whole_is_given_also_where_it_cannot_be_stored() {
    let edge = edge_with("{ default_ttl = \"60s\" }", "[cache]\nsize = \"1MiB\"\n#");
    // More than what may be on its way, and then more than there is.
    for size in ["600000", "2000000"] {
        let head = format!("ETag: \"e1\"|size: {size}");
        let whole = edge.send("GET", &format!("/w/{size}"), &head, "If-None-Match: \"e2\"");
        assert_eq!((whole.status(), whole.body.len().to_string().as_str()), (200, size));
        let told = status_of(&whole);
        assert_eq!(told.contains("; stored"), size == "600000", "{told}");
    }
    let head = "ETag: \"e1\"|size: 2000000";
    let part = edge.send("GET", "/p", head, "If-None-Match: \"e1\"");
    assert_eq!((part.status(), part.body.len()), (304, 0));
}

#[test]
fn memory_is_what_it_says_cache_11() {
    let edge =
        edge_with("{ default_ttl = \"600s\", status = false }", "[cache]\nsize = \"16MiB\"\n#");
    let resident = || {
        let pid = edge.ringgate.pid().as_raw_nonzero();
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let mut client = Client::connect(edge.web);
    let mut fill = |from: usize, to: usize| {
        for n in from..to {
            let request =
                format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\nX-Head: size: 16384\r\n\r\n");
            assert_eq!(client.send(request).response().status(), 200);
        }
    };
    fill(0, 50);
    let before = resident();
    fill(50, 2000);
    let stored = edge.ringgate.metric("ringgate_cache_bytes").unwrap() as u64;
    assert!((12 << 20..=16 << 20).contains(&stored), "{stored}");
    assert!(edge.ringgate.sum("ringgate_cache_removed_total", &["evicted"]) > 500.0);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} for {stored}");
}
