//! What rules change in targets' responses: another body, other JSON, another status, other fields, harder cookies.
//!
//! How it is changed is decided in `transform`. Interim responses, switches of protocol, calls of gRPC and responses without a body
//! keep what they have of one. Called by `shape`.

use crate::base::Tick;
use crate::http::grpc::Call;
use crate::http::{Fault, Fields, Framing, Method, Span, write};
use crate::net::{Buf, Side, Sock};
use crate::proxy::body::{Broken, PIECES, Reader, Relay, State, Writer};
use crate::proxy::collect::{Gap, gather};
use crate::proxy::pace::Pace;
use crate::proxy::policies::Chains;
use crate::proxy::trailers::Barred;
use crate::proxy::{Exchange, coding, facts};
use crate::shard::{Scratch, Unmapped};
use crate::snapshot::{Listener, Rule};
use crate::transform::compress::{self, Flaw, Limit};
use crate::transform::json::{self, JsonChanges};
use crate::transform::page::{
    Content, ErrorPage, holds, is_json, speaks_of_body, speaks_of_octets,
};
use crate::transform::{Facts, ResponseSettings, Template};
use std::rc::Rc;
use std::time::Duration;

// What is read of a body that was replaced, and for how long, so that its connection can be used again (hazard H1-18).
const DRAIN_OCTETS: u64 = 64 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(100);

/// Replaces or maps the body of the parsed response, whose head is the first `head` octets of `up`: it is behind the head then, with
/// its length. Whether what it became depends on the request.
///
/// # Errors
/// What goes wrong while it is collected; [`Fault::ResponseJson`] where it must be mapped and cannot be.
pub async fn body(
    x: &mut Exchange<'_>,
    sock: &Sock,
    up: &mut Buf,
    head: usize,
    stall: Duration,
) -> Result<bool, Fault> {
    let status = x.scratch.response.status;
    if x.scratch.trace.call != Call::No || matches!(status, 204 | 205) {
        return Ok(false);
    }
    let epoch = Rc::clone(x.epoch);
    let rule = x.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
    let settings = rule.and_then(|rule| rule.traffic.response.as_deref());
    if status == 304 {
        if settings.is_some_and(|settings| settings.json.is_some()) {
            // That of what the client holds, which was mapped (RFC 9110 section 15.4.5); a weak one is never wrong.
            coding::weaken(x, up.filled().get(..head).unwrap_or_default(), true);
        }
        return Ok(false);
    }
    let mut work = Work { sock, up, head, stall };
    let pages = settings.map_or(&[][..], |settings| &settings.errors);
    let page = ErrorPage::find(pages, status, false);
    let listener = epoch.snapshot.listener(x.listener.id);
    let page = page.or_else(|| ErrorPage::find(&listener?.errors, status, false));
    if let Some(page) = page {
        return work.replace(x, &page.content, page.status_to, 0).await;
    }
    let Some(settings) = settings else { return Ok(false) };
    if let Some((statuses, content)) = &settings.body
        && holds(statuses, status)
    {
        return work.replace(x, content, None, settings.limit).await;
    }
    match &settings.json {
        Some(changes) => work.map(x, changes, settings).await,
        None => Ok(false),
    }
}

/// Whether the body of the parsed response gives way to another, or may: then what passes is not what the target has said.
pub fn changes_body(x: &Exchange<'_>) -> bool {
    let snapshot = &x.epoch.snapshot;
    let rule = x.scratch.trace.rule.and_then(|at| snapshot.rules.get(at));
    let settings = rule.and_then(|rule| rule.traffic.response.as_deref());
    let status = x.scratch.response.status;
    let has_page = |pages: &[ErrorPage]| ErrorPage::find(pages, status, false).is_some();
    has_page(&x.listener.errors)
        || settings.is_some_and(|settings| {
            let replaced = settings.body.as_ref().is_some_and(|(of, _)| holds(of, status));
            replaced || settings.json.is_some() || has_page(&settings.errors)
        })
}

