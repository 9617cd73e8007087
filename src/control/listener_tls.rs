//! Reads the files that listeners name for TLS, and finds out whether clients can be served by them.
//!
//! What is made of them lies in the configuration, as with `target_tls`. A certificate that is still to be obtained by ACME
//! has a placeholder. That one has expired is said apart: it is a mistake in a file that is checked, and no reason to stop serving
//! by one that runs. Called by `check`, before anything is compiled.

use crate::config::{
    CertificateFiles, ClientAuth, Config, ListenerAcme, ListenerTls, Material, Problem,
};
use crate::control::acme::placeholder;
use crate::control::acme::store::Store;
use crate::control::fresh::Files;
use crate::control::source::unix_now;
use crate::control::target_tls::{at, read, readable_by_all, shown};
use crate::snapshot::Snapshot;
use crate::tls::certificate::{self, Part, Unfit};
use crate::tls::{Certificate, Clients, Terms, Trust};
use std::sync::Arc;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What must be mended.
    pub problems: Vec<Problem>,
    /// Certificates that have expired.
    pub expired: Vec<Problem>,
    /// What probably should be mended.
    pub warnings: Vec<Problem>,
}

/// A certificate that ends within this many seconds is warned of.
const SOON: i64 = 14 * 86_400;

/// Prepares TLS on every listener that has it, reading `files`.
pub fn prepare(config: &mut Config, files: &mut Files) -> Found {
    let mut reader = Reader { files, found: Found::default(), now: unix_now() as i64 };
    let store = config.acme.as_ref().map(Store::new);
    for listener in &mut config.listeners {
        let (key, http2) = (format!("listener.{}.tls", listener.name), listener.http2);
        if let Some(tls) = &mut listener.tls {
            tls.terms = reader.terms(tls, &key, http2, store.as_ref()).map(Arc::new);
        }
    }
    reader.found
}

/// Why a configuration must not follow the one that runs: it has an expired certificate in place of one that has not
/// (hazard TLS-07).
pub fn would_expire(config: &Config, running: &Snapshot) -> Option<String> {
    let now = unix_now() as i64;
    let served = running.listeners.iter().filter_map(|l| l.secure.as_ref());
    let served: Vec<_> = served.flat_map(|s| &s.terms.certificates).collect();
    let terms = config.listeners.iter().filter_map(|l| l.tls.as_ref()?.terms.as_ref());
    let mut expired = terms.flat_map(|t| &t.certificates).filter(|c| c.is_expired(now));
    let found =
        expired.find(|new| served.iter().any(|c| c.label == new.label && !c.is_expired(now)));
    found.map(|c| format!("{}: it has expired, and the one that is in use has not", c.label))
}

struct Reader<'a> {
    files: &'a mut Files,
    found: Found,
    now: i64,
}

