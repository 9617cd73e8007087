//! What is done with a request: `forward`, `redirect`, `respond` or `aggregate`, of a rule or of a listener's `default`.
//!
//! That a group exists is noted for `check`. Called by `listener` and `rule`.

use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table};
use crate::config::keys::{FORWARD, REDIRECT, RESPOND};
use crate::config::problem::Wrong;
use crate::config::template::{media_type, parse, read_content, template};
use crate::config::{Action, WeightedGroup, syntax, traffic};
use crate::http::known::Known;
use crate::transform::page::kind_of;
use crate::transform::{Scope, Template};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `redirect`: templates; parts left out keep the request's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirect {
    /// `http`, `https` or `#{protocol}`.
    pub scheme: Option<String>,
    /// The host.
    pub host: Option<Template>,
    /// A number or `#{port}`.
    pub port: Option<Template>,
    /// Begins with `/`.
    pub path: Option<Template>,
    /// Without the `?`.
    pub query: Option<Template>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// `respond`: an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// `Content-Type`; left out with an empty body.
    pub content_type: Option<String>,
    /// The body, sent as UTF-8.
    pub body: Template,
    /// Further fields.
    pub headers: Vec<(String, Template)>,
    /// Where the body lies instead.
    pub file: Option<PathBuf>,
    /// The octets of that file, once control has read them.
    pub octets: Option<Arc<[u8]>>,
}

/// The most groups of one `forward`.
const MOST_GROUPS: usize = 100;
/// The longest body of a `respond`, in octets.
const LONGEST_BODY: usize = 64 << 10;
/// The longest part of a redirect, in octets.
const LONGEST_PART: usize = 2048;
const WEIGHT: std::ops::RangeInclusive<u64> = 0..=999;

/// The one action of a table; `scope` is what its templates know.
pub(super) fn action(table: &Table<'_>, seen: &mut Seen, scope: Scope) -> Option<Action> {
    let forward = table.item("forward");
    let redirect = table.item("redirect");
    let respond = table.item("respond");
    let aggregate = table.item("aggregate");
    let all = [&forward, &redirect, &respond, &aggregate];
    let given: Vec<&Item<'_>> = all.into_iter().filter_map(Option::as_ref).collect();
    const ONE: &str = "exactly one of forward, redirect, respond, aggregate";
    match given.as_slice() {
        [] => {
            table.problem(table.path.clone(), "none of forward, redirect, respond, aggregate", ONE)
        }
        [_] => {}
        [first, others @ ..] => {
            for other in others {
                let key = |item: &Item<'_>| item.path.rsplit('.').next().map(str::to_owned);
                let found = [key(first), key(other)].into_iter().flatten().collect::<Vec<_>>();
                other.problem(found.join(" and "), ONE, None);
            }
        }
    }
    let forward = forward.map(|item| Action::Forward(groups(&item, seen)));
    let redirect = redirect.and_then(|item| redirection(&item, scope).map(Action::Redirect));
    let respond = respond.and_then(|item| response(&item, scope).map(Action::Respond));
    let aggregate = aggregate
        .and_then(|item| traffic::aggregate::read(&item, seen, scope).map(Action::Aggregate));
    forward.or(redirect).or(respond).or(aggregate)
}

/// `forward = "api"` or `forward = [{ group = "api", weight = 90 }, ...]`.
fn groups(item: &Item<'_>, seen: &mut Seen) -> Vec<WeightedGroup> {
    const KIND: &str = "the name of a group, or a list of tables { group, weight }";
    if !item.is_array() {
        let group = item.parsed(KIND, syntax::name);
        let group = group.map(|group| used(group, 1, item, seen));
        return group.into_iter().collect();
    }
    let items = item.array(KIND);
    let mut groups: Vec<WeightedGroup> = Vec::new();
    for item in &items {
        let Some(table) = item.table(FORWARD) else { continue };
        let weight = table.item("weight").map_or(Some(1), |item| item.integer(WEIGHT));
        let name = table.need("group", "the name of a group");
        let name =
            name.and_then(|item| Some((item.parsed("the name of a group", syntax::name)?, item)));
        let (Some(weight), Some((name, item))) = (weight, name) else { continue };
        if groups.iter().any(|group| group.group == name) {
            item.problem(format!("{name:?} twice"), "each group once", None);
        }
        groups.push(used(name, weight, &item, seen));
    }
    if items.is_empty() || items.len() > MOST_GROUPS {
        let found = format!("{} groups", items.len());
        item.problem(found, format!("1 to {MOST_GROUPS} groups"), None);
    }
    let all_read = groups.len() == items.len() && !groups.is_empty();
    if all_read && groups.iter().all(|group| group.weight == 0) {
        item.problem("no weight above 0", "at least one group that takes requests", None);
    }
    groups
}

