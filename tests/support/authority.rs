//! Certificates for tests: an authority of a test's own, what it issues, and files of both in a folder that goes with it.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SignatureAlgorithm, date_time_ymd,
};
use std::path::{Path, PathBuf};

/// An authority; its files go with it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
    /// Its certificate, in PEM.
    pub file: PathBuf,
}

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Issued {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// From when until when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Now,
    Past,
    Future,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        valid(&mut params, When::Now);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        // Servers that do not serve as root read these, too.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Authority { issuer, dir, file }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A certificate for DNS names and addresses; the first is also its common name.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_when(names, When::Now)
    }

    pub fn issue_when(&self, names: &[&str], when: When) -> Issued {
        let params = for_names(names, when);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&certificate.pem(), &key)
    }

    /// A certificate for a server, with a key of this kind, valid from 2024 until the year `until`.
    pub fn issue_for(
        &self,
        names: &[&str],
        kind: &'static SignatureAlgorithm,
        until: i32,
    ) -> Issued {
        let mut params = for_names(names, When::Now);
        params.not_after = date_time_ymd(until, 1, 1);
        self.sign(params, &KeyPair::generate_for(kind).unwrap())
    }

    /// A certificate for a client, with a common name and a serial number.
    pub fn client(&self, name: &str, serial: u64, when: When) -> Issued {
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial.into());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params, when);
        self.sign(params, &KeyPair::generate().unwrap())
    }

    /// A CRL with these serial numbers.
    pub fn crl(&self, serials: &[u64]) -> PathBuf {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2044, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir().join(format!("{}.crl", serials.len()));
        std::fs::write(&path, params.signed_by(&self.issuer).unwrap().pem().unwrap()).unwrap();
        path
    }

    fn sign(&self, params: CertificateParams, key: &KeyPair) -> Issued {
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        self.write(&certificate.pem(), key)
    }

    /// A certificate that is signed by itself, kept in this authority's folder.
    pub fn self_signed(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = for_names(names, When::Now).self_signed(&key).unwrap();
        self.write(&certificate.pem(), &key)
    }

    fn write(&self, certificate: &str, key: &KeyPair) -> Issued {
        let number = std::fs::read_dir(self.dir()).unwrap().count();
        let file = |name: &str| self.dir().join(format!("{number}-{name}.pem"));
        let issued = Issued { cert: file("cert"), key: file("key") };
        std::fs::write(&issued.cert, certificate).unwrap();
        std::fs::write(&issued.key, key.serialize_pem()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        std::fs::set_permissions(&issued.key, private).unwrap();
        issued
    }
}

fn for_names(names: &[&str], when: When) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let name = |name: &&str| match name.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName((*name).try_into().unwrap()),
    };
    params.subject_alt_names = names.iter().map(name).collect();
    params.distinguished_name.push(DnType::CommonName, names[0]);
    valid(&mut params, when);
    params
}

fn valid(params: &mut CertificateParams, when: When) {
    let (from, to) = match when {
        When::Past => (2020, 2021),
        When::Now => (2024, 2044),
        When::Future => (2043, 2044),
    };
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
}
