//! What a purge names: all, one URL, all URLs that begin alike, or all that share a tag.

use crate::cache::Origin;
use crate::http::path::PathPolicy;
use crate::store::Entry;

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// What is meant.
    pub target: Target,
    /// Of this rule only.
    pub rule: Option<String>,
    /// It is called stale, and not forgotten: it may still be given where stale responses are, and is validated first elsewhere.
    pub soft: bool,
}

/// What a purge names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything.
    All,
    /// Responses to requests for this URL.
    Url(Origin),
    /// Responses to requests for URLs that begin so: `scheme://host:port/path`.
    Prefix(Vec<u8>),
    /// Responses with this tag.
    Tag(Vec<u8>),
}

/// What a purge has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Responses that were forgotten.
    pub removed: u64,
    /// Responses that are called stale now.
    pub stale: u64,
}

impl Purge {
    pub(super) fn names(&self, entry: &Entry) -> bool {
        if self.rule.as_ref().is_some_and(|rule| **rule != *entry.rule) {
            return false;
        }
        match &self.target {
            Target::All => true,
            Target::Url(origin) => entry.key.is_of(origin),
            Target::Prefix(prefix) => entry.key.url().starts_with(prefix),
            Target::Tag(tag) => entry.stored.tags.iter().any(|one| **one == **tag),
        }
    }
}

impl Target {
    /// Reads a URL, as requests for it are read, whose paths are made canonical by `paths`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn url(text: &str, paths: PathPolicy) -> Result<Target, String> {
        parse(text, paths).map(Target::Url)
    }

    /// Reads how URLs begin: `https://a.example/dir/`, with a whole host, so that no purge reaches another one that begins alike
    /// (hazard CACHE-13).
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn prefix(text: &str, paths: PathPolicy) -> Result<Target, String> {
        let Origin { base, query } = parse(text, paths)?;
        Ok(Target::Prefix(match query {
            Some(query) => [base.as_slice(), b"?", &query].concat(),
            None => base,
        }))
    }
}

fn parse(text: &str, paths: PathPolicy) -> Result<Origin, String> {
    let wanted = "an absolute URL is wanted, as https://a.example/path";
    Origin::parse(text.as_bytes(), paths)
        .ok_or_else(|| format!("{text:?} names no resource: {wanted}"))
}
