//! Signs tokens as an issuer does, and as those do who are none: keys of every type, headers and claims as octets.
//!
//! Straight on the crypto library; nothing here shares code with what it tests.

#![allow(dead_code, missing_docs)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self as sig, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::sync::Arc;

pub const ASYMMETRIC: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
pub const SYMMETRIC: [&str; 3] = ["HS256", "HS384", "HS512"];

pub fn b64(octets: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(octets)
}

/// A key with the algorithm that it signs with, unless told otherwise.
#[derive(Clone)]
pub struct Signer {
    pub alg: &'static str,
    pub kid: String,
    pub key: Arc<Key>,
}

pub enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

impl Signer {
    /// A new key for `alg`. Keys of RSA take a while: see [`Signer::with`].
    pub fn new(alg: &'static str, kid: &str) -> Signer {
        let ec = |algorithm, curve| Key::Ec(EcdsaKeyPair::generate(algorithm).unwrap(), curve);
        let key = match alg {
            "ES256" => ec(&sig::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            "ES384" => ec(&sig::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
            "ES512" => ec(&sig::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
            "EdDSA" => Key::Ed(Ed25519KeyPair::generate().unwrap()),
            _ if alg.starts_with("HS") => {
                let mut secret = vec![0; 64];
                fastrand::fill(&mut secret);
                Key::Secret(secret)
            }
            _ => Key::Rsa(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Signer { alg, kid: kid.to_owned(), key: Arc::new(key) }
    }

    /// The same key, for another algorithm.
    pub fn with(&self, alg: &'static str) -> Signer {
        Signer { alg, ..self.clone() }
    }

    /// The same key under another name.
    pub fn named(&self, kid: &str) -> Signer {
        Signer { kid: kid.to_owned(), ..self.clone() }
    }

    /// The public key as a JWK with `kid` and nothing that binds it to an algorithm; a secret as the `oct` that it is.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &*self.key {
            Key::Rsa(pair) => {
                let public = pair.public_key();
                let n = public.modulus().big_endian_without_leading_zero();
                let e = public.exponent().big_endian_without_leading_zero();
                json!({ "kty": "RSA", "n": b64(n), "e": b64(e) })
            }
            Key::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": b64(x), "y": b64(y) })
            }
            Key::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()) })
            }
            Key::Secret(secret) => json!({ "kty": "oct", "k": b64(secret) }),
        };
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// The public key as SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        match &*self.key {
            Key::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Ec(pair, _) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Ed(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
            Key::Secret(_) => panic!("a secret is not public"),
        }
    }

    /// The public key in PEM.
    pub fn pem(&self) -> String {
        let text = base64::prelude::BASE64_STANDARD.encode(self.spki());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The usual header.
    pub fn header(&self) -> Value {
        json!({ "alg": self.alg, "kid": self.kid, "typ": "JWT" })
    }

    /// A token with the usual header.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    /// A token with this header.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        self.sign_octets(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// A token with this header and these claims, octet by octet.
    pub fn sign_octets(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        format!("{signed}.{}", b64(self.signature(signed.as_bytes())))
    }

    /// The signature of a message by this key and algorithm.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &*self.key {
            Key::Rsa(pair) => {
                let encoding: &'static dyn sig::RsaEncoding = match self.alg {
                    "RS256" => &sig::RSA_PKCS1_SHA256,
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    _ => &sig::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &rng, message, &mut signature).unwrap();
                signature
            }
            Key::Ec(pair, _) => pair.sign(&rng, message).unwrap().as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Secret(secret) => tag(self.alg, secret, message),
        }
    }
}

/// A tag by any octets as the secret.
pub fn tag(alg: &str, secret: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match alg {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

/// A JWK Set.
pub fn jwks(keys: impl IntoIterator<Item = Value>) -> String {
    json!({ "keys": keys.into_iter().collect::<Vec<_>>() }).to_string()
}

/// Seconds since 1970.
pub fn unix() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}
