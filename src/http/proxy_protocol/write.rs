//! Writes the PROXY header that a target's connection begins with, versions 1 and 2.
//!
//! Both addresses are written in one family: where they differ, IPv4 goes as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).
//! Version 2 carries what is known beside them, and a checksum. Called by `upstream`, and by the probes of control.

use crate::http::proxy_protocol::tlv::{self, Said, SaidTls};
use crate::http::proxy_protocol::{V1_LONGEST, V2_SIGNATURE, V2_START};
use std::net::{IpAddr, SocketAddr};

/// The version that a group's targets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Version 1, the line of text.
    V1,
    /// Version 2, the binary header.
    V2,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind<'a> {
    /// The client; its port is 0 where it is not known.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// What else is known of it.
    pub said: Said<'a>,
}

/// The header of a connection that is opened for a client.
pub fn client(version: Version, behind: &Behind<'_>) -> Vec<u8> {
    let (source, destination) = one_family(behind.source, behind.destination);
    match version {
        Version::V1 => v1(source, destination),
        Version::V2 => v2(source, destination, &behind.said),
    }
}

/// The header of a connection of ringgate's own, such as a probe. Version 1 has none for it: `UNKNOWN` lets the receiver take
/// the addresses of the connection, too.
pub fn local(version: Version) -> Vec<u8> {
    match version {
        Version::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
        Version::V2 => {
            let mut out = V2_SIGNATURE.to_vec();
            out.extend_from_slice(&[COMMAND_LOCAL, FAMILY_UNSPEC, 0, 0]);
            seal(&mut out);
            out
        }
    }
}

const COMMAND_LOCAL: u8 = 0x20;
const COMMAND_PROXY: u8 = 0x21;
const FAMILY_UNSPEC: u8 = 0x00;
const FAMILY_TCP4: u8 = 0x11;
const FAMILY_TCP6: u8 = 0x21;

/// Octets of a name in a certificate, at most; what is longer is left out.
const COMMON_NAME_LONGEST: usize = 256;
/// Octets of any other value, at most.
const WORD_LONGEST: usize = 64;

fn one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    let (source, destination) = (plain(source), plain(destination));
    let mapped = |a: SocketAddr| match a.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), a.port()),
        IpAddr::V6(_) => a,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    (mapped(source), mapped(destination))
}

fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    use std::io::Write;
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let mut out = Vec::with_capacity(V1_LONGEST);
    // Writing to a Vec cannot fail.
    let _ = write!(out, "PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    out
}

fn v2(source: SocketAddr, destination: SocketAddr, said: &Said<'_>) -> Vec<u8> {
    let mut out = V2_SIGNATURE.to_vec();
    let family = if source.is_ipv4() { FAMILY_TCP4 } else { FAMILY_TCP6 };
    // The length is filled in by the seal.
    out.extend_from_slice(&[COMMAND_PROXY, family, 0, 0]);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(v4) => out.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => out.extend_from_slice(&v6.octets()),
        }
    }
    for address in [source, destination] {
        out.extend_from_slice(&address.port().to_be_bytes());
    }
    put(&mut out, tlv::ALPN, said.alpn, tlv::AUTHORITY_LONGEST);
    put(&mut out, tlv::AUTHORITY, said.authority, tlv::AUTHORITY_LONGEST);
    put(&mut out, tlv::UNIQUE_ID, said.unique_id, tlv::UNIQUE_ID_LONGEST);
    if let Some(tls) = &said.tls {
        let value = tls_value(tls);
        put(&mut out, tlv::SSL, &value, usize::from(u16::MAX));
    }
    seal(&mut out);
    out
}

fn tls_value(tls: &SaidTls<'_>) -> Vec<u8> {
    let certificate = if tls.verified { tlv::CLIENT_CERT } else { 0 };
    let unverified = u32::from(!tls.verified);
    let mut value = vec![tlv::CLIENT_SSL | certificate];
    value.extend_from_slice(&unverified.to_be_bytes());
    put(&mut value, tlv::SSL_VERSION, tls.version, WORD_LONGEST);
    put(&mut value, tlv::SSL_CN, tls.common_name, COMMON_NAME_LONGEST);
    put(&mut value, tlv::SSL_CIPHER, tls.cipher, WORD_LONGEST);
    value
}

