//! `cache` of a rule, and `[cache]`.
//!
//! Called by the readers of rules, and of the tables that there are once; [`doubts`] by those of the whole file. What the settings
//! mean is `cache`'s.

use crate::cache::{Global, KeySettings, Query, Settings};
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{Config, Problem};
use crate::http::request::is_token;
use crate::transform::{RequestSettings, Template};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.cache", KEYS),
    ("rule.cache.key", KEY),
    ("rule.cache.key.query", QUERY),
    ("cache", GLOBAL),
];

const KEYS: Keys = &[
    "default_ttl",
    "heuristic",
    "max_ttl",
    "negative",
    "key",
    "stale_while_revalidate",
    "stale_if_error",
    "authorization",
    "ignore_cookies",
    "honour_request",
    "tags",
    "max_object",
    "status",
    "lock",
];
const KEY: Keys = &["query", "headers", "cookies"];
const QUERY: Keys = &["except"];
/// The keys of `[cache]`.
pub(in crate::config) const GLOBAL: Keys = &["size"];

const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const LONGEST_LOCK: Duration = Duration::from_secs(300);
const SHORTEST: Duration = Duration::from_millis(1);
const SMALLEST_STORE: u64 = 1 << 20;
const LARGEST_STORE: u64 = 1 << 40;
const LARGEST_OBJECT: u64 = 1 << 32;
const MOST_NAMES: usize = 64;

/// `[cache]`
pub(in crate::config) fn global(table: &Table<'_>, cache: &mut Global) {
    let size = table.item("size");
    set(&mut cache.size, size.and_then(|item| item.size(SMALLEST_STORE..=LARGEST_STORE)));
}

/// `cache = true`, `false` or `{ ... }`
pub(super) fn rule(table: &Table<'_>) -> Option<Settings> {
    let item = table.item("cache")?;
    if table.item("forward").is_none() {
        item.problem("a cache where nothing is forwarded", "forward beside it, or no cache", None);
    }
    if !item.is_table() {
        return item
            .boolean_or("true, false or a table")
            .filter(|on| *on)
            .map(|_| Settings::default());
    }
    let table = item.table(KEYS)?;
    let mut settings = Settings::default();
    let time = |key: &str, from: Duration, to: Duration| {
        table.item(key).and_then(|item| item.duration(from..=to))
    };
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean());
    set(&mut settings.default_ttl, time("default_ttl", Duration::ZERO, LONGEST));
    set(&mut settings.max_ttl, time("max_ttl", SHORTEST, LONGEST));
    let stale = time("stale_while_revalidate", Duration::ZERO, LONGEST);
    set(&mut settings.stale_while_revalidate, stale);
    set(&mut settings.stale_if_error, time("stale_if_error", Duration::ZERO, LONGEST));
    set(&mut settings.lock, time("lock", Duration::ZERO, LONGEST_LOCK));
    set(&mut settings.heuristic, flag("heuristic"));
    set(&mut settings.authorization, flag("authorization"));
    set(&mut settings.ignore_cookies, flag("ignore_cookies"));
    set(&mut settings.honour_request, flag("honour_request"));
    set(&mut settings.status, flag("status"));
    let object = table.item("max_object");
    set(&mut settings.max_object, object.and_then(|item| item.size(1..=LARGEST_OBJECT)));
    set(&mut settings.tags, table.item("tags").and_then(|item| tags(&item)));
    if let Some(item) = table.item("negative") {
        settings.negative = negative(&item);
    }
    if let Some(table) = table.item("key").and_then(|item| item.table(KEY)) {
        settings.key = key(&table);
    }
    if settings.default_ttl > settings.max_ttl
        && let Some(item) = table.item("default_ttl")
    {
        item.problem("a default_ttl above max_ttl", "one of at most max_ttl", None);
    }
    Some(settings)
}

/// That what a target is asked for follows from what stored responses are told apart by (hazard CACHE-02).
pub(super) fn tell_apart(
    table: &Table<'_>,
    cache: Option<&Settings>,
    request: Option<&RequestSettings>,
) {
    let (Some(cache), Some(request)) = (cache, request) else { return };
    let counts = |read: &str| match read.split_once('.') {
        Some(("header", name)) => cache.key.headers.iter().any(|known| known == name),
        Some(("cookie", name)) => cache.key.cookies.iter().any(|known| known == name),
        _ => false,
    };
    let mut reads = request.of_target().flat_map(Template::reads_beside_url);
    if let (Some(read), Some(item)) = (reads.find(|read| !counts(read)), table.item("cache")) {
        item.problem(
            format!("a target asked by {read}, which stored responses do not tell apart"),
            "cache.key with the headers and cookies that request reads, or no cache",
            None,
        );
    }
}

