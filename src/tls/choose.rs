//! Which certificate a client is shown: by the name that it asks for, and by what it can verify.
//!
//! An exact name beats a wildcard, a wildcard stands for one label, and a name that nothing covers, or none, gets the
//! first certificate of the list, or one for the same name that suits the client better. Of several that fit, ECDSA comes
//! before RSA, then the one that is valid longer.

use crate::tls::certificate::Kind;
use crate::tls::facts::{self, Heard};
use crate::tls::{Certificate, Challenges};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureScheme};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener, found by name.
#[derive(Debug)]
pub struct Chooser {
    certificates: Vec<Arc<Certificate>>,
    // Places in `certificates`, the best first. Wildcards are here as they are written.
    by_name: HashMap<Box<str>, Vec<usize>>,
    default: Vec<usize>,
    // Where challenges of ACME are answered.
    challenges: Option<Arc<Challenges>>,
}

/// What an authority speaks that validates a name (RFC 8737 section 3): nothing but the handshake.
pub const ACME: &[u8] = b"acme-tls/1";

impl Chooser {
    /// Chooses among these, of which the first is the default; a challenge has its own.
    pub fn new(
        certificates: Vec<Arc<Certificate>>,
        challenges: Option<Arc<Challenges>>,
    ) -> Chooser {
        let mut by_name: HashMap<Box<str>, Vec<usize>> = HashMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                let places = by_name.entry(name.clone()).or_default();
                if !places.contains(&at) {
                    places.push(at);
                }
            }
        }
        let rank = |at: &usize| certificates.get(*at).map(|c| (c.kind, Reverse(c.not_after)));
        by_name.values_mut().for_each(|places| places.sort_by_key(rank));
        let first = certificates.first().and_then(|first| first.names.first());
        let default = first.and_then(|name| by_name.get(name)).cloned();
        let default = default.unwrap_or_else(|| vec![0]);
        Chooser { certificates, by_name, default, challenges }
    }

    /// The certificates, in the order of the file.
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }

    /// The certificate for a name in lower case, for a client that can verify what `fits` says.
    pub fn choose(
        &self,
        name: Option<&str>,
        fits: impl Fn(&Certificate) -> bool,
    ) -> Option<&Arc<Certificate>> {
        let named = name.and_then(|name| {
            self.by_name.get(name).or_else(|| {
                let (own, parent) = name.split_once('.')?;
                if own.is_empty() {
                    return None;
                }
                self.by_name.get(format!("*.{parent}").as_str())
            })
        });
        let places = named.unwrap_or(&self.default);
        let mut candidates = places.iter().filter_map(|at| self.certificates.get(*at));
        // Where nothing fits, rustls says so better than an answer of ours would.
        candidates.clone().find(|c| fits(c)).or_else(|| candidates.next())
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(|name| name.to_ascii_lowercase());
        if let Some(challenges) = &self.challenges
            && hello.alpn().is_some_and(|mut all| all.next() == Some(ACME) && all.next().is_none())
        {
            return challenges.certificate(name.as_deref()?);
        }
        let fits = |c: &Certificate| suits(c, hello.signature_schemes(), hello.cipher_suites());
        let certificate = self.choose(name.as_deref(), fits)?;
        facts::hear(Heard {
            name: name.map(String::into_boxed_str),
            certificate: Some(Arc::clone(certificate)),
        });
        Some(Arc::clone(&certificate.certified))
    }
}

// TLS 1.3 leaves the kind of key to the signature schemes; TLS 1.2 has it in the cipher suites, too.
fn suits(certificate: &Certificate, schemes: &[SignatureScheme], suites: &[CipherSuite]) -> bool {
    let speaks = |suite: &CipherSuite| {
        let name = suite.as_str().unwrap_or_default();
        let by_kind = match certificate.kind {
            Kind::Ecdsa | Kind::Ed25519 => "TLS_ECDHE_ECDSA_",
            Kind::Rsa => "TLS_ECDHE_RSA_",
        };
        name.starts_with("TLS13_") || name.starts_with(by_kind)
    };
    certificate.certified.key.choose_scheme(schemes).is_some() && suites.iter().any(speaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fits = fn(&Certificate) -> bool;
    use crate::tls::certificate::Files;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    fn certificate(label: &str, names: &[&str], kind: Kind, days: i64) -> Arc<Certificate> {
        let algorithm = if kind == Kind::Rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
        let key = KeyPair::generate_for(algorithm).unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = params.not_before + std::time::Duration::from_secs(86_400 * days as u64);
        let chain = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let files = Files { chain: chain.as_bytes(), key: key.as_bytes(), staple: None };
        Arc::new(Certificate::read(label, files).unwrap())
    }

    #[test]
    fn names_find_their_certificate() {
        let chooser = Chooser::new(
            vec![
                certificate("default", &["a.example"], Kind::Rsa, 10),
                certificate("short", &["b.example", "*.b.example"], Kind::Ecdsa, 10),
                certificate("long", &["b.example"], Kind::Ecdsa, 20),
                certificate("rsa", &["b.example", "x.b.example"], Kind::Rsa, 30),
                certificate("default-ec", &["a.example"], Kind::Ecdsa, 5),
            ],
            None,
        );
        let (any, rsa): (Fits, Fits) = (|_| true, |c| c.kind == Kind::Rsa);
        for (name, fits, expected) in [
            (Some("a.example"), any, "default-ec"),
            (Some("a.example"), rsa, "default"),
            (Some("b.example"), any, "long"),
            (Some("b.example"), rsa, "rsa"),
            (Some("x.b.example"), any, "rsa"),
            (Some("y.b.example"), any, "short"),
            (Some("y.b.example"), rsa, "short"),
            (Some("z.y.b.example"), any, "default-ec"),
            (Some(".b.example"), any, "default-ec"),
            (Some("unknown.example"), rsa, "default"),
            (None, any, "default-ec"),
        ] {
            let chosen = chooser.choose(name, fits).map(|c| &*c.label);
            assert_eq!(chosen, Some(expected), "{name:?}");
        }
        assert!(Chooser::new(Vec::new(), None).choose(None, any).is_none());
    }

    #[test]
    fn a_certificate_without_a_name_can_be_the_default() {
        let chooser = Chooser::new(
            vec![
                certificate("nameless", &[], Kind::Ecdsa, 10),
                certificate("other", &["a.example"], Kind::Ecdsa, 10),
            ],
            None,
        );
        assert_eq!(chooser.choose(Some("b"), |_| true).map(|c| &*c.label), Some("nameless"));
    }

    #[test]
    fn what_a_client_can_verify_is_read_off_its_hello() {
        let (ec, rsa) =
            (certificate("ec", &["a"], Kind::Ecdsa, 1), certificate("rsa", &["a"], Kind::Rsa, 1));
        let (p256, pss) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
        let (tls13, ec12, rsa12) = (
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        );
        for (certificate, schemes, suites, expected) in [
            (&ec, vec![p256, pss], vec![tls13], true),
            (&ec, vec![pss], vec![tls13], false),
            (&ec, vec![p256, pss], vec![rsa12], false),
            (&ec, vec![p256], vec![rsa12, ec12], true),
            (&rsa, vec![p256, pss], vec![ec12], false),
            (&rsa, vec![p256, pss], vec![rsa12], true),
            (&rsa, vec![p256], vec![tls13], false),
        ] {
            let label = &certificate.label;
            assert_eq!(
                suits(certificate, &schemes, &suites),
                expected,
                "{label} {schemes:?} {suites:?}"
            );
        }
    }
}
