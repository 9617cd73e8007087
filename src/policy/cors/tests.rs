//! What a page is told, by its origin, its request and the settings. Hazard AUTH-19.

use super::*;
use crate::http::fields::OwnedFields;
use crate::policy::sample;

fn settings(origins: &[&str]) -> Settings {
    let origins = origins.iter().map(|o| Pattern::parse(o).unwrap()).collect();
    Settings { origins, ..Settings::default() }
}

/// What became of a request: `pass`, `refuse CODE` or `answer STATUS`, and the lines for the client.
fn run(settings: &Settings, fields: &[(&str, &str)]) -> (String, Vec<String>) {
    let policy = Policy::build(settings, &|_| None, None).unwrap();
    let fields: OwnedFields = fields.iter().copied().collect();
    let mut subject = sample::subject("/x", &fields);
    let asks = fields.view().first("access-control-request-method").is_some();
    subject.preflight = asks && fields.view().first("origin").is_some();
    if subject.preflight {
        subject.view.method = b"OPTIONS";
    }
    let mut findings = Findings::default();
    let core = Core::bind(&policy, None);
    let (verdict, lines) = match policy.check(&core, &subject, &mut findings, None) {
        Verdict::Pass => ("pass".to_owned(), findings.response),
        Verdict::Refuse(fault) => (format!("refuse {}", fault.code()), findings.response),
        Verdict::Answer(answer) => {
            assert!(findings.response.is_empty() && answer.body.is_empty());
            (format!("answer {}", answer.status), answer.fields)
        }
        other => panic!("{other:?}"),
    };
    let lines = String::from_utf8(lines).unwrap();
    (verdict, lines.lines().map(str::to_owned).collect())
}

#[track_caller]
fn check(settings: &Settings, fields: &[(&str, &str)], verdict: &str, lines: &[&str]) {
    assert_eq!(
        run(settings, fields),
        (verdict.to_owned(), lines.iter().map(|l| (*l).to_owned()).collect())
    );
}

const METHOD: &str = "access-control-request-method";

#[test]
fn an_answer_says_who_may_read_it() {
    let one = settings(&["https://app.test", "https://*.wild.test"]);
    let vary = "vary: Origin";
    check(&one, &[], "pass", &[vary]);
    check(&one, &[("origin", "https://evil.test")], "pass", &[vary]);
    check(&one, &[("origin", "null")], "pass", &[vary]);
    for origin in ["https://app.test", "https://x.wild.test"] {
        let allow = format!("access-control-allow-origin: {origin}");
        check(&one, &[("Origin", origin)], "pass", &[vary, &allow]);
    }
    let twice = [("origin", "https://app.test"), ("origin", "https://app.test")];
    check(&one, &twice, "pass", &[vary]);
    let full = Settings {
        credentials: true,
        expose: vec!["x-total".to_owned(), "grpc-status".to_owned()],
        ..settings(&["https://app.test"])
    };
    let lines = [
        vary,
        "access-control-allow-origin: https://app.test",
        "access-control-allow-credentials: true",
        "access-control-expose-headers: x-total, grpc-status",
    ];
    check(&full, &[("origin", "https://app.test")], "pass", &lines);
    check(&full, &[("origin", "https://evil.test")], "pass", &[vary]);
}

#[test]
fn what_everybody_may_read_depends_on_no_origin() {
    let any = Settings { expose: vec!["*".to_owned()], ..settings(&["*"]) };
    let lines = ["access-control-allow-origin: *", "access-control-expose-headers: *"];
    for fields in [&[][..], &[("origin", "https://a.test")], &[("origin", "null")]] {
        check(&any, fields, "pass", &lines);
    }
    let preflight = [("origin", "https://a.test"), (METHOD, "GET")];
    let lines = [
        "vary: Access-Control-Request-Method",
        "access-control-allow-origin: *",
        "access-control-allow-methods: GET, HEAD, POST",
        "access-control-max-age: 600",
    ];
    check(&any, &preflight, "answer 204", &lines);
}

