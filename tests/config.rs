//! The file as users write it: examples load, the reference is complete and true, includes and variables.
//!
//! What is wrong with a file, and how that is said, is in `tests/config/` beside this file.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "config/edge.rs"]
mod edge;
#[path = "config/tls.rs"]
mod tls;
#[path = "config/wrong.rs"]
mod wrong;

use proptest::prelude::*;
use ringgate::config::{self, Action, Config, Group, Listener, Problem, Rule, TargetAddress};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn no_env(_: &str) -> Option<String> {
    None
}

fn env(name: &str) -> Option<String> {
    match name {
        "N" => Some("4".to_owned()),
        "NO" => Some("false".to_owned()),
        "HOST" => Some("10.0.0.9".to_owned()),
        "QUOTE" => Some("\"\n[server]\nworkers = 1 #".to_owned()),
        _ => None,
    }
}

/// A listener and a group, for texts that are about something else.
const BASE: &str = "
[[listener]]
name = 'base'
bind = ['127.0.0.1:0']
[group.base]
targets = ['127.0.0.1:1']
";

fn good(text: &str) -> Config {
    match config::parse(&format!("{text}\n{BASE}"), "conf.toml", &env) {
        Ok(config) => config,
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

fn problems(text: &str) -> Vec<Problem> {
    match config::parse(text, "conf.toml", &env) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0,
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn reference() -> (String, Config) {
    let path = repository("config/reference.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    (text, config::load(&path, &no_env).unwrap_or_else(|problems| panic!("{problems}")))
}

#[test]
fn every_file_in_config_loads() {
    let mut count = 0;
    for entry in repository("config").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            count += 1;
            if let Err(problems) = config::load(&path, &no_env) {
                panic!("{problems}");
            }
        }
    }
    assert!(count >= 5, "{count} files");
}

#[test]
fn the_reference_documents_every_key() {
    let documented = documented_keys(&reference().0);
    let known: BTreeSet<String> = config::known_keys().into_iter().collect();
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the reference: {missing:?}");
    let chosen = ["headers.", "when.header.", "when.query.", "when.cookie."];
    let unknown: Vec<_> = documented
        .difference(&known)
        .filter(|key| !chosen.iter().any(|chosen| key.contains(chosen)))
        .collect();
    assert!(unknown.is_empty(), "in the reference, but not known: {unknown:?}");
}

/// The keys of a file, those that are commented out included.
fn documented_keys(text: &str) -> BTreeSet<String> {
    let header = regex::Regex::new(r"^\[\[?([a-z0-9_.]+)\]\]?$").unwrap();
    let key = regex::Regex::new(r"^([a-z0-9_]+) = (.*)$").unwrap();
    let inner = regex::Regex::new(r"[{,] ?([a-z_-]+) =").unwrap();
    let policy = regex::Regex::new(r"^policy\.[a-z_]+").unwrap();
    let part = regex::Regex::new(r"\.parts\.[a-z]+").unwrap();
    let group = regex::Regex::new(r"^group\.[a-z_]+").unwrap();
    let (mut keys, mut table) = (BTreeSet::new(), String::new());
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(found) = header.captures(line) {
            table = group.replace(&found[1], "group.*").into_owned();
            table = policy.replace(&table, "policy.*").into_owned();
            table = table.replace(".plan.gold", ".plan.*");
            table = part.replace(&table, ".parts.*").into_owned();
            // A header names each table above it.
            for (at, _) in table.match_indices('.') {
                keys.insert(table[..at].to_owned());
            }
            keys.insert(table.clone());
        } else if let Some(found) = key.captures(line) {
            let name = &found[1];
            let dotted = if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") };
            for inner in inner.captures_iter(&found[2]) {
                keys.insert(format!("{dotted}.{}", &inner[1]));
            }
            keys.insert(dotted);
        }
    }
    keys.remove("group.*");
    keys.remove("policy.*");
    keys.remove("policy.*.api_key.plan.*");
    keys.remove("rule.aggregate.parts.*");
    keys.remove("listener.default.aggregate.parts.*");
    keys
}

#[test]
fn the_reference_documents_the_defaults() {
    let shown = reference().1;
    let config = good("[admin]");
    assert_eq!(shown.server, config.server);
    assert_eq!(shown.timeouts, config.timeouts);
    assert_eq!(shown.limits, config.limits);
    assert_eq!(shown.admin.unwrap().bind, config.admin.as_ref().unwrap().bind);
    assert_eq!((shown.log.access, shown.log.format), (config.log.access, config.log.format));
    let (shown, default) = (&shown.listeners[0], &config.listeners[0]);
    let named = Listener {
        name: default.name.clone(),
        bind: default.bind.clone(),
        place: default.place.clone(),
        ..shown.clone()
    };
    assert_eq!(named, *default);
}

#[test]
fn the_reference_documents_the_defaults_of_rules_and_groups() {
    let shown = reference().1;
    let default = good("").groups.remove(0);
    let named = Group {
        name: default.name.clone(),
        targets: default.targets.clone(),
        place: default.place.clone(),
        ..shown.groups[0].clone()
    };
    assert_eq!(named, default);
    let default = good("[[rule]]\nname = 'x'\nforward = 'base'").rules.remove(0);
    let named = Rule {
        name: default.name.clone(),
        when: default.when.clone(),
        action: default.action.clone(),
        place: default.place.clone(),
        ..shown.rules[0].clone()
    };
    assert_eq!(named, default);
    let Action::Redirect(redirect) = &shown.rules[1].action else { panic!() };
    let text = "[[rule]]\nname = 'x'\nredirect = { scheme = 'https', port = 443 }";
    assert_eq!(good(text).rules[0].action, Action::Redirect(redirect.clone()));
    let Action::Respond(respond) = &shown.rules[2].action else { panic!() };
    let text = "[[rule]]\nname = 'x'\nrespond = { status = 200, body = \"hello\\n\" }";
    let Action::Respond(default) = &good(text).rules[0].action else { panic!() };
    assert_eq!(respond.content_type, default.content_type);
}

/// Taking `# ` off a line that shows a default changes nothing.
#[test]
fn the_reference_shows_true_defaults_in_comments() {
    let (text, _) = reference();
    let shown = |line: &str| assert!(text.lines().any(|real| real == line), "{line}");
    let health = good("").groups.remove(0).health;
    assert_eq!((health.path.as_str(), health.expect), ("/", vec![200..=200]));
    shown("# path = \"/\"");
    shown("# expect = [\"200\"]");
    for wait in ["header = \"10s\"", "body = \"30s\"", "keep_alive = \"75s\"", "response = \"60s\""]
    {
        shown(wait);
        shown(&format!("# {wait}"));
    }
}

/// Whatever is documented is also read, and typed: a date is the value of no key.
#[test]
fn every_documented_key_is_read() {
    let (text, _) = reference();
    let key = regex::Regex::new(r"^([a-z_]+) = ").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let Some(found) = key.captures(line.strip_prefix("# ").unwrap_or(line)) else { continue };
        let date = format!("{} = 1979-05-27", &found[1]);
        let mut changed = lines.clone();
        changed[i] = &date;
        let found = problems(&changed.join("\n"));
        let number = u32::try_from(i + 1).unwrap();
        let noted = found.iter().any(|problem| problem.place.line == number);
        assert!(noted, "line {number}: {date} is accepted");
    }
}

