//! Which requests are copied to another group, and what becomes of their bodies.
//!
//! Only what a client's answer need not wait for: a body that is here, or one that the file says may be waited for. Called by
//! `proxy::mirror`.

use crate::fanout::{CompareSettings, Share};
use std::time::Duration;

/// Where copies of requests go, and whether their answers are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorSettings {
    /// The name of the group.
    pub group: String,
    /// How many of the requests are copied.
    pub share: Share,
    /// The methods of those that are.
    pub methods: Vec<String>,
    /// Octets that a body may have to be copied.
    pub body: u64,
    /// Whether a body that is announced and that small is waited for.
    pub wait_body: bool,
    /// How long a copy's answer may take, its last octet included.
    pub timeout: Duration,
    /// What is compared.
    pub compare: Option<CompareSettings>,
}

impl Default for MirrorSettings {
    fn default() -> MirrorSettings {
        MirrorSettings {
            group: String::new(),
            share: Share::ALL,
            methods: ["GET", "HEAD", "OPTIONS"].map(str::to_owned).to_vec(),
            body: 64 << 10,
            wait_body: false,
            timeout: Duration::from_secs(10),
            compare: None,
        }
    }
}

/// What is there of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it, this many octets.
    Here(u64),
    /// This many octets are announced.
    Announced(u64),
    /// Nobody knows how much will come.
    Unknown,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is none of those that are copied.
    None,
    /// It is, but for its body.
    Skip,
    /// It is copied now.
    Copy,
    /// It is copied once its body is here.
    Collect,
}

impl MirrorSettings {
    /// Decides on a request that has drawn a number below [`Share::WHOLE`].
    pub fn choose(&self, method: &[u8], body: Body, drawn: u32) -> Choice {
        if !self.share.takes(drawn) || !self.methods.iter().any(|one| one.as_bytes() == method) {
            return Choice::None;
        }
        match body {
            Body::Here(octets) if octets <= self.body => Choice::Copy,
            Body::Announced(octets) if octets <= self.body && self.wait_body => Choice::Collect,
            _ => Choice::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_copied_where_nobody_has_to_wait_for_it() {
        let settings = MirrorSettings { share: Share(10), body: 5, ..Default::default() };
        let waiting = MirrorSettings { wait_body: true, ..settings.clone() };
        for (method, body, drawn, now, later) in [
            ("GET", Body::Here(0), 9, Choice::Copy, Choice::Copy),
            ("GET", Body::Here(0), 10, Choice::None, Choice::None),
            ("HEAD", Body::Here(5), 0, Choice::Copy, Choice::Copy),
            ("GET", Body::Here(6), 0, Choice::Skip, Choice::Skip),
            ("OPTIONS", Body::Announced(5), 0, Choice::Skip, Choice::Collect),
            ("GET", Body::Announced(6), 0, Choice::Skip, Choice::Skip),
            ("GET", Body::Unknown, 0, Choice::Skip, Choice::Skip),
            ("POST", Body::Here(0), 0, Choice::None, Choice::None),
            ("get", Body::Here(0), 0, Choice::None, Choice::None),
        ] {
            assert_eq!(settings.choose(method.as_bytes(), body, drawn), now, "{method} {body:?}");
            assert_eq!(waiting.choose(method.as_bytes(), body, drawn), later, "{method} {body:?}");
        }
    }
}
