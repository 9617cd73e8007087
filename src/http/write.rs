//! Writes heads. Everything that leaves ringgate passes here: nothing is forwarded as it came.
//!
//! Slices of a parsed head are known to be clean and are copied; text that was built (a redirect, a configured
//! field) is checked for control characters, so that no value can begin a line of its own.

use crate::http::Field;

/// Appends `GET /path?query HTTP/1.1`.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], path: &[u8], query: Option<&[u8]>) {
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Appends `HTTP/1.1 200 OK`; `reason` is a clean slice of a parsed head, or a phrase of ours.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field whose name and value are clean already: slices of a parsed head, or constants.
#[inline]
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a field of a parsed head. A line that already reads `name: value` with CRLF, as nearly all do, is copied in
/// one go: the octets are those that would be written.
#[inline]
pub fn parsed_field(out: &mut Vec<u8>, buf: &[u8], one: &Field) {
    let line = buf.get(one.name.start as usize..one.value.end as usize + 2).unwrap_or_default();
    let after_name = one.name.len();
    let plain = one.value.start == one.name.end + 2
        && line.get(after_name..after_name + 2) == Some(b": ")
        && line.ends_with(b"\r\n");
    if plain {
        out.extend_from_slice(line);
    } else {
        field(out, one.name.of(buf), one.value.of(buf));
    }
}

/// Appends a field whose value was built; a value with a control character is left out with its field.
/// Returns whether it was written.
pub fn built_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> bool {
    let clean = value.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
    if clean {
        field(out, name, value);
    }
    clean
}

/// Appends a field as [`field`] does, unless the head in `out` has one of this name already.
pub fn field_unless_given(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !has_field(out, name) {
        field(out, name, value);
    }
}

/// Whether lines that were written have a field of this name.
pub fn has_field(lines: &[u8], name: &[u8]) -> bool {
    lines.split(|b| *b == b'\n').any(|line| {
        let (start, rest) = line.split_at(name.len().min(line.len()));
        rest.starts_with(b":") && start.eq_ignore_ascii_case(name)
    })
}

/// Appends `Content-Length`.
pub fn content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// Appends a decimal number.
pub fn number(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends an address as a node of `X-Forwarded-For`: bare, also for IPv6, as ALB writes it without a port.
pub fn address(out: &mut Vec<u8>, address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            for (i, octet) in [a, b, c, d].into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        std::net::IpAddr::V6(v6) => {
            use std::io::Write;
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{v6}");
        }
    }
}

/// The phrase for a status (RFC 9110 section 15); empty for one that is not registered.
pub fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        460 => "Client Closed Request",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        561 => "Unauthorized by Identity Provider",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_value_cannot_begin_a_line() {
        for octet in 0..=255u8 {
            let mut out = Vec::new();
            let written = built_field(&mut out, b"location", &[b'/', octet]);
            let control = (octet < b' ' && octet != b'\t') || octet == 0x7f;
            assert_eq!(written, !control, "octet {octet:#x}");
            assert_eq!(out.is_empty(), control);
        }
    }

    #[test]
    fn a_field_that_is_given_is_not_written_again() {
        for (head, given) in [
            ("HTTP/1.1 200 OK\r\nA-B: x\r\n", true),
            ("HTTP/1.1 200 OK\r\na-b:\r\n", true),
            ("HTTP/1.1 200 OK\r\na-bc: x\r\nx: a-b: y\r\n", false),
            ("HTTP/1.1 200 OK\r\na-\r\n", false),
        ] {
            let mut out = head.as_bytes().to_vec();
            field_unless_given(&mut out, b"a-b", b"1");
            let expected = format!("{head}{}", if given { "" } else { "a-b: 1\r\n" });
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn writes_addresses() {
        for text in ["1.2.3.4", "255.0.10.100", "::1", "2001:db8::1"] {
            let mut out = Vec::new();
            address(&mut out, text.parse().unwrap());
            assert_eq!(out, text.as_bytes());
        }
    }
}
