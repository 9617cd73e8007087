//! `json` of a rule's `request` and `response`: members by dotted paths. Called by `change`.

use super::change::{pairs, texts};
use crate::config::item::Item;
use crate::config::keys::Keys;
use crate::config::problem::Wrong;
use crate::config::template;
use crate::transform::Scope;
use crate::transform::json::{JsonChanges, Value, segments};

/// Its keys.
pub(super) const JSON: Keys = &["keep", "remove", "rename", "set"];

/// The most names of one path.
const DEEPEST: usize = 16;

const PATH: &str = "a path such as \"user.name\", whose names are not empty";

/// `json = { keep, remove, rename, set }`
pub(super) fn json(item: &Item<'_>, scope: Scope) -> Option<JsonChanges> {
    let table = item.table(JSON)?;
    if table.given().next().is_none() {
        table.problem(item.path.clone(), "nothing to change", &JSON.join(", "));
    }
    let list = |key: &str| table.item(key).map(|item| texts(&item, PATH, path));
    let rename = table
        .item("rename")
        .map(|item| pairs(&item, PATH, one_path, |_, item| item.parsed(PATH, one_path)));
    let set = table.item("set").map(|item| pairs(&item, PATH, one_path, |_, v| value(v, scope)));
    Some(JsonChanges {
        keep: list("keep"),
        remove: list("remove").unwrap_or_default(),
        rename: rename.unwrap_or_default(),
        set: set.unwrap_or_default(),
    })
}

// A path, with `*` for any member.
fn path(text: &str) -> Result<Vec<String>, Wrong> {
    let path = segments(text);
    if path.len() > DEEPEST {
        return Wrong::expected(format!("at most {DEEPEST} names"));
    }
    if path.iter().any(String::is_empty) { Wrong::plain() } else { Ok(path) }
}

// A path to one member.
fn one_path(text: &str) -> Result<Vec<String>, Wrong> {
    let path = path(text)?;
    match path.iter().any(|name| name == "*") {
        true => Wrong::expected("a path to one member, without *"),
        false => Ok(path),
    }
}

fn value(item: &Item<'_>, scope: Scope) -> Option<Value> {
    const KIND: &str = "a string, a whole number, true or false";
    if item.is_integer() {
        let number = item.signed(i64::MIN..=i64::MAX)?;
        return Some(Value::Literal(number.to_string()));
    }
    if item.is_boolean() {
        return Some(Value::Literal(item.boolean()?.to_string()));
    }
    template::template(item, KIND, scope, |_| Ok(())).map(Value::Made)
}
