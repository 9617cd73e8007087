//! The lines of a refused head, read leniently: any line end, folded lines, names that are none.

use super::{Judgement, Reason};
use crate::http::request::{is_token, trim};

/// The request line as it can be understood.
#[derive(Debug)]
pub struct RequestLine {
    /// The method: a token.
    pub method: Vec<u8>,
    target: Vec<u8>,
    /// Whether the client said HTTP/1.0.
    pub http10: bool,
}

/// One field line, unfolded.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The value of a Content-Length.
    Length(Vec<u8>, Meant),
    /// The value of a Transfer-Encoding.
    Coding(Vec<u8>, Meant),
    /// Any other field: a token, and a value without control characters.
    Field(Vec<u8>, Vec<u8>),
    /// Nothing that may go on.
    Dropped,
}

/// Which of Transfer-Encoding and Content-Length a name is, or can be normalised to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alike {
    /// Content-Length.
    Length(Meant),
    /// Transfer-Encoding.
    Coding(Meant),
}

/// How much a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// It is named as it must be.
    Exactly,
    /// Others may take it for what it resembles: it is judged with the rest, and means nothing.
    Perhaps,
}

/// The lines of a head up to its empty line, without their ends.
pub fn split<'h>(
    head: &'h [u8],
    judgement: &mut Judgement,
) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(lf) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(lf);
        rest = after.get(1..).unwrap_or_default();
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None => {
                judgement.note(Reason::NonCrLfLineTermination);
                line
            }
        };
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    lines.into_iter()
}

/// Joins lines that begin with white space to the field before them, unless they look like a field of their own, which
/// some servers would take them for: those are left out.
pub fn unfold<'h>(
    lines: impl Iterator<Item = &'h [u8]>,
    judgement: &mut Judgement,
) -> Vec<Vec<u8>> {
    let mut whole: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let before = whole.last_mut().filter(|_| folded && !trim(line).is_empty());
        match before {
            Some(before) if memchr::memchr(b':', line).is_none() => {
                judgement.note(Reason::MultilineHeader);
                before.push(b' ');
                before.extend_from_slice(trim(line));
            }
            _ => whole.push(line.to_vec()),
        }
    }
    whole
}

impl RequestLine {
    /// Reads it; `None` when there is none to be had.
    pub fn read(line: &[u8], judgement: &mut Judgement) -> Option<RequestLine> {
        let (method, rest) = cut(line);
        if !is_token(method) {
            judgement.note(Reason::BadMethod);
            return None;
        }
        let trimmed = trim_end(rest);
        // A tab is white space to some servers, and a part of the target to others.
        let words = memchr::memrchr(b' ', trimmed).map(|space| trimmed.split_at(space));
        let Some((target, version)) = words.filter(|(target, _)| !trim(target).is_empty()) else {
            // One word behind the method: a version without a target, or a target of HTTP/0.9.
            let word = trim(trimmed);
            if word.starts_with(b"HTTP/") {
                judgement.note(Reason::MissingUri);
            } else {
                judgement.note(Reason::NonCompliantVersion);
                look_at(word, judgement);
            }
            return None;
        };
        let spaced = version.get(1..).unwrap_or_default();
        let version = trim(spaced);
        if rest.len() != trimmed.len() || spaced.len() != version.len() {
            judgement.note(Reason::NonCompliantVersion);
        }
        let http10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            // RFC 9110 section 2.5: a higher minor version is processed as the highest that is known.
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => {
                judgement.note(Reason::NonCompliantVersion);
                false
            }
            _ => {
                judgement.note(Reason::BadVersion);
                return None;
            }
        };
        look_at(target, judgement);
        let target = encode(trim(target))?;
        Some(RequestLine { method: method.to_vec(), target, http10 })
    }

    /// Writes it with its CRLF.
    pub fn write(&self, as_http11: bool) -> Vec<u8> {
        let version: &[u8] = if self.http10 && !as_http11 { b"HTTP/1.0" } else { b"HTTP/1.1" };
        let mut line = [self.method.as_slice(), b" ", &self.target, b" ", version].concat();
        line.extend_from_slice(b"\r\n");
        line
    }

    /// Whether content with it has no defined meaning.
    pub fn is_get_or_head(&self) -> bool {
        matches!(self.method.as_slice(), b"GET" | b"HEAD")
    }
}

fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let (method, rest) = line.split_at(end);
    (method, rest.get(1..).unwrap_or_default())
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [before @ .., b' ' | b'\t'] = text {
        text = before;
    }
    text
}

// ALB says nothing of octets above 0x7F.
fn look_at(target: &[u8], judgement: &mut Judgement) {
    for octet in target {
        match octet {
            0 | b'\r' | b'\n' => judgement.note(Reason::BadUri),
            b' ' => judgement.note(Reason::SpaceInUri),
            1..b' ' | 0x7f => judgement.note(Reason::AmbiguousUri),
            _ => {}
        }
    }
}

// What may not stand in a target is percent-encoded: then it has one meaning.
fn encode(target: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(target.len());
    for &octet in target {
        match octet {
            0 | b'\r' | b'\n' => return None,
            1..=b' ' | 0x7f.. | b'"' | b'<' | b'>' | b'\\' => {
                out.extend_from_slice(format!("%{octet:02X}").as_bytes());
            }
            plain => out.push(plain),
        }
    }
    Some(out)
}

impl Line {
    /// Reads a field line.
    pub fn read(line: &[u8], judgement: &mut Judgement) -> Line {
        // Whatever else is wrong with it: servers end a line, or a name, at either.
        if line.iter().any(|b| matches!(b, 0 | b'\r')) {
            judgement.note(Reason::BadHeader);
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            let blank = trim(line).is_empty();
            judgement.note(if blank { Reason::EmptyHeader } else { Reason::MissingHeaderColon });
            return Line::Dropped;
        };
        let (name, value) = line.split_at(colon);
        let value = trim(value.get(1..).unwrap_or_default());
        if trim(name).is_empty() {
            judgement.note(Reason::EmptyHeader);
            return Line::Dropped;
        }
        let alike = resemblance(name);
        if let Some(Alike::Length(Meant::Perhaps) | Alike::Coding(Meant::Perhaps)) = alike {
            judgement.note(Reason::SuspiciousHeader);
        }
        match alike {
            Some(Alike::Length(meant)) => return Line::Length(value.to_vec(), meant),
            Some(Alike::Coding(meant)) => return Line::Coding(value.to_vec(), meant),
            None => {}
        }
        if !is_token(name) {
            judgement.note(Reason::NonCompliantHeader);
            return Line::Dropped;
        }
        Line::Field(name.to_vec(), clean(value, judgement))
    }
}

// RFC 9110 section 5.5: CR and NUL are refused or replaced by a space; other control characters are as invalid.
fn clean(value: &[u8], judgement: &mut Judgement) -> Vec<u8> {
    let clean = |&octet: &u8| match octet {
        // Noted with the line.
        0 | b'\r' => b' ',
        b'\t' | b' '..=b'~' | 0x80.. => octet,
        _ => {
            judgement.note(Reason::NonCompliantHeader);
            b' '
        }
    };
    let value: Vec<u8> = value.iter().map(clean).collect();
    trim(&value).to_vec()
}

/// What `name`, as it was sent, may be taken for.
pub fn resemblance(name: &[u8]) -> Option<Alike> {
    if name.eq_ignore_ascii_case(b"content-length") {
        return Some(Alike::Length(Meant::Exactly));
    }
    if name.eq_ignore_ascii_case(b"transfer-encoding") {
        return Some(Alike::Coding(Meant::Exactly));
    }
    // The first word counts, as some servers end the name there; then the letters alone, whatever stands between them.
    let mut words = name.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
    let first = words.next().unwrap_or_default();
    [first, name].into_iter().find_map(|part| match letters(part).as_slice() {
        b"contentlength" => Some(Alike::Length(Meant::Perhaps)),
        b"transferencoding" => Some(Alike::Coding(Meant::Perhaps)),
        _ => None,
    })
}

// In lower case; long s and dotless i are letters that some normalisations make ASCII.
fn letters(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let Some((&octet, after)) = rest.split_first() {
        (rest, _) = match (octet, after) {
            (0xc5, [0xbf, after @ ..]) => (after, out.push(b's')),
            (0xc4, [0xb0 | 0xb1, after @ ..]) => (after, out.push(b'i')),
            (letter, after) if letter.is_ascii_alphabetic() => {
                (after, out.push(letter.to_ascii_lowercase()))
            }
            (_, after) => (after, ()),
        };
    }
    out
}
