//! What is explained, of files and of states.

use super::*;
use crate::health::State;

const FILE: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
[[rule]]
name = "hooks"
priority = 1
when = { path = ["/hooks/*"], method = ["POST"] }
forward = "app"
[[rule]]
name = "api"
when = { path = ["/api/*"] }
policy = ["few", "keys"]
forward = "app"
[group.app]
targets = ["192.0.2.8:80", { address = "192.0.2.9:80", weight = 3, zone = "a" }]
[policy.few]
rate = { limit = "2/m" }
[policy.keys]
basic = { users = { x = "$2b$04$......................JZLmQXEDO7PWzjJbAbBdsuDBlXbgA8C" } }
"#;

fn asked(request: &str) -> Asked {
    Asked { request: request.to_owned(), headers: Vec::new(), listener: None, source: None }
}

fn config(text: &str) -> Config {
    crate::config::parse(text, "a.toml", &|_| None).unwrap_or_else(|p| panic!("{p}"))
}

#[test]
fn every_rule_says_what_it_lacks_up_to_the_one_that_takes_it() {
    let config = config(&FILE.replace("policy = [\"few\", \"keys\"]", "policy = \"few\""));
    let e = build(&config, None, &asked("GET http://a.test/api/x?y=1")).unwrap();
    let rules: Vec<_> = e.rules.iter().map(|r| (r.name.as_str(), r.misses.is_some())).collect();
    assert_eq!(rules, [("hooks", true), ("api", false)]);
    assert_eq!((e.rule.as_deref(), e.action.as_str()), (Some("api"), "forward"));
    assert_eq!(e.sent.len(), 1);
    assert_eq!(e.sent[0].head[0], "GET /api/x?y=1 HTTP/1.1");
    assert_eq!(e.answer[0], "HTTP/1.1 200 OK");
    let text = text::text(&e);
    for line in [
        "rule          hooks (a.toml:5, priority 1): none of its `path` patterns fits",
        "rule       -> api (a.toml:10): takes it",
        "policy        few (rate): lets it pass",
        "  target      192.0.2.9:80 initial, weight 3, zone a, 0 in flight: candidate",
        "    > GET /api/x?y=1 HTTP/1.1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn what_ends_a_request_is_named_with_what_is_not_reached() {
    let e = build(&config(FILE), None, &asked("GET http://a.test/api/x")).unwrap();
    let says: Vec<_> = e.policies.iter().map(|p| (p.name.as_str(), p.says)).collect();
    assert_eq!(says, [("few", "passes"), ("keys", "ends")]);
    assert!(e.reason.as_deref().unwrap_or_default().starts_with("credentials_missing"), "{e:?}");
    let none = build(&config(FILE), None, &asked("GET http://a.test/")).unwrap();
    assert_eq!((none.rule, none.rules.len()), (None, 2));
    assert!(none.reason.unwrap_or_default().starts_with("no_route"));
    let bad = build(&config(FILE), None, &asked("GET http://a.test/%zz")).unwrap();
    assert!(bad.refused.unwrap_or_default().starts_with("400 "));
}

#[test]
fn of_what_runs_it_tells_states_and_fills() {
    let config = config(FILE);
    let context = Context { generation: 7, workers: 1, old: None, resolve: &|_| Vec::new() };
    let running = compile(&config, context).unwrap();
    running.groups[0].targets[0].live.set_health(State::Unhealthy);
    let question = br#"{"request": "GET http://a.test/api/x"}"#;
    let json = live(&config, &running, question, true).unwrap();
    let e: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(e["generation"], 7);
    assert_eq!(e["policies"][0]["fill"], "1 of 1 left");
    let again: serde_json::Value =
        serde_json::from_str(&live(&config, &running, question, true).unwrap()).unwrap();
    assert_eq!(again["policies"][0]["fill"], "1 of 1 left", "explaining counts nothing");
    assert!(live(&config, &running, b"{}", true).unwrap_err().contains("request"));
    let open = config_of_all();
    let e = build(&open, Some(&running), &asked("GET http://a.test/api/x")).unwrap();
    let group = e.group.unwrap();
    let candidates: Vec<_> = group.targets.iter().map(|t| (t.state, t.candidate)).collect();
    assert_eq!(candidates, [("unhealthy", false), ("initial", true)]);
    assert_eq!(e.sent[0].target, "192.0.2.9:80");
}

fn config_of_all() -> Config {
    config(&FILE.replace("policy = [\"few\", \"keys\"]", "policy = \"few\""))
}

#[test]
fn what_is_left_to_chance_is_said() {
    let text = FILE.replace(
        "policy = [\"few\", \"keys\"]\nforward = \"app\"",
        "forward = [{ group = \"app\", weight = 9 }, { group = \"new\", weight = 1 }]\nmirror = { group = \"new\", share = \"2.5%\" }\n\
         inject = [{ abort = 503, share = \"50%\" }]",
    ) + "[group.new]\ntargets = [\"192.0.2.7:80\"]\n";
    let e = build(&config(&text), None, &asked("GET http://a.test/api/x")).unwrap();
    assert_eq!((e.sent.len(), e.answer[0].as_str()), (1, "HTTP/1.1 200 OK"));
    assert_eq!(
        e.notes,
        [
            "groups are chosen by weight: app 9, new 1",
            "2.5 % of such requests are copied to group new; none is here",
            "50 % of such requests meet a fault on purpose; none does here",
        ]
    );
}
