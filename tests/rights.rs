//! Least rights as the kernel shows them: `/proc` of the real binary, refused reloads, a thread that tries what it may
//! not; what a service manager is told; the unit. What only root can show says so when it is skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "rights/inside.rs"]
mod inside;
mod support;
#[path = "rights/systemd.rs"]
mod systemd;

use rustix::process::Signal;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::authority::Authority;
use support::{Origin, Ringgate, eventually, free_address, get};

const NOBODY: u32 = 65_534;
const NET_BIND_SERVICE: u64 = 1 << 10;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether root runs the test; says that it is skipped otherwise.
fn root_only(what: &str) -> bool {
    if !is_root() {
        eprintln!("skipped, since only root can show it: {what}");
    }
    is_root()
}

/// A listener that answers by itself.
fn answering(listen: SocketAddr) -> String {
    format!(
        "[[listener]]\nname = \"l{}\"\nbind = [\"{listen}\"]\ndefault = {{ respond = {{ status = 200 }} }}\n",
        listen.port()
    )
}

/// A folder that any user may look into, as configurations are kept.
fn open_folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), mode).unwrap();
    dir
}

/// The binary where any user may run it, started as `nobody` when root runs the test.
fn as_plain_user(dir: &Path) -> Command {
    let binary = dir.join("ringgate-of-all");
    std::fs::copy(env!("CARGO_BIN_EXE_ringgate"), &binary).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(binary);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// `/proc/PID/task/*/status` of every thread, each as lines of name and value.
fn threads(ringgate: &Ringgate) -> Vec<Vec<(String, String)>> {
    let tasks = format!("/proc/{}/task", ringgate.pid().as_raw_nonzero());
    let mut all = Vec::new();
    for task in std::fs::read_dir(tasks).unwrap() {
        // A thread may end meanwhile.
        let Ok(text) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let pair = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().replace('\t', " ")))
        };
        all.push(text.lines().filter_map(pair).collect());
    }
    assert!(all.len() >= 4, "main, error log, two workers: {}", all.len());
    all
}

/// Checks fields of every thread's status.
#[track_caller]
fn check_threads(ringgate: &Ringgate, expected: &[(&str, &str)]) {
    for thread in threads(ringgate) {
        let field = |name: &str| {
            let found = thread.iter().find(|(n, _)| n == name);
            found.map_or("", |(_, value)| value.as_str()).to_owned()
        };
        for (name, value) in expected {
            assert_eq!(field(name), *value, "{name} of thread {}", field("Name"));
        }
    }
}

#[track_caller]
fn check_said(ringgate: &Ringgate, parts: &[&str]) {
    for part in parts {
        eventually(&format!("the log says {part:?}"), || ringgate.output().contains(part));
    }
}

fn hex(capabilities: u64) -> String {
    format!("{capabilities:016x}")
}

