//! What is found where, in whatever way it is written. Hazards URI-01 to URI-05.

use super::*;
use crate::http::fields::OwnedFields;
use crate::http::path::{PathPolicy, canonical};
use crate::policy::sample;
use proptest::prelude::*;
use std::sync::Arc;

fn list(patterns: &[&str]) -> List {
    let patterns = patterns.iter().map(|p| Pattern::parse(p).unwrap()).collect();
    List { patterns, files: Vec::new() }
}

fn build(settings: &Settings) -> (Policy, Core) {
    let policy = Policy::build(settings, &|_| None, None).unwrap();
    let core = Core::bind(&policy, None);
    (policy, core)
}

#[track_caller]
fn check(settings: &Settings, target: &str, fields: &[(&str, &str)], expected: Option<&str>) {
    let (policy, core) = build(settings);
    let fields: OwnedFields = fields.iter().copied().collect();
    let subject = sample::subject(target, &fields);
    assert_eq!(policy.find(&core, &subject), expected, "{target}");
    let mut findings = Findings::default();
    let verdict = policy.check(&core, &subject, &mut findings, None);
    let refused = matches!(verdict, Verdict::Refuse(Fault::PatternBlocked));
    assert_eq!(refused, expected.is_some());
    assert_eq!(findings.note, expected.unwrap_or_default());
    assert!(findings.detail.is_empty(), "nobody is told which");
}

/// The path as a request is routed and sent.
fn sent(path: &str) -> Option<String> {
    let mut out = Vec::new();
    let keep = PathPolicy { merge_slashes: false, keep_separators: true };
    let changed = canonical(path.as_bytes(), keep, &mut out).ok()?;
    Some(if changed { String::from_utf8(out).unwrap() } else { path.to_owned() })
}

#[test]
fn a_path_is_found_however_it_is_written() {
    let settings = Settings {
        path: list(&["/.git", "/admin/secret", "regex:^/internal(/|$)", "a b", "<script"]),
        ..Settings::default()
    };
    let found = Some("path \"/admin/secret\"");
    for (path, expected) in [
        ("/", None),
        ("/admin", None),
        ("/administrator/secret", None),
        ("/x/internal/y", None),
        ("/internals", None),
        ("/git", None),
        ("/x/.git/config", Some("path \"/.git\"")),
        ("/x/%2e%67it/config", Some("path \"/.git\"")),
        ("/admin/secret", found),
        ("/ADMIN/Secret", found),
        ("/x/../admin/secret", found),
        ("/%61dmin/%73ecret", found),
        ("//admin//secret", found),
        ("/admin/./secret", found),
        ("/admin/x/%2e%2e/secret", found),
        ("/admin%2fsecret", found),
        ("/admin%5Csecret", found),
        ("/admin%5c%2Fsecret", found),
        ("/admin;x=1/secret", found),
        ("/admin%3bx/secret", found),
        ("/x/..;/admin/secret", found),
        ("/admin/;/secret", found),
        ("/admin./secret", found),
        ("/admin%20/secret", found),
        ("/admin/secret;a", found),
        ("/x/..;/internal", Some("path regex \"^/internal(/|$)\"")),
        ("/;/internal/", Some("path regex \"^/internal(/|$)\"")),
        ("/internal%2Fx", Some("path regex \"^/internal(/|$)\"")),
        ("/a%20b", Some("path \"a b\"")),
        ("/%3Cscript", Some("path \"<script\"")),
        // Decoded once, as servers do.
        ("/%253Cscript", None),
    ] {
        let path = sent(path).unwrap();
        check(&settings, &path, &[], expected);
    }
}

#[test]
fn a_query_is_found_as_sent_and_decoded() {
    let settings = Settings {
        query: list(&["union select", "../", "c++", "regex:[?&]cmd="]),
        case: Case::Ignored,
        ..Settings::default()
    };
    for (query, expected) in [
        ("/?q=UNION+select", Some("query \"union select\"")),
        ("/?q=union%20se%6cect", Some("query \"union select\"")),
        ("/?q=union%2bselect", None),
        ("/?f=..%2f..%2fetc", Some("query \"../\"")),
        ("/?f=../", Some("query \"../\"")),
        ("/?f=%252e%252e%252f", None),
        ("/?q=c++", Some("query \"c++\"")),
        ("/?q=c%2B%2B", Some("query \"c++\"")),
        ("/?a=1&cmd=ls", Some("query regex \"[?&]cmd=\"")),
        ("/?a=%26cmd=ls", Some("query regex \"[?&]cmd=\"")),
        ("/union%20select", None),
        ("/?%", None),
        ("/", None),
    ] {
        check(&settings, query, &[], expected);
    }
}

