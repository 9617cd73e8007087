//! `sticky` of a rule and of a group, and `canary` of a rule: who stays where.
//!
//! Called by the readers of rules and groups, and by those of doubts.

use crate::config::check::{Kind, Seen};
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::{Config, Place, Problem, relayed, syntax};
use crate::sticky::{
    By, CanarySettings, CookieSettings, Force, GroupSettings, SameSite, TargetSettings,
};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[
    ("rule.sticky", OF_RULE),
    ("group.*.sticky", OF_GROUP),
    ("rule.canary", CANARY),
    ("rule.canary.by", BY),
    ("rule.canary.force", FORCE),
];

const OF_RULE: Keys = &["duration", "cookie", "same_site", "cors", "nocache"];
const OF_GROUP: Keys = &["duration", "cookie", "follow", "same_site", "cors", "nocache"];
const CANARY: Keys =
    &["group", "percent", "by", "force", "duration", "cookie", "same_site", "cors", "nocache"];
const BY: Keys = &["header"];
const FORCE: Keys = &["header", "on", "off"];

const COOKIE: &str = "a cookie's name of 1 to 64 letters, digits, \".\", \"_\" or \"-\"";
const FOLLOWED: &str = "the name of a cookie that targets set, such as \"JSESSIONID\"";
const DAY: Duration = Duration::from_secs(24 * 3600);
const LASTS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
/// How long a client's number for a canary lasts.
const CANARY_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_VALUES: usize = 64;

/// `sticky = { ... }` of a group.
pub(super) fn of_group(group: &Table<'_>) -> Option<TargetSettings> {
    let item = group.item("sticky")?;
    let table = item.table(OF_GROUP)?;
    let cookie = cookie(&table, "RINGGATE", &owner(&item), DAY);
    let follow = table.item("follow").and_then(|item| {
        let name = item.parsed(FOLLOWED, |text| match syntax::is_token(text) {
            true => Ok(text.to_owned()),
            false => Wrong::plain(),
        })?;
        if name == cookie.name {
            let expected = "the application's cookie, and cookie = another name for ringgate's";
            item.problem("the same name as ringgate's own", expected, None);
        }
        Some(name)
    });
    Some(TargetSettings { cookie, follow })
}

/// `sticky = { ... }` of a rule.
pub(super) fn of_rule(rule: &Table<'_>) -> Option<GroupSettings> {
    let item = rule.item("sticky")?;
    let table = item.table(OF_RULE)?;
    if forwarded(rule).len() < 2 {
        let hint = Some("clients stay with a target by sticky of its group".to_owned());
        let expected = "forward with several groups, of which clients stay with one";
        item.problem("a rule without several groups", expected, hint);
    }
    Some(GroupSettings { cookie: cookie(&table, "RINGGATE-GROUP", &owner(&item), DAY) })
}

/// `canary = { ... }` of a rule.
pub(super) fn canary(rule: &Table<'_>, seen: &mut Seen) -> Option<CanarySettings> {
    const GROUP: &str = "the name of a group";
    let item = rule.item("canary")?;
    let table = item.table(CANARY)?;
    let forwarded = forwarded(rule);
    if forwarded.is_empty() {
        item.problem("a rule that does not forward", "forward for the other clients", None);
    }
    let group = table.need("group", GROUP).and_then(|item| {
        let name = item.parsed(GROUP, syntax::name)?;
        seen.uses(Kind::Group, &name, &item);
        if forwarded.contains(&name) {
            let expected = "another group than those of forward, which all other clients go to";
            item.problem("a group of forward", expected, None);
        }
        Some(name)
    });
    let share = table.need("percent", "a share of the clients").and_then(|item| item.percent());
    let cookie = cookie(&table, "RINGGATE-CANARY", &owner(&item), CANARY_LASTS);
    let by = match table.item("by") {
        None => Some(By::Cookie(cookie)),
        Some(item) => by(&item, cookie),
    };
    if !matches!(by, Some(By::Cookie(_)) | None) {
        let wrong = ["duration", "cookie", "same_site", "cors", "nocache"];
        for item in wrong.iter().filter_map(|key| table.item(key)) {
            item.problem("a key of a cookie", "by = \"cookie\" beside it", None);
        }
    }
    let force = table.item("force").and_then(|item| force(&item));
    Some(CanarySettings { group: group?, share: share?, by: by?, force })
}

fn by(item: &Item<'_>, cookie: CookieSettings) -> Option<By> {
    if !item.is_table() {
        return item.choice(&[("cookie", By::Cookie(cookie)), ("client_ip", By::ClientIp)]);
    }
    let table = item.table(BY)?;
    header(&table).map(By::Header)
}