#[test]
fn variables_change_values_and_nothing_else() {
    let config = good(
        "[server]\nworkers = '${N}'\npin = '${NO}'\nvia = '${X:-edge}'\n\
         [limits]\nheaders = '${N}0'\nhead = '${N}096'\nbody = '${N}MiB'\n\
         [group.g]\ntargets = [{ address = '${HOST}:8${N}', weight = '${N}' }]\n\
         [[rule]]\nname = 'r'\nrespond = { status = '${X:-503}', body = '${QUOTE} $${N}' }",
    );
    assert_eq!(config.server.workers, Some(4));
    assert!(!config.server.pin);
    assert_eq!(config.server.via, "edge");
    assert_eq!((config.limits.headers, config.limits.head), (40, 4096));
    assert_eq!(config.limits.line, 4096, "the default of line follows a smaller head");
    assert_eq!(config.limits.body, Some(4 << 20));
    let target = &config.groups[0].targets[0];
    assert_eq!(target.address, TargetAddress::Ip("10.0.0.9:84".parse().unwrap()));
    assert_eq!(target.weight, 4);
    let Action::Respond(respond) = &config.rules[0].action else { panic!() };
    assert_eq!(respond.status, 503);
    assert_eq!(respond.body.constant(), Some("\"\n[server]\nworkers = 1 # ${N}"));
}

