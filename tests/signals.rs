//! TERM and QUIT drain, INT stops, USR1 reopens the access log, and the commands end with their exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

mod support;

use rustix::process::Signal;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use support::ringgate::{ask, command, forwarding};
use support::{Client, Origin, PATIENCE, Ringgate, eventually, free_address, get};

/// An origin that answers when it is told to.
fn held() -> (Origin, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::script(move |conn| {
        while conn.request()?.is_some() {
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")?;
        }
        Ok(())
    });
    (origin, release)
}

fn drains(signal: Signal) {
    let (origin, release) = held();
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut idle = Client::connect(listen);
    release.send(()).unwrap();
    assert_eq!(idle.get("/").text(), "late");
    let mut busy = Client::connect(listen);
    busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is in flight", || origin.requests().len() == 2);
    ringgate.signal(signal);
    idle.expect_closed();
    eventually("nothing new is accepted", || TcpStream::connect(listen).is_err());
    ringgate.assert_alive();
    release.send(()).unwrap();
    let answer = busy.response();
    assert_eq!(answer.text(), "late");
    assert_eq!(answer.header("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"));
    assert_eq!(ringgate.wait_exit().code(), Some(0), "{}", ringgate.output());
}

#[test]
fn term_drains() {
    drains(Signal::TERM);
}

#[test]
fn quit_drains() {
    drains(Signal::QUIT);
}

#[test]
fn draining_ends_after_its_time() {
    let (origin, _release) = held();
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let mut ringgate = Ringgate::start(&format!("[server]\ndrain = \"500ms\"\n\n{config}"));
    let mut busy = Client::connect(listen);
    busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is in flight", || origin.requests().len() == 1);
    ringgate.signal(Signal::TERM);
    ringgate.wait_exit();
}

#[test]
fn not_ready_while_draining() {
    let (origin, release) = held();
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    assert_eq!(ask(ringgate.admin(), "/healthz").status(), 200);
    assert_eq!(ask(ringgate.admin(), "/readyz").status(), 200);
    let mut busy = Client::connect(listen);
    busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is in flight", || origin.requests().len() == 1);
    ringgate.signal(Signal::TERM);
    eventually("readyz says 503", || ask(ringgate.admin(), "/readyz").status() == 503);
    release.send(()).unwrap();
    assert_eq!(busy.response().text(), "late");
    ringgate.wait_exit();
}

#[test]
fn int_stops() {
    let (origin, _release) = held();
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let mut busy = Client::connect(listen);
    busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    eventually("the request is in flight", || origin.requests().len() == 1);
    ringgate.signal(Signal::INT);
    ringgate.wait_exit();
}

#[test]
fn a_signal_that_is_not_for_us_changes_nothing() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let mut ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    ringgate.signal(Signal::PIPE);
    ringgate.signal(Signal::USR1);
    assert_eq!(get(listen, "/").text(), "ok");
    ringgate.assert_alive();
}

// ---------------------------------------------------------------- commands

#[test]
fn exit_codes_tell_what_was_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = path(
        "good.toml",
        "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:8080\"]\ndefault = { respond = { status = 200 } }\n",
    );
    let bad = path("bad.toml", "[[listener]]\nnam = \"web\"\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = path(
        "busy.toml",
        &format!(
            "[[listener]]\nname = \"web\"\nbind = [\"{}\"]\ndefault = {{ respond = {{ status = 200 }} }}\n",
            taken.local_addr().unwrap()
        ),
    );
    for (args, code) in [
        (vec!["check", "-c", &good], 0),
        (vec!["check", "-c", &bad], 2),
        (vec!["run", "-c", &bad], 2),
        (vec!["check", "-c", "/nowhere/at/all.toml"], 2),
        (vec!["run", "-c", &busy], 1),
        (vec!["frobnicate"], 2),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
    ] {
        let (got, said) = command(&args);
        assert_eq!(got, code, "{args:?}: {said}");
        assert!(!said.is_empty() || code == 0, "{args:?} said nothing");
    }
    let (_, said) = command(&["--version"]);
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}

#[test]
fn the_start_is_told_on_one_screen() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let ringgate = Ringgate::start(&forwarding(listen, &[origin.address], ""));
    let said = ringgate.output();
    for part in [env!("CARGO_PKG_VERSION"), &listen.to_string(), "web", "all"] {
        assert!(said.contains(part), "{part} is missing:\n{said}");
    }
    assert!(said.contains("io_uring") || said.contains("epoll"), "{said}");
    assert!(said.lines().count() < 40, "more than a screen:\n{said}");
}

