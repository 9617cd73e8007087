//! RFC 9211: what became of a request.

use crate::rig::{Rig, cache_status};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

#[track_caller]
fn begins(rig: &Rig, path: &str, fields: &[(&str, &str)], expected: &str) {
    let status = cache_status(&rig.get(path, fields));
    assert!(status.starts_with(expected), "{path}: {status}");
}

#[test]
fn rfc9211_hits_misses_and_what_was_stored() {
    let rig = Rig::start("true");
    rig.answers("/a", &[(200, &[FRESH, ("Vary", "Foo")])]);
    let first = cache_status(&rig.get("/a", &[]));
    assert!(first.starts_with("fwd=uri-miss; fwd-status=200"), "{first}");
    assert!(first.contains("; stored"), "{first}");
    begins(&rig, "/a", &[], "hit; ttl=");
    begins(&rig, "/a", &[("Foo", "1")], "fwd=vary-miss; fwd-status=200");
    rig.answers("/n", &[(200, &[("Cache-Control", "no-store")])]);
    let unstored = cache_status(&rig.get("/n", &[]));
    assert!(unstored.starts_with("fwd=uri-miss; fwd-status=200"), "{unstored}");
    assert!(!unstored.contains("stored"), "{unstored}");
    assert!(unstored.contains("detail=no-store"), "{unstored}");
    rig.answers("/s", &[(200, &[("Cache-Control", "max-age=0"), ("ETag", "\"a\"")])]);
    rig.get("/s", &[]);
    begins(&rig, "/s", &[], "fwd=stale; fwd-status=200");
}

#[test]
fn rfc9211_what_the_cache_has_nothing_to_do_with() {
    let rig = Rig::start("true");
    rig.answers("/b", &[(200, &[FRESH])]);
    let posted = cache_status(&rig.ask("POST", "/b", &[]));
    assert!(posted.starts_with("fwd=method"), "{posted}");
    begins(&rig, "/b", &[("Authorization", "x")], "fwd=bypass");
    let open = Rig::start("{ honour_request = true }");
    open.answers("/r", &[(200, &[FRESH])]);
    open.get("/r", &[]);
    begins(&open, "/r", &[("Cache-Control", "no-cache")], "fwd=request; fwd-status=200");
}

#[test]
fn rfc9211_stands_behind_that_of_the_target() {
    let rig = Rig::start("true");
    rig.answers("/t", &[(200, &[FRESH, ("Cache-Status", "inner; hit; ttl=5")])]);
    for _ in 0..2 {
        let answer = rig.get("/t", &[]);
        let all = answer.all("cache-status").join(", ");
        assert!(all.starts_with("inner; hit; ttl=5, ringgate; "), "{all}");
    }
}

#[test]
fn rfc9211_is_left_out_where_the_rule_says_so() {
    let rig = Rig::start("{ status = false }");
    rig.answers("/q", &[(200, &[FRESH])]);
    for _ in 0..2 {
        assert!(rig.get("/q", &[]).all("cache-status").is_empty());
    }
    assert_eq!(rig.hits("/q"), 1);
}
