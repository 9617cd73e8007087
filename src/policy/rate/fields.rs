//! What a client is told of a limit: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), or the three
//! fields that came before them and that more clients read.
//!
//! `q` tokens come in `w` seconds; `r` are left now, which with a larger burst may be more than `q`; after `t` seconds the bucket is
//! full again. When to come again after a refusal is for `Retry-After`, which goes before `t`. Called by `rate`.

use crate::http::write;
use std::time::Duration;

/// Which fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Standard,
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.
    Legacy,
    /// All of them.
    Both,
    /// None of them.
    None,
}

/// The lines of one policy, as far as they are always the same.
#[derive(Debug)]
pub struct Lines {
    standard: Option<Vec<u8>>,
    legacy: Option<Vec<u8>>,
}

impl Lines {
    /// For a policy of this name, that allows `count` in `seconds`. Names hold nothing that a string could not (RFC 9651
    /// section 3.3.3).
    pub fn new(style: Style, name: &str, count: u64, seconds: u64) -> Lines {
        let (standard, legacy) = match style {
            Style::Standard => (true, false),
            Style::Legacy => (false, true),
            Style::Both => (true, true),
            Style::None => (false, false),
        };
        let of_policy = format!(
            "ratelimit-policy: \"{name}\";q={count};w={seconds}\r\nratelimit: \"{name}\";r="
        );
        let of_limit = format!("ratelimit-limit: {count}\r\nratelimit-remaining: ");
        Lines {
            standard: standard.then(|| of_policy.into_bytes()),
            legacy: legacy.then(|| of_limit.into_bytes()),
        }
    }

    /// Writes them.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>, left: u64, until_full: Duration) {
        let parts = [(&self.standard, b";t=".as_slice()), (&self.legacy, b"\r\nratelimit-reset: ")];
        for (first, between) in parts {
            let Some(first) = first else { continue };
            out.extend_from_slice(first);
            write::number(out, left);
            out.extend_from_slice(between);
            write::number(out, whole_seconds(until_full));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Writes `Retry-After` (RFC 9110 section 10.2.3): whole seconds, rounded up, so that whoever obeys is not refused again.
pub fn retry_after(out: &mut Vec<u8>, wait: Duration) {
    out.extend_from_slice(b"retry-after: ");
    write::number(out, whole_seconds(wait).max(1));
    out.extend_from_slice(b"\r\n");
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(style: Style, left: u64, until_full: Duration, expected: &str) {
        let mut out = Vec::new();
        Lines::new(style, "per-client", 100, 60).write(&mut out, left, until_full);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn writes_what_was_asked_for() {
        let ms = Duration::from_millis;
        let standard =
            "ratelimit-policy: \"per-client\";q=100;w=60\r\nratelimit: \"per-client\";r=7;t=2\r\n";
        let legacy = "ratelimit-limit: 100\r\nratelimit-remaining: 7\r\nratelimit-reset: 2\r\n";
        check(Style::Standard, 7, ms(1001), standard);
        check(Style::Legacy, 7, ms(2000), legacy);
        check(Style::Both, 7, ms(1500), &format!("{standard}{legacy}"));
        check(Style::None, 7, ms(1500), "");
    }

    #[test]
    fn nobody_is_told_to_come_too_early() {
        for (ms, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_999, "60")] {
            let mut out = Vec::new();
            retry_after(&mut out, Duration::from_millis(ms));
            assert_eq!(out, format!("retry-after: {expected}\r\n").into_bytes(), "{ms} ms");
        }
    }
}
