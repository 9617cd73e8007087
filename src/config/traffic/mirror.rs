//! `mirror` and `inject` of a rule.
//!
//! Called by the readers of rules. What the settings mean is `fanout`'s.

use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::config::{Action, Config, Problem};
use crate::fanout::compare::Pattern;
use crate::fanout::inject::{Abort, FaultSettings, LONGEST};
use crate::fanout::json::Pointer;
use crate::fanout::{CompareSettings, InjectSettings, MirrorSettings, Share};
use crate::http::Known;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.mirror", MIRROR),
    ("rule.mirror.compare", COMPARE),
    ("rule.mirror.compare.body", BODY),
    ("rule.inject", INJECT),
    ("rule.inject.delay", DELAY),
    ("rule.inject.when", WHEN),
];

const MIRROR: Keys = &["group", "share", "methods", "body", "wait_body", "timeout", "compare"];
const COMPARE: Keys = &["status", "headers", "body", "limit", "samples", "excerpts", "latency"];
const BODY: Keys = &["json_ignore"];
const INJECT: Keys = &["delay", "abort", "share", "when"];
const DELAY: Keys = &["min", "max"];
const WHEN: Keys = &["header"];

/// The largest body that is copied, and the largest that is compared: this much of memory a request may cost twice.
const LARGEST_BODY: u64 = 1 << 20;
const MOST_SAMPLES: u64 = 1000;
const MOST_NAMES: usize = 64;
const MOST_FAULTS: usize = 8;
const MS: Duration = Duration::from_millis(1);

/// `mirror = { ... }`
pub(super) fn mirror(rule: &Table<'_>, seen: &mut Seen) -> Option<MirrorSettings> {
    let item = rule.item("mirror")?;
    let table = item.table(MIRROR)?;
    forwards(rule, &item, &["forward"]);
    let mut settings = MirrorSettings::default();
    let group = table.need("group", "the name of a group")?;
    settings.group = group.parsed("the name of a group", syntax::name)?;
    seen.uses(Kind::Group, &settings.group, &group);
    set(&mut settings.share, share(&table));
    set(&mut settings.methods, table.item("methods").map(|item| methods(&item)));
    set(&mut settings.body, table.item("body").and_then(|item| item.size(0..=LARGEST_BODY)));
    set(&mut settings.wait_body, table.item("wait_body").and_then(|item| item.boolean()));
    let most = Duration::from_secs(300);
    set(
        &mut settings.timeout,
        table.item("timeout").and_then(|item| item.duration(MS * 10..=most)),
    );
    settings.compare = table.item("compare").and_then(|item| compare(&item));
    Some(settings)
}

fn share(table: &Table<'_>) -> Option<Share> {
    table.item("share")?.share().map(Share)
}

// What it stands beside must be sent on: nothing else can be copied, or fail on the way.
fn forwards(rule: &Table<'_>, item: &Item<'_>, actions: &[&str]) {
    if actions.iter().all(|action| rule.item(action).is_none()) {
        let expected = format!("{} beside it", actions.join(" or "));
        item.problem("a rule that sends nothing on", expected, None);
    }
}

fn methods(item: &Item<'_>) -> Vec<String> {
    let kind = "a method, a token as \"GET\"";
    let items = item.one_or_more(kind);
    bound(item, items.len());
    items.iter().filter_map(|item| item.parsed(kind, syntax::method)).collect()
}

fn bound(item: &Item<'_>, count: usize) {
    if count > MOST_NAMES {
        item.problem(format!("{count} values"), format!("at most {MOST_NAMES}"), None);
    }
}

