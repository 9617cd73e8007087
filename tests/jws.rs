//! Tokens against the verifier, made here: for every algorithm some that must be taken and many that must not (hazards AUTH-01 to
//! AUTH-10), and the vectors of RFC 7515 and RFC 8037. None of the wrong ones is taken, none of the right ones refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "jwt/signer.rs"]
mod signer;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ringgate::http::Fault;
use ringgate::policy::jwt::verify::LONGEST;
use ringgate::policy::jwt::{Algorithm, Algorithms, KeySet, Rules, verify};
use serde_json::{Value, json};
use signer::{ASYMMETRIC, Key, SYMMETRIC, Signer, b64, jwks, tag};
use std::collections::HashSet;
use std::sync::LazyLock;

const NOW: u64 = 1_800_000_000;

/// One key of each kind, made once: keys of RSA take their time.
static KEYS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    let rsa = Signer::new("RS256", "rsa");
    let of = |alg: &'static str| match alg {
        "ES256" | "ES384" | "ES512" | "EdDSA" => Signer::new(alg, &alg.to_lowercase()),
        _ => rsa.with(alg),
    };
    ASYMMETRIC.into_iter().map(of).collect()
});

/// The set that those who verify have.
static SET: LazyLock<KeySet> = LazyLock::new(|| {
    let one_of_each = KEYS.iter().filter(|signer| signer.kid != "rsa" || signer.alg == "RS256");
    KeySet::of_jwks(jwks(one_of_each.map(Signer::jwk)).as_bytes()).unwrap()
});

fn rules() -> Rules {
    Rules {
        issuers: vec!["https://id.test/".into()],
        audience: vec!["api".into(), "other".into()],
        client_id: true,
        algorithms: Algorithms::ASYMMETRIC,
        types: Vec::new(),
        require_exp: true,
        leeway: 60,
        max_age: None,
    }
}

fn claims() -> Value {
    json!({ "iss": "https://id.test/", "aud": "api", "sub": "u1", "exp": NOW + 300, "iat": NOW })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    object[name] = value;
    object
}

fn without(mut object: Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name);
    object
}

/// Counts what was tried, so that a set that has shrunk does not look like one that holds.
#[derive(Default)]
struct Tried {
    taken: HashSet<String>,
    refused: HashSet<String>,
    failed: Vec<String>,
}

impl Tried {
    fn with(&mut self, what: &str, token: &str, rules: &Rules, keys: &KeySet, taken: bool) {
        let verdict = verify(token.as_bytes(), rules, keys, NOW);
        if verdict.is_ok() != taken {
            self.failed.push(format!("{what}: {:?}: {token}", verdict.map(|_| "taken")));
        }
        let tried = if taken { &mut self.taken } else { &mut self.refused };
        tried.insert(format!("{what} {token}"));
    }

    fn taken(&mut self, what: &str, token: &str) {
        self.with(what, token, &rules(), &SET, true);
    }

    fn refused(&mut self, what: &str, token: &str) {
        self.with(what, token, &rules(), &SET, false);
    }

    fn end(self, least_taken: usize, least_refused: usize) {
        assert!(self.failed.is_empty(), "{} wrong:\n{}", self.failed.len(), self.failed.join("\n"));
        let (taken, refused) = (self.taken.len(), self.refused.len());
        println!("{taken} right ones taken, {refused} wrong ones refused");
        assert!(taken >= least_taken && refused >= least_refused, "{taken} {refused}");
    }
}

