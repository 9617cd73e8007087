//! One request, several answers: what is mirrored and compared, what is injected, and how parts are merged.
//!
//! Pure decisions; `proxy` sends and receives.

pub mod compare;
pub mod freshness;
pub mod inject;
pub mod json;
pub mod merge;
pub mod mirror;

pub use compare::CompareSettings;
pub use inject::InjectSettings;
pub use merge::{AggregateSettings, PartSettings};
pub use mirror::MirrorSettings;

/// A share of requests, in ten-thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

impl Share {
    /// So many ten-thousandths are all.
    pub const WHOLE: u32 = 10_000;
    /// Every request.
    pub const ALL: Share = Share(Share::WHOLE);

    /// Whether a request is among them that has drawn a number below [`Share::WHOLE`].
    pub fn takes(self, drawn: u32) -> bool {
        drawn < self.0
    }
}
