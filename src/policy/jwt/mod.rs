//! Signed tokens (RFC 7519) of issuers that are trusted.
//!
//! [`verify`] judges one token against rules and keys; [`remember`] is what a core knows of tokens that it has met; [`source`] is where
//! keys come from that control fetches. Here a request's token is found, judged once, and what it says handed on: who the
//! sender is, for policies and the log, and claims as fields for the target. Nothing is fetched here, and nobody waits: with keys
//! that are not known yet, nobody passes (hazard AUTH-09).

pub mod algorithm;
pub mod carrier;
pub mod json;
pub mod keys;
pub mod remember;
pub mod settings;
pub mod source;
pub mod verify;

#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, Algorithms};
pub use keys::KeySet;
pub use settings::{Carrier, Hidden, Issuer, Settings};
pub use source::{Location, Origin, Source};
pub use verify::{Flaw, Rules, verify};

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::identity::Claims;
use crate::policy::{Consumed, Files, Findings, Reply, Subject, Verdict, Wrong};
use carrier::Found;
use remember::{Entry, Memory};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use settings::Keys;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use verify::Opened;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As run.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    trusts: Vec<Trust>,
    /// What is asked of a client that has no token, and of one whose token has not the scope; whole lines.
    challenge: Box<[u8]>,
    challenge_scope: Box<[u8]>,
}

#[derive(Debug)]
struct Trust {
    rules: Rules,
    keys: Held,
}

#[derive(Debug)]
enum Held {
    Fixed(KeySet),
    Fetched(Arc<Source>),
}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    memory: RefCell<Memory>,
}

/// Why a token is not taken now.
enum Stop {
    Flaw(Flaw),
    /// The client has sent too many tokens with wrong signatures.
    Wait(Tick),
}

impl From<Flaw> for Stop {
    fn from(flaw: Flaw) -> Stop {
        Stop::Flaw(flaw)
    }
}

