//! When a certificate is ordered: ahead of its end, later and later while that fails, never often.
//!
//! Pure; seconds are since 1970. What was ordered is kept in the storage, so that a process that keeps being started anew
//! does not order each time. Called by `acme`.

use crate::base::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

const HOUR: u64 = 3600;
/// Orders for one name within an hour; Let's Encrypt allows five failed validations.
pub const MOST_OF_NAME: usize = 4;
/// Orders within an hour, all names together; Let's Encrypt allows 300 within three.
pub const MOST_OF_ALL: usize = 90;

/// Why there is no certificate, as far as the next attempt is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The authority was not reached: nothing was asked of it.
    Unreachable,
    /// It refused, or what it asked for failed.
    Refused,
    /// It says that it was asked too often.
    TooOften,
}

/// When a certificate is renewed: `before` its end, but not in the first half of its life.
pub fn renew_at(not_before: u64, not_after: u64, before: Duration) -> u64 {
    let life = not_after.saturating_sub(not_before);
    not_after.saturating_sub(before.as_secs().min(life / 2))
}

/// How long to wait after so many failures in a row: doubled with each, and up to a quarter more by chance.
pub fn wait_after(setback: Setback, failures: u32, rng: &mut Rng) -> Duration {
    let (first, most) = match setback {
        Setback::Unreachable => (5, HOUR),
        Setback::Refused => (60, 12 * HOUR),
        Setback::TooOften => (HOUR, 12 * HOUR),
    };
    let doublings = failures.saturating_sub(1).min(20);
    let millis = (first << doublings).min(most) * 1000;
    Duration::from_millis(millis + rng.u64(0..=millis / 4))
}

/// What was ordered within the last hour, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger(BTreeMap<String, Vec<u64>>);

impl Ledger {
    /// Notes an order.
    ///
    /// # Errors
    /// When there were enough already: how long to wait.
    pub fn note(&mut self, name: &str, now: u64) -> Result<(), Duration> {
        for orders in self.0.values_mut() {
            // What lies in the future is from before the clock was put right.
            orders.retain(|at| *at <= now && *at + HOUR > now);
        }
        self.0.retain(|_, orders| !orders.is_empty());
        let wait = |mut orders: Vec<u64>, most: usize| {
            orders.sort_unstable();
            let at = orders.len().checked_sub(most)?;
            let free = orders.get(at)? + HOUR;
            Some(Duration::from_secs(free.saturating_sub(now).max(1)))
        };
        let own = wait(self.0.get(name).cloned().unwrap_or_default(), MOST_OF_NAME);
        let all = wait(self.0.values().flatten().copied().collect(), MOST_OF_ALL);
        match own.max(all) {
            Some(wait) => Err(wait),
            None => {
                self.0.entry(name.to_owned()).or_default().push(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_ahead_of_the_end_but_not_in_the_first_half() {
        let day = 86_400;
        let days = |n: u64| Duration::from_secs(n * day);
        for (life, before, expected) in [
            (90, days(30), 60 * day),
            (90, days(89), 45 * day),
            (6, days(30), 3 * day),
            (90, Duration::from_secs(1), 90 * day - 1),
        ] {
            let at = 1_000_000;
            assert_eq!(renew_at(at, at + life * day, before), at + expected, "{life} {before:?}");
        }
        assert_eq!(renew_at(10, 5, days(1)), 5, "an end before the beginning");
    }

    #[test]
    fn waits_longer_with_each_failure_within_bounds() {
        let mut rng = Rng::with_seed(1);
        for (setback, first, most) in [
            (Setback::Unreachable, 5, 3600),
            (Setback::Refused, 60, 43_200),
            (Setback::TooOften, 3600, 43_200),
        ] {
            let mut before = Duration::ZERO;
            for failures in 1..40 {
                let wait = wait_after(setback, failures, &mut rng);
                let base =
                    Duration::from_secs((first << failures.min(20).saturating_sub(1)).min(most));
                assert!(wait >= base && wait <= base + base / 4, "{setback:?} {failures} {wait:?}");
                assert!(wait + wait / 4 >= before, "{setback:?} {failures}");
                before = wait;
            }
        }
    }

    #[test]
    fn few_orders_an_hour_whoever_asks() {
        let mut ledger = Ledger::default();
        for at in 0..4 {
            assert_eq!(ledger.note("a.test", 1000 + at), Ok(()));
        }
        assert_eq!(ledger.note("a.test", 1010), Err(Duration::from_secs(3590)));
        assert_eq!(ledger.note("b.test", 1010), Ok(()), "another name");
        // Over a restart.
        let text = serde_json::to_string(&ledger).unwrap();
        let mut ledger: Ledger = serde_json::from_str(&text).unwrap();
        assert!(ledger.note("a.test", 4599).is_err());
        assert_eq!(ledger.note("a.test", 4600), Ok(()), "the first is an hour old");
        assert_eq!(ledger.note("a.test", 4600), Err(Duration::from_secs(1)));
        for n in 0.. {
            if let Err(wait) = ledger.note(&format!("{n}.test"), 10_000) {
                assert_eq!((n, wait), (MOST_OF_ALL, Duration::from_secs(3600)));
                break;
            }
        }
        assert_eq!(ledger.note("a.test", 5), Ok(()), "a clock that went back locks nobody out");
    }
}
