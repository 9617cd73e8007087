//! Takes content codings off a body, piece by piece, and never makes more of it than it may become.
//!
//! A short body may become a very long one (a bomb): what comes out is bounded in all, and by how many times more it is than what
//! went in. Each step yields at most a block, so that a step takes no long turn either. Streams in a row are one body (RFC 1952
//! section 2.2, RFC 8878 section 3.1); what follows the end and is none, and an end that is missing, are malformed. Called by
//! `proxy::stages` and `proxy::coding`.

use crate::transform::compress::{Coding, Flaw};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// How much a body may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Octets, in all.
    pub total: u64,
    /// So many times what went in; what is shorter than [`FREE`] is not judged by it.
    pub ratio: u64,
}

/// Octets that any body may become: small ones of zeros become a thousand times as long, and harm nobody.
pub const FREE: u64 = 1 << 20;
/// The usual ratio: text becomes 3 to 30 times as long.
pub const RATIO: u64 = 100;
// Streams in a row that any body may have, and the octets, in and out, for which it may have one more: a stream of gzip
// costs a window, whatever it holds, and 20 octets are one (hazard RES-12).
const FREE_STREAMS: u64 = 256;
const WORTH_A_STREAM: u64 = 1 << 10;
// Octets that come out of one step, about.
const STEP: usize = 32 << 10;
// What zstd may look back on: 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 23;

impl Limit {
    /// At most `total` octets, and the usual ratio.
    pub fn of(total: u64) -> Limit {
        Limit { total, ratio: RATIO }
    }
}

/// Octets that a decoder holds, at most, for each coding.
pub fn memory(coding: Coding) -> usize {
    match coding {
        Coding::Gzip | Coding::Deflate => 64 << 10,
        // A window of 16 MiB, where a sender asks for it.
        Coding::Brotli => 17 << 20,
        Coding::Zstd => 9 << 20,
    }
}

/// Takes the codings of one body off.
pub struct Decoder {
    // The outermost first: that which was put on last.
    layers: Vec<Layer>,
    limit: Limit,
    went_in: u64,
    came_out: u64,
}

struct Layer {
    coding: Coding,
    library: Library,
    // What the layer before has yielded and this one has not taken.
    held: Vec<u8>,
    at: usize,
    // Whether more may come without more going in.
    full: bool,
    state: State,
    // Streams that have begun, and octets that went in and came out.
    streams: u64,
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Before,
    Within,
    Between,
}

enum Library {
    None,
    Zlib(Decompress),
    Brotli(Box<Brotli>),
    Zstd(DCtx<'static>),
}

type Brotli = BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>;

/// What a whole body becomes; `codings` are those of its head, in order. In one go: a worker has others to serve meanwhile, and goes
/// step by step.
///
/// # Errors
/// What is wrong with it.
pub fn decode(body: &[u8], codings: &[Coding], limit: Limit) -> Result<Vec<u8>, Flaw> {
    let (mut decoder, mut out) = (Decoder::new(codings, limit), Vec::new());
    decoder.all(body, &mut out)?;
    decoder.end().map(|()| out)
}

impl Decoder {
    /// For a body with these codings, in the order in which they were put on.
    pub fn new(codings: &[Coding], limit: Limit) -> Decoder {
        let layer = |coding: &Coding| Layer {
            coding: *coding,
            library: Library::None,
            held: Vec::new(),
            at: 0,
            full: false,
            state: State::Before,
            streams: 0,
            moved: 0,
        };
        let layers = codings.iter().rev().map(layer).collect();
        Decoder { layers, limit, went_in: 0, came_out: 0 }
    }

