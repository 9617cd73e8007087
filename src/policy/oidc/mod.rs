//! Browsers that log in at an OpenID provider, as ALB's `authenticate-oidc` does it: the authorization code flow with PKCE,
//! state and nonce, and a session that lies sealed in cookies.
//!
//! This file decides which of those a request is: a login's way back, a logout, the keys for targets, or a request of a session,
//! of which there may be none. Everything lies in cookies, so that any core and any node serves any request; what cores
//! share is what was learnt of the provider, and what may not be used again. There is no list of sessions: one ends where its
//! cookie does. Called by `policy::kind`.

mod cookies;
mod exchange;
mod login;
mod logout;
mod provider;
mod session;
mod signer;
mod site;
mod spent;
pub mod text;

#[cfg(test)]
mod tests;

pub use exchange::Step;

use crate::base::Tick;
use crate::base::sealed::{Ring, Secret};
use crate::http::{Fault, RequestView, write};
use crate::policy::jwt::Algorithms;
use crate::policy::{Answer, Consumed, Files, Findings, Reply, Subject, Verdict, Wrong, ask};
use cookies::Names;
use exchange::{Doing, Exchange, From, Next, Trouble};
use provider::Provider;
use session::{Age, Entry, Remembered, Session};
use signer::Signer;
use site::Site;
use spent::Spent;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = true;

// What the keys of its cookies are derived with.
const DOMAIN: &[u8] = b"ringgate oidc 1";

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The provider, exactly as its tokens name it.
    pub issuer: String,
    /// Endpoints that are not taken from the provider's description.
    pub endpoints: Given,
    /// Hosts that the description may lead to beside the issuer's.
    pub hosts: Vec<String>,
    /// As the provider knows this site.
    pub client_id: String,
    /// What proves it; none for a public client.
    pub client_secret: Option<Secret>,
    /// How it is sent.
    pub client_auth: ClientAuth,
    /// What is asked for; `openid` is among them.
    pub scopes: Vec<String>,
    /// Further parameters of the login's address.
    pub parameters: Vec<(String, String)>,
    /// What becomes of a request without a session.
    pub on_unauthenticated: OnUnauthenticated,
    /// The site's origin where it is not as requests come.
    pub origin: Option<String>,
    /// Where browsers come back to.
    pub callback_path: String,
    /// Where they log out.
    pub logout_path: String,
    /// Where they go then, a path of the site.
    pub after_logout: Option<String>,
    /// Where targets find the keys.
    pub keys_path: String,
    /// How long a session lasts.
    pub session_timeout: Duration,
    /// How long it lasts without a request.
    pub idle_timeout: Option<Duration>,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// What the cookies' names begin with.
    pub cookie: String,
    /// What cookies are sealed with, the first, and opened with, all.
    pub secrets: Vec<Secret>,
    /// Whether targets are sent the access token.
    pub access_token: bool,
    /// Whether the provider is asked who the user is.
    pub userinfo: bool,
    /// What ID tokens may be signed with.
    pub algorithms: Algorithms,
    /// How far the provider's clock may differ.
    pub leeway: Duration,
    /// For each question to the provider.
    pub timeout: Duration,
    /// Who may vouch for the provider, in PEM.
    pub ca: Option<PathBuf>,
    /// The key that signs for targets, in PEM.
    pub signing_key: Option<PathBuf>,
}

/// Endpoints as the file gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Where browsers log in.
    pub authorization: Option<String>,
    /// Where codes are redeemed.
    pub token: Option<String>,
    /// Who says who the user is.
    pub userinfo: Option<String>,
    /// Where browsers log out.
    pub end_session: Option<String>,
    /// The provider's keys.
    pub jwks: Option<String>,
}

/// How the site proves to the provider who it is (OpenID Connect Core 1.0 section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// In `Authorization`.
    #[default]
    Basic,
    /// In the form.
    Post,
}

