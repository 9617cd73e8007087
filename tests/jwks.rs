//! Keys that are fetched, over real sockets: providers that are down, slow, rotating, huge or hostile. Whatever they do, no request
//! waits for them, known keys keep working, nobody passes without, and the metrics say so (hazards AUTH-04, 05, 09, 11, 17).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]
#![allow(clippy::disallowed_methods)]

#[path = "jwt/signer.rs"]
mod signer;
mod support;

use serde_json::{Value, json};
use signer::{Signer, jwks, unix};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use support::authority::{Authority, When};
use support::tls_origin::{TlsOrigin, server};
use support::{Client, Message, Origin, Ringgate, eventually, free_address};

/// What a provider does.
#[derive(Clone, Debug)]
enum Mood {
    /// Answers with 200 and this.
    Says(String),
    /// Answers with these octets.
    Sends(Vec<u8>),
    /// Closes at once.
    Closes,
    /// Never answers.
    Silent,
    /// Begins an answer and sends it an octet at a time.
    Drips,
    /// Sends octets without end.
    Floods,
}

/// A provider whose mood may change.
struct Provider {
    origin: Origin,
    mood: Arc<Mutex<Mood>>,
}

impl Provider {
    fn new(mood: Mood) -> Provider {
        let mood = Arc::new(Mutex::new(mood));
        let its = Arc::clone(&mood);
        let origin = Origin::script(move |conn| {
            while conn.request()?.is_some() {
                let mood = its.lock().unwrap().clone();
                match mood {
                    Mood::Says(text) => conn.send(ok(&text))?,
                    Mood::Sends(octets) => conn.send(octets)?,
                    Mood::Closes => return Ok(()),
                    Mood::Silent => {
                        // Until whoever asked gives up.
                        conn.wire.rest()?;
                    }
                    Mood::Drips => {
                        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
                        for _ in 0..100_000 {
                            conn.send(" ")?;
                            std::thread::sleep(std::time::Duration::from_millis(50));
                        }
                    }
                    Mood::Floods => {
                        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                        let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
                        loop {
                            conn.send(&chunk)?;
                        }
                    }
                }
            }
            Ok(())
        });
        Provider { origin, mood }
    }

    fn saying(keys: &[&Signer]) -> Provider {
        Provider::new(Mood::Says(jwks(keys.iter().map(|signer| signer.jwk()))))
    }

    fn turns(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.origin.address)
    }

    fn asked(&self) -> usize {
        self.origin.requests().len()
    }
}

fn ok(text: &str) -> Vec<u8> {
    let length = text.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{text}")
        .into_bytes()
}

fn claims(n: u64) -> Value {
    json!({ "iss": "https://id.test/", "aud": "api", "sub": "u1", "exp": unix() + 300, "n": n })
}

fn config(listen: SocketAddr, policies: &[(&str, &str)]) -> String {
    let mut text = format!("[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n");
    for (name, policy) in policies {
        text += &format!(
            "[[rule]]\nname = \"{name}\"\npolicy = [\"{name}\"]\nrespond = {{ status = 200, body = \"in\" }}\n\
             [rule.when]\npath = [\"/{name}\"]\n"
        );
        text += &format!("[policy.{name}.jwt]\naudience = \"api\"\n{policy}\n");
        if !policy.contains("issuer =") {
            text += "issuer = \"https://id.test/\"\n";
        }
    }
    text
}

struct World {
    ringgate: Ringgate,
    listen: SocketAddr,
}

impl World {
    fn new(policies: &[(&str, &str)]) -> World {
        let listen = free_address();
        World { ringgate: Ringgate::start(&config(listen, policies)), listen }
    }

    /// One policy with keys of `provider`.
    fn with(provider: &Provider, more: &str) -> World {
        World::new(&[("t", &format!("jwks_url = \"{}\"\n{more}", provider.url()))])
    }

    #[track_caller]
    fn ask(&self, path: &str, token: &str) -> Message {
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        Client::connect(self.listen).send(text).response()
    }

    #[track_caller]
    fn passes(&self, token: &str) {
        let answer = self.ask("/t", token);
        assert_eq!(answer.status(), 200, "{} {}", answer.reason(), answer.text());
    }

    #[track_caller]
    fn refuses(&self, token: &str, reason: &str) {
        assert_eq!(self.ask("/t", token).reason(), reason);
    }

    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.ringgate.sum(&format!("ringgate_jwks_{name}"), labels)
    }

    fn failures(&self) -> f64 {
        self.sum("fetches_total", &["failed"])
    }
}

