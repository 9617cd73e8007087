//! What one core remembers of tokens, so that a signature is verified once and not for every request (ES256 costs several times
//! what a proxied request does).
//!
//! Tokens that were verified lie in a table with bounds on their number and their octets; the least used go first. It is found by a
//! keyed hash and believed only when the whole token is the same (hazard AUTH-22). Those whose signature was wrong lie in a small
//! table apart, so that they can push nothing out; and clients that send many of them are made to wait. Nothing is decided here.
//! Called by the policy.

use crate::base::Tick;
use crate::policy::identity::Claims;
use crate::policy::jwt::verify::Span;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

/// The most octets that one core keeps of tokens and what they say, as estimated.
const MOST_OCTETS: usize = 128 << 20;
/// How many octets of a token's end are hashed: as long a part of its signature tells tokens apart.
const HASHED: usize = 64;
/// How many places are looked at to find one that has not been used lately.
const LOOKED_AT: usize = 64;
/// How many places a sweep looks at.
const SWEPT: usize = 256;
/// How many tokens with wrong signatures are remembered, and for how long.
const REFUSED: usize = 512;
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How many clients' failures are counted, and over which time.
const CLIENTS: usize = 1024;
/// The time over which failures of a client are counted.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(10);

/// A verified token.
#[derive(Debug)]
pub struct Entry {
    /// What it says.
    pub claims: Rc<Claims>,
    /// Field lines for the target, whole.
    pub lines: Rc<[u8]>,
    /// Who it speaks for.
    pub consumer: Rc<str>,
    /// Whether it has the claims and scopes that are asked for.
    pub suffices: bool,
    /// Whose it is: the position of the issuer.
    pub issuer: usize,
    /// Of the keys that it was verified with.
    pub generation: u64,
    /// When it may be used.
    pub span: Span,
    /// Until when it need not be verified again.
    pub until: Tick,
}

struct Slot {
    token: Box<[u8]>,
    hash: u64,
    octets: usize,
    used: bool,
    entry: Entry,
}

/// What one core remembers.
pub struct Memory {
    hasher: RandomState,
    most: usize,
    index: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
    octets: usize,
    refused: Vec<Refused>,
    clients: Vec<Client>,
}

#[derive(Clone, Copy, Default)]
struct Refused {
    hash: [u64; 2],
    generation: u64,
    until: Tick,
}

#[derive(Clone, Copy, Default)]
struct Client {
    network: u128,
    count: u32,
    until: Tick,
}

