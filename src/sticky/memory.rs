//! What a core remembers of cookies that it has opened: the octets of a cookie that comes again need not be opened again.
//!
//! A table of fixed size in which each cookie has one place; whoever comes later has it. Only cookies that opened get in, so
//! that nobody fills it with what he has made up. Where a cookie lies is told by its last octets, which no client chooses:
//! they are those of the seal. Called by `cookie`.

use crate::sticky::token::{TEXT, Token};

/// How many cookies are remembered.
pub const MOST: usize = 4096;

/// What was opened.
#[derive(Debug, Default)]
pub struct Memory {
    // Nothing before the first cookie.
    slots: Vec<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    owner: u64,
    text: [u8; TEXT],
    token: Token,
}

// No cookie has such a text.
const NOTHING: Slot = Slot { owner: 0, text: [0; TEXT], token: Token { about: 0, sealed: 0 } };

impl Memory {
    /// What a cookie of this owner says, if it was opened before.
    #[inline]
    pub fn find(&self, owner: u64, text: &[u8; TEXT]) -> Option<Token> {
        let slot = self.slots.get(place(owner, text))?;
        (slot.owner == owner && slot.text == *text).then_some(slot.token)
    }

    /// Remembers it.
    pub fn keep(&mut self, owner: u64, text: &[u8; TEXT], token: Token) {
        if self.slots.is_empty() {
            self.slots = vec![NOTHING; MOST];
        }
        if let Some(slot) = self.slots.get_mut(place(owner, text)) {
            *slot = Slot { owner, text: *text, token };
        }
    }
}

#[inline]
fn place(owner: u64, text: &[u8; TEXT]) -> usize {
    let last = text.last_chunk::<8>().copied().unwrap_or_default();
    let mixed = (u64::from_le_bytes(last) ^ owner).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> 52).unwrap_or_default() % MOST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sealed::{base64url, random};

    #[test]
    fn remembers_for_whom_it_was_and_holds_no_more_than_it_may() {
        let mut memory = Memory::default();
        let token = Token { about: 7, sealed: 9 };
        assert_eq!(memory.find(0, &[0; TEXT]), None);
        let text =
            || -> [u8; TEXT] { base64url(&random::<45>().unwrap()).as_bytes().try_into().unwrap() };
        let first = text();
        memory.keep(1, &first, token);
        assert_eq!(memory.find(1, &first), Some(token));
        assert_eq!(memory.find(2, &first), None);
        let texts: Vec<[u8; TEXT]> = (0..2 * MOST).map(|_| text()).collect();
        for (at, text) in texts.iter().enumerate() {
            let token = Token { about: at as u64, sealed: 0 };
            memory.keep(1, text, token);
            assert_eq!(memory.find(1, text), Some(token));
        }
        let known = |text: &&[u8; TEXT]| memory.find(1, text).is_some();
        let known = texts.iter().filter(known).count();
        // Of twice as many as there are places about 0.86 of the places are taken.
        assert!(known > MOST * 7 / 10 && known <= MOST, "{known} of {MOST}");
        assert_eq!(memory.slots.len(), MOST);
    }
}
