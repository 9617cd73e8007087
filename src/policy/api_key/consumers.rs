//! The files of consumers: `[consumer.NAME]` with its plan and the hashes of its keys, read as strictly as the main file.
//!
//! Reading does not stop at the first mistake, and one mistake refuses all. A key itself is never repeated in what is said,
//! since somebody may have written it where its hash belongs. Called by [`crate::policy::api_key::Directory`].

use crate::policy::api_key::period::{DAY, days};
use crate::policy::api_key::secret::{self, Digest};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

/// Live keys of a consumer: the one in use, and the one that follows it.
pub const MOST_KEYS: usize = 2;
/// All files together.
pub const MOST_CONSUMERS: usize = 4_000_000;
/// What is said of one policy's files.
const MOST_REMARKS: usize = 100;

const ROOT: &[&str] = &["consumer"];
const CONSUMER: &[&str] = &["plan", "keys", "disabled", "expires", "labels"];
const KEY: &[&str] = &["hash", "expires"];
/// What the name of a consumer may be.
pub const NAME: &str =
    "a name of 1 to 128 letters, digits, \".\", \"_\", \"-\", \"@\", \"+\" or \":\"";
const EXPIRES: &str = "a date such as 2027-01-31 (its midnight in UTC) or 2027-01-31T12:00:00Z";
const HASH: &str = "\"sha256:\" and 64 hexadecimal digits, as `ringgate key new` prints it";

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file.
    pub file: PathBuf,
    /// 1-based; 0 where there is no line to name.
    pub line: u32,
    /// 1-based, in octets; 0 where there is none.
    pub column: u32,
    /// As `consumer.acme.plan`.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub expected: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remark { file, line, column, key, found, expected } = self;
        write!(f, "{}:{line}:{column}: {key}: found {found}, expected {expected}", file.display())
    }
}

/// A consumer as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Unique over all files.
    pub name: Arc<str>,
    /// The position of its plan; `None` for no limits.
    pub plan: Option<u16>,
    /// Its keys.
    pub keys: Vec<WrittenKey>,
    /// When it ends, in seconds since 1970; 0 for a disabled one.
    pub until: u64,
}

/// A key as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenKey {
    /// Its hash.
    pub digest: Digest,
    /// When it ends, in seconds since 1970.
    pub until: u64,
}

/// Reads files; `plans` are the names that a consumer's plan may have.
///
/// # Errors
/// All mistakes, in the order of the files; at most a hundred.
pub fn read(files: &[(PathBuf, Arc<[u8]>)], plans: &[&str]) -> Result<Vec<Written>, Vec<Remark>> {
    let plans: HashMap<&str, u16> = plans.iter().zip(0..).map(|(name, at)| (*name, at)).collect();
    // In pieces first, which takes a fifth of the memory; what is wrong, the whole says, with its places.
    let mut reader = Reader { plans: plans.clone(), ..Reader::default() };
    for (path, octets) in files {
        pieces(octets).for_each(|piece| reader.file(path, piece));
    }
    if reader.remarks.is_empty() {
        return Ok(reader.consumers);
    }
    let mut reader = Reader { plans, ..Reader::default() };
    for (path, octets) in files {
        reader.file(path, octets);
    }
    if reader.remarks.is_empty() { Ok(reader.consumers) } else { Err(reader.remarks) }
}

