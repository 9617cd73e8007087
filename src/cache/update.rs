//! What a 304, or the head of a response to `HEAD`, makes of a stored response (RFC 9111 sections 3.2, 4.3.4 and 4.3.5).
//!
//! Called with what the target has answered to a validation.

use crate::cache::age::{Meta, Times};
use crate::cache::ask::Ask;
use crate::cache::lines;
use crate::cache::settings::Settings;
use crate::cache::storable::{Why, is_for_all, storable};
use crate::cache::targeted;
use crate::cache::vary::Vary;
use crate::http::{Fields, Known, write};

/// A stored response as it is after its validation.
#[derive(Debug, PartialEq)]
pub struct Renewed {
    /// Its field lines.
    pub lines: Vec<u8>,
    /// What decisions go by from now on. It is stored under what its `Vary` makes of the request that has validated it. An error
    /// if it may not be stored any longer: it answers this one request still, and is forgotten; but for
    /// [`Why::RequestNoStore`], which says nothing of what is stored.
    pub meta: Result<Meta, Why>,
}

/// Whether a 304 speaks of this stored response: its validators are not of another.
pub fn fits(meta: &Meta, fresh: Fields<'_>) -> bool {
    let modified = || match (fresh.first("last-modified"), &meta.modified) {
        (Some(fresh), Some((mine, _))) => **mine == *fresh,
        (Some(_), None) => meta.etag.is_some(),
        (None, _) => true,
    };
    match (fresh.first("etag"), &meta.etag) {
        (Some(fresh), Some(mine)) => same_tag(fresh, mine),
        (Some(_), None) => false,
        (None, _) => modified(),
    }
}

/// The stored response `meta`, with its field lines `stored`, after a 304 that [`fits`] it.
pub fn renew(
    settings: &Settings,
    ask: &Ask,
    (meta, stored): (&Meta, &[u8]),
    fresh: Fields<'_>,
    nominated: impl Fn(&[u8]) -> bool,
    times: Times,
) -> Renewed {
    let mut new = Vec::new();
    lines::kept(fresh, nominated, &mut new);
    let (list, had) = (lines::fields(&new), lines::fields(stored));
    let (new, stored) = (Fields::new(&new, &list), Fields::new(stored, &had));
    let merged = merged(ask, stored, new, fresh);
    // What one of them withholds by name the other may have.
    let list = lines::fields(&merged);
    let mut lines = Vec::with_capacity(merged.len());
    lines::kept(Fields::new(&merged, &list), |_| false, &mut lines);
    // Its age comes from the 304 alone: what is kept has none.
    let mut judged = lines.clone();
    if let Some(age) = fresh.first("age") {
        write::field(&mut judged, b"age", age);
    }
    let list = lines::fields(&judged);
    // The content is what was stored for others already; only who identifies himself has to be told apart again.
    let ask = Ask { head: false, cookies: false, ..*ask };
    let meta = storable(settings, &ask, meta.status, Fields::new(&judged, &list), times);
    Renewed { lines, meta }
}

// The stored lines with those of the 304 that take their place.
fn merged(ask: &Ask, stored: Fields<'_>, new: Fields<'_>, fresh: Fields<'_>) -> Vec<u8> {
    let personal = is_personal(ask, stored, fresh);
    let (before, said) = (Vary::of(stored), Vary::of(new));
    let covers = |one: &Option<Vary>, other: &Option<Vary>| match (one, other) {
        (Some(one), Some(other)) => other.names().iter().all(|name| one.has(name)),
        _ => false,
    };
    // The body was chosen by all that was named for it, whatever a 304 names.
    let (keeps, adds) = (!covers(&said, &before), !covers(&before, &said));
    let takes = |name: &[u8]| match name.eq_ignore_ascii_case(b"vary") {
        true => adds || !keeps,
        false => replaces(name) && (!personal || is_about_storing(name)),
    };
    let mut merged = Vec::new();
    for (name, value) in stored.iter() {
        let named = || new.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let stays = keeps && name.eq_ignore_ascii_case(b"vary");
        // An old date would say that the 304 is old.
        if stays || !(takes(name) && named()) && Known::of(name) != Known::Date {
            write::field(&mut merged, name, value);
        }
    }
    for (name, value) in new.iter().filter(|(name, _)| takes(name)) {
        write::field(&mut merged, name, value);
    }
    merged
}

// Whether a 304 may have fields for one client: what they say would be said to all.
fn is_personal(ask: &Ask, stored: Fields<'_>, fresh: Fields<'_>) -> bool {
    if fresh.first("set-cookie").is_some() || fresh.first("set-cookie2").is_some() {
        return true;
    }
    let says = |name: &str| fresh.first(name).is_some();
    let said = says("cache-control") || says(targeted::FIELD);
    let (said, source) = targeted::effective(if said { fresh } else { stored });
    let by_cookie = || Vary::of(stored).is_some_and(|vary| vary.has("cookie"));
    ask.cookies && !is_for_all((&said, source)) && !by_cookie()
}

fn is_about_storing(name: &[u8]) -> bool {
    let names: [&[u8]; 6] = [
        b"date",
        b"cache-control",
        targeted::FIELD.as_bytes(),
        b"expires",
        b"etag",
        b"last-modified",
    ];
    names.iter().any(|field| name.eq_ignore_ascii_case(field))
}

/// Whether the head of a 200 to `HEAD` shows that a stored response has been replaced by another (RFC 9111 section 4.3.5).
pub fn is_outdated(meta: &Meta, length: u64, fresh: Fields<'_>, declared: Option<u64>) -> bool {
    let other_tag = match (fresh.first("etag"), &meta.etag) {
        (Some(fresh), Some(mine)) => fresh != &**mine,
        (fresh, mine) => fresh.is_some() != mine.is_some(),
    };
    let modified = fresh.first("last-modified");
    other_tag
        || modified != meta.modified.as_ref().map(|(text, _)| &**text)
        || declared.is_some_and(|declared| declared != length)
}

// RFC 9111 section 3.2: all but what describes the body that is stored.
fn replaces(name: &[u8]) -> bool {
    let body: [&[u8]; 3] = [b"content-encoding", b"content-range", b"content-length"];
    !body.iter().any(|field| name.eq_ignore_ascii_case(field))
}

// RFC 9111 section 4.3.4: a strong validator speaks of what has the same strong one.
fn same_tag(fresh: &[u8], mine: &[u8]) -> bool {
    let weak = fresh.strip_prefix(b"W/");
    weak.map_or(fresh == mine, |opaque| opaque == mine.strip_prefix(b"W/").unwrap_or(mine))
}
