//! What only the whole configuration can tell: names given twice, names that nothing has, addresses bound twice.
//!
//! Readers note names, uses and addresses in [`Seen`] as they meet them; [`check`] judges when all files are read, so the
//! order of files and tables does not matter. Called by `read`.

use crate::config::item::{Item, Table};
use crate::config::problem::{Problem, did_you_mean, quoted};
use crate::config::traffic::balancing;
use crate::config::traffic::change;
use crate::config::units::show_size;
use crate::config::{Config, Limits, Listener, Place, Protocol, acme};
use crate::config::{policy, relayed};
use std::collections::HashMap;
use std::net::SocketAddr;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Listener,
    Rule,
    Group,
    Policy,
}

/// What was met so far, in all files.
#[derive(Default)]
pub(super) struct Seen {
    listeners: HashMap<String, Place>,
    rules: HashMap<String, Place>,
    groups: HashMap<String, Place>,
    policies: HashMap<String, Place>,
    binds: HashMap<SocketAddr, Place>,
    /// The keys of tables that there are once, as `server.workers`.
    settings: HashMap<String, Place>,
    uses: Vec<Use>,
    /// The most of each kind was passed, and this was said.
    full: [bool; 4],
}

struct Use {
    kind: Kind,
    name: String,
    place: Place,
    key: String,
}

impl Seen {
    /// Notes the name of a listener.
    pub(super) fn listener(&mut self, name: &str, item: &Item<'_>) {
        define(&mut self.listeners, name, item, "listener");
    }

    /// Notes the name of a rule.
    pub(super) fn rule(&mut self, name: &str, item: &Item<'_>) {
        define(&mut self.rules, name, item, "rule");
    }

    /// Notes the name of a group.
    pub(super) fn group(&mut self, name: &str, item: &Item<'_>) {
        define(&mut self.groups, name, item, "group");
    }

    /// Notes the name of a policy.
    pub(super) fn policy(&mut self, name: &str, item: &Item<'_>) {
        define(&mut self.policies, name, item, "policy");
    }

    /// Notes that something must have this name.
    pub(super) fn uses(&mut self, kind: Kind, name: &str, item: &Item<'_>) {
        let (name, place, key) = (name.to_owned(), item.place(), item.path.clone());
        self.uses.push(Use { kind, name, place, key });
    }

    /// Notes an address that a listener binds. Port 0 is another port each time.
    pub(super) fn bind(&mut self, address: SocketAddr, item: &Item<'_>) {
        if address.port() == 0 {
            return;
        }
        if let Some(before) = self.binds.get(&address) {
            let found = format!("\"{address}\", which is also bound at {before}");
            item.problem(found, "an address that is bound once", None);
            return;
        }
        self.binds.insert(address, item.place());
    }

    /// Notes the keys of a table that there is once. It may be spread over files, but each key is set once.
    pub(super) fn settings(&mut self, table: &Table<'_>) {
        for (key, place) in table.given() {
            let key = format!("{}.{key}", table.path);
            if let Some(before) = self.settings.get(&key) {
                let found = format!("a second value, after the one at {before}");
                table.problem_at(place, key, found, "each key once in all files");
                continue;
            }
            self.settings.insert(key, place);
        }
    }

    /// Whether another item of this kind may be read; notes a problem at the first that may not.
    pub(super) fn admits(&mut self, kind: Kind, count: usize, item: &Item<'_>) -> bool {
        let (most, full) = match (kind, &mut self.full) {
            (Kind::Listener, [full, ..]) => (1000, full),
            (Kind::Rule, [_, full, ..]) => (100_000, full),
            (Kind::Group, [_, _, full, _]) => (10_000, full),
            (Kind::Policy, [.., full]) => (10_000, full),
        };
        if count < most {
            return true;
        }
        if !*full {
            item.problem(format!("one more than {most}"), format!("at most {most}"), None);
            *full = true;
        }
        false
    }
}

