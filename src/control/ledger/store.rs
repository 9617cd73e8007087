//! The ledger's folder: a snapshot, a log that is appended to, and a lock.
//!
//! Both files hold the same records, and of several for one count the highest holds. Once the log is large, all that is kept is
//! written to a new snapshot, which takes the place of the old one by its name, and then a new log of the old one: whenever
//! the process ends between, nothing is lost and nothing is counted twice. A damaged file is kept beside. Called by the
//! thread of the ledger, and by `ringgate usage`, which only reads.

use crate::control::ledger::record::{self, Damage, Key, MAGIC, Record};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const LOG: &str = "usage.log";
const SNAPSHOT: &str = "usage.snapshot";
const LOCK: &str = "usage.lock";
/// A log that is larger than this, and than the snapshot, is written into a new one.
const LARGE: u64 = 64 << 20;
const DAY: u64 = 86_400;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Every count, with the end of its period.
    pub counts: HashMap<Key, Count>,
    /// Files of which something was no whole record: their names, octets, and what.
    pub damaged: Vec<(&'static str, Vec<u8>, Damage)>,
    snapshot_len: u64,
    log_len: u64,
}

/// What was used in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// How much.
    pub count: u64,
    /// Where the period ends, in seconds since 1970.
    pub end: u64,
}

/// The files while they are written.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    log: File,
    log_len: u64,
    snapshot_len: u64,
    // The log is rewritten once it is larger.
    large: u64,
    keep_days: u64,
    // Nobody else writes while this is open; it is let go of by the kernel, however the process ends.
    _lock: File,
}

/// Reads a folder; one without files holds nothing.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn load(folder: &Path) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    // The log first: should both be replaced now, the snapshot has all that the older log holds.
    let log = open(&folder.join(LOG))?;
    let snapshot = open(&folder.join(SNAPSHOT))?;
    for (name, file) in [(SNAPSHOT, snapshot), (LOG, log)] {
        let Some(mut file) = file else { continue };
        let mut octets = Vec::new();
        file.read_to_end(&mut octets)?;
        let counts = &mut loaded.counts;
        let damage = record::read(&octets, |Record { key, end, count }| {
            let known = counts.entry(key).or_insert(Count { count, end });
            known.count = known.count.max(count);
        });
        let len = if name == LOG { &mut loaded.log_len } else { &mut loaded.snapshot_len };
        *len = octets.len() as u64;
        if damage != Damage::default() {
            loaded.damaged.push((name, octets, damage));
        }
    }
    Ok(loaded)
}

impl Store {
    /// Takes the folder for this process, and reads it. What an operator should know comes with it.
    ///
    /// # Errors
    /// When another process has it, or a file cannot be read or written.
    pub fn open(
        folder: &Path,
        keep_days: u64,
        now: u64,
    ) -> io::Result<(Store, Loaded, Vec<String>)> {
        let lock = create(&folder.join(LOCK), false)?;
        fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(
            |error| match error {
                rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS => {
                    io::Error::other("another process keeps its ledger there")
                }
                error => error.into(),
            },
        )?;
        let mut loaded = load(folder)?;
        let mut warnings = set_aside(folder, &mut loaded, now);
        let path = folder.join(LOG);
        let mut log = File::options().append(true).create(true).mode(0o600).open(&path)?;
        if loaded.log_len == 0 {
            log.write_all(MAGIC)?;
        }
        let mut store = Store {
            folder: folder.to_path_buf(),
            log,
            log_len: loaded.log_len.max(MAGIC.len() as u64),
            snapshot_len: loaded.snapshot_len,
            large: LARGE.max(loaded.snapshot_len),
            keep_days,
            _lock: lock,
        };
        if !loaded.damaged.is_empty() {
            // What is read is right either way; only the damage stays, and is said again.
            if let Err(error) = store.compact(&mut loaded, now) {
                warnings.push(format!("the usage ledger cannot be rewritten: {error}"));
            }
        }
        Ok((store, loaded, warnings))
    }

