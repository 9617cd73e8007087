//! Nothing private is shared: hazards CACHE-01 to CACHE-04.

use crate::rig::Rig;
use crate::support::ringgate::binary;
use crate::support::{Client, Origin, free_address};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

#[test]
fn cache_01_hosts_and_queries_do_not_share() {
    let rig = Rig::start("true");
    rig.answers("/x", &[(200, &[FRESH])]);
    let hosts = ["a.test", "b.test", "a.test:81", "a.test."];
    let bodies = ["1", "2", "3", "4"];
    for _ in 0..2 {
        for (host, body) in hosts.iter().zip(bodies) {
            assert_eq!(rig.get("/x", &[("Host", host)]).text(), body, "{host}");
        }
    }
    rig.answers("/q", &[(200, &[FRESH])]);
    for _ in 0..2 {
        for (path, body) in [
            ("/q", "1"),
            ("/q?", "2"),
            ("/q?a=1&b=2", "3"),
            ("/q?b=2&a=1", "4"),
            ("/q?A=1&b=2", "5"),
        ] {
            assert_eq!(rig.get(path, &[]).text(), body, "{path}");
        }
    }
    // Spellings of one path are one.
    rig.answers("/p/q", &[(200, &[FRESH])]);
    for path in ["/p/q", "/p//q", "/p/./q", "/%70/q", "/x/../p/q"] {
        assert_eq!(rig.get(path, &[]).text(), "1", "{path}");
    }
}

/// What is sent on as it was spelled, or as it was reached, may be a part of the answer: of a redirect, for example.
#[test]
fn cache_02_spellings_of_a_host_and_listeners_do_not_share() {
    let other = free_address();
    let more = format!("[[listener]]\nname = \"other\"\nbind = [\"{other}\"]\n");
    let rig = Rig::with("cache = true", &more);
    rig.answers("/x", &[(301, &[FRESH, ("Location", "http://a.test/x")])]);
    for _ in 0..2 {
        for (host, body) in [("a.test.", "1"), ("a.test", "2"), ("A.TEST", "3"), ("a.test:80", "4")]
        {
            assert_eq!(rig.get("/x", &[("Host", host)]).text(), body, "{host}");
        }
        let request = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
        assert_eq!(Client::connect(other).send(request).response().text(), "5");
    }
    let asked = rig.asked("/x");
    assert_ne!(asked[1].header("x-forwarded-port"), asked[4].header("x-forwarded-port"));
    // What changes one of them changes all.
    rig.ask("POST", "/x", &[("Host", "a.TEST")]);
    assert_eq!(rig.get("/x", &[]).text(), "7");
    assert_eq!(rig.get("/x", &[("Host", "a.test.")]).text(), "8");
}

/// The README has a canary and a cache in one rule.
#[test]
fn cache_02_groups_of_a_canary_do_not_share() {
    let next = Origin::script(|conn| {
        while conn.request()?.is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nnext",
            )?;
        }
        Ok(())
    });
    let rule = "cache = true\ncanary = { group = \"next\", percent = 0, force = { header = \"x-canary\" } }";
    let group =
        format!("[group.next]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n", next.address);
    let rig = Rig::with(rule, &group);
    rig.answers("/x", &[(200, &[FRESH])]);
    for _ in 0..3 {
        assert_eq!(rig.get("/x", &[("X-Canary", "1")]).text(), "next");
        assert_eq!(rig.get("/x", &[]).text(), "1");
    }
    assert_eq!((rig.hits("/x"), next.requests().len()), (1, 1));
}

