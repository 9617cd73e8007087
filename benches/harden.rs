//! The figures of scripts/harden: hostile bytes, broken machines and slow clients, over real sockets.
//!
//! `harden [--quick] [--load PATH] ROW...` prints one line of JSON for each figure; scripts/harden builds this, runs it
//! and makes the table. It starts ringgate and the origins itself, all on loopback, and ends what it started.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "harden/attacks.rs"]
mod attacks;
#[path = "harden/bytes.rs"]
mod bytes;
#[path = "harden/clients.rs"]
mod clients;
#[path = "harden/floods.rs"]
mod floods;
#[path = "harden/frames.rs"]
mod frames;
#[path = "../tests/hostile/mod.rs"]
mod hostile;
#[path = "harden/inputs.rs"]
mod inputs;
#[path = "harden/kills.rs"]
mod kills;
#[path = "harden/process.rs"]
mod process;
#[path = "harden/reloads.rs"]
mod reloads;
#[path = "harden/slow.rs"]
mod slow;
#[path = "harden/stuck.rs"]
mod stuck;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "harden/tls.rs"]
mod tls;

use std::path::PathBuf;

/// One figure of the table.
pub struct Row {
    pub figure: String,
    pub goal: &'static str,
    pub measured: String,
    /// `None` where there is no goal.
    pub met: Option<bool>,
}

impl Row {
    pub fn new(
        figure: impl Into<String>,
        goal: &'static str,
        measured: impl Into<String>,
        met: bool,
    ) -> Row {
        Row { figure: figure.into(), goal, measured: measured.into(), met: Some(met) }
    }

    pub fn without_goal(figure: impl Into<String>, measured: impl Into<String>) -> Row {
        Row { figure: figure.into(), goal: "-", measured: measured.into(), met: None }
    }
}

/// What a run was asked for.
pub struct Options {
    pub quick: bool,
    /// The open-loop generator of benches/load.rs.
    pub load: PathBuf,
}

impl Options {
    /// `full`, or `quick` in a quick run.
    pub fn of<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

type Measure = fn(&Options) -> Vec<Row>;

const ROWS: &[(&str, Measure)] = &[
    ("hostile", inputs::hostile),
    ("responses", inputs::responses),
    ("reloads", reloads::measure),
    ("kills", kills::measure),
    ("slow", slow::measure),
    ("bytes", bytes::measure),
    ("floods", floods::measure),
    ("stuck", stuck::measure),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<_> = ROWS.iter().filter(|(name, _)| args.iter().any(|a| a == name)).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        println!(
            "harden: the figures of scripts/harden; to run it: [--quick] [--load PATH] {}",
            names.join(" ")
        );
        return;
    }
    let load =
        args.iter().skip_while(|a| *a != "--load").nth(1).map_or("load".into(), PathBuf::from);
    let options = Options { quick: args.iter().any(|a| a == "--quick"), load };
    process::raise_files();
    for (name, measure) in wanted {
        for row in measure(&options) {
            let line = serde_json::json!({
                "row": name, "figure": row.figure, "goal": row.goal, "measured": row.measured, "met": row.met
            });
            println!("{line}");
        }
    }
}
