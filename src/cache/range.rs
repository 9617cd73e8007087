//! The range of octets that a request asks for (RFC 9110 section 14.1.2): one, or all of it.
//!
//! Several ranges are answered with the whole: nothing that needs them is served from a cache, and they are how caches are made to
//! send more than they hold (hazard RES-16). Called by `conditional`.

use std::ops::Range;

/// What is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// All of it: what was asked is no range, several, or of another unit.
    Whole,
    /// Some of it.
    Part(Range<u64>),
    /// There is nothing at that place.
    Unsatisfiable,
}

/// What `asked`, a value of `Range`, is of a body of `length` octets.
pub fn of(asked: &[u8], length: u64) -> Slice {
    let Some((unit, set)) = split(asked, b'=') else { return Slice::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Slice::Whole;
    }
    let mut ranges = set.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|r| !r.is_empty());
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Slice::Whole };
    let Some((first, last)) = split(range, b'-') else { return Slice::Whole };
    match (first, last) {
        (b"", b"") => Slice::Whole,
        (b"", last) => match number(last) {
            None => Slice::Whole,
            Some(0) => Slice::Unsatisfiable,
            // Of nothing there is no part that could be named.
            Some(_) if length == 0 => Slice::Whole,
            Some(count) => Slice::Part(length.saturating_sub(count)..length),
        },
        (first, last) => {
            let Some(from) = number(first) else { return Slice::Whole };
            let to = match last {
                b"" => length,
                last => match number(last) {
                    Some(last) if last >= from => last.saturating_add(1).min(length),
                    _ => return Slice::Whole,
                },
            };
            if from < length { Slice::Part(from..to) } else { Slice::Unsatisfiable }
        }
    }
}

// More than any body has is the most.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

fn split(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(at, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}
