//! Requests that are signed with HTTP message signatures (RFC 9421), by a key that the configuration knows.
//!
//! What must be covered is fixed here, not by the signer: the method, the target and, through Content-Digest (RFC 9530), the
//! body. A key is for one algorithm. A signature is fresh for `max_age`; with a nonce it is taken once. The signature is verified
//! before the body is read, so that nobody makes ringgate collect one without a key.

mod base;
mod digest;
mod keys;
mod nonces;

pub use keys::{Algorithm, KeySettings, Secret};

use crate::base::Tick;
use crate::http::{Fault, RequestView, write};
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use base::{Base, Signed};
use keys::Key;
use nonces::Nonces;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Keys.
    pub keys: Vec<KeySettings>,
    /// A file with further ones.
    pub file: Option<PathBuf>,
    /// The label of the signature that counts; `None` for any.
    pub label: Option<String>,
    /// The tag that it must have.
    pub tag: Option<String>,
    /// What must be covered, as [`component`] writes it; `None` for the method and the whole target.
    pub require: Option<Vec<String>>,
    /// Whether a body must be covered by a Content-Digest.
    pub digest: bool,
    /// How long a signature is good for after it was created.
    pub max_age: Duration,
    /// How far clocks may be apart.
    pub skew: Duration,
    /// What of nonces.
    pub nonce: Nonce,
    /// Signatures with a nonce that are remembered, at least.
    pub nonces: u64,
    /// The most octets of a body whose digest is verified.
    pub limit: u64,
    /// The field (lower-case) in which targets are told the consumer.
    pub header: Option<String>,
}

/// What is done with nonces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nonce {
    /// None is looked at.
    Ignored,
    /// One that is there is taken once.
    #[default]
    Optional,
    /// There must be one, and it is taken once.
    Required,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            keys: Vec::new(),
            file: None,
            label: None,
            tag: None,
            require: None,
            digest: true,
            max_age: Duration::from_secs(300),
            skew: Duration::from_secs(30),
            nonce: Nonce::default(),
            nonces: 100_000,
            limit: 1 << 20,
            header: None,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.file.iter().cloned().collect()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    keys: HashMap<String, Key>,
    settings: Settings,
    // Nothing where no nonces are looked at.
    nonces: Option<Arc<Nonces>>,
    // What a client that has not signed is told to cover.
    wanted: Vec<u8>,
}

/// What one core remembers: nothing. Nonces are remembered for the whole machine.
#[derive(Debug)]
pub struct Core {}

// Signatures of one request that are looked at, and those that are verified, which costs.
const MOST_SIGNATURES: usize = 8;
const MOST_VERIFIED: usize = 3;
const MISSING: &str = "No signature of the request is for this service.";
const UNKNOWN: &str = "No signature of the request verifies with a known key.";

/// Why a signature does not count. The sentence quotes nothing but what the client has sent as names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsigned(Fault, String);

impl Unsigned {
    fn missing(why: &str) -> Unsigned {
        Unsigned(Fault::SignatureMissing, why.to_owned())
    }

    fn invalid(why: impl Into<String>) -> Unsigned {
        Unsigned(Fault::SignatureInvalid, why.into())
    }
}

