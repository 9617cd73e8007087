//! The provider: its endpoints and keys, given or discovered, and what it is asked.
//!
//! What was learnt is shared by all cores and goes on over reloads. Discovered endpoints are held to the issuer: the document
//! must name it exactly, and lead nowhere but to its host or those of the file (hazard AUTH-17). Nothing is sent from here:
//! questions go to control, and their replies come back. Called by `exchange`, `login` and `logout`.

use crate::policy::ask::{Call, Called};
use crate::policy::jwt::{Flaw, KeySet, Rules, json, verify};
use crate::policy::oidc::exchange::Trouble;
use crate::policy::oidc::text::{address, basic, pair};
use crate::policy::oidc::{ClientAuth, Settings};
use arc_swap::ArcSwapOption;
use aws_lc_rs::digest;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The most octets of a document of the provider's; of API Gateway's 150 KB.
const MOST_OCTETS: usize = 150 << 10;
/// How old a description may be before a login asks again, in seconds.
const DESCRIPTION_FRESH: u64 = 3600;
/// How old keys may be before a login asks again; withdrawn keys are gone then.
const KEYS_FRESH: u64 = 900;
/// How old either may be where the provider cannot be asked.
const MOST_STALE: u64 = 24 * 3600;
/// How often an unknown key makes ringgate ask again, in seconds (hazard AUTH-05).
const KEYS_EVERY: u64 = 60;
/// How long the answer to a refresh is given to whoever asks the same: requests of a page that overtake its new cookie.
const KEEP_REFRESH: Duration = Duration::from_secs(30);
const KEEP_DOCUMENT: Duration = Duration::from_secs(1);

/// A provider, and what is known of it.
pub struct Provider {
    settings: Arc<Settings>,
    given: Option<Arc<Endpoints>>,
    ca: Option<Arc<[u8]>>,
    rules: Rules,
    known: Arc<Known>,
}

/// What was learnt; it outlives a reload.
#[derive(Default)]
struct Known {
    endpoints: ArcSwapOption<Endpoints>,
    keys: ArcSwapOption<Keys>,
    keys_asked: AtomicU64,
}

/// Where the provider is asked what.
#[derive(Debug)]
pub struct Endpoints {
    /// Where browsers are sent to.
    pub authorization: String,
    token: String,
    userinfo: Option<String>,
    /// Where browsers are sent to when they log out.
    pub end_session: Option<String>,
    jwks: String,
    /// Whether answers to browsers must name the issuer (RFC 9207).
    pub names_issuer: bool,
    since: u64,
}

struct Keys {
    set: KeySet,
    since: u64,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Provider({})", self.settings.issuer)
    }
}

impl Provider {
    /// The provider of these settings; what `old` has learnt goes on where it is the same one.
    pub fn new(
        settings: &Arc<Settings>,
        ca: Option<Arc<[u8]>>,
        old: Option<&Provider>,
    ) -> Provider {
        let same = |old: &&Provider| {
            let (a, b) = (&old.settings, settings);
            a.issuer == b.issuer && a.endpoints == b.endpoints && a.hosts == b.hosts && old.ca == ca
        };
        let given = given(settings).map(Arc::new);
        let rules = Rules {
            issuers: vec![settings.issuer.as_str().into()],
            audience: vec![settings.client_id.as_str().into()],
            client_id: false,
            algorithms: settings.algorithms,
            // "at+jwt" and others are no ID tokens (RFC 8725 section 3.11); most of them have "JWT" or none.
            types: vec!["JWT".into(), "".into()],
            require_exp: true,
            leeway: settings.leeway.as_secs(),
            max_age: None,
        };
        let known = old.filter(same).map_or_else(Arc::default, |old| Arc::clone(&old.known));
        Provider { settings: Arc::clone(settings), given, ca, rules, known }
    }

