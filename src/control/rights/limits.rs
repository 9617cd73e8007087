//! Limits of the process: descriptors and rings as many as there may be, no core dumps, nothing that regains rights.
//!
//! The number of connections is not changed here; whether it fits is only said. Called by `rights`.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

/// What a client's connection may hold: its own socket, and one to a target.
const EACH: u64 = 2;
/// For everything else: listening sockets, rings, logs, the admin listener, probes, idle connections to targets.
const RESERVE: u64 = 256;

/// Raises the soft limit of open files to the hard one, and that too where it is too small and root may (RES-05). How many
/// connections fit in the end is said where they are counted (`control::descriptors`).
pub fn raise_descriptors(connections: u64) {
    let needed = connections.saturating_mul(EACH).saturating_add(RESERVE);
    let Some(hard) = getrlimit(Resource::Nofile).maximum else {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: None, maximum: None });
        return;
    };
    let raise = |to: u64| Rlimit { current: Some(to), maximum: Some(to) };
    if needed <= hard || setrlimit(Resource::Nofile, raise(needed)).is_err() {
        let _ = setrlimit(Resource::Nofile, raise(hard));
    }
}

/// Raises the limit of locked memory as far as it may be: kernels before 5.12, and newer ones again (6.18 does), count rings
/// among it, for all processes of a user together. Nothing else is locked here.
pub fn raise_locked() {
    let hard = getrlimit(Resource::Memlock).maximum;
    if setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).is_err() {
        let _ = setrlimit(Resource::Memlock, Rlimit { current: hard, maximum: hard });
    }
}

/// `PR_SET_NO_NEW_PRIVS`: no program that is executed later has more rights than this one.
///
/// # Errors
/// What the kernel says.
pub fn no_new_privileges() -> Result<String, String> {
    rustix::thread::set_no_new_privs(true).map_err(text)?;
    Ok("no_new_privs".to_owned())
}

/// No core dump, and only root may trace the process or read its memory, where keys are (SEC-07).
///
/// # Errors
/// What the kernel says.
pub fn no_dumps() -> Result<String, String> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(text)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(text)?;
    Ok("not dumpable".to_owned())
}

fn text(error: rustix::io::Errno) -> String {
    std::io::Error::from(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_locked_as_may_be() {
        raise_locked();
        let limit = getrlimit(Resource::Memlock);
        assert_eq!(limit.current, limit.maximum);
    }

    // Hazard RES-05.
    #[test]
    fn the_soft_limit_is_raised() {
        raise_descriptors(1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
