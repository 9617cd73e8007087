//! Expectations of a file that only playing them through can tell: the group, the status, fields of the answer, what a target is
//! sent.
//!
//! Which rule takes a request is judged without playing it (`snapshot::expect`). Called by `check`, and so before every reload.

use crate::config::{Action, Config, Expect, ExpectSent, Problem, Taker};
use crate::control::rehearsal::{Delivered, Part, Played, Stage, plain};
use crate::fanout::PartSettings;
use crate::route::Pattern;
use crate::snapshot::compile::{Context, compile};
use crate::snapshot::expect::{listener_for, written};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Where an expected request comes from when nothing is said of it (RFC 5737: an address for documentation).
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// What a name resolves to: which address it is does not matter.
pub const RESOLVED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

// How often a request whose group is left to chance is played before the expected one is said not to take it: one of weight 1 in
// 1,000 is missed by so many once in 150 such files. The same draws are made each time. And how often in a file.
const TRIES: u64 = 5_000;
const LUCK: u64 = 20_000;

/// Every expectation of the file that is played and not met.
pub fn unmet(config: &Config) -> Vec<Problem> {
    let played = || config.expects.iter().filter(|expect| expect.is_played());
    if played().next().is_none() {
        return Vec::new();
    }
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| vec![RESOLVED] };
    // What cannot be compiled has been said by now.
    let Ok(snapshot) = compile(&plain(config), context) else { return Vec::new() };
    let Some(stage) = Stage::new(Arc::new(snapshot)) else { return Vec::new() };
    let mut luck = LUCK;
    played().filter_map(|expect| judge(config, &stage, expect, &mut luck)).collect()
}

fn judge(config: &Config, stage: &Stage, expect: &Expect, luck: &mut u64) -> Option<Problem> {
    let (_, url) = expect.request.split_once(' ')?;
    let rule = match &expect.taker {
        Taker::Rule(name) => Some(name.as_str()),
        _ => None,
    };
    let listener = listener_for(config, url, expect.listener.as_deref(), rule)?;
    let octets = written(&expect.request, &expect.headers, expect.body.as_deref()).ok()?;
    let part = Part {
        listener,
        octets: &octets,
        source: expect.source.unwrap_or(SOURCE),
        tls: url.strip_prefix("https://").map(name_in),
        answer: expect.answer.as_ref(),
    };
    let played = stage.play(&part, 0);
    let (found, expected) = differs(config, expect, &played)?;
    if goes_elsewhere(config, expect, &played) {
        let draws = 1..=TRIES.min(*luck);
        *luck -= draws.end();
        // What may happen is expected rightly.
        if draws.into_iter().any(|draw| differs(config, expect, &stage.play(&part, draw)).is_none())
        {
            return None;
        }
    }
    let reason = played.record.get("reason").and_then(|r| r.as_str());
    let detail = played.record.get("detail").and_then(|r| r.as_str());
    let hint = match (reason, played.ended) {
        (Some(reason), _) => Some(format!("{reason}: {}", detail.unwrap_or_default())),
        (None, false) => Some("it waits for what is not asked here, as another service".to_owned()),
        (None, true) => None,
    };
    Some(Problem {
        place: expect.place.clone(),
        key: "expect".to_owned(),
        found: format!("{:?}, which {found}", expect.request),
        expected,
        hint,
    })
}

// Whether the rule leaves it to chance which group takes the request, and another one than expected has.
fn goes_elsewhere(config: &Config, expect: &Expect, played: &Played) -> bool {
    let said = |key: &str| played.record.get(key).and_then(|value| value.as_str());
    let rule = config.rules.iter().find(|rule| said("rule") == Some(rule.name.as_str()));
    let Some(rule) = rule else { return false };
    let several = matches!(&rule.action, Action::Forward(groups) if groups.len() > 1);
    (several || rule.traffic.canary.is_some())
        && expect.group.as_deref().is_none_or(|group| said("group") != Some(group))
}

