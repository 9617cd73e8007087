//! The way to the provider and back: what is believed of what comes back, and where it leads (hazards AUTH-15, AUTH-17).

use super::*;
use crate::base::sealed::base64url;

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
    assert_eq!(parameter(&to, "code_challenge"), base64url(digest.as_ref()));
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
