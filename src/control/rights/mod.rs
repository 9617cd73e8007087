//! Least rights: what the process gives up before it serves anybody, and the order in which it does.
//!
//! Everything here is per thread in Linux and inherited by threads that start later, so [`take`] runs in the main thread
//! while there is no other: after the file was read, before the log, the runtime and the workers. It opens nothing for
//! them; they bind and open later, with what is left. Called by `control` for `run` and `demo`.

pub mod capabilities;
pub mod files;
pub mod limits;
pub mod seccomp;
pub mod storage;
pub mod user;

use crate::config::{self, AccessLog, Config, ListenerTls, Problem, Problems, Sandbox, TargetTls};
use files::Files;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is in force, to be said and to be asked on a reload.
#[derive(Debug, Default)]
pub struct Rights {
    /// Each part, as it stands in the log; empty when nothing was given up.
    parts: Vec<String>,
    /// What an operator should know.
    warnings: Vec<String>,
    /// What may be opened; `None` for whatever the kernel allows.
    files: Option<Files>,
}

/// Why the process must not start.
#[derive(Debug)]
pub enum Refused {
    /// The file asks for something that cannot be.
    Wrong(Problem),
    /// The kernel refused a step that was asked for.
    Failed(String),
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Wrong(problem) => problem.fmt(f),
            Refused::Failed(text) => write!(f, "ringgate cannot start: {text}"),
        }
    }
}

/// Gives up what `config` does not need, for this thread and those it starts. `main` is the file that was read.
///
/// # Errors
/// A user that cannot be had, or, with `sandbox = "on"`, a step that the kernel refuses. The process may have lost rights
/// by then: it must end.
pub fn take(config: &Config, main: Option<&Path>) -> Result<Rights, Refused> {
    let mut rights = Rights::default();
    let server = &config.server;
    limits::raise_descriptors(server.max_connections);
    limits::raise_locked();
    let root = rustix::process::geteuid().is_root();
    let account = user::wanted(server).map_err(Refused::Wrong)?;
    let sandboxed = match server.sandbox {
        Sandbox::On => true,
        Sandbox::Auto => root,
        Sandbox::Off => false,
    };
    // As the one who may create it, for the one who writes there.
    rights.warnings.extend(storage::prepare(config, account.as_ref()));
    if sandboxed || account.is_some() {
        rights.identity(account.as_ref())?;
    }
    if sandboxed {
        let strict = server.sandbox == Sandbox::On;
        rights.step(strict, "no new privileges", limits::no_new_privileges())?;
        rights.step(strict, "core dumps", limits::no_dumps())?;
        let (files, warnings) = Files::of(config);
        rights.warnings.extend(warnings);
        if rights.step(strict, "Landlock", files.restrict())? {
            rights.files = Some(files);
        }
        rights.step(
            strict,
            "seccomp",
            seccomp::restrict(storage::folders(config).next().is_some()),
        )?;
    } else if root {
        let kept = if account.is_some() { "files and system calls" } else { "the rights of root" };
        rights.warnings.push(format!(
            "started as root with server.sandbox = \"off\": nothing limits {kept}; \"auto\" does"
        ));
    }
    rights.warnings.extend(main.and_then(unreadable));
    let of_groups = config.groups.iter().filter_map(|g| g.tls.as_ref());
    let of_listeners = config.listeners.iter().filter_map(|l| l.tls.as_ref());
    let materials = of_groups.flat_map(TargetTls::materials);
    let materials = materials.chain(of_listeners.flat_map(ListenerTls::materials));
    let paths = materials.map(|material| material.path.clone());
    let of_policies = config::materials(config).map(|(_, material)| material.path);
    let of_pages = config::pages(config).map(|material| material.path);
    let paths: BTreeSet<PathBuf> = paths.chain(of_policies).chain(of_pages).collect();
    rights.warnings.extend(paths.iter().filter_map(|path| unreadable(path)));
    Ok(rights)
}

impl Rights {
    /// Writes one line that says what is in force, and a warning for each thing that is not.
    pub fn report(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        if !self.parts.is_empty() {
            tracing::info!("least rights: {}", self.parts.join(", "));
        }
    }

    /// Whether a reload may write access records there.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn admit(&self, log: &AccessLog) -> Result<(), String> {
        match (log, &self.files) {
            (AccessLog::File(path), Some(files)) => files.admit(path),
            _ => Ok(()),
        }
    }

    /// Whether a reload may keep certificates, and what consumers use, where it says.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn admit_storage(&self, config: &Config) -> Result<(), String> {
        let Some(files) = &self.files else { return Ok(()) };
        storage::folders(config).try_for_each(|(key, folder, _)| files.admit_storage(key, folder))
    }

    /// What to add to the problems of a reload when the sandbox may be their reason.
    pub fn explain(&self, problems: &Problems) -> Option<String> {
        let denied = problems.0.iter().any(|p| p.found.contains("Permission denied"));
        self.files.as_ref().filter(|_| denied).map(Files::explain)
    }

    /// Becomes the user, if any, and drops capabilities.
    fn identity(&mut self, account: Option<&user::Account>) -> Result<(), Refused> {
        let failed = |what: &str, error: rustix::io::Errno| {
            Refused::Failed(format!("{what}: {}", std::io::Error::from(error)))
        };
        let unbounded = capabilities::empty_bounding_set();
        if let Some(account) = account {
            user::enter(account)
                .map_err(|e| failed(&format!("cannot become user {}", account.name), e))?;
        }
        let kept =
            capabilities::reduce().map_err(|e| failed("capabilities cannot be dropped", e))?;
        let uid = rustix::process::getuid().as_raw();
        self.parts.push(match account {
            Some(account) => format!("user {} (uid {uid})", account.name),
            None => format!("uid {uid}"),
        });
        self.parts.push(format!("capabilities: {}", capabilities::names(kept)));
        if let Err(error) = unbounded {
            let error = std::io::Error::from(error);
            self.warnings.push(format!("capabilities stay in the bounding set: {error}"));
        }
        Ok(())
    }

    /// Notes a step; whether it was done. What the kernel lacks is an error only where it was demanded.
    fn step(
        &mut self,
        strict: bool,
        what: &str,
        done: Result<String, String>,
    ) -> Result<bool, Refused> {
        match done {
            Ok(part) => {
                self.parts.push(part);
                Ok(true)
            }
            Err(error) if strict => Err(Refused::Failed(format!(
                "{what}: {error}, and server.sandbox = \"on\" demands it (\"auto\" would go on)"
            ))),
            Err(error) => {
                self.warnings.push(format!("{what}: {error}; serving without it"));
                Ok(false)
            }
        }
    }
}

/// A file that could be read as root may be closed to the user.
fn unreadable(main: &Path) -> Option<String> {
    let error = std::fs::File::open(main).err()?;
    let path = main.display();
    Some(format!("{path} cannot be read any more ({error}): reloads will fail until it can be"))
}
