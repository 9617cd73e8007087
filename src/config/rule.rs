//! `[[rule]]` with its conditions, and `[[expect]]`, which tests them.
//!
//! That listeners, groups and rules of these names exist is noted for `check`. Called by `read`.

use crate::config::action::{self, fields};
use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table};
use crate::config::keys::{
    EXPECT, EXPECT_ANSWER, EXPECT_SENT, RULE, RULE_LIMITS, RULE_TIMEOUTS, WHEN,
};
use crate::config::problem::Wrong;
use crate::config::sections::{self, BODY};
use crate::config::syntax::{self, value_pattern};
use crate::config::{Action, Expect, ExpectAnswer, ExpectSent, Respond, Rule, Taker, When};
use crate::config::{policy, relayed, traffic};
use crate::transform::Scope;

/// The largest `priority`.
const LAST_PRIORITY: u64 = 1_000_000;
/// The most values of one condition.
const MOST_VALUES: usize = 10_000;

/// One rule; `item.path` is `rule.NAME`.
pub(super) fn rule(item: &Item<'_>, seen: &mut Seen) -> Option<Rule> {
    let table = item.table(RULE)?;
    let name = table.need("name", syntax::NAME).and_then(|item| {
        let name = item.parsed(syntax::NAME, |text| match text {
            "none" => Wrong::expected("another name: an expect says \"none\" for no rule"),
            text => syntax::name(text),
        })?;
        seen.rule(&name, &item);
        Some(name)
    });
    let priority = table.item("priority").and_then(|item| item.integer(0..=LAST_PRIORITY));
    let limits = table.item("limits").and_then(|item| item.table(RULE_LIMITS));
    let body_limit = limits.and_then(|table| table.item("body")?.size_or_none(BODY));
    let action = action::action(&table, seen, Scope::RULE);
    Some(Rule {
        name: name.unwrap_or_default(),
        listeners: listeners(&table, seen),
        priority: priority.and_then(|priority| u32::try_from(priority).ok()),
        when: table.item("when").and_then(|item| when(&item)).unwrap_or_default(),
        action: action.unwrap_or_else(|| Action::Respond(Respond::default())),
        timeouts: sections::overrides(&table, RULE_TIMEOUTS),
        upgrade: relayed::upgrade(&table),
        origins: relayed::origins(&table),
        body_limit,
        policies: policy::names(&table, seen),
        traffic: traffic::of_rule(&table, seen),
        place: item.place(),
    })
}

