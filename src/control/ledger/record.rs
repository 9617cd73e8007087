//! The records of the usage ledger: octets to counts and back.
//!
//! A record is its length, a CRC-32 over length and content, and the content: what one consumer has used in one period, all of
//! it, so that reading a record twice, or an old one after a new one, changes nothing. What is no whole record is passed
//! over to the next one that is. Nothing is opened here. Called by `store`.

use crate::policy::api_key::{Every, Period};
use std::sync::Arc;

/// What a file begins with: its kind and the version of its records, which also goes into every checksum.
pub const MAGIC: &[u8; 8] = b"rgusage1";

/// Octets before the content: two of length, four of the checksum.
const HEAD: usize = 6;
/// Octets of the content without names.
const FIXED: usize = 27;

/// Whose count, and of which period.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The policy's name.
    pub policy: Arc<str>,
    /// The consumer's name.
    pub consumer: Arc<str>,
    /// What kind of period.
    pub every: Every,
    /// Where the period begins, in seconds since 1970.
    pub start: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose count.
    pub key: Key,
    /// Where the period ends, in seconds since 1970.
    pub end: u64,
    /// All that was used in it.
    pub count: u64,
}

impl Record {
    /// The record of a count in the period `number`.
    pub fn of(
        policy: &Arc<str>,
        consumer: &Arc<str>,
        period: Period,
        number: u32,
        count: u64,
    ) -> Record {
        let (start, end) = period.bounds(number);
        let (policy, consumer) = (Arc::clone(policy), Arc::clone(consumer));
        Record { key: Key { policy, consumer, every: period.every, start }, end, count }
    }

    /// Appends it to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Key { policy, consumer, every, start } = &self.key;
        let mut content = Vec::with_capacity(FIXED + policy.len() + consumer.len());
        content.push(code(*every));
        for number in [*start, self.end, self.count] {
            content.extend_from_slice(&number.to_le_bytes());
        }
        for name in [policy, consumer] {
            // Names in the configuration are shorter.
            let name = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
            content.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            content.extend_from_slice(name);
        }
        let len = u16::try_from(content.len()).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&len);
        out.extend_from_slice(&checksum(len, &content).to_le_bytes());
        out.extend_from_slice(&content);
    }
}

/// What of a file was no whole record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Octets before the last whole record.
    pub within: u64,
    /// Octets after it: a write that was cut off.
    pub at_end: u64,
}

