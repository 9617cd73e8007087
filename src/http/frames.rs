//! A gauge on what a peer sends over an HTTP/2 connection: what each kind of frame may cost, before it is paid.
//!
//! It follows the headers of frames (RFC 9113 section 4.1) in whatever pieces they arrive, and counts what carries no
//! message: CONTINUATION, PING, SETTINGS, PRIORITY, empty DATA, WINDOW_UPDATE, RST_STREAM, unknown kinds. It judges no
//! frame: that is the work of h2, which the same octets go to. Some ways of keeping a connection busy are paid for by what
//! was asked and sent: a client that downloads may open windows, one that measures its path may ping. Called by who reads
//! connections; an [`Excess`] is answered with GOAWAY ENHANCE_YOUR_CALM. On the way it notes the one thing that h2 does not
//! say of the messages: whose trailers had pseudo-header fields.

use crate::base::tick::Tick;
use crate::http::field_block::Blocks;
use std::time::Duration;

/// What one connection may spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// CONTINUATION frames of one header block.
    pub continuations: u32,
    /// Octets of one header block as they arrive, compressed.
    pub header_block: u32,
    /// Frames of each kind without a message in [`WINDOW`].
    pub control_frames: u32,
    /// Streams reset before their answer, in the connection's life, beyond half of those answered.
    pub resets: u32,
    /// Streams reset before their answer within a second.
    pub resets_per_second: u32,
}

impl Budgets {
    /// For who is trusted with its own frames.
    pub const UNLIMITED: Budgets = Budgets {
        continuations: u32::MAX,
        header_block: u32::MAX,
        control_frames: u32::MAX,
        resets: u32::MAX,
        resets_per_second: u32::MAX,
    };
}

/// What was spent beyond a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the budget of that name")]
pub enum Excess {
    Continuations,
    HeaderBlock,
    Pings,
    Settings,
    Priorities,
    EmptyData,
    WindowUpdates,
    Resets,
    Unknown,
}

impl Excess {
    /// All of them.
    pub const ALL: &'static [Excess] = &[
        Excess::Continuations,
        Excess::HeaderBlock,
        Excess::Pings,
        Excess::Settings,
        Excess::Priorities,
        Excess::EmptyData,
        Excess::WindowUpdates,
        Excess::Resets,
        Excess::Unknown,
    ];

    /// The stable name, for logs, metrics and the debug data of GOAWAY.
    pub fn code(self) -> &'static str {
        match self {
            Excess::Continuations => "too_many_continuations",
            Excess::HeaderBlock => "header_block_too_large",
            Excess::Pings => "too_many_pings",
            Excess::Settings => "too_many_settings",
            Excess::Priorities => "too_many_priorities",
            Excess::EmptyData => "too_much_empty_data",
            Excess::WindowUpdates => "too_many_window_updates",
            Excess::Resets => "too_many_resets",
            Excess::Unknown => "too_many_unknown_frames",
        }
    }
}

/// The time after which what was spent on frames without a message is forgotten.
pub const WINDOW: Duration = Duration::from_secs(10);

/// Octets of the preface that a client begins with (RFC 9113 section 3.4).
const PREFACE: u32 = 24;
const HEADER: usize = 9;
/// One WINDOW_UPDATE is paid for by so many octets sent: two for the smallest DATA frame that says anything.
const OCTETS_A_UPDATE: u64 = 16;
/// One PING: clients that estimate their bandwidth send one for the data that they read in a round trip. Where that is short it
/// is one for each message of a call: a frame of five octets beside gRPC's five, and the answer to the PING before. Of such
/// answers alone not even two, those of two windows, pay for a PING.
const OCTETS_A_PING: u64 = 36;

