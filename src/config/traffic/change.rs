//! `request`, `response` and `errors` of a rule: what is changed on the way. And `errors` of a listener.
//!
//! Which fields may be changed is decided in `transform::fields`. Called by the readers of rules and listeners, and by `check`.

use super::change_json::json;
use crate::config::action::{file, is_target_part};
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::{Problem, Wrong};
use crate::config::template::{self, content, media_type};
use crate::config::{Action, Aggregate, Config, Rule, syntax};
use crate::transform::captures::has_group;
use crate::transform::cookies::{CookieSettings, SameSite};
use crate::transform::fields::{FieldChanges, Use, refused_in_request, refused_in_response};
use crate::transform::page::{Content, ErrorPage, From, kind_of};
use crate::transform::query::QueryChanges;
use crate::transform::rewrite::{HostChange, LIMIT, PathChange, Pattern};
use crate::transform::template::Group;
use crate::transform::{Captures, Place, RequestSettings, ResponseSettings, Scope, Template};
use std::ops::RangeInclusive;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.request", REQUEST),
    ("rule.request.path_regex", REGEX),
    ("rule.request.host_regex", REGEX),
    ("rule.request.query", QUERY),
    ("rule.request.headers", FIELDS),
    ("rule.request.json", super::change_json::JSON),
    ("rule.response", RESPONSE),
    ("rule.response.headers", FIELDS),
    ("rule.response.json", super::change_json::JSON),
    ("rule.response.cookies", COOKIES),
    ("rule.errors", ERRORS),
    ("listener.errors", ERRORS),
];

const REQUEST: Keys = &[
    "path",
    "strip_prefix",
    "add_prefix",
    "path_regex",
    "host",
    "host_regex",
    "query",
    "headers",
    "body",
    "content_type",
    "json",
    "limit",
];
const REGEX: Keys = &["match", "replace"];
const QUERY: Keys = &["keep", "remove", "rename", "set", "add"];
const FIELDS: Keys = &["rename", "remove", "set", "add"];
const RESPONSE: Keys = &[
    "headers",
    "status",
    "body",
    "body_status",
    "content_type",
    "json",
    "limit",
    "strict",
    "cookies",
];
const COOKIES: Keys = &["names", "secure", "http_only", "same_site", "domain", "path"];
const ERRORS: Keys = &["status", "from", "status_to", "body", "file", "content_type"];

/// The most entries of one list or table.
pub(super) const MOST: usize = 100;
/// What a body may have that is read, in octets.
const SIZES: RangeInclusive<u64> = 1..=64 << 20;

/// What an error page of a rule knows.
const OF_RULE: Scope = Scope { fault: true, ..Scope::RESPONSE };
/// What an error page of a listener knows.
const OF_LISTENER: Scope = Scope { rule: false, ..OF_RULE };
/// What the body of a response knows.
const OF_BODY: Scope = Scope { body: true, ..Scope::RESPONSE };

/// `request` of a rule.
pub(super) fn request(rule: &Table<'_>) -> Option<RequestSettings> {
    let item = rule.item("request")?;
    let table = item.table(REQUEST)?;
    if table.given().next().is_none() {
        table.problem(item.path.clone(), "nothing to change", &REQUEST.join(", "));
    }
    if rule.item("forward").is_none() {
        item.problem("request without forward", "a request that is sent on", None);
    }
    let body = body(&table, Scope::REQUEST);
    let json = table.item("json").and_then(|item| json(&item, Scope::REQUEST));
    both(&table, "body", "json");
    let settings = RequestSettings {
        path: path(&table),
        host: host(&table),
        query: table.item("query").and_then(|item| query(&item)).unwrap_or_default(),
        headers: table
            .item("headers")
            .and_then(|item| fields(&item, Scope::REQUEST, |name, _| refused_in_request(name)))
            .unwrap_or_default(),
        body,
        json,
        limit: table.item("limit").and_then(|item| item.size(SIZES)).unwrap_or(LIMIT),
    };
    limit_fits(&table, settings.reads_body());
    Some(settings)
}

