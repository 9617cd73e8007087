//! What was signed: the signatures of a request, and the octets that each of them speaks of (RFC 9421 section 2).
//!
//! Structured fields are read by sfv; the base is put together here, within bounds. A component that is not known, has a
//! parameter that is not, or is not in the request makes the signature worthless. Called by the policy.

use crate::http::{Fields, RequestView};
use crate::policy::Subject;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sfv::{Dictionary, FieldType as _, InnerList, Item, ListEntry, Parser};
use std::borrow::Cow;

/// One signature of a request.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) label: String,
    pub(crate) keyid: Option<String>,
    pub(crate) alg: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) created: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) signature: Vec<u8>,
    components: Vec<Component>,
    // The covered components and the parameters, as they are signed themselves.
    parameters: String,
}

#[derive(Debug)]
struct Component {
    // With its parameters, as it is signed.
    id: String,
    name: String,
    of: Of,
}

// What a component's parameters make of it (RFC 9421 sections 2.1 and 2.2.8).
#[derive(Debug, PartialEq, Eq)]
enum Of {
    Plain,
    Octets,
    Member(String),
    Query(String),
}

/// The signature base.
#[derive(Debug)]
pub(crate) struct Base(Vec<u8>);

const MOST_COMPONENTS: usize = 32;
// The base repeats no field more often than it has components, and heads are bounded; this bounds both together.
const MOST_OCTETS: usize = 256 << 10;
const LONGEST_INPUT: usize = 8 << 10;
const LONGEST_TEXT: usize = 256;

/// The signatures of a request, those that can be read at all.
///
/// # Errors
/// Fields that are no dictionaries (RFC 9651).
pub(crate) fn signatures(fields: Fields<'_>) -> Result<Vec<Signed>, String> {
    let (inputs, values) = (joined(fields, "signature-input"), joined(fields, "signature"));
    let (Some(inputs), Some(values)) = (inputs, values) else { return Ok(Vec::new()) };
    if inputs.len() + values.len() > LONGEST_INPUT {
        return Err("Signature-Input and Signature are too long.".to_owned());
    }
    let dictionary = |octets: &[u8]| Parser::new(octets).parse::<Dictionary>();
    let (Ok(inputs), Ok(values)) = (dictionary(&inputs), dictionary(&values)) else {
        return Err("Signature-Input or Signature is malformed (RFC 9651).".to_owned());
    };
    let both = inputs.iter().filter_map(|(label, input)| {
        let ListEntry::InnerList(input) = input else { return None };
        let ListEntry::Item(value) = values.get(label)? else { return None };
        Signed::read(label.as_str(), input, value.bare_item.as_byte_sequence()?)
    });
    Ok(both.collect())
}

/// A component as it is written in the configuration, in the form in which signatures name it.
pub(crate) fn component(text: &str) -> Option<String> {
    let (name, parameters) = text.split_at(text.find(';').unwrap_or(text.len()));
    let item: Item = Parser::new(&format!("\"{name}\"{parameters}")).parse().ok()?;
    Component::read(&item).map(|component| component.id)
}

impl Signed {
    fn read(label: &str, input: &InnerList, signature: &[u8]) -> Option<Signed> {
        if input.items.len() > MOST_COMPONENTS {
            return None;
        }
        let components: Vec<Component> =
            input.items.iter().map(Component::read).collect::<Option<_>>()?;
        for (at, one) in components.iter().enumerate() {
            if components.iter().take(at).any(|other| other.id == one.id) {
                return None;
            }
        }
        let text = |name: &str| -> Option<Option<String>> {
            let Some(value) = input.params.get(name) else { return Some(None) };
            let text = value.as_string()?.as_str();
            (text.len() <= LONGEST_TEXT).then(|| Some(text.to_owned()))
        };
        let seconds = |name: &str| -> Option<Option<u64>> {
            let Some(value) = input.params.get(name) else { return Some(None) };
            u64::try_from(i64::from(value.as_integer()?)).ok().map(Some)
        };
        Some(Signed {
            label: label.to_owned(),
            keyid: text("keyid")?,
            alg: text("alg")?,
            tag: text("tag")?,
            nonce: text("nonce")?,
            created: seconds("created")?,
            expires: seconds("expires")?,
            signature: signature.to_vec(),
            components,
            parameters: vec![ListEntry::InnerList(input.clone())].serialize()?,
        })
    }

    /// Whether it covers a component, named as [`component`] does.
    pub(crate) fn covers(&self, id: &str) -> bool {
        self.components.iter().any(|component| component.id == id)
    }
}

impl Component {
    // `None` where it is nothing that can be verified.
    fn read(item: &Item) -> Option<Component> {
        let name = item.bare_item.as_string()?.as_str();
        let mut parameters = item.params.iter();
        let of = match (parameters.next(), parameters.next()) {
            (None, _) => Of::Plain,
            (Some((key, value)), None) => match key.as_str() {
                "bs" if value.as_boolean() == Some(true) => Of::Octets,
                "key" => Of::Member(value.as_string()?.as_str().to_owned()),
                "name" => Of::Query(value.as_string()?.as_str().to_owned()),
                _ => return None,
            },
            _ => return None,
        };
        let known = match name.strip_prefix('@') {
            Some("query-param") => matches!(of, Of::Query(_)),
            Some(derived) => of == Of::Plain && DERIVED.contains(&derived),
            None => {
                let token = |b: u8| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b)
                };
                !name.is_empty() && name.bytes().all(token) && !matches!(of, Of::Query(_))
            }
        };
        known.then(|| Component { id: item.serialize(), name: name.to_owned(), of })
    }
}

