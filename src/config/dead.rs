//! Rules, or parts of them, that nothing can match for what they themselves say: paths that are never so, methods that are always
//! refused, listeners that send everything elsewhere.
//!
//! What other rules hide is found in the table of routes. Called by `doubts`.

use crate::config::{Config, Listener, Problem, Rule};
use crate::http::path::{self, PathPolicy};

/// All of them in a file.
pub(super) fn dead(config: &Config) -> impl Iterator<Item = Problem> {
    config.rules.iter().flat_map(|rule| {
        let paths = rule.when.path.iter().filter_map(|path| never(rule, path, config.server.paths));
        paths.chain(refused(rule)).chain(elsewhere(config, rule)).collect::<Vec<_>>()
    })
}

fn doubt(rule: &Rule, key: &str, found: String, expected: String) -> Problem {
    let key = format!("rule.{}{key}", rule.name);
    Problem { place: rule.place.clone(), key, found, expected, hint: None }
}

// A pattern over paths that no canonical path has: with any text for its wildcards it would be made into another one.
fn never(rule: &Rule, pattern: &str, policy: PathPolicy) -> Option<Problem> {
    // An escape that a wildcard completes may be any.
    let open = pattern.match_indices('%').any(|(at, _)| {
        pattern.as_bytes().iter().skip(at + 1).take(2).any(|b| matches!(b, b'*' | b'?'))
    });
    if open {
        return None;
    }
    let slash = if pattern.starts_with('/') { "" } else { "/" };
    let plain = format!("{slash}{}", pattern.replace(['*', '?'], "x"));
    let mut canonical = Vec::new();
    let found = || format!("{pattern:?}, which no path is: rules are held against canonical paths");
    match path::canonical(plain.as_bytes(), policy, &mut canonical) {
        Ok(false) => None,
        Ok(true) if canonical == plain.as_bytes() => None,
        Ok(true) => {
            let expected = match pattern.contains(['*', '?']) {
                true => "a path without //, dot segments and needless escapes".to_owned(),
                false => format!("{:?}", String::from_utf8_lossy(&canonical)),
            };
            Some(doubt(rule, ".when.path", found(), expected))
        }
        Err(fault) => {
            let expected = format!("a path that is not refused: {}", fault.sentence());
            Some(doubt(rule, ".when.path", found(), expected))
        }
    }
}

fn refused(rule: &Rule) -> Option<Problem> {
    let method = rule.when.method.iter().find(|m| matches!(m.as_str(), "TRACE" | "CONNECT"))?;
    let found = format!("{method}, which is answered 405 before any rule is asked");
    Some(doubt(rule, ".when.method", found, "methods that are served".to_owned()))
}

// A rule all of whose listeners send what comes to https.
fn elsewhere(config: &Config, rule: &Rule) -> Option<Problem> {
    let serves = |l: &&Listener| match rule.listeners.as_slice() {
        [] => !l.protocol.is_relayed(),
        named => named.contains(&l.name),
    };
    let mut served = config.listeners.iter().filter(serves).peekable();
    let first = served.peek()?.name.clone();
    // A trusted proxy may say that a request came by TLS, which is then served; and challenges of ACME are.
    let challenge = rule.when.path.iter().any(|path| path.starts_with("/.well-known/"));
    let redirected = served.all(|l| l.redirect_https.is_some());
    if !redirected || challenge || !config.server.trusted_proxies.is_empty() {
        return None;
    }
    let found =
        format!("a rule that never matches: listener {first:?} sends every request to https");
    let expected = "a listener without redirect_https".to_owned();
    Some(doubt(rule, "", found, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(more: &str, expected: &[&str]) {
        let file = format!(
            "{more}\n[[listener]]\nname = 'plain'\nbind = '127.0.0.1:80'\nredirect_https = true\n\
             [[listener]]\nname = 'web'\nbind = '127.0.0.1:81'\n"
        );
        let config = crate::config::parse(&file, "a.toml", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let found: Vec<String> = dead(&config).map(|doubt| doubt.to_string()).collect();
        let fits = found.iter().zip(expected).all(|(found, part)| found.contains(part));
        assert!(fits && found.len() == expected.len(), "{more}\n{found:#?}");
    }

    fn rule(when: &str) -> String {
        format!("[[rule]]\nname = 'r'\nrespond = {{ status = 200 }}\n{when}")
    }

    #[test]
    fn paths_that_are_never_so_are_named() {
        let path = |path: &str| rule(&format!("when = {{ path = {path:?} }}"));
        for (pattern, canonical) in [
            ("/a/../b", "expected \"/b\""),
            ("/x//y", "expected \"/x/y\""),
            ("/%41", "expected \"/A\""),
            ("/a/.", "expected \"/a/\""),
            ("/%c3%bc", "expected \"/%C3%BC\""),
            ("/x//*", "without //, dot segments"),
            ("*/../a", "without //, dot segments"),
            ("/../a", "not refused"),
            ("/a%2Fb", "not refused"),
        ] {
            check(&path(pattern), &[canonical]);
        }
        for fine in [
            "/",
            "/a/*",
            "*.jpg",
            "*",
            "/.well-known/*",
            "/a..b",
            "/%C3%BC",
            "/a%2*",
            "/a?b",
            "/.*",
        ] {
            check(&path(fine), &[]);
        }
        check(&format!("[server]\nmerge_slashes = false\n{}", path("/x//y")), &[]);
        check(&format!("[server]\nencoded_separators = 'keep'\n{}", path("/a%2Fb")), &[]);
    }

    #[test]
    fn methods_and_listeners_that_leave_nothing_are_named() {
        check(&rule("when = { method = ['GET', 'POST'] }"), &[]);
        check(&rule("when = { method = ['GET', 'TRACE'] }"), &["TRACE, which is answered 405"]);
        check(&rule("when = { method = 'CONNECT' }"), &["CONNECT, which is answered 405"]);
        let never = "rule.r: found a rule that never matches: listener \"plain\" sends every";
        check(&rule("listener = 'plain'"), &[never]);
        check(&rule("listener = ['plain', 'web']"), &[]);
        check(&rule("listener = 'plain'\nwhen = { path = '/.well-known/acme-challenge/*' }"), &[]);
        let trusting = "[server]\ntrusted_proxies = '10.0.0.0/8'\n";
        check(&format!("{trusting}{}", rule("listener = 'plain'")), &[]);
    }
}
