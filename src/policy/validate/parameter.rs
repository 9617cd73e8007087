//! A parameter of an OpenAPI operation: where its text stands, how text becomes a value, and the schema of that.
//!
//! The styles form (query, cookie), simple (path, header), spaceDelimited, pipeDelimited and deepObject are read; others are an
//! error of the file. A text becomes a number or a boolean only where the schema speaks of one. Called by `openapi`.

use crate::http::RequestView;
use crate::policy::validate::Refused;
use crate::policy::validate::field::{decoded, query_values};
use crate::policy::validate::json;
use crate::policy::validate::openapi::{At, Document, Named, escaped};
use crate::policy::validate::schema::Schema;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Header,
    Cookie,
}

/// A parameter as the file has it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) place: Place,
    pub(crate) name: String,
    pointer: String,
    value: Value,
}

/// A parameter as run.
#[derive(Debug)]
pub(crate) struct Parameter {
    place: Place,
    name: String,
    required: bool,
    blank: bool,
    shape: Shape,
    schema: Option<Schema>,
}

// How its text becomes a value.
#[derive(Debug)]
enum Shape {
    One(Kinds),
    // Items, apart by this octet; `None`: one parameter each.
    Many(Option<u8>, Kinds),
    // `name[key]=value`, with what the known keys are.
    Deep(Vec<(String, Kinds)>),
    // Names and values in turn, apart by commas.
    Pairs(Vec<(String, Kinds)>),
    // The text is JSON.
    Json,
}

// What scalars a schema speaks of.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    text: bool,
    number: bool,
    boolean: bool,
    null: bool,
    array: bool,
    object: bool,
}

// How deep a schema is looked into for what it speaks of, and values a request may have for one parameter.
const MOST_LEVELS: usize = 16;
const MOST_ITEMS: usize = 1000;

impl Source {
    /// Reads one; `None` where OpenAPI says that it is ignored.
    pub(crate) fn read(at: &At<'_>) -> Result<Option<Source>, String> {
        let text = |key: &str| at.value.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| format!("{}: no name", at.pointer))?.to_owned();
        let place = match text("in") {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            Some("cookie") => Place::Cookie,
            other => return Err(format!("{}: in: {other:?}", at.pointer)),
        };
        let ignored = ["accept", "content-type", "authorization"];
        if place == Place::Header && ignored.iter().any(|one| name.eq_ignore_ascii_case(one)) {
            return Ok(None);
        }
        let (pointer, value) = (at.pointer.clone(), at.value.clone());
        Ok(Some(Source { place, name, pointer, value }))
    }
}

impl Parameter {
    /// Compiles it.
    pub(crate) fn build(document: &Document<'_>, source: &Source) -> Result<Parameter, String> {
        let value = &source.value;
        let flag = |key: &str| value.get(key).and_then(Value::as_bool);
        let content = value.get("content").and_then(Value::as_object).and_then(|c| c.iter().next());
        let (shape, schema) = if let Some((kind, media)) = content {
            if kind != "application/json" {
                return Err(format!("{}: content of {kind:?} is not judged", source.pointer));
            }
            let pointer = format!("{}/content/{}/schema", source.pointer, escaped(kind));
            let schema = media.get("schema").map(|_| document.schema(&pointer)).transpose()?;
            (Shape::Json, schema)
        } else if value.get("schema").is_some() {
            let pointer = format!("{}/schema", source.pointer);
            (shape(document, source, &pointer)?, Some(document.schema(&pointer)?))
        } else {
            (Shape::One(Kinds { text: true, ..Kinds::default() }), None)
        };
        Ok(Parameter {
            place: source.place,
            name: source.name.clone(),
            required: source.place == Place::Path || flag("required").unwrap_or(false),
            blank: flag("allowEmptyValue").unwrap_or(false),
            shape,
            schema,
        })
    }

    /// Whether it is this one of the path.
    pub(crate) fn is_in_path(&self, name: &str) -> bool {
        self.place == Place::Path && self.name == name
    }

    /// Judges what a request has of it.
    pub(crate) fn judge(&self, view: &RequestView<'_>, path: &Named<'_>) -> Result<(), Refused> {
        let place = match self.place {
            Place::Path => "path",
            Place::Query => "query",
            Place::Header => "header",
            Place::Cookie => "cookie",
        };
        let refused =
            |why: &str| Refused::invalid(format!("The {place} parameter {:?} {why}.", self.name));
        if let Shape::Deep(kinds) = &self.shape {
            let object = deep(view, &self.name, kinds).map_err(refused)?;
            if object.is_empty() {
                return if self.required { Err(refused("is missing")) } else { Ok(()) };
            }
            return self.hold(&[Value::Object(object)]).map_err(|why| refused(&why));
        }
        let texts: Vec<Cow<'_, [u8]>> = self.texts(view, path).take(MOST_ITEMS + 1).collect();
        if texts.len() > MOST_ITEMS {
            return Err(refused("comes too often"));
        }
        if texts.is_empty() {
            return if self.required { Err(refused("is missing")) } else { Ok(()) };
        }
        if self.required && !self.blank && texts.iter().any(|text| text.trim_ascii().is_empty()) {
            return Err(refused("is blank"));
        }
        if self.blank && texts.iter().all(|text| text.is_empty()) {
            return Ok(());
        }
        let texts: Result<Vec<&str>, _> = texts.iter().map(|t| std::str::from_utf8(t)).collect();
        let texts = texts.map_err(|_| refused("is no UTF-8"))?;
        let candidates = self.values(&texts).map_err(refused)?;
        self.hold(&candidates).map_err(|why| refused(&why))
    }

