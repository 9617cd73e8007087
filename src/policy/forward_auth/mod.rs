//! An external service decides, over HTTP: as with nginx's `auth_request`, Traefik's ForwardAuth and Envoy's ext_authz.
//!
//! The service is sent a GET with the client's fields that are named, and with what ringgate knows of the request; nothing else of
//! the client's reaches it. With 2xx the request passes, and fields of the answer go to the target; 3xx, 401, 403 and 429 are the
//! client's answer; after anything else nobody passes, unless the service has failed and the file says so. A decision may be
//! remembered, by all that was sent (hazard AUTH-22). Called by `kind`.

mod sent;
#[cfg(test)]
mod tests;

pub use sent::is_ours;

use crate::base::Tick;
use crate::http::{Fault, write};
use crate::policy::ask::{Call, Called};
use crate::policy::recall::{Digest, Key, Recall};
use crate::policy::{Answer, Files, Findings, Question, Reply, Subject, Verdict, Wrong};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

/// As written. Names of fields are lower-case.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The service.
    pub url: Box<str>,
    /// Who may vouch for it, in a PEM file; left out, whom this system trusts.
    pub ca: Option<PathBuf>,
    /// Fields of the client's that it is sent.
    pub send: Vec<Box<str>>,
    /// Fields of its answer that targets are sent, and no client may send.
    pub headers_to_target: Vec<Box<str>>,
    /// Fields of its answer that the client is sent when the request passes.
    pub headers_to_client: Vec<Box<str>>,
    /// Fields of its answer that the client is sent when the request does not pass.
    pub answer_headers: Vec<Box<str>>,
    /// The field of its answer that says who the sender is.
    pub consumer: Option<Box<str>>,
    /// The most octets of its answer's body.
    pub answer_limit: u64,
    /// For one question.
    pub timeout: Duration,
    /// How long a decision is remembered; zero for not at all.
    pub cache: Duration,
    /// Whether requests pass when the service fails.
    pub allow_on_failure: bool,
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
    /// Made anew when the settings change, so that nothing that was decided by others is found.
    key: Arc<Key>,
}

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    key: Arc<Key>,
    decisions: Recall<Rc<Decision>>,
    // For values that are put together.
    scratch: RefCell<Vec<u8>>,
}

/// What the service has decided.
#[derive(Clone, Debug)]
enum Decision {
    /// The request passes.
    Pass {
        /// Field lines for the target.
        upstream: Vec<u8>,
        /// Field lines for the client.
        response: Vec<u8>,
        /// Who the sender is.
        consumer: String,
    },
    /// The client gets this answer.
    Answer(Answer),
}

