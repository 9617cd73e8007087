//! `headers` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::action::fields;
use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{Config, Policy, Problem, syntax};
use crate::policy::Settings as Kind;
use crate::policy::headers::{Preset, Settings, Use, refused};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.headers", KEYS)];

const KEYS: Keys = &["preset", "set", "default", "remove"];

/// The most fields of one key.
const MOST: usize = 100;

/// `headers = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let presets = [("off", Preset::Off), ("api", Preset::Api), ("web", Preset::Web)];
    let settings = Settings {
        preset: table.item("preset").and_then(|item| item.choice(&presets)).unwrap_or_default(),
        set: given(&table, "set"),
        default: given(&table, "default"),
        remove: table.item("remove").map(|item| removed(&item)).unwrap_or_default(),
    };
    if table.given().next().is_none() {
        let expected = "one of preset, set, default, remove";
        table.problem(item.path.clone(), "nothing to do", expected);
    }
    once(&table, &settings);
    Some(settings)
}

fn given(table: &Table<'_>, key: &str) -> Vec<(String, String)> {
    let Some(item) = table.item(key) else { return Vec::new() };
    let refused = |name: &str| refused(&name.to_ascii_lowercase(), Use::Give);
    let mut fields = fields(&item, refused);
    if fields.len() > MOST {
        item.problem(format!("{} fields", fields.len()), format!("at most {MOST}"), None);
    }
    for (name, _) in &mut fields {
        name.make_ascii_lowercase();
    }
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    for name in twice(&names) {
        item.problem(format!("{name} twice"), "each field once, with one value", None);
    }
    fields
}

fn removed(item: &Item<'_>) -> Vec<String> {
    const KIND: &str = "the name of a field";
    let items = item.one_or_more(KIND);
    if items.len() > MOST {
        item.problem(format!("{} fields", items.len()), format!("at most {MOST}"), None);
    }
    let name = |item: &Item<'_>| {
        item.parsed(KIND, |text| {
            let name = text.to_ascii_lowercase();
            match refused(&name, Use::Remove) {
                _ if !syntax::is_token(&name) => Wrong::plain(),
                Some(expected) => Wrong::expected(expected),
                None => Ok(name),
            }
        })
    };
    items.iter().filter_map(name).collect()
}

/// A field that is given in two ways, of which only one could be.
fn once(table: &Table<'_>, settings: &Settings) {
    let names = |fields: &[(String, String)]| {
        fields.iter().map(|(name, _)| name.clone()).collect::<Vec<String>>()
    };
    let (set, default) = (names(&settings.set), names(&settings.default));
    for (key, own, others) in [
        ("default", &default, vec![("set", &set)]),
        ("remove", &settings.remove, vec![("set", &set), ("default", &default)]),
    ] {
        for (other, names) in others {
            for name in own.iter().filter(|name| names.contains(name)) {
                if let Some(item) = table.item(key) {
                    let found = format!("{name}, which is in {other} too");
                    item.problem(found, "each field in one of set, default, remove", None);
                }
            }
        }
    }
}

/// A policy that refuses nobody has nothing to count.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let headers = |policy: &&Policy| matches!(policy.settings, Kind::Headers(_)) && policy.dry_run;
    problems.extend(config.policies.iter().filter(headers).map(|policy| Problem {
        place: policy.place.clone(),
        key: format!("policy.{}.dry_run", policy.name),
        found: "dry_run on a policy that refuses nothing".to_owned(),
        expected: "no dry_run beside headers; a policy that nothing lists does nothing".to_owned(),
        hint: None,
    }));
}

fn twice<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let repeated = |(at, name): (usize, &&'a str)| {
        names.iter().take(at).any(|before| before == name).then_some(*name)
    };
    names.iter().enumerate().filter_map(repeated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\npolicy = 'h'\n";

    fn parse(headers: &str) -> Result<Settings, Vec<String>> {
        let text = format!("[policy.h]\nheaders = {{ {headers} }}\n{REST}");
        match crate::config::parse(&text, "a.toml", &|_| None) {
            Ok(config) => match &config.policies[0].settings {
                Kind::Headers(settings) => Ok((**settings).clone()),
                other => panic!("{other:?}"),
            },
            Err(problems) => Err(problems.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[track_caller]
    fn check(headers: &str, expected: &[&str]) {
        let found = parse(headers).err().unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "{headers}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}\n--- without\n{expected}");
        }
    }

    #[test]
    fn reads_what_a_policy_says() {
        let settings = parse(
            "preset = 'web', set = { X-A = '1' }, default = { Referrer-Policy = 'no-referrer' }, remove = 'Server'",
        );
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let expected = Settings {
            preset: Preset::Web,
            set: pair("x-a", "1"),
            default: pair("referrer-policy", "no-referrer"),
            remove: vec!["server".to_owned()],
        };
        assert_eq!(settings, Ok(expected));
    }

    #[test]
    fn what_it_cannot_do_is_said() {
        check("", &["nothing to do"]);
        check(
            "preset = 'api' }\ndry_run = true #",
            &["found dry_run on a policy that refuses nothing"],
        );
        check("preset = 'strict'", &["one of off, api, web"]);
        check(
            "set = { Content-Length = '1' }",
            &["found the field Content-Length, expected no field of framing"],
        );
        check("default = { Date = 'x' }", &["expected no field that ringgate writes itself"]);
        check("set = { Strict-Transport-Security = 'x' }", &["expected hsts of the listener"]);
        check("set = { Access-Control-Allow-Origin = '*' }", &["a policy of kind cors"]);
        check("remove = ['Transfer-Encoding']", &["expected no field of framing"]);
        check("remove = ['a b']", &["the name of a field"]);
        check("set = { x-a = \"a\\nb\" }", &["without control characters"]);
        check("set = { x-a = ['1', '2'] }", &["x-a twice"]);
        check("set = { x-a = '1', X-A = '2' }", &["x-a twice"]);
        check("set = { x-a = '1' }, default = { X-a = '2' }", &["x-a, which is in set too"]);
        check("set = { x-a = '1' }, remove = 'X-A'", &["x-a, which is in set too"]);
    }
}
