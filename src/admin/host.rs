//! Which `Host` the admin endpoints answer to: addresses and `localhost`, nothing a name server could rebind.
//!
//! A page in a browser on this machine can make a name of its own resolve to 127.0.0.1 and read what is served
//! there; its requests then carry that name in `Host`. An address literal cannot be rebound.

use std::net::{IpAddr, Ipv6Addr};

/// Whether `authority` (host, optionally with a port) is an address or `localhost`.
pub fn is_allowed(authority: &str) -> bool {
    let Some(host) = without_port(authority) else { return false };
    if let Some(inner) = host.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    }
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4()) || host.eq_ignore_ascii_case("localhost")
}

fn without_port(authority: &str) -> Option<&str> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(bracket..)?.find(':') {
        None => Some(authority),
        Some(at) => {
            let (host, port) = authority.split_at(bracket + at);
            let digits = port.get(1..)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then_some(host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_addresses_and_localhost_only() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9901",
            "10.1.2.3:80",
            "[::1]:9901",
            "[::1]",
            "localhost",
            "LOCALHOST:9901",
        ] {
            assert!(is_allowed(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9901",
            "127.0.0.1.nip.io",
            "localhost.evil.example",
            "127.0.0.1@evil.example",
            "127.0.0.1:9901:1",
            "127.0.0.1:x",
            "[::1",
            "::1",
            "[evil]",
            "2130706433",
            "127.1",
            "[::1]x",
            "localhost.",
        ] {
            assert!(!is_allowed(host), "{host}");
        }
    }
}
