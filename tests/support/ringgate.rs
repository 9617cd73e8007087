//! ringgate as a process: started with a file, reloaded, asked for its metrics, ended by its id.

use super::{Client, Message, PATIENCE, eventually, free_address};
use rustix::process::{Pid, Signal, kill_process};
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// A running ringgate; it ends when this is dropped.
pub struct Ringgate {
    child: Child,
    admin: SocketAddr,
    /// The folder of its file, for logs and sockets too.
    pub dir: tempfile::TempDir,
    output: Arc<Mutex<Vec<u8>>>,
}

/// The driver that this run of the tests is for.
pub fn driver() -> String {
    std::env::var("RINGGATE_TEST_DRIVER").unwrap_or_else(|_| "auto".to_owned())
}

impl Ringgate {
    /// Starts ringgate with `config`, two workers unless the text says otherwise, and waits until it is ready.
    /// What every test needs and the text leaves out is added: the driver, an admin address, no access log.
    #[track_caller]
    pub fn start(config: &str) -> Ringgate {
        let dir = tempfile::tempdir().unwrap();
        Ringgate::start_in(dir, config)
    }

    #[track_caller]
    pub fn start_in(dir: tempfile::TempDir, config: &str) -> Ringgate {
        Ringgate::start_as(dir, config, Command::new(binary()))
    }

    /// As [`Ringgate::start_in`], by a command that executes the program and arguments which follow its own.
    #[track_caller]
    pub fn start_under(command: &[&str], dir: tempfile::TempDir, config: &str) -> Ringgate {
        let Some((first, more)) = command.split_first() else {
            return Ringgate::start_in(dir, config);
        };
        let mut command = Command::new(first);
        command.args(more).arg(binary());
        Ringgate::start_as(dir, config, command)
    }

    /// Starts what `command` names, with its environment and user.
    #[track_caller]
    pub fn start_as(dir: tempfile::TempDir, config: &str, mut command: Command) -> Ringgate {
        let admin = free_address();
        let path = dir.path().join("ringgate.toml");
        std::fs::write(&path, completed(config, admin)).unwrap();
        let mut child = command
            .args(["run", "-c"])
            .arg(&path)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ringgate starts");
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), &output);
        collect(child.stderr.take().unwrap(), &output);
        let mut ringgate = Ringgate { child, admin, dir, output };
        ringgate.wait_ready();
        ringgate
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                std::thread::sleep(std::time::Duration::from_millis(50));
                panic!("ringgate ended with {status}:\n{}", self.output());
            }
            let connected = std::net::TcpStream::connect(self.admin).is_ok();
            if connected && ask(self.admin, "/readyz").status() == 200 {
                return;
            }
            assert!(Instant::now() < deadline, "ringgate is not ready:\n{}", self.output());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("ringgate runs");
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    pub fn write(&self, config: &str) {
        let path = self.path();
        // As editors and deployments do it: never a half-written file.
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, completed(config, self.admin)).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ringgate.toml")
    }

    /// Replaces the file, sends HUP and waits until the reload has been counted as done.
    #[track_caller]
    pub fn reload(&self, config: &str) {
        self.write(config);
        let before = self.reloads("ok");
        self.signal(Signal::HUP);
        eventually("the reload is counted", || self.reloads("ok") > before);
    }

    /// How many reloads ended with `result`: `ok` or `failed`.
    pub fn reloads(&self, result: &str) -> f64 {
        self.metric(&format!("ringgate_config_reloads_total{{result=\"{result}\"}}")).unwrap_or(0.0)
    }

    pub fn metrics(&self) -> String {
        ask(self.admin, "/metrics").text()
    }

    /// The value of a series, named with its labels.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.split(' ').next()?.parse().ok()
    }

    /// The sum over all series of a metric whose labels contain every one of `labels`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let wanted = rest.starts_with(['{', ' ']) && labels.iter().all(|l| rest.contains(l));
            if wanted { rest.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
        };
        self.metrics().lines().filter_map(value).sum()
    }

    /// What the admin listener says of every target: state and reason, as `unhealthy Target.Timeout`.
    pub fn target_states(&self) -> Vec<String> {
        let page: serde_json::Value =
            serde_json::from_slice(&ask(self.admin, "/targets").body).unwrap();
        let groups = page["groups"].as_array().cloned().unwrap_or_default();
        let targets = groups
            .iter()
            .flat_map(|group| group["targets"].as_array().cloned().unwrap_or_default());
        targets
            .map(|t| {
                format!(
                    "{} {}",
                    t["state"].as_str().unwrap_or("?"),
                    t["reason"].as_str().unwrap_or("-")
                )
            })
            .collect()
    }

    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("ringgate ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    #[track_caller]
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "ringgate ended with {ended:?}:\n{}", self.output());
    }
}

impl Drop for Ringgate {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(self.pid(), Signal::INT);
            let deadline = Instant::now() + std::time::Duration::from_secs(2);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- ringgate printed:\n{}----", self.output());
        }
    }
}

/// Asks the admin listener, which serves no name but those of this machine.
#[track_caller]
pub fn ask(admin: SocketAddr, path: &str) -> Message {
    Client::connect(admin)
        .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .response()
}

fn collect(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
    });
}

/// `config` with what every test needs.
fn completed(config: &str, admin: SocketAddr) -> String {
    let mut server = "[server]\n".to_owned();
    if !config.contains("driver =") {
        server += &format!("driver = \"{}\"\n", driver());
    }
    if !config.contains("workers =") {
        server += "workers = 2\n";
    }
    let mut text = match config.contains("[server]") {
        true => config.replacen("[server]\n", &server, 1),
        false => format!("{server}\n{config}"),
    };
    if !config.contains("[log]") {
        text += "\n[log]\naccess = \"off\"\n";
    }
    text + &format!("\n[admin]\nbind = \"{admin}\"\n")
}

/// The binary under test: the one that was built with the tests, unless `RINGGATE_BINARY` names another.
pub fn binary() -> PathBuf {
    std::env::var_os("RINGGATE_BINARY").map_or(env!("CARGO_BIN_EXE_ringgate").into(), PathBuf::from)
}

/// Runs `ringgate` with arguments and waits for its end: its exit code and what it printed.
pub fn command(args: &[&str]) -> (i32, String) {
    let done = Command::new(binary()).args(args).output().expect("ringgate starts");
    let text = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// A file with one listener that forwards everything to `targets`, without health checks.
pub fn forwarding(listen: SocketAddr, targets: &[SocketAddr], group: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    let targets = targets.join(", ");
    let health = if group.contains("health") { "" } else { "health = { type = \"off\" }\n" };
    format!(
        "[[listener]]\nname = \"web\"\nbind = [\"{listen}\"]\ndefault = {{ forward = \"all\" }}\n\n\
         [group.all]\ntargets = [{targets}]\n{health}{group}\n"
    )
}
