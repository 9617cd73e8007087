//! The one language in which text is made of a request: `#{...}` in redirects, answers, rewrites, fields, error pages and JSON.
//!
//! A template is parsed once to pieces; what a name stands for is looked up in [`Facts`] when it is filled in, and is escaped by
//! where it stands (`escape`). `#{name:-text}` gives a text where there is no value; `##{` is a literal `#{`. Which names are
//! known depends on the part of the file: [`Scope`]. Called by the readers of the file, and by whoever writes.

use crate::http::{Fields, RequestView, write};
use crate::transform::captures::Captures;
use crate::transform::escape::{self, Coded, Place};
use crate::transform::json::Node;
use percent_encoding::percent_decode;
use std::borrow::Cow;
use std::net::IpAddr;

/// A parsed template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Value { what: What, otherwise: Option<Box<str>> },
}

/// A group of a pattern: a number, or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group<'t> {
    /// Of the path's.
    Path(&'t str),
    /// Of the host's.
    Host(&'t str),
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Protocol,
    Host,
    Port,
    Path,
    Query,
    Method,
    ClientIp,
    RequestId,
    Rule,
    Group,
    Target,
    Status,
    Reason,
    Detail,
    Consumer,
    Header(Box<str>),
    Parameter(Box<str>),
    Cookie(Box<str>),
    ResponseHeader(Box<str>),
    Capture(Box<str>),
    HostPart(Box<str>),
    Claim(Box<str>),
    Body(Box<str>),
}

const PLAIN: [(&str, What); 15] = [
    ("protocol", What::Protocol),
    ("host", What::Host),
    ("port", What::Port),
    ("path", What::Path),
    ("query", What::Query),
    ("method", What::Method),
    ("client_ip", What::ClientIp),
    ("request_id", What::RequestId),
    ("rule", What::Rule),
    ("group", What::Group),
    ("target", What::Target),
    ("status", What::Status),
    ("reason", What::Reason),
    ("detail", What::Detail),
    ("consumer", What::Consumer),
];

type Named = fn(Box<str>) -> What;

const NAMED: [(&str, Named); 8] = [
    ("response.header.", What::ResponseHeader),
    ("header.", What::Header),
    ("query.", What::Parameter),
    ("cookie.", What::Cookie),
    ("capture.", What::Capture),
    ("host.", What::HostPart),
    ("claim.", What::Claim),
    ("body.", What::Body),
];

/// Every name that is known there, those that go on with a name of the file's with their dot.
pub fn names(scope: Scope) -> impl Iterator<Item = &'static str> {
    let plain = PLAIN.iter().map(move |(name, what)| (*name, scope.knows(what)));
    let named = NAMED.iter().map(move |(name, what)| (*name, scope.knows(&what("".into()))));
    plain.chain(named).filter(|(_, known)| *known).map(|(name, _)| name)
}

/// What is known where a template stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// A rule, with what its patterns have matched.
    pub rule: bool,
    /// A response, and who has sent it.
    pub response: bool,
    /// Why ringgate answers by itself.
    pub fault: bool,
    /// A body that was read.
    pub body: bool,
}

impl Scope {
    /// A request that no rule may have taken.
    pub const ANY: Scope = Scope { rule: false, response: false, fault: false, body: false };
    /// A request that a rule has taken.
    pub const RULE: Scope = Scope { rule: true, ..Scope::ANY };
    /// A rule's request, whose body is read where it is asked for.
    pub const REQUEST: Scope = Scope { body: true, ..Scope::RULE };
    /// A response to a rule's request.
    pub const RESPONSE: Scope = Scope { response: true, ..Scope::RULE };

    fn knows(self, what: &What) -> bool {
        match what {
            What::Rule | What::Capture(_) | What::HostPart(_) => self.rule,
            What::Group | What::Target | What::Status | What::ResponseHeader(_) => self.response,
            What::Reason | What::Detail => self.fault,
            What::Body(_) => self.body,
            _ => true,
        }
    }
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// There is nothing of this name.
    Unknown(String),
    /// It is not known in this part of the file.
    NotHere(String),
    /// `#{` without its `}`.
    Unclosed,
    /// It is longer than [`LONGEST`].
    TooLong,
}

/// The longest template, in octets.
pub const LONGEST: usize = 64 << 10;

/// What names stand for.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request.
    pub view: RequestView<'a>,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The port that the client named, or the listener's.
    pub port: u16,
    /// As limits and logs know it.
    pub client: IpAddr,
    /// The request's id.
    pub request_id: &'a [u8],
    /// The rule's name.
    pub rule: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// The target's name.
    pub target: &'a str,
    /// The status that the client gets.
    pub status: u16,
    /// The code of the fault.
    pub reason: &'a str,
    /// The sentence of the fault.
    pub detail: &'a str,
    /// The target's fields.
    pub response: Option<Fields<'a>>,
    /// Whom policies have found the sender to be.
    pub consumer: &'a str,
    /// What a verified token says.
    pub claim: &'a dyn Fn(&str) -> Option<String>,
    /// What policies say to targets instead of what the client has said: whether it is of this name, and the value.
    pub own_field: &'a dyn Fn(&str) -> Option<Option<Vec<u8>>>,
    /// What the rule's patterns catch.
    pub captures: Option<&'a Captures>,
    /// What a pattern of the change itself has caught; goes before the rule's.
    pub caught: Option<&'a regex::bytes::Captures<'a>>,
    /// The body, where it was read and is JSON.
    pub body: Option<&'a Node<'a>>,
}

