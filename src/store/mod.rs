//! Stored responses, in memory, shared by all workers: found by key, bounded in octets, without a lock.
//!
//! Each key has its bucket, an immutable list that is replaced as a whole: whoever reads it writes nothing, whoever changes it
//! swaps it for another and begins anew where somebody was faster, so that nobody waits for a core that was put to sleep. What
//! is stored and what is being fetched lie in the same bucket: one swap tells both. What may be stored, and for whom, is decided
//! in `cache`; the walk is `proxy::cached`'s. Nothing is allocated while no rule stores anything.

mod bucket;
mod entry;
mod errand;
mod flight;
mod purge;
mod table;

pub use bucket::MOST_IN_BUCKET;
pub use entry::Entry;
pub use errand::Errand;
pub use flight::{Claim, Flight, Landing};
pub use purge::{Purge, Purged, Target};
pub use table::Look;

use crate::base::Tick;
use crate::cache::{Key, Origin};
use flight::Mark;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use table::Table;

/// The responses.
#[derive(Default)]
pub struct Store {
    table: OnceLock<Table>,
    // Octets that may be stored; 0 where nothing is.
    capacity: AtomicU64,
    used: AtomicU64,
    entries: AtomicU64,
    // Octets of responses that are on their way into it.
    filling: AtomicU64,
    // Grows with every purge that looks at all: what was fetched before is not stored after it.
    purges: AtomicU64,
    bell: OnceLock<Bell>,
    counts: Counts,
}

/// Tells a worker that what these tickets wait for has ended.
type Bell = Box<dyn Fn(usize, Vec<u64>) + Send + Sync>;

/// What is counted of the store as a whole.
#[derive(Debug, Default)]
struct Counts {
    stores: AtomicU64,
    evictions: AtomicU64,
    expired: AtomicU64,
    purged: AtomicU64,
    invalidated: AtomicU64,
    refused: AtomicU64,
}

/// The state of the store at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Octets that may be stored.
    pub capacity: u64,
    /// Octets that are: heads, bodies, keys, and what they cost beside.
    pub octets: u64,
    /// Octets of responses that are on their way into it, beside them.
    pub filling: u64,
    /// Responses that are stored.
    pub entries: u64,
    /// Responses stored since the start.
    pub stores: u64,
    /// Responses that made room for others.
    pub evictions: u64,
    /// Responses that were of no use any more.
    pub expired: u64,
    /// Responses that were purged.
    pub purged: u64,
    /// Responses that a request which changes something has made invalid.
    pub invalidated: u64,
    /// Responses that were not stored, for want of room or since something was purged meanwhile.
    pub refused: u64,
}

/// Whether somebody fetches what is missing.
#[derive(Debug)]
pub enum Claimed {
    /// Whoever asked shall, for all.
    Led(Claim),
    /// Somebody does: wait for it.
    Join(Arc<Flight>),
    /// What comes is not for others: whoever asked fetches it for itself.
    Alone,
    /// The bucket has changed: look again.
    Again,
}

/// What became of a response that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored.
    Stored,
    /// It is larger than the store.
    NoRoom,
    /// Something was purged or changed since it was asked for: it may be what was meant.
    Outdated,
}

/// Room for octets of a response that is on its way into the store; given back when dropped.
#[derive(Debug)]
pub struct Room {
    store: Arc<Store>,
    octets: u64,
}

/// How long a key is remembered whose response was not to be stored: requests for it then do not wait for each other.
pub const UNCACHEABLE_FOR: Duration = Duration::from_secs(30);
// Of the store's size, what responses on their way into it may take beside it.
const FILLING_SHARE: u64 = 2;
// What room is asked for at a time.
const ROOM: u64 = 64 << 10;

impl Store {
    /// Whoever waits on another worker is told by `bell`. Called once.
    pub fn on_landing(&self, bell: impl Fn(usize, Vec<u64>) + Send + Sync + 'static) {
        let _ = self.bell.set(Box::new(bell));
    }

    /// Holds up to `octets` from now on; what is too much goes.
    pub fn resize(&self, octets: u64) {
        self.capacity.store(octets, Ordering::Relaxed);
        if octets > 0 {
            self.table.get_or_init(Table::default);
        }
        self.evict();
    }

