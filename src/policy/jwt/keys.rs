//! Keys that tokens are verified with: of a JWK Set (RFC 7517), of a PEM file, or one secret.
//!
//! A key serves the algorithms that its type allows and its `alg` names, and no other; a set is of public keys or of one
//! secret, never of both (hazard AUTH-02). Each key is parsed once, here. Where sets come from is not known here. Called when
//! policies are compiled, and by control for what it has fetched.

use crate::policy::jwt::algorithm::{Algorithm, Algorithms};
use crate::policy::jwt::json;
use crate::policy::jwt::verify::Flaw;
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, VerificationAlgorithm};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;

/// The most keys of a set; those of known providers have fewer than 20.
pub const MOST_KEYS: usize = 100;
/// The longest `kid`, in octets.
pub const LONGEST_KID: usize = 256;
/// How many keys are tried for one token: more than one only where keys share a `kid` or have none.
const TRIES: usize = 4;

/// Keys of one issuer.
pub struct KeySet {
    keys: Vec<Key>,
    by_kid: HashMap<Box<str>, Vec<usize>>,
    nameless: Vec<usize>,
    skipped: Option<String>,
}

struct Key {
    verifiers: Vec<(Algorithm, Verifier)>,
}

enum Verifier {
    Public(ParsedPublicKey),
    Secret(Box<hmac::Key>),
}

impl KeySet {
    /// Reads a JWK Set. Keys that are not for signatures, of unknown types or out of range are passed over (RFC 7517 section
    /// 5), and so are secrets.
    ///
    /// # Errors
    /// When it is no set, holds no key of use, or more than [`MOST_KEYS`].
    pub fn of_jwks(octets: &[u8]) -> Result<KeySet, String> {
        let object = json::object(octets).ok_or("no JSON object, or one with repeated members")?;
        let keys = match object.get("keys") {
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err("`keys` is no array".to_owned()),
            None => return Err("no member `keys`".to_owned()),
        };
        if keys.len() > MOST_KEYS {
            return Err(format!("{} keys; at most {MOST_KEYS} are taken", keys.len()));
        }
        let mut set = KeySet::empty();
        for (at, key) in keys.iter().enumerate() {
            let Value::Object(key) = key else {
                return Err(format!("keys[{at}] is no object"));
            };
            match public_key(key) {
                Ok((kid, key)) => set.add(kid, key),
                Err(why) => set.skip(format!("keys[{at}]: {why}")),
            }
        }
        set.of_use()
    }

    /// Reads public keys and certificates in PEM; they have no `kid`. Of a certificate only the key is of interest: whom it
    /// names, who vouches for it and how long it lasts is not.
    ///
    /// # Errors
    /// When there is none of use.
    pub fn of_pem(octets: &[u8]) -> Result<KeySet, String> {
        let mut set = KeySet::empty();
        for found in SubjectPublicKeyInfoDer::pem_slice_iter(octets) {
            let key = found.map_err(|error| error.to_string())?;
            set.add_spki(&key);
        }
        for found in CertificateDer::pem_slice_iter(octets) {
            let certificate = found.map_err(|error| error.to_string())?;
            match x509_parser::parse_x509_certificate(&certificate) {
                Ok((_, certificate)) => set.add_spki(certificate.public_key().raw),
                Err(_) => set.skip("a certificate is malformed".to_owned()),
            }
        }
        if set.keys.len() > MOST_KEYS {
            return Err(format!("{} keys; at most {MOST_KEYS} are taken", set.keys.len()));
        }
        set.of_use()
    }

    /// Reads a file: PEM if it has an armour, a JWK Set otherwise.
    ///
    /// # Errors
    /// As [`KeySet::of_pem`] and [`KeySet::of_jwks`].
    pub fn of_file(octets: &[u8]) -> Result<KeySet, String> {
        let pem = memchr::memmem::find(octets, b"-----BEGIN ").is_some();
        if pem { KeySet::of_pem(octets) } else { KeySet::of_jwks(octets) }
    }

