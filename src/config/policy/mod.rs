//! `[policy.NAME]`: one kind each, whether it only counts, and what it answers with instead of the usual problem.
//!
//! Each kind has a file with its keys and its reader, which yields the kind's `Settings`; what is compiled of them stands in
//! `crate::policy`. Files that policies name are read by control. Called by `read`, `rule` and `listener`.

mod api_key;
mod basic;
mod block;
mod concurrency;
mod cors;
mod forward_auth;
mod headers;
mod hmac;
mod introspect;
mod ip;
mod jwt;
mod key;
mod oidc;
mod order;
mod rate;
mod validate;
mod window;

use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table};
use crate::config::keys::{Keys, POLICY, POLICY_ANSWER};
use crate::config::problem::Wrong;
use crate::config::{Config, Material, Place, Problem, Protocol, syntax};
use crate::policy::{Settings, kind};
use std::path::PathBuf;
use std::sync::Arc;

/// `[policy.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Unique.
    pub name: String,
    /// What it does.
    pub settings: Settings,
    /// Whether it only counts what it would refuse.
    pub dry_run: bool,
    /// What a client is told when it refuses, instead of the usual problem.
    pub answer: Option<PolicyAnswer>,
    /// Where it stands in the file.
    pub place: Place,
    /// The octets of the files that it names, once control has read them.
    pub octets: Vec<(PathBuf, Arc<[u8]>)>,
}

impl Policy {
    /// The octets of a file that it names; `None` while control has not read it.
    pub fn file(&self, path: &std::path::Path) -> Option<Arc<[u8]>> {
        self.octets.iter().find(|(p, _)| p == path).map(|(_, octets)| Arc::clone(octets))
    }
}

/// `answer` of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyAnswer {
    /// Instead of the reason's own status.
    pub status: Option<u16>,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body; left out, the usual problem.
    pub body: Option<String>,
}

/// The tables of every kind, with their keys.
pub(super) fn tables() -> impl Iterator<Item = &'static (&'static str, Keys)> {
    [
        api_key::TABLES,
        basic::TABLES,
        block::TABLES,
        concurrency::TABLES,
        cors::TABLES,
        forward_auth::TABLES,
        headers::TABLES,
        hmac::TABLES,
        introspect::TABLES,
        ip::TABLES,
        jwt::TABLES,
        oidc::TABLES,
        rate::TABLES,
        validate::TABLES,
        window::TABLES,
    ]
    .into_iter()
    .flatten()
}

/// One policy; `item.path` is `policy.NAME`.
pub(super) fn policy(name: &str, item: &Item<'_>, seen: &mut Seen) -> Option<Policy> {
    let table = item.table(POLICY)?;
    match syntax::name(name) {
        Ok(name) => seen.policy(&name, item),
        Err(_) => item.problem(format!("the name {name:?}"), syntax::NAME, None),
    }
    let given: Vec<Item<'_>> = kind::WORDS.iter().filter_map(|word| table.item(word)).collect();
    let [one] = given.as_slice() else {
        let found = if given.is_empty() {
            "no kind".to_owned()
        } else {
            let words: Vec<&str> = given.iter().filter_map(|i| i.path.rsplit('.').next()).collect();
            words.join(" and ")
        };
        let expected = format!("exactly one of {}", kind::WORDS.join(", "));
        table.problem(item.path.clone(), found, &expected);
        return None;
    };
    // What is wrong with these is told beside what is wrong with the kind.
    let dry_run = table.item("dry_run").and_then(|item| item.boolean()).unwrap_or(false);
    let answer = table.item("answer").and_then(|item| answer(&item));
    let settings = settings(one, seen)?;
    let counts = matches!(&settings, Settings::Window(window) if !window.blocks);
    Some(Policy {
        name: name.to_owned(),
        settings,
        dry_run: dry_run || counts,
        answer,
        place: item.place(),
        octets: Vec::new(),
    })
}

fn settings(item: &Item<'_>, seen: &mut Seen) -> Option<Settings> {
    let word = item.path.rsplit('.').next().unwrap_or_default();
    let boxed = match word {
        "api_key" => Settings::ApiKey(Box::new(api_key::read(item, seen)?)),
        "basic" => Settings::Basic(Box::new(basic::read(item, seen)?)),
        "block" => Settings::Block(Box::new(block::read(item, seen)?)),
        "concurrency" => Settings::Concurrency(Box::new(concurrency::read(item, seen)?)),
        "cors" => Settings::Cors(Box::new(cors::read(item, seen)?)),
        "forward_auth" => Settings::ForwardAuth(Box::new(forward_auth::read(item, seen)?)),
        "headers" => Settings::Headers(Box::new(headers::read(item, seen)?)),
        "hmac" => Settings::Hmac(Box::new(hmac::read(item, seen)?)),
        "introspect" => Settings::Introspect(Box::new(introspect::read(item, seen)?)),
        "ip" => Settings::Ip(Box::new(ip::read(item, seen)?)),
        "jwt" => Settings::Jwt(Box::new(jwt::read(item, seen)?)),
        "oidc" => Settings::Oidc(Box::new(oidc::read(item, seen)?)),
        "rate" => Settings::Rate(Box::new(rate::read(item, seen)?)),
        "validate" => Settings::Validate(Box::new(validate::read(item, seen)?)),
        "window" => Settings::Window(Box::new(window::read(item, seen)?)),
        _ => return None,
    };
    Some(boxed)
}

