//! One value of the file with its place and key, and typed readings of it.
//!
//! Each reading either gives the value or notes a problem and gives nothing; none stops the others. A table checks its
//! keys against a list when it is opened. What a value means, and how values depend on each other, is not known here.
//! Called by the readers of the sections.

use crate::config::Place;
use crate::config::expand::{self, Env, Unresolved};
use crate::config::keys::Keys;
use crate::config::problem::{Problem, Wrong, did_you_mean, quoted};
use crate::config::units;
use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One file while it is read.
pub(super) struct Doc<'a> {
    file: Arc<str>,
    text: &'a str,
    /// The offset of each line.
    lines: Vec<usize>,
    /// Columns are characters; they need counting only where a character may be several octets.
    ascii: bool,
    env: Env<'a>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Doc<'a> {
    /// A document over the text of `file`.
    pub(super) fn new(file: Arc<str>, text: &'a str, env: Env<'a>) -> Doc<'a> {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Doc { file, text, lines, ascii: text.is_ascii(), env, problems: RefCell::default() }
    }

    /// The place of an offset.
    pub(super) fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let column = match self.text.get(start..offset) {
            Some(before) if !self.ascii => before.chars().filter(|c| *c != '\u{feff}').count(),
            _ => offset.saturating_sub(start),
        };
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Place { file: Arc::clone(&self.file), line: number(line), column: number(column + 1) }
    }

    /// Notes a problem.
    pub(super) fn note(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// All that was noted.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The whole document as a table.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>, keys: Keys) -> Table<'a> {
        let table = Table { doc: self, table, keys, path: String::new(), span: 0..0 };
        table.check_keys(|_| None);
        table
    }
}

