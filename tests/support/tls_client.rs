//! A client that verifies, as browsers do: what it trusts, offers and shows is a test's to say.

use super::authority::{Authority, Issued};
use super::{Message, PATIENCE, Wire};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// A connection with its handshake behind it.
pub type Connection = Wire<StreamOwned<ClientConnection, TcpStream>>;

/// Trusts `ca`; speaks TLS 1.2 and 1.3 and HTTP/1.1.
pub fn trusting(ca: &Authority) -> ClientConfig {
    with(ca, None, rustls::DEFAULT_VERSIONS)
}

/// Shows a certificate, too.
pub fn showing(ca: &Authority, own: &Issued) -> ClientConfig {
    with(ca, Some(own), rustls::DEFAULT_VERSIONS)
}

/// Whatever is said.
pub fn with(
    ca: &Authority,
    own: Option<&Issued>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&ca.file).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::pem_file_iter(&own.cert).unwrap();
            let key = PrivateKeyDer::from_pem_file(&own.key).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Connects to `name`; an address is no SNI.
///
/// # Errors
/// What broke the handshake, as this side sees it.
pub fn connect(config: &Arc<ClientConfig>, to: SocketAddr, name: &str) -> io::Result<Connection> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(Wire::new(StreamOwned::new(session, stream)))
}

/// One request with this host, and further lines of its head.
///
/// # Errors
/// When there is no whole answer.
pub fn ask(connection: &mut Connection, host: &str, lines: &str) -> io::Result<Message> {
    connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").as_bytes())?;
    connection.response("GET")?.ok_or_else(|| io::Error::other("closed without an answer"))
}

/// Whether the session goes on from an earlier one.
pub fn is_resumed(connection: &Connection) -> bool {
    connection.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
}
