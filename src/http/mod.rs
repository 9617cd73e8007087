//! Messages as values: heads, fields and bodies, bytes to messages and back. No socket, no clock.

pub mod fields;
pub mod known;
