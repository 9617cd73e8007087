//! What the service is sent of a request: the client's fields that the file names, and what ringgate itself knows.
//!
//! Names that [`is_ours`] knows are never taken from the client, whatever it sends under them. Called by `forward_auth`, both to ask
//! and to remember, so that nothing can be sent that a decision is not remembered by.

use crate::http::write;
use crate::policy::Subject;

/// Whether a service would take a field for ringgate's word.
pub fn is_ours(name: &str) -> bool {
    let prefixes = ["x-forwarded", "x-original", "x-real-ip", "x-auth-request-redirect"];
    name == "forwarded" || prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Calls `each` with every name and value, always in the same order. `send` has names in lower case; `scratch` is used for
/// values that are put together.
pub fn each(
    send: &[Box<str>],
    subject: &Subject<'_>,
    scratch: &mut Vec<u8>,
    each: &mut dyn FnMut(&str, &[u8]),
) {
    let view = &subject.view;
    for name in send {
        if **name == *"cookie" {
            cookies(subject, scratch, each);
            continue;
        }
        view.fields.all(name).for_each(|value| each(name, value));
    }
    each("x-forwarded-method", view.method);
    each("x-original-method", view.method);
    each("x-forwarded-proto", subject.scheme.as_bytes());
    scratch.clear();
    write::address(scratch, subject.client);
    each("x-forwarded-for", scratch);
    scratch.clear();
    write::number(scratch, u64::from(subject.port));
    each("x-forwarded-port", scratch);
    scratch.clear();
    host(subject, scratch);
    each("x-forwarded-host", scratch);
    scratch.clear();
    uri(subject, scratch);
    each("x-forwarded-uri", scratch);
    scratch.clear();
    scratch.extend_from_slice(subject.scheme.as_bytes());
    scratch.extend_from_slice(b"://");
    host(subject, scratch);
    uri(subject, scratch);
    each("x-original-url", scratch);
}

// HTTP/2 may spread cookies over several lines, which a service of HTTP/1.1 must see as one (RFC 9113 section 8.2.3).
fn cookies(subject: &Subject<'_>, scratch: &mut Vec<u8>, each: &mut dyn FnMut(&str, &[u8])) {
    scratch.clear();
    for value in subject.view.fields.all("cookie") {
        if !scratch.is_empty() {
            scratch.extend_from_slice(b"; ");
        }
        scratch.extend_from_slice(value);
    }
    if !scratch.is_empty() {
        each("cookie", scratch);
    }
}

fn host(subject: &Subject<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(subject.view.host);
    let usual = if subject.scheme == "https" { 443 } else { 80 };
    if subject.port != usual {
        out.push(b':');
        write::number(out, u64::from(subject.port));
    }
}

fn uri(subject: &Subject<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(subject.view.path);
    if let Some(query) = subject.view.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}
