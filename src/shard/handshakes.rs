//! TLS handshakes of clients on one core: how many are in progress, how they ended, and how much is said about those that failed.
//!
//! A handshake costs a hundred times what a request does (hazard DOS-05), so that only so many are let in; and whoever fails them on
//! purpose must not fill the log.

use crate::base::Tick;
use crate::tls::facts::CIPHERS;
use crate::tls::{Facts, Reason};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What is said in a second at most; the counters have the rest.
const SAID: u32 = 10;

/// The handshakes of one worker.
#[derive(Debug, Default)]
pub struct Handshakes {
    active: Cell<usize>,
    since: Cell<Tick>,
    said: Cell<u32>,
}

/// A handshake in progress, until this is dropped.
#[derive(Debug)]
pub struct InProgress(Rc<Handshakes>);

impl Handshakes {
    /// One more; `None` if there are `most` already.
    pub fn begin(self: &Rc<Handshakes>, most: usize) -> Option<InProgress> {
        if self.active.get() >= most {
            return None;
        }
        self.active.set(self.active.get() + 1);
        Some(InProgress(Rc::clone(self)))
    }

    /// Whether one more failure may be logged.
    pub fn may_say(&self, now: Tick) -> bool {
        if now.since(self.since.get()) >= Duration::from_secs(1) {
            self.since.set(now);
            self.said.set(0);
        }
        self.said.set(self.said.get().saturating_add(1));
        self.said.get() <= SAID
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// How handshakes ended: written by one worker, read by control.
#[derive(Debug)]
pub struct HandshakeCounts {
    /// Complete ones: TLS 1.2 and 1.3, each full and resumed.
    complete: [[AtomicU64; 2]; 2],
    // Of these, by place in CIPHERS and PROTOCOLS.
    ciphers: [AtomicU64; CIPHERS.len()],
    protocols: [AtomicU64; PROTOCOLS.len()],
    failed: Box<[AtomicU64]>,
}

/// The versions of [`HandshakeCounts::complete`].
pub const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// What ALPN can have agreed on; the last one is nothing.
pub const PROTOCOLS: [&str; 4] = ["h2", "http/1.1", "acme-tls/1", "none"];

impl Default for HandshakeCounts {
    fn default() -> HandshakeCounts {
        HandshakeCounts {
            complete: Default::default(),
            ciphers: Default::default(),
            protocols: Default::default(),
            failed: Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl HandshakeCounts {
    /// Counts one that is complete.
    pub fn add(&self, facts: &Facts) {
        let version = usize::from(facts.version == VERSIONS[1]);
        self.complete[version][usize::from(facts.resumed)].fetch_add(1, Ordering::Relaxed);
        let cipher = CIPHERS.iter().position(|name| *name == facts.cipher);
        if let Some(count) = cipher.and_then(|at| self.ciphers.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let alpn = facts.alpn.as_deref().unwrap_or(b"none");
        let protocol = PROTOCOLS.iter().position(|name| name.as_bytes() == alpn);
        if let Some(count) = protocol.and_then(|at| self.protocols.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Complete ones with a cipher, an index into [`CIPHERS`].
    pub fn with_cipher(&self, at: usize) -> u64 {
        self.ciphers.get(at).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Complete ones that agreed on a protocol, an index into [`PROTOCOLS`].
    pub fn with_protocol(&self, at: usize) -> u64 {
        self.protocols.get(at).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts one that failed.
    pub fn add_failure(&self, reason: Reason) {
        if let Some(count) = self.failed.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Complete ones of a version (an index into [`VERSIONS`]): full, or resumed.
    pub fn complete(&self, version: usize, resumed: bool) -> u64 {
        let count = self.complete.get(version).map(|counts| &counts[usize::from(resumed)]);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Those that failed for a reason.
    pub fn failed(&self, reason: Reason) -> u64 {
        self.failed.get(reason.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_begin_and_only_so_much_is_said() {
        let handshakes = Rc::new(Handshakes::default());
        let first = handshakes.begin(1).unwrap();
        assert!(handshakes.begin(1).is_none());
        drop(first);
        assert!(handshakes.begin(1).is_some());
        let second = |n: u64| Tick::from_nanos(n * 1_000_000_000);
        let said = |at: Tick| (0..100).filter(|_| handshakes.may_say(at)).count();
        assert_eq!((said(second(5)), said(second(5)), said(second(6))), (10, 0, 10));
    }

    #[test]
    fn counts_are_told_apart() {
        let counts = HandshakeCounts::default();
        let cipher = CIPHERS[1];
        counts.add(&Facts { version: "TLSv1.3", resumed: true, cipher, ..Facts::default() });
        counts.add(&Facts { alpn: Some(Box::from(&b"h2"[..])), resumed: true, ..Facts::default() });
        assert_eq!([0, 1, 2].map(|at| counts.with_cipher(at)), [0, 1, 0]);
        assert_eq!([0, 1, 2, 3].map(|at| counts.with_protocol(at)), [1, 0, 0, 1]);
        counts.add_failure(Reason::Timeout);
        assert_eq!((counts.complete(1, true), counts.complete(1, false)), (1, 0));
        assert_eq!((counts.complete(0, true), counts.failed(Reason::Timeout)), (1, 1));
    }
}
