//! How many requests of one key may be in flight at the same time, exactly, for the whole machine.
//!
//! Each key has a count in one table that all cores share (`key::table`). A request that gets a place carries [`Held`] until it
//! has ended, a tunnel until it is closed; dropping it gives the place back. It does not queue: a cap protects what is behind
//! it, and who waits would hold a connection and a buffer instead. Counts survive a reload; the limit may change with it.

use crate::base::Tick;
use crate::http::Fault;
use crate::policy::key::table::Words;
use crate::policy::key::{self, Key, Place, Table};
use crate::policy::rate::{Scope, fields};
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// So many at the same time.
    pub limit: u32,
    /// What is counted by.
    pub key: Key,
    /// Whose cap it is.
    pub scope: Scope,
    /// Keys that are remembered at the same time.
    pub keys: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { limit: 1, key: Key::default(), scope: Scope::Node, keys: key::KEYS }
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
    limit: u64,
    key: Key,
    scope: Scope,
    keys: usize,
    table: Arc<Table>,
}

/// What one core remembers.
#[derive(Clone, Debug)]
pub struct Core {
    counts: Rc<Counts>,
    // Tells this core's counts from those of the others, where each has its own.
    salt: u64,
}

// The table as one core holds it: a place touches no count of references that other cores use.
#[derive(Debug)]
struct Counts {
    table: Arc<Table>,
}

/// A place among those in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    counts: Rc<Counts>,
    place: Place,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.counts.table.subtract(self.place, 1);
    }
}

// A word: how many are in flight, whether some of the key's may still be counted in the spare word, and how often the place has
// changed hands, so that no two owners' words are alike.
const COUNT: u64 = (1 << 32) - 1;
const ALSO_SPARE: u64 = 1 << 32;
const HANDS: u64 = 1 << 33;

struct Enter {
    limit: u64,
}

impl Words for Enter {
    // Whether there was room.
    type Outcome = bool;

    #[inline]
    fn idle(&self, word: u64) -> bool {
        word & COUNT == 0
    }

    #[inline]
    fn begin(&self, _: u64, old: u64, spare: u64) -> u64 {
        // The last number of hands is left out: with it a word could be all ones.
        let hands = (old / HANDS + 1) % (u64::MAX / HANDS);
        hands * HANDS + if spare > 0 { ALSO_SPARE } else { 0 }
    }

    #[inline]
    fn change(&self, word: u64, spare: u64) -> (Option<u64>, bool) {
        let also = if word & ALSO_SPARE == 0 { 0 } else { spare };
        if (word & COUNT).saturating_add(also) >= self.limit {
            return (None, false);
        }
        let kept = if spare == 0 { word & !ALSO_SPARE } else { word };
        (Some(kept + 1), true)
    }

