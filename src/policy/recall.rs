//! What a core remembers of decisions that cost something, for a time and within bounds, by a keyed digest of all they rest on.
//!
//! The key is made anew with each process and never leaves it, so nobody can aim at a place in the table, and a digest that is
//! read somewhere is worth nothing (hazard AUTH-22: the digest covers the full credential). Where there is no room, the one that
//! was not used for longest, about, gives way. Called by `basic`, `introspect` and `forward_auth`.

use crate::base::Tick;
use aws_lc_rs::{digest, rand};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What something is remembered by.
pub type Digest = [u8; 32];

/// The key of digests.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// A key that nobody knows.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new() -> Result<Key, String> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| "no randomness from the system".to_owned())?;
        Ok(Key(key))
    }

    /// Begins a digest.
    pub fn begin(&self) -> Digesting {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.0);
        Digesting(context)
    }

    /// The digest of parts; where one ends and the next begins counts.
    pub fn digest(&self, parts: &[&[u8]]) -> Digest {
        let mut digesting = self.begin();
        parts.iter().for_each(|part| digesting.part(part));
        digesting.finish()
    }
}

/// A digest that is being made.
pub struct Digesting(digest::Context);

impl Digesting {
    /// Adds a part.
    pub fn part(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// A bounded table of what is remembered.
#[derive(Debug)]
pub struct Recall<V> {
    most: usize,
    table: RefCell<Table<V>>,
}

#[derive(Debug)]
struct Table<V> {
    places: HashMap<Digest, usize, BuildHasherDefault<Prefix>>,
    slots: Vec<Slot<V>>,
    // Where the search for a slot to give away, and the sweep, go on.
    hand: usize,
    swept: usize,
}

#[derive(Debug)]
struct Slot<V> {
    digest: Digest,
    value: V,
    until: Tick,
    used: bool,
}

/// How many slots are looked at for one that was not used.
const LOOKS: usize = 16;
/// How many slots one sweep looks at.
const SWEPT: usize = 256;

impl<V: Clone> Recall<V> {
    /// Remembers at most so many.
    pub fn new(most: usize) -> Recall<V> {
        let table = Table { places: HashMap::default(), slots: Vec::new(), hand: 0, swept: 0 };
        Recall { most: most.max(1), table: RefCell::new(table) }
    }

    /// What is remembered.
    pub fn get(&self, digest: &Digest, now: Tick) -> Option<V> {
        let table = &mut *self.table.borrow_mut();
        let place = *table.places.get(digest)?;
        let slot = table.slots.get_mut(place).filter(|slot| now < slot.until)?;
        slot.used = true;
        Some(slot.value.clone())
    }

    /// Remembers something until then.
    pub fn put(&self, digest: Digest, value: V, until: Tick) {
        let table = &mut *self.table.borrow_mut();
        let slot = Slot { digest, value, until, used: false };
        let place = match table.places.get(&digest) {
            Some(place) => *place,
            None if table.slots.len() < self.most => {
                table.places.insert(digest, table.slots.len());
                table.slots.push(slot);
                return;
            }
            None => {
                let place = table.least_used();
                if let Some(old) = table.slots.get(place) {
                    table.places.remove(&old.digest);
                }
                table.places.insert(digest, place);
                place
            }
        };
        if let Some(old) = table.slots.get_mut(place) {
            *old = slot;
        }
    }

    /// Forgets something.
    pub fn remove(&self, digest: &Digest) {
        let table = &mut *self.table.borrow_mut();
        if let Some(place) = table.places.get(digest).copied() {
            table.remove(place);
        }
    }

    /// Takes over all that another one remembers.
    pub fn adopt(&self, other: &Recall<V>) {
        for slot in &other.table.borrow().slots {
            self.put(slot.digest, slot.value.clone(), slot.until);
        }
    }

    /// Lets go of some of what is over; all of it within some calls.
    pub fn sweep(&self, now: Tick) {
        let table = &mut *self.table.borrow_mut();
        for _ in 0..SWEPT.min(table.slots.len()) {
            if table.swept >= table.slots.len() {
                table.swept = 0;
            }
            match table.slots.get(table.swept) {
                Some(slot) if slot.until <= now => table.remove(table.swept),
                _ => table.swept += 1,
            }
        }
    }

    /// How many are remembered, with those that are over but not yet let go.
    pub fn len(&self) -> usize {
        self.table.borrow().slots.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V> Table<V> {
    fn least_used(&mut self) -> usize {
        for _ in 0..LOOKS {
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            match self.slots.get_mut(self.hand) {
                Some(slot) if slot.used => slot.used = false,
                _ => break,
            }
        }
        self.hand
    }

    fn remove(&mut self, place: usize) {
        let removed = self.slots.swap_remove(place);
        self.places.remove(&removed.digest);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.digest, place);
        }
    }
}

/// A digest is its own hash.
#[derive(Default)]
struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        if let Some(first) = octets.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length of an array comes first and says nothing.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    fn at(nanos: u64) -> Tick {
        Tick::from_nanos(nanos)
    }

    #[test]
    fn where_parts_end_counts_and_keys_differ() {
        let key = Key::new().unwrap();
        assert_eq!(key.digest(&[b"a", b"b"]), key.digest(&[b"a", b"b"]));
        let others: [&[&[u8]]; 4] = [&[b"ab"], &[b"", b"ab"], &[b"ab", b""], &[b"b", b"a"]];
        for other in others {
            assert_ne!(key.digest(&[b"a", b"b"]), key.digest(other));
        }
        assert_ne!(Key::new().unwrap().digest(&[b"a"]), key.digest(&[b"a"]));
        assert_eq!(format!("{key:?}"), "Key");
    }

    #[test]
    fn remembers_until_the_time_is_over() {
        let recall = Recall::new(4);
        recall.put(name(1), "a", at(10));
        assert_eq!(recall.get(&name(1), at(9)), Some("a"));
        assert_eq!(recall.get(&name(1), at(10)), None);
        recall.put(name(1), "b", at(20));
        assert_eq!((recall.get(&name(1), at(10)), recall.len()), (Some("b"), 1));
        recall.remove(&name(1));
        assert_eq!((recall.get(&name(1), at(10)), recall.len()), (None, 0));
    }

    #[test]
    fn a_full_table_keeps_what_is_used() {
        let recall = Recall::new(100);
        recall.put(name(0), 0, Tick::NEVER);
        for number in 1..10_000 {
            recall.put(name(number), number, Tick::NEVER);
            assert_eq!(recall.get(&name(0), at(0)), Some(0), "after {number}");
            assert!(recall.len() <= 100);
        }
        assert_eq!(recall.get(&name(9_999), at(0)), Some(9_999));
        assert_eq!(recall.table.borrow().places.len(), 100);
    }

    #[test]
    fn sweeps_let_go_of_what_is_over_and_of_nothing_else() {
        let recall = Recall::new(10_000);
        for number in 0..5_000 {
            recall.put(name(number), number, at(if number % 2 == 0 { 10 } else { 30 }));
        }
        for _ in 0..60 {
            recall.sweep(at(20));
        }
        assert_eq!(recall.len(), 2_500);
        for number in 0..5_000 {
            let expected = (number % 2 == 1).then_some(number);
            assert_eq!(recall.get(&name(number), at(20)), expected);
        }
        let other = Recall::new(10);
        other.adopt(&recall);
        assert_eq!(other.len(), 10);
    }
}
