//! Tables of answers that are the same and of answers that are not.

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern(json::Pointer::parse(text).unwrap())
}

fn side(body: &str) -> Side {
    Side {
        status: 200,
        fields: vec![b"x".to_vec()],
        json: true,
        body: body.into(),
        ..Side::default()
    }
}

fn found(settings: &CompareSettings, real: &Side, other: &Side) -> Vec<String> {
    let shown = |one: &Option<String>| one.clone().unwrap_or("-".to_owned());
    let outcome = compare(settings, real, other);
    assert_eq!(compare(settings, other, real).differences.len(), outcome.differences.len());
    let lines = outcome.differences.iter().map(|d| {
        format!("{} {} {} {}", d.kind.name(), d.at, shown(&d.excerpts[0]), shown(&d.excerpts[1]))
    });
    lines.chain(outcome.skipped.map(|r| format!("skipped {}", r.name()))).collect()
}

#[track_caller]
fn check(ignore: &[&str], real: &str, other: &str, expected: &[&str]) {
    let ignore = ignore.iter().map(|text| pattern(text)).collect();
    let settings = CompareSettings { ignore, excerpts: true, ..CompareSettings::default() };
    let all = found(&settings, &side(real), &side(other));
    assert_eq!(all, expected, "{real} {other}");
}

