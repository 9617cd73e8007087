//! Streams: their states, identifiers and number (RFC 9113 section 5).

use super::Expect::*;
use super::support::h2raw::*;
use super::{Section, post};

/// What a client sends.
type Act = (&'static str, fn(&mut H2));

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED];
const CLOSED_OR_PROTOCOL: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

/// Section 5.1, idle.
#[test]
fn idle() {
    let mut s = Section::start();
    s.case("DATA", Connection(PROTOCOL), |h2| h2.frame(DATA, END_STREAM, 1, b"x"));
    s.case("RST_STREAM", Connection(PROTOCOL), |h2| h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 8]));
    s.case("WINDOW_UPDATE", Connection(PROTOCOL), |h2| {
        h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 100]);
    });
    s.case("CONTINUATION", Connection(PROTOCOL), |h2| h2.frame(CONTINUATION, END_HEADERS, 1, []));
    s.case("a stream of the server's", Connection(PROTOCOL), |h2| {
        h2.frame(DATA, END_STREAM, 2, b"x");
    });
    s.end();
}

/// Section 5.1, half-closed (remote).
#[test]
fn half_closed() {
    let mut s = Section::start();
    // The section has STREAM_CLOSED for the stream; h2 ends the connection.
    s.case("DATA", Stream(CLOSED_OR_PROTOCOL), |h2| {
        h2.get(1, "/hold");
        h2.frame(DATA, END_STREAM, 1, b"x");
    });
    s.case("HEADERS", Stream(CLOSED_OR_PROTOCOL), |h2| {
        h2.get(1, "/hold");
        h2.get(1, "/hold");
    });
    s.case("CONTINUATION", Connection(CLOSED_OR_PROTOCOL), |h2| {
        h2.get(1, "/hold");
        h2.frame(CONTINUATION, END_HEADERS, 1, []);
    });
    s.end();
}

/// Section 5.1, closed: by RST_STREAM, and by END_STREAM of both sides.
#[test]
fn closed() {
    let mut s = Section::start();
    // What follows a reset may be under way since before it, but here it came in order: h2 ignores it for a while, as the
    // section allows ("minimally process and then discard").
    for (name, act) in [
        ("DATA", (|h2| h2.frame(DATA, END_STREAM, 1, b"x")) as fn(&mut H2)),
        ("HEADERS", |h2| h2.get(1, "/")),
        ("CONTINUATION", |h2| h2.frame(CONTINUATION, END_HEADERS, 1, [])),
    ] {
        let before = s.received();
        let mut h2 = H2::open(s.address);
        post(&mut h2);
        h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
        act(&mut h2);
        let alive = h2.settled();
        let fine = match h2.done(1) {
            None => true,
            Some(Outcome::Reset(code)) => code == STREAM_CLOSED || code == PROTOCOL_ERROR,
            Some(_) => false,
        };
        let told = matches!(h2.goaway, Some((_, STREAM_CLOSED | PROTOCOL_ERROR)));
        if !fine || !(alive || told) || (name == "CONTINUATION" && alive) {
            s.fail(format!("{name} after RST_STREAM: {:?}", h2.goaway));
        }
        if s.received() != before {
            s.fail(format!("{name} after RST_STREAM reached the target"));
        }
    }
    // The connection may go on: what was forgotten is closed again.
    s.case("DATA after the answer", Stream(CLOSED), |h2| {
        h2.fetch(1, "/");
        h2.frame(DATA, END_STREAM, 1, b"x");
    });
    let after: &[Act] = &[
        ("HEADERS", |h2| h2.get(1, "/")),
        ("CONTINUATION", |h2| h2.frame(CONTINUATION, END_HEADERS, 1, [])),
    ];
    for (name, act) in after {
        s.case(&format!("{name} after the answer"), Connection(CLOSED_OR_PROTOCOL), |h2| {
            h2.fetch(1, "/");
            act(h2);
        });
    }
    s.case("WINDOW_UPDATE and RST_STREAM after the answer", Alive, |h2| {
        h2.fetch(1, "/");
        h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]);
        h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    });
    s.end();
}

/// Section 5.1.1; hazard H2-12.
#[test]
fn identifiers() {
    let mut s = Section::start();
    s.case("even", Connection(PROTOCOL), |h2| h2.get(2, "/"));
    s.case("lower than the last", Connection(CLOSED_OR_PROTOCOL), |h2| {
        h2.fetch(5, "/");
        h2.get(3, "/");
    });
    s.case("lower than one that is open", Connection(CLOSED_OR_PROTOCOL), |h2| {
        h2.head(5, END_HEADERS, &request("POST", "/"));
        h2.get(3, "/");
    });
    s.case("with gaps", Status(200), |h2| {
        h2.get(1, "/");
        assert_eq!(h2.fetch(101, "/").status(), 200);
    });
    s.case("the largest", Status(200), |h2| {
        h2.get(1, "/");
        assert_eq!(h2.fetch(0x7fff_ffff, "/").status(), 200);
    });
    s.case("none is left", Connection(CLOSED_OR_PROTOCOL), |h2| {
        h2.fetch(0x7fff_ffff, "/");
        h2.get(0x7fff_ffff, "/");
    });
    s.end();
}

/// Section 5.1.2; hazard H2-17: as many as are announced, and the next one is refused unseen.
#[test]
fn number() {
    let mut s = Section::start_with("\n[limits.http2]\nstreams = 10\n");
    let before = s.received();
    let mut h2 = H2::open(s.address);
    assert!(h2.settings.contains(&(3, 10)), "{:?}", h2.settings);
    assert!(h2.settled());
    for n in 0..11 {
        h2.head(1 + 2 * n, END_HEADERS, &request("POST", "/"));
    }
    let refused = h2.outcome(21);
    assert!(matches!(refused, Outcome::Reset(REFUSED_STREAM)), "{refused:?}");
    for n in 0..10 {
        h2.frame(DATA, END_STREAM, 1 + 2 * n, b"x");
    }
    for n in 0..10 {
        assert_eq!(h2.outcome(1 + 2 * n).status(), 200);
    }
    assert_eq!(s.received() - before, 10);
    // There is room again.
    assert_eq!(h2.fetch(23, "/").status(), 200);
    s.case("is whole after that", Status(200), |h2| h2.get(1, "/"));
    s.end();
}
