//! `tls` of a group: how targets are spoken to, and whom they must prove to be.
//!
//! The files that it names are read by control, which also finds out whether they can work; here only their places are noted.
//! Called by `group`.

use crate::config::item::{Item, Table};
use crate::config::keys::TARGET_TLS;
use crate::config::problem::Wrong;
use crate::config::{Place, Target, TargetAddress, TargetProtocol};
use crate::tls::client::{ALPN_H2, ALPN_HTTP1, Dial};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `tls` of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetTls {
    /// Whether a target must prove who it is.
    pub verify: bool,
    /// Who may vouch for it, in PEM; left out, whom this system trusts.
    pub ca: Option<Material>,
    /// Whom it must prove to be, instead of the name or address that it is reached at.
    pub server_name: Option<String>,
    /// What is shown to a target that asks: a chain and its key, in PEM.
    pub client: Option<(Material, Material)>,
    /// Whether TLS 1.3 is the least; 1.2 otherwise.
    pub only_13: bool,
    /// What is offered in ALPN, by the group's protocol.
    pub alpn: &'static [u8],
    /// Where it stands in the file.
    pub place: Place,
    /// What control makes of it, once it has read the files.
    pub dial: Option<Arc<Dial>>,
}

impl TargetTls {
    /// The defaults.
    pub fn new(place: Place) -> TargetTls {
        TargetTls {
            verify: true,
            ca: None,
            server_name: None,
            client: None,
            only_13: false,
            alpn: ALPN_HTTP1,
            place,
            dial: None,
        }
    }

    /// The files that it names.
    pub fn materials(&self) -> impl Iterator<Item = &Material> {
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        self.ca.iter().chain(client)
    }
}

/// A file that another one names, which control reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// Relative to the working folder, or absolute.
    pub path: PathBuf,
    /// Where it is named.
    pub place: Place,
}

const KIND: &str =
    "true, false or a table of verify, ca, server_name, client_cert, client_key, min";

/// `tls = true | { ... }`
pub(super) fn target_tls(
    group: &Table<'_>,
    protocol: TargetProtocol,
    targets: &[Target],
) -> Option<TargetTls> {
    if protocol.is_h2() {
        one_client(group);
    }
    let Some(item) = group.item("tls") else {
        // HTTP/2 without the c is over TLS.
        let item = group.item("protocol").filter(|_| protocol == TargetProtocol::H2)?;
        return Some(of_protocol(TargetTls::new(item.place()), protocol));
    };
    let mut tls = of_protocol(TargetTls::new(item.place()), protocol);
    if item.is_table() {
        read(&item.table(TARGET_TLS)?, &mut tls);
    } else if !item.boolean_or(KIND)? {
        if protocol == TargetProtocol::H2 {
            item.problem("tls = false", "protocol = \"h2c\" for HTTP/2 without TLS", None);
        }
        return None;
    }
    if protocol == TargetProtocol::H2c {
        item.problem(
            "tls beside protocol = \"h2c\"",
            "protocol = \"h2\" for HTTP/2 over TLS",
            None,
        );
    }
    let nameless = |t: &&Target| matches!(t.address, TargetAddress::Unix(_));
    if tls.server_name.is_none() && targets.iter().any(|t| nameless(&t)) {
        let expected =
            "tls = { server_name = NAME }, since a Unix socket has no name in a certificate";
        item.problem("a target on a Unix socket without a name", expected, None);
    }
    Some(tls)
}

fn of_protocol(tls: TargetTls, protocol: TargetProtocol) -> TargetTls {
    let alpn = if protocol.is_h2() { ALPN_H2 } else { ALPN_HTTP1 };
    TargetTls { alpn, ..tls }
}

/// A connection that begins with one client's PROXY header cannot carry the streams of several.
fn one_client(group: &Table<'_>) {
    let Some(item) = group.item("proxy_protocol") else { return };
    if item.peek_text() != Some("off") {
        let expected =
            "protocol = \"http1\" with it, or none: a connection of HTTP/2 serves many clients";
        item.problem("proxy_protocol beside HTTP/2", expected, None);
    }
}

fn read(table: &Table<'_>, tls: &mut TargetTls) {
    tls.verify = table.item("verify").and_then(|item| item.boolean()).unwrap_or(true);
    tls.ca = table.item("ca").and_then(|item| material(&item));
    tls.server_name = table.item("server_name").and_then(|item| {
        item.parsed("a DNS name or an address, as it stands in the certificate", |text| {
            let fits = !text.is_empty() && text.len() <= 253 && !text.contains(['*', '/', ' ']);
            if fits { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    let words = [("1.2", false), ("1.3", true)];
    tls.only_13 = table.item("min").and_then(|item| item.choice(&words)).unwrap_or(false);
    let (cert, key) = (table.item("client_cert"), table.item("client_key"));
    tls.client = match (&cert, &key) {
        (Some(cert), Some(key)) => material(cert).zip(material(key)),
        (Some(lone), None) | (None, Some(lone)) => {
            lone.problem("one of client_cert and client_key", "both, or none", None);
            None
        }
        (None, None) => None,
    };
    if let (false, Some(ca)) = (tls.verify, table.item("ca")) {
        ca.problem("ca beside verify = false", "ca only where targets are verified", None);
    }
}

/// A file, relative to the folder of the one that names it.
pub(super) fn material(item: &Item<'_>) -> Option<Material> {
    let place = item.place();
    let path = item.parsed("the path of a file in PEM", |text| {
        if text.is_empty() || text.contains('\0') { Wrong::plain() } else { Ok(text.to_owned()) }
    })?;
    let folder = Path::new(&*place.file).parent().unwrap_or(Path::new(""));
    Some(Material { path: folder.join(path), place })
}
