//! Tests of the log thread with real files.

use super::*;
use std::path::Path;

fn template() -> Format {
    Format::parse("$request_id $status").unwrap()
}

fn record(sink: &mut Sink, id: &str) {
    let record = Record { request_id: id.as_bytes(), status: 200, ..Record::default() };
    sink.record(&record, &template());
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn every_line_of_two_workers_is_whole() {
    const EACH: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = start(AccessLog::File(path.clone())).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let mut sink = log.sink();
            let log = log.clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    record(&mut sink, &format!("w{worker}-{n}"));
                    if n % 5000 == 0 {
                        log.flush();
                    }
                }
            });
        }
    });
    assert!(log.flush_and_stop());
    let got = lines(&path);
    assert_eq!(got.len(), 2 * EACH);
    for worker in 0..2 {
        let mine: Vec<_> = got.iter().filter(|l| l.starts_with(&format!("w{worker}-"))).collect();
        assert_eq!(mine.len(), EACH);
        let ordered = mine.iter().enumerate().all(|(n, l)| **l == format!("w{worker}-{n} 200"));
        assert!(ordered, "lines of one worker keep their order");
    }
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert_eq!(log.stats(), LogStats { written_bytes: bytes, ..LogStats::default() });
}

#[test]
fn reopens_after_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = start(AccessLog::File(path.clone())).unwrap();
    let mut sink = log.sink();
    record(&mut sink, "a");
    sink.flush();
    assert!(log.flush());
    std::fs::rename(&path, &old).unwrap();
    record(&mut sink, "b");
    sink.flush();
    assert!(log.flush());
    log.reopen();
    record(&mut sink, "c");
    sink.flush();
    assert!(log.flush_and_stop());
    assert_eq!(lines(&old), ["a 200", "b 200"]);
    assert_eq!(lines(&path), ["c 200"]);
}

#[test]
fn a_full_disk_drops_and_counts_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let log = start(AccessLog::File("/dev/full".into())).unwrap();
    let mut sink = log.sink();
    for n in 0..10 {
        record(&mut sink, &n.to_string());
    }
    sink.flush();
    assert!(log.flush());
    assert_eq!(log.stats().dropped_records, 10);
    log.set_target(AccessLog::File(path.clone())).unwrap();
    record(&mut sink, "after");
    sink.flush();
    assert!(log.flush_and_stop());
    assert_eq!(lines(&path), ["after 200"]);
    assert!(log.set_target(AccessLog::File("/no/such/dir/log".into())).is_err());
}

#[test]
fn a_stuck_log_never_holds_a_worker_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let _stalled = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let log = start(AccessLog::File(path)).unwrap();
    let mut sink = log.sink();
    let began = Tick::now();
    let id = "x".repeat(900);
    // More than the pipe and the queue hold together.
    for _ in 0..(QUEUE + 64) * BATCH / id.len() {
        record(&mut sink, &id);
    }
    sink.flush();
    assert!(Tick::now().since(began) < Duration::from_secs(5));
    assert!(log.stats().dropped_records > 0);
}

#[test]
fn records_after_the_stop_are_dropped_and_off_writes_nothing() {
    let log = start(AccessLog::Off).unwrap();
    let mut sink = log.sink();
    record(&mut sink, "a");
    assert!(sink.batch.is_empty());
    let dir = tempfile::tempdir().unwrap();
    log.set_target(AccessLog::File(dir.path().join("log"))).unwrap();
    assert!(log.flush_and_stop());
    // The thread is gone when its end of the queue is; a moment may pass.
    let deadline = Tick::now().after(Duration::from_secs(5));
    while log.stats().dropped_records == 0 && Tick::now() < deadline {
        record(&mut sink, "b");
        sink.flush();
    }
    assert!(log.stats().dropped_records > 0);
}

#[test]
fn batches_come_back_to_be_filled_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = start(AccessLog::File(dir.path().join("log"))).unwrap();
    let mut sink = log.sink();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        record(&mut sink, "a");
        seen.insert(sink.batch.as_ptr());
        sink.flush();
        assert!(log.flush());
    }
    assert!(seen.len() <= 3, "{} batches for one at a time", seen.len());
    assert!(log.flush_and_stop());
}
