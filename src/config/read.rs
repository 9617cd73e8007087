//! Reading a configuration: the file, then the files it includes, then what only the whole can tell.
//!
//! Entries of an included file come after those of the file that includes it. A file that is not TOML adds its syntax
//! errors, and the others are still read. Nothing is resolved or compiled. Called by control (run, check, reload).

use crate::config::check::{Kind, Seen, check};
use crate::config::expand::Env;
use crate::config::file::{self, DEEPEST, MOST_FILES};
use crate::config::item::{Doc, Item, Table};
use crate::config::keys;
use crate::config::problem::{Problem, Problems};
use crate::config::{
    Config, Place, acme, group, listener, policy, rule, sections, syntax, traffic, usage,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::de::DeTable;

/// Reads the file at `path` and all that it includes. `env` looks up environment variables.
///
/// # Errors
/// Every problem of every file, in their order.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let mut build = Build::new(env);
    let place = Place { file: Arc::from(path.display().to_string()), line: 0, column: 0 };
    build.open(&Included { path: path.to_path_buf(), place, key: String::new() }, 0);
    build.finish(&path.display().to_string())
}

/// Reads a configuration from `text`; places in problems name it `file`. It cannot include files.
///
/// # Errors
/// Every problem, in the order of the lines.
pub fn parse(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let mut build = Build::new(env);
    build.read(text, file, None);
    build.finish(file)
}

/// A file to read, and where it was named.
struct Included {
    path: PathBuf,
    place: Place,
    key: String,
}

/// A configuration in the making.
struct Build<'e> {
    env: Env<'e>,
    config: Config,
    seen: Seen,
    problems: Vec<Problem>,
    /// Where each file was first included, by its identity.
    files: HashMap<PathBuf, Place>,
    /// The names of files in the order they were read.
    order: HashMap<Arc<str>, usize>,
    /// Whether a file could not be read, so that the whole cannot be judged.
    partial: bool,
}

impl<'e> Build<'e> {
    fn new(env: Env<'e>) -> Build<'e> {
        Build {
            env,
            config: Config::default(),
            seen: Seen::default(),
            problems: Vec::new(),
            files: HashMap::new(),
            order: HashMap::new(),
            partial: false,
        }
    }

    fn finish(mut self, main: &str) -> Result<Config, Problems> {
        let main = Place { file: Arc::from(main), line: 0, column: 0 };
        if !self.partial {
            check(&mut self.config, &self.seen, &main, &mut self.problems);
        }
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        let file = |place: &Place| self.order.get(&place.file).copied().unwrap_or_default();
        self.problems.sort_by_key(|p| (file(&p.place), p.place.line, p.place.column));
        Err(Problems(self.problems))
    }

    /// Reads a file, which is included `depth` files deep.
    fn open(&mut self, file: &Included, depth: usize) {
        let name = file.path.display().to_string();
        match file::read(&file.path) {
            Ok(text) => self.read(&text, &name, Some((&file.path, depth))),
            Err((found, line)) => {
                self.partial = true;
                let in_file = || Place { file: Arc::from(name.as_str()), line, column: 0 };
                let place = if line > 0 { in_file() } else { file.place.clone() };
                let found = if depth > 0 { format!("{name}: {found}") } else { found };
                let expected = "a file that can be read".to_owned();
                let key = file.key.clone();
                self.problems.push(Problem { place, key, found, expected, hint: None });
            }
        }
    }

    /// Reads a text. `origin` is its path and depth, if it came from a file.
    fn read(&mut self, text: &str, name: &str, origin: Option<(&Path, usize)>) {
        let file: Arc<str> = Arc::from(name);
        self.order.insert(Arc::clone(&file), self.order.len());
        if let Some((path, _)) = origin {
            let place = Place { file: Arc::clone(&file), line: 0, column: 0 };
            self.config.files.insert(path.to_path_buf());
            self.config.folders.insert(file::folder(path).to_path_buf());
            self.files.entry(file::identity(path)).or_insert(place);
        }
        let doc = Doc::new(file, text, self.env);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            self.problems.extend(syntax_errors(&doc, &errors));
            self.partial = true;
            return;
        }
        let mut includes = Vec::new();
        {
            let root = doc.root(table.get_ref(), keys::ROOT);
            self.sections(&root);
            self.lists(&root);
            if let Some(item) = root.item("include") {
                includes = self.includes(&item, origin);
            }
        }
        self.problems.extend(doc.into_problems());
        let depth = origin.map_or(0, |(_, depth)| depth);
        for file in includes {
            self.open(&file, depth + 1);
        }
    }

