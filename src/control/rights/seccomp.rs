//! seccomp: the system calls that the process makes from now on; any other is answered with EPERM.
//!
//! The list covers both drivers, the standard library, tokio, the resolver and the allocators of glibc and musl. What an
//! io_uring does is not seen by seccomp; Landlock, the user and the capabilities hold it. Called by `rights`, last.

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// Allowed whatever the arguments.
#[rustfmt::skip]
const ALWAYS: &[c_long] = &[
    // Files and descriptors.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_dup, libc::SYS_dup3, libc::SYS_fcntl, libc::SYS_lseek,
    libc::SYS_openat, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_getdents64,
    libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_getcwd, libc::SYS_fsync,
    libc::SYS_fdatasync,
    // Waiting.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_ppoll,
    libc::SYS_pselect6, libc::SYS_eventfd2, libc::SYS_pipe2, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime, libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register,
    // Sockets.
    libc::SYS_bind, libc::SYS_listen, libc::SYS_accept, libc::SYS_accept4, libc::SYS_connect, libc::SYS_shutdown,
    libc::SYS_getsockname, libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_sendto,
    libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_recvmmsg, libc::SYS_splice,
    // Memory.
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_membarrier, libc::SYS_mincore,
    // Threads, signals and the end.
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list, libc::SYS_rseq, libc::SYS_set_tid_address,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_setpriority, libc::SYS_getcpu, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_exit, libc::SYS_exit_group,
    // What there is to know.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_getrandom, libc::SYS_getrusage,
    libc::SYS_times, libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid,
    libc::SYS_getegid, libc::SYS_capget,
];

/// For who keeps certificates: files there are replaced as a whole. Where, Landlock and the user say.
#[cfg(target_arch = "x86_64")]
const REPLACE: &[c_long] = &[libc::SYS_rename, libc::SYS_renameat];
#[cfg(not(target_arch = "x86_64"))]
const REPLACE: &[c_long] = &[libc::SYS_renameat];

/// The older forms that only this architecture has, and libraries still use.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[c_long] = &[
    libc::SYS_open, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_dup2,
    libc::SYS_pipe, libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_getrlimit, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Answered with ENOSYS instead, so that libc takes the older call, whose flags a filter can see.
const ABSENT: &[c_long] = &[libc::SYS_clone3];

/// A condition on one argument: its index, the bits that count, and what they must be.
type Test = (u8, SeccompCmpArgLen, u64, u64);

const WORD: SeccompCmpArgLen = SeccompCmpArgLen::Dword;
const ALL: u64 = u32::MAX as u64;

/// Allowed when one of the alternatives holds, each a list of tests that must all pass.
#[allow(clippy::unnecessary_cast, reason = "constants differ in type between C libraries")]
fn conditional() -> Vec<(c_long, Vec<Vec<Test>>)> {
    let one_of = |index: u8, values: &[u64]| -> Vec<Vec<Test>> {
        values.iter().map(|value| vec![(index, WORD, ALL, *value)]).collect()
    };
    let families = [libc::AF_UNIX as u64, libc::AF_INET as u64, libc::AF_INET6 as u64];
    let not_executable = vec![vec![(2, WORD, libc::PROT_EXEC as u64, 0)]];
    let asked = [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ];
    let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, PR_SET_VMA, libc::PR_GET_DUMPABLE];
    let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
    let own = u64::from(std::process::id());
    let mut rules = vec![
        (libc::SYS_socket, one_of(0, &families)),
        (libc::SYS_socketpair, one_of(0, &families[..1])),
        (libc::SYS_mmap, not_executable.clone()),
        (libc::SYS_mprotect, not_executable),
        (libc::SYS_ioctl, one_of(1, &asked.map(|request| request as u64 & ALL))),
        (libc::SYS_prctl, one_of(0, &options.map(|option| option as u64))),
        // A thread, never a process nor a namespace.
        (libc::SYS_clone, vec![vec![(0, WORD, thread | NAMESPACES, thread)]]),
        // Limits are read, not set: the pointer to new ones is null.
        (libc::SYS_prlimit64, vec![vec![(2, SeccompCmpArgLen::Qword, u64::MAX, 0)]]),
        (libc::SYS_tgkill, one_of(0, &[own])),
    ];
    if cfg!(target_env = "musl") {
        // Its raise(3) names the thread only.
        rules.push((libc::SYS_tkill, vec![vec![(1, WORD, ALL, libc::SIGABRT as u64)]]));
    }
    rules
}

const PR_SET_VMA: libc::c_int = 0x5356_4d41;
const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Holds this thread, and those it starts, to the list; `keeps` files or not. The part for the log comes back.
///
/// # Errors
/// When the kernel has no filters, or refuses.
pub fn restrict(keeps: bool) -> Result<String, String> {
    let (count, programs) = programs(keeps).map_err(|error| error.to_string())?;
    for program in &programs {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    Ok(format!("seccomp {count} system calls"))
}

/// How many calls are allowed, and the filters in the order in which they are set: of several the strictest answer counts.
fn programs(keeps: bool) -> Result<(usize, [BpfProgram; 2]), seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    let no_such = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, no_such, arch)?;

    let replace = if keeps { REPLACE } else { &[] };
    let plain =
        [ALWAYS, OLDER, ABSENT, replace].concat().into_iter().map(|call| (call, Vec::new()));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = plain.collect();
    for (call, alternatives) in conditional() {
        rules.insert(call, alternatives.iter().map(|tests| rule(tests)).collect::<Result<_, _>>()?);
    }
    let count = rules.len() - ABSENT.len();
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let listed = SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?;
    // The first must not keep the second from being set: it allows all but a few.
    Ok((count, [absent.try_into()?, listed.try_into()?]))
}

fn rule(tests: &[Test]) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition = |(index, length, mask, value): &Test| {
        SeccompCondition::new(*index, length.clone(), SeccompCmpOp::MaskedEq(*mask), *value)
    };
    SeccompRule::new(tests.iter().map(condition).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_into_the_kernel() {
        let (fewer, _) = programs(false).unwrap();
        let (count, programs) = programs(true).unwrap();
        assert!((90..150).contains(&count), "{count} system calls");
        assert_eq!(count - fewer, REPLACE.len());
        for program in programs {
            // BPF_MAXINSNS
            assert!(program.len() < 4096, "{} instructions", program.len());
        }
    }

    #[test]
    fn nothing_is_listed_that_gives_power() {
        let listed = [ALWAYS, OLDER].concat();
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_setgroups,
            libc::SYS_capset,
            libc::SYS_kill,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
            libc::SYS_symlinkat,
            libc::SYS_fchmodat,
            libc::SYS_fchownat,
            libc::SYS_mknodat,
            libc::SYS_memfd_create,
            libc::SYS_pidfd_open,
            libc::SYS_seccomp,
        ] {
            assert!(!listed.contains(&call), "system call {call}");
            assert!(conditional().iter().all(|(listed, _)| *listed != call), "system call {call}");
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut listed = [ALWAYS, OLDER, ABSENT, REPLACE].concat();
        listed.extend(conditional().iter().map(|(call, _)| *call));
        let all = listed.len();
        listed.sort_unstable();
        listed.dedup();
        assert_eq!(listed.len(), all);
    }
}
