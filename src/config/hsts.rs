//! `hsts` and `redirect_https` of a listener: how clients are brought to https, and told to stay there.
//!
//! What browsers and their preload list ask of the field is checked here (RFC 6797, and the conditions of that list), so that
//! it is not found out by a browser. Called by `listener`.

use crate::config::item::{Item, Table};
use crate::config::keys::HSTS;
use crate::config::problem::Wrong;
use crate::config::units;

/// `hsts` of a listener (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// For how long, in seconds.
    pub max_age: u64,
    /// Whether hosts below are meant, too.
    pub include_subdomains: bool,
    /// Whether browsers' list may take it up.
    pub preload: bool,
}

const DAY: u64 = 24 * 3600;
/// The longest that is told: ten years. Browsers keep it for a year or two.
const LONGEST: u64 = 3650 * DAY;
/// The shortest that browsers' preload list takes.
const PRELOAD_LEAST: u64 = 365 * DAY;
const MAX_AGE: &str = "seconds, or a duration such as \"365d\" or \"12h\", of at most 3650 days";

/// `hsts = { ... }`; `secure` says whether the listener speaks TLS.
pub(super) fn hsts(listener: &Table<'_>, secure: bool) -> Option<Hsts> {
    let item = listener.item("hsts")?;
    let table = item.table(HSTS)?;
    if !secure {
        let hint = Some("on the http listener, redirect_https = true".to_owned());
        let expected = "hsts only with protocol = \"https\": browsers ignore it elsewhere";
        item.problem("hsts on a listener without TLS", expected, hint);
    }
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean()).unwrap_or(false);
    let hsts = Hsts {
        max_age: table.need("max_age", MAX_AGE).and_then(|item| max_age(&item))?,
        include_subdomains: flag("include_subdomains"),
        preload: flag("preload"),
    };
    let fits = hsts.include_subdomains && hsts.max_age >= PRELOAD_LEAST;
    if hsts.preload && !fits {
        let expected = "include_subdomains = true and a max_age of at least \"365d\" beside preload, \
                        as browsers' list demands";
        item.problem("preload without what it needs", expected, None);
    }
    Some(hsts)
}

/// `redirect_https = true`, or the port that https is reached at.
pub(super) fn redirect_https(listener: &Table<'_>, secure: bool) -> Option<u16> {
    const KIND: &str = "true, false or a port from 1 to 65535";
    let item = listener.item("redirect_https")?;
    let port = if item.is_integer() {
        u16::try_from(item.integer_or(KIND, 1..=65_535)?).ok()?
    } else {
        item.boolean_or(KIND)?.then_some(443)?
    };
    if secure {
        let expected = "redirect_https only with protocol = \"http\"";
        item.problem("redirect_https on a listener of another protocol", expected, None);
    }
    Some(port)
}

fn max_age(item: &Item<'_>) -> Option<u64> {
    if item.is_integer() {
        return item.integer_or(MAX_AGE, 0..=LONGEST);
    }
    item.parsed(MAX_AGE, |text| {
        let days = text.strip_suffix('d').map(|days| days.parse::<u64>().ok());
        let seconds = match days {
            Some(days) => days.and_then(|days| days.checked_mul(DAY)),
            None => Some(units::duration(text)?.as_secs()),
        };
        seconds.filter(|seconds| *seconds <= LONGEST).ok_or_else(Wrong::default)
    })
}
