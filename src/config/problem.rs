//! What is wrong with a file: where, what was found, what was expected, and what was probably meant.
//!
//! Reading never stops at the first problem; all of them are collected and shown together. Nothing here knows what a
//! key means. Called by every reader of this folder, and printed by `check`, `run` and a refused reload.

use crate::config::Place;
use std::fmt;

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key, as `group.api.targets[1].weight`; empty for a problem of the file itself.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

/// All problems of a file and its includes, in the order of the files and lines. Never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => write!(f, "{}", self.file),
            (line, 0) => write!(f, "{}:{line}", self.file),
            (line, column) => write!(f, "{}:{line}:{column}", self.file),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", OneLine(&self.key))?;
        }
        write!(f, "found {}, expected {}", OneLine(&self.found), OneLine(&self.expected))?;
        match &self.hint {
            Some(hint) => write!(f, "\n  help: {}", OneLine(hint)),
            None => Ok(()),
        }
    }
}

/// Text of which parts may come from the file or the environment: it must not begin a line of a log, nor move the
/// cursor of a terminal.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.split_inclusive(char::is_control);
        parts.try_for_each(|part| match part.char_indices().next_back() {
            Some((at, c)) if c.is_control() => {
                write!(f, "{}{}", part.get(..at).unwrap_or_default(), c.escape_default())
            }
            _ => f.write_str(part),
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Why a text is not a value of its kind; the reader adds place, key and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Instead of the general description of the kind; empty for that one.
    pub(super) expected: String,
    /// See [`Problem::hint`].
    pub(super) hint: Option<String>,
}

impl Wrong {
    /// Not what the kind allows, and nothing more to say about it.
    pub(super) fn plain<T>() -> Result<T, Wrong> {
        Err(Wrong::default())
    }

    /// A more precise expectation.
    pub(super) fn expected<T>(expected: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { expected: expected.into(), hint: None })
    }

    /// The general expectation with a hint.
    pub(super) fn hint<T>(hint: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { expected: String::new(), hint: Some(hint.into()) })
    }
}

/// A text in quotes, escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// `did you mean "X"?` for the candidate nearest to `word`, if one is near.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    /// So that many wrong names in a file of many names cost no minutes.
    const CANDIDATES: usize = 2000;
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let (word, furthest) = (plain(word), (word.len() / 3).clamp(1, 3));
    let near = candidates
        .into_iter()
        .take(CANDIDATES)
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= furthest)
        .map(|candidate| (distance(&word, &plain(candidate)), candidate))
        .min()?;
    (near.0 <= furthest).then(|| format!("did you mean {:?}?", near.1))
}

/// The Levenshtein distance: insertions, deletions and substitutions of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, to) in row.iter().skip(1).zip(&b) {
            left = (diagonal + usize::from(from != *to)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
            ("ab", "ba", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let names = ["round_robin", "random", "p2c"];
        for (word, expected) in [
            ("round-robin", Some("round_robin")),
            ("Random", Some("random")),
            ("randm", Some("random")),
            ("least_time", None),
            ("", None),
        ] {
            let expected = expected.map(|name| format!("did you mean {name:?}?"));
            assert_eq!(did_you_mean(word, names), expected, "{word}");
        }
    }

    #[test]
    fn shows_place_key_and_hint() {
        let mut problem = Problem {
            place: Place { file: "a.toml".into(), line: 2, column: 3 },
            key: "group.api.algorithm".to_owned(),
            found: quoted("x"),
            expected: "one of random, p2c".to_owned(),
            hint: Some("try".to_owned()),
        };
        let text = "a.toml:2:3: group.api.algorithm: found \"x\", expected one of random, p2c\n  help: try";
        assert_eq!(problem.to_string(), text);
        problem.place.line = 0;
        problem.key.clear();
        problem.hint = None;
        assert_eq!(problem.to_string(), "a.toml: found \"x\", expected one of random, p2c");
    }
}