#[test]
fn cache_02_what_clients_do_not_say_is_not_looked_up_by_what_they_say() {
    let rule = "cache = true\nrequest = { headers = { set = { x-tenant = \"#{header.x-org}\" } } }";
    let rig = Rig::with(rule, "");
    let tenant = (200, &[FRESH, ("Vary", "X-Tenant")][..]);
    assert!(!rig.is_reused("/rule", tenant, &[("X-Org", "a")], &[("X-Org", "b")]));
    assert!(!rig.is_reused("/empty", tenant, &[], &[("X-Org", "b")]));
    let peer = (200, &[FRESH, ("Vary", "X-Forwarded-For")][..]);
    assert!(!rig.is_stored("/peer", peer, &[]));
    // It does not reach the target, whose answer is then for those without.
    let foo = (200, &[FRESH, ("Vary", "Foo")][..]);
    let hop = [("Connection", "Foo"), ("Foo", "1")];
    assert!(!rig.is_reused("/hop", foo, &hop, &[("Foo", "1")]));
    assert!(rig.is_reused("/foo", foo, &[("Foo", "1")], &[("Foo", "1")]));
    // Whoever stands behind a proxy that says who he is.
    let rig = Rig::with("cache = true", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    let alice = [("X-Forwarded-Client-Cert", "Subject=\"CN=alice\"")];
    assert!(!rig.is_stored("/cert", (200, &[FRESH]), &alice));
    assert!(rig.is_stored("/none", (200, &[FRESH]), &[]));
}

#[test]
fn cache_06_nothing_depends_on_what_targets_are_not_sent() {
    let rig = Rig::with("cache = true\ncompress = { offload = true }", "");
    let coded = (200, &[FRESH, ("Vary", "Accept-Encoding")][..]);
    let (gzip, br) = ([("Accept-Encoding", "gzip")], [("Accept-Encoding", "br")]);
    assert!(rig.is_reused("/x", coded, &gzip, &br));
    assert_eq!(rig.get("/x", &[]).header("vary"), Some("Accept-Encoding"));
}

#[test]
fn cache_01_rules_do_not_share() {
    let more = "[[rule]]\nname = \"beta\"\npriority = 1\nwhen = { header = { x-beta = \"1\" } }\n\
        forward = \"g\"\ncache = true\n";
    let rig = Rig::with("cache = true", more);
    rig.answers("/x", &[(200, &[FRESH])]);
    for _ in 0..2 {
        assert_eq!(rig.get("/x", &[]).text(), "1");
        assert_eq!(rig.get("/x", &[("x-beta", "1")]).text(), "2");
    }
}

#[test]
fn cache_02_what_is_not_in_the_key_does_not_reach_the_target() {
    let rig = Rig::start("true");
    for name in [
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-HTTP-Method-Override",
        "X-Forwarded-Port",
    ] {
        let path = format!("/{name}");
        rig.answers(&path, &[(200, &[FRESH])]);
        rig.get(&path, &[(name, "evil.test")]);
        let asked = String::from_utf8(rig.asked(&path)[0].head.clone()).unwrap();
        let path_free = asked.replace(&path, "");
        assert!(!path_free.contains("evil.test"), "{name} reaches the target:\n{asked}");
    }
}

#[test]
fn cache_02_what_trusted_peers_say_is_in_the_key() {
    let rig = Rig::with("cache = true", "[server]\ntrusted_proxies = [\"127.0.0.0/8\"]\n");
    rig.answers("/x", &[(200, &[FRESH])]);
    for _ in 0..2 {
        assert_eq!(rig.get("/x", &[]).text(), "1");
        assert_eq!(rig.get("/x", &[("X-Forwarded-Proto", "https")]).text(), "2");
        assert_eq!(rig.get("/x", &[("X-Forwarded-Host", "b.test")]).text(), "3");
        assert_eq!(rig.get("/x", &[("X-Forwarded-For", "192.0.2.1")]).text(), "1");
    }
}

#[test]
fn cache_04_a_response_to_cookies_is_stored_only_if_it_is_for_all() {
    let rig = Rig::start("true");
    let sent = [("Cookie", "session=1")];
    for (at, (fields, expected)) in [
        (&[FRESH][..], false),
        (&[("Cache-Control", "public, max-age=60")], true),
        (&[("Cache-Control", "s-maxage=60")], true),
        (&[("CDN-Cache-Control", "max-age=60")], true),
        (&[FRESH, ("Vary", "Cookie")], true),
    ]
    .iter()
    .enumerate()
    {
        let got = rig.is_stored(&format!("/c{at}"), (200, fields), &sent);
        assert_eq!(got, *expected, "{fields:?}");
    }
    let ignoring = Rig::start("{ ignore_cookies = true }");
    assert!(ignoring.is_stored("/i", (200, &[FRESH]), &sent));
    let keyed = Rig::start("{ key = { cookies = ['session'] } }");
    assert!(keyed.is_stored("/k", (200, &[FRESH]), &sent));
    assert_eq!(keyed.get("/k", &[("Cookie", "session=2")]).text(), "2");
    assert_eq!(keyed.get("/k", &sent).text(), "1");
    assert_eq!(keyed.get("/k", &[]).text(), "3");
}

// A consumer's key, and the lines of the file that know it.
fn consumer(name: &str) -> (String, String) {
    let mut new = std::process::Command::new(binary());
    new.args(["key", "new", "--consumer", name]).stderr(std::process::Stdio::null());
    let text = String::from_utf8(new.output().unwrap().stdout).unwrap();
    let (key, lines) = text.split_once("\n\n").expect("the key, an empty line, the lines");
    (key.to_owned(), lines.to_owned())
}

#[test]
fn cache_04_policies_are_asked_before_the_store() {
    let ((alice, known), (bob, more)) = (consumer("alice"), consumer("bob"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("consumers.toml");
    std::fs::write(&file, format!("{known}\n{more}")).unwrap();
    let policy = format!("[policy.who]\napi_key = {{ consumers = [\"{}\"] }}\n", file.display());
    let (alice, bob) = ([("x-api-key", alice.as_str())], [("x-api-key", bob.as_str())]);
    let rig = Rig::with("cache = true\npolicy = [\"who\"]", &policy);
    rig.answers("/me", &[(200, &[("Cache-Control", "public, max-age=60")])]);
    assert_eq!(rig.get("/me", &alice).text(), "1");
    assert_eq!(rig.get("/me", &bob).text(), "2");
    assert_eq!(rig.get("/me", &alice).text(), "3");
    assert_eq!(rig.get("/me", &[]).status(), 401);
    // Where the rule takes such requests, what says that it is for all is shared; and nobody unknown gets it.
    let rig = Rig::with("cache = { authorization = true }\npolicy = [\"who\"]", &policy);
    rig.answers("/all", &[(200, &[("Cache-Control", "public, max-age=60")])]);
    rig.answers("/own", &[(200, &[FRESH])]);
    assert_eq!(rig.get("/all", &alice).text(), "1");
    assert_eq!(rig.get("/all", &bob).text(), "1");
    assert_eq!(rig.get("/all", &[]).status(), 401);
    // The target is told who asks, and answers each with something else.
    let told = [("Cache-Control", "public, max-age=60"), ("Vary", "X-Consumer")];
    rig.answers("/told", &[(200, &told)]);
    assert_eq!(rig.get("/told", &alice).text(), "1");
    assert_eq!(rig.get("/told", &bob).text(), "2");
    assert_eq!(rig.get("/own", &alice).text(), "1");
    assert_eq!(rig.get("/own", &bob).text(), "2");
}

#[test]
fn cache_03_no_extension_makes_a_response_one_for_all() {
    let rig = Rig::start("true");
    for path in ["/account/x.css", "/account/logo.png", "/account;x.js", "/account%2Fx.css"] {
        rig.answers(path, &[(200, &[("Content-Type", "text/html")])]);
        let first = rig.get(path, &[("Cookie", "session=1")]);
        let second = rig.get(path, &[]);
        if first.status() == 200 {
            assert_ne!(first.text(), second.text(), "{path}");
        }
    }
}

#[test]
fn the_part_of_the_query_that_counts() {
    let rig = Rig::start("{ key = { query = { except = ['utm'] } } }");
    rig.answers("/e", &[(200, &[FRESH])]);
    for (path, body) in [
        ("/e?a=1&utm=x", "1"),
        ("/e?utm=y&a=1", "1"),
        ("/e?a=1", "1"),
        ("/e?a=1&u%74m=z", "1"),
        ("/e?a=2&utm=x", "2"),
        ("/e?a=1&utm=x;b=1", "3"),
    ] {
        assert_eq!(rig.get(path, &[]).text(), body, "{path}");
    }
    let sent = rig.asked("/e")[0].target().to_owned();
    assert_eq!(sent, "/e?a=1&utm=x", "the target is sent all of it");
}