    /// Takes octets from the front of `octets`, and appends what they become, as far as one step goes; returns how many it took.
    /// Until all are taken and [`Decoder::holds`] says no, more is to come.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        let before = out.len();
        let mut taken = 0;
        // From the innermost on outwards: what is held there goes out before more comes in.
        let mut moved = false;
        for at in (0..self.layers.len()).rev() {
            let (outer, inner) = self.layers.split_at_mut(at + 1);
            let Some(layer) = outer.last_mut() else { break };
            let holds = if at == 0 { !octets.is_empty() } else { layer.at < layer.held.len() };
            if !holds && !layer.full {
                continue;
            }
            let next = inner.first_mut().map_or(&mut *out, |next| &mut next.held);
            if at == 0 {
                taken = layer.step(octets, next)?;
            } else {
                let held = std::mem::take(&mut layer.held);
                let n = layer.step(held.get(layer.at..).unwrap_or_default(), next)?;
                layer.held = held;
                layer.at += n;
                if layer.at >= layer.held.len() {
                    layer.held.clear();
                    layer.at = 0;
                }
            }
            moved = true;
            break;
        }
        if !moved && self.layers.is_empty() {
            out.extend_from_slice(octets);
            taken = octets.len();
        }
        self.went_in += taken as u64;
        self.came_out += (out.len() - before) as u64;
        let by_ratio = self.went_in.saturating_mul(self.limit.ratio).max(FREE);
        if self.came_out > self.limit.total.min(by_ratio) {
            return Err(Flaw::TooLarge);
        }
        Ok(taken)
    }

    /// Whether more may come of what was taken.
    pub fn holds(&self) -> bool {
        self.layers.iter().any(|layer| layer.full || layer.at < layer.held.len())
    }

    /// As [`Decoder::data`], until all of it is taken and has come out.
    ///
    /// # Errors
    /// As of [`Decoder::data`].
    pub fn all(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        let mut rest = octets;
        while !rest.is_empty() || self.holds() {
            let taken = self.data(rest, out)?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The end of the body. One without an octet is fine.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] where something is missing.
    pub fn end(&mut self) -> Result<(), Flaw> {
        let nothing = self.went_in == 0;
        let ended = |layer: &Layer| layer.state == State::Between && layer.held.is_empty();
        if nothing || self.layers.iter().all(ended) { Ok(()) } else { Err(Flaw::Malformed) }
    }
}

impl Layer {
    // One step; returns how many octets it took.
    fn step(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        if self.state != State::Within {
            if octets.is_empty() {
                self.full = false;
                return Ok(0);
            }
            self.begin(octets)?;
        }
        let before = out.len();
        // No more room than a step's: a vector that grows by doubling would let a step grow with it.
        out.reserve(STEP);
        let (taken, ended) = match &mut self.library {
            Library::None => return Err(Flaw::Malformed),
            Library::Zlib(zlib) => zlib_step(zlib, octets, out)?,
            Library::Brotli(brotli) => brotli_step(brotli, octets, out)?,
            Library::Zstd(context) => zstd_step(context, octets, out)?,
        };
        let yielded = out.len() - before;
        self.moved += (taken + yielded) as u64;
        self.full = !ended && yielded >= STEP;
        if ended {
            self.state = State::Between;
        } else if taken == 0 && yielded == 0 && !octets.is_empty() {
            // It would stand still for ever.
            return Err(Flaw::Malformed);
        }
        Ok(taken)
    }

    // A stream begins: the first one, or one that follows another.
    fn begin(&mut self, octets: &[u8]) -> Result<(), Flaw> {
        let follows = self.state == State::Between;
        self.streams += 1;
        if self.streams > FREE_STREAMS + self.moved / WORTH_A_STREAM {
            return Err(Flaw::TooLarge);
        }
        self.library = match (self.coding, std::mem::replace(&mut self.library, Library::None)) {
            (Coding::Gzip, _) => Library::Zlib(Decompress::new_gzip(15)),
            (Coding::Deflate | Coding::Brotli, _) if follows => return Err(Flaw::Malformed),
            (Coding::Deflate, _) => Library::Zlib(Decompress::new(is_zlib(octets))),
            (Coding::Brotli, _) => Library::Brotli(Box::new(BrotliState::new_strict(
                HeapAlloc::new(0),
                HeapAlloc::new(0),
                HeapAlloc::new(HuffmanCode::default()),
            ))),
            (Coding::Zstd, Library::Zstd(context)) => Library::Zstd(context),
            (Coding::Zstd, _) => {
                let mut context = DCtx::try_create().ok_or(Flaw::Malformed)?;
                let bounded = context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW));
                bounded.map_err(|_| Flaw::Malformed)?;
                Library::Zstd(context)
            }
        };
        self.state = State::Within;
        Ok(())
    }
}

// Some senders leave out the header that RFC 9110 section 8.4.1.2 asks for. The first octet of a block of deflate can be told from
// it: the method's number, and a checksum.
fn is_zlib(octets: &[u8]) -> bool {
    match octets {
        [first, second, ..] => {
            first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
        }
        [first] => first & 0x0f == 8,
        [] => true,
    }
}

