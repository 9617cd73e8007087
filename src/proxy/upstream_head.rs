//! The head that goes to a target: written anew from the judged one.
//!
//! Fields of the hop before are left out (RFC 9110 section 7.6.1), forwarding fields are believed only from trusted
//! peers, names that servers read in different ways are dropped, and what ringgate adds cannot be shadowed.

use crate::http::write::{address, content_length, field, number, parsed_field, request_line};
use crate::http::{Framing, Known, Method, RequestHead, Version};
use crate::proxy::{Exchange, policies, steer, upgrade};
use crate::snapshot::Snapshot;
use std::net::IpAddr;

/// Writes the head for `x` into its scratch. `host` stands in when the client named none (HTTP/1.0).
pub fn render(x: &mut Exchange<'_>, host: &[u8]) {
    let mut out = std::mem::take(&mut x.scratch.upstream);
    out.clear();
    let trusted = x.epoch.snapshot.trusts(x.client.peer.ip());
    {
        let head = &x.scratch.request;
        let buf = x.buf.filled();
        let query = head.query.map(|q| q.of(buf));
        let sent = &x.scratch.sent;
        let method = given(&sent.method).unwrap_or(head.method_span.of(buf));
        match given(&sent.target) {
            Some(target) => request_line(&mut out, method, target, None),
            None => request_line(&mut out, method, head.canonical_path(buf), query),
        }
        let authority = head.authority.of(buf);
        let authority = given(&sent.host).unwrap_or(authority);
        let authority = if sent.host_of_target { host_of_target(x) } else { authority };
        field(&mut out, b"host", if authority.is_empty() { host } else { authority });
        kept_fields(x, trusted, &mut out);
        match head.framing {
            Framing::Length(length) => content_length(&mut out, length),
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // RFC 9110 section 8.6: a method that expects content says so even when there is none.
            Framing::None if wants_length(x) => content_length(&mut out, 0),
            Framing::None | Framing::Close => {}
        }
        upgrade::fields(x, &mut out);
        if head.takes_trailers && !upgrade::is_offered(x) {
            out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
        }
        if let Some(left) = head.max_forwards {
            out.extend_from_slice(b"max-forwards: ");
            number(&mut out, left.saturating_sub(1));
            out.extend_from_slice(b"\r\n");
        }
    }
    forwarding_fields(x, trusted, &mut out);
    if let Some(told) = x.client.tls.as_ref().and_then(|tls| tls.told.as_ref()) {
        out.extend_from_slice(&told.fields);
    }
    out.extend_from_slice(&x.scratch.findings.upstream);
    out.extend_from_slice(&x.scratch.sent.fields);
    if x.scratch.trace.retries > 0 {
        // Whoever retries behind this sees that it is done already (hazard UP-09).
        out.extend_from_slice(b"x-ringgate-attempt: ");
        number(&mut out, u64::from(x.scratch.trace.retries) + 1);
        out.extend_from_slice(b"\r\n");
    }
    field(&mut out, b"x-request-id", &x.scratch.request_id);
    via(x, &mut out);
    out.extend_from_slice(b"\r\n");
    x.scratch.upstream = out;
}

/// Puts the `Expect` that was held back before the empty line of the head.
pub fn add_expect(head: &mut Vec<u8>) {
    head.truncate(head.len().saturating_sub(2));
    head.extend_from_slice(b"expect: 100-continue\r\n\r\n");
}

// As the file names it; empty for one that is not known.
fn host_of_target<'x>(x: &'x Exchange<'_>) -> &'x [u8] {
    let trace = &x.scratch.trace;
    let group = trace.group.and_then(|at| x.epoch.snapshot.groups.get(at));
    let target = group.and_then(|group| group.targets.get(trace.target?));
    target.map_or(&[], |target| target.host.as_bytes())
}

fn given(octets: &[u8]) -> Option<&[u8]> {
    Some(octets).filter(|octets| !octets.is_empty())
}

fn wants_length(x: &Exchange<'_>) -> bool {
    let method = x.scratch.request.method_span.of(x.buf.filled());
    matches!(given(&x.scratch.sent.method).unwrap_or(method), b"POST" | b"PUT" | b"PATCH")
}

fn kept_fields(x: &Exchange<'_>, trusted: bool, out: &mut Vec<u8>) {
    let head = &x.scratch.request;
    let buf = x.buf.filled();
    let chains = policies::Chains::of(x);
    let held = steer::Held::of(x);
    for one in &head.fields {
        let name = one.name.of(buf);
        if !is_kept(one.known, trusted, head) || name.contains(&b'_') || is_ours(name) {
            continue;
        }
        if chains.hold_back(name, one.value.of(buf)) || x.scratch.sent.holds(name) {
            continue;
        }
        if one.known == Known::Cookie && (held.any() || chains.read_cookies()) {
            chains.cookie_field(one.value.of(buf), |name| held.holds(name), out);
            continue;
        }
        parsed_field(out, buf, one);
    }
}

