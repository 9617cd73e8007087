//! Rules that can never match: those whose requests an earlier rule all takes.
//!
//! The classic case is `/*` with a lower priority number than `/api/*`. The claim is always true; it is not made when
//! only several rules together hide one, nor after [`TRIES`] candidates for one rule. Run by `check` and on reload,
//! never for a request.

use super::glob::Glob;
use super::rule::{Named, Rule, literal_prefix};
use super::{RuleId, Table};

/// How many earlier rules with a wider host and path are compared with one rule.
const TRIES: u32 = 512;

/// Each hidden rule with the first one, in evaluation order, that hides it.
pub(super) fn hidden(table: &Table) -> Vec<(RuleId, RuleId)> {
    let mut found = Vec::new();
    for (rank, rule) in (0u32..).zip(&table.rules) {
        let by = first_cover(table, rank, rule).and_then(|by| table.rules.get(by as usize));
        if let Some(by) = by {
            found.push((rule.id, by.id));
        }
    }
    found
}

fn first_cover(table: &Table, rank: u32, rule: &Rule) -> Option<u32> {
    // A rule that covers this one covers its first host, its first path and its first listener.
    let host = rule.hosts.first().map(Glob::pattern).unwrap_or_default();
    let path = paths(rule);
    let path = path.first().map(Glob::pattern).unwrap_or_default();
    let named = rule.listeners.first().and_then(|listener| table.named(*listener));

    let mut best = rank;
    let mut left = TRIES;
    for index in named.into_iter().chain([&table.shared]) {
        index.wider(host, path, &mut best, |candidate, best| {
            left = left.saturating_sub(1);
            let wider = table.rules.get(candidate as usize).filter(|_| left > 0);
            if wider.is_some_and(|wider| covers(wider, rule)) {
                *best = candidate;
            }
        });
    }
    (best < rank).then_some(best)
}

/// Whether every request that `rule` takes fulfils the conditions of `wider` too.
fn covers(wider: &Rule, rule: &Rule) -> bool {
    let listeners = wider.listeners.is_empty()
        || !rule.listeners.is_empty()
            && rule.listeners.iter().all(|l| wider.listeners.binary_search(l).is_ok());
    let same_regex = |regex: &regex::bytes::Regex| {
        wider.regexes.iter().any(|other| other.as_str() == regex.as_str())
    };
    let in_range = |net: &ipnet::IpNet| wider.sources.iter().any(|other| other.contains(net));
    listeners
        && (wider.hosts.is_empty() || globs_cover(&wider.hosts, &rule.hosts))
        && (wider.paths.is_empty() || globs_cover(&wider.paths, &paths(rule)))
        && within(&wider.methods, &rule.methods, |m| wider.methods.contains(m))
        && within(&wider.sources, &rule.sources, in_range)
        && within(&wider.regexes, &rule.regexes, same_regex)
        && named_cover(&wider.headers, &rule.headers, |a, b| a.name.eq_ignore_ascii_case(&b.name))
        && named_cover(&wider.cookies, &rule.cookies, |a, b| a.name == b.name)
        && named_cover(&wider.queries, &rule.queries, |a, b| a.key.is_any() || a.key == b.key)
}

/// No condition covers any; otherwise each of the narrower values must lie inside.
fn within<T>(wider: &[T], narrower: &[T], inside: impl FnMut(&T) -> bool) -> bool {
    wider.is_empty() || !narrower.is_empty() && narrower.iter().all(inside)
}

fn globs_cover(wider: &[Glob], narrower: &[Glob]) -> bool {
    let inside = |glob: &Glob| wider.iter().any(|w| w.covers(glob));
    match narrower {
        [] => wider.iter().any(Glob::is_any),
        list => list.iter().all(inside),
    }
}

/// Each condition of the wider rule follows from one of the narrower rule on the same name.
fn named_cover(wider: &[Named], narrower: &[Named], same: impl Fn(&Named, &Named) -> bool) -> bool {
    wider.iter().all(|w| narrower.iter().any(|n| same(w, n) && globs_cover(&w.values, &n.values)))
}

/// The rule's path patterns, or what its expressions imply, or nothing.
fn paths(rule: &Rule) -> std::borrow::Cow<'_, [Glob]> {
    if !rule.paths.is_empty() || rule.regexes.is_empty() {
        return (&*rule.paths).into();
    }
    let implied = rule
        .regexes
        .iter()
        .map(|r| Glob::new(&format!("{}*", literal_prefix(r.as_str())), super::glob::Case::Exact));
    implied.collect::<Vec<_>>().into()
}
