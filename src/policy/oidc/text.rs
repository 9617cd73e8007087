//! Texts of the protocol: percent-encoding, forms, and addresses of providers.
//!
//! Addresses are taken only in a form that every URL parser reads alike: no user information, no backslash, no white
//! space. Nothing here decides what may be asked; `provider` does. Called by the other files of this folder and by the
//! reader of the settings.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends `text` with everything but unreserved octets percent-encoded (RFC 3986 section 2.3), which is also right in a
/// form.
pub fn encode(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            out.push(char::from(octet));
        } else {
            out.push('%');
            for digit in [octet >> 4, octet & 15] {
                out.push(HEX.get(usize::from(digit)).copied().map_or('0', char::from));
            }
        }
    }
}

/// Appends `name=value`, behind a `&` unless it is the first.
pub fn pair(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() && !out.ends_with(['?', '&']) {
        out.push('&');
    }
    encode(out, name);
    out.push('=');
    encode(out, value);
}

/// A value of a query as text; `None` for a broken escape or what is no UTF-8.
pub fn decode(value: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(octet) = rest.next() {
        match octet {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |d: &u8| char::from(*d).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let (high, low) = (rest.next().and_then(digit)?, rest.next().and_then(digit)?);
                out.push(high << 4 | low);
            }
            other => out.push(*other),
        }
    }
    String::from_utf8(out).ok()
}

/// `Basic` of RFC 6749 section 2.3.1: both parts are form-encoded first.
pub fn basic(id: &str, secret: &str) -> String {
    let mut both = String::new();
    encode(&mut both, id);
    both.push(':');
    encode(&mut both, secret);
    format!("Basic {}", STANDARD.encode(both))
}

/// The parts of an address that decide who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// `https` rather than `http`.
    pub secure: bool,
    /// Without port, in brackets for IPv6.
    pub host: &'a str,
    /// Host and port as written.
    pub authority: &'a str,
    /// What follows the authority.
    pub rest: &'a str,
}

/// Reads an absolute address; `None` for anything that parsers could read differently, and for a fragment.
pub fn address(text: &str) -> Option<Address<'_>> {
    let (secure, after) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(after), _) => (true, after),
        (None, Some(after)) => (false, after),
        (None, None) => return None,
    };
    let plain = |b: u8| b.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&b);
    if text.len() > 2048 || !text.bytes().all(plain) {
        return None;
    }
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, rest) = after.split_at(end);
    let mut host = Vec::new();
    crate::http::host::canonical(authority.as_bytes(), &mut host).ok()?;
    // Only names in lower case: what is compared is what is asked.
    let host = authority.get(..host.len()).filter(|name| name.as_bytes() == host)?;
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
    named.then_some(Address { secure, host, authority, rest })
}

impl Address<'_> {
    /// Whether it names this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        loopback || host == "localhost" || host.ends_with(".localhost")
    }

    /// Whether secrets may be sent there: over TLS, or without leaving this machine.
    pub fn is_safe(&self) -> bool {
        self.secure || self.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_written_and_read() {
        let mut out = "https://a/?".to_owned();
        pair(&mut out, "a", "b c&d=ü/+");
        pair(&mut out, "e", "");
        assert_eq!(out, "https://a/?a=b%20c%26d%3D%C3%BC%2F%2B&e=");
        for (value, expected) in [
            ("a%20b+c", Some("a b c")),
            ("%C3%bc", Some("ü")),
            ("", Some("")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decode(value.as_bytes()).as_deref(), expected, "{value}");
        }
        assert_eq!(basic("a:b", "c d"), format!("Basic {}", STANDARD.encode("a%3Ab:c%20d")));
    }

    #[test]
    fn addresses_have_one_meaning() {
        let read = address("https://id.example.com:8443/a?b=c").unwrap();
        assert_eq!((read.secure, read.host, read.rest), (true, "id.example.com", "/a?b=c"));
        assert_eq!(read.authority, "id.example.com:8443");
        for (good, safe) in [
            ("https://id.example.com", true),
            ("http://id.example.com", false),
            ("http://127.0.0.1:3000/x", true),
            ("http://localhost/x", true),
            ("http://[::1]:80/x", true),
            ("http://127.0.0.1.example.com/", false),
            ("http://localhost.example.com/", false),
        ] {
            assert_eq!(address(good).map(|a| a.is_safe()), Some(safe), "{good}");
        }
        for bad in [
            "",
            "id.example.com",
            "ftp://a/",
            "HTTPS://a/",
            "https://",
            "https:///x",
            "https://user@a/",
            "https://a\\@b/",
            "https://a b/",
            "https://a/ b",
            "https://a/#x",
            "https://A/",
            "https://a:0/",
            "https://a:99999/",
            "https://a\n/",
            "https://%61/",
            "https://ä/",
        ] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
