//! Files of certificates that change under a running ringgate: taken up within seconds, a broken one never, and no handshake
//! lost meanwhile (hazard TLS-07). OCSP responses, and the warning before the end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::tls::{self, Pair, replace};
use support::{Ringgate, eventually, free_address};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

struct World {
    https: SocketAddr,
    dir: tempfile::TempDir,
}

impl World {
    fn new(pair: &Pair) -> World {
        let world = World { https: free_address(), dir: tempfile::tempdir().unwrap() };
        pair.write(&world.cert(), &world.key());
        world
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("a.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("a.key")
    }

    fn config(&self, server: &str, more: &str) -> String {
        format!(
            "[server]\n{server}\n[[listener]]\nname = \"web\"\nbind = [\"{}\"]\nprotocol = \"https\"\n\
             default = {{ respond = {{ status = 200, body = \"served\" }} }}\n\
             tls = {{ certificates = [{{ cert = \"{}\", key = \"{}\"{more} }}] }}\n",
            self.https,
            self.cert().display(),
            self.key().display(),
        )
    }

    #[track_caller]
    fn label(&self) -> String {
        tls::shown(self.https, "a.test", &[]).expect("a handshake").names().0
    }

    #[track_caller]
    fn wait_label(&self, label: &str) {
        eventually(&format!("{label} is shown"), || self.label() == label);
    }
}

#[test]
fn a_renewed_pair_is_in_use_within_seconds() {
    let world = World::new(&Pair::new("a.test", "first", YEAR));
    let ringgate = Ringgate::start(&world.config("", ""));
    world.wait_label("first");
    let (old, _) = tls::connect(world.https, "a.test", &["http/1.1"]).unwrap();
    Pair::new("a.test", "second", YEAR).write(&world.cert(), &world.key());
    world.wait_label("second");
    let mut wire = support::Wire::new(old);
    wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
    assert_eq!(
        wire.response("GET").unwrap().unwrap().text(),
        "served",
        "by the connection of before"
    );
    eventually("it is said", || ringgate.output().contains("what they hold now is in use"));
    assert_eq!(ringgate.metric("ringgate_certificate_changes_total{result=\"ok\"}"), Some(1.0));
    assert_eq!(ringgate.reloads("ok"), 0.0, "the file itself was not read again");
}

#[test]
fn half_a_pair_is_reported_and_the_old_one_stays_until_it_fits() {
    let world = World::new(&Pair::new("a.test", "first", YEAR));
    let ringgate = Ringgate::start(&world.config("", ""));
    let second = Pair::new("a.test", "second", YEAR);
    replace(&world.cert(), &second.cert);
    eventually("the log says it", || ringgate.output().contains("does not belong to"));
    world.wait_label("first");
    // Half of a file, in place.
    std::fs::write(world.key(), &second.key[..second.key.len() / 2]).unwrap();
    eventually("the log says it again", || ringgate.output().matches("stays in use").count() >= 2);
    world.wait_label("first");
    std::fs::write(world.key(), &second.key).unwrap();
    world.wait_label("second");
}

#[test]
fn without_the_watch_a_change_waits_for_the_signal() {
    let world = World::new(&Pair::new("a.test", "first", YEAR));
    let config = world.config("watch_certificates = false", "");
    let ringgate = Ringgate::start(&config);
    Pair::new("a.test", "second", YEAR).write(&world.cert(), &world.key());
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(world.label(), "first");
    ringgate.reload(&config);
    assert_eq!(world.label(), "second");
}

#[test]
fn a_signal_with_a_broken_pair_changes_nothing() {
    let world = World::new(&Pair::new("a.test", "first", YEAR));
    let config = world.config("", "");
    let ringgate = Ringgate::start(&config);
    replace(&world.key(), &Pair::new("a.test", "other", YEAR).key);
    ringgate.signal(rustix::process::Signal::HUP);
    eventually("the reload is refused", || ringgate.reloads("failed") == 1.0);
    assert_eq!(world.label(), "first");
    assert!(ringgate.output().contains("ringgate.toml:"), "with file and line");
}

// Hazard TLS-07.
#[test]
fn swaps_under_handshakes_lose_nothing() {
    let pairs: Vec<Pair> =
        (0..8).map(|n| Pair::new("a.test", &format!("pair {n}"), YEAR)).collect();
    let world = World::new(&pairs[0]);
    let config = world.config("", "");
    let ringgate = Ringgate::start(&config);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (stop, served, to) = (Arc::clone(&stop), Arc::clone(&served), world.https);
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    match tls::get(to, "a.test", "/") {
                        Ok(answer) if answer.text() == "served" => {
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                        other => failed.push(format!("{other:?}")),
                    }
                }
                failed
            })
        })
        .collect();
    // Each by a signal, which finds either pair whole or none; the watch looks in between.
    for n in 0..60 {
        pairs[n % pairs.len()].write(&world.cert(), &world.key());
        let before = served.load(Ordering::SeqCst);
        if n % 3 == 0 {
            let reloads = ringgate.reloads("ok");
            ringgate.signal(rustix::process::Signal::HUP);
            eventually("it is taken up", || ringgate.reloads("ok") > reloads);
        }
        eventually("handshakes go on", || served.load(Ordering::SeqCst) >= before + 10);
    }
    let last = Pair::new("a.test", "the last", YEAR);
    last.write(&world.cert(), &world.key());
    world.wait_label("the last");
    stop.store(true, Ordering::SeqCst);
    let failed: Vec<String> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    let served = served.load(Ordering::SeqCst);
    assert!(failed.is_empty(), "{} of {served} failed: {:?}", failed.len(), failed.first());
    assert_eq!(
        ringgate.reloads("failed"),
        0.0,
        "a signal after both halves were written finds a pair"
    );
    println!("{served} handshakes, {} reloads", ringgate.reloads("ok"));
}

