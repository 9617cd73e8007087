//! Messages as values: heads, fields and bodies; bytes to messages and back. No socket, no clock.
//!
//! The head parser is a strict layer over httparse (which accepts what an edge must refuse); the chunk decoder
//! and the writer are ours. Both directions are judged: clients and targets lie alike.

pub mod chunk;
pub mod desync;
pub mod fault;
pub mod field_block;
pub mod fields;
pub mod frames;
pub mod grpc;
pub mod grpc_web;
pub mod host;
pub mod known;
pub mod lines;
pub mod path;
pub mod problem;
pub mod proxy_protocol;
pub mod request;
pub mod response;
pub mod scan;
#[cfg(test)]
mod tests;
pub mod websocket;
pub mod write;

pub use fault::Fault;
pub use fields::{Field, Fields, RequestView, Span};
pub use known::Known;
pub use request::{Method, RequestHead};
pub use response::ResponseHead;

/// How the end of a message body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// So many octets.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// Until the connection closes; only responses.
    Close,
}

/// The version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As it is written.
    pub fn text(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        }
    }
}
