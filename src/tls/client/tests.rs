//! What settings are taken and refused, and whom a target is taken for: without a socket, by asking the verifier.

use super::*;
use rcgen::{CertificateParams, IsCa, KeyPair, SanType, date_time_ymd};
use std::time::Duration;

struct Issued {
    der: CertificateDer<'static>,
    pem: Arc<[u8]>,
    key: Arc<[u8]>,
}

/// A certificate for these names, signed by itself.
fn own(names: &[&str], is_ca: bool) -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().unwrap()),
        })
        .collect();
    if is_ca {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    }
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2034, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Issued {
        der: certificate.der().clone(),
        pem: certificate.pem().into_bytes().into(),
        key: key.serialize_pem().into_bytes().into(),
    }
}

fn settings() -> Settings {
    Settings {
        verify: true,
        ca: None,
        client: None,
        server_name: None,
        only_13: false,
        alpn: ALPN_HTTP1,
    }
}

fn no_roots() -> Result<Arc<RootCertStore>, String> {
    Err("none".to_owned())
}

fn dial(settings: Settings) -> Result<Dial, Wrong> {
    Dial::new(settings, no_roots)
}

#[test]
fn settings_that_cannot_work_are_refused_by_their_part() {
    let (one, other) = (own(&["a.test"], false), own(&["b.test"], false));
    let text = |text: &str| Arc::<[u8]>::from(text.as_bytes());
    let check = |settings: Settings, expected: &str| {
        let wrong = dial(settings).unwrap_err();
        assert!(format!("{wrong:?}").starts_with(expected), "{wrong:?} is not {expected}");
    };
    check(settings(), "NoRoots(\"none\")");
    let ca = |ca| Settings { ca: Some(ca), ..settings() };
    check(ca(text("")), "Ca(\"no certificate in PEM\")");
    check(ca(text("-----BEGIN CERTIFICATE-----\n!\n")), "Ca(\"malformed PEM");
    check(
        ca(text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        "Ca(\"certificate 1 is malformed",
    );
    check(ca(Arc::clone(&one.key)), "Ca(\"no certificate in PEM\")");
    let trusting = || ca(Arc::clone(&one.pem));
    let client = |chain: &Arc<[u8]>, key: &Arc<[u8]>| Settings {
        client: Some((Arc::clone(chain), Arc::clone(key))),
        ..trusting()
    };
    check(client(&one.key, &one.key), "Certificate(\"no certificate in PEM\")");
    check(client(&one.pem, &one.pem), "Key(\"nothing in PEM that is wanted here\")");
    check(client(&one.pem, &other.key), "Key(\"a key that is not the certificate's\")");
    for name in ["", "a b", "a..b", "*.a.test", "http://a", "a:443"] {
        check(Settings { server_name: Some(name.to_owned()), ..trusting() }, "ServerName(");
    }
    assert!(dial(client(&one.pem, &one.key)).is_ok());
    assert!(dial(Settings { verify: false, ..settings() }).is_ok(), "nobody need be trusted");
}

#[test]
fn a_key_is_never_shown() {
    let one = own(&["a.test"], false);
    let client = Some((Arc::clone(&one.pem), Arc::clone(&one.key)));
    let dial = dial(Settings { ca: Some(Arc::clone(&one.pem)), client, ..settings() }).unwrap();
    assert_eq!(
        format!("{dial:?}"),
        "Dial { settings: Settings { verify: true, server_name: None, only_13: false, .. }, .. }"
    );
}

#[test]
fn a_target_is_who_the_file_or_its_address_says() {
    let name = |server_name: Option<&str>, host: Option<&str>| {
        let server_name = server_name.map(str::to_owned);
        let dial = dial(Settings { verify: false, server_name, ..settings() }).unwrap();
        dial.name_of(host).map(|name| match name {
            ServerName::IpAddress(ip) => format!("address {:?}", IpAddr::from(ip)),
            name => name.to_str().into_owned(),
        })
    };
    for (server_name, host, expected) in [
        (None, Some("api.internal"), Some("api.internal")),
        (None, Some("10.0.0.1"), Some("address 10.0.0.1")),
        (None, Some("[fd00::1]"), Some("address fd00::1")),
        (None, Some("fd00::1"), Some("address fd00::1")),
        (None, None, None),
        (Some("x.test"), Some("10.0.0.1"), Some("x.test")),
        (Some("x.test"), None, Some("x.test")),
        (Some("10.0.0.9"), Some("api.internal"), Some("address 10.0.0.9")),
    ] {
        assert_eq!(name(server_name, host).as_deref(), expected, "{server_name:?} {host:?}");
    }
}

/// What the verifier that trusts `ca` says of `shown` for `name`, in the year `year`.
fn judge(ca: &Issued, shown: &Issued, name: &str, year: u64) -> Result<(), Error> {
    let settings = Settings { ca: Some(Arc::clone(&ca.pem)), ..settings() };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(&settings, &provider, no_roots).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600 + 86_400));
    let name = server_name(name).unwrap();
    verifier.verify_server_cert(&shown.der, &[], &name, &[], now).map(|_| ())
}