/// Gives every whole record of a file to `each`; what was passed over.
pub fn read(octets: &[u8], mut each: impl FnMut(Record)) -> Damage {
    let mut damage = Damage::default();
    let mut rest = match octets.strip_prefix(MAGIC) {
        Some(rest) => rest,
        None => {
            let head = octets.len().min(MAGIC.len());
            damage.at_end = head as u64;
            octets.get(head..).unwrap_or_default()
        }
    };
    while !rest.is_empty() {
        match first(rest) {
            Some((record, len)) => {
                damage.within += std::mem::take(&mut damage.at_end);
                each(record);
                rest = rest.get(len..).unwrap_or_default();
            }
            None => {
                damage.at_end += 1;
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
    damage
}

/// The record that `octets` begin with, and its length.
fn first(octets: &[u8]) -> Option<(Record, usize)> {
    let (len, rest) = octets.split_first_chunk::<2>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let content_len = usize::from(u16::from_le_bytes(*len));
    let content = rest.get(..content_len)?;
    // The form first: it costs nothing, and damage rarely has it.
    let record = parse(content)?;
    (checksum(*len, content) == u32::from_le_bytes(*sum)).then_some((record, HEAD + content_len))
}

fn parse(content: &[u8]) -> Option<Record> {
    let (kind, rest) = content.split_first()?;
    let every = Every::WORDS.iter().map(|(_, every)| *every).find(|e| code(*e) == *kind)?;
    let (start, rest) = number(rest)?;
    let (end, rest) = number(rest)?;
    let (count, rest) = number(rest)?;
    let (policy, rest) = name(rest)?;
    let (consumer, rest) = name(rest)?;
    rest.is_empty().then(|| Record {
        key: Key { policy: policy.into(), consumer: consumer.into(), every, start },
        end,
        count,
    })
}

fn number(octets: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = octets.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn name(octets: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = octets.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

fn checksum(len: [u8; 2], content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(MAGIC);
    crc.update(&len);
    crc.update(content);
    crc.finalize()
}

fn code(every: Every) -> u8 {
    match every {
        Every::Day => 1,
        Every::Week => 2,
        Every::Month => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(n: u64) -> Record {
        let key = Key {
            policy: "keys".into(),
            consumer: format!("consumer-{n}").into(),
            every: [Every::Day, Every::Week, Every::Month][(n % 3) as usize],
            start: 1_795_219_200 + n,
        };
        Record { key, end: 1_795_305_600 + n, count: n * 1000 }
    }

    fn file(records: &[Record]) -> Vec<u8> {
        let mut octets = MAGIC.to_vec();
        records.iter().for_each(|record| record.write(&mut octets));
        octets
    }

    fn read_all(octets: &[u8]) -> (Vec<Record>, Damage) {
        let mut records = Vec::new();
        let damage = read(octets, |record| records.push(record));
        (records, damage)
    }

    #[test]
    fn reads_what_it_writes() {
        let records: Vec<Record> = (0..10).map(record).collect();
        assert_eq!(read_all(&file(&records)), (records, Damage::default()));
        assert_eq!(read_all(b""), (Vec::new(), Damage::default()));
    }

    #[test]
    fn every_cut_reads_to_the_last_whole_record() {
        let records: Vec<Record> = (0..5).map(record).collect();
        let mut ends = vec![MAGIC.len()];
        for n in 1..=records.len() {
            ends.push(file(&records[..n]).len());
        }
        let whole = file(&records);
        for cut in 0..=whole.len() {
            let (read, damage) = read_all(&whole[..cut]);
            let complete = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            assert_eq!(read, records[..complete], "cut at {cut}");
            let over = match ends.iter().rfind(|end| **end <= cut) {
                Some(end) => cut - end,
                None => cut,
            };
            assert_eq!(damage, Damage { within: 0, at_end: over as u64 }, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_costs_one_record() {
        let records: Vec<Record> = (0..4).map(record).collect();
        let whole = file(&records);
        for bit in 0..whole.len() * 8 {
            let mut octets = whole.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            let (read, damage) = read_all(&octets);
            assert_ne!(damage, Damage::default(), "bit {bit}");
            assert!(read.iter().all(|record| records.contains(record)), "bit {bit}: {read:?}");
            let lost = if bit / 8 < MAGIC.len() { 0 } else { 1 };
            assert_eq!(read.len(), records.len() - lost, "bit {bit}");
        }
    }

    #[test]
    fn records_of_another_version_are_not_taken_for_ours() {
        let other: Vec<u8> = [b"rgusage2", &file(&[record(1)])[MAGIC.len()..]].concat();
        // The checksum is over the version that is known here, so the file must have been damaged, not written anew.
        assert_eq!(read_all(&other).1.within, MAGIC.len() as u64);
    }

    proptest! {
        #[test]
        fn any_octets_between_records_are_passed_over(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            counts in prop::collection::vec(0..1000_u64, 2..6),
        ) {
            let records: Vec<Record> = counts.iter().map(|n| record(*n)).collect();
            let (before, after) = records.split_at(1);
            let mut octets = file(before);
            octets.extend_from_slice(&noise);
            after.iter().for_each(|record| record.write(&mut octets));
            let (read, damage) = read_all(&octets);
            // Noise that looks like the length of a record that reaches into the next one must not hide it.
            prop_assert_eq!(read, records);
            prop_assert_eq!(damage, Damage { within: noise.len() as u64, at_end: 0 });
        }

        #[test]
        fn any_octets_are_read_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..600)) {
            let (records, damage) = read_all(&octets);
            prop_assert!(records.is_empty());
            prop_assert_eq!(damage.at_end, octets.len() as u64);
        }
    }
}
