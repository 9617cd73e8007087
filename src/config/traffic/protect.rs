//! `outlier`, `breaker` and `bounds` of a group, `importance` of a rule.
//!
//! Called by the readers of rules and groups.

use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::sections::WAIT;
use crate::config::syntax;
use crate::protect::breaker::MOST_TRIALS;
use crate::protect::{Blame, BoundSettings, BreakerSettings, Importance, OutlierSettings};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Its tables.
pub(in crate::config) const TABLES: &[(&str, Keys)] =
    &[("group.*.outlier", OUTLIER), ("group.*.breaker", BREAKER), ("group.*.bounds", BOUNDS)];

const OUTLIER: Keys = &[
    "status",
    "failures",
    "consecutive",
    "interval",
    "requests",
    "failure_share",
    "deviations",
    "targets",
    "slower",
    "ejection",
    "longest",
    "max_ejected",
    "retry_after",
];
const BREAKER: Keys =
    &["status", "failures", "failure_share", "window", "requests", "consecutive", "open", "trials"];
const BOUNDS: Keys = &["max_connections", "max_requests", "queue", "queue_timeout"];

const MOST: u64 = 1_000_000;
const SPAN: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const FAILURES: &str = "\"connect\", \"timeout\", \"reset\" or \"protocol\"";

/// `importance`
pub(super) fn importance(table: &Table<'_>) -> Importance {
    let words = Importance::ALL.map(|importance| (importance.name(), importance));
    table.item("importance").and_then(|item| item.choice(&words)).unwrap_or_default()
}

/// `outlier = { ... }`, or `true` for all of its defaults.
pub(super) fn outlier(table: &Table<'_>) -> Option<OutlierSettings> {
    let item = table.item("outlier")?;
    let mut settings = OutlierSettings::default();
    let Some(table) = or_true(&item, OUTLIER)? else { return Some(settings) };
    blame(&table, &mut settings.blame);
    set(&mut settings.consecutive, table.item("consecutive").and_then(|item| or_off(&item)));
    set(&mut settings.interval, span(&table, "interval"));
    set(&mut settings.requests, number(&table, "requests", 1..=MOST));
    set(&mut settings.failure_share, table.item("failure_share").and_then(|i| share_or_off(&i)));
    set(&mut settings.deviations, table.item("deviations").and_then(|i| thousandths(&i, 100)));
    set(&mut settings.targets, number(&table, "targets", 2..=10_000));
    set(&mut settings.slower, table.item("slower").and_then(|i| thousandths(&i, 1100)));
    set(&mut settings.ejection, span(&table, "ejection"));
    settings.longest = settings.longest.max(settings.ejection);
    set(&mut settings.longest, span(&table, "longest"));
    if settings.longest < settings.ejection
        && let Some(item) = table.item("longest")
    {
        item.wrong("no less than ejection");
    }
    set(&mut settings.max_ejected, table.item("max_ejected").and_then(|item| item.share()));
    if let Some(item) = table.item("retry_after") {
        settings.retry_after = retry_after(&item, settings.retry_after);
    }
    let looks = settings.consecutive.is_some()
        || settings.failure_share.is_some()
        || settings.deviations.is_some()
        || settings.slower.is_some()
        || settings.retry_after.is_some();
    if !looks {
        item.problem("everything off", "something to look at, or no outlier", None);
    }
    Some(settings)
}

/// `breaker = { ... }`, or `true` for all of its defaults.
pub(super) fn breaker(table: &Table<'_>) -> Option<BreakerSettings> {
    let item = table.item("breaker")?;
    let mut settings = BreakerSettings::default();
    let Some(table) = or_true(&item, BREAKER)? else { return Some(settings) };
    blame(&table, &mut settings.blame);
    set(&mut settings.failure_share, table.item("failure_share").and_then(|i| share_or_off(&i)));
    set(&mut settings.window, span(&table, "window"));
    set(&mut settings.requests, number(&table, "requests", 1..=MOST));
    set(&mut settings.consecutive, table.item("consecutive").and_then(|item| or_off(&item)));
    set(&mut settings.open, span(&table, "open"));
    set(&mut settings.trials, number(&table, "trials", 1..=MOST_TRIALS));
    if settings.failure_share.is_none() && settings.consecutive.is_none() {
        item.problem("everything off", "failure_share or consecutive, or no breaker", None);
    }
    Some(settings)
}

