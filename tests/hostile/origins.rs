//! Real origins as processes of their own: nginx, Node, Python, and where installed Apache, lighttpd and h2o.
//!
//! Each answers everything it understands with the request's id in `x-seen`, and logs a line for each request:
//! id, connection, method, target, body octets (`-` where it cannot say), status. They end with this.

use crate::support::{free_address, program};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The origins that every run needs; the others are taken where they are installed.
pub const NEEDED: [&str; 3] = ["nginx", "node", "python"];
pub const MORE: [&str; 3] = ["apache2", "lighttpd", "h2o"];

/// A running origin.
pub struct Server {
    pub name: &'static str,
    pub address: SocketAddr,
    /// Whether answers carry the request's id.
    pub echoes: bool,
    pub log: PathBuf,
    child: Child,
    _dir: tempfile::TempDir,
}

/// A request as an origin saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub connection: String,
    pub method: String,
    pub target: String,
    pub body: Option<u64>,
    pub status: String,
}

impl Server {
    /// Starts the origin called `name`; `None` where it is not installed and not needed.
    pub fn start(name: &'static str) -> Option<Server> {
        if MORE.contains(&name) && !installed(name) {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // Apache and h2o serve as another user when started as root.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(dir.path(), open).unwrap();
        let address = free_address();
        let log = dir.path().join("seen.log");
        std::fs::write(dir.path().join("ok"), "seen").unwrap();
        // 8 MiB that take no room.
        std::fs::File::create(dir.path().join("big")).and_then(|big| big.set_len(8 << 20)).unwrap();
        let mut command = match name {
            "nginx" => nginx(dir.path(), address, &log),
            "node" => script("node", "nodejs", "node.js", address, &log),
            "python" => script("python3", "python3", "python.py", address, &log),
            "apache2" => apache(dir.path(), address, &log),
            "lighttpd" => lighttpd(dir.path(), address, &log),
            _ => h2o(dir.path(), address, &log),
        };
        let errors = std::fs::File::create(dir.path().join("stderr")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name} starts: {e}"));
        let deadline = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect(address).is_err() {
            let text = || std::fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{name} does not start: {ended:?}\n{}",
                text()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Server { name, address, echoes: name != "lighttpd", log, child, _dir: dir })
    }

    /// Everything it has logged so far.
    pub fn seen(&self) -> Vec<Seen> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.lines().filter_map(line).collect()
    }

    /// Forgets what it has logged.
    pub fn forget(&self) {
        // All of them append, so a file cut to nothing goes on at its start.
        let _ = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.log);
    }

    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(pid, Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(3);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

pub fn installed(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

pub fn line(line: &str) -> Option<Seen> {
    let mut parts = line.split('\t').map(unescaped);
    let (id, connection, method) = (parts.next()?, parts.next()?, parts.next()?);
    let mut target = parts.next()?;
    // Where a server logs the whole request line, its second word is the target.
    if let Some(rest) = target.strip_prefix(&format!("{method} ")) {
        target = rest.rsplit_once(" HTTP/").map_or(rest, |(target, _)| target).to_owned();
    }
    let body = parts.next()?.parse().ok();
    Some(Seen { id, connection, method, target, body, status: parts.next()? })
}

/// Without the escapes that servers write into logs: `\x7e`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split("\\x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) if octet.is_ascii() => {
                out.push(char::from(octet));
                out.push_str(&part[2..]);
            }
            _ => out.extend(["\\x", part]),
        }
    }
    out
}

fn script(command: &str, package: &str, file: &str, address: SocketAddr, log: &Path) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/origins").join(file);
    let mut command = Command::new(program(command, package));
    command.arg(path).arg(address.port().to_string()).arg(log);
    command
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn nginx(dir: &Path, address: SocketAddr, log: &Path) -> Command {
    let at = dir.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .concat();
    let text = format!(
        "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error.log crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ {temp} keepalive_requests 100000000; client_max_body_size 0; large_client_header_buffers 8 128k;\n\
         log_format seen '$http_x_request_id\t$connection\t$request_method\t$request_uri\t-\t$status';\n\
         access_log {log} seen;\n\
         server {{ listen {address} backlog=4096; underscores_in_headers on;\n\
         add_header x-seen $http_x_request_id always;\n\
         location = /big {{ root {at}; }}\n\
         location / {{ return 200 seen; }} }} }}\n",
        log = log.display()
    );
    let conf = write(dir, "nginx.conf", &text);
    let mut command = Command::new(program("nginx", "nginx"));
    command.arg("-p").arg(dir).arg("-c").arg(conf);
    command
}

