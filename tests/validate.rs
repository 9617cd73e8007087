//! Requests that are judged before a target sees them, and the bodies that are collected for it: over real sockets.
//!
//! The hazards: no body of a refused request is read as a request (H1-18, RL-09), and there is no way around the rule by which
//! a body is framed, timed or cut (AUTH-12).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]
#![allow(clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::h2origin::H2Origin;
use support::h2raw::{
    CANCEL, DATA, END_HEADERS, END_STREAM, H2, HEADERS, RST_STREAM, request_with,
};
use support::hpack::literals;
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

const SCHEMA: &str = r#"{ "type": "object", "required": ["name"], "properties": { "name": { "type": "string" }, "card": { "pattern": "^[0-9]*$" } } }"#;
const LIMIT: usize = 100_000;

struct Setup {
    ringgate: Ringgate,
    listen: SocketAddr,
    log: PathBuf,
}

impl Setup {
    /// JSON of up to [`LIMIT`] octets is judged on its way to `target`.
    fn start(target: SocketAddr, group: &str, more: &str) -> Setup {
        let validate =
            format!("limit = {LIMIT}\nbody = {{ required = true, schema = '{SCHEMA}' }}");
        Setup::with(target, group, &validate, more, &[])
    }

    fn with(
        target: SocketAddr,
        group: &str,
        validate: &str,
        more: &str,
        files: &[(&str, &str)],
    ) -> Setup {
        let listen = free_address();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let config = format!(
            "[log]\naccess = \"{}\"\n[server]\nworkers = 1\n\
             [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
             [[rule]]\nname = \"api\"\npolicy = [\"v\"]\nforward = \"o\"\n\
             [group.o]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n{group}\n\
             [policy.v.validate]\n{validate}\n{more}\n",
            log.display()
        );
        Setup { ringgate: Ringgate::start_in(dir, &config), listen, log }
    }

    fn client(&self) -> Client {
        Client::connect(self.listen)
    }

    /// The last record, once there are `count`.
    fn record(&self, count: usize) -> Value {
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        eventually("the record is written", || read().lines().count() >= count);
        serde_json::from_str(read().lines().last().unwrap()).unwrap()
    }
}

/// A body of so many octets that is right.
fn right(octets: usize) -> String {
    let frame = r#"{"name":""}"#.len();
    format!(r#"{{"name":"{}"}}"#, "x".repeat(octets - frame))
}

fn head(method: &str, fields: &str) -> String {
    format!(
        "{method} /users HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\n{fields}\r\n"
    )
}

fn with_length(body: &str) -> String {
    head("POST", &format!("Content-Length: {}\r\n", body.len())) + body
}

fn chunked(body: &str, chunk: usize) -> String {
    let mut out = head("POST", "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n");
    for part in body.as_bytes().chunks(chunk) {
        out += &format!("{:x};ext=1\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap());
    }
    out + "0\r\nX-Sum: 5\r\nContent-Length: 7\r\n\r\n"
}

#[track_caller]
fn assert_refused(answer: &Message, status: u16, reason: &str, part: &str) {
    assert_eq!((answer.status(), answer.reason()), (status, reason), "{}", answer.text());
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["code"], json!(reason));
    assert!(body["detail"].as_str().unwrap().contains(part), "{body}");
}

#[test]
fn a_body_reaches_the_target_whole_however_it_came() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "");
    let mut client = setup.client();
    for octets in [11, 12, 1000, 16 << 10, 65_536, LIMIT] {
        let body = right(octets);
        for request in [with_length(&body), chunked(&body, 7000), chunked(&body, 1 << 20)] {
            assert_eq!(client.send(&request).response_to("POST").status(), 200, "{octets}");
            let last = origin.last();
            assert!(last.text() == body, "{octets} octets became {}", last.body.len());
            let length = octets.to_string();
            assert_eq!(last.header("content-length"), Some(length.as_str()));
            assert_eq!(last.header("transfer-encoding"), None);
            assert_eq!((last.header("trailer"), last.header("x-sum")), (None, None));
        }
    }
    assert_eq!(client.send(chunked(&right(40), 1)).response_to("POST").status(), 200);
    let record = setup.record(19);
    assert_eq!(record["body_in"], json!(40), "counted once: {record}");
}

