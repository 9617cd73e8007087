//! Expectations that are met, and those that are not.

use super::*;
use crate::snapshot::compile::{Context, compile};

const FILE: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
[[listener]]
name = "inside"
bind = ["127.0.0.1:8081"]

[[rule]]
name = "api"
listener = ["web"]
forward = "app"
when = { host = ["api.example.com"], path = ["/v1/*"] }
[[rule]]
name = "beta"
priority = 5
listener = ["web"]
forward = "app"
when = { host = ["api.example.com"], header = { x-env = ["beta*"] } }
[[rule]]
name = "near"
listener = ["inside"]
respond = { status = 200 }
when = { source = ["10.0.0.0/8"], query = { v = ["2"] } }
[[rule]]
name = "posts"
listener = ["web"]
respond = { status = 200 }
when = { method = ["POST"], cookie = { group = ["b"] }, path = ["/posts"] }

[group.app]
targets = ["127.0.0.1:9000"]
"#;

fn run(file: &str) -> (Vec<Problem>, Vec<Problem>) {
    let config = crate::config::parse(file, "test.toml", &|_| None).unwrap();
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
    let snapshot = compile(&config, context).unwrap();
    (unmet(&snapshot, &config), hidden(&snapshot, &config))
}

/// `expect` stands in FILE; `said` holds parts of what is said of it, none where it is met.
fn check(expect: &str, said: &[&str]) {
    let (problems, _) = run(&format!("{FILE}[[expect]]\n{expect}\n"));
    let text = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
    if said.is_empty() {
        assert_eq!(text, "", "{expect}");
    }
    for part in said {
        assert!(
            problems.len() == 1 && text.contains(part),
            "{expect}: {part:?} is not in:\n{text}"
        );
    }
}

#[test]
fn what_is_expected_is_met() {
    for expect in [
        r#"request = "GET http://api.example.com/v1/x"
           rule = "api""#,
        // As for a received request: host and path are made canonical.
        r#"request = "GET https://API.Example.com:8443//v1/./%78?a=b"
           rule = "api""#,
        r#"request = "GET http://api.example.com/v1/x"
           rule = "beta"
           headers = { X-Env = "BETA-2" }"#,
        r#"request = "GET http://[::1]/?v=2"
           rule = "near"
           source = "10.1.2.3""#,
        r#"request = "POST http://a/posts"
           rule = "posts"
           headers = { cookie = "a=1; group=b" }"#,
        r#"request = "GET http://other"
           rule = "none""#,
        r#"request = "GET http://other?v=2"
           rule = "none"
           listener = "inside""#,
        // Refused before any rule is asked.
        r#"request = "GET http://api.example.com/v1/..%2f"
           rule = "none""#,
    ] {
        check(expect, &[]);
    }
}