#[test]
fn reads_what_a_rule_says() {
    let config = good(
        "[[rule]]\nname = 'r'\nlistener = 'base'\npriority = 7\n\
         forward = [{ group = 'base', weight = 9 }]\nlimits = { body = 'none' }\n\
         timeouts = { response = '5m' }\n\
         when = { host = 'API.x', header = { X-A = 'b' }, source = ['10.1.2.3/8', '::1'] }",
    );
    let rule = &config.rules[0];
    assert_eq!((rule.priority, rule.body_limit), (Some(7), Some(None)));
    assert_eq!(rule.timeouts.response, Some(Duration::from_secs(300)));
    assert_eq!(
        (rule.listeners.join(","), rule.when.host.join(",")),
        ("base".into(), "api.x".into())
    );
    assert_eq!(rule.when.header, [("x-a".to_owned(), vec!["b".to_owned()])]);
    let source: Vec<_> = rule.when.source.iter().map(ToString::to_string).collect();
    assert_eq!(source, ["10.0.0.0/8", "::1/128"]);
}

#[test]
fn reads_what_a_group_says() {
    let config = good(
        "[group.z]\ntargets = ['API.internal:80', 'unix:/run/a', '[::1]:8']\n\
         health = { expect = ['200-299', 404], interval = '2s' }\n\
         [group.a]\ntargets = []\nhealth = { interval = '2s' }\nalgorithm = 'hash'\n\
         hash.cookie = 'u'\n",
    );
    let names: Vec<_> = config.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "base"], "groups keep the order of the file");
    let [z, a, _] = config.groups.as_slice() else { panic!() };
    assert_eq!(z.targets[0].address, TargetAddress::Name("api.internal".to_owned(), 80));
    assert_eq!(z.targets[1].address, TargetAddress::Unix("/run/a".into()));
    assert_eq!(z.health.kind, config::HealthKind::Http);
    assert_eq!(z.health.expect, [200..=299, 404..=404]);
    assert_eq!(z.health.timeout, Duration::from_secs(2), "the default follows the interval");
    assert_eq!(a.health.kind, config::HealthKind::Tcp);
    assert_eq!(a.algorithm, config::Algorithm::Hash(config::HashKey::Cookie("u".to_owned())));
    assert_eq!((z.place.line, z.place.column), (1, 1));
    assert_eq!((z.targets[1].place.line, z.targets[1].place.column), (2, 31));
}

/// Writes files into a new folder and loads the first.
fn load(files: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let prefix = format!("{}/", folder.path().display());
    let shown = |problem: &Problem| problem.to_string().replace(&prefix, "");
    config::load(&folder.path().join(files[0].0), &no_env)
        .map_err(|problems| problems.0.iter().map(shown).collect())
}

#[test]
fn includes_are_merged() {
    let rule = |name: &str| format!("[[rule]]\nname = '{name}'\nforward = 'base'\n");
    let main = format!("include = ['conf.d/*.toml', 'x.toml']\n{}{BASE}", rule("main"));
    let config = load(&[
        ("main.toml", &main),
        ("conf.d/b.toml", &format!("include = '../deep.toml'\n{}", rule("b"))),
        ("conf.d/a.toml", &format!("{}[server]\npin = false\n", rule("a"))),
        ("conf.d/c.txt", "not toml"),
        ("deep.toml", &rule("deep")),
        ("x.toml", "[group.x]\ntargets = []\n[server]\nworkers = 3\n"),
    ]);
    let config = config.unwrap();
    let names: Vec<_> = config.rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["main", "a", "b", "deep"]);
    let server = &config.server;
    assert_eq!((config.groups.len(), server.workers, server.pin), (2, Some(3), false));
}

