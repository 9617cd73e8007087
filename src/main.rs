//! The `ringgate` binary.

fn main() {}
