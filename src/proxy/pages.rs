//! Answers of rules that are made of the request or lie in a file, error pages in place of the usual problem, and what rules change
//! in the fields of answers of ringgate's own.
//!
//! Called by `exchange` for rules that answer so, and by `reply`.

use crate::http::{Fault, Method, write};
use crate::proxy::policies::Chains;
use crate::proxy::{Exchange, coding, facts, reply, upgrade};
use crate::snapshot::page::{Body, Page};
use crate::transform::page::{Content, ErrorPage};
use crate::transform::{Facts, Place};
use std::rc::Rc;

/// Sends the answer of a rule or a listener that is not always the same.
///
/// # Errors
/// As [`reply::fixed`].
pub async fn answer(x: &mut Exchange<'_>, page: &Page) -> Result<(), Fault> {
    if upgrade::is_connect(x) && matches!(page.status, 200..300) {
        return Err(Fault::UpgradeRefused);
    }
    let tag = match &page.body {
        Body::File { tag, .. } => tag.as_deref(),
        Body::Made(..) => None,
    };
    let status = match tag {
        Some(tag) if is_known(x, tag) => 304,
        _ => page.status,
    };
    let mut out = reply::begin(x, status);
    let chains = Chains::of(x);
    let mut field = |name: &str, value: &[u8]| {
        if !chains.replace(name.as_bytes()) && !value.is_empty() {
            write::built_field(&mut out, name.as_bytes(), value);
        }
    };
    if let Some(kind) = page.kind.as_deref().filter(|_| status != 304) {
        field("content-type", kind.as_bytes());
    }
    if let Some(tag) = tag {
        field("etag", tag.as_bytes());
    }
    let made = facts::with(x, |facts| {
        let facts = Facts { status, ..*facts };
        for (name, value) in &page.headers {
            field(name, value.text(&facts, Place::Field).trim_ascii());
        }
        match &page.body {
            Body::Made(template, place) => template.text(&facts, *place),
            Body::File { .. } => Vec::new(),
        }
    });
    if let (304, Body::File { octets, .. }) = (status, &page.body) {
        let kind = page.kind.as_deref().unwrap_or_default();
        coding::own_not_modified(x, kind, octets.len(), &mut out);
    }
    match &page.body {
        Body::Made(..) => reply::send(x, out, status, &made).await,
        Body::File { octets, .. } => reply::send(x, out, status, octets).await,
    }
}

// Whether the client has what it asks for (RFC 9110 section 13.1.2).
fn is_known(x: &Exchange<'_>, tag: &str) -> bool {
    if !matches!(x.scratch.request.method, Method::Get | Method::Head) {
        return false;
    }
    let lines = x.view().fields.all("if-none-match");
    lines
        .flat_map(|line| line.split(|b| *b == b','))
        .map(<[u8]>::trim_ascii)
        .any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes())
}

/// The page that a client is told a fault with instead of the usual problem: its status, its type and its body.
pub fn of_fault(x: &Exchange<'_>, fault: Fault, status: u16) -> Option<(u16, String, Vec<u8>)> {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let pages = rule.and_then(|rule| rule.traffic.response.as_ref());
    let pages = pages.map_or(&[][..], |settings| &settings.errors);
    let page = ErrorPage::find(pages, status, true)
        .or_else(|| ErrorPage::find(&x.listener.errors, status, true))?;
    let status = page.status_to.unwrap_or(status);
    let found = x.scratch.findings.detail.as_str();
    let detail = if found.is_empty() { fault.sentence() } else { found };
    let body = facts::with(x, |facts| {
        page.content.text(&Facts { status, reason: fault.code(), detail, ..*facts })
    });
    let Content { kind, .. } = &page.content;
    Some((status, kind.clone(), body))
}

/// Changes the fields of an answer of ringgate's own, whose head so far is `out`, as its rule says.
pub fn dress(x: &Exchange<'_>, status: u16, out: &mut Vec<u8>) {
    let epoch = Rc::clone(x.epoch);
    let rule = x.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
    let Some(settings) = rule.and_then(|rule| rule.traffic.response.as_deref()) else { return };
    if settings.headers.is_empty() {
        return;
    }
    let start = memchr::memchr(b'\n', out).map_or(out.len(), |end| end + 1);
    let mut lines = out.split_off(start);
    facts::with(x, |facts| settings.headers.rewrite(&Facts { status, ..*facts }, &mut lines));
    out.append(&mut lines);
}
