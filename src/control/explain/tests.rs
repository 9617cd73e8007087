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
        "  target      192.0.2.9:80 initial, weight 3, zone a, 0 in flight: candidate for 75 %",
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
    assert!(e["answer"][0].as_str().unwrap().contains(" 401 "), "{e}");
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
            "50 % of such requests meet a fault on purpose (is answered 503); none does here",
        ]
    );
}

const STANDS: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
[[rule]]
name = "each"
when = { path = ["/each"] }
policy = ["keys", "own"]
forward = "app"
[[rule]]
name = "page"
when = { path = ["/page"] }
cache = {}
forward = "app"
[[rule]]
name = "all"
policy = "few"
forward = "app"
[group.app]
targets = ["192.0.2.8:80", "192.0.2.9:80", { address = "192.0.2.10:80", tier = 1 }, { address = "192.0.2.11:80", weight = 0 }]
health = { type = "off" }
breaker = { consecutive = 1 }
outlier = {}
sticky = {}
[policy.few]
rate = { limit = "2/m" }
[policy.own]
rate = { limit = "2/m", key = "consumer" }
[policy.keys]
basic = { users = { a = "HASH", b = "HASH" } }
"#;

// The file, and what runs by it, with a stage to play requests in it.
fn standing(text: &str) -> (Config, Arc<Snapshot>, Stage) {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let config = config(&text.replace("HASH", &hash));
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| vec![RESOLVED] };
    let running = Arc::new(compile(&plain(&config), context).unwrap());
    let stage = Stage::new(Arc::clone(&running)).unwrap();
    (config, running, stage)
}

fn with(request: &str, headers: &[(&str, &str)]) -> Asked {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    Asked { headers: headers.collect(), ..asked(request) }
}

fn run(stage: &Stage, asked: &Asked) -> String {
    let octets = written(&asked.request, &asked.headers, None).unwrap();
    let part = Part { listener: 0, octets: &octets, source: SOURCE, tls: None, answer: None };
    String::from_utf8(stage.play(&part, 0).answer).unwrap()
}

const OPEN: [(&str, &str); 1] = [("authorization", "Basic YTpzZWNyZXQ=")];
const OTHER: [(&str, &str); 1] = [("authorization", "Basic YjpzZWNyZXQ=")];

#[test]
fn a_limit_that_the_process_has_used_up_refuses() {
    let (config, running, stage) = standing(STANDS);
    for (request, used) in
        [(asked("GET http://a.test/x"), "few"), (with("GET http://a.test/each", &OPEN), "own")]
    {
        let before = build(&config, Some(&running), &request).unwrap();
        assert_eq!(before.answer[0], "HTTP/1.1 200 OK", "{before:?}");
        assert!(run(&stage, &request).starts_with("HTTP/1.1 200 "));
        for _ in 0..2 {
            let e = build(&config, Some(&running), &request).unwrap();
            let last = e.policies.last().unwrap();
            assert_eq!((last.name.as_str(), last.says), (used, "ends"), "{e:?}");
            assert_eq!(last.fill.as_deref(), Some("0 of 1 left"));
            assert!(e.answer[0].contains(" 429 "), "{e:?}");
            assert!(
                e.answer.iter().any(|line| line.to_ascii_lowercase().starts_with("retry-after"))
            );
        }
    }
    let other = build(&config, Some(&running), &with("GET http://a.test/each", &OTHER)).unwrap();
    assert_eq!(other.answer[0], "HTTP/1.1 200 OK", "it is another consumer's");
    let wrong = with("GET http://a.test/each", &[("authorization", "Basic YTp4")]);
    let wrong = build(&config, Some(&running), &wrong).unwrap();
    assert!(wrong.reason.unwrap().starts_with("credentials_invalid"));
}

