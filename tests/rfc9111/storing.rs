//! Section 3: what is stored.

use crate::rig::Rig;
use crate::support::{Client, Origin, Ringgate, free_address};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

#[test]
fn s3_responses_that_say_how_long_they_are_fresh() {
    Rig::start("true").stored(&[
        (200, &[FRESH], true),
        (200, &[("Cache-Control", "public, max-age=60")], true),
        (200, &[("Cache-Control", "s-maxage=60")], true),
        (200, &[("Expires", "{+60}")], true),
        (200, &[("CDN-Cache-Control", "max-age=60")], true),
        (200, &[], false),
        (200, &[("ETag", "\"a\"")], false),
        (200, &[("Last-Modified", "{-100000}")], false),
        (200, &[("Cache-Control", "no-store")], false),
        (200, &[("Cache-Control", "no-store, max-age=60")], false),
        (200, &[FRESH, ("Cache-Control", "No-Store")], false),
        (200, &[("Cache-Control", "private, max-age=60")], false),
        (200, &[("Cache-Control", "private=\"x-a\", max-age=60")], false),
        (200, &[("Cache-Control", "must-understand, no-store, max-age=60")], true),
        (200, &[("Cache-Control", "max-age=60; private")], false),
        (200, &[FRESH, ("Set-Cookie", "a=b")], false),
        (200, &[("Cache-Control", "public, max-age=60"), ("Set-Cookie", "a=b")], false),
        (200, &[FRESH, ("Content-Range", "bytes 0-0/1")], false),
    ]);
}

#[test]
fn s3_statuses_that_are_understood() {
    let rig = Rig::start("true");
    for status in [200, 203, 204, 300, 301, 302, 303, 307, 308] {
        rig.stored(&[(status, &[FRESH], true)]);
    }
    for status in [201, 202, 299, 400, 403, 404, 410, 414, 429, 500, 501, 503, 599] {
        rig.stored(&[(status, &[FRESH], false)]);
    }
}

#[test]
fn cache_05_errors_only_as_the_rule_says() {
    let rig = Rig::start("{ negative = { 404 = '60s', 503 = '60s' } }");
    rig.stored(&[
        (404, &[], true),
        (404, &[FRESH], true),
        (404, &[("Cache-Control", "no-store")], false),
        (404, &[("Cache-Control", "max-age=0")], false),
        (503, &[], true),
        (500, &[FRESH], false),
        (410, &[FRESH], false),
    ]);
}

#[test]
fn s3_methods_head_is_answered_and_nothing_else_is_stored() {
    let rig = Rig::start("true");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"] {
        let path = format!("/{method}");
        rig.answers(&path, &[(200, &[FRESH])]);
        rig.ask(method, &path, &[]);
        rig.ask(method, &path, &[]);
        rig.get(&path, &[]);
        assert_eq!(rig.hits(&path), 3, "{method}");
    }
    // HEAD stores nothing, and is answered of what GET has stored.
    rig.answers("/h", &[(200, &[FRESH])]);
    rig.ask("HEAD", "/h", &[]);
    assert_eq!(rig.get("/h", &[]).text(), "2");
    let head = rig.ask("HEAD", "/h", &[]);
    assert_eq!((head.status(), head.header("content-length")), (200, Some("1")));
    assert!(head.header("age").is_some());
    assert_eq!(rig.hits("/h"), 2);
}

