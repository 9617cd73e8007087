//! What would be done with a request, and why: listener, certificate, every rule that was looked at, policies, target, answer.
//!
//! It is played through the very walk of a received one (`rehearsal`), in a snapshot of its own, so that explaining changes nothing.
//! Of the running process it also tells how things stand: states of targets, the fill of limits. `text` writes it for
//! people, serde for tools. Called by `ringgate explain`, and by the admin listener's `/explain`.

mod ask;
mod text;

pub use ask::{Query, explain, live};

use crate::config::{self, Action, Config, Place, Rule};
use crate::control::expect::{RESOLVED, name_in};
use crate::control::rehearsal::{Part, Played, Stage, plain};
use crate::fanout::Share;
use crate::http::request::RequestHead;
use crate::policy::{Findings, Subject};
use crate::route::{ListenerId, RuleId};
use crate::shard::epoch;
use crate::snapshot::compile::{Context, compile};
use crate::snapshot::expect::{listener_for, why, written};
use crate::snapshot::{Group, Snapshot};
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
    /// The listener it arrives on; `None` for one that speaks the URL's scheme.
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
    /// The rules of the listener in their order, up to the one that takes it.
    pub rules: Vec<RuleSaid>,
    /// The rule that takes it; `None` for the listener's default.
    pub rule: Option<String>,
    /// What is done: forward, redirect, respond, aggregate, policy, none.
    pub action: String,
    /// What it must pass, in order.
    pub policies: Vec<PolicySaid>,
    /// Where it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupSaid>,
    /// What targets are sent.
    pub sent: Vec<SentSaid>,
    /// What the client is sent; targets answer 200.
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
    /// passes, ends, not_reached.
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
    /// Every target.
    pub targets: Vec<TargetSaid>,
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
    /// Requests that it has in flight.
    pub in_flight: u64,
}

/// What a target is sent.
#[derive(Debug, Serialize)]
pub struct SentSaid {
    /// Which one.
    pub target: String,
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
    let plain = plain(config);
    let resolve = |_: &str| vec![RESOLVED];
    let context = Context { generation: 1, workers: 1, old: None, resolve: &resolve };
    let snapshot = Arc::new(compile(&plain, context).map_err(|e| e.to_string())?);
    if let Some(running) = running {
        follow(&snapshot, running);
    }
    let (_, url) = asked.request.split_once(' ').unwrap_or(("", &asked.request));
    let named = asked.listener.as_deref();
    let listener = listener_for(config, url, named, None).ok_or_else(|| match named {
        Some(name) => format!("there is no listener {name:?}"),
        None => "no listener speaks HTTP".to_owned(),
    })?;
    let octets = written(&asked.request, &asked.headers)
        .map_err(|_| "a request is a method and an absolute URL, as 'GET https://a.example/x'")?;
    let source = asked.source.unwrap_or(SOURCE);
    let tls = url.strip_prefix("https://").map(name_in);
    let stage = Stage::new(Arc::clone(&snapshot)).ok_or("nothing can be rehearsed here")?;
    let played = stage.play(&Part { listener, octets: &octets, source, tls }, fastrand::u64(..));
    let place = Placed { config, snapshot: &snapshot, running, listener, source };
    Ok(place.explanation(asked, &octets, tls, &played))
}

// What the running process knows of its targets.
fn follow(snapshot: &Snapshot, running: &Snapshot) {
    for group in &snapshot.groups {
        let Some(known) = running.groups.iter().find(|g| g.name == group.name) else { continue };
        for target in &group.targets {
            let same = |t: &&crate::snapshot::Target| t.live.name == target.live.name;
            if let Some(known) = known.targets.iter().find(same) {
                target.live.set_health(known.live.health());
            }
        }
    }
}

// What not every request that the rule takes meets, and what another one may.
fn chances(rule: &Rule) -> Vec<String> {
    let percent = |share: Share| format!("{} %", f64::from(share.0) / 100.0);
    let mut notes = Vec::new();
    if let Action::Forward(groups) = &rule.action
        && groups.len() > 1
    {
        let weights: Vec<String> =
            groups.iter().map(|group| format!("{} {}", group.group, group.weight)).collect();
        notes.push(format!("groups are chosen by weight: {}", weights.join(", ")));
    }
    if let Some(mirror) = &rule.traffic.mirror {
        let (share, to) = (percent(mirror.share), &mirror.group);
        notes.push(format!("{share} of such requests are copied to group {to}; none is here"));
    }
    let faults = rule.traffic.inject.iter().flat_map(|inject| &inject.faults);
    for fault in faults.filter(|fault| fault.share != Share::ALL) {
        let share = percent(fault.share);
        notes.push(format!("{share} of such requests meet a fault on purpose; none does here"));
    }
    notes
}

struct Placed<'a> {
    config: &'a Config,
    snapshot: &'a Snapshot,
    running: Option<&'a Snapshot>,
    listener: usize,
    source: IpAddr,
}

