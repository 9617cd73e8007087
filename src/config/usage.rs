//! `[usage]`: where what consumers have used is kept on disk, how often it is written, and for how long it is kept.
//!
//! It is of use only where a plan of an `api_key` has a quota. Nothing is opened here. Called by `read`.

use crate::config::item::{Item, Table, set};
use crate::config::problem::Wrong;
use crate::config::{Config, Place};
use crate::policy;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// `[usage]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The folder that holds the ledger.
    pub folder: PathBuf,
    /// How often it is written; what a crash loses at most was counted since.
    pub flush: Duration,
    /// Whether each write waits for the disk, so that a loss of power loses no more than a crash does.
    pub fsync: bool,
    /// How long a period is kept after its end, in days.
    pub keep_days: u64,
    /// Where `folder` stands in the file.
    pub place: Place,
}

impl Default for Usage {
    fn default() -> Usage {
        Usage {
            folder: PathBuf::from("/var/lib/ringgate/usage"),
            flush: Duration::from_secs(1),
            fsync: true,
            keep_days: 62,
            place: Place::default(),
        }
    }
}

const FLUSH: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

/// `[usage]`; it may be spread over files.
pub(super) fn usage(table: &Table<'_>, usage: &mut Usage) {
    if let Some(item) = table.item("folder") {
        usage.place = item.place();
        set(&mut usage.folder, item.parsed("the path of a folder", folder));
    }
    set(&mut usage.flush, table.item("flush").and_then(|item| item.duration(FLUSH)));
    set(&mut usage.fsync, table.item("fsync").and_then(|item| item.boolean()));
    set(&mut usage.keep_days, table.item("keep").and_then(|item| days(&item)));
}

impl Config {
    /// `[usage]`, where anything is counted that must be kept.
    pub fn counted(&self) -> Option<&Usage> {
        let counts = |policy: &crate::config::Policy| match &policy.settings {
            policy::Settings::ApiKey(settings) => settings.counts(),
            _ => false,
        };
        self.policies.iter().any(counts).then_some(&self.usage)
    }
}

fn folder(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') { Wrong::plain() } else { Ok(PathBuf::from(text)) }
}

fn days(item: &Item<'_>) -> Option<u64> {
    item.parsed("a number of days from \"1d\" to \"3650d\"", |text| {
        let days = text.strip_suffix('d').filter(|days| days.bytes().all(|b| b.is_ascii_digit()));
        let days = days.and_then(|days| days.parse().ok()).filter(|d| (1..=3650).contains(d));
        days.ok_or_else(Wrong::default)
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Config, Usage};
    use std::time::Duration;

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\n{text}");
        config::parse(&text, "a.toml", &|_| None).map_err(|problems| problems.to_string())
    }

    #[test]
    fn reads_every_key() {
        assert_eq!(parse("").unwrap().usage, Usage::default());
        let read = parse("[usage]\nfolder = 'x'\nflush = '50ms'\nfsync = false\nkeep = '7d'");
        let usage = read.unwrap().usage;
        assert_eq!((usage.folder.to_str(), usage.fsync, usage.keep_days), (Some("x"), false, 7));
        assert_eq!((usage.flush, usage.place.line), (Duration::from_millis(50), 5));
        for (text, expected) in [
            ("folder = ''", "the path of a folder"),
            ("flush = '5ms'", "from 10ms to 1m"),
            ("flush = '2m'", "from 10ms to 1m"),
            ("keep = '0d'", "from \"1d\" to \"3650d\""),
            ("keep = '7'", "from \"1d\" to \"3650d\""),
            ("path = 'x'", "one of folder, flush, fsync, keep"),
        ] {
            let problems = parse(&format!("[usage]\n{text}")).expect_err(text);
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn is_of_use_where_a_plan_has_a_quota() {
        let with = |plan: &str| {
            let rule = "[[rule]]\nname = 'r'\npolicy = ['keys']\nrespond = { status = 204 }";
            let policy = "[policy.keys.api_key]\nconsumers = []";
            let config = parse(&format!("{rule}\n{policy}\n{plan}")).unwrap();
            config.counted().is_some()
        };
        assert!(!with(""));
        assert!(!with("[policy.keys.api_key.plan.gold]"));
        assert!(with("[policy.keys.api_key.plan.gold]\nquota = '1/day'"));
    }
}
