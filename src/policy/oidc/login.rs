//! The login of a browser: the way to the provider and back (OpenID Connect Core 1.0 section 3.1, RFC 7636, RFC 9700).
//!
//! What must come back unchanged lies sealed in a cookie of its own for each login, so that several tabs can log in at the same
//! time; a state is taken once. Without the cookie that belongs to a state nothing that comes back is believed (login CSRF,
//! injected codes; hazard AUTH-15). Called by the policy's check.

use crate::base::sealed::{self, base64url, from_base64url};
use crate::http::{Fault, RequestView, write};
use crate::policy::oidc::cookies::unstored;
use crate::policy::oidc::exchange::{Doing, Exchange, From, Next, Step, Trouble, plain};
use crate::policy::oidc::session::Session;
use crate::policy::oidc::text::{self, pair};
use crate::policy::oidc::{At, Policy};
use crate::policy::{Answer, Findings, Question, Reply, Verdict};
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// One login under way, as its cookie has it.
#[derive(Serialize, Deserialize, PartialEq)]
pub struct Login {
    /// The state: which login it is.
    #[serde(rename = "s")]
    pub state: String,
    /// What the ID token must repeat.
    #[serde(rename = "n")]
    pub nonce: String,
    /// What proves that the code is redeemed by who has asked for it.
    #[serde(rename = "v")]
    pub verifier: String,
    /// Path and query to come back to.
    #[serde(rename = "u")]
    pub back: String,
    /// When it is too late, in seconds since 1970.
    #[serde(rename = "e")]
    pub ends: u64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// The longest path and query to come back to.
const LONGEST_BACK: usize = 2048;
/// Logins under way in one browser, and the octets of their cookies: older ones give way, so that a request's head cannot grow
/// out of its limits.
const MOST_LOGINS: usize = 5;
const MOST_LOGIN_OCTETS: usize = 6 << 10;

impl Policy {
    /// Sends a browser to the provider.
    pub(super) fn begin_login(
        &self,
        at: &At<'_>,
        findings: &mut Findings,
        described: Option<Reply>,
    ) -> Verdict {
        if !at.site.is_origin() {
            let here = at.site.address(&at.site.here(LONGEST_BACK));
            return redirect(302, &here, Vec::new());
        }
        let asked = described.is_some();
        if let Some(Reply::Called(called)) = described
            && let Err(trouble) = self.provider.learn_endpoints(&called, at.unix)
        {
            // Those that are known may do.
            if self.provider.endpoints(at.unix).is_none() {
                return self.fail(findings, trouble);
            }
        }
        if !asked && self.provider.should_discover(at.unix) {
            return self.describe(findings);
        }
        let Some(endpoints) = self.provider.endpoints(at.unix) else {
            let why = "could not be asked for its endpoints".to_owned();
            return self.fail(findings, Trouble::Provider(why));
        };
        let mut lines = Vec::new();
        let Some(login) = self.new_login(at, &mut lines) else {
            return self.fail(findings, Trouble::Own);
        };
        at.names.clear_session(&mut lines, at.view().fields);
        let to = self.authorization(at, &endpoints.authorization, &login);
        redirect(302, &to, lines)
    }

    /// Asks for the provider's description.
    pub(super) fn describe(&self, findings: &mut Findings) -> Verdict {
        findings.step = Some(Box::new(Step(Doing::Describe)));
        Verdict::Ask(Box::new(Question::Call(self.provider.discover())))
    }

    // Draws a login and writes its cookie; older ones give way.
    fn new_login(&self, at: &At<'_>, lines: &mut Vec<u8>) -> Option<Login> {
        let login = Login {
            state: base64url(&sealed::random::<16>()?),
            nonce: base64url(&sealed::random::<16>()?),
            verifier: base64url(&sealed::random::<32>()?),
            back: at.site.here(LONGEST_BACK),
            ends: at.unix.saturating_add(self.settings.login_timeout.as_secs()),
        };
        let plain = serde_json::to_vec(&login).ok()?;
        let value = self.ring.seal(&self.bound_login(at, &login.state), plain)?;
        let mut others: Vec<(u64, &[u8], usize)> = Vec::new();
        for (state, value) in at.names.logins(at.view().fields) {
            match self.open_login(at, state, value) {
                Some(other) if other.ends > at.unix => {
                    others.push((other.ends, state, value.len()));
                }
                _ => at.names.clear_login(lines, state),
            }
        }
        others.sort_unstable();
        let mut left = others.as_slice();
        let octets = |left: &[(u64, &[u8], usize)]| left.iter().map(|(.., len)| len).sum::<usize>();
        while let Some(((_, oldest, _), rest)) = left.split_first()
            && (left.len() >= MOST_LOGINS || octets(left) + value.len() > MOST_LOGIN_OCTETS)
        {
            at.names.clear_login(lines, oldest);
            left = rest;
        }
        let max_age = self.settings.login_timeout.as_secs();
        at.names.set_login(lines, &login.state, &value, max_age);
        Some(login)
    }

