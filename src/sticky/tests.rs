//! What is believed of cookies, who stays where, and who is in a canary.

use super::*;
use crate::base::sealed::Secret;
use crate::http::fields::OwnedFields;
use crate::sticky::canary::Decided;
use std::net::IpAddr;
use std::time::Duration;

const NOW: u64 = 1_790_000_000;

fn ring(octet: u8) -> Arc<Ring> {
    Arc::new(Ring::of(DOMAIN, &[Secret::new(&[octet; 32])]).unwrap())
}

fn settings() -> CookieSettings {
    CookieSettings { duration: Duration::from_secs(100), ..CookieSettings::default() }
}

fn cookie(settings: &CookieSettings, owner: &str) -> Cookie {
    Cookie::new(settings, Kind::Target, owner, &ring(1))
}

fn fields(cookies: &[&str]) -> OwnedFields {
    cookies.iter().map(|line| ("cookie", *line)).collect()
}

/// `name=value` of each line that sets a cookie.
fn pairs(lines: &[u8]) -> Vec<String> {
    let text = String::from_utf8(lines.to_vec()).unwrap();
    let pair = |line: &str| {
        let cookie = line.strip_prefix("set-cookie: ").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    };
    text.lines().map(pair).collect()
}

fn set(cookie: &Cookie, about: u64, now: u64) -> String {
    let mut out = Vec::new();
    assert!(cookie.write(&mut out, about, now, false));
    pairs(&out).remove(0)
}

fn about(cookie: &Cookie, lines: &[&str], now: u64) -> Option<u64> {
    let fields = fields(lines);
    // A core that has opened it before believes neither more nor less.
    let mut memory = Memory::default();
    let first = cookie.read(&mut memory, fields.view(), now).map(|token| token.about);
    let again = cookie.read(&mut memory, fields.view(), now).map(|token| token.about);
    assert_eq!(first, again, "{lines:?}");
    first
}

// UP-22: tampered, foreign, of another group, another key, another kind: as good as none.
#[test]
fn only_what_was_sealed_for_this_group_is_believed() {
    let web = cookie(&settings(), "web");
    let mine = set(&web, 7, NOW);
    assert_eq!(about(&web, &[&mine], NOW), Some(7));
    let cases = [
        ("of another group", set(&cookie(&settings(), "api"), 7, NOW)),
        ("of another key", set(&Cookie::new(&settings(), Kind::Target, "web", &ring(2)), 7, NOW)),
        ("of another kind", set(&Cookie::new(&settings(), Kind::Group, "web", &ring(1)), 7, NOW)),
        ("empty", "RINGGATE=".to_owned()),
        ("too short", mine[..mine.len() - 1].to_owned()),
        ("too long", format!("{mine}A")),
        ("of another name", mine.replace("RINGGATE", "ringgate")),
        ("not sealed", format!("RINGGATE={}", "A".repeat(60))),
        ("no base64url", format!("RINGGATE={}", "+".repeat(60))),
    ];
    for (what, line) in cases {
        assert_eq!(about(&web, &[&line], NOW), None, "{what}");
    }
    for at in "RINGGATE=".len()..mine.len() {
        let mut changed = mine.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(about(&web, &[&changed], NOW), None, "octet {at}");
    }
}

#[test]
fn a_cookie_is_found_on_any_line_and_the_newest_counts() {
    let web = cookie(&settings(), "web");
    let (old, new) = (set(&web, 1, NOW - 50), set(&web, 2, NOW));
    let bad = "RINGGATE=x";
    let check = |lines: &[&str], expected: Option<u64>| {
        assert_eq!(about(&web, lines, NOW), expected, "{lines:?}");
    };
    check(&[], None);
    check(&["a=b", &format!("c=d; {new}; e=f")], Some(2));
    check(&[&old, &new], Some(2));
    check(&[&format!("{new}; {old}")], Some(2));
    check(&[bad, &old], Some(1));
    // No more than a few are opened.
    check(&[bad, bad, bad, bad, &new], None);
}

