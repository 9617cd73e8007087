//! `jwt` of a policy: its keys, and what may be written there. Called by the policies' reader.
//!
//! One issuer is written flat, several under `issuers`. What is in files is for the policy; here everything is judged that can be
//! without them: URLs, algorithms that do not fit, issuers that are named twice.

use crate::config::check::Seen;
use crate::config::item::{Item, Table, set};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::config::target_tls::material;
use crate::policy::jwt::settings::{self, Carrier, Hidden, Issuer, Settings};
use crate::policy::jwt::{Algorithm, Algorithms, KeySet, Location};
use std::path::PathBuf;
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] =
    &[("policy.*.jwt", KEYS), ("policy.*.jwt.issuers", ISSUER)];

const KEYS: Keys = &[
    "issuer",
    "audience",
    "any_audience",
    "algorithms",
    "jwks_url",
    "jwks_file",
    "jwks",
    "secret",
    "secret_file",
    "ca",
    "allow_http",
    "issuers",
    "refresh",
    "max_stale",
    "header",
    "scheme",
    "cookie",
    "query",
    "claims",
    "scopes",
    "claims_to_headers",
    "consumer",
    "typ",
    "optional",
    "forward",
    "require_exp",
    "leeway",
    "max_age",
    "remember",
    "remember_for",
    "failures",
];

const ISSUER: Keys = &[
    "issuer",
    "audience",
    "any_audience",
    "algorithms",
    "jwks_url",
    "jwks_file",
    "jwks",
    "secret",
    "secret_file",
    "ca",
    "allow_http",
];

/// The keys of [`ISSUER`] that say where keys are; without one, the issuer is asked.
const PLACES: Keys = &["jwks_url", "jwks_file", "jwks", "secret", "secret_file"];

const LONGEST: usize = 2048;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// `jwt = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let times = Times::read(&table);
    let issuers = issuers(item, &table, times)?;
    let carriers = carriers(&table);
    let mut settings = Settings {
        issuers,
        carriers,
        claims: claims(&table),
        scopes: texts(&table, "scopes", SCOPE, is_scope),
        claims_to_headers: claims_to_headers(&table),
        consumer: "sub".into(),
        types: texts(&table, "typ", "a type such as \"at+jwt\"", |text| !text.is_empty()),
        optional: false,
        forward: false,
        require_exp: true,
        leeway: 60 * SECOND,
        max_age: table.item("max_age").and_then(|item| item.duration(SECOND..=365 * DAY)),
        remember: 16_384,
        remember_for: 60 * SECOND,
        failures: 60,
    };
    let flag = |key: &str| table.item(key).and_then(|item| item.boolean());
    set(&mut settings.optional, flag("optional"));
    set(&mut settings.forward, flag("forward"));
    set(&mut settings.require_exp, flag("require_exp"));
    let duration = |key: &str, from, to| table.item(key).and_then(|item| item.duration(from..=to));
    set(&mut settings.leeway, duration("leeway", Duration::ZERO, 60 * SECOND));
    set(&mut settings.remember_for, duration("remember_for", SECOND, 600 * SECOND));
    let number = |key: &str, most| table.item(key).and_then(|item| item.integer(0..=most));
    let remember = number("remember", 1_000_000).and_then(|most| usize::try_from(most).ok());
    set(&mut settings.remember, remember);
    let failures = number("failures", 1_000_000).and_then(|most| u32::try_from(most).ok());
    set(&mut settings.failures, failures);
    set(&mut settings.consumer, table.item("consumer").and_then(|item| claim_name(&item)));
    Some(settings)
}

/// How often keys are fetched, and how long they last.
#[derive(Clone, Copy)]
struct Times {
    refresh: Duration,
    max_stale: Duration,
}

impl Times {
    fn read(table: &Table<'_>) -> Times {
        let mut times = Times { refresh: 300 * SECOND, max_stale: DAY };
        let duration = |key: &str, from, to| table.item(key).and_then(|i| i.duration(from..=to));
        set(&mut times.refresh, duration("refresh", SECOND, DAY));
        set(&mut times.max_stale, duration("max_stale", SECOND, 365 * DAY));
        if let Some(item) = table.item("max_stale").filter(|_| times.max_stale < times.refresh) {
            let expected = "max_stale no shorter than refresh";
            item.problem("keys that are too old before they are fetched again", expected, None);
        }
        times
    }
}