impl Placed<'_> {
    fn explanation(
        &self,
        asked: &Asked,
        octets: &[u8],
        tls: Option<&str>,
        played: &Played,
    ) -> Explanation {
        let said = |key: &str| {
            let text = played.record.get(key).and_then(|value| value.as_str());
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let listener = self.config.listeners.get(self.listener);
        let mut explained = Explanation {
            request: asked.request.clone(),
            generation: self.running.map(|running| running.generation),
            listener: listener.map(|l| l.name.clone()).unwrap_or_default(),
            certificate: tls.and_then(|name| self.certificate(name)),
            refused: played
                .refused
                .map(|f| format!("{} {}: {}", f.status(), f.code(), f.sentence())),
            rule: said("rule"),
            action: said("action").unwrap_or_default(),
            answer: lines(&played.answer),
            ..Explanation::default()
        };
        explained.reason = said("reason").map(|reason| match said("detail") {
            Some(detail) => format!("{reason}: {detail}"),
            None => reason,
        });
        explained.sent = played
            .sent
            .iter()
            .map(|sent| SentSaid { target: sent.target.clone(), head: lines(&sent.octets) })
            .collect();
        let mut head = RequestHead::default();
        if played.refused.is_none() && head.parse(octets, self.snapshot.paths).is_ok() {
            let view = head.view(octets, self.source);
            explained.rules = self.rules(&view, explained.rule.as_deref());
            explained.policies = self.policies(&view, &explained, said("policy").as_deref(), tls);
        }
        explained.group = said("group").and_then(|name| self.group(&name));
        if !played.ended {
            explained.notes.push(
                "it waits for something that is not asked here, as another service".to_owned(),
            );
        }
        if self.config.groups.iter().any(|g| g.tls.is_some() || g.protocol.is_h2()) {
            explained.notes.push("targets are spoken to as by HTTP/1.1 here".to_owned());
        }
        let rule = self.config.rules.iter().find(|r| Some(&r.name) == explained.rule.as_ref());
        explained.notes.extend(rule.map(chances).unwrap_or_default());
        explained
    }

    fn certificate(&self, host: &str) -> Option<CertificateSaid> {
        let secure = self.snapshot.listeners.get(self.listener)?.secure.as_ref()?;
        let all = &secure.terms.certificates;
        let shown = all.iter().find(|c| c.covers(host)).or(all.first())?;
        Some(CertificateSaid {
            file: shown.label.to_string(),
            names: shown.names.iter().map(|name| name.to_string()).collect(),
            fits: shown.covers(host),
        })
    }

    // In the order in which they are looked at, up to the one that takes the request.
    fn rules(&self, view: &crate::http::RequestView<'_>, taken: Option<&str>) -> Vec<RuleSaid> {
        let listener = ListenerId(u32::try_from(self.listener).unwrap_or(u32::MAX));
        let mut said = Vec::new();
        for id in self.snapshot.routes.order() {
            let Some(rule) = self.config.rules.get(id.0 as usize) else { continue };
            let misses = self.snapshot.routes.check(RuleId(id.0), listener, view).err().map(why);
            let place = place(&rule.place);
            said.push(RuleSaid { name: rule.name.clone(), place, priority: rule.priority, misses });
            if taken == Some(rule.name.as_str()) {
                break;
            }
        }
        said
    }

    fn policies(
        &self,
        view: &crate::http::RequestView<'_>,
        explained: &Explanation,
        ended: Option<&str>,
        tls: Option<&str>,
    ) -> Vec<PolicySaid> {
        let listener = self.config.listeners.get(self.listener).map(|l| &l.policies);
        let rule = self.config.rules.iter().find(|r| Some(&r.name) == explained.rule.as_ref());
        let names = listener.into_iter().chain(rule.map(|r| &r.policies)).flatten();
        let mut over = false;
        names
            .filter_map(|name| {
                let policy = self.config.policies.iter().find(|p| p.name == *name)?;
                let says = match (over, ended == Some(name.as_str())) {
                    (true, _) => "not_reached",
                    (false, true) => "ends",
                    (false, false) => "passes",
                };
                over |= says == "ends";
                let running =
                    self.running.and_then(|r| r.policies.iter().find(|p| *p.name == **name));
                let subject = Subject {
                    view: *view,
                    client: self.source.to_canonical(),
                    scheme: if tls.is_some() { "https" } else { "http" },
                    port: 0,
                    listener: &explained.listener,
                    rule: explained.rule.as_deref().unwrap_or_default(),
                    tls: None,
                    body: None,
                    decoded: false,
                    preflight: false,
                    now: crate::base::Tick::now(),
                    unix: crate::base::tick::wall_micros() / 1_000_000,
                };
                Some(PolicySaid {
                    name: name.clone(),
                    kind: policy.settings.word(),
                    dry_run: policy.dry_run,
                    says,
                    fill: running.and_then(|p| p.kind.fill(&subject, &Findings::default())),
                })
            })
            .collect()
    }

    fn group(&self, name: &str) -> Option<GroupSaid> {
        let written = self.config.groups.iter().find(|group| group.name == name)?;
        let of =
            |snapshot: &Snapshot| snapshot.groups.iter().find(|g| *g.name == *name).map(Arc::clone);
        let group: Arc<Group> = self.running.and_then(of).or_else(|| of(self.snapshot))?;
        let (_, chosen) = epoch::choose(&group);
        let targets = group.targets.iter().enumerate().map(|(at, target)| TargetSaid {
            target: target.live.name.to_string(),
            weight: target.weight,
            tier: target.tier,
            zone: target.zone.clone(),
            state: target.live.state().name(),
            candidate: target.weight > 0 && chosen.members.contains(&at),
            in_flight: target.live.meters.sum().active,
        });
        Some(GroupSaid {
            name: name.to_owned(),
            algorithm: algorithm(&written.algorithm),
            failed_open: chosen.failed_open,
            targets: targets.collect(),
        })
    }
}

fn algorithm(algorithm: &config::Algorithm) -> String {
    let words = format!("{algorithm:?}");
    let word = words.split(['(', ' ', '{']).next().unwrap_or_default();
    let mut out = String::new();
    for c in word.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn place(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

// The lines of a head.
fn lines(octets: &[u8]) -> Vec<String> {
    let end = memchr::memmem::find(octets, b"\r\n\r\n").unwrap_or(octets.len());
    let head = String::from_utf8_lossy(octets.get(..end).unwrap_or_default()).into_owned();
    head.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
