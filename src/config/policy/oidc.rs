//! `oidc` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::base::sealed::Secret;
use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::secrets::{SECRET, secrets};
use crate::config::{Config, Problem, When, syntax, target_tls};
use crate::policy::Settings as Kind;
use crate::policy::jwt::{Algorithm, Algorithms};
use crate::policy::oidc::{ClientAuth, Given, OnUnauthenticated, Settings, text};
use std::time::Duration;

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.oidc", KEYS)];

const KEYS: Keys = &[
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "end_session_endpoint",
    "jwks_url",
    "hosts",
    "client_id",
    "client_secret",
    "client_auth",
    "scopes",
    "parameters",
    "on_unauthenticated",
    "origin",
    "callback_path",
    "logout_path",
    "after_logout",
    "keys_path",
    "session_timeout",
    "idle_timeout",
    "login_timeout",
    "cookie",
    "secret",
    "access_token",
    "userinfo",
    "algorithms",
    "leeway",
    "timeout",
    "ca",
    "signing_key",
];

const URL: &str = "an https URL such as \"https://id.example.com/\"; http only for this machine";
const ORIGIN: &str = "an origin such as \"https://www.example.com\", without a path";
const COOKIE: &str = "1 to 64 letters, digits, \".\", \"_\" or \"-\", without __Host- or __Secure-";
const PARAMETER: &str = "a parameter such as \"prompt=select_account\"";
const SCOPE: &str = "a scope (RFC 6749 section 3.3)";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// `oidc = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let url = |key: &str| table.item(key).and_then(|item| item.parsed(URL, safe_url));
    let issuer = table.need("issuer", URL).and_then(|item| item.parsed(URL, issuer));
    let client_id = table
        .need("client_id", "the name that the provider knows this site by")
        .and_then(|item| item.parsed("1 to 256 visible characters", visible));
    let client_secret = table.item("client_secret").and_then(|item| client_secret(&item));
    let secrets = table.need("secret", SECRET).and_then(|item| secrets(&item));
    let paths = paths(&table);
    let words = [("basic", ClientAuth::Basic), ("post", ClientAuth::Post)];
    let actions = [
        ("login", OnUnauthenticated::Login),
        ("allow", OnUnauthenticated::Allow),
        ("deny", OnUnauthenticated::Deny),
    ];
    let between = |key: &str, least: Duration, most: Duration, usual: Duration| {
        table.item(key).and_then(|item| duration(&item, least, most)).unwrap_or(usual)
    };
    let yes = |key: &str| table.item(key).and_then(|item| item.boolean()).unwrap_or(true);
    let file = |key: &str| table.item(key).and_then(|i| Some(target_tls::material(&i)?.path));
    let [callback_path, logout_path, keys_path] = paths;
    let settings = Settings {
        endpoints: Given {
            authorization: url("authorization_endpoint"),
            token: url("token_endpoint"),
            userinfo: url("userinfo_endpoint"),
            end_session: url("end_session_endpoint"),
            jwks: url("jwks_url"),
        },
        hosts: list(&table, "hosts", syntax::HOST, |text| match text.contains(['*', '?']) {
            true => Wrong::plain(),
            false => syntax::host_pattern(text),
        }),
        client_auth: table.item("client_auth").and_then(|i| i.choice(&words)).unwrap_or_default(),
        scopes: scopes(&table),
        parameters: parameters(&table),
        on_unauthenticated: table
            .item("on_unauthenticated")
            .and_then(|item| item.choice(&actions))
            .unwrap_or_default(),
        origin: table.item("origin").and_then(|item| item.parsed(ORIGIN, origin)),
        callback_path,
        logout_path,
        keys_path,
        after_logout: table.item("after_logout").and_then(|item| item.parsed(PATH, path)),
        session_timeout: between("session_timeout", MINUTE, YEAR, 7 * DAY),
        idle_timeout: idle(&table),
        login_timeout: between("login_timeout", MINUTE, HOUR, 10 * MINUTE),
        cookie: cookie(item, &table),
        access_token: yes("access_token"),
        userinfo: yes("userinfo"),
        algorithms: algorithms(&table),
        leeway: between("leeway", Duration::ZERO, 5 * MINUTE, MINUTE / 2),
        timeout: between("timeout", Duration::from_millis(100), MINUTE / 2, Duration::from_secs(5)),
        ca: file("ca"),
        signing_key: file("signing_key"),
        issuer: issuer?,
        client_id: client_id?,
        client_secret,
        secrets: secrets?,
    };
    Some(settings)
}

