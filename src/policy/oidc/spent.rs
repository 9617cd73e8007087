//! Random numbers that may be used once, or no longer: states of logins, sessions that have ended.
//!
//! A fixed table of atomics that all cores share; it takes no lock and never grows. Under a flood the numbers that would run
//! out first give way: for a state, the provider's code, which works once only, is the second line. The table lives in the
//! process: another node does not know it. Called by `login`, `logout` and the check of sessions.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers that are spent.
pub struct Spent(Box<[AtomicU64]>);

const WAYS: usize = 4;
const SETS: usize = 4096;
// Times are kept in 28 bits, in steps of 16 s: until the year 2106.
const STEP: u64 = 16;
const TIME_BITS: u32 = 28;
const TIMES: u64 = (1 << TIME_BITS) - 1;
// Tries of a swap that others got ahead of; then the number is taken for spent.
const TRIES: usize = 16;

impl std::fmt::Debug for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spent")
    }
}

impl Default for Spent {
    fn default() -> Spent {
        Spent((0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Spent {
    /// Spends a random number until a time (unix seconds); false if it was spent already.
    pub fn spend(&self, number: &[u8; 16], until: u64, now: u64) -> bool {
        let (set, mark) = self.place(number);
        let ends = (until / STEP + 1).min(TIMES);
        for _ in 0..TRIES {
            let seen: Vec<u64> = set.iter().map(|slot| slot.load(Ordering::SeqCst)).collect();
            if seen.iter().any(|value| is(*value, mark, now)) {
                return false;
            }
            let over = |value: u64| if value & TIMES <= now / STEP { 0 } else { value & TIMES };
            let Some((at, value)) =
                seen.iter().copied().enumerate().min_by_key(|(_, value)| over(*value))
            else {
                return false;
            };
            let Some(slot) = set.get(at) else { return false };
            let swap = (Ordering::SeqCst, Ordering::SeqCst);
            if slot.compare_exchange(value, mark | ends, swap.0, swap.1).is_ok() {
                // Another core may have put the same number into another place: the first place wins.
                let before = set.get(..at).unwrap_or_default();
                return !before.iter().any(|s| is(s.load(Ordering::SeqCst), mark, now));
            }
        }
        false
    }

    /// Whether a number is spent.
    pub fn is_spent(&self, number: &[u8; 16], now: u64) -> bool {
        let (set, mark) = self.place(number);
        set.iter().any(|slot| is(slot.load(Ordering::Relaxed), mark, now))
    }

    fn place(&self, number: &[u8; 16]) -> (&[AtomicU64], u64) {
        let whole = u128::from_be_bytes(*number);
        let mark = u64::try_from(whole >> 64).unwrap_or_default() & !TIMES;
        let set = usize::try_from(whole & 0xfff).unwrap_or_default() % SETS;
        (self.0.get(set * WAYS..(set + 1) * WAYS).unwrap_or_default(), mark)
    }
}

fn is(value: u64, mark: u64, now: u64) -> bool {
    value & !TIMES == mark && value & TIMES > now / STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn number(n: u128) -> [u8; 16] {
        // Spread over marks and sets as random numbers are.
        (n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1).to_be_bytes()
    }

    #[test]
    fn a_number_is_spent_once_until_its_end() {
        let spent = Spent::default();
        assert!(!spent.is_spent(&number(7), NOW));
        assert!(spent.spend(&number(7), NOW + 600, NOW));
        assert!(!spent.spend(&number(7), NOW + 600, NOW));
        assert!(spent.is_spent(&number(7), NOW + 600));
        assert!(!spent.is_spent(&number(7), NOW + 600 + 2 * STEP));
        assert!(spent.spend(&number(7), NOW + 2000, NOW + 600 + 2 * STEP));
        assert!(spent.spend(&number(8), NOW + 600, NOW));
    }

    #[test]
    fn a_flood_pushes_out_what_ends_first() {
        let spent = Spent::default();
        let same_set = |n: u128| (n << 100 | 5).to_be_bytes();
        for n in 1..=4u128 {
            assert!(spent.spend(&same_set(n), NOW + 1000 * n as u64, NOW));
        }
        assert!(spent.spend(&same_set(9), NOW + 9000, NOW));
        assert!(!spent.is_spent(&same_set(1), NOW), "the first to end gave way");
        assert!((2..=4).all(|n| spent.is_spent(&same_set(n), NOW)));
    }

    #[test]
    fn of_many_cores_one_spends() {
        let spent = Spent::default();
        for n in 1..500u128 {
            let wins: usize = std::thread::scope(|scope| {
                let spend = || usize::from(spent.spend(&number(n), NOW + 600, NOW));
                let all: Vec<_> = (0..4).map(|_| scope.spawn(spend)).collect();
                all.into_iter().map(|one| one.join().unwrap()).sum()
            });
            assert_eq!(wins, 1, "number {n}");
        }
    }
}
