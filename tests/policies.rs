//! The policy stage as a whole: order, dry runs, answers of one's own, what targets, clients and logs are told, and that there
//! is no way around it (hazards AUTH-11, AUTH-12, AUTH-14).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use support::h2raw::{H2, request_with};
use support::{Client, Message, Origin, Ringgate, Wire, connect_from, eventually, free_address};

const SECRET: &str = "a secret of the tests that is long enough";

/// A token of `claims`, valid for a minute.
fn token(mut claims: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    claims["iss"] = json!("https://id.test/");
    claims["aud"] = json!("api");
    claims["exp"] = json!(now + 60);
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))
        .unwrap()
}

/// The settings of a policy that takes such tokens.
fn jwt(more: &str) -> String {
    format!(
        "jwt = {{ issuer = \"https://id.test/\", audience = [\"api\"], secret = \"{SECRET}\", algorithms = [\"HS256\"]{more} }}\n"
    )
}

struct Setup {
    ringgate: Ringgate,
    origin: Origin,
    listen: SocketAddr,
    log: PathBuf,
}

impl Setup {
    /// `listener` and `rule` are their lines; the rule has the path /v1/*, everything else goes to the same origin without one.
    fn start(listener: &str, rule: &str, policies: &str) -> Setup {
        let (origin, listen) = (Origin::saying("served"), free_address());
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("access.log");
        let config = config(listen, origin.address, &log, (listener, rule, policies));
        let ringgate = Ringgate::start_in(dir, &config);
        Setup { ringgate, origin, listen, log }
    }

    fn ask(&self, head: &str) -> Message {
        let method = head.split(' ').next().unwrap().to_owned();
        Client::connect(self.listen).send(format!("{head}\r\n\r\n")).response_to(&method)
    }

    fn get(&self, path: &str, fields: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{fields}Connection: close"))
    }

    /// The last record, once there are `count`. There is one worker, so that the last is the latest.
    fn record(&self, count: usize) -> Value {
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        eventually("the record is written", || read().lines().count() >= count);
        serde_json::from_str(read().lines().last().unwrap()).unwrap()
    }
}

fn config(
    listen: SocketAddr,
    target: SocketAddr,
    log: &std::path::Path,
    (listener, rule, policies): (&str, &str, &str),
) -> String {
    format!(
        "[server]\nworkers = 1\n[log]\naccess = \"{}\"\n\
         [[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n{listener}\ndefault = {{ forward = \"o\" }}\n\
         [[rule]]\nname = \"v1\"\nforward = \"o\"\n{rule}\nwhen = {{ path = [\"/v1/*\"] }}\n\
         [group.o]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n{policies}\n",
        log.display()
    )
}

