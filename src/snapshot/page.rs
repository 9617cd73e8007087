//! Answers that are not the same for everybody, or lie in a file.
//!
//! Compiled of `respond` where that has templates or names a file. Filled in by `proxy::reply`.

use crate::config;
use crate::transform::{Place, Template};
use aws_lc_rs::digest;
use std::fmt::Write;
use std::sync::Arc;

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub kind: Option<String>,
    /// Further fields.
    pub headers: Vec<(String, Template)>,
    /// The body.
    pub body: Body,
}

/// Its body.
#[derive(Debug)]
pub enum Body {
    /// Made of the request.
    Made(Template, Place),
    /// That of a file.
    File {
        /// All of it.
        octets: Arc<[u8]>,
        /// Its entity tag, a strong one, with its quotes; `None` where another field says it, or the status is none of 200.
        tag: Option<String>,
    },
}

impl Page {
    /// Of an answer as written; `None` for one that is always the same.
    pub fn of(respond: &config::Respond) -> Option<Page> {
        let fixed = |template: &Template| template.constant().is_some();
        let body = match &respond.octets {
            Some(octets) => {
                let named = respond.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("etag"));
                let tagged = respond.status == 200 && !named;
                Body::File { octets: Arc::clone(octets), tag: tagged.then(|| tag(octets)) }
            }
            None if fixed(&respond.body) && respond.headers.iter().all(|(_, v)| fixed(v)) => {
                return None;
            }
            None => {
                let kind = respond.content_type.as_deref().unwrap_or_default();
                Body::Made(respond.body.clone(), Place::in_body(kind).unwrap_or(Place::Text))
            }
        };
        Some(Page {
            status: respond.status,
            kind: respond.content_type.clone(),
            headers: respond.headers.clone(),
            body,
        })
    }
}

// Half of a digest is enough to tell versions of a file apart.
fn tag(octets: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, octets);
    let mut tag = "\"".to_owned();
    for octet in digest.as_ref().iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{octet:02x}");
    }
    tag + "\""
}