#[test]
fn s3_1_fields_of_the_connection_are_not_stored() {
    let rig = Rig::start("true");
    rig.answers(
        "/f",
        &[(
            200,
            &[
                ("Cache-Control", "max-age=60, no-cache=\"X-Held\""),
                ("Connection", "X-Hop"),
                ("X-Hop", "1"),
                ("X-Held", "1"),
                ("Keep-Alive", "timeout=5"),
                ("X-Kept", "1"),
                ("X-Kept", "2"),
                ("Content-Type", "text/x"),
            ],
        )],
    );
    rig.get("/f", &[]);
    let stored = rig.get("/f", &[]);
    assert_eq!(rig.hits("/f"), 1);
    for name in ["x-hop", "x-held", "keep-alive", "proxy-authenticate"] {
        assert_eq!(stored.header(name), None, "{name}");
    }
    assert_eq!(stored.all("x-kept"), ["1", "2"]);
    assert_eq!(stored.header("content-type"), Some("text/x"));
    assert_eq!(stored.header("content-length"), Some("1"));
    assert!(stored.header("date").is_some());
}

#[test]
fn s3_5_requests_with_authorization() {
    let rig = Rig::start("{ authorization = true }");
    let sent = [("Authorization", "Basic YTpi")];
    for (at, (control, expected)) in [
        ("max-age=60", false),
        ("public, max-age=60", true),
        ("s-maxage=60", true),
        ("must-revalidate, max-age=60", true),
        ("proxy-revalidate, max-age=60", false),
        ("private, public, max-age=60", false),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/a{at}");
        let got = rig.is_stored(&path, (200, &[("Cache-Control", control)]), &sent);
        assert_eq!(got, *expected, "{control}");
    }
    // The usual rule takes none of them, and answers none of them from what it has.
    let rig = Rig::start("true");
    let public = [("Cache-Control", "public, max-age=60")];
    assert!(!rig.is_stored("/b", (200, &public), &sent));
    assert!(rig.is_stored("/c", (200, &public), &[]));
    rig.get("/c", &sent);
    assert_eq!(rig.hits("/c"), 2);
}

#[test]
fn cache_10_a_get_with_a_body_is_not_answered_from_the_store() {
    let rig = Rig::start("true");
    assert!(rig.is_stored("/x", (200, &[FRESH]), &[]));
    for _ in 0..2 {
        let request = "GET /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
        Client::connect(rig.address).send(request).response();
    }
    assert_eq!(rig.hits("/x"), 3);
}

#[test]
fn cache_07_what_breaks_off_is_not_stored() {
    for answer in [
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
        "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nabc",
    ] {
        // Each connection carries one answer, which ends with it.
        let origin = Origin::script(move |conn| {
            conn.request()?;
            conn.send(answer)
        });
        let address = free_address();
        let config = format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{address}\"]\n\
             [[rule]]\nname = \"all\"\nforward = \"g\"\ncache = true\n\
             [group.g]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\nretries = 0\n",
            origin.address
        );
        let _ringgate = Ringgate::start(&config);
        for _ in 0..3 {
            let mut client = Client::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            let _ = client.wire.rest();
        }
        assert_eq!(origin.requests().len(), 3, "{answer:?}");
    }
}

#[test]
fn bodies_that_are_larger_than_the_rule_allows_are_passed_on() {
    let rig = Rig::start("{ max_object = \"1KiB\" }");
    for (length, expected) in [(1024, true), (1025, false)] {
        let body = "x".repeat(length);
        let path = format!("/{length}");
        let got = rig.is_stored(&path, (200, &[FRESH, ("body", &body)]), &[]);
        assert_eq!(got, expected, "{length}");
    }
    // Whose length is not announced.
    let chunks = |length: usize| {
        let body = "x".repeat(length);
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{body}\r\n0\r\n\r\n"
        )
    };
    for (length, requests) in [(1024, 1), (1025, 2), (100_000, 2)] {
        let origin = Origin::answering(chunks(length));
        let address = free_address();
        let config = format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{address}\"]\n\
             [[rule]]\nname = \"all\"\nforward = \"g\"\ncache = {{ max_object = \"1KiB\" }}\n\
             [group.g]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            origin.address
        );
        let _ringgate = Ringgate::start(&config);
        for _ in 0..2 {
            assert_eq!(crate::support::get(address, "/").body.len(), length);
        }
        assert_eq!(origin.requests().len(), requests, "{length}");
    }
}