impl Policy {
    /// Compiles it. Keys that are fetched from where `old` fetches them go on.
    ///
    /// # Errors
    /// What is wrong with it or its files.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let before: Vec<&Arc<Source>> = old.into_iter().flat_map(Policy::sources).collect();
        let trust = |issuer: &Issuer| {
            let keys = held(issuer, files, &before)?;
            let rules = Rules {
                issuers: issuer.names.clone(),
                audience: issuer.audience.clone(),
                client_id: true,
                algorithms: issuer.algorithms,
                types: settings.types.clone(),
                require_exp: settings.require_exp,
                leeway: settings.leeway.as_secs(),
                max_age: settings.max_age.map(|age| age.as_secs()),
            };
            Ok(Trust { rules, keys })
        };
        let mut challenge_scope = Vec::new();
        let scope = settings.scopes.join(" ");
        let scope = if scope.is_empty() { scope } else { format!(", scope=\"{scope}\"") };
        let value = format!("Bearer error=\"insufficient_scope\"{scope}");
        write::built_field(&mut challenge_scope, b"www-authenticate", value.as_bytes());
        Ok(Policy {
            trusts: settings.issuers.iter().map(trust).collect::<Result<_, Wrong>>()?,
            settings: settings.clone(),
            challenge: Box::from(&b"www-authenticate: Bearer\r\n"[..]),
            challenge_scope: challenge_scope.into(),
        })
    }

    /// The keys that control fetches for it.
    pub fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.trusts.iter().filter_map(|trust| match &trust.keys {
            Held::Fetched(source) => Some(source),
            Held::Fixed(_) => None,
        })
    }

    /// Decides.
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        let token = match carrier::find(&self.settings.carriers, &subject.view) {
            Found::One(token) => token,
            Found::None if self.settings.optional => return Verdict::Pass,
            Found::None => {
                findings.response.extend_from_slice(&self.challenge);
                return Verdict::Refuse(Fault::TokenMissing);
            }
            Found::Several => {
                let flaw = Flaw::Malformed("The request has more than one token");
                return refuse(flaw, findings);
            }
        };
        let mut memory = core.memory.borrow_mut();
        let generation = |at: usize| self.trusts.get(at).map_or(u64::MAX, Trust::generation);
        if let Some(entry) = memory.find(token, subject.now, subject.unix, generation) {
            return self.grant(entry, findings);
        }
        match self.examine(&mut memory, token, subject) {
            Ok(entry) => {
                let verdict = self.grant(&entry, findings);
                memory.insert(token, token.len(), entry);
                verdict
            }
            Err(Stop::Flaw(flaw)) => refuse(flaw, findings),
            Err(Stop::Wait(until)) => {
                let seconds = until.since(subject.now).as_secs() + 1;
                let seconds = seconds.to_string();
                write::field(&mut findings.response, b"retry-after", seconds.as_bytes());
                findings.detail.push_str("Too many tokens of this client had wrong signatures.");
                Verdict::Refuse(Fault::RateLimited)
            }
        }
    }

    /// What is not sent on.
    pub fn consumes(&self) -> Vec<Consumed> {
        if self.settings.forward { Vec::new() } else { self.carried() }
    }

    /// Where a token may be, whether or not it is sent on.
    pub fn carried(&self) -> Vec<Consumed> {
        let Settings { carriers, optional, .. } = &self.settings;
        carriers.iter().map(|carrier| carrier.consumed(*optional)).collect()
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        self.settings.claims_to_headers.iter().map(|(field, _)| field.clone()).collect()
    }

    // A token that is not remembered. What is cheap comes first; the signature last.
    fn examine(
        &self,
        memory: &mut Memory,
        token: &[u8],
        subject: &Subject<'_>,
    ) -> Result<Entry, Stop> {
        let opened = Opened::read(token)?;
        let named = opened.issuer().ok_or(Flaw::Issuer)?;
        let mut trusts = self.trusts.iter().enumerate();
        let (issuer, trust) = trusts
            .find(|(_, trust)| trust.rules.issuers.iter().any(|issuer| **issuer == *named))
            .ok_or(Flaw::Issuer)?;
        let span = trust.rules.judge(&opened, subject.unix)?;
        let generation = trust.generation();
        if memory.is_refused(token, generation, subject.now) {
            return Err(Flaw::Signature.into());
        }
        let most = self.settings.failures;
        if let Some(until) = memory.waits(subject.client, most, subject.now).filter(|_| most > 0) {
            return Err(Stop::Wait(until));
        }
        if let Err(flaw) = trust.verify(&opened) {
            if flaw == Flaw::Signature {
                memory.refuse(token, generation, subject.now);
                memory.count_failure(subject.client, subject.now);
            }
            return Err(flaw.into());
        }
        let Opened { claims, .. } = opened;
        Ok(Entry {
            lines: self.lines(&claims),
            consumer: claims.text(&self.settings.consumer).unwrap_or_default().into(),
            suffices: self.suffices(&claims),
            claims: Rc::new(claims),
            issuer,
            generation,
            span,
            until: subject.now.after(self.settings.remember_for),
        })
    }

    // What a token says goes to those who want to know. Nothing is allocated here once the vectors have grown.
    fn grant(&self, entry: &Entry, findings: &mut Findings) -> Verdict {
        findings.identity.consumer.clear();
        findings.identity.consumer.push_str(&entry.consumer);
        findings.identity.claims = Some(Rc::clone(&entry.claims));
        if !entry.suffices {
            findings.response.extend_from_slice(&self.challenge_scope);
            return Verdict::Refuse(Fault::TokenScope);
        }
        findings.upstream.extend_from_slice(&entry.lines);
        Verdict::Pass
    }

    fn lines(&self, claims: &Claims) -> Rc<[u8]> {
        let mut lines = Vec::new();
        for (field, claim) in &self.settings.claims_to_headers {
            if let Some(text) = claims.text(claim) {
                write::built_field(&mut lines, field.as_bytes(), text.trim().as_bytes());
            }
        }
        lines.into()
    }

    fn suffices(&self, claims: &Claims) -> bool {
        use serde_json::Value;
        let has = |claim: &str, wanted: &[Box<str>]| match claims.find(claim) {
            Some(Value::Array(items)) => items
                .iter()
                .filter_map(Value::as_str)
                .any(|item| wanted.iter().any(|wanted| **wanted == *item)),
            Some(_) => claims.text(claim).is_some_and(|text| wanted.iter().any(|w| **w == *text)),
            None => false,
        };
        let in_scope = |claim: &str| match claims.0.get(claim) {
            Some(Value::String(scopes)) => scopes
                .split(' ')
                .any(|scope| self.settings.scopes.iter().any(|wanted| **wanted == *scope)),
            Some(Value::Array(_)) => has(claim, &self.settings.scopes),
            _ => false,
        };
        let settings = &self.settings;
        (settings.scopes.is_empty() || in_scope("scope") || in_scope("scp"))
            && settings.claims.iter().all(|(claim, wanted)| has(claim, wanted))
    }
}

