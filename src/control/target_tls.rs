//! Reads the files that groups name for TLS to their targets, and finds out whether they can work.
//!
//! What is made of them lies in the configuration, so that everything that is compiled from it (a start, a reload, targets that
//! follow their names) uses the same octets. Called by `check`, before anything is compiled.

use crate::config::{Config, Group, Material, Problem, Target, TargetAddress, TargetTls};
use crate::control::fresh::Files;
use crate::tls::client::{Dial, Settings, Wrong};
use rustls::RootCertStore;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What must be mended.
    pub problems: Vec<Problem>,
    /// What probably should be.
    pub warnings: Vec<Problem>,
}

/// Prepares TLS to the targets of every group that asks for it, reading `files`.
pub fn prepare(config: &mut Config, files: &mut Files) -> Found {
    let mut found = Found::default();
    for group in &mut config.groups {
        let key = format!("group.{}.tls", group.name);
        let Some(tls) = &mut group.tls else { continue };
        if !tls.verify {
            let expected = "a ca, unless nobody can be between ringgate and the targets";
            found.warnings.push(problem(tls, &key, "verify = false", expected));
        }
        match dial(tls, &key, files, &mut found) {
            Ok(dial) => tls.dial = Some(Arc::new(dial)),
            Err(problem) => found.problems.push(problem),
        }
        found.problems.extend(nameless(group));
    }
    found
}

/// Whom this system trusts, read once.
///
/// # Errors
/// When it trusts nobody.
fn roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let native = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        let why = native.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
        return Err(format!("no authorities that this system trusts{why}"));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

fn dial(tls: &TargetTls, key: &str, files: &mut Files, found: &mut Found) -> Result<Dial, Problem> {
    let ca = tls.ca.as_ref().map(|ca| read(files, ca, &format!("{key}.ca"))).transpose()?;
    let client = match &tls.client {
        Some((cert, private)) => {
            let key = format!("{key}.client_key");
            if let Some(mode) = readable_by_all(&private.path) {
                let is = format!("{}, which every user can read (mode {mode:o})", shown(private));
                found.warnings.push(at(private, &key, &is, "mode 600 or 640"));
            }
            let cert = read(files, cert, &key.replace("client_key", "client_cert"))?;
            Some((cert, read(files, private, &key)?))
        }
        None => None,
    };
    let settings = Settings {
        verify: tls.verify,
        ca,
        client,
        server_name: tls.server_name.clone(),
        only_13: tls.only_13,
        alpn: tls.alpn,
    };
    Dial::new(settings, roots).map_err(|wrong| describe(tls, key, wrong))
}

fn describe(tls: &TargetTls, key: &str, wrong: Wrong) -> Problem {
    let client = tls.client.as_ref();
    let (material, part, what, expected) = match wrong {
        Wrong::NoRoots(what) => {
            let expected = "ca = FILE, or the package ca-certificates, or SSL_CERT_FILE";
            return problem(tls, key, &what, expected);
        }
        Wrong::ServerName(name) => {
            let name = format!("{name:?}");
            let expected = "a DNS name or an address, as it stands in the certificate";
            return problem(tls, &format!("{key}.server_name"), &name, expected);
        }
        Wrong::Ca(what) => (tls.ca.as_ref(), "ca", what, "certificates in PEM"),
        Wrong::Certificate(what) => {
            (client.map(|c| &c.0), "client_cert", what, "a chain in PEM, its own certificate first")
        }
        Wrong::Key(what) => {
            (client.map(|c| &c.1), "client_key", what, "the private key of client_cert in PEM")
        }
    };
    let key = format!("{key}.{part}");
    match material {
        Some(material) => at(material, &key, &format!("{}: {what}", shown(material)), expected),
        None => problem(tls, &key, &what, expected),
    }
}

/// Targets that are reached by what can be nobody's name in a certificate.
fn nameless(group: &Group) -> Option<Problem> {
    let tls = group.tls.as_ref()?;
    let dial = tls.dial.as_ref()?;
    let is_nameless = |t: &&Target| match &t.address {
        TargetAddress::Name(name, _) => dial.name_of(Some(name)).is_none(),
        TargetAddress::Ip(_) | TargetAddress::Unix(_) => false,
    };
    let target = group.targets.iter().find(is_nameless)?;
    Some(Problem {
        place: target.place.clone(),
        key: format!("group.{}.targets", group.name),
        found: "a name that stands in no certificate".to_owned(),
        expected: "tls = { server_name = NAME } in this group".to_owned(),
        hint: None,
    })
}

pub(super) fn read(
    files: &mut Files,
    material: &Material,
    key: &str,
) -> Result<Arc<[u8]>, Problem> {
    files.read(&material.path).map(Arc::from).map_err(|error| {
        let found = format!("{}: {error}", shown(material));
        at(material, key, &found, "a file that can be read")
    })
}

pub(super) fn readable_by_all(path: &Path) -> Option<u32> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    (mode & 0o004 != 0).then_some(mode)
}

pub(super) fn shown(material: &Material) -> String {
    material.path.display().to_string()
}

pub(super) fn at(material: &Material, key: &str, found: &str, expected: &str) -> Problem {
    Problem {
        place: material.place.clone(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        hint: None,
    }
}

fn problem(tls: &TargetTls, key: &str, found: &str, expected: &str) -> Problem {
    Problem {
        place: tls.place.clone(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        hint: None,
    }
}