fn define(names: &mut HashMap<String, Place>, name: &str, item: &Item<'_>, kind: &str) {
    if let Some(before) = names.get(name) {
        let found = format!("{name:?}, which is also at {before}");
        item.problem(found, format!("a name that no other {kind} has"), None);
        return;
    }
    names.insert(name.to_owned(), item.place());
}

/// Notes what is wrong with the whole.
pub(super) fn check(config: &mut Config, seen: &Seen, main: &Place, problems: &mut Vec<Problem>) {
    uses(seen, problems);
    if config.listeners.is_empty() {
        problems.push(Problem {
            place: main.clone(),
            key: "listener".to_owned(),
            found: "none".to_owned(),
            expected: "at least one [[listener]]".to_owned(),
            hint: None,
        });
    }
    if let Some(admin) = &config.admin
        && let Some(listener) = seen.binds.get(&admin.bind)
    {
        problems.push(Problem {
            place: admin.place.clone(),
            key: "admin.bind".to_owned(),
            found: format!("\"{}\", which a listener binds at {listener}", admin.bind),
            expected: "an address of its own".to_owned(),
            hint: None,
        });
    }
    if let (Some(group), None) = (&config.server.group, &config.server.user) {
        problems.push(Problem {
            place: group.place.clone(),
            key: "server.group".to_owned(),
            found: format!("{:?} without a user", group.name),
            expected: "server.user beside it".to_owned(),
            hint: None,
        });
    }
    let listeners = config.listeners.iter().filter_map(|l| l.acme());
    let plain = config.listeners.iter().any(|l| l.protocol == Protocol::Http);
    acme::check(config.acme.as_ref(), listeners, plain, problems);
    problems.extend(config.listeners.iter().filter_map(alpn_without_http2));
    line_fits_head(&mut config.limits, seen, problems);
    relayed::check(config, problems);
    policy::check(config, problems);
    balancing::check(config, problems);
    change::check(config, problems);
}

/// What ALPN agrees on is spoken, so it cannot be offered by a listener that is not to speak it.
fn alpn_without_http2(listener: &Listener) -> Option<Problem> {
    let tls = listener.tls.as_ref()?;
    let offers = tls.alpn.iter().flatten().any(|protocol| protocol == "h2");
    (offers && !listener.http2).then(|| Problem {
        place: tls.place.clone(),
        key: format!("listener.{}.tls.alpn", listener.name),
        found: "\"h2\" beside http2 = false".to_owned(),
        expected: "one or the other".to_owned(),
        hint: None,
    })
}

fn uses(seen: &Seen, problems: &mut Vec<Problem>) {
    for Use { kind, name, place, key } in &seen.uses {
        let (names, what) = match kind {
            Kind::Listener => (&seen.listeners, "listener"),
            Kind::Rule => (&seen.rules, "rule"),
            Kind::Group => (&seen.groups, "group"),
            Kind::Policy => (&seen.policies, "policy"),
        };
        if names.contains_key(name) {
            continue;
        }
        let hint = did_you_mean(name, names.keys().map(String::as_str));
        problems.push(Problem {
            place: place.clone(),
            key: key.clone(),
            found: quoted(name),
            expected: format!("the name of a {what}"),
            hint: hint.or_else(|| names.is_empty().then(|| format!("there is no {what}"))),
        });
    }
}

/// A line is a part of the head. Where only `head` is given, the default of `line` follows it.
fn line_fits_head(limits: &mut Limits, seen: &Seen, problems: &mut Vec<Problem>) {
    let Some(place) = seen.settings.get("limits.line") else {
        limits.line = limits.line.min(limits.head);
        return;
    };
    if limits.line <= limits.head {
        return;
    }
    problems.push(Problem {
        place: place.clone(),
        key: "limits.line".to_owned(),
        found: show_size(limits.line),
        expected: format!("at most limits.head, which is {}", show_size(limits.head)),
        hint: None,
    });
}
