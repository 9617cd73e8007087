//! Logins as a browser and a provider see them, without either: a jar of cookies, and answers that are made here.

mod logins;
mod sessions;

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use crate::policy::ask::{Call, Called};
use crate::policy::{Identity, Question};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub fn settings() -> Settings {
    Settings {
        issuer: "https://id.test".into(),
        endpoints: Given::default(),
        hosts: vec!["keys.test".into()],
        client_id: "app".into(),
        client_secret: Some(Secret::new(b"s3cret")),
        client_auth: ClientAuth::Basic,
        scopes: vec!["openid".into(), "email".into()],
        parameters: vec![("prompt".into(), "login".into())],
        on_unauthenticated: OnUnauthenticated::Login,
        origin: None,
        callback_path: "/oauth2/callback".into(),
        logout_path: "/oauth2/logout".into(),
        after_logout: None,
        keys_path: "/oauth2/keys".into(),
        session_timeout: Duration::from_secs(7 * 24 * 3600),
        idle_timeout: Some(Duration::from_secs(24 * 3600)),
        login_timeout: Duration::from_secs(600),
        cookie: "rg-main".into(),
        secrets: vec![Secret::new(&[7; 32])],
        access_token: true,
        userinfo: true,
        algorithms: Algorithms::ASYMMETRIC,
        leeway: Duration::from_secs(30),
        timeout: Duration::from_secs(5),
        ca: None,
        signing_key: None,
    }
}

/// A request.
pub struct Asked {
    method: String,
    target: String,
    fields: OwnedFields,
    pub scheme: &'static str,
    pub host: &'static str,
    pub unix: u64,
}

impl Asked {
    pub fn new(method: &str, target: &str) -> Asked {
        let (fields, scheme, host) = (OwnedFields::default(), "https", "a.test");
        Asked { method: method.into(), target: target.into(), fields, scheme, host, unix: NOW }
    }

    pub fn fields(mut self, fields: &[(&str, &str)]) -> Asked {
        fields.iter().for_each(|(name, value)| self.fields.push(name, value));
        self
    }

    pub fn with<T>(&self, ask: impl FnOnce(&Subject<'_>) -> T) -> T {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (self.target.as_str(), None),
        };
        let local = IpAddr::from([127, 0, 0, 1]);
        ask(&Subject {
            view: RequestView {
                method: self.method.as_bytes(),
                host: self.host.as_bytes(),
                path: path.as_bytes(),
                query,
                fields: self.fields.view(),
                peer: local,
            },
            client: local,
            scheme: self.scheme,
            port: if self.scheme == "https" { 443 } else { 80 },
            listener: "web",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: Tick::ZERO.after(Duration::from_secs(self.unix - NOW + 1000)),
            unix: self.unix,
        })
    }
}

const NOW: u64 = 1_800_000_000;

/// What a provider does.
struct Idp {
    signer: Signer,
    nonce: RefCell<String>,
    calls: RefCell<Vec<Call>>,
    // Instead of what is right, for a URL.
    wrong: RefCell<BTreeMap<&'static str, Reply>>,
    claims: RefCell<Value>,
    refreshed: RefCell<u32>,
}

fn called(status: u16, body: &Value) -> Reply {
    Reply::Called(Arc::new(Called { status, fields: Vec::new(), body: body.to_string().into() }))
}

impl Idp {
    fn new() -> Idp {
        Idp {
            signer: Signer::new(&[Secret::new(b"the provider's own")], None).unwrap(),
            nonce: RefCell::default(),
            calls: RefCell::default(),
            wrong: RefCell::default(),
            claims: RefCell::new(json!({ "sub": "u1", "aud": "app", "email": "u@a.test" })),
            refreshed: RefCell::default(),
        }
    }

    fn id_token(&self) -> String {
        let mut claims = self.claims.borrow().as_object().unwrap().clone();
        claims.insert("nonce".into(), self.nonce.borrow().as_str().into());
        self.signer.sign(&claims, &settings(), NOW).unwrap()
    }

