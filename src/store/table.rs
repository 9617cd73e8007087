//! The places of all keys, and the hands that go round: one makes room, one sweeps out.
//!
//! A key's place depends on its URL alone, so that all that answers one URL is found in one place. The table does not grow: with more responses
//! its places hold more of them. Which places hold anything is marked, so that hands need not look at the others.

use crate::base::Tick;
use crate::cache::{Key, Origin};
use crate::store::bucket::{Bucket, MOST_FLIGHTS};
use crate::store::flight::Mark;
use crate::store::{Entry, Flight, Stamp};
use arc_swap::{ArcSwapOption, Guard};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const PLACES: usize = 1 << 16;
const WORDS: usize = PLACES / 64;
// Places that one call of a sweep looks at, as words of marks: ten calls a second of each worker go round in a few seconds.
const SWEPT: usize = 16;
// What making room for one response looks at: after two rounds what is asked for goes, too, and nothing goes round for ever.
pub(super) const PATIENT_STEPS: usize = PLACES * 2;
pub(super) const MOST_STEPS: usize = PLACES * 8;

pub(super) struct Table {
    slots: Box<[Slot]>,
    // A bit for each place that may hold anything.
    marks: Box<[AtomicU64]>,
    hand: AtomicUsize,
    broom: AtomicUsize,
    // Of this process alone: nobody can choose URLs that share a place (hazard RES-14).
    seed: RandomState,
}

#[derive(Default)]
struct Slot {
    bucket: ArcSwapOption<Bucket>,
    // Grows when something of it is invalidated: what was asked for before is not stored after it.
    turns: AtomicU32,
}

/// What has become more or less.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) octets: i64,
    pub(super) entries: i64,
    pub(super) removed: u64,
    pub(super) evicted: u64,
}

impl Change {
    fn of(before: &Bucket, after: &Bucket) -> Change {
        let (was, is) = (before.entries.len(), after.entries.len());
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Change {
            octets: signed(after.charge()) - signed(before.charge()),
            entries: signed(is as u64) - signed(was as u64),
            removed: was.saturating_sub(is) as u64,
            evicted: 0,
        }
    }
}

/// A bucket as it was found.
pub struct Look<'t> {
    place: usize,
    bucket: Guard<Option<Arc<Bucket>>>,
    stamp: Stamp,
    table: &'t Table,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            slots: (0..PLACES).map(|_| Slot::default()).collect(),
            marks: (0..WORDS).map(|_| AtomicU64::new(0)).collect(),
            hand: AtomicUsize::new(0),
            broom: AtomicUsize::new(0),
            seed: RandomState::new(),
        }
    }
}

impl Look<'_> {
    /// The responses to `key`, in the order in which they were stored.
    pub fn entries<'l>(&'l self, key: &'l Key) -> impl DoubleEndedIterator<Item = &'l Arc<Entry>> {
        let entries = self.bucket.as_ref().map(|bucket| bucket.entries.iter());
        entries.into_iter().flatten().filter(move |entry| entry.key == *key)
    }

    /// What the store looks like.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    pub(super) fn flight(&self, key: &Key, variant: &[u8], personal: bool) -> Option<&Arc<Flight>> {
        let bucket = self.bucket.as_ref()?;
        bucket.flights.iter().find(|flight| flight.is_for(key, variant, personal))
    }

    pub(super) fn is_marked(&self, key: &Key, personal: bool, now: Tick) -> bool {
        let marks = self.bucket.as_ref().map(|bucket| bucket.marks.iter());
        let is = |mark: &Mark| mark.key == *key && mark.personal == personal && mark.until > now;
        marks.into_iter().flatten().any(|mark| is(mark))
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.bucket.as_ref().is_some_and(|bucket| bucket.flights.len() >= MOST_FLIGHTS)
    }
}

impl Table {
    pub(super) fn place(&self, key: &Key) -> usize {
        usize::try_from(self.seed.hash_one(key.url()) % PLACES as u64).unwrap_or(0)
    }

