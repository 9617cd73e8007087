//! Where a refused request ends: what its Content-Length and Transfer-Encoding fields come to, taken together.

use super::lines::RequestLine;
use super::{Judgement, Reason};
use crate::http::Framing;
use crate::http::request::{decimal, trim};

/// All that the fields said.
#[derive(Debug, Default)]
pub struct Lengths {
    length: Option<u64>,
    length_is_given: bool,
    chunked: bool,
    other: Option<Vec<u8>>,
}

/// What it comes to.
#[derive(Debug)]
pub struct Settled {
    framing: Framing,
    // A coding that is none of ours: the strict parser says so.
    other: Option<Vec<u8>>,
}

// Codings that exist, and that no intermediary has to know (RFC 9112 section 7).
const KNOWN: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity"];

impl Lengths {
    /// Takes up a Content-Length.
    pub fn note_length(&mut self, value: &[u8], judgement: &mut Judgement) {
        self.length_is_given = true;
        let Some(length) = decimal(value) else {
            judgement.note(Reason::BadContentLength);
            return;
        };
        match self.length {
            Some(before) if before != length => judgement.note(Reason::MultipleContentLength),
            Some(_) => judgement.note(Reason::DuplicateContentLength),
            None => self.length = Some(length),
        }
    }

    /// Takes up a Transfer-Encoding.
    pub fn note_coding(&mut self, value: &[u8], judgement: &mut Judgement) {
        let mut empty = true;
        for coding in value.split(|b| *b == b',').map(trim).filter(|c| !c.is_empty()) {
            empty = false;
            if coding.eq_ignore_ascii_case(b"chunked") {
                if self.chunked {
                    judgement.note(Reason::MultipleTransferEncodingChunked);
                }
                self.chunked = true;
            } else if KNOWN.iter().any(|known| coding.eq_ignore_ascii_case(known)) {
                self.other = Some(coding.to_vec());
            } else {
                judgement.note(Reason::BadTransferEncoding);
            }
        }
        if empty {
            judgement.note(Reason::BadTransferEncoding);
        }
    }

    /// The one meaning: Transfer-Encoding before Content-Length (RFC 9112 section 6.3), of several lengths the first.
    pub fn settle(self, start: &RequestLine, judgement: &mut Judgement) -> Settled {
        let has_coding = self.chunked || self.other.is_some();
        if has_coding && start.http10 {
            judgement.note(Reason::UndefinedTransferEncodingSemantics);
        }
        if has_coding && self.length_is_given {
            judgement.note(Reason::BothTeClPresent);
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
        let identity = self.other.as_deref().is_some_and(|c| c.eq_ignore_ascii_case(b"identity"));
        Settled { framing, other: self.other.filter(|_| !identity) }
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
