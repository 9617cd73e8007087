//! What policies see of a request, and what they leave behind for those after them, for the target, the client and the log.

use crate::base::Tick;
use crate::http::{Fault, RequestView};
use crate::policy::Identity;
use crate::policy::concurrency::Held;
use crate::policy::oidc::Step;
use crate::tls::Facts;
use std::net::IpAddr;

/// One request as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its head. `view.peer` is the TCP peer; limits and lists go by [`Subject::client`].
    pub view: RequestView<'a>,
    /// The client's address: the peer, or whom a trusted proxy names; never an IPv4-mapped one.
    pub client: IpAddr,
    /// `http` or `https`, as the client came.
    pub scheme: &'static str,
    /// The port that the client named, or came to.
    pub port: u16,
    /// The listener's name.
    pub listener: &'a str,
    /// The rule's name; empty where none has taken the request.
    pub rule: &'a str,
    /// What the TLS handshake agreed on, with the client's certificate.
    pub tls: Option<&'a Facts>,
    /// The whole body, for a policy that has asked for it ([`crate::policy::Kind::body_limit`]).
    pub body: Option<&'a [u8]>,
    /// Whether the content codings that the head names were taken off `body`.
    pub decoded: bool,
    /// Whether it is a preflight of CORS (OPTIONS with Origin and Access-Control-Request-Method).
    pub preflight: bool,
    /// The monotonic time.
    pub now: Tick,
    /// Seconds since 1970, for what others have written: `exp`, `nbf`, `created`.
    pub unix: u64,
}

/// What policies have found. It lies in the exchange's scratch: nothing is allocated anew for a request.
#[derive(Debug, Default)]
pub struct Findings {
    /// Who sent the request.
    pub identity: Identity,
    /// Field lines for the target, each with its CRLF.
    pub upstream: Vec<u8>,
    /// Field lines for the client, on whatever answer it gets, each with its CRLF.
    pub response: Vec<u8>,
    /// Places that are given back when the request has ended.
    pub held: Vec<Held>,
    /// What the client is told beside the reason, one plain sentence; empty for nothing. It holds no secret.
    pub detail: String,
    /// Which pattern was found. Only the log is told: whoever tries to get round it learns nothing from it.
    pub note: String,
    /// What a login has in hand while the provider is asked.
    pub step: Option<Box<Step>>,
    /// Refusals of policies that only count, by the policy's index.
    pub dry: Vec<(usize, Fault)>,
}

/// What a vector may keep for the next request.
const KEEP: usize = 4 << 10;

impl Findings {
    /// Makes room for the next request.
    pub fn clear(&mut self) {
        self.identity.clear();
        for lines in [&mut self.upstream, &mut self.response] {
            lines.clear();
            if lines.capacity() > KEEP {
                *lines = Vec::new();
            }
        }
        self.held.clear();
        self.detail.clear();
        self.note.clear();
        self.step = None;
        self.dry.clear();
    }
}