/// Whether a field is one that only ringgate says of itself.
pub fn is_ours(name: &[u8]) -> bool {
    const OURS: &[u8] = b"x-ringgate-";
    name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

fn is_kept(known: Known, trusted: bool, head: &RequestHead) -> bool {
    match known {
        Known::Other
        | Known::Date
        | Known::Server
        | Known::Cookie
        | Known::Accept
        | Known::Origin
        | Known::Authorization
        | Known::ContentType
        | Known::UserAgent
        | Known::Referer
        | Known::Via => true,
        Known::Trailer => head.framing == Framing::Chunked,
        // RFC 9110 section 7.6.2: it is counted down for OPTIONS, and of no meaning elsewhere.
        Known::MaxForwards => head.method != Method::Options,
        // What other servers read instead of the target or the peer: only from those who may say so.
        Known::XForwardedServer
        | Known::XForwardedPrefix
        | Known::XForwardedPath
        | Known::XForwardedUri
        | Known::XForwardedMethod
        | Known::XForwardedClientCert
        | Known::XRealIp => trusted,
        _ => false,
    }
}

/// Gives the exchange its id, once: a trusted peer's goes on, everyone else's is replaced.
pub fn assign_id(x: &mut Exchange<'_>) {
    let trusted = x.epoch.snapshot.trusts(x.client.peer.ip());
    let mut id = std::mem::take(&mut x.scratch.request_id);
    id.clear();
    if trusted && let Some(given) = x.view().fields.first("x-request-id") {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        if !given.is_empty() && given.len() <= 128 && given.iter().all(plain) {
            id.extend_from_slice(given);
        }
    }
    if id.is_empty() {
        new_id(x, &mut id);
    }
    x.scratch.request_id = id;
}

// Appends a fresh request id: 32 hexadecimal digits.
fn new_id(x: &Exchange<'_>, id: &mut Vec<u8>) {
    let random = x.shard.with_rng(|rng| rng.u128(..)).to_be_bytes();
    for octet in random {
        id.extend_from_slice(&PAIRS[usize::from(octet)]);
    }
}

// Every octet as two hexadecimal digits.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = [digits[octet >> 4], digits[octet & 15]];
        octet += 1;
    }
    table
};

fn forwarding_fields(x: &Exchange<'_>, trusted: bool, out: &mut Vec<u8>) {
    let head = &x.scratch.request;
    let buf = x.buf.filled();
    let peer = x.client.peer.ip().to_canonical();
    let snapshot: &Snapshot = &x.epoch.snapshot;
    let given = |known: Known| {
        let mine = head.fields.iter().filter(move |f| trusted && f.known == known);
        mine.map(|f| f.value.of(buf)).filter(|v| !v.is_empty())
    };
    out.extend_from_slice(b"x-forwarded-for: ");
    for value in given(Known::XForwardedFor) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
    address(out, peer);
    out.extend_from_slice(b"\r\nx-forwarded-proto: ");
    out.extend_from_slice(
        given(Known::XForwardedProto).next().unwrap_or(x.client.scheme().as_bytes()),
    );
    out.extend_from_slice(b"\r\nx-forwarded-port: ");
    match given(Known::XForwardedPort).next() {
        Some(port) => out.extend_from_slice(port),
        None => number(out, u64::from(x.client.port)),
    }
    out.extend_from_slice(b"\r\n");
    let authority = head.authority.of(buf);
    let host = given(Known::XForwardedHost).next().unwrap_or(authority);
    if !host.is_empty() {
        field(out, b"x-forwarded-host", host);
    }
    if snapshot.forwarded {
        out.extend_from_slice(b"forwarded: ");
        for value in given(Known::Forwarded) {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
        forwarded_element(peer, authority, x.client.scheme(), out);
        out.extend_from_slice(b"\r\n");
    }
}

// RFC 7239 section 4: an IPv6 node is bracketed and, with its colons, quoted; so is a host with a port.
fn forwarded_element(peer: IpAddr, host: &[u8], scheme: &str, out: &mut Vec<u8>) {
    match peer {
        IpAddr::V4(_) => {
            out.extend_from_slice(b"for=");
            address(out, peer);
        }
        IpAddr::V6(_) => {
            out.extend_from_slice(b"for=\"[");
            address(out, peer);
            out.extend_from_slice(b"]\"");
        }
    }
    if !host.is_empty() {
        let quoted = host.iter().any(|b| matches!(b, b':' | b'[' | b']'));
        out.extend_from_slice(if quoted { b";host=\"" } else { b";host=" });
        out.extend_from_slice(host);
        if quoted {
            out.push(b'"');
        }
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme.as_bytes());
}

// RFC 9110 section 7.6.3: the version is that of the message as it was received.
fn via(x: &Exchange<'_>, out: &mut Vec<u8>) {
    let via = &x.epoch.snapshot.via;
    out.extend_from_slice(b"via: ");
    match x.scratch.request.version {
        Version::Http11 => out.extend_from_slice(via),
        Version::Http2 => {
            out.extend_from_slice(b"2.0");
            out.extend_from_slice(via.get(3..).unwrap_or_default());
        }
        Version::Http10 => {
            out.extend_from_slice(b"1.0");
            out.extend_from_slice(via.get(3..).unwrap_or_default());
        }
    }
    out.extend_from_slice(b"\r\n");
}
