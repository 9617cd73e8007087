//! What is known of an exchange when it ends: filled in on the way, counted and logged at the exit.

use crate::base::Tick;
use crate::http::Fault;
use crate::http::grpc::Call;
use crate::shard::Trial;
use crate::sticky::Steer;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What is known of an exchange when it ends.
#[derive(Debug, Default)]
pub struct Trace {
    /// When its first octet was there.
    pub began: Tick,
    /// When it was sent to a target.
    pub sent: Option<Tick>,
    /// When the response head was there.
    pub answered: Option<Tick>,
    /// How long the connection took to open; `None` when none was opened.
    pub connect: Option<Duration>,
    /// Index into the snapshot's rules.
    pub rule: Option<usize>,
    /// Index into the snapshot's policies: the one that has ended it.
    pub policy: Option<usize>,
    /// Index into the snapshot's groups.
    pub group: Option<usize>,
    /// Index into the group's targets.
    pub target: Option<usize>,
    /// What was done.
    pub action: &'static str,
    /// The status that the client was sent; 0 as long as it was sent none.
    pub status: u16,
    /// The status that the target sent.
    pub target_status: Option<u16>,
    /// Octets from the client.
    pub bytes_in: u64,
    /// Whether the octets of the body are among them already: a body may be sent several times.
    pub body_counted: bool,
    /// Octets to the client.
    pub bytes_out: u64,
    /// Octets of the response's body.
    pub body_out: u64,
    /// Interim responses of the target.
    pub interim: u32,
    /// Times it was sent again.
    pub retries: u32,
    /// Whether it went over a connection that had carried another.
    pub reused: bool,
    /// Whether an answer was begun and not finished: the connection is dropped without ceremony then.
    pub broken_off: bool,
    /// Why ringgate answered, or gave up.
    pub fault: Option<Fault>,
    /// Why the last TLS handshake with a target failed, if one did.
    pub detail: Option<Box<str>>,
    /// Whether it is a call of gRPC, and of which form.
    pub call: Call,
    /// Until when an answer is wanted, by the client of a call or by the rule.
    pub deadline: Option<Tick>,
    /// The `grpc-status` that the client was sent.
    pub grpc_status: Option<u16>,
    /// The form of gRPC-Web that the response of a call becomes.
    pub form: Call,
    /// Whether the response that is given lies in the store.
    pub stored: bool,
    /// What became of it in the store, in a word; empty where nothing is stored.
    pub cache: &'static str,
    /// Whether ringgate has sent it by itself, on behalf of another request.
    pub inner: bool,
    /// Whether its group and target have counted it already, as one of ringgate's own.
    pub counted: bool,
    /// Whether no further attempt is made once it was sent.
    pub once: bool,
    /// The target that another attempt is with: an index into the group's.
    pub avoid: Option<usize>,
    /// Told of each target that is tried.
    pub picked: Option<Rc<Cell<Option<usize>>>>,
    /// What cookies have said of where the client stays.
    pub steer: Steer,
    /// Attempts that may follow the one that is made now.
    pub repeats: u32,
    /// The trial of a breaker that it is.
    pub trial: Option<Trial>,
    /// When it began to wait for a target with room; `None` once it has a connection to one.
    pub queued: Option<Tick>,
    /// Whether the deadline that it has missed left its target all the time that an answer may take.
    pub overdue: bool,
    /// Whether its target was judged by the head of its answer.
    pub judged: bool,
    /// When the target wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What was made to go wrong on purpose: `delay`, `abort`, `reset`, or `delay+abort` and the like; empty for nothing.
    pub injected: &'static str,
    /// The status that the client is told instead of the fault's.
    pub told: Option<u16>,
}

impl Trace {
    /// Counts the octets of a body that was here whole, the first time.
    pub fn count_body(&mut self, octets: u64) {
        if !self.body_counted {
            self.body_counted = true;
            self.bytes_in += octets;
        }
    }
}
