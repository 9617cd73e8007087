//! Patterns with `*` (any run of octets) and `?` (any one octet).
//!
//! Matching keeps one place to go back to, the last `*`, so its cost is at most the product of both lengths and
//! usually their sum; nothing is allocated. Percent-encoded text is decoded while it is read. There is no escape.

/// Whether letters of both cases are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// They differ.
    Exact,
    /// ASCII letters of both cases are the same.
    Fold,
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// Lower-case when case is folded; no two `*` in a row.
    pattern: Box<[u8]>,
    case: Case,
    shape: Shape,
}

/// The patterns that nearly all are, each with a cheaper way to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `*`
    Any,
    /// No wildcard.
    Literal,
    /// Literal octets, then one `*`.
    Prefix,
    /// One `*`, then literal octets.
    Suffix,
    /// Everything else.
    Mixed,
}

/// A pattern for whoever compares texts as rules do, case-sensitive.
#[derive(Clone, Debug)]
pub struct Pattern(Glob);

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Pattern {
        Pattern(Glob::new(text, Case::Exact))
    }

    /// Whether it fits all of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.matches(text)
    }
}

impl Glob {
    pub(super) fn new(text: &str, case: Case) -> Glob {
        let mut pattern = fold(text, case);
        pattern.dedup_by(|a, b| *a == b'*' && *b == b'*');
        let wild = |b: &u8| matches!(b, b'*' | b'?');
        let shape = match pattern.iter().position(wild) {
            None => Shape::Literal,
            Some(0) if pattern == b"*" => Shape::Any,
            Some(at) if at + 1 == pattern.len() && pattern.ends_with(b"*") => Shape::Prefix,
            Some(0) if pattern.first() == Some(&b'*') && !pattern.iter().skip(1).any(wild) => {
                Shape::Suffix
            }
            Some(_) => Shape::Mixed,
        };
        Glob { pattern: pattern.into(), case, shape }
    }

    /// A text in which `*` and `?` stand for themselves.
    pub(super) fn literal(text: &str, case: Case) -> Glob {
        Glob { pattern: fold(text, case).into(), case, shape: Shape::Literal }
    }

