//! From a code, or a refresh token, to a session: tokens, the ID token's proof, who the user is.
//!
//! The provider is asked step by step, and the policy is checked again with each reply; what is in hand meanwhile lies in the
//! request's findings. At most four questions: the description and the keys, where they are not known or too old, the tokens,
//! and the user. Called by `login` for a new session and by the policy's check for one whose tokens have expired.

use crate::base::sealed;
use crate::policy::ask::{Call, Called};
use crate::policy::jwt::Flaw;
use crate::policy::oidc::Settings;
use crate::policy::oidc::login::Login;
use crate::policy::oidc::provider::{Endpoints, Provider, json_of};
use crate::policy::oidc::session::{Entry, Session};
use crate::policy::{Question, Reply, Verdict};
use serde_json::{Map, Value};
use std::rc::Rc;
use subtle::ConstantTimeEq;

/// What a policy has in hand while control asks the provider for it.
pub struct Step(pub(super) Doing);

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

/// What is being done.
pub(super) enum Doing {
    /// The description of the provider was asked for, and there is nothing else.
    Describe,
    /// Tokens are on their way to a session.
    Exchange(Box<Exchange>),
}

/// Why there is no session.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The provider failed; what it did, after "The identity provider".
    Provider(String),
    /// It does not give tokens for this code or refresh token.
    Denied,
    /// What it says of the user is larger than a cookie may be.
    TooLarge,
    /// Something of ringgate's own failed.
    Own,
}

impl Trouble {
    /// A failure of the provider.
    pub fn provider(what: String) -> Trouble {
        Trouble::Provider(what)
    }
}

/// The most octets of what the provider says of a user, as ALB has it.
pub const MOST_CLAIMS: usize = 11 << 10;

/// One way from a code or a refresh token to a session.
pub(super) struct Exchange {
    from: From,
    asked: Asked,
    keys_asked: bool,
    tokens: Option<Tokens>,
    proof: Option<Map<String, Value>>,
    user: Option<Map<String, Value>>,
}

/// Where it begins.
pub(super) enum From {
    /// A browser that came back from the provider.
    Login {
        /// What it took along.
        login: Login,
        /// What it has brought.
        code: String,
        /// Where it was told to come back to.
        redirect_uri: String,
    },
    /// A session whose access token has expired.
    Refresh(Rc<Entry>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Description,
    Tokens,
    Keys,
    User,
}

struct Tokens {
    access: String,
    refresh: Option<String>,
    id: Option<String>,
    expires_in: Option<u64>,
}

/// What comes of a step.
pub(super) enum Next {
    /// The provider must be asked more.
    Ask(Verdict, Step),
    /// There is a session.
    Session(Session),
}

impl Exchange {
    /// Begins.
    pub(super) fn new(from: From) -> Box<Exchange> {
        let (asked, keys_asked) = (Asked::Nothing, false);
        Box::new(Exchange { from, asked, keys_asked, tokens: None, proof: None, user: None })
    }

    /// Where it began.
    pub(super) fn from(&self) -> &From {
        &self.from
    }

    /// Takes the reply to what was asked last.
    ///
    /// # Errors
    /// When there will be no session.
    pub(super) fn absorb(
        &mut self,
        provider: &Provider,
        reply: Option<Reply>,
        unix: u64,
    ) -> Result<(), Trouble> {
        let called = match reply {
            Some(Reply::Called(called)) => called,
            // A description or keys that are older than they should be still serve, and so do an earlier login's claims.
            Some(Reply::Failed(_) | Reply::Unasked(_)) if self.can_go_on() => return Ok(()),
            Some(Reply::Failed(why) | Reply::Unasked(why)) => {
                return Err(Trouble::provider(format!("failed: {why}")));
            }
            Some(Reply::Password(_)) | None => return Err(Trouble::Own),
        };
        match self.asked {
            Asked::Nothing => return Err(Trouble::Own),
            Asked::Description => provider.learn_endpoints(&called, unix)?,
            Asked::Keys => match provider.learn_keys(&called, unix) {
                // Those that are known may do.
                Err(_) if provider.has_keys(unix) => {}
                other => other?,
            },
            Asked::Tokens => self.tokens = Some(tokens(&called)?),
            Asked::User => self.user = Some(self.user(&called)?),
        }
        Ok(())
    }

    /// Goes on as far as it can.
    ///
    /// # Errors
    /// When there will be no session.
    pub(super) fn go_on(
        mut self: Box<Exchange>,
        provider: &Provider,
        settings: &Settings,
        unix: u64,
    ) -> Result<Next, Trouble> {
        let Some(at) = provider.endpoints(unix) else {
            return self.ask(Asked::Description, provider.discover());
        };
        let Some(tokens) = &self.tokens else {
            let call = self.token_call(provider, &at);
            return self.ask(Asked::Tokens, call);
        };
        if let (None, Some(token)) = (&self.proof, &tokens.id) {
            if !self.keys_asked && provider.should_fetch_keys(unix) {
                return self.ask(Asked::Keys, provider.fetch_keys(&at));
            }
            match provider.verify(token, unix) {
                Ok(claims) => self.proof = Some(self.accept(claims)?),
                Err(Flaw::Key) if !self.keys_asked && provider.may_fetch_keys(unix) => {
                    return self.ask(Asked::Keys, provider.fetch_keys(&at));
                }
                Err(flaw) => {
                    let why = flaw.sentence();
                    return Err(Trouble::provider(format!(
                        "sent an ID token that cannot be used: {why}"
                    )));
                }
            }
        }
        if self.user.is_none()
            && let Some(call) = provider.userinfo(&at, &tokens.access)
        {
            return self.ask(Asked::User, call);
        }
        self.finish(settings, unix).map(Next::Session)
    }