#[test]
fn a_preflight_is_answered_for_what_is_listed() {
    let some = Settings {
        methods: vec!["GET".to_owned(), "PUT".to_owned()],
        headers: vec!["content-type".to_owned(), "x-a".to_owned()],
        credentials: true,
        max_age: 5,
        ..settings(&["https://app.test"])
    };
    let vary = "vary: Origin, Access-Control-Request-Method";
    let lines = [
        vary,
        "access-control-allow-origin: https://app.test",
        "access-control-allow-credentials: true",
        "access-control-allow-methods: GET, PUT",
        "access-control-allow-headers: content-type, x-a",
        "access-control-max-age: 5",
    ];
    let ask = |origin: &'static str, method: &'static str| {
        [("origin", origin), (METHOD, method), ("access-control-request-headers", "x-a, x-b")]
    };
    check(&some, &ask("https://app.test", "PUT"), "answer 204", &lines);
    // A browser compares the fields itself; nothing is reflected.
    for (origin, method) in [
        ("https://app.test", "DELETE"),
        ("https://app.test", "put"),
        ("https://app.test", "POST"),
        ("https://app.test", ""),
        ("https://evil-app.test", "PUT"),
        ("https://app.test.evil.test", "PUT"),
        ("null", "PUT"),
        ("", "PUT"),
    ] {
        check(&some, &ask(origin, method), "answer 204", &[vary]);
        let enforced = Settings { enforce: true, ..some.clone() };
        check(&enforced, &ask(origin, method), "refuse cors_origin_refused", &[vary]);
    }
    let twice = [("origin", "https://app.test"), (METHOD, "PUT"), (METHOD, "DELETE")];
    check(&some, &twice, "answer 204", &[vary]);
    let every = Settings { methods: vec!["*".to_owned()], ..settings(&["https://app.test"]) };
    let (_, lines) = run(&every, &ask("https://app.test", "PURGE"));
    assert!(lines.contains(&"access-control-allow-methods: *".to_owned()), "{lines:?}");
}

#[test]
fn null_is_an_origin_only_where_it_is_listed() {
    let null = settings(&["null", "https://app.test"]);
    let lines = ["vary: Origin", "access-control-allow-origin: null"];
    check(&null, &[("origin", "null")], "pass", &lines);
    check(&settings(&["https://app.test"]), &[("origin", "null")], "pass", &["vary: Origin"]);
}

#[test]
fn private_networks_are_opened_only_when_asked_and_told_to() {
    let open = Settings { private_network: true, ..settings(&["https://app.test"]) };
    let shut = settings(&["https://app.test"]);
    let ask = |more: &'static str| {
        [
            ("origin", "https://app.test"),
            (METHOD, "GET"),
            ("access-control-request-private-network", more),
        ]
    };
    let opened = |settings: &Settings, more| {
        let (_, lines) = run(settings, &ask(more));
        lines.contains(&"access-control-allow-private-network: true".to_owned())
    };
    assert!(opened(&open, "true") && !opened(&open, "false") && !opened(&shut, "true"));
    let (_, lines) = run(&open, &ask("true"));
    let vary =
        "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Private-Network";
    assert_eq!(lines[0], vary);
}

#[test]
fn enforced_requests_come_from_listed_pages_or_the_same_site() {
    let enforced = Settings { enforce: true, ..settings(&["https://app.test"]) };
    for (origin, passes) in [
        ("https://app.test", true),
        ("https://a.test", true),
        ("https://evil.test", false),
        ("http://a.test", false),
        ("https://a.test:8443", false),
        ("https://a.test:443", false),
        ("https://a.test.evil.test", false),
        ("https://a.tes", false),
        ("null", false),
        ("", false),
    ] {
        let (verdict, lines) = run(&enforced, &[("host", "a.test"), ("origin", origin)]);
        let expected = if passes { "pass" } else { "refuse cors_origin_refused" };
        assert_eq!(verdict, expected, "{origin}");
        assert_eq!(lines[0], "vary: Origin", "{origin}");
    }
    let twice = [("origin", "https://app.test"), ("origin", "https://app.test")];
    assert_eq!(run(&enforced, &twice).0, "refuse cors_origin_refused");
    assert_eq!(run(&enforced, &[]).0, "pass", "not from a page");
}

#[test]
fn the_port_belongs_to_the_origin() {
    for (scheme, host, origin, same) in [
        ("https", "a.test", "https://a.test", true),
        ("https", "A.test:443", "https://a.test", true),
        ("https", "a.test:8443", "https://a.test:8443", true),
        ("https", "a.test:8443", "https://a.test", false),
        ("https", "a.test", "https://a.test:8443", false),
        ("https", "a.test:80", "https://a.test", false),
        ("http", "a.test:80", "http://a.test", true),
        ("http", "a.test", "https://a.test", false),
        ("http", "", "http://", false),
        ("http", "[::1]:81", "http://[::1]:81", true),
    ] {
        let fields: OwnedFields = [("host", host)].into_iter().collect();
        let mut subject = sample::subject("/", &fields);
        subject.scheme = scheme;
        assert_eq!(is_same_origin(&subject, origin.as_bytes()), same, "{host} {origin}");
    }
    let none = OwnedFields::default();
    assert!(!is_same_origin(&sample::subject("/", &none), b"https://a.test"));
}

#[test]
fn what_targets_say_of_it_is_replaced() {
    let policy = Policy::build(&settings(&["*"]), &|_| None, None).unwrap();
    let names = policy.replaces();
    assert_eq!(names.len(), 7);
    assert!(names.iter().all(|name| name.starts_with("access-control-")));
}
