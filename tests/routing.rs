//! Which rule takes a request, and the three things it can do with it, asked over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use support::ringgate::command;
use support::{Client, Message, Origin, Ringgate, free_address};

/// A listener whose rules answer with their own name; `rules` are lines of (name, further keys).
fn naming(rules: &[(&str, &str)]) -> (Ringgate, SocketAddr) {
    let listen = free_address();
    let mut config = format!("[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n");
    for (name, keys) in rules {
        config += &format!(
            "\n[[rule]]\nname = \"{name}\"\nrespond = {{ status = 200, body = \"{name}\" }}\n{keys}\n"
        );
    }
    (Ringgate::start(&config), listen)
}

/// Sends `METHOD TARGET` with the field lines that follow after ` | `, and `Host: a.test` unless one is among them.
fn ask(client: &mut Client, request: &str) -> Message {
    let mut parts = request.split(" | ");
    let (method, target) = parts.next().unwrap().split_once(' ').unwrap();
    let mut fields: Vec<&str> = parts.collect();
    if !fields.iter().any(|f| f.starts_with("Host:")) {
        fields.push("Host: a.test");
    }
    let fields = fields.join("\r\n");
    client.send(format!("{method} {target} HTTP/1.1\r\n{fields}\r\n\r\n")).response_to(method)
}

/// Which rule takes each request; `-` for none.
#[track_caller]
fn takes(rules: &[(&str, &str)], expected: &[(&str, &str)]) {
    let (_ringgate, listen) = naming(rules);
    let mut client = Client::connect(listen);
    for (request, rule) in expected {
        let answer = ask(&mut client, request);
        let taken = if answer.reason() == "no_route" { "-".to_owned() } else { answer.text() };
        assert_eq!(taken, *rule, "{request}");
    }
}

#[test]
fn hosts_are_matched_without_case_port_and_trailing_dot() {
    takes(
        &[
            ("exact", "when = { host = [\"api.example.com\"] }"),
            ("wild", "when = { host = [\"*.example.com\"] }"),
            ("one", "when = { host = [\"v?.example.org\"] }"),
        ],
        &[
            ("GET / | Host: api.example.com", "exact"),
            ("GET / | Host: API.Example.COM:8080", "exact"),
            ("GET / | Host: api.example.com.", "exact"),
            ("GET / | Host: www.example.com", "wild"),
            ("GET / | Host: a.b.example.com", "wild"),
            ("GET / | Host: example.com", "-"),
            ("GET / | Host: v1.example.org", "one"),
            ("GET / | Host: v12.example.org", "-"),
            ("GET / | Host: notexample.com", "-"),
        ],
    );
}

#[test]
fn paths_are_matched_canonical_and_with_case() {
    takes(
        &[
            ("exact", "when = { path = [\"/v1/users\"] }"),
            ("prefix", "when = { path = [\"/v1/*\"] }"),
            ("image", "when = { path = [\"*.png\"] }"),
            ("regex", "when = { path_regex = [\"^/r/[0-9]+$\"] }"),
            ("admin", "when = { path = [\"/admin/*\"] }\npriority = 1"),
        ],
        &[
            ("GET /v1/users", "exact"),
            ("GET /v1/users?x=1", "exact"),
            ("GET /v1/Users", "prefix"),
            ("GET /v1/", "prefix"),
            ("GET /v1", "-"),
            ("GET /a/b.png", "image"),
            ("GET /r/12", "regex"),
            ("GET /r/12x", "-"),
            // What is routed is what is sent: no spelling goes round a rule.
            ("GET /x/../admin/secret", "admin"),
            ("GET /%61dmin/secret", "admin"),
            ("GET //admin/secret", "admin"),
            ("GET /./admin/./secret", "admin"),
            ("GET /x/%2e%2e/admin/secret", "admin"),
        ],
    );
}

