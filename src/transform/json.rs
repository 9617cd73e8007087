//! JSON to JSON: members kept, removed, renamed and set; everything else stays octet for octet, numbers of any length too.
//!
//! A text is read to a tree of slices of it, strictly: what readers read differently (a name twice, RFC 8259 section 4) or what
//! costs too much (nesting) is refused. Called by `proxy::change` for bodies, by `template` for their parts.

use crate::transform::escape::Place;
use crate::transform::template::{Facts, Template};
use std::borrow::Cow;
use std::collections::HashSet;

/// Levels of lists and objects that are read.
pub const MOST_LEVELS: usize = 64;

/// A value, whose leaves are as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// A string with its quotes, a number, `true`, `false` or `null`.
    Leaf(Cow<'a, str>),
    /// A list.
    List(Vec<Node<'a>>),
    /// An object.
    Object(Vec<Member<'a>>),
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    // As it is meant.
    name: Cow<'a, str>,
    // With its quotes, as it was written.
    written: Cow<'a, str>,
    value: Node<'a>,
}

/// Why a text is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is no JSON.
    Malformed,
    /// It has more than [`MOST_LEVELS`] levels.
    TooDeep,
    /// An object has a name twice.
    Twice,
}

/// Reads one text.
///
/// # Errors
/// [`Unread`]
pub fn parse(text: &[u8]) -> Result<Node<'_>, Unread> {
    let text = std::str::from_utf8(text).map_err(|_| Unread::Malformed)?;
    let mut reader = Reader { text, at: 0 };
    let node = reader.value(MOST_LEVELS)?;
    reader.blanks();
    if reader.at == text.len() { Ok(node) } else { Err(Unread::Malformed) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, octet: u8) -> Result<(), Unread> {
        self.blanks();
        if self.peek() != Some(octet) {
            return Err(Unread::Malformed);
        }
        self.at += 1;
        Ok(())
    }

    // Whether another item follows, or the end.
    fn goes_on(&mut self, end: u8) -> Result<bool, Unread> {
        self.blanks();
        let next = self.peek();
        self.at += 1;
        match next {
            Some(b',') => Ok(true),
            Some(octet) if octet == end => Ok(false),
            _ => Err(Unread::Malformed),
        }
    }

    fn is_empty(&mut self, end: u8) -> bool {
        self.blanks();
        let empty = self.peek() == Some(end);
        self.at += usize::from(empty);
        empty
    }

    fn value(&mut self, levels: usize) -> Result<Node<'a>, Unread> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(levels.checked_sub(1).ok_or(Unread::TooDeep)?),
            Some(b'[') => self.list(levels.checked_sub(1).ok_or(Unread::TooDeep)?),
            Some(b'"') => Ok(Node::Leaf(Cow::Borrowed(self.string()?))),
            Some(b'-' | b'0'..=b'9') => Ok(Node::Leaf(Cow::Borrowed(self.number()?))),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let word =
                    ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word));
                let word = word.ok_or(Unread::Malformed)?;
                self.at += word.len();
                Ok(Node::Leaf(Cow::Borrowed(word)))
            }
        }
    }

    fn list(&mut self, levels: usize) -> Result<Node<'a>, Unread> {
        self.take(b'[')?;
        let mut items = Vec::new();
        if self.is_empty(b']') {
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(levels)?);
            if !self.goes_on(b']')? {
                return Ok(Node::List(items));
            }
        }
    }

    fn object(&mut self, levels: usize) -> Result<Node<'a>, Unread> {
        self.take(b'{')?;
        let mut members: Vec<Member<'a>> = Vec::new();
        if self.is_empty(b'}') {
            return Ok(Node::Object(members));
        }
        loop {
            self.blanks();
            let written = self.string()?;
            let name = unquoted(written).ok_or(Unread::Malformed)?;
            self.take(b':')?;
            let value = self.value(levels)?;
            members.push(Member { name, written: Cow::Borrowed(written), value });
            if !self.goes_on(b'}')? {
                break;
            }
        }
        let mut names = HashSet::with_capacity(members.len());
        if members.iter().all(|member| names.insert(&*member.name)) {
            drop(names);
            return Ok(Node::Object(members));
        }
        Err(Unread::Twice)
    }

    fn string(&mut self) -> Result<&'a str, Unread> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(Unread::Malformed);
        }
        self.at += 1;
        loop {
            match self.peek().ok_or(Unread::Malformed)? {
                b'"' => break,
                b'\\' => self.escape()?,
                0..=0x1f => return Err(Unread::Malformed),
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at).ok_or(Unread::Malformed)
    }

    // An escape. Half of a surrogate pair is no character.
    fn escape(&mut self) -> Result<(), Unread> {
        let octets = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
        match octets {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
            [b'u', rest @ ..] => {
                let first = hex(rest).ok_or(Unread::Malformed)?;
                self.at += 6;
                match first {
                    0xd800..0xdc00 => {
                        let next = rest.get(4..).and_then(|rest| rest.strip_prefix(b"\\u"));
                        match next.and_then(hex) {
                            Some(0xdc00..0xe000) => self.at += 6,
                            _ => return Err(Unread::Malformed),
                        }
                    }
                    0xdc00..0xe000 => return Err(Unread::Malformed),
                    _ => {}
                }
            }
            _ => return Err(Unread::Malformed),
        }
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<&'a str, Unread> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (zero && whole > 1) {
            return Err(Unread::Malformed);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(Unread::Malformed);
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(Unread::Malformed);
            }
        }
        self.text.get(start..self.at).ok_or(Unread::Malformed)
    }
}

