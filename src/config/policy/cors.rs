//! `cors` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{Config, Problem, syntax};
use crate::policy::Settings as Kind;
use crate::policy::cors::Settings;
use crate::policy::cors::origin::{self, Pattern};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.cors", KEYS)];

const KEYS: Keys = &[
    "origins",
    "methods",
    "headers",
    "expose",
    "max_age",
    "credentials",
    "private_network",
    "enforce",
];

/// The most entries of one list.
const MOST: usize = 1000;
/// The longest that a browser keeps the answer to a preflight: a day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// `cors = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean()).unwrap_or(false);
    let default = Settings::default();
    let field = |text: &str| {
        let fits = syntax::is_token(text);
        if fits { Ok(text.to_ascii_lowercase()) } else { Wrong::plain() }
    };
    const FIELDS: &str = "the name of a field, or \"*\"";
    let settings = Settings {
        origins: origins(&table)?,
        methods: words(&table, "methods", "a method such as \"GET\", or \"*\"", syntax::method)
            .unwrap_or(default.methods),
        headers: words(&table, "headers", FIELDS, field).unwrap_or_default(),
        expose: words(&table, "expose", FIELDS, field).unwrap_or_default(),
        max_age: table
            .item("max_age")
            .and_then(|item| item.duration(Duration::ZERO..=LONGEST))
            .map_or(default.max_age, |age| age.as_secs()),
        credentials: flag("credentials"),
        private_network: flag("private_network"),
        enforce: flag("enforce"),
    };
    judge(&table, &settings);
    Some(settings)
}

fn origins(table: &Table<'_>) -> Option<Vec<Pattern>> {
    let item = table.need("origins", origin::KIND)?;
    let items = item.one_or_more(origin::KIND);
    bound(&item, items.len());
    let origins: Vec<Pattern> = items
        .iter()
        .filter_map(|item| {
            item.parsed(origin::KIND, |text| {
                Pattern::parse(text).map_err(|hint| Wrong { expected: String::new(), hint })
            })
        })
        .collect();
    if origins.len() > 1 && origins.contains(&Pattern::Any) {
        item.problem("\"*\" beside other origins", "\"*\" alone, or the origins", None);
    }
    Some(origins)
}

fn words(
    table: &Table<'_>,
    key: &str,
    kind: &str,
    parse: impl Fn(&str) -> Result<String, Wrong>,
) -> Option<Vec<String>> {
    let item = table.item(key)?;
    let items = if item.is_array() { item.array(kind) } else { vec![item.clone()] };
    bound(&item, items.len());
    Some(items.iter().filter_map(|item| item.parsed(kind, &parse)).collect())
}

fn bound(item: &Item<'_>, count: usize) {
    if count > MOST {
        item.problem(format!("{count} entries"), format!("at most {MOST}"), None);
    }
}

/// What would let every page act for its visitor (hazard AUTH-19), and what browsers would not take for what it seems.
fn judge(table: &Table<'_>, settings: &Settings) {
    if !settings.credentials {
        return;
    }
    let note = |key: &str, found: &str, expected: &str| {
        if let Some(item) = table.item(key) {
            item.problem(found, expected, None);
        }
    };
    if settings.origins.contains(&Pattern::Any) {
        let expected = "the origins by name: every page of the world could act for its visitor";
        note("origins", "\"*\" together with credentials = true", expected);
    }
    if settings.origins.contains(&Pattern::Null) {
        let expected = "no \"null\": any page can make itself a frame of that origin";
        note("origins", "\"null\" together with credentials = true", expected);
    }
    for (key, words) in [
        ("methods", &settings.methods),
        ("headers", &settings.headers),
        ("expose", &settings.expose),
    ] {
        if words.iter().any(|word| word == "*") {
            let expected =
                "names: with credentials, browsers take \"*\" for a name (Fetch, section 3.2.3)";
            note(key, "\"*\" together with credentials = true", expected);
        }
    }
}

