//! Copies of requests: what the other group gets, that clients never notice it, and what answers are found to differ in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use support::h2raw::{H2, request_with};
use support::message::Message;
use support::ringgate::ask;
use support::{Client, H2Origin, Origin, Ringgate, eventually, free_address};

fn config(listen: SocketAddr, real: SocketAddr, shadow: SocketAddr, mirror: &str) -> String {
    let shadow = format!("targets = [\"{shadow}\"]\nhealth = {{ type = \"off\" }}");
    let rest = mirror.strip_prefix("h2c ");
    let (protocol, mirror) = rest.map_or(("", mirror), |rest| ("\nprotocol = \"h2c\"", rest));
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"web\"\nbind = \"{listen}\"\n\
         [group.real]\ntargets = [\"{real}\"]\nhealth = {{ type = \"off\" }}\n\
         [group.shadow]\n{shadow}{protocol}\n\
         [[rule]]\nname = \"r\"\nforward = \"real\"\nmirror = {{ group = \"shadow\"{mirror} }}\n"
    )
}

struct World {
    real: Origin,
    shadow: Origin,
    listen: SocketAddr,
    ringgate: Ringgate,
}

fn world(real: Origin, shadow: Origin, mirror: &str) -> World {
    let listen = free_address();
    let ringgate = Ringgate::start(&config(listen, real.address, shadow.address, mirror));
    World { real, shadow, listen, ringgate }
}

impl World {
    fn count(&self, family: &str, label: &str) -> f64 {
        let (name, value) = label.split_once('=').unwrap();
        let series = format!("ringgate_mirror_{family}_total{{rule=\"r\",{name}=\"{value}\"}}");
        self.ringgate.metric(&series).unwrap_or(-1.0)
    }

    fn requests(&self, result: &str) -> f64 {
        self.count("requests", &format!("result={result}"))
    }

    /// Waits until so many copies were dealt with.
    #[track_caller]
    fn settle(&self, copies: usize) {
        let all = || self.ringgate.sum("ringgate_mirror_requests_total", &[]);
        eventually(&format!("{copies} copies"), || all() as usize == copies);
    }

    fn page(&self) -> serde_json::Value {
        let answer = ask(self.ringgate.admin(), "/mirrors");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

/// An origin that answers each path in its own way.
fn by_path(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Origin {
    Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            let whole = answer(request.target());
            let head = whole.find("\r\n\r\n").map_or(whole.len(), |at| at + 4);
            let end = if request.method() == "HEAD" { head } else { whole.len() };
            conn.send(&whole[..end])?;
        }
        Ok(())
    })
}

fn mute() -> Origin {
    Origin::script(|conn| {
        while conn.request()?.is_some() {}
        Ok(())
    })
}

/// An origin that closes in the middle of its answer.
fn truncating() -> Origin {
    Origin::script(|conn| {
        conn.request()?;
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    })
}

/// The lines of a head but those that differ from request to request or mark a copy.
fn lines(request: &Message) -> Vec<String> {
    let text = String::from_utf8_lossy(&request.head).into_owned();
    let lines = text.lines().map(str::to_owned);
    let mut lines: Vec<String> = lines.filter(|l| !l.starts_with("x-ringgate-mirror")).collect();
    lines.sort();
    lines
}

#[test]
fn a_copy_is_what_the_target_gets_and_is_marked() {
    let world = world(Origin::saying("real"), Origin::saying("shadow"), "");
    let mut client = Client::connect(world.listen);
    let forged = "GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nCookie: x=y\r\nX-Own: 1\r\nX-Ringgate-Mirror: 1\r\n\r\n";
    assert_eq!(client.send(forged).response().text(), "real");
    assert_eq!(
        client.send("HEAD /h HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD").status(),
        200
    );
    let post = "POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(client.send(post).response().text(), "real");
    let mut h2 = H2::open(world.listen);
    assert_eq!(h2.fetch(1, "/two").text(), "real");
    world.settle(3);
    let (real, copies) = (world.real.requests(), world.shadow.requests());
    assert_eq!(copies.len(), 3, "no POST unless the file says so");
    let find = |all: &[Message], target: &str| {
        all.iter().find(|r| r.target() == target).cloned().unwrap_or_else(|| panic!("{target}"))
    };
    for target in ["/a?b=c", "/h"] {
        let (sent, copy) = (find(&real, target), find(&copies, target));
        assert_eq!(lines(&sent), lines(&copy));
        assert_eq!(
            (sent.header("x-ringgate-mirror"), copy.all("x-ringgate-mirror")),
            (None, vec!["1"])
        );
    }
    assert_eq!(find(&copies, "/two").header("host"), Some("a.test"));
    assert_eq!(world.requests("answered"), 3.0);
}

