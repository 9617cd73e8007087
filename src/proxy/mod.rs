//! One request, from its head to its access record: the walk of [`exchange`].
//!
//! Every protocol that clients speak comes through here. `serve` reads heads and hands them in; `forward` sends them
//! on, `reply` writes answers, `finish` counts and logs. One exit, so that every request is counted once.

pub mod account;
pub mod aggregate;
pub mod attempts;
pub mod body;
pub mod cached;
pub mod call;
pub mod change;
pub mod coding;
pub mod collect;
pub mod dial;
pub mod dress;
pub mod exchange;
pub mod facts;
pub mod finish;
pub mod forward;
pub mod guard;
pub mod hedge;
pub mod inject;
pub mod inner;
pub mod load;
pub mod mirror;
pub mod multiplex;
pub mod pace;
pub mod pages;
pub mod passing;
pub mod policies;
pub mod proxied;
pub mod receive;
pub mod recode;
pub mod reply;
pub mod retry;
pub mod shape;
pub mod staged;
pub mod stages;
pub mod steer;
pub mod throttle;
pub mod trailers;
pub mod tunnel;
pub mod upgrade;
pub mod upstream_head;

pub use exchange::{Client, Exchange, Passed, exchange};