#[test]
fn the_listeners_come_first_and_the_first_refusal_counts() {
    let policies = format!(
        "[policy.lan]\nip = {{ deny = [\"127.0.0.2\"] }}\n[policy.token]\n{}",
        jwt(", claims_to_headers = { x-user = \"sub\" }")
    );
    let setup = Setup::start("policy = [\"lan\"]", "policy = [\"token\"]", &policies);
    let denied = Wire::new(connect_from(Ipv4Addr::new(127, 0, 0, 2), setup.listen).unwrap());
    let mut denied = denied;
    denied.send(b"GET /v1/x HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    let answer = denied.response("GET").unwrap().unwrap();
    assert_eq!(
        (answer.status(), answer.header("x-ringgate-reason")),
        (403, Some("address_denied"))
    );
    let record = setup.record(1);
    assert_eq!((&record["policy"], &record["reason"]), (&json!("lan"), &json!("address_denied")));

    let answer = setup.get("/v1/x", "X-User: forged\r\n");
    assert_eq!((answer.status(), answer.header("x-ringgate-reason")), (401, Some("token_missing")));
    assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
    assert_eq!(setup.record(2)["policy"], json!("token"));
    assert!(setup.origin.requests().is_empty());

    let bearer = format!("Authorization: Bearer {}\r\n", token(json!({ "sub": "u1" })));
    assert_eq!(
        setup.get("/v1/x", &format!("X-User: forged\r\nx-USER: too\r\n{bearer}")).status(),
        200
    );
    let seen = setup.origin.last();
    assert_eq!(seen.all("x-user"), ["u1"], "nobody but ringgate says who it is");
    assert_eq!(seen.header("authorization"), None, "the token is for ringgate");
    let record = setup.record(3);
    assert_eq!((&record["consumer"], &record["policy"]), (&json!("u1"), &Value::Null));
    assert_eq!(setup.get("/other", &bearer).status(), 200);
    assert!(setup.origin.last().header("authorization").is_some(), "no policy has asked for it");
    let count = |decision: &str| {
        let labels = ["policy=\"token\"", &format!("decision=\"{decision}\"")];
        setup.ringgate.sum("ringgate_policy_decisions_total", &labels)
    };
    assert_eq!((count("pass"), count("refuse")), (1.0, 1.0));
}

// A target that believes a field behind one rule is reached by another without the policy, too: there nobody says who it is.
#[test]
fn identity_fields_are_taken_off_whichever_rule_takes_the_request() {
    let policies = format!("[policy.token]\n{}", jwt(", claims_to_headers = { x-user = \"sub\" }"));
    let setup = Setup::start("", "policy = [\"token\"]", &policies);
    assert_eq!(setup.get("/other", "X-User: forged\r\nX-Other: 1\r\n").status(), 200);
    let seen = setup.origin.last();
    assert_eq!((seen.header("x-user"), seen.header("x-other")), (None, Some("1")));
    let chunked = "POST /other HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   1\r\na\r\n0\r\nX-User: forged\r\nX-Sum: 1";
    assert_eq!(setup.ask(chunked).status(), 200);
    let trailers = setup.origin.last().trailers;
    let names: Vec<_> = trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn a_dry_run_counts_and_changes_nothing_but_forged_identity() {
    let policies = format!(
        "[policy.lan]\nip = {{ deny = [\"127.0.0.0/8\"] }}\ndry_run = true\n[policy.token]\ndry_run = true\n{}",
        jwt(", claims_to_headers = { x-user = \"sub\" }")
    );
    let setup = Setup::start("policy = [\"lan\"]", "policy = [\"token\"]", &policies);
    let answer = setup.get("/v1/x", "X-User: forged\r\nAuthorization: Bearer nonsense\r\n");
    assert_eq!((answer.status(), answer.header("www-authenticate")), (200, None));
    let seen = setup.origin.last();
    assert_eq!(
        (seen.header("x-user"), seen.header("authorization")),
        (None, Some("Bearer nonsense"))
    );
    let record = setup.record(1);
    assert_eq!(record["policy_dry_run"], json!("lan:address_denied,token:token_invalid"));
    assert_eq!((&record["status"], &record["policy"]), (&json!(200), &Value::Null));
    let labels = ["decision=\"would_refuse\"", "reason=\"token_invalid\""];
    assert_eq!(setup.ringgate.sum("ringgate_policy_decisions_total", &labels), 1.0);
}

#[test]
fn a_policy_has_an_answer_of_its_own() {
    let body =
        r#"{ status = 403, content_type = "application/json", body = '{"message":"Forbidden"}' }"#;
    let policies = format!("[policy.token]\nanswer = {body}\n{}", jwt(""));
    let setup = Setup::start("", "policy = \"token\"", &policies);
    let answer = setup.get("/v1/x", "");
    assert_eq!((answer.status(), answer.text().as_str()), (403, "{\"message\":\"Forbidden\"}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-ringgate-reason"), Some("token_missing"));
    let policies = format!("[policy.token]\nanswer = {{ status = 404 }}\n{}", jwt(""));
    let setup = Setup::start("", "policy = \"token\"", &policies);
    let answer = setup.get("/v1/x", "Accept: application/json\r\n");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((answer.status(), &problem["status"]), (404, &json!(404)));
    assert_eq!(
        (&problem["title"], &problem["code"]),
        (&json!("Not Found"), &json!("token_missing"))
    );
}

// Hazard AUTH-12: whatever the method and however the path is written, what reaches the origin below /v1/ had a token.
#[test]
fn there_is_no_way_around_a_policy() {
    let policies = format!(
        "[policy.token]\n{}[policy.pages]\ncors = {{ origins = [\"https://app.test\"], methods = [\"GET\"] }}\n",
        jwt("")
    );
    for rule in [
        "policy = [\"token\"]",
        "policy = [\"pages\", \"token\"]",
        "policy = [\"token\", \"pages\"]",
    ] {
        let setup = Setup::start("", rule, &policies);
        let paths = [
            "/v1/x",
            "/v1/",
            "//v1/x",
            "/./v1/x",
            "/a/../v1/x",
            "/%76%31/x",
            "/v1/%2e%2e/v1/x",
            "/v1/x?a=/../..",
            "http://a.test/v1/x",
            "/v1/./x",
            "/x/%2e%2e/v1/y",
            "/v1/x;a=b",
            "/v1/x%3f",
        ];
        let methods = [
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE", "PROPFIND", "get",
        ];
        let fields = [
            "",
            "Authorization: Basic dTpw\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Bearer a.b.c\r\n",
            "X-HTTP-Method-Override: GET\r\n",
            "X-Original-URL: /other\r\nX-Rewrite-URL: /other\r\n",
            "Origin: https://app.test\r\n",
            "Access-Control-Request-Method: GET\r\n",
            "Origin: https://app.test\r\nAccess-Control-Request-Method: GET\r\n",
            "Origin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\n",
            "Origin: https://app.test\r\nAccess-Control-Request-Method:\r\n",
        ];
        for (path, method, field) in paths
            .iter()
            .flat_map(|path| methods.iter().map(move |method| (path, method)))
            .flat_map(|(path, method)| fields.iter().map(move |field| (path, method, field)))
        {
            let head =
                format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n{field}Content-Length: 0");
            let answer = setup.ask(&head);
            let reached = setup.origin.requests().into_iter().find(|seen| {
                let path = seen.target().split('?').next().unwrap();
                path.starts_with("/v1/")
            });
            assert!(reached.is_none(), "{rule}: {head} reached {}", reached.unwrap().target());
            assert!(answer.status() != 200 || !path.contains("v1/x"), "{rule}: {head}");
        }
        let bearer = format!("Authorization: Bearer {}\r\n", token(json!({ "sub": "u1" })));
        assert_eq!(setup.get("/v1/x", &bearer).status(), 200, "{rule}");
    }
}

// Hazards AUTH-13, AUTH-14.
#[test]
fn credentials_reach_neither_targets_nor_logs() {
    for (place, request) in [
        ("query = \"t\"", "/v1/x?a=1&t=TOKEN&b=2|"),
        ("query = \"t\"", "/v1/x?%74=TOKEN&a=1&b=2|"),
        ("query = \"t\"", "/v1/x?t=TOKEN|"),
        ("cookie = \"t\"", "/v1/x?a=1&b=2|Cookie: k=v; t=TOKEN; l=w\r\n"),
        ("cookie = \"t\"", "/v1/x|Cookie: t=TOKEN\r\n"),
        ("header = \"x-token\"", "/v1/x?a=1&b=2|X-Token: TOKEN\r\n"),
        ("header = \"authorization\"", "/v1/x?a=1&b=2|authorization: bEARER TOKEN\r\n"),
    ] {
        let policies = format!("[policy.token]\n{}", jwt(&format!(", {place}")));
        let setup = Setup::start("", "policy = [\"token\"]", &policies);
        let token = token(json!({ "sub": "u1" }));
        for given in [token.clone(), format!("{token}x")] {
            let (path, fields) = request.split_once('|').unwrap();
            let answer =
                setup.get(&path.replace("TOKEN", &given), &fields.replace("TOKEN", &given));
            let encoded = path.starts_with("/v1/x?%74");
            let right = given == token && !encoded;
            assert_eq!(answer.status(), if right { 200 } else { 401 }, "{place} {request}");
            if right {
                let seen = setup.origin.last();
                let query = seen.target().split_once('?').map(|(_, query)| query);
                assert!(matches!(query, None | Some("a=1&b=2")), "{request}: {}", seen.target());
                assert_eq!(
                    seen.header("cookie").is_some(),
                    path.contains('?') && fields.contains("k=v")
                );
            }
        }
        setup.record(2);
        let signature = token.rsplit('.').next().unwrap();
        let log = std::fs::read_to_string(&setup.log).unwrap();
        let all = [log, setup.ringgate.output(), setup.ringgate.metrics()];
        assert!(all.iter().all(|text| !text.contains(signature)), "{place}: {all:?}");
        let upstream = setup.origin.requests();
        let told =
            upstream.iter().any(|seen| String::from_utf8_lossy(&seen.head).contains(signature));
        assert!(!told, "{place} {request}");
    }
}

// Also where targets are sent the token, where the request has ended before anybody looked at it, and where it was meant for a
// rule that it has missed.
#[test]
fn auth_14_credentials_of_queries_are_in_no_record() {
    for (more, rule, listener) in [
        (", query = \"t\", forward = true", "policy = [\"token\"]", ""),
        (", query = \"t\"", "policy = [\"token\"]", "redirect_https = true"),
        (", query = \"t\"", "", "policy = [\"token\"]"),
    ] {
        let policies = format!("[policy.token]\n{}", jwt(more));
        let setup = Setup::start(listener, rule, &policies);
        for (path, logged) in [
            ("/v1/x?a=1&t=CANARY&b=2", "/v1/x?a=1&b=2"),
            ("/missed?t=CANARY", "/missed"),
            ("/v1/./x?t=CANARY", "/v1/x"),
        ] {
            let before = std::fs::read_to_string(&setup.log).unwrap_or_default().lines().count();
            setup.get(path, "");
            assert_eq!(setup.record(before + 1)["path"], json!(logged), "{more} {listener}");
        }
        let token = token(json!({ "sub": "u1" }));
        let answer = setup.get(&format!("/v1/x?t={token}"), "");
        if more.contains("forward") {
            assert_eq!(answer.status(), 200);
            assert_eq!(setup.origin.last().target(), format!("/v1/x?t={token}"));
        }
        setup.record(4);
        let log = std::fs::read_to_string(&setup.log).unwrap();
        assert!(!log.contains("CANARY") && !log.contains(&token), "{more} {listener}: {log}");
    }
}

// Servers may put trailer fields among those of the head.
#[test]
fn nobody_says_who_he_is_in_trailers() {
    let policies = format!(
        "[policy.token]\n{}",
        jwt(", optional = true, claims_to_headers = { x-user = \"sub\" }")
    );
    let setup = Setup::start("", "policy = [\"token\"]", &policies);
    let mut client = Client::connect(setup.listen);
    let head = "POST /v1/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}1\r\nx\r\n0\r\nX-User: admin\r\nX-Sum: 1\r\n\r\n"));
    assert_eq!(client.response_to("POST").status(), 200);
    let seen = setup.origin.last();
    let trailers: Vec<&str> = seen.trailers.iter().map(|(name, _)| name.as_str()).collect();
    assert!(trailers.iter().any(|name| name.eq_ignore_ascii_case("x-sum")), "{trailers:?}");
    assert!(!trailers.iter().any(|name| name.eq_ignore_ascii_case("x-user")), "{trailers:?}");
}