#[test]
fn equal_json_is_equal_however_it_is_written() {
    for (real, other) in [
        (r#"{"a":1,"b":[2,3]}"#, r#" { "b" : [ 2.0, 30e-1 ], "a" : 1 } "#),
        (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
        (r#"{"\u0061":null}"#, r#"{"a":null}"#),
        ("[]", "[ ]"),
        ("-0", "0"),
        (r#"{"a":1,"a":2,"b":0}"#, r#"{"a":1,"b":0,"a":2}"#),
        (r#"{"a":{"x":1,"y":{"z":[{}]}}}"#, r#"{"a":{"y":{"z":[{}]},"x":1}}"#),
    ] {
        check(&[], real, other, &[]);
    }
}

#[test]
fn every_planted_difference_is_found_where_it_is() {
    for (real, other, expected) in [
        ("1", "2", "body  1 2"),
        ("1", "\"1\"", "body  1 \"1\""),
        ("null", "{}", "body  null an object of 0"),
        (
            "12345678901234567890",
            "12345678901234567891",
            "body  12345678901234567890 12345678901234567891",
        ),
        (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, "body /b - 2"),
        (r#"{"a":null}"#, "{}", "body /a null -"),
        ("[1,2]", "[2,1]", "body /0 1 2|body /1 2 1"),
        ("[1]", "[1,[]]", "body /1 - an array of 0"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#, "body /a 1 2|body /a 2 1"),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#, "body /a 1 2|body /a 2 -"),
        (r#"{"x/y":{"~":true}}"#, r#"{"x/y":{"~":false}}"#, "body /x~1y/~0 true false"),
        (
            r#"{"items":[{"id":1},{"id":2}]}"#,
            r#"{"items":[{"id":1},{"id":3}]}"#,
            "body /items/1/id 2 3",
        ),
    ] {
        check(&[], real, other, &expected.split('|').collect::<Vec<_>>());
    }
}

#[test]
fn what_is_ignored_may_differ_or_be_missing_and_nothing_else() {
    let items = |a: &str, b: &str| {
        format!(r#"{{"ts":{a},"items":[{{"id":{a},"v":1}},{{"id":{b},"v":2}}]}}"#)
    };
    check(&["/ts", "/items/*/id"], &items("1", "2"), &items("3", "4"), &[]);
    check(&["/ts"], &items("1", "2"), &items("3", "2"), &["body /items/0/id 1 3"]);
    check(&["/ts"], r#"{"ts":1,"a":0}"#, r#"{"a":0}"#, &[]);
    check(&["/*/b"], r#"{"a":{"b":1,"c":1}}"#, r#"{"a":{"b":2,"c":2}}"#, &["body /a/c 1 2"]);
    check(&["/a"], r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, &[]);
    check(&["/a/b"], r#"{"a":{"b":1}}"#, r#"{"a":[]}"#, &["body /a an object of 1 an array of 0"]);
    check(&[""], "1", "2", &[]);
    check(&["/0"], "[1,2]", "[3,2]", &[]);
    check(&["/*"], "[1,2]", "[3]", &[]);
}

#[test]
fn what_is_no_json_is_compared_octet_by_octet() {
    check(&[], "abc", "abd", &["body octet 2 c d"]);
    check(&[], "abc", "abc", &[]);
    check(&[], "{\"a\":1}", "{\"a\":1", &["body octet 6 } -"]);
    let settings = CompareSettings { excerpts: true, ..CompareSettings::default() };
    let text = Side { json: false, ..side("1.0") };
    assert_eq!(found(&settings, &text, &side("1")), ["body octet 1 .0 -"]);
    let binary = Side { json: false, body: vec![0xff; 1000], ..side("") };
    let other = Side { json: false, body: vec![0xfe; 1000], ..side("") };
    let Outcome { differences, .. } = compare(&settings, &binary, &other);
    assert!(
        differences[0].excerpts.iter().flatten().all(|text| text.chars().count() <= EXCERPT + 3)
    );
}

#[test]
fn heads_are_compared_as_the_settings_say() {
    let settings =
        CompareSettings { headers: vec!["etag".into(), "set-cookie".into()], ..Default::default() };
    let of = |status, etag: &str, cookie: &str| Side {
        status,
        fields: vec![etag.into(), cookie.into()],
        ..side("same")
    };
    assert_eq!(found(&settings, &of(200, "a", "b"), &of(200, "a", "b")), [""; 0]);
    assert_eq!(found(&settings, &of(200, "a", "b"), &of(503, "a", "b")), ["status  200 503"]);
    assert_eq!(found(&settings, &of(200, "a", "b"), &of(200, "", "b")), ["header etag a -"]);
    let cookies = found(&settings, &of(200, "a", "s=secret"), &of(200, "a", "s=other"));
    assert_eq!(cookies, ["header set-cookie (not shown) (not shown)"]);
    let blind = CompareSettings { status: false, headers: Vec::new(), body: false, ..settings };
    assert_eq!(
        found(&blind, &of(200, "a", "b"), &Side { body: b"x".into(), ..of(500, "c", "d") }),
        [""; 0]
    );
}

#[test]
fn bodies_that_are_not_here_are_not_compared_and_heads_are() {
    let settings = CompareSettings::default();
    let gap = |reason| Side { gap: Some(reason), ..side("") };
    assert_eq!(found(&settings, &gap(Reason::TooLarge), &side("x")), ["skipped too_large"]);
    let failed = Side { status: 500, ..gap(Reason::TooLarge) };
    assert_eq!(found(&settings, &side("x"), &failed), ["status  200 500", "skipped too_large"]);
    for reason in [Reason::MirrorFailed, Reason::RealFailed, Reason::Late] {
        let none = Side { status: 0, gap: Some(reason), ..Side::default() };
        assert_eq!(found(&settings, &side("x"), &none), [format!("skipped {}", reason.name())]);
    }
    let coded = Side { coding: Some("gzip".into()), ..side("x") };
    assert_eq!(found(&settings, &coded, &side("y")), ["skipped coded"]);
    assert_eq!(found(&settings, &coded, &coded.clone()), [""; 0]);
    let silent = |coding: Option<&str>| Side { coding: coding.map(Box::from), ..side("") };
    assert_eq!(found(&settings, &silent(Some("gzip")), &silent(None)), [""; 0]);
    let no_body = CompareSettings { body: false, ..settings };
    assert_eq!(found(&no_body, &coded, &gap(Reason::TooLarge)), [""; 0]);
}

#[test]
fn without_excerpts_no_value_of_a_body_is_shown() {
    let settings = CompareSettings::default();
    let all = found(&settings, &side(r#"{"a":"secret"}"#), &side(r#"{"a":"other"}"#));
    assert_eq!(all, ["body /a - -"]);
    assert_eq!(found(&settings, &side("secret"), &side("other")), ["body octet 0 - -"]);
}

#[test]
fn differences_have_a_bound() {
    let list = |n: usize| serde_json::to_string(&vec![n; 10_000]).unwrap();
    let outcome = compare(&CompareSettings::default(), &side(&list(1)), &side(&list(2)));
    assert_eq!(outcome.differences.len(), MOST_DIFFERENCES);
    let name = "x".repeat(10_000);
    let outcome = compare(
        &CompareSettings::default(),
        &side(&format!("{{\"{name}\":1}}")),
        &side(&format!("{{\"{name}\":2}}")),
    );
    assert!(outcome.differences[0].at.len() < 300);
}

#[test]
fn names_of_private_fields_are_known() {
    for name in ["Set-Cookie", "authorization", "x-api-key", "x-auth-token", "WWW-Authenticate"] {
        assert!(is_private(name), "{name}");
    }
    for name in ["content-type", "etag", "location"] {
        assert!(!is_private(name), "{name}");
    }
}