fn force(item: &Item<'_>) -> Option<Force> {
    const VALUE: &str = "a value of that field, such as \"1\"";
    let table = item.table(FORCE)?;
    let values = |key: &str, usual: &[&str]| -> Vec<String> {
        let Some(item) = table.item(key) else {
            return usual.iter().map(|value| (*value).to_owned()).collect();
        };
        let items = if item.is_array() { item.array(VALUE) } else { vec![item.clone()] };
        if items.len() > MOST_VALUES {
            let found = format!("{} values", items.len());
            item.problem(found, format!("at most {MOST_VALUES}"), None);
        }
        let value = |text: &str| match !text.is_empty() && syntax::value_pattern(text).is_ok() {
            true => Ok(text.to_owned()),
            false => Wrong::plain(),
        };
        items.iter().filter_map(|item| item.parsed(VALUE, value)).collect()
    };
    let (on, off) = (values("on", &["1", "true"]), values("off", &["0", "false"]));
    if let Some(both) = on.iter().find(|on| off.iter().any(|off| off.eq_ignore_ascii_case(on))) {
        item.problem(format!("{both:?} in on and in off"), "each value in one of them", None);
    }
    Some(Force { header: header(&table)?, on, off })
}

fn header(table: &Table<'_>) -> Option<String> {
    const HEADER: &str = "the name of a field, such as \"x-user\"";
    table.need("header", HEADER)?.parsed(HEADER, |text| match syntax::is_token(text) {
        true => Ok(text.to_ascii_lowercase()),
        false => Wrong::plain(),
    })
}

// The keys of a cookie, wherever they stand. Each rule and group has one of its own, unless the file says otherwise.
fn cookie(table: &Table<'_>, prefix: &str, owner: &str, lasts: Duration) -> CookieSettings {
    let mut cookie =
        CookieSettings { name: format!("{prefix}-{owner}"), duration: lasts, ..Default::default() };
    let name = table.item("cookie").and_then(|item| item.parsed(COOKIE, name));
    set(&mut cookie.name, name);
    set(&mut cookie.duration, table.item("duration").and_then(|item| item.long_duration(LASTS)));
    let words = [("lax", SameSite::Lax), ("strict", SameSite::Strict), ("none", SameSite::None)];
    set(&mut cookie.same_site, table.item("same_site").and_then(|item| item.choice(&words)));
    set(&mut cookie.cors, table.item("cors").and_then(|item| item.boolean()));
    set(&mut cookie.nocache, table.item("nocache").and_then(|item| item.boolean()));
    cookie
}

fn name(text: &str) -> Result<String, Wrong> {
    if text.starts_with("__") {
        // Browsers take such names over TLS only, and the same cookie is set without.
        return Wrong::hint("without __Host- or __Secure-");
    }
    syntax::name(text)
}

// `rule.NAME.sticky` and `group.NAME.sticky` are of NAME.
fn owner(item: &Item<'_>) -> String {
    let path = item.path.split_once('.').map_or("", |(_, rest)| rest);
    path.rsplit_once('.').map_or(path, |(owner, _)| owner).to_owned()
}

// The names in `forward`, as they are written.
fn forwarded(rule: &Table<'_>) -> Vec<String> {
    let Some(item) = rule.item("forward") else { return Vec::new() };
    let items = if item.is_array() { item.array("") } else { vec![item] };
    let name = |item: &Item<'_>| item.peek("group").or(item.peek_text()).map(str::to_owned);
    items.iter().map(|item| name(item).unwrap_or_default()).collect()
}

/// Whether any cookie is sealed with a key of this process alone, since the file has no secrets.
pub fn is_sealed_alone(config: &Config) -> bool {
    config.server.secrets.is_empty() && cookies(config).next().is_some()
}

/// Every cookie that keeps clients where they are: its name, whose it is, and where that stands.
fn cookies(config: &Config) -> impl Iterator<Item = (&str, String, &Place)> {
    let groups = config.groups.iter().filter_map(|group| {
        let sticky = group.traffic.sticky.as_ref()?;
        Some((&*sticky.cookie.name, format!("group.{}.sticky", group.name), &group.place))
    });
    let rules = config.rules.iter().flat_map(|rule| {
        let sticky = rule.traffic.sticky.as_ref().map(|sticky| (&sticky.cookie, "sticky"));
        let canary = rule.traffic.canary.as_ref().and_then(|canary| match &canary.by {
            By::Cookie(cookie) => Some((cookie, "canary")),
            By::ClientIp | By::Header(_) => None,
        });
        let both = [sticky, canary].into_iter().flatten();
        both.map(|(cookie, key)| (&*cookie.name, format!("rule.{}.{key}", rule.name), &rule.place))
    });
    groups.chain(rules)
}