/// The host of what follows the scheme of a URL, without its port.
pub fn name_in(rest: &str) -> &str {
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

// The first thing that is not as expected, and what was.
fn differs(config: &Config, expect: &Expect, played: &Played) -> Option<(String, String)> {
    let said = |key: &str| played.record.get(key).and_then(|value| value.as_str());
    let (head, _) = split(&played.answer);
    let status = status_of(&head).or(played.refused.map(|fault| fault.status()));
    let parts = parts(config, played);
    if let Some(group) = &expect.group
        && said("group") != Some(group.as_str())
        && !parts.iter().any(|part| part.group == *group)
    {
        let found = match said("group") {
            Some(other) if !other.is_empty() => format!("goes to group {other:?}"),
            _ => format!("goes to no group, and is answered {}", status.unwrap_or_default()),
        };
        return Some((found, format!("group {group:?}")));
    }
    if let Some(wanted) = expect.status
        && status != Some(wanted)
    {
        let found = status.map_or("is not answered".to_owned(), |s| format!("is answered {s}"));
        return Some((found, format!("status {wanted}")));
    }
    for (name, pattern) in &expect.response {
        if let Some(found) = lacks(&head, name, pattern) {
            return Some((format!("is answered {found}"), format!("{name}: {pattern}")));
        }
    }
    let sent = expect.sent.as_ref()?;
    // Of several attempts the last counts; of the parts of an answer each one may be meant.
    let from = if parts.is_empty() { played.sent.len().saturating_sub(1) } else { 0 };
    let all = played.sent.get(from..).unwrap_or_default();
    let mut differences = Vec::new();
    for delivered in all {
        differences.push(differs_in(sent, delivered)?);
    }
    let none = || ("reaches no target".to_owned(), "to be sent to one".to_owned());
    Some(differences.into_iter().next_back().unwrap_or_else(none))
}

// What is asked of each group, where the answer is made of several.
fn parts<'c>(config: &'c Config, played: &Played) -> &'c [PartSettings] {
    let said = |key: &str| played.record.get(key).and_then(|value| value.as_str());
    let rule = config.rules.iter().find(|rule| said("rule") == Some(rule.name.as_str()));
    match rule.map(|rule| &rule.action) {
        Some(Action::Aggregate(whole)) if said("action") == Some("aggregate") => {
            &whole.settings.parts
        }
        _ => &[],
    }
}

fn differs_in(expect: &ExpectSent, delivered: &Delivered) -> Option<(String, String)> {
    let (head, _) = split(&delivered.octets);
    let target = head.split(' ').nth(1).unwrap_or_default();
    if let Some(pattern) = &expect.target
        && !Pattern::new(pattern).matches(target.as_bytes())
    {
        return Some((format!("is sent as {target:?}"), format!("target {pattern:?}")));
    }
    let host = expect.host.iter().map(|pattern| ("host", pattern));
    let fields = expect.headers.iter().map(|(name, pattern)| (name.as_str(), pattern));
    for (name, pattern) in host.chain(fields) {
        if let Some(found) = lacks(&head, name, pattern) {
            return Some((format!("is sent {found}"), format!("{name}: {pattern}")));
        }
    }
    None
}

// What there is instead of a field with such a value.
fn lacks(head: &str, name: &str, pattern: &str) -> Option<String> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values: Vec<&str> =
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect();
    let fits = Pattern::new(pattern);
    match values.as_slice() {
        [] => Some(format!("without {name}")),
        values if values.iter().any(|value| fits.matches(value.as_bytes())) => None,
        values => Some(format!("with {name}: {}", values.join(", "))),
    }
}

fn split(octets: &[u8]) -> (String, &[u8]) {
    let end = memchr::memmem::find(octets, b"\r\n\r\n").map_or(octets.len(), |at| at + 4);
    let (head, body) = octets.split_at_checked(end).unwrap_or_default();
    (String::from_utf8_lossy(head).into_owned(), body)
}

