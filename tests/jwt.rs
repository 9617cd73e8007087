//! Tokens over real sockets: where they are looked for, what they open, what of them is seen by targets and by logs; and that
//! no way of writing a request leads past them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "jwt/signer.rs"]
mod signer;
mod support;

use serde_json::{Value, json};
use signer::{Signer, b64, jwks, unix};
use std::net::SocketAddr;
use support::h2raw::{H2, request_with};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

const ISSUER: &str = "https://id.test/";

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "api", "sub": "u1", "exp": unix() + 300, "role": ["a", "b"] })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

/// A file with one listener, one rule for everything and one policy; its keys are in `keys.json`.
fn config(listen: SocketAddr, origin: SocketAddr, policy: &str) -> String {
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
         [[rule]]\nname = \"all\"\npolicy = [\"t\"]\nforward = \"all\"\n[rule.when]\npath = [\"/*\"]\n\
         [group.all]\ntargets = [\"{origin}\"]\nhealth = {{ type = \"off\" }}\n\
         [policy.t.jwt]\nissuer = \"{ISSUER}\"\naudience = [\"api\"]\n{policy}\n"
    )
}

struct World {
    ringgate: Ringgate,
    origin: Origin,
    listen: SocketAddr,
    signer: Signer,
}

impl World {
    fn new(policy: &str) -> World {
        let (listen, origin, signer) =
            (free_address(), Origin::saying("fine"), Signer::new("ES256", "k"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("keys.json"), jwks([signer.jwk()])).unwrap();
        let text = config(listen, origin.address, &format!("jwks_file = \"keys.json\"\n{policy}"));
        World { ringgate: Ringgate::start_in(dir, &text), origin, listen, signer }
    }

    fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Message {
        ask(self.listen, "GET", path, fields)
    }

    fn bearer(&self, token: &str) -> Message {
        self.ask("/", &[("Authorization", &format!("Bearer {token}"))])
    }
}

#[track_caller]
fn ask(to: SocketAddr, method: &str, path: &str, fields: &[(&str, &str)]) -> Message {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    Client::connect(to).send(text + "\r\n").response_to(method)
}

#[test]
fn a_token_opens_and_says_who_comes() {
    let world = World::new("claims_to_headers = { x-user = \"sub\", x-roles = \"role\" }");
    let token = world.signer.sign(&claims());
    for _ in 0..5 {
        let authorization = format!("bEaReR {token}");
        let forged = [("X-User", "admin"), ("x-roles", "root"), ("x-other", "1")];
        let fields = [&[("Authorization", authorization.as_str())], &forged[..]].concat();
        assert_eq!(world.ask("/", &fields).status(), 200);
        let seen = world.origin.last();
        assert_eq!(seen.header("x-user"), Some("u1"));
        assert_eq!(seen.header("x-roles"), Some("a b"));
        assert_eq!(seen.header("x-other"), Some("1"));
        assert_eq!(seen.header("authorization"), None, "the token is for ringgate alone");
    }
    // A claim that the token has not: no field, and not the client's either.
    let token = world.signer.sign(&with(claims(), "role", json!(null)));
    let answer = world.ask("/", &[("Authorization", &format!("Bearer {token}")), ("x-roles", "r")]);
    assert_eq!(answer.status(), 200);
    assert_eq!(world.origin.last().header("x-roles"), None);
}

#[test]
fn refusals_say_why() {
    let world = World::new("scopes = [\"read\", \"write\"]");
    let check = |answer: Message, status: u16, reason: &str, challenge: &str| {
        assert_eq!((answer.status(), answer.reason()), (status, reason));
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    };
    check(world.ask("/", &[]), 401, "token_missing", "Bearer");
    let invalid =
        |why: &str| format!("Bearer error=\"invalid_token\", error_description=\"{why}\"");
    let form = invalid("The token is no JWS in the compact form");
    check(world.bearer("x"), 401, "token_invalid", &form);
    let expired = world.signer.sign(&with(claims(), "exp", json!(unix() - 61)));
    check(world.bearer(&expired), 401, "token_expired", &invalid("The token has expired"));
    let other = Signer::new("ES256", "k").sign(&claims());
    check(world.bearer(&other), 401, "token_invalid", &invalid("The signature is wrong"));
    let token = world.signer.sign(&claims());
    let scope = "Bearer error=\"insufficient_scope\", scope=\"read write\"";
    check(world.bearer(&token), 403, "insufficient_scope", scope);
    let authorization = format!("Bearer {token}");
    let twice = [("Authorization", authorization.as_str()), ("authorization", "Bearer x")];
    assert_eq!(world.ask("/", &twice).reason(), "repeated_field");
    let token = world.signer.sign(&with(claims(), "scope", json!("x write")));
    assert_eq!(world.bearer(&token).status(), 200);
    assert_eq!(world.origin.requests().len(), 1);
    let series = "ringgate_policy_decisions_total{policy=\"t\",decision=\"refuse\",reason=\"token_missing\"}";
    assert_eq!(world.ringgate.metric(series), Some(1.0));
}

#[test]
fn tokens_are_found_in_cookies_and_queries_and_taken_out_there() {
    let world = World::new("cookie = \"t\"\nquery = \"access_token\"");
    let token = world.signer.sign(&claims());
    let cookies = format!("a=1; t={token}; b=2");
    assert_eq!(world.ask("/p?x=1", &[("Cookie", &cookies)]).status(), 200);
    let seen = world.origin.last();
    assert_eq!((seen.header("cookie"), seen.target()), (Some("a=1; b=2"), "/p?x=1"));
    assert_eq!(world.ask(&format!("/p?x=1&access_token={token}&y=2"), &[]).status(), 200);
    assert_eq!(world.origin.last().target(), "/p?x=1&y=2");
    let authorization = format!("Bearer {token}");
    assert_eq!(world.ask("/", &[("Authorization", &authorization)]).reason(), "token_missing");
    assert_eq!(world.ask("/?access_token=x", &[]).reason(), "token_invalid");
    // Which of two would the target have meant?
    let twice = format!("/?access_token={token}&access_token={token}");
    assert_eq!(world.ask(&twice, &[]).reason(), "token_invalid");
    let twice = format!("t={token}; t={token}");
    assert_eq!(world.ask("/", &[("Cookie", &twice)]).reason(), "token_invalid");
}

#[test]
fn a_token_is_forwarded_where_that_is_said_and_a_missing_one_may_be_optional() {
    let world = World::new("forward = true\noptional = true");
    let authorization = format!("Bearer {}", world.signer.sign(&claims()));
    assert_eq!(world.ask("/", &[("Authorization", &authorization)]).status(), 200);
    assert_eq!(world.origin.last().header("authorization"), Some(authorization.as_str()));
    assert_eq!(world.ask("/", &[]).status(), 200);
    assert_eq!(world.ask("/", &[("Authorization", "Basic dTpw")]).status(), 200);
    assert_eq!(world.bearer("x").reason(), "token_invalid");
}

#[test]
fn auth_02_every_issuer_has_its_own_keys() {
    let (listen, origin) = (free_address(), Origin::saying("fine"));
    let (public, secret) = (Signer::new("EdDSA", "k"), "0123456789abcdef0123456789abcdef");
    let shared =
        Signer { alg: "HS256", kid: "k".into(), key: signer::Key::Secret(secret.into()).into() };
    let keys = jwks([public.jwk()]);
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\npolicy = [\"t\"]\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
         [[policy.t.jwt.issuers]]\nissuer = \"public\"\naudience = \"api\"\njwks = '{keys}'\n\
         [[policy.t.jwt.issuers]]\nissuer = \"secret\"\nany_audience = true\nsecret = \"{secret}\"\n",
        origin.address
    );
    let _ringgate = Ringgate::start(&text);
    let check = |token: &str, status: u16| {
        let answer = ask(listen, "GET", "/", &[("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(answer.status(), status, "{token}");
    };
    let by = |issuer: &str| with(claims(), "iss", json!(issuer));
    check(&public.sign(&by("public")), 200);
    check(&shared.sign(&by("secret")), 200);
    check(&public.sign(&by("secret")), 401);
    check(&shared.sign(&by("public")), 401);
    check(&public.sign(&by("other")), 401);
    let jwk = public.jwk();
    let forged =
        Signer { key: signer::Key::Secret(jwk["x"].as_str().unwrap().into()).into(), ..shared };
    check(&forged.sign(&by("public")), 401);
    check(&forged.sign(&by("secret")), 401);
}

#[test]
fn auth_11_keys_change_with_a_reload_and_broken_ones_change_nothing() {
    let world = World::new("");
    let file = world.ringgate.dir.path().join("keys.json");
    let (old, new) = (world.signer.sign(&claims()), Signer::new("PS256", "new"));
    let text = config(world.listen, world.origin.address, "jwks_file = \"keys.json\"");
    assert_eq!(world.bearer(&old).status(), 200);
    for broken in ["", "{}", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        std::fs::write(&file, broken).unwrap();
        let before = world.ringgate.reloads("failed");
        world.ringgate.signal(rustix::process::Signal::HUP);
        eventually("the reload is refused", || world.ringgate.reloads("failed") > before);
        assert_eq!(world.bearer(&old).status(), 200, "{broken}");
        assert_eq!(world.bearer("x").status(), 401, "{broken}");
    }
    std::fs::write(&file, jwks([new.jwk()])).unwrap();
    world.ringgate.reload(&text);
    assert_eq!(world.bearer(&new.sign(&claims())).status(), 200);
    // What was remembered was verified with a key that is gone.
    assert_eq!(world.bearer(&old).status(), 401);
}

#[test]
fn auth_14_tokens_are_in_no_log_no_metric_and_no_answer() {
    let (listen, origin, signer) =
        (free_address(), Origin::saying("fine"), Signer::new("ES256", "k"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), jwks([signer.jwk()])).unwrap();
    let log = dir.path().join("access.log");
    let policy =
        "jwks_file = \"keys.json\"\nheader = \"authorization\"\ncookie = \"t\"\nquery = \"token\"";
    let text = config(listen, origin.address, policy)
        + &format!("[log]\naccess = \"{}\"\nformat = \"json\"\n", log.display());
    let ringgate = Ringgate::start_in(dir, &text);
    let other = Signer::new("ES256", "k");
    let tokens = [
        signer.sign(&claims()),
        other.sign(&claims()),
        signer.sign(&with(claims(), "exp", json!(1))),
        signer.sign(&with(claims(), "aud", json!("canary-audience"))),
    ];
    let mut answers = String::new();
    for token in &tokens {
        let bearer = format!("Bearer {token}");
        let (cookie, query) = (format!("t={token}"), format!("/q?token={token}&z=1"));
        for (path, fields) in [
            ("/h", vec![("Authorization", bearer.as_str())]),
            ("/c", vec![("Cookie", cookie.as_str())]),
            (query.as_str(), vec![]),
        ] {
            let answer = ask(listen, "GET", path, &fields);
            answers += &String::from_utf8_lossy(&answer.head);
            answers += &answer.text();
        }
    }
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    eventually("all are logged", || lines().lines().count() == 3 * tokens.len());
    let upstream: String =
        origin.requests().iter().map(|r| String::from_utf8_lossy(&r.head).into_owned()).collect();
    assert_eq!(origin.requests().len(), 3);
    for (at, token) in tokens.iter().enumerate() {
        let signature = token.rsplit('.').next().unwrap();
        let all = [
            ("log", lines()),
            ("output", ringgate.output()),
            ("metrics", ringgate.metrics()),
            ("answers", answers.clone()),
            ("target", upstream.clone()),
        ];
        for (place, text) in &all {
            assert!(!text.contains(signature), "token {at} in {place}");
            assert!(!text.contains("canary-audience"), "a claim in {place}");
        }
    }
    assert!(lines().contains("\"u1\""), "who came is logged: {}", lines());
}

/// What a target takes a path for: decoded, with dot segments and empty ones resolved (RFC 3986 section 5.2.4). Targets that decode
/// twice or cut parameters off segments are on their own: what is routed is what they are sent.
fn meant(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let authority =
        path.split_once("://").map(|(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    let path: Vec<u8> =
        percent_encoding::percent_decode(authority.unwrap_or(path).as_bytes()).collect();
    let text = String::from_utf8_lossy(&path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

#[test]
fn auth_12_no_way_of_writing_a_request_leads_past_the_policy() {
    let (listen, origin, signer) =
        (free_address(), Origin::saying("fine"), Signer::new("ES256", "k"));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), jwks([signer.jwk()])).unwrap();
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
         [[rule]]\nname = \"public\"\nforward = \"all\"\n[rule.when]\npath = [\"/*\"]\n\
         [[rule]]\nname = \"private\"\npolicy = [\"t\"]\nforward = \"all\"\n[rule.when]\npath = [\"/private\", \"/private/*\"]\n\
         [group.all]\ntargets = [\"{}\"]\nhealth = {{ type = \"off\" }}\n\
         [policy.t.jwt]\nissuer = \"{ISSUER}\"\naudience = [\"api\"]\njwks_file = \"keys.json\"\n",
        origin.address
    );
    let _ringgate = Ringgate::start_in(dir, &text);
    let paths = [
        "/private",
        "/private/",
        "/private/x",
        "/private?x",
        "/private/x?y=/public",
        "/./private/x",
        "/public/../private/x",
        "/public/%2e%2e/private/x",
        "/public/..%2fprivate/x",
        "/public/%2e%2e%2fprivate/x",
        "//private/x",
        "/public//../private/x",
        "/%70rivate/x",
        "/%2570rivate/x",
        "/private%2fx",
        "/private%2Fx",
        "/private%5cx",
        "/private\\x",
        "/private;a=b/x",
        "/private/;/x",
        "/private%00/x",
        "/private%20/x",
        "/private./x",
        "/private/../private/x",
        "/public/..;/private/x",
        "/private#/x",
        "http://a.test/private/x",
        "http://b.test/private/x",
        "HTTP://a.test/private/x",
        "/private/x/../../private",
    ];
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND",
        "get", "X",
    ];
    let none: &[(&str, &str)] = &[];
    let extras: [&[(&str, &str)]; 9] = [
        none,
        &[("X-Original-URL", "/public"), ("X-Rewrite-URL", "/public")],
        &[("X-HTTP-Method-Override", "OPTIONS")],
        &[("Origin", "https://a.test"), ("Access-Control-Request-Method", "GET")],
        &[("Origin", "https://a.test")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic YTpi")],
        &[("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Host", "b.test")],
        &[("Connection", "Authorization"), ("Authorization", "Bearer x")],
    ];
    let mut asked = 0;
    for path in paths {
        for method in methods {
            for fields in extras {
                let mut text =
                    format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n");
                for (name, value) in fields {
                    text += &format!("{name}: {value}\r\n");
                }
                support::send_raw(listen, text + "\r\n");
                asked += 1;
            }
        }
    }
    assert!(asked > 3000, "{asked}");
    let through = origin.requests();
    let past: Vec<&str> = through
        .iter()
        .map(Message::target)
        .filter(|target| {
            let meant = meant(target);
            meant == "/private" || meant.starts_with("/private/")
        })
        .collect();
    assert!(past.is_empty(), "{past:?}");
    // With a token, every method passes: the matrix above was not refused for another reason.
    let bearer = format!("Bearer {}", signer.sign(&claims()));
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let answer = ask(listen, method, "/private/x", &[("Authorization", &bearer)]);
        assert_eq!(answer.status(), 200, "{method}");
        assert_eq!(ask(listen, method, "/private/x", &[]).status(), 401, "{method}");
        assert_eq!(ask(listen, method, "/public", &[]).status(), 200, "{method}");
    }
}

#[test]
fn auth_12_a_listeners_policy_holds_where_no_rule_does() {
    let (listen, signer) = (free_address(), Signer::new("ES256", "k"));
    let text = format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\npolicy = [\"t\"]\n\
         [policy.t.jwt]\nissuer = \"{ISSUER}\"\naudience = [\"api\"]\njwks = '{}'\n",
        jwks([signer.jwk()])
    );
    let _ringgate = Ringgate::start(&text);
    assert_eq!(ask(listen, "GET", "/x", &[]).reason(), "token_missing");
    let bearer = format!("Bearer {}", signer.sign(&claims()));
    assert_eq!(ask(listen, "GET", "/x", &[("Authorization", &bearer)]).reason(), "no_route");
}

#[test]
fn tokens_hold_over_http2_too() {
    let world = World::new("claims_to_headers = { x-user = \"sub\" }");
    let bearer = format!("Bearer {}", world.signer.sign(&claims()));
    let mut h2 = H2::open(world.listen);
    assert_eq!(h2.fetch(1, "/").status(), 401);
    let fields = [("authorization", bearer.as_str()), ("x-user", "admin")];
    h2.head(3, support::h2raw::WHOLE, &request_with("GET", "/", &fields));
    assert_eq!(h2.outcome(3).answer().status(), 200);
    let seen = world.origin.last();
    assert_eq!((seen.header("x-user"), seen.header("authorization")), (Some("u1"), None));
}

#[test]
fn auth_21_clients_with_many_wrong_signatures_wait() {
    let world = World::new("failures = 5");
    let good = world.signer.sign(&claims());
    let other = Signer::new("ES256", "k");
    // Both workers count for themselves; one connection stays with one worker.
    let mut client = Client::connect(world.listen);
    let mut send = |token: &str| {
        let text =
            format!("GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        client.send(text).response()
    };
    assert_eq!(send(&good).status(), 200);
    for n in 0..5 {
        assert_eq!(send(&other.sign(&with(claims(), "n", json!(n)))).status(), 401);
    }
    let answer = send(&other.sign(&with(claims(), "n", json!(5))));
    assert_eq!((answer.status(), answer.reason()), (429, "rate_limited"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(send(&good).status(), 200, "what is remembered passes");
}

#[test]
fn wrong_settings_are_named() {
    let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    let check = |policy: &str, expected: &str| {
        let text = format!(
            "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:0\"]\npolicy = [\"t\"]\n[policy.t.jwt]\n{policy}\n"
        );
        std::fs::write(&path, text).unwrap();
        let (code, said) = support::ringgate::command(&["check", "-c", path.to_str().unwrap()]);
        match expected {
            "" => assert_eq!(code, 0, "{policy}\n{said}"),
            _ => assert!(code == 2 && said.contains(expected), "{policy}\n{said}"),
        }
        assert!(!said.contains("0123456789abcdef"), "{said}");
    };
    let one = "issuer = \"https://id.test\"\naudience = \"api\"";
    check(&format!("{one}\n{secret}"), "");
    check(&format!("{one}\njwks_url = \"https://id.test/jwks\""), "");
    check(&format!("{one}\njwks_url = \"http://127.0.0.1:1/jwks\""), "");
    check(one, "");
    check("issuer = \"x\"\naudience = \"api\"", "the issuer can be asked");
    check("audience = \"api\"", "policy.t.jwt.issuer");
    check("issuer = \"https://id.test\"", "no audience");
    check(&format!("{one}\nany_audience = true"), "audience beside any_audience");
    check("issuer = \"https://id.test\"\nany_audience = true", "");
    check(&format!("{one}\njwks_url = \"http://id.test/jwks\""), "an https URL");
    check(&format!("{one}\njwks_url = \"http://id.test/jwks\"\nallow_http = true"), "");
    check(&format!("{one}\njwks_url = \"https://u:p@id.test/jwks\""), "an https URL");
    check(&format!("{one}\njwks_url = \"file:///etc/passwd\""), "an https URL");
    check(&format!("{one}\n{secret}\njwks_url = \"https://id.test/\""), "jwks_url and secret");
    check(&format!("{one}\n{secret}\nalgorithms = [\"RS256\"]"), "algorithms of a secret");
    check(&format!("{one}\nalgorithms = [\"HS256\"]"), "algorithms of public keys");
    check(&format!("{one}\nalgorithms = [\"none\"]"), "algorithms of public keys");
    check(&format!("{one}\nalgorithms = []"), "an empty list");
    check(&format!("{one}\n{secret}\nalgorithms = [\"HS512\"]"), "needs at least 64");
    check(&format!("{one}\nsecret = \"short\""), "a secret of 5 octets");
    check(&format!("{one}\njwks = '{{}}'"), "no member `keys`");
    // A secret that was put there by mistake is not repeated; see above.
    let set = r#"{"keys":[{"kty":"oct","k":"0123456789abcdef"}]}"#;
    check(&format!("{one}\njwks = '{set}'"), "a secret in a set of public keys");
    check(&format!("{one}\njwks_file = \"missing.json\""), "missing.json");
    check(&format!("{one}\nca = \"missing.pem\""), "missing.pem");
    check(&format!("{one}\nleeway = \"61s\""), "a duration from");
    check(&format!("{one}\nscopes = [\"a b\"]"), "a scope of");
    check(&format!("{one}\nclaims_to_headers = {{ host = \"sub\" }}"), "the field \"host\"");
    check(&format!("{one}\nclaims_to_headers = {{ \"x y\" = \"sub\" }}"), "the field \"x y\"");
    check(&format!("{one}\ncookie = \"t\"\nscheme = \"Bearer\""), "no header is read");
    check(&format!("{one}\nrefresh = \"1h\"\nmax_stale = \"1m\""), "max_stale no shorter");
    check(&format!("{one}\nissuers = []"), "beside issuers");
    let two =
        "[[policy.t.jwt.issuers]]\nissuer = \"https://id.test\"\naudience = \"api\"\n".repeat(2);
    check(&two, "\"https://id.test\" twice");
}

#[test]
fn base64url_of_this_test_is_that_of_rfc_4648() {
    assert_eq!(b64([0xfb, 0xff]), "-_8");
}
