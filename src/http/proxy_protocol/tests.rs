//! What a PROXY header may and may not be (HDR-07): tables for each version, every cut, and a round trip.

use super::tlv::{CRC32C, crc32c_without};
use super::*;
use proptest::prelude::*;

/// Parses the whole, and holds every prefix to the same verdict or to `None`.
#[track_caller]
fn verdict(input: &[u8], accepted: Versions) -> Result<Option<(Header, usize)>, Malformed> {
    let whole = parse(input, accepted);
    for cut in 0..input.len() {
        let (part, text) = (parse(&input[..cut], accepted), input.escape_ascii());
        let agrees = match (&part, &whole) {
            (Ok(None), Ok(Some((_, len)))) => cut < *len,
            (Ok(None), _) => true,
            _ => part == whole,
        };
        assert!(agrees, "{cut} octets of {text} are {part:?}, the whole is {whole:?}");
    }
    whole
}

#[track_caller]
fn check(input: &[u8], accepted: Versions, expected: Result<Option<(Header, usize)>, Malformed>) {
    assert_eq!(verdict(input, accepted), expected, "{}", input.escape_ascii());
}

/// A header that is complete, with a request behind it, for whoever takes its version and for nobody else.
#[track_caller]
fn is(header: &[u8], own: Versions, expected: Header) {
    let other = if own == Versions::V1 { Versions::V2 } else { Versions::V1 };
    for rest in [&b""[..], b"GET / HTTP/1.1\r\n", b"\r\n\r\n", b"PROXY TCP4 "] {
        let input = [header, rest].concat();
        check(&input, own, Ok(Some((expected, header.len()))));
        check(&input, Versions::Any, Ok(Some((expected, header.len()))));
        check(&input, other, Err(Malformed::Signature));
    }
}

#[track_caller]
fn refuses(input: &[u8], expected: Malformed) {
    check(input, Versions::Any, Err(expected));
}

fn ip(transport: Transport, source: &str, destination: &str) -> Header {
    Header::Ip {
        transport,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn stream(source: &str, destination: &str) -> Header {
    ip(Transport::Stream, source, destination)
}

/// A version 2 header, its length that of `body`.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, body].concat()
}

/// 192.0.2.1:4660 to 198.51.100.2:443.
const INET: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];

fn inet_with(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&INET, tlvs].concat())
}

/// Fills in the four octets at `at` with the checksum.
fn sealed(mut header: Vec<u8>, at: usize) -> Vec<u8> {
    let crc = crc32c_without(&header, at).to_be_bytes();
    header[at..at + 4].copy_from_slice(&crc);
    header
}

#[test]
fn version_1_names_the_client() {
    let cases: &[(&str, Header)] = &[
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n",
            stream("192.0.2.1:4660", "198.51.100.2:443"),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            stream("255.255.255.255:65535", "255.255.255.255:65535"),
        ),
        ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", stream("0.0.0.0:0", "0.0.0.0:0")),
        ("PROXY TCP6 ::1 2001:DB8::a 1 2\r\n", stream("[::1]:1", "[2001:db8::a]:2")),
        ("PROXY TCP6 ::ffff:192.0.2.1 :: 1 2\r\n", stream("[::ffff:192.0.2.1]:1", "[::]:2")),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            stream(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
        ("PROXY UNKNOWN\r\n", Header::Unknown),
        ("PROXY UNKNOWN ffff:f...f:ffff whatever 65535\r\n", Header::Unknown),
    ];
    for (text, expected) in cases {
        is(text.as_bytes(), Versions::V1, *expected);
    }
    // The longest line of the specification's list, which has exactly the most octets that there may be.
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LONGEST - 16));
    assert_eq!(longest.len(), V1_LONGEST);
    is(longest.as_bytes(), Versions::V1, Header::Unknown);
}

#[test]
fn version_1_refuses_everything_else() {
    let cases: &[(&str, Malformed)] = &[
        ("GET / HTTP/1.1\r\n", Malformed::Signature),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Signature),
        (" PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Signature),
        ("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Signature),
        ("PROXY\r\n", Malformed::Signature),
        ("PROXY \r\n", Malformed::Words),
        ("PROXY TCP4\r\n", Malformed::Words),
        ("PROXY TCP4 \r\n", Malformed::Address),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Words),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Words),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Words),
        ("PROXY UNKNOWNS\r\n", Malformed::Words),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4\r\n", Malformed::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Malformed::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", Malformed::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", Malformed::Words),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.4.5 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.00 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 0x1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 +1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 localhost 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 ::1 ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 [::1] ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 1::2::3 ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 10000:: ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP6 00001:: ::1 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4\t1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.\u{661} 1.2.3.4 1 1\r\n", Malformed::Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 100000\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 4294967297 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 0x1 1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1  1\r\n", Malformed::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", Malformed::Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\r\n", Malformed::Line),
        ("PROXY UNKNOWN\rx\r\n", Malformed::Line),
        ("PROXY UNKNOWN\n\r\n", Malformed::Line),
    ];
    for (text, expected) in cases {
        refuses(text.as_bytes(), *expected);
    }
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_LONGEST - 15));
    refuses(too_long.as_bytes(), Malformed::Line);
    refuses(&[b"PROXY ".as_slice(), &[b'x'; V1_LONGEST]].concat(), Malformed::Line);
}