    /// Appends records, and waits for the disk where `fsync` says so.
    ///
    /// # Errors
    /// When it cannot be written. A part of the records may have been, which does no harm.
    pub fn append(&mut self, records: &[Record], fsync: bool) -> io::Result<()> {
        let mut octets = Vec::new();
        records.iter().for_each(|record| record.write(&mut octets));
        self.log.write_all(&octets)?;
        self.log_len += octets.len() as u64;
        if fsync {
            self.log.sync_data()?;
        }
        Ok(())
    }

    /// Writes a new snapshot if the log has become large.
    ///
    /// # Errors
    /// When it cannot be written: the log goes on as it is, for a while.
    pub fn tidy(&mut self, now: u64) -> io::Result<()> {
        if self.log_len <= self.large {
            return Ok(());
        }
        self.large = self.log_len + LARGE;
        let mut loaded = load(&self.folder)?;
        self.compact(&mut loaded, now)
    }

    /// Writes to another file from now on; for tests of what a file may do.
    #[cfg(test)]
    pub(super) fn swap_log(&mut self, log: File) -> File {
        std::mem::replace(&mut self.log, log)
    }

    /// Octets on disk.
    pub fn octets(&self) -> u64 {
        self.log_len + self.snapshot_len
    }

    /// Writes all that is kept to a new snapshot, and begins a new log.
    fn compact(&mut self, loaded: &mut Loaded, now: u64) -> io::Result<()> {
        let oldest = now.saturating_sub(self.keep_days * DAY);
        loaded.counts.retain(|_, count| count.end > oldest);
        let mut octets = MAGIC.to_vec();
        for (key, Count { count, end }) in &loaded.counts {
            Record { key: key.clone(), end: *end, count: *count }.write(&mut octets);
        }
        self.replace(SNAPSHOT, &octets)?;
        self.snapshot_len = octets.len() as u64;
        self.log = self.replace(LOG, MAGIC)?;
        self.log_len = MAGIC.len() as u64;
        self.large = LARGE.max(self.snapshot_len);
        Ok(())
    }

