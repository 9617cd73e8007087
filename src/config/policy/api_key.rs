//! `api_key` of a policy: its keys, and what may be written there. Called by the policies' reader.
//!
//! The files of consumers are only named here. What a pattern matches is found out as often as the main file is read.

use crate::config::check::Seen;
use crate::config::file;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::policy::rate;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::policy::api_key::{Every, Period, Plan, Quota, Rate, Settings, meter};
use std::path::{Path, PathBuf};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] =
    &[("policy.*.api_key", KEYS), ("policy.*.api_key.plan.*", PLAN)];

const KEYS: Keys =
    &["header", "scheme", "query", "consumers", "plan", "consumer_header", "plan_header", "fields"];
const PLAN: Keys = &["rate", "burst", "quota", "offset"];

/// What has a meaning of its own in every request.
const TAKEN: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
];
/// So that a plan's position fits into two octets.
const MOST_PLANS: usize = 10_000;
/// An offset, either way.
const FURTHEST: i64 = 24 * 3600;

/// `api_key = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let header = field_or(&table, "header", Some("x-api-key"))?;
    let query = table.item("query").and_then(|item| item.parsed(QUERY, query));
    let scheme = table.item("scheme").and_then(|item| {
        let scheme =
            item.parsed("a scheme such as \"Bearer\"", |text| match syntax::is_token(text) {
                true => Ok(Box::from(text)),
                false => Wrong::plain(),
            });
        if header.is_none() {
            item.problem("a scheme without a header", "header = NAME beside it", None);
        }
        scheme
    });
    if header.is_none() && query.is_none() {
        let path = format!("{}.header", table.path);
        table.problem(path, "neither a header nor a query parameter", "one of them, or both");
    }
    let policy = item.path.strip_prefix("policy.").and_then(|path| path.strip_suffix(".api_key"));
    Some(Settings {
        policy: Box::from(policy.unwrap_or_default()),
        header,
        scheme,
        query,
        consumers: consumers(&table),
        plans: plans(&table),
        consumer_header: field_or(&table, "consumer_header", Some("x-consumer"))?,
        plan_header: field_or(&table, "plan_header", None)?,
        fields: table.item("fields").and_then(|item| item.boolean()).unwrap_or(true),
    })
}

/// The lower-case name of a field, or `"none"`. `None` where it is neither.
fn field_or(table: &Table<'_>, key: &str, default: Option<&str>) -> Option<Option<Box<str>>> {
    let Some(item) = table.item(key) else { return Some(default.map(Box::from)) };
    item.parsed("the name of a field, or \"none\"", |text| {
        let name = text.to_ascii_lowercase();
        match name.as_str() {
            "none" => Ok(None),
            name if TAKEN.contains(&name) => {
                Wrong::expected(format!("a field that means nothing else, as {name} does"))
            }
            name if syntax::is_token(name) => Ok(Some(Box::from(name))),
            _ => Wrong::plain(),
        }
    })
}

const QUERY: &str = "the name of a query parameter in plain letters, such as \"api_key\"";

fn query(text: &str) -> Result<Box<str>, Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let fits = !text.is_empty() && text.len() <= 64 && text.bytes().all(plain);
    if fits { Ok(Box::from(text)) } else { Wrong::plain() }
}

fn consumers(table: &Table<'_>) -> Vec<PathBuf> {
    const KIND: &str = "a path such as \"consumers.toml\" or \"consumers.d/*.toml\"";
    let Some(item) = table.need("consumers", KIND) else { return Vec::new() };
    let items = if item.is_array() { item.array(KIND) } else { vec![item] };
    let mut found: Vec<PathBuf> = Vec::new();
    for item in items {
        let from = item.place();
        let path = item.parsed(KIND, |text| match text.is_empty() || text.contains('\0') {
            true => Wrong::plain(),
            false => Ok(text.to_owned()),
        });
        let Some(path) = path else { continue };
        match file::included(Path::new(&*from.file), &path) {
            Ok(paths) => {
                let new = |path: &PathBuf| !found.contains(path);
                let paths: Vec<PathBuf> = paths.into_iter().filter(new).collect();
                found.extend(paths);
            }
            Err(error) => item.problem(error, "a folder that can be read", None),
        }
    }
    found
}

fn plans(table: &Table<'_>) -> Vec<Plan> {
    let Some(item) = table.item("plan") else { return Vec::new() };
    let entries = item.entries("tables [policy.NAME.api_key.plan.NAME]");
    if entries.len() > MOST_PLANS {
        item.problem(format!("{} plans", entries.len()), format!("at most {MOST_PLANS}"), None);
        return Vec::new();
    }
    entries.into_iter().filter_map(|(name, item)| plan(name, &item)).collect()
}

fn plan(name: &str, item: &Item<'_>) -> Option<Plan> {
    let table = item.table(PLAN)?;
    if syntax::name(name).is_err() {
        item.problem(format!("the name {name:?}"), syntax::NAME, None);
    }
    let burst = table.item("burst").and_then(|item| {
        if table.item("rate").is_none() {
            item.problem("a burst without a rate", "rate beside it", None);
        }
        item.integer(1..=rate::MOST_BURST)
    });
    let rate = table.item("rate").and_then(|item| item.parsed(rate::LIMIT, rate::limit));
    let rate = rate.map(|(count, seconds)| Rate { count, seconds, burst });
    let offset = table.item("offset").and_then(|item| {
        if table.item("quota").is_none() {
            item.problem("an offset without a quota", "quota beside it", None);
        }
        item.parsed(OFFSET, offset)
    });
    let quota = table.item("quota").and_then(|item| item.parsed(QUOTA, quota));
    let quota = quota.map(|(limit, every)| {
        let period = Period { every, offset: offset.unwrap_or(0) };
        Quota { limit, period }
    });
    Some(Plan { name: Box::from(name), rate, quota })
}

