//! The response head, judged as strictly as a request's: targets lie too (RFC 9112 sections 4 and 6.3).
//!
//! Whatever is ambiguous makes the response unusable and its connection with it. The one leniency is the RFC's own:
//! white space between a field name and its colon is removed (RFC 9112 section 5.1).

use crate::http::request::{MAX_FIELDS, decimal, is_end_to_end, is_token, span, trim};
use crate::http::{Fault, Field, Fields, Framing, Known, Method, Span, Version};
use std::mem::MaybeUninit;

/// A parsed and judged response head. Reused: [`ResponseHead::parse`] overwrites all of it.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// All fields, in order.
    pub fields: Vec<Field>,
    /// 100 to 599.
    pub status: u16,
    /// The reason phrase as sent.
    pub reason: Span,
    /// The target's version.
    pub version: Version,
    /// How the body ends.
    pub framing: Framing,
    /// `Content-Length` where there is no body to carry it (HEAD, 304).
    pub declared: Option<u64>,
    /// Whether the target lets the connection stay open.
    pub keep_alive: bool,
    /// Whether there is a `Date`.
    pub has_date: bool,
    /// Names in `Connection` that stand for fields of this hop.
    pub nominated: Vec<Span>,
    /// Octets of the head with its empty line.
    pub len: usize,
}

impl ResponseHead {
    /// Parses and judges `head`, a complete section with its empty line, as the answer to `method`.
    ///
    /// # Errors
    /// The [`Fault`] that the client is told; the target's connection cannot be used further.
    pub fn parse(&mut self, head: &[u8], method: Method) -> Result<(), Fault> {
        self.reset();
        self.len = head.len();
        check_status_line(head)?;
        let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let mut config = httparse::ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Fault::ResponseTooLarge),
            _ => return Err(Fault::ResponseHead),
        }
        let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
            return Err(Fault::ResponseHead);
        };
        if !(100..=599).contains(&status) {
            return Err(Fault::ResponseHead);
        }
        self.status = status;
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.reason = span(head, parsed.reason.unwrap_or_default().as_bytes());
        for header in parsed.headers.iter() {
            let name = header.name.as_bytes();
            self.fields.push(Field {
                name: span(head, name),
                value: span(head, trim(header.value)),
                known: Known::of(name),
            });
        }
        self.judge(head, method)
    }

    /// Whether this is an interim response (1xx).
    pub fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// The fields as a view; `buf` is what was parsed.
    pub fn view<'a>(&'a self, buf: &'a [u8]) -> Fields<'a> {
        Fields::new(buf, &self.fields)
    }

    fn reset(&mut self) {
        self.fields.clear();
        self.nominated.clear();
        self.framing = Framing::None;
        self.declared = None;
        self.keep_alive = false;
        self.has_date = false;
        self.len = 0;
    }

    fn judge(&mut self, head: &[u8], method: Method) -> Result<(), Fault> {
        let (mut length, mut coding) = (None, None);
        let (mut close, mut keep_alive) = (false, self.version == Version::Http11);
        for field in &self.fields {
            let value = field.value.of(head);
            match field.known {
                Known::ContentLength => once(&mut length, value)?,
                Known::TransferEncoding => once(&mut coding, value)?,
                Known::Date => self.has_date = true,
                Known::Connection => {
                    for option in value.split(|b| *b == b',').map(trim).filter(|o| !o.is_empty()) {
                        if option.eq_ignore_ascii_case(b"close") {
                            close = true;
                        } else if option.eq_ignore_ascii_case(b"keep-alive") {
                            keep_alive = true;
                        } else if !is_token(option) {
                            return Err(Fault::ResponseHead);
                        } else if !is_end_to_end(Known::of(option)) && self.nominated.len() < 32 {
                            self.nominated.push(span(head, option));
                        }
                    }
                }
                _ => {}
            }
        }
        self.keep_alive = keep_alive && !close;
        self.frame(length, coding, method)
    }

    fn frame(
        &mut self,
        length: Option<&[u8]>,
        coding: Option<&[u8]>,
        method: Method,
    ) -> Result<(), Fault> {
        let length = match length {
            Some(value) => Some(decimal(value).ok_or(Fault::ResponseFraming)?),
            None => None,
        };
        if let Some(coding) = coding {
            let plain = coding.eq_ignore_ascii_case(b"chunked");
            if !plain || length.is_some() || self.version == Version::Http10 {
                return Err(Fault::ResponseFraming);
            }
        }
        if method == Method::Head || self.status < 200 || matches!(self.status, 204 | 304) {
            self.framing = Framing::None;
            // RFC 9110 section 8.6: 1xx and 204 have no Content-Length.
            let never = self.status < 200 || self.status == 204;
            self.declared = length.filter(|_| !never);
            if never && (coding.is_some() || length.is_some_and(|length| length > 0)) {
                // If it does send what it announces, the next request would be answered with that.
                self.keep_alive = false;
            }
            return Ok(());
        }
        self.framing = match (coding, length) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::Close,
        };
        if self.framing == Framing::Close {
            self.keep_alive = false;
        }
        Ok(())
    }
}

