//! Whether a request is what the service behind expects: fields, query, and a body that JSON Schema describes.
//!
//! The rules stand in the configuration, or in an OpenAPI file ([`openapi`]). A body is read whole only where a schema judges it
//! or its size is not announced; any other streams on. What is refused is told with the place and the rule, never with the
//! value. It judges, it does not change: nothing is filled in or converted.

mod content;
mod field;
mod json;
mod openapi;
mod parameter;
mod schema;

pub use content::Range;
pub use field::{Field, Kind};

use crate::base::Tick;
use crate::http::{Fault, RequestView};
use crate::policy::{Files, Findings, Reply, Subject, Verdict, Wrong};
use content::Content;
use openapi::Api;
use schema::Schema;
use std::borrow::Cow;
use std::path::PathBuf;

/// Whether it asks who the sender is.
pub const IDENTIFIES: bool = false;

/// As written.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Fields of the head.
    pub headers: Vec<Field>,
    /// Parameters of the query.
    pub query: Vec<Field>,
    /// The body.
    pub body: Option<Body>,
    /// A description of the service.
    pub openapi: Option<OpenApi>,
    /// The most octets of a body that a schema judges.
    pub limit: u64,
    /// The most levels of arrays and objects in it.
    pub depth: usize,
}

/// What a body must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    /// Whether there must be one.
    pub required: bool,
    /// The most octets of any body; `None` for no limit of its own.
    pub max: Option<u64>,
    /// Its media types.
    pub types: Vec<Range>,
    /// Whether any other type passes unjudged.
    pub pass_unknown: bool,
    /// What JSON must be.
    pub schema: Option<Source>,
}

/// Where a schema stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the configuration.
    Text(String),
    /// In a file.
    File(PathBuf),
}

/// `openapi` of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenApi {
    /// The description, in JSON or YAML.
    pub file: PathBuf,
    /// The one operation that requests are held against; left out, the one of their method and path.
    pub operation: Option<String>,
    /// What stands before the paths of the description; left out, the path of its first server.
    pub base: Option<String>,
    /// Whether what is no operation of it passes unjudged.
    pub pass_unknown: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            headers: Vec::new(),
            query: Vec::new(),
            body: None,
            openapi: None,
            limit: 1 << 20,
            depth: 64,
        }
    }
}

impl Settings {
    /// The files that it names.
    pub fn files(&self) -> Vec<PathBuf> {
        let schema = self.body.as_ref().and_then(|body| match &body.schema {
            Some(Source::File(path)) => Some(path.clone()),
            _ => None,
        });
        schema.into_iter().chain(self.openapi.as_ref().map(|api| api.file.clone())).collect()
    }
}

/// As run.
#[derive(Debug)]
pub struct Policy {
    headers: Vec<field::Rule>,
    query: Vec<field::Rule>,
    body: Option<(Body, Option<Schema>)>,
    api: Option<Api>,
    limit: u64,
    depth: usize,
}

/// What one core remembers: nothing.
#[derive(Debug)]
pub struct Core {}

/// Why a request is refused: the reason, and where what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    fault: Fault,
    detail: String,
}

impl Refused {
    fn invalid(detail: String) -> Refused {
        Refused { fault: Fault::Invalid, detail }
    }

    // What only a mistake of ours can lead to; nobody passes for it.
    fn undecided() -> Refused {
        Refused { fault: Fault::PolicyUnavailable, detail: "The body is not here.".to_owned() }
    }
}

impl Policy {
    /// Compiles it.
    ///
    /// # Errors
    /// A pattern or schema that is none, and what cannot be judged by an OpenAPI file.
    pub fn build(
        settings: &Settings,
        files: Files<'_>,
        _: Option<&Policy>,
    ) -> Result<Policy, Wrong> {
        let rules = |fields: &[Field]| -> Result<Vec<field::Rule>, Wrong> {
            fields.iter().map(field::Rule::build).collect()
        };
        let body = match &settings.body {
            None => None,
            Some(body) => {
                let schema =
                    body.schema.as_ref().map(|source| schema(source, files)).transpose()?;
                Some((body.clone(), schema))
            }
        };
        Ok(Policy {
            headers: rules(&settings.headers)?,
            query: rules(&settings.query)?,
            body,
            api: settings.openapi.as_ref().map(|api| openapi::load(api, files)).transpose()?,
            limit: settings.limit,
            depth: settings.depth,
        })
    }

    /// Decides.
    pub fn check(
        &self,
        _: &Core,
        subject: &Subject<'_>,
        findings: &mut Findings,
        _: Option<Reply>,
    ) -> Verdict {
        // A browser sends it without any of what the request itself will have.
        if subject.preflight {
            return Verdict::Pass;
        }
        match self.judge(subject) {
            Ok(()) => Verdict::Pass,
            Err(refused) => {
                findings.detail.push_str(&printable(&refused.detail));
                Verdict::Refuse(refused.fault)
            }
        }
    }

