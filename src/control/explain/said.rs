//! What was played, told: who decides, each rule, each policy, the group, what is sent, the answer.
//!
//! Nothing is decided here: what is said is what the rehearsal has done. Called by `explain`.

use super::*;
use crate::config::{self, Action, Place};
use crate::control::explain::{notes, standing};
use crate::route::{ListenerId, RuleId};
use crate::snapshot::expect::{is_sent_to_https, why};

/// A request where it comes in.
pub struct Placed<'a> {
    /// The file.
    pub config: &'a Config,
    /// What it was played in.
    pub snapshot: Arc<Snapshot>,
    /// What runs.
    pub running: Option<&'a Snapshot>,
    /// An index into the listeners of both.
    pub listener: usize,
    /// Who sends it.
    pub source: IpAddr,
    /// The name that is asked for in its TLS handshake.
    pub tls: Option<&'a str>,
}

/// A text of the access record; `None` where it is empty.
pub fn text_of<'p>(played: &'p Played, key: &str) -> Option<&'p str> {
    let text = played.record.get(key).and_then(|value| value.as_str());
    text.filter(|text| !text.is_empty())
}

impl Placed<'_> {
    /// All that there is to say.
    pub fn explanation(&self, asked: &Asked, octets: &[u8], played: &Played) -> Explanation {
        let said = |key: &str| text_of(played, key).map(str::to_owned);
        let listener = self.config.listeners.get(self.listener);
        let mut explained = Explanation {
            request: asked.request.clone(),
            generation: self.running.map(|running| running.generation),
            listener: listener.map(|l| l.name.clone()).unwrap_or_default(),
            certificate: self.tls.and_then(|name| self.certificate(name)),
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
        let rule = self.config.rules.iter().find(|r| Some(&r.name) == explained.rule.as_ref());
        explained.parts = rule.map(|rule| self.parts(rule)).unwrap_or_default();
        explained.sent = self.sent(&explained.parts, played);
        explained.group = said("group").and_then(|name| self.group(&name));
        let mut head = RequestHead::default();
        if played.refused.is_none() && head.parse(octets, self.snapshot.paths).is_ok() {
            let view = head.view(octets, self.source);
            explained.rules = self.rules(&view, explained.rule.as_deref());
            explained.decided = self.decided(&view, &explained);
            if explained.decided.is_some() {
                explained.rules.clear();
            } else {
                explained.policies = self.policies(&view, &explained, played);
            }
            if let Some(rule) = rule {
                explained.steered = notes::steered(self, rule, &view, played);
                explained.notes = notes::chances(rule, view.fields);
            }
        }
        self.left_open(&mut explained, rule, played);
        explained
    }

    // What was not asked, or not looked at.
    fn left_open(&self, e: &mut Explanation, rule: Option<&config::Rule>, played: &Played) {
        let mut notes = Vec::new();
        if !played.ended {
            notes.push(
                "it waits for something that is not asked here, as another service".to_owned(),
            );
        }
        if let Some(policy) = e.policies.iter().find(|policy| policy.says == "asks") {
            let asked = played.unasked.join(", ");
            notes.push(format!(
                "policy {} asks {asked}, which is not asked here: what becomes of the request is up to that",
                policy.name
            ));
            (e.answer, e.reason) = (Vec::new(), None);
        } else if !played.unasked.is_empty() {
            notes.push(format!("{} would be asked, and is not here", played.unasked.join(", ")));
        }
        if self.config.groups.iter().any(|g| g.tls.is_some() || g.protocol.is_h2()) {
            notes.push("targets are spoken to as by HTTP/1.1 here".to_owned());
        }
        notes.append(&mut e.notes);
        notes.extend(notes::unknown(self, rule, e));
        e.notes = notes;
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
    fn rules(&self, view: &RequestView<'_>, taken: Option<&str>) -> Vec<RuleSaid> {
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

    // What has decided though a rule would take the request, or none was asked.
    fn decided(&self, view: &RequestView<'_>, e: &Explanation) -> Option<String> {
        if is_sent_to_https(&self.snapshot, self.listener, self.tls.is_some(), view) {
            return Some(format!("redirect_https of listener {:?}", e.listener));
        }
        let takes = e.rules.iter().any(|rule| rule.misses.is_none());
        let reason = || e.reason.clone().unwrap_or_else(|| "an answer to a challenge".to_owned());
        (e.rule.is_none() && takes).then(reason)
    }

    /// Who sends it, as policies see that.
    pub fn sender<'v>(
        &'v self,
        view: &RequestView<'v>,
        played: &'v Played,
    ) -> (Subject<'v>, Findings) {
        let client = text_of(played, "client").and_then(|client| client.parse().ok());
        let listener = self.snapshot.listeners.get(self.listener);
        let subject = Subject {
            view: *view,
            client: client.unwrap_or(self.source).to_canonical(),
            scheme: if self.tls.is_some() { "https" } else { "http" },
            port: 0,
            listener: listener.map_or("", |listener| &listener.name),
            rule: text_of(played, "rule").unwrap_or_default(),
            tls: None,
            body: None,
            decoded: false,
            preflight: false,
            now: Tick::now(),
            unix: tick::wall_micros() / 1_000_000,
        };
        let mut findings = Findings::default();
        let known = |key: &str| text_of(played, key).unwrap_or_default().to_owned();
        (findings.identity.consumer, findings.identity.plan) = (known("consumer"), known("plan"));
        (subject, findings)
    }

    fn policies(
        &self,
        view: &RequestView<'_>,
        e: &Explanation,
        played: &Played,
    ) -> Vec<PolicySaid> {
        let listener = self.config.listeners.get(self.listener).map(|l| &l.policies);
        let rule = self.config.rules.iter().find(|r| Some(&r.name) == e.rule.as_ref());
        let names = listener.into_iter().chain(rule.map(|r| &r.policies)).flatten();
        let ended = text_of(played, "policy");
        let status = played.record.get("status").and_then(|status| status.as_u64());
        let asks = !played.unasked.is_empty() && status.is_some_and(|status| status >= 500);
        let (subject, findings) = self.sender(view, played);
        let mut over = false;
        names
            .filter_map(|name| {
                let policy = self.config.policies.iter().find(|p| p.name == *name)?;
                let says = match (over, ended == Some(name.as_str())) {
                    (true, _) => "not_reached",
                    (false, true) if asks => "asks",
                    (false, true) => "ends",
                    (false, false) => "passes",
                };
                over |= matches!(says, "ends" | "asks");
                let running =
                    self.running.and_then(|r| r.policies.iter().find(|p| *p.name == **name));
                let fill = running.and_then(|running| match standing::counts_by_claims(policy) {
                    true => Some("how full it is, by a claim, is not looked at".to_owned()),
                    false => running.kind.fill(&subject, &findings),
                });
                Some(PolicySaid {
                    name: name.clone(),
                    kind: policy.settings.word(),
                    dry_run: policy.dry_run,
                    says,
                    fill,
                })
            })
            .collect()
    }

    fn group(&self, name: &str) -> Option<GroupSaid> {
        let written = self.config.groups.iter().find(|group| group.name == name)?;
        let group = standing::group_of(&self.snapshot, self.running, name)?;
        Some(standing::group(written, group, self.running.is_some()))
    }

    fn parts(&self, rule: &config::Rule) -> Vec<PartSaid> {
        let Action::Aggregate(whole) = &rule.action else { return Vec::new() };
        let parts = whole.settings.parts.iter();
        parts
            .filter_map(|part| {
                Some(PartSaid { name: part.name.clone(), group: self.group(&part.group)? })
            })
            .collect()
    }

    // Parts are asked in their order: each request is that of the first part left whose group has its target.
    fn sent(&self, parts: &[PartSaid], played: &Played) -> Vec<SentSaid> {
        let mut left: Vec<&PartSaid> = parts.iter().collect();
        let mut sent = Vec::new();
        for delivered in &played.sent {
            let asked = |part: &&PartSaid| {
                let group = self.snapshot.groups.iter().find(|g| *g.name == *part.group.name);
                let mut targets = group.into_iter().flat_map(|group| &group.targets);
                targets.any(|target| *target.live.name == *delivered.target)
            };
            let part = left.iter().position(asked).map(|at| left.remove(at).name.clone());
            let (target, head) = (delivered.target.clone(), lines(&delivered.octets));
            sent.push(SentSaid { target, part, head });
        }
        sent
    }
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
