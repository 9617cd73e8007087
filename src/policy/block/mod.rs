//! Requests that no target should see: patterns in paths, queries, fields and cookies.
//!
//! The path is looked at as it is sent, percent-decoded once, and as lenient servers read it (`fold`); queries and cookies as
//! sent and decoded. Bodies are not looked at. The time is linear in the head, whatever it holds, and nothing is allocated for a
//! request that passes. Called through `policy::kind`.

pub mod fold;
pub mod pattern;

use crate::base::Tick;
use crate::http::Fault;
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong, lists};
use fold::{Plus, decode, fold};
use pattern::{Case, MOST, Matcher, Pattern};
use regex::bytes::RegexSet;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// In the path.
    pub path: List,
    /// In the query.
    pub query: List,
    /// In the Cookie fields.
    pub cookie: List,
    /// In any field.
    pub any_field: List,
    /// In the fields of a name (lower-case).
    pub fields: Vec<(String, Vec<Pattern>)>,
    /// How all of them are read.
    pub case: Case,
}

/// The patterns of one place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// What stands in the configuration.
    pub patterns: Vec<Pattern>,
    /// Files with one pattern a line.
    pub files: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            path: List::default(),
            query: List::default(),
            cookie: List::default(),
            any_field: List::default(),
            fields: Vec::new(),
            case: Case::Ignored,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let lists = [&self.path, &self.query, &self.cookie, &self.any_field];
        lists.into_iter().flat_map(|list| &list.files).cloned().collect()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    path: Option<Matcher>,
    query: Option<Matcher>,
    cookie: Option<Matcher>,
    any_field: Option<Matcher>,
    fields: Box<[(Box<str>, Matcher)]>,
}

/// What one core remembers: room to decode in, and what its expressions have learnt of what they saw.
#[derive(Debug)]
pub struct Core {
    scratch: RefCell<Scratch>,
    path: Option<RegexSet>,
    query: Option<RegexSet>,
    cookie: Option<RegexSet>,
    any_field: Option<RegexSet>,
    fields: Box<[Option<RegexSet>]>,
}