// Where a request may come without a token, other credentials are the target's own business.
#[test]
fn credentials_of_another_scheme_reach_the_target_where_a_token_is_optional() {
    for (more, basic) in [("", None), (", optional = true", Some("Basic eDp5"))] {
        let policies = format!("[policy.token]\n{}", jwt(more));
        let setup = Setup::start("", "policy = [\"token\"]", &policies);
        let answer = setup.get("/v1/x", "Authorization: Basic eDp5\r\n");
        assert_eq!(answer.status(), if basic.is_some() { 200 } else { 401 });
        if basic.is_some() {
            assert_eq!(setup.origin.last().header("authorization"), basic);
        }
        let bearer = format!("Authorization: Bearer {}\r\n", token(json!({ "sub": "u1" })));
        assert_eq!(setup.get("/v1/x", &bearer).status(), 200);
        assert_eq!(setup.origin.last().header("authorization"), None);
    }
}

// A session that was refreshed for a handshake would be lost with its cookie.
#[test]
fn a_switch_of_protocols_carries_the_fields_of_policies() {
    let origin = Origin::script(|conn| {
        conn.request()?;
        conn.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n",
        )?;
        let _ = conn.wire.rest();
        Ok(())
    });
    let (dir, listen) = (tempfile::tempdir().unwrap(), free_address());
    let log = dir.path().join("access.log");
    let rule = "policy = [\"slow\"]\nupgrade = [\"echo\"]";
    let policies = "[policy.slow]\nrate = { limit = \"9/h\", key = \"client_ip\" }";
    let _ringgate =
        Ringgate::start_in(dir, &config(listen, origin.address, &log, ("", rule, policies)));
    let head = "GET /v1/x HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let answer = Client::connect(listen).send(head).response();
    assert_eq!(answer.status(), 101);
    assert!(answer.header("ratelimit").is_some(), "{answer:?}");
}