/// The soft and hard limit called `name`.
fn limit(ringgate: &Ringgate, name: &str) -> (String, String) {
    let path = format!("/proc/{}/limits", ringgate.pid().as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

// ---------------------------------------------------------------- what is in force

// Hazards SEC-05, SEC-06, SEC-07.
#[test]
fn root_keeps_one_capability_in_every_thread() {
    if !root_only("capabilities after a start as root") {
        return;
    }
    let listen = free_address();
    let ringgate = Ringgate::start(&answering(listen));
    let (kept, none) = (hex(NET_BIND_SERVICE), hex(0));
    check_threads(
        &ringgate,
        &[
            ("CapPrm", &kept),
            ("CapEff", &kept),
            ("CapBnd", &kept),
            ("CapInh", &none),
            ("CapAmb", &none),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
            ("Uid", "0 0 0 0"),
        ],
    );
    check_said(&ringgate, &["least rights: uid 0, capabilities: net_bind_service", "seccomp "]);
    assert_eq!(limit(&ringgate, "Max core file size"), ("0".to_owned(), "0".to_owned()));
    let (soft, hard) = limit(&ringgate, "Max open files");
    assert_eq!(soft, hard, "RES-05: the soft limit is raised to the hard one");
    assert_eq!(get(listen, "/").status(), 200);
}

// Hazards SEC-05, SEC-07: the number, the groups, and a port below 1024 after all that.
#[test]
fn another_user_serves_and_a_reload_still_binds_a_low_port() {
    if !root_only("a change of the user") {
        return;
    }
    let dir = open_folder();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), None).unwrap();
    let listen = free_address();
    let log = dir.path().join("access.log");
    let server = "[server]\nuser = \"nobody\"\ngroup = \"12345\"\n";
    let rest = format!("\n[log]\naccess = \"{}\"\n", log.display());
    let ringgate = Ringgate::start_in(dir, &format!("{server}{}{rest}", answering(listen)));
    let (kept, none) = (hex(NET_BIND_SERVICE), hex(0));
    let uid = format!("{NOBODY} {NOBODY} {NOBODY} {NOBODY}");
    check_threads(
        &ringgate,
        &[
            ("Uid", &uid),
            ("Gid", "12345 12345 12345 12345"),
            ("CapPrm", &kept),
            ("CapEff", &kept),
            ("CapBnd", &kept),
            ("CapInh", &none),
            ("CapAmb", &none),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ],
    );
    for thread in threads(&ringgate) {
        let groups = thread.iter().find(|(name, _)| name == "Groups").unwrap();
        assert!(
            !groups.1.split(' ').any(|group| group == "0"),
            "root's groups are gone: {groups:?}"
        );
    }
    check_said(&ringgate, &["least rights: user nobody (uid 65534), capabilities: net_bind_serv"]);
    // Files below /proc/PID belong to root once a process is not dumpable.
    let environ = format!("/proc/{}/environ", ringgate.pid().as_raw_nonzero());
    assert_eq!(std::fs::metadata(environ).unwrap().uid(), 0, "not dumpable");
    let low = free_low_address();
    ringgate.reload(&format!("{server}{}{}{rest}", answering(listen), answering(low)));
    assert_eq!(get(low, "/").status(), 200, "a port that only CAP_NET_BIND_SERVICE binds");
    eventually("the record is in the log, which nobody owns", || {
        std::fs::metadata(&log).is_ok_and(|meta| meta.uid() == NOBODY && meta.len() > 0)
    });
}

fn free_low_address() -> SocketAddr {
    let start: u16 = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .map_or(1024, |text| text.trim().parse().unwrap());
    if start < 1024 {
        eprintln!("this machine lets any user bind ports from {start} on: nothing is shown by it");
    }
    let free = (600..1023).rev().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    free.into_iter().find(|address| TcpListener::bind(address).is_ok()).expect("a free low port")
}

// A plain user has nothing to drop, and still confines itself when told to.
#[test]
fn a_plain_user_is_confined_when_the_file_says_so() {
    let dir = open_folder();
    let command = as_plain_user(dir.path());
    let origin = Origin::saying("ok");
    let listen = free_address();
    let ringgate = Ringgate::start_as(
        dir,
        &format!(
            "[server]\nsandbox = \"on\"\n{}",
            support::ringgate::forwarding(listen, &[origin.address], "")
        ),
        command,
    );
    let none = hex(0);
    let expected = [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", &none), ("CapPrm", &none)];
    check_threads(&ringgate, &expected);
    check_said(&ringgate, &["capabilities: none, no_new_privs, not dumpable, landlock ABI"]);
    assert_eq!(get(listen, "/").text(), "ok");
    let memory = format!("/proc/{}/mem", ringgate.pid().as_raw_nonzero());
    if is_root() {
        assert_eq!(std::fs::metadata(memory).unwrap().uid(), 0, "not dumpable");
    } else {
        std::fs::File::open(memory).expect_err("not even the same user reads its memory");
    }
}

#[test]
fn off_is_off_and_root_is_warned() {
    let listen = free_address();
    let config = format!("[server]\nsandbox = \"off\"\n{}", answering(listen));
    let ringgate = Ringgate::start(&config);
    check_threads(&ringgate, &[("Seccomp", &own("Seccomp")), ("CapEff", &own("CapEff"))]);
    if is_root() {
        check_said(&ringgate, &["started as root with server.sandbox = \"off\""]);
    }
    assert!(!ringgate.output().contains("least rights:"), "{}", ringgate.output());
}

/// A field of this process's status.
fn own(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let prefix = format!("{field}:");
    status.lines().find_map(|l| l.strip_prefix(&prefix)).unwrap().trim().to_owned()
}

// A debugger of root still gets in: operators need it, and CAP_SYS_PTRACE is not stopped by PR_SET_DUMPABLE.
#[test]
fn root_may_still_trace_a_worker() {
    if !root_only("tracing a process that is not dumpable") || !own_capability(1 << 19) {
        return;
    }
    let listen = free_address();
    let ringgate = Ringgate::start(&answering(listen));
    let tasks = format!("/proc/{}/task", ringgate.pid().as_raw_nonzero());
    let worker = std::fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path()).find(|task| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0")
    });
    let worker = worker.expect("a thread called worker-0");
    let id = worker.file_name().unwrap().to_str().unwrap().parse().unwrap();
    inside::trace_for_a_moment(id).expect("root traces it");
    assert_eq!(get(listen, "/").status(), 200, "and it goes on");
}