    /// The endpoints, where they are known. Those that were discovered are not taken when they are older than a day.
    pub fn endpoints(&self, unix: u64) -> Option<Arc<Endpoints>> {
        let young = |e: &Arc<Endpoints>| unix.saturating_sub(e.since) <= MOST_STALE;
        self.given.clone().or_else(|| self.known.endpoints.load_full().filter(young))
    }

    /// Whether the endpoints should be asked for before a login begins.
    pub fn should_discover(&self, unix: u64) -> bool {
        let fresh = |e: &Arc<Endpoints>| unix.saturating_sub(e.since) <= DESCRIPTION_FRESH;
        self.given.is_none() && !self.known.endpoints.load_full().is_some_and(|e| fresh(&e))
    }

    /// Asks for the endpoints.
    pub fn discover(&self) -> Call {
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.settings.issuer.trim_end_matches('/')
        );
        self.document(url)
    }

    /// Learns the endpoints.
    ///
    /// # Errors
    /// When it is no description of this provider.
    pub fn learn_endpoints(&self, called: &Called, unix: u64) -> Result<(), Trouble> {
        let document = json_of(called, "discovery document")?;
        let endpoints = discovered(&document, &self.settings, unix)?;
        self.known.endpoints.store(Some(Arc::new(endpoints)));
        Ok(())
    }

    /// Whether the keys should be asked for before a token is verified.
    pub fn should_fetch_keys(&self, unix: u64) -> bool {
        let fresh = |keys: &Arc<Keys>| unix.saturating_sub(keys.since) <= KEYS_FRESH;
        !self.known.keys.load_full().is_some_and(|keys| fresh(&keys))
    }

    /// Whether there are keys that may be used.
    pub fn has_keys(&self, unix: u64) -> bool {
        let keys = self.known.keys.load_full();
        keys.is_some_and(|keys| unix.saturating_sub(keys.since) <= MOST_STALE)
    }

    /// Whether the keys may be asked for since one is unknown: at most once a minute.
    pub fn may_fetch_keys(&self, unix: u64) -> bool {
        let last = self.known.keys_asked.load(Ordering::Relaxed);
        let due = unix >= last.saturating_add(KEYS_EVERY);
        let swap = (Ordering::Relaxed, Ordering::Relaxed);
        due && self.known.keys_asked.compare_exchange(last, unix, swap.0, swap.1).is_ok()
    }

    /// Asks for the keys.
    pub fn fetch_keys(&self, endpoints: &Endpoints) -> Call {
        self.document(endpoints.jwks.clone())
    }

    /// Learns the keys.
    ///
    /// # Errors
    /// When it is no set of keys.
    pub fn learn_keys(&self, called: &Called, unix: u64) -> Result<(), Trouble> {
        if called.status != 200 {
            return Err(Trouble::provider(format!("answered {} instead of keys", called.status)));
        }
        let set = KeySet::of_jwks(&called.body);
        let set =
            set.map_err(|why| Trouble::provider(format!("published unusable keys: {why}")))?;
        self.known.keys.store(Some(Arc::new(Keys { set, since: unix })));
        Ok(())
    }

    /// Verifies an ID token (OpenID Connect Core 1.0 section 3.1.3.7); its claims.
    ///
    /// # Errors
    /// [`Flaw::NoKeys`] and [`Flaw::Key`] where asking for the keys may help.
    pub fn verify(&self, token: &str, unix: u64) -> Result<Map<String, Value>, Flaw> {
        let opened = verify::Opened::read(token.as_bytes())?;
        self.rules.judge(&opened, unix)?;
        let keys = self.known.keys.load_full();
        let keys = keys.filter(|keys| unix.saturating_sub(keys.since) <= MOST_STALE);
        opened.verify(&keys.ok_or(Flaw::NoKeys)?.set)?;
        let claims = opened.claims.0;
        // A token for several audiences must say that it was made for this one.
        let several = claims.get("aud").and_then(Value::as_array).is_some_and(|aud| aud.len() > 1);
        match claims.get("azp") {
            Some(Value::String(azp)) if *azp == self.settings.client_id => Ok(claims),
            None if !several => Ok(claims),
            _ => Err(Flaw::Audience),
        }
    }

    /// Asks for the tokens of a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
    pub fn redeem(&self, at: &Endpoints, code: &str, verifier: &str, redirect_uri: &str) -> Call {
        let mut form = String::new();
        pair(&mut form, "grant_type", "authorization_code");
        pair(&mut form, "code", code);
        pair(&mut form, "redirect_uri", redirect_uri);
        pair(&mut form, "code_verifier", verifier);
        self.token_call(at, form)
    }

    /// Asks for newer tokens (RFC 6749 section 6). Whoever asks for the same at the same time, and shortly after, gets the same
    /// answer: a refresh token may work only once (hazard AUTH-18).
    pub fn refresh(&self, at: &Endpoints, refresh_token: &str) -> Call {
        let mut form = String::new();
        pair(&mut form, "grant_type", "refresh_token");
        pair(&mut form, "refresh_token", refresh_token);
        let mut call = self.token_call(at, form);
        call.once = once(&["refresh", &at.token, &self.settings.client_id, refresh_token]);
        call.keep = KEEP_REFRESH;
        call
    }

    /// Asks who the user is (OpenID Connect Core 1.0 section 5.3); `None` where the provider does not say, or shall not be
    /// asked.
    pub fn userinfo(&self, at: &Endpoints, access_token: &str) -> Option<Call> {
        let url = at.userinfo.as_ref().filter(|_| self.settings.userinfo)?;
        let mut call = self.call("GET", url.clone());
        call.fields.push(("authorization".to_owned(), format!("Bearer {access_token}").into()));
        call.once = once(&["userinfo", url, access_token]);
        call.keep = KEEP_REFRESH;
        Some(call)
    }

    fn token_call(&self, at: &Endpoints, mut form: String) -> Call {
        let mut call = self.call("POST", at.token.clone());
        let Settings { client_id, client_secret, client_auth, .. } = &*self.settings;
        let secret = client_secret.as_ref().and_then(|s| std::str::from_utf8(s.octets()).ok());
        match (client_auth, secret) {
            (ClientAuth::Basic, Some(secret)) => {
                let value = basic(client_id, secret);
                call.fields.push(("authorization".to_owned(), value.into()));
            }
            (_, secret) => {
                pair(&mut form, "client_id", client_id);
                if let Some(secret) = secret {
                    pair(&mut form, "client_secret", secret);
                }
            }
        }
        let form_type = b"application/x-www-form-urlencoded".to_vec();
        call.fields.push(("content-type".to_owned(), form_type));
        call.body = form.into_bytes();
        call
    }

    fn document(&self, url: String) -> Call {
        let once = once(&["document", &url]);
        Call { once, keep: KEEP_DOCUMENT, ..self.call("GET", url) }
    }

    fn call(&self, method: &'static str, url: String) -> Call {
        Call {
            method,
            url,
            fields: vec![("accept".to_owned(), b"application/json".to_vec())],
            timeout: self.settings.timeout,
            most: MOST_OCTETS,
            ca: self.ca.clone(),
            ..Call::default()
        }
    }
}

