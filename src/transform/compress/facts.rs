//! What the fields of a response say about whether its content may be coded anew.
//!
//! Also the small texts of it: validators made weak (RFC 9110 section 8.8.1), and tags compared. Called by `proxy::coding`.

use crate::transform::compress::{Coding, Settings, codings};

/// What was found, field by field.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whether its type is one that is compressed.
    pub covered: bool,
    /// The codings it has, in the order put on; `None` where one of them is not known.
    pub codings: Option<Vec<Coding>>,
    /// Whether it is content of parts, or says that nobody may change it.
    pub fixed: bool,
    /// Whether it sets a cookie.
    pub cookies: bool,
    /// Whether caches are told already that it depends on `Accept-Encoding`.
    pub varies: bool,
}

impl Facts {
    /// Reads `fields`, names and values.
    pub fn of<'f>(
        settings: &Settings,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
    ) -> Facts {
        let mut facts = Facts::default();
        for (name, value) in fields.clone() {
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            match name.len() {
                4 if is(b"vary") => facts.varies |= has_member(value, &[b"*", b"accept-encoding"]),
                10 if is(b"set-cookie") => facts.cookies = true,
                12 if is(b"content-type") => facts.covered = settings.covers(value),
                13 if is(b"content-range") => facts.fixed = true,
                // RFC 9110 section 7.7.
                13 if is(b"cache-control") => facts.fixed |= has_member(value, &[b"no-transform"]),
                _ => {}
            }
        }
        let named = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"content-encoding"));
        facts.codings = codings(named.map(|(_, value)| value));
        facts
    }

    /// Whether a response with this status can have content that is coded.
    pub fn status(status: u16) -> bool {
        status >= 200 && !matches!(status, 204..=206 | 304)
    }
}

/// Whether a field says something of content that it no longer says when that is coded anew: lengths and digests of what was sent,
/// and that parts of it can be asked for.
pub fn is_void(name: &[u8]) -> bool {
    const VOID: [&[u8]; 6] = [
        b"content-encoding",
        b"accept-ranges",
        b"content-md5",
        b"content-digest",
        b"repr-digest",
        b"digest",
    ];
    VOID.iter().any(|void| name.eq_ignore_ascii_case(void))
}

/// Whether a list has one of these members, whatever their parameters.
pub fn has_member(value: &[u8], members: &[&[u8]]) -> bool {
    value.split(|b| *b == b',').any(|member| {
        let named = member.split(|b| matches!(b, b'=' | b';')).next().unwrap_or_default();
        members.iter().any(|known| named.trim_ascii().eq_ignore_ascii_case(known))
    })
}

/// Whether an entity tag is a weak one.
pub fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

/// Whether a list of entity tags (`If-None-Match`) has `tag` as a weak one: what the client holds was coded.
pub fn holds_weak(list: &[u8], tag: &[u8]) -> bool {
    let mut weak = tags(list).filter(|one| is_weak(one));
    weak.any(|one| one.get(2..) == Some(tag))
}

/// `If-Match`, of whose lines these are the values, with the strong tag beside each weak one; `None` where it has no weak one. What was
/// coded for a client has a weak tag since it is no longer octet for octet what the target sent, but it came of exactly that:
/// an edit of it is one of the target's representation, which the target compares strongly (RFC 9110 section 13.1.1). The weak
/// one stays: it may be the target's own, which some compare as it is.
pub fn strengthened<'f>(lines: impl Iterator<Item = &'f [u8]> + Clone) -> Option<Vec<u8>> {
    let all = lines.flat_map(tags);
    if !all.clone().any(is_weak) {
        return None;
    }
    let strong = |one: &'f [u8]| is_weak(one).then(|| one.get(2..).unwrap_or_default());
    let both: Vec<&[u8]> = all.flat_map(|one| [Some(one), strong(one)]).flatten().collect();
    Some(both.join(&b", "[..]))
}

// The members of a list of entity tags; a comma within quotes separates none.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut quoted = false;
    list.split(move |b| {
        quoted ^= *b == b'"';
        *b == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
    .filter(|one| !one.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fields: &[(&str, &str)]) -> Facts {
        let settings = Settings::default();
        Facts::of(&settings, fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
    }

    #[test]
    fn what_may_not_be_changed_is_seen() {
        assert!(facts(&[("Content-Range", "bytes 0-1/2")]).fixed);
        assert!(facts(&[("Cache-Control", "public, No-Transform")]).fixed);
        assert!(!facts(&[("Cache-Control", "public, x-no-transform")]).fixed);
        assert!(facts(&[("set-cookie", "a=b")]).cookies);
        assert!(facts(&[("Vary", "Origin, Accept-Encoding")]).varies);
        assert!(facts(&[("Vary", "*")]).varies);
        assert!(!facts(&[("Vary", "Accept")]).varies);
        assert!(facts(&[("content-type", "text/html")]).covered);
        assert_eq!(facts(&[]).codings, Some(vec![]));
        assert_eq!(facts(&[("Content-Encoding", "Identity")]).codings, Some(vec![]));
        assert_eq!(facts(&[("Content-Encoding", "zz")]).codings, None);
        let two = facts(&[("content-encoding", "gzip"), ("content-encoding", "br")]);
        assert_eq!(two.codings, Some(vec![Coding::Gzip, Coding::Brotli]));
        for (status, expected) in
            [(100, false), (200, true), (204, false), (205, false), (206, false), (404, true)]
        {
            assert_eq!(Facts::status(status), expected, "{status}");
        }
        assert!(!Facts::status(304) && Facts::status(500));
    }

    #[test]
    fn tags_are_compared_and_made_strong() {
        for (list, expected) in [
            ("W/\"a\"", true),
            ("\"x\", W/\"a\"", true),
            ("\"a\"", false),
            ("W/\"b\"", false),
            ("\"W/\\\", W/\"a", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(holds_weak(list.as_bytes(), b"\"a\""), expected, "{list}");
        }
        for (lines, expected) in [
            (&["W/\"a\""][..], Some("W/\"a\", \"a\"")),
            (&["\"x\",W/\"a,b\" "], Some("\"x\", W/\"a,b\", \"a,b\"")),
            (&["\"x\"", "W/\"a\", \"y\""], Some("\"x\", W/\"a\", \"a\", \"y\"")),
            (&["\"a\"", "\"b\""], None),
            (&["*"], None),
            (&[], None),
        ] {
            let made = strengthened(lines.iter().map(|line| line.as_bytes()));
            assert_eq!(made.as_deref(), expected.map(str::as_bytes), "{lines:?}");
        }
    }
}
