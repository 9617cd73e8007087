//! Which failures are tried again, when, and how much of the traffic may be second attempts.
//!
//! Pure: the walk of attempts is `proxy::forward`'s.

/// When a request is tried again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retry {}