#[test]
fn a_cookie_lasts_as_long_as_it_says_inside() {
    let web = cookie(&settings(), "web");
    let line = set(&web, 7, NOW);
    let token = Token { about: 7, sealed: u32::try_from(NOW).unwrap() };
    for (age, believed, due) in [
        (0, true, false),
        (9, true, false),
        (10, true, true),
        (99, true, true),
        (100, true, true),
        (101, false, true),
        (u64::from(u32::MAX), false, true),
    ] {
        let now = NOW + age;
        assert_eq!(about(&web, &[&line], now).is_some(), believed, "after {age} s");
        assert_eq!(web.is_due(token, now), due, "after {age} s");
    }
    // A clock that was set back.
    assert_eq!((about(&web, &[&line], NOW - 1), web.is_due(token, NOW - 1)), (Some(7), true));
    // A shorter duration in the file holds for cookies that are out.
    let shorter = cookie(&CookieSettings { duration: Duration::from_secs(5), ..settings() }, "web");
    assert_eq!(about(&shorter, &[&line], NOW + 6), None);
}

// AUTH-16: the attributes.
#[test]
fn cookies_have_the_attributes_that_the_file_and_the_connection_ask_for() {
    use SameSite::{Lax, None, Strict};
    let cases: [(SameSite, bool, bool, &[&str]); 7] = [
        (Lax, false, false, &["RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=Lax"]),
        (Lax, false, true, &["RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=Lax; Secure"]),
        (
            Strict,
            false,
            true,
            &["RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=Strict; Secure"],
        ),
        (None, false, true, &["RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=None; Secure"]),
        (None, false, false, &["RINGGATE; Path=/; Max-Age=100; HttpOnly"]),
        (Lax, true, false, &["RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=Lax"]),
        (
            Lax,
            true,
            true,
            &[
                "RINGGATE; Path=/; Max-Age=100; HttpOnly; SameSite=Lax; Secure",
                "RINGGATE~cors; Path=/; Max-Age=100; HttpOnly; SameSite=None; Secure",
            ],
        ),
    ];
    for (same_site, cors, secure, expected) in cases {
        let web = cookie(&CookieSettings { same_site, cors, ..settings() }, "web");
        let mut out = Vec::new();
        assert!(web.write(&mut out, 7, NOW, secure));
        let text = String::from_utf8(out.clone()).unwrap();
        let without_value = |line: &str| {
            let (name, rest) = line.strip_prefix("set-cookie: ").unwrap().split_once('=').unwrap();
            let (value, attributes) = rest.split_once(';').unwrap();
            assert_eq!(value.len(), token::TEXT);
            format!("{name};{attributes}")
        };
        let got: Vec<String> = text.lines().map(without_value).collect();
        assert_eq!(got, expected);
        // Each of them says it.
        for pair in pairs(&out) {
            assert_eq!(about(&web, &[&pair], NOW), Some(7), "{pair}");
        }
    }
}

#[test]
fn who_follows_a_cookie_stays_only_while_it_is_sent() {
    let of = |follow: Option<&str>| {
        let follow = follow.map(str::to_owned);
        TargetStick::new(&TargetSettings { cookie: settings(), follow }, "web", &ring(1))
    };
    let line = set(&of(None).cookie, 7, NOW);
    let hears = |stick: &TargetStick, lines: &[&str]| {
        stick.hear(&mut Memory::default(), fields(lines).view(), NOW).is_some()
    };
    let (own, app) = (of(None), of(Some("JSESSIONID")));
    assert!(hears(&own, &[&line]));
    assert!(!hears(&app, &[&line]));
    assert!(hears(&app, &[&line, "JSESSIONID=1"]));
    assert!(hears(&app, &["x=y; JSESSIONID=", &line]));
    assert!(!hears(&app, &["JSESSIONID=1"]));
    let begins = |stick: &TargetStick, set: &[&str]| {
        let response: OwnedFields = set.iter().map(|value| ("Set-Cookie", *value)).collect();
        stick.begins(response.view())
    };
    for (set, expected) in [
        (&[][..], false),
        (&["JSESSIONID=1; Path=/"], true),
        (&["other=1", "JSESSIONID=2"], true),
        (&["jsessionid=1"], false),
        (&["JSESSIONID2=1"], false),
        (&["other=JSESSIONID=1"], false),
        // ALB looks at the name alone.
        (&["JSESSIONID=; Max-Age=0"], true),
    ] {
        assert_eq!(begins(&app, set), expected, "{set:?}");
        assert!(begins(&own, set));
    }
}

#[test]
fn clients_stay_with_groups_that_have_weight() {
    let settings = GroupSettings { cookie: settings() };
    let groups = [(11, 90), (22, 10), (33, 0)];
    let stick = GroupStick::new(&settings, "shop", groups.into_iter(), &ring(1));
    let places: Vec<_> = [11, 22, 33, 44].map(|about| stick.place(about)).into();
    assert_eq!(places, [Some(0), Some(1), None, None]);
    assert_eq!((stick.about(1), stick.about(3)), (Some(22), None));
}

