//! Answers of hostile targets: ambiguous, malformed, cut, too large, unasked, double.
//!
//! Hazards H1-32, RES-10, RES-11, UP-03, UP-06, UP-08, UP-23. Each says what a client may be told at most.

use super::{Basket, answer_families, cat};

/// What the target does behind its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Close,
    /// A close with a reset.
    Reset,
    /// The connection stays, silent.
    Stay,
    /// It stays, and a little later another response comes that nobody asked for.
    Later,
}

/// What the client must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// An answer of ringgate's own, 502 or 504.
    Refused,
    /// The same, or a body that visibly breaks off.
    Broken,
    /// This, whole.
    Exactly(u16, Vec<u8>),
    /// Whatever keeps to the framing.
    Anything,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub family: &'static str,
    pub method: &'static str,
    /// The client's version.
    pub old: bool,
    pub bytes: Vec<u8>,
    pub after: After,
    pub expected: Expected,
}

impl Answer {
    /// Whether the target's connection may carry another request: only behind a faultless answer.
    pub fn leaves_it_usable(&self) -> bool {
        matches!(self.expected, Expected::Exactly(..))
            && self.after == After::Stay
            && !self.family.starts_with("extra")
    }
}

/// All answers, no two alike.
pub fn all() -> Vec<Answer> {
    let mut list = List::default();
    answer_families::framing(&mut list);
    answer_families::heads(&mut list);
    answer_families::extra(&mut list);
    answer_families::cuts(&mut list);
    answer_families::interim(&mut list);
    answer_families::large(&mut list);
    answer_families::octets(&mut list);
    list.all
}

/// Collects answers, each once.
#[derive(Default)]
pub struct List {
    all: Vec<Answer>,
    seen: Basket,
}

impl List {
    pub fn put(
        &mut self,
        family: &'static str,
        method: &'static str,
        old: bool,
        bytes: Vec<u8>,
        after: After,
        expected: Expected,
    ) {
        let key = cat(&[&bytes, method.as_bytes(), &[u8::from(old), after as u8]]);
        let before = self.seen.all.len();
        self.seen.never(family, key);
        if self.seen.all.len() > before {
            self.all.push(Answer { family, method, old, bytes, after, expected });
        }
    }

    /// For every method and version, whether the target stays or goes.
    pub fn refused(&mut self, family: &'static str, bytes: impl AsRef<[u8]>) {
        for method in ["GET", "POST", "HEAD"] {
            for after in [After::Close, After::Stay, After::Reset] {
                self.put(family, method, false, bytes.as_ref().to_vec(), after, Expected::Refused);
            }
        }
        self.put(family, "GET", true, bytes.as_ref().to_vec(), After::Close, Expected::Refused);
    }

    pub fn broken(&mut self, family: &'static str, bytes: impl AsRef<[u8]>) {
        for (method, old) in [("GET", false), ("POST", false), ("GET", true)] {
            self.put(family, method, old, bytes.as_ref().to_vec(), After::Close, Expected::Broken);
            self.put(family, method, old, bytes.as_ref().to_vec(), After::Reset, Expected::Broken);
        }
    }

    pub fn exactly(
        &mut self,
        family: &'static str,
        method: &'static str,
        bytes: impl AsRef<[u8]>,
        status: u16,
        body: impl AsRef<[u8]>,
    ) {
        for after in [After::Stay, After::Close] {
            let expected = Expected::Exactly(status, body.as_ref().to_vec());
            self.put(family, method, false, bytes.as_ref().to_vec(), after, expected.clone());
        }
    }
}
