//! The storage on disk: the account, each certificate with its key in one file, and what was ordered lately.
//!
//! One flat folder, so that it can be closed to everything but these files. A file is readable by its owner alone and
//! replaced as a whole: what is read is never half-written. Called by `acme`, and by what loads certificates.

use crate::config::Acme;
use crate::control::acme::schedule::Ledger;
use instant_acme::AccountCredentials;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The files of one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    folder: PathBuf,
    // The directory's URL as it stands in names of files: what one authority gave is not another's.
    tag: String,
}

/// The account and whom it names.
#[derive(Serialize, Deserialize)]
pub struct StoredAccount {
    /// As the authority was told.
    pub contact: Vec<String>,
    /// The key and the account's URL.
    pub credentials: AccountCredentials,
}

/// How long a certificate is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From here,
    pub not_before: u64,
    /// to here.
    pub not_after: u64,
}

/// No file here is larger.
const LARGEST: u64 = 1 << 20;

impl Store {
    /// The files of `acme`'s directory.
    pub fn new(acme: &Acme) -> Store {
        let url = acme.directory.trim_start_matches("https://");
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        Store { folder: acme.storage.clone(), tag: url.chars().map(plain).take(100).collect() }
    }

    /// Where the certificate and key of `name` are, whether they are there or not.
    pub fn certificate_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}@{}.pem", self.tag))
    }

    /// The chain and key of `name`; `None` when there are none, or they are not what they should be.
    pub fn certificate(&self, name: &str) -> Option<(Vec<u8>, Validity)> {
        let pem = read(&self.certificate_path(name)).ok()?;
        let validity = validity(&pem, name)?;
        Some((pem, validity))
    }

    /// Keeps a chain and key for `name`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_certificate(&self, name: &str, pem: &str) -> io::Result<()> {
        self.replace(&self.certificate_path(name), pem.as_bytes())
    }

    /// The account; `None` when there is none, or it cannot be read.
    pub fn account(&self) -> Option<StoredAccount> {
        serde_json::from_slice(&read(&self.path("account")).ok()?).ok()
    }

    /// Keeps the account.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_account(&self, account: &StoredAccount) -> io::Result<()> {
        self.replace(&self.path("account"), &serde_json::to_vec(account)?)
    }

    /// What was ordered lately.
    pub fn ledger(&self) -> Ledger {
        let text = read(&self.path("orders")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Keeps what was ordered.
    ///
    /// # Errors
    /// When it cannot be written: then a certificate could not be kept either.
    pub fn keep_ledger(&self, ledger: &Ledger) -> io::Result<()> {
        self.replace(&self.path("orders"), &serde_json::to_vec(ledger)?)
    }

    fn path(&self, what: &str) -> PathBuf {
        // No name of a certificate has an underscore.
        self.folder.join(format!("_{what}@{}.json", self.tag))
    }

    fn replace(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let mut open = File::options();
        let mut file = open.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        // That the name is on the disk, too; a file system that cannot promise it has done what it can.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// How long the first certificate in `pem` is valid, if it is for `name`.
pub fn validity(pem: &[u8], name: &str) -> Option<Validity> {
    let leaf = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let own = |n: &x509_parser::extensions::GeneralName<'_>| matches!(n, x509_parser::extensions::GeneralName::DNSName(n) if n.eq_ignore_ascii_case(name));
    if !names.value.general_names.iter().any(own) {
        return None;
    }
    let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
    let validity = leaf.validity();
    Some(Validity {
        not_before: seconds(validity.not_before.timestamp()),
        not_after: seconds(validity.not_after.timestamp()),
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::PermissionsExt;

    fn store(folder: &Path, directory: &str) -> Store {
        let text = format!(
            "[acme]\nterms_agreed = true\nstorage = '{}'\ndirectory = '{directory}'\n\
             [[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']",
            folder.display()
        );
        Store::new(&config::parse(&text, "a.toml", &|_| None).unwrap().acme.unwrap())
    }

    fn pem(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        key.serialize_pem() + &params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn keeps_a_certificate_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), "https://ca.test:14000/dir");
        assert!(store.certificate("a.test").is_none());
        for _ in 0..2 {
            let pem = pem("a.test");
            store.keep_certificate("a.test", &pem).unwrap();
            let (kept, validity) = store.certificate("a.test").unwrap();
            assert_eq!(kept, pem.as_bytes());
            assert!(validity.not_before < validity.not_after);
        }
        let files: Vec<_> = dir.path().read_dir().unwrap().map(|f| f.unwrap()).collect();
        assert_eq!(files.len(), 1, "nothing is left beside it: {files:?}");
        assert_eq!(files[0].file_name(), "a.test@ca.test_14000_dir.pem");
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_not_the_certificate_of_a_name_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path(), "https://ca.test/");
        for text in [pem("b.test"), String::new(), "-----BEGIN CERTIFICATE-----\n".to_owned()] {
            store.keep_certificate("a.test", &text).unwrap();
            assert!(store.certificate("a.test").is_none(), "{text}");
        }
        assert!(store.account().is_none());
    }

    #[test]
    fn authorities_do_not_share_files() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) =
            (store(dir.path(), "https://a.test/"), store(dir.path(), "https://b.test/"));
        one.keep_certificate("a.test", &pem("a.test")).unwrap();
        assert!(other.certificate("a.test").is_none());
        let mut ledger = Ledger::default();
        ledger.note("a.test", 5).unwrap();
        one.keep_ledger(&ledger).unwrap();
        assert_eq!((one.ledger(), other.ledger()), (ledger, Ledger::default()));
    }
}
