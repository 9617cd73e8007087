//! What a worker's number stands for: its pulse, and its cell in all meters, which have one writer each.
//!
//! A number is given to another worker only after the thread that had it has ended. So there are more numbers than workers:
//! the successor of a worker that hangs gets one that is free. Control gives them out (`control::crew`).

use std::sync::atomic::{AtomicU8, Ordering};

/// Who has a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seat {
    /// Nobody.
    #[default]
    Vacant,
    /// A worker that serves, or should.
    Serving,
    /// A worker whose thread has ended, and which will be started again.
    Dead,
    /// A worker that hung and has a successor. It accepts nothing more; should it wake, it finishes what it has.
    Retired,
}

/// A [`Seat`] with one writer and many readers.
#[derive(Debug, Default)]
pub struct SeatState(AtomicU8);

const SEATS: [Seat; 4] = [Seat::Vacant, Seat::Serving, Seat::Dead, Seat::Retired];

impl SeatState {
    /// Who has it now.
    pub fn get(&self) -> Seat {
        SEATS.get(usize::from(self.0.load(Ordering::Acquire))).copied().unwrap_or_default()
    }

    /// Says who has it from now on.
    pub fn set(&self, seat: Seat) {
        self.0.store(seat as u8, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_said() {
        let state = SeatState::default();
        assert_eq!(state.get(), Seat::Vacant);
        for seat in SEATS {
            state.set(seat);
            assert_eq!(state.get(), seat);
        }
    }
}
