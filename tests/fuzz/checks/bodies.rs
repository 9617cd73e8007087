//! Bodies that a schema judges: what passes is one JSON text that serde_json reads as well, with no name twice in an object and
//! not too deep; and where it passes, the schema holds.

use ringgate::base::Tick;
use ringgate::http::{Fault, Field, Fields, Known, RequestView, Span};
use ringgate::policy::validate::{Body, Core, Policy, Settings, Source};
use ringgate::policy::{Findings, Subject, Verdict};
use std::net::{IpAddr, Ipv4Addr};

const DEPTH: usize = 8;
// A name that has to be text.
const SCHEMA: &str = r#"{ "properties": { "a": { "type": "string", "pattern": "^(x+)+$" } } }"#;

/// See the module's documentation.
pub fn bodies(data: &[u8]) {
    let body = Body { schema: Some(Source::Text(SCHEMA.to_owned())), ..Body::default() };
    let settings = Settings { body: Some(body), depth: DEPTH, ..Settings::default() };
    let policy = Policy::build(&settings, &|_| None, None).expect("the schema is right");
    let buf = format!("content-typeapplication/jsoncontent-length{}", data.len());
    let span = |start: usize, end: usize| Span { start: start as u32, end: end as u32 };
    let list = [
        Field { name: span(0, 12), value: span(12, 28), known: Known::ContentType },
        Field { name: span(28, 42), value: span(42, buf.len()), known: Known::Other },
    ];
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let view = RequestView {
        method: b"POST",
        host: b"a.test",
        path: b"/a",
        query: None,
        fields: Fields::new(buf.as_bytes(), &list),
        peer: client,
    };
    let subject = Subject {
        view,
        client,
        scheme: "https",
        port: 443,
        listener: "web",
        rule: "api",
        tls: None,
        body: Some(data),
        decoded: false,
        preflight: false,
        now: Tick::from_nanos(0),
        unix: 0,
    };
    let mut findings = Findings::default();
    let core = Core::bind(&policy, None);
    let passes = match policy.check(&core, &subject, &mut findings, None) {
        Verdict::Pass => true,
        Verdict::Refuse(Fault::Invalid) => false,
        verdict => panic!("{verdict:?}"),
    };
    let right = data.is_empty() || reference(data);
    assert_eq!(passes, right, "{:?}: {}", data.escape_ascii(), findings.detail);
    assert_eq!(passes, findings.detail.is_empty());
    assert!(findings.detail.chars().count() < 500);
}

fn reference(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else { return false };
    let name = match value.get("a") {
        None => true,
        Some(serde_json::Value::String(text)) => {
            !text.is_empty() && text.bytes().all(|b| b == b'x')
        }
        Some(_) => false,
    };
    depth(data) <= DEPTH && names(data) == members(&value) && name
}

// Levels that are open at the same time, strings aside.
fn depth(data: &[u8]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    outside_of_strings(data, |octet| match octet {
        b'[' | b'{' => {
            now += 1;
            most = most.max(now);
        }
        b']' | b'}' => now = now.saturating_sub(1),
        _ => {}
    });
    most
}

// Each name has one colon behind it.
fn names(data: &[u8]) -> usize {
    let mut count = 0;
    outside_of_strings(data, |octet| count += usize::from(octet == b':'));
    count
}

fn members(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Object(all) => all.len() + all.values().map(members).sum::<usize>(),
        serde_json::Value::Array(all) => all.iter().map(members).sum(),
        _ => 0,
    }
}

fn outside_of_strings(data: &[u8], mut each: impl FnMut(u8)) {
    let (mut inside, mut escaped) = (false, false);
    for octet in data {
        match (inside, escaped, octet) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => inside = !inside,
            (false, ..) => each(*octet),
            _ => {}
        }
    }
}
