//! What one cookie says, as octets that are sealed: always of the same length.
//!
//! Sealed are a number and a time, for one purpose (`bound`): elsewhere it does not open. Called by `cookie`.

use crate::base::sealed::Ring;

/// What a cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Of whom, or of what: a hash, or a number that was drawn.
    pub about: u64,
    /// When it was sealed, in seconds since 1970.
    pub sealed: u32,
}

/// The octets of a sealed token as text.
pub const TEXT: usize = 60;
// As many octets as that spells.
const ROOM: usize = 45;

impl Token {
    /// Seals it; `None` where the system has no randomness.
    pub fn seal(self, ring: &Ring, bound: &[u8]) -> Option<String> {
        let plain = [&self.about.to_be_bytes()[..], &self.sealed.to_be_bytes()].concat();
        ring.seal(bound, plain)
    }

    /// Opens what [`Token::seal`] made with the same `bound`; `None` for anything else.
    pub fn open(ring: &Ring, bound: &[u8], text: &[u8; TEXT]) -> Option<Token> {
        let mut room = [0; ROOM];
        let (plain, _) = ring.open_in(bound, text, &mut room)?;
        let (about, sealed) = plain.split_first_chunk()?;
        let sealed = u32::from_be_bytes(sealed.try_into().ok()?);
        Some(Token { about: u64::from_be_bytes(*about), sealed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sealed::Secret;

    // UP-22: what was changed, or made for something else, says nothing.
    #[test]
    fn a_token_is_of_one_length_and_opens_where_it_was_made_for() {
        let ring = Ring::of(crate::sticky::DOMAIN, &[Secret::new(&[1; 32])]).unwrap();
        for token in [
            Token { about: 0, sealed: 0 },
            Token { about: u64::MAX, sealed: u32::MAX },
            Token { about: 0x0123_4567_89ab_cdef, sealed: 1_790_000_000 },
        ] {
            let text = token.seal(&ring, b"here").unwrap();
            let mut text: [u8; TEXT] = text.as_bytes().try_into().unwrap();
            assert_eq!(Token::open(&ring, b"here", &text), Some(token));
            assert_eq!(Token::open(&ring, b"there", &text), None);
            for at in 0..TEXT {
                let before = text[at];
                text[at] = if before == b'A' { b'B' } else { b'A' };
                assert_eq!(Token::open(&ring, b"here", &text), None, "octet {at}");
                text[at] = before;
            }
        }
        // Sealed octets of another length are no token.
        let other = ring.seal(b"here", vec![0; 11]).unwrap();
        assert_ne!(other.len(), TEXT);
    }
}
