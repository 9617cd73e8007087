//! The metrics of TLS and HTTP/2: handshakes of clients, when certificates end, connections and their streams.

use crate::admin::metrics::family;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use std::fmt;

/// What is counted of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsStat {
    /// Complete handshakes by version, and whether a session was resumed.
    pub handshakes: Vec<(&'static str, bool, u64)>,
    /// Complete handshakes by cipher.
    pub ciphers: Vec<(&'static str, u64)>,
    /// Complete handshakes by the protocol that ALPN agreed on.
    pub protocols: Vec<(&'static str, u64)>,
    /// Handshakes that failed, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Certificates in use: listener, file, and when it ends in seconds since 1970.
    pub certificates: Vec<(String, String, u64)>,
}

/// HTTP/2 of clients, all workers together.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamStat {
    /// Connections open now.
    pub connections: u64,
    /// Streams that were begun.
    pub begun: u64,
    /// Streams open now.
    pub open: u64,
    /// Streams that the client called off before their answer began.
    pub cancelled: u64,
}

/// Writes the families of HTTP/2.
pub(super) fn streams(s: &StreamStat, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let one = |value: u64| [(Vec::new(), value)];
    let help = "Connections of clients that speak HTTP/2, open now.";
    family(encoder, Gauge, "http2_connections", help, one(s.connections))?;
    let help = "HTTP/2 streams that clients began.";
    family(encoder, Counter, "http2_streams", help, one(s.begun))?;
    let help = "HTTP/2 streams of clients, open now.";
    family(encoder, Gauge, "http2_open_streams", help, one(s.open))?;
    let help = "HTTP/2 streams that clients reset or left before their answer began.";
    family(encoder, Counter, "http2_cancelled_streams", help, one(s.cancelled))
}

/// Writes the families of TLS.
pub(super) fn families(s: &TlsStat, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let resumed = |resumed: bool| if resumed { "true" } else { "false" };
    family(
        encoder,
        Counter,
        "tls_handshakes",
        "TLS handshakes of clients that are complete.",
        s.handshakes.iter().map(|(version, again, value)| {
            (vec![("version", *version), ("resumed", resumed(*again))], *value)
        }),
    )?;
    family(
        encoder,
        Counter,
        "tls_ciphers",
        "TLS handshakes of clients that are complete, by cipher.",
        s.ciphers.iter().map(|(cipher, value)| (vec![("cipher", *cipher)], *value)),
    )?;
    family(
        encoder,
        Counter,
        "tls_protocols",
        "TLS handshakes of clients that are complete, by the protocol that ALPN agreed on.",
        s.protocols.iter().map(|(protocol, value)| (vec![("protocol", *protocol)], *value)),
    )?;
    family(
        encoder,
        Counter,
        "tls_handshake_failures",
        "TLS handshakes of clients that failed, by reason.",
        s.failures.iter().map(|(reason, value)| (vec![("reason", *reason)], *value)),
    )?;
    family(
        encoder,
        Gauge,
        "tls_certificate_expiry_timestamp_seconds",
        "When a listener's certificate ends, since 1970.",
        s.certificates.iter().map(|(listener, certificate, ends)| {
            let labels =
                vec![("listener", listener.as_str()), ("certificate", certificate.as_str())];
            (labels, *ends)
        }),
    )
}