#[test]
fn what_becomes_of_a_client() {
    let token = |about| Some(Token { about, sealed: 0 });
    for (heard, about, expected) in
        [(None, 1, "new"), (token(1), 1, "kept"), (token(2), 1, "moved")]
    {
        assert_eq!(Outcome::of(heard, about).name(), expected);
    }
}

fn canary(share: u32, by: By, force: Option<Force>, rule: &str) -> Canary {
    let settings = CanarySettings { group: "new".to_owned(), share, by, force };
    Canary::new(&settings, rule, 3, &ring(1))
}

fn client(number: u32) -> IpAddr {
    IpAddr::from(number.wrapping_mul(2_654_435_761).to_be_bytes())
}

#[test]
fn a_share_of_clients_is_in_and_stays_in_while_it_grows() {
    let none = OwnedFields::default();
    let members = |share: u32, rule: &str| -> Vec<bool> {
        let canary = canary(share, By::ClientIp, None, rule);
        (0..20_000).map(|n| canary.decide(none.view(), || client(n)) == Decided::In(true)).collect()
    };
    let mut before = vec![false; 20_000];
    for (share, least, most) in
        [(0, 0, 0), (1, 0, 10), (250, 400, 600), (2500, 4700, 5300), (10_000, 20_000, 20_000)]
    {
        let now = members(share, "shop");
        let count = now.iter().filter(|is| **is).count();
        assert!((least..=most).contains(&count), "{share}: {count}");
        assert!(before.iter().zip(&now).all(|(before, now)| !before || *now), "{share}");
        before = now;
    }
    // Another rule tries it on others.
    let (one, other) = (members(5000, "shop"), members(5000, "blog"));
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!((9_500..=10_500).contains(&same), "{same}");
}

#[test]
fn a_field_tells_clients_apart_or_decides() {
    let force = Force {
        header: "x-canary".to_owned(),
        on: vec!["1".to_owned(), "true".to_owned()],
        off: vec!["never".to_owned()],
    };
    let check = |share: u32, by: &By, lines: &[(&str, &str)], expected: Decided| {
        let fields: OwnedFields = lines.iter().copied().collect();
        let canary = canary(share, by.clone(), Some(force.clone()), "shop");
        let got = canary.decide(fields.view(), || client(1));
        assert_eq!(got, expected, "{share} {by:?} {lines:?}");
    };
    let (ip, user) = (By::ClientIp, By::Header("x-user".to_owned()));
    let (yes, no) = (Decided::In(true), Decided::In(false));
    check(0, &ip, &[("X-Canary", "1")], yes);
    check(0, &ip, &[("x-canary", "TRUE")], yes);
    check(10_000, &ip, &[("x-canary", "Never")], no);
    check(10_000, &ip, &[("x-canary", "other")], yes);
    check(0, &ip, &[("x-canary", "other"), ("x-canary", "1")], yes);
    check(10_000, &user, &[], no);
    check(10_000, &user, &[("x-user", "")], no);
    check(10_000, &user, &[("x-user", "ada")], yes);
    let cookie = By::Cookie(settings());
    check(10_000, &cookie, &[], Decided::ByCookie);
    check(0, &cookie, &[("x-canary", "1")], yes);
    // The same user is the same client wherever he comes from.
    let canary = canary(5000, user, None, "shop");
    let of = |name: &str| {
        let fields: OwnedFields = [("x-user", name)].into_iter().collect();
        canary.decide(fields.view(), || client(9)) == yes
    };
    let users: Vec<String> = (0..1000).map(|n| format!("user-{n}")).collect();
    let count = users.iter().filter(|name| of(name)).count();
    assert!((440..=560).contains(&count), "{count}");
    assert!(users.iter().all(|name| of(name) == of(name)));
}

#[test]
fn drawn_numbers_are_judged_by_the_share() {
    let of = |share: u32| canary(share, By::Cookie(settings()), None, "shop");
    let mut rng = crate::base::Rng::with_seed(5);
    let numbers: Vec<u64> = (0..20_000).map(|_| rng.u64(..)).collect();
    for share in [0, 1, 100, 5000, 10_000] {
        let count = numbers.iter().filter(|number| of(share).takes(**number)).count();
        let expected = 20_000 * share as usize / 10_000;
        assert!(count.abs_diff(expected) <= 20 + expected / 10, "{share}: {count}");
    }
    assert!(numbers.iter().all(|number| !of(100).takes(*number) || of(5000).takes(*number)));
}
