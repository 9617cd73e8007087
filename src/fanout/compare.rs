//! What two answers to one request differ in: status, chosen fields, body.
//!
//! Bodies that are both JSON are compared by what they mean: the order of members and the writing of numbers and strings say
//! nothing, what `json_ignore` names may differ or be missing. Any other bodies are compared octet by octet. What an
//! answer holds that is for nobody else's eyes is never part of what is found. Called by `proxy::mirror`.

use crate::fanout::json::{self, Json, push_step};
use std::borrow::Cow;
use std::time::Duration;

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareSettings {
    /// Whether statuses are.
    pub status: bool,
    /// Fields (lower-case) that are.
    pub headers: Vec<String>,
    /// Whether bodies are.
    pub body: bool,
    /// What of JSON may differ.
    pub ignore: Vec<Pattern>,
    /// Octets that a body may have to be compared.
    pub limit: u64,
    /// Differences that are kept to be looked at.
    pub samples: usize,
    /// Whether those show a piece of what differs.
    pub excerpts: bool,
    /// Whether it is measured how long either side takes.
    pub latency: bool,
}

impl Default for CompareSettings {
    fn default() -> CompareSettings {
        CompareSettings {
            status: true,
            headers: vec!["content-type".to_owned()],
            body: true,
            ignore: Vec::new(),
            limit: 256 << 10,
            samples: 50,
            excerpts: false,
            latency: true,
        }
    }
}

/// A pointer (RFC 6901) whose step `*` is any name or index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(pub json::Pointer);

impl Pattern {
    fn is(&self, at: &[Cow<'_, str>]) -> bool {
        let steps = &self.0.0;
        steps.len() == at.len()
            && steps.iter().zip(at).all(|(step, here)| step == "*" || step == here)
    }
}

/// One of the two answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Its status.
    pub status: u16,
    /// The values of the fields that are compared, in the order of the settings; several lines are one list.
    pub fields: Vec<Vec<u8>>,
    /// Whether it calls itself JSON.
    pub json: bool,
    /// Its content coding, where it has one.
    pub coding: Option<Box<str>>,
    /// Its body.
    pub body: Vec<u8>,
    /// Why the body is not here whole.
    pub gap: Option<Reason>,
    /// From when the request was ready to be sent until the head was here.
    pub latency: Duration,
}

/// Why two answers were not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There was no whole answer to the copy.
    MirrorFailed,
    /// There was no whole real answer.
    RealFailed,
    /// A body is larger than what is compared.
    TooLarge,
    /// A body has a content coding that is not known, or is no content of it.
    Coded,
    /// The rule gives clients another body than the target's.
    Changed,
    /// The copy was answered before the real one had ended, and its time was over.
    Late,
    /// What is there of bodies for all comparisons together is in use.
    NoRoom,
}

impl Reason {
    /// All of them, in the order of their definition.
    pub const ALL: [Reason; 7] = [
        Reason::MirrorFailed,
        Reason::RealFailed,
        Reason::TooLarge,
        Reason::Coded,
        Reason::Changed,
        Reason::Late,
        Reason::NoRoom,
    ];

    /// As metrics and pages have it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::MirrorFailed => "mirror_failed",
            Reason::RealFailed => "real_failed",
            Reason::TooLarge => "too_large",
            Reason::Coded => "coded",
            Reason::Changed => "changed",
            Reason::Late => "late",
            Reason::NoRoom => "no_room",
        }
    }
}

/// What a difference lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The status.
    Status,
    /// A field.
    Header,
    /// The body.
    Body,
}

impl Kind {
    /// All of them, in the order of their definition.
    pub const ALL: [Kind; 3] = [Kind::Status, Kind::Header, Kind::Body];

    /// As metrics and pages have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Status => "status",
            Kind::Header => "header",
            Kind::Body => "body",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it lies in.
    pub kind: Kind,
    /// The field's name, the pointer to the value in JSON, the position in any other body; empty for the status.
    pub at: String,
    /// A piece of the real answer, and of the other; `None` where there is nothing, or it is not shown.
    pub excerpts: [Option<String>; 2],
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Up to [`MOST_DIFFERENCES`]; none where there are none.
    pub differences: Vec<Difference>,
    /// Why not all was compared.
    pub skipped: Option<Reason>,
}

/// Differences of two answers that are looked for.
pub const MOST_DIFFERENCES: usize = 20;
// Characters of a piece that is shown.
const EXCERPT: usize = 64;
// Octets of a pointer that is shown.
const LONGEST_POINTER: usize = 256;

/// Compares the answer that the client got with that to the copy.
pub fn compare(settings: &CompareSettings, real: &Side, other: &Side) -> Outcome {
    let gap = real.gap.or(other.gap);
    // Of an answer that there is not, the head says nothing either.
    if let Some(Reason::MirrorFailed | Reason::RealFailed | Reason::Late) = gap {
        return Outcome { differences: Vec::new(), skipped: gap };
    }
    let mut found = Found { settings, differences: Vec::new() };
    if settings.status && real.status != other.status {
        let shown = [real, other].map(|side| Some(side.status.to_string()));
        found.differences.push(Difference {
            kind: Kind::Status,
            at: String::new(),
            excerpts: shown,
        });
    }
    for (name, (a, b)) in settings.headers.iter().zip(real.fields.iter().zip(&other.fields)) {
        if a != b {
            found.field(name, a, b);
        }
    }
    let coded = real.coding.is_some() || other.coding.is_some();
    let same = real.body == other.body && (real.body.is_empty() || real.coding == other.coding);
    let skipped = match gap {
        _ if !settings.body => None,
        Some(reason) => Some(reason),
        None if same => None,
        None if coded => Some(Reason::Coded),
        None => {
            found.body(real, other);
            None
        }
    };
    Outcome { differences: found.differences, skipped }
}

