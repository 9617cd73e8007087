//! `[limits.http2]`: what one HTTP/2 connection may open, hold and repeat, before it is told to calm down.
//!
//! The defaults are those that the known floods stay below at a cost that is not felt, and that no browser, gRPC client or
//! load generator reaches. Called by `sections`; carried by the snapshot as it is.

use crate::config::item::{Table, set};
use crate::config::sections::count_or_none;
use crate::http::frames::Budgets;
use std::ops::RangeInclusive;

/// `[limits.http2]`: sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Streams that the peer may have open at the same time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams: u32,
    /// The window of each stream for what arrives (SETTINGS_INITIAL_WINDOW_SIZE).
    pub window: u32,
    /// The window of a whole connection for what arrives.
    pub connection_window: u32,
    /// A header list with 32 octets more for each field (SETTINGS_MAX_HEADER_LIST_SIZE).
    pub header_list: u32,
    /// What may wait on one stream to be sent.
    pub send_buffer: u32,
    /// Requests on one connection, then it is drained with GOAWAY; `None` for no limit.
    pub requests: Option<u64>,
    /// Streams that the client resets before their answer, in the life of a connection, beyond one of two that it let be
    /// answered.
    pub resets: u32,
    /// Streams that the client resets before their answer within a second.
    pub resets_per_second: u32,
    /// Streams that the client makes ringgate reset, in the life of a connection.
    pub local_resets: u32,
    /// CONTINUATION frames in one header block; fewer where [`Http2Limits::header_list`] needs no more.
    pub continuations: u32,
    /// Frames of each kind that carries no message, in ten seconds: PING, SETTINGS, PRIORITY, empty DATA, unknown ones.
    pub control_frames: u32,
}

impl Default for Http2Limits {
    fn default() -> Http2Limits {
        Http2Limits {
            streams: 100,
            window: 64 << 10,
            connection_window: 1 << 20,
            header_list: 32 << 10,
            send_buffer: 64 << 10,
            requests: Some(100_000),
            resets: 50,
            resets_per_second: 100,
            local_resets: 500,
            continuations: 20,
            control_frames: 500,
        }
    }
}

impl Http2Limits {
    /// What a connection may spend on frames.
    pub fn budgets(&self) -> Budgets {
        Budgets {
            continuations: self.continuations,
            // Compressed it is hardly ever larger than not, and a block that is too large is answered with 431.
            header_block: self.header_list.saturating_mul(2),
            control_frames: self.control_frames,
            resets: self.resets,
            resets_per_second: self.resets_per_second,
        }
    }
}

// What the largest header list is let have: h2 counts frames, too, and lets a list have those that it fills and a quarter more,
// but five in any case.
const CONTINUATIONS: u64 = (1 << 20) / (16 << 10) * 5 / 4;

/// Reads the table over what `limits` says.
pub(super) fn limits(table: &Table<'_>, limits: &mut Http2Limits) {
    let size = |key: &str, range| {
        let size = table.item(key).and_then(|item| item.size(range));
        size.and_then(|n| u32::try_from(n).ok())
    };
    let count = |key: &str, range| {
        let count = table.item(key).and_then(|item| item.integer(range));
        count.and_then(|n| u32::try_from(n).ok())
    };
    // A window below the protocol's first one (65,535 octets) could only be reached by taking back what was granted.
    const WINDOW: RangeInclusive<u64> = 64 << 10..=16 << 20;
    const MANY: RangeInclusive<u64> = 1..=1_000_000;
    set(&mut limits.streams, count("streams", 1..=10_000));
    set(&mut limits.window, size("window", WINDOW));
    set(&mut limits.connection_window, size("connection_window", WINDOW));
    set(&mut limits.header_list, size("header_list", 1 << 10..=1 << 20));
    set(&mut limits.send_buffer, size("send_buffer", 16 << 10..=16 << 20));
    set(&mut limits.requests, table.item("requests").and_then(|item| count_or_none(&item)));
    set(&mut limits.resets, count("resets", MANY));
    set(&mut limits.resets_per_second, count("resets_per_second", MANY));
    set(&mut limits.local_resets, count("local_resets", MANY));
    set(&mut limits.continuations, count("continuations", 1..=CONTINUATIONS));
    set(&mut limits.control_frames, count("control_frames", MANY));
}