#[test]
fn version_2_names_the_client() {
    let inet6: Vec<u8> = (0..36).collect();
    let six =
        ("[1:203:405:607:809:a0b:c0d:e0f]:8225", "[1011:1213:1415:1617:1819:1a1b:1c1d:1e1f]:8739");
    let (stream, datagram) = (Transport::Stream, Transport::Datagram);
    let cases: &[(Vec<u8>, Header)] = &[
        (v2(0x21, 0x11, &INET), ip(stream, "192.0.2.1:4660", "198.51.100.2:443")),
        (v2(0x21, 0x12, &INET), ip(datagram, "192.0.2.1:4660", "198.51.100.2:443")),
        (v2(0x21, 0x21, &inet6), ip(stream, six.0, six.1)),
        (v2(0x21, 0x22, &inet6), ip(datagram, six.0, six.1)),
        (v2(0x21, 0x31, &[b'/'; 216]), Header::Unix(stream)),
        (v2(0x21, 0x32, &[0; 216]), Header::Unix(datagram)),
        (v2(0x21, 0x00, &[]), Header::Unknown),
        (v2(0x21, 0x00, &[0xff; 7]), Header::Unknown),
        (v2(0x20, 0x00, &[]), Header::Local),
        // "The receiver must ... discard the protocol block including the family which is ignored."
        (v2(0x20, 0xff, &[0xff; 7]), Header::Local),
        (v2(0x20, 0x11, &[]), Header::Local),
        (v2(0x20, 0x00, &[0; V2_LENGTH]), Header::Local),
    ];
    for (octets, expected) in cases {
        is(octets, Versions::V2, *expected);
    }
}

#[test]
fn version_2_refuses_everything_else() {
    let start = v2(0x21, 0x11, &INET);
    for at in 0..V2_SIGNATURE.len() {
        let mut bent = start.clone();
        bent[at] ^= 0x20;
        refuses(&bent, Malformed::Signature);
    }
    let mut long = v2(0x20, 0x00, &[0; V2_LENGTH]);
    long[14..16].copy_from_slice(&4097u16.to_be_bytes());
    refuses(&long, Malformed::Length);
    for command in (0..=255).filter(|c| !matches!(c, 0x20 | 0x21)) {
        refuses(&v2(command, 0x11, &INET), Malformed::Command);
    }
    for family in 0..=255 {
        if !matches!(family, 0 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) {
            refuses(&v2(0x21, family, &[0; 216]), Malformed::Family);
        }
    }
    for (family, least) in [(0x11, 12), (0x22, 36), (0x31, 216)] {
        refuses(&v2(0x21, family, &vec![0; least - 1]), Malformed::Length);
        refuses(&v2(0x21, family, &[]), Malformed::Length);
        refuses(&v2(0x21, family, &vec![0; least + 1]), Malformed::Tlv);
    }
}

#[test]
fn version_2_walks_its_tlvs() {
    let client = stream("192.0.2.1:4660", "198.51.100.2:443");
    for fine in [
        &[0x04, 0, 0][..],
        &[0x01, 0, 2, b'h', b'2', 0x02, 0, 1, b'a'],
        &[0xea, 0, 3, 1, b'v', b'p'],
        &[0x04, 0, 0, 0x04, 0, 0, 0x04, 0, 0],
    ] {
        is(&inet_with(fine), Versions::V2, client);
    }
    for cut in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 0, 0, 2], &[1, 0xff, 0xff], &[1, 0, 2, b'a']] {
        refuses(&inet_with(cut), Malformed::Tlv);
    }
}