    fn undo(&self, entered: &bool) -> u64 {
        u64::from(*entered)
    }
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// None.
    pub fn build(settings: &Settings, _: Files<'_>, old: Option<&Policy>) -> Result<Policy, Wrong> {
        let alike = |old: &&Policy| {
            (&old.key, old.scope, old.keys) == (&settings.key, settings.scope, settings.keys)
        };
        let old = old.filter(alike);
        let table = old.map(|old| Arc::clone(&old.table));
        Ok(Policy {
            limit: u64::from(settings.limit),
            key: settings.key.clone(),
            scope: settings.scope,
            keys: settings.keys,
            table: table.unwrap_or_else(|| Arc::new(Table::new(settings.keys))),
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
        let hash = self.key.hash(&self.table.secret, subject, &findings.identity);
        let key = (hash ^ core.salt).max(1);
        if let Some((place, true)) = self.table.change(key, &Enter { limit: self.limit }) {
            findings.held.push(Held { counts: Rc::clone(&core.counts), place });
            return Verdict::Pass;
        }
        // When a place is free again nobody knows.
        fields::retry_after(&mut findings.response, Duration::from_secs(1));
        Verdict::Refuse(Fault::TooManyInFlight)
    }

    /// How many of the sender's requests are in flight, in words.
    pub fn fill(&self, subject: &Subject<'_>, findings: &Findings) -> String {
        if self.scope == Scope::Core {
            return "each core counts by itself".to_owned();
        }
        let key = self.key.hash(&self.table.secret, subject, &findings.identity).max(1);
        format!("{} of {} in flight", self.table.word(key) & COUNT, self.limit)
    }

    /// Counts for the sender of a request what another policy of the same settings has.
    pub fn follow(&self, other: &Policy, subject: &Subject<'_>, findings: &Findings) {
        let key = |table: &Table| self.key.hash(&table.secret, subject, &findings.identity).max(1);
        if self.scope != Scope::Core {
            let word = other.table.word(key(&other.table)) & COUNT;
            self.table.put(key(&self.table), word);
        }
    }

    /// The memory that its counts take.
    pub fn octets(&self) -> usize {
        self.table.octets()
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let counts = Rc::new(Counts { table: Arc::clone(&policy.table) });
        Core { counts, salt: policy.scope.salt(old.map(|old| old.salt)) }
    }

    /// Lets go of nothing: places are given back when requests end.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;
    use crate::policy::key::tests::subject;

    fn policy(limit: u32, keys: usize, old: Option<&Policy>) -> Policy {
        let settings = Settings { limit, keys, ..Settings::default() };
        Policy::build(&settings, &|_| None, old).unwrap()
    }

    // A request of this client, if there is room for it.
    fn enter(policy: &Policy, core: &Core, client: &str) -> Option<Held> {
        let (none, mut findings) = (OwnedFields::default(), Findings::default());
        let verdict = policy.check(core, &subject(&none, client, Tick::ZERO), &mut findings, None);
        let said = String::from_utf8_lossy(&findings.response).into_owned();
        match verdict {
            Verdict::Pass => assert_eq!(said, ""),
            Verdict::Refuse(Fault::TooManyInFlight) => assert_eq!(said, "retry-after: 1\r\n"),
            other => panic!("{other:?}"),
        }
        findings.held.pop()
    }

    #[test]
    fn each_core_has_a_cap_of_its_own_where_that_is_asked_for() {
        let settings = Settings { limit: 1, scope: Scope::Core, ..Settings::default() };
        let first = Policy::build(&settings, &|_| None, None).unwrap();
        let (one, other) = (Core::bind(&first, None), Core::bind(&first, None));
        let held = enter(&first, &one, "192.0.2.1").unwrap();
        assert!(enter(&first, &one, "192.0.2.1").is_none());
        assert!(enter(&first, &other, "192.0.2.1").is_some(), "the other core has its own");
        // A reload leaves the count with its core.
        let next = Policy::build(&settings, &|_| None, Some(&first)).unwrap();
        let one = Core::bind(&next, Some(&one));
        assert!(enter(&next, &one, "192.0.2.1").is_none());
        drop(held);
        assert!(enter(&next, &one, "192.0.2.1").is_some());
    }

    #[test]
    fn another_policy_takes_over_what_one_has_counted_of_a_client() {
        let (counted, copy) = (policy(2, 100, None), policy(2, 100, None));
        let (core, copied) = (Core::bind(&counted, None), Core::bind(&copy, None));
        let held = [(); 2].map(|()| enter(&counted, &core, "192.0.2.1").unwrap());
        let (none, findings) = (OwnedFields::default(), Findings::default());
        copy.follow(&counted, &subject(&none, "192.0.2.1", Tick::ZERO), &findings);
        assert!(enter(&copy, &copied, "192.0.2.1").is_none());
        assert!(enter(&copy, &copied, "192.0.2.2").is_some());
        drop(held);
        assert!(enter(&counted, &core, "192.0.2.1").is_some(), "it stays as it was");
    }

    #[test]
    fn a_place_is_free_again_when_its_request_has_ended() {
        let policy = policy(2, 100, None);
        let (one, other) = (Core::bind(&policy, None), Core::bind(&policy, None));
        let first = enter(&policy, &one, "192.0.2.1").unwrap();
        let second = enter(&policy, &other, "192.0.2.1").unwrap();
        assert!(enter(&policy, &one, "192.0.2.1").is_none(), "all cores together");
        assert!(enter(&policy, &one, "192.0.2.2").is_some(), "another has places of its own");
        drop(first);
        let third = enter(&policy, &other, "192.0.2.1").unwrap();
        assert!(enter(&policy, &other, "192.0.2.1").is_none());
        drop((second, third));
        assert!(enter(&policy, &one, "192.0.2.1").is_some());
    }

    #[test]
    fn a_reload_may_change_the_limit_and_forgets_nobody() {
        let before = policy(2, 100, None);
        let core = Core::bind(&before, None);
        let held = [(); 2].map(|()| enter(&before, &core, "192.0.2.1").unwrap());
        let after = policy(3, 100, Some(&before));
        let core = Core::bind(&after, Some(&core));
        drop(before);
        let third = enter(&after, &core, "192.0.2.1").unwrap();
        assert!(enter(&after, &core, "192.0.2.1").is_none());
        drop((held, third));
        let places: Vec<Held> =
            std::iter::from_fn(|| enter(&after, &core, "192.0.2.1")).take(9).collect();
        assert_eq!(places.len(), 3);
    }

    // A key that found its set full moves into it later: what it has in flight goes on counting.
    #[test]
    fn a_cap_holds_while_a_flood_fills_the_table() {
        let policy = policy(2, 1, None);
        let core = Core::bind(&policy, None);
        let client = |n: usize| format!("10.0.{}.{}", n / 250, n % 250);
        let mut flood: Vec<Held> =
            (0..key::table::WAYS).map(|n| enter(&policy, &core, &client(n)).unwrap()).collect();
        let victim = enter(&policy, &core, "192.0.2.1").unwrap();
        assert!(victim.place.is_spare());
        flood.pop();
        let second = enter(&policy, &core, "192.0.2.1").unwrap();
        assert!(!second.place.is_spare(), "there was a place of its own");
        assert!(enter(&policy, &core, "192.0.2.1").is_none(), "two are in flight");
        drop(victim);
        let third = enter(&policy, &core, "192.0.2.1").unwrap();
        assert!(enter(&policy, &core, "192.0.2.1").is_none());
        drop((flood, second, third));
        assert!(enter(&policy, &core, "192.0.2.1").is_some());
    }

    #[test]
    fn no_more_are_in_flight_however_threads_interleave() {
        use std::sync::atomic::{AtomicI64, Ordering};
        // A table far smaller than the keys, so that places change hands all the time.
        let policy = policy(3, 4, None);
        let flying: Vec<AtomicI64> = (0..40).map(|_| AtomicI64::new(0)).collect();
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (policy, flying) = (&policy, &flying);
                scope.spawn(move || {
                    let core = Core::bind(policy, None);
                    let mut rng = fastrand::Rng::with_seed(seed);
                    let mut held: Vec<(usize, Held)> = Vec::new();
                    for _ in 0..20_000 {
                        let client = rng.usize(..flying.len());
                        if let Some(place) = enter(policy, &core, &format!("10.0.0.{client}")) {
                            let now = flying[client].fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(now <= 3, "{now} of client {client}, seed {seed}");
                            held.push((client, place));
                        }
                        while held.len() > rng.usize(..6) {
                            let (client, place) = held.swap_remove(rng.usize(..held.len()));
                            flying[client].fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                    }
                    held.iter().for_each(|(c, _)| _ = flying[*c].fetch_sub(1, Ordering::SeqCst));
                });
            }
        });
        let core = Core::bind(&policy, None);
        for client in 0..flying.len() {
            let client = format!("10.0.0.{client}");
            let places: Vec<Held> =
                std::iter::from_fn(|| enter(&policy, &core, &client)).take(9).collect();
            assert_eq!(places.len(), 3, "nothing is lost: {client}");
        }
    }
}