impl Reader<'_> {
    // All that is wrong is noted; `None` if anything is.
    fn terms(
        &mut self,
        tls: &ListenerTls,
        key: &str,
        http2: bool,
        store: Option<&Store>,
    ) -> Option<Terms> {
        let before = self.found.problems.len();
        let mut certificates: Vec<Arc<Certificate>> = Vec::new();
        for (i, files) in tls.certificates.iter().enumerate() {
            let read = self.certificate(files, &format!("{key}.certificates[{i}]"));
            certificates.extend(read.map(Arc::new));
        }
        for (acme, store) in tls.acme.iter().zip(store) {
            let of = |name: &String| self.obtained(store, acme, name, &format!("{key}.acme"));
            certificates.extend(acme.names.iter().filter_map(of).map(Arc::new));
        }
        let clients = self.clients(tls, key);
        if self.found.problems.len() > before {
            return None;
        }
        let offered: &[&str] = if http2 { &["h2", "http/1.1"] } else { &["http/1.1"] };
        let offered = || offered.iter().map(|p| p.as_bytes().to_vec()).collect();
        let named = |all: &Vec<String>| all.iter().map(|p| p.clone().into_bytes()).collect();
        let terms = Terms {
            policy: tls.policy,
            only_13: tls.only_13,
            certificates,
            alpn: tls.alpn.as_ref().map_or_else(offered, named),
            clients: clients?,
        };
        if let Err(error) = terms.build(None, None) {
            self.found.problems.push(Problem {
                place: tls.place.clone(),
                key: key.to_owned(),
                found: format!("what rustls cannot serve by ({error})"),
                expected: "a policy and certificates that fit together".to_owned(),
                hint: None,
            });
            return None;
        }
        Some(terms)
    }

    fn certificate(&mut self, files: &CertificateFiles, key: &str) -> Option<Certificate> {
        let (of_cert, of_key) = (format!("{key}.cert"), format!("{key}.key"));
        let chain = self.read(&files.cert, &of_cert);
        let private = self.read(&files.key, &of_key);
        let staple = files.ocsp.as_ref().map(|ocsp| self.read(ocsp, &format!("{key}.ocsp")));
        if let Some(mode) = readable_by_all(&files.key.path) {
            let is = format!("{}, which every user can read (mode {mode:o})", shown(&files.key));
            self.found.warnings.push(at(&files.key, &of_key, &is, "mode 600 or 640"));
        }
        let (chain, private) = (chain?, private?);
        let staple = match staple {
            Some(read) => Some(read?),
            None => None,
        };
        let octets = certificate::Files { chain: &chain, key: &private, staple: staple.as_deref() };
        let label = files.cert.path.display().to_string();
        match Certificate::read(&label, octets) {
            Ok(mut read) => {
                self.note_validity(&read, &files.cert, &of_cert);
                if let Some(ocsp) = &files.ocsp {
                    self.drop_unfit_staple(&mut read, ocsp, &format!("{key}.ocsp"));
                }
                Some(read)
            }
            Err(unfit) => {
                let (material, key) = match (unfit.part, &files.ocsp) {
                    (Part::Chain, _) => (&files.cert, of_cert),
                    (Part::Staple, Some(ocsp)) => (ocsp, format!("{key}.ocsp")),
                    _ => (&files.key, of_key),
                };
                self.refuse(material, &key, &unfit);
                None
            }
        }
    }

    fn note_validity(&mut self, read: &Certificate, material: &Material, key: &str) {
        let day = |seconds: i64| seconds / 86_400;
        let found = |what: String| format!("{}, {what}", shown(material));
        if read.is_expired(self.now) {
            let found =
                found(format!("which has expired {} days ago", day(self.now - read.not_after)));
            self.found.expired.push(at(material, key, &found, "a certificate that is valid"));
        } else if read.not_before > self.now {
            let found = found("which is not valid yet".to_owned());
            self.found.warnings.push(at(material, key, &found, "a certificate that is valid"));
        } else if read.not_after - self.now < SOON {
            let found = found(format!("which expires in {} days", day(read.not_after - self.now)));
            self.found.warnings.push(at(material, key, &found, "one that is renewed in time"));
        }
    }

    // An old staple is worse than none: clients that see it break the connection off.
    fn drop_unfit_staple(&mut self, read: &mut Certificate, ocsp: &Material, key: &str) {
        let Some(Err(unfit)) = read.check_staple(self.now) else { return };
        let found = format!("{}: {unfit}; nothing is stapled", shown(ocsp));
        self.found.warnings.push(at(ocsp, key, &found, "a response that is valid"));
        read.without_staple();
    }

    // What ACME has obtained; until then, what nobody is to trust.
    fn obtained(
        &mut self,
        store: &Store,
        acme: &ListenerAcme,
        name: &str,
        key: &str,
    ) -> Option<Certificate> {
        let path = store.certificate_path(name);
        let label = path.display().to_string();
        let parse = |pem: &[u8]| {
            let files = certificate::Files { chain: pem, key: pem, staple: None };
            Certificate::read(&label, files).map_err(|unfit| unfit.found)
        };
        let kept = self.files.read(&path).map_err(|error| error.to_string());
        let found = match kept.and_then(|pem| parse(&pem)) {
            Ok(kept) if kept.covers(name) => return Some(kept),
            Ok(_) => "a certificate for another name".to_owned(),
            Err(error) => error,
        };
        self.found.warnings.push(Problem {
            place: acme.place.clone(),
            key: key.to_owned(),
            found: format!("{label}: {found}"),
            expected: format!("a certificate for {name}, which is to be obtained by ACME"),
            hint: Some("until then a self-signed one is shown, which clients refuse".to_owned()),
        });
        parse(&placeholder::self_signed(name).ok()?).ok()
    }

    fn clients(&mut self, tls: &ListenerTls, key: &str) -> Option<Clients> {
        let ca = match (tls.client_auth, &tls.client_ca) {
            (ClientAuth::Off, _) => return Some(Clients::Unasked),
            (ClientAuth::Passthrough, _) => return Some(Clients::Passthrough),
            (_, ca) => ca.as_ref()?,
        };
        let (of_ca, of_crl) = (format!("{key}.client_ca"), format!("{key}.client_crl"));
        let cas = self.read(ca, &of_ca);
        let crls = match &tls.client_crl {
            Some(crl) => Some(self.read(crl, &of_crl)?),
            None => None,
        };
        let trust = match Trust::read(&cas?, crls.as_deref()) {
            Ok(trust) => trust,
            Err(unfit) => {
                let crl = tls.client_crl.as_ref().filter(|_| unfit.part == Part::Staple);
                self.refuse(
                    crl.unwrap_or(ca),
                    if crl.is_some() { &of_crl } else { &of_ca },
                    &unfit,
                );
                return None;
            }
        };
        if let (Some(crl), Some(until)) = (&tls.client_crl, trust.next_update)
            && until < self.now
        {
            let found = format!("{}, which has expired: it lets no client in", shown(crl));
            self.found.warnings.push(at(crl, &of_crl, &found, "a CRL that is valid"));
        }
        Some(match tls.client_auth {
            ClientAuth::Optional => Clients::Optional(trust),
            _ => Clients::Required(trust),
        })
    }

    fn read(&mut self, material: &Material, key: &str) -> Option<Arc<[u8]>> {
        read(self.files, material, key).map_err(|problem| self.found.problems.push(problem)).ok()
    }

    fn refuse(&mut self, material: &Material, key: &str, unfit: &Unfit) {
        let found = format!("{}: {}", shown(material), unfit.found);
        self.found.problems.push(at(material, key, &found, unfit.expected));
    }
}
