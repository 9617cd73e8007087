//! What a handshake failed of, as one value with a stable code, for counters and logs.
//!
//! The peer is told by an alert, which rustls writes; nothing of this is shown to it.

use rustls::{CertificateError, Error, PeerIncompatible};
use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident $code:literal,)*) => {
        /// Why a handshake failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them, in the order of their definition.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }
        }
    };
}

reasons! {
    /// What came is not TLS.
    NotTls "tls_not_tls",
    /// The peer sent something that TLS forbids.
    Malformed "tls_malformed",
    /// There is no version that both sides speak.
    Version "tls_version",
    /// There is no cipher suite, group or signature scheme that both sides have.
    NoSharedCipher "tls_no_shared_cipher",
    /// There is no protocol that both sides speak (ALPN).
    NoSharedProtocol "tls_no_shared_protocol",
    /// There is no certificate for what was asked.
    NoCertificate "tls_no_certificate",
    /// The client has shown no certificate.
    ClientCertRequired "tls_client_cert_required",
    /// The client's certificate, or the target's, is issued by nobody who is trusted.
    UnknownCa "tls_unknown_ca",
    /// The client's certificate has expired.
    ExpiredCert "tls_expired_client_cert",
    /// The client's certificate is revoked.
    RevokedCert "tls_revoked_client_cert",
    /// The client's certificate is not fit for this.
    BadCert "tls_bad_client_cert",
    /// The target's certificate is for another name.
    WrongName "tls_wrong_name",
    /// The peer broke the handshake off with an alert.
    Alert "tls_alert",
    /// The handshake took too long.
    Timeout "tls_timeout",
    /// The peer closed the connection in the middle of the handshake.
    Closed "tls_closed",
    /// Too many handshakes are in progress.
    Overloaded "tls_overloaded",
    /// Something of ours failed.
    Internal "tls_internal",
}

/// Why a handshake failed, and what rustls says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For counters.
    pub reason: Reason,
    /// For the log; never shown to the peer.
    pub detail: Box<str>,
}

impl Reason {
    /// The position in [`Reason::ALL`], for counters.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl Failure {
    /// One that needs no words.
    pub fn new(reason: Reason) -> Failure {
        Failure { reason, detail: Box::default() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.detail {
            "" => f.write_str(self.reason.code()),
            detail => write!(f, "{}: {detail}", self.reason.code()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { reason: reason(&error), detail: error.to_string().into_boxed_str() }
    }
}

fn reason(error: &Error) -> Reason {
    match error {
        Error::NoApplicationProtocol => Reason::NoSharedProtocol,
        Error::NoCertificatesPresented => Reason::ClientCertRequired,
        Error::AlertReceived(_) => Reason::Alert,
        Error::PeerIncompatible(why) => incompatible(why),
        Error::InvalidCertificate(why) => certificate(why),
        Error::InvalidCertRevocationList(_) => Reason::BadCert,
        // What the resolver leaves unanswered: rustls has no variant of its own for it.
        Error::General(text) if text.starts_with("no server certificate") => Reason::NoCertificate,
        Error::General(_)
        | Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::EncryptError
        | Error::InconsistentKeys(_)
        | Error::Other(_) => Reason::Internal,
        _ => Reason::Malformed,
    }
}

fn incompatible(why: &PeerIncompatible) -> Reason {
    match why {
        // No hello of TLS 1.2 or later lacks it.
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls13RequiredForQuic => Reason::Version,
        _ => Reason::NoSharedCipher,
    }
}

fn certificate(why: &CertificateError) -> Reason {
    match why {
        // A CA of the same name with another key signs what nobody who is trusted has.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownCa,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::ExpiredCert,
        CertificateError::Revoked => Reason::RevokedCert,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::WrongName
        }
        _ => Reason::BadCert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: Error, expected: Reason) {
        assert_eq!(Failure::from(error).reason, expected);
    }

    #[test]
    fn errors_have_the_reason_that_an_operator_looks_for() {
        use rustls::{AlertDescription, InvalidMessage, PeerMisbehaved};
        check(Error::NoCertificatesPresented, Reason::ClientCertRequired);
        check(CertificateError::UnknownIssuer.into(), Reason::UnknownCa);
        check(CertificateError::Expired.into(), Reason::ExpiredCert);
        check(CertificateError::Revoked.into(), Reason::RevokedCert);
        check(CertificateError::BadSignature.into(), Reason::UnknownCa);
        check(CertificateError::BadEncoding.into(), Reason::BadCert);
        check(CertificateError::NotValidForName.into(), Reason::WrongName);
        check(PeerIncompatible::NoCipherSuitesInCommon.into(), Reason::NoSharedCipher);
        check(PeerIncompatible::NoKxGroupsInCommon.into(), Reason::NoSharedCipher);
        check(PeerIncompatible::Tls12NotOffered.into(), Reason::Version);
        check(Error::NoApplicationProtocol, Reason::NoSharedProtocol);
        check(Error::AlertReceived(AlertDescription::UnknownCA), Reason::Alert);
        check(InvalidMessage::InvalidContentType.into(), Reason::Malformed);
        check(PeerMisbehaved::TooManyEmptyFragments.into(), Reason::Malformed);
        check(Error::General("no server certificate chain resolved".into()), Reason::NoCertificate);
        check(Error::General("x".into()), Reason::Internal);
    }

    #[test]
    fn codes_are_unique_and_indices_agree() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
    }
}
