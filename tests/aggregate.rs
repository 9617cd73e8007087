//! One answer of several groups: what parts are asked, what is made of their answers, and what becomes of those that fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use support::h2raw::{H2, request_with};
use support::{Client, H2Origin, Message, Origin, Ringgate, eventually, free_address, get};

fn group(name: &str, address: SocketAddr) -> String {
    format!("[group.{name}]\ntargets = [\"{address}\"]\nhealth = {{ type = \"off\" }}\n")
}

/// A listener with one rule of this action, and groups.
fn file(listen: SocketAddr, action: &str, groups: &[(&str, SocketAddr)]) -> String {
    let groups: String = groups.iter().map(|(name, address)| group(name, *address)).collect();
    format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"web\"\nbind = \"{listen}\"\n\
         [[rule]]\nname = \"r\"\n{action}\n{groups}"
    )
}

struct World {
    one: Origin,
    two: Origin,
    listen: SocketAddr,
    ringgate: Ringgate,
}

/// Two parts, `a` and `b`, of two origins.
fn world(one: Origin, two: Origin, keys: &str, a: &str, b: &str) -> World {
    let listen = free_address();
    let action = format!(
        "aggregate = {{ {keys} parts = {{ a = {{ group = 'one', path = '/a'{a} }}, b = {{ group = 'two', path = '/b'{b} }} }} }}"
    );
    let groups = [("one", one.address), ("two", two.address)];
    let ringgate = Ringgate::start(&file(listen, &action, &groups));
    World { one, two, listen, ringgate }
}

fn json(fields: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
}

fn says(body: &str) -> Origin {
    Origin::answering(json("", body))
}

fn dead() -> Origin {
    let mut origin = Origin::saying("");
    origin.stop();
    origin
}

fn mute() -> Origin {
    Origin::script(|conn| {
        while conn.request()?.is_some() {}
        Ok(())
    })
}

fn problem(answer: &Message) -> (u16, String, String) {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    (answer.status(), text("code"), text("detail"))
}

