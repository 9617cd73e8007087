//! A line of the user's own: literal text with `$field`s, as `$time $client "$method $path" $status $total_ms`.
//!
//! `${field}` where a letter follows, `$$` for a dollar sign. Values are printable ASCII with `\xHH` for the
//! rest; what is absent is `-`. A value outside double quotes has its spaces escaped too, so that a client
//! cannot forge a field. For JSON there is `format = "json"`: `\xHH` is not valid inside JSON strings.

use crate::observe::escape::{self, PATH_CAP, Place, VALUE_CAP};
use crate::observe::format::FormatError;
use crate::observe::record::Record;
use crate::observe::time::Clock;
use std::time::Duration;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Value(Field, Place),
}

macro_rules! fields {
    ($($variant:ident $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Field { $($variant,)* }

        const FIELDS: &[(&str, Field)] = &[$(($name, Field::$variant),)*];
    };
}

fields! {
    Time "time",
    TimeLocal "time_clf",
    TimeStart "time_start",
    Unix "unix",
    RequestId "request_id",
    Client "client",
    Peer "peer",
    Listener "listener",
    Rule "rule",
    Priority "priority",
    Action "action",
    Group "group",
    Target "target",
    Method "method",
    Scheme "scheme",
    Host "host",
    Path "path",
    Version "version",
    Status "status",
    TargetStatus "target_status",
    BytesIn "bytes_in",
    BytesOut "bytes_out",
    BodyIn "body_in",
    BodyOut "body_out",
    RequestMs "request_ms",
    ConnectMs "connect_ms",
    ResponseMs "response_ms",
    TotalMs "total_ms",
    UserAgent "user_agent",
    Referer "referer",
    TraceId "trace_id",
    RedirectUrl "redirect_url",
    Reason "reason",
    Detail "detail",
    Retries "retries",
    Reused "reused",
    Generation "generation",
    Worker "worker",
    Received "received",
    Classification "classification",
    ClassificationReason "classification_reason",
    GrpcStatus "grpc_status",
    Policy "policy",
    Consumer "consumer",
    Plan "plan",
    PolicyDryRun "policy_dry_run",
    Stream "stream",
    TlsVersion "tls_version",
    TlsCipher "tls_cipher",
    Sni "sni",
    Alpn "alpn",
    TlsResumed "tls_resumed",
    ClientSubject "client_subject",
    ProxiedId "proxied_id",
    Sticky "sticky",
    Cache "cache",
    Injected "injected",
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// On unknown fields, a `$` that begins none, and control characters.
    pub fn parse(text: &str) -> Result<Template, FormatError> {
        if let Some(c) = text.chars().find(|c| c.is_control()) {
            return Err(FormatError::Control(c));
        }
        let mut pieces = Vec::new();
        let (mut literal, mut rest, mut place) = (String::new(), text, Place::Bare);
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if before.matches('"').count() % 2 == 1 {
                place = if place == Place::Bare { Place::Quoted } else { Place::Bare };
            }
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let (name, after) = name(after)?;
            let field = FIELDS.iter().find(|(known, _)| *known == name);
            let Some((_, field)) = field else {
                return Err(FormatError::UnknownField(name.to_owned()));
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Value(*field, place));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Template { pieces })
    }

    /// The names of all fields.
    pub fn fields() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(name, _)| *name)
    }

    /// Appends the line, without a line break.
    pub fn write(&self, record: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value(field, place) => value(*field, *place, record, clock, out),
            }
        }
    }
}

/// The name that `text` begins with, and what follows it.
fn name(text: &str) -> Result<(&str, &str), FormatError> {
    if let Some(inner) = text.strip_prefix('{') {
        return inner.split_once('}').ok_or(FormatError::LoneDollar);
    }
    let end = text
        .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .unwrap_or(text.len());
    if end == 0 { Err(FormatError::LoneDollar) } else { Ok(text.split_at(end)) }
}

