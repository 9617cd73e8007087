//! How a group chooses among its targets: `algorithm` and `hash`, and beside them `slow_start`, `zones` and `tier`.
//!
//! What it means is `balance`'s. Called by the readers of groups and targets; [`check`] and [`doubts`] when all is read.

use crate::balance::{Bound, Settings, Zones};
use crate::config::item::{Item, Table};
use crate::config::keys::{HASH, Keys};
use crate::config::problem::Wrong;
use crate::config::{Config, Group, Problem, Target, syntax};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("group.*.zones", ZONES)];

const ZONES: Keys = &["use", "enough"];
const ZONES_KIND: &str = "\"off\", \"prefer\", \"only\" or { use = \"prefer\", enough = \"70%\" }";
const ENOUGH_KIND: &str = "a share from \"1%\" to \"100%\"";
/// What Envoy's overprovisioning factor of 1.4 comes to.
const ENOUGH: u32 = 70;
const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const BOUND: RangeInclusive<u64> = Bound::LEAST as u64..=Bound::MOST as u64;
const HASH_KIND: &str = "hash = { header = NAME }, { cookie = NAME } or { query = NAME } beside it";

/// `algorithm` (with `hash = { ... }`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Smooth weighted round robin, round across all workers.
    RoundRobin,
    /// The target with the fewest requests in flight for its weight.
    LeastRequests,
    /// The target that is expected to answer first, for its weight.
    LeastTime,
    /// Weighted random.
    Random,
    /// The better of two random ones, by requests in flight for the weight.
    PowerOfTwo,
    /// Consistent, by the client's address.
    IpHash,
    /// Consistent, by a part of the request; random when the request lacks it.
    Hash(HashKey),
    /// Consistent by a lookup table: by a part of the request, or by the client's address.
    Maglev(Option<HashKey>),
}

/// `hash = { header | cookie | query = NAME }`: the part of a request that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A field of the request head.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A query field.
    Query(String),
}

/// `slow_start` and `zones` of a group; its bound stands with its hash.
pub(super) fn settings(table: &Table<'_>) -> Settings {
    let slow_start = table.item("slow_start").and_then(|item| item.duration(SLOW_START));
    let zones = table.item("zones").and_then(|item| zones(&item));
    Settings {
        bound: None,
        slow_start: slow_start.filter(|slow| !slow.is_zero()),
        zones: zones.unwrap_or_default(),
    }
}

/// `tier` of a target.
pub(in crate::config) fn tier(table: &Table<'_>) -> u8 {
    let tier = table.item("tier").and_then(|item| item.integer(0..=9));
    tier.and_then(|tier| u8::try_from(tier).ok()).unwrap_or_default()
}

fn zones(item: &Item<'_>) -> Option<Zones> {
    let words =
        [("off", Zones::Off), ("prefer", Zones::Prefer { enough: ENOUGH }), ("only", Zones::Only)];
    if !item.is_table() {
        if item.peek_text().is_none() {
            item.wrong(ZONES_KIND);
            return None;
        }
        return item.choice(&words);
    }
    let table = item.table(ZONES)?;
    let zones = table.need("use", ZONES_KIND)?.choice(&words)?;
    let Some(item) = table.item("enough") else { return Some(zones) };
    let enough = item.parsed(ENOUGH_KIND, |text| {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        number.filter(|number| (1..=100).contains(number)).ok_or_else(Wrong::default)
    })?;
    if !matches!(zones, Zones::Prefer { .. }) {
        let hint = Some("use = \"prefer\"".to_owned());
        item.problem("a share for another use", "enough only with use = \"prefer\"", hint);
        return Some(zones);
    }
    Some(Zones::Prefer { enough })
}

