//! Whom a listener believes: the CAs that issue certificates to clients, and what these have revoked.
//!
//! A chain with a CA whose revocations are unknown is refused once there is a CRL at all, and so is one whose CRL has expired:
//! whoever asks for revocation to be checked is not served by half of it (hazard TLS-04).

use crate::tls::certificate::{Part, Unfit, read_chain};
use crate::tls::policy::provider;
use crate::tls::sha256;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

/// CAs and revocations, checked.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    crls: Vec<CertificateRevocationListDer<'static>>,
    /// Until when the revocations are valid, in seconds since 1970, where that is said: of all the earliest.
    pub next_update: Option<i64>,
    /// SHA-256 over all of it.
    pub id: [u8; 32],
}

impl PartialEq for Trust {
    fn eq(&self, other: &Trust) -> bool {
        self.id == other.id
    }
}

impl Trust {
    /// Reads CAs, and CRLs if there are any: both in PEM.
    ///
    /// # Errors
    /// What is wrong; in the CAs ([`Part::Chain`]) or the CRLs ([`Part::Staple`]).
    pub fn read(cas: &[u8], crls: Option<&[u8]>) -> Result<Trust, Unfit> {
        let mut roots = RootCertStore::empty();
        for ca in read_chain(cas)? {
            roots.add(ca).map_err(|e| Unfit {
                part: Part::Chain,
                found: format!("a certificate that cannot be a CA ({e})"),
                expected: "certificates of CAs in PEM",
            })?;
        }
        let roots = Arc::new(roots);
        let id = sha256(&[&sha256(cas), &sha256(crls.unwrap_or_default())[..]].concat());
        let (crls, next_update) = match crls {
            Some(crls) => read_crls(crls)?,
            None => (Vec::new(), None),
        };
        let trust = Trust { roots, crls, next_update, id };
        trust.verifier(true).map_err(|e| Unfit {
            part: Part::Staple,
            found: format!("CRLs that cannot be used ({e})"),
            expected: "CRLs in PEM",
        })?;
        Ok(trust)
    }

    /// What judges clients: whether they must have a certificate or may.
    ///
    /// # Errors
    /// Those of rustls, which a trust that was read does not cause.
    pub fn verifier(&self, required: bool) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let roots = Arc::clone(&self.roots);
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()));
        if !self.crls.is_empty() {
            builder = builder.with_crls(self.crls.iter().cloned()).enforce_revocation_expiration();
        }
        if !required {
            builder = builder.allow_unauthenticated();
        }
        let inner = builder.build().map_err(|e| Error::General(e.to_string()))?;
        Ok(Arc::new(Clean { inner }))
    }
}

type Crls = (Vec<CertificateRevocationListDer<'static>>, Option<i64>);

fn read_crls(pem: &[u8]) -> Result<Crls, Unfit> {
    let unfit = |found: String| Unfit { part: Part::Staple, found, expected: "CRLs in PEM" };
    let crls: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let crls = crls.map_err(|e| unfit(format!("broken PEM ({e})")))?;
    if crls.is_empty() {
        return Err(unfit("no CRL".to_owned()));
    }
    let mut next_update = None;
    for crl in &crls {
        let (_, parsed) = CertificateRevocationList::from_der(crl)
            .map_err(|e| unfit(format!("a CRL that cannot be read ({e})")))?;
        let until = parsed.next_update().map(|time| time.timestamp());
        next_update = [next_update, until].into_iter().flatten().min();
    }
    Ok((crls, next_update))
}

// What webpki has verified, and whose names can be read in one way only: a NUL or another control octet in a name has fooled more
// than one reader of certificates (hazard TLS-04).
#[derive(Debug)]
struct Clean {
    inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for Clean {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(own, intermediates, now)?;
        if !is_clean(own) {
            return Err(CertificateError::BadEncoding.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_clean(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let fine = |octets: &[u8]| !octets.iter().any(|b| *b < 0x20 || *b == 0x7f);
    let text = |name: &x509_parser::x509::X509Name<'_>| {
        name.iter_attributes().all(|attribute| {
            // BMPString has NULs of its own.
            attribute.as_str().map_or_else(|_| fine(attribute.as_slice()), |t| fine(t.as_bytes()))
        })
    };
    let Ok(alternative) = parsed.subject_alternative_name() else { return false };
    let mut names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let named = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            fine(name.as_bytes())
        }
        GeneralName::DirectoryName(name) => text(name),
        _ => true,
    };
    text(parsed.subject()) && text(parsed.issuer()) && names.all(named)
}

/// Takes any certificate, or none, without judging it: whoever is behind does. That the client has the key is proven.
#[derive(Debug)]
pub struct Unjudged;

impl ClientCertVerifier for Unjudged {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(common_name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    // Hazard TLS-04.
    #[test]
    fn names_with_control_octets_are_not_clean() {
        for (name, expected) in
            [("admin", true), ("Zoë", true), ("admin\0.evil", false), ("a\nb", false)]
        {
            assert_eq!(is_clean(&certificate(name)), expected, "{name:?}");
        }
        assert!(!is_clean(&CertificateDer::from(vec![1, 2, 3])));
    }

    #[test]
    fn what_is_no_trust_is_refused() {
        let ca = CertificateParams::new(vec![]).unwrap();
        let pem = ca.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        assert!(Trust::read(pem.as_bytes(), None).is_ok());
        for (cas, crls, part) in [
            ("", None, Part::Chain),
            ("x", None, Part::Chain),
            (pem.as_str(), Some(""), Part::Staple),
            (pem.as_str(), Some(pem.as_str()), Part::Staple),
        ] {
            let unfit = Trust::read(cas.as_bytes(), crls.map(str::as_bytes)).unwrap_err();
            assert_eq!(unfit.part, part, "{unfit:?}");
        }
    }
}
