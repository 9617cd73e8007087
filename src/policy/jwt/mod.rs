//! Signed tokens (RFC 7519) of issuers that are trusted.

pub mod algorithm;
pub mod json;
pub mod keys;
pub mod source;
pub mod verify;

pub use algorithm::{Algorithm, Algorithms};
pub use keys::KeySet;
pub use source::{Location, Origin, Source};
pub use verify::{Flaw, Rules, verify};

use crate::base::Tick;
use crate::policy::{Consumed, Files, Findings, Reply, Subject, Verdict, Wrong};
use std::path::PathBuf;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn build(_: &Settings, _: Files<'_>, _: Option<&Policy>) -> Result<Policy, Wrong> {
        Ok(Policy {})
    }

    /// Decides.
    pub fn check(&self, _: &Core, _: &Subject<'_>, _: &mut Findings, _: Option<Reply>) -> Verdict {
        Verdict::Pass
    }

    /// What is not sent on.
    pub fn consumes(&self) -> Vec<Consumed> {
        Vec::new()
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        Vec::new()
    }

    /// What no target may answer.
    pub fn replaces(&self) -> Vec<Box<str>> {
        Vec::new()
    }

    /// The most octets of a body that it must see.
    pub fn body_limit(&self, _: &Subject<'_>) -> Option<u64> {
        None
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
