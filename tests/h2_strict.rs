//! HTTP/2 as RFC 9113 and RFC 7541 have it, case by case (hazards H2-01 to H2-04, H2-11, H2-12, H2-17, H2-19; yardstick G3).
//!
//! The cases are those of h2spec, section by section, and those of the hazards: what a client may send is answered, what it
//! may not send is an error of its stream or of its connection, with a code that the RFC allows, and reaches no target. Each
//! has a connection of its own; after each section the process serves on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]
#![allow(clippy::indexing_slicing)]

#[path = "h2_strict/frames.rs"]
mod frames;
#[path = "h2_strict/hpack.rs"]
mod hpack;
#[path = "h2_strict/messages.rs"]
mod messages;
#[path = "h2_strict/streams.rs"]
mod streams;
mod support;

use std::net::SocketAddr;
use std::time::Duration;
use support::h2raw::*;
use support::ringgate::forwarding;
use support::{Origin, Ringgate, free_address};

/// What a case ends with.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// GOAWAY with one of these codes.
    Connection(&'static [u32]),
    /// RST_STREAM of stream 1 with one of these codes, or GOAWAY with it: an error of a stream may end the connection.
    Stream(&'static [u32]),
    /// An answer on stream 1.
    Status(u16),
    /// Nothing of the kind: a PING is acknowledged.
    Alive,
}

/// A section: ringgate before an origin that echoes, and the cases that failed.
pub struct Section {
    ringgate: Ringgate,
    origin: Origin,
    pub address: SocketAddr,
    failed: Vec<String>,
    count: usize,
}

impl Section {
    pub fn start() -> Section {
        Section::start_with("")
    }

    /// With further text in the file.
    pub fn start_with(more: &str) -> Section {
        let origin = origin();
        let address = free_address();
        let config = forwarding(address, &[origin.address], "") + more;
        let ringgate = Ringgate::start(&config);
        Section { ringgate, origin, address, failed: Vec::new(), count: 0 }
    }

    /// One case: what `act` sends after the handshake must end as expected.
    pub fn case(&mut self, name: &str, expect: Expect, act: impl FnOnce(&mut H2)) {
        let mut h2 = H2::open(self.address);
        h2.patience = Duration::from_secs(4);
        act(&mut h2);
        self.judge(name, expect, &mut h2);
    }

    pub fn judge(&mut self, name: &str, expect: Expect, h2: &mut H2) {
        self.count += 1;
        let (fine, got) = match expect {
            Expect::Connection(codes) => {
                let got = h2.ending();
                (matches!(got, Outcome::GoAway(code) if codes.contains(&code)), got)
            }
            Expect::Stream(codes) => {
                let got = h2.outcome(1);
                let fine =
                    matches!(got, Outcome::Reset(c) | Outcome::GoAway(c) if codes.contains(&c));
                (fine, got)
            }
            Expect::Status(status) => {
                let got = h2.outcome(1);
                (got.status() == status, got)
            }
            Expect::Alive => {
                let alive = h2.settled();
                let got = h2.done(1).unwrap_or(Outcome::Silence);
                (alive && !matches!(got, Outcome::Reset(_)), got)
            }
        };
        if !fine {
            self.fail(format!("{name}: expected {expect:?}, got {got:?}"));
        }
    }

    pub fn fail(&mut self, what: String) {
        self.failed.push(what);
    }

    /// What the origin has received so far.
    pub fn received(&self) -> usize {
        self.origin.requests().len()
    }

    /// How many trailers the last request had at the origin.
    pub fn last_trailers(&self) -> usize {
        self.origin.last().trailers.len()
    }

    /// Fails if a case did, or if nothing is served any more.
    #[track_caller]
    pub fn end(mut self) {
        self.ringgate.assert_alive();
        let answer = H2::open(self.address).fetch(1, "/after");
        assert_eq!(answer.status(), 200);
        let panics = self.ringgate.metric("ringgate_panics_total").unwrap_or(0.0);
        assert!(panics == 0.0, "{panics} panics");
        let (failed, count) = (self.failed.len(), self.count);
        assert!(self.failed.is_empty(), "{failed} of {count}:\n{}", self.failed.join("\n"));
    }
}

/// Echoes, but for `/hold`, which is never answered, and `/big`, which is answered with a million octets.
fn origin() -> Origin {
    Origin::script(|conn| {
        while let Some(request) = conn.request()? {
            let mut body = request.head.clone();
            match request.target() {
                "/hold" => {
                    let _ = conn.wire.rest();
                    return Ok(());
                }
                "/big" => body = vec![b'x'; 1_000_000],
                _ => body.extend_from_slice(&request.body),
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let body = if request.method() == "HEAD" { &[][..] } else { &body };
            conn.send([head.as_bytes(), body].concat())?;
        }
        Ok(())
    })
}

/// A POST whose head does not end the stream.
pub fn post(h2: &mut H2) {
    h2.head(1, END_HEADERS, &request("POST", "/"));
}