fn own_capability(bit: u64) -> bool {
    u64::from_str_radix(&own("CapEff"), 16).unwrap() & bit != 0
}

// ---------------------------------------------------------------- what a reload may not widen

/// A configuration in a folder of its own, with its log there.
fn confined(more: &str) -> (Ringgate, SocketAddr, PathBuf) {
    let dir = open_folder();
    let log = dir.path().join("access.log");
    let listen = free_address();
    let config = format!(
        "{more}[server]\nsandbox = \"on\"\n{}\n[log]\naccess = \"{}\"\n",
        answering(listen),
        log.display()
    );
    (Ringgate::start_in(dir, &config), listen, log)
}

#[track_caller]
fn check_refused(ringgate: &Ringgate, config: &str, parts: &[&str]) {
    let before = ringgate.reloads("failed");
    ringgate.write(config);
    ringgate.signal(Signal::HUP);
    eventually("the reload is refused", || ringgate.reloads("failed") > before);
    check_said(ringgate, parts);
}

// Hazard SEC-06.
#[test]
fn a_reload_cannot_log_where_the_start_did_not() {
    let (ringgate, listen, log) = confined("");
    let elsewhere = tempfile::tempdir().unwrap();
    let other = elsewhere.path().join("other.log");
    let config = |log: &Path| {
        let server = "[server]\nsandbox = \"on\"\n";
        format!("{server}{}\n[log]\naccess = \"{}\"\n", answering(listen), log.display())
    };
    let folder = log.parent().unwrap().canonicalize().unwrap();
    check_refused(
        &ringgate,
        &config(&other),
        &[
            &format!("log.access: {} is outside of what this process may write", other.display()),
            &format!("{} was allowed at the start", folder.display()),
            "restart ringgate to log there",
        ],
    );
    assert!(!other.exists());
    assert_eq!(get(listen, "/").status(), 200);
    // Another file of the same folder is fine, and so are the sinks of any log.
    let second = log.with_file_name("second.log");
    ringgate.reload(&config(&second));
    assert_eq!(get(listen, "/").status(), 200);
    eventually("it is written to", || std::fs::metadata(&second).is_ok_and(|m| m.len() > 0));
    ringgate.reload(&config(Path::new("/dev/null")));
    assert_eq!(get(listen, "/").status(), 200);
}

#[test]
fn a_reload_reads_includes_only_where_the_start_did() {
    let dir = open_folder();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    let inside = dir.path().join("conf.d/one.toml");
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("two.toml");
    let (listen, more) = (free_address(), free_address());
    std::fs::write(&outside, answering(more)).unwrap();
    let config = |include: &str| {
        let server = "[server]\nsandbox = \"on\"\n";
        format!("include = ['conf.d/*.toml'{include}]\n{server}{}", answering(listen))
    };
    let ringgate = Ringgate::start_in(dir, &config(""));
    check_refused(
        &ringgate,
        &config(&format!(", '{}'", outside.display())),
        &[
            &format!("{}: Permission denied", outside.display()),
            "note: this process may read files only in",
            "restart ringgate",
        ],
    );
    // The folder was empty at the start.
    std::fs::write(inside, answering(more)).unwrap();
    ringgate.reload(&config(""));
    assert_eq!(get(more, "/").status(), 200);
}