#[test]
fn fields_and_cookies_are_looked_at_by_name_or_all() {
    let named = |name: &str, patterns: &[&str]| (name.to_owned(), list(patterns).patterns);
    let settings = Settings {
        fields: vec![named("user-agent", &["sqlmap", "regex:^nikto"]), named("x-a", &["evil"])],
        any_field: list(&["${jndi:"]),
        cookie: list(&["<script", "a=1; b"]),
        ..Settings::default()
    };
    for (name, value, expected) in [
        ("User-Agent", "curl/8", None),
        ("USER-AGENT", "SQLmap/1.8", Some("headers.user-agent \"sqlmap\"")),
        ("user-agent", "Nikto/2", Some("headers.user-agent regex \"^nikto\"")),
        ("user-agent", "not nikto", None),
        ("x-b", "sqlmap evil", None),
        ("x-a", "Evil", Some("headers.x-a \"evil\"")),
        ("x-b", "x ${JNDI:ldap://x}", Some("headers.* \"${jndi:\"")),
        ("cookie", "s=%3Cscript%3e", Some("cookie \"<script\"")),
        ("cookie", "a=1; b=2", Some("cookie \"a=1; b\"")),
        ("cookie", "s=sqlmap", None),
        ("x-c", "<script", None),
    ] {
        check(&settings, "/", &[("host", "a.test"), (name, value)], expected);
    }
    check(&settings, "/", &[("x-a", "good"), ("X-A", "evil")], Some("headers.x-a \"evil\""));
    check(
        &settings,
        "/",
        &[("cookie", "a=1"), ("cookie", "x=<script")],
        Some("cookie \"<script\""),
    );
}

#[test]
fn case_is_kept_where_the_file_says_so() {
    let settings =
        Settings { path: list(&["/Admin", "regex:/X$"]), case: Case::Kept, ..Settings::default() };
    check(&settings, "/Admin", &[], Some("path \"/Admin\""));
    check(&settings, "/admin", &[], None);
    check(&settings, "/X", &[], Some("path regex \"/X$\""));
    check(&settings, "/x", &[], None);
}

fn from_file(text: &'static [u8]) -> Result<Policy, Wrong> {
    let path = List { patterns: Vec::new(), files: vec![PathBuf::from("lists/bad.txt")] };
    let settings = Settings { path, ..Settings::default() };
    assert_eq!(settings.files(), [PathBuf::from("lists/bad.txt")]);
    Policy::build(&settings, &|_| Some(Arc::from(text)), None)
}

#[test]
fn files_hold_one_pattern_a_line() {
    let policy =
        from_file(b"# scanners\r\n/wp-login.php\r\n\n  regex:\\.(bak|sql)$  \n/a#b\n").unwrap();
    let core = Core::bind(&policy, None);
    let fields = OwnedFields::default();
    for (target, expected) in [
        ("/blog/wp-login.php", Some("path bad.txt:2")),
        ("/x.SQL", Some("path bad.txt:4")),
        ("/a%23b", Some("path bad.txt:5")),
        ("/scanners", None),
    ] {
        assert_eq!(policy.find(&core, &sample::subject(target, &fields)), expected, "{target}");
    }
    for (text, place, found) in [
        (b"/ok\nregex:(\n".as_slice(), ":2", "the pattern \"regex:(\": unclosed group"),
        (b"\xff", ":1", "no UTF-8"),
        (b"# x\n\nregex:x*\n", ":3", "it matches everything"),
    ] {
        let wrong = from_file(text).unwrap_err();
        assert_eq!(wrong.file, Some(PathBuf::from(format!("lists/bad.txt{place}"))));
        assert!(wrong.found.contains(found), "{}", wrong.found);
    }
    let settings = Settings { path: list(&["x"]), ..Settings::default() };
    let many = Settings {
        path: List {
            patterns: vec![settings.path.patterns[0].clone(); MOST + 1],
            files: Vec::new(),
        },
        ..settings
    };
    let wrong = Policy::build(&many, &|_| None, None).unwrap_err();
    assert!(wrong.found.contains("more than 20000 patterns"));
}

#[test]
fn no_pattern_finds_nothing() {
    check(&Settings::default(), "/.git?x", &[("cookie", "a=1")], None);
}

proptest! {
    #[test]
    fn any_octets_are_looked_at(
        target in prop::collection::vec(any::<u8>(), 0..120),
        value in "\\PC{0,40}",
    ) {
        let patterns = ["/.git", "regex:^/x.*y$", "regex:[\\x80-\\xff]{4}"];
        let settings = Settings {
            path: list(&patterns),
            query: list(&patterns),
            cookie: list(&patterns),
            any_field: list(&patterns),
            ..Settings::default()
        };
        let (policy, core) = build(&settings);
        let fields: OwnedFields = [("cookie", value.as_str()), ("x", &value)].into_iter().collect();
        let _ = policy.find(&core, &sample::octets(&target, &fields));
    }

    /// Whatever a path is, all that is found in it as sent is found in what a request with it is judged by.
    #[test]
    fn encoding_more_hides_nothing(path in "/[a-c./]{0,8}", encode in prop::collection::vec(any::<bool>(), 12)) {
        let written: String = path
            .bytes()
            .zip(encode)
            .map(|(b, encode)| match encode && b != b'/' {
                true => format!("%{b:02x}"),
                false => char::from(b).to_string(),
            })
            .collect();
        let settings = Settings { path: list(&["/a/b", "c.", "regex:^/b"]), ..Settings::default() };
        let (policy, core) = build(&settings);
        let fields = OwnedFields::default();
        let find = |path: &str| policy.find(&core, &sample::subject(path, &fields)).map(str::to_owned);
        if let (Some(plain), Some(written)) = (sent(&path), sent(&written)) {
            prop_assert_eq!(find(&plain), find(&written), "{}", written);
        }
    }

    #[test]
    fn any_octets_are_a_list_or_not(text in prop::collection::vec(any::<u8>(), 0..100)) {
        let path = List { patterns: Vec::new(), files: vec![PathBuf::from("x")] };
        let settings = Settings { path, ..Settings::default() };
        let _ = Policy::build(&settings, &|_| Some(Arc::from(text.as_slice())), None);
    }
}