#[test]
fn what_follows_a_body_is_the_next_request() {
    let origin = Origin::echo();
    let setup = Setup::start(origin.address, "", "");
    let body = right(70_000);
    for request in [with_length(&body), chunked(&body, 3000)] {
        let next = with_length(&right(20)).replace("/users", "/next");
        let all = format!("{request}{next}{}", chunked(&right(30), 5).replace("/users", "/last"));
        for cut in [100, request.len() - 40_000, request.len() - 1, request.len() + 9, all.len()] {
            let mut client = setup.client();
            client.send(&all[..cut]);
            // The first part is read by itself.
            std::thread::sleep(Duration::from_millis(20));
            client.send(&all[cut..]);
            for (path, octets) in [("/users", 70_000), ("/next", 20), ("/last", 30)] {
                let answer = client.response_to("POST");
                assert!(answer.text().starts_with(&format!("POST {path} ")), "{path}, cut {cut}");
                assert!(answer.text().ends_with(&right(octets)), "{path}, cut {cut}");
            }
        }
    }
}

#[test]
fn who_waits_for_100_gets_it_where_the_body_is_wanted() {
    let origin = Origin::echo();
    let setup = Setup::start(origin.address, "", "");
    let body = right(5000);
    let expect = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    let mut client = setup.client();
    assert_eq!(client.send(head("POST", &expect)).response().status(), 100);
    let answer = client.send(&body).response_to("POST");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().ends_with(&body));
    assert!(!answer.text().to_ascii_lowercase().contains("expect:"), "it was met here");
    let expect = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    assert_eq!(client.send(head("POST", expect)).response().status(), 100);
    let sent = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert!(client.send(sent).response_to("POST").text().ends_with(&body));
    // No part of it is wanted.
    let large = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", LIMIT + 1);
    assert_refused(&client.send(head("POST", &large)).response(), 413, "body_too_large", "");
    client.expect_closed();
    let mut client = setup.client();
    let text = head("POST", "Content-Length: 5\r\nExpect: 100-continue\r\n")
        .replace("application/json", "text/plain");
    assert_refused(&client.send(text).response(), 415, "media_type_refused", "");
    client.expect_closed();
}

// Hazards H1-18 and RL-09.
#[test]
fn no_body_of_a_refused_request_is_read_as_a_request() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "");
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let visible = with_length(&right(50)).replace("/users", "/visible");
    // Here whole, and wrong: the connection goes on behind it.
    for body in [hidden.to_owned(), format!("{{}}{}", " ".repeat(500)), hidden.repeat(1000)] {
        for request in [with_length(&body), chunked(&body, 900)] {
            let mut client = setup.client();
            client.send(format!("{request}{visible}"));
            assert_refused(&client.response_to("POST"), 400, "validation_failed", "The body is ");
            assert_eq!(client.response_to("POST").status(), 200, "the connection goes on");
        }
    }
    // Larger than it may be, or of a kind that is not read: it ends with the answer.
    let filler = "x".repeat(LIMIT);
    let large = format!("{filler}{hidden}{hidden}");
    let text = |request: String| request.replace("application/json", "text/plain");
    for (request, status) in [
        (with_length(&large), 413),
        (chunked(&large, 5000), 413),
        (text(with_length(&large)), 415),
        (text(chunked(hidden, 5000)), 415),
    ] {
        let mut client = setup.client();
        // It may close before it has read everything.
        let _ = client.wire.send(format!("{request}{visible}").as_bytes());
        assert_eq!(client.response_to("POST").status(), status);
        let rest = client.wire.rest().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&rest), "", "one answer only");
    }
    let paths: Vec<String> = origin.requests().iter().map(|r| r.target().to_owned()).collect();
    assert_eq!(paths, vec!["/visible"; 6]);
}