#[test]
fn examples_of_the_file_pass_their_check() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let (code, said) = command(&["check", "-c", path.to_str().unwrap()]);
            assert_eq!(code, 0, "{}: {said}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 1, "only {checked} files in config/");
}

#[test]
fn the_demo_balances_and_stops_by_itself() {
    let (port, admin) = (free_address().port().to_string(), free_address().port().to_string());
    let (code, said) = command(&["demo", "--for", "1s", "--port", &port, "--admin-port", &admin]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("curl"), "{said}");
}

#[test]
fn a_second_instance_does_not_share_the_port() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let _first = Ringgate::start(&config);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("second.toml");
    std::fs::write(&path, config).unwrap();
    let (code, said) = command(&["run", "-c", path.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&listen.to_string()), "{said}");
}

#[test]
fn names_are_resolved_by_control() {
    let origin = Origin::saying("by name");
    let listen = free_address();
    let port = origin.address.port();
    let _ringgate = Ringgate::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [\"localhost:{port}\"]\nhealth = {{ type = \"off\" }}\n"
    ));
    eventually("the name is resolved", || get(listen, "/").text() == "by name");
    let _: SocketAddr = listen;
}

// ---------------------------------------------------------------- where io_uring is refused (hazard RT-06)

/// Executes its arguments with io_uring_setup (425 on every architecture) refused, as container runtimes do it.
const WITHOUT_RINGS: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
load, equal, end = 0x20, 0x15, 0x06
refuse, allow = 0x00050000 | 1, 0x7fff0000
program = b"".join(struct.pack("HBBI", *line) for line in
    [(load, 0, 0, 0), (equal, 0, 1, 425), (end, 0, 0, refuse), (end, 0, 0, allow)])
lines = ctypes.create_string_buffer(program, len(program))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(lines)))
word = ctypes.c_ulong
assert libc.prctl(38, word(1), word(0), word(0), word(0)) == 0
assert libc.prctl(22, word(2), filter, word(0), word(0)) == 0, os.strerror(ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn refused_rings_are_done_without() {
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let auto = format!("[server]\ndriver = \"auto\"\n\n{config}");
    let command = ["python3", "-c", WITHOUT_RINGS];
    let mut ringgate = Ringgate::start_under(&command, tempfile::tempdir().unwrap(), &auto);
    assert_eq!(get(listen, "/").text(), "ok");
    let said = ringgate.output();
    assert!(said.contains("io_uring is refused") && said.contains("not permitted"), "{said}");
    let driver = "ringgate_build_info{version=\"";
    let info = ringgate.metrics().lines().find(|l| l.starts_with(driver)).unwrap().to_owned();
    assert!(info.contains("driver=\"epoll\""), "{info}");
    ringgate.signal(Signal::TERM);
    assert_eq!(ringgate.wait_exit().code(), Some(0));
}

#[test]
fn refused_rings_that_are_asked_for_end_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ringgate.toml");
    let listen = free_address();
    let text = format!("[server]\ndriver = \"io_uring\"\n\n{}", forwarding(listen, &[], ""));
    std::fs::write(&path, text).unwrap();
    let done = std::process::Command::new("python3")
        .args(["-c", WITHOUT_RINGS, env!("CARGO_BIN_EXE_ringgate"), "run", "-c"])
        .arg(&path)
        .output()
        .expect("python3 runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("io_uring is refused") && said.contains("driver = \"epoll\""), "{said}");
}

// Lets this user lock so little that the second ring is one too many, and does not let it have more.
const FEW_RINGS: &str = r#"
import ctypes, os, resource, sys
resource.setrlimit(resource.RLIMIT_MEMLOCK, (700 << 10, 700 << 10))
libc = ctypes.CDLL(None, use_errno=True)
for capability in (14, 24):  # CAP_IPC_LOCK, CAP_SYS_RESOURCE; 24 is PR_CAPBSET_DROP
    if libc.prctl(24, capability, 0, 0, 0) != 0:
        sys.exit("capabilities cannot be dropped")
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_worker_without_a_ring_serves_with_epoll() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may give up what lets it lock more");
        return;
    }
    let origin = Origin::saying("ok");
    let listen = free_address();
    let config = forwarding(listen, &[origin.address], "");
    let auto = format!("[server]\ndriver = \"auto\"\nworkers = 4\npin = false\n\n{config}");
    let command = ["python3", "-c", FEW_RINGS];
    let mut ringgate = Ringgate::start_under(&command, tempfile::tempdir().unwrap(), &auto);
    for _ in 0..16 {
        assert_eq!(get(listen, "/").text(), "ok");
    }
    let said = ringgate.output();
    // Where rings are not locked memory, all workers have one.
    assert!(!said.contains("died"), "{said}");
    ringgate.signal(Signal::TERM);
    assert_eq!(ringgate.wait_exit().code(), Some(0));
}