// ---------------------------------------------------------------- issuers

fn issuers(item: &Item<'_>, table: &Table<'_>, times: Times) -> Option<Vec<Issuer>> {
    let Some(several) = table.item("issuers") else {
        return Some(vec![issuer(item, table, times)?]);
    };
    if let Some((key, place)) = table.given().find(|(key, _)| ISSUER.contains(key)) {
        let found = format!("{key} beside issuers");
        table.problem_at(place, several.path.clone(), found, "either one issuer or a list");
    }
    let items = several.array("a list of tables, one for each issuer");
    if items.is_empty() && several.is_array() {
        several.problem("an empty list", "at least one issuer", None);
    }
    let mut all: Vec<Issuer> = Vec::new();
    for item in &items {
        let Some(issuer) = item.table(ISSUER).and_then(|table| issuer(item, &table, times)) else {
            continue;
        };
        let twice = issuer.names.iter().find(|name| all.iter().any(|i| i.names.contains(name)));
        if let Some(twice) = twice {
            let expected = "each issuer once: whose keys verify a token must be clear";
            item.problem(format!("{twice:?} twice"), expected, None);
        }
        all.push(issuer);
    }
    (!all.is_empty()).then_some(all)
}

fn issuer(item: &Item<'_>, table: &Table<'_>, times: Times) -> Option<Issuer> {
    const NAME: &str = "what `iss` of its tokens is, such as \"https://id.example.com/\"";
    let names = table.need("issuer", NAME).map(|item| each(&item, NAME, |text| !text.is_empty()));
    let audience = audience(item, table);
    let keys = keys(item, table, names.as_deref(), times);
    let names = names.filter(|names| !names.is_empty())?;
    let keys = keys?;
    let algorithms = algorithms(table, &keys)?;
    if let settings::Keys::Secret(Hidden(secret)) = &keys
        && let Err(found) = KeySet::of_secret(secret, algorithms)
    {
        let expected = "a secret as long as the hash, or longer (RFC 7518 section 3.2)";
        let item = table.item("secret").unwrap_or_else(|| item.clone());
        item.problem(found, expected, None);
        return None;
    }
    Some(Issuer { names, audience: audience?, algorithms, keys })
}

fn audience(item: &Item<'_>, table: &Table<'_>) -> Option<Vec<Box<str>>> {
    const KIND: &str = "whom tokens are for: what `aud` must have, such as \"api\"";
    let any = table.item("any_audience").and_then(|item| item.boolean()).unwrap_or(false);
    match table.item("audience") {
        Some(item) if any => {
            item.problem("audience beside any_audience = true", "one of them", None);
            None
        }
        Some(item) => {
            let audience = each(&item, KIND, |text| !text.is_empty());
            (!audience.is_empty()).then_some(audience)
        }
        None if any => Some(Vec::new()),
        None => {
            let hint = "any_audience = true takes tokens that are for somebody else".to_owned();
            item.problem("no audience", KIND, Some(hint));
            None
        }
    }
}

