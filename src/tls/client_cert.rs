//! What targets are told of a client's certificate, in the fields that AWS ALB has for it; and what logs are.
//!
//! Whatever a name holds, it stays one value of one field: distinguished names are written as RFC 4514 says, with everything but printable
//! ASCII escaped (hazard TLS-04). Written once a connection. That no client can send these fields is the request head's matter.

use crate::tls::certificate::hex;
use crate::tls::sha256;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::CertificateDer;
use std::fmt::Write;
use std::net::IpAddr;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};
use x509_parser::x509::X509Name;

/// What is written of a client's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Whole lines of a head.
    pub fields: Box<[u8]>,
    /// The subject, for logs.
    pub subject: Box<str>,
    /// The common name (it may have none) of a certificate that was verified, for PROXY headers.
    pub vouched: Option<Box<str>>,
}

/// For a chain that was verified.
pub fn verified(chain: &[CertificateDer<'_>]) -> Option<Told> {
    let own = chain.first()?;
    let (_, parsed) = X509Certificate::from_der(own).ok()?;
    let subject = distinguished(parsed.subject());
    let validity = parsed.validity();
    let mut fields = Vec::new();
    let mut field = |name: &str, value: &str| {
        fields.extend_from_slice(b"x-amzn-mtls-clientcert-");
        fields.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    };
    field("serial-number", &hex(parsed.raw_serial()).to_ascii_uppercase());
    field("issuer", &distinguished(parsed.issuer()));
    field("subject", &subject);
    let validity =
        format!("NotBefore={};NotAfter={}", time(validity.not_before), time(validity.not_after));
    field("validity", &validity);
    field("leaf", &url_encoded_pem(std::slice::from_ref(own)));
    let names = alternative_names(&parsed);
    if !names.is_empty() {
        field("san", &names);
    }
    field("fingerprint", &hex(&sha256(own)));
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    Some(Told { fields: fields.into(), subject: subject.into(), vouched: Some(name.into()) })
}

/// For a chain that nobody has verified: the target does.
pub fn passed_through(chain: &[CertificateDer<'_>]) -> Option<Told> {
    let own = chain.first()?;
    let value = url_encoded_pem(chain);
    let fields = format!("x-amzn-mtls-clientcert: {value}\r\n").into_bytes();
    let subject = X509Certificate::from_der(own).map(|(_, c)| distinguished(c.subject()));
    let subject = subject.unwrap_or_default().into();
    Some(Told { fields: fields.into(), subject, vouched: None })
}

// RFC 4514 section 2: the last relative name first.
fn distinguished(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let relative: Vec<_> = name.iter_rdn().collect();
    for (i, relative) in relative.iter().rev().enumerate() {
        if i > 0 {
            text.push(',');
        }
        for (j, attribute) in relative.iter().enumerate() {
            if j > 0 {
                text.push('+');
            }
            let kind = attribute.attr_type();
            match abbreviation(&kind.to_id_string()) {
                Some(short) => text.push_str(short),
                None => text.push_str(&kind.to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                // Of a kind that is no text here: its octets (section 2.4).
                Err(_) => {
                    text.push('#');
                    text.push_str(&hex(attribute.as_slice()));
                }
            }
        }
    }
    text
}

// RFC 4514 section 3, and the one that OpenSSL writes too.
fn abbreviation(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

// RFC 4514 section 2.4.
fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (at, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=');
        let edge = (at == 0 && matches!(c, ' ' | '#')) || (at == last && c == ' ');
        if !(' '..='~').contains(&c) {
            let mut octets = [0; 4];
            for octet in c.encode_utf8(&mut octets).bytes() {
                let _ = write!(text, "\\{octet:02X}");
            }
            continue;
        }
        if special || edge {
            text.push('\\');
        }
        text.push(c);
    }
}

// `DNS=a.example,URI=spiffe://...`: in the certificate's order.
fn alternative_names(certificate: &X509Certificate<'_>) -> String {
    let mut text = String::new();
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return text };
    for name in &extension.value.general_names {
        let (kind, value) = match name {
            GeneralName::DNSName(name) => ("DNS", (*name).to_owned()),
            GeneralName::RFC822Name(name) => ("email", (*name).to_owned()),
            GeneralName::URI(name) => ("URI", (*name).to_owned()),
            GeneralName::IPAddress(octets) => match address(octets) {
                Some(address) => ("IP", address.to_string()),
                None => continue,
            },
            _ => continue,
        };
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(kind);
        text.push('=');
        escape(&value, &mut text);
    }
    text
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

fn time(at: ASN1Time) -> String {
    let at = at.to_datetime();
    let (date, clock) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (clock.hour(), clock.minute(), clock.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

// As ALB does it: everything but letters, digits, `-._~` and `+=/` is percent-encoded.
fn url_encoded_pem(chain: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for certificate in chain {
        text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        let octets = BASE64_STANDARD.encode(certificate);
        let mut rest = octets.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push_str("%0A");
            rest = after;
        }
        text.push_str("-----END%20CERTIFICATE-----%0A");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn told(params: CertificateParams) -> (Told, CertificateDer<'static>) {
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        (verified(&[made.der().clone()]).unwrap(), made.der().clone())
    }

    fn field<'a>(told: &'a Told, name: &str) -> &'a str {
        let lines = std::str::from_utf8(&told.fields).unwrap().split_terminator("\r\n");
        let name = format!("x-amzn-mtls-clientcert{name}: ");
        lines.filter_map(|line| line.strip_prefix(&name)).next().unwrap()
    }

    #[test]
    fn targets_are_told_what_alb_tells_them() {
        let names = vec!["a.example".to_owned(), "10.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://a/b,c".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CH");
        params.distinguished_name.push(DnType::OrganizationName, "A, Inc.");
        params.distinguished_name.push(DnType::CommonName, "client");
        params.serial_number = Some(vec![0x0a, 0xbc].into());
        params.not_before = rcgen::date_time_ymd(2024, 1, 2);
        params.not_after = rcgen::date_time_ymd(2034, 11, 12);
        let (told, der) = told(params);
        assert_eq!(&*told.subject, "CN=client,O=A\\, Inc.,C=CH");
        assert_eq!(told.vouched.as_deref(), Some("client"));
        assert_eq!(field(&told, "-subject"), &*told.subject);
        assert_eq!(field(&told, "-issuer"), &*told.subject);
        assert_eq!(field(&told, "-serial-number"), "0ABC");
        let validity = "NotBefore=2024-01-02T00:00:00Z;NotAfter=2034-11-12T00:00:00Z";
        assert_eq!(field(&told, "-validity"), validity);
        assert_eq!(field(&told, "-san"), "DNS=a.example,IP=10.0.0.1,URI=spiffe://a/b\\,c");
        assert_eq!(field(&told, "-fingerprint"), hex(&sha256(&der)));
        let leaf = field(&told, "-leaf").replace("%20", " ").replace("%0A", "\n");
        use rustls::pki_types::pem::PemObject;
        assert_eq!(CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap(), der);
        let passed = passed_through(&[der.clone(), der.clone()]).unwrap();
        assert_eq!(field(&passed, "").matches("BEGIN%20CERTIFICATE").count(), 2);
        assert_eq!(passed.subject, told.subject);
        assert!(verified(&[]).is_none() && passed_through(&[]).is_none());
    }

    // Hazard TLS-04.
    #[test]
    fn a_name_cannot_end_its_field_or_pretend_to_be_another() {
        for (name, expected) in [
            ("a\r\nx-evil: 1", "CN=a\\0D\\0Ax-evil: 1"),
            ("a,O=admin", "CN=a\\,O\\=admin"),
            (" #a ", "CN=\\ #a\\ "),
            ("Zoë", "CN=Zo\\C3\\AB"),
            ("a\0b", "CN=a\\00b"),
        ] {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            let (told, _) = told(params);
            assert_eq!(&*told.subject, expected, "{name:?}");
            let printable = |b: &u8| (b' '..=b'~').contains(b) || matches!(b, b'\r' | b'\n');
            assert!(told.fields.iter().all(printable), "{name:?}");
            assert_eq!(told.fields.iter().filter(|b| **b == b'\n').count(), 6, "{name:?}");
        }
    }
}