#[test]
fn a_body_may_have_its_limit_and_no_octet_more() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "");
    for (octets, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
        let body = right(octets);
        for request in [with_length(&body), chunked(&body, LIMIT / 2), chunked(&body, 1000)] {
            let mut client = setup.client();
            let _ = client.wire.send(request.as_bytes());
            assert_eq!(client.response_to("POST").status(), status, "{octets}");
        }
        let mut h2 = H2::open(setup.listen);
        let fields = [("content-type", "application/json")];
        h2.head(1, END_HEADERS, &request_with("POST", "/users", &fields));
        h2.upload(1, &body, 10_000);
        h2.frame(DATA, END_STREAM, 1, "");
        assert_eq!(h2.outcome(1).answer().status(), status, "{octets} over HTTP/2");
    }
    assert_eq!(origin.requests().len(), 4);
    // What the rule allows counts, too.
    let tight = Setup::start(origin.address, "", "[limits]\nbody = 1000");
    for request in [with_length(&right(1001)), chunked(&right(1001), 10)] {
        let mut client = tight.client();
        let _ = client.wire.send(request.as_bytes());
        assert_eq!(client.response_to("POST").status(), 413);
    }
    assert_eq!(tight.client().send(chunked(&right(1000), 9)).response_to("POST").status(), 200);
}

#[test]
fn bodies_that_do_not_come_end_in_408() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "[timeouts]\nbody = \"300ms\"");
    let length = head("POST", "Content-Length: 50\r\n") + "{\"name";
    let chunks = head("POST", "Transfer-Encoding: chunked\r\n") + "20\r\n{\"name";
    let trailers = head("POST", "Transfer-Encoding: chunked\r\n") + "2\r\n{}\r\n0\r\nX-A: ";
    for request in [length, chunks, trailers] {
        let mut client = setup.client();
        let answer = client.send(request).response_to("POST");
        assert_refused(&answer, 408, "body_timeout", "");
        client.expect_closed();
    }
    let mut h2 = H2::open(setup.listen);
    let fields = [("content-type", "application/json")];
    h2.head(1, END_HEADERS, &request_with("POST", "/users", &fields));
    h2.frame(DATA, 0, 1, "{");
    assert_eq!(h2.outcome(1).answer().status(), 408);
    // Slow, but always moving.
    let mut client = setup.client();
    let body = right(20);
    client.send(head("POST", "Content-Length: 20\r\n"));
    for octet in body.as_bytes() {
        std::thread::sleep(Duration::from_millis(30));
        client.send([*octet]);
    }
    assert_eq!(client.response_to("POST").status(), 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn malformed_bodies_are_refused_and_clients_that_go_are_let_go() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "");
    for (body, reason) in [
        ("5\r\n{\"na}\n", "bad_chunk"),
        ("x\r\n", "bad_chunk"),
        ("2\r\n{}\r\n0\r\nA B: c\r\n\r\n", "bad_trailers"),
    ] {
        let mut client = setup.client();
        client.send(head("POST", "Transfer-Encoding: chunked\r\n") + body);
        assert_refused(&client.response_to("POST"), 400, reason, "");
        client.expect_closed();
    }
    let mut client = setup.client();
    client.send(head("POST", "Content-Length: 50000\r\n") + "{");
    drop(client);
    assert_eq!(setup.record(4)["reason"], json!("client_gone"));
    let mut h2 = H2::open(setup.listen);
    let fields = [("content-type", "application/json")];
    h2.head(1, END_HEADERS, &request_with("POST", "/users", &fields));
    h2.frame(DATA, 0, 1, "{");
    std::thread::sleep(Duration::from_millis(20));
    h2.frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes());
    assert_eq!(setup.record(5)["reason"], json!("client_gone"));
    assert!(origin.requests().is_empty());
    let active = || setup.ringgate.metric("ringgate_active_requests{listener=\"web\"}");
    eventually("nothing is in flight", || active() == Some(0.0));
}