/// `bounds = { ... }`
pub(super) fn bounds(table: &Table<'_>) -> Option<BoundSettings> {
    let item = table.item("bounds")?;
    let table = item.table(BOUNDS)?;
    let mut bounds = BoundSettings {
        max_connections: number(&table, "max_connections", 1..=MOST),
        max_requests: number(&table, "max_requests", 1..=MOST),
        ..BoundSettings::default()
    };
    let given = ["max_connections", "max_requests"].iter().any(|key| table.item(key).is_some());
    if !given {
        item.problem("no bound", "max_connections or max_requests", None);
    }
    set(&mut bounds.queue, number(&table, "queue", 0..=MOST));
    let timeout = table.item("queue_timeout");
    if let (Some(item), 0) = (&timeout, bounds.queue) {
        item.problem("queue_timeout without a queue", "queue = 1024, or no queue_timeout", None);
    }
    bounds.queue_timeout = timeout.and_then(|item| item.duration(WAIT));
    Some(bounds)
}

// The table; nothing in it where there is `true` instead.
fn or_true<'a>(item: &Item<'a>, keys: Keys) -> Option<Option<Table<'a>>> {
    if item.is_table() {
        return item.table(keys).map(Some);
    }
    match item.boolean_or("true, false or a table") {
        Some(true) => Some(None),
        _ => None,
    }
}

fn blame(table: &Table<'_>, blame: &mut Blame) {
    if let Some(item) = table.item("status") {
        blame.statuses = statuses(&item);
    }
    let Some(item) = table.item("failures") else { return };
    let all = if item.is_array() { item.array(FAILURES) } else { vec![item] };
    *blame =
        Blame { connect: false, timeout: false, reset: false, protocol: false, ..blame.clone() };
    for item in all {
        item.parsed(FAILURES, |text| {
            match text {
                "connect" => blame.connect = true,
                "timeout" => blame.timeout = true,
                "reset" => blame.reset = true,
                "protocol" => blame.protocol = true,
                _ => return Wrong::plain(),
            }
            Ok(())
        });
    }
}

// None at all, too: then only failures without an answer count.
fn statuses(item: &Item<'_>) -> Vec<RangeInclusive<u16>> {
    const KIND: &str = "a status from 400 to 599, or a range of them as \"502-504\"";
    let range = |item: &Item<'_>| {
        if item.is_integer() {
            let status = item.integer_or(KIND, 400..=599);
            return status.and_then(|s| u16::try_from(s).ok()).map(|status| status..=status);
        }
        item.parsed(KIND, |text| match syntax::statuses(text) {
            Ok(range) if *range.start() >= 400 => Ok(range),
            _ => Wrong::plain(),
        })
    };
    let all = if item.is_array() { item.array(KIND) } else { vec![item.clone()] };
    all.iter().filter_map(range).collect()
}

