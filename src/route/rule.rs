//! One compiled rule: its predicates, where it stands in the order, and the check that both the index and a walk
//! over all rules use, so that the two cannot disagree about what a condition means.

use super::glob::{Case, Glob};
use super::{CompileError, ListenerId, Mismatch, RuleId, RuleSpec};
use crate::http::fields::RequestView;
use ipnet::{IpNet, Ipv4Net};
use regex::bytes::Regex;
use std::cmp::Reverse;
use std::net::IpAddr;

/// A rule as it is run.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    priority: Option<u32>,
    /// Sorted; empty for all.
    pub(super) listeners: Box<[ListenerId]>,
    pub(super) hosts: Box<[Glob]>,
    pub(super) paths: Box<[Glob]>,
    pub(super) regexes: Box<[Regex]>,
    pub(super) methods: Box<[Box<[u8]>]>,
    pub(super) headers: Box<[Named]>,
    pub(super) queries: Box<[Named]>,
    pub(super) cookies: Box<[Named]>,
    /// Ranges inside `::ffff:0:0/96` stand here as IPv4.
    pub(super) sources: Box<[IpNet]>,
    /// Something besides listener, host and path.
    pub(super) more: bool,
}

/// A condition on something that has a name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) name: Box<str>,
    /// The name as what it is compared with; `*` for any query key.
    pub(super) key: Glob,
    /// At least one.
    pub(super) values: Box<[Glob]>,
}

/// Where a rule stands: sorting by it gives the evaluation order.
pub(super) type Standing = (u64, HostStanding, PathStanding, Reverse<usize>, RuleId);
type HostStanding = (u8, Reverse<usize>);
type PathStanding = (u8, Reverse<usize>, Reverse<usize>);

impl Rule {
    pub(super) fn compile(id: RuleId, spec: &RuleSpec) -> Result<Rule, CompileError> {
        let regex = |value: &String| {
            Regex::new(value).map_err(|error| {
                // The parser's answer draws the expression with a marker over several lines; the last says why.
                let problem = error.to_string();
                let problem = problem.lines().last().unwrap_or_default();
                let problem = problem.trim_start_matches("error: ").to_owned();
                CompileError::Regex { rule: id, value: value.clone(), problem }
            })
        };
        let mut listeners = spec.listeners.clone();
        listeners.sort_unstable();
        listeners.dedup();
        let mut rule = Rule {
            id,
            priority: spec.priority,
            listeners: listeners.into(),
            hosts: globs(&spec.host, Case::Fold),
            paths: globs(&spec.path, Case::Exact),
            regexes: spec.path_regex.iter().map(regex).collect::<Result<_, _>>()?,
            methods: spec.method.iter().map(|m| m.as_bytes().into()).collect(),
            headers: named(&spec.header, Case::Fold),
            queries: named(&spec.query, Case::Fold),
            cookies: named(&spec.cookie, Case::Exact),
            sources: spec.source.iter().map(|net| canonical(*net)).collect(),
            more: false,
        };
        rule.more = rule.conditions()
            > usize::from(!rule.hosts.is_empty()) + usize::from(!rule.paths.is_empty());
        Ok(rule)
    }

    /// The key of the evaluation order that the module's documentation describes.
    pub(super) fn standing(&self) -> Standing {
        if let Some(priority) = self.priority {
            let none = ((0, Reverse(0)), (0, Reverse(0), Reverse(0)), Reverse(0));
            return (u64::from(priority), none.0, none.1, none.2, self.id);
        }
        let host = self.hosts.iter().map(host_standing).max().unwrap_or((2, Reverse(0)));
        let regex = if self.regexes.is_empty() { 3 } else { 2 };
        let path = self.paths.iter().map(path_standing).max().unwrap_or(NO_PATH);
        let path = path.min((regex, Reverse(0), Reverse(0)));
        (u64::MAX, host, path, Reverse(self.conditions()), self.id)
    }

    /// Every condition, one after the other.
    pub(super) fn check(
        &self,
        listener: ListenerId,
        view: &RequestView<'_>,
    ) -> Result<(), Mismatch> {
        if !self.listeners.is_empty() && self.listeners.binary_search(&listener).is_err() {
            return Err(Mismatch::Listener);
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|g| g.matches(view.host)) {
            return Err(Mismatch::Host);
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|g| g.matches(view.path)) {
            return Err(Mismatch::Path);
        }
        self.check_more(view)
    }