fn keys(
    item: &Item<'_>,
    table: &Table<'_>,
    names: Option<&[Box<str>]>,
    times: Times,
) -> Option<settings::Keys> {
    let given: Vec<&str> = PLACES.iter().copied().filter(|key| table.item(key).is_some()).collect();
    if given.len() > 1 {
        // Public keys beside a secret would let anybody sign with a public key (hazard AUTH-02).
        let expected = format!("one of {}, or none to ask the issuer", PLACES.join(", "));
        for item in given.iter().filter_map(|key| table.item(key)) {
            item.problem(given.join(" and "), &expected, None);
        }
        return None;
    }
    let allow_http = table.item("allow_http").and_then(|item| item.boolean()).unwrap_or(false);
    let ca = table.item("ca");
    let one = given.first().and_then(|key| Some((*key, table.item(key)?)));
    if !matches!(one, None | Some(("jwks_url", _))) {
        let beside = ["ca", "allow_http"].into_iter().find_map(|key| table.item(key));
        if let Some(beside) = beside {
            beside.problem("it beside keys that are not fetched", "it beside jwks_url", None);
        }
    }
    let Times { refresh, max_stale } = times;
    let fetched = |location| {
        let ca = match &ca {
            Some(item) => Some(material(item)?.path),
            None => None,
        };
        Some(settings::Keys::Fetched { location, ca, allow_http, refresh, max_stale })
    };
    match one {
        None => match names? {
            [only] => {
                let place = table.item("issuer").unwrap_or_else(|| item.clone());
                let kind = "an https URL where no keys are given, so that the issuer can be asked";
                if url(only, allow_http).is_err() {
                    let hint = format!("one of {} says where its keys are", PLACES.join(", "));
                    place.problem(format!("{only:?}"), kind, Some(hint));
                    return None;
                }
                fetched(Location::Issuer(only.clone()))
            }
            _ => {
                item.problem("several names and no keys", "jwks_url for them", None);
                None
            }
        },
        Some(("jwks_url", item)) => {
            let location = item.parsed(URL, |text| url(text, allow_http))?;
            fetched(Location::Keys(location))
        }
        Some(("jwks_file", item)) => path(&item).map(settings::Keys::File),
        Some(("secret_file", item)) => path(&item).map(settings::Keys::SecretFile),
        Some(("jwks", item)) => {
            const SET: &str = "a JWK Set as JSON: {\"keys\":[...]}";
            let text = item.text(SET)?;
            match KeySet::of_jwks(text.as_bytes()) {
                Ok(_) => Some(settings::Keys::Inline((*text).into())),
                Err(wrong) => {
                    // By mistake it may hold secrets or private keys.
                    item.problem("a text that is none (not repeated here)", SET, Some(wrong));
                    None
                }
            }
        }
        Some((_, item)) => {
            let secret = item.text("a secret of at least 32 octets")?;
            Some(settings::Keys::Secret(Hidden(secret.as_bytes().into())))
        }
    }
}

pub(super) fn path(item: &Item<'_>) -> Option<PathBuf> {
    Some(material(item)?.path)
}

pub(super) const URL: &str = "an https URL without a user and a fragment; http only for this machine, or with \
                   allow_http = true";

pub(super) fn url(text: &str, allow_http: bool) -> Result<Box<str>, Wrong> {
    let uri = text.parse::<::http::Uri>().or_else(|_| Wrong::plain())?;
    let host = uri.host().unwrap_or_default();
    let plain = allow_http || is_loopback(host);
    let fits = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => plain,
        _ => false,
    };
    let user = uri.authority().is_none_or(|authority| authority.as_str().contains('@'));
    let fits = fits && !host.is_empty() && !user && !text.contains('#') && text.len() <= LONGEST;
    if fits { Ok(text.into()) } else { Wrong::plain() }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn algorithms(table: &Table<'_>, keys: &settings::Keys) -> Option<Algorithms> {
    let secret = matches!(keys, settings::Keys::Secret(_) | settings::Keys::SecretFile(_));
    let may = if secret { Algorithms::SYMMETRIC } else { Algorithms::ASYMMETRIC };
    let Some(item) = table.item("algorithms") else {
        return Some(if secret { Algorithms::NONE.and(Algorithm::Hs256) } else { may });
    };
    let names: Vec<&str> = may.iter().map(Algorithm::name).collect();
    let kind = match secret {
        true => format!("algorithms of a secret: {}", names.join(", ")),
        false => format!("algorithms of public keys: {}", names.join(", ")),
    };
    let items = item.one_or_more(&kind);
    let read = items.iter().filter_map(|item| {
        item.parsed(&kind, |text| {
            let known = Algorithm::of(text).filter(|algorithm| may.has(*algorithm));
            known.map_or_else(Wrong::plain, Ok)
        })
    });
    let read: Algorithms = read.collect();
    (!read.is_empty()).then_some(read)
}

// ---------------------------------------------------------------- the token and its claims