    fn ask(mut self: Box<Exchange>, asked: Asked, call: Call) -> Result<Next, Trouble> {
        self.asked = asked;
        self.keys_asked |= asked == Asked::Keys;
        let question = Verdict::Ask(Box::new(Question::Call(call)));
        Ok(Next::Ask(question, Step(Doing::Exchange(self))))
    }

    fn token_call(&self, provider: &Provider, at: &Endpoints) -> Call {
        match &self.from {
            From::Login { login, code, redirect_uri } => {
                provider.redeem(at, code, &login.verifier, redirect_uri)
            }
            From::Refresh(entry) => provider.refresh(at, &entry.session.refresh),
        }
    }

    // Whether nothing is lost when the last question was not answered.
    fn can_go_on(&mut self) -> bool {
        match (self.asked, &self.from) {
            (Asked::Keys, _) => true,
            (Asked::User, From::Refresh(entry)) => {
                // Its refresh token may be spent: not to keep the new one would end the session.
                self.user = Some(entry.session.claims.clone());
                true
            }
            _ => false,
        }
    }

    // OpenID Connect Core 1.0 sections 3.1.3.7 (nonce) and 12.2 (the same user).
    fn accept(&self, claims: Map<String, Value>) -> Result<Map<String, Value>, Trouble> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("sub").is_empty() {
            return Err(Trouble::provider("sent an ID token without `sub`".to_owned()));
        }
        let fits = match &self.from {
            From::Login { login, .. } => {
                bool::from(text("nonce").as_bytes().ct_eq(login.nonce.as_bytes()))
            }
            From::Refresh(entry) => text("sub") == entry.session.subject(),
        };
        let what = "sent an ID token of another login";
        if fits { Ok(claims) } else { Err(Trouble::provider(what.to_owned())) }
    }

    fn user(&self, called: &Called) -> Result<Map<String, Value>, Trouble> {
        if let From::Refresh(entry) = &self.from {
            match called.status {
                401 | 403 => return Err(Trouble::Denied),
                200 => {}
                // As where there is no answer.
                _ => return Ok(entry.session.claims.clone()),
            }
        }
        let user = json_of(called, "description of the user")?;
        let same = self.known().and_then(|known| known.get("sub")) == user.get("sub");
        let what = "described another user than the one who has logged in";
        if same { Ok(user) } else { Err(Trouble::provider(what.to_owned())) }
    }

    // What is known of the user so far.
    fn known(&self) -> Option<&Map<String, Value>> {
        match (&self.proof, &self.from) {
            (Some(proof), _) => Some(proof),
            (None, From::Refresh(entry)) => Some(&entry.session.claims),
            (None, From::Login { .. }) => None,
        }
    }

    fn finish(self, settings: &Settings, unix: u64) -> Result<Session, Trouble> {
        let mut claims = match self.known() {
            Some(known) => known.clone(),
            None => return Err(Trouble::provider("sent no ID token".to_owned())),
        };
        let Some(tokens) = self.tokens else { return Err(Trouble::Own) };
        // Who vouches for what is for the signed token alone to say.
        const OWN: &[&str] =
            &["iss", "aud", "azp", "exp", "nbf", "iat", "nonce", "at_hash", "c_hash"];
        claims.retain(|name, _| !OWN.contains(&name.as_str()));
        let said = self.user.unwrap_or_default().into_iter();
        claims.extend(said.filter(|(name, _)| !OWN.contains(&name.as_str())));
        let size = serde_json::to_vec(&claims).map_or(usize::MAX, |octets| octets.len());
        if size > MOST_CLAIMS {
            return Err(Trouble::TooLarge);
        }
        let (mut session, id_token) = match &self.from {
            From::Login { .. } => {
                let id = sealed::random().ok_or(Trouble::Own)?;
                (Session::begin(id, settings, unix), tokens.id)
            }
            From::Refresh(entry) => {
                let session = Session { seen: unix, ..entry.session.clone() };
                let id_token = tokens.id.unwrap_or_else(|| session.id_token.clone());
                (session, Some(id_token))
            }
        };
        session.claims = claims;
        session.id_token = id_token.unwrap_or_default();
        session.token_ends = tokens.expires_in.map(|s| unix.saturating_add(s.max(1)));
        session.access = if settings.access_token { tokens.access } else { String::new() };
        if let Some(refresh) = tokens.refresh {
            session.refresh = refresh;
        }
        Ok(session)
    }
}

// RFC 6749 sections 5.1 and 5.2.
fn tokens(called: &Called) -> Result<Tokens, Trouble> {
    if called.status == 400 || called.status == 401 {
        let answer = crate::policy::jwt::json::object(&called.body).unwrap_or_default();
        return match answer.get("error").and_then(Value::as_str) {
            Some("invalid_grant") => Err(Trouble::Denied),
            error => {
                let error = plain(error.unwrap_or("an unknown error"));
                Err(Trouble::provider(format!("gave no tokens: {error}")))
            }
        };
    }
    let answer = json_of(called, "token answer")?;
    let text = |name: &str| match answer.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    let bearer = text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
    // What goes into a field must be one line of visible octets (RFC 6750 section 2.1).
    let access = text("access_token").filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
    let Some(access) = access.filter(|_| bearer) else {
        return Err(Trouble::provider("sent no access token for bearers".to_owned()));
    };
    let expires_in = answer.get("expires_in");
    let expires_in = expires_in.and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()));
    Ok(Tokens { access, refresh: text("refresh_token"), id: text("id_token"), expires_in })
}

/// A word of the provider's that may be shown to anybody: letters, digits and `_` only.
pub fn plain(word: &str) -> String {
    word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == ' ').take(40).collect()
}
