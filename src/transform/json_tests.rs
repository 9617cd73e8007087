//! Tests of JSON to JSON.

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use crate::transform::template::Scope;

fn paths(texts: &[&str]) -> Vec<Vec<String>> {
    texts.iter().map(|text| segments(text)).collect()
}

#[track_caller]
fn check(changes: &JsonChanges, before: &str, after: &str) {
    let fields: OwnedFields = [("x-a", "a\"b\\\u{7}")].into_iter().collect();
    let view = RequestView {
        method: b"GET",
        host: b"a.test",
        path: b"/",
        query: None,
        fields: fields.view(),
        peer: [127, 0, 0, 1].into(),
    };
    let node = parse(before.as_bytes()).unwrap();
    let out = changes.apply(node, &Facts::of(view)).expect("an object");
    assert_eq!(String::from_utf8(out).unwrap(), after, "{before}");
}

#[test]
fn what_is_not_changed_stays_octet_for_octet() {
    for text in [
        "null",
        "-0.10e+05",
        "123456789012345678901234567890.123456789012345678901234567890",
        r#""\u00e9\ud83d\ude00é\/""#,
        r#"{"b":[],"a":{},"\u0061b":[1,"x",{"c":null}]}"#,
    ] {
        check(&JsonChanges::default(), text, text);
    }
    check(&JsonChanges::default(), " [ 1 , {\"a\" :\t2\r\n} ] ", r#"[1,{"a":2}]"#);
}

#[test]
fn members_are_kept_and_removed() {
    let body = r#"{"a":1,"b":{"c":2,"d":[{"e":3,"f":4},{"e":5}]},"g.h":6}"#;
    let remove = |texts: &[&str]| JsonChanges { remove: paths(texts), ..JsonChanges::default() };
    check(
        &remove(&["a", "none", "a.b", "b.c"]),
        body,
        r#"{"b":{"d":[{"e":3,"f":4},{"e":5}]},"g.h":6}"#,
    );
    check(&remove(&["b.d.*.e", "g\\.h"]), body, r#"{"a":1,"b":{"c":2,"d":[{"f":4},{}]}}"#);
    check(&remove(&["b.d.0"]), body, r#"{"a":1,"b":{"c":2,"d":[{"e":5}]},"g.h":6}"#);
    check(&remove(&["*"]), body, "{}");
    check(&remove(&["*.a"]), r#"[{"a":1},2,{"b":3}]"#, r#"[{},2,{"b":3}]"#);
    let keep = |texts: &[&str]| JsonChanges { keep: Some(paths(texts)), ..JsonChanges::default() };
    check(&keep(&["a", "b.d.*.f"]), body, r#"{"a":1,"b":{"d":[{"f":4},{}]}}"#);
    check(&keep(&["b.d.1", "b.c"]), body, r#"{"b":{"c":2,"d":[{"e":5}]}}"#);
    check(&keep(&["a.x"]), body, "{}");
    check(&keep(&["*.id"]), r#"[{"id":1,"x":2},3]"#, r#"[{"id":1}]"#);
    check(&remove(&["\u{e9}"]), r#"{"\u00e9":1}"#, "{}");
}

#[test]
fn members_are_renamed_and_set() {
    let rename = |old: &str, new: &str| JsonChanges {
        rename: vec![(segments(old), segments(new))],
        ..JsonChanges::default()
    };
    check(&rename("a", "b"), r#"{"a":1.50,"b":2}"#, r#"{"b":1.50}"#);
    check(&rename("a", "x.y"), r#"{"a":{"k":1}}"#, r#"{"x":{"y":{"k":1}}}"#);
    check(&rename("x.y", "a"), r#"{"x":{"y":1}}"#, r#"{"x":{},"a":1}"#);
    check(&rename("none", "a"), r#"{"a":1}"#, r#"{"a":1}"#);
    let made = |text: &str| Value::Made(Template::parse(text, Scope::REQUEST).unwrap());
    let set = |path: &str, value: Value| JsonChanges {
        set: vec![(segments(path), value)],
        ..JsonChanges::default()
    };
    check(&set("n", Value::Literal("1".into())), r#"{"n":"x"}"#, r#"{"n":1}"#);
    check(&set("a.b", made("h #{header.x-a}")), r#"{"a":1}"#, r#"{"a":{"b":"h a\"b\\\u0007"}}"#);
    check(
        &set("c", made("#{body.a.b}")),
        r#"{"a":{"b":[1,2.00]}}"#,
        r#"{"a":{"b":[1,2.00]},"c":[1,2.00]}"#,
    );
    check(&set("c", made("<#{body.a}>")), r#"{"a":2.00}"#, r#"{"a":2.00,"c":"<2.00>"}"#);
    check(&set("c", made("#{body.none}")), "{}", "{}");
    check(&set("c", made("#{body.none:-x}")), "{}", r#"{"c":"x"}"#);
    check(&set("l.0.x", Value::Literal("1".into())), r#"{"l":[{}]}"#, r#"{"l":[{"x":1}]}"#);
    check(&set("l.7", Value::Literal("1".into())), r#"{"l":[]}"#, r#"{"l":[]}"#);
    check(&set("q\"\n", Value::Literal("1".into())), "{}", r#"{"q\"\n":1}"#);
    // Swapped: what is set is what was there before.
    let swap = JsonChanges {
        set: vec![(segments("a"), made("#{body.b}")), (segments("b"), made("#{body.a}"))],
        ..JsonChanges::default()
    };
    check(&swap, r#"{"a":1,"b":"x"}"#, r#"{"a":"x","b":1}"#);
    let facts = OwnedFields::default();
    let view = RequestView {
        method: b"",
        host: b"",
        path: b"",
        query: None,
        fields: facts.view(),
        peer: [0; 4].into(),
    };
    assert_eq!(swap.apply(parse(b"[1]").unwrap(), &Facts::of(view)), None);
}

#[test]
fn a_text_is_read_strictly() {
    let deep = |n: usize| [vec![b'['; n], vec![b']'; n]].concat();
    assert!(parse(&deep(MOST_LEVELS)).is_ok());
    assert_eq!(parse(&deep(MOST_LEVELS + 1)), Err(Unread::TooDeep));
    assert_eq!(parse(&deep(1_000_000)), Err(Unread::TooDeep));
    for twice in [r#"{"a":1,"a":2}"#, r#"{"a":1,"\u0061":2}"#, r#"[{"x":{"b":1,"b":1}}]"#] {
        assert_eq!(parse(twice.as_bytes()), Err(Unread::Twice), "{twice}");
    }
    for bad in [
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "NaN",
        "tru",
        "nullx",
        "1 2",
        "\"a",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\n\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "[1]]",
        "{\"a\" 1}",
        "// x\n1",
        "\u{feff}1",
        "\"a\0\"",
    ] {
        assert_eq!(parse(bad.as_bytes()), Err(Unread::Malformed), "{bad:?}");
    }
    assert_eq!(parse(b"\"\xff\""), Err(Unread::Malformed));
}

#[test]
fn paths_have_dots_in_names_too() {
    assert_eq!(segments("a.b"), ["a", "b"]);
    assert_eq!(segments("a\\.b.c"), ["a.b", "c"]);
    assert_eq!(segments("a\\"), ["a"]);
    assert_eq!(segments(""), [""]);
}