// What fits into one answer.
const LONGEST_BODY: usize = 64 << 10;

fn answer(item: &Item<'_>) -> Option<PolicyAnswer> {
    let table = item.table(POLICY_ANSWER)?;
    let status = table.item("status").and_then(|item| item.integer(400..=599));
    let content_type = table.item("content_type").and_then(|item| {
        let kind = "a media type such as \"application/json\"";
        item.parsed(kind, |text| {
            let fits = text.contains('/') && syntax::is_field_value(text);
            if fits { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    let body = table.item("body").and_then(|item| {
        item.parsed("a text of at most 64 KiB", |text| {
            if text.len() <= LONGEST_BODY { Ok(text.to_owned()) } else { Wrong::plain() }
        })
    });
    Some(PolicyAnswer {
        status: status.and_then(|status| u16::try_from(status).ok()),
        content_type,
        body,
    })
}

/// `policy` of a rule or listener: names, in the order in which they are applied.
pub(super) fn names(table: &Table<'_>, seen: &mut Seen) -> Vec<String> {
    const KIND: &str = "the name of a policy";
    let Some(item) = table.item("policy") else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for item in item.one_or_more(KIND) {
        let Some(name) = item.parsed(KIND, syntax::name) else { continue };
        seen.uses(Kind::Policy, &name, &item);
        if names.contains(&name) {
            item.problem(format!("{name:?} twice"), "each policy once", None);
        }
        names.push(name);
    }
    names
}

/// The files that a policy names, for control to read.
pub fn materials(config: &Config) -> impl Iterator<Item = (usize, Material)> + '_ {
    config.policies.iter().enumerate().flat_map(|(at, policy)| {
        let place = policy.place.clone();
        policy
            .settings
            .files()
            .into_iter()
            .map(move |path| (at, Material { path, place: place.clone() }))
    })
}

/// Connections that are relayed as they are have no requests to judge.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    cors::check(config, problems);
    headers::check(config, problems);
    let relayed = |name: &String| {
        let of_name = |l: &&crate::config::Listener| l.name == *name && l.protocol.is_relayed();
        config.listeners.iter().any(|l| of_name(&l))
    };
    let listeners = config.listeners.iter().filter(|l| l.protocol.is_relayed());
    let listeners =
        listeners.map(|l| (&l.policies, &l.place, format!("listener.{}.policy", l.name)));
    let rules = config.rules.iter().filter(|r| r.listeners.iter().any(relayed));
    let rules = rules.map(|r| (&r.policies, &r.place, format!("rule.{}.policy", r.name)));
    for (policies, place, key) in listeners.chain(rules).filter(|(p, ..)| !p.is_empty()) {
        let (http, https) = (Protocol::Http.name(), Protocol::Https.name());
        problems.push(Problem {
            place: place.clone(),
            key,
            found: format!("{:?} where connections are relayed as they are", policies.join(", ")),
            expected: format!("policies only with protocol = {http:?} or {https:?}"),
            hint: None,
        });
    }
}

/// What single kinds doubt about the file.
pub(super) fn doubts(config: &Config) -> Vec<Problem> {
    let mut doubts = order::doubts(config);
    doubts.extend(oidc::doubts(config));
    doubts
}

/// A policy that nothing lists does nothing, which nobody means.
pub(super) fn unused(config: &Config) -> Vec<Problem> {
    let lists = || {
        let rules = config.rules.iter().map(|rule| &rule.policies);
        rules.chain(config.listeners.iter().map(|listener| &listener.policies)).flatten()
    };
    let unused = config.policies.iter().filter(|policy| !lists().any(|name| *name == policy.name));
    unused
        .map(|policy| Problem {
            place: policy.place.clone(),
            key: format!("policy.{}", policy.name),
            found: "a policy that no rule and no listener lists".to_owned(),
            expected: format!("policy = [{:?}] where it is to hold", policy.name),
            hint: None,
        })
        .collect()
}
