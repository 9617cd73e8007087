//! What consumers have used, kept on disk: counts survive a restart, a crash and an upgrade.
//!
//! A thread of its own reads the workers' counters every `flush` and appends what has changed; no worker waits for it, and
//! nothing here decides about a request. What a crash of the process loses was counted since the last flush; with `fsync`
//! that holds for a loss of power, too. While the disk is full or the folder somebody else's, counting goes on in memory and
//! writing is tried again. Called by `service`.

pub mod record;
pub mod store;

use crate::base::Tick;
use crate::config;
use crate::control::source::unix_now;
use crate::policy::api_key::{Meter, Taken};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use record::{Key, Record};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{Loaded, Store};

/// How long the end of the process waits for the last write.
const LAST: Duration = Duration::from_secs(5);
/// How long after a failure the files are opened again at the earliest.
const AGAIN: Duration = Duration::from_secs(1);
/// Counts of a period that has ended are forgotten here, not on disk, so long after.
const REMEMBER: u64 = 2 * 86_400;

/// What is known of the ledger, for metrics.
#[derive(Debug, Default)]
pub struct Stat {
    /// Records written.
    pub written: AtomicU64,
    /// Writes that failed.
    pub failed: AtomicU64,
    /// Counts that are not on disk as they are.
    pub unwritten: AtomicU64,
    /// Octets on disk.
    pub octets: AtomicU64,
    /// When the last write succeeded, in seconds since 1970.
    pub flushed_unix: AtomicU64,
    /// Whether there is a ledger at all.
    pub used: AtomicBool,
}

/// The ledger.
#[derive(Debug, Default)]
pub struct Ledger {
    shared: Option<Arc<Shared>>,
    stat: Arc<Stat>,
    stop: Option<Sender<Sender<()>>>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    keep_days: u64,
    flush_ms: AtomicU64,
    fsync: AtomicBool,
    stat: Arc<Stat>,
    // Never held while a file is touched.
    counts: Mutex<Counts>,
}

/// Everything counted in periods that are not long over.
#[derive(Debug, Default)]
struct Counts {
    totals: HashMap<Key, Total>,
    tracked: Vec<Tracked>,
}

/// One count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Total {
    /// What the files held when they were read.
    before: u64,
    /// What this process has counted.
    own: u64,
    /// What this process has written, of both.
    written: u64,
    end: u64,
}

/// A meter, and what was read of it.
#[derive(Debug)]
struct Tracked {
    meter: Arc<Meter>,
    seen: [Taken; 2],
}

impl Ledger {
    /// Follows the meters of a configuration, which begin with what was counted before. It is opened with the first of them;
    /// what an operator should know comes back.
    pub fn follow(&mut self, meters: Vec<Arc<Meter>>, usage: &config::Usage) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.shared.is_none() {
            if meters.is_empty() {
                return warnings;
            }
            warnings = self.open(usage);
        }
        let Some(shared) = &self.shared else { return warnings };
        shared.flush_ms.store(millis(usage.flush), Ordering::Relaxed);
        shared.fsync.store(usage.fsync, Ordering::Relaxed);
        if (&shared.folder, shared.keep_days) != (&usage.folder, usage.keep_days) {
            warnings
                .push("usage.folder or keep changed: it takes effect at the next start".to_owned());
        }
        shared.counts().follow(meters, unix_now());
        warnings
    }

    /// What is known of it.
    pub fn stat(&self) -> Arc<Stat> {
        Arc::clone(&self.stat)
    }

    /// Writes what is left and ends.
    pub fn stop(&mut self) {
        let Some(stop) = self.stop.take() else { return };
        let (done, ended) = bounded(1);
        if stop.send(done).is_ok() && ended.recv_timeout(LAST).is_err() {
            tracing::error!("the usage ledger was not written within {LAST:?}");
        }
    }

    fn open(&mut self, usage: &config::Usage) -> Vec<String> {
        let shared = Arc::new(Shared {
            folder: usage.folder.clone(),
            keep_days: usage.keep_days,
            flush_ms: millis(usage.flush).into(),
            fsync: usage.fsync.into(),
            stat: Arc::clone(&self.stat),
            counts: Mutex::default(),
        });
        self.stat.used.store(true, Ordering::Relaxed);
        let mut writer =
            Writer { shared: Arc::clone(&shared), store: None, failing: false, tried: Tick::ZERO };
        let warnings = writer.open_or_read();
        let (stop, stopped) = bounded(1);
        let started = std::thread::Builder::new()
            .name("usage".to_owned())
            .spawn(move || writer.run(&stopped));
        if let Err(error) = started {
            return vec![format!("the usage ledger has no thread, and is not written: {error}")];
        }
        (self.shared, self.stop) = (Some(shared), Some(stop));
        warnings
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Also counts by these meters; those that nobody else holds any more have been read for the last time.
    fn follow(&mut self, meters: Vec<Arc<Meter>>, now: u64) {
        self.collect();
        let known: HashSet<*const Meter> =
            self.tracked.iter().map(|t| Arc::as_ptr(&t.meter)).collect();
        for meter in meters {
            if known.contains(&Arc::as_ptr(&meter)) {
                continue;
            }
            let number = meter.period.number(now);
            let key = Record::of(&meter.policy, &meter.consumer, meter.period, number, 0).key;
            let count = self.totals.get(&key).map_or(0, Total::count);
            let mut tracked = Tracked { meter, seen: [Taken::default(); 2] };
            tracked.add(number, count);
            self.tracked.push(tracked);
        }
    }

    /// Takes over what the files hold, where that is more than was known of them.
    fn take_over(&mut self, loaded: &Loaded, now: u64) {
        self.collect();
        let mut more: HashMap<&Key, u64> = HashMap::new();
        for (key, count) in &loaded.counts {
            if count.end + REMEMBER < now {
                continue;
            }
            let total = self.totals.entry(key.clone()).or_default();
            total.end = count.end;
            if count.count > total.before {
                more.insert(key, count.count - total.before);
                total.before = count.count;
            }
            total.written = count.count;
        }
        for tracked in &mut self.tracked {
            let meter = &tracked.meter;
            let number = meter.period.number(now);
            let key = Record::of(&meter.policy, &meter.consumer, meter.period, number, 0).key;
            if let Some(count) = more.get(&key) {
                tracked.add(number, *count);
            }
        }
    }

    /// Reads every meter.
    fn collect(&mut self) {
        for tracked in &mut self.tracked {
            let Tracked { meter, seen } = tracked;
            for (seen, taken) in seen.iter_mut().zip(meter.taken()) {
                let before = if seen.number == taken.number { seen.count } else { 0 };
                *seen = taken;
                if taken.count <= before {
                    continue;
                }
                let Record { key, end, .. } =
                    Record::of(&meter.policy, &meter.consumer, meter.period, taken.number, 0);
                let total = self.totals.entry(key).or_default();
                total.own += taken.count - before;
                total.end = end;
            }
        }
        // Requests in flight may count by the configuration of before.
        self.tracked.retain(|tracked| Arc::strong_count(&tracked.meter) > 1);
    }

    /// What is not on disk as it is.
    fn unwritten(&mut self, now: u64) -> Vec<Record> {
        self.totals.retain(|_, t| t.end + REMEMBER >= now || t.count() > t.written);
        let changed = self.totals.iter().filter(|(_, total)| total.count() > total.written);
        changed
            .map(|(key, total)| Record { key: key.clone(), end: total.end, count: total.count() })
            .collect()
    }

    fn note_written(&mut self, records: &[Record]) {
        for record in records {
            if let Some(total) = self.totals.get_mut(&record.key) {
                total.written = total.written.max(record.count);
            }
        }
    }
}

