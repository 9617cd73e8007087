//! Who sent a request, as policies have found: for those after them, for logs and for fields that targets are sent.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::rc::Rc;

/// Who sent a request.
#[derive(Debug, Default)]
pub struct Identity {
    /// The consumer (API keys), the user (basic), the key's id (signatures) or the token's subject; empty while nobody is known.
    pub consumer: String,
    /// The consumer's plan; empty where there is none.
    pub plan: String,
    /// What a verified token, an introspection or a login says.
    pub claims: Option<Rc<Claims>>,
}

impl Identity {
    /// Forgets it.
    pub fn clear(&mut self) {
        self.consumer.clear();
        self.plan.clear();
        self.claims = None;
    }

    /// The text of a claim.
    pub fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        self.claims.as_ref()?.text(name)
    }
}

/// The claims of a verified token.
#[derive(Debug, Default)]
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// A claim as text: strings as they are, numbers and booleans as JSON writes them, lists of those joined by spaces. A name
    /// that is no claim by itself may lead into objects with dots: `realm_access.roles`.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        text(self.find(name)?)
    }

    /// A claim, by its name or by a path of names with dots.
    pub fn find(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.0.get(name) {
            return Some(value);
        }
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(self.0.get(first)?, |value, key| value.as_object()?.get(key))
    }
}

fn text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Array(items) => {
            let texts: Option<Vec<Cow<'_, str>>> =
                items.iter().map(|i| if i.is_array() { None } else { text(i) }).collect();
            texts.map(|texts| Cow::Owned(texts.join(" ")))
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_and_written_as_text() {
        let Value::Object(map) = serde_json::json!({
            "sub": "u1", "n": 7, "ok": true, "roles": ["a", "b"], "deep": { "er": { "x": "y" } },
            "a.b": "dotted", "list": [["no"]], "nothing": null
        }) else {
            unreachable!()
        };
        let claims = Claims(map);
        for (name, expected) in [
            ("sub", Some("u1")),
            ("n", Some("7")),
            ("ok", Some("true")),
            ("roles", Some("a b")),
            ("deep.er.x", Some("y")),
            ("a.b", Some("dotted")),
            ("list", None),
            ("nothing", None),
            ("deep", None),
            ("sub.x", None),
            ("other", None),
        ] {
            assert_eq!(claims.text(name).as_deref(), expected, "{name}");
        }
    }
}
