//! The authority of a request (RFC 9110 section 7.2, RFC 3986 section 3.2.2), checked once and made canonical.
//!
//! Canonical is lower-case, without port and without a trailing dot, so that every spelling of a host routes alike.

use crate::http::Fault;

/// Checks `authority` and appends its canonical host to `host`; returns the port where one is given.
///
/// # Errors
/// [`Fault::HostInvalid`] for user information, anything but `reg-name | IPv4 | [IPv6]`, or a port outside 1 to 65535.
pub fn canonical(authority: &[u8], host: &mut Vec<u8>) -> Result<Option<u16>, Fault> {
    let (name, port) = split_port(authority)?;
    if let [b'[', inner @ .., b']'] = name {
        let text = std::str::from_utf8(inner).map_err(|_| Fault::HostInvalid)?;
        text.parse::<std::net::Ipv6Addr>().map_err(|_| Fault::HostInvalid)?;
        host.push(b'[');
        host.extend(inner.iter().map(u8::to_ascii_lowercase));
        host.push(b']');
        return Ok(port);
    }
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() || name.len() > 255 {
        return Err(Fault::HostInvalid);
    }
    // One pass: the octets, no empty label, and whether anything is in upper case.
    let (mut previous, mut upper) = (b'.', false);
    for &octet in name {
        if !HOST_OCTETS[usize::from(octet)] || (octet == b'.' && previous == b'.') {
            return Err(Fault::HostInvalid);
        }
        upper |= octet.is_ascii_uppercase();
        previous = octet;
    }
    if previous == b'.' {
        return Err(Fault::HostInvalid);
    }
    let start = host.len();
    host.extend_from_slice(name);
    if upper && let Some(written) = host.get_mut(start..) {
        written.make_ascii_lowercase();
    }
    Ok(port)
}

fn split_port(authority: &[u8]) -> Result<(&[u8], Option<u16>), Fault> {
    let colon = match memchr::memrchr(b':', authority) {
        // A colon inside brackets belongs to the address.
        Some(at) if !authority.get(at..).unwrap_or_default().contains(&b']') => at,
        _ => return Ok((authority, None)),
    };
    let (name, rest) = authority.split_at(colon);
    let digits = rest.get(1..).unwrap_or_default();
    if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Fault::HostInvalid);
    }
    let port = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok((name, Some(port))),
        _ => Err(Fault::HostInvalid),
    }
}

// reg-name without percent-encoding and without the sub-delims that no name has: a comma, a quote or a
// semicolon in a host is how lists and injections look.
const HOST_OCTETS: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        let b = octet as u8;
        table[octet] = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Option<(&str, Option<u16>)>) {
        let mut host = Vec::new();
        let got = canonical(input.as_bytes(), &mut host).ok();
        let got = got.map(|port| (String::from_utf8(host).unwrap(), port));
        assert_eq!(got, expected.map(|(h, p)| (h.to_owned(), p)), "{input}");
    }

    #[test]
    fn makes_hosts_canonical_and_refuses_the_rest() {
        check("Example.COM", Some(("example.com", None)));
        check("example.com.:8080", Some(("example.com", Some(8080))));
        check("[::1]:80", Some(("[::1]", Some(80))));
        check("[::A]", Some(("[::a]", None)));
        check("127.0.0.1", Some(("127.0.0.1", None)));
        for bad in [
            "", ".", ":80", "a:", "a:0", "a:65536", "a:8x", "a:-1", "user@a", "a/b", "a,b", "[::1",
            "::1", "[::1]x", "a b", "a\\b", "a%2fb", "a..b", "a..", "a..:80", "..", "[v1.x]",
            "a:80:80", "a;b", "\u{e9}", "a?b", "a#b", "[]", "[::1]:",
        ] {
            check(bad, None);
        }
    }
}
