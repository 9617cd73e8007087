//! Buffers: leased from a pool of the worker, given back when dropped. An idle connection holds none.
//!
//! Two sizes: [`SMALL`] for heads and small messages, [`LARGE`] once a body streams (measured: 64 KiB blocks cost a third
//! less per MiB than 16 KiB, larger ones bring nothing). A head larger than its block moves into a larger one.

use crate::base::lease::Lease;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Octets of a small block.
pub const SMALL: usize = 16 << 10;
/// Octets of a large block.
pub const LARGE: usize = 64 << 10;
/// Octets of a block for the TLS records that the octets of a large block, and a head before them, become.
pub const WIDE: usize = LARGE + (4 << 10);
// Free blocks that a worker keeps of each size; what exceeds it goes back to the allocator.
const KEEP_SMALL: usize = 1024;
const KEEP_LARGE: usize = 64;

/// The free blocks of one worker.
#[derive(Debug)]
pub struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    wide: RefCell<Vec<Box<[u8]>>>,
    leased: Cell<usize>,
    memory: RefCell<Lease>,
}

impl Buffers {
    /// No blocks yet; what is leased is counted on `memory`, in units of [`SMALL`].
    pub fn new(memory: Lease) -> Buffers {
        Buffers {
            small: RefCell::default(),
            large: RefCell::default(),
            wide: RefCell::default(),
            leased: Cell::new(0),
            memory: RefCell::new(memory),
        }
    }

    /// Whether the machine has more memory in use than it may: nothing new should begin then.
    #[inline]
    pub fn is_short(&self) -> bool {
        self.memory.borrow_mut().is_over()
    }

    /// As [`Buffers::is_short`], for what leaves so many thousandths of the memory to others.
    #[inline]
    pub fn is_short_of(&self, thousandths: u64) -> bool {
        self.is_short() || !self.memory.borrow().spares(thousandths)
    }

    /// A block of [`SMALL`] octets.
    pub fn small(self: &Rc<Buffers>) -> Buf {
        let block = self.small.borrow_mut().pop();
        Buf::new(block.unwrap_or_else(|| vec![0; SMALL].into_boxed_slice()), self)
    }

    /// A block of [`LARGE`] octets.
    pub fn large(self: &Rc<Buffers>) -> Buf {
        let block = self.large.borrow_mut().pop();
        Buf::new(block.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice()), self)
    }

    /// A block of [`WIDE`] octets.
    pub fn wide(self: &Rc<Buffers>) -> Buf {
        let block = self.wide.borrow_mut().pop();
        Buf::new(block.unwrap_or_else(|| vec![0; WIDE].into_boxed_slice()), self)
    }

    /// No block: for who waits and has nothing to keep.
    pub fn none(self: &Rc<Buffers>) -> Buf {
        Buf::new(Box::default(), self)
    }

    /// Blocks that are leased now, of whatever size.
    pub fn leased(&self) -> usize {
        self.leased.get()
    }

    /// Gives back what of the machine's memory is held unused, where the limit was made smaller.
    pub fn settle(&self) {
        self.memory.borrow_mut().settle();
    }

    /// Counts octets that something else than a block takes on the machine's memory, until it is dropped.
    pub fn charge(self: &Rc<Buffers>, octets: usize) -> Charge {
        let units = octets.div_ceil(SMALL) as u64;
        self.memory.borrow_mut().overdraw(units);
        Charge { pool: Rc::clone(self), units }
    }

    fn take_back(&self, block: Box<[u8]>) {
        if block.is_empty() {
            return;
        }
        self.leased.set(self.leased.get() - 1);
        self.memory.borrow_mut().release(units(&block));
        let (free, keep) = match block.len() {
            SMALL => (&self.small, KEEP_SMALL),
            LARGE => (&self.large, KEEP_LARGE),
            WIDE => (&self.wide, KEEP_LARGE),
            _ => return,
        };
        let mut free = free.borrow_mut();
        if free.len() < keep {
            free.push(block);
        }
    }
}

/// Memory that is counted until this is dropped.
#[derive(Debug)]
pub struct Charge {
    pool: Rc<Buffers>,
    units: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.pool.memory.borrow_mut().release(self.units);
    }
}

fn units(block: &[u8]) -> u64 {
    block.len().div_ceil(SMALL) as u64
}

/// A leased block: octets that were read and not yet consumed, and room for more behind them.
#[derive(Debug)]
pub struct Buf {
    block: Box<[u8]>,
    start: usize,
    end: usize,
    brimful: bool,
    pool: Rc<Buffers>,
}

impl Buf {
    fn new(block: Box<[u8]>, pool: &Rc<Buffers>) -> Buf {
        if !block.is_empty() {
            pool.leased.set(pool.leased.get() + 1);
            pool.memory.borrow_mut().overdraw(units(&block));
        }
        Buf { block, start: 0, end: 0, brimful: false, pool: Rc::clone(pool) }
    }

    /// What was read and not consumed.
    #[inline]
    pub fn filled(&self) -> &[u8] {
        self.block.get(self.start..self.end).unwrap_or_default()
    }

