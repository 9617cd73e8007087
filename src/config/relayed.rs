//! What connections that are relayed as they are cannot have: requests, and conditions on them; and what a request may be
//! upgraded to.
//!
//! Listeners of protocol tcp and tls know their clients' addresses, tls also the name in the ClientHello, and nothing else.
//! Called by the readers of listeners and rules, and by `check` when all is read.

use crate::config::item::Table;
use crate::config::keys::LISTENER_TIMEOUTS;
use crate::config::problem::{Problem, Wrong};
use crate::config::{Action, Config, Group, Listener, Protocol, Respond, Rule, syntax};
use std::collections::HashMap;

/// The most entries of `upgrade` and `origins`.
const MOST: usize = 100;

/// Notes keys that mean nothing on a listener of this protocol.
pub(super) fn listener(table: &Table<'_>, protocol: Protocol) {
    if !protocol.is_relayed() {
        return;
    }
    let name = protocol.name();
    // What is wrong with tls and hsts is said where they are read.
    for key in ["desync", "http2", "redirect_https", "compress"] {
        if let Some(item) = table.item(key) {
            let expected = format!("none with protocol = \"{name}\": it has no requests");
            item.problem(key, expected, None);
        }
    }
    let timeouts = table.item("timeouts").and_then(|item| item.table(LISTENER_TIMEOUTS));
    for key in ["body", "keep_alive"] {
        if let Some(item) = timeouts.as_ref().and_then(|table| table.item(key)) {
            item.problem(key, format!("header or idle with protocol = \"{name}\""), None);
        }
    }
}

/// `upgrade`: protocols that a request may switch to; WebSocket where nothing is said.
pub(super) fn upgrade(table: &Table<'_>) -> Vec<String> {
    const KIND: &str = "a list of protocol names, as \"websocket\"";
    let Some(item) = table.item("upgrade") else { return vec!["websocket".to_owned()] };
    let items = if item.is_array() { item.array(KIND) } else { vec![item.clone()] };
    if items.len() > MOST {
        item.problem(format!("{} protocols", items.len()), format!("at most {MOST}"), None);
    }
    let protocols = items.iter().filter_map(|item| {
        item.parsed(KIND, |text| {
            let name = text.to_ascii_lowercase();
            let http = name.starts_with("h2") || name.starts_with("h3") || name.starts_with("http");
            if http || name.starts_with("tls") {
                // Requests inside it would pass unseen (hazard H1-21).
                return Wrong::expected("no protocol that carries HTTP, or hides what it carries");
            }
            let (word, version) = name.split_once('/').unwrap_or((&name, "0"));
            if syntax::is_token(word) && syntax::is_token(version) {
                return Ok(name);
            }
            Wrong::plain()
        })
    });
    protocols.collect()
}

/// `origins`: whose pages may open a WebSocket.
pub(super) fn origins(table: &Table<'_>) -> Vec<String> {
    const KIND: &str = "an origin such as \"https://app.example.com\" or \"https://*.example.com\"";
    let Some(item) = table.item("origins") else { return Vec::new() };
    let items = item.one_or_more(KIND);
    if items.len() > MOST {
        item.problem(format!("{} origins", items.len()), format!("at most {MOST}"), None);
    }
    let origin = |text: &str| {
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        let literal = host.strip_prefix("*.").unwrap_or(host);
        let fits = syntax::is_token(scheme)
            && syntax::host_pattern(literal).is_ok()
            && !literal.contains(['*', '?'])
            && port.is_none_or(|port| syntax::port(port).is_some());
        if fits { Ok(text) } else { Wrong::plain() }
    };
    items.iter().filter_map(|item| item.parsed(KIND, origin)).collect()
}

/// Notes rules and actions that listeners of protocol tcp and tls cannot have.
pub(super) fn check(config: &Config, problems: &mut Vec<Problem>) {
    let relayed: HashMap<&str, Protocol> = config
        .listeners
        .iter()
        .filter(|l| l.protocol.is_relayed())
        .map(|l| (l.name.as_str(), l.protocol))
        .collect();
    if relayed.is_empty() {
        return;
    }
    problems.extend(config.listeners.iter().filter_map(default));
    for rule in &config.rules {
        let named = rule.listeners.iter().filter_map(|name| relayed.get_key_value(name.as_str()));
        problems.extend(named.filter_map(|(name, protocol)| self::rule(rule, name, *protocol)));
    }
}