// RFC 6749 appendix A.2. Again, what was found is not said.
fn client_secret(item: &Item<'_>) -> Option<Secret> {
    const KIND: &str = "1 to 512 characters of ASCII, without control characters";
    let text = item.text(KIND)?;
    let fits = (1..=512).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !fits {
        item.problem("something else", KIND, None);
    }
    fits.then(|| Secret::new(text.as_bytes()))
}

const PATH: &str = "a path such as \"/oauth2/callback\", as it is routed, without a query";

fn paths(table: &Table<'_>) -> [String; 3] {
    let usual = [
        ("callback_path", "/oauth2/callback"),
        ("logout_path", "/oauth2/logout"),
        ("keys_path", "/.well-known/ringgate/jwks"),
    ];
    let read = usual.map(|(key, usual)| {
        let read = table.item(key).and_then(|item| item.parsed(PATH, path));
        read.unwrap_or_else(|| usual.to_owned())
    });
    let [a, b, c] = &read;
    if a == b || a == c || b == c {
        table.problem(table.path.clone(), "one path for two purposes", "three different paths");
    }
    read
}

fn path(text: &str) -> Result<String, Wrong> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let mut canonical = Vec::new();
    let fits = text.len() <= 256
        && text.bytes().all(plain)
        && crate::http::path::canonical(text.as_bytes(), Default::default(), &mut canonical)
            == Ok(false);
    if fits { Ok(text.to_owned()) } else { Wrong::plain() }
}

fn safe_url(text: &str) -> Result<String, Wrong> {
    match text::address(text) {
        Some(address) if address.is_safe() => Ok(text.to_owned()),
        Some(_) => Wrong::hint("secrets are not sent without TLS"),
        None => Wrong::plain(),
    }
}

fn issuer(text: &str) -> Result<String, Wrong> {
    if text.contains('?') {
        return Wrong::hint("an issuer has no query (OpenID Connect Discovery 1.0 section 3)");
    }
    if text.contains("/.well-known/") {
        return Wrong::hint("the issuer itself, without /.well-known/openid-configuration");
    }
    safe_url(text)
}

fn origin(text: &str) -> Result<String, Wrong> {
    let address = text::address(text).filter(|address| address.rest.is_empty());
    if address.is_some() { Ok(text.to_owned()) } else { Wrong::plain() }
}

fn visible(text: &str) -> Result<String, Wrong> {
    let fits = (1..=512).contains(&text.len()) && syntax::is_visible(text);
    if fits { Ok(text.to_owned()) } else { Wrong::plain() }
}

fn list(
    table: &Table<'_>,
    key: &str,
    kind: &str,
    parse: impl Fn(&str) -> Result<String, Wrong>,
) -> Vec<String> {
    let items = table.item(key).map(|item| item.one_or_more(kind)).unwrap_or_default();
    items.iter().filter_map(|item| item.parsed(kind, &parse)).collect()
}

fn scopes(table: &Table<'_>) -> Vec<String> {
    let scope = |text: &str| {
        let fits = visible(text).is_ok() && !text.contains(['"', '\\']);
        if fits { Ok(text.to_owned()) } else { Wrong::plain() }
    };
    let mut scopes = list(table, "scopes", SCOPE, scope);
    // Without it there is no ID token (OpenID Connect Core 1.0 section 3.1.2.1).
    if !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    scopes
}

fn parameters(table: &Table<'_>) -> Vec<(String, String)> {
    const OURS: &[&str] = &[
        "response_type",
        "response_mode",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    ];
    let item = table.item("parameters");
    let items = item.map(|item| item.array(PARAMETER)).unwrap_or_default();
    let read = items.iter().filter_map(|item| {
        item.parsed(PARAMETER, |text| match text.split_once('=') {
            Some((name, _)) if OURS.contains(&name) => Wrong::hint("ringgate sets it by itself"),
            Some((name, value)) if syntax::is_token(name) && value.len() <= 512 => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Wrong::plain(),
        })
    });
    read.collect()
}

