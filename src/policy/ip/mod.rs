//! Which addresses may come, and which not.
//!
//! Deny goes before allow; where there is an allow list, whoever is not on it is denied. It judges the client's address as
//! it was computed for limits and logs, never a field (hazard HDR-01), or the TCP peer where it is told so. Called through
//! `policy::kind`.

pub mod ranges;

use crate::base::Tick;
use crate::http::Fault;
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong, lists};
use ipnet::IpNet;
use ranges::Ranges;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// The most networks of one policy, all its lists together; they take at most 32 MB.
pub const MOST: usize = 1_000_000;

/// As written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Who may come.
    pub allow: List,
    /// Who may not.
    pub deny: List,
    /// Whose address is looked at.
    pub of: Of,
}

/// One list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    /// What stands in the configuration.
    pub networks: Vec<IpNet>,
    /// Files with one network or address a line.
    pub files: Vec<PathBuf>,
}

/// Whose address is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// The client's: the peer, or whom a trusted proxy names.
    #[default]
    Client,
    /// The TCP peer's.
    Peer,
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.allow.files.iter().chain(&self.deny.files).cloned().collect()
    }
}

impl List {
    /// Whether it was not given.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.files.is_empty()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    deny: Ranges,
    // `None` where everybody may come who is not denied. One without addresses lets nobody in.
    allow: Option<Ranges>,
    of: Of,
}

/// What one core remembers: nothing.
#[derive(Debug)]
pub struct Core {}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// A line of a file that is no network, or more than [`MOST`] of them.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        _: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let deny = networks(&settings.deny, files)?;
        let allow = networks(&settings.allow, files)?;
        let count = deny.len() + allow.len();
        if count > MOST {
            let found = format!("{count} networks, and {MOST} are the most");
            return Err(Wrong { file: None, found });
        }
        Ok(Policy {
            deny: Ranges::new(&deny),
            allow: (!settings.allow.is_empty()).then(|| Ranges::new(&allow)),
            of: settings.of,
        })
    }

    /// Decides.
    #[inline]
    pub fn check(
        &self,
        _: &Core,
        subject: &Subject<'_>,
        _: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let address = match self.of {
            Of::Client => subject.client,
            Of::Peer => subject.view.peer,
        };
        if self.admits(address) { Verdict::Pass } else { Verdict::Refuse(Fault::AddressDenied) }
    }

    /// Whether this address may come.
    #[inline]
    pub fn admits(&self, address: IpAddr) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.contains(address));
        allowed && !self.deny.contains(address)
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core {}
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

fn networks(list: &List, files: Files<'_>) -> Result<Vec<IpNet>, Wrong> {
    let mut networks = list.networks.clone();
    for path in &list.files {
        let octets = files(path).ok_or_else(|| lists::unread(path))?;
        read(path, &octets, &mut networks)?;
    }
    Ok(networks)
}

/// How many wrong lines of a file are told at once.
const TOLD: usize = 5;

fn read(path: &Path, octets: &[u8], networks: &mut Vec<IpNet>) -> Result<(), Wrong> {
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for (number, line) in lists::lines(octets) {
        // Published lists explain their entries after a semicolon.
        let entry = line.split(|b| matches!(b, b'#' | b';')).next().unwrap_or_default();
        let entry = String::from_utf8_lossy(entry.trim_ascii());
        match network(&entry) {
            _ if entry.is_empty() => {}
            Some(network) => networks.push(network),
            None => wrong.push((number, shown(&entry))),
        }
    }
    let Some((line, first)) = wrong.first() else { return Ok(()) };
    let mut found = format!("{first}, which is no address or range such as 10.0.0.0/8");
    let others: Vec<String> = wrong.iter().skip(1).map(|(line, _)| line.to_string()).collect();
    if !others.is_empty() {
        let told = others.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
        let more = if others.len() > TOLD { ", ..." } else { "" };
        found += &format!("; likewise in line {told}{more}");
    }
    Err(lists::wrong(path, *line, &found))
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().map(|net| net.trunc()).or_else(address)
}

fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let cut: String = text.chars().take(LONGEST).collect();
    let more = if cut.len() < text.len() { "..." } else { "" };
    format!("{cut:?}{more}")
}

#[cfg(test)]
mod tests;
