//! What only control can find out for a policy: the question as plain data, and the reply.
//!
//! A worker sends the question, goes on with other requests, and checks the policy again with the reply. Every question has
//! an end: control answers within its deadline, and the worker itself gives up a moment later. Called by policies, `shard` and
//! `control`.

use crate::policy::{Files, Wrong};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A question.
#[derive(Clone)]
pub enum Question {
    /// Does this password belong to this hash (argon2 in PHC form, or bcrypt)?
    Password {
        /// The hash, as the file has it.
        hash: Arc<str>,
        /// What the client sent.
        password: Vec<u8>,
    },
    /// What does this service say?
    Call(Call),
}

/// A request to a service beside the data path: an identity provider, an authorisation service.
#[derive(Clone, Default)]
pub struct Call {
    /// `GET`, `POST`, ...
    pub method: &'static str,
    /// Absolute, http or https.
    pub url: String,
    /// Names and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// For all of it.
    pub timeout: Duration,
    /// The most octets of the answer's body; more is a failure.
    pub most: usize,
    /// Who may vouch for the service over TLS, in PEM; left out, whom this system trusts.
    pub ca: Option<Arc<[u8]>>,
    /// Calls of one key that are in flight at the same time are made once, and all get its answer (hazard AUTH-18). What
    /// comes within [`Call::keep`] after it gets it, too.
    pub once: Option<[u8; 32]>,
    /// See [`Call::once`].
    pub keep: Duration,
}

// Passwords, tokens and what services say are not shown (hazard AUTH-14).
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Password { .. } => f.write_str("Password"),
            Question::Call(call) => write!(f, "{call:?}"),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{} {url}", self.method)
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fields, octets) = (self.fields.len(), self.body.len());
        write!(f, "{} with {fields} fields and {octets} octets", self.status)
    }
}

/// What control found out.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Whether the password is right.
    Password(bool),
    /// What the service answered. Redirects are not followed.
    Called(Arc<Called>),
    /// Nothing: the service cannot be reached or was too slow.
    Failed(Arc<str>),
    /// Nothing, and that is not the service's doing: what the client has sent cannot be sent on, the answer is larger than it
    /// may be, or there are too many questions. Clients can bring that about, so nobody passes for it, whatever the file says
    /// of services that fail.
    Unasked(Arc<str>),
}

impl Reply {
    /// Why there is nothing.
    pub fn failure(&self) -> Option<&Arc<str>> {
        match self {
            Reply::Failed(why) | Reply::Unasked(why) => Some(why),
            Reply::Password(_) | Reply::Called(_) => None,
        }
    }
}

/// A service's answer.
#[derive(Clone, Default)]
pub struct Called {
    /// The status.
    pub status: u16,
    /// Names (lower-case) and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Called {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_slice())
    }
}

/// The certificates in a file that may vouch for a service: at least one, each readable.
///
/// # Errors
/// What is wrong with the file.
pub fn authorities(path: &Path, files: Files<'_>) -> Result<Arc<[u8]>, Wrong> {
    let wrong = |found: &str| Wrong { file: Some(path.to_owned()), found: found.to_owned() };
    let octets = files(path).ok_or_else(|| wrong("a file that was not read"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        let certificate = certificate.map_err(|_| wrong("PEM that cannot be read"))?;
        let added = roots.add(certificate);
        added.map_err(|_| wrong("a certificate that cannot vouch for anybody"))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM"));
    }
    Ok(octets)
}