impl Total {
    fn count(&self) -> u64 {
        self.before + self.own
    }
}

impl Tracked {
    /// Counts what was counted elsewhere: it is not this process's own.
    fn add(&mut self, number: u32, count: u64) {
        if count == 0 || !self.meter.add(number, count) {
            return;
        }
        for (seen, taken) in self.seen.iter_mut().zip(self.meter.taken()) {
            if taken.number == number {
                let before = if seen.number == number { seen.count } else { 0 };
                *seen = Taken { number, count: before + count };
            }
        }
    }
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    store: Option<Store>,
    failing: bool,
    // When it was tried last to open the files.
    tried: Tick,
}

impl Writer {
    fn run(mut self, stop: &Receiver<Sender<()>>) {
        loop {
            let flush = Duration::from_millis(self.shared.flush_ms.load(Ordering::Relaxed));
            match stop.recv_timeout(flush) {
                Err(RecvTimeoutError::Timeout) => self.flush(),
                Ok(done) => {
                    self.flush();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return self.flush(),
            }
        }
    }

    /// Opens the files, or at least reads them: who used up a quota has no more of it because the disk is full.
    fn open_or_read(&mut self) -> Vec<String> {
        let (shared, now) = (&self.shared, unix_now());
        self.tried = Tick::now();
        match Store::open(&shared.folder, shared.keep_days, now) {
            Ok((store, loaded, warnings)) => {
                shared.counts().take_over(&loaded, now);
                self.store = Some(store);
                warnings
            }
            Err(error) => {
                if let Ok(loaded) = store::load(&shared.folder) {
                    shared.counts().take_over(&loaded, now);
                }
                self.failed(&error);
                Vec::new()
            }
        }
    }

    fn flush(&mut self) {
        if self.store.is_none() && Tick::now().since(self.tried) >= AGAIN {
            for warning in self.open_or_read() {
                tracing::warn!("{warning}");
            }
        }
        let now = unix_now();
        let records = {
            let mut counts = self.shared.counts();
            counts.collect();
            counts.unwritten(now)
        };
        let stat = &self.shared.stat;
        stat.unwritten.store(records.len() as u64, Ordering::Relaxed);
        let Some(store) = &mut self.store else { return };
        if !records.is_empty()
            && let Err(error) = store.append(&records, self.shared.fsync.load(Ordering::Relaxed))
        {
            return self.failed(&error);
        }
        self.shared.counts().note_written(&records);
        stat.written.fetch_add(records.len() as u64, Ordering::Relaxed);
        stat.unwritten.store(0, Ordering::Relaxed);
        stat.flushed_unix.store(now, Ordering::Relaxed);
        if let Err(error) = store.tidy(now) {
            stat.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("the usage ledger cannot be rewritten, and grows: {error}");
        }
        stat.octets.store(store.octets(), Ordering::Relaxed);
        if std::mem::take(&mut self.failing) {
            tracing::info!("the usage ledger is written again; nothing was lost");
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.shared.stat.failed.fetch_add(1, Ordering::Relaxed);
        // Said once, until it works again.
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(
                "the usage ledger in {} cannot be written: {error}; quotas are counted in memory, where a restart loses them, \
                 and writing is tried again",
                self.shared.folder.display()
            );
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
