//! What a request gets of a stored response: all of it, a part, or the word that it has it already (RFC 9110 section 13.2.2,
//! RFC 9111 section 4.3.2).
//!
//! Called when a stored response may be given; which one, and whether, is decided before.

use crate::cache::age::Meta;
use crate::cache::range::{self, Slice};
use crate::cache::{ask::Ask, date};
use crate::http::Fields;
use std::ops::Range;

/// What a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// The stored response as it is.
    Whole,
    /// 304, without a body.
    NotModified,
    /// 206 with these octets of the body.
    Part(Range<u64>),
    /// 416, without a body: there is nothing at that place.
    Unsatisfiable,
}

/// What a request gets of a stored response whose body has `length` octets.
pub fn given(meta: &Meta, ask: &Ask, request: Fields<'_>, length: u64) -> Given {
    // Preconditions speak of a representation (RFC 9110 section 13.2.1); an error or a redirection is none.
    if !matches!(meta.status, 200..=299) {
        return Given::Whole;
    }
    if ask.conditional && is_not_modified(meta, request) {
        return Given::NotModified;
    }
    // RFC 9110 section 14.2: of GET only.
    if !ask.range || ask.head || meta.status != 200 {
        return Given::Whole;
    }
    let mut ranges = request.all("range");
    let (Some(asked), None) = (ranges.next(), ranges.next()) else { return Given::Whole };
    if !request.all("if-range").all(|validator| is_unchanged(meta, validator)) {
        return Given::Whole;
    }
    match range::of(asked, length) {
        Slice::Whole => Given::Whole,
        Slice::Part(part) => Given::Part(part),
        Slice::Unsatisfiable => Given::Unsatisfiable,
    }
}

fn is_not_modified(meta: &Meta, request: Fields<'_>) -> bool {
    let mut tags = request.all("if-none-match").peekable();
    if tags.peek().is_some() {
        return tags.any(|list| has_tag(list, meta.etag.as_deref()));
    }
    let mut dates = request.all("if-modified-since");
    let (Some(since), None) = (dates.next(), dates.next()) else { return false };
    // RFC 9111 section 4.3.2: without Last-Modified its Date stands for it.
    let modified = meta.modified.as_ref().map_or(meta.date, |(_, at)| *at);
    date::parse(since).is_some_and(|since| modified <= since)
}

// RFC 9110 section 13.1.2: weak comparison, of each in the list.
fn has_tag(list: &[u8], etag: Option<&[u8]>) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    let Some(mine) = etag.map(opaque) else { return false };
    // What is no list of tags matches nothing from there on.
    while !rest.is_empty() {
        let Some((tag, behind)) = next_tag(rest) else { return false };
        if tag == mine {
            return true;
        }
        rest = match behind.trim_ascii_start() {
            [b',', more @ ..] => more.trim_ascii_start(),
            _ => return false,
        };
    }
    false
}

// Its opaque part with the quotes, and what stands behind it.
fn next_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = opaque(text);
    let [b'"', inner @ ..] = text else { return None };
    let end = memchr::memchr(b'"', inner)?;
    Some(text.split_at(end + 2))
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

// RFC 9110 section 13.1.5: strong comparison.
fn is_unchanged(meta: &Meta, validator: &[u8]) -> bool {
    if validator.starts_with(b"W/") {
        return false;
    }
    if validator.starts_with(b"\"") {
        return meta.etag.as_deref() == Some(validator);
    }
    let Some((_, modified)) = &meta.modified else { return false };
    date::parse(validator) == Some(*modified) && is_strong_date(meta)
}

// RFC 9110 section 8.8.2.2: what was changed in the minute before it was sent may have been changed again in it.
fn is_strong_date(meta: &Meta) -> bool {
    meta.modified.as_ref().is_some_and(|(_, at)| at.saturating_add(60) <= meta.date)
}