#[test]
fn a_wrong_expectation_says_who_took_the_request_and_why() {
    check(
        r#"request = "GET http://api.example.com/v1/x"
           rule = "beta""#,
        &[
            "test.toml:33:1: expect: ",
            r#"which rule "api" (test.toml:9) takes on listener "web""#,
            r#"expected rule "beta" to take it"#,
            r#""beta" does not match: a field of its `header`"#,
        ],
    );
    check(
        r#"request = "GET http://api.example.com/v1/x"
           rule = "api"
           headers = { x-env = "beta" }"#,
        &[
            r#"rule "beta" (test.toml:14) takes"#,
            r#""api" matches too, but "beta" comes before it"#,
        ],
    );
    check(
        r#"request = "GET http://api.example.com/v2/x"
           rule = "api""#,
        &["which no rule takes", "none of its `path` patterns"],
    );
    check(
        r#"request = "GET http://api.example.com/v1/x"
           rule = "none""#,
        &[r#"rule "api""#, "expected no rule to take it"],
    );
    check(
        r#"request = "GET http://a/?v=2"
           rule = "none"
           source = "10.0.0.1""#,
        &[r#"rule "near""#, r#"on listener "inside""#],
    );
    check(
        r#"request = "GET http://api.example.com/v1/x"
           rule = "api"
           listener = "inside""#,
        &["no rule takes on listener \"inside\"", "does not serve this listener"],
    );
    check(
        r#"request = "GET http://a/?v=2"
           rule = "near""#,
        &["none of its `source` ranges"],
    );
}

#[test]
fn a_request_that_is_refused_is_taken_by_no_rule() {
    for (request, status) in [
        ("GET http://api.example.com/v1/..%2f", "400"),
        ("GET http://api.example.com/../v1/", "400"),
        ("GET http://a..b/v1/", "400"),
        ("TRACE http://api.example.com/v1/", "405"),
    ] {
        let parts = [&*format!("{request:?}, which is refused: {status} ")];
        check(&format!("request = {request:?}\nrule = \"api\""), &parts);
    }
    check(
        "request = \"GET http://api.example.com/v1/\"\nrule = \"api\"\nheaders = { Host = \"b\" }",
        &["which is refused: 400"],
    );
}

#[test]
fn every_expectation_is_judged_and_the_limits_hold() {
    let long = "a".repeat(17 << 10);
    let file = format!(
        "{FILE}[[expect]]\nrequest = \"GET http://a/\"\nrule = \"api\"\n\
         [[expect]]\nrequest = \"GET http://api.example.com/v1/{long}\"\nrule = \"api\"\n"
    );
    let (problems, _) = run(&file);
    assert_eq!(problems.len(), 2);
    assert!(problems[1].found.contains("refused: 414"), "{}", problems[1]);
}

#[test]
fn a_listener_that_sends_requests_to_https_is_asked_for_no_rule() {
    let file = FILE
        .replace(
            "bind = [\"127.0.0.1:8080\"]",
            "bind = [\"127.0.0.1:8080\"]\nredirect_https = true",
        )
        .replace(
            "[[listener]]\nname = \"web\"",
            "[server]\ntrusted_proxies = \"10.0.0.0/8\"\n[[listener]]\nname = \"web\"",
        );
    let check = |expect: &str, says: &str| {
        let (problems, _) = run(&format!("{file}[[expect]]\n{expect}\n"));
        let text = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n");
        let fits = if says.is_empty() { text.is_empty() } else { text.contains(says) };
        assert!(fits, "{expect}: {text}");
    };
    let plain = "request = \"GET http://api.example.com/v1/x\"\n";
    check(&format!("{plain}rule = \"api\""), "listener \"web\" sends to https before any rule");
    check(&format!("{plain}rule = \"none\""), "");
    let front = "source = \"10.0.0.1\"\nheaders = { x-forwarded-proto = \"https\" }";
    check(&format!("{plain}{front}\nrule = \"api\""), "");
    let challenge = "request = \"GET http://api.example.com/.well-known/acme-challenge/x\"";
    check(&format!("{challenge}\nrule = \"api\""), "none of its `path` patterns");
}

#[test]
fn a_listener_is_found_by_scheme_and_port() {
    let file = |more: &str| {
        format!(
            "[[listener]]\nname = 'a'\nbind = '127.0.0.1:8080'\n[[listener]]\nname = 'b'\nbind = ['127.0.0.1:80', '127.0.0.1:81']\n{more}"
        )
    };
    let config = |more: &str| crate::config::parse(&file(more), "a.toml", &|_| None).unwrap();
    let config = config("");
    for (url, named, expected, says) in [
        ("http://x.test/", None, 1, ""),
        ("http://x.test:81?a:82", None, 1, ""),
        ("http://[::1]:8080/", None, 0, ""),
        ("http://x.test:9/", None, 0, "no listener speaks http on port 9: \"a\" is taken"),
        ("http://x.test:9/", Some("b"), 1, ""),
        ("https://x.test/", None, 0, "no listener speaks https: \"a\" is asked"),
        ("https://x.test/", Some("b"), 1, "listener \"b\" speaks http"),
    ] {
        let found = listener_for(&config, url, named, None).unwrap();
        let note = misfit(&config, url, found, named.is_some()).unwrap_or_default();
        assert_eq!(found, expected, "{url}");
        assert!(note.contains(says) && note.is_empty() == says.is_empty(), "{url}: {note}");
    }
}

#[test]
fn warns_of_rules_that_never_match() {
    let rule = |name: &str, priority: &str, path: &str| {
        format!(
            "[[rule]]\nname = {name:?}\n{priority}\nrespond = {{ status = 200 }}\nwhen = {{ path = [{path:?}] }}\n"
        )
    };
    let file = |rules: &[String]| {
        format!("[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:8080\"]\n{}", rules.concat())
    };
    let (_, warnings) =
        run(&file(&[rule("all", "priority = 1", "/*"), rule("api", "priority = 2", "/api/*")]));
    assert_eq!(warnings.len(), 1);
    let text = warnings[0].to_string();
    assert!(text.starts_with("test.toml:9:1: rule.api: found a rule that never matches"), "{text}");
    assert!(text.contains(r#"rule "all" (test.toml:4)"#), "{text}");
    let (_, warnings) = run(&file(&[rule("all", "", "/*"), rule("api", "", "/api/*")]));
    assert_eq!(warnings, [], "the more specific rule comes first by itself");
}