fn number(table: &Table<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u32> {
    let number = table.item(key).and_then(|item| item.integer(range));
    number.and_then(|number| u32::try_from(number).ok())
}

fn span(table: &Table<'_>, key: &str) -> Option<Duration> {
    table.item(key).and_then(|item| item.duration(SPAN))
}

fn is_off(item: &Item<'_>) -> bool {
    item.peek_text() == Some("off")
}

fn or_off(item: &Item<'_>) -> Option<Option<u32>> {
    if is_off(item) {
        return Some(None);
    }
    let number = item.integer_or("a whole number from 1 to 1000000, or \"off\"", 1..=MOST)?;
    u32::try_from(number).ok().map(Some)
}

fn share_or_off(item: &Item<'_>) -> Option<Option<u32>> {
    if is_off(item) { Some(None) } else { item.share().map(Some) }
}

// A number with up to three decimals, as a text or a number of the file, in thousandths; or off.
fn thousandths(item: &Item<'_>, least: u32) -> Option<Option<u32>> {
    if is_off(item) {
        return Some(None);
    }
    let kind = format!(
        "a number from {}.{} to 100 with up to three decimals, as 1.9, or \"off\"",
        least / 1000,
        least % 1000 / 100
    );
    let value = item.decimal(&kind)?;
    let (whole, decimals) = value.split_once('.').unwrap_or((&value, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let read = || {
        let fits = digits(whole) && digits(decimals) && whole.len() <= 3 && decimals.len() <= 3;
        let decimals = format!("{decimals:0<3}").parse::<u32>().ok().filter(|_| fits)?;
        let value = whole.parse::<u32>().ok()? * 1000 + decimals;
        (least..=100_000).contains(&value).then_some(value)
    };
    let read = read();
    if read.is_none() {
        item.wrong(kind);
    }
    read.map(Some)
}

// `true`, `false`, or the longest time.
fn retry_after(item: &Item<'_>, usual: Option<Duration>) -> Option<Duration> {
    const KIND: &str = "true, false or a duration such as \"60s\"";
    match item.peek_text() {
        Some(text) if !text.contains("${") => item.duration(SPAN),
        _ => item.boolean_or(KIND).and_then(|on| usual.filter(|_| on)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, GroupTraffic, parse};

    fn read(group: &str) -> Result<Config, String> {
        let file = format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n[group.g]\ntargets = ['a:1']\n{group}\n"
        );
        parse(&file, "a.toml", &|_| None).map_err(|problems| problems.to_string())
    }

    fn good(group: &str) -> GroupTraffic {
        let config = read(group).unwrap_or_else(|problems| panic!("{group}\n{problems}"));
        config.groups.first().unwrap().traffic.clone()
    }

    #[test]
    fn says_what_is_meant() {
        assert_eq!(good("outlier = true").outlier, Some(OutlierSettings::default()));
        assert_eq!(good("outlier = {}").outlier, Some(OutlierSettings::default()));
        assert_eq!(good("outlier = false").outlier, None);
        assert_eq!(good("breaker = true").breaker, Some(BreakerSettings::default()));
        let all = "outlier = { status = [429, '500-599'], failures = 'timeout', consecutive = 'off', \
            interval = '2s', requests = 7, failure_share = 'off', deviations = 2, targets = 3, \
            slower = 2.5, ejection = '400s', max_ejected = '12.5%', retry_after = '5s' }";
        let outlier = good(all).outlier.unwrap();
        let timeout_only = Blame {
            statuses: vec![429..=429, 500..=599],
            connect: false,
            timeout: true,
            reset: false,
            protocol: false,
        };
        assert_eq!(outlier.blame, timeout_only);
        assert_eq!((outlier.consecutive, outlier.failure_share), (None, None));
        assert_eq!((outlier.deviations, outlier.slower), (Some(2000), Some(2500)));
        let four_hundred = Duration::from_secs(400);
        assert_eq!((outlier.ejection, outlier.longest), (four_hundred, four_hundred));
        assert_eq!((outlier.max_ejected, outlier.targets, outlier.requests), (1250, 3, 7));
        assert_eq!(outlier.retry_after, Some(Duration::from_secs(5)));
        assert_eq!(good("outlier = { retry_after = false }").outlier.unwrap().retry_after, None);
        let bounds = good("bounds = { max_requests = 3 }").bounds.unwrap();
        assert_eq!(bounds, BoundSettings { max_requests: Some(3), ..BoundSettings::default() });
    }

    #[test]
    fn says_what_is_wrong() {
        for (group, expected) in [
            ("outlier = 1", "group.g.outlier"),
            ("outlier = { status = 200 }", "group.g.outlier.status"),
            ("outlier = { status = ['200-599'] }", "a status from 400 to 599"),
            ("outlier = { failures = ['status'] }", "\"connect\", \"timeout\""),
            ("outlier = { consecutive = 0 }", "from 1 to 1000000, or \"off\""),
            ("outlier = { deviations = 0.01 }", "a number from 0.1 to 100"),
            ("outlier = { slower = 1 }", "a number from 1.1 to 100"),
            ("outlier = { slower = 1e3 }", "a number from 1.1 to 100"),
            ("outlier = { slower = -2.0 }", "a number from 1.1 to 100"),
            ("outlier = { targets = 1 }", "from 2 to 10000"),
            ("outlier = { ejection = '10s', longest = '5s' }", "no less than ejection"),
            ("outlier = { interval = '1ms' }", "a duration from 100ms to 1h"),
            ("outlier = { max_ejected = '110%' }", "a share from"),
            (
                "outlier = { consecutive = 'off', failure_share = 'off', deviations = 'off', retry_after = false }",
                "something to look at",
            ),
            ("breaker = { failure_share = 'off' }", "failure_share or consecutive"),
            ("breaker = { trials = 0 }", "from 1 to 1000"),
            ("bounds = {}", "max_connections or max_requests"),
            ("bounds = { queue = 3 }", "max_connections or max_requests"),
            ("bounds = { max_requests = 0 }", "from 1 to 1000000"),
            (
                "bounds = { max_requests = 1, queue = 0, queue_timeout = '1s' }",
                "queue_timeout without a queue",
            ),
        ] {
            let problems = read(group).err().unwrap_or_else(|| panic!("taken: {group}"));
            assert!(problems.contains(expected), "{group}\n{problems}");
        }
    }
}