#[test]
fn breakers_ejections_and_tiers_are_as_they_stand() {
    let (config, running, _stage) = standing(STANDS);
    let group = &running.groups[0];
    let watch = &group.targets[0].live.guard.watch;
    let now = Tick::now();
    let lasts = std::time::Duration::from_secs(90);
    assert!(watch.eject(crate::protect::outlier::Reason::Slow, now, now.after(lasts)));
    let e = build(&config, Some(&running), &asked("GET http://a.test/x")).unwrap();
    assert_eq!(e.sent[0].target, "192.0.2.9:80");
    let text = text::text(&e);
    for part in [
        "192.0.2.8:80 unavailable, weight 1, tier 0, 0 in flight: not a candidate: taken out (slow: It takes much",
        "back in 8",
        "192.0.2.9:80 unavailable, weight 1, tier 0, 0 in flight: candidate for 100 %",
        "tier 1, 0 in flight: not a candidate: tier 0 comes first",
        "weight 0, tier 0, 0 in flight: not a candidate: weight 0",
        "breaker closed",
        "note          limits of the whole machine",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let settings = group.traffic.breaker.as_deref().unwrap();
    let bad = crate::protect::Outcome::Bad(crate::protect::Cause::Connect);
    assert!(group.live.breaker.ended(settings, bad, now, (0, 1)));
    for _ in 0..2 {
        let e = build(&config, Some(&running), &asked("GET http://a.test/x")).unwrap();
        assert!(e.reason.as_deref().unwrap_or_default().starts_with("breaker_open"), "{e:?}");
        assert!(e.group.unwrap().breaker.unwrap().starts_with("open for "));
        assert!(e.sent.is_empty());
    }
    assert_eq!(group.live.breaker.refused(), 0, "explaining counts nothing");
    let page = build(&config, Some(&running), &asked("GET http://a.test/page")).unwrap();
    assert!(page.notes.iter().any(|note| note.contains("what the cache holds")), "{page:?}");
}

#[test]
fn cookies_of_the_process_are_believed_and_steering_is_said() {
    let (config, running, stage) = standing(STANDS);
    let request = asked("GET http://a.test/page");
    let e = build(&config, None, &request).unwrap();
    assert!(e.notes.iter().any(|note| note.contains("--running asks it")), "{:?}", e.notes);
    let answer = run(&stage, &request);
    let line = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = line.split(';').next().unwrap();
    let target = "target: it stays where its cookie says";
    let e = build(&config, Some(&running), &with(&request.request, &[("cookie", cookie)])).unwrap();
    assert_eq!(e.steered, [target]);
    let e = build(&config, None, &with(&request.request, &[("cookie", cookie)])).unwrap();
    assert!(e.steered[0].contains("no cookie that is believed"), "{e:?}");
    let canary = STANDS.replace("cache = {}", "canary = { group = \"new\", percent = 0, by = \"client_ip\", force = { header = \"x-c\" } }")
        + "[group.new]\ntargets = [\"192.0.2.7:80\"]\n";
    let (config, ..) = standing(&canary);
    let e = build(&config, None, &with("GET http://a.test/page", &[("x-c", "1")])).unwrap();
    assert_eq!(e.steered, ["canary: in, to group new: x-c says so"]);
    let e = build(&config, None, &asked("GET http://a.test/page")).unwrap();
    assert_eq!(e.steered[0], "canary: out: its share is 0 % of addresses, and this one's number");
    assert!(text::text(&e).contains("\nsteered       canary: out"));
}

#[test]
fn what_decides_before_any_rule_is_named() {
    let text = FILE
        .replace("bind = [\"127.0.0.1:8080\"]", "bind = [\"127.0.0.1:80\"]\nredirect_https = true");
    let e = build(&config(&text), None, &asked("POST http://a.test/hooks/api/x")).unwrap();
    assert_eq!((e.rules.len(), e.policies.len(), e.rule.as_deref()), (0, 0, None));
    assert!(e.answer[0].contains(" 308 "), "{e:?}");
    let text = text::text(&e);
    let line = "rule       -> none is looked at: redirect_https of listener \"web\" decides";
    assert!(text.lines().any(|l| l == line) && !text.contains("takes it"), "{text}");
}

#[test]
fn what_is_asked_must_fit_and_what_does_not_is_said() {
    let open = config_of_all();
    for wrong in ["GET ftp://a.test/api/x", "GET /api/x", "http:/api"] {
        assert!(
            build(&open, None, &asked(wrong)).unwrap_err().contains("http or https"),
            "{wrong}"
        );
    }
    let e = build(&open, None, &asked("GET https://a.test/api/x")).unwrap();
    assert!(e.notes[0].starts_with("no listener speaks https"), "{:?}", e.notes);
    let fields = [("Content-Length", "5"), ("host", "b.test"), ("x-a", "1")];
    let e = build(&open, None, &with("POST http://a.test/api/x", &fields)).unwrap();
    assert_eq!(e.answer[0], "HTTP/1.1 200 OK");
    assert_eq!(
        e.notes,
        ["content-length is left out: it has no body here", "host is left out: the URL says it"]
    );
    assert!(e.sent[0].head.iter().any(|line| line == "x-a: 1"));
}

#[test]
fn faults_are_told_of_requests_that_may_meet_them() {
    let text = FILE.replace(
        "policy = [\"few\", \"keys\"]",
        "inject = [{ delay = \"20ms\", when = { header = { x-f = [\"slow\"] } } }, { abort = 503, share = \"50%\", when = { header = { x-f = [\"*\"] } } }]",
    );
    let config = config(&text);
    let notes = |fields: &[(&str, &str)]| {
        let e = build(&config, None, &with("GET http://a.test/api/x", fields)).unwrap();
        assert_eq!(e.answer[0], "HTTP/1.1 200 OK");
        e.notes
    };
    assert_eq!(notes(&[]), Vec::<String>::new());
    assert_eq!(
        notes(&[("x-f", "slow")]),
        [
            "on purpose, it is held back for 20ms",
            "50 % of such requests meet a fault on purpose (is answered 503); none does here"
        ]
    );
}

#[test]
fn each_part_of_an_answer_is_shown_with_its_group() {
    let text = "[[listener]]\nname = 'web'\nbind = '127.0.0.1:80'\n[[rule]]\nname = 'home'\n\
                [rule.aggregate.parts.user]\ngroup = 'users'\npath = '/u/#{query.id}'\n\
                [rule.aggregate.parts.news]\ngroup = 'news'\npath = '/n'\n\
                [group.users]\ntargets = ['192.0.2.8:80']\n[group.news]\ntargets = ['192.0.2.9:80']\n";
    let e = build(&config(text), None, &asked("GET http://a.test/home?id=7")).unwrap();
    assert_eq!(e.answer[0], "HTTP/1.1 200 OK", "{e:?}");
    let sent: Vec<_> = e
        .sent
        .iter()
        .map(|s| (s.part.as_deref().unwrap(), s.target.as_str(), s.head[0].as_str()))
        .collect();
    assert_eq!(
        sent,
        [
            ("user", "192.0.2.8:80", "GET /u/7 HTTP/1.1"),
            ("news", "192.0.2.9:80", "GET /n HTTP/1.1")
        ]
    );
    let text = text::text(&e);
    for line in
        ["group         users (part user, round_robin)", "sent to       192.0.2.9:80 for part news"]
    {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn what_another_service_would_say_is_left_open() {
    let text = FILE.replace("\"keys\"]", "\"ask\", \"keys\"]")
        + "[policy.ask]\nforward_auth = { url = \"http://127.0.0.1:1/check\" }\n";
    let e = build(&config(&text), None, &asked("GET http://a.test/api/x")).unwrap();
    let says: Vec<_> = e.policies.iter().map(|p| p.says).collect();
    assert_eq!(says, ["passes", "asks", "not_reached"], "{e:?}");
    assert_eq!((e.answer.len(), e.reason.as_deref()), (0, None));
    assert!(
        e.notes[0].contains("GET http://127.0.0.1:1/check, which is not asked"),
        "{:?}",
        e.notes
    );
    assert!(text::text(&e).contains("answer        not known here"));
}
