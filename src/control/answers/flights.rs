//! Questions of one key that are under way at the same time are asked once (hazard AUTH-18), and what a service said may be
//! kept for a moment for those who come right after.
//!
//! What is kept is bounded in number and octets; the oldest goes first. Refusals of the service to answer at all (5xx),
//! failures, and cookies, which are for one client, are never kept. Called by `answers`.

use crate::base::Tick;
use crate::policy::ask::Called;
use crate::policy::{Question, Reply};
use aws_lc_rs::digest;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The worker.
    pub worker: usize,
    /// Its name for the question.
    pub ticket: u64,
}

/// What names a question.
pub type Key = [u8; 32];

/// Answers that are kept.
const MOST_KEPT: usize = 8192;
/// Octets that they may have together.
const MOST_OCTETS: usize = 16 << 20;
/// What an answer costs beside its octets.
const OVERHEAD: usize = 256;

/// What is under way, and what is kept.
#[derive(Debug, Default)]
pub struct Flights {
    waiting: RefCell<HashMap<Key, Vec<Asker>>>,
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    replies: HashMap<Key, (Reply, Tick, u64)>,
    // In the order in which they came; an entry that was replaced meanwhile has another number.
    order: VecDeque<(Key, u64)>,
    octets: usize,
    count: u64,
}

/// By what a question is known to be the same, and how long its answer is kept. A password is known by its hash, too.
pub fn key(question: &Question) -> (Option<Key>, Duration) {
    match question {
        Question::Password { hash, password } => {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(b"password");
            context.update(&(hash.len() as u64).to_le_bytes());
            context.update(hash.as_bytes());
            context.update(password);
            (context.finish().as_ref().try_into().ok(), Duration::ZERO)
        }
        Question::Call(call) => (call.once, call.keep),
    }
}

impl Flights {
    /// Waits for the flight of this key, if there is one; otherwise one begins.
    pub fn join(&self, key: Key, asker: Asker) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let askers = waiting.entry(key).or_default();
        askers.push(asker);
        askers.len() > 1
    }

    /// Everybody who waits for this key; its flight is over.
    pub fn land(&self, key: &Key) -> Vec<Asker> {
        self.waiting.borrow_mut().remove(key).unwrap_or_default()
    }

    /// What is kept for a key.
    pub fn kept(&self, key: &Key, now: Tick) -> Option<Reply> {
        let kept = self.kept.borrow();
        let (reply, until, _) = kept.replies.get(key)?;
        (now < *until).then(|| reply.clone())
    }

    /// Keeps an answer for `keep`.
    pub fn keep(&self, key: Key, reply: &Reply, keep: Duration, now: Tick) {
        let lasts = |called: &Called| called.status < 500 && called.field("set-cookie").is_none();
        let worth = matches!(reply, Reply::Called(called) if lasts(called));
        if !worth || keep.is_zero() || size(reply) > MOST_OCTETS {
            return;
        }
        let kept = &mut *self.kept.borrow_mut();
        kept.remove(&key);
        kept.count += 1;
        kept.octets += size(reply);
        kept.replies.insert(key, (reply.clone(), now.after(keep), kept.count));
        kept.order.push_back((key, kept.count));
        while kept.is_over(now) {
            kept.drop_oldest();
        }
    }
}

impl Kept {
    /// Whether the oldest has to go: too many, too large, replaced or past its time.
    fn is_over(&self, now: Tick) -> bool {
        let Some((key, number)) = self.order.front() else { return false };
        let current = self.replies.get(key).filter(|(_, _, n)| n == number);
        let past = current.is_none_or(|(_, until, _)| *until <= now);
        past || self.replies.len() > MOST_KEPT || self.octets > MOST_OCTETS
    }

