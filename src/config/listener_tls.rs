//! `tls` of a listener: which certificates it shows, what it agrees to, whom it asks for a certificate.
//!
//! The files are read by control, which also finds out whether they can work; here only their places are noted. Called by
//! `listener`.

use crate::config::acme;
use crate::config::item::{Item, Table};
use crate::config::keys::{CERTIFICATE, LISTENER_TLS};
use crate::config::problem::Wrong;
use crate::config::{ListenerAcme, Material, Place, Protocol, target_tls};
use crate::tls::{Policy, Terms};
use std::sync::Arc;

/// `tls` of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// Shown to clients; the first is the default.
    pub certificates: Vec<CertificateFiles>,
    /// Versions, suites, groups.
    pub policy: Policy,
    /// Whether TLS 1.2 is refused though the policy has it.
    pub only_13: bool,
    /// Protocols offered in ALPN, the most wanted first; `None` for all that the listener speaks.
    pub alpn: Option<Vec<String>>,
    /// Who issues clients' certificates, in PEM.
    pub client_ca: Option<Material>,
    /// What these have revoked, in PEM.
    pub client_crl: Option<Material>,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Names that certificates are obtained for.
    pub acme: Option<ListenerAcme>,
    /// Where it stands in the file.
    pub place: Place,
    /// What control makes of it, once it has read the files.
    pub terms: Option<Arc<Terms>>,
}

/// An entry of `certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain in PEM.
    pub cert: Material,
    /// Its key in PEM.
    pub key: Material,
    /// An OCSP response in DER.
    pub ocsp: Option<Material>,
}

/// `client_auth`: whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They must, and it is verified.
    Required,
    /// They may; what they show is verified.
    Optional,
    /// They may; targets get to see it, unverified.
    Passthrough,
}

const CERTIFICATES: &str = "a list of { cert = FILE, key = FILE }";
/// Certificates of one listener.
const MOST: usize = 10_000;

impl ListenerTls {
    /// The files that it names.
    pub fn materials(&self) -> impl Iterator<Item = &Material> {
        let pairs =
            self.certificates.iter().flat_map(|c| [Some(&c.cert), Some(&c.key), c.ocsp.as_ref()]);
        pairs.chain([self.client_ca.as_ref(), self.client_crl.as_ref()]).flatten()
    }
}

/// `tls = { ... }`, which a listener of this protocol must have or must not.
pub(super) fn listener_tls(listener: &Table<'_>, protocol: Protocol) -> Option<ListenerTls> {
    let secure = protocol == Protocol::Https;
    let item = match listener.item("tls") {
        Some(item) => item,
        None if secure => {
            let key = format!("{}.tls", listener.path);
            listener.problem(
                key,
                "nothing",
                "tls = { certificates = [...] } with protocol = \"https\"",
            );
            return None;
        }
        None => return None,
    };
    let table = item.table(LISTENER_TLS)?;
    if !secure {
        let expected = "tls only with protocol = \"https\"";
        let hint = (protocol == Protocol::Tls)
            .then(|| "protocol = \"tls\" relays TLS as it is; the targets end it".to_owned());
        item.problem(format!("tls with protocol = \"{}\"", protocol.name()), expected, hint);
        return None;
    }
    let mut tls = ListenerTls {
        certificates: certificates(&table),
        policy: table.item("policy").and_then(|i| i.choice(&Policy::NAMES)).unwrap_or_default(),
        only_13: false,
        alpn: table.item("alpn").and_then(|item| alpn(&item)),
        client_ca: table.item("client_ca").and_then(|item| target_tls::material(&item)),
        client_crl: table.item("client_crl").and_then(|item| target_tls::material(&item)),
        client_auth: ClientAuth::Off,
        acme: table.item("acme").and_then(|item| acme::listener(&item)),
        place: item.place(),
        terms: None,
    };
    let words = [("1.2", false), ("1.3", true)];
    tls.only_13 = table.item("min").and_then(|item| item.choice(&words)).unwrap_or(false);
    tls.client_auth = client_auth(&table);
    if table.item("certificates").is_none() && table.item("acme").is_none() {
        item.problem("no certificate", format!("certificates = {CERTIFICATES}, or acme"), None);
    }
    Some(tls)
}

fn certificates(table: &Table<'_>) -> Vec<CertificateFiles> {
    let Some(item) = table.item("certificates") else { return Vec::new() };
    let items = item.one_or_more(CERTIFICATES);
    if let Some(item) = items.get(MOST) {
        item.problem(format!("one more than {MOST}"), format!("at most {MOST}"), None);
    }
    let files = |item: &Item<'_>| {
        let table = item.table(CERTIFICATE)?;
        let cert = table.need("cert", "the path of a chain in PEM");
        let key = table.need("key", "the path of its key in PEM");
        let ocsp = table.item("ocsp").and_then(|item| target_tls::material(&item));
        let (cert, key) = (target_tls::material(&cert?), target_tls::material(&key?));
        Some(CertificateFiles { cert: cert?, key: key?, ocsp })
    };
    items.iter().take(MOST).filter_map(files).collect()
}

fn alpn(item: &Item<'_>) -> Option<Vec<String>> {
    const KIND: &str = "\"h2\", \"http/1.1\" or a list of them, the most wanted first";
    let mut protocols: Vec<String> = Vec::new();
    for item in item.one_or_more(KIND) {
        let protocol = item.parsed(KIND, |text| match text {
            "h2" | "http/1.1" => Ok(text.to_owned()),
            _ => Wrong::plain(),
        })?;
        match protocols.contains(&protocol) {
            true => item.problem(format!("{protocol:?} again"), "each protocol once", None),
            false => protocols.push(protocol),
        }
    }
    Some(protocols)
}

fn client_auth(table: &Table<'_>) -> ClientAuth {
    let words = [
        ("required", ClientAuth::Required),
        ("optional", ClientAuth::Optional),
        ("passthrough", ClientAuth::Passthrough),
    ];
    let item = table.item("client_auth");
    let chosen = item.as_ref().and_then(|item| item.choice(&words));
    let (ca, crl) = (table.item("client_ca"), table.item("client_crl"));
    if let (Some(crl), None) = (&crl, &ca) {
        crl.problem("client_crl without client_ca", "client_ca beside it", None);
    }
    match (chosen, item, ca) {
        (Some(ClientAuth::Passthrough), _, Some(ca)) => {
            let expected = "client_ca only where clients are verified";
            ca.problem("client_ca with client_auth = \"passthrough\"", expected, None);
        }
        (Some(ClientAuth::Required | ClientAuth::Optional), Some(item), None) => {
            item.wrong("\"passthrough\", or client_ca beside it");
        }
        (None, None, Some(_)) => return ClientAuth::Required,
        _ => {}
    }
    chosen.unwrap_or_default()
}