/// Appends a value with its type and length, unless it is empty or longer than it may be.
fn put(out: &mut Vec<u8>, kind: u8, value: &[u8], longest: usize) {
    let Ok(length) = u16::try_from(value.len()) else { return };
    if value.is_empty() || value.len() > longest {
        return;
    }
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

/// Fills in the length, which the checksum covers, and appends the checksum.
fn seal(out: &mut Vec<u8>) {
    put(out, tlv::CRC32C, &[0; 4], 4);
    let length = u16::try_from(out.len() - V2_START).unwrap_or(u16::MAX);
    if let Some(slot) = out.get_mut(V2_START - 2..V2_START) {
        slot.copy_from_slice(&length.to_be_bytes());
    }
    let at = out.len() - 4;
    let crc = tlv::crc32c_without(out, at);
    if let Some(slot) = out.get_mut(at..) {
        slot.copy_from_slice(&crc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::proxy_protocol::{
        Header, Transport, V2_LONGEST, Versions, parse, tlvs as tlvs_of,
    };
    use proptest::prelude::*;

    fn behind(source: &str, destination: &str) -> Behind<'static> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        Behind { source, destination, said: Said::default() }
    }

    /// Both versions are read back as these addresses.
    #[track_caller]
    fn check(source: &str, destination: &str, read_source: &str, read_destination: &str) {
        let expected = Header::Ip {
            transport: Transport::Stream,
            source: read_source.parse().unwrap(),
            destination: read_destination.parse().unwrap(),
        };
        for version in [Version::V1, Version::V2] {
            let header = client(version, &behind(source, destination));
            let read = parse(&header, Versions::Any);
            assert_eq!(read, Ok(Some((expected, header.len()))), "{version:?}");
        }
    }

    #[test]
    fn addresses_are_read_back() {
        let (v4, v6) = ("198.51.100.2:443", "[2001:db8::2]:443");
        check("192.0.2.1:4660", v4, "192.0.2.1:4660", v4);
        check("192.0.2.1:0", v4, "192.0.2.1:0", v4);
        check("[2001:db8::1]:1", v6, "[2001:db8::1]:1", v6);
        check("[::ffff:192.0.2.1]:1", v4, "192.0.2.1:1", v4);
        check("192.0.2.1:1", v6, "[::ffff:192.0.2.1]:1", v6);
        check("[2001:db8::1]:1", v4, "[2001:db8::1]:1", "[::ffff:198.51.100.2]:443");
    }

    #[test]
    fn the_line_is_as_the_specification_writes_it() {
        let line = |source, destination| {
            String::from_utf8(client(Version::V1, &behind(source, destination))).unwrap()
        };
        let v4 = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
        assert_eq!(line("255.255.255.255:65535", "255.255.255.255:65535"), v4);
        let wide = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        assert!(line(wide, wide).len() <= V1_LONGEST);
    }

    #[test]
    fn a_connection_of_our_own_is_local() {
        let read = |version| parse(&local(version), Versions::Any).unwrap().unwrap();
        assert_eq!(read(Version::V1), (Header::Unknown, 15));
        assert_eq!(read(Version::V2), (Header::Local, V2_START + 7));
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let long = [b'a'; 5000];
        let tls = SaidTls { version: &long, cipher: &long, common_name: &long, verified: true };
        let said = Said { alpn: &long, authority: &long, unique_id: &long, tls: Some(tls) };
        let header = client(Version::V2, &Behind { said, ..behind("1.2.3.4:5", "6.7.8.9:10") });
        let read = Said::of(tlvs_of(&header));
        let tls = SaidTls { verified: true, ..SaidTls::default() };
        assert_eq!(read, Said { tls: Some(tls), ..Said::default() });
    }

    proptest! {
        #[test]
        fn what_is_said_is_read_back(
            texts in proptest::array::uniform6("[ -~]{0,64}"),
            by_tls in any::<bool>(),
            verified in any::<bool>(),
            v6 in any::<bool>(),
        ) {
            let [alpn, authority, unique_id, version, cipher, common_name] =
                texts.each_ref().map(|t| t.as_bytes());
            let tls = by_tls.then_some(SaidTls { version, cipher, common_name, verified });
            let said = Said { alpn, authority, unique_id, tls };
            let addresses = if v6 { behind("[::1]:2", "[::3]:4") } else { behind("1.2.3.4:5", "6.7.8.9:10") };
            let header = client(Version::V2, &Behind { said, ..addresses });
            prop_assert!(header.len() <= V2_LONGEST);
            let read = parse(&header, Versions::V2);
            prop_assert!(matches!(read, Ok(Some((_, len))) if len == header.len()));
            prop_assert_eq!(Said::of(tlvs_of(&header)), said);
        }
    }
}
