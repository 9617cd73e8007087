//! The request head: a strict layer over httparse (RFC 9112 sections 2 to 6).
//!
//! [`RequestHead::parse`] is given a section that `scan` has found complete and judges it whole: line, target, host,
//! framing, connection options. What it lets through has one meaning only. Spans point into the buffer that was
//! parsed; the head itself holds no borrow and its vectors are used again for the next request.

use crate::http::desync::{self, Closes, Reason};
use crate::http::path::{self, PathPolicy};
use crate::http::{Fault, Field, Fields, Framing, Known, Span, Version, host};
use std::mem::MaybeUninit;

/// Fields that fit one head; `limits.headers` is at most this.
pub const MAX_FIELDS: usize = 1000;

/// The methods that mean something here; methods are case-sensitive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Other,
}

impl Method {
    /// What a method means here.
    pub fn of(method: &[u8]) -> Method {
        match method {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }

    /// Whether sending it twice means the same as sending it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options)
    }
}

/// The four forms of a request target that are served (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*`, only for OPTIONS.
    Asterisk,
}

/// A parsed and judged request head. Reused: [`RequestHead::parse`] overwrites all of it.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// All fields, in order, without those that are nominated.
    pub fields: Vec<Field>,
    /// What the method means here.
    pub method: Method,
    /// The method as sent.
    pub method_span: Span,
    /// The request target as sent.
    pub target: Span,
    /// Which form it has.
    pub form: Form,
    /// The path as sent; empty for `*` and for an absolute target without path.
    pub path: Span,
    /// The query without its `?`.
    pub query: Option<Span>,
    /// The canonical path where it differs from `path`.
    pub rewritten: Vec<u8>,
    /// The canonical host; empty if an HTTP/1.0 request names none.
    pub host: Vec<u8>,
    /// The authority to send on: the target's, else the Host field's.
    pub authority: Span,
    /// The authority's port.
    pub port: Option<u16>,
    /// The client's version.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// Whether the client lets the connection stay open.
    pub keep_alive: bool,
    /// Whether the client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether the client takes trailers (`TE: trailers`).
    pub takes_trailers: bool,
    /// `Max-Forwards`, for OPTIONS only (RFC 9110 section 7.6.2).
    pub max_forwards: Option<u64>,
    /// Names in `Connection` that stood for fields of this hop.
    pub nominated: Vec<Span>,
    /// Why it deviates, if it does: found here, or by `desync` before it was written anew.
    pub deviation: Option<Reason>,
    /// Which connections close after this exchange, since it deviates.
    pub closes: Closes,
    /// Octets of the head with its empty line.
    pub len: usize,
}