#[test]
fn right_tokens_of_every_algorithm_are_taken() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let alg = signer.alg;
        let header = signer.header();
        let variants = [
            ("plain", header.clone(), claims()),
            ("no kid", without(header.clone(), "kid"), claims()),
            ("no typ", without(header.clone(), "typ"), claims()),
            ("b64 as usual", with(header.clone(), "b64", json!(true)), claims()),
            // Keys in the header are not looked at, for better or worse (AUTH-04).
            ("jwk", with(header.clone(), "jwk", Signer::new("ES256", "x").jwk()), claims()),
            ("jku", with(header.clone(), "jku", json!("http://127.0.0.1:1/")), claims()),
            ("x5u", with(header.clone(), "x5u", json!("http://127.0.0.1:1/")), claims()),
            ("x5c", with(header.clone(), "x5c", json!(["AAAA"])), claims()),
            ("list", header.clone(), with(claims(), "aud", json!(["x", "api"]))),
            ("the other", header.clone(), with(claims(), "aud", json!("other"))),
            ("client", header.clone(), with(without(claims(), "aud"), "client_id", json!("api"))),
            ("fraction", header.clone(), with(claims(), "exp", json!(NOW as f64 + 0.5))),
            ("just over", header.clone(), with(claims(), "exp", json!(NOW - 59))),
            ("nearly", header.clone(), with(claims(), "nbf", json!(NOW + 60))),
            ("new", header.clone(), with(claims(), "iat", json!(NOW + 60))),
            ("zero", header.clone(), with(claims(), "nbf", json!(0))),
            ("text", header.clone(), with(claims(), "name", json!("Zoë \u{1F980} \"\\\n"))),
        ];
        for (what, header, claims) in &variants {
            tried.taken(&format!("{alg} {what}"), &signer.sign_as(header, claims));
        }
        let spaced = claims().to_string().replace(',', " ,\r\n ");
        let header = format!(" {{ \"alg\" : \"{alg}\" }} ");
        tried.taken(alg, &signer.sign_octets(header.as_bytes(), spaced.as_bytes()));
    }
    let ed = KEYS.iter().find(|signer| signer.alg == "EdDSA").unwrap();
    tried.taken("RFC 9864", &ed.sign_as(&json!({ "alg": "Ed25519" }), &claims()));
    tried.end(180, 0);
}

#[test]
fn secrets_verify_their_own_algorithms_only() {
    let mut tried = Tried::default();
    for alg in SYMMETRIC {
        let signer = Signer::new(alg, "s");
        let Key::Secret(secret) = &*signer.key else { panic!() };
        let only = Algorithms::NONE.and(Algorithm::of(alg).unwrap());
        let keys = KeySet::of_secret(secret, only).unwrap();
        let rules = Rules { algorithms: only, ..rules() };
        let token = signer.sign(&claims());
        tried.with(alg, &token, &rules, &keys, true);
        let nameless = signer.sign_as(&json!({ "alg": alg }), &claims());
        tried.with(alg, &nameless, &rules, &keys, true);
        for other in SYMMETRIC.into_iter().filter(|other| *other != alg) {
            let token = signer.with(other).sign(&claims());
            tried.with(&format!("{alg} by {other}"), &token, &rules, &keys, false);
        }
        for signer in KEYS.iter() {
            let token = signer.sign(&claims());
            tried.with(&format!("{} at a secret", signer.alg), &token, &rules, &keys, false);
        }
        let other = Signer::new(alg, "s").sign(&claims());
        tried.with("another secret", &other, &rules, &keys, false);
        let cut = &token[..token.len() - 4];
        tried.with("a shorter tag", cut, &rules, &keys, false);
        // Public keys are never in such a verifier, whatever the rules were made to allow.
        let all = Rules { algorithms: Algorithms::ASYMMETRIC, ..rules };
        tried.with("a secret for public keys", &token, &all, &keys, false);
    }
    for short in [0, 1, 16, 31] {
        let hs256 = Algorithms::NONE.and(Algorithm::Hs256);
        assert!(KeySet::of_secret(&vec![7; short], hs256).is_err(), "{short}");
    }
    tried.end(6, 35);
}

