//! What happened in one run, as the peers saw it: what the checker judges, and a log whose digest tells runs apart.

use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By the client's number.
    pub clients: Vec<Client>,
    /// By serial: what targets were asked and what they answered.
    pub exchanges: Vec<Exchange>,
    /// Access records, in their order.
    pub records: Vec<Record>,
    /// What must not be, found on the way.
    pub violations: Vec<String>,
    /// How often what happened.
    pub census: BTreeMap<String, u64>,
    /// When the drain began and when what was left was cut, in nanoseconds.
    pub drained: Option<u64>,
    pub cut: Option<u64>,
    /// Counters at the end.
    pub totals: Totals,
    pub log: Log,
}

/// What a client sent and got. Requests and answers are in order.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub behaviour: &'static str,
    pub asked: Vec<Asked>,
    pub answers: Vec<Answer>,
    /// An answer of which the head was there and not the end.
    pub partial: Option<Answer>,
    /// In nanoseconds.
    pub connected_at: u64,
    pub end: Ended,
    /// When it ended, in nanoseconds.
    pub ended_at: u64,
    /// It went away, or stopped reading, before it had all.
    pub left_early: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    #[default]
    Open,
    /// By ringgate, in order.
    Fin,
    /// By ringgate, by a reset.
    Reset,
    /// By the client.
    Own,
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Unique in the run.
    pub token: String,
    pub method: &'static str,
    pub wanted: Wanted,
    /// Octets of its body.
    pub body: usize,
    /// When its first and last octets were sent, in nanoseconds.
    pub begun_at: Option<u64>,
    pub whole_at: Option<u64>,
}

/// What a request must come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// A target's answer, or one that says why there is none.
    #[default]
    Forward,
    /// The fixed answer.
    Fixed,
    /// A redirect.
    Redirect,
    /// An answer of ringgate's with one of these reasons.
    Fault(&'static [&'static str]),
    /// Its head may be forwarded, its body is malformed or too large.
    BadBody(&'static str),
}

/// One final response, as a client saw it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// The target's exchange that it comes from.
    pub exchange: Option<usize>,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub location: Option<String>,
    pub body: Vec<u8>,
    pub closes: bool,
    /// Whether only the end of the connection ended it.
    pub until_close: bool,
}

/// One request that a target saw, and what the target answered.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    pub token: String,
    pub method: String,
    /// The request's body, once whole.
    pub body: Option<Vec<u8>>,
    /// What there was of it when the connection ended before it was whole.
    pub part: Vec<u8>,
    pub behaviour: &'static str,
    /// The final response; 0 if none was begun.
    pub status: u16,
    /// Octets of its body.
    pub length: usize,
    /// All of it was written, and it was well-formed.
    pub whole: bool,
    /// It ended with the connection, so that a FIN in its middle cannot be told from its end.
    pub until_close: bool,
}

/// One access record.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub client: usize,
    pub request_id: String,
    pub status: u16,
    pub reason: Option<String>,
    pub group: Option<String>,
    pub token: Option<String>,
}

impl Record {
    /// Reads what [`Record::TEMPLATE`] writes.
    pub fn parse(line: &str) -> Record {
        let parts: Vec<&str> = line.split(' ').collect();
        let text = |at: usize| Some(parts[at]).filter(|p| *p != "-").map(str::to_owned);
        let peer: SocketAddr = parts[0].parse().unwrap();
        Record {
            client: usize::from(peer.port()) - 10_000,
            request_id: parts[1].to_owned(),
            status: parts[2].parse().unwrap(),
            reason: text(3),
            group: text(4),
            token: crate::target::token_of(parts[5]).map(str::to_owned),
        }
    }

    /// The format of the access log. The client's number is its port.
    pub const TEMPLATE: &str = "$peer $request_id $status $reason $group $path";
}

/// What ringgate counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub requests: u64,
    pub by_group: BTreeMap<String, u64>,
    pub faults: BTreeMap<String, u64>,
}

/// What happened, line by line.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub print: bool,
    hasher: DefaultHasher,
}

impl Log {
    pub fn digest(&self) -> u64 {
        self.hasher.finish()
    }
}

impl Ledger {
    /// Notes something that happened.
    pub fn note(&mut self, now: u64, what: Arguments<'_>) {
        let line = what.to_string();
        (now, &line).hash(&mut self.log.hasher);
        if self.log.print {
            println!("{:>12.3} ms  {line}", now as f64 / 1e6);
        }
    }

    pub fn count(&mut self, what: &str) {
        match self.census.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.census.insert(what.to_owned(), 1)),
        }
    }

    pub fn violation(&mut self, what: String) {
        // One defect often shows many times.
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }
}