impl Memory {
    /// Of at most so many tokens. Nothing is allocated before there is something to remember.
    pub fn new(most: usize) -> Memory {
        Memory {
            hasher: RandomState::new(),
            most,
            index: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            octets: 0,
            refused: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What is known of a token, if it was verified, and still holds. `generation` is that of an issuer's keys now.
    ///
    /// Its last octets are hashed, which nobody chooses who has not signed it; and the comparison, which ends at the first
    /// difference, is reached only by those who know them.
    #[inline]
    pub fn find(
        &mut self,
        token: &[u8],
        now: Tick,
        unix: u64,
        generation: impl FnOnce(usize) -> u64,
    ) -> Option<&Entry> {
        let at = *self.index.get(&self.hash(token))?;
        let slot = self.slots.get_mut(at)?.as_mut()?;
        let Entry { issuer, generation: then, span, until, .. } = &slot.entry;
        let holds = *slot.token == *token
            && now < *until
            && (span.from..span.until).contains(&unix)
            && *then == generation(*issuer);
        slot.used = true;
        holds.then_some(&slot.entry)
    }

    /// Remembers a token that was verified. `weight` is how many octets its claims take, as written.
    pub fn insert(&mut self, token: &[u8], weight: usize, entry: Entry) {
        if self.most == 0 {
            return;
        }
        let hash = self.hash(token);
        if let Some(at) = self.index.get(&hash).copied() {
            self.remove(at);
        }
        // A map of strings takes several times what it takes as text.
        let octets = token.len() + weight * 4 + entry.lines.len() + 256;
        while self.index.len() >= self.most || self.octets + octets > MOST_OCTETS {
            if !self.evict() {
                return;
            }
        }
        let slot = Slot { token: token.into(), hash, octets, used: false, entry };
        self.octets += octets;
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
            self.index.insert(hash, at);
        }
    }

    /// Lets go of tokens that are over; a part of the table each time.
    pub fn sweep(&mut self, now: Tick) {
        for _ in 0..SWEPT.min(self.slots.len()) {
            let at = self.advance();
            let over = |slot: &Slot| slot.entry.until <= now;
            if self.slots.get(at).is_some_and(|slot| slot.as_ref().is_some_and(over)) {
                self.remove(at);
            }
        }
    }

    /// Whether the signature of a token is known to be wrong, with the keys of this generation.
    pub fn is_refused(&self, token: &[u8], generation: u64, now: Tick) -> bool {
        if self.refused.is_empty() {
            return false;
        }
        let hash = self.whole_hash(token);
        self.refused.get(place(hash[0], REFUSED)).is_some_and(|refused| {
            refused.hash == hash && refused.generation == generation && now < refused.until
        })
    }

    /// Remembers that it is.
    pub fn refuse(&mut self, token: &[u8], generation: u64, now: Tick) {
        self.refused.resize(REFUSED, Refused::default());
        let hash = self.whole_hash(token);
        if let Some(refused) = self.refused.get_mut(place(hash[0], REFUSED)) {
            *refused = Refused { hash, generation, until: now.after(REFUSED_FOR) };
        }
    }

    /// Until when a client has to wait, because too many of its tokens had wrong signatures.
    pub fn waits(&self, client: IpAddr, most: u32, now: Tick) -> Option<Tick> {
        let network = network(client);
        let known = self.clients.get(place(self.hasher.hash_one(network), CLIENTS))?;
        let waits = known.network == network && known.count >= most && now < known.until;
        waits.then_some(known.until)
    }

    /// Counts a wrong signature of a client.
    pub fn count_failure(&mut self, client: IpAddr, now: Tick) {
        self.clients.resize(CLIENTS, Client::default());
        let network = network(client);
        let at = place(self.hasher.hash_one(network), CLIENTS);
        let Some(known) = self.clients.get_mut(at) else { return };
        if known.until <= now {
            *known = Client { network, count: 0, until: now.after(FAILURE_WINDOW) };
        }
        // Of two clients that meet in a place, the one that has begun counts; the other's turn comes when the time is over.
        if known.network == network {
            known.count = known.count.saturating_add(1);
        }
    }

    fn hash(&self, token: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(token.get(token.len().saturating_sub(HASHED)..).unwrap_or_default());
        hasher.finish()
    }

    fn whole_hash(&self, token: &[u8]) -> [u64; 2] {
        [0u8, 1].map(|salt| {
            let mut hasher = self.hasher.build_hasher();
            hasher.write_u8(salt);
            hasher.write(token);
            hasher.finish()
        })
    }

    // The clock: whoever was used since the hand came by stays for another round.
    fn evict(&mut self) -> bool {
        let mut last = None;
        for _ in 0..self.slots.len() {
            let at = self.advance();
            let Some(Some(slot)) = self.slots.get_mut(at) else { continue };
            last = Some((at, last.map_or(1, |(_, seen)| seen + 1)));
            if !std::mem::take(&mut slot.used) || last.is_some_and(|(_, seen)| seen >= LOOKED_AT) {
                break;
            }
        }
        if let Some((at, _)) = last {
            self.remove(at);
        }
        last.is_some()
    }

    fn advance(&mut self) -> usize {
        let at = self.hand;
        self.hand = if at + 1 < self.slots.len() { at + 1 } else { 0 };
        at
    }

    fn remove(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at).and_then(Option::take) else { return };
        self.index.remove(&slot.hash);
        self.octets -= slot.octets;
        self.free.push(at);
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("tokens", &self.index.len()).finish_non_exhaustive()
    }
}

fn place(hash: u64, places: usize) -> usize {
    usize::try_from(hash).unwrap_or_default() % places
}

