//! Back ends that speak TLS and do exactly what a test says: rustls over blocking sockets, one thread a connection.

use super::authority::Issued;
use super::{Origin, Wire};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A session as its script sees it.
pub type Session = Wire<StreamOwned<ServerConnection, TcpStream>>;

/// What was agreed on with whoever connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    /// The name that was asked for.
    pub name: Option<String>,
    pub resumed: bool,
    pub alpn: Option<String>,
    /// Whether a client certificate was shown.
    pub certified: bool,
}

/// A back end behind TLS.
pub struct TlsOrigin {
    pub origin: Origin,
    pub address: SocketAddr,
    shaken: Arc<Mutex<Vec<Shaken>>>,
}

impl TlsOrigin {
    /// Runs `script` on every session; the connection is closed when it returns, without close_notify.
    pub fn script(
        config: Arc<ServerConfig>,
        script: impl Fn(&mut Session) -> io::Result<()> + Send + Sync + 'static,
    ) -> TlsOrigin {
        let shaken = Arc::new(Mutex::new(Vec::new()));
        let its = Arc::clone(&shaken);
        let origin = Origin::script(move |conn| {
            let mut session =
                ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            let mut tcp = conn.wire.stream.try_clone()?;
            while session.is_handshaking() {
                session.complete_io(&mut tcp)?;
            }
            its.lock().unwrap().push(Shaken {
                name: session.server_name().map(str::to_owned),
                resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
                alpn: session.alpn_protocol().map(|a| String::from_utf8_lossy(a).into_owned()),
                certified: session.peer_certificates().is_some(),
            });
            script(&mut Wire::new(StreamOwned::new(session, tcp)))
        });
        TlsOrigin { address: origin.address, origin, shaken }
    }

    /// Answers every request with 200 and `body`, keeping connections.
    pub fn saying(config: Arc<ServerConfig>, body: &str) -> TlsOrigin {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        TlsOrigin::script(config, move |session| {
            while session.request()?.is_some() {
                session.send(answer.as_bytes())?;
            }
            Ok(())
        })
    }

    /// Every handshake that was completed.
    pub fn shaken(&self) -> Vec<Shaken> {
        self.shaken.lock().unwrap().clone()
    }
}

/// Both versions, without a client certificate.
pub fn server(issued: &Issued) -> Arc<ServerConfig> {
    let (chain, key) = identity(issued);
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// TLS 1.2 only.
pub fn server_12(issued: &Issued) -> Arc<ServerConfig> {
    let (chain, key) = identity(issued);
    let builder = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// As [`server`], for clients with a certificate of the authority in `ca`.
pub fn server_asking(issued: &Issued, ca: &Path) -> Arc<ServerConfig> {
    let (chain, key) = identity(issued);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

fn identity(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&issued.cert).unwrap().map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_file(&issued.key).unwrap())
}