#[test]
fn auth_01_and_02_no_algorithm_passes_for_another() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let alg = signer.alg;
        let token = signer.sign(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let payload = signed.split_once('.').unwrap().1;
        // The name says another algorithm than the one that has signed; before the signature and after it.
        let others = ASYMMETRIC.into_iter().chain(SYMMETRIC);
        for other in others.chain(["ES256K", "RS1", "none"]).filter(|other| *other != alg) {
            let header = with(signer.header(), "alg", json!(other));
            let what = format!("{alg} says {other}");
            tried.refused(&what, &signer.sign_as(&header, &claims()));
            tried.refused(&what, &format!("{}.{payload}.{signature}", b64(header.to_string())));
        }
        for none in ["none", "None", "NONE", "nOnE", "", " ", "null"] {
            let header = with(signer.header(), "alg", json!(none));
            let bare = format!("{}.{payload}.", b64(header.to_string()));
            tried.refused(&format!("{alg} {none:?}"), &bare);
            tried
                .refused(&format!("{alg} {none:?} and a signature"), &format!("{bare}{signature}"));
        }
        for wrong in [json!(null), json!(0), json!(["RS256"]), json!({ "RS256": 1 }), json!(true)] {
            tried.refused(alg, &signer.sign_as(&with(signer.header(), "alg", wrong), &claims()));
        }
        tried.refused(alg, &signer.sign_as(&without(signer.header(), "alg"), &claims()));
        let lower = with(signer.header(), "alg", json!(alg.to_lowercase()));
        tried.refused(alg, &signer.sign_as(&lower, &claims()));
        // The public key, in every form that it is published in, is nobody's secret.
        let jwk = signer.jwk();
        let numbers = ["n", "x"].iter().filter_map(|name| jwk.get(*name)?.as_str());
        let mut secrets: Vec<Vec<u8>> = numbers.map(|text| text.as_bytes().to_vec()).collect();
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(&secrets[0]).unwrap();
        let pem = signer.pem();
        secrets.extend([decoded, signer.spki(), pem.clone().into_bytes(), Vec::new()]);
        secrets.extend([pem.trim_end().as_bytes().to_vec(), jwk.to_string().into_bytes()]);
        for (secret, hs) in secrets.iter().flat_map(|secret| SYMMETRIC.map(|hs| (secret, hs))) {
            let header = with(signer.header(), "alg", json!(hs));
            let signed = format!("{}.{payload}", b64(header.to_string()));
            let forged = format!("{signed}.{}", b64(tag(hs, secret, signed.as_bytes())));
            tried.refused(&format!("{hs} by the public key of {alg}"), &forged);
            let every = Rules {
                algorithms: ASYMMETRIC
                    .into_iter()
                    .chain(SYMMETRIC)
                    .map(|name| Algorithm::of(name).unwrap())
                    .collect(),
                ..rules()
            };
            tried.with("though the rules say so", &forged, &every, &SET, false);
        }
    }
    tried.end(0, 500);
}

#[test]
fn auth_03_signatures_are_those_of_the_curve_and_of_the_right_length() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let token = signer.sign(&claims());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let octets = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut check = |what: &str, changed: Vec<u8>| {
            tried.refused(&format!("{} {what}", signer.alg), &format!("{signed}.{}", b64(changed)));
        };
        let length = octets.len();
        for at in [0, 1, length / 2, length - 2, length - 1] {
            let mut changed = octets.clone();
            changed[at] ^= 1;
            check("one bit", changed);
        }
        check("none", Vec::new());
        check("one octet", vec![0]);
        check("short", octets[..length - 1].to_vec());
        check("short in front", octets[1..].to_vec());
        check("half", octets[..length / 2].to_vec());
        check("long", [&octets[..], &[0]].concat());
        check("long in front", [&[0], &octets[..]].concat());
        check("twice", [&octets[..], &octets[..]].concat());
        check("zero", vec![0; length]);
        check("ones", vec![0xff; length]);
        let (r, s) = octets.split_at(length / 2);
        check("swapped", [s, r].concat());
        let zero = vec![0; length / 2];
        check("r = 0", [&zero, s].concat());
        check("s = 0", [r, &zero].concat());
        let one = [&zero[1..], &[1]].concat();
        check("r = s = 1", [&one[..], &one[..]].concat());
        check(
            "r = n, s = n",
            [order(signer.alg, length / 2), order(signer.alg, length / 2)].concat(),
        );
        check("s = n", [r.to_vec(), order(signer.alg, length / 2)].concat());
        check("DER", der(r, s));
        // By another key of the same kind; RSA: by one of another size, too.
        if signer.kid != "rsa" {
            let other = Signer::new(signer.alg, &signer.kid);
            check("another key", other.signature(signed.as_bytes()));
        }
    }
    tried.end(0, 200);
}

/// The order of a curve's group; for what is on no curve, something large.
fn order(alg: &str, length: usize) -> Vec<u8> {
    let hex = match alg {
        "ES256" => "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "ES384" => {
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973"
        }
        "ES512" => {
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
        }
        _ => return vec![0xfe; length],
    };
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// `Ecdsa-Sig-Value`, which is what X.509 has instead.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut octets: Vec<u8> = number.iter().copied().skip_while(|b| *b == 0).collect();
        if octets.first().is_none_or(|b| b & 0x80 != 0) {
            octets.insert(0, 0);
        }
        [&[2, u8::try_from(octets.len().min(127)).unwrap()], &octets[..]].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len().min(127)).unwrap()], &both[..]].concat()
}