/// Rules whose policies name every sender, and that store nothing of such.
pub(in crate::config) fn doubts(config: &Config) -> Vec<Problem> {
    let names = |policies: &[String]| {
        let listed = config.policies.iter().filter(|policy| policies.contains(&policy.name));
        listed
            .filter(|policy| !policy.dry_run && policy.settings.identifies())
            .map(|policy| policy.name.clone())
            .next()
    };
    let closed = config
        .rules
        .iter()
        .filter(|rule| rule.traffic.cache.as_ref().is_some_and(|cache| !cache.authorization));
    let doubtful = closed.filter_map(|rule| Some((rule, names(&rule.policies)?)));
    doubtful
        .map(|(rule, policy)| Problem {
            place: rule.place.clone(),
            key: format!("rule.{}.cache", rule.name),
            found: format!("nothing that could be stored: policy {policy:?} names every sender"),
            expected: "cache = { authorization = true }, which stores what is `public`".to_owned(),
            hint: None,
        })
        .collect()
}

const TAGS: &str = "the name of a field, or \"none\"";

fn tags(item: &Item<'_>) -> Option<Option<String>> {
    item.parsed(TAGS, |text| match text {
        "none" => Ok(None),
        name if is_token(name.as_bytes()) => Ok(Some(name.to_ascii_lowercase())),
        _ => Wrong::plain(),
    })
}

// `{ "404" = "10s" }`
fn negative(item: &Item<'_>) -> Vec<(u16, Duration)> {
    let mut all = Vec::new();
    for (status, item) in item.entries("a table of statuses and times") {
        let code = status.parse().ok().filter(|code| (400..=599).contains(code));
        match code {
            Some(code) => {
                let time = item.duration(SHORTEST..=LONGEST);
                all.extend(time.map(|time| (code, time)));
            }
            None => item.problem(format!("{status:?}"), "a status from 400 to 599", None),
        }
    }
    all
}

fn key(table: &Table<'_>) -> KeySettings {
    let mut key = KeySettings::default();
    set(&mut key.query, table.item("query").and_then(|item| query(&item)));
    let field = "the name of a field";
    let is_field = |name: &str| is_token(name.as_bytes());
    key.headers =
        table.item("headers").map(|item| names(&item, field, is_field)).unwrap_or_default();
    for name in &mut key.headers {
        name.make_ascii_lowercase();
    }
    let cookies = table.item("cookies");
    key.cookies =
        cookies.map(|item| names(&item, "the name of a cookie", is_field)).unwrap_or_default();
    key
}

const QUERIES: &str = "\"all\", \"none\", a list of names, or { except = [names] }";

fn query(item: &Item<'_>) -> Option<Query> {
    let parameter = "the name of a parameter";
    let is_parameter = |name: &str| !name.is_empty();
    if item.is_array() {
        return Some(Query::Only(names(item, parameter, is_parameter)));
    }
    if item.is_table() {
        let except = item.table(QUERY)?.need("except", "a list of names")?;
        return Some(Query::Except(names(&except, parameter, is_parameter)));
    }
    item.parsed(QUERIES, |text| match text {
        "all" => Ok(Query::All),
        "none" => Ok(Query::None),
        _ => Wrong::plain(),
    })
}

