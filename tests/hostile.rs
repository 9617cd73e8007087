//! Thousands of hostile inputs through ringgate to real origins, and hostile targets' answers to real clients.
//!
//! A seeded selection of what `scripts/harden` sends in full. `RINGGATE_SEED` chooses another selection,
//! `RINGGATE_INPUTS` another number.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, missing_docs)]

#[path = "hostile/mod.rs"]
mod hostile;
mod support;

use hostile::drive::{Case, End, Manner};
use hostile::judge::{Evidence, Kind, Lane, Record, judge};
use hostile::origins::Seen;
use hostile::run::{Plan, explain, run};
use hostile::{Hidden, Template};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

/// Hazards H1-01 to H1-31.
#[test]
fn nothing_is_smuggled_to_real_origins_and_no_reply_goes_astray() {
    let plan = Plan {
        seed: number("RINGGATE_SEED", 3),
        inputs: number("RINGGATE_INPUTS", 6000) as usize,
        all_origins: std::env::var_os("RINGGATE_ALL_ORIGINS").is_some(),
        mode: "strict",
        batch: 1500,
    };
    let report = run(&plan);
    println!("{}", report.line());
    assert!(report.findings.is_empty(), "{}\n{}", report.line(), explain(&report, &plan));
}

/// What `defensive` and `monitor` mend is read by the origins as it was by ringgate, and no reply goes astray.
#[test]
fn what_other_modes_mend_has_one_meaning() {
    for mode in ["defensive", "monitor"] {
        let inputs = number("RINGGATE_INPUTS", 3000) as usize;
        let seed = number("RINGGATE_SEED", 4);
        let plan = Plan { seed, inputs, all_origins: false, mode, batch: 1500 };
        let report = run(&plan);
        println!("{mode}: {}", report.line());
        assert!(
            report.findings.is_empty(),
            "{mode}: {}\n{}",
            report.line(),
            explain(&report, &plan)
        );
    }
}

/// The same seed makes the same inputs, no two alike.
#[test]
fn the_generator_is_deterministic_and_makes_no_input_twice() {
    let (one, two) = (hostile::generate(7, 24_000), hostile::generate(7, 24_000));
    let different: std::collections::HashSet<&[u8]> =
        one.iter().map(|t| t.bytes.as_slice()).collect();
    assert_eq!((one.len(), different.len()), (24_000, 24_000));
    assert!(one.iter().zip(&two).all(|(a, b)| a.bytes == b.bytes && a.family == b.family));
    let mut families: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for template in hostile::generate(7, 60_000) {
        *families.entry(template.family).or_default() += 1;
    }
    println!("{families:?}");
    assert!(families.len() >= 20, "{families:?}");
}

/// Hazards H1-32, RES-10, RES-11, UP-01 to UP-08, UP-23.
#[test]
fn hostile_targets_hurt_nobody_but_their_own_requests() {
    let report = hostile::responses::run(
        number("RINGGATE_SEED", 3),
        number("RINGGATE_ANSWERS", 2500) as usize,
    );
    println!("{} hostile answers in {:.1} s", report.answers, report.took.as_secs_f64());
    let first: Vec<&String> = report.wrong.iter().take(40).collect();
    assert!(first.is_empty(), "{} wrong: {first:#?}", report.wrong.len());
}

/// A judge that finds nothing proves nothing: one whole exchange, then the same with one thing wrong each.
#[test]
fn the_judge_sees_what_is_wrong() {
    const REPLY: &str = "HTTP/1.1 200 OK\r\nx-seen: aa\r\ncontent-length: 4\r\n\r\nseen";
    let second = REPLY.replace("aa", "bb");
    let right = || {
        (
            format!("{REPLY}{second}"),
            vec![record("aa", "/00000000"), record("bb", "/probe-00000000")],
            vec![seen("aa", "/00000000"), seen("bb", "/probe-00000000")],
        )
    };
    let check = |expected: Option<Kind>,
                 (received, records, seen): (String, Vec<Record>, Vec<Seen>)| {
        let template = Template { family: "x", hidden: Hidden::Always, bytes: Vec::new() };
        let received = received.into_bytes();
        let case = Case {
            number: 0,
            lane: 0,
            manner: Manner::Whole,
            local: "1.2.3.4:5".to_owned(),
            received,
            end: End::Closed,
        };
        let lanes = [Lane { name: "web".to_owned(), echoes: true }];
        let found = judge(&Evidence {
            templates: &[template],
            first: 0,
            cases: &[case],
            records: &records,
            lanes: &lanes,
            seen: &[seen],
        });
        assert_eq!(found.first().map(|f| f.kind), expected, "{found:?}");
    };
    check(None, right());
    type Change<'a> = &'a dyn Fn(&mut String, &mut Vec<Record>, &mut Vec<Seen>);
    let with = |change: Change<'_>| {
        let (mut received, mut records, mut seen) = right();
        change(&mut received, &mut records, &mut seen);
        (received, records, seen)
    };
    check(
        Some(Kind::Smuggled),
        with(&|_, _, seen| seen.push(self::seen("cc", "/smuggled-00000000"))),
    );
    check(Some(Kind::Smuggled), with(&|_, _, seen| seen.push(self::seen("aa", "/00000000"))));
    check(
        Some(Kind::Smuggled),
        with(&|_, records, seen| {
            (records[0].path, seen[0].target) =
                ("/smuggled-00000000".to_owned(), "/smuggled-00000000".to_owned());
        }),
    );
    check(Some(Kind::Smuggled), with(&|_, _, seen| seen[0].method = "POST".to_owned()));
    check(Some(Kind::Smuggled), with(&|_, _, seen| seen[0].target.push('0')));
    check(Some(Kind::Smuggled), with(&|_, _, seen| seen[0].body = Some(7)));
    check(Some(Kind::Unaccounted), with(&|_, _, seen| drop(seen.pop())));
    check(
        Some(Kind::Desynchronised),
        with(&|received, _, _| *received = format!("{}{REPLY}", REPLY.replace("aa", "bb"))),
    );
    check(Some(Kind::Desynchronised), with(&|received, _, _| received.push_str(REPLY)));
    check(Some(Kind::Desynchronised), with(&|received, _, _| received.truncate(REPLY.len())));
    check(
        Some(Kind::Desynchronised),
        with(&|received, _, _| received.truncate(2 * REPLY.len() - 1)),
    );
    check(
        Some(Kind::Desynchronised),
        with(&|received, _, _| *received = received.replacen("200", "404", 1)),
    );
    check(
        Some(Kind::Crashed),
        with(&|_, records, _| records[1].reason = Some("internal".to_owned())),
    );
}

fn record(id: &str, path: &str) -> Record {
    serde_json::from_value(serde_json::json!({
        "request_id": id, "peer": "1.2.3.4:5", "listener": "web", "method": "GET", "path": path, "target": "a:1", "status": 200,
        "target_status": 200, "body_in": 0, "reason": null, "retries": 0
    }))
    .unwrap()
}

fn seen(id: &str, target: &str) -> Seen {
    hostile::origins::line(&format!("{id}\t1\tGET\t{target}\t0\t200")).unwrap()
}