fn idle(table: &Table<'_>) -> Option<Duration> {
    match table.item("idle_timeout") {
        None => Some(DAY),
        Some(item) if item.peek_text() == Some("none") => None,
        Some(item) => Some(duration(&item, MINUTE, YEAR).unwrap_or(DAY)),
    }
}

/// Also in days, which are what sessions are counted in.
fn duration(item: &Item<'_>, least: Duration, most: Duration) -> Option<Duration> {
    let days = item.peek_text().and_then(|text| text.strip_suffix('d'));
    let Some(days) = days.and_then(|days| days.parse::<u32>().ok()) else {
        return item.duration(least..=most);
    };
    let duration = DAY.checked_mul(days).filter(|d| (least..=most).contains(d));
    if duration.is_none() {
        item.wrong("no more than 365d");
    }
    duration
}

fn cookie(item: &Item<'_>, table: &Table<'_>) -> String {
    // `policy.NAME.oidc`: each policy has cookies of its own, unless the file says otherwise.
    let name = item.path.strip_prefix("policy.").and_then(|path| path.strip_suffix(".oidc"));
    let usual = format!("rg-{}", name.unwrap_or_default());
    let given = table.item("cookie").and_then(|item| {
        item.parsed(COOKIE, |text| {
            let prefixed = text.starts_with("__");
            if prefixed {
                Wrong::hint("ringgate adds __Host- over TLS")
            } else {
                syntax::name(text)
            }
        })
    });
    given.unwrap_or(usual)
}

fn algorithms(table: &Table<'_>) -> Algorithms {
    const KIND: &str = "an algorithm with a public key, such as \"RS256\" or \"ES256\"";
    let Some(item) = table.item("algorithms") else { return Algorithms::ASYMMETRIC };
    let items = item.one_or_more(KIND);
    let read = items.iter().filter_map(|item| {
        item.parsed(KIND, |text| match Algorithm::of(text) {
            Some(algorithm) if !algorithm.is_symmetric() => Ok(algorithm),
            _ => Wrong::plain(),
        })
    });
    read.collect()
}

/// What the file says of logins that can hardly be meant.
pub(super) fn doubts(config: &Config) -> Vec<Problem> {
    let all = config.policies.iter().filter_map(|policy| match &policy.settings {
        Kind::Oidc(settings) => Some((policy, settings)),
        _ => None,
    });
    let mut problems = Vec::new();
    for (policy, settings) in all {
        let mut doubt = |key: &str, found: String, expected: &str| {
            problems.push(Problem {
                place: policy.place.clone(),
                key: format!("policy.{}.oidc.{key}", policy.name),
                found,
                expected: expected.to_owned(),
                hint: None,
            });
        };
        if settings.secrets.iter().any(|secret| secret.octets().starts_with(b"change this")) {
            let expected = "a secret that nobody else knows: openssl rand -hex 32";
            doubt("secret", "the secret of the documentation".to_owned(), expected);
        }
        let listed = |names: &[String]| names.contains(&policy.name);
        let mut rules = config.rules.iter().filter(|rule| listed(&rule.policies)).peekable();
        let by_listener = config.listeners.iter().any(|listener| listed(&listener.policies));
        let sends = settings.on_unauthenticated == OnUnauthenticated::Login;
        if !sends || by_listener || rules.peek().is_none() {
            continue;
        }
        if !rules.any(|rule| takes(&rule.when, &settings.callback_path)) {
            let found =
                format!("{:?}, which no rule with this policy takes", settings.callback_path);
            let expected = "a path of a rule with this policy, or logins never come back";
            doubt("callback_path", found, expected);
        }
    }
    problems
}

// Whether a rule's paths have this one; what else it asks for is not looked at.
fn takes(when: &When, path: &str) -> bool {
    let glob = |pattern: &String| like(pattern.as_bytes(), path.as_bytes());
    let regex = |text: &String| regex::Regex::new(text).is_ok_and(|regex| regex.is_match(path));
    let any = when.path.is_empty() && when.path_regex.is_empty();
    any || when.path.iter().any(glob) || when.path_regex.iter().any(regex)
}

fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => like(rest, text),
        (Some((b'*', rest)), Some((_, after))) => like(rest, text) || like(pattern, after),
        (Some((b'?', rest)), Some((_, after))) => like(rest, after),
        (Some((a, rest)), Some((b, after))) => a == b && like(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[policy.site]\noidc = { issuer = 'https://id.test', client_id = 'a', secret = '0123456789abcdef0123456789abcdef' }\n[group.g]\ntargets = ['a:1']\n[[listener]]\nname = 'web'\nbind = ['[::]:80']\n";

    #[track_caller]
    fn doubts_of(text: &str) -> Vec<String> {
        let config = crate::config::parse(text, "a.toml", &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        doubts(&config).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn a_login_that_never_comes_back_is_doubted() {
        let check = |when: &str, fine: bool| {
            let rule = format!("[[rule]]\nname = 'r'\npolicy = 'site'\nforward = 'g'\n{when}\n");
            let found = doubts_of(&format!("{POLICY}{rule}"));
            assert_eq!(found.is_empty(), fine, "{when}: {found:?}");
        };
        check("", true);
        check("when = { path = '/app/*' }", false);
        check("when = { path = ['/app/*', '/oauth2/*'] }", true);
        check("when = { path = '/o*b?ck' }", true);
        check("when = { path_regex = '^/oauth2/' }", true);
        check("when = { path_regex = '^/x' }", false);
        let known =
            POLICY.replace("0123456789abcdef0123456789abcdef", "change this to 32 octets or more");
        let found =
            doubts_of(&format!("{known}[[rule]]\nname = 'r'\npolicy = 'site'\nforward = 'g'"));
        assert!(found.len() == 1 && found[0].contains("openssl"), "{found:?}");
    }

    #[test]
    fn what_is_wrong_is_said_and_secrets_are_not() {
        let check = |from: &str, to: &str, expected: &str| {
            let text = POLICY.replace(from, to);
            let problems = crate::config::parse(&text, "a.toml", &|_| None).unwrap_err();
            let text = problems.to_string();
            assert!(text.contains(expected), "{to}: {text}");
            assert!(!text.contains("short secret"), "{text}");
        };
        check("0123456789abcdef0123456789abcdef", "a short secret", "14 octets");
        check("https://id.test", "http://id.test", "without TLS");
        check("client_id = 'a', ", "", "client_id");
        check("client_id = 'a'", "client_id = 'a', session_timeout = '400d'", "365d");
        check("client_id = 'a'", "client_id = 'a', algorithms = ['HS256']", "public key");
        check("client_id = 'a'", "client_id = 'a', parameters = ['state=x']", "by itself");
        check("client_id = 'a'", "client_id = 'a', cookie = '__Host-x'", "over TLS");
        check("client_id = 'a'", "client_id = 'a', logout_path = '/oauth2/callback'", "three");
        check("client_id = 'a'", "client_id = 'a', ca = ''", "path of a file");
        let with = "client_id = 'a', client_secret = \"a short secret\\n\"";
        check("client_id = 'a'", with, "client_secret: found something else");
    }

    #[test]
    fn each_policy_has_cookies_of_its_own() {
        let config = crate::config::parse(POLICY, "a.toml", &|_| None).unwrap();
        let Kind::Oidc(settings) = &config.policies[0].settings else { panic!() };
        assert_eq!(
            (settings.cookie.as_str(), settings.scopes.as_slice()),
            ("rg-site", &["openid".to_owned()][..])
        );
        assert_eq!((settings.session_timeout, settings.idle_timeout), (7 * DAY, Some(DAY)));
    }

    #[test]
    fn urls_are_safe_or_of_this_machine() {
        for good in ["https://id.example.com", "https://h:8443/realms/a", "http://localhost:3000"] {
            assert_eq!(issuer(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "id.example.com",
            "http://id.example.com",
            "https://id.example.com/?a",
            "https://id.example.com/.well-known/openid-configuration",
            "https://u@id.example.com",
        ] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
        assert!(origin("https://www.example.com").is_ok() && origin("https://a/").is_err());
    }

    #[test]
    fn paths_are_as_they_are_routed() {
        for good in ["/a", "/oauth2/callback", "/.well-known/x"] {
            assert!(path(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a?b", "/a//b", "/a/../b", "/%61", "//evil.test", "/a b", "/*"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
