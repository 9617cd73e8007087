//! A generator of TLS handshakes: each request has a connection of its own, which is new or resumes the one before.
//!
//! So many loops of connect, handshake, GET, answer, end, on one thread. wrk leaves open which kind of handshake its
//! connections make; here each is counted as what it was. TLS 1.3 with X25519 and AES-128-GCM, whatever the certificate.
//! Prints one line of JSON. `scripts/bench --work handshake,resumed` starts it:
//!
//! `handshake --to 127.0.0.1:9102 --connections 64 --secs 5 [--resume]`
#![allow(missing_docs)]

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: handshake\r\nAccept: */*\r\nConnection: close\r\n\r\n";

struct Arguments {
    to: SocketAddr,
    connections: usize,
    time: Duration,
    resume: bool,
}

#[derive(Default)]
struct Tally {
    done: u64,
    failed: u64,
    full: u64,
    resumed: u64,
}

fn main() -> io::Result<()> {
    let Some(args) = arguments() else {
        println!(
            "handshake: a generator of scripts/bench; to run it: --to ADDRESS --connections N --secs N [--resume]"
        );
        return Ok(());
    };
    let tally = Rc::new(RefCell::new(Tally::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        for _ in 0..args.connections {
            // A store of sessions for each loop: a ticket is good for one connection.
            let tls = TlsConnector::from(Arc::new(config(args.resume)?));
            let (to, tally) = (args.to, Rc::clone(&tally));
            tokio::task::spawn_local(async move {
                loop {
                    let ended = request(&tls, to).await;
                    tally.borrow_mut().count(ended);
                }
            });
        }
        tokio::time::sleep(args.time).await;
        Ok::<(), io::Error>(())
    })?;
    let Tally { done, failed, full, resumed } = *tally.borrow();
    println!("{{\"done\":{done},\"failed\":{failed},\"full\":{full},\"resumed\":{resumed}}}");
    Ok(())
}

fn arguments() -> Option<Arguments> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().skip_while(|a| *a != name).nth(1);
    Some(Arguments {
        to: value("--to")?.parse().ok()?,
        connections: value("--connections")?.parse().ok()?,
        time: Duration::from_secs(value("--secs")?.parse().ok()?),
        resume: args.iter().any(|a| a == "--resume"),
    })
}

fn config(resume: bool) -> io::Result<ClientConfig> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption =
        if resume { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
    Ok(config)
}

/// One connection with one request; which handshake it was.
async fn request(tls: &TlsConnector, to: SocketAddr) -> io::Result<HandshakeKind> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut stream = tls.connect(name, stream).await?;
    stream.write_all(REQUEST).await?;
    // To the end: tickets come before or behind the answer.
    let mut answer = Vec::with_capacity(1024);
    match stream.read_to_end(&mut answer).await {
        // Not everybody says goodbye; the length says whether the answer is whole.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    let kind = stream.get_ref().1.handshake_kind();
    let whole = answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(&[b'x'; 128]);
    kind.filter(|_| whole).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl Tally {
    fn count(&mut self, ended: io::Result<HandshakeKind>) {
        match ended {
            Ok(HandshakeKind::Resumed) => {
                (self.done, self.resumed) = (self.done + 1, self.resumed + 1)
            }
            Ok(_) => (self.done, self.full) = (self.done + 1, self.full + 1),
            Err(error) => {
                if self.failed == 0 {
                    eprintln!("handshake: {error}");
                }
                self.failed += 1;
            }
        }
    }
}

/// Takes every certificate: what is measured is the other side.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256]
    }
}
