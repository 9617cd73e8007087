//! Everything that can be known about a file without opening or binding anything.
//!
//! `ringgate check`, the start and every reload come through here, so that they cannot disagree. Names of targets are not
//! resolved: whether they resolve is a matter of the moment, not of the file.

use crate::config::{self, Config, Problem, Problems};
use crate::control::fresh::Files;
use crate::control::{expect as played, listener_tls, pages, policies, target_tls};
use crate::observe::template::Template;
use crate::observe::{Format, FormatError};
use crate::route::CompileError;
use crate::snapshot::compile::NotCompiled;
use crate::snapshot::{self, Snapshot, compile::Context, expect};
use std::path::Path;

/// A file, and all that is wrong with it.
#[derive(Debug, Default)]
pub struct Checked {
    /// What it says; of no use while there are problems.
    pub config: Config,
    /// What must be mended.
    pub problems: Problems,
    /// What probably should be.
    pub warnings: Vec<Problem>,
    /// Certificates that have expired: a mistake, and no reason to stop serving.
    pub expired: Vec<Problem>,
    /// The files that it names, which were read with it.
    pub files: Files,
}

/// Checks a file.
pub fn check(path: &Path) -> Checked {
    judge(config::load(path, &environment))
}

/// Checks the text of a file called `name`.
pub fn check_text(text: &str, name: &str) -> Checked {
    judge(config::parse(text, name, &environment))
}

