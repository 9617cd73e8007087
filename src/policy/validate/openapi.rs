//! An OpenAPI 3.1 file as the source of what requests must be: the operations with their parameters and bodies.
//!
//! Read once, in JSON or YAML; references stay inside the file. What cannot be judged is an error when the file is read, not a
//! request that passes. Responses, security and callbacks are not looked at. Called by the policy.

use crate::http::RequestView;
use crate::policy::validate::content::{Content, Range};
use crate::policy::validate::field::decoded;
use crate::policy::validate::parameter::{Parameter, Source};
use crate::policy::validate::schema::Schema;
use crate::policy::validate::{OpenApi, Refused, json};
use crate::policy::{Files, Wrong};
use jsonschema::Registry;
use serde_json::Value;
use std::borrow::Cow;

/// The operations of a file.
#[derive(Debug)]
pub struct Api {
    // Before every path; without a slash at its end.
    base: String,
    // Those with fewer templated segments come first.
    paths: Vec<Path>,
    // Where all requests are held against one of them.
    only: Option<(usize, usize)>,
    pass_unknown: bool,
}

#[derive(Debug)]
struct Path {
    segments: Vec<Segment>,
    operations: Vec<Operation>,
}

#[derive(Debug)]
enum Segment {
    Literal(Vec<u8>),
    // One parameter, with what stands before and behind it.
    Named { before: Vec<u8>, name: String, behind: Vec<u8> },
}

#[derive(Debug)]
struct Operation {
    method: Vec<u8>,
    id: Option<String>,
    parameters: Vec<Parameter>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    required: bool,
    // The most precise first; a schema where the type is JSON.
    types: Vec<(Range, Option<Schema>)>,
}

/// Values of the parameters in the path, decoded.
pub(crate) type Named<'p> = Vec<(&'p str, Cow<'p, [u8]>)>;

