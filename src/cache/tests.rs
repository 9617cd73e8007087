//! The rules by section of RFC 9111, each as a table: what is stored and for how long, when it is given, what renews it.

use super::*;
use crate::base::Tick;
use crate::http::Fields;
use crate::http::fields::OwnedFields;
use std::time::Duration;

// Sun, 06 Nov 1994 08:49:37 GMT
const NOW: u64 = 784_111_777;
const DATE: (&str, &str) = ("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
const TAG: (&str, &str) = ("ETag", "\"a\"");

type Lines<'a> = &'a [(&'a str, &'a str)];

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn tick(seconds: u64) -> Tick {
    Tick::ZERO.after(secs(seconds))
}

fn times() -> Times {
    Times { asked: tick(10), received: tick(10), unix: NOW }
}

fn store(settings: &Settings, ask: &Ask, status: u16, lines: Lines<'_>) -> Result<Meta, Why> {
    let fields: OwnedFields = lines.iter().copied().collect();
    storable(settings, ask, status, fields.view(), times())
}

fn usual(status: u16, lines: Lines<'_>) -> Result<Meta, Why> {
    store(&Settings::default(), &Ask::default(), status, lines)
}

// For how long a response with this Cache-Control is fresh, in seconds.
fn fresh(cache_control: &str) -> Result<u64, Why> {
    usual(200, &[DATE, ("Cache-Control", cache_control)]).map(|meta| meta.lifetime.as_secs())
}

mod storing {
    use super::*;

    #[test]
    fn needs_a_lifetime_or_a_validator_rfc9111_3() {
        for (control, expected) in [
            ("max-age=60", Ok(60)),
            ("public, max-age=60", Ok(60)),
            ("s-maxage=60", Ok(60)),
            ("public", Err(Why::NoLifetime)),
            ("", Err(Why::NoLifetime)),
            ("max-age=0", Err(Why::Useless)),
            ("max-age=x", Err(Why::Useless)),
            ("no-cache, max-age=60", Err(Why::Useless)),
            ("max-age=0, stale-while-revalidate=5", Ok(0)),
            ("max-age=60; private", Err(Why::Malformed)),
            ("no-store", Err(Why::NoStore)),
            ("no-store, max-age=60", Err(Why::NoStore)),
            ("max-age=60, NO-STORE", Err(Why::NoStore)),
            ("private, max-age=60", Err(Why::Private)),
            ("private=\"x\", max-age=60", Err(Why::Private)),
            ("public, private, max-age=60", Err(Why::Private)),
            ("a=\"private\", max-age=60", Ok(60)),
            ("must-understand, no-store, max-age=60", Ok(60)),
        ] {
            assert_eq!(fresh(control), expected, "{control}");
        }
        let validated = usual(200, &[("Cache-Control", "no-cache"), TAG]).unwrap();
        assert!(validated.no_cache && validated.lifetime == Duration::ZERO);
        assert_eq!(usual(200, &[TAG]), Err(Why::NoLifetime));
        assert_eq!(usual(200, &[("Pragma", "no-cache"), ("Expires", "0")]), Err(Why::Useless));
    }

    #[test]
    fn statuses_that_are_understood_rfc9111_3() {
        let control = ("Cache-Control", "max-age=60");
        for status in [200, 203, 204, 300, 301, 302, 303, 307, 308] {
            assert!(usual(status, &[control]).is_ok(), "{status}");
        }
        for status in [201, 202, 205, 226, 299, 304, 305, 400, 404, 410, 414, 418, 500, 503, 599] {
            assert_eq!(usual(status, &[control]), Err(Why::Status), "{status}");
        }
        assert_eq!(usual(206, &[control]), Err(Why::Part));
        assert_eq!(usual(200, &[control, ("Content-Range", "bytes 0-1/2")]), Err(Why::Part));
    }

    #[test]
    fn cache_05_errors_are_stored_where_the_rule_says_so_and_no_longer() {
        let settings = Settings {
            negative: vec![(404, secs(10)), (503, secs(1)), (499, secs(1))],
            ..Settings::default()
        };
        for (status, lines, expected) in [
            (404, &[][..], Ok(10)),
            (404, &[("Cache-Control", "max-age=60")], Ok(10)),
            (404, &[("Cache-Control", "max-age=5")], Ok(5)),
            (404, &[("Cache-Control", "no-store")], Err(Why::NoStore)),
            (404, &[("Set-Cookie", "a=b")], Err(Why::SetCookie)),
            (503, &[], Ok(1)),
            (500, &[], Err(Why::Status)),
            (499, &[("Cache-Control", "must-understand, max-age=1")], Err(Why::Status)),
        ] {
            let got = store(&settings, &Ask::default(), status, lines);
            assert_eq!(got.map(|meta| meta.lifetime.as_secs()), expected, "{status} {lines:?}");
        }
    }

    #[test]
    fn cache_04_what_is_meant_for_one_sender_is_not_stored_rfc9111_3_5() {
        let open = Settings { authorization: true, ..Settings::default() };
        let identified = Ask { identified: true, ..Ask::default() };
        let cookies = Ask { cookies: true, ..Ask::default() };
        for (control, for_identified, for_cookies) in [
            ("max-age=60", false, false),
            ("public, max-age=60", true, true),
            ("s-maxage=60", true, true),
            ("must-revalidate, max-age=60", true, false),
            ("proxy-revalidate, max-age=60", false, false),
        ] {
            let lines = [("Cache-Control", control)];
            let got = store(&open, &identified, 200, &lines).is_ok();
            assert_eq!(got, for_identified, "{control}");
            let got = store(&Settings::default(), &cookies, 200, &lines).is_ok();
            assert_eq!(got, for_cookies, "{control}");
        }
        let lines = [("Cache-Control", "max-age=60"), ("Vary", "Cookie")];
        assert!(store(&open, &cookies, 200, &lines).is_ok());
        assert_eq!(store(&open, &identified, 200, &lines), Err(Why::Identified));
        for name in ["Set-Cookie", "set-cookie2"] {
            let lines = [("Cache-Control", "public, max-age=60"), (name, "a=b")];
            assert_eq!(usual(200, &lines), Err(Why::SetCookie));
        }
    }

    #[test]
    fn requests_may_forbid_it() {
        let lines = [("Cache-Control", "max-age=60")];
        for (ask, why) in [
            (Ask { no_store: true, ..Ask::default() }, Why::RequestNoStore),
            (Ask { head: true, ..Ask::default() }, Why::Head),
        ] {
            assert_eq!(store(&Settings::default(), &ask, 200, &lines), Err(why));
        }
    }

    #[test]
    fn cache_06_what_depends_on_anything_is_not_stored_rfc9111_4_1() {
        let of = |vary: &str| usual(200, &[("Cache-Control", "max-age=60"), ("Vary", vary)]);
        assert_eq!(of("*"), Err(Why::Vary));
        assert_eq!(of("accept, *"), Err(Why::Vary));
        assert!(of("Accept").unwrap().vary.has("accept"));
    }

    #[test]
    fn tags_are_kept_or_the_response_is_not() {
        let of = |tags: &str| {
            let lines = [("Cache-Control", "max-age=60"), ("Cache-Tag", tags)];
            usual(200, &lines).map(|meta| meta.tags)
        };
        assert_eq!(of("b, a  c,a"), Ok(vec![b"a"[..].into(), b"b"[..].into(), b"c"[..].into()]));
        let many: Vec<String> = (0..65).map(|n| n.to_string()).collect();
        assert_eq!(of(&many.join(",")), Err(Why::Tags));
        assert_eq!(of(&"x".repeat(257)), Err(Why::Tags));
        let none = Settings { tags: None, ..Settings::default() };
        let lines = [("Cache-Control", "max-age=60"), ("Cache-Tag", "a")];
        assert!(store(&none, &Ask::default(), 200, &lines).unwrap().tags.is_empty());
    }

    #[test]
    fn cdn_cache_control_takes_the_place_of_the_others_rfc9213() {
        let of = |targeted: &str, control: &str| {
            let lines = [DATE, ("CDN-Cache-Control", targeted), ("Cache-Control", control)];
            usual(200, &lines).map(|meta| meta.lifetime.as_secs())
        };
        for (targeted, control, expected) in [
            ("max-age=60", "max-age=5", Ok(60)),
            ("max-age=60", "no-store", Ok(60)),
            ("max-age=60", "private", Ok(60)),
            ("no-store", "max-age=60", Err(Why::NoStore)),
            ("private", "max-age=60", Err(Why::Private)),
            ("no-store=?0, max-age=60", "", Ok(60)),
            ("max-age=60;x=1", "max-age=5", Ok(60)),
            ("max-age=60, max-age=30", "", Ok(30)),
            ("max-age=\"60\"", "max-age=5", Err(Why::Useless)),
            ("max-age=-1", "max-age=5", Err(Why::Useless)),
            ("max-age=999999999999999", "", Ok(86_400)),
            // No dictionary: as if it were not there.
            ("", "max-age=5", Ok(5)),
            ("Max-Age=60", "max-age=5", Ok(5)),
            ("max-age=60,", "max-age=5", Ok(5)),
            ("max-age=60 private", "max-age=5", Ok(5)),
            ("max-age=9999999999999999", "max-age=5", Ok(5)),
            ("&", "max-age=5", Ok(5)),
        ] {
            assert_eq!(of(targeted, control), expected, "{targeted:?} {control:?}");
        }
        let expires = ("Expires", "Sun, 06 Nov 1994 09:49:37 GMT");
        let lines = [DATE, ("CDN-Cache-Control", "public"), expires];
        assert_eq!(usual(200, &lines), Err(Why::NoLifetime));
    }
}

mod freshness {
    use super::*;

    #[test]
    fn s_maxage_then_max_age_then_expires_rfc9111_4_2_1() {
        let hour = ("Expires", "Sun, 06 Nov 1994 09:49:37 GMT");
        let past = ("Expires", "Sun, 06 Nov 1994 07:49:37 GMT");
        for (lines, expected) in [
            (&[DATE, hour][..], Ok(3600)),
            (&[DATE, ("Cache-Control", "max-age=5"), hour], Ok(5)),
            (&[DATE, ("Cache-Control", "max-age=5"), past], Ok(5)),
            (&[DATE, ("Cache-Control", "max-age=5, s-maxage=7"), hour], Ok(7)),
            (&[DATE, ("Cache-Control", "s-maxage=7, max-age=5")], Ok(7)),
            (&[DATE, past], Err(Why::Useless)),
            (&[DATE, ("Expires", "0")], Err(Why::Useless)),
            (&[DATE, ("Expires", "-1")], Err(Why::Useless)),
            (&[DATE, hour, ("Expires", "0")], Err(Why::Useless)),
            (&[DATE, ("Expires", "Sunday, 06-Nov-94 09:49:37 GMT")], Ok(3600)),
            // Without a date, that of the receipt.
            (&[hour], Ok(3600)),
            (&[("Date", "yesterday"), hour], Ok(3600)),
        ] {
            let got = usual(200, lines).map(|meta| meta.lifetime.as_secs());
            assert_eq!(got, expected, "{lines:?}");
        }
    }

    #[test]
    fn the_rule_bounds_it_and_speaks_for_those_who_say_nothing() {
        let settings = Settings {
            default_ttl: secs(30),
            max_ttl: secs(100),
            heuristic: true,
            ..Settings::default()
        };
        // 1,000 s before DATE.
        let modified = ("Last-Modified", "Sun, 06 Nov 1994 08:32:57 GMT");
        let old = ("Last-Modified", "Sat, 06 Nov 1993 08:49:37 GMT");
        let later = ("Last-Modified", "Sun, 06 Nov 1994 09:49:37 GMT");
        for (status, lines, expected) in [
            (200, &[DATE][..], Ok(30)),
            (301, &[DATE], Ok(30)),
            (302, &[DATE], Err(Why::NoLifetime)),
            (302, &[DATE, ("Cache-Control", "public")], Ok(30)),
            (200, &[DATE, ("Cache-Control", "max-age=1000")], Ok(100)),
            (200, &[DATE, modified], Ok(100)),
            (200, &[DATE, old], Ok(100)),
            (200, &[DATE, later], Ok(30)),
            (200, &[DATE, ("Cache-Control", "no-store")], Err(Why::NoStore)),
            (200, &[DATE, ("Cache-Control", "private")], Err(Why::Private)),
        ] {
            let got = store(&settings, &Ask::default(), status, lines);
            assert_eq!(got.map(|meta| meta.lifetime.as_secs()), expected, "{status} {lines:?}");
        }
        let long = Settings { max_ttl: secs(10_000_000), heuristic: true, ..Settings::default() };
        for (modified, expected) in [(modified, 100), (old, 86_400)] {
            let got = store(&long, &Ask::default(), 200, &[DATE, modified]).unwrap();
            assert_eq!(got.lifetime, secs(expected), "{modified:?}");
        }
        // What has been fresh for a while elsewhere gets the rule's time here.
        let aged = [DATE, ("Age", "500")];
        let meta = store(&settings, &Ask::default(), 200, &aged).unwrap();
        assert_eq!(meta.ttl(tick(10)), 30);
    }

    #[test]
    fn age_is_the_larger_of_what_is_told_and_what_is_seen_rfc9111_4_2_3() {
        let control = ("Cache-Control", "max-age=10000");
        let minute_old = ("Date", "Sun, 06 Nov 1994 08:48:37 GMT");
        let future = ("Date", "Sun, 06 Nov 1994 09:49:37 GMT");
        for (lines, waited, expected) in [
            (&[DATE, control][..], 0, 0),
            (&[DATE, control], 3, 3),
            (&[minute_old, control], 0, 60),
            (&[minute_old, control], 3, 60),
            (&[minute_old, control, ("Age", "100")], 3, 103),
            (&[minute_old, control, ("Age", "30")], 3, 60),
            (&[future, control], 0, 0),
            (&[control], 0, 0),
            (&[control, ("Age", "7, 9")], 0, 7),
            (&[control, ("Age", "7"), ("Age", "9")], 0, 7),
            (&[control, ("Age", "-7")], 0, 0),
            (&[control, ("Age", "x")], 0, 0),
            (&[control, ("Age", "7.5")], 0, 0),
        ] {
            let fields: OwnedFields = lines.iter().copied().collect();
            let times = Times { asked: tick(10), received: tick(10 + waited), unix: NOW };
            let settings = Settings::default();
            let meta = storable(&settings, &Ask::default(), 200, fields.view(), times).unwrap();
            assert_eq!(meta.age, secs(expected), "{lines:?}");
            assert_eq!(meta.age_at(tick(10 + waited + 5)), secs(expected + 5), "{lines:?}");
        }
        let huge = usual(200, &[("Cache-Control", "max-age=10"), TAG, ("Age", "99999999999999")]);
        assert_eq!(huge.unwrap().age, secs(1 << 31));
    }

    #[test]
    fn ops_13_a_wall_clock_that_jumps_makes_nothing_immortal() {
        let fields: OwnedFields = [DATE, ("Cache-Control", "max-age=60")].into_iter().collect();
        for unix in [0, 1, NOW - 1_000_000, NOW] {
            let times = Times { unix, ..times() };
            let settings = Settings::default();
            let meta = storable(&settings, &Ask::default(), 200, fields.view(), times).unwrap();
            assert_eq!(judge(&meta, &Ask::default(), tick(69)), Verdict::Fresh);
            assert_eq!(judge(&meta, &Ask::default(), tick(70)), Verdict::Revalidate);
            // Time that seems to run backwards ages nothing, and breaks nothing.
            assert_eq!(meta.age_at(tick(0)), meta.age);
        }
        let late = Times { unix: u64::MAX, ..times() };
        let got = storable(&Settings::default(), &Ask::default(), 200, fields.view(), late);
        assert_eq!(got, Err(Why::Useless));
    }
}

mod judging {
    use super::*;

    // What becomes of a response with this Cache-Control, so many seconds old, asked for like this.
    fn check(control: &str, ask: &Ask, age: u64, expected: Verdict) {
        let meta = usual(200, &[("Cache-Control", control), TAG]).unwrap();
        assert_eq!(judge(&meta, ask, tick(10 + age)), expected, "{control} at {age}: {ask:?}");
    }

    #[test]
    fn fresh_is_given_and_stale_is_not_rfc9111_4_2() {
        let ask = Ask::default();
        check("max-age=60", &ask, 0, Verdict::Fresh);
        check("max-age=60", &ask, 59, Verdict::Fresh);
        check("max-age=60", &ask, 60, Verdict::Revalidate);
        check("max-age=0", &ask, 0, Verdict::Revalidate);
        check("max-age=60, no-cache", &ask, 0, Verdict::Revalidate);
        check("max-age=60, no-cache=\"x\"", &ask, 0, Verdict::Fresh);
    }

    #[test]
    fn requests_may_want_it_newer_rfc9111_5_2_1() {
        let base = Ask::default();
        let no_cache = Ask { no_cache: true, ..base };
        check("max-age=60", &no_cache, 0, Verdict::Asked);
        check("max-age=60, immutable", &no_cache, 0, Verdict::Asked);
        let max_age = Ask { max_age: Some(secs(10)), ..base };
        check("max-age=60", &max_age, 10, Verdict::Fresh);
        check("max-age=60", &max_age, 11, Verdict::Asked);
        check("max-age=5, stale-while-revalidate=60", &max_age, 11, Verdict::Asked);
        let reload = Ask { max_age: Some(Duration::ZERO), ..base };
        check("max-age=60", &reload, 1, Verdict::Asked);
        check("max-age=60, immutable", &reload, 1, Verdict::Fresh);
        check("max-age=60, immutable", &reload, 60, Verdict::Asked);
        let min_fresh = Ask { min_fresh: secs(10), ..base };
        check("max-age=60", &min_fresh, 50, Verdict::Fresh);
        check("max-age=60", &min_fresh, 51, Verdict::Asked);
        check("max-age=60, stale-while-revalidate=60", &min_fresh, 61, Verdict::Asked);
    }

    #[test]
    fn requests_may_take_it_stale_but_where_that_is_forbidden_rfc9111_4_2_4() {
        let some = Ask { max_stale: Some(control::MaxStale::For(secs(10))), ..Ask::default() };
        let any = Ask { max_stale: Some(control::MaxStale::Any), ..Ask::default() };
        let given = Verdict::Stale { refresh: false };
        check("max-age=60", &some, 70, given);
        check("max-age=60", &some, 71, Verdict::Revalidate);
        check("max-age=60", &any, 100_000, given);
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
            let control = format!("max-age=60, {strict}");
            check(&control, &any, 61, Verdict::Revalidate);
        }
    }

    #[test]
    fn stale_while_revalidate_rfc5861_3() {
        let (ask, given) = (Ask::default(), Verdict::Stale { refresh: true });
        check("max-age=60, stale-while-revalidate=10", &ask, 59, Verdict::Fresh);
        check("max-age=60, stale-while-revalidate=10", &ask, 60, given);
        check("max-age=60, stale-while-revalidate=10", &ask, 69, given);
        check("max-age=60, stale-while-revalidate=10", &ask, 70, Verdict::Revalidate);
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=60", "no-cache"] {
            let control = format!("max-age=60, stale-while-revalidate=10, {strict}");
            check(&control, &ask, 61, Verdict::Revalidate);
        }
        let settings = Settings { stale_while_revalidate: secs(10), ..Settings::default() };
        for (control, expected) in [
            ("max-age=60", given),
            ("max-age=60, stale-while-revalidate=0", Verdict::Revalidate),
            ("max-age=60, must-revalidate", Verdict::Revalidate),
        ] {
            let meta = store(&settings, &ask, 200, &[("Cache-Control", control)]).unwrap();
            assert_eq!(judge(&meta, &ask, tick(75)), expected, "{control}");
        }
    }

    #[test]
    fn stale_if_error_rfc5861_4() {
        let asks = Ask { stale_if_error: secs(20), ..Ask::default() };
        for (control, age, expected, asked) in [
            ("max-age=60, stale-if-error=10", 69, true, true),
            ("max-age=60, stale-if-error=10", 70, false, true),
            ("max-age=60", 0, false, true),
            ("max-age=60", 79, false, true),
            ("max-age=60", 80, false, false),
            ("max-age=60, stale-if-error=10, must-revalidate", 61, false, false),
            ("s-maxage=60, stale-if-error=10", 61, false, false),
            ("max-age=60, stale-if-error=10, no-cache", 61, false, false),
        ] {
            let meta = usual(200, &[("Cache-Control", control), TAG]).unwrap();
            let now = tick(10 + age);
            assert_eq!(stale_if_error(&meta, &Ask::default(), now), expected, "{control} {age}");
            assert_eq!(stale_if_error(&meta, &asks, now), asked, "{control} {age}");
        }
        for (status, failed) in [(500, true), (502, true), (504, true), (501, false), (404, false)]
        {
            assert_eq!(age::is_failure(status), failed, "{status}");
        }
    }

    #[test]
    fn what_is_left_of_it_in_seconds() {
        let meta = usual(200, &[("Cache-Control", "max-age=60, stale-if-error=9")]).unwrap();
        assert_eq!((meta.ttl(tick(10)), meta.ttl(tick(70)), meta.ttl(tick(82))), (60, 0, -12));
        assert_eq!(meta.expires(), tick(79));
        let strict = usual(200, &[("Cache-Control", "s-maxage=60, stale-if-error=9")]).unwrap();
        assert_eq!(strict.expires(), tick(70));
    }
}

