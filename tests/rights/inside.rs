//! A thread that has given up its rights, and tries what a caller of foreign code would try.
//!
//! It runs in a process of its own: this test binary, started again for the one test that is ignored otherwise.
#![expect(unsafe_code, reason = "system calls that no library wraps, in a test's own process")]

use ringgate::{config, control::rights};
use rustix::io::Errno;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDER: &str = "RINGGATE_TEST_INSIDE";

// Hazards SEC-05, SEC-06.
#[test]
fn foreign_code_gets_no_further() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["conf", "log", "other"] {
        std::fs::create_dir(dir.path().join(folder)).unwrap();
    }
    std::fs::write(dir.path().join("conf/secret.toml"), "mine").unwrap();
    std::fs::write(dir.path().join("other/secret"), "theirs").unwrap();
    let listen = std::os::unix::net::UnixListener::bind(dir.path().join("other/sock")).unwrap();
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside::tries_what_it_may_not", "--ignored", "--nocapture"])
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    drop(listen);
    assert!(dir.path().join("other/secret").exists());
}

#[test]
#[ignore = "gives up the rights of its thread: started by the test above"]
fn tries_what_it_may_not() {
    let Some(dir) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let text = format!(
        "[server]\nsandbox = 'on'\n[log]\naccess = '{}/log/access.log'\n\
         [[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']",
        dir.display()
    );
    let mut config = config::parse(&text, "a.toml", &|_| None).unwrap();
    config.folders.insert(dir.join("conf"));
    rights::take(&config, None).unwrap();
    files(&dir);
    by_ring(&dir);
    programs();
    calls();
    sockets_and_threads(&dir);
}

fn files(dir: &Path) {
    let read = |path: PathBuf| std::fs::read_to_string(path).map_err(|error| error.kind());
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(read(dir.join("conf/secret.toml")).as_deref(), Ok("mine"));
    assert!(read("/etc/hosts".into()).is_ok());
    for closed in [dir.join("other/secret"), "/etc/shadow".into(), "/proc/1/environ".into()] {
        assert_eq!(read(closed.clone()), Err(denied), "{}", closed.display());
    }
    let open = |path: PathBuf| {
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true).open(path).map_err(|error| error.kind())
    };
    let mut log = open(dir.join("log/access.log")).unwrap();
    log.write_all(b"a\n").unwrap();
    open(dir.join("log/second.log")).unwrap();
    for closed in ["conf/secret.toml", "conf/new", "other/new", "other/secret"] {
        assert_eq!(open(dir.join(closed)).map(drop), Err(denied), "{closed}");
    }
    let removed = std::fs::remove_file(dir.join("log/second.log"));
    assert_eq!(removed.map_err(|error| error.kind()), Err(denied));
}

/// What seccomp cannot see: the same through a ring, where there is one.
fn by_ring(dir: &Path) {
    let Ok(mut ring) = io_uring::IoUring::new(4) else {
        eprintln!("no io_uring here");
        return;
    };
    let mut open = |path: &Path| {
        let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        let at = io_uring::types::Fd(libc::AT_FDCWD);
        let entry = io_uring::opcode::OpenAt::new(at, path.as_ptr()).build();
        // SAFETY: `path` lives until the call has completed below.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit_and_wait(1).unwrap();
        ring.completion().next().unwrap().result()
    };
    assert!(open(&dir.join("conf/secret.toml")) >= 0);
    assert_eq!(open(&dir.join("other/secret")), -libc::EACCES);
    assert_eq!(open(Path::new("/etc/shadow")), -libc::EACCES);
}

fn programs() {
    for program in ["/bin/true", "/usr/bin/env"] {
        let started = Command::new(program).spawn().map(drop).map_err(|error| error.kind());
        assert_eq!(started, Err(ErrorKind::PermissionDenied), "{program}");
    }
}

/// Calls that a thread without any capability could make, with arguments that the kernel would refuse in another way.
fn calls() {
    for (name, call, arguments) in [
        ("execve", libc::SYS_execve, [0, 0, 0]),
        ("execveat", libc::SYS_execveat, [0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [0, 0, 0]),
        ("unshare", libc::SYS_unshare, [0, 0, 0]),
        ("setns", libc::SYS_setns, [-1, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0]),
        ("memfd_create", libc::SYS_memfd_create, [0, 0, 0]),
        ("kill", libc::SYS_kill, [i64::from(std::process::id()), 0, 0]),
        ("tgkill", libc::SYS_tgkill, [1, 1, 0]),
        ("setuid", libc::SYS_setuid, [0, 0, 0]),
        ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0]),
        ("fork", libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0]),
        ("a packet socket", libc::SYS_socket, [i64::from(libc::AF_PACKET), 2, 0]),
        ("a netlink socket", libc::SYS_socket, [i64::from(libc::AF_NETLINK), 3, 0]),
        ("seccomp", libc::SYS_seccomp, [0, 0, 0]),
        ("umount2", libc::SYS_umount2, [0, 0, 0]),
    ] {
        let [first, second, third] = arguments;
        // SAFETY: none of the calls is given memory.
        let result = unsafe { libc::syscall(call, first, second, third) };
        let error = std::io::Error::last_os_error().raw_os_error();
        assert_eq!((result, error), (-1, Some(libc::EPERM)), "{name}");
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping touches no memory that is in use.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_eq!(mapped, libc::MAP_FAILED, "executable memory");
    let limit = rustix::process::Rlimit { current: Some(1), maximum: Some(1) };
    let set = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    assert_eq!(set, Err(Errno::PERM), "limits");
}

/// What must still work.
fn sockets_and_threads(dir: &Path) {
    std::os::unix::net::UnixStream::connect(dir.join("other/sock")).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"x").unwrap();
        // A thread is held like the one that started it.
        std::fs::read_to_string("/etc/shadow").map_err(|error| error.kind())
    });
    let mut byte = [0];
    listener.accept().unwrap().0.read_exact(&mut byte).unwrap();
    assert_eq!(thread.join().unwrap(), Err(ErrorKind::PermissionDenied));
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Core).current, Some(0));
    let caught = std::panic::catch_unwind(|| panic!("unwinding works"));
    assert!(caught.is_err());
}

/// Stops a thread of another process and lets it go.
pub fn trace_for_a_moment(thread: libc::pid_t) -> std::io::Result<()> {
    let null = std::ptr::null_mut::<libc::c_void>();
    let check = |result: i64| match result {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: requests that read and write no memory of this process, but for waitpid, which is given none.
    unsafe {
        check(libc::ptrace(libc::PTRACE_SEIZE, thread, null, null))?;
        check(libc::ptrace(libc::PTRACE_INTERRUPT, thread, null, null))?;
        check(libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL).into())?;
        check(libc::ptrace(libc::PTRACE_DETACH, thread, null, null))
    }
}
