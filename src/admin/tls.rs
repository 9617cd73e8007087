//! The metrics of TLS: handshakes of clients, and when certificates end.

use crate::admin::metrics::family;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};
use std::fmt;

/// What is counted of TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsStat {
    /// Complete handshakes by version, and whether a session was resumed.
    pub handshakes: Vec<(&'static str, bool, u64)>,
    /// Handshakes that failed, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Certificates in use: listener, file, and when it ends in seconds since 1970.
    pub certificates: Vec<(String, String, u64)>,
}

/// Writes the families.
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
