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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &str, length: u64, expected: Slice) {
        assert_eq!(of(asked.as_bytes(), length), expected, "{asked} of {length}");
    }

    #[test]
    fn one_range_is_a_part_rfc9110_14_1_2() {
        for (asked, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-4", 0..5),
            ("bytes=2-", 2..10),
            ("bytes=9-", 9..10),
            ("bytes=2-100", 2..10),
            ("bytes=2-99999999999999999999999999", 2..10),
            ("bytes=2-18446744073709551615", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-10", 0..10),
            ("bytes=-99999999999999999999999", 0..10),
            ("Bytes=1-1", 1..2),
            ("bytes= 1-1", 1..2),
            ("bytes=1-1,", 1..2),
        ] {
            check(asked, 10, Slice::Part(part));
        }
    }

    #[test]
    fn res_16_what_is_not_one_range_is_the_whole() {
        for asked in [
            "bytes=",
            "bytes=-",
            "bytes=,",
            "bytes",
            "",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=0x1-2",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=0-,0-,0-,0-,0-",
            "bytes=0-0,-1",
            "bytes=-1,-2",
        ] {
            check(asked, 10, Slice::Whole);
        }
        check("bytes=-1", 0, Slice::Whole);
    }

    #[test]
    fn res_16_what_lies_behind_the_end_cannot_be_had() {
        for asked in ["bytes=10-", "bytes=10-20", "bytes=18446744073709551616-", "bytes=-0"] {
            check(asked, 10, Slice::Unsatisfiable);
        }
        check("bytes=0-", 0, Slice::Unsatisfiable);
    }
}