#[test]
fn includes_that_cannot_be_merged_are_named() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        let found = load(files).err().unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}\n--- without\n{expected}");
        }
    };
    let base = |include: &str| format!("include = {include}\n{BASE}");
    check(
        &[("m.toml", &base("'a.toml'")), ("a.toml", "[group.base]\ntargets = []")],
        &["a.toml:1:1: group.base: found \"base\", which is also at m.toml:6:1"],
    );
    let pinned = format!("{}[server]\npin = true", base("'a.toml'"));
    check(
        &[("m.toml", &pinned), ("a.toml", "[server]\npin = false")],
        &["a.toml:2:1: server.pin: found a second value, after the one at m.toml:9:1"],
    );
    check(
        &[("m.toml", &base("'a.toml'")), ("a.toml", "include = 'm.toml'")],
        &["a.toml:1:11: include: found m.toml, which was read already (m.toml)"],
    );
    check(&[("m.toml", &base("'m.toml'"))], &["no circle of includes"]);
    check(
        &[("m.toml", &base("['a.toml', 'b.toml']"))],
        &[
            "m.toml:1:12: include[0]: found a.toml: No such file",
            "m.toml:1:22: include[1]: found b.toml: No such file",
        ],
    );
    check(&[("m.toml", &base("'none/*.toml'"))], &["a folder that can be read"]);
    check(
        &[("m.toml", &base("'a.toml'")), ("a.toml", "x = \n[server]\nworkers = y")],
        &["a.toml:1:5: found a TOML error", "a.toml:3:11: found a TOML error"],
    );
    let deep = |i: usize| (format!("{i}.toml"), format!("include = '{}.toml'", i + 1));
    let deep: Vec<(String, String)> = (0..12).map(deep).collect();
    let deep: Vec<_> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let found = load(&deep).unwrap_err();
    assert!(found.iter().any(|problem| problem.contains("at most 8 files deep")), "{found:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let problems = config::load(Path::new("/nonexistent/ringgate.toml"), &no_env).unwrap_err();
    let shown = problems.to_string();
    assert!(shown.starts_with("/nonexistent/ringgate.toml: found No such file"), "{shown}");
    assert_eq!(problems.0.len(), 1, "what an unread file lacks is not held against it: {shown}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    std::fs::write(&path, b"[server]\nvia = '\xff'\n").unwrap();
    let shown = config::load(&path, &no_env).unwrap_err().to_string();
    assert!(shown.contains("x.toml:2: found octets that are not UTF-8"), "{shown}");
    assert!(config::load(folder.path(), &no_env).is_err());
}

#[test]
fn a_large_file_is_read_at_once() {
    let mut text = BASE.to_owned();
    for i in 0..10_000 {
        text.push_str(&format!(
            "[[rule]]\nname = 'r{i}'\nforward = 'base'\n\
             when = {{ host = 'h{i}.example.com', path = ['/a/{i}/*', '/b/{i}'] }}\n"
        ));
    }
    let start = std::time::SystemTime::now();
    let config = config::parse(&text, "conf.toml", &no_env).unwrap();
    let took = start.elapsed().unwrap();
    println!("10,000 rules in {took:?}");
    assert_eq!(config.rules.len(), 10_000);
    // A bound that a debug build on a busy machine keeps; a release build takes a tenth of a second.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_on_any_text(text in "\\PC*|([a-z\\[\\]{}=.'\"$#,0-9 \n]){0,200}") {
        let _ = config::parse(&text, "x", &env);
    }

    #[test]
    fn never_panics_on_a_changed_reference(
        edits in prop::collection::vec(
            (0.0..1.0f64, 0usize..40, "[\\PC\n\\[\\]{}\"'=$#0-9a-z-]{0,8}"),
            1..8,
        ),
    ) {
        let mut text = std::fs::read_to_string(repository("config/reference.toml")).unwrap();
        for (at, remove, insert) in edits {
            let boundary = |at: usize| {
                let mut down = (0..=at.min(text.len())).rev();
                down.find(|at| text.is_char_boundary(*at)).unwrap()
            };
            let start = boundary((at * text.len() as f64) as usize);
            let end = boundary(start + remove);
            text.replace_range(start..end, &insert);
        }
        if let Err(problems) = config::parse(&text, "x", &env) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|p| !p.expected.is_empty() && !p.found.is_empty()));
        }
    }
}