#[test]
fn http2_bodies_are_collected_for_targets_of_both_versions() {
    let fields = [("content-type", "application/json")];
    let body = right(60_000);
    let exchange = |setup: &Setup| {
        let mut h2 = H2::open(setup.listen);
        for (stream, length) in [(1, None), (3, Some("60000"))] {
            let length = length.map(|length| ("content-length", length));
            let fields: Vec<_> = fields.into_iter().chain(length).collect();
            h2.head(stream, END_HEADERS, &request_with("POST", "/users", &fields));
            h2.upload(stream, &body, 9000);
            if stream == 1 {
                let trailers = literals(&[("x-sum", "5")]);
                h2.frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers);
            } else {
                h2.frame(DATA, END_STREAM, stream, "");
            }
            assert_eq!(h2.outcome(stream).answer().status(), 200);
        }
        // Short: it comes with its head.
        h2.head(5, END_HEADERS, &request_with("POST", "/users", &fields));
        h2.frame(DATA, END_STREAM, 5, "{}");
        assert_eq!(h2.outcome(5).answer().status(), 400);
        h2.head(7, END_HEADERS | END_STREAM, &request_with("POST", "/users", &fields));
        assert_eq!(h2.outcome(7).answer().status(), 400, "a body is required");
    };
    let origin = Origin::saying("ok");
    exchange(&Setup::start(origin.address, "", ""));
    let got = origin.requests();
    assert_eq!(got.len(), 2);
    assert!(got.iter().all(|one| one.text() == body));
    assert!(got.iter().all(|one| one.header("content-length") == Some("60000")));
    let target = H2Origin::echo(&[]);
    let setup = Setup::start(target.address, "protocol = \"h2c\"", "");
    exchange(&setup);
    let mut client = setup.client();
    for request in [with_length(&body), chunked(&body, 900)] {
        let answer = client.send(request).response_to("POST");
        assert!(answer.text().ends_with(&body), "{}", answer.text().len());
    }
    assert!(target.requests().iter().all(|one| one.header("content-length") == Some("60000")));
}

#[test]
fn a_collected_body_can_be_sent_again() {
    let count = AtomicUsize::new(0);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                return Ok(());
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    let setup = Setup::start(origin.address, "", "");
    let request = chunked(&right(50_000), 900).replacen("POST", "PUT", 1);
    assert_eq!(setup.client().send(request).response_to("PUT").status(), 200);
    let bodies: Vec<String> = origin.requests().iter().map(Message::text).collect();
    assert_eq!(bodies, [right(50_000), right(50_000)]);
    let record = setup.record(1);
    assert_eq!((&record["body_in"], &record["retries"]), (&json!(50_000), &json!(1)));
}

#[test]
fn a_refusal_says_where_and_never_what() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "");
    let mut client = setup.client();
    let wrong = with_length(r#"{"name": "x", "card": "hunter2"}"#);
    let answer = client.send(wrong).response_to("POST");
    assert_refused(&answer, 400, "validation_failed", "/card: the value does not match");
    let record = setup.record(1);
    assert_eq!((&record["policy"], &record["reason"]), (&json!("v"), &json!("validation_failed")));
    assert!(record["detail"].as_str().unwrap().contains("/card: "), "{record}");
    let said = [answer.text(), record.to_string(), setup.ringgate.output()].concat();
    assert!(!said.contains("hunter2"), "{said}");
    for (body, part) in [
        (r#"{"name": 5}"#.to_owned(), "/name: the value is not of type"),
        (r#"{"name": "a", "name": "b"}"#.to_owned(), "twice"),
        ("[".repeat(90_000), "too deeply"),
        ("{\"name\": NaN}".to_owned(), "no usable JSON"),
        ("{\"name\": \"\u{0}\"}".to_owned(), "no usable JSON"),
    ] {
        let answer = client.send(with_length(&body)).response_to("POST");
        assert_refused(&answer, 400, "validation_failed", part);
    }
    let quote = with_length(r#"{"name": "x"}"#).replacen("/users", "/users?a=\"", 1);
    assert_eq!(client.send(quote).response_to("POST").status(), 400, "as before any policy");
}

#[test]
fn a_dry_run_refuses_nothing() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "[policy.v]\ndry_run = true");
    let mut client = setup.client();
    let mut pass = |request: String, body: &str, count: usize, said: Option<&str>| {
        assert_eq!(client.send(request).response_to("POST").status(), 200);
        assert!(origin.last().text() == body);
        let record = setup.record(count);
        assert_eq!(record["policy_dry_run"].as_str(), said, "{record}");
    };
    pass(with_length("{}"), "{}", 1, Some("v:validation_failed"));
    pass(with_length(&right(20)), &right(20), 2, None);
    // Collecting it could end in a refusal.
    let large = right(LIMIT + 1);
    pass(with_length(&large), &large, 3, Some("v:body_too_large"));
    pass(chunked(&large, 5000), &large, 4, None);
    pass(chunked("{}", 1), "{}", 5, None);
}

const API: &str = r#"
openapi: 3.1.0
info: { title: users, version: "1" }
servers: [{ url: /v1 }]
paths:
  /users/{id}:
    put:
      parameters:
        - { name: id, in: path, required: true, schema: { type: integer } }
        - { name: mode, in: query, required: true, schema: { enum: [full, part] } }
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "user.json" } }
          text/csv: {}
