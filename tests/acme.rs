//! Certificates by ACME against `pebble`, Let's Encrypt's small server for tests, with a name server of its own.
//!
//! Both challenges, renewal ahead of time, a restart without an order, an authority that is away. Both programs are in
//! Debian's package `pebble`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "acme/authority.rs"]
mod authority;
mod support;

use authority::Authority;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use support::tls::{self, Shown};
use support::{Ringgate, eventually, free_address, get};

/// A plain listener that sends everybody to https, as is usual beside ACME, and one that answers there.
fn config(http: SocketAddr, https: SocketAddr, acme: &str) -> String {
    format!(
        "[[listener]]\nname = \"plain\"\nbind = [\"{http}\"]\n\
         default = {{ redirect = {{ scheme = \"https\", status = 301 }} }}\n\
         [[listener]]\nname = \"web\"\nbind = [\"{https}\"]\nprotocol = \"https\"\n\
         default = {{ respond = {{ status = 200, body = \"served\" }} }}\ntls = {{ acme = {acme} }}\n"
    )
}

struct World {
    http: SocketAddr,
    https: SocketAddr,
    authority: Authority,
    dir: tempfile::TempDir,
}

impl World {
    /// Certificates are valid for so many seconds.
    fn new(seconds: u32) -> World {
        let (http, https) = (free_address(), free_address());
        let authority = Authority::prepared(http, https, seconds);
        World { http, https, authority, dir: tempfile::tempdir().unwrap() }
    }

    fn storage(&self) -> PathBuf {
        self.dir.path().join("acme")
    }

    fn start(&self, names: &str, more: &str) -> Ringgate {
        let acme = self.authority.table(&self.storage(), more);
        // One worker: once it shows a certificate, no other shows the one before.
        let server = "[server]\nworkers = 1\n";
        Ringgate::start(&(server.to_owned() + &config(self.http, self.https, names) + &acme))
    }

    #[track_caller]
    fn shown(&self, name: &str) -> Shown {
        tls::shown(self.https, name, &["http/1.1"]).expect("a handshake")
    }

    /// Waits until pebble's certificate is shown for `name`.
    #[track_caller]
    fn wait_obtained(&self, name: &str) -> Shown {
        eventually(&format!("a certificate for {name}"), || is_pebbles(&self.shown(name)));
        self.shown(name)
    }
}

fn is_pebbles(shown: &Shown) -> bool {
    shown.names().1.starts_with("Pebble Intermediate CA")
}

fn count(ringgate: &Ringgate, name: &str, result: &str) -> f64 {
    let series = format!("ringgate_acme_attempts_total{{name=\"{name}\",result=\"{result}\"}}");
    ringgate.metric(&series).unwrap_or(0.0)
}

fn files(folder: &Path) -> Vec<(String, u32)> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().mode() & 0o777))
        .collect();
    all.sort();
    all
}

#[test]
fn http_01_is_answered_before_any_rule_and_the_certificate_is_taken_up() {
    let mut world = World::new(3600);
    let ringgate = world.start("[\"a.test\", \"b.test\"]", "contact = [\"mailto:ops@a.test\"]");
    // There is no authority yet: a listener that starts all the same.
    let first = world.shown("a.test");
    assert_eq!(first.names().0, "not obtained yet");
    eventually("the log says so", || ringgate.output().contains("self-signed"));
    assert_eq!(tls::get(world.https, "a.test", "/").unwrap().text(), "served");
    eventually("the failure is counted", || count(&ringgate, "a.test", "failed") >= 1.0);
    world.authority.rise();
    for name in ["a.test", "b.test"] {
        let shown = world.wait_obtained(name);
        assert_eq!(shown.chain.len(), 2, "with the certificate that issued it");
        assert_eq!(count(&ringgate, name, "ok"), 1.0);
        let kept = format!("ringgate_acme_certificate_not_after_seconds{{name=\"{name}\"}}");
        assert_eq!(ringgate.metric(&kept), Some(shown.not_after() as f64));
    }
    assert_eq!(tls::get(world.https, "b.test", "/").unwrap().text(), "served");
    assert_eq!(get(world.http, "/.well-known/acme-challenge/x").status(), 301, "not ours");
    assert_eq!(world.authority.signed(), 2);
    let files = files(&world.storage());
    assert_eq!(files.len(), 4, "an account, what was ordered, two certificates: {files:?}");
    assert!(files.iter().all(|(_, mode)| *mode == 0o600), "{files:?}");
    let output = ringgate.output();
    assert_eq!(output.matches("acme: a new account").count(), 1, "one account for both");
    assert!(!output.contains("PRIVATE"), "hazard TLS-14");
}

#[test]
fn tls_alpn_01_is_answered_to_who_offers_nothing_else() {
    let mut world = World::new(3600);
    world.authority.rise();
    let acme = "{ names = [\"a.test\"], challenge = \"tls-alpn-01\" }";
    let ringgate = world.start(acme, "");
    world.wait_obtained("a.test");
    assert_eq!((world.authority.signed(), count(&ringgate, "a.test", "failed")), (1, 0.0));
    // RFC 8737 section 3: without a challenge there is no such handshake; beside another protocol it does not count.
    assert!(tls::shown(world.https, "a.test", &["acme-tls/1"]).is_err());
    let both = tls::shown(world.https, "a.test", &["acme-tls/1", "http/1.1"]).unwrap();
    assert_eq!(both.alpn.as_deref(), Some(b"http/1.1".as_slice()));
    assert!(is_pebbles(&both));
}

