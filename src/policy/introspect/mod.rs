//! Tokens that their issuer is asked about (RFC 7662).
//!
//! Control asks; what it was told is remembered per core by a keyed digest of the whole token, no longer than `cache` and the
//! token's own `exp` (hazard AUTH-22). Requests with one token that come together are one question (AUTH-18). What the issuer
//! answers is judged strictly, and where it answers nothing that can be used, nobody passes. Called by `kind`.

mod judge;
#[cfg(test)]
mod tests;

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::ask::Call;
use crate::policy::asking::{Asking, Most, Topic};
use crate::policy::failures::{self, Failures};
use crate::policy::identity::Claims;
use crate::policy::jwt::carrier::{self, Found};
use crate::policy::jwt::{Carrier, Hidden};
use crate::policy::recall::{Digest, Key, Recall};
use crate::policy::{Consumed, Files, Findings, Question, Reply, Subject, Verdict, Wrong};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use judge::{Flaw, Judged};
use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who is asked.
    pub endpoint: Box<str>,
    /// By whom.
    pub credentials: Credentials,
    /// Who may vouch for the endpoint, in a PEM file; left out, whom this system trusts.
    pub ca: Option<PathBuf>,
    /// For one question.
    pub timeout: Duration,
    /// How long an answer is remembered; zero for not at all.
    pub cache: Duration,
    /// How long it is remembered that a token is not active.
    pub cache_inactive: Duration,
    /// Where the token is, in the order in which it is looked for.
    pub carriers: Vec<Carrier>,
    /// What `iss` may be; empty for anything.
    pub issuer: Vec<Box<str>>,
    /// What `aud` must have one of; empty for anything.
    pub audience: Vec<Box<str>>,
    /// Claims that it must have, each with one of these texts.
    pub claims: Vec<(Box<str>, Vec<Box<str>>)>,
    /// Scopes of which it must have one; empty for none.
    pub scopes: Vec<Box<str>>,
    /// Fields (lower-case) that targets are sent, each with the claim that it holds.
    pub claims_to_headers: Vec<(Box<str>, Box<str>)>,
    /// The claim that says who the sender is.
    pub consumer: Box<str>,
    /// Whether a request without a token passes.
    pub optional: bool,
    /// Whether targets are sent the token.
    pub forward: bool,
    /// Tokens of one address that are not active, in a minute, before no more of its unknown tokens are asked about; 0 for any
    /// number.
    pub failures: u64,
}

/// As whom the endpoint is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Credentials {
    /// As nobody.
    None,
    /// A client and its secret, in `Authorization: Basic`.
    Client(Box<str>, Hidden),
    /// A token.
    Bearer(Hidden),
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.ca.iter().cloned().collect()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    ca: Option<Arc<[u8]>>,
    authorization: Option<Hidden>,
    /// Made anew when the settings change, so that nothing that was decided by others is found.
    key: Arc<Key>,
    failures: Arc<Failures>,
    /// What is asked of a client whose token has not the scope; a whole line.
    challenge_scope: Box<[u8]>,
}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    key: Arc<Key>,
    active: Recall<Rc<Entry>>,
    // Apart, so that who makes tokens up cannot push out real ones.
    refused: Recall<Flaw>,
    asking: Asking,
}

/// What is known of an active token.
#[derive(Debug)]
struct Entry {
    claims: Rc<Claims>,
    consumer: Box<str>,
    /// Field lines for the target.
    lines: Box<[u8]>,
    /// Whether it has the scopes and claims that this needs.
    suffices: bool,
    /// When it ends, in seconds since 1970.
    exp: Option<u64>,
}

/// Active tokens that a core remembers.
const MOST_ACTIVE: usize = 16_384;
/// Others.
const MOST_REFUSED: usize = 8192;
/// The longest token; a request line or field holds more.
const LONGEST_TOKEN: usize = 8192;
/// The largest answer.
const LARGEST: usize = 64 << 10;
/// How long other cores get the same answer.
const SHARED: Duration = Duration::from_secs(1);
/// Different tokens of one client that a core asks about at the same time.
const MOST_ASKING: Most = Most { of_part: 256, of_client: 256 };
/// In which failures are counted.
const WINDOW: Duration = Duration::from_secs(60);

