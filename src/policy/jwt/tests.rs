//! The policy over whole requests: what passes, what is said of it, what is remembered.

use super::*;
use crate::http::RequestView;
use crate::http::fields::OwnedFields;
use crate::policy::jwt::settings::Keys;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};
use std::time::Duration;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const UNIX: u64 = 1_800_000_000;

fn settings() -> Settings {
    Settings {
        issuers: vec![Issuer {
            names: vec!["iss".into()],
            audience: vec!["api".into()],
            algorithms: Algorithms::NONE.and(Algorithm::Hs256),
            keys: Keys::Secret(Hidden(SECRET.into())),
        }],
        carriers: vec![Carrier::Header { name: "authorization".into(), scheme: "Bearer".into() }],
        claims: Vec::new(),
        scopes: Vec::new(),
        claims_to_headers: vec![("x-user".into(), "sub".into()), ("x-roles".into(), "r".into())],
        consumer: "sub".into(),
        types: Vec::new(),
        optional: false,
        forward: false,
        require_exp: true,
        leeway: Duration::from_secs(60),
        max_age: None,
        remember: 100,
        remember_for: Duration::from_secs(60),
        failures: 5,
    }
}

fn claims() -> Value {
    json!({ "iss": "iss", "aud": "api", "sub": "u1", "exp": UNIX + 300, "r": ["a", "b"] })
}

fn sign(claims: &Value) -> String {
    sign_with(claims, SECRET)
}

fn sign_with(claims: &Value, secret: &[u8]) -> String {
    let head = B64.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{head}.{}", B64.encode(claims.to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", B64.encode(tag))
}

struct World {
    policy: Policy,
    core: Core,
    now: Tick,
    unix: u64,
}

impl World {
    fn new(settings: &Settings) -> World {
        let policy = Policy::build(settings, &|_| None, None).unwrap();
        let core = Core::bind(&policy, None);
        World { policy, core, now: Tick::ZERO, unix: UNIX }
    }

    fn check(&self, authorization: &str) -> (Verdict, Findings) {
        let mut fields = OwnedFields::default();
        if !authorization.is_empty() {
            fields.push("authorization", authorization);
        }
        let client = std::net::IpAddr::from([192, 0, 2, 1]);
        let subject = Subject {
            view: RequestView {
                method: b"GET",
                host: b"h",
                path: b"/",
                query: None,
                fields: fields.view(),
                peer: client,
            },
            client,
            scheme: "http",
            port: 80,
            listener: "l",
            rule: "r",
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: self.now,
            unix: self.unix,
        };
        let mut findings = Findings::default();
        let verdict = self.policy.check(&self.core, &subject, &mut findings, None);
        (verdict, findings)
    }

    fn passes(&self, token: &str) -> Findings {
        let (verdict, findings) = self.check(&format!("Bearer {token}"));
        assert!(matches!(verdict, Verdict::Pass), "{verdict:?} {}", findings.detail);
        findings
    }

    fn refuses(&self, authorization: &str, fault: Fault, line: &str) {
        let (verdict, findings) = self.check(authorization);
        assert!(matches!(verdict, Verdict::Refuse(f) if f == fault), "{verdict:?}");
        assert_eq!(std::str::from_utf8(&findings.response).unwrap(), line);
        assert!(findings.upstream.is_empty());
    }
}

#[test]
fn a_good_token_passes_and_says_who_sent_it() {
    let world = World::new(&settings());
    let token = sign(&claims());
    // The second time it is remembered.
    for _ in 0..2 {
        let findings = world.passes(&token);
        assert_eq!(findings.identity.consumer, "u1");
        assert_eq!(findings.identity.claim("r").as_deref(), Some("a b"));
        assert_eq!(findings.upstream, b"x-user: u1\r\nx-roles: a b\r\n");
        assert!(findings.response.is_empty());
    }
    assert_eq!(world.core.memory.borrow().len(), 1);
    assert_eq!(world.policy.owns(), ["x-user".into(), "x-roles".into()]);
    assert_eq!(world.policy.consumes(), [Consumed::Field("authorization".into())]);
}

#[test]
fn refusals_say_why_as_rfc_6750_has_it() {
    let world = World::new(&Settings { scopes: vec!["read".into(), "write".into()], ..settings() });
    let line = |sentence: &str| {
        format!(
            "www-authenticate: Bearer error=\"invalid_token\", error_description=\"{sentence}\"\r\n"
        )
    };
    world.refuses("", Fault::TokenMissing, "www-authenticate: Bearer\r\n");
    world.refuses("Basic dTpw", Fault::TokenMissing, "www-authenticate: Bearer\r\n");
    let form = line("The token is no JWS in the compact form");
    world.refuses("Bearer", Fault::TokenInvalid, &form);
    world.refuses("Bearer a.b", Fault::TokenInvalid, &form);
    let mut over = claims();
    over["exp"] = json!(UNIX - 60);
    let over = format!("Bearer {}", sign(&over));
    world.refuses(&over, Fault::TokenExpired, &line("The token has expired"));
    let scope = "www-authenticate: Bearer error=\"insufficient_scope\", scope=\"read write\"\r\n";
    for _ in 0..2 {
        let token = format!("Bearer {}", sign(&claims()));
        world.refuses(&token, Fault::TokenScope, scope);
    }
}

