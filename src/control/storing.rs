//! What the file says of the machine's budgets, and of stored responses: the size of the store, and which rules keep what they have.
//!
//! A rule that stores no more, or by other settings, loses what it has stored: under its old key it might be given to somebody
//! for whom it was not meant. Called at the start and at every reload.

use crate::config::Config;
use crate::shard::Machine;
use std::collections::HashSet;
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
    let storing = |config: &'_ Config| -> Vec<_> {
        let rules = config.rules.iter();
        let rules = rules.filter_map(|rule| {
            let settings = rule.traffic.cache.clone()?;
            Some((rule.name.clone(), settings))
        });
        rules.collect()
    };
    let known = storing(before);
    let same = storing(after).into_iter().filter(|rule| known.contains(rule));
    let same: HashSet<String> = same.map(|(name, _)| name).collect();
    store.resize(size(after));
    if known.len() > same.len() {
        store.keep_rules(|rule| same.contains(rule));
    }
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
}