/// `response` and `errors` of a rule.
pub(super) fn response(rule: &Table<'_>) -> Option<ResponseSettings> {
    let errors = errors_of(rule, OF_RULE);
    let Some(item) = rule.item("response") else {
        let settings = ResponseSettings { errors, ..ResponseSettings::default() };
        return (!settings.errors.is_empty()).then_some(settings);
    };
    let table = item.table(RESPONSE)?;
    if table.given().next().is_none() {
        table.problem(item.path.clone(), "nothing to change", &RESPONSE.join(", "));
    }
    both(&table, "body", "json");
    let statuses = table.item("body_status").map(|item| statuses(&item));
    if statuses.is_some() && table.item("body").is_none() {
        item.problem("body_status without body", "both or neither", None);
    }
    let body = body(&table, OF_BODY);
    let strict = table.item("strict");
    if let Some(strict) = &strict
        && table.item("json").is_none()
    {
        strict.problem("strict without json", "both or neither", None);
    }
    let settings = ResponseSettings {
        headers: table
            .item("headers")
            .and_then(|item| fields(&item, Scope::RESPONSE, refused_in_response))
            .unwrap_or_default(),
        status: table.item("status").map(|item| status(&item)).unwrap_or_default(),
        body: body.map(|body| (statuses.unwrap_or_else(|| vec![200..=299]), body)),
        json: table.item("json").and_then(|item| json(&item, OF_BODY)),
        limit: table.item("limit").and_then(|item| item.size(SIZES)).unwrap_or(LIMIT),
        strict: strict.and_then(|item| item.boolean()).unwrap_or(false),
        cookies: table.item("cookies").and_then(|item| cookies(&item)),
        errors,
    };
    limit_fits(&table, settings.reads_body());
    Some(settings)
}

/// `errors` of a listener.
pub(in crate::config) fn errors(listener: &Table<'_>) -> Vec<ErrorPage> {
    errors_of(listener, OF_LISTENER)
}

/// What error pages know: of a rule, or of a listener.
pub(in crate::config) fn scope_of_errors(of_rule: bool) -> Scope {
    if of_rule { OF_RULE } else { OF_LISTENER }
}

fn both(table: &Table<'_>, first: &str, second: &str) {
    if let (Some(_), Some(item)) = (table.item(first), table.item(second)) {
        item.problem(format!("{second} beside {first}"), "one of them", None);
    }
}

fn limit_fits(table: &Table<'_>, reads: bool) {
    if let Some(item) = table.item("limit")
        && !reads
    {
        item.problem("limit where no body is read", "body, json or #{body.NAME} beside it", None);
    }
}

fn path(table: &Table<'_>) -> PathChange {
    const KIND: &str = "a path that begins with \"/\", percent-encoded";
    let made = |key: &str| {
        template::template(&table.item(key)?, KIND, Scope::REQUEST, |made| is_path(&made.around()))
    };
    let parts = ["strip_prefix", "path_regex", "add_prefix"];
    if let Some(whole) = made("path") {
        for other in parts {
            both(table, "path", other);
        }
        return PathChange::Whole(whole);
    }
    let strip = table.item("strip_prefix").and_then(|item| {
        item.parsed("a path such as \"/api\", percent-encoded", |text| {
            is_path(text)?;
            match text.trim_end_matches('/') {
                "" => Wrong::expected("more than \"/\""),
                prefix => Ok(prefix.to_owned()),
            }
        })
    });
    let regex = table.item("path_regex").and_then(|item| regex(&item, is_target_part));
    PathChange::Parts { strip, regex, add: made("add_prefix") }
}

fn is_path(text: &str) -> Result<(), Wrong> {
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    let fits = text.starts_with('/') && !text.starts_with("//") && !dots;
    if fits && is_target_part(text) { Ok(()) } else { Wrong::plain() }
}

fn host(table: &Table<'_>) -> HostChange {
    both(table, "host", "host_regex");
    if let Some(item) = table.item("host") {
        if item.peek_text() == Some("target") {
            return HostChange::Target;
        }
        let kind = "a host, with a port perhaps, or \"target\" for the target's name";
        let made = template::template(&item, kind, Scope::REQUEST, |made| {
            let around = made.around();
            match crate::http::host::canonical(around.as_bytes(), &mut Vec::new()) {
                Ok(_) => Ok(()),
                Err(_) => Wrong::plain(),
            }
        });
        return made.map_or(HostChange::Same, HostChange::Made);
    }
    let is_host =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    match table.item("host_regex").and_then(|item| regex(&item, is_host)) {
        Some((pattern, replace)) => HostChange::Regex(pattern, replace),
        None => HostChange::Same,
    }
}