#[test]
fn the_readme_shows_files_that_pass_their_check() {
    let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let blocks = |from: &str, to: &str| {
        let (_, rest) = readme.split_once(from).unwrap();
        let (section, _) = rest.split_once(to).unwrap();
        let blocks = section.split("```toml\n").skip(1);
        blocks.filter_map(|block| block.split("```").next()).collect::<Vec<_>>().join("\n")
    };
    let listener = "[[listener]]\nname = \"web\"\nbind = [\"127.0.0.1:8080\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("readme.toml");
    for (text, expected) in [
        (blocks("## A first real configuration", "\n## "), 1),
        (blocks("## Traffic: steer it", "### ringgate explain") + listener, 2),
    ] {
        assert_eq!(text.matches("[[expect]]").count(), expected);
        std::fs::write(&path, &text).unwrap();
        let (code, said) = command(&["check", "-c", path.to_str().unwrap()]);
        assert_eq!(code, 0, "{said}\n{text}");
        assert!(!said.contains("warning"), "{said}");
    }
}

/// RT-02: a listener for which there are no descriptors at first is served as soon as there are.
#[test]
fn a_listener_waits_for_descriptors() {
    let origin = Origin::saying("here");
    // What is there stays: it would leave its descriptors to what comes.
    let kept = free_address();
    let config = |listen: SocketAddr| {
        let rest = forwarding(listen, &[origin.address], "");
        let rest = rest.replace("bind = [", &format!("bind = [\"{kept}\", "));
        format!("[server]\nworkers = 4\ndriver = \"epoll\"\n\n{rest}")
    };
    let before = config(kept).replace(&format!("\"{kept}\", \"{kept}\""), &format!("\"{kept}\""));
    let mut ringgate = Ringgate::start(&before);
    let mut served = 0;
    for spare in 0..16 {
        let listen = free_address();
        ringgate.reload(&before);
        let counts = (ringgate.reloads("ok"), said(&ringgate));
        ringgate.write(&config(listen));
        let Some(limit) = limit_with(&ringgate, spare) else { return };
        let all = may_open(&ringgate, Some(limit));
        ringgate.signal(Signal::HUP);
        eventually("the reload has ended", || said(&ringgate) > counts.1);
        // Whoever was told to serve it has tried.
        std::thread::sleep(std::time::Duration::from_millis(50));
        may_open(&ringgate, all);
        if ringgate.reloads("ok") > counts.0 {
            served += 1;
            // How many connections it may take was reckoned from the limit.
            ringgate.reload(&config(listen));
            // The kernel chooses which of the workers is asked.
            for _ in 0..16 {
                assert_eq!(get(listen, "/").text(), "here", "with {spare} descriptors");
            }
        }
    }
    assert!(served > 0, "no reload succeeded");
    ringgate.assert_alive();
}

/// How often it has said how a reload ended.
fn said(ringgate: &Ringgate) -> usize {
    let output = ringgate.output();
    output.matches(" reloaded ").count() + output.matches("reload refused").count()
}

/// The limit under which so many more descriptors can be had; `None` where one may not look.
fn limit_with(ringgate: &Ringgate, spare: usize) -> Option<u64> {
    let dir = std::fs::read_dir(format!("/proc/{}/fd", ringgate.pid().as_raw_nonzero())).ok()?;
    let used: Vec<u64> =
        dir.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).filter(|n| !used.contains(n)).nth(spare)
}

/// Sets how many descriptors it may have; returns how many it could have before.
fn may_open(ringgate: &Ringgate, limit: Option<u64>) -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let new = Rlimit { current: limit, maximum };
    prlimit(Some(ringgate.pid()), Resource::Nofile, new).unwrap().current
}
