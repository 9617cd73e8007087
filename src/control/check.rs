//! Everything that can be known about a file without opening or binding anything.
//!
//! `ringgate check`, the start and every reload come through here, so that they cannot disagree.

use crate::config::{self, Config, Problem, Problems};
use crate::observe::Format;
use crate::snapshot::{self, compile::Context};
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
}

/// Checks a file.
pub fn check(path: &Path) -> Checked {
    judge(config::load(path, &environment))
}

/// Checks the text of a file called `name`.
pub fn check_text(text: &str, name: &str) -> Checked {
    judge(config::parse(text, name, &environment))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn judge(loaded: Result<Config, Problems>) -> Checked {
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => return Checked { problems, ..Checked::default() },
    };
    let mut problems = Problems::default();
    if let Err(error) = Format::parse(&config.log.format) {
        problems.0.push(Problem {
            place: config.log.place.clone(),
            key: "log.format".to_owned(),
            found: format!("{:?}", config.log.format),
            expected: error.to_string(),
            hint: None,
        });
    }
    let context = Context { generation: 1, workers: 1, old: None, resolve: &|_| Vec::new() };
    if let Err(error) = snapshot::compile(&config, context) {
        problems.0.push(Problem {
            place: config::Place::default(),
            key: "rule".to_owned(),
            found: error.to_string(),
            expected: "rules that compile".to_owned(),
            hint: None,
        });
    }
    Checked { config, problems, warnings: Vec::new() }
}