/// Listeners whose connections are relayed as they are, each with every group that it may lead to.
pub(super) fn ways(config: &Config) -> impl Iterator<Item = (&Listener, &Group)> {
    let listeners = config.listeners.iter().filter(|l| l.protocol.is_relayed());
    let actions = listeners.flat_map(move |l| {
        let rules = config.rules.iter().filter(move |r| r.listeners.contains(&l.name));
        rules.map(|r| &r.action).chain([&l.default]).map(move |action| (l, action))
    });
    let groups = actions.filter_map(|(l, action)| match action {
        Action::Forward(groups) => Some(groups.iter().map(move |g| (l, g))),
        _ => None,
    });
    let group = |name: &str| config.groups.iter().find(|g| g.name == name);
    groups.flatten().filter_map(move |(l, forward)| Some((l, group(&forward.group)?)))
}

fn default(listener: &Listener) -> Option<Problem> {
    let none = Action::Respond(Respond { status: 404, ..Respond::default() });
    let forwards = matches!(listener.default, Action::Forward(_)) || listener.default == none;
    let found = (listener.protocol.is_relayed() && !forwards).then(|| action(&listener.default))?;
    Some(Problem {
        place: listener.place.clone(),
        key: format!("listener.{}.default", listener.name),
        found: format!("{found} with protocol = \"{}\"", listener.protocol.name()),
        expected: "forward, or no default: then connections that no rule takes are closed"
            .to_owned(),
        hint: None,
    })
}

fn rule(rule: &Rule, listener: &str, protocol: Protocol) -> Option<Problem> {
    let when = &rule.when;
    let conditions = [
        ("host", !when.host.is_empty() && protocol != Protocol::Tls),
        ("path", !when.path.is_empty()),
        ("path_regex", !when.path_regex.is_empty()),
        ("method", !when.method.is_empty()),
        ("header", !when.header.is_empty()),
        ("query", !when.query.is_empty()),
        ("cookie", !when.cookie.is_empty()),
    ];
    let forwards = matches!(rule.action, Action::Forward(_));
    let others = [
        (action(&rule.action), !forwards),
        ("timeouts.body", rule.timeouts.body.is_some()),
        ("timeouts.response", rule.timeouts.response.is_some()),
        ("limits.body", rule.body_limit.is_some()),
        ("origins", !rule.origins.is_empty()),
        ("sticky", rule.traffic.sticky.is_some()),
        ("canary", rule.traffic.canary.is_some()),
    ];
    let when = conditions.iter().filter(|(_, given)| *given).map(|(key, _)| format!("when.{key}"));
    let others = others.iter().filter(|(_, given)| *given).map(|(key, _)| (*key).to_owned());
    let found: Vec<String> = when.chain(others).collect();
    if found.is_empty() {
        return None;
    }
    let known = if protocol == Protocol::Tls { "when.host and when.source" } else { "when.source" };
    Some(Problem {
        place: rule.place.clone(),
        key: format!("rule.{}", rule.name),
        found: format!(
            "{} on listener {listener:?} of protocol {}",
            found.join(", "),
            protocol.name()
        ),
        expected: format!("forward, {known}: connections are relayed as they are"),
        hint: Some(match (protocol, rule.when.host.is_empty()) {
            (Protocol::Tcp, false) => "protocol = \"tls\" knows names".to_owned(),
            _ => "give requests and connections rules of their own".to_owned(),
        }),
    })
}

