//! What must hold for any input at all, one function a target. Each panics when it does not hold.
//!
//! The fuzz targets feed them what libFuzzer invents, `tests/corpora.rs` what is kept in `tests/corpus/`. They compare
//! the parsers with slower readings that share no code with them, and with themselves: whatever the network cuts, whatever
//! is written anew, the meaning stays. A finding becomes a file in the corpus of its target.

mod bodies;
mod caching;
mod changes;
mod chunks;
mod codings;
mod config;
mod cookies;
mod frames;
mod grpc;
mod grpc_web;
mod head;
mod hello;
mod json;
mod lines;
mod proxy_header;
mod request_head;
mod response_head;
mod routes;
mod signatures;
mod split;
mod target;

pub use bodies::bodies;
pub use caching::caching;
pub use changes::changes;
pub use chunks::chunks;
pub use codings::codings_and_bodies;
pub use config::config;
pub use cookies::cookies;
pub use frames::frames;
pub use grpc::grpc;
pub use grpc_web::grpc_web;
pub use hello::hello;
pub use json::json;
pub use lines::lines;
pub use proxy_header::proxy_header;
pub use request_head::request_head;
pub use response_head::response_head;
pub use routes::routes;
pub use signatures::signatures;
pub use target::target;

/// A check with the name of its target, which is also that of its corpus.
pub type Check = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: &[Check] = &[
    ("request_head", request_head),
    ("response_head", response_head),
    ("chunks", chunks),
    ("proxy_header", proxy_header),
    ("config", config),
    ("routes", routes),
    ("cookies", cookies),
    ("target", target),
    ("frames", frames),
    ("lines", lines),
    ("grpc", grpc),
    ("grpc_web", grpc_web),
    ("hello", hello),
    ("signatures", signatures),
    ("bodies", bodies),
    ("codings", codings_and_bodies),
    ("caching", caching),
    ("json", json),
    ("changes", changes),
];
