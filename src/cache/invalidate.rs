//! Which stored responses a request has made invalid (RFC 9111 section 4.4).
//!
//! Called with the final response to a request whose method is not safe, whatever rule has taken it.

use crate::cache::ask::Request;
use crate::cache::key::Origin;
use crate::http::Fields;
use crate::http::path::PathPolicy;

/// Whether requests of this method may change what they are about. What is not known may.
pub fn is_unsafe(method: &[u8]) -> bool {
    !matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
}

/// What has changed: what the request is about, and what its response names at the same origin. Nothing after an error.
pub fn changed(
    request: &Request<'_>,
    status: u16,
    response: Fields<'_>,
    paths: PathPolicy,
) -> Vec<Origin> {
    if !is_unsafe(request.view.method) || !(200..400).contains(&status) {
        return Vec::new();
    }
    let target = Origin::of(request);
    let named = ["location", "content-location"].iter().filter_map(|name| response.first(name));
    let others: Vec<Origin> =
        named.filter_map(|reference| resolve(&target, reference, paths)).collect();
    let mut all = vec![target];
    for other in others {
        if !all.contains(&other) {
            all.push(other);
        }
    }
    all
}

// A reference (RFC 3986 section 5.2) as what it names, if that is at the origin of `from`.
fn resolve(from: &Origin, reference: &[u8], paths: PathPolicy) -> Option<Origin> {
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
    let named = Origin::parse(&absolute, paths)?;
    (named.authority() == authority).then_some(named)
}

fn has_scheme(reference: &[u8]) -> bool {
    let end = reference.iter().position(|b| matches!(b, b':' | b'/' | b'?')).unwrap_or(0);
    end > 0 && reference.get(end) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::fields::OwnedFields;
    use crate::http::{Fields, RequestView};
    use std::net::{IpAddr, Ipv4Addr};

    fn origins(method: &str, status: u16, response: &[(&str, &str)]) -> Vec<String> {
        let view = RequestView {
            method: method.as_bytes(),
            host: b"a.test",
            path: b"/x/y",
            query: Some(b"q=1"),
            fields: Fields::new(&[], &[]),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let request = Request {
            view,
            scheme: "https",
            port: None,
            authority: b"a.test",
            local_port: 443,
            group: "",
            trusted: false,
            identified: false,
            has_body: false,
        };
        let fields: OwnedFields = response.iter().copied().collect();
        let text = |origin: &Origin| {
            let query = origin.query.as_deref().map(|query| [b"?", query].concat());
            let all = [origin.base.clone(), query.unwrap_or_default()].concat();
            String::from_utf8(all).unwrap()
        };
        changed(&request, status, fields.view(), PathPolicy::default()).iter().map(text).collect()
    }

    const TARGET: &str = "https://a.test:443/x/y?q=1";

    #[test]
    fn what_is_unsafe_and_succeeds_changes_its_target_rfc9111_4_4() {
        for (method, status, expected) in [
            ("POST", 200, true),
            ("PUT", 204, true),
            ("DELETE", 303, true),
            ("PATCH", 200, true),
            ("M-SEARCH", 200, true),
            ("post", 200, true),
            ("GET", 200, false),
            ("HEAD", 200, false),
            ("OPTIONS", 200, false),
            ("POST", 400, false),
            ("POST", 503, false),
            ("POST", 101, false),
        ] {
            let got = origins(method, status, &[]);
            let wanted: Vec<&str> = if expected { vec![TARGET] } else { vec![] };
            assert_eq!(got, wanted, "{method} {status}");
        }
    }

    #[test]
    fn and_what_its_response_names_at_the_same_origin() {
        for (reference, expected) in [
            ("/z", Some("https://a.test:443/z")),
            ("z", Some("https://a.test:443/x/z")),
            ("../z", Some("https://a.test:443/z")),
            ("?z", Some("https://a.test:443/x/y?z")),
            ("/z?a=b#c", Some("https://a.test:443/z?a=b")),
            ("https://A.test/z", Some("https://a.test:443/z")),
            ("https://a.test:443/%7Ez", Some("https://a.test:443/~z")),
            ("//a.test/z", Some("https://a.test:443/z")),
            ("http://a.test/z", None),
            ("https://b.test/z", None),
            ("https://a.test:444/z", None),
            ("//b.test/z", None),
            ("mailto:x@a.test", None),
            ("https://a.test@b.test/", None),
            ("/../z", None),
            ("", None),
            ("#c", None),
        ] {
            for name in ["Location", "content-location"] {
                let got = origins("POST", 201, &[(name, reference)]);
                let mut wanted = vec![TARGET];
                wanted.extend(expected);
                assert_eq!(got, wanted, "{reference}");
            }
        }
    }
}
