//! Content codings: what decoders make of any octets at all is the same however they are cut, and never more than it may be;
//! what encoders make of them becomes the same again.
//!
//! The first octet says which codings, the rest is the body.

use super::split::splits;
use ringgate::transform::compress::{
    Accepted, Coding, Decoder, Encoder, Flaw, Limit, codings, decode,
};

const MOST: u64 = 1 << 20;

/// See the module's documentation.
pub fn codings_and_bodies(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let pick = |bits: u8| Coding::ALL[usize::from(bits & 3)];
    let listed = if choice & 0x80 == 0 {
        vec![pick(*choice)]
    } else {
        vec![pick(*choice), pick(*choice >> 2)]
    };
    let limit = Limit::of(MOST);
    let whole = decode(body, &listed, limit);
    if let Ok(out) = &whole {
        assert!(out.len() as u64 <= MOST);
    }
    for ends in splits(body).take(40) {
        let cut = in_pieces(body, &ends, &listed, limit);
        // When it has become too much depends on how far ahead a library has read.
        if cut != Err(Flaw::TooLarge) && whole != Err(Flaw::TooLarge) {
            assert_eq!(cut, whole, "{listed:?} cut at {ends:?}: {:?}", body.escape_ascii());
        }
    }
    let coding = match pick(*choice) {
        Coding::Deflate => Coding::Gzip,
        coding => coding,
    };
    for ends in splits(body).take(8) {
        let octets = encoded(coding, body, &ends);
        assert_eq!(decode(&octets, &[coding], limit), Ok(body.to_vec()), "{coding:?} {ends:?}");
    }
    // What fields say is read without a panic, and what is chosen is acceptable.
    let accepted = Accepted::of(std::iter::once(body));
    if let Some(chosen) = accepted.choose(&Coding::ALL) {
        assert!(accepted.takes(chosen), "{:?}", body.escape_ascii());
    }
    let _ = codings(std::iter::once(body));
}

fn in_pieces(
    body: &[u8],
    ends: &[usize],
    listed: &[Coding],
    limit: Limit,
) -> Result<Vec<u8>, Flaw> {
    let (mut decoder, mut out, mut at) = (Decoder::new(listed, limit), Vec::new(), 0);
    for end in ends {
        decoder.all(&body[at..*end], &mut out)?;
        at = *end;
    }
    decoder.end().map(|()| out)
}

fn encoded(coding: Coding, body: &[u8], ends: &[usize]) -> Vec<u8> {
    let mut encoder = Encoder::new(coding, 1).expect("there is memory");
    let (mut out, mut at) = (Vec::new(), 0);
    for end in ends {
        encoder.data(&body[at..*end], &mut out).expect("the library takes it");
        encoder.pause(&mut out).expect("the library takes it");
        at = *end;
    }
    encoder.end(&mut out).expect("the library takes it");
    out
}
