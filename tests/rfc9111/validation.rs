//! Section 4.3: asking the target whether what is stored still holds, and telling clients that what they have does.

use crate::rig::{Answer, Rig, cache_status, dated};

const STALE: (&str, &str) = ("Cache-Control", "max-age=0");
const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");
const TAG: (&str, &str) = ("ETag", "\"a\"");

#[test]
fn s4_3_1_a_stale_response_is_asked_for_with_its_validators() {
    let rig = Rig::start("true");
    let modified = dated("{-1000}");
    let stored: Answer<'_> = (200, &[STALE, TAG, ("Last-Modified", &modified)]);
    rig.answers("/both", &[stored, (304, &[TAG, STALE])]);
    rig.get("/both", &[]);
    assert_eq!(rig.get("/both", &[]).text(), "1");
    let asked = &rig.asked("/both")[1];
    assert_eq!(asked.header("if-none-match"), Some("\"a\""));
    assert_eq!(asked.header("if-modified-since"), Some(modified.as_str()));
    // Whatever the client has, what is stored is asked for; and then it gets what it has asked for.
    let answer = rig.get("/both", &[("If-None-Match", "\"z\""), ("If-Modified-Since", "x")]);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "1"));
    let asked = &rig.asked("/both")[2];
    assert_eq!(asked.all("if-none-match"), ["\"a\""]);
    assert_eq!(asked.all("if-modified-since"), [modified.as_str()]);
    let answer = rig.get("/both", &[("If-None-Match", "\"a\"")]);
    assert_eq!((answer.status(), answer.body.len()), (304, 0));
    rig.answers("/date", &[(200, &[STALE, ("Last-Modified", &modified)]), (304, &[])]);
    rig.get("/date", &[]);
    assert_eq!(rig.get("/date", &[]).text(), "1");
    let asked = &rig.asked("/date")[1];
    assert_eq!(asked.header("if-none-match"), None);
    assert_eq!(asked.header("if-modified-since"), Some(modified.as_str()));
}

#[test]
fn s4_3_3_what_the_target_answers_to_it() {
    let rig = Rig::start("true");
    let stored: Answer<'_> = (200, &[STALE, TAG]);
    // Another response takes its place.
    rig.answers("/new", &[stored, (200, &[FRESH, ("ETag", "\"b\"")])]);
    rig.get("/new", &[]);
    assert_eq!(rig.get("/new", &[]).text(), "2");
    assert_eq!(rig.get("/new", &[]).text(), "2");
    assert_eq!(rig.hits("/new"), 2);
    // An error is passed on, and what is stored stays.
    rig.answers("/error", &[stored, (500, &[]), (304, &[TAG])]);
    rig.get("/error", &[]);
    assert_eq!(rig.get("/error", &[]).status(), 500);
    assert_eq!(rig.get("/error", &[]).text(), "1");
    // Gone is gone.
    rig.answers("/gone", &[stored, (404, &[]), (404, &[])]);
    rig.get("/gone", &[]);
    assert_eq!(rig.get("/gone", &[]).status(), 404);
    assert_eq!(rig.get("/gone", &[]).status(), 404);
}

#[test]
fn s4_3_4_a_304_renews_what_is_stored() {
    let rig = Rig::start("true");
    let stored: Answer<'_> = (
        200,
        &[
            STALE,
            TAG,
            ("X-Old", "1"),
            ("X-Changed", "1"),
            ("Content-Type", "text/x"),
            ("Date", "{-500}"),
        ],
    );
    let renewed: Answer<'_> = (
        304,
        &[FRESH, TAG, ("X-Changed", "2"), ("X-New", "2"), ("X-Hop", "1"), ("Connection", "X-Hop")],
    );
    rig.answers("/r", &[stored, renewed]);
    rig.get("/r", &[]);
    for _ in 0..2 {
        let answer = rig.get("/r", &[]);
        assert_eq!((answer.status(), answer.text().as_str()), (200, "1"));
        assert_eq!(answer.header("x-old"), Some("1"));
        assert_eq!(answer.header("x-changed"), Some("2"));
        assert_eq!(answer.header("x-new"), Some("2"));
        assert_eq!(answer.header("x-hop"), None);
        assert_eq!(answer.header("content-type"), Some("text/x"));
        assert_eq!(answer.header("content-length"), Some("1"));
        assert_eq!(answer.all("cache-control"), ["max-age=60"]);
        let age: u64 = answer.header("age").map_or(0, |age| age.parse().unwrap());
        assert!(age < 30, "{age}");
    }
    assert_eq!(rig.hits("/r"), 2);
    // What it says of storing holds from then on.
    rig.answers(
        "/n",
        &[(200, &[STALE, TAG]), (304, &[TAG, ("Cache-Control", "no-store")]), (200, &[])],
    );
    rig.get("/n", &[]);
    assert_eq!(rig.get("/n", &[]).text(), "1");
    assert_eq!(rig.get("/n", &[]).text(), "3");
    assert_eq!(rig.asked("/n")[2].header("if-none-match"), None);
}

#[test]
fn s4_3_4_a_304_of_something_else_renews_nothing() {
    let rig = Rig::start("true");
    rig.answers("/o", &[(200, &[STALE, TAG]), (304, &[FRESH, ("ETag", "\"b\"")]), (200, &[FRESH])]);
    rig.get("/o", &[]);
    // It cannot be told what the target has: it is asked for the whole.
    let answer = rig.get("/o", &[]);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "3"));
    assert_eq!(rig.asked("/o")[2].header("if-none-match"), None);
}

