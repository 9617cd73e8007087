//! How many requests of one key may come in a time: a token bucket for each key, exact for the whole machine.
//!
//! The buckets of all keys lie in one table of words that all cores share (`key::table`); `bucket` has the arithmetic, `lease` what
//! a core takes ahead of a busy bucket, `fields` what clients are told. With a queue, requests are delayed until their
//! token is there, instead of being refused. A reload that leaves the limit as it is leaves every bucket as it is; one
//! that changes it takes along how many tokens are missing (hazard RL-02).

pub mod bucket;
pub mod fields;
pub mod lease;
pub mod shared;

use crate::base::Tick;
use crate::http::Fault;
use crate::policy::key::{self, Key, Table};
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use bucket::{Bucket, Taken};
use fields::{Lines, Style};
use lease::{Leases, Leasing};
use shared::{Shared, Take};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// That of all cores together.
    #[default]
    Node,
    /// Each core has its own, of the same size.
    Core,
}

impl Scope {
    /// What a core's keys are told by from those of the others; `old` is what they were told by before a reload.
    pub fn salt(self, old: Option<u64>) -> u64 {
        match self {
            Scope::Node => 0,
            Scope::Core => old.filter(|salt| *salt != 0).unwrap_or_else(|| fastrand::u64(1..)),
        }
    }
}

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The policy's name, for `RateLimit`.
    pub name: String,
    /// So many requests ...
    pub count: u64,
    /// ... in so many seconds: 1, 60, 3600 or 86400.
    pub seconds: u64,
    /// So many at once; `None` for those of one second, and at least one.
    pub burst: Option<u64>,
    /// What is counted by.
    pub key: Key,
    /// Whose bucket it is.
    pub scope: Scope,
    /// Requests of a key that may wait for their token.
    pub queue: u64,
    /// None waits longer than this.
    pub longest_wait: Duration,
    /// What clients are told.
    pub fields: Style,
    /// Keys that are remembered at the same time.
    pub keys: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            name: String::new(),
            count: 1,
            seconds: 1,
            burst: None,
            key: Key::default(),
            scope: Scope::Node,
            queue: 0,
            longest_wait: Duration::from_secs(10),
            fields: Style::Standard,
            keys: key::KEYS,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The most at once.
    pub fn burst(&self) -> u64 {
        self.burst.unwrap_or(self.count / self.seconds.max(1)).max(1)
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    // What all cores share: without what they may hold ahead.
    bucket: Bucket,
    leasing: Leasing,
    key: Key,
    scope: Scope,
    keys: usize,
    lines: Lines,
    shared: Arc<Shared>,
}

/// What one core remembers.
#[derive(Clone, Debug)]
pub struct Core {
    // Tokens taken ahead; the core of the configuration before goes on with the same.
    leases: Option<Rc<Leases>>,
    // Tells this core's buckets from those of the others, where each has its own.
    salt: u64,
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// A bucket that would not be full within 36 years.
    pub fn build(settings: &Settings, _: Files<'_>, old: Option<&Policy>) -> Result<Policy, Wrong> {
        let burst = settings.burst();
        let Some(whole) = Bucket::new(settings.count, Duration::from_secs(settings.seconds), burst)
        else {
            let found = format!(
                "a burst of {burst}, which would take more than 36 years to come again; lower it, or raise the limit"
            );
            return Err(Wrong { file: None, found });
        };
        let queued = whole.with_queue(settings.queue, settings.longest_wait);
        let leasing = match (settings.scope, settings.queue) {
            (Scope::Node, 0) => Leasing::new(settings.count, settings.seconds, &whole),
            _ => Leasing::default(),
        };
        let bucket = queued.less(leasing.reserve);
        let fields = Lines::new(settings.fields, &settings.name, settings.count, settings.seconds);
        Ok(Policy {
            shared: share(settings, &bucket, &leasing, old),
            bucket,
            leasing,
            key: settings.key.clone(),
            scope: settings.scope,
            keys: settings.keys,
            lines: fields,
        })
    }

