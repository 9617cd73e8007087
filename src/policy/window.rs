//! More requests of one key within a sliding window than anybody needs: the rate rule of a web application firewall.
//!
//! A key has two counts, of this window and of the one before; what slides is estimated from them as if the earlier requests
//! had come evenly. Every request counts, also one that is blocked: who is over the limit stays blocked until fewer come.
//! It is for crude thresholds over minutes; an exact rate is `rate`. Counts survive a reload unless the window or key changes.

use crate::base::Tick;
use crate::http::Fault;
use crate::policy::key::table::Words;
use crate::policy::key::{self, Key, Table};
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// The highest threshold.
pub const MOST: u32 = 1_000_000;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// More than so many ...
    pub requests: u32,
    /// ... within this time, of at least a second.
    pub window: Duration,
    /// What is counted by.
    pub key: Key,
    /// Whether it blocks; otherwise the policy only counts.
    pub blocks: bool,
    /// Keys that are remembered at the same time.
    pub keys: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            requests: MOST,
            window: Duration::from_secs(300),
            key: Key::default(),
            blocks: true,
            keys: key::KEYS,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    requests: u64,
    window: u64,
    key: Key,
    keys: usize,
    table: Arc<Table>,
}

/// What one core remembers: nothing.
#[derive(Debug)]
pub struct Core {}

// A word: which window it is of, how many came in the one before, and how many in it. The number of the window comes round
// after 16 million of them.
const COUNT_BITS: u32 = 20;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const WINDOWS: u64 = 1 << 24;
const LAST: u64 = WINDOWS - 1;

struct Count {
    limit: u64,
    // The number of this window.
    number: u64,
    // How much of it has passed.
    passed: u64,
    window: u64,
}

impl Count {
    fn new(policy: &Policy, now: Tick) -> Count {
        let window = policy.window.max(1);
        Count {
            limit: policy.requests,
            // Zero is no window: a word of zero has counted nothing.
            number: (now.nanos() / window + 1) % WINDOWS,
            passed: now.nanos() % window,
            window,
        }
    }

    // Counts of the window before and of this one.
    fn counts(&self, word: u64) -> (u64, u64) {
        let (number, before, here) =
            (word >> (2 * COUNT_BITS), word >> COUNT_BITS & COUNT, word & COUNT);
        match (self.number + WINDOWS - number) % WINDOWS {
            0 => (before, here),
            1 => (here, 0),
            // Another core's clock may be a moment ahead.
            LAST => (before, here),
            _ => (0, 0),
        }
    }
}

impl Words for Count {
    // Whether there are too many.
    type Outcome = bool;

    #[inline]
    fn idle(&self, word: u64) -> bool {
        // Of this window or its neighbours it is not, whatever it has counted: no word may come again.
        let number = word >> (2 * COUNT_BITS);
        !matches!((self.number + WINDOWS - number) % WINDOWS, 0 | 1 | LAST)
    }

    #[inline]
    fn begin(&self, _: u64, _: u64, spare: u64) -> u64 {
        let (before, here) = self.counts(spare);
        self.number << (2 * COUNT_BITS) | before << COUNT_BITS | here
    }

    #[inline]
    fn change(&self, word: u64, _: u64) -> (Option<u64>, bool) {
        let (before, here) = self.counts(word);
        let here = (here + 1).min(COUNT - 1);
        let left = u128::from(self.window - self.passed);
        let slid = u128::from(before) * left / u128::from(self.window);
        let new = self.number << (2 * COUNT_BITS) | before << COUNT_BITS | here;
        (Some(new), slid + u128::from(here) > u128::from(self.limit))
    }

    fn undo(&self, _: &bool) -> u64 {
        // The window may have turned meanwhile; one too many in a shared count harms nobody.
        0
    }
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// None.
    pub fn build(settings: &Settings, _: Files<'_>, old: Option<&Policy>) -> Result<Policy, Wrong> {
        let window = u64::try_from(settings.window.as_nanos()).unwrap_or(u64::MAX);
        let alike = |old: &&Policy| {
            (old.window, &old.key, old.keys) == (window, &settings.key, settings.keys)
        };
        let table = old.filter(alike).map(|old| Arc::clone(&old.table));
        Ok(Policy {
            requests: u64::from(settings.requests.min(MOST)),
            window,
            key: settings.key.clone(),
            keys: settings.keys,
            table: table.unwrap_or_else(|| Arc::new(Table::new(settings.keys))),
        })
    }

    /// Decides.
    #[inline]
    pub fn check(
        &self,
        _: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let key = self.key.hash(&self.table.secret, subject, &findings.identity);
        match self.table.change(key, &Count::new(self, subject.now)) {
            Some((_, false)) => Verdict::Pass,
            Some((_, true)) | None => Verdict::Refuse(Fault::WindowExceeded),
        }
    }