#[test]
fn version_2_verifies_the_checksum() {
    let client = stream("192.0.2.1:4660", "198.51.100.2:443");
    let bare = inet_with(&[3, 0, 4, 0, 0, 0, 0]);
    let good = sealed(bare.clone(), 31);
    is(&good, Versions::V2, client);
    is(
        &sealed(inet_with(&[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0, 2, 0, 1, 9]), 35),
        Versions::V2,
        client,
    );
    for at in 16..good.len() {
        // What is no length or type any more is malformed in another way.
        if !(28..31).contains(&at) {
            let mut bent = good.clone();
            bent[at] ^= 1;
            refuses(&bent, Malformed::Checksum);
        }
    }
    refuses(&bare, Malformed::Checksum);
    refuses(&inet_with(&[3, 0, 0]), Malformed::Checksum);
    refuses(&inet_with(&[3, 0, 3, 0, 0, 0]), Malformed::Checksum);
    refuses(&inet_with(&[3, 0, 5, 0, 0, 0, 0, 0]), Malformed::Checksum);
    let twice = sealed(inet_with(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0]), 31);
    refuses(&twice, Malformed::Checksum);
}

#[test]
fn nothing_is_decided_too_early() {
    for accepted in [Versions::V1, Versions::V2, Versions::Any] {
        check(b"", accepted, Ok(None));
    }
    check(b"P", Versions::Any, Ok(None));
    check(b"\r", Versions::Any, Ok(None));
    check(b"\r\n\r\n\0\r\nQUIT\n", Versions::V2, Ok(None));
    check(b"P", Versions::V2, Err(Malformed::Signature));
    check(b"\r", Versions::V1, Err(Malformed::Signature));
    check(b"\r\n\r\nG", Versions::Any, Err(Malformed::Signature));
    check(&b"PROXY ".repeat(17)[..V1_LONGEST - 6], Versions::V1, Ok(None));
}

#[test]
fn only_an_address_is_a_source() {
    let header = stream("192.0.2.1:4660", "198.51.100.2:443");
    assert_eq!(header.source(), Some("192.0.2.1:4660".parse().unwrap()));
    for header in [Header::Local, Header::Unknown, Header::Unix(Transport::Stream)] {
        assert_eq!(header.source(), None);
    }
}

/// Two addresses of one family.
fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 4], u128)>().prop_map(|(a, b)| {
            (IpAddr::V6(Ipv4Addr::from(a).to_ipv6_mapped()), Ipv6Addr::from(b & 0xff << 120).into())
        }),
    ]
}

const STARTS: &[&[u8]] = &[
    b"",
    b"PROXY ",
    b"PROXY TCP4 ",
    V2_SIGNATURE,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x30",
];

proptest! {
    #[test]
    fn what_version_1_writes_is_read(
        ips in addresses(), from: u16, to: u16, rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let family = if ips.0.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {} {} {from} {to}\r\n", ips.0, ips.1);
        let expected = Header::Ip {
            transport: Transport::Stream,
            source: SocketAddr::new(ips.0, from),
            destination: SocketAddr::new(ips.1, to),
        };
        let input = [line.as_bytes(), &rest].concat();
        prop_assert_eq!(verdict(&input, Versions::Any), Ok(Some((expected, line.len()))));
    }

    #[test]
    fn what_version_2_writes_is_read(
        ips in addresses(), from: u16, to: u16, datagram: bool,
        tlvs in prop::collection::vec((0x30u8.., prop::collection::vec(any::<u8>(), 0..9)), 0..4),
        checksum: bool,
    ) {
        let mut body = Vec::new();
        for ip in [ips.0, ips.1] {
            match ip {
                IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
            }
        }
        let family = if body.len() == 8 { 0x11 } else { 0x21 };
        body.extend_from_slice(&from.to_be_bytes());
        body.extend_from_slice(&to.to_be_bytes());
        if checksum {
            body.extend_from_slice(&[CRC32C, 0, 4, 0, 0, 0, 0]);
        }
        let at = V2_START + body.len() - 4;
        for (kind, value) in &tlvs {
            body.extend_from_slice(&[*kind, 0, value.len() as u8]);
            body.extend_from_slice(value);
        }
        let mut header = v2(0x21, family + u8::from(datagram), &body);
        if checksum {
            header = sealed(header, at);
        }
        let expected = Header::Ip {
            transport: if datagram { Transport::Datagram } else { Transport::Stream },
            source: SocketAddr::new(ips.0, from),
            destination: SocketAddr::new(ips.1, to),
        };
        prop_assert_eq!(verdict(&header, Versions::Any), Ok(Some((expected, header.len()))));
    }

    #[test]
    fn no_octets_make_it_panic_or_take_more_than_there_is(
        start in prop::sample::select(STARTS),
        more in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let input = [start, &more].concat();
        for accepted in [Versions::V1, Versions::V2, Versions::Any] {
            if let Ok(Some((_, len))) = verdict(&input, accepted) {
                prop_assert!(len <= input.len());
            }
        }
    }
}
