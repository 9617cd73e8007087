//! The pure layers of ringgate (1 to 5 of `tests/tidy.rs`) as a crate of their own, and the checks on them.
//!
//! They import nothing from above, so they can be built without the runtime and the libraries of control: instrumented,
//! the whole of ringgate takes minutes to build, this takes seconds. It has the name of the real crate, so that the
//! checks are the same text here and in `tests/corpora.rs`, which replays the corpora against the real one.

extern crate self as ringgate;

#[path = "../../src/balance/mod.rs"]
pub mod balance;
#[path = "../../src/base/mod.rs"]
pub mod base;
#[path = "../../src/cache/mod.rs"]
pub mod cache;
pub mod checks;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/fanout/mod.rs"]
pub mod fanout;
#[path = "../../src/health/mod.rs"]
pub mod health;
#[path = "../../src/http/mod.rs"]
pub mod http;
#[path = "../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../src/protect/mod.rs"]
pub mod protect;
#[path = "../../src/route/mod.rs"]
pub mod route;
#[path = "../../src/snapshot/mod.rs"]
pub mod snapshot;
#[path = "../../src/sticky/mod.rs"]
pub mod sticky;
#[path = "../../src/tls/mod.rs"]
pub mod tls;
#[path = "../../src/transform/mod.rs"]
pub mod transform;

/// Of a higher layer, but as pure.
#[path = "."]
pub mod serve {
    #[path = "../../src/serve/hello.rs"]
    pub mod hello;
}
