//! What an explanation says beside what was done: what was left to chance, how it was steered, what is not known here.
//!
//! Called by `explain` and `said`.

use crate::config::{Action, Rule};
use crate::control::explain::said::{Placed, text_of};
use crate::control::explain::{Explanation, standing};
use crate::control::rehearsal::Played;
use crate::fanout::Share;
use crate::fanout::inject::Abort;
use crate::http::{Fields, RequestView};
use crate::sticky::canary::Decided;
use crate::sticky::{By, CanarySettings, Outcome};
use std::net::IpAddr;
use std::time::Duration;

/// The fields that are sent, without those that would frame a body that is not here, and what becomes of the others.
pub fn sent_on(fields: &[(String, String)], notes: &mut Vec<String>) -> Vec<(String, String)> {
    let kept = fields.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        let why = match name.as_str() {
            "content-length" | "transfer-encoding" | "trailer" | "expect" => "it has no body here",
            "host" => "the URL says it",
            _ => return true,
        };
        notes.push(format!("{name} is left out: {why}"));
        false
    });
    kept.cloned().collect()
}

/// What not every request that the rule takes meets, and what another one may.
pub fn chances(rule: &Rule, fields: Fields<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if let Action::Forward(groups) = &rule.action
        && groups.len() > 1
    {
        let weights: Vec<String> =
            groups.iter().map(|group| format!("{} {}", group.group, group.weight)).collect();
        notes.push(format!("groups are chosen by weight: {}", weights.join(", ")));
    }
    if let Some(mirror) = &rule.traffic.mirror {
        let (share, to) = (percent(mirror.share.0), &mirror.group);
        notes.push(format!("{share} of such requests are copied to group {to}; none is here"));
    }
    let faults = rule.traffic.inject.iter().flat_map(|inject| &inject.faults);
    for fault in faults.filter(|fault| fault.concerns(fields)) {
        let meets = meets(fault.delay, fault.abort);
        let share = percent(fault.share.0);
        notes.push(match fault.share {
            Share::ALL => format!("on purpose, it {meets}"),
            _ => format!(
                "{share} of such requests meet a fault on purpose ({meets}); none does here"
            ),
        });
        if fault.share == Share::ALL && fault.abort.is_some() {
            break;
        }
    }
    notes
}

fn meets(delay: Option<(Duration, Duration)>, abort: Option<Abort>) -> String {
    let delay = delay.map(|(least, most)| match least == most {
        true => format!("is held back for {least:?}"),
        false => format!("is held back for {least:?} to {most:?}"),
    });
    let abort = abort.map(|abort| match abort {
        Abort::Status(status) => format!("is answered {status}"),
        Abort::Reset => "is reset".to_owned(),
    });
    delay.into_iter().chain(abort).collect::<Vec<_>>().join(" and ")
}

// Of ten-thousandths.
fn percent(share: u32) -> String {
    format!("{} %", f64::from(share) / 100.0)
}

/// How the canary of a rule and cookies have decided where the request goes.
pub fn steered(
    placed: &Placed<'_>,
    rule: &Rule,
    view: &RequestView<'_>,
    played: &Played,
) -> Vec<String> {
    let Some(group) = text_of(played, "group") else { return Vec::new() };
    let mut said = Vec::new();
    if let Some(settings) = &rule.traffic.canary {
        said.extend(canary(placed, rule, settings, view, played));
    }
    if let Some((heard, about)) = played.steer.group {
        said.push(format!("group: {}", stays(Outcome::of(heard, about))));
    }
    let written = placed.config.groups.iter().find(|written| written.name == group);
    if written.is_some_and(|written| written.traffic.sticky.is_some()) {
        let outcome = match text_of(played, "sticky") {
            Some("kept") => Some(Outcome::Kept),
            Some("moved") => Some(Outcome::Moved),
            Some(_) => Some(Outcome::New),
            None => None,
        };
        said.extend(outcome.map(|outcome| format!("target: {}", stays(outcome))));
    }
    said
}

fn canary(
    placed: &Placed<'_>,
    rule: &Rule,
    settings: &CanarySettings,
    view: &RequestView<'_>,
    played: &Played,
) -> Option<String> {
    let place = |inside: bool| match inside {
        true => format!("in, to group {}", settings.group),
        false => "out".to_owned(),
    };
    let force = settings.force.as_ref();
    if let Some((force, forced)) = force.and_then(|force| Some((force, force.says(view.fields)?))) {
        return Some(format!("canary: {}: {} says so", place(forced), force.header));
    }
    let run = placed.snapshot.rules.iter().find(|run| *run.name == *rule.name)?;
    let canary = run.traffic.canary.as_ref()?;
    let client: Option<IpAddr> = text_of(played, "client").and_then(|client| client.parse().ok());
    let inside = match canary.decide(view.fields, || client.unwrap_or(placed.source)) {
        Decided::In(inside) => inside,
        Decided::ByCookie => played.steer.canary.is_some_and(|(_, number)| canary.takes(number)),
    };
    let by = match (&settings.by, played.steer.canary) {
        (By::ClientIp, _) => "of addresses, and this one's number".to_owned(),
        (By::Header(name), _) => format!("of values of {name}, and this one's number"),
        (By::Cookie(_), Some((Some(_), _))) => {
            "of clients, and the number in its cookie".to_owned()
        }
        (By::Cookie(_), _) => "of clients, and the number that it drew".to_owned(),
    };
    Some(format!("canary: {}: its share is {} {by}", place(inside), percent(settings.share)))
}

fn stays(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::New => "it has no cookie that is believed, and stays where it is now",
        Outcome::Kept => "it stays where its cookie says",
        Outcome::Moved => "what its cookie says takes no requests, and it stays elsewhere now",
    }
}

/// What is not known here, or not looked at.
pub fn unknown(placed: &Placed<'_>, rule: Option<&Rule>, e: &Explanation) -> Vec<String> {
    let mut notes = Vec::new();
    if rule.is_some_and(|rule| rule.traffic.cache.is_some()) {
        notes.push("nothing is stored here: what the cache holds is given instead".to_owned());
    }
    let group = e.group.as_ref().map(|group| group.name.as_str());
    if let Some(running) = placed.running {
        let group = group.and_then(|name| running.groups.iter().find(|g| *g.name == *name));
        notes.extend(standing::unseen(group.map(|group| &**group)));
        return notes;
    }
    let group = placed.config.groups.iter().find(|written| Some(written.name.as_str()) == group);
    let sticks = rule.is_some_and(|rule| rule.traffic.sticky.is_some())
        || group.is_some_and(|group| group.traffic.sticky.is_some());
    if sticks && placed.config.server.secrets.is_empty() {
        notes.push(
            "without server.secrets only the process that runs can read its cookies: --running asks it"
                .to_owned(),
        );
    }
    notes
}
