//! One finished request, as the formats see it: borrowed, built on the worker's stack, never stored.
//!
//! It holds bytes as they were received; escaping and capping are the formats' work. Every request has exactly
//! one record, answered or not. Built by `proxy` at its one exit.

use crate::http::desync::Reason;
use crate::http::proxy_protocol::Said;
use crate::tls::Facts;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Wall time at the end of the request, in microseconds since 1970.
    pub wall_micros: u64,
    /// The request id that was sent on and answered.
    pub request_id: &'a [u8],
    /// The client's address as computed from the peer and trusted proxies' fields.
    pub client: IpAddr,
    /// The TCP peer; `None` where there is no address.
    pub peer: Option<SocketAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// The rule's name; empty for the listener's default.
    pub rule: &'a str,
    /// The rule's priority, if the file gives one.
    pub rule_priority: Option<u32>,
    /// The group's name; empty if the request was not forwarded.
    pub group: &'a str,
    /// The last target that was tried, as `address:port` or `unix:PATH`.
    pub target: Option<&'a str>,
    /// The method as sent; empty if none could be read.
    pub method: &'a [u8],
    /// `http` or `https`, as the client reached the listener.
    pub scheme: &'static str,
    /// The host that was asked for, with its port if one was sent; empty if none.
    pub host: &'a [u8],
    /// The canonical path with its query, as it was routed and sent on; empty if none could be read.
    pub path: &'a [u8],
    /// The request target as received, where that is not `path`.
    pub received: Option<&'a [u8]>,
    /// `HTTP/2.0`, `HTTP/1.1` or `HTTP/1.0`; empty if none could be read.
    pub version: &'static str,
    /// The number of the HTTP/2 stream on the client's connection.
    pub stream: Option<u32>,
    /// The status sent to the client; 0 if it left before an answer began.
    pub status: u16,
    /// The status that the target sent.
    pub target_status: Option<u16>,
    /// Bytes of head and body read from the client.
    pub bytes_in: u64,
    /// Bytes of head and body written to the client.
    pub bytes_out: u64,
    /// Bytes of the request body alone.
    pub body_in: u64,
    /// Bytes of the response body alone.
    pub body_out: u64,
    /// From the request's first byte until it was ready for a target, or answered here.
    pub request_time: Option<Duration>,
    /// What it took to get a connection to the target, all attempts together.
    pub connect_time: Option<Duration>,
    /// From the request's last byte to the target until its response head.
    pub response_time: Option<Duration>,
    /// From the request's first byte to the answer's last.
    pub total: Option<Duration>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
    /// `X-Amzn-Trace-Id` as received.
    pub trace_id: Option<&'a [u8]>,
    /// `Location` of a redirect that ringgate made.
    pub redirect_url: Option<&'a [u8]>,
    /// The stable code of an answer that ringgate made because something failed.
    pub reason: Option<&'static str>,
    /// The sentence that goes with `reason`.
    pub reason_text: Option<&'a str>,
    /// Further attempts after the first.
    pub retries: u32,
    /// Whether the target's connection had served a request before.
    pub reused: bool,
    /// The snapshot that the request ran on.
    pub generation: u64,
    /// The worker's number.
    pub worker: usize,
    /// `forward`, `redirect`, `respond` or `none`.
    pub action: &'static str,
    /// The status that a call of gRPC ended with; `None` for any other request.
    pub grpc_status: Option<u16>,
    /// The policy that has ended the request.
    pub policy: Option<&'a str>,
    /// Who sent it, as policies have found.
    pub consumer: Option<&'a str>,
    /// The consumer's plan.
    pub plan: Option<&'a str>,
    /// Policies that only count and would have refused it, each with the reason: `a:rate_limited,b:token_missing`.
    pub dry_run: Option<&'a str>,
    /// What was agreed on in the client's TLS handshake; `None` where there was none.
    pub tls: Option<&'a Facts>,
    /// What a trusted balancer in front said in its PROXY header, as type-length-values; empty where there was none.
    pub passed: &'a [u8],
    /// How the request deviates from the protocol, if it does.
    pub deviation: Option<Reason>,
    /// `new`, `kept` or `moved`: what has become of a client that stays with a target, or a group.
    pub sticky: Option<&'static str>,
    /// What became of it in the store of responses, in a word; `None` where its rule stores nothing.
    pub cache: Option<&'static str>,
    /// What was made to go wrong on purpose.
    pub injected: Option<&'static str>,
}