#[test]
fn auth_04_keys_in_the_token_are_nobodys_keys() {
    let mut tried = Tried::default();
    for kind in ["ES256", "ES384", "ES512", "EdDSA"] {
        let attacker = Signer::new(kind, "attacker");
        let jwk = attacker.jwk();
        let nameless = without(attacker.header(), "kid");
        let mut known = vec![nameless, attacker.header()];
        known.extend(KEYS.iter().map(|signer| with(attacker.header(), "kid", json!(signer.kid))));
        for header in known {
            for (name, value) in [
                ("jwk", jwk.clone()),
                ("jku", json!("https://attacker.test/jwks")),
                ("x5u", json!("https://attacker.test/cert")),
                ("x5c", json!([base64::prelude::BASE64_STANDARD.encode(attacker.spki())])),
                ("x5t", json!("AAAA")),
            ] {
                let token = attacker.sign_as(&with(header.clone(), name, value), &claims());
                tried.refused(&format!("{kind} {name}"), &token);
            }
        }
    }
    tried.end(0, 200);
}

#[test]
fn auth_05_a_kid_is_a_name_and_nothing_else() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let mut check = |kid: Value| {
            let token = signer.sign_as(&with(signer.header(), "kid", kid.clone()), &claims());
            tried.refused(&format!("{} {kid}", signer.alg), &token);
        };
        for kid in [
            "",
            "../../../../dev/null",
            "' OR '1'='1",
            "rsa\0",
            "RSA",
            "rsa ",
            "https://attacker.test/",
            "$(id)",
            "%72sa",
        ] {
            check(json!(kid));
        }
        check(json!("k".repeat(256)));
        check(json!("k".repeat(257)));
        check(json!("k".repeat(10_000)));
        for kid in [json!(1), json!(null), json!([signer.kid]), json!({ "rsa": 1 }), json!(true)] {
            check(kid);
        }
        // The names of the other keys.
        for other in KEYS.iter().filter(|other| other.kid != signer.kid) {
            check(json!(other.kid));
        }
    }
    tried.end(0, 180);
}