    /// Every condition but listener, host and path patterns; the cheap ones first.
    pub(super) fn check_more(&self, view: &RequestView<'_>) -> Result<(), Mismatch> {
        if !self.methods.is_empty() && !self.methods.iter().any(|m| **m == *view.method) {
            return Err(Mismatch::Method);
        }
        if !self.sources.is_empty() {
            let peer = view.peer.to_canonical();
            if !self.sources.iter().any(|net| net.contains(&peer)) {
                return Err(Mismatch::Source);
            }
        }
        if !self.headers.iter().all(|c| view.fields.all(&c.name).any(|value| c.takes(value))) {
            return Err(Mismatch::Header);
        }
        let cookie = |c: &Named| {
            view.fields.cookies().any(|(name, value)| name == c.name.as_bytes() && c.takes(value))
        };
        if !self.cookies.iter().all(cookie) {
            return Err(Mismatch::Cookie);
        }
        let query = |c: &Named| {
            view.query_pairs().any(|(key, value)| {
                c.key.matches_decoded(key) && c.values.iter().any(|g| g.matches_decoded(value))
            })
        };
        if !self.queries.iter().all(query) {
            return Err(Mismatch::Query);
        }
        if !self.regexes.is_empty() && !self.regexes.iter().any(|r| r.is_match(view.path)) {
            return Err(Mismatch::PathRegex);
        }
        Ok(())
    }

    fn conditions(&self) -> usize {
        let given = [
            !self.hosts.is_empty(),
            !self.paths.is_empty(),
            !self.regexes.is_empty(),
            !self.methods.is_empty(),
            !self.sources.is_empty(),
        ];
        let given = given.into_iter().filter(|given| *given).count();
        given + self.headers.len() + self.queries.len() + self.cookies.len()
    }
}

impl Named {
    fn takes(&self, value: &[u8]) -> bool {
        self.values.iter().any(|g| g.matches(value))
    }
}

/// The octets with which every path begins that `regex` matches. Only what is plain to see: `^`, then letters, digits,
/// `/`, `-` and `_`, in an expression without alternatives.
pub(super) fn literal_prefix(regex: &str) -> &str {
    let Some(rest) = regex.strip_prefix('^') else { return "" };
    if rest.contains('|') {
        return "";
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
    let (prefix, rest) = rest.split_at(end);
    // What follows may make the last octet optional; all of these octets are one char each.
    match rest.chars().next() {
        Some('*' | '?' | '{') => prefix.get(..end.saturating_sub(1)).unwrap_or_default(),
        _ => prefix,
    }
}

const NO_PATH: PathStanding = (3, Reverse(0), Reverse(0));

fn host_standing(glob: &Glob) -> HostStanding {
    match glob {
        g if g.is_any() => (2, Reverse(0)),
        g if g.is_literal() => (0, Reverse(0)),
        g => (1, Reverse(g.literals())),
    }
}

fn path_standing(glob: &Glob) -> PathStanding {
    match glob {
        g if g.is_any() || g.pattern() == b"/*" => NO_PATH,
        g if g.is_literal() => (0, Reverse(0), Reverse(0)),
        g => (1, Reverse(g.prefix().len()), Reverse(g.literals())),
    }
}

fn globs(texts: &[String], case: Case) -> Box<[Glob]> {
    let mut globs: Vec<Glob> = texts.iter().map(|text| Glob::new(text, case)).collect();
    globs.sort_by(|a, b| a.pattern().cmp(b.pattern()));
    globs.dedup();
    globs.into()
}

fn named(conditions: &[(String, Vec<String>)], case: Case) -> Box<[Named]> {
    let one = |(name, values): &(String, Vec<String>)| Named {
        name: name.as_str().into(),
        key: match name.as_str() {
            "*" => Glob::new(name, case),
            _ => Glob::literal(name, case),
        },
        values: match values.as_slice() {
            [] => [Glob::new("*", case)].into(),
            values => globs(values, case),
        },
    };
    conditions.iter().map(one).collect()
}

fn canonical(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let Some(bits) = v6.prefix_len().checked_sub(96)
        && let IpAddr::V4(address) = IpAddr::V6(v6.addr()).to_canonical()
        && let Ok(v4) = Ipv4Net::new(address, bits)
    {
        return IpNet::V4(v4);
    }
    net
}
