//! Landlock: which files the process may open from now on, whatever its user could.
//!
//! Reads: the folders of the configuration and the few files that resolving names and the standard library open. Writes:
//! where the access log is. Executes: nothing. Connecting to Unix sockets and to addresses is not Landlock's here: targets
//! change with the file. The kernel also holds operations of an io_uring to this (SEC-06). Called by `rights`.

use crate::config::{self, AccessLog, Config, ListenerTls, TargetTls};
use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::FileType;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is asked of the kernel; an older one gives what it has. 6 is Linux 6.12.
const WANTED: ABI = ABI::V6;
/// Folders that hold much besides: of a file directly in one, only the file is opened.
const BROAD: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt",
    "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/usr", "/var",
];
/// Read whoever the process is: names (resolver, accounts), whom the system trusts, time, and what libc and the standard library look up.
const READ: &[&str] = &[
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls/certs",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/proc/meminfo",
    "/proc/self",
    "/proc/stat",
    "/proc/sys/kernel/hostname",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/dev/urandom",
];
/// Where systems keep the roots that certificates are verified by.
const ROOTS: &[&str] = &[
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];
/// Written to whatever the log is now, since a reload may switch to them.
const SINKS: &[&str] = &["/dev/full", "/dev/null", "/dev/stderr", "/dev/stdout"];

/// What may be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Folders and files that may be read.
    read: Vec<PathBuf>,
    /// Folders in which files may be created and appended to, and files that may be.
    write: Vec<PathBuf>,
    /// Folders in which files may also be read and replaced.
    keep: Vec<PathBuf>,
}

impl Files {
    /// What serving by `config` opens, and warnings about what will not work.
    pub fn of(config: &Config) -> (Files, Vec<String>) {
        let mut files = Files::default();
        let mut warnings = Vec::new();
        files.read.extend(config.files.iter().cloned());
        // A link's target is often in another folder than the link.
        let real_folders = config.files.iter().filter_map(|f| f.canonicalize().ok());
        let folders = real_folders.filter_map(|f| f.parent().map(Path::to_path_buf));
        for folder in config.folders.iter().cloned().chain(folders) {
            let Ok(folder) = folder.canonicalize() else { continue };
            if !is_broad(&folder) {
                files.read.push(folder);
                continue;
            }
            warnings.push(format!(
                "the configuration is directly in {}, of which nothing else may be read: once the file is replaced \
                 rather than written to, a reload takes a restart; a folder of its own is better",
                folder.display()
            ));
        }
        // Modes close the secrets of /etc to any user but root, who gets what is needed one by one.
        if !rustix::process::geteuid().is_root() {
            files.read.push("/etc".into());
        }
        files.read.extend(READ.iter().map(PathBuf::from));
        let of_groups = config.groups.iter().filter_map(|g| g.tls.as_ref());
        let of_listeners = config.listeners.iter().filter_map(|l| l.tls.as_ref());
        let materials = of_groups.flat_map(TargetTls::materials);
        for material in materials.chain(of_listeners.flat_map(ListenerTls::materials)) {
            files.read.extend(places(&material.path));
        }
        // For the names in a backtrace.
        files.read.extend(std::env::current_exe());
        files.write.extend(SINKS.iter().map(PathBuf::from));
        if let AccessLog::File(path) = &config.log.access {
            files.write.extend(log_place(path));
            files.write.extend(path.canonicalize().ok().and_then(|real| log_place(&real)));
        }
        if let Some(acme) = &config.acme {
            files.read.extend(ROOTS.iter().map(PathBuf::from));
            files.read.extend(acme.ca.clone());
            files.keep.extend(acme.storage.canonicalize());
        }
        if let Some(usage) = config.counted() {
            files.keep.extend(usage.folder.canonicalize());
        }
        let of_policies = config::materials(config).map(|(_, material)| material);
        for material in of_policies.chain(config::pages(config)) {
            files.read.extend(places(&material.path));
        }
        for list in [&mut files.read, &mut files.write] {
            list.sort();
            list.dedup();
        }
        warnings.dedup();
        (files, warnings)
    }

    /// Holds this thread, and those it starts, to the files. The part for the log comes back.
    ///
    /// # Errors
    /// When the kernel has no Landlock, or refuses.
    pub fn restrict(&self) -> Result<String, String> {
        let status = self.enforce().map_err(|error| error.to_string())?;
        match status.landlock {
            LandlockStatus::Available { effective_abi, .. } => {
                Ok(format!("landlock ABI {} of {WANTED}", effective_abi.min(WANTED)))
            }
            LandlockStatus::NotEnabled => {
                Err("the kernel has it switched off (its lsm= parameter)".to_owned())
            }
            LandlockStatus::NotImplemented => {
                Err("the kernel has none (Linux 5.13 is the first), or a filter hides it"
                    .to_owned())
            }
        }
    }

