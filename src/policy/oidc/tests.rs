//! Logins as a browser and a provider see them, without either: a jar of cookies, and answers that are made here.

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
fn a_login_ends_where_it_began_and_targets_learn_who_it_is() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["__Host-rg-main~0"]);
    let upstream = browser.passes();
    assert!(upstream.contains("x-amzn-oidc-identity: u1\r\n"), "{upstream}");
    assert!(upstream.contains("x-amzn-oidc-accesstoken: access-0\r\n"), "{upstream}");
    let data = upstream.lines().find_map(|l| l.strip_prefix("x-amzn-oidc-data: ")).unwrap();
    let opened = crate::policy::jwt::verify::Opened::read(data.as_bytes()).unwrap();
    let Got::Answered(keys) = browser.open("/oauth2/keys") else { panic!() };
    let keys = crate::policy::jwt::KeySet::of_jwks(keys.as_bytes()).unwrap();
    assert_eq!(opened.verify(&keys), Ok(()));
    let claims = &opened.claims.0;
    assert_eq!((&claims["email"], &claims["name"]), (&"u@a.test".into(), &"User One".into()));
    assert!(!claims.contains_key("nonce") && !claims.contains_key("aud"), "{claims:?}");
    let pem = browser.open(&format!("/oauth2/keys/{}", opened.kid.unwrap()));
    assert!(matches!(pem, Got::Answered(pem) if pem.starts_with("-----BEGIN PUBLIC KEY")));
    // Description, tokens, keys, user: once each.
    assert_eq!(browser.idp.calls.borrow().len(), 4);
    assert!(browser.policy.owns().contains(&"x-amzn-oidc-data".into()));
    assert!(browser.policy.consumes().contains(&Consumed::CookiePrefix("__Host-rg-main~".into())));
}