    /// Puts a file in the place of another, whole or not at all.
    fn replace(&self, name: &str, octets: &[u8]) -> io::Result<File> {
        let fresh = self.folder.join(format!("{name}.new"));
        let mut file = create(&fresh, true)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&fresh, self.folder.join(name))?;
        // That the name is on the disk, too; a file system that cannot promise it has done what it can.
        let _ = File::open(&self.folder).and_then(|folder| folder.sync_all());
        Ok(file)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn create(path: &Path, anew: bool) -> io::Result<File> {
    File::options().write(true).create(true).truncate(anew).mode(0o600).open(path)
}

/// Keeps damaged files for whoever wants to know, and says so. A log that ends within a record is what a crash leaves.
fn set_aside(folder: &Path, loaded: &mut Loaded, now: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, octets, damage) in &loaded.damaged {
        if *name == LOG && damage.within == 0 {
            continue;
        }
        let beside = folder.join(format!("{name}.bad-{now}"));
        let kept = create(&beside, true).and_then(|mut file| file.write_all(octets));
        let kept = match kept {
            Ok(()) => format!("it is kept as {}", beside.display()),
            Err(error) => format!("it cannot be kept as {}: {error}", beside.display()),
        };
        warnings.push(format!(
            "the usage ledger {} is damaged: {} of its {} octets are no whole records; all others were read; {kept}",
            folder.join(name).display(),
            damage.within + damage.at_end,
            octets.len()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::api_key::{Every, Period};

    const NOW: u64 = 1_795_262_400;
    const DAILY: Period = Period { every: Every::Day, offset: 0 };

    fn used(consumer: &str, days_ago: u32, count: u64) -> Record {
        let number = DAILY.number(NOW) - days_ago;
        Record::of(&"keys".into(), &consumer.into(), DAILY, number, count)
    }

    fn counts(loaded: &Loaded) -> Vec<(String, u64)> {
        let mut counts: Vec<_> =
            loaded.counts.iter().map(|(k, c)| (k.consumer.to_string(), c.count)).collect();
        counts.sort();
        counts
    }

    fn read(folder: &Path) -> Vec<(String, u64)> {
        counts(&load(folder).unwrap())
    }

    fn expected(of: &[(&str, u64)]) -> Vec<(String, u64)> {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn the_highest_count_holds_however_often_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..3 {
            let (mut store, _, warnings) = Store::open(dir.path(), 62, NOW).unwrap();
            assert!(warnings.is_empty(), "{warnings:?}");
            store.append(&[used("a", 0, 5), used("b", 0, round)], true).unwrap();
            store.append(&[used("a", 0, 3)], false).unwrap();
            assert_eq!(read(dir.path()), expected(&[("a", 5), ("b", round)]));
        }
    }

    #[test]
    fn a_cut_log_is_read_to_its_last_whole_record_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG);
        let (mut store, ..) = Store::open(dir.path(), 62, NOW).unwrap();
        store.append(&[used("a", 0, 1)], true).unwrap();
        let first = std::fs::metadata(&log).unwrap().len() as usize;
        store.append(&[used("a", 0, 2)], true).unwrap();
        drop(store);
        let whole = std::fs::read(&log).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&log, &whole[..cut]).unwrap();
            let _ = std::fs::remove_file(dir.path().join(SNAPSHOT));
            let (mut store, loaded, warnings) = Store::open(dir.path(), 62, NOW).unwrap();
            let count = if cut < first {
                vec![]
            } else {
                expected(&[("a", 1 + u64::from(cut == whole.len()))])
            };
            assert_eq!((counts(&loaded), warnings), (count, Vec::new()), "cut at {cut}");
            store.append(&[used("a", 0, 7)], false).unwrap();
            drop(store);
            let loaded = load(dir.path()).unwrap();
            assert_eq!((counts(&loaded), loaded.damaged.len()), (expected(&[("a", 7)]), 0));
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside_with_all_that_is_whole_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, ..) = Store::open(dir.path(), 62, NOW).unwrap();
        store.append(&[used("a", 0, 1), used("b", 0, 2)], true).unwrap();
        drop(store);
        let log = dir.path().join(LOG);
        let mut octets = std::fs::read(&log).unwrap();
        octets[20] ^= 1;
        std::fs::write(&log, &octets).unwrap();
        let (store, loaded, warnings) = Store::open(dir.path(), 62, NOW).unwrap();
        assert_eq!(counts(&loaded), expected(&[("b", 2)]));
        assert!(warnings.len() == 1 && warnings[0].contains("is damaged"), "{warnings:?}");
        let beside = dir.path().join(format!("{LOG}.bad-{NOW}"));
        assert_eq!(std::fs::read(beside).unwrap(), octets);
        drop(store);
        let (_, loaded, warnings) = Store::open(dir.path(), 62, NOW).unwrap();
        assert_eq!((counts(&loaded), warnings.len()), (expected(&[("b", 2)]), 0), "once");
        std::fs::write(dir.path().join(SNAPSHOT), "something else entirely").unwrap();
        let (_, _, warnings) = Store::open(dir.path(), 62, NOW).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn a_new_snapshot_holds_all_but_what_is_too_old() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, ..) = Store::open(dir.path(), 2, NOW).unwrap();
        store.append(&[used("old", 3, 1), used("kept", 2, 2), used("new", 0, 3)], true).unwrap();
        store.tidy(NOW).unwrap();
        assert_eq!(read(dir.path()).len(), 3, "it is not large");
        store.large = 1;
        store.tidy(NOW).unwrap();
        assert_eq!(read(dir.path()), expected(&[("kept", 2), ("new", 3)]));
        assert_eq!(std::fs::read(dir.path().join(LOG)).unwrap(), MAGIC);
        store.append(&[used("new", 0, 4)], true).unwrap();
        assert_eq!(read(dir.path()), expected(&[("kept", 2), ("new", 4)]));
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 3, "nothing is left beside");
    }

    #[test]
    fn a_disk_that_is_full_is_an_error_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, ..) = Store::open(dir.path(), 62, NOW).unwrap();
        store.append(&[used("a", 0, 1)], true).unwrap();
        let log = store.swap_log(File::options().write(true).open("/dev/full").unwrap());
        let error = store.append(&[used("a", 0, 2)], true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        store.log = log;
        // What was written of it before the disk was full.
        store.log.write_all(&[40, 0, 1, 2]).unwrap();
        store.append(&[used("a", 0, 3)], true).unwrap();
        assert_eq!(read(dir.path()), expected(&[("a", 3)]));
    }
}