fn zlib_step(
    zlib: &mut Decompress,
    octets: &[u8],
    out: &mut Vec<u8>,
) -> Result<(usize, bool), Flaw> {
    let at = out.len();
    out.resize(at + STEP, 0);
    let (went_in, came_out) = (zlib.total_in(), zlib.total_out());
    let room = out.get_mut(at..).unwrap_or_default();
    let status = zlib.decompress(octets, room, FlushDecompress::None);
    let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
    out.truncate(at + count(zlib.total_out(), came_out));
    let status = status.map_err(|_| Flaw::Malformed)?;
    Ok((count(zlib.total_in(), went_in), status == Status::StreamEnd))
}

fn brotli_step(
    brotli: &mut Brotli,
    octets: &[u8],
    out: &mut Vec<u8>,
) -> Result<(usize, bool), Flaw> {
    let at = out.len();
    out.resize(at + STEP, 0);
    let (mut left, mut taken, mut room, mut made) = (octets.len(), 0, STEP, 0);
    let result = BrotliDecompressStream(
        &mut left,
        &mut taken,
        octets,
        &mut room,
        &mut made,
        out.get_mut(at..).unwrap_or_default(),
        &mut 0,
        brotli,
    );
    out.truncate(at + made);
    match result {
        BrotliResult::ResultSuccess => Ok((taken, true)),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok((taken, false)),
        BrotliResult::ResultFailure => Err(Flaw::Malformed),
    }
}