/// A file cut before headers of consumers. A cut within a string of several lines leaves two pieces that are no TOML.
fn pieces(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    const PIECE: usize = 64 << 10;
    let header = memchr::memmem::Finder::new(b"\n[consumer.").into_owned();
    std::iter::from_fn(move || {
        let cut = octets.get(PIECE..).and_then(|rest| header.find(rest));
        let (piece, rest) =
            octets.split_at_checked(cut.map_or(octets.len(), |at| PIECE + at + 1))?;
        octets = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[derive(Default)]
struct Reader<'p> {
    plans: HashMap<&'p str, u16>,
    consumers: Vec<Written>,
    names: HashSet<Arc<str>>,
    /// Whose a key is.
    digests: HashMap<Digest, u32>,
    remarks: Vec<Remark>,
}

/// Where a mistake is.
struct Spot<'a> {
    path: &'a Path,
    text: &'a str,
    /// The offset of each line.
    lines: Vec<usize>,
}

impl Spot<'_> {
    fn remark(&self, offset: usize, key: &str, found: String, expected: &str) -> Remark {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|l| self.lines.get(l)).copied().unwrap_or(0);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Remark {
            file: self.path.to_path_buf(),
            line: number(line.max(1)),
            column: number(offset.min(self.text.len()).saturating_sub(start) + 1),
            key: key.to_owned(),
            found,
            expected: expected.to_owned(),
        }
    }
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn note(&mut self, remark: Remark) {
        if self.remarks.len() < MOST_REMARKS {
            self.remarks.push(remark);
        }
    }

    fn file(&mut self, path: &Path, octets: &[u8]) {
        let text = match std::str::from_utf8(octets) {
            Ok(text) => text,
            Err(error) => {
                let valid = octets.get(..error.valid_up_to()).unwrap_or_default();
                let text = std::str::from_utf8(valid).unwrap_or_default();
                let found = "octets that are not UTF-8".to_owned();
                return self.note(spot(path, text).remark(text.len(), "", found, "UTF-8"));
            }
        };
        let spot = spot(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            for error in errors.iter().take(MOST_REMARKS) {
                let at = error.span().map_or(0, |span| span.start);
                let found = format!("a TOML error ({})", error.message());
                self.note(spot.remark(at, "", found, "valid TOML"));
            }
            return;
        }
        self.known(&spot, table.get_ref(), ROOT, "");
        let Some(consumers) = table.get_ref().get("consumer") else { return };
        let DeValue::Table(consumers) = consumers.get_ref() else {
            let (at, found) = (consumers.span().start, "something else".to_owned());
            return self.note(spot.remark(at, "consumer", found, "tables [consumer.NAME]"));
        };
        // In the order of the file, not of the names.
        let mut entries: Vec<_> = consumers.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            self.consumer(&spot, name, value);
        }
    }

    fn consumer(
        &mut self,
        spot: &Spot<'_>,
        name: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Value<'_>,
    ) {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        let path = format!("consumer.{name}");
        let DeValue::Table(table) = value.get_ref() else {
            let expected = format!("a table [{path}]");
            return self.note(spot.remark(at, &path, "something else".to_owned(), &expected));
        };
        if !is_name(name) {
            self.note(spot.remark(at, "consumer", format!("the name {name:?}"), NAME));
        }
        if self.consumers.len() >= MOST_CONSUMERS {
            let expected = format!("at most {MOST_CONSUMERS} consumers");
            return self.note(spot.remark(at, &path, "one more".to_owned(), &expected));
        }
        self.known(spot, table, CONSUMER, &path);
        let name: Arc<str> = Arc::from(name);
        if !self.names.insert(Arc::clone(&name)) {
            let expected = "each consumer once in all files of the policy";
            self.note(spot.remark(at, &path, "a second table of this name".to_owned(), expected));
        }
        let keys = match table.get("keys") {
            Some(value) => self.keys(spot, value, &path),
            None => {
                let expected = format!("keys = [{HASH}]");
                self.note(spot.remark(at, &path, "no keys".to_owned(), &expected));
                Vec::new()
            }
        };
        let plan = table.get("plan").and_then(|value| self.plan(spot, value, &path));
        let mut until = self.expires(spot, table, &path);
        if self.disabled(spot, table, &path) {
            until = 0;
        }
        self.labels(spot, table, &path);
        self.consumers.push(Written { name, plan, keys, until });
    }

    fn plan(&mut self, spot: &Spot<'_>, value: &Value<'_>, path: &str) -> Option<u16> {
        let plan = value.get_ref().as_str();
        let known = plan.and_then(|plan| self.plans.get(plan)).copied();
        if known.is_none() {
            let mut plans: Vec<&str> = self.plans.keys().copied().collect();
            plans.sort_unstable();
            let expected = match plans.as_slice() {
                [] => "a plan that the policy has; it has none".to_owned(),
                plans => format!("a plan of the policy: {}", plans.join(", ")),
            };
            let found = plan.map_or("something else".to_owned(), |plan| format!("{plan:?}"));
            self.note(spot.remark(value.span().start, &format!("{path}.plan"), found, &expected));
        }
        known
    }

    fn keys(&mut self, spot: &Spot<'_>, value: &Value<'_>, path: &str) -> Vec<WrittenKey> {
        let path = format!("{path}.keys");
        let at = value.span().start;
        let DeValue::Array(items) = value.get_ref() else {
            self.note(spot.remark(at, &path, "no list".to_owned(), HASH));
            return Vec::new();
        };
        if items.len() > MOST_KEYS {
            let found = format!("{} keys", items.len());
            let expected = "at most two: the one in use, and the one that follows it";
            self.note(spot.remark(at, &path, found, expected));
        }
        let keys = items.iter().enumerate();
        keys.filter_map(|(i, item)| self.key(spot, item, &format!("{path}[{i}]"))).collect()
    }

    fn key(&mut self, spot: &Spot<'_>, item: &Value<'_>, path: &str) -> Option<WrittenKey> {
        let at = item.span().start;
        let (hash, until) = match item.get_ref() {
            DeValue::Table(table) => {
                self.known(spot, table, KEY, path);
                (table.get("hash"), self.expires(spot, table, path))
            }
            _ => (Some(item), u64::MAX),
        };
        let text = hash.and_then(|hash| hash.get_ref().as_str());
        let Some(digest) = text.and_then(secret::parse) else {
            // Not repeated: it may be the key itself, and what is said here goes to logs.
            let found = match text {
                Some(text) if secret::is_key(text) => "a key itself",
                Some(_) => "something that is no hash (not repeated here)",
                None => "no hash",
            };
            self.note(spot.remark(at, path, found.to_owned(), HASH));
            return None;
        };
        let own = u32::try_from(self.consumers.len()).unwrap_or(u32::MAX);
        if let Some(other) = self.digests.insert(digest, own) {
            let whose = self.consumers.get(other as usize).map_or("this consumer", |c| &c.name);
            let found = format!("a key that {whose} has already");
            self.note(spot.remark(at, path, found, "a key of its own for each consumer"));
        }
        Some(WrittenKey { digest, until })
    }

    fn expires(&mut self, spot: &Spot<'_>, table: &DeTable<'_>, path: &str) -> u64 {
        let Some(value) = table.get("expires") else { return u64::MAX };
        let until = match value.get_ref() {
            DeValue::Datetime(at) => seconds(at),
            _ => None,
        };
        until.unwrap_or_else(|| {
            let (at, path) = (value.span().start, format!("{path}.expires"));
            self.note(spot.remark(at, &path, "something else".to_owned(), EXPIRES));
            0
        })
    }

    fn disabled(&mut self, spot: &Spot<'_>, table: &DeTable<'_>, path: &str) -> bool {
        match table.get("disabled").map(|value| (value.get_ref(), value.span().start)) {
            None => false,
            Some((DeValue::Boolean(disabled), _)) => *disabled,
            Some((_, at)) => {
                let path = format!("{path}.disabled");
                self.note(spot.remark(at, &path, "something else".to_owned(), "true or false"));
                true
            }
        }
    }

    // They are for who keeps the file and for who reads `ringgate usage`; nothing is decided by them.
    fn labels(&mut self, spot: &Spot<'_>, table: &DeTable<'_>, path: &str) {
        let Some(value) = table.get("labels") else { return };
        let texts = match value.get_ref() {
            DeValue::Table(labels) => labels.values().all(|v| v.get_ref().as_str().is_some()),
            _ => false,
        };
        if !texts {
            let (at, path) = (value.span().start, format!("{path}.labels"));
            let expected = "a table of texts, as { team = \"billing\" }";
            self.note(spot.remark(at, &path, "something else".to_owned(), expected));
        }
    }

    fn known(&mut self, spot: &Spot<'_>, table: &DeTable<'_>, keys: &[&str], path: &str) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if keys.contains(&name) {
                continue;
            }
            let dotted = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            // A key may have been written where a name belongs.
            let found = match secret::is_key(name) {
                true => "a key itself".to_owned(),
                false => format!("the unknown key {name:?}"),
            };
            let dotted = if secret::is_key(name) { path.to_owned() } else { dotted };
            let expected = format!("one of {}", keys.join(", "));
            self.note(spot.remark(key.span().start, &dotted, found, &expected));
        }
    }
}

