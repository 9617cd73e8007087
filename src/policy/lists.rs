//! Lists in files of their own: the lines that count, with their numbers, and what is wrong with one.
//!
//! What an entry means is not known here. Called by the policies that name such files: `ip`, `block`.

use crate::policy::Wrong;
use std::path::{Path, PathBuf};

/// The lines that hold something, without surrounding white space, with their numbers from 1. A byte order mark and the
/// ends of lines of other systems are no part of them.
pub fn lines(octets: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let octets = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets);
    let lines = octets.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty())
}

/// What is wrong with a line of a file.
pub fn wrong(file: &Path, line: usize, found: &str) -> Wrong {
    let mut place = file.as_os_str().to_owned();
    place.push(format!(":{line}"));
    Wrong { file: Some(PathBuf::from(place)), found: found.to_owned() }
}

/// A file that control has not read, which is nobody's fault but ours.
pub fn unread(file: &Path) -> Wrong {
    Wrong { file: Some(file.to_owned()), found: "nothing: it was not read".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers() {
        let got: Vec<_> = lines(b"\xef\xbb\xbfa\r\n\r\n \t b c \n\nd").collect();
        assert_eq!(got, [(1, b"a".as_slice()), (3, b"b c"), (5, b"d")]);
        assert_eq!(lines(b"").count(), 0);
        let wrong = wrong(Path::new("x/list.txt"), 3, "no");
        assert_eq!(wrong.file, Some(PathBuf::from("x/list.txt:3")));
    }
}