// AUTH-15: PKCE S256, state, nonce, the exact redirect_uri.
#[test]
fn the_way_to_the_login_has_all_that_guards_it() {
    let mut browser = Browser::new(settings());
    let Got::Sent(to) = browser.open("/page") else { panic!() };
    for (name, value) in [
        ("redirect_uri", "https://a.test/oauth2/callback"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
        ("prompt", "login"),
    ] {
        assert_eq!(parameter(&to, name), value);
    }
    let lengths = ["state", "nonce", "code_challenge"].map(|name| parameter(&to, name).len());
    assert_eq!(lengths, [22, 22, 43]);
    *browser.idp.nonce.borrow_mut() = parameter(&to, "nonce");
    browser.open(&format!("/oauth2/callback?code=c&state={}", parameter(&to, "state")));
    let form =
        browser.idp.calls.borrow().iter().find(|c| c.url.ends_with("/token")).unwrap().body.clone();
    let verifier = parameter(&format!("?{}", String::from_utf8(form).unwrap()), "code_verifier");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    assert_eq!(parameter(&to, "code_challenge"), text::base64url(digest.as_ref()));
}

// AUTH-15: replay, swap, missing, expired, tampered.
#[test]
fn what_comes_back_is_believed_once_and_only_with_its_cookie() {
    let check = |what: &str, spoil: &dyn Fn(&mut Browser, String) -> String| {
        let mut browser = Browser::new(settings());
        let back = browser.begin("/page");
        let back = spoil(&mut browser, back);
        let asked = browser.idp.calls.borrow().len();
        browser.refused(&back, Fault::LoginFailed);
        assert_eq!(browser.idp.calls.borrow().len(), asked, "{what}: the provider is not asked");
        assert!(!browser.jar.keys().any(|name| name.ends_with("~0")), "{what}: no session");
        println!("{what}: refused");
    };
    check("no state", &|_, _| "/oauth2/callback?code=c1".into());
    check("empty state", &|_, _| "/oauth2/callback?code=c1&state=".into());
    check("no code", &|_, back| back.replace("code=c1&", ""));
    check("two states", &|_, back| format!("{back}&state=x"));
    check("two codes", &|_, back| format!("{back}&code=x"));
    check("broken escape", &|_, back| format!("{back}%"));
    check("unknown state", &|_, _| "/oauth2/callback?code=c1&state=AAAAAAAAAAAAAAAAAAAAAA".into());
    check("state of another form", &|_, back| format!("{back}A"));
    check("no cookie", &|browser, back| {
        browser.jar.clear();
        back
    });
    check("expired", &|browser, back| {
        browser.unix += 600;
        back
    });
    check("another host", &|browser, back| {
        browser.host = "b.test";
        back
    });
    check("another issuer's answer", &|_, back| format!("{back}&iss=https%3A%2F%2Fevil.test"));
    check("denied by the user", &|_, back| back.replace("code=c1", "error=access_denied"));
    check("another login's cookie", &|browser, first| {
        let second = browser.begin("/other");
        let names: Vec<String> = browser.jar.keys().cloned().collect();
        let (a, b) = (browser.jar[&names[0]].clone(), browser.jar[&names[1]].clone());
        browser.jar.insert(names[0].clone(), b);
        browser.jar.insert(names[1].clone(), a);
        assert_ne!(first, second);
        first
    });
    check("another secret", &|browser, back| {
        browser.reload(Settings { secrets: vec![Secret::new(&[8; 32])], ..settings() });
        back
    });
}

#[test]
fn each_octet_of_a_login_cookie_is_sealed() {
    let mut browser = Browser::new(settings());
    let back = browser.begin("/page");
    let (name, value) = browser.jar.pop_first().unwrap();
    for at in 0..value.len() {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        browser.jar.insert(name.clone(), String::from_utf8(changed).unwrap());
        browser.refused(&back, Fault::LoginFailed);
    }
    browser.jar.insert(name, value);
    assert!(matches!(browser.open(&back), Got::Sent(_)), "the right one still works");
}

#[test]
fn an_answer_cannot_be_used_twice_even_with_its_cookie() {
    let mut browser = Browser::new(settings());
    let back = browser.begin("/page");
    let kept = browser.jar.clone();
    assert!(matches!(browser.open(&back), Got::Sent(_)));
    browser.refused(&back, Fault::LoginFailed);
    browser.jar = kept.clone();
    let detail = browser.refused(&back, Fault::LoginFailed);
    assert!(detail.contains("already"), "{detail}");
    // Nor after a reload, nor on another core.
    browser.reload(settings());
    browser.jar = kept;
    browser.refused(&back, Fault::LoginFailed);
}

// AUTH-15: parallel tabs.
#[test]
fn several_tabs_log_in_at_the_same_time() {
    let mut browser = Browser::new(settings());
    let first = browser.begin("/one");
    let nonce = browser.idp.nonce.borrow().clone();
    let second = browser.begin("/two");
    assert!(matches!(browser.open(&second), Got::Sent(to) if to == "https://a.test/two"));
    *browser.idp.nonce.borrow_mut() = nonce;
    assert!(matches!(browser.open(&first), Got::Sent(to) if to == "https://a.test/one"));
    assert_eq!(browser.jar.len(), 1, "both logins' cookies have gone: {:?}", browser.jar.keys());
}

#[test]
fn logins_that_are_never_finished_do_not_pile_up() {
    let mut browser = Browser::new(settings());
    for n in 0..20 {
        browser.unix += 1;
        browser.begin(&format!("/{n}"));
        assert!(browser.jar.len() <= 5, "{}", browser.jar.len());
    }
    let newest = browser.begin("/newest");
    assert!(matches!(browser.open(&newest), Got::Sent(_)), "the newest is never the one to go");
    let mut browser = Browser::new(settings());
    for n in 0..5 {
        browser.begin(&format!("/{}", n.to_string().repeat(2000)));
        assert!(browser.jar.values().map(String::len).sum::<usize>() < 6 << 10);
    }
}

#[test]
fn open_redirects_lead_nowhere() {
    for (target, expected) in [
        ("//evil.test/x", "https://a.test//evil.test/x"),
        ("/@evil.test", "https://a.test/@evil.test"),
        ("/x?next=https://evil.test", "https://a.test/x?next=https://evil.test"),
        ("/.evil.test", "https://a.test/.evil.test"),
        ("/%5cevil.test", "https://a.test/%5cevil.test"),
        ("*", "https://a.test/"),
    ] {
        let mut browser = Browser::new(settings());
        let back = browser.begin(target);
        for more in ["", "&redirect_uri=https%3A%2F%2Fevil.test", "&back=//evil.test"] {
            let kept = browser.jar.clone();
            if let Got::Sent(to) = browser.open(&format!("{back}{more}")) {
                assert_eq!(to, expected, "{target}{more}");
            }
            browser.jar = kept;
        }
    }
}

#[test]
fn id_tokens_that_do_not_fit_are_no_logins() {
    let check = |what: &str, spoil: &dyn Fn(&Browser)| {
        let mut browser = Browser::new(settings());
        let back = browser.begin("/page");
        spoil(&browser);
        let detail = browser.refused(&back, Fault::ProviderFailed);
        println!("{what}: {detail}");
        assert!(!browser.jar.keys().any(|name| name.ends_with("~0")), "{what}: no session");
    };
    let claim = |name: &'static str, value: Value| {
        move |browser: &Browser| browser.idp.claims.borrow_mut()[name] = value.clone()
    };
    check("nonce", &|b| *b.idp.nonce.borrow_mut() = "another".into());
    check("no nonce", &|b| b.idp.nonce.borrow_mut().clear());
    check("audience", &claim("aud", "other".into()));
    check("two audiences without azp", &claim("aud", json!(["app", "other"])));
    check("authorised party", &claim("azp", "other".into()));
    check("no subject", &claim("sub", "".into()));
    let wrong = |url: &'static str, reply: Reply| {
        move |browser: &Browser| {
            browser.idp.wrong.borrow_mut().insert(url, reply.clone());
        }
    };
    let other = Signer::new(&[Secret::new(b"another provider")], None).unwrap();
    let others: Value = serde_json::from_slice(&other.jwks()).unwrap();
    check("keys of another", &wrong("/jwks", called(200, &others)));
    check("no keys", &wrong("/jwks", called(500, &json!({}))));
    check("keys that cannot be had", &wrong("/jwks", Reply::Failed("down".into())));
    check("tokens that cannot be had", &wrong("/token", Reply::Failed("down".into())));
    check("tokens that are none", &wrong("/token", called(200, &json!({}))));
    let bare = json!({ "access_token": "a", "token_type": "Bearer" });
    check("no ID token", &wrong("/token", called(200, &bare)));
    let odd = json!({ "access_token": "a\r\nx: y", "token_type": "Bearer", "id_token": "x" });
    check("an access token with a line break", &wrong("/token", called(200, &odd)));
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.";
    let none = json!({ "access_token": "a", "token_type": "Bearer", "id_token": unsigned });
    check("alg none", &wrong("/token", called(200, &none)));
    check("client", &wrong("/token", called(401, &json!({ "error": "invalid_client" }))));
    check("another user", &wrong("/me", called(200, &json!({ "sub": "u2" }))));
    check("no user", &wrong("/me", called(401, &json!({}))));
    check("redirected", &wrong("/token", called(302, &json!({}))));
    let mut browser = Browser::new(settings());
    let back = browser.begin("/page");
    browser
        .idp
        .wrong
        .borrow_mut()
        .insert("/token", called(400, &json!({ "error": "invalid_grant" })));
    browser.refused(&back, Fault::LoginFailed);
}