/// The gauge of one connection.
#[derive(Clone, Debug)]
pub struct Gauge {
    // The header of a frame that has arrived in part.
    partial: [u8; HEADER],
    have: u8,
    // Octets left of the payload, or of the preface.
    left: u32,
    // The next octet is the length of a DATA frame's padding, of so many octets in all.
    padded: Option<u32>,
    // Inside a header block: END_HEADERS has not come.
    in_block: bool,
    continuations: u32,
    block: u32,
    fragment: Fragment,
    blocks: Blocks,
    // The stream of the current header block, and whether that block may be a trailer section.
    stream: u32,
    late: bool,
    // The highest stream of which a head has come; the highest there is where trailers are not told from heads.
    highest: u32,
    // Streams of which a section that may be trailers had pseudo-header fields: the last of them, in a ring.
    flawed: Vec<u32>,
    flaws: usize,
    // Since when something is begun and not complete: the preface, a frame that is not DATA, a header block.
    open: Option<Tick>,
    kind: Kind,
    excess: Option<Excess>,
    spent: Spent,
    second: Second,
    life: Life,
}

// What is left of the payload of a HEADERS or CONTINUATION frame.
#[derive(Clone, Copy, Debug, Default)]
struct Fragment {
    // The next octet is the length of the padding.
    padded: bool,
    // Octets of the deprecated priority fields.
    priority: u32,
    // Octets of the field block fragment.
    octets: u32,
}

