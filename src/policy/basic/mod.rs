//! User names and passwords (RFC 7617).
//!
//! A password is hashed by control, never on a worker; what was found right, and what was found wrong, is remembered per core by
//! a keyed digest of user, password and hash, so that a hash that changes is asked about anew. Wrong passwords are counted over
//! all cores by client address and user, and by address alone: beyond `failures` nothing more of theirs is hashed (hazard
//! AUTH-21). A user that does not exist costs what any other does. Called by `kind`.

mod credentials;
pub mod hash;
#[cfg(test)]
mod tests;
mod users;

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::asking::{Asking, Most, Topic};
use crate::policy::failures::{self, Failures};
use crate::policy::recall::{Digest, Key, Recall};
use crate::policy::{Consumed, Files, Findings, Question, Reply, Subject, Verdict, Wrong};
use credentials::Credentials;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use users::Users;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As written.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// What the browser tells the user that the password is for.
    pub realm: String,
    /// Users and their hashes.
    pub users: Vec<(String, String)>,
    /// Files of users, as htpasswd writes them.
    pub files: Vec<PathBuf>,
    /// How long a password that was right is not hashed again.
    pub remember: Duration,
    /// Wrong passwords of one user from one address within `window`; ten times as many from one address whatever the user.
    pub failures: u64,
    /// See `failures`.
    pub window: Duration,
    /// Whether targets are sent the password, too.
    pub forward: bool,
    /// The field in which targets are told the user (lower-case).
    pub header: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let users: Vec<&str> = self.users.iter().map(|(user, _)| user.as_str()).collect();
        let Settings { realm, files, remember, header, .. } = self;
        let mut text = f.debug_struct("Settings");
        text.field("realm", realm).field("users", &users).field("files", files);
        text.field("remember", remember).field("header", header).finish_non_exhaustive()
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    users: Users,
    key: Arc<Key>,
    failures: Arc<Failures>,
    /// The line that asks for credentials.
    challenge: Vec<u8>,
    remember: Duration,
    most_failures: u64,
    window: Duration,
    forward: bool,
    header: Option<Box<str>>,
}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    right: Recall<()>,
    // Apart, so that who guesses cannot push out those who know.
    wrong: Recall<()>,
    asking: Asking,
    remember: Duration,
}

/// Right passwords that a core remembers.
const MOST_RIGHT: usize = 16_384;
/// Wrong ones.
const MOST_WRONG: usize = 4096;
/// How long a wrong password is not hashed again.
const REMEMBER_WRONG: Duration = Duration::from_secs(60);
/// Different passwords of one address that a core lets hash at the same time, and how many of them for one user.
const MOST_ASKING: Most = Most { of_part: 4, of_client: 64 };
/// How many more failures one address may have than one of its users.
const PER_ADDRESS: u64 = 10;

