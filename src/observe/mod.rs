//! What is told about requests: the access record, the formats it is written in, and the thread that writes it.
//!
//! A worker builds a borrowed [`Record`] when a request ends and hands it to its own [`Sink`], which appends
//! one line to a batch; full batches go over a bounded channel to the log thread. A worker never waits for
//! the log: what does not fit is dropped and counted. Meters live in `base::meters`; health probes are not logged.

pub mod alb;
pub mod combined;
pub mod escape;
pub mod format;
pub mod json;
pub mod kept;
pub mod output;
pub mod record;
pub mod template;
pub mod time;
pub mod writer;

pub use format::{Format, FormatError};
pub use output::Output;
pub use record::Record;
pub use time::Clock;
pub use writer::{LogHandle, LogStats, Sink, in_process, start};
