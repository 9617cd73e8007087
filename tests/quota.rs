//! Quotas over real sockets: exact for the machine, and counted on after a reload, a restart and `kill -9`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use ringgate::control::ledger::{record, store};
use ringgate::policy::api_key::secret;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::ringgate::command;
use support::{Client, Message, Ringgate, eventually, free_address};

const KEY: &str = "rg_a-key-that-only-this-test-has";

struct World {
    web: SocketAddr,
    dir: tempfile::TempDir,
    plan: String,
    usage: String,
}

impl World {
    fn new(plan: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let hash = secret::written(&secret::digest(KEY.as_bytes()));
        let consumers = format!(
            "[consumer.acme]\nplan = \"gold\"\nkeys = [\"{hash}\"]\nlabels = {{ team = \"x\" }}\n"
        );
        std::fs::write(dir.path().join("consumers.toml"), consumers).unwrap();
        let usage = "flush = \"10ms\"".to_owned();
        World { web: free_address(), dir, plan: plan.to_owned(), usage }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("usage")
    }

    fn config(&self) -> String {
        format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{}\"]\npolicy = [\"keys\"]\n\
             default = {{ respond = {{ status = 200, body = \"x\" }} }}\n\
             [usage]\nfolder = \"{}\"\n{}\n[policy.keys.api_key]\nconsumers = [\"{}\"]\n\
             [policy.keys.api_key.plan.gold]\n{}\n",
            self.web,
            self.folder().display(),
            self.usage,
            self.dir.path().join("consumers.toml").display(),
            self.plan,
        )
    }

    fn start(&self) -> Ringgate {
        // The kernel lets go of a killed process's ring, and with it of its sockets, a moment after its end.
        eventually("the address is free", || std::net::TcpListener::bind(self.web).is_ok());
        Ringgate::start(&self.config())
    }

    #[track_caller]
    fn ask(&self) -> Message {
        Client::connect(self.web).send(request()).response()
    }

    fn on_disk(&self) -> u64 {
        let loaded = store::load(&self.folder()).unwrap();
        loaded.counts.values().map(|count| count.count).sum()
    }
}

fn request() -> String {
    format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-API-Key: {KEY}\r\n\r\n")
}

fn number(answer: &Message, field: &str) -> u64 {
    answer
        .header(field)
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {field}"))
}

// RL-01: exact, however many connections and workers.
#[test]
fn two_workers_together_allow_exactly_the_quota() {
    let world = World::new("quota = \"500/day\"");
    let mut ringgate = world.start();
    let passed: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(world.web);
                    let mut passed = 0;
                    for _ in 0..100 {
                        let answer = client.send(request()).response();
                        match answer.status() {
                            200 => passed += 1,
                            429 => {
                                assert_eq!(
                                    answer.header("x-ringgate-reason"),
                                    Some("quota_exceeded")
                                );
                                assert_eq!(number(&answer, "x-quota-remaining"), 0);
                            }
                            other => panic!("{other}"),
                        }
                    }
                    passed
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(passed, 500);
    let refused = world.ask();
    let wait = number(&refused, "retry-after");
    assert!((1..=86_400).contains(&wait) && wait == number(&refused, "x-quota-reset"), "{wait}");
    let unixtime = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let ends = (unixtime.as_secs() + wait) % 86_400;
    assert!(!(5..=86_395).contains(&ends), "until midnight in UTC: {ends}");
    ringgate.signal(Signal::TERM);
    ringgate.wait_exit();
    assert_eq!(world.on_disk(), 500, "what was refused is not counted");
}

// RL-02, and a restart.
#[test]
fn counters_go_on_over_reloads_and_restarts() {
    let mut world = World::new("quota = \"100/month\"");
    let mut left = 100;
    for _ in 0..3 {
        let mut ringgate = world.start();
        for _ in 0..4 {
            left -= 1;
            assert_eq!(number(&world.ask(), "x-quota-remaining"), left);
            ringgate.reload(&world.config());
        }
        let sum = ringgate.metric("ringgate_usage_ledger_failures_total");
        assert_eq!(sum, Some(0.0));
        ringgate.signal(if left % 8 == 0 { Signal::INT } else { Signal::TERM });
        ringgate.wait_exit();
        assert_eq!(world.on_disk(), 100 - left);
    }
    // A larger quota is not a new one.
    world.plan = "quota = \"1000/month\"".to_owned();
    let _ringgate = world.start();
    assert_eq!(number(&world.ask(), "x-quota-remaining"), 900 + left - 1);
}