impl RequestHead {
    /// Parses and judges `head`, a complete section with its empty line.
    ///
    /// # Errors
    /// The [`Fault`] that the client is told; the connection cannot be used further.
    pub fn parse(&mut self, head: &[u8], paths: PathPolicy) -> Result<(), Fault> {
        self.reset();
        self.len = head.len();
        check_start(head)?;
        let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(head, &mut slots) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            Ok(_) => return Err(Fault::FieldLine),
            Err(error) => return Err(fault_of(error, head)),
        }
        let (Some(method), Some(target), Some(version)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Fault::RequestLine);
        };
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.method_span = span(head, method.as_bytes());
        self.target = span(head, target.as_bytes());
        for header in parsed.headers.iter() {
            let name = header.name.as_bytes();
            self.fields.push(Field {
                name: span(head, name),
                value: span(head, trim(header.value)),
                known: Known::of(name),
            });
        }
        self.judge_method(method.as_bytes())?;
        let fields = self.judge_fields(head)?;
        self.judge_target(head, fields.host, paths)?;
        self.judge_framing(&fields)?;
        self.judge_connection(head, &fields)?;
        self.deviation = self.oddity(&fields);
        Ok(())
    }

    /// Puts a shorter query in the place of the one that was sent, so that nothing of what it leaves out is read again. `buf`
    /// is what was parsed.
    pub fn replace_query(&mut self, buf: &mut [u8], query: &[u8]) {
        let Some(mut span) = self.query else { return };
        let Some(place) = buf.get_mut(span.start as usize..span.end as usize) else { return };
        let Some((kept, rest)) = place.split_at_mut_checked(query.len()) else { return };
        kept.copy_from_slice(query);
        rest.fill(b' ');
        let shorter = u32::try_from(rest.len()).unwrap_or(0) + u32::from(query.is_empty());
        // The query is the end of the target (RFC 9112 section 3.2).
        self.target.end = self.target.end.saturating_sub(shorter).max(self.target.start);
        span.end = span.start + u32::try_from(query.len()).unwrap_or(0);
        self.query = Some(span).filter(|span| !span.is_empty());
    }

    /// The view that decisions read; `buf` is what was parsed.
    pub fn view<'a>(
        &'a self,
        buf: &'a [u8],
        peer: std::net::IpAddr,
    ) -> crate::http::RequestView<'a> {
        crate::http::RequestView {
            method: self.method_span.of(buf),
            host: &self.host,
            path: self.canonical_path(buf),
            query: self.query.map(|q| q.of(buf)),
            fields: Fields::of_request(buf, &self.fields, self.path),
            peer,
        }
    }

    /// The path that is routed and sent: canonical; `*` for the asterisk form.
    pub fn canonical_path<'a>(&'a self, buf: &'a [u8]) -> &'a [u8] {
        if self.form == Form::Asterisk {
            b"*"
        } else if !self.rewritten.is_empty() {
            &self.rewritten
        } else {
            self.path.of(buf)
        }
    }

    fn reset(&mut self) {
        self.fields.clear();
        self.rewritten.clear();
        self.host.clear();
        self.nominated.clear();
        self.method = Method::Get;
        self.method_span = Span::default();
        self.target = Span::default();
        self.form = Form::Origin;
        self.path = Span::default();
        self.query = None;
        self.authority = Span::default();
        self.port = None;
        self.version = Version::Http11;
        self.framing = Framing::None;
        self.keep_alive = false;
        self.expects_continue = false;
        self.takes_trailers = false;
        self.max_forwards = None;
        self.deviation = None;
        self.closes = Closes::Neither;
        self.len = 0;
    }

    fn judge_method(&mut self, method: &[u8]) -> Result<(), Fault> {
        match method {
            b"CONNECT" | b"TRACE" => return Err(Fault::MethodRefused),
            long if long.len() > 32 => return Err(Fault::MethodTooLong),
            method => self.method = Method::of(method),
        }
        Ok(())
    }

    // One pass over the fields: what may come only once, and what decides about framing and connection.
    fn judge_fields<'h>(&mut self, head: &'h [u8]) -> Result<Special<'h>, Fault> {
        let mut special = Special::default();
        let mut seen = Singletons::default();
        for field in &self.fields {
            let value = field.value.of(head);
            match field.known {
                Known::Other if resembles(field.name.of(head)) => return Err(Fault::Suspicious),
                Known::Other | Known::UserAgent | Known::Accept => {}
                Known::Host => once(&mut special.host, value, Fault::HostMissing)?,
                Known::ContentLength => once(&mut special.length, value, Fault::ContentLength)?,
                Known::TransferEncoding => {
                    once(&mut special.coding, value, Fault::TransferEncoding)?;
                }
                Known::Expect => once(&mut special.expect, value, Fault::ExpectationFailed)?,
                Known::Connection => {
                    special.has_connection = true;
                    refuse_obs_text(value)?;
                }
                Known::Te => {
                    let mut codings = value.split(|b| *b == b',').map(trim);
                    self.takes_trailers |= codings.any(|t| t.eq_ignore_ascii_case(b"trailers"));
                }
                Known::MaxForwards if self.method == Method::Options => {
                    self.max_forwards = decimal(value);
                }
                Known::Authorization => {
                    refuse_obs_text(value)?;
                    seen.authorization.set()?;
                }
                Known::ContentType => seen.content_type.set()?,
                Known::Origin => seen.origin.set()?,
                _ => {}
            }
        }
        Ok(special)
    }

    fn judge_target(
        &mut self,
        head: &[u8],
        host: Option<&[u8]>,
        paths: PathPolicy,
    ) -> Result<(), Fault> {
        let target = self.target.of(head);
        let mut rest = target;
        let mut authority = host;
        if target == b"*" {
            if self.method != Method::Options {
                return Err(Fault::Target);
            }
            self.form = Form::Asterisk;
        } else if target.first() != Some(&b'/') {
            let (named, path) = split_absolute(target)?;
            (self.form, rest) = (Form::Absolute, path);
            authority = Some(named);
        }
        if let Some(authority) = authority {
            self.port = host::canonical(authority, &mut self.host)?;
            self.authority = span(head, authority);
        }
        match (self.form, host) {
            // RFC 9112 section 3.2: an HTTP/1.1 request has exactly one Host, whatever its target.
            (_, None) if self.version == Version::Http11 => return Err(Fault::HostMissing),
            (Form::Absolute, Some(host)) => self.compare_hosts(host)?,
            _ => {}
        }
        if self.form != Form::Asterisk {
            self.judge_path(head, rest, paths)?;
        }
        Ok(())
    }

    // GET and HEAD have no content that is defined (RFC 9110 section 9.3.1): passed on, and looked at.
    fn oddity(&self, fields: &Special<'_>) -> Option<Reason> {
        if !matches!(self.method, Method::Get | Method::Head) {
            return None;
        }
        match (self.framing, fields.length) {
            (Framing::Chunked, _) => Some(Reason::UndefinedTransferEncodingSemantics),
            (Framing::Length(_), _) => Some(Reason::UndefinedContentLengthSemantics),
            (_, Some(_)) => Some(Reason::GetHeadZeroContentLength),
            (_, None) => None,
        }
    }

    // Two different hosts in one request are read differently by whoever comes next: refused.
    fn compare_hosts(&mut self, host: &[u8]) -> Result<(), Fault> {
        let len = self.host.len();
        let port = host::canonical(host, &mut self.host)?;
        let (target, field) = self.host.split_at(len);
        let same = target == field && port.unwrap_or(80) == self.port.unwrap_or(80);
        self.host.truncate(len);
        if same { Ok(()) } else { Err(Fault::HostMismatch) }
    }

    fn judge_path(&mut self, head: &[u8], rest: &[u8], paths: PathPolicy) -> Result<(), Fault> {
        let path = match memchr::memchr(b'?', rest) {
            Some(at) => {
                let (path, query) = rest.split_at(at);
                let query = query.get(1..).unwrap_or_default();
                if !query.iter().all(|b| path::is_query_octet(*b)) {
                    return Err(Fault::Target);
                }
                self.query = Some(span(head, query));
                path
            }
            None => rest,
        };
        if path.is_empty() && self.form == Form::Absolute {
            // RFC 9112 section 3.2.4: OPTIONS for a whole server is sent on as `*`.
            if self.method == Method::Options && self.query.is_none() {
                self.form = Form::Asterisk;
            } else {
                self.rewritten.push(b'/');
            }
            return Ok(());
        }
        self.path = span(head, path);
        path::canonical(path, paths, &mut self.rewritten)?;
        Ok(())
    }

    fn judge_framing(&mut self, fields: &Special<'_>) -> Result<(), Fault> {
        self.framing = match (fields.coding, fields.length) {
            (Some(_), Some(_)) => return Err(Fault::BothLengths),
            (Some(coding), None) => {
                if !coding.eq_ignore_ascii_case(b"chunked") {
                    return Err(not_chunked(coding));
                }
                if self.version == Version::Http10 {
                    return Err(Fault::TransferEncoding);
                }
                Framing::Chunked
            }
            (None, Some(length)) => match decimal(length) {
                Some(0) => Framing::None,
                Some(length) => Framing::Length(length),
                None => return Err(Fault::ContentLength),
            },
            (None, None) => Framing::None,
        };
        match fields.expect {
            // RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored.
            Some(_) if self.version == Version::Http10 => {}
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = self.framing != Framing::None;
            }
            Some(_) => return Err(Fault::ExpectationFailed),
            None => {}
        }
        Ok(())
    }

    fn judge_connection(&mut self, head: &[u8], fields: &Special<'_>) -> Result<(), Fault> {
        self.keep_alive = self.version == Version::Http11;
        if !fields.has_connection {
            return Ok(());
        }
        let mut close = false;
        for field in self.fields.iter().filter(|f| f.known == Known::Connection) {
            for option in field.value.of(head).split(|b| *b == b',').map(trim) {
                if option.is_empty() {
                    continue;
                }
                if option.eq_ignore_ascii_case(b"close") {
                    close = true;
                } else if option.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                } else if !is_token(option) || is_end_to_end(Known::of(option)) {
                    return Err(Fault::Nominated);
                } else if Known::of(option) == Known::Other && self.nominated.len() < 32 {
                    self.nominated.push(span(head, option));
                } else if Known::of(option) == Known::Other {
                    return Err(Fault::Nominated);
                }
            }
        }
        self.keep_alive &= !close;
        self.drop_nominated(head);
        Ok(())
    }

    // RFC 9110 section 7.6.1: what is of this hop alone is not sent on, so that nothing may be decided by it either: a response
    // would be kept for a field that its target has never seen (RFC 9111 section 4.1).
    fn drop_nominated(&mut self, head: &[u8]) {
        if self.nominated.is_empty() {
            return;
        }
        let nominated = &self.nominated;
        self.fields.retain(|field| {
            let name = field.name.of(head);
            field.known != Known::Other
                || !nominated.iter().any(|one| one.of(head).eq_ignore_ascii_case(name))
        });
    }
}