#[test]
fn auth_09_known_keys_outlast_everything_that_a_provider_does() {
    let (known, other) = (Signer::new("ES256", "k"), Signer::new("ES256", "other"));
    let elsewhere = Provider::saying(&[&other]);
    let redirect = |status: &str| {
        let to = elsewhere.url();
        let text = format!("HTTP/1.1 {status}\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        Mood::Sends(text.into_bytes())
    };
    let status = |line: &str| {
        let text = jwks([other.jwk()]);
        let length = text.len();
        Mood::Sends(
            format!("HTTP/1.1 {line}\r\nContent-Length: {length}\r\n\r\n{text}").into_bytes(),
        )
    };
    let says = |text: &str| Mood::Says(text.to_owned());
    let jwk = other.jwk();
    let padded = json!({ "keys": [jwk], "x": "x".repeat(10 << 20) }).to_string();
    let moods = [
        ("down", Mood::Closes),
        ("500", status("500 Internal Server Error")),
        ("404", status("404 Not Found")),
        ("204", Mood::Sends(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())),
        ("201", status("201 Created")),
        ("301", redirect("301 Moved Permanently")),
        ("302", redirect("302 Found")),
        ("307", redirect("307 Temporary Redirect")),
        ("no HTTP", Mood::Sends(b"\x15\x03\x01\x00\x02\x02\x46 no HTTP\r\n\r\n".to_vec())),
        ("nothing", says("")),
        ("HTML", says("<html>sorry</html>")),
        ("half", says(&jwks([other.jwk()])[..40])),
        ("an empty set", says(r#"{"keys":[]}"#)),
        ("keys of a wrong type", says(r#"{"keys":{"a":1}}"#)),
        ("keys that are texts", says(r#"{"keys":["a"]}"#)),
        ("an array", says(&format!("[{jwk}]"))),
        ("a number", says("7")),
        ("keys twice", says(&format!(r#"{{"keys":[{jwk}],"keys":[{jwk}]}}"#))),
        ("wrong types", says(r#"{"keys":[{"kty":1,"n":2,"e":[],"x":{},"y":null,"kid":7}]}"#)),
        ("secrets", says(r#"{"keys":[{"kty":"oct","kid":"k","k":"AAAA"}]}"#)),
        ("1,000 keys", says(&jwks((0..1000).map(|n| other.named(&format!("k{n}")).jwk())))),
        ("10 MB", Mood::Says(padded)),
        ("10 MB of nothing", Mood::Says(" ".repeat(10 << 20))),
        ("deep", says(&"[".repeat(100_000))),
        ("truncated", Mood::Sends(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}".to_vec())),
        ("without end", Mood::Floods),
    ];
    // Each mood takes a second or two: some at a time.
    let mut moods = moods.to_vec();
    std::thread::scope(|scope| {
        while !moods.is_empty() {
            let some = moods.split_off(moods.len().saturating_sub(7));
            scope.spawn(|| outlasts(some, &known, &other));
        }
    });
    assert_eq!(elsewhere.asked(), 0, "no redirect is followed");
}

#[track_caller]
fn outlasts(moods: Vec<(&str, Mood)>, known: &Signer, other: &Signer) {
    let provider = Provider::saying(&[known]);
    let world = World::with(&provider, "refresh = \"1s\"");
    let remembered = known.sign(&claims(0));
    world.passes(&remembered);
    for (at, (what, mood)) in moods.into_iter().enumerate() {
        provider.turns(mood);
        let before = world.failures();
        eventually(&format!("{what}: a fetch fails"), || world.failures() > before);
        world.passes(&remembered);
        world.passes(&known.sign(&claims(at as u64 + 1)));
        world.refuses(&other.sign(&claims(0)), "token_invalid");
        assert_eq!(world.sum("keys", &[]), 1.0, "{what}");
        assert_eq!(world.sum("last_fetch_success", &[]), 0.0, "{what}");
        provider.turns(Mood::Says(jwks([known.jwk()])));
        let good = || world.sum("last_fetch_success", &[]) > 0.0;
        eventually(&format!("{what}: a fetch succeeds"), good);
    }
    let said = world.ringgate.output();
    assert!(said.contains("keys cannot be fetched; those that are known stay"), "{said}");
}

#[test]
fn auth_09_a_slow_provider_keeps_no_request_waiting() {
    let known = Signer::new("ES256", "k");
    for mood in [Mood::Silent, Mood::Drips] {
        let provider = Provider::saying(&[&known]);
        let world = World::with(&provider, "refresh = \"1s\"");
        provider.turns(mood.clone());
        let before = provider.asked();
        eventually("it is asked", || provider.asked() > before);
        // It has the question and does not answer: nothing of this can have waited for it.
        for n in 0..20 {
            world.passes(&known.sign(&claims(n)));
            world.refuses(&Signer::new("ES256", "new").sign(&claims(n)), "token_invalid");
        }
        eventually(&format!("{mood:?}: its time is over"), || world.failures() > 0.0);
        world.passes(&known.sign(&claims(99)));
    }
}

#[test]
fn auth_09_nobody_passes_before_the_first_keys() {
    let known = Signer::new("ES256", "k");
    for mood in [Mood::Closes, Mood::Silent, Mood::Says("{\"keys\":[]}".to_owned())] {
        let provider = Provider::new(mood);
        let world = World::with(&provider, "refresh = \"1s\"");
        let token = known.sign(&claims(0));
        let answer = world.ask("/t", &token);
        assert_eq!((answer.status(), answer.reason()), (503, "token_keys_unavailable"));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(world.sum("keys", &[]), 0.0);
        // What is wrong without keys is wrong.
        world.refuses("x", "token_invalid");
        let elsewhere = known.sign(&json!({ "iss": "x", "aud": "api", "exp": unix() + 300 }));
        world.refuses(&elsewhere, "token_invalid");
        provider.turns(Mood::Says(jwks([known.jwk()])));
        eventually("the keys are there", || world.ask("/t", &token).status() == 200);
    }
}

#[test]
fn auth_09_keys_that_were_not_fetched_for_too_long_are_not_used() {
    let known = Signer::new("ES256", "k");
    let provider = Provider::saying(&[&known]);
    let world = World::with(&provider, "refresh = \"1s\"\nmax_stale = \"2s\"");
    let token = known.sign(&claims(0));
    world.passes(&token);
    provider.turns(Mood::Closes);
    eventually("they are too old", || world.ask("/t", &token).status() == 503);
    assert_eq!(world.sum("keys", &[]), 0.0);
    provider.turns(Mood::Says(jwks([known.jwk()])));
    eventually("they are there again", || world.ask("/t", &token).status() == 200);
}

#[test]
fn auth_05_unknown_kids_make_the_keys_be_fetched_once_a_minute() {
    let (old, new) = (Signer::new("ES256", "old"), Signer::new("EdDSA", "new"));
    let provider = Provider::saying(&[&old]);
    let world = World::with(&provider, "refresh = \"1h\"");
    world.passes(&old.sign(&claims(0)));
    assert_eq!(provider.asked(), 1);
    // The provider goes over to another key: the first token of it makes the set be fetched.
    provider.turns(Mood::Says(jwks([new.jwk()])));
    let token = new.sign(&claims(1));
    eventually("the new key is known", || world.ask("/t", &token).status() == 200);
    world.refuses(&old.sign(&claims(0)), "token_invalid");
    assert_eq!(provider.asked(), 2);
    // Names that were made up: thousands of them within the minute, and no further fetch.
    let began = std::time::Instant::now();
    let mut client = Client::connect(world.listen);
    for n in 0..3_000 {
        let token = new.named(&format!("k{n}")).sign(&claims(n));
        let text =
            format!("GET /t HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {token}\r\n\r\n");
        assert_eq!(client.send(text).response().status(), 401);
    }
    let minutes = usize::try_from(began.elapsed().as_secs() / 60).unwrap();
    assert!(provider.asked() <= 2 + minutes, "{}", provider.asked());
}

#[test]
fn several_policies_ask_one_place_once_and_reloads_keep_what_is_known() {
    let known = Signer::new("ES256", "k");
    let provider = Provider::saying(&[&known]);
    let policy = format!("jwks_url = \"{}\"\nrefresh = \"1h\"", provider.url());
    let world = World::new(&[("t", &policy), ("u", &format!("{policy}\nscopes = \"x\""))]);
    world.passes(&known.sign(&claims(0)));
    assert_eq!(world.ask("/u", &known.sign(&claims(0))).reason(), "insufficient_scope");
    assert_eq!(provider.asked(), 1);
    provider.turns(Mood::Closes);
    let changed = format!("{policy}\nleeway = \"5s\"");
    world.ringgate.reload(&config(world.listen, &[("t", &changed), ("new", &policy)]));
    world.passes(&known.sign(&claims(1)));
    assert_eq!(world.ask("/new", &known.sign(&claims(1))).status(), 200);
    assert_eq!(provider.asked(), 1, "{}", world.ringgate.output());
}

#[test]
fn auth_17_an_issuer_is_asked_for_its_keys_if_none_are_given() {
    let known = Signer::new("ES256", "k");
    // Metadata and keys from one address; the metadata depend on it.
    let made = Arc::new(Mutex::new(String::new()));
    let (metadata, set) = (Arc::clone(&made), jwks([known.jwk()]));
    let origin = Origin::script(move |conn| {
        while let Some(request) = conn.request()? {
            match request.target() {
                "/realm/.well-known/openid-configuration" => {
                    let text = metadata.lock().unwrap().clone();
                    conn.send(ok(&text))?;
                }
                "/realm/keys" => conn.send(ok(&set))?,
                _ => conn.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
            }
        }
        Ok(())
    });
    let issuer = format!("http://{}/realm", origin.address);
    let right = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/keys") });
    let mut claims = claims(0);
    claims["iss"] = json!(issuer);
    let token = known.sign(&claims);
    let policy = format!("issuer = \"{issuer}\"\nrefresh = \"1s\"");
    let changed = |name: &str, value: Value| {
        let mut changed = right.clone();
        changed[name] = value;
        changed
    };
    for wrong in [
        changed("issuer", json!("https://evil.test/")),
        changed("issuer", json!(format!("{issuer}/"))),
        changed("issuer", json!(null)),
        changed("jwks_uri", json!("http://192.0.2.1/keys")),
        changed("jwks_uri", json!("file:///etc/passwd")),
        changed("jwks_uri", json!(null)),
        json!([]),
    ] {
        *made.lock().unwrap() = wrong.to_string();
        let world = World::new(&[("t", &policy)]);
        world.refuses(&token, "token_keys_unavailable");
        assert!(world.failures() > 0.0, "{wrong}");
    }
    *made.lock().unwrap() = right.to_string();
    let world = World::new(&[("t", &policy)]);
    world.passes(&token);
}

#[test]
fn auth_09_a_provider_must_prove_who_it_is() {
    let known = Signer::new("ES256", "k");
    let (authority, stranger) = (Authority::new("trusted"), Authority::new("stranger"));
    let name = "127.0.0.1";
    let check = |server: Arc<rustls::ServerConfig>, ca: Option<&Path>, passes: bool, what: &str| {
        let origin = TlsOrigin::saying(server, &jwks([known.jwk()]));
        let ca = ca.map(|ca| format!("ca = \"{}\"\n", ca.display())).unwrap_or_default();
        let url = format!("https://{}/keys", origin.address);
        let world = World::new(&[("t", &format!("jwks_url = \"{url}\"\n{ca}"))]);
        match passes {
            true => world.passes(&known.sign(&claims(0))),
            false => {
                world.refuses(&known.sign(&claims(0)), "token_keys_unavailable");
                assert!(world.failures() > 0.0, "{what}");
            }
        }
    };
    let ca = Some(authority.file.as_path());
    check(server(&authority.issue(&[name])), ca, true, "as it should be");
    check(server(&authority.issue(&[name])), None, false, "by the system's roots");
    check(server(&authority.issue(&[name])), Some(&stranger.file), false, "by another authority");
    check(server(&authority.issue(&["id.test"])), ca, false, "for another name");
    check(server(&authority.issue_when(&[name], When::Past)), ca, false, "expired");
    check(server(&authority.self_signed(&[name])), ca, false, "by itself");
    // Plain text where TLS is spoken.
    let plain = Provider::saying(&[&known]);
    let url = plain.url().replace("http:", "https:");
    let world = World::new(&[("t", &format!("jwks_url = \"{url}\""))]);
    world.refuses(&known.sign(&claims(0)), "token_keys_unavailable");
    assert_eq!(plain.asked(), 0);
}

#[test]
fn auth_04_what_a_token_says_of_keys_is_asked_nowhere() {
    let (known, attacker) = (Signer::new("ES256", "k"), Signer::new("ES256", "evil"));
    let elsewhere = Provider::saying(&[&attacker]);
    let provider = Provider::saying(&[&known]);
    let world = World::with(&provider, "refresh = \"1h\"");
    for name in ["jku", "x5u", "iss_jwks", "jwks_uri"] {
        let mut header = attacker.header();
        header[name] = json!(elsewhere.url());
        world.refuses(&attacker.sign_as(&header, &claims(0)), "token_invalid");
        let mut claims = claims(1);
        claims["iss"] = json!(elsewhere.url());
        world.refuses(&attacker.sign_as(&header, &claims), "token_invalid");
    }
    // The unknown kid has made the right place be asked again; by then the wrong one would have been, too.
    eventually("the keys are fetched again", || provider.asked() == 2);
    assert_eq!((elsewhere.asked(), elsewhere.origin.connections()), (0, 0));
}

#[test]
fn keys_of_one_name_and_keys_without_one_are_tried() {
    let (one, two) = (Signer::new("ES256", "same"), Signer::new("EdDSA", "same"));
    let nameless = Signer::new("ES384", "none");
    let mut jwk = nameless.jwk();
    jwk.as_object_mut().unwrap().remove("kid");
    let provider = Provider::new(Mood::Says(jwks([one.jwk(), two.jwk(), jwk])));
    let world = World::with(&provider, "");
    for signer in [&one, &two, &nameless] {
        world.passes(&signer.sign(&claims(0)));
    }
    assert_eq!(world.sum("keys", &[]), 3.0);
}
