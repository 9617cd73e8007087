//! Which fields of a request a target sees otherwise than the client has sent them (RFC 9111 section 4.1, hazards CACHE-02, -06).
//!
//! A stored response that depends on one of them cannot be looked up by what clients send: it is not stored. Called with what is
//! sent instead of the client's head, when the head of a response has arrived that says what it depends on.

use crate::cache::age::Meta;
use crate::cache::storable::Why;
use crate::http::Known;

/// What a request's target has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    // In lower case.
    others: Vec<Box<[u8]>>,
    uncoded: bool,
}

impl Seen {
    /// All of the client's fields, but for `Accept-Encoding` where that was held back (`uncoded`): then nothing depends on it.
    pub fn new(uncoded: bool) -> Seen {
        Seen { others: Vec::new(), uncoded }
    }

    /// The field of this name is not the client's.
    pub fn other(&mut self, name: &[u8]) {
        self.others.push(name.to_ascii_lowercase().into());
    }

    /// Nor are those of these lines; but that nobody's response is to be coded is said alike for all.
    pub fn lines(&mut self, lines: &[u8]) {
        let lines = lines.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
        for line in lines.filter(|line| *line != b"accept-encoding: identity") {
            if let Some(colon) = memchr::memchr(b':', line) {
                self.other(line.get(..colon).unwrap_or_default());
            }
        }
    }

    /// What is kept of a response, with what it depends on as far as clients say it.
    ///
    /// # Errors
    /// [`Why::Vary`], where others say it.
    pub fn judge(&self, mut meta: Meta) -> Result<Meta, Why> {
        if meta.vary.names().iter().any(|name| self.has(name)) {
            return Err(Why::Vary);
        }
        if self.uncoded {
            meta.vary.leave_out("accept-encoding");
        }
        Ok(meta)
    }

    fn has(&self, name: &str) -> bool {
        is_written(name) || self.others.iter().any(|other| **other == *name.as_bytes())
    }
}

// What ringgate writes for each client, or believes of some of them only. What else it writes is in the key.
fn is_written(name: &str) -> bool {
    matches!(
        Known::of(name.as_bytes()),
        Known::XForwardedFor
            | Known::Forwarded
            | Known::XRealIp
            | Known::Via
            | Known::XRequestId
            | Known::ClientCert
            | Known::XForwardedClientCert
    ) || name.starts_with("x-ringgate-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Vary;
    use crate::http::fields::OwnedFields;

    fn meta(vary: &str) -> Meta {
        let fields: OwnedFields = [("vary", vary)].into_iter().collect();
        Meta { vary: Vary::of(fields.view()).unwrap(), ..Meta::default() }
    }

    #[test]
    fn cache_02_what_clients_do_not_say_is_not_looked_up_by_what_they_say() {
        let mut seen = Seen::new(false);
        seen.lines(b"x-consumer: alice\r\nX-Plan: gold: 1\r\n");
        seen.other(b"X-Tenant");
        for (vary, stored) in [
            ("Accept, Foo", true),
            ("X-Consumer", false),
            ("Accept, x-plan", false),
            ("x-tenant", false),
            ("gold", true),
            ("X-Forwarded-For", false),
            ("Forwarded", false),
            ("X-Real-IP", false),
            ("Via", false),
            ("X-Request-Id", false),
            ("X-Amzn-Mtls-Clientcert-Subject", false),
            ("X-Forwarded-Client-Cert", false),
            ("X-Ringgate-Attempt", false),
            // These are told apart by the key.
            ("X-Forwarded-Proto, X-Forwarded-Host, Host", true),
        ] {
            let judged = seen.judge(meta(vary));
            assert_eq!(judged.err(), (!stored).then_some(Why::Vary), "{vary}");
        }
    }

    #[test]
    fn nothing_depends_on_what_was_held_back() {
        let of =
            |uncoded: bool| Seen::new(uncoded).judge(meta("Accept-Encoding, Foo")).unwrap().vary;
        assert_eq!(of(true).names().join(" "), "foo");
        assert_eq!(of(false).names().join(" "), "accept-encoding foo");
        let of = |line: &[u8]| {
            let mut seen = Seen::new(true);
            seen.lines(line);
            seen.judge(meta("Accept-Encoding")).is_ok()
        };
        assert!(of(b"x-a: b\r\naccept-encoding: identity\r\n"));
        assert!(!of(b"accept-encoding: gzip\r\n"));
    }
}