    fn answer(&self, call: Call, unix: u64) -> Reply {
        let url = call.url.clone();
        let form = String::from_utf8(call.body.clone()).unwrap();
        self.calls.borrow_mut().push(call);
        let path = url.strip_prefix("https://id.test").unwrap();
        if let Some(wrong) = self.wrong.borrow().get(path) {
            return wrong.clone();
        }
        match path {
            "/.well-known/openid-configuration" => called(
                200,
                &json!({
                    "issuer": "https://id.test",
                    "authorization_endpoint": "https://id.test/auth",
                    "token_endpoint": "https://id.test/token",
                    "userinfo_endpoint": "https://id.test/me",
                    "end_session_endpoint": "https://id.test/bye",
                    "jwks_uri": "https://id.test/jwks",
                }),
            ),
            "/jwks" => called(200, &serde_json::from_slice(&self.signer.jwks()).unwrap()),
            "/me" => called(200, &json!({ "sub": "u1", "name": "User One", "nonce": "x" })),
            "/token" if form.contains("grant_type=refresh_token") => {
                *self.refreshed.borrow_mut() += 1;
                let n = self.refreshed.borrow();
                let next = json!({
                    "access_token": format!("access-{n}"), "token_type": "Bearer",
                    "expires_in": 60, "refresh_token": format!("refresh-{n}"),
                });
                called(200, &next)
            }
            "/token" => {
                assert!(unix >= NOW && form.contains("code_verifier="), "{form}");
                let first = json!({
                    "access_token": "access-0", "token_type": "Bearer", "expires_in": 60,
                    "refresh_token": "refresh-0", "id_token": self.id_token(),
                });
                called(200, &first)
            }
            other => panic!("nobody asks {other}"),
        }
    }
}

/// A browser before one core.
struct Browser {
    policy: Policy,
    core: Core,
    idp: Rc<Idp>,
    jar: BTreeMap<String, String>,
    scheme: &'static str,
    host: &'static str,
    unix: u64,
}

#[derive(Debug)]
enum Got {
    Passed { upstream: String, consumer: String },
    Refused(Fault, String),
    Sent(String),
    Answered(String),
}

impl Browser {
    fn new(settings: Settings) -> Browser {
        let policy = Policy::build(&settings, &|_| None, None).unwrap();
        let core = Core::bind(&policy, None);
        let (idp, jar) = (Rc::new(Idp::new()), BTreeMap::new());
        Browser { policy, core, idp, jar, scheme: "https", host: "a.test", unix: NOW }
    }

    /// As after a reload with other settings.
    fn reload(&mut self, settings: Settings) {
        self.policy = Policy::build(&settings, &|_| None, Some(&self.policy)).unwrap();
        self.core = Core::bind(&self.policy, Some(&self.core));
    }