/// What becomes of a request without a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnUnauthenticated {
    /// A page is sent to the login, anything else is refused.
    #[default]
    Login,
    /// It passes, and nobody is known.
    Allow,
    /// It is refused.
    Deny,
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        self.ca.iter().chain(&self.signing_key).cloned().collect()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    settings: Arc<Settings>,
    provider: Provider,
    ring: Ring,
    signer: Signer,
    secure: Names,
    plain: Names,
    shared: Arc<Shared>,
}

/// What may not be used again. There is one of it in the process: policies may share a cookie, and a logout holds for all.
#[derive(Debug, Default)]
struct Shared {
    /// Logins that were answered.
    states: Spent,
    /// Sessions that were ended before their time.
    ended: Spent,
}

static SHARED: LazyLock<Arc<Shared>> = LazyLock::new(Arc::default);

/// What one core remembers.
#[derive(Debug)]
pub struct Core {
    sessions: Remembered,
}

/// One request, and where it came to.
struct At<'a> {
    site: Site<'a>,
    names: &'a Names,
    subject: &'a Subject<'a>,
    unix: u64,
}

impl<'a> At<'a> {
    fn view(&self) -> &'a RequestView<'a> {
        &self.subject.view
    }
}

const IDENTITY: &str = "x-amzn-oidc-identity";
const ACCESS_TOKEN: &str = "x-amzn-oidc-accesstoken";
const DATA: &str = "x-amzn-oidc-data";
/// How often at most a session's cookie is written anew, in seconds.
const TOUCH_EVERY: u64 = 5;

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        old: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let file = |path: &Option<PathBuf>| match path {
            None => Ok(None),
            Some(path) => files(path).map(Some).ok_or_else(|| Wrong {
                file: Some(path.clone()),
                found: "a file that was not read".to_owned(),
            }),
        };
        let settings = Arc::new(settings.clone());
        let ca = settings.ca.as_deref().map(|path| ask::authorities(path, files)).transpose()?;
        let key = file(&settings.signing_key)?;
        let signer = Signer::new(&settings.secrets, key.as_deref());
        let wrong = |found| Wrong { file: settings.signing_key.clone(), found };
        let ring = Ring::of(DOMAIN, &settings.secrets)
            .ok_or(Wrong { file: None, found: "no secret for the cookies".to_owned() })?;
        Ok(Policy {
            provider: Provider::new(&settings, ca, old.map(|old| &old.provider)),
            signer: signer.map_err(wrong)?,
            ring,
            secure: Names::new(&settings.cookie, true),
            plain: Names::new(&settings.cookie, false),
            shared: Arc::clone(&SHARED),
            settings: Arc::clone(&settings),
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
        let step = findings.step.take().map(|step| *step);
        let Some(site) = Site::of(subject, self.settings.origin.as_deref()) else {
            findings.detail.push_str("The request names no host.");
            return Verdict::Refuse(Fault::LoginRequired);
        };
        let names = if site.secure { &self.secure } else { &self.plain };
        let at = At { site, names, subject, unix: subject.unix };
        let path = subject.view.path;
        if path == self.settings.callback_path.as_bytes() {
            return self.callback(&at, findings, step, reply);
        }
        if path == self.settings.logout_path.as_bytes() {
            return self.log_out(core, &at, findings, step.and(reply));
        }
        if let Some(answer) = self.keys(&subject.view) {
            return answer;
        }
        match step {
            None => self.admit(core, &at, findings),
            Some(Step(Doing::Describe)) => {
                let reply = reply.unwrap_or_else(|| Reply::Failed(Arc::from("no reply")));
                self.begin_login(&at, findings, Some(reply))
            }
            Some(Step(Doing::Exchange(mut exchange))) => {
                match exchange.absorb(&self.provider, reply, at.unix) {
                    Ok(()) => self.refresh(&at, findings, exchange),
                    Err(trouble) => self.not_refreshed(&at, findings, trouble),
                }
            }
        }
    }

    // A request of a session, or of none.
    fn admit(&self, core: &Core, at: &At<'_>, findings: &mut Findings) -> Verdict {
        let Some(entry) = self.session(core, at) else {
            return self.unauthenticated(at, findings);
        };
        match entry.session.age(&self.settings, at.unix) {
            Age::Over => self.unauthenticated(at, findings),
            Age::Refresh => self.refresh(at, findings, Exchange::new(From::Refresh(entry))),
            Age::Fine => {
                self.touch(at, findings, &entry);
                self.pass(at, findings, &entry)
            }
        }
    }

    /// The session that a request's cookies hold, whatever its age; none that was ended.
    fn session(&self, core: &Core, at: &At<'_>) -> Option<Rc<Entry>> {
        let shards = at.names.session(at.view().fields)?;
        let key = Remembered::key(&at.names.base, at.site.host, shards);
        let now = at.subject.now;
        let entry = match core.sessions.get(&key, now) {
            Some(entry) => entry,
            None => {
                let opened = self.ring.open(&self.bound(at, "session"), &shards.whole())?;
                let entry = Entry::new(Session::read(&opened.plain)?, opened.current)?;
                core.sessions.put(key, &entry, now);
                entry
            }
        };
        (!self.shared.ended.is_spent(&entry.id, at.unix)).then_some(entry)
    }

    fn unauthenticated(&self, at: &At<'_>, findings: &mut Findings) -> Verdict {
        match self.settings.on_unauthenticated {
            OnUnauthenticated::Allow => Verdict::Pass,
            OnUnauthenticated::Login if site::is_navigation(at.view()) => {
                self.begin_login(at, findings, None)
            }
            OnUnauthenticated::Login | OnUnauthenticated::Deny => {
                Verdict::Refuse(Fault::LoginRequired)
            }
        }
    }

    fn refresh(&self, at: &At<'_>, findings: &mut Findings, exchange: Box<Exchange>) -> Verdict {
        let From::Refresh(before) = exchange.from() else {
            return self.fail(findings, Trouble::Own);
        };
        let before = Rc::clone(before);
        let session = match exchange.go_on(&self.provider, &self.settings, at.unix) {
            Ok(Next::Session(session)) => session,
            Ok(Next::Ask(question, step)) => {
                findings.step = Some(Box::new(step));
                return question;
            }
            Err(trouble) => return self.not_refreshed(at, findings, trouble),
        };
        // A logout may have overtaken it (hazard AUTH-18).
        if self.shared.ended.is_spent(&before.id, at.unix) {
            return self.unauthenticated(at, findings);
        }
        let Some(entry) = Entry::new(session.clone(), true) else {
            return self.fail(findings, Trouble::Own);
        };
        if self.write_session(at, &mut findings.response, session).is_none() {
            return self.fail(findings, Trouble::TooLarge);
        }
        self.pass(at, findings, &entry)
    }

    // A session that the provider no longer knows is over; where it only fails, the session waits for it.
    fn not_refreshed(&self, at: &At<'_>, findings: &mut Findings, trouble: Trouble) -> Verdict {
        if trouble != Trouble::Denied {
            return self.fail(findings, trouble);
        }
        let verdict = self.unauthenticated(at, findings);
        // The way to the login clears the cookies by itself.
        if !matches!(verdict, Verdict::Answer(_)) {
            at.names.clear_session(&mut findings.response, at.view().fields);
        }
        verdict
    }

    // Lets a request of a session pass, and tells everybody whose it is.
    fn pass(&self, at: &At<'_>, findings: &mut Findings, entry: &Entry) -> Verdict {
        let mut lines = entry.lines.borrow_mut();
        let (until, text) = &mut *lines;
        if at.unix >= *until {
            text.clear();
            self.tell(entry, text, at.unix);
            *until = at.unix.saturating_add(signer::LIFE / 2);
        }
        findings.upstream.extend_from_slice(text);
        findings.identity.consumer.clear();
        findings.identity.consumer.push_str(entry.session.subject());
        findings.identity.claims = Some(Rc::clone(&entry.claims));
        Verdict::Pass
    }

    fn tell(&self, entry: &Entry, out: &mut Vec<u8>, unix: u64) {
        let session = &entry.session;
        write::built_field(out, IDENTITY.as_bytes(), session.subject().as_bytes());
        if !session.access.is_empty() {
            write::built_field(out, ACCESS_TOKEN.as_bytes(), session.access.as_bytes());
        }
        if let Some(data) = self.signer.sign(&session.claims, &self.settings, unix) {
            write::built_field(out, DATA.as_bytes(), data.as_bytes());
        }
    }

    // Writes the cookie anew where the session would look idle, or where an old secret has sealed it.
    fn touch(&self, at: &At<'_>, findings: &mut Findings, entry: &Entry) {
        let due = !entry.current || entry.session.should_touch(&self.settings, at.unix);
        if due && at.unix >= entry.touched.get().saturating_add(TOUCH_EVERY) {
            entry.touched.set(at.unix);
            let session = Session { seen: at.unix, ..entry.session.clone() };
            // Where it does not work, the old one is still good.
            let _ = self.write_session(at, &mut findings.response, session);
        }
    }

    /// Writes the lines that set a session's cookies; `None` if it is too large.
    fn write_session(&self, at: &At<'_>, out: &mut Vec<u8>, mut session: Session) -> Option<()> {
        let bound = self.bound(at, "session");
        let max_age = session.max_age(&self.settings, at.unix);
        let fields = at.view().fields;
        let sealed = self.ring.seal(&bound, session.octets()?)?;
        if at.names.set_session(out, fields, &sealed, max_age) {
            return Some(());
        }
        // The ID token only makes the logout smoother.
        session.id_token.clear();
        let sealed = self.ring.seal(&bound, session.octets()?)?;
        at.names.set_session(out, fields, &sealed, max_age).then_some(())
    }

    // What a cookie is bound to: its purpose, its name, the provider and the site's host.
    fn bound(&self, at: &At<'_>, purpose: &str) -> Vec<u8> {
        let Settings { issuer, client_id, .. } = &*self.settings;
        [purpose, &at.names.base, issuer, client_id, at.site.host].join("\0").into_bytes()
    }

    // The keys that targets verify with: all as a set, or one in PEM.
    fn keys(&self, view: &RequestView<'_>) -> Option<Verdict> {
        let rest = view.path.strip_prefix(self.settings.keys_path.as_bytes())?;
        if !matches!(view.method, b"GET" | b"HEAD") {
            return None;
        }
        let (kind, body): (&[u8], _) = match rest {
            b"" => (b"application/jwk-set+json", self.signer.jwks()),
            [b'/', kid @ ..] => (b"application/x-pem-file", self.signer.pem(kid)?),
            _ => return None,
        };
        let mut fields = Vec::new();
        write::field(&mut fields, b"content-type", kind);
        write::field(&mut fields, b"cache-control", b"public, max-age=300");
        Some(Verdict::Answer(Box::new(Answer { status: 200, fields, body })))
    }

    /// What is not sent on.
    pub fn consumes(&self) -> Vec<Consumed> {
        let mut consumed = Names::consumed(&self.settings.cookie);
        // Codes work once, and not without their cookie; even so they are nothing for logs.
        consumed.extend(["code", "state"].map(|name| Consumed::QueryOf {
            path: self.settings.callback_path.as_str().into(),
            name: name.into(),
        }));
        consumed
    }

    /// What no client may send.
    pub fn owns(&self) -> Vec<Box<str>> {
        [IDENTITY, ACCESS_TOKEN, DATA].map(Box::from).into()
    }
}

impl Core {
    /// What a core begins with. Sessions are opened anew after a reload: secrets may have gone.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core { sessions: Remembered::default() }
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, now: Tick) {
        self.sessions.sweep(now);
    }
}
