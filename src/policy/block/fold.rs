//! The other ways in which a server may read a path or a value: percent-decoded once, and as a path that servers see after
//! they have dropped parameters of segments, backslashes, doubled slashes and dots at the ends of names.
//!
//! What is sent to targets is the canonical path as it is; these forms are only looked at, so that a pattern is not got round
//! by writing it in another way (hazards URI-01 to URI-05). Called by `policy::block`.

/// Whether `+` is a space, as in a query that a form has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plus {
    /// It is.
    Space,
    /// It is itself.
    Kept,
}

/// Decodes `text` once into `out`, which is emptied. Returns whether that changed anything. A `%` without two digits stays.
pub fn decode(text: &[u8], plus: Plus, out: &mut Vec<u8>) -> bool {
    out.clear();
    let space = plus == Plus::Space;
    let first = text.iter().position(|b| *b == b'%' || (space && *b == b'+'));
    let Some(first) = first else { return false };
    let (before, mut rest) = text.split_at(first);
    out.extend_from_slice(before);
    let mut changed = false;
    while let Some((&first, after)) = rest.split_first() {
        let b;
        (b, rest) = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    changed = true;
                    (high << 4 | low, after)
                }
                _ => (first, rest.get(1..).unwrap_or_default()),
            },
            (b'+', _) if space => {
                changed = true;
                (b' ', after)
            }
            _ => (first, after),
        };
        out.push(b);
    }
    changed
}

/// Writes into `out`, which is emptied, what lenient servers make of a decoded path. Returns whether that is another path.
///
/// Of each segment, `;` and what follows it is dropped, then dots and spaces at its end; `\` separates as `/` does; empty
/// segments and `.` are left out, and `..` takes the one before with it.
pub fn fold(path: &[u8], out: &mut Vec<u8>) -> bool {
    out.clear();
    if !is_foldable(path) {
        return false;
    }
    let mut segments = path.split(|b| matches!(b, b'/' | b'\\')).peekable();
    let mut open = false;
    while let Some(segment) = segments.next() {
        let segment = segment.split(|b| *b == b';').next().unwrap_or_default();
        match segment {
            b"" | b"." => open = true,
            b".." => {
                out.truncate(memchr::memrchr(b'/', out).unwrap_or(0));
                open = true;
            }
            _ => {
                let end = segment.iter().rposition(|b| !matches!(b, b'.' | b' '));
                let Some(name) = end.and_then(|end| segment.get(..=end)) else { continue };
                out.push(b'/');
                out.extend_from_slice(name);
                open = segments.peek().is_some();
            }
        }
    }
    if open || out.is_empty() {
        out.push(b'/');
    }
    out != path
}

/// Whether there is anything in it that [`fold`] would change; most paths have nothing.
fn is_foldable(path: &[u8]) -> bool {
    let mut previous = 0;
    for &b in path {
        let ends_badly = matches!(previous, b'.' | b' ') && b == b'/';
        let begins_badly = previous == b'/' && matches!(b, b'/' | b'.');
        if matches!(b, b';' | b'\\') || ends_badly || begins_badly {
            return true;
        }
        previous = b;
    }
    matches!(previous, b'.' | b' ')
}

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

    #[test]
    fn decodes_once() {
        for (text, plus, expected) in [
            ("", Plus::Kept, None),
            ("/a/b", Plus::Kept, None),
            ("/%2e%2E/", Plus::Kept, Some("/../")),
            ("%252e", Plus::Kept, Some("%2e")),
            ("a+b", Plus::Kept, None),
            ("a+b%2Bc", Plus::Space, Some("a b+c")),
            ("%", Plus::Kept, None),
            ("%4", Plus::Kept, None),
            ("%zz%", Plus::Kept, None),
            ("%%41", Plus::Kept, Some("%A")),
            ("%4%41", Plus::Kept, Some("%4A")),
            ("%00%0a", Plus::Kept, Some("\0\n")),
        ] {
            let mut out = b"left over".to_vec();
            let changed = decode(text.as_bytes(), plus, &mut out);
            assert_eq!(
                changed.then(|| String::from_utf8(out).unwrap()).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn folds_what_servers_read_as_the_same() {
        for (path, expected) in [
            ("/", None),
            ("/a/b.txt", None),
            ("/a/", None),
            ("/...a", None),
            ("/admin;x=1/secret", Some("/admin/secret")),
            ("/admin;/", Some("/admin/")),
            ("/a/..;/admin", Some("/admin")),
            ("/..;/..;/admin", Some("/admin")),
            ("//admin", Some("/admin")),
            ("/a//b//", Some("/a/b/")),
            ("/a\\admin\\x", Some("/a/admin/x")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/..", Some("/")),
            ("/admin.", Some("/admin")),
            ("/admin /x", Some("/admin/x")),
            ("/admin. ./x", Some("/admin/x")),
            ("/.git/config", None),
            ("/.;/.git", Some("/.git")),
            (";", Some("/")),
        ] {
            let mut out = b"left over".to_vec();
            let changed = fold(path.as_bytes(), &mut out);
            assert_eq!(
                changed.then(|| String::from_utf8(out).unwrap()).as_deref(),
                expected,
                "{path}"
            );
        }
    }

    proptest! {
        #[test]
        fn folding_what_is_folded_changes_nothing(path in "/([ab./;\\\\ ]){0,12}") {
            let (mut once, mut twice) = (Vec::new(), Vec::new());
            if fold(path.as_bytes(), &mut once) {
                prop_assert!(!fold(&once, &mut twice), "{} {:?}", path, String::from_utf8_lossy(&once));
                prop_assert!(once.starts_with(b"/"));
            }
        }

        #[test]
        fn any_octets_can_be_read(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let (mut decoded, mut folded) = (Vec::new(), Vec::new());
            decode(&text, Plus::Space, &mut decoded);
            prop_assert!(decoded.len() <= text.len());
            fold(&text, &mut folded);
            prop_assert!(folded.len() <= text.len() + 1);
        }
    }
}