impl Record<'_> {
    /// The version of the client's TLS, with ringgate or with the balancer in front.
    pub fn tls_version(&self) -> Option<&[u8]> {
        match self.tls {
            Some(tls) => given(tls.version.as_bytes()),
            None => given(self.said().tls?.version),
        }
    }

    /// The cipher of the client's TLS, as OpenSSL calls it.
    pub fn tls_cipher(&self) -> Option<&[u8]> {
        match self.tls {
            Some(tls) => given(tls.cipher.as_bytes()),
            None => given(self.said().tls?.cipher),
        }
    }

    /// Whether the client's session goes on from an earlier one; `None` where no handshake was made here: TLS that is passed through
    /// has no more than a name.
    pub fn tls_resumed(&self) -> Option<bool> {
        self.tls.filter(|tls| !tls.version.is_empty()).map(|tls| tls.resumed)
    }

    /// The name that the client asked for in its TLS handshake.
    pub fn sni(&self) -> Option<&[u8]> {
        match self.tls {
            Some(tls) => tls.name.as_deref().map(str::as_bytes),
            None => given(self.said().authority),
        }
    }

    /// The protocol that was agreed on with the client.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self.tls {
            Some(tls) => tls.alpn.as_deref(),
            None => given(self.said().alpn),
        }
    }

    /// The balancer's own id of the connection.
    pub fn proxied_id(&self) -> Option<&[u8]> {
        given(self.said().unique_id)
    }

    fn said(&self) -> Said<'_> {
        Said::of(self.passed)
    }

    /// The subject of the client's certificate.
    pub fn client_subject(&self) -> Option<&str> {
        Some(&*self.tls?.told.as_ref()?.subject)
    }

    /// Wall time at the request's first byte, in microseconds since 1970.
    pub fn start_micros(&self) -> u64 {
        let total = self.total.unwrap_or_default().as_micros();
        self.wall_micros.saturating_sub(u64::try_from(total).unwrap_or(u64::MAX))
    }
}

fn given(octets: &[u8]) -> Option<&[u8]> {
    Some(octets).filter(|octets| !octets.is_empty())
}

impl Default for Record<'_> {
    /// A record of nothing: the base for struct update.
    fn default() -> Self {
        Record {
            wall_micros: 0,
            request_id: b"",
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            peer: None,
            listener: "",
            rule: "",
            rule_priority: None,
            group: "",
            target: None,
            method: b"",
            scheme: "http",
            host: b"",
            path: b"",
            received: None,
            version: "",
            stream: None,
            status: 0,
            target_status: None,
            bytes_in: 0,
            bytes_out: 0,
            body_in: 0,
            body_out: 0,
            request_time: None,
            connect_time: None,
            response_time: None,
            total: None,
            user_agent: None,
            referer: None,
            trace_id: None,
            redirect_url: None,
            reason: None,
            reason_text: None,
            retries: 0,
            reused: false,
            generation: 0,
            worker: 0,
            action: "none",
            grpc_status: None,
            policy: None,
            consumer: None,
            plan: None,
            dry_run: None,
            tls: None,
            passed: b"",
            deviation: None,
            sticky: None,
            cache: None,
            injected: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_agreed_on_here_comes_before_what_was_passed_on() {
        let tlvs = b"\x01\0\x02h2\x02\0\x06a.test\x05\0\x01i\x20\0\x10\x01\0\0\0\x01\x21\0\x03old\x23\0\x02c1";
        let of = |tls, passed| {
            let record = Record { tls, passed, ..Record::default() };
            [
                record.tls_version(),
                record.tls_cipher(),
                record.sni(),
                record.alpn(),
                record.proxied_id(),
            ]
            .map(|v| v.map(|v| String::from_utf8(v.to_vec()).unwrap()).unwrap_or_default())
        };
        assert_eq!(of(None, &[]), ["", "", "", "", ""]);
        assert_eq!(of(None, tlvs), ["old", "c1", "a.test", "h2", "i"]);
        let own = Facts {
            version: "TLSv1.3",
            cipher: "c2",
            name: Some("b.test".into()),
            ..Facts::default()
        };
        assert_eq!(of(Some(&own), tlvs), ["TLSv1.3", "c2", "b.test", "", "i"]);
        let passed_through = Facts { name: Some("c.test".into()), ..Facts::default() };
        let resumed = |tls| Record { tls, ..Record::default() }.tls_resumed();
        assert_eq!(resumed(Some(&own)), Some(false));
        assert_eq!((resumed(Some(&passed_through)), resumed(None)), (None, None));
        let record = Record { tls: Some(&passed_through), ..Record::default() };
        assert_eq!((record.tls_version(), record.tls_cipher()), (None, None));
    }
}
