//! What only control can find out for a policy: the question as plain data, and the reply.
//!
//! A worker sends the question, goes on with other requests, and checks the policy again with the reply. Every question has
//! an end: control answers within its deadline, and the worker itself gives up a moment later. Called by policies, `shard` and
//! `control`.

use std::sync::Arc;
use std::time::Duration;

/// A question.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug, Default)]
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

/// What control found out.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Whether the password is right.
    Password(bool),
    /// What the service answered. Redirects are not followed.
    Called(Arc<Called>),
    /// Nothing: the service cannot be reached, was too slow or said too much; or there are too many questions.
    Failed(Arc<str>),
}

/// A service's answer.
#[derive(Clone, Debug, Default)]
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
