//! Who may pass, and how fast: decisions over one request, what is known of its sender, and the time.
//!
//! Each kind of policy has a file with its `Settings` (as the file gives them), what is compiled of them, and `check`. All
//! of it is pure: a policy that needs the world (a password hashed, a provider called) says so with [`Verdict::Ask`] and is
//! checked again with the reply; control does the asking. What a core remembers lies in its [`Core`], what all cores share
//! in atomics inside the compiled policy, which a reload carries over. Called by `proxy::policies`.

pub mod api_key;
pub mod ask;
pub mod asking;
pub mod basic;
pub mod block;
pub mod concurrency;
pub mod cors;
pub mod failures;
pub mod forward_auth;
pub mod headers;
pub mod hmac;
pub mod identity;
pub mod introspect;
pub mod ip;
pub mod jwt;
pub mod key;
pub mod kind;
pub mod lists;
pub mod oidc;
pub mod rate;
pub mod recall;
#[cfg(test)]
mod sample;
pub mod subject;
pub mod validate;
pub mod window;

pub use ask::{Question, Reply};
pub use identity::Identity;
pub use kind::{Core, Files, Kind, Settings, Wrong};
pub use subject::{Findings, Subject};

use crate::base::Tick;
use crate::http::Fault;

/// What a policy says of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It may go on to the next policy.
    Pass,
    /// It ends here; fields that explain the refusal are in [`Findings::response`].
    Refuse(Fault),
    /// It ends here with an answer of the policy's own: a preflight, a redirect to a login.
    Answer(Box<Answer>),
    /// Only control can find out; the policy is checked again with what it says.
    Ask(Box<Question>),
    /// It may go on, but not before then.
    Wait(Tick),
}

/// An answer that a policy makes itself.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whole field lines, each with its CRLF.
    pub fields: Vec<u8>,
    /// The body; its length is written by who sends it.
    pub body: Vec<u8>,
}

/// What of a request is for ringgate alone and is not sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consumed {
    /// Every field of this name (lower-case).
    Field(Box<str>),
    /// Every field of this name, but credentials that are plainly of another scheme: those are somebody else's.
    Scheme {
        /// The name (lower-case).
        name: Box<str>,
        /// The scheme, whatever its case.
        scheme: Box<str>,
    },
    /// Every parameter of the query with this name, as it is written there.
    Query(Box<str>),
    /// Every parameter of this name in the query of requests for one path.
    QueryOf {
        /// The path, canonical.
        path: Box<str>,
        /// The name, as it is written there.
        name: Box<str>,
    },
    /// Every cookie of this name.
    Cookie(Box<str>),
    /// Every cookie whose name begins so.
    CookiePrefix(Box<str>),
}