#[test]
fn http_2_and_grpc_meet_the_same_policies() {
    let policies = format!("[policy.token]\n{}", jwt(""));
    let setup = Setup::start("", "policy = [\"token\"]", &policies);
    let mut client = H2::open(setup.listen);
    client.get(1, "/v1/x");
    let refused = client.outcome(1).answer();
    assert_eq!(
        (refused.status(), refused.header("x-ringgate-reason")),
        (401, Some("token_missing"))
    );
    let bearer = format!("Bearer {}", token(json!({ "sub": "u1" })));
    client.head(3, 5, &request_with("GET", "/v1/x", &[("authorization", &bearer)]));
    assert_eq!(client.outcome(3).answer().status(), 200);
    assert_eq!(setup.origin.last().header("authorization"), None);
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    client.head(5, 5, &request_with("POST", "/v1/x", &grpc));
    let refused = client.outcome(5).answer();
    assert_eq!((refused.status(), refused.header("grpc-status")), (200, Some("16")));
}

// Hazard AUTH-11: what cannot work is refused, and what worked goes on.
#[test]
fn a_policy_that_cannot_work_is_not_taken_up() {
    let policies = format!("[policy.token]\n{}", jwt(""));
    let setup = Setup::start("", "policy = [\"token\"]", &policies);
    let broken = [
        (
            "[policy.token]\njwt = { issuer = \"i\", audience = [\"a\"], jwks_file = \"none.json\" }",
            "none.json",
        ),
        (
            "[policy.token]\njwt = { issuer = \"i\", audience = [\"a\"] , secret = \"short\", algorithms = [\"HS256\"] }",
            "32",
        ),
        ("[policy.tokens]\nip = { allow = [\"10.0.0.0/8\"] }", "did you mean \"tokens\"?"),
        ("[policy.token]\nip = { allow = [\"10.0.0.0/8\"] }\njwt = {}", "exactly one of"),
        ("[policy.token]\ndry_run = true", "exactly one of"),
        ("[policy.token]\nauth = {}", "unknown key"),
    ];
    for (policies, said) in &broken {
        let text = config(
            setup.listen,
            setup.origin.address,
            &setup.log,
            ("", "policy = [\"token\"]", policies),
        );
        setup.ringgate.write(&text);
        let failed = setup.ringgate.reloads("failed");
        setup.ringgate.signal(rustix::process::Signal::HUP);
        eventually("the reload is refused", || setup.ringgate.reloads("failed") > failed);
        eventually(said, || setup.ringgate.output().contains(said));
        assert_eq!(setup.get("/v1/x", "").status(), 401, "{policies}");
    }
    assert!(setup.origin.requests().is_empty());
}

// Whatever answers, the fields that policies add are on it: a page may read why it failed.
#[test]
fn fields_of_policies_are_on_every_answer() {
    let policies = format!(
        "[policy.token]\n{}[policy.pages]\ncors = {{ origins = [\"https://app.test\"], methods = [\"GET\"] }}\n",
        jwt("")
    );
    let setup = Setup::start("policy = [\"pages\"]", "policy = [\"token\"]", &policies);
    let page = "Origin: https://app.test\r\n";
    for (path, status) in [("/v1/x", 401), ("/x", 200)] {
        let answer = setup.get(path, page);
        assert_eq!(answer.status(), status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://app.test"),
            "{path}"
        );
    }
    let preflight = "Access-Control-Request-Method: GET\r\n";
    let answer = setup.ask(&format!(
        "OPTIONS /v1/x HTTP/1.1\r\nHost: a.test\r\n{page}{preflight}Connection: close"
    ));
    assert_eq!(
        (answer.status(), answer.header("access-control-allow-methods")),
        (204, Some("GET"))
    );
    assert_eq!(setup.record(3)["action"], json!("policy"));
}
