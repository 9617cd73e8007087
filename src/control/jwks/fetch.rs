//! One fetch of keys: a JWK Set, or first the issuer's metadata that name it (hazards AUTH-09, AUTH-17).
//!
//! HTTPS, or plain HTTP where the file says so or the host is this machine; no redirects; at most 1 MiB and 5 s for each answer.
//! What comes is judged before anything of it is used. Called by `jwks`.

use crate::control::answers::call::Calls;
use crate::policy::Reply;
use crate::policy::ask::{Call, Called};
use crate::policy::jwt::{KeySet, Location, Origin, json};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer.
const LARGEST: usize = 1 << 20;

/// What was found.
pub struct Fetched {
    /// The set, as it came.
    pub octets: Vec<u8>,
    /// The set.
    pub keys: KeySet,
    /// The issuer's metadata, where they were asked for.
    pub metadata: Option<Map<String, Value>>,
}

/// Fetches.
///
/// # Errors
/// One line that says what came instead.
pub async fn fetch(calls: &Calls, origin: &Origin) -> Result<Fetched, String> {
    let (url, metadata) = match &origin.location {
        Location::Keys(url) => (url.to_string(), None),
        Location::Issuer(issuer) => {
            let called = get(calls, origin, origin.location.url()).await?;
            let metadata = metadata(&called.body, issuer)?;
            (keys_url(&metadata, origin.allow_http)?, Some(metadata))
        }
    };
    let octets = get(calls, origin, url).await?.body.clone();
    let keys = KeySet::of_jwks(&octets).map_err(|why| format!("the answer is of no use: {why}"))?;
    Ok(Fetched { octets, keys, metadata })
}

async fn get(calls: &Calls, origin: &Origin, url: String) -> Result<Arc<Called>, String> {
    let call = Call {
        method: "GET",
        url,
        fields: vec![("accept".to_owned(), b"application/json".to_vec())],
        timeout: PATIENCE,
        most: LARGEST,
        ca: origin.ca.clone(),
        ..Call::default()
    };
    match calls.make(call).await {
        Reply::Called(called) if called.status == 200 => Ok(called),
        Reply::Called(called) => Err(format!("the answer's status is {}, not 200", called.status)),
        Reply::Failed(why) | Reply::Unasked(why) => Err(why.to_string()),
        Reply::Password(_) => Err("no answer".to_owned()),
    }
}

/// OpenID Connect Discovery 1.0 section 4.3: metadata of another issuer are not to be used.
fn metadata(body: &[u8], issuer: &str) -> Result<Map<String, Value>, String> {
    let metadata = json::object(body).ok_or("the metadata are no JSON object")?;
    match metadata.get("issuer") {
        Some(Value::String(named)) if named == issuer => Ok(metadata),
        _ => Err("the metadata are of another issuer".to_owned()),
    }
}

fn keys_url(metadata: &Map<String, Value>, allow_http: bool) -> Result<String, String> {
    let url = metadata.get("jwks_uri").and_then(Value::as_str).ok_or("no `jwks_uri`")?;
    let wrong = || "`jwks_uri` is no https URL".to_owned();
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
    let host = parsed.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let fits = match parsed.scheme() {
        "https" => true,
        "http" => allow_http || here,
        _ => false,
    };
    if fits && parsed.username().is_empty() && parsed.password().is_none() {
        Ok(url.to_owned())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_of_the_very_issuer() {
        let check = |body: &str, fits: bool| {
            assert_eq!(metadata(body.as_bytes(), "https://id.test").is_ok(), fits, "{body}");
        };
        check(r#"{"issuer":"https://id.test"}"#, true);
        check(r#"{"issuer":"https://id.test/"}"#, false);
        check(r#"{"issuer":["https://id.test"]}"#, false);
        check(r#"{"issuer":"https://id.test","issuer":"https://id.test"}"#, false);
        check("{}", false);
        check("[]", false);
        check("<html>", false);
    }

    #[test]
    fn keys_are_not_fetched_in_the_clear_from_elsewhere() {
        let check = |url: &str, allow_http: bool, fits: bool| {
            let Value::Object(metadata) = serde_json::json!({ "jwks_uri": url }) else { panic!() };
            assert_eq!(keys_url(&metadata, allow_http).is_ok(), fits, "{url}");
        };
        check("https://id.test/keys", false, true);
        check("http://id.test/keys", false, false);
        check("http://id.test/keys", true, true);
        check("http://127.0.0.1:1/keys", false, true);
        check("http://[::1]:1/keys", false, true);
        check("http://localhost/keys", false, true);
        check("http://localhost.test/keys", false, false);
        check("file:///etc/passwd", true, false);
        check("ftp://127.0.0.1/", true, false);
        check("https://user@id.test/", false, false);
        check("/keys", false, false);
    }
}
