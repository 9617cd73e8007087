//! What would be done with a request, and why: listener, certificate, every rule that was looked at, policies, target, answer.
//!
//! It is played through the very walk of a received one (`rehearsal`), in a snapshot of its own, so that explaining changes nothing.
//! For the running process that snapshot is made to stand as the process does (`standing`): health, ejections, breakers, what limits
//! have counted for the client; what cannot be copied is said in a note. `text` writes it for people, serde for tools. Called by
//! `ringgate explain`, and by the admin listener's `/explain`.

mod ask;
mod notes;
mod said;
mod standing;
mod text;

pub use ask::{Query, explain, live};

use crate::base::{Tick, tick};
use crate::config::Config;
use crate::control::expect::{RESOLVED, name_in};
use crate::control::rehearsal::{Part, Played, Stage, plain};
use crate::http::RequestView;
use crate::http::request::RequestHead;
use crate::policy::{Findings, Subject};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{Context, compile};
use crate::snapshot::expect::{listener_for, misfit, written};
use said::Placed;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What is asked about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// A method and an absolute URL.
    pub request: String,
    /// Fields of its head.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The listener it arrives on; `None` for one that binds the URL's port, or speaks its scheme.
    #[serde(default)]
    pub listener: Option<String>,
    /// Who sends it; 192.0.2.1 where nothing is said.
    #[serde(default)]
    pub source: Option<IpAddr>,
}

