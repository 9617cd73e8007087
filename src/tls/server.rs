//! What a listener agrees to, made into what rustls needs to serve it.

use crate::tls::choose::{ACME, Chooser};
use crate::tls::trust::Unjudged;
use crate::tls::{Certificate, Challenges, Policy, Tickets, Trust, sha256};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{Error, ServerConfig};
use std::sync::Arc;

/// What a listener agrees to.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// Versions, suites, groups.
    pub policy: Policy,
    /// Whether TLS 1.2 is refused though the policy has it.
    pub only_13: bool,
    /// Shown to clients; the first is the default.
    pub certificates: Vec<Arc<Certificate>>,
    /// Protocols, the most wanted first.
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients show certificates, too.
    pub clients: Clients,
}

/// Whether clients show certificates.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Clients {
    /// They are not asked.
    #[default]
    Unasked,
    /// They must show one that this trust accepts.
    Required(Trust),
    /// They may; what they show must be accepted.
    Optional(Trust),
    /// They may; nothing is judged, the target gets to see it.
    Passthrough,
}

impl Clients {
    /// Who verifies them, if anybody does.
    pub fn trust(&self) -> Option<&Trust> {
        match self {
            Clients::Required(trust) | Clients::Optional(trust) => Some(trust),
            Clients::Unasked | Clients::Passthrough => None,
        }
    }
}

impl Terms {
    /// A hash of all that decides whether a session may be resumed. `listener` is a name.
    pub fn id(&self, listener: &str) -> [u8; 32] {
        let (kind, trust): (u8, &[u8]) = match &self.clients {
            Clients::Unasked => (0, &[]),
            Clients::Required(trust) => (1, &trust.id),
            Clients::Optional(trust) => (2, &trust.id),
            Clients::Passthrough => (3, &[]),
        };
        let flags = [kind, u8::from(self.only_13)];
        let policy = self.policy.name().as_bytes();
        sha256(&[&sha256(listener.as_bytes()), &flags[..], trust, policy].concat())
    }

    /// Whether sessions may be resumed at all: not where clients have to prove who they are each time.
    pub fn resumes(&self) -> bool {
        self.clients == Clients::Unasked
    }

    /// What rustls serves by. Without `tickets` no session is resumed; with `challenges` those of ACME are answered. 0-RTT is never agreed to (hazard TLS-06).
    ///
    /// # Errors
    /// Those of rustls, which checked terms do not cause.
    pub fn build(
        &self,
        tickets: Option<Arc<Tickets>>,
        challenges: Option<Arc<Challenges>>,
    ) -> Result<ServerConfig, Error> {
        let verifier = match &self.clients {
            Clients::Unasked => WebPkiClientVerifier::no_client_auth(),
            Clients::Required(trust) => trust.verifier(true)?,
            Clients::Optional(trust) => trust.verifier(false)?,
            Clients::Passthrough => Arc::new(Unjudged),
        };
        let answers = challenges.is_some();
        let chooser = Arc::new(Chooser::new(self.certificates.clone(), challenges));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(self.policy.provider()))
            .with_protocol_versions(self.policy.versions(self.only_13))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(chooser);
        config.alpn_protocols.clone_from(&self.alpn);
        if answers {
            // Last: who can speak anything else does.
            config.alpn_protocols.push(ACME.to_vec());
        }
        // The policy's, whatever the client prefers.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        match tickets.filter(|_| self.resumes()) {
            Some(tickets) => config.ticketer = tickets,
            None => config.send_tls13_tickets = 0,
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn trust() -> Trust {
        let params = CertificateParams::new(vec![]).unwrap();
        let pem = params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        Trust::read(pem.as_bytes(), None).unwrap()
    }

    // Hazard TLS-02.
    #[test]
    fn whatever_decides_about_trust_changes_the_id() {
        let plain = Terms {
            policy: Policy::Modern,
            only_13: false,
            certificates: Vec::new(),
            alpn: Vec::new(),
            clients: Clients::Unasked,
        };
        let (one, other) = (trust(), trust());
        let all = [
            plain.clone(),
            Terms { policy: Policy::Compatible, ..plain.clone() },
            Terms { only_13: true, ..plain.clone() },
            Terms { clients: Clients::Passthrough, ..plain.clone() },
            Terms { clients: Clients::Required(one.clone()), ..plain.clone() },
            Terms { clients: Clients::Optional(one), ..plain.clone() },
            Terms { clients: Clients::Required(other), ..plain.clone() },
        ];
        let mut ids: Vec<_> = all.iter().map(|terms| terms.id("web")).collect();
        ids.push(plain.id("web2"));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len() + 1);
        let same = Terms { alpn: vec![b"h2".to_vec()], ..plain.clone() };
        assert_eq!(same.id("web"), plain.id("web"));
        assert_eq!(all.iter().filter(|terms| terms.resumes()).count(), 3);
    }
}