/// `{ match = "...", replace = "..." }`
fn regex(item: &Item<'_>, fits: impl Fn(&str) -> bool) -> Option<(Pattern, Template)> {
    const REGULAR: &str = "a regular expression without look-around and back-references";
    let table = item.table(REGEX)?;
    let pattern = table.need("match", REGULAR).and_then(|item| item.parsed(REGULAR, syntax::regex));
    let pattern = pattern.and_then(|text| regex::bytes::Regex::new(&text).ok());
    let replace = table.need("replace", "what a match becomes, as \"/new/$1\"");
    let replace = replace.and_then(|item| {
        item.parsed("what a match becomes, as \"/new/$1\"", |text| {
            let made = template::parse(&with_captures(text), Scope::REQUEST)?;
            if !fits(&made.around()) && !made.around().is_empty() {
                return Wrong::plain();
            }
            let missing = made.captures().find_map(|group| match (group, &pattern) {
                (Group::Path(group), Some(pattern)) if !has_group(pattern, group) => Some(group),
                _ => None,
            });
            match missing {
                Some(group) => {
                    Wrong::expected(format!("only groups of match: it has no {group:?}"))
                }
                None => Ok(made),
            }
        })
    });
    Some((Pattern(pattern?), replace?))
}

// `$1` and `$name`, as elsewhere, are `#{capture.1}`; `$$` is `$`.
fn with_captures(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, after_name) = after.split_at(end.unwrap_or(after.len()));
        rest = match name {
            "" => {
                out.push('$');
                after.strip_prefix('$').unwrap_or(after)
            }
            name => {
                out.push_str(&format!("#{{capture.{name}}}"));
                after_name
            }
        };
    }
    out + rest
}

fn query(item: &Item<'_>) -> Option<QueryChanges> {
    const NAME: &str = "the name of a parameter";
    let table = item.table(QUERY)?;
    let name = |text: &str| match text {
        "" => Wrong::plain(),
        text => syntax::value_pattern(text),
    };
    let list = |key: &str| table.item(key).map(|item| texts(&item, NAME, name));
    let values = |key: &str| {
        let item = table.item(key);
        item.map(|item| pairs(&item, NAME, name, |_, item| made(item, Scope::REQUEST)))
    };
    let rename = table.item("rename");
    Some(QueryChanges {
        keep: list("keep"),
        remove: list("remove").unwrap_or_default(),
        rename: rename
            .map(|item| pairs(&item, NAME, name, |_, item| item.parsed(NAME, name)))
            .unwrap_or_default(),
        set: values("set").unwrap_or_default(),
        add: values("add").unwrap_or_default(),
    })
}

fn made(item: &Item<'_>, scope: Scope) -> Option<Template> {
    let plain = |made: &Template| match made.around().chars().any(char::is_control) {
        true => Wrong::plain(),
        false => Ok(()),
    };
    template::template(item, "a text without control characters", scope, plain)
}

/// `headers = { rename, remove, set, add }`
fn fields(
    item: &Item<'_>,
    scope: Scope,
    refused: impl Fn(&str, Use) -> Option<&'static str>,
) -> Option<FieldChanges> {
    const NAME: &str = "the name of a field";
    let table = item.table(FIELDS)?;
    let named = |usage: Use| {
        let refused = &refused;
        move |text: &str| {
            let name = text.to_ascii_lowercase();
            match refused(&name, usage) {
                _ if !syntax::is_token(&name) => Wrong::plain(),
                Some(expected) => Wrong::expected(expected),
                None => Ok(name),
            }
        }
    };
    let values = |key: &str, usage: Use| {
        let value = |_: &str, item: &Item<'_>| made(item, scope);
        let item = table.item(key);
        item.map(|item| pairs(&item, NAME, named(usage), value)).unwrap_or_default()
    };
    let remove = table.item("remove").map(|item| texts(&item, NAME, named(Use::Take)));
    let rename = table.item("rename").map(|item| {
        pairs(&item, NAME, named(Use::Take), |_, item| item.parsed(NAME, named(Use::Set)))
    });
    let changes = FieldChanges {
        rename: rename.unwrap_or_default(),
        remove: remove.unwrap_or_default(),
        set: values("set", Use::Set),
        add: values("add", Use::Add),
    };
    for name in changes.remove.iter().filter(|name| changes.set.iter().any(|(n, _)| n == *name)) {
        item.problem(format!("{name} in remove and in set"), "one of them: set replaces", None);
    }
    Some(changes)
}