fn used(group: String, weight: u64, item: &Item<'_>, seen: &mut Seen) -> WeightedGroup {
    seen.uses(Kind::Group, &group, item);
    WeightedGroup { group, weight: u32::try_from(weight).unwrap_or_default(), place: item.place() }
}

/// `redirect = { ... }`, after ALB: parts left out keep the request's, and one must differ.
fn redirection(item: &Item<'_>, scope: Scope) -> Option<Redirect> {
    let table = item.table(REDIRECT)?;
    let part = |key: &str, kind: &str, check: &dyn Fn(&str) -> bool| {
        template(&table.item(key)?, kind, scope, |template| {
            let around = template.around();
            if around.len() > LONGEST_PART {
                return Wrong::expected(format!("at most {LONGEST_PART} octets"));
            }
            if check(&around) { Ok(()) } else { Wrong::plain() }
        })
    };
    let schemes = ["http", "https", "#{protocol}"].map(|scheme| (scheme, scheme.to_owned()));
    let scheme = table.item("scheme").and_then(|item| item.choice(&schemes));
    let host = part("host", "a host, with #{host} for the request's, without port", &|text| {
        syntax::host_pattern(text).is_ok() && !text.contains(['*', '?'])
    });
    if let (Some(item), Some(host)) = (table.item("host"), &host)
        && host.ends_as_clients_choose()
    {
        let expected = "a host whose end clients cannot choose, as \"#{header.x}.example.com\"";
        item.problem("a host that any client can choose", expected, None);
    }
    let path = part("path", "a path that begins with a single \"/\", percent-encoded", &|text| {
        text.starts_with('/') && !text.starts_with("//") && is_target_part(text)
    });
    let query =
        part("query", "a query without its \"?\", percent-encoded", &|text| is_target_part(text));
    let port = table.item("port").and_then(|item| port(&item));
    let statuses = [301, 302, 303, 307, 308];
    let status = table.item("status").map_or(Some(302), |item| {
        const KIND: &str = "one of 301, 302, 303, 307, 308";
        let status = item.integer_or(KIND, 0..=999)?;
        let known = statuses.into_iter().find(|known| u64::from(*known) == status);
        if known.is_none() {
            item.wrong(KIND);
        }
        known
    });
    // A part that was given and refused has its own problem already.
    let names = ["scheme", "host", "port", "path", "query"];
    let kept = ["#{protocol}", "#{host}", "#{port}", "/#{path}", "#{query}"];
    let changes = names.iter().zip(kept).any(|(name, kept)| {
        table.item(name).is_some_and(|item| item.peek_text().is_none_or(|text| text != kept))
    });
    if !changes {
        let expected = "one of scheme, host, port, path, query that differs from the request's";
        item.problem("a redirect to the same place", expected, None);
    }
    Some(Redirect { scheme, host, port, path, query, status: status? })
}

pub(super) fn is_target_part(text: &str) -> bool {
    syntax::is_visible(text) && !text.contains(['?', '#', '\\', '"', '<', '>'])
}

fn port(item: &Item<'_>) -> Option<Template> {
    const KIND: &str = "a port from 1 to 65535 or \"#{port}\"";
    if item.is_integer() {
        let port = item.integer_or(KIND, 1..=65_535);
        return port.map(|port| Template::literal(&port.to_string()));
    }
    item.parsed(KIND, |text| match syntax::port(text) {
        Some(port) => Ok(Template::literal(&port.to_string())),
        None if text == "#{port}" => parse(text, Scope::ANY),
        None => Wrong::plain(),
    })
}