    fn texts<'v>(
        &'v self,
        view: &'v RequestView<'v>,
        path: &'v Named<'v>,
    ) -> Box<dyn Iterator<Item = Cow<'v, [u8]>> + 'v> {
        let name = self.name.as_str();
        match self.place {
            Place::Path => Box::new(path.iter().filter(move |p| p.0 == name).map(|p| p.1.clone())),
            Place::Query => Box::new(query_values(view, name)),
            Place::Header => Box::new(view.fields.all(name).map(Cow::Borrowed)),
            Place::Cookie => Box::new(
                view.fields
                    .cookies()
                    .filter(move |(key, _)| *key == name.as_bytes())
                    .map(|(_, value)| decoded(value, false)),
            ),
        }
    }

    // What the texts may mean, the likeliest first.
    fn values(&self, texts: &[&str]) -> Result<Vec<Value>, &'static str> {
        let split = |apart: Option<u8>| -> Vec<&str> {
            match apart {
                None => texts.to_vec(),
                Some(apart) => texts
                    .iter()
                    .flat_map(|text| text.split(char::from(apart)))
                    .map(str::trim)
                    .collect(),
            }
        };
        // A list in a header may come in several lines (RFC 9110 section 5.3).
        let several = match self.shape {
            Shape::Many(apart, _) => apart.is_none() || self.place == Place::Header,
            _ => false,
        };
        if texts.len() > 1 && !several {
            return Err("comes several times");
        }
        let first = texts.first().copied().unwrap_or_default();
        match &self.shape {
            Shape::One(kinds) => Ok(kinds.values(first)),
            Shape::Many(apart, _) => self.list(&split(*apart)),
            Shape::Pairs(kinds) => {
                let mut object = Map::new();
                let parts: Vec<&str> = first.split(',').collect();
                for pair in parts.chunks(2) {
                    let [key, value] = pair else { return Err("has a name without a value") };
                    put(&mut object, key, value, kinds)?;
                }
                Ok(vec![Value::Object(object)])
            }
            Shape::Json => {
                let value = json::parse(first.as_bytes(), MOST_LEVELS);
                Ok(vec![value.map_err(|_| "is no JSON")?])
            }
            Shape::Deep(_) => Ok(Vec::new()),
        }
    }

    fn list(&self, texts: &[&str]) -> Result<Vec<Value>, &'static str> {
        let Shape::Many(_, kinds) = &self.shape else { return Ok(Vec::new()) };
        if texts.len() > MOST_ITEMS {
            return Err("has too many items");
        }
        Ok(vec![Value::Array(texts.iter().map(|text| kinds.value(text)).collect())])
    }

    fn hold(&self, candidates: &[Value]) -> Result<(), String> {
        let Some(schema) = &self.schema else { return Ok(()) };
        if candidates.iter().any(|value| schema.takes(value)) {
            return Ok(());
        }
        let why = candidates.first().and_then(|value| schema.explain(value));
        Err(format!("is not as described: {}", why.unwrap_or_default()))
    }
}

impl Kinds {
    const ANY: Kinds =
        Kinds { text: true, number: true, boolean: true, null: true, array: false, object: false };

    fn values(self, text: &str) -> Vec<Value> {
        let typed = self.typed(text);
        let plain = Value::String(text.to_owned());
        match typed {
            Some(typed) if self.text => vec![typed, plain],
            Some(typed) => vec![typed],
            None => vec![plain],
        }
    }

    fn value(self, text: &str) -> Value {
        self.typed(text).unwrap_or_else(|| Value::String(text.to_owned()))
    }

    fn typed(self, text: &str) -> Option<Value> {
        match serde_json::from_str::<Value>(text).ok()? {
            value @ Value::Number(_) if self.number => Some(value),
            value @ Value::Bool(_) if self.boolean => Some(value),
            Value::Null if self.null => Some(Value::Null),
            _ => None,
        }
    }

    fn join(self, other: Kinds) -> Kinds {
        Kinds {
            text: self.text | other.text,
            number: self.number | other.number,
            boolean: self.boolean | other.boolean,
            null: self.null | other.null,
            array: self.array | other.array,
            object: self.object | other.object,
        }
    }

    fn is_none(self) -> bool {
        let Kinds { text, number, boolean, null, array, object } = self;
        !(text | number | boolean | null | array | object)
    }

