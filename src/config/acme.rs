//! `[acme]`: where certificates are obtained by ACME (RFC 8555); and `acme` of a listener's `tls`: for which names.
//!
//! What is written is judged; nothing is opened, asked or resolved. That names are of use only with the table, and
//! http-01 only with a plain listener, is for [`check`]. Called by `read` and by the reader of listeners.

use crate::config::item::{Item, Table, set};
use crate::config::keys::{ACME_EAB, LISTENER_ACME};
use crate::config::problem::{Problem, Wrong};
use crate::config::{Place, syntax};
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// `[acme]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The URL of the directory; Let's Encrypt's for production.
    pub directory: String,
    /// `mailto:` URLs that the authority may write to.
    pub contact: Vec<String>,
    /// The folder that holds the account's key and the certificates.
    pub storage: PathBuf,
    /// Where `storage` stands in the file.
    pub storage_place: Place,
    /// A PEM file with the roots that the directory's own certificate is verified by; the system's when left out.
    pub ca: Option<PathBuf>,
    /// That the authority's terms of service are agreed to; nothing is asked for without.
    pub terms_agreed: bool,
    /// How long before its end a certificate is renewed.
    pub renew_before: Duration,
    /// An account that the authority knows already (RFC 8555 section 7.3.4).
    pub eab: Option<ExternalAccount>,
    /// Where the table stands in the file.
    pub place: Place,
}

/// `eab`: external account binding.
#[derive(Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// The key's name.
    pub kid: String,
    /// The key.
    pub hmac: Vec<u8>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// `tls.acme` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerAcme {
    /// Lower-case names; a certificate is obtained for each.
    pub names: Vec<String>,
    /// How it is shown that a name is ours.
    pub challenge: Challenge,
    /// Where it stands in the file.
    pub place: Place,
}

/// How it is shown that a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// A file over plain HTTP (RFC 8555 section 8.3).
    Http01,
    /// A certificate in a TLS handshake (RFC 8737).
    TlsAlpn01,
}

impl Challenge {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Challenge::Http01 => "http-01",
            Challenge::TlsAlpn01 => "tls-alpn-01",
        }
    }
}

const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
const STORAGE: &str = "/var/lib/ringgate/acme";
const DAY: Duration = Duration::from_secs(24 * 3600);
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
const RENEWAL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 3600);
/// Names of one listener: each is an order, and authorities count those.
const MOST_NAMES: usize = 1000;

impl Acme {
    /// Whether `other` says the same, wherever in the file.
    pub fn asks_as(&self, other: &Acme) -> bool {
        let placeless = |acme: &Acme| Acme {
            storage_place: Place::default(),
            place: Place::default(),
            ..acme.clone()
        };
        placeless(self) == placeless(other)
    }

    fn new(place: Place) -> Acme {
        Acme {
            directory: DIRECTORY.to_owned(),
            contact: Vec::new(),
            storage: PathBuf::from(STORAGE),
            storage_place: place.clone(),
            ca: None,
            terms_agreed: false,
            renew_before: RENEW_BEFORE,
            eab: None,
            place,
        }
    }
}

/// `[acme]`; it may be spread over files.
pub(super) fn acme(table: &Table<'_>, acme: &mut Option<Acme>) {
    let acme = acme.get_or_insert_with(|| Acme::new(table.place()));
    const URL: &str = "the https URL of an ACME directory";
    set(&mut acme.directory, table.item("directory").and_then(|i| i.parsed(URL, directory)));
    const CONTACT: &str = "an address such as \"mailto:ops@example.com\"";
    if let Some(item) = table.item("contact") {
        let items = if item.is_array() { item.array("") } else { vec![item] };
        acme.contact = items.iter().filter_map(|item| item.parsed(CONTACT, contact)).collect();
    }
    if let Some(item) = table.item("storage") {
        acme.storage_place = item.place();
        set(&mut acme.storage, item.parsed("the path of a folder", path));
    }
    let ca = table.item("ca").and_then(|item| item.parsed("the path of a PEM file", path));
    set(&mut acme.ca, ca.map(Some));
    set(&mut acme.terms_agreed, table.item("terms_agreed").and_then(|item| item.boolean()));
    let before = table.item("renew_before");
    set(&mut acme.renew_before, before.and_then(|item| duration_or_days(&item)));
    set(&mut acme.eab, table.item("eab").and_then(|item| eab(&item)).map(Some));
}