fn names(item: &Item<'_>, kind: &str, is: impl Fn(&str) -> bool) -> Vec<String> {
    let items = item.one_or_more(kind);
    if items.len() > MOST_NAMES {
        item.problem(format!("{} names", items.len()), format!("at most {MOST_NAMES}"), None);
    }
    let name = |item: &Item<'_>| {
        item.parsed(kind, |text| if is(text) { Ok(text.to_owned()) } else { Wrong::plain() })
    };
    items.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "\n[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n[group.g]\ntargets = ['a:1']\n\
        [policy.p]\nbasic = { files = '/u' }\n[policy.r]\nrate = { limit = '1/s' }\n";

    fn parse(rule: &str) -> Result<Config, Vec<String>> {
        let text = format!("[[rule]]\nname = 'r'\n{rule}{REST}");
        let shown = |problems: crate::config::Problems| {
            problems.0.iter().map(Problem::to_string).collect::<Vec<_>>()
        };
        crate::config::parse(&text, "a.toml", &|_| None).map_err(shown)
    }

    fn of(cache: &str) -> Option<Settings> {
        let config = parse(&format!("forward = 'g'\ncache = {cache}")).unwrap();
        config.rules[0].traffic.cache.clone()
    }

    #[test]
    fn reads_what_a_rule_says() {
        assert_eq!(of("true"), Some(Settings::default()));
        assert_eq!(of("{}"), Some(Settings::default()));
        assert_eq!(of("false"), None);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let query = |key: &str| of(&format!("{{ key = {{ query = {key} }} }}")).unwrap().key.query;
        assert_eq!(query("'all'"), Query::All);
        assert_eq!(query("'none'"), Query::None);
        assert_eq!(query("['a', 'b']"), Query::Only(names(&["a", "b"])));
        assert_eq!(query("{ except = ['a'] }"), Query::Except(names(&["a"])));
        let all = of("{ default_ttl = '1s', max_ttl = '2s', heuristic = true, tags = 'X-Tag', \
            negative = { 404 = '3s' }, key = { headers = ['X-A'], cookies = 'C' }, lock = '0s', \
            stale_while_revalidate = '4s', stale_if_error = '5s', authorization = true, \
            ignore_cookies = true, honour_request = true, max_object = '1KiB', status = false }");
        let expected = Settings {
            default_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(2),
            heuristic: true,
            tags: Some("x-tag".to_owned()),
            negative: vec![(404, Duration::from_secs(3))],
            key: KeySettings {
                query: Query::All,
                headers: names(&["x-a"]),
                cookies: names(&["C"]),
            },
            lock: Duration::ZERO,
            stale_while_revalidate: Duration::from_secs(4),
            stale_if_error: Duration::from_secs(5),
            authorization: true,
            ignore_cookies: true,
            honour_request: true,
            max_object: 1024,
            status: false,
        };
        assert_eq!(all, Some(expected));
        assert_eq!(of("{ tags = 'none' }").unwrap().tags, None);
    }

    #[test]
    fn says_what_is_wrong() {
        for (rule, part) in [
            ("forward = 'g'\ncache = 'on'", "expected true, false or a table"),
            ("forward = 'g'\ncache = { ttl = '1s' }", "the unknown key \"ttl\""),
            ("respond = { status = 200 }\ncache = true", "a cache where nothing is forwarded"),
            ("forward = 'g'\ncache = { negative = { 200 = '1s' } }", "a status from 400 to 599"),
            ("forward = 'g'\ncache = { default_ttl = '48h' }", "at most max_ttl"),
            ("forward = 'g'\ncache = { tags = 'a b' }", "the name of a field, or \"none\""),
            ("forward = 'g'\ncache = { key = { query = 'a' } }", "\"all\", \"none\""),
            ("forward = 'g'\ncache = { key = { query = {} } }", "a list of names"),
            ("forward = 'g'\ncache = { key = { headers = ['a b'] } }", "the name of a field"),
            ("forward = 'g'\n[cache]\nsize = '1KiB'", "from 1MiB to"),
            (
                "forward = 'g'\ncache = true\nrequest = { path = '/#{header.X-V}' }",
                "a target asked by header.x-v, which stored responses do not tell apart",
            ),
            (
                "forward = 'g'\ncache = { key = { cookies = 'c' } }\n\
                 request = { add_prefix = '/#{cookie.c}', query = { set = { a = '#{client_ip}' } } }",
                "a target asked by client_ip",
            ),
        ] {
            let found = parse(rule).expect_err(rule);
            assert!(found.len() == 1 && found[0].contains(part), "{rule}\n{found:#?}");
        }
        let config = parse("forward = 'g'\n[cache]\nsize = '1MiB'").unwrap();
        assert_eq!(config.cache, Global { size: 1 << 20 });
    }

    #[test]
    fn what_the_key_holds_may_decide_what_is_asked_for() {
        let key = "cache = { key = { headers = 'X-V', cookies = 'c' } }";
        for request in [
            "path = '/#{header.x-v}/#{path}'",
            "host = '#{cookie.c}.internal'",
            "path = '/#{host}/#{query.a}'\nheaders = { set = { x-ip = '#{client_ip}' } }",
        ] {
            let request = request.replace('\n', ", ");
            let parsed = parse(&format!("forward = 'g'\n{key}\nrequest = {{ {request} }}"));
            assert!(parsed.is_ok(), "{request}: {parsed:?}");
        }
    }

    #[test]
    fn doubts_a_cache_that_stores_nothing() {
        for (rule, doubtful) in [
            ("cache = true\npolicy = 'p'", true),
            ("cache = true\npolicy = ['r', 'p']", true),
            ("cache = { authorization = true }\npolicy = 'p'", false),
            ("cache = true\npolicy = 'r'", false),
            ("policy = 'p'", false),
        ] {
            let config = parse(&format!("forward = 'g'\n{rule}")).unwrap();
            assert_eq!(!doubts(&config).is_empty(), doubtful, "{rule}");
        }
    }
}
