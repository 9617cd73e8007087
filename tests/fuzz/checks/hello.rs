//! ClientHellos that are passed on unanswered (hazard TLS-03): in whatever pieces one comes, it has one meaning, and it is
//! the one that a plain reading of RFC 8446 section 4.1.2 finds.
//!
//! The input is what a client sends first: records, from the first octet of the connection on.

use super::split::splits;
use ringgate::serve::hello::{Hello, Reader};

/// See the module's documentation.
pub fn hello(data: &[u8]) {
    let whole = read(data, &[data.len()]);
    for ends in splits(data) {
        assert_eq!(read(data, &ends), whole, "in pieces that end at {ends:?}");
    }
    let Some(found) = whole else { return };
    let expected = reference(data).expect("what was understood is a ClientHello");
    assert_eq!(found.name, expected.name);
    let alpn = found.alpn.as_deref().map(str::as_bytes);
    let cut = expected.alpn.as_deref().map(|first| &first[..first.len().min(32)]);
    assert_eq!(alpn, cut.map(String::from_utf8_lossy).as_deref().map(str::as_bytes));
}

/// What is made of pieces that end there: `None` when it is refused, which may be as late as the pieces are, or not whole.
fn read(data: &[u8], ends: &[usize]) -> Option<Hello> {
    let (mut reader, mut from) = (Reader::default(), 0);
    for end in ends.iter().copied() {
        if end == from {
            continue;
        }
        match reader.take(&data[from..end], from == 0) {
            Ok(None) => from = end,
            Ok(Some(hello)) => return Some(hello),
            Err(_) => return None,
        }
    }
    None
}

struct Expected {
    name: Option<String>,
    alpn: Option<Vec<u8>>,
}

/// A reading without limits, pieces or refusals: the handshake message out of its records, then its parts.
fn reference(data: &[u8]) -> Option<Expected> {
    let mut message = Vec::new();
    let mut records = Octets(data);
    while message.len() < 4 || message.len() < 4 + length(&message[1..4]) {
        let kind = records.take(1)?[0];
        let _version = records.take(2)?;
        let fragment = records.vector(2)?;
        if kind != 22 {
            return None;
        }
        message.extend_from_slice(fragment.0);
    }
    let mut message = Octets(&message);
    if message.take(1)? != [1] {
        return None;
    }
    let mut hello = message.vector(3)?;
    hello.take(2 + 32)?;
    hello.vector(1)?;
    hello.vector(2)?;
    hello.vector(1)?;
    let mut found = Expected { name: None, alpn: None };
    let mut extensions = hello.vector(2)?;
    while !extensions.0.is_empty() {
        let kind = length(extensions.take(2)?);
        let mut extension = extensions.vector(2)?;
        match kind {
            0 => found.name = name(extension.vector(2)?),
            16 => found.alpn = Some(extension.vector(2)?.vector(1)?.0.to_vec()),
            _ => {}
        }
    }
    Some(found)
}

/// The host name of a list of names (RFC 6066 section 3); addresses are none.
fn name(mut list: Octets<'_>) -> Option<String> {
    let kind = list.take(1)?[0];
    let name = std::str::from_utf8(list.vector(2)?.0).ok()?.to_ascii_lowercase();
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    (kind == 0 && !is_address).then_some(name)
}

struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// What follows a length of so many octets.
    fn vector(&mut self, size: usize) -> Option<Octets<'a>> {
        let length = length(self.take(size)?);
        self.take(length).map(Octets)
    }
}

fn length(octets: &[u8]) -> usize {
    octets.iter().fold(0, |all, octet| (all << 8) | usize::from(*octet))
}
