//! Gives a stored response to a client: all of it, a part, or the word that it has it already.
//!
//! The head goes through what every response goes through (fields of the hop, of policies, of the rule, `Date`), so that a stored
//! answer looks like the target's; the body goes out as it lies in the store, without being copied.

use super::{Asked, Given};
use crate::base::Tick;
use crate::cache::{Status, conditional, lines};
use crate::http::{Fault, Field, Fields, Framing, Span, Version, write};
use crate::proxy::receive::{Head, render, whole};
use crate::proxy::{Exchange, receive, shape, steer};
use crate::store::Entry;
use std::ops::Range;

/// Sends what the request gets of `entry`.
///
/// # Errors
/// [`Fault::ClientGone`], [`Fault::WriteTimeout`], [`Fault::ReadTooSlow`].
pub(super) async fn give(
    x: &mut Exchange<'_>,
    asked: Asked<'_>,
    entry: &Entry,
    how: Given,
    status: Status,
) -> Result<(), Fault> {
    entry.touch();
    count(x, asked, how);
    let length = entry.body.len() as u64;
    let given = conditional::given(&entry.stored, asked.ask, x.view().fields, length);
    let mut part = head(x, entry, &given);
    if asked.ask.head {
        let declared = x.scratch.response.framing;
        x.scratch.response.framing = Framing::None;
        if let Framing::Length(length) = declared {
            x.scratch.response.declared = Some(length);
        }
        part = 0..0;
    }
    x.scratch.added.clear();
    if let conditional::Given::Part(range) = &given {
        content_range(x, Some(range), length);
    } else if given == conditional::Given::Unsatisfiable {
        content_range(x, None, length);
    }
    let age = entry.stored.age_at(Tick::now()).as_secs();
    x.scratch.added.extend_from_slice(b"age: ");
    write::number(&mut x.scratch.added, age);
    x.scratch.added.extend_from_slice(b"\r\n");
    if asked.caching.settings.status {
        status.write(&mut x.scratch.added);
    }
    let body = entry.body.get(part).unwrap_or_default();
    if shape::dresses(asked.rule) {
        // Rare, and large: kept out of the future of every other answer.
        return Box::pin(dressed(x, entry, body)).await;
    }
    send(x, entry, body).await
}

async fn send(x: &mut Exchange<'_>, entry: &Entry, body: &[u8]) -> Result<(), Fault> {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    if rule.is_some_and(|rule| rule.traffic.steered) {
        // What is stored is of the group that it was chosen for: the client stays there as if it had answered now.
        steer::settled(x, &entry.lines);
    }
    render(x, &entry.lines);
    let mut out = std::mem::take(&mut x.scratch.reply);
    x.scratch.trace.status = x.scratch.response.status;
    x.scratch.trace.body_out = body.len() as u64;
    x.scratch.trace.bytes_out += (out.len() + body.len()) as u64;
    let floor = x.epoch.snapshot.limits.min_rate;
    let sent = whole(&x.client.sock, &mut out, body, x.listener.body, floor).await;
    out.clear();
    x.scratch.reply = out;
    sent
}

// As if a target had sent it: with a copy of it, which may become something else.
async fn dressed(x: &mut Exchange<'_>, entry: &Entry, body: &[u8]) -> Result<(), Fault> {
    let kept = entry.lines.strip_suffix(b"\r\n").unwrap_or(&entry.lines);
    let added = std::mem::take(&mut x.scratch.added);
    let mut up = x.shard.buffers.none();
    let len = kept.len() + added.len() + 2;
    up.reserve(len + body.len());
    for part in [kept, &added, b"\r\n", body] {
        up.append(part);
    }
    let by = u32::try_from(kept.len()).unwrap_or(u32::MAX);
    let moved = |span: Span| Span { start: span.start + by, end: span.end + by };
    let response = &mut x.scratch.response;
    response.fields.extend(lines::fields(&added).into_iter().map(|field| Field {
        name: moved(field.name),
        value: moved(field.value),
        ..field
    }));
    response.len = len;
    x.scratch.trace.stored = true;
    let (client, head) = (x.client, Head::of(x));
    // All of it is here: nothing is read.
    receive::deliver(x, &client.sock, &mut up, head, x.listener.body).await.map(|_| ())
}

