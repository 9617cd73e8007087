//! Where a refused request ends: what its Content-Length and Transfer-Encoding fields come to, taken together.

use super::lines::{Meant, RequestLine};
use super::{Judgement, Reason};
use crate::http::Framing;
use crate::http::request::{decimal, trim};

/// All that the fields said.
#[derive(Debug, Default)]
pub struct Lengths {
    length: Option<u64>,
    length_is_given: bool,
    chunked: bool,
    identity: bool,
    other: Option<Vec<u8>>,
    // The same, together with what was said under other names: for judging only.
    any_length: Option<u64>,
    any_chunked: bool,
}

/// What it comes to.
#[derive(Debug)]
pub struct Settled {
    framing: Framing,
    // A coding that is none of ours: the strict parser says so.
    other: Option<Vec<u8>>,
}

// Codings that exist, and that no intermediary has to know (RFC 9112 section 7).
const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

impl Lengths {
    /// Takes up a Content-Length, or what may be taken for one.
    pub fn note_length(&mut self, value: &[u8], meant: Meant, judgement: &mut Judgement) {
        let exact = meant == Meant::Exactly;
        self.length_is_given |= exact;
        let Some(length) = decimal(value) else {
            judgement.note(Reason::BadContentLength);
            return;
        };
        match self.any_length {
            Some(before) if before != length => judgement.note(Reason::MultipleContentLength),
            Some(_) => judgement.note(Reason::DuplicateContentLength),
            None => self.any_length = Some(length),
        }
        if exact {
            self.length.get_or_insert(length);
        }
    }

    /// Takes up a Transfer-Encoding, or what may be taken for one.
    pub fn note_coding(&mut self, value: &[u8], meant: Meant, judgement: &mut Judgement) {
        let exact = meant == Meant::Exactly;
        for coding in value.split(|b| *b == b',').map(trim) {
            let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
            if is(b"chunked") {
                if self.any_chunked {
                    judgement.note(Reason::MultipleTransferEncodingChunked);
                }
                self.any_chunked = true;
                self.chunked |= exact;
                continue;
            }
            let identity = is(b"identity");
            let known = identity || KNOWN.iter().any(|known| is(known));
            // RFC 9112 section 6.3: `chunked` comes last. An empty member is none: some servers stop there.
            if !known || self.any_chunked {
                judgement.note(Reason::BadTransferEncoding);
            }
            if exact && identity {
                self.identity = true;
            } else if exact && known {
                self.other = Some(coding.to_vec());
            }
        }
    }

    /// The one meaning: Transfer-Encoding before Content-Length (RFC 9112 section 6.3), of several lengths the first.
    pub fn settle(self, start: &RequestLine, judgement: &mut Judgement) -> Settled {
        let has_coding = self.chunked || self.identity || self.other.is_some();
        if has_coding && start.http10 {
            judgement.note(Reason::UndefinedTransferEncodingSemantics);
        }
        if has_coding && self.length_is_given {
            judgement.note(Reason::BothTeClPresent);
        }
        if self.identity {
            judgement.note(match self.chunked {
                true => Reason::UndefinedTransferEncodingSemantics,
                // Where it ends cannot be known.
                false => Reason::BadTransferEncoding,
            });
        }
        if start.is_get_or_head() {
            match (has_coding, self.length) {
                (true, _) => judgement.note(Reason::UndefinedTransferEncodingSemantics),
                (_, Some(0)) => judgement.note(Reason::GetHeadZeroContentLength),
                (_, Some(_)) => judgement.note(Reason::UndefinedContentLengthSemantics),
                _ => {}
            }
        }
        let framing = match (self.chunked, self.length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        Settled { framing, other: self.other }
    }
}

impl Settled {
    /// Whether the body is chunked.
    pub fn is_chunked(&self) -> bool {
        self.framing == Framing::Chunked
    }

    /// Appends the field that says so.
    pub fn write(&self, out: &mut Vec<u8>) {
        match (&self.other, self.framing) {
            (Some(coding), _) => {
                out.extend_from_slice(b"transfer-encoding: ");
                out.extend_from_slice(coding);
                out.extend_from_slice(b"\r\n");
            }
            (None, Framing::Chunked) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            (None, Framing::Length(length)) => crate::http::write::content_length(out, length),
            (None, Framing::None | Framing::Close) => {}
        }
    }
}