/// A value with its key.
#[derive(Clone)]
pub(super) struct Item<'a> {
    doc: &'a Doc<'a>,
    /// The dotted key.
    pub(super) path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Item<'a> {
    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.doc.place(self.value.span().start)
    }

    /// Notes that this value is not what was expected.
    pub(super) fn wrong(&self, expected: impl Into<String>) {
        self.problem(describe(self.value.get_ref()), expected, None);
    }

    /// Notes a problem at this value.
    pub(super) fn problem(
        &self,
        found: impl Into<String>,
        expected: impl Into<String>,
        hint: Option<String>,
    ) {
        self.doc.note(Problem {
            place: self.place(),
            key: self.path.clone(),
            found: found.into(),
            expected: expected.into(),
            hint,
        });
    }

    /// Whether it is an array.
    pub(super) fn is_array(&self) -> bool {
        self.value.get_ref().is_array()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether it is a number.
    pub(super) fn is_integer(&self) -> bool {
        self.value.get_ref().is_integer()
    }

    /// Whether it is true or false.
    pub(super) fn is_boolean(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    /// A string, with variables replaced; `kind` says what was expected if it is none.
    pub(super) fn text(&self, kind: &str) -> Option<Cow<'a, str>> {
        let DeValue::String(text) = self.value.get_ref() else {
            self.wrong(kind);
            return None;
        };
        match expand::expand(text, self.doc.env) {
            Ok(text) => Some(text),
            Err(Unresolved::Unset(name)) => {
                let found = format!("${{{name}}}, which is not set");
                let hint = format!("set {name}, or give a default: ${{{name}:-...}}");
                self.problem(found, "an environment variable that is set", Some(hint));
                None
            }
            Err(Unresolved::Malformed) => {
                let hint = "a literal ${ is written $${".to_owned();
                self.problem(quoted(text), "${NAME} or ${NAME:-default}", Some(hint));
                None
            }
        }
    }

    /// A string that `parse` understands; `kind` says what was expected.
    pub(super) fn parsed<T>(
        &self,
        kind: &str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let text = self.text(kind)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(Wrong { expected, hint }) => {
                let expected = if expected.is_empty() { kind.to_owned() } else { expected };
                self.problem(quoted(&text), expected, hint);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let expected = match words {
            [(only, _)] => format!("{only:?}"),
            _ => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
        };
        self.parsed(&expected, |text| {
            let word = words.iter().find(|(name, _)| *name == text);
            word.map(|(_, value)| value.clone())
                .ok_or_else(|| Wrong { expected: String::new(), hint: did_you_mean(text, names()) })
        })
    }

    /// `true` or `false`; also as a string that holds a variable.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.boolean_or("true or false")
    }

    /// [`Item::boolean`] where the file may also say something else.
    pub(super) fn boolean_or(&self, kind: &str) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if text.contains("${") => {
                self.parsed(kind, |text| text.parse().or_else(|_| Wrong::plain()))
            }
            _ => {
                self.wrong(kind);
                None
            }
        }
    }

    /// A whole number; also as a string that holds a variable.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let kind = format!("a whole number from {} to {}", range.start(), range.end());
        self.integer_or(&kind, range)
    }

    /// [`Item::integer`] where the file may also say something else.
    pub(super) fn integer_or(&self, kind: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = match self.value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            DeValue::String(text) if text.contains("${") => {
                return self.parsed(kind, |text| {
                    let value = text.trim().parse().ok().filter(|value| range.contains(value));
                    value.ok_or_else(Wrong::default)
                });
            }
            _ => None,
        };
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.wrong(kind);
        }
        value
    }

    /// A number with up to three decimals, in thousandths; also as a string that holds a variable.
    pub(super) fn thousandths(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = (range.start() / 1000, range.end() / 1000);
        let kind = format!("a number from {from} to {to} with up to three decimals");
        let read = |text: &str| units::thousandths(text).filter(|value| range.contains(value));
        let value = match self.value.get_ref() {
            DeValue::Integer(number) => read(number.as_str()),
            DeValue::Float(number) => read(number.as_str()),
            DeValue::String(text) if text.contains("${") => {
                return self.parsed(&kind, |text| read(text.trim()).ok_or_else(Wrong::default));
            }
            _ => None,
        };
        if value.is_none() {
            self.wrong(kind);
        }
        value
    }

    /// A whole number that may be negative; also as a string that holds a variable.
    pub(super) fn signed(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let kind = format!("a whole number from {} to {}", range.start(), range.end());
        if self.value.get_ref().as_str().is_some_and(|text| text.contains("${")) {
            return self.parsed(&kind, |text| {
                let value = text.trim().parse().ok().filter(|value| range.contains(value));
                value.ok_or_else(Wrong::default)
            });
        }
        let value = match self.value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            self.wrong(kind);
        }
        value
    }

    /// A duration within a range.
    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        if let DeValue::Integer(number) = self.value.get_ref() {
            let hint = format!("did you mean \"{}s\"?", number.as_str());
            self.problem(number.to_string(), units::DURATION, Some(hint));
            return None;
        }
        self.parsed(units::DURATION, |text| {
            let duration = units::duration(text)?;
            if range.contains(&duration) {
                return Ok(duration);
            }
            let (from, to) = (*range.start(), *range.end());
            let (from, to) = (units::show_duration(from), units::show_duration(to));
            Wrong::expected(format!("a duration from {from} to {to}"))
        })
    }

    /// [`Item::duration`], also in days.
    pub(super) fn long_duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let days = self.peek_text().and_then(|text| text.strip_suffix('d'));
        let Some(days) = days.and_then(|days| days.parse::<u32>().ok()) else {
            return self.duration(range);
        };
        let duration = Duration::from_secs(24 * 3600 * u64::from(days));
        if range.contains(&duration) {
            return Some(duration);
        }
        let (from, to) = (*range.start(), *range.end());
        let (from, to) = (units::show_duration(from), units::show_duration(to));
        self.wrong(format!("a duration from {from} to {to}"));
        None
    }

    /// A size in bytes within a range.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.size_or(units::SIZE, range)
    }

    fn size_or(&self, kind: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (from, to) = (units::show_size(*range.start()), units::show_size(*range.end()));
        let bounds = format!("a size from {from} to {to}");
        if self.is_integer() {
            return self.integer_or(&bounds, range);
        }
        self.parsed(kind, |text| {
            let number = text.bytes().all(|byte| byte.is_ascii_digit()) && self.holds_variable();
            let size = match text.parse() {
                Ok(size) if number => size,
                _ => units::size(text)?,
            };
            if range.contains(&size) { Ok(size) } else { Wrong::expected(bounds) }
        })
    }

    /// A number with or without decimals as it is written, also as a string that holds a variable; `kind` says what was expected.
    pub(super) fn decimal(&self, kind: &str) -> Option<String> {
        match self.value.get_ref() {
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            DeValue::Integer(number) => Some(number.as_str().to_owned()),
            DeValue::String(text) if text.contains("${") => self.text(kind).map(Cow::into_owned),
            _ => {
                self.wrong(kind);
                None
            }
        }
    }

    /// A share as "10%" or "2.5%", in ten-thousandths.
    pub(super) fn share(&self) -> Option<u32> {
        self.parsed(units::SHARE, |text| units::share(text).ok_or_else(Wrong::default))
    }

    /// A number of percent as 2.5, or a [`Item::share`]; in ten-thousandths.
    pub(super) fn percent(&self) -> Option<u32> {
        const KIND: &str =
            "a number of percent from 0 to 100, as 5 or 2.5, with at most two decimals";
        let number = match self.value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::String(_) => return self.share(),
            _ => "",
        };
        let share = units::share(&format!("{number}%"));
        if share.is_none() {
            self.wrong(KIND);
        }
        share
    }

    /// `"none"` as `Some(None)`, or a size within a range.
    pub(super) fn size_or_none(&self, range: RangeInclusive<u64>) -> Option<Option<u64>> {
        match self.value.get_ref() {
            DeValue::String(text) if text == "none" => Some(None),
            _ => self.size_or(&format!("\"none\" or {}", units::SIZE), range).map(Some),
        }
    }

    /// Whether the value was written with a variable, which only a string can hold.
    fn holds_variable(&self) -> bool {
        self.value.get_ref().as_str().is_some_and(|text| text.contains("${"))
    }

    /// Any value that JSON has, as JSON: no date, and no number that is none.
    pub(super) fn json(&self) -> Option<String> {
        let mut out = String::new();
        if json(self.value.get_ref(), &mut out).is_none() {
            self.wrong("a value that JSON has");
            return None;
        }
        Some(out)
    }

    /// The items of an array; `kind` says what was expected if it is none.
    pub(super) fn array(&self, kind: &str) -> Vec<Item<'a>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            self.wrong(kind);
            return Vec::new();
        };
        array
            .iter()
            .enumerate()
            .map(|(i, value)| Item { doc: self.doc, path: format!("{}[{i}]", self.path), value })
            .collect()
    }

    /// The items of an array that must not be empty, or a single value in place of an array of one.
    pub(super) fn one_or_more(&self, kind: &str) -> Vec<Item<'a>> {
        if !self.is_array() {
            return vec![self.clone()];
        }
        let items = self.array(kind);
        if items.is_empty() {
            self.problem("an empty list", format!("at least one: {kind}"), None);
        }
        items
    }

    /// A table whose keys the program knows.
    pub(super) fn table(&self, keys: Keys) -> Option<Table<'a>> {
        self.table_hinting(keys, |_| None)
    }

    /// [`Item::table`] with a hint of its own for certain unknown keys.
    pub(super) fn table_hinting(
        &self,
        keys: Keys,
        hint: impl Fn(&str) -> Option<String>,
    ) -> Option<Table<'a>> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong(format!("a table of {}", keys.join(", ")));
            return None;
        };
        let (path, span) = (self.path.clone(), self.value.span());
        let table = Table { doc: self.doc, table, keys, path, span };
        table.check_keys(hint);
        Some(table)
    }

    /// The entries of a table whose keys the file chooses, in the order of the file.
    pub(super) fn entries(&self, kind: &str) -> Vec<(&'a str, Item<'a>)> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong(kind);
            return Vec::new();
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
            .into_iter()
            .map(|(key, value)| {
                let path = format!("{}.{}", self.path, key.get_ref());
                (key.get_ref().as_ref(), Item { doc: self.doc, path, value })
            })
            .collect()
    }

    /// The string as it is written, without noting anything.
    pub(super) fn peek_text(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    /// The string under a key of this table as it is written, without noting anything.
    pub(super) fn peek(&self, key: &str) -> Option<&'a str> {
        self.value.get_ref().as_table()?.get(key)?.get_ref().as_str()
    }
}

