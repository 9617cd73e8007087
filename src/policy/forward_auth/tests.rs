//! Decisions over hand-made requests; what the service would say is scripted.

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use std::collections::BTreeMap;

fn names(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|name| Box::from(*name)).collect()
}

fn settings() -> Settings {
    Settings {
        url: "http://auth.test/check".into(),
        ca: None,
        send: names(&["authorization", "cookie"]),
        headers_to_target: names(&["x-user", "x-role"]),
        headers_to_client: names(&["set-cookie"]),
        answer_headers: names(&["location", "set-cookie", "content-type", "www-authenticate"]),
        consumer: Some("x-user".into()),
        answer_limit: 1024,
        timeout: Duration::from_secs(5),
        cache: Duration::from_secs(10),
        allow_on_failure: false,
    }
}

struct Rig {
    policy: Policy,
    core: Core,
    now: Tick,
    findings: Findings,
    fields: Vec<(&'static str, &'static str)>,
    method: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    client: &'static str,
    port: u16,
}

impl Rig {
    fn new(settings: Settings) -> Rig {
        let policy = Policy::build(&settings, &|_| None, None).unwrap();
        Rig {
            core: Core::bind(&policy, None),
            policy,
            now: Tick::from_nanos(1),
            findings: Findings::default(),
            fields: vec![("Authorization", "Bearer t"), ("Cookie", "a=1")],
            method: "GET",
            path: "/x",
            query: Some("y=z"),
            client: "192.0.2.1",
            port: 443,
        }
    }

    fn check(&mut self, reply: Option<Reply>) -> Verdict {
        self.findings = Findings::default();
        let fields: OwnedFields = self.fields.iter().copied().collect();
        let client = self.client.parse().unwrap();
        let view = RequestView {
            method: self.method.as_bytes(),
            host: b"a.test",
            path: self.path.as_bytes(),
            query: self.query.map(str::as_bytes),
            fields: fields.view(),
            peer: client,
        };
        let subject = Subject {
            view,
            client,
            scheme: "https",
            port: self.port,
            listener: "l",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: self.now,
            unix: 0,
        };
        self.policy.check(&self.core, &subject, &mut self.findings, reply)
    }

    fn then(&mut self, status: u16, fields: &[(&str, &str)], body: &str) -> Verdict {
        let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let called = Called { status, fields, body: body.into() };
        self.check(Some(Reply::Called(Arc::new(called))))
    }

    fn sent(&mut self) -> BTreeMap<String, Vec<String>> {
        let verdict = self.check(None);
        let Verdict::Ask(question) = verdict else { panic!("{verdict:?}") };
        let Question::Call(call) = *question else { panic!() };
        assert_eq!((call.method, call.url.as_str()), ("GET", "http://auth.test/check"));
        assert!(call.body.is_empty());
        let mut sent: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in call.fields {
            sent.entry(name).or_default().push(String::from_utf8(value).unwrap());
        }
        sent
    }

    fn asks(&mut self) -> bool {
        matches!(self.check(None), Verdict::Ask(_))
    }
}

#[test]
fn the_service_is_sent_what_ringgate_knows_and_nothing_a_client_can_forge() {
    let mut rig = Rig::new(settings());
    rig.fields.extend([
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Method", "HEAD"),
        ("x-forwarded-uri", "/public"),
        ("X-Original-URL", "/public"),
        ("X-User", "admin"),
        ("Accept", "text/html"),
        ("Cookie", "b=2"),
        ("X-Forwarded-Anything", "x"),
    ]);
    rig.port = 8443;
    let expected: BTreeMap<String, Vec<String>> = [
        ("authorization", "Bearer t"),
        ("cookie", "a=1; b=2"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "a.test:8443"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-port", "8443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-uri", "/x?y=z"),
        ("x-original-method", "GET"),
        ("x-original-url", "https://a.test:8443/x?y=z"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), vec![value.to_owned()]))
    .collect();
    let sent = rig.sent();
    assert_eq!(sent, expected);
    for name in sent.keys().filter(|name| !["authorization", "cookie"].contains(&name.as_str())) {
        assert!(is_ours(name), "{name} could be named in `send`");
    }
    let mut rig = Rig::new(Settings { send: names(&["accept", "x-none"]), ..settings() });
    rig.fields.extend([("Accept", "a"), ("accept", "b")]);
    let sent = rig.sent();
    assert_eq!(sent["accept"], ["a", "b"]);
    assert!(!sent.contains_key("authorization") && !sent.contains_key("x-none"));
    assert_eq!(sent["x-forwarded-host"], ["a.test"]);
}

