//! What everything else stands on: the only clock, per-worker meters, leases of machine-wide budgets.

pub mod clients;
pub mod lease;
pub mod meters;
pub mod sealed;
pub mod tick;

pub use fastrand::Rng;
pub use tick::Tick;