fn status_of(head: &str) -> Option<u16> {
    head.split(' ').nth(1).and_then(|status| status.parse().ok())
}

#[cfg(test)]
mod tests {
    const FILE: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
[[rule]]
name = "api"
when = { host = ["api.test"] }
policy = ["few", "known"]
forward = "app"
[[rule]]
name = "old"
when = { path = ["/old"] }
redirect = { path = "/new", status = 301 }
[[rule]]
name = "split"
when = { path = ["/split"] }
forward = [{ group = "app", weight = 98 }, { group = "new", weight = 2 }, { group = "none", weight = 0 }]
[group.app]
targets = ["app.internal:9000"]
[group.new]
targets = ["new.internal:9000"]
[group.none]
targets = ["none.internal:9000"]
[policy.few]
rate = { limit = "1/m" }
[policy.known]
ip = { deny = ["192.0.2.66"] }
"#;

    /// `expect` holds what is expected; `says` what a problem says, or nothing where it is met.
    #[track_caller]
    fn check(expect: &str, says: &str) {
        let text = format!("{FILE}\n[[expect]]\n{expect}\n");
        let checked = crate::control::check::check_text(&text, "a.toml");
        let found = checked.problems.to_string();
        let fits = if says.is_empty() { found.is_empty() } else { found.contains(says) };
        assert!(fits, "{expect}\nexpected {says:?}\nfound {found}");
    }

    #[test]
    fn what_is_left_to_chance_may_be_expected() {
        let split = "request = 'GET http://a.test/split'";
        check(&format!("{split}\ngroup = 'app'"), "");
        check(&format!("{split}\ngroup = 'new'\nsent = {{ target = '/split' }}"), "");
        check(&format!("{split}\ngroup = 'none'"), "goes to group \"app\", expected group");
        check(&format!("{split}\ngroup = 'new'\nstatus = 500"), "expected");
    }

    #[test]
    fn what_would_be_done_is_compared_with_what_is_expected() {
        let api = "request = 'GET http://api.test/x?y=1'";
        check(&format!("{api}\ngroup = 'app'\nstatus = 200"), "");
        check(
            &format!(
                "{api}\nsent = {{ target = '/x?y=1', host = 'api.*', headers = {{ x-forwarded-proto = 'http' }} }}"
            ),
            "",
        );
        check(
            &format!("{api}\nsent = {{ target = '/z' }}"),
            "which is sent as \"/x?y=1\", expected target \"/z\"",
        );
        check(
            &format!("{api}\nsent = {{ headers = {{ x-tenant = 'a' }} }}"),
            "which is sent without x-tenant",
        );
        check(&format!("{api}\nstatus = 403"), "which is answered 200, expected status 403");
        check(&format!("{api}\nsource = '192.0.2.66'\nstatus = 403"), "");
        check(&format!("{api}\nsource = '192.0.2.66'\ngroup = 'app'"), "address_denied");
        let old = "request = 'GET http://a.test/old'";
        check(
            &format!(
                "{old}\nrule = 'old'\nstatus = 301\nresponse = {{ location = 'http://a.test/*' }}"
            ),
            "",
        );
        check(
            &format!("{old}\nresponse = {{ location = '*/old' }}"),
            "which is answered with location: http://a.test/new",
        );
        check(&format!("{old}\ngroup = 'app'"), "which goes to no group, and is answered 301");
        check(&format!("{old}\nsent = {{ target = '*' }}"), "which reaches no target");
        check(old, "nothing that is expected");
        check("request = 'GET http://a.test/none'\nstatus = 404", "");
    }