impl Policy {
    /// Compiles it. What `old` remembers of nonces goes on.
    ///
    /// # Errors
    /// A key that is none, or not for its algorithm; two keys of one id; no key at all.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let mut keys = HashMap::new();
        let wrong = |found: String| Wrong { file: None, found };
        for one in &settings.keys {
            add(&mut keys, one).map_err(wrong)?;
        }
        if let Some(path) = &settings.file {
            let wrong = |found: String| Wrong { file: Some(path.clone()), found };
            let octets = files(path).ok_or_else(|| wrong("the file was not read".to_owned()))?;
            for one in keys::read(&octets).map_err(wrong)? {
                add(&mut keys, &one).map_err(wrong)?;
            }
        }
        if keys.is_empty() {
            return Err(wrong("no key to verify signatures with".to_owned()));
        }
        let nonces = (settings.nonce != Nonce::Ignored).then(|| {
            let before = old.and_then(|old| old.nonces.as_ref());
            Nonces::new(settings.nonces, before)
        });
        let wanted = wanted(settings);
        let settings = Settings { keys: Vec::new(), ..settings.clone() };
        Ok(Policy { keys, settings, nonces, wanted })
    }

    /// Decides.
    pub fn check(
        &self,
        _: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        match self.judge(subject) {
            Ok(key) => {
                findings.identity.consumer.clear();
                findings.identity.consumer.push_str(&key.consumer);
                if let Some(header) = &self.settings.header {
                    let consumer = key.consumer.as_bytes();
                    write::built_field(&mut findings.upstream, header.as_bytes(), consumer);
                }
                Verdict::Pass
            }
            Err(Unsigned(fault, why)) => {
                if fault.status() == 401 {
                    write::field(&mut findings.response, b"www-authenticate", b"Signature");
                    write::field(&mut findings.response, b"accept-signature", &self.wanted);
                }
                findings.detail.push_str(&why);
                Verdict::Refuse(fault)
            }
        }
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        self.settings.header.iter().map(|name| name.as_str().into()).collect()
    }

    /// The most octets of a body that it must see: those of a signed request that has one, to verify its digest.
    pub fn body_limit(&self, subject: &Subject<'_>) -> Option<u64> {
        if !has_body(&subject.view) {
            return None;
        }
        let (_, signed) = self.verify(subject).ok()?;
        signed.covers(digest::COVERED).then_some(self.settings.limit)
    }

    fn judge(&self, subject: &Subject<'_>) -> Result<&Key, Unsigned> {
        let (key, signed) = self.verify(subject)?;
        if signed.covers(digest::COVERED) {
            let body = match subject.body {
                Some(body) => body,
                None if has_body(&subject.view) => {
                    // It was asked for: nobody passes without.
                    let why = "The body is not here.".to_owned();
                    return Err(Unsigned(Fault::PolicyUnavailable, why));
                }
                None => &[],
            };
            if body.len() as u64 > self.settings.limit {
                let why = "The body is too large to verify its digest.".to_owned();
                return Err(Unsigned(Fault::BodyTooLarge, why));
            }
            digest::verify(subject.view.fields, body).map_err(Unsigned::invalid)?;
        }
        // Last: only what is right in every other way is remembered.
        let Some(nonces) = &self.nonces else { return Ok(key) };
        let Some(nonce) = &signed.nonce else {
            if self.settings.nonce == Nonce::Required {
                return Err(Unsigned::invalid("The signature has no nonce."));
            }
            return Ok(key);
        };
        let until = self.last_moment(&signed);
        match nonces.take(&key.id, nonce, subject.unix, until) {
            nonces::Taken::First => Ok(key),
            nonces::Taken::Again => {
                Err(Unsigned::invalid("The nonce of the signature was used before."))
            }
            nonces::Taken::Full => {
                let why = "Too many nonces are remembered; try again later.".to_owned();
                Err(Unsigned(Fault::PolicyUnavailable, why))
            }
        }
    }

    // The first signature that verifies and says all that it must.
    fn verify<'k>(&'k self, subject: &Subject<'_>) -> Result<(&'k Key, Signed), Unsigned> {
        let all = base::signatures(subject.view.fields).map_err(Unsigned::invalid)?;
        let mut last = Unsigned::missing(MISSING);
        let mut verified = 0;
        for signed in all.into_iter().take(MOST_SIGNATURES) {
            let named = self.settings.label.as_ref().is_none_or(|label| *label == signed.label);
            if !named || (self.settings.tag.is_some() && signed.tag != self.settings.tag) {
                continue;
            }
            let known = signed.keyid.as_ref().and_then(|id| self.keys.get(id));
            let Some(key) = known else {
                last = Unsigned::invalid(UNKNOWN);
                continue;
            };
            if verified >= MOST_VERIFIED {
                break;
            }
            verified += 1;
            match self.verify_one(subject, key, &signed) {
                Ok(()) => return Ok((key, signed)),
                Err(why) => last = Unsigned::invalid(why),
            }
        }
        Err(last)
    }

    fn verify_one(&self, subject: &Subject<'_>, key: &Key, signed: &Signed) -> Result<(), String> {
        if signed.alg.as_ref().is_some_and(|alg| *alg != key.algorithm.name()) {
            return Err("The signature names another algorithm than its key is for.".to_owned());
        }
        self.is_fresh(signed, subject.unix)?;
        self.covers_enough(subject, signed)?;
        let base = Base::of(subject, signed)?;
        if key.verify(base.octets(), &signed.signature) { Ok(()) } else { Err(UNKNOWN.to_owned()) }
    }

    fn is_fresh(&self, signed: &Signed, now: u64) -> Result<(), String> {
        let created = signed.created.ok_or("The signature does not say when it was created.")?;
        if created > now.saturating_add(self.settings.skew.as_secs()) {
            return Err("The signature was created in the future.".to_owned());
        }
        if signed.expires.is_some_and(|expires| expires < created) {
            return Err("The signature expires before it was created.".to_owned());
        }
        if now > self.last_moment(signed) {
            return Err("The signature is too old.".to_owned());
        }
        Ok(())
    }

    // The last second in which it counts.
    fn last_moment(&self, signed: &Signed) -> u64 {
        let created = signed.created.unwrap_or_default();
        let oldest = created.saturating_add(self.settings.max_age.as_secs());
        let last = signed.expires.map_or(oldest, |expires| expires.min(oldest));
        last.saturating_add(self.settings.skew.as_secs())
    }

    fn covers_enough(&self, subject: &Subject<'_>, signed: &Signed) -> Result<(), String> {
        let missing = |what: &str| Err(format!("The signature does not cover {what}."));
        if self.settings.digest && has_body(&subject.view) && !signed.covers(digest::COVERED) {
            return missing("content-digest, and the request has a body");
        }
        if let Some(required) = &self.settings.require {
            return match required.iter().find(|one| !signed.covers(one)) {
                Some(one) => missing(one),
                None => Ok(()),
            };
        }
        if !signed.covers("\"@method\"") {
            return missing("\"@method\"");
        }
        if signed.covers("\"@target-uri\"") {
            return Ok(());
        }
        let target = signed.covers("\"@request-target\"");
        let path = target || signed.covers("\"@path\"");
        let query = target || signed.covers("\"@query\"") || subject.view.query.is_none();
        if path && query && signed.covers("\"@authority\"") {
            return Ok(());
        }
        missing("\"@target-uri\", or \"@authority\", \"@path\" and \"@query\"")
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core {}
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

/// A component as signatures name it (RFC 9421 section 2): `"@method"`, `"@query-param";name="a"`. Written in the file without
/// the first quotes. `None` where it is none that can be verified.
pub fn component(text: &str) -> Option<String> {
    base::component(text)
}

fn add(keys: &mut HashMap<String, Key>, one: &KeySettings) -> Result<(), String> {
    let key = Key::build(one).map_err(|why| format!("key {:?}: {why}", one.id))?;
    match keys.insert(one.id.clone(), key) {
        None => Ok(()),
        Some(_) => Err(format!("key {:?}: there is another one of this id", one.id)),
    }
}

// Accept-Signature (RFC 9421 section 5.1).
fn wanted(settings: &Settings) -> Vec<u8> {
    let usual = || vec!["\"@method\"".to_owned(), "\"@target-uri\"".to_owned()];
    let mut covered = settings.require.clone().unwrap_or_else(usual);
    if settings.digest && !covered.iter().any(|one| one == digest::COVERED) {
        covered.push(digest::COVERED.to_owned());
    }
    let label = settings.label.as_deref().unwrap_or("sig1");
    let mut out = format!("{label}=({});created;keyid", covered.join(" "));
    if settings.nonce == Nonce::Required {
        out.push_str(";nonce");
    }
    if let Some(tag) = &settings.tag {
        out.push_str(&format!(";tag=\"{tag}\""));
    }
    out.into_bytes()
}

// Whether a body comes with the head, as it is framed.
fn has_body(view: &RequestView<'_>) -> bool {
    let length = view.fields.first("content-length").unwrap_or(b"0");
    view.fields.first("transfer-encoding").is_some() || length.iter().any(|b| *b != b'0')
}

#[cfg(test)]
mod tests;
