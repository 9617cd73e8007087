//! The user that the process becomes: found by name or number, entered with its groups.
//!
//! Nothing is created. Called by `rights` at the start, and by `check` for what it says about the file.

use crate::config::{self, Problem, Server};
use nix::unistd::{Group, User, getgrouplist};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread;
use std::ffi::CString;

/// A user of this system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As the file has it.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group, or the one that the file names instead.
    pub gid: u32,
    /// All groups it belongs to.
    pub groups: Vec<u32>,
}

/// Whom the file asks for; `None` when it asks for nobody, or for who runs already.
///
/// # Errors
/// An account that does not exist, and one that only root could become.
pub fn wanted(server: &Server) -> Result<Option<Account>, Problem> {
    let (Some(written), Some(account)) = (&server.user, find(server)?) else { return Ok(None) };
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(Some(account));
    }
    if account.uid == uid.as_raw() {
        return Ok(None);
    }
    let found = format!("{:?} while running as uid {uid}", account.name);
    let expected = "no user unless started as root, which alone can become another";
    Err(problem(written, "server.user", found, expected, None))
}

/// The account that the file names, whoever runs.
///
/// # Errors
/// When it does not exist.
pub fn find(server: &Server) -> Result<Option<Account>, Problem> {
    let Some(written) = &server.user else { return Ok(None) };
    let group = match &server.group {
        Some(group) => Some(gid(group)?),
        None => None,
    };
    let number = written.name.parse::<u32>().ok();
    let user = match number {
        Some(number) => User::from_uid(nix::unistd::Uid::from_raw(number)),
        None => User::from_name(&written.name),
    };
    let known = user.map_err(|errno| unknown(written, "server.user", "user", Some(errno)))?;
    match (known, number, group) {
        (Some(user), ..) => {
            let gid = group.unwrap_or(user.gid.as_raw());
            Ok(Some(Account {
                name: written.name.clone(),
                uid: user.uid.as_raw(),
                gid,
                groups: groups(&user.name, gid),
            }))
        }
        // As in containers: a number that no file knows.
        (None, Some(uid), Some(gid)) => {
            Ok(Some(Account { name: written.name.clone(), uid, gid, groups: vec![gid] }))
        }
        (None, Some(_), None) => {
            let found = format!("{:?}, which is in no list of users", written.name);
            let expected = "server.group beside such a number";
            Err(problem(written, "server.user", found, expected, None))
        }
        (None, None, _) => Err(unknown(written, "server.user", "user", None)),
    }
}

/// Becomes the user: groups first, since that takes root; capabilities outlive the change so that one can be kept.
///
/// # Errors
/// Those of `setgroups(2)`, `setresgid(2)` and `setresuid(2)`.
pub fn enter(account: &Account) -> Result<(), Errno> {
    let gid = Gid::from_raw(account.gid);
    let uid = Uid::from_raw(account.uid);
    let groups: Vec<Gid> = account.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    thread::set_keep_capabilities(true)?;
    thread::set_thread_groups(&groups)?;
    thread::set_thread_res_gid(gid, gid, gid)?;
    thread::set_thread_res_uid(uid, uid, uid)?;
    thread::set_keep_capabilities(false)
}

fn gid(written: &config::Account) -> Result<u32, Problem> {
    if let Ok(number) = written.name.parse() {
        return Ok(number);
    }
    match Group::from_name(&written.name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(unknown(written, "server.group", "group", None)),
        Err(errno) => Err(unknown(written, "server.group", "group", Some(errno))),
    }
}

/// The groups that the system says `name` belongs to, `gid` among them.
fn groups(name: &str, gid: u32) -> Vec<u32> {
    let listed = CString::new(name)
        .ok()
        .and_then(|name| getgrouplist(&name, nix::unistd::Gid::from_raw(gid)).ok());
    match listed {
        Some(groups) => groups.iter().map(|g| g.as_raw()).collect(),
        None => vec![gid],
    }
}

fn unknown(
    written: &config::Account,
    key: &str,
    kind: &str,
    errno: Option<nix::errno::Errno>,
) -> Problem {
    let expected = format!("a {kind} of this system, by name or number");
    let hint = match errno {
        Some(errno) => format!("the list of {kind}s cannot be read: {errno}"),
        None if kind == "user" => format!("useradd --system {} makes one", written.name),
        None => format!("groupadd --system {} makes one", written.name),
    };
    problem(written, key, format!("{:?}", written.name), &expected, Some(hint))
}

fn problem(
    written: &config::Account,
    key: &str,
    found: String,
    expected: &str,
    hint: Option<String>,
) -> Problem {
    let (key, expected) = (key.to_owned(), expected.to_owned());
    Problem { place: written.place.clone(), key, found, expected, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        let listener = "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']";
        config::parse(&format!("{text}\n{listener}"), "a.toml", &|_| None).unwrap().server
    }

    #[track_caller]
    fn check(text: &str, expected: Result<Option<(u32, u32)>, &str>) {
        match (find(&server(text)), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.as_ref().map(|a| (a.uid, a.gid)), expected, "{text}");
                assert!(found.is_none_or(|a| a.groups.contains(&a.gid)), "{text}");
            }
            (Err(problem), Err(part)) => {
                assert!(problem.to_string().contains(part), "{text}: {problem}");
            }
            (found, expected) => panic!("{text}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn finds_accounts_by_name_and_number() {
        check("", Ok(None));
        check("[server]\nuser = 'root'", Ok(Some((0, 0))));
        check("[server]\nuser = '0'", Ok(Some((0, 0))));
        check("[server]\nuser = 'root'\ngroup = '12345'", Ok(Some((0, 12_345))));
        check("[server]\nuser = '4000000'\ngroup = 'root'", Ok(Some((4_000_000, 0))));
    }

    #[test]
    fn what_is_no_account_is_named_with_its_line() {
        check(
            "[server]\nuser = 'no-such-user'",
            Err("a.toml:2:8: server.user: found \"no-such-user\", expected a user of this system"),
        );
        check("[server]\nuser = 'root'\ngroup = 'no-such'", Err("a.toml:3:9: server.group: found"));
        check("[server]\nuser = '4000000'", Err("expected server.group beside such a number"));
    }
}
