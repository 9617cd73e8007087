//! Tables of frames, each however it is cut.

use super::*;

const BUDGETS: Budgets = Budgets {
    continuations: 3,
    header_block: 100,
    control_frames: 4,
    resets: 2,
    resets_per_second: 5,
};

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let mut out = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
    out.extend_from_slice(payload);
    out
}

fn at(seconds: u64) -> Tick {
    Tick::ZERO.after(Duration::from_secs(seconds))
}

/// `frames` after the preface, whole and cut everywhere.
fn check(frames: &[Vec<u8>], expected: Result<(), Excess>) {
    let octets = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frames.concat()].concat();
    let mut whole = Gauge::of_client(at(1));
    assert_eq!(whole.feed(&octets, at(1), &BUDGETS), expected, "{frames:?}");
    for cut in 0..=octets.len() {
        let mut gauge = Gauge::of_client(at(1));
        let (first, second) = octets.split_at(cut);
        let got =
            gauge.feed(first, at(1), &BUDGETS).and_then(|()| gauge.feed(second, at(1), &BUDGETS));
        assert_eq!(got, expected, "cut at {cut}");
        assert_eq!(gauge.open_since(), whole.open_since(), "cut at {cut}");
    }
    let mut slow = Gauge::of_client(at(1));
    let got = octets.iter().try_for_each(|b| slow.feed(&[*b], at(1), &BUDGETS));
    assert_eq!(got, expected, "octet by octet");
    assert_eq!(slow.feed(&[], at(1), &BUDGETS), expected, "it stays");
}

/// As many as are allowed pass, one more does not.
fn bounded(one: &[u8], allowed: usize, excess: Excess) {
    check(&vec![one.to_vec(); allowed], Ok(()));
    check(&vec![one.to_vec(); allowed + 1], Err(excess));
}

/// H2-07.
#[test]
fn bounds_header_blocks() {
    let head = frame(1, 0, b"x");
    let more = frame(9, 0, b"y");
    let last = frame(9, END_HEADERS, b"z");
    let block = |n: usize| [vec![head.clone()], vec![more.clone(); n], vec![last.clone()]].concat();
    check(&block(2), Ok(()));
    check(&[block(2), block(2)].concat(), Ok(()));
    check(&block(3), Err(Excess::Continuations));
    check(&[vec![head.clone()], vec![frame(9, 0, b""); 4]].concat(), Err(Excess::Continuations));
    check(&[frame(1, END_HEADERS, &[0; 101])], Err(Excess::HeaderBlock));
    check(&[frame(1, 0, &[0; 60]), frame(9, 0, &[0; 41])], Err(Excess::HeaderBlock));
    check(&[frame(1, 0, &[0; 60]), frame(9, END_HEADERS, &[0; 40])], Ok(()));
}

/// H2-09.
#[test]
fn bounds_frames_without_a_message() {
    bounded(&frame(6, 0, &[0; 8]), 4, Excess::Pings);
    bounded(&frame(6, 1, &[0; 8]), 4, Excess::Pings);
    bounded(&frame(4, 0, &[]), 4, Excess::Settings);
    bounded(&frame(4, 0, &[0; 60]), 2, Excess::Settings);
    bounded(&frame(2, 0, &[0; 5]), 4, Excess::Priorities);
    bounded(&frame(8, 0, &[0; 4]), 4, Excess::WindowUpdates);
    bounded(&frame(0x10, 0, b"abc"), 4, Excess::Unknown);
    bounded(&frame(0xff, 0, b""), 4, Excess::Unknown);
    bounded(&frame(3, 0, &[0; 4]), 5, Excess::Resets);
    bounded(&frame(0, 0, b""), 4, Excess::EmptyData);
    bounded(&frame(0, PADDED, b"\x00"), 4, Excess::EmptyData);
    bounded(&frame(0, PADDED, b"\x03\0\0\0"), 4, Excess::EmptyData);
    bounded(&frame(0, PADDED, b"\xff"), 4, Excess::EmptyData);
    // Nothing of these is without a message.
    for fine in [
        frame(0, END_STREAM, b""),
        frame(0, END_STREAM | PADDED, b"\x00"),
        frame(0, PADDED, b"\x02a\0\0"),
        frame(0, 0, b"a"),
        frame(1, END_HEADERS, b"x"),
        frame(7, 0, &[0; 8]),
    ] {
        check(&vec![fine; 20], Ok(()));
    }
}