const CHALLENGE: &[u8] = b"www-authenticate: Bearer\r\n";

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with its file.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let ca = match &settings.ca {
            Some(path) => Some(crate::policy::ask::authorities(path, files)?),
            None => None,
        };
        let same = old.filter(|old| old.settings == *settings && old.ca == ca);
        let key = match same {
            Some(old) => Arc::clone(&old.key),
            None => Arc::new(Key::new().map_err(|found| Wrong { file: None, found })?),
        };
        let mut challenge_scope = Vec::new();
        let scope = settings.scopes.join(" ");
        let scope = if scope.is_empty() { scope } else { format!(", scope=\"{scope}\"") };
        let value = format!("Bearer error=\"insufficient_scope\"{scope}");
        write::built_field(&mut challenge_scope, b"www-authenticate", value.as_bytes());
        Ok(Policy {
            ca,
            authorization: authorization(&settings.credentials),
            key,
            failures: old.map_or_else(Arc::default, |old| Arc::clone(&old.failures)),
            challenge_scope: challenge_scope.into(),
            settings: settings.clone(),
        })
    }

    /// Decides.
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        reply: Option<Reply>,
    ) -> Verdict {
        let token = match carrier::find(&self.settings.carriers, &subject.view) {
            Found::One(token) => token,
            Found::None if self.settings.optional => return Verdict::Pass,
            Found::None => {
                findings.response.extend_from_slice(CHALLENGE);
                return Verdict::Refuse(Fault::TokenMissing);
            }
            Found::Several => return refuse(Flaw::Malformed, findings),
        };
        let visible = token.iter().all(u8::is_ascii_graphic);
        if token.is_empty() || token.len() > LONGEST_TOKEN || !visible {
            return refuse(Flaw::Malformed, findings);
        }
        let question = self.key.digest(&[b"token", token]);
        if reply.is_none()
            && let Some(verdict) = self.recall(core, &question, subject, findings)
        {
            return verdict;
        }
        let topic = self.topic(question, subject);
        match reply {
            None => self.ask(core, token, &topic, subject, findings),
            Some(Reply::Called(called)) => {
                core.asking.end(&topic);
                let judged = judge::judge(&self.settings, &called, subject.unix);
                self.learn(core, &topic, judged, subject, findings)
            }
            Some(Reply::Failed(_) | Reply::Unasked(_) | Reply::Password(_)) => {
                core.asking.end(&topic);
                Verdict::Refuse(Fault::DecisionUnavailable)
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

    fn topic(&self, question: Digest, subject: &Subject<'_>) -> Topic {
        let (octets, len) = failures::network(subject.client);
        let client = self.key.digest(&[b"client", octets.get(..len).unwrap_or_default()]);
        Topic { question, part: client, client }
    }

    /// Decides by what is remembered. Nothing is allocated here, and little is computed.
    fn recall(
        &self,
        core: &Core,
        question: &Digest,
        subject: &Subject<'_>,
        findings: &mut Findings,
    ) -> Option<Verdict> {
        if let Some(entry) = core.active.get(question, subject.now) {
            return Some(self.grant(&entry, subject.unix, findings));
        }
        core.refused.get(question, subject.now).map(|flaw| refuse(flaw, findings))
    }

    fn ask(
        &self,
        core: &Core,
        token: &[u8],
        topic: &Topic,
        subject: &Subject<'_>,
        findings: &mut Findings,
    ) -> Verdict {
        let (window, left) = failures::window(subject.now, WINDOW);
        let most = self.settings.failures;
        if most > 0 && self.failures.count(&topic.client, window) >= most {
            findings.detail.push_str("Too many tokens of this client were not active.");
            return retry_after(left, findings);
        }
        if !core.asking.begin(topic, MOST_ASKING, subject.now) {
            return retry_after(Duration::from_secs(1), findings);
        }
        Verdict::Ask(Box::new(Question::Call(self.call(token, topic.question))))
    }

    fn call(&self, token: &[u8], question: Digest) -> Call {
        let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let mut fields = vec![
            field("content-type", b"application/x-www-form-urlencoded"),
            field("accept", b"application/json"),
        ];
        if let Some(Hidden(value)) = &self.authorization {
            fields.push(field("authorization", value));
        }
        let mut body = "token_type_hint=access_token&token=".to_owned();
        form(&mut body, token);
        Call {
            method: "POST",
            url: self.settings.endpoint.to_string(),
            fields,
            body: body.into_bytes(),
            timeout: self.settings.timeout,
            most: LARGEST,
            ca: self.ca.clone(),
            once: Some(question),
            keep: self.settings.cache.min(SHARED),
        }
    }

    fn learn(
        &self,
        core: &Core,
        topic: &Topic,
        judged: Result<Judged, Flaw>,
        subject: &Subject<'_>,
        findings: &mut Findings,
    ) -> Verdict {
        match judged {
            Ok(judged) => {
                let entry = Rc::new(self.entry(judged));
                let left = entry.exp.map(|exp| exp.saturating_sub(subject.unix));
                let cache = self.settings.cache.min(Duration::from_secs(left.unwrap_or(u64::MAX)));
                if !cache.is_zero() {
                    let until = subject.now.after(cache);
                    core.active.put(topic.question, Rc::clone(&entry), until);
                }
                self.grant(&entry, subject.unix, findings)
            }
            Err(Flaw::Unusable) => Verdict::Refuse(Fault::DecisionUnavailable),
            Err(flaw) => {
                // Of requests that came together with one token, one counts.
                if core.refused.get(&topic.question, subject.now).is_none() {
                    let (window, _) = failures::window(subject.now, WINDOW);
                    self.failures.add(&topic.client, window);
                    let until = subject.now.after(self.settings.cache_inactive);
                    core.refused.put(topic.question, flaw, until);
                }
                refuse(flaw, findings)
            }
        }
    }

    fn entry(&self, judged: Judged) -> Entry {
        let Judged { claims, exp } = judged;
        let mut lines = Vec::new();
        for (field, claim) in &self.settings.claims_to_headers {
            if let Some(text) = claims.text(claim) {
                write::built_field(&mut lines, field.as_bytes(), text.trim().as_bytes());
            }
        }
        Entry {
            consumer: claims.text(&self.settings.consumer).unwrap_or_default().into(),
            suffices: judge::suffices(&self.settings, &claims),
            lines: lines.into(),
            claims: Rc::new(claims),
            exp,
        }
    }

    /// What a token says goes to those who want to know. Nothing is allocated here once the vectors have grown.
    fn grant(&self, entry: &Entry, unix: u64, findings: &mut Findings) -> Verdict {
        // The wall clock may have been set since.
        if entry.exp.is_some_and(|exp| exp <= unix) {
            return refuse(Flaw::Expired, findings);
        }
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
}

/// RFC 6750 section 3: sentences of ours have neither quotes nor backslashes.
fn refuse(flaw: Flaw, findings: &mut Findings) -> Verdict {
    let sentence = flaw.sentence();
    let lines = &mut findings.response;
    lines.extend_from_slice(
        b"www-authenticate: Bearer error=\"invalid_token\", error_description=\"",
    );
    lines.extend_from_slice(sentence.as_bytes());
    lines.extend_from_slice(b"\"\r\n");
    findings.detail.push_str(sentence);
    findings.detail.push('.');
    Verdict::Refuse(flaw.fault())
}

fn retry_after(wait: Duration, findings: &mut Findings) -> Verdict {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    findings.response.extend_from_slice(b"retry-after: ");
    write::number(&mut findings.response, seconds);
    findings.response.extend_from_slice(b"\r\n");
    Verdict::Refuse(Fault::RateLimited)
}

/// RFC 6749 section 2.3.1: both are encoded as forms are, then as RFC 7617 says.
fn authorization(credentials: &Credentials) -> Option<Hidden> {
    match credentials {
        Credentials::None => None,
        Credentials::Client(id, Hidden(secret)) => {
            let mut text = String::new();
            form(&mut text, id.as_bytes());
            text.push(':');
            form(&mut text, secret);
            let value = format!("Basic {}", BASE64_STANDARD.encode(text));
            Some(Hidden(value.into_bytes().into()))
        }
        Credentials::Bearer(Hidden(token)) => {
            Some(Hidden([b"Bearer ".as_slice(), token].concat().into()))
        }
    }
}

/// Appends octets as a form has them.
fn form(text: &mut String, octets: &[u8]) {
    for octet in octets {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(octet) {
            text.push(char::from(*octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{octet:02X}");
        }
    }
}

impl Core {
    /// What a core begins with. After a reload that has changed nothing here it goes on with what it knows.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let core = Core {
            key: Arc::clone(&policy.key),
            active: Recall::new(MOST_ACTIVE),
            refused: Recall::new(MOST_REFUSED),
            asking: Asking::default(),
        };
        if let Some(old) = old.filter(|old| Arc::ptr_eq(&old.key, &policy.key)) {
            core.active.adopt(&old.active);
            core.refused.adopt(&old.refused);
        }
        core
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, now: Tick) {
        self.active.sweep(now);
        self.refused.sweep(now);
        self.asking.sweep(now);
    }
}