    /// How many requests of the sender the window has counted, in words.
    pub fn fill(&self, subject: &Subject<'_>, findings: &Findings) -> String {
        let key = self.key.hash(&self.table.secret, subject, &findings.identity);
        let count = Count::new(self, subject.now);
        let (before, here) = count.counts(self.table.word(key));
        let left = u128::from(count.window - count.passed);
        let slid = u128::from(before) * left / u128::from(count.window);
        format!("{} of {} counted", slid + u128::from(here), self.requests)
    }

    /// Counts for the sender of a request what another policy of the same settings has.
    pub fn follow(&self, other: &Policy, subject: &Subject<'_>, findings: &Findings) {
        let key = |table: &Table| self.key.hash(&table.secret, subject, &findings.identity);
        if self.window == other.window {
            self.table.put(key(&self.table), other.table.word(key(&other.table)));
        }
    }

    /// The memory that its counts take.
    pub fn octets(&self) -> usize {
        self.table.octets()
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core {}
    }

    /// Lets go of nothing: old counts make room by themselves.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;
    use crate::policy::key::tests::subject;

    fn policy(requests: u32, window: u64, old: Option<&Policy>) -> Policy {
        let window = Duration::from_secs(window);
        let settings = Settings { requests, window, keys: 100, ..Settings::default() };
        Policy::build(&settings, &|_| None, old).unwrap()
    }

    #[test]
    fn another_policy_takes_over_what_one_has_counted_of_a_client() {
        let (counted, copy) = (policy(3, 60, None), policy(3, 60, None));
        assert_eq!(pass(&counted, "192.0.2.1", 0, 2), 2);
        let (none, findings) = (OwnedFields::default(), Findings::default());
        for (client, left) in [("192.0.2.1", 1), ("192.0.2.2", 3)] {
            let subject = subject(&none, client, Tick::ZERO);
            copy.follow(&counted, &subject, &findings);
            assert_eq!(copy.fill(&subject, &findings), counted.fill(&subject, &findings));
            assert_eq!(pass(&copy, client, 0, 9), left);
        }
        assert_eq!(pass(&counted, "192.0.2.1", 0, 9), 1, "it stays as it was");
    }

    // How many of `count` requests at this millisecond pass.
    fn pass(policy: &Policy, client: &str, ms: u64, count: usize) -> usize {
        let (none, mut findings) = (OwnedFields::default(), Findings::default());
        let now = Tick::from_nanos(ms * 1_000_000);
        let passes = |_: &usize| {
            let subject = subject(&none, client, now);
            match policy.check(&Core {}, &subject, &mut findings, None) {
                Verdict::Pass => true,
                Verdict::Refuse(Fault::WindowExceeded) => false,
                other => panic!("{other:?}"),
            }
        };
        (0..count).filter(passes).count()
    }

    #[test]
    fn blocks_beyond_the_threshold_and_until_fewer_come() {
        let policy = policy(100, 60, None);
        assert_eq!(pass(&policy, "192.0.2.1", 1000, 150), 100);
        assert_eq!(pass(&policy, "192.0.2.2", 1000, 1), 1, "others are not concerned");
        assert_eq!(pass(&policy, "192.0.2.1", 59_999, 1), 0);
        // A third of the next window later, two thirds of 151 still count.
        assert_eq!(pass(&policy, "192.0.2.1", 80_000, 1), 0);
        // After half of it, 75 do, and the one that was blocked.
        assert_eq!(pass(&policy, "192.0.2.1", 90_000, 40), 24);
        // Two windows later all is forgotten.
        assert_eq!(pass(&policy, "192.0.2.1", 240_000, 150), 100);
    }

    #[test]
    fn a_flood_does_not_count_so_high_that_it_comes_round() {
        let policy = policy(10, 60, None);
        assert_eq!(pass(&policy, "192.0.2.1", 0, 1_100_000), 10);
        assert_eq!(pass(&policy, "192.0.2.1", 61_000, 1), 0);
        assert_eq!(pass(&policy, "192.0.2.1", 200_000, 1), 1);
    }

    // Hazards RL-02 and RL-06.
    #[test]
    fn counts_survive_a_reload_and_a_clock_that_jumps() {
        let before = policy(10, 60, None);
        assert_eq!(pass(&before, "192.0.2.1", 0, 20), 10);
        let after = policy(12, 60, Some(&before));
        assert_eq!(pass(&after, "192.0.2.1", 1, 1), 0);
        let hour = 3_600_000;
        assert_eq!(pass(&after, "192.0.2.1", hour, 20), 12);
        assert_eq!(pass(&after, "192.0.2.1", 0, 20), 12, "an hour back: at most one more window");
        assert_eq!(pass(&after, "192.0.2.1", u64::MAX / 1_000_000, 20), 12);
    }
}