    /// The most octets of a body that it must see: where a schema judges it, or where nothing else tells its size.
    pub fn body_limit(&self, subject: &Subject<'_>) -> Option<u64> {
        if subject.preflight || !has_body(&subject.view) {
            return None;
        }
        let content = Content::of(subject).ok()?;
        let own = self.body.as_ref().and_then(|(body, schema)| {
            let judged = schema.is_some() && content.is_json();
            let unannounced = body.max.filter(|_| length(&subject.view).is_none());
            if judged {
                return Some(self.limit.min(body.max.unwrap_or(u64::MAX)));
            }
            unannounced
        });
        let described =
            self.api.as_ref().is_some_and(|api| api.judges_body(&subject.view, &content));
        let described = described.then_some(self.limit);
        match (own, described) {
            (Some(own), Some(described)) => Some(own.min(described)),
            (own, described) => own.or(described),
        }
    }

    fn judge(&self, subject: &Subject<'_>) -> Result<(), Refused> {
        let view = &subject.view;
        for rule in &self.headers {
            rule.check(field::Place::Header, view.fields.all(&rule.name).map(Cow::Borrowed))?;
        }
        for rule in &self.query {
            rule.check(field::Place::Query, field::query_values(view, &rule.name))?;
        }
        let content = Content::of(subject)?;
        // Another policy may have asked for more of it than this one judges.
        if let (Some(limit), Some(body)) = (self.body_limit(subject), subject.body)
            && body.len() as u64 > limit
        {
            let detail = format!("The body is larger than {limit} octets.");
            return Err(Refused { fault: Fault::BodyTooLarge, detail });
        }
        let body = subject.body.filter(|body| !body.is_empty());
        let present = body.is_some() || (subject.body.is_none() && has_body(view));
        if let Some((wanted, schema)) = &self.body {
            self.judge_body(wanted, schema.as_ref(), &content, present, subject)?;
        }
        match &self.api {
            Some(api) => api.judge(view, &content, present, subject.body, self.depth),
            None => Ok(()),
        }
    }

    fn judge_body(
        &self,
        wanted: &Body,
        schema: Option<&Schema>,
        content: &Content,
        present: bool,
        subject: &Subject<'_>,
    ) -> Result<(), Refused> {
        if !present {
            if wanted.required {
                return Err(Refused::invalid("The request needs a body.".to_owned()));
            }
            return Ok(());
        }
        let octets = subject.body.map(|body| body.len() as u64).or(length(&subject.view));
        if let Some(max) = wanted.max
            && octets.is_none_or(|octets| octets > max)
        {
            let detail = format!("The body is larger than {max} octets.");
            return Err(Refused { fault: Fault::BodyTooLarge, detail });
        }
        let json = content.is_json();
        let listed = if wanted.types.is_empty() {
            schema.is_none() || json
        } else {
            wanted.types.iter().any(|range| range.takes(content.essence()))
        };
        if !listed {
            if wanted.pass_unknown {
                return Ok(());
            }
            return Err(content.refused());
        }
        match schema {
            Some(schema) if json => {
                content.plain()?;
                let body = subject.body.ok_or_else(Refused::undecided)?;
                schema.judge_text(body, self.depth)
            }
            _ => Ok(()),
        }
    }
}

impl Core {
    /// What a core begins with.
    pub fn bind(_: &Policy, _: Option<&Core>) -> Core {
        Core {}
    }

    /// Lets go of what is over.
    pub fn sweep(&self, _: &Policy, _: Tick) {}
}

fn schema(source: &Source, files: Files<'_>) -> Result<Schema, Wrong> {
    let (text, file) = match source {
        Source::Text(text) => (text.as_bytes().to_vec(), None),
        Source::File(path) => {
            let octets = files(path).ok_or_else(|| Wrong {
                file: Some(path.clone()),
                found: "the file was not read".to_owned(),
            })?;
            (octets.to_vec(), Some(path.clone()))
        }
    };
    let wrong = |found: String| Wrong { file: file.clone(), found };
    let value = json::parse(&text, json::MOST_LEVELS)
        .map_err(|why| wrong(format!("the JSON Schema is not JSON: {why}")))?;
    Schema::build(&value).map_err(wrong)
}

// Whether a body comes with the head, as it is framed.
fn has_body(view: &RequestView<'_>) -> bool {
    view.fields.first("transfer-encoding").is_some() || length(view).is_some_and(|n| n > 0)
}

// The announced length.
fn length(view: &RequestView<'_>) -> Option<u64> {
    if view.fields.first("transfer-encoding").is_some() {
        return None;
    }
    let text = view.fields.first("content-length").unwrap_or(b"0");
    std::str::from_utf8(text).ok()?.parse().ok()
}

// What a client may be told and a log may hold: short, without control characters.
fn printable(text: &str) -> String {
    const MOST: usize = 400;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut out: String = text.chars().take(MOST).map(clean).collect();
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests;
