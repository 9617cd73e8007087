//! What is known of the keys that share a place: responses, fetches on their way, and what is not to be stored. Never changed, only replaced.

use crate::base::Tick;
use crate::cache::vary::MOST_VARIANTS;
use crate::store::flight::Mark;
use crate::store::{Entry, Flight};
use std::sync::Arc;

/// Responses, and marks, in one place, whatever their keys; beyond it one of them goes.
pub const MOST_IN_BUCKET: usize = 256;
// Fetches in one place; beyond it nobody waits for another.
pub(super) const MOST_FLIGHTS: usize = 256;

/// One place of the table.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) flights: Vec<Arc<Flight>>,
    pub(super) marks: Vec<Arc<Mark>>,
}

impl Bucket {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.flights.is_empty() && self.marks.is_empty()
    }

    /// Octets of all that is in it, but for flights, whose requests count elsewhere.
    pub(super) fn charge(&self) -> u64 {
        let entries: u64 = self.entries.iter().map(|entry| entry.charge()).sum();
        entries + self.marks.iter().map(|mark| mark.charge()).sum::<u64>()
    }

    /// With one more response: it takes the place of the one that it is a newer version of.
    pub(super) fn with(&self, fresh: &Arc<Entry>) -> Bucket {
        let same = |entry: &&Arc<Entry>| entry.key == fresh.key && entry.variant == fresh.variant;
        let mut entries: Vec<_> = self.entries.iter().filter(|e| !same(e)).cloned().collect();
        let variants = entries.iter().filter(|entry| entry.key == fresh.key).count();
        if variants >= MOST_VARIANTS {
            drop_coldest(&mut entries, |entry| entry.key == fresh.key);
        } else if entries.len() >= MOST_IN_BUCKET {
            drop_coldest(&mut entries, |_| true);
        }
        entries.push(Arc::clone(fresh));
        // One that is validated for each request is of no use to those who wait, as before.
        let known = |mark: &&Arc<Mark>| mark.key != fresh.key || !fresh.stored.is_for_others();
        let marks = self.marks.iter().filter(known).cloned().collect();
        Bucket { entries, flights: self.flights.clone(), marks }
    }

    /// Without the responses that `keep` does not want.
    pub(super) fn only(&self, keep: impl Fn(&Arc<Entry>) -> bool) -> Bucket {
        let entries = self.entries.iter().filter(|entry| keep(entry)).cloned().collect();
        Bucket { entries, flights: self.flights.clone(), marks: self.marks.clone() }
    }

    /// Without what is over.
    pub(super) fn at(&self, now: Tick) -> Bucket {
        let mut bucket = self.only(|entry| entry.until > now);
        bucket.marks.retain(|mark| mark.until > now);
        bucket
    }

    /// With a flight; what was known of its key is to be found out anew.
    pub(super) fn entered(&self, flight: &Arc<Flight>) -> Bucket {
        let mut bucket = self.only(|_| true);
        bucket.marks.retain(|mark| mark.key != flight.key || mark.personal != flight.personal);
        bucket.flights.push(Arc::clone(flight));
        bucket
    }

    /// Without the flight, of which a mark may be left.
    pub(super) fn left(&self, flight: &Arc<Flight>, mark: Option<&Arc<Mark>>) -> Bucket {
        let mut bucket = self.only(|_| true);
        bucket.flights.retain(|other| !Arc::ptr_eq(other, flight));
        if let Some(mark) = mark {
            bucket.marks.retain(|other| other.key != mark.key || other.personal != mark.personal);
            bucket.marks.truncate(MOST_IN_BUCKET - 1);
            bucket.marks.push(Arc::clone(mark));
        }
        bucket
    }
}

fn drop_coldest(entries: &mut Vec<Arc<Entry>>, of: impl Fn(&Arc<Entry>) -> bool) {
    let candidates = entries.iter().enumerate().filter(|(_, entry)| of(entry));
    if let Some((at, _)) = candidates.min_by_key(|(_, entry)| (entry.heat(), entry.until)) {
        entries.remove(at);
    }
}
