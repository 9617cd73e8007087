//! The answers that ringgate makes itself: fixed, redirects, `OPTIONS` at its last hop, and faults.
//!
//! After a local answer the connection goes on only when the request's body is here whole and is taken off it;
//! otherwise it closes, so that no body can be read as a request (hazard H1-18).

use crate::http::grpc::{self, Call};
use crate::http::problem::{self, Media};
use crate::http::{Fault, Method, write};
use crate::proxy::policies::Chains;
use crate::proxy::receive::{connection_field, hsts, whole};
use crate::proxy::{Exchange, coding, facts, pages, policies, upgrade};
use crate::snapshot::FixedResponse;
use crate::snapshot::redirect::RedirectTemplate;

/// Sends a fixed answer.
///
/// # Errors
/// [`Fault::ClientGone`], [`Fault::WriteTimeout`].
pub async fn fixed(x: &mut Exchange<'_>, fixed: &FixedResponse) -> Result<(), Fault> {
    answer(x, fixed, Chains::default()).await
}

/// Sends the answer of a rule or a listener: what policies say of a field goes before it, as it goes before a target's.
///
/// # Errors
/// As [`fixed`].
pub async fn configured(x: &mut Exchange<'_>, fixed: &FixedResponse) -> Result<(), Fault> {
    let chains = Chains::of(x);
    answer(x, fixed, chains).await
}

async fn answer(
    x: &mut Exchange<'_>,
    fixed: &FixedResponse,
    chains: Chains<'_>,
) -> Result<(), Fault> {
    if upgrade::is_connect(x) && matches!(fixed.status, 200..300) {
        return Err(Fault::UpgradeRefused);
    }
    let mut out = begin(x, fixed.status);
    for line in fixed.fields.split_inclusive(|b| *b == b'\n') {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        if !chains.replace(name) {
            out.extend_from_slice(line);
        }
    }
    send(x, out, fixed.status, &fixed.body).await
}

/// Sends the client elsewhere.
///
/// # Errors
/// As [`fixed`]; [`Fault::UnfitValue`] when no location can be made of the request.
pub async fn redirect(x: &mut Exchange<'_>, template: &RedirectTemplate) -> Result<(), Fault> {
    let mut location = Vec::new();
    let made = facts::with(x, |facts| template.location(facts, &mut location));
    made.map_err(|_| Fault::UnfitValue)?;
    let mut out = begin(x, template.status);
    if !write::built_field(&mut out, b"location", &location) {
        return Err(Fault::Internal);
    }
    send(x, out, template.status, b"").await
}

/// Answers `OPTIONS` with `Max-Forwards: 0` as the last recipient (RFC 9110 section 7.6.2).
///
/// # Errors
/// As [`fixed`].
pub async fn options(x: &mut Exchange<'_>) -> Result<(), Fault> {
    let mut out = begin(x, 200);
    write::field(&mut out, b"allow", ALLOW);
    send(x, out, 200, b"").await
}

const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Explains a fault to the client. A client that is gone by now is not told.
pub async fn own(x: &mut Exchange<'_>, fault: Fault) {
    if x.scratch.trace.call != Call::No {
        return own_to_call(x, fault).await;
    }
    let media = Media::preferred(x.view().fields);
    let epoch = std::rc::Rc::clone(x.epoch);
    let (status, told) = policies::answer_of(&epoch.snapshot, x.scratch.trace.policy, fault);
    let status = x.scratch.trace.told.unwrap_or(status);
    let page = if told.is_none() { pages::of_fault(x, fault, status) } else { None };
    let status = page.as_ref().map_or(status, |(status, ..)| *status);
    let mut body = Vec::new();
    let mut out = begin(x, status);
    match (told, page) {
        (Some(told), _) => {
            out.extend_from_slice(&told.fields);
            body.extend_from_slice(&told.body);
        }
        (None, Some((_, kind, page))) => {
            write::built_field(&mut out, b"content-type", kind.as_bytes());
            body = page;
        }
        (None, None) => {
            let detail = Some(x.scratch.findings.detail.as_str()).filter(|d| !d.is_empty());
            problem::body(&mut body, (fault, status), detail, &x.scratch.request_id, media);
            write::field(&mut out, b"content-type", media.name().as_bytes());
        }
    }
    write::field(&mut out, b"x-ringgate-reason", fault.code().as_bytes());
    write::field(&mut out, b"cache-control", b"no-store");
    write::field(&mut out, b"x-request-id", &x.scratch.request_id);
    if fault == Fault::MethodRefused {
        write::field(&mut out, b"allow", ALLOW);
    }
    // A policy that refuses knows better when to come again.
    if status == 503 && !write::has_field(&x.scratch.findings.response, b"retry-after") {
        write::field(&mut out, b"retry-after", b"1");
    }
    let sent = send(x, out, status, &body).await;
    if sent.is_err() {
        x.keep = false;
    }
}

// A call has its own way of being told: 200, and what failed in fields that end the response with its head.
async fn own_to_call(x: &mut Exchange<'_>, fault: Fault) {
    let (call, status) = (x.scratch.trace.call, grpc::status_of(fault));
    let kind = x.view().fields.first("content-type").unwrap_or_default().to_vec();
    let mut out = begin(x, 200);
    grpc::trailers_only(&mut out, call, &kind, status, fault.sentence());
    write::field(&mut out, b"x-ringgate-reason", fault.code().as_bytes());
    write::field(&mut out, b"x-request-id", &x.scratch.request_id);
    x.scratch.trace.grpc_status = Some(status);
    if send(x, out, 200, &[]).await.is_err() {
        x.keep = false;
    }
}

/// Begins the head of an answer.
pub(super) fn begin(x: &mut Exchange<'_>, status: u16) -> Vec<u8> {
    x.keep &= x.body_is_here();
    let mut out = std::mem::take(&mut x.scratch.reply);
    out.clear();
    write::status_line(&mut out, status, write::phrase(status).as_bytes());
    x.shard.with_date(|date| write::field(&mut out, b"date", date));
    out
}

/// Ends the head of an answer, and sends it with its body where it has one.
pub(super) async fn send(
    x: &mut Exchange<'_>,
    mut out: Vec<u8>,
    status: u16,
    body: &[u8],
) -> Result<(), Fault> {
    pages::dress(x, status, &mut out);
    let coded = if coding::is_worth(x, body.len()) {
        // Rare, and large: kept out of the future of every other request.
        Box::pin(coding::own(x, status, &mut out, body)).await
    } else {
        None
    };
    let body = coded.as_deref().unwrap_or(body);
    // RFC 9110 section 8.6: no Content-Length with 204; 304 would carry that of the representation.
    if !matches!(status, 204 | 304) {
        write::content_length(&mut out, body.len() as u64);
    }
    out.extend_from_slice(&x.scratch.findings.response);
    Chains::of(x).defaults(&mut out);
    hsts(x.listener, &mut out);
    connection_field(x, &mut out);
    out.extend_from_slice(b"\r\n");
    let silent = x.scratch.request.method == Method::Head || matches!(status, 204 | 304);
    let body = if silent { &[] } else { body };
    x.scratch.trace.status = status;
    x.scratch.trace.body_out = body.len() as u64;
    x.scratch.trace.bytes_out += (out.len() + body.len()) as u64;
    let floor = x.epoch.snapshot.limits.min_rate;
    let sent = whole(&x.client.sock, &mut out, body, x.listener.body, floor).await;
    out.clear();
    x.scratch.reply = out;
    sent
}
