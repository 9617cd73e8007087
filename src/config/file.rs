//! The only file of this folder that touches the disk: reading a file, and finding the files of an include.
//!
//! Size, number and depth of files are bounded here. What the files say is read elsewhere. Called by `read`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 64 << 20;
/// How deep includes may nest.
pub(super) const DEEPEST: usize = 8;
/// How many files a configuration may consist of.
pub(super) const MOST_FILES: usize = 1000;

/// The text of a file.
///
/// # Errors
/// What was found instead of a readable text, and the line it was found at (0 for none).
pub(super) fn read(path: &Path) -> Result<String, (String, u32)> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| (error.to_string(), 0))?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| (error.to_string(), 0))?;
    if bytes.len() as u64 > LARGEST {
        return Err((format!("more than {LARGEST} bytes"), 0));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + good.filter(|byte| **byte == b'\n').count();
        ("octets that are not UTF-8".to_owned(), u32::try_from(line).unwrap_or(u32::MAX))
    })
}

/// The files that `pattern` names, sorted. It is relative to the folder of `from`; its last component may hold `*`,
/// which matches no leading dot.
///
/// # Errors
/// What was found instead of a readable folder.
pub(super) fn included(from: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = from.parent().unwrap_or(Path::new("")).join(pattern);
    let Some(last) = path.file_name().and_then(|name| name.to_str()).filter(|n| n.contains('*'))
    else {
        return Ok(vec![path]);
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let open = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = Vec::new();
    for entry in open.read_dir().map_err(|error| format!("{}: {error}", open.display()))? {
        let entry = entry.map_err(|error| format!("{}: {error}", open.display()))?;
        let name = entry.file_name();
        let fits = name.to_str().is_some_and(|name| !name.starts_with('.') && matches(last, name));
        if fits && !entry.path().is_dir() {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new(""));
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// The folder in which `pattern` is looked for, whether anything is found there or not.
pub(super) fn folder_of_include(from: &Path, pattern: &str) -> PathBuf {
    folder(&folder(from).join(pattern)).to_path_buf()
}

/// One name for one file, however it was reached.
pub(super) fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    for part in middle.split('*') {
        let Some((_, after)) = name.split_once(part) else { return false };
        name = after;
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_stars() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("*.toml", ".toml", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("**", "x", true),
            ("a*b*b", "ab", false),
            ("a.toml", "a.toml", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn finds_included_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.toml", "a.toml", "c.txt", ".hidden.toml"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("d.toml")).unwrap();
        let main = folder.path().join("main.toml");
        let names: Vec<_> = included(&main, "*.toml").unwrap();
        assert_eq!(names, [folder.path().join("a.toml"), folder.path().join("b.toml")]);
        assert_eq!(included(&main, "x/y.toml").unwrap(), [folder.path().join("x/y.toml")]);
        assert!(included(&main, "missing/*.toml").is_err());
    }
}