fn hex(octets: &[u8]) -> Option<u32> {
    let digits = octets.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

// What a string means. Most have no escape.
fn unquoted<'a>(written: &'a str) -> Option<Cow<'a, str>> {
    let inner = written.get(1..written.len().checked_sub(1)?)?;
    match inner.contains('\\') {
        false => Some(Cow::Borrowed(inner)),
        true => serde_json::from_str::<String>(written).ok().map(Cow::Owned),
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl<'a> Node<'a> {
    /// Appends it as JSON.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Leaf(written) => out.extend_from_slice(written.as_bytes()),
            Node::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    out.extend_from_slice(if at > 0 { b"," } else { b"" });
                    item.write(out);
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (at, member) in members.iter().enumerate() {
                    out.extend_from_slice(if at > 0 { b"," } else { b"" });
                    out.extend_from_slice(member.written.as_bytes());
                    out.push(b':');
                    member.value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// What a dotted path leads to; in a list by its position from 0.
    pub fn find(&self, path: &str) -> Option<&Node<'a>> {
        segments(path).iter().try_fold(self, |node, segment| node.child(segment))
    }

    /// Its text, where it is a string, a number or a boolean.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Node::Leaf(written) if written.starts_with('"') => unquoted(written),
            Node::Leaf(written) if written != "null" => Some(Cow::Borrowed(written)),
            _ => None,
        }
    }

    fn child(&self, segment: &str) -> Option<&Node<'a>> {
        match self {
            Node::Object(members) => members.iter().find(|m| m.name == segment).map(|m| &m.value),
            Node::List(items) => items.get(segment.parse::<usize>().ok()?),
            Node::Leaf(_) => None,
        }
    }

    fn child_mut(&mut self, segment: &str) -> Option<&mut Node<'a>> {
        match self {
            Node::Object(members) => {
                members.iter_mut().find(|m| m.name == segment).map(|m| &mut m.value)
            }
            Node::List(items) => items.get_mut(segment.parse::<usize>().ok()?),
            Node::Leaf(_) => None,
        }
    }

    fn keep(&mut self, paths: &[&[String]]) {
        match self {
            Node::Leaf(_) => {}
            Node::List(items) => {
                let mut at = 0;
                items.retain_mut(|item| {
                    at += 1;
                    kept(item, &(at - 1).to_string(), paths)
                });
            }
            Node::Object(members) => {
                members.retain_mut(|member| kept(&mut member.value, &member.name, paths));
            }
        }
    }

    fn remove(&mut self, path: &[String]) {
        let Some((segment, rest)) = path.split_first() else { return };
        let is = |name: &str| segment == "*" || segment == name;
        match self {
            Node::Leaf(_) => {}
            Node::List(items) if rest.is_empty() => {
                let mut at = 0;
                items.retain(|_| {
                    at += 1;
                    !is(&(at - 1).to_string())
                });
            }
            Node::Object(members) if rest.is_empty() => members.retain(|m| !is(&m.name)),
            Node::List(items) => {
                let of = |(at, item): (usize, &'_ mut Node<'a>)| {
                    if is(&at.to_string()) {
                        item.remove(rest);
                    }
                };
                items.iter_mut().enumerate().for_each(of);
            }
            Node::Object(members) => {
                members.iter_mut().filter(|m| is(&m.name)).for_each(|m| m.value.remove(rest));
            }
        }
    }

    fn take(&mut self, path: &[String]) -> Option<Node<'a>> {
        let (last, before) = path.split_last()?;
        let parent = before.iter().try_fold(self, |node, segment| node.child_mut(segment))?;
        let Node::Object(members) = parent else { return None };
        let at = members.iter().position(|member| member.name == *last)?;
        Some(members.remove(at).value)
    }

    // What is no object on the way becomes one; a list has only the places that it has.
    fn put(&mut self, path: &[String], value: Node<'a>) {
        let Some((segment, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if matches!(self, Node::Leaf(_)) {
            *self = Node::Object(Vec::new());
        }
        if let Some(child) = self.child_mut(segment) {
            return child.put(rest, value);
        }
        let Node::Object(members) = self else { return };
        let mut child = Node::Object(Vec::new());
        child.put(rest, value);
        let name = segment.clone();
        members.push(Member { written: quoted(&name).into(), name: name.into(), value: child });
    }
}

// Whether a child stays, of which paths beyond it may keep only parts.
fn kept(child: &mut Node<'_>, name: &str, paths: &[&[String]]) -> bool {
    let further = paths.iter().filter_map(|path| path.split_first());
    let further = further.filter(|(first, _)| *first == "*" || *first == name);
    let further: Vec<&[String]> = further.map(|(_, rest)| rest).collect();
    if further.is_empty() || further.iter().any(|rest| rest.is_empty()) {
        return !further.is_empty();
    }
    if matches!(child, Node::Leaf(_)) {
        return false;
    }
    child.keep(&further);
    true
}

/// The names of a dotted path; `\.` is a dot in a name.
pub fn segments(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '.' => segments.push(String::new()),
            '\\' => {
                if let Some(last) = segments.last_mut() {
                    last.extend(chars.next());
                }
            }
            c => {
                if let Some(last) = segments.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    segments
}

/// As written; applied in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonChanges {
    /// Only these stay; `None` for all.
    pub keep: Option<Vec<Vec<String>>>,
    /// These go.
    pub remove: Vec<Vec<String>>,
    /// These get another name, or place.
    pub rename: Vec<(Vec<String>, Vec<String>)>,
    /// These get this value.
    pub set: Vec<(Vec<String>, Value)>,
}

/// What a member is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number or a boolean.
    Literal(String),
    /// A string; a part of the body alone is copied as it is.
    Made(Template),
}

