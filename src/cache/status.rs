//! `Cache-Status`: what became of a request in this cache (RFC 9211).
//!
//! A line of its own behind that of the target, whose members come first: the list grows towards the client. Keys are not told.
//! Called for every answer of a rule that stores and does not forbid it.

use crate::http::write;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why it was sent on; `None` if it was answered from the store (`hit`).
    pub forwarded: Option<Forwarded>,
    /// The status that the target has answered with.
    pub answered: Option<u16>,
    /// Whether the response was stored.
    pub stored: bool,
    /// Whether it has waited for another request's response.
    pub collapsed: bool,
    /// Seconds that the stored response remains fresh; below zero, has been stale.
    pub ttl: Option<i64>,
    /// More, as a token.
    pub detail: Option<&'static str>,
}

/// Why a request was sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// The cache has nothing to do with it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is stored under its key.
    UriMiss,
    /// What is stored there answers other requests (`Vary`).
    VaryMiss,
    /// There was nothing, and which of both is not known.
    Miss,
    /// It asks for it.
    Request,
    /// What is stored has to be validated.
    Stale,
}

impl Status {
    /// Answered from the store.
    pub fn hit(ttl: i64) -> Status {
        Status { ttl: Some(ttl), ..Status::default() }
    }

    /// Sent on.
    pub fn forwarded(why: Forwarded) -> Status {
        Status { forwarded: Some(why), ..Status::default() }
    }

    /// Appends it as a field line.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"cache-status: ringgate");
        match self.forwarded {
            None => out.extend_from_slice(b"; hit"),
            Some(why) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(why.token().as_bytes());
            }
        }
        if let Some(status) = self.answered.filter(|_| self.forwarded.is_some()) {
            out.extend_from_slice(b"; fwd-status=");
            write::number(out, u64::from(status));
        }
        if let Some(ttl) = self.ttl {
            out.extend_from_slice(if ttl < 0 { b"; ttl=-" } else { b"; ttl=" });
            write::number(out, ttl.unsigned_abs());
        }
        if self.stored && self.forwarded.is_some() {
            out.extend_from_slice(b"; stored");
        }
        if self.collapsed && self.forwarded.is_some() {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            out.extend_from_slice(detail.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl Forwarded {
    /// As RFC 9211 section 2.2 calls it.
    pub fn token(self) -> &'static str {
        match self {
            Forwarded::Bypass => "bypass",
            Forwarded::Method => "method",
            Forwarded::UriMiss => "uri-miss",
            Forwarded::VaryMiss => "vary-miss",
            Forwarded::Miss => "miss",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Status, expected: &str) {
        let mut out = Vec::new();
        status.write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("cache-status: {expected}\r\n"));
    }

    #[test]
    fn is_written_as_rfc9211_says() {
        let (hit, fwd) = (Status::hit(376), Status::forwarded);
        check(hit, "ringgate; hit; ttl=376");
        check(Status::hit(-412), "ringgate; hit; ttl=-412");
        check(Status { stored: true, answered: Some(200), ..hit }, "ringgate; hit; ttl=376");
        check(fwd(Forwarded::UriMiss), "ringgate; fwd=uri-miss");
        let miss = Status { answered: Some(200), stored: true, ..fwd(Forwarded::VaryMiss) };
        check(miss, "ringgate; fwd=vary-miss; fwd-status=200; stored");
        let shared = Status { collapsed: true, ttl: Some(9), ..fwd(Forwarded::Stale) };
        check(shared, "ringgate; fwd=stale; ttl=9; collapsed");
        let told = Status { detail: Some("set-cookie"), ..fwd(Forwarded::Miss) };
        check(told, "ringgate; fwd=miss; detail=set-cookie");
    }
}
