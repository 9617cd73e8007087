//! What a file claims about itself: its `[[expect]]` tests, and rules that can never match.
//!
//! An expected request is written as a client would send it and goes through the same scan, parser and route table as
//! a received one, so that a test inside the file cannot pass where a real request would not. Nothing is sent. Called
//! by control, before anything is published.

use crate::config::{self, Config, Expect, Place, Problem, Protocol, Taker};
use crate::http::request::RequestHead;
use crate::http::scan::Scan;
use crate::http::{Fault, RequestView};
use crate::route::{ListenerId, Mismatch, RuleId};
use crate::snapshot::Snapshot;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

/// Where an expected request comes from when nothing is said of it (RFC 5737: an address for documentation).
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Every expectation of the file that `snapshot`, compiled from it, does not meet.
pub fn unmet(snapshot: &Snapshot, config: &Config) -> Vec<Problem> {
    if config.expects.is_empty() {
        return Vec::new();
    }
    let rules = (0..).zip(&config.rules).map(|(id, rule)| (rule.name.as_str(), RuleId(id)));
    let listeners = (0..).zip(&config.listeners).map(|(id, l)| (l.name.as_str(), ListenerId(id)));
    let (rules, listeners) = (rules.collect(), listeners.collect());
    let judge = Judge { snapshot, config, rules, listeners };
    config.expects.iter().filter_map(|expect| judge.expectation(expect)).collect()
}

