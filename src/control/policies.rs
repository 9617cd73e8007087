//! Reads the files that policies name, and finds out whether the policies can work.
//!
//! What was read lies in the configuration, so that everything that is compiled from it uses the same octets. Called by
//! `check`, before anything is compiled.

use crate::config::{Config, Material, Place, Problem, materials};
use crate::control::fresh::Files;
use crate::policy::api_key::{self, Remark};
use crate::policy::{Kind, Settings, Wrong};
use std::path::Path;
use std::sync::Arc;

/// Reads what policies name and tries to compile each of them; all that is wrong.
pub fn prepare(config: &mut Config, files: &mut Files) -> Vec<Problem> {
    let mut problems = Vec::new();
    let named: Vec<(usize, Material)> = materials(config).collect();
    for policy in &mut config.policies {
        policy.octets.clear();
    }
    let mut unread = Vec::new();
    for (at, material) in named {
        let Some(policy) = config.policies.get_mut(at) else { continue };
        match files.read(&material.path) {
            Ok(octets) => policy.octets.push((material.path, Arc::from(octets))),
            Err(error) => {
                unread.push(at);
                problems.push(Problem {
                    place: material.place,
                    key: format!("policy.{}.{}", policy.name, policy.settings.word()),
                    found: format!("{}: {error}", material.path.display()),
                    expected: "a file that can be read".to_owned(),
                    hint: None,
                });
            }
        }
    }
    for (at, policy) in config.policies.iter().enumerate() {
        let file = |path: &Path| policy.file(path);
        if unread.contains(&at) {
            continue;
        }
        if let Settings::ApiKey(settings) = &policy.settings {
            let remarks = api_key::directory::problems(settings, &file);
            problems.extend(remarks.into_iter().map(remark));
            problems.extend(settings.check_plans().err().map(|wrong| problem(policy, wrong)));
            continue;
        }
        if let Err(wrong) = Kind::build(&policy.settings, &file, None) {
            problems.push(problem(policy, wrong));
        }
    }
    problems
}

/// A file of consumers may have many mistakes; all are said with their places.
fn remark(remark: Remark) -> Problem {
    let Remark { file, line, column, key, found, expected } = remark;
    let place = Place { file: Arc::from(file.display().to_string()), line, column };
    Problem { place, key, found, expected, hint: None }
}

fn problem(policy: &crate::config::Policy, wrong: Wrong) -> Problem {
    let key = format!("policy.{}.{}", policy.name, policy.settings.word());
    let Wrong { file, found } = wrong;
    let place = match file {
        Some(file) => Place { file: Arc::from(file.display().to_string()), line: 0, column: 0 },
        None => policy.place.clone(),
    };
    Problem { place, key, found, expected: "a policy that can be compiled".to_owned(), hint: None }
}
