//! How fast bodies may move: a bucket of octets, filled at a steady rate, for each request, each client, or the whole rule.
//!
//! A bucket is one word, the time at which all that was taken will have been paid for (as of GCRA): all cores share it without a
//! lock, and it is exact for the machine. Time comes in. Called by `proxy::throttle`.

use crate::base::{Tick, clients};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// As written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Octets a second to the client; `None` for no limit.
    pub response: Option<u64>,
    /// Octets a second to the target; `None` for no limit.
    pub request: Option<u64>,
    /// Octets that may move at once.
    pub burst: u64,
    /// Whose bucket it is.
    pub per: Per,
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// Each request has its own.
    #[default]
    Request,
    /// All requests of one client share one.
    Client,
    /// All requests of the rule share one.
    Rule,
}

/// As run.
#[derive(Debug)]
pub struct Bandwidth {
    settings: Settings,
    /// To clients.
    pub response: Option<Arc<Side>>,
    /// To targets.
    pub request: Option<Arc<Side>>,
}

/// One direction.
#[derive(Debug)]
pub struct Side {
    rate: u64,
    burst: u64,
    // One for the rule, many for clients, none where each request has its own.
    buckets: Box<[AtomicU64]>,
    keys: RandomState,
}

// Buckets of clients. Two clients may fall on one, and share its rate then; nobody can choose whose he falls on.
const CLIENTS: usize = 1 << 14;
// Octets that move at a time: those of a twentieth of a second, within these bounds.
const LEAST_PIECE: u64 = 1 << 10;
const MOST_PIECE: u64 = 64 << 10;

impl Bandwidth {
    /// Compiles it; `old` lends its buckets where nothing has changed.
    pub fn new(settings: &Settings, old: Option<&Bandwidth>) -> Bandwidth {
        if let Some(old) = old.filter(|old| old.settings == *settings) {
            return Bandwidth {
                settings: settings.clone(),
                response: old.response.clone(),
                request: old.request.clone(),
            };
        }
        let count = match settings.per {
            Per::Request => 0,
            Per::Rule => 1,
            Per::Client => CLIENTS,
        };
        let side = |rate: u64| {
            Arc::new(Side {
                rate: rate.max(1),
                burst: settings.burst,
                buckets: (0..count).map(|_| AtomicU64::new(0)).collect(),
                keys: RandomState::new(),
            })
        };
        Bandwidth {
            settings: settings.clone(),
            response: settings.response.map(side),
            request: settings.request.map(side),
        }
    }
}

impl Side {
    /// Which bucket a client's octets come from; `None` where each request has its own.
    pub fn bucket(&self, client: IpAddr) -> Option<usize> {
        match self.buckets.len() {
            0 => None,
            1 => Some(0),
            count => {
                let hash = self.keys.hash_one(clients::key(client));
                usize::try_from(hash % count as u64).ok()
            }
        }
    }

    /// Octets that should move at a time, so that none waits for long.
    pub fn piece(&self) -> usize {
        usize::try_from((self.rate / 20).clamp(LEAST_PIECE, MOST_PIECE)).unwrap_or(1 << 10)
    }

    /// Takes `octets` out of a bucket: `own` is that of the request, where `at` names no other. Returns when they may move.
    pub fn take(&self, at: Option<usize>, own: &AtomicU64, octets: u64, now: Tick) -> Tick {
        let bucket = at.and_then(|at| self.buckets.get(at)).unwrap_or(own);
        let (cost, slack) = (self.time_of(octets), self.time_of(self.burst));
        let paid = |until: u64| until.max(now.nanos()).saturating_add(cost);
        let before = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |u| Some(paid(u)));
        let until = paid(before.unwrap_or_else(|until| until));
        Tick::from_nanos(until.saturating_sub(slack).max(now.nanos()))
    }

    /// Whether `octets` could move at once.
    pub fn covers(&self, at: Option<usize>, octets: u64, now: Tick) -> bool {
        let until = at.and_then(|at| self.buckets.get(at)).map_or(0, |b| b.load(Ordering::Relaxed));
        let paid = until.max(now.nanos()).saturating_add(self.time_of(octets));
        paid.saturating_sub(self.time_of(self.burst)) <= now.nanos()
    }

    // In nanoseconds.
    fn time_of(&self, octets: u64) -> u64 {
        let nanos = u128::from(octets) * Duration::from_secs(1).as_nanos() / u128::from(self.rate);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn side(rate: u64, burst: u64, per: Per) -> Arc<Side> {
        let settings = Settings { response: Some(rate), request: None, burst, per };
        Bandwidth::new(&settings, None).response.unwrap()
    }

    #[test]
    fn a_burst_is_free_and_the_rest_takes_its_time() {
        let (side, own) = (side(1000, 500, Per::Request), AtomicU64::new(0));
        let begin = Tick::from_nanos(7 * SECOND);
        assert!(side.covers(None, 500, begin) && !side.covers(None, 501, begin));
        assert_eq!(side.take(None, &own, 500, begin), begin);
        assert_eq!(side.take(None, &own, 100, begin).nanos(), 7 * SECOND + SECOND / 10);
        assert_eq!(side.take(None, &own, 1900, begin).nanos(), 9 * SECOND);
        let later = Tick::from_nanos(100 * SECOND);
        assert_eq!(side.take(None, &own, 500, later), later, "what was not used is not saved up");
        assert!(side.take(None, &own, 1, later) > later);
    }

    #[test]
    fn a_rules_bucket_is_everyones_and_a_clients_his_own() {
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let own = AtomicU64::new(0);
        let now = Tick::from_nanos(SECOND);
        let rule = side(1000, 1000, Per::Rule);
        assert_eq!(rule.take(rule.bucket(one), &own, 1000, now), now);
        assert!(rule.take(rule.bucket(other), &own, 1, now) > now);
        assert_eq!(side(1, 1, Per::Request).bucket(one), None);
        // Two may fall on one bucket, but not each time.
        let apart = (0..8).any(|_| {
            let clients = side(1000, 1000, Per::Client);
            assert_eq!(clients.bucket(one), clients.bucket(one));
            clients.take(clients.bucket(one), &own, 1000, now);
            assert!(!clients.covers(clients.bucket(one), 1, now));
            clients.covers(clients.bucket(other), 1, now)
        });
        assert!(apart);
    }

    #[test]
    fn a_reload_that_changes_nothing_keeps_the_buckets() {
        let settings = Settings { response: Some(9), request: Some(9), burst: 9, per: Per::Rule };
        let old = Bandwidth::new(&settings, None);
        let new = Bandwidth::new(&settings, Some(&old));
        assert!(Arc::ptr_eq(&old.response.unwrap(), &new.response.unwrap()));
        let old = Bandwidth::new(&settings, None);
        let changed = Settings { burst: 10, ..settings };
        let new = Bandwidth::new(&changed, Some(&old));
        assert!(!Arc::ptr_eq(&old.request.unwrap(), &new.request.unwrap()));
    }

    #[test]
    fn pieces_are_those_of_a_twentieth_of_a_second() {
        for (rate, expected) in [(1, 1024), (1 << 20, 52_428), (1 << 30, 65_536)] {
            assert_eq!(side(rate, 0, Per::Request).piece(), expected);
        }
    }
}
