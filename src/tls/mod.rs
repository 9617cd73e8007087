//! TLS, as far as it can be decided without a socket: certificates, who gets which, what is agreed to, who is trusted, how
//! sessions are resumed; what a handshake agreed on, and what it failed of.
//!
//! The handshake itself and the records are rustls'; driving it over a socket is `net::tls`. Files are read by control, and
//! come here as octets.

pub mod certificate;
pub mod challenges;
pub mod choose;
pub mod client;
pub mod client_cert;
pub mod facts;
pub mod failure;
pub mod policy;
pub mod server;
pub mod staple;
pub mod tickets;
pub mod trust;

pub use certificate::Certificate;
pub use challenges::Challenges;
pub use facts::Facts;
pub use failure::{Failure, Reason};
pub use policy::{Policy, provider};
pub use server::{Clients, Terms};
pub use tickets::Tickets;
pub use trust::Trust;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

/// SHA-256, by AWS-LC.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    if let Some(suite) = TLS13_AES_128_GCM_SHA256.tls13() {
        digest.copy_from_slice(suite.common.hash_provider.hash(octets).as_ref());
    }
    digest
}

#[cfg(test)]
mod tests {
    #[test]
    fn hashes_as_everybody_does() {
        let digest = super::sha256(b"abc");
        assert_eq!((digest[0], digest[1], digest[31]), (0xba, 0x78, 0xad));
    }
}