// Whether servers may take a name for Transfer-Encoding or Content-Length. Almost none is worth a closer look.
#[inline]
fn resembles(name: &[u8]) -> bool {
    let worth = name.len() >= 13 && matches!(name.first(), Some(b't' | b'T' | b'c' | b'C'));
    worth && desync::is_suspicious(name)
}

#[derive(Default)]
struct Special<'h> {
    host: Option<&'h [u8]>,
    length: Option<&'h [u8]>,
    coding: Option<&'h [u8]>,
    expect: Option<&'h [u8]>,
    has_connection: bool,
}

#[derive(Default)]
struct Once(bool);

impl Once {
    fn set(&mut self) -> Result<(), Fault> {
        if std::mem::replace(&mut self.0, true) { Err(Fault::RepeatedField) } else { Ok(()) }
    }
}

#[derive(Default)]
struct Singletons {
    authorization: Once,
    content_type: Once,
    origin: Once,
}

fn once<'h>(slot: &mut Option<&'h [u8]>, value: &'h [u8], fault: Fault) -> Result<(), Fault> {
    refuse_obs_text(value)?;
    if slot.replace(value).is_some() { Err(fault) } else { Ok(()) }
}

// Servers strip or decode octets above 0x7F in different ways; in fields that frame a message or name who is
// meant that is a way to smuggle.
fn refuse_obs_text(value: &[u8]) -> Result<(), Fault> {
    if value.is_ascii() { Ok(()) } else { Err(Fault::FieldLine) }
}