impl Template {
    /// Parses a text.
    ///
    /// # Errors
    /// [`Wrong`]
    pub fn parse(text: &str, scope: Scope) -> Result<Template, Wrong> {
        if text.len() > LONGEST {
            return Err(Wrong::TooLong);
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once("#{") {
            if let Some(before) = before.strip_suffix('#') {
                plain.push_str(before);
                plain.push_str("#{");
                rest = after;
                continue;
            }
            plain.push_str(before);
            let (inner, after) = after.split_once('}').ok_or(Wrong::Unclosed)?;
            let (name, otherwise) = match inner.split_once(":-") {
                Some((name, otherwise)) => (name, Some(Box::from(otherwise))),
                None => (inner, None),
            };
            let what = what(name).ok_or_else(|| Wrong::Unknown(name.to_owned()))?;
            if !scope.knows(&what) {
                return Err(Wrong::NotHere(name.to_owned()));
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Value { what, otherwise });
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Template(pieces))
    }

    /// A template that is this text.
    pub fn literal(text: &str) -> Template {
        Template(vec![Piece::Text(text.into())])
    }

    /// Its text, where it has no names.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it is one name alone, of a part of the body: the path to that.
    pub fn body_alone(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Value { what: What::Body(path), otherwise: None }] => Some(path),
            _ => None,
        }
    }

    /// Whether it reads the body.
    pub fn reads_body(&self) -> bool {
        self.whats().any(|what| matches!(what, What::Body(_)))
    }

    /// Whether it reads what patterns of the rule have matched.
    pub fn reads_captures(&self) -> bool {
        self.whats().any(|what| matches!(what, What::Capture(_) | What::HostPart(_)))
    }

    /// The groups that it reads of a path, and of a host.
    pub fn captures(&self) -> impl Iterator<Item = Group<'_>> {
        self.whats().filter_map(|what| match what {
            What::Capture(group) => Some(Group::Path(group)),
            What::HostPart(group) => Some(Group::Host(group)),
            _ => None,
        })
    }

    /// Whether what it becomes is the same for everybody who is given the same response.
    pub fn is_shareable(&self) -> bool {
        self.whats().all(|what| {
            matches!(what, What::Rule | What::Group | What::Status | What::ResponseHeader(_))
        })
    }

    /// As [`Template::is_shareable`], where the body that is read is that response's: the same for everybody, too.
    pub fn is_of_response(&self) -> bool {
        self.whats().all(|what| {
            matches!(
                what,
                What::Rule | What::Group | What::Status | What::ResponseHeader(_) | What::Body(_)
            )
        })
    }

    /// What it reads of a request beside its URL, as it is written: `header.x-a`, `client_ip`.
    pub fn reads_beside_url(&self) -> impl Iterator<Item = String> {
        self.whats().filter_map(|what| match what {
            What::ClientIp => Some("client_ip".to_owned()),
            What::RequestId => Some("request_id".to_owned()),
            What::Consumer => Some("consumer".to_owned()),
            What::Header(name) => Some(format!("header.{}", name.to_ascii_lowercase())),
            What::Cookie(name) => Some(format!("cookie.{name}")),
            What::Claim(name) => Some(format!("claim.{name}")),
            What::Body(name) => Some(format!("body.{name}")),
            _ => None,
        })
    }

    /// Whether a value that clients choose freely may end up where nothing fixed with a dot follows it: as a host, that would be
    /// any host.
    pub fn ends_as_clients_choose(&self) -> bool {
        let mut fixed = false;
        for piece in self.0.iter().rev() {
            match piece {
                Piece::Text(text) => {
                    fixed |= text.trim_start_matches('.').contains('.') || text.starts_with('.')
                }
                Piece::Value { what, .. } => {
                    let free = matches!(
                        what,
                        What::Header(_)
                            | What::Parameter(_)
                            | What::Cookie(_)
                            | What::Query
                            | What::Path
                            | What::Body(_)
                            | What::Capture(_)
                    );
                    if free && !fixed {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// The text with one `x` for each name, for looking at what stands around them.
    pub fn around(&self) -> String {
        let text = |piece: &'_ Piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Value { .. } => "x".to_owned(),
        };
        self.0.iter().map(text).collect()
    }

    /// Whether a value stands inside an element whose content is no text (`script`, `style`): nothing escapes it there.
    pub fn stands_in_script(&self) -> bool {
        let mut before = String::new();
        self.0.iter().any(|piece| match piece {
            Piece::Text(text) => {
                before.push_str(&text.to_ascii_lowercase());
                false
            }
            Piece::Value { .. } => ["script", "style"].iter().any(|element| {
                let opened = before.rfind(&format!("<{element}"));
                opened > before.rfind(&format!("</{element}"))
            }),
        })
    }

    /// Appends what it becomes at `place`.
    pub fn fill(&self, facts: &Facts<'_>, place: Place, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Value { what, otherwise } => {
                    let value = facts.value(what).filter(|(value, _)| !value.is_empty());
                    if let Some((value, coded)) = value {
                        escape::write(&value, coded, place, out);
                    } else if let Some(otherwise) = otherwise {
                        escape::write(otherwise.as_bytes(), Coded::Plain, place, out);
                    }
                }
            }
        }
    }

    /// What it becomes at `place`.
    pub fn text(&self, facts: &Facts<'_>, place: Place) -> Vec<u8> {
        let mut out = Vec::new();
        self.fill(facts, place, &mut out);
        out
    }

    fn whats(&self) -> impl Iterator<Item = &What> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value { what, .. } => Some(what),
            Piece::Text(_) => None,
        })
    }
}