/// Checks a file that was checked before, with the files that it names as they are now.
pub fn again(config: Config) -> Checked {
    judge(Ok(config))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn judge(loaded: Result<Config, Problems>) -> Checked {
    let mut config = match loaded {
        Ok(config) => config,
        Err(problems) => return Checked { problems, ..Checked::default() },
    };
    let mut problems: Vec<Problem> = log_format(&config.log).into_iter().collect();
    let mut warnings = config::doubts(&config);
    let mut files = Files::default();
    let target_tls::Found { problems: wrong, warnings: more } =
        target_tls::prepare(&mut config, &mut files);
    problems.extend(wrong);
    warnings.extend(more);
    let listener_tls::Found { problems: wrong, expired, warnings: more } =
        listener_tls::prepare(&mut config, &mut files);
    problems.extend(wrong);
    warnings.extend(more);
    let mut wrong = policies::prepare(&mut config, &mut files);
    wrong.extend(pages::prepare(&mut config, &mut files));
    let whole = wrong.is_empty();
    problems.extend(wrong);
    if !whole {
        return Checked { config, problems: Problems(problems), warnings, expired, files };
    }
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
    match snapshot::compile(&config, context) {
        Ok(snapshot) => {
            problems.extend(pages::forged(&snapshot, &config));
            problems.extend(expect::unmet(&snapshot, &config));
            problems.extend(played::unmet(&config));
            warnings.extend(expect::hidden(&snapshot, &config));
            warnings.extend(uncovered(&snapshot, &config));
        }
        Err(error) => problems.push(not_compiled(&config, &error)),
    }
    Checked { config, problems: Problems(problems), warnings, expired, files }
}

/// Hosts of rules that no certificate of their listener is for: clients would be shown another one. Patterns, and listeners that
/// obtain certificates, say nothing.
fn uncovered(snapshot: &Snapshot, config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    for (listener, run) in config.listeners.iter().zip(&snapshot.listeners) {
        let Some(secure) = run.secure.as_ref().filter(|_| listener.acme().is_none()) else {
            continue;
        };
        let serves = |rule: &&config::Rule| {
            rule.listeners.is_empty() || rule.listeners.contains(&listener.name)
        };
        for rule in config.rules.iter().filter(serves) {
            let plain = rule.when.host.iter().filter(|host| !host.contains(['*', '?']));
            let host = plain.map(|host| host.to_ascii_lowercase());
            let bare = |host: &String| !secure.terms.certificates.iter().any(|c| c.covers(host));
            found.extend(host.filter(bare).map(|host| Problem {
                place: rule.place.clone(),
                key: format!("rule.{}.when.host", rule.name),
                found: format!(
                    "{host:?}, which no certificate of listener {:?} is for",
                    listener.name
                ),
                expected: "a host that its clients are shown a certificate for".to_owned(),
                hint: None,
            }));
        }
    }
    found
}

/// What is wrong with the format of access records, which only their writer knows.
fn log_format(log: &config::Log) -> Option<Problem> {
    let error = Format::parse(&log.format).err()?;
    let known = "json, combined, alb or a template of fields such as \"$time $client $status\"";
    let (expected, hint) = match &error {
        FormatError::Unknown(_) => (known.to_owned(), None),
        FormatError::UnknownField(name) => {
            let fields: Vec<&str> = Template::fields().collect();
            (format!("no ${name}"), Some(format!("known are ${}", fields.join(" $"))))
        }
        FormatError::LoneDollar => {
            ("a field after each $".to_owned(), Some("$$ is one $".to_owned()))
        }
        FormatError::Control(_) => (error.to_string(), None),
    };
    Some(Problem {
        place: log.place.clone(),
        key: "log.format".to_owned(),
        found: format!("{:?}", log.format),
        expected,
        hint,
    })
}

fn not_compiled(config: &Config, error: &NotCompiled) -> Problem {
    let rule = match error {
        NotCompiled::Routes(CompileError::Regex { rule, .. }) => config.rules.get(rule.0 as usize),
        NotCompiled::Routes(CompileError::TooMany)
        | NotCompiled::Policy { .. }
        | NotCompiled::Seals => None,
    };
    let (place, key) = match rule {
        Some(rule) => (rule.place.clone(), format!("rule.{}", rule.name)),
        None => (config::Place::default(), "rule".to_owned()),
    };
    let expected = "rules that can be compiled".to_owned();
    Problem { place, key, found: error.to_string(), expected, hint: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[listener]]
name = "web"
bind = ["127.0.0.1:8080"]
default = { forward = "app" }
[group.app]
targets = ["app.internal:9000"]
"#;

    /// `more` follows FILE, whose last line is the seventh.
    fn check(more: &str, expected: &[&str]) {
        let checked = check_text(&format!("{FILE}{more}"), "a.toml");
        let all = checked.problems.0.iter().chain(&checked.warnings);
        let all: Vec<String> = all.map(Problem::to_string).collect();
        let fits =
            all.len() == expected.len() && all.iter().zip(expected).all(|(a, e)| a.contains(e));
        assert!(fits, "{more}\nexpected {expected:#?}\nfound {all:#?}");
    }

    #[test]
    fn finds_what_each_step_knows() {
        check("", &[]);
        check("[log]\nformat = \"alb\"", &[]);
        let formats = "expected json, combined, alb or a template";
        check(
            "[log]\nformat = \"jsn\"",
            &[&format!("a.toml:9:10: log.format: found \"jsn\", {formats}")],
        );
        check("[log]\nformat = \"$time $statsu\"", &["known are $"]);
        check("[log]\nformat = \"$time 5$\"", &["$$ is one $"]);
        check(
            "[log]\nformat = \"$time\"\n[[expect]]\nrequest = \"GET http://a/\"\nrule = \"none\"",
            &[],
        );
        check(
            "[log]\nformat = \"x\"\n[[rule]]\nname = \"r\"\nforward = \"app\"\nwhen = { path = [\"/a\"] }\n\
             [[rule]]\nname = \"s\"\nforward = \"app\"\nwhen = { path = [\"/a\"] }\n\
             [[expect]]\nrequest = \"GET http://a/b\"\nrule = \"r\"",
            &[formats, "which no rule takes", "rule.s: found a rule that never matches"],
        );
        check("[group.app]", &["a.toml:8:"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_a_problem() {
        let checked = super::check(Path::new("no/such/file.toml"));
        assert_eq!(checked.problems.0.len(), 1);
        assert!(checked.problems.to_string().contains("no/such/file.toml"), "{}", checked.problems);
    }

    #[test]
    fn hosts_that_no_certificate_is_for_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let text = format!(
            "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:8443\"\nprotocol = \"https\"\n\
             tls = {{ certificates = [{{ cert = {cert:?}, key = {key:?} }}] }}\n\
             [[rule]]\nname = \"r\"\nforward = \"app\"\n\
             when = {{ host = [\"a.test\", \"B.test\", \"*.c.test\"] }}\n\
             [group.app]\ntargets = [\"127.0.0.1:1\"]\n"
        );
        let checked = check_text(&text, "a.toml");
        assert!(checked.problems.0.is_empty(), "{}", checked.problems);
        let found = checked.warnings.iter().map(Problem::to_string);
        let found: Vec<String> = found.filter(|w| w.contains("no certificate of")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("rule.r.when.host: found \"b.test\""), "{found:?}");
    }
}