    fn asked(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Asked {
        let cookies: Vec<String> = self.jar.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut asked = Asked::new(method, target).fields(fields);
        if !cookies.is_empty() {
            asked = asked.fields(&[("cookie", &cookies.join("; "))]);
        }
        (asked.scheme, asked.host, asked.unix) = (self.scheme, self.host, self.unix);
        asked
    }

    fn send(&mut self, method: &str, target: &str, fields: &[(&str, &str)]) -> Got {
        let asked = self.asked(method, target, fields);
        let mut findings = Findings::default();
        let mut reply = None;
        for _ in 0..=4 {
            let verdict =
                asked.with(|s| self.policy.check(&self.core, s, &mut findings, reply.take()));
            match verdict {
                Verdict::Ask(question) => {
                    let Question::Call(call) = *question else { panic!("{question:?}") };
                    reply = Some(self.idp.answer(call, self.unix));
                }
                other => return self.take(other, findings),
            }
        }
        panic!("more than four questions");
    }

    fn take(&mut self, verdict: Verdict, findings: Findings) -> Got {
        self.keep(&findings.response);
        let Findings { identity: Identity { consumer, .. }, upstream, detail, .. } = findings;
        match verdict {
            Verdict::Pass => {
                Got::Passed { upstream: String::from_utf8(upstream).unwrap(), consumer }
            }
            Verdict::Refuse(fault) => Got::Refused(fault, detail),
            Verdict::Answer(answer) => {
                self.keep(&answer.fields);
                let fields = String::from_utf8(answer.fields).unwrap();
                match fields.lines().find_map(|line| line.strip_prefix("location: ")) {
                    Some(to) => {
                        assert!(matches!(answer.status, 302 | 303));
                        assert!(fields.contains("cache-control: no-store"), "{fields}");
                        Got::Sent(to.to_owned())
                    }
                    None => Got::Answered(String::from_utf8(answer.body).unwrap()),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn keep(&mut self, lines: &[u8]) {
        for line in String::from_utf8(lines.to_vec()).unwrap().lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else { continue };
            let (name, rest) = cookie.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            assert!(rest.contains("; Path=/; ") && rest.contains("; HttpOnly; SameSite=Lax"));
            assert_eq!(rest.ends_with("; Secure"), self.scheme == "https", "{line}");
            if rest.contains("Max-Age=0;") {
                assert!(self.jar.remove(name).is_some(), "{name} is cleared, but not there");
            } else {
                self.jar.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn open(&mut self, target: &str) -> Got {
        self.send("GET", target, &[("accept", "text/html")])
    }

    /// Opens a page and returns where the provider would send the browser back to.
    #[track_caller]
    fn begin(&mut self, target: &str) -> String {
        let Got::Sent(to) = self.open(target) else { panic!("{target} leads to no login") };
        assert!(to.starts_with("https://id.test/auth?response_type=code&client_id=app&"), "{to}");
        *self.idp.nonce.borrow_mut() = parameter(&to, "nonce");
        format!("/oauth2/callback?code=c1&state={}", parameter(&to, "state"))
    }

    #[track_caller]
    fn log_in(&mut self) {
        let back = self.begin("/page?x=1");
        let got = self.open(&back);
        assert!(matches!(&got, Got::Sent(to) if to == "https://a.test/page?x=1"), "{got:?}");
    }

    #[track_caller]
    fn refused(&mut self, target: &str, fault: Fault) -> String {
        match self.open(target) {
            Got::Refused(got, detail) if got == fault => detail,
            other => panic!("{target}: {other:?}"),
        }
    }

    #[track_caller]
    fn passes(&mut self) -> String {
        match self.open("/page") {
            Got::Passed { upstream, consumer } => {
                assert_eq!(consumer, "u1");
                upstream
            }
            other => panic!("{other:?}"),
        }
    }
}

fn parameter(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let found = query.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='));
    text::decode(found.unwrap().as_bytes()).unwrap()
}

#[test]
fn without_tls_cookies_have_plain_names() {
    let mut browser = Browser::new(settings());
    browser.scheme = "http";
    let back = browser.begin("/page");
    assert!(matches!(browser.open(&back), Got::Sent(to) if to == "http://a.test/page"));
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["rg-main~0"]);
    browser.passes();
}

#[test]
fn behind_another_end_of_tls_the_origin_of_the_file_counts() {
    let settings = Settings { origin: Some("https://www.test".into()), ..settings() };
    let policy = Policy::build(&settings, &|_| None, None).unwrap();
    let core = Core::bind(&policy, None);
    let idp = Idp::new();
    let run = |host: &'static str| {
        let mut asked = Asked::new("GET", "/x?y").fields(&[("accept", "text/html")]);
        (asked.scheme, asked.host) = ("http", host);
        let (mut findings, mut reply) = (Findings::default(), None);
        loop {
            let verdict = asked.with(|s| policy.check(&core, s, &mut findings, reply.take()));
            let Verdict::Ask(question) = verdict else { return verdict };
            let Question::Call(call) = *question else { panic!() };
            reply = Some(idp.answer(call, NOW));
        }
    };
    let Verdict::Answer(answer) = run("www.test") else { panic!() };
    let text = String::from_utf8(answer.fields).unwrap();
    assert!(
        text.contains("set-cookie: __Host-rg-main~login~") && text.contains("; Secure"),
        "{text}"
    );
    assert!(text.contains("redirect_uri=https%3A%2F%2Fwww.test%2Foauth2%2Fcallback"), "{text}");
    let Verdict::Answer(answer) = run("inner.test") else { panic!() };
    let text = String::from_utf8(answer.fields).unwrap();
    assert!(text.contains("location: https://www.test/x?y\r\n"), "{text}");
}

#[test]
fn nothing_secret_is_in_what_is_printed() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    browser.passes();
    let text = format!("{:?} {:?} {:?}", browser.policy, browser.core, settings());
    for secret in ["s3cret", "access-0", "refresh-0", "u@a.test", "7, 7, 7"] {
        assert!(!text.contains(secret), "AUTH-14: {secret} in {text}");
    }
}

#[test]
fn what_cannot_work_is_not_built() {
    let check = |settings: Settings, file: Option<&'static [u8]>| {
        let read = move |_: &std::path::Path| file.map(Arc::from);
        Policy::build(&settings, &read, None).unwrap_err()
    };
    let with_ca = Settings { ca: Some("ca.pem".into()), ..settings() };
    assert_eq!(check(with_ca.clone(), None).file, Some("ca.pem".into()));
    assert_eq!(check(with_ca, Some(b"x")).file, Some("ca.pem".into()));
    let with_key = Settings { signing_key: Some("key.pem".into()), ..settings() };
    assert_eq!(check(with_key, Some(b"x")).file, Some("key.pem".into()));
    assert_eq!(check(Settings { secrets: Vec::new(), ..settings() }, None).file, None);
}