fn what(name: &str) -> Option<What> {
    if let Some((_, what)) = PLAIN.iter().find(|(known, _)| *known == name) {
        return Some(what.clone());
    }
    let named = NAMED.iter().find_map(|(prefix, what)| Some((name.strip_prefix(prefix)?, what)));
    let (rest, what) = named?;
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'"' | b'#');
    (!rest.is_empty() && rest.len() <= 256 && rest.bytes().all(fits)).then(|| what(rest.into()))
}

type Value<'v> = (Cow<'v, [u8]>, Coded);

impl<'a> Facts<'a> {
    /// Facts of a request alone.
    pub fn of(view: RequestView<'a>) -> Facts<'a> {
        Facts {
            view,
            scheme: "http",
            port: 80,
            client: view.peer,
            request_id: b"",
            rule: "",
            group: "",
            target: "",
            status: 0,
            reason: "",
            detail: "",
            response: None,
            consumer: "",
            claim: &|_| None,
            own_field: &|_| None,
            captures: None,
            caught: None,
            body: None,
        }
    }

    fn value(&self, what: &What) -> Option<Value<'_>> {
        let plain = |octets: &'a [u8]| (Cow::Borrowed(octets), Coded::Plain);
        let made = |octets: Vec<u8>| (Cow::Owned(octets), Coded::Plain);
        Some(match what {
            What::Protocol => plain(self.scheme.as_bytes()),
            What::Host => plain(self.view.host),
            What::Port => made(self.port.to_string().into_bytes()),
            // ALB: without its leading slash.
            What::Path => {
                let path = self.view.path.strip_prefix(b"/").unwrap_or(self.view.path);
                (Cow::Borrowed(path), Coded::Path)
            }
            What::Query => (Cow::Borrowed(self.view.query?), Coded::Query),
            What::Method => plain(self.view.method),
            What::ClientIp => {
                let mut out = Vec::new();
                write::address(&mut out, self.client);
                made(out)
            }
            What::RequestId => plain(self.request_id),
            What::Rule => plain(self.rule.as_bytes()),
            What::Group => plain(self.group.as_bytes()),
            What::Target => plain(self.target.as_bytes()),
            What::Status if self.status == 0 => return None,
            What::Status => made(self.status.to_string().into_bytes()),
            What::Reason => plain(self.reason.as_bytes()),
            What::Detail => plain(self.detail.as_bytes()),
            What::Consumer => plain(self.consumer.as_bytes()),
            What::Header(name) => match (self.own_field)(name) {
                Some(value) => made(value?),
                None => plain(self.view.fields.first(name)?),
            },
            What::Parameter(name) => made(parameter(&self.view, name)?),
            What::Cookie(name) => {
                let mut cookies = self.view.fields.cookies();
                plain(cookies.find(|(n, _)| *n == name.as_bytes())?.1)
            }
            What::ResponseHeader(name) => plain(self.response?.first(name)?),
            What::Capture(name) => (Cow::Owned(self.captured(name)?), Coded::Path),
            What::HostPart(name) => made(self.captures?.of_host(self.view.host, name)?.to_vec()),
            What::Claim(name) => made((self.claim)(name)?.into_bytes()),
            What::Body(path) => made(self.body?.find(path)?.text()?.into_owned().into_bytes()),
        })
    }

    fn captured(&self, name: &str) -> Option<Vec<u8>> {
        if let Some(caught) = self.caught {
            let group = match name.parse() {
                Ok(index) => caught.get(index),
                Err(_) => caught.name(name),
            };
            return group.map(|m| m.as_bytes().to_vec());
        }
        self.captures?.of_path(self.view.path, name).map(<[u8]>::to_vec)
    }
}

// The first of a query's values under `name`, as it is meant: `+` is a space in forms.
fn parameter(view: &RequestView<'_>, name: &str) -> Option<Vec<u8>> {
    let decoded = |written: &[u8]| -> Vec<u8> {
        let spaced: Vec<u8> = written.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
        percent_decode(&spaced).collect()
    };
    view.query_pairs().find(|(key, _)| decoded(key) == name.as_bytes()).map(|(_, v)| decoded(v))
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