#[test]
fn every_condition_must_hold() {
    takes(
        &[
            ("method", "when = { path = [\"/m\"], method = [\"PUT\", \"DELETE\"] }"),
            ("header", "when = { path = [\"/h\"], header = { X-Env = [\"beta*\"] } }"),
            ("query", "when = { path = [\"/q\"], query = { v = [\"2\", \"3?\"] } }"),
            ("cookie", "when = { path = [\"/c\"], cookie = { group = [\"b\"] } }"),
            ("source", "when = { path = [\"/s\"], source = [\"127.0.0.0/8\"] }"),
            ("elsewhere", "when = { path = [\"/e\"], source = [\"192.0.2.0/24\"] }"),
        ],
        &[
            ("PUT /m", "method"),
            ("DELETE /m", "method"),
            ("GET /m", "-"),
            ("put /m", "-"),
            ("GET /h | x-env: BETA-2", "header"),
            ("GET /h | X-Env: prod | X-Env: beta", "header"),
            ("GET /h | x-env: prod", "-"),
            ("GET /h", "-"),
            ("GET /q?v=2", "query"),
            ("GET /q?a=b&V=31", "query"),
            ("GET /q?v=4", "-"),
            ("GET /q", "-"),
            ("GET /c | Cookie: x=y; group=b", "cookie"),
            ("GET /c | Cookie: group=B", "-"),
            ("GET /s | X-Forwarded-For: 192.0.2.1", "source"),
            // The source is the peer, never what a field says.
            ("GET /e | X-Forwarded-For: 192.0.2.1", "-"),
        ],
    );
}

#[test]
fn the_lowest_priority_comes_first_and_then_the_most_specific() {
    takes(
        &[
            ("all", "when = { path = [\"/*\"] }"),
            ("longer", "when = { path = [\"/a/b/*\"] }"),
            ("shorter", "when = { path = [\"/a/*\"] }"),
            ("second", "when = { path = [\"/p/*\"] }\npriority = 20"),
            ("first", "when = { path = [\"/p/x/*\"] }\npriority = 10"),
            ("wide", "when = { path = [\"/w/*\"] }\npriority = 5"),
            ("narrow", "when = { path = [\"/w/x\"] }"),
        ],
        &[
            ("GET /", "all"),
            ("GET /a/b/c", "longer"),
            ("GET /a/c", "shorter"),
            ("GET /p/x/1", "first"),
            ("GET /p/1", "second"),
            // A priority, where given, beats what is more specific.
            ("GET /w/x", "wide"),
        ],
    );
}

#[test]
fn rules_belong_to_their_listeners() {
    let (one, two) = (free_address(), free_address());
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"one\"\nbind = [\"{one}\"]\n\n[[listener]]\nname = \"two\"\nbind = [\"{two}\"]\n\
         default = {{ respond = {{ status = 403, body = \"default\" }} }}\n\n\
         [[rule]]\nname = \"a\"\nlistener = [\"one\"]\nwhen = {{ path = [\"/a\"] }}\nrespond = {{ status = 200, body = \"a\" }}\n\
         [[rule]]\nname = \"b\"\nwhen = {{ path = [\"/b\"] }}\nrespond = {{ status = 200, body = \"b\" }}\n"
    ));
    let status_of = |listen, path: &str| {
        let answer = support::get(listen, path);
        (answer.status(), answer.text())
    };
    assert_eq!(status_of(one, "/a"), (200, "a".to_owned()));
    assert_eq!(status_of(two, "/a"), (403, "default".to_owned()));
    assert_eq!(status_of(one, "/b").1, "b");
    assert_eq!(status_of(two, "/b").1, "b");
    assert_eq!(status_of(one, "/c").0, 404);
}

#[test]
fn redirects_keep_what_they_do_not_name() {
    let listen = free_address();
    let rule = |name: &str, redirect: &str| {
        format!(
            "\n[[rule]]\nname = \"{name}\"\nwhen = {{ path = [\"/{name}\", \"/{name}/*\"] }}\nredirect = {{ {redirect} }}\n"
        )
    };
    let rules = rule("secure", "scheme = \"https\", port = 443, status = 301")
        + &rule("host", "host = \"www.#{host}\", status = 302")
        + &rule("path", "path = \"/new/#{path}\", query = \"#{query}&from=old\", status = 308")
        + &rule("bare", "path = \"/elsewhere\", query = \"\", status = 307");
    let _ringgate =
        Ringgate::start(&format!("[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n{rules}"));
    let mut client = Client::connect(listen);
    let port = listen.port();
    for (request, status, location) in [
        ("GET /secure/x?a=b | Host: a.test", 301, "https://a.test/secure/x?a=b".to_owned()),
        ("GET /secure?a=b | Host: a.test:8080", 301, "https://a.test/secure?a=b".to_owned()),
        ("GET /host/x | Host: a.test:8080", 302, "http://www.a.test:8080/host/x".to_owned()),
        (
            "POST /path/x?a=b | Host: a.test:8080",
            308,
            "http://a.test:8080/new/path/x?a=b&from=old".to_owned(),
        ),
        ("GET /bare?a=b | Host: a.test:8080", 307, "http://a.test:8080/elsewhere".to_owned()),
    ] {
        let answer = ask(&mut client, request);
        let got = answer
            .header("location")
            .unwrap_or_default()
            .replace("https://a.test:443/", "https://a.test/");
        assert_eq!((answer.status(), got), (status, location), "{request} on port {port}");
    }
}

