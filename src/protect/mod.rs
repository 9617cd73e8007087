//! What keeps targets from harm: ejection of outliers, breakers, bounds of what is in flight, and retries within a budget.
//!
//! Pure decisions over a few shared atomics; `proxy::guard` and `proxy::retry` act on them.

pub mod retry;

pub use retry::Retry;

/// When a target is taken out for a while since its answers are bad.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutlierSettings {}

/// When a group is given a rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BreakerSettings {}

/// What a target may have in flight, all workers together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoundSettings {}

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
