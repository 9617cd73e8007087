//! Session tickets: keys in memory only, the same for all workers, and turned over by control (hazard TLS-05).
//!
//! A set of keys belongs to what decides about trust: listener, policy, client CAs, CRL, kind of client authentication. When one of these
//! changes, so do the keys, and no session outlives what it was accepted by (hazard TLS-02). A worker reads them without
//! waiting for anybody.

use arc_swap::ArcSwap;
use rustls::Error;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long tickets are sealed by one key, in seconds. They are opened for as long again, so that none lives for 12 hours.
pub const TURN: u64 = 5 * 3600;

/// The keys of one set of tickets.
pub struct Tickets {
    keys: ArcSwap<Keys>,
    // Seconds since 1970.
    turned: AtomicU64,
}

struct Keys {
    current: Arc<dyn ProducesTickets>,
    previous: Option<Arc<dyn ProducesTickets>>,
}

impl Tickets {
    /// Fresh keys; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn new(now: u64) -> Result<Arc<Tickets>, Error> {
        let keys = ArcSwap::from_pointee(Keys { current: Ticketer::new()?, previous: None });
        Ok(Arc::new(Tickets { keys, turned: AtomicU64::new(now) }))
    }

    /// Turns the keys over if it is time. Control calls this, and only control.
    ///
    /// # Errors
    /// When there is no randomness; the keys stay as they are then.
    pub fn turn_if_due(&self, now: u64) -> Result<(), Error> {
        let age = now.saturating_sub(self.turned.load(Ordering::Relaxed));
        if age < TURN {
            return Ok(());
        }
        let current: Arc<dyn ProducesTickets> = Ticketer::new()?;
        // What has slept for longer, as machines do, opens nothing any more.
        let previous = (age < 2 * TURN).then(|| Arc::clone(&self.keys.load().current));
        self.keys.store(Arc::new(Keys { current, previous }));
        self.turned.store(now, Ordering::Relaxed);
        Ok(())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        (2 * TURN) as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.load().current.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.load();
        let by_previous = || keys.previous.as_ref().and_then(|keys| keys.decrypt(cipher));
        keys.current.decrypt(cipher).or_else(by_previous)
    }
}

// Nothing of a key is ever shown.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Hazard TLS-05.
    #[test]
    fn a_ticket_outlives_one_turn_and_not_two() {
        let tickets = Tickets::new(1000).unwrap();
        let sealed = tickets.encrypt(b"session").unwrap();
        tickets.turn_if_due(1000 + TURN - 1).unwrap();
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        tickets.turn_if_due(1000 + TURN).unwrap();
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        let newer = tickets.encrypt(b"session").unwrap();
        tickets.turn_if_due(1000 + 2 * TURN).unwrap();
        assert_eq!(tickets.decrypt(&sealed), None);
        assert!(tickets.decrypt(&newer).is_some());
        tickets.turn_if_due(1000 + 9 * TURN).unwrap();
        assert_eq!(tickets.decrypt(&newer), None, "after a long sleep nothing is left");
    }

    // Hazard TLS-02.
    #[test]
    fn one_set_does_not_open_what_another_has_sealed() {
        let (one, other) = (Tickets::new(0).unwrap(), Tickets::new(0).unwrap());
        assert_eq!(other.decrypt(&one.encrypt(b"session").unwrap()), None);
        assert!(u64::from(one.lifetime()) <= 12 * 3600);
    }
}
