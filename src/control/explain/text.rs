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
    for rule in &e.rules {
        let priority = rule.priority.map(|p| format!(", priority {p}")).unwrap_or_default();
        let says = rule.misses.unwrap_or("takes it");
        let mark = if rule.misses.is_none() { "->" } else { "  " };
        writeln!(out, "rule       {mark} {} ({}{priority}): {says}", rule.name, rule.place)?;
    }
    if e.rule.is_none() {
        writeln!(out, "rule       -> none; the listener's default")?;
    }
    e.policies.iter().try_for_each(|policy| self::policy(policy, out))?;
    writeln!(out, "action        {}", e.action)?;
    if let Some(group) = &e.group {
        self::group(group, out)?;
    }
    for sent in &e.sent {
        writeln!(out, "sent to       {}", sent.target)?;
        sent.head.iter().try_for_each(|line| writeln!(out, "    > {line}"))?;
    }
    writeln!(out, "answer")?;
    e.answer.iter().try_for_each(|line| writeln!(out, "    < {line}"))?;
    if let Some(reason) = &e.reason {
        writeln!(out, "because       {reason}")?;
    }
    e.notes.iter().try_for_each(|note| writeln!(out, "note          {note}"))
}

fn policy(policy: &PolicySaid, out: &mut String) -> std::fmt::Result {
    let says = match policy.says {
        "ends" => "ends it",
        "not_reached" => "is not reached",
        _ => "lets it pass",
    };
    let counts = if policy.dry_run { ", only counts" } else { "" };
    let fill = policy.fill.as_ref().map(|fill| format!("; {fill}")).unwrap_or_default();
    writeln!(out, "policy        {} ({}{counts}): {says}{fill}", policy.name, policy.kind)
}

fn group(group: &GroupSaid, out: &mut String) -> std::fmt::Result {
    let open = if group.failed_open { "; none is healthy, so all are used" } else { "" };
    writeln!(out, "group         {} ({}){open}", group.name, group.algorithm)?;
    for target in &group.targets {
        let zone = target.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
        let candidate = if target.candidate { "candidate" } else { "not a candidate" };
        writeln!(
            out,
            "  target      {} {}, weight {}{zone}, {} in flight: {candidate}",
            target.target, target.state, target.weight, target.in_flight
        )?;
    }
    Ok(())
}