/// `respond = { ... }`
fn response(item: &Item<'_>, scope: Scope) -> Option<Respond> {
    let table = item.table(RESPOND)?;
    let file = table.item("file").and_then(|item| file(&item));
    let status = match table.item("status") {
        // A file is something to be found.
        None if file.is_some() => Some(200),
        None => table.need("status", "a status from 200 to 599").and(None),
        Some(item) => item.integer_or("a status from 200 to 599", 200..=599),
    };
    let status = status.and_then(|status| u16::try_from(status).ok());
    // RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
    let bodiless = status.is_some_and(|status| [204, 205, 304].contains(&status));
    let kind = table.item("content_type").and_then(|item| media_type(&item));
    let of_text = kind.as_deref().unwrap_or("text/plain; charset=utf-8");
    let body = table.item("body").and_then(|item| {
        let body = item.parsed("a string", |text| {
            if text.len() > LONGEST_BODY {
                let found = format!("{} octets", text.len());
                item.problem(found, format!("at most {LONGEST_BODY}"), None);
            }
            read_content(text, of_text, scope)
        })?;
        if body.template.constant() != Some("") && bodiless {
            item.problem("a body", "none, as its status has none", None);
        }
        Some(body.template)
    });
    if let Some(item) = table.item("file") {
        if table.item("body").is_some() {
            item.problem("file beside body", "one of them", None);
        }
        if bodiless {
            item.problem("a file", "none, as its status has no body", None);
        }
    }
    let body = body.unwrap_or_default();
    let default = match &file {
        Some(file) => Some(kind_of(file).to_owned()),
        None => (body.constant() != Some("")).then(|| of_text.to_owned()),
    };
    let headers = table.item("headers").map(|item| fields_of(&item, scope));
    Some(Respond {
        status: status.unwrap_or_default(),
        content_type: kind.or(default),
        body,
        headers: headers.unwrap_or_default(),
        file,
        octets: None,
    })
}

/// The path of a file whose content is sent; relative to the folder of the file that names it.
pub(super) fn file(item: &Item<'_>) -> Option<PathBuf> {
    let place = item.place();
    let folder = Path::new(&*place.file).parent().unwrap_or(Path::new(""));
    item.parsed("the path of a file", |text| match text {
        "" => Wrong::plain(),
        text if text.contains('\0') => Wrong::plain(),
        text => Ok(folder.join(text)),
    })
}

// The fields of an answer, whose values may be templates.
fn fields_of(item: &Item<'_>, scope: Scope) -> Vec<(String, Template)> {
    let pairs = fields(item, refused_in_response).into_iter();
    pairs
        .filter_map(|(name, value)| match parse(&value, scope) {
            Ok(value) => Some((name, value)),
            Err(wrong) => {
                item.problem(format!("{name} = {value:?}"), wrong.expected, wrong.hint);
                None
            }
        })
        .collect()
}

/// Why a response may not name a field: framing and the connection are ours (RFC 9112 section 6, RFC 9110 section 7.6.1).
fn refused_in_response(name: &str) -> Option<&'static str> {
    match Known::of(name.as_bytes()) {
        Known::ContentLength
        | Known::TransferEncoding
        | Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Te
        | Known::Trailer
        | Known::Upgrade => Some("no field of framing or of the connection"),
        Known::ContentType => Some("content_type beside headers instead"),
        _ => None,
    }
}

/// A table of fields: a name to a value or a list of values.
pub(super) fn fields(
    item: &Item<'_>,
    refused: impl Fn(&str) -> Option<&'static str>,
) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    for (name, item) in item.entries("a table of field names and values") {
        if !syntax::is_token(name) {
            let expected = "a field name that is a token (RFC 9110 section 5.6.2)";
            item.problem(format!("the field name {name:?}"), expected, None);
        }
        if let Some(expected) = refused(name) {
            item.problem(format!("the field {name}"), expected, None);
        }
        for item in item.one_or_more("a field value") {
            let value = item.parsed("a field value without control characters", |text| {
                if syntax::is_field_value(text) { Ok(text.to_owned()) } else { Wrong::plain() }
            });
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
    fields
}
