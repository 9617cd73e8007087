//! Which content codings are taken off a response's body and put on it, and what of its head changes with that.
//!
//! Decided in `transform::compress`. A response that is coded here is another representation of its target's: its entity tag becomes
//! a weak one (RFC 9110 section 8.8.1), parts of it cannot be asked for, digests of it are void, and caches are told that it depends
//! on `Accept-Encoding`, also where this client gets it as it is. What clients send back is made to fit: weak tags in
//! `If-None-Match` match as they are (section 13.1.2), those in `If-Match` get the target's beside them. A request for a part gets
//! that part, not coded. Called by `shape` and `dress` for responses, by `reply` and `pages` for own answers, by `staged` and
//! `change` for requests, by `aggregate` and `mirror` for what they read themselves.

use crate::http::grpc::Call;
use crate::http::{Framing, Method, write};
use crate::net::Buffers;
use crate::net::sock::to_the_end_of_the_queue;
use crate::proxy::Exchange;
use crate::shard::coders::{Decoding, Encoding};
use crate::transform::compress::decode::memory;
use crate::transform::compress::{
    Accepted, Choice, Coding, Decoder, Facts, Flaw, Limit, Settings, codings, facts,
};
use std::rc::Rc;

/// What holds for the exchange: what its rule says, or its listener where that says nothing.
#[inline]
pub fn settings<'a>(x: &Exchange<'a>) -> Option<&'a Settings> {
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    match rule.map(|rule| &rule.traffic.compress) {
        None | Some(Choice::Listeners) => x.listener.compress.as_deref(),
        Some(Choice::Off) => None,
        Some(Choice::On(settings)) => Some(settings),
    }
}

/// Makes a request fit what its target knows, before it is sent on.
pub fn request(x: &mut Exchange<'_>) {
    let Some(settings) = settings(x) else { return };
    let strong = facts::strengthened(x.view().fields.all("if-match"));
    if settings.offload {
        ask_for_plain(x);
    }
    let sent = &mut x.scratch.sent;
    if let Some(strong) = strong {
        sent.any = true;
        sent.held.push(Box::from(&b"if-match"[..]));
        write::built_field(&mut sent.fields, b"if-match", &strong);
    }
}

/// Has a target asked for content without a coding, unless the rule sets what it is asked for: a request that says nothing of
/// codings takes any (RFC 9110 section 12.5.3).
pub fn ask_for_plain(x: &mut Exchange<'_>) {
    const NAME: &str = "accept-encoding";
    let rule = x.scratch.trace.rule.and_then(|at| x.epoch.snapshot.rules.get(at));
    let settings = rule.and_then(|rule| rule.traffic.request.as_deref());
    let given = settings.is_some_and(|s| s.headers.given().any(|name| name == NAME));
    let sent = &mut x.scratch.sent;
    sent.any = true;
    sent.held.push(NAME.as_bytes().into());
    if !given && !write::has_field(&sent.fields, NAME.as_bytes()) {
        write::field(&mut sent.fields, NAME.as_bytes(), b"identity");
    }
}

/// What a body that is here whole becomes without its codings, those of its head, in order. Whoever else has something to do goes
/// in between (hazard RT-15).
///
/// # Errors
/// What is wrong with it.
pub async fn decode_whole(
    buffers: &Rc<Buffers>,
    body: &[u8],
    codings: &[Coding],
    limit: Limit,
) -> Result<Vec<u8>, Flaw> {
    let _memory = buffers.charge(codings.iter().map(|coding| memory(*coding)).sum());
    let mut decoder = Decoder::new(codings, limit);
    let (mut out, mut rest) = (Vec::new(), body);
    while !rest.is_empty() || decoder.holds() {
        let taken = decoder.data(rest, &mut out)?;
        rest = rest.get(taken..).unwrap_or_default();
        to_the_end_of_the_queue().await;
    }
    decoder.end().map(|()| out)
}

/// What the content codings of the collected request body hold.
///
/// # Errors
/// What is wrong with them: not known or not as they should be, or more than `limit` octets in them.
pub async fn content(x: &Exchange<'_>, limit: u64) -> Result<Vec<u8>, Flaw> {
    let fields = x.view().fields;
    let codings = codings(fields.all("content-encoding")).ok_or(Flaw::Malformed)?;
    decode_whole(&x.shard.buffers, x.body_here(), &codings, Limit::of(limit)).await
}

/// What takes the codings off a response that its client does not take. `head` is what was parsed.
pub fn decode(x: &mut Exchange<'_>, head: &[u8]) -> Option<Box<Decoding>> {
    let settings = settings(x).filter(|settings| settings.decompress)?;
    let facts = facts_of(x, settings, head)?;
    let codings = facts.codings.as_deref().filter(|codings| !codings.is_empty())?;
    vary(x, &facts);
    let accepted = accepted(x);
    if codings.iter().all(|coding| accepted.takes(*coding)) {
        return None;
    }
    let limit = Limit::of(u64::MAX);
    let decoding = match x.scratch.response.framing {
        Framing::None => None,
        _ => Some(x.shard.coders.decoder(&x.shard.buffers, codings, limit)?),
    };
    remade(x, head);
    decoding.map(Box::new)
}

