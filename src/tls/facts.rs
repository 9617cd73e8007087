//! What was agreed on in a handshake, for logs, metrics, rules and the fields that targets get.
//!
//! rustls does not tell its unbuffered sessions which name the client asked for. The resolver of certificates hears it
//! ([`hear`]), synchronously and on the thread that drives the session, which takes it from there ([`heard`]).

use crate::tls::Certificate;
use crate::tls::client_cert::Told;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, ProtocolVersion};
use std::cell::RefCell;
use std::sync::Arc;

/// What a session is.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// As OpenSSL names it: `TLSv1.3`.
    pub version: &'static str,
    /// As OpenSSL names it: `TLS_AES_128_GCM_SHA256`, `ECDHE-RSA-AES128-GCM-SHA256`.
    pub cipher: &'static str,
    /// The group of the key exchange, as rustls names it: `X25519MLKEM768`; empty where there was none.
    pub group: &'static str,
    /// The name that the client asked for, or that we asked for, in lower case.
    pub name: Option<Box<str>>,
    /// The protocol that ALPN agreed on.
    pub alpn: Option<Box<[u8]>>,
    /// Whether it goes on from an earlier session.
    pub resumed: bool,
    /// The chain that the peer has proven to have, its own certificate first; empty without one.
    pub peer: Vec<CertificateDer<'static>>,
    /// The certificate that a client was shown.
    pub certificate: Option<Arc<Certificate>>,
    /// What is told of the client's certificate.
    pub told: Option<Told>,
    /// By whom it was verified ([`crate::tls::Trust::id`]).
    pub trust: Option<[u8; 32]>,
}

/// What the resolver of certificates has heard and decided.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The name that the client asked for, in lower case and without a dot at its end.
    pub name: Option<Box<str>>,
    /// Which certificate it gets.
    pub certificate: Option<Arc<Certificate>>,
}

thread_local! {
    static HEARD: RefCell<Option<Heard>> = const { RefCell::new(None) };
}

/// Says what the hello that is being processed on this thread asked for.
pub fn hear(what: Heard) {
    HEARD.set(Some(what));
}

/// Takes what was heard on this thread since the last time.
pub fn heard() -> Option<Heard> {
    HEARD.take()
}

impl Facts {
    /// What a session has agreed on, once its handshake is complete.
    pub fn of(session: &CommonState, heard: Heard) -> Facts {
        Facts {
            version: session.protocol_version().map_or("", version),
            cipher: session.negotiated_cipher_suite().map_or("", |s| cipher(s.suite())),
            group: session.negotiated_key_exchange_group().map_or("", |g| group(g.name())),
            name: heard.name,
            alpn: session.alpn_protocol().map(Box::from),
            resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            peer: session.peer_certificates().unwrap_or_default().to_vec(),
            certificate: heard.certificate,
            told: None,
            trust: None,
        }
    }
}

fn version(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "",
    }
}

fn group(name: rustls::NamedGroup) -> &'static str {
    name.as_str().unwrap_or_default()
}

/// The names of all ciphers that there can be in [`Facts::cipher`].
pub const CIPHERS: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

// All that rustls over AWS-LC speaks.
fn cipher(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => other.as_str().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_taken_once() {
        hear(Heard { name: Some("a".into()), certificate: None });
        assert_eq!(heard().unwrap().name.as_deref(), Some("a"));
        assert!(heard().is_none());
    }

    #[test]
    fn every_cipher_has_the_name_that_operators_know() {
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let name = cipher(suite.suite());
            assert!(CIPHERS.contains(&name), "{name}");
        }
    }
}