fn listeners(table: &Table<'_>, seen: &mut Seen) -> Vec<String> {
    const KIND: &str = "the name of a listener";
    let Some(item) = table.item("listener") else { return Vec::new() };
    let mut names: Vec<String> = Vec::new();
    for item in item.one_or_more(KIND) {
        let Some(name) = item.parsed(KIND, syntax::name) else { continue };
        seen.uses(Kind::Listener, &name, &item);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `[rule.when]`
fn when(item: &Item<'_>) -> Option<When> {
    const VALUE: &str = "a pattern without control characters";
    let table = item.table(WHEN)?;
    let field_name = |name: &str| (!syntax::is_token(name)).then_some("a field name");
    let query_key = |key: &str| value_pattern(key).err().map(|_| "a query key");
    let cookie_name = |name: &str| (!syntax::is_token(name)).then_some("a cookie name");
    let lower = str::to_ascii_lowercase;
    Some(When {
        host: patterns(&table, "host", syntax::HOST, syntax::host_pattern),
        path: patterns(&table, "path", syntax::PATH, syntax::path_pattern),
        path_regex: patterns(
            &table,
            "path_regex",
            "a regular expression without look-around and back-references",
            syntax::regex,
        ),
        method: patterns(&table, "method", "a method, a token as \"GET\"", syntax::method),
        header: pairs(&table, "header", VALUE, field_name, lower),
        query: pairs(&table, "query", VALUE, query_key, str::to_owned),
        cookie: pairs(&table, "cookie", VALUE, cookie_name, str::to_owned),
        source: patterns(&table, "source", syntax::NETWORK, syntax::network),
    })
}

/// The values of one condition. An empty list would hold for everything, which nobody means.
fn patterns<T>(
    table: &Table<'_>,
    key: &str,
    kind: &str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    table.item(key).map_or_else(Vec::new, |item| values(&item, kind, parse))
}

fn values<T>(item: &Item<'_>, kind: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Vec<T> {
    let items = item.one_or_more(kind);
    if items.len() > MOST_VALUES {
        let found = format!("{} values", items.len());
        item.problem(found, format!("at most {MOST_VALUES}"), None);
    }
    items.iter().filter_map(|item| item.parsed(kind, &parse)).collect()
}

/// A condition of names, each with its values.
fn pairs(
    table: &Table<'_>,
    key: &str,
    kind: &str,
    refused: impl Fn(&str) -> Option<&'static str>,
    written: impl Fn(&str) -> String,
) -> Vec<(String, Vec<String>)> {
    let Some(item) = table.item(key) else { return Vec::new() };
    let entries = item.entries("a table of names, each with a pattern or a list of patterns");
    if entries.is_empty() && item.is_table() {
        item.problem("an empty table", "at least one name", None);
    }
    let pair = |(name, item): (&str, Item<'_>)| {
        if let Some(expected) = refused(name) {
            item.problem(format!("{name:?}"), expected, None);
        }
        (written(name), values(&item, kind, value_pattern))
    };
    entries.into_iter().map(pair).collect()
}

/// One expectation.
pub(super) fn expect(item: &Item<'_>, seen: &mut Seen) -> Option<Expect> {
    const REQUEST: &str =
        "a method and an absolute URL, as \"GET http://api.example.com/v1/x?a=b\"";
    const RULE: &str = "the name of a rule, or \"none\"";
    let table = item.table(EXPECT)?;
    let request = table.need("request", REQUEST).and_then(|item| item.parsed(REQUEST, request));
    let taker = table.item("rule").and_then(|item| {
        let name = item.parsed(RULE, syntax::name)?;
        if name == "none" {
            return Some(Taker::Nobody);
        }
        seen.uses(Kind::Rule, &name, &item);
        Some(Taker::Rule(name))
    });
    let group = table.item("group").and_then(|item| {
        let name = item.parsed("the name of a group", syntax::name)?;
        seen.uses(Kind::Group, &name, &item);
        Some(name)
    });
    let status = table.item("status").and_then(|item| item.integer(200..=599));
    let response = table.item("response").map(|item| fields(&item, |_| None));
    let sent = table.item("sent").and_then(|item| sent(&item));
    if ["rule", "group", "status", "response", "sent"].iter().all(|key| table.item(key).is_none()) {
        let path = format!("{}.rule", item.path);
        table.problem(path, "nothing that is expected", "rule, group, status, response or sent");
    }
    let body = table.item("body").and_then(|item| item.parsed(BODY_TEXT, text));
    let refused = |name: &str| body.as_ref().and_then(|_| framing(name));
    let headers = table.item("headers").map(|item| fields(&item, refused)).unwrap_or_default();
    let answer = table.item("answer").and_then(|item| answer(&item));
    let listener = table.item("listener").and_then(|item| {
        let name = item.parsed("the name of a listener", syntax::name)?;
        seen.uses(Kind::Listener, &name, &item);
        Some(name)
    });
    let source = table.item("source").and_then(|item| {
        item.parsed("an address such as \"192.0.2.1\"", |text| {
            text.parse().or_else(|_| Wrong::plain())
        })
    });
    let expect = Expect {
        request: request.unwrap_or_default(),
        taker: taker.unwrap_or_default(),
        group,
        status: status.and_then(|status| u16::try_from(status).ok()),
        response: response.unwrap_or_default(),
        sent,
        listener,
        headers,
        body,
        answer,
        source,
        place: item.place(),
    };
    if let Some(item) = table.item("answer").filter(|_| !expect.is_played()) {
        let expected = "group, status, response or sent with it: no target is asked for a rule";
        item.problem("answer, and nothing that follows from it", expected, None);
    }
    Some(expect)
}

const BODY_TEXT: &str = "a text, the octets of a body";

fn text(text: &str) -> Result<String, Wrong> {
    Ok(text.to_owned())
}

// `answer = { status = 404, headers = { content-type = "application/json" }, body = "{}" }`
fn answer(item: &Item<'_>) -> Option<ExpectAnswer> {
    let table = item.table(EXPECT_ANSWER)?;
    let status = table.item("status").and_then(|item| item.integer(200..=599));
    let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(200);
    let body = table.item("body").and_then(|item| item.parsed(BODY_TEXT, text)).unwrap_or_default();
    if let Some(item) = table.item("body").filter(|_| matches!(status, 204 | 304)) {
        item.problem(format!("a body of an answer with status {status}"), "no body", None);
    }
    let headers = table.item("headers").map(|item| fields(&item, framing)).unwrap_or_default();
    Some(ExpectAnswer { status, headers, body })
}

// What follows from a body, and from the connection that is played.
fn framing(name: &str) -> Option<&'static str> {
    let ours = ["content-length", "transfer-encoding", "connection", "trailer", "upgrade"];
    let ours = ours.iter().any(|one| name.eq_ignore_ascii_case(one));
    ours.then_some("none of those that frame a message: they are written for the body")
}

// `sent = { target = "/v2/*", host = "app.internal", headers = { x-tenant = "a" } }`
fn sent(item: &Item<'_>) -> Option<ExpectSent> {
    const PATTERN: &str = "a pattern without control characters";
    let table = item.table(EXPECT_SENT)?;
    let pattern = |key: &str| table.item(key)?.parsed(PATTERN, value_pattern);
    Some(ExpectSent {
        target: pattern("target"),
        host: pattern("host"),
        headers: table.item("headers").map(|item| fields(&item, |_| None)).unwrap_or_default(),
    })
}

fn request(text: &str) -> Result<String, Wrong> {
    let (method, url) = text.split_once(' ').unwrap_or_default();
    let method = syntax::method(method)?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(Wrong::default)?;
    let (authority, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let host_fits = syntax::host_pattern(host).is_ok() && !host.contains(['*', '?']);
    let port_fits = port.is_none_or(|port| syntax::port(port).is_some());
    if !host_fits || !port_fits || !syntax::is_visible(rest) || rest.contains('#') {
        return Wrong::plain();
    }
    Ok(format!("{method} {url}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_requests() {
        for (text, expected) in [
            ("GET http://a/", true),
            ("GET https://a.example:8443?x=1", true),
            ("PURGE http://[::1]:80/x", true),
            ("GET http://[::1]/x", true),
            ("GET /x", false),
            ("GET", false),
            ("", false),
            ("get http://a/", false),
            ("GET http:///x", false),
            ("GET http://a:0/", false),
            ("GET http://a/ b", false),
            ("GET ftp://a/", false),
        ] {
            assert_eq!(request(text).is_ok(), expected, "{text}");
        }
    }
}
