//! Base64 in pieces, as gRPC-Web's text form has it, against a reading of whole groups, and against itself however the
//! body is cut.
//!
//! The input is the text of a body as it arrives, and then, as octets, what is put into base64.

use super::split::splits;
use ringgate::http::grpc_web::{Decoder, Encoder, Malformed};

/// The octets, and whether the text ends where it may.
type Decoded = Result<(Vec<u8>, bool), Malformed>;

/// See the module's documentation.
pub fn grpc_web(data: &[u8]) {
    let whole = decode(data, &[data.len()]);
    if let Some(expected) = reference(data) {
        assert_eq!(whole, Ok((expected, true)), "{:?}", data.escape_ascii());
    } else {
        assert!(!matches!(whole, Ok((_, true))), "{:?}", data.escape_ascii());
    }
    let text = encode(data, &[data.len()]);
    assert_eq!(decode(&text, &[text.len()]), Ok((data.to_vec(), true)));
    for ends in splits(data) {
        assert_eq!(decode(data, &ends), whole, "cut at {ends:?}: {:?}", data.escape_ascii());
        assert_eq!(encode(data, &ends), text, "cut at {ends:?}: {:?}", data.escape_ascii());
    }
}

fn decode(data: &[u8], ends: &[usize]) -> Decoded {
    let (mut decoder, mut out, mut at) = (Decoder::default(), Vec::new(), 0);
    for end in ends {
        decoder.decode(&data[at..*end], &mut out)?;
        at = *end;
    }
    Ok((out, decoder.is_whole()))
}

fn encode(data: &[u8], ends: &[usize]) -> Vec<u8> {
    let (mut encoder, mut out, mut at) = (Encoder::default(), Vec::new(), 0);
    for end in ends {
        encoder.encode(&data[at..*end], &mut out);
        at = *end;
    }
    encoder.flush(&mut out);
    out
}

/// RFC 4648 section 4, a group at a time, each of which may be padded; `None` for what is not whole groups.
fn reference(data: &[u8]) -> Option<Vec<u8>> {
    let alphabet: Vec<u8> =
        (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*b"+/").collect();
    let mut out = Vec::new();
    for group in data.chunks(4) {
        let padding = group.iter().rev().take_while(|b| **b == b'=').count();
        if group.len() != 4 || padding > 2 {
            return None;
        }
        let mut bits = String::new();
        for octet in &group[..4 - padding] {
            let value = alphabet.iter().position(|a| a == octet)?;
            bits.push_str(&format!("{value:06b}"));
        }
        let (octets, rest) = bits.split_at(bits.len() / 8 * 8);
        if rest.contains('1') {
            return None;
        }
        for start in (0..octets.len()).step_by(8) {
            out.push(u8::from_str_radix(&octets[start..start + 8], 2).ok()?);
        }
    }
    Some(out)
}