impl JsonChanges {
    /// The templates in it.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().filter_map(|(_, value)| match value {
            Value::Made(template) => Some(template),
            Value::Literal(_) => None,
        })
    }

    /// Whether it can only be done to an object.
    pub fn wants_object(&self) -> bool {
        !self.rename.is_empty() || !self.set.is_empty()
    }

    /// What a text becomes; `None` for one that is no object where it must be.
    pub fn apply(&self, mut node: Node<'_>, facts: &Facts<'_>) -> Option<Vec<u8>> {
        if self.wants_object() && !matches!(node, Node::Object(_)) {
            return None;
        }
        // Values are those of the body as it came.
        let facts = Facts { body: Some(&node), ..*facts };
        let made = self.set.iter().map(|(path, value)| Some((path, value.node(&node, &facts)?)));
        let made: Vec<_> = made.collect();
        if let Some(keep) = &self.keep {
            node.keep(&keep.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        self.remove.iter().for_each(|path| node.remove(path));
        for (old, new) in &self.rename {
            if let Some(value) = node.take(old) {
                node.put(new, value);
            }
        }
        made.into_iter().flatten().for_each(|(path, value)| node.put(path, value));
        let mut out = Vec::new();
        node.write(&mut out);
        Some(out)
    }
}

impl Value {
    fn node<'a>(&self, body: &Node<'a>, facts: &Facts<'_>) -> Option<Node<'a>> {
        match self {
            Value::Literal(literal) => Some(Node::Leaf(literal.clone().into())),
            Value::Made(template) => match template.body_alone() {
                Some(path) => body.find(path).cloned(),
                None => {
                    let text = template.text(facts, Place::Json);
                    Some(Node::Leaf(format!("\"{}\"", String::from_utf8_lossy(&text)).into()))
                }
            },
        }
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