/// A table whose keys were checked.
pub(super) struct Table<'a> {
    doc: &'a Doc<'a>,
    table: &'a DeTable<'a>,
    keys: Keys,
    /// The dotted key; empty for the whole file.
    pub(super) path: String,
    span: Range<usize>,
}

impl<'a> Table<'a> {
    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.doc.place(self.span.start)
    }

    /// The value of a key that is in the list.
    pub(super) fn item(&self, key: &str) -> Option<Item<'a>> {
        debug_assert!(self.keys.contains(&key), "{key} is read from {} but not listed", self.path);
        let value = self.table.get(key)?;
        Some(Item { doc: self.doc, path: self.dotted(key), value })
    }

    /// [`Table::item`], noting a problem if it is left out.
    pub(super) fn need(&self, key: &str, expected: &str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.problem(self.dotted(key), "nothing", expected);
        }
        item
    }

    /// Notes a problem of the table as a whole.
    pub(super) fn problem(&self, key: String, found: impl Into<String>, expected: &str) {
        self.problem_at(self.place(), key, found, expected);
    }

    /// Notes a problem at a place inside the table.
    pub(super) fn problem_at(
        &self,
        place: Place,
        key: String,
        found: impl Into<String>,
        expected: &str,
    ) {
        let (found, expected) = (found.into(), expected.to_owned());
        self.doc.note(Problem { place, key, found, expected, hint: None });
    }

    /// The keys that are given.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'a str, Place)> {
        let doc = self.doc;
        self.table.keys().map(move |key| (key.get_ref().as_ref(), doc.place(key.span().start)))
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn check_keys(&self, hint: impl Fn(&str) -> Option<String>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.keys.contains(&name) {
                continue;
            }
            self.doc.note(Problem {
                place: self.doc.place(key.span().start),
                key: self.dotted(name),
                found: format!("the unknown key {}", quoted(name)),
                expected: format!("one of {}", self.keys.join(", ")),
                hint: hint(name).or_else(|| did_you_mean(name, self.keys.iter().copied())),
            });
        }
    }
}

