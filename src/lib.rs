//! ringgate: an edge load balancer and API gateway for Linux.
//!
//! One process; one pinned worker thread per core, each with its own listener (`SO_REUSEPORT`) and its own
//! connections, pools and buffers; one ordinary control thread for everything that is not the data path.
//!
//! # The map
//!
//! A module imports only from lower layers; siblings on one layer do not import each other.
//! `tests/tidy.rs` holds this table and fails on an upward import.
//!
//! | layer | module | what it is for |
//! |---|---|---|
//! | 13 | `main.rs` | arguments, exit codes |
//! | 12 | [`control`] | give up rights, start workers and watch them, own listening sockets, signals, reload, probes, names, certificates, ACME |
//! | 11 | [`worker`] | pin, build the runtime, adopt listeners, serve until drained |
//! |    | [`admin`] | metrics and health of ringgate itself, over HTTP |
//! | 10 | [`serve`] | connections in: accept, PROXY headers, TLS handshakes, HTTP/1, HTTP/2, what is relayed as it is |
//! | 9 | [`proxy`] | one request: the walk of `exchange.rs`, forward, reply, finish; and the tunnel that it may become |
//! | 8 | [`upstream`] | connections out: connect, TLS, HTTP/2 |
//! | 7 | [`shard`] | what one core owns: epoch, pools, its shares of the machine's budgets, mailbox, drain |
//! | 6 | [`net`] | monoio, and only here: sockets (TCP, TLS, a stream of HTTP/2; in memory, for simulation), buffers, deadlines, listeners |
//! |   | [`observe`] | access records and their formats, the log thread |
//! |   | [`store`] | stored responses, shared by all workers |
//! | 5 | [`snapshot`] | the file as run: compiled, carried over, published |
//! | 4 | [`config`] | the file as written, and everything that can be wrong with it |
//! | 3 | [`route`] [`balance`] [`sticky`] [`health`] [`protect`] [`policy`] | pure decisions: where a request goes, and whether |
//! |   | [`transform`] [`cache`] [`fanout`] | pure decisions: what is changed, stored, mirrored, merged |
//! | 2 | [`http`] | messages as values, bytes to messages and back; HTTP/2 heads as lines, its frames, PROXY headers, gRPC; what deviates, and how it is mended |
//! |   | [`tls`] | certificates, policies, tickets, trust; which certificate a name gets; what a handshake agreed on, or failed of |
//! | 1 | [`base`] | the clock, meters, leases, connections of each client |
//!
//! # Invariants
//!
//! * Layers 1 to 5 are pure: no runtime, no socket, no file, no clock but the [`base::Tick`] they are given.
//! * All that the file says is one immutable [`snapshot::Snapshot`]; a request keeps the one it began with.
//! * Every mutable thing has one owner: a worker, or the control thread.
//! * A worker never waits for another core: no lock, no name look-up, no file, no log write.
//! * Received bytes are never forwarded as they came: every head is parsed, judged and written anew.

pub mod admin;
pub mod balance;
pub mod base;
pub mod cache;
pub mod config;
pub mod control;
pub mod fanout;
pub mod health;
pub mod http;
pub mod net;
pub mod observe;
pub mod policy;
pub mod protect;
pub mod proxy;
pub mod route;
pub mod serve;
pub mod shard;
pub mod snapshot;
pub mod sticky;
pub mod store;
pub mod tls;
pub mod transform;
pub mod upstream;
pub mod worker;
