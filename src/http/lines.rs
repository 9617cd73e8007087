//! HTTP/2 heads as HTTP/1.1 lines, and back (RFC 9113 section 8).
//!
//! What arrives over HTTP/2 is written as the lines that HTTP/1.1 would have had, and then judged by the same strict
//! parser: nothing that is illegal there gets through. Checked here is what only HTTP/2 can say: pseudo-header fields,
//! fields of a connection, cookies in crumbs, sizes as a header list counts them. Octets are checked by the types of the
//! crate `http` (a value has no CR, LF or NUL; what its names take beyond tokens is refused: proved for every octet by the
//! tests). Pseudo-header fields that are unknown, repeated or out of place, and names in upper case, h2 has refused before.
//! `heads.rs` goes the other way. Called by who reads and writes streams; no socket, no frame.

mod heads;

pub use heads::{request_of, response_of, trailers_of};

use crate::http::request::decimal;
use crate::http::{Fault, Known, host, write};
use ::http::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, request, response};

/// How a stream's body will end, as far as its head tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// END_STREAM came with the head.
    None,
    /// So many octets, whether or not the head says so.
    Length(u64),
    /// Until END_STREAM. A `content-length` in the head is kept; without one the lines say `chunked`.
    Unknown,
}

/// What a header list may measure.
#[derive(Clone, Copy, Debug)]
pub struct ListLimits {
    /// Octets of names and values with 32 more for each field (RFC 9113 section 6.5.2), pseudo-header fields included.
    pub size: usize,
    /// Fields, each crumb of a cookie counted.
    pub fields: usize,
    /// Octets of one line as HTTP/1.1 would write it.
    pub line: usize,
}

