//! The ordinary thread beside the workers: start, signals, reload, probes, names, admin.

pub mod report;