fn value(field: Field, place: Place, r: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    let text: &[u8] = match field {
        Field::Time => return clock.iso(r.wall_micros, out),
        Field::TimeLocal => return clock.clf(r.wall_micros, out),
        Field::TimeStart => return clock.iso(r.start_micros(), out),
        Field::Unix => return escape::seconds(Duration::from_micros(r.wall_micros), out),
        Field::RequestId => r.request_id,
        Field::Client => return escape::display(r.client, out),
        Field::Peer => match r.peer {
            Some(peer) => return escape::display(peer, out),
            None => b"",
        },
        Field::Listener => r.listener.as_bytes(),
        Field::Rule => r.rule.as_bytes(),
        Field::Priority => return number(r.rule_priority.map(u64::from), out),
        Field::Action => r.action.as_bytes(),
        Field::Group => r.group.as_bytes(),
        Field::Target => r.target.unwrap_or_default().as_bytes(),
        Field::Method => r.method,
        Field::Scheme => r.scheme.as_bytes(),
        Field::Host => r.host,
        Field::Path => return escape::hex(r.path, PATH_CAP, place, out),
        Field::Version => r.version.as_bytes(),
        Field::Status => return escape::number(r.status, out),
        Field::TargetStatus => return number(r.target_status.map(u64::from), out),
        Field::Stream => return number(r.stream.map(u64::from), out),
        Field::Policy => r.policy.unwrap_or_default().as_bytes(),
        Field::Consumer => r.consumer.unwrap_or_default().as_bytes(),
        Field::Plan => r.plan.unwrap_or_default().as_bytes(),
        Field::PolicyDryRun => r.dry_run.unwrap_or_default().as_bytes(),
        Field::GrpcStatus => return number(r.grpc_status.map(u64::from), out),
        Field::BytesIn => return escape::number(r.bytes_in, out),
        Field::BytesOut => return escape::number(r.bytes_out, out),
        Field::BodyIn => return escape::number(r.body_in, out),
        Field::BodyOut => return escape::number(r.body_out, out),
        Field::RequestMs => return millis(r.request_time, out),
        Field::ConnectMs => return millis(r.connect_time, out),
        Field::ResponseMs => return millis(r.response_time, out),
        Field::TotalMs => return millis(r.total, out),
        Field::UserAgent => r.user_agent.unwrap_or_default(),
        Field::Referer => r.referer.unwrap_or_default(),
        Field::TraceId => r.trace_id.unwrap_or_default(),
        Field::RedirectUrl => r.redirect_url.unwrap_or_default(),
        Field::Reason => r.reason.unwrap_or_default().as_bytes(),
        Field::Detail => r.reason_text.unwrap_or_default().as_bytes(),
        Field::Retries => return escape::number(r.retries, out),
        Field::Reused => return escape::number(u8::from(r.reused), out),
        Field::Generation => return escape::number(r.generation, out),
        Field::Worker => return escape::number(r.worker, out),
        Field::Received => {
            return escape::hex(r.received.unwrap_or_default(), PATH_CAP, place, out);
        }
        Field::TlsVersion => r.tls_version().unwrap_or_default(),
        Field::TlsCipher => r.tls_cipher().unwrap_or_default(),
        Field::Sni => r.sni().unwrap_or_default(),
        Field::Alpn => r.alpn().unwrap_or_default(),
        Field::TlsResumed => return number(r.tls_resumed().map(u64::from), out),
        Field::ProxiedId => r.proxied_id().unwrap_or_default(),
        Field::Sticky => r.sticky.unwrap_or_default().as_bytes(),
        Field::ClientSubject => r.client_subject().unwrap_or_default().as_bytes(),
        Field::Injected => r.injected.unwrap_or_default().as_bytes(),
        Field::Classification => r.deviation.map_or("", |d| d.class().name()).as_bytes(),
        Field::ClassificationReason => r.deviation.map_or("", |d| d.name()).as_bytes(),
        Field::Cache => r.cache.unwrap_or_default().as_bytes(),
    };
    escape::hex(text, VALUE_CAP, place, out);
}

fn number(value: Option<u64>, out: &mut Vec<u8>) {
    match value {
        Some(value) => escape::number(value, out),
        None => out.push(b'-'),
    }
}

fn millis(time: Option<Duration>, out: &mut Vec<u8>) {
    match time {
        Some(time) => escape::millis(time, out),
        None => out.push(b'-'),
    }
}
