//! One request over a stream of an HTTP/2 connection to a target: its head, its body, and then its response as any other.
//!
//! The head is rendered as for HTTP/1.1 and becomes fields here; the response's becomes lines and is judged by the same strict
//! parser (`receive`). A call of gRPC is given what gRPC needs, one of gRPC-Web becomes one of gRPC. What the target has
//! not begun to process may be sent again, whatever it is (RFC 9113 sections 6.8 and 8.7). Called by `forward`.

use crate::base::Tick;
use crate::config::TargetProtocol;
use crate::http::grpc::{self, Call};
use crate::http::grpc_web::Decoder;
use crate::http::{Fault, lines};
use crate::net::{Buf, Side, Sock};
use crate::proxy::body::Writer;
use crate::proxy::forward::{
    Answer, CONTINUE_WAIT, Failure, Sending, Terms, arrived, patience, until, upload,
};
use crate::proxy::load::Load;
use crate::proxy::receive::{self, Head};
use crate::proxy::recode::Recode;
use crate::proxy::stages::Stages;
use crate::proxy::{Exchange, upstream_head};
use crate::shard::TargetConn;
use crate::shard::channel::Channel;
use crate::shard::epoch::GroupCore;
use ::http::Request;
use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue, TE};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::time::Duration;

/// Sends the request over `channel`, and its response to the client.
///
/// # Errors
/// [`Failure::Unprocessed`] and [`Failure::Refused`] where another attempt is sound for any request, the others as of any attempt.
pub async fn attempt(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    conn: &TargetConn,
    channel: &Channel,
    terms: &Terms,
    load: &Load<'_>,
) -> Result<(), Failure> {
    let request = request(x, group, conn)?;
    let text = x.scratch.trace.call == Call::WebText && x.body_is_here();
    let decoded = if text { Some(decode(x.body_here()).map_err(Failure::Final)?) } else { None };
    let whole = x.body_is_here();
    let end = whole && decoded.as_deref().unwrap_or(x.body_here()).is_empty();
    let stream = channel.send(request, end).map_err(|error| failure(&error, Fault::TargetReset))?;
    let sock = Sock::of_target_stream(stream, x.client.sock.slot());
    let mut up = x.shard.buffers.none();
    let ended = if whole {
        send_whole(x, &sock, decoded.as_deref(), terms.body).await?;
        let now = Tick::now();
        x.scratch.trace.sent = Some(now);
        sock.arm(Side::Read, until(x, now.after(patience(x, group, terms))));
        match receive::head(x, &sock, &mut up).await {
            Ok(head) => {
                load.answered(x);
                receive::deliver(x, &sock, &mut up, head, terms.body).await.map_err(Failure::Final)
            }
            Err(failure) => Err(failure),
        }
    } else {
        Box::pin(stream_body(x, &sock, &mut up, patience(x, group, terms), terms)).await
    };
    if let Some(stream) = sock.stream()
        && let Some(status) = stream.grpc_status()
    {
        x.scratch.trace.grpc_status = Some(status);
    }
    ended.map(|_| ()).map_err(|failure| overdue(x, channel, failure))
}

/// Why an error of a stream ends an attempt; `otherwise` is what it means where nothing better is known.
pub fn failure(error: &h2::Error, otherwise: Fault) -> Failure {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if error.is_remote() && error.is_go_away() {
        return Failure::Unprocessed(otherwise);
    }
    if error.is_remote() && refused {
        return Failure::Refused(otherwise);
    }
    if error.is_library() || (!error.is_remote() && !error.is_io()) {
        return Failure::Final(Fault::TargetProtocol);
    }
    Failure::Dead(otherwise)
}

/// As [`failure`], for an error that came as one of a socket.
pub fn failure_of(error: &io::Error, otherwise: Fault) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<h2::Error>());
    inner.map_or(Failure::Dead(otherwise), |inner| failure(inner, otherwise))
}

fn overdue(x: &Exchange<'_>, channel: &Channel, failure: Failure) -> Failure {
    if failure != Failure::Final(Fault::ResponseTimeout) || x.client.sock.is_gone() {
        return failure;
    }
    if x.scratch.trace.deadline.is_none_or(|deadline| Tick::now() < deadline) {
        // A target that is gone says nothing either.
        channel.suspect();
    }
    failure
}

