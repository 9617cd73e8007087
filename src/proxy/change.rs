//! What rules change in requests: set where the head is rendered from, and where the body lies, before anything is sent.
//!
//! How it is changed is decided in `transform`. The client's head stays as it was received, for logs and whoever else reads it;
//! a changed body takes the place of the received one. Called by `staged`.

use crate::http::grpc::Call;
use crate::http::{Fault, Fields, Framing, Method, write};
use crate::proxy::{Exchange, coding, collect, facts};
use crate::shard::Sent;
use crate::snapshot::Rule;
use crate::transform::compress::{self, Flaw};
use crate::transform::json::{self, Node};
use crate::transform::page::{is_json, speaks_of_octets};
use crate::transform::rewrite::HostChange;
use crate::transform::{Facts, RequestSettings};

/// Sets what the target is sent instead of what the client has sent, body included.
///
/// # Errors
/// What goes wrong with the body while it is collected, or with what it should become.
pub async fn request(x: &mut Exchange<'_>, rule: &Rule) -> Result<(), Fault> {
    if rule.traffic.reads_response {
        // What is read must come whole, and as it is.
        coding::ask_for_plain(x);
        x.scratch.sent.held.extend(["range", "if-range"].map(|name| name.as_bytes().into()));
    }
    let Some(settings) = rule.traffic.request.as_deref() else { return Ok(()) };
    let reading = reading(x, settings)?;
    if reading != Reading::Nothing {
        collect::body(x, settings.limit).await?;
    }
    let coded = reading != Reading::Nothing && is_coded(x.view().fields);
    let content = match coded {
        true => Some(coding::content(x, settings.limit).await),
        false => None,
    };
    if reading == Reading::Json
        && let Some(Err(flaw)) = content
    {
        let too_large = flaw == Flaw::TooLarge;
        return Err(if too_large { Fault::BodyTooLarge } else { Fault::JsonUnfit });
    }
    let content = content.and_then(Result::ok);
    let Made { sent, body } = make(x, settings, reading, content.as_deref())?;
    let before = &mut x.scratch.sent;
    before.any = true;
    before.held.extend(sent.held);
    before.fields.extend(sent.fields);
    (before.target, before.host) = (sent.target, sent.host);
    before.host_of_target = sent.host_of_target;
    if let Some(body) = body {
        put_body(x, &body);
    }
    Ok(())
}

/// What is done with the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It streams through.
    Nothing,
    /// Templates read it, if it is JSON.
    Parts,
    /// It becomes other JSON.
    Json,
    /// Another one takes its place.
    Replaced,
}

// Decided before anything of the body is read: a stream is not waited for in vain.
fn reading(x: &Exchange<'_>, settings: &RequestSettings) -> Result<Reading, Fault> {
    let empty = matches!(x.scratch.request.framing, Framing::None | Framing::Length(0));
    let has_json = !empty && has_json(x.view().fields);
    let call = x.scratch.trace.call != Call::No;
    if settings.json.is_some() {
        return match (empty, has_json) {
            (true, _) => Ok(Reading::Nothing),
            (false, true) => Ok(Reading::Json),
            (false, false) => Err(Fault::JsonWanted),
        };
    }
    let takes_body = matches!(&*x.view().method.to_ascii_uppercase(), b"POST" | b"PUT" | b"PATCH");
    if settings.body.is_some() && !call && (!empty || takes_body) {
        return Ok(Reading::Replaced);
    }
    Ok(if settings.reads_body() && has_json { Reading::Parts } else { Reading::Nothing })
}

// JSON, at least once its codings are taken off.
fn has_json(fields: Fields<'_>) -> bool {
    let known = compress::codings(fields.all("content-encoding")).is_some();
    known && fields.first("content-type").is_some_and(is_json)
}

fn is_coded(fields: Fields<'_>) -> bool {
    compress::codings(fields.all("content-encoding")).is_none_or(|codings| !codings.is_empty())
}

struct Made {
    sent: Sent,
    body: Option<Vec<u8>>,
}