    const CHANGING: &str = r##"
[[rule]]
name = "made"
when = { path = ["/made"] }
[rule.aggregate.parts.user]
group = "app"
path = "/users/#{query.id}"
[rule.aggregate.parts.news]
group = "new"
path = "/news"
required = false
[[rule]]
name = "change"
when = { path = ["/change"] }
forward = "app"
request = { json = { set = { "seen" = "yes" } } }
response = { json = { set = { "by" = "#{rule}" } }, status = { "404" = 410 } }
[[rule]]
name = "basic"
when = { path = ["/basic"] }
policy = "basic"
forward = "app"
[policy.basic]
basic = { users = { u = "HASH" } }
"##;

    #[track_caller]
    fn check_changing(expect: &str, says: &str) {
        let hash = bcrypt::hash("secret", 4).unwrap();
        check(&format!("{expect}\n{}", CHANGING.replace("HASH", &hash)), says);
    }

    #[test]
    fn the_parts_of_an_answer_are_asked_and_answer_json() {
        let made = "request = 'GET http://a.test/made?id=7'";
        check_changing(&format!("{made}\nrule = 'made'\nstatus = 200"), "");
        check_changing(&format!("{made}\ngroup = 'app'\nsent = {{ target = '/users/7' }}"), "");
        check_changing(&format!("{made}\ngroup = 'new'\nsent = {{ target = '/news' }}"), "");
        check_changing(&format!("{made}\ngroup = 'none'"), "goes to no group");
        check_changing(&format!("{made}\nsent = {{ target = '/z' }}"), "which is sent as");
        let answer = "answer = { status = 503 }";
        check_changing(&format!("{made}\nstatus = 200\n{answer}"), "is answered 502");
    }

    #[test]
    fn bodies_and_answers_are_as_expected_says() {
        let post = "request = 'POST http://a.test/change'\nheaders = { content-type = 'application/json' }";
        let body = "body = '{\"a\": 1}'";
        let sent = "sent = { headers = { content-length = '20' } }";
        check_changing(&format!("{post}\n{body}\n{sent}"), "");
        check_changing(&format!("{post}\n{body}\nresponse = {{ content-length = '15' }}"), "");
        let gone = "answer = { status = 404, headers = { content-type = 'application/json', x-a = 'b' }, body = '{}' }";
        check_changing(
            &format!("{post}\n{body}\nstatus = 410\nresponse = {{ x-a = 'b' }}\n{gone}"),
            "",
        );
        check_changing(&format!("{post}\n{body}\nstatus = 404\n{gone}"), "is answered 410");
        let head = "request = 'HEAD http://api.test/x'";
        check(
            &format!("{head}\nresponse = {{ content-length = '3' }}\nanswer = {{ body = 'abc' }}"),
            "",
        );
        let api = "request = 'GET http://api.test/x'";
        check(&format!("{api}\nstatus = 204\nanswer = {{ status = 204 }}"), "");
        for (wrong, says) in [
            ("answer = { status = 101 }\nstatus = 101", "from 200 to 599"),
            ("answer = { status = 204, body = 'x' }\nstatus = 204", "expected no body"),
            ("answer = { headers = { Content-Length = '1' } }\nstatus = 200", "frame a message"),
            ("answer = { status = 404 }\nrule = 'api'", "nothing that follows from it"),
            ("body = 'x'\nheaders = { content-length = '1' }\nstatus = 200", "frame a message"),
            ("answer = { code = 404 }\nstatus = 404", "status, headers, body"),
        ] {
            check(&format!("{api}\n{wrong}"), says);
        }
    }

    #[test]
    fn passwords_are_checked() {
        let basic = "request = 'GET http://a.test/basic'";
        let right = "headers = { authorization = 'Basic dTpzZWNyZXQ=' }";
        let wrong = "headers = { authorization = 'Basic dTp3cm9uZw==' }";
        check_changing(&format!("{basic}\n{right}\nstatus = 200"), "");
        check_changing(&format!("{basic}\n{wrong}\nstatus = 401"), "");
    }

    #[test]
    fn requests_that_are_expected_use_up_no_limit() {
        let one = "request = 'GET http://api.test/x'\nstatus = 200\n";
        check(&[one; 4].join("[[expect]]\n"), "");
    }
}
