//! What makes a request a call of gRPC: read once when it begins, and told once when it ends. And whose sides may pause.
//!
//! The rules are `http::grpc`'s. Called by `exchange`, `receive` and `finish`.

use crate::http::grpc::{self, Call};
use crate::http::{Known, Method};
use crate::proxy::Exchange;
use crate::proxy::pace::Quiet;
use std::rc::Rc;

/// Notes whether the request is a call, and until when its client wants an answer.
pub fn begin(x: &mut Exchange<'_>) {
    let head = &x.scratch.request;
    if head.method != Method::Post {
        return;
    }
    let buf = x.buf.filled();
    let mut fields = head.fields.iter().filter(|field| field.known == Known::ContentType);
    let call = fields.next().map_or(Call::No, |field| Call::of(field.value.of(buf)));
    if call == Call::No {
        return;
    }
    let timeout = x.view().fields.first("grpc-timeout").and_then(grpc::timeout);
    let trace = &mut x.scratch.trace;
    trace.call = call;
    trace.deadline = timeout.map(|timeout| trace.began.after(timeout));
}

/// The patience with a call whose sides may pause: streams stay open for hours. `None` for any other request.
pub fn quiet(x: &Exchange<'_>) -> Option<Quiet> {
    if x.scratch.trace.call == Call::No {
        return None;
    }
    Some(patience(x))
}

/// The patience with a response that may pause: that of a call, and with server-sent events. `head` is what was parsed.
pub fn pauses(x: &Exchange<'_>, head: &[u8]) -> Option<Quiet> {
    if is_events(x, head) { Some(patience(x)) } else { quiet(x) }
}

fn patience(x: &Exchange<'_>) -> Quiet {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let idle = rule.and_then(|rule| rule.idle).unwrap_or(x.listener.idle);
    Quiet::new(idle, Rc::clone(&x.scratch.moved))
}

fn is_events(x: &Exchange<'_>, head: &[u8]) -> bool {
    let mut fields = x.scratch.response.fields.iter();
    let kind = fields.find(|field| field.known == Known::ContentType);
    kind.is_some_and(|field| {
        let kind = field.value.of(head).split(|b| *b == b';').next().unwrap_or_default();
        kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// The status that a call ended with; `None` for any other request. Where no `grpc-status` was seen, it is what the client
/// makes of what it got.
pub fn status(x: &Exchange<'_>) -> Option<u16> {
    let trace = &x.scratch.trace;
    if trace.call == Call::No {
        return None;
    }
    let cancelled = trace.fault.is_some_and(|fault| fault.status() == 460);
    Some(match (trace.grpc_status, trace.status) {
        (Some(status), _) => status,
        _ if cancelled => grpc::CANCELLED,
        (None, 200) => grpc::UNKNOWN,
        (None, status) => grpc::status_of_http(status),
    })
}