    fn drop_oldest(&mut self) {
        let Some((key, number)) = self.order.pop_front() else { return };
        if self.replies.get(&key).is_some_and(|(_, _, n)| *n == number) {
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some((reply, ..)) = self.replies.remove(key) {
            self.octets = self.octets.saturating_sub(size(&reply));
        }
    }
}

fn size(reply: &Reply) -> usize {
    let Reply::Called(called) = reply else { return OVERHEAD };
    let fields: usize = called.fields.iter().map(|(n, v)| n.len() + v.len() + 64).sum();
    OVERHEAD + fields + called.body.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn said(status: u16, octets: usize) -> Reply {
        Reply::Called(Arc::new(Called { status, fields: Vec::new(), body: vec![0; octets] }))
    }

    fn at(ms: u64) -> Tick {
        Tick::from_nanos(ms * 1_000_000)
    }

    fn name(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn an_answer_is_kept_for_its_time_unless_it_is_a_failure() {
        let flights = Flights::default();
        let keep = Duration::from_millis(10);
        for (number, reply, kept) in [
            (1, said(200, 1), true),
            (2, said(401, 1), true),
            (3, said(503, 1), false),
            (4, Reply::Failed(Arc::from("x")), false),
            (5, Reply::Password(true), false),
        ] {
            flights.keep(name(number), &reply, keep, at(0));
            assert_eq!(flights.kept(&name(number), at(9)).is_some(), kept, "{reply:?}");
            assert!(flights.kept(&name(number), at(10)).is_none(), "{reply:?}");
        }
        let fields = vec![("set-cookie".to_owned(), b"a=1".to_vec())];
        let cookie = Reply::Called(Arc::new(Called { status: 200, fields, body: Vec::new() }));
        flights.keep(name(7), &cookie, keep, at(0));
        assert!(flights.kept(&name(7), at(1)).is_none(), "a cookie is for one client");
        flights.keep(name(6), &said(200, 1), Duration::ZERO, at(0));
        assert!(flights.kept(&name(6), at(0)).is_none());
    }

    #[test]
    fn what_is_kept_has_bounds_and_the_oldest_goes_first() {
        let flights = Flights::default();
        let keep = Duration::from_secs(60);
        for number in 0..MOST_KEPT + 10 {
            flights.keep(name(number), &said(200, 0), keep, at(0));
        }
        assert_eq!(flights.kept.borrow().replies.len(), MOST_KEPT);
        assert!(
            flights.kept(&name(9), at(1)).is_none() && flights.kept(&name(10), at(1)).is_some()
        );
        for number in 0..20 {
            flights.keep(name(number), &said(200, 1 << 20), keep, at(2));
            flights.keep(name(number), &said(200, 1 << 20), keep, at(2));
        }
        let kept = flights.kept.borrow();
        assert!(kept.octets <= MOST_OCTETS && kept.replies.len() < 20, "{}", kept.octets);
        let sum: usize = kept.replies.values().map(|(reply, ..)| size(reply)).sum();
        assert_eq!(kept.octets, sum);
        drop(kept);
        flights.keep(name(99), &said(200, MOST_OCTETS), keep, at(2));
        assert!(flights.kept(&name(99), at(2)).is_none(), "larger than all of it");
    }

    #[test]
    fn a_flight_is_joined_until_it_lands() {
        let flights = Flights::default();
        let asker = |ticket| Asker { worker: 0, ticket };
        assert!(!flights.join(name(1), asker(1)), "the first one asks");
        assert!(flights.join(name(1), asker(2)));
        assert!(!flights.join(name(2), asker(3)));
        assert_eq!(flights.land(&name(1)), [asker(1), asker(2)]);
        assert!(!flights.join(name(1), asker(4)), "the next one asks anew");
    }

    #[test]
    fn a_password_is_the_same_only_for_the_same_hash() {
        let ask = |hash: &str, password: &str| {
            key(&Question::Password { hash: Arc::from(hash), password: password.into() }).0
        };
        assert_eq!(ask("a", "b"), ask("a", "b"));
        assert_ne!(ask("a", "b"), ask("a", "c"));
        assert_ne!(ask("ab", "c"), ask("a", "bc"));
    }
}