struct Found<'s> {
    settings: &'s CompareSettings,
    differences: Vec<Difference>,
}

impl Found<'_> {
    fn is_full(&self) -> bool {
        self.differences.len() >= MOST_DIFFERENCES
    }

    fn field(&mut self, name: &str, real: &[u8], other: &[u8]) {
        let shown = |value: &[u8]| match value {
            [] => None,
            _ if is_private(name) => Some("(not shown)".to_owned()),
            value => Some(excerpt(&String::from_utf8_lossy(value))),
        };
        let excerpts = [shown(real), shown(other)];
        self.differences.push(Difference { kind: Kind::Header, at: name.to_owned(), excerpts });
    }

    fn body(&mut self, real: &Side, other: &Side) {
        if real.body == other.body {
            return;
        }
        let values = (real.json && other.json)
            .then(|| Some((json::parse(&real.body).ok()?, json::parse(&other.body).ok()?)));
        match values.flatten() {
            Some((a, b)) => self.values(&mut Vec::new(), &a, &b),
            None => self.octets(&real.body, &other.body),
        }
    }

    fn octets(&mut self, real: &[u8], other: &[u8]) {
        let same = real.iter().zip(other).take_while(|(a, b)| a == b).count();
        let piece = |body: &[u8]| {
            let rest = body.get(same..).unwrap_or_default();
            let rest = rest.get(..EXCERPT).unwrap_or(rest);
            let shown = self.settings.excerpts && !rest.is_empty();
            shown.then(|| excerpt(&String::from_utf8_lossy(rest)))
        };
        let excerpts = [piece(real), piece(other)];
        self.differences.push(Difference {
            kind: Kind::Body,
            at: format!("octet {same}"),
            excerpts,
        });
    }

    fn values<'j>(&mut self, at: &mut Vec<Cow<'j, str>>, a: &Json<'j>, b: &Json<'j>) {
        if self.is_full() || self.is_ignored(at) {
            return;
        }
        match (a, b) {
            (Json::Object(a), Json::Object(b)) => self.objects(at, a, b),
            (Json::Array(a), Json::Array(b)) => {
                for index in 0..a.len().max(b.len()) {
                    if self.is_full() {
                        return;
                    }
                    at.push(Cow::Owned(index.to_string()));
                    self.maybe(at, a.get(index), b.get(index));
                    at.pop();
                }
            }
            (Json::Number(a), Json::Number(b)) if json::same_number(a, b) => {}
            (a, b) if a == b => {}
            (a, b) => self.note(at, Some(a), Some(b)),
        }
    }

    // Members by their names, in whatever order. Those of one name are compared in theirs.
    fn objects<'j>(&mut self, at: &mut Vec<Cow<'j, str>>, a: &[Member<'j>], b: &[Member<'j>]) {
        let (a, b) = (by_name(a), by_name(b));
        let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
        while !self.is_full() {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let left = if order.is_le() { a.next() } else { None };
            let right = if order.is_ge() { b.next() } else { None };
            let Some((name, _)) = left.or(right) else { return };
            at.push(Cow::clone(name));
            self.maybe(at, left.map(|(_, value)| *value), right.map(|(_, value)| *value));
            at.pop();
        }
    }

    fn maybe<'j>(
        &mut self,
        at: &mut Vec<Cow<'j, str>>,
        a: Option<&Json<'j>>,
        b: Option<&Json<'j>>,
    ) {
        match (a, b) {
            (Some(a), Some(b)) => self.values(at, a, b),
            (None, None) => {}
            _ if self.is_ignored(at) => {}
            (a, b) => self.note(at, a, b),
        }
    }

    fn is_ignored(&self, at: &[Cow<'_, str>]) -> bool {
        self.settings.ignore.iter().any(|pattern| pattern.is(at))
    }

    fn note(&mut self, at: &[Cow<'_, str>], a: Option<&Json<'_>>, b: Option<&Json<'_>>) {
        let mut pointer = String::new();
        for step in at {
            push_step(&mut pointer, step);
        }
        let shown = |value: Option<&Json<'_>>| value.filter(|_| self.settings.excerpts).map(piece);
        let excerpts = [shown(a), shown(b)];
        let at = cut(&pointer, LONGEST_POINTER);
        self.differences.push(Difference { kind: Kind::Body, at, excerpts });
    }
}

type Member<'j> = (Cow<'j, str>, Json<'j>);

// A stable order: members of one name keep theirs.
fn by_name<'m, 'j>(members: &'m [Member<'j>]) -> Vec<(&'m Cow<'j, str>, &'m Json<'j>)> {
    let mut sorted: Vec<_> = members.iter().map(|(name, value)| (name, value)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    sorted
}

fn piece(value: &Json<'_>) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(text) => excerpt(text),
        Json::Text(text) => format!("{:?}", excerpt(text)),
        Json::Array(items) => format!("an array of {}", items.len()),
        Json::Object(members) => format!("an object of {}", members.len()),
    }
}

fn excerpt(text: &str) -> String {
    cut(text, EXCERPT)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether a field's value is for nobody else: credentials and what stands for them.
pub fn is_private(name: &str) -> bool {
    const PARTS: [&str; 7] = ["cookie", "auth", "token", "secret", "session", "password", "key"];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
