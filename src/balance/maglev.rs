//! The lookup table of Maglev (Eisenbud et al., NSDI 2016, section 3.4): one memory access finds the owner of a key, equal targets
//! have the same number of entries but for one, and a target that comes or goes takes little more with it than its own keys.
//!
//! Targets take turns in claiming the entries that each likes best; by weight, as stride scheduling has it, where the paper has
//! equal backends only.

use super::{Candidate, mix};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Entries of a table; primes, so that every step visits all of them.
const USUAL: u32 = 65_537;
const LARGE: u32 = 262_139;
/// So many targets may share the usual one: each has 20 entries then, and shares are even within 5 %. It is made in 1 to 8 ms, the
/// large one in 40, which requests wait for: not for a per cent more.
const MANY: usize = 3_276;
/// What weights divide: the distance of two turns of one with weight 1.
const STRIDE: u64 = 1 << 40;
const FREE: u32 = u32::MAX;

/// Whose each entry is.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub(super) owners: Box<[u32]>,
}

impl Table {
    /// A table whose size depends on `of`, not on how many of them are candidates now: otherwise all keys would move
    /// when it changes.
    pub(super) fn new(candidates: &[Candidate], of: usize) -> Table {
        let size = if of.max(candidates.len()) > MANY { LARGE } else { USUAL };
        let mut claims: Vec<Claims> = (0..)
            .zip(candidates)
            .filter(|(_, candidate)| candidate.weight > 0)
            .map(|(at, candidate)| Claims::new(at, candidate, size))
            .collect();
        if claims.is_empty() {
            return Table { owners: Box::default() };
        }
        // By identity, not by index: the order of the list must not decide.
        claims.sort_by_key(|claims| claims.hash);
        let mut owners = vec![FREE; size as usize];
        let mut turns: BinaryHeap<Reverse<(u64, usize)>> =
            (0..claims.len()).map(|turn| Reverse((0, turn))).collect();
        for _ in 0..size {
            let Some(mut turn) = turns.peek_mut() else { break };
            let Reverse((pass, whose)) = &mut *turn;
            let Some(claims) = claims.get_mut(*whose) else { break };
            claims.claim(&mut owners, size);
            *pass += claims.stride;
        }
        Table { owners: owners.into() }
    }

    /// The owner of `key`, and those of the entries behind it.
    pub(super) fn owners(&self, key: u64) -> impl Iterator<Item = usize> {
        let at = super::from_cursor(key, self.owners.len()).unwrap_or_default();
        let (before, after) = self.owners.split_at_checked(at).unwrap_or_default();
        after.iter().chain(before).map(|owner| *owner as usize)
    }
}

/// One candidate on its way through the entries.
struct Claims {
    hash: u64,
    at: u32,
    next: u32,
    skip: u32,
    stride: u64,
}

impl Claims {
    fn new(at: u32, candidate: &Candidate, size: u32) -> Claims {
        // Two hashes that have nothing to do with each other: an offset and a step from 1 to size - 1.
        let within = |salt: u64, size: u32| {
            let bits = mix(candidate.hash.wrapping_add(salt)) % u64::from(size);
            u32::try_from(bits).unwrap_or_default()
        };
        Claims {
            hash: candidate.hash,
            at,
            next: within(0x9e37_79b9_7f4a_7c15, size),
            skip: within(0x3c6e_f372_fe94_f82a, size - 1) + 1,
            stride: (STRIDE / u64::from(candidate.weight)).max(1),
        }
    }

    /// Takes the next entry in its order that is free; there is one, since no more turns are taken than there are entries.
    fn claim(&mut self, owners: &mut [u32], size: u32) {
        for _ in 0..size {
            let entry = owners.get_mut(self.next as usize);
            self.next += self.skip;
            if self.next >= size {
                self.next -= size;
            }
            if let Some(entry) = entry
                && *entry == FREE
            {
                *entry = self.at;
                return;
            }
        }
    }
}
