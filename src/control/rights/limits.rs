//! Limits of the process: descriptors as many as there may be, no core dumps, nothing that regains rights.
//!
//! The number of connections is not changed here; whether it fits is only said. Called by `rights`.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};

/// What a client's connection may hold: its own socket, and one to a target.
const EACH: u64 = 2;
/// For everything else: listening sockets, rings, logs, the admin listener, probes, idle connections to targets.
const RESERVE: u64 = 256;

/// Raises the soft limit of open files to the hard one, and that too where it is too small and root may (RES-05). What
/// comes back is a warning when `connections` still do not fit.
pub fn raise_descriptors(connections: u64) -> Option<String> {
    let needed = connections.saturating_mul(EACH).saturating_add(RESERVE);
    let Some(hard) = getrlimit(Resource::Nofile).maximum else {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: None, maximum: None });
        return None;
    };
    let raise = |to: u64| Rlimit { current: Some(to), maximum: Some(to) };
    if needed <= hard || setrlimit(Resource::Nofile, raise(needed)).is_err() {
        let _ = setrlimit(Resource::Nofile, raise(hard));
    }
    let have = getrlimit(Resource::Nofile).current?;
    (have < needed).then(|| too_few(connections, needed, have))
}

fn too_few(connections: u64, needed: u64, have: u64) -> String {
    let fit = have.saturating_sub(RESERVE) / EACH;
    format!(
        "server.max_connections = {connections} may need {needed} file descriptors (two a connection and {RESERVE} \
         more), and the limit is {have}: raise it (LimitNOFILE=, ulimit -Hn), or set max_connections to {fit}"
    )
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

    // Hazard RES-05.
    #[test]
    fn says_what_fits_into_the_limit() {
        let said = too_few(100_000, 200_256, 20_000);
        for part in ["100000 may need 200256", "the limit is 20000", "max_connections to 9872"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(too_few(1, 258, 3).ends_with("max_connections to 0"));
    }

    #[test]
    fn the_soft_limit_is_raised_and_more_than_can_be_had_is_told() {
        assert_eq!(raise_descriptors(1), None);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let told = raise_descriptors(u64::MAX / 4);
        assert_eq!(told.is_some(), limit.maximum.is_some(), "{told:?}");
    }
}