    #[inline]
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self.shape {
            Shape::Any => true,
            Shape::Literal => same(self.case, &self.pattern, text),
            Shape::Prefix => {
                let prefix = self.prefix();
                text.get(..prefix.len()).is_some_and(|head| same(self.case, prefix, head))
            }
            Shape::Suffix => {
                let suffix = self.suffix();
                let tail = text.len().checked_sub(suffix.len()).and_then(|at| text.get(at..));
                tail.is_some_and(|tail| same(self.case, suffix, tail))
            }
            Shape::Mixed => {
                let step =
                    |text: &[u8], at| plain(text, at).map(|(octet, n)| (self.fold(octet), n));
                walk(&self.pattern, text, step, |_| true)
            }
        }
    }

    /// Matches against what `text` says once percent-encoding is undone (RFC 3986 section 2.1). A `%` without two
    /// hexadecimal digits stands for itself.
    pub(super) fn matches_decoded(&self, text: &[u8]) -> bool {
        if memchr::memchr(b'%', text).is_none() {
            return self.matches(text);
        }
        let step = |text: &[u8], at| decode(text, at).map(|(octet, next)| (self.fold(octet), next));
        if self.shape != Shape::Literal {
            return walk(&self.pattern, text, step, |_| true);
        }
        let mut at = 0;
        for want in &self.pattern {
            match step(text, at) {
                Some((octet, next)) if octet == *want => at = next,
                _ => return false,
            }
        }
        at == text.len()
    }

    /// Whether this pattern matches everything that `other` matches. Sound, not complete: `other` is read as a text
    /// in which its own wildcards are symbols that only a wildcard at least as wide may take.
    pub(super) fn covers(&self, other: &Glob) -> bool {
        if self.case != other.case {
            return false;
        }
        match (self.shape, other.shape) {
            (Shape::Any, _) => true,
            (_, Shape::Literal) => self.matches(&other.pattern),
            (Shape::Literal, _) => false,
            // A `?` takes a literal or a `?`, never a `*`: that may stand for no octet or for two.
            _ => walk(&self.pattern, &other.pattern, plain, |symbol| symbol != b'*'),
        }
    }

    /// Matches everything.
    pub(super) fn is_any(&self) -> bool {
        self.shape == Shape::Any
    }

    /// Has no wildcard.
    pub(super) fn is_literal(&self) -> bool {
        self.shape == Shape::Literal
    }

    /// Whether a text that begins with [`Glob::prefix`] (and, for a literal, ends there) matches.
    pub(super) fn settled_by_prefix(&self) -> bool {
        matches!(self.shape, Shape::Any | Shape::Literal | Shape::Prefix)
    }

    /// Whether a text that ends with [`Glob::suffix`] (and, for a literal, begins there) matches.
    pub(super) fn settled_by_suffix(&self) -> bool {
        matches!(self.shape, Shape::Any | Shape::Literal | Shape::Suffix)
    }

    pub(super) fn pattern(&self) -> &[u8] {
        &self.pattern
    }

    /// The octets before the first wildcard.
    pub(super) fn prefix(&self) -> &[u8] {
        let end = match self.shape {
            Shape::Literal => self.pattern.len(),
            Shape::Prefix => self.pattern.len() - 1,
            _ => self.pattern.iter().position(|b| matches!(b, b'*' | b'?')).unwrap_or_default(),
        };
        self.pattern.get(..end).unwrap_or_default()
    }

    /// The octets after the last wildcard.
    pub(super) fn suffix(&self) -> &[u8] {
        let start = match self.shape {
            Shape::Literal => 0,
            Shape::Suffix => 1,
            _ => self.pattern.iter().rposition(|b| matches!(b, b'*' | b'?')).map_or(0, |at| at + 1),
        };
        self.pattern.get(start..).unwrap_or_default()
    }

    /// How many octets are no wildcard.
    pub(super) fn literals(&self) -> usize {
        match self.shape {
            Shape::Literal => self.pattern.len(),
            _ => self.pattern.iter().filter(|b| !matches!(b, b'*' | b'?')).count(),
        }
    }

    fn fold(&self, octet: u8) -> u8 {
        match self.case {
            Case::Exact => octet,
            Case::Fold => octet.to_ascii_lowercase(),
        }
    }
}

fn fold(text: &str, case: Case) -> Vec<u8> {
    match case {
        Case::Exact => text.as_bytes().to_vec(),
        Case::Fold => text.as_bytes().to_ascii_lowercase(),
    }
}

fn same(case: Case, pattern: &[u8], text: &[u8]) -> bool {
    match case {
        Case::Exact => pattern == text,
        Case::Fold => pattern.eq_ignore_ascii_case(text),
    }
}

/// The octet at `at`, and where the next one begins.
fn plain(text: &[u8], at: usize) -> Option<(u8, usize)> {
    text.get(at).map(|octet| (*octet, at + 1))
}

/// The octet at `at`, decoded, and where the next one begins.
fn decode(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let octet = *text.get(at)?;
    if octet == b'%' {
        let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
        if let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) {
            return Some((u8::try_from(high * 16 + low).unwrap_or(octet), at + 3));
        }
    }
    Some((octet, at + 1))
}

/// Matches all of `text`, which `step` reads: the octet at a place, and the next place. `one` says what a `?` takes.
fn walk(
    pattern: &[u8],
    text: &[u8],
    step: impl Fn(&[u8], usize) -> Option<(u8, usize)>,
    one: impl Fn(u8) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    // After the last `*`: the pattern that follows it, and where in the text that was tried.
    let mut back: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), step(text, t)) {
            (Some(b'*'), _) => {
                p += 1;
                back = Some((p, t));
                continue;
            }
            (None, None) => return true,
            // A longer run for the last `*` would leave even less text.
            (Some(_), None) => return false,
            (Some(b'?'), Some((octet, next))) if one(octet) => {
                p += 1;
                t = next;
                continue;
            }
            (Some(want), Some((octet, next))) if *want == octet && octet != b'?' => {
                p += 1;
                t = next;
                continue;
            }
            _ => {}
        }
        let Some((after, from)) = back else { return false };
        let Some((_, next)) = step(text, from) else { return false };
        back = Some((after, next));
        (p, t) = (after, next);
    }
}