fn compare(item: &Item<'_>) -> Option<CompareSettings> {
    let mut settings = CompareSettings::default();
    if !item.is_table() {
        let on = item.boolean_or("true, false or a table of what is compared")?;
        return on.then_some(settings);
    }
    let table = item.table(COMPARE)?;
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean());
    set(&mut settings.status, flag("status"));
    set(&mut settings.excerpts, flag("excerpts"));
    set(&mut settings.latency, flag("latency"));
    set(&mut settings.headers, table.item("headers").map(|item| headers(&item)));
    set(&mut settings.limit, table.item("limit").and_then(|item| item.size(1..=LARGEST_BODY)));
    let samples = table.item("samples").and_then(|item| item.integer(0..=MOST_SAMPLES));
    set(&mut settings.samples, samples.and_then(|samples| usize::try_from(samples).ok()));
    if let Some(item) = table.item("body") {
        if item.is_table() {
            let ignore = item.table(BODY)?.need("json_ignore", "a list of pointers")?;
            settings.ignore = patterns(&ignore);
        } else {
            set(&mut settings.body, item.boolean_or("true, false or { json_ignore = [...] }"));
        }
    }
    if !settings.status && !settings.body && settings.headers.is_empty() && !settings.latency {
        item.problem("a comparison of nothing", "one of status, headers, body, latency", None);
    }
    Some(settings)
}

fn headers(item: &Item<'_>) -> Vec<String> {
    const KIND: &str = "the name of a field that is for more than one hop";
    let items = item.array("a list of names of fields");
    bound(item, items.len());
    let name = |text: &str| {
        let of_a_hop = matches!(
            Known::of(text.as_bytes()),
            Known::Connection
                | Known::ContentLength
                | Known::TransferEncoding
                | Known::Te
                | Known::Trailer
                | Known::Upgrade
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::ProxyAuthenticate
                | Known::Http2Settings
                | Known::Date
                | Known::XRinggateReason
        );
        let fits = syntax::is_token(text) && !of_a_hop;
        if fits { Ok(text.to_ascii_lowercase()) } else { Wrong::plain() }
    };
    items.iter().filter_map(|item| item.parsed(KIND, name)).collect()
}

fn patterns(item: &Item<'_>) -> Vec<Pattern> {
    const KIND: &str = "a JSON pointer as \"/items/*/id\" (RFC 6901; a step \"*\" is any)";
    let items = item.one_or_more(KIND);
    bound(item, items.len());
    let pattern = |text: &str| Pointer::parse(text).map(Pattern).ok_or_else(Wrong::default);
    items.iter().filter_map(|item| item.parsed(KIND, pattern)).collect()
}

/// `inject = { ... }` or a list of such tables.
pub(super) fn inject(rule: &Table<'_>) -> Option<InjectSettings> {
    let item = rule.item("inject")?;
    forwards(rule, &item, &["forward", "aggregate"]);
    let items = item.one_or_more("a table of delay, abort, share, when");
    if items.len() > MOST_FAULTS {
        item.problem(format!("{} faults", items.len()), format!("at most {MOST_FAULTS}"), None);
    }
    Some(InjectSettings { faults: items.iter().filter_map(fault).collect() })
}

fn fault(item: &Item<'_>) -> Option<FaultSettings> {
    let table = item.table(INJECT)?;
    let given = ["delay", "abort"].iter().any(|key| table.item(key).is_some());
    if !given {
        item.problem("a fault that does nothing", "delay or abort", None);
    }
    let when = table.item("when").and_then(|item| item.table(WHEN));
    let header = when.and_then(|when| when.need("header", "a table of names and patterns"));
    Some(FaultSettings {
        delay: table.item("delay").and_then(|item| delay(&item)),
        abort: table.item("abort").and_then(|item| abort(&item)),
        share: share(&table).unwrap_or(Share::ALL),
        header: header.map(|item| conditions(&item)).unwrap_or_default(),
    })
}

fn delay(item: &Item<'_>) -> Option<(Duration, Duration)> {
    if !item.is_table() {
        return item.duration(MS..=LONGEST).map(|delay| (delay, delay));
    }
    let table = item.table(DELAY)?;
    let least =
        table.item("min").map_or(Some(Duration::ZERO), |i| i.duration(Duration::ZERO..=LONGEST));
    let most = table.need("max", "a duration")?.duration(MS..=LONGEST)?;
    let least = least?;
    if least > most {
        item.problem("a min above max", "one of at most max", None);
    }
    Some((least, most))
}

