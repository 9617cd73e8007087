//! Puts a content coding on a body, piece by piece.
//!
//! The libraries do the work; what stands here makes them stream: octets in, octets out as they come, all of them when the sender
//! pauses. What one encoder holds is known beforehand ([`memory`]), so that it can be counted. Called by `proxy::stages` and
//! `shard::coders`, which keeps encoders that can be used again.

use crate::transform::compress::{Coding, Flaw};
use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::io::Write;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

/// Puts a content coding on a body.
pub struct Encoder {
    library: Library,
    coding: Coding,
    level: u8,
    // Whether octets went in that may not have come out.
    dirty: bool,
}

enum Library {
    Gzip(Compress),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(CCtx<'static>),
}

// What brotli looks back on, in bits: 64 KiB. What it takes in before it writes grows with it: with 256 KiB a turn took 3 ms and the
// encoder 4.4 MiB, for documents that were no smaller.
const BROTLI_WINDOW: i32 = 16;
// What brotli takes in before it decides: 64 KiB, so that its turns are short.
const BROTLI_BLOCK: i32 = 16;
// The same of zstd: 1 MiB at most. Clients need not take more than 8 MiB (RFC 9659).
const ZSTD_WINDOW: u32 = 20;
// gzip has no larger one: 32 KiB.
const GZIP_WINDOW: u8 = 15;
// Room that is made at a time where a library does not say how much it needs.
const ROOM: usize = 8 << 10;

/// Octets that an encoder holds at most, as measured over 4 MiB of JSON.
pub fn memory(coding: Coding, level: u8) -> usize {
    let kib = match (coding, level) {
        (Coding::Gzip | Coding::Deflate, _) => 384,
        (Coding::Brotli, ..=3) => 768,
        (Coding::Brotli, _) => 2048,
        (Coding::Zstd, ..=1) => 1536,
        (Coding::Zstd, 2) => 2304,
        (Coding::Zstd, 3) => 2816,
        (Coding::Zstd, 4) => 4096,
        (Coding::Zstd, _) => 4608,
    };
    kib << 10
}

/// Octets that are put in at a time, so that no turn takes much longer than a millisecond (hazard RT-15).
pub fn turn(coding: Coding, level: u8) -> usize {
    match (coding, level) {
        (Coding::Gzip | Coding::Deflate, 7..) => 8 << 10,
        _ => 32 << 10,
    }
}

impl Encoder {
    /// An encoder; `None` where the library gets no memory.
    pub fn new(coding: Coding, level: u8) -> Option<Encoder> {
        let library = match coding {
            Coding::Gzip | Coding::Deflate => {
                let level = Compression::new(u32::from(level.clamp(1, 9)));
                Library::Gzip(Compress::new_gzip(level, GZIP_WINDOW))
            }
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: i32::from(level.clamp(2, 4)),
                    lgwin: BROTLI_WINDOW,
                    lgblock: BROTLI_BLOCK,
                    ..BrotliEncoderParams::default()
                };
                Library::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), ROOM, &params)))
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create()?;
                let level = i32::from(level.clamp(1, 6));
                // The window of the first level is smaller of itself.
                let window = ZSTD_WINDOW - u32::from(level == 1);
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::WindowLog(window),
                    CParameter::ContentSizeFlag(false),
                ] {
                    context.set_parameter(parameter).ok()?;
                }
                Library::Zstd(context)
            }
        };
        Some(Encoder { library, coding, level, dirty: false })
    }

    /// Which coding it puts on.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// How hard it tries.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Octets that [`Encoder::data`] should be given at a time.
    pub fn turn(&self) -> usize {
        turn(self.coding, self.level)
    }

    /// Makes it ready for another body; false where it cannot be used again.
    pub fn reset(&mut self) -> bool {
        self.dirty = false;
        match &mut self.library {
            Library::Gzip(gzip) => {
                gzip.reset();
                true
            }
            // Its library has no way back to the beginning.
            Library::Brotli(_) => false,
            Library::Zstd(context) => context.reset(ResetDirective::SessionOnly).is_ok(),
        }
    }

    /// Appends what `octets` become.
    ///
    /// # Errors
    /// [`Flaw::Malformed`] when the library refuses, which it has no reason to.
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.dirty |= !octets.is_empty();
        match &mut self.library {
            Library::Gzip(gzip) => gzip_data(gzip, octets, out),
            Library::Brotli(brotli) => {
                brotli.write_all(octets).map_err(|_| Flaw::Malformed)?;
                out.append(brotli.get_mut());
                Ok(())
            }
            Library::Zstd(context) => zstd_data(context, octets, out),
        }
    }

    /// Appends what must not wait for more octets: afterwards a receiver can read all that went in.
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        if !std::mem::take(&mut self.dirty) {
            return Ok(());
        }
        match &mut self.library {
            Library::Gzip(gzip) => loop {
                out.reserve(ROOM);
                gzip.compress_vec(&[], out, FlushCompress::Sync).map_err(|_| Flaw::Malformed)?;
                if out.len() < out.capacity() {
                    return Ok(());
                }
            },
            Library::Brotli(brotli) => {
                brotli.flush().map_err(|_| Flaw::Malformed)?;
                out.append(brotli.get_mut());
                Ok(())
            }
            Library::Zstd(context) => zstd_drain(out, |room| context.flush_stream(room)),
        }
    }

    /// Appends the end.
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.dirty = false;
        match &mut self.library {
            Library::Gzip(gzip) => loop {
                out.reserve(ROOM);
                let status = gzip.compress_vec(&[], out, FlushCompress::Finish);
                if status.map_err(|_| Flaw::Malformed)? == Status::StreamEnd {
                    return Ok(());
                }
            },
            Library::Brotli(brotli) => {
                let params = BrotliEncoderParams { quality: 0, ..BrotliEncoderParams::default() };
                let fresh = CompressorWriter::with_params(Vec::new(), 1, &params);
                out.append(&mut std::mem::replace(&mut **brotli, fresh).into_inner());
                Ok(())
            }
            Library::Zstd(context) => zstd_drain(out, |room| context.end_stream(room)),
        }
    }
}

