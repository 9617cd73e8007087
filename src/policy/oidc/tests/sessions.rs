//! What becomes of a session: seals, ends, refreshes, logouts (hazards AUTH-16, AUTH-18).

use super::*;

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
    // Nor is it good for another policy that shares the cookie.
    let deny = Settings { on_unauthenticated: OnUnauthenticated::Deny, ..settings() };
    browser.policy = Policy::build(&deny, &|_| None, None).unwrap();
    browser.core = Core::bind(&browser.policy, None);
    assert!(matches!(browser.send("GET", "/page", &[]), Got::Refused(..)));
}

#[test]
fn policies_with_one_cookie_provider_and_secret_share_their_sessions() {
    let mut browser = Browser::new(settings());
    browser.log_in();
    let kept = browser.jar.clone();
    let known = |change: Settings| {
        let policy = Policy::build(&change, &|_| None, None).unwrap();
        (Core::bind(&policy, None), policy)
    };
    let deny = Settings { on_unauthenticated: OnUnauthenticated::Deny, ..settings() };
    (browser.core, browser.policy) = known(deny.clone());
    browser.passes();
    for other in [
        Settings { cookie: "rg-other".into(), ..deny.clone() },
        Settings { client_id: "other".into(), ..deny.clone() },
        Settings { issuer: "https://other.test".into(), ..deny.clone() },
        Settings { secrets: vec![Secret::new(&[8; 32])], ..deny.clone() },
    ] {
        (browser.core, browser.policy) = known(other);
        browser.jar = kept.clone();
        let got = browser.send("GET", "/page", &[]);
        assert!(matches!(got, Got::Refused(Fault::LoginRequired, _)), "{got:?}");
    }
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