/// The object that an answer holds.
///
/// # Errors
/// When it is none.
pub fn json_of(called: &Called, what: &str) -> Result<Map<String, Value>, Trouble> {
    if called.status != 200 {
        return Err(Trouble::provider(format!("answered {} instead of a {what}", called.status)));
    }
    json::object(&called.body)
        .ok_or_else(|| Trouble::provider(format!("sent a {what} that is no JSON object")))
}

fn once(parts: &[&str]) -> Option<[u8; 32]> {
    let mut all = digest::Context::new(&digest::SHA256);
    for part in parts {
        all.update(&part.len().to_be_bytes());
        all.update(part.as_bytes());
    }
    all.finish().as_ref().try_into().ok()
}

// The endpoints of the file, where they are all that is needed.
fn given(settings: &Settings) -> Option<Endpoints> {
    let given = &settings.endpoints;
    Some(Endpoints {
        authorization: given.authorization.clone()?,
        token: given.token.clone()?,
        userinfo: given.userinfo.clone(),
        end_session: given.end_session.clone(),
        jwks: given.jwks.clone()?,
        names_issuer: false,
        since: 0,
    })
}

// OpenID Connect Discovery 1.0 sections 3 and 4.3. What the file gives holds against the document.
fn discovered(
    document: &Map<String, Value>,
    settings: &Settings,
    unix: u64,
) -> Result<Endpoints, Trouble> {
    if document.get("issuer").and_then(Value::as_str) != Some(&settings.issuer) {
        return Err(Trouble::provider(
            "describes another issuer than the one of `issuer`".to_owned(),
        ));
    }
    let endpoint = |given: &Option<String>, name: &str| -> Result<Option<String>, Trouble> {
        if given.is_some() {
            return Ok(given.clone());
        }
        match document.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(url)) if leads(url, settings) => Ok(Some(url.clone())),
            Some(_) => Err(Trouble::provider(format!(
                "has a {name} that is no https URL on the issuer's host or on one of `hosts`"
            ))),
        }
    };
    let needed = |given: &Option<String>, name: &str| {
        let missing = || Trouble::provider(format!("has no {name} in its description"));
        endpoint(given, name)?.ok_or_else(missing)
    };
    let given = &settings.endpoints;
    Ok(Endpoints {
        authorization: needed(&given.authorization, "authorization_endpoint")?,
        token: needed(&given.token, "token_endpoint")?,
        userinfo: endpoint(&given.userinfo, "userinfo_endpoint")?,
        end_session: endpoint(&given.end_session, "end_session_endpoint")?,
        jwks: needed(&given.jwks, "jwks_uri")?,
        names_issuer: document.get("authorization_response_iss_parameter_supported")
            == Some(&Value::Bool(true)),
        since: unix,
    })
}

