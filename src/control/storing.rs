//! What the file says of the machine's budgets, and of stored responses: the size of the store, and which rules keep what they have.
//!
//! A rule that stores no more, or by other settings, loses what it has stored: under its old key it might be given to somebody
//! for whom it was not meant. So does one that asks targets for something else, or makes other bodies of what they answer: those
//! are stored as they were made. Called at the start and at every reload.

use crate::cache::Settings;
use crate::config::{Config, Rule};
use crate::shard::Machine;
use crate::transform::json::JsonChanges;
use crate::transform::page::{Content, ErrorPage};
use crate::transform::{RequestSettings, ResponseSettings};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The budgets of the machine, with a store as large as the first file says.
pub fn machine(max_connections: u64, config: &Config) -> Arc<Machine> {
    let machine = Machine::new(max_connections, &config.limits);
    machine.store.resize(size(config));
    Arc::new(machine)
}

/// Follows a file that was read again.
pub fn follow(machine: &Machine, max_connections: u64, before: &Config, after: &Config) {
    machine.follow(max_connections, &after.limits);
    let store = &machine.store;
    let (known, now) = (storing(before), storing(after));
    let same = now.iter().filter(|rule| known.contains(rule));
    let same: HashSet<&str> = same.map(|rule| rule.name).collect();
    store.resize(size(after));
    if known.len() > same.len() {
        store.keep_rules(|rule| same.contains(rule));
    }
}

// What the file says of a rule that stores, as far as what is stored depends on it.
#[derive(PartialEq)]
struct Storing<'c> {
    name: &'c str,
    cache: &'c Settings,
    request: Option<&'c RequestSettings>,
    made: Option<Made<'c>>,
    pages: Vec<&'c ErrorPage>,
}

// What becomes of bodies. Fields and statuses are changed whenever a response is given.
#[derive(PartialEq)]
struct Made<'c> {
    body: &'c Option<(Vec<RangeInclusive<u16>>, Content)>,
    json: &'c Option<JsonChanges>,
    limits: (u64, bool),
    errors: &'c [ErrorPage],
}

fn storing(config: &Config) -> Vec<Storing<'_>> {
    config.rules.iter().filter_map(|rule| Storing::of(config, rule)).collect()
}

impl<'c> Storing<'c> {
    fn of(config: &'c Config, rule: &'c Rule) -> Option<Storing<'c>> {
        let listens = |name: &String| rule.listeners.is_empty() || rule.listeners.contains(name);
        let listeners = config.listeners.iter().filter(|listener| listens(&listener.name));
        let response = rule.traffic.response.as_ref();
        Some(Storing {
            name: &rule.name,
            cache: rule.traffic.cache.as_ref()?,
            request: rule.traffic.request.as_ref(),
            made: response.filter(|response| makes(response)).map(|response| Made {
                body: &response.body,
                json: &response.json,
                limits: (response.limit, response.strict),
                errors: &response.errors,
            }),
            pages: listeners.flat_map(|listener| &listener.errors).collect(),
        })
    }
}

fn makes(response: &ResponseSettings) -> bool {
    response.body.is_some() || response.json.is_some() || !response.errors.is_empty()
}

fn size(config: &Config) -> u64 {
    let stores = config.rules.iter().any(|rule| rule.traffic.cache.is_some());
    if stores { config.cache.size } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn nothing_is_held_for_nobody() {
        let text = |cache: &str| {
            format!(
                "[cache]\nsize = \"2MiB\"\n[[listener]]\nname = \"a\"\nbind = [\"127.0.0.1:1\"]\n\
                 default = {{ respond = {{ status = 404 }} }}\n[[rule]]\nname = \"r\"\n\
                 when = {{ path = [\"/x\"] }}\nforward = \"g\"\n{cache}\n[group.g]\ntargets = [\"127.0.0.1:2\"]\n"
            )
        };
        let config = |cache: &str| parse(&text(cache), "a.toml", &|_| None).unwrap();
        let machine = machine(1, &config(""));
        assert!(!machine.store.is_on());
        follow(&machine, 1, &config(""), &config("cache = true"));
        assert!(machine.store.is_on());
        assert_eq!(machine.store.stat().capacity, 2 << 20);
        follow(&machine, 1, &config("cache = true"), &config(""));
        assert_eq!(machine.store.stat().capacity, 0);
    }
    #[test]
    fn a_rule_keeps_what_it_would_store_again() {
        let text = |listener: &str, rule: &str| {
            let text = format!(
                "[[listener]]\nname = 'a'\nbind = ['127.0.0.1:1']\n{listener}\n\
                 [[rule]]\nname = 'r'\nwhen = {{ path = ['/x'] }}\nforward = 'g'\ncache = true\n{rule}\n\
                 [group.g]\ntargets = ['127.0.0.1:2']\n"
            );
            parse(&text, "a.toml", &|_| None).unwrap()
        };
        let plain = text("", "");
        let page = "errors = [{ status = ['404'], body = 'none' }]";
        for (listener, rule, same) in [
            ("", "", true),
            ("", "priority = 3", true),
            ("", "response = { headers = { set = { x-a = '1' } } }", true),
            ("", "response = { status = { 404 = 200 } }", true),
            ("", "response = { json = { remove = ['a'] } }", false),
            ("", "response = { body = 'x' }", false),
            ("", "request = { path = '/y' }", false),
            ("", page, false),
            (page, "", false),
        ] {
            let other = text(listener, rule);
            assert_eq!(kept(&plain, &other), same, "{listener} {rule}");
            assert_eq!(kept(&other, &plain), same, "{listener} {rule}, taken back");
            assert!(kept(&other, &other), "{listener} {rule}");
        }
    }

    fn kept(before: &Config, after: &Config) -> bool {
        let (known, now) = (storing(before), storing(after));
        now.iter().all(|rule| known.contains(rule))
    }
}
