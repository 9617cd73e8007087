//! Frames: preface, format, sizes, and each kind by itself (RFC 9113 sections 3.4, 4, 6, 7).

use super::Expect::*;
use super::support::h2raw::*;
use super::support::hpack::literals;
use super::{Section, post};
use std::time::Duration;

/// What a client sends.
type Act = (&'static str, fn(&mut H2));
/// What it sends with a header block.
type ActOn = (&'static str, fn(&mut H2, &[u8]));

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];

/// h2 calls every frame that it cannot load a protocol error; section 5.4 leaves the choice of a code to who sends it.
const SIZE_OR_PROTOCOL: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];

fn get_block() -> Vec<u8> {
    literals(&request("GET", "/"))
}

fn padded(len: u8, octets: &[u8], padding: usize) -> Vec<u8> {
    [&[len][..], octets, &vec![0; padding]].concat()
}

/// Section 3.4; hazard H2-17: what the server announces.
#[test]
fn preface() {
    let mut section = Section::start();
    let mut h2 = H2::raw(section.address);
    h2.send(PREFACE);
    h2.frame(SETTINGS, 0, 0, []);
    let first = h2.event();
    let Event::Settings(settings) = first else {
        panic!("the first frame is no SETTINGS: {first:?}")
    };
    for (id, value) in [(3, 100), (4, 65536), (6, 32768)] {
        assert!(settings.contains(&(id, value)), "no {id} = {value}: {settings:?}");
    }
    assert!(
        !settings.iter().any(|(id, _)| *id == 2),
        "a server does not speak of push: {settings:?}"
    );
    let mut window = 65535;
    let mut acknowledged = false;
    while !(acknowledged && window == 1 << 20) {
        match h2.event() {
            Event::Window { stream: 0, increment } => window += increment,
            Event::SettingsAck => acknowledged = true,
            other => panic!("{other:?}, with a window of {window}"),
        }
    }
    // Not the preface: HTTP/1.1 that cannot be served.
    for wrong in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
        "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let all = super::support::send_raw(section.address, wrong);
        let text = String::from_utf8_lossy(&all);
        let fine =
            all.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 505");
        // Or the beginning of HTTP/2, and then GOAWAY.
        let goaway = all.windows(4).any(|w| w == [8, GOAWAY, 0, 0]);
        if !fine && !goaway {
            section.fail(format!("{wrong:?}: {text:?}"));
        }
    }
    // In pieces of every size.
    let mut slow = H2::raw(section.address);
    for octet in PREFACE {
        slow.send([*octet]);
    }
    slow.frame(SETTINGS, 0, 0, []);
    slow.get(1, "/");
    section.judge("preface octet by octet", Status(200), &mut slow);
    let mut all = PREFACE.to_vec();
    all.extend(frame(SETTINGS, 0, 0, &[]));
    all.extend(frame(HEADERS, WHOLE, 1, &get_block()));
    let mut at_once = H2::raw(section.address);
    at_once.send(all);
    section.judge("all at once", Status(200), &mut at_once);
    let mut bare = H2::raw(section.address);
    bare.send(PREFACE);
    bare.frame(PING, 0, 0, [0; 8]);
    // The section has an error here; h2 does not insist, and nothing depends on it.
    section.judge("a PING before SETTINGS", Alive, &mut bare);
    section.end();
}

/// Sections 4.1 and 4.2, 5.5.
#[test]
fn format_and_sizes() {
    let mut s = Section::start();
    s.case("unknown kind", Alive, |h2| h2.frame(0x16, 0, 0, [0; 8]));
    s.case("unknown kind on a stream", Status(200), |h2| {
        h2.head(1, END_HEADERS, &request("POST", "/"));
        h2.frame(0x16, 0xff, 1, [0; 8]);
        h2.frame(DATA, END_STREAM, 1, b"a");
    });
    s.case("undefined flags", Alive, |h2| h2.frame(PING, 0x16, 0, [0; 8]));
    s.case("reserved bit", Alive, |h2| h2.frame(PING, 0, 1 << 31, [0; 8]));
    s.case("reserved bit of a stream", Status(200), |h2| {
        h2.frame(HEADERS, WHOLE, 1 | 1 << 31, get_block());
    });
    s.case("DATA of 16384 octets", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, END_STREAM, 1, [b'x'; 16384]);
    });
    s.case("DATA of 16385 octets", Connection(SIZE), |h2| {
        post(h2);
        h2.frame(DATA, END_STREAM, 1, [b'x'; 16385]);
    });
    s.case("HEADERS of 16385 octets", Connection(SIZE), |h2| {
        h2.frame(HEADERS, WHOLE, 1, [0; 16385]);
    });
    s.case("a frame of 2^24-1 octets", Connection(SIZE), |h2| {
        h2.send([0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]);
    });
    s.case("unknown kind inside a header block", Connection(PROTOCOL), |h2| {
        h2.frame(HEADERS, END_STREAM, 1, get_block());
        h2.frame(0x16, 0, 0, [0; 8]);
    });
    s.end();
}

