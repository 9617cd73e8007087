//! The file (hazards OPS-01 ff.): any text is either a whole configuration, which compiles, or a list of problems, which
//! can be printed.
//!
//! The input is a file of UTF-8; what is not UTF-8 is refused before it is parsed. Files it includes are not read.

use ringgate::config::{self, Action, Config, Problem};
use ringgate::snapshot::{self, compile::Context, expect};
use std::collections::HashSet;

const FILE: &str = "fuzz.toml";

/// See the module's documentation.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match config::parse(text, FILE, &environment) {
        Ok(config) => {
            agrees_with_itself(&config);
            compiles(&config);
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a problem");
            for problem in &problems.0 {
                is_printed(problem, text);
            }
            let order = problems.0.iter().map(|p| (p.place.line, p.place.column));
            assert!(order.is_sorted(), "problems out of order: {problems}");
            assert_eq!(config::parse(text, FILE, &environment).err(), Some(problems));
        }
    }
}

fn environment(name: &str) -> Option<String> {
    match name {
        "A" => Some("a".to_owned()),
        "PORT" => Some("8080".to_owned()),
        "EVIL" => Some("\"\n[x]\u{1b}[31m${A}\u{202e}".to_owned()),
        _ => None,
    }
}

/// Names are unique, and what is named exists: the snapshot drops silently what it does not find.
fn agrees_with_itself(config: &Config) {
    let listeners = unique(config.listeners.iter().map(|l| l.name.as_str()));
    let groups = unique(config.groups.iter().map(|g| g.name.as_str()));
    let rules = unique(config.rules.iter().map(|r| r.name.as_str()));
    assert!(config.rules.iter().flat_map(|r| &r.listeners).all(|l| listeners.contains(l.as_str())));
    assert!(config.listeners.iter().all(|l| !l.bind.is_empty()));
    let actions = config.rules.iter().map(|r| &r.action);
    for action in actions.chain(config.listeners.iter().map(|l| &l.default)) {
        match action {
            Action::Forward(list) => {
                assert!(!list.is_empty());
                assert!(list.iter().all(|w| groups.contains(w.group.as_str()) && w.weight <= 999));
            }
            Action::Redirect(redirect) => assert!((301..=308).contains(&redirect.status)),
            Action::Respond(respond) => {
                assert!((200..=599).contains(&respond.status));
                let names = respond.headers.iter().map(|(name, _)| name);
                let values = respond.headers.iter().filter_map(|(_, value)| value.constant());
                let texts = names.chain(&respond.content_type).map(String::as_str);
                let mut texts = texts.chain(values);
                assert!(texts.all(|t| super::head::is_text(t.as_bytes())), "{respond:?}");
            }
            Action::Aggregate(_) => {}
        }
    }
    for expect in &config.expects {
        if let config::Taker::Rule(name) = &expect.taker {
            assert!(rules.contains(name.as_str()), "{expect:?}");
        }
        let known = |name: &String| groups.contains(name.as_str());
        assert!(expect.group.as_ref().is_none_or(known), "{expect:?}");
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    for name in names {
        assert!(seen.insert(name), "{name:?} twice");
    }
    seen
}

fn compiles(config: &Config) {
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
    match snapshot::compile(config, context) {
        Ok(snapshot) => {
            let problems = expect::unmet(&snapshot, config);
            let warnings = expect::hidden(&snapshot, config);
            for problem in problems.iter().chain(&warnings) {
                is_clean(problem);
            }
            let again = Context { generation: 2, old: Some(&snapshot), ..context };
            assert!(snapshot::compile(config, again).is_ok(), "a reload of the same file fails");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn is_printed(problem: &Problem, text: &str) {
    let printed = problem.to_string();
    is_clean(problem);
    assert!(printed.starts_with(FILE), "{printed:?}");
    let lines = text.split('\n').count();
    assert!(problem.place.line as usize <= lines, "line {} of {lines}", problem.place.line);
    assert!(printed.len() < 4096, "{} octets for one problem", printed.len());
}

/// What stands in the file must not move a terminal's cursor, nor begin a line in a log (hazard OPS-15).
fn is_clean(problem: &Problem) {
    let printed = problem.to_string();
    let control = printed.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{printed:?}");
    let lines = printed.lines().count();
    assert_eq!(lines, 1 + usize::from(problem.hint.is_some()), "{printed:?}");
}
