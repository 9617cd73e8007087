//! Which group or target a client stays with: cookies that say so, sealed, and what is believed of them.
//!
//! Pure: what a cookie says is decided here, who sends it on is `proxy::steer`'s work. Rules of failover are those of ALB: a cookie
//! that is foreign, changed or over, and one that names what no request may go to, is as good as none; the client then stays
//! with whatever has answered it. What a cookie names is a number that means nothing elsewhere (hazard UP-22): the hash of
//! a target's address, or of a group's name; or a number that was drawn for its client.

pub mod canary;
pub mod cookie;
pub mod memory;
pub mod token;

pub use canary::{By, Canary, CanarySettings, Force};
pub use cookie::{Cookie, CookieSettings, Kind, SameSite};
pub use memory::Memory;
pub use token::Token;

use crate::base::sealed::Ring;
use crate::http::Fields;
use std::sync::Arc;

/// What the keys of its cookies are derived with.
pub const DOMAIN: &[u8] = b"ringgate sticky 1";

/// How clients stay with one group of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// What says which.
    pub cookie: CookieSettings,
}

/// How clients stay with one target of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSettings {
    /// What says which.
    pub cookie: CookieSettings,
    /// A cookie of the application: its clients stay from when a target sets it, for as long as they send it.
    pub follow: Option<String>,
}

/// How clients stay with one group of a rule, as run.
#[derive(Debug)]
pub struct GroupStick {
    /// What says which.
    pub cookie: Cookie,
    // For each of the rule's groups, the hash of its name and its weight.
    groups: Box<[(u64, u32)]>,
}

impl GroupStick {
    /// Of a rule of this name; `groups` are the hashes of its groups' names and their weights.
    pub fn new(
        settings: &GroupSettings,
        rule: &str,
        groups: impl Iterator<Item = (u64, u32)>,
        ring: &Arc<Ring>,
    ) -> GroupStick {
        let cookie = Cookie::new(&settings.cookie, Kind::Group, rule, ring);
        GroupStick { cookie, groups: groups.collect() }
    }

    /// The group that a cookie names, as its place among the rule's. One without weight takes nobody, whoever was there before.
    pub fn place(&self, about: u64) -> Option<usize> {
        self.groups.iter().position(|(hash, weight)| *hash == about && *weight > 0)
    }

    /// What a cookie says of the group at a place.
    pub fn about(&self, place: usize) -> Option<u64> {
        self.groups.get(place).map(|(hash, _)| *hash)
    }
}

/// How clients stay with one target of a group, as run.
#[derive(Debug)]
pub struct TargetStick {
    /// What says which.
    pub cookie: Cookie,
    follow: Option<Box<[u8]>>,
}

impl TargetStick {
    /// Of a group of this name.
    pub fn new(settings: &TargetSettings, group: &str, ring: &Arc<Ring>) -> TargetStick {
        let follow = settings.follow.as_ref().map(|name| name.as_bytes().into());
        TargetStick { cookie: Cookie::new(&settings.cookie, Kind::Target, group, ring), follow }
    }

    /// What a request's cookie says. Without the cookie that is followed it says nothing.
    pub fn hear(&self, memory: &mut Memory, fields: Fields<'_>, now: u64) -> Option<Token> {
        if let Some(follow) = &self.follow
            && !fields.cookies().any(|(name, _)| name == &**follow)
        {
            return None;
        }
        self.cookie.read(memory, fields, now)
    }

    /// Whether the application says that its client begins to stay with whom this comes from, wherever it was before.
    pub fn begins_by_itself(&self, response: Fields<'_>) -> bool {
        self.follow.is_some() && self.begins(response)
    }

    /// Whether a client may begin to stay with whom its response comes from: where a cookie is followed, when that is set.
    pub fn begins(&self, response: Fields<'_>) -> bool {
        let Some(follow) = &self.follow else { return true };
        response.all("set-cookie").any(|value| {
            value.split(|b| *b == b'=').next().is_some_and(|name| name.trim_ascii() == &**follow)
        })
    }
}

/// What has become of a client that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It had no cookie that is believed.
    New,
    /// It is where its cookie says.
    Kept,
    /// It is elsewhere from now on.
    Moved,
}

impl Outcome {
    /// As it is logged.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::New => "new",
            Outcome::Kept => "kept",
            Outcome::Moved => "moved",
        }
    }

    /// Of a client whose cookie has said this, and that is with `about` now.
    pub fn of(heard: Option<Token>, about: u64) -> Outcome {
        match heard {
            None => Outcome::New,
            Some(token) if token.about == about => Outcome::Kept,
            Some(_) => Outcome::Moved,
        }
    }
}

/// What the cookies of one request have said, and where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steer {
    /// The group that was chosen, an index into the snapshot's: chance decides once a request.
    pub chosen: Option<usize>,
    /// What was said of a target, once that was looked at.
    pub target: Option<Option<Token>>,
    /// What was said of a group, and what the one is that the request goes to.
    pub group: Option<(Option<Token>, u64)>,
    /// What was said of the client's number, and the number that it has.
    pub canary: Option<(Option<Token>, u64)>,
    /// What has become of it.
    pub outcome: Option<Outcome>,
    /// The target that it stays with had no room for this request.
    pub full: bool,
}

#[cfg(test)]
mod tests;