/// What the file says of clients that stay that can hardly be meant.
pub(in crate::config) fn doubts(config: &Config) -> Vec<Problem> {
    let mut first: HashMap<&str, String> = HashMap::new();
    let mut problems = Vec::new();
    for (name, key, place) in cookies(config) {
        let Some(before) = first.get(name) else {
            first.insert(name, key);
            continue;
        };
        problems.push(Problem {
            place: place.clone(),
            key: format!("{key}.cookie"),
            found: format!("{name:?}, which is also the cookie of {before}"),
            expected:
                "a name of its own, unless they serve different hosts: a browser keeps one of them"
                    .to_owned(),
            hint: None,
        });
    }
    problems.extend(without_cookies(config));
    problems
}

// Groups that get connections without requests, which have no cookies.
fn without_cookies(config: &Config) -> impl Iterator<Item = Problem> {
    relayed::ways(config).filter_map(|(l, group)| {
        group.traffic.sticky.as_ref()?;
        Some(Problem {
            place: group.place.clone(),
            key: format!("group.{}.sticky", group.name),
            found: format!(
                "a cookie for the connections of listener {:?}, which have none",
                l.name
            ),
            expected: "algorithm = \"ip_hash\" in a group of their own".to_owned(),
            hint: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "[[listener]]\nname = 'l'\nbind = '127.0.0.1:1'\n[group.a]\ntargets = ['a:1']\n[group.b]\ntargets = ['b:1']\n[group.c]\ntargets = ['c:1']\n";

    fn parse(text: &str) -> Result<Config, String> {
        let parsed = crate::config::parse(&format!("{BASE}{text}"), "a.toml", &|_| None);
        parsed.map_err(|problems| problems.to_string())
    }

    #[track_caller]
    fn wrong(text: &str, expected: &str) {
        let problems = parse(text).expect_err(text);
        assert!(problems.contains(expected), "{text}\n{problems}");
    }

    fn rule(more: &str) -> String {
        format!("[[rule]]\nname = 'r'\n{more}\n")
    }

    const BOTH: &str = "forward = [{ group = 'a', weight = 9 }, { group = 'b', weight = 1 }]\n";

    #[test]
    fn what_is_not_said_is_as_documented() {
        let group = |keys: &str| {
            let config = parse(&format!("[group.web]\ntargets = ['a:1']\nsticky = {{ {keys} }}\n"));
            config.unwrap().groups.last().unwrap().traffic.sticky.clone().unwrap()
        };
        let usual = CookieSettings {
            name: "RINGGATE-web".to_owned(),
            duration: DAY,
            same_site: SameSite::Lax,
            cors: false,
            nocache: true,
        };
        assert_eq!(group(""), TargetSettings { cookie: usual.clone(), follow: None });
        let given = group(
            "duration = '7d', cookie = 'SRV', follow = 'JSESSIONID', same_site = 'none', cors = true, nocache = false",
        );
        let cookie = CookieSettings {
            name: "SRV".to_owned(),
            duration: 7 * DAY,
            same_site: SameSite::None,
            cors: true,
            nocache: false,
        };
        assert_eq!(given, TargetSettings { cookie, follow: Some("JSESSIONID".to_owned()) });
        let config = parse(&rule(&format!("{BOTH}sticky = {{ duration = '90s' }}"))).unwrap();
        let name = "RINGGATE-GROUP-r".to_owned();
        let cookie = CookieSettings { name, duration: Duration::from_secs(90), ..usual.clone() };
        assert_eq!(config.rules[0].traffic.sticky, Some(GroupSettings { cookie }));
        let canary = |keys: &str| {
            let text = rule(&format!("forward = 'a'\ncanary = {{ group = 'c', {keys} }}"));
            parse(&text).unwrap().rules[0].traffic.canary.clone().unwrap()
        };
        let drawn = canary("percent = 2.5");
        let cookie =
            CookieSettings { name: "RINGGATE-CANARY-r".to_owned(), duration: 30 * DAY, ..usual };
        assert_eq!((drawn.share, drawn.by, drawn.force), (250, By::Cookie(cookie), None));
        let all = canary(
            "percent = 100, by = { header = 'X-User' }, force = { header = 'X-Canary', off = 'never' }",
        );
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let force = Force {
            header: "x-canary".to_owned(),
            on: words(&["1", "true"]),
            off: words(&["never"]),
        };
        assert_eq!((all.share, all.by), (10_000, By::Header("x-user".to_owned())));
        assert_eq!(all.force, Some(force));
        for (percent, share) in [("0", 0), ("0.01", 1), ("'2.5%'", 250), ("99.99", 9999)] {
            assert_eq!(canary(&format!("percent = {percent}, by = 'client_ip'")).share, share);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let group = |keys: &str| format!("[group.web]\ntargets = ['a:1']\nsticky = {{ {keys} }}\n");
        wrong(&group("duration = '500ms'"), "a duration from 1s to 8760h");
        wrong(&group("duration = '366d'"), "a duration from 1s to 8760h");
        wrong(&group("duration = 60"), "did you mean \"60s\"?");
        wrong(&group("cookie = 'a b'"), "a cookie's name of 1 to 64 letters");
        wrong(&group("cookie = '__Host-a'"), "without __Host-");
        wrong(&group("follow = 'a;b'"), "a cookie that targets set");
        wrong(&group("cookie = 'A', follow = 'A'"), "the same name as ringgate's own");
        wrong(&group("same_site = 'yes'"), "one of lax, strict, none");
        wrong(&group("follows = 'A'"), "the unknown key");
        let one = "a rule without several groups";
        wrong(&rule("forward = 'a'\nsticky = {}"), one);
        wrong(&rule("forward = [{ group = 'a' }]\nsticky = {}"), one);
        wrong(&rule("respond = { status = 200 }\nsticky = {}"), one);
        wrong(&rule(&format!("{BOTH}sticky = {{ follow = 'A' }}")), "the unknown key");
        let canary = |keys: &str| rule(&format!("{BOTH}canary = {{ {keys} }}"));
        wrong(&canary("percent = 1"), "canary.group");
        wrong(&canary("group = 'c'"), "canary.percent");
        wrong(&canary("group = 'd', percent = 1"), "the name of a group");
        wrong(&canary("group = 'b', percent = 1"), "another group than those of forward");
        for percent in ["101", "-1", "2.555", "'x'", "true", "1e1", "'100.01%'"] {
            wrong(&canary(&format!("group = 'c', percent = {percent}")), "canary.percent");
        }
        wrong(&canary("group = 'c', percent = 1, by = 'ip'"), "one of cookie, client_ip");
        wrong(&canary("group = 'c', percent = 1, by = {}"), "canary.by.header");
        wrong(
            &canary("group = 'c', percent = 1, by = 'client_ip', duration = '1h'"),
            "by = \"cookie\" beside it",
        );
        wrong(&canary("group = 'c', percent = 1, force = { on = '1' }"), "force.header");
        wrong(
            &canary("group = 'c', percent = 1, force = { header = 'x', on = 'A', off = 'a' }"),
            "in on and in off",
        );
        let answer = "respond = { status = 200 }\ncanary = { group = 'c', percent = 1 }";
        wrong(&rule(answer), "a rule that does not forward");
        let short = "[server]\nsecrets = ['a short secret']\n";
        wrong(short, "14 octets");
        assert!(!parse(short).unwrap_err().contains("a short secret"));
    }

    #[test]
    fn what_is_hardly_meant_is_doubted() {
        let doubts = |text: &str| -> Vec<String> {
            doubts(&parse(text).unwrap()).iter().map(Problem::to_string).collect()
        };
        let two = |one: &str, other: &str| {
            format!(
                "[group.x]\ntargets = ['a:1']\nsticky = {{ {one} }}\n[group.y]\ntargets = ['a:1']\nsticky = {{ {other} }}\n"
            )
        };
        assert!(doubts(&two("", "")).is_empty());
        let same = doubts(&two("cookie = 'A'", "cookie = 'A'"));
        assert!(same.len() == 1 && same[0].contains("group.x.sticky"), "{same:?}");
        let tcp = "[[listener]]\nname = 't'\nbind = '127.0.0.1:2'\nprotocol = 'tcp'\ndefault = { forward = 'x' }\n";
        let tcp = doubts(&(two("", "") + tcp));
        assert!(tcp.len() == 1 && tcp[0].contains("which have none"), "{tcp:?}");
        let cached = rule("forward = 'a'\ncanary = { group = 'c', percent = 1 }\ncache = true");
        assert!(doubts(&cached).is_empty(), "what is stored is told apart by group");
        assert!(is_sealed_alone(&parse(&two("", "")).unwrap()));
        let secret = "[server]\nsecrets = '0123456789abcdef0123456789abcdef'\n";
        assert!(!is_sealed_alone(&parse(&(secret.to_owned() + &two("", ""))).unwrap()));
        assert!(!is_sealed_alone(&parse("").unwrap()));
    }
}