/// The labels of a file's consumers, as `name`, `label`, `text`; for `ringgate usage`. Nothing of a file with mistakes.
pub fn labels(text: &str) -> Vec<(String, String, String)> {
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    let consumers = table.get_ref().get("consumer").and_then(|c| c.get_ref().as_table());
    let mut found = Vec::new();
    for (name, consumer) in consumers.into_iter().flatten() {
        let labels = consumer.get_ref().as_table().and_then(|c| c.get("labels"));
        let labels = labels.and_then(|labels| labels.get_ref().as_table());
        for (label, text) in labels.into_iter().flatten() {
            let text = text.get_ref().as_str().unwrap_or_default();
            let [name, label] = [name, label].map(|name| name.get_ref().to_string());
            found.push((name, label, text.to_owned()));
        }
    }
    found
}

fn spot<'a>(path: &'a Path, text: &'a str) -> Spot<'a> {
    let ends = text.match_indices('\n').map(|(at, _)| at + 1);
    Spot { path, text, lines: std::iter::once(0).chain(ends).collect() }
}

/// Whether a consumer may be called so.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@+:".contains(&byte);
    (1..=128).contains(&text.len()) && text.bytes().all(allowed)
}

/// A date at its midnight in UTC, or a time with its offset; `None` for what could be another time elsewhere.
fn seconds(at: &Datetime) -> Option<u64> {
    let date = at.date?;
    let day = days(i64::from(date.year), u32::from(date.month), u32::from(date.day)) * DAY;
    let seconds = match (&at.time, &at.offset) {
        (None, _) => day,
        (Some(_), None) => return None,
        (Some(time), Some(offset)) => {
            let minutes = match offset {
                toml::value::Offset::Z => 0,
                toml::value::Offset::Custom { minutes } => i64::from(*minutes),
            };
            let of_day = i64::from(time.hour) * 3600
                + i64::from(time.minute) * 60
                + i64::from(time.second.unwrap_or(0));
            day + of_day - minutes * 60
        }
    };
    u64::try_from(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &str) -> String {
        secret::written(&secret::digest(key.as_bytes()))
    }

    fn read_text(text: &str) -> Result<Vec<Written>, Vec<Remark>> {
        let file = (PathBuf::from("c.toml"), Arc::from(text.as_bytes()));
        read(&[file], &["gold", "free"])
    }

    #[track_caller]
    fn wrong(text: &str, expected: &str) {
        let remarks = read_text(text).expect_err(text);
        let all: Vec<String> = remarks.iter().map(ToString::to_string).collect();
        assert!(all.len() == 1 && all[0].contains(expected), "{text}\n{all:#?}\nnot: {expected}");
    }

    #[test]
    fn reads_every_key() {
        let text = format!(
            "[consumer.acme]\nplan = 'gold'\nkeys = ['{}', {{ hash = '{}', expires = 2027-01-31 }}]\n\
             expires = 2027-02-01T01:00:00+01:00\nlabels = {{ team = 'a' }}\n\
             [consumer.\"b@b.test\"]\nkeys = ['{}']\ndisabled = true",
            hash("1"),
            hash("2"),
            hash("3")
        );
        let read = read_text(&text).unwrap();
        assert_eq!(read.len(), 2);
        let acme = &read[0];
        assert_eq!((&*acme.name, acme.plan, acme.keys.len()), ("acme", Some(0), 2));
        assert_eq!(acme.keys[0].until, u64::MAX);
        assert_eq!(acme.keys[1].until, (days(2027, 1, 31) * DAY) as u64);
        assert_eq!(acme.until, (days(2027, 2, 1) * DAY) as u64);
        assert_eq!((&*read[1].name, read[1].plan, read[1].until), ("b@b.test", None, 0));
        assert_eq!(labels(&text), [("acme".to_owned(), "team".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn says_where_what_is_wrong() {
        let (one, two) = (hash("1"), hash("2"));
        let good = format!("[consumer.a]\nkeys = ['{one}']\n");
        wrong(
            "[consumers.a]",
            "c.toml:1:2: consumers: found the unknown key \"consumers\", expected one of consumer",
        );
        wrong("[consumer.a]\nplan = 'free'", "c.toml:1:11: consumer.a: found no keys");
        wrong(
            &format!("{good}plan = 'silver'"),
            "c.toml:3:8: consumer.a.plan: found \"silver\", expected a plan of the policy: free, gold",
        );
        wrong(
            &format!("{good}plans = 'free'"),
            "c.toml:3:1: consumer.a.plans: found the unknown key",
        );
        wrong(
            &format!("{good}disabled = 'no'"),
            "consumer.a.disabled: found something else, expected true or false",
        );
        wrong(&format!("{good}expires = '2027'"), "expected a date such as");
        wrong(&format!("{good}expires = 2027-01-01T00:00:00"), "c.toml:3:11: consumer.a.expires");
        wrong(&format!("{good}labels = {{ a = 1 }}"), "a table of texts");
        wrong(
            &format!("{good}[consumer.b]\nkeys = ['{one}']"),
            "c.toml:4:9: consumer.b.keys[0]: found a key that a has already",
        );
        wrong(
            &format!("[consumer.a]\nkeys = ['{one}', '{one}']"),
            "that this consumer has already",
        );
        wrong(
            &format!("[consumer.a]\nkeys = ['{one}', '{two}', '{}']", hash("3")),
            "found 3 keys, expected at most two",
        );
        wrong(
            "[consumer.a]\nkeys = [{ hash = 'x' }]",
            "c.toml:2:9: consumer.a.keys[0]: found something that is no hash",
        );
        wrong("[consumer.a]\nkeys = 'x'", "found no list");
        wrong(&format!("[consumer.'a b']\nkeys = ['{one}']"), "the name \"a b\"");
        wrong("consumer = 1", "expected tables [consumer.NAME]");
        wrong("[consumer", "a TOML error");
        wrong("[consumer.a]\n[consumer.a]", "c.toml:2:");
    }

    #[test]
    fn all_mistakes_come_at_once_and_of_all_files() {
        let files: Vec<(PathBuf, Arc<[u8]>)> =
            ["[consumer.a]\nkeys = 1", "\u{feff}[consumer.a]\nx = 1"]
                .iter()
                .zip(["1.toml", "2.toml"])
                .map(|(text, name)| (PathBuf::from(name), Arc::from(text.as_bytes())))
                .collect();
        let remarks = read(&files, &[]).unwrap_err();
        let lines: Vec<_> = remarks.iter().map(|r| (r.file.to_str().unwrap(), r.line)).collect();
        assert_eq!(lines[0], ("1.toml", 2));
        assert_eq!(lines.len(), 4, "{remarks:#?}");
        assert!(lines[1..].iter().all(|(file, _)| *file == "2.toml"));
        let not_text = [(PathBuf::from("x"), Arc::from(&b"[consumer.a]\n\xff"[..]))];
        assert_eq!(read(&not_text, &[]).unwrap_err()[0].line, 2);
    }

    #[test]
    fn a_large_file_is_read_in_pieces_as_if_it_were_whole() {
        let one = |n: u32| {
            let hash = hash(&n.to_string());
            let text = format!("\"\"\"\n[consumer.x]\nkeys = {n}\"\"\"");
            format!("[consumer.c{n}]\nkeys = ['{hash}']\n[consumer.c{n}.labels]\nnote = {text}\n")
        };
        let mut text: String = (0..5000).map(one).collect();
        assert!(pieces(text.as_bytes()).count() > 5);
        assert!(pieces(text.as_bytes()).map(<[u8]>::len).sum::<usize>() == text.len());
        let read = read_text(&text).unwrap();
        assert_eq!(read.len(), 5000);
        assert!(
            read.iter().zip(0..).all(|(c, n)| *c.name == *format!("c{n}") && c.keys.len() == 1)
        );
        text += "[consumer.c7]\nkeys = 1";
        let remarks = read_text(&text).unwrap_err();
        let line = u32::try_from(text.lines().count()).unwrap() - 1;
        assert!(remarks.iter().all(|remark| remark.line >= line), "{remarks:?}");
    }

    // AUTH-14: what is said of a mistake goes to logs.
    #[test]
    fn a_key_in_the_wrong_place_is_not_repeated() {
        let key = secret::key(&[7; 32]);
        for text in [
            format!("[consumer.a]\nkeys = ['{key}']"),
            format!("[consumer.a]\nkeys = [{{ hash = '{key}' }}]"),
            format!("[consumer.a]\n{key} = 1\nkeys = []"),
        ] {
            let remarks = read_text(&text).unwrap_err();
            let said = format!("{remarks:?}");
            assert!(said.contains("a key itself") && !said.contains(&key[4..20]), "{said}");
        }
    }
}