    /// What was read and not consumed, for who decrypts it where it lies.
    #[inline]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.block.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Room behind it.
    #[inline]
    pub fn spare(&mut self) -> &mut [u8] {
        self.block.get_mut(self.end..).unwrap_or_default()
    }

    /// `n` octets of the room were written.
    #[inline]
    pub fn fill(&mut self, n: usize) {
        self.end = (self.end + n).min(self.block.len());
        self.brimful = self.end == self.block.len();
    }

    /// Whether the last octets that were written filled all the room: whoever sent them may have sent more.
    pub fn is_brimful(&self) -> bool {
        self.brimful
    }

    /// The first `n` octets are no longer needed.
    #[inline]
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Forgets what was read behind the first `n` octets.
    pub fn truncate(&mut self, n: usize) {
        self.end = self.end.min(self.start + n);
        self.brimful = false;
    }

    /// Octets that were read and not consumed.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is left to consume.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Octets of the whole block.
    pub fn capacity(&self) -> usize {
        self.block.len()
    }

    /// Moves what is left to the front, so that all room is behind it. Spans into it stay right: they count from
    /// the first unconsumed octet.
    pub fn compact(&mut self) {
        self.block.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }

    /// Appends as much of `octets` as fits; returns how many.
    pub fn append(&mut self, octets: &[u8]) -> usize {
        let spare = self.spare();
        let n = octets.len().min(spare.len());
        if let (Some(to), Some(from)) = (spare.get_mut(..n), octets.get(..n)) {
            to.copy_from_slice(from);
        }
        self.fill(n);
        n
    }

    /// Makes room for messages up to `max` octets: compacts, or moves into a larger block. Returns false if there is none.
    pub fn grow(&mut self, max: usize) -> bool {
        if self.start > 0 {
            self.compact();
            return true;
        }
        if self.block.len() >= max {
            return false;
        }
        let mut larger = if self.block.len() < LARGE && max <= LARGE {
            self.pool.large()
        } else {
            let size = (self.block.len() * 2).min(max);
            Buf::new(vec![0; size].into_boxed_slice(), &self.pool)
        };
        larger.append(self.filled());
        std::mem::swap(self, &mut larger);
        true
    }

    /// Makes sure that `n` more octets fit behind what is there: compacts, or moves into a larger block.
    pub fn reserve(&mut self, n: usize) {
        if self.block.len() - self.end >= n {
            return;
        }
        let size = self.len() + n;
        if size <= self.block.len() {
            self.compact();
            return;
        }
        let mut larger = match size {
            n if n <= SMALL => self.pool.small(),
            n if n <= LARGE => self.pool.large(),
            n if n <= WIDE => self.pool.wide(),
            _ => Buf::new(vec![0; size].into_boxed_slice(), &self.pool),
        };
        larger.append(self.filled());
        std::mem::swap(self, &mut larger);
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        self.pool.take_back(std::mem::take(&mut self.block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::Budget;

    #[test]
    fn blocks_come_back_and_grow() {
        let budget = Budget::new(4);
        let pool = Rc::new(Buffers::new(Lease::new(budget, 1)));
        let mut buf = pool.small();
        assert_eq!(buf.append(&[7; SMALL + 1]), SMALL);
        buf.consume(10);
        assert!(buf.grow(LARGE), "compacts first");
        assert_eq!((buf.len(), buf.capacity()), (SMALL - 10, SMALL));
        assert!(buf.grow(LARGE));
        assert_eq!((buf.len(), buf.capacity()), (SMALL - 10, LARGE));
        assert!(buf.filled().iter().all(|b| *b == 7));
        assert!(!buf.grow(LARGE));
        buf.truncate(SMALL);
        assert_eq!(buf.len(), SMALL - 10, "no more than there is");
        assert!(!pool.is_short());
        assert!(buf.grow(2 * LARGE));
        assert!(pool.is_short(), "eight units of four");
        let charge = pool.charge(SMALL + 1);
        let none = pool.none();
        assert_eq!(pool.leased(), 1);
        drop((buf, none));
        assert_eq!(pool.leased(), 0);
        assert!(!pool.is_short());
        let more = pool.charge(3 * SMALL);
        assert!(pool.is_short(), "two and three");
        drop((charge, more));
        assert!(!pool.is_short());
        assert_eq!((pool.small.borrow().len(), pool.large.borrow().len()), (1, 1));
    }

    #[test]
    fn room_is_made_for_what_is_asked() {
        let pool = Rc::new(Buffers::new(Lease::new(Budget::new(100), 1)));
        let mut buf = pool.none();
        for (n, capacity) in [(1, SMALL), (SMALL, SMALL), (LARGE, LARGE), (WIDE, WIDE)] {
            buf.reserve(n);
            assert_eq!(buf.capacity(), capacity, "{n}");
        }
        buf.append(&[7; WIDE]);
        buf.consume(10);
        buf.reserve(10);
        assert_eq!((buf.len(), buf.capacity(), buf.spare().len()), (WIDE - 10, WIDE, 10));
        buf.reserve(11);
        assert_eq!((buf.len(), buf.capacity()), (WIDE - 10, WIDE + 1));
        assert!(buf.filled().iter().all(|b| *b == 7));
        drop(buf);
        assert_eq!((pool.leased(), pool.wide.borrow().len()), (0, 1));
    }
}
