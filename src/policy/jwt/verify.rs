//! One token against rules and keys: a compact JWS (RFC 7515 section 7.1) that holds a claims set (RFC 7519), read as RFC 8725
//! wants it read.
//!
//! Everything that needs no key is checked first. What a header says of keys (`jwk`, `jku`, `x5c`, `x5u`) is ignored, what it says of
//! extensions (`crit`, `b64`, `zip`, `enc`) refuses the token. Required claims and scopes are for the caller. [`verify`] is pure and
//! serves `oidc`, too; the policy itself calls the steps, so as to choose the issuer between them.

use crate::http::Fault;
use crate::policy::identity::Claims;
use crate::policy::jwt::algorithm::{Algorithm, Algorithms};
use crate::policy::jwt::json;
use crate::policy::jwt::keys::{KeySet, LONGEST_KID};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// The longest token, in octets.
pub const LONGEST: usize = 16 << 10;
/// The latest time that is believed to be one: the end of the year 9999.
const LATEST: u64 = 253_402_300_799;

/// What a token must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// `iss` must be one of them, exactly.
    pub issuers: Vec<Box<str>>,
    /// `aud` must have one of them, exactly; empty for any audience.
    pub audience: Vec<Box<str>>,
    /// Whether `client_id` may stand for an `aud` that is left out, as in access tokens of some providers.
    pub client_id: bool,
    /// `alg` must be one of them.
    pub algorithms: Algorithms,
    /// `typ` must be one of them, without regard to case and to `application/`; empty for any or none.
    pub types: Vec<Box<str>>,
    /// Whether a token without `exp` is refused.
    pub require_exp: bool,
    /// How far clocks may differ, in seconds.
    pub leeway: u64,
    /// How long after `iat` a token is taken, in seconds; it then needs one.
    pub max_age: Option<u64>,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is no signed token in the compact form; the sentence says what is wrong.
    Malformed(&'static str),
    /// `alg` is not one of those that are allowed.
    Algorithm,
    /// `typ` is not one of those that are allowed.
    Type,
    /// `iss` is not trusted.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// A claim of time is missing or no time.
    Time(&'static str),
    /// `exp` is over.
    Expired,
    /// It is older than it may be.
    TooOld,
    /// `nbf` is to come, or `iat` is.
    TooEarly,
    /// No key of the issuer can have signed it.
    Key,
    /// It was not signed by the issuer.
    Signature,
    /// The issuer's keys are not known yet.
    NoKeys,
}

impl Flaw {
    /// What the request is refused with.
    pub fn fault(self) -> Fault {
        match self {
            Flaw::Expired | Flaw::TooOld => Fault::TokenExpired,
            Flaw::NoKeys => Fault::TokenKeysUnavailable,
            _ => Fault::TokenInvalid,
        }
    }

    /// One sentence without quotes, for `error_description` (RFC 6750 section 3).
    pub fn sentence(self) -> &'static str {
        match self {
            Flaw::Malformed(sentence) | Flaw::Time(sentence) => sentence,
            Flaw::Algorithm => "The algorithm is not allowed",
            Flaw::Type => "The type is not allowed",
            Flaw::Issuer => "The issuer is not trusted",
            Flaw::Audience => "The token is for another audience",
            Flaw::Expired => "The token has expired",
            Flaw::TooOld => "The token is too old",
            Flaw::TooEarly => "The token is not valid yet",
            Flaw::Key => "No key of the issuer fits the token",
            Flaw::Signature => "The signature is wrong",
            Flaw::NoKeys => "The keys of the issuer are not known yet",
        }
    }
}

/// Verifies a token whole: form, algorithm, type, issuer, audience, times and signature. `unix` is the time in seconds.
///
/// # Errors
/// What the request is to be refused with.
pub fn verify(token: &[u8], rules: &Rules, keys: &KeySet, unix: u64) -> Result<Claims, Fault> {
    let check = || {
        let opened = Opened::read(token)?;
        rules.judge(&opened, unix)?;
        opened.verify(keys)?;
        Ok(opened.claims)
    };
    check().map_err(Flaw::fault)
}

/// A token taken apart, and nothing of it believed.
#[derive(Debug)]
pub struct Opened<'t> {
    /// What it says.
    pub claims: Claims,
    /// Which key it says to be signed with.
    pub kid: Option<String>,
    algorithm: Option<Algorithm>,
    kind: Option<String>,
    signed: &'t [u8],
    signature: Vec<u8>,
}

/// When a token may be used, in seconds since 1970, leeway and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From then on.
    pub from: u64,
    /// Until right before then.
    pub until: u64,
}

impl<'t> Opened<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is no JWS in the compact form, or has extensions.
    pub fn read(token: &'t [u8]) -> Result<Opened<'t>, Flaw> {
        const FORM: Flaw = Flaw::Malformed("The token is no JWS in the compact form");
        if token.len() > LONGEST {
            return Err(Flaw::Malformed("The token is too long"));
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(FORM);
        };
        let (signed, signature) = token.split_at(second);
        let (header, payload) = signed.split_at(first);
        let decode = |text: &[u8]| BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| FORM);
        let header = json::object(&decode(header)?).ok_or(FORM)?;
        let header = Header::read(header)?;
        let claims = json::object(&decode(payload.get(1..).unwrap_or_default())?);
        let claims = claims.ok_or(Flaw::Malformed("The claims are no JSON object"))?;
        let signature = decode(signature.get(1..).unwrap_or_default())?;
        if signature.is_empty() {
            return Err(FORM);
        }
        let Header { algorithm, kid, kind } = header;
        Ok(Opened { claims: Claims(claims), kid, algorithm, kind, signed, signature })
    }

    /// The issuer that it names.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.0.get("iss")?.as_str()
    }

    /// Whether it was signed with one of these keys.
    ///
    /// # Errors
    /// [`Flaw::Key`] or [`Flaw::Signature`].
    pub fn verify(&self, keys: &KeySet) -> Result<(), Flaw> {
        let algorithm = self.algorithm.ok_or(Flaw::Algorithm)?;
        keys.verify(algorithm, self.kid.as_deref(), self.signed, &self.signature)
    }
}

