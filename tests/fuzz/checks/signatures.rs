//! Signed requests: whatever the fields of a signature say, who has no key does not pass, and nothing breaks.
//!
//! The first line of the input is `Signature-Input`, the second `Signature`, the third the query, any other a field `x-a`. The
//! key's secret is not among what is kept, so that no input can be right.

use ringgate::base::Tick;
use ringgate::http::{Field, Fields, Known, RequestView, Span};
use ringgate::policy::hmac::{Algorithm, Core, KeySettings, Policy, Secret, Settings, component};
use ringgate::policy::{Findings, Subject, Verdict};
use std::net::{IpAddr, Ipv4Addr};

const BODY: &[u8] = b"{}";
const NAMES: [&str; 3] = ["signature-input", "signature", "x-a"];

/// See the module's documentation.
pub fn signatures(data: &[u8]) {
    let policy = policy();
    let mut lines = data.split(|b| *b == b'\n');
    let mut buf = NAMES.concat().into_bytes();
    let mut list = Vec::new();
    let mut query = None;
    for (nth, line) in lines.by_ref().enumerate() {
        if nth == 2 {
            query = Some(line);
            continue;
        }
        let at = nth.min(2);
        let start: usize = NAMES[..at].iter().map(|name| name.len()).sum();
        let name = Span { start: start as u32, end: (start + NAMES[at].len()) as u32 };
        let start = buf.len() as u32;
        buf.extend_from_slice(line);
        let value = Span { start, end: buf.len() as u32 };
        list.push(Field { name, value, known: Known::Other });
    }
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let view = RequestView {
        method: b"POST",
        host: b"a.test",
        path: b"/a",
        query,
        fields: Fields::new(&buf, &list),
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
        body: Some(BODY),
        decoded: false,
        preflight: false,
        now: Tick::from_nanos(0),
        unix: 1_618_884_473,
    };
    let mut findings = Findings::default();
    let core = Core::bind(&policy, None);
    let verdict = policy.check(&core, &subject, &mut findings, None);
    assert!(matches!(verdict, Verdict::Refuse(_)), "{:?}", data.escape_ascii());
    assert_eq!(findings.identity.consumer, "");
    assert!(!findings.detail.is_empty() && !findings.detail.chars().any(char::is_control));
    let first = data.split(|b| *b == b'\n').next().unwrap_or_default();
    if let Some(id) = std::str::from_utf8(first).ok().and_then(component) {
        // What names a component is written the same way when it is read again.
        let again = id.replacen('"', "", 1).replacen('"', "", 1);
        assert_eq!(component(&again), Some(id));
    }
}

fn policy() -> Policy {
    let key = KeySettings {
        id: "k".to_owned(),
        algorithm: Algorithm::HmacSha256,
        secret: Some(Secret("bm90IGFtb25nIHdoYXQgaXMga2VwdC4uLg==".to_owned())),
        public_key: None,
        consumer: None,
    };
    let settings = Settings { keys: vec![key], require: Some(Vec::new()), ..Settings::default() };
    Policy::build(&settings, &|_| None, None).expect("the key is right")
}
