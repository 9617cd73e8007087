//! Reads the files whose content is sent, and finds fields of rules that only policies may send.
//!
//! What was read lies in the configuration, so that everything that is compiled from it uses the same octets. Called by `check`.

use crate::config::{self, Config, Problem};
use crate::control::fresh::Files;
use crate::snapshot::Snapshot;

/// Reads the files of answers and error pages; all that is wrong.
pub fn prepare(config: &mut Config, files: &mut Files) -> Vec<Problem> {
    config::read_pages(config, &mut |path| files.read(path).map_err(|error| error.to_string()))
}

/// Rules that would say something of a client that only policies say (hazard HDR-04).
pub fn forged(snapshot: &Snapshot, config: &Config) -> Vec<Problem> {
    let owned = |name: &&str| snapshot.owned.iter().any(|owned| **owned == **name);
    let of_rule = |rule: &config::Rule| -> Vec<Problem> {
        let given = rule.traffic.request.iter().flat_map(|request| request.headers.given());
        given
            .filter(owned)
            .map(|name| Problem {
                place: rule.place.clone(),
                key: format!("rule.{}.request.headers", rule.name),
                found: format!("{name}, by which a policy tells targets who the client is"),
                expected: "another name".to_owned(),
                hint: None,
            })
            .collect()
    };
    config.rules.iter().flat_map(of_rule).collect()
}