#[test]
fn an_optional_token_may_be_missing_but_not_bad() {
    let world = World::new(&Settings { optional: true, ..settings() });
    assert!(matches!(world.check("").0, Verdict::Pass));
    let (verdict, findings) = world.check("Bearer x");
    assert!(matches!(verdict, Verdict::Refuse(Fault::TokenInvalid)));
    assert!(findings.identity.claims.is_none());
}

#[test]
fn what_is_remembered_ends_with_the_token() {
    let mut world = World::new(&settings());
    let token = sign(&claims());
    world.passes(&token);
    world.unix = UNIX + 359;
    world.passes(&token);
    world.unix = UNIX + 360;
    let (verdict, _) = world.check(&format!("Bearer {token}"));
    assert!(matches!(verdict, Verdict::Refuse(Fault::TokenExpired)));
}

#[test]
fn scopes_and_claims_are_found_in_texts_and_lists() {
    let needs = Settings {
        scopes: vec!["read".into(), "write".into()],
        claims: vec![
            ("role".into(), vec!["admin".into(), "7".into()]),
            ("deep.er".into(), vec!["x".into()]),
        ],
        ..settings()
    };
    let world = World::new(&needs);
    let full = json!({ "scope": "x read", "role": "admin", "deep": { "er": ["x"] } });
    let check = |changes: Value, passes: bool| {
        let mut all = claims();
        for (name, value) in full.as_object().unwrap().iter().chain(changes.as_object().unwrap()) {
            all[name] = value.clone();
        }
        let (verdict, _) = world.check(&format!("Bearer {}", sign(&all)));
        match verdict {
            Verdict::Pass => assert!(passes, "{changes}"),
            Verdict::Refuse(Fault::TokenScope) => assert!(!passes, "{changes}"),
            other => panic!("{other:?}"),
        }
    };
    check(json!({}), true);
    check(json!({ "scope": ["write", "y"] }), true);
    check(json!({ "scope": null, "scp": "write" }), true);
    check(json!({ "scope": "x", "scp": ["read"] }), true);
    check(json!({ "scope": "reader" }), false);
    check(json!({ "scope": "read,write" }), false);
    check(json!({ "scope": ["x read"] }), false);
    check(json!({ "scope": { "read": true } }), false);
    check(json!({ "scope": null }), false);
    check(json!({ "role": ["user", "admin"] }), true);
    check(json!({ "role": 7 }), true);
    check(json!({ "role": "administrator" }), false);
    check(json!({ "role": "Admin" }), false);
    check(json!({ "role": null }), false);
    check(json!({ "role": ["user", ["admin"]] }), false);
    check(json!({ "deep": { "er": "y" } }), false);
    check(json!({ "deep": "x" }), false);
}

#[test]
fn a_client_with_many_wrong_signatures_waits_and_others_do_not() {
    let mut world = World::new(&settings());
    let good = sign(&claims());
    world.passes(&good);
    let bad = |n: usize| {
        let mut claims = claims();
        claims["n"] = json!(n);
        format!("Bearer {}", sign_with(&claims, b"another secret of enough octets!"))
    };
    for n in 0..5 {
        // The same again costs no verification, and is not counted.
        for _ in 0..3 {
            let (verdict, _) = world.check(&bad(n));
            assert!(matches!(verdict, Verdict::Refuse(Fault::TokenInvalid)), "{n}");
        }
    }
    world.refuses(&bad(5), Fault::RateLimited, "retry-after: 11\r\n");
    // What is remembered passes; a new one has to wait, too.
    world.passes(&good);
    let mut new = claims();
    new["n"] = json!("new");
    let new = sign(&new);
    world.refuses(&format!("Bearer {new}"), Fault::RateLimited, "retry-after: 11\r\n");
    world.now = Tick::ZERO.after(remember::FAILURE_WINDOW);
    world.passes(&new);
}