/// A request (`METHOD URL`) with these fields and this body as a client would send it.
///
/// # Errors
/// [`Fault::RequestLine`] or [`Fault::Target`] for what is no method and absolute URL.
pub fn written(
    request: &str,
    fields: &[(String, String)],
    body: Option<&str>,
) -> Result<Vec<u8>, Fault> {
    let (method, url) = request.split_once(' ').ok_or(Fault::RequestLine)?;
    let (_, rest) = url.split_once("://").ok_or(Fault::Target)?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut text = format!("{method} {slash}{target} HTTP/1.1\r\nHost: {authority}\r\n");
    for (name, value) in fields {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if let Some(body) = body {
        text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    text.extend(["\r\n", body.unwrap_or_default()]);
    Ok(text.into_bytes())
}

/// The listener that a request to this URL would reach, by index: the one that is named; or of those that `rule` serves and that
/// speak the URL's scheme the one that binds its port, or the first; or the first that speaks HTTP at all.
pub fn listener_for(
    config: &Config,
    url: &str,
    named: Option<&str>,
    rule: Option<&str>,
) -> Option<usize> {
    let at = |name: &str| config.listeners.iter().position(|l| l.name == name);
    if let Some(name) = named {
        return at(name);
    }
    let (protocol, port, _) = wanted(url);
    let rule = rule.and_then(|name| config.rules.iter().find(|rule| rule.name == name));
    let serves = |l: &&config::Listener| {
        rule.is_none_or(|rule| rule.listeners.is_empty() || rule.listeners.contains(&l.name))
    };
    let served = || config.listeners.iter().filter(serves);
    let speaks = || served().filter(|l| l.protocol == protocol);
    let found = speaks()
        .find(|l| binds(l, port))
        .or_else(|| speaks().next())
        .or_else(|| served().find(|l| !l.protocol.is_relayed()));
    found.and_then(|l| at(&l.name))
}

/// What of the URL the listener that was found for it does not fit; `None` where nothing was left to choose.
pub fn misfit(config: &Config, url: &str, listener: usize, named: bool) -> Option<String> {
    let listener = config.listeners.get(listener)?;
    let (protocol, port, written) = wanted(url);
    let (name, scheme) = (&listener.name, protocol.name());
    let speaks = || config.listeners.iter().filter(|l| l.protocol == protocol);
    if listener.protocol != protocol && (named || speaks().next().is_some()) {
        return Some(format!(
            "listener {name:?} speaks {}: it is asked as if {scheme} had ended in front of it",
            listener.protocol.name()
        ));
    }
    if listener.protocol != protocol {
        return Some(format!(
            "no listener speaks {scheme}: {name:?} is asked, as if {scheme} had ended in front of it"
        ));
    }
    let guessed = !named && !binds(listener, port) && (written || speaks().count() > 1);
    guessed.then(|| {
        format!("no listener speaks {scheme} on port {port}: {name:?} is taken, the first that speaks it")
    })
}

// What a URL asks for: the protocol, the port, and whether that is written there.
fn wanted(url: &str) -> (Protocol, u16, bool) {
    let (protocol, usual) = match url.starts_with("https:") {
        true => (Protocol::Https, 443),
        false => (Protocol::Http, 80),
    };
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    (protocol, port.unwrap_or(usual), port.is_some())
}

fn binds(listener: &config::Listener, port: u16) -> bool {
    listener.bind.iter().any(|address| address.port() == port)
}

/// Whether a listener sends a request to https before any rule is asked, as `proxy::exchange` does.
pub fn is_sent_to_https(
    snapshot: &Snapshot,
    listener: usize,
    by_tls: bool,
    view: &RequestView<'_>,
) -> bool {
    let sends = snapshot.listeners.get(listener).is_some_and(|l| l.redirect_https.is_some());
    let ended_in_front = || {
        let said = view.fields.first("x-forwarded-proto");
        said.is_some_and(|said| said.eq_ignore_ascii_case(b"https")) && snapshot.trusts(view.peer)
    };
    sends && !by_tls && !ended_in_front() && !view.path.starts_with(ACME_CHALLENGE)
}

// RFC 8555 section 8.3: it is answered on plain HTTP.
const ACME_CHALLENGE: &[u8] = b"/.well-known/acme-challenge/";

/// A warning for each rule that can never match because another one takes all its requests first. None of them is
/// wrong; [`crate::route::Table::hidden`] says which rules may be missed.
pub fn hidden(snapshot: &Snapshot, config: &Config) -> Vec<Problem> {
    let rule = |id: RuleId| config.rules.get(id.0 as usize);
    let relayed =
        |name: &String| config.listeners.iter().any(|l| l.name == *name && l.protocol.is_relayed());
    let warning = |(hidden, by): (RuleId, RuleId)| {
        let (hidden, by) = (rule(hidden)?, rule(by)?);
        // A rule that names no listener takes requests only.
        if by.listeners.is_empty() && hidden.listeners.iter().any(relayed) {
            return None;
        }
        Some(Problem {
            place: hidden.place.clone(),
            key: format!("rule.{}", hidden.name),
            found: format!(
                "a rule that never matches: rule {:?}{} takes all its requests",
                by.name,
                at(&by.place)
            ),
            expected: "a rule that can match".to_owned(),
            hint: Some(match (hidden.priority, by.priority) {
                (None, Some(_)) => "rules without a priority come after those with one".to_owned(),
                _ => format!("give it a priority before that of {:?}, or take it out", by.name),
            }),
        })
    };
    let mut pairs = snapshot.routes.hidden();
    pairs.sort_unstable();
    pairs.into_iter().filter_map(warning).collect()
}

struct Judge<'a> {
    snapshot: &'a Snapshot,
    config: &'a Config,
    rules: HashMap<&'a str, RuleId>,
    listeners: HashMap<&'a str, ListenerId>,
}

impl Judge<'_> {
    fn expectation(&self, expect: &Expect) -> Option<Problem> {
        let wanted = match &expect.taker {
            Taker::Anyone => return None,
            Taker::Nobody => None,
            Taker::Rule(name) => Some(name.as_str()),
        };
        let (buf, head) = match self.receive(expect) {
            Ok(received) => received,
            // No rule takes what is refused, as expected.
            Err(_) if wanted.is_none() => return None,
            Err(fault) => {
                let found = format!(
                    "{:?}, which is refused: {} {}",
                    expect.request,
                    fault.status(),
                    fault.sentence()
                );
                return Some(problem(expect, found, None));
            }
        };
        let view = head.view(&buf, expect.source.unwrap_or(SOURCE));
        let wanted_id = wanted.and_then(|name| self.rules.get(name).copied());
        for listener in self.listeners_of(expect) {
            let at = listener.0 as usize;
            let relayed = self.config.listeners.get(at).is_some_and(|l| l.protocol.is_relayed());
            let (_, url) = expect.request.split_once(' ').unwrap_or_default();
            let by_tls = url.starts_with("https:");
            let elsewhere = is_sent_to_https(self.snapshot, at, by_tls, &view);
            if elsewhere && wanted_id.is_some() {
                return Some(self.sent_to_https(expect, listener));
            }
            let taken_by = match relayed {
                true => self.snapshot.routes.find_named(listener, &view),
                false => self.snapshot.routes.find(listener, &view),
            };
            let taken_by = taken_by.filter(|_| !elsewhere);
            if taken_by != wanted_id {
                return Some(self.mismatch(expect, listener, &view, wanted_id, taken_by));
            }
        }
        None
    }

    /// The request as it would be received: octets, and the head that they are.
    fn receive(&self, expect: &Expect) -> Result<(Vec<u8>, RequestHead), Fault> {
        let buf = written(&expect.request, &expect.headers, expect.body.as_deref())?;
        let len = Scan::default().find_end(&buf, &self.snapshot.head_limits())?;
        let section = len.and_then(|len| buf.get(..len)).ok_or(Fault::FieldLine)?;
        let mut head = RequestHead::default();
        head.parse(section, self.snapshot.paths)?;
        Ok((buf, head))
    }

    /// The one that is named, or the one that a request to this URL reaches of those that the rule serves. Where no rule is
    /// expected, none may take the request on any listener.
    fn listeners_of(&self, expect: &Expect) -> Vec<ListenerId> {
        let all = || self.listeners.values().copied();
        if let Some(name) = &expect.listener {
            return self.listeners.get(name.as_str()).copied().into_iter().collect();
        }
        let Taker::Rule(name) = &expect.taker else {
            let mut listeners: Vec<ListenerId> = all().collect();
            listeners.sort_unstable();
            return listeners;
        };
        let rule =
            self.rules.get(name.as_str()).and_then(|id| self.config.rules.get(id.0 as usize));
        let served = rule.map(|rule| rule.listeners.as_slice()).unwrap_or_default();
        let first = match served {
            [] => all().min(),
            served => served.iter().find_map(|l| self.listeners.get(l.as_str()).copied()),
        };
        let relayed = |id: &ListenerId| {
            self.config.listeners.get(id.0 as usize).is_some_and(|l| l.protocol.is_relayed())
        };
        let (_, url) = expect.request.split_once(' ').unwrap_or_default();
        let reached = || listener_for(self.config, url, None, Some(name));
        let reached = || reached().and_then(|at| u32::try_from(at).ok()).map(ListenerId);
        // A rule of connections that are relayed is asked for the host alone.
        let first = first.filter(relayed).or_else(reached).or(first);
        first.into_iter().collect()
    }

    fn sent_to_https(&self, expect: &Expect, listener: ListenerId) -> Problem {
        let on = self.config.listeners.get(listener.0 as usize).map(|l| l.name.as_str());
        let on = on.unwrap_or_default();
        let found = format!(
            "{:?}, which listener {on:?} sends to https before any rule is asked",
            expect.request
        );
        let hint =
            format!("redirect_https of {on:?} decides; write https://, or name another listener");
        problem(expect, found, Some(hint))
    }

    fn mismatch(
        &self,
        expect: &Expect,
        listener: ListenerId,
        view: &RequestView<'_>,
        wanted: Option<RuleId>,
        taken_by: Option<RuleId>,
    ) -> Problem {
        let taker = taken_by.and_then(|id| self.config.rules.get(id.0 as usize));
        let taker_name = match taker {
            Some(rule) => format!("rule {:?}{}", rule.name, at(&rule.place)),
            None => "no rule".to_owned(),
        };
        let on = self.config.listeners.get(listener.0 as usize).map(|l| l.name.as_str());
        let on = on.unwrap_or_default();
        let found = format!("{:?}, which {taker_name} takes on listener {on:?}", expect.request);
        let hint = wanted.map(|id| {
            let name = match &expect.taker {
                Taker::Rule(name) => name.as_str(),
                _ => "",
            };
            match (self.snapshot.routes.check(id, listener, view), taker) {
                (Err(mismatch), _) => format!("{name:?} does not match: {}", why(mismatch)),
                (Ok(()), Some(taker)) => {
                    format!("{name:?} matches too, but {:?} comes before it", taker.name)
                }
                (Ok(()), None) => format!("{name:?} matches"),
            }
        });
        problem(expect, found, hint)
    }
}