fn zstd_step(
    context: &mut DCtx<'_>,
    octets: &[u8],
    out: &mut Vec<u8>,
) -> Result<(usize, bool), Flaw> {
    let at = out.len();
    out.resize(at + STEP, 0);
    let mut input = InBuffer::around(octets);
    let mut room = OutBuffer::around(out.get_mut(at..).unwrap_or_default());
    let result = context.decompress_stream(&mut room, &mut input);
    let made = room.pos();
    out.truncate(at + made);
    let hint = result.map_err(|_| Flaw::Malformed)?;
    Ok((input.pos(), hint == 0))
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.layers.iter().map(|layer| layer.coding.name()).collect();
        write!(f, "Decoder({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::compress::Encoder;
    use std::io::Write;

    const ALL: [Coding; 4] = Coding::ALL;
    const ROOMY: Limit = Limit { total: 1 << 26, ratio: u64::MAX };

    fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
        if coding == Coding::Deflate {
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            zlib.write_all(body).unwrap();
            return zlib.finish().unwrap();
        }
        let (mut encoder, mut out) = (Encoder::new(coding, 4).unwrap(), Vec::new());
        encoder.data(body, &mut out).unwrap();
        encoder.end(&mut out).unwrap();
        out
    }

    fn in_pieces(coding: &[Coding], octets: &[u8], piece: usize) -> Result<Vec<u8>, Flaw> {
        let (mut decoder, mut out) = (Decoder::new(coding, ROOMY), Vec::new());
        for part in octets.chunks(piece) {
            decoder.all(part, &mut out)?;
        }
        decoder.end().map(|()| out)
    }

    #[test]
    fn every_cut_reads_the_same() {
        let body: Vec<u8> = (0..100_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8 & 15).collect();
        for coding in ALL {
            let octets = encoded(coding, &body);
            for piece in [1, 2, 3, 1000, octets.len()] {
                assert_eq!(in_pieces(&[coding], &octets, piece).as_ref(), Ok(&body), "{coding:?}");
            }
            let twice = encoded(Coding::Gzip, &octets);
            let both = [coding, Coding::Gzip];
            assert_eq!(in_pieces(&both, &twice, 777).as_ref(), Ok(&body), "{coding:?}, gzip");
            assert_eq!(in_pieces(&both, &twice, 1).as_ref(), Ok(&body), "{coding:?}, gzip");
        }
        assert_eq!(in_pieces(&[], &body, 10), Ok(body));
    }

    #[test]
    fn what_is_cut_short_or_followed_is_malformed() {
        let body = b"hello, hello, hello, hello".repeat(20);
        for coding in ALL {
            let octets = encoded(coding, &body);
            for end in 1..octets.len() {
                let cut = octets.get(..end).unwrap();
                let got = decode(cut, &[coding], ROOMY);
                assert_eq!(got, Err(Flaw::Malformed), "{coding:?} cut at {end}");
            }
            for more in [&b"\0"[..], b"x", b"\x1f\x8c0000000000"] {
                let octets = [&octets, more].concat();
                let got = decode(&octets, &[coding], ROOMY);
                assert_eq!(got, Err(Flaw::Malformed), "{coding:?} {more:?}");
            }
            assert_eq!(decode(b"", &[coding], ROOMY), Ok(Vec::new()), "nothing at all is fine");
            assert_eq!(decode(&body, &[coding], ROOMY), Err(Flaw::Malformed));
        }
    }

    #[test]
    fn streams_in_a_row_are_one_body_where_the_coding_says_so() {
        for (coding, expected) in [
            (Coding::Gzip, Ok(b"onetwo".to_vec())),
            (Coding::Zstd, Ok(b"onetwo".to_vec())),
            (Coding::Brotli, Err(Flaw::Malformed)),
            (Coding::Deflate, Err(Flaw::Malformed)),
        ] {
            let octets = [encoded(coding, b"one"), encoded(coding, b"two")].concat();
            assert_eq!(decode(&octets, &[coding], ROOMY), expected, "{coding:?}");
        }
    }

    /// Hazard RES-12: each stream costs more than its octets.
    #[test]
    fn streams_of_nothing_are_bounded() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let (nothing, some) = (encoded(coding, b""), encoded(coding, &[b'a'; 4096]));
            let got = decode(&nothing.repeat(2000), &[coding], ROOMY);
            assert_eq!(got, Err(Flaw::TooLarge), "{coding:?}");
            assert_eq!(decode(&nothing.repeat(200), &[coding], ROOMY), Ok(vec![]), "{coding:?}");
            let got = decode(&some.repeat(2000), &[coding], ROOMY);
            assert_eq!(got.map(|all| all.len()), Ok(4096 * 2000), "{coding:?}");
            let inner = encoded(Coding::Gzip, &nothing.repeat(2000));
            let got = decode(&inner, &[coding, Coding::Gzip], ROOMY);
            assert_eq!(got, Err(Flaw::TooLarge), "{coding:?} within gzip");
        }
    }

    #[test]
    fn deflate_without_its_header_is_read() {
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        raw.write_all(&b"abc".repeat(100)).unwrap();
        let octets = raw.finish().unwrap();
        assert_eq!(decode(&octets, &[Coding::Deflate], ROOMY), Ok(b"abc".repeat(100)));
    }

    #[test]
    fn bombs_are_stopped_before_they_are_large() {
        let zeros = vec![0; 32 << 20];
        for coding in ALL {
            let bomb = encoded(coding, &zeros);
            assert!(bomb.len() < 300_000, "{coding:?}");
            let got = decode(&bomb, &[coding], Limit::of(1 << 30));
            assert_eq!(got, Err(Flaw::TooLarge), "{coding:?} by its ratio");
            let by_total = Limit { total: 10_000, ratio: u64::MAX };
            let (mut decoder, mut out) = (Decoder::new(&[coding], by_total), Vec::new());
            assert_eq!(decoder.all(&bomb, &mut out), Err(Flaw::TooLarge), "{coding:?} by its size");
            assert!(out.len() <= 10_000 + STEP, "{coding:?}: {}", out.len());
            let inner = encoded(Coding::Gzip, &bomb);
            let got = decode(&inner, &[coding, Coding::Gzip], Limit::of(1 << 30));
            assert_eq!(got, Err(Flaw::TooLarge), "{coding:?} within gzip");
        }
        let small = encoded(Coding::Gzip, &zeros[..500_000]);
        assert!(decode(&small, &[Coding::Gzip], Limit::of(1 << 20)).is_ok(), "a short one is fine");
    }

    #[test]
    fn a_window_that_no_client_need_take_is_refused() {
        // RFC 8878 section 3.1.1: magic number, a descriptor with nothing, a window of 16 MiB, an empty last block.
        let octets = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 14 << 3, 0x01, 0, 0];
        assert_eq!(decode(&octets, &[Coding::Zstd], ROOMY), Err(Flaw::Malformed));
        let allowed = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x01, 0, 0];
        assert_eq!(decode(&allowed, &[Coding::Zstd], ROOMY), Ok(Vec::new()));
    }
}