/// What puts a coding on a response. `head` is what was parsed.
pub fn encode(x: &mut Exchange<'_>, head: &[u8]) -> Option<Box<Encoding>> {
    let settings = settings(x)?;
    if x.scratch.response.status == 304 {
        not_modified(x, settings, head);
        return None;
    }
    let facts = facts_of(x, settings, head)?;
    if !is_plain(x, settings, &facts) || is_short(x, settings) {
        return None;
    }
    vary(x, &facts);
    let coding = accepted(x).choose(&settings.algorithms)?;
    let encoding = match x.scratch.response.framing {
        Framing::None => None,
        _ => {
            let level = settings.level.of(coding);
            Some(x.shard.coders.encoder(&x.shard.buffers, coding, level)?)
        }
    };
    remade(x, head);
    write::field(&mut x.scratch.added, b"content-encoding", coding.name().as_bytes());
    encoding.map(Box::new)
}

/// Whether an own answer with so many octets may be coded: [`own`] is asked then.
#[inline]
pub fn is_worth(x: &Exchange<'_>, octets: usize) -> bool {
    settings(x).is_some_and(|settings| octets as u64 >= settings.min_size)
}

/// What the body of an own answer becomes, whose head so far is `out`, and is completed; `None` where it stays as it is.
pub async fn own(
    x: &mut Exchange<'_>,
    status: u16,
    out: &mut Vec<u8>,
    body: &[u8],
) -> Option<Vec<u8>> {
    let settings = settings(x)?;
    let facts = judged(x, status, Facts::of(settings, lines(out)))?;
    if !is_plain(x, settings, &facts) {
        return None;
    }
    if !facts.varies {
        write::field(out, b"vary", b"accept-encoding");
    }
    let coding = accepted(x).choose(&settings.algorithms)?;
    let (coders, buffers) = (&x.shard.coders, &x.shard.buffers);
    let mut encoding = coders.encoder(buffers, coding, settings.level.of(coding))?;
    let mut coded = Vec::new();
    for turn in body.chunks(encoding.turn()) {
        encoding.data(turn, &mut coded).ok()?;
        if turn.len() == encoding.turn() {
            to_the_end_of_the_queue().await;
        }
    }
    encoding.end(&mut coded).ok()?;
    encoding.give_back();
    let head = std::mem::take(out);
    for line in head.split_inclusive(|b| *b == b'\n') {
        match lines(line).next() {
            Some((name, tag)) if name.eq_ignore_ascii_case(b"etag") && !facts::is_weak(tag) => {
                weak(out, tag);
            }
            Some((name, _)) if facts::is_void(name) => {}
            _ => out.extend_from_slice(line),
        }
    }
    write::field(out, b"content-encoding", coding.name().as_bytes());
    Some(coded)
}

/// Completes the head of an own 304, which so far is `out`, as [`own`] does that of the answer itself, which is of this type and so
/// many octets: it says what that would say (RFC 9110 section 15.4.5).
pub fn own_not_modified(x: &Exchange<'_>, kind: &str, octets: usize, out: &mut Vec<u8>) {
    let Some(settings) = settings(x).filter(|_| is_worth(x, octets)) else { return };
    let typed = [(&b"content-type"[..], kind.as_bytes())];
    let facts = judged(x, 200, Facts::of(settings, typed.into_iter().chain(lines(out))));
    let Some(facts) = facts.filter(|facts| is_plain(x, settings, facts)) else { return };
    if !facts.varies {
        write::field(out, b"vary", b"accept-encoding");
    }
    let coded = |tag: &[u8]| holds_weak(x, tag, accepted(x).choose(&settings.algorithms).is_some());
    let head = std::mem::take(out);
    for line in head.split_inclusive(|b| *b == b'\n') {
        match lines(line).next() {
            Some((name, tag))
                if name.eq_ignore_ascii_case(b"etag") && !facts::is_weak(tag) && coded(tag) =>
            {
                weak(out, tag);
            }
            _ => out.extend_from_slice(line),
        }
    }
}

// What is known of a response whose content could be coded anew; `None` for any other.
fn facts_of(x: &Exchange<'_>, settings: &Settings, head: &[u8]) -> Option<Facts> {
    let fields = x.scratch.response.fields.iter().map(|f| (f.name.of(head), f.value.of(head)));
    let facts = Facts::of(settings, fields.chain(lines(&x.scratch.added)));
    judged(x, x.scratch.response.status, facts)
}

fn judged(x: &Exchange<'_>, status: u16, facts: Facts) -> Option<Facts> {
    let is_call = x.scratch.trace.call != Call::No;
    if is_call || facts.fixed || !Facts::status(status) {
        return None;
    }
    let kept = |value: &[u8]| facts::has_member(value, &[b"no-transform"]);
    (!x.view().fields.all("cache-control").any(kept)).then_some(facts)
}

// Whether it is compressed for who takes it.
fn is_plain(x: &Exchange<'_>, settings: &Settings, facts: &Facts) -> bool {
    let plain = facts.codings.as_ref().is_some_and(Vec::is_empty);
    let shared = || !facts.cookies && !is_personal(x);
    plain && facts.covered && (settings.private || shared())
}