#[test]
fn a_redirect_cannot_be_split_or_sent_elsewhere() {
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"all\"\n\
         redirect = {{ scheme = \"https\", port = 443, path = \"/#{{path}}\", query = \"#{{query}}\", status = 301 }}\n"
    ));
    let mut client = Client::connect(listen);
    for target in ["/%0d%0aSet-Cookie:%20a=b", "//evil.example/x", "/x?a=%0d%0ab", "/%09/x"] {
        let answer = ask(&mut client, &format!("GET {target}"));
        if answer.status() != 301 {
            client = Client::connect(listen);
            continue;
        }
        let location = answer.header("location").unwrap();
        assert!(
            location.starts_with("https://a.test/") || location.starts_with("https://a.test:443/"),
            "{location}"
        );
        assert!(!location[10..].contains("//evil"), "{location}");
        assert!(answer.all("set-cookie").is_empty(), "{target}");
    }
}

#[test]
fn fixed_answers_are_as_written() {
    let (_ringgate, listen) = naming(&[]);
    assert_eq!(support::get(listen, "/").reason(), "no_route");
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"teapot\"\n\
         respond = {{ status = 418, content_type = \"text/html\", body = \"<h1>no</h1>\", headers = {{ Cache-Control = \"no-store\" }} }}\n"
    ));
    let answer = support::get(listen, "/");
    assert_eq!((answer.status(), answer.text().as_str()), (418, "<h1>no</h1>"));
    assert_eq!(answer.header("content-type"), Some("text/html"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("date").is_some());
}

#[test]
fn own_answers_explain_themselves() {
    let (_ringgate, listen) = naming(&[]);
    let mut client = Client::connect(listen);
    let answer = ask(&mut client, "GET /nowhere");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(404), Some("no_route")));
    for key in ["type", "title", "detail", "request_id"] {
        assert!(body[key].as_str().is_some_and(|v| !v.is_empty()), "{key}: {body}");
    }
    let plain = ask(&mut client, "GET /nowhere | Accept: text/plain");
    assert!(
        plain.header("content-type").is_some_and(|t| t.starts_with("text/plain")),
        "{:?}",
        plain.headers
    );
    assert_eq!(plain.reason(), "no_route");
}

#[test]
fn forward_spreads_over_groups_by_weight() {
    let origins: Vec<Origin> = ["a", "b", "c"].iter().map(|name| Origin::saying(name)).collect();
    let listen = free_address();
    let mut config = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\n[[rule]]\nname = \"split\"\nforward = [\
         {{ group = \"a\", weight = 3 }}, {{ group = \"b\", weight = 1 }}, {{ group = \"c\", weight = 0 }}]\n"
    );
    for (name, origin) in ["a", "b", "c"].iter().zip(&origins) {
        config += &format!(
            "\n[group.{name}]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n",
            origin.address
        );
    }
    let _ringgate = Ringgate::start(&config);
    let mut counts = HashMap::<String, usize>::new();
    let mut client = Client::connect(listen);
    for _ in 0..400 {
        *counts.entry(client.get("/").text()).or_default() += 1;
    }
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert!((240..=360).contains(&of("a")) && of("a") + of("b") == 400, "{counts:?}");
}

#[test]
fn expectations_in_the_file_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.toml");
    let file = |rule: &str| {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:8080\"]\n\n[[rule]]\nname = \"a\"\nwhen = {{ path = [\"/a/*\"] }}\n\
             respond = {{ status = 200 }}\n\n[[expect]]\nrequest = \"GET http://a.test/a/b\"\nrule = \"{rule}\"\n"
        )
    };
    std::fs::write(&path, file("a")).unwrap();
    let (code, said) = command(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    std::fs::write(&path, file("b")).unwrap();
    let (code, said) = command(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
}
