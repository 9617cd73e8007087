//! Section 4.1: which stored response answers a request.

use crate::rig::{Lines, Rig};

const FRESH: (&str, &str) = ("Cache-Control", "max-age=60");

#[test]
fn cache_06_s4_1_values_of_the_fields_that_vary_names() {
    let rig = Rig::start("true");
    let table: &[(&str, Lines<'_>, Lines<'_>, bool)] = &[
        ("Foo", &[("Foo", "1")], &[("Foo", "1")], true),
        ("Foo", &[("Foo", "1")], &[("Foo", "2")], false),
        ("Foo", &[("Foo", "1")], &[], false),
        ("Foo", &[], &[("Foo", "1")], false),
        ("Foo", &[], &[], true),
        ("Foo", &[], &[("Bar", "1")], true),
        ("foo", &[("FOO", "1")], &[("Foo", "1")], true),
        ("Foo", &[("Foo", "1"), ("Foo", "2")], &[("Foo", "1, 2")], true),
        ("Foo", &[("Foo", "1, 2")], &[("Foo", "2, 1")], false),
        ("Foo, Bar", &[("Foo", "1"), ("Bar", "2")], &[("Bar", "2"), ("Foo", "1")], true),
        ("Foo, Bar", &[("Foo", "1"), ("Bar", "2")], &[("Foo", "1"), ("Bar", "3")], false),
        ("Foo, Bar", &[("Foo", "1")], &[("Bar", "1")], false),
        (
            "Accept-Encoding",
            &[("Accept-Encoding", "gzip, br")],
            &[("Accept-Encoding", "br,GZIP")],
            true,
        ),
        ("Accept-Encoding", &[("Accept-Encoding", "gzip")], &[("Accept-Encoding", "br")], false),
        (
            "Accept-Language",
            &[("Accept-Language", "de,en")],
            &[("Accept-Language", "en,de")],
            false,
        ),
        ("*", &[], &[], false),
        ("Foo, *", &[], &[], false),
        ("Cookie", &[("Cookie", "a=1")], &[("Cookie", "a=1")], true),
        ("Cookie", &[("Cookie", "a=1")], &[("Cookie", "a=2")], false),
    ];
    for (at, (vary, first, second, expected)) in table.iter().enumerate() {
        let path = format!("/v{at}");
        let got = rig.is_reused(&path, (200, &[FRESH, ("Vary", vary)]), first, second);
        assert_eq!(got, *expected, "{vary}: {first:?} {second:?}");
    }
}

#[test]
fn s4_1_variants_lie_side_by_side() {
    let rig = Rig::start("true");
    rig.answers("/x", &[(200, &[FRESH, ("Vary", "Foo")])]);
    for (value, body) in [("1", "1"), ("2", "2"), ("3", "3"), ("1", "1"), ("3", "3"), ("2", "2")] {
        assert_eq!(rig.get("/x", &[("Foo", value)]).text(), body);
    }
    assert_eq!(rig.hits("/x"), 3);
}

#[test]
fn s4_1_variants_that_depend_on_different_fields() {
    let rig = Rig::start("true");
    let (foo, bar) = ([FRESH, ("Vary", "Foo")], [FRESH, ("Vary", "Foo, Bar")]);
    rig.answers("/x", &[(200, &foo), (200, &bar)]);
    let one = [("Foo", "1"), ("Bar", "1")];
    let two = [("Foo", "2"), ("Bar", "1")];
    assert_eq!(rig.get("/x", &one).text(), "1");
    assert_eq!(rig.get("/x", &two).text(), "2");
    assert_eq!(rig.get("/x", &one).text(), "1");
    assert_eq!(rig.get("/x", &two).text(), "2");
    // Of the second only what it was chosen by: another Bar is another request.
    assert_eq!(rig.get("/x", &[("Foo", "2"), ("Bar", "2")]).text(), "3");
    assert_eq!(rig.hits("/x"), 3);
}

#[test]
fn cache_06_variants_without_end_do_not_fill_the_store() {
    let rig = Rig::start("true");
    rig.answers("/many", &[(200, &[FRESH, ("Vary", "Foo")])]);
    for value in 0..200 {
        rig.get("/many", &[("Foo", &value.to_string())]);
    }
    // The latest is there, the earliest has made room.
    let before = rig.hits("/many");
    rig.get("/many", &[("Foo", "199")]);
    assert_eq!(rig.hits("/many"), before);
    rig.get("/many", &[("Foo", "0")]);
    assert_eq!(rig.hits("/many"), before + 1);
}
