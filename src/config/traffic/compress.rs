//! `compress` of a rule and of a listener, `bandwidth` of a rule.
//!
//! Called by the readers of rules and listeners.

use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{syntax, units};
use crate::transform::bandwidth::{self, Per};
use crate::transform::compress::{Choice, Coding, Levels, Settings};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("listener.compress", COMPRESS),
    ("listener.compress.level", LEVEL),
    ("rule.compress", COMPRESS),
    ("rule.compress.level", LEVEL),
    ("rule.bandwidth", BANDWIDTH),
];

const COMPRESS: Keys =
    &["algorithms", "level", "types", "min_size", "decompress", "offload", "private"];
const LEVEL: Keys = &["gzip", "br", "zstd"];
const BANDWIDTH: Keys = &["response", "request", "burst", "per"];

const KIND: &str = "true, false or a table of what is compressed, and how";
const TYPE: &str = "a media type as \"text/html\" or \"application/*+json\", with at most one *";
const MOST_TYPES: usize = 200;
const MOST_MIN_SIZE: u64 = 1 << 30;

const RATE: &str = "octets a second, as \"64KiB/s\", \"1MiB/s\" or \"1GiB/s\"";
// Slower bodies are what `limits.min_rate` ends.
const SLOWEST: u64 = 1 << 10;
const FASTEST: u64 = 1 << 40;
const BURST: u64 = 256 << 10;
const MOST_BURST: u64 = 1 << 34;

/// `compress` of a rule.
pub(super) fn of_rule(rule: &Table<'_>) -> Choice {
    match rule.item("compress").map(|item| compress(&item)) {
        None | Some(None) => Choice::Listeners,
        Some(Some(None)) => Choice::Off,
        Some(Some(Some(settings))) => Choice::On(Box::new(settings)),
    }
}

/// `compress` of a listener.
pub(in crate::config) fn of_listener(listener: &Table<'_>) -> Option<Settings> {
    compress(&listener.item("compress")?).flatten()
}

// `Some(None)` for false.
fn compress(item: &Item<'_>) -> Option<Option<Settings>> {
    if !item.is_table() {
        return Some(item.boolean_or(KIND)?.then(Settings::default));
    }
    let table = item.table(COMPRESS)?;
    let mut settings = Settings::default();
    set(&mut settings.algorithms, table.item("algorithms").map(|item| algorithms(&item)));
    set(&mut settings.level, table.item("level").and_then(|item| levels(&item)));
    set(&mut settings.types, table.item("types").map(|item| types(&item)));
    let min_size = table.item("min_size").and_then(|item| item.size(1..=MOST_MIN_SIZE));
    set(&mut settings.min_size, min_size);
    for (key, flag) in [
        ("decompress", &mut settings.decompress),
        ("offload", &mut settings.offload),
        ("private", &mut settings.private),
    ] {
        set(flag, table.item(key).and_then(|item| item.boolean()));
    }
    if settings.algorithms.is_empty() && !settings.decompress {
        let hint = Some("compress = false for no compression at all".to_owned());
        item.problem("no algorithm", "at least one, or decompress = true", hint);
    }
    if settings.offload && settings.algorithms.is_empty() {
        let found = "offload without an algorithm: nobody would compress anything";
        item.problem(found, "at least one algorithm, or offload = false", None);
    }
    Some(Some(settings))
}

