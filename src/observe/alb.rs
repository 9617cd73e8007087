//! `format = "alb"`: the access log entry of an AWS Application Load Balancer, field by field, so that
//! existing Athena tables and parsers read it.
//!
//! Where ours differ: the certificate has its file instead of an ARN;
//! `elb` is the listener's name, `target_group_arn` the group's; a client that left is 460, as ALB says it; the
//! response processing time is 0.000, because a response head is passed on when it arrives.

use crate::observe::escape::{self, PATH_CAP, Place, VALUE_CAP};
use crate::observe::record::Record;
use crate::observe::time::Clock;
use std::net::SocketAddr;
use std::time::Duration;

/// "The client closed the connection before the answer": what ALB logs when no status was sent.
const CLIENT_LEFT: u16 = 460;

/// Appends the entry, without a line break.
pub fn write(r: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(r.scheme.as_bytes());
    out.push(b' ');
    clock.iso(r.wall_micros, out);
    bare(r.listener.as_bytes(), out);
    out.push(b' ');
    escape::display(SocketAddr::new(r.client, client_port(r)), out);
    out.push(b' ');
    target(r, out);
    times(r, out);
    statuses(r, out);
    out.push(b' ');
    escape::number(r.bytes_in, out);
    out.push(b' ');
    escape::number(r.bytes_out, out);
    out.extend_from_slice(b" \"");
    request(r, out);
    out.push(b'"');
    quoted(r.user_agent.unwrap_or_default(), out);
    bare(r.tls_cipher().unwrap_or_default(), out);
    bare(r.tls_version().unwrap_or_default(), out);
    bare(r.group.as_bytes(), out);
    quoted(r.trace_id.unwrap_or_default(), out);
    quoted(r.sni().unwrap_or_default(), out);
    quoted(chosen_certificate(r).as_bytes(), out);
    out.push(b' ');
    priority(r, out);
    out.push(b' ');
    clock.iso(r.start_micros(), out);
    quoted(action(r).as_bytes(), out);
    quoted(r.redirect_url.unwrap_or_default(), out);
    quoted(r.reason.unwrap_or_default().as_bytes(), out);
    out.extend_from_slice(b" \"");
    target(r, out);
    out.extend_from_slice(b"\" \"");
    target_status(r, out);
    out.push(b'"');
    quoted(r.deviation.map_or("-", |d| d.class().name()).as_bytes(), out);
    quoted(r.deviation.map_or("-", |d| d.name()).as_bytes(), out);
}

fn chosen_certificate<'a>(r: &Record<'a>) -> &'a str {
    match r.tls {
        Some(tls) if tls.resumed => "session-reused",
        Some(tls) => tls.certificate.as_ref().map_or("", |c| &c.label),
        None => "",
    }
}

/// The port belongs to the peer; behind a trusted proxy the client's is not known.
fn client_port(r: &Record<'_>) -> u16 {
    r.peer.filter(|peer| peer.ip() == r.client).map_or(0, |peer| peer.port())
}

fn target(r: &Record<'_>, out: &mut Vec<u8>) {
    let name = r.target.unwrap_or_default();
    escape::hex(name.as_bytes(), VALUE_CAP, Place::Bare, out);
    if name.starts_with("unix:") {
        // Parsers expect a port.
        out.extend_from_slice(b":0");
    }
}

fn times(r: &Record<'_>, out: &mut Vec<u8>) {
    let dispatched = r.connect_time.and_then(|connect| r.request_time?.checked_add(connect));
    seconds(dispatched, out);
    seconds(r.response_time, out);
    seconds(r.response_time.map(|_| Duration::ZERO), out);
}

fn seconds(time: Option<Duration>, out: &mut Vec<u8>) {
    out.push(b' ');
    match time {
        Some(time) => escape::seconds(time, out),
        None => out.extend_from_slice(b"-1"),
    }
}

fn statuses(r: &Record<'_>, out: &mut Vec<u8>) {
    out.push(b' ');
    escape::number(if r.status == 0 { CLIENT_LEFT } else { r.status }, out);
    out.push(b' ');
    target_status(r, out);
}

fn target_status(r: &Record<'_>, out: &mut Vec<u8>) {
    match r.target_status {
        Some(status) => escape::number(status, out),
        None => out.push(b'-'),
    }
}

/// `GET http://host:80/path HTTP/1.1`; the port is added where none was sent. An absolute target stands as is.
fn request(r: &Record<'_>, out: &mut Vec<u8>) {
    escape::hex(r.method, VALUE_CAP, Place::Bare, out);
    out.push(b' ');
    if r.path.first().is_none_or(|first| *first == b'/' || *first == b'*') {
        out.extend_from_slice(r.scheme.as_bytes());
        out.extend_from_slice(b"://");
        escape::hex(r.host, VALUE_CAP, Place::Bare, out);
        if !has_port(r.host) {
            out.extend_from_slice(if r.scheme == "https" { b":443" } else { b":80" });
        }
    }
    escape::hex(r.path, PATH_CAP, Place::Bare, out);
    out.push(b' ');
    escape::hex(r.version.as_bytes(), VALUE_CAP, Place::Bare, out);
}

fn has_port(host: &[u8]) -> bool {
    let after = memchr::memrchr(b']', host).map_or(0, |bracket| bracket + 1);
    memchr::memchr(b':', host.get(after..).unwrap_or_default()).is_some()
}

/// 0 for the default action; `-` for a rule without a priority and for requests that were refused before any rule.
fn priority(r: &Record<'_>, out: &mut Vec<u8>) {
    match r.rule_priority {
        Some(priority) => escape::number(priority, out),
        None if r.rule.is_empty() && r.action != "none" => out.push(b'0'),
        None => out.push(b'-'),
    }
}

fn action(r: &Record<'_>) -> &'static str {
    match r.action {
        "respond" => "fixed-response",
        "none" => "-",
        action => action,
    }
}

fn bare(value: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    escape::hex(value, VALUE_CAP, Place::Bare, out);
}

fn quoted(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    escape::hex(value, VALUE_CAP, Place::Quoted, out);
    out.push(b'"');
}
