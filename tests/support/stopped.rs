//! A thread of another process, stopped as a debugger does it (ptrace(2)), by a script. Where that is not allowed, tests that need
//! it say so and pass.

use super::Ringgate;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Seizes a thread, stops it, says so, and lets it go at the end of its input. A tracer that dies lets go, too.
const TRACER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
def ptrace(request, tid):
    if libc.ptrace(request, tid, None, None) != 0:
        print("refused:", os.strerror(ctypes.get_errno()), flush=True)
        sys.exit(0)
tid = int(sys.argv[1])
ptrace(SEIZE, tid)
ptrace(INTERRUPT, tid)
os.waitpid(tid, WALL)
print("stopped", flush=True)
sys.stdin.read()
ptrace(DETACH, tid)
"#;

/// A thread that is stopped until this is dropped.
pub struct Stopped(Child);

impl Stopped {
    /// `None` where the system does not allow it.
    pub fn stop(thread: i32) -> Option<Stopped> {
        let mut tracer = Command::new("python3")
            .args(["-c", TRACER, &thread.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut said = String::new();
        BufReader::new(tracer.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() == "stopped" {
            return Some(Stopped(tracer));
        }
        let _ = tracer.wait();
        println!(
            "a thread of another process cannot be stopped here ({}): not tested",
            said.trim()
        );
        None
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The threads of a process called `name`.
pub fn threads(ringgate: &Ringgate, name: &str) -> Vec<i32> {
    let tasks = format!("/proc/{}/task", ringgate.pid().as_raw_nonzero());
    let entries = std::fs::read_dir(tasks).unwrap().map(|entry| entry.unwrap().path());
    let called = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let id = |path: std::path::PathBuf| path.file_name()?.to_str()?.parse().ok();
    entries.filter(called).filter_map(id).collect()
}
