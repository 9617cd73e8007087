//! Section 4.2: how long a response is fresh, and how old it is; with RFC 9213.

use crate::rig::{Rig, cache_status, dated};

#[test]
fn s4_2_1_what_says_how_long() {
    Rig::start("true").stored(&[
        (200, &[("Cache-Control", "max-age=60"), ("Expires", "{-60}")], true),
        (200, &[("Cache-Control", "max-age=0"), ("Expires", "{+60}")], false),
        (200, &[("Cache-Control", "s-maxage=60, max-age=0")], true),
        (200, &[("Cache-Control", "s-maxage=0, max-age=60")], false),
        (200, &[("Cache-Control", "max-age=60, max-age=0")], false),
        (200, &[("Cache-Control", "MAX-AGE=60")], true),
        (200, &[("Cache-Control", "max-age=\"60\"")], true),
        (200, &[("Cache-Control", "max-age='60'")], false),
        (200, &[("Cache-Control", "max-age=60.5")], false),
        (200, &[("Cache-Control", "max-age=-60")], false),
        (200, &[("Cache-Control", "max-age=2147483648")], true),
        (200, &[("Cache-Control", "max-age=99999999999999999999")], true),
        (200, &[("Cache-Control", "a=\"max-age=60\"")], false),
        (200, &[("Cache-Control", "a=\"private\", max-age=60")], true),
        (200, &[("Cache-Control", "unknown, max-age=60")], true),
        (200, &[("Expires", "{-60}")], false),
        (200, &[("Expires", "0")], false),
        (200, &[("Expires", "tomorrow")], false),
        (200, &[("Expires", "{+60}"), ("Expires", "0")], false),
        (200, &[("Expires", "{+60}"), ("Date", "{+120}")], false),
        (200, &[("Expires", "{+60}"), ("Date", "{-10}")], true),
        (200, &[("Expires", "{+60}"), ("Date", "nonsense")], true),
    ]);
}

#[test]
fn rfc9213_what_is_said_to_caches_like_this() {
    Rig::start("true").stored(&[
        (200, &[("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "no-store")], true),
        (200, &[("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], false),
        (200, &[("CDN-Cache-Control", "max-age=0"), ("Cache-Control", "max-age=60")], false),
        (200, &[("CDN-Cache-Control", "private"), ("Cache-Control", "max-age=60")], false),
        (200, &[("CDN-Cache-Control", "max-age=60;a=b"), ("Expires", "0")], true),
        (200, &[("CDN-Cache-Control", "max-age=\"60\""), ("Cache-Control", "max-age=60")], false),
        (200, &[("CDN-Cache-Control", "&&"), ("Cache-Control", "max-age=60")], true),
        (200, &[("CDN-Cache-Control", ""), ("Cache-Control", "max-age=60")], true),
    ]);
}

#[test]
fn s4_2_2_heuristics_only_where_the_rule_says_so() {
    let rig = Rig::start("{ heuristic = true }");
    rig.stored(&[
        (200, &[("Last-Modified", "{-100000}")], true),
        (301, &[("Last-Modified", "{-100000}")], true),
        (302, &[("Last-Modified", "{-100000}")], false),
        (302, &[("Last-Modified", "{-100000}"), ("Cache-Control", "public")], true),
        (200, &[("Last-Modified", "{+100000}")], false),
        (200, &[], false),
    ]);
    Rig::start("{ default_ttl = '60s' }").stored(&[
        (200, &[], true),
        (302, &[], false),
        (200, &[("Cache-Control", "no-store")], false),
        (200, &[("Cache-Control", "private")], false),
        (200, &[("Cache-Control", "max-age=0")], false),
        (200, &[("Set-Cookie", "a=b")], false),
        (404, &[], false),
    ]);
}

#[test]
fn s4_2_3_age_counts_from_where_the_response_was_made() {
    let rig = Rig::start("true");
    rig.stored(&[
        (200, &[("Cache-Control", "max-age=60"), ("Age", "61")], false),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "30")], true),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "61, 0")], false),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "0, 61")], true),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "x")], true),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "-61")], true),
        (200, &[("Cache-Control", "max-age=60"), ("Age", "99999999999999999999")], false),
        (200, &[("Cache-Control", "max-age=60"), ("Date", "{-61}")], false),
        (200, &[("Cache-Control", "max-age=60"), ("Date", "{-30}")], true),
        (200, &[("Cache-Control", "max-age=60"), ("Date", "{+600}")], true),
    ]);
}

#[test]
fn s5_1_age_is_given_and_grows() {
    let rig = Rig::start("true");
    let date = dated("{-100}");
    rig.answers(
        "/a",
        &[(200, &[("Cache-Control", "max-age=6000"), ("Age", "1000"), ("Date", &date)])],
    );
    let first = rig.get("/a", &[]);
    assert_eq!(first.all("age"), ["1000"], "the target's own");
    let second = rig.get("/a", &[]);
    let age: u64 = second.header("age").unwrap().parse().unwrap();
    assert!((1000..1030).contains(&age), "{age}");
    assert_eq!(second.header("date"), Some(date.as_str()));
    let ttl = cache_status(&second);
    let ttl: u64 = ttl.strip_prefix("hit; ttl=").unwrap().parse().unwrap();
    assert!((4970..=5000).contains(&ttl), "{ttl}");
    // Of which the date alone speaks.
    rig.answers("/d", &[(200, &[("Cache-Control", "max-age=6000"), ("Date", "{-500}")])]);
    rig.get("/d", &[]);
    let age: u64 = rig.get("/d", &[]).header("age").unwrap().parse().unwrap();
    assert!((499..530).contains(&age), "{age}");
}

#[test]
fn the_rule_bounds_what_targets_say() {
    let rig = Rig::start("{ max_ttl = '100s' }");
    rig.answers("/m", &[(200, &[("Cache-Control", "max-age=31536000")])]);
    rig.get("/m", &[]);
    let ttl = cache_status(&rig.get("/m", &[]));
    let ttl: u64 = ttl.strip_prefix("hit; ttl=").unwrap().parse().unwrap();
    assert!((70..=100).contains(&ttl), "{ttl}");
}