fn gzip_data(gzip: &mut Compress, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    let mut rest = octets;
    while !rest.is_empty() {
        out.reserve(ROOM.max(rest.len() / 4));
        let before = gzip.total_in();
        gzip.compress_vec(rest, out, FlushCompress::None).map_err(|_| Flaw::Malformed)?;
        let taken = usize::try_from(gzip.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

fn zstd_data(context: &mut CCtx<'_>, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
    let mut input = InBuffer::around(octets);
    while input.pos() < octets.len() {
        out.reserve(ROOM);
        let at = out.len();
        let mut room = OutBuffer::around_pos(out, at);
        context.compress_stream(&mut room, &mut input).map_err(|_| Flaw::Malformed)?;
    }
    Ok(())
}

// Until nothing is left inside.
fn zstd_drain<E>(
    out: &mut Vec<u8>,
    mut step: impl FnMut(&mut OutBuffer<'_, Vec<u8>>) -> Result<usize, E>,
) -> Result<(), Flaw> {
    loop {
        out.reserve(ROOM);
        let at = out.len();
        let left = step(&mut OutBuffer::around_pos(out, at)).map_err(|_| Flaw::Malformed)?;
        if left == 0 {
            return Ok(());
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({} {})", self.coding.name(), self.level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::compress::{Limit, decode};

    const PUT_ON: [(Coding, u8); 7] = [
        (Coding::Gzip, 1),
        (Coding::Gzip, 9),
        (Coding::Brotli, 2),
        (Coding::Brotli, 4),
        (Coding::Brotli, 3),
        (Coding::Zstd, 1),
        (Coding::Zstd, 6),
    ];

    fn sample(len: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let mut rng = fastrand::Rng::with_seed(7);
        while text.len() < len {
            text.extend_from_slice(
                format!("{{\"id\":{},\"on\":true}},", rng.u32(..9999)).as_bytes(),
            );
        }
        text.truncate(len);
        text
    }

    fn read(coding: Coding, octets: &[u8]) -> Result<Vec<u8>, Flaw> {
        decode(octets, &[coding], Limit::of(1 << 24))
    }

    #[test]
    fn what_went_in_comes_out_however_it_was_cut() {
        for (coding, level) in PUT_ON {
            for (len, piece) in [(0, 1), (1, 1), (1000, 7), (300_000, 32 << 10), (200_000, 999)] {
                let body = sample(len);
                let mut encoder = Encoder::new(coding, level).unwrap();
                let mut out = Vec::new();
                for part in body.chunks(piece) {
                    encoder.data(part, &mut out).unwrap();
                }
                encoder.end(&mut out).unwrap();
                assert_eq!(read(coding, &out).as_ref(), Ok(&body), "{encoder:?} {len} {piece}");
                assert!(len < 1000 || out.len() < len / 2, "{encoder:?} {len}: {}", out.len());
            }
        }
    }

    #[test]
    fn all_that_went_in_can_be_read_when_the_sender_pauses() {
        use crate::transform::compress::Decoder;
        for (coding, level) in PUT_ON {
            let mut encoder = Encoder::new(coding, level).unwrap();
            let mut decoder = Decoder::new(&[coding], Limit::of(1 << 24));
            for n in 0..50 {
                let event = format!("data: {n}\n\n");
                let (mut out, mut seen) = (Vec::new(), Vec::new());
                encoder.data(event.as_bytes(), &mut out).unwrap();
                encoder.pause(&mut out).unwrap();
                let mut again = Vec::new();
                encoder.pause(&mut again).unwrap();
                assert!(again.is_empty(), "a second pause adds nothing");
                decoder.all(&out, &mut seen).unwrap();
                assert_eq!(String::from_utf8_lossy(&seen), event, "{encoder:?}");
            }
        }
    }

    #[test]
    fn one_that_is_used_again_does_not_remember() {
        for (coding, level) in PUT_ON {
            let mut encoder = Encoder::new(coding, level).unwrap();
            let (mut first, mut second) = (Vec::new(), Vec::new());
            encoder.data(&sample(5000), &mut first).unwrap();
            encoder.pause(&mut first).unwrap();
            if !encoder.reset() {
                assert_eq!(coding, Coding::Brotli);
                continue;
            }
            encoder.data(&sample(700), &mut second).unwrap();
            encoder.end(&mut second).unwrap();
            assert_eq!(read(coding, &second), Ok(sample(700)), "{encoder:?}");
        }
    }

    #[test]
    fn the_window_of_zstd_is_one_that_every_client_takes() {
        for level in 1..=6 {
            let mut encoder = Encoder::new(Coding::Zstd, level).unwrap();
            let mut out = Vec::new();
            encoder.data(&sample(3 << 20), &mut out).unwrap();
            encoder.end(&mut out).unwrap();
            // RFC 8878 section 3.1.1.1.2: no single segment, so the window's descriptor follows.
            assert_eq!(out[4] & 0x20, 0, "level {level}");
            assert!(10 + (out[5] >> 3) <= 20, "level {level}");
        }
    }
}