const DERIVED: [&str; 7] =
    ["method", "target-uri", "authority", "scheme", "request-target", "path", "query"];

impl Base {
    /// Puts together what a signature of this request speaks of.
    ///
    /// # Errors
    /// A component that the request does not have, or not in this form.
    pub(crate) fn of(subject: &Subject<'_>, signed: &Signed) -> Result<Base, String> {
        let mut out = Vec::with_capacity(512);
        for component in &signed.components {
            let value = value(subject, component).ok_or_else(|| {
                format!("The request has no {} that can be verified.", component.id)
            })?;
            out.extend_from_slice(component.id.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(&value);
            out.push(b'\n');
            if out.len() > MOST_OCTETS {
                return Err("What the signature covers is too large.".to_owned());
            }
        }
        out.extend_from_slice(b"\"@signature-params\": ");
        out.extend_from_slice(signed.parameters.as_bytes());
        Ok(Base(out))
    }

    /// Its octets.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

fn value<'s>(subject: &Subject<'s>, component: &Component) -> Option<Cow<'s, [u8]>> {
    let view = &subject.view;
    let value: Cow<'s, [u8]> = match component.name.strip_prefix('@') {
        None => return field(view.fields, &component.name, &component.of).map(Cow::Owned),
        Some("method") => Cow::Borrowed(view.method),
        Some("scheme") => Cow::Borrowed(subject.scheme.as_bytes()),
        Some("authority") => Cow::Owned(authority(subject)),
        Some("path") => Cow::Borrowed(view.path_as_sent()),
        // RFC 9421 section 2.2.7: with its question mark, which stands alone where there is no query.
        Some("query") => Cow::Owned([b"?", view.query.unwrap_or_default()].concat()),
        Some("request-target") => Cow::Owned(target(view)),
        Some("target-uri") => {
            let scheme = subject.scheme.as_bytes();
            Cow::Owned([scheme, b"://", &authority(subject), &target(view)].concat())
        }
        Some("query-param") => {
            let Of::Query(name) = &component.of else { return None };
            Cow::Owned(parameter(view, name)?)
        }
        Some(_) => return None,
    };
    value.iter().all(|b| (b' '..0x7f).contains(b)).then_some(value)
}

fn target(view: &RequestView<'_>) -> Vec<u8> {
    match view.query {
        Some(query) => [view.path_as_sent(), b"?", query].concat(),
        None => view.path_as_sent().to_vec(),
    }
}

// Lower-case, without a port that is the scheme's own (RFC 9421 section 2.2.3).
fn authority(subject: &Subject<'_>) -> Vec<u8> {
    let named = subject.view.fields.first("host").unwrap_or(subject.view.host);
    let mut named = named.to_ascii_lowercase();
    let own: &[u8] = if subject.scheme == "https" { b":443" } else { b":80" };
    if named.ends_with(own) {
        named.truncate(named.len() - own.len());
    }
    named
}

fn joined(fields: Fields<'_>, name: &str) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = fields.all(name).map(<[u8]>::trim_ascii).collect();
    (!lines.is_empty()).then(|| lines.join(b", ".as_slice()))
}

// RFC 9421 section 2.1.
fn field(fields: Fields<'_>, name: &str, of: &Of) -> Option<Vec<u8>> {
    match of {
        Of::Plain => {
            let value = joined(fields, name)?;
            value.iter().all(|b| *b == b'\t' || (b' '..0x7f).contains(b)).then_some(value)
        }
        Of::Octets => {
            let lines =
                fields.all(name).map(|line| format!(":{}:", STANDARD.encode(line.trim_ascii())));
            let lines: Vec<String> = lines.collect();
            (!lines.is_empty()).then(|| lines.join(", ").into_bytes())
        }
        Of::Member(key) => {
            let dictionary: Dictionary = Parser::new(&joined(fields, name)?).parse().ok()?;
            let member = dictionary.get(key.as_str())?.clone();
            vec![member].serialize().map(String::into_bytes)
        }
        Of::Query(_) => None,
    }
}

// RFC 9421 section 2.2.8: read as a form and written anew; one that comes several times cannot be covered.
fn parameter(view: &RequestView<'_>, name: &str) -> Option<Vec<u8>> {
    let mut found = None;
    for (key, value) in view.query_pairs() {
        if recoded(key) != name.as_bytes() {
            continue;
        }
        if found.is_some() {
            return None;
        }
        found = Some(recoded(value));
    }
    found
}

// Percent-encoding undone and done again for all that is not in the form set (https://url.spec.whatwg.org/), with %20 for a
// space.
fn recoded(text: &[u8]) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(text.len());
    let spaces: Vec<u8> = text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let decoded: Vec<u8> = percent_encoding::percent_decode(&spaces).collect();
    // RFC 9421 has it read as UTF-8, with what is none replaced.
    for octet in String::from_utf8_lossy(&decoded).bytes() {
        if octet.is_ascii_alphanumeric() || b"*-._".contains(&octet) {
            out.push(octet);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or_default();
            out.extend([b'%', digit(octet >> 4), digit(octet & 15)]);
        }
    }
    out
}