fn action(action: &Action) -> &'static str {
    match action {
        Action::Forward(_) => "forward",
        Action::Redirect(_) => "redirect",
        Action::Respond(_) => "respond",
        Action::Aggregate(_) => "aggregate",
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Problems};

    const FILE: &str = "[group.g]\ntargets = [\"127.0.0.1:1\"]\n";

    fn parse(text: &str) -> Result<Config, Problems> {
        crate::config::parse(&format!("{text}\n{FILE}"), "a.toml", &|_| None)
    }

    fn listener(protocol: &str, more: &str) -> String {
        format!(
            "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\nprotocol = \"{protocol}\"\n{more}\n"
        )
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = match parse(text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        let fits = found.len() == expected.len()
            && found.iter().zip(expected).all(|(found, expected)| found.contains(expected));
        assert!(fits, "{text}\nexpected {expected:#?}\nfound {found:#?}");
    }

    fn rule(key: &str) -> String {
        format!("[[rule]]\nname = \"r\"\nlistener = \"l\"\n{key}\n")
    }

    #[test]
    fn connections_that_are_relayed_have_no_requests() {
        let (tcp, tls, http) = (listener("tcp", ""), listener("tls", ""), listener("http", ""));
        let forward = "forward = \"g\"";
        check(&listener("tcp", "default = { forward = \"g\" }"), &[]);
        check(&tcp, &[]);
        check(&listener("tcp", "default = { respond = { status = 200 } }"), &["found respond"]);
        check(&listener("tls", "desync = \"monitor\""), &["it has no requests"]);
        check(
            &listener("tcp", "http2 = false\ntimeouts = { body = \"1s\" }"),
            &["http2", "header or idle"],
        );
        check(&listener("tcp", "hsts = { max_age = 1 }"), &["listener.l.hsts"]);
        check(&listener("tcp", "tls = {}"), &["tls only with protocol = \"https\""]);
        check(&listener("tls", "tls = {}"), &["relays TLS as it is"]);
        check(&listener("tcpp", ""), &["expected one of http"]);
        check(
            &(tcp.clone() + &rule(&format!("{forward}\nwhen = {{ source = \"10.0.0.0/8\" }}"))),
            &[],
        );
        for (condition, name) in [
            ("host = \"a.test\"", "when.host"),
            ("path = \"/a\"", "when.path"),
            ("path_regex = \"^/a\"", "when.path_regex"),
            ("method = \"GET\"", "when.method"),
            ("header = { a = \"b\" }", "when.header"),
            ("query = { a = \"b\" }", "when.query"),
            ("cookie = { a = \"b\" }", "when.cookie"),
        ] {
            let text = rule(&format!("{forward}\nwhen = {{ {condition} }}"));
            check(&(tcp.clone() + &text), &[name]);
            check(&(http.clone() + &text), &[]);
            let on_tls: &[&str] = if name == "when.host" { &[] } else { &[name] };
            check(&(tls.clone() + &text), on_tls);
        }
        check(&(tcp.clone() + &rule("respond = { status = 200 }")), &["found respond"]);
        check(
            &(tcp.clone() + &rule(&format!("{forward}\nlimits = {{ body = 1 }}"))),
            &["limits.body"],
        );
        for key in ["sticky = {}", "canary = { group = \"h\", percent = 1 }"] {
            let groups = "forward = [{ group = \"g\" }, { group = \"h2\" }]";
            let more = "[group.h]\ntargets = []\n[group.h2]\ntargets = []\n";
            let name = key.split(' ').next().unwrap();
            check(&(tcp.clone() + &rule(&format!("{groups}\n{key}")) + more), &[name]);
        }
        check(&(tcp + &rule(&format!("{forward}\ntimeouts = {{ idle = \"1s\" }}"))), &[]);
    }

    // Hazards H1-21 and WS-05.
    #[test]
    fn nothing_is_upgraded_to_what_hides_requests() {
        let with = |key: &str| listener("http", "") + &rule(&format!("forward = \"g\"\n{key}"));
        let rules = |key: &str| parse(&with(key)).unwrap().rules;
        assert_eq!(rules("")[0].upgrade, ["websocket"]);
        assert!(rules("upgrade = []")[0].upgrade.is_empty());
        assert_eq!(
            rules("upgrade = [\"WebSocket\", \"foo/2\"]")[0].upgrade,
            ["websocket", "foo/2"]
        );
        for bad in ["h2c", "H2", "HTTP/2.0", "tls/1.0", "a b", "", "a/b/c"] {
            check(&with(&format!("upgrade = [\"{bad}\"]")), &["rule.r.upgrade"]);
        }
        let origins = rules("origins = [\"https://A.test\", \"http://*.b.test:81\"]");
        assert_eq!(origins[0].origins, ["https://a.test", "http://*.b.test:81"]);
        for bad in
            ["a.test", "https://", "https://a.test/x", "https://*", "https://a.*.test", "null"]
        {
            check(&with(&format!("origins = [\"{bad}\"]")), &["rule.r.origins"]);
        }
        check(&with("origins = []"), &["rule.r.origins"]);
    }
}
