//! `block` of a policy: its keys, and what may be written there. Called by the policies' reader.

use crate::config::check::Seen;
use crate::config::item::{Item, Table};
use crate::config::keys::Keys;
use crate::config::policy::ip::files;
use crate::config::problem::Wrong;
use crate::config::syntax;
use crate::policy::block::pattern::{Case, KIND, Pattern};
use crate::policy::block::{List, Settings};

/// Its tables.
pub(super) const TABLES: &[(&str, Keys)] = &[("policy.*.block", KEYS)];

const KEYS: Keys = &[
    "path",
    "query",
    "cookie",
    "headers",
    "path_file",
    "query_file",
    "cookie_file",
    "headers_file",
    "ignore_case",
];

/// The most names of fields.
const MOST_FIELDS: usize = 64;

/// `block = { ... }`
pub(super) fn read(item: &Item<'_>, _: &mut Seen) -> Option<Settings> {
    let table = item.table(KEYS)?;
    let ignored = table.item("ignore_case").and_then(|item| item.boolean()).unwrap_or(true);
    let (any, fields) = fields(&table);
    let files_of = |key: &str| table.item(key).map(|item| files(&item)).unwrap_or_default();
    let settings = Settings {
        path: list(&table, "path", "path_file"),
        query: list(&table, "query", "query_file"),
        cookie: list(&table, "cookie", "cookie_file"),
        any_field: List { patterns: any, files: files_of("headers_file") },
        fields,
        case: if ignored { Case::Ignored } else { Case::Kept },
    };
    if table.given().all(|(key, _)| key == "ignore_case") {
        let expected = "one of path, query, cookie, headers, or a file of patterns for one of them";
        table.problem(item.path.clone(), "no pattern", expected);
    }
    Some(settings)
}

fn list(table: &Table<'_>, key: &str, file: &str) -> List {
    List {
        patterns: table.item(key).map(|item| patterns(&item)).unwrap_or_default(),
        files: table.item(file).map(|item| files(&item)).unwrap_or_default(),
    }
}

fn patterns(item: &Item<'_>) -> Vec<Pattern> {
    let parse = |text: &str| {
        Pattern::parse(text).map_err(|reason| match reason.as_str() {
            "" => Wrong::default(),
            _ => Wrong { expected: String::new(), hint: Some(reason) },
        })
    };
    item.one_or_more(KIND).iter().filter_map(|item| item.parsed(KIND, parse)).collect()
}

/// Patterns of `"*"`, and those of each name.
fn fields(table: &Table<'_>) -> (Vec<Pattern>, Vec<(String, Vec<Pattern>)>) {
    let (mut any, mut named) = (Vec::new(), Vec::new());
    let Some(item) = table.item("headers") else { return (any, named) };
    for (name, item) in item.entries("a table of field names, or \"*\", and patterns") {
        let patterns = patterns(&item);
        if name == "*" {
            any.extend(patterns);
            continue;
        }
        if !syntax::is_token(name) {
            let expected = "a field name that is a token (RFC 9110 section 5.6.2), or \"*\"";
            item.problem(format!("the field name {name:?}"), expected, None);
        }
        named.push((name.to_ascii_lowercase(), patterns));
    }
    if named.len() > MOST_FIELDS {
        item.problem(format!("{} names", named.len()), format!("at most {MOST_FIELDS}"), None);
    }
    (any, named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Settings as Kind;
    use std::path::PathBuf;

    const REST: &str = "[[listener]]\nname = 'web'\nbind = ['127.0.0.1:0']\npolicy = 'b'\n";

    fn parse(block: &str) -> Result<Settings, Vec<String>> {
        let text = format!("[policy.b]\nblock = {{ {block} }}\n{REST}");
        match crate::config::parse(&text, "conf/a.toml", &|_| None) {
            Ok(config) => match &config.policies[0].settings {
                Kind::Block(settings) => Ok((**settings).clone()),
                other => panic!("{other:?}"),
            },
            Err(problems) => Err(problems.0.iter().map(ToString::to_string).collect()),
        }
    }

    #[track_caller]
    fn check(block: &str, expected: &[&str]) {
        let found = parse(block).err().unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "{block}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}\n--- without\n{expected}");
        }
    }

    #[test]
    fn reads_what_a_policy_says() {
        let settings = parse(
            "path = ['/.git', 'regex:\\.bak$'], query_file = 'q.txt', headers_file = ['/h.txt'], \
             headers = { User-Agent = 'sqlmap', '*' = ['$${jndi:'] }, ignore_case = false",
        );
        let plain = |text: &str| Pattern::Plain(text.to_owned());
        let path = vec![plain("/.git"), Pattern::Regex("\\.bak$".to_owned())];
        let expected = Settings {
            path: List { patterns: path, files: Vec::new() },
            query: List { patterns: Vec::new(), files: vec![PathBuf::from("conf/q.txt")] },
            any_field: List {
                patterns: vec![plain("${jndi:")],
                files: vec![PathBuf::from("/h.txt")],
            },
            fields: vec![("user-agent".to_owned(), vec![plain("sqlmap")])],
            case: Case::Kept,
            ..Settings::default()
        };
        assert_eq!(settings, Ok(expected));
        assert_eq!(parse("path = 'x'").unwrap().case, Case::Ignored);
    }

    #[test]
    fn wrong_values_are_named() {
        check("", &["found no pattern"]);
        check("ignore_case = false", &["found no pattern"]);
        check("path = []", &["found an empty list"]);
        check("path = ''", &["expected a text of 1 to 2048 octets"]);
        check("path = ['/a', 'regex:(']", &["policy.b.block.path[1]: found \"regex:(\""]);
        check("query = 'regex:x?'", &["help: it matches everything"]);
        check("headers = { 'a b' = 'x' }", &["a field name that is a token"]);
        check("headers = 'x'", &["a table of field names"]);
        check("path_file = ''", &["the path of a file"]);
        check("paths = 'x'", &["unknown key \"paths\""]);
    }
}
