//! What keeps targets from harm: ejection of outliers, breakers, bounds of what is in flight, and retries within a budget.
//!
//! Pure decisions over a few shared atomics, which all workers see, so that a limit means what the file says for the whole
//! machine (hazards RT-22, UP-18). `proxy::guard` and `proxy::retry` act on them; what a target and a group have of them
//! lies in `snapshot::live`.

pub mod blame;
pub mod bounds;
pub mod breaker;
pub mod outlier;
pub mod retry;

pub use blame::{Blame, Cause, Outcome};
pub use bounds::{BoundSettings, Count, Line};
pub use breaker::{Breaker, BreakerSettings};
pub use outlier::{OutlierSettings, Watch};
pub use retry::Retry;

use crossbeam::utils::CachePadded;

/// Whose requests are shed first when there is too much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Importance {
    /// Shed first.
    Low,
    /// Shed next.
    #[default]
    Normal,
    /// Shed last.
    High,
}

impl Importance {
    /// All of them, the least first.
    pub const ALL: [Importance; 3] = [Importance::Low, Importance::Normal, Importance::High];

    /// As the file says it.
    pub fn name(self) -> &'static str {
        match self {
            Importance::Low => "low",
            Importance::Normal => "normal",
            Importance::High => "high",
        }
    }

    /// The position in [`Importance::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Thousandths of a budget that must stay free for others when a request of this kind is let in.
    pub fn spares(self) -> u64 {
        match self {
            Importance::Low => 200,
            Importance::Normal => 50,
            Importance::High => 0,
        }
    }
}

/// What all workers share of one target in order to protect it.
#[derive(Debug, Default)]
pub struct TargetGuard {
    /// Requests in flight; counted only where `bounds` says so.
    pub requests: CachePadded<Count>,
    /// Connections that are open or being opened, idle ones included.
    pub connections: Count,
    /// How it has answered lately.
    pub watch: Watch,
}
