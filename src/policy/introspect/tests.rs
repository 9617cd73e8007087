//! Decisions over hand-made requests; what the issuer would say is scripted.

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use crate::policy::ask::Called;

const NOW: u64 = 1_800_000_000;

fn settings() -> Settings {
    Settings {
        endpoint: "https://id.test/introspect".into(),
        credentials: Credentials::Client("gate way".into(), Hidden(b"s:ec&ret".as_slice().into())),
        ca: None,
        timeout: Duration::from_secs(2),
        cache: Duration::from_secs(60),
        cache_inactive: Duration::from_secs(10),
        carriers: vec![Carrier::Header { name: "authorization".into(), scheme: "Bearer".into() }],
        issuer: Vec::new(),
        audience: Vec::new(),
        claims: Vec::new(),
        scopes: Vec::new(),
        claims_to_headers: vec![("x-user".into(), "sub".into()), ("x-bad".into(), "bad".into())],
        consumer: "sub".into(),
        optional: false,
        forward: false,
        failures: 3,
    }
}

/// A policy, a core, the time, and what the last request left behind.
struct Rig {
    policy: Policy,
    core: Core,
    now: Tick,
    unix: u64,
    findings: Findings,
}

impl Rig {
    fn new(settings: Settings) -> Rig {
        let policy = Policy::build(&settings, &|_| None, None).unwrap();
        let core = Core::bind(&policy, None);
        Rig { policy, core, now: Tick::from_nanos(1), unix: NOW, findings: Findings::default() }
    }

    fn check(&mut self, authorization: &[&str], from: &str, reply: Option<Reply>) -> Verdict {
        self.findings = Findings::default();
        let fields: OwnedFields = authorization.iter().map(|a| ("Authorization", *a)).collect();
        let client = from.parse().unwrap();
        let view = RequestView {
            method: b"GET",
            host: b"a.test",
            path: b"/",
            query: None,
            fields: fields.view(),
            peer: client,
        };
        let subject = Subject {
            view,
            client,
            scheme: "https",
            port: 443,
            listener: "l",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: self.now,
            unix: self.unix,
        };
        self.policy.check(&self.core, &subject, &mut self.findings, reply)
    }

    /// A request with a token: what is asked, or the verdict in a word.
    fn first(&mut self, token: &str) -> String {
        let verdict = self.check(&[&format!("Bearer {token}")], "192.0.2.1", None);
        word(&verdict)
    }

    /// The same once the issuer has answered.
    fn then(&mut self, token: &str, status: u16, body: &str) -> String {
        let called = Called { status, fields: Vec::new(), body: body.into() };
        let reply = Some(Reply::Called(Arc::new(called)));
        let verdict = self.check(&[&format!("Bearer {token}")], "192.0.2.1", reply);
        word(&verdict)
    }