/// Of IPv6 the first 64 bits: the rest is the client's to choose.
fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// The key of the index is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only u64 is hashed");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(until: Tick) -> Entry {
        Entry {
            claims: Rc::default(),
            lines: Rc::from(&b""[..]),
            consumer: Rc::from("u"),
            suffices: true,
            issuer: 0,
            generation: 7,
            span: Span { from: 100, until: 200 },
            until,
        }
    }

    fn token(n: usize) -> Vec<u8> {
        format!("{}.{n:0100}", "x".repeat(300)).into_bytes()
    }

    #[test]
    fn holds_until_its_time_or_its_keys_are_over() {
        let mut memory = Memory::new(10);
        let until = Tick::ZERO.after(SECOND);
        memory.insert(&token(1), 100, entry(until));
        let mut check = |n: usize, now: Tick, unix: u64, generation: u64, found: bool| {
            let entry = memory.find(&token(n), now, unix, |_| generation);
            assert_eq!(entry.is_some(), found, "{n} {now:?} {unix} {generation}");
        };
        check(1, Tick::ZERO, 150, 7, true);
        check(2, Tick::ZERO, 150, 7, false);
        check(1, until, 150, 7, false);
        check(1, Tick::ZERO, 99, 7, false);
        check(1, Tick::ZERO, 199, 7, true);
        check(1, Tick::ZERO, 200, 7, false);
        check(1, Tick::ZERO, 150, 8, false);
    }

    #[test]
    fn the_same_signature_below_another_body_is_another_token() {
        let mut memory = Memory::new(10);
        memory.insert(&token(1), 100, entry(Tick::NEVER));
        let mut other = token(1);
        other[0] = b'y';
        assert!(memory.find(&other, Tick::ZERO, 150, |_| 7).is_none());
        memory.insert(&other, 100, entry(Tick::NEVER));
        assert!(memory.find(&other, Tick::ZERO, 150, |_| 7).is_some());
        assert_eq!(memory.len(), 1);
    }

    #[test]
    fn is_bounded_and_keeps_what_is_used() {
        let mut memory = Memory::new(100);
        for n in 0..10_000 {
            memory.insert(&token(n), 100, entry(Tick::NEVER));
            assert!(memory.find(&token(0), Tick::ZERO, 150, |_| 7).is_some(), "{n}");
            assert!(memory.len() <= 100 && memory.slots.len() <= 100);
        }
        let mut none = Memory::new(0);
        none.insert(&token(1), 100, entry(Tick::NEVER));
        assert!(none.is_empty());
    }

    #[test]
    fn is_bounded_in_octets() {
        let mut memory = Memory::new(usize::MAX);
        for n in 0..100 {
            memory.insert(&token(n), MOST_OCTETS / 40, entry(Tick::NEVER));
            assert!(memory.octets <= MOST_OCTETS);
        }
        assert_eq!(memory.len(), 9);
        memory.insert(&token(1000), MOST_OCTETS, entry(Tick::NEVER));
        assert_eq!((memory.len(), memory.octets), (0, 0));
    }

    #[test]
    fn a_sweep_lets_go_of_what_is_over() {
        let mut memory = Memory::new(1000);
        for n in 0..1000 {
            memory.insert(&token(n), 100, entry(Tick::ZERO.after(SECOND * u32::from(n % 2 == 0))));
        }
        for _ in 0..4 {
            memory.sweep(Tick::from_nanos(1));
        }
        assert_eq!(memory.len(), 500);
        for _ in 0..4 {
            memory.sweep(Tick::ZERO.after(SECOND));
        }
        assert_eq!((memory.len(), memory.octets), (0, 0));
    }

    #[test]
    fn wrong_signatures_are_remembered_for_a_while_and_for_their_keys() {
        let mut memory = Memory::new(10);
        assert!(!memory.is_refused(&token(1), 7, Tick::ZERO));
        memory.refuse(&token(1), 7, Tick::ZERO);
        assert!(memory.is_refused(&token(1), 7, Tick::ZERO));
        assert!(!memory.is_refused(&token(1), 8, Tick::ZERO));
        assert!(!memory.is_refused(&token(2), 7, Tick::ZERO));
        assert!(!memory.is_refused(&token(1), 7, Tick::ZERO.after(REFUSED_FOR)));
    }

    #[test]
    fn clients_with_many_wrong_signatures_wait() {
        let mut memory = Memory::new(10);
        let v6 = |host: u128| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | host));
        let (one, other) = (v6(1), IpAddr::from([192, 0, 2, 1]));
        for n in 0..3 {
            assert_eq!(memory.waits(one, 3, Tick::ZERO), None, "{n}");
            memory.count_failure(one, Tick::ZERO);
        }
        let end = Tick::ZERO.after(FAILURE_WINDOW);
        assert_eq!(memory.waits(one, 3, Tick::ZERO), Some(end));
        assert_eq!(memory.waits(v6(0xffff), 3, Tick::ZERO), Some(end), "the same /64");
        assert_eq!(memory.waits(other, 3, Tick::ZERO), None);
        assert_eq!(memory.waits(one, 3, end), None);
    }
}
