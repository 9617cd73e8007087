//! `format = "combined"`: Apache's `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`.
//!
//! As there, `%t` is when the request was received, `%b` counts the response body alone with `-` for none,
//! and what is not printable ASCII is written as `\xHH`. A client that left before an answer has status 0.

use crate::observe::escape::{self, PATH_CAP, Place, VALUE_CAP};
use crate::observe::record::Record;
use crate::observe::time::Clock;

/// Appends the entry, without a line break.
pub fn write(r: &Record<'_>, clock: &mut Clock, out: &mut Vec<u8>) {
    escape::display(r.client, out);
    out.extend_from_slice(b" - - ");
    clock.clf(r.start_micros(), out);
    out.extend_from_slice(b" \"");
    request_line(r, out);
    out.extend_from_slice(b"\" ");
    escape::number(r.status, out);
    out.push(b' ');
    match r.body_out {
        0 => out.push(b'-'),
        bytes => escape::number(bytes, out),
    }
    out.extend_from_slice(b" \"");
    escape::hex(r.referer.unwrap_or_default(), VALUE_CAP, Place::Quoted, out);
    out.extend_from_slice(b"\" \"");
    escape::hex(r.user_agent.unwrap_or_default(), VALUE_CAP, Place::Quoted, out);
    out.push(b'"');
}

/// The request line; a lone `-` if not even a method was read. A space inside a part is escaped: the line
/// has three parts, whatever was sent.
fn request_line(r: &Record<'_>, out: &mut Vec<u8>) {
    if r.method.is_empty() {
        out.push(b'-');
        return;
    }
    escape::hex(r.method, VALUE_CAP, Place::Bare, out);
    out.push(b' ');
    escape::hex(r.path, PATH_CAP, Place::Bare, out);
    out.push(b' ');
    escape::hex(r.version.as_bytes(), VALUE_CAP, Place::Bare, out);
}
