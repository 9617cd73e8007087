//! What targets answer: well, slowly, in pieces, wrongly, too much, unasked, or not at all.

use crate::ledger::Exchange;
use crate::request::EVIL;
use crate::wire;
use fastrand::Rng;
use std::collections::VecDeque;

/// One thing that a target does before the next.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Vec<u8>),
    /// Writes in one go what there is room for; less than so many octets are no answer, and the connection ends.
    Once(Vec<u8>, usize),
    /// Nanoseconds.
    Wait(u64),
    /// The answer with this serial has been written whole.
    Whole(usize),
    /// Writes without having been asked.
    Unasked(Vec<u8>),
    /// Nothing more, ever.
    Forever,
    Fin,
    Reset,
}

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// How a target serves one request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$kind,)*];

            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    Length "answer with a length",
    Chunked "answer in chunks",
    UntilClose "answer until it closes",
    Empty "answer without a body",
    Http10 "answer in HTTP/1.0",
    SaysClose "answer and say close",
    ClosesAfter "answer and close unannounced",
    ResetsLater "answer and reset while idle",
    Slow "answer slowly",
    Late "answer too late",
    Never "never answer",
    Stalls "stall in the body",
    TruncatedHead "close in the head",
    TruncatedFin "close in the body",
    TruncatedReset "reset in the body",
    ResetInClose "reset an answer that a close would end",
    ClosesBefore "close before it answers",
    ResetsBefore "reset before it answers",
    Garbage "send garbage",
    HugeHead "send a huge head",
    ManyFields "send too many fields",
    BareLf "send a bare LF",
    BothLengths "frame it twice",
    BadLength "send a length that is none",
    BadChunk "send a chunk that is none",
    Extra "send octets after the answer",
    BodyWhereNone "send a body where none may be",
    Unasked "speak while idle",
    Early "answer before the body",
    EarlyClose "answer before the body and close",
    EarlyReset "reset in the request's body",
    Interim "send interim answers",
    InterimFlood "send too many interim answers",
    Upgrade "switch protocols",
    Deaf "stop reading",
}

/// How a target serves that has no trouble.
pub const GOOD: [Kind; 9] = [
    Kind::Length,
    Kind::Length,
    Kind::Length,
    Kind::Chunked,
    Kind::Chunked,
    Kind::UntilClose,
    Kind::Empty,
    Kind::SaysClose,
    Kind::Interim,
];

impl Kind {
    /// Whether it acts on the head, without waiting for the body.
    pub fn is_early(self) -> bool {
        matches!(self, Kind::Early | Kind::EarlyClose | Kind::EarlyReset)
    }
}

// Octets of ringgate's blocks: after so many a read ends, and cannot tell whether there are more.
const BLOCKS: [usize; 3] = [0, 16 << 10, 64 << 10];

const MS: u64 = 1_000_000;

// An answer in the making.
struct Answer<'a> {
    serial: usize,
    status: u16,
    body: Vec<u8>,
    silent: bool,
    fields: &'a str,
}

