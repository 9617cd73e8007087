//! Which stored responses a request has made invalid (RFC 9111 section 4.4).
//!
//! Called with the final response to a request whose method is not safe, whatever rule has taken it.

use crate::cache::ask::Request;
use crate::cache::key::Origin;
use crate::http::Fields;

/// Whether requests of this method may change what they are about. What is not known may.
pub fn is_unsafe(method: &[u8]) -> bool {
    !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

/// What has changed: what the request is about, and what its response names at the same origin. Nothing after an error.
pub fn changed(request: &Request<'_>, status: u16, response: Fields<'_>) -> Vec<Origin> {
    if !is_unsafe(request.view.method) || !(200..400).contains(&status) {
        return Vec::new();
    }
    let target = Origin::of(request);
    let named = ["location", "content-location"].iter().filter_map(|name| response.first(name));
    let others: Vec<Origin> = named.filter_map(|reference| resolve(&target, reference)).collect();
    let mut all = vec![target];
    for other in others {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

// A reference (RFC 3986 section 5.2) as what it names, if that is at the origin of `from`.
fn resolve(from: &Origin, reference: &[u8]) -> Option<Origin> {
    let reference = reference.split(|b| *b == b'#').next().unwrap_or_default();
    let authority = from.authority();
    let scheme = from.base.split(|b| *b == b':').next().unwrap_or_default();
    let absolute = if has_scheme(reference) {
        reference.to_vec()
    } else if reference.starts_with(b"//") {
        [scheme, b":", reference].concat()
    } else if reference.starts_with(b"/") {
        [authority, reference].concat()
    } else if reference.starts_with(b"?") {
        [from.base.as_slice(), reference].concat()
    } else if reference.is_empty() {
        return None;
    } else {
        let end = memchr::memrchr(b'/', &from.base).map_or(from.base.len(), |at| at + 1);
        [from.base.get(..end)?, reference].concat()
    };
    let named = Origin::parse(&absolute)?;
    (named.authority() == authority).then_some(named)
}

fn has_scheme(reference: &[u8]) -> bool {
    let end = reference.iter().position(|b| matches!(b, b':' | b'/' | b'?')).unwrap_or(0);
    end > 0 && reference.get(end) == Some(&b':')
}
