//! Section 4.2.4 and RFC 5861: when a stale response is given.

use crate::rig::{Answer, Rig, cache_status};
use crate::support::eventually;

#[test]
fn s4_2_4_stale_is_not_given_unless_something_says_so() {
    let rig = Rig::start("true");
    rig.answers(
        "/s",
        &[(200, &[("Cache-Control", "max-age=60"), ("Age", "61"), ("ETag", "\"a\"")])],
    );
    assert_eq!(rig.get("/s", &[]).text(), "1");
    assert_eq!(rig.get("/s", &[]).text(), "2");
}

#[test]
fn rfc5861_3_stale_while_it_is_fetched_anew() {
    let rig = Rig::start("true");
    let control = ("Cache-Control", "max-age=60, stale-while-revalidate=600");
    let fresh: Answer<'_> = (200, &[("Cache-Control", "max-age=600")]);
    rig.answers("/w", &[(200, &[control, ("Age", "100")]), fresh]);
    rig.get("/w", &[]);
    let stale = rig.get("/w", &[]);
    assert_eq!(stale.text(), "1");
    let status = cache_status(&stale);
    assert!(status.starts_with("hit; ttl=-4"), "{status}");
    // Without another request.
    eventually("it is fetched", || rig.hits("/w") == 2);
    eventually("what was fetched is given", || rig.get("/w", &[]).text() == "2");
    assert_eq!(rig.hits("/w"), 2);
    // Validated, where it can be.
    let tag = ("ETag", "\"a\"");
    rig.answers(
        "/v",
        &[(200, &[control, ("Age", "100"), tag]), (304, &[("Cache-Control", "max-age=600"), tag])],
    );
    rig.get("/v", &[]);
    assert_eq!(rig.get("/v", &[]).text(), "1");
    eventually("it is validated", || rig.hits("/v") == 2);
    assert_eq!(rig.asked("/v")[1].header("if-none-match"), Some("\"a\""));
    eventually("it is fresh", || {
        let status = cache_status(&rig.get("/v", &[]));
        status.starts_with("hit; ttl=") && !status.contains('-')
    });
    assert_eq!(rig.hits("/v"), 2);
}

#[test]
fn rfc5861_3_the_rule_says_it_for_those_who_do_not() {
    let rig = Rig::start("{ stale_while_revalidate = '10m' }");
    for (at, (control, expected)) in [
        ("max-age=60", "1"),
        ("max-age=60, stale-while-revalidate=0", "2"),
        ("max-age=60, stale-while-revalidate=10", "2"),
        ("max-age=60, must-revalidate", "2"),
        ("max-age=60, proxy-revalidate", "2"),
        ("s-maxage=60", "2"),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/r{at}");
        rig.answers(
            &path,
            &[(200, &[("Cache-Control", control), ("Age", "100"), ("ETag", "\"a\"")])],
        );
        rig.get(&path, &[]);
        assert_eq!(rig.get(&path, &[]).text(), *expected, "{control}");
    }
}

#[test]
fn rfc5861_4_stale_when_the_target_fails() {
    let rig = Rig::start("true");
    for (at, (control, status, given)) in [
        ("max-age=60, stale-if-error=600", 500, true),
        ("max-age=60, stale-if-error=600", 502, true),
        ("max-age=60, stale-if-error=600", 503, true),
        ("max-age=60, stale-if-error=600", 504, true),
        ("max-age=60, stale-if-error=600", 501, false),
        ("max-age=60, stale-if-error=600", 404, false),
        ("max-age=60, stale-if-error=10", 500, false),
        ("max-age=60", 500, false),
        ("max-age=60, stale-if-error=600, must-revalidate", 500, false),
        ("s-maxage=60, stale-if-error=600", 500, false),
        ("max-age=60, stale-if-error=600, no-cache", 500, false),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/e{at}");
        let stored = [("Cache-Control", *control), ("Age", "100"), ("ETag", "\"a\"")];
        rig.answers(&path, &[(200, &stored), (*status, &[])]);
        rig.get(&path, &[]);
        let answer = rig.get(&path, &[]);
        let expected = if *given { 200 } else { *status };
        assert_eq!(answer.status(), expected, "{control} {status}");
        if *given {
            assert_eq!(answer.text(), "1");
            assert!(answer.header("age").is_some());
            let told = cache_status(&answer);
            assert!(told.starts_with("fwd=stale"), "{told}");
        }
    }
}

#[test]
fn rfc5861_4_stale_when_there_is_no_target() {
    let mut rig = Rig::start("{ stale_if_error = '10m' }");
    rig.answers(
        "/x",
        &[(200, &[("Cache-Control", "max-age=60"), ("Age", "100"), ("ETag", "\"a\"")])],
    );
    rig.answers(
        "/y",
        &[(
            200,
            &[("Cache-Control", "max-age=60, must-revalidate"), ("Age", "100"), ("ETag", "\"a\"")],
        )],
    );
    rig.get("/x", &[]);
    rig.get("/y", &[]);
    rig.origin.stop();
    assert_eq!(rig.get("/x", &[]).text(), "1");
    // Section 5.2.2.2: an error it is then.
    assert!(rig.get("/y", &[]).status() >= 500);
    assert!(rig.get("/z", &[]).status() >= 500);
}

#[test]
fn rfc5861_3_whoever_asks_ends_nothing_that_is_for_others() {
    let rig = Rig::start("true");
    let control = ("Cache-Control", "max-age=60, stale-while-revalidate=600");
    let other: Answer<'_> = (200, &[("Cache-Control", "max-age=60")]);
    rig.answers("/x", &[(200, &[control, ("Age", "100")]), other]);
    rig.get("/x", &[]);
    // What is fetched with these cookies is not for others; what is stored still is.
    assert_eq!(rig.get("/x", &[("Cookie", "session=1")]).text(), "1");
    eventually("it is fetched", || rig.hits("/x") == 2);
    assert_eq!(rig.get("/x", &[]).text(), "1");
    eventually("it is fetched for all", || rig.get("/x", &[]).text() == "3");
}

#[test]
fn rfc5861_4_what_is_gone_does_not_come_back() {
    let rig = Rig::start("true");
    let stored: Answer<'_> =
        (200, &[("Cache-Control", "max-age=60, stale-if-error=600"), ("Age", "100")]);
    for (at, (between, cookies, gone)) in [
        ((404, &[][..]), false, true),
        ((410, &[]), false, true),
        ((200, &[("Cache-Control", "no-store")]), false, true),
        ((302, &[]), false, true),
        ((403, &[]), false, false),
        ((429, &[]), false, false),
        // That is for one client alone.
        ((200, &[("Cache-Control", "max-age=60")]), true, false),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/g{at}");
        rig.answers(&path, &[stored, between, (503, &[])]);
        rig.get(&path, &[]);
        let fields: &[(&str, &str)] = if cookies { &[("Cookie", "session=1")] } else { &[] };
        assert_eq!(rig.get(&path, fields).status(), between.0);
        let status = if gone { 503 } else { 200 };
        assert_eq!(rig.get(&path, &[]).status(), status, "{between:?}");
    }
}