#[test]
fn tls_09_a_self_signed_certificate_is_trusted_where_it_is_named() {
    let names = ["a.test", "10.0.0.1"];
    for is_ca in [false, true] {
        let (one, other) = (own(&names, is_ca), own(&names, is_ca));
        for name in names {
            assert_eq!(judge(&one, &one, name, 2026), Ok(()), "{name} {is_ca}");
        }
        let wrong = |year, name, shown| judge(&one, shown, name, year).unwrap_err();
        let reason = |e: Error| crate::tls::Failure::from(e).reason;
        use crate::tls::Reason;
        assert_eq!(reason(wrong(2026, "b.test", &one)), Reason::WrongName);
        assert_eq!(reason(wrong(2026, "10.0.0.2", &one)), Reason::WrongName);
        assert_eq!(reason(wrong(2040, "a.test", &one)), Reason::ExpiredCert);
        assert_eq!(reason(wrong(2020, "a.test", &one)), Reason::ExpiredCert);
        let unknown = reason(wrong(2026, "a.test", &other));
        assert!(matches!(unknown, Reason::UnknownCa | Reason::BadCert), "{unknown:?}");
    }
}

#[test]
fn anyone_is_trusted_only_where_the_file_says_so() {
    let settings = Settings { verify: false, ..settings() };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = verifier(&settings, &provider, no_roots).unwrap();
    let (shown, name) = (own(&["a.test"], true), server_name("b.test").unwrap());
    assert!(verifier.verify_server_cert(&shown.der, &[], &name, &[], UnixTime::now()).is_ok());
}

#[test]
fn tls_11_http_2_must_have_been_chosen() {
    for (alpn, chosen, expected) in [
        (ALPN_HTTP1, None, true),
        (ALPN_HTTP1, Some(ALPN_HTTP1), true),
        (ALPN_HTTP1, Some(ALPN_H2), false),
        (ALPN_H2, Some(ALPN_H2), true),
        (ALPN_H2, Some(ALPN_HTTP1), false),
        (ALPN_H2, None, false),
    ] {
        let dial = dial(Settings { verify: false, alpn, ..settings() }).unwrap();
        assert_eq!(dial.takes(chosen), expected, "{alpn:?} {chosen:?}");
    }
}

#[test]
fn only_what_changes_makes_another_target() {
    let (one, other) = (own(&["a.test"], false), own(&["a.test"], false));
    let base = Settings { ca: Some(Arc::clone(&one.pem)), ..settings() };
    let same = Settings { ca: Some(one.pem.to_vec().into()), ..settings() };
    let client = Some((Arc::clone(&one.pem), Arc::clone(&one.key)));
    let built = |settings: &Settings| dial(settings.clone()).unwrap();
    assert_eq!(built(&base), built(&same));
    for changed in [
        Settings { ca: Some(Arc::clone(&other.pem)), ..base.clone() },
        Settings { verify: false, ..base.clone() },
        Settings { client, ..base.clone() },
        Settings { server_name: Some("a.test".to_owned()), ..base.clone() },
        Settings { only_13: true, ..base.clone() },
        Settings { alpn: ALPN_H2, ..base.clone() },
    ] {
        assert_ne!(built(&base), built(&changed), "{changed:?}");
    }
}