const QUOTA: &str = "a number of requests and day, week or month, as \"10000/day\", or \"none/month\" to only count";

fn quota(text: &str) -> Result<(Option<u64>, Every), Wrong> {
    let Some((limit, every)) = text.split_once('/') else { return Wrong::plain() };
    let word = Every::WORDS.iter().find(|(word, _)| *word == every);
    let Some((_, every)) = word else { return Wrong::plain() };
    if limit == "none" {
        return Ok((None, *every));
    }
    let digits = limit.bytes().all(|byte| byte.is_ascii_digit());
    match limit.parse() {
        Ok(limit) if digits && limit <= meter::MOST => Ok((Some(limit), *every)),
        _ if digits && !limit.is_empty() => Wrong::expected(format!("at most {}", meter::MOST)),
        _ => Wrong::plain(),
    }
}

const OFFSET: &str = "how much later than in UTC the period begins, from \"-24h\" to \"24h\"";

fn offset(text: &str) -> Result<i64, Wrong> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let seconds = crate::config::units::duration(rest)?.as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    if seconds <= FURTHEST { Ok(sign * seconds) } else { Wrong::plain() }
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::policy::api_key::{Every, Period, Quota, Rate, Settings};

    fn parse(text: &str) -> Result<Settings, String> {
        let text = format!(
            "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\npolicy = ['keys']\n[policy.keys.api_key]\n{text}"
        );
        let config = config::parse(&text, "a.toml", &|_| None).map_err(|p| p.to_string())?;
        match config.policies.into_iter().next().map(|policy| policy.settings) {
            Some(crate::policy::Settings::ApiKey(settings)) => Ok(*settings),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn has_defaults() {
        let settings = parse("consumers = 'c.toml'").unwrap();
        assert_eq!((&*settings.policy, settings.header.as_deref()), ("keys", Some("x-api-key")));
        assert_eq!((settings.query, settings.scheme, settings.fields), (None, None, true));
        assert_eq!(settings.consumer_header.as_deref(), Some("x-consumer"));
        assert_eq!((settings.plan_header, settings.plans.len()), (None, 0));
        assert_eq!(settings.consumers, [std::path::Path::new("c.toml")]);
    }

    #[test]
    fn reads_every_key() {
        let settings = parse(
            "header = 'Authorization'\nscheme = 'Bearer'\nquery = 'key'\nconsumers = ['a', 'b', 'a']\n\
             consumer_header = 'none'\nplan_header = 'X-Plan'\nfields = false\n\
             [policy.keys.api_key.plan.gold]\nrate = '20/m'\nburst = 7\nquota = '10/week'\noffset = '-24h'\n\
             [policy.keys.api_key.plan.free]\nquota = 'none/month'\n[policy.keys.api_key.plan.none]",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.header.as_deref(), Some("authorization"));
        assert_eq!(settings.scheme.as_deref(), Some("Bearer"));
        assert_eq!((settings.query.as_deref(), settings.consumers.len()), (Some("key"), 2));
        assert_eq!((settings.consumer_header, settings.fields), (None, false));
        assert_eq!(settings.plan_header.as_deref(), Some("x-plan"));
        let gold = settings.plans.iter().find(|plan| &*plan.name == "gold").unwrap();
        assert_eq!(gold.rate, Some(Rate { count: 20, seconds: 60, burst: Some(7) }));
        let period = |every, offset| Period { every, offset };
        let quotas: Vec<Option<Quota>> = settings.plans.iter().map(|p| p.quota).collect();
        assert_eq!(
            quotas,
            [
                Some(Quota { limit: Some(10), period: period(Every::Week, -86_400) }),
                Some(Quota { limit: None, period: period(Every::Month, 0) }),
                None
            ]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let plan = "[policy.keys.api_key.plan.gold]";
        for (text, expected) in [
            ("header = 'a b'", "the name of a field"),
            ("header = 'Host'", "means nothing else, as host does"),
            ("header = 'none'", "neither a header nor a query parameter"),
            ("header = 'none'\nquery = 'k'\nscheme = 'Bearer'", "header = NAME beside it"),
            ("query = 'a b'", "the name of a query parameter"),
            ("plan_header = 'content-length'", "means nothing else"),
            (&format!("{plan}\nquota = '10'"), "\"10000/day\""),
            (&format!("{plan}\nquota = '10/hour'"), "day, week or month"),
            (&format!("{plan}\nquota = '/day'"), "day, week or month"),
            (&format!("{plan}\nquota = '-1/day'"), "day, week or month"),
            (&format!("{plan}\nquota = '9999999999999/day'"), "at most 1099511627775"),
            (&format!("{plan}\nquota = '1/day'\noffset = '25h'"), "from \"-24h\" to \"24h\""),
            (&format!("{plan}\noffset = '1h'"), "quota beside it"),
            (&format!("{plan}\nrate = '10'"), "did you mean \"10/s\"?"),
            (&format!("{plan}\nburst = 10"), "rate beside it"),
            (&format!("{plan}\nquotas = '1/day'"), "unknown key"),
            ("[policy.keys.api_key.plan.'a b']", "the name \"a b\""),
        ] {
            let problems = parse(&format!("consumers = []\n{text}")).expect_err(text);
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let problems = parse("").unwrap_err();
        assert!(problems.contains("policy.keys.api_key.consumers: found nothing"), "{problems}");
        let problems = parse("consumers = 'none-such/*.toml'").unwrap_err();
        assert!(problems.contains("a folder that can be read"), "{problems}");
    }
}
