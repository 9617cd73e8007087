//! What rules change: values stay where they stand, paths stay canonical, and JSON stays the JSON that it was (hazards URI-04, H1-33).
//!
//! The first line of the input is a template, the second a value that a client sends, the rest a body of JSON.

use ringgate::http::fields::OwnedFields;
use ringgate::http::path::{PathPolicy, canonical};
use ringgate::http::{RequestView, host};
use ringgate::transform::captures::Captures;
use ringgate::transform::cookies::{CookieSettings, SameSite};
use ringgate::transform::fields::FieldChanges;
use ringgate::transform::json::{self, JsonChanges, Node};
use ringgate::transform::rewrite::{HostChange, PathChange};
use ringgate::transform::{Facts, Place, RequestSettings, Scope, Template};
use std::net::{IpAddr, Ipv4Addr};

const ALL: Scope = Scope { rule: true, response: true, fault: true, body: true };

/// See the module's documentation.
pub fn changes(data: &[u8]) {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let template = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let value = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let body = parts.next().unwrap_or_default();
    let node = json_alone(body);
    cookies_alone(value.as_bytes());
    let Ok(template) = Template::parse(&template, ALL) else { return };
    let fields: OwnedFields = [("x-v", value.as_str())].into_iter().collect();
    let view = RequestView {
        method: b"GET",
        host: b"shop.a.test",
        path: b"/c/x%20y/z",
        query: Some(b"q=%0d%0a&v=a+b"),
        fields: fields.view(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let captures = Captures::new(&["*.a.test".to_owned()], &["/c/*".to_owned()], &[]);
    let facts = Facts { captures: Some(&captures), body: node.as_ref(), ..Facts::of(view) };
    where_it_stands(&template, &facts);
    in_a_target(&template, &facts);
    in_lines(&template, &facts);
}

/// What stands around the values is the author's; what is between is judged by its place.
fn where_it_stands(template: &Template, facts: &Facts<'_>) {
    let around = template.around();
    let check = |place: Place, bad: &dyn Fn(u8) -> bool| {
        // Where the text of the file has none of them, the whole has none.
        if !around.bytes().any(bad) {
            let text = template.text(facts, place);
            assert!(!text.iter().copied().any(bad), "{place:?}: {}", text.escape_ascii());
        }
    };
    check(Place::Field, &|b| b < b' ' && b != b'\t' || b == 0x7f);
    check(Place::Html, &|b| b"<>\"'`".contains(&b));
    check(Place::Json, &|b| b < b' ' || b == b'<');
    check(Place::Query, &|b| b" \"<>#\r\n".contains(&b));
    check(Place::Text, &|b| b == b'\r' || b == 0x1b);
    if around.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let text = [b"\"", &template.text(facts, Place::Json)[..], b"\""].concat();
        assert!(serde_json::from_slice::<String>(&text).is_ok(), "{}", text.escape_ascii());
    }
}

fn in_a_target(template: &Template, facts: &Facts<'_>) {
    let parts = PathChange::Parts { strip: None, regex: None, add: Some(template.clone()) };
    for path in [PathChange::Whole(template.clone()), parts] {
        let settings = RequestSettings { path, ..RequestSettings::default() };
        for merge_slashes in [true, false] {
            for keep_separators in [true, false] {
                let policy = PathPolicy { merge_slashes, keep_separators };
                let Ok(Some(target)) = settings.target(facts, policy) else { continue };
                let path = target.split(|b| *b == b'?').next().unwrap();
                let again = canonical(path, policy, &mut Vec::new());
                assert_eq!(again, Ok(false), "{}", path.escape_ascii());
                assert!(path.starts_with(b"/") && !path.starts_with(b"//"));
            }
        }
    }
    let host_of =
        RequestSettings { host: HostChange::Made(template.clone()), ..Default::default() };
    if let Ok(Some(made)) = host_of.host(facts) {
        assert!(host::canonical(&made, &mut Vec::new()).is_ok(), "{}", made.escape_ascii());
    }
}

/// Whatever is set, each line stays one line, and none of another name comes or goes.
fn in_lines(template: &Template, facts: &Facts<'_>) {
    let changes = FieldChanges {
        set: vec![("x-set".to_owned(), template.clone())],
        remove: vec!["x-gone".to_owned()],
        ..FieldChanges::default()
    };
    let mut lines = b"server: x\r\nX-Set: 1\r\nx-gone: 2\r\nx-kept: 3\r\n".to_vec();
    changes.rewrite(facts, &mut lines);
    let rest = lines.strip_prefix(b"server: x\r\nx-kept: 3\r\n").expect("what is not named stays");
    assert!(rest.is_empty() || rest.starts_with(b"x-set: "));
    assert_eq!(rest.iter().filter(|b| **b == b'\n').count(), usize::from(!rest.is_empty()));
    assert!(rest.is_empty() || rest.ends_with(b"\r\n"));
}

/// Read as serde_json reads it, but for what is refused on purpose; written as it was meant.
fn json_alone(body: &[u8]) -> Option<Node<'_>> {
    let theirs = serde_json::from_slice::<serde_json::Value>(body);
    let node = match json::parse(body) {
        Ok(node) => node,
        Err(json::Unread::Malformed) => {
            assert!(theirs.is_err(), "{}", body.escape_ascii());
            return None;
        }
        Err(json::Unread::TooDeep | json::Unread::Twice) => return None,
    };
    let mut written = Vec::new();
    node.write(&mut written);
    assert_eq!(json::parse(&written).as_ref(), Ok(&node));
    // Numbers beyond a double are fine here, and none there.
    if let Ok(theirs) = theirs {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).unwrap(), theirs);
    }
    let path = |text: &str| vec![json::segments(text)];
    let changes =
        JsonChanges { remove: path("*.a"), keep: Some(path("*")), ..JsonChanges::default() };
    let none = OwnedFields::default();
    let view = RequestView {
        method: b"",
        host: b"",
        path: b"",
        query: None,
        fields: none.view(),
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let changed = changes.apply(node.clone(), &Facts::of(view)).expect("nothing is set");
    assert!(json::parse(&changed).is_ok(), "{}", changed.escape_ascii());
    Some(node)
}

/// Hardened twice is hardened once, and no attribute is lost that makes a cookie safe.
fn cookies_alone(value: &[u8]) {
    if value.iter().any(|b| *b < b' ' || *b == 0x7f) {
        return;
    }
    let hard = CookieSettings {
        secure: true,
        http_only: true,
        same_site: Some(SameSite::Lax),
        ..CookieSettings::default()
    };
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    hard.apply(value, &mut once);
    hard.apply(&once, &mut twice);
    assert_eq!(once, twice, "{}", value.escape_ascii());
    assert!(once.ends_with(b"; Secure; HttpOnly; SameSite=Lax"));
}