#[test]
fn a_provider_that_is_down_is_named_as_the_cause() {
    let mut browser = Browser::new(settings());
    let url = "/.well-known/openid-configuration";
    browser.idp.wrong.borrow_mut().insert(url, Reply::Failed("down".into()));
    browser.refused("/page", Fault::ProviderFailed);
    browser.idp.wrong.borrow_mut().clear();
    browser.log_in();
    // Once it is known, logins begin while its description cannot be had for a while.
    browser.jar.clear();
    browser.unix += 7200;
    browser.idp.wrong.borrow_mut().insert(url, Reply::Failed("down".into()));
    browser.begin("/page");
}

#[test]
fn claims_that_fit_no_cookie_are_refused_as_such() {
    let check = |len: usize, fits: bool| {
        let mut browser = Browser::new(settings());
        browser.idp.claims.borrow_mut()["big"] = "x".repeat(len).into();
        let back = browser.begin("/page");
        match browser.open(&back) {
            Got::Sent(_) => assert!(fits, "{len}"),
            Got::Refused(Fault::ClaimsTooLarge, _) => assert!(!fits, "{len}"),
            other => panic!("{len}: {other:?}"),
        }
        if fits {
            assert!(browser.jar.len() > 1, "{:?}", browser.jar.keys());
            browser.passes();
        }
    };
    check(7000, true);
    check(10_500, true);
    check(11_300, false);
}

