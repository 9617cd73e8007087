//! A certificate with its chain, key and OCSP staple, checked as far as it can be before anybody is shown it (hazard TLS-07).
//!
//! Trust is not judged: whether clients believe the chain is their matter. Octets come from control, which reads files.

use crate::tls::staple::{self, Staple};
use crate::tls::{provider, sha256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};
use std::fmt;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::public_key::PublicKey;

/// A certificate that can be shown to clients.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What logs and metrics call it: its file.
    pub label: Arc<str>,
    /// The DNS names that it is for, in lower case; one may begin with `*.`.
    pub names: Vec<Box<str>>,
    /// The kind of its key.
    pub kind: Kind,
    /// The length of its key.
    pub bits: usize,
    /// From when on it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: i64,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// What its OCSP response says of itself.
    pub staple: Option<Staple>,
    /// What rustls shows, and signs with.
    pub certified: Arc<CertifiedKey>,
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ECDSA.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa,
}

/// Which of the files is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The certificate and what follows it.
    Chain,
    /// The private key.
    Key,
    /// The OCSP response.
    Staple,
}

/// What is wrong with a certificate, as `found` and `expected` of a diagnostic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Where.
    pub part: Part,
    /// What is there.
    pub found: String,
    /// What ought to be.
    pub expected: &'static str,
}

/// The octets of a certificate's files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// PEM: the certificate, then those that lead from it towards a root.
    pub chain: &'a [u8],
    /// PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key: &'a [u8],
    /// DER: an OCSP response.
    pub staple: Option<&'a [u8]>,
}

const CHAIN: &str = "certificates in PEM, the server's own first";
const KEY: &str = "a private key in PEM, not encrypted (PKCS #8, PKCS #1 or SEC 1)";

impl PartialEq for Certificate {
    fn eq(&self, other: &Certificate) -> bool {
        self.label == other.label
            && self.certified.cert == other.certified.cert
            && self.certified.ocsp == other.certified.ocsp
    }
}

impl Certificate {
    /// Reads and checks a certificate, which is called `label` from now on.
    ///
    /// # Errors
    /// The first thing that is wrong. That it has expired is none: see [`Certificate::is_expired`].
    pub fn read(label: &str, files: Files<'_>) -> Result<Certificate, Unfit> {
        let chain = read_chain(files.chain)?;
        let unfit = |found: String| Unfit { part: Part::Chain, found, expected: CHAIN };
        let own = chain.first().ok_or_else(|| unfit("no certificate".to_owned()))?;
        let (_, parsed) = X509Certificate::from_der(own)
            .map_err(|e| unfit(format!("a certificate that cannot be read ({e})")))?;
        let names = names(&parsed)?;
        follows(&chain)?;
        let (not_before, not_after) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let bits = match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => key.key_size(),
            Ok(PublicKey::EC(point)) => point.key_size(),
            _ => 256,
        };
        let fingerprint = sha256(own);
        let mut certified = certify(chain.clone(), files.key)?;
        let kind = match certified.key.algorithm() {
            SignatureAlgorithm::ECDSA => Kind::Ecdsa,
            SignatureAlgorithm::ED25519 => Kind::Ed25519,
            _ => Kind::Rsa,
        };
        let mut staple = None;
        if let Some(der) = files.staple {
            let unfit = |e| Unfit {
                part: Part::Staple,
                found: format!("{e}"),
                expected: "an OCSP response in DER for this certificate",
            };
            staple = Some(staple::parse(der, parsed.raw_serial()).map_err(unfit)?);
            certified.ocsp = Some(der.to_vec());
        }
        let certified = Arc::new(certified);
        let label = Arc::from(label);
        Ok(Certificate {
            label,
            names,
            kind,
            bits,
            not_before,
            not_after,
            fingerprint,
            staple,
            certified,
        })
    }

    /// Whether it is for this host, which is in lower case and without a dot at its end.
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            // RFC 6125 section 6.4.3: a star is one whole label.
            Some(parent) => {
                host.split_once('.').is_some_and(|(own, rest)| rest == parent && !own.is_empty())
            }
            None => **name == *host,
        })
    }

    /// Whether it is not valid any more, `now` being in seconds since 1970.
    pub fn is_expired(&self, now: i64) -> bool {
        self.not_after < now
    }

    /// Whether its OCSP response is to be sent at `now`, in seconds since 1970; `None` without one.
    pub fn check_staple(&self, now: i64) -> Option<Result<(), staple::Unfit>> {
        Some(self.staple?.check(u64::try_from(now).unwrap_or(0)))
    }

    /// Sends no OCSP response.
    pub fn without_staple(&mut self) {
        self.staple = None;
        let CertifiedKey { cert, key, .. } = &*self.certified;
        self.certified = Arc::new(CertifiedKey::new(cert.clone(), Arc::clone(key)));
    }

    /// Its fingerprint as operators compare it: hexadecimal.
    pub fn fingerprint_text(&self) -> String {
        hex(&self.fingerprint)
    }
}

/// Hexadecimal digits in lower case.
pub fn hex(octets: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(octets.len() * 2);
    for octet in octets {
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// The certificates of a PEM file, in its order.
///
/// # Errors
/// What is wrong with it.
pub fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let unfit = |found: String| Unfit { part: Part::Chain, found, expected: CHAIN };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|e| unfit(format!("broken PEM ({e})")))?;
    if chain.is_empty() {
        return Err(unfit("no certificate".to_owned()));
    }
    Ok(chain)
}

