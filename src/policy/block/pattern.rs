//! Patterns, and many of them as one: plain texts by Aho-Corasick, regular expressions by a set.
//!
//! Both look at each octet a bounded number of times, whatever the octets and the patterns (no backtracking). An expression
//! speaks of octets, not of characters: what is no UTF-8 is looked at like everything else. Called by `policy::block` and by the
//! reader of its keys.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{RegexBuilder, RegexSet, RegexSetBuilder};

/// A pattern as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// A text that must not occur anywhere.
    Plain(String),
    /// `regex:...`, which must not match anywhere.
    Regex(String),
}

/// How the patterns of a policy are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `a` is `A` (of ASCII).
    Ignored,
    /// It is not.
    Kept,
}

/// The longest pattern.
pub const LONGEST: usize = 2048;
/// The most patterns of one policy.
pub const MOST: usize = 20_000;
/// The most expressions of one place that is looked at.
pub const MOST_REGEXES: usize = 2000;
/// What the expressions of one place may take when they are compiled, and again while they are run, per core.
const SIZE: usize = 16 << 20;
/// What one expression may take.
const SIZE_OF_ONE: usize = 1 << 20;

/// What [`Pattern::parse`] accepts.
pub const KIND: &str =
    "a text of 1 to 2048 octets, or a regular expression as \"regex:\\\\.(bak|sql)$\"";

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it; empty where [`KIND`] says it.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.len() > LONGEST {
            return Err(String::new());
        }
        let Some(regex) = text.strip_prefix("regex:") else {
            let fits = !text.is_empty();
            return if fits { Ok(Pattern::Plain(text.to_owned())) } else { Err(String::new()) };
        };
        let mut builder = RegexBuilder::new(regex);
        let builder = builder.unicode(false).size_limit(SIZE_OF_ONE);
        match builder.build() {
            Ok(regex) if regex.is_match(b"") => Err("it matches everything".to_owned()),
            Ok(_) => Ok(Pattern::Regex(regex.to_owned())),
            Err(regex::Error::CompiledTooBig(_)) => {
                Err(format!("it compiles to more than {SIZE_OF_ONE} octets"))
            }
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                Err(reason.trim_start_matches("error: ").to_owned())
            }
        }
    }
}

/// The patterns of one place.
#[derive(Debug)]
pub struct Matcher {
    plain: Option<AhoCorasick>,
    /// The expressions; each core has a copy of its own, since they remember what they have seen.
    pub regexes: Option<RegexSet>,
    // The labels of the plain texts, and then of the expressions.
    labels: Box<[Box<str>]>,
    plains: usize,
}

impl Matcher {
    /// All of these as one, with what to call them; `None` for no pattern.
    ///
    /// # Errors
    /// That they are too many.
    pub fn new(patterns: &[(Pattern, String)], case: Case) -> Result<Option<Matcher>, String> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let ignored = case == Case::Ignored;
        let (mut plain, mut regexes) = (Vec::new(), Vec::new());
        let (mut labels, mut more) = (Vec::new(), Vec::new());
        for (pattern, label) in patterns {
            match pattern {
                Pattern::Plain(text) => {
                    plain.push(text);
                    labels.push(Box::from(label.as_str()));
                }
                Pattern::Regex(text) => {
                    regexes.push(text);
                    more.push(Box::from(label.as_str()));
                }
            }
        }
        let plains = plain.len();
        labels.extend(more);
        let mut builder = AhoCorasick::builder();
        let builder = builder.match_kind(MatchKind::Standard).ascii_case_insensitive(ignored);
        let plain = (plains > 0).then(|| builder.build(plain)).transpose();
        let plain = plain.map_err(|error| error.to_string())?;
        Ok(Some(Matcher { plain, regexes: set(&regexes, ignored)?, labels: labels.into(), plains }))
    }

    /// The number of a pattern that occurs. `regexes` is the core's copy of [`Matcher::regexes`].
    #[inline]
    pub fn find(&self, regexes: Option<&RegexSet>, text: &[u8]) -> Option<usize> {
        if let Some(found) = self.plain.as_ref().and_then(|plain| plain.find(text)) {
            return Some(found.pattern().as_usize());
        }
        let set = regexes.filter(|set| set.is_match(text))?;
        Some(self.plains + set.matches(text).iter().next().unwrap_or_default())
    }

    /// What the pattern of this number is called.
    pub fn label(&self, number: usize) -> &str {
        self.labels.get(number).map_or("", |label| label)
    }
}