fn problem(expect: &Expect, found: String, hint: Option<String>) -> Problem {
    let expected = match &expect.taker {
        Taker::Rule(rule) => format!("rule {rule:?} to take it"),
        _ => "no rule to take it".to_owned(),
    };
    Problem { place: expect.place.clone(), key: "expect".to_owned(), found, expected, hint }
}

/// ` (FILE:LINE)`, where it is known.
fn at(place: &Place) -> String {
    match place.line {
        0 => String::new(),
        line => format!(" ({}:{line})", place.file),
    }
}

/// What a rule lacks, in words.
pub fn why(mismatch: Mismatch) -> &'static str {
    match mismatch {
        Mismatch::Listener => "it does not serve this listener",
        Mismatch::Host => "none of its `host` patterns fits",
        Mismatch::Path => "none of its `path` patterns fits",
        Mismatch::PathRegex => "no expression of its `path_regex` fits",
        Mismatch::Method => "the method is not one of its `method`",
        Mismatch::Header => "a field of its `header` is missing or has another value",
        Mismatch::Query => "a key of its `query` is missing or has another value",
        Mismatch::Cookie => "a cookie of its `cookie` is missing or has another value",
        Mismatch::Source => "the client's address is in none of its `source` ranges",
    }
}

#[cfg(test)]
mod tests;