    fn response(&self) -> &str {
        std::str::from_utf8(&self.findings.response).unwrap()
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Ask(_) => "ask".to_owned(),
        Verdict::Refuse(fault) => fault.code().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_issuer_is_asked_as_the_rfc_says() {
    let mut rig = Rig::new(settings());
    let verdict = rig.check(&["bearer a+b/c=&x"], "192.0.2.1", None);
    let Verdict::Ask(question) = verdict else { panic!("{verdict:?}") };
    assert_eq!(format!("{question:?}"), "POST https://id.test/introspect", "AUTH-14");
    let Question::Call(call) = *question else { panic!() };
    assert_eq!(call.method, "POST");
    assert_eq!(call.body, b"token_type_hint=access_token&token=a%2Bb%2Fc%3D%26x");
    let field = |name: &str| {
        let found = call.fields.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| String::from_utf8(value.clone()).unwrap())
    };
    let expected = format!("Basic {}", BASE64_STANDARD.encode("gate%20way:s%3Aec%26ret"));
    assert_eq!(field("authorization"), Some(expected));
    assert_eq!(field("content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    assert!(call.once.is_some() && call.keep <= SHARED);
    let bearer = Credentials::Bearer(Hidden(b"t0k".as_slice().into()));
    let rig = Rig::new(Settings { credentials: bearer, ..settings() });
    assert_eq!(rig.policy.authorization, Some(Hidden(b"Bearer t0k".as_slice().into())));
    let shown = format!("{:?} {:?}", rig.policy, settings());
    assert!(!shown.contains("t0k") && !shown.contains("ec&ret"), "AUTH-14: {shown}");
}

#[test]
fn an_active_token_passes_and_is_known_until_it_ends() {
    let mut rig = Rig::new(settings());
    let body = format!(r#"{{"active":true,"sub":"u1","bad":"a\r\nb","exp":{}}}"#, NOW + 30);
    assert_eq!(rig.first("t"), "ask");
    assert_eq!(rig.then("t", 200, &body), "pass");
    for _ in 0..2 {
        assert_eq!(rig.findings.identity.consumer, "u1");
        assert_eq!(rig.findings.identity.claim("sub").as_deref(), Some("u1"));
        assert_eq!(rig.findings.upstream, b"x-user: u1\r\n", "no line of its own");
        assert_eq!(rig.first("t"), "pass");
    }
    assert_eq!(rig.first("T"), "ask", "another token");
    rig.now = rig.now.after(Duration::from_secs(30));
    assert_eq!(rig.first("t"), "ask", "its exp is sooner than the cache's end");
    rig.now = Tick::from_nanos(1);
    rig.unix = NOW + 30;
    assert_eq!(rig.first("t"), "token_expired", "by the wall clock");
    let mut rig = Rig::new(Settings { cache: Duration::ZERO, ..settings() });
    assert_eq!(rig.then("t", 200, r#"{"active":true}"#), "pass");
    assert_eq!(rig.first("t"), "ask");
}

#[test]
fn auth_06_and_08_answers_are_judged_strictly() {
    let audience = vec![Box::from("api")];
    let strict = Settings {
        audience,
        issuer: vec!["https://id.test/".into()],
        failures: 0,
        cache_inactive: Duration::ZERO,
        ..settings()
    };
    for (strictly, status, body, expected) in [
        (false, 200, r#"{"active":true}"#, "pass"),
        (false, 200, r#"{"active":false}"#, "token_invalid"),
        (false, 200, r#"{"active":"true"}"#, "authorization_unavailable"),
        (false, 200, r#"{"active":1}"#, "authorization_unavailable"),
        (false, 200, r#"{"active":null}"#, "authorization_unavailable"),
        (false, 200, r#"{"active":false,"active":true}"#, "authorization_unavailable"),
        (false, 200, r#"{}"#, "authorization_unavailable"),
        (false, 200, r#"[true]"#, "authorization_unavailable"),
        (false, 200, r#""#, "authorization_unavailable"),
        (false, 200, "<html>", "authorization_unavailable"),
        (false, 200, "\u{feff}{\"active\":true}", "authorization_unavailable"),
        (false, 200, r#"{"active":true} x"#, "authorization_unavailable"),
        (false, 201, r#"{"active":true}"#, "authorization_unavailable"),
        (false, 302, r#"{"active":true}"#, "authorization_unavailable"),
        (false, 401, r#"{"active":true}"#, "authorization_unavailable"),
        (false, 500, r#"{"active":true}"#, "authorization_unavailable"),
        (false, 200, r#"{"active":true,"exp":1799999999}"#, "token_expired"),
        (false, 200, r#"{"active":true,"exp":1800000000}"#, "token_expired"),
        (false, 200, r#"{"active":true,"exp":1800000000.9}"#, "token_expired"),
        (false, 200, r#"{"active":true,"exp":1800000001}"#, "pass"),
        (false, 200, r#"{"active":true,"exp":"1900000000"}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"exp":null}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"exp":-1}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"exp":1e400}"#, "authorization_unavailable"),
        (false, 200, r#"{"active":true,"exp":1e300}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"nbf":1800000060}"#, "pass"),
        (false, 200, r#"{"active":true,"nbf":1800000061}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"nbf":"0"}"#, "token_invalid"),
        (false, 200, r#"{"active":true,"iat":1900000000}"#, "token_invalid"),
        (true, 200, r#"{"active":true}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"iss":"https://id.test/","aud":"api"}"#, "pass"),
        (true, 200, r#"{"active":true,"iss":"https://id.test/","aud":["x","api"]}"#, "pass"),
        (true, 200, r#"{"active":true,"iss":"https://id.test/","aud":"api2"}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"iss":"https://id.test/","aud":["ap"]}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"iss":"https://id.test/","aud":{"api":1}}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"iss":"https://id.test","aud":"api"}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"iss":["https://id.test/"],"aud":"api"}"#, "token_invalid"),
        (true, 200, r#"{"active":true,"aud":"api"}"#, "token_invalid"),
    ] {
        let mut rig = Rig::new(if strictly { strict.clone() } else { settings() });
        assert_eq!(rig.then("t", status, body), expected, "{status} {body}");
        let unavailable = expected == "authorization_unavailable";
        let told = rig.response().contains("error=\"invalid_token\"");
        assert_eq!(told, expected.starts_with("token_"), "{}", rig.response());
        assert!(rig.findings.upstream.is_empty());
        if unavailable {
            assert_eq!(rig.first("t"), "ask", "a failure is not remembered");
        }
    }
}

#[test]
fn scopes_and_claims_are_required() {
    let needs = Settings {
        scopes: vec!["read".into(), "admin".into()],
        claims: vec![("tenant".into(), vec!["a".into(), "b".into()])],
        ..settings()
    };
    for (body, expected) in [
        (r#"{"active":true,"scope":"x read","tenant":"a"}"#, "pass"),
        (r#"{"active":true,"scope":["admin"],"tenant":["c","b"]}"#, "pass"),
        (r#"{"active":true,"scp":"read","tenant":"b"}"#, "pass"),
        (r#"{"active":true,"scope":"reader","tenant":"a"}"#, "insufficient_scope"),
        (r#"{"active":true,"tenant":"a"}"#, "insufficient_scope"),
        (r#"{"active":true,"scope":"read"}"#, "insufficient_scope"),
        (r#"{"active":true,"scope":"read","tenant":"c"}"#, "insufficient_scope"),
        (r#"{"active":true,"scope":"read","tenant":{"a":1}}"#, "insufficient_scope"),
    ] {
        let mut rig = Rig::new(needs.clone());
        for _ in 0..2 {
            let got = rig.first("t");
            let got = if got == "ask" { rig.then("t", 200, body) } else { got };
            assert_eq!(got, expected, "{body}");
        }
        let challenge = "Bearer error=\"insufficient_scope\", scope=\"read admin\"";
        assert_eq!(rig.response().contains(challenge), expected != "pass");
    }
}

#[test]
fn requests_without_one_good_token_are_not_asked_about() {
    let long = format!("Bearer {}", "x".repeat(LONGEST_TOKEN + 1));
    let cases: [(&[&str], &str); 7] = [
        (&[], "token_missing"),
        (&["Basic x"], "token_missing"),
        (&["Bearer "], "token_invalid"),
        (&["Bearer a b"], "token_invalid"),
        (&["Bearer a\tb"], "token_invalid"),
        (&[&long], "token_invalid"),
        (&["Bearer a", "Bearer b"], "token_invalid"),
    ];
    for (fields, expected) in cases {
        let mut rig = Rig::new(settings());
        let verdict = rig.check(fields, "192.0.2.1", None);
        assert_eq!(word(&verdict), expected, "{fields:?}");
        assert!(rig.response().starts_with("www-authenticate: Bearer"));
        let mut rig = Rig::new(Settings { optional: true, ..settings() });
        let verdict = rig.check(fields, "192.0.2.1", None);
        let expected = if expected == "token_missing" { "pass" } else { expected };
        assert_eq!(word(&verdict), expected, "{fields:?}");
    }
}

#[test]
fn who_makes_tokens_up_is_slowed_down() {
    let mut rig = Rig::new(settings());
    for token in ["a", "b", "c"] {
        assert_eq!(rig.first(token), "ask");
        assert_eq!(rig.then(token, 200, r#"{"active":false}"#), "token_invalid");
        assert_eq!(rig.then(token, 200, r#"{"active":false}"#), "token_invalid", "counts once");
        assert_eq!(rig.first(token), "token_invalid", "remembered");
    }
    assert_eq!(rig.first("d"), "rate_limited");
    assert!(rig.response().starts_with("retry-after: "));
    assert_eq!(word(&rig.check(&["Bearer d"], "192.0.2.2", None)), "ask", "from elsewhere");
    rig.now = rig.now.after(WINDOW);
    assert_eq!(rig.first("d"), "ask");
    assert_eq!(rig.first("a"), "ask", "it may have become active");
}

#[test]
fn without_an_answer_nobody_passes() {
    let mut rig = Rig::new(settings());
    for reply in [Reply::Failed(Arc::from("too slow")), Reply::Password(true)] {
        let verdict = rig.check(&["Bearer t"], "192.0.2.1", Some(reply));
        assert_eq!(word(&verdict), "authorization_unavailable");
    }
}

#[test]
fn auth_22_only_a_reload_that_changes_nothing_keeps_what_is_known() {
    let mut rig = Rig::new(settings());
    assert_eq!(rig.then("t", 200, r#"{"active":true}"#), "pass");
    let reload = |rig: &mut Rig, settings: &Settings| {
        let policy = Policy::build(settings, &|_| None, Some(&rig.policy)).unwrap();
        rig.core = Core::bind(&policy, Some(&rig.core));
        rig.policy = policy;
    };
    reload(&mut rig, &settings());
    assert_eq!(rig.first("t"), "pass");
    reload(&mut rig, &Settings { audience: vec!["api".into()], ..settings() });
    assert_eq!(rig.first("t"), "ask");
    reload(&mut rig, &settings());
    assert_eq!(rig.first("t"), "ask");
}

#[test]
fn auth_11_a_bad_ca_is_refused_at_load() {
    let settings = Settings { ca: Some("ca.pem".into()), ..settings() };
    let certificate = rcgen::generate_simple_self_signed(["id.test".to_owned()]).unwrap();
    let good = certificate.cert.pem();
    for (text, fits) in [
        (good.as_str(), true),
        ("", false),
        ("junk", false),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", false),
    ] {
        let octets: Arc<[u8]> = Arc::from(text.as_bytes());
        let built = Policy::build(&settings, &|_| Some(Arc::clone(&octets)), None);
        assert_eq!(built.is_ok(), fits, "{text}");
    }
    assert!(Policy::build(&settings, &|_| None, None).is_err());
}

#[test]
fn the_token_stays_here_unless_it_is_to_be_sent_on() {
    let policy = |settings| Policy::build(&settings, &|_| None, None).unwrap();
    let carriers = vec![Carrier::Cookie("c".into()), Carrier::Query("q".into())];
    let kept = policy(Settings { carriers, ..settings() });
    let consumed = [Consumed::Cookie("c".into()), Consumed::Query("q".into())];
    assert_eq!(kept.consumes(), consumed);
    assert_eq!(kept.owns(), ["x-user".into(), "x-bad".into()]);
    assert_eq!(policy(Settings { forward: true, ..settings() }).consumes(), []);
}