// Puts the head of the answer into the scratch; which octets of the body go with it.
fn head(x: &mut Exchange<'_>, entry: &Entry, given: &conditional::Given) -> Range<usize> {
    let all = 0..entry.body.len();
    let at = |octets: u64| usize::try_from(octets).unwrap_or(usize::MAX);
    let (status, part) = match given {
        conditional::Given::Whole => (entry.stored.status, all),
        conditional::Given::NotModified => (304, 0..0),
        conditional::Given::Part(range) => (206, at(range.start)..at(range.end)),
        conditional::Given::Unsatisfiable => (416, 0..0),
    };
    let bodiless = matches!(status, 204 | 304);
    let response = &mut x.scratch.response;
    response.status = status;
    response.reason = Span::default();
    response.version = Version::Http11;
    response.framing = if bodiless { Framing::None } else { Framing::Length(part.len() as u64) };
    response.declared = None;
    response.keep_alive = true;
    response.has_date = true;
    response.nominated.clear();
    response.len = entry.lines.len();
    response.fields.clear();
    let left_out: Option<fn(&[u8]) -> bool> = match status {
        304 | 416 => Some(speaks_of_content),
        206 => Some(is_digest),
        _ => None,
    };
    if let Some(left_out) = left_out {
        let kept = entry.fields.iter().filter(|field| !left_out(field.name.of(&entry.lines)));
        response.fields.extend(kept.copied());
    } else {
        response.fields.extend_from_slice(&entry.fields);
    }
    part
}

// Of the octets that are sent, which are a part of those it was made of (RFC 9530 section 2). `Repr-Digest` is of all of them.
fn is_digest(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content-digest") || name.eq_ignore_ascii_case(b"content-md5")
}

// What is not told of a representation that is not sent (RFC 9110 section 15.4.5).
fn speaks_of_content(name: &[u8]) -> bool {
    let begins = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case(b"content-"));
    begins && !name.eq_ignore_ascii_case(b"content-location")
}

fn content_range(x: &mut Exchange<'_>, range: Option<&Range<u64>>, length: u64) {
    let out = &mut x.scratch.added;
    out.extend_from_slice(b"content-range: bytes ");
    match range {
        Some(range) => {
            write::number(out, range.start);
            out.push(b'-');
            write::number(out, range.end.saturating_sub(1));
        }
        None => out.push(b'*'),
    }
    out.push(b'/');
    write::number(out, length);
    out.extend_from_slice(b"\r\n");
}

fn count(x: &mut Exchange<'_>, asked: Asked<'_>, how: Given) {
    let Some(cell) = asked.caching.meters.cell(x.shard.worker) else { return };
    let (counter, name) = match how {
        Given::Fresh => (Some(&cell.hits), "hit"),
        Given::Stale => (Some(&cell.stale), "stale"),
        Given::Saved => (Some(&cell.saved), "stale"),
        Given::Confirmed => (Some(&cell.revalidated), "revalidated"),
        // Counted when it was sent on.
        Given::Fetched => (None, x.scratch.trace.cache),
    };
    if let Some(counter) = counter {
        counter.add(1);
    }
    x.scratch.trace.cache = name;
}

/// The fields of a request, in octets of their own: for what outlives it.
#[derive(Debug)]
pub(super) struct Kept {
    octets: Vec<u8>,
    list: Vec<Field>,
}

impl Kept {
    pub(super) fn of(x: &Exchange<'_>) -> Kept {
        let head = x.buf.filled().get(..x.scratch.request.len).unwrap_or_default();
        Kept { octets: head.to_vec(), list: x.scratch.request.fields.clone() }
    }

    pub(super) fn view(&self) -> Fields<'_> {
        Fields::new(&self.octets, &self.list)
    }
}