/// AUTH-14: the password stays here, and who sent it no client can forge, whichever group gets it.
#[test]
fn a_copy_tells_what_policies_let_targets_know_and_no_more() {
    let (real, shadow, listen) = (Origin::saying("real"), Origin::saying("shadow"), free_address());
    let file = config(listen, real.address, shadow.address, "");
    let file = file.replace("forward = \"real\"", "forward = \"real\"\npolicy = \"staff\"");
    let quick = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";
    let policy = format!(
        "[policy.staff.basic]\nrealm = \"x\"\nusers = {{ alice = '{quick}' }}\nheader = \"X-User\"\n"
    );
    let ringgate = Ringgate::start(&(file + &policy));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/").status(), 401);
    // alice:password
    let head = "GET /x HTTP/1.1\r\nHost: a.test\r\nX-User: root\r\nAuthorization: Basic YWxpY2U6cGFzc3dvcmQ=\r\n\r\n";
    assert_eq!(client.send(head).response().text(), "real");
    let copied = || ringgate.sum("ringgate_mirror_requests_total", &[]) as usize;
    eventually("it is copied", || copied() == 1);
    let copies = shadow.requests();
    assert_eq!(copies.len(), 1, "what is refused is not copied");
    assert_eq!((copies[0].all("x-user"), copies[0].header("authorization")), (vec!["alice"], None));
    assert_eq!(lines(&copies[0]), lines(&real.last()));
}

#[test]
fn bodies_are_copied_that_are_here_and_small() {
    let mirror = ", methods = ['POST'], body = '8B'";
    let world = world(Origin::echo(), Origin::echo(), mirror);
    let mut client = Client::connect(world.listen);
    let head = "POST /x HTTP/1.1\r\nHost: a.test\r\n";
    let post =
        |client: &mut Client, rest: &str| client.send(format!("{head}{rest}")).response().text();
    assert!(post(&mut client, "Content-Length: 8\r\n\r\n12345678").ends_with("12345678"));
    assert!(post(&mut client, "Content-Length: 9\r\n\r\n123456789").ends_with("123456789"));
    // A body that is still arriving is not waited for.
    client.send(format!("{head}Content-Length: 4\r\n\r\n12"));
    eventually("it is on its way without its end", || world.requests("body") == 2.0);
    assert!(client.send("34").response().text().ends_with("1234"));
    assert!(
        post(&mut client, "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n").ends_with("hi")
    );
    assert_eq!(client.get("/").status(), 200);
    world.settle(4);
    let copies = world.shadow.requests();
    assert_eq!(copies.iter().map(|r| r.body.as_slice()).collect::<Vec<_>>(), [b"12345678"]);
    assert_eq!(copies[0].header("content-length"), Some("8"));
    assert_eq!((world.requests("body"), world.requests("answered")), (3.0, 1.0));
}