impl Core {
    /// What a core begins with. A policy that has changed may judge tokens differently: nothing goes on.
    pub fn bind(policy: &Policy, _: Option<&Core>) -> Core {
        Core { memory: RefCell::new(Memory::new(policy.settings.remember)) }
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, now: Tick) {
        self.memory.borrow_mut().sweep(now);
    }
}

impl Trust {
    fn generation(&self) -> u64 {
        match &self.keys {
            Held::Fixed(_) => 0,
            Held::Fetched(source) => source.generation(),
        }
    }

    fn verify(&self, opened: &Opened<'_>) -> Result<(), Flaw> {
        let source = match &self.keys {
            Held::Fixed(keys) => return opened.verify(keys),
            Held::Fetched(source) => source,
        };
        let keys = source.keys();
        let Some(keys) = keys.as_ref() else { return Err(Flaw::NoKeys) };
        let verified = opened.verify(keys);
        // A key that is not in the set may be a new one; without a kid, a wrong signature may be of a new one.
        if matches!(verified, Err(Flaw::Key)) || (verified.is_err() && opened.kid.is_none()) {
            source.want();
        }
        verified
    }
}

fn refuse(flaw: Flaw, findings: &mut Findings) -> Verdict {
    let (fault, sentence) = (flaw.fault(), flaw.sentence());
    if fault != Fault::TokenKeysUnavailable {
        // RFC 6750 section 3: sentences of ours have neither quotes nor backslashes.
        let lines = &mut findings.response;
        lines.extend_from_slice(
            b"www-authenticate: Bearer error=\"invalid_token\", error_description=\"",
        );
        lines.extend_from_slice(sentence.as_bytes());
        lines.extend_from_slice(b"\"\r\n");
        findings.detail.push_str(sentence);
        findings.detail.push('.');
    }
    Verdict::Refuse(fault)
}

fn held(issuer: &Issuer, files: Files<'_>, before: &[&Arc<Source>]) -> Result<Held, Wrong> {
    let read = |path: &Path| {
        let unread =
            || Wrong { file: Some(path.to_owned()), found: "a file that was not read".into() };
        files(path).ok_or_else(unread)
    };
    let (file, keys) = match &issuer.keys {
        Keys::Fetched { location, ca, allow_http, refresh, max_stale } => {
            let ca = match ca {
                Some(path) => Some(certificates(path, read(path)?)?),
                None => None,
            };
            let (location, allow_http) = (location.clone(), *allow_http);
            let (refresh, max_stale) = (*refresh, *max_stale);
            let origin = Origin { location, ca, allow_http, refresh, max_stale };
            let known = before.iter().find(|source| source.origin == origin);
            let source = known.map(|source| Arc::clone(source));
            return Ok(Held::Fetched(source.unwrap_or_else(|| Arc::new(Source::new(origin)))));
        }
        Keys::File(path) => (Some(path.clone()), KeySet::of_file(&read(path)?)),
        Keys::Inline(text) => (None, KeySet::of_jwks(text.as_bytes())),
        Keys::Secret(Hidden(secret)) => (None, KeySet::of_secret(secret, issuer.algorithms)),
        Keys::SecretFile(path) => {
            let octets = read(path)?;
            let secret = octets.strip_suffix(b"\n").unwrap_or(&octets);
            let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
            (Some(path.clone()), KeySet::of_secret(secret, issuer.algorithms))
        }
    };
    let keys = keys.map_err(|found| Wrong { file: file.clone(), found })?;
    if !keys.serves(issuer.algorithms) {
        let found = format!("no key that serves one of {:?}", issuer.algorithms);
        return Err(Wrong { file, found });
    }
    Ok(Held::Fixed(keys))
}

// A file that vouches for nobody must not become a file that vouches for anybody (hazard AUTH-11).
fn certificates(path: &Path, octets: Arc<[u8]>) -> Result<Arc<[u8]>, Wrong> {
    let wrong = |found: String| Wrong { file: Some(path.to_owned()), found };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&octets) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate".to_owned())) } else { Ok(octets) }
}