fn p256() -> (EcdsaKeyPair, String) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (B64.encode(&point[1..33]), B64.encode(&point[33..]));
    let jwk = format!(r#"{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}"#);
    (pair, format!(r#"{{"keys":[{jwk}]}}"#))
}

fn es256(pair: &EcdsaKeyPair, claims: &Value, kid: &str) -> String {
    let head = B64.encode(json!({ "alg": "ES256", "kid": kid }).to_string());
    let signed = format!("{head}.{}", B64.encode(claims.to_string()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", B64.encode(signature))
}

#[test]
fn fetched_keys_let_nobody_pass_before_they_are_there_nor_after() {
    let mut of_url = settings();
    of_url.issuers[0].algorithms = Algorithms::ASYMMETRIC;
    of_url.issuers[0].keys = Keys::Fetched {
        location: Location::Keys("https://h/jwks".into()),
        ca: None,
        allow_http: false,
        refresh: Duration::from_secs(300),
        max_stale: Duration::from_secs(3600),
    };
    let world = World::new(&of_url);
    let source = Arc::clone(world.policy.sources().next().unwrap());
    let (pair, jwks) = p256();
    let token = es256(&pair, &claims(), "k");
    let bearer = format!("Bearer {token}");
    world.refuses(&bearer, Fault::TokenKeysUnavailable, "");

    let keys = Arc::new(KeySet::of_jwks(jwks.as_bytes()).unwrap());
    source.publish(Some(Arc::clone(&keys)));
    world.passes(&token);
    assert!(!source.is_wanted());
    let (verdict, _) = world.check(&format!("Bearer {}", es256(&pair, &claims(), "other")));
    assert!(matches!(verdict, Verdict::Refuse(Fault::TokenInvalid)));
    assert!(source.is_wanted(), "an unknown kid asks for new keys");

    // Other keys: what was remembered was verified with those of before.
    let (_, others) = p256();
    source.publish(Some(Arc::new(KeySet::of_jwks(others.as_bytes()).unwrap())));
    let (verdict, _) = world.check(&bearer);
    assert!(matches!(verdict, Verdict::Refuse(Fault::TokenInvalid)));
    source.publish(Some(keys));
    world.passes(&token);
    source.publish(None);
    world.refuses(&bearer, Fault::TokenKeysUnavailable, "");

    // A policy that is built after it has the same source where it fetches from the same place.
    let after = Policy::build(&of_url, &|_| None, Some(&world.policy)).unwrap();
    assert!(Arc::ptr_eq(after.sources().next().unwrap(), &source));
    if let Keys::Fetched { allow_http, .. } = &mut of_url.issuers[0].keys {
        *allow_http = true;
    }
    let after = Policy::build(&of_url, &|_| None, Some(&world.policy)).unwrap();
    assert!(!Arc::ptr_eq(after.sources().next().unwrap(), &source));
}

#[test]
fn keys_that_cannot_work_are_refused_when_they_are_compiled() {
    let build = |keys: Keys, algorithms: Algorithms, file: &'static [u8]| {
        let mut settings = settings();
        settings.issuers[0].keys = keys;
        settings.issuers[0].algorithms = algorithms;
        Policy::build(&settings, &|_| Some(Arc::from(file)), None).map_err(|wrong| wrong.found)
    };
    let file = || Keys::File("f".into());
    let all = Algorithms::ASYMMETRIC;
    for (octets, expected) in [
        (&b""[..], "no JSON object"),
        (br#"{"keys":[]}"#, "no key that signatures can be verified with"),
        (br#"{"keys":[{"kty":"oct","k":"AA"}]}"#, "a secret in a set of public keys"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "neither RSA"),
    ] {
        let wrong = build(file(), all, octets).unwrap_err();
        assert!(wrong.contains(expected), "{wrong}");
    }
    let (_, jwks) = p256();
    let jwks: &'static [u8] = jwks.leak().as_bytes();
    assert!(build(file(), all, jwks).is_ok());
    let wrong = build(file(), Algorithms::RSA, jwks).unwrap_err();
    assert!(wrong.contains("no key that serves one of"), "{wrong}");
    let hs = Algorithms::NONE.and(Algorithm::Hs512);
    let wrong = build(Keys::SecretFile("f".into()), hs, SECRET).unwrap_err();
    assert!(wrong.contains("a secret of 32 octets; HS512 needs at least 64"), "{wrong}");
    let fetched = Keys::Fetched {
        location: Location::Keys("https://h/".into()),
        ca: Some("ca.pem".into()),
        allow_http: false,
        refresh: Duration::from_secs(300),
        max_stale: Duration::from_secs(3600),
    };
    let wrong = build(fetched, all, b"no pem").unwrap_err();
    assert!(wrong.contains("no certificate"), "{wrong}");
}

#[test]
fn secrets_are_not_shown() {
    let world = World::new(&settings());
    let shown = format!("{:?} {:?}", settings(), world.policy);
    assert!(!shown.contains("0123456789abcdef") && !shown.contains("48, 49, 50"), "{shown}");
}