fn certify(chain: Vec<CertificateDer<'static>>, key: &[u8]) -> Result<CertifiedKey, Unfit> {
    let unfit = |found: String| Unfit { part: Part::Key, found, expected: KEY };
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(_) if contains(key, b"ENCRYPTED") => return Err(unfit("an encrypted key".to_owned())),
        Err(error) => return Err(unfit(format!("no private key ({error})"))),
    };
    CertifiedKey::from_der(chain, key, provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unfit {
            part: Part::Key,
            found: "a key that does not belong to the certificate".to_owned(),
            expected: "the key of the first certificate in the chain",
        },
        Error::InvalidCertificate(error) => Unfit {
            part: Part::Chain,
            found: format!("a certificate that cannot be served ({error})"),
            expected: CHAIN,
        },
        error => unfit(format!("a key that cannot be used ({error})")),
    })
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}

// The DNS names of a certificate. One without any is for addresses, or for a default.
fn names(certificate: &X509Certificate<'_>) -> Result<Vec<Box<str>>, Unfit> {
    let unfit = |found: String| Unfit { part: Part::Chain, found, expected: "names of hosts" };
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|e| unfit(format!("subject alternative names that cannot be read ({e})")))?;
    let mut names = Vec::new();
    for name in alternative.iter().flat_map(|extension| &extension.value.general_names) {
        let GeneralName::DNSName(name) = name else { continue };
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        let host = name.strip_prefix("*.").unwrap_or(name);
        if host.is_empty() || !host.bytes().all(fits) {
            return Err(unfit(format!("the name {name:?} in the certificate")));
        }
        names.push(name.to_ascii_lowercase().into_boxed_str());
    }
    Ok(names)
}

// Each certificate must be issued by the next, or clients that look no further will refuse it.
fn follows(chain: &[CertificateDer<'_>]) -> Result<(), Unfit> {
    for pair in chain.windows(2) {
        let [below, above] = pair else { continue };
        let (Ok((_, below)), Ok((_, above))) =
            (X509Certificate::from_der(below), X509Certificate::from_der(above))
        else {
            continue;
        };
        if below.issuer().as_raw() != above.subject().as_raw() {
            return Err(Unfit {
                part: Part::Chain,
                found: format!(
                    "{:?}, issued by {:?}, and after it {:?}",
                    below.subject().to_string(),
                    below.issuer().to_string(),
                    above.subject().to_string()
                ),
                expected: "each certificate to be followed by the one that issued it",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    fn made(names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        CertificateParams::new(names).unwrap().self_signed(key).unwrap().pem()
    }

    #[track_caller]
    fn refuses(chain: &str, key: &str, staple: Option<&[u8]>, part: Part, found: &str) {
        let files = Files { chain: chain.as_bytes(), key: key.as_bytes(), staple };
        let unfit = Certificate::read("a.pem", files).unwrap_err();
        assert_eq!(unfit.part, part, "{unfit:?}");
        assert!(unfit.found.contains(found), "{unfit:?} does not say {found:?}");
    }

    #[test]
    fn a_pair_is_read_with_all_that_matters_of_it() {
        for (algorithm, kind, bits) in
            [(&PKCS_ECDSA_P384_SHA384, Kind::Ecdsa, 384), (&PKCS_ED25519, Kind::Ed25519, 256)]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let chain = made(&["A.example", "*.b.example"], &key);
            let key = key.serialize_pem();
            let files = Files { chain: chain.as_bytes(), key: key.as_bytes(), staple: None };
            let read = Certificate::read("a.pem", files).unwrap();
            assert_eq!((read.kind, read.bits), (kind, bits));
            assert_eq!(
                read.names.iter().map(|n| &**n).collect::<Vec<_>>(),
                ["a.example", "*.b.example"]
            );
            for (host, covered) in [
                ("a.example", true),
                ("x.b.example", true),
                ("b.example", false),
                (".b.example", false),
                ("x.y.b.example", false),
                ("x.a.example", false),
                ("", false),
            ] {
                assert_eq!(read.covers(host), covered, "{host}");
            }
            assert!(!read.is_expired(read.not_after) && read.is_expired(read.not_after + 1));
            assert_eq!(read.fingerprint_text().len(), 64);
        }
    }

    // Hazard TLS-07.
    #[test]
    fn what_is_half_written_or_mismatched_is_refused_and_said() {
        let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let (chain, key) = (made(&["a.example"], &one), one.serialize_pem());
        refuses("", &key, None, Part::Chain, "no certificate");
        refuses(&key, &key, None, Part::Chain, "no certificate");
        refuses(chain.get(..chain.len() / 2).unwrap(), &key, None, Part::Chain, "");
        refuses(&chain, key.get(..key.len() / 2).unwrap(), None, Part::Key, "");
        refuses(&chain, "", None, Part::Key, "no private key");
        refuses(&chain, &other.serialize_pem(), None, Part::Key, "does not belong");
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        refuses(&chain, &encrypted, None, Part::Key, "an encrypted key");
        refuses(&chain, &key, Some(b"-----BEGIN"), Part::Staple, "no OCSP response");
        refuses(&chain, &key, Some(b"\x30\x03\x0a\x01\x06"), Part::Staple, "without an answer");
        refuses(&chain, &key, Some(b""), Part::Staple, "no OCSP response");
        let unrelated = chain.clone() + &made(&["b.example"], &other);
        let mut params = CertificateParams::new(vec!["c.example".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "another");
        let stranger = params.self_signed(&other).unwrap().pem();
        refuses(&(chain + &stranger), &key, None, Part::Chain, "and after it");
        drop(unrelated);
    }
}