#[test]
fn a_body_is_waited_for_where_the_file_says_so() {
    let world = world(
        Origin::echo(),
        Origin::echo(),
        ", methods = ['POST'], body = '8B', wait_body = true",
    );
    let mut client = Client::connect(world.listen);
    let head = "POST /x HTTP/1.1\r\nHost: a.test\r\n";
    client.send(format!("{head}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
    assert_eq!(client.response().status(), 100);
    assert!(client.send("1234").response().text().ends_with("1234"));
    assert!(
        client
            .send(format!("{head}Content-Length: 9\r\n\r\n123456789"))
            .response()
            .text()
            .ends_with("9")
    );
    world.settle(2);
    assert_eq!(world.shadow.last().body, b"1234");
    assert_eq!((world.requests("body"), world.requests("answered")), (1.0, 1.0));
}

#[test]
fn a_share_of_requests_is_copied() {
    let world = world(Origin::saying("real"), Origin::saying("shadow"), ", share = '25%'");
    let mut client = Client::connect(world.listen);
    assert!((0..400).all(|_| client.get("/").text() == "real"));
    let copied = || world.ringgate.sum("ringgate_mirror_requests_total", &[]);
    eventually("they are answered", || copied() as usize == world.shadow.requests().len());
    // Six standard deviations.
    assert!((48.0..=152.0).contains(&copied()), "{}", copied());
}

/// Whatever the other group does, clients get what they get without it.
#[test]
fn nothing_that_a_mirror_does_reaches_a_client() {
    let endless = || {
        Origin::script(|conn| {
            conn.request()?;
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                conn.send([b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat())?;
            }
        })
    };
    let dead = {
        let mut origin = Origin::saying("");
        origin.stop();
        origin
    };
    let closing = Origin::script(|conn| conn.request().map(|_| ()));
    let truncating = truncating();
    let shadows = [
        ("dead", dead),
        ("closing", closing),
        ("garbage", Origin::answering("SSH-2.0-x\r\n")),
        (
            "two lengths",
            Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        ),
        ("switching", Origin::answering("HTTP/1.1 101 Switching Protocols\r\n\r\n")),
        ("truncating", truncating),
        ("endless", endless()),
        ("mute", mute()),
    ];
    for (what, shadow) in shadows {
        for compare in ["", ", compare = true"] {
            let mirror = format!(", timeout = '600ms'{compare}");
            let listen = free_address();
            let real = Origin::saying("real");
            let ringgate = Ringgate::start(&config(listen, real.address, shadow.address, &mirror));
            let mut client = Client::connect(listen);
            for _ in 0..20 {
                let answer = client.get("/");
                assert_eq!((answer.status(), answer.text().as_str()), (200, "real"), "{what}");
            }
            assert_eq!(H2::open(listen).fetch(1, "/").text(), "real", "{what}");
            let name = "ringgate_mirror_requests_total";
            let done = || ringgate.sum(name, &[]) as usize == 21;
            eventually(&format!("{what}: copies come to an end"), done);
            let failed = ringgate.sum(name, &["failed"]) + ringgate.sum(name, &["no_room"]);
            // What is read of an endless answer has a bound, which may come before its time is over.
            assert!(failed as usize == 21 || what == "endless", "{what}: {failed}");
            let equal = ringgate.sum("ringgate_mirror_compared_total", &["\"equal\""]);
            assert_eq!(equal, 0.0, "{what}");
            assert_eq!(ringgate.sum("ringgate_task_panics_total", &[]), 0.0, "{what}");
        }
    }
}

#[test]
fn copies_on_their_way_have_a_bound_and_take_no_clients_place() {
    let (real, shadow, listen) = (Origin::saying("real"), mute(), free_address());
    let text = config(listen, real.address, shadow.address, ", timeout = '300s'");
    let ringgate = Ringgate::start(&format!("{text}[limits]\nin_flight = 4\n"));
    let mut client = Client::connect(listen);
    let began = Instant::now();
    for _ in 0..300 {
        assert_eq!(client.get("/").text(), "real");
    }
    // One copy that was waited for would take all of its time.
    assert!(began.elapsed() < Duration::from_secs(60));
    let no_room = ringgate.sum("ringgate_mirror_requests_total", &["no_room"]);
    assert_eq!(no_room, 44.0, "256 are on their way");
    let active = || ringgate.sum("ringgate_rule_active_requests", &[]);
    eventually("nobody has a place", || active() == 0.0);
}

#[test]
fn planted_differences_are_all_found_and_equal_answers_never() {
    let of = |side: &'static str| {
        by_path(move |path| {
            let json = |body: String| {
                answer("Content-Type: application/json\r\nSet-Cookie: s=hidden-1\r\n", &body)
            };
            match (path, side) {
                ("/status", "b") => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n\r\n".into(),
                ("/status", _) => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Type: text/plain\r\n\r\n".into(),
                ("/field", _) => answer(&format!("Content-Type: text/{side}\r\n"), "same"),
                ("/cookie", _) => answer(&format!("Set-Cookie: s=hidden-{side}\r\n"), "same"),
                ("/body", _) => json(format!(r#"{{"ts":"{side}","items":[{{"id":"{side}","v":"shown-{side}"}}]}}"#)),
                ("/order", "b") => json(r#" { "b" : [ 2.0 ], "a" : 1 } "#.into()),
                ("/order", _) => json(r#"{"a":1,"b":[2]}"#.into()),
                ("/text", _) => answer("", &format!("line {side}")),
                _ => json(format!(r#"{{"ts":"{side}","items":[{{"id":"{side}","v":1}}]}}"#)),
            }
        })
    };
    let mirror = ", compare = { headers = ['Content-Type', 'set-cookie'], samples = 30, excerpts = true, \
                  body = { json_ignore = ['/ts', '/items/*/id'] } }";
    let world = world(of("a"), of("b"), mirror);
    let mut client = Client::connect(world.listen);
    let mut h2 = H2::open(world.listen);
    let paths = ["/status", "/field", "/cookie", "/body", "/order", "/text", "/equal"];
    for round in 0..5 {
        for (at, path) in paths.iter().enumerate() {
            if round == 4 {
                h2.fetch(1 + 2 * at as u32, path);
            } else {
                client.get(path);
            }
        }
        client.send("HEAD /order HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD");
    }
    world.settle(40);
    let compared = |what: &str| world.count("compared", &format!("result={what}"));
    let differs = |what: &str| world.count("differences", &format!("kind={what}"));
    assert_eq!(
        (compared("different"), compared("equal"), compared("not_compared")),
        (25.0, 15.0, 0.0)
    );
    assert_eq!((differs("status"), differs("header"), differs("body")), (5.0, 10.0, 10.0));
    let page = world.page();
    let mirror = &page["mirrors"][0];
    assert_eq!((&mirror["rule"], &mirror["group"]), (&"r".into(), &"shadow".into()));
    let samples = mirror["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 25);
    let one =
        |path: &str| samples.iter().find(|s| s["path"] == path).unwrap()["differences"].clone();
    assert_eq!(
        one("/body"),
        serde_json::json!([
            { "kind": "body", "at": "/items/0/v", "real": "\"shown-a\"", "mirror": "\"shown-b\"" }
        ])
    );
    assert_eq!(one("/cookie")[0]["at"], "set-cookie");
    assert_eq!(
        one("/text"),
        serde_json::json!([
            { "kind": "body", "at": "octet 5", "real": "a", "mirror": "b" }
        ])
    );
    assert!(!page.to_string().contains("hidden"), "{page}");
    let count = |side: &str| {
        let series = format!("ringgate_mirror_latency_seconds_count{{rule=\"r\",side=\"{side}\"}}");
        world.ringgate.metric(&series)
    };
    assert_eq!((count("real"), count("mirror")), (Some(40.0), Some(40.0)));
    let again = config(world.listen, world.real.address, world.shadow.address, ", compare = true");
    world.ringgate.reload(&again);
    assert_eq!(world.page()["mirrors"][0]["different"], 25, "counts outlast a reload");
}

#[test]
fn an_answer_that_is_kept_beside_reaches_its_client_as_it_is() {
    let long = "0123456789abcdef".repeat(40_000);
    let of = move |what: &'static str| {
        let long = long.clone();
        by_path(move |path| match path {
            "/long" => answer("", &long),
            "/chunked" => format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n3\r\nend\r\n0\r\n\r\n",
                long.len()
            ),
            "/gzip" => answer("Content-Encoding: gzip\r\n", what),
            "/none" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
            _ => answer("", "short"),
        })
    };
    let check = |mirror: &str| {
        let world = world(of("a"), of("b"), mirror);
        let mut client = Client::connect(world.listen);
        let mut answers = Vec::new();
        for path in ["/long", "/chunked", "/gzip", "/none", "/short"] {
            let answer = client.get(path);
            let framing = [answer.header("content-length"), answer.header("transfer-encoding")];
            answers.push((answer.status(), framing.map(|f| f.map(str::to_owned)), answer.body));
        }
        let mut h2 = H2::open(world.listen);
        let long = h2.fetch(1, "/long");
        answers.push((
            long.status(),
            [long.header("content-length").map(str::to_owned), None],
            long.body,
        ));
        world.settle(6);
        (world, answers)
    };
    let (_, plain) = check("");
    let (world, kept) = check(", compare = true");
    assert!(plain == kept, "an answer is not what it is without a comparison");
    assert_eq!(plain[0].1[0].as_deref(), Some("640000"));
    let skipped = |why: &str| world.count("not_compared", &format!("reason={why}"));
    assert_eq!((skipped("too_large"), skipped("coded")), (3.0, 1.0));
    assert_eq!(world.count("compared", "result=equal"), 2.0);
}

/// What a coding holds is compared, not how it was coded.
#[test]
fn content_codings_are_taken_off() {
    let of = |level: u32| {
        Origin::script(move |conn| {
            while let Some(request) = conn.request()? {
                use std::io::Write;
                let text = match (request.target(), level) {
                    ("/other", 9) => r#"{"a":1,"b":3}"#.to_owned(),
                    _ => format!(r#"{{"a":1,"b":2{}}}"#, " ".repeat(2000)),
                };
                let level = flate2::Compression::new(level);
                let mut coder = flate2::write::GzEncoder::new(Vec::new(), level);
                coder.write_all(text.as_bytes())?;
                let body = coder.finish()?;
                let fields = "Content-Type: application/json\r\nContent-Encoding: gzip";
                let head = format!(
                    "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                conn.send([head.as_bytes(), &body].concat())?;
            }
            Ok(())
        })
    };
    let world = world(of(1), of(9), ", compare = true");
    let mut client = Client::connect(world.listen);
    for path in ["/same", "/other"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n");
        assert_eq!(client.send(head).response().header("content-encoding"), Some("gzip"));
    }
    world.settle(2);
    let compared = |what: &str| world.count("compared", &format!("result={what}"));
    assert_eq!((compared("equal"), compared("different")), (1.0, 1.0));
    assert_eq!(world.page()["mirrors"][0]["samples"][0]["differences"][0]["at"], "/b");
}

#[test]
fn an_answer_that_there_is_not_is_compared_with_nothing() {
    let bad = truncating();
    let world = world(bad, Origin::saying("shadow"), ", compare = true");
    let _ = support::send_raw(
        world.listen,
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
    );
    world.settle(1);
    assert_eq!(world.count("not_compared", "reason=real_failed"), 1.0);
    assert_eq!(world.requests("answered"), 1.0);
}

#[test]
fn the_other_group_may_speak_http_2() {
    let (real, shadow, listen) = (Origin::saying("real"), H2Origin::echo(&[]), free_address());
    let mirror =
        "h2c , methods = ['GET', 'POST'], compare = { status = true, headers = [], body = false }";
    let ringgate = Ringgate::start(&config(listen, real.address, shadow.address, mirror));
    let mut h2 = H2::open(listen);
    h2.head(1, 4, &request_with("POST", "/p", &[("content-length", "2")]));
    h2.frame(0, 1, 1, b"hi");
    assert_eq!(h2.outcome(1).answer().text(), "real");
    assert_eq!(Client::connect(listen).get("/g").text(), "real");
    let copied = || ringgate.sum("ringgate_mirror_requests_total", &[]);
    eventually("both were dealt with", || copied() == 2.0);
    // That of the POST may have come too late.
    let skipped = ringgate.sum("ringgate_mirror_requests_total", &["\"body\""]);
    let equal = ringgate.sum("ringgate_mirror_compared_total", &["\"equal\""]);
    assert_eq!(equal, 2.0 - skipped);
    let copies = shadow.requests();
    assert!(
        copies
            .iter()
            .any(|r| r.header(":path") == Some("/g") && r.header("x-ringgate-mirror") == Some("1"))
    );
}