/// What a request's credentials come to.
struct Tried<'a> {
    credentials: &'a Credentials<'a>,
    /// The user's hash, or another user's for one that does not exist.
    hash: &'a Arc<str>,
    exists: bool,
    /// Of user, password and hash.
    question: Digest,
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with its users.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let users = Users::read(settings, files)?;
        let key = match old {
            Some(old) => Arc::clone(&old.key),
            None => Arc::new(Key::new().map_err(|found| Wrong { file: None, found })?),
        };
        Ok(Policy {
            users,
            key,
            failures: old.map_or_else(Arc::default, |old| Arc::clone(&old.failures)),
            challenge: challenge(&settings.realm),
            remember: settings.remember,
            most_failures: settings.failures,
            window: settings.window,
            forward: settings.forward,
            header: settings.header.as_deref().map(Box::from),
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
        let mut room = [0; credentials::ROOM];
        let credentials = match Credentials::read(subject.view.fields, &mut room) {
            Ok(credentials) => credentials,
            Err(fault) => return self.refuse(fault, findings),
        };
        let tried = self.tried(&credentials);
        if reply.is_none()
            && let Some(verdict) = self.recall(core, &tried, subject.now, findings)
        {
            return verdict;
        }
        let topic = self.topic(&tried, subject.client);
        match reply {
            None => self.ask(core, &tried, &topic, subject.now, findings),
            Some(Reply::Password(right)) => {
                core.asking.end(&topic);
                self.learn(core, &tried, &topic, right, subject.now, findings)
            }
            Some(Reply::Failed(_) | Reply::Unasked(_) | Reply::Called(_)) => {
                core.asking.end(&topic);
                Verdict::Refuse(Fault::PolicyUnavailable)
            }
        }
    }

    /// What is not sent on.
    pub fn consumes(&self) -> Vec<Consumed> {
        if self.forward { Vec::new() } else { vec![Consumed::Field("authorization".into())] }
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        self.header.iter().cloned().collect()
    }

    fn tried<'a>(&'a self, credentials: &'a Credentials<'a>) -> Tried<'a> {
        let user = credentials.user.as_bytes();
        let (hash, exists) = match self.users.hash(credentials.user) {
            Some(hash) => (hash, true),
            None => (self.users.another(&self.key.digest(&[b"another", user])), false),
        };
        // Whether the user exists counts: one that comes may have the very hash that was taken instead.
        let kind: &[u8] = if exists { b"password" } else { b"nobody" };
        let parts = [kind, user, credentials.password, hash.as_bytes()];
        Tried { credentials, hash, exists, question: self.key.digest(&parts) }
    }

    fn topic(&self, tried: &Tried<'_>, client: IpAddr) -> Topic {
        let (octets, len) = failures::network(client);
        let network = octets.get(..len).unwrap_or_default();
        Topic {
            question: tried.question,
            part: self.key.digest(&[b"pair", network, tried.credentials.user.as_bytes()]),
            client: self.key.digest(&[b"address", network]),
        }
    }

    /// Decides by what is remembered. Nothing is allocated here, and little is computed.
    fn recall(
        &self,
        core: &Core,
        tried: &Tried<'_>,
        now: Tick,
        findings: &mut Findings,
    ) -> Option<Verdict> {
        if tried.exists && core.right.get(&tried.question, now).is_some() {
            return Some(self.pass(tried, findings));
        }
        let wrong = core.wrong.get(&tried.question, now);
        wrong.map(|()| self.refuse(Fault::CredentialsInvalid, findings))
    }

    fn ask(
        &self,
        core: &Core,
        tried: &Tried<'_>,
        topic: &Topic,
        now: Tick,
        findings: &mut Findings,
    ) -> Verdict {
        let (window, left) = failures::window(now, self.window);
        let pair = self.failures.count(&topic.part, window) >= self.most_failures;
        let most = self.most_failures.saturating_mul(PER_ADDRESS);
        if pair || self.failures.count(&topic.client, window) >= most {
            findings.detail.push_str("Too many passwords from this address were wrong.");
            return retry_after(left, findings);
        }
        if !core.asking.begin(topic, MOST_ASKING, now) {
            findings.detail.push_str("Too many passwords from this address are being checked.");
            return retry_after(Duration::from_secs(1), findings);
        }
        Verdict::Ask(Box::new(Question::Password {
            hash: Arc::clone(tried.hash),
            password: tried.credentials.password.to_vec(),
        }))
    }

    fn learn(
        &self,
        core: &Core,
        tried: &Tried<'_>,
        topic: &Topic,
        right: bool,
        now: Tick,
        findings: &mut Findings,
    ) -> Verdict {
        if right && tried.exists {
            core.right.put(tried.question, (), now.after(self.remember));
            return self.pass(tried, findings);
        }
        // Of requests that came together with one password, one counts.
        if core.wrong.get(&tried.question, now).is_none() {
            let (window, _) = failures::window(now, self.window);
            self.failures.add(&topic.part, window);
            self.failures.add(&topic.client, window);
            core.wrong.put(tried.question, (), now.after(REMEMBER_WRONG));
        }
        self.refuse(Fault::CredentialsInvalid, findings)
    }

    fn pass(&self, tried: &Tried<'_>, findings: &mut Findings) -> Verdict {
        let user = tried.credentials.user;
        findings.identity.consumer.clear();
        findings.identity.consumer.push_str(user);
        if let Some(header) = &self.header {
            write::built_field(&mut findings.upstream, header.as_bytes(), user.as_bytes());
        }
        Verdict::Pass
    }

    fn refuse(&self, fault: Fault, findings: &mut Findings) -> Verdict {
        findings.response.extend_from_slice(&self.challenge);
        Verdict::Refuse(fault)
    }
}

fn retry_after(wait: Duration, findings: &mut Findings) -> Verdict {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    findings.response.extend_from_slice(b"Retry-After: ");
    write::number(&mut findings.response, seconds);
    findings.response.extend_from_slice(b"\r\n");
    Verdict::Refuse(Fault::RateLimited)
}

fn challenge(realm: &str) -> Vec<u8> {
    let mut quoted = String::with_capacity(realm.len());
    for c in realm.chars() {
        if c == '"' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    let mut line = Vec::new();
    let value = format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"");
    write::built_field(&mut line, b"WWW-Authenticate", value.as_bytes());
    line
}

impl Core {
    /// What a core begins with. After a reload it goes on with what it knows, unless passwords are now remembered for another
    /// time.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let core = Core {
            right: Recall::new(MOST_RIGHT),
            wrong: Recall::new(MOST_WRONG),
            asking: Asking::default(),
            remember: policy.remember,
        };
        if let Some(old) = old.filter(|old| old.remember == policy.remember) {
            core.right.adopt(&old.right);
            core.wrong.adopt(&old.wrong);
        }
        core
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, now: Tick) {
        self.right.sweep(now);
        self.wrong.sweep(now);
        self.asking.sweep(now);
    }
}
