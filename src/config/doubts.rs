//! What is no mistake of a file, and yet hardly what its author meant.
//!
//! It is warned of by `ringgate check`, at the start and at every reload, and stops none of them. Called by control.

use crate::config::{Action, Config, Problem, Protocol, dead, policy, relayed, traffic};
use std::collections::HashSet;

/// All that is doubtful about a file.
pub fn doubts(config: &Config) -> Vec<Problem> {
    let of_policies = policy::unused(config).into_iter().chain(policy::doubts(config));
    let of_traffic = traffic::cache::doubts(config).into_iter();
    let of_traffic = of_traffic.chain(traffic::balancing::doubts(config));
    let of_traffic = of_traffic.chain(traffic::sticky::doubts(config));
    let of_traffic = of_traffic.chain(traffic::mirror::doubts(config));
    unbelieved(config)
        .chain(wrapped(config))
        .chain(idle(config))
        .chain(dead::dead(config))
        .chain(of_policies)
        .chain(of_traffic)
        .collect()
}

// Groups that nothing leads to: their targets are probed, and sent nothing.
fn idle(config: &Config) -> impl Iterator<Item = Problem> {
    let mut used: HashSet<&str> = HashSet::new();
    let actions = config.rules.iter().map(|r| &r.action);
    for action in actions.chain(config.listeners.iter().map(|l| &l.default)) {
        match action {
            Action::Forward(groups) => used.extend(groups.iter().map(|g| g.group.as_str())),
            Action::Aggregate(whole) => {
                used.extend(whole.settings.parts.iter().map(|part| part.group.as_str()));
            }
            Action::Redirect(_) | Action::Respond(_) => {}
        }
    }
    for rule in &config.rules {
        used.extend(rule.traffic.canary.iter().map(|canary| canary.group.as_str()));
        used.extend(rule.traffic.mirror.iter().map(|mirror| mirror.group.as_str()));
    }
    config.groups.iter().filter(move |group| !used.contains(group.name.as_str())).map(|group| {
        Problem {
            place: group.place.clone(),
            key: format!("group.{}", group.name),
            found: "a group that no rule and no listener sends anything to".to_owned(),
            expected: format!("forward = {:?} where it is to be used", group.name),
            hint: None,
        }
    })
}

// Listeners whose PROXY headers nobody may send: they serve nobody.
fn unbelieved(config: &Config) -> impl Iterator<Item = Problem> {
    let nobody = config.server.trusted_proxies.is_empty();
    let asks = config.listeners.iter().filter(move |l| nobody && l.proxy_protocol.is_some());
    asks.map(|l| Problem {
        place: l.place.clone(),
        key: format!("listener.{}.proxy_protocol", l.name),
        found: "PROXY headers that nobody may send: every connection is closed".to_owned(),
        expected: "the addresses of the balancer in front in server.trusted_proxies".to_owned(),
        hint: None,
    })
}

// Groups that are spoken to by TLS, and get connections that are TLS already.
fn wrapped(config: &Config) -> impl Iterator<Item = Problem> {
    let passing = relayed::ways(config).filter(|(l, _)| l.protocol == Protocol::Tls);
    passing.filter_map(|(l, group)| {
        let tls = group.tls.as_ref()?;
        Some(Problem {
            place: tls.place.clone(),
            key: format!("group.{}.tls", group.name),
            found: format!("TLS around the TLS that listener {:?} passes through", l.name),
            expected: "no tls: the client's reaches the targets as it is".to_owned(),
            hint: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let file = format!(
            "{text}\n[group.g]\ntargets = ['a:1']\n[group.t]\ntargets = ['a:1']\ntls = true"
        );
        let config = crate::config::parse(&file, "a.toml", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let found = doubts(&config).into_iter().map(|doubt| doubt.to_string());
        // Each of these files has a group that it does not use.
        let found: Vec<String> =
            found.filter(|doubt| !doubt.contains("sends anything to")).collect();
        let fits = found.iter().zip(expected).all(|(found, part)| found.contains(part));
        assert!(fits && found.len() == expected.len(), "{text}\n{found:#?}");
    }

    #[test]
    fn what_is_hardly_meant_is_said() {
        let of = |more: &str| format!("[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n{more}\n");
        let nobody = "every connection is closed, expected the addresses";
        check(&of(""), &[]);
        check(&of("proxy_protocol = 'v2'"), &[nobody]);
        let trusting = "[server]\ntrusted_proxies = '10.0.0.0/8'\n";
        check(&format!("{trusting}{}", of("proxy_protocol = 'v2'")), &[]);
        let passed = "group.t.tls: found TLS around the TLS";
        check(&of("protocol = 'tls'\ndefault = { forward = 't' }"), &[passed]);
        check(&of("protocol = 'tls'\ndefault = { forward = 'g' }"), &[]);
        check(&of("protocol = 'tcp'\ndefault = { forward = 't' }"), &[]);
        let rule = "[[rule]]\nname = 'r'\nlistener = 'l'\nforward = 't'";
        check(&(of("protocol = 'tls'") + rule), &[passed]);
        check(&(of("protocol = 'http'") + rule), &[]);
    }

    #[test]
    fn groups_that_nothing_leads_to_are_named() {
        let idle = |text: &str| -> Vec<String> {
            let groups =
                ["a", "b"].map(|name| format!("[group.{name}]\ntargets = ['x:1']\n")).concat();
            let file = format!("[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n{text}\n{groups}");
            let config = crate::config::parse(&file, "a.toml", &|_| None);
            let config = config.unwrap_or_else(|problems| panic!("{problems}"));
            super::idle(&config).map(|doubt| doubt.key).collect()
        };
        assert_eq!(idle(""), ["group.a", "group.b"]);
        assert_eq!(idle("default = { forward = 'b' }"), ["group.a"]);
        let rule = "[[rule]]\nname = 'r'\nforward = 'a'\n";
        assert_eq!(idle(rule), ["group.b"]);
        assert!(idle(&format!("{rule}mirror = {{ group = 'b' }}")).is_empty());
        assert!(idle(&format!("{rule}canary = {{ group = 'b', percent = 1 }}")).is_empty());
        let parts =
            "[[rule]]\nname = 'r'\naggregate = { parts = { x = { group = 'a', path = '/' } } }";
        assert_eq!(idle(parts), ["group.b"]);
    }
}
