//! What /proc says of a process: memory, descriptors, CPU time, threads.

use crate::support::Ringgate;
use std::path::Path;

/// Raises the limit of open files as far as it goes, for this process and what it starts.
pub fn raise_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
}

/// How many files may be open at once.
pub fn files() -> usize {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .map_or(usize::MAX, |n| n as usize)
}

fn path(of: &Ringgate, name: &str) -> String {
    format!("/proc/{}/{name}", of.pid().as_raw_nonzero())
}

fn status(of: &Ringgate, key: &str) -> u64 {
    let text = std::fs::read_to_string(path(of, "status")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.and_then(|v| v.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Resident memory in octets.
pub fn resident(of: &Ringgate) -> u64 {
    status(of, "VmRSS")
}

/// The highest resident memory since [`forget_peak`].
pub fn peak(of: &Ringgate) -> u64 {
    status(of, "VmHWM")
}

pub fn forget_peak(of: &Ringgate) {
    let _ = std::fs::write(path(of, "clear_refs"), "5");
}

pub fn descriptors(of: &Ringgate) -> usize {
    std::fs::read_dir(path(of, "fd")).map_or(0, Iterator::count)
}

/// CPU time of all threads that live, in nanoseconds.
pub fn cpu_ns(of: &Ringgate) -> u64 {
    let tasks = std::fs::read_dir(path(of, "task")).into_iter().flatten().flatten();
    let one = |task: &Path| {
        let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(|task| one(&task.path())).sum()
}

/// The threads with a name that begins so: id and name.
pub fn threads(of: &Ringgate, begins: &str) -> Vec<(i32, String)> {
    let tasks = std::fs::read_dir(path(of, "task")).into_iter().flatten().flatten();
    let mut found: Vec<(i32, String)> = tasks
        .filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
            let id = task.file_name().to_str()?.parse().ok()?;
            name.starts_with(begins).then_some((id, name))
        })
        .collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

pub fn mib(octets: u64) -> f64 {
    octets as f64 / (1 << 20) as f64
}