/// Appends the request `head` as an HTTP/1.1 head with its empty line.
///
/// # Errors
/// The [`Fault`] that makes the request malformed (RFC 9113 section 8.1.1); what was appended is to be thrown away then.
pub fn request_lines(
    head: &request::Parts,
    body: Body,
    limits: &ListLimits,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if head.method == Method::CONNECT {
        return Err(Fault::MethodRefused);
    }
    request_head(head, head.method.as_str(), body, limits, out)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends an extended CONNECT (RFC 8441) as the HTTP/1.1 request for an upgrade to `protocol`, the value of its
/// `:protocol`: a GET with `upgrade` and `connection`, and without the fields that only a key exchange needs.
///
/// # Errors
/// As of [`request_lines`]; also if it is no CONNECT, `protocol` is no token, or it declares a body's length.
pub fn upgrade_lines(
    head: &request::Parts,
    protocol: &str,
    limits: &ListLimits,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if head.method != Method::CONNECT || head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::MethodRefused);
    }
    if !crate::http::request::is_token(protocol.as_bytes()) {
        return Err(Fault::FieldLine);
    }
    request_head(head, "GET", Body::None, limits, out)?;
    write::field(out, b"connection", b"upgrade");
    write::field(out, b"upgrade", protocol.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends the response `head` of a target as an HTTP/1.1 head with its empty line. The answer to HEAD is to be given
/// [`Body::Unknown`]: what ends there says nothing about the length it declares.
///
/// # Errors
/// [`Fault::ResponseHead`], [`Fault::ResponseFraming`], [`Fault::ResponseTooLarge`], [`Fault::UnaskedUpgrade`].
pub fn response_lines(
    head: &response::Parts,
    body: Body,
    limits: &ListLimits,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let status = head.status.as_u16();
    // RFC 9113 section 8.6: 101 does not exist in HTTP/2.
    if status == 101 {
        return Err(Fault::UnaskedUpgrade);
    }
    let mut list = List::new(limits, Fault::ResponseTooLarge, Fault::ResponseTooLarge);
    list.pseudo(10)?;
    write::status_line(out, status, b"");
    let declared = declared_length(&head.headers).map_err(|_| Fault::ResponseFraming)?;
    for (name, value) in &head.headers {
        list.add(name.as_str().len(), value.len())?;
        if !is_well_formed(name, value) || of_connection(name) || name.as_str() == "te" {
            return Err(Fault::ResponseHead);
        }
        if name != CONTENT_LENGTH {
            write::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let bodiless = status < 200 || matches!(status, 204 | 304);
    match (body, declared) {
        (Body::Length(length), Some(declared)) if length != declared => {
            return Err(Fault::ResponseFraming);
        }
        (_, Some(declared)) => write::content_length(out, declared),
        (_, None) if bodiless => {}
        (Body::None, None) => write::content_length(out, 0),
        (Body::Length(length), None) => write::content_length(out, length),
        (Body::Unknown, None) => out.extend_from_slice(CHUNKED),
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends `trailers` as a trailer section, without its empty line.
///
/// # Errors
/// [`Fault::Trailers`] for a field of the connection, or if the section is larger than `limits` allow.
pub fn trailer_lines(
    trailers: &HeaderMap,
    limits: &ListLimits,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut list = List::new(limits, Fault::Trailers, Fault::Trailers);
    for (name, value) in trailers {
        list.add(name.as_str().len(), value.len())?;
        if !is_well_formed(name, value) || of_connection(name) || name.as_str() == "te" {
            return Err(Fault::Trailers);
        }
        write::field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(())
}

const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

// All of a request's head but the empty line.
fn request_head(
    head: &request::Parts,
    method: &str,
    body: Body,
    limits: &ListLimits,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let mut list = List::new(limits, Fault::HeadTooLarge, Fault::TooManyFields);
    let path = path_of(head)?;
    list.pseudo(head.method.as_str().len() + 7)?;
    list.pseudo(path.len() + 5)?;
    list.pseudo(7 + head.uri.scheme_str().map_or(4, str::len))?;
    if method.len() + path.len() + " HTTP/1.1\r\n".len() + 1 > limits.line {
        return Err(Fault::LineTooLong);
    }
    out.reserve(1024);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let authority = authority_of(head, &mut list)?;
    write::field(out, b"host", authority.as_bytes());
    let declared = declared_length(&head.headers)?;
    let mut crumbs = 0;
    for (name, value) in &head.headers {
        list.add(name.as_str().len(), value.len())?;
        if !is_well_formed(name, value) {
            return Err(Fault::FieldLine);
        }
        if of_connection(name) || (name.as_str() == "te" && value != "trailers") {
            return Err(Fault::ConnectionField);
        }
        match *name {
            HOST | CONTENT_LENGTH => {}
            COOKIE => crumbs += 1,
            _ => write::field(out, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if crumbs > 0 {
        cookie(&head.headers, limits, out)?;
    }
    match (body, declared) {
        (Body::None, Some(1..)) => return Err(Fault::ContentLength),
        (Body::Length(length), Some(declared)) if length != declared => {
            return Err(Fault::ContentLength);
        }
        (_, Some(declared)) => write::content_length(out, declared),
        (Body::None, None) => {}
        (Body::Length(length), None) => write::content_length(out, length),
        (Body::Unknown, None) => out.extend_from_slice(CHUNKED),
    }
    Ok(())
}

// RFC 9113 section 8.3.1: `:path` is a path with its query, or `*` for OPTIONS; never empty.
fn path_of(head: &request::Parts) -> Result<&str, Fault> {
    let scheme = head.uri.scheme_str().unwrap_or("http");
    if scheme != "http" && scheme != "https" {
        return Err(Fault::Target);
    }
    // A path that is missing would be told as "/" by `path_and_query`; `path` tells it as empty.
    let given = head.uri.path_and_query().filter(|_| !head.uri.path().is_empty());
    let path = given.map_or("", |path| path.as_str());
    match path.as_bytes() {
        [b'/', ..] => Ok(path),
        b"*" if head.method == Method::OPTIONS => Ok(path),
        _ => Err(Fault::Target),
    }
}

// RFC 9113 section 8.3.1: `:authority` says who is meant; a Host beside it must say the same, one without it stands in.
fn authority_of<'h>(head: &'h request::Parts, list: &mut List<'_>) -> Result<&'h str, Fault> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(one), None) => Some(one.to_str().map_err(|_| Fault::HostInvalid)?),
        (Some(_), Some(_)) => return Err(Fault::HostMissing),
    };
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if let Some(authority) = authority {
        list.pseudo(authority.len() + 10)?;
    }
    let named = authority.or(host).ok_or(Fault::HostMissing)?;
    if named.is_empty() || named.contains('@') {
        return Err(Fault::HostInvalid);
    }
    if let (Some(authority), Some(host)) = (authority, host)
        && authority != host
    {
        compare_hosts(authority, host, head.uri.scheme_str() == Some("https"))?;
    }
    Ok(named)
}

fn compare_hosts(authority: &str, host: &str, secure: bool) -> Result<(), Fault> {
    let port = if secure { 443 } else { 80 };
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let left_port = host::canonical(authority.as_bytes(), &mut left)?.unwrap_or(port);
    let right_port = host::canonical(host.as_bytes(), &mut right)?.unwrap_or(port);
    if left == right && left_port == right_port { Ok(()) } else { Err(Fault::HostMismatch) }
}

// One number at most, even if several agree: whoever comes next might take another one.
fn declared_length(fields: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => decimal(one.as_bytes()).map(Some).ok_or(Fault::ContentLength),
        (Some(_), Some(_)) => Err(Fault::ContentLength),
    }
}

// RFC 9113 section 8.2.3: crumbs become one line, so that HTTP/1.1 servers find all of them.
fn cookie(fields: &HeaderMap, limits: &ListLimits, out: &mut Vec<u8>) -> Result<(), Fault> {
    let start = out.len();
    out.extend_from_slice(b"cookie: ");
    let mut first = true;
    for crumb in fields.get_all(COOKIE).iter().filter(|crumb| !crumb.is_empty()) {
        if !std::mem::replace(&mut first, false) {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    if out.len() - start > limits.line { Err(Fault::HeadTooLarge) } else { Ok(()) }
}

// RFC 9113 section 8.2.1: no white space around a value. The crate's names are tokens in lower case, but for the quotation
// mark, which it takes and HTTP/1.1 does not.
#[inline]
fn is_well_formed(name: &HeaderName, value: &HeaderValue) -> bool {
    let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    !blank(value.first())
        && !blank(value.last())
        && memchr::memchr(b'"', name.as_str().as_bytes()).is_none()
}

// RFC 9113 section 8.2.2: fields that speak of a connection do not exist in HTTP/2. `te` is looked at apart.
fn of_connection(name: &HeaderName) -> bool {
    matches!(
        Known::of(name.as_str().as_bytes()),
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
    )
}

// A header list as it is counted.
struct List<'l> {
    limits: &'l ListLimits,
    size: usize,
    fields: usize,
    too_large: Fault,
    too_many: Fault,
}

impl<'l> List<'l> {
    fn new(limits: &'l ListLimits, too_large: Fault, too_many: Fault) -> List<'l> {
        List { limits, size: 0, fields: 0, too_large, too_many }
    }

    #[inline]
    fn add(&mut self, name: usize, value: usize) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > self.limits.fields {
            return Err(self.too_many);
        }
        if name + value + 4 > self.limits.line {
            return Err(self.too_large);
        }
        self.pseudo(name + value)
    }

    fn pseudo(&mut self, octets: usize) -> Result<(), Fault> {
        self.size += octets + 32;
        if self.size > self.limits.size { Err(self.too_large) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