/// Section 6.1.
#[test]
fn data() {
    let mut s = Section::start();
    s.case("one", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, END_STREAM, 1, b"test");
    });
    s.case("several", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, 0, 1, b"test");
        h2.frame(DATA, 0, 1, b"");
        h2.frame(DATA, END_STREAM, 1, b"test");
    });
    s.case("padded", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, END_STREAM | PADDED, 1, padded(6, b"test", 6));
    });
    s.case("nothing but padding", Status(200), |h2| {
        post(h2);
        h2.frame(DATA, END_STREAM | PADDED, 1, padded(255, b"", 255));
    });
    s.case("of stream 0", Connection(PROTOCOL), |h2| h2.frame(DATA, END_STREAM, 0, b"test"));
    for (name, payload) in [
        ("padding as long as the frame", padded(5, b"test", 0)),
        ("padding longer than the frame", padded(6, b"test", 0)),
        ("padding of 255 in one octet", vec![255]),
        ("no length of the padding", vec![]),
    ] {
        s.case(name, Connection(SIZE_OR_PROTOCOL), |h2| {
            post(h2);
            h2.frame(DATA, END_STREAM | PADDED, 1, payload);
        });
    }
    s.end();
}

/// Section 6.2 and 6.10, 4.3.
#[test]
fn headers_and_continuation() {
    let mut s = Section::start();
    let block = get_block();
    s.case("padded", Status(200), |h2| {
        h2.frame(HEADERS, WHOLE | PADDED, 1, padded(6, &block, 6));
    });
    s.case("with priority", Status(200), |h2| {
        h2.frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [&[0, 0, 0, 0, 255], &block[..]].concat());
    });
    s.case("padded, with priority", Status(200), |h2| {
        let payload = [&[3, 0x80, 0, 0, 0, 15][..], &block, &[0; 3]].concat();
        h2.frame(HEADERS, WHOLE | WITH_PRIORITY | PADDED, 1, payload);
    });
    let pieces = |h2: &mut H2, octets: usize| {
        let mut parts = block.chunks(octets).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let end = if kind == HEADERS { END_STREAM } else { 0 };
            h2.frame(kind, last | end, 1, part);
            kind = CONTINUATION;
        }
    };
    s.case("in one CONTINUATION", Status(200), |h2| pieces(h2, block.len() - 1));
    s.case("in several", Status(200), |h2| pieces(h2, block.len() / 4));
    s.case("the last one empty", Status(200), |h2| {
        h2.frame(HEADERS, END_STREAM, 1, &block);
        h2.frame(CONTINUATION, END_HEADERS, 1, []);
    });
    s.case("HEADERS of stream 0", Connection(PROTOCOL), |h2| h2.frame(HEADERS, WHOLE, 0, &block));
    s.case("padding too long", Connection(SIZE_OR_PROTOCOL), |h2| {
        let len = block.len() as u8 + 1;
        h2.frame(HEADERS, WHOLE | PADDED, 1, padded(len, &block, 0));
    });
    s.case("priority that is cut", Connection(SIZE_OR_PROTOCOL), |h2| {
        h2.frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0, 0, 0]);
    });
    let between: &[Act] = &[
        ("PRIORITY", |h2| h2.frame(PRIORITY, 0, 1, [0, 0, 0, 0, 255])),
        ("HEADERS of another stream", |h2| h2.get(3, "/")),
        ("DATA", |h2| h2.frame(DATA, END_STREAM, 1, b"x")),
        ("SETTINGS", |h2| h2.frame(SETTINGS, 0, 0, [])),
        ("PING", |h2| h2.frame(PING, 0, 0, [0; 8])),
        ("WINDOW_UPDATE", |h2| h2.frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])),
        ("CONTINUATION of another stream", |h2| h2.frame(CONTINUATION, END_HEADERS, 3, [])),
        ("CONTINUATION of stream 0", |h2| h2.frame(CONTINUATION, END_HEADERS, 0, [])),
    ];
    for (name, act) in between {
        s.case(&format!("{name} inside a header block"), Connection(PROTOCOL), |h2| {
            h2.frame(HEADERS, END_STREAM, 1, &block);
            act(h2);
        });
    }
    let after: &[ActOn] = &[
        ("HEADERS that ended", |h2, block| h2.frame(HEADERS, WHOLE, 1, block)),
        ("CONTINUATION that ended", |h2, block| {
            h2.frame(HEADERS, END_STREAM, 1, block);
            h2.frame(CONTINUATION, END_HEADERS, 1, []);
        }),
        ("DATA", |h2, block| {
            h2.frame(HEADERS, END_HEADERS, 1, block);
            h2.frame(DATA, 0, 1, b"x");
        }),
        ("nothing", |_, _| {}),
    ];
    for (name, act) in after {
        s.case(&format!("CONTINUATION after {name}"), Connection(PROTOCOL), |h2| {
            act(h2, &block);
            h2.frame(CONTINUATION, END_HEADERS, 1, []);
        });
    }
    s.end();
}