fn apache(dir: &Path, address: SocketAddr, log: &Path) -> Command {
    let modules = Path::new("/usr/lib/apache2/modules");
    let load: String = [
        ("mpm_event", "mpm_event"),
        ("authz_core", "authz_core"),
        ("headers", "headers"),
        ("alias", "alias"),
    ]
    .map(|(name, file)| format!("LoadModule {name}_module {}/mod_{file}.so\n", modules.display()))
    .concat();
    let at = dir.display();
    let text = format!(
        "{load}ServerRoot {at}\nServerName a.test\nPidFile {at}/pid\nErrorLog {at}/error.log\nListen {address}\nUser nobody\n\
         Group nogroup\nStartServers 1\nThreadsPerChild 64\nMaxRequestWorkers 64\nServerLimit 1\nMaxConnectionsPerChild 0\n\
         KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\nLimitRequestLine 131072\nLimitRequestFieldSize 131072\n\
         LimitRequestFields 2000\nAllowEncodedSlashes On\nDocumentRoot {at}\nAliasMatch \"^.*$\" {at}/ok\n\
         Header always set x-seen \"expr=%{{HTTP:X-Request-Id}}\"\n\
         LogFormat \"%{{X-Request-Id}}i\t%{{remote}}p\t%m\t%r\t-\t%>s\" seen\nCustomLog {log} seen\n",
        log = log.display()
    );
    let conf = write(dir, "apache.conf", &text);
    let mut command = Command::new(program("apache2", "apache2-bin"));
    command.arg("-D").arg("FOREGROUND").arg("-f").arg(conf);
    command
}

fn lighttpd(dir: &Path, address: SocketAddr, log: &Path) -> Command {
    let text = format!(
        "server.modules = (\"mod_accesslog\", \"mod_rewrite\")\nserver.document-root = \"{at}\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"\n\
         server.errorlog = \"{at}/error.log\"\nserver.max-keep-alive-requests = 65535\nserver.max-keep-alive-idle = 60\nserver.max-request-field-size = 131072\n\
         url.rewrite = (\".*\" => \"/ok\")\naccesslog.filename = \"{log}\"\n\
         accesslog.format = \"%{{X-Request-Id}}i\t%{{remote}}p\t%m\t%r\t-\t%s\"\n",
        at = dir.display(),
        port = address.port(),
        log = log.display()
    );
    let conf = write(dir, "lighttpd.conf", &text);
    let mut command = Command::new(program("lighttpd", "lighttpd"));
    command.arg("-D").arg("-f").arg(conf);
    command
}

fn h2o(dir: &Path, address: SocketAddr, log: &Path) -> Command {
    let text = format!(
        "num-threads: 1\nerror-log: {at}/error.log\nhttp1-request-timeout: 60\nlimit-request-body: 1073741824\n\
         access-log:\n  path: {log}\n  format: \"%{{x-request-id}}i\\t%{{connection-id}}x\\t%m\\t%r\\t-\\t%s\"\n\
         listen:\n  host: 127.0.0.1\n  port: {port}\nhosts:\n  default:\n    paths:\n      \"/\":\n        mruby.handler: |\n          \
         Proc.new do |env|\n            [200, {{\"x-seen\" => env[\"HTTP_X_REQUEST_ID\"].to_s}}, [\"seen\"]]\n          end\n",
        at = dir.display(),
        port = address.port(),
        log = log.display()
    );
    let conf = write(dir, "h2o.conf", &text);
    let mut command = Command::new(program("h2o", "h2o"));
    command.arg("-c").arg(conf);
    command
}
