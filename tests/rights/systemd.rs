//! What a service manager is told, by a socket that stands for it; and the unit, as systemd's own tools judge it.

use super::support::{PATIENCE, Ringgate, eventually, free_address};
use super::{answering, open_folder};
use rustix::process::Signal;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// What a service manager has heard.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Waits for a message that holds the line; whatever comes before it is kept in `heard`.
    #[track_caller]
    fn hears(&mut self, line: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            let Ok(length) = self.socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(text.clone());
            if text.lines().any(|l| l == line) {
                return text;
            }
        }
        panic!("not heard: {line}; but {:?}", self.heard);
    }
}

fn start(watchdog: &str) -> (Ringgate, Manager, String) {
    let dir = open_folder();
    let path = dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringgate"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog).env_remove("WATCHDOG_PID");
    let config = format!("[server]\nsandbox = \"on\"\n{}", answering(free_address()));
    let ringgate = Ringgate::start_as(dir, &config, command);
    (ringgate, Manager { socket, heard: Vec::new() }, config)
}

// Hazard OPS-21.
#[test]
fn a_service_manager_is_told_each_step() {
    let (mut ringgate, mut manager, config) = start("400000");
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");

    ringgate.reload(&config);
    let reloading = manager.hears("RELOADING=1");
    let time = reloading.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let age = now.tv_sec * 1_000_000 + now.tv_nsec / 1000 - time.parse::<i64>().unwrap();
    assert!((0..60_000_000).contains(&age), "{reloading}");
    assert!(manager.hears("READY=1").contains("STATUS=serving\n"));

    ringgate.write("nonsense = 1");
    ringgate.signal(Signal::HUP);
    manager.hears("RELOADING=1");
    assert!(manager.hears("READY=1").contains("refused"), "a refused reload is over, too");

    ringgate.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert_eq!(ringgate.wait_exit().code(), Some(0));
    let ready = manager.heard.iter().filter(|text| text.contains("READY=1")).count();
    assert_eq!(ready, 3, "once for the start and for each reload: {:?}", manager.heard);
}

#[test]
fn without_a_watchdog_nobody_feeds_it() {
    let (ringgate, mut manager, _) = start("");
    manager.hears("READY=1");
    ringgate.signal(Signal::HUP);
    eventually("the reload is over", || ringgate.reloads("ok") > 0.0);
    ringgate.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert!(!manager.heard.iter().any(|text| text.contains("WATCHDOG")), "{:?}", manager.heard);
}

// ---------------------------------------------------------------- the unit

/// The most that `systemd-analyze security` may give, of 10.
const EXPOSURE: f64 = 2.0;

fn analyze(arguments: &[&str]) -> Option<Output> {
    let done = Command::new("systemd-analyze").args(arguments).env("LC_ALL", "C").output();
    if done.is_err() {
        eprintln!("skipped: systemd-analyze is not installed");
    }
    done.ok()
}

/// The number of the installed systemd.
fn version() -> Option<u32> {
    let said = String::from_utf8(analyze(&["--version"])?.stdout).ok()?;
    said.split_whitespace().nth(1)?.split('.').next()?.parse().ok()
}

/// The unit in a folder of its own, with a program that there is. Systemd before 253 does not know `notify-reload`,
/// before 254 no growing pauses between restarts: those lines are left to the newer ones.
fn unit(version: u32) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ringgate.service");
    let mut text = std::fs::read_to_string(source).unwrap();
    assert!(text.contains("\nType=notify-reload\n"));
    text = text.replace("/usr/local/bin/ringgate", env!("CARGO_BIN_EXE_ringgate"));
    if version < 253 {
        text = text.replace("Type=notify-reload", "Type=notify");
    }
    if version < 254 {
        let newer = |line: &&str| {
            line.starts_with("RestartSteps=") || line.starts_with("RestartMaxDelaySec=")
        };
        text = text.lines().filter(|l| !newer(l)).map(|l| format!("{l}\n")).collect();
    }
    let path = dir.path().join("ringgate.service");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

// Hazards SEC-08, OPS-21.
#[test]
fn the_unit_is_accepted_and_scored() {
    let Some(version) = version() else { return };
    let (_dir, path) = unit(version);
    let verified = analyze(&["verify", "--man=no", "--recursive-errors=no", &path]).unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "systemd {version}: {said}");

    let scored = analyze(&["security", "--offline=true", "--no-pager", &path]).unwrap();
    let text = String::from_utf8_lossy(&scored.stdout).into_owned();
    let overall = text.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let score = overall.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let score: f64 = score.parse().unwrap();
    eprintln!("systemd {version}: exposure {score}");
    assert!(score <= EXPOSURE, "{text}");
}

/// What the program needs must not be forbidden by the unit.
#[test]
fn the_unit_leaves_what_serving_needs() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ringgate.service");
    let text = std::fs::read_to_string(source).unwrap();
    for line in [
        "ExecStart=/usr/local/bin/ringgate run -c /etc/ringgate/ringgate.toml",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "MemoryDenyWriteExecute=yes",
        "Restart=on-failure",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}");
    }
    for key in ["WatchdogSec=", "LimitNOFILE=", "LimitMEMLOCK=", "LogsDirectory="] {
        assert!(text.lines().any(|l| l.starts_with(key)), "{key}");
    }
    let calls: String = text.lines().filter(|l| l.starts_with("SystemCallFilter=")).collect();
    for call in ["io_uring_enter", "landlock_restrict_self", "seccomp", "sched_setaffinity"] {
        assert!(calls.contains(call), "{call}");
    }
}