/// Two of them over one request would answer for each other, and a browser refuses an answer that names two origins.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let of_kind = |name: &&String| {
        let policy = config.policies.iter().find(|p| p.name == **name);
        policy.is_some_and(|p| matches!(p.settings, Kind::Cors(_)))
    };
    let mut note = |place: &crate::config::Place, key: String, names: Vec<&String>| {
        if names.len() < 2 {
            return;
        }
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        problems.push(Problem {
            place: place.clone(),
            key,
            found: format!("{} for the same requests", names.join(" and ")),
            expected: "one policy of kind cors, on the listener or on the rule".to_owned(),
            hint: None,
        });
    };
    for listener in &config.listeners {
        let names = listener.policies.iter().filter(of_kind).collect();
        note(&listener.place, format!("listener.{}.policy", listener.name), names);
    }
    for rule in &config.rules {
        let own: Vec<&String> = rule.policies.iter().filter(of_kind).collect();
        if own.is_empty() {
            continue;
        }
        let serves = |name: &String| rule.listeners.is_empty() || rule.listeners.contains(name);
        let listeners = config.listeners.iter().filter(|l| serves(&l.name));
        let theirs = listeners.filter_map(|l| l.policies.iter().find(of_kind)).next();
        let names = theirs.into_iter().chain(own).collect();
        note(&rule.place, format!("rule.{}.policy", rule.name), names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "
[[listener]]
name = 'web'
bind = ['127.0.0.1:0']
policy = 'c'
[[rule]]
name = 'r'
respond = { status = 200 }
";

    #[track_caller]
    fn check(cors: &str, expected: &[&str]) {
        let text = format!("[policy.c]\ncors = {{ {cors} }}\n{REST}");
        let problems = crate::config::parse(&text, "a.toml", &|_| None).err().unwrap_or_default().0;
        assert_eq!(problems.len(), expected.len(), "{cors}: {problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.to_string().contains(expected), "{problem}\n--- without\n{expected}");
        }
    }

    #[test]
    fn reads_what_a_policy_says() {
        let text = format!(
            "[policy.c]\ncors = {{ origins = ['HTTPS://A.test:443', 'https://*.b.test'], methods = 'PUT', \
             headers = ['X-A'], expose = ['Grpc-Status'], max_age = '1h', credentials = true, \
             private_network = true, enforce = true }}\n{REST}"
        );
        let config = crate::config::parse(&text, "a.toml", &|_| None).unwrap();
        let expected = Settings {
            origins: ["https://a.test", "https://*.b.test"]
                .map(|o| Pattern::parse(o).unwrap())
                .to_vec(),
            methods: vec!["PUT".to_owned()],
            headers: vec!["x-a".to_owned()],
            expose: vec!["grpc-status".to_owned()],
            max_age: 3600,
            credentials: true,
            private_network: true,
            enforce: true,
        };
        assert_eq!(config.policies[0].settings, Kind::Cors(Box::new(expected)));
    }

    // Hazard AUTH-19.
    #[test]
    fn what_would_let_everybody_in_is_refused() {
        check("origins = '*'", &[]);
        check("origins = '*', credentials = false", &[]);
        check("origins = 'null'", &[]);
        check("origins = '*', credentials = true", &["found \"*\" together with credentials"]);
        check(
            "origins = 'null', credentials = true",
            &["found \"null\" together with credentials"],
        );
        check(
            "origins = 'https://a.test', credentials = true, headers = ['*'], expose = '*', methods = '*'",
            &["headers: found \"*\"", "expose: found \"*\"", "methods: found \"*\""],
        );
    }

    #[test]
    fn wrong_values_are_named() {
        check("", &["policy.c.cors.origins: found nothing, expected an origin"]);
        check("origins = []", &["found an empty list"]);
        check("origins = ['*', 'https://a.test']", &["\"*\" beside other origins"]);
        check(
            "origins = 'https://a.test/'",
            &["help: an origin has no path: did you mean \"https://a.test\"?"],
        );
        check("origins = 'a.test'", &["help: did you mean \"https://a.test\"?"]);
        check("origins = '*', methods = 'get'", &["did you mean \"GET\"?"]);
        check("origins = '*', headers = ['a b']", &["expected the name of a field"]);
        check("origins = '*', max_age = '25h'", &["a duration from 0ms to 24h"]);
        check("origins = '*', origin = 'x'", &["unknown key \"origin\""]);
    }

    #[test]
    fn one_policy_speaks_for_a_request() {
        let file = |listener: &str, rule: &str| {
            let text = format!(
                "[policy.a]\ncors = {{ origins = '*' }}\n[policy.b]\ncors = {{ origins = '*' }}\n\
                 [[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\n{listener}\n\
                 [[listener]]\nname = 'other'\nbind = ['127.0.0.1:0']\n\
                 [[rule]]\nname = 'r'\nrespond = {{ status = 200 }}\n{rule}"
            );
            let problems = crate::config::parse(&text, "a.toml", &|_| None).err();
            problems.unwrap_or_default().0.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(file("policy = 'a'", ""), none);
        assert_eq!(file("policy = 'a'", "listener = 'other'\npolicy = 'b'"), none);
        for (listener, rule, key) in [
            ("policy = ['a', 'b']", "", "listener.web.policy: found \"a\" and \"b\""),
            ("policy = 'a'", "policy = 'b'", "rule.r.policy: found \"a\" and \"b\""),
            ("", "policy = ['b', 'a']", "rule.r.policy: found \"b\" and \"a\""),
        ] {
            let found = file(listener, rule);
            assert!(found.len() == 1 && found[0].contains(key), "{found:?}");
        }
    }
}