#[test]
fn a_new_period_begins_at_its_second() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // The day ends in three seconds.
    let offset = (now + 3) % 86_400;
    let world = World::new(&format!("quota = \"2/day\"\noffset = \"{offset}s\""));
    let _ringgate = world.start();
    let first = world.ask();
    assert_eq!(first.status(), 200);
    assert!(number(&first, "x-quota-reset") <= 3, "{}", first.text());
    eventually("a day with its own quota", || {
        world.ask().status() == 200 && number(&world.ask(), "x-quota-reset") > 80_000
    });
    eventually("both days are on disk", || {
        store::load(&world.folder()).is_ok_and(|loaded| loaded.counts.len() == 2)
    });
}

#[test]
fn usage_is_printed_while_ringgate_runs() {
    let world = World::new("quota = \"100/month\"");
    let ringgate = world.start();
    (0..7).for_each(|_| assert_eq!(world.ask().status(), 200));
    eventually("it is on disk", || world.on_disk() == 7);
    let (config, folder) = (ringgate.path(), world.folder());
    let (config, folder) = (config.to_str().unwrap(), folder.to_str().unwrap());
    let (code, table) = command(&["usage", "-c", config]);
    let cells: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((code, &cells[..4]), (0, &["keys", "acme", "gold", "month"][..]), "{table}");
    assert_eq!(&cells[6..], ["7", "100"], "{table}");
    let (code, json) = command(&["usage", "-c", config, "--format", "json", "--period", "all"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json[0]["used"], &json[0]["labels"]["team"]), (0, &7.into(), &"x".into()));
    let (code, csv) = command(&["usage", "--ledger", folder, "--format", "csv"]);
    assert!(code == 0 && csv.lines().count() == 2 && csv.contains("keys,acme,,month,"), "{csv}");
    let (_, none) = command(&["usage", "--ledger", folder, "--consumer", "b", "--format", "json"]);
    assert_eq!(none, "[]\n");
    let (code, said) = command(&["usage", "--ledger", "no/such/folder"]);
    assert!(code == 1 && said.contains("no/such/folder cannot be read"), "{said}");
    let (code, _) = command(&["usage", "--ledger", folder, "--period", "yesterday"]);
    assert_eq!(code, 2);
}

#[test]
fn a_damaged_ledger_is_set_aside_and_never_stops_the_start() {
    let world = World::new("quota = \"100/month\"");
    std::fs::create_dir(world.folder()).unwrap();
    let log = world.folder().join("usage.log");
    std::fs::write(&log, "this is no ledger").unwrap();
    let mut ringgate = world.start();
    assert_eq!(number(&world.ask(), "x-quota-remaining"), 99);
    ringgate.signal(Signal::TERM);
    ringgate.wait_exit();
    assert_eq!(world.on_disk(), 1);

    let mut octets = std::fs::read(&log).unwrap();
    octets.splice(8..8, *b"damage");
    std::fs::write(&log, octets).unwrap();
    let ringgate = world.start();
    assert_eq!(number(&world.ask(), "x-quota-remaining"), 98, "what is whole counts");
    let said = ringgate.output();
    assert!(said.contains("is damaged: 6 of its"), "{said}");
    let beside = std::fs::read_dir(world.folder()).unwrap();
    let beside =
        beside.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains(".bad-"));
    assert_eq!(beside.count(), 1, "it is kept");
}

