//! What a 304 makes of a stored response, for whom, and what the head of another shows.

use super::*;

const STORED: &str = "Date: Sun, 06 Nov 1994 08:00:00 GMT\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\
    Content-Type: text/plain\r\nContent-Encoding: gzip\r\nX-Two: 1\r\nX-Two: 2\r\nX-Old: 1\r\n";

fn renew(ask: &Ask, lines: Lines<'_>) -> update::Renewed {
    renew_of(STORED, ask, lines)
}

fn renew_of(section: &str, ask: &Ask, lines: Lines<'_>) -> update::Renewed {
    let list = lines::fields(section.as_bytes());
    let settings = Settings::default();
    let view = Fields::new(section.as_bytes(), &list);
    let old = Times { asked: tick(1), received: tick(1), unix: NOW - 2977 };
    let meta = storable(&settings, &Ask::default(), 200, view, old).unwrap();
    let fresh: OwnedFields = lines.iter().copied().collect();
    let stored = (&meta, section.as_bytes());
    update::renew(&settings, ask, stored, fresh.view(), |name| name == b"X-Hop", times())
}

#[test]
fn a_304_replaces_fields_but_for_those_of_the_body_rfc9111_3_2() {
    let renewed = renew(
        &Ask::default(),
        &[
            DATE,
            ("ETag", "\"a\""),
            ("Cache-Control", "max-age=90"),
            ("Content-Type", "text/html"),
            ("Content-Encoding", "br"),
            ("Content-Length", "0"),
            ("Content-Range", "bytes 0-1/2"),
            ("Transfer-Encoding", "chunked"),
            ("X-Two", "3"),
            ("X-New", "1"),
            ("X-Hop", "1"),
        ],
    );
    let wanted = "Content-Encoding: gzip\r\nX-Old: 1\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        ETag: \"a\"\r\nCache-Control: max-age=90\r\nContent-Type: text/html\r\nX-Two: 3\r\nX-New: 1\r\n";
    assert_eq!(String::from_utf8(renewed.lines).unwrap(), wanted);
    let meta = renewed.meta.unwrap();
    assert_eq!((meta.lifetime, meta.age, meta.received), (secs(90), secs(0), tick(10)));
}

#[test]
fn it_is_as_old_as_the_304_says() {
    let meta = renew(&Ask::default(), &[]).meta.unwrap();
    assert_eq!((meta.age, meta.lifetime), (secs(0), secs(60)));
    let meta = renew(&Ask::default(), &[DATE, ("Age", "50")]).meta.unwrap();
    assert_eq!(meta.age, secs(50));
}

#[test]
fn what_may_not_be_stored_any_longer_is_not() {
    for (control, why) in [("no-store", Why::NoStore), ("private", Why::Private)] {
        let renewed = renew(&Ask::default(), &[DATE, ("Cache-Control", control)]);
        assert_eq!(renewed.meta, Err(why), "{control}");
    }
    let renewed = renew(&Ask::default(), &[DATE, ("Vary", "*")]);
    assert_eq!(renewed.meta, Err(Why::Vary));
    let ask = Ask { cookies: true, head: true, ..Ask::default() };
    assert!(renew(&ask, &[DATE]).meta.is_ok());
    let ask = Ask { identified: true, ..Ask::default() };
    assert_eq!(renew(&ask, &[DATE]).meta, Err(Why::Identified));
}

// The lines of a renewed response, with its date, and what it varies by.
fn lines_of(stored: &str, ask: &Ask, lines: Lines<'_>) -> (String, String) {
    let stored = format!("ETag: \"a\"\r\n{stored}");
    let renewed = renew_of(&stored, ask, lines);
    let text = String::from_utf8(renewed.lines).unwrap().replace("\r\n", "|");
    let vary = renewed.meta.map(|meta| meta.vary.names().join(" ")).unwrap_or_default();
    (text.strip_prefix("ETag: \"a\"|").unwrap_or(&text).to_owned(), vary)
}

#[test]
fn cache_06_a_body_was_chosen_by_all_that_was_named_for_it_rfc9111_4_1() {
    let control = "Cache-Control: max-age=60\r\n";
    for (before, said, vary) in [
        ("", Some("Foo"), "foo"),
        ("Vary: Foo\r\n", None, "foo"),
        ("Vary: Foo\r\n", Some("Foo, Bar"), "bar foo"),
        ("Vary: Foo\r\n", Some("Bar"), "bar foo"),
        ("Vary: Foo, Bar\r\n", Some("Bar"), "bar foo"),
        ("Vary: Foo\r\nVary: Bar\r\n", Some("Bar"), "bar foo"),
    ] {
        let stored = format!("{control}{before}");
        let fresh: Vec<_> = said.map(|said| ("Vary", said)).into_iter().collect();
        let (lines, names) = lines_of(&stored, &Ask::default(), &fresh);
        assert_eq!(names, vary, "{before:?} {said:?}");
        let again = lines_of(&lines.replace('|', "\r\n"), &Ask::default(), &fresh);
        assert_eq!((again.0.len(), again.1), (lines.len(), names), "nothing grows: {lines}");
    }
    assert_eq!(renew(&Ask::default(), &[("Vary", "*")]).meta, Err(Why::Vary));
}

