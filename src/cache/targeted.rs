//! `CDN-Cache-Control` (RFC 9213): what a target says to caches like this one, in place of `Cache-Control` and `Expires`.
//!
//! A dictionary of structured fields (RFC 8941 section 3.2), read as strictly as it is defined; what is none is as if it were not
//! there. Called by `storable`.

use crate::cache::control::{Directives, MOST_SECONDS, Value};
use crate::http::Fields;

/// The field that is read.
pub const FIELD: &str = "cdn-cache-control";

/// What it says; `None` if there is none, it is empty, or no dictionary.
pub fn directives(fields: Fields<'_>) -> Option<Directives<'_>> {
    let mut said = Directives::default();
    let mut any = false;
    for line in fields.all(FIELD) {
        let mut rest = trim(line);
        // An empty line adds nothing to the list (RFC 8941 section 4.2).
        while !rest.is_empty() {
            rest = member(rest, &mut said)?;
            any = true;
        }
    }
    any.then_some(said)
}

// One member and the comma behind it; yields what follows.
fn member<'a>(text: &'a [u8], said: &mut Directives<'a>) -> Option<&'a [u8]> {
    let (name, mut rest) = key(text)?;
    let mut value = Item::Boolean(true);
    if let [b'=', behind @ ..] = rest {
        (value, rest) = item(behind)?;
    }
    rest = parameters(rest)?;
    match value {
        Item::Boolean(false) => {}
        Item::Boolean(true) => said.take(name, Value::None),
        Item::Integer(digits) => said.take(name, Value::Token(digits)),
        // Of another type than any directive has, but field names: zero seconds then, as of any number that is none.
        Item::Text(text) => said.take(name, Value::Quoted(text)),
        Item::Other => said.take(name, Value::Token(b"?")),
    }
    rest = trim(rest);
    match rest {
        [] => Some(rest),
        [b',', more @ ..] => {
            let more = trim(more);
            // A comma at the end has nothing behind it.
            if more.is_empty() { None } else { Some(more) }
        }
        _ => None,
    }
}

enum Item<'a> {
    Boolean(bool),
    Integer(&'a [u8]),
    Text(&'a [u8]),
    Other,
}

fn key(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = text.first()?;
    if !first.is_ascii_lowercase() && *first != b'*' {
        return None;
    }
    let is_key = |b: &u8| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'*')
    };
    Some(split_while(text, is_key))
}

fn item(text: &[u8]) -> Option<(Item<'_>, &[u8])> {
    match text {
        [b'?', b'0', rest @ ..] => Some((Item::Boolean(false), rest)),
        [b'?', b'1', rest @ ..] => Some((Item::Boolean(true), rest)),
        [b'"', rest @ ..] => {
            let end = string_end(rest)?;
            Some((Item::Text(rest.get(..end)?), rest.get(end + 1..)?))
        }
        [b'-', b'0'..=b'9', ..] => Some((Item::Other, number(text.get(1..)?)?.1)),
        [b'0'..=b'9', ..] => {
            let (digits, rest) = number(text)?;
            let whole = !digits.contains(&b'.');
            Some((if whole { Item::Integer(digits) } else { Item::Other }, rest))
        }
        [b'A'..=b'Z' | b'a'..=b'z' | b'*', ..] => {
            let is_token =
                |b: &u8| crate::http::request::is_token_octet(*b) || matches!(b, b':' | b'/');
            Some((Item::Other, split_while(text, is_token).1))
        }
        [b':', rest @ ..] => {
            let end = memchr::memchr(b':', rest)?;
            let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
            let encoded = rest.get(..end)?;
            encoded.iter().all(plain).then_some((Item::Other, rest.get(end + 1..)?))
        }
        [b'(', rest @ ..] => Some((Item::Other, inner_list(rest)?)),
        _ => None,
    }
}

// Digits, of which 15 are an integer; or 12 with up to three behind a point (RFC 8941 section 3.3).
fn number(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (number, rest) = split_while(text, |b| b.is_ascii_digit() || *b == b'.');
    let mut parts = number.split(|b| *b == b'.');
    let whole = parts.next()?;
    let fits = match (parts.next(), parts.next()) {
        (None, _) => (1..=15).contains(&whole.len()),
        (Some(behind), None) => whole.len() <= 12 && (1..=3).contains(&behind.len()),
        _ => false,
    };
    fits.then_some((number, rest))
}

fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' if matches!(text.get(at + 1)?, b'"' | b'\\') => at += 2,
            b'\\' => return None,
            b' '..=b'~' => at += 1,
            _ => return None,
        }
    }
}

fn inner_list(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = spaces(text);
        if let [b')', rest @ ..] = text {
            return Some(rest);
        }
        if text.first() == Some(&b'(') {
            return None;
        }
        text = parameters(item(text)?.1)?;
        if !matches!(text.first(), Some(b' ' | b')')) {
            return None;
        }
    }
}

// RFC 9213 section 2.1: they are ignored.
fn parameters(mut text: &[u8]) -> Option<&[u8]> {
    while let [b';', rest @ ..] = text {
        let (_, behind) = key(spaces(rest))?;
        text = behind;
        if let [b'=', value @ ..] = text {
            if value.first() == Some(&b'(') {
                return None;
            }
            text = item(value)?.1;
        }
    }
    Some(text)
}

fn split_while(text: &[u8], is: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|b| !is(b)).unwrap_or(text.len()))
}

fn spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    text
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

const _: () = assert!(MOST_SECONDS < 1_000_000_000_000_000, "an integer holds any time");
