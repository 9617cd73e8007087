//! Durations and sizes: one number and one unit, as `"250ms"` and `"16KiB"`.
//!
//! No sums (`"1m30s"`), no fractions, no decimal kilobytes: each value has one way to be written per unit.
//! Called by `item`, which adds place and key to what is wrong.

use crate::config::problem::Wrong;
use std::time::Duration;

/// What a duration looks like.
pub(super) const DURATION: &str = "a duration such as \"250ms\", \"10s\", \"5m\" or \"1h\"";
/// What a size looks like.
pub(super) const SIZE: &str = "a size such as 512, \"512B\", \"16KiB\", \"1MiB\" or \"1GiB\"";

/// What a share looks like.
pub(super) const SHARE: &str = "a share from \"0%\" to \"100%\", as \"20%\" or \"2.5%\"";

const MS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const BYTES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A duration; zero is left to the caller's range.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    if let Some(ms) = number_and_unit(text, &MS) {
        return Ok(Duration::from_millis(ms));
    }
    let (number, unit) = split(text);
    match unit.trim().to_ascii_lowercase().as_str() {
        _ if number.is_empty() => Wrong::plain(),
        "" | "sec" | "secs" | "second" | "seconds" | "s" => meant(number, "s"),
        "msec" | "millis" | "milliseconds" | "ms" => meant(number, "ms"),
        "min" | "mins" | "minute" | "minutes" | "m" => meant(number, "m"),
        "hour" | "hours" | "hr" | "h" => meant(number, "h"),
        _ => Wrong::plain(),
    }
}

/// A share in ten-thousandths: up to 100 %, with at most two decimals.
pub(super) fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > 3 || decimals.len() > 2 {
        return None;
    }
    let hundredths = format!("{decimals:0<2}").parse::<u32>().ok()?;
    let share = whole.parse::<u32>().ok()? * 100 + hundredths;
    (share <= 10_000).then_some(share)
}

/// A size in bytes.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    if let Some(bytes) = number_and_unit(text, &BYTES) {
        return Ok(bytes);
    }
    let (number, unit) = split(text);
    match unit.trim().to_ascii_lowercase().as_str() {
        _ if number.is_empty() => Wrong::plain(),
        "" | "b" => meant(number, "B"),
        "k" | "kb" | "ki" | "kib" => meant(number, "KiB"),
        "m" | "mb" | "mi" | "mib" => meant(number, "MiB"),
        "g" | "gb" | "gi" | "gib" => meant(number, "GiB"),
        _ => Wrong::plain(),
    }
}

/// A number with up to three decimals, such as 1, 1.5 or 0.125, in thousandths.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let decimals: u64 = format!("{decimals:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(decimals)
}

/// A duration as the file would write it.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &MS)
}

/// A size as the file would write it.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &BYTES)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let whole =
        units.iter().rev().find(|(_, scale)| value >= *scale && value.is_multiple_of(*scale));
    match whole.or(units.first()) {
        Some((unit, scale)) => format!("{}{unit}", value / scale),
        None => value.to_string(),
    }
}

fn number_and_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = split(text);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn meant<T>(number: &str, unit: &str) -> Result<T, Wrong> {
    Wrong::hint(format!("did you mean \"{number}{unit}\"?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_shares() {
        for (text, expected) in [
            ("0%", Some(0)),
            ("20%", Some(2000)),
            ("2.5%", Some(250)),
            ("0.01%", Some(1)),
            ("100%", Some(10_000)),
            ("100.01%", None),
            ("0.001%", None),
            (".5%", None),
            ("5.%", None),
            ("-1%", None),
            ("20", None),
            ("%", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
    }

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("10s", Some(10_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("10", None),
            ("10 s", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5s", None),
            ("1m30s", None),
            ("1d", None),
            ("1S", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0B", Some(0)),
            ("512B", Some(512)),
            ("16KiB", Some(16 << 10)),
            ("1MiB", Some(1 << 20)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("16", None),
            ("16KB", None),
            ("16 KiB", None),
            ("1.5MiB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn hints_at_the_unit_that_was_meant() {
        let hint = |text: &str| duration(text).err().and_then(|wrong| wrong.hint);
        assert_eq!(hint("10 sec").as_deref(), Some("did you mean \"10s\"?"));
        assert_eq!(hint("1m30s"), None);
        let hint = |text: &str| size(text).err().and_then(|wrong| wrong.hint);
        assert_eq!(hint("16KB").as_deref(), Some("did you mean \"16KiB\"?"));
    }

    #[test]
    fn shows_what_it_reads() {
        for text in ["0ms", "1ms", "1500ms", "90s", "1h", "24h"] {
            assert_eq!(show_duration(duration(text).unwrap()), text);
        }
        for text in ["0B", "1023B", "1KiB", "1MiB", "3GiB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
