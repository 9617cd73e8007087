//! Which files the running configuration was made from besides its own, and whether they have changed since.
//!
//! They are looked at, not waited for: a look costs a `stat(2)` each, works over every file system and through links, and
//! needs nothing of the sandbox. What was read is remembered by what the open file said before its first octet, so that
//! no change is missed between. What to do about a change is the service's. Called by what loads certificates, and by
//! `service`.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often files are looked at.
pub const LOOK: Duration = Duration::from_secs(1);
/// Looks after which a change is taken up even though files keep changing.
const PATIENCE: u32 = 5;
/// The largest file that is read.
const LARGEST: u64 = 64 << 20;

/// What tells one state of a file from another; `None` for a file that is not there.
type Stamp = Option<(u64, u64, i64, i64, i64, i64)>;

/// The state of the files that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Stamp>);

impl Files {
    /// The octets of a file, whose state is remembered.
    ///
    /// # Errors
    /// When it cannot be read, or is too large; it is looked at all the same, since it may come.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.insert(path.to_path_buf(), None);
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a file"));
        }
        self.0.insert(path.to_path_buf(), Some(stamp(&meta)));
        let mut octets = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("more than {LARGEST} octets")));
        }
        Ok(octets)
    }

    /// The same files as they are now.
    pub fn now(&self) -> Files {
        let look = |path: &PathBuf| std::fs::metadata(path).ok().filter(Metadata::is_file);
        Files(self.0.keys().map(|path| (path.clone(), look(path).map(|m| stamp(&m)))).collect())
    }

    /// Those that differ in `other`.
    pub fn changed<'a>(&'a self, other: &'a Files) -> impl Iterator<Item = &'a Path> {
        let differs = |(path, stamp): &(&PathBuf, &Stamp)| other.0.get(*path) != Some(*stamp);
        self.0.iter().filter(differs).map(|(path, _)| path.as_path())
    }
}

fn stamp(meta: &Metadata) -> (u64, u64, i64, i64, i64, i64) {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

/// Looks at files again and again.
#[derive(Debug, Default)]
pub struct Watch {
    // As they were when what runs was read from them.
    used: Files,
    // As they were when they were tried last, in vain.
    tried: Option<Files>,
    // As they were at the last look, and for how many looks they have not been as they were used.
    seen: Option<Files>,
    looks: u32,
}

impl Watch {
    /// What runs was read from these.
    pub fn use_now(&mut self, files: Files) {
        *self = Watch { used: files, ..Watch::default() };
    }

    /// What was read from these, as far as it was, is of no use: nothing is said of them until they change again.
    pub fn tried(&mut self, files: Files) {
        let mut tried = self.used.now();
        for (path, stamp) in files.0 {
            if let Some(slot) = tried.0.get_mut(&path) {
                *slot = stamp;
            }
        }
        (self.tried, self.seen, self.looks) = (Some(tried), None, 0);
    }

    /// Looks once. The files that have changed since they were used or tried, once all of them have come to rest; that
    /// there is a second half of a pair still to be written shows only when it is tried.
    pub fn look(&mut self) -> Vec<PathBuf> {
        let now = self.used.now();
        let same = self.tried.as_ref().map_or(now == self.used, |tried| now == *tried);
        if same {
            (self.seen, self.looks) = (None, 0);
            return Vec::new();
        }
        self.looks += 1;
        let rests = self.seen.as_ref() == Some(&now);
        if !rests && self.looks < PATIENCE {
            self.seen = Some(now);
            return Vec::new();
        }
        let base = self.tried.as_ref().unwrap_or(&self.used);
        base.changed(&now).map(Path::to_path_buf).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            std::fs::write(self.path("fresh"), text).unwrap();
            std::fs::rename(self.path("fresh"), self.path(name)).unwrap();
        }

        fn watched(names: &[&str]) -> (Folder, Watch) {
            let folder = Folder(tempfile::tempdir().unwrap());
            let mut files = Files::default();
            for name in names {
                folder.put(name, name);
                assert_eq!(files.read(&folder.path(name)).unwrap(), name.as_bytes());
            }
            let mut watch = Watch::default();
            watch.use_now(files);
            (folder, watch)
        }
    }

    #[test]
    fn a_change_is_seen_once_it_rests() {
        let (folder, mut watch) = Folder::watched(&["a", "b"]);
        assert!(watch.look().is_empty());
        folder.put("a", "new");
        assert!(watch.look().is_empty(), "it may still be written to");
        assert_eq!(watch.look(), [folder.path("a")]);
        let mut files = Files::default();
        files.read(&folder.path("a")).unwrap();
        watch.use_now(files);
        assert!(watch.look().is_empty() && watch.look().is_empty());
    }

    #[test]
    fn what_never_rests_is_taken_up_all_the_same() {
        let (folder, mut watch) = Folder::watched(&["a"]);
        let mut looks = 0;
        loop {
            looks += 1;
            folder.put("a", &format!("{looks}"));
            if !watch.look().is_empty() {
                break;
            }
        }
        assert_eq!(looks, PATIENCE);
    }

    #[test]
    fn what_was_tried_in_vain_waits_for_the_other_half() {
        let (folder, mut watch) = Folder::watched(&["cert", "key"]);
        folder.put("cert", "new");
        watch.look();
        assert_eq!(watch.look(), [folder.path("cert")]);
        let mut files = Files::default();
        for name in ["cert", "key"] {
            files.read(&folder.path(name)).unwrap();
        }
        watch.tried(files);
        assert!(watch.look().is_empty() && watch.look().is_empty(), "said once");
        folder.put("key", "new");
        watch.look();
        assert_eq!(watch.look(), [folder.path("key")]);
    }

    #[test]
    fn a_file_that_goes_and_one_that_comes_are_changes() {
        let (folder, mut watch) = Folder::watched(&["a"]);
        std::fs::remove_file(folder.path("a")).unwrap();
        watch.look();
        assert_eq!(watch.look(), [folder.path("a")]);
        let mut files = Files::default();
        assert!(files.read(&folder.path("a")).is_err());
        watch.use_now(files);
        assert!(watch.look().is_empty());
        folder.put("a", "back");
        watch.look();
        assert_eq!(watch.look(), [folder.path("a")]);
        let mut files = Files::default();
        assert!(files.read(folder.0.path()).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_a_change() {
        let (folder, mut watch) = Folder::watched(&["1", "2"]);
        let link = folder.path("link");
        std::os::unix::fs::symlink("1", &link).unwrap();
        let mut files = Files::default();
        files.read(&link).unwrap();
        watch.use_now(files);
        std::os::unix::fs::symlink("2", folder.path("next")).unwrap();
        std::fs::rename(folder.path("next"), &link).unwrap();
        watch.look();
        assert_eq!(watch.look(), [link]);
    }

    // A write that begins after the file was opened shows, although its end is what was read.
    #[test]
    fn a_change_while_reading_is_not_missed() {
        let (folder, mut watch) = Folder::watched(&["a"]);
        let mut files = Files::default();
        files.read(&folder.path("a")).unwrap();
        folder.put("a", "2");
        watch.use_now(files);
        watch.look();
        assert_eq!(watch.look(), [folder.path("a")]);
    }
}