#[derive(Debug, Default)]
struct Scratch {
    decoded: Vec<u8>,
    folded: Vec<u8>,
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// A line of a file that is no pattern, or too many of them.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        _: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let mut left = MOST;
        let mut list =
            |list: &List, place: &str| compile(list, place, settings.case, files, &mut left);
        let path = list(&settings.path, "path")?;
        let query = list(&settings.query, "query")?;
        let cookie = list(&settings.cookie, "cookie")?;
        let any_field = list(&settings.any_field, "headers.*")?;
        let mut fields = Vec::new();
        for (name, patterns) in &settings.fields {
            let one = List { patterns: patterns.clone(), files: Vec::new() };
            let matcher = list(&one, &format!("headers.{name}"))?;
            fields.extend(matcher.map(|matcher| (Box::from(name.as_str()), matcher)));
        }
        Ok(Policy { path, query, cookie, any_field, fields: fields.into() })
    }

    /// Decides.
    #[inline]
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let Some(label) = self.find(core, subject) else { return Verdict::Pass };
        findings.note.clear();
        findings.note.push_str(label);
        Verdict::Refuse(Fault::PatternBlocked)
    }

    /// What the pattern is called that the request matches, as `path "/.git"` or `query bad.txt:3`.
    pub fn find(&self, core: &Core, subject: &Subject<'_>) -> Option<&str> {
        let view = &subject.view;
        // Nobody else holds it: a check calls nothing that checks.
        let Ok(mut scratch) = core.scratch.try_borrow_mut() else { return Some("busy") };
        let Scratch { decoded, folded } = &mut *scratch;
        if let Some(matcher) = &self.path {
            let find = |text: &[u8]| matcher.find(core.path.as_ref(), text);
            let mut found = find(view.path);
            let is_decoded = decode(view.path, Plus::Kept, decoded);
            if is_decoded {
                found = found.or_else(|| find(decoded));
            }
            if fold(if is_decoded { decoded } else { view.path }, folded) {
                found = found.or_else(|| find(folded));
            }
            if let Some(number) = found {
                return Some(matcher.label(number));
            }
        }
        let mut raw_and_decoded =
            |matcher: &Matcher, regexes: Option<&RegexSet>, text: &[u8], plus| {
                let found = matcher.find(regexes, text);
                found.or_else(|| match decode(text, plus, decoded) {
                    true => matcher.find(regexes, decoded),
                    false => None,
                })
            };
        if let (Some(matcher), Some(query)) = (&self.query, view.query) {
            let found = raw_and_decoded(matcher, core.query.as_ref(), query, Plus::Space);
            if let Some(number) = found {
                return Some(matcher.label(number));
            }
        }
        if let Some(matcher) = &self.cookie {
            // Whole lines: servers split them in different ways.
            for line in view.fields.all("cookie") {
                let found = raw_and_decoded(matcher, core.cookie.as_ref(), line, Plus::Kept);
                if let Some(number) = found {
                    return Some(matcher.label(number));
                }
            }
        }
        self.find_field(core, subject)
    }

    fn find_field(&self, core: &Core, subject: &Subject<'_>) -> Option<&str> {
        if self.any_field.is_none() && self.fields.is_empty() {
            return None;
        }
        for (name, value) in subject.view.fields.iter() {
            if let Some(matcher) = &self.any_field
                && let Some(number) = matcher.find(core.any_field.as_ref(), value)
            {
                return Some(matcher.label(number));
            }
            for ((wanted, matcher), regexes) in self.fields.iter().zip(&core.fields) {
                if !name.eq_ignore_ascii_case(wanted.as_bytes()) {
                    continue;
                }
                if let Some(number) = matcher.find(regexes.as_ref(), value) {
                    return Some(matcher.label(number));
                }
            }
        }
        None
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(policy: &Policy, _: Option<&Core>) -> Core {
        // A clone shares the compiled expressions, but not what they have learnt, which would be behind a lock.
        let own = |matcher: &Option<Matcher>| matcher.as_ref().and_then(|m| m.regexes.clone());
        Core {
            scratch: RefCell::default(),
            path: own(&policy.path),
            query: own(&policy.query),
            cookie: own(&policy.cookie),
            any_field: own(&policy.any_field),
            fields: policy.fields.iter().map(|(_, matcher)| matcher.regexes.clone()).collect(),
        }
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

fn compile(
    list: &List,
    place: &str,
    case: Case,
    files: Files<'_>,
    left: &mut usize,
) -> Result<Option<Matcher>, Wrong> {
    let label = |pattern: &Pattern| match pattern {
        Pattern::Plain(text) => format!("{place} {text:?}"),
        Pattern::Regex(text) => format!("{place} regex {text:?}"),
    };
    let mut patterns: Vec<(Pattern, String)> =
        list.patterns.iter().map(|pattern| (pattern.clone(), label(pattern))).collect();
    for path in &list.files {
        let octets = files(path).ok_or_else(|| lists::unread(path))?;
        read(path, &octets, place, &mut patterns)?;
    }
    let Some(rest) = left.checked_sub(patterns.len()) else {
        return Err(Wrong { file: None, found: format!("more than {MOST} patterns") });
    };
    *left = rest;
    let wrong = |found: String| Wrong { file: None, found: format!("{place}: {found}") };
    Matcher::new(&patterns, case).map_err(wrong)
}

fn read(
    path: &Path,
    octets: &[u8],
    place: &str,
    patterns: &mut Vec<(Pattern, String)>,
) -> Result<(), Wrong> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    for (number, line) in lists::lines(octets).filter(|(_, line)| !line.starts_with(b"#")) {
        let text = std::str::from_utf8(line);
        let text = text.map_err(|_| lists::wrong(path, number, "what is no UTF-8"))?;
        let pattern = Pattern::parse(text).map_err(|reason| {
            let reason = if reason.is_empty() { pattern::KIND.to_owned() } else { reason };
            let shown: String = text.chars().take(80).collect();
            lists::wrong(path, number, &format!("the pattern {shown:?}: {reason}"))
        })?;
        patterns.push((pattern, format!("{place} {name}:{number}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