    fn authorization(&self, at: &At<'_>, endpoint: &str, login: &Login) -> String {
        let settings = &self.settings;
        let challenge = digest::digest(&digest::SHA256, login.verifier.as_bytes());
        let mut to = endpoint.to_owned();
        to.push(if endpoint.contains('?') { '&' } else { '?' });
        let redirect_uri = at.site.address(&settings.callback_path);
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", &settings.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", &settings.scopes.join(" ")),
            ("state", &login.state),
            ("nonce", &login.nonce),
            ("code_challenge", &base64url(challenge.as_ref())),
            ("code_challenge_method", "S256"),
        ] {
            pair(&mut to, name, value);
        }
        settings.parameters.iter().for_each(|(name, value)| pair(&mut to, name, value));
        to
    }

    /// Takes a browser that comes back.
    pub(super) fn callback(
        &self,
        at: &At<'_>,
        findings: &mut Findings,
        step: Option<Step>,
        reply: Option<Reply>,
    ) -> Verdict {
        let exchange = match step {
            Some(Step(Doing::Exchange(mut exchange))) => {
                match exchange.absorb(&self.provider, reply, at.unix) {
                    Ok(()) => exchange,
                    Err(trouble) => return self.fail_login(findings, trouble),
                }
            }
            Some(Step(Doing::Describe)) => return self.fail(findings, Trouble::Own),
            None => match self.came_back(at, findings) {
                Ok(from) => Exchange::new(from),
                Err(verdict) => return *verdict,
            },
        };
        let From::Login { login, .. } = exchange.from() else {
            return self.fail(findings, Trouble::Own);
        };
        let back = login.back.clone();
        match exchange.go_on(&self.provider, &self.settings, at.unix) {
            Ok(Next::Ask(question, step)) => {
                findings.step = Some(Box::new(step));
                question
            }
            Ok(Next::Session(session)) => self.logged_in(at, findings, session, &back),
            Err(trouble) => self.fail_login(findings, trouble),
        }
    }

    fn logged_in(
        &self,
        at: &At<'_>,
        findings: &mut Findings,
        session: Session,
        back: &str,
    ) -> Verdict {
        let mut lines = Vec::new();
        match self.write_session(at, &mut lines, session) {
            Some(()) => redirect(302, &at.site.address(back), lines),
            None => self.fail_login(findings, Trouble::TooLarge),
        }
    }

    // What has come back, held against the cookie of its state. A state is spent here, whatever becomes of it.
    fn came_back(&self, at: &At<'_>, findings: &mut Findings) -> Result<From, Box<Verdict>> {
        let refuse = |findings: &mut Findings, why: &str| {
            findings.detail.push_str(why);
            Box::new(Verdict::Refuse(Fault::LoginFailed))
        };
        // What is in this address is nothing for the pages that follow it.
        write::field(&mut findings.response, b"referrer-policy", b"no-referrer");
        if at.view().method != b"GET" {
            return Err(refuse(findings, "The provider's answer must come with GET."));
        }
        let Some(answer) = Answered::read(at.view()) else {
            return Err(refuse(findings, "The answer of the identity provider is malformed."));
        };
        let cookies = at.view().fields;
        let of_state =
            at.names.logins(cookies).find(|(state, _)| *state == answer.state.as_bytes());
        let Some((_, value)) = of_state else {
            let why =
                "This login was not begun in this browser, is over already, or took too long.";
            return Err(refuse(findings, why));
        };
        // On whatever answer this ends with.
        at.names.clear_login(&mut findings.response, answer.state.as_bytes());
        let Some(login) = self.open_login(at, answer.state.as_bytes(), value) else {
            return Err(refuse(findings, "The cookie of this login cannot be read."));
        };
        if login.ends <= at.unix {
            return Err(refuse(findings, "This login took too long."));
        }
        let number = from_base64url(login.state.as_bytes()).and_then(|n| n.try_into().ok());
        if !number.is_some_and(|n| self.shared.states.spend(&n, login.ends, at.unix)) {
            return Err(refuse(findings, "This login was answered already."));
        }
        // RFC 9207: an answer of another provider is not for this one.
        let named = |e: &crate::policy::oidc::provider::Endpoints| e.names_issuer;
        let must_name = self.provider.endpoints(at.unix).is_some_and(|e| named(&e));
        let right = answer.issuer.as_ref().map_or(!must_name, |i| *i == self.settings.issuer);
        if !right {
            return Err(refuse(findings, "The answer is of another identity provider."));
        }
        match (answer.error, answer.code) {
            (Some(error), _) => Err(Box::new(self.refused(findings, &error))),
            (None, Some(code)) => {
                let redirect_uri = at.site.address(&self.settings.callback_path);
                Ok(From::Login { login, code, redirect_uri })
            }
            (None, None) => Err(refuse(findings, "The identity provider sent no code.")),
        }
    }

    // RFC 6749 section 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6.
    fn refused(&self, findings: &mut Findings, error: &str) -> Verdict {
        const USERS: &[&str] = &[
            "access_denied",
            "login_required",
            "interaction_required",
            "consent_required",
            "account_selection_required",
        ];
        let error = plain(error);
        findings.detail.push_str("The identity provider answered: ");
        findings.detail.push_str(&error);
        findings.detail.push('.');
        let by_user = USERS.contains(&error.as_str());
        Verdict::Refuse(if by_user { Fault::LoginFailed } else { Fault::ProviderFailed })
    }

    fn fail_login(&self, findings: &mut Findings, trouble: Trouble) -> Verdict {
        if trouble == Trouble::Denied {
            findings.detail.push_str("The identity provider does not take the code.");
            return Verdict::Refuse(Fault::LoginFailed);
        }
        self.fail(findings, trouble)
    }

    /// Refuses for a trouble.
    pub(super) fn fail(&self, findings: &mut Findings, trouble: Trouble) -> Verdict {
        let fault = match trouble {
            Trouble::Provider(what) => {
                findings.detail.push_str("The identity provider ");
                findings.detail.push_str(&what);
                findings.detail.push('.');
                Fault::ProviderFailed
            }
            Trouble::Denied => Fault::LoginRequired,
            Trouble::TooLarge => Fault::ClaimsTooLarge,
            Trouble::Own => Fault::PolicyUnavailable,
        };
        Verdict::Refuse(fault)
    }

    fn bound_login(&self, at: &At<'_>, state: &str) -> Vec<u8> {
        self.bound(at, &format!("login {state}"))
    }

    fn open_login(&self, at: &At<'_>, state: &[u8], value: &[u8]) -> Option<Login> {
        let state = std::str::from_utf8(state).ok()?;
        let opened = self.ring.open(&self.bound_login(at, state), value)?;
        let login: Login = serde_json::from_slice(&opened.plain).ok()?;
        let same = bool::from(login.state.as_bytes().ct_eq(state.as_bytes()));
        same.then_some(login)
    }
}

/// What a browser brings back from the provider.
struct Answered {
    state: String,
    code: Option<String>,
    error: Option<String>,
    issuer: Option<String>,
}

impl Answered {
    // None without a state, and where any of them comes twice.
    fn read(view: &RequestView<'_>) -> Option<Answered> {
        let (mut state, mut code, mut error, mut issuer) = (None, None, None, None);
        for (name, value) in view.query_pairs() {
            let place = match name {
                b"state" => &mut state,
                b"code" => &mut code,
                b"error" => &mut error,
                b"iss" => &mut issuer,
                _ => continue,
            };
            if place.replace(text::decode(value)?).is_some() {
                return None;
            }
        }
        let state: Option<String> = state;
        Some(Answered { state: state.filter(|s| !s.is_empty())?, code, error, issuer })
    }
}

/// Sends a browser elsewhere; nobody keeps that answer.
pub(super) fn redirect(status: u16, to: &str, mut fields: Vec<u8>) -> Verdict {
    if !write::built_field(&mut fields, b"location", to.as_bytes()) {
        return Verdict::Refuse(Fault::Internal);
    }
    unstored(&mut fields);
    Verdict::Answer(Box::new(Answer { status, fields, body: Vec::new() }))
}
