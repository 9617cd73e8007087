//! What is made to go wrong on purpose, and for which requests.
//!
//! Called by `proxy::inject`, for rules that say so; there is nothing of it on any other.

use crate::fanout::Share;
use crate::http::Fields;
use std::time::Duration;

/// The longest that a request is held back, whatever it meets.
pub const LONGEST: Duration = Duration::from_secs(60);

/// What is made to go wrong on purpose: each of them decides for itself, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InjectSettings {
    /// At least one.
    pub faults: Vec<FaultSettings>,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSettings {
    /// How long the request is held back: anything from the one to the other.
    pub delay: Option<(Duration, Duration)>,
    /// How it ends then.
    pub abort: Option<Abort>,
    /// For how many of the requests that `header` lets through.
    pub share: Share,
    /// Fields (lower-case) that the request must have, each with one of these patterns.
    pub header: Vec<(String, Vec<String>)>,
}

/// How a request ends that is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// With this status.
    Status(u16),
    /// With a connection, or a stream of HTTP/2, that is reset.
    Reset,
}

/// What a request meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meets {
    /// How long it is held back.
    pub delay: Duration,
    /// How it ends.
    pub abort: Option<Abort>,
}

impl FaultSettings {
    /// Whether a request with these fields may meet it.
    pub fn concerns(&self, fields: Fields<'_>) -> bool {
        self.header.iter().all(|(name, patterns)| has(fields, name, patterns))
    }
}

impl InjectSettings {
    /// What a request with these fields meets; `draw` gives a number below its argument. Delays add up, and behind the first
    /// abort nothing comes.
    pub fn meet(&self, fields: Fields<'_>, mut draw: impl FnMut(u64) -> u64) -> Meets {
        let mut meets = Meets::default();
        for one in &self.faults {
            if !one.concerns(fields) {
                continue;
            }
            let drawn = u32::try_from(draw(u64::from(Share::WHOLE))).unwrap_or(0);
            if !one.share.takes(drawn) {
                continue;
            }
            if let Some((least, most)) = one.delay {
                let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(0);
                let extra = Duration::from_micros(draw(span.saturating_add(1)));
                meets.delay = meets.delay.saturating_add(least + extra).min(LONGEST);
            }
            if one.abort.is_some() {
                meets.abort = one.abort;
                break;
            }
        }
        meets
    }
}

fn has(fields: Fields<'_>, name: &str, patterns: &[String]) -> bool {
    fields.all(name).any(|value| patterns.iter().any(|p| fits(p.as_bytes(), value)))
}

// `*` is any run of octets, `?` any one, case says nothing: as in conditions of rules. Goes back to the last `*` only, so that it
// takes no more steps than both are long, multiplied.
fn fits(pattern: &[u8], value: &[u8]) -> bool {
    let (mut p, mut v) = (0, 0);
    let mut back = None;
    while let Some(octet) = value.get(v) {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, v));
                p += 1;
            }
            Some(one) if *one == b'?' || one.eq_ignore_ascii_case(octet) => {
                (p, v) = (p + 1, v + 1);
            }
            _ => {
                let Some((star, at)) = back else { return false };
                back = Some((star, at + 1));
                (p, v) = (star + 1, at + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;

    const MS: Duration = Duration::from_millis(1);

    fn fault(delay: Option<(u32, u32)>, abort: Option<Abort>, share: u32) -> FaultSettings {
        let delay = delay.map(|(least, most)| (MS * least, MS * most));
        FaultSettings { delay, abort, share: Share(share), header: Vec::new() }
    }

    fn meet(faults: &[FaultSettings], drawn: u64) -> Meets {
        let fields = OwnedFields::default();
        let settings = InjectSettings { faults: faults.to_vec() };
        settings.meet(fields.view(), |below| drawn.min(below - 1))
    }

    #[test]
    fn requests_meet_what_they_draw() {
        let late = fault(Some((10, 20)), None, 5);
        let dead = fault(None, Some(Abort::Status(503)), 5);
        let reset = fault(Some((1, 1)), Some(Abort::Reset), Share::WHOLE);
        let of = |delay: u32, abort| Meets { delay: MS * delay, abort };
        assert_eq!(meet(&[], 0), of(0, None));
        assert_eq!(meet(std::slice::from_ref(&late), 0), of(10, None));
        assert_eq!(meet(std::slice::from_ref(&late), 5), of(0, None));
        let some = meet(&[fault(Some((10, 20)), None, Share::WHOLE)], 4000);
        assert_eq!(some.delay, MS * 14);
        assert_eq!(meet(&[fault(Some((10, 20)), None, Share::WHOLE)], 1 << 40).delay, MS * 20);
        assert_eq!(
            meet(&[late.clone(), dead.clone()], 4),
            of(10, Some(Abort::Status(503))).plus(4)
        );
        assert_eq!(meet(&[dead, reset.clone()], 0), of(0, Some(Abort::Status(503))));
        assert_eq!(meet(&[late, reset], 9), of(1, Some(Abort::Reset)));
    }

    impl Meets {
        // What was drawn beyond the least, in microseconds.
        fn plus(self, micros: u64) -> Meets {
            Meets { delay: self.delay + Duration::from_micros(micros), ..self }
        }
    }

    #[test]
    fn patterns_fit_as_those_of_conditions_do() {
        for (pattern, value, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "x", false),
            ("on", "ON", true),
            ("o?", "on", true),
            ("o?", "o", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("*ab", "aab", true),
            ("a**", "a", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), value.as_bytes()), expected, "{pattern} {value}");
        }
        // Must not take a while.
        let (pattern, value) = ("*a".repeat(2000) + "b", "a".repeat(4000));
        assert!(!fits(pattern.as_bytes(), value.as_bytes()));
    }
}
