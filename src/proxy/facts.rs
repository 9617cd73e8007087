//! What the names in templates stand for, of an exchange.
//!
//! Called by whatever fills a template in: `change`, `dress`, `pages`, `reply`.

use crate::proxy::Exchange;
use crate::transform::Facts;
use std::borrow::Cow;

/// Calls `f` with what is known of `x` by now. What is known of a response is for the caller to add.
pub fn with<R>(x: &Exchange<'_>, f: impl FnOnce(&Facts<'_>) -> R) -> R {
    let findings = &x.scratch.findings;
    let snapshot = &x.epoch.snapshot;
    let rule = x.scratch.trace.rule.and_then(|at| snapshot.rules.get(at));
    let group = x.scratch.trace.group.and_then(|at| snapshot.groups.get(at));
    let target = group.and_then(|group| group.targets.get(x.scratch.trace.target?));
    let claim = |name: &str| findings.identity.claim(name).map(Cow::into_owned);
    let owned = |name: &str| {
        let is = |owned: &str| owned.eq_ignore_ascii_case(name);
        snapshot.owned.iter().any(|owned| is(owned)).then(|| line(&findings.upstream, name))
    };
    f(&Facts {
        view: x.view(),
        scheme: x.client.scheme(),
        port: port(x),
        client: x.client_ip(),
        request_id: &x.scratch.request_id,
        rule: rule.map_or("", |rule| &rule.name),
        group: group.map_or("", |group| &group.name),
        target: target.map_or("", |target| &target.live.name),
        status: 0,
        reason: "",
        detail: "",
        response: None,
        consumer: &findings.identity.consumer,
        claim: &claim,
        own_field: &owned,
        captures: rule.and_then(|rule| rule.captures.as_deref()),
        caught: None,
        body: None,
    })
}

// The port that the client has named, or means.
fn port(x: &Exchange<'_>) -> u16 {
    match x.scratch.request.port {
        Some(port) => port,
        None if x.scratch.request.host.is_empty() => x.client.port,
        None if x.client.scheme() == "https" => 443,
        None => 80,
    }
}

// The value of the first line of this name.
fn line(lines: &[u8], name: &str) -> Option<Vec<u8>> {
    lines.split(|b| *b == b'\n').find_map(|line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii().to_vec())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_line_by_its_name() {
        let lines = b"x-user: a\r\nx-users: b\r\nX-User: c\r\nx-empty:\r\n";
        for (name, value) in
            [("x-user", Some("a")), ("x-users", Some("b")), ("x-empty", Some("")), ("x", None)]
        {
            let value = value.map(|value| value.as_bytes().to_vec());
            assert_eq!(line(lines, name), value, "{name}");
        }
    }
}