    /// One secret, for these algorithms.
    ///
    /// # Errors
    /// When it is too short for one of them (RFC 7518 section 3.2).
    pub fn of_secret(secret: &[u8], algorithms: Algorithms) -> Result<KeySet, String> {
        let mut verifiers = Vec::new();
        for algorithm in algorithms.both(Algorithms::SYMMETRIC).iter() {
            let least = algorithm.least_secret();
            if secret.len() < least {
                let (name, has) = (algorithm.name(), secret.len());
                return Err(format!("a secret of {has} octets; {name} needs at least {least}"));
            }
            let hash = match algorithm {
                Algorithm::Hs384 => hmac::HMAC_SHA384,
                Algorithm::Hs512 => hmac::HMAC_SHA512,
                _ => hmac::HMAC_SHA256,
            };
            let key = Box::new(hmac::Key::new(hash, secret));
            verifiers.push((algorithm, Verifier::Secret(key)));
        }
        let mut set = KeySet::empty();
        set.add(None, Key { verifiers });
        Ok(set)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key serves one of these algorithms.
    pub fn serves(&self, algorithms: Algorithms) -> bool {
        let mut verifiers = self.keys.iter().flat_map(|key| &key.verifiers);
        verifiers.any(|(algorithm, _)| algorithms.has(*algorithm))
    }

    /// Why a key was passed over, if one was.
    pub fn skipped(&self) -> Option<&str> {
        self.skipped.as_deref()
    }

    /// Whether `signature` is one of `message` by a key of this set. A `kid` only chooses among keys (hazard AUTH-05).
    ///
    /// # Errors
    /// [`Flaw::Key`] when no key can have made it, [`Flaw::Signature`] when none has.
    pub fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Flaw> {
        if algorithm.signature_len().is_some_and(|length| length != signature.len()) {
            return Err(Flaw::Signature);
        }
        let mut flaw = Flaw::Key;
        let named = kid.and_then(|kid| self.by_kid.get(kid));
        let some = named.or(if kid.is_some() { Some(&self.nameless) } else { None });
        let verifiers = match some {
            Some(some) => Candidates::Some(some.iter().filter_map(|at| self.keys.get(*at))),
            None => Candidates::All(self.keys.iter()),
        };
        for verifier in verifiers.filter_map(|key| key.verifier(algorithm)).take(TRIES) {
            if verifier.verify(message, signature) {
                return Ok(());
            }
            flaw = Flaw::Signature;
        }
        Err(flaw)
    }

    fn empty() -> KeySet {
        KeySet { keys: Vec::new(), by_kid: HashMap::new(), nameless: Vec::new(), skipped: None }
    }

    fn add(&mut self, kid: Option<&str>, key: Key) {
        let at = self.keys.len();
        match kid {
            Some(kid) => self.by_kid.entry(kid.into()).or_default().push(at),
            None => self.nameless.push(at),
        }
        self.keys.push(key);
    }

    fn add_spki(&mut self, der: &[u8]) {
        match spki(der) {
            Some(key) => self.add(None, key),
            None => self.skip(
                "a public key is neither RSA of 2048 to 8192 bits, nor on P-256, P-384 or P-521, nor Ed25519"
                    .to_owned(),
            ),
        }
    }

    fn skip(&mut self, why: String) {
        self.skipped.get_or_insert(why);
    }

    fn of_use(self) -> Result<KeySet, String> {
        if !self.keys.is_empty() {
            return Ok(self);
        }
        let why = self.skipped.map(|why| format!(" ({why})")).unwrap_or_default();
        Err(format!("no key that signatures can be verified with{why}"))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// Some keys, or all.
enum Candidates<A, B> {
    Some(A),
    All(B),
}

impl<'k, A, B> Iterator for Candidates<A, B>
where
    A: Iterator<Item = &'k Key>,
    B: Iterator<Item = &'k Key>,
{
    type Item = &'k Key;

    fn next(&mut self) -> Option<&'k Key> {
        match self {
            Candidates::Some(keys) => keys.next(),
            Candidates::All(keys) => keys.next(),
        }
    }
}

impl Key {
    fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.verifiers.iter().find(|(a, _)| *a == algorithm).map(|(_, verifier)| verifier)
    }

    /// `parse` for each of the algorithms; `None` if it does not work for one.
    fn public(
        algorithms: Algorithms,
        mut parse: impl FnMut(Algorithm) -> Option<ParsedPublicKey>,
    ) -> Option<Key> {
        let each = algorithms.iter().map(|a| Some((a, Verifier::Public(parse(a)?))));
        Some(Key { verifiers: each.collect::<Option<Vec<_>>>()? })
    }
}

impl Verifier {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
        }
    }
}

// ---------------------------------------------------------------- one JWK

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

fn public_key(jwk: &Map<String, Value>) -> Result<(Option<&str>, Key), &'static str> {
    if member(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
        return Err("`use` is not \"sig\"");
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(ops)) if ops.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("`key_ops` has no \"verify\""),
    }
    let kid = member(jwk, "kid")?;
    if kid.is_some_and(|kid| kid.len() > LONGEST_KID) {
        return Err("`kid` is longer than 256 octets");
    }
    let only = match member(jwk, "alg")? {
        None => Algorithms::ASYMMETRIC,
        Some(name) => match Algorithm::of(name) {
            Some(algorithm) => Algorithms::NONE.and(algorithm),
            None => return Err("`alg` is no signature algorithm that is served"),
        },
    };
    let key = match member(jwk, "kty")?.ok_or("no `kty`")? {
        "RSA" => rsa(jwk, only),
        "EC" => ec(jwk, only),
        "OKP" => okp(jwk, only),
        "oct" => Err("a secret in a set of public keys"),
        _ => Err("`kty` is none of RSA, EC and OKP"),
    };
    Ok((kid, key?))
}