impl Answer<'_> {
    fn head(&self, version: &str, framing: &str) -> Vec<u8> {
        let Answer { serial, status, fields, .. } = self;
        let head =
            format!("{version} {status} Fine\r\nx-exchange: {serial}\r\n{fields}{framing}\r\n");
        head.into_bytes()
    }

    fn sized(&self) -> Vec<u8> {
        let mut out = self.head("HTTP/1.1", &format!("content-length: {}\r\n", self.body.len()));
        self.add_body(&mut out);
        out
    }

    fn chunked(&self, rng: &mut Rng) -> Vec<u8> {
        let mut out = self.head("HTTP/1.1", "transfer-encoding: chunked\r\n");
        if !self.silent {
            let sizes = [1 + rng.usize(..700), 1 + rng.usize(..4000)];
            let trailers = if rng.u8(..4) == 0 { "x-sum: 1\r\n" } else { "" };
            out.extend_from_slice(&wire::chunked(&self.body, &sizes, "", trailers));
        }
        out
    }

    fn until_close(&self) -> Vec<u8> {
        let mut out = self.head("HTTP/1.1", "");
        self.add_body(&mut out);
        out
    }

    fn add_body(&self, out: &mut Vec<u8>) {
        if !self.silent {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The body of an exchange's answer.
pub fn body_of(serial: usize, length: usize) -> Vec<u8> {
    wire::pattern(&format!("e{serial}"), length)
}

/// How one request is answered. What the client may come to see of it is noted in `exchange`.
pub fn plan(
    kind: Kind,
    serial: usize,
    method: &str,
    largest: usize,
    exchange: &mut Exchange,
    rng: &mut Rng,
) -> VecDeque<Step> {
    let length = [0, 1, 20, 300, 1500, 1500, 6000, largest][rng.usize(..8)].min(largest);
    let silent = method == "HEAD";
    let status = [200, 200, 201, 404, 500][rng.usize(..5)];
    let a = Answer { serial, status, body: body_of(serial, length), silent, fields: "" };
    (exchange.status, exchange.length) = (status, if silent { 0 } else { length });
    match kind {
        Kind::Length | Kind::Early => whole(serial, [a.sized()]),
        Kind::Chunked => whole(serial, [a.chunked(rng)]),
        Kind::UntilClose => {
            exchange.until_close = !silent;
            closing(serial, a.until_close())
        }
        Kind::Empty => {
            (exchange.status, exchange.length) = ([204, 304][rng.usize(..2)], 0);
            let a = Answer { status: exchange.status, silent: true, ..a };
            let framing = if a.status == 304 { "content-length: 12\r\n" } else { "" };
            whole(serial, [a.head("HTTP/1.1", framing)])
        }
        Kind::Http10 => {
            let mut out = a.head("HTTP/1.0", &format!("content-length: {length}\r\n"));
            a.add_body(&mut out);
            closing(serial, out)
        }
        Kind::SaysClose | Kind::EarlyClose => {
            closing(serial, Answer { fields: "connection: close\r\n", ..a }.sized())
        }
        Kind::ClosesAfter => closing(serial, a.sized()),
        Kind::ResetsLater => {
            let mut steps = whole(serial, [a.sized()]);
            steps.extend([Step::Wait(rng.u64(..40) * MS), Step::Reset]);
            steps
        }
        Kind::Slow => slow(serial, a.sized(), rng),
        Kind::Late => {
            let mut steps = whole(serial, [a.sized()]);
            steps.push_front(Step::Wait(rng.u64(300..1600) * MS));
            steps
        }
        Kind::Interim | Kind::InterimFlood => interims(kind, &a, rng),
        Kind::Unasked => {
            let mut steps = whole(serial, [a.sized()]);
            steps.extend([Step::Wait(rng.u64(1..30) * MS), Step::Unasked(evil())]);
            steps
        }
        Kind::Extra => {
            let mut out = if rng.bool() { a.sized() } else { a.chunked(rng) };
            let block = BLOCKS[rng.usize(..3)];
            if block > 0 && !silent {
                // One read ends exactly where the answer does.
                exchange.length = block + length - a.sized().len();
                let digits = |n: usize| n.to_string().len();
                exchange.length = exchange.length + digits(length) - digits(exchange.length);
                out = Answer { body: body_of(serial, exchange.length), ..a }.sized();
            }
            let needed = out.len();
            out.extend_from_slice(&evil());
            at_once(out, needed, exchange)
        }
        Kind::BodyWhereNone => {
            let a = Answer { status: if silent { 200 } else { 204 }, ..a };
            (exchange.status, exchange.length) = (a.status, 0);
            let mut out = Answer { silent: true, ..a }.head("HTTP/1.1", "");
            let needed = out.len();
            out.extend_from_slice(&evil());
            at_once(out, needed, exchange)
        }
        _ => broken(kind, &a, exchange, rng),
    }
}

// Answers that no client may take for whole.
fn broken(kind: Kind, a: &Answer<'_>, exchange: &mut Exchange, rng: &mut Rng) -> VecDeque<Step> {
    let text = |text: &str| VecDeque::from([Step::Write(text.as_bytes().to_vec()), Step::Forever]);
    let mut all = if rng.bool() { a.sized() } else { a.chunked(rng) };
    let head = wire::find(&all, b"\r\n\r\n").map_or(0, |at| at + 4);
    let evil = String::from_utf8(evil()).unwrap_or_default();
    match kind {
        Kind::Never | Kind::Deaf => VecDeque::from([Step::Forever]),
        Kind::ClosesBefore => VecDeque::from([Step::Fin]),
        Kind::ResetsBefore | Kind::EarlyReset => VecDeque::from([Step::Reset]),
        Kind::TruncatedHead => {
            all.truncate(rng.usize(1..head));
            VecDeque::from([Step::Write(all), if rng.bool() { Step::Fin } else { Step::Reset }])
        }
        Kind::TruncatedFin | Kind::TruncatedReset | Kind::Stalls => {
            if all.len() == head {
                // There is no middle to end in.
                all.truncate(head - 1);
            } else {
                all.truncate(rng.usize(head..all.len()));
            }
            let end = match kind {
                Kind::TruncatedFin => Step::Fin,
                Kind::TruncatedReset => Step::Reset,
                _ => Step::Forever,
            };
            VecDeque::from([Step::Write(all), Step::Wait(rng.u64(..9) * MS), end])
        }
        Kind::ResetInClose => {
            exchange.until_close = !a.silent;
            // A HEAD needs no end.
            exchange.whole = a.silent;
            VecDeque::from([Step::Write(a.until_close()), Step::Wait(4 * MS), Step::Reset])
        }
        Kind::Garbage => {
            text(["\0\0\0\r\n\r\n", "HTTP/3 200 EVIL\r\n\r\n", "EVIL\r\n\r\n"][rng.usize(..3)])
        }
        Kind::HugeHead => text(&format!("HTTP/1.1 200 EVIL\r\nx-a: {}\r\n\r\n", "x".repeat(9000))),
        Kind::ManyFields => text(&format!("HTTP/1.1 200 EVIL\r\n{}\r\n", "x:\r\n".repeat(1100))),
        Kind::BareLf => text("HTTP/1.1 200 EVIL\ncontent-length: 0\n\n"),
        Kind::BothLengths => text(
            "HTTP/1.1 200 EVIL\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        Kind::BadLength => text(
            [
                "HTTP/1.1 200 EVIL\r\ncontent-length: 5, 5\r\n\r\nhello",
                "HTTP/1.1 200 EVIL\r\ncontent-length: -1\r\n\r\n",
            ][rng.usize(..2)],
        ),
        Kind::BadChunk => {
            let bad = ["x\r\n", "5\nhello\r\n", "0\r\n bad\r\n\r\n", "fffffffffffffffff\r\n"]
                [rng.usize(..4)];
            let mut out = a.head("HTTP/1.1", "transfer-encoding: chunked\r\n");
            let start = String::from_utf8(body_of(a.serial, 2)).unwrap_or_default();
            out.extend_from_slice(format!("2\r\n{start}\r\n{bad}").as_bytes());
            exchange.length = exchange.length.max(2);
            // To HEAD there is no body, and nothing is wrong but that there are octets.
            if a.silent {
                (exchange.whole, exchange.length) = (true, 0);
            }
            VecDeque::from([Step::Write(out), Step::Forever])
        }
        _ => text(&format!("HTTP/1.1 101 EVIL\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{evil}")),
    }
}

fn whole<const N: usize>(serial: usize, parts: [Vec<u8>; N]) -> VecDeque<Step> {
    let mut steps: VecDeque<Step> = parts.map(Step::Write).into();
    steps.push_back(Step::Whole(serial));
    steps
}

// Octets that stand behind an answer, and reach ringgate with it: what comes later crosses a request on its way.
fn at_once(octets: Vec<u8>, needed: usize, exchange: &mut Exchange) -> VecDeque<Step> {
    exchange.whole = true;
    VecDeque::from([Step::Once(octets, needed)])
}

fn closing(serial: usize, octets: Vec<u8>) -> VecDeque<Step> {
    VecDeque::from([Step::Write(octets), Step::Whole(serial), Step::Fin])
}

fn slow(serial: usize, octets: Vec<u8>, rng: &mut Rng) -> VecDeque<Step> {
    let mut steps = VecDeque::new();
    let size = (octets.len() / rng.usize(2..6)).max(1);
    for piece in octets.chunks(size) {
        steps.extend([Step::Wait(rng.u64(5..180) * MS), Step::Write(piece.to_vec())]);
    }
    steps.push_back(Step::Whole(serial));
    steps
}

fn interims(kind: Kind, a: &Answer<'_>, rng: &mut Rng) -> VecDeque<Step> {
    let count = if kind == Kind::Interim { rng.usize(1..12) } else { 150 };
    let one = ["HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n"];
    whole(a.serial, [one[rng.usize(..2)].repeat(count).into_bytes(), a.sized()])
}

// A whole response that answers nothing.
fn evil() -> Vec<u8> {
    format!("HTTP/1.1 200 {EVIL}\r\ncontent-length: 4\r\n\r\n{EVIL}").into_bytes()
}