pub(super) fn carriers(table: &Table<'_>) -> Vec<Carrier> {
    const SCHEME: &str = "a scheme such as \"Bearer\", or \"\" for none";
    let header = table.item("header").and_then(|item| item.parsed(FIELD, field));
    let token = |key: &str, kind: &str| {
        let fits =
            |text: &str| if syntax::is_token(text) { Ok(text.into()) } else { Wrong::plain() };
        table.item(key).and_then(|item| item.parsed(kind, fits))
    };
    let scheme: Option<Box<str>> = table.item("scheme").and_then(|item| {
        let fits = |text: &str| text.is_empty() || syntax::is_token(text);
        item.parsed(SCHEME, |text| if fits(text) { Ok(text.into()) } else { Wrong::plain() })
    });
    let cookie: Option<Box<str>> = token("cookie", "the name of a cookie");
    let query: Option<Box<str>> = token("query", "the name of a parameter of the query");
    let elsewhere = cookie.is_some() || query.is_some();
    let header = match header {
        Some(header) => Some(header),
        None if elsewhere => None,
        None => Some("authorization".into()),
    };
    let header = header.map(|name: Box<str>| {
        let usual = if &*name == "authorization" { "Bearer" } else { "" };
        Carrier::Header { scheme: scheme.clone().unwrap_or_else(|| usual.into()), name }
    });
    if let (None, Some(item)) = (&header, table.item("scheme")) {
        item.problem("a scheme where no header is read", "header beside it", None);
    }
    let cookie = cookie.map(Carrier::Cookie);
    header.into_iter().chain(cookie).chain(query.map(Carrier::Query)).collect()
}

pub(super) const FIELD: &str =
    "the name of a field that no hop and no framing depends on, such as \"x-user\"";

/// A field that may be taken out of requests or put into them.
pub(super) fn field(text: &str) -> Result<Box<str>, Wrong> {
    const OTHERS: &[&str] = &[
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "expect",
        "via",
        "cookie",
    ];
    let name = text.to_ascii_lowercase();
    let fits = syntax::is_token(&name) && !OTHERS.contains(&name.as_str());
    if fits { Ok(name.into()) } else { Wrong::plain() }
}

const CLAIM: &str = "the name of a claim, such as \"sub\" or \"realm_access.roles\"";

pub(super) fn claim_name(item: &Item<'_>) -> Option<Box<str>> {
    item.parsed(CLAIM, |text| if is_claim(text) { Ok(text.into()) } else { Wrong::plain() })
}

fn is_claim(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}

pub(super) fn claims(table: &Table<'_>) -> Vec<(Box<str>, Vec<Box<str>>)> {
    const KIND: &str = "what the claim may be, such as \"admin\"";
    let Some(item) = table.item("claims") else { return Vec::new() };
    let entries = item.entries("a table of claims, each with what it may be");
    let read = |(name, item): (&str, Item<'_>)| {
        if !is_claim(name) {
            item.problem(format!("{name:?}"), CLAIM, None);
        }
        (Box::from(name), each(&item, KIND, |_| true))
    };
    entries.into_iter().map(read).collect()
}

pub(super) const SCOPE: &str = "a scope of printable ASCII without spaces, quotes and backslashes";

/// RFC 6749 section 3.3.
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

pub(super) fn claims_to_headers(table: &Table<'_>) -> Vec<(Box<str>, Box<str>)> {
    let Some(item) = table.item("claims_to_headers") else { return Vec::new() };
    let entries = item.entries("a table of fields, each with the claim that it holds");
    let mut all: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, item) in entries {
        let Ok(field) = field(name) else {
            item.problem(format!("the field {name:?}"), FIELD, None);
            continue;
        };
        if all.iter().any(|(known, _)| *known == field) {
            item.problem(format!("{field:?} twice"), "each field once", None);
        }
        if let Some(claim) = claim_name(&item) {
            all.push((field, claim));
        }
    }
    all
}

pub(super) fn texts(
    table: &Table<'_>,
    key: &str,
    kind: &str,
    fits: impl Fn(&str) -> bool,
) -> Vec<Box<str>> {
    table.item(key).map(|item| each(&item, kind, fits)).unwrap_or_default()
}

/// One text or several.
pub(super) fn each(item: &Item<'_>, kind: &str, fits: impl Fn(&str) -> bool) -> Vec<Box<str>> {
    let items = item.one_or_more(kind);
    let read = |item: &Item<'_>| {
        item.parsed(kind, |text| {
            let fits = fits(text) && text.len() <= LONGEST;
            if fits { Ok(Box::from(text)) } else { Wrong::plain() }
        })
    };
    items.iter().filter_map(read).collect()
}
