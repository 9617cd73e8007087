//! `format = "json"`: one object a line, the same keys in the same order in every line, `null` where there is
//! nothing to say. Written by hand because every request passes here; tests parse it with serde_json.

use crate::observe::escape::{self, PATH_CAP, VALUE_CAP};
use crate::observe::record::Record;
use crate::observe::time::Clock;
use std::time::Duration;

/// Appends the object, without a line break.
pub fn write(r: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.iso(r.wall_micros, out);
    out.push(b'"');
    text(out, b",\"request_id\":", r.request_id);
    out.extend_from_slice(b",\"client\":\"");
    escape::display(r.client, out);
    out.extend_from_slice(b"\",\"peer\":");
    match r.peer {
        Some(peer) => {
            out.push(b'"');
            escape::display(peer, out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"null"),
    }
    text(out, b",\"listener\":", r.listener.as_bytes());
    text(out, b",\"rule\":", r.rule.as_bytes());
    number(out, b",\"priority\":", r.rule_priority.map(u64::from));
    text(out, b",\"action\":", r.action.as_bytes());
    maybe(out, b",\"group\":", Some(r.group.as_bytes()).filter(|g| !g.is_empty()));
    maybe(out, b",\"target\":", r.target.map(str::as_bytes));
    text(out, b",\"method\":", r.method);
    text(out, b",\"scheme\":", r.scheme.as_bytes());
    text(out, b",\"host\":", r.host);
    out.extend_from_slice(b",\"path\":\"");
    escape::json(r.path, PATH_CAP, out);
    out.push(b'"');
    received(out, r.received);
    text(out, b",\"version\":", r.version.as_bytes());
    number(out, b",\"stream\":", r.stream.map(u64::from));
    number(out, b",\"status\":", Some(u64::from(r.status)));
    number(out, b",\"target_status\":", r.target_status.map(u64::from));
    number(out, b",\"grpc_status\":", r.grpc_status.map(u64::from));
    number(out, b",\"bytes_in\":", Some(r.bytes_in));
    number(out, b",\"bytes_out\":", Some(r.bytes_out));
    number(out, b",\"body_in\":", Some(r.body_in));
    number(out, b",\"body_out\":", Some(r.body_out));
    time(out, b",\"request_ms\":", r.request_time);
    time(out, b",\"connect_ms\":", r.connect_time);
    time(out, b",\"response_ms\":", r.response_time);
    time(out, b",\"total_ms\":", r.total);
    maybe(out, b",\"user_agent\":", r.user_agent);
    maybe(out, b",\"referer\":", r.referer);
    maybe(out, b",\"trace_id\":", r.trace_id);
    maybe(out, b",\"redirect_url\":", r.redirect_url);
    maybe(out, b",\"reason\":", r.reason.map(str::as_bytes));
    maybe(out, b",\"detail\":", r.reason_text.map(str::as_bytes));
    maybe(out, b",\"policy\":", r.policy.map(str::as_bytes));
    maybe(out, b",\"consumer\":", r.consumer.map(str::as_bytes));
    maybe(out, b",\"plan\":", r.plan.map(str::as_bytes));
    maybe(out, b",\"policy_dry_run\":", r.dry_run.map(str::as_bytes));
    tls(out, r);
    maybe(out, b",\"classification\":", r.deviation.map(|d| d.class().name().as_bytes()));
    maybe(out, b",\"classification_reason\":", r.deviation.map(|d| d.name().as_bytes()));
    maybe(out, b",\"cache\":", r.cache.map(str::as_bytes));
    number(out, b",\"retries\":", Some(u64::from(r.retries)));
    out.extend_from_slice(if r.reused { b",\"reused\":true" } else { b",\"reused\":false" });
    number(out, b",\"generation\":", Some(r.generation));
    number(out, b",\"worker\":", Some(r.worker as u64));
    maybe(out, b",\"sticky\":", r.sticky.map(str::as_bytes));
    maybe(out, b",\"injected\":", r.injected.map(str::as_bytes));
    out.push(b'}');
}

fn tls(out: &mut Vec<u8>, r: &Record<'_>) {
    maybe(out, b",\"tls_version\":", r.tls_version());
    maybe(out, b",\"tls_cipher\":", r.tls_cipher());
    maybe(out, b",\"sni\":", r.sni());
    maybe(out, b",\"alpn\":", r.alpn());
    out.extend_from_slice(match r.tls_resumed() {
        Some(true) => b",\"tls_resumed\":true",
        Some(false) => b",\"tls_resumed\":false",
        None => b",\"tls_resumed\":null",
    });
    maybe(out, b",\"client_subject\":", r.client_subject().map(str::as_bytes));
    maybe(out, b",\"proxied_id\":", r.proxied_id());
}

fn received(out: &mut Vec<u8>, target: Option<&[u8]>) {
    let Some(target) = target else { return null(out, b",\"received\":") };
    out.extend_from_slice(b",\"received\":\"");
    escape::json(target, PATH_CAP, out);
    out.push(b'"');
}

fn text(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.push(b'"');
    escape::json(value, VALUE_CAP, out);
    out.push(b'"');
}

fn maybe(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => text(out, key, value),
        None => null(out, key),
    }
}

fn number(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    let Some(value) = value else { return null(out, key) };
    out.extend_from_slice(key);
    escape::number(value, out);
}

fn time(out: &mut Vec<u8>, key: &[u8], value: Option<Duration>) {
    let Some(value) = value else { return null(out, key) };
    out.extend_from_slice(key);
    escape::millis(value, out);
}

fn null(out: &mut Vec<u8>, key: &[u8]) {
    out.extend_from_slice(key);
    out.extend_from_slice(b"null");
}
