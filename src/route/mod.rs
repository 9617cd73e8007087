//! Which rule takes a request: rules compiled once into an index, asked once a request without allocation.
//!
//! All conditions that a rule gives must hold; of several values of one condition one is enough. `*` stands for
//! any run of octets and `?` for any one. Called by `snapshot` (compile, hidden rules) and `proxy` (find).
//! What is done with the request afterwards is not known here.
//!
//! # The order of rules
//!
//! 1. Rules with a priority, lowest first; equal ones in the order of the file.
//! 2. Then rules without one, the most specific first:
//!    by host (exact, then wildcards with more literal octets, then none),
//!    then by path (exact, then wildcards with the longer literal prefix, then with more literal octets, then
//!    a regular expression, then none), then by the number of conditions (more first), then in the order of the file.
//!
//! A rule is as specific as the *least* specific of its values: `["/api", "/api/*"]` stands where `/api/*` does, so
//! that it does not hide `/api/special`. Patterns that everything matches (`*`, and `/*` for paths) count as none.
//!
//! # What is matched
//!
//! * host: case-insensitive; `*.example.com` does not match `example.com`
//! * path: case-sensitive, without the query; `/v1/*` does not match `/v1`
//! * method: exact
//! * header: name and value case-insensitive; of several field lines any may match
//! * query: key and value percent-decoded, case-insensitive, `+` is no space; the key `*` is any key
//! * cookie: name and value case-sensitive
//! * source: the peer's address, an IPv4-mapped IPv6 address counting as IPv4

mod glob;
mod hidden;
mod index;
mod rule;
#[cfg(test)]
mod tests;
mod trie;

pub use glob::Pattern;

use crate::http::fields::RequestView;
use index::Index;
use ipnet::IpNet;
use rule::Rule;
use std::collections::BTreeMap;
use std::fmt;

/// A listener, by whatever small number the caller gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u32);

/// A rule: its index in the slice that was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// One rule as it is to be compiled. Every list that is empty is a condition that is not given.
#[derive(Clone, Debug, Default)]
pub struct RuleSpec {
    /// Lowest first; rules without one come after.
    pub priority: Option<u32>,
    /// The listeners it serves; empty for all.
    pub listeners: Vec<ListenerId>,
    /// Host patterns.
    pub host: Vec<String>,
    /// Path patterns.
    pub path: Vec<String>,
    /// Regular expressions over the path, unanchored; they must hold beside `path` where both are given.
    pub path_regex: Vec<String>,
    /// Methods.
    pub method: Vec<String>,
    /// Field name to value patterns; no pattern means any value. Every name must hold.
    pub header: Vec<(String, Vec<String>)>,
    /// Query key to value patterns; no pattern means any value. Every key must hold.
    pub query: Vec<(String, Vec<String>)>,
    /// Cookie name to value patterns; no pattern means any value. Every name must hold.
    pub cookie: Vec<(String, Vec<String>)>,
    /// Ranges of the peer's address.
    pub source: Vec<IpNet>,
}

/// Why rules cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// An expression of `path_regex` is not one, or too large.
    Regex {
        /// The rule that holds it.
        rule: RuleId,
        /// The expression as written.
        value: String,
        /// What the parser says, on one line.
        problem: String,
    },
    /// More rules or patterns than 32 bits count.
    TooMany,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::Regex { value, problem, .. } => {
                write!(f, "`{value}` is not a regular expression: {problem}")
            }
            CompileError::TooMany => f.write_str("too many rules"),
        }
    }
}

impl std::error::Error for CompileError {}

/// The first condition of a rule that a request does not meet, for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The rule does not serve the listener.
    Listener,
    /// No host pattern matches.
    Host,
    /// No path pattern matches.
    Path,
    /// No regular expression matches the path.
    PathRegex,
    /// Not one of the methods.
    Method,
    /// A field is missing or none of its lines matches.
    Header,
    /// A query key is missing or its values do not match.
    Query,
    /// A cookie is missing or its value does not match.
    Cookie,
    /// The peer is in none of the ranges.
    Source,
}

/// Rules, compiled. Built once for a snapshot and then only read.
#[derive(Debug)]
pub struct Table {
    /// In evaluation order: a rule's rank is its index here.
    rules: Vec<Rule>,
    order: Vec<RuleId>,
    /// Rules that serve every listener.
    shared: Index,
    /// Rules that name listeners, for each of these; sorted.
    named: Vec<(ListenerId, Index)>,
}

impl Table {
    /// Compiles rules, given in the order of the file.
    ///
    /// # Errors
    /// The first rule whose expression cannot be compiled.
    pub fn compile(specs: &[RuleSpec]) -> Result<Table, CompileError> {
        let mut rules = Vec::with_capacity(specs.len());
        for (id, spec) in specs.iter().enumerate() {
            let id = RuleId(u32::try_from(id).map_err(|_| CompileError::TooMany)?);
            rules.push(Rule::compile(id, spec)?);
        }
        rules.sort_by_cached_key(Rule::standing);
        let order = rules.iter().map(|r| r.id).collect();

        let mut shared = Vec::new();
        let mut named: BTreeMap<ListenerId, Vec<(u32, &Rule)>> = BTreeMap::new();
        for (rank, rule) in (0u32..).zip(&rules) {
            if rule.listeners.is_empty() {
                shared.push((rank, rule));
            }
            for listener in &rule.listeners {
                named.entry(*listener).or_default().push((rank, rule));
            }
        }
        let shared = Index::build(&shared)?;
        let named = named
            .into_iter()
            .map(|(listener, list)| Ok((listener, Index::build(&list)?)))
            .collect::<Result<_, CompileError>>()?;
        Ok(Table { rules, order, shared, named })
    }

    /// The first rule, in evaluation order, whose conditions all hold. Allocates nothing, except what a regular
    /// expression keeps for itself the first time that a thread uses it.
    pub fn find(&self, listener: ListenerId, view: &RequestView<'_>) -> Option<RuleId> {
        let mut best = u32::MAX;
        if let Some(index) = self.named(listener) {
            index.find(&self.rules, view, &mut best);
        }
        self.shared.find(&self.rules, view, &mut best);
        self.order.get(best as usize).copied()
    }

    /// As [`Table::find`], of the rules that name the listener: those that name none are about requests.
    pub fn find_named(&self, listener: ListenerId, view: &RequestView<'_>) -> Option<RuleId> {
        let mut best = u32::MAX;
        self.named(listener)?.find(&self.rules, view, &mut best);
        self.order.get(best as usize).copied()
    }

    /// All rules in evaluation order.
    pub fn order(&self) -> &[RuleId] {
        &self.order
    }

    /// Checks one rule alone, without the index: what an explanation says of the rules before the one that was found.
    ///
    /// # Errors
    /// The first condition that does not hold. A rule that does not exist serves no listener.
    pub fn check(
        &self,
        rule: RuleId,
        listener: ListenerId,
        view: &RequestView<'_>,
    ) -> Result<(), Mismatch> {
        let rule = self.rules.iter().find(|r| r.id == rule).ok_or(Mismatch::Listener)?;
        rule.check(listener, view)
    }

    /// Rules that can never match, each with an earlier rule that takes all its requests. Never a false claim; a rule
    /// that only several others together hide, or one among many with the same host and path, may be missed.
    pub fn hidden(&self) -> Vec<(RuleId, RuleId)> {
        hidden::hidden(self)
    }

    fn named(&self, listener: ListenerId) -> Option<&Index> {
        let at = self.named.binary_search_by_key(&listener, |(id, _)| *id).ok()?;
        self.named.get(at).map(|(_, index)| index)
    }
}