#[test]
fn only_pages_are_sent_to_the_login() {
    let check = |settings: Settings, fields: &[(&str, &str)], method: &str, login: bool| {
        let mut browser = Browser::new(settings);
        match browser.send(method, "/x", fields) {
            Got::Sent(_) => assert!(login, "{method} {fields:?}"),
            Got::Refused(Fault::LoginRequired, _) => assert!(!login, "{method} {fields:?}"),
            other => panic!("{other:?}"),
        }
    };
    let html: &[(&str, &str)] = &[("accept", "text/html")];
    check(settings(), html, "GET", true);
    check(settings(), html, "POST", false);
    check(settings(), &[("sec-fetch-mode", "cors"), ("accept", "text/html")], "GET", false);
    check(settings(), &[("accept", "application/json")], "GET", false);
    let deny = Settings { on_unauthenticated: OnUnauthenticated::Deny, ..settings() };
    check(deny, html, "GET", false);
    let allow = Settings { on_unauthenticated: OnUnauthenticated::Allow, ..settings() };
    let mut browser = Browser::new(allow);
    let got = browser.open("/x");
    assert!(
        matches!(&got, Got::Passed { upstream, consumer } if upstream.is_empty() && consumer.is_empty())
    );
}

// AUTH-16: tampering with each octet of a session.
#[test]
fn each_octet_of_a_session_is_sealed() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let (name, value) = browser.jar.pop_first().unwrap();
    for at in 0..value.len() {
        let mut changed = value.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        browser.jar.insert(name.clone(), String::from_utf8(changed).unwrap());
        let got = browser.send("GET", "/page", &[]);
        assert!(matches!(got, Got::Refused(Fault::LoginRequired, _)), "octet {at}: {got:?}");
    }
    browser.jar.insert(name.clone(), value.clone());
    browser.passes();
    browser.host = "b.test";
    let got = browser.send("GET", "/page", &[]);
    assert!(matches!(got, Got::Refused(..)), "the session of another host");
    // A session is no login, and without TLS it is none.
    (browser.host, browser.scheme) = ("a.test", "http");
    browser.jar = BTreeMap::from([("rg-main~0".to_owned(), value)]);
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)));
}

// AUTH-16: rotation, and the end of the grace.
#[test]
fn an_old_secret_is_good_until_it_is_taken_away() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let before = browser.jar.clone();
    let (new, old) = (Secret::new(&[9; 32]), Secret::new(&[7; 32]));
    browser.reload(Settings { secrets: vec![new.clone(), old], ..settings() });
    browser.passes();
    assert_ne!(browser.jar, before, "the cookie was written anew under the new secret");
    browser.reload(Settings { secrets: vec![new], ..settings() });
    browser.passes();
    browser.jar = before;
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)));
}

#[test]
fn sessions_end_whatever_is_done() {
    let life = Settings {
        session_timeout: Duration::from_secs(3600),
        idle_timeout: Some(Duration::from_secs(600)),
        ..settings()
    };
    let mut browser = Browser::new(life.clone());
    browser.log_in();
    for _ in 0..7 {
        browser.unix += 500;
        browser.passes();
    }
    browser.unix += 100;
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)), "the absolute end");
    let mut browser = Browser::new(life);
    browser.log_in();
    browser.unix += 600;
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)), "idle for too long");
}

#[test]
fn each_login_has_a_session_of_its_own() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let first = browser.jar.clone();
    let back = {
        browser.jar.clear();
        browser.begin("/page")
    };
    browser.open(&back);
    assert_ne!(browser.jar, first);
}

#[test]
fn expired_tokens_are_refreshed_and_written_back() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let before = browser.jar.clone();
    browser.unix += 60;
    let upstream = browser.passes();
    assert!(upstream.contains("x-amzn-oidc-accesstoken: access-1\r\n"), "{upstream}");
    assert_ne!(browser.jar, before);
    let asked = browser.idp.calls.borrow().len();
    browser.passes();
    assert_eq!(browser.idp.calls.borrow().len(), asked, "the new tokens are good");
    browser.unix += 60;
    assert!(browser.passes().contains("access-2"), "with the refresh token of the last answer");
    let forms = browser.idp.calls.borrow();
    assert!(forms.iter().any(|c| c.body.ends_with(b"refresh_token=refresh-1")));
}

// AUTH-18: who asks at the same time asks for the same.
#[test]
fn requests_of_one_session_refresh_once() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let before = browser.jar.clone();
    browser.unix += 60;
    browser.passes();
    browser.jar = before;
    browser.passes();
    let calls = browser.idp.calls.borrow();
    let once: Vec<_> = calls
        .iter()
        .filter(|call| call.body.starts_with(b"grant_type=refresh_token"))
        .map(|call| (call.once, call.keep))
        .collect();
    assert_eq!(once.len(), 2);
    assert!(once[0].0.is_some() && once[0] == once[1] && once[0].1 >= Duration::from_secs(10));
}