/// `tls.acme` of a listener: names, or a table with `names` and `challenge`.
pub(super) fn listener(item: &Item<'_>) -> Option<ListenerAcme> {
    let (names, challenge) = match item.is_table() {
        false => (Some(item.clone()), None),
        true => {
            let table = item.table(LISTENER_ACME)?;
            (table.need("names", NAMES), table.item("challenge"))
        }
    };
    let words = [("http-01", Challenge::Http01), ("tls-alpn-01", Challenge::TlsAlpn01)];
    let challenge = challenge.and_then(|item| item.choice(&words)).unwrap_or(Challenge::Http01);
    let mut found: Vec<String> = Vec::new();
    let items = names?.one_or_more(NAMES);
    for item in items.iter().take(MOST_NAMES) {
        let Some(name) = item.parsed(NAMES, host) else { continue };
        match found.contains(&name) {
            true => item.problem(format!("{name:?} once more"), "each name once", None),
            false => found.push(name),
        }
    }
    if let Some(item) = items.get(MOST_NAMES) {
        item.problem(format!("one more than {MOST_NAMES}"), format!("at most {MOST_NAMES}"), None);
    }
    Some(ListenerAcme { names: found, challenge, place: item.place() })
}

/// What only the whole can tell. `listeners` are those with `tls.acme`; `plain` is whether any speaks HTTP without TLS.
pub(super) fn check<'a>(
    acme: Option<&Acme>,
    listeners: impl Iterator<Item = &'a ListenerAcme>,
    plain: bool,
    problems: &mut Vec<Problem>,
) {
    let mut problem = |place: &Place, key: &str, found: &str, expected: &str| {
        problems.push(Problem {
            place: place.clone(),
            key: key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            hint: None,
        });
    };
    if let Some(acme) = acme.filter(|acme| !acme.terms_agreed) {
        let expected = "terms_agreed = true, once you have read the authority's terms of service";
        problem(&acme.place, "acme.terms_agreed", "nothing or false", expected);
    }
    let mut challenges: BTreeMap<&str, Challenge> = BTreeMap::new();
    for listener in listeners {
        const KEY: &str = "listener.tls.acme";
        if acme.is_none() {
            problem(&listener.place, KEY, "names without a table [acme]", "[acme] in the file");
        }
        if listener.challenge == Challenge::Http01 && !plain {
            let expected = "a listener with protocol = \"http\" that the authority reaches on port 80, \
                            or challenge = \"tls-alpn-01\"";
            problem(&listener.place, KEY, "http-01 without a plain listener", expected);
        }
        for name in &listener.names {
            if *challenges.entry(name).or_insert(listener.challenge) != listener.challenge {
                let found = format!("{name:?} with two challenges");
                problem(&listener.place, KEY, &found, "one challenge for each name");
            }
        }
    }
}

const NAMES: &str = "a DNS name such as \"www.example.com\"";

fn host(text: &str) -> Result<String, Wrong> {
    if text.starts_with("*.") {
        return Wrong::hint("a wildcard takes the challenge dns-01, which is not offered here");
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let fits = syntax::is_dns_name(&name) && !name.contains('_');
    if fits { Ok(name) } else { Wrong::plain() }
}

fn directory(text: &str) -> Result<String, Wrong> {
    let Some(rest) = text.strip_prefix("https://") else {
        let plain = text.starts_with("http://");
        return if plain { Wrong::hint("ACME is spoken over https only") } else { Wrong::plain() };
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let fits = !host.is_empty() && !host.contains('@') && syntax::is_visible(text);
    if fits { Ok(text.to_owned()) } else { Wrong::plain() }
}

fn contact(text: &str) -> Result<String, Wrong> {
    let address = text.strip_prefix("mailto:").unwrap_or_default();
    // One address, without header fields (RFC 8555 section 7.3).
    let fits = address.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !address.contains([',', '?'])
    });
    if fits && syntax::is_visible(text) {
        return Ok(text.to_owned());
    }
    match text.contains('@') && address.is_empty() {
        true => Wrong::hint(format!("did you mean \"mailto:{text}\"?")),
        false => Wrong::plain(),
    }
}

fn path(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() || text.contains('\0') { Wrong::plain() } else { Ok(PathBuf::from(text)) }
}

