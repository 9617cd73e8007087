//! TLS on a listener, as it is run: what rustls serves by, and the tickets that outlive a reload.

use crate::config::ListenerTls;
use crate::snapshot::{Listener, Snapshot};
use crate::tls::{Challenges, Clients, Facts, Terms, Tickets};
use rustls::ServerConfig;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

/// TLS on a listener.
#[derive(Debug)]
pub struct Secure {
    /// What rustls serves by.
    pub config: Arc<ServerConfig>,
    /// What was agreed to.
    pub terms: Arc<Terms>,
    /// What decides whether a session may be resumed ([`Terms::id`]).
    pub id: [u8; 32],
    /// The keys of tickets; `None` where no session is resumed.
    pub tickets: Option<Arc<Tickets>>,
    // The names of all certificates, wildcards as they are written.
    names: HashSet<Box<str>>,
}

/// Whether a request of this connection must go another way (hazard TLS-01): its host is served by a listener that trusts other
/// clients, or was not what the client has shown its certificate for. `host` is canonical.
pub fn is_misdirected(snapshot: &Snapshot, listener: &Listener, facts: &Facts, host: &str) -> bool {
    let Some(secure) = &listener.secure else { return false };
    if secure.terms.clients != Clients::Unasked {
        // An address is never asked for by name (RFC 6066 section 3).
        let asked_for = match &facts.name {
            Some(name) => **name == *host,
            None => is_address(host),
        };
        let shown = facts.certificate.as_ref().is_some_and(|c| c.covers(host));
        if !asked_for && !shown {
            return true;
        }
    }
    if secure.covers(host) {
        return false;
    }
    let others = snapshot.listeners.iter().filter_map(|l| l.secure.as_ref());
    others.filter(|o| o.terms.clients != secure.terms.clients).any(|o| o.covers(host))
}

/// Whether a connection is not one that its listener would take now: a reload may have asked for TLS, or for a certificate, since
/// it came. Rules that go by that must not be reached by who came before (hazard TLS-02).
pub fn is_barred(listener: &Listener, facts: Option<&Facts>) -> bool {
    let Some(secure) = &listener.secure else { return false };
    let required = matches!(secure.terms.clients, Clients::Required(_));
    facts.is_none_or(|facts| required && facts.trust.is_none())
}

/// Whether the certificate of a connection was verified by whom its listener does not go by any more, as after a CRL has been
/// replaced: it is served once more, and then has to come again.
pub fn is_outdated(listener: &Listener, facts: &Facts) -> bool {
    let Some(verified_by) = facts.trust else { return false };
    let clients = listener.secure.as_ref().map(|secure| &secure.terms.clients);
    clients.and_then(Clients::trust).is_none_or(|trust| trust.id != verified_by)
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
}

impl Secure {
    /// What control has prepared, made ready to serve. `now` is in seconds since 1970. `None` where nothing was prepared, or where there
    /// is no randomness: such a listener serves nobody.
    pub(super) fn new(
        listener: &str,
        tls: &ListenerTls,
        old: Option<&Snapshot>,
        challenges: &Arc<Challenges>,
        now: u64,
    ) -> Option<Arc<Secure>> {
        let terms = Arc::clone(tls.terms.as_ref()?);
        let id = terms.id(listener);
        let before = old.and_then(|old| {
            let secure = old.listeners.iter().filter_map(|l| l.secure.as_ref());
            secure.clone().find(|secure| secure.id == id)
        });
        if let Some(before) = before
            && *before.terms == *terms
        {
            return Some(Arc::clone(before));
        }
        // Hazard TLS-02: the same only for the same trust.
        let tickets = match before.and_then(|secure| secure.tickets.as_ref()) {
            _ if !terms.resumes() => None,
            Some(tickets) => Some(Arc::clone(tickets)),
            None => Some(Tickets::new(now).ok()?),
        };
        let alpn = tls.acme.as_ref().map(|_| Arc::clone(challenges));
        let config = Arc::new(terms.build(tickets.clone(), alpn).ok()?);
        let names = terms.certificates.iter().flat_map(|c| c.names.iter().cloned()).collect();
        Some(Arc::new(Secure { config, terms, id, tickets, names }))
    }

    /// Whether there is a certificate for this host.
    fn covers(&self, host: &str) -> bool {
        let by_star = |(own, parent): (&str, &str)| {
            !own.is_empty() && self.names.contains(format!("*.{parent}").as_str())
        };
        self.names.contains(host) || host.split_once('.').is_some_and(by_star)
    }
}