/// The strings of a list.
pub(super) fn texts<T>(
    item: &Item<'_>,
    kind: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    let items = item.one_or_more(kind);
    few(item, items.len());
    items.iter().filter_map(|item| item.parsed(kind, &parse)).collect()
}

/// The entries of a table whose keys the file chooses.
pub(super) fn pairs<K: PartialEq, V>(
    item: &Item<'_>,
    kind: &str,
    parse: impl Fn(&str) -> Result<K, Wrong>,
    value: impl Fn(&str, &Item<'_>) -> Option<V>,
) -> Vec<(K, V)> {
    let entries = item.entries("a table of names and values");
    few(item, entries.len());
    let mut pairs: Vec<(K, V)> = Vec::new();
    for (name, item) in entries {
        match parse(name) {
            Ok(name) if pairs.iter().any(|(other, _)| *other == name) => {
                item.problem("a name twice", "each name once", None);
            }
            Ok(name) => pairs.extend(value("", &item).map(|value| (name, value))),
            Err(Wrong { expected, hint }) => {
                let expected = if expected.is_empty() { kind.to_owned() } else { expected };
                item.problem(format!("{name:?}"), expected, hint);
            }
        }
    }
    pairs
}

fn few(item: &Item<'_>, count: usize) {
    if count > MOST {
        item.problem(format!("{count} entries"), format!("at most {MOST}"), None);
    }
}

/// `body` with `content_type`.
fn body(table: &Table<'_>, scope: Scope) -> Option<Content> {
    let kind = table.item("content_type");
    let Some(item) = table.item("body") else {
        if let Some(kind) = kind {
            kind.problem("content_type without body", "both or neither", None);
        }
        return None;
    };
    let kind = kind.and_then(|item| media_type(&item));
    content(&item, kind.as_deref().unwrap_or("text/plain; charset=utf-8"), scope)
}

const STATUSES: &str = "a status such as \"404\" or a range such as \"500-599\"";

fn statuses(item: &Item<'_>) -> Vec<RangeInclusive<u16>> {
    texts(item, STATUSES, syntax::statuses)
}

/// `status = { "404" = 200 }`
fn status(item: &Item<'_>) -> Vec<(RangeInclusive<u16>, u16)> {
    pairs(item, STATUSES, syntax::statuses, |_, item| {
        let to = item.integer(200..=599).and_then(|status| u16::try_from(status).ok())?;
        if [204, 205, 206, 304].contains(&to) {
            item.problem(to.to_string(), "a status whose response is whole, with its body", None);
        }
        Some(to)
    })
}

fn cookies(item: &Item<'_>) -> Option<CookieSettings> {
    let table = item.table(COOKIES)?;
    if table.given().next().is_none() {
        table.problem(item.path.clone(), "nothing to change", &COOKIES.join(", "));
    }
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean()).unwrap_or(false);
    let same_sites =
        [("strict", SameSite::Strict), ("lax", SameSite::Lax), ("none", SameSite::None)];
    let attribute = |text: &str| {
        let fits = text.is_ascii() && !text.contains([';', ' ', ',']);
        if fits && syntax::is_field_value(text) { Ok(text.to_owned()) } else { Wrong::plain() }
    };
    let domain = |text: &str| match text {
        "" | "*" => Ok(text.to_owned()),
        text if syntax::is_dns_name(text.trim_start_matches('.')) => Ok(text.to_owned()),
        _ => Wrong::plain(),
    };
    let path = |text: &str| if text.starts_with('/') { attribute(text) } else { Wrong::plain() };
    const DOMAIN: &str = "a domain such as \"example.com\"";
    const PATH: &str = "a path that begins with \"/\"";
    let domains = table.item("domain").map(|item| {
        pairs(&item, DOMAIN, domain, |_, item| {
            item.parsed("a domain, or \"\" for the host alone", |text| match text {
                "*" => Wrong::plain(),
                text => domain(text),
            })
        })
    });
    let paths =
        table.item("path").map(|item| pairs(&item, PATH, path, |_, item| item.parsed(PATH, path)));
    let names = table.item("names").map(|item| {
        texts(&item, "the name of a cookie, or a beginning with * behind it", |text| {
            let plain = text.strip_suffix('*').unwrap_or(text);
            if syntax::is_token(plain) { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    Some(CookieSettings {
        names: names.unwrap_or_default(),
        secure: flag("secure"),
        http_only: flag("http_only"),
        same_site: table.item("same_site").and_then(|item| item.choice(&same_sites)),
        domain: domains.unwrap_or_default(),
        path: paths.unwrap_or_default(),
    })
}

fn errors_of(table: &Table<'_>, scope: Scope) -> Vec<ErrorPage> {
    let Some(item) = table.item("errors") else { return Vec::new() };
    let items = item.array("a list of tables of status and body or file");
    few(&item, items.len());
    items.iter().filter_map(|item| error_page(item, scope)).collect()
}

fn error_page(item: &Item<'_>, scope: Scope) -> Option<ErrorPage> {
    let table = item.table(ERRORS)?;
    let status = table.need("status", STATUSES).map(|item| {
        let statuses = statuses(&item);
        if statuses.iter().any(|range| *range.start() < 400) {
            item.problem("a status below 400", "statuses of errors, 400 to 599", None);
        }
        statuses
    });
    let whose = [("own", From::Own), ("targets", From::Targets), ("all", From::All)];
    let to = table.item("status_to").and_then(|item| item.integer(200..=599));
    if to.is_some_and(|to| [204, 205, 206, 304].contains(&to))
        && let Some(item) = table.item("status_to")
    {
        item.problem("a status without a whole body", "a status of a page", None);
    }
    both(&table, "body", "file");
    let path = table.item("file").and_then(|item| file(&item));
    let given = table.item("content_type").and_then(|item| media_type(&item));
    let kind = given
        .unwrap_or_else(|| path.as_deref().map_or("text/html; charset=utf-8", kind_of).to_owned());
    let content = match (table.item("body"), &path) {
        (Some(item), _) => content(&item, &kind, scope)?,
        // Control reads it.
        (None, Some(_)) => Content { kind, template: Template::default(), place: Place::Text },
        (None, None) => {
            table.problem(item.path.clone(), "neither body nor file", "one of them");
            return None;
        }
    };
    Some(ErrorPage {
        status: status?,
        from: table.item("from").and_then(|item| item.choice(&whose)).unwrap_or_default(),
        status_to: to.and_then(|to| u16::try_from(to).ok()),
        content,
        file: path,
    })
}

/// Templates can only say what patterns of their rule catch.
pub(in crate::config) fn check(config: &Config, problems: &mut Vec<Problem>) {
    for rule in &config.rules {
        if !that_read_the_rule(rule).any(Template::reads_captures) {
            continue;
        }
        let caught = rule.captures();
        let groups = that_read_the_rule(rule).flat_map(Template::captures);
        let missing = groups.filter_map(|group| match group {
            Group::Path(group) if !caught.has_path(group) => Some(format!("capture.{group}")),
            Group::Host(group) if !caught.has_host(group) => Some(format!("host.{group}")),
            _ => None,
        });
        problems.extend(missing.map(|name| Problem {
            place: rule.place.clone(),
            key: format!("rule.{}", rule.name),
            found: format!("#{{{name}}}, which no pattern of its when catches"),
            expected: "a group of path_regex, or a wildcard of path or host".to_owned(),
            hint: None,
        }));
    }
}

impl Rule {
    /// What its patterns catch.
    pub fn captures(&self) -> Captures {
        Captures::new(&self.when.host, &self.when.path, &self.when.path_regex)
    }

    /// Every template of it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let request = self.traffic.request.iter().flat_map(RequestSettings::templates);
        of_answers(self).chain(request)
    }
}

// Those that read what `when` has matched: replacements read what they match themselves.
fn that_read_the_rule(rule: &Rule) -> impl Iterator<Item = &Template> {
    let request = rule.traffic.request.iter().flat_map(RequestSettings::templates_of_rule);
    of_answers(rule).chain(request)
}

fn of_answers(rule: &Rule) -> impl Iterator<Item = &Template> {
    let (redirect, respond) = match &rule.action {
        Action::Redirect(redirect) => (Some(redirect), None),
        Action::Respond(respond) => (None, Some(respond)),
        _ => (None, None),
    };
    let redirect = redirect.into_iter().flat_map(|r| [&r.host, &r.path, &r.query]).flatten();
    let respond =
        respond.into_iter().flat_map(|r| r.headers.iter().map(|(_, value)| value).chain([&r.body]));
    let aggregate = match &rule.action {
        Action::Aggregate(aggregate) => Some(aggregate),
        _ => None,
    };
    let parts = aggregate.into_iter().flat_map(Aggregate::templates);
    let response = rule.traffic.response.iter().flat_map(ResponseSettings::templates);
    redirect.chain(respond).chain(parts).chain(response)
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