#[test]
fn is_renewed_ahead_of_its_end_while_connections_go_on() {
    let mut world = World::new(12);
    world.authority.rise();
    let ringgate = world.start("[\"a.test\"]", "renew_before = \"9s\"");
    let first = world.wait_obtained("a.test");
    let (old, _) = tls::connect(world.https, "a.test", &["http/1.1"]).unwrap();
    let mut wire = support::Wire::new(old);
    let mut served = || {
        wire.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").unwrap();
        wire.response("GET").unwrap().map(|answer| answer.text())
    };
    assert_eq!(served().as_deref(), Some("served"));
    eventually("it is renewed", || world.shown("a.test").chain != first.chain);
    let second = world.shown("a.test");
    assert!(second.not_after() > first.not_after());
    assert_eq!((world.authority.signed(), count(&ringgate, "a.test", "ok")), (2, 2.0));
    assert_eq!(served().as_deref(), Some("served"), "by the connection of before");
    assert_eq!(ringgate.reloads("failed"), 0.0);
}

#[test]
fn a_restart_serves_what_is_kept_without_an_order_or_the_authority() {
    let mut world = World::new(3600);
    world.authority.rise();
    let ringgate = world.start("[\"a.test\"]", "");
    let first = world.wait_obtained("a.test");
    drop(ringgate);
    world.authority.fall();
    let ringgate = world.start("[\"a.test\"]", "");
    assert_eq!(world.shown("a.test").chain, first.chain);
    assert_eq!(tls::get(world.https, "a.test", "/").unwrap().text(), "served");
    assert_eq!(
        (count(&ringgate, "a.test", "ok"), count(&ringgate, "a.test", "failed")),
        (0.0, 0.0)
    );
    assert!(!ringgate.output().contains("acme: ordered"), "{}", ringgate.output());
}

#[test]
fn an_authority_that_has_forgotten_the_account_gives_another() {
    let mut world = World::new(3600);
    world.authority.rise();
    let ringgate = world.start("[\"a.test\"]", "");
    world.wait_obtained("a.test");
    drop(ringgate);
    world.authority.fall();
    world.authority.rise();
    let ringgate = world.start("[\"a.test\", \"b.test\"]", "");
    world.wait_obtained("b.test");
    assert_eq!(count(&ringgate, "b.test", "failed"), 0.0);
    assert!(ringgate.output().contains("does not know the account any more"));
}

#[test]
fn what_the_authority_cannot_see_is_said_and_waits() {
    let mut world = World::new(3600);
    world.authority.rise();
    // It asks at port https for a name of which only http-01 is offered, at a port where nobody listens.
    let nowhere = free_address();
    let acme = world.authority.table(&world.storage(), "");
    let ringgate = Ringgate::start(&(config(nowhere, world.https, "[\"a.test\"]") + &acme));
    eventually("the attempt has failed", || count(&ringgate, "a.test", "failed") == 1.0);
    eventually("the log says why", || {
        let output = ringgate.output();
        output.contains("no certificate: ") && output.contains("next attempt in")
    });
    assert_eq!(tls::get(world.https, "a.test", "/").unwrap().text(), "served");
    assert_eq!(ringgate.output().matches("acme: ordered").count(), 1);
}

#[test]
fn a_storage_that_another_user_cannot_write_is_said_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ringgate.toml");
    let user = if rustix::process::geteuid().is_root() { "nobody" } else { "root" };
    let storage = dir.path().join("acme");
    std::fs::create_dir(&storage).unwrap();
    let text = format!(
        "[server]\nuser = \"{user}\"\n[acme]\nterms_agreed = true\nstorage = \"{}\"\n{}",
        storage.display(),
        config(free_address(), free_address(), "[\"a.test\"]"),
    );
    std::fs::write(&file, text).unwrap();
    let (code, said) = support::ringgate::command(&["check", "-c", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "ringgate.toml:5:11: acme.storage: found ",
        &format!("user {user} (uid "),
        &format!("help: chown -R {user} "),
        "until then a self-signed one is shown",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
}

#[test]
fn another_user_obtains_and_keeps_certificates() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped, since only root can become another user");
        return;
    }
    let mut world = World::new(3600);
    world.authority.rise();
    let dir = tempfile::tempdir().unwrap();
    for dir in [world.dir.path(), world.authority.folder(), dir.path()] {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir, open).unwrap();
    }
    let acme = world.authority.table(&world.storage(), "");
    let text = config(world.http, world.https, "[\"a.test\"]") + &acme;
    let _ringgate =
        Ringgate::start_in(dir, &format!("[server]\nuser = \"nobody\"\nworkers = 1\n{text}"));
    world.wait_obtained("a.test");
    for (name, mode) in files(&world.storage()) {
        let meta = world.storage().join(&name).metadata().unwrap();
        assert_eq!((meta.uid(), mode), (65_534, 0o600), "{name}");
    }
}