#[test]
fn what_passes_takes_along_what_the_service_says() {
    let mut rig = Rig::new(Settings { cache: Duration::ZERO, ..settings() });
    let fields = [
        ("x-user", "u1"),
        ("x-role", "a"),
        ("x-role", "b"),
        ("x-other", "no"),
        ("set-cookie", "s=1"),
        ("x-user", "bad\r\nx-admin: 1"),
    ];
    let verdict = rig.then(204, &fields, "ignored");
    assert!(matches!(verdict, Verdict::Pass));
    assert_eq!(rig.findings.upstream, b"x-user: u1\r\nx-role: a\r\nx-role: b\r\n");
    assert_eq!(rig.findings.response, b"set-cookie: s=1\r\n");
    assert_eq!(rig.findings.identity.consumer, "u1");
    assert!(rig.asks(), "nothing is remembered");
    assert_eq!(rig.policy.owns(), names(&["x-user", "x-role"]));
}

#[test]
fn refusals_and_redirects_are_the_clients_answer_and_failures_are_not() {
    for (status, answered) in [
        (300, true),
        (302, true),
        (303, true),
        (304, false),
        (307, true),
        (401, true),
        (403, true),
        (429, true),
        (400, false),
        (404, false),
        (407, false),
        (500, false),
        (502, false),
        (503, false),
        (101, false),
        (600, false),
    ] {
        let mut rig = Rig::new(settings());
        let fields = [
            ("location", "https://login.test/?x=1"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2\r\nevil: 1"),
            ("x-user", "u1"),
            ("content-type", "text/html"),
            ("transfer-encoding", "chunked"),
        ];
        match rig.then(status, &fields, "<p>no</p>") {
            Verdict::Answer(answer) if answered => {
                assert_eq!(
                    (answer.status, answer.body.as_slice()),
                    (status, b"<p>no</p>".as_slice())
                );
                let lines = String::from_utf8(answer.fields).unwrap();
                let expected = "location: https://login.test/?x=1\r\nset-cookie: a=1\r\n\
                                content-type: text/html\r\n";
                assert_eq!(lines, expected);
            }
            Verdict::Refuse(Fault::DecisionUnavailable) if !answered => {
                assert!(rig.asks(), "a failure is not remembered");
            }
            other => panic!("{status}: {other:?}"),
        }
        assert!(rig.findings.upstream.is_empty() && rig.findings.identity.consumer.is_empty());
    }
}

#[test]
fn without_an_answer_nobody_passes_unless_the_file_says_so() {
    for (allow, expected) in [(false, "refused"), (true, "passed")] {
        let mut rig = Rig::new(Settings { allow_on_failure: allow, ..settings() });
        let failed = Reply::Failed(Arc::from("down"));
        for verdict in [rig.check(Some(failed)), rig.then(500, &[("x-user", "admin")], "")] {
            let got = match verdict {
                Verdict::Pass => "passed",
                Verdict::Refuse(Fault::DecisionUnavailable) => "refused",
                other => panic!("{other:?}"),
            };
            assert_eq!(got, expected);
        }
        assert!(rig.findings.upstream.is_empty(), "nothing that the service did not decide");
        let answer = rig.then(403, &[], "");
        assert!(matches!(answer, Verdict::Answer(_)), "a refusal is none the less one");
    }
}

// What a client can bring about, by a head that the service does not take, by an echo that is too large or by many requests,
// opens nothing.
#[test]
fn auth_11_only_a_service_that_fails_lets_anybody_pass() {
    let mut rig = Rig::new(Settings { allow_on_failure: true, ..settings() });
    for status in [304, 400, 404, 413, 414, 431, 499] {
        let verdict = rig.then(status, &[("x-user", "admin")], "");
        let refused = matches!(verdict, Verdict::Refuse(Fault::DecisionUnavailable));
        assert!(refused, "{status}: {verdict:?}");
    }
    let verdict = rig.check(Some(Reply::Unasked(Arc::from("too many questions are open"))));
    assert!(matches!(verdict, Verdict::Refuse(Fault::DecisionUnavailable)), "{verdict:?}");
    for status in [500, 502, 503] {
        assert!(matches!(rig.then(status, &[], ""), Verdict::Pass), "{status}");
    }
}

// A login may set a cookie for each browser that comes to it: two behind one address are not taken for one.
#[test]
fn auth_22_clients_that_have_sent_nothing_of_their_own_are_asked_for_apart() {
    let mut rig = Rig::new(settings());
    let once = |rig: &mut Rig| match rig.check(None) {
        Verdict::Ask(question) => match *question {
            Question::Call(call) => call.once,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert!(once(&mut rig).is_some());
    rig.fields = vec![("Accept", "text/html")];
    assert_eq!(once(&mut rig), None);
}

#[test]
fn auth_22_a_decision_holds_only_for_all_that_was_sent() {
    let change: [fn(&mut Rig); 8] = [
        |rig| rig.fields[0].1 = "Bearer T",
        |rig| rig.fields[1].1 = "a=2",
        |rig| rig.fields.truncate(1),
        |rig| rig.method = "POST",
        |rig| rig.path = "/X",
        |rig| rig.query = None,
        |rig| rig.client = "192.0.2.2",
        |rig| rig.port = 80,
    ];
    for (at, change) in change.iter().enumerate() {
        let mut rig = Rig::new(settings());
        assert!(matches!(rig.then(200, &[("x-user", "u1")], ""), Verdict::Pass));
        assert!(matches!(rig.check(None), Verdict::Pass));
        assert_eq!(rig.findings.upstream, b"x-user: u1\r\n");
        change(&mut rig);
        assert!(rig.asks(), "change {at}");
    }
    let mut rig = Rig::new(settings());
    rig.fields.push(("X-Unsent", "1"));
    rig.then(200, &[], "");
    rig.fields.pop();
    assert!(!rig.asks(), "what is not sent does not matter");
    rig.now = rig.now.after(Duration::from_secs(10));
    assert!(rig.asks(), "its time is over");
}

#[test]
fn refusals_are_remembered_and_logins_are_not() {
    for (status, fields, lasting) in [
        (200, vec![("set-cookie", "a=1")], false),
        (401, vec![], true),
        (403, vec![], true),
        (403, vec![("set-cookie", "a=1")], false),
        (302, vec![], false),
        (429, vec![], false),
    ] {
        let mut rig = Rig::new(settings());
        rig.then(status, &fields, "");
        assert_eq!(!rig.asks(), lasting, "{status} {fields:?}");
    }
}

#[test]
fn only_a_reload_that_changes_nothing_keeps_decisions() {
    let mut rig = Rig::new(settings());
    rig.then(200, &[], "");
    for (settings, known) in
        [(settings(), true), (Settings { timeout: Duration::from_secs(9), ..settings() }, false)]
    {
        let policy = Policy::build(&settings, &|_| None, Some(&rig.policy)).unwrap();
        rig.core = Core::bind(&policy, Some(&rig.core));
        rig.policy = policy;
        assert_eq!(!rig.asks(), known);
    }
}