// httparse would skip empty lines and accept a target where a method must stand.
fn check_start(head: &[u8]) -> Result<(), Fault> {
    match head.first() {
        Some(b) if is_token_octet(*b) => Ok(()),
        _ => Err(Fault::RequestLine),
    }
}

fn fault_of(error: httparse::Error, head: &[u8]) -> Fault {
    match error {
        httparse::Error::Version => {
            let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
            let mut words = line.split(|b| *b == b' ').skip(2);
            // More than three words: not the version is the matter, but white space in the target.
            let version = words.next().filter(|_| words.next().is_none()).unwrap_or_default();
            match version {
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    Fault::VersionUnsupported
                }
                _ => Fault::RequestLine,
            }
        }
        httparse::Error::TooManyHeaders => Fault::TooManyFields,
        httparse::Error::Token => Fault::RequestLine,
        _ => Fault::FieldLine,
    }
}

fn split_absolute(target: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let colon = memchr::memmem::find(target, b"://").ok_or(Fault::Target)?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Fault::Target);
    }
    let rest = rest.get(3..).unwrap_or_default();
    let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    Ok(rest.split_at(end))
}

/// `1*DIGIT` of at most 18 digits, so that it fits every integer type on the way.
pub(super) fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

// RFC 9112 section 6.1: a coding that is not understood is a 501; a list that says nothing clean is a 400.
fn not_chunked(value: &[u8]) -> Fault {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress"];
    let is = |coding: &[u8], name: &&[u8]| coding.eq_ignore_ascii_case(name);
    let mut codings = value.split(|b| *b == b',').map(trim);
    let mut last = codings.next_back().unwrap_or_default();
    if last.eq_ignore_ascii_case(b"chunked") {
        last = codings.next_back().unwrap_or_default();
    }
    let clean = KNOWN.iter().any(|known| is(last, known))
        && codings.all(|coding| KNOWN.iter().any(|known| is(coding, known)));
    if clean { Fault::UnknownCoding } else { Fault::TransferEncoding }
}

// Fields that no sender may declare to be of one hop only: taking them out would change what the request means
// or who is believed to have sent it.
pub(super) fn is_end_to_end(known: Known) -> bool {
    !matches!(
        known,
        Known::Other
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthorization
            | Known::ProxyAuthenticate
            | Known::Proxy
            | Known::Http2Settings
    )
}

/// A token octet (RFC 9110 section 5.6.2).
pub fn is_token_octet(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A token (RFC 9110 section 5.6.2).
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| is_token_octet(*b))
}

/// Without the optional white space around it (SP and HTAB only).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

// Where `part` stands in `buf`; both come from the same buffer.
pub(super) fn span(buf: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).wrapping_sub(buf.as_ptr() as usize);
    let (start, end) = (u32::try_from(start), u32::try_from(start.wrapping_add(part.len())));
    match (start, end) {
        (Ok(start), Ok(end)) if end as usize <= buf.len() => Span { start, end },
        _ => Span::default(),
    }
}

#[cfg(test)]
mod tests;
