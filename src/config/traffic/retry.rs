//! `retry` of a rule or a group: its keys, and what may be written there.
//!
//! Called by the readers of rules and groups.

use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::sections::WAIT;
use crate::config::units;
use crate::protect::retry::{On, Retry};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Its tables.
pub(in crate::config) const TABLES: &[(&str, Keys)] =
    &[("rule.retry", KEYS), ("group.*.retry", KEYS)];

const KEYS: Keys = &["attempts", "on", "budget", "reserve", "back_off", "per_try", "hedge"];

/// The most attempts after the first.
const MOST_ATTEMPTS: u64 = 5;
const BACK_OFF: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);
const CONDITION: &str = "\"connect\", \"reset\", \"timeout\", a status from 400 to 599, or a range of them as \"502-504\"";

/// `retry = { ... }`
pub(super) fn read(table: &Table<'_>) -> Option<Retry> {
    let item = table.item("retry")?;
    let table = item.table(KEYS)?;
    let mut retry = Retry::default();
    let attempts = table.item("attempts").and_then(|item| item.integer(0..=MOST_ATTEMPTS));
    set(&mut retry.attempts, attempts.and_then(|attempts| u32::try_from(attempts).ok()));
    set(&mut retry.on, table.item("on").map(|item| on(&item)));
    set(&mut retry.budget, table.item("budget").and_then(|item| item.share()));
    let reserve = table.item("reserve").and_then(|item| item.integer(0..=10_000));
    set(&mut retry.reserve, reserve.and_then(|reserve| u32::try_from(reserve).ok()));
    set(&mut retry.back_off, table.item("back_off").and_then(|item| back_off(&item)));
    retry.per_try = table.item("per_try").and_then(|item| item.duration(WAIT));
    retry.hedge = table.item("hedge").and_then(|item| item.duration(WAIT));
    if let (Some(hedge), Some(per_try)) = (retry.hedge, retry.per_try)
        && hedge >= per_try
        && let Some(item) = table.item("hedge")
    {
        let found = format!("{}, which is not before per_try", units::show_duration(hedge));
        item.problem(found, format!("less than {}", units::show_duration(per_try)), None);
    }
    Some(retry)
}

fn on(item: &Item<'_>) -> On {
    let mut on = On::default();
    for item in item.one_or_more(CONDITION) {
        if item.is_integer() {
            let status = item.integer_or(CONDITION, 400..=599);
            let status = status.and_then(|status| u16::try_from(status).ok());
            on.statuses.extend(status.map(|status| status..=status));
            continue;
        }
        item.parsed(CONDITION, |text| {
            match text {
                "connect" => on.connect = true,
                "reset" => on.reset = true,
                "timeout" => on.timeout = true,
                text => on.statuses.push(statuses(text).ok_or_else(Wrong::default)?),
            }
            Ok(())
        });
    }
    on
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse::<u16>().ok().filter(|s| (400..=599).contains(s));
    let (from, to) = (status(from)?, status(to)?);
    (from <= to).then_some(from..=to)
}

// One duration, or the first wait and the longest.
fn back_off(item: &Item<'_>) -> Option<(Duration, Duration)> {
    const KIND: &str = "a duration, or two: the first wait and the longest";
    if !item.is_array() {
        return item.duration(BACK_OFF).map(|wait| (wait, wait));
    }
    let items = item.array(KIND);
    let [first, longest] = items.as_slice() else {
        item.wrong(KIND);
        return None;
    };
    let (first, longest) = (first.duration(BACK_OFF)?, longest.duration(BACK_OFF)?);
    if first > longest {
        item.problem("the longest wait before the first", KIND, None);
    }
    Some((first, longest))
}
