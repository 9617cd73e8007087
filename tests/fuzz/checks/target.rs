//! Request targets and hosts (hazards URI-01 to URI-08, H1-23 to H1-25): one canonical form, and what is routed is what is
//! sent.
//!
//! The first line of the input is the target, the second the Host field; without a second line the host is `a`.

use ringgate::config::Redirect;
use ringgate::http::path::{self, PathPolicy};
use ringgate::http::request::Form;
use ringgate::http::scan::{Scan, SectionLimits};
use ringgate::http::{RequestHead, RequestView, host, write};
use ringgate::route::{ListenerId, RuleId, RuleSpec, Table};
use ringgate::snapshot::redirect::RedirectTemplate;
use ringgate::transform::{Facts, Scope, Template};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMITS: SectionLimits =
    SectionLimits { size: 1 << 20, line: 1 << 20, fields: 8, bare_lf: false };

/// See the module's documentation.
pub fn target(data: &[u8]) {
    let mut lines = data.splitn(2, |b| *b == b'\n');
    let target = lines.next().unwrap_or_default();
    let named = lines.next().unwrap_or(b"a");
    host_alone(named);
    let mut policies = Vec::new();
    for merge_slashes in [true, false] {
        for keep_separators in [true, false] {
            policies.push(PathPolicy { merge_slashes, keep_separators });
        }
    }
    for policy in policies {
        path_alone(target.split(|b| *b == b'?').next().unwrap_or_default(), policy);
        for method in [&b"GET"[..], b"OPTIONS"] {
            let mut text = [method, b" ", target, b" HTTP/1.1\r\nHost: ", named].concat();
            text.extend_from_slice(b"\r\n\r\n");
            if Scan::default().find_end(&text, &LIMITS) == Ok(Some(text.len())) {
                in_a_head(&text, target, policy);
            }
        }
    }
}

fn path_alone(sent: &[u8], policy: PathPolicy) {
    let mut out = b"before".to_vec();
    let verdict = path::canonical(sent, policy, &mut out);
    let expected = reference(sent, policy);
    let shown = sent.escape_ascii();
    assert_eq!(verdict.is_ok(), expected.is_some(), "{shown} with {policy:?}: {verdict:?}");
    let Some(expected) = expected else { return };
    assert_eq!(verdict, Ok(expected != sent), "{shown} with {policy:?}");
    if verdict == Ok(true) {
        assert_eq!(out.strip_prefix(b"before"), Some(&expected[..]), "{shown} with {policy:?}");
    }
    is_canonical(&expected, policy);
}

/// What every path must be that is routed and sent. Also used for whole heads.
pub fn is_canonical(path: &[u8], policy: PathPolicy) {
    let shown = path.escape_ascii();
    assert_eq!(path.first(), Some(&b'/'), "{shown}");
    assert_eq!(path::canonical(path, policy, &mut Vec::new()), Ok(false), "{shown} moves on");
    let plain = b"-._~!$&'()*+,;=:@/%";
    assert!(path.iter().all(|b| b.is_ascii_alphanumeric() || plain.contains(b)), "{shown}");
    // Whoever decodes it once finds no dot segment and no separator that was not there before.
    let mut segments = path[1..].split(|b| *b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let decoded = decode(segment).unwrap_or_else(|| panic!("a broken escape in {shown}"));
        assert!(decoded != b"." && decoded != b"..", "a dot segment in {shown}");
        assert!(!decoded.contains(&0), "a NUL in {shown}");
        if policy.merge_slashes && segments.peek().is_some() {
            assert!(!segment.is_empty(), "a doubled slash in {shown}");
        }
        if !policy.keep_separators {
            let clean = !decoded.iter().any(|b| matches!(b, b'/' | b'\\' | b'?' | b'#'));
            assert!(clean, "an encoded separator in {shown}");
            let semicolons = |text: &[u8]| text.iter().filter(|b| **b == b';').count();
            assert_eq!(semicolons(&decoded), semicolons(segment), "{shown}");
        }
    }
}

fn decode(segment: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < segment.len() {
        if segment[at] == b'%' {
            let digits = std::str::from_utf8(segment.get(at + 1..at + 3)?).ok()?;
            let hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
            out.push(hex.then(|| u8::from_str_radix(digits, 16).ok())??);
            at += 3;
        } else {
            out.push(segment[at]);
            at += 1;
        }
    }
    Some(out)
}

