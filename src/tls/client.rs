//! TLS to targets: from what a group says, and the files it names, to what rustls is given for each of its targets.
//!
//! Nothing is read or sent here: control hands the files in, `upstream` and the probes make the sessions. A target is verified
//! unless the group says otherwise by name (TLS-09). Sessions are resumed with the same target on the same worker only.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// HTTP/1.1 in ALPN.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// HTTP/2 in ALPN.
pub const ALPN_H2: &[u8] = b"h2";

/// What a file holds.
pub type Octets = Arc<[u8]>;

/// What a group says of TLS to its targets, with the octets of the files that it names (PEM).
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether a target must prove who it is.
    pub verify: bool,
    /// Who may vouch for targets; left out, whom this system trusts.
    pub ca: Option<Octets>,
    /// The chain that is shown to a target that asks for one, and its key.
    pub client: Option<(Octets, Octets)>,
    /// Whom the target must prove to be, instead of the name or address that it is reached at.
    pub server_name: Option<String>,
    /// Whether TLS 1.3 is the least; 1.2 otherwise.
    pub only_13: bool,
    /// What is offered in ALPN (RFC 7301).
    pub alpn: &'static [u8],
}

impl fmt::Debug for Settings {
    // The key stays out of logs and dumps (TLS-14).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("verify", &self.verify)
            .field("server_name", &self.server_name)
            .field("only_13", &self.only_13)
            .finish_non_exhaustive()
    }
}

/// What is wrong with settings, and with which part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// This system trusts nobody, or it cannot be found out whom.
    NoRoots(String),
    /// The authorities.
    Ca(String),
    /// The chain to show.
    Certificate(String),
    /// Its key.
    Key(String),
    /// The name.
    ServerName(String),
}

/// How the targets of a group are spoken to.
pub struct Dial {
    settings: Settings,
    name: Option<ServerName<'static>>,
    config: ClientConfig,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PartialEq for Dial {
    fn eq(&self, other: &Dial) -> bool {
        self.settings == other.settings
    }
}

impl Dial {
    /// Prepares sessions by `settings`. `roots` is asked for whom this system trusts, if that matters.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(
        settings: Settings,
        roots: impl FnOnce() -> Result<Arc<RootCertStore>, String>,
    ) -> Result<Dial, Wrong> {
        let name = match &settings.server_name {
            Some(name) => Some(server_name(name).ok_or_else(|| Wrong::ServerName(name.clone()))?),
            None => None,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = verifier(&settings, &provider, roots)?;
        let least: &[&SupportedProtocolVersion] =
            if settings.only_13 { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(least)
            .map_err(|e| Wrong::Ca(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(chain).map_err(Wrong::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| Wrong::Key(pem(&e)))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| match e {
                    Error::InvalidCertificate(_) => Wrong::Certificate(e.to_string()),
                    Error::InconsistentKeys(_) => {
                        Wrong::Key("a key that is not the certificate's".to_owned())
                    }
                    e => Wrong::Key(e.to_string()),
                })?
            }
        };
        config.alpn_protocols = vec![settings.alpn.to_vec()];
        Ok(Dial { settings, name, config })
    }

    /// Whom a target must prove to be that is reached at `host`, a DNS name or an address; `None` if that can be nobody's
    /// name in a certificate.
    pub fn name_of(&self, host: Option<&str>) -> Option<ServerName<'static>> {
        self.name.clone().or_else(|| server_name(host?))
    }

    /// Whether a session in which `chosen` was agreed on can be used. A target that has never heard of ALPN speaks HTTP/1.1;
    /// HTTP/2 must have been chosen (RFC 9113 section 3.2, hazard TLS-11).
    pub fn takes(&self, chosen: Option<&[u8]>) -> bool {
        chosen.is_none_or(|chosen| chosen == self.settings.alpn)
            && (chosen.is_some() || self.settings.alpn != ALPN_H2)
    }

    /// What a worker gives rustls for one target: with sessions of its own to resume, so that no worker waits for
    /// another and no target is shown what another one issued.
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Arc::new(config)
    }

    /// What a probe gives rustls: every probe proves anew that the target can shake hands. `alpn` is what it speaks, if that
    /// is not what requests are sent by.
    pub fn probing(&self, alpn: Option<&'static [u8]>) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = Resumption::disabled();
        if let Some(alpn) = alpn {
            config.alpn_protocols = vec![alpn.to_vec()];
        }
        Arc::new(config)
    }
}

/// Reads every certificate of a PEM file.
///
/// # Errors
/// What was found instead.
pub fn certificates(octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("no certificate in PEM".to_owned()),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(pem(&error)),
    }
}

// Tickets that are kept of one target: as many as rustls keeps at most.
const SESSIONS: usize = 8;

fn pem(error: &PemError) -> String {
    match error {
        PemError::NoItemsFound => "nothing in PEM that is wanted here".to_owned(),
        error => format!("malformed PEM ({error})"),
    }
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    // An IPv6 address may be bracketed.
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(ServerName::IpAddress(address.to_canonical().into()));
    }
    ServerName::try_from(host.to_owned()).ok()
}

fn verifier(
    settings: &Settings,
    provider: &Arc<CryptoProvider>,
    roots: impl FnOnce() -> Result<Arc<RootCertStore>, String>,
) -> Result<Arc<dyn ServerCertVerifier>, Wrong> {
    if !settings.verify {
        return Ok(Arc::new(Anyone(Arc::clone(provider))));
    }
    let (roots, own) = match &settings.ca {
        None => (roots().map_err(Wrong::NoRoots)?, Vec::new()),
        Some(ca) => {
            let own = certificates(ca).map_err(Wrong::Ca)?;
            let mut roots = RootCertStore::empty();
            for (at, certificate) in own.iter().enumerate() {
                let malformed = |e| Wrong::Ca(format!("certificate {} is malformed ({e})", at + 1));
                roots.add(certificate.clone()).map_err(malformed)?;
            }
            (Arc::new(roots), own)
        }
    };
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|e| Wrong::Ca(e.to_string()))?;
    Ok(Arc::new(Trusted { chain, own }))
}

// A chain to somebody who is trusted, or the very certificate that the file names: a self-signed one usually calls itself an
// authority, which webpki does not take for a server's, and every other client does.
#[derive(Debug)]
struct Trusted {
    chain: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl Trusted {
    fn is_itself(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.own.iter().any(|own| own == certificate) {
            return Ok(false);
        }
        let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(malformed)?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < parsed.validity().not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > parsed.validity().not_after.timestamp() {
            return Err(CertificateError::Expired.into());
        }
        verify_server_name(&ParsedCertificate::try_from(certificate)?, name).map(|()| true)
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_itself(certificate, name, now)? {
            return Ok(ServerCertVerified::assertion());
        }
        self.chain.verify_server_cert(certificate, intermediates, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.chain.root_hint_subjects()
    }
}

// Whoever it is. That the peer has the key of the certificate it shows is verified all the same.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
