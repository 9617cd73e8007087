//! The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): the header before the first octet of a
//! connection in which a balancer in front says whose connection it passes on.
//!
//! Pure and resumable: [`parse`] is given all that has arrived and says what it is, or that more is needed, which is
//! bounded by [`V1_LONGEST`] and [`V2_LONGEST`]. Whether the peer may be believed is not known here (HDR-07: the listener
//! asks `server.trusted_proxies` first). What it says beside the addresses is for [`tlvs`] and [`Said`]. Called by `serve`;
//! what targets are sent is in [`write`].

mod tlv;
pub mod write;

pub use tlv::{Said, SaidTls};
pub use write::{Behind, Version};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Octets of a version 1 header with its CRLF (section 2.1: "107 chars including the trailing CRLF").
pub const V1_LONGEST: usize = 107;

/// Octets of a version 2 header after its first sixteen. The format allows 65,535; addresses take 216 at most, and what
/// is known to be sent beside them (names, ids, a TLS description) stays far below this.
pub const V2_LENGTH: usize = 4096;

/// Octets of a whole version 2 header.
pub const V2_LONGEST: usize = V2_START + V2_LENGTH;

/// The versions that a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Version 1, the line of text.
    V1,
    /// Version 2, the binary header.
    V2,
    /// Either.
    Any,
}

/// What a header says of the connection behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The sender's own connection, such as its health check: the addresses of the connection itself stand.
    Local,
    /// A client that the sender cannot describe (`UNKNOWN`, UNSPEC): the addresses of the connection itself stand.
    Unknown,
    /// A client on a Unix socket of the sender, which has no address.
    Unix(Transport),
    /// A client with an address.
    Ip {
        /// The client's transport; version 1 knows streams only.
        transport: Transport,
        /// The client; its port may be 0.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
}

impl Header {
    /// The client's address, where the header names one.
    pub fn source(&self) -> Option<SocketAddr> {
        match self {
            Header::Ip { source, .. } => Some(*source),
            Header::Local | Header::Unknown | Header::Unix(_) => None,
        }
    }
}

/// How the client is connected to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP, or a Unix stream socket.
    Stream,
    /// UDP, or a Unix datagram socket.
    Datagram,
}

/// Why the octets are no header: the connection must be closed without an answer (section 2: "the receiver must abort").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They do not begin with a signature of a version that is taken.
    Signature,
    /// A version 1 line that is too long, or does not end in CRLF.
    Line,
    /// A version 1 line with another protocol than `TCP4`, `TCP6` and `UNKNOWN`, or too few or too many words.
    Words,
    /// A version 1 address that is not one of its family.
    Address,
    /// A version 1 port that is not a decimal number from 0 to 65535 without leading zeros.
    Port,
    /// A version 2 header of another version, or with a command that does not exist.
    Command,
    /// A version 2 header with a family and transport that do not exist.
    Family,
    /// A version 2 length that is more than [`V2_LENGTH`], or too little for the addresses.
    Length,
    /// A TLV that does not end where the header ends, or is not what its type must be.
    Tlv,
    /// A CRC32c that is not that of the header, not four octets long, or there twice.
    Checksum,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Signature => "no PROXY header of a version that is taken",
            Malformed::Line => "a PROXY line that is too long or does not end in CRLF",
            Malformed::Words => "a PROXY line with wrong words",
            Malformed::Address => "a PROXY line with a malformed address",
            Malformed::Port => "a PROXY line with a malformed port",
            Malformed::Command => "a PROXY header with an unknown version or command",
            Malformed::Family => "a PROXY header with an unknown family or transport",
            Malformed::Length => "a PROXY header with a wrong length",
            Malformed::Tlv => "a PROXY header with a malformed TLV",
            Malformed::Checksum => "a PROXY header with a wrong checksum",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads the header at the front of `input`, which holds all that has arrived of the connection: the header and its
/// length in octets, or `None` while more octets are needed. The octets after it belong to the connection.
///
/// # Errors
/// [`Malformed`] as soon as no further octets can make it a header.
pub fn parse(input: &[u8], accepted: Versions) -> Result<Option<(Header, usize)>, Malformed> {
    let begins = |signature: &[u8]| {
        let both = signature.len().min(input.len());
        input.get(..both) == signature.get(..both)
    };
    if accepted != Versions::V1 && begins(V2_SIGNATURE) {
        parse_v2(input)
    } else if accepted != Versions::V2 && begins(V1_SIGNATURE) {
        parse_v1(input)
    } else {
        Err(Malformed::Signature)
    }
}

