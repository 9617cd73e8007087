//! Real servers beside ringgate: started by a test, waited for, ended by their id.

use super::{PATIENCE, program};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; it ends when this is dropped.
pub struct Process {
    child: Child,
    pub name: String,
}

impl Process {
    /// Starts `command`, whose output goes into a file in `dir`, and waits until `address` takes connections.
    #[track_caller]
    pub fn start(mut command: Command, dir: &Path, address: SocketAddr) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = dir.join(format!("output-{}", address.port()));
        let file = std::fs::File::create(&output).unwrap();
        command.current_dir(dir).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|e| panic!("{name} starts: {e}"));
        let mut process = Process { child, name };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            let ended = process.child.try_wait().unwrap();
            let text = || std::fs::read_to_string(&output).unwrap_or_default();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{} does not start: {ended:?}\n{}",
                process.name,
                text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        process
    }

    /// nginx with one worker and these lines in its `http` block.
    #[track_caller]
    pub fn nginx(dir: &Path, address: SocketAddr, http: &str) -> Process {
        let file = dir.join(format!("nginx-{}.conf", address.port()));
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let text = format!(
            "{user}daemon off;\nmaster_process off;\npid nginx-{0}.pid;\nerror_log stderr info;\n\
             events {{}}\nhttp {{\naccess_log off;\nclient_body_temp_path b-{0};\nproxy_temp_path p-{0};\n\
             fastcgi_temp_path f-{0};\nuwsgi_temp_path u-{0};\nscgi_temp_path s-{0};\n{http}\n}}\n",
            address.port()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program("nginx", "nginx"));
        command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "stderr"]);
        Process::start(command, dir, address)
    }

    /// HAProxy with these lines behind its defaults.
    #[track_caller]
    pub fn haproxy(dir: &Path, address: SocketAddr, lines: &str) -> Process {
        let file = dir.join(format!("haproxy-{}.cfg", address.port()));
        let text = format!(
            "global\n  nbthread 1\ndefaults\n  mode http\n  timeout client 20s\n  timeout server 20s\n\
             \x20 timeout connect 5s\n{lines}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program("haproxy", "haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        Process::start(command, dir, address)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(3);
            while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
