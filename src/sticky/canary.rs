//! Which clients are sent to the group that is tried out: a share of them, always the same ones.
//!
//! Each client has a number from 0 to 9999, and those below the share are in: a share that grows keeps all who are in, one that
//! shrinks takes nobody new. The number follows from the rule's name and what identifies the client, or it is drawn and kept in a
//! cookie. A field can say who is in or out in spite of it. Called by `proxy::steer`.

use crate::base::sealed::Ring;
use crate::http::Fields;
use crate::sticky::cookie::fingerprint;
use crate::sticky::{Cookie, CookieSettings, Kind};
use std::net::IpAddr;
use std::sync::Arc;

/// What the file says of a canary.
#[derive(Clone, Debug, PartialEq)]
pub struct CanarySettings {
    /// The group that is tried out.
    pub group: String,
    /// The share of clients, in ten-thousandths.
    pub share: u32,
    /// What tells clients apart.
    pub by: By,
    /// What says who is in or out.
    pub force: Option<Force>,
}

/// What tells clients apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Their address.
    ClientIp,
    /// A number in a cookie.
    Cookie(CookieSettings),
    /// The value of a field; a request without it is out.
    Header(String),
}

/// A field that says who is in or out; any other value leaves it to the share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Force {
    /// Its name.
    pub header: String,
    /// Values, whatever their case, that are in.
    pub on: Vec<String>,
    /// Values, whatever their case, that are out.
    pub off: Vec<String>,
}

/// The numbers that there are: a share is told in so many parts.
pub const WHOLE: u32 = 10_000;

/// A canary as run.
#[derive(Debug)]
pub struct Canary {
    /// The group: an index into the snapshot's.
    pub group: usize,
    /// The cookie that holds the number, if one does.
    pub cookie: Option<Cookie>,
    rule: Box<[u8]>,
    settings: CanarySettings,
}

/// What decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is known.
    In(bool),
    /// The number in the client's cookie, which [`Canary::takes`] judges.
    ByCookie,
}

impl Canary {
    /// Of a rule of this name.
    pub fn new(settings: &CanarySettings, rule: &str, group: usize, ring: &Arc<Ring>) -> Canary {
        let cookie = match &settings.by {
            By::Cookie(cookie) => Some(Cookie::new(cookie, Kind::Canary, rule, ring)),
            By::ClientIp | By::Header(_) => None,
        };
        Canary { group, cookie, rule: rule.as_bytes().into(), settings: settings.clone() }
    }

    /// Whether a request is in.
    pub fn decide(&self, fields: Fields<'_>, client: impl FnOnce() -> IpAddr) -> Decided {
        if let Some(forced) = self.settings.force.as_ref().and_then(|force| force.says(fields)) {
            return Decided::In(forced);
        }
        let number = match &self.settings.by {
            By::Cookie(_) => return Decided::ByCookie,
            By::ClientIp => match client() {
                IpAddr::V4(v4) => fingerprint(&[&self.rule, &v4.octets()]),
                IpAddr::V6(v6) => fingerprint(&[&self.rule, &v6.octets()]),
            },
            By::Header(name) => match fields.first(name).filter(|value| !value.is_empty()) {
                Some(value) => fingerprint(&[&self.rule, value]),
                None => return Decided::In(false),
            },
        };
        Decided::In(self.takes(number))
    }

    /// Whether the client with this number is in.
    pub fn takes(&self, number: u64) -> bool {
        number % u64::from(WHOLE) < u64::from(self.settings.share)
    }
}

impl Force {
    /// What the first value that says anything says.
    pub fn says(&self, fields: Fields<'_>) -> Option<bool> {
        let is = |list: &[String], value: &[u8]| {
            list.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(value))
        };
        fields.all(&self.header).find_map(|value| match value {
            value if is(&self.on, value) => Some(true),
            value if is(&self.off, value) => Some(false),
            _ => None,
        })
    }
}
