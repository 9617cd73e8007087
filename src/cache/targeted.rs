//! `CDN-Cache-Control` (RFC 9213): what a target says to caches like this one, in place of `Cache-Control` and `Expires`.
//!
//! A dictionary of structured fields, read as strictly as it is defined; what is none is as if it were not there. Called by
//! whoever asks what a response allows.

use crate::cache::control::{Directives, Value};
use crate::http::Fields;
use sfv::{BareItem, Dictionary, ListEntry, Parser};
use std::borrow::Cow;

/// The field that is read.
pub const FIELD: &str = "cdn-cache-control";

/// Which field has said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `Cache-Control`, so that `Expires` counts too.
    General,
    /// The one for caches like this.
    Targeted,
}

/// What a response allows a cache like this.
pub fn effective(fields: Fields<'_>) -> (Directives<'_>, Source) {
    match directives(fields) {
        Some(said) => (said, Source::Targeted),
        None => (Directives::of(fields.all("cache-control")), Source::General),
    }
}

// RFC 9213 section 2.1: a field that is empty or cannot be read is ignored, and so are parameters.
fn directives(fields: Fields<'_>) -> Option<Directives<'_>> {
    let mut lines = fields.all(FIELD);
    let mut text = lines.next().map(Cow::Borrowed)?;
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line);
    }
    let members: Dictionary = Parser::new(&text).parse().ok()?;
    let mut said = Directives::default();
    for (name, member) in &members {
        let name = name.as_str().as_bytes();
        let ListEntry::Item(item) = member else {
            said.take(name, Value::Wrong);
            continue;
        };
        match &item.bare_item {
            BareItem::Boolean(false) => {}
            BareItem::Boolean(true) => said.take(name, Value::None),
            BareItem::Integer(number) => {
                let number = u64::try_from(i64::from(*number)).unwrap_or_default();
                said.take(name, Value::Seconds(number));
            }
            BareItem::String(list) if name == b"no-cache" => {
                said.withheld.push(Cow::Owned(list.as_str().as_bytes().to_vec()));
            }
            _ => said.take(name, Value::Wrong),
        }
    }
    (!members.is_empty()).then_some(said)
}
