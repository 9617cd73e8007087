//! The index of one listener's rules: host patterns by their longer literal end, and below each of them the paths by
//! their literal prefix.
//!
//! It finds candidates; whether one holds is decided by the patterns and by [`Rule::check_more`]. Built by `Table`.

use super::CompileError;
use super::glob::Glob;
use super::rule::{Rule, literal_prefix};
use super::trie::{End, Forest, Key, Root, TooMany};
use crate::http::fields::RequestView;
use std::collections::BTreeMap;

/// Rules by host, then by path.
#[derive(Debug)]
pub(super) struct Index {
    /// Exact hosts, and wildcards with more literal octets after the last wildcard than before the first.
    pub(super) by_suffix: (Forest<HostItem>, Root),
    /// The other wildcards.
    pub(super) by_prefix: (Forest<HostItem>, Root),
    pub(super) paths: Forest<PathItem>,
    /// The paths of rules for any host.
    pub(super) any_host: Root,
}

/// A host pattern.
#[derive(Debug)]
pub(super) struct HostItem {
    pub(super) paths: Root,
    /// The pattern, where its place in the trie does not settle that it matches.
    pub(super) glob: Option<Glob>,
}

/// One of a rule's paths below one of its hosts.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathItem {
    /// The path pattern that must still be checked, by its index in the rule.
    glob: Option<u32>,
    /// Whether the rule has further conditions.
    more: bool,
}

impl Index {
    /// Builds the index of rules, given with their ranks.
    pub(super) fn build(rules: &[(u32, &Rule)]) -> Result<Index, CompileError> {
        Index::plant(rules).map_err(|TooMany| CompileError::TooMany)
    }

    /// Lowers `best` to the rank of the first rule that takes the request, if it is less.
    #[inline]
    pub(super) fn find(&self, rules: &[Rule], view: &RequestView<'_>, best: &mut u32) {
        let under = |root: Root, best: &mut u32| {
            self.paths.search(root, view.path, best, |item, rank, best| {
                if item.holds(rules, rank, view) {
                    *best = rank;
                }
            });
        };
        for (forest, root) in [&self.by_suffix, &self.by_prefix] {
            forest.search(*root, view.host, best, |item, _, best| {
                if item.glob.as_ref().is_none_or(|glob| glob.matches(view.host)) {
                    under(item.paths, best);
                }
            });
        }
        under(self.any_host, best);
    }

    /// Hands the rank of every rule to `take` that might cover one with this host and path pattern: wildcards in either
    /// are read as octets, which no literal octet of a wider pattern equals. Ranks come in no order, some twice.
    pub(super) fn wider(
        &self,
        host: &[u8],
        path: &[u8],
        best: &mut u32,
        mut take: impl FnMut(u32, &mut u32),
    ) {
        for (forest, root) in [&self.by_suffix, &self.by_prefix] {
            forest.search(*root, host, best, |item, _, best| {
                self.paths.search(item.paths, path, best, |_, rank, best| take(rank, best));
            });
        }
        self.paths.search(self.any_host, path, best, |_, rank, best| take(rank, best));
    }

    fn plant(rules: &[(u32, &Rule)]) -> Result<Index, TooMany> {
        let mut any_host = Vec::new();
        let mut hosts: BTreeMap<&[u8], (&Glob, Vec<Key<'_, PathItem>>)> = BTreeMap::new();
        for (rank, rule) in rules {
            let keys = path_keys(*rank, rule);
            if rule.hosts.is_empty() || rule.hosts.iter().any(Glob::is_any) {
                any_host.extend(keys);
                continue;
            }
            for glob in &rule.hosts {
                let (_, list) = hosts.entry(glob.pattern()).or_insert((glob, Vec::new()));
                list.extend_from_slice(&keys);
            }
        }
        let mut paths = Forest::new(End::Front);
        let any_host = paths.plant(any_host)?;
        let (mut suffixes, mut prefixes) = (Vec::new(), Vec::new());
        for (glob, keys) in hosts.into_values() {
            let root = paths.plant(keys)?;
            let (suffix, prefix) = (glob.suffix(), glob.prefix());
            let back = suffix.len() >= prefix.len();
            let settled = if back { glob.settled_by_suffix() } else { glob.settled_by_prefix() };
            let key = Key {
                text: if back { suffix } else { prefix },
                open: !glob.is_literal(),
                rank: paths.best(root),
                value: HostItem { paths: root, glob: (!settled).then(|| glob.clone()) },
            };
            if back { suffixes.push(key) } else { prefixes.push(key) }
        }
        let (mut by_suffix, mut by_prefix) = (Forest::new(End::Back), Forest::new(End::Front));
        let (suffix_root, prefix_root) = (by_suffix.plant(suffixes)?, by_prefix.plant(prefixes)?);
        Ok(Index {
            by_suffix: (by_suffix, suffix_root),
            by_prefix: (by_prefix, prefix_root),
            paths,
            any_host,
        })
    }
}

impl PathItem {
    #[inline]
    fn holds(self, rules: &[Rule], rank: u32, view: &RequestView<'_>) -> bool {
        if self.glob.is_none() && !self.more {
            return true;
        }
        let Some(rule) = rules.get(rank as usize) else { return false };
        let glob = self.glob.and_then(|at| rule.paths.get(at as usize));
        glob.is_none_or(|glob| glob.matches(view.path))
            && (!self.more || rule.check_more(view).is_ok())
    }
}

/// The keys under which a rule's paths stand: patterns, or what is known of its expressions, or the empty prefix.
fn path_keys<'r>(rank: u32, rule: &'r Rule) -> Vec<Key<'r, PathItem>> {
    let key =
        |text, open, glob| Key { text, open, rank, value: PathItem { glob, more: rule.more } };
    if !rule.paths.is_empty() && !rule.paths.iter().any(Glob::is_any) {
        let pattern = |(at, glob): (u32, &'r Glob)| {
            key(glob.prefix(), !glob.is_literal(), (!glob.settled_by_prefix()).then_some(at))
        };
        return (0u32..).zip(&rule.paths).map(pattern).collect();
    }
    if rule.regexes.is_empty() {
        return vec![key(b"", true, None)];
    }
    let prefixes = rule.regexes.iter().map(|r| literal_prefix(r.as_str()).as_bytes());
    prefixes.map(|prefix| key(prefix, true, None)).collect()
}
