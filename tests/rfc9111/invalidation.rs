//! Section 4.4: what ends what is stored.

use crate::rig::Rig;

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

// Whether `method`, answered with `status` and fields, ends what is stored under `/x/y?q`.
#[track_caller]
fn ends(rig: &Rig, method: &str, path: &str, status: u16, fields: &[(&str, &str)]) -> bool {
    rig.answers("/x/y", &[(200, &[FRESH]), (status, fields), (200, &[FRESH])]);
    rig.answers("/other", &[(status, fields)]);
    // What earlier cases have left.
    let fresh = format!("/x/y?{}", fastrand::u64(..));
    let path = path.replace("SELF", &fresh);
    let fields: Vec<(&str, String)> =
        fields.iter().map(|(name, value)| (*name, value.replace("SELF", &fresh))).collect();
    let fields: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    rig.answers("/other", &[(status, &fields)]);
    rig.answers("/x/y", &[(200, &[FRESH]), (status, &fields), (200, &[FRESH])]);
    rig.get(&fresh, &[]);
    assert_eq!(rig.ask(method, &path, &[]).status(), status);
    let before = rig.hits("/x/y");
    rig.get(&fresh, &[]);
    rig.hits("/x/y") > before
}

#[test]
fn s4_4_unsafe_requests_end_what_they_are_about() {
    let rig = Rig::start("true");
    for (method, status, expected) in [
        ("POST", 200, true),
        ("POST", 204, true),
        ("PUT", 201, true),
        ("DELETE", 302, true),
        ("PATCH", 200, true),
        ("M-SEARCH", 200, true),
        ("POST", 400, false),
        ("POST", 500, false),
        ("DELETE", 404, false),
    ] {
        assert_eq!(ends(&rig, method, "SELF", status, &[]), expected, "{method} {status}");
    }
    assert!(!ends(&rig, "POST", "/other", 200, &[]));
}

#[test]
fn s4_4_and_what_their_response_names_at_the_same_origin() {
    let rig = Rig::start("true");
    for name in ["Location", "Content-Location"] {
        for (reference, expected) in [
            ("SELF", true),
            ("http://a.testSELF", true),
            ("//a.testSELF", true),
            ("http://b.testSELF", false),
            ("https://a.testSELF", false),
            ("http://a.test:81SELF", false),
            ("/x/z", false),
        ] {
            let got = ends(&rig, "POST", "/other", 201, &[(name, reference)]);
            assert_eq!(got, expected, "{name}: {reference}");
        }
        assert!(!ends(&rig, "POST", "/other", 500, &[(name, "SELF")]));
    }
}

#[test]
fn s4_4_every_variant_and_every_rule() {
    // The unsafe request is taken by another rule, which stores nothing.
    let more = "[[rule]]\nname = \"write\"\npriority = 1\nwhen = { method = [\"POST\"] }\nforward = \"g\"\n";
    let rig = Rig::with("cache = { key = { query = 'none', headers = ['x-key'] } }", more);
    rig.answers("/v", &[(200, &[FRESH, ("Vary", "Foo")])]);
    let requests = [[("Foo", "1"), ("x-key", "1")], [("Foo", "2"), ("x-key", "2")]];
    for request in &requests {
        rig.get("/v?a", request);
        rig.get("/v?b", request);
    }
    assert_eq!(rig.hits("/v"), 2);
    rig.ask("POST", "/v?c", &[]);
    for request in &requests {
        rig.get("/v?d", request);
    }
    assert_eq!(rig.hits("/v"), 5);
}

#[test]
fn what_is_fetched_while_it_changes_is_not_stored_for_long_after() {
    let rig = Rig::start("true");
    rig.answers("/w", &[(200, &[FRESH])]);
    for round in 0..5 {
        rig.get("/w", &[]);
        rig.ask("POST", "/w", &[]);
        assert_eq!(rig.get("/w", &[]).text(), (round * 2 + 3).to_string());
    }
}
