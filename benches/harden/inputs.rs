//! Hostile inputs to real origins, and hostile answers from a target, in full.

use crate::hostile::judge::Kind;
use crate::hostile::responses;
use crate::hostile::run::{Plan, explain, run};
use crate::{Options, Row};

pub fn hostile(options: &Options) -> Vec<Row> {
    let inputs = options.of(40_000, 3000);
    let plan = Plan { seed: 2026, inputs, all_origins: true, mode: "strict", batch: 4000 };
    let report = run(&plan);
    if !report.findings.is_empty() {
        eprintln!("{}", explain(&report, &plan));
    }
    let measured = format!(
        "{} inputs x {} origins ({}): {} smuggled, {} crashes, {} desynchronised, {} hung",
        report.inputs,
        report.origins.len(),
        report.origins.join(", "),
        report.count(Kind::Smuggled),
        report.count(Kind::Crashed),
        report.count(Kind::Desynchronised) + report.count(Kind::Unaccounted),
        report.count(Kind::Hung),
    );
    eprintln!("{}", report.line());
    let enough = (options.quick || report.inputs >= 20_000) && report.origins.len() >= 3;
    let goal = ">= 20,000 inputs, >= 3 origins: all 0";
    vec![Row::new("hostile inputs", goal, measured, enough && report.findings.is_empty())]
}

pub fn responses(options: &Options) -> Vec<Row> {
    let report = responses::run(2026, options.of(usize::MAX, 1500));
    for wrong in report.wrong.iter().take(40) {
        eprintln!("{wrong}");
    }
    let measured = format!("{} answers: {} wrong", report.answers, report.wrong.len());
    vec![Row::new(
        "hostile answers of a target",
        "0 truncated, mixed up, doubled or reused",
        measured,
        report.wrong.is_empty(),
    )]
}