    fn of_word(word: &str) -> Kinds {
        let none = Kinds::default();
        match word {
            "string" => Kinds { text: true, ..none },
            "integer" | "number" => Kinds { number: true, ..none },
            "boolean" => Kinds { boolean: true, ..none },
            "null" => Kinds { null: true, ..none },
            "array" => Kinds { array: true, ..none },
            "object" => Kinds { object: true, ..none },
            _ => none,
        }
    }

    fn of_value(value: &Value) -> Kinds {
        Kinds::of_word(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        })
    }
}

// What the schema at a pointer speaks of; nothing in particular is anything.
fn kinds(document: &Document<'_>, pointer: &str) -> Result<Kinds, String> {
    let kinds = spoken_of(document, pointer, MOST_LEVELS)?;
    Ok(if kinds.is_none() { Kinds::ANY } else { kinds })
}

fn spoken_of(document: &Document<'_>, pointer: &str, levels: usize) -> Result<Kinds, String> {
    let at = document.follow(pointer)?;
    let mut found = Kinds::default();
    match at.value.get("type") {
        Some(Value::String(word)) => found = Kinds::of_word(word),
        Some(Value::Array(words)) => {
            let words = words.iter().filter_map(Value::as_str);
            found = words.map(Kinds::of_word).fold(found, Kinds::join);
        }
        _ => {
            let one_of = at.value.get("enum").and_then(Value::as_array).into_iter().flatten();
            let values = one_of.chain(at.value.get("const"));
            found = values.map(Kinds::of_value).fold(found, Kinds::join);
        }
    }
    let Some(levels) = levels.checked_sub(1).filter(|_| found.is_none()) else { return Ok(found) };
    for key in ["allOf", "anyOf", "oneOf"] {
        let count = at.value.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        for nth in 0..count {
            found = found.join(spoken_of(document, &at.child(&format!("{key}/{nth}")), levels)?);
        }
    }
    Ok(found)
}

fn shape(document: &Document<'_>, source: &Source, pointer: &str) -> Result<Shape, String> {
    let form = matches!(source.place, Place::Query | Place::Cookie);
    let usual = if form { "form" } else { "simple" };
    let style = source.value.get("style").and_then(Value::as_str).unwrap_or(usual);
    let explode = source.value.get("explode").and_then(Value::as_bool).unwrap_or(style == "form");
    let spoken = kinds(document, pointer)?;
    let at = document.follow(pointer)?;
    let cannot = || {
        format!("{}: style {style:?} with explode = {explode} is not judged here", source.pointer)
    };
    if style == "deepObject" && source.place == Place::Query {
        return Ok(Shape::Deep(members(document, &at)?));
    }
    if spoken.array {
        let items = at.child("items");
        let items =
            if at.value.get("items").is_some() { kinds(document, &items)? } else { Kinds::ANY };
        return match (style, explode) {
            ("form", true) if source.place == Place::Query => Ok(Shape::Many(None, items)),
            ("form", false) | ("simple", _) => Ok(Shape::Many(Some(b','), items)),
            ("spaceDelimited", false) => Ok(Shape::Many(Some(b' '), items)),
            ("pipeDelimited", false) => Ok(Shape::Many(Some(b'|'), items)),
            _ => Err(cannot()),
        };
    }
    if spoken.object {
        return match (style, explode) {
            ("form" | "simple", false) => Ok(Shape::Pairs(members(document, &at)?)),
            _ => Err(cannot()),
        };
    }
    if style == usual { Ok(Shape::One(spoken)) } else { Err(cannot()) }
}

// The known members of an object, and what they are.
fn members(document: &Document<'_>, at: &At<'_>) -> Result<Vec<(String, Kinds)>, String> {
    let known = at.value.get("properties").and_then(Value::as_object).into_iter().flatten();
    known
        .map(|(name, _)| {
            let pointer = at.child(&format!("properties/{}", escaped(name)));
            Ok((name.clone(), kinds(document, &pointer)?))
        })
        .collect()
}

// `name[key]=value` for every key.
fn deep(
    view: &RequestView<'_>,
    name: &str,
    kinds: &[(String, Kinds)],
) -> Result<Map<String, Value>, &'static str> {
    let mut object = Map::new();
    for (key, value) in view.query_pairs() {
        let key = decoded(key, true);
        let inner = key.strip_prefix(name.as_bytes()).and_then(|k| k.strip_prefix(b"["));
        let Some(inner) = inner.and_then(|inner| inner.strip_suffix(b"]")) else { continue };
        let (inner, value) = (std::str::from_utf8(inner), decoded(value, true));
        let (Ok(inner), Ok(value)) = (inner, std::str::from_utf8(&value)) else {
            return Err("is no UTF-8");
        };
        put(&mut object, inner, value, kinds)?;
    }
    Ok(object)
}

fn put(
    object: &mut Map<String, Value>,
    key: &str,
    value: &str,
    kinds: &[(String, Kinds)],
) -> Result<(), &'static str> {
    let known = kinds.iter().find(|(name, _)| name == key);
    let value = known.map_or(Kinds::ANY, |(_, kinds)| *kinds).value(value);
    if object.len() >= MOST_ITEMS {
        return Err("has too many members");
    }
    match object.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err("has a member twice"),
    }
}