    /// The tables that there are once.
    fn sections(&mut self, root: &Table<'_>) {
        let Build { config, seen, .. } = self;
        let mut section = |key: &str, keys: keys::Keys| {
            let table = root.item(key)?.table(keys)?;
            seen.settings(&table);
            Some(table)
        };
        if let Some(table) = section("server", keys::SERVER) {
            sections::server(&table, &mut config.server);
        }
        if let Some(table) = section("timeouts", keys::TIMEOUTS) {
            sections::timeouts(&table, &mut config.timeouts);
        }
        if let Some(table) = section("limits", keys::LIMITS) {
            sections::limits(&table, &mut config.limits);
        }
        if let Some(table) = section("admin", keys::ADMIN) {
            sections::admin(&table, &mut config.admin);
        }
        if let Some(table) = section("acme", keys::ACME) {
            acme::acme(&table, &mut config.acme);
        }
        if let Some(table) = section("usage", keys::USAGE) {
            usage::usage(&table, &mut config.usage);
        }
        if let Some(table) = section("log", keys::LOG) {
            sections::log(&table, &mut config.log);
        }
        if let Some(table) = section("cache", traffic::cache::GLOBAL) {
            traffic::cache::global(&table, &mut config.cache);
        }
    }

    /// The tables that there are many of.
    fn lists(&mut self, root: &Table<'_>) {
        let Build { config, seen, .. } = self;
        for item in named(root, "listener") {
            if !seen.admits(Kind::Listener, config.listeners.len(), &item) {
                break;
            }
            config.listeners.extend(listener::listener(&item, seen));
        }
        for item in named(root, "rule") {
            if !seen.admits(Kind::Rule, config.rules.len(), &item) {
                break;
            }
            config.rules.extend(rule::rule(&item, seen));
        }
        let groups = root.item("group");
        let entries = groups.map(|item| item.entries("tables [group.NAME]")).unwrap_or_default();
        for (name, item) in entries {
            if !seen.admits(Kind::Group, config.groups.len(), &item) {
                break;
            }
            if syntax::name(name).is_err() {
                item.problem(format!("the name {name:?}"), syntax::NAME, None);
            }
            seen.group(name, &item);
            config.groups.extend(group::group(name, &item, seen));
        }
        let policies = root.item("policy");
        let entries = policies.map(|item| item.entries("tables [policy.NAME]")).unwrap_or_default();
        for (name, item) in entries {
            if !seen.admits(Kind::Policy, config.policies.len(), &item) {
                break;
            }
            config.policies.extend(policy::policy(name, &item, seen));
        }
        for item in root.item("expect").map(|item| item.array("[[expect]]")).unwrap_or_default() {
            config.expects.extend(rule::expect(&item, seen));
        }
    }

    /// The files that `include` names, without those that were read before.
    fn includes(&mut self, item: &Item<'_>, origin: Option<(&Path, usize)>) -> Vec<Included> {
        let patterns = if item.is_array() { item.array("") } else { vec![item.clone()] };
        let Some((from, depth)) = origin else {
            item.problem("an include", "none where the text is not a file", None);
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in patterns {
            let Some(pattern) = item.text("a path such as \"conf.d/*.toml\"") else { continue };
            if depth >= DEEPEST {
                item.problem("one more include", format!("at most {DEEPEST} files deep"), None);
                continue;
            }
            self.config.folders.insert(file::folder_of_include(from, &pattern));
            let paths = match file::included(from, &pattern) {
                Ok(paths) => paths,
                Err(error) => {
                    item.problem(error, "a folder that can be read", None);
                    continue;
                }
            };
            for path in paths {
                if self.files.len() >= MOST_FILES {
                    item.problem("one more file", format!("at most {MOST_FILES} files"), None);
                    break;
                }
                if let Some(before) = self.files.get(&file::identity(&path)) {
                    let found = format!("{}, which was read already ({before})", path.display());
                    item.problem(found, "each file once, and no circle of includes", None);
                    continue;
                }
                self.files.insert(file::identity(&path), item.place());
                found.push(Included { path, place: item.place(), key: item.path.clone() });
            }
        }
        found
    }
}

/// The entries of `[[KEY]]`, called after their names where they have one.
fn named<'a>(root: &Table<'a>, key: &str) -> Vec<Item<'a>> {
    let Some(item) = root.item(key) else { return Vec::new() };
    let mut items = item.array(&format!("a list of tables, each under [[{key}]]"));
    for item in &mut items {
        if let Some(name) = item.peek("name").filter(|name| syntax::name(name).is_ok()) {
            item.path = format!("{key}.{name}");
        }
    }
    items
}

/// The first syntax error of each line: one mistake often makes several.
fn syntax_errors(doc: &Doc<'_>, errors: &[toml::de::Error]) -> Vec<Problem> {
    let problem = |error: &toml::de::Error| {
        let message = error.message();
        let (found, expected) = message.split_once(", expected ").unwrap_or((message, ""));
        let expected = if expected.is_empty() { "valid TOML" } else { expected };
        Problem {
            place: doc.place(error.span().map_or(0, |span| span.start)),
            key: String::new(),
            found: format!("a TOML error ({found})"),
            expected: expected.to_owned(),
            hint: None,
        }
    };
    let mut problems: Vec<Problem> = errors.iter().map(problem).collect();
    problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
    problems.dedup_by_key(|problem| problem.place.line);
    problems
}
