//! The proxy's own code over connections in memory, with a scripted clock, hostile clients and failing targets.
//!
//! Each seed is one run (`world`); its peers note what they see, and `check` judges it: answers match requests one to
//! one, nothing crosses between clients, nothing is sent twice that must not be, gauges come back to zero, every buffer
//! comes back, the log has one record a request. A failing seed is run alone, with all that happens, by
//! `RINGGATE_SIM_SEED=N cargo test --test simulation -- --nocapture`; `RINGGATE_SIM_SEEDS=N` runs N seeds instead
//! of 2,000.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "simulation/answers.rs"]
mod answers;
#[path = "simulation/behaviour.rs"]
mod behaviour;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/doctored.rs"]
mod doctored;
#[path = "simulation/executor.rs"]
mod executor;
#[path = "simulation/gauges.rs"]
mod gauges;
#[path = "simulation/hostile.rs"]
mod hostile;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/request.rs"]
mod request;
#[path = "simulation/settings.rs"]
mod settings;
#[path = "simulation/target.rs"]
mod target;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 2000;
// Tests that share them, so that they run on several cores.
const PARTS: u64 = 4;
// Seeds after which everything must have happened.
const ENOUGH: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"))
}

/// Runs seeds `part`, `part + PARTS`, ...
fn sweep(part: u64) {
    if let Some(seed) = number("RINGGATE_SIM_SEED") {
        if part == 0 {
            let wrong = judge(seed, true, &mut BTreeMap::new());
            assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
        }
        return;
    }
    let seeds = number("RINGGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let mut census = BTreeMap::new();
    let mut failed = Vec::new();
    let mut count = 0;
    for seed in (part..seeds).step_by(PARTS as usize) {
        let wrong = judge(seed, false, &mut census);
        if !wrong.is_empty() {
            failed.push(format!("seed {seed}:\n  {}", wrong.join("\n  ")));
        }
        count += 1;
    }
    let how = "run one alone: RINGGATE_SIM_SEED=N cargo test --test simulation -- --nocapture";
    let (total, shown) = (failed.len(), failed.len().min(10));
    assert!(total == 0, "{total} of {count} seeds fail; {how}\n{}", failed[..shown].join("\n"));
    if count >= ENOUGH {
        everything_happened(&census);
    }
}

fn judge(seed: u64, print: bool, census: &mut BTreeMap<String, u64>) -> Vec<String> {
    match catch_unwind(AssertUnwindSafe(|| world::run(seed, print))) {
        Ok(ledger) => {
            for (what, count) in &ledger.census {
                *census.entry(what.clone()).or_default() += count;
            }
            check::judge(&ledger)
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            vec![format!("panicked: {}", text.unwrap_or("?"))]
        }
    }
}

/// A sweep in which something never happened proves less than it seems to.
fn everything_happened(census: &BTreeMap<String, u64>) {
    let clients = behaviour::ALL.iter().map(|(name, _, _)| format!("client: {name}"));
    let targets = answers::Kind::ALL.iter().map(|kind| format!("target: {}", kind.name()));
    let dials = ["accepted", "refused", "never", "late", "reset", "closed"];
    let dials = dials.iter().map(|what| format!("dial: {what}"));
    let worlds = ["reload", "health", "drain in the middle", "leap", "cut"];
    let worlds = worlds.iter().map(|what| format!("world: {what}"));
    let faults = FAULTS.iter().map(|code| format!("fault: {code}"));
    let missing: Vec<String> = clients
        .chain(targets)
        .chain(dials)
        .chain(worlds)
        .chain(faults)
        .filter(|what| !census.contains_key(what))
        .collect();
    let mut rarest: Vec<_> = census.iter().map(|(what, count)| (count, what)).collect();
    rarest.sort_unstable();
    println!(
        "rarest of {} kinds of event: {:?}",
        rarest.len(),
        rarest.get(..8).unwrap_or_default()
    );
    assert!(missing.is_empty(), "these never happened: {missing:#?}\nthese did: {census:#?}");
}

/// Reasons that must have been given. Not among them: `internal`, which must never be, and `overloaded`, which
/// `serve::accept` gives before there is a connection.
const FAULTS: &[&str] = &[
    "bare_lf",
    "bad_request_line",
    "bad_target",
    "encoded_separator",
    "path_above_root",
    "bad_field",
    "host_missing",
    "host_invalid",
    "host_mismatch",
    "repeated_field",
    "bad_content_length",
    "both_te_and_cl",
    "bad_transfer_encoding",
    "unknown_transfer_coding",
    "bad_connection_option",
    "bad_chunk",
    "bad_trailers",
    "uri_too_long",
    "head_too_large",
    "too_many_fields",
    "body_too_large",
    "method_refused",
    "unknown_method",
    "version_unsupported",
    "expectation_failed",
    "header_timeout",
    "body_timeout",
    "suspicious_field",
    "shed",
    "client_gone",
    "write_timeout",
    "no_route",
    "no_target",
    "loop",
    "connect_failed",
    "connect_timeout",
    "target_closed",
    "target_reset",
    "response_timeout",
    "bad_response_head",
    "response_head_too_large",
    "bad_response_framing",
    "unasked_upgrade",
    "too_many_interim",
    "truncated_body",
    "body_stalled",
    "bad_response_chunk",
];

#[test]
fn seeds_of_part_0() {
    sweep(0);
}

#[test]
fn seeds_of_part_1() {
    sweep(1);
}

#[test]
fn seeds_of_part_2() {
    sweep(2);
}

#[test]
fn seeds_of_part_3() {
    sweep(3);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 77, 777, 7777] {
        let runs = [world::run(seed, false), world::run(seed, false)];
        let digests = runs.each_ref().map(|ledger| ledger.log.digest());
        assert_eq!(digests[0], digests[1], "seed {seed}");
        assert!(runs[0].records.len() + runs[0].exchanges.len() > 0, "seed {seed} did nothing");
    }
}