#[test]
fn cache_04_a_304_for_one_client_tells_others_nothing_but_how_long_rfc9111_4_3_4() {
    let (nobody, alice) = (Ask::default(), Ask { cookies: true, ..Ask::default() });
    let (token, cookie) = (("X-Csrf-Token", "alice"), ("Set-Cookie", "session=alice"));
    let fresh = ("Cache-Control", "max-age=90");
    for (ask, stored, lines, shared) in [
        (&nobody, "max-age=60", &[token, fresh][..], true),
        (&alice, "max-age=60", &[token, fresh], false),
        (&alice, "public, max-age=60", &[token], true),
        (&alice, "public, max-age=60", &[token, fresh], false),
        (&alice, "max-age=60", &[token, ("CDN-Cache-Control", "max-age=90")], true),
        (&alice, "max-age=60\r\nVary: Cookie", &[token, fresh], true),
        (&nobody, "public, max-age=60", &[token, cookie, fresh], false),
    ] {
        let stored = format!("Cache-Control: {stored}\r\nX-Csrf-Token: none\r\n");
        let (kept, _) = lines_of(&stored, ask, lines);
        assert_eq!(kept.contains("X-Csrf-Token: alice"), shared, "{stored} {lines:?}");
        assert_eq!(kept.contains("X-Csrf-Token: none"), !shared, "{stored} {lines:?}");
        assert!(!kept.contains("session=alice"));
        assert_eq!(kept.contains("max-age=90"), lines.len() > 1, "{kept}");
    }
}

#[test]
fn what_is_withheld_by_name_is_so_whoever_names_it_rfc9111_5_2_2_4() {
    let stored = "Cache-Control: max-age=60, no-cache=\"X-Token\"\r\nX-Foo: 1\r\n";
    let (lines, _) = lines_of(stored, &Ask::default(), &[("X-Token", "alice")]);
    assert!(!lines.contains("X-Token:") && lines.contains("X-Foo: 1"), "{lines}");
    let named = ("Cache-Control", "max-age=60, no-cache=\"X-Foo\"");
    let (lines, _) = lines_of(stored, &Ask::default(), &[named]);
    assert!(!lines.contains("X-Foo:"), "{lines}");
}

#[test]
fn a_304_speaks_of_what_has_its_validators_rfc9111_4_3_4() {
    let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:48:37 GMT");
    let other = ("Last-Modified", "Sun, 06 Nov 1994 08:48:38 GMT");
    let weak = ("ETag", "W/\"a\"");
    for (stored, fresh, expected) in [
        (&[TAG][..], &[TAG][..], true),
        (&[TAG], &[], true),
        (&[TAG], &[weak], true),
        (&[weak], &[weak], true),
        (&[weak], &[TAG], false),
        (&[TAG], &[("ETag", "\"b\"")], false),
        (&[modified], &[TAG], false),
        (&[modified], &[modified], true),
        (&[modified], &[other], false),
        (&[TAG, modified], &[TAG, other], true),
        (&[modified], &[], true),
    ] {
        let lines: Vec<_> =
            stored.iter().copied().chain([("Cache-Control", "max-age=60")]).collect();
        let meta = usual(200, &lines).unwrap();
        let fields: OwnedFields = fresh.iter().copied().collect();
        assert_eq!(update::fits(&meta, fields.view()), expected, "{stored:?} {fresh:?}");
    }
}

#[test]
fn a_head_shows_that_something_else_is_there_rfc9111_4_3_5() {
    let meta = usual(200, &[TAG, ("Cache-Control", "max-age=60")]).unwrap();
    for (lines, declared, expected) in [
        (&[TAG][..], Some(10), false),
        (&[TAG], None, false),
        (&[TAG], Some(11), true),
        (&[("ETag", "\"b\"")], Some(10), true),
        (&[], Some(10), true),
        (&[TAG, ("Last-Modified", "x")], None, true),
    ] {
        let fields: OwnedFields = lines.iter().copied().collect();
        let got = update::is_outdated(&meta, 10, fields.view(), declared);
        assert_eq!(got, expected, "{lines:?} {declared:?}");
    }
}