#[test]
fn s5_2_2_4_no_cache_is_validated_every_time() {
    let rig = Rig::start("true");
    rig.answers("/n", &[(200, &[("Cache-Control", "no-cache, max-age=60"), TAG]), (304, &[TAG])]);
    for _ in 0..3 {
        assert_eq!(rig.get("/n", &[]).text(), "1");
    }
    assert_eq!(rig.hits("/n"), 3);
    assert_eq!(rig.asked("/n")[2].header("if-none-match"), Some("\"a\""));
}

#[test]
fn s4_3_2_clients_are_told_that_what_they_have_holds() {
    let rig = Rig::start("true");
    let modified = dated("{-1000}");
    let fields =
        [FRESH, TAG, ("Last-Modified", modified.as_str()), ("Vary", "Foo"), ("X-Other", "1")];
    rig.answers("/c", &[(200, &fields)]);
    rig.get("/c", &[]);
    for (name, value, same) in [
        ("If-None-Match", "\"a\"", true),
        ("If-None-Match", "W/\"a\"", true),
        ("If-None-Match", "\"b\", \"a\"", true),
        ("If-None-Match", "*", true),
        ("If-None-Match", "\"b\"", false),
        ("If-Modified-Since", modified.as_str(), true),
        ("If-Modified-Since", &dated("{-10}"), true),
        ("If-Modified-Since", &dated("{-2000}"), false),
        ("If-Modified-Since", "soon", false),
    ] {
        let answer = rig.get("/c", &[(name, value)]);
        let (status, body) = if same { (304, "") } else { (200, "1") };
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{name}: {value}");
        // RFC 9110 section 15.4.5.
        assert_eq!(answer.header("etag"), Some("\"a\""));
        assert_eq!(answer.header("cache-control"), Some("max-age=60"));
        assert_eq!(answer.header("vary"), Some("Foo"));
        assert!(answer.header("date").is_some() && answer.header("age").is_some());
        if same {
            assert!(answer.header("content-length").is_none_or(|length| length == "1"));
        }
    }
    let head = rig.ask("HEAD", "/c", &[("If-None-Match", "\"a\"")]);
    assert_eq!(head.status(), 304);
    assert_eq!(rig.hits("/c"), 1);
}

#[test]
fn s4_3_2_preconditions_of_the_target_are_for_the_target() {
    let rig = Rig::start("true");
    rig.answers("/p", &[(200, &[FRESH, TAG])]);
    rig.get("/p", &[]);
    for name in ["If-Match", "If-Unmodified-Since"] {
        rig.get("/p", &[(name, "\"a\"")]);
        assert_eq!(rig.asked("/p").last().unwrap().header(name), Some("\"a\""));
    }
    assert_eq!(rig.hits("/p"), 3);
}

#[test]
fn cache_09_a_304_for_a_client_is_no_response_to_store() {
    let rig = Rig::start("true");
    // A target that answers 304 whatever it is asked.
    rig.answers("/n", &[(304, &[FRESH, TAG]), (200, &[FRESH, TAG])]);
    let first = rig.get("/n", &[("If-None-Match", "\"a\"")]);
    assert!(first.status() == 304 || first.status() == 200);
    let second = rig.get("/n", &[]);
    assert_eq!(second.status(), 200);
    assert!(!second.body.is_empty());
}

#[test]
fn s4_3_5_head_shows_that_something_else_is_there() {
    let rig = Rig::start("true");
    for (at, (tag, ends)) in [("\"a\"", false), ("\"b\"", true)].iter().enumerate() {
        let path = format!("/h{at}");
        let other = [FRESH, ("ETag", *tag)];
        rig.answers(&path, &[(200, &[STALE, TAG]), (200, &other), (304, &[FRESH, TAG])]);
        rig.get(&path, &[]);
        let head = rig.ask("HEAD", &path, &[]);
        assert_eq!((head.status(), head.header("etag")), (200, Some(*tag)));
        assert!(head.body.is_empty());
        rig.get(&path, &[]);
        let validated = rig.asked(&path)[2].header("if-none-match").is_some();
        assert_eq!(validated, !*ends, "{tag}");
    }
}

#[test]
fn a_validation_is_told_in_cache_status() {
    let rig = Rig::start("true");
    rig.answers("/s", &[(200, &[STALE, TAG]), (304, &[FRESH, TAG])]);
    rig.get("/s", &[]);
    let status = cache_status(&rig.get("/s", &[]));
    assert!(status.starts_with("fwd=stale; fwd-status=304"), "{status}");
    assert!(cache_status(&rig.get("/s", &[])).starts_with("hit; ttl="));
}

#[test]
fn s4_3_4_a_304_that_names_more_that_it_varies_by() {
    let rig = Rig::start("true");
    let stored: Answer<'_> = (200, &[STALE, TAG]);
    rig.answers("/v", &[stored, (304, &[FRESH, TAG, ("Vary", "Foo")]), (200, &[FRESH])]);
    rig.get("/v", &[]);
    let one = [("Foo", "1")];
    assert_eq!(rig.get("/v", &one).text(), "1");
    assert_eq!(rig.get("/v", &one).text(), "1");
    assert_eq!(rig.hits("/v"), 2);
    assert_eq!(rig.get("/v", &[("Foo", "2")]).text(), "3");
}

#[test]
fn cache_04_what_a_304_says_to_one_client_is_not_said_to_others() {
    let rig = Rig::start("true");
    let personal = [FRESH, TAG, ("X-Csrf-Token", "alice"), ("Set-Cookie", "session=2")];
    rig.answers("/a", &[(200, &[STALE, TAG]), (304, &personal)]);
    rig.get("/a", &[]);
    assert_eq!(rig.get("/a", &[("Cookie", "session=1")]).text(), "1");
    let other = rig.get("/a", &[]);
    assert_eq!((other.text().as_str(), rig.hits("/a")), ("1", 2));
    assert_eq!((other.header("x-csrf-token"), other.header("set-cookie")), (None, None));
}
