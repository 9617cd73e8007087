//! The metrics of content codings.
//!
//! Whole numbers over all workers. Called by `metrics`.

use crate::admin::metrics::{Labels, family};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use std::fmt;

/// What was coded since the start.
#[derive(Clone, Debug, Default)]
pub struct CodingStat {
    /// Responses that got each coding, by its name.
    pub encoded: Vec<(&'static str, u64)>,
    /// Responses that codings were taken off.
    pub decoded: u64,
    /// Responses that were left as they are for lack of a place.
    pub declined: u64,
    /// Octets that went into encoders.
    pub octets_in: u64,
    /// Octets that came out of them.
    pub octets_out: u64,
}

/// Writes the families; nothing where nothing was ever coded.
pub(super) fn families(s: &CodingStat, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::Counter;
    if s.declined + s.decoded + s.encoded.iter().map(|(_, count)| count).sum::<u64>() == 0 {
        return Ok(());
    }
    let one = |value: u64| [(Labels::new(), value)];
    let help = "Responses that were compressed, by coding.";
    let each = s.encoded.iter().map(|(coding, count)| (vec![("coding", *coding)], *count));
    family(encoder, Counter, "compressed_responses", help, each)?;
    let help = "Responses that were decompressed.";
    family(encoder, Counter, "decompressed_responses", help, one(s.decoded))?;
    let help = "Responses that were left as they are: all coders busy, or no memory left.";
    family(encoder, Counter, "compression_declined", help, one(s.declined))?;
    let help = "Bytes of responses before they were compressed.";
    family(encoder, Counter, "compression_in_bytes", help, one(s.octets_in))?;
    let help = "Bytes of responses after they were compressed.";
    family(encoder, Counter, "compression_out_bytes", help, one(s.octets_out))
}