    fn enforce(&self) -> Result<RestrictionStatus, RulesetError> {
        let mut scope = Scope::from_all(WANTED);
        // A service manager may listen on an abstract socket.
        if std::env::var_os("NOTIFY_SOCKET").is_some_and(|s| s.as_encoded_bytes().starts_with(b"@"))
        {
            scope = Scope::Signal.into();
        }
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(WANTED))?;
        let mut ruleset = ruleset.scope(scope)?.create()?;
        ruleset = allow(ruleset, &self.read, AccessFs::ReadFile | AccessFs::ReadDir)?;
        // An existing log is read for whether it ends within a line.
        let write = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::ReadFile;
        ruleset = allow(ruleset, &self.write, write)?;
        // To be renamed over another, a file must be one that may be removed.
        let keep = write | AccessFs::ReadDir | AccessFs::RemoveFile | AccessFs::Truncate;
        allow(ruleset, &self.keep, keep)?.restrict_self()
    }

    /// Whether the access log may be at `path`.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn admit(&self, path: &Path) -> Result<(), String> {
        let real = real(path);
        if self.write.iter().any(|allowed| real.starts_with(allowed) || path == allowed) {
            return Ok(());
        }
        let places: Vec<String> = self
            .write
            .iter()
            .filter(|place| !place.starts_with("/dev"))
            .map(|place| place.display().to_string())
            .collect();
        let allowed = match places.as_slice() {
            [] => "the access log was no file at the start".to_owned(),
            places => format!("{} was allowed at the start", places.join(" or ")),
        };
        Err(format!(
            "log.access: {} is outside of what this process may write (Landlock: {allowed}, and that cannot be widened); \
             restart ringgate to log there",
            path.display()
        ))
    }

    /// Whether files may be kept in `folder`, which `key` names.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn admit_storage(&self, key: &str, folder: &Path) -> Result<(), String> {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        if self.keep.contains(&real) {
            return Ok(());
        }
        Err(format!(
            "{key}: {} is outside of what this process may write (Landlock, fixed at the start); restart ringgate to \
             keep files there",
            folder.display()
        ))
    }

    /// What a file that cannot be read may be due to.
    pub fn explain(&self) -> String {
        let folders = self
            .read
            .iter()
            .filter(|place| !READ.iter().any(|known| Path::new(known) == *place) && place.is_dir());
        let folders: Vec<String> = folders.map(|folder| folder.display().to_string()).collect();
        format!(
            "note: this process may read files only in {} (Landlock, fixed at the start): after naming a file \
             elsewhere, restart ringgate",
            folders.join(", ")
        )
    }
}

/// What must be readable so that a file can be read again after it was replaced: its folder, and that of what it links to;
/// where a folder holds much besides, the file alone.
fn places(path: &Path) -> Vec<PathBuf> {
    let parent = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let real = path.canonicalize().ok();
    let folders = [Some(parent), real.as_deref().and_then(Path::parent)];
    let folders = folders.into_iter().flatten().filter_map(|f| f.canonicalize().ok());
    let narrow = folders.filter(|folder| !is_broad(folder));
    narrow.chain([path.to_path_buf()]).chain(real.clone()).collect()
}

/// Adds a rule for each path that there is.
fn allow(
    mut ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        let Ok(file) = PathFd::new(path) else { continue };
        let kind = rustix::fs::fstat(&file).map(|s| FileType::from_raw_mode(s.st_mode));
        let access = match kind {
            Ok(FileType::Directory) => access,
            _ => access & AccessFs::from_file(WANTED),
        };
        let rule = PathBeneath::new(file, access);
        // What is behind /dev/stdout may be a pipe, which cannot be named in a rule and needs none.
        if path.starts_with("/dev") {
            if let Ok(copy) = ruleset.try_clone() {
                let _ = copy.add_rule(rule);
            }
            continue;
        }
        ruleset = ruleset.add_rule(rule)?;
    }
    Ok(ruleset)
}

/// The folder of a log; where that holds much besides, the file alone, which is created for it.
fn log_place(path: &Path) -> Option<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.canonicalize().ok()?,
        _ => std::env::current_dir().ok()?,
    };
    if !is_broad(&folder) {
        return Some(folder);
    }
    let mut create = std::fs::OpenOptions::new();
    // An error here is the log's own when it is opened.
    let _ = create.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK).open(path);
    Some(folder.join(path.file_name()?))
}

/// The path without links, also of a file that is yet to be created.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}

fn is_broad(folder: &Path) -> bool {
    BROAD.iter().any(|broad| Path::new(broad) == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(log: &str) -> (Files, Vec<String>) {
        let text =
            format!("[log]\naccess = '{log}'\n[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']");
        let mut config = config::parse(&text, "a.toml", &|_| None).unwrap();
        config.folders.insert("/etc".into());
        config.files.insert("/etc/hosts".into());
        Files::of(&config)
    }

    #[test]
    fn only_the_folder_of_the_log_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (files, _) = files(&dir.join("access.log").display().to_string());
        for (path, fine) in [
            (dir.join("other.log"), true),
            (dir.join("../x.log"), false),
            ("/dev/null".into(), true),
            ("/dev/stdout".into(), true),
            ("/dev/sda".into(), false),
            ("/etc/passwd".into(), false),
        ] {
            let admitted = files.admit(&path);
            assert_eq!(admitted.is_ok(), fine, "{}: {admitted:?}", path.display());
        }
        let refused = files.admit(Path::new("/etc/x.log")).unwrap_err();
        let said = format!("{} was allowed at the start", dir.display());
        assert!(refused.contains(&said) && refused.contains("restart ringgate"), "{refused}");
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(other.path().join("real.log"), "").unwrap();
        let link = dir.path().join("link.log");
        std::os::unix::fs::symlink(other.path().join("real.log"), &link).unwrap();
        let (through, _) = files(&link.display().to_string());
        assert_eq!(through.admit(&link), Ok(()), "as it was at the start");
        let (beside, _) = files(&dir.path().join("access.log").display().to_string());
        assert!(beside.admit(&link).is_err());
    }

    #[test]
    fn of_a_folder_that_holds_much_besides_only_the_file_is_opened() {
        let (files, warnings) = files("/dev/null");
        assert!(!files.write.contains(&"/dev".into()), "{files:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("directly in /etc"), "{warnings:?}");
        let root = rustix::process::geteuid().is_root();
        assert_eq!(files.read.contains(&"/etc".into()), !root);
        assert!(files.read.contains(&"/etc/hosts".into()));
    }
}