/// What would be done with it.
#[derive(Debug, Default, Serialize)]
pub struct Explanation {
    /// The request as it was understood.
    pub request: String,
    /// The generation of the running configuration; left out for a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Where it comes in.
    pub listener: String,
    /// The certificate that its client is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSaid>,
    /// Why it is refused before any rule is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What decides before any rule is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided: Option<String>,
    /// The rules of the listener in their order, up to the one that takes it.
    pub rules: Vec<RuleSaid>,
    /// The rule that takes it; `None` for the listener's default.
    pub rule: Option<String>,
    /// What is done: forward, redirect, respond, aggregate, policy, none.
    pub action: String,
    /// What it must pass, in order.
    pub policies: Vec<PolicySaid>,
    /// How canaries and cookies have decided where it goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steered: Vec<String>,
    /// Where it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupSaid>,
    /// Where the parts of its answer are asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartSaid>,
    /// What targets are sent.
    pub sent: Vec<SentSaid>,
    /// What the client is sent; targets answer 200. Empty where that is not known.
    pub answer: Vec<String>,
    /// The reason of an answer of ringgate's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What stays open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A certificate.
#[derive(Debug, Serialize)]
pub struct CertificateSaid {
    /// Its file.
    pub file: String,
    /// What it is for.
    pub names: Vec<String>,
    /// Whether it is for the host that was asked for.
    pub fits: bool,
}

/// A rule that was looked at.
#[derive(Debug, Serialize)]
pub struct RuleSaid {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: String,
    /// Its `priority`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The first condition that does not hold; left out for the rule that takes the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<&'static str>,
}

/// A policy that the request meets.
#[derive(Debug, Serialize)]
pub struct PolicySaid {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Whether it only counts.
    pub dry_run: bool,
    /// passes, ends, asks (another service, which is not asked here), not_reached.
    pub says: &'static str,
    /// How full its limit is for this client, as the process stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
}

/// A group, as it stands.
#[derive(Debug, Serialize)]
pub struct GroupSaid {
    /// Its name.
    pub name: String,
    /// How a target is chosen.
    pub algorithm: String,
    /// Whether unhealthy targets are used, since there are no others.
    pub failed_open: bool,
    /// The state of its breaker, in the process that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// Every target.
    pub targets: Vec<TargetSaid>,
}

/// A part of an answer that is made of several.
#[derive(Debug, Serialize)]
pub struct PartSaid {
    /// Its name.
    pub name: String,
    /// Who is asked for it.
    pub group: GroupSaid,
}

/// A target, as it stands.
#[derive(Debug, Serialize)]
pub struct TargetSaid {
    /// Its address.
    pub target: String,
    /// Its weight.
    pub weight: u32,
    /// Its tier.
    pub tier: u8,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The state of its health.
    pub state: &'static str,
    /// Whether it may be chosen.
    pub candidate: bool,
    /// The part of the group's requests that its weight gives it now, in per cent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Why it may not be chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Requests that it has in flight.
    pub in_flight: u64,
}

/// What a target is sent.
#[derive(Debug, Serialize)]
pub struct SentSaid {
    /// Which one.
    pub target: String,
    /// The part of the answer that it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The lines of the head.
    pub head: Vec<String>,
}

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Explains a request to a file, or to the process that runs by it (`running`).
///
/// # Errors
/// What is wrong with the question.
pub fn build(
    config: &Config,
    running: Option<&Snapshot>,
    asked: &Asked,
) -> Result<Explanation, String> {
    const REQUEST: &str =
        "a request is a method and an absolute URL of http or https, as 'GET https://a.example/x'";
    let (_, url) = asked.request.split_once(' ').unwrap_or(("", &asked.request));
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(REQUEST.to_owned());
    }
    let named = asked.listener.as_deref();
    let listener = listener_for(config, url, named, None).ok_or_else(|| match named {
        Some(name) => format!("there is no listener {name:?}"),
        None => "no listener speaks HTTP".to_owned(),
    })?;
    let mut said = Vec::from_iter(misfit(config, url, listener, named.is_some()));
    let fields = notes::sent_on(&asked.headers, &mut said);
    let octets = written(&asked.request, &fields, None).map_err(|_| REQUEST)?;
    let source = asked.source.unwrap_or(SOURCE);
    let tls = url.strip_prefix("https://").map(name_in);
    let part = Part { listener, octets: &octets, source, tls, answer: None };
    let luck = fastrand::u64(..);
    let (mut snapshot, mut played) = play(config, running, &part, luck, None)?;
    let place = |snapshot: &Arc<Snapshot>| Placed {
        config,
        snapshot: Arc::clone(snapshot),
        running,
        listener,
        source,
        tls,
    };
    // Who is limited is known once it was played: then it is played with what the process has counted for that client.
    if let Some(of) = running.filter(|running| !running.policies.is_empty()) {
        let first = place(&snapshot);
        let mut head = RequestHead::default();
        if played.refused.is_none() && head.parse(&octets, snapshot.paths).is_ok() {
            let view = head.view(&octets, source);
            let (subject, findings) = first.sender(&view, &played);
            (snapshot, played) = play(config, Some(of), &part, luck, Some((&subject, &findings)))?;
        }
    }
    let mut explained = place(&snapshot).explanation(asked, &octets, &played);
    said.append(&mut explained.notes);
    explained.notes = said;
    Ok(explained)
}

type Sender<'a> = (&'a Subject<'a>, &'a Findings);

// In a snapshot that nobody else has, which stands as the running one does.
fn play(
    config: &Config,
    running: Option<&Snapshot>,
    part: &Part<'_>,
    luck: u64,
    sender: Option<Sender<'_>>,
) -> Result<(Arc<Snapshot>, Played), String> {
    let mut plain = plain(config);
    let resolve = |name: &str| match running.map(|running| standing::resolved(running, name)) {
        Some(known) if !known.is_empty() => known,
        _ => vec![RESOLVED],
    };
    if let Some(running) = running {
        standing::as_running(&mut plain, running);
    }
    let context = Context { generation: 1, workers: 1, old: None, resolve: &resolve };
    let mut snapshot = compile(&plain, context).map_err(|error| error.to_string())?;
    if let Some(running) = running {
        standing::follow(&mut snapshot, running);
        if let Some((subject, findings)) = sender {
            standing::count(&snapshot, running, subject, findings);
        }
    }
    let snapshot = Arc::new(snapshot);
    let stage = Stage::new(Arc::clone(&snapshot)).ok_or("nothing can be rehearsed here")?;
    let played = stage.play(part, luck);
    Ok((snapshot, played))
}

#[cfg(test)]
mod tests;
