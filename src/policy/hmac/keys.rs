//! The keys that signatures are verified with: each for one algorithm (hazard AUTH-02), a secret or a public key.
//!
//! Public keys come in PEM as SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), those of RSA also as RSAPublicKey (RFC 8017
//! appendix A.1.1). Secrets never show. Called by the policy and by the configuration's reader.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::fmt;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A key as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySettings {
    /// `keyid` of signatures.
    pub id: String,
    /// The one algorithm that it is for.
    pub algorithm: Algorithm,
    /// The shared secret, in base64.
    pub secret: Option<Secret>,
    /// The public key, in PEM.
    pub public_key: Option<String>,
    /// Who signs with it; `None`: the id.
    pub consumer: Option<String>,
}

/// An algorithm of the registry (RFC 9421 section 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `ed25519`
    Ed25519,
    /// `ecdsa-p256-sha256`
    EcdsaP256Sha256,
    /// `ecdsa-p384-sha384`
    EcdsaP384Sha384,
    /// `rsa-pss-sha512`
    RsaPssSha512,
    /// `rsa-v1_5-sha256`
    RsaV15Sha256,
}

/// A secret as written: it does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// A key as run.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) consumer: String,
    verifier: Verifier,
}

enum Verifier {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

// Fewer octets can be guessed.
const SHORTEST_SECRET: usize = 16;

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Algorithm {
    /// All of them, as they are written.
    pub const WORDS: &'static [(&'static str, Algorithm)] = &[
        ("hmac-sha256", Algorithm::HmacSha256),
        ("ed25519", Algorithm::Ed25519),
        ("ecdsa-p256-sha256", Algorithm::EcdsaP256Sha256),
        ("ecdsa-p384-sha384", Algorithm::EcdsaP384Sha384),
        ("rsa-pss-sha512", Algorithm::RsaPssSha512),
        ("rsa-v1_5-sha256", Algorithm::RsaV15Sha256),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        Algorithm::WORDS.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }

    // How it verifies; `None` for the one that has no public keys.
    fn public(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Algorithm::HmacSha256 => None,
            Algorithm::Ed25519 => Some(&signature::ED25519),
            Algorithm::EcdsaP256Sha256 => Some(&signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::EcdsaP384Sha384 => Some(&signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::RsaPssSha512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Algorithm::RsaV15Sha256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        }
    }

    // The object identifiers that its keys may have (RFC 3279, RFC 4055, RFC 5480, RFC 8410).
    fn identifiers(self) -> &'static [&'static str] {
        match self {
            Algorithm::HmacSha256 => &[],
            Algorithm::Ed25519 => &["1.3.101.112"],
            Algorithm::EcdsaP256Sha256 | Algorithm::EcdsaP384Sha384 => &["1.2.840.10045.2.1"],
            Algorithm::RsaPssSha512 => &["1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10"],
            Algorithm::RsaV15Sha256 => &["1.2.840.113549.1.1.1"],
        }
    }
}

impl Key {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn build(settings: &KeySettings) -> Result<Key, String> {
        let algorithm = settings.algorithm;
        let name = algorithm.name();
        let verifier = match (algorithm.public(), &settings.secret, &settings.public_key) {
            (None, Some(secret), None) => Verifier::Secret(Box::new(shared(secret)?)),
            (Some(public), None, Some(pem)) => Verifier::Public(parse(algorithm, public, pem)?),
            (None, ..) => return Err(format!("{name} needs a secret and no public_key")),
            (Some(_), ..) => return Err(format!("{name} needs a public_key and no secret")),
        };
        let consumer = settings.consumer.as_ref().unwrap_or(&settings.id).clone();
        Ok(Key { id: settings.id.clone(), algorithm, consumer, verifier })
    }

    /// Whether a signature of a message is this key's.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.verifier {
            // Takes the same time wherever they differ.
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    algorithm: String,
    secret: Option<String>,
    public_key: Option<String>,
    consumer: Option<String>,
}

/// Reads a file of keys: TOML with `[[key]]`, each with `id`, `algorithm`, `secret` or `public_key`, and `consumer`.
///
/// # Errors
/// What is wrong with it; no secret is quoted.
pub(crate) fn read(octets: &[u8]) -> Result<Vec<KeySettings>, String> {
    let text = std::str::from_utf8(octets).map_err(|_| "no UTF-8".to_owned())?;
    // The whole message would quote the line, which may be a secret.
    let file: File = toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    file.key.into_iter().map(entry).collect()
}

fn entry(entry: Entry) -> Result<KeySettings, String> {
    let Entry { id, algorithm, secret, public_key, consumer } = entry;
    let found = Algorithm::WORDS.iter().find(|(name, _)| *name == algorithm);
    let Some((_, algorithm)) = found else {
        let names: Vec<&str> = Algorithm::WORDS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "key {id:?}: algorithm {algorithm:?}, not one of {}",
            names.join(", ")
        ));
    };
    if !is_id(&id) || consumer.as_ref().is_some_and(|consumer| !is_id(consumer)) {
        return Err(format!(
            "key {id:?}: an id or a consumer that is empty, long or not printable"
        ));
    }
    Ok(KeySettings { id, algorithm: *algorithm, secret: secret.map(Secret), public_key, consumer })
}

/// Whether a text may be a key's id or its consumer: short, and of printable ASCII.
pub(crate) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && text.bytes().all(|b| (b' '..0x7f).contains(&b))
}

fn shared(secret: &Secret) -> Result<hmac::Key, String> {
    let octets = STANDARD.decode(secret.0.trim()).map_err(|_| "the secret is no base64")?;
    if octets.len() < SHORTEST_SECRET {
        return Err(format!("the secret has fewer than {SHORTEST_SECRET} octets"));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &octets))
}

fn parse(
    algorithm: Algorithm,
    public: &'static dyn VerificationAlgorithm,
    pem: &str,
) -> Result<ParsedPublicKey, String> {
    let wrong = || format!("the public_key is none for {} in PEM", algorithm.name());
    let (label, der) = decode(pem).ok_or_else(wrong)?;
    let octets = match label {
        "PUBLIC KEY" => {
            let (rest, info) = SubjectPublicKeyInfo::from_der(&der).map_err(|_| wrong())?;
            let identifier = info.algorithm.algorithm.to_id_string();
            if !rest.is_empty() || !algorithm.identifiers().contains(&identifier.as_str()) {
                return Err(wrong());
            }
            info.subject_public_key.data.to_vec()
        }
        "RSA PUBLIC KEY" if algorithm.identifiers().contains(&"1.2.840.113549.1.1.1") => der,
        _ => return Err(wrong()),
    };
    ParsedPublicKey::new(public, octets).map_err(|_| wrong())
}

// The one block of a PEM (RFC 7468).
fn decode(pem: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, end) = rest.split_once("-----END ")?;
    let end = end.strip_prefix(label)?.strip_prefix("-----")?;
    if !end.trim().is_empty() {
        return None;
    }
    let body: String = body.split_ascii_whitespace().collect();
    Some((label, STANDARD.decode(body).ok()?))
}
