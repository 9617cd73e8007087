//! PROXY headers (hazard HDR-07) against a plain reading of the specification, and against themselves at every cut.
//!
//! The input is what a balancer sends, from its first octet.

use super::split::splits;
use ringgate::http::proxy_protocol::{
    Behind, Header, Malformed, Said, Transport, V1_LONGEST, V2_LONGEST, Version, Versions, parse,
    tlvs, write,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// See the module's documentation.
pub fn proxy_header(data: &[u8]) {
    let (first, second) = (parse(data, Versions::V1), parse(data, Versions::V2));
    let any = parse(data, Versions::Any);
    match data.first() {
        None => assert_eq!((first, second, any), (Ok(None), Ok(None), Ok(None))),
        Some(b'P') => assert_eq!((any, second), (first, Err(Malformed::Signature))),
        Some(_) => assert_eq!((any, first), (second, Err(Malformed::Signature))),
    }
    assert_eq!(any.ok(), reference(data), "{:?}", data.escape_ascii());
    for ends in splits(data) {
        let cut = ends.iter().map(|end| parse(&data[..*end], Versions::Any));
        let decided = cut.clone().find(|verdict| *verdict != Ok(None)).unwrap_or(Ok(None));
        assert_eq!(decided, any, "cut at {ends:?}: {:?}", data.escape_ascii());
    }
    match any {
        Ok(None) => {
            let most = if data.first() == Some(&b'P') { V1_LONGEST } else { V2_LONGEST };
            assert!(data.len() < most, "waits for more than there may be");
        }
        Ok(Some((header, len))) => {
            assert!(len <= data.len());
            assert_eq!(parse(&data[..len], Versions::Any), Ok(Some((header, len))));
            is_read_back(header);
            is_sent_on(header, Said::of(tlvs(&data[..len])));
        }
        Err(_) => {}
    }
}

/// `None` where the header is refused.
fn reference(data: &[u8]) -> Option<Option<(Header, usize)>> {
    let signatures = [&b"PROXY "[..], b"\r\n\r\n\0\r\nQUIT\n"];
    for (signature, read) in signatures.into_iter().zip([version_1, version_2]) {
        if signature.starts_with(data) {
            return Some(None);
        }
        if data.starts_with(signature) {
            return read(data);
        }
    }
    None
}

fn version_1(data: &[u8]) -> Option<Option<(Header, usize)>> {
    let Some(end) = data.iter().position(|b| *b == b'\n').map(|lf| lf + 1) else {
        return (data.len() < V1_LONGEST).then_some(None);
    };
    let line = data[..end].strip_suffix(b"\r\n").filter(|l| end <= V1_LONGEST && !l.contains(&13));
    let line = String::from_utf8_lossy(line?).into_owned();
    let words: Vec<&str> = line.split(' ').collect();
    if words.get(1) == Some(&"UNKNOWN") {
        return Some(Some((Header::Unknown, end)));
    }
    let [_, family, from, to, from_port, to_port] = words[..] else { return None };
    let address = |text: &str| {
        let address: IpAddr = text.parse().ok()?;
        (address.is_ipv4() == (family == "TCP4")).then_some(address)
    };
    // A number is what is written the same again.
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    let header = Header::Ip {
        transport: Transport::Stream,
        source: SocketAddr::new(address(from)?, port(from_port)?),
        destination: SocketAddr::new(address(to)?, port(to_port)?),
    };
    matches!(family, "TCP4" | "TCP6").then_some(Some((header, end)))
}

fn version_2(data: &[u8]) -> Option<Option<(Header, usize)>> {
    if data.len() < 16 {
        return Some(None);
    }
    let length = usize::from(data[14]) * 256 + usize::from(data[15]);
    let end = 16 + length;
    if data[12] >> 4 != 2 || data[12] & 15 > 1 || end > V2_LONGEST {
        return None;
    }
    let unread = |header| Some((data.len() >= end).then_some((header, end)));
    if data[12] & 15 == 0 {
        return unread(Header::Local);
    }
    let (family, transport) = (data[13] >> 4, data[13] & 15);
    let addresses = match family {
        0 if transport == 0 => return unread(Header::Unknown),
        1 => 12,
        2 => 36,
        3 => 216,
        _ => return None,
    };
    let transport = match transport {
        1 => Transport::Stream,
        2 => Transport::Datagram,
        _ => return None,
    };
    if length < addresses {
        return None;
    }
    if data.len() < end {
        return Some(None);
    }
    let body = &data[16..end];
    let number = |at: usize, octets: usize| {
        body[at..at + octets].iter().fold(0u128, |n, octet| n << 8 | u128::from(*octet))
    };
    let port = |at: usize| number(at, 2) as u16;
    let header = match family {
        1 => {
            let ip = |at| IpAddr::V4(Ipv4Addr::from(number(at, 4) as u32));
            let (source, destination) = ((ip(0), port(8)).into(), (ip(4), port(10)).into());
            Header::Ip { transport, source, destination }
        }
        2 => {
            let ip = |at| IpAddr::V6(Ipv6Addr::from(number(at, 16)));
            let (source, destination) = ((ip(0), port(32)).into(), (ip(16), port(34)).into());
            Header::Ip { transport, source, destination }
        }
        _ => Header::Unix(transport),
    };
    tlvs_are_fine(&data[..end], 16 + addresses).then_some(Some((header, end)))
}

fn tlvs_are_fine(header: &[u8], mut at: usize) -> bool {
    let mut checksums = 0;
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3) else { return false };
        let (value, end) = (at + 3, at + 3 + usize::from(*high) * 256 + usize::from(*low));
        if end > header.len() {
            return false;
        }
        let fits = match *kind {
            2 => end - value <= 255,
            5 => end - value <= 128,
            0x20 => end - value >= 5 && lengths_are_fine(&header[value + 5..end]),
            _ => true,
        };
        if !fits {
            return false;
        }
        if *kind == 3 {
            checksums += 1;
            if end - value != 4 || checksums > 1 {
                return false;
            }
            let mut zeroed = header.to_vec();
            zeroed[value..end].fill(0);
            if crc32c(&zeroed).to_be_bytes() != header[value..end] {
                return false;
            }
        }
        at = end;
    }
    true
}