/// Overwrites a default with a value, if one was given and right.
pub(super) fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

// `None` where there is something in it that JSON does not have.
fn json(value: &DeValue<'_>, out: &mut String) -> Option<()> {
    let quoted = |text: &str| serde_json::to_string(text).ok();
    match value {
        DeValue::String(text) => out.push_str(&quoted(text)?),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            out.push_str(&number.to_string());
        }
        DeValue::Float(number) => {
            let number: f64 = number.as_str().parse().ok()?;
            out.push_str(&serde_json::Number::from_f64(number)?.to_string());
        }
        DeValue::Boolean(value) => out.push_str(&value.to_string()),
        DeValue::Datetime(_) => return None,
        DeValue::Array(array) => {
            for (at, value) in array.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                json(value.get_ref(), out)?;
            }
            out.push_str(if array.is_empty() { "[]" } else { "]" });
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            for (at, (key, value)) in entries.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                out.push_str(&quoted(key.get_ref())?);
                out.push(':');
                json(value.get_ref(), out)?;
            }
            out.push_str(if entries.is_empty() { "{}" } else { "}" });
        }
    }
    Some(())
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(array) if array.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters() {
        let doc = Doc::new("x".into(), "\u{feff}a = 1\nä = 'ö' # x\n", &|_| None);
        for (offset, line, column) in [(0, 1, 1), (3, 1, 1), (7, 1, 5), (9, 2, 1), (14, 2, 5)] {
            let place = doc.place(offset);
            assert_eq!((place.line, place.column), (line, column), "{offset}");
        }
        assert_eq!(doc.place(9999).line, 3, "an offset past the end is on the last line");
    }
}
