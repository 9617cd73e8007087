//! A session: who has logged in, with which tokens, until when; as it lies in the cookie and as a core remembers it.
//!
//! The cookie holds all of it, sealed, so that any core and any node with the same secret knows the user. A core remembers what
//! it has opened, by a digest of the cookie, its name and the host, with the lines that targets are sent: a request of a known session
//! costs a digest. Called by the policy's check and by `exchange`.

use crate::base::Tick;
use crate::base::sealed::{base64url, from_base64url};
use crate::policy::identity::Claims;
use crate::policy::oidc::Settings;
use crate::policy::oidc::cookies::Shards;
use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// A session as the cookie has it; the names are short, since browsers send them with each request.
#[derive(Clone, Serialize, Deserialize, PartialEq)]
pub struct Session {
    /// Drawn at the login, in base64url.
    #[serde(rename = "i")]
    pub number: String,
    /// When it ends whatever happens, in seconds since 1970.
    #[serde(rename = "e")]
    pub ends: u64,
    /// When it was last seen in use.
    #[serde(rename = "s")]
    pub seen: u64,
    /// When the access token expires; `None` where the provider does not say.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub token_ends: Option<u64>,
    /// The access token; empty where nobody needs it.
    #[serde(rename = "a", default, skip_serializing_if = "String::is_empty")]
    pub access: String,
    /// The refresh token; empty where there is none.
    #[serde(rename = "r", default, skip_serializing_if = "String::is_empty")]
    pub refresh: String,
    /// The ID token, for the logout; empty where it did not fit.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub id_token: String,
    /// What the provider says of the user.
    #[serde(rename = "c")]
    pub claims: Map<String, Value>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

/// What a time says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It may be used.
    Fine,
    /// It may be used once its tokens have been refreshed.
    Refresh,
    /// It is over.
    Over,
}

impl Session {
    /// A session that begins now.
    pub fn begin(id: [u8; 16], settings: &Settings, unix: u64) -> Session {
        Session {
            number: base64url(&id),
            ends: unix.saturating_add(settings.session_timeout.as_secs()),
            seen: unix,
            token_ends: None,
            access: String::new(),
            refresh: String::new(),
            id_token: String::new(),
            claims: Map::new(),
        }
    }

    /// What tells it from every other.
    pub fn id(&self) -> Option<[u8; 16]> {
        from_base64url(self.number.as_bytes())?.try_into().ok()
    }

