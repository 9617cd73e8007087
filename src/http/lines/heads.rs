//! HTTP/1.1 lines as HTTP/2 heads: what was rendered for HTTP/1.1 goes out over a stream.
//!
//! Given are only lines of our own writing, so whatever is wrong with them is `None`, a defect here. Values are slices of
//! one copied buffer: a head costs that copy, its map, and the names that are not registered ones.

use crate::http::Known;
use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{Method, Request, Response, StatusCode, Uri, Version};
use bytes::Bytes;

/// The HTTP/2 head of a rendered response (`HTTP/1.1 200 OK` and its fields, up to the empty line): an interim one, too.
/// Names become lower-case, fields of the connection are left out.
pub fn response_of(lines: &[u8]) -> Option<Response<()>> {
    let (line, section) = start_line(lines)?;
    let code = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_bytes(code).ok()?;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = fields_of(section, |_, _| true)?;
    Some(response)
}

/// The HTTP/2 request of a rendered one (`GET /path HTTP/1.1`, `host` and the fields, up to the empty line): `host`
/// becomes `:authority`, fields of the connection are left out, `te: trailers` stays.
pub fn request_of(lines: &[u8], scheme: &str) -> Option<Request<()>> {
    let (line, section) = start_line(lines)?;
    let mut words = line.split(|b| *b == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if version != b"HTTP/1.1" || words.next().is_some() {
        return None;
    }
    let mut authority = None;
    let fields = fields_of(section, |known, value| match known {
        Known::Host => {
            authority = Authority::from_maybe_shared(value.clone()).ok();
            false
        }
        Known::Te => value.eq_ignore_ascii_case(b"trailers"),
        _ => true,
    })?;
    let mut uri = ::http::uri::Parts::default();
    uri.scheme = Some(if scheme == "https" { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(authority?);
    uri.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method).ok()?;
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Some(request)
}

/// The trailers of a rendered trailer section, with or without its empty line. Fields of the connection are left out.
pub fn trailers_of(section: &[u8]) -> Option<HeaderMap> {
    fields_of(section, |known, _| known != Known::Te)
}

fn start_line(lines: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', lines)?;
    let (line, section) = lines.split_at(end + 1);
    Some((line.strip_suffix(b"\r\n")?, section))
}

// The fields of `section` that stay in HTTP/2 and that `wanted` takes.
fn fields_of(section: &[u8], mut wanted: impl FnMut(Known, &Bytes) -> bool) -> Option<HeaderMap> {
    let buf = Bytes::copy_from_slice(section);
    // A line each: what is too large by half costs more to get than the counting.
    let lines = memchr::memchr_iter(b'\n', section).count();
    let mut map = HeaderMap::try_with_capacity(lines).ok()?;
    let mut start = 0;
    for lf in memchr::memchr_iter(b'\n', section) {
        let line = section.get(start..lf)?.strip_suffix(b"\r")?;
        if line.is_empty() {
            return (lf + 1 == section.len()).then_some(map);
        }
        let colon = memchr::memchr(b':', line)?;
        let name = line.get(..colon)?;
        let known = Known::of(name);
        if !of_connection(known) {
            let value = line.get(colon + 1..)?;
            let blanks = value.len() - value.trim_ascii_start().len();
            let from = start + colon + 1 + blanks;
            let value = buf.slice(from..from + value.trim_ascii().len());
            if wanted(known, &value) {
                let value = HeaderValue::from_maybe_shared(value).ok()?;
                map.try_append(HeaderName::from_bytes(name).ok()?, value).ok()?;
            }
        }
        start = lf + 1;
    }
    // Without an empty line: a trailer section.
    (start == section.len()).then_some(map)
}

fn of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
    )
}