// Hazard TLS-07: a renewal that cannot be taken up is better known months ahead.
#[test]
fn a_key_that_the_user_cannot_read_again_is_warned_of() {
    if !root_only("that a key was read before the user was entered") {
        return;
    }
    let ca = Authority::new("servers");
    let own = ca.issue(&["a.test"]);
    std::fs::set_permissions(&own.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = format!(
        "[server]\nuser = \"nobody\"\n{}protocol = \"https\"\n\
         tls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        answering(free_address()),
        own.cert.display(),
        own.key.display()
    );
    let ringgate = Ringgate::start_in(open_folder(), &config);
    let said = format!("{} cannot be read any more (Permission denied", own.key.display());
    check_said(&ringgate, &[&said, "reloads will fail until it can be"]);
    assert!(!ringgate.output().contains(&format!("{} cannot be read", own.cert.display())));
}

#[test]
fn what_was_taken_on_at_the_start_is_not_changed_by_a_reload() {
    let (ringgate, listen, _) = confined("");
    ringgate.reload(&format!("[server]\nsandbox = \"off\"\n{}", answering(listen)));
    check_said(&ringgate, &["server.user, group or sandbox changed: it takes effect at the next"]);
    check_threads(&ringgate, &[("Seccomp", "2")]);
}

#[test]
fn unix_targets_elsewhere_are_reached() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("app.sock");
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in socket.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nunix",
            );
        }
    });
    let listen = free_address();
    let _ringgate = Ringgate::start(&format!(
        "[server]\nsandbox = \"on\"\n[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\n\
         default = {{ forward = \"app\" }}\n[group.app]\ntargets = [\"unix:{}\"]\n",
        path.display()
    ));
    eventually("the probe has found it", || get(listen, "/").text() == "unix");
}

// ---------------------------------------------------------------- what is refused at the start

#[test]
fn a_user_that_cannot_be_had_is_named_with_its_line() {
    let dir = open_folder();
    let path = dir.path().join("ringgate.toml");
    let run = |mut command: Command, server: &str| {
        std::fs::write(&path, format!("{server}\n{}", answering(free_address()))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let done = command.args(["run", "-c"]).arg(&path).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let binary = || Command::new(env!("CARGO_BIN_EXE_ringgate"));
    for (command, server, line) in [
        (binary(), "[server]\nuser = 'no-such-user'", 2),
        (binary(), "[server]\ngroup = 'root'", 2),
        (binary(), "[server]\nuser = 'root'\ngroup = 'no-such-group'", 3),
        (as_plain_user(dir.path()), "[server]\nuser = 'root'", 2),
    ] {
        let (code, said) = run(command, server);
        assert_eq!(code, Some(2), "{server}: {said}");
        let place = format!("{}:{line}:", path.display());
        assert!(said.starts_with(&place) && said.contains("server."), "{server}: {said}");
    }
    // The file may be meant for another machine.
    std::fs::write(
        &path,
        format!("[server]\nuser = 'no-such-user'\n{}", answering(free_address())),
    )
    .unwrap();
    let (code, said) = support::ringgate::command(&["check", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("warning:") && said.contains("no-such-user"), "{said}");
}

// Hazard RES-05.
#[test]
fn more_connections_than_descriptors_are_told() {
    let listen = free_address();
    let config = format!("[server]\nmax_connections = 10000000\n{}", answering(listen));
    let ringgate = Ringgate::start(&config);
    if limit(&ringgate, "Max open files").0.parse().is_ok_and(|files: u64| files < 20_000_256) {
        check_said(&ringgate, &["does not fit into", "LimitNOFILE"]);
    }
}