// What a document's own references lead to, at most, one after the other.
const MOST_HOPS: usize = 16;
const URI: &str = "urn:ringgate:openapi";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Reads and compiles the file.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn load(settings: &OpenApi, files: Files<'_>) -> Result<Api, Wrong> {
    let wrong = |found: String| Wrong { file: Some(settings.file.clone()), found };
    let octets = files(&settings.file).ok_or_else(|| wrong("the file was not read".to_owned()))?;
    let text = std::str::from_utf8(&octets).map_err(|_| wrong("no UTF-8".to_owned()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = if text.trim_start().starts_with('{') {
        json::parse(text.as_bytes(), json::MOST_LEVELS)
    } else {
        serde_saphyr::from_str::<Value>(text).map_err(|error| error.to_string())
    };
    let document = document.map_err(|why| wrong(format!("neither JSON nor YAML: {why}")))?;
    read(settings, &document).map_err(wrong)
}

fn read(settings: &OpenApi, document: &Value) -> Result<Api, String> {
    let version = document.get("openapi").and_then(Value::as_str).unwrap_or("none");
    if version != "3.1" && !version.starts_with("3.1.") {
        return Err(format!("openapi: {version:?} found, a description of version 3.1 expected"));
    }
    let dialect = document.get("jsonSchemaDialect").and_then(Value::as_str);
    let known = ["https://spec.openapis.org/oas/3.1/", "https://json-schema.org/draft/2020-12/"];
    if dialect.is_some_and(|dialect| !known.iter().any(|known| dialect.starts_with(known))) {
        return Err(format!("jsonSchemaDialect: {dialect:?} found, that of OpenAPI 3.1 expected"));
    }
    let registry = Registry::new().retriever(Offline).add(URI, document.clone());
    let registry = registry.and_then(|builder| builder.prepare()).map_err(|e| e.to_string())?;
    let source = Document { document, registry: &registry };
    let mut paths = Vec::new();
    for (template, _) in object(document, "paths") {
        let item = source.follow(&format!("/paths/{}", escaped(template)))?;
        paths.push(source.path(template, &item)?);
    }
    paths.sort_by_key(|path| path.segments.iter().filter(|s| s.is_named()).count());
    let base = match &settings.base {
        Some(base) => base.clone(),
        None => first_server(document)?,
    };
    let base = base.trim_end_matches('/').to_owned();
    let only = match &settings.operation {
        None => None,
        Some(wanted) => {
            let all = paths.iter().enumerate().flat_map(|(at, path)| {
                path.operations.iter().enumerate().map(move |(nth, one)| ((at, nth), one))
            });
            let mut found = all.filter(|(_, one)| one.id.as_ref() == Some(wanted));
            let (place, _) = found
                .next()
                .ok_or_else(|| format!("no operation has the operationId {wanted:?}"))?;
            Some(place)
        }
    };
    Ok(Api { base, paths, only, pass_unknown: settings.pass_unknown })
}

impl Api {
    /// Whether the body of this request must be here to be judged.
    pub(super) fn judges_body(&self, view: &RequestView<'_>, content: &Content) -> bool {
        let Some((operation, _)) = self.find(view) else { return false };
        let found = operation.body.as_ref().and_then(|body| body.schema_of(content));
        found.is_some_and(|schema| schema.is_some()) && content.is_json()
    }

    /// Judges a request. `body` is its body where that had to be here; `present` says whether there is one.
    pub(super) fn judge(
        &self,
        view: &RequestView<'_>,
        content: &Content,
        present: bool,
        body: Option<&[u8]>,
        depth: usize,
    ) -> Result<(), Refused> {
        let Some((operation, named)) = self.find(view) else {
            if self.pass_unknown && self.only.is_none() {
                return Ok(());
            }
            let why = "The description of the service has no such method and path.";
            return Err(Refused::invalid(why.to_owned()));
        };
        for parameter in &operation.parameters {
            parameter.judge(view, &named)?;
        }
        let wanted = match &operation.body {
            None if present => {
                let why = "The description of the service has no body here.";
                return Err(Refused::invalid(why.to_owned()));
            }
            None => return Ok(()),
            Some(wanted) => wanted,
        };
        if !present {
            if wanted.required {
                return Err(Refused::invalid("The request needs a body.".to_owned()));
            }
            return Ok(());
        }
        match wanted.schema_of(content) {
            None => Err(content.refused()),
            Some(Some(schema)) if content.is_json() => {
                content.plain()?;
                schema.judge_text(body.ok_or_else(Refused::undecided)?, depth)
            }
            Some(_) => Ok(()),
        }
    }

    // The operation of a request, with the values in its path.
    fn find<'p>(&'p self, view: &RequestView<'p>) -> Option<(&'p Operation, Named<'p>)> {
        let path = view.path.strip_prefix(self.base.as_bytes())?;
        let path = path.strip_prefix(b"/")?;
        if let Some((at, nth)) = self.only {
            let one = self.paths.get(at)?;
            let operation = one.operations.get(nth).filter(|o| o.method == view.method)?;
            return Some((operation, one.matches(path)?));
        }
        let mut found = self.paths.iter().filter_map(|one| Some((one, one.matches(path)?)));
        // The first path that matches is meant, whatever its methods (OpenAPI 3.1 section 4.8.8.2).
        let (one, named) = found.next()?;
        let operation = one.operations.iter().find(|o| o.method == view.method)?;
        Some((operation, named))
    }
}

impl Path {
    fn matches<'p>(&'p self, path: &'p [u8]) -> Option<Named<'p>> {
        let mut named = Vec::new();
        let mut parts = path.split(|b| *b == b'/');
        for segment in &self.segments {
            let part = decoded(parts.next()?, false);
            match segment {
                Segment::Literal(literal) => {
                    if *literal != *part {
                        return None;
                    }
                }
                Segment::Named { before, name, behind } => {
                    let inner = part.strip_prefix(before.as_slice())?;
                    let inner = inner.strip_suffix(behind.as_slice()).filter(|v| !v.is_empty())?;
                    named.push((name.as_str(), Cow::Owned(inner.to_vec())));
                }
            }
        }
        parts.next().is_none().then_some(named)
    }
}

impl Segment {
    fn is_named(&self) -> bool {
        matches!(self, Segment::Named { .. })
    }
}

impl Body {
    // The schema of the most precise range that takes the content; `None` where none does.
    fn schema_of(&self, content: &Content) -> Option<Option<&Schema>> {
        let mut types = self.types.iter();
        let found = types.find(|(range, _)| range.takes(content.essence()));
        found.map(|(_, schema)| schema.as_ref())
    }
}

/// A document, and how its parts are found.
pub(crate) struct Document<'d> {
    document: &'d Value,
    registry: &'d Registry<'d>,
}