/// `algorithm` and `hash` of a group.
pub(in crate::config) fn algorithm(table: &Table<'_>) -> (Algorithm, Option<Bound>) {
    let unknown_key = || Algorithm::Hash(HashKey::Header(String::new()));
    let words = [
        ("round_robin", Algorithm::RoundRobin),
        ("least_requests", Algorithm::LeastRequests),
        ("least_time", Algorithm::LeastTime),
        ("random", Algorithm::Random),
        ("p2c", Algorithm::PowerOfTwo),
        ("ip_hash", Algorithm::IpHash),
        ("hash", unknown_key()),
        ("maglev", Algorithm::Maglev(None)),
    ];
    let item = table.item("algorithm");
    let chosen = item.as_ref().map_or(Some(Algorithm::RoundRobin), |item| item.choice(&words));
    let key = table.item("hash");
    let Some(key) = key else {
        if let (Some(Algorithm::Hash(_)), Some(item)) = (&chosen, item) {
            item.problem("\"hash\" without a key", HASH_KIND, None);
        }
        return (chosen.unwrap_or(Algorithm::RoundRobin), None);
    };
    let (source, bound) = hash(&key, chosen.as_ref());
    match (chosen, source) {
        (Some(Algorithm::Hash(_)), Some(source)) => (Algorithm::Hash(source), bound),
        (Some(Algorithm::Maglev(_)), source) => (Algorithm::Maglev(source), bound),
        (Some(Algorithm::IpHash), Some(_)) => {
            let hint = Some("algorithm = \"hash\"".to_owned());
            let expected = "hash = { bound = NUMBER } with algorithm = \"ip_hash\"";
            key.problem("a key where the client's address is it", expected, hint);
            (Algorithm::IpHash, bound)
        }
        (Some(chosen @ (Algorithm::Hash(_) | Algorithm::IpHash)), None) => (chosen, bound),
        (Some(chosen), _) => {
            let hint = Some("algorithm = \"hash\"".to_owned());
            let expected = "hash only with algorithm = \"hash\", \"ip_hash\" or \"maglev\"";
            key.problem("a key for another algorithm", expected, hint);
            (chosen, None)
        }
        (None, _) => (Algorithm::RoundRobin, None),
    }
}

/// `hash = { header | cookie | query = NAME, bound = NUMBER }`; which of it may be left out depends on what is chosen.
fn hash(item: &Item<'_>, chosen: Option<&Algorithm>) -> (Option<HashKey>, Option<Bound>) {
    let Some(table) = item.table(HASH) else { return (None, None) };
    let token = |key: &str| {
        let item = table.item(key)?;
        Some(item.parsed("a name that is a token (RFC 9110 section 5.6.2)", |text| {
            if syntax::is_token(text) { Ok(text.to_owned()) } else { Wrong::plain() }
        }))
    };
    let query = table.item("query").map(|item| {
        item.parsed("the name of a query field", |text| {
            if text.is_empty() { Wrong::plain() } else { syntax::value_pattern(text) }
        })
    });
    let bound = table.item("bound").map(|item| item.thousandths(BOUND));
    let unkeyed = matches!(chosen, Some(Algorithm::IpHash | Algorithm::Maglev(_)));
    let source = match (token("header"), token("cookie"), query) {
        (Some(name), None, None) => name.map(HashKey::Header),
        (None, Some(name), None) => name.map(HashKey::Cookie),
        (None, None, Some(name)) => name.map(HashKey::Query),
        (None, None, None) if unkeyed && bound.is_some() => None,
        _ => {
            item.wrong("a table with exactly one of header, cookie, query");
            None
        }
    };
    let bound = bound.flatten().and_then(|bound| u32::try_from(bound).ok());
    (source, bound.map(Bound::of_thousandths))
}

/// Zones mean nothing where it is not known which one is the own.
pub(in crate::config) fn check(config: &Config, problems: &mut Vec<Problem>) {
    if config.server.zone.is_some() {
        return;
    }
    let zoned = config.groups.iter().filter(|g| g.traffic.balance.zones != Zones::Off);
    problems.extend(zoned.map(|group| Problem {
        place: group.place.clone(),
        key: format!("group.{}.zones", group.name),
        found: "zones, and no zone that this process runs in".to_owned(),
        expected: "server.zone".to_owned(),
        hint: Some("[server] zone = \"${ZONE}\"".to_owned()),
    }));
}

