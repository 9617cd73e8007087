//! The reusable parts of one exchange: parsed heads and the bytes being written. Leased while a request is in
//! flight, so that an idle connection holds nothing and a request allocates nothing.

use crate::base::Tick;
use crate::cache::Key;
use crate::http::{RequestHead, ResponseHead};
use crate::policy::Findings;
use crate::shard::{Sent, Tap, Trace};
use crate::store::Errand;
use std::cell::Cell;
use std::rc::Rc;

/// What one exchange works in.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The request's head.
    pub request: RequestHead,
    /// The response's head.
    pub response: ResponseHead,
    /// The head sent to the target.
    pub upstream: Vec<u8>,
    /// What a target is sent instead of what the client has sent.
    pub sent: Sent,
    /// Field lines that the target's response gets on its way, beside its own.
    pub added: Vec<u8>,
    /// What is sent to the client.
    pub reply: Vec<u8>,
    /// What is counted and logged in the end. Here, since in the exchange it would make every connection larger.
    pub trace: Trace,
    /// Keeps the answer for whoever compares it with another.
    pub tap: Option<Box<Tap>>,
    /// What policies have found.
    pub findings: Findings,
    /// The request id.
    pub request_id: Vec<u8>,
    /// What stored responses are looked up by.
    pub key: Key,
    /// What becomes of the response to a request of a rule that stores.
    pub errand: Option<Box<Errand>>,
    /// When either side of a call last sent something; both directions of it hold this.
    pub moved: Rc<Cell<Tick>>,
}

// What a vector may keep for the next exchange.
const KEEP: usize = 16 << 10;

impl Scratch {
    /// Lets go of what an unusually large message has grown.
    pub fn trim(&mut self) {
        self.findings.clear();
        self.sent.clear();
        self.trace.trial = None;
        self.errand = None;
        self.tap = None;
        for vec in [&mut self.upstream, &mut self.reply, &mut self.request_id, &mut self.added] {
            vec.clear();
            if vec.capacity() > KEEP {
                *vec = Vec::new();
            }
        }
    }
}
