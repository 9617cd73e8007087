//! TLS as a test sees it: certificates made on the spot, and handshakes that tell which one was shown.
//!
//! The client trusts whatever is shown, so that a test can look at it; it verifies the signature, so that the key fits.

use super::{Message, PATIENCE, Wire};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// A certificate with its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Pair {
    /// Self-signed for `name`, called `label`, valid from a day ago for so much longer.
    pub fn new(name: &str, label: &str, valid: Duration) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, label);
        params.not_before = (SystemTime::now() - Duration::from_secs(86_400)).into();
        params.not_after = (SystemTime::now() + valid).into();
        let cert = params.self_signed(&key).unwrap().pem();
        Pair { cert, key: key.serialize_pem() }
    }

    /// Writes both halves, each as a whole, the certificate first.
    pub fn write(&self, cert: &Path, key: &Path) {
        replace(cert, &self.cert);
        replace(key, &self.key);
    }
}

/// An OCSP response (RFC 6960) that calls the certificate good between two times, as `20260101000000Z`. Nobody has signed it.
pub fn staple(pair: &Pair, this_update: &str, next_update: &str) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, length[0], length[1]], content.as_slice()].concat()
    };
    let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&cert).unwrap();
    let hash = tlv(4, &[&[1; 20]]);
    let algorithm = tlv(0x30, &[&tlv(6, &[&[0x2b, 14, 3, 2, 26]])]);
    let id = tlv(0x30, &[&algorithm, &hash, &hash, &tlv(2, &[parsed.raw_serial()])]);
    let times = [this_update, next_update].map(|time| [&[0x18, 15], time.as_bytes()].concat());
    let single = tlv(0x30, &[&id, &[0x80, 0], &times[0], &tlv(0xa0, &[&times[1]])]);
    let data = tlv(0x30, &[&tlv(0xa2, &[&hash]), &times[0], &tlv(0x30, &[&single])]);
    let basic = tlv(0x30, &[&data, &algorithm, &tlv(3, &[&[0; 65]])]);
    let kind = tlv(6, &[&[0x2b, 6, 1, 5, 5, 7, 48, 1, 1]]);
    let bytes = tlv(0x30, &[&kind, &tlv(4, &[&basic])]);
    tlv(0x30, &[&[10, 1, 0], &tlv(0xa0, &[&bytes])])
}

/// The time so many seconds from now, as it stands in an OCSP response.
pub fn generalized(seconds: i64) -> String {
    let done = std::process::Command::new("date")
        .args(["-u", "-d", &format!("{seconds} seconds"), "+%Y%m%d%H%M%SZ"])
        .output()
        .expect("date");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Replaces a file as deployments do: never half-written.
pub fn replace(path: &Path, text: &str) {
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

/// What a server showed in a handshake.
#[derive(Debug)]
pub struct Shown {
    /// Its certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The OCSP response; empty without one.
    pub staple: Vec<u8>,
    pub alpn: Option<Vec<u8>>,
}

impl Shown {
    /// The common name of the certificate's subject, and of its issuer.
    pub fn names(&self) -> (String, String) {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.chain[0]).unwrap();
        let common = |name: &x509_parser::x509::X509Name<'_>| {
            let found = name.iter_common_name().next().and_then(|n| n.as_str().ok());
            found.unwrap_or_default().to_owned()
        };
        (common(leaf.subject()), common(leaf.issuer()))
    }

    /// When the certificate ends, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        let (_, leaf) = x509_parser::parse_x509_certificate(&self.chain[0]).unwrap();
        leaf.validity().not_after.timestamp()
    }
}

/// A connection with a handshake behind it.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Connects, and shakes hands for `name` offering the protocols `alpn`; the OCSP response comes with it.
///
/// # Errors
/// What broke the handshake.
pub fn connect(to: SocketAddr, name: &str, alpn: &[&str]) -> io::Result<(Stream, Vec<u8>)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let staple = Arc::new(Mutex::default());
    let verifier = Anybody { provider: Arc::clone(&provider), staple: Arc::clone(&staple) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    let staple = staple.lock().unwrap().clone();
    Ok((StreamOwned::new(session, stream), staple))
}

/// What is shown for `name`.
///
/// # Errors
/// As [`connect`].
pub fn shown(to: SocketAddr, name: &str, alpn: &[&str]) -> io::Result<Shown> {
    let (stream, staple) = connect(to, name, alpn)?;
    let chain = stream.conn.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
    Ok(Shown { chain, staple, alpn: stream.conn.alpn_protocol().map(<[u8]>::to_vec) })
}

/// `GET path` on a connection of its own.
///
/// # Errors
/// As [`connect`], and when there is no whole answer.
pub fn get(to: SocketAddr, name: &str, path: &str) -> io::Result<Message> {
    let mut wire = Wire::new(connect(to, name, &["http/1.1"])?.0);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes())?;
    wire.response("GET")?.ok_or_else(|| io::Error::other("closed without an answer"))
}

/// Trusts whatever is shown, if it is signed by the key that belongs to it.
#[derive(Debug)]
struct Anybody {
    provider: Arc<CryptoProvider>,
    staple: Arc<Mutex<Vec<u8>>>,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