/// Also in days, which are what certificates are counted in.
fn duration_or_days(item: &Item<'_>) -> Option<Duration> {
    const KIND: &str = "a duration from 1s to 365d, such as \"30d\" or \"12h\"";
    let days = item.peek_text().and_then(|text| text.strip_suffix('d'));
    match days.and_then(|days| days.parse::<u32>().ok()) {
        Some(days) => {
            let duration = DAY.saturating_mul(days);
            if !RENEWAL.contains(&duration) {
                item.wrong(KIND);
                return None;
            }
            Some(duration)
        }
        None => item.duration(RENEWAL),
    }
}

fn eab(item: &Item<'_>) -> Option<ExternalAccount> {
    let table = item.table(ACME_EAB)?;
    const KID: &str = "the key's name, as the authority gives it";
    let kid = table.need("kid", KID).and_then(|item| {
        item.parsed(KID, |text| match text.is_empty() {
            true => Wrong::plain(),
            false => Ok(text.to_owned()),
        })
    });
    const HMAC: &str = "the key in base64url, as the authority gives it";
    let hmac = table.need("hmac", HMAC)?;
    let text = hmac.text(HMAC)?;
    let text = text.trim();
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text).or_else(|_| BASE64_URL_SAFE.decode(text));
    match decoded {
        Ok(hmac) if !hmac.is_empty() => Some(ExternalAccount { kid: kid?, hmac }),
        _ => {
            // The key itself is not repeated: problems go to logs.
            hmac.problem("something else", HMAC, None);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Config};
    use std::time::Duration;

    const LISTENER: &str = "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']";

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("[acme]\nterms_agreed = true\n{text}\n{LISTENER}");
        config::parse(&text, "a.toml", &|_| None).map_err(|problems| problems.to_string())
    }

    #[test]
    fn has_defaults_that_need_no_more_than_consent() {
        let acme = parse("").unwrap().acme.unwrap();
        assert_eq!(acme.directory, "https://acme-v02.api.letsencrypt.org/directory");
        assert_eq!(acme.renew_before, Duration::from_secs(30 * 86_400));
        assert_eq!((acme.contact.len(), acme.ca, acme.eab), (0, None, None));
        assert_eq!(acme.storage.to_str(), Some("/var/lib/ringgate/acme"));
    }

    #[test]
    fn reads_every_key() {
        let acme = parse(
            "directory = 'https://ca.test:14000/dir'\ncontact = 'mailto:a@b.test'\nstorage = 'x'\nca = 'ca.pem'\n\
             renew_before = '12h'\neab = { kid = 'k', hmac = 'AAEC_w' }",
        );
        let acme = acme.unwrap().acme.unwrap();
        assert_eq!(acme.directory, "https://ca.test:14000/dir");
        assert_eq!(acme.contact, ["mailto:a@b.test"]);
        assert_eq!(acme.renew_before, Duration::from_secs(12 * 3600));
        let eab = acme.eab.unwrap();
        assert_eq!((eab.kid.as_str(), eab.hmac.as_slice()), ("k", [0, 1, 2, 255].as_slice()));
        assert!(!format!("{eab:?}").contains("hmac"), "a secret is not shown");
        assert_eq!(
            parse("renew_before = '7d'").unwrap().acme.unwrap().renew_before.as_secs(),
            604_800
        );
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, expected) in [
            ("directory = 'http://a/'", "over https only"),
            ("directory = 'https://'", "expected the https URL"),
            ("contact = ['a@b.test']", "did you mean \"mailto:a@b.test\"?"),
            ("contact = ['mailto:a@b.test,c@d.test']", "expected an address"),
            ("renew_before = '0s'", "a duration from"),
            ("renew_before = '400d'", "from 1s to 365d"),
            (
                "eab = { kid = 'k', hmac = '%%%' }",
                "found something else, expected the key in base64url",
            ),
            ("eab = { kid = 'k' }", "acme.eab.hmac: found nothing"),
            ("storage = ''", "the path of a folder"),
        ] {
            let problems = parse(text).expect_err(text);
            assert!(problems.contains(expected), "{text}: {problems}");
        }
        let text = format!("[acme]\n{LISTENER}");
        let problems = config::parse(&text, "a.toml", &|_| None).unwrap_err().to_string();
        assert!(problems.contains("a.toml:1:1: acme.terms_agreed"), "{problems}");
    }
}
