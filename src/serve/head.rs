//! Reads one request head from a client's connection: in pieces if need be, judged, mended where the listener allows that.
//!
//! A head that arrives in pieces is kept in just as many octets as have come. Nothing is answered here. Called by `h1`.

use crate::http::desync::{self, Mode};
use crate::http::request::is_token_octet;
use crate::http::scan::{Scan, SectionLimits};
use crate::http::{Fault, Method, Version};
use crate::net::Buf;
use crate::proxy::Client;
use crate::shard::{Epoch, Scratch, Shard};
use crate::snapshot::Listener;
use std::io;
use std::rc::Rc;

// Empty lines before a request line that are passed over (RFC 9112 section 2.2 asks for at least one).
const EMPTY_LINES: u8 = 2;
// A head in pieces larger than this keeps its block rather than be copied out of it at every wait.
const STASH: usize = 4 << 10;

/// Why no request came.
pub enum Ended {
    /// The client is done, or idle for too long, or gone.
    Quietly,
    /// What came is no request.
    With(Fault),
}

/// Reads a head into the front of `buf` and parses it into `scratch`. So many empty lines were passed over before.
///
/// # Errors
/// Why there is none; `scratch.request.deviation` says more where framing was the matter.
pub async fn read(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    client: &Client,
    mut buf: Buf,
    mut empty_lines: u8,
    scratch: &mut Scratch,
) -> Result<Buf, Ended> {
    let mut limits = epoch.snapshot.head_limits();
    limits.bare_lf = listener.desync != Mode::Strict;
    let mut scan = Scan::default();
    scratch.request.deviation = None;
    scratch.request.method = Method::Get;
    loop {
        empty_lines = pass_over_empty_lines(&mut buf, empty_lines);
        if !is_nothing(buf.filled()) {
            refuse_early(buf.filled())?;
            let found = scan.find_end(buf.filled(), &limits).map_err(|fault| {
                if fault == Fault::BareLf {
                    scratch.request.deviation = Some(desync::Reason::NonCrLfLineTermination);
                }
                note_method(buf.filled(), scratch);
                Ended::With(fault)
            })?;
            if let Some(len) = found {
                let head = buf.filled().get(..len).unwrap_or_default();
                if limits.bare_lf && has_bare_lf(head) {
                    return mend(shard, epoch, listener, buf, len, Fault::BareLf, scratch);
                }
                return match scratch.request.parse(head, epoch.snapshot.paths) {
                    Ok(()) => {
                        note_deviation(listener, scratch);
                        Ok(buf)
                    }
                    Err(fault) => mend(shard, epoch, listener, buf, len, fault, scratch),
                };
            }
        }
        // In case that there is never more.
        note_method(buf.filled(), scratch);
        if buf.spare().is_empty() && !buf.grow(limits.size) {
            return Err(Ended::With(Fault::HeadTooLarge));
        }
        buf = more(shard, client, buf).await?;
    }
}

/// Takes empty lines before a request line from the front of `buf`, beyond the `before` that were taken already. Returns how many
/// those are then.
pub fn pass_over_empty_lines(buf: &mut Buf, before: u8) -> u8 {
    let mut lines = before;
    while lines < EMPTY_LINES && buf.filled().starts_with(b"\r\n") {
        buf.consume(2);
        lines += 1;
    }
    lines
}

// Not even the beginning of a request line.
fn is_nothing(start: &[u8]) -> bool {
    matches!(start, [] | [b'\r'])
}

// RFC 9110 section 9.3.2: what answers HEAD has no content, also where the rest of the head cannot be read.
fn note_method(start: &[u8], scratch: &mut Scratch) {
    if start.starts_with(b"HEAD ") {
        scratch.request.method = Method::Head;
    }
}

#[inline]
fn note_deviation(listener: &Listener, scratch: &mut Scratch) {
    if let Some(reason) = scratch.request.deviation {
        scratch.request.closes = listener.desync.closes(reason.class());
    }
}

// httparse would take it without a word.
fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|lf| lf == 0 || head.get(lf - 1) != Some(&b'\r'))
}

// A head that the strict parser has refused: what it is called, and what else it may mean.
#[cold]
fn mend(
    shard: &Rc<Shard>,
    epoch: &Rc<Epoch>,
    listener: &Listener,
    buf: Buf,
    len: usize,
    fault: Fault,
    scratch: &mut Scratch,
) -> Result<Buf, Ended> {
    let (head, rest) = buf.filled().split_at(len.min(buf.len()));
    let judgement = desync::judge(head);
    let (reason, class) = (judgement.reason, judgement.class());
    scratch.request.deviation = reason;
    note_method(head, scratch);
    let Some(mended) = judgement.mended.filter(|_| listener.desync.lets_pass(class)) else {
        return Err(Ended::With(fault));
    };
    let limits = epoch.snapshot.head_limits();
    let parsed = Scan::default()
        .find_end(
            &mended,
            &SectionLimits { size: limits.size * 4, line: limits.line * 4, ..limits },
        )
        .and_then(|_| scratch.request.parse(&mended, epoch.snapshot.paths));
    let further = scratch.request.deviation;
    scratch.request.deviation = reason.or(further);
    parsed.map_err(|fault| {
        note_method(head, scratch);
        Ended::With(fault)
    })?;
    scratch.request.closes = listener.desync.closes(class);
    if judgement.spoke_http10 {
        // RFC 9112 section 6.1: such a message is the last on its connection.
        scratch.request.version = Version::Http10;
        scratch.request.keep_alive = false;
    }
    let mut anew = shard.buffers.small();
    let size = mended.len() + rest.len();
    while anew.capacity() < size && anew.grow(size) {}
    anew.append(&mended);
    anew.append(rest);
    Ok(anew)
}

// What cannot become a request is not waited for: an empty line too many, a TLS hello, garbage.
fn refuse_early(start: &[u8]) -> Result<(), Ended> {
    match start.first() {
        Some(b) if is_token_octet(*b) => Ok(()),
        Some(b'\n') => Err(Ended::With(Fault::BareLf)),
        _ => Err(Ended::With(Fault::RequestLine)),
    }
}

async fn more(shard: &Rc<Shard>, client: &Client, mut buf: Buf) -> Result<Buf, Ended> {
    loop {
        match client.sock.try_read(buf.spare()) {
            Ok(0) if is_nothing(buf.filled()) => return Err(Ended::Quietly),
            // Half a request, and no more to come.
            Ok(0) => return Err(Ended::With(Fault::RequestLine)),
            Ok(n) => {
                buf.fill(n);
                return Ok(buf);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let waited = if buf.len() <= STASH {
                    let stash = buf.filled().to_vec();
                    drop(buf);
                    let waited = client.sock.readable().await;
                    buf = shard.buffers.small();
                    buf.append(&stash);
                    waited
                } else {
                    client.sock.readable().await
                };
                match waited {
                    Ok(()) => {}
                    // Nothing was asked that could be answered; an answer would be taken for the next request's.
                    Err(_) if is_nothing(buf.filled()) => return Err(Ended::Quietly),
                    Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                        return Err(Ended::With(Fault::HeaderTimeout));
                    }
                    Err(_) => return Err(Ended::Quietly),
                }
            }
            Err(_) => return Err(Ended::Quietly),
        }
    }
}
