//! What the patterns of a rule have matched of a request: `#{capture.1}`, `#{capture.name}` of the path, `#{host.1}` of the host.
//!
//! Routing finds a rule without knowing where its wildcards lie; here its patterns are tried again, by templates that ask for it.
//! The path's captures are those of `path_regex`, or the wildcards of `path` where there is none. Called by `template`.

use regex::bytes::{Regex, RegexBuilder};

/// The patterns of a rule that catch something.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    path: Vec<Regex>,
    host: Vec<Regex>,
}

impl Captures {
    /// Of a rule with these patterns; what is no pattern catches nothing (the file's check has refused it).
    pub fn new(host: &[String], path: &[String], path_regex: &[String]) -> Captures {
        let globs = |globs: &[String]| globs.iter().filter_map(|glob| of_glob(glob)).collect();
        let path = match path_regex {
            [] => globs(path),
            patterns => patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect(),
        };
        Captures { path, host: globs(host) }
    }

    /// Whether any pattern of the path has this group.
    pub fn has_path(&self, group: &str) -> bool {
        self.path.iter().any(|pattern| has_group(pattern, group))
    }

    /// Whether any pattern of the host has this group.
    pub fn has_host(&self, group: &str) -> bool {
        self.host.iter().any(|pattern| has_group(pattern, group))
    }

    /// What the path has in this group: a number, or a name.
    pub fn of_path<'h>(&self, path: &'h [u8], group: &str) -> Option<&'h [u8]> {
        caught(&self.path, path, group)
    }

    /// What the host has in this group.
    pub fn of_host<'h>(&self, host: &'h [u8], group: &str) -> Option<&'h [u8]> {
        caught(&self.host, host, group)
    }
}

/// Whether a pattern has this group: a number, or a name.
pub fn has_group(pattern: &Regex, group: &str) -> bool {
    match group.parse::<usize>() {
        Ok(index) => index < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|name| name == group),
    }
}

// Of the first pattern that matches.
fn caught<'h>(patterns: &[Regex], text: &'h [u8], group: &str) -> Option<&'h [u8]> {
    let caught = patterns.iter().find_map(|pattern| pattern.captures(text))?;
    let group = match group.parse() {
        Ok(index) => caught.get(index),
        Err(_) => caught.name(group),
    };
    group.map(|group| group.as_bytes())
}

/// A pattern with `*` and `?`, each of which is a group.
fn of_glob(glob: &str) -> Option<Regex> {
    let mut pattern = "^".to_owned();
    for c in glob.chars() {
        match c {
            '*' => pattern.push_str("(.*)"),
            '?' => pattern.push_str("(.)"),
            c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    pattern.push('$');
    let mut builder = RegexBuilder::new(&pattern);
    builder.dot_matches_new_line(true).unicode(false).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_say_what_they_have_matched() {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let globs =
            Captures::new(&list(&["a.test", "*.a.test", "x?.*"]), &list(&["/v1/*/b/*"]), &[]);
        for (path, group, expected) in [
            ("/v1/x/b/y/z", "1", Some("x")),
            ("/v1/x/b/y/z", "2", Some("y/z")),
            ("/v1/x/b/y/z", "0", Some("/v1/x/b/y/z")),
            ("/v1/x/b/y/z", "3", None),
            ("/v1/x/b/y/z", "name", None),
            ("/v2", "1", None),
        ] {
            let got = globs.of_path(path.as_bytes(), group).map(|g| str::from_utf8(g).unwrap());
            assert_eq!(got, expected, "{path} {group}");
        }
        assert_eq!(globs.of_host(b"b.c.a.test", "1"), Some(&b"b.c"[..]));
        assert_eq!(globs.of_host(b"a.test", "1"), None);
        assert_eq!(globs.of_host(b"xy.z", "2"), Some(&b"z"[..]));
        let regex =
            Captures::new(&[], &list(&["/*"]), &list(&["^/no", "^/(?<kind>[a-z]+)/([0-9]+)"]));
        assert_eq!(regex.of_path(b"/user/12/x", "kind"), Some(&b"user"[..]));
        assert_eq!(regex.of_path(b"/user/12/x", "2"), Some(&b"12"[..]));
        assert_eq!(regex.of_path(b"/12", "1"), None);
    }
}