/// Decisions that a core remembers.
const MOST: usize = 8192;
/// The longest name of a sender.
const LONGEST_CONSUMER: usize = 256;
/// How long other cores get the same decision.
const SHARED: Duration = Duration::from_secs(1);

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
        Ok(Policy { settings: settings.clone(), ca, key })
    }

    /// Decides.
    pub fn check(
        &self,
        core: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        reply: Option<Reply>,
    ) -> Verdict {
        let cached = !self.settings.cache.is_zero();
        let digest = cached.then(|| self.digest(core, subject));
        match (reply, &digest) {
            (None, Some(digest)) => match core.decisions.get(digest, subject.now) {
                Some(decision) => grant(&decision, findings),
                None => self.ask(core, subject, Some(*digest)),
            },
            (None, None) => self.ask(core, subject, None),
            (Some(Reply::Called(called)), _) => match self.judge(&called) {
                Some(decision) => {
                    if let Some(digest) = digest.filter(|_| is_lasting(&called)) {
                        let until = subject.now.after(self.settings.cache);
                        core.decisions.put(digest, Rc::new(decision.clone()), until);
                    }
                    grant(&decision, findings)
                }
                None if called.status >= 500 => self.without(),
                // Such as 400, 414 and 431, which a client can bring about (hazard AUTH-11).
                None => Verdict::Refuse(Fault::DecisionUnavailable),
            },
            (Some(Reply::Failed(_)), _) => self.without(),
            (Some(Reply::Unasked(_) | Reply::Password(_)), _) => {
                Verdict::Refuse(Fault::DecisionUnavailable)
            }
        }
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        self.settings.headers_to_target.clone()
    }

    fn digest(&self, core: &Core, subject: &Subject<'_>) -> Digest {
        let mut digesting = self.key.begin();
        let mut scratch = core.scratch.borrow_mut();
        sent::each(&self.settings.send, subject, &mut scratch, &mut |name, value| {
            digesting.part(name.as_bytes());
            digesting.part(value);
        });
        digesting.finish()
    }

    fn ask(&self, core: &Core, subject: &Subject<'_>, digest: Option<Digest>) -> Verdict {
        let mut fields = Vec::new();
        // Two clients behind one address that have sent nothing of their own may each get a cookie: they are asked for apart.
        let mut sent = self.settings.send.iter();
        let own = sent.any(|name| subject.view.fields.first(name).is_some());
        let digest = digest.filter(|_| own);
        let mut scratch = core.scratch.borrow_mut();
        sent::each(&self.settings.send, subject, &mut scratch, &mut |name, value| {
            fields.push((name.to_owned(), value.to_vec()));
        });
        Verdict::Ask(Box::new(Question::Call(Call {
            method: "GET",
            url: self.settings.url.to_string(),
            fields,
            body: Vec::new(),
            timeout: self.settings.timeout,
            most: usize::try_from(self.settings.answer_limit).unwrap_or(usize::MAX),
            ca: self.ca.clone(),
            once: digest,
            keep: self.settings.cache.min(SHARED),
        })))
    }

    /// What an answer means; `None` where the service has failed.
    fn judge(&self, called: &Called) -> Option<Decision> {
        let lines = |names: &[Box<str>]| {
            let mut lines = Vec::new();
            for name in names {
                let values = called.fields.iter().filter(|(n, _)| **n == **name);
                // A value that would begin a line of its own is left out.
                values.for_each(|(_, value)| {
                    write::built_field(&mut lines, name.as_bytes(), value);
                });
            }
            lines
        };
        match called.status {
            200..=299 => Some(Decision::Pass {
                upstream: lines(&self.settings.headers_to_target),
                response: lines(&self.settings.headers_to_client),
                consumer: self.consumer(called),
            }),
            300..=303 | 305..=399 | 401 | 403 | 429 => Some(Decision::Answer(Answer {
                status: called.status,
                fields: lines(&self.settings.answer_headers),
                body: called.body.clone(),
            })),
            _ => None,
        }
    }

    fn consumer(&self, called: &Called) -> String {
        let name = self.settings.consumer.as_deref();
        let value = name.and_then(|name| called.field(name));
        let text = value.and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
        let fits = |text: &&str| text.len() <= LONGEST_CONSUMER && !text.contains(char::is_control);
        text.filter(fits).unwrap_or_default().to_owned()
    }

    fn without(&self) -> Verdict {
        match self.settings.allow_on_failure {
            true => Verdict::Pass,
            false => Verdict::Refuse(Fault::DecisionUnavailable),
        }
    }
}

/// Nothing is allocated here for a request that passes, once the vectors have grown.
fn grant(decision: &Decision, findings: &mut Findings) -> Verdict {
    match decision {
        Decision::Pass { upstream, response, consumer } => {
            findings.upstream.extend_from_slice(upstream);
            findings.response.extend_from_slice(response);
            if !consumer.is_empty() {
                findings.identity.consumer.clear();
                findings.identity.consumer.push_str(consumer);
            }
            Verdict::Pass
        }
        Decision::Answer(answer) => Verdict::Answer(Box::new(answer.clone())),
    }
}

/// Whether the next request may get the same: a redirect leads to a login of its own, and a cookie is for one client.
fn is_lasting(called: &Called) -> bool {
    let lasting = matches!(called.status, 200..=299 | 401 | 403);
    lasting && called.field("set-cookie").is_none()
}

impl Core {
    /// What a core begins with. After a reload that has changed nothing here it goes on with what it knows.
    pub fn bind(policy: &Policy, old: Option<&Core>) -> Core {
        let core = Core {
            key: Arc::clone(&policy.key),
            decisions: Recall::new(MOST),
            scratch: RefCell::default(),
        };
        if let Some(old) = old.filter(|old| Arc::ptr_eq(&old.key, &policy.key)) {
            core.decisions.adopt(&old.decisions);
        }
        core
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, now: Tick) {
        self.decisions.sweep(now);
    }
}