// Of the current window.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    began: Tick,
    pings: u32,
    settings: u32,
    priorities: u32,
    empty_data: u32,
    window_updates: u32,
    unknown: u32,
    // What pays: of this window and the one before, since what was sent then is acknowledged now.
    earned: [Earned; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Earned {
    heads: u64,
    sent: u64,
}

// Of the current second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    began: Tick,
    resets: u32,
    cancelled: u32,
    answered: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Life {
    cancelled: u32,
    answered: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Preface,
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Streams that are remembered in [`Gauge::flawed`]: those whose trailers were not read yet.
const FLAWED: usize = 64;

impl Gauge {
    /// For a connection from a client, which begins with the preface.
    pub fn of_client(now: Tick) -> Gauge {
        Gauge {
            left: PREFACE,
            kind: Kind::Preface,
            open: Some(now),
            highest: 0,
            ..Gauge::of_server(now)
        }
    }

    /// For a connection to a server, which begins with a frame.
    pub fn of_server(now: Tick) -> Gauge {
        Gauge {
            partial: [0; HEADER],
            have: 0,
            left: 0,
            padded: None,
            in_block: false,
            continuations: 0,
            block: 0,
            fragment: Fragment::default(),
            blocks: Blocks::default(),
            stream: 0,
            late: false,
            highest: u32::MAX,
            flawed: Vec::new(),
            flaws: 0,
            open: None,
            kind: Kind::Unknown,
            excess: None,
            spent: Spent { began: now, ..Spent::default() },
            second: Second { began: now, ..Second::default() },
            life: Life::default(),
        }
    }

    /// Looks at `octets`, the next that have arrived.
    ///
    /// # Errors
    /// The first [`Excess`], and from then on always.
    #[inline]
    pub fn feed(&mut self, octets: &[u8], now: Tick, budgets: &Budgets) -> Result<(), Excess> {
        if let Some(excess) = self.excess {
            return Err(excess);
        }
        self.forget(now);
        let result = self.follow(octets, now, budgets);
        self.excess = result.err();
        result
    }

    /// So many octets of frames were sent to the peer: they pay for its WINDOW_UPDATE and PING.
    #[inline]
    pub fn sent(&mut self, octets: usize) {
        let [now, _] = &mut self.spent.earned;
        now.sent += octets as u64;
    }

    /// An answer was sent to its end.
    pub fn answered(&mut self) {
        self.second.answered = self.second.answered.saturating_add(1);
        self.life.answered = self.life.answered.saturating_add(1);
    }

    /// The peer reset a stream before its answer had begun (rapid reset, CVE-2023-44487).
    ///
    /// # Errors
    /// [`Excess::Resets`], if that was one too many.
    pub fn cancelled(&mut self, now: Tick, budgets: &Budgets) -> Result<(), Excess> {
        self.forget(now);
        self.second.cancelled = self.second.cancelled.saturating_add(1);
        self.life.cancelled = self.life.cancelled.saturating_add(1);
        let allowed = budgets.resets.saturating_add(self.life.answered / 2);
        if self.life.cancelled > allowed || self.second.cancelled > budgets.resets_per_second {
            self.excess = Some(Excess::Resets);
        }
        self.excess.map_or(Ok(()), Err)
    }

    /// Since when the preface, a header block or a frame other than DATA has been begun and is not complete. It has the
    /// time that an HTTP/1.1 head has.
    pub fn open_since(&self) -> Option<Tick> {
        self.open
    }

    /// Whether the trailers of `stream`, which has some, had pseudo-header fields among them (RFC 9113 section 8.1).
    pub fn is_flawed(&self, stream: u32) -> bool {
        self.flawed.contains(&stream)
    }

    fn forget(&mut self, now: Tick) {
        if now.since(self.spent.began) >= WINDOW {
            let [last, _] = self.spent.earned;
            let earned = [Earned::default(), last];
            self.spent = Spent { began: now, earned, ..Spent::default() };
        }
        if now.since(self.second.began) >= Duration::from_secs(1) {
            self.second = Second { began: now, ..Second::default() };
        }
    }

    fn follow(&mut self, octets: &[u8], now: Tick, budgets: &Budgets) -> Result<(), Excess> {
        let mut rest = octets;
        loop {
            rest = self.skip(rest, budgets)?;
            if self.left > 0 {
                return Ok(());
            }
            if let (0, Some((header, after))) = (self.have, rest.split_first_chunk::<HEADER>()) {
                rest = after;
                self.begin(*header, now, budgets)?;
                continue;
            }
            // What is there of a header that is cut.
            if rest.is_empty() {
                return Ok(());
            }
            self.open.get_or_insert(now);
            let have = usize::from(self.have);
            let (taken, after) = rest.split_at(rest.len().min(HEADER - have));
            if let Some(slot) = self.partial.get_mut(have..have + taken.len()) {
                slot.copy_from_slice(taken);
            }
            rest = after;
            self.have += taken.len() as u8;
            if usize::from(self.have) < HEADER {
                return Ok(());
            }
            self.have = 0;
            self.begin(self.partial, now, budgets)?;
        }
    }

    // Goes over the payload, as far as it is there.
    #[inline]
    fn skip<'o>(&mut self, octets: &'o [u8], budgets: &Budgets) -> Result<&'o [u8], Excess> {
        if self.left == 0 {
            return Ok(octets);
        }
        if let (Some(len), Some(padding)) = (self.padded, octets.first()) {
            self.padded = None;
            if u32::from(*padding) + 1 >= len {
                self.spend_empty(budgets)?;
            }
        }
        let there = u32::try_from(octets.len()).unwrap_or(u32::MAX).min(self.left);
        let (payload, after) = octets.split_at(there as usize);
        if matches!(self.kind, Kind::Headers | Kind::Continuation) {
            self.read_block(payload);
        }
        self.left -= there;
        if self.left == 0 {
            self.complete();
        }
        Ok(after)
    }

    // The next octets of a HEADERS or CONTINUATION frame (RFC 9113 sections 6.2 and 6.10).
    #[inline]
    fn read_block(&mut self, payload: &[u8]) {
        let fragment = &mut self.fragment;
        let mut payload = payload;
        if fragment.padded
            && let [padding, after @ ..] = payload
        {
            fragment.padded = false;
            fragment.octets = fragment.octets.saturating_sub(u32::from(*padding));
            payload = after;
        }
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let before = fragment.priority.min(len);
        fragment.priority -= before;
        let octets = fragment.octets.min(len - before);
        fragment.octets -= octets;
        let (before, octets) = (before as usize, octets as usize);
        self.blocks.feed(payload.get(before..before + octets).unwrap_or_default());
    }

    fn begin_block(&mut self, stream: u32, len: u32, flags: u8) {
        let padded = flags & PADDED != 0;
        let priority = if flags & PRIORITY != 0 { 5 } else { 0 };
        let octets = len.saturating_sub(priority + u32::from(padded));
        self.fragment = Fragment { padded, priority, octets };
        self.stream = stream;
        self.late = flags & END_STREAM != 0 && stream <= self.highest;
        self.highest = self.highest.max(stream);
    }

    // Whether there are pseudo-header fields in it matters in trailers only.
    #[inline]
    fn end_block(&mut self) {
        if !self.blocks.end() || !self.late {
            return;
        }
        match self.flawed.get_mut(self.flaws % FLAWED) {
            Some(oldest) => *oldest = self.stream,
            None => self.flawed.push(self.stream),
        }
        self.flaws += 1;
    }

    #[inline]
    fn complete(&mut self) {
        if !self.in_block {
            self.open = None;
            if matches!(self.kind, Kind::Headers | Kind::Continuation) {
                self.end_block();
            }
        }
    }

    // A frame begins: counts it.
    #[inline]
    fn begin(&mut self, header: [u8; HEADER], now: Tick, budgets: &Budgets) -> Result<(), Excess> {
        let [a, b, c, kind, flags, stream @ ..] = header;
        let len = u32::from_be_bytes([0, a, b, c]);
        self.kind = Kind::of(kind);
        self.left = len;
        match self.kind {
            Kind::Headers => {
                self.begin_block(u32::from_be_bytes(stream) & 0x7fff_ffff, len, flags);
            }
            Kind::Continuation => {
                self.fragment = Fragment { octets: len, ..Fragment::default() };
            }
            _ => {}
        }
        if self.kind == Kind::Data {
            self.open = if self.in_block { self.open } else { None };
            if flags & END_STREAM == 0 {
                if len == 0 {
                    self.spend_empty(budgets)?;
                } else if flags & PADDED != 0 {
                    self.padded = Some(len);
                }
            }
        } else {
            self.open.get_or_insert(now);
            self.count(len, flags, budgets)?;
        }
        if len == 0 {
            self.complete();
        }
        Ok(())
    }

    fn count(&mut self, len: u32, flags: u8, budgets: &Budgets) -> Result<(), Excess> {
        let base = u64::from(budgets.control_frames);
        let spent = &mut self.spent;
        let [this, before] = &mut spent.earned;
        let (heads, sent) = (this.heads + before.heads, this.sent + before.sent);
        let (count, cost, allowed, excess) = match self.kind {
            Kind::Headers | Kind::PushPromise => {
                this.heads += 1;
                (self.continuations, self.block) = (0, len);
                self.in_block = flags & END_HEADERS == 0;
                return within(len, budgets.header_block, Excess::HeaderBlock);
            }
            Kind::Continuation => {
                self.continuations = self.continuations.saturating_add(1);
                self.block = self.block.saturating_add(len);
                self.in_block &= flags & END_HEADERS == 0;
                within(self.continuations, budgets.continuations, Excess::Continuations)?;
                return within(self.block, budgets.header_block, Excess::HeaderBlock);
            }
            Kind::Reset => {
                // Whether the stream was answered is not known here; who answered it says how many may be.
                self.second.resets = self.second.resets.saturating_add(1);
                let allowed = budgets.resets_per_second.saturating_add(self.second.answered);
                return within(self.second.resets, allowed, Excess::Resets);
            }
            Kind::Ping => {
                let paid = sent / OCTETS_A_PING + heads;
                (&mut spent.pings, 1, base + paid, Excess::Pings)
            }
            // Every ten entries are one frame more.
            Kind::Settings => (&mut spent.settings, 1 + len / 60, base, Excess::Settings),
            // Browsers send one or two with each request (RFC 9218 section 7: PRIORITY_UPDATE is of a kind that h2 does not know).
            Kind::Priority => (&mut spent.priorities, 1, base + 2 * heads, Excess::Priorities),
            Kind::Unknown => (&mut spent.unknown, 1, base + 2 * heads, Excess::Unknown),
            Kind::WindowUpdate => {
                let paid = sent / OCTETS_A_UPDATE + 2 * heads;
                (&mut spent.window_updates, 1, base + paid, Excess::WindowUpdates)
            }
            Kind::Data | Kind::GoAway | Kind::Preface => return Ok(()),
        };
        *count = count.saturating_add(cost);
        if u64::from(*count) > allowed { Err(excess) } else { Ok(()) }
    }

    fn spend_empty(&mut self, budgets: &Budgets) -> Result<(), Excess> {
        self.spent.empty_data = self.spent.empty_data.saturating_add(1);
        within(self.spent.empty_data, budgets.control_frames, Excess::EmptyData)
    }
}

fn within(spent: u32, allowed: u32, excess: Excess) -> Result<(), Excess> {
    if spent > allowed { Err(excess) } else { Ok(()) }
}

impl Kind {
    fn of(octet: u8) -> Kind {
        match octet {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
