//! Bodies of responses that rules should have changed and could not, on one core.
//!
//! Written by one worker, read by control, as the cells of `base::meters` are.

use crate::base::meters::Counter;

/// Why a body was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// It is no JSON, has a content coding, or is a part of a body.
    MediaType,
    /// It is larger than may be read.
    TooLarge,
    /// It says that it is JSON, and is none that can be changed.
    Malformed,
}

impl Unmapped {
    /// All of them.
    pub const ALL: [Unmapped; 3] = [Unmapped::MediaType, Unmapped::TooLarge, Unmapped::Malformed];

    /// As it is counted.
    pub fn name(self) -> &'static str {
        match self {
            Unmapped::MediaType => "media_type",
            Unmapped::TooLarge => "too_large",
            Unmapped::Malformed => "malformed",
        }
    }
}

/// Counts by [`Unmapped`].
#[derive(Debug, Default)]
pub struct UnmappedCounts([Counter; Unmapped::ALL.len()]);

impl UnmappedCounts {
    /// Counts one.
    pub fn add(&self, why: Unmapped) {
        if let Some(count) = self.0.get(why as usize) {
            count.add(1);
        }
    }

    /// How often `why` was counted.
    pub fn value(&self, why: Unmapped) -> u64 {
        self.0.get(why as usize).map_or(0, Counter::value)
    }
}