/// Sections 5.3, 6.3.
#[test]
fn priority() {
    let mut s = Section::start();
    for (name, payload) in [
        ("weight 1", [0, 0, 0, 0, 0]),
        ("weight 256", [0, 0, 0, 0, 255]),
        ("dependent", [0, 0, 0, 3, 15]),
        ("exclusive", [0x80, 0, 0, 3, 15]),
    ] {
        s.case(name, Status(200), |h2| {
            h2.frame(PRIORITY, 0, 1, payload);
            h2.get(1, "/");
        });
    }
    s.case("of an idle stream, then a lower one", Status(200), |h2| {
        h2.frame(PRIORITY, 0, 5, [0, 0, 0, 0, 255]);
        h2.get(1, "/");
    });
    s.case("half-closed", Status(200), |h2| {
        h2.get(1, "/");
        h2.frame(PRIORITY, 0, 1, [0, 0, 0, 0, 255]);
    });
    s.case("closed", Alive, |h2| {
        h2.fetch(1, "/");
        h2.frame(PRIORITY, 0, 1, [0, 0, 0, 0, 255]);
    });
    s.case("of stream 0", Connection(PROTOCOL), |h2| h2.frame(PRIORITY, 0, 0, [0, 0, 0, 0, 1]));
    for len in [0, 4, 6] {
        s.case(&format!("of {len} octets"), Stream(SIZE_OR_PROTOCOL), |h2| {
            h2.frame(PRIORITY, 0, 1, vec![0; len]);
        });
    }
    s.case("HEADERS that depend on themselves", Stream(PROTOCOL), |h2| {
        let payload = [&[0, 0, 0, 1, 255], &get_block()[..]].concat();
        h2.frame(HEADERS, WHOLE | WITH_PRIORITY, 1, payload);
    });
    s.case("PRIORITY that depends on itself", Stream(PROTOCOL), |h2| {
        h2.head(1, END_HEADERS, &request("POST", "/"));
        h2.frame(PRIORITY, 0, 1, [0, 0, 0, 1, 255]);
    });
    s.end();
}

/// Sections 6.4, 7.
#[test]
fn rst_stream() {
    let mut s = Section::start();
    s.case("of an open stream", Alive, |h2| {
        post(h2);
        h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    });
    s.case("an unknown code", Alive, |h2| {
        post(h2);
        h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 0xff]);
    });
    s.case("half-closed", Alive, |h2| {
        h2.get(1, "/hold");
        h2.frame(RST_STREAM, 0, 1, [0, 0, 0, 8]);
    });
    s.case("of stream 0", Connection(PROTOCOL), |h2| h2.frame(RST_STREAM, 0, 0, [0; 4]));
    s.case("idle", Connection(PROTOCOL), |h2| h2.frame(RST_STREAM, 0, 1, [0; 4]));
    for len in [0, 3, 5] {
        s.case(&format!("of {len} octets"), Connection(SIZE_OR_PROTOCOL), |h2| {
            post(h2);
            h2.frame(RST_STREAM, 0, 1, vec![0; len]);
        });
    }
    s.end();
}

