//! One canonical path, computed once: what is routed is what is sent.
//!
//! Unreserved octets are decoded, other escapes get upper-case digits, dot segments are removed (RFC 3986 section
//! 6.2.2), doubled slashes are merged. Escapes that servers read differently (`/`, `\`, NUL, `;`, `?`, `#`) are refused
//! unless the file keeps them. The result is a fixed point: making it canonical again changes nothing.

use crate::http::Fault;

/// What is done with the parts of a path on which servers disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathPolicy {
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// Keep `%2F %5C %3B %3F %23` as they are, rather than refuse them. `%00` is always refused.
    pub keep_separators: bool,
}

impl Default for PathPolicy {
    fn default() -> PathPolicy {
        PathPolicy { merge_slashes: true, keep_separators: false }
    }
}

/// Whether the octet may stand in a path (RFC 3986 section 3.3: pchar and `/`; `%` is looked at apart).
fn is_path_octet(b: u8) -> bool {
    PATH_OCTETS.get(b as usize).copied().unwrap_or(false)
}

/// Whether the octet may stand in a query: RFC 3986 section 3.4 and, since browsers send them bare, `[]{}|^` and the
/// backtick (WHATWG URL, query percent-encode set).
pub fn is_query_octet(b: u8) -> bool {
    is_path_octet(b) || matches!(b, b'?' | b'%' | b'[' | b']' | b'{' | b'}' | b'|' | b'^' | b'`')
}

const PATH_OCTETS: [bool; 256] = {
    let mut table = [false; 256];
    let ok = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@/";
    let mut i = 0;
    while i < ok.len() {
        table[ok[i] as usize] = true;
        i += 1;
    }
    table
};

/// Makes `path` canonical. Returns false if it is canonical as it stands (then `out` is untouched), true if the canonical
/// form was appended to `out`.
///
/// # Errors
/// [`Fault::Target`] for an octet that may not stand in a path or a broken escape, [`Fault::EncodedSeparator`],
/// [`Fault::PathAboveRoot`].
pub fn canonical(path: &[u8], policy: PathPolicy, out: &mut Vec<u8>) -> Result<bool, Fault> {
    if path.first() != Some(&b'/') {
        return Err(Fault::Target);
    }
    // Almost every path is canonical: find that out in one pass, without a copy.
    let mut previous = 0;
    let mut plain = true;
    for &b in path {
        if !is_path_octet(b) && b != b'%' {
            return Err(Fault::Target);
        }
        plain &=
            b != b'%' && !(previous == b'/' && (b == b'.' || (b == b'/' && policy.merge_slashes)));
        previous = b;
    }
    if plain {
        return Ok(false);
    }
    let start = out.len();
    let mut rest = path.get(1..).unwrap_or_default();
    out.push(b'/');
    loop {
        let (segment, more) = match memchr::memchr(b'/', rest) {
            Some(at) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
            None => (rest, None),
        };
        let segment_start = out.len();
        decode_segment(segment, policy, out)?;
        let written = out.get(segment_start..).unwrap_or_default();
        match written {
            b"." => out.truncate(segment_start),
            b".." => {
                out.truncate(segment_start);
                remove_last_segment(out, start)?;
            }
            // An empty segment is a slash of its own, unless slashes are merged.
            b"" if policy.merge_slashes => {}
            _ if more.is_some() => out.push(b'/'),
            _ => {}
        }
        match more {
            Some(next) => rest = next,
            None => return Ok(out.get(start..) != Some(path)),
        }
    }
}

fn remove_last_segment(out: &mut Vec<u8>, start: usize) -> Result<(), Fault> {
    // `out` ends in the slash before the dot segment: drop it and everything after the one before.
    if out.len() <= start + 1 {
        return Err(Fault::PathAboveRoot);
    }
    out.pop();
    let kept = out.get(start..).unwrap_or_default();
    let slash = memchr::memrchr(b'/', kept).ok_or(Fault::PathAboveRoot)?;
    out.truncate(start + slash + 1);
    Ok(())
}

fn decode_segment(segment: &[u8], policy: PathPolicy, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut octets = segment.iter().copied();
    while let Some(b) = octets.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let (Some(high), Some(low)) = (octets.next().and_then(hex), octets.next().and_then(hex))
        else {
            return Err(Fault::Target);
        };
        match high << 4 | low {
            0 => return Err(Fault::EncodedSeparator),
            b'/' | b'\\' | b';' | b'?' | b'#' if !policy.keep_separators => {
                return Err(Fault::EncodedSeparator);
            }
            c if c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~') => out.push(c),
            _ => out.extend_from_slice(&[
                b'%',
                DIGITS[high as usize & 15],
                DIGITS[low as usize & 15],
            ]),
        }
    }
    Ok(())
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(path: &str, policy: PathPolicy) -> Result<String, Fault> {
        let mut out = Vec::new();
        let changed = canonical(path.as_bytes(), policy, &mut out)?;
        Ok(if changed { String::from_utf8(out).unwrap() } else { path.to_owned() })
    }

    #[test]
    fn one_canonical_form() {
        let table = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a/b"),
            ("//", "/"),
            ("//a", "/a"),
            ("/a/", "/a/"),
            ("/a//", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/../b", "/b"),
            ("/a/b/../../c", "/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/%61bc", "/abc"),
            ("/%e9", "/%E9"),
            ("/a%20b", "/a%20b"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a;b=1/c", "/a;b=1/c"),
            ("/a/..//b", "/b"),
            ("/a//../b", "/b"),
        ];
        for (input, expected) in table {
            assert_eq!(run(input, PathPolicy::default()).as_deref(), Ok(expected), "{input}");
        }
        let keep = PathPolicy { merge_slashes: false, keep_separators: true };
        for (input, expected) in [
            ("/a//b", "/a//b"),
            ("/a%2fb", "/a%2Fb"),
            ("//a/./b", "//a/b"),
            ("/a//../b", "/a/b"),
            ("/a//", "/a//"),
        ] {
            assert_eq!(run(input, keep).as_deref(), Ok(expected), "{input}");
        }
    }

    #[test]
    fn refuses_what_servers_read_differently() {
        for input in ["/%2f", "/a%5cb", "/%00", "/%3b", "/%3F", "/%23"] {
            assert_eq!(run(input, PathPolicy::default()), Err(Fault::EncodedSeparator), "{input}");
        }
        for input in ["/..", "/a/../..", "/%2e%2e/a", "//../a"] {
            assert_eq!(run(input, PathPolicy::default()), Err(Fault::PathAboveRoot), "{input}");
        }
        for input in
            ["", "a", "/%", "/%2", "/%zz", "/a b", "/\u{e9}", "/a\\b", "/a#b", "/<", "/\"", "/a|b"]
        {
            assert_eq!(run(input, PathPolicy::default()), Err(Fault::Target), "{input}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn canonical_is_a_fixed_point(path in "/([a.%/]|%2e|%2E|%41|%c3|%20|;){0,12}", merge: bool) {
            let policy = PathPolicy { merge_slashes: merge, keep_separators: true };
            if let Ok(once) = run(&path, policy) {
                prop_assert_eq!(run(&once, policy), Ok(once.clone()));
                prop_assert!(once.split('/').all(|s| s != "." && s != ".."), "{} -> {}", path, once);
            }
        }
    }
}