/// The type-length-values of a header that [`parse`] took, from its first octet to its last: none in version 1, and none of
/// a connection of the sender's own.
pub fn tlvs(header: &[u8]) -> &[u8] {
    let Some((start, body)) = header.split_first_chunk::<V2_START>() else { return &[] };
    if !start.starts_with(V2_SIGNATURE) {
        return &[];
    }
    let addresses = match start {
        [.., 0x21, 0x11 | 0x12, _, _] => V2_INET,
        [.., 0x21, 0x21 | 0x22, _, _] => V2_INET6,
        [.., 0x21, 0x31 | 0x32, _, _] => V2_UNIX,
        _ => return &[],
    };
    body.get(addresses..).unwrap_or_default()
}

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, then version and command, family and transport, and two octets of length.
const V2_START: usize = 16;

/// Octets of two addresses and two ports.
const V2_INET: usize = 12;
const V2_INET6: usize = 36;
/// Octets of two paths.
const V2_UNIX: usize = 216;

fn parse_v1(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let window = input.get(..V1_LONGEST).unwrap_or(input);
    let Some(lf) = memchr::memchr(b'\n', window) else {
        return if window.len() < V1_LONGEST { Ok(None) } else { Err(Malformed::Line) };
    };
    let line = window.get(..lf).unwrap_or_default().strip_suffix(b"\r").ok_or(Malformed::Line)?;
    if line.contains(&b'\r') {
        return Err(Malformed::Line);
    }
    let words = line.get(V1_SIGNATURE.len()..).unwrap_or_default();
    let mut words = words.split(|b| *b == b' ');
    let header = match words.next() {
        // "The receiver must ignore anything presented before the CRLF is found."
        Some(b"UNKNOWN") => Header::Unknown,
        Some(b"TCP4") => v1_addresses(words, |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4))?,
        Some(b"TCP6") => v1_addresses(words, |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?,
        _ => return Err(Malformed::Words),
    };
    Ok(Some((header, lf + 1)))
}

fn v1_addresses<'a>(
    mut words: impl Iterator<Item = &'a [u8]>,
    address: impl Fn(&str) -> Option<IpAddr>,
) -> Result<Header, Malformed> {
    let mut word = || words.next().ok_or(Malformed::Words);
    let read =
        |word: &[u8]| std::str::from_utf8(word).ok().and_then(&address).ok_or(Malformed::Address);
    let (source, destination) = (read(word()?)?, read(word()?)?);
    let (source_port, destination_port) = (v1_port(word()?)?, v1_port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed::Words);
    }
    Ok(Header::Ip {
        transport: Transport::Stream,
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

fn v1_port(digits: &[u8]) -> Result<u16, Malformed> {
    let plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.len() <= 5;
    if !plain || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Port);
    }
    let port = digits.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    u16::try_from(port).map_err(|_| Malformed::Port)
}

fn parse_v2(input: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let Some(start) = input.first_chunk::<V2_START>() else { return Ok(None) };
    let [.., command, family, high, low] = *start;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_LENGTH {
        return Err(Malformed::Length);
    }
    // The high half is the version.
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command),
    };
    let (addresses, transport) = match family {
        // A local connection has no family: whatever stands there is ignored, and what follows is skipped.
        _ if local => (0, Transport::Stream),
        0x00 => (0, Transport::Stream),
        0x11 => (V2_INET, Transport::Stream),
        0x12 => (V2_INET, Transport::Datagram),
        0x21 => (V2_INET6, Transport::Stream),
        0x22 => (V2_INET6, Transport::Datagram),
        0x31 => (V2_UNIX, Transport::Stream),
        0x32 => (V2_UNIX, Transport::Datagram),
        _ => return Err(Malformed::Family),
    };
    if length < addresses {
        return Err(Malformed::Length);
    }
    let end = V2_START + length;
    let Some(header) = input.get(..end) else { return Ok(None) };
    let (addresses, tlvs) = header.split_at(V2_START + addresses);
    let body = addresses.get(V2_START..).unwrap_or_default();
    let meaning = match body.len() {
        0 if local => return Ok(Some((Header::Local, end))),
        // What an unknown family describes is of unknown form: there is nothing to check.
        0 => return Ok(Some((Header::Unknown, end))),
        V2_INET => v2_addresses::<4>(body, transport)?,
        V2_INET6 => v2_addresses::<16>(body, transport)?,
        _ => Header::Unix(transport),
    };
    tlv::check(header, tlvs)?;
    Ok(Some((meaning, end)))
}

/// Source and destination address of `N` octets, then both ports.
fn v2_addresses<const N: usize>(body: &[u8], transport: Transport) -> Result<Header, Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>().ok_or(Malformed::Length)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::Length)?;
    let &[a, b, c, d] = rest else { return Err(Malformed::Length) };
    Ok(Header::Ip {
        transport,
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d])),
    })
}

#[cfg(test)]
mod tests;