fn request(
    x: &mut Exchange<'_>,
    group: &GroupCore,
    conn: &TargetConn,
) -> Result<Request<()>, Failure> {
    let name = conn.target().live.name.as_bytes();
    // The path of a Unix socket is no authority.
    let host = if name.starts_with(b"unix:") { b"localhost" } else { name };
    upstream_head::render(x, host);
    let scheme = if group.group.protocol == TargetProtocol::H2 { "https" } else { "http" };
    let made = lines::request_of(&x.scratch.upstream, scheme);
    let mut request = made.ok_or(Failure::Final(Fault::Target))?;
    let fields = request.headers_mut();
    if waits_for_continue(x) {
        fields.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let trace = &x.scratch.trace;
    if trace.call == Call::No {
        return Ok(request);
    }
    if trace.call.is_web() {
        let like = fields.get(CONTENT_TYPE).map_or(&[] as &[u8], HeaderValue::as_bytes);
        let kind = HeaderValue::from_bytes(&Call::Grpc.media_type(like));
        fields.insert(CONTENT_TYPE, kind.map_err(|_| Failure::Final(Fault::FieldLine))?);
        fields.remove(X_GRPC_WEB);
        if trace.call == Call::WebText {
            fields.remove(CONTENT_LENGTH);
        }
    }
    fields.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(deadline) = trace.deadline {
        let left = deadline.since(Tick::now());
        if left.is_zero() {
            return Err(Failure::Final(Fault::DeadlineExceeded));
        }
        let value = HeaderValue::try_from(grpc::timeout_value(left));
        fields.insert(GRPC_TIMEOUT, value.map_err(|_| Failure::Final(Fault::Internal))?);
    }
    Ok(request)
}

const X_GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

fn decode(text: &[u8]) -> Result<Vec<u8>, Fault> {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    decoder.decode(text, &mut out).map_err(|_| Fault::GrpcWebText)?;
    if decoder.is_whole() { Ok(out) } else { Err(Fault::GrpcWebText) }
}

// The body when all of it is here; what is sent instead of it is `decoded`.
async fn send_whole(
    x: &mut Exchange<'_>,
    sock: &Sock,
    decoded: Option<&[u8]>,
    stall: Duration,
) -> Result<(), Failure> {
    let here = x.body_here();
    let octets = here.len() as u64;
    let mut body = decoded.unwrap_or(here);
    while !body.is_empty() {
        match sock.try_write_end(&[IoSlice::new(body)], true) {
            Ok(n) => body = body.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                match sock.wait_for_room(stall).await {
                    Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                        return Err(Failure::Final(Fault::BodyStalled));
                    }
                    // It reads no further; what it has to say about that is read next.
                    Err(_) => break,
                    Ok(()) => {}
                }
            }
            Err(_) => break,
        }
    }
    x.scratch.trace.count_body(octets);
    Ok(())
}

// A body that is still arriving: both directions at once, so that a target may answer early.
async fn stream_body(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    wait: Duration,
    terms: &Terms,
) -> Result<bool, Failure> {
    if waits_for_continue(x)
        && let Some(head) = await_continue(x, sock, up).await?
    {
        // The target has decided without the body: the client need not send it, and may have begun to.
        x.keep = false;
        return deliver(x, sock, up, head, terms).await;
    }
    let stages = Stages::of(Recode::of_request(x.scratch.trace.call)).map(RefCell::new);
    let sending = Sending { prefix: &[], writer: Writer::Stream, stages };
    let until = x.scratch.trace.deadline.unwrap_or(Tick::NEVER);
    upload(arrived(x), sending, Answer { x, sock, up, wait, until, terms }).await
}

// Whether the client sends its body only when the target wants it.
fn waits_for_continue(x: &Exchange<'_>) -> bool {
    x.scratch.request.expects_continue && !x.body_is_here() && x.buf.len() <= x.scratch.request.len
}

// Waits for the target to let the client go on. `Some` is a final response: the body is not wanted.
async fn await_continue(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
) -> Result<Option<Head>, Failure> {
    sock.arm(Side::Read, Tick::now().after(CONTINUE_WAIT));
    match receive::head_or_continue(x, sock, up).await {
        Err(Failure::Final(Fault::ResponseTimeout)) if !sock.is_cut() => {
            let sent = receive::interim(x, b"HTTP/1.1 100 Continue\r\n\r\n").await;
            sent.map(|()| None).map_err(Failure::Final)
        }
        ended => ended,
    }
}

async fn deliver(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    head: Head,
    terms: &Terms,
) -> Result<bool, Failure> {
    receive::deliver(x, sock, up, head, terms.body).await.map_err(Failure::Final)
}
