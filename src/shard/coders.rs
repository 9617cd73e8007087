//! The encoders and decoders of one worker: so many at a time, what they hold counted, and used again where that saves work.
//!
//! Where there is no place for another one, a body goes on as it is. Called by `proxy::coding`.

use crate::net::Buffers;
use crate::net::buf::Charge;
use crate::shard::Pulse;
use crate::transform::compress::{Coding, Decoder, Encoder, Flaw, Limit, decode, encode};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Encoders and decoders of a worker that are in use at the same time, at most.
pub const MOST: usize = 256;
// Encoders that are kept for the next body.
const KEEP: usize = 8;

/// What one worker has of them.
#[derive(Debug)]
pub struct Coders {
    free: RefCell<Vec<Encoder>>,
    busy: Cell<usize>,
    pulse: Arc<Pulse>,
}

/// What is counted of codings.
#[derive(Debug, Default)]
pub struct CodingCounts {
    responses: [AtomicU64; Coding::ALL.len()],
    /// Octets that went into encoders, of responses that are over.
    pub octets_in: AtomicU64,
    /// Octets that came out of them.
    pub octets_out: AtomicU64,
    /// Responses that a coding was taken off.
    pub decoded: AtomicU64,
    /// Responses that got no coding for lack of a place.
    pub declined: AtomicU64,
}

impl CodingCounts {
    /// Counts a response that gets a coding.
    pub fn add(&self, coding: Coding) {
        if let Some(count) = self.count(coding) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many got it.
    pub fn value(&self, coding: Coding) -> u64 {
        self.count(coding).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, coding: Coding) -> Option<&AtomicU64> {
        let at = Coding::ALL.iter().position(|one| *one == coding)?;
        self.responses.get(at)
    }
}

// One of the places, and what is held in it.
#[derive(Debug)]
struct Place {
    coders: Rc<Coders>,
    _charge: Charge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.coders.busy.set(self.coders.busy.get().saturating_sub(1));
    }
}

/// An encoder in use; it is kept for another body when this is dropped.
#[derive(Debug)]
pub struct Encoding {
    encoder: Encoder,
    place: Place,
    octets_in: u64,
    octets_out: u64,
}

/// A decoder in use.
#[derive(Debug)]
pub struct Decoding {
    /// The decoder.
    pub decoder: Decoder,
    _place: Place,
}

impl Coders {
    /// Those of a worker, counted on its pulse.
    pub fn new(pulse: Arc<Pulse>) -> Coders {
        Coders { free: RefCell::default(), busy: Cell::new(0), pulse }
    }

    /// An encoder; `None` where there is no place for it.
    pub fn encoder(
        self: &Rc<Coders>,
        buffers: &Rc<Buffers>,
        coding: Coding,
        level: u8,
    ) -> Option<Encoding> {
        let place = self.place(buffers, encode::memory(coding, level))?;
        let kept = {
            let mut free = self.free.borrow_mut();
            let fits = |one: &Encoder| one.coding() == coding && one.level() == level;
            free.iter().position(fits).map(|at| free.swap_remove(at))
        };
        let encoder = match kept {
            Some(encoder) => encoder,
            None => Encoder::new(coding, level)?,
        };
        self.pulse.codings.add(coding);
        Some(Encoding { encoder, place, octets_in: 0, octets_out: 0 })
    }

    /// A decoder; `None` where there is no place for it.
    pub fn decoder(
        self: &Rc<Coders>,
        buffers: &Rc<Buffers>,
        codings: &[Coding],
        limit: Limit,
    ) -> Option<Decoding> {
        let memory = codings.iter().map(|coding| decode::memory(*coding)).sum();
        let place = self.place(buffers, memory)?;
        self.pulse.codings.decoded.fetch_add(1, Ordering::Relaxed);
        Some(Decoding { decoder: Decoder::new(codings, limit), _place: place })
    }

    /// How many are in use.
    pub fn busy(&self) -> usize {
        self.busy.get()
    }

