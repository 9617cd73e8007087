//! Signatures that verify and that do not: the vectors of RFC 9421 appendix B, and tables of tricks.

use super::*;
use crate::http::fields::OwnedFields;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA512,
};
use aws_lc_rs::{encoding::AsDer, rand::SystemRandom, rsa, signature::RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

const NOW: u64 = 1_618_884_473;
const BODY: &str = "{\"hello\": \"world\"}";
const DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

// A request as it comes: method, target, fields, and a body where there is one.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: &'static str,
    scheme: &'static str,
    fields: Vec<(String, String)>,
    body: Option<&'static str>,
}

impl Request {
    // That of RFC 9421 appendix B.2.
    fn of_rfc() -> Request {
        let fields = [
            ("Host", "example.com"),
            ("Date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("Content-Type", "application/json"),
            ("Content-Digest", DIGEST),
            ("Content-Length", "18"),
        ];
        Request {
            method: "POST",
            target: "/foo?param=Value&Pet=dog",
            scheme: "https",
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            body: Some(BODY),
        }
    }

    fn get(target: &'static str) -> Request {
        let fields = vec![("Host".to_owned(), "Example.com:443".to_owned())];
        Request { method: "GET", target, scheme: "https", fields, body: None }
    }

    fn with(mut self, name: &str, value: &str) -> Request {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Request {
        self.fields.retain(|(n, _)| n != name);
        self
    }

    fn subject<R>(&self, unix: u64, judge: impl FnOnce(&Subject<'_>) -> R) -> R {
        let fields: OwnedFields =
            self.fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let (path, query) =
            self.target.split_once('?').map_or((self.target, None), |(p, q)| (p, Some(q)));
        judge(&Subject {
            view: RequestView {
                method: self.method.as_bytes(),
                host: b"example.com",
                path: path.as_bytes(),
                query: query.map(str::as_bytes),
                fields: fields.view(),
                peer: IpAddr::from([127, 0, 0, 1]),
            },
            client: IpAddr::from([127, 0, 0, 1]),
            scheme: self.scheme,
            port: 443,
            listener: "web",
            rule: "api",
            tls: None,
            body: self.body.map(str::as_bytes),
            decoded: false,
            preflight: false,
            now: Tick::from_nanos(0),
            unix,
        })
    }

    // Signs it with a secret: an own, plain writer of what RFC 9421 says.
    fn signed(self, input: &str, base: &[&str]) -> Request {
        let lines = base.iter().map(|line| format!("{line}\n")).collect::<String>();
        let base = format!("{lines}\"@signature-params\": {input}");
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, base.as_bytes());
        let value = format!("sig1=:{}:", STANDARD.encode(tag.as_ref()));
        self.with("Signature-Input", &format!("sig1={input}")).with("Signature", &value)
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn key(id: &str, algorithm: Algorithm, material: &str) -> KeySettings {
    let secret = algorithm == Algorithm::HmacSha256;
    KeySettings {
        id: id.to_owned(),
        algorithm,
        secret: secret.then(|| Secret(material.to_owned())),
        public_key: (!secret).then(|| material.to_owned()),
        consumer: Some("partner".to_owned()),
    }
}

fn policy(settings: Settings) -> Policy {
    Policy::build(&settings, &|_| None, None).unwrap()
}

fn shared() -> Settings {
    let key = key("k", Algorithm::HmacSha256, &STANDARD.encode(SECRET));
    Settings { keys: vec![key], ..Settings::default() }
}

fn check(policy: &Policy, request: &Request, unix: u64, expected: Option<(Fault, &str)>) {
    let mut findings = Findings::default();
    let verdict = request.subject(unix, |s| policy.check(&Core {}, s, &mut findings, None));
    let said = format!("{} {} {:?}", request.method, request.target, request.fields);
    match (verdict, expected) {
        (Verdict::Pass, None) => assert_eq!(findings.identity.consumer, "partner", "{said}"),
        (Verdict::Refuse(fault), Some((wanted, part))) => {
            assert_eq!(fault, wanted, "{} for {said}", findings.detail);
            assert!(findings.detail.contains(part), "{} for {said}", findings.detail);
            assert_eq!(findings.identity.consumer, "");
            let told = String::from_utf8_lossy(&findings.response);
            assert_eq!(fault.status() == 401, told.contains("accept-signature: "), "{told}");
        }
        (verdict, expected) => {
            panic!("{verdict:?} ({}), not {expected:?}, for {said}", findings.detail)
        }
    }
}

const INVALID: Fault = Fault::SignatureInvalid;

// The keys of RFC 9421 appendix B.1.
const RSA_PSS: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2
+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+
oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq
gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W
Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4
aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI
2wIDAQAB
-----END PUBLIC KEY-----
";
const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs=
-----END PUBLIC KEY-----
";
const SHARED: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

fn of_rfc() -> Settings {
    Settings {
        keys: vec![
            key("test-key-rsa-pss", Algorithm::RsaPssSha512, RSA_PSS),
            key("test-key-ed25519", Algorithm::Ed25519, ED25519),
            key("test-shared-secret", Algorithm::HmacSha256, SHARED),
        ],
        // They are of requests with a body that most of them do not cover.
        digest: false,
        require: Some(Vec::new()),
        ..Settings::default()
    }
}

// RFC 9421 appendices B.2.1, B.2.2, B.2.3, B.2.5 and B.2.6.
const VECTORS: [(&str, &str); 5] = [
    (
        "sig-b21=();created=1618884473;keyid=\"test-key-rsa-pss\";nonce=\"b3k2pp5k7z-50gnwp.yemd\"",
        "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
    ),
    (
        "sig-b22=(\"@authority\" \"content-digest\" \"@query-param\";name=\"Pet\");created=1618884473;keyid=\"test-key-rsa-pss\";tag=\"header-example\"",
        "sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:",
    ),
    (
        "sig-b23=(\"date\" \"@method\" \"@path\" \"@query\" \"@authority\" \"content-type\" \"content-digest\" \"content-length\");created=1618884473;keyid=\"test-key-rsa-pss\"",
        "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:",
    ),
    (
        "sig-b25=(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
        "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
    ),
    (
        "sig-b26=(\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"",
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
    ),
];

#[test]
fn takes_the_signatures_of_the_rfc() {
    for (input, signature) in VECTORS {
        let request = Request::of_rfc().with("Signature-Input", input).with("Signature", signature);
        let policy = policy(of_rfc());
        check(&policy, &request, NOW, None);
        // Whatever an octet of it becomes, it is none any more.
        let broken = signature.replacen("=:", "=:AAAA", 1);
        let request = Request::of_rfc().with("Signature-Input", input).with("Signature", &broken);
        check(&policy, &request, NOW, Some((INVALID, "verifies")));
        let other = input.replacen("created=1618884473", "created=1618884474", 1);
        let request =
            Request::of_rfc().with("Signature-Input", &other).with("Signature", signature);
        check(&policy, &request, NOW, Some((INVALID, "verifies")));
    }
}

#[test]
fn what_is_covered_cannot_be_changed() {
    let policy = policy(of_rfc());
    let [_, b22, b23, ..] = VECTORS;
    let with = |request: Request, (input, signature): (&str, &str)| {
        request.with("Signature-Input", input).with("Signature", signature)
    };
    let changed = |change: fn(&mut Request)| {
        let mut request = Request::of_rfc();
        change(&mut request);
        request
    };
    for request in [
        changed(|r| r.method = "PUT"),
        changed(|r| r.target = "/fooo?param=Value&Pet=dog"),
        changed(|r| r.target = "/foo?param=Value&Pet=cat"),
        Request::of_rfc().without("Host").with("Host", "example.org"),
        Request::of_rfc().without("Content-Type").with("Content-Type", "text/plain"),
        Request::of_rfc().with("Content-Type", "application/json"),
    ] {
        check(&policy, &with(request, b23), NOW, Some((INVALID, "verifies")));
    }
    let gone = with(Request::of_rfc().without("Date"), b23);
    check(&policy, &gone, NOW, Some((INVALID, "has no \"date\"")));
    // What is not covered may change; what is said of the body holds it.
    let other = with(changed(|r| r.target = "/bar?Pet=dog"), b22);
    check(&policy, &other, NOW, None);
    let twice = with(changed(|r| r.target = "/foo?Pet=dog&Pet=cat"), b22);
    check(&policy, &twice, NOW, Some((INVALID, "\"@query-param\";name=\"Pet\"")));
    let body = with(changed(|r| r.body = Some("{\"hello\": \"World\"}")), b22);
    check(&policy, &body, NOW, Some((INVALID, "Content-Digest")));
}

#[test]
fn signatures_are_fresh_for_a_while() {
    let policy = policy(Settings { skew: Duration::from_secs(10), ..shared() });
    let at = |parameters: &str, now: i64, expected: Option<&str>| {
        let input = format!("(\"@method\" \"@target-uri\"){parameters};keyid=\"k\"");
        let base = ["\"@method\": GET", "\"@target-uri\": https://example.com/a?b=c"];
        let request = Request::get("/a?b=c").signed(&input, &base);
        let now = (NOW as i64 + now) as u64;
        check(&policy, &request, now, expected.map(|part| (INVALID, part)));
    };
    let created = ";created=1618884473";
    at(created, 0, None);
    at(created, 310, None);
    at(created, 311, Some("too old"));
    at(created, -10, None);
    at(created, -11, Some("in the future"));
    at("", 0, Some("when it was created"));
    at(";created=1618884473;expires=1618884483", 20, None);
    at(";created=1618884473;expires=1618884483", 21, Some("too old"));
    at(";created=1618884473;expires=1618884472", 0, Some("before it was created"));
    at(";created=1618884473;expires=1718884473", 311, Some("too old"));
    for unreadable in [";created=\"1618884473\"", ";created=-5", ";created=1618884473.0"] {
        let request = Request::get("/").signed(&format!("(){unreadable};keyid=\"k\""), &[]);
        check(&policy, &request, NOW, Some((Fault::SignatureMissing, "")));
    }
}

#[test]
fn a_signature_covers_enough() {
    let usual = policy(shared());
    let method = "\"@method\": GET";
    let path = "\"@path\": /a";
    let authority = "\"@authority\": example.com";
    let query = "\"@query\": ?b=c";
    let check_with = |policy: &Policy, request: Request, base: &[&str], expected: Option<&str>| {
        let ids: Vec<&str> = base.iter().map(|l| l.split_once(": ").unwrap().0).collect();
        let input = format!("({});created={NOW};keyid=\"k\"", ids.join(" "));
        let request = request.signed(&input, base);
        check(policy, &request, NOW, expected.map(|part| (INVALID, part)));
    };
    let plain = || Request::get("/a");
    let long = || Request::get("/a?b=c");
    check_with(&usual, plain(), &[method, path, authority], None);
    check_with(&usual, plain(), &[method, "\"@target-uri\": https://example.com/a"], None);
    check_with(&usual, plain(), &[path, authority], Some("does not cover \"@method\""));
    check_with(&usual, plain(), &[method, path], Some("\"@target-uri\""));
    check_with(&usual, long(), &[method, path, authority], Some("\"@query\""));
    check_with(&usual, long(), &[method, path, authority, query], None);
    check_with(&usual, plain(), &[method, path, authority, "\"@query\": ?"], None);
    check_with(&usual, long(), &[method, "\"@request-target\": /a?b=c", authority], None);
    check_with(&usual, plain(), &[method, "\"@scheme\": https", path, authority], None);
    let with_body = || {
        Request { method: "GET", body: Some(BODY), ..plain() }
            .with("Content-Length", "18")
            .with("Content-Digest", DIGEST)
    };
    check_with(&usual, with_body(), &[method, path, authority], Some("content-digest"));
    let digest = format!("\"content-digest\": {DIGEST}");
    check_with(&usual, with_body(), &[method, path, authority, &digest], None);
    let chunked = || with_body().without("Content-Length").with("Transfer-Encoding", "chunked");
    check_with(&usual, chunked(), &[method, path, authority], Some("content-digest"));
    check_with(&usual, chunked(), &[method, path, authority, &digest], None);
    let missing = Request { body: None, ..chunked() };
    let ids = "(\"@method\" \"@path\" \"@authority\" \"content-digest\")";
    let input = format!("{ids};created={NOW};keyid=\"k\"");
    let missing = missing.signed(&input, &[method, path, authority, &digest]);
    check(&usual, &missing, NOW, Some((Fault::PolicyUnavailable, "not here")));
    let require = ["@method", "x-a;bs", "x-d;key=\"m\"", "@query-param;name=\"b\""];
    let require = require.iter().map(|text| component(text).unwrap()).collect();
    let strict = policy(Settings { require: Some(require), ..shared() });
    let request = || long().with("X-A", " 1").with("x-a", "2").with("X-D", "m=(1 2);p, n=3");
    let octets = "\"x-a\";bs: :MQ==:, :Mg==:";
    let member = "\"x-d\";key=\"m\": (1 2);p";
    let parameter = "\"@query-param\";name=\"b\": c";
    check_with(&strict, request(), &[method, octets, member, parameter], None);
    check_with(&strict, request(), &[method, octets, parameter], Some("\"x-d\";key=\"m\""));
    check_with(
        &strict,
        request(),
        &[method, "\"x-a\": 1, 2", member, parameter],
        Some("\"x-a\";bs"),
    );
}

#[test]
fn query_parameters_are_read_as_forms() {
    let policy = policy(Settings { require: Some(Vec::new()), ..shared() });
    for (target, line) in [
        ("/?a=b%20c+d", "\"@query-param\";name=\"a\": b%20c%20d"),
        ("/?a=%7E~*-._%c3%a9", "\"@query-param\";name=\"a\": %7E%7E*-._%C3%A9"),
        ("/?a%20b=", "\"@query-param\";name=\"a%20b\": "),
        ("/?a+b=1", "\"@query-param\";name=\"a%20b\": 1"),
    ] {
        let id = line.split_once(": ").unwrap().0;
        let input = format!("({id});created={NOW};keyid=\"k\"");
        check(&policy, &Request::get(target).signed(&input, &[line]), NOW, None);
    }
}

#[test]
fn authorities_have_no_usual_port() {
    let policy = policy(Settings { require: Some(Vec::new()), ..shared() });
    for (scheme, host, expected) in [
        ("https", "Example.COM", "example.com"),
        ("https", "example.com:443", "example.com"),
        ("https", "example.com:80", "example.com:80"),
        ("http", "example.com:80", "example.com"),
        ("http", "example.com:8080", "example.com:8080"),
    ] {
        let input = format!("(\"@authority\");created={NOW};keyid=\"k\"");
        let line = format!("\"@authority\": {expected}");
        let request = Request { scheme, ..Request::get("/").without("Host") }.with("Host", host);
        check(&policy, &request.signed(&input, &[&line]), NOW, None);
    }
}

#[test]
fn what_cannot_be_verified_does_not_count() {
    let policy = policy(Settings { require: Some(Vec::new()), digest: false, ..shared() });
    let missing = Some((Fault::SignatureMissing, "No signature"));
    check(&policy, &Request::of_rfc(), NOW, missing);
    let one = |input: &str| Request::of_rfc().signed(input, &[]);
    let tail = format!(";created={NOW};keyid=\"k\"");
    check(&policy, &one(&format!("(){tail}")), NOW, None);
    // Components that are not known, not of requests, with parameters that are not known, or twice.
    for covered in [
        "\"@status\"",
        "\"@other\"",
        "\"@method\";req",
        "\"date\";sf",
        "\"date\";tr",
        "\"Date\"",
        "\"date\" \"date\"",
        "\"@query-param\"",
        "\"@method\";key=\"a\"",
        "\"date\";name=\"a\"",
        "\"date\";bs;key=\"a\"",
        "\"date\";bs=?0",
        "\"\"",
        "date",
        "1",
        "\"@signature-params\"",
    ] {
        check(&policy, &one(&format!("({covered}){tail}")), NOW, missing);
    }
    for covered in ["\"x-none\"", "\"date\";key=\"a\"", "\"@query-param\";name=\"none\""] {
        check(&policy, &one(&format!("({covered}){tail}")), NOW, Some((INVALID, "has no ")));
    }
    for (input, part) in [
        (format!("();created={NOW}"), "known key"),
        (format!("();created={NOW};keyid=\"other\""), "known key"),
        (format!("(){tail};alg=\"ed25519\""), "another algorithm"),
        (format!("(){tail};alg=\"HMAC-SHA256\""), "another algorithm"),
    ] {
        check(&policy, &one(&input), NOW, Some((INVALID, part)));
    }
    check(&policy, &one(&format!("(){tail};alg=\"hmac-sha256\"")), NOW, None);
    let malformed = Some((INVALID, "malformed"));
    for (input, signature) in [("sig1=(", "sig1=:AAAA:"), ("sig1=()", "sig1=:AAAA"), ("=", "=")] {
        let request = Request::of_rfc().with("Signature-Input", input).with("Signature", signature);
        check(&policy, &request, NOW, malformed);
    }
    for (input, signature) in [("sig1", "sig1=:AAAA:"), ("sig1=()", "sig2=:AAAA:"), ("a=()", "a=b")]
    {
        let request = Request::of_rfc().with("Signature-Input", input).with("Signature", signature);
        check(&policy, &request, NOW, missing);
    }
    let long = format!("sig1=(){tail};x=\"{}\"", "a".repeat(9000));
    let request = Request::of_rfc().with("Signature-Input", &long).with("Signature", "sig1=:AA==:");
    check(&policy, &request, NOW, Some((INVALID, "too long")));
    let control = Request::of_rfc().with("X-A", "caf\u{e9}");
    let request = control.signed(&format!("(\"x-a\"){tail}"), &["\"x-a\": caf\u{e9}"]);
    check(&policy, &request, NOW, Some((INVALID, "has no \"x-a\"")));
}

#[test]
fn of_several_signatures_one_must_count() {
    let tail = format!("created={NOW};keyid=\"k\"");
    let base = ["\"@method\": GET", "\"@target-uri\": https://example.com/"];
    let good = |extra: &str| {
        Request::get("/").signed(&format!("(\"@method\" \"@target-uri\");{tail}{extra}"), &base)
    };
    let other = |request: Request| {
        request
            .with("Signature-Input", &format!("a=();{tail}, b=();{tail}"))
            .with("Signature", "a=:AA==:, b=:AA==:")
    };
    check(&policy(shared()), &other(good("")), NOW, None);
    let labelled = policy(Settings { label: Some("a".to_owned()), ..shared() });
    check(&labelled, &other(good("")), NOW, Some((INVALID, "")));
    let tagged = policy(Settings { tag: Some("orders".to_owned()), ..shared() });
    check(&tagged, &good(";tag=\"orders\""), NOW, None);
    check(&tagged, &good(";tag=\"other\""), NOW, Some((Fault::SignatureMissing, "")));
    check(&tagged, &good(""), NOW, Some((Fault::SignatureMissing, "")));
}

#[test]
fn a_nonce_counts_once() {
    let request = |nonce: &str, created: u64| {
        let input = format!("(\"@method\" \"@target-uri\");created={created};keyid=\"k\"{nonce}");
        let base = ["\"@method\": GET", "\"@target-uri\": https://example.com/"];
        Request::get("/").signed(&input, &base)
    };
    let again = Some((INVALID, "used before"));
    let optional = policy(shared());
    check(&optional, &request("", NOW), NOW, None);
    check(&optional, &request("", NOW), NOW, None);
    check(&optional, &request(";nonce=\"a\"", NOW), NOW, None);
    check(&optional, &request(";nonce=\"a\"", NOW), NOW, again);
    check(&optional, &request(";nonce=\"a\"", NOW + 5), NOW + 5, again);
    check(&optional, &request(";nonce=\"b\"", NOW), NOW, None);
    let later = Policy::build(&shared(), &|_| None, Some(&optional)).unwrap();
    check(&later, &request(";nonce=\"a\"", NOW), NOW, again);
    let required = policy(Settings { nonce: Nonce::Required, ..shared() });
    check(&required, &request("", NOW), NOW, Some((INVALID, "no nonce")));
    check(&required, &request(";nonce=\"a\"", NOW), NOW, None);
    let ignored = policy(Settings { nonce: Nonce::Ignored, ..shared() });
    check(&ignored, &request(";nonce=\"a\"", NOW), NOW, None);
    check(&ignored, &request(";nonce=\"a\"", NOW), NOW, None);
    // What does not verify takes no nonce.
    let forged = request(";nonce=\"c\"", NOW).without("Signature").with("Signature", "sig1=:AA==:");
    check(&optional, &forged, NOW, Some((INVALID, "")));
    check(&optional, &request(";nonce=\"c\"", NOW), NOW, None);
}

#[test]
fn nobody_makes_it_collect_a_body_without_a_key() {
    let policy = policy(shared());
    let digest = format!("\"content-digest\": {DIGEST}");
    let base = [
        "\"@method\": POST",
        "\"@target-uri\": https://example.com/foo?param=Value&Pet=dog",
        &digest,
    ];
    let input =
        format!("(\"@method\" \"@target-uri\" \"content-digest\");created={NOW};keyid=\"k\"");
    let signed = Request::of_rfc().signed(&input, &base);
    let limit = |request: &Request| request.subject(NOW, |subject| policy.body_limit(subject));
    assert_eq!(limit(&signed), Some(1 << 20));
    assert_eq!(limit(&Request::of_rfc()), None);
    let forged = signed.clone().without("Signature").with("Signature", "sig1=:AA==:");
    assert_eq!(limit(&forged), None);
    assert_eq!(limit(&signed.clone().without("Content-Length")), None, "there is none");
    check(&policy, &signed, NOW, None);
    let small = self::policy(Settings { limit: 17, ..shared() });
    check(&small, &signed, NOW, Some((Fault::BodyTooLarge, "too large")));
}

#[test]
fn targets_are_told_who_has_signed() {
    let policy = policy(Settings { header: Some("x-consumer".to_owned()), ..shared() });
    assert_eq!(policy.owns(), ["x-consumer".into()]);
    let input = format!("(\"@method\" \"@target-uri\");created={NOW};keyid=\"k\"");
    let base = ["\"@method\": GET", "\"@target-uri\": https://example.com/"];
    let mut findings = Findings::default();
    Request::get("/")
        .signed(&input, &base)
        .subject(NOW, |subject| policy.check(&Core {}, subject, &mut findings, None));
    assert_eq!(findings.upstream, b"x-consumer: partner\r\n");
    let told = wanted(&Settings { nonce: Nonce::Required, ..shared() });
    let expected = "sig1=(\"@method\" \"@target-uri\" \"content-digest\");created;keyid;nonce";
    assert_eq!(String::from_utf8_lossy(&told), expected);
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[test]
fn a_key_verifies_for_its_algorithm_alone() {
    let random = SystemRandom::new();
    let message = b"message";
    let ed = Ed25519KeyPair::generate().unwrap();
    let ed_pem = pem("PUBLIC KEY", ed.public_key().as_der().unwrap().as_ref());
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ec_pem = pem("PUBLIC KEY", ec.public_key().as_der().unwrap().as_ref());
    let rsa = RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let rsa_pem = pem("PUBLIC KEY", rsa.public_key().as_der().unwrap().as_ref());
    let rsa_plain = pem("RSA PUBLIC KEY", rsa.public_key().as_ref());
    let rsa_sign = |padding| {
        let mut out = vec![0; rsa.public_modulus_len()];
        rsa.sign(padding, &random, message, &mut out).unwrap();
        out
    };
    let ec_signature = ec.sign(&random, message).unwrap();
    let all: [(Algorithm, &str, Vec<u8>); 5] = [
        (Algorithm::Ed25519, &ed_pem, ed.sign(message).as_ref().to_vec()),
        (Algorithm::EcdsaP256Sha256, &ec_pem, ec_signature.as_ref().to_vec()),
        (Algorithm::RsaPssSha512, &rsa_pem, rsa_sign(&RSA_PSS_SHA512)),
        (Algorithm::RsaV15Sha256, &rsa_pem, rsa_sign(&RSA_PKCS1_SHA256)),
        (Algorithm::RsaV15Sha256, &rsa_plain, rsa_sign(&RSA_PKCS1_SHA256)),
    ];
    for (algorithm, material, signature) in &all {
        let built = Key::build(&key("k", *algorithm, material)).unwrap();
        for (other, _, found) in &all {
            let expected = other == algorithm;
            assert_eq!(built.verify(message, found), expected, "{algorithm:?} {other:?}");
        }
        assert!(!built.verify(b"massage", signature), "{algorithm:?}");
        assert!(!built.verify(message, &[]), "{algorithm:?}");
        let mut long = signature.clone();
        long.push(0);
        assert!(!built.verify(message, &long), "{algorithm:?}");
    }
    // r and s of zero (hazard AUTH-03), and DER instead of both.
    let ec = Key::build(&key("k", Algorithm::EcdsaP256Sha256, &ec_pem)).unwrap();
    assert!(!ec.verify(message, &[0; 64]));
    assert!(!ec.verify(message, &[0x30, 6, 2, 1, 0, 2, 1, 0]));
}

#[test]
fn a_key_that_is_none_is_an_error() {
    let wrong = |settings: KeySettings| Key::build(&settings).unwrap_err();
    let check = |algorithm, material: &str, part: &str| {
        let why = wrong(key("k", algorithm, material));
        assert!(why.contains(part), "{why}");
        assert!(material.len() < 10 || !why.contains(material.trim()), "{why}");
    };
    check(Algorithm::HmacSha256, "no base64!", "no base64");
    check(Algorithm::HmacSha256, &STANDARD.encode("short"), "fewer than 16");
    check(Algorithm::Ed25519, "text", "none for ed25519");
    check(Algorithm::Ed25519, RSA_PSS, "none for ed25519");
    check(Algorithm::RsaPssSha512, ED25519, "none for rsa-pss-sha512");
    check(Algorithm::EcdsaP256Sha256, RSA_PSS, "none for ecdsa-p256-sha256");
    check(Algorithm::Ed25519, &ED25519.replace("PUBLIC", "PRIVATE"), "none for");
    check(Algorithm::Ed25519, &format!("{ED25519}{ED25519}"), "none for");
    // A public key as a secret (hazard AUTH-02).
    let confused = KeySettings {
        secret: Some(Secret(STANDARD.encode(RSA_PSS))),
        ..key("k", Algorithm::RsaPssSha512, RSA_PSS)
    };
    assert!(wrong(confused).contains("no secret"));
    let confused =
        KeySettings { algorithm: Algorithm::HmacSha256, ..key("k", Algorithm::Ed25519, ED25519) };
    assert!(wrong(confused).contains("needs a secret"));
}

#[test]
fn keys_come_from_a_file() {
    let build = |text: &str| {
        let octets: Arc<[u8]> = Arc::from(text.as_bytes());
        let settings = Settings { file: Some("keys.toml".into()), ..shared() };
        Policy::build(&settings, &move |_| Some(Arc::clone(&octets)), None)
    };
    let secret = STANDARD.encode("another secret of some length");
    let file = format!(
        "[[key]]\nid = \"a\"\nalgorithm = \"hmac-sha256\"\nsecret = \"{secret}\"\n\
         [[key]]\nid = \"b\"\nalgorithm = \"ed25519\"\nconsumer = \"c\"\npublic_key = \"\"\"{ED25519}\"\"\"\n"
    );
    let policy = build(&file).unwrap();
    assert_eq!(policy.keys.len(), 3);
    assert_eq!(
        (policy.keys["a"].consumer.as_str(), policy.keys["b"].consumer.as_str()),
        ("a", "c")
    );
    let check = |from: &str, to: &str, part: &str| {
        let wrong = build(&file.replacen(from, to, 1)).unwrap_err();
        assert!(wrong.found.contains(part), "{}", wrong.found);
        assert!(!wrong.found.contains(&secret), "{}", wrong.found);
        assert_eq!(wrong.file.as_deref(), Some(std::path::Path::new("keys.toml")));
    };
    check("id = \"a\"", "id = \"k\"", "another one of this id");
    check("id = \"a\"", "id = \"\"", "printable");
    check("hmac-sha256", "hmac-sha1", "one of hmac-sha256, ed25519");
    check("secret = \"", "secret = ", "line 4");
    check("secret =", "secrets =", "line 4");
    check("consumer", "owner", "line 8");
    let none = Settings { keys: Vec::new(), ..shared() };
    assert!(Policy::build(&none, &|_| None, None).unwrap_err().found.contains("no key"));
    let shown = format!("{:?} {:?}", shared(), policy);
    assert!(!shown.contains(&STANDARD.encode(SECRET)) && !shown.contains(SECRET), "{shown}");
}