mod answering {
    use super::*;

    fn meta(status: u16, lines: Lines<'_>) -> Meta {
        let all = [DATE, ("Cache-Control", "max-age=60")].into_iter().chain(lines.to_vec());
        usual(status, &all.collect::<Vec<_>>()).unwrap()
    }

    fn ask(lines: Lines<'_>) -> Ask {
        let has = |name: &str| lines.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        Ask {
            conditional: has("if-none-match") || has("if-modified-since"),
            range: has("range"),
            ..Ask::default()
        }
    }

    fn check(meta: &Meta, lines: Lines<'_>, expected: Given) {
        let fields: OwnedFields = lines.iter().copied().collect();
        assert_eq!(given(meta, &ask(lines), fields.view(), 10), expected, "{lines:?}");
    }

    // A minute before DATE.
    const MODIFIED: (&str, &str) = ("Last-Modified", "Sun, 06 Nov 1994 08:48:37 GMT");

    #[test]
    fn if_none_match_compares_weakly_rfc9110_13_1_2() {
        let tagged = meta(200, &[("ETag", "\"a\""), MODIFIED]);
        let weak = meta(200, &[("ETag", "W/\"a\"")]);
        for (list, same) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("\"b\",W/\"a\"", true),
            ("\"x, \", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("\"A\"", false),
            ("\"a", false),
            ("\"b\" \"a\"", false),
            ("", false),
        ] {
            let expected = if same { Given::NotModified } else { Given::Whole };
            check(&tagged, &[("If-None-Match", list)], expected.clone());
            check(&weak, &[("If-None-Match", list)], expected);
        }
        check(
            &tagged,
            &[("If-None-Match", "\"b\""), ("If-None-Match", "\"a\"")],
            Given::NotModified,
        );
        check(&meta(200, &[]), &[("If-None-Match", "\"a\"")], Given::Whole);
        // It takes the place of If-Modified-Since.
        let both = [("If-None-Match", "\"b\""), ("If-Modified-Since", DATE.1)];
        check(&tagged, &both, Given::Whole);
    }

    #[test]
    fn if_modified_since_compares_dates_rfc9110_13_1_3() {
        let (modified, undated) = (meta(200, &[MODIFIED]), meta(200, &[]));
        for (date, same) in [
            ("Sun, 06 Nov 1994 08:48:37 GMT", true),
            ("Sun, 06 Nov 1994 08:48:38 GMT", true),
            ("Sunday, 06-Nov-94 08:48:37 GMT", true),
            ("Sun, 06 Nov 1994 08:48:36 GMT", false),
            ("never", false),
        ] {
            let expected = if same { Given::NotModified } else { Given::Whole };
            check(&modified, &[("If-Modified-Since", date)], expected);
        }
        check(&undated, &[("If-Modified-Since", DATE.1)], Given::NotModified);
        check(&undated, &[("If-Modified-Since", MODIFIED.1)], Given::Whole);
        let twice = [("If-Modified-Since", DATE.1), ("If-Modified-Since", DATE.1)];
        check(&modified, &twice, Given::Whole);
    }

    #[test]
    fn preconditions_are_of_successes_rfc9110_13_2_1() {
        let moved = meta(301, &[TAG]);
        check(&moved, &[("If-None-Match", "\"a\""), ("Range", "bytes=0-1")], Given::Whole);
        check(&meta(204, &[TAG]), &[("If-None-Match", "\"a\"")], Given::NotModified);
        check(&meta(204, &[TAG]), &[("Range", "bytes=0-1")], Given::Whole);
    }

    #[test]
    fn cache_09_a_range_is_a_part_of_what_is_unchanged_rfc9110_14_2() {
        let stored = meta(200, &[TAG, MODIFIED]);
        let part = Given::Part(0..2);
        check(&stored, &[("Range", "bytes=0-1")], part.clone());
        check(&stored, &[("Range", "bytes=0-1, 3-4")], Given::Whole);
        check(&stored, &[("Range", "bytes=0-1"), ("Range", "bytes=0-1")], Given::Whole);
        check(&stored, &[("Range", "bytes=10-")], Given::Unsatisfiable);
        for (validator, same) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            (MODIFIED.1, true),
            (DATE.1, false),
            ("x", false),
        ] {
            let expected = if same { part.clone() } else { Given::Whole };
            check(&stored, &[("Range", "bytes=0-1"), ("If-Range", validator)], expected);
        }
        // Changed within the minute before it was sent: a weak date.
        let recent = meta(200, &[("Last-Modified", "Sun, 06 Nov 1994 08:48:38 GMT")]);
        let lines = [("Range", "bytes=0-1"), ("If-Range", "Sun, 06 Nov 1994 08:48:38 GMT")];
        check(&recent, &lines, Given::Whole);
        // A precondition comes before (RFC 9110 section 13.2.2).
        check(&stored, &[("Range", "bytes=0-1"), ("If-None-Match", "\"a\"")], Given::NotModified);
        let fields: OwnedFields = [("Range", "bytes=0-1")].into_iter().collect();
        let head = Ask { head: true, range: true, ..Ask::default() };
        assert_eq!(given(&stored, &head, fields.view(), 10), Given::Whole);
    }
}

#[test]
fn what_is_given_as_it_came_is_for_others() {
    for (control, others) in [
        ("max-age=60", true),
        ("max-age=0", false),
        ("max-age=0, stale-while-revalidate=5", true),
        ("max-age=0, stale-if-error=5", false),
        ("max-age=60, no-cache", false),
    ] {
        let meta = usual(200, &[DATE, TAG, ("Cache-Control", control)]).unwrap();
        assert_eq!(meta.is_for_others(), others, "{control}");
    }
}

mod renewing;
