//! Section 5.2.1 and 5.4: what requests ask of the cache.

use crate::rig::{Lines, Rig};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");
const TAG: (&str, &str) = ("ETag", "\"a\"");

// Whether a stored response, fresh and half a minute old, is given to a request with these fields.
#[track_caller]
fn given(rig: &Rig, at: usize, fields: Lines<'_>) -> bool {
    let path = format!("/r{at}");
    rig.answers(&path, &[(200, &[FRESH, TAG, ("Age", "30")])]);
    rig.get(&path, &[]);
    rig.get(&path, fields);
    rig.hits(&path) == 1
}

#[test]
fn s5_2_1_what_costs_the_target_is_heeded_where_the_rule_says_so() {
    let (usual, open) = (Rig::start("true"), Rig::start("{ honour_request = true }"));
    let table: &[(Lines<'_>, bool)] = &[
        (&[("Cache-Control", "no-cache")], false),
        (&[("Cache-Control", "max-age=0")], false),
        (&[("Cache-Control", "max-age=10")], false),
        (&[("Cache-Control", "max-age=50")], true),
        (&[("Cache-Control", "min-fresh=50")], false),
        (&[("Cache-Control", "min-fresh=10")], true),
        (&[("Pragma", "no-cache")], false),
        (&[("Pragma", "no-cache"), ("Cache-Control", "max-age=50")], true),
        (&[("Pragma", "other")], true),
        (&[("Cache-Control", "no-store")], true),
        (&[("Cache-Control", "max-stale")], true),
        (&[("Cache-Control", "no-transform")], true),
    ];
    for (at, (fields, expected)) in table.iter().enumerate() {
        assert_eq!(given(&open, at, fields), *expected, "{fields:?}");
        assert!(given(&usual, at, fields), "{fields:?}: does not cost the target a request");
    }
}

#[test]
fn s5_2_1_7_only_if_cached_costs_the_target_nothing() {
    let rig = Rig::start("true");
    let only = [("Cache-Control", "only-if-cached")];
    rig.answers("/o", &[(200, &[FRESH])]);
    assert_eq!(rig.get("/o", &only).status(), 504);
    assert_eq!(rig.hits("/o"), 0);
    rig.get("/o", &[]);
    let answer = rig.get("/o", &only);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "1"));
    rig.answers("/s", &[(200, &[("Cache-Control", "max-age=0"), TAG])]);
    rig.get("/s", &[]);
    assert_eq!(rig.get("/s", &only).status(), 504);
    assert_eq!(rig.hits("/s"), 1);
}

#[test]
fn s5_2_1_5_no_store_stores_nothing_of_the_exchange() {
    let rig = Rig::start("true");
    rig.answers("/n", &[(200, &[FRESH])]);
    let no_store = [("Cache-Control", "no-store")];
    assert_eq!(rig.get("/n", &no_store).text(), "1");
    assert_eq!(rig.get("/n", &[]).text(), "2");
    assert_eq!(rig.get("/n", &no_store).text(), "2");
    assert_eq!(rig.get("/n", &[]).text(), "2");
    // Nor does it end what is stored, where that had to be validated.
    rig.answers("/v", &[(200, &[("Cache-Control", "max-age=0"), TAG]), (304, &[TAG, FRESH])]);
    rig.get("/v", &[]);
    assert_eq!(rig.get("/v", &no_store).text(), "1");
    assert_eq!(rig.get("/v", &[]).text(), "1");
}

#[test]
fn s5_2_1_2_max_stale_takes_what_is_stale_but_where_that_is_forbidden() {
    let rig = Rig::start("true");
    for (at, (control, asked, expected)) in [
        ("max-age=60", "max-stale", true),
        ("max-age=60", "max-stale=100", true),
        ("max-age=60", "max-stale=10", false),
        ("max-age=60", "max-stale=x", false),
        ("max-age=60, must-revalidate", "max-stale", false),
        ("max-age=60, proxy-revalidate", "max-stale", false),
        ("s-maxage=60", "max-stale", false),
        ("max-age=60, no-cache", "max-stale", false),
    ]
    .iter()
    .enumerate()
    {
        let path = format!("/m{at}");
        rig.answers(&path, &[(200, &[("Cache-Control", control), TAG, ("Age", "100")])]);
        rig.get(&path, &[]);
        rig.get(&path, &[("Cache-Control", asked)]);
        assert_eq!(rig.hits(&path) == 1, *expected, "{control} {asked}");
    }
}

#[test]
fn rfc8246_a_reload_of_what_does_not_change_is_answered() {
    let rig = Rig::start("{ honour_request = true }");
    rig.answers("/i", &[(200, &[("Cache-Control", "max-age=60, immutable"), ("Age", "5")])]);
    rig.get("/i", &[]);
    rig.get("/i", &[("Cache-Control", "max-age=0")]);
    assert_eq!(rig.hits("/i"), 1);
    rig.get("/i", &[("Cache-Control", "no-cache")]);
    assert_eq!(rig.hits("/i"), 2);
}
