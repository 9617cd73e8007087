//! Sections 3.3 and 3.4, and RFC 9110 section 14: parts of what is stored.

use crate::rig::{Rig, dated};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");
const TAG: (&str, &str) = ("ETag", "\"a\"");
const BODY: (&str, &str) = ("body", "0123456789");

#[test]
fn res_16_one_range_of_what_is_stored_is_a_part() {
    let rig = Rig::start("true");
    rig.answers("/r", &[(200, &[FRESH, TAG, ("Content-Type", "text/x"), BODY])]);
    rig.get("/r", &[]);
    for (range, status, body, content_range) in [
        ("bytes=0-0", 206, "0", Some("bytes 0-0/10")),
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=7-100", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-100", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=18446744073709551616-", 416, "", Some("bytes */10")),
        ("bytes=4-2", 200, "0123456789", None),
        ("bytes=", 200, "0123456789", None),
        ("bytes=x", 200, "0123456789", None),
        ("octets=0-1", 200, "0123456789", None),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-", 200, "0123456789", None),
    ] {
        let answer = rig.get("/r", &[("Range", range)]);
        assert_eq!(answer.status(), status, "{range}");
        if status != 416 {
            assert_eq!(answer.text(), body, "{range}");
            assert_eq!(answer.header("content-type"), Some("text/x"));
            assert_eq!(answer.header("etag"), Some("\"a\""));
        }
        assert_eq!(answer.header("content-range"), content_range, "{range}");
    }
    assert_eq!(rig.hits("/r"), 1);
    let head = rig.ask("HEAD", "/r", &[("Range", "bytes=0-1")]);
    assert_eq!((head.status(), head.header("content-length")), (200, Some("10")));
}

#[test]
fn cache_09_if_range_compares_strongly() {
    let rig = Rig::start("true");
    let modified = dated("{-1000}");
    rig.answers("/i", &[(200, &[FRESH, TAG, ("Last-Modified", &modified), BODY])]);
    rig.get("/i", &[]);
    for (validator, status) in [
        ("\"a\"", 206),
        ("W/\"a\"", 200),
        ("\"b\"", 200),
        (modified.as_str(), 206),
        (&dated("{-10}"), 200),
        ("x", 200),
    ] {
        let answer = rig.get("/i", &[("Range", "bytes=0-1"), ("If-Range", validator)]);
        assert_eq!(answer.status(), status, "{validator}");
    }
    // RFC 9110 section 13.2.2: the precondition comes before the range.
    let both = [("Range", "bytes=0-1"), ("If-None-Match", "\"a\"")];
    assert_eq!(rig.get("/i", &both).status(), 304);
    assert_eq!(rig.hits("/i"), 1);
}

#[test]
fn cache_09_a_part_is_never_stored_as_the_whole() {
    let rig = Rig::start("true");
    let part = (206, &[FRESH, TAG, ("Content-Range", "bytes 0-1/10"), ("body", "01")][..]);
    rig.answers("/p", &[part, part, (200, &[FRESH, TAG, BODY])]);
    for _ in 0..2 {
        let answer = rig.get("/p", &[("Range", "bytes=0-1")]);
        assert_eq!((answer.status(), answer.text().as_str()), (206, "01"));
    }
    assert_eq!(rig.asked("/p")[0].header("range"), Some("bytes=0-1"));
    assert_eq!(rig.get("/p", &[]).text(), "0123456789");
    assert_eq!(rig.get("/p", &[("Range", "bytes=4-5")]).text(), "45");
    assert_eq!(rig.hits("/p"), 3);
    // Whose range nobody has asked for.
    rig.answers("/q", &[part, (200, &[FRESH, TAG, BODY])]);
    rig.get("/q", &[]);
    assert_eq!(rig.get("/q", &[]).text(), "0123456789");
}

#[test]
fn a_part_of_what_is_validated_first() {
    let rig = Rig::start("true");
    let stale = [("Cache-Control", "max-age=0"), TAG, BODY];
    rig.answers("/v", &[(200, &stale), (304, &[TAG])]);
    rig.get("/v", &[]);
    let answer = rig.get("/v", &[("Range", "bytes=0-1")]);
    assert_eq!((answer.status(), answer.text().as_str()), (206, "01"));
    let asked = &rig.asked("/v")[1];
    assert_eq!((asked.header("if-none-match"), asked.header("range")), (Some("\"a\""), None));
}

/// RFC 9530 section 2: one digest is of the octets that are sent, the other of all that they are a part of.
#[test]
fn a_part_has_no_digest_of_the_whole() {
    let rig = Rig::start("true");
    let digests = [("Content-Digest", "sha-256=:a:"), ("Content-MD5", "b"), ("Repr-Digest", "c")];
    rig.answers("/d", &[(200, &[FRESH, TAG, digests[0], digests[1], digests[2], BODY])]);
    for (range, status) in [(None, 200), (Some("bytes=0-1"), 206)] {
        rig.get("/d", &[]);
        let fields: Vec<_> = range.map(|range| ("Range", range)).into_iter().collect();
        let answer = rig.get("/d", &fields);
        assert_eq!(answer.status(), status);
        let given = digests.map(|(name, _)| answer.header(name).is_some());
        assert_eq!(given, [status == 200, status == 200, true], "{range:?}");
    }
    assert_eq!(rig.hits("/d"), 1);
}
