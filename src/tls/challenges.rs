//! Answers to the challenges of an ACME authority, while there are any: written by control, read by every worker.
//!
//! Shared live state: every snapshot of a process holds the same. A worker finds it empty nearly always and pays one load.

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Where an authority asks (RFC 8555 section 8.3).
const PREFIX: &[u8] = b"/.well-known/acme-challenge/";

/// What is answered.
#[derive(Debug, Default)]
pub struct Challenges {
    // Token to key authorization.
    answers: ArcSwap<HashMap<Vec<u8>, Vec<u8>>>,
    // Lower-case name to certificate.
    certificates: ArcSwap<HashMap<String, Arc<CertifiedKey>>>,
}

impl Challenges {
    /// The answer to a request for `path`, if it is a challenge that was offered here. Others are not ours to answer: a
    /// client behind this may obtain certificates, too.
    #[inline]
    pub fn answer(&self, path: &[u8]) -> Option<Vec<u8>> {
        let token = path.strip_prefix(PREFIX)?;
        self.answers.load().get(token).cloned()
    }

    /// The certificate for a handshake that offers only `acme-tls/1` (RFC 8737 section 3). `name` is lower-case.
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.load().get(name).map(Arc::clone)
    }

    /// Answers `token` from now on.
    pub fn offer_answer(&self, token: &str, answer: &str) {
        self.answers.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(token.into(), answer.into());
            all
        });
    }

    /// Answers `token` no more.
    pub fn withdraw_answer(&self, token: &str) {
        self.answers.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(token.as_bytes());
            all
        });
    }

    /// Shows `certificate` for `name` from now on.
    pub fn offer_certificate(&self, name: &str, certificate: &Arc<CertifiedKey>) {
        self.certificates.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(name.to_owned(), Arc::clone(certificate));
            all
        });
    }

    /// Shows no certificate for `name` any more.
    pub fn withdraw_certificate(&self, name: &str) {
        self.certificates.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.remove(name);
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_was_offered_and_nothing_else() {
        let challenges = Challenges::default();
        let ask = |path: &str| challenges.answer(path.as_bytes());
        assert_eq!(ask("/.well-known/acme-challenge/abc"), None);
        challenges.offer_answer("abc", "abc.thumb");
        challenges.offer_answer("def", "def.thumb");
        assert_eq!(ask("/.well-known/acme-challenge/abc"), Some(b"abc.thumb".to_vec()));
        for path in [
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/ab",
            "/.well-known/acme-challenge/abc/",
            "/.well-known/acme-challenge/abcd",
            "/.well-known/acme-challenge",
            "/x/.well-known/acme-challenge/abc",
            "abc",
        ] {
            assert_eq!(ask(path), None, "{path}");
        }
        challenges.withdraw_answer("abc");
        assert_eq!(ask("/.well-known/acme-challenge/abc"), None);
        assert_eq!(ask("/.well-known/acme-challenge/def"), Some(b"def.thumb".to_vec()));
    }
}
