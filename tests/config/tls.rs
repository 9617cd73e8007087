//! `tls` of listeners: what cannot be, said at its place; and what the files that it names turn out to be (hazards TLS-07, TLS-14).

use super::wrong::check;
use rcgen::{CertificateParams, KeyPair};
use ringgate::config::Problem;
use ringgate::control::check::{Checked, check as check_file};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn listener(tls: &str) -> String {
    format!("[[listener]]\nname = 'a'\nbind = '0.0.0.0:1'\nprotocol = 'https'\ntls = {{ {tls} }}")
}

const PAIR: &str = "certificates = [{ cert = 'a', key = 'b' }]";

#[test]
fn what_cannot_be_is_said_at_its_place() {
    for (tls, key, part) in [
        ("", "", "certificates = a list"),
        ("certificates = []", ".certificates", "an empty list"),
        ("certificates = [{ cert = 'a' }]", ".certificates[0].key", "found nothing"),
        ("certificates = [{ key = 'a' }]", ".certificates[0].cert", "found nothing"),
        (
            "certificates = [{ cert = 'a', key = 'b', ca = 'c' }]",
            ".certificates[0].ca",
            "one of cert, key, ocsp",
        ),
        (
            "certificates = [{ cert = '', key = 'b' }]",
            ".certificates[0].cert",
            "the path of a file in PEM",
        ),
        ("P, policy = 'old'", ".policy", "one of modern, compatible, strict-1.3"),
        ("P, min = '1.1'", ".min", "one of 1.2, 1.3"),
        ("P, alpn = ['h3']", ".alpn[0]", "\"h2\", \"http/1.1\""),
        ("P, alpn = ['h2', 'h2']", ".alpn[1]", "each protocol once"),
        ("P, client_crl = 'c'", ".client_crl", "client_ca beside it"),
        ("P, client_auth = 'required'", ".client_auth", "client_ca beside it"),
        ("P, client_auth = 'optional'", ".client_auth", "client_ca beside it"),
        (
            "P, client_auth = 'passthrough', client_ca = 'c'",
            ".client_ca",
            "only where clients are verified",
        ),
        ("P, client_auth = 'off'", ".client_auth", "one of required, optional, passthrough"),
    ] {
        let text = listener(&tls.replace("P", PAIR));
        check(&text, 5, &format!("listener.a.tls{key}"), part);
    }
}

#[test]
fn alpn_offers_nothing_that_is_turned_off() {
    let with = |alpn: &str| format!("{}\nhttp2 = false", listener(&format!("{PAIR}{alpn}")));
    check(&with(", alpn = 'h2'"), 5, "listener.a.tls.alpn", "\"h2\" beside http2 = false");
    super::good(&with(", alpn = 'http/1.1'"));
    super::good(&with(""));
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, octets: impl AsRef<[u8]>, mode: u32) {
        let path = self.0.path().join(name);
        std::fs::write(&path, octets).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn pair(&self, name: &str, from_now: i64, days: u64) -> KeyPair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let day = Duration::from_secs(86_400);
        let (then, offset) = (SystemTime::now(), day * from_now.unsigned_abs() as u32);
        let begin = if from_now < 0 { then - offset } else { then + offset };
        params.not_before = begin.into();
        params.not_after = (begin + day * days as u32).into();
        self.put(&format!("{name}.pem"), params.self_signed(&key).unwrap().pem(), 0o644);
        self.put(&format!("{name}.key"), key.serialize_pem(), 0o600);
        key
    }

    fn checked(&self, tls: &str) -> Checked {
        self.put("ringgate.toml", listener(tls), 0o644);
        check_file(&self.0.path().join("ringgate.toml"))
    }
}

#[track_caller]
fn says(problems: &[Problem], folder: &Folder, key: &str, part: &str) {
    let shown: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let [problem] = problems else { panic!("{shown:#?}") };
    let file = folder.0.path().join("ringgate.toml");
    assert_eq!(Path::new(&*problem.place.file), file);
    assert_eq!((problem.place.line, problem.key.as_str()), (5, key), "{shown:#?}");
    assert!(problem.to_string().contains(part), "{shown:#?} without {part}");
}

#[test]
fn files_are_read_and_judged_before_anything_is_served() {
    let folder = Folder::new();
    let checked = folder.checked("certificates = [{ cert = 'a.pem', key = 'a.key' }]");
    assert_eq!(checked.problems.0.len(), 2, "{}", checked.problems);
    folder.pair("a", -1, 100);
    folder.pair("b", -1, 100);
    let fine = folder.checked(
        "certificates = [{ cert = 'a.pem', key = 'a.key' }, { cert = 'b.pem', key = 'b.key' }]",
    );
    assert!(fine.problems.0.is_empty() && fine.warnings.is_empty() && fine.expired.is_empty());
    let terms = fine.config.listeners[0].tls.as_ref().unwrap().terms.as_ref().unwrap();
    assert_eq!(terms.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(terms.certificates.len(), 2);
    let cert = "listener.a.tls.certificates[0].cert";
    let key = "listener.a.tls.certificates[0].key";
    for (tls, at, part) in [
        (
            "certificates = [{ cert = 'a.pem', key = 'b.key' }]",
            key,
            "does not belong to the certificate",
        ),
        ("certificates = [{ cert = 'a.key', key = 'a.key' }]", cert, "no certificate"),
        ("certificates = [{ cert = 'a.pem', key = 'a.pem' }]", key, "no private key"),
        ("certificates = [{ cert = 'x/a.pem', key = 'a.key' }]", cert, "No such file"),
        ("certificates = [{ cert = '.', key = 'a.key' }]", cert, "not a file"),
        (
            "certificates = [{ cert = 'a.pem', key = 'a.key', ocsp = 'a.pem' }]",
            "listener.a.tls.certificates[0].ocsp",
            "no OCSP response",
        ),
        (
            "certificates = [{ cert = 'a.pem', key = 'a.key' }], client_ca = 'a.key'",
            "listener.a.tls.client_ca",
            "no certificate",
        ),
        (
            "certificates = [{ cert = 'a.pem', key = 'a.key' }], client_ca = 'a.pem', client_crl = 'b.pem'",
            "listener.a.tls.client_crl",
            "no CRL",
        ),
    ] {
        says(&folder.checked(tls).problems.0, &folder, at, part);
    }
}

#[test]
fn what_will_not_do_for_long_is_warned_of() {
    let folder = Folder::new();
    let cert = "listener.a.tls.certificates[0].cert";
    folder.pair("soon", -1, 10);
    folder.pair("later", 5, 100);
    folder.pair("gone", -10, 5);
    let pair =
        |name: &str| format!("certificates = [{{ cert = '{name}.pem', key = '{name}.key' }}]");
    says(&folder.checked(&pair("soon")).warnings, &folder, cert, "which expires in");
    says(&folder.checked(&pair("later")).warnings, &folder, cert, "not valid yet");
    let gone = folder.checked(&pair("gone"));
    says(&gone.expired, &folder, cert, "has expired 5 days ago");
    assert!(gone.problems.0.is_empty(), "no reason to stop serving the others");
    folder.pair("open", -1, 100);
    folder.put("open.key", std::fs::read(folder.0.path().join("open.key")).unwrap(), 0o644);
    let key = "listener.a.tls.certificates[0].key";
    says(&folder.checked(&pair("open")).warnings, &folder, key, "every user can read (mode 644)");
}