#[test]
fn what_is_asked_and_sent_pays_for_what_comes() {
    let heads = vec![frame(1, END_HEADERS, b"x"); 10];
    check(&[heads.clone(), vec![frame(2, 0, &[0; 5]); 24]].concat(), Ok(()));
    check(&[heads, vec![frame(2, 0, &[0; 5]); 25]].concat(), Err(Excess::Priorities));
    let mut gauge = Gauge::of_server(at(1));
    gauge.sent(1600);
    let updates = vec![frame(8, 0, &[0; 4]); 104].concat();
    assert_eq!(gauge.feed(&updates, at(2), &BUDGETS), Ok(()));
    let pings = vec![frame(6, 0, &[0; 8]); 48].concat();
    assert_eq!(gauge.feed(&pings, at(2), &BUDGETS), Ok(()));
    assert_eq!(gauge.feed(&frame(8, 0, &[0; 4]), at(2), &BUDGETS), Err(Excess::WindowUpdates));
}

#[test]
fn a_ping_for_each_short_message_is_paid_for_and_one_for_each_answer_is_not() {
    let ping = frame(6, 0, &[0; 8]);
    let message = 9 + 5 + 5;
    for (sent, fine) in [(message, true), (0, false)] {
        let mut gauge = Gauge::of_server(at(1));
        let mut send = |seconds| {
            gauge.sent(sent);
            let seen = gauge.feed(&ping, at(seconds), &BUDGETS);
            gauge.sent(ping.len());
            seen
        };
        let seen = (1..1000).map(|n| send(1 + n / 50)).find(Result::is_err);
        assert_eq!(seen, (!fine).then_some(Err(Excess::Pings)));
    }
}

#[test]
fn what_was_sent_pays_until_the_end_of_the_next_window() {
    let mut gauge = Gauge::of_server(at(1));
    gauge.sent(1600);
    let updates = vec![frame(8, 0, &[0; 4]); 104].concat();
    assert_eq!(gauge.feed(&updates, at(11), &BUDGETS), Ok(()));
    assert_eq!(gauge.feed(&updates, at(21), &BUDGETS), Err(Excess::WindowUpdates));
}

#[test]
fn what_was_spent_is_forgotten_after_a_while() {
    let mut gauge = Gauge::of_server(at(1));
    let pings = vec![frame(6, 0, &[0; 8]); 4].concat();
    for seconds in [1, 11, 21] {
        assert_eq!(gauge.feed(&pings, at(seconds), &BUDGETS), Ok(()));
    }
    assert_eq!(gauge.feed(&pings, at(30), &BUDGETS), Err(Excess::Pings));
    assert_eq!(gauge.feed(&[], at(60), &BUDGETS), Err(Excess::Pings));
}

/// H2-05.
#[test]
fn bounds_cancelled_requests() {
    let mut gauge = Gauge::of_client(at(1));
    assert_eq!(gauge.cancelled(at(1), &BUDGETS), Ok(()));
    assert_eq!(gauge.cancelled(at(100), &BUDGETS), Ok(()));
    gauge.answered();
    gauge.answered();
    assert_eq!(gauge.cancelled(at(200), &BUDGETS), Ok(()));
    assert_eq!(gauge.cancelled(at(300), &BUDGETS), Err(Excess::Resets));
    assert_eq!(gauge.feed(&[], at(300), &BUDGETS), Err(Excess::Resets));
    let mut gauge = Gauge::of_client(at(1));
    (0..100).for_each(|_| gauge.answered());
    for _ in 0..5 {
        assert_eq!(gauge.cancelled(at(2), &BUDGETS), Ok(()));
    }
    assert_eq!(gauge.cancelled(at(2), &BUDGETS), Err(Excess::Resets));
    // Frames alone are bounded by the second, and by what was answered in it.
    let mut gauge = Gauge::of_server(at(1));
    (0..7).for_each(|_| gauge.answered());
    let resets = vec![frame(3, 0, &[0; 4]); 12].concat();
    assert_eq!(gauge.feed(&resets, at(1), &BUDGETS), Ok(()));
    assert_eq!(gauge.feed(&frame(3, 0, &[0; 4]), at(1), &BUDGETS), Err(Excess::Resets));
}

