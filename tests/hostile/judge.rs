//! Compares what each client got, what ringgate logged and what the origins saw.
//!
//! The access log is the account: every reply must stand for one line of it, in order, with the same status and request
//! id; every request that an origin saw must be a line that says it was forwarded, with the same method and token, as
//! often as it says. What is left over on either side was smuggled, or answers somebody else's request.

use super::drive::{Case, End};
use super::origins::Seen;
use super::replies::{Replies, Reply, shown};
use super::{Hidden, Template, token};
use std::collections::HashMap;

/// A line of ringgate's access log.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Record {
    pub request_id: String,
    pub peer: Option<String>,
    pub listener: String,
    pub method: String,
    pub path: String,
    /// The last target that was tried.
    pub target: Option<String>,
    pub status: u16,
    pub target_status: Option<u16>,
    pub body_in: u64,
    pub reason: Option<String>,
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An origin saw a request that ringgate did not mean to send.
    Smuggled,
    /// A reply that belongs to another request, or to none.
    Desynchronised,
    /// A connection that neither ended nor answered.
    Hung,
    /// `internal`, or a process that is gone.
    Crashed,
    /// The accounts do not agree otherwise.
    Unaccounted,
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: Kind,
    pub number: usize,
    pub lane: usize,
    pub text: String,
}

/// What a batch is judged by.
pub struct Evidence<'a> {
    pub templates: &'a [Template],
    /// The number of the first template.
    pub first: usize,
    pub cases: &'a [Case],
    pub records: &'a [Record],
    pub lanes: &'a [Lane],
    pub seen: &'a [Vec<Seen>],
}

#[derive(Clone, Debug)]
pub struct Lane {
    pub name: String,
    pub echoes: bool,
}

pub fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut by_peer: HashMap<&str, Vec<&Record>> = HashMap::new();
    for record in evidence.records {
        by_peer.entry(record.peer.as_deref().unwrap_or_default()).or_default().push(record);
    }
    let mut findings = Vec::new();
    for case in evidence.cases {
        let records = by_peer.get(case.local.as_str()).map_or(&[][..], Vec::as_slice);
        if let Err((kind, text)) = replies(case, records, evidence.lanes[case.lane].echoes) {
            findings.push(Finding { kind, number: case.number, lane: case.lane, text });
        }
    }
    for lane in 0..evidence.lanes.len() {
        origin(evidence, lane, &mut findings);
    }
    findings
}

/// The replies on one connection against its lines in the log.
fn replies(case: &Case, records: &[&Record], echoes: bool) -> Result<(), (Kind, String)> {
    if case.end == End::Never {
        return Err((Kind::Hung, format!("still open after {:?}", super::drive::LONGEST)));
    }
    let mut replies = Replies::new(&case.received);
    let wrong =
        |text: String| Err((Kind::Desynchronised, format!("{text}; log: {}", brief(records))));
    for record in records {
        if record.reason.as_deref() == Some("internal") {
            return Err((Kind::Crashed, format!("internal error for {:?}", record.path)));
        }
        if record.status == 0 {
            continue;
        }
        match replies.next(&record.method) {
            Err(text) if case.end == End::Reset => {
                let _ = text;
                return Ok(());
            }
            Err(text) => return wrong(text),
            // A reset may overtake what was sent.
            Ok(None) if case.end == End::Reset => return Ok(()),
            Ok(None) => return wrong("a request in the log has no reply".to_owned()),
            Ok(Some(reply)) => {
                if let Some(text) = mismatch(&reply, record, echoes, case.end) {
                    return wrong(text);
                }
            }
        }
    }
    if !replies.rest().is_empty() {
        return wrong(format!("a reply that stands for no request: {:?}", shown(replies.rest())));
    }
    Ok(())
}

fn mismatch(reply: &Reply, record: &Record, echoes: bool, end: End) -> Option<String> {
    if reply.status != record.status {
        return Some(format!(
            "status {} for a request logged with {}",
            reply.status, record.status
        ));
    }
    if !reply.whole && end != End::Reset && record.reason.is_none() {
        return Some("a truncated reply".to_owned());
    }
    let id = match (&record.reason, record.target_status) {
        (Some(_), _) => reply.field("x-request-id"),
        (None, Some(_)) if echoes => reply.field("x-seen"),
        _ => None,
    };
    match id {
        Some(id) if id != record.request_id => {
            Some(format!("answers request {id}, not {}", record.request_id))
        }
        // Origins that refuse a request say so without its id.
        None if record.target_status == Some(200)
            && echoes
            && record.reason.is_none()
            && record.method != "OPTIONS" =>
        {
            Some("an answer without the request's id".to_owned())
        }
        _ => None,
    }
}