fn algorithms(item: &Item<'_>) -> Vec<Coding> {
    let words = [("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];
    let mut all = Vec::new();
    for item in item.array("a list of zstd, br and gzip, the best first") {
        let Some(coding) = item.choice(&words) else { continue };
        if all.contains(&coding) {
            item.problem("an algorithm that stands there twice", "each of them once", None);
            continue;
        }
        all.push(coding);
    }
    all
}

fn levels(item: &Item<'_>) -> Option<Levels> {
    let table = item.table(LEVEL)?;
    let mut levels = Levels::default();
    let level = |key: &str, range| table.item(key).and_then(|item| item.integer(range));
    let number = |level: Option<u64>| level.and_then(|level| u8::try_from(level).ok());
    set(&mut levels.gzip, number(level("gzip", 1..=9)));
    set(&mut levels.brotli, number(level("br", 2..=4)));
    set(&mut levels.zstd, number(level("zstd", 1..=6)));
    Some(levels)
}

fn types(item: &Item<'_>) -> Vec<String> {
    let items = item.one_or_more(TYPE);
    if items.len() > MOST_TYPES {
        item.problem(format!("{} types", items.len()), format!("at most {MOST_TYPES}"), None);
    }
    let kind = |text: &str| {
        let text = text.to_ascii_lowercase();
        let plain = text.replacen('*', "x", 1);
        let named = match plain.split_once('/') {
            Some((kind, subtype)) => syntax::is_token(kind) && syntax::is_token(subtype),
            None => text == "*",
        };
        if named && !plain.contains('*') { Ok(text) } else { Wrong::plain() }
    };
    items.iter().filter_map(|item| item.parsed(TYPE, kind)).collect()
}

/// `bandwidth` of a rule.
pub(super) fn bandwidth(rule: &Table<'_>) -> Option<bandwidth::Settings> {
    let item = rule.item("bandwidth")?;
    let table = item.table(BANDWIDTH)?;
    let rate = |key: &str| table.item(key).map(|item| item.parsed(RATE, rate));
    let (response, request) = (rate("response"), rate("request"));
    if response.is_none() && request.is_none() {
        item.problem("no rate", "response or request, such as response = \"1MiB/s\"", None);
    }
    let whose = [("request", Per::Request), ("client", Per::Client), ("rule", Per::Rule)];
    let burst = table.item("burst").and_then(|item| item.size(0..=MOST_BURST));
    let per = table.item("per").and_then(|item| item.choice(&whose));
    let (response, request) = (response.flatten(), request.flatten());
    (response.is_some() || request.is_some()).then(|| bandwidth::Settings {
        response,
        request,
        burst: burst.unwrap_or(BURST),
        per: per.unwrap_or_default(),
    })
}

fn rate(text: &str) -> Result<u64, Wrong> {
    let Some(size) = text.strip_suffix("/s") else {
        return match units::size(text) {
            Ok(_) => Wrong::hint(format!("did you mean \"{text}/s\"?")),
            Err(_) => Wrong::plain(),
        };
    };
    let rate = units::size(size).map_err(|wrong| Wrong {
        hint: wrong.hint.map(|hint| hint.replace("\"?", "/s\"?")),
        ..wrong
    })?;
    if (SLOWEST..=FASTEST).contains(&rate) {
        return Ok(rate);
    }
    let (from, to) = (units::show_size(SLOWEST), units::show_size(FASTEST));
    Wrong::expected(format!("a rate from {from}/s to {to}/s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};

    fn read(rule: &str, listener: &str) -> Result<Config, String> {
        let file = format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n{listener}\n\
             [[rule]]\nname = 'r'\nforward = 'g'\n{rule}\n[group.g]\ntargets = ['127.0.0.1:2']\n"
        );
        parse(&file, "a.toml", &|_| None).map_err(|problems| problems.to_string())
    }

    #[track_caller]
    fn wrong(rule: &str, expected: &str) {
        let found = read(rule, "").err().unwrap_or_default();
        assert!(found.contains(expected), "{rule}: {found:?}");
    }

    #[test]
    fn a_rule_says_it_or_leaves_it_to_its_listener() {
        let choice = |rule: &str| read(rule, "").unwrap().rules[0].traffic.compress.clone();
        assert_eq!(choice(""), Choice::Listeners);
        assert_eq!(choice("compress = false"), Choice::Off);
        assert_eq!(choice("compress = true"), Choice::On(Box::default()));
        assert_eq!(choice("compress = {}"), Choice::On(Box::default()));
        let Choice::On(settings) = choice(
            "compress = { algorithms = ['gzip', 'zstd'], level = { gzip = 9, br = 2 }, \
             types = 'Text/*', min_size = '64B', decompress = true, offload = true, private = false }",
        ) else {
            panic!("it is on");
        };
        assert_eq!(settings.algorithms, [Coding::Gzip, Coding::Zstd]);
        assert_eq!(settings.level, Levels { gzip: 9, brotli: 2, zstd: 3 });
        assert_eq!((settings.types, settings.min_size), (vec!["text/*".to_owned()], 64));
        assert!(settings.decompress && settings.offload && !settings.private);
        let listener = |text: &str| read("", text).unwrap().listeners[0].compress.clone();
        assert_eq!(listener(""), None);
        assert_eq!(listener("compress = false"), None);
        assert_eq!(listener("compress = true"), Some(Settings::default()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        wrong("compress = 'gzip'", KIND);
        wrong("compress = { algorithms = ['deflate'] }", "one of zstd, br, gzip");
        wrong("compress = { algorithms = ['br', 'br'] }", "each of them once");
        wrong("compress = { algorithms = [] }", "at least one, or decompress = true");
        wrong(
            "compress = { algorithms = [], decompress = true, offload = true }",
            "offload = false",
        );
        wrong("compress = { level = { br = 5 } }", "from 2 to 4");
        wrong("compress = { level = { zstd = 7 } }", "from 1 to 6");
        wrong("compress = { level = { gzip = 0 } }", "from 1 to 9");
        wrong("compress = { types = ['a/*/*'] }", "at most one *");
        wrong("compress = { types = ['html'] }", "at most one *");
        wrong("compress = { types = [] }", "at least one");
        wrong("compress = { min_size = 0 }", "1B");
        wrong("compress = { kind = 1 }", "kind");
        assert!(read("compress = { algorithms = [], decompress = true }", "").is_ok());
    }

    #[test]
    fn rates_are_octets_a_second() {
        let of = |rule: &str| read(rule, "").unwrap().rules[0].traffic.bandwidth.clone();
        assert_eq!(of(""), None);
        let expected = bandwidth::Settings {
            response: Some(1 << 20),
            request: None,
            burst: 256 << 10,
            per: Per::Request,
        };
        assert_eq!(of("bandwidth = { response = '1MiB/s' }"), Some(expected));
        let all =
            "bandwidth = { response = '2KiB/s', request = '1GiB/s', burst = '0B', per = 'rule' }";
        let expected = bandwidth::Settings {
            response: Some(2048),
            request: Some(1 << 30),
            burst: 0,
            per: Per::Rule,
        };
        assert_eq!(of(all), Some(expected));
        wrong("bandwidth = {}", "response or request");
        wrong("bandwidth = { response = '1MiB' }", "did you mean \"1MiB/s\"?");
        wrong("bandwidth = { response = '1MB/s' }", "did you mean \"1MiB/s\"?");
        wrong("bandwidth = { response = '1MiB/m' }", RATE);
        wrong("bandwidth = { response = '10B/s' }", "a rate from 1KiB/s");
        wrong("bandwidth = { request = '1KiB/s', per = 'ip' }", "one of request, client, rule");
    }
}
