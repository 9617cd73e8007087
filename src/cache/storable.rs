//! Whether a response may be stored, and for how long it is fresh (RFC 9111 sections 3, 4.2 and 5.2.2, RFC 9213).
//!
//! Stored is what says so itself, or what the rule gives a time to; never what sets a cookie, is private, or might be meant for
//! one sender (hazards CACHE-03 to -05). Only whole responses come here: that all of the body has arrived is for `store` to know.
//! Called when the head of a response to a stored rule has arrived, and again for one that a 304 has renewed.

use crate::cache::age::{Meta, Times};
use crate::cache::ask::Ask;
use crate::cache::control::{Directives, MOST_SECONDS};
use crate::cache::settings::Settings;
use crate::cache::targeted::{self, Source};
use crate::cache::vary::Vary;
use crate::cache::{control, date};
use crate::http::Fields;
use std::time::Duration;

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its text says")]
pub enum Why {
    Head,
    RequestNoStore,
    Status,
    Part,
    NoStore,
    Private,
    Identified,
    Cookies,
    SetCookie,
    Vary,
    Malformed,
    NoLifetime,
    Useless,
    Tags,
    TooLarge,
    Replaced,
    Unframed,
}

impl Why {
    /// In a few words, for `Cache-Status` and people.
    pub fn detail(self) -> &'static str {
        match self {
            Why::Head => "head",
            Why::RequestNoStore => "request-no-store",
            Why::Status => "status",
            Why::Part => "partial",
            Why::NoStore => "no-store",
            Why::Private => "private",
            Why::Identified => "authorization",
            Why::Cookies => "cookies",
            Why::SetCookie => "set-cookie",
            Why::Vary => "vary",
            Why::Malformed => "malformed",
            Why::NoLifetime => "no-lifetime",
            Why::Useless => "expired",
            Why::Tags => "tags",
            Why::TooLarge => "too-large",
            Why::Replaced => "replaced",
            Why::Unframed => "unframed",
        }
    }

    /// Whether it lies in who has asked, and how: that says nothing of what is stored already.
    pub fn is_of_request(self) -> bool {
        matches!(self, Why::Head | Why::RequestNoStore | Why::Identified | Why::Cookies)
    }
}

// RFC 9110 section 15.1, without 206, which is never stored.
const HEURISTIC: [u16; 11] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
// Statuses below 400 that are understood (RFC 9111 section 3): those whose meaning for a cache is known.
const UNDERSTOOD: [u16; 9] = [200, 203, 204, 300, 301, 302, 303, 307, 308];
// RFC 9111 section 4.2.2: "a typical setting of this fraction might be 10%".
const FRACTION: u64 = 10;
const LONGEST_HEURISTIC: Duration = Duration::from_secs(86_400);
// More than these cannot be purged by, so that the response is not stored.
const MOST_TAGS: usize = 64;
const LONGEST_TAG: usize = 256;

/// Whether the response to a `GET` may be stored, and what is kept of its head.
///
/// # Errors
/// Why it may not.
pub fn storable(
    settings: &Settings,
    ask: &Ask,
    status: u16,
    fields: Fields<'_>,
    times: Times,
) -> Result<Meta, Why> {
    let cap = may_store(settings, ask, status, fields)?;
    let (said, source) = targeted::effective(fields);
    if said.malformed {
        return Err(Why::Malformed);
    }
    // RFC 9111 section 5.2.2.3: who understands the status does not heed no-store.
    if said.must_understand && !UNDERSTOOD.contains(&status) && !HEURISTIC.contains(&status) {
        return Err(Why::Status);
    }
    if said.no_store && !said.must_understand {
        return Err(Why::NoStore);
    }
    if said.private {
        return Err(Why::Private);
    }
    let vary = Vary::of(fields).ok_or(Why::Vary)?;
    let for_all = said.public || said.s_maxage.is_some();
    // RFC 9111 section 3.5.
    if ask.identified && !for_all && !said.must_revalidate {
        return Err(Why::Identified);
    }
    if ask.cookies && !is_for_all((&said, source)) && !vary.has("cookie") {
        return Err(Why::Cookies);
    }
    let date = fields.first("date").and_then(date::parse).unwrap_or(times.unix);
    let mut meta = Meta {
        status,
        received: times.received,
        age: age(fields, date, times),
        strict: said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some(),
        no_cache: said.no_cache || source == Source::General && has_old_no_cache(fields),
        immutable: said.immutable,
        etag: fields.first("etag").filter(|tag| !tag.is_empty()).map(Box::from),
        modified: fields.first("last-modified").and_then(|at| Some((at.into(), date::parse(at)?))),
        date,
        vary,
        tags: tags(settings, fields)?,
        ..Meta::default()
    };
    let window = |said: Option<Duration>, usual| said.unwrap_or(usual);
    meta.stale_while_revalidate =
        window(said.stale_while_revalidate, settings.stale_while_revalidate);
    meta.stale_if_error = window(said.stale_if_error, settings.stale_if_error);
    meta.lifetime = lifetime(settings, &meta, (&said, source), fields, cap)?;
    worth_it(meta)
}

