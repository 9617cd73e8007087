//! What the order of policies makes doubtful: one that holds twice for a request, and a limit by who it is that stands where
//! nobody has found that out.
//!
//! It is warned of and stops nothing. Called by the policies' doubts.

use crate::config::{Config, Listener, Place, Policy, Problem, Rule};
use crate::policy::Settings as Kind;
use crate::policy::key::{Key, Part};

/// What can hardly be meant.
pub(super) fn doubts(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    for listener in config.listeners.iter().filter(|l| !l.protocol.is_relayed()) {
        let key = format!("listener.{}.policy", listener.name);
        unknown(config, &[], &listener.policies, (&listener.place, &key), &mut problems);
    }
    for rule in &config.rules {
        let key = format!("rule.{}.policy", rule.name);
        let before = problems.len();
        // One listener's example is enough.
        for listener in config.listeners.iter().filter(|l| serves(l, rule)) {
            if problems.len() > before {
                break;
            }
            twice(listener, rule, &key, &mut problems);
            let at = (&rule.place, key.as_str());
            unknown(config, &listener.policies, &rule.policies, at, &mut problems);
        }
    }
    problems
}

fn serves(listener: &Listener, rule: &Rule) -> bool {
    let named = rule.listeners.is_empty() || rule.listeners.contains(&listener.name);
    named && !listener.protocol.is_relayed()
}

fn twice(listener: &Listener, rule: &Rule, key: &str, problems: &mut Vec<Problem>) {
    let both = rule.policies.iter().filter(|name| listener.policies.contains(name));
    problems.extend(both.map(|name| Problem {
        place: rule.place.clone(),
        key: key.to_owned(),
        found: format!(
            "{name:?}, which listener {:?} lists, too: its requests are judged and counted twice",
            listener.name
        ),
        expected: "it on the listener or on the rule".to_owned(),
        hint: None,
    }));
}

// Limits of `own` by something that neither `before` nor those in front of them find out.
fn unknown(
    config: &Config,
    before: &[String],
    own: &[String],
    (place, key): (&Place, &str),
    problems: &mut Vec<Problem>,
) {
    let of = |name: &String| config.policies.iter().find(|policy| policy.name == *name);
    let all: Vec<&Policy> = before.iter().chain(own).filter_map(of).collect();
    for (at, policy) in all.iter().enumerate().skip(all.len().saturating_sub(own.len())) {
        let Some(limit) = key_of(&policy.settings) else { continue };
        let found_out = |part: &Part| all.iter().take(at).any(|p| finds(&p.settings, part));
        let part = limit.parts.iter().find(|part| asks_who(part) && !found_out(part));
        let Some((what, by)) = part.and_then(named) else { continue };
        problems.push(Problem {
            place: place.clone(),
            key: key.to_owned(),
            found: format!(
                "{:?}, which counts by {what}, and before it no policy that finds that out: it counts by address",
                policy.name
            ),
            expected: format!("{by} before it"),
            hint: None,
        });
    }
}

fn key_of(settings: &Kind) -> Option<&Key> {
    match settings {
        Kind::Rate(settings) => Some(&settings.key),
        Kind::Concurrency(settings) => Some(&settings.key),
        Kind::Window(settings) => Some(&settings.key),
        _ => None,
    }
}

fn asks_who(part: &Part) -> bool {
    named(part).is_some()
}

// The part, and what finds it out.
fn named(part: &Part) -> Option<(String, &'static str)> {
    match part {
        Part::Consumer => {
            Some(("consumer".to_owned(), "api_key, jwt, basic or another that knows who it is"))
        }
        Part::Plan => Some(("plan".to_owned(), "an api_key")),
        Part::Claim(name) => Some((format!("claim:{name}"), "jwt, oidc or introspect")),
        _ => None,
    }
}

// Whether a policy may find it out.
fn finds(settings: &Kind, part: &Part) -> bool {
    match part {
        Part::Plan => matches!(settings, Kind::ApiKey(_)),
        Part::Claim(_) => {
            matches!(settings, Kind::Jwt(_) | Kind::Oidc(_) | Kind::Introspect(_))
        }
        Part::Consumer => matches!(
            settings,
            Kind::ApiKey(_)
                | Kind::Basic(_)
                | Kind::ForwardAuth(_)
                | Kind::Hmac(_)
                | Kind::Introspect(_)
                | Kind::Jwt(_)
                | Kind::Oidc(_)
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(listener: &str, rule: &str, expected: &[&str]) {
        let of_listener = match listener {
            "" => String::new(),
            listener => format!("policy = [{listener}]"),
        };
        let text = format!(
            "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\n{of_listener}\n\
             [[listener]]\nname = 'other'\nbind = ['127.0.0.1:0']\n\
             [[rule]]\nname = 'r'\nrespond = {{ status = 200 }}\npolicy = [{rule}]\n\
             [policy.user]\nrate = {{ limit = '1/s', key = ['path', 'consumer'] }}\n\
             [policy.sub]\nwindow = {{ requests = 9, window = '1m', key = 'claim:sub' }}\n\
             [policy.plan]\nconcurrency = {{ limit = 9, key = 'plan' }}\n\
             [policy.basic]\nbasic = {{ files = ['a'] }}\n\
             [policy.keys]\napi_key = {{ consumers = ['a'] }}\n\
             [policy.token]\njwt = {{ issuer = 'https://a.test', any_audience = true }}\n"
        );
        let config = crate::config::parse(&text, "a.toml", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let found: Vec<String> = doubts(&config).iter().map(Problem::to_string).collect();
        let fits = found.iter().zip(expected).all(|(found, part)| found.contains(part));
        assert!(fits && found.len() == expected.len(), "{listener} {rule}\n{found:#?}");
    }

    #[test]
    fn a_limit_by_who_it_is_stands_behind_what_finds_that_out() {
        check("", "'basic', 'user'", &[]);
        check("", "'token', 'sub', 'user'", &[]);
        check("", "'keys', 'plan', 'user'", &[]);
        check("", "'user', 'basic'", &["rule.r.policy: found \"user\", which counts by consumer"]);
        check("", "'basic', 'sub'", &["found \"sub\", which counts by claim:sub"]);
        check("", "'token', 'plan'", &["expected an api_key before it"]);
        check("'user'", "'basic'", &["listener.web.policy: found \"user\""]);
        // By the other listener nobody has asked.
        check("'basic'", "'user'", &["rule.r.policy: found \"user\""]);
    }

    #[test]
    fn a_policy_that_holds_twice_is_told() {
        check("'basic'", "'keys'", &[]);
        check(
            "'basic'",
            "'keys', 'basic'",
            &["found \"basic\", which listener \"web\" lists, too"],
        );
    }
}