"#;

#[test]
fn an_openapi_file_is_taken_up_and_changes_with_a_reload() {
    let origin = Origin::saying("ok");
    let api = API.replace("user.json", "#/components/schemas/User")
        + "components: { schemas: { User: { type: object, required: [name] } } }\n";
    let validate = "openapi = { file = \"api.yaml\" }";
    let setup = Setup::with(origin.address, "", validate, "", &[("api.yaml", &api)]);
    let put = |target: &str, kind: &str, body: &str| {
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: a.test\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        setup.client().send(head + &chunk).response_to("PUT")
    };
    let json = "application/json";
    assert_eq!(put("/v1/users/7?mode=full", json, "{\"name\": 1}").status(), 200);
    assert_eq!(put("/v1/users/7?mode=full", "text/csv", "a,b").status(), 200);
    assert_refused(&put("/v1/users/x?mode=full", json, "{}"), 400, "validation_failed", "\"id\"");
    assert_refused(&put("/v1/users/7", json, "{}"), 400, "validation_failed", "\"mode\"");
    assert_refused(&put("/v1/other", json, "{}"), 400, "validation_failed", "no such method");
    let wrong = put("/v1/users/7?mode=part", json, "{}");
    assert_refused(&wrong, 400, "validation_failed", "required property");
    let refused = put("/v1/users/7?mode=full", "text/plain", "a");
    assert_refused(&refused, 415, "media_type_refused", "");
    let path = setup.ringgate.path().with_file_name("api.yaml");
    let reloads = setup.ringgate.reloads("ok");
    std::fs::write(&path, api.replace("required: [name]", "required: [other]")).unwrap();
    setup.ringgate.signal(rustix::process::Signal::HUP);
    eventually("it is reloaded", || setup.ringgate.reloads("ok") > reloads);
    assert_eq!(put("/v1/users/7?mode=full", json, "{\"name\": 1}").status(), 400);
    assert_eq!(put("/v1/users/7?mode=full", json, "{\"other\": 1}").status(), 200);
    // One that leads elsewhere is refused whole, and what runs goes on.
    std::fs::write(&path, API).unwrap();
    setup.ringgate.signal(rustix::process::Signal::HUP);
    eventually("the reload is refused", || {
        setup.ringgate.output().contains("leads out of the file")
            || setup.ringgate.output().contains("user.json")
    });
    assert_eq!(put("/v1/users/7?mode=full", json, "{\"other\": 1}").status(), 200);
}

#[test]
fn memory_for_bodies_is_bounded() {
    let origin = Origin::saying("ok");
    let setup = Setup::start(origin.address, "", "[limits]\nmemory = \"1MiB\"");
    let body = right(90_000);
    let mut waiting = Vec::new();
    for _ in 0..30 {
        let mut client = setup.client();
        // All but the last octet: each is held.
        let request = with_length(&body);
        let _ = client.wire.send(&request.as_bytes()[..request.len() - 1]);
        waiting.push(client);
    }
    let shed = || {
        let answered = |client: &&Client| {
            client.wire.stream.set_nonblocking(true).unwrap();
            client.wire.stream.peek(&mut [0]).is_ok()
        };
        waiting.iter().filter(answered).count()
    };
    eventually("30 of 90 KB are more than 1 MiB", || shed() >= 10);
    assert!(shed() < 30, "some fit");
    drop(waiting);
    let answered = || setup.client().send(with_length(&body)).response_to("POST").status() == 200;
    eventually("memory comes back", answered);
}
