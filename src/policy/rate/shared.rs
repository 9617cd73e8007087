//! The buckets of a policy, which all cores share, and those that they go on from after a reload has changed the limit.
//!
//! A changed limit has words of another meaning, and so a table of its own. A key that comes for the first time looks up what it
//! was counted in before, and begins with as many tokens missing (hazard RL-02). Workers take up a configuration one after the
//! other: what passes by the old one in that moment is not counted in the new one. The old table goes when all of its buckets
//! would be full again. Called by `rate`.

use crate::base::Tick;
use crate::policy::key::Table;
use crate::policy::key::table::Words;
use crate::policy::rate::bucket::{Bucket, Taken};
use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What all cores share of a policy.
#[derive(Debug)]
pub struct Shared {
    /// The words.
    pub table: Table,
    /// Cores that may hold tokens.
    pub cores: AtomicU32,
    before: ArcSwapOption<Before>,
}

// What there was before the limit changed.
#[derive(Debug)]
struct Before {
    shared: Arc<Shared>,
    bucket: Bucket,
    // When a sweep has first seen it, in nanoseconds; zero before that.
    since: AtomicU64,
}

impl Shared {
    /// With nothing in it.
    pub fn new(keys: usize) -> Arc<Shared> {
        Shared::with(Table::new(keys), None)
    }

    /// Going on from another one, whose buckets were like `bucket`.
    pub fn after(old: &Arc<Shared>, bucket: Bucket, keys: usize) -> Arc<Shared> {
        // Two are enough: who was counted two limits ago and not since has rested.
        old.before.store(None);
        let before = Before { shared: Arc::clone(old), bucket, since: AtomicU64::new(0) };
        Shared::with(Table::with_secret(keys, old.table.secret.clone()), Some(Arc::new(before)))
    }

    fn with(table: Table, before: Option<Arc<Before>>) -> Arc<Shared> {
        Arc::new(Shared { table, cores: AtomicU32::new(0), before: ArcSwapOption::new(before) })
    }

    /// Lets go of what no longer matters.
    pub fn sweep(&self, now: Tick) {
        let Some(before) = &*self.before.load() else { return };
        let nanos = now.nanos().max(1);
        let since = before.since.compare_exchange(0, nanos, Ordering::Relaxed, Ordering::Relaxed);
        let since = Tick::from_nanos(since.err().unwrap_or(nanos));
        if now.since(since) > before.bucket.memory() {
            self.before.store(None);
        }
    }
}

/// Taking from a bucket.
#[derive(Debug)]
pub struct Take<'p> {
    /// Where it lies.
    pub shared: &'p Shared,
    /// The bucket.
    pub bucket: &'p Bucket,
    /// The time.
    pub now: Tick,
    /// The same, as words have it.
    pub clock: u64,
    /// Tokens to take at a time.
    pub most: u64,
}

impl Words for Take<'_> {
    // What became of the request, and the word after it.
    type Outcome = (Taken, u64);

    #[inline]
    fn idle(&self, word: u64) -> bool {
        word < self.clock
    }

    fn begin(&self, key: u64, _: u64, spare: u64) -> u64 {
        let before = self.shared.before.load();
        let before = before.as_ref().and_then(|before| {
            let word = before.shared.table.word(key);
            self.bucket.convert(&before.bucket, word, self.now)
        });
        self.clock.max(spare).max(before.unwrap_or(0))
    }

    #[inline]
    fn change(&self, word: u64, _: u64) -> (Option<u64>, (Taken, u64)) {
        let (new, taken) = self.bucket.take(word, self.clock, self.most);
        (new, (taken, new.unwrap_or(word)))
    }

    fn undo(&self, (taken, _): &(Taken, u64)) -> u64 {
        match taken {
            Taken::Tokens(tokens) => self.bucket.worth(*tokens),
            Taken::At(_) => self.bucket.worth(1),
            Taken::None => 0,
        }
    }
}
