//! `aggregate`, an action of a rule or of a listener's `default`.
//!
//! What the settings mean is `fanout`'s; paths are templates. Called by the reader of actions.

use crate::config::action::is_target_part;
use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::config::template::parse;
use crate::fanout::json::Pointer;
use crate::fanout::merge::ERRORS;
use crate::fanout::{AggregateSettings, PartSettings};
use crate::transform::{Scope, Template};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.aggregate", KEYS),
    ("rule.aggregate.parts.*", PART),
    ("listener.default.aggregate", KEYS),
    ("listener.default.aggregate.parts.*", PART),
];

const KEYS: Keys =
    &["parts", "timeout", "limit", "body", "on_failure", "errors", "status", "partial_status"];
const PART: Keys = &["group", "path", "method", "required", "default", "timeout", "pick"];

/// The most parts of one answer: each is a request.
const MOST_PARTS: usize = 32;
const LARGEST: u64 = 16 << 20;
const LARGEST_BODY: u64 = 1 << 20;
const TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(300);

/// `aggregate = { ... }`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Aggregate {
    /// But for the paths.
    pub settings: AggregateSettings,
    /// What is asked for of each part: the path, and the query where it has one.
    pub targets: Vec<(Template, Option<Template>)>,
}

impl Aggregate {
    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.targets.iter().flat_map(|(path, query)| [Some(path), query.as_ref()]).flatten()
    }
}

/// Reads it; `scope` is what its templates know.
pub(in crate::config) fn read(item: &Item<'_>, seen: &mut Seen, scope: Scope) -> Option<Aggregate> {
    let table = item.table(KEYS)?;
    let mut settings = AggregateSettings {
        timeout: Duration::from_secs(2),
        limit: 1 << 20,
        body: 64 << 10,
        status: 200,
        partial_status: 200,
        ..AggregateSettings::default()
    };
    set(&mut settings.timeout, table.item("timeout").and_then(|item| item.duration(TIMES)));
    set(&mut settings.limit, table.item("limit").and_then(|item| item.size(64..=LARGEST)));
    set(&mut settings.body, table.item("body").and_then(|item| item.size(0..=LARGEST_BODY)));
    set(&mut settings.errors, table.item("errors").and_then(|item| item.boolean()));
    set(&mut settings.status, status(&table, "status"));
    set(&mut settings.partial_status, status(&table, "partial_status"));
    let words = [("fail", true), ("partial", false)];
    let required = table.item("on_failure").and_then(|item| item.choice(&words)).unwrap_or(true);
    let parts = table.need("parts", "a table of parts by their names")?;
    let mut targets = Vec::new();
    for (name, item) in parts.entries("a table of parts by their names") {
        if name == ERRORS && settings.errors {
            item.problem(format!("a part {ERRORS:?}"), "another name: errors stand there", None);
        }
        let Some((mut part, target)) = part(&item, required, seen, scope) else { continue };
        if part.timeout.is_some_and(|timeout| timeout > settings.timeout) {
            item.problem("a timeout above that of the whole", "at most that", None);
        }
        name.clone_into(&mut part.name);
        settings.parts.push(part);
        targets.push(target);
    }
    let count = settings.parts.len();
    if parts.is_table() && (count > MOST_PARTS || parts.entries("").is_empty()) {
        parts.problem(format!("{count} parts"), format!("1 to {MOST_PARTS} parts"), None);
    }
    Some(Aggregate { settings, targets })
}

fn status(table: &Table<'_>, key: &str) -> Option<u16> {
    const KIND: &str = "a status from 200 to 299 with a body";
    let item = table.item(key)?;
    let status = item.integer_or(KIND, 200..=299)?;
    // RFC 9110 sections 15.3.5 to 15.3.7.
    if matches!(status, 204..=206) {
        item.wrong(KIND);
        return None;
    }
    u16::try_from(status).ok()
}

type Target = (Template, Option<Template>);

fn part(
    item: &Item<'_>,
    required: bool,
    seen: &mut Seen,
    scope: Scope,
) -> Option<(PartSettings, Target)> {
    const PATH: &str = "a path that begins with \"/\", with its query, percent-encoded";
    let table = item.table(PART)?;
    let group = table.need("group", "the name of a group");
    let group = group.and_then(|item| {
        let name = item.parsed("the name of a group", syntax::name)?;
        seen.uses(Kind::Group, &name, &item);
        Some(name)
    });
    let target = table.need("path", PATH).and_then(|item| item.parsed(PATH, |t| target(t, scope)));
    let mut part = PartSettings { method: "GET".to_owned(), required, ..PartSettings::default() };
    let method = |item: Item<'_>| item.parsed("a method, a token as \"POST\"", syntax::method);
    set(&mut part.method, table.item("method").and_then(method));
    set(&mut part.required, table.item("required").and_then(|item| item.boolean()));
    part.timeout = table.item("timeout").and_then(|item| item.duration(TIMES));
    part.default = table.item("default").and_then(|item| item.json());
    let pointer = |text: &str| Pointer::parse(text).ok_or_else(Wrong::default);
    let pick = table.item("pick");
    let pick =
        pick.and_then(|item| item.parsed("a JSON pointer as \"/items\" (RFC 6901)", pointer));
    part.pick = pick.unwrap_or_default();
    if part.required
        && let Some(item) = table.item("default")
    {
        item.problem("a default of a part that is required", "required = false", None);
    }
    part.group = group?;
    Some((part, target?))
}

