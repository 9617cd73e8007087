//! What an issuer has said of a token (RFC 7662 section 2.2), judged strictly: a member of the wrong type is never taken for one
//! that is missing (hazard AUTH-06), issuer and audience are compared whole (AUTH-08). Called by `introspect`.

use crate::http::Fault;
use crate::policy::ask::Called;
use crate::policy::identity::Claims;
use crate::policy::introspect::Settings;
use crate::policy::jwt::json;
use serde_json::{Map, Value};

/// An active token that is for us.
#[derive(Debug)]
pub struct Judged {
    /// What the issuer says of it.
    pub claims: Claims,
    /// When it ends, in seconds since 1970.
    pub exp: Option<u64>,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is none.
    Malformed,
    /// The issuer says so.
    Inactive,
    /// Its time is over.
    Expired,
    /// Its time has not come, or the issuer gives a time that is none.
    Times,
    /// It is of another issuer, or for somebody else.
    Stranger,
    /// The issuer has said nothing that can be used.
    Unusable,
}

impl Flaw {
    /// What the client is told.
    pub fn fault(self) -> Fault {
        match self {
            Flaw::Expired => Fault::TokenExpired,
            Flaw::Unusable => Fault::DecisionUnavailable,
            Flaw::Malformed | Flaw::Inactive | Flaw::Times | Flaw::Stranger => Fault::TokenInvalid,
        }
    }

    /// In words, without the full stop.
    pub fn sentence(self) -> &'static str {
        match self {
            Flaw::Malformed => "The request has no token that can be read",
            Flaw::Inactive => "The token is not active",
            Flaw::Expired => "The token has expired",
            Flaw::Times => "The token is not valid at this time",
            Flaw::Stranger => "The token is of another issuer or for another audience",
            Flaw::Unusable => "The issuer of the token has not said whether it is active",
        }
    }
}

/// How far the issuer's clock may be ahead of ours, in seconds.
const LEEWAY: u64 = 60;

/// Judges an answer.
///
/// # Errors
/// Why the token is not taken.
pub fn judge(settings: &Settings, called: &Called, unix: u64) -> Result<Judged, Flaw> {
    if called.status != 200 {
        return Err(Flaw::Unusable);
    }
    let map = json::object(&called.body).ok_or(Flaw::Unusable)?;
    match map.get("active") {
        Some(Value::Bool(true)) => {}
        Some(Value::Bool(false)) => return Err(Flaw::Inactive),
        _ => return Err(Flaw::Unusable),
    }
    let exp = time(&map, "exp")?;
    if exp.is_some_and(|exp| exp <= unix) {
        return Err(Flaw::Expired);
    }
    for name in ["nbf", "iat"] {
        if time(&map, name)?.is_some_and(|from| from > unix.saturating_add(LEEWAY)) {
            return Err(Flaw::Times);
        }
    }
    let issuer = map.get("iss").and_then(Value::as_str);
    let of_issuer = settings.issuer.is_empty() || issuer.is_some_and(|i| has(&settings.issuer, i));
    let audience = settings.audience.is_empty() || is_for(&settings.audience, map.get("aud"));
    if !of_issuer || !audience {
        return Err(Flaw::Stranger);
    }
    Ok(Judged { claims: Claims(map), exp })
}

/// Whether a token has the scopes and claims that are needed.
pub fn suffices(settings: &Settings, claims: &Claims) -> bool {
    let in_scope = |name: &str| match claims.0.get(name) {
        Some(Value::String(scopes)) => scopes.split(' ').any(|scope| has(&settings.scopes, scope)),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).any(|item| has(&settings.scopes, item))
        }
        _ => false,
    };
    let is = |name: &str, wanted: &[Box<str>]| match claims.find(name) {
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).any(|item| has(wanted, item))
        }
        Some(_) => claims.text(name).is_some_and(|text| has(wanted, &text)),
        None => false,
    };
    (settings.scopes.is_empty() || in_scope("scope") || in_scope("scp"))
        && settings.claims.iter().all(|(name, wanted)| is(name, wanted))
}

/// A NumericDate (RFC 7519 section 2), if there is one; whole seconds.
fn time(map: &Map<String, Value>, name: &str) -> Result<Option<u64>, Flaw> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let whole = number.as_u64();
            let part = number.as_f64().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64);
            whole.or(part).map(Some).ok_or(Flaw::Times)
        }
        Some(_) => Err(Flaw::Times),
    }
}

fn is_for(wanted: &[Box<str>], audience: Option<&Value>) -> bool {
    match audience {
        Some(Value::String(one)) => has(wanted, one),
        Some(Value::Array(items)) => {
            items.iter().filter_map(Value::as_str).any(|item| has(wanted, item))
        }
        _ => false,
    }
}

fn has(list: &[Box<str>], text: &str) -> bool {
    list.iter().any(|one| **one == *text)
}