impl<'d> Document<'d> {
    /// The value at a pointer, behind its references; the pointer of it.
    pub(crate) fn follow(&self, pointer: &str) -> Result<At<'d>, String> {
        let mut pointer = pointer.to_owned();
        for _ in 0..MOST_HOPS {
            let value = self.document.pointer(&pointer);
            let value = value.ok_or_else(|| format!("{pointer}: there is nothing"))?;
            match value.get("$ref").and_then(Value::as_str) {
                None => return Ok(At { pointer, value }),
                Some(reference) => {
                    let inside = reference.strip_prefix('#').filter(|p| p.starts_with('/'));
                    let inside = inside.ok_or_else(|| {
                        format!("{pointer}: the reference {reference:?} leads out of the file")
                    })?;
                    let plain = decoded(inside.as_bytes(), false);
                    pointer = String::from_utf8_lossy(&plain).into_owned();
                }
            }
        }
        Err(format!("{pointer}: references that lead in a circle"))
    }

    /// The schema at a pointer, compiled.
    pub(crate) fn schema(&self, pointer: &str) -> Result<Schema, String> {
        Schema::inside(self.registry, URI, pointer)
    }

    fn path(&self, template: &str, item: &At<'d>) -> Result<Path, String> {
        let segments = segments(template)?;
        let shared = self.parameters(item)?;
        let mut operations = Vec::new();
        for method in METHODS {
            if item.value.get(method).is_none() {
                continue;
            }
            let at = item.child(method);
            let at = self.follow(&at)?;
            let mut parameters = self.parameters(&at)?;
            for one in &shared {
                let same = |other: &Source| (other.place, &other.name) == (one.place, &one.name);
                if !parameters.iter().any(same) {
                    parameters.push(one.clone());
                }
            }
            let parameters = parameters.iter().map(|source| Parameter::build(self, source));
            let parameters = parameters.collect::<Result<Vec<Parameter>, String>>()?;
            for segment in &segments {
                if let Segment::Named { name, .. } = segment
                    && !parameters.iter().any(|one| one.is_in_path(name))
                {
                    return Err(format!("{}: no parameter of the path is {name:?}", at.pointer));
                }
            }
            operations.push(Operation {
                method: method.to_ascii_uppercase().into_bytes(),
                id: at.value.get("operationId").and_then(Value::as_str).map(str::to_owned),
                parameters,
                body: self.body(&at)?,
            });
        }
        Ok(Path { segments, operations })
    }

    fn parameters(&self, of: &At<'d>) -> Result<Vec<Source>, String> {
        let count = of.value.get("parameters").and_then(Value::as_array).map_or(0, Vec::len);
        let all = (0..count).map(|nth| {
            let at = self.follow(&of.child(&format!("parameters/{nth}")))?;
            Source::read(&at)
        });
        all.filter_map(Result::transpose).collect()
    }

    fn body(&self, of: &At<'d>) -> Result<Option<Body>, String> {
        if of.value.get("requestBody").is_none() {
            return Ok(None);
        }
        let at = self.follow(&of.child("requestBody"))?;
        let required = at.value.get("required").and_then(Value::as_bool).unwrap_or(false);
        let mut types = Vec::new();
        for (text, media) in object(at.value, "content") {
            let range = Range::parse(text)
                .ok_or_else(|| format!("{}: {text:?} is no media type", at.pointer))?;
            let pointer = at.child(&format!("content/{}/schema", escaped(text)));
            let schema = media.get("schema").map(|_| self.schema(&pointer)).transpose()?;
            types.push((range, schema));
        }
        types.sort_by_key(|(range, _)| std::cmp::Reverse(range.precision()));
        Ok(Some(Body { required, types }))
    }
}

/// A value of a document, and where it stands.
pub(crate) struct At<'d> {
    pub(crate) pointer: String,
    pub(crate) value: &'d Value,
}

impl At<'_> {
    /// The pointer of something inside; `path` is escaped already.
    pub(crate) fn child(&self, path: &str) -> String {
        format!("{}/{path}", self.pointer)
    }
}

struct Offline;

impl jsonschema::Retrieve for Offline {
    fn retrieve(
        &self,
        uri: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} leads out of the file").into())
    }
}

/// A name as a part of a JSON pointer (RFC 6901 section 3).
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn object<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn segments(template: &str) -> Result<Vec<Segment>, String> {
    let path = template.strip_prefix('/');
    let path = path.ok_or_else(|| format!("paths: {template:?} does not begin with a slash"))?;
    path.split('/')
        .map(|part| {
            let Some((before, rest)) = part.split_once('{') else {
                return Ok(Segment::Literal(decoded(part.as_bytes(), false).into_owned()));
            };
            let inner = rest.split_once('}').filter(|(_, behind)| !behind.contains(['{', '}']));
            let (name, behind) = inner.ok_or_else(|| {
                format!(
                    "paths: {template:?} has a segment with more than one parameter, or half of one"
                )
            })?;
            Ok(Segment::Named {
                before: before.as_bytes().to_vec(),
                name: name.to_owned(),
                behind: behind.as_bytes().to_vec(),
            })
        })
        .collect()
}

// The path of the first server's URL, which may be relative.
fn first_server(document: &Value) -> Result<String, String> {
    let url = document.pointer("/servers/0/url").and_then(Value::as_str).unwrap_or("/");
    if url.contains('{') {
        return Err(format!(
            "servers: {url:?} has variables; say what stands before the paths with `base`"
        ));
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => url,
    };
    let path = path.split(['?', '#']).next().unwrap_or("/");
    Ok(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}