/// Whether a response of this status gets another body.
pub fn remakes(listener: &Listener, rule: &Rule, status: u16) -> bool {
    let settings = rule.traffic.response.as_deref();
    let pages = settings.map_or(&[][..], |settings| &settings.errors);
    let page = ErrorPage::find(pages, status, false);
    let page = page.or_else(|| ErrorPage::find(&listener.errors, status, false));
    page.is_some() || settings.is_some_and(remakes_all)
}

/// Whether a rule's responses get other bodies, errors aside.
pub fn remakes_all(settings: &ResponseSettings) -> bool {
    settings.body.is_some() || settings.json.is_some()
}

// A response whose body is worked on.
struct Work<'w> {
    sock: &'w Sock,
    up: &'w mut Buf,
    head: usize,
    stall: Duration,
}

impl Work<'_> {
    // Puts a body of the file's in place of the target's.
    async fn replace(
        &mut self,
        x: &mut Exchange<'_>,
        content: &Content,
        status: Option<u16>,
        limit: u64,
    ) -> Result<bool, Fault> {
        let section = self.up.filled().get(..self.head).unwrap_or_default().to_vec();
        let reads = content.template.reads_body()
            && x.scratch.response.framing != Framing::None
            && has_json(x.scratch.response.view(&section));
        let text = if reads { self.collect(x, limit).await? } else { None };
        // One that was too large to be read has been read in part: what is left of it is nothing to begin with.
        if text.is_none() && (reads || !self.drain(x).await) {
            x.scratch.response.keep_alive = false;
        }
        let decoded = match &text {
            Some(text) => plain(x, &section, text, limit).await.unwrap_or_default(),
            None => None,
        };
        let node = decoded.as_deref().or(text.as_deref()).and_then(|text| json::parse(text).ok());
        // A part of what was asked for is no part of what is sent.
        let before = x.scratch.response.status;
        let status = status.unwrap_or(if before == 206 { 200 } else { before });
        let body = facts::with(x, |facts| {
            let response = Some(x.scratch.response.view(&section));
            content.text(&Facts { status, response, body: node.as_ref(), ..*facts })
        });
        let Scratch { response, added, request, .. } = &mut *x.scratch;
        response.fields.retain(|field| !speaks_of_body(field.name.of(&section)));
        write::built_field(added, b"content-type", content.kind.as_bytes());
        if status != response.status {
            (response.status, response.reason) = (status, Span::default());
        }
        let silent = request.method == Method::Head;
        response.framing = if silent { Framing::None } else { Framing::Length(body.len() as u64) };
        response.declared = silent.then_some(body.len() as u64);
        self.put(x, &section, if silent { &[] } else { &body });
        Ok(!content.template.is_shareable())
    }

    // Changes a body of JSON.
    async fn map(
        &mut self,
        x: &mut Exchange<'_>,
        changes: &JsonChanges,
        settings: &ResponseSettings,
    ) -> Result<bool, Fault> {
        let section = self.up.filled().get(..self.head).unwrap_or_default().to_vec();
        let response = &x.scratch.response;
        let unfit = |x: &Exchange<'_>, why: Unmapped| {
            x.shard.pulse.unmapped.add(why);
            if settings.strict { Err(Fault::ResponseJson) } else { Ok(false) }
        };
        let silent = x.scratch.request.method == Method::Head;
        if !silent && matches!(response.framing, Framing::None | Framing::Length(0)) {
            return Ok(false);
        }
        let fits = has_json(response.view(&section)) && response.status != 206;
        let too_long =
            matches!(response.framing, Framing::Length(length) if length > settings.limit);
        if !fits || too_long {
            return unfit(x, if fits { Unmapped::TooLarge } else { Unmapped::MediaType });
        }
        if silent {
            // How long it would be is not known.
            self.undress(x, &section);
            x.scratch.response.declared = None;
            return Ok(true);
        }
        let Some(text) = self.collect(x, settings.limit).await? else {
            // What was taken off the connection cannot go on as it was.
            x.shard.pulse.unmapped.add(Unmapped::TooLarge);
            return Err(Fault::ResponseJson);
        };
        let content = plain(x, &section, &text, settings.limit).await;
        let mapped = facts::with(x, |facts| {
            let plain = content.as_ref().ok()?.as_deref().unwrap_or(&text);
            let (status, view) = (x.scratch.response.status, x.scratch.response.view(&section));
            let facts = Facts { status, response: Some(view), ..*facts };
            changes.apply(json::parse(plain).ok()?, &facts)
        });
        let Some(mapped) = mapped else {
            let kept = unfit(x, Unmapped::Malformed);
            x.scratch.response.framing = Framing::Length(text.len() as u64);
            self.put(x, &section, &text);
            return kept;
        };
        self.undress(x, &section);
        x.scratch.response.framing = Framing::Length(mapped.len() as u64);
        self.put(x, &section, &mapped);
        Ok(!changes.templates().all(Template::is_of_response))
    }

    // What a head says of octets that are others now: the entity tag is a weak one then (RFC 9110 section 8.8.1).
    fn undress(&self, x: &mut Exchange<'_>, section: &[u8]) {
        let Scratch { response, added, .. } = &mut *x.scratch;
        response.fields.retain(|field| {
            let name = field.name.of(section);
            let value = field.value.of(section);
            if name.eq_ignore_ascii_case(b"etag") && !value.starts_with(b"W/") {
                write::field(added, b"etag", &[b"W/", value].concat());
                return false;
            }
            !speaks_of_octets(name) && !name.eq_ignore_ascii_case(b"content-encoding")
        });
    }

    // The body, which is taken off the connection; `None` for one that is too large.
    async fn collect(
        &mut self,
        x: &mut Exchange<'_>,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if x.shard.buffers.is_short() {
            return Err(Fault::Shed);
        }
        self.up.consume(self.head);
        let source = Relay {
            shard: x.shard,
            from: self.sock,
            // Nothing is written.
            to: self.sock,
            pace: Pace::new(self.stall, None),
            client: Side::Read,
            limit: Some(limit),
            writer: Writer::Plain,
            stop_at_end: true,
            began: false.into(),
            stages: None,
            quiet: None,
            barred: Barred::default(),
        };
        let framing = x.scratch.response.framing;
        let mut reader = Reader::on(self.sock, framing);
        let mut body = x.shard.buffers.none();
        let gathered = gather(&source, self.up, &mut reader, &mut body).await;
        // What follows answers nothing that was asked.
        if framing == Framing::Close || !self.up.is_empty() || gathered.is_err() {
            x.scratch.response.keep_alive = false;
        }
        match gathered {
            Ok(()) => Ok(Some(body.filled().to_vec())),
            Err(Gap::NoMemory) => Err(Fault::Shed),
            Err(Gap::Broken(Broken::TooLarge)) => Ok(None),
            Err(Gap::Broken(broken)) => Err(broken.of_response()),
        }
    }

    // Takes a body off the connection that nobody reads; whether all of it came in time.
    async fn drain(&mut self, x: &Exchange<'_>) -> bool {
        let framing = x.scratch.response.framing;
        self.up.consume(self.head.min(self.up.len()));
        let mut reader = match framing {
            Framing::Close => return false,
            _ if self.sock.stream().is_some() => return false,
            framing => Reader::new(framing),
        };
        let deadline = Tick::now().after(DRAIN_TIME);
        loop {
            let mut spans = [Span::default(); PIECES];
            let Ok((taken, _)) = reader.take(self.up.filled(), &mut spans) else { return false };
            self.up.consume(taken);
            match reader.state {
                State::Done => return self.up.is_empty(),
                // Without fields, as nearly always.
                State::Trailers(_) if self.up.filled() == b"\r\n" => return true,
                State::Trailers(_) if self.up.len() >= 2 => return false,
                _ if reader.total > DRAIN_OCTETS => return false,
                _ if taken > 0 && !self.up.is_empty() => continue,
                _ => {}
            }
            if self.up.capacity() == 0 {
                *self.up = x.shard.buffers.small();
            }
            self.sock.arm(Side::Read, deadline);
            if self.sock.readable().await.is_err() {
                return false;
            }
            match self.sock.try_read(self.up.spare()) {
                Ok(0) => return false,
                Ok(n) => self.up.fill(n),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
    }

    fn put(&mut self, x: &Exchange<'_>, section: &[u8], body: &[u8]) {
        *self.up = x.shard.buffers.none();
        self.up.reserve(section.len() + body.len());
        self.up.append(section);
        self.up.append(body);
    }
}

// JSON, at least once its codings, which a target may use though it was asked not to, are taken off.
fn has_json(fields: Fields<'_>) -> bool {
    let known = compress::codings(fields.all("content-encoding")).is_some();
    known && fields.first("content-type").is_some_and(is_json)
}

// What the codings hold, where it is no more than may be read.
async fn plain(
    x: &Exchange<'_>,
    section: &[u8],
    body: &[u8],
    limit: u64,
) -> Result<Option<Vec<u8>>, Flaw> {
    let fields = x.scratch.response.view(section);
    match compress::codings(fields.all("content-encoding")).filter(|codings| !codings.is_empty()) {
        Some(codings) => {
            let limit = Limit::of(limit);
            coding::decode_whole(&x.shard.buffers, body, &codings, limit).await.map(Some)
        }
        None => Ok(None),
    }
}

/// Changes the status and the fields of the parsed response, whose head is `section`.
pub fn dress(x: &mut Exchange<'_>, section: &[u8]) {
    let epoch = Rc::clone(x.epoch);
    let rule = x.scratch.trace.rule.and_then(|at| epoch.snapshot.rules.get(at));
    let Some(settings) = rule.and_then(|rule| rule.traffic.response.as_deref()) else { return };
    let before = x.scratch.response.status;
    // Those speak of what the client asked, or has, rather than of what it gets.
    let fixed = matches!(before, 204 | 205 | 206 | 304) || x.scratch.trace.call != Call::No;
    let status = if fixed { before } else { settings.status_of(before) };
    if status != before {
        (x.scratch.response.status, x.scratch.response.reason) = (status, Span::default());
    }
    if settings.cookies.is_some() {
        cookies(x, settings, section);
    }
    if !settings.headers.is_empty() {
        fields(x, settings, section, status);
    }
}

fn cookies(x: &mut Exchange<'_>, settings: &ResponseSettings, section: &[u8]) {
    let Some(cookies) = &settings.cookies else { return };
    let Scratch { response, added, .. } = &mut *x.scratch;
    response.fields.retain(|field| {
        if !field.name.of(section).eq_ignore_ascii_case(b"set-cookie") {
            return true;
        }
        let mut value = Vec::new();
        cookies.apply(field.value.of(section), &mut value);
        value == field.value.of(section) || !write::built_field(added, b"set-cookie", &value)
    });
}

fn fields(x: &mut Exchange<'_>, settings: &ResponseSettings, section: &[u8], status: u16) {
    let changes = &settings.headers;
    let chains = Chains::of(x);
    let added = std::mem::take(&mut x.scratch.added);
    let mut lines = Vec::new();
    facts::with(x, |facts| {
        let response = &x.scratch.response;
        let values = |name: &str| {
            let name = name.as_bytes().to_vec();
            let mine = response.fields.iter().map(|f| (f.name.of(section), f.value.of(section)));
            let hop = |name: &[u8]| {
                response.nominated.iter().any(|n| n.of(section).eq_ignore_ascii_case(name))
            };
            mine.filter(move |(n, _)| n.eq_ignore_ascii_case(&name) && !hop(n)).map(|(_, v)| v)
        };
        for line in added.split_inclusive(|b| *b == b'\n') {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            if !changes.takes(name, |other| values(other).next().is_some()) {
                lines.extend_from_slice(line);
            }
        }
        let facts = Facts { status, response: Some(response.view(section)), ..*facts };
        // What policies say of a field goes before it.
        changes.lines(&facts, values, |name| !chains.replace(name.as_bytes()), &mut lines);
    });
    let response = &mut x.scratch.response;
    let names: Vec<&[u8]> = response.fields.iter().map(|field| field.name.of(section)).collect();
    let has = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name.as_bytes()));
    response.fields.retain(|field| !changes.takes(field.name.of(section), has));
    x.scratch.added = lines;
}
