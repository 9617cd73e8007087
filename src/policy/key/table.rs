//! One word for each of many keys, for all cores, in bounded memory and without locks.
//!
//! A key has a set of seven places. Whether it is there is read without writing anything; a word changes by one compare and
//! swap. A new key takes a free place, or one whose word says that forgetting it loses nothing (`idle`); if there is none, it
//! shares the set's spare word with others of its kind until there is one, so that a flood of keys never takes the place of
//! one that is in use (hazard RL-05). A key that gets its place later begins with what the spare word says: counted too high
//! perhaps, never too low.
//!
//! Why no key can have two places, and none change hands unseen: keys are written only by who has made the set's version odd,
//! and only while their word is [`BUSY`]; a word never takes a value again that it had before it changed hands (`begin`); and
//! who has counted in the spare word looks at the version again, and takes it back if a key has moved in meanwhile. A core
//! that finds a set odd looks again for about ten microseconds and then gives up: the request is not decided.

use std::array::from_fn;
use std::collections::hash_map::RandomState;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Places of a set.
pub const WAYS: usize = 7;
/// What no word may be: its place is changing hands.
pub const BUSY: u64 = u64::MAX;

// Places for each key that is meant to be remembered. With three, one key in 700 finds its set full when all are in use.
const ROOM: usize = 3;
// How often a set that is being changed is looked at again.
const PATIENCE: usize = 512;

// Two cache lines: who comes reads the first, which is hardly ever written, and writes the second.
#[derive(Debug)]
#[repr(C, align(64))]
struct Set {
    version: AtomicU64,
    keys: [AtomicU64; WAYS],
    spare: AtomicU64,
    words: [AtomicU64; WAYS],
}

/// The table.
#[derive(Debug)]
pub struct Table {
    sets: Box<[Set]>,
    /// What keys are hashed with.
    pub secret: RandomState,
}

/// Where a key's word lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    set: u32,
    // `WAYS` is the spare word.
    way: u8,
}

impl Place {
    /// Whether the key shares its word with others.
    pub fn is_spare(self) -> bool {
        usize::from(self.way) == WAYS
    }
}

/// What the words of a table mean.
pub trait Words {
    /// What a change means.
    type Outcome;
    /// Whether forgetting this word loses nothing.
    fn idle(&self, word: u64) -> bool;
    /// The word of a key that moves in where `old` was, and that was counted in `spare` until now. Never `old`, nor anything
    /// that a word was before it became `old`.
    fn begin(&self, key: u64, old: u64, spare: u64) -> u64;
    /// What becomes of a word (`None` if it stays as it is), and what that means. `spare` is the set's spare word, or zero where
    /// `word` is that.
    fn change(&self, word: u64, spare: u64) -> (Option<u64>, Self::Outcome);
    /// What a change of the spare word has added, where it is to be taken back.
    fn undo(&self, outcome: &Self::Outcome) -> u64;
}

enum Found {
    At(usize),
    Room(usize, u64),
    Full,
}

impl Table {
    /// A table that remembers `keys` at the same time, in about 55 octets each.
    pub fn new(keys: usize) -> Table {
        Table::with_secret(keys, RandomState::new())
    }

    /// As [`Table::new`], hashing as another table does.
    pub fn with_secret(keys: usize, secret: RandomState) -> Table {
        let zero = || from_fn(|_| AtomicU64::new(0));
        let set = || Set {
            version: AtomicU64::new(0),
            keys: zero(),
            spare: AtomicU64::new(0),
            words: zero(),
        };
        let sets = keys.saturating_mul(ROOM).div_ceil(WAYS).max(1);
        Table { sets: (0..sets).map(|_| set()).collect(), secret }
    }

    /// The memory that it takes.
    pub fn octets(&self) -> usize {
        size_of_val(&*self.sets)
    }

    /// Changes the word of a key, which is given a place if it has none. `None` where another core holds the set up for so
    /// long that nothing can be decided.
    #[inline]
    pub fn change<W: Words>(&self, key: u64, words: &W) -> Option<(Place, W::Outcome)> {
        let at = self.set_of(key);
        let set = self.sets.get(at)?;
        let place = |way: usize| Place { set: at as u32, way: way as u8 };
        for _ in 0..PATIENCE {
            let version = set.version.load(SeqCst);
            match set.find(key, words) {
                Found::At(way) => {
                    if let Some(outcome) = set.change(way, key, words) {
                        return Some((place(way), outcome));
                    }
                }
                _ if version & 1 == 1 => std::hint::spin_loop(),
                // Then it is found.
                Found::Room(way, old) => set.move_in(version, way, old, key, words),
                Found::Full => {
                    if let Some(outcome) = set.change_spare(version, words) {
                        return Some((place(WAYS), outcome));
                    }
                }
            }
        }
        None
    }