/// What one origin saw against what was forwarded to it.
fn origin(evidence: &Evidence<'_>, lane: usize, findings: &mut Vec<Finding>) {
    let name = &evidence.lanes[lane].name;
    let mine = evidence.records.iter().filter(|r| r.listener == *name);
    let by_id: HashMap<&str, &Record> = mine.map(|r| (r.request_id.as_str(), r)).collect();
    let mut counts: HashMap<&str, u32> = HashMap::new();
    let mut refused = 0_u32;
    let mut find = |kind, target: &str, text: String| {
        findings.push(Finding { kind, number: number_in(evidence, target), lane, text });
    };
    for seen in &evidence.seen[lane] {
        let Some(record) = by_id.get(seen.id.as_str()) else {
            // What an origin could not parse has no id; each must be a refusal that ringgate has passed on.
            if seen.status.starts_with(['4', '5']) && matches!(seen.id.as_str(), "-" | "") {
                refused += 1;
            } else {
                find(
                    Kind::Smuggled,
                    &seen.target,
                    format!("{name} saw {seen:?}, which was never forwarded"),
                );
            }
            continue;
        };
        let count = counts.entry(&record.request_id).or_default();
        *count += 1;
        if *count > record.retries + 1 {
            find(
                Kind::Smuggled,
                &seen.target,
                format!("{name} saw {seen:?} {count} times; log: {record:?}"),
            );
        }
        if let Some(text) = misread(evidence, seen, record) {
            find(
                Kind::Smuggled,
                &seen.target,
                format!("{name} {text}: saw {seen:?}; log: {record:?}"),
            );
        }
    }
    // Tried on a target, but not seen there by its id: what the origin refused unread, or what never arrived.
    let tried = by_id.values().filter(|r| r.target.is_some());
    let unseen: Vec<_> = tried.filter(|r| !counts.contains_key(r.request_id.as_str())).collect();
    let attempts: u32 = unseen.iter().map(|r| r.retries + 1).sum();
    let lost = unseen.iter().find(|r| r.target_status.is_some_and(|s| s < 400));
    if lost.is_some() || refused > attempts {
        let text = format!(
            "{name}: {} forwarded requests not seen, {refused} refused unread: {lost:?}",
            unseen.len()
        );
        find(Kind::Unaccounted, lost.map_or("", |r| &r.path), text);
    }
}

fn misread(evidence: &Evidence<'_>, seen: &Seen, record: &Record) -> Option<String> {
    if seen.method != record.method {
        return Some("read another method".to_owned());
    }
    let target = &seen.target;
    if is_plain(&record.path) && *target != record.path {
        return Some("read another target".to_owned());
    }
    if let Some(at) = target.find("/smuggled-") {
        let hidden = target[at + 10..].get(..8).unwrap_or_default();
        let number = usize::from_str_radix(hidden, 16).unwrap_or(usize::MAX);
        let template = number.checked_sub(evidence.first).and_then(|n| evidence.templates.get(n));
        if template.is_some_and(|t| t.hidden == Hidden::Always) {
            return Some("was sent what must stay hidden".to_owned());
        }
    }
    match seen.body {
        Some(body) if seen.status == "200" && record.reason.is_none() && body != record.body_in => {
            Some(format!("read a body of {body}"))
        }
        _ => None,
    }
}

/// Whether a target is sent on just as it came, and logged whole.
fn is_plain(path: &str) -> bool {
    let canonical =
        !path.contains(['%', '\\', '\u{fffd}']) && !path.contains("/.") && !path.contains("//");
    path.starts_with('/') && canonical && path.len() < 4000
}

/// The number whose token is in `target`, for the report.
fn number_in(evidence: &Evidence<'_>, target: &str) -> usize {
    let numbers = evidence.first..evidence.first + evidence.templates.len();
    (0..target.len().saturating_sub(7))
        .filter_map(|at| usize::from_str_radix(target.get(at..at + 8)?, 16).ok())
        .find(|n| numbers.contains(n) && target.contains(&token(*n)))
        .unwrap_or(usize::MAX)
}

fn brief(records: &[&Record]) -> String {
    let one = |r: &&Record| {
        format!(
            "{} {} -> {} ({})",
            r.method,
            shown(r.path.as_bytes()),
            r.status,
            r.reason.as_deref().unwrap_or("-")
        )
    };
    records.iter().take(6).map(one).collect::<Vec<_>>().join(" | ")
}