/// Whether a response is one for all, whatever cookies the request for it has.
pub(super) fn is_for_all((said, source): (&Directives<'_>, Source)) -> bool {
    said.public || said.s_maxage.is_some() || source == Source::Targeted
}

// What does not depend on how long it is fresh; yields the longest time for an error.
fn may_store(
    settings: &Settings,
    ask: &Ask,
    status: u16,
    fields: Fields<'_>,
) -> Result<Option<Duration>, Why> {
    if ask.head {
        return Err(Why::Head);
    }
    if ask.no_store {
        return Err(Why::RequestNoStore);
    }
    let negative = settings.negative.iter().find(|(code, _)| *code == status);
    let cap = match negative {
        Some((_, longest)) => Some(*longest),
        None if status == 206 => return Err(Why::Part),
        None if !UNDERSTOOD.contains(&status) => return Err(Why::Status),
        None => None,
    };
    if fields.first("content-range").is_some() {
        return Err(Why::Part);
    }
    if fields.first("set-cookie").is_some() || fields.first("set-cookie2").is_some() {
        return Err(Why::SetCookie);
    }
    Ok(cap)
}

// RFC 9111 section 4.2.3.
fn age(fields: Fields<'_>, date: u64, times: Times) -> Duration {
    let apparent = Duration::from_secs(times.unix.saturating_sub(date).min(MOST_SECONDS));
    // RFC 9111 section 5.1: of several values the first holds, and one that is none is ignored.
    let told = fields.first("age").and_then(|line| line.split(|b| *b == b',').next());
    let told = told.and_then(|age| control::seconds(age.trim_ascii())).unwrap_or_default();
    apparent.max(Duration::from_secs(told) + times.received.since(times.asked))
}

// RFC 9111 section 4.2.1, bounded by the rule.
fn lifetime(
    settings: &Settings,
    meta: &Meta,
    (said, source): (&Directives<'_>, Source),
    fields: Fields<'_>,
    cap: Option<Duration>,
) -> Result<Duration, Why> {
    let expires = expires(fields, meta.date).filter(|_| source == Source::General);
    let explicit = said.s_maxage.or(said.max_age).or(expires);
    let by_status = HEURISTIC.contains(&meta.status) || said.public;
    let lifetime = match (explicit, cap) {
        (Some(explicit), _) => explicit,
        (None, Some(longest)) => meta.age.saturating_add(longest),
        (None, None) if by_status => match heuristic(settings, meta) {
            Some(time) => time,
            // Age does not count against a time that the rule gives: it begins here.
            None if !settings.default_ttl.is_zero() => {
                meta.age.saturating_add(settings.default_ttl)
            }
            None if meta.no_cache => Duration::ZERO,
            None => return Err(Why::NoLifetime),
        },
        (None, None) => return Err(Why::NoLifetime),
    };
    let most = cap.unwrap_or(settings.max_ttl).min(settings.max_ttl);
    Ok(lifetime.min(meta.age.saturating_add(most)))
}

// The earliest of them counts; one that is no date has passed (RFC 9111 section 5.3).
fn expires(fields: Fields<'_>, date: u64) -> Option<Duration> {
    let all = fields.all("expires").map(|at| date::parse(at).unwrap_or_default());
    all.min().map(|at| Duration::from_secs(at.saturating_sub(date).min(MOST_SECONDS)))
}

fn heuristic(settings: &Settings, meta: &Meta) -> Option<Duration> {
    let (_, modified) = meta.modified.as_ref().filter(|_| settings.heuristic)?;
    let unchanged = meta.date.checked_sub(*modified)?;
    Some(Duration::from_secs(unchanged / FRACTION).min(LONGEST_HEURISTIC))
}

// What can never be given is not stored.
fn worth_it(meta: Meta) -> Result<Meta, Why> {
    let given = !meta.no_cache && meta.expires() > meta.received;
    if given || meta.has_validator() { Ok(meta) } else { Err(Why::Useless) }
}

// RFC 9111 section 5.4 leaves it open for responses; who writes it means it.
fn has_old_no_cache(fields: Fields<'_>) -> bool {
    let mut pragma = fields.all("pragma").flat_map(|line| line.split(|b| *b == b','));
    fields.first("cache-control").is_none()
        && pragma.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
}

fn tags(settings: &Settings, fields: Fields<'_>) -> Result<Vec<Box<[u8]>>, Why> {
    let Some(name) = &settings.tags else { return Ok(Vec::new()) };
    let words = fields.all(name).flat_map(|line| line.split(|b| matches!(b, b',' | b' ' | b'\t')));
    let mut tags: Vec<Box<[u8]>> = words.filter(|tag| !tag.is_empty()).map(Box::from).collect();
    tags.sort_unstable();
    tags.dedup();
    let fits = tags.len() <= MOST_TAGS && tags.iter().all(|tag| tag.len() <= LONGEST_TAG);
    if fits { Ok(tags) } else { Err(Why::Tags) }
}