    /// Whether anything may be stored.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.table.get().is_some()
    }

    /// The bucket of a key, as it is now. Not to be held for longer than it takes to decide.
    #[inline]
    pub fn look(&self, key: &Key) -> Option<Look<'_>> {
        let table = self.table.get()?;
        Some(table.look(key, self.purges.load(Ordering::Acquire)))
    }

    /// Takes it upon the caller to fetch what `look` did not find, unless somebody does already. Those whose request might be why a
    /// response is not to be stored (`personal`) are apart from the others: what becomes of theirs says nothing to those. So are
    /// those of another `variant`, as far as that is known before.
    pub fn claim(
        self: &Arc<Store>,
        look: &Look<'_>,
        key: &Key,
        variant: &[u8],
        personal: bool,
        now: Tick,
    ) -> Claimed {
        if let Some(flight) = look.flight(key, variant, personal) {
            // One that has landed leaves its bucket before it says so.
            return match flight.landed() {
                None => Claimed::Join(Arc::clone(flight)),
                Some(_) => Claimed::Again,
            };
        }
        if look.is_marked(key, personal, now) || look.is_crowded() {
            return Claimed::Alone;
        }
        let flight = Arc::new(Flight::new(key.clone(), variant.into(), personal));
        match self.table.get().and_then(|table| table.enter(look, &flight)) {
            Some(change) => {
                self.count(change);
                Claimed::Led(Claim::new(Arc::clone(self), flight, look.stamp()))
            }
            None => Claimed::Again,
        }
    }

    /// Stores a response that was fetched when its bucket had this stamp.
    pub fn put(&self, entry: &Arc<Entry>, stamp: Stamp) -> Put {
        let Some(table) = self.table.get() else { return Put::NoRoom };
        if entry.charge() > self.capacity.load(Ordering::Relaxed) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Put::NoRoom;
        }
        if stamp != self.stamp(table, &entry.key) {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Put::Outdated;
        }
        self.count(table.insert(entry));
        // A purge that looked before the swap has not seen it.
        if stamp != self.stamp(table, &entry.key) {
            self.forget(entry);
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Put::Outdated;
        }
        self.counts.stores.fetch_add(1, Ordering::Relaxed);
        self.evict();
        Put::Stored
    }

    /// Puts a response in the place of another, which it renews; false where that is gone. Where something was purged or changed
    /// since the bucket had this stamp, it is called stale: the other may be what was meant.
    pub fn renew(&self, old: &Arc<Entry>, new: &Arc<Entry>, stamp: Stamp) -> bool {
        let Some(table) = self.table.get() else { return false };
        let (renewed, change) = table.renew(old, new);
        self.count(change);
        if renewed {
            // A purge that looks after the swap sees the new one.
            if stamp != self.stamp(table, &new.key) {
                new.call_stale(new.stored.received);
            }
            self.counts.stores.fetch_add(1, Ordering::Relaxed);
        }
        renewed
    }

    /// Forgets one response.
    pub fn forget(&self, entry: &Arc<Entry>) {
        let Some(table) = self.table.get() else { return };
        let place = table.place(&entry.key);
        self.count(table.retain(place, |other| !Arc::ptr_eq(other, entry)));
    }

    /// Forgets all responses to requests for `origin`, of which `key` is one, and what is being fetched for it; how many.
    pub fn invalidate(&self, key: &Key, origin: &Origin) -> u64 {
        let Some(table) = self.table.get() else { return 0 };
        let change = table.invalidate(key, origin);
        self.counts.invalidated.fetch_add(change.removed, Ordering::Relaxed);
        self.count(change);
        change.removed
    }

    /// Forgets what `purge` names, or calls it stale.
    pub fn purge(&self, purge: &Purge, now: Tick) -> Purged {
        let Some(table) = self.table.get() else { return Purged::default() };
        // First: what is fetched now may be what is meant.
        self.purges.fetch_add(1, Ordering::SeqCst);
        let mut purged = Purged::default();
        for place in table.taken() {
            if purge.soft {
                purged.stale += table.mark_stale(place, |entry| purge.names(entry), now);
                continue;
            }
            let change = table.retain(place, |entry| !purge.names(entry));
            purged.removed += change.removed;
            self.count(change);
        }
        self.counts.purged.fetch_add(purged.removed + purged.stale, Ordering::Relaxed);
        purged
    }

    /// Forgets what rules have stored that `keep` does not know.
    pub fn keep_rules(&self, keep: impl Fn(&str) -> bool) {
        let Some(table) = self.table.get() else { return };
        self.purges.fetch_add(1, Ordering::SeqCst);
        for place in table.taken() {
            let change = table.retain(place, |entry| keep(&entry.rule));
            self.count(change);
        }
    }

    /// Forgets a part of what is of no use any more. Every worker calls this every sweep.
    pub fn sweep(&self, now: Tick) {
        let Some(table) = self.table.get() else { return };
        for place in table.next_to_sweep() {
            let change = table.retain_until(place, now);
            self.counts.expired.fetch_add(change.removed, Ordering::Relaxed);
            self.count(change);
        }
    }

    /// Room for a response that is on its way into the store, none at first.
    pub fn room(self: &Arc<Store>) -> Room {
        Room { store: Arc::clone(self), octets: 0 }
    }

    /// What it holds, and what was counted.
    pub fn stat(&self) -> Stat {
        let value = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Stat {
            capacity: value(&self.capacity),
            octets: value(&self.used),
            filling: value(&self.filling),
            entries: value(&self.entries),
            stores: value(&self.counts.stores),
            evictions: value(&self.counts.evictions),
            expired: value(&self.counts.expired),
            purged: value(&self.counts.purged),
            invalidated: value(&self.counts.invalidated),
            refused: value(&self.counts.refused),
        }
    }

    fn stamp(&self, table: &Table, key: &Key) -> Stamp {
        Stamp { turns: table.turns_of(key), purges: self.purges.load(Ordering::SeqCst) }
    }

    // A flight has ended: it leaves its bucket, and whoever waits is told.
    fn landed(&self, flight: &Arc<Flight>, landing: Landing, now: Tick) {
        let mark = (landing == Landing::Uncacheable).then(|| {
            Arc::new(Mark {
                key: flight.key.clone(),
                personal: flight.personal,
                until: now.after(UNCACHEABLE_FOR),
            })
        });
        if let Some(table) = self.table.get() {
            self.count(table.leave(flight, mark.as_ref()));
        }
        let tickets = flight.land(landing);
        if let Some(bell) = self.bell.get() {
            tickets.into_iter().for_each(|(worker, tickets)| bell(worker, tickets));
        }
        self.evict();
    }

    fn count(&self, change: table::Change) {
        let add = |to: &AtomicU64, by: i64| {
            // Two's complement: a negative change is taken off.
            to.fetch_add(by.cast_unsigned(), Ordering::Relaxed);
        };
        if change.octets != 0 {
            add(&self.used, change.octets);
        }
        if change.entries != 0 {
            add(&self.entries, change.entries);
        }
        if change.evicted > 0 {
            self.counts.evictions.fetch_add(change.evicted, Ordering::Relaxed);
        }
    }

    // Makes room until what is stored fits: what was not asked for since the hand came by last.
    fn evict(&self) {
        let Some(table) = self.table.get() else { return };
        let capacity = self.capacity.load(Ordering::Relaxed);
        let mut steps = 0;
        while self.used.load(Ordering::Relaxed) > capacity && steps < table::MOST_STEPS {
            let (place, skipped) = table.advance();
            steps += skipped;
            let Some(place) = place else { continue };
            let change = table.thin(place, steps > table::PATIENT_STEPS);
            self.count(change);
        }
    }
}

/// What a bucket, and the store, looked like when a response was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    turns: u32,
    purges: u64,
}

impl Room {
    /// Makes it large enough for so many octets; false where there is none.
    pub fn grow(&mut self, octets: u64) -> bool {
        if octets <= self.octets {
            return true;
        }
        let more = (octets - self.octets).max(ROOM);
        let most = self.store.capacity.load(Ordering::Relaxed) / FILLING_SHARE;
        let before = self.store.filling.fetch_add(more, Ordering::Relaxed);
        if before + more > most.max(ROOM) {
            self.store.filling.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.octets += more;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.store.filling.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("stat", &self.stat()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
