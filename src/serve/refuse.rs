//! Answers what could not be read, once, and makes sure that the answer arrives before the connection closes.

use crate::base::Tick;
use crate::http::problem::{self, Media};
use crate::http::{Fault, Fields, Method, RequestView, write};
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side, Sock};
use crate::proxy::Client;
use crate::proxy::finish::{self, Unread};
use crate::proxy::receive::{hsts, whole};
use crate::shard::{Epoch, Scratch, Shard};
use crate::snapshot::Listener;
use crate::transform::Facts;
use crate::transform::page::ErrorPage;
use std::rc::Rc;
use std::time::Duration;

// After an answer that ends a connection: what is still read and thrown away, and for how long, so that the answer is
// not lost to a reset. A client that sends on has, when it sees the answer, what two kernels hold under way.
const LINGER_OCTETS: usize = 8 << 20;
// Octets after which other connections get their turn.
const LINGER_TURN: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// Tells the client what is wrong with its request; counts and logs it.
pub async fn refuse(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    client: &Client,
    scratch: &mut Scratch,
    began: Tick,
    fault: Fault,
) {
    let mut id = std::mem::take(&mut scratch.request_id);
    id.clear();
    let random = shard.with_rng(|rng| rng.u128(..));
    id.extend_from_slice(format!("{random:032x}").as_bytes());
    let (status, kind, body) = told(listener, client, fault, &id);
    let mut out = std::mem::take(&mut scratch.reply);
    out.clear();
    write::status_line(&mut out, status, write::phrase(status).as_bytes());
    shard.with_date(|date| write::field(&mut out, b"date", date));
    write::built_field(&mut out, b"content-type", kind.as_bytes());
    write::field(&mut out, b"x-ringgate-reason", fault.code().as_bytes());
    write::field(&mut out, b"x-request-id", &id);
    if fault == Fault::MethodRefused {
        write::field(&mut out, b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
    }
    hsts(listener, &mut out);
    write::content_length(&mut out, body.len() as u64);
    out.extend_from_slice(b"connection: close\r\n\r\n");
    let body = if scratch.request.method == Method::Head { &[] } else { body.as_slice() };
    let bytes_out = (out.len() + body.len()) as u64;
    let floor = epoch.snapshot.limits.min_rate;
    let sent = whole(&client.sock, &mut out, body, listener.body, floor).await;
    finish::unread(
        shard,
        &Unread {
            listener,
            peer: client.peer,
            began,
            fault,
            deviation: scratch.request.deviation,
            status: if sent.is_ok() { status } else { 0 },
            bytes_in: scratch.request.len as u64,
            bytes_out,
            request_id: &id,
            generation: epoch.snapshot.generation,
        },
    );
    out.clear();
    (scratch.reply, scratch.request_id) = (out, id);
    if sent.is_ok() && client.sock.stream().is_none() {
        linger(&client.sock, &mut shard.buffers.small()).await;
    }
}

// The status, the type and the body of the answer: the listener's page, or the usual problem.
fn told<'l>(
    listener: &'l Listener,
    client: &Client,
    fault: Fault,
    id: &[u8],
) -> (u16, &'l str, Vec<u8>) {
    let (status, fields) = (fault.status(), Fields::new(&[], &[]));
    if let Some(page) = ErrorPage::find(&listener.errors, status, true) {
        let status = page.status_to.unwrap_or(status);
        // Nothing of the request is known.
        let peer = client.peer.ip().to_canonical();
        let view = RequestView { method: b"", host: b"", path: b"", query: None, fields, peer };
        let (reason, detail) = (fault.code(), fault.sentence());
        let facts = Facts { request_id: id, status, reason, detail, ..Facts::of(view) };
        let facts = Facts { scheme: client.scheme(), port: client.port, ..facts };
        return (status, &page.content.kind, page.content.text(&facts));
    }
    let media = Media::preferred(fields);
    let mut body = Vec::new();
    problem::body(&mut body, (fault, status), None, id, media);
    (status, media.name(), body)
}

/// Reads on for a moment: a close while octets are unread would be a reset, and could overtake the answer
/// (RFC 9112 section 9.6).
pub async fn linger(sock: &Sock, buf: &mut Buf) {
    sock.finish_writing();
    sock.arm(Side::Read, Tick::now().after(LINGER_TIME));
    let (mut octets, mut in_a_row) = (0, 0);
    while octets < LINGER_OCTETS {
        buf.consume(buf.len());
        match sock.read(buf.spare()).await {
            Ok(n) if n > 0 => (octets, in_a_row) = (octets + n, in_a_row + n),
            _ => return,
        }
        if in_a_row >= LINGER_TURN {
            in_a_row = 0;
            to_the_end_of_the_queue().await;
        }
    }
}
