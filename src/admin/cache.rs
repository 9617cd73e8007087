//! Stored responses as the admin listener shows them, and purges of them.
//!
//! A purge changes something: it is asked for with POST and a JSON body that says so in its type, which no page in a browser can
//! send elsewhere without being allowed to, and nobody allows it here (hazard CACHE-13). Called by `serve` and `metrics`.

use crate::admin::metrics::{Labels, family};
use crate::cache::meters::Totals;
use crate::http::path::PathPolicy;
use crate::store::{Purge, Purged, Stat, Target};
use axum::http::{HeaderMap, header};
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stored responses.
#[derive(Clone, Debug, Default)]
pub struct CacheStat {
    /// The store.
    pub store: Stat,
    /// What became of the requests of each rule that stores, by its name.
    pub rules: Vec<(String, Totals)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    url: Option<String>,
    prefix: Option<String>,
    tag: Option<String>,
    all: Option<bool>,
    rule: Option<String>,
    #[serde(default)]
    soft: bool,
}

#[derive(Serialize)]
struct Page<'a> {
    size: u64,
    octets: u64,
    filling: u64,
    entries: u64,
    stores: u64,
    evictions: u64,
    expired: u64,
    purged: u64,
    invalidated: u64,
    refused: u64,
    rules: Vec<RuleView<'a>>,
}

#[derive(Serialize)]
struct RuleView<'a> {
    name: &'a str,
    hits: u64,
    stale: u64,
    revalidated: u64,
    misses: u64,
    bypasses: u64,
    stores: u64,
    waits: u64,
    stale_if_error: u64,
}

/// The page at `/cache`.
pub fn page(stat: &CacheStat) -> String {
    let s = &stat.store;
    let rules = stat.rules.iter().map(|(name, t)| RuleView {
        name,
        hits: t.hits,
        stale: t.stale,
        revalidated: t.revalidated,
        misses: t.misses,
        bypasses: t.bypasses,
        stores: t.stores,
        waits: t.waits,
        stale_if_error: t.saved,
    });
    written(&Page {
        size: s.capacity,
        octets: s.octets,
        filling: s.filling,
        entries: s.entries,
        stores: s.stores,
        evictions: s.evictions,
        expired: s.expired,
        purged: s.purged,
        invalidated: s.invalidated,
        refused: s.refused,
        rules: rules.collect(),
    })
}

/// Reads what `POST /cache/purge` asks for; paths of URLs are read as requests' are.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn purge(headers: &HeaderMap, body: &[u8], paths: PathPolicy) -> Result<Purge, String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(format!("content-type is {kind:?}; application/json is wanted"));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|e| format!("the body: {e}"))?;
    let mut targets = Vec::new();
    if let Some(url) = &asked.url {
        targets.push(Target::url(url, paths)?);
    }
    if let Some(prefix) = &asked.prefix {
        targets.push(Target::prefix(prefix, paths)?);
    }
    if let Some(tag) = asked.tag.filter(|tag| !tag.is_empty()) {
        targets.push(Target::Tag(tag.into_bytes()));
    }
    if asked.all == Some(true) {
        targets.push(Target::All);
    }
    let (1, Some(target)) = (targets.len(), targets.pop()) else {
        return Err("exactly one of url, prefix, tag and all = true is wanted".to_owned());
    };
    Ok(Purge { target, rule: asked.rule, soft: asked.soft })
}

/// What is said of a purge that was done.
pub fn purged(done: Purged) -> String {
    written(&serde_json::json!({ "removed": done.removed, "stale": done.stale }))
}

fn written(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// Writes the families; nothing where no rule stores.
pub(super) fn families(s: &CacheStat, encoder: &mut DescriptorEncoder) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    if s.rules.is_empty() {
        return Ok(());
    }
    let kinds = |t: &Totals| {
        [
            ("hit", t.hits),
            ("stale", t.stale),
            ("stale_if_error", t.saved),
            ("revalidated", t.revalidated),
            ("miss", t.misses),
            ("bypass", t.bypasses),
        ]
    };
    let requests = s.rules.iter().flat_map(|(name, totals)| {
        let labels = move |kind| vec![("rule", name.as_str()), ("result", kind)];
        kinds(totals).map(|(kind, count)| (labels(kind), count))
    });
    let help = "Requests of rules that store responses, by what became of them.";
    family(encoder, Counter, "cache_requests", help, requests)?;
    let by_rule = |of: fn(&Totals) -> u64| {
        s.rules.iter().map(move |(name, totals)| (vec![("rule", name.as_str())], of(totals)))
    };
    let help = "Responses that were stored, or renewed.";
    family(encoder, Counter, "cache_stores", help, by_rule(|t| t.stores))?;
    let help = "Times that a request has waited for another one that fetched the same.";
    family(encoder, Counter, "cache_waits", help, by_rule(|t| t.waits))?;
    let one = |value: u64| [(Labels::new(), value)];
    let of = &s.store;
    let help = "Octets that stored responses may take.";
    family(encoder, Gauge, "cache_size_bytes", help, one(of.capacity))?;
    let help = "Octets that stored responses take: heads, bodies, keys, and what they cost beside.";
    family(encoder, Gauge, "cache_bytes", help, one(of.octets))?;
    let help = "Responses that are stored.";
    family(encoder, Gauge, "cache_entries", help, one(of.entries))?;
    let removed = [
        ("evicted", of.evictions),
        ("expired", of.expired),
        ("purged", of.purged),
        ("invalidated", of.invalidated),
    ];
    let removed = removed.map(|(why, count)| (vec![("reason", why)], count));
    let help = "Responses that are stored no more, or purged softly, by reason.";
    family(encoder, Counter, "cache_removed", help, removed)?;
    let help = "Responses that could not be stored: no room, or purged while they came.";
    family(encoder, Counter, "cache_refused", help, one(of.refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_says_what_it_means() {
        let json = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            "application/json; charset=utf-8".parse().unwrap(),
        )]);
        let read = |body: &str| purge(&json, body.as_bytes(), PathPolicy::default());
        let tag = read(r#"{"tag": "a", "soft": true, "rule": "r"}"#).unwrap();
        let target = Target::Tag(b"a".to_vec());
        assert_eq!(tag, Purge { target, rule: Some("r".to_owned()), soft: true });
        assert_eq!(read(r#"{"all": true}"#).unwrap().target, Target::All);
        let prefix = read(r#"{"prefix": "https://A.test/x"}"#).unwrap().target;
        assert_eq!(prefix, Target::Prefix(b"https://a.test:443/x".to_vec()));
        let whole = read(r#"{"prefix": "http://a.test"}"#).unwrap().target;
        assert_eq!(whole, Target::Prefix(b"http://a.test:80/".to_vec()), "no other host begins so");
        for bad in [
            "",
            "{}",
            r#"{"all": false}"#,
            r#"{"tag": ""}"#,
            r#"{"tag": "a", "all": true}"#,
            r#"{"url": "/x"}"#,
            r#"{"prefix": "https://"}"#,
            r#"{"prefix": "ftp://a/"}"#,
            r#"{"urls": "https://a/"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(
            purge(&HeaderMap::new(), br#"{"all": true}"#, PathPolicy::default()).is_err(),
            "a form could be sent from anywhere"
        );
    }
}