// Where a discovered endpoint may lead. Without TLS only where the issuer itself is on this machine.
fn leads(url: &str, settings: &Settings) -> bool {
    let (Some(to), Some(issuer)) = (address(url), address(&settings.issuer)) else { return false };
    let host = to.host == issuer.host || settings.hosts.iter().any(|host| host == to.host);
    host && (to.secure || (!issuer.secure && to.is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::oidc::tests::settings;

    fn provider(settings: Settings) -> Provider {
        Provider::new(&Arc::new(settings), None, None)
    }

    fn document(change: &[(&str, Value)]) -> Called {
        let mut document = serde_json::json!({
            "issuer": "https://id.test",
            "authorization_endpoint": "https://id.test/auth",
            "token_endpoint": "https://id.test/token",
            "userinfo_endpoint": "https://id.test/me",
            "jwks_uri": "https://id.test/jwks",
        });
        for (name, value) in change {
            document[*name] = value.clone();
        }
        Called { status: 200, fields: Vec::new(), body: document.to_string().into_bytes() }
    }

    // AUTH-17: what a discovery document may and may not say.
    #[test]
    fn endpoints_are_held_to_the_issuer() {
        let check = |name: &str, value: Value, fine: bool| {
            let provider = provider(settings());
            let got = provider.learn_endpoints(&document(&[(name, value.clone())]), 1000);
            assert_eq!(got.is_ok(), fine, "{name}: {value}");
            assert_eq!(provider.endpoints(1000).is_some(), fine, "{name}: {value}");
        };
        check("issuer", "https://id.test".into(), true);
        check("issuer", "https://id.test/".into(), false);
        check("issuer", "https://evil.test".into(), false);
        check("issuer", Value::Null, false);
        for name in ["authorization_endpoint", "token_endpoint", "jwks_uri"] {
            check(name, "https://id.test:444/x".into(), true);
            check(name, "https://keys.test/x".into(), true);
            check(name, "https://evil.test/x".into(), false);
            check(name, "http://id.test/x".into(), false);
            check(name, "http://127.0.0.1/x".into(), false);
            check(name, "https://id.test@evil.test/x".into(), false);
            check(name, "https://169.254.169.254/latest".into(), false);
            check(name, "file:///etc/passwd".into(), false);
            check(name, 7.into(), false);
            check(name, Value::Null, false);
        }
        check("userinfo_endpoint", Value::Null, true);
        check("userinfo_endpoint", "https://evil.test/x".into(), false);
    }

    #[test]
    fn answers_that_are_no_documents_are_troubles() {
        for (status, body) in [
            (404, "{}"),
            (302, "{}"),
            (200, "x"),
            (200, "[]"),
            (200, "{\"issuer\":1,\"issuer\":2}"),
        ] {
            let provider = provider(settings());
            let called = Called { status, fields: Vec::new(), body: body.into() };
            assert!(provider.learn_endpoints(&called, 0).is_err(), "{status} {body}");
            assert!(provider.learn_keys(&called, 0).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn what_the_file_gives_needs_no_discovery() {
        let mut all = settings();
        let url = |path: &str| Some(format!("https://other.test/{path}"));
        all.endpoints.authorization = url("auth");
        all.endpoints.token = url("token");
        let part = provider(all.clone());
        assert!(part.endpoints(0).is_none() && part.should_discover(0));
        part.learn_endpoints(&document(&[]), 0).unwrap();
        assert_eq!(part.endpoints(0).unwrap().token, "https://other.test/token");
        all.endpoints.jwks = url("jwks");
        let whole = provider(all);
        assert!(whole.endpoints(0).is_some() && !whole.should_discover(0));
    }

    #[test]
    fn what_was_learnt_ages_and_goes_on_over_a_reload() {
        let first = provider(settings());
        first.learn_endpoints(&document(&[]), 1000).unwrap();
        assert!(!first.should_discover(1000 + DESCRIPTION_FRESH));
        assert!(first.should_discover(1001 + DESCRIPTION_FRESH));
        assert!(first.endpoints(1000 + MOST_STALE).is_some());
        assert!(first.endpoints(1001 + MOST_STALE).is_none());
        let second = Provider::new(&Arc::new(settings()), None, Some(&first));
        assert!(second.endpoints(1000).is_some());
        let other = Settings { issuer: "https://other.test".into(), ..settings() };
        let third = Provider::new(&Arc::new(other), None, Some(&first));
        assert!(third.endpoints(1000).is_none());
    }

    // AUTH-05: unknown keys do not make ringgate ask all the time.
    #[test]
    fn unknown_keys_are_asked_for_once_a_minute() {
        let provider = provider(settings());
        let asked = (1000..1180).filter(|unix| provider.may_fetch_keys(*unix)).count();
        assert_eq!(asked, 3);
    }

    #[test]
    fn calls_are_single_where_they_must_be() {
        let provider = provider(settings());
        provider.learn_endpoints(&document(&[]), 0).unwrap();
        let at = provider.endpoints(0).unwrap();
        let (a, b) = (provider.refresh(&at, "r1"), provider.refresh(&at, "r1"));
        assert!(a.once.is_some() && a.once == b.once && a.once != provider.refresh(&at, "r2").once);
        let redeem = provider.redeem(&at, "c&d", "v", "https://a.test/cb");
        assert_eq!(redeem.once, None);
        assert_eq!(
            String::from_utf8(redeem.body).unwrap(),
            "grant_type=authorization_code&code=c%26d&redirect_uri=https%3A%2F%2Fa.test%2Fcb&code_verifier=v"
        );
        assert!(
            redeem
                .fields
                .iter()
                .any(|(name, v)| name == "authorization" && v.starts_with(b"Basic "))
        );
        let posted = Settings { client_auth: ClientAuth::Post, ..settings() };
        let call = Provider::new(&Arc::new(posted), None, Some(&provider)).refresh(&at, "r");
        assert!(
            String::from_utf8(call.body).unwrap().ends_with("&client_id=app&client_secret=s3cret")
        );
    }
}
