//! Holds the layers of `src/lib.rs` as data and fails on what they forbid: imports upwards or between siblings,
//! the runtime, sockets, files, clocks and locks where decisions must be pure, `unsafe` outside its one file.
//!
//! It reads text, not syntax: comments, string literals and test modules are blanked first. The checks are
//! themselves checked on snippets, below.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Module and layer. A module imports only from lower layers, and from itself.
const LAYERS: &[(&str, u8)] = &[
    ("main", 13),
    ("control", 12),
    ("worker", 11),
    ("admin", 11),
    ("serve", 10),
    ("proxy", 9),
    ("upstream", 8),
    ("shard", 7),
    ("observe", 6),
    ("net", 6),
    ("store", 6),
    ("snapshot", 5),
    ("config", 4),
    ("route", 3),
    ("balance", 3),
    ("health", 3),
    ("policy", 3),
    ("sticky", 3),
    ("protect", 3),
    ("transform", 3),
    ("cache", 3),
    ("fanout", 3),
    ("http", 2),
    ("tls", 2),
    ("base", 1),
];

/// What layers 1 to 5 may not name.
const IMPURE: &[&str] = &[
    "monoio",
    "tokio",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "std::fs",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "Condvar",
    "std::thread",
    "std::process",
];

/// Where one of those is right after all: the file, the word, why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("base/tick.rs", "Instant", "the only clock"),
    ("base/tick.rs", "SystemTime", "the only clock"),
    ("config/file.rs", "std::fs", "the one place where the file and its includes are read"),
];

/// Folders and files that may name monoio.
const RUNTIME: &[&str] = &["net/", "worker.rs"];

/// The one file with `unsafe`, where a file descriptor is lent.
const UNSAFE: &[&str] = &["net/sys.rs"];

const MOST_LINES: usize = 700;

// Spelt apart, so that this file does not contain what it looks for.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
];

