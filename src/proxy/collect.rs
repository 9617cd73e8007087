//! Collects a request's body for policies that must see it whole.
//!
//! It is put behind the head, where a short body lies anyway, and the request becomes one of that length: whoever comes after
//! (another attempt, an own answer, the next request of the connection) need not know. Trailer fields are checked and
//! left out, since a body of a known length has none. Patience and pace are those of a body that is sent on. Called by
//! `policies`.

use crate::base::Tick;
use crate::http::{Fault, Framing, Span};
use crate::net::sock::to_the_end_of_the_queue;
use crate::net::{Buf, Side};
use crate::proxy::body::{Broken, PIECES, Reader, Relay, State, TURN, Writer};
use crate::proxy::pace::Pace;
use crate::proxy::trailers::{Barred, filtered};
use crate::proxy::{Exchange, receive};

/// Reads the rest of the request's body, if it may have up to `limit` octets: then [`Exchange::body_here`] is all of it. A client
/// that waits for 100 is sent it.
///
/// # Errors
/// [`Fault::BodyTooLarge`], also where the rule allows less than `limit`; what goes wrong with any body that is read; and
/// [`Fault::Shed`] when the machine has no memory to spare. The body is then not here, so that the connection ends with the
/// answer.
pub async fn body(x: &mut Exchange<'_>, limit: u64) -> Result<(), Fault> {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let allowed = rule.map_or(x.epoch.snapshot.limits.body, |rule| rule.body_limit);
    let limit = allowed.map_or(limit, |allowed| allowed.min(limit));
    if let Framing::Length(length) = x.scratch.request.framing
        && length > limit
    {
        return Err(Fault::BodyTooLarge);
    }
    if !x.body_is_here() {
        // Rare and large: kept out of the future of every other request.
        Box::pin(collect(x, limit)).await?;
    }
    let octets = x.body_here().len() as u64;
    x.scratch.trace.count_body(octets);
    Ok(())
}

async fn collect(x: &mut Exchange<'_>, limit: u64) -> Result<(), Fault> {
    if x.shard.buffers.is_short() {
        return Err(Fault::Shed);
    }
    let head = x.scratch.request.len;
    if x.scratch.request.expects_continue && x.buf.len() <= head {
        receive::interim(x, b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let sock = &x.client.sock;
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let stall = rule.and_then(|rule| rule.body).unwrap_or(x.listener.body);
    let source = Relay {
        shard: x.shard,
        from: sock,
        // Nothing is written.
        to: sock,
        pace: Pace::new(stall, x.epoch.snapshot.limits.min_rate),
        client: Side::Read,
        limit: Some(limit),
        writer: Writer::Plain,
        stop_at_end: true,
        began: false.into(),
        stages: None,
        quiet: None,
        barred: Barred::default(),
    };
    let mut arriving = x.shard.buffers.none();
    let arrived = x.buf.filled().get(head..).unwrap_or_default();
    arriving.reserve(arrived.len());
    arriving.append(arrived);
    x.buf.truncate(head);
    let mut reader = Reader::on(sock, x.scratch.request.framing);
    let gathered = gather(&source, &mut arriving, &mut reader, x.buf).await;
    sock.arm(Side::Read, Tick::NEVER);
    x.scratch.trace.bytes_in += reader.total;
    x.scratch.trace.body_counted = true;
    gathered.map_err(|gap| match gap {
        Gap::Broken(broken) => broken.of_request(),
        Gap::NoMemory => Fault::Shed,
    })?;
    let follows = arriving.filled();
    x.buf.reserve(follows.len());
    x.buf.append(follows);
    x.scratch.request.framing = Framing::Length(reader.total);
    Ok(())
}

/// Why a body was not gathered.
pub(super) enum Gap {
    Broken(Broken),
    NoMemory,
}

impl From<Broken> for Gap {
    fn from(broken: Broken) -> Gap {
        Gap::Broken(broken)
    }
}

/// Puts a body of which `buf` holds the beginning behind what is in `into`. Afterwards `buf` holds what follows the body.
pub(super) async fn gather(
    source: &Relay<'_>,
    buf: &mut Buf,
    reader: &mut Reader,
    into: &mut Buf,
) -> Result<(), Gap> {
    let mut in_a_row = 0;
    loop {
        let mut spans = [Span::default(); PIECES];
        let (taken, count) = reader.take(buf.filled(), &mut spans)?;
        if source.limit.is_some_and(|limit| reader.total > limit) {
            return Err(Gap::Broken(Broken::TooLarge));
        }
        for span in spans.get(..count).unwrap_or_default() {
            if !append(source, span.of(buf.filled()), into) {
                return Err(Gap::NoMemory);
            }
        }
        let everything_taken = taken == buf.len();
        buf.consume(taken);
        in_a_row += taken;
        if in_a_row >= TURN {
            in_a_row = 0;
            to_the_end_of_the_queue().await;
        }
        match &mut reader.state {
            State::Done => return Ok(()),
            State::Trailers(scan) => {
                let mut scan = *scan;
                let len = source.section(buf, &mut scan, reader.total).await?;
                filtered(buf.filled().get(..len).unwrap_or_default(), false, source.barred)?;
                buf.consume(len);
                reader.state = State::Done;
                return Ok(());
            }
            // More pieces than are taken at once are still here.
            State::Chunks(_) if !everything_taken => {}
            _ => {
                if source.fill(buf, reader).await? {
                    reader.state = State::Done;
                    let trailers = source.from.stream().map(|stream| stream.take_trailers());
                    return match trailers {
                        Some(Err(_)) => Err(Gap::Broken(Broken::BadTrailers)),
                        _ => Ok(()),
                    };
                }
            }
        }
    }
}

// Room is made in blocks twice as large: of each octet few copies are made, and what a client has not sent takes little.
// False where the machine's memory is used up.
fn append(source: &Relay<'_>, octets: &[u8], into: &mut Buf) -> bool {
    if into.spare().len() < octets.len() {
        if source.shard.buffers.is_short() {
            return false;
        }
        into.reserve(octets.len().max(into.len()));
    }
    into.append(octets) == octets.len()
}