    /// Changes the word of a key that has a place of its own; nothing happens where it has none.
    pub fn change_known(&self, key: u64, change: impl Fn(u64) -> u64) {
        let Some(set) = self.sets.get(self.set_of(key)) else { return };
        let Some(way) = set.keys.iter().position(|k| k.load(Acquire) == key) else { return };
        let (Some(word), Some(owner)) = (set.words.get(way), set.keys.get(way)) else { return };
        loop {
            let old = word.load(Acquire);
            if owner.load(Acquire) != key || old == BUSY {
                return;
            }
            if word.compare_exchange_weak(old, change(old), SeqCst, Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Subtracts from a word that cannot become idle meanwhile.
    #[inline]
    pub fn subtract(&self, place: Place, amount: u64) {
        let Some(set) = self.sets.get(place.set as usize) else { return };
        set.words.get(usize::from(place.way)).unwrap_or(&set.spare).fetch_sub(amount, SeqCst);
    }

    /// Sets the word of a key, which is given a place if it has none; a word of zero is what it has without.
    pub fn put(&self, key: u64, word: u64) {
        if word != 0 {
            self.change(key, &Put(word));
        }
    }

    /// What a key is counted in, whether it has a place of its own or not.
    pub fn word(&self, key: u64) -> u64 {
        let Some(set) = self.sets.get(self.set_of(key)) else { return 0 };
        let own = set.keys.iter().zip(&set.words).find(|(owner, _)| owner.load(Acquire) == key);
        let word = own.map_or(&set.spare, |(_, word)| word).load(Acquire);
        if word == BUSY { set.spare.load(Acquire) } else { word }
    }

    // The upper bits choose; the lower ones are compared as well.
    #[inline]
    fn set_of(&self, key: u64) -> usize {
        ((u128::from(key) * self.sets.len() as u128) >> 64) as usize
    }
}

struct Put(u64);

impl Words for Put {
    type Outcome = ();

    fn idle(&self, word: u64) -> bool {
        word == 0
    }

    fn begin(&self, _: u64, _: u64, _: u64) -> u64 {
        self.0
    }

    fn change(&self, _: u64, _: u64) -> (Option<u64>, ()) {
        (Some(self.0), ())
    }

    fn undo(&self, (): &()) -> u64 {
        0
    }
}

impl Set {
    #[inline]
    fn find<W: Words>(&self, key: u64, words: &W) -> Found {
        if let Some(way) = self.keys.iter().position(|k| k.load(Acquire) == key) {
            return Found::At(way);
        }
        for (way, (key, word)) in self.keys.iter().zip(&self.words).enumerate() {
            let word = word.load(Acquire);
            if word != BUSY && (key.load(Acquire) == 0 || words.idle(word)) {
                return Found::Room(way, word);
            }
        }
        Found::Full
    }

    // `None` where the place has changed hands.
    #[inline]
    fn change<W: Words>(&self, way: usize, key: u64, words: &W) -> Option<W::Outcome> {
        let (word, owner) = (self.words.get(way)?, self.keys.get(way)?);
        loop {
            // The word before the key: if the word is the same when it is swapped, the key was this all the time.
            let old = word.load(Acquire);
            if owner.load(Acquire) != key || old == BUSY {
                return None;
            }
            let (new, outcome) = words.change(old, self.spare.load(SeqCst));
            let Some(new) = new else { return Some(outcome) };
            if word.compare_exchange_weak(old, new, SeqCst, Relaxed).is_ok() {
                return Some(outcome);
            }
        }
    }

    // `None` where a key has moved in meanwhile: it may be this one.
    fn change_spare<W: Words>(&self, version: u64, words: &W) -> Option<W::Outcome> {
        loop {
            let old = self.spare.load(SeqCst);
            let (new, outcome) = words.change(old, 0);
            let Some(new) = new else { return Some(outcome) };
            if self.spare.compare_exchange_weak(old, new, SeqCst, Relaxed).is_err() {
                continue;
            }
            if self.version.load(SeqCst) == version {
                return Some(outcome);
            }
            self.spare.fetch_sub(words.undo(&outcome), SeqCst);
            return None;
        }
    }

    fn move_in<W: Words>(&self, version: u64, way: usize, old: u64, key: u64, words: &W) {
        if self.version.compare_exchange(version, version + 1, SeqCst, Relaxed).is_err() {
            return;
        }
        if let (Some(word), Some(owner)) = (self.words.get(way), self.keys.get(way))
            && word.compare_exchange(old, BUSY, SeqCst, Relaxed).is_ok()
        {
            owner.store(key, Release);
            word.store(words.begin(key, old, self.spare.load(SeqCst)), Release);
        }
        self.version.store(version + 2, SeqCst);
    }
}