fn set(regexes: &[&String], ignored: bool) -> Result<Option<RegexSet>, String> {
    if regexes.len() > MOST_REGEXES {
        return Err(format!(
            "{} regular expressions for one place, and {MOST_REGEXES} are the most",
            regexes.len()
        ));
    }
    if regexes.is_empty() {
        return Ok(None);
    }
    let mut builder = RegexSetBuilder::new(regexes);
    builder.unicode(false).dot_matches_new_line(true).case_insensitive(ignored);
    builder.size_limit(SIZE).dfa_size_limit(SIZE);
    let too_big = |error: regex::Error| match error {
        regex::Error::CompiledTooBig(_) => {
            format!("regular expressions that together compile to more than {SIZE} octets")
        }
        other => other.to_string(),
    };
    builder.build().map(Some).map_err(too_big)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(patterns: &[&str], case: Case) -> Matcher {
        let parsed = patterns.iter().map(|p| (Pattern::parse(p).unwrap(), format!("<{p}>")));
        Matcher::new(&parsed.collect::<Vec<_>>(), case).unwrap().unwrap()
    }

    #[test]
    fn a_pattern_is_plain_or_an_expression() {
        assert_eq!(Pattern::parse("a.b"), Ok(Pattern::Plain("a.b".to_owned())));
        assert_eq!(Pattern::parse("regex:a.b"), Ok(Pattern::Regex("a.b".to_owned())));
        for (text, wrong) in [
            ("", ""),
            ("regex:", "it matches everything"),
            ("regex:a*", "it matches everything"),
            ("regex:(", "unclosed group"),
            ("regex:\\p{L}", "Unicode"),
            ("regex:(a{1000}){1000}", "compiles to more than"),
            (&"x".repeat(LONGEST + 1), ""),
        ] {
            let found = Pattern::parse(text).unwrap_err();
            assert!(found.contains(wrong), "{text}: {found}");
        }
    }

    #[test]
    fn finds_which_pattern_occurs() {
        let patterns = ["/.git", "regex:\\.(bak|sql)$", "UNION SELECT", "regex:^/x.y", "\u{e9}"];
        let ignoring = matcher(&patterns, Case::Ignored);
        let keeping = matcher(&patterns, Case::Kept);
        for (text, ignored, kept) in [
            (b"/a/.git/config".as_slice(), "</.git>", "</.git>"),
            (b"/a/.GIT/config", "</.git>", ""),
            (b"/dump.SQL", "<regex:\\.(bak|sql)$>", ""),
            (b"/dump.sql", "<regex:\\.(bak|sql)$>", "<regex:\\.(bak|sql)$>"),
            (b"/dump.sqlx", "", ""),
            (b"x union select y", "<UNION SELECT>", ""),
            (b"/x\xffy", "<regex:^/x.y>", "<regex:^/x.y>"),
            (b"/x\ny", "<regex:^/x.y>", "<regex:^/x.y>"),
            ("\u{e9}".as_bytes(), "<\u{e9}>", "<\u{e9}>"),
            (b"", "", ""),
        ] {
            for (matcher, expected) in [(&ignoring, ignored), (&keeping, kept)] {
                let found = matcher.find(matcher.regexes.as_ref(), text);
                assert_eq!(found.map_or("", |n| matcher.label(n)), expected, "{text:?}");
            }
        }
        assert!(Matcher::new(&[], Case::Kept).unwrap().is_none());
    }

    #[test]
    fn too_many_expressions_are_refused() {
        let many = vec![(Pattern::Regex("a".to_owned()), String::new()); MOST_REGEXES + 1];
        assert!(Matcher::new(&many, Case::Kept).unwrap_err().contains("2001 regular expressions"));
        let big = vec![(Pattern::Regex("(a{200}){100}".to_owned()), String::new()); 100];
        assert!(Matcher::new(&big, Case::Kept).unwrap_err().contains("together"));
    }
}