fn member<'j>(jwk: &'j Map<String, Value>, name: &str) -> Result<Option<&'j str>, &'static str> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("a member that must be a string is none"),
    }
}

fn octets(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = member(jwk, name)?.ok_or("a member of the key is missing")?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "a member of the key is no base64url")
}

fn fitting(of_type: Algorithms, only: Algorithms) -> Result<Algorithms, &'static str> {
    let fitting = of_type.both(only);
    if fitting.is_empty() { Err("`alg` does not fit the key's type") } else { Ok(fitting) }
}

fn rsa(jwk: &Map<String, Value>, only: Algorithms) -> Result<Key, &'static str> {
    let algorithms = fitting(Algorithms::RSA, only)?;
    // Leading zeros are wrong (RFC 7518 section 6.3.1.1), known to be sent, and harmless.
    let number = |octets: Vec<u8>| octets.into_iter().skip_while(|b| *b == 0).collect::<Vec<u8>>();
    let (n, e) = (number(octets(jwk, "n")?), number(octets(jwk, "e")?));
    if !RSA_BITS.contains(&bits(&n)) {
        return Err("an RSA key of less than 2048 or more than 8192 bits");
    }
    let odd = |number: &[u8]| number.last().is_some_and(|b| b % 2 == 1);
    if !odd(&n) || !odd(&e) || !(2..=33).contains(&bits(&e)) {
        return Err("an RSA key with an unsound modulus or exponent");
    }
    let components = PublicKeyComponents { n, e };
    let parse = |a| rsa_parameters(a).and_then(|p| components.to_parsed_public_key(p).ok());
    Key::public(algorithms, parse).ok_or("an RSA key that cannot be used")
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// Each curve with its one algorithm (RFC 7518 section 3.4) and the octets of a coordinate.
const CURVES: &[(&str, Algorithm, usize)] = &[
    ("P-256", Algorithm::Es256, 32),
    ("P-384", Algorithm::Es384, 48),
    ("P-521", Algorithm::Es512, 66),
];

fn curve(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        _ => return None,
    })
}

fn ec(jwk: &Map<String, Value>, only: Algorithms) -> Result<Key, &'static str> {
    let name = member(jwk, "crv")?.ok_or("no `crv`")?;
    let known = CURVES.iter().find(|(curve, ..)| *curve == name);
    let (_, algorithm, length) = known.ok_or("`crv` is none of P-256, P-384 and P-521")?;
    let algorithms = fitting(Algorithms::NONE.and(*algorithm), only)?;
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != *length || y.len() != *length {
        return Err("a coordinate of another length than the curve's");
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Key::public(algorithms, |a| ParsedPublicKey::new(curve(a)?, &point).ok())
        .ok_or("a point that is not on the curve")
}

fn okp(jwk: &Map<String, Value>, only: Algorithms) -> Result<Key, &'static str> {
    if member(jwk, "crv")? != Some("Ed25519") {
        return Err("`crv` of an OKP key is not Ed25519");
    }
    let algorithms = fitting(Algorithms::NONE.and(Algorithm::EdDsa), only)?;
    let x = octets(jwk, "x")?;
    if x.len() != 32 {
        return Err("a key of Ed25519 that has not 32 octets");
    }
    Key::public(algorithms, |a| ParsedPublicKey::new(curve(a)?, &x).ok())
        .ok_or("a key of Ed25519 that cannot be used")
}

// ---------------------------------------------------------------- one key of PEM

fn spki(der: &[u8]) -> Option<Key> {
    use x509_parser::prelude::FromDer;
    use x509_parser::public_key::PublicKey;
    let (_, parsed) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der).ok()?;
    if let Ok(PublicKey::RSA(rsa)) = parsed.parsed() {
        let n: Vec<u8> = rsa.modulus.iter().copied().skip_while(|b| *b == 0).collect();
        if !RSA_BITS.contains(&bits(&n)) {
            return None;
        }
        return Key::public(Algorithms::RSA, |a| {
            ParsedPublicKey::new(rsa_parameters(a)?, der).ok()
        });
    }
    let mut of_curves = Algorithms::ASYMMETRIC.iter().filter_map(|a| Some((a, curve(a)?)));
    of_curves.find_map(|(algorithm, curve)| {
        let key = ParsedPublicKey::new(curve, der).ok()?;
        Some(Key { verifiers: vec![(algorithm, Verifier::Public(key))] })
    })
}
