//! HTTPS to an ACME authority: one request, one connection, bounded in time and size.
//!
//! Names are resolved as those of targets are, so that nothing of libc's resolver is needed inside the sandbox. The
//! authority is verified by the system's roots, or by those the file names; there is no way not to. Called by `order`.

use crate::control::resolve::Resolver;
use ::http::header::HOST;
use ::http::{HeaderValue, Request, Response, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// For one request, from its name to its last octet.
const PATIENCE: Duration = Duration::from_secs(30);
/// For one address of a name.
const CONNECT: Duration = Duration::from_secs(5);
/// The largest answer; a chain of certificates is a few KiB.
const LARGEST: usize = 1 << 20;

/// What requests are made with.
#[derive(Clone)]
pub struct Https {
    resolver: Arc<Resolver>,
    tls: TlsConnector,
}

impl Https {
    /// Verifies by the roots in `ca`, or by the system's.
    ///
    /// # Errors
    /// When there are none.
    pub fn new(resolver: Arc<Resolver>, ca: Option<&Path>) -> Result<Https, String> {
        let roots = roots(ca)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Https { resolver, tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Problem> {
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
        let authority = authority.ok_or_else(|| format!("{uri} is no https URL"))?;
        let stream = self.connect(&uri).await?;
        let (mut send, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        parts.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        parts.uri = Uri::from_str(uri.path_and_query().map_or("/", |path| path.as_str()))?;
        let body = body.collect().await?.to_bytes();
        let answer = send.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST).collect().await?.to_bytes();
        connection.abort();
        Ok(BytesResponse::from(Response::from_parts(parts, Full::new(body))))
    }

    async fn connect(
        &self,
        uri: &Uri,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Problem> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(443);
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolver.resolve(host).await;
                found.map_err(|error| format!("{host} does not resolve: {error}"))?.addresses
            }
        };
        let mut last = format!("{host} has no address");
        for address in addresses {
            let address = SocketAddr::new(address, port);
            match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // A request is written in two steps.
                    stream.set_nodelay(true)?;
                    let name = ServerName::try_from(host.to_owned())?;
                    let stream = self.tls.connect(name, stream).await;
                    return stream.map_err(|error| format!("TLS with {host}: {error}").into());
                }
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no connection within {CONNECT:?}"),
            }
        }
        Err(last.into())
    }
}

/// What instant-acme carries other errors in.
type Problem = Box<dyn std::error::Error + Send + Sync>;

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(async move {
            match tokio::time::timeout(PATIENCE, client.ask(request)).await {
                Ok(answer) => answer.map_err(Error::Other),
                Err(_) => {
                    Err(Error::Other(format!("{host}: no answer within {PATIENCE:?}").into()))
                }
            }
        })
    }
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let none = || {
            format!(
                "this system has no root certificates{why}: install ca-certificates, or set acme.ca"
            )
        };
        return if added > 0 { Ok(roots) } else { Err(none()) };
    };
    let wrong = |error: &dyn std::fmt::Display| format!("acme.ca: {}: {error}", path.display());
    let octets = std::fs::read(path).map_err(|error| wrong(&error))?;
    for root in CertificateDer::pem_slice_iter(&octets) {
        let added = root.map_err(|error| wrong(&error)).map(|root| roots.add(root))?;
        added.map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"holds no certificate")) } else { Ok(roots) }
}