    /// Decides.
    #[inline]
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let hash = self.key.hash(&self.shared.table.secret, subject, &findings.identity);
        let key = (hash ^ core.salt).max(1);
        let clock = self.bucket.clock(subject.now);
        let (taken, word, held) = self.take(core, key, subject.now, clock);
        let left = self.bucket.left(word, clock).saturating_add(held);
        self.lines.write(&mut findings.response, left, self.bucket.until_full(word, clock));
        match taken {
            Taken::Tokens(_) => Verdict::Pass,
            Taken::At(tick) => Verdict::Wait(tick),
            Taken::None => {
                let wait = self.bucket.until_next(word, clock);
                fields::retry_after(&mut findings.response, wait);
                Verdict::Refuse(Fault::RateLimited)
            }
        }
    }

    // What became of it, the bucket's word, and the tokens that this core holds besides.
    #[inline]
    fn take(&self, core: &Core, key: u64, now: Tick, clock: u64) -> (Taken, u64, u64) {
        let mut most = 1;
        if let Some(leases) = &core.leases {
            if let Some((word, left)) = leases.spend(key) {
                return (Taken::Tokens(1), word, left);
            }
            most = leases.block(&self.leasing);
        }
        let table = &self.shared.table;
        let words = Take { shared: &self.shared, bucket: &self.bucket, now, clock, most };
        let Some((place, (taken, word))) = table.change(key, &words) else {
            // Another core holds the key up: nobody passes uncounted.
            return (Taken::None, clock.saturating_add(self.bucket.worth(self.bucket.burst())), 0);
        };
        let Taken::Tokens(tokens @ 2..) = taken else { return (taken, word, 0) };
        let ahead = tokens - 1;
        match &core.leases {
            Some(leases) if !place.is_spare() => leases.hold(key, ahead, word),
            _ => table.subtract(place, self.bucket.worth(ahead)),
        }
        (taken, word, ahead)
    }

    /// How full the sender's bucket is, in words.
    pub fn fill(&self, subject: &Subject<'_>, findings: &Findings) -> String {
        if self.scope == Scope::Core {
            return "each core counts by itself".to_owned();
        }
        let table = &self.shared.table;
        let key = self.key.hash(&table.secret, subject, &findings.identity).max(1);
        let clock = self.bucket.clock(subject.now);
        let left = self.bucket.left(table.word(key), clock);
        let ahead = match self.leasing.reserve {
            0 => String::new(),
            reserve => format!(", and up to {reserve} with the cores"),
        };
        format!("{left} of {} left{ahead}", self.bucket.burst())
    }

    /// Counts for the sender of a request what another policy of the same settings has.
    pub fn follow(&self, other: &Policy, subject: &Subject<'_>, findings: &Findings) {
        if self.scope == Scope::Core || !self.bucket.same_words(&other.bucket) {
            return;
        }
        let (ours, theirs) = (&self.shared.table, &other.shared.table);
        let key = |table: &Table| self.key.hash(&table.secret, subject, &findings.identity).max(1);
        ours.put(key(ours), theirs.word(key(theirs)));
    }

    /// The memory that its buckets take.
    pub fn octets(&self) -> usize {
        self.shared.table.octets()
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let before = old.and_then(|old| old.leases.clone());
        let before = before.filter(|leases| leases.are_of(&policy.shared));
        let new = || Rc::new(Leases::new(&policy.shared, &policy.bucket));
        let leases = (policy.leasing.reserve > 0).then(|| before.unwrap_or_else(new));
        Core { leases, salt: policy.scope.salt(old.map(|old| old.salt)) }
    }

    /// Gives back what this core has taken ahead and not used.
    pub fn sweep(&self, policy: &Policy, now: Tick) {
        policy.shared.sweep(now);
        if let Some(leases) = &self.leases {
            leases.give_back();
        }
    }
}

// The old buckets, some that go on from them, or new ones.
fn share(
    settings: &Settings,
    bucket: &Bucket,
    leasing: &Leasing,
    old: Option<&Policy>,
) -> Arc<Shared> {
    let alike = |old: &&Policy| old.key == settings.key && old.scope == settings.scope;
    match old.filter(alike) {
        None => Shared::new(settings.keys),
        Some(old) => {
            let same = old.bucket.same_words(bucket)
                && (old.keys, &old.leasing) == (settings.keys, leasing);
            if same {
                return Arc::clone(&old.shared);
            }
            Shared::after(&old.shared, old.bucket, settings.keys)
        }
    }
}

#[cfg(test)]
mod tests;
