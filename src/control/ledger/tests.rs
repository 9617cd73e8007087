//! The ledger over meters that threads count by: what is on disk, what goes on, what is said.

use super::*;
use crate::policy::api_key::{Every, Period};
use std::path::Path;

const DAILY: Period = Period { every: Every::Day, offset: 0 };

fn usage(folder: &Path) -> config::Usage {
    config::Usage {
        folder: folder.to_path_buf(),
        flush: Duration::from_millis(10),
        ..config::Usage::default()
    }
}

fn meter(consumer: &str) -> Arc<Meter> {
    Arc::new(Meter::new("keys".into(), consumer.into(), DAILY))
}

fn take(meter: &Meter, times: usize) {
    for _ in 0..times {
        meter.take(DAILY.number(unix_now()), u64::MAX).unwrap();
    }
}

fn count(meter: &Meter) -> u64 {
    meter.taken().iter().map(|taken| taken.count).max().unwrap()
}

fn on_disk(folder: &Path) -> HashMap<String, u64> {
    let counts = store::load(folder).unwrap().counts.into_iter();
    counts.map(|(key, count)| (key.consumer.to_string(), count.count)).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test may wait")]
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = crate::base::Tick::now().after(Duration::from_secs(10));
    while !done() {
        assert!(crate::base::Tick::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_restart_goes_on_where_the_end_was() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut ledger = Ledger::default();
        let [a, b] = ["a", "b"].map(meter);
        let warnings = ledger.follow(vec![Arc::clone(&a), Arc::clone(&b)], &usage(dir.path()));
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(count(&a), (round - 1) * 100);
        take(&a, 100);
        take(&b, 1);
        ledger.stop();
        assert_eq!(
            on_disk(dir.path()),
            [("a".to_owned(), round * 100), ("b".to_owned(), round)].into()
        );
    }
}

#[test]
fn it_is_written_every_flush_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let a = meter("a");
    ledger.follow(vec![Arc::clone(&a)], &usage(dir.path()));
    for n in [7, 14] {
        take(&a, 7);
        eventually("the count is on disk", || on_disk(dir.path()).get("a") == Some(&n));
    }
    let stat = ledger.stat();
    eventually("and in the metrics", || stat.written.load(Ordering::Relaxed) >= 2);
    assert_eq!(stat.failed.load(Ordering::Relaxed), 0);
}

// RL-02: what a reload takes out and another brings back is not new.
#[test]
fn a_consumer_that_comes_back_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let (first, usage) = (meter("a"), usage(dir.path()));
    ledger.follow(vec![Arc::clone(&first)], &usage);
    take(&first, 5);
    ledger.follow(Vec::new(), &usage);
    // A request that began before the reload.
    take(&first, 1);
    drop(first);
    eventually("what it counted last is on disk", || on_disk(dir.path()).get("a") == Some(&6));
    let again = meter("a");
    ledger.follow(vec![Arc::clone(&again)], &usage);
    assert_eq!(count(&again), 6);
    take(&again, 1);
    ledger.follow(vec![Arc::clone(&again)], &usage);
    assert_eq!(count(&again), 7, "followed once, however often it is told");
    ledger.stop();
    assert_eq!(on_disk(dir.path())["a"], 7);
}

#[test]
fn without_its_folder_it_counts_on_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("later");
    let mut ledger = Ledger::default();
    let a = meter("a");
    ledger.follow(vec![Arc::clone(&a)], &usage(&folder));
    take(&a, 3);
    let stat = ledger.stat();
    eventually("it fails", || stat.failed.load(Ordering::Relaxed) > 1);
    eventually("and says what is missing", || stat.unwritten.load(Ordering::Relaxed) == 1);
    // Somebody mounts a disk that has counted before.
    let before = dir.path().join("before");
    std::fs::create_dir(&before).unwrap();
    let (mut store, ..) = Store::open(&before, 62, unix_now()).unwrap();
    let number = DAILY.number(unix_now());
    let record = Record::of(&"keys".into(), &"a".into(), DAILY, number, 40);
    store.append(&[record], true).unwrap();
    drop(store);
    std::fs::rename(&before, &folder).unwrap();
    eventually("both are counted", || on_disk(&folder).get("a") == Some(&43));
    assert_eq!(count(&a), 43, "and hold");
    ledger.stop();
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let shared = Arc::new(Shared {
        folder: dir.path().to_path_buf(),
        keep_days: 62,
        flush_ms: 10.into(),
        fsync: true.into(),
        stat: Arc::default(),
        counts: Mutex::default(),
    });
    let mut writer =
        Writer { shared: Arc::clone(&shared), store: None, failing: false, tried: Tick::ZERO };
    assert!(writer.open_or_read().is_empty());
    let a = meter("a");
    shared.counts().follow(vec![Arc::clone(&a)], unix_now());
    take(&a, 2);
    let mut full = writer.store.take().unwrap();
    let log = full.swap_log(std::fs::File::options().write(true).open("/dev/full").unwrap());
    writer.store = Some(full);
    writer.flush();
    writer.flush();
    assert!(writer.failing && shared.stat.failed.load(Ordering::Relaxed) == 2);
    assert_eq!(shared.stat.unwritten.load(Ordering::Relaxed), 1);
    take(&a, 2);
    writer.store.as_mut().unwrap().swap_log(log);
    writer.flush();
    assert!(!writer.failing && shared.stat.unwritten.load(Ordering::Relaxed) == 0);
    assert_eq!(on_disk(dir.path())["a"], 4);
}

#[test]
fn threads_that_count_while_it_is_written_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    let meters: Vec<Arc<Meter>> = (0..20).map(|n| meter(&n.to_string())).collect();
    ledger.follow(meters.clone(), &usage(dir.path()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    meters.iter().for_each(|meter| take(meter, 5));
                    std::thread::yield_now();
                }
            });
        }
    });
    ledger.stop();
    let on_disk = on_disk(dir.path());
    assert!(on_disk.len() == 20 && on_disk.values().all(|n| *n == 2000), "{on_disk:?}");
}