// `content` is what the codings of the body hold.
fn make(
    x: &Exchange<'_>,
    settings: &RequestSettings,
    reading: Reading,
    content: Option<&[u8]>,
) -> Result<Made, Fault> {
    let paths = x.epoch.snapshot.paths;
    let text = match reading {
        Reading::Nothing => &[],
        _ => content.unwrap_or_else(|| x.body_here()),
    };
    let node = match reading {
        Reading::Nothing => None,
        Reading::Json => Some(json::parse(text).map_err(|_| Fault::JsonUnfit)?),
        Reading::Parts | Reading::Replaced if has_json(x.view().fields) => json::parse(text).ok(),
        Reading::Parts | Reading::Replaced => None,
    };
    facts::with(x, |facts| {
        let facts = Facts { body: node.as_ref(), ..*facts };
        let mut sent = Sent::default();
        let target = settings.target(&facts, paths).map_err(|_| Fault::UnfitValue)?;
        sent.target = target.unwrap_or_default();
        sent.host = settings.host(&facts).map_err(|_| Fault::UnfitValue)?.unwrap_or_default();
        sent.host_of_target = settings.host == HostChange::Target;
        prefix(x, settings, &mut sent);
        fields(x, settings, &facts, &mut sent);
        let body = body(x, settings, reading, node.clone(), &facts, &mut sent)?;
        Ok(Made { sent, body })
    })
}

// Whoever writes whole addresses must know what was stripped, beside what a proxy in front has.
fn prefix(x: &Exchange<'_>, settings: &RequestSettings, sent: &mut Sent) {
    const NAME: &str = "x-forwarded-prefix";
    let view = x.view();
    let Some(stripped) = settings.stripped(view.path) else { return };
    let trusted = x.epoch.snapshot.trusts(x.client.peer.ip());
    let before = view.fields.first(NAME).filter(|_| trusted).unwrap_or_default();
    let whole = [before.strip_suffix(b"/").unwrap_or(before), stripped.as_bytes()].concat();
    sent.held.push(NAME.as_bytes().into());
    write::field(&mut sent.fields, NAME.as_bytes(), &whole);
}

fn fields(x: &Exchange<'_>, settings: &RequestSettings, facts: &Facts<'_>, sent: &mut Sent) {
    let changes = &settings.headers;
    if changes.is_empty() {
        return;
    }
    let owned = &x.epoch.snapshot.owned;
    let given = x.view().fields;
    // What policies say of the sender is not the client's to say under another name.
    let values = |name: &str| {
        let own = owned.iter().any(|owned| owned.eq_ignore_ascii_case(name));
        let name = name.to_owned();
        given
            .iter()
            .filter(move |(n, _)| !own && n.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, v)| v)
    };
    for (name, _) in given.iter() {
        if changes.takes(name, |other| values(other).next().is_some()) {
            sent.held.push(name.into());
        }
    }
    changes.lines(facts, values, |_| true, &mut sent.fields);
}

fn body(
    x: &Exchange<'_>,
    settings: &RequestSettings,
    reading: Reading,
    node: Option<Node<'_>>,
    facts: &Facts<'_>,
    sent: &mut Sent,
) -> Result<Option<Vec<u8>>, Fault> {
    let held = |sent: &mut Sent, of: &dyn Fn(&[u8]) -> bool| {
        let names = x.view().fields.iter().map(|(name, _)| name);
        sent.held.extend(names.filter(|name| of(name)).map(Box::from));
    };
    match (reading, &settings.json, &settings.body) {
        (Reading::Json, Some(changes), _) => {
            let node = node.ok_or(Fault::Internal)?;
            held(sent, &|name| {
                speaks_of_octets(name) || name.eq_ignore_ascii_case(b"content-encoding")
            });
            changes.apply(node, facts).map(Some).ok_or(Fault::JsonUnfit)
        }
        (Reading::Replaced, _, Some(content)) => {
            held(sent, &crate::transform::page::speaks_of_body);
            if !settings.headers.set.iter().any(|(name, _)| name == "content-type") {
                write::built_field(&mut sent.fields, b"content-type", content.kind.as_bytes());
            }
            Ok(Some(content.text(facts)))
        }
        _ => Ok(None),
    }
}

// Puts another body where the received one lies: whoever comes after, another attempt or the next request of the connection,
// need not know.
fn put_body(x: &mut Exchange<'_>, body: &[u8]) {
    let head = x.scratch.request.len;
    let taken = head + x.body_here().len();
    let follows = x.buf.filled().get(taken..).unwrap_or_default().to_vec();
    x.buf.truncate(head);
    x.buf.reserve(body.len() + follows.len());
    x.buf.append(body);
    x.buf.append(&follows);
    x.scratch.request.framing = match (body.len() as u64, x.scratch.request.method) {
        // A method that expects no content need not say that it has none.
        (0, Method::Get | Method::Head | Method::Delete | Method::Options) => Framing::None,
        (length, _) => Framing::Length(length),
    };
}
