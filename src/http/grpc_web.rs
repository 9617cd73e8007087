//! gRPC-Web (PROTOCOL-WEB.md): calls of browsers, which can neither read trailers nor speak HTTP/2 as gRPC needs it.
//!
//! Its body holds gRPC's messages, then the trailers as one more frame; in the text form all of it is in base64, in as
//! many padded pieces as the sender likes. Pure, and indifferent to how the network cuts a body. Called by `proxy`.

/// The text of a body is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Takes base64 apart that arrives in pieces (RFC 4648 section 4). Padding ends a group of four, not the text: senders
/// encode each message by itself.
#[derive(Debug, Default)]
pub struct Decoder {
    // What has arrived of a group, most significant first.
    group: u32,
    // Characters of it, padding included.
    have: u8,
    padding: u8,
}

impl Decoder {
    /// Appends what `text` stands for to `out`.
    ///
    /// # Errors
    /// [`Malformed`] at an octet that base64 does not have, at padding that is misplaced, and at bits that mean nothing.
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.reserve(text.len() / 4 * 3 + 3);
        for octet in text {
            match (octet, value(*octet)) {
                (b'=', _) if self.have >= 2 => self.padding += 1,
                (_, Some(value)) if self.padding == 0 => {
                    self.group |= u32::from(value) << (18 - 6 * u32::from(self.have));
                }
                _ => return Err(Malformed),
            }
            self.have += 1;
            if self.have == 4 {
                self.end_group(out)?;
            }
        }
        Ok(())
    }

    fn end_group(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let [_, a, b, c] = self.group.to_be_bytes();
        match (self.padding, a, b, c) {
            (0, a, b, c) => out.extend_from_slice(&[a, b, c]),
            (1, a, b, 0) => out.extend_from_slice(&[a, b]),
            (2, a, 0, 0) => out.push(a),
            _ => return Err(Malformed),
        }
        *self = Decoder::default();
        Ok(())
    }

    /// Whether the text may end here.
    pub fn is_whole(&self) -> bool {
        self.have == 0
    }
}

