//! The gauge of HTTP/2 frames (hazards H2-05, H2-07, H2-09) against a plain reading of whole frames, and against itself
//! however the octets are cut.
//!
//! The input is what a client sends, from its preface on.

use super::split::splits;
use ringgate::base::tick::Tick;
use ringgate::http::frames::{Budgets, Excess, Gauge};

/// Small, so that inputs reach them.
const BUDGETS: Budgets = Budgets {
    continuations: 3,
    header_block: 64,
    control_frames: 4,
    resets: 2,
    resets_per_second: 3,
};

/// See the module's documentation.
pub fn frames(data: &[u8]) {
    let now = Tick::from_nanos(1);
    let mut whole = Gauge::of_client(now);
    let expected = whole.feed(data, now, &BUDGETS);
    assert_eq!(expected, reference(data), "{:?}", data.escape_ascii());
    for ends in splits(data) {
        let (mut gauge, mut at) = (Gauge::of_client(now), 0);
        let mut got = Ok(());
        for end in ends {
            got = got.and(gauge.feed(&data[at..end], now, &BUDGETS));
            at = end;
        }
        assert_eq!(got, expected, "{:?}", data.escape_ascii());
        if got.is_ok() {
            assert_eq!(gauge.open_since(), whole.open_since(), "{:?}", data.escape_ascii());
        }
    }
}

/// Frame by frame; a frame counts as soon as its header is there, padding as soon as its length is.
fn reference(data: &[u8]) -> Result<(), Excess> {
    let mut rest = data.get(24..).unwrap_or_default();
    let (mut pings, mut settings, mut priorities, mut empty) = (0, 0, 0, 0);
    let (mut updates, mut unknown, mut resets, mut heads) = (0, 0, 0, 0);
    let (mut continuations, mut block) = (0, 0);
    let check = |fine: bool, excess| if fine { Ok(()) } else { Err(excess) };
    while rest.len() >= 9 {
        let len = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        let (kind, flags, payload) = (rest[3], rest[4], &rest[9..]);
        match kind {
            0 if flags & 1 == 0 => {
                let padding = if flags & 8 != 0 { payload.first() } else { None };
                let hollow = len > 0 && padding.is_some_and(|n| usize::from(*n) + 1 >= len);
                empty += usize::from(len == 0 || hollow);
                check(empty <= 4, Excess::EmptyData)?;
            }
            1 | 5 => {
                heads += 1;
                (continuations, block) = (0, len);
                check(block <= 64, Excess::HeaderBlock)?;
            }
            2 => {
                priorities += 1;
                check(priorities <= 4 + 2 * heads, Excess::Priorities)?;
            }
            3 => {
                resets += 1;
                check(resets <= 3, Excess::Resets)?;
            }
            4 => {
                settings += 1 + len / 60;
                check(settings <= 4, Excess::Settings)?;
            }
            6 => {
                pings += 1;
                check(pings <= 4 + heads, Excess::Pings)?;
            }
            8 => {
                updates += 1;
                check(updates <= 4 + 2 * heads, Excess::WindowUpdates)?;
            }
            9 => {
                continuations += 1;
                block += len;
                check(continuations <= 3, Excess::Continuations)?;
                check(block <= 64, Excess::HeaderBlock)?;
            }
            10.. => {
                unknown += 1;
                check(unknown <= 4 + 2 * heads, Excess::Unknown)?;
            }
            _ => {}
        }
        rest = payload.get(len..).unwrap_or_default();
    }
    Ok(())
}
