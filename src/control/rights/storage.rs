//! The folders that are written to, of certificates and of the usage ledger: created before rights are given up, and whether
//! their user may write there.
//!
//! Keys and who uses what are in them: they are made for their owner alone, and nothing is loosened. Called by `rights` at the start, and
//! by `check` for what it says about the file.

use crate::config::{Config, Place, Problem};
use crate::control::rights::user::Account;
use rustix::fs::{Access, access};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

/// The folders that are used: the key of each, where it is, and where that is said.
pub fn folders(config: &Config) -> impl Iterator<Item = (&'static str, &Path, &Place)> {
    let acme = config.acme.as_ref();
    let acme = acme.map(|a| ("acme.storage", a.storage.as_path(), &a.storage_place));
    let usage = config.counted().map(|u| ("usage.folder", u.folder.as_path(), &u.place));
    acme.into_iter().chain(usage)
}

/// Creates each folder where there is none, for `account` if the process becomes it. What will not work comes back.
pub fn prepare(config: &Config, account: Option<&Account>) -> Vec<String> {
    for (_, folder, _) in folders(config).filter(|(_, folder, _)| !folder.exists()) {
        // An error here shows below.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        if let (Ok(()), Some(account)) = (made, account) {
            let (uid, gid) = (Some(account.uid), Some(account.gid));
            let _ = std::os::unix::fs::chown(folder, uid, gid);
        }
    }
    problems(config, account).iter().map(ToString::to_string).collect()
}

/// Why `account`, or who runs this, cannot keep files there.
pub fn problems(config: &Config, account: Option<&Account>) -> Vec<Problem> {
    folders(config).filter_map(|(key, path, place)| problem(key, path, place, account)).collect()
}

fn problem(key: &str, path: &Path, place: &Place, account: Option<&Account>) -> Option<Problem> {
    let folder = path.display();
    let said = |found: String, hint: String| said(key, place, found, hint);
    let who = match account {
        Some(account) => format!("user {} (uid {})", account.name, account.uid),
        None => format!("uid {}", rustix::process::geteuid().as_raw()),
    };
    let meta = match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return Some(said(format!("{folder}, which is no folder"), String::new())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // The start creates it, if who starts may.
            let above = path.ancestors().skip(1).find(|a| a.is_dir())?;
            let root = rustix::process::geteuid().is_root();
            if root || access(above, Access::WRITE_OK).is_ok() {
                return None;
            }
            let hint = format!("install -d -m 700 -o USER {folder}");
            return Some(said(format!("{folder}, which is not there and cannot be created"), hint));
        }
        Err(error) => return Some(said(format!("{folder}: {error}"), String::new())),
    };
    let writes = match account {
        Some(account) => may_write(&meta, account),
        None => own_access(path),
    };
    if !writes {
        let owner = account.map_or("USER", |a| a.name.as_str());
        let found = format!("{folder}, into which {who} may not write");
        return Some(said(found, format!("chown -R {owner} {folder} && chmod 700 {folder}")));
    }
    if meta.permissions().mode() & 0o007 != 0 {
        let found =
            format!("{folder}, which is open to everybody (mode {:o})", meta.mode() & 0o777);
        return Some(said(found, format!("chmod 700 {folder}")));
    }
    None
}

fn said(key: &str, place: &Place, found: String, hint: String) -> Problem {
    Problem {
        place: place.clone(),
        key: key.to_owned(),
        found,
        expected: "a folder that ringgate's user, and nobody else, may write into".to_owned(),
        hint: Some(hint).filter(|hint| !hint.is_empty()),
    }
}

/// By the modes alone: the process has no capability to pass over them.
fn may_write(meta: &std::fs::Metadata, account: &Account) -> bool {
    let mode = meta.permissions().mode();
    let wanted = if meta.uid() == account.uid {
        0o300
    } else if account.gid == meta.gid() || account.groups.contains(&meta.gid()) {
        0o030
    } else {
        0o003
    };
    mode & wanted == wanted
}

fn own_access(folder: &Path) -> bool {
    if !rustix::process::geteuid().is_root() {
        return access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    }
    // Root may now, but keeps no capability that passes over modes.
    let root = Account { name: String::new(), uid: 0, gid: 0, groups: vec![0] };
    std::fs::metadata(folder).is_ok_and(|meta| may_write(&meta, &root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(storage: &Path) -> Config {
        let text = format!(
            "[acme]\nterms_agreed = true\nstorage = '{}'\n[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']",
            storage.display()
        );
        config::parse(&text, "a.toml", &|_| None).unwrap()
    }

    fn account(uid: u32) -> Account {
        Account { name: "someone".to_owned(), uid, gid: 54_321, groups: vec![54_321] }
    }

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[track_caller]
    fn check(config: &Config, account: Option<&Account>, expected: Option<&str>) {
        let found = problems(config, account).first().map(ToString::to_string);
        match (&found, expected) {
            (None, None) => {}
            (Some(found), Some(part)) => assert!(found.contains(part), "{found}"),
            _ => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn is_created_closed_and_for_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let storage = dir.path().join("a/b");
        let config = config(&storage);
        let root = rustix::process::geteuid().is_root();
        let account = account(if root { 4321 } else { rustix::process::geteuid().as_raw() });
        assert!(prepare(&config, Some(&account)).is_empty());
        let meta = storage.metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), (account.uid, 0o700));
        assert!(prepare(&config, Some(&account)).is_empty(), "a second start");
    }

    #[test]
    fn says_who_may_not_write_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        set_mode(dir.path(), 0o700);
        check(&config, None, None);
        let own = rustix::process::geteuid().as_raw();
        check(&config, Some(&account(own)), None);
        check(&config, Some(&account(own + 1)), Some("user someone (uid "));
        check(&config, Some(&account(own + 1)), Some("help: chown -R someone "));
        set_mode(dir.path(), 0o703);
        check(&config, Some(&account(own + 1)), Some("open to everybody (mode 703)"));
        set_mode(dir.path(), 0o500);
        check(&config, None, Some("may not write"));
        set_mode(dir.path(), 0o700);
        check(&self::config(&dir.path().join("new")), None, None);
        std::fs::write(dir.path().join("file"), "").unwrap();
        check(&self::config(&dir.path().join("file")), None, Some("no folder"));
    }
}