#[test]
fn auth_06_times_of_a_wrong_type_are_not_left_out() {
    let mut tried = Tried::default();
    let signer = &KEYS[6];
    for name in ["exp", "nbf", "iat"] {
        for wrong in [
            json!((NOW + 300).to_string()),
            json!("2099-01-01T00:00:00Z"),
            json!(null),
            json!(true),
            json!([NOW + 300]),
            json!({ "value": NOW + 300 }),
            json!(-1),
            json!(-1.5),
            json!(1e300),
            json!(253_402_300_800_u64),
            json!(u64::MAX),
            json!(""),
        ] {
            let token = signer.sign(&with(claims(), name, wrong.clone()));
            tried.refused(&format!("{name} {wrong}"), &token);
        }
        for number in ["1e400", "-1e400", "NaN", "Infinity", "01", "0x7fffffff", "1.", ".5", "+1"] {
            let text =
                format!(r#"{{"iss":"https://id.test/","aud":"api","exp":{NOW}300,"{name}_":1}}"#);
            let text = text.replace(&format!("{NOW}300"), &(NOW + 300).to_string());
            let fine = signer.sign_octets(signer.header().to_string().as_bytes(), text.as_bytes());
            tried.taken("the text without it", &fine);
            let text = match name {
                "exp" => text.replace(&(NOW + 300).to_string(), number),
                _ => text.replace(&format!("\"{name}_\":1"), &format!("\"{name}\":{number}")),
            };
            let token = signer.sign_octets(signer.header().to_string().as_bytes(), text.as_bytes());
            tried.refused(&format!("{name} {number}"), &token);
        }
    }
    tried.refused("no exp", &signer.sign(&without(claims(), "exp")));
    for exp in [0, 1, NOW - 10_000, NOW - 61, NOW - 60] {
        let token = signer.sign(&with(claims(), "exp", json!(exp)));
        tried.refused("expired", &token);
        let fault = verify(token.as_bytes(), &rules(), &SET, NOW).unwrap_err();
        assert_eq!(fault, Fault::TokenExpired, "{exp}");
    }
    for late in [NOW + 61, NOW + 10_000, 253_402_300_799] {
        tried.refused("nbf to come", &signer.sign(&with(claims(), "nbf", json!(late))));
        tried.refused("iat to come", &signer.sign(&with(claims(), "iat", json!(late))));
    }
    // What the rules change.
    let lax = Rules { require_exp: false, ..rules() };
    let eternal = signer.sign(&without(claims(), "exp"));
    tried.with("exp is not needed", &eternal, &lax, &SET, true);
    let wrong = signer.sign(&with(claims(), "exp", json!("x")));
    tried.with("but is judged", &wrong, &lax, &SET, false);
    let aged = Rules { max_age: Some(600), leeway: 0, ..rules() };
    for (iat, taken) in [(NOW, true), (NOW - 599, true), (NOW - 600, false), (NOW - 9999, false)] {
        let token = signer.sign(&with(claims(), "iat", json!(iat)));
        tried.with(&format!("iat {iat}"), &token, &aged, &SET, taken);
    }
    tried.with("no iat", &signer.sign(&without(claims(), "iat")), &aged, &SET, false);
    let exact = Rules { leeway: 0, ..rules() };
    tried.with("now", &signer.sign(&with(claims(), "exp", json!(NOW))), &exact, &SET, false);
    tried.with("next", &signer.sign(&with(claims(), "exp", json!(NOW + 1))), &exact, &SET, true);
    tried.end(5, 70);
}

#[test]
fn auth_08_issuer_audience_and_type_are_compared_whole() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let mut check = |name: &str, value: Value| {
            let token = signer.sign(&with(claims(), name, value.clone()));
            tried.refused(&format!("{} {name} {value}", signer.alg), &token);
        };
        for issuer in [
            "https://id.test",
            "https://id.test//",
            "https://ID.test/",
            "https://id.test/x",
            "http://id.test/",
            "https://id.test.evil.test/",
            "x https://id.test/",
            "",
        ] {
            check("iss", json!(issuer));
        }
        for issuer in [json!(null), json!(["https://id.test/"]), json!(1), json!({})] {
            check("iss", issuer);
        }
        for audience in ["ap", "api2", "API", "api ", "", "api other", "api,other", "*"] {
            check("aud", json!(audience));
        }
        for audience in [
            json!([]),
            json!(["x"]),
            json!(["api", 1]),
            json!([["api"]]),
            json!({ "api": 1 }),
            json!(null),
            json!(7),
        ] {
            check("aud", audience);
        }
        tried.refused("no iss", &signer.sign(&without(claims(), "iss")));
        tried.refused("no aud", &signer.sign(&without(claims(), "aud")));
        let client = with(with(claims(), "aud", json!("x")), "client_id", json!("api"));
        tried.refused("client_id beside aud", &signer.sign(&client));
        let client = |value| with(without(claims(), "aud"), "client_id", value);
        tried.refused("client_id", &signer.sign(&client(json!("x"))));
        tried.refused("client_id", &signer.sign(&client(json!(["api"]))));
    }
    let signer = &KEYS[6];
    let strict = Rules { client_id: false, ..rules() };
    let client = with(without(claims(), "aud"), "client_id", json!("api"));
    tried.with("no client_id", &signer.sign(&client), &strict, &SET, false);
    let anybody = Rules { audience: Vec::new(), ..rules() };
    tried.with("any", &signer.sign(&with(claims(), "aud", json!("x"))), &anybody, &SET, true);
    tried.with("none", &signer.sign(&without(claims(), "aud")), &anybody, &SET, true);
    tried.with("no text", &signer.sign(&with(claims(), "aud", json!(1))), &anybody, &SET, false);
    let typed = Rules { types: vec!["at+jwt".into()], ..rules() };
    for (kind, taken) in [
        ("at+jwt", true),
        ("AT+JWT", true),
        ("application/at+jwt", true),
        ("Application/At+JWT", true),
        ("JWT", false),
        ("at+jwt2", false),
        ("x/at+jwt", false),
        ("", false),
        ("application/", false),
    ] {
        let token = signer.sign_as(&with(signer.header(), "typ", json!(kind)), &claims());
        tried.with(kind, &token, &typed, &SET, taken);
    }
    let untyped = signer.sign_as(&without(signer.header(), "typ"), &claims());
    tried.with("no typ", &untyped, &typed, &SET, false);
    for kind in [json!(1), json!(null), json!(["at+jwt"])] {
        let token = signer.sign_as(&with(signer.header(), "typ", kind), &claims());
        tried.refused("typ of a wrong type", &token);
    }
    tried.end(5, 300);
}

