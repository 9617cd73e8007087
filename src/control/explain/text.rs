//! An explanation as people read it: from the outside in, one line for each thing that was looked at.
//!
//! Called by `ringgate explain`.

use crate::control::explain::{Explanation, GroupSaid, PolicySaid};
use std::fmt::Write;

/// The text.
pub fn text(e: &Explanation) -> String {
    let mut out = String::new();
    let _ = write_all(e, &mut out);
    out
}

fn write_all(e: &Explanation, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}", e.request)?;
    if let Some(generation) = e.generation {
        writeln!(out, "  configuration {generation}, as it runs")?;
    }
    writeln!(out, "listener      {}", e.listener)?;
    if let Some(certificate) = &e.certificate {
        let fits = if certificate.fits { "" } else { "; it is NOT for this host" };
        writeln!(
            out,
            "certificate   {} ({}){fits}",
            certificate.file,
            certificate.names.join(", ")
        )?;
    }
    if let Some(refused) = &e.refused {
        return writeln!(out, "refused       {refused}");
    }
    if let Some(decided) = &e.decided {
        writeln!(out, "rule       -> none is looked at: {decided} decides")?;
    }
    for rule in &e.rules {
        let priority = rule.priority.map(|p| format!(", priority {p}")).unwrap_or_default();
        let says = rule.misses.unwrap_or("takes it");
        let mark = if rule.misses.is_none() { "->" } else { "  " };
        writeln!(out, "rule       {mark} {} ({}{priority}): {says}", rule.name, rule.place)?;
    }
    if e.rule.is_none() && e.decided.is_none() {
        writeln!(out, "rule       -> none; the listener's default")?;
    }
    e.policies.iter().try_for_each(|policy| self::policy(policy, out))?;
    writeln!(out, "action        {}", e.action)?;
    e.steered.iter().try_for_each(|steered| writeln!(out, "steered       {steered}"))?;
    if let Some(group) = &e.group {
        self::group("", group, out)?;
    }
    for part in &e.parts {
        self::group(&format!("part {}, ", part.name), &part.group, out)?;
    }
    for sent in &e.sent {
        let part = sent.part.as_ref().map(|part| format!(" for part {part}")).unwrap_or_default();
        writeln!(out, "sent to       {}{part}", sent.target)?;
        sent.head.iter().try_for_each(|line| writeln!(out, "    > {line}"))?;
    }
    let open = if e.answer.is_empty() { "        not known here" } else { "" };
    writeln!(out, "answer{open}")?;
    e.answer.iter().try_for_each(|line| writeln!(out, "    < {line}"))?;
    if let Some(reason) = &e.reason {
        writeln!(out, "because       {reason}")?;
    }
    e.notes.iter().try_for_each(|note| writeln!(out, "note          {note}"))
}

fn policy(policy: &PolicySaid, out: &mut String) -> std::fmt::Result {
    let says = match policy.says {
        "ends" => "ends it",
        "asks" => "asks another service, which is not asked here",
        "not_reached" => "is not reached",
        _ => "lets it pass",
    };
    let counts = if policy.dry_run { ", only counts" } else { "" };
    let fill = policy.fill.as_ref().map(|fill| format!("; {fill}")).unwrap_or_default();
    writeln!(out, "policy        {} ({}{counts}): {says}{fill}", policy.name, policy.kind)
}

fn group(part: &str, group: &GroupSaid, out: &mut String) -> std::fmt::Result {
    let open = if group.failed_open { "; none is healthy, so all are used" } else { "" };
    let breaker = group.breaker.as_ref().map(|b| format!("; breaker {b}")).unwrap_or_default();
    writeln!(out, "group         {} ({part}{}){open}{breaker}", group.name, group.algorithm)?;
    let tiers = group.targets.iter().any(|target| target.tier != 0);
    for target in &group.targets {
        let zone = target.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
        let tier = if tiers { format!(", tier {}", target.tier) } else { String::new() };
        let candidate = match (target.share, &target.why) {
            (Some(share), _) => format!("candidate for {share} %"),
            (None, Some(why)) => format!("not a candidate: {why}"),
            (None, None) => "not a candidate".to_owned(),
        };
        writeln!(
            out,
            "  target      {} {}, weight {}{tier}{zone}, {} in flight: {candidate}",
            target.target, target.state, target.weight, target.in_flight
        )?;
    }
    Ok(())
}
