//! What a token costs: one that was never seen, beside the crypto library's verification alone, and one that is remembered.
//!
//! The goals: never seen within 10 % of the library for ES256; remembered at most 5 % of a keep-alive request (about 13 us), and at
//! most 12 % with 10,000 different tokens.

#![expect(clippy::expect_used, reason = "a benchmark of tokens that do not verify is no benchmark")]

#[path = "../tests/jwt/signer.rs"]
mod signer;

use aws_lc_rs::signature as sig;
use aws_lc_rs::signature::{ParsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ringgate::base::Tick;
use ringgate::http::fields::{OwnedFields, RequestView};
use ringgate::policy::jwt::settings::{Keys, Settings};
use ringgate::policy::jwt::{Algorithms, Carrier, Core, Issuer, KeySet, Policy, Rules, verify};
use ringgate::policy::{Findings, Subject, Verdict};
use serde_json::{Value, json};
use signer::{Signer, jwks};
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

const NOW: u64 = 1_800_000_000;

/// As an access token of a usual provider.
fn claims(n: usize) -> Value {
    json!({
        "iss": "https://id.example.com/realms/main", "aud": ["api", "account"], "sub": format!("user-{n:08}"),
        "azp": "web", "typ": "Bearer", "exp": NOW + 300, "iat": NOW - 5, "jti": format!("b1946ac9-2a4c-{n:012}"),
        "scope": "openid profile email", "preferred_username": "somebody", "email": "somebody@example.com",
        "realm_access": { "roles": ["user", "offline_access"] },
    })
}

fn parsed(signer: &Signer) -> ParsedPublicKey {
    let algorithm: &'static dyn VerificationAlgorithm = match signer.alg {
        "ES256" => &sig::ECDSA_P256_SHA256_FIXED,
        "ES384" => &sig::ECDSA_P384_SHA384_FIXED,
        "EdDSA" => &sig::ED25519,
        _ => &sig::RSA_PKCS1_2048_8192_SHA256,
    };
    ParsedPublicKey::new(algorithm, signer.spki()).expect("a key")
}

fn never_seen(c: &mut Criterion) {
    let rules = Rules {
        issuers: vec!["https://id.example.com/realms/main".into()],
        audience: vec!["api".into()],
        client_id: true,
        algorithms: Algorithms::ASYMMETRIC,
        types: Vec::new(),
        require_exp: true,
        leeway: 60,
        max_age: None,
    };
    let mut group = c.benchmark_group("jwt/never seen");
    group.throughput(Throughput::Elements(1));
    for alg in ["RS256", "ES256", "ES384", "EdDSA"] {
        let signer = Signer::new(alg, "key-1");
        let keys = KeySet::of_jwks(jwks([signer.jwk()]).as_bytes()).expect("keys");
        let token = signer.sign(&claims(1));
        let (signed, signature) = token.rsplit_once('.').expect("a token");
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("a signature");
        let key = parsed(&signer);
        group.bench_function(BenchmarkId::new("library", alg), |b| {
            b.iter(|| key.verify_sig(black_box(signed.as_bytes()), &signature).expect("verifies"));
        });
        group.bench_function(BenchmarkId::new("token", alg), |b| {
            b.iter(|| verify(black_box(token.as_bytes()), &rules, &keys, NOW).expect("verifies"));
        });
    }
    group.finish();
}

fn remembered(c: &mut Criterion) {
    let signer = Signer::new("ES256", "key-1");
    let settings = Settings {
        issuers: vec![Issuer {
            names: vec!["https://id.example.com/realms/main".into()],
            audience: vec!["api".into()],
            algorithms: Algorithms::ASYMMETRIC,
            keys: Keys::Inline(jwks([signer.jwk()]).into()),
        }],
        carriers: vec![Carrier::Header { name: "authorization".into(), scheme: "Bearer".into() }],
        claims: Vec::new(),
        scopes: vec!["openid".into()],
        claims_to_headers: vec![("x-user".into(), "sub".into())],
        consumer: "sub".into(),
        types: Vec::new(),
        optional: false,
        forward: false,
        require_exp: true,
        leeway: Duration::from_secs(60),
        max_age: None,
        remember: 16_384,
        remember_for: Duration::from_secs(600),
        failures: 60,
    };
    let policy = Policy::build(&settings, &|_| None, None).expect("a policy");
    let mut group = c.benchmark_group("jwt/remembered");
    group.throughput(Throughput::Elements(1));
    for count in [1, 100, 10_000] {
        let core = Core::bind(&policy, None);
        let heads: Vec<OwnedFields> = (0..count).map(|n| head(&signer.sign(&claims(n)))).collect();
        let mut findings = Findings::default();
        let mut check = |fields: &OwnedFields| {
            findings.clear();
            let verdict = policy.check(&core, &subject(fields), &mut findings, None);
            assert!(matches!(verdict, Verdict::Pass), "{verdict:?}");
        };
        heads.iter().for_each(&mut check);
        // In no order that a cache could follow.
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                at = (at + 7919) % count;
                check(black_box(heads.get(at).expect("a head")));
            });
        });
    }
    group.finish();
}

/// A head as browsers send it, with a token.
fn head(token: &str) -> OwnedFields {
    let authorization = format!("Bearer {token}");
    let fields = [
        ("host", "api.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br"),
        ("authorization", authorization.as_str()),
    ];
    fields.into_iter().collect()
}

fn subject(fields: &OwnedFields) -> Subject<'_> {
    let client = IpAddr::from([192, 0, 2, 1]);
    Subject {
        view: RequestView {
            method: b"GET",
            host: b"api.example.com",
            path: b"/v1/orders",
            query: None,
            fields: fields.view(),
            peer: client,
        },
        client,
        scheme: "https",
        port: 443,
        listener: "web",
        rule: "api",
        tls: None,
        body: None,
        decoded: false,
        preflight: false,
        now: Tick::ZERO,
        unix: NOW,
    }
}

criterion_group!(benches, never_seen, remembered);
criterion_main!(benches);
