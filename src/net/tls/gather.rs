//! What is written: the caller's octets, taken from however many parts, and what of them has been promised.

use crate::net::Buf;
use std::io::IoSlice;

/// Records that are sealed at once, at most.
pub(super) const RECORDS: usize = 5;

/// Records in `outgoing`: where each ends there, and how many octets of the caller's it holds.
#[derive(Default)]
pub(super) struct Promised {
    records: [(usize, usize); RECORDS],
    first: usize,
    count: usize,
    /// Octets sent since they were sealed.
    pub(super) sent: usize,
}

impl Promised {
    /// Whether the caller has been told of all of them.
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.count
    }

    /// One more.
    pub(super) fn push(&mut self, end: usize, octets: usize) {
        if let Some(slot) = self.records.get_mut(self.count) {
            *slot = (end, octets);
            self.count += 1;
        }
    }

    /// The caller's octets in records that have been sent since the last call.
    pub(super) fn take_sent(&mut self) -> usize {
        let mut taken = 0;
        while let Some((end, octets)) =
            self.records.get(self.first..self.count).and_then(|r| r.first())
            && *end <= self.sent
        {
            taken += octets;
            self.first += 1;
        }
        taken
    }
}

/// What is left of the caller's octets.
pub(super) struct Parts<'a> {
    parts: &'a [IoSlice<'a>],
    // Octets of the first part that are taken.
    skip: usize,
}

impl<'a> Parts<'a> {
    /// All of them.
    pub(super) fn new(parts: &'a [IoSlice<'a>]) -> Parts<'a> {
        Parts { parts, skip: 0 }
    }

    /// The next `length` octets, where they lie in one part.
    pub(super) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        while let Some((first, rest)) = self.parts.split_first() {
            if self.skip < first.len() {
                let octets = first.get(self.skip..self.skip + length)?;
                self.skip += length;
                return Some(octets);
            }
            (self.parts, self.skip) = (rest, 0);
        }
        None
    }

    /// The next `length` octets, from however many parts.
    pub(super) fn gather(&mut self, length: usize, into: &mut Buf) {
        while into.len() < length
            && let Some((first, rest)) = self.parts.split_first()
        {
            let octets = first.get(self.skip..).unwrap_or_default();
            let n = octets.len().min(length - into.len());
            into.append(octets.get(..n).unwrap_or_default());
            self.skip += n;
            if self.skip >= first.len() {
                (self.parts, self.skip) = (rest, 0);
            }
        }
    }
}