fn target(text: &str, scope: Scope) -> Result<Target, Wrong> {
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let whole = parse(path, scope)?;
    let query = query.map(|query| parse(query, scope)).transpose()?;
    let fits = |template: &Template| is_target_part(&template.around());
    if !path.starts_with('/') || path.starts_with("//") || !fits(&whole) {
        return Wrong::plain();
    }
    match &query {
        Some(query) if !fits(query) => Wrong::plain(),
        _ => Ok((whole, query)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, Config, Problems};

    fn parse_file(rule: &str) -> Result<Config, Problems> {
        let file = format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n[group.g]\ntargets = ['a:1']\n\
             [[rule]]\nname = 'r'\n{rule}\n"
        );
        crate::config::parse(&file, "a.toml", &|_| None)
    }

    fn good(aggregate: &str) -> Aggregate {
        let config = parse_file(&format!("aggregate = {aggregate}"));
        let config = config.unwrap_or_else(|problems| panic!("{aggregate}: {problems}"));
        match config.rules[0].action.clone() {
            Action::Aggregate(aggregate) => aggregate,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn bad(rule: &str, expected: &str) {
        let found = match parse_file(rule) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        assert!(found.len() == 1 && found[0].contains(expected), "{rule}\n{found:#?}");
    }

    #[test]
    fn parts_are_read_in_the_order_of_the_file() {
        let one = good(
            "{ parts = { zebra = { group = 'g', path = '/z' }, ant = { group = 'g', path = '/a?b=#{query.b}' } } }",
        );
        let names: Vec<&str> = one.settings.parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["zebra", "ant"]);
        let whole = &one.settings;
        assert_eq!(
            (whole.timeout, whole.limit, whole.errors),
            (Duration::from_secs(2), 1 << 20, false)
        );
        assert_eq!((whole.status, whole.partial_status, whole.body), (200, 200, 64 << 10));
        let part = &whole.parts[0];
        assert_eq!((part.method.as_str(), part.required, &part.default), ("GET", true, &None));
        assert_eq!(one.targets[0].1, None);
        assert_eq!(one.targets[1].1.as_ref().map(Template::around).as_deref(), Some("b=x"));
    }

    #[test]
    fn everything_of_a_part_is_read() {
        let text = "{ on_failure = 'partial', errors = true, timeout = '1s', limit = '2KiB', body = '1KiB', status = 201, \
             partial_status = 203, parts = { a = { group = 'g', path = '/', method = 'POST', timeout = '500ms', \
             default = { n = [1, 2.5, true, 'x'], e = [] }, pick = '/items' }, b = { group = 'g', path = '/', required = true } } }";
        let settings = good(text).settings;
        let part = &settings.parts[0];
        assert_eq!(part.default.as_deref(), Some(r#"{"n":[1,2.5,true,"x"],"e":[]}"#));
        assert_eq!((part.required, settings.parts[1].required), (false, true));
        assert_eq!(part.timeout, Some(Duration::from_millis(500)));
        assert_eq!(part.pick, Pointer::parse("/items").unwrap());
        assert_eq!((settings.status, settings.partial_status, settings.limit), (201, 203, 2048));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let part = |part: &str| format!("aggregate = {{ parts = {{ a = {part} }} }}");
        let whole = |keys: &str| {
            format!("aggregate = {{ {keys}, parts = {{ a = {{ group = 'g', path = '/' }} }} }}")
        };
        bad("aggregate = {}", "a table of parts");
        bad("aggregate = { parts = {} }", "found 0 parts");
        bad(&part("{ group = 'none', path = '/' }"), "the name of a group");
        bad(&part("{ group = 'g' }"), "a path that begins");
        bad(&part("{ group = 'g', path = 'x' }"), "a path that begins");
        bad(&part("{ group = 'g', path = '//x' }"), "a path that begins");
        bad(&part("{ group = 'g', path = '/#x' }"), "a path that begins");
        bad(&part("{ group = 'g', path = '/#{nothing}' }"), "are replaced");
        bad(&part("{ group = 'g', path = '/', default = 1 }"), "a part that is required");
        bad(&part("{ group = 'g', path = '/', required = false, default = 1979-05-27 }"), "JSON");
        bad(&part("{ group = 'g', path = '/', required = false, default = nan }"), "JSON");
        bad(&part("{ group = 'g', path = '/', timeout = '3s' }"), "above that of the whole");
        bad(&part("{ group = 'g', path = '/', pick = 'x' }"), "a JSON pointer");
        bad(&whole("status = 204"), "with a body");
        bad(&whole("status = 300"), "with a body");
        bad(&whole("on_failure = 'ignore'"), "one of fail, partial");
        bad(
            "aggregate = { errors = true, parts = { _errors = { group = 'g', path = '/' } } }",
            "another name",
        );
        let many: Vec<String> =
            (0..33).map(|n| format!("p{n} = {{ group = 'g', path = '/' }}")).collect();
        bad(&format!("aggregate = {{ parts = {{ {} }} }}", many.join(", ")), "33 parts");
        bad(&format!("forward = 'g'\n{}", whole("errors = true")), "exactly one of");
    }
}