#[test]
fn the_sources_keep_to_the_layers() {
    let mut problems = String::new();
    for (name, text) in sources(&root().join("src")) {
        for problem in problems_of(&name, &text) {
            writeln!(problems, "src/{problem}").unwrap();
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn every_module_has_a_layer_and_every_layer_is_in_the_map() {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for (name, _) in sources(&root().join("src")) {
        let module = module_of(&name);
        assert!(name == "lib.rs" || layer(module).is_some(), "src/{name} has no layer");
    }
    for (module, _) in LAYERS {
        let named = map.contains(&format!("[`{module}`]")) || *module == "main";
        assert!(named, "{module} is missing from the map in src/lib.rs");
    }
}

#[test]
fn exceptions_are_still_needed() {
    for (file, word, _) in EXCEPTIONS {
        let path = root().join("src").join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(names(&code(&text), word), "src/{file} does not need {word} any more");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    let mut problems = String::new();
    for folder in ["src", "benches", "tests", "scripts", "config"] {
        for (name, text) in sources(&root().join(folder)) {
            // What a fuzzer made up says nothing.
            if name.starts_with("corpus/") {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                for word in UNFINISHED.iter().filter(|w| line.contains(**w)) {
                    writeln!(problems, "{folder}/{name}:{}: {word}", number + 1).unwrap();
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

#[test]
fn the_top_level_holds_what_it_may() {
    let known = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "config",
    ];
    let more = ["scripts", "src", "tests", "target", "fuzz", "CHANGELOG.md"];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let fine = name.starts_with('.')
            || known.contains(&name.as_str())
            || more.contains(&name.as_str());
        assert!(fine, "{name} does not belong at the top level");
    }
}

// ---------------------------------------------------------------- the rules

/// What is wrong with one file under src/, as `file:line: what`.
fn problems_of(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut problem = |line: usize, what: String| problems.push(format!("{name}:{line}: {what}"));
    if !text.starts_with("//!") {
        problem(1, "begins without a module doc (//!)".to_owned());
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        problem(lines, format!("has {lines} lines; past {MOST_LINES} it holds two ideas"));
    }
    if name.ends_with("tests.rs") {
        return problems;
    }
    let code = code(text);
    let own = layer(module_of(name)).unwrap_or(u8::MAX);
    let mut problem = |line: usize, what: String| problems.push(format!("{name}:{line}: {what}"));
    for (number, module) in imports(&code) {
        let Some(theirs) = layer(&module) else { continue };
        if module != module_of(name) && theirs >= own {
            problem(number, format!("imports {module} (layer {theirs}) from layer {own}"));
        }
    }
    for (number, line) in code.lines().enumerate().map(|(n, l)| (n + 1, l)) {
        if own <= 5 {
            for word in IMPURE.iter().filter(|w| names(line, w)) {
                let excepted = EXCEPTIONS.iter().any(|(file, w, _)| *file == name && w == word);
                if !excepted {
                    problem(number, format!("names {word}, in a layer of pure decisions"));
                }
            }
        }
        if names(line, "monoio") && !RUNTIME.iter().any(|place| name.starts_with(place)) {
            problem(number, "names monoio outside net/".to_owned());
        }
        if names(line, "unsafe") && !UNSAFE.contains(&name) {
            problem(number, "has unsafe outside its one file".to_owned());
        }
    }
    problems
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// `http/head.rs` -> `http`, `worker.rs` -> `worker`.
fn module_of(name: &str) -> &str {
    name.split(['/', '.']).next().unwrap_or_default()
}

/// The modules of this crate that the code names, with their lines: `crate::a::b`, `crate::{a, b::c}`, `ringgate::a`.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "ringgate::"] {
        for (at, _) in code.match_indices(root) {
            let word_before =
                code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
            if word_before {
                continue;
            }
            let number = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(first_names(group).into_iter().map(|name| (number, name)));
            } else {
                found.push((number, word(rest)));
            }
        }
    }
    found
}

/// The first name of each path in a braced list that has just been opened.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut fresh) = (Vec::new(), 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && (c.is_alphanumeric() || c == '_') => {
                names.push(word(&group[at..]));
                fresh = false;
            }
            _ => {}
        }
    }
    names
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether `text` has `name` as a whole word.
fn names(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back().is_some_and(part);
        let after = text[at + name.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

/// The text with comments, literals and test modules blanked; lines stay where they are.
fn code(text: &str) -> String {
    without_tests(&without_comments_and_literals(text))
}

fn without_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        for b in &mut out[from..to.min(bytes.len())] {
            if *b != b'\n' {
                *b = b' ';
            }
        }
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest[0] {
            b'/' if rest.starts_with(b"//") => at + position(rest, b"\n").unwrap_or(rest.len()),
            b'/' if rest.starts_with(b"/*") => {
                at + position(rest, b"*/").map_or(rest.len(), |n| n + 2)
            }
            b'"' => at + quoted(rest, b'"'),
            b'r' if raw_hashes(rest).is_some() && !continues_a_word(bytes, at) => {
                let close = [b"\"".as_slice(), &vec![b'#'; raw_hashes(rest).unwrap()]].concat();
                let open = close.len() + 1;
                at + open + position(&rest[open..], &close).map_or(rest.len(), |n| n + close.len())
            }
            // A character, never a lifetime: 'a' or an escape.
            b'\'' if rest.get(2) == Some(&b'\'') || rest.get(1) == Some(&b'\\') => {
                at + quoted(rest, b'\'')
            }
            _ => {
                at += 1;
                continue;
            }
        };
        blank(at, end);
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    // `br"..."` is a literal too.
    let before = |n: usize| at.checked_sub(n).map_or(b' ', |i| bytes[i]);
    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    part(before(1)) && (before(1) != b'b' || part(before(2)))
}

fn raw_hashes(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    (rest.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn position(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

/// The length of a literal that begins with `quote`, escapes skipped.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, tests) = rest.split_at(at);
        out.push_str(before);
        let end = end_of_item(tests);
        out.extend(tests[..end].chars().filter(|c| *c == '\n'));
        rest = &tests[end..];
    }
    out + rest
}

/// Where the item ends that the attribute at the start of `code` belongs to.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder, with its name relative to it.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                if folder.ends_with("src") && !name.ends_with(".rs") {
                    continue;
                }
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

// ---------------------------------------------------------------- the checks, checked

#[track_caller]
fn check(name: &str, code: &str, expected: &[&str]) {
    let problems = problems_of(name, &format!("//! Doc.\n{code}"));
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, wanted) in problems.iter().zip(expected) {
        assert!(problem.contains(wanted), "{problem:?} does not say {wanted:?}");
    }
}

#[test]
fn finds_imports_upwards_and_between_siblings() {
    check("http/a.rs", "use crate::base::Tick;", &[]);
    check("http/a.rs", "use crate::http::b;", &[]);
    check("http/a.rs", "use crate::route::Router;", &["imports route"]);
    check("route/a.rs", "use crate::balance::pick;", &["imports balance"]);
    check("route/a.rs", "fn f() { crate::health::judge() }", &["imports health"]);
    check(
        "http/a.rs",
        "use crate::{base::Tick, net::{Conn, Buf}, worker};",
        &["imports net", "imports worker"],
    );
    check("proxy/a.rs", "use crate::{\n    base,\n    upstream,\n};", &[]);
    check("admin/a.rs", "use crate::worker::Worker;", &["imports worker"]);
    check("main.rs", "use ringgate::control;", &[]);
    check("base/a.rs", "pub(crate) fn f() { mycrate::net::x() }", &[]);
}

#[test]
fn finds_what_pure_layers_may_not_name() {
    check("route/a.rs", "use std::time::Instant;", &["names Instant"]);
    check("http/a.rs", "fn f(x: &std::sync::Mutex<u8>) {}", &["names Mutex"]);
    check("config/a.rs", "fn f() { std::fs::read(\"x\"); }", &["names std::fs"]);
    check("config/file.rs", "fn f() { std::fs::read(\"x\"); }", &[]);
    check("snapshot/a.rs", "use tokio::net::TcpStream;", &["names tokio", "names TcpStream"]);
    check("net/a.rs", "use std::sync::Mutex; use monoio::net::TcpStream;", &[]);
    check("serve/a.rs", "use monoio::io::AsyncReadRent;", &["names monoio outside net/"]);
    check("serve/a.rs", "fn f() { unsafe { g() } }", &["has unsafe"]);
    check("net/sys.rs", "fn f() { unsafe { g() } }", &[]);
}

#[test]
fn looks_at_code_only() {
    check(
        "http/a.rs",
        "// use crate::net::Conn;\n/* monoio */\nconst A: &str = \"monoio \\\" tokio\";",
        &[],
    );
    check(
        "http/a.rs",
        "const A: &str = r#\"monoio \" tokio\"#; const B: char = '\"'; // unsafe",
        &[],
    );
    check(
        "http/a.rs",
        "#[cfg(test)]\nmod tests {\n    use crate::net::Conn; fn f() { {} }\n}",
        &[],
    );
    check("http/a.rs", "#[cfg(test)]\nmod tests;\nuse crate::net::Conn;", &["a.rs:4: imports net"]);
    check(
        "http/a.rs",
        "fn f<'a>(x: &'a str) { monoio() }",
        &["names monoio, in", "names monoio outside"],
    );
    check("http/tests.rs", "use crate::net::Conn;", &[]);
}

#[test]
fn finds_files_without_a_doc_or_an_end() {
    assert!(problems_of("http/a.rs", "use std::io;")[0].contains("module doc"));
    let long = "//! Doc.\n".to_owned() + &"\n".repeat(MOST_LINES);
    assert!(problems_of("http/a.rs", &long)[0].contains("701 lines"));
}