#[test]
fn a_refresh_that_fails_leads_to_the_login_and_an_outage_does_not() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    browser.unix += 60;
    browser.idp.wrong.borrow_mut().insert("/token", Reply::Failed("down".into()));
    browser.refused("/page", Fault::ProviderFailed);
    assert_eq!(browser.jar.len(), 1, "the session waits for the provider");
    browser.idp.wrong.borrow_mut().clear();
    let kept = browser.jar.clone();
    browser.passes();
    browser.jar = kept;
    // The user's description is not worth a refresh token that works once only.
    browser.idp.wrong.borrow_mut().insert("/me", Reply::Failed("down".into()));
    let upstream = browser.passes();
    assert!(upstream.contains("x-amzn-oidc-data"), "{upstream}");
    browser.unix += 60;
    let denied = called(400, &json!({ "error": "invalid_grant" }));
    browser.idp.wrong.borrow_mut().insert("/token", denied);
    let kept = browser.jar.clone();
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(Fault::LoginRequired, _)));
    assert!(browser.jar.is_empty(), "it is not tried again and again");
    browser.jar = kept;
    assert!(
        matches!(browser.open("/page"), Got::Sent(to) if to.starts_with("https://id.test/auth"))
    );
}

#[test]
fn without_a_refresh_token_the_session_lasts() {
    let mut browser = Browser::new(settings());
    let back = browser.begin("/page");
    let id_token = browser.idp.id_token();
    let tokens = json!({
        "access_token": "a", "token_type": "bearer", "expires_in": 60, "id_token": id_token,
    });
    browser.idp.wrong.borrow_mut().insert("/token", called(200, &tokens));
    browser.open(&back);
    browser.unix += 3600;
    browser.passes();
}

#[test]
fn a_logout_clears_everything_and_goes_to_the_provider() {
    let own: &[(&str, &str)] = &[("sec-fetch-site", "same-origin")];
    let mut browser = Browser::new(Settings { after_logout: Some("/bye".into()), ..settings() });
    browser.idp.claims.borrow_mut()["big"] = "x".repeat(3000).into();
    browser.log_in();
    assert!(browser.jar.len() > 1);
    let stolen = browser.jar.clone();
    for (method, fields) in [
        ("GET", &[("sec-fetch-site", "cross-site")][..]),
        ("POST", &[("origin", "https://evil.test")]),
        ("GET", &[]),
        ("DELETE", own),
    ] {
        let got = browser.send(method, "/oauth2/logout", fields);
        assert!(
            matches!(got, Got::Refused(Fault::LogoutRefused, _)),
            "{method} {fields:?} {got:?}"
        );
    }
    browser.passes();
    let Got::Sent(to) = browser.send("POST", "/oauth2/logout", own) else { panic!() };
    assert!(to.starts_with("https://id.test/bye?client_id=app&id_token_hint=eyJ"), "{to}");
    assert_eq!(parameter(&to, "post_logout_redirect_uri"), "https://a.test/bye");
    assert!(browser.jar.is_empty());
    // AUTH-18: a cookie that comes late, or was kept, is over; also where a refresh was under way.
    browser.jar = stolen;
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)));
    browser.unix += 60;
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)));
}

// AUTH-18: a logout while a refresh is under way.
#[test]
fn a_refresh_does_not_bring_a_session_back() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    browser.unix += 60;
    let asked = browser.asked("GET", "/page", &[]);
    let mut findings = Findings::default();
    let mut reply = None;
    loop {
        let verdict =
            asked.with(|s| browser.policy.check(&browser.core, s, &mut findings, reply.take()));
        match verdict {
            Verdict::Ask(question) => {
                let Question::Call(call) = *question else { panic!() };
                if call.url.ends_with("/token") {
                    let own = [("sec-fetch-site", "same-origin")];
                    assert!(matches!(browser.send("GET", "/oauth2/logout", &own), Got::Sent(_)));
                }
                reply = Some(browser.idp.answer(call, browser.unix));
            }
            Verdict::Refuse(Fault::LoginRequired) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(!String::from_utf8(findings.response).unwrap().contains("Max-Age=6"));
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