// Names and values of field lines.
fn lines(lines: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    lines.split(|b| *b == b'\n').filter_map(|line| {
        let at = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at(at);
        Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
    })
}

fn accepted(x: &Exchange<'_>) -> Accepted {
    Accepted::of(x.view().fields.all("accept-encoding"))
}

fn is_short(x: &Exchange<'_>, settings: &Settings) -> bool {
    let response = &x.scratch.response;
    match (response.framing, response.declared) {
        (Framing::Length(length), _) | (Framing::None, Some(length)) => length < settings.min_size,
        // What has no body though it could have one; but to HEAD that is said as to GET.
        (Framing::None, None) => x.scratch.request.method != Method::Head,
        (Framing::Chunked | Framing::Close, _) => false,
    }
}

// Whether the request says who sends it.
fn is_personal(x: &Exchange<'_>) -> bool {
    let fields = x.view().fields;
    fields.first("cookie").is_some() || fields.first("authorization").is_some()
}

fn vary(x: &mut Exchange<'_>, facts: &Facts) {
    if !facts.varies && !write::has_field(&x.scratch.added, b"vary") {
        write::field(&mut x.scratch.added, b"vary", b"accept-encoding");
    }
}

// The content becomes another: what its head says of it goes, and the entity tag is made a weak one.
fn remade(x: &mut Exchange<'_>, head: &[u8]) {
    let (response, added) = (&mut x.scratch.response, &mut x.scratch.added);
    response.fields.retain(|field| {
        let name = field.name.of(head);
        if name.eq_ignore_ascii_case(b"etag") && !facts::is_weak(field.value.of(head)) {
            weak(added, field.value.of(head));
            return false;
        }
        !facts::is_void(name)
    });
    if response.framing == Framing::None {
        // What GET would be sent has a length that nobody knows yet.
        response.declared = None;
    }
}

fn weak(out: &mut Vec<u8>, tag: &[u8]) {
    out.extend_from_slice(b"etag: W/");
    out.extend_from_slice(tag);
    out.extend_from_slice(b"\r\n");
}

// A 304 names the tag of what the client holds (RFC 9111 section 4.3.4): the weak one where that was coded. A client that has
// asked by date alone may hold either; a weak one is never wrong. Nothing says what a target's 200 would vary by, so that
// only a 304 that speaks of that is completed.
fn not_modified(x: &mut Exchange<'_>, settings: &Settings, head: &[u8]) {
    let fields = x.scratch.response.fields.iter().map(|f| (f.name.of(head), f.value.of(head)));
    let facts = Facts::of(settings, fields.clone());
    if fields.clone().any(|(name, _)| name.eq_ignore_ascii_case(b"vary")) {
        vary(x, &facts);
    }
    let coded = accepted(x).choose(&settings.algorithms).is_some();
    weaken(x, head, coded);
}

/// Makes the tag of a 304 a weak one where the client holds it as that, or says of no tag what it holds and `otherwise`. `head`
/// is what was parsed.
pub fn weaken(x: &mut Exchange<'_>, head: &[u8], otherwise: bool) {
    let fields = x.scratch.response.fields.iter();
    let mut tags = fields.filter(|f| f.name.of(head).eq_ignore_ascii_case(b"etag"));
    let tag = tags.next().map(|f| f.value.of(head)).filter(|tag| !facts::is_weak(tag));
    let Some(tag) = tag.filter(|tag| holds_weak(x, tag, otherwise)) else { return };
    weak(&mut x.scratch.added, tag);
    let response = &mut x.scratch.response;
    response.fields.retain(|field| !field.name.of(head).eq_ignore_ascii_case(b"etag"));
}

fn holds_weak(x: &Exchange<'_>, tag: &[u8], otherwise: bool) -> bool {
    let asked = x.view().fields;
    match asked.first("if-none-match") {
        Some(_) => asked.all("if-none-match").any(|list| facts::holds_weak(list, tag)),
        None => otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::lease::{Budget, Lease};
    use crate::transform::compress::Encoder;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// Hazard RT-15: others get their turn after each step, of which there are many where streams are short.
    #[test]
    fn a_whole_body_is_decoded_in_turns() {
        let mut stream = Vec::new();
        let mut encoder = Encoder::new(Coding::Gzip, 4).unwrap();
        encoder.data(&[b'a'; 2000], &mut stream).unwrap();
        encoder.end(&mut stream).unwrap();
        let buffers = Rc::new(Buffers::new(Lease::new(Budget::new(8), 1)));
        let body = stream.repeat(100);
        let mut decoding = pin!(decode_whole(&buffers, &body, &[Coding::Gzip], Limit::of(1 << 20)));
        let mut turns = 0;
        let decoded = loop {
            turns += 1;
            match decoding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => assert!(turns < 1000),
                Poll::Ready(decoded) => break decoded,
            }
        };
        assert_eq!(decoded.map(|octets| octets.len()), Ok(200_000));
        assert!(turns > 100, "{turns}");
    }
}