#[test]
fn without_its_folder_it_counts_in_memory_and_says_so() {
    let world = World::new("quota = \"3/month\"");
    std::fs::write(world.folder(), "a file").unwrap();
    let ringgate = world.start();
    let statuses: Vec<u16> = (0..5).map(|_| world.ask().status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    let said = ringgate.output();
    assert!(said.contains("usage.folder: found") && said.contains("cannot be written"), "{said}");
    eventually("a metric says so", || {
        let metric = |name| ringgate.metric(name).unwrap_or(0.0);
        metric("ringgate_usage_ledger_failures_total") >= 1.0
            && metric("ringgate_usage_ledger_unwritten") == 1.0
    });
}

#[test]
fn two_processes_do_not_write_one_ledger() {
    let world = World::new("quota = \"100/month\"");
    let mut first = world.start();
    assert_eq!(world.ask().status(), 200);
    let other = World { web: free_address(), dir: tempfile::tempdir().unwrap(), ..world };
    let text = world_config_at(&other, &first);
    let second = Ringgate::start(&text);
    assert!(
        second.output().contains("another process keeps its ledger there"),
        "{}",
        second.output()
    );
    assert_eq!(number(&other.ask(), "x-quota-remaining"), 98, "it has read what there was");
    first.signal(Signal::TERM);
    first.wait_exit();
    let folder = usage_folder(&text);
    eventually("the second goes on writing", || {
        let loaded = store::load(&folder).unwrap();
        loaded.counts.values().map(|c| c.count).sum::<u64>() == 2
    });
}

fn world_config_at(other: &World, first: &Ringgate) -> String {
    let text = std::fs::read_to_string(first.path()).unwrap();
    let end = text.find("[log]").unwrap_or(text.len());
    let text = text[..end].to_owned();
    let bind = text.lines().find(|line| line.starts_with("bind = ")).unwrap().to_owned();
    let text = text.replace(&bind, &format!("bind = [\"{}\"]", other.web));
    let server = text.find("[[listener]]").unwrap();
    text[server..].to_owned()
}

fn usage_folder(config: &str) -> PathBuf {
    let line = config.lines().find(|line| line.starts_with("folder = ")).unwrap();
    PathBuf::from(line.trim_start_matches("folder = ").trim_matches('"'))
}

/// One look at the log while it is written.
struct Look {
    /// Answers that had come before.
    answered: u64,
    /// Records that it held: one each flush that had something to write.
    flushes: u64,
    at: Instant,
}

fn look(log: &Path, answered: &AtomicU64) -> (Look, u64) {
    let (at, answered) = (Instant::now(), answered.load(Ordering::SeqCst));
    let octets = std::fs::read(log).unwrap_or_default();
    let (mut flushes, mut count) = (0, 0);
    record::read(&octets, |record| {
        flushes += 1;
        count = record.count;
    });
    (Look { answered, flushes, at }, count)
}

// Under load from four connections, killed at a random moment, again and again, over one ledger. A flush begins after the
// one before has ended, so whatever was answered before two flushes were seen must be in the second.
#[test]
fn kill_at_random_moments_loses_no_more_than_the_last_flush() {
    let kills =
        std::env::var("RINGGATE_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let limit = 1_000_000_000;
    let world = World::new(&format!("quota = \"{limit}/month\""));
    let log = world.folder().join("usage.log");
    let (mut total, mut most_lost, mut longest) = (0, 0, Duration::ZERO);
    for kill in 0..kills {
        let mut ringgate = world.start();
        // What is left in the kernel of a connection to the killed process may refuse one with the same ports.
        eventually("it is reached", || std::net::TcpStream::connect(world.web).is_ok());
        let first = world.ask();
        let begun = limit - 1 - number(&first, "x-quota-remaining");
        assert_eq!(begun, total, "kill {kill}: it goes on where the file ended");
        let (answered, sent) = (AtomicU64::new(1), AtomicU64::new(1));
        let (stop, lives) = (AtomicBool::new(false), Duration::from_micros(rng.u64(0..120_000)));
        let mut looks: Vec<Look> = Vec::new();
        let mut flushed = total;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| load(world.web, &stop, &sent, &answered));
            }
            let deadline = Instant::now() + lives;
            while Instant::now() < deadline {
                let (one, count) = look(&log, &answered);
                if count > 0 {
                    assert!(count >= flushed, "kill {kill}: {flushed} was on disk, then {count}");
                    flushed = count;
                }
                looks.push(one);
                std::thread::sleep(Duration::from_millis(1));
            }
            ringgate.signal(Signal::KILL);
            let _ = ringgate.wait_exit();
            stop.store(true, Ordering::SeqCst);
        });
        let killed = Instant::now();
        let loaded = store::load(&world.folder()).expect("the file is readable");
        assert!(loaded.damaged.iter().all(|(.., damage)| damage.within == 0), "kill {kill}");
        let found = loaded.counts.values().map(|count| count.count).sum::<u64>().max(total);
        let (last, _) = look(&log, &answered);
        let counted = found - total;
        assert!(found >= flushed, "kill {kill}: {flushed} was flushed, {found} is there");
        assert!(counted <= sent.load(Ordering::SeqCst), "kill {kill}: nothing is counted twice");
        let sure = looks.iter().rfind(|look| look.flushes + 2 <= last.flushes);
        if let Some(sure) = sure {
            let answered = sure.answered;
            assert!(
                counted >= answered,
                "kill {kill}: {answered} before the flush, {counted} are there"
            );
            longest = longest.max(killed - sure.at);
        }
        most_lost = most_lost.max(answered.load(Ordering::SeqCst).saturating_sub(counted));
        total = found;
    }
    println!(
        "{kills} kills, {total} counted; at most {most_lost} answers lost in one, all of the last {longest:?}"
    );
    assert!(total > kills, "{total}");
}

fn load(to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64, answered: &AtomicU64) {
    let Ok(stream) = std::net::TcpStream::connect(to) else { return };
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut wire = support::Wire::new(stream);
    while !stop.load(Ordering::SeqCst) {
        sent.fetch_add(1, Ordering::SeqCst);
        if wire.send(request().as_bytes()).is_err() {
            return;
        }
        match wire.response("GET") {
            Ok(Some(answer)) => assert_eq!(answer.status(), 200),
            _ => return,
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}