#[test]
fn parts_stand_under_their_names_and_nothing_else_of_them_goes_on() {
    let fields = "Cache-Control: public, max-age=60\r\nVary: Accept-Language\r\nSet-Cookie: s=1\r\nETag: \"x\"\r\nX-Own: 1\r\n";
    let one = Origin::answering(json(fields, r#"{"id": 1.50,"id":12345678901234567890123}"#));
    let two = Origin::answering(json("Cache-Control: max-age=9\r\n", "[ 1 ]"));
    let world = world(one, two, "", "", "");
    let mut client = Client::connect(world.listen);
    let whole = r#"{"a":{"id": 1.50,"id":12345678901234567890123},"b":[ 1 ]}"#;
    for _ in 0..3 {
        let head = "GET /page HTTP/1.1\r\nHost: a.test\r\nAccept: text/html\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\
             If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Own: 2\r\nCookie: k=v\r\n\r\n";
        let answer = client.send(head).response();
        assert_eq!((answer.status(), answer.text().as_str()), (200, whole));
        let names = [
            "content-type",
            "cache-control",
            "vary",
            "set-cookie",
            "etag",
            "x-own",
            "x-ringgate-partial",
        ];
        let expected = [
            Some("application/json"),
            Some("max-age=9"),
            Some("accept-language"),
            None,
            None,
            None,
            None,
        ];
        assert_eq!(names.map(|name| answer.header(name)), expected);
    }
    assert_eq!(H2::open(world.listen).fetch(1, "/page").text(), whole);
    let head = client.send("HEAD /page HTTP/1.1\r\nHost: a.test\r\n\r\n").response_to("HEAD");
    assert_eq!(
        (head.status(), head.header("content-length")),
        (200, Some(whole.len().to_string().as_str()))
    );
    let asked = &world.one.requests()[0];
    assert_eq!((asked.method(), asked.target()), ("GET", "/a"));
    let names = ["accept", "accept-encoding", "x-own", "cookie", "host", "x-forwarded-for"];
    let expected = ["application/json", "identity", "2", "k=v", "a.test", "127.0.0.1"];
    assert_eq!(names.map(|name| asked.all(name)), expected.map(|value| vec![value]));
    for name in
        ["range", "if-none-match", "if-modified-since", "content-length", "transfer-encoding"]
    {
        assert_eq!(asked.header(name), None, "{name}");
    }
    assert_eq!(
        world.ringgate.metric("ringgate_group_requests_total{group=\"two\",class=\"2xx\"}"),
        Some(5.0)
    );
    assert_eq!(
        world.ringgate.metric("ringgate_rule_requests_total{rule=\"r\",class=\"2xx\"}"),
        Some(5.0)
    );
}

/// Either answers only when the other was asked, too.
#[test]
fn parts_are_asked_at_the_same_time() {
    let both = Arc::new(Barrier::new(2));
    let origin = |both: &Arc<Barrier>| {
        let both = Arc::clone(both);
        Origin::script(move |conn| {
            while conn.request()?.is_some() {
                both.wait();
                conn.send(json("", "1"))?;
            }
            Ok(())
        })
    };
    let world = world(origin(&both), origin(&both), "timeout = '30s',", "", "");
    assert_eq!(get(world.listen, "/").text(), r#"{"a":1,"b":1}"#);
}

#[test]
fn a_part_that_may_fail_leaves_its_default() {
    let truncated = || {
        Origin::script(|conn| {
            conn.request()?;
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            )
        })
    };
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n1";
    let missing =
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let long = format!("\"{}\"", "x".repeat(2000));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n7d2\r\n{long}\r\n0\r\n\r\n"
    );
    let cases = [
        ("dead", dead(), r#"{"code":"connect_failed"}"#),
        ("late", mute(), r#"{"code":"timeout"}"#),
        ("truncated", truncated(), r#"{"code":"truncated_body"}"#),
        ("no HTTP", Origin::answering("SSH-2.0\r\n"), r#"{"code":"bad_response_head"}"#),
        ("text", Origin::answering(text), r#"{"code":"not_json"}"#),
        ("malformed", says("{"), r#"{"code":"not_json"}"#),
        ("deep", says(&("[".repeat(100) + &"]".repeat(100))), r#"{"code":"not_json"}"#),
        (
            "coded",
            Origin::answering(json("Content-Encoding: br\r\n", "1")),
            r#"{"code":"not_json"}"#,
        ),
        ("404", Origin::answering(missing), r#"{"code":"status","status":404}"#),
        ("long", says(&long), r#"{"code":"too_large"}"#),
        ("long and chunked", Origin::answering(chunked), r#"{"code":"too_large"}"#),
        ("without it", says("{}"), r#"{"code":"nothing_there"}"#),
    ];
    for (what, bad, why) in cases {
        let pick = if what == "without it" { ", pick = '/items'" } else { "" };
        let keys = "on_failure = 'partial', errors = true, limit = '1000B', partial_status = 203,";
        let b = format!(", default = {{ n = [] }}, timeout = '300ms'{pick}");
        let world = world(says("1"), bad, keys, "", &b);
        let answer = get(world.listen, "/");
        let expected = format!(r#"{{"a":1,"b":{{"n":[]}},"_errors":{{"b":{why}}}}}"#);
        assert_eq!((answer.status(), answer.text()), (203, expected), "{what}");
        let counted = |series: &str| world.ringgate.metric(&format!("ringgate_aggregate_{series}"));
        assert_eq!(
            counted("answers_total{rule=\"r\",listener=\"\",result=\"partial\"}"),
            Some(1.0)
        );
        assert_eq!(counted("missing_parts_total{rule=\"r\",listener=\"\",part=\"b\"}"), Some(1.0));
        let told = ["x-ringgate-partial", "cache-control"].map(|name| answer.header(name));
        assert_eq!(told, [Some("b"), Some("no-store")], "{what}");
    }
}

#[test]
fn a_part_that_must_not_fail_fails_the_whole_and_is_named() {
    let status =
        "HTTP/1.1 500 Oops\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    for (bad, expected) in [
        (dead(), (502, "part_failed", "The part \"b\" failed: connect_failed.")),
        (
            Origin::answering(status),
            (502, "part_failed", "The part \"b\" answered with status 500."),
        ),
        (mute(), (504, "part_timeout", "The part \"b\" did not answer in time.")),
    ] {
        let world = world(says("1"), bad, "", "", ", timeout = '300ms'");
        let mut client = Client::connect(world.listen);
        let answer = client.get("/");
        assert_eq!(answer.reason(), expected.1);
        let found = problem(&answer);
        assert_eq!((found.0, found.1.as_str(), found.2.as_str()), expected);
        assert_eq!(client.get("/").status(), expected.0, "the connection goes on");
    }
    let world = world(dead(), mute(), "on_failure = 'partial', timeout = '300ms',", "", "");
    let found = problem(&get(world.listen, "/"));
    assert_eq!(found.2, "The part \"a\" failed: connect_failed.", "of nothing nothing is made");
}

// Never answers, and counts the connections that were closed meanwhile.
fn left_waiting() -> (Origin, Arc<AtomicUsize>) {
    let gone = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&gone);
    let slow = Origin::script(move |conn| {
        while conn.request()?.is_some() {}
        counting.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (slow, gone)
}

/// When one part has failed that must not, the others are broken off.
#[test]
fn nobody_works_for_an_answer_that_there_will_not_be() {
    let (slow, gone) = left_waiting();
    let world = world(slow, says("{"), "timeout = '60s',", "", "");
    assert_eq!(get(world.listen, "/").status(), 502);
    eventually("the other one is closed", || gone.load(Ordering::SeqCst) == 1);
    let active =
        || world.ringgate.sum("ringgate_target_connections", &[&world.one.address.to_string()]);
    eventually("and forgotten", || active() == 0.0);
}

/// Hazard H2-05: nor for a client that has left.
#[test]
fn parts_end_with_the_stream_that_asked_for_them() {
    let (slow, gone) = left_waiting();
    let world = world(slow, says("1"), "timeout = '60s',", "", "");
    let mut h2 = H2::open(world.listen);
    h2.get(1, "/");
    eventually("a part is asked for", || world.one.requests().len() == 1);
    // RST_STREAM with CANCEL.
    h2.frame(3, 0, 1, 8_u32.to_be_bytes());
    eventually("it is broken off", || gone.load(Ordering::SeqCst) == 1);
    let busy = || world.ringgate.sum("ringgate_group_active_requests", &[]);
    eventually("nothing is left", || busy() == 0.0);
}

/// Hazard RES-08: an aggregate is a request in flight as its parts are.
#[test]
fn an_aggregate_takes_a_place_of_its_own() {
    let (slow, fast, listen) = (mute(), says("1"), free_address());
    let text = format!(
        "{}[[rule]]\nname = 'plain'\nwhen = {{ path = '/plain' }}\nforward = 'two'\n[limits]\nin_flight = 2\n",
        file(
            listen,
            "aggregate = { timeout = '60s', parts = { a = { group = 'one', path = '/a' } } }",
            &[("one", slow.address), ("two", fast.address)]
        )
    );
    let _ringgate = Ringgate::start(&text);
    assert_eq!(get(listen, "/plain").status(), 200);
    let mut client = Client::connect(listen);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("its part is asked for", || slow.requests().len() == 1);
    let shed = get(listen, "/plain");
    assert_eq!((shed.status(), shed.reason()), (503, "shed"));
}

/// Hazard RES-07: parts that have come wait for the others within the machine's memory.
#[test]
fn parts_that_wait_are_counted_as_memory() {
    let origin = Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            // One after the other, so that what they take while they arrive is not what counts.
            let (size, turn) = match request.target() {
                "/small" => (10, 0),
                turn => (1_500_000, turn.trim_start_matches('/').parse().unwrap()),
            };
            std::thread::sleep(Duration::from_millis(400 * turn));
            conn.send(json("", &format!("\"{}\"", "x".repeat(size))))?;
        }
        Ok(())
    });
    let listen = free_address();
    let parts: Vec<String> =
        (0..3).map(|n| format!("p{n} = {{ group = 'g', path = '/{n}' }}")).collect();
    let action = format!(
        "aggregate = {{ timeout = '30s', limit = '8MiB', parts = {{ {} }} }}\n[[rule]]\nname = 'small'\n\
         when = {{ path = '/small' }}\naggregate = {{ parts = {{ a = {{ group = 'g', path = '/small' }} }} }}",
        parts.join(", ")
    );
    let text = file(listen, &action, &[("g", origin.address)]);
    let ringgate = Ringgate::start(&format!("{text}[limits]\nmemory = '4MiB'\n"));
    let (status, code, detail) = problem(&get(listen, "/"));
    assert_eq!((status, code.as_str()), (502, "part_failed"), "{detail}");
    assert!(detail.ends_with("failed: shed."), "{detail}");
    assert_eq!(get(listen, "/small").status(), 200, "memory came back");
    drop(ringgate);
}

/// URI-04: what clients put into paths stays in its place.
#[test]
fn what_a_request_puts_into_a_path_climbs_nowhere() {
    let (origin, listen) = (
        Origin::script(|conn| {
            while let Some(request) = conn.request()? {
                conn.send(json("", &serde_json::to_string(request.target()).unwrap()))?;
            }
            Ok(())
        }),
        free_address(),
    );
    let action = "aggregate = { on_failure = 'partial', errors = true, parts = { \
        p = { group = 'g', path = '/u/#{query.id}/x' }, q = { group = 'g', path = '/o?user=#{query.id}' } } }";
    let _ringgate = Ringgate::start(&file(listen, action, &[("g", origin.address)]));
    let mut client = Client::connect(listen);
    for (id, path, query) in [
        ("7", "/u/7/x", "/o?user=7"),
        ("a%2Fb", "", "/o?user=a%2Fb"),
        ("a?b&c=d", "", "/o?user=a%3Fb"),
        ("%3Fq%26r%3Ds%23", "", "/o?user=%3Fq%26r%3Ds%23"),
        ("..", "", "/o?user=.."),
        ("%2e%2e", "", "/o?user=.."),
        ("../../admin", "", "/o?user=..%2F..%2Fadmin"),
        ("%0d%0aX-Y:%20z", "/u/%0D%0AX-Y%3A%20z/x", "/o?user=%0D%0AX-Y%3A%20z"),
        ("%c3%bc", "/u/%C3%BC/x", "/o?user=%C3%BC"),
    ] {
        let answer = client.get(&format!("/?id={id}"));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["q"], query, "{id}: {body}");
        let found = body["p"].as_str().unwrap_or_default();
        let asked = origin.requests();
        assert!(
            asked.iter().all(|r| r.header("x-y").is_none() && !r.target().contains("..//")),
            "{id}"
        );
        // What makes no path that is safe with every server is not asked for at all.
        if path.is_empty() {
            assert_eq!((found, &body["_errors"]["p"]["code"]), ("", &"bad_path".into()), "{id}");
        } else {
            assert_eq!(found, path, "{id}");
        }
    }
}

#[test]
fn a_body_goes_to_parts_that_take_one() {
    let world = world(says("1"), says("2"), "body = '8B',", "", ", method = 'POST'");
    let mut client = Client::connect(world.listen);
    let head = "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Type: text/x\r\n";
    let bodies =
        ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"];
    for body in bodies {
        assert_eq!(client.send(format!("{head}{body}")).response().text(), r#"{"a":1,"b":2}"#);
        let (a, b) = (world.one.last(), world.two.last());
        assert_eq!(
            (a.method(), a.body.as_slice(), a.header("content-type")),
            ("GET", &b""[..], None)
        );
        assert_eq!(
            (b.method(), b.body.as_slice(), b.header("content-type")),
            ("POST", &b"hi"[..], Some("text/x"))
        );
    }
    let mut h2 = H2::open(world.listen);
    h2.head(1, 4, &request_with("POST", "/x", &[]));
    h2.frame(0, 1, 1, b"two");
    assert_eq!(h2.outcome(1).answer().text(), r#"{"a":1,"b":2}"#);
    assert_eq!(world.two.last().body, b"two");
    assert_eq!(client.get("/").text(), r#"{"a":1,"b":2}"#, "without a body, too");
    let long = client.send(format!("{head}Content-Length: 9\r\n\r\n123456789")).response();
    assert_eq!((long.status(), long.reason()), (413, "body_too_large"));
}

#[test]
fn parts_may_speak_http_2_and_a_rule_may_make_all_of_it_fail() {
    let (one, listen) = (says("1"), free_address());
    let two = H2Origin::script(&[], |conn| {
        while let Some((stream, _)) = conn.request() {
            conn.answer(stream, &[("content-type", "application/json")], b"{\"two\":2}");
        }
    });
    let action = "inject = { abort = 418, when = { header = { x-fault = '*' } } }\n\
        aggregate = { parts = { a = { group = 'one', path = '/' }, b = { group = 'two', path = '/', pick = '/two' } } }";
    let text = file(listen, action, &[("one", one.address), ("two", two.address)]);
    let _ringgate = Ringgate::start(&(text + "protocol = \"h2c\"\n"));
    let mut client = Client::connect(listen);
    assert_eq!(client.get("/").text(), r#"{"a":1,"b":2}"#);
    let failed = client.send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Fault: 1\r\n\r\n").response();
    assert_eq!((failed.status(), failed.reason()), (418, "injected"));
}

/// What a rule says of its responses it says of this one, too.
#[test]
fn the_whole_is_dressed_and_compressed_as_any_answer() {
    use std::io::Read;
    let long = format!("\"{}\"", "x".repeat(5000));
    let (origin, listen) =
        (Origin::answering(json("Vary: Accept-Language\r\n", &long)), free_address());
    let action = "compress = true\nresponse = { headers = { set = { x-own = 'y' } } }\n\
        errors = [{ status = '502', body = 'sorry', content_type = 'text/plain' }]\n\
        aggregate = { parts = { a = { group = 'g', path = '/a' } } }";
    let _ringgate = Ringgate::start(&file(listen, action, &[("g", origin.address)]));
    let mut client = Client::connect(listen);
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip\r\n\r\n";
    let answer = client.send(head).response();
    let told = ["content-encoding", "x-own"].map(|name| answer.header(name));
    assert_eq!(told, [Some("gzip"), Some("y")]);
    let vary = answer.all("vary").join(", ").to_ascii_lowercase();
    assert!(vary.contains("accept-language") && vary.contains("accept-encoding"), "{vary}");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, format!("{{\"a\":{long}}}"));
    drop(origin);
    let failed = client.get("/");
    assert_eq!((failed.status(), failed.text().as_str()), (502, "sorry"));
}

#[test]
fn a_listener_may_answer_with_parts_and_many_of_them() {
    let (origin, listen) = (says("[]"), free_address());
    let parts: Vec<String> =
        (0..32).map(|n| format!("p{n} = {{ group = 'g', path = '/{n}' }}")).collect();
    let text = format!(
        "[server]\nworkers = 1\n[[listener]]\nname = \"web\"\nbind = \"{listen}\"\n\
         default = {{ aggregate = {{ timeout = '30s', parts = {{ {} }} }} }}\n{}",
        parts.join(", "),
        group("g", origin.address)
    );
    let ringgate = Ringgate::start(&text);
    let mut client = Client::connect(listen);
    for _ in 0..5 {
        let body: serde_json::Value = serde_json::from_slice(&client.get("/").body).unwrap();
        assert_eq!(body.as_object().unwrap().len(), 32);
    }
    assert_eq!(origin.requests().len(), 160);
    assert!(origin.connections() <= 64, "connections are used again");
    let busy = || ringgate.sum("ringgate_group_active_requests", &[]);
    eventually("nothing is left", || busy() == 0.0);
}