/// Section 6.5.
#[test]
fn settings() {
    let mut s = Section::start();
    let entry = |id: u16, value: u32| settings_payload(&[(id, value)]);
    for (name, payload) in [
        ("none", vec![]),
        ("one", entry(3, 100)),
        ("unknown", entry(0xff, 1)),
        ("RFC 8441", entry(8, 1)),
        ("RFC 9218", entry(9, 1)),
        ("push off", entry(2, 0)),
        ("the largest window", entry(4, 0x7fff_ffff)),
        ("the smallest frame", entry(5, 16384)),
        ("the largest frame", entry(5, 16_777_215)),
        ("no table", entry(1, 0)),
        ("a huge table", entry(1, u32::MAX)),
        ("twice the same", [entry(4, 0), entry(4, 65535)].concat()),
    ] {
        s.case(name, Status(200), |h2| {
            h2.frame(SETTINGS, 0, 0, payload);
            h2.get(1, "/");
        });
    }
    s.case("are acknowledged", Alive, |h2| {
        assert!(h2.settled());
        h2.frame(SETTINGS, 0, 0, settings_payload(&[(3, 100)]));
        loop {
            match h2.event() {
                Event::SettingsAck => break,
                Event::Window { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    s.case("ACK with a payload", Connection(SIZE_OR_PROTOCOL), |h2| {
        h2.frame(SETTINGS, ACK, 0, settings_payload(&[(3, 1)]));
    });
    s.case("of a stream", Connection(PROTOCOL), |h2| h2.frame(SETTINGS, 0, 1, []));
    for len in [1, 5, 7] {
        s.case(&format!("of {len} octets"), Connection(SIZE_OR_PROTOCOL), |h2| {
            h2.frame(SETTINGS, 0, 0, vec![0; len]);
        });
    }
    s.case("push neither on nor off", Connection(PROTOCOL), |h2| {
        h2.frame(SETTINGS, 0, 0, settings_payload(&[(2, 2)]));
    });
    for window in [0x8000_0000, u32::MAX] {
        s.case("a window too large", Connection(&[FLOW_CONTROL_ERROR, PROTOCOL_ERROR]), |h2| {
            h2.frame(SETTINGS, 0, 0, settings_payload(&[(4, window)]));
        });
    }
    for size in [0, 16383, 16_777_216, u32::MAX] {
        s.case(&format!("frames of {size}"), Connection(PROTOCOL), |h2| {
            h2.frame(SETTINGS, 0, 0, settings_payload(&[(5, size)]));
        });
    }
    s.end();
}

/// Sections 6.7, 6.8.
#[test]
fn ping_and_goaway() {
    let mut s = Section::start();
    s.case("a PING is given back", Alive, |h2| {
        h2.frame(PING, 0, 0, b"h2strict");
        loop {
            if let Event::Ping { ack, octets } = h2.event() {
                assert_eq!((ack, &octets[..]), (true, &b"h2strict"[..]));
                return;
            }
        }
    });
    s.case("an ACK is not answered", Alive, |h2| {
        h2.patience = Duration::from_millis(300);
        h2.frame(PING, ACK, 0, b"h2strict");
        while let event @ (Event::Ping { .. } | Event::SettingsAck | Event::Window { .. }) =
            h2.event()
        {
            assert!(!matches!(event, Event::Ping { .. }));
        }
        h2.patience = Duration::from_secs(4);
    });
    s.case("PING of a stream", Connection(PROTOCOL), |h2| h2.frame(PING, 0, 1, [0; 8]));
    for len in [0, 6, 9] {
        s.case(&format!("PING of {len} octets"), Connection(SIZE_OR_PROTOCOL), |h2| {
            h2.frame(PING, 0, 0, vec![0; len]);
        });
    }
    s.case("GOAWAY of a stream", Connection(PROTOCOL), |h2| h2.frame(GOAWAY, 0, 1, [0; 8]));
    for len in [0, 7] {
        s.case(&format!("GOAWAY of {len} octets"), Connection(SIZE_OR_PROTOCOL), |h2| {
            h2.frame(GOAWAY, 0, 0, vec![0; len]);
        });
    }
    s.case("what is under way is answered after GOAWAY", Status(200), |h2| {
        h2.head(1, END_HEADERS, &request("POST", "/"));
        h2.frame(GOAWAY, 0, 0, [0; 8]);
        h2.frame(DATA, END_STREAM, 1, b"x");
    });
    s.case("GOAWAY names the last stream", Connection(PROTOCOL), |h2| {
        h2.fetch(1, "/");
        h2.fetch(3, "/");
        h2.frame(PING, 0, 1, [0; 8]);
        loop {
            match h2.event() {
                Event::GoAway { last, .. } => break assert_eq!(last, 3),
                Event::Closed | Event::Silence => panic!("no GOAWAY"),
                _ => {}
            }
        }
        // For the judge: again, from a connection that is told.
        *h2 = H2::open(h2.tcp.peer_addr().unwrap());
        h2.frame(PING, 0, 1, [0; 8]);
    });
    s.end();
}

/// Section 6.9; hazard H2-11.
#[test]
fn window_update() {
    let mut s = Section::start();
    let most = 0x7fff_ffffu32.to_be_bytes();
    s.case("of the connection", Status(200), |h2| {
        h2.frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]);
        h2.get(1, "/");
    });
    s.case("of a stream", Status(200), |h2| {
        post(h2);
        h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]);
        h2.frame(DATA, END_STREAM, 1, b"x");
    });
    s.case("half-closed", Status(200), |h2| {
        h2.get(1, "/");
        h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]);
    });
    s.case("zero, of the connection", Connection(PROTOCOL), |h2| {
        h2.frame(WINDOW_UPDATE, 0, 0, [0; 4]);
    });
    s.case("zero, of a stream", Stream(PROTOCOL), |h2| {
        post(h2);
        h2.frame(WINDOW_UPDATE, 0, 1, [0; 4]);
    });
    for len in [0, 3, 5] {
        s.case(&format!("of {len} octets"), Connection(SIZE_OR_PROTOCOL), |h2| {
            h2.frame(WINDOW_UPDATE, 0, 0, vec![0; len]);
        });
    }
    s.case("beyond 2^31-1, of the connection", Connection(&[FLOW_CONTROL_ERROR]), |h2| {
        h2.frame(WINDOW_UPDATE, 0, 0, most);
        h2.frame(WINDOW_UPDATE, 0, 0, most);
    });
    s.case("beyond 2^31-1, of a stream", Stream(&[FLOW_CONTROL_ERROR]), |h2| {
        h2.head(1, END_HEADERS, &request("POST", "/hold"));
        h2.frame(WINDOW_UPDATE, 0, 1, most);
        h2.frame(WINDOW_UPDATE, 0, 1, most);
    });
    s.case("beyond 2^31-1 by SETTINGS", Connection(&[FLOW_CONTROL_ERROR]), |h2| {
        h2.head(1, END_HEADERS, &request("POST", "/hold"));
        h2.frame(WINDOW_UPDATE, 0, 1, (0x7fff_ffffu32 - 65535).to_be_bytes());
        h2.frame(SETTINGS, 0, 0, settings_payload(&[(4, 65536)]));
    });
    s.end();
}

