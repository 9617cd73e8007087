//! A certificate for the listeners that speak TLS.

use std::path::PathBuf;

/// A self-signed certificate in files of its own, which are gone when this is.
pub struct Certificate {
    _dir: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Certificate {
    pub fn make(name: &str) -> Certificate {
        let made =
            rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a folder");
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).expect("a file");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
        Certificate { _dir: dir, cert, key }
    }

    /// The lines that make a listener one of https.
    pub fn listener(&self) -> String {
        format!(
            "protocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
            self.cert.display(),
            self.key.display()
        )
    }
}
