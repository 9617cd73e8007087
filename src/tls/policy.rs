//! Named policies: which versions, cipher suites and groups are agreed to.
//!
//! rustls has nothing that would be unsafe to agree to: no CBC, no RSA key exchange, nothing before TLS 1.2, no renegotiation, no
//! compression (hazard TLS-13). The hybrid X25519MLKEM768 is always offered first.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};
use std::sync::{Arc, LazyLock};

/// A policy, by the name that it has in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// TLS 1.2 and 1.3, ECDHE over X25519, P-256 and P-384, with the hybrid.
    #[default]
    Modern,
    /// All that rustls speaks: also P-521 signatures and the hybrids over P-256.
    Compatible,
    /// TLS 1.3 alone.
    Strict13,
}

static MODERN: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: in_order(aws_lc_rs::DEFAULT_CIPHER_SUITES),
        ..aws_lc_rs::default_provider()
    })
});
static COMPATIBLE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: in_order(aws_lc_rs::ALL_CIPHER_SUITES),
        kx_groups: aws_lc_rs::ALL_KX_GROUPS.to_vec(),
        ..aws_lc_rs::default_provider()
    })
});

// AES-128 first: nobody can break it either, and it costs less than AES-256; both cost less than ChaCha20 where the
// processor knows AES.
fn in_order(suites: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
    let mut suites = suites.to_vec();
    suites.sort_by_key(|suite| {
        let name = suite.suite().as_str().unwrap_or_default();
        ["AES_128", "AES_256"].iter().position(|cipher| name.contains(cipher)).unwrap_or(2)
    });
    suites
}

static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The cryptography of everything that is not bound to a listener's policy.
pub fn provider() -> &'static Arc<CryptoProvider> {
    &MODERN
}

impl Policy {
    /// By the names in the file.
    pub const NAMES: [(&'static str, Policy); 3] = [
        ("modern", Policy::Modern),
        ("compatible", Policy::Compatible),
        ("strict-1.3", Policy::Strict13),
    ];

    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        Policy::NAMES.iter().find(|(_, p)| *p == self).map_or("", |(name, _)| name)
    }

    /// Its cipher suites, groups and signatures.
    pub fn provider(self) -> &'static Arc<CryptoProvider> {
        match self {
            Policy::Modern | Policy::Strict13 => &MODERN,
            Policy::Compatible => &COMPATIBLE,
        }
    }

    /// Its versions, at least TLS 1.3 with `only_13`.
    pub fn versions(self, only_13: bool) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Policy::Strict13 => &ONLY_13,
            _ if only_13 => &ONLY_13,
            _ => &BOTH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CipherSuite, NamedGroup};

    #[test]
    fn the_hybrid_comes_first_and_nothing_is_old() {
        for (name, policy) in Policy::NAMES {
            assert_eq!(policy.name(), name);
            let groups: Vec<_> = policy.provider().kx_groups.iter().map(|g| g.name()).collect();
            assert_eq!(groups[0], NamedGroup::X25519MLKEM768, "{name}");
            assert!(
                groups.contains(&NamedGroup::X25519) && groups.contains(&NamedGroup::secp256r1)
            );
            for suite in &policy.provider().cipher_suites {
                let suite = suite.suite().as_str().unwrap_or_default();
                assert!(suite.starts_with("TLS13_") || suite.starts_with("TLS_ECDHE_"), "{suite}");
                assert!(suite.contains("GCM") || suite.contains("POLY1305"), "{suite}");
            }
            let first = policy.provider().cipher_suites[0].suite();
            assert_eq!(first, CipherSuite::TLS13_AES_128_GCM_SHA256, "{name}");
        }
        assert_eq!(Policy::Strict13.versions(false).len(), 1);
        assert_eq!(Policy::Modern.versions(false).len(), 2);
        assert_eq!(Policy::Modern.versions(true), [&TLS13]);
    }
}
