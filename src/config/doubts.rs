//! What is no mistake of a file, and yet hardly what its author meant.
//!
//! It is warned of by `ringgate check`, at the start and at every reload, and stops none of them. Called by control.

use crate::config::{Action, Config, Problem, Protocol, policy, traffic};

/// All that is doubtful about a file.
pub fn doubts(config: &Config) -> Vec<Problem> {
    let of_policies = policy::unused(config).into_iter().chain(policy::doubts(config));
    let of_traffic = traffic::cache::doubts(config).into_iter();
    let of_traffic = of_traffic.chain(traffic::balancing::doubts(config));
    let of_traffic = of_traffic.chain(traffic::sticky::doubts(config));
    let of_traffic = of_traffic.chain(traffic::mirror::doubts(config));
    unbelieved(config).chain(wrapped(config)).chain(of_policies).chain(of_traffic).collect()
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
    let passing = config.listeners.iter().filter(|l| l.protocol == Protocol::Tls);
    let actions = passing.flat_map(move |l| {
        let rules = config.rules.iter().filter(move |r| r.listeners.contains(&l.name));
        rules.map(|r| &r.action).chain([&l.default]).map(move |action| (l, action))
    });
    let groups = actions.filter_map(|(l, action)| match action {
        Action::Forward(groups) => Some(groups.iter().map(move |g| (l, g))),
        _ => None,
    });
    groups.flatten().filter_map(move |(l, forward)| {
        let group = config.groups.iter().find(|g| g.name == forward.group)?;
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
        let found: Vec<String> = doubts(&config).iter().map(Problem::to_string).collect();
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
}