    #[inline]
    pub(super) fn look(&self, key: &Key, purges: u64) -> Look<'_> {
        let place = self.place(key);
        let slot = &self.slots[place];
        let stamp = Stamp { turns: slot.turns.load(Ordering::SeqCst), purges };
        Look { place, bucket: slot.bucket.load(), stamp, table: self }
    }

    pub(super) fn turns_of(&self, key: &Key) -> u32 {
        self.slots[self.place(key)].turns.load(Ordering::SeqCst)
    }

    // Puts a flight into the bucket that was looked at; `None` if it is another by now.
    pub(super) fn enter(&self, look: &Look<'_>, flight: &Arc<Flight>) -> Option<Change> {
        debug_assert!(std::ptr::eq(look.table, self));
        let nothing = Bucket::default();
        let before = look.bucket.as_ref();
        let after = before.map_or(&nothing, |bucket| &**bucket).entered(flight);
        let change = Change::of(before.map_or(&nothing, |bucket| &**bucket), &after);
        let slot = &self.slots[look.place];
        let found = slot.bucket.compare_and_swap(&*look.bucket, Some(Arc::new(after)));
        let same = found.as_ref().map(Arc::as_ptr) == before.map(Arc::as_ptr);
        if same {
            self.mark(look.place);
        }
        same.then_some(change)
    }

    pub(super) fn leave(&self, flight: &Arc<Flight>, mark: Option<&Arc<Mark>>) -> Change {
        let place = self.place(&flight.key);
        let change = self.update(place, |bucket| bucket.left(flight, mark));
        self.mark(place);
        change
    }

    pub(super) fn insert(&self, entry: &Arc<Entry>) -> Change {
        let place = self.place(&entry.key);
        let change = self.update(place, |bucket| bucket.with(entry));
        self.mark(place);
        change
    }

    pub(super) fn renew(&self, old: &Arc<Entry>, new: &Arc<Entry>) -> (bool, Change) {
        let mut renewed = false;
        let change = self.update(self.place(&old.key), |bucket| {
            renewed = bucket.entries.iter().any(|entry| Arc::ptr_eq(entry, old));
            if !renewed {
                return bucket.only(|_| true);
            }
            // What it varies by may be something else now.
            let same = |entry: &Arc<Entry>| entry.key == new.key && entry.variant == new.variant;
            let mut bucket = bucket.only(|entry| !Arc::ptr_eq(entry, old) && !same(entry));
            bucket.entries.push(Arc::clone(new));
            bucket
        });
        (renewed, change)
    }

    pub(super) fn retain(&self, place: usize, keep: impl Fn(&Arc<Entry>) -> bool) -> Change {
        let holds = self.slots[place].bucket.load();
        let Some(bucket) = holds.as_ref() else { return Change::default() };
        if bucket.entries.iter().all(&keep) {
            return Change::default();
        }
        drop(holds);
        self.update(place, |bucket| bucket.only(&keep))
    }

    pub(super) fn retain_until(&self, place: usize, now: Tick) -> Change {
        let holds = self.slots[place].bucket.load();
        let Some(bucket) = holds.as_ref() else {
            self.unmark(place);
            return Change::default();
        };
        let stays = |mark: &Arc<Mark>| mark.until > now;
        if bucket.entries.iter().all(|entry| entry.until > now) && bucket.marks.iter().all(stays) {
            return Change::default();
        }
        drop(holds);
        self.update(place, |bucket| bucket.at(now))
    }

    pub(super) fn mark_stale(
        &self,
        place: usize,
        names: impl Fn(&Entry) -> bool,
        now: Tick,
    ) -> u64 {
        let holds = self.slots[place].bucket.load();
        let entries = holds.as_ref().map(|bucket| bucket.entries.iter()).into_iter().flatten();
        entries.filter(|entry| names(entry) && entry.call_stale(now)).count() as u64
    }

    pub(super) fn invalidate(&self, key: &Key, origin: &Origin) -> Change {
        let place = self.place(key);
        self.slots[place].turns.fetch_add(1, Ordering::SeqCst);
        self.retain(place, |entry| !entry.key.is_of(origin))
    }

    // What nobody asks for goes; with `force` all of it.
    pub(super) fn thin(&self, place: usize, force: bool) -> Change {
        let holds = self.slots[place].bucket.load();
        let Some(bucket) = holds.as_ref() else {
            self.unmark(place);
            return Change::default();
        };
        let cold = bucket.entries.iter().filter(|entry| entry.cool() || force);
        let cold: Vec<_> = cold.cloned().collect();
        if cold.is_empty() && bucket.marks.is_empty() {
            return Change::default();
        }
        drop(holds);
        let mut change = self.update(place, |bucket| {
            let is_cold = |entry: &Arc<Entry>| cold.iter().any(|other| Arc::ptr_eq(entry, other));
            let mut bucket = bucket.only(|entry| !is_cold(entry));
            bucket.marks.clear();
            bucket
        });
        change.evicted = change.removed;
        change
    }

    // Where the hand points to, and over how many places it went; it goes on.
    pub(super) fn advance(&self) -> (Option<usize>, usize) {
        let at = self.hand.load(Ordering::Relaxed) % PLACES;
        let left = self.marks[at / 64].load(Ordering::Relaxed) >> (at % 64);
        let (place, next) = match left {
            0 => (None, (at / 64 + 1) * 64),
            left => {
                let place = at + left.trailing_zeros() as usize;
                (Some(place), place + 1)
            }
        };
        self.hand.store(next % PLACES, Ordering::Relaxed);
        (place, next - at)
    }

    /// All places that may hold anything.
    pub(super) fn taken(&self) -> impl Iterator<Item = usize> {
        self.marks.iter().enumerate().flat_map(|(at, word)| bits(at, word))
    }

    /// Those that the broom comes to next.
    pub(super) fn next_to_sweep(&self) -> impl Iterator<Item = usize> {
        let from = self.broom.fetch_add(SWEPT, Ordering::Relaxed);
        (from..from + SWEPT).flat_map(|at| bits(at % WORDS, &self.marks[at % WORDS]))
    }

    /// Octets and responses in a place.
    #[cfg(test)]
    pub(super) fn charge_of(&self, place: usize) -> (u64, u64) {
        let holds = self.slots[place].bucket.load();
        holds.as_ref().map_or((0, 0), |bucket| (bucket.charge(), bucket.entries.len() as u64))
    }

    // Replaces a bucket by what `change` makes of it.
    fn update(&self, place: usize, mut change: impl FnMut(&Bucket) -> Bucket) -> Change {
        let nothing = Bucket::default();
        let mut told = Change::default();
        self.slots[place].bucket.rcu(|before| {
            let before = before.as_deref().unwrap_or(&nothing);
            let after = change(before);
            told = Change::of(before, &after);
            (!after.is_empty()).then(|| Arc::new(after))
        });
        told
    }

    fn mark(&self, place: usize) {
        let (word, bit) = (&self.marks[place / 64], 1 << (place % 64));
        if word.load(Ordering::SeqCst) & bit == 0 {
            word.fetch_or(bit, Ordering::SeqCst);
        }
    }

    // Whoever fills the bucket marks it afterwards, and whoever takes the mark away looks at the bucket afterwards: one of them
    // sees the other.
    fn unmark(&self, place: usize) {
        let bit = 1 << (place % 64);
        self.marks[place / 64].fetch_and(!bit, Ordering::SeqCst);
        if self.slots[place].bucket.load().is_some() {
            self.mark(place);
        }
    }
}

fn bits(at: usize, word: &AtomicU64) -> impl Iterator<Item = usize> + use<> {
    let mut left = word.load(Ordering::Relaxed);
    std::iter::from_fn(move || {
        let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
        left &= left - 1;
        Some(at * 64 + bit)
    })
}
