//! Headless Chromium before ringgate and Node behind it: HTTP/2 over TLS, HTTP/1.1 in cleartext, and on both of them
//! WebSocket and server-sent events.
//!
//! The page (`browsers/page.html`) reports what it saw to the origin (`browsers/origin.js`), which leaves it in a file.
//! Where Chromium is not installed the tests say that they are skipped; scripts/test installs it where it can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "browsers/cors.rs"]
mod cors;
mod support;

use rustix::process::{Pid, Signal, kill_process_group};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Ringgate, eventually, free_address, program};

/// Chromium starts slowly on a busy machine.
const LONGEST: Duration = Duration::from_secs(90);

/// A process with all that it has started; all of them end when this is dropped.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> Group {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Group(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// The page's origin.
struct Origin {
    _process: Group,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Origin {
    fn start() -> Origin {
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browsers/origin.js");
        let mut command = Command::new(program("node", "nodejs"));
        command.arg(script).arg(address.port().to_string()).arg(dir.path().join("report"));
        let process = Group::start(&mut command);
        eventually("the origin listens", || TcpStream::connect(address).is_ok());
        Origin { _process: process, address, dir }
    }

    /// What the page said; `None` when it said nothing for too long.
    fn report(&self, chromium: &mut Group) -> Option<serde_json::Value> {
        let (path, began) = (self.dir.path().join("report"), Instant::now());
        while began.elapsed() < LONGEST && chromium.0.try_wait().unwrap().is_none() {
            if let Ok(text) = std::fs::read_to_string(&path) {
                return serde_json::from_str(&text).ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let all = std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name)));
    let found = all.into_iter().find(|file| file.is_file());
    if found.is_none() {
        eprintln!("skipped: Chromium is not installed (apt-get install chromium)");
    }
    found
}

/// Opens a page. Every name is this machine.
fn open(chromium: &Path, profile: &Path, url: &str) -> Group {
    let mut command = Command::new(chromium);
    command.arg(format!("--user-data-dir={}", profile.display())).args([
        "--headless=new",
        // Its sandbox needs rights that root in a container does not have.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--no-proxy-server",
        // The certificate is one of our own.
        "--ignore-certificate-errors",
        "--host-resolver-rules=MAP * 127.0.0.1",
        url,
    ]);
    command.env("HOME", profile);
    Group::start(&mut command)
}

/// Opens a page and returns what it reported.
fn browse(chromium: &Path, origin: &Origin, url: &str, ringgate: &Ringgate) -> serde_json::Value {
    let profile = tempfile::tempdir().unwrap();
    let mut process = open(chromium, profile.path(), url);
    let report = origin.report(&mut process);
    report.unwrap_or_else(|| panic!("the page reported nothing: {}", ringgate.output()))
}

/// A listener before the origin.
fn listener(bind: SocketAddr, more: &str, target: SocketAddr) -> String {
    format!(
        "[log]\naccess = \"./access.log\"\nformat = \"json\"\n\n[[listener]]\nname = \"web\"\nbind = [\"{bind}\"]\n\
         default = {{ forward = \"all\" }}\n{more}\n[group.all]\ntargets = [\"{target}\"]\nhealth = {{ type = \"off\" }}\n"
    )
}

/// A self-signed certificate in `dir`, and the lines of a listener that shows it.
fn https(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!(
        "protocol = \"https\"\ntls = {{ certificates = [{{ cert = \"{}\", key = \"{}\" }}] }}\n",
        cert.display(),
        key.display()
    )
}

#[track_caller]
fn check(report: &serde_json::Value, protocol: &str) {
    let expected = serde_json::json!({
        "page": protocol,
        "many": true,
        // As browsers/page.html adds up 3,000,000 octets of the origin's.
        "big": 355_758,
        "echo": true,
        "missing": 404,
        "events": "1 2 3 4 5",
        "socket": { "same": true, "closed": "4001 enough true" },
        "protocols": protocol,
    });
    assert_eq!(*report, expected);
}

/// The records of the access log for a path.
fn records(ringgate: &Ringgate, path: &str) -> Vec<serde_json::Value> {
    let wanted = |line: &str| {
        serde_json::from_str(line).ok().filter(|r: &serde_json::Value| r["path"] == path)
    };
    let log = std::fs::read_to_string(ringgate.dir.path().join("access.log")).unwrap();
    log.lines().filter_map(wanted).collect()
}

// RFC 9113 by ALPN, RFC 8441.
#[test]
fn chromium_over_tls() {
    let Some(chromium) = chromium() else { return };
    let (origin, listen, dir) = (Origin::start(), free_address(), tempfile::tempdir().unwrap());
    let ringgate = Ringgate::start(&listener(listen, &https(dir.path()), origin.address));
    let url = format!("https://a.test:{}/", listen.port());
    check(&browse(&chromium, &origin, &url, &ringgate), "h2");
    eventually("the WebSocket is in the log", || !records(&ringgate, "/socket").is_empty());
    // Chromium takes the HTTP/2 connection for it where the server offers that.
    let socket = records(&ringgate, "/socket");
    assert_eq!(socket[0]["version"], "HTTP/2.0", "{socket:?}");
}

// RFC 9112, RFC 6455.
#[test]
fn chromium_in_cleartext() {
    let Some(chromium) = chromium() else { return };
    let (origin, listen) = (Origin::start(), free_address());
    let ringgate = Ringgate::start(&listener(listen, "", origin.address));
    let url = format!("http://a.test:{}/", listen.port());
    check(&browse(&chromium, &origin, &url, &ringgate), "http/1.1");
    eventually("the WebSocket is in the log", || !records(&ringgate, "/socket").is_empty());
}