fn abort(item: &Item<'_>) -> Option<Abort> {
    const KIND: &str = "a status from 400 to 599, or \"reset\"";
    if item.is_integer() {
        let status = item.integer_or(KIND, 400..=599)?;
        return u16::try_from(status).ok().map(Abort::Status);
    }
    item.parsed(KIND, |text| match (text, text.parse()) {
        ("reset", _) => Ok(Abort::Reset),
        (_, Ok(status @ 400..=599)) => Ok(Abort::Status(status)),
        _ => Wrong::plain(),
    })
}

fn conditions(item: &Item<'_>) -> Vec<(String, Vec<String>)> {
    const VALUE: &str = "a pattern without control characters";
    let entries = item.entries("a table of names, each with a pattern or a list of patterns");
    bound(item, entries.len());
    let condition = |(name, item): (&str, Item<'_>)| {
        if !syntax::is_token(name) {
            item.problem(format!("{name:?}"), "the name of a field", None);
        }
        let items = item.one_or_more(VALUE);
        bound(&item, items.len());
        let values = items.iter().filter_map(|item| item.parsed(VALUE, syntax::value_pattern));
        (name.to_ascii_lowercase(), values.collect())
    };
    entries.into_iter().map(condition).collect()
}

/// Mirrors whose copies go where the requests go: targets do everything twice.
pub(in crate::config) fn doubts(config: &Config) -> impl Iterator<Item = Problem> {
    config.rules.iter().filter_map(|rule| {
        let mirror = rule.traffic.mirror.as_ref()?;
        let Action::Forward(groups) = &rule.action else { return None };
        let same = groups.iter().any(|group| group.group == mirror.group);
        same.then(|| Problem {
            place: rule.place.clone(),
            key: format!("rule.{}.mirror.group", rule.name),
            found: format!("{:?}, which the rule forwards to", mirror.group),
            expected: "another group: its targets get every copied request twice".to_owned(),
            hint: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Problems, RuleTraffic};

    fn parse(rule: &str) -> Result<Config, Problems> {
        let file = format!(
            "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n[group.g]\ntargets = ['a:1']\n\
             [group.shadow]\ntargets = ['a:1']\n[[rule]]\nname = 'r'\n{rule}\n"
        );
        crate::config::parse(&file, "a.toml", &|_| None)
    }

    fn good(rule: &str) -> RuleTraffic {
        let config = parse(rule).unwrap_or_else(|problems| panic!("{rule}: {problems}"));
        config.rules[0].traffic.clone()
    }

    #[track_caller]
    fn bad(rule: &str, expected: &str) {
        let found = match parse(rule) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        assert!(found.len() == 1 && found[0].contains(expected), "{rule}\n{found:#?}");
    }

    #[test]
    fn a_mirror_is_read_with_its_defaults() {
        let default = MirrorSettings { group: "shadow".into(), ..MirrorSettings::default() };
        let mirror = good("forward = 'g'\nmirror = { group = 'shadow' }").mirror;
        assert_eq!(mirror, Some(default.clone()));
        let text = "forward = 'g'\nmirror = { group = 'shadow', share = '2.5%', methods = 'POST', body = '1KiB', \
             wait_body = true, timeout = '2s', compare = true }";
        let expected = MirrorSettings {
            share: Share(250),
            methods: vec!["POST".into()],
            body: 1024,
            wait_body: true,
            timeout: Duration::from_secs(2),
            compare: Some(CompareSettings::default()),
            ..default
        };
        assert_eq!(good(text).mirror, Some(expected));
    }

    #[test]
    fn a_comparison_is_read() {
        let of = |text: &str| {
            good(&format!("forward = 'g'\nmirror = {{ group = 'shadow', compare = {text} }}"))
                .mirror
                .and_then(|mirror| mirror.compare)
        };
        let default = CompareSettings::default();
        assert_eq!((of("{}"), of("false")), (Some(default.clone()), None));
        let ignore = |text: &str| Pattern(Pointer::parse(text).unwrap());
        assert_eq!(
            of(
                "{ status = false, headers = ['ETag'], body = { json_ignore = ['/ts', '/items/*/id'] }, \
                limit = '1KiB', samples = 3, excerpts = true, latency = false }"
            ),
            Some(CompareSettings {
                status: false,
                headers: vec!["etag".into()],
                body: true,
                ignore: vec![ignore("/ts"), ignore("/items/*/id")],
                limit: 1024,
                samples: 3,
                excerpts: true,
                latency: false,
            })
        );
    }

    #[test]
    fn faults_are_read() {
        let of =
            |text: &str| good(&format!("forward = 'g'\ninject = {text}")).inject.unwrap().faults;
        let plain = FaultSettings { delay: None, abort: None, share: Share::ALL, header: vec![] };
        let delay = |least: u32, most: u32| Some((MS * least, MS * most));
        assert_eq!(
            of("{ delay = '200ms' }"),
            [FaultSettings { delay: delay(200, 200), ..plain.clone() }]
        );
        assert_eq!(
            of(
                "[{ delay = { max = '1s' }, share = '5%' }, { abort = 503, when = { header = { X-Fault = ['on', 'o*'] } } }, \
                { abort = 'reset', delay = { min = '5ms', max = '6ms' } }]"
            ),
            [
                FaultSettings { delay: delay(0, 1000), share: Share(500), ..plain.clone() },
                FaultSettings {
                    abort: Some(Abort::Status(503)),
                    header: vec![("x-fault".into(), vec!["on".into(), "o*".into()])],
                    ..plain.clone()
                },
                FaultSettings { abort: Some(Abort::Reset), delay: delay(5, 6), ..plain },
            ]
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let mirror = |text: &str| format!("forward = 'g'\nmirror = {text}");
        bad(&mirror("{ group = 'none' }"), "expected the name of a group");
        bad(&mirror("{ share = '5%' }"), "expected the name of a group");
        bad(&mirror("{ group = 'shadow', share = '5' }"), "a share");
        bad(&mirror("{ group = 'shadow', body = '2MiB' }"), "a size from");
        bad(&mirror("{ group = 'shadow', timeout = '1h' }"), "a duration from");
        bad(&mirror("{ group = 'shadow', compare = { headers = ['Date'] } }"), "more than one hop");
        bad(
            &mirror("{ group = 'shadow', compare = { body = { json_ignore = ['a'] } } }"),
            "a JSON pointer",
        );
        let nothing = "{ status = false, headers = [], body = false, latency = false }";
        bad(
            &mirror(&format!("{{ group = 'shadow', compare = {nothing} }}")),
            "a comparison of nothing",
        );
        bad(
            "respond = { status = 200 }\nmirror = { group = 'shadow' }",
            "a rule that sends nothing on",
        );
        bad("respond = { status = 200 }\ninject = { abort = 503 }", "a rule that sends nothing on");
        let inject = |text: &str| format!("forward = 'g'\ninject = {text}");
        bad(&inject("{ share = '5%' }"), "a fault that does nothing");
        bad(&inject("[]"), "an empty list");
        bad(&inject("{ abort = 200 }"), "a status from 400 to 599");
        bad(&inject("{ abort = 'drop' }"), "or \"reset\"");
        bad(&inject("{ delay = '2m' }"), "a duration from");
        bad(&inject("{ delay = { min = '2s', max = '1s' } }"), "a min above max");
        bad(&inject("{ abort = 503, when = {} }"), "a table of names and patterns");
    }

    #[test]
    fn a_mirror_of_a_group_in_itself_is_doubtful() {
        let of =
            |text: &str| doubts(&parse(text).unwrap()).map(|p| p.to_string()).collect::<Vec<_>>();
        assert_eq!(of("forward = 'g'\nmirror = { group = 'shadow' }"), [""; 0]);
        let found = of("forward = 'g'\nmirror = { group = 'g' }");
        assert!(found.len() == 1 && found[0].contains("rule.r.mirror.group"), "{found:?}");
    }
}
