//! What targets are told of the user, signed so that they can tell it from what anybody else may have sent: ES256, as ALB's
//! `x-amzn-oidc-data`.
//!
//! The key is one of a file or follows from the first secret of the cookies, so that every node and every process with the same
//! file signs alike; the keys of the other secrets are published, too, while tokens of theirs are under way. Targets find them
//! as a JWK Set, and one by one in PEM as ALB publishes its own. Called by the policy's check.

use crate::base::sealed::{Secret, base64url, derive};
use crate::policy::oidc::{DOMAIN, Settings};
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Map, Value, json};

/// How long what is signed holds, in seconds, as ALB's.
pub const LIFE: u64 = 120;

/// The keys, the signing one first.
pub struct Signer(Vec<Key>);

struct Key {
    pair: EcdsaKeyPair,
    kid: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl Signer {
    /// The keys of these secrets, behind that of a file where there is one.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(secrets: &[Secret], file: Option<&[u8]>) -> Result<Signer, String> {
        let mut keys = Vec::new();
        if let Some(pem) = file {
            let key = PrivateKeyDer::from_pem_slice(pem)
                .map_err(|_| "no private key in PEM without a passphrase")?;
            let pair = EcdsaKeyPair::from_private_key_der(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                key.secret_der(),
            );
            let pair = pair.map_err(|_| "no private key of the curve P-256; make one with `openssl ecparam -name prime256v1 -genkey -noout`")?;
            keys.push(Key::new(pair));
        }
        let derived = secrets.iter().filter_map(key_of);
        keys.extend(derived.map(Key::new));
        match keys.is_empty() {
            true => Err("no key can be made of the secret".to_owned()),
            false => Ok(Signer(keys)),
        }
    }

    /// Signs claims about a user, which hold for [`LIFE`].
    pub fn sign(
        &self,
        claims: &Map<String, Value>,
        settings: &Settings,
        unix: u64,
    ) -> Option<String> {
        let key = self.0.first()?;
        let until = unix.saturating_add(LIFE);
        let header = json!({
            "alg": "ES256",
            "typ": "JWT",
            "kid": key.kid,
            "iss": settings.issuer,
            "client": settings.client_id,
            "signer": "ringgate",
            "exp": until,
        });
        let mut payload = claims.clone();
        payload.insert("iss".to_owned(), settings.issuer.as_str().into());
        payload.insert("iat".to_owned(), unix.into());
        payload.insert("exp".to_owned(), until.into());
        let mut token = base64url(&serde_json::to_vec(&header).ok()?);
        token.push('.');
        token += &base64url(&serde_json::to_vec(&payload).ok()?);
        let signature = key.pair.sign(&SystemRandom::new(), token.as_bytes()).ok()?;
        token.push('.');
        token += &base64url(signature.as_ref());
        Some(token)
    }

    /// The public keys as a JWK Set (RFC 7517).
    pub fn jwks(&self) -> Vec<u8> {
        let keys: Vec<Value> = self.0.iter().filter_map(Key::jwk).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    /// One public key in PEM.
    pub fn pem(&self, kid: &[u8]) -> Option<Vec<u8>> {
        let key = self.0.iter().find(|key| key.kid.as_bytes() == kid)?;
        // SubjectPublicKeyInfo of a point on P-256 (RFC 5480).
        const PREFIX: &[u8] = &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        let text = STANDARD.encode([PREFIX, key.pair.public_key().as_ref()].concat());
        let mut pem = b"-----BEGIN PUBLIC KEY-----\n".to_vec();
        for line in text.as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END PUBLIC KEY-----\n");
        Some(pem)
    }
}

impl Key {
    fn new(pair: EcdsaKeyPair) -> Key {
        let mut key = Key { pair, kid: String::new() };
        if let Some((x, y)) = key.point() {
            // RFC 7638: the members in this order, without white space.
            let bare = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            key.kid = base64url(digest::digest(&digest::SHA256, bare.as_bytes()).as_ref());
        }
        key
    }

    fn point(&self) -> Option<(String, String)> {
        let (x, y) = self.pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        Some((base64url(x), base64url(y)))
    }

    fn jwk(&self) -> Option<Value> {
        let (x, y) = self.point()?;
        let kid = &self.kid;
        Some(
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "use": "sig", "alg": "ES256" }),
        )
    }
}

// A key that follows from a secret: the scalar is drawn from it until the curve takes it, which is nearly always at once.
fn key_of(secret: &Secret) -> Option<EcdsaKeyPair> {
    (0..8u8).find_map(|n| {
        let scalar = derive::<32>(DOMAIN, secret, &[b"signing key ".as_slice(), &[n]].concat())?;
        // ECPrivateKey (RFC 5915) without the public point, which the library computes.
        let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
        der.extend_from_slice(&scalar);
        der.extend_from_slice(&[
            0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
        ]);
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::jwt::{KeySet, verify};
    use crate::policy::oidc::tests::settings;

    fn secret(octet: u8) -> Secret {
        Secret::new(&[octet; 32])
    }

    #[test]
    fn what_is_signed_verifies_with_the_published_keys() {
        let signer = Signer::new(&[secret(1), secret(2)], None).unwrap();
        let claims = json!({ "sub": "u1", "email": "u@a.test" });
        let token = signer.sign(claims.as_object().unwrap(), &settings(), 1000).unwrap();
        let opened = verify::Opened::read(token.as_bytes()).unwrap();
        assert_eq!(opened.verify(&KeySet::of_jwks(&signer.jwks()).unwrap()), Ok(()));
        assert_eq!(opened.claims.0["sub"], "u1");
        assert_eq!(
            (&opened.claims.0["exp"], opened.issuer()),
            (&1120.into(), Some("https://id.test"))
        );
        let kid = opened.kid.clone().unwrap();
        let pem = signer.pem(kid.as_bytes()).unwrap();
        assert_eq!(opened.verify(&KeySet::of_pem(&pem).unwrap()), Ok(()));
        assert_eq!(signer.pem(b"other"), None);
        let other = Signer::new(&[secret(3)], None).unwrap();
        assert!(opened.verify(&KeySet::of_jwks(&other.jwks()).unwrap()).is_err());
    }

    #[test]
    fn nodes_with_one_secret_sign_alike_and_rotation_keeps_the_old_key() {
        let (old, same) =
            (Signer::new(&[secret(1)], None).unwrap(), Signer::new(&[secret(1)], None));
        assert_eq!(old.jwks(), same.unwrap().jwks());
        let both = Signer::new(&[secret(2), secret(1)], None).unwrap();
        let token = old.sign(&Map::new(), &settings(), 0).unwrap();
        let opened = verify::Opened::read(token.as_bytes()).unwrap();
        assert_eq!(opened.verify(&KeySet::of_jwks(&both.jwks()).unwrap()), Ok(()));
        assert_ne!(both.0[0].kid, old.0[0].kid);
    }

    #[test]
    fn a_key_of_a_file_comes_first() {
        let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = Signer::new(&[secret(1)], Some(made.serialize_pem().as_bytes())).unwrap();
        assert_eq!(signer.0.len(), 2);
        let token = signer.sign(&Map::new(), &settings(), 0).unwrap();
        let opened = verify::Opened::read(token.as_bytes()).unwrap();
        let public = KeySet::of_pem(made.public_key_pem().as_bytes()).unwrap();
        assert_eq!(opened.verify(&public), Ok(()));
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        for bad in [b"x".as_slice(), other.serialize_pem().as_bytes()] {
            assert!(Signer::new(&[secret(1)], Some(bad)).is_err());
        }
    }
}