/// Groups that have nobody in the own zone, and tiers that are never the first.
pub(in crate::config) fn doubts(config: &Config) -> impl Iterator<Item = Problem> {
    let own = config.server.zone.as_deref();
    let foreign = move |group: &&Group| {
        let zoned = group.traffic.balance.zones != Zones::Off && !group.targets.is_empty();
        zoned && !group.targets.iter().any(|t| t.zone.is_some() && t.zone.as_deref() == own)
    };
    let foreign = config.groups.iter().filter(foreign).map(move |group| {
        let only = group.traffic.balance.zones == Zones::Only;
        let so = if only { ": every request is answered with 503" } else { "" };
        Problem {
            place: group.place.clone(),
            key: format!("group.{}.zones", group.name),
            found: format!("no target in zone {:?}{so}", own.unwrap_or_default()),
            expected: "a target with this zone, or zones = \"off\"".to_owned(),
            hint: None,
        }
    });
    let raised = |group: &&Group| {
        let takes = |t: &&Target| t.weight > 0;
        group.targets.iter().filter(takes).map(|t| t.tier).min().is_some_and(|least| least > 0)
    };
    let raised = config.groups.iter().filter(raised).map(|group| Problem {
        place: group.place.clone(),
        key: format!("group.{}.targets", group.name),
        found: "no target with weight in tier 0".to_owned(),
        expected: "tier 0, the default, for those that are used first".to_owned(),
        hint: None,
    });
    foreign.chain(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(group: &str) -> Result<Config, String> {
        let file = format!(
            "[server]\nzone = \"${{ZONE:-}}\"\n[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n\
             default = {{ forward = 'g' }}\n[group.g]\n{group}\n"
        );
        let env = |name: &str| (name == "ZONE" && group.contains("# a")).then(|| "a".to_owned());
        crate::config::parse(&file, "a.toml", &env).map_err(|problems| problems.to_string())
    }

    #[track_caller]
    fn check(group: &str, algorithm: Algorithm, settings: Settings) {
        let config = parsed(&format!("targets = ['a:1'] # a\n{group}"));
        let config = config.unwrap_or_else(|problems| panic!("{group}: {problems}"));
        let found = &config.groups[0];
        assert_eq!((&found.algorithm, found.traffic.balance), (&algorithm, settings), "{group}");
    }

    #[track_caller]
    fn refuse(group: &str, part: &str) {
        let problems = match parsed(&format!("targets = ['a:1']\n{group}")) {
            Ok(_) => panic!("{group} was taken"),
            Err(problems) => problems,
        };
        assert!(problems.contains(part), "{group}\n{problems}");
        assert_eq!(problems.matches("expected").count(), 1, "{group}\n{problems}");
    }

    fn bound(thousandths: u32) -> Settings {
        Settings { bound: Some(Bound::of_thousandths(thousandths)), ..Settings::default() }
    }

    #[test]
    fn algorithms_and_their_hashes() {
        let user = || HashKey::Header("x-user".to_owned());
        let none = Settings::default();
        check("", Algorithm::RoundRobin, none);
        check("algorithm = 'least_time'", Algorithm::LeastTime, none);
        check("algorithm = 'maglev'", Algorithm::Maglev(None), none);
        check("algorithm = 'maglev'\nhash = { bound = 2 }", Algorithm::Maglev(None), bound(2_000));
        let keyed = "algorithm = 'maglev'\nhash = { header = 'x-user', bound = '${B:-1.5}' }";
        check(keyed, Algorithm::Maglev(Some(user())), bound(1_500));
        check("algorithm = 'ip_hash'\nhash = { bound = 1.25 }", Algorithm::IpHash, bound(1_250));
        let keyed = "algorithm = 'hash'\nhash = { header = 'x-user', bound = 1.125 }";
        check(keyed, Algorithm::Hash(user()), bound(1_125));
        check("algorithm = 'hash'\nhash = { header = 'x-user' }", Algorithm::Hash(user()), none);

        refuse("algorithm = 'hash'", "\"hash\" without a key");
        refuse("algorithm = 'hash'\nhash = { bound = 1.25 }", "exactly one of header");
        refuse("algorithm = 'maglev'\nhash = {}", "exactly one of header");
        refuse("algorithm = 'ip_hash'\nhash = { header = 'a' }", "the client's address is it");
        refuse("algorithm = 'p2c'\nhash = { header = 'a' }", "a key for another algorithm");
        for wrong in ["0.9", "100.5", "1.2345", "-1.5", "nan", "1e2", "'1.25'", "true"] {
            let group = format!("algorithm = 'ip_hash'\nhash = {{ bound = {wrong} }}");
            refuse(&group, "a number from 1 to 100");
        }
    }

    #[test]
    fn slow_start_and_zones() {
        let zones = |zones| Settings { zones, ..Settings::default() };
        let slow =
            |secs| Settings { slow_start: Some(Duration::from_secs(secs)), ..Settings::default() };
        check("slow_start = '30s'", Algorithm::RoundRobin, slow(30));
        check("slow_start = '0s'", Algorithm::RoundRobin, Settings::default());
        check("zones = 'off'", Algorithm::RoundRobin, Settings::default());
        check("zones = 'only'", Algorithm::RoundRobin, zones(Zones::Only));
        let prefer = |enough| zones(Zones::Prefer { enough });
        check("zones = 'prefer'", Algorithm::RoundRobin, prefer(70));
        check("zones = { use = 'prefer' }", Algorithm::RoundRobin, prefer(70));
        let half = "zones = { use = 'prefer', enough = '50%' }";
        check(half, Algorithm::RoundRobin, prefer(50));

        refuse("slow_start = '2h'", "a duration from 0ms to 1h");
        refuse("zones = 'sometimes' # a", "one of off, prefer, only");
        refuse("zones = 5 # a", "\"prefer\"");
        refuse("zones = { enough = '50%' } # a", "found nothing");
        refuse("zones = { use = 'only', enough = '50%' } # a", "a share for another use");
        refuse("zones = { use = 'prefer', enough = '0%' } # a", "from \"1%\" to \"100%\"");
        refuse("zones = { use = 'prefer', enough = '101%' } # a", "from \"1%\" to \"100%\"");
        refuse("zones = 'prefer'", "expected server.zone");
    }

    #[test]
    fn tiers_are_read_and_what_is_hardly_meant_is_said() {
        let said = |group: &str| -> Vec<String> {
            let config = parsed(&format!("{group} # a")).unwrap();
            doubts(&config).map(|doubt| doubt.to_string()).collect()
        };
        let tiers = "targets = ['a:1', { address = 'b:1', tier = 9, zone = 'a' }]";
        let config = parsed(tiers).unwrap();
        let tiers_read: Vec<u8> = config.groups[0].targets.iter().map(|t| t.tier).collect();
        assert_eq!(tiers_read, [0, 9]);
        refuse(
            "algorithm = 'p2c'\ndrain = '1s'\n[group.h]\ntargets = [{ address = 'b:1', tier = 10 }]",
            "from 0 to 9",
        );
        assert_eq!(said(&format!("{tiers}\nzones = 'prefer'")), [""; 0]);
        let doubt = said("targets = ['a:1']\nzones = 'only'");
        assert!(doubt.len() == 1 && doubt[0].contains("answered with 503"), "{doubt:?}");
        assert_eq!(said("targets = ['a:1']\nzones = 'prefer'").len(), 1);
        assert_eq!(said("targets = []\nzones = 'prefer'").len(), 0);
        let doubt =
            said("targets = [{ address = 'a:1', tier = 1 }, { address = 'b:1', weight = 0 }]");
        assert!(doubt.len() == 1 && doubt[0].contains("in tier 0"), "{doubt:?}");
    }
}