    /// Who has logged in.
    pub fn subject(&self) -> &str {
        self.claims.get("sub").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it may be used now.
    pub fn age(&self, settings: &Settings, unix: u64) -> Age {
        let idle = settings.idle_timeout.map(|idle| self.seen.saturating_add(idle.as_secs()));
        if unix >= self.ends || idle.is_some_and(|until| unix >= until) {
            return Age::Over;
        }
        let expired = self.token_ends.is_some_and(|ends| unix >= ends);
        if expired && !self.refresh.is_empty() { Age::Refresh } else { Age::Fine }
    }

    /// Whether its cookie should be written anew, so that it does not look idle.
    pub fn should_touch(&self, settings: &Settings, unix: u64) -> bool {
        let step = settings.idle_timeout.map(|idle| (idle.as_secs() / 8).clamp(1, 300));
        step.is_some_and(|step| unix >= self.seen.saturating_add(step))
    }

    /// How long a browser keeps its cookie, in seconds.
    pub fn max_age(&self, settings: &Settings, unix: u64) -> u64 {
        let whole = self.ends.saturating_sub(unix);
        settings.idle_timeout.map_or(whole, |idle| whole.min(idle.as_secs()))
    }

    /// As it lies in the cookie.
    pub fn octets(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// From what [`Session::octets`] made.
    pub fn read(octets: &[u8]) -> Option<Session> {
        serde_json::from_slice(octets).ok()
    }
}

/// A session that a core remembers.
pub struct Entry {
    /// The session.
    pub session: Session,
    /// Its claims, for policies and logs.
    pub claims: Rc<Claims>,
    /// Its number, so that it need not be read again.
    pub id: [u8; 16],
    /// Whether the key that seals now has sealed its cookie.
    pub current: bool,
    /// The lines for targets, and until when they hold.
    pub lines: RefCell<(u64, Vec<u8>)>,
    /// When a newer cookie was last written for it.
    pub touched: Cell<u64>,
    used: Cell<Tick>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Entry {
    /// Of a session that was opened or has begun; `None` where its number is none.
    pub fn new(session: Session, current: bool) -> Option<Rc<Entry>> {
        Some(Rc::new(Entry {
            id: session.id()?,
            claims: Rc::new(Claims(session.claims.clone())),
            session,
            current,
            lines: RefCell::default(),
            touched: Cell::new(0),
            used: Cell::default(),
        }))
    }
}

/// Tells cookies apart: a digest of name, host and value.
pub type Key = [u8; 32];

/// The sessions that a core remembers, no more than [`MOST`].
#[derive(Debug, Default)]
pub struct Remembered {
    entries: RefCell<HashMap<Key, Rc<Entry>>>,
    swept: Cell<Tick>,
}

/// Sessions that a core remembers for one policy; a session takes a few KiB.
pub const MOST: usize = 4096;
// How long a session is remembered that is not used.
const FORGET: Duration = Duration::from_secs(300);
const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl Remembered {
    /// What a cookie is remembered by.
    pub fn key(name: &str, host: &str, shards: Shards<'_>) -> Key {
        let mut all = digest::Context::new(&digest::SHA256);
        for part in [name, host] {
            all.update(&part.len().to_be_bytes());
            all.update(part.as_bytes());
        }
        shards.parts().for_each(|part| all.update(part));
        all.finish().as_ref().try_into().unwrap_or_default()
    }

    /// A session that is remembered.
    pub fn get(&self, key: &Key, now: Tick) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let entry = entries.get(key)?;
        entry.used.set(now);
        Some(Rc::clone(entry))
    }

    /// Remembers a session; another gives way where there are too many.
    pub fn put(&self, key: Key, entry: &Rc<Entry>, now: Tick) {
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= MOST
            && let Some(other) = entries.keys().next().copied()
        {
            entries.remove(&other);
        }
        entry.used.set(now);
        entries.insert(key, Rc::clone(entry));
    }

    /// Forgets what was not used for a while; looks through them now and then only.
    pub fn sweep(&self, now: Tick) {
        if now < self.swept.get().after(SWEEP_EVERY) {
            return;
        }
        self.swept.set(now);
        self.entries.borrow_mut().retain(|_, entry| now < entry.used.get().after(FORGET));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::oidc::tests::settings;

    #[test]
    fn sessions_end_absolutely_and_by_idleness() {
        let mut settings = settings();
        settings.session_timeout = Duration::from_secs(1000);
        settings.idle_timeout = Some(Duration::from_secs(100));
        let mut session = Session::begin([7; 16], &settings, 5000);
        let check = |session: &Session, unix: u64, expected: Age| {
            assert_eq!(session.age(&settings, unix), expected, "{unix}");
        };
        check(&session, 5099, Age::Fine);
        check(&session, 5100, Age::Over);
        session.seen = 5950;
        check(&session, 5999, Age::Fine);
        check(&session, 6000, Age::Over);
        session.token_ends = Some(5960);
        check(&session, 5960, Age::Fine);
        session.refresh = "r".to_owned();
        check(&session, 5959, Age::Fine);
        check(&session, 5960, Age::Refresh);
        check(&session, 6000, Age::Over);
        assert_eq!(session.max_age(&settings, 5950), 50);
        assert!(session.should_touch(&settings, 5962) && !session.should_touch(&settings, 5961));
        settings.idle_timeout = None;
        assert_eq!(session.age(&settings, 5999), Age::Refresh);
        assert!(!session.should_touch(&settings, 5999));
    }

    #[test]
    fn a_session_is_read_as_it_was_written() {
        let mut session = Session::begin([7; 16], &settings(), 5000);
        session.claims.insert("sub".into(), "u1".into());
        session.access = "secret-token".into();
        let read = Session::read(&session.octets().unwrap()).unwrap();
        assert!(read == session && read.id() == Some([7; 16]) && read.subject() == "u1");
        assert_eq!(Session::read(b"{}"), None);
        assert!(!format!("{session:?}").contains("secret-token"), "AUTH-14");
    }

    #[test]
    fn a_core_remembers_so_many_and_forgets_the_unused() {
        let (remembered, settings) = (Remembered::default(), settings());
        let entry = |n: u8| Entry::new(Session::begin([n; 16], &settings, 0), true).unwrap();
        let at = |seconds| Tick::ZERO.after(Duration::from_secs(seconds));
        for n in 0..MOST + 10 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            remembered.put(key, &entry(1), at(100));
        }
        assert_eq!(remembered.len(), MOST);
        remembered.put([9; 32], &entry(9), at(100));
        assert!(remembered.get(&[9; 32], at(200)).is_some());
        remembered.sweep(at(400));
        assert_eq!(remembered.len(), 1);
        remembered.sweep(at(530));
        assert_eq!(remembered.len(), 0);
    }
}