fn value(octet: u8) -> Option<u8> {
    match octet {
        b'A'..=b'Z' => Some(octet - b'A'),
        b'a'..=b'z' => Some(octet - b'a' + 26),
        b'0'..=b'9' => Some(octet - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Puts octets into base64 as they come; up to two wait for the next ones, so that there is padding only where the
/// sender pauses or ends.
#[derive(Debug, Default)]
pub struct Encoder {
    rest: [u8; 2],
    have: usize,
}

impl Encoder {
    /// Appends the text of `octets` to `out`, as far as they fill groups of three.
    pub fn encode(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len().div_ceil(3) * 4 + 4);
        if self.have > 0 {
            let missing = (3 - self.have).min(octets.len());
            let (first, more) = octets.split_at(missing);
            let mut group = [0; 3];
            for (slot, octet) in group.iter_mut().zip(self.rest.iter().take(self.have).chain(first))
            {
                *slot = *octet;
            }
            if self.have + missing < 3 {
                self.keep(group.get(..self.have + missing).unwrap_or_default());
                return;
            }
            quad(group, out);
            self.have = 0;
            octets = more;
        }
        let mut groups = octets.chunks_exact(3);
        for group in &mut groups {
            if let [a, b, c] = group {
                quad([*a, *b, *c], out);
            }
        }
        self.keep(groups.remainder());
    }

    fn keep(&mut self, octets: &[u8]) {
        self.have = octets.len().min(2);
        for (slot, octet) in self.rest.iter_mut().zip(octets) {
            *slot = *octet;
        }
    }

    /// Appends what waits, padded: the receiver must not be kept waiting for it.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let [a, b] = self.rest;
        let (group, padding) = match self.have {
            0 => return,
            1 => ([a, 0, 0], 2),
            _ => ([a, b, 0], 1),
        };
        quad(group, out);
        out.truncate(out.len() - padding);
        out.extend(std::iter::repeat_n(b'=', padding));
        self.have = 0;
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn quad([a, b, c]: [u8; 3], out: &mut Vec<u8>) {
    let group = u32::from_be_bytes([0, a, b, c]);
    let letter = |shift: u32| ALPHABET.get((group >> shift) as usize & 63).copied().unwrap_or(b'A');
    out.extend_from_slice(&[letter(18), letter(12), letter(6), letter(0)]);
}

/// Marks the frame that holds trailers.
const TRAILERS: u8 = 0x80;

/// The frame that ends a response: its trailers as the lines they are given as, with their names in lower case.
pub fn trailer_frame(trailers: &[u8]) -> Vec<u8> {
    let mut out = vec![TRAILERS, 0, 0, 0, 0];
    for line in trailers.split_inclusive(|b| *b == b'\n') {
        let (name, rest) = line.split_at(memchr::memchr(b':', line).unwrap_or(0));
        out.extend(name.iter().map(u8::to_ascii_lowercase));
        out.extend_from_slice(rest);
    }
    let length = u32::try_from(out.len() - 5).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(slot) = out.get_mut(1..5) {
        slot.copy_from_slice(&length);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, bool), Malformed> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.decode(piece, &mut out)?;
        }
        Ok((out, decoder.is_whole()))
    }

    fn encode(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        pieces.iter().for_each(|piece| encoder.encode(piece, &mut out));
        encoder.flush(&mut out);
        out
    }

    #[test]
    fn text_in_padded_pieces_is_one_body() {
        let text = [STANDARD.encode("a"), STANDARD.encode("bc"), STANDARD.encode("def")].concat();
        assert_eq!(decode(&[text.as_bytes()]), Ok((b"abcdef".to_vec(), true)));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for bad in ["=", "A=", "A===", "AA=A", "AB==", "AAB=", "A A=", "AA\r\n", "A-==", "AA==="] {
            assert_eq!(decode(&[bad.as_bytes()]), Err(Malformed), "{bad}");
        }
        assert_eq!(decode(&[b"AAA"]), Ok((vec![], false)), "a part of a group is no end");
        assert_eq!(decode(&[b""]), Ok((vec![], true)));
    }

    #[test]
    fn trailers_become_the_last_frame() {
        let lines = b"Grpc-Status: 0\r\nx-a: b\r\n";
        let expected = b"\x80\0\0\0\x18grpc-status: 0\r\nx-a: b\r\n";
        assert_eq!(trailer_frame(lines), expected);
        assert_eq!(trailer_frame(b""), [0x80, 0, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn every_split_decodes_as_the_whole(data: Vec<u8>, cut in 0usize..64) {
            let text = STANDARD.encode(&data);
            let expected = Ok((data.clone(), true));
            prop_assert_eq!(&decode(&[text.as_bytes()]), &expected);
            for at in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(at);
                prop_assert_eq!(&decode(&[first, second]), &expected);
            }
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(cut + 1).collect();
            prop_assert_eq!(&decode(&pieces), &expected);
        }

        #[test]
        fn every_split_encodes_as_the_whole(data: Vec<u8>, cut in 0usize..64) {
            let expected = STANDARD.encode(&data).into_bytes();
            for at in 0..=data.len() {
                let (first, second) = data.split_at(at);
                prop_assert_eq!(&encode(&[first, second]), &expected);
            }
            let pieces: Vec<&[u8]> = data.chunks(cut + 1).collect();
            prop_assert_eq!(&encode(&pieces), &expected);
        }

        #[test]
        fn any_text_is_refused_or_decoded_as_the_reference_does(text in "[A-C/+=]{0,12}") {
            let groups: Result<Vec<Vec<u8>>, _> =
                text.as_bytes().chunks(4).map(|group| STANDARD.decode(group)).collect();
            let ours = decode(&[text.as_bytes()]).ok().filter(|(_, whole)| *whole).map(|(d, _)| d);
            prop_assert_eq!(ours, groups.ok().map(|g| g.concat()));
        }
    }
}