#[test]
fn auth_10_there_is_one_way_to_write_a_token() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let alg = signer.alg;
        let token = signer.sign(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!() };
        for (what, text) in [
            ("two parts", format!("{header}.{payload}")),
            ("four parts", format!("{token}.")),
            ("five parts, as a JWE", format!("{header}.{payload}.{signature}.AAAA.AAAA")),
            ("a dot in front", format!(".{token}")),
            ("nothing", String::new()),
            ("dots", "..".to_owned()),
            ("no header", format!(".{payload}.{signature}")),
            ("no claims", format!("{header}..{signature}")),
            ("space", format!(" {token}")),
            ("space", format!("{token} ")),
            ("end of line", format!("{token}\n")),
            ("end of line", format!("{header}\n.{payload}.{signature}")),
            ("padding", format!("{header}=.{payload}.{signature}")),
            ("padding", format!("{header}.{payload}.{signature}=")),
            ("padding", format!("{header}.{payload}.{signature}==")),
            ("space within", format!("{header}.{} {}.{signature}", &payload[..9], &payload[9..])),
            ("zero", format!("{token}\0")),
            ("a comma", format!("{token},{token}")),
            ("scheme", format!("Bearer {token}")),
            (
                "JSON serialization",
                json!({ "protected": header, "payload": payload, "signature": signature })
                    .to_string(),
            ),
            ("percent-encoded", token.replace('.', "%2E")),
        ] {
            tried.refused(&format!("{alg} {what}"), &text);
        }
        // The last character's unused bits, where there are any, must be zero: otherwise one signature has several texts.
        let last = signature.chars().last().unwrap();
        if signature.len() % 4 != 0 {
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let at = alphabet.find(last).unwrap();
            let other = &alphabet[at + 1..at + 2];
            let text = format!("{header}.{payload}.{}{other}", &signature[..signature.len() - 1]);
            tried.refused(&format!("{alg} unused bits"), &text);
        }
        let plain = |text: &str| text.replace('-', "+").replace('_', "/");
        if plain(signature) != signature {
            tried.refused(alg, &format!("{header}.{payload}.{}", plain(signature)));
        }
        for (name, value) in [
            ("crit", json!([])),
            ("crit", json!(["exp"])),
            ("crit", json!(["b64"])),
            ("crit", json!("b64")),
            ("crit", json!(null)),
            ("b64", json!(false)),
            ("b64", json!(null)),
            ("b64", json!("true")),
            ("zip", json!("DEF")),
            ("enc", json!("A128GCM")),
        ] {
            let header = with(signer.header(), name, value.clone());
            tried.refused(&format!("{alg} {name} {value}"), &signer.sign_as(&header, &claims()));
        }
        let octets = claims().to_string();
        for (what, header, claims) in [
            ("alg twice", format!(r#"{{"alg":"{alg}","alg":"{alg}"}}"#), octets.clone()),
            ("kid twice", format!(r#"{{"alg":"{alg}","kid":"a","kid":"b"}}"#), octets.clone()),
            ("escaped", format!(r#"{{"alg":"{alg}","\u0061lg":"none"}}"#), octets.clone()),
            ("an array", format!(r#"["{alg}"]"#), octets.clone()),
            ("text", format!(r#""{alg}""#), octets.clone()),
            ("more", format!(r#"{{"alg":"{alg}"}}x"#), octets.clone()),
            ("single quotes", format!("{{'alg':'{alg}'}}"), octets.clone()),
            ("a comment", format!(r#"{{"alg":"{alg}"/**/}}"#), octets.clone()),
            ("a comma", format!(r#"{{"alg":"{alg}",}}"#), octets.clone()),
            ("a mark", format!("\u{feff}{{\"alg\":\"{alg}\"}}"), octets.clone()),
            ("sub twice", signer.header().to_string(), octets.replace('}', r#","sub":"admin"}"#)),
            ("exp twice", signer.header().to_string(), octets.replace('}', r#","exp":1}"#)),
            ("within", signer.header().to_string(), octets.replace('}', r#","a":{"b":1,"b":2}}"#)),
            ("claims of an array", signer.header().to_string(), format!("[{octets}]")),
            ("no claims", signer.header().to_string(), String::new()),
            ("null", signer.header().to_string(), "null".to_owned()),
            ("more claims", signer.header().to_string(), format!("{octets}{octets}")),
            ("a token within", signer.header().to_string(), token.clone()),
            ("half", signer.header().to_string(), octets[..octets.len() - 1].to_owned()),
        ] {
            let token = signer.sign_octets(header.as_bytes(), claims.as_bytes());
            tried.refused(&format!("{alg} {what}"), &token);
        }
        let latin = octets.replace("u1", "\u{1}").into_bytes();
        let latin: Vec<u8> = latin.into_iter().map(|b| if b == 1 { 0xe9 } else { b }).collect();
        let token = signer.sign_octets(signer.header().to_string().as_bytes(), &latin);
        tried.refused(&format!("{alg} no UTF-8"), &token);
        let long = with(claims(), "x", json!("x".repeat(LONGEST)));
        tried.refused(&format!("{alg} too long"), &signer.sign(&long));
        // What is signed cannot be changed afterwards.
        let admin = b64(with(claims(), "sub", json!("admin")).to_string());
        tried.refused(alg, &format!("{header}.{admin}.{signature}"));
        let typ = b64(with(signer.header(), "typ", json!("x")).to_string());
        tried.refused(alg, &format!("{typ}.{payload}.{signature}"));
    }
    tried.end(0, 500);
}

#[test]
fn jwks_that_bind_a_key_are_obeyed() {
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let token = signer.sign(&claims());
        let alg = signer.alg;
        let mut check = |jwk: Value, taken: bool| {
            // A key of another kind keeps the set from being empty.
            let other = Signer::new("ES256", "else");
            let keys = KeySet::of_jwks(jwks([jwk.clone(), other.jwk()]).as_bytes()).unwrap();
            tried.with(&format!("{alg} {jwk}"), &token, &rules(), &keys, taken);
        };
        let jwk = || signer.jwk();
        check(with(jwk(), "alg", json!(alg)), true);
        check(with(jwk(), "use", json!("sig")), true);
        check(with(jwk(), "key_ops", json!(["sign", "verify"])), true);
        check(without(jwk(), "kid"), true);
        for other in ASYMMETRIC.into_iter().filter(|other| *other != alg) {
            check(with(jwk(), "alg", json!(other)), false);
        }
        for (name, value) in [
            ("alg", json!("HS256")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("none")),
            ("alg", json!(1)),
            ("alg", json!(null)),
            ("use", json!("enc")),
            ("use", json!("SIG")),
            ("use", json!(["sig"])),
            ("key_ops", json!(["sign"])),
            ("key_ops", json!([])),
            ("key_ops", json!("verify")),
            ("kty", json!("oct")),
            ("kty", json!("rsa")),
            ("kty", json!(null)),
            ("kid", json!("k".repeat(257))),
            ("kid", json!(1)),
            ("n", json!("AQAB")),
            ("n", json!("!")),
            ("e", json!("AQ")),
            ("e", json!("Ag")),
            ("crv", json!("P-192")),
            ("crv", json!("secp256k1")),
            ("x", json!("AA")),
            ("y", json!("AA")),
        ] {
            let fits = jwk().get(name).is_some() || ["alg", "use", "key_ops"].contains(&name);
            if fits {
                check(with(jwk(), name, value), false);
            }
        }
        // Keys of RSA that are too short.
        if alg == "RS256" {
            let mut n = [0xa5; 128];
            n[127] |= 1;
            check(with(jwk(), "n", json!(b64(n))), false);
            let mut n = [0xff; 255];
            n[0] = 0x7f;
            check(with(jwk(), "n", json!(b64(n))), false);
        }
    }
    tried.end(40, 180);
}

#[test]
fn sets_that_are_none_are_refused_whole() {
    let one = KEYS[6].jwk().to_string();
    for (what, text) in [
        ("nothing", String::new()),
        ("no object", "[]".to_owned()),
        ("no keys", "{}".to_owned()),
        ("a key", one.clone()),
        ("keys of a wrong type", r#"{"keys":{}}"#.to_owned()),
        ("keys of a wrong type", r#"{"keys":null}"#.to_owned()),
        ("an empty set", r#"{"keys":[]}"#.to_owned()),
        ("no objects", r#"{"keys":[1]}"#.to_owned()),
        ("one that is none", format!(r#"{{"keys":[{one},"x"]}}"#)),
        ("keys twice", format!(r#"{{"keys":[{one}],"keys":[{one}]}}"#)),
        ("kid twice", format!(r#"{{"keys":[{}]}}"#, one.replace('{', r#"{"kid":"a","#))),
        ("secrets alone", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#.to_owned()),
        ("101 keys", format!(r#"{{"keys":[{}]}}"#, vec![one.as_str(); 101].join(","))),
        ("more", format!(r#"{{"keys":[{one}]}}x"#)),
        ("HTML", "<html></html>".to_owned()),
    ] {
        assert!(KeySet::of_jwks(text.as_bytes()).is_err(), "{what}");
    }
    assert_eq!(KeySet::of_jwks(format!(r#"{{"keys":[{one}]}}"#).as_bytes()).unwrap().len(), 1);
    // A point that is on no curve.
    let off = with(KEYS[6].jwk(), "y", json!(b64([7; 32])));
    assert!(KeySet::of_jwks(jwks([off]).as_bytes()).is_err());
}

#[test]
fn keys_in_pem_verify_what_they_have_signed() {
    let all: String = KEYS.iter().filter(|k| k.kid != "rsa").map(Signer::pem).collect();
    let all = all + &KEYS[0].pem();
    let keys = KeySet::of_file(all.as_bytes()).unwrap();
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        tried.with(signer.alg, &signer.sign(&claims()), &rules(), &keys, true);
        let other = Signer::new("ES256", "x").sign(&claims());
        tried.with("another", &other, &rules(), &keys, false);
    }
    tried.end(10, 10);
}

#[test]
fn several_keys_of_one_name_are_all_tried_but_not_without_end() {
    let signers: Vec<Signer> = (0..6).map(|_| Signer::new("ES256", "same")).collect();
    let keys = KeySet::of_jwks(jwks(signers.iter().map(Signer::jwk)).as_bytes()).unwrap();
    for (at, signer) in signers.iter().enumerate() {
        let verdict = verify(signer.sign(&claims()).as_bytes(), &rules(), &keys, NOW);
        assert_eq!(verdict.is_ok(), at < 4, "{at}");
    }
}

#[test]
fn published_vectors_verify() {
    let check = |jwk: &str, alg: &str, token: &str| {
        let keys = match jwk.strip_prefix("secret:") {
            Some(secret) => {
                let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).unwrap();
                KeySet::of_secret(&secret, Algorithms::SYMMETRIC).unwrap()
            }
            None => KeySet::of_jwks(format!(r#"{{"keys":[{jwk}]}}"#).as_bytes()).unwrap(),
        };
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut octets = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let algorithm = Algorithm::of(alg).unwrap();
        assert_eq!(keys.verify(algorithm, None, signed.as_bytes(), &octets), Ok(()), "{alg}");
        octets[5] ^= 4;
        assert!(keys.verify(algorithm, None, signed.as_bytes(), &octets).is_err(), "{alg}");
    };
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    // RFC 7515 appendix A.1.
    check(
        "secret:AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "HS256",
        &format!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{joe}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        ),
    );
    // A.2.
    check(
        concat!(
            r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddx"#,
            "HmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSH",
            "SXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8",
            r#"NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#
        ),
        "RS256",
        &format!(
            "eyJhbGciOiJSUzI1NiJ9.{joe}.{}",
            concat!(
                "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4",
                "BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqv",
                "hJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            )
        ),
    );
    // A.3.
    check(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
        "ES256",
        &format!(
            "eyJhbGciOiJFUzI1NiJ9.{joe}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
        ),
    );
    // RFC 8037 appendix A.4.
    check(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        "EdDSA",
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
    );
}

#[test]
fn tokens_of_another_library_are_taken() {
    use jsonwebtoken::{EncodingKey, Header, encode};
    let mut tried = Tried::default();
    for signer in KEYS.iter() {
        let key = match &*signer.key {
            Key::Ec(pair, _) if signer.alg != "ES512" => {
                EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
            }
            Key::Ed(pair) => EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref()),
            _ => continue,
        };
        let mut header = Header::new(signer.alg.parse().unwrap());
        header.kid = Some(signer.kid.clone());
        tried.taken(signer.alg, &encode(&header, &claims(), &key).unwrap());
        let wrong = encode(&header, &with(claims(), "aud", json!("x")), &key).unwrap();
        tried.refused(signer.alg, &wrong);
    }
    tried.end(3, 3);
}