/// Whether the types of a TLS description end where it ends.
fn lengths_are_fine(mut rest: &[u8]) -> bool {
    while let [_, high, low, more @ ..] = rest {
        let length = usize::from(*high) * 256 + usize::from(*low);
        if length > more.len() {
            return false;
        }
        rest = &more[length..];
    }
    rest.is_empty()
}

/// Bit by bit, as a shift register.
fn crc32c(octets: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for octet in octets {
        for bit in 0..8 {
            let out = (register ^ u32::from(octet >> bit)) & 1;
            register >>= 1;
            if out == 1 {
                register ^= 0x1edc_6f41_u32.reverse_bits();
            }
        }
    }
    !register
}

/// What was understood is understood again when it is written in the plainest way.
fn is_read_back(header: Header) {
    let Header::Ip { transport, source, destination } = header else { return };
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    assert_eq!(from.is_ipv4(), to.is_ipv4());
    let line = format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port());
    let again = parse(line.as_bytes(), Versions::V1);
    let stream = Header::Ip { transport: Transport::Stream, source, destination };
    assert_eq!(again, Ok(Some((stream, line.len()))), "{line:?} for {transport:?}");
}

/// What was understood is what a target is told of it, in one family of addresses.
fn is_sent_on(header: Header, said: Said<'_>) {
    let Header::Ip { source, destination, .. } = header else {
        return assert!(matches!(header, Header::Unix(_)) || said == Said::default());
    };
    let flat = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    for version in [Version::V1, Version::V2] {
        let sent = write::client(version, &Behind { source, destination, said });
        let Ok(Some((Header::Ip { source: from, destination: to, .. }, len))) =
            parse(&sent, Versions::Any)
        else {
            panic!("refused: {:?}", sent.escape_ascii());
        };
        assert_eq!(len, sent.len());
        assert_eq!(from.is_ipv4(), to.is_ipv4());
        assert_eq!((flat(from), flat(to)), (flat(source), flat(destination)));
        let again = Said::of(tlvs(&sent));
        if version == Version::V1 {
            assert_eq!(again, Said::default());
            continue;
        }
        assert_eq!((again.authority, again.unique_id), (said.authority, said.unique_id));
        assert_eq!(again.tls.is_some(), said.tls.is_some());
        assert_eq!(again.tls.map(|t| t.verified), said.tls.map(|t| t.verified));
    }
}