#[test]
fn knows_since_when_something_is_incomplete() {
    let mut gauge = Gauge::of_client(at(1));
    let mut feed = |octets: &[u8], seconds| {
        gauge.feed(octets, at(seconds), &BUDGETS).unwrap();
        gauge.open_since()
    };
    assert_eq!(feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", 2), Some(at(1)));
    assert_eq!(feed(b"\n", 3), None);
    assert_eq!(feed(&frame(4, 0, b""), 4), None);
    let head = frame(1, 0, b"abc");
    assert_eq!(feed(&head[..1], 5), Some(at(5)));
    assert_eq!(feed(&head[1..10], 6), Some(at(5)));
    assert_eq!(feed(&head[10..], 7), Some(at(5)));
    assert_eq!(feed(&frame(9, 0, b""), 8), Some(at(5)));
    assert_eq!(feed(&frame(9, END_HEADERS, b"d"), 9), None);
    // A body has deadlines of its own.
    let data = frame(0, 0, b"abc");
    assert_eq!(feed(&data[..9], 10), None);
    assert_eq!(feed(&data[9..], 11), None);
    assert_eq!(feed(&data[..8], 12), Some(at(12)));
    assert_eq!(feed(&data[8..11], 13), None);
    assert_eq!(feed(&data[11..], 14), None);
    assert_eq!(feed(&frame(6, 0, &[0; 8])[..16], 15), Some(at(15)));
}

#[test]
fn codes_are_unique() {
    let mut codes: Vec<_> = Excess::ALL.iter().map(|excess| excess.code()).collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), Excess::ALL.len());
}

/// RFC 9113 section 8.1: what h2 takes out of trailers is noted here, however it arrives.
#[test]
fn notes_pseudo_header_fields_in_trailers() {
    let of = |stream: u8, kind: u8, flags: u8, payload: &[u8]| {
        let mut frame = frame(kind, flags, payload);
        frame[8] = stream;
        frame
    };
    let end = END_HEADERS | END_STREAM;
    let octets = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        of(1, 1, END_HEADERS, b"\x82\x84"),
        of(3, 1, end, b"\x82\x84"),
        of(5, 1, END_HEADERS | PADDED | PRIORITY, b"\x02\0\0\0\0\x07\x83\x84\x82\x82"),
        of(1, 0, 0, b"\x82\x84"),
        of(1, 1, end, b"\x82"),
        of(5, 1, end | PADDED, b"\x02\x90\x82\x82"),
        of(7, 1, 0, b"\x82"),
        of(7, 9, END_HEADERS, b"\x84"),
        of(7, 1, END_STREAM | PADDED | PRIORITY, b"\x01\0\0\0\0\x07\x82"),
        of(7, 9, 0, b"\x00\x05"),
        of(7, 9, END_HEADERS, b":path\x00"),
    ]
    .concat();
    for size in 1..octets.len() {
        let mut gauge = Gauge::of_client(at(1));
        for part in octets.chunks(size) {
            gauge.feed(part, at(1), &Budgets::UNLIMITED).unwrap();
        }
        let flawed: Vec<u32> = (0..9).filter(|stream| gauge.is_flawed(*stream)).collect();
        assert_eq!(flawed, [1, 7], "in pieces of {size}");
    }
    // Of a server heads are not told from trailers here: who reads the trailers knows. The last of them are remembered.
    let mut gauge = Gauge::of_server(at(1));
    for stream in 1..=100 {
        gauge.feed(&of(stream, 1, end, b"\x88"), at(1), &Budgets::UNLIMITED).unwrap();
    }
    assert_eq!((1..=100).filter(|stream| gauge.is_flawed(*stream)).count(), FLAWED);
    assert!(gauge.is_flawed(100) && !gauge.is_flawed(36));
}