/// Section 6.9.1 and 6.9.2: windows are kept to, also negative ones.
#[test]
fn windows_bound_what_is_sent() {
    let s = Section::start();
    let data = |h2: &mut H2| loop {
        match h2.event() {
            Event::Data { octets, .. } => return octets.len(),
            Event::Silence | Event::Closed => return 0,
            _ => {}
        }
    };
    let open = |window| {
        let mut h2 = H2::open_with(s.address, &[(4, window)]);
        h2.refills = false;
        h2.patience = Duration::from_millis(400);
        h2.get(1, "/big");
        h2
    };
    let mut h2 = open(1);
    assert_eq!((data(&mut h2), data(&mut h2)), (1, 0));
    let mut h2 = open(0);
    assert_eq!(data(&mut h2), 0);
    h2.frame(SETTINGS, 0, 0, settings_payload(&[(4, 1)]));
    assert_eq!((data(&mut h2), data(&mut h2)), (1, 0));
    // Three were sent, two are allowed: the window is -1.
    let mut h2 = open(3);
    assert_eq!((data(&mut h2), data(&mut h2)), (3, 0));
    h2.frame(SETTINGS, 0, 0, settings_payload(&[(4, 2)]));
    h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]);
    assert_eq!(data(&mut h2), 0);
    h2.frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 2]);
    assert_eq!((data(&mut h2), data(&mut h2)), (2, 0));
    // The window of the connection, too.
    let mut h2 = open(1 << 20);
    let mut sum = 0;
    while let n @ 1.. = data(&mut h2) {
        sum += n;
    }
    assert_eq!(sum, 65535);
    h2.frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 7]);
    assert_eq!((data(&mut h2), data(&mut h2)), (7, 0));
    s.end();
}
