//! Stored responses, in memory, shared by all workers: found by key, bounded in octets.
//!
//! Whoever finds a part of it busy does without (a miss). What may be stored is decided in `cache`.

/// The responses.
#[derive(Debug, Default)]
pub struct Store {}