#[test]
fn a_staple_is_sent_until_it_expires_and_again_once_it_is_renewed() {
    let pair = Pair::new("a.test", "first", YEAR);
    let world = World::new(&pair);
    let ocsp = world.dir.path().join("a.ocsp");
    let sent = || tls::shown(world.https, "a.test", &[]).unwrap().staple;
    let short = tls::staple(&pair, &tls::generalized(-60), &tls::generalized(4));
    std::fs::write(&ocsp, &short).unwrap();
    let more = format!(", ocsp = \"{}\"", ocsp.display());
    let ringgate = Ringgate::start(&world.config("", &more));
    assert_eq!(sent(), short);
    eventually("it is sent no more", || sent().is_empty());
    eventually("it is said", || ringgate.output().contains("nothing is stapled"));
    let next = tls::staple(&pair, &tls::generalized(-60), &tls::generalized(3600));
    std::fs::write(&ocsp, &next).unwrap();
    eventually("the next one is sent", || sent() == next);
    // About another certificate: refused as a whole, and what was sent still is.
    let other = Pair::new("a.test", "other", YEAR);
    let other = tls::staple(&other, "20260101000000Z", "20990101000000Z");
    std::fs::write(&ocsp, &other).unwrap();
    eventually("it is reported", || ringgate.output().contains("about another certificate"));
    assert_eq!(sent(), next);
}

// Hazard TLS-07: less than 14 days.
#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let world = World::new(&Pair::new("a.test", "late", days(13)));
    let ringgate = Ringgate::start(&world.config("", ""));
    eventually("it is said", || ringgate.output().contains("which expires in 1"));
    let gauge = "ringgate_tls_certificate_expiry_timestamp_seconds";
    let end = tls::shown(world.https, "a.test", &[]).unwrap().not_after();
    assert_eq!(ringgate.sum(gauge, &["listener=\"web\"", "a.pem"]), end as f64);
    Pair::new("a.test", "renewed", YEAR).write(&world.cert(), &world.key());
    world.wait_label("renewed");
    eventually("the gauge follows", || ringgate.sum(gauge, &["listener=\"web\""]) > end as f64);
}