    fn place(self: &Rc<Coders>, buffers: &Rc<Buffers>, memory: usize) -> Option<Place> {
        if self.busy.get() >= MOST || buffers.is_short() {
            self.pulse.codings.declined.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.busy.set(self.busy.get() + 1);
        Some(Place { coders: Rc::clone(self), _charge: buffers.charge(memory) })
    }

    // The one that was kept longest makes room: it is of a kind that is asked for least.
    fn keep(&self, mut encoder: Encoder) {
        if !encoder.reset() {
            return;
        }
        let mut free = self.free.borrow_mut();
        if free.len() >= KEEP {
            free.remove(0);
        }
        free.push(encoder);
    }
}

impl Encoding {
    /// As of [`Encoder::turn`].
    pub fn turn(&self) -> usize {
        self.encoder.turn()
    }

    /// As of [`Encoder::data`].
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn data(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.octets_in += octets.len() as u64;
        self.step(out, |encoder, out| encoder.data(octets, out))
    }

    /// As of [`Encoder::pause`].
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn pause(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.step(out, Encoder::pause)
    }

    /// As of [`Encoder::end`].
    ///
    /// # Errors
    /// As of [`Encoder::data`].
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.step(out, Encoder::end)
    }

    /// Gives the encoder back, to be used again.
    pub fn give_back(self) {
        let Encoding { encoder, place, octets_in, octets_out } = self;
        let counts = &place.coders.pulse.codings;
        counts.octets_in.fetch_add(octets_in, Ordering::Relaxed);
        counts.octets_out.fetch_add(octets_out, Ordering::Relaxed);
        place.coders.keep(encoder);
    }

    fn step(
        &mut self,
        out: &mut Vec<u8>,
        act: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let before = out.len();
        act(&mut self.encoder, out)?;
        self.octets_out += (out.len() - before) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::{Budget, Lease};

    fn some(blocks: u64) -> (Rc<Coders>, Rc<Buffers>) {
        (
            Rc::new(Coders::new(Arc::default())),
            Rc::new(Buffers::new(Lease::new(Budget::new(blocks), 1))),
        )
    }

    #[test]
    fn there_are_only_so_many_and_they_are_used_again() {
        let (coders, buffers) = some(1 << 20);
        let take = || coders.encoder(&buffers, Coding::Gzip, 4);
        let mut all: Vec<Encoding> = (0..MOST).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        assert!(coders.decoder(&buffers, &[Coding::Gzip], Limit::of(1)).is_none());
        let mut one = all.pop().unwrap();
        let mut out = Vec::new();
        one.data(&[b'a'; 5000], &mut out).unwrap();
        one.end(&mut out).unwrap();
        one.give_back();
        let counts = &coders.pulse.codings;
        assert_eq!(counts.value(Coding::Gzip), MOST as u64);
        assert_eq!(counts.octets_in.load(Ordering::Relaxed), 5000);
        assert_eq!(counts.octets_out.load(Ordering::Relaxed), out.len() as u64);
        assert_eq!(counts.declined.load(Ordering::Relaxed), 2);
        assert_eq!((coders.busy(), coders.free.borrow().len()), (MOST - 1, 1));
        let again = take().unwrap();
        assert!(coders.free.borrow().is_empty(), "the one that was kept");
        drop((all, again));
        assert_eq!(coders.busy(), 0);
        let other = coders.encoder(&buffers, Coding::Zstd, 3).unwrap();
        other.give_back();
        coders.encoder(&buffers, Coding::Brotli, 4).unwrap().give_back();
        assert_eq!(coders.free.borrow().len(), 1, "brotli's cannot be used again");
    }

    #[test]
    fn where_memory_is_short_there_are_none() {
        let (coders, buffers) = some(30);
        let one = coders.encoder(&buffers, Coding::Gzip, 4).unwrap();
        let two = coders.encoder(&buffers, Coding::Gzip, 4).unwrap();
        assert!(coders.encoder(&buffers, Coding::Gzip, 4).is_none());
        drop((one, two));
        assert!(coders.decoder(&buffers, &[Coding::Gzip], Limit::of(1)).is_some());
    }
}
