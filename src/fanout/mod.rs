//! One request, several answers: what is mirrored and compared, what is injected, and how parts are merged.
//!
//! Pure decisions; `proxy` sends and receives.

pub mod compare;
pub mod freshness;
pub mod inject;
pub mod json;
pub mod merge;
pub mod mirror;

pub use compare::CompareSettings;
pub use inject::InjectSettings;
pub use merge::{AggregateSettings, PartSettings};
pub use mirror::MirrorSettings;

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

impl Share {
    /// A million millionths.
    pub const WHOLE: u32 = 1_000_000;
    /// Every request.
    pub const ALL: Share = Share(Share::WHOLE);

    /// A share of so many millionths; more than all is all.
    pub fn of(millionths: u32) -> Share {
        Share(millionths.min(Share::WHOLE))
    }

    /// `10%`, `0.5%`: above nothing, at most all, with up to four decimals.
    pub fn parse(text: &str) -> Option<Share> {
        let number = text.strip_suffix('%')?.trim_end();
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 4 {
            return None;
        }
        let fraction: u32 = format!("{fraction:0<4}").parse().ok()?;
        let millionths = whole.parse::<u32>().ok()? * 10_000 + fraction;
        (1..=Share::WHOLE).contains(&millionths).then_some(Share(millionths))
    }

    /// Whether a request is among them that has drawn a number below [`Share::WHOLE`].
    pub fn takes(self, drawn: u32) -> bool {
        drawn < self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_percentages() {
        for (text, expected) in [
            ("10%", Some(100_000)),
            ("100%", Some(1_000_000)),
            ("100.0%", Some(1_000_000)),
            ("0.5%", Some(5_000)),
            ("0.0001%", Some(1)),
            ("12.25 %", Some(122_500)),
            ("0%", None),
            ("100.0001%", None),
            ("101%", None),
            ("0.00001%", None),
            ("10", None),
            ("-1%", None),
            ("+1%", None),
            (".5%", None),
            ("5.%", None),
            ("%", None),
            ("9999999999%", None),
        ] {
            assert_eq!(Share::parse(text), expected.map(Share), "{text}");
        }
        assert!(Share::of(1).takes(0) && !Share::of(1).takes(1));
        assert!(Share::ALL.takes(Share::WHOLE - 1) && !Share::of(0).takes(0));
    }
}