fn once<'h>(slot: &mut Option<&'h [u8]>, value: &'h [u8]) -> Result<(), Fault> {
    if slot.replace(value).is_some() || !value.is_ascii() {
        Err(Fault::ResponseFraming)
    } else {
        Ok(())
    }
}

// httparse skips empty lines before a status line and takes one without the space after its code.
fn check_status_line(head: &[u8]) -> Result<(), Fault> {
    match head {
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'0' | b'1',
            b' ',
            a,
            b,
            c,
            b' ' | b'\r',
            ..,
        ] if [a, b, c].iter().all(|d| d.is_ascii_digit()) => Ok(()),
        _ => Err(Fault::ResponseHead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str, method: Method) -> Result<ResponseHead, Fault> {
        let mut parsed = ResponseHead::default();
        parsed.parse(head.as_bytes(), method).map(|()| parsed)
    }

    fn framed(head: &str, method: Method, framing: Framing) {
        assert_eq!(parse(head, method).map(|h| h.framing), Ok(framing), "{head:?}");
    }

    #[test]
    fn tells_how_the_body_ends() {
        let (get, head) = (Method::Get, Method::Head);
        framed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", get, Framing::Length(5));
        framed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, Framing::None);
        framed("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", get, Framing::Chunked);
        framed("HTTP/1.1 200 \r\n\r\n", get, Framing::Close);
        framed("HTTP/1.0 200 OK\r\n\r\n", get, Framing::Close);
        framed("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", get, Framing::None);
        framed("HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", get, Framing::None);
        let not_modified = parse("HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\n", get).unwrap();
        assert_eq!(not_modified.declared, Some(5));
    }

    #[test]
    fn refuses_ambiguous_and_malformed_heads() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 999 X\r\n\r\n",
            "HTTP/1.1 099 X\r\n\r\n",
            "HTTP/1.1 20 X\r\n\r\n",
            "HTTP/1.1 2000 X\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(parse(bad, Method::Get).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn white_space_before_a_colon_is_removed() {
        let text = "HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length : 3\r\n\r\n";
        let head = parse(text, Method::Get).unwrap();
        assert_eq!(head.view(text.as_bytes()).first("x-a"), Some(&b"b"[..]));
        assert_eq!(head.framing, Framing::Length(3));
    }

    #[test]
    fn knows_whether_the_connection_stays() {
        let stays = |text: &str| parse(text, Method::Head).unwrap().keep_alive;
        assert!(stays("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!stays("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(!stays("HTTP/1.0 200 OK\r\n\r\n"));
        assert!(stays("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn content_where_none_can_be_ends_the_connection() {
        for (status, fields, method, stays) in [
            (204, "Content-Length: 5", Method::Get, false),
            (204, "Transfer-Encoding: chunked", Method::Get, false),
            (204, "Content-Length: 0", Method::Get, true),
            (204, "Content-Length: 5", Method::Head, false),
            (103, "Content-Length: 5", Method::Get, false),
            (100, "Transfer-Encoding: chunked", Method::Get, false),
            (100, "X: y", Method::Get, true),
            (304, "Content-Length: 5", Method::Get, true),
            (304, "Transfer-Encoding: chunked", Method::Get, true),
            (200, "Content-Length: 5", Method::Head, true),
        ] {
            let head = parse(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n\r\n"), method).unwrap();
            let got = (head.framing, head.keep_alive);
            assert_eq!(got, (Framing::None, stays), "{status} {fields} {method:?}");
        }
    }
}