/// The canonical form by way of a list of decoded segments; `None` where the path is refused.
fn reference(path: &[u8], policy: PathPolicy) -> Option<Vec<u8>> {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(b);
    if !path.iter().all(allowed) {
        return None;
    }
    let mut kept: Vec<String> = Vec::new();
    let mut segments = path.strip_prefix(b"/")?.split(|b| *b == b'/').peekable();
    while let Some(raw) = segments.next() {
        let mut segment = String::new();
        let escaped = raw.contains(&b'%');
        let mut octets = raw.iter();
        while let Some(octet) = octets.next() {
            if *octet != b'%' {
                segment.push(char::from(*octet));
                continue;
            }
            let digit = |b: Option<&u8>| char::from(*b?).to_digit(16);
            let octet = digit(octets.next())? * 16 + digit(octets.next())?;
            let c = char::from_u32(octet)?;
            match c {
                '\0' => return None,
                '/' | '\\' | ';' | '?' | '#' if !policy.keep_separators => return None,
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => segment.push(c),
                _ => segment.push_str(&format!("%{octet:02X}")),
            }
        }
        assert!(escaped || segment.as_bytes() == raw);
        let last = segments.peek().is_none();
        match segment.as_str() {
            "." if last => kept.push(String::new()),
            "." => {}
            ".." => {
                kept.pop()?;
                if last {
                    kept.push(String::new());
                }
            }
            "" if policy.merge_slashes && !last => {}
            _ => kept.push(segment),
        }
    }
    Some(format!("/{}", kept.join("/")).into_bytes())
}

fn host_alone(named: &[u8]) {
    let mut canonical = b"before".to_vec();
    let verdict = host::canonical(named, &mut canonical);
    let Ok(port) = verdict else { return };
    let canonical = canonical.strip_prefix(b"before").unwrap_or_default();
    let shown = named.escape_ascii();
    let fine = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~[]:".contains(b);
    assert!(!canonical.is_empty() && canonical.iter().all(fine), "{shown}");
    assert!(canonical.len() <= 257 && port != Some(0), "{shown}");
    // However it is spelt, it is the same host.
    let (upper, lower) = (named.to_ascii_uppercase(), named.to_ascii_lowercase());
    let with_port = [canonical, b":8080"].concat();
    for spelling in [canonical, &upper, &lower, &with_port] {
        let mut again = Vec::new();
        assert!(host::canonical(spelling, &mut again).is_ok(), "{shown}");
        assert_eq!(again, canonical, "{shown}");
    }
}

fn in_a_head(text: &[u8], target: &[u8], policy: PathPolicy) {
    let mut head = RequestHead::default();
    if head.parse(text, policy).is_err() {
        return;
    }
    assert_eq!(head.target.of(text), target);
    let view = head.view(text, PEER);
    if head.form == Form::Asterisk {
        assert_eq!((view.path, view.query), (&b"*"[..], None));
    } else {
        is_canonical(view.path, policy);
    }
    let mut sent = Vec::new();
    write::request_line(&mut sent, view.method, view.path, view.query);
    write::field(&mut sent, b"host", head.authority.of(text));
    sent.extend_from_slice(b"\r\n");
    let mut received = RequestHead::default();
    assert_eq!(received.parse(&sent, policy), Ok(()), "{}", sent.escape_ascii());
    let there = received.view(&sent, PEER);
    assert_eq!((there.host, there.path, there.query), (view.host, view.path, view.query));
    assert_eq!(received.port, head.port);
    assert_eq!(route(&there), route(&view), "{}", sent.escape_ascii());
    if head.form != Form::Asterisk {
        redirected(&view, policy);
    }
}

fn route(view: &RequestView<'_>) -> Option<RuleId> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let rules = [
            ("", "/admin", ""),
            ("", "/admin/*", ""),
            ("", "/a/*/c", ""),
            ("", "*.png", ""),
            ("", "", "^/v[0-9]+/"),
            ("api.*", "/?", ""),
            ("*.example.com", "", "[.]/|//"),
            ("a", "/*a", ""),
            ("a", "", ""),
            ("", "*%*", ""),
        ];
        let list = |text: &str| if text.is_empty() { vec![] } else { vec![text.to_owned()] };
        let spec = |(host, path, regex): (&str, &str, &str)| RuleSpec {
            host: list(host),
            path: list(path),
            path_regex: list(regex),
            ..RuleSpec::default()
        };
        Table::compile(&rules.map(spec)).expect("rules that are in order")
    });
    table.find(ListenerId(0), view)
}

/// A redirect built from the parts of a request leads to the same place, and begins no line of its own (hazard H1-33).
fn redirected(view: &RequestView<'_>, policy: PathPolicy) {
    let part = |text: &str| Template::parse(text, Scope::ANY).ok();
    let template = RedirectTemplate::new(&Redirect {
        scheme: Some("https".to_owned()),
        host: part("#{host}"),
        port: part("8443"),
        path: part("/#{path}"),
        query: part("#{query}"),
        status: 301,
    });
    let mut location = Vec::new();
    let facts = Facts { port: 80, ..Facts::of(*view) };
    assert!(template.location(&facts, &mut location).is_ok());
    let shown = location.escape_ascii();
    assert!(write::built_field(&mut Vec::new(), b"location", &location), "{shown}");
    let text =
        [b"GET ", &location[..], b" HTTP/1.1\r\nhost: ", view.host, b":8443\r\n\r\n"].concat();
    let mut head = RequestHead::default();
    assert_eq!(head.parse(&text, policy), Ok(()), "{shown}");
    let there = head.view(&text, PEER);
    assert_eq!((there.host, there.path), (view.host, view.path), "{shown}");
    assert_eq!(there.query.unwrap_or_default(), view.query.unwrap_or_default(), "{shown}");
}
