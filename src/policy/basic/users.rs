//! Users and their hashes, from the configuration and from files as htpasswd writes them: `user:hash`, a line each.
//!
//! Empty lines and lines that begin with `#` are skipped. Anything else that cannot be used is an error with its line; no
//! hash is ever shown. Called by `basic`.

use crate::policy::basic::{Settings, hash};
use crate::policy::recall::Digest;
use crate::policy::{Files, Wrong};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Users that one policy may have.
const MOST: usize = 100_000;
/// The longest name, in octets.
const LONGEST: usize = 255;

/// The users of a policy; at least one.
pub struct Users {
    by_name: HashMap<Box<str>, Arc<str>>,
    // For users that do not exist: what is hashed for them costs what it costs for one that does.
    hashes: Vec<Arc<str>>,
    none: Arc<str>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.by_name.len())
    }
}

impl Users {
    /// Reads them.
    ///
    /// # Errors
    /// The first line or user that cannot be used.
    pub fn read(settings: &Settings, files: Files<'_>) -> Result<Users, Wrong> {
        let mut users =
            Users { by_name: HashMap::new(), hashes: Vec::new(), none: Arc::from(String::new()) };
        for (user, hash) in &settings.users {
            users.add(user, hash).map_err(|found| Wrong { file: None, found })?;
        }
        for path in &settings.files {
            let wrong = |found: String| Wrong { file: Some(path.clone()), found };
            let octets = files(path).ok_or_else(|| wrong("was not read".to_owned()))?;
            users.read_file(&octets).map_err(wrong)?;
        }
        if users.by_name.is_empty() {
            let file =
                settings.files.first().map(|path: &std::path::PathBuf| Path::new(path).into());
            return Err(Wrong { file, found: "no user, so that nobody could pass".to_owned() });
        }
        Ok(users)
    }

    /// The hash of a user.
    pub fn hash(&self, user: &str) -> Option<&Arc<str>> {
        self.by_name.get(user)
    }

    /// A hash for a user that does not exist: for the same user always the same.
    pub fn another(&self, of: &Digest) -> &Arc<str> {
        let [a, b, c, d, ..] = *of;
        let at = u32::from_le_bytes([a, b, c, d]) as usize % self.hashes.len().max(1);
        self.hashes.get(at).unwrap_or(&self.none)
    }

    fn read_file(&mut self, octets: &[u8]) -> Result<(), String> {
        let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
        for (at, line) in octets.split(|b| *b == b'\n').enumerate() {
            let number = at + 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text =
                std::str::from_utf8(line).map_err(|_| format!("line {number} is no UTF-8"))?;
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let Some((user, hash)) = text.split_once(':') else {
                return Err(format!("line {number} is not \"user:hash\""));
            };
            self.add(user, hash.trim_end()).map_err(|found| format!("line {number}: {found}"))?;
        }
        Ok(())
    }

    fn add(&mut self, user: &str, hash: &str) -> Result<(), String> {
        let fits = |c: char| !c.is_control() && c != ':';
        if user.is_empty() || user.len() > LONGEST || !user.chars().all(fits) {
            return Err(format!(
                "a user name that is empty, longer than {LONGEST} octets, or has a colon or control character"
            ));
        }
        hash::judge(hash).map_err(|found| format!("the user {user:?} has {found}"))?;
        if self.by_name.len() >= MOST {
            return Err(format!("more than {MOST} users"));
        }
        let hash: Arc<str> = Arc::from(hash);
        self.hashes.push(Arc::clone(&hash));
        match self.by_name.insert(user.into(), hash) {
            None => Ok(()),
            Some(_) => Err(format!("the user {user:?} a second time")),
        }
    }
}