struct Header {
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    kind: Option<String>,
}

impl Header {
    fn read(mut header: Map<String, Value>) -> Result<Header, Flaw> {
        // None of them is understood here, and each changes what the token means (RFC 7515 section 4.1.11, RFC 7797, RFC 7516).
        if ["crit", "enc", "zip"].iter().any(|name| header.contains_key(*name))
            || header.get("b64").is_some_and(|b64| *b64 != Value::Bool(true))
        {
            return Err(Flaw::Malformed("The header has an extension that is not understood"));
        }
        const STRING: Flaw =
            Flaw::Malformed("A member of the header that must be a string is none");
        let mut text = |name: &str| match header.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(STRING),
        };
        let (algorithm, kid, kind) = (text("alg")?, text("kid")?, text("typ")?);
        if kid.as_ref().is_some_and(|kid| kid.len() > LONGEST_KID) {
            return Err(Flaw::Malformed("The kid is too long"));
        }
        let algorithm = algorithm.as_deref().and_then(Algorithm::of);
        Ok(Header { algorithm, kid, kind })
    }
}

impl Rules {
    /// Whether a token, if it was signed rightly, is what it must be; and for how long.
    ///
    /// # Errors
    /// The first thing that it is not.
    pub fn judge(&self, opened: &Opened<'_>, unix: u64) -> Result<Span, Flaw> {
        if !opened.algorithm.is_some_and(|algorithm| self.algorithms.has(algorithm)) {
            return Err(Flaw::Algorithm);
        }
        if !self.types.is_empty() && !self.takes_type(opened.kind.as_deref().unwrap_or_default()) {
            return Err(Flaw::Type);
        }
        let claims = &opened.claims.0;
        if !opened.issuer().is_some_and(|issuer| self.issuers.iter().any(|i| **i == *issuer)) {
            return Err(Flaw::Issuer);
        }
        if !self.takes_audience(claims) {
            return Err(Flaw::Audience);
        }
        self.times(claims, unix)
    }

    fn takes_type(&self, kind: &str) -> bool {
        // RFC 7515 section 4.1.9: "application/" may be left out.
        const PREFIX: &str = "application/";
        fn bare(text: &str) -> &str {
            match text.split_at_checked(PREFIX.len()) {
                Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
                _ => text,
            }
        }
        self.types.iter().any(|known| bare(known).eq_ignore_ascii_case(bare(kind)))
    }

    fn takes_audience(&self, claims: &Map<String, Value>) -> bool {
        let known = |value: &str| self.audience.iter().any(|audience| **audience == *value);
        match claims.get("aud") {
            Some(Value::String(one)) => self.audience.is_empty() || known(one),
            Some(Value::Array(all)) => {
                let texts = all.iter().all(Value::is_string);
                texts
                    && (self.audience.is_empty() || all.iter().filter_map(Value::as_str).any(known))
            }
            Some(_) => false,
            None if self.audience.is_empty() => true,
            None => {
                let client = claims.get("client_id").filter(|_| self.client_id);
                client.and_then(Value::as_str).is_some_and(known)
            }
        }
    }

    fn times(&self, claims: &Map<String, Value>, unix: u64) -> Result<Span, Flaw> {
        // Each is judged where it is given, whether or not it is needed: one of a wrong type is never "left out" (AUTH-06).
        let exp = time(claims, "exp", Flaw::Time("The exp is no time"))?;
        let nbf = time(claims, "nbf", Flaw::Time("The nbf is no time"))?;
        let iat = time(claims, "iat", Flaw::Time("The iat is no time"))?;
        let mut until = match exp {
            Some(exp) => exp.saturating_add(self.leeway),
            None if self.require_exp => return Err(Flaw::Time("The token has no exp")),
            None => u64::MAX,
        };
        if unix >= until {
            return Err(Flaw::Expired);
        }
        let from = nbf.max(iat).unwrap_or(0).saturating_sub(self.leeway);
        if unix < from {
            return Err(Flaw::TooEarly);
        }
        if let Some(max_age) = self.max_age {
            let iat = iat.ok_or(Flaw::Time("The token has no iat"))?;
            until = until.min(iat.saturating_add(max_age).saturating_add(self.leeway));
            if unix >= until {
                return Err(Flaw::TooOld);
            }
        }
        Ok(Span { from, until })
    }
}

/// A `NumericDate` in whole seconds: a number from 0 on that stands for a time before the year 10000 (RFC 7519 section 2).
fn time(claims: &Map<String, Value>, name: &str, flaw: Flaw) -> Result<Option<u64>, Flaw> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(flaw) };
    let fraction =
        || number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64);
    let seconds = number.as_u64().or_else(fraction).filter(|seconds| *seconds <= LATEST);
    seconds.map(Some).ok_or(flaw)
}
