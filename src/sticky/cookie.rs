//! A cookie that keeps a client where it is: its names, what it is sealed with, how long it lasts, how it is written.
//!
//! How long it lasts is judged by the time inside the seal, whatever the browser does. It is written anew when a tenth of its
//! duration is over, not with every response as ALB does it: so most responses carry none, and need neither be sealed nor
//! be kept from caches. Called by the decisions of this folder, and by `proxy::steer` to write it.

use crate::base::sealed::Ring;
use crate::http::Fields;
use crate::http::write::{built_field, number};
use crate::sticky::Memory;
use crate::sticky::token::{TEXT, Token};
use aws_lc_rs::digest;
use std::sync::Arc;
use std::time::Duration;

/// What the file says of a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    /// Its name.
    pub name: String,
    /// How long it lasts, in whole seconds.
    pub duration: Duration,
    /// Whether pages of other sites may have it sent.
    pub same_site: SameSite,
    /// Whether there is a second one that pages of other sites may have sent.
    pub cors: bool,
    /// Whether responses that set it are kept from shared caches.
    pub nocache: bool,
}

impl Default for CookieSettings {
    fn default() -> CookieSettings {
        CookieSettings {
            name: "RINGGATE".to_owned(),
            duration: Duration::from_secs(24 * 3600),
            same_site: SameSite::default(),
            cors: false,
            nocache: true,
        }
    }
}

/// `SameSite` (RFC 6265bis section 4.1.2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// It is sent when another site's page leads here, not with what it embeds.
    #[default]
    Lax,
    /// It is sent by pages of this site only.
    Strict,
    /// It is sent always; over TLS only.
    None,
}

/// What a cookie is for. It is part of what is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It names a target of a group.
    Target,
    /// It names a group of a rule.
    Group,
    /// It holds the client's number for a rule's canary.
    Canary,
}

/// A cookie as run.
#[derive(Debug)]
pub struct Cookie {
    name: Box<[u8]>,
    // What pages of other sites have sent.
    cors: Option<Box<[u8]>>,
    ring: Arc<Ring>,
    // What is sealed with it, unseen: its kind, and the name of its group or rule.
    bound: Box<[u8]>,
    // The same and the keys, as a number: what is remembered is forgotten when a key is taken away.
    owner: u64,
    seconds: u64,
    same_site: SameSite,
    /// Whether responses that set it are kept from shared caches.
    pub nocache: bool,
}

/// What the name of the second cookie has behind that of the first; no name of the file can end so.
const CORS: &str = "~cors";
// A client can send a name several times; so many of them are opened.
const MOST_OPENED: usize = 4;

impl Cookie {
    /// The cookie of the rule or group with this name.
    pub fn new(settings: &CookieSettings, kind: Kind, owner: &str, ring: &Arc<Ring>) -> Cookie {
        let kind = match kind {
            Kind::Target => b't',
            Kind::Group => b'g',
            Kind::Canary => b'c',
        };
        let bound: Box<[u8]> = [&[kind], owner.as_bytes()].concat().into();
        let cors = format!("{}{CORS}", settings.name).into_bytes();
        Cookie {
            name: settings.name.as_bytes().into(),
            cors: settings.cors.then(|| cors.into()),
            owner: fingerprint(&[&ring.number().to_be_bytes(), &bound]),
            ring: Arc::clone(ring),
            bound,
            seconds: settings.duration.as_secs().max(1),
            same_site: settings.same_site,
            nocache: settings.nocache,
        }
    }

    /// Whether it has this name.
    #[inline]
    pub fn is_named(&self, name: &[u8]) -> bool {
        name == &*self.name || self.cors.as_ref().is_some_and(|cors| name == &**cors)
    }

    /// What the cookie of a request says, if that is believed; of several, the one that was sealed last. `now` is in
    /// seconds since 1970.
    #[inline]
    pub fn read(&self, memory: &mut Memory, fields: Fields<'_>, now: u64) -> Option<Token> {
        let named = fields.cookies().filter(|(name, _)| self.is_named(name)).take(MOST_OPENED);
        let tokens = named.filter_map(|(_, value)| self.open(memory, value.try_into().ok()?));
        tokens.filter(|token| !self.is_over(*token, now)).max_by_key(|token| token.sealed)
    }

    #[inline]
    fn open(&self, memory: &mut Memory, text: &[u8; TEXT]) -> Option<Token> {
        if let Some(token) = memory.find(self.owner, text) {
            return Some(token);
        }
        let token = Token::open(&self.ring, &self.bound, text)?;
        memory.keep(self.owner, text, token);
        Some(token)
    }

    /// Whether the time of a token is over.
    #[inline]
    pub fn is_over(&self, token: Token, now: u64) -> bool {
        now.saturating_sub(u64::from(token.sealed)) > self.seconds
    }

    /// Whether it should be written anew: a tenth of its time is over, or a clock was wrong.
    #[inline]
    pub fn is_due(&self, token: Token, now: u64) -> bool {
        let sealed = u64::from(token.sealed);
        sealed > now || (now - sealed).saturating_mul(10) >= self.seconds
    }

    /// Appends the lines that set it; false where that cannot be sealed. `secure` is whether the client came by TLS: a cookie
    /// for other sites' pages is not taken without.
    pub fn write(&self, out: &mut Vec<u8>, about: u64, now: u64, secure: bool) -> bool {
        let token = Token { about, sealed: u32::try_from(now).unwrap_or(u32::MAX) };
        let Some(text) = token.seal(&self.ring, &self.bound) else { return false };
        self.line(out, &self.name, &text, self.same_site, secure);
        if let Some(cors) = self.cors.as_ref().filter(|_| secure) {
            self.line(out, cors, &text, SameSite::None, secure);
        }
        true
    }

    fn line(&self, out: &mut Vec<u8>, name: &[u8], text: &str, same_site: SameSite, secure: bool) {
        let mut cookie = Vec::with_capacity(name.len() + 1 + TEXT + 80);
        cookie.extend_from_slice(name);
        cookie.push(b'=');
        cookie.extend_from_slice(text.as_bytes());
        cookie.extend_from_slice(b"; Path=/; Max-Age=");
        number(&mut cookie, self.seconds);
        cookie.extend_from_slice(b"; HttpOnly");
        cookie.extend_from_slice(match same_site {
            SameSite::Lax => b"; SameSite=Lax",
            SameSite::Strict => b"; SameSite=Strict",
            // Without Secure it would not be taken at all.
            SameSite::None if secure => b"; SameSite=None",
            SameSite::None => b"",
        });
        if secure {
            cookie.extend_from_slice(b"; Secure");
        }
        built_field(out, b"set-cookie", &cookie);
    }
}

/// A number that stands for some octets, the same in every process: the first of their SHA-256. Where one part ends counts.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes)
}
